//! The AES block cipher, enciphering direction (FIPS 197), and counter mode as GCM, CCM and RFC 3686 use it: the lowest
//! 32 bits of the counter block count. [`inverse`] deciphers, which only CBC needs.
//!
//! Table-driven: four tables of 256 words that one copy of serves all SAs; per SA there is only the key schedule. Words
//! are taken as little-endian numbers of the octets in memory, with the tables turned to match, so that no octet is
//! ever swapped. The last round key is always at index 56, which lets all key lengths share one unrolled function.
//! **Not constant time**: the tables are indexed with secrets, as in the kernel's own generic AES.
//!
//! [`Counter`] exploits that a packet has few blocks: only the last octet of the counter block changes, so all but 5 of
//! the 32 table look-ups of the first two rounds are made once per packet.

pub mod inverse;

use super::permutation::Permutation;
use super::{Block16, load, store, wipe};

/// Words of a key schedule.
pub const SCHEDULE_WORDS: usize = 60;

/// Where the last round key is in a key schedule, whatever the number of rounds.
pub const LAST_ROUND_KEY: usize = 56;

/// SubBytes and MixColumns of one octet in each row: the contribution to a column, as a little-endian number.
#[repr(C)]
pub struct Tables([[u32; 256]; 4]);

/// The tables.
pub static TABLES: Tables = tables();

/// SubBytes of every octet.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, for which an index too large is an error")]
const fn sbox() -> [u8; 256] {
    let mut sbox = [0u8; 256];
    // 3 generates the field, so p runs over all elements but 0 while q, its inverse, is divided by 3.
    let (mut p, mut q) = (1u8, 1u8);
    loop {
        p = p ^ double(p);
        q ^= q << 1;
        q ^= q << 2;
        q ^= q << 4;
        if q & 0x80 != 0 {
            q ^= 0x09;
        }
        sbox[p as usize] = q ^ q.rotate_left(1) ^ q.rotate_left(2) ^ q.rotate_left(3) ^ q.rotate_left(4) ^ 0x63;
        if p == 1 {
            break;
        }
    }
    sbox[0] = 0x63;
    sbox
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, for which an index too large is an error")]
const fn tables() -> Tables {
    let sbox = sbox();
    let mut t = [[0; 256]; 4];
    let mut i = 0;
    while i < 256 {
        let s = sbox[i];
        let column = u32::from_le_bytes([double(s), s, s, double(s) ^ s]);
        t[0][i] = column;
        t[1][i] = column.rotate_left(8);
        t[2][i] = column.rotate_left(16);
        t[3][i] = column.rotate_left(24);
        i += 1;
    }
    Tables(t)
}

/// Times x in GF(2^8).
const fn double(x: u8) -> u8 {
    (x << 1) ^ (if x & 0x80 != 0 { 0x1b } else { 0 })
}

/// What octet `ROW` of `column` contributes, out of table `TABLE`.
///
/// # Safety
/// `tables` is valid for reading.
#[inline(always)]
unsafe fn look_up<const TABLE: usize, const ROW: u32>(tables: *const Tables, column: u32) -> u32 {
    // The index comes out pre-scaled by 4, with a mask that bounds it.
    let shifted = if ROW == 0 { column << 2 } else { column >> (8 * ROW - 2) };
    let scaled = shifted & 0x3fc;
    // SAFETY: the mask keeps the offset within a table's 1024 octets; TABLE is below 4.
    unsafe { tables.cast::<u8>().add(1024 * TABLE + scaled as usize).cast::<u32>().read() }
}

/// SubBytes of octet `ROW` of `column`, in row `ROW` of the result. Each table has it bare in some row.
///
/// # Safety
/// `tables` is valid for reading.
#[inline(always)]
unsafe fn substitute<const ROW: u32>(tables: *const Tables, column: u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        match ROW {
            0 => look_up::<2, ROW>(tables, column) & 0xff,
            1 => look_up::<0, ROW>(tables, column) & 0xff00,
            2 => look_up::<0, ROW>(tables, column) & 0x00ff_0000,
            _ => look_up::<1, ROW>(tables, column) & 0xff00_0000,
        }
    }
}

