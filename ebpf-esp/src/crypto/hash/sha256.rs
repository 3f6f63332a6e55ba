//! SHA-256, FIPS 180-4 section 6.2.

use super::Hash;
use crate::crypto::{Block64, load, store};

/// SHA-256.
pub struct Sha256;

/// Round constants: the first 32 bits of the fractions of the cube roots of the first 64 primes.
static K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// One round with word `$i` of the schedule and its constant.
macro_rules! round {
    ($schedule:ident, $i:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        $h = $h
            .wrapping_add($e.rotate_right(6) ^ $e.rotate_right(11) ^ $e.rotate_right(25))
            .wrapping_add((($f ^ $g) & $e) ^ $g)
            .wrapping_add(load(&raw const K, $i))
            .wrapping_add(load($schedule, $i));
        $d = $d.wrapping_add($h);
        $h = $h
            .wrapping_add($a.rotate_right(2) ^ $a.rotate_right(13) ^ $a.rotate_right(22))
            .wrapping_add((($a | $b) & $c) | ($a & $b));
    };
}

// SAFETY: only what the pointers' types cover is touched.
unsafe impl Hash for Sha256 {
    type State = [u32; 8];
    type Schedule = [u32; 64];
    type Block = Block64;
    const INITIAL: [u32; 8] =
        [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
    const SCHEDULE: [u32; 64] = [0; 64];
    const ZERO: Block64 = Block64([0; 16]);
    const DIGEST_WORDS: u32 = 8;
    const LENGTH_LEN: u32 = 8;

    #[inline(always)]
    unsafe fn compress(state: *mut [u32; 8], schedule: *mut [u32; 64], block: *const Block64) {
        // SAFETY: the caller's promise; words of schedule and constants are below 64, of the message below 16.
        unsafe {
            let words = schedule.cast::<u32>();
            let mut i = 0;
            while i < 16 {
                words.add(i).write(u32::from_be(load(block, i)));
                i += 1;
            }
            while i < 64 {
                let (near, far) = (words.add(i - 2).read(), words.add(i - 15).read());
                let word = (near.rotate_right(17) ^ near.rotate_right(19) ^ near >> 10)
                    .wrapping_add(words.add(i - 7).read())
                    .wrapping_add(far.rotate_right(7) ^ far.rotate_right(18) ^ far >> 3)
                    .wrapping_add(words.add(i - 16).read());
                words.add(i).write(word);
                i += 1;
            }
            let mut a = (*state)[0];
            let mut b = (*state)[1];
            let mut c = (*state)[2];
            let mut d = (*state)[3];
            let mut e = (*state)[4];
            let mut f = (*state)[5];
            let mut g = (*state)[6];
            let mut h = (*state)[7];
            let mut i = 0;
            while i < 64 {
                round!(words, i, a b c d e f g h);
                round!(words, i + 1, h a b c d e f g);
                round!(words, i + 2, g h a b c d e f);
                round!(words, i + 3, f g h a b c d e);
                round!(words, i + 4, e f g h a b c d);
                round!(words, i + 5, d e f g h a b c);
                round!(words, i + 6, c d e f g h a b);
                round!(words, i + 7, b c d e f g h a);
                i += 8;
            }
            (*state)[0] = (*state)[0].wrapping_add(a);
            (*state)[1] = (*state)[1].wrapping_add(b);
            (*state)[2] = (*state)[2].wrapping_add(c);
            (*state)[3] = (*state)[3].wrapping_add(d);
            (*state)[4] = (*state)[4].wrapping_add(e);
            (*state)[5] = (*state)[5].wrapping_add(f);
            (*state)[6] = (*state)[6].wrapping_add(g);
            (*state)[7] = (*state)[7].wrapping_add(h);
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
    unsafe fn digest(state: *const [u32; 8], to: *mut u32) {
        let mut i = 0;
        while i < 8 {
            // SAFETY: eight words on either side.
            unsafe { store(to, i, load(state, i).to_be()) };
            i += 1;
        }
    }
}
