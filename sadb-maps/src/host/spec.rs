//! What a tool says about an SA when it adds one, and what it is told when it asks.

use super::identity::Identity;
use super::secret::SecretKey;
use crate::sa::{Lifetime, OuterHeader, SaSelectors, SlotRef, km};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Which way an SA works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Opens packets.
    In,
    /// Seals packets.
    Out,
    /// The destination decides: inbound when it is an address of this host, both ways when it is a multicast address,
    /// outbound otherwise (spec section 7.9). In a key: outbound first, then inbound.
    #[default]
    Unspecified,
}

/// Transport or tunnel mode (RFC 4301 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Protects the payload.
    #[default]
    Transport,
    /// Protects whole packets.
    Tunnel,
}

/// UDP encapsulation of ESP (RFC 3948).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encap {
    /// Source port of this SA's packets, as they appear at this host.
    pub sport: u16,
    /// Destination port of this SA's packets.
    pub dport: u16,
    /// Address of this end as the peer sees it, unspecified when that is not known; `None` when no NAT is in front of this
    /// end. In transport mode the peer's checksums are made with it.
    pub nat_local: Option<IpAddr>,
    /// Address of the peer behind its NAT, unspecified when that is not known; `None` when it is behind none. In transport
    /// mode its checksums are made with it.
    pub nat_remote: Option<IpAddr>,
}

/// Where the explicit IVs of an AEAD come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IvSource {
    /// The key may have been loaded before: the upper 32 bits of the IV are a fresh install epoch.
    #[default]
    Epoch,
    /// The key was negotiated for this SA alone: IVs count from 1.
    FreshKey,
}

/// An SA to be added.
#[derive(Clone, Debug)]
pub struct SaSpec {
    /// [`ESP`](crate::sa::ESP) or [`AH`](crate::sa::AH).
    pub proto: u8,
    /// SPI, host order. 0 is invalid (RFC 4303 section 2.1).
    pub spi: u32,
    /// Outer source; may be unspecified on an inbound SA, which then accepts any.
    pub src: IpAddr,
    /// Outer destination.
    pub dst: IpAddr,
    /// Which way it works.
    pub direction: Direction,
    /// Mode.
    pub mode: Mode,
    /// ESP transform, [`encr`](crate::sa::encr).
    pub encr: u8,
    /// Key of the transform, without the salt.
    pub key: SecretKey,
    /// Salt of an AEAD: four octets.
    pub salt: SecretKey,
    /// Authentication algorithm (AH table of spec section 4.8); 0 with an AEAD.
    pub auth: u8,
    /// Key of the authentication algorithm.
    pub auth_key: SecretKey,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Packets of the replay window, at most [`MAX_REPLAY_WINDOW`](crate::sa::MAX_REPLAY_WINDOW); 0 turns it off.
    pub replay_window: u32,
    /// Last sequence number given out (outbound) or highest one accepted (inbound).
    pub replay_value: u64,
    /// UDP encapsulation.
    pub encap: Option<Encap>,
    /// Traffic selectors in the direction of the SA's packets.
    pub selectors: Option<SaSelectors>,
    /// One flow only; the selectors are those of the flow.
    pub unique: bool,
    /// The outer header, in tunnel mode; all zero stands for what the tunnel between the two ends is defined with.
    pub outer: OuterHeader,
    /// Negotiated with perfect forward secrecy. Shown only.
    pub pfs: bool,
    /// Soft limits.
    pub soft: Lifetime,
    /// Hard limits.
    pub hard: Lifetime,
    /// Seconds without use before an idle EXPIRE: since added, since used; 0 is never.
    pub idle: [u32; 2],
    /// SPI of the SA of the opposite direction, which must be there with source and destination swapped.
    pub pair_spi: Option<u32>,
    /// Who made it, [`km`].
    pub km: u8,
    /// Cookie of the key manager.
    pub km_cookie: u64,
    /// Action of the rule it was negotiated for; 0 binds an outbound SA to every rule whose action it satisfies.
    pub action: u64,
    /// Source of the IVs.
    pub iv: IvSource,
    /// Identity of the source, for display.
    pub src_identity: Option<Identity>,
    /// Identity of the destination, for display.
    pub dst_identity: Option<Identity>,
}

impl SaSpec {
    /// A manual SA in transport mode with nothing set but its identity.
    pub fn new(proto: u8, spi: u32, src: IpAddr, dst: IpAddr) -> Self {
        Self {
            proto,
            spi,
            src,
            dst,
            direction: Direction::Unspecified,
            mode: Mode::Transport,
            encr: 0,
            key: SecretKey::default(),
            salt: SecretKey::default(),
            auth: 0,
            auth_key: SecretKey::default(),
            esn: false,
            replay_window: 0,
            replay_value: 0,
            encap: None,
            selectors: None,
            unique: false,
            outer: OuterHeader::default(),
            pfs: false,
            soft: Lifetime::default(),
            hard: Lifetime::default(),
            idle: [0; 2],
            pair_spi: None,
            km: km::MANUAL,
            km_cookie: 0,
            action: 0,
            iv: IvSource::Epoch,
            src_identity: None,
            dst_identity: None,
        }
    }
}

