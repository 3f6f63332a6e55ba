//! Child SAs as the core negotiates them: what a policy asks for, what an SADB is to install.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{IkeSpis, NatState};
use crate::crypto::Secret;
use crate::wire::id::Identification;
use crate::wire::transform::{Encr, GroupId, IntegId};
use crate::wire::ts::TrafficSelector;

/// Security protocol of a child SA (RFC 7296 section 3.3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// Authentication Header, IP protocol 51.
    Ah,
    /// Encapsulating Security Payload, IP protocol 50.
    Esp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ah => "AH",
            Self::Esp => "ESP",
        })
    }
}

/// Mode of a child SA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// Between the two hosts that negotiate.
    Transport,
    /// IP in IP.
    Tunnel,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transport => "transport",
            Self::Tunnel => "tunnel",
        })
    }
}

/// One acceptable combination of algorithms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChildSuite {
    /// ESP or AH.
    pub protocol: Protocol,
    /// Cipher; `None` for AH.
    pub encr: Option<Encr>,
    /// Integrity algorithm; `NONE` with an AEAD cipher.
    pub integ: IntegId,
}

impl ChildSuite {
    /// ESP with an AEAD cipher.
    pub const fn esp_aead(encr: Encr) -> Self {
        Self { protocol: Protocol::Esp, encr: Some(encr), integ: IntegId::NONE }
    }
}

impl fmt::Display for ChildSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol)?;
        if let Some(encr) = self.encr {
            write!(f, " {encr}")?;
        }
        if self.integ != IntegId::NONE {
            write!(f, " {}", self.integ)?;
        }
        Ok(())
    }
}

/// Which sequence numbers the policy allows (RFC 7296 section 3.3.2, transform type 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum EsnPolicy {
    /// 64 bits are offered first, 32 bits are accepted.
    #[default]
    Preferred,
    /// 64 bits only.
    Required,
    /// 32 bits only.
    Never,
}

/// What a policy rule asks of, or permits to, a child SA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildPolicy {
    /// Stable identifier of the policy action, handed back with the SA.
    pub action: u64,
    /// The policy's own words for logs, for example `ipsecinit.conf:7`.
    pub source: String,
    /// Transport or tunnel.
    pub mode: Mode,
    /// Acceptable algorithms, best first; never empty.
    pub suites: Vec<ChildSuite>,
    /// Acceptable sequence numbers.
    pub esn: EsnPolicy,
    /// Traffic on our side; never empty.
    pub ts_local: Vec<TrafficSelector>,
    /// Traffic on the peer's side; never empty.
    pub ts_remote: Vec<TrafficSelector>,
}

/// Lifetimes of one child SA: soft limits ask for a rekey, hard limits end it. Zero is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ChildLifetimes {
    /// Since the SA was added; already jittered when part of a [`ChildSa`].
    pub soft: Duration,
    /// Since the SA was added.
    pub hard: Duration,
    /// Octets; already jittered when part of a [`ChildSa`].
    pub soft_bytes: u64,
    /// Octets.
    pub hard_bytes: u64,
    /// Time without inbound traffic after which an idle EXPIRE is wanted.
    pub idle: Duration,
}

/// SPI and keys of one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildKeys {
    /// SPI, as a number (network order on the wire).
    pub spi: u32,
    /// Key of the cipher, without salt; empty for AH and NULL.
    pub cipher_key: Secret,
    /// Salt: 3 octets for AES-CCM, 4 for the other counter modes and ChaCha20-Poly1305; empty where the cipher has none.
    pub salt: Secret,
    /// Key of the integrity algorithm; empty with an AEAD.
    pub integ_key: Secret,
}

/// UDP encapsulation (RFC 3948): the port pair of the IKE SA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Encap {
    /// Our port.
    pub local_port: u16,
    /// The peer's port, as we see it.
    pub remote_port: u16,
}

/// The two ends as the peer writes them in traffic selectors of transport mode (RFC 7296 section 2.23.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Originals {
    /// Our end as the peer knows it.
    pub local: IpAddr,
    /// The peer as it knows itself.
    pub remote: IpAddr,
}

/// The SPIs of one pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpiPair {
    /// The SPI we receive on.
    pub inbound: u32,
    /// The SPI we send with.
    pub outbound: u32,
}

/// When the outbound half of a new pair is to carry traffic (RFC 7296 section 2.8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutboundUse {
    /// At once: bind it.
    Now,
    /// Install it, but go on sending on the old pair until [`Effect::SwitchOutbound`](super::Effect::SwitchOutbound).
    Later,
}

/// A negotiated pair of SAs, to be installed in both directions or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildSa {
    /// The IKE SA that owns it.
    pub ike: IkeSpis,
    /// Label of the IKE rule.
    pub rule_label: String,
    /// [`ChildPolicy::action`] of the policy behind it.
    pub action: u64,
    /// [`Acquire::id`](super::Acquire::id) of the request this answers, on the side that asked.
    pub acquire: Option<u64>,
    /// Whether we began the exchange that made it.
    pub initiator: bool,
    /// Transport or tunnel.
    pub mode: Mode,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address when the IKE SA came up: policy knows the peer by it, and it names the SAs.
    pub remote: IpAddr,
    /// Where the peer is now: another address than `remote` when its NAT has moved it.
    pub peer: IpAddr,
    /// UDP encapsulation, when a NAT was found.
    pub encap: Option<Encap>,
    /// Who is behind a NAT.
    pub nat: NatState,
    /// The addresses that the peer makes checksums with, in transport mode through a NAT.
    pub originals: Option<Originals>,
    /// Negotiated traffic on our side.
    pub ts_local: Vec<TrafficSelector>,
    /// Negotiated traffic on the peer's side.
    pub ts_remote: Vec<TrafficSelector>,
    /// Algorithms.
    pub suite: ChildSuite,
    /// Group of a key exchange of its own; `NONE` where its keys come from those of the IKE SA alone.
    pub group: GroupId,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// What we receive with.
    pub inbound: ChildKeys,
    /// What we send with.
    pub outbound: ChildKeys,
    /// Lifetimes.
    pub lifetimes: ChildLifetimes,
    /// Packets.
    pub replay_window: u32,
    /// The pair this one replaces.
    pub rekeys: Option<SpiPair>,
    /// When to bind the outbound half.
    pub outbound_use: OutboundUse,
    /// Who we are.
    pub local_id: Identification,
    /// Who the peer is.
    pub remote_id: Identification,
}

impl ChildSa {
    /// The SPIs of the pair.
    pub fn spis(&self) -> SpiPair {
        SpiPair { inbound: self.inbound.spi, outbound: self.outbound.spi }
    }
}