/// Expands a key of 16, 24 or 32 octets (FIPS 197 section 5.2) and gives the number of rounds: 10, 12 or 14. Words hold
/// the round keys in memory order: all but the last from index 0 on, the last at [`LAST_ROUND_KEY`]. Words between are
/// left alone. `None` for any other length of key. For user space, when an SA is installed.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "`place` is below 60 for all i below 4 * (rounds + 1)")]
pub fn expand_key(key: &[u8], schedule: &mut [u32; SCHEDULE_WORDS]) -> Option<u32> {
    let (key_words, rounds) = match key.len() {
        16 => (4, 10),
        24 => (6, 12),
        32 => (8, 14),
        _ => return None,
    };
    let place = |i: usize| if i < 4 * rounds { i } else { i - 4 * rounds + LAST_ROUND_KEY };
    let substitute_word = |w: u32| {
        // SAFETY: the static tables.
        unsafe {
            substitute::<0>(&TABLES, w)
                | substitute::<1>(&TABLES, w)
                | substitute::<2>(&TABLES, w)
                | substitute::<3>(&TABLES, w)
        }
    };
    for (i, octets) in key.as_chunks::<4>().0.iter().enumerate() {
        schedule[place(i)] = u32::from_ne_bytes(*octets);
    }
    let mut round_constant = 1u8;
    for i in key_words..4 * (rounds + 1) {
        let mut word = u32::from_le(schedule[place(i - 1)]);
        if i % key_words == 0 {
            word = substitute_word(word.rotate_right(8)) ^ u32::from(round_constant);
            round_constant = double(round_constant);
        } else if key_words == 8 && i % 8 == 4 {
            word = substitute_word(word);
        }
        schedule[place(i)] = schedule[place(i - key_words)] ^ word.to_le();
    }
    u32::try_from(rounds).ok()
}

/// One round on `$a $b $c $d` with the round key at word `$k`.
macro_rules! round {
    ($tables:ident, $schedule:ident, $k:expr, $a:ident $b:ident $c:ident $d:ident) => {
        let (e, f, g, h) = (
            look_up::<0, 0>($tables, $a)
                ^ look_up::<1, 1>($tables, $b)
                ^ look_up::<2, 2>($tables, $c)
                ^ look_up::<3, 3>($tables, $d)
                ^ key($schedule, $k),
            look_up::<0, 0>($tables, $b)
                ^ look_up::<1, 1>($tables, $c)
                ^ look_up::<2, 2>($tables, $d)
                ^ look_up::<3, 3>($tables, $a)
                ^ key($schedule, $k + 1),
            look_up::<0, 0>($tables, $c)
                ^ look_up::<1, 1>($tables, $d)
                ^ look_up::<2, 2>($tables, $a)
                ^ look_up::<3, 3>($tables, $b)
                ^ key($schedule, $k + 2),
            look_up::<0, 0>($tables, $d)
                ^ look_up::<1, 1>($tables, $a)
                ^ look_up::<2, 2>($tables, $b)
                ^ look_up::<3, 3>($tables, $c)
                ^ key($schedule, $k + 3),
        );
        ($a, $b, $c, $d) = (e, f, g, h);
    };
}

/// Word `i` of the schedule as a number.
///
/// # Safety
/// `schedule` is valid for reading; `i` is below 60.
#[inline(always)]
unsafe fn key(schedule: *const [u32; SCHEDULE_WORDS], i: usize) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { u32::from_le(load(schedule, i)) }
}

