//! Sizes and headers of ESP packets: RFC 4303 section 2, RFC 3948 section 2.1, RFC 4301 section 5.1.2.

use sadb_maps::Addr;
use sadb_maps::sa::{OuterHeader, SaStatic, flag, outer};

/// SPI and sequence number.
pub const ESP_HEADER: u32 = 8;
/// UDP header of the encapsulation.
pub const UDP_HEADER: u32 = 8;
/// IPv4 header without options.
pub const IPV4_HEADER: u32 = 20;
/// IPv6 header.
pub const IPV6_HEADER: u32 = 40;
/// Alignment of ciphertext where the cipher asks for none (RFC 4303 section 2.4).
pub const ALIGN: u32 = 4;
/// Pad length and next header.
const TRAILER: u32 = 2;

/// How one SA lays out a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Octets of the new outer IP header; 0 in transport mode.
    pub outer: u32,
    /// Octets of the UDP header; 0 without encapsulation.
    pub udp: u32,
    /// Octets of the explicit IV.
    pub iv: u32,
    /// Octets of the ICV.
    pub icv: u32,
    /// Octets that payload, padding and trailer are a multiple of: a power of two, at least [`ALIGN`].
    pub align: u32,
}

impl Geometry {
    /// The layout of `sa`.
    #[inline(always)]
    pub fn of(sa: &SaStatic) -> Self {
        let outer = match (sa.flags & flag::TUNNEL != 0, sa.dst.is_v4()) {
            (false, _) => 0,
            (true, true) => IPV4_HEADER,
            (true, false) => IPV6_HEADER,
        };
        Self {
            outer,
            udp: if sa.flags & flag::UDP_ENCAP != 0 { UDP_HEADER } else { 0 },
            iv: sa.iv_len as u32,
            icv: sa.icv_len as u32,
            align: if sa.align as u32 > ALIGN { sa.align as u32 } else { ALIGN },
        }
    }

    /// Octets between the IP header in front and the ciphertext.
    #[inline(always)]
    pub const fn front(&self) -> u32 {
        self.outer + self.udp + ESP_HEADER + self.iv
    }

    /// Padding for a payload of `len` octets (RFC 4303 section 2.4).
    #[inline(always)]
    pub const fn padding(&self, len: u32) -> u32 {
        (self.align - ((len + TRAILER) & (self.align - 1))) & (self.align - 1)
    }

    /// Octets behind a payload of `len` octets: padding, pad length, next header, ICV.
    #[inline(always)]
    pub const fn back(&self, len: u32) -> u32 {
        self.padding(len) + TRAILER + self.icv
    }

    /// The longest IP packet that leaves in one piece where the path takes `mtu` octets. `header` is the length of the
    /// IP header that stays in front in transport mode, 0 in tunnel mode. 0 when not even an empty packet fits.
    #[inline(always)]
    pub const fn inner_limit(&self, mtu: u32, header: u32) -> u32 {
        let fixed = header + self.front() + self.icv;
        if mtu < fixed + self.align {
            return 0;
        }
        header + ((mtu - fixed) & !(self.align - 1)) - TRAILER
    }
}

/// The Internet checksum of an IPv4 header of five words, whose checksum field is zero.
#[inline(always)]
pub const fn ipv4_checksum(words: &[u32; 5]) -> u16 {
    let mut sum = words[0] as u64 + words[1] as u64 + words[2] as u64 + words[3] as u64 + words[4] as u64;
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// What a new IP header says beside addresses and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Protocol behind the header.
    pub proto: u8,
    /// DSCP and ECN octet.
    pub tos: u8,
    /// Don't-fragment bit; IPv4 only.
    pub df: bool,
    /// TTL or hop limit.
    pub ttl: u8,
}

