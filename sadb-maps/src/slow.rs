//! The slow path: what the programs cannot do with one packet in hand, and give to a process, which gives it back or
//! sends it. The `SLOW` ring carries the packets, the `SLOW_STATE` record says whether somebody takes them.

use crate::Addr;
use bytemuck::{Pod, Zeroable};

/// Octets of a frame that fit a record. With what the ring puts in front a record takes 4096 octets.
pub const MAX_HANDED: usize = 4064;

/// Octets of the ring: 256 records.
pub const RING: u32 = 1 << 20;

/// Fragments whose first one was seen and named ports, so that the later ones are known: entries of a map.
pub const MAX_KNOWN: u32 = 1024;

/// Nanoseconds for which a fragment that came first speaks for the later ones, and for which they are waited for.
pub const PATIENCE: u64 = 30_000_000_000;

/// What is to be done with a packet.
pub mod errand {
    /// A fragment of a sealed packet for this host: to be made whole, and opened.
    pub const FRAGMENT_IN: u32 = 1;
    /// A fragment of a packet of this host that transport mode protects: to be made whole, and given back.
    pub const FRAGMENT_OUT: u32 = 2;
    /// A packet that is longer than its tunnel takes, the detail, and may be cut: its fragments are given back.
    pub const SPLIT: u32 = 3;
    /// A sealed packet that is longer than its way takes, the detail: its fragments are sent.
    pub const SEALED: u32 = 4;
}

/// A packet in the `SLOW` ring.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Handed {
    /// Boot time in nanoseconds.
    pub time: u64,
    /// [`errand`] number.
    pub errand: u32,
    /// Octets of `frame` in use.
    pub len: u32,
    /// What the errand needs to know.
    pub detail: u32,
    /// Zero.
    pub reserved: u32,
    /// The frame, from its Ethernet header.
    pub frame: [u8; MAX_HANDED],
}

/// Key of a fragment whose later ones are to be known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Identification.
    pub ident: u32,
    /// Zero.
    pub reserved: u32,
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What became of packets on the slow path: index into [`SlowState::counts`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Outcome {
            $($(#[$doc])* $name,)*
        }

        impl Outcome {
            /// Every outcome, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that `espadm stats` prints.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

outcomes! {
    /// Packets made whole and given back.
    Reassembled = "reassembled",
    /// Packets that were sent, or given back to be sealed, in fragments.
    Fragmented = "fragmented",
    /// Packets of which fragments were missing when their time was over.
    Incomplete = "drop-reassembly-timeout",
    /// Packets with fragments that overlap or contradict each other.
    Overlap = "drop-reassembly-overlap",
    /// Fragments that are none, or malformed.
    Malformed = "drop-reassembly-malformed",
    /// Packets that are longer than the data path takes.
    TooLong = "drop-reassembly-too-long",
    /// Packets that made room for others.
    Evicted = "drop-reassembly-full",
    /// Packets that nobody took in time.
    Late = "drop-slow-path-late",
    /// Packets that could not be given back or sent.
    Unsent = "drop-slow-path-unsent",
    /// Packets that are too long for their way and may not be cut.
    Uncut = "drop-too-long-to-send",
}

/// Number of outcomes.
pub const OUTCOMES: usize = Outcome::ALL.len();

/// The record in `SLOW_STATE`. The process writes it, the programs read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SlowState {
    /// Boot time in nanoseconds until which the process promises to take packets; 0 when there is none.
    pub until: u64,
    /// What became of packets.
    pub counts: [u64; OUTCOMES],
}

const _: () = assert!(size_of::<Handed>() + 8 == 4096);
const _: () = assert!(size_of::<FragmentKey>() == 40);