/// Rounds 3 to the last on the state after round 2.
///
/// # Safety
/// `tables` and `schedule` are valid for reading.
#[inline(always)]
unsafe fn rounds_from_3(
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
    rounds: u32,
    state: [u32; 4],
) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = state;
    // SAFETY: the caller's promise; all indexes of round keys are below 60.
    unsafe {
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
        [
            substitute::<0>(tables, a)
                ^ substitute::<1>(tables, b)
                ^ substitute::<2>(tables, c)
                ^ substitute::<3>(tables, d)
                ^ key(schedule, LAST_ROUND_KEY),
            substitute::<0>(tables, b)
                ^ substitute::<1>(tables, c)
                ^ substitute::<2>(tables, d)
                ^ substitute::<3>(tables, a)
                ^ key(schedule, LAST_ROUND_KEY + 1),
            substitute::<0>(tables, c)
                ^ substitute::<1>(tables, d)
                ^ substitute::<2>(tables, a)
                ^ substitute::<3>(tables, b)
                ^ key(schedule, LAST_ROUND_KEY + 2),
            substitute::<0>(tables, d)
                ^ substitute::<1>(tables, a)
                ^ substitute::<2>(tables, b)
                ^ substitute::<3>(tables, c)
                ^ key(schedule, LAST_ROUND_KEY + 3),
        ]
    }
}

/// Enciphers one block, words in memory order.
///
/// # Safety
/// `tables` is valid for reading and aligned, `schedule` for reading at any alignment. `schedule` and `rounds` come from
/// [`expand_key`].
#[inline(always)]
unsafe fn encrypt(
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
    rounds: u32,
    block: [u32; 4],
) -> [u32; 4] {
    // SAFETY: the caller's promise; indexes are within the schedule.
    unsafe {
        let mut a = u32::from_le(block[0]) ^ key(schedule, 0);
        let mut b = u32::from_le(block[1]) ^ key(schedule, 1);
        let mut c = u32::from_le(block[2]) ^ key(schedule, 2);
        let mut d = u32::from_le(block[3]) ^ key(schedule, 3);
        round!(tables, schedule, 4, a b c d);
        round!(tables, schedule, 8, a b c d);
        let out = rounds_from_3(tables, schedule, rounds, [a, b, c, d]);
        [out[0].to_le(), out[1].to_le(), out[2].to_le(), out[3].to_le()]
    }
}

/// Enciphers one block, `src` to `dst`, which may be the same.
///
/// # Safety
/// `schedule` and `src` are valid for reading and `dst` for writing, at any alignment; `tables` is valid for reading and
/// aligned. `schedule` and `rounds` come from [`expand_key`].
#[inline(always)]
pub unsafe fn encrypt_block(
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
    rounds: u32,
    src: *const Block16,
    dst: *mut Block16,
) {
    // SAFETY: the caller's promise; indexes are within the four words.
    unsafe {
        let out = encrypt(tables, schedule, rounds, [load(src, 0), load(src, 1), load(src, 2), load(src, 3)]);
        store(dst, 0, out[0]);
        store(dst, 1, out[1]);
        store(dst, 2, out[2]);
        store(dst, 3, out[3]);
    }
}

/// The enciphering direction with a key, for the modes of [`cbc`](super::cbc) and the MACs built on it.
#[derive(Clone, Copy)]
pub struct Forward {
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
    rounds: u32,
}

impl Forward {
    /// # Safety
    /// As long as the value is used: `tables` is valid for reading and aligned, `schedule` for reading at any alignment.
    /// `schedule` and `rounds` come from [`expand_key`].
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(tables: *const Tables, schedule: *const [u32; SCHEDULE_WORDS], rounds: u32) -> Self {
        Self { tables, schedule, rounds }
    }
}

impl Permutation<4> for Forward {
    #[inline(always)]
    fn apply(&self, block: [u32; 4]) -> [u32; 4] {
        // SAFETY: what `new` was promised.
        unsafe { encrypt(self.tables, self.schedule, self.rounds, block) }
    }
}

/// What the first two rounds of 256 consecutive counter blocks have in common.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counter {
    /// Column 0 after round 1, but for the octet that counts.
    column: u32,
    /// The columns after round 2, but for what column 0 of round 1 contributes.
    columns: [u32; 4],
    /// The octet of the first round key that meets the octet that counts, unshifted.
    key_octet: u32,
}

impl Counter {
    /// All zero: a place to [`counter_init`].
    pub const ZERO: Self = Self { column: 0, columns: [0; 4], key_octet: 0 };

