//! HMAC (RFC 2104) with precomputed halves: an SA keeps the hash's state after the key block of the inner and of the outer
//! hash, so that a packet costs the blocks of its octets, one or two for the end of the message, and one more.
//!
//! What is authenticated in ESP begins in the packet, at the SPI, and ends with the ciphertext, or outside of the packet
//! with the high half of an extended sequence number (RFC 4303 section 2.2.1). Whole blocks are compressed where they
//! lie; the rest is brought into an [`End`] and finished there.

use super::hash::Hash;
use super::wipe;

/// What an SA keeps of its key: the states after the key blocks. Words in the order of their fields.
#[repr(C)]
pub struct Key<H: Hash> {
    /// Of the inner hash.
    pub inner: H::State,
    /// Of the outer hash.
    pub outer: H::State,
}

impl<H: Hash> Clone for Key<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Hash> Copy for Key<H> {}

/// The end of a message, outside of the packet: two blocks.
#[repr(C)]
pub struct End<H: Hash>(pub [H::Block; 2]);

/// Octets of a block of this hash.
const fn block_len<H: Hash>() -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "64 or 128")]
    {
        size_of::<H::Block>() as u32
    }
}

impl<H: Hash> End<H> {
    /// All zero.
    pub const ZERO: Self = Self([H::ZERO; 2]);

    /// Zeroes all of it.
    ///
    /// # Safety
    /// `end` is valid for writing.
    #[inline(always)]
    pub unsafe fn clear(end: *mut Self) {
        let words = end.cast::<u32>();
        let mut i = 0;
        while i < 2 * size_of::<H::Block>() / 4 {
            // SAFETY: below the size in words. Volatile, or the compiler makes a call to memset of it.
            unsafe { words.add(i).write_volatile(0) };
            i += 1;
        }
    }

    /// Sets octet `at`; positions wrap at the size.
    ///
    /// # Safety
    /// `end` is valid for writing.
    #[inline(always)]
    unsafe fn set(end: *mut Self, at: u32, octet: u8) {
        // SAFETY: the size is a power of two, and the mask keeps the octet within it.
        unsafe { end.cast::<u8>().add((at & (2 * block_len::<H>() - 1)) as usize).write(octet) }
    }

    /// Appends the high half of an extended sequence number, in memory order, behind `rest` octets, fewer than a block.
    ///
    /// # Safety
    /// `end` is valid for writing.
    #[inline(always)]
    pub unsafe fn append_word(end: *mut Self, rest: u32, word: u32) {
        let [a, b, c, d] = word.to_ne_bytes();
        // SAFETY: `set` wraps inside.
        unsafe {
            Self::set(end, rest, a);
            Self::set(end, rest + 1, b);
            Self::set(end, rest + 2, c);
            Self::set(end, rest + 3, d);
        }
    }

    /// Ends a message whose last `rest` octets (a block and 3 at most) are in `end`, zeros behind them; `total` is its
    /// whole length in octets without the key block. Gives the number of blocks to compress: 1 or 2.
    ///
    /// # Safety
    /// `end` is valid for reading and writing.
    #[inline(always)]
    pub unsafe fn finish(end: *mut Self, rest: u32, total: u32) -> u32 {
        // SAFETY: `set` wraps inside; two blocks.
        unsafe {
            Self::set(end, rest, 0x80);
            let length = total.wrapping_add(block_len::<H>());
            if rest + 1 + H::LENGTH_LEN <= block_len::<H>() {
                H::set_length(Self::block(end, false), length);
                1
            } else {
                H::set_length(Self::block(end, true), length);
                2
            }
        }
    }

    /// One of the two blocks.
    ///
    /// # Safety
    /// `end` is valid over its whole size.
    #[inline(always)]
    pub const unsafe fn block(end: *mut Self, second: bool) -> *mut H::Block {
        // SAFETY: 0 or 1 of two blocks.
        unsafe { end.cast::<H::Block>().add(second as usize) }
    }

    /// Makes the first block the only one of the outer hash: the digest of the inner hash, whose state is `inner`.
    ///
    /// # Safety
    /// `end` is valid for writing, at an address that is a multiple of four; `inner` is valid for reading and aligned.
    #[inline(always)]
    pub unsafe fn outer(end: *mut Self, inner: *const H::State) {
        // SAFETY: the caller's promise; a digest with 0x80 and length fits a block.
        unsafe {
            Self::clear(end);
            H::digest(inner, end.cast());
            Self::set(end, 4 * H::DIGEST_WORDS, 0x80);
            H::set_length(Self::block(end, false), block_len::<H>() + 4 * H::DIGEST_WORDS);
        }
    }
}

/// Prepares a key of any length (RFC 2104 section 2; ESP and AH have keys as long as the digest). For user space, when an
/// SA is installed.
#[must_use]
pub fn expand_key<H: Hash>(key: &[u8]) -> Key<H> {
    let mut digest = [0u8; 64];
    let long = key.len() > size_of::<H::Block>();
    if long {
        let mut mac = Mac::<H>::hash();
        mac.update(key);
        mac.digest_into(&mut digest);
    }
    let len = if long { 4 * H::DIGEST_WORDS as usize } else { key.len() };
    let octets = if long { digest.get(..len) } else { Some(key) };
    let this = Key {
        inner: key_block::<H>(octets.unwrap_or_default(), 0x36),
        outer: key_block::<H>(octets.unwrap_or_default(), 0x5c),
    };
    // SAFETY: a borrowed local; volatile, so that it is not optimized out.
    unsafe { (&raw mut digest).write_volatile([0; 64]) };
    this
}

