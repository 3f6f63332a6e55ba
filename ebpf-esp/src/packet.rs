//! Reading packets: from an Ethernet frame to the selectors of RFC 4301 section 4.4.1.1.
//!
//! Works on anything that hands out checked pointers ([`Frame`]): a frame under XDP, the linear part of an skb, a
//! buffer on the host. Knows nothing of policy or SAs.

use sadb_maps::Addr;
use sadb_maps::policy::Selectors;

/// Octets of an Ethernet header.
pub const ETH_LEN: u32 = 14;
/// EtherType of IPv4.
pub const ETH_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETH_IPV6: u16 = 0x86dd;

/// Protocol numbers.
pub mod proto {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// Routing header.
    pub const ROUTING: u8 = 43;
    /// Fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ESP.
    pub const ESP: u8 = 50;
    /// AH.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// No next header; in ESP a dummy packet.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DEST_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Octets of an ICMP error in front of the packet that it quotes.
const ICMP_ERROR_HEADER: u32 = 8;

/// Extension headers walked before a packet counts as unreadable.
const MAX_EXTENSIONS: u32 = 6;

/// Bytes of a frame.
pub trait Frame {
    /// A pointer to a `T` at `offset` octets, good for reading and writing until the frame is resized; `None` when it
    /// does not lie within the frame. Alignment is not promised.
    fn at<T: Copy>(&self, offset: u32) -> Option<*mut T>;

    /// The `T` at `offset`.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> Option<T> {
        // SAFETY: `at` promises that the whole of `T` lies within the frame.
        self.at::<T>(offset).map(|p| unsafe { p.read_unaligned() })
    }

    /// Stores `value` at `offset`.
    #[inline(always)]
    fn write<T: Copy>(&self, offset: u32, value: T) -> Option<()> {
        // SAFETY: as in `read`.
        self.at::<T>(offset).map(|p| unsafe { p.write_unaligned(value) })
    }
}

/// What reading a packet found. Offsets count from the start of the Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// ICMP or ICMPv6 type and code.
    pub icmp: [u8; 2],
    /// Upper-layer protocol.
    pub proto: u8,
    /// Whether this is IPv4.
    pub v4: bool,
    /// A fragment, the first one included.
    pub fragment: bool,
    /// Identification of a fragment.
    pub ident: u32,
    /// A later fragment or a header that could not be read: ports are unknown.
    pub opaque: bool,
    /// DSCP and ECN octet.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Don't-fragment bit; always set for IPv6.
    pub df: bool,
    /// Offset of the upper-layer header.
    pub l4: u32,
    /// Offset of the octet that names the upper-layer protocol.
    pub next_header: u32,
    /// Length of the IP packet by its own header, in octets.
    pub l3_len: u32,
}

impl Parsed {
    /// Selectors of an outbound packet: the source is local.
    #[inline(always)]
    pub fn outbound(&self) -> Selectors {
        Selectors {
            laddr: self.src,
            raddr: self.dst,
            lport: self.sport,
            rport: self.dport,
            proto: self.proto,
            icmp_type: self.icmp[0],
            icmp_code: self.icmp[1],
            opaque: self.opaque as u8,
        }
    }

    /// Selectors of an inbound packet: the destination is local.
    #[inline(always)]
    pub fn inbound(&self) -> Selectors {
        Selectors {
            laddr: self.dst,
            raddr: self.src,
            lport: self.dport,
            rport: self.sport,
            proto: self.proto,
            icmp_type: self.icmp[0],
            icmp_code: self.icmp[1],
            opaque: self.opaque as u8,
        }
    }

    /// Whether this is neighbour or router discovery, which always passes (RFC 4861: hop limit 255).
    #[inline(always)]
    pub fn is_neighbour_discovery(&self) -> bool {
        !self.v4 && self.proto == proto::ICMPV6 && self.ttl == 255 && self.icmp[0] >= 133 && self.icmp[0] <= 137
    }
}

impl Parsed {
    /// Whether this is an ICMP error, which quotes the packet that caused it.
    #[inline(always)]
    pub fn is_icmp_error(&self) -> bool {
        if self.opaque {
            return false;
        }
        let [kind, _] = self.icmp;
        match self.proto {
            proto::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
            proto::ICMPV6 => matches!(kind, 1..=127),
            _ => false,
        }
    }

    /// Whether this is ESP, AH or what goes between key managers: nothing that policy would seal again.
    #[inline(always)]
    pub fn is_sealed(&self) -> bool {
        let km = |port| port == 500 || port == 4500;
        match self.proto {
            proto::ESP | proto::AH => true,
            proto::UDP => km(self.sport) || km(self.dport),
            _ => false,
        }
    }

    /// The same packet on its way back: ends exchanged.
    #[inline(always)]
    pub fn reversed(mut self) -> Self {
        (self.src, self.dst) = (self.dst, self.src);
        (self.sport, self.dport) = (self.dport, self.sport);
        self
    }
}

/// The packet that an ICMP error quotes, on its way back: the flow in whose company the error travels (RFC 4301 section
/// 6.2). `None` when it cannot be read. One that goes somewhere else than the error did not cause it.
#[inline(always)]
pub fn quoted<F: Frame>(frame: &F, error: &Parsed) -> Option<Parsed> {
    let start = error.l4 + ICMP_ERROR_HEADER;
    let quoted = if error.v4 { parse_v4(frame, start) } else { parse_v6(frame, start) }?;
    Some(quoted.reversed())
}

/// What a frame holds.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// An IP packet.
    Ip(Parsed),
    /// Something else than IP.
    Other,
    /// An IP packet that is cut short or malformed.
    Malformed,
}