    /// Forgets what came from the key.
    pub(super) fn wipe(&mut self) {
        wipe(core::slice::from_mut(&mut self.column));
        wipe(&mut self.columns);
        wipe(core::slice::from_mut(&mut self.key_octet));
    }
}

/// Prepares the counter blocks `nonce | n` for all `n` that agree with `number` but for its lowest octet.
///
/// # Safety
/// `counter` is valid for writing and aligned, `tables` for reading and aligned, `schedule` for reading.
#[inline(always)]
pub unsafe fn counter_init(
    counter: *mut Counter,
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
    nonce: [u32; 3],
    number: u32,
) {
    // SAFETY: the caller's promise; indexes are within the schedule.
    unsafe {
        let a = u32::from_le(nonce[0]) ^ key(schedule, 0);
        let b = u32::from_le(nonce[1]) ^ key(schedule, 1);
        let c = u32::from_le(nonce[2]) ^ key(schedule, 2);
        let d = number.swap_bytes() ^ key(schedule, 3);
        (*counter).key_octet = key(schedule, 3) >> 24;
        (*counter).column =
            look_up::<0, 0>(tables, a) ^ look_up::<1, 1>(tables, b) ^ look_up::<2, 2>(tables, c) ^ key(schedule, 4);
        let f = look_up::<0, 0>(tables, b)
            ^ look_up::<1, 1>(tables, c)
            ^ look_up::<2, 2>(tables, d)
            ^ look_up::<3, 3>(tables, a)
            ^ key(schedule, 5);
        let g = look_up::<0, 0>(tables, c)
            ^ look_up::<1, 1>(tables, d)
            ^ look_up::<2, 2>(tables, a)
            ^ look_up::<3, 3>(tables, b)
            ^ key(schedule, 6);
        let h = look_up::<0, 0>(tables, d)
            ^ look_up::<1, 1>(tables, a)
            ^ look_up::<2, 2>(tables, b)
            ^ look_up::<3, 3>(tables, c)
            ^ key(schedule, 7);
        (*counter).columns[0] =
            look_up::<1, 1>(tables, f) ^ look_up::<2, 2>(tables, g) ^ look_up::<3, 3>(tables, h) ^ key(schedule, 8);
        (*counter).columns[1] =
            look_up::<0, 0>(tables, f) ^ look_up::<1, 1>(tables, g) ^ look_up::<2, 2>(tables, h) ^ key(schedule, 9);
        (*counter).columns[2] =
            look_up::<0, 0>(tables, g) ^ look_up::<1, 1>(tables, h) ^ look_up::<3, 3>(tables, f) ^ key(schedule, 10);
        (*counter).columns[3] =
            look_up::<0, 0>(tables, h) ^ look_up::<2, 2>(tables, f) ^ look_up::<3, 3>(tables, g) ^ key(schedule, 11);
    }
}