impl Fields {
    /// Those of the outer header of a tunnel for a packet with this DSCP and ECN octet and DF bit (RFC 4301 section
    /// 5.1.2, RFC 6040 section 4.1).
    #[inline(always)]
    pub const fn outer(policy: &OuterHeader, proto: u8, tos: u8, df: bool) -> Self {
        let dscp = if policy.dscp & outer::FIXED_DSCP != 0 { policy.dscp << 2 } else { tos & 0xfc };
        let ecn = if policy.ecn == outer::ECN_COMPATIBLE { 0 } else { tos & 3 };
        let df = match policy.df {
            outer::COPY_DF => df,
            outer::SET_DF => true,
            _ => false,
        };
        Self { proto, tos: dscp | ecn, df, ttl: if policy.ttl == 0 { 64 } else { policy.ttl } }
    }

    /// Those of a header for packets that this host makes itself.
    #[inline(always)]
    pub const fn plain(proto: u8) -> Self {
        Self { proto, tos: 0, df: false, ttl: 64 }
    }
}

/// An IPv4 header without options, words in memory order; `len` is the length of the packet.
#[inline(always)]
pub fn ipv4_header(src: Addr, dst: Addr, fields: Fields, id: u16, len: u32) -> [u32; 5] {
    let mut words = [
        (0x4500_0000 | (fields.tos as u32) << 16 | (len & 0xffff)).to_be(),
        ((id as u32) << 16 | if fields.df { 0x4000 } else { 0 }).to_be(),
        ((fields.ttl as u32) << 24 | (fields.proto as u32) << 16).to_be(),
        src.0[3],
        dst.0[3],
    ];
    // The checksum is the second half of the third word, in memory order.
    let sum = ipv4_checksum(&words);
    words[2] = (u32::from_be(words[2]) | u16::from_be(sum) as u32).to_be();
    words
}

/// An IPv6 header, flow label zero, words in memory order; `len` is the length behind the header.
#[inline(always)]
pub fn ipv6_header(src: Addr, dst: Addr, fields: Fields, len: u32) -> [u32; 10] {
    [
        (6 << 28 | (fields.tos as u32) << 20).to_be(),
        ((len & 0xffff) << 16 | (fields.proto as u32) << 8 | fields.ttl as u32).to_be(),
        src.0[0],
        src.0[1],
        src.0[2],
        src.0[3],
        dst.0[0],
        dst.0[1],
        dst.0[2],
        dst.0[3],
    ]
}

/// ECN of a decapsulated packet (RFC 6040 section 4.2): the new TOS octet, or `None` when the packet must be dropped.
/// `inner` and `outer` are whole TOS octets or traffic classes.
#[inline(always)]
pub const fn decapsulated_tos(inner: u8, outer: u8) -> Option<u8> {
    match (inner & 3, outer & 3) {
        (0, 3) => None,
        (0, _) | (3, _) => Some(inner),
        (_, 3) => Some(inner | 3),
        (2, 1) => Some((inner & !3) | 1),
        _ => Some(inner),
    }
}

