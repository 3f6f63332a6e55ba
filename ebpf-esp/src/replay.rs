//! The anti-replay window of RFC 4303 section 3.4.3, and the inference of the high half of an extended sequence number
//! from appendix A2.
//!
//! Each word of the ring is `{block tag, 32 bits}` and is advanced by compare-and-swap, so any number of CPUs may
//! commit at once and exactly one of them gets a given sequence number. The highest number seen is kept apart; a late
//! update of it only widens the window for a moment, never past what the words still know. The kernel side and the
//! model-checking tests share this code over [`Cells`].
//!
//! Tags are compared in serial number arithmetic, so a word must not stay untouched while the sequence number moves on
//! by 2^42 (the smallest ring). It cannot: a single packet advances the number by less than 2^32, and 1024 times 2^32
//! lost packets, with nothing in between that touches the word, is no SA that still has a key.

/// Tries of a compare-and-swap before a packet is given up. Each failure means that another CPU made progress.
const TRIES: u32 = 16;

/// Atomic access to one window and to the highest sequence number seen.
pub trait Cells {
    /// A word of the ring.
    type Word: Copy;
    /// Two to this power is the number of words of the ring.
    fn bits(&self) -> u32;
    /// Word `index` of the ring; `index` is below its number of words. `None` when the ring is not there.
    fn word(&self, index: usize) -> Option<Self::Word>;
    /// What is in a word.
    fn load(&self, word: Self::Word) -> u64;
    /// Swaps `new` in if the word is `old`; returns what was there.
    fn swap(&self, word: Self::Word, old: u64, new: u64) -> u64;
    /// The highest sequence number accepted.
    fn top(&self) -> u64;
    /// Swaps `new` in if the top is `old`; returns what was there.
    fn swap_top(&self, old: u64, new: u64) -> u64;
}

/// Why a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Left of the window.
    TooOld,
    /// Seen before.
    Seen,
    /// Other CPUs kept winning; the peer retransmits.
    Contended,
    /// There is no ring.
    NoWindow,
}

/// The 64-bit sequence number that a packet with these low 32 bits most likely has (RFC 4303 appendix A2.1), given the
/// highest number accepted and the window size in packets.
#[inline(always)]
pub const fn infer_high(top: u64, low: u32, window: u32) -> u64 {
    let top_low = top as u32;
    let top_high = top >> 32;
    let bottom = top_low.wrapping_sub(window.saturating_sub(1));
    if top_low >= window.saturating_sub(1) {
        // The window lies within one 2^32 subspace.
        if low >= bottom { (top_high << 32) | low as u64 } else { (top_high.wrapping_add(1) << 32) | low as u64 }
    } else if low >= bottom {
        // The window spans two subspaces and the packet is in the lower one, which exists unless the top is young.
        if top_high == 0 { low as u64 } else { ((top_high - 1) << 32) | low as u64 }
    } else {
        (top_high << 32) | low as u64
    }
}

#[inline(always)]
const fn place(seq: u64, bits: u32) -> (usize, u32, u64) {
    let block = seq >> 5;
    ((block & ((1 << bits) - 1)) as usize, (block >> bits) as u32, 1 << (seq & 31))
}

/// Whether `tag` is a later round of the ring than `than`, in serial number arithmetic.
#[inline(always)]
const fn later(tag: u32, than: u32) -> bool {
    (tag.wrapping_sub(than) as i32) > 0
}

/// The check before the integrity check: refuses what cannot be accepted, changes nothing.
///
/// # Errors
/// All but [`Refusal::Contended`].
#[inline(always)]
pub fn precheck<C: Cells>(cells: &C, seq: u64, window: u32) -> Result<(), Refusal> {
    let top = cells.top();
    if seq <= top && top - seq >= window as u64 {
        return Err(Refusal::TooOld);
    }
    let (index, tag, bit) = place(seq, cells.bits());
    let Some(word) = cells.word(index) else { return Err(Refusal::NoWindow) };
    let word = cells.load(word);
    let at = (word >> 32) as u32;
    if at == tag {
        return if word & bit == 0 { Ok(()) } else { Err(Refusal::Seen) };
    }
    if later(at, tag) { Err(Refusal::TooOld) } else { Ok(()) }
}

/// Takes `seq`, after the packet has passed its integrity check. Of several callers with one number exactly one wins.
///
/// # Errors
/// All of them.
#[inline(always)]
pub fn commit<C: Cells>(cells: &C, seq: u64, window: u32) -> Result<(), Refusal> {
    let top = cells.top();
    if seq <= top && top - seq >= window as u64 {
        return Err(Refusal::TooOld);
    }
    let (index, tag, bit) = place(seq, cells.bits());
    let Some(cell) = cells.word(index) else { return Err(Refusal::NoWindow) };
    let mut word = cells.load(cell);
    let mut tries = 0;
    loop {
        let at = (word >> 32) as u32;
        let new = if at == tag {
            if word & bit != 0 {
                return Err(Refusal::Seen);
            }
            word | bit
        } else if later(at, tag) {
            return Err(Refusal::TooOld);
        } else {
            ((tag as u64) << 32) | bit
        };
        let found = cells.swap(cell, word, new);
        if found == word {
            break;
        }
        word = found;
        tries += 1;
        if tries == TRIES {
            return Err(Refusal::Contended);
        }
    }
    raise(cells, top, seq);
    Ok(())
}

/// Takes the number of an authenticated packet where nothing is refused: the high half of the next one is inferred from
/// the top (RFC 4303 appendix A2.1).
#[inline(always)]
pub fn follow<C: Cells>(cells: &C, seq: u64) {
    raise(cells, cells.top(), seq);
}

/// Makes `seq` the top unless that is higher; `top` is what it was a moment ago.
#[inline(always)]
fn raise<C: Cells>(cells: &C, mut top: u64, seq: u64) {
    let mut tries = 0;
    while seq > top && tries < TRIES {
        let found = cells.swap_top(top, seq);
        if found == top {
            break;
        }
        top = found;
        tries += 1;
    }
}
