//! The hashes below HMAC, a block at a time: MD5 (RFC 1321), SHA-1 and SHA-2 (FIPS 180-4). Constant time.
//!
//! A message schedule does not fit on the stack of a program in the kernel: whoever calls brings the memory for it.

mod md5;
mod sha1;
mod sha256;
mod sha512;

pub use md5::Md5;
pub use sha1::Sha1;
pub use sha256::Sha256;
pub use sha512::{Sha384, Sha512};

/// A hash of the Merkle-Damgård kind.
///
/// # Safety
/// The functions touch no more memory than their pointers' types and docs say. [`State`](Self::State) and
/// [`Block`](Self::Block) are plain words without padding, valid with any bits; a block is 64 or 128 octets.
pub unsafe trait Hash {
    /// The chaining value.
    type State: Copy;
    /// Room for the message schedule. Contents do not matter, but are secret afterwards.
    type Schedule: Copy;
    /// What is compressed at a time.
    type Block: Copy;
    /// The chaining value before the first block.
    const INITIAL: Self::State;
    /// A schedule to start with.
    const SCHEDULE: Self::Schedule;
    /// A block of zeros.
    const ZERO: Self::Block;
    /// Words of the digest, which may be fewer than those of the state.
    const DIGEST_WORDS: u32;
    /// Octets of the length that ends a message: 8 or 16.
    const LENGTH_LEN: u32;

    /// Takes one block into `state`.
    ///
    /// # Safety
    /// `state` is valid for reading and writing, `schedule` for writing, both aligned; `block` is valid for reading at
    /// any alignment. None overlaps another.
    unsafe fn compress(state: *mut Self::State, schedule: *mut Self::Schedule, block: *const Self::Block);

    /// Puts the length of a message, in octets, at the end of its last block, which is zero there.
    ///
    /// # Safety
    /// `block` is valid for writing, at any alignment.
    unsafe fn set_length(block: *mut Self::Block, octets: u32);

    /// Puts the digest that a state stands for at `to`, in memory order.
    ///
    /// # Safety
    /// `state` is valid for reading and aligned, `to` for writing [`DIGEST_WORDS`](Self::DIGEST_WORDS) words, at any
    /// alignment.
    unsafe fn digest(state: *const Self::State, to: *mut u32);
}
