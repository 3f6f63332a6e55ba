//! Small helpers of the checks.

/// The octets with one bit flipped.
pub(crate) fn flip(octets: &[u8], bit: usize) -> Vec<u8> {
    let mut forged = octets.to_vec();
    if let Some(octet) = forged.get_mut(bit / 8) {
        *octet ^= 1 << (bit % 8);
    }
    forged
}

/// The Internet checksum over whole 16-bit words, not complemented; 0xffff for a header that is right (RFC 1071).
pub(crate) fn sum(octets: &[u8]) -> u16 {
    let words = octets.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let total: u32 = words.sum();
    let folded = (total & 0xffff) + (total >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}
