//! One IKE SA's protected message channel: its keys, its path, its message IDs and the stored response (RFC 7296 sections
//! 2.1 to 2.3 and 3.14). Every state with keys owns one and passes it on to the next state.

use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::api::{Encap, IkeKeys, IkeSaSnapshot, IkeSpis, IkeState, NatState, Path, Role, Timestamp};
use super::context::{Ctx, Failure};
use crate::crypto::keys::Protectors;
use crate::crypto::{CryptoError, IkeSuite, IvKind, Prf, Protector, digest};
use crate::wire::WireError;
use crate::wire::chain::{ChainBuilder, PayloadType, parse_inner, parse_message, sealed_prefix};
use crate::wire::header::{ExchangeType, Header, Received};
use crate::wire::payloads::Payloads;

/// Message IDs kept for what has to be said when they run out.
const MARGIN: u32 = 64;

/// A datagram whose header was read.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) path: Path,
    pub(super) octets: &'a [u8],
    pub(super) received: Received,
}

impl Message<'_> {
    pub(super) fn header(&self) -> &Header {
        &self.received.header
    }
}

/// What a message is to a channel, judged by its unprotected header alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The next request.
    Request,
    /// The request that was answered last.
    Repeated,
    /// An answer to the request with this ID, if there is one outstanding.
    Response,
    /// Nothing to act on (V2-MID-12).
    Outside,
}

/// Octets that came out of an SK payload.
pub(super) struct Opened {
    plain: Zeroizing<Vec<u8>>,
    first: PayloadType,
}

impl Opened {
    /// # Errors
    /// What is wrong with the payloads: authentic, and malformed.
    pub(super) fn decode(&self) -> Result<Payloads, WireError> {
        Payloads::decode(&parse_inner(&self.plain, self.first)?)
    }
}

/// Why a message did not open.
pub(super) enum Unopened {
    /// Not authentic, or no SK payload: as if it had never come.
    Forged,
    /// Authentic, and padded impossibly.
    Malformed,
}

/// The addresses of two hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
}

impl From<&Path> for Ends {
    fn from(path: &Path) -> Self {
        Self { local: path.local.ip(), remote: path.remote.ip() }
    }
}

pub(super) struct Link {
    pub(super) spis: IkeSpis,
    pub(super) role: Role,
    /// Where messages go.
    pub(super) path: Path,
    /// The addresses that policy and SADB know the two hosts by: those of the path on which the peer was authenticated. A
    /// peer that its NAT moves is still the one that they name.
    pub(super) ends: Ends,
    pub(super) nat: NatState,
    pub(super) suite: IkeSuite,
    pub(super) prf: &'static dyn Prf,
    pub(super) keys: IkeKeys,
    sealer: Box<dyn Protector>,
    opener: Box<dyn Protector>,
    iv: u64,
    next_request: u32,
    expected: u32,
    answered: Option<Answered>,
    /// Digest of the IKE_SA_INIT request that began it, at the responder: a late copy begins nothing (V2-MID-05).
    pub(super) began: Option<[u8; 32]>,
    /// When an authentic message last came in.
    pub(super) heard: Timestamp,
    /// When a datagram last went out.
    pub(super) spoke: Timestamp,
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) retransmits: u64,
    pub(super) integrity_failures: u64,
}

/// The response to the last request, and what that request was (V2-MID-03, V2-MID-04).
struct Answered {
    id: u32,
    request: [u8; 32],
    response: Vec<u8>,
}

impl Link {
    /// `first_request` and `expected` are the message IDs of our next request and of the peer's.
    pub(super) fn new(
        ctx: &Ctx<'_>,
        spis: IkeSpis,
        role: Role,
        path: Path,
        suite: IkeSuite,
        keys: IkeKeys,
        ids: (u32, u32),
    ) -> Result<Self, CryptoError> {
        let prf = ctx.provider.prf(suite.prf).ok_or(CryptoError::Unavailable)?;
        let Protectors { initiator, responder } = keys.protectors(ctx.provider, &suite)?;
        let (sealer, opener) = match role {
            Role::Initiator => (initiator, responder),
            Role::Responder => (responder, initiator),
        };
        Ok(Self {
            spis,
            role,
            path,
            ends: Ends::from(&path),
            nat: NatState::default(),
            suite,
            prf,
            keys,
            sealer,
            opener,
            iv: 0,
            next_request: ids.0,
            expected: ids.1,
            answered: None,
            began: None,
            heard: ctx.now,
            spoke: ctx.now,
            sent: 0,
            accepted: 0,
            retransmits: 0,
            integrity_failures: 0,
        })
    }

    /// The SPI that we chose.
    pub(super) fn our_spi(&self) -> [u8; 8] {
        match self.role {
            Role::Initiator => self.spis.initiator,
            Role::Responder => self.spis.responder,
        }
    }

    /// UDP encapsulation of the children, if there is a NAT.
    pub(super) fn encap(&self) -> Option<Encap> {
        let ports = Encap { local_port: self.path.local.port(), remote_port: self.path.remote.port() };
        self.nat.any().then_some(ports)
    }

    /// Whether message IDs run out (V2-MID-09): time for a new IKE SA.
    pub(super) fn nearly_exhausted(&self) -> bool {
        self.next_request.max(self.expected) >= u32::MAX - MARGIN
    }

