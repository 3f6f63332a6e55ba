//! What the modes of operation want of a block cipher: one direction of it, with its key.
//!
//! An SA enciphers or deciphers, never both, so there is no type that does both: the inbound end keeps the words of the
//! deciphering direction, the outbound end those of the enciphering one.

/// One direction of a block cipher with a key, on blocks of `WORDS` words in memory order.
pub trait Permutation<const WORDS: usize> {
    /// The image of a block.
    fn apply(&self, block: [u32; WORDS]) -> [u32; WORDS];
}