/// What names an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SaKey {
    /// [`ESP`](crate::sa::ESP) or [`AH`](crate::sa::AH).
    pub proto: u8,
    /// SPI, host order.
    pub spi: u32,
    /// Outer destination.
    pub dst: IpAddr,
    /// Outer source; `None` or unspecified matches any.
    pub src: Option<IpAddr>,
    /// Which table to search.
    pub direction: Direction,
}

impl SaKey {
    /// A key that names source or direction of neither.
    pub fn new(proto: u8, spi: u32, dst: IpAddr) -> Self {
        Self { proto, spi, dst, src: None, direction: Direction::Unspecified }
    }
}

/// A change to a mature SA (UPDATE). `None` leaves things as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaUpdate {
    /// New soft limits.
    pub soft: Option<Lifetime>,
    /// New hard limits.
    pub hard: Option<Lifetime>,
    /// New idle limits.
    pub idle: Option<[u32; 2]>,
    /// New partner, by SPI.
    pub pair_spi: Option<u32>,
    /// New key management protocol and cookie; only IKEv2 may replace a cookie that is set.
    pub km: Option<(u8, u64)>,
}

/// A snapshot of an SA.
#[derive(Clone, Debug)]
pub struct SaInfo {
    /// Slot and generation.
    pub slot: SlotRef,
    /// [`ESP`](crate::sa::ESP) or [`AH`](crate::sa::AH).
    pub proto: u8,
    /// SPI, host order.
    pub spi: u32,
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination.
    pub dst: IpAddr,
    /// [`state`](crate::sa::state).
    pub state: u32,
    /// [`flag`](crate::sa::flag) bits.
    pub flags: u32,
    /// ESP transform.
    pub encr: u8,
    /// Authentication algorithm.
    pub auth: u8,
    /// Cipher key length in bits, salt not counted.
    pub key_bits: u16,
    /// [`engine`](crate::sa::engine).
    pub engine: u8,
    /// Packets of the replay window.
    pub replay_window: u32,
    /// Last sequence number given out.
    pub seq: u64,
    /// Highest sequence number accepted.
    pub top: u64,
    /// UDP encapsulation, with the ports as they are now.
    pub encap: Option<Encap>,
    /// Where the peer is now, when it has moved from the address that names the SA.
    pub moved_to: Option<IpAddr>,
    /// Traffic selectors.
    pub selectors: Option<SaSelectors>,
    /// SPI of the partner.
    pub pair_spi: Option<u32>,
    /// Who made it.
    pub km: u8,
    /// Cookie of the key manager.
    pub km_cookie: u64,
    /// Action it was made for; 0 for manual SAs.
    pub action: u64,
    /// Soft limits.
    pub soft: Lifetime,
    /// Hard limits.
    pub hard: Lifetime,
    /// Idle limits.
    pub idle: [u32; 2],
    /// The outer header, in tunnel mode.
    pub outer: OuterHeader,
    /// Packets protected or opened.
    pub packets: u64,
    /// Octets of payload protected or opened.
    pub bytes: u64,
    /// Packets dropped for a failed integrity check.
    pub auth_failed: u64,
    /// Packets dropped as replays.
    pub replayed: u64,
    /// When it was added, by the wall clock.
    pub added: SystemTime,
    /// Time since it was added, by the clock that also runs in suspend.
    pub age: Duration,
    /// Time since the first packet.
    pub first_use: Option<Duration>,
    /// Time since the latest packet.
    pub last_use: Option<Duration>,
    /// Identity of the source.
    pub src_identity: Option<Identity>,
    /// Identity of the destination.
    pub dst_identity: Option<Identity>,
    pub(super) key: SecretKey,
    pub(super) salt: SecretKey,
    pub(super) auth_key: SecretKey,
}

impl SaInfo {
    /// Whether the SA opens packets.
    pub fn is_inbound(&self) -> bool {
        self.flags & crate::sa::flag::INBOUND != 0
    }

    /// Whether the SA seals packets.
    pub fn is_outbound(&self) -> bool {
        self.flags & crate::sa::flag::OUTBOUND != 0
    }

    /// Whether it is in tunnel mode.
    pub fn is_tunnel(&self) -> bool {
        self.flags & crate::sa::flag::TUNNEL != 0
    }

    /// The key that names exactly this SA.
    pub fn sa_key(&self) -> SaKey {
        let direction = if self.is_outbound() { Direction::Out } else { Direction::In };
        SaKey { proto: self.proto, spi: self.spi, dst: self.dst, src: Some(self.src), direction }
    }

    /// Cipher key, without the salt. For tools that print or save it to root; never log it.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Key of the separate authenticator, or of AH; empty when there is none. As with [`SaInfo::key`].
    pub fn auth_key(&self) -> &SecretKey {
        &self.auth_key
    }

    /// Salt of the AEAD; empty when there is none.
    pub fn salt(&self) -> &SecretKey {
        &self.salt
    }
}