    pub(super) fn place(&self, message: &Message<'_>, outstanding: Option<u32>) -> Place {
        let header = message.header();
        let ours = header.spi_initiator == self.spis.initiator && header.spi_responder == self.spis.responder;
        if !ours || header.from_initiator == (self.role == Role::Initiator) {
            return Place::Outside;
        }
        if header.response {
            return if outstanding == Some(header.message_id) { Place::Response } else { Place::Outside };
        }
        // The last ID is never used, so that none is ever expected twice (V2-MID-09).
        if header.message_id == self.expected && self.expected != u32::MAX {
            return Place::Request;
        }
        let repeated = self.answered.as_ref().is_some_and(|a| a.id == header.message_id);
        if repeated { Place::Repeated } else { Place::Outside }
    }

    /// Opens the SK payload. The message counts as heard and is followed to where it came from when that is allowed.
    pub(super) fn open(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Result<Opened, Unopened> {
        let opened = self.try_open(message);
        match &opened {
            Err(Unopened::Forged) => {
                ctx.out.stats.integrity_failures += 1;
                self.integrity_failures += 1;
            }
            _ => {
                self.heard = ctx.now;
                self.accepted += 1;
            }
        }
        opened
    }

    fn try_open(&self, message: &Message<'_>) -> Result<Opened, Unopened> {
        let outer = parse_message(message.octets, &message.received).map_err(|_| Unopened::Forged)?;
        // What stands in clear beside SK is not acted on (V2-ENC-09).
        let sealed = outer.sealed.ok_or(Unopened::Forged)?;
        match self.opener.open(sealed.associated, sealed.body) {
            Ok(plain) => Ok(Opened { plain, first: sealed.first_inner }),
            Err(CryptoError::Padding) => Err(Unopened::Malformed),
            Err(_) => Err(Unopened::Forged),
        }
    }

    fn seal(&mut self, ctx: &mut Ctx<'_>, header: &Header, chain: &ChainBuilder) -> Result<Vec<u8>, Failure> {
        let body_len = self.sealer.body_len(chain.octets().len());
        let mut message = sealed_prefix(header, chain.first(), body_len)?;
        let body = match self.sealer.iv() {
            IvKind::Counter => {
                self.iv = self.iv.checked_add(1).ok_or(CryptoError::Exhausted)?;
                self.sealer.seal(&self.iv.to_be_bytes(), &message, chain.octets())?
            }
            IvKind::Random(octets) => {
                let random = ctx.octets::<16>()?;
                let iv = random.get(..octets).ok_or(CryptoError::Length)?;
                self.sealer.seal(iv, &message, chain.octets())?
            }
        };
        message.extend_from_slice(&body);
        Ok(message)
    }

    fn header(&self, exchange: ExchangeType, response: bool, message_id: u32) -> Header {
        Header {
            spi_initiator: self.spis.initiator,
            spi_responder: self.spis.responder,
            exchange,
            from_initiator: self.role == Role::Initiator,
            response,
            message_id,
        }
    }

    /// Seals and sends a request; its ID and octets are for the retransmission.
    pub(super) fn request(
        &mut self,
        ctx: &mut Ctx<'_>,
        exchange: ExchangeType,
        chain: &ChainBuilder,
    ) -> Result<(u32, Vec<u8>), Failure> {
        let id = self.next_request;
        let next = id.checked_add(1).ok_or(CryptoError::Exhausted)?;
        let octets = self.seal(ctx, &self.header(exchange, false, id), chain)?;
        self.next_request = next;
        self.send(ctx, self.path, octets.clone());
        Ok((id, octets))
    }

    /// Seals, stores and sends the response to a request.
    pub(super) fn respond(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Message<'_>,
        chain: &ChainBuilder,
    ) -> Result<Vec<u8>, Failure> {
        let header = request.header();
        let response = self.seal(ctx, &self.header(header.exchange, true, header.message_id), chain)?;
        self.expected = self.expected.saturating_add(1);
        self.answered =
            Some(Answered { id: header.message_id, request: digest(request.octets), response: response.clone() });
        self.send(ctx, request.path, response.clone());
        Ok(response)
    }

    /// Sends the stored response again, if the request is octet for octet the one that was answered.
    pub(super) fn repeat(&mut self, ctx: &mut Ctx<'_>, request: &Message<'_>) {
        let stored = self.answered.as_ref().filter(|a| a.request == digest(request.octets));
        let Some(response) = stored.map(|a| a.response.clone()) else {
            ctx.out.stats.out_of_window += 1;
            return;
        };
        ctx.out.stats.responses_repeated += 1;
        self.send(ctx, request.path, response);
    }

    pub(super) fn resend(&mut self, ctx: &mut Ctx<'_>, octets: Vec<u8>) {
        ctx.out.stats.retransmits += 1;
        self.retransmits += 1;
        self.send(ctx, self.path, octets);
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, path: Path, octets: Vec<u8>) {
        self.spoke = ctx.now;
        self.sent += 1;
        ctx.transmit(path, octets);
    }
}

impl Link {
    /// What a snapshot can say from the channel alone.
    pub(super) fn snapshot(&self, state: IkeState) -> IkeSaSnapshot {
        IkeSaSnapshot {
            spis: self.spis,
            role: self.role,
            state,
            version: (2, 0),
            path: self.path,
            rule_label: None,
            encr: Some(self.suite.encr),
            integ: Some(self.suite.integ),
            prf: Some(self.suite.prf),
            group: Some(self.suite.group),
            local_id: None,
            remote_id: None,
            nat: self.nat,
            age: Duration::ZERO,
            expires_in: None,
            rekey_in: None,
            children: Vec::new(),
            children_created: 0,
            children_deleted: 0,
            messages_sent: self.sent,
            messages_received: self.accepted,
            retransmits: self.retransmits,
            integrity_failures: self.integrity_failures,
        }
    }
}
