//! SHA-1, FIPS 180-4 section 6.1.

use super::Hash;
use crate::crypto::{Block64, load, store};

/// SHA-1.
pub struct Sha1;

/// One round with the function value `$f` and word `$w` of the schedule.
macro_rules! round {
    ($schedule:ident, $f:ident, $k:literal, $w:expr, $a:ident $b:ident $c:ident $d:ident $e:ident) => {
        $e = $e
            .wrapping_add($a.rotate_left(5))
            .wrapping_add($f($b, $c, $d))
            .wrapping_add($k)
            .wrapping_add(load($schedule, $w));
        $b = $b.rotate_left(30);
    };
}

/// Twenty rounds from word `$first` on, five at a time, after which every variable has its own name again.
macro_rules! rounds {
    ($schedule:ident, $f:ident, $k:literal, $first:literal, $a:ident $b:ident $c:ident $d:ident $e:ident) => {
        let mut i = $first;
        while i < $first + 20 {
            round!($schedule, $f, $k, i, $a $b $c $d $e);
            round!($schedule, $f, $k, i + 1, $e $a $b $c $d);
            round!($schedule, $f, $k, i + 2, $d $e $a $b $c);
            round!($schedule, $f, $k, i + 3, $c $d $e $a $b);
            round!($schedule, $f, $k, i + 4, $b $c $d $e $a);
            i += 5;
        }
    };
}

#[inline(always)]
const fn choose(x: u32, y: u32, z: u32) -> u32 {
    ((y ^ z) & x) ^ z
}

#[inline(always)]
const fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

#[inline(always)]
const fn majority(x: u32, y: u32, z: u32) -> u32 {
    ((x | y) & z) | (x & y)
}

// SAFETY: only what the pointers' types cover is touched.
unsafe impl Hash for Sha1 {
    type State = [u32; 5];
    type Schedule = [u32; 80];
    type Block = Block64;
    const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    const SCHEDULE: [u32; 80] = [0; 80];
    const ZERO: Block64 = Block64([0; 16]);
    const DIGEST_WORDS: u32 = 5;
    const LENGTH_LEN: u32 = 8;

    #[inline(always)]
    unsafe fn compress(state: *mut [u32; 5], schedule: *mut [u32; 80], block: *const Block64) {
        // SAFETY: the caller's promise; words of the schedule are below 80, of the message below 16.
        unsafe {
            let mut i = 0;
            while i < 16 {
                store(schedule, i, u32::from_be(load(block, i)));
                i += 1;
            }
            while i < 80 {
                let w = load(schedule, i - 3) ^ load(schedule, i - 8) ^ load(schedule, i - 14) ^ load(schedule, i - 16);
                store(schedule, i, w.rotate_left(1));
                i += 1;
            }
            let mut a = (*state)[0];
            let mut b = (*state)[1];
            let mut c = (*state)[2];
            let mut d = (*state)[3];
            let mut e = (*state)[4];
            rounds!(schedule, choose, 0x5a82_7999, 0, a b c d e);
            rounds!(schedule, parity, 0x6ed9_eba1, 20, a b c d e);
            rounds!(schedule, majority, 0x8f1b_bcdc, 40, a b c d e);
            rounds!(schedule, parity, 0xca62_c1d6, 60, a b c d e);
            (*state)[0] = (*state)[0].wrapping_add(a);
            (*state)[1] = (*state)[1].wrapping_add(b);
            (*state)[2] = (*state)[2].wrapping_add(c);
            (*state)[3] = (*state)[3].wrapping_add(d);
            (*state)[4] = (*state)[4].wrapping_add(e);
        }
    }

    #[inline(always)]
    unsafe fn set_length(block: *mut Block64, octets: u32) {
        // SAFETY: the last two of sixteen words.
        unsafe {
            store(block, 14, (octets >> 29).to_be());
            store(block, 15, (octets << 3).to_be());
        }
    }

    #[inline(always)]
    unsafe fn digest(state: *const [u32; 5], to: *mut u32) {
        let mut i = 0;
        while i < 5 {
            // SAFETY: five words on either side.
            unsafe { store(to, i, load(state, i).to_be()) };
            i += 1;
        }
    }
}