/// Reads the frame.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Content {
    let Some(ether_type) = frame.read::<u16>(12) else { return Content::Malformed };
    let parsed = match u16::from_be(ether_type) {
        ETH_IPV4 => parse_v4(frame, ETH_LEN),
        ETH_IPV6 => parse_v6(frame, ETH_LEN),
        _ => return Content::Other,
    };
    match parsed {
        Some(parsed) => Content::Ip(parsed),
        None => Content::Malformed,
    }
}

/// Reads an IPv4 packet whose header starts at `l3`.
#[inline(always)]
pub fn parse_v4<F: Frame>(frame: &F, l3: u32) -> Option<Parsed> {
    let words = frame.read::<[u32; 5]>(l3)?;
    let first = u32::from_be(words[0]);
    if first >> 28 != 4 {
        return None;
    }
    let header = (first >> 24 & 0xf) * 4;
    let l3_len = first & 0xffff;
    if header < 20 || l3_len < header {
        return None;
    }
    let fragment = u32::from_be(words[1]) & 0xffff;
    let third = u32::from_be(words[2]);
    let mut parsed = Parsed {
        src: Addr::v4(words[3]),
        dst: Addr::v4(words[4]),
        sport: 0,
        dport: 0,
        icmp: [0; 2],
        proto: (third >> 16) as u8,
        v4: true,
        fragment: fragment & 0x3fff != 0,
        ident: u32::from_be(words[1]) >> 16,
        opaque: fragment & 0x1fff != 0,
        tos: (first >> 16) as u8,
        ttl: (third >> 24) as u8,
        df: fragment & 0x4000 != 0,
        l4: l3 + header,
        next_header: l3 + 9,
        l3_len,
    };
    read_ports(frame, l3, &mut parsed);
    Some(parsed)
}

/// Whether these are extension headers that are read over, and no upper-layer protocol.
#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, proto::HOP_BY_HOP | proto::ROUTING | proto::DEST_OPTIONS | proto::FRAGMENT)
}

/// Reads an IPv6 packet whose header starts at `l3`, over a bounded number of extension headers. `None` when there are
/// more, when they are cut short, and for a later fragment that begins with one: what such a packet carries cannot be
/// told. One with an IPv4-mapped address is refused as well.
#[inline(always)]
pub fn parse_v6<F: Frame>(frame: &F, l3: u32) -> Option<Parsed> {
    let words = frame.read::<[u32; 10]>(l3)?;
    let first = u32::from_be(words[0]);
    if first >> 28 != 6 {
        return None;
    }
    let (src, dst) = (Addr([words[2], words[3], words[4], words[5]]), Addr([words[6], words[7], words[8], words[9]]));
    // Here they would pass for IPv4. Nobody has such an address on the wire, and Linux drops them as well.
    if src.is_v4() || dst.is_v4() {
        return None;
    }
    let second = u32::from_be(words[1]);
    let mut parsed = Parsed {
        src,
        dst,
        sport: 0,
        dport: 0,
        icmp: [0; 2],
        proto: (second >> 8) as u8,
        v4: false,
        fragment: false,
        ident: 0,
        opaque: false,
        tos: (first >> 20) as u8,
        ttl: second as u8,
        df: true,
        l4: l3 + 40,
        next_header: l3 + 6,
        l3_len: (second >> 16) + 40,
    };
    let mut i = 0;
    while is_extension(parsed.proto) {
        // A packet that does not say what it carries fits no rule for a protocol: it is refused, where it would pass by
        // the rules for others (ARC-SPD-08).
        if i == MAX_EXTENSIONS || parsed.opaque {
            return None;
        }
        i += 1;
        if parsed.proto == proto::FRAGMENT {
            let [first, ident] = frame.read::<[u32; 2]>(parsed.l4)?;
            let [next, _, high, low] = first.to_ne_bytes();
            parsed.ident = u32::from_be(ident);
            parsed.next_header = parsed.l4;
            parsed.proto = next;
            parsed.l4 += 8;
            parsed.fragment = true;
            parsed.opaque = high != 0 || low & 0xf8 != 0;
        } else {
            let [next, len] = frame.read::<[u8; 2]>(parsed.l4)?;
            parsed.next_header = parsed.l4;
            parsed.proto = next;
            parsed.l4 += (len as u32 + 1) * 8;
        }
    }
    read_ports(frame, l3, &mut parsed);
    Some(parsed)
}

/// Reads what the upper-layer header says, as far as it lies within the packet: what a frame has behind that is padding.
#[inline(always)]
fn read_ports<F: Frame>(frame: &F, l3: u32, parsed: &mut Parsed) {
    if parsed.opaque {
        return;
    }
    let len = match parsed.proto {
        proto::TCP | proto::UDP | proto::SCTP | proto::UDP_LITE => 4,
        proto::ICMP | proto::ICMPV6 => 2,
        _ => return,
    };
    if parsed.l4 - l3 + len > parsed.l3_len {
        parsed.opaque = true;
        return;
    }
    match parsed.proto {
        proto::TCP | proto::UDP | proto::SCTP | proto::UDP_LITE => match frame.read::<[u16; 2]>(parsed.l4) {
            Some([sport, dport]) => {
                parsed.sport = u16::from_be(sport);
                parsed.dport = u16::from_be(dport);
            }
            None => parsed.opaque = true,
        },
        proto::ICMP | proto::ICMPV6 => match frame.read::<[u8; 2]>(parsed.l4) {
            Some(icmp) => parsed.icmp = icmp,
            None => parsed.opaque = true,
        },
        _ => {}
    }
}
