//! Key schedules of DES and Triple DES (FIPS 46-3 appendix 1). For user space, when an SA is installed.
//!
//! Two words for each round, in the order of use: the six key bits of S-boxes 1, 3, 5 and 7, then those of 2, 4, 6 and 8,
//! each at the top of its octet.

use super::{SCHEDULE_WORDS, TRIPLE_SCHEDULE_WORDS};
use crate::crypto::transform::Direction;

/// Permuted choice 1: bits of the key, counted from 1 at the left, that make up C and D.
const CHOICE_1: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36, 63, 55,
    47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
];

/// Permuted choice 2: bits of C and D that make up a round key, six for each S-box.
const CHOICE_2: [[u8; 6]; 8] = [
    [14, 17, 11, 24, 1, 5],
    [3, 28, 15, 6, 21, 10],
    [23, 19, 12, 4, 26, 8],
    [16, 7, 27, 20, 13, 2],
    [41, 52, 31, 37, 47, 55],
    [30, 40, 51, 45, 33, 48],
    [44, 49, 39, 56, 34, 53],
    [46, 42, 50, 36, 29, 32],
];

/// By how much C and D turn before each round.
const SHIFTS: [u32; 16] = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];

/// Expands a key of 8 octets; the parity bits, the lowest of each octet, have no influence.
pub fn expand_key(key: &[u8; 8], direction: Direction, schedule: &mut [u32; SCHEDULE_WORDS]) {
    let key = u64::from_be_bytes(*key);
    let chosen = CHOICE_1.iter().fold(0u64, |cd, bit| cd << 1 | (key >> (64 - bit) & 1));
    let (mut c, mut d) = (chosen >> 28, chosen & 0x0fff_ffff);
    for (words, shift) in schedule.as_chunks_mut::<2>().0.iter_mut().zip(SHIFTS) {
        c = (c << shift | c >> (28 - shift)) & 0x0fff_ffff;
        d = (d << shift | d >> (28 - shift)) & 0x0fff_ffff;
        let cd = c << 28 | d;
        *words = [0; 2];
        for (i, bits) in CHOICE_2.iter().enumerate() {
            let six = bits.iter().fold(0u32, |six, bit| six << 1 | u32::from(cd >> (56 - bit) & 1 == 1));
            let [odd, even] = words;
            let word = if i % 2 == 0 { odd } else { even };
            *word = *word << 8 | six << 2;
        }
    }
    if direction == Direction::Decrypt {
        schedule.as_chunks_mut::<2>().0.reverse();
    }
}

/// Expands a key of 24 octets for encrypt-decrypt-encrypt with its thirds, or for the inverse of that.
pub fn expand_triple_key(key: &[u8; 24], direction: Direction, schedule: &mut [u32; TRIPLE_SCHEDULE_WORDS]) {
    let mut keys = [[0; 8]; 3];
    keys.iter_mut().zip(key.as_chunks::<8>().0).for_each(|(third, octets)| *third = *octets);
    if direction == Direction::Decrypt {
        keys.reverse();
    }
    let runs = schedule.as_chunks_mut::<SCHEDULE_WORDS>().0.iter_mut();
    let directions = [direction, direction.opposite(), direction];
    for ((run, third), direction) in runs.zip(&keys).zip(directions) {
        expand_key(third, direction, run);
    }
    for third in &mut keys {
        // SAFETY: a borrowed local; volatile, so that it is not optimized out.
        unsafe { core::ptr::from_mut(third).write_volatile([0; 8]) };
    }
}
