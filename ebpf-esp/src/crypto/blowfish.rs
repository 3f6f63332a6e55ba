//! Blowfish (Schneier 1993), for peers that have nothing better: RFC 2451, keys of 40 to 448 bits; Solaris takes 32 bits
//! as well.
//!
//! The key is worked into a P-array of 18 words and four S-boxes of 256, which an SA keeps: 4168 octets. Deciphering is
//! enciphering with the P-array in reverse, so that the state alone tells the direction.
//! **Not constant time**: the S-boxes are indexed with secrets.

mod pi;

use super::permutation::Permutation;
use super::transform::Direction;
use super::{load, wipe};

/// Words of the P-array.
const P_WORDS: usize = 18;

/// Words of a state: P-array and S-boxes.
pub const STATE_WORDS: usize = P_WORDS + 4 * 256;

/// What an SA keeps of its key: the P-array in the order of use, then the four S-boxes, as numbers.
pub type State = [u32; STATE_WORDS];

/// Works a key of 4 to 56 octets into a state; `None` for any other length. For user space, when an SA is installed: it
/// takes 521 encipherings.
#[must_use]
pub fn expand_key(key: &[u8], direction: Direction, state: &mut State) -> Option<()> {
    expand(key, state)?;
    if direction == Direction::Decrypt
        && let Some(p) = state.first_chunk_mut::<P_WORDS>()
    {
        p.reverse();
    }
    Some(())
}

fn expand(key: &[u8], state: &mut State) -> Option<()> {
    if !(4..=56).contains(&key.len()) {
        return None;
    }
    *state = pi::PI;
    let mut octets = key.iter().cycle();
    for word in state.iter_mut().take(P_WORDS) {
        for shift in [24, 16, 8, 0] {
            *word ^= u32::from(*octets.next()?) << shift;
        }
    }
    let mut block = [0; 2];
    for i in 0..STATE_WORDS / 2 {
        block = encrypt(state, block);
        let pair = state.as_chunks_mut::<2>().0.get_mut(i)?;
        *pair = block;
    }
    wipe(&mut block);
    Some(())
}

/// Whether the key makes a weak state, with two equal entries in one S-box (RFC 2451 section 2.3 advises against such
/// keys, of which no practical attack on all 16 rounds is known). `None` for a length that Blowfish does not take.
#[must_use]
pub fn is_weak(key: &[u8]) -> Option<bool> {
    let mut state = [0; STATE_WORDS];
    expand(key, &mut state)?;
    let boxes = state.last_chunk_mut::<1024>()?.as_chunks_mut::<256>().0;
    let mut weak = false;
    for s in boxes {
        s.sort_unstable();
        weak |= s.array_windows().any(|[a, b]| a == b);
    }
    wipe(&mut state);
    Some(weak)
}

/// What S-box `BOX` has for its octet of `x`; the first box takes the highest.
///
/// # Safety
/// `state` is valid for reading.
#[inline(always)]
unsafe fn look_up<const BOX: u32>(state: *const State, x: u32) -> u32 {
    // The index comes out pre-scaled by 4, with a mask that bounds it.
    let shifted = if BOX == 3 { x << 2 } else { x >> (22 - 8 * BOX) };
    let scaled = shifted & 0x3fc;
    // SAFETY: the mask keeps the offset within a box's 1024 octets; BOX is below 4.
    unsafe {
        state.cast::<u8>().add(4 * P_WORDS + 1024 * BOX as usize + scaled as usize).cast::<u32>().read_unaligned()
    }
}

/// Enciphers a block of two numbers.
///
/// # Safety
/// `state` is valid for reading.
#[inline(always)]
unsafe fn rounds(state: *const State, block: [u32; 2]) -> [u32; 2] {
    let [mut left, mut right] = block;
    // SAFETY: the caller's promise; indexes are below 18.
    unsafe {
        let f = |x: u32| {
            (look_up::<0>(state, x).wrapping_add(look_up::<1>(state, x)) ^ look_up::<2>(state, x))
                .wrapping_add(look_up::<3>(state, x))
        };
        let mut i = 0;
        while i < 16 {
            left ^= load(state, i);
            right ^= f(left);
            right ^= load(state, i + 1);
            left ^= f(right);
            i += 2;
        }
        [right ^ load(state, 17), left ^ load(state, 16)]
    }
}

fn encrypt(state: &State, block: [u32; 2]) -> [u32; 2] {
    // SAFETY: a borrowed state.
    unsafe { rounds(state, block) }
}

/// Blowfish with a key, in the direction that the state was made for.
#[derive(Clone, Copy)]
pub struct Blowfish(*const State);

impl Blowfish {
    /// # Safety
    /// `state` is valid for reading as long as the value is used.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(state: *const State) -> Self {
        Self(state)
    }
}

impl Permutation<2> for Blowfish {
    #[inline(always)]
    fn apply(&self, block: [u32; 2]) -> [u32; 2] {
        // SAFETY: what `new` was promised.
        let [left, right] = unsafe { rounds(self.0, [u32::from_be(block[0]), u32::from_be(block[1])]) };
        [left.to_be(), right.to_be()]
    }
}
