//! The ChaCha20 block function and its use as a stream cipher, RFC 8439 section 2.3 and 2.4.
//!
//! One call makes one 64-byte block; the caller walks the message and advances the block counter. Sixteen words in
//! locals and ten rolled double rounds are the shape that compiles best for BPF. Constant time.

use super::{Block64, load, store};

/// The initial state of a block: constants, key, block counter, nonce (RFC 8439 section 2.3), as numbers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct State(pub [u32; 16]);

/// Index of the block counter in [`State`].
pub const COUNTER: usize = 12;

impl State {
    /// All zero: a place to [`init`].
    pub const ZERO: Self = Self([0; 16]);
}

/// Sets up the state for `key` and `nonce`, both as words in memory order, and the block `counter` as a number.
///
/// # Safety
/// `state` is valid for writing and `key` for reading; both at any alignment.
#[inline(always)]
pub unsafe fn init(state: *mut State, key: *const [u32; 8], counter: u32, nonce: [u32; 3]) {
    // SAFETY: indexes 0..16 of a state of 16 words, 0..8 of a key of 8 words.
    unsafe {
        store(state, 0, 0x6170_7865);
        store(state, 1, 0x3320_646e);
        store(state, 2, 0x7962_2d32);
        store(state, 3, 0x6b20_6574);
        store(state, 4, u32::from_le(load(key, 0)));
        store(state, 5, u32::from_le(load(key, 1)));
        store(state, 6, u32::from_le(load(key, 2)));
        store(state, 7, u32::from_le(load(key, 3)));
        store(state, 8, u32::from_le(load(key, 4)));
        store(state, 9, u32::from_le(load(key, 5)));
        store(state, 10, u32::from_le(load(key, 6)));
        store(state, 11, u32::from_le(load(key, 7)));
        store(state, COUNTER, counter);
        store(state, 13, u32::from_le(nonce[0]));
        store(state, 14, u32::from_le(nonce[1]));
        store(state, 15, u32::from_le(nonce[2]));
    }
}

/// Sets the number of the block that the next [`xor_block`] makes.
///
/// # Safety
/// `state` is valid for writing, at any alignment.
#[inline(always)]
pub unsafe fn set_counter(state: *mut State, counter: u32) {
    // SAFETY: index 12 of 16 words.
    unsafe { store(state, COUNTER, counter) }
}

macro_rules! quarter_round {
    ($a:ident, $b:ident, $c:ident, $d:ident) => {
        $a = $a.wrapping_add($b);
        $d = ($d ^ $a).rotate_left(16);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_left(12);
        $a = $a.wrapping_add($b);
        $d = ($d ^ $a).rotate_left(8);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_left(7);
    };
}

