//! Security associations: slots, keys of the index maps, the immutable and the mutable part, the replay window.
//!
//! RFC 4301 section 4.4.2.1 lists what an SA holds; RFC 4303 section 3.4.3 and appendix A define the window.

use crate::Addr;
use crate::policy::EspAlgorithms;
use bytemuck::{Pod, Zeroable};

/// Protocol number of ESP.
pub const ESP: u8 = 50;
/// Protocol number of AH.
pub const AH: u8 = 51;

/// ESP transform identifiers, those of IKEv2 and PF_KEY (spec section 4.8; RFC 7634 for ChaCha20-Poly1305).
pub mod encr {
    /// No encryption chosen (AH).
    pub const NONE: u8 = 0;
    /// DES-CBC (RFC 2405).
    pub const DES_CBC: u8 = 2;
    /// Triple DES-CBC (RFC 2451).
    pub const TRIPLE_DES_CBC: u8 = 3;
    /// Blowfish-CBC (RFC 2451).
    pub const BLOWFISH_CBC: u8 = 7;
    /// ENCR_NULL (RFC 2410).
    pub const NULL: u8 = 11;
    /// AES-CBC (RFC 3602).
    pub const AES_CBC: u8 = 12;
    /// AES-CTR (RFC 3686).
    pub const AES_CTR: u8 = 13;
    /// AES-CCM with an 8-octet ICV (RFC 4309).
    pub const AES_CCM_8: u8 = 14;
    /// AES-CCM with a 12-octet ICV.
    pub const AES_CCM_12: u8 = 15;
    /// AES-CCM with a 16-octet ICV.
    pub const AES_CCM_16: u8 = 16;
    /// AES-GCM with an 8-octet ICV (RFC 4106).
    pub const AES_GCM_8: u8 = 18;
    /// AES-GCM with a 12-octet ICV.
    pub const AES_GCM_12: u8 = 19;
    /// ENCR_NULL_AUTH_AES_GMAC (RFC 4543).
    pub const NULL_AES_GMAC: u8 = 21;
    /// AES-GCM with a 16-octet ICV (RFC 4106).
    pub const AES_GCM_16: u8 = 20;
    /// ChaCha20-Poly1305 (RFC 7634).
    pub const CHACHA20_POLY1305: u8 = 28;
}

/// Ciphers as the programs divide them: values of [`SaStatic::family`].
pub mod family {
    /// ChaCha20-Poly1305.
    pub const CHACHA20_POLY1305: u8 = 0;
    /// AES-GCM with every length of key and ICV.
    pub const AES_GCM: u8 = 1;
    /// AES-GMAC, which enciphers nothing.
    pub const AES_GMAC: u8 = 2;
    /// AES-CCM with every length of key and ICV.
    pub const AES_CCM: u8 = 3;
    /// No encryption; with a separate authenticator.
    pub const NULL: u8 = 4;
    /// AES-CBC.
    pub const AES_CBC: u8 = 5;
    /// AES-CTR.
    pub const AES_CTR: u8 = 6;
    /// DES-CBC.
    pub const DES_CBC: u8 = 7;
    /// Triple DES-CBC.
    pub const TRIPLE_DES_CBC: u8 = 8;
    /// Blowfish-CBC.
    pub const BLOWFISH_CBC: u8 = 9;
    /// Number of families there is room for.
    pub const FAMILIES: u8 = 16;
}

/// Separate authenticators as the programs divide them: values of [`SaStatic::mac`].
pub mod mac {
    /// None: the cipher authenticates.
    pub const NONE: u8 = 0;
    /// HMAC-MD5-96.
    pub const HMAC_MD5: u8 = 1;
    /// HMAC-SHA1-96.
    pub const HMAC_SHA1: u8 = 2;
    /// HMAC-SHA2-256-128.
    pub const HMAC_SHA256: u8 = 3;
    /// HMAC-SHA2-384-192 and HMAC-SHA2-512-256, which differ in their first states and in how much of a digest counts.
    pub const HMAC_SHA512: u8 = 4;
    /// Number of authenticators there is room for.
    pub const MACS: u8 = 8;
}

