//! Keys of DES and Triple DES that must not be used (RFC 2405 section 2.3, RFC 2451 section 2.3). For user space, which
//! refuses them before an SA is installed. Parity bits are left out of every comparison.

/// The bits of a key that are not parity.
const NOT_PARITY: u64 = 0xfefe_fefe_fefe_fefe;

/// Keys under which enciphering twice is the identity.
const WEAK: [u64; 4] = [0x0101_0101_0101_0101, 0x1f1f_1f1f_0e0e_0e0e, 0xe0e0_e0e0_f1f1_f1f1, 0xfefe_fefe_fefe_fefe];

/// Keys that undo another one of this list.
const SEMI_WEAK: [u64; 12] = [
    0x01fe_01fe_01fe_01fe,
    0xfe01_fe01_fe01_fe01,
    0x1fe0_1fe0_0ef1_0ef1,
    0xe01f_e01f_f10e_f10e,
    0x01e0_01e0_01f1_01f1,
    0xe001_e001_f101_f101,
    0x1ffe_1ffe_0efe_0efe,
    0xfe1f_fe1f_fe0e_fe0e,
    0x011f_011f_010e_010e,
    0x1f01_1f01_0e01_0e01,
    0xe0fe_e0fe_f1fe_f1fe,
    0xfee0_fee0_fef1_fef1,
];

/// Whether a DES key is weak or semi-weak. The keys that are merely "possibly weak" pass, as RFC 2405 lets them.
#[must_use]
pub fn is_weak(key: &[u8; 8]) -> bool {
    let key = u64::from_be_bytes(*key) & NOT_PARITY;
    WEAK.iter().chain(&SEMI_WEAK).any(|weak| weak & NOT_PARITY == key)
}

/// Whether a Triple DES key is degenerate, its first two or last two thirds being equal so that it is a DES key in fact
/// (RFC 2451 section 2.3), or has a weak or semi-weak third.
#[must_use]
pub fn is_weak_triple(key: &[u8; 24]) -> bool {
    let ([a, b, c], _) = key.as_chunks::<8>() else { return true };
    let same = |x: &[u8; 8], y: &[u8; 8]| (u64::from_be_bytes(*x) ^ u64::from_be_bytes(*y)) & NOT_PARITY == 0;
    same(a, b) || same(b, c) || [a, b, c].into_iter().any(is_weak)
}

/// Whether every octet of a key has odd parity, as FIPS 46-3 wants it. Keys without it work all the same.
#[must_use]
pub fn has_odd_parity(key: &[u8]) -> bool {
    key.iter().all(|octet| octet.count_ones() % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::des::schedule::expand_key;
    use crate::crypto::des::{Des, SCHEDULE_WORDS, TABLES};
    use crate::crypto::permutation::Permutation;
    use crate::crypto::transform::Direction;

    fn encrypt(key: u64, block: [u32; 2]) -> [u32; 2] {
        let mut schedule = [0; SCHEDULE_WORDS];
        expand_key(&key.to_be_bytes(), Direction::Encrypt, &mut schedule);
        // SAFETY: a live local and the static tables.
        unsafe { Des::new(&TABLES, &schedule) }.apply(block)
    }

    /// The lists are right in the only sense that matters: the keys do what makes them weak.
    #[test]
    fn alg_33_weak_keys_undo_themselves_and_semi_weak_ones_each_other() {
        let block = [0x0123_4567, 0x89ab_cdef];
        for key in WEAK {
            assert_eq!(encrypt(key, encrypt(key, block)), block, "{key:016x}");
        }
        for [a, b] in SEMI_WEAK.as_chunks::<2>().0 {
            assert_eq!(encrypt(*a, encrypt(*b, block)), block, "{a:016x}");
            assert_ne!(encrypt(*a, encrypt(*a, block)), block, "{a:016x}");
        }
        for key in WEAK.into_iter().chain(SEMI_WEAK) {
            assert!(has_odd_parity(&key.to_be_bytes()));
            assert!(is_weak(&key.to_be_bytes()));
            // Parity aside.
            assert!(is_weak(&(key ^ 0x0100_0001_0101_0100).to_be_bytes()));
            assert!(!is_weak(&(key ^ 0x0200_0000_0000_0000).to_be_bytes()));
        }
        assert!(!is_weak(&0x0123_4567_89ab_cdef_u64.to_be_bytes()));
        assert!(!has_odd_parity(&[0]));
    }

    #[test]
    fn alg_33_degenerate_triple_keys() {
        let (a, b, c) = (0x0123_4567_89ab_cdef_u64, 0x2345_6789_abcd_ef01_u64, 0x4567_89ab_cdef_0123_u64);
        let key = |thirds: [u64; 3]| thirds.map(u64::to_be_bytes).concat().try_into().unwrap();
        assert!(!is_weak_triple(&key([a, b, c])));
        assert!(!is_weak_triple(&key([a, b, a])));
        for weak in
            [[a, a, c], [a, b, b], [a, a ^ 1, c], [a, b, b ^ 0x0100_0000], [a, b, WEAK[1]], [SEMI_WEAK[5], b, c]]
        {
            assert!(is_weak_triple(&key(weak)), "{weak:x?}");
        }
    }
}
