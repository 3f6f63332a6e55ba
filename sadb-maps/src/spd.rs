//! How the kernel finds the first rule that a packet fits, among many: records and keys of the maps of the classifier.
//!
//! Bit vectors (Lakshman and Stiliadis, SIGCOMM 1998): in each [`dimension`] the values a packet can have fall into
//! classes, and a [`Class`] says as a bit for each rule which rules accept its values. The first bit that is set in the
//! classes of all dimensions is the first rule that fits. User space makes the classes; the kernel looks up one in each
//! dimension. Bit vectors are in [`Page`]s, equal ones stored once, because most vectors are nearly empty.
//!
//! Every key says the parity of the generation it belongs to, so that a new policy is written beside the one in force.

use crate::Addr;
use crate::abi::MAX_RULES;
use crate::policy::Selectors;
use bytemuck::{Pod, Zeroable};

/// Rules in a word of a bit vector.
const WORD_RULES: u32 = 64;
/// Words in a page.
pub const PAGE_WORDS: usize = 8;
/// Rules that a page speaks of.
pub const PAGE_RULES: u32 = WORD_RULES * PAGE_WORDS as u32;
/// Pages of a bit vector.
pub const PAGES: usize = (MAX_RULES / PAGE_RULES) as usize;
/// Words of a summary: a bit for each word of the bit vector.
pub const SUMMARY_WORDS: usize = (MAX_RULES / WORD_RULES / 64) as usize;
/// Pages that one word of a summary speaks of.
pub const SUMMARY_PAGES: usize = PAGES / SUMMARY_WORDS;
/// Values in a [`Chunk`].
pub const CHUNK_VALUES: usize = 256;

/// Classes in one generation.
pub const MAX_CLASSES: u32 = 65_536;
/// Pages in one generation.
pub const MAX_PAGES: u32 = 65_536;
/// Chunks in one generation: those of two tables of ports, of ICMP types and codes, and of [`table::KIND`].
pub const MAX_CHUNKS: u32 = 1024;
/// Prefixes in one generation: two for each rule, and one more where a prefix spans both families.
pub const MAX_PREFIXES: u32 = 2 * MAX_RULES + 64;

/// What classes are of.
pub mod dimension {
    /// Local address.
    pub const LOCAL: u8 = 0;
    /// Remote address.
    pub const REMOTE: u8 = 1;
    /// Local port, or ICMP type.
    pub const NEAR: u8 = 2;
    /// Remote port, or ICMP code.
    pub const FAR: u8 = 3;
    /// Direction, whether host rules count, and protocol.
    pub const KIND: u8 = 4;
    /// Tunnel; the class is the number of the tunnel.
    pub const TUNNEL: u8 = 5;
}

/// Class of `NEAR` of packets whose ports cannot be read.
pub const OPAQUE_CLASS: u16 = u16::MAX;

/// Tables from small numbers to classes, in chunks. What is not in a table is of class 0.
pub mod table {
    /// Local port: classes of `NEAR`.
    pub const LOCAL_PORT: u8 = 0;
    /// Remote port: classes of `FAR`.
    pub const REMOTE_PORT: u8 = 1;
    /// ICMP type: classes of `NEAR`.
    pub const ICMP_TYPE: u8 = 2;
    /// ICMP code: classes of `FAR`.
    pub const ICMP_CODE: u8 = 3;
    /// Protocol, with a chunk for each direction and scope ([`kind_chunk`](super::kind_chunk)): classes of `KIND`.
    pub const KIND: u8 = 4;
}

/// Which rules judge a packet.
pub mod scope {
    /// Tunnel rules only: a packet that is passing through.
    pub const TRANSIT: u32 = 0;
    /// Tunnel and host rules: a packet that this host sends, or receives outside a tunnel.
    pub const LOCAL: u32 = 1;
    /// The rules of one tunnel: this and its number.
    pub const FIRST_TUNNEL: u32 = 2;
}

/// No rule fits.
pub const NO_MATCH: u32 = u32::MAX;
/// Something is missing that must be there. There is no rule with this index, and a packet without a rule is dropped.
pub const BROKEN: u32 = u32::MAX - 1;

/// Families of addresses in [`AddressKey`].
pub mod family {
    /// IPv4.
    pub const V4: u8 = 4;
    /// IPv6.
    pub const V6: u8 = 6;
}

