//! What the core asks its surroundings, synchronously: rules, policy, SPIs, randomness.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Acquire, ChildPolicy, ChildSa, IkeSpis, Mode, Protocol, Rule, SpiPair, Timestamp};
use crate::pki::{KeyStore, ValidationPolicy};
use crate::wire::id::Identification;
use crate::wire::ts::TrafficSelector;

/// The configuration and the SADB as the core sees them. Calls must not block.
pub trait Host {
    /// The rule to negotiate under for traffic that needs an SA, or `None`.
    fn rule_for_initiator(&self, acquire: &Acquire) -> Option<Arc<Rule>>;

    /// Every rule whose addresses fit a peer that knocks, in configuration order. The peer's identity picks one later.
    fn rules_for_responder(&self, local: IpAddr, remote: IpAddr) -> Vec<Arc<Rule>>;

    /// The certificates and keys in force; none unless a host has them.
    fn key_store(&self) -> Arc<KeyStore> {
        Arc::default()
    }

    /// What the validation of certificates overlooks; nothing unless a host says so.
    fn validation_policy(&self) -> ValidationPolicy {
        ValidationPolicy::default()
    }

    /// The time of day since 1970, by which certificates are valid. Without one none is.
    fn wall_clock(&self) -> Duration {
        Duration::ZERO
    }

    /// What policy says about the traffic an authenticated peer wants a child for (PF_KEY X_INVERSE_ACQUIRE).
    ///
    /// # Errors
    /// [`ChildRefusal`] where policy protects no such traffic, or not in this way.
    fn child_policy(&self, query: &ChildQuery<'_>) -> Result<ChildPolicy, ChildRefusal>;

    /// Reserves an inbound SPI (PF_KEY GETSPI): above 255, unused for that protocol and destination, larval until
    /// [`Host::install_child`] or [`Effect::ReleaseSpi`](super::Effect::ReleaseSpi) names it.
    ///
    /// # Errors
    /// [`SpiRefusal`] where none can be had.
    fn allocate_spi(&mut self, request: &SpiRequest) -> Result<u32, SpiRefusal>;

    /// Installs both directions of a pair (PF_KEY UPDATE and ADD), or neither; the inbound half can receive on return. Done
    /// before the peer is answered or told anything, so that it learns of a refusal, and a pair to be replaced stays.
    ///
    /// # Errors
    /// [`InstallRefusal`] where the SADB does not take the pair. Its SPI may still be reserved.
    fn install_child(&mut self, sa: &ChildSa) -> Result<(), InstallRefusal>;

    /// When a packet was last accepted on the inbound SA with this SPI: fresh ESP is proof of life (RFC 7296 section 2.4).
    fn last_inbound(&self, inbound_spi: u32) -> Option<Timestamp>;

    /// When a packet was last sent on the outbound SA of the pair with this inbound SPI: then a NAT needs no keepalive (RFC
    /// 3948 section 4).
    fn last_outbound(&self, inbound_spi: u32) -> Option<Timestamp>;
}

/// A peer's wish for a child SA, to be held against policy.
#[derive(Clone, Debug)]
pub struct ChildQuery<'a> {
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// The rule the IKE SA lives under.
    pub rule: &'a Rule,
    /// The peer's authenticated identity.
    pub remote_id: &'a Identification,
    /// Transport if the peer asked for it (USE_TRANSPORT_MODE); the answer may say tunnel.
    pub mode: Mode,
    /// Traffic on our side that the peer offers (TSr), in its order.
    pub ts_local: &'a [TrafficSelector],
    /// Traffic on its own side that the peer offers (TSi), in its order.
    pub ts_remote: &'a [TrafficSelector],
    /// The pair to be replaced and its policy action, in a rekey.
    pub rekeys: Option<(SpiPair, u64)>,
}

/// Policy refuses; the reason goes to the log, TS_UNACCEPTABLE to the peer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ChildRefusal {
    /// One phrase for the log, naming the policy line where there is one.
    pub reason: String,
}

/// What an SPI is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpiRequest {
    /// ESP or AH.
    pub protocol: Protocol,
    /// Our outer address: the destination of the inbound SA.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: IpAddr,
    /// The IKE SA that asks.
    pub ike: IkeSpis,
    /// The request of the data path this answers, if any.
    pub acquire: Option<u64>,
}

/// No SPI could be reserved.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no SPI: {reason}")]
pub struct SpiRefusal {
    /// One phrase for the log.
    pub reason: String,
}

/// The SADB did not take a pair.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the pair cannot be installed: {reason}")]
pub struct InstallRefusal {
    /// One phrase for the log.
    pub reason: String,
    /// Of what kind it is.
    pub kind: RefusalKind,
}

/// Why the SADB did not take a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// Something failed.
    Failure,
    /// There is no room: asking again at once is of no use.
    Full,
    /// Another peer has the traffic of the pair, and packets could not be told apart (RFC 3948 section 5).
    Taken,
}

/// Where nonces, SPIs, IVs and jitter come from. The production source is the operating system's; tests seed one.
pub trait RandomSource {
    /// Fills `out` with unpredictable octets.
    ///
    /// # Errors
    /// [`EntropyError`] where the source failed; the exchange that asked then fails.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// The random source failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the random source failed")]
pub struct EntropyError;