/// Cipher engines.
pub mod engine {
    /// eBPF instructions in softirq.
    pub const INLINE: u8 = 0;
}

/// States of an SA, those of PF_KEY; the kernel only moves them forward.
pub mod state {
    /// Reserved by GETSPI, no keys yet.
    pub const LARVAL: u32 = 0;
    /// In use.
    pub const MATURE: u32 = 1;
    /// A soft lifetime has passed; still in use.
    pub const DYING: u32 = 2;
    /// A hard lifetime has passed or the SA was deleted; refused by the data path, invisible to get and dump.
    pub const DEAD: u32 = 3;
    /// The slot holds nothing. Not a PF_KEY state.
    pub const FREE: u32 = 255;
}

/// Bits of [`SaStatic::flags`].
pub mod flag {
    /// Tunnel mode; transport mode otherwise.
    pub const TUNNEL: u32 = 1;
    /// 64-bit sequence numbers (RFC 4303 section 2.2.1).
    pub const ESN: u32 = 1 << 1;
    /// ESP inside UDP (RFC 3948).
    pub const UDP_ENCAP: u32 = 1 << 2;
    /// The SA is in the inbound index.
    pub const INBOUND: u32 = 1 << 3;
    /// The SA has outbound bindings.
    pub const OUTBOUND: u32 = 1 << 4;
    /// `pair_spi` names an SA of the opposite direction.
    pub const PAIRED: u32 = 1 << 5;
    /// One flow only (`sa unique`); the selectors are those of the flow.
    pub const UNIQUE: u32 = 1 << 6;
    /// The SA carries traffic selectors (`sel`); without, mode and addresses alone decide.
    pub const SELECTORS: u32 = 1 << 7;
    /// The peer negotiated perfect forward secrecy. Shown, not used.
    pub const PFS: u32 = 1 << 8;
    /// This end is behind a NAT and sends keepalives.
    pub const NAT_LOCAL: u32 = 1 << 9;
    /// The peer is behind a NAT. In transport mode its packets count as sent by [`SaStatic::src`](super::SaStatic::src),
    /// wherever the NAT has them come from.
    pub const NAT_REMOTE: u32 = 1 << 10;
    /// An outbound SA that no binding leads to yet.
    pub const UNBOUND: u32 = 1 << 11;
    /// The SA has [`Identities`](super::Identities).
    pub const IDENTITIES: u32 = 1 << 12;
    /// The direction was not given and the destination is no local address: the SA serves both directions.
    pub const BOTH: u32 = INBOUND | OUTBOUND;
}

/// Which key management made an SA.
pub mod km {
    /// `ipseckey`.
    pub const MANUAL: u8 = 0;
    /// in.iked.
    pub const IKEV1: u8 = 1;
    /// in.ikev2d.
    pub const IKEV2: u8 = 3;
}

/// Value of the index maps: a slot and the generation it must have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct SlotRef {
    /// Index into the slot arrays; 0 is no slot.
    pub slot: u32,
    /// Generation of the slot; a reference with another generation is stale.
    pub generation: u32,
}

/// Key of the inbound index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct InboundKey {
    /// Outer destination.
    pub dst: Addr,
    /// SPI.
    pub spi: u32,
    /// [`ESP`] or [`AH`].
    pub proto: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// What a router has said about the largest packet that passes it (RFC 1191, RFC 8201).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PathMtu {
    /// Octets of the outer packet.
    pub octets: u32,
    /// Boot time in seconds at which it said so.
    pub at: u32,
}

/// Seconds after which a [`PathMtu`] is forgotten: the way may carry more by then (RFC 1191 section 6.3, RFC 8201 section
/// 4).
pub const PATH_MTU_AGE: u32 = 600;

