//! Bit vectors in pages, equal ones stored once.

use crate::spd::{Class, PAGE_RULES, PAGE_WORDS, Page, SUMMARY_PAGES};
use std::collections::HashMap;

/// Every page that some vector has.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: Vec<Page>,
    numbers: HashMap<Page, u32>,
}

impl Pages {
    fn number(&mut self, page: Page) -> u32 {
        *self.numbers.entry(page).or_insert_with(|| {
            self.pages.push(page);
            self.pages.len() as u32 - 1
        })
    }

    fn page(&self, number: u32) -> Page {
        self.pages.get(number as usize).copied().unwrap_or_default()
    }

    /// The pages by number.
    pub(super) fn into_all(self) -> Vec<Page> {
        self.pages
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The vector with these bits set or cleared.
    pub(super) fn with(&mut self, vector: &Class, rules: &[u32], on: bool) -> Class {
        let mut changed = *vector;
        let mut rest = rules;
        while let Some(first) = rest.first() {
            // Rules come in ascending order, those of one page beside each other.
            let index = (first / PAGE_RULES) as usize;
            let end = rest.iter().position(|r| (r / PAGE_RULES) as usize != index).unwrap_or(rest.len());
            let (here, behind) = rest.split_at(end);
            rest = behind;
            self.change(&mut changed, index, here, on);
        }
        changed
    }

    fn change(&mut self, vector: &mut Class, index: usize, rules: &[u32], on: bool) {
        let shift = index % SUMMARY_PAGES * PAGE_WORDS;
        let (Some(number), Some(summary)) =
            (vector.pages.get_mut(index), vector.summary.get_mut(index / SUMMARY_PAGES))
        else {
            return;
        };
        let empty = *summary >> shift & 0xff == 0;
        let mut page = if empty { Page::default() } else { self.page(*number) };
        for rule in rules {
            let within = rule % PAGE_RULES;
            if let Some(word) = page.0.get_mut((within / 64) as usize) {
                let bit = 1 << (within % 64);
                *word = if on { *word | bit } else { *word & !bit };
            }
        }
        let words = page.0.iter().enumerate().fold(0, |bits, (i, word)| bits | u64::from(*word != 0) << i);
        *summary = *summary & !(0xff << shift) | words << shift;
        *number = if words == 0 { 0 } else { self.number(page) };
    }
}

/// The classes of one dimension.
#[derive(Debug, Default)]
pub(super) struct Classes {
    classes: Vec<Class>,
    numbers: HashMap<Class, u16>,
}

impl Classes {
    /// Number of the class with this vector. The caller keeps below 65,536 classes.
    pub(super) fn number(&mut self, class: &Class) -> u16 {
        *self.numbers.entry(*class).or_insert_with(|| {
            self.classes.push(*class);
            (self.classes.len() - 1) as u16
        })
    }

    /// The classes by number.
    pub(super) fn into_all(self) -> Vec<Class> {
        self.classes
    }

    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }
}