/// Makes the key stream block of `state` and writes `src` XOR key stream to `dst`. The state stays as it is.
///
/// `dst` may overlap `src` when it is not higher in memory: words are read and written in ascending order, so that a
/// payload can move towards the head of its packet while it is enciphered.
///
/// # Safety
/// `state` and `src` are valid for reading, `dst` for writing, each over its whole size and at any alignment. Where
/// `src` and `dst` overlap, `dst <= src`. `state` overlaps neither.
#[inline(always)]
pub unsafe fn xor_block(state: *const State, src: *const Block64, dst: *mut Block64) {
    // SAFETY: every index is below the 16 words of the three types.
    unsafe {
        let mut x0 = load(state, 0);
        let mut x1 = load(state, 1);
        let mut x2 = load(state, 2);
        let mut x3 = load(state, 3);
        let mut x4 = load(state, 4);
        let mut x5 = load(state, 5);
        let mut x6 = load(state, 6);
        let mut x7 = load(state, 7);
        let mut x8 = load(state, 8);
        let mut x9 = load(state, 9);
        let mut x10 = load(state, 10);
        let mut x11 = load(state, 11);
        let mut x12 = load(state, COUNTER);
        let mut x13 = load(state, 13);
        let mut x14 = load(state, 14);
        let mut x15 = load(state, 15);

        let mut double_rounds = 10;
        while double_rounds > 0 {
            quarter_round!(x0, x4, x8, x12);
            quarter_round!(x1, x5, x9, x13);
            quarter_round!(x2, x6, x10, x14);
            quarter_round!(x3, x7, x11, x15);
            quarter_round!(x0, x5, x10, x15);
            quarter_round!(x1, x6, x11, x12);
            quarter_round!(x2, x7, x8, x13);
            quarter_round!(x3, x4, x9, x14);
            double_rounds -= 1;
        }

        macro_rules! output {
            ($($i:literal $x:ident)*) => {$(
                let word = $x.wrapping_add(load(state, $i)).to_le();
                store(dst, $i, load(src, $i) ^ word);
            )*};
        }
        output!(0 x0 1 x1 2 x2 3 x3 4 x4 5 x5 6 x6 7 x7 8 x8 9 x9 10 x10 11 x11 12 x12 13 x13 14 x14 15 x15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
        core::array::from_fn(|i| u32::from_ne_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
    }

    fn rfc8439_state(counter: u32, nonce: [u8; 12]) -> State {
        let key: [u8; 32] = core::array::from_fn(|i| i as u8);
        let mut state = State::ZERO;
        // SAFETY: both are live and of the right size.
        unsafe { init(&mut state, &words(&key), counter, words(&nonce)) };
        state
    }

    #[test]
    fn block_function_of_rfc8439_2_3_2() {
        let state = rfc8439_state(1, [0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0]);
        let mut block = Block64([0; 16]);
        // SAFETY: all live; in place.
        unsafe { xor_block(&state, &raw const block, &raw mut block) };
        assert_eq!(
            block.0.map(u32::from_le),
            [
                0xe4e7_f110,
                0x1559_3bd1,
                0x1fdd_0f50,
                0xc471_20a3,
                0xc7f4_d1c7,
                0x0368_c033,
                0x9aaa_2204,
                0x4e6c_d4c3,
                0x4664_82d2,
                0x09aa_9f07,
                0x05d7_c214,
                0xa202_8bd9,
                0xd19c_12b5,
                0xb94e_16de,
                0xe883_d0cb,
                0x4e3c_50a2,
            ]
        );
    }

    #[test]
    fn stream_cipher_of_rfc8439_2_4_2() {
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let expected = "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b357\
            1639d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6\
            b40b8eedf2785e42874d";
        let mut buffer = [0u8; 128];
        buffer[..plain.len()].copy_from_slice(plain);
        let mut state = rfc8439_state(1, [0, 0, 0, 0, 0, 0, 0, 0x4a, 0, 0, 0, 0]);
        for i in 0..2 {
            let block = buffer[64 * i..64 * (i + 1)].as_mut_ptr().cast::<Block64>();
            // SAFETY: 64 bytes of the buffer, in place; the state is live.
            unsafe {
                set_counter(&mut state, 1 + i as u32);
                xor_block(&state, block, block);
            }
        }
        let hex: String = buffer[..plain.len()].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn output_may_overlap_lower_input_at_every_shift() {
        let state = rfc8439_state(7, [3; 12]);
        let input: [u8; 64] = core::array::from_fn(|i| (i * 5) as u8);
        let mut expected = input;
        // SAFETY: 64 bytes, in place.
        unsafe { xor_block(&state, expected.as_ptr().cast(), expected.as_mut_ptr().cast()) };
        for shift in 0..=64 {
            let mut buffer = [0u8; 128];
            buffer[shift..shift + 64].copy_from_slice(&input);
            let p = buffer.as_mut_ptr();
            // SAFETY: both blocks are inside the 128 bytes, the output is the lower one.
            unsafe { xor_block(&state, p.add(shift).cast(), p.cast()) };
            assert_eq!(buffer[..64], expected, "shift {shift}");
        }
    }
}
