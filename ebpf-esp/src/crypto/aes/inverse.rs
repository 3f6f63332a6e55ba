//! The AES block cipher, deciphering direction, as the equivalent inverse cipher of FIPS 197 section 5.3.5: the same shape
//! as enciphering, with tables and a key schedule of its own. The schedule is laid out as the other, first round key at 0
//! and last at [`LAST_ROUND_KEY`](super::LAST_ROUND_KEY). **Not constant time**, as the other direction.

use super::{LAST_ROUND_KEY, SCHEDULE_WORDS, double, expand_key as expand_forward, key, sbox};
use crate::crypto::permutation::Permutation;
use crate::crypto::wipe;

/// InvSubBytes and InvMixColumns of one octet in each row, and InvSubBytes alone.
#[repr(C)]
pub struct Tables {
    columns: [[u32; 256]; 4],
    octets: [u8; 256],
}

/// The tables.
pub static TABLES: Tables = tables();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, for which an index too large is an error")]
const fn tables() -> Tables {
    let sbox = sbox();
    let mut octets = [0; 256];
    let mut columns = [[0; 256]; 4];
    let mut i = 0;
    while i < 256 {
        let at = sbox[i] as usize;
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let x = i as u8;
        octets[at] = x;
        let (x2, x4) = (double(x), double(double(x)));
        let x8 = double(x4);
        let column = u32::from_le_bytes([x8 ^ x4 ^ x2, x8 ^ x, x8 ^ x4 ^ x, x8 ^ x2 ^ x]);
        columns[0][at] = column;
        columns[1][at] = column.rotate_left(8);
        columns[2][at] = column.rotate_left(16);
        columns[3][at] = column.rotate_left(24);
        i += 1;
    }
    Tables { columns, octets }
}

/// Expands a key of 16, 24 or 32 octets for deciphering (FIPS 197 section 5.3.5) and gives the number of rounds; `None`
/// for any other length. For user space, when an inbound SA is installed.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "`rounds` is at most 14, so that every index is below 60")]
pub fn expand_key(key: &[u8], schedule: &mut [u32; SCHEDULE_WORDS]) -> Option<u32> {
    let mut forward = [0; SCHEDULE_WORDS];
    let rounds = expand_forward(key, &mut forward)?;
    let last = 4 * rounds as usize;
    schedule[..4].copy_from_slice(&forward[LAST_ROUND_KEY..]);
    schedule[LAST_ROUND_KEY..].copy_from_slice(&forward[..4]);
    for i in 4..last {
        // Round keys in reverse, the words of each in order.
        schedule[i] = inverse_mix(u32::from_le(forward[last - (i & !3) + (i & 3)])).to_le();
    }
    wipe(&mut forward);
    Some(rounds)
}

/// InvMixColumns of one column, row 0 in the lowest octet.
const fn inverse_mix(column: u32) -> u32 {
    let x2 = double_each(column);
    let x4 = double_each(x2);
    let x8 = double_each(x4);
    (x8 ^ x4 ^ x2)
        ^ (x8 ^ x2 ^ column).rotate_right(8)
        ^ (x8 ^ x4 ^ column).rotate_right(16)
        ^ (x8 ^ column).rotate_right(24)
}

/// Each octet times x in GF(2^8).
const fn double_each(word: u32) -> u32 {
    ((word & 0x7f7f_7f7f) << 1) ^ ((word >> 7 & 0x0101_0101) * 0x1b)
}

/// What octet `ROW` of `column` contributes.
///
/// # Safety
/// `tables` is valid for reading.
#[inline(always)]
unsafe fn look_up<const ROW: u32>(tables: *const Tables, column: u32) -> u32 {
    // The index comes out pre-scaled by 4, with a mask that bounds it.
    let shifted = if ROW == 0 { column << 2 } else { column >> (8 * ROW - 2) };
    let scaled = shifted & 0x3fc;
    // SAFETY: the mask keeps the offset within a table's 1024 octets; ROW is below 4.
    unsafe { tables.cast::<u8>().add(1024 * ROW as usize + scaled as usize).cast::<u32>().read() }
}

/// InvSubBytes of octet `ROW` of `column`, in row `ROW` of the result.
///
/// # Safety
/// `tables` is valid for reading.
#[inline(always)]
unsafe fn substitute<const ROW: u32>(tables: *const Tables, column: u32) -> u32 {
    // SAFETY: the mask keeps the offset within the 256 octets.
    let octet = unsafe { (&raw const (*tables).octets).cast::<u8>().add((column >> (8 * ROW) & 0xff) as usize).read() };
    (octet as u32) << (8 * ROW)
}

