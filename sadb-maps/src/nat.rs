//! Checksums of transport mode through a NAT (RFC 3948 section 3.1.2): the sender summed up other addresses than the
//! receiver sees, and what it summed up is inside ESP, where no NAT can repair it.

use crate::Addr;

/// What is to be added, in ones' complement, to the inverted checksum of a segment whose sender summed up `was` and whose
/// header says `is` (RFC 1624 equation 3), source and destination. 16-bit words in memory order; 0 changes nothing.
pub fn checksum_delta(was: [Addr; 2], is: [Addr; 2]) -> u16 {
    let words = |addresses: [Addr; 2]| addresses.into_iter().flat_map(|address| address.0);
    let sum = words(was).map(|word| halves(!word)).chain(words(is).map(halves)).sum();
    // Both zeros of ones' complement are one.
    match fold(sum) {
        u16::MAX => 0,
        delta => delta,
    }
}

/// The checksum after the repair (V2-NAT-08, UDP-04).
#[inline(always)]
pub const fn repaired(sum: u16, delta: u16) -> u16 {
    !fold((!sum) as u32 + delta as u32)
}

#[inline(always)]
const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

#[inline(always)]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    /// The checksum of a pseudo header and some payload, summed up in full.
    fn full([src, dst]: [Addr; 2], payload: &[u8]) -> u16 {
        let mut octets = [src.octets(), dst.octets()].concat();
        octets.extend_from_slice(payload);
        let sum: u32 = octets.chunks(2).map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum();
        !fold(sum)
    }

    /// UDP-04: incremental repair comes to what the whole sum comes to, in both families.
    #[test]
    fn a_repaired_checksum_is_that_of_the_addresses_that_are_seen() {
        let pairs = [
            (["10.0.0.5", "203.0.113.9"], ["198.51.100.1", "192.0.2.1"]),
            (["10.0.0.5", "203.0.113.9"], ["10.0.0.5", "192.0.2.1"]),
            (["fd00::5", "2001:db8::1"], ["2001:db8:ffff::77", "2001:db8::1"]),
            // The words of one are those of the other, elsewhere.
            (["1.2.3.4", "5.6.7.8"], ["3.4.1.2", "5.6.7.8"]),
        ];
        for (was, is) in pairs {
            let (was, is) = (was.map(addr), is.map(addr));
            let delta = checksum_delta(was, is);
            for payload in 0..=u16::MAX {
                let payload = payload.to_ne_bytes();
                let (repaired, wanted) = (repaired(full(was, &payload), delta), full(is, &payload));
                // 0 and 0xffff are one number; a sum over octets that are not all zero never comes to 0xffff inverted.
                assert_eq!(repaired % u16::MAX, wanted % u16::MAX, "{was:?} {is:?} {payload:?}");
            }
        }
        let same = [addr("10.0.0.5"), addr("192.0.2.1")];
        assert_eq!(checksum_delta(same, same), 0);
        assert_eq!(checksum_delta(["1.2.3.4", "5.6.7.8"].map(addr), ["3.4.1.2", "5.6.7.8"].map(addr)), 0);
    }
}
