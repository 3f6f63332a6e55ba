//! DES and Triple DES (FIPS 46-3), for peers that have nothing better: RFC 2405 and RFC 2451.
//!
//! Eight tables of 64 words do S-box and permutation P at once. Both halves of a block are kept rotated left by three
//! between the initial and the final permutation, so that every group of six bits that the expansion E would make lies
//! whole at an octet, already scaled to index words. Deciphering is enciphering with the round keys in reverse, and
//! Triple DES is one run of 48 rounds, so that a key schedule alone tells cipher and direction.
//! **Not constant time**: the tables are indexed with secrets.

pub mod schedule;
pub mod weak;

use super::load;
use super::permutation::Permutation;

/// Words of the schedule of a single DES key: two for each of 16 rounds.
pub const SCHEDULE_WORDS: usize = 32;

/// Words of the schedule of a Triple DES key.
pub const TRIPLE_SCHEDULE_WORDS: usize = 96;

/// S-box and permutation P: what each six bits contribute to the rotated half. Table i is that of S-box i + 1.
#[repr(C)]
pub struct Tables([[u32; 64]; 8]);

/// The tables.
pub static TABLES: Tables = tables();

/// The S-boxes of FIPS 46-3 appendix 1, four rows of 16 entries each.
const S_BOXES: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8, 4,
        1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5, 0,
        14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1, 13,
        6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9, 10,
        6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6, 4,
        2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8, 9,
        14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6, 1,
        4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2, 7,
        11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
    ],
];

/// Permutation P: bit i of its output, counted from 1 at the left, is this bit of its input.
const P: [u32; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4,
    25,
];

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, for which an index too large is an error")]
const fn tables() -> Tables {
    let mut t = [[0; 64]; 8];
    let mut s = 0;
    while s < 8 {
        let mut six = 0;
        while six < 64 {
            // The outer bits choose the row, the inner four the column.
            let row = (six >> 4 & 2) | (six & 1);
            let out = (S_BOXES[s][16 * row + (six >> 1 & 15)] as u32) << (28 - 4 * s);
            let mut word = 0;
            let mut i = 0;
            while i < 32 {
                word |= (out >> (32 - P[i]) & 1) << (31 - i);
                i += 1;
            }
            t[s][six] = word.rotate_left(3);
            six += 1;
        }
        s += 1;
    }
    Tables(t)
}

/// What table `TABLE` has for the six bits that lie at the top of octet `OCTET` of `bits`.
///
/// # Safety
/// `tables` is valid for reading.
#[inline(always)]
unsafe fn look_up<const TABLE: usize, const OCTET: u32>(tables: *const Tables, bits: u32) -> u32 {
    // The index is pre-scaled by 4, with a mask that bounds it.
    let scaled = bits >> (8 * OCTET) & 0xfc;
    // SAFETY: the mask keeps the offset within a table's 256 octets; TABLE is below 8.
    unsafe { tables.cast::<u8>().add(256 * TABLE + scaled as usize).cast::<u32>().read() }
}

/// The cipher function f of a half, both rotated, with the round key in words `at` and `at + 1`.
///
/// # Safety
/// `tables` and the schedule from `keys` on are valid for reading.
#[inline(always)]
unsafe fn f(tables: *const Tables, keys: *const u32, at: usize, half: u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let even = half ^ load(keys, at + 1);
        let odd = half.rotate_right(4) ^ load(keys, at);
        look_up::<0, 3>(tables, odd)
            ^ look_up::<2, 2>(tables, odd)
            ^ look_up::<4, 1>(tables, odd)
            ^ look_up::<6, 0>(tables, odd)
            ^ look_up::<1, 3>(tables, even)
            ^ look_up::<3, 2>(tables, even)
            ^ look_up::<5, 1>(tables, even)
            ^ look_up::<7, 0>(tables, even)
    }
}

/// Exchanges the bits of `$a` that `$mask` shifted left by `$shift` selects with those of `$b` that `$mask` selects.
macro_rules! exchange {
    ($a:ident, $b:ident, $shift:literal, $mask:literal) => {
        let t = ($a >> $shift ^ $b) & $mask;
        $b ^= t;
        $a ^= t << $shift;
    };
}

/// The block after `RUNS` runs of 16 rounds: DES for 1, Triple DES for 3.
///
/// # Safety
/// `tables` is valid for reading and aligned; from `keys` on, 32 words are valid for each run.
#[inline(always)]
unsafe fn rounds<const RUNS: usize>(tables: *const Tables, keys: *const u32, block: [u32; 2]) -> [u32; 2] {
    let (mut left, mut right) = (u32::from_be(block[0]), u32::from_be(block[1]));
    // The initial permutation.
    exchange!(left, right, 4, 0x0f0f_0f0f);
    exchange!(left, right, 16, 0x0000_ffff);
    exchange!(right, left, 2, 0x3333_3333);
    exchange!(right, left, 8, 0x00ff_00ff);
    exchange!(left, right, 1, 0x5555_5555);
    let (mut a, mut b) = (left.rotate_left(3), right.rotate_left(3));
    let mut run = 0;
    while run < RUNS {
        let mut round = 0;
        while round < 16 {
            let at = SCHEDULE_WORDS * run + 2 * round;
            // SAFETY: 32 words for each run.
            unsafe {
                a ^= f(tables, keys, at, b);
                b ^= f(tables, keys, at + 2, a);
            }
            round += 2;
        }
        // The last round does not exchange the halves, but the ones before did.
        (a, b) = (b, a);
        run += 1;
    }
    let (mut left, mut right) = (a.rotate_right(3), b.rotate_right(3));
    exchange!(left, right, 1, 0x5555_5555);
    exchange!(right, left, 8, 0x00ff_00ff);
    exchange!(right, left, 2, 0x3333_3333);
    exchange!(left, right, 16, 0x0000_ffff);
    exchange!(left, right, 4, 0x0f0f_0f0f);
    [left.to_be(), right.to_be()]
}

/// DES with a key, in the direction that the schedule was made for.
#[derive(Clone, Copy)]
pub struct Des {
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
}

impl Des {
    /// # Safety
    /// As long as the value is used: `tables` is valid for reading and aligned, `schedule` for reading.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(tables: *const Tables, schedule: *const [u32; SCHEDULE_WORDS]) -> Self {
        Self { tables, schedule }
    }
}

impl Permutation<2> for Des {
    #[inline(always)]
    fn apply(&self, block: [u32; 2]) -> [u32; 2] {
        // SAFETY: what `new` was promised.
        unsafe { rounds::<1>(self.tables, self.schedule.cast(), block) }
    }
}

/// Triple DES with a key, in the direction that the schedule was made for.
#[derive(Clone, Copy)]
pub struct TripleDes {
    tables: *const Tables,
    schedule: *const [u32; TRIPLE_SCHEDULE_WORDS],
}

impl TripleDes {
    /// # Safety
    /// As long as the value is used: `tables` is valid for reading and aligned, `schedule` for reading.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(tables: *const Tables, schedule: *const [u32; TRIPLE_SCHEDULE_WORDS]) -> Self {
        Self { tables, schedule }
    }
}

impl Permutation<2> for TripleDes {
    #[inline(always)]
    fn apply(&self, block: [u32; 2]) -> [u32; 2] {
        // SAFETY: what `new` was promised.
        unsafe { rounds::<3>(self.tables, self.schedule.cast(), block) }
    }
}
