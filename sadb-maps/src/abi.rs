//! Names, sizes and the version of the maps, and the configuration record that the loader writes.

use bytemuck::{Pod, Zeroable};

/// Version of everything in this crate that the kernel side sees. A tool refuses an instance with another version, save
/// `espadm upgrade`, which moves it: whoever raises the number adds the step that leads there to `host::migrate`.
pub const ABI_VERSION: u32 = if cfg!(feature = "next-abi") { 14 } else { 13 };

/// Magic of [`Header`]: "IPSE" in ASCII, host order.
pub const HEADER_MAGIC: u32 = 0x4950_5345;

/// Security associations that fit unless the loader is told otherwise. Slot 0 is never used.
pub const DEFAULT_SA_CAPACITY: u32 = 16_384;

/// Largest capacity: a slot number must fit the 24 bits that a frame tag has for it.
pub const MAX_SA_CAPACITY: u32 = 1 << 20;

/// Rules in one generation of the SPD.
pub const MAX_RULES: u32 = 16_384;

/// Queues of `ipsec0x` whose packets can be held while they wait for an SA.
pub const MAX_QUEUES: u32 = 1024;

/// Largest MTU of a veth whose peer has an XDP program without fragments, and so of `ipsec0`: a page less headroom and
/// what the kernel keeps behind a frame.
pub const MAX_XDP_MTU: u32 = 3506;

/// Names of the maps, which are the names of their pins as well.
pub mod map {
    /// `Array<Header>[1]`: ABI version and network namespace of the instance.
    pub const HEADER: &str = "HEADER";
    /// `Array<Config>[1]`: what the loader found out about the machine.
    pub const CONFIG: &str = "CONFIG";
    /// `Hash<u32, Outer>`: the attached interfaces by index.
    pub const OUTER: &str = "OUTER";
    /// `Hash<InboundKey, SlotRef>`: SPI, destination and protocol to slot.
    pub const SA_IN: &str = "SA_IN";
    /// `Hash<InboundKey, SlotRef>`: SPI, destination and protocol of an outbound SA to slot. Packets go by `SA_OUT`; this is
    /// for who is given a name.
    pub const SA_NAMES: &str = "SA_NAMES";
    /// `Hash<BindingKey, Bundle>`: outbound binding to slots.
    pub const SA_OUT: &str = "SA_OUT";
    /// `Array<SaStatic>`: the immutable part of each SA by slot.
    pub const SA_STATIC: &str = "SA_STATIC";
    /// `Array<KeyText>`: the keys of each SA as they were given, by slot.
    pub const SA_KEYS: &str = "SA_KEYS";
    /// `Hash<u32, Identities>`, not preallocated: the identities of those SAs that have any, by slot. No program reads them.
    pub const SA_IDENTITIES: &str = "SA_IDENTITIES";
    /// `Array<SaState>`: the mutable part of each SA by slot.
    pub const SA_STATE: &str = "SA_STATE";
    /// `Array<Window>`: the replay window of each SA by slot.
    pub const SA_WINDOW: &str = "SA_WINDOW";
    /// `Hash<WindowPageKey, WindowPage>`, not preallocated: the larger replay windows.
    pub const SA_WINDOW_PAGES: &str = "SA_WINDOW_PAGES";
    /// `Hash<u32, GhashTable>`, not preallocated: GHASH tables by slot.
    pub const SA_GHASH: &str = "SA_GHASH";
    /// `Hash<u32, BlowfishState>`, not preallocated: states of Blowfish by slot.
    pub const SA_BLOWFISH: &str = "SA_BLOWFISH";
    /// `Array<u32>[1]`: which generation of the SPD is in force.
    pub const SPD_HEAD: &str = "SPD_HEAD";
    /// `Array<PolicyHead>[2]`: both generations of the SPD, by parity.
    pub const SPD_GENERATIONS: &str = "SPD_GENERATIONS";
    /// `Hash<u32, Rule>`, not preallocated: rules by [`numbered`](crate::spd::numbered) index.
    pub const SPD_RULES: &str = "SPD_RULES";
    /// `LpmTrie<AddressKey, u32>`: addresses to classes.
    pub const SPD_ADDRESSES: &str = "SPD_ADDRESSES";
    /// `Hash<u32, Chunk>`, not preallocated: ports, ICMP types and codes, and protocols to classes, by
    /// [`chunk_number`](crate::spd::chunk_number).
    pub const SPD_CHUNKS: &str = "SPD_CHUNKS";
    /// `Hash<TunnelKey, u32>`, not preallocated: ends of tunnels to scopes.
    pub const SPD_TUNNELS: &str = "SPD_TUNNELS";
    /// `Hash<u32, Class>`, not preallocated: bit vectors by [`class_number`](crate::spd::class_number).
    pub const SPD_CLASSES: &str = "SPD_CLASSES";
    /// `Hash<u32, Page>`, not preallocated: pages of bit vectors.
    pub const SPD_PAGES: &str = "SPD_PAGES";
    /// `PerCpuArray<FlowSet>`: what the classifier found for recent flows.
    pub const SPD_FLOWS: &str = "SPD_FLOWS";
    /// `Hash<u64, u32>`: cookies of the sockets that key management may use in clear.
    pub const KM_SOCKETS: &str = "KM_SOCKETS";
    /// `LruHash<BindingKey, u64>`: boot time in nanoseconds of the last ACQUIRE for a binding.
    pub const ACQUIRES: &str = "ACQUIRES";
    /// `LruHash<InboundKey, PathMtu>`: what routers have said about the way of the packets of an outbound SA, by its SPI,
    /// destination and protocol.
    pub const PATH_MTUS: &str = "PATH_MTUS";
    /// Ring buffer of [`Event`](crate::event::Event).
    pub const EVENTS: &str = "EVENTS";
    /// `PerCpuArray<u64>` indexed by [`Counter`](crate::counter::Counter).
    pub const COUNTERS: &str = "COUNTERS";
    /// `ProgramArray` of the programs that follow the one on the interface, by [`stage`](super::stage).
    pub const STAGES: &str = "STAGES";
    /// `XskMap` of the AF_XDP sockets that take packets without an SA, by queue of `ipsec0x`. An entry goes with its socket.
    pub const XSKS: &str = "XSKS";
    /// Ring buffer of [`Handed`](crate::slow::Handed): packets for the slow path.
    pub const SLOW: &str = "SLOW";
    /// `Array<SlowState>[1]`: whether somebody takes them, and what became of them.
    pub const SLOW_STATE: &str = "SLOW_STATE";
}

