//! GMAC (RFC 4543): GCM that enciphers nothing and authenticates everything, in ESP with NULL encryption and in AH.
//!
//! In ESP the additional data is SPI, sequence number (both halves with ESN), IV, payload and trailer: without ESN that is
//! the packet as it lies there, with ESN [`first_block`] and then the packet from [`SECOND_BLOCK`] on.

use super::aes::{self, Forward, SCHEDULE_WORDS};
use super::ghash::{self, Table};
use super::permutation::Permutation;
use super::{Block16, load, wipe};

/// With ESN, the second block of additional data starts so many octets behind the start of the ESP header: at the second
/// half of the IV.
pub const SECOND_BLOCK: u32 = 12;

/// With ESN, the first block of additional data: SPI, both halves of the sequence number, the first half of the IV; all
/// words in memory order.
#[inline(always)]
#[must_use]
pub const fn first_block(spi: u32, seq_high: u32, seq_low: u32, iv: u32) -> Block16 {
    Block16([spi, seq_high, seq_low, iv])
}

/// The block of lengths that ends the hash, for so many octets of additional data.
#[inline(always)]
#[must_use]
pub const fn lengths(len: u32) -> Block16 {
    Block16([(len >> 29).to_be(), (len << 3).to_be(), 0, 0])
}

/// The block that is enciphered to mask the hash.
#[inline(always)]
#[must_use]
pub const fn mask_block(nonce: [u32; 3]) -> Block16 {
    Block16([nonce[0], nonce[1], nonce[2], 1u32.to_be()])
}

/// A computation over octets that come in pieces: for the host. Wiped when dropped.
pub struct Gmac<'a> {
    forward: Forward,
    table: &'a Table,
    nonce: [u32; 3],
    hash: Block16,
    block: [u8; 16],
    /// Octets so far.
    len: u32,
}

impl<'a> Gmac<'a> {
    /// Starts with a key and a nonce in memory order: salt, then IV.
    #[must_use]
    pub const fn new(schedule: &'a [u32; SCHEDULE_WORDS], rounds: u32, table: &'a Table, nonce: [u32; 3]) -> Self {
        // SAFETY: the static tables, and a schedule that is borrowed as long as the value.
        let forward = unsafe { Forward::new(&raw const aes::TABLES, schedule, rounds) };
        Self { forward, table, nonce, hash: Block16([0; 4]), block: [0; 16], len: 0 }
    }

    /// Takes in octets.
    pub fn update(&mut self, octets: &[u8]) {
        for octet in octets {
            if let Some(slot) = self.block.get_mut(self.len as usize & 15) {
                *slot = *octet;
            }
            self.len = self.len.wrapping_add(1);
            if self.len & 15 == 0 {
                self.absorb();
            }
        }
    }

    fn absorb(&mut self) {
        // SAFETY: live fields.
        unsafe { ghash::block16(&raw mut self.hash, self.table, self.block.as_ptr().cast()) };
        self.block = [0; 16];
    }

    /// The tag, of which an ICV is the whole (RFC 4543 section 3.4).
    #[must_use]
    pub fn finish(mut self) -> Block16 {
        if self.len & 15 != 0 {
            self.absorb();
        }
        let lengths = lengths(self.len);
        // SAFETY: live fields and locals.
        unsafe { ghash::block16(&raw mut self.hash, self.table, &raw const lengths) };
        let [a, b, c, d] = self.forward.apply(mask_block(self.nonce).0);
        let hash = &self.hash;
        // SAFETY: four words of a field.
        unsafe { Block16([a ^ load(hash, 0), b ^ load(hash, 1), c ^ load(hash, 2), d ^ load(hash, 3)]) }
    }
}

impl Drop for Gmac<'_> {
    fn drop(&mut self) {
        wipe(&mut self.hash.0);
    }
}