/// Key of something with a number in a generation: the parity is the highest bit.
#[inline(always)]
pub const fn numbered(generation: u32, number: u32) -> u32 {
    generation << 31 | number
}

/// Parity that a [`numbered`] key speaks of.
pub const fn parity(key: u32) -> u32 {
    key >> 31
}

/// Number of a class among those of all dimensions.
#[inline(always)]
pub const fn class_number(dimension: u8, class: u16) -> u32 {
    (dimension as u32) << 16 | class as u32
}

/// Number of a chunk among those of all tables.
#[inline(always)]
pub const fn chunk_number(table: u8, chunk: u8) -> u32 {
    (table as u32) << 8 | chunk as u32
}

/// Chunk of [`table::KIND`] for a bit of [`direction`](crate::policy::direction) and a [`scope`].
#[inline(always)]
pub const fn kind_chunk(direction: u32, in_scope: u32) -> u8 {
    ((direction & 2) | (in_scope == scope::LOCAL) as u32) as u8
}

/// Data of the keys of `SPD_ADDRESSES`; a prefix has [`AddressKey::FIXED_BITS`] before those of the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct AddressKey {
    /// Parity of the generation.
    pub parity: u8,
    /// [`dimension`]: `LOCAL` or `REMOTE`.
    pub dimension: u8,
    /// [`family`].
    pub family: u8,
    /// Zero.
    pub reserved: u8,
    /// The address in the order of the wire; of IPv4 the first word.
    pub address: [u32; 4],
}

impl AddressKey {
    /// Bits before those of the address.
    pub const FIXED_BITS: u32 = 32;

    /// The key of an address.
    #[inline(always)]
    pub fn new(generation: u32, dimension: u8, address: &Addr) -> Self {
        let [a, b, c, d] = address.0;
        let v4 = address.is_v4();
        Self {
            parity: (generation & 1) as u8,
            dimension,
            family: if v4 { family::V4 } else { family::V6 },
            reserved: 0,
            address: if v4 { [d, 0, 0, 0] } else { [a, b, c, d] },
        }
    }
}

/// Key of `SPD_TUNNELS`; its value is the [`scope`] of the tunnel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct TunnelKey {
    /// [`numbered`] with 0.
    pub generation: u32,
    /// This end.
    pub local: Addr,
    /// The other end.
    pub remote: Addr,
}

/// A bit vector over the rules of a generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Class {
    /// Bit `w` of these is set when word `w` of the vector is not zero.
    pub summary: [u64; SUMMARY_WORDS],
    /// Numbers of the pages; anything where the summary says that a page is empty.
    pub pages: [u32; PAGES],
}

/// A piece of a bit vector.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Page(pub [u64; PAGE_WORDS]);

/// Classes of consecutive values.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Chunk(pub [u16; CHUNK_VALUES]);

/// Sets of the flow cache of one CPU; a power of two.
pub const FLOW_SETS: u32 = 4096;

/// What the classifier found for the packets of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// The packet.
    pub selectors: Selectors,
    /// Generation that was in force.
    pub generation: u32,
    /// [`direction`](crate::policy::direction) bit, or [`OPENED`].
    pub direction: u32,
    /// [`scope`], or the slot of an SA.
    pub scope: u32,
    /// Index of the rule, or [`NO_MATCH`]; or the generation of that slot.
    pub rule: u32,
}

/// In the place of a direction: the packet has come out of an SA, alone, and policy and selectors have let it pass.
pub const OPENED: u32 = 0x100;

/// Flows that share a place in the cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowSet {
    /// The flows.
    pub flows: [Flow; 2],
    /// Not zero when the second was the last to be used.
    pub second_used: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

const _: () = assert!(size_of::<AddressKey>() == 20);
const _: () = assert!(size_of::<TunnelKey>() == 36);
const _: () = assert!(size_of::<Class>() == 160);
const _: () = assert!(size_of::<Page>() == 64);
const _: () = assert!(size_of::<Chunk>() == 512);
const _: () = assert!(size_of::<FlowSet>() == 128);
const _: () = assert!(PAGES == 32 && SUMMARY_WORDS == 4 && SUMMARY_PAGES * PAGE_WORDS == 64);
