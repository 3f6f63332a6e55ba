//! Events that the programs put into the ring buffer for the holder of the event lease.

use crate::policy::Selectors;
use crate::sa::{BindingKey, SlotRef};
use bytemuck::{Pod, Zeroable};

/// Values of [`Event::kind`].
pub mod kind {
    /// A packet met a protecting rule without an SA. `binding`, `packet` and `rule` say which.
    pub const ACQUIRE: u32 = 1;
    /// An SA passed a limit. `sa`, `spi` and `detail` ([`expire`](super::expire)) say which.
    pub const EXPIRE: u32 = 2;
    /// An authentic packet of an inbound SA in UDP, newer than any before it, came from another address or port than the SA
    /// has. `sa` and `spi` say which; the UDP datagram is in `packet`.
    pub const MOVED: u32 = 3;
}

/// Values of [`Event::detail`] for EXPIRE.
pub mod expire {
    /// A soft limit: the SA is dying.
    pub const SOFT: u32 = 1;
    /// A hard limit: the SA is dead.
    pub const HARD: u32 = 2;
    /// The idle limit.
    pub const IDLE: u32 = 3;
}

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// [`kind`] number.
    pub kind: u32,
    /// Depends on the kind.
    pub detail: u32,
    /// Boot time in nanoseconds.
    pub time: u64,
    /// The SA, for EXPIRE and MOVED.
    pub sa: SlotRef,
    /// SPI of that SA.
    pub spi: u32,
    /// Interface index at which the packet was seen, or 0.
    pub ifindex: u32,
    /// Generation of the SPD that judged the packet.
    pub policy: u32,
    /// Rule index within it.
    pub rule: u32,
    /// Binding that has no SA.
    pub binding: BindingKey,
    /// The packet, or the datagram that a MOVED is about.
    pub packet: Selectors,
}

const _: () = assert!(size_of::<Event>() == 128);