/// Names of the programs in the object, which are the names of their pins as well.
pub mod program {
    use super::stage;
    use crate::sa::{family, mac};

    /// TCX egress on every outer interface: classifies, answers too-big packets, redirects to `ipsec0`.
    pub const TC_OUTER_EGRESS: &str = "tc_outer_egress";
    /// TCX ingress on every outer interface: hands decapsulated packets to the stack with the configured mark.
    pub const TC_OUTER_INGRESS: &str = "tc_outer_ingress";
    /// XDP on every outer interface: opens ESP, checks clear packets.
    pub const XDP_OUTER: &str = "xdp_outer";
    /// TCX egress on `ipsec0`: lets tagged frames from [`TC_OUTER_EGRESS`] and routed frames in, nothing else.
    pub const TC_IPSEC0_EGRESS: &str = "tc_ipsec0_egress";
    /// XDP on `ipsec0x`: seals.
    pub const XDP_IPSEC0X: &str = "xdp_ipsec0x";
    /// TCX ingress on `ipsec0x`: sends sealed packets out through the neighbour layer (the second exit).
    pub const TC_IPSEC0X_INGRESS: &str = "tc_ipsec0x_ingress";
    /// XDP on `ipsec0`: passes everything; its presence makes frames from `ipsec0x` processable.
    pub const XDP_IPSEC0: &str = "xdp_ipsec0";
    /// The programs of the `STAGES` map and their places there.
    pub const STAGES: &[(&str, u32)] = &[
        ("seal_end", stage::SEAL_END),
        ("open_end", stage::OPEN_END),
        ("ah_seal", stage::AH_SEAL),
        ("ah_seal_end", stage::AH_SEAL_END),
        ("ah_open_end", stage::AH_OPEN_END),
        ("open_whole", stage::OPEN_WHOLE),
        ("shortcut", stage::SHORTCUT),
        ("seal_chacha_poly", stage::seal(family::CHACHA20_POLY1305)),
        ("open_chacha_poly", stage::open(family::CHACHA20_POLY1305)),
        ("seal_aes_gcm", stage::seal(family::AES_GCM)),
        ("open_aes_gcm", stage::open(family::AES_GCM)),
        ("seal_aes_gmac", stage::seal(family::AES_GMAC)),
        ("open_aes_gmac", stage::open(family::AES_GMAC)),
        ("seal_aes_ccm", stage::seal(family::AES_CCM)),
        ("open_aes_ccm", stage::open(family::AES_CCM)),
        ("seal_null", stage::seal(family::NULL)),
        ("open_null", stage::open(family::NULL)),
        ("seal_aes_cbc", stage::seal(family::AES_CBC)),
        ("open_aes_cbc", stage::open(family::AES_CBC)),
        ("seal_aes_ctr", stage::seal(family::AES_CTR)),
        ("open_aes_ctr", stage::open(family::AES_CTR)),
        ("seal_des_cbc", stage::seal(family::DES_CBC)),
        ("open_des_cbc", stage::open(family::DES_CBC)),
        ("seal_triple_des_cbc", stage::seal(family::TRIPLE_DES_CBC)),
        ("open_triple_des_cbc", stage::open(family::TRIPLE_DES_CBC)),
        ("seal_blowfish", stage::seal(family::BLOWFISH_CBC)),
        ("open_blowfish", stage::open(family::BLOWFISH_CBC)),
        ("hmac_md5", stage::authenticate(mac::HMAC_MD5)),
        ("hmac_sha1", stage::authenticate(mac::HMAC_SHA1)),
        ("hmac_sha256", stage::authenticate(mac::HMAC_SHA256)),
        ("hmac_sha512", stage::authenticate(mac::HMAC_SHA512)),
    ];
    /// TC, never attached: run once by the loader to arm the sweep timer, which ages the SAs.
    pub const ARM_SWEEP: &str = "arm_sweep";
}

