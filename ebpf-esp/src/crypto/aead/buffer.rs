//! A packet in ordinary memory: what the drivers walk on the host, in tests and fuzzers.

use core::marker::PhantomData;

use super::{Packet, Tail};
use crate::crypto::Block64;

/// A borrowed byte buffer as a [`Packet`].
pub struct Buffer<'a> {
    // A pointer instead of the slice, since two blocks may be in use at once.
    start: *mut u8,
    len: usize,
    borrow: PhantomData<&'a mut [u8]>,
}

impl<'a> Buffer<'a> {
    /// The whole of `bytes` is the packet.
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { start: bytes.as_mut_ptr(), len: bytes.len(), borrow: PhantomData }
    }

    /// The `len` octets at `offset`, if they are inside.
    fn at(&self, offset: u32, len: u32) -> Option<*mut u8> {
        let (offset, len) = (offset as usize, len as usize);
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `offset` is at most the length of the borrowed slice.
        Some(unsafe { self.start.add(offset) })
    }
}

// SAFETY: `at` keeps every pointer inside the slice that is borrowed for 'a, and all derive from one raw pointer.
unsafe impl Packet for Buffer<'_> {
    const MAX_BLOCKS: u32 = 1024;

    fn block64(&mut self, offset: u32) -> Option<*mut Block64> {
        self.at(offset, 64).map(<*mut u8>::cast)
    }

    unsafe fn load(&mut self, offset: u32, len: u32, to: *mut Tail) -> Option<()> {
        let from = self.at(offset, len)?;
        // SAFETY: `len` octets are inside the slice; the tail is 128 octets and apart from it, as the caller promises.
        unsafe { to.cast::<u8>().copy_from_nonoverlapping(from, len.min(128) as usize) };
        Some(())
    }

    unsafe fn store(&mut self, offset: u32, len: u32, from: *const Tail) -> Option<()> {
        let to = self.at(offset, len)?;
        // SAFETY: as in `load`.
        unsafe { to.copy_from_nonoverlapping(from.cast(), len.min(128) as usize) };
        Some(())
    }
}
