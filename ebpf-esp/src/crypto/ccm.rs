//! CCM as ESP uses it (RFC 3610, RFC 4309): a CBC-MAC over lengths, nonce, additional data and plaintext, and counter mode
//! over ICV (block 0) and payload (from block 1). The blocks that are not part of the packet are made here; the rest is
//! [`cbc::mac_block`](super::cbc::mac_block) and [`Counter`](super::aes::Counter).
//!
//! The length of a message takes four octets, so nonces have eleven: three of salt, eight of IV. An SA keeps its salt
//! behind the octet that starts counter blocks, as [`salt_word`] makes it: salt word and IV are then what
//! [`counter_init`](super::aes::counter_init) takes, as with every other counter mode.

use super::Block16;
use super::aead::Aad;

/// The octet that starts a counter block: four octets of counter, less one (RFC 3610 section 2.3).
const COUNTER_FLAGS: u8 = 3;

/// What an SA keeps of its salt, in memory order.
#[must_use]
pub const fn salt_word(salt: [u8; 3]) -> u32 {
    u32::from_ne_bytes([COUNTER_FLAGS, salt[0], salt[1], salt[2]])
}

/// The block that the CBC-MAC starts with (RFC 3610 section 2.2), for a message of `len` octets with an ICV of 8, 12 or
/// 16 and with additional data.
#[inline(always)]
#[must_use]
pub const fn first_block(salt_word: u32, iv: [u32; 2], icv_len: u32, len: u32) -> Block16 {
    let flags = 0x40 | ((icv_len.wrapping_sub(2) >> 1) & 7) << 3 | COUNTER_FLAGS as u32;
    let salted = ((u32::from_le(salt_word) & !0xff) | flags).to_le();
    Block16([salted, iv[0], iv[1], len.to_be()])
}

/// The block of the additional data: its length in two octets, 8 or 12 octets, zeros.
#[inline(always)]
#[must_use]
pub const fn aad_block(aad: &Aad) -> Block16 {
    let [a, b, c, _] = aad.block.0;
    let (a, b, c) = (u32::from_le(a), u32::from_le(b), u32::from_le(c));
    // The length is below 256, so that its first octet is zero.
    Block16([
        ((aad.len & 0xff) << 8 | a << 16).to_le(),
        (a >> 16 | b << 16).to_le(),
        (b >> 16 | c << 16).to_le(),
        (c >> 16).to_le(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(block: Block16) -> Vec<u8> {
        block.0.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    /// ALG-23: salt of 3, IV of 8, additional data as with GCM.
    #[test]
    fn alg_23_blocks_of_rfc4309_4_and_5() {
        let iv = [u32::from_ne_bytes([4, 5, 6, 7]), u32::from_ne_bytes([8, 9, 10, 11])];
        for (icv_len, flags) in [(8, 0x5b), (12, 0x6b), (16, 0x7b)] {
            let block = octets(first_block(salt_word([1, 2, 3]), iv, icv_len, 0x0102_0304));
            assert_eq!(block, [flags, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3, 4]);
        }
        let plain = Aad::new(0x0102_0304, 0x1112_1314_2122_2324, false);
        assert_eq!(octets(aad_block(&plain)), [0, 8, 1, 2, 3, 4, 0x21, 0x22, 0x23, 0x24, 0, 0, 0, 0, 0, 0]);
        let esn = Aad::new(0x0102_0304, 0x1112_1314_2122_2324, true);
        let expected = [0, 12, 1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0, 0];
        assert_eq!(octets(aad_block(&esn)), expected);
    }
}
