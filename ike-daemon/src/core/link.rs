//! One IKE SA's protected message channel: its keys, its path, its message IDs and the stored response (RFC 7296 sections
//! 2.1 to 2.3 and 3.14). Every state with keys owns one and passes it on to the next state.

use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::api::{Encap, FailureCause, IkeKeys, IkeSaSnapshot, IkeSpis, IkeState, NatState, Path, Role, Timestamp};
use super::context::{Ctx, Failure};
use super::fragments::{self, Key, Reassembly, Useless, Whole};
use crate::crypto::keys::Protectors;
use crate::crypto::{CryptoError, IkeSuite, IvKind, Prf, Protector, digest};
use crate::wire::WireError;
use crate::wire::chain::{
    ChainBuilder, FRAGMENT_PREFIX, Fragment, PayloadType, fragment_prefix, parse_inner, parse_message, sealed_prefix,
};
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

/// Octets that came out of an SK payload, or of all fragments of one.
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
    /// An authentic fragment; the others are not all here.
    Incomplete,
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
    /// Both ends put fragments together (RFC 7383).
    pub(super) fragments: bool,
    arriving: Option<Box<Reassembly>>,
    /// The request that came in fragments and waits for its response: ID, and digest of its first datagram.
    assembled: Option<(u32, [u8; 32])>,
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
    /// One datagram, or its fragments.
    response: Vec<Vec<u8>>,
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
            fragments: false,
            arriving: None,
            assembled: None,
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
        let opened = self.try_open(ctx, message);
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

    fn try_open(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Result<Opened, Unopened> {
        let outer = parse_message(message.octets, &message.received).map_err(|_| Unopened::Forged)?;
        // What stands in clear beside SK is not acted on (V2-ENC-09).
        let sealed = outer.sealed.ok_or(Unopened::Forged)?;
        if sealed.fragment.is_some() && !self.fragments {
            return Err(Unopened::Forged);
        }
        // A fragment is authenticated before anything is kept of it (FRG-05).
        let plain = match self.opener.open(sealed.associated, sealed.body) {
            Ok(plain) => plain,
            Err(CryptoError::Padding) => return Err(Unopened::Malformed),
            Err(_) => return Err(Unopened::Forged),
        };
        let Some(fragment) = sealed.fragment else { return Ok(Opened { plain, first: sealed.first_inner }) };
        let header = message.header();
        let key = Key { id: header.message_id, response: header.response };
        let (slot, first) = (&mut self.arriving, sealed.first_inner);
        match Reassembly::add(slot, key, fragment, first, message.octets, plain) {
            Ok(None) => Err(Unopened::Incomplete),
            Ok(Some(Whole { plain, first, digest })) => {
                ctx.out.stats.reassembled += 1;
                self.assembled = (!key.response).then_some((key.id, digest));
                Ok(Opened { plain, first })
            }
            Err(Useless) => {
                ctx.out.stats.fragments_dropped += 1;
                Err(Unopened::Incomplete)
            }
        }
    }

    /// The datagrams of a message: one, or its fragments when it is too long and the peer puts them together.
    fn seal(&mut self, ctx: &mut Ctx<'_>, header: &Header, chain: &ChainBuilder) -> Result<Vec<Vec<u8>>, Failure> {
        let body_len = self.sealer.body_len(chain.octets().len());
        let whole = sealed_prefix(header, chain.first(), body_len);
        let room = ctx.config.fragment_mtu.filter(|_| self.fragments).map(|mtu| {
            let has_marker = self.path.local.port() == ctx.config.natt_port;
            fragments::room(mtu, self.path.remote.is_ipv4(), has_marker)
        });
        match (whole, room) {
            (Err(_), Some(room)) => self.seal_fragments(ctx, header, chain, room),
            (Ok(prefix), Some(room)) if prefix.len() + body_len > room => self.seal_fragments(ctx, header, chain, room),
            (whole, _) => Ok(vec![self.seal_behind(ctx, whole?, chain.octets())?]),
        }
    }

    fn seal_fragments(
        &mut self,
        ctx: &mut Ctx<'_>,
        header: &Header,
        chain: &ChainBuilder,
        room: usize,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        // The longest piece that fits: a cipher with blocks may pad it.
        let body = room.saturating_sub(FRAGMENT_PREFIX);
        let least = body.saturating_sub(self.sealer.body_len(0));
        let each = (0..=least).rev().find(|each| self.sealer.body_len(*each) <= body).unwrap_or(0);
        let pieces = fragments::cut(chain.octets(), each);
        let pieces =
            pieces.ok_or_else(|| Failure::new(FailureCause::Local, "the message is too long for fragments"))?;
        ctx.out.stats.fragmented += 1;
        let seal = |(fragment, piece): (Fragment, &[u8])| {
            let first = if fragment.number == 1 { chain.first() } else { PayloadType::NONE };
            let prefix = fragment_prefix(header, first, fragment, self.sealer.body_len(piece.len()))?;
            self.seal_behind(ctx, prefix, piece)
        };
        pieces.into_iter().map(seal).collect()
    }

    fn seal_behind(&mut self, ctx: &mut Ctx<'_>, mut message: Vec<u8>, plain: &[u8]) -> Result<Vec<u8>, Failure> {
        let body = match self.sealer.iv() {
            IvKind::Counter => {
                self.iv = self.iv.checked_add(1).ok_or(CryptoError::Exhausted)?;
                self.sealer.seal(&self.iv.to_be_bytes(), &message, plain)?
            }
            IvKind::Random(octets) => {
                let random = ctx.octets::<16>()?;
                let iv = random.get(..octets).ok_or(CryptoError::Length)?;
                self.sealer.seal(iv, &message, plain)?
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
    ) -> Result<(u32, Vec<Vec<u8>>), Failure> {
        let id = self.next_request;
        let next = id.checked_add(1).ok_or(CryptoError::Exhausted)?;
        let datagrams = self.seal(ctx, &self.header(exchange, false, id), chain)?;
        self.next_request = next;
        self.send(ctx, self.path, &datagrams);
        Ok((id, datagrams))
    }

    /// Seals, stores and sends the response to a request.
    pub(super) fn respond(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Message<'_>,
        chain: &ChainBuilder,
    ) -> Result<(), Failure> {
        let header = request.header();
        let response = self.seal(ctx, &self.header(header.exchange, true, header.message_id), chain)?;
        self.expected = self.expected.saturating_add(1);
        let assembled = self.assembled.take().filter(|(id, _)| *id == header.message_id);
        let request_digest = assembled.map_or_else(|| digest(request.octets), |(_, digest)| digest);
        self.send(ctx, request.path, &response);
        self.answered = Some(Answered { id: header.message_id, request: request_digest, response });
        Ok(())
    }

    /// Sends the stored response again, if the request is octet for octet the one that was answered, or its first fragment
    /// (FRG-08): the others of a request bring nothing.
    pub(super) fn repeat(&mut self, ctx: &mut Ctx<'_>, request: &Message<'_>) {
        let cut_anew = self.is_first_fragment(request);
        let stored = self.answered.take_if(|a| cut_anew || a.request == digest(request.octets));
        let Some(answered) = stored else {
            ctx.out.stats.out_of_window += 1;
            return;
        };
        ctx.out.stats.responses_repeated += 1;
        self.send(ctx, request.path, &answered.response);
        self.answered = Some(answered);
    }

    /// Whether an authentic message is the first fragment of a request: the peer may have cut it finer than before.
    fn is_first_fragment(&self, request: &Message<'_>) -> bool {
        let outer = parse_message(request.octets, &request.received).ok();
        let sealed = outer.and_then(|outer| outer.sealed).filter(|_| self.fragments);
        sealed.is_some_and(|sealed| {
            sealed.fragment.is_some_and(|fragment| fragment.number == 1)
                && self.opener.open(sealed.associated, sealed.body).is_ok()
        })
    }

    pub(super) fn resend(&mut self, ctx: &mut Ctx<'_>, datagrams: &[Vec<u8>]) {
        ctx.out.stats.retransmits += 1;
        self.retransmits += 1;
        self.send(ctx, self.path, datagrams);
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, path: Path, datagrams: &[Vec<u8>]) {
        self.spoke = ctx.now;
        self.sent += 1;
        datagrams.iter().for_each(|octets| ctx.transmit(path, octets.clone()));
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