/// Key of the outbound binding (architecture section 4).
///
/// `action` is the stable id of the rule's action; `src` and `dst` are the outer pair: the tunnel's ends in tunnel mode,
/// the packet's addresses in transport mode. The rest is zero unless the action makes it unique.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct BindingKey {
    /// [`Rule::action_id`](crate::policy::Rule::action_id).
    pub action: u64,
    /// Outer source.
    pub src: Addr,
    /// Outer destination.
    pub dst: Addr,
    /// Local (source) port of a unique flow.
    pub sport: u16,
    /// Remote (destination) port of a unique flow.
    pub dport: u16,
    /// Upper-layer protocol of a unique flow.
    pub proto: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Value of the outbound binding: up to two SAs, applied in this order (ESP first, then AH).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bundle {
    /// The SAs; an unused place is all zero.
    pub sa: [SlotRef; 2],
}

/// Traffic selectors of an SA, in the direction of its packets (RFC 4301 section 4.4.1.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SaSelectors {
    /// Lowest source address.
    pub src_low: Addr,
    /// Highest source address.
    pub src_high: Addr,
    /// Lowest destination address.
    pub dst_low: Addr,
    /// Highest destination address.
    pub dst_high: Addr,
    /// Lowest and highest source port; 0 and 65535 when any.
    pub sport: [u16; 2],
    /// Lowest and highest destination port.
    pub dport: [u16; 2],
    /// Upper-layer protocol; 0 when any.
    pub proto: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// What the outer header of a tunnel takes from the inner one (RFC 4301 section 5.1.2, RFC 6040). All zero is the
/// default: DSCP copied, DF clear, TTL 64, ECN in normal mode.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OuterHeader {
    /// [`outer::FIXED_DSCP`] with a DSCP, 0 to 63, or 0 to copy that of the inner header.
    pub dscp: u8,
    /// [`outer::CLEAR_DF`], [`outer::COPY_DF`] or [`outer::SET_DF`]. IPv4 outside only.
    pub df: u8,
    /// TTL or hop limit; 0 is 64.
    pub ttl: u8,
    /// [`outer::ECN_NORMAL`] or [`outer::ECN_COMPATIBLE`].
    pub ecn: u8,
}

/// Values of the members of [`OuterHeader`].
pub mod outer {
    /// The DSCP is in the other bits.
    pub const FIXED_DSCP: u8 = 0x80;
    /// The outer header may be fragmented.
    pub const CLEAR_DF: u8 = 0;
    /// As the inner header has it.
    pub const COPY_DF: u8 = 1;
    /// The outer header must not be fragmented.
    pub const SET_DF: u8 = 2;
    /// The outer header has the ECN field of the inner one (RFC 6040 section 4.1).
    pub const ECN_NORMAL: u8 = 0;
    /// The outer header says Not-ECT, for a far end that would not bring congestion marks in (RFC 6040 section 4.3).
    pub const ECN_COMPATIBLE: u8 = 1;
}

/// Limits of one kind, soft or hard; 0 is no limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Lifetime {
    /// Octets of payload, counted as the cipher sees them.
    pub bytes: u64,
    /// Seconds since the SA was added.
    pub add: u64,
    /// Seconds since the first packet.
    pub used: u64,
    /// Allocations: stored and shown, never enforced.
    pub allocations: u64,
}

/// Words of the key area: the most is an AES key schedule of the inverse cipher with its rounds, or that of three DES
/// keys, beside the inner and outer state of HMAC-SHA2-512.
pub const KEY_WORDS: usize = 128;

/// Index in the key area of the word that holds the number of AES rounds (10, 12 or 14).
pub const AES_ROUNDS_WORD: usize = 60;