/// XORs the key stream block whose number ends in the lowest octet of `number` into `src`, giving `dst`. `dst` may
/// overlap `src` when it is not higher in memory.
///
/// # Safety
/// `counter` is valid for reading and aligned, prepared with the same `schedule` for the same upper octets of `number`;
/// `tables` is valid for reading and aligned, `schedule` for reading; `src` is valid for reading and `dst` for writing, at
/// any alignment. Where `src` and `dst` overlap, `dst <= src`.
#[inline(always)]
pub unsafe fn counter_xor(
    counter: *const Counter,
    tables: *const Tables,
    schedule: *const [u32; SCHEDULE_WORDS],
    rounds: u32,
    number: u32,
    src: *const Block16,
    dst: *mut Block16,
) {
    // SAFETY: the caller's promise; indexes are within the four words.
    unsafe {
        let e = (*counter).column ^ look_up::<3, 0>(tables, number ^ (*counter).key_octet);
        let out = rounds_from_3(
            tables,
            schedule,
            rounds,
            [
                (*counter).columns[0] ^ look_up::<0, 0>(tables, e),
                (*counter).columns[1] ^ look_up::<3, 3>(tables, e),
                (*counter).columns[2] ^ look_up::<2, 2>(tables, e),
                (*counter).columns[3] ^ look_up::<1, 1>(tables, e),
            ],
        );
        store(dst, 0, load(src, 0) ^ out[0].to_le());
        store(dst, 1, load(src, 1) ^ out[1].to_le());
        store(dst, 2, load(src, 2) ^ out[2].to_le());
        store(dst, 3, load(src, 3) ^ out[3].to_le());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
        core::array::from_fn(|i| u32::from_ne_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
    }

    fn schedule(key_len: u8) -> ([u32; 60], u32) {
        let key: Vec<u8> = (0..key_len).collect();
        let mut schedule = [0; 60];
        let rounds = expand_key(&key, &mut schedule).unwrap();
        (schedule, rounds)
    }

    fn encrypt(schedule: &[u32; 60], rounds: u32, input: [u8; 16]) -> [u8; 16] {
        let mut block = Block16(words(&input));
        // SAFETY: live locals; in place.
        unsafe { encrypt_block(&TABLES, schedule, rounds, &raw const block, &raw mut block) };
        block.0.map(u32::to_ne_bytes).concat().try_into().unwrap()
    }

    fn hex(text: &str) -> [u8; 16] {
        u128::from_str_radix(text, 16).unwrap().to_be_bytes()
    }

    #[test]
    fn ciphers_of_fips197_appendix_c() {
        for (key_len, rounds, expected) in [
            (16, 10, "69c4e0d86a7b0430d8cdb78070b4c55a"),
            (24, 12, "dda97ca4864cdfe06eaf70a0ec0d7191"),
            (32, 14, "8ea2b7ca516745bfeafc49904b496089"),
        ] {
            let (schedule, found) = schedule(key_len);
            assert_eq!(found, rounds);
            assert_eq!(encrypt(&schedule, rounds, hex("00112233445566778899aabbccddeeff")), hex(expected));
        }
    }

    #[test]
    fn cipher_of_fips197_appendix_b_and_last_round_key_of_a_1() {
        let mut schedule = [0; 60];
        let rounds = expand_key(&hex("2b7e151628aed2a6abf7158809cf4f3c"), &mut schedule).unwrap();
        assert_eq!(
            schedule[56..].iter().map(|w| w.to_ne_bytes()).collect::<Vec<_>>().concat(),
            hex("d014f9a8c9ee2589e13f0cc8b6630ca6")
        );
        assert_eq!(
            encrypt(&schedule, rounds, hex("3243f6a8885a308d313198a2e0370734")),
            hex("3925841d02dc09fbdc118597196a0b32")
        );
    }

    #[test]
    fn other_key_lengths_are_refused() {
        for len in (0..40).filter(|len| ![16, 24, 32].contains(len)) {
            assert_eq!(expand_key(&vec![0; len], &mut [0; 60]), None);
        }
    }

    #[test]
    fn precomputed_counter_equals_the_plain_cipher() {
        for key_len in [16, 24, 32] {
            let (schedule, rounds) = schedule(key_len);
            let nonce = [0x0403_0201, 0xfffe_fdfc, 0x8070_6050];
            for base in [0, 0x0000_0100, 0x00ff_ff00, 0xffff_ff00_u32] {
                let mut counter = Counter::ZERO;
                // SAFETY: live locals.
                unsafe { counter_init(&mut counter, &TABLES, &schedule, nonce, base | 0x5a) };
                for low in 0..256 {
                    let number = base | low;
                    let mut plain = Block16([nonce[0], nonce[1], nonce[2], number.to_be()]);
                    let mut stream = Block16([0; 4]);
                    // SAFETY: live locals, in place.
                    unsafe {
                        encrypt_block(&TABLES, &schedule, rounds, &raw const plain, &raw mut plain);
                        let p = &raw mut stream;
                        counter_xor(&counter, &TABLES, &schedule, rounds, number, p, p);
                    }
                    assert_eq!(stream.0, plain.0, "key of {key_len}, block {number:#x}");
                }
            }
        }
    }
}
