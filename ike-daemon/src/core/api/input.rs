//! What goes into the core: time, datagrams' paths, requests of the SADB and of the administrator.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{ChildPolicy, IkeSpis};
use crate::wire::ts::TrafficSelector;

/// A moment on a monotonic clock that counts suspend time, as the time since that clock's arbitrary start (ROB-08).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The moment `since_start` after the clock's start.
    pub const fn from_duration(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time since the clock's start.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// The moment `span` later; the far end of time where that does not fit.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.checked_add(span).unwrap_or(Duration::MAX))
    }

    /// Time from `earlier` to here, zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The two ends of a datagram, seen from here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    /// Our address and port: destination of what came in, source of what goes out. Never the wildcard address.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.local, self.remote)
    }
}

/// Limits and defaults of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// UDP port of IKE: 500.
    pub ike_port: u16,
    /// UDP port of IKE and ESP through NATs: 4500. Datagrams from it carry the non-ESP marker.
    pub natt_port: u16,
    /// Half-open responder SAs (IKE_SA_INIT answered, the peer not authenticated yet or refused a moment ago) above which a
    /// COOKIE is demanded (RFC 7296 section 2.6).
    pub cookie_threshold: usize,
    /// Half-open responder SAs above which an IKE_SA_INIT request is dropped even with a cookie.
    pub max_half_open: usize,
    /// The same for one source: an IPv4 address, or the first 64 bits of an IPv6 address. More than `cookie_threshold`, so
    /// that nobody can use up the share of an address that is not his.
    pub max_half_open_per_source: usize,
    /// How long a half-open responder SA waits for IKE_AUTH.
    pub half_open_timeout: Duration,
    /// IKE SAs in all above which nothing new is begun. Requests of peers are answered up to seven eighths of it, so that
    /// they leave room for ours.
    pub max_ike_sas: usize,
    /// IKE SAs that one authenticated peer may begin under one rule; above, its oldest are deleted (DOS-05).
    pub max_ike_sas_per_peer: usize,
    /// Child SAs per IKE SA above which the peer gets NO_ADDITIONAL_SAS.
    pub max_children: usize,
    /// Requests of the data path that may wait for one IKE SA; more fail at once.
    pub max_waiting: usize,
    /// Octets of the longest message accepted; longer ones are dropped (V2-HDR-01).
    pub max_message: usize,
    /// Octets of the longest IP packet that an IKE message may take before it is sent in fragments (RFC 7383), to peers that
    /// can put them together; `None` neither sends nor takes fragments.
    pub fragment_mtu: Option<u16>,
    /// How often the cookie secret changes; the one before stays valid for the same time.
    pub cookie_lifetime: Duration,
    /// Interval of NAT keepalives while we are behind a NAT (RFC 3948 section 4).
    pub keepalive: Duration,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            ike_port: 500,
            natt_port: 4500,
            cookie_threshold: 32,
            max_half_open: 1024,
            max_half_open_per_source: 64,
            half_open_timeout: Duration::from_secs(30),
            max_ike_sas: 16_384,
            max_ike_sas_per_peer: 16,
            max_children: 256,
            max_waiting: 256,
            max_message: 16_384,
            fragment_mtu: None,
            cookie_lifetime: Duration::from_secs(60),
            keepalive: Duration::from_secs(20),
        }
    }
}

/// Traffic met a policy that wants protection and found no SA (PF_KEY ACQUIRE).
#[derive(Clone, Debug)]
pub struct Acquire {
    /// The caller's number for this request; comes back in [`ChildSa::acquire`](super::ChildSa::acquire) or
    /// [`Effect::AcquireFailed`](super::Effect::AcquireFailed), exactly once.
    pub id: u64,
    /// Our outer address (transport mode: the packet's source).
    pub local: IpAddr,
    /// The peer's outer address (transport mode: the packet's destination).
    pub remote: IpAddr,
    /// What the policy wants.
    pub policy: ChildPolicy,
    /// Selectors of the packet itself, local then remote, if known: they go first into TSi and TSr (RFC 7296 section 2.9).
    pub packet: Option<(TrafficSelector, TrafficSelector)>,
    /// Label of the IKE rule the policy is tied to, if it is (KM cookie).
    pub rule_label: Option<String>,
}

/// Which limit was met.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExpireKind {
    /// Time to rekey.
    Soft,
    /// The SA is dead already; the peer is to be told.
    Hard,
    /// Nothing came in for the idle time: is the peer alive?
    Idle,
}

/// A child SA ran into a limit (PF_KEY EXPIRE). The inbound SPI of the pair is the better name where the caller has it: two
/// peers may choose the same outbound SPI, and then every child with it is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Expire {
    /// Inbound or outbound SPI of the pair.
    pub spi: u32,
    /// Whether `spi` is the one we receive on.
    pub inbound: bool,
    /// Which limit.
    pub kind: ExpireKind,
}

/// What the administrator (or the end of the daemon) asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Delete one IKE SA with its children; the peer is told.
    DeleteIkeSa(IkeSpis),
    /// Delete every IKE SA; the peers are told.
    FlushIkeSas,
    /// As [`Command::FlushIkeSas`], and nothing new is begun or answered. [`is_idle`](super::super::Endpoint::is_idle) turns
    /// true when the last Delete was answered or given up.
    Shutdown,
    /// Rekey one IKE SA now.
    RekeyIkeSa(IkeSpis),
    /// Rekey the child we receive on with this SPI now.
    RekeyChild {
        /// Inbound SPI.
        inbound_spi: u32,
    },
    /// Delete the child we receive on with this SPI; the peer is told.
    DeleteChild {
        /// Inbound SPI.
        inbound_spi: u32,
    },
}