/// The immutable part of an SA. Replaced as a whole, with a new generation, except that an update of lifetimes,
/// pairing or key-management cookie rewrites those fields in place.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct SaStatic {
    /// Generation of the slot.
    pub generation: u32,
    /// [`flag`] bits.
    pub flags: u32,
    /// SPI.
    pub spi: u32,
    /// [`ESP`] or [`AH`].
    pub proto: u8,
    /// [`encr`] number.
    pub encr: u8,
    /// Authentication algorithm (AH table of spec section 4.8); 0 with an AEAD.
    pub auth: u8,
    /// [`engine`] number.
    pub engine: u8,
    /// Cipher key length in bits, salt not counted.
    pub key_bits: u16,
    /// Octets of the explicit IV.
    pub iv_len: u8,
    /// Octets of the ICV.
    pub icv_len: u8,
    /// Packets of the replay window; 0 is no replay protection.
    pub replay_window: u32,
    /// Salt of a cipher in counter mode, the octets in memory order; that of AES-CCM behind the octet that begins its
    /// counter blocks (RFC 4309 section 5).
    pub salt: u32,
    /// SPI of the SA of the opposite direction, when [`flag::PAIRED`].
    pub pair_spi: u32,
    /// Outer source.
    pub src: Addr,
    /// Outer destination.
    pub dst: Addr,
    /// UDP ports of the encapsulation, source and destination of this SA's packets.
    pub encap_ports: [u16; 2],
    /// Zero.
    pub reserved0: u32,
    /// The explicit IV counter stops before this value.
    pub iv_limit: u64,
    /// Action that an outbound SA is bound to, or that an inbound SA was negotiated for; 0 for manual SAs.
    pub action: u64,
    /// Cookie of the key manager.
    pub km_cookie: u64,
    /// [`km`] number.
    pub km: u8,
    /// Zero.
    pub reserved: [u8; 7],
    /// Soft limits.
    pub soft: Lifetime,
    /// Hard limits.
    pub hard: Lifetime,
    /// Seconds without use before an idle EXPIRE: since added, since used; 0 is never.
    pub idle: [u32; 2],
    /// Traffic selectors, when [`flag::SELECTORS`].
    pub sel: SaSelectors,
    /// Which programs serve it: [`family`] number.
    pub family: u8,
    /// Octets to which plaintext with trailer is padded: a power of two from 4 to 16.
    pub align: u8,
    /// Which program authenticates it, when the cipher does not: [`mac`] number.
    pub mac: u8,
    /// [`ring_bits`] of the replay window: its words are in [`WindowPage`]s when that is more than [`WINDOW_BITS`].
    pub ring_bits: u8,
    /// Authentication key length in bits.
    pub auth_bits: u16,
    /// Zero.
    pub reserved4: u16,
    /// Outer header, in tunnel mode.
    pub outer: OuterHeader,
    /// Where the peer is, when its NAT has moved it from the address that names the SA: outer destination of an outbound
    /// SA, outer source of an inbound one. [`Addr::UNSPECIFIED`] otherwise.
    pub peer: Addr,
    /// This end as the peer knows it, when [`flag::NAT_LOCAL`]; unspecified when that is not known.
    pub nat_local: Addr,
    /// The peer as it knows itself, when [`flag::NAT_REMOTE`]; unspecified when that is not known.
    pub nat_remote: Addr,
    /// Repair of checksums that were made with those addresses
    /// ([`checksum_delta`](crate::nat::checksum_delta)): of an inbound SA in transport mode.
    pub checksum_delta: u16,
    /// Zero.
    pub reserved3: u16,
    /// As a later version might have it.
    #[cfg(feature = "next-abi")]
    pub test_padding: [u32; 16],
    /// Key area: what the data path computes with. The cipher's part at 0 (ChaCha20: eight words; AES: a schedule of 60
    /// words of the SA's direction, rounds at [`AES_ROUNDS_WORD`]; DES: 32, triple DES: 96 words of the SA's direction),
    /// the states of HMAC at [`HMAC_WORD`].
    pub key: [u32; KEY_WORDS],
}

impl SaStatic {
    /// Outer destination of sealed packets.
    #[inline(always)]
    pub fn far_end(&self) -> Addr {
        if self.peer == Addr::UNSPECIFIED { self.dst } else { self.peer }
    }

