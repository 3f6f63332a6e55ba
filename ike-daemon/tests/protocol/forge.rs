//! A peer that holds the keys and does not keep the rules.

use ike_daemon::core::api::*;
use ike_daemon::crypto::{IkeSuite, IvKind, Provider, Standard};
use ike_daemon::wire::chain::{ChainBuilder, PayloadType, sealed_prefix};
use ike_daemon::wire::header::{ExchangeType, Header};

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
        let sa = &node.endpoint.snapshot(now)[0];
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
        let mut message = sealed_prefix(&self.header(claim), first, protector.body_len(inner.len())).unwrap();
        let body = protector.seal(&iv, &message, inner).unwrap();
        message.extend_from_slice(&body);
        message
    }
}
