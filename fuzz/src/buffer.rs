//! A frame in memory whose surroundings tell when something wrote past it.

use ebpf_esp::packet::Frame;
use std::cell::UnsafeCell;

/// Octets on either side that nobody may touch.
const GUARD: usize = 64;
const UNTOUCHED: u8 = 0xe7;

/// The frame, with guards in front and behind.
pub(crate) struct Buffer {
    octets: UnsafeCell<Box<[u8]>>,
}

impl Buffer {
    pub(crate) fn new(frame: &[u8]) -> Self {
        let guard = [UNTOUCHED; GUARD];
        Self { octets: UnsafeCell::new([&guard, frame, &guard].concat().into()) }
    }

    /// The frame as it is now.
    pub(crate) fn frame(&self) -> Vec<u8> {
        // SAFETY: one thread, and no other reference lives.
        let octets = unsafe { &*self.octets.get() };
        let (guards, frame) =
            ([&octets[..GUARD], &octets[octets.len() - GUARD..]], &octets[GUARD..octets.len() - GUARD]);
        assert!(guards.iter().all(|guard| guard.iter().all(|octet| *octet == UNTOUCHED)), "written outside the frame");
        frame.to_vec()
    }
}

impl Frame for Buffer {
    fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
        // SAFETY: one thread, and no other reference lives.
        let octets = unsafe { &mut *self.octets.get() };
        let start = GUARD.checked_add(offset as usize)?;
        let end = start.checked_add(size_of::<T>())?;
        if end > octets.len() - GUARD {
            return None;
        }
        Some(octets.get_mut(start..end)?.as_mut_ptr().cast())
    }
}