/// Whether no tunnel that works sends these two together (RFC 6040 section 4.2, the entries to be logged): a capable
/// outer header around an inner one that is not, or ECT(1) around CE. Not counted here is what must be dropped.
#[inline(always)]
pub const fn is_unusual_ecn(inner: u8, outer: u8) -> bool {
    matches!((inner & 3, outer & 3), (0, 1 | 2) | (3, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL_V4: Geometry = Geometry { outer: 20, udp: 0, iv: 8, icv: 16, align: 4 };

    /// TUN-10: the largest announced packet leaves in one piece, one octet more does not.
    #[test]
    fn the_limit_is_exact() {
        for outer in [0, 20, 40] {
            for udp in [0, 8] {
                for (header, align) in if outer == 0 { [(20, 4), (40, 16)] } else { [(0, 8), (0, 4)] } {
                    let g = Geometry { outer, udp, iv: 8, icv: 16, align };
                    for mtu in 200..1600 {
                        let limit = g.inner_limit(mtu, header);
                        let size = |l3: u32| header + g.front() + (l3 - header) + g.back(l3 - header);
                        assert!(size(limit) <= mtu, "{g:?} {mtu} {limit}");
                        assert!(size(limit + 1) > mtu, "{g:?} {mtu} {limit}");
                    }
                }
            }
        }
        assert_eq!(TUNNEL_V4.inner_limit(1500, 0), 1446);
    }

    /// ESP-FMT-07: padding aligns pad length and next header to four octets, or to the block of the cipher.
    #[test]
    fn padding_aligns_the_trailer() {
        for align in [4, 8, 16] {
            let geometry = Geometry { align, ..TUNNEL_V4 };
            for len in 0..100 {
                assert_eq!((len + geometry.padding(len) + 2) % align, 0);
                assert!(geometry.padding(len) < align);
            }
        }
    }

    /// TUN-01.
    #[test]
    fn ipv4_header_checksum_verifies() {
        let (src, dst) = (Addr::v4(u32::from_ne_bytes([192, 0, 2, 1])), Addr::v4(0x0102_0304));
        let h = ipv4_header(src, dst, Fields { proto: 50, tos: 0xb9, df: true, ttl: 64 }, 7, 1500);
        assert_eq!(ipv4_checksum(&h), 0);
        let octets: Vec<u8> = h.iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(octets[..10], [0x45, 0xb9, 0x05, 0xdc, 0, 7, 0x40, 0, 64, 50]);
        assert_eq!(octets[12..16], [192, 0, 2, 1]);
    }

    /// Every way to make an outer header, IPv4 and IPv6.
    #[test]
    fn outer_headers_follow_the_policy_of_the_sa() {
        for dscp in [0, outer::FIXED_DSCP, outer::FIXED_DSCP | 46] {
            for ecn in [outer::ECN_NORMAL, outer::ECN_COMPATIBLE] {
                for (df, ttl) in [(outer::CLEAR_DF, 0), (outer::COPY_DF, 1), (outer::SET_DF, 255)] {
                    for (inner_tos, inner_df) in [(0xb9, false), (0x02, true)] {
                        let fields = Fields::outer(&OuterHeader { dscp, df, ttl, ecn }, 50, inner_tos, inner_df);
                        let v4: Vec<u8> = ipv4_header(Addr::v4(1), Addr::v4(2), fields, 7, 99)
                            .iter()
                            .flat_map(|w| w.to_ne_bytes())
                            .collect();
                        let v6: Vec<u8> = ipv6_header(Addr([1; 4]), Addr([2; 4]), fields, 99)
                            .iter()
                            .flat_map(|w| w.to_ne_bytes())
                            .collect();
                        let want_dscp = if dscp == 0 { inner_tos >> 2 } else { dscp & 63 };
                        let want_ecn = if ecn == outer::ECN_NORMAL { inner_tos & 3 } else { 0 };
                        let tos = want_dscp << 2 | want_ecn;
                        let want_df = df == outer::SET_DF || (df == outer::COPY_DF && inner_df);
                        let want_ttl = if ttl == 0 { 64 } else { ttl };
                        assert_eq!((v4[1], v4[6] & 0x40 != 0, v4[8]), (tos, want_df, want_ttl));
                        assert_eq!((v6[0], v6[1], v6[7]), (0x60 | tos >> 4, tos << 4, want_ttl));
                    }
                }
            }
        }
    }

    /// TUN-07, the whole table.
    #[test]
    fn ecn_of_decapsulated_packets() {
        let table = [
            [Some(0), Some(0), Some(0), None],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(2), Some(1), Some(2), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in table.iter().enumerate() {
            for (outer, want) in row.iter().enumerate() {
                assert_eq!(decapsulated_tos(0xa0 | inner as u8, outer as u8), want.map(|w: u8| 0xa0 | w));
            }
        }
    }
}
