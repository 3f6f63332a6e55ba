//! Checksums, the slow way.

/// The one's complement sum of RFC 1071, an end-around carry at a time.
pub(crate) fn sum(octets: &[u8]) -> u16 {
    octets.chunks(2).fold(0, |sum: u16, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum + u16::from(carry)
    })
}
