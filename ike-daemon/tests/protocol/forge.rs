//! A peer that holds the keys and does not keep the rules, and a reader that does.

use ike_daemon::core::api::*;
use ike_daemon::crypto::{IkeSuite, IvKind, Provider, Standard};
use ike_daemon::wire::chain::{
    ChainBuilder, Fragment, PayloadType, fragment_prefix, parse_inner, parse_message, sealed_prefix,
};
use ike_daemon::wire::header::{ExchangeType, Header};
use ike_daemon::wire::notify::{Notify, NotifyType};
use ike_daemon::wire::payloads::Payloads;
use ike_daemon::wire::transform::{Encr, GroupId, IntegId, PrfId};

use crate::util::*;

pub(crate) struct Forger {
    keys: IkeKeys,
    suite: IkeSuite,
    spis: IkeSpis,
    counter: std::cell::Cell<u64>,
}

/// What the header of a forged message says.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) from: Role,
    pub(crate) exchange: ExchangeType,
    pub(crate) response: bool,
    pub(crate) id: u32,
}

impl Forger {
    /// Steals the keys of the only SA of a node.
    pub(crate) fn of(node: &Node, now: Timestamp) -> Self {
        Self::of_snapshot(node, &node.endpoint.snapshot(now)[0])
    }

    /// Steals the keys of the SA with this SPI of its initiator's.
    pub(crate) fn of_spi(node: &Node, now: Timestamp, initiator: [u8; 8]) -> Self {
        let all = node.endpoint.snapshot(now);
        Self::of_snapshot(node, all.iter().find(|sa| sa.spis.initiator == initiator).unwrap())
    }

    /// Steals the keys of an SA that a node shows.
    pub(crate) fn of_snapshot(node: &Node, sa: &IkeSaSnapshot) -> Self {
        let suite = IkeSuite {
            encr: sa.encr.unwrap(),
            integ: sa.integ.unwrap(),
            prf: sa.prf.unwrap(),
            group: sa.group.unwrap(),
        };
        let keys = node.endpoint.keys(sa.spis).unwrap();
        Self { keys, suite, spis: sa.spis, counter: std::cell::Cell::new(1 << 60) }
    }

    pub(crate) fn keys(&self) -> &IkeKeys {
        &self.keys
    }

    /// Keys of an SA with the suite that [`rule`] prefers.
    pub(crate) fn holding(keys: IkeKeys, spis: IkeSpis) -> Self {
        let suite = IkeSuite {
            encr: Encr::aes_gcm_16(256),
            integ: IntegId::NONE,
            prf: PrfId::HMAC_SHA2_256,
            group: GroupId::CURVE25519,
        };
        Self { keys, suite, spis, counter: std::cell::Cell::new(1 << 60) }
    }

    /// The same keys under other SPIs.
    pub(crate) fn with_spis(self, spis: IkeSpis) -> Self {
        Self { spis, ..self }
    }

    pub(crate) fn header(&self, claim: Claim) -> Header {
        Header {
            spi_initiator: self.spis.initiator,
            spi_responder: self.spis.responder,
            exchange: claim.exchange,
            from_initiator: claim.from == Role::Initiator,
            response: claim.response,
            message_id: claim.id,
        }
    }

    pub(crate) fn seal(&self, claim: Claim, chain: &ChainBuilder) -> Vec<u8> {
        self.seal_octets(claim, chain.first(), chain.octets())
    }

    pub(crate) fn seal_octets(&self, claim: Claim, first: PayloadType, inner: &[u8]) -> Vec<u8> {
        self.seal_behind(claim, inner, |header, length| sealed_prefix(header, first, length).unwrap())
    }

    /// A fragment: its number, and how many there are said to be.
    pub(crate) fn seal_fragment(
        &self,
        claim: Claim,
        (number, total): (u16, u16),
        first: PayloadType,
        inner: &[u8],
    ) -> Vec<u8> {
        let fragment = Fragment { number, total };
        self.seal_behind(claim, inner, |header, length| fragment_prefix(header, first, fragment, length).unwrap())
    }

