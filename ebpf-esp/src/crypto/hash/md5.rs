//! MD5, RFC 1321: for HMAC-MD5-96 only, which no new association should use.

use super::Hash;
use crate::crypto::{Block64, load, store};

/// MD5.
pub struct Md5;

#[inline(always)]
const fn f(x: u32, y: u32, z: u32) -> u32 {
    ((y ^ z) & x) ^ z
}

#[inline(always)]
const fn g(x: u32, y: u32, z: u32) -> u32 {
    ((x ^ y) & z) ^ y
}

#[inline(always)]
const fn h(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

#[inline(always)]
const fn i(x: u32, y: u32, z: u32) -> u32 {
    y ^ (x | !z)
}

/// Four steps with the function `$f`: the words of the message, the constants, the rotations.
macro_rules! steps {
    ($block:ident, $a:ident $b:ident $c:ident $d:ident, $f:ident, [$m0:literal $m1:literal $m2:literal $m3:literal],
     [$t0:literal $t1:literal $t2:literal $t3:literal], [$s0:literal $s1:literal $s2:literal $s3:literal]) => {
        step!($block, $a $b $c $d, $f, $m0, $t0, $s0);
        step!($block, $d $a $b $c, $f, $m1, $t1, $s1);
        step!($block, $c $d $a $b, $f, $m2, $t2, $s2);
        step!($block, $b $c $d $a, $f, $m3, $t3, $s3);
    };
}

macro_rules! step {
    ($block:ident, $a:ident $b:ident $c:ident $d:ident, $f:ident, $m:literal, $t:literal, $s:literal) => {
        $a = $a
            .wrapping_add($f($b, $c, $d))
            .wrapping_add(u32::from_le(load($block, $m)))
            .wrapping_add($t)
            .rotate_left($s)
            .wrapping_add($b);
    };
}

// SAFETY: only what the pointers' types cover is touched.
unsafe impl Hash for Md5 {
    type State = [u32; 4];
    type Schedule = [u32; 0];
    type Block = Block64;
    const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    const SCHEDULE: [u32; 0] = [];
    const ZERO: Block64 = Block64([0; 16]);
    const DIGEST_WORDS: u32 = 4;
    const LENGTH_LEN: u32 = 8;

    #[inline(always)]
    unsafe fn compress(state: *mut [u32; 4], _: *mut [u32; 0], block: *const Block64) {
        // SAFETY: the caller's promise; words of the message are below 16.
        unsafe {
            let mut a = (*state)[0];
            let mut b = (*state)[1];
            let mut c = (*state)[2];
            let mut d = (*state)[3];
            steps!(block, a b c d, f, [0 1 2 3], [0xd76a_a478 0xe8c7_b756 0x2420_70db 0xc1bd_ceee], [7 12 17 22]);
            steps!(block, a b c d, f, [4 5 6 7], [0xf57c_0faf 0x4787_c62a 0xa830_4613 0xfd46_9501], [7 12 17 22]);
            steps!(block, a b c d, f, [8 9 10 11], [0x6980_98d8 0x8b44_f7af 0xffff_5bb1 0x895c_d7be], [7 12 17 22]);
            steps!(block, a b c d, f, [12 13 14 15], [0x6b90_1122 0xfd98_7193 0xa679_438e 0x49b4_0821], [7 12 17 22]);
            steps!(block, a b c d, g, [1 6 11 0], [0xf61e_2562 0xc040_b340 0x265e_5a51 0xe9b6_c7aa], [5 9 14 20]);
            steps!(block, a b c d, g, [5 10 15 4], [0xd62f_105d 0x0244_1453 0xd8a1_e681 0xe7d3_fbc8], [5 9 14 20]);
            steps!(block, a b c d, g, [9 14 3 8], [0x21e1_cde6 0xc337_07d6 0xf4d5_0d87 0x455a_14ed], [5 9 14 20]);
            steps!(block, a b c d, g, [13 2 7 12], [0xa9e3_e905 0xfcef_a3f8 0x676f_02d9 0x8d2a_4c8a], [5 9 14 20]);
            steps!(block, a b c d, h, [5 8 11 14], [0xfffa_3942 0x8771_f681 0x6d9d_6122 0xfde5_380c], [4 11 16 23]);
            steps!(block, a b c d, h, [1 4 7 10], [0xa4be_ea44 0x4bde_cfa9 0xf6bb_4b60 0xbebf_bc70], [4 11 16 23]);
            steps!(block, a b c d, h, [13 0 3 6], [0x289b_7ec6 0xeaa1_27fa 0xd4ef_3085 0x0488_1d05], [4 11 16 23]);
            steps!(block, a b c d, h, [9 12 15 2], [0xd9d4_d039 0xe6db_99e5 0x1fa2_7cf8 0xc4ac_5665], [4 11 16 23]);
            steps!(block, a b c d, i, [0 7 14 5], [0xf429_2244 0x432a_ff97 0xab94_23a7 0xfc93_a039], [6 10 15 21]);
            steps!(block, a b c d, i, [12 3 10 1], [0x655b_59c3 0x8f0c_cc92 0xffef_f47d 0x8584_5dd1], [6 10 15 21]);
            steps!(block, a b c d, i, [8 15 6 13], [0x6fa8_7e4f 0xfe2c_e6e0 0xa301_4314 0x4e08_11a1], [6 10 15 21]);
            steps!(block, a b c d, i, [4 11 2 9], [0xf753_7e82 0xbd3a_f235 0x2ad7_d2bb 0xeb86_d391], [6 10 15 21]);
            (*state)[0] = (*state)[0].wrapping_add(a);
            (*state)[1] = (*state)[1].wrapping_add(b);
            (*state)[2] = (*state)[2].wrapping_add(c);
            (*state)[3] = (*state)[3].wrapping_add(d);
        }
    }

    #[inline(always)]
    unsafe fn set_length(block: *mut Block64, octets: u32) {
        // SAFETY: the last two of sixteen words.
        unsafe {
            store(block, 14, (octets << 3).to_le());
            store(block, 15, (octets >> 29).to_le());
        }
    }

    #[inline(always)]
    unsafe fn digest(state: *const [u32; 4], to: *mut u32) {
        let mut i = 0;
        while i < 4 {
            // SAFETY: four words on either side.
            unsafe { store(to, i, load(state, i).to_le()) };
            i += 1;
        }
    }
}
