//! AES-CMAC (SP 800-38B, RFC 4494) and AES-XCBC-MAC (RFC 3566): the CBC-MAC of a message whose last block is changed by
//! one of two subkeys. They differ in how the three keys are made. AES-128 only, the ICV is the first 12 octets.

use super::aes::{self, Forward, SCHEDULE_WORDS};
use super::cbc::mac_block;
use super::permutation::Permutation;
use super::{Block16, load, store, wipe};

/// Rounds of AES-128.
pub const ROUNDS: u32 = 10;

/// Where the subkey for a whole last block is in the schedule: an AES-128 schedule leaves words 40 to 55 free.
pub const SUBKEY_WHOLE: usize = 40;

/// Where the subkey for a padded last block is.
pub const SUBKEY_PADDED: usize = 44;

/// Prepares a key of AES-CMAC. For user space, when an SA is installed.
pub fn expand_cmac_key(key: &[u8; 16], schedule: &mut [u32; SCHEDULE_WORDS]) {
    if aes::expand_key(key, schedule).is_none() {
        return;
    }
    let l = forward(schedule).apply([0; 4]);
    let whole = double(l);
    let padded = double(whole);
    set_subkeys(schedule, whole, padded);
}

/// Prepares a key of AES-XCBC-MAC. For user space, when an SA is installed.
pub fn expand_xcbc_key(key: &[u8; 16], schedule: &mut [u32; SCHEDULE_WORDS]) {
    if aes::expand_key(key, schedule).is_none() {
        return;
    }
    let [mut first, whole, padded] = {
        let forward = forward(schedule);
        [0x0101_0101, 0x0202_0202, 0x0303_0303].map(|word| forward.apply([word; 4]))
    };
    let mut octets = [0; 16];
    for (four, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(first) {
        *four = word.to_ne_bytes();
    }
    if aes::expand_key(&octets, schedule).is_some() {
        set_subkeys(schedule, whole, padded);
    }
    wipe(&mut first);
    // SAFETY: a borrowed local; volatile, so that it is not optimized out.
    unsafe { (&raw mut octets).write_volatile([0; 16]) };
}

fn forward(schedule: &[u32; SCHEDULE_WORDS]) -> Forward {
    // SAFETY: the static tables; no caller keeps the value longer than the schedule.
    unsafe { Forward::new(&raw const aes::TABLES, schedule, ROUNDS) }
}

fn set_subkeys(schedule: &mut [u32; SCHEDULE_WORDS], whole: [u32; 4], padded: [u32; 4]) {
    let words = schedule.iter_mut().skip(SUBKEY_WHOLE);
    words.zip(whole.into_iter().chain(padded)).for_each(|(word, subkey)| *word = subkey);
}

/// Times x in GF(2^128), most significant bit first (SP 800-38B section 6.1).
fn double(block: [u32; 4]) -> [u32; 4] {
    let [a, b, c, d] = block.map(|word| u128::from(u32::from_be(word)));
    let x = a << 96 | b << 64 | c << 32 | d;
    let [a, b, c, d] = split((x << 1) ^ ((x >> 127) * 0x87));
    [a.to_be(), b.to_be(), c.to_be(), d.to_be()]
}

#[expect(clippy::cast_possible_truncation, reason = "the four quarters")]
const fn split(x: u128) -> [u32; 4] {
    [(x >> 96) as u32, (x >> 64) as u32, (x >> 32) as u32, x as u32]
}

/// Ends a message whose blocks before the last are in `mac` already: `last` holds the last 1 to 16 octets (or none, of an
/// empty message), `len` of them, zeros behind. `mac` is the authenticator then.
///
/// # Safety
/// `mac` and `last` are valid for reading and writing at any alignment, `schedule` for reading. `forward` has the same
/// schedule.
#[inline(always)]
pub unsafe fn finish(
    forward: &Forward,
    schedule: *const [u32; SCHEDULE_WORDS],
    mac: *mut Block16,
    last: *mut Block16,
    len: u32,
) {
    // SAFETY: the caller's promise; the mask keeps the octet inside the block.
    unsafe {
        let subkey = if len & 31 == 16 {
            SUBKEY_WHOLE
        } else {
            last.cast::<u8>().add((len & 15) as usize).write(0x80);
            SUBKEY_PADDED
        };
        let mut i = 0;
        while i < 4 {
            store(last, i, load(last, i) ^ load(schedule, subkey + i));
            i += 1;
        }
        mac_block(forward, mac.cast(), last.cast_const().cast());
    }
}

/// A computation over octets that come in pieces: for the host. Wiped when dropped.
pub struct Cmac<'a> {
    schedule: &'a [u32; SCHEDULE_WORDS],
    mac: Block16,
    block: Block16,
    /// Octets in `block`.
    rest: u32,
}

impl<'a> Cmac<'a> {
    /// Starts with a key of either kind.
    #[must_use]
    pub const fn new(schedule: &'a [u32; SCHEDULE_WORDS]) -> Self {
        Self { schedule, mac: Block16([0; 4]), block: Block16([0; 4]), rest: 0 }
    }

    /// Takes in octets.
    pub fn update(&mut self, octets: &[u8]) {
        for octet in octets {
            // A whole block waits: it may be the last.
            // SAFETY: live fields; the mask keeps the octet inside the block.
            unsafe {
                if self.rest == 16 {
                    mac_block(&forward(self.schedule), &raw mut self.mac.0, &raw const self.block.0);
                    self.block = Block16([0; 4]);
                    self.rest = 0;
                }
                (&raw mut self.block).cast::<u8>().add((self.rest & 15) as usize).write(*octet);
                self.rest += 1;
            }
        }
    }

    /// The authenticator, untruncated.
    #[must_use]
    pub fn finish(mut self) -> Block16 {
        let (mac, block) = (&raw mut self.mac, &raw mut self.block);
        // SAFETY: live fields.
        unsafe { finish(&forward(self.schedule), self.schedule, mac, block, self.rest) };
        self.mac
    }
}

impl Drop for Cmac<'_> {
    fn drop(&mut self) {
        wipe(&mut self.mac.0);
        wipe(&mut self.block.0);
    }
}
