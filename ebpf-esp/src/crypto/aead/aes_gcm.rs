//! AES-GCM as an AEAD with a nonce of 96 bits, SP 800-38D section 7: counter block 1 masks the tag, the
//! message starts with block 2. Key lengths of 128, 192 and 256 bits.

use super::{Cipher, Tail};
use crate::crypto::aes::{self, Counter, TABLES};
use crate::crypto::ghash::{self, TABLE_WORDS, Table};
use crate::crypto::{Block16, Block64, load, wipe};

/// What an SA keeps: key schedule and GHASH table. Wiped when dropped.
pub struct AesGcmKey {
    schedule: [u32; aes::SCHEDULE_WORDS],
    rounds: u32,
    table: Table,
}

impl AesGcmKey {
    /// Prepares a key of 16, 24 or 32 octets; `None` for any other length.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut this = Self { schedule: [0; aes::SCHEDULE_WORDS], rounds: 0, table: [0; TABLE_WORDS] };
        this.rounds = aes::expand_key(key, &mut this.schedule)?;
        let mut h = hash_key(&this.schedule, this.rounds);
        ghash::fill_table(&mut this.table, &h);
        wipe(&mut h.0);
        Some(this)
    }
}

impl Drop for AesGcmKey {
    fn drop(&mut self) {
        wipe(&mut self.schedule);
        wipe(&mut self.table);
    }
}

/// The hash key of GCM: the all-zero block enciphered.
#[must_use]
pub fn hash_key(schedule: &[u32; aes::SCHEDULE_WORDS], rounds: u32) -> Block16 {
    let mut block = Block16([0; 4]);
    // SAFETY: all live; in place.
    unsafe { aes::encrypt_block(&TABLES, schedule, rounds, &raw const block, &raw mut block) };
    block
}

/// A started computation. Wiped when dropped.
pub struct AesGcm<'a> {
    schedule: &'a [u32; aes::SCHEDULE_WORDS],
    rounds: u32,
    table: &'a Table,
    nonce: [u32; 3],
    counter: Counter,
    /// Number of the next key stream block.
    number: u32,
    hash: Block16,
}

impl<'a> AesGcm<'a> {
    /// Starts with a nonce as words in memory order.
    #[must_use]
    pub fn new(key: &'a AesGcmKey, nonce: [u32; 3]) -> Self {
        Self::with_parts(&key.schedule, key.rounds, &key.table, nonce)
    }

    /// Starts with key schedule, rounds and table, wherever they are kept.
    #[must_use]
    pub fn with_parts(
        schedule: &'a [u32; aes::SCHEDULE_WORDS],
        rounds: u32,
        table: &'a Table,
        nonce: [u32; 3],
    ) -> Self {
        let (counter, hash) = (Counter::ZERO, Block16([0; 4]));
        let mut this = Self { schedule, rounds, table, nonce, counter, number: 2, hash };
        // SAFETY: all live.
        unsafe { aes::counter_init(&raw mut this.counter, &TABLES, schedule, nonce, 0) };
        this
    }

    /// XORs the next key stream block into `src`, giving `dst`.
    #[inline(always)]
    unsafe fn xor16(&mut self, src: *const Block16, dst: *mut Block16) {
        // SAFETY: the caller's promise; the counter was prepared for these upper octets.
        unsafe {
            aes::counter_xor(&self.counter, &TABLES, self.schedule, self.rounds, self.number, src, dst);
            self.number = self.number.wrapping_add(1);
            if self.number & 0xff == 0 {
                aes::counter_init(&raw mut self.counter, &TABLES, self.schedule, self.nonce, self.number);
            }
        }
    }
}

impl Drop for AesGcm<'_> {
    fn drop(&mut self) {
        self.counter.wipe();
        wipe(&mut self.hash.0);
    }
}

// SAFETY: only what the pointers' types cover is touched.
unsafe impl Cipher for AesGcm<'_> {
    #[inline(always)]
    unsafe fn xor64(&mut self, src: *const Block64, dst: *mut Block64) {
        let (src, dst) = (src.cast::<Block16>(), dst.cast::<Block16>());
        // SAFETY: four blocks of 16 octets are the 64.
        unsafe {
            self.xor16(src, dst);
            self.xor16(src.add(1), dst.add(1));
            self.xor16(src.add(2), dst.add(2));
            self.xor16(src.add(3), dst.add(3));
        }
    }

    #[inline(always)]
    unsafe fn xor_tail(&mut self, tail: *mut Tail, len: u32) {
        let mut i = 0;
        while i << 4 < len && i < 8 {
            // SAFETY: one of the eight blocks of the caller's tail, in place.
            unsafe {
                let block = Tail::block16(tail, i);
                self.xor16(block, block);
            }
            i += 1;
        }
    }

    #[inline(always)]
    unsafe fn mac64(&mut self, block: *const Block64) {
        // SAFETY: the caller's promise.
        unsafe { ghash::block64(&raw mut self.hash, self.table, block) }
    }

    #[inline(always)]
    unsafe fn mac16(&mut self, block: *const Block16) {
        // SAFETY: the caller's promise.
        unsafe { ghash::block16(&raw mut self.hash, self.table, block) }
    }

    #[inline(always)]
    fn lengths(aad: u32, message: u32) -> Block16 {
        // In bits, as two 64-bit numbers.
        Block16([(aad >> 29).to_be(), (aad << 3).to_be(), (message >> 29).to_be(), (message << 3).to_be()])
    }

    #[inline(always)]
    fn icv(&mut self) -> Block16 {
        let [a, b, c] = self.nonce;
        let mut mask = Block16([a, b, c, 1u32.to_be()]);
        let hash = &self.hash;
        // SAFETY: live locals and fields; in place.
        unsafe {
            aes::encrypt_block(&TABLES, self.schedule, self.rounds, &raw const mask, &raw mut mask);
            Block16([
                load(hash, 0) ^ mask.0[0],
                load(hash, 1) ^ mask.0[1],
                load(hash, 2) ^ mask.0[2],
                load(hash, 3) ^ mask.0[3],
            ])
        }
    }
}
