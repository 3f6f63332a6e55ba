//! Replay windows of new and old SAs: the words that the data path checks and sets (RFC 4303 section 3.4.3).

use super::error::SadbError;
use super::maps::SaMaps;
use crate::sa::{MAX_WINDOW_PAGES, PAGE_WORDS, WINDOW_BITS, Window, WindowPage, WindowPageKey};
use bytemuck::Zeroable;

/// Writes the ring of 2^`bits` words of an SA that nothing leads to yet: every number up to `top` counts as seen, as far as
/// it reaches; none does for 0.
///
/// # Errors
/// [`SadbError::WindowsFull`] when there are no pages left; those that were written are taken back.
pub(super) fn write(maps: &mut SaMaps, slot: u32, bits: u32, top: u64) -> Result<(), SadbError> {
    if bits == WINDOW_BITS && top == 0 {
        // As slots are that hold nothing.
        return Ok(());
    }
    let words = below(top, bits);
    if bits == WINDOW_BITS {
        let mut window = Window::zeroed();
        window.0.iter_mut().zip(words).for_each(|(to, from)| *to = from);
        return maps.windows.set(slot, &window);
    }
    for (number, part) in (0..).zip(words.chunks(PAGE_WORDS)) {
        let mut page = WindowPage::zeroed();
        page.0.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        if !maps.pages.insert_if_room(&WindowPageKey { slot, page: number }, &page)? {
            for page in 0..number {
                maps.pages.remove(&WindowPageKey { slot, page })?;
            }
            return Err(SadbError::WindowsFull(MAX_WINDOW_PAGES * 4096));
        }
    }
    Ok(())
}

/// Takes away what [`write()`] made, whatever it was.
pub(super) fn clear(maps: &mut SaMaps, slot: u32) -> Result<(), SadbError> {
    for page in 0.. {
        let key = WindowPageKey { slot, page };
        if maps.pages.get(&key)?.is_none() {
            break;
        }
        maps.pages.remove(&key)?;
    }
    maps.windows.set(slot, &Window::zeroed())
}

fn below(top: u64, bits: u32) -> Vec<u64> {
    let words = 1_u64 << bits;
    let mut ring = vec![0; 1 << bits];
    if top == 0 {
        return ring;
    }
    let last = top >> 5;
    for block in last.saturating_sub(words - 1)..=last {
        let seen = if block == last { u32::MAX >> (31 - (top & 31)) } else { u32::MAX };
        let tag = (block / words) & 0xffff_ffff;
        if let Some(word) = ring.get_mut((block % words) as usize) {
            *word = tag << 32 | u64::from(seen);
        }
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sa::{MAX_REPLAY_WINDOW, ring_bits};
    use ebpf_esp::replay::{Cells, Refusal, commit, precheck};
    use std::cell::{Cell, RefCell};

    /// The replay check of the data path on a window of ours.
    struct Replay {
        words: RefCell<Vec<u64>>,
        top: Cell<u64>,
    }

    impl Cells for Replay {
        type Word = usize;
        fn bits(&self) -> u32 {
            self.words.borrow().len().ilog2()
        }
        fn word(&self, index: usize) -> Option<usize> {
            Some(index)
        }
        fn load(&self, index: usize) -> u64 {
            self.words.borrow()[index]
        }
        fn swap(&self, index: usize, old: u64, new: u64) -> u64 {
            let mut words = self.words.borrow_mut();
            let found = words[index];
            words[index] = if found == old { new } else { found };
            found
        }
        fn top(&self) -> u64 {
            self.top.get()
        }
        fn swap_top(&self, old: u64, new: u64) -> u64 {
            let found = self.top.get();
            self.top.set(if found == old { new } else { found });
            found
        }
    }

    #[test]
    fn a_restored_counter_refuses_all_it_has_seen_and_nothing_else() {
        for window in [1024, 1025, 4000, MAX_REPLAY_WINDOW] {
            for top in [1, 31, 32, 33, 2047, 2048, 2049, 5000, 131_071, 131_073, (1 << 32) + 7, (1 << 37) - 1] {
                let replay = Replay { words: RefCell::new(below(top, ring_bits(window))), top: Cell::new(top) };
                for seq in top.saturating_sub(u64::from(window) - 1).max(1)..=top {
                    assert_eq!(precheck(&replay, seq, window), Err(Refusal::Seen), "{seq} of {top}");
                }
                for seq in [top + 1, top + 3, top + 2, top + 700, top + 100] {
                    assert_eq!(precheck(&replay, seq, window), Ok(()), "{seq} of {top}");
                    assert_eq!(commit(&replay, seq, window), Ok(()), "{seq} of {top}");
                    assert_eq!(precheck(&replay, seq, window), Err(Refusal::Seen), "{seq} of {top}");
                }
            }
        }
    }
}
