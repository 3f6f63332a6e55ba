//! Cipher block chaining (SP 800-38A section 6.2), a block at a time: RFC 3602 for AES, RFC 2451 for ciphers of 64-bit
//! blocks. IVs are made by enciphering a number (SP 800-38A appendix C, first method), for nothing better than a counter
//! is at hand where packets are sealed, and a counter alone could be predicted.

use super::permutation::Permutation;
use super::{load, store};

/// The `WORDS` words at `p`, at any alignment.
///
/// # Safety
/// `p` is valid for reading.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "below the number of words")]
unsafe fn load_block<const WORDS: usize>(p: *const [u32; WORDS]) -> [u32; WORDS] {
    let mut block = [0; WORDS];
    let mut i = 0;
    while i < WORDS {
        // SAFETY: below the number of words; the caller's promise.
        block[i] = unsafe { load(p, i) };
        i += 1;
    }
    block
}

/// Puts a block at `p`, at any alignment.
///
/// # Safety
/// `p` is valid for writing.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "below the number of words")]
unsafe fn store_block<const WORDS: usize>(p: *mut [u32; WORDS], block: [u32; WORDS]) {
    let mut i = 0;
    while i < WORDS {
        // SAFETY: below the number of words; the caller's promise.
        unsafe { store(p, i, block[i]) };
        i += 1;
    }
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "below the number of words")]
fn xor<const WORDS: usize>(a: [u32; WORDS], b: [u32; WORDS]) -> [u32; WORDS] {
    let mut out = a;
    let mut i = 0;
    while i < WORDS {
        out[i] ^= b[i];
        i += 1;
    }
    out
}

/// Enciphers one block, `src` to `dst`, which may be the same. `chain` holds the IV before the first block of a message
/// and the latest block of ciphertext from then on.
///
/// # Safety
/// `chain` is valid for reading and writing, `src` for reading and `dst` for writing, all at any alignment.
#[inline(always)]
pub unsafe fn encrypt_block<const WORDS: usize, P: Permutation<WORDS>>(
    forward: &P,
    chain: *mut [u32; WORDS],
    src: *const [u32; WORDS],
    dst: *mut [u32; WORDS],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let block = forward.apply(xor(load_block(src), load_block(chain)));
        store_block(chain, block);
        store_block(dst, block);
    }
}

/// Deciphers one block, `src` to `dst`, which may be the same. `chain` is as with [`encrypt_block`].
///
/// # Safety
/// As [`encrypt_block`].
#[inline(always)]
pub unsafe fn decrypt_block<const WORDS: usize, P: Permutation<WORDS>>(
    backward: &P,
    chain: *mut [u32; WORDS],
    src: *const [u32; WORDS],
    dst: *mut [u32; WORDS],
) {
    // SAFETY: the caller's promise; the ciphertext is read before it may be overwritten.
    unsafe {
        let cipher = load_block(src);
        let plain = xor(backward.apply(cipher), load_block(chain));
        store_block(chain, cipher);
        store_block(dst, plain);
    }
}

/// Takes one block into the CBC-MAC `mac`, which starts as zero.
///
/// # Safety
/// `mac` is valid for reading and writing, `block` for reading, both at any alignment.
#[inline(always)]
pub unsafe fn mac_block<const WORDS: usize, P: Permutation<WORDS>>(
    forward: &P,
    mac: *mut [u32; WORDS],
    block: *const [u32; WORDS],
) {
    // SAFETY: the caller's promise.
    unsafe { store_block(mac, forward.apply(xor(load_block(mac), load_block(block)))) }
}

/// The IV for the packet with this number, in memory order: the number, in network byte order behind zeros, enciphered
/// under the key of the SA. Unpredictable as long as no number is used twice under one key (SP 800-38A appendix C,
/// RFC 3602 section 2.1, RFC 2451 section 2.1).
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
#[expect(clippy::indexing_slicing, reason = "a block has two words at least")]
pub fn iv<const WORDS: usize, P: Permutation<WORDS>>(forward: &P, number: u64) -> [u32; WORDS] {
    const { assert!(WORDS >= 2) };
    let mut block = [0; WORDS];
    block[WORDS - 2] = ((number >> 32) as u32).to_be();
    block[WORDS - 1] = (number as u32).to_be();
    forward.apply(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not a cipher, but told apart from its inverse.
    struct Rotate(u32);

    impl Permutation<2> for Rotate {
        fn apply(&self, block: [u32; 2]) -> [u32; 2] {
            block.map(|word| word.rotate_left(self.0))
        }
    }

    #[test]
    fn blocks_are_chained_and_unchained_in_place() {
        let plain = [[1u32, 2], [3, 4], [5, 6]];
        let (iv, mut chain) = ([7, 8], [7, 8]);
        let mut message = plain;
        for block in &mut message {
            // SAFETY: live locals; in place.
            unsafe { encrypt_block(&Rotate(5), &raw mut chain, &raw const *block, &raw mut *block) };
        }
        assert_eq!(message[0], [(1u32 ^ 7) << 5, (2 ^ 8) << 5]);
        assert_eq!(message[1], [(3 ^ message[0][0]).rotate_left(5), (4 ^ message[0][1]).rotate_left(5)]);
        assert_eq!(chain, message[2]);
        let mut mac = [0; 2];
        chain = [0; 2];
        for block in &plain {
            let mut out = [0; 2];
            // SAFETY: live locals.
            unsafe {
                mac_block(&Rotate(5), &raw mut mac, block);
                encrypt_block(&Rotate(5), &raw mut chain, block, &raw mut out);
            }
            assert_eq!(mac, out);
        }
        chain = iv;
        for block in &mut message {
            // SAFETY: live locals; in place.
            unsafe { decrypt_block(&Rotate(27), &raw mut chain, &raw const *block, &raw mut *block) };
        }
        assert_eq!(message, plain);
    }

    /// ESP-FMT-11: what is enciphered is the number, big-endian at the end of the block.
    #[test]
    fn an_iv_is_the_number_enciphered() {
        let block = iv(&Rotate(0), 0x0102_0304_0506_0708);
        assert_eq!(block.map(u32::to_ne_bytes).concat(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(iv(&Rotate(3), 0x0102_0304_0506_0708), Rotate(3).apply(block));
    }
}