    /// Outer source of the packets of an inbound SA.
    #[inline(always)]
    pub fn near_end(&self) -> Addr {
        if self.peer == Addr::UNSPECIFIED { self.src } else { self.peer }
    }

    /// What a rule compares of an ESP SA.
    #[inline(always)]
    pub fn esp_algorithms(&self) -> EspAlgorithms {
        EspAlgorithms { encr: self.encr, encr_bits: self.key_bits, auth: self.auth }
    }
}

impl core::fmt::Debug for SaStatic {
    /// Everything but key and salt.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SaStatic")
            .field("generation", &self.generation)
            .field("flags", &self.flags)
            .field("spi", &self.spi)
            .field("proto", &self.proto)
            .field("encr", &self.encr)
            .finish_non_exhaustive()
    }
}

/// The mutable part of an SA. Counters are added to atomically by the kernel; user space writes the whole record only
/// while no index refers to the slot.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SaState {
    /// [`state`] word; moved by compare-and-swap.
    pub state: u64,
    /// Last sequence number given out (outbound).
    pub seq: u64,
    /// Next explicit IV (outbound).
    pub iv: u64,
    /// Highest sequence number accepted (inbound).
    pub top: u64,
    /// Packets protected or opened.
    pub packets: u64,
    /// Octets of payload protected or opened.
    pub bytes: u64,
    /// Boot time in nanoseconds at which the SA was added.
    pub added: u64,
    /// Boot time of the first packet; 0 before it.
    pub first_use: u64,
    /// Boot time of the latest packet.
    pub last_use: u64,
    /// [`notified`] bits: EXPIRE events that were raised.
    pub notified: u64,
    /// Packets dropped for a failed integrity check.
    pub auth_failed: u64,
    /// Packets dropped as replays.
    pub replayed: u64,
    /// Generation of the slot, as in [`SaStatic`].
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
    /// Wall clock, seconds since 1970, at which the SA was added. For display.
    pub added_wall: u64,
    /// Route of the sealed packets as last looked up by TC egress: interface index in the low, path MTU in the high
    /// half. A cache; 0 before the first packet.
    pub route: u64,
    /// Boot time of the latest MOVED event (inbound); 0 before it.
    pub moved: u64,
}

/// Bits of [`SaState::notified`].
pub mod notified {
    /// EXPIRE for a soft limit.
    pub const SOFT: u64 = 1;
    /// EXPIRE for a hard limit.
    pub const HARD: u64 = 2;
    /// EXPIRE for an idle limit; cleared by use.
    pub const IDLE: u64 = 4;
}

/// Sequence numbers, or explicit IVs, that an outbound SA has left when it is dying: a sixteenth of those of 32 bits, four
/// minutes of a million packets in a second.
pub const NUMBERS_LEFT: u64 = 1 << 28;

/// Largest replay window in packets.
pub const MAX_REPLAY_WINDOW: u32 = 65_536;

/// Two to this power is the number of words of the ring that every SA has: 64, which span 2048 sequence numbers.
pub const WINDOW_BITS: u32 = 6;

/// Words of the ring that every SA has.
pub const WINDOW_WORDS: usize = 1 << WINDOW_BITS;

/// Largest replay window for which that ring does; larger ones have a ring of [`WindowPage`]s.
pub const SMALL_REPLAY_WINDOW: u32 = 1024;

/// The replay window of one SA: each word is `{block tag: high 32 bits, seen bits: low 32 bits}`.
///
/// The words form a ring of 2^n ([`ring_bits`]). Sequence number `s` lies in block `s >> 5`, which lives in word
/// `block % 2^n` under the tag `block / 2^n` (cut to 32 bits). A word with another tag is advanced by compare-and-swap,
/// so nothing is ever cleared separately. All zero is an empty window.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Window(pub [u64; WINDOW_WORDS]);

/// Two to this power is the number of words of a [`WindowPage`].
pub const PAGE_BITS: u32 = 7;

/// Words of a [`WindowPage`].
pub const PAGE_WORDS: usize = 1 << PAGE_BITS;