/// The state after the block of `key`, which is not longer than a block, with every octet changed by `pad`.
fn key_block<H: Hash>(key: &[u8], pad: u8) -> H::State {
    let mut state = H::INITIAL;
    let mut schedule = H::SCHEDULE;
    let mut block = [pad; 128];
    block.iter_mut().zip(key).for_each(|(octet, key)| *octet ^= key);
    // SAFETY: live locals; a block is at most 128 octets.
    unsafe {
        H::compress(&raw mut state, &raw mut schedule, block.as_ptr().cast());
        (&raw mut block).write_volatile([0; 128]);
        (&raw mut schedule).write_volatile(H::SCHEDULE);
    }
    state
}

/// A computation over octets that come in pieces: for the host. Wiped when dropped.
pub struct Mac<H: Hash> {
    state: H::State,
    schedule: H::Schedule,
    end: End<H>,
    /// Octets of the unfinished block in `end`.
    rest: u32,
    /// Octets so far, without the key block.
    total: u32,
}

impl<H: Hash> Mac<H> {
    /// Starts with a key.
    #[must_use]
    pub const fn new(key: &Key<H>) -> Self {
        Self { state: key.inner, schedule: H::SCHEDULE, end: End::ZERO, rest: 0, total: 0 }
    }

    /// The bare hash, which a key longer than a block goes through.
    const fn hash() -> Self {
        // The length of the key block is added in the end, and there is none.
        let total = 0u32.wrapping_sub(block_len::<H>());
        Self { state: H::INITIAL, schedule: H::SCHEDULE, end: End::ZERO, rest: 0, total }
    }

    /// Takes in octets.
    #[expect(clippy::cast_possible_truncation, reason = "messages are packets")]
    pub fn update(&mut self, octets: &[u8]) {
        self.total = self.total.wrapping_add(octets.len() as u32);
        let missing = block_len::<H>().wrapping_sub(self.rest) as usize;
        let (first, others) = octets.split_at_checked(missing).unwrap_or((octets, &[]));
        self.fill(first);
        let mut blocks = others.chunks_exact(size_of::<H::Block>());
        for block in &mut blocks {
            // SAFETY: a whole block, and live fields.
            unsafe { H::compress(&raw mut self.state, &raw mut self.schedule, block.as_ptr().cast()) };
        }
        self.fill(blocks.remainder());
    }

    /// Takes octets, no more than are missing, into the unfinished block.
    fn fill(&mut self, octets: &[u8]) {
        for octet in octets {
            // SAFETY: a live field; `set` wraps inside.
            unsafe { End::set(&raw mut self.end, self.rest, *octet) };
            self.rest += 1;
        }
        if self.rest == block_len::<H>() {
            // SAFETY: live fields.
            unsafe {
                H::compress(&raw mut self.state, &raw mut self.schedule, End::block(&raw mut self.end, false));
                End::clear(&raw mut self.end);
            }
            self.rest = 0;
        }
    }

    /// Ends the message.
    fn finish_blocks(&mut self) {
        // SAFETY: live fields.
        unsafe {
            let blocks = End::finish(&raw mut self.end, self.rest, self.total);
            H::compress(&raw mut self.state, &raw mut self.schedule, End::block(&raw mut self.end, false));
            if blocks == 2 {
                H::compress(&raw mut self.state, &raw mut self.schedule, End::block(&raw mut self.end, true));
            }
        }
    }

    fn digest_into(&mut self, digest: &mut [u8; 64]) {
        self.finish_blocks();
        // SAFETY: a digest is at most 64 octets.
        unsafe { H::digest(&raw const self.state, digest.as_mut_ptr().cast()) };
    }

    /// The whole authenticator, untruncated: as many octets as the digest has, zeros behind.
    #[must_use]
    pub fn finish(mut self, key: &Key<H>) -> [u8; 64] {
        self.finish_blocks();
        let mut mac = [0; 64];
        // SAFETY: live fields and locals; a digest is at most 64 octets.
        unsafe {
            End::outer(&raw mut self.end, &raw const self.state);
            self.state = key.outer;
            H::compress(&raw mut self.state, &raw mut self.schedule, End::block(&raw mut self.end, false));
            H::digest(&raw const self.state, mac.as_mut_ptr().cast());
        }
        mac
    }
}

impl<H: Hash> Drop for Mac<H> {
    fn drop(&mut self) {
        // SAFETY: live fields; volatile, so that it is not optimized out.
        unsafe {
            (&raw mut self.state).write_volatile(H::INITIAL);
            (&raw mut self.schedule).write_volatile(H::SCHEDULE);
            End::clear(&raw mut self.end);
        }
        wipe(core::slice::from_mut(&mut self.rest));
    }
}