/// Indexes of the `STAGES` map. A packet goes from the program on its interface through its transforms, one for the
/// cipher and one for a separate authenticator, to the end of its direction, each a program of its own: a new transform
/// touches no other, and each is verified alone.
pub mod stage {
    use crate::sa::{family, mac};

    /// Headers, policy and exit of a sealed packet.
    pub const SEAL_END: u32 = 0;
    /// Replay commit, headers, policy and delivery of an opened packet.
    pub const OPEN_END: u32 = 1;
    /// The AH header of a packet that is sealed, which ESP may have sealed before.
    pub const AH_SEAL: u32 = 2;
    /// Behind its authenticator: the header as it was, and the exit.
    pub const AH_SEAL_END: u32 = 3;
    /// Behind the authenticator of a packet that is opened: the AH header taken out.
    pub const AH_OPEN_END: u32 = 4;
    /// A sealed packet that came in fragments and has been made whole, on `ipsec0x`, or that came out of a tunnel.
    pub const OPEN_WHOLE: u32 = 5;
    /// A clear packet on an interface with the gateway shortcut: sealed there if it is to be forwarded into a tunnel.
    pub const SHORTCUT: u32 = 6;
    /// The first cipher.
    const CIPHERS: u32 = 8;
    /// The first authenticator.
    const MACS: u32 = CIPHERS + 2 * family::FAMILIES as u32;
    /// Entries of the map.
    pub const STAGES: u32 = MACS + mac::MACS as u32;

    /// The cipher that seals packets of SAs of this [`family`].
    #[inline(always)]
    pub const fn seal(family: u8) -> u32 {
        CIPHERS + 2 * family as u32
    }

