//! ChaCha20-Poly1305 as an AEAD, RFC 8439 section 2.8: block 0 of the key stream keys Poly1305, the message starts with
//! block 1.

use super::{Cipher, Tail};
use crate::crypto::chacha20::{self, COUNTER, State};
use crate::crypto::poly1305::{self, Poly1305};
use crate::crypto::{Block16, Block64, wipe};

/// A started computation. Wiped when dropped.
pub struct ChaCha20Poly1305 {
    chacha: State,
    poly: Poly1305,
}

impl ChaCha20Poly1305 {
    /// Starts with a key and a nonce, both as words in memory order.
    #[must_use]
    pub fn new(key: &[u32; 8], nonce: [u32; 3]) -> Self {
        let mut this = Self { chacha: State::ZERO, poly: Poly1305::ZERO };
        let mut block = Block64([0; 16]);
        // SAFETY: all live and of the right type; in place.
        unsafe {
            chacha20::init(&raw mut this.chacha, key, 0, nonce);
            chacha20::xor_block(&raw const this.chacha, &raw const block, &raw mut block);
            poly1305::init(&raw mut this.poly, &raw const block);
            chacha20::set_counter(&raw mut this.chacha, 1);
        }
        wipe(&mut block.0);
        this
    }
}

impl Drop for ChaCha20Poly1305 {
    fn drop(&mut self) {
        wipe(&mut self.chacha.0);
        self.poly.wipe();
    }
}

// SAFETY: only what the pointers' types cover is touched.
unsafe impl Cipher for ChaCha20Poly1305 {
    #[inline(always)]
    unsafe fn xor64(&mut self, src: *const Block64, dst: *mut Block64) {
        // SAFETY: the caller's promise.
        unsafe { chacha20::xor_block(&raw const self.chacha, src, dst) };
        self.chacha.0[COUNTER] = self.chacha.0[COUNTER].wrapping_add(1);
    }

    #[inline(always)]
    unsafe fn xor_tail(&mut self, tail: *mut Tail, len: u32) {
        // SAFETY: the halves of the caller's tail, each in place.
        unsafe {
            let first = Tail::half(tail, false);
            self.xor64(first, first);
            if len > 64 {
                let second = Tail::half(tail, true);
                self.xor64(second, second);
            }
        }
    }

    #[inline(always)]
    unsafe fn mac64(&mut self, block: *const Block64) {
        // SAFETY: the caller's promise.
        unsafe { poly1305::block64(&raw mut self.poly, block) }
    }

    #[inline(always)]
    unsafe fn mac16(&mut self, block: *const Block16) {
        // SAFETY: the caller's promise.
        unsafe { poly1305::block16(&raw mut self.poly, block) }
    }

    #[inline(always)]
    fn lengths(aad: u32, message: u32) -> Block16 {
        Block16([aad.to_le(), 0, message.to_le(), 0])
    }

    #[inline(always)]
    fn icv(&mut self) -> Block16 {
        // SAFETY: a live field.
        unsafe { poly1305::finish(&raw const self.poly) }
    }
}
