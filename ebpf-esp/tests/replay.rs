//! The replay window against a model that remembers everything, and under every interleaving of two CPUs.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail by panicking")]

use ebpf_esp::replay::{Cells, Refusal, commit, infer_high, precheck};
use proptest::prelude::*;
use sadb_maps::sa::{MAX_REPLAY_WINDOW, WINDOW_BITS, WINDOW_WORDS, ring_bits};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

struct Plain {
    words: RefCell<Vec<u64>>,
    top: Cell<u64>,
}

impl Plain {
    fn new(window: u32) -> Self {
        Self { words: RefCell::new(vec![0; 1 << ring_bits(window)]), top: Cell::new(0) }
    }
}

impl Cells for Plain {
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
        let found = self.words.borrow()[index];
        if found == old {
            self.words.borrow_mut()[index] = new;
        }
        found
    }
    fn top(&self) -> u64 {
        self.top.get()
    }
    fn swap_top(&self, old: u64, new: u64) -> u64 {
        let found = self.top.get();
        if found == old {
            self.top.set(new);
        }
        found
    }
}

/// RFC 4303 section 3.4.3 word for word: everything seen, and the highest number.
#[derive(Default)]
struct Model {
    seen: HashSet<u64>,
    top: u64,
}

impl Model {
    fn accept(&mut self, seq: u64, window: u32) -> bool {
        let too_old = seq <= self.top && self.top - seq >= u64::from(window);
        if too_old || self.seen.contains(&seq) {
            return false;
        }
        self.seen.insert(seq);
        self.top = self.top.max(seq);
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// ESP-IN-03, ESP-IN-05, ESP-IN-06: whatever arrives in whatever order, the window accepts what the model accepts.
    #[test]
    fn window_equals_the_model(
        window in prop_oneof![
            Just(1u32), Just(32), Just(64), Just(1000), Just(1024), Just(1025), Just(4096), Just(65_536),
            1u32..=1024, 1u32..=65_536
        ],
        start in prop_oneof![Just(1u64), Just((1 << 32) - 500), Just((1 << 42) - 28_100_000), 1u64..(1 << 41)],
        steps in prop_oneof![
            prop::collection::vec(-1500i64..1500, 1..400), prop::collection::vec(-70_000i64..70_000, 1..400)
        ],
    ) {
        let (cells, mut model) = (Plain::new(window), Model::default());
        let mut at = start;
        for step in steps {
            at = at.saturating_add_signed(step).max(1);
            let accepted = precheck(&cells, at, window).is_ok() && commit(&cells, at, window).is_ok();
            prop_assert_eq!(accepted, model.accept(at, window), "sequence number {} top {}", at, model.top);
            prop_assert_eq!(cells.top(), model.top);
        }
    }

    /// ESP-IN-07: a packet within half the number space of the top gets its own high half back.
    #[test]
    fn the_high_half_is_inferred(top in 1u64..(1 << 40), behind in 0u64..1024, ahead in 0u64..(1 << 30), late in any::<bool>()) {
        let seq = if late { top.saturating_sub(behind).max(1) } else { top + ahead };
        prop_assert_eq!(infer_high(top, seq as u32, 1024), seq);
    }
}

/// ESP-IN-06 at the edges: first packet, top, top - (W - 1), one further left, a jump of more than the ring.
#[test]
fn edges() {
    for window in [1024, 1025, MAX_REPLAY_WINDOW] {
        let (cells, top) = (Plain::new(window), 100_000);
        let width = u64::from(window);
        assert_eq!(commit(&cells, 1, window), Ok(()));
        assert_eq!(commit(&cells, 1, window), Err(Refusal::Seen));
        assert_eq!(commit(&cells, top, window), Ok(()));
        assert_eq!(commit(&cells, top - (width - 1), window), Ok(()));
        assert_eq!(precheck(&cells, top - width, window), Err(Refusal::TooOld));
        assert_eq!(commit(&cells, top - width, window), Err(Refusal::TooOld));
        assert_eq!(commit(&cells, top + 200_000, window), Ok(()));
        assert_eq!(commit(&cells, top, window), Err(Refusal::TooOld));
    }
}

mod interleaved {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering};

    /// Two words are enough: the others are never touched by the numbers used.
    struct Shared {
        words: Vec<AtomicU64>,
        top: AtomicU64,
    }

    impl Cells for Shared {
        type Word = usize;
        fn bits(&self) -> u32 {
            WINDOW_BITS
        }
        fn word(&self, index: usize) -> Option<usize> {
            Some(index % 2)
        }
        fn load(&self, index: usize) -> u64 {
            self.words[index].load(Ordering::Acquire)
        }
        fn swap(&self, index: usize, old: u64, new: u64) -> u64 {
            let (Ok(found) | Err(found)) =
                self.words[index].compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
            found
        }
        fn top(&self) -> u64 {
            self.top.load(Ordering::Acquire)
        }
        fn swap_top(&self, old: u64, new: u64) -> u64 {
            let (Ok(found) | Err(found)) = self.top.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
            found
        }
    }

    fn accepted_by_two(first: u64, second: u64) {
        loom::model(move || {
            let cells = Arc::new(Shared { words: vec![AtomicU64::new(0), AtomicU64::new(0)], top: AtomicU64::new(0) });
            let other = Arc::clone(&cells);
            let thread = loom::thread::spawn(move || commit(&*other, first, 64).is_ok());
            let here = commit(&*cells, second, 64).is_ok();
            let there = thread.join().unwrap();
            if first == second {
                assert!(here != there, "exactly one of two packets with one number is accepted");
            } else {
                assert!(here && there, "two numbers within the window are both accepted");
                assert_eq!(cells.top(), first.max(second));
            }
        });
    }

    /// ESP-IN-15.
    #[test]
    fn one_number_is_accepted_once() {
        accepted_by_two(7, 7);
    }

    /// Two numbers in one word, and in two words.
    #[test]
    fn different_numbers_do_not_disturb_each_other() {
        accepted_by_two(7, 9);
        accepted_by_two(30, 40);
    }

    /// A word is advanced to the next round of the ring by two CPUs at once.
    #[test]
    fn a_stale_word_is_advanced_once() {
        loom::model(|| {
            let old = 1u64 << 5;
            let cells =
                Arc::new(Shared { words: vec![AtomicU64::new(old), AtomicU64::new(0)], top: AtomicU64::new(5) });
            let other = Arc::clone(&cells);
            let round = (WINDOW_WORDS as u64) * 32;
            let thread = loom::thread::spawn(move || commit(&*other, round + 3, 64).is_ok());
            assert!(commit(&*cells, round + 4, 64).is_ok());
            assert!(thread.join().unwrap());
            assert!(commit(&*cells, round + 3, 64).is_err() && commit(&*cells, round + 4, 64).is_err());
        });
    }
}