    /// The cipher that opens them.
    #[inline(always)]
    pub const fn open(family: u8) -> u32 {
        seal(family) + 1
    }

    /// The authenticator of this number ([`mac`]), both directions.
    #[inline(always)]
    pub const fn authenticate(mac: u8) -> u32 {
        MACS + mac as u32
    }
}

/// Identity of an instance. Written once, by the loader. In every version of the maps the record begins with this one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Header {
    /// [`HEADER_MAGIC`].
    pub magic: u32,
    /// [`ABI_VERSION`].
    pub abi: u32,
    /// Inode number of the network namespace (nsfs) that the instance belongs to.
    pub netns_inode: u64,
    /// Cookie of that namespace (`SO_NETNS_COOKIE`): unlike the inode number it is never given to another one.
    pub netns_cookie: u64,
    /// Number of SA slots, slot 0 included.
    pub capacity: u32,
    /// Not zero while a holder of the instance lock is between the writes of one change; the next holder repairs.
    pub dirty: u32,
}

/// What the programs need to know about the machine. Written by the loader and by `espadm`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// Interface index of `ipsec0`.
    pub ipsec0: u32,
    /// Interface index of `ipsec0x`.
    pub ipsec0x: u32,
    /// Random, made at load: `skb->mark` of frames on the way from the outer egress to `ipsec0`.
    pub mark_tagged: u32,
    /// Random, made at load: `skb->mark` of sealed packets on the way out.
    pub mark_sealed: u32,
    /// `skb->mark` given to packets that came out of a tunnel-mode SA; 0 leaves it alone.
    pub mark_tunnel_in: u32,
    /// `skb->mark` given to packets that came out of a transport-mode SA; 0 leaves it alone.
    pub mark_transport_in: u32,
    /// MAC address of `ipsec0`.
    pub ipsec0_mac: [u8; 6],
    /// MAC address of `ipsec0x`.
    pub ipsec0x_mac: [u8; 6],
    /// Seconds for which further packets of one flow raise no second ACQUIRE.
    pub acquire_hold: u32,
    /// Not zero while somebody reads the log of the programs (`AYA_LOGS`): they write a line for dropped packets.
    pub log_level: u32,
    /// [`any`] bits: what some attached interface has. Without, no program looks for it.
    pub any: u32,
}

/// Exit by `bpf_redirect_neigh` from the TC layer; works on every interface.
pub const EXIT_NEIGHBOUR: u32 = 0;
/// Exit by FIB lookup and XDP redirect, where the driver transmits XDP frames and a neighbour entry exists.
pub const EXIT_XDP: u32 = 1;

/// What at least one of the attached interfaces has.
pub mod any {
    /// The gateway shortcut ([`Outer::shortcut`](super::Outer::shortcut)).
    pub const SHORTCUT: u32 = 1;
    /// XDP in generic mode.
    pub const GENERIC: u32 = 2;
    /// Exit by XDP ([`EXIT_XDP`](super::EXIT_XDP)).
    pub const XDP_EXIT: u32 = 4;
}

/// What passes a LAN interface without the stack.
pub mod shortcut {
    /// What arrives there for a tunnel is sealed there.
    pub const IN: u8 = 1;
    /// What comes out of a tunnel for a host behind it goes there at once, by XDP redirect.
    pub const OUT: u8 = 2;
}

/// An attached interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Outer {
    /// [`EXIT_NEIGHBOUR`] or [`EXIT_XDP`].
    pub exit: u32,
    /// Layer-3 MTU in octets, as last seen by the loader.
    pub mtu: u32,
    /// 1 when the XDP program runs in native mode, 0 in generic mode.
    pub native: u32,
    /// MAC address.
    pub mac: [u8; 6],
    /// Receive queues when the XDP program came, at most 255; 0 when unknown.
    pub queues: u8,
    /// [`shortcut`] bits of a LAN interface with the gateway shortcut.
    pub shortcut: u8,
}

const _: () = assert!(size_of::<Header>() == 32);
const _: () = assert!(size_of::<Config>() == 48);
const _: () = assert!(size_of::<Outer>() == 20);