/// One round on `$a $b $c $d` with the round key at word `$k`.
macro_rules! round {
    ($tables:ident, $schedule:ident, $k:expr, $a:ident $b:ident $c:ident $d:ident) => {
        round!($tables, $schedule, $k, look_up, $a $b $c $d)
    };
    ($tables:ident, $schedule:ident, $k:expr, $step:ident, $a:ident $b:ident $c:ident $d:ident) => {
        let (e, f, g, h) = (
            $step::<0>($tables, $a) ^ $step::<1>($tables, $d) ^ $step::<2>($tables, $c) ^ $step::<3>($tables, $b)
                ^ key($schedule, $k),
            $step::<0>($tables, $b) ^ $step::<1>($tables, $a) ^ $step::<2>($tables, $d) ^ $step::<3>($tables, $c)
                ^ key($schedule, $k + 1),
            $step::<0>($tables, $c) ^ $step::<1>($tables, $b) ^ $step::<2>($tables, $a) ^ $step::<3>($tables, $d)
                ^ key($schedule, $k + 2),
            $step::<0>($tables, $d) ^ $step::<1>($tables, $c) ^ $step::<2>($tables, $b) ^ $step::<3>($tables, $a)
                ^ key($schedule, $k + 3),
        );
        ($a, $b, $c, $d) = (e, f, g, h);
    };
}

/// The deciphering direction with a key.
#[derive(Clone, Copy)]
pub struct Backward {
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
    rounds: u32,
}

impl Backward {
    /// # Safety
    /// As long as the value is used: `tables` is valid for reading and aligned, `schedule` for reading at any alignment.
    /// `schedule` and `rounds` come from this module's [`expand_key`].
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(tables: *const Tables, schedule: *const [u32; SCHEDULE_WORDS], rounds: u32) -> Self {
        Self { tables, schedule, rounds }
    }
}

impl Permutation<4> for Backward {
    #[inline(always)]
    fn apply(&self, block: [u32; 4]) -> [u32; 4] {
        let Self { tables, schedule, rounds } = *self;
        // SAFETY: what `new` was promised; all indexes of round keys are below 60.
        unsafe {
            let mut a = u32::from_le(block[0]) ^ key(schedule, 0);
            let mut b = u32::from_le(block[1]) ^ key(schedule, 1);
            let mut c = u32::from_le(block[2]) ^ key(schedule, 2);
            let mut d = u32::from_le(block[3]) ^ key(schedule, 3);
            round!(tables, schedule, 4, a b c d);
            round!(tables, schedule, 8, a b c d);
            round!(tables, schedule, 12, a b c d);
            round!(tables, schedule, 16, a b c d);
            round!(tables, schedule, 20, a b c d);
            round!(tables, schedule, 24, a b c d);
            round!(tables, schedule, 28, a b c d);
            round!(tables, schedule, 32, a b c d);
            round!(tables, schedule, 36, a b c d);
            if rounds > 10 {
                round!(tables, schedule, 40, a b c d);
                round!(tables, schedule, 44, a b c d);
                if rounds > 12 {
                    round!(tables, schedule, 48, a b c d);
                    round!(tables, schedule, 52, a b c d);
                }
            }
            round!(tables, schedule, LAST_ROUND_KEY, substitute, a b c d);
            [a.to_le(), b.to_le(), c.to_le(), d.to_le()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::aes;

    #[test]
    fn inverse_ciphers_of_fips197_appendix_c() {
        let block = |text| {
            let octets = u128::from_str_radix(text, 16).unwrap().to_be_bytes();
            core::array::from_fn(|i| u32::from_ne_bytes(octets[4 * i..4 * i + 4].try_into().unwrap()))
        };
        for (key_len, rounds, cipher) in [
            (16, 10, "69c4e0d86a7b0430d8cdb78070b4c55a"),
            (24, 12, "dda97ca4864cdfe06eaf70a0ec0d7191"),
            (32, 14, "8ea2b7ca516745bfeafc49904b496089"),
        ] {
            let key: Vec<u8> = (0..key_len).collect();
            let mut schedule = [0; SCHEDULE_WORDS];
            assert_eq!(expand_key(&key, &mut schedule), Some(rounds));
            // SAFETY: a live local and the static tables.
            let backward = unsafe { Backward::new(&TABLES, &schedule, rounds) };
            assert_eq!(backward.apply(block(cipher)), block("00112233445566778899aabbccddeeff"));
        }
    }

    #[test]
    fn other_key_lengths_are_refused() {
        for len in (0..40).filter(|len| ![16, 24, 32].contains(len)) {
            assert_eq!(expand_key(&vec![0; len], &mut [0; SCHEDULE_WORDS]), None);
        }
    }

    #[test]
    fn both_directions_cancel() {
        for key_len in [16, 24, 32u8] {
            let key: Vec<u8> = (0..key_len).map(|i| i.wrapping_mul(37) ^ 0x5a).collect();
            let (mut there, mut back) = ([0; SCHEDULE_WORDS], [0; SCHEDULE_WORDS]);
            let rounds = aes::expand_key(&key, &mut there).unwrap();
            assert_eq!(expand_key(&key, &mut back), Some(rounds));
            // SAFETY: live locals and the static tables.
            let (forward, backward) =
                unsafe { (aes::Forward::new(&aes::TABLES, &there, rounds), Backward::new(&TABLES, &back, rounds)) };
            let mut block = [1, 2, 3, 4];
            for _ in 0..1000 {
                let cipher = forward.apply(block);
                assert_eq!(backward.apply(cipher), block);
                block = cipher;
            }
        }
    }
}