/// A part of the ring of a window above [`SMALL_REPLAY_WINDOW`]: 4096 sequence numbers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct WindowPage(pub [u64; PAGE_WORDS]);

/// Names a [`WindowPage`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct WindowPageKey {
    /// Slot of the SA.
    pub slot: u32,
    /// Word of the ring divided by [`PAGE_WORDS`].
    pub page: u32,
}

/// Pages that there are for the windows of all SAs together: 2048 SAs with the largest one.
pub const MAX_WINDOW_PAGES: u32 = 65_536;

/// Two to this power is the number of words of the ring for a window of so many packets: it spans the window and two
/// words more, which may be partly overwritten.
pub const fn ring_bits(window: u32) -> u32 {
    if window <= SMALL_REPLAY_WINDOW {
        return WINDOW_BITS;
    }
    let bits = (window.div_ceil(32) + 1).ilog2() + 1;
    if bits < PAGE_BITS { PAGE_BITS } else { bits }
}

/// The keys of an SA as they were given, for whoever may see them; the programs never read them. Secret.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct KeyText {
    /// Key of the cipher, without salt.
    pub cipher: [u8; 56],
    /// Key of the separate authenticator, or of AH.
    pub auth: [u8; 64],
    /// Octets of `cipher` in use.
    pub cipher_len: u8,
    /// Octets of `auth` in use.
    pub auth_len: u8,
    /// Octets of salt; they are in [`SaStatic::salt`].
    pub salt_len: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Most octets of an identity.
pub const MAX_IDENTITY: usize = 252;

/// An identity of one end as key management or an administrator gave it (RFC 2367 section 2.3.4). For display.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct IdentityText {
    /// PF_KEY identity type; 0 when there is none.
    pub kind: u16,
    /// Octets of `text` in use.
    pub len: u16,
    /// UTF-8.
    pub text: [u8; MAX_IDENTITY],
}

/// The identities of both ends of an SA.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Identities {
    /// That of the source.
    pub src: IdentityText,
    /// That of the destination.
    pub dst: IdentityText,
}

/// Index in the key area of the states of HMAC: inner, then outer.
pub const HMAC_WORD: usize = 96;

/// Words of a Blowfish state: 18 of P, four boxes.
pub const BLOWFISH_WORDS: usize = 1042;

/// The state of one Blowfish SA, of its direction: secret, as the key is.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct BlowfishState(pub [u32; BLOWFISH_WORDS]);

/// Words of a GHASH table: 32 nibble positions, 16 values, four words each.
pub const GHASH_WORDS: usize = 2048;

/// The GHASH table of one AES-GCM SA: secret, as the key is.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct GhashTable(pub [u32; GHASH_WORDS]);

const _: () = assert!(size_of::<SlotRef>() == 8);
const _: () = assert!(size_of::<InboundKey>() == 24);
const _: () = assert!(size_of::<PathMtu>() == 8);
const _: () = assert!(size_of::<BindingKey>() == 48);
const _: () = assert!(size_of::<Bundle>() == 16);
const _: () = assert!(size_of::<SaSelectors>() == 80);
const _: () = assert!(size_of::<Lifetime>() == 32);
const _: () = assert!(size_of::<OuterHeader>() == 4);
const _: () = assert!(size_of::<SaStatic>() == if cfg!(feature = "next-abi") { 896 } else { 832 });
const _: () = assert!(align_of::<SaStatic>() == 64);
const _: () = assert!(size_of::<SaState>() == 128 && align_of::<SaState>() == 64);
const _: () = assert!(size_of::<Window>() == 512);
const _: () = assert!(size_of::<WindowPage>() == 1024 && size_of::<WindowPageKey>() == 8);
const _: () = assert!(ring_bits(1025) == PAGE_BITS && ring_bits(MAX_REPLAY_WINDOW) == 12);
const _: () = assert!(size_of::<GhashTable>() == 8192);
const _: () = assert!(size_of::<KeyText>() == 128);
const _: () = assert!(size_of::<Identities>() == 512);