    fn seal_behind(&self, claim: Claim, inner: &[u8], prefix: impl Fn(&Header, usize) -> Vec<u8>) -> Vec<u8> {
        let (cipher, integ) = match claim.from {
            Role::Initiator => (&self.keys.sk_ei, &self.keys.sk_ai),
            Role::Responder => (&self.keys.sk_er, &self.keys.sk_ar),
        };
        let protector = Standard.protector(self.suite.encr, self.suite.integ, cipher, integ).unwrap();
        self.counter.set(self.counter.get() + 1);
        let counter = self.counter.get().to_be_bytes();
        let iv = match protector.iv() {
            IvKind::Counter => counter.to_vec(),
            IvKind::Random(octets) => counter.iter().copied().cycle().take(octets).collect(),
        };
        let mut message = prefix(&self.header(claim), protector.body_len(inner.len()));
        let body = protector.seal(&iv, &message, inner).unwrap();
        message.extend_from_slice(&body);
        message
    }

    /// The inner payloads of a protected message of either end: type of the first, and their octets. Not of a fragment.
    pub(crate) fn open(&self, bytes: &[u8]) -> (PayloadType, Vec<u8>) {
        self.try_open(bytes).unwrap()
    }

    /// The same of a message that may be anything.
    pub(crate) fn try_open(&self, bytes: &[u8]) -> Option<(PayloadType, Vec<u8>)> {
        let received = Header::parse(bytes).ok()?;
        let (cipher, integ) = match received.header.from_initiator {
            true => (&self.keys.sk_ei, &self.keys.sk_ai),
            false => (&self.keys.sk_er, &self.keys.sk_ar),
        };
        let protector = Standard.protector(self.suite.encr, self.suite.integ, cipher, integ).unwrap();
        let sealed = parse_message(bytes, &received).ok()?.sealed.filter(|sealed| sealed.fragment.is_none())?;
        Some((sealed.first_inner, protector.open(sealed.associated, sealed.body).ok()?.to_vec()))
    }

    /// The same, decoded.
    pub(crate) fn payloads(&self, bytes: &[u8]) -> Payloads {
        let (first, inner) = self.open(bytes);
        Payloads::decode(&parse_inner(&inner, first).unwrap()).unwrap()
    }
}

fn to_b() -> Path {
    Path { local: "198.51.100.2:500".parse().unwrap(), remote: "192.0.2.1:500".parse().unwrap() }
}

fn to_a() -> Path {
    Path { local: "192.0.2.1:500".parse().unwrap(), remote: "198.51.100.2:500".parse().unwrap() }
}

/// Delivers a datagram as if the other side had sent it, and returns what it made the node send.
pub(crate) fn give(world: &mut World, to: Side, bytes: Vec<u8>) -> Vec<Transmit> {
    let before = world.node(to).sent.len();
    let path = if to == Side::A { to_a() } else { to_b() };
    let packet = Packet { at: world.now, to, path, bytes };
    world.deliver(&packet);
    world.node(to).sent[before..].to_vec()
}

/// One notification and nothing else.
pub(crate) fn notify_chain(kind: NotifyType, data: &[u8]) -> ChainBuilder {
    let mut chain = ChainBuilder::new();
    chain.push(PayloadType::NOTIFY, &Notify::plain(kind, data.to_vec())).unwrap();
    chain
}

/// A message in clear that answers a request of A's.
pub(crate) fn answer_to(request: &[u8], chain: ChainBuilder, spi_responder: [u8; 8]) -> Vec<u8> {
    let header = Header::parse(request).unwrap().header;
    let header = Header { spi_responder, from_initiator: false, response: true, ..header };
    chain.into_message(&header).unwrap()
}
