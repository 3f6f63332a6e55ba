//! Checked access to packet memory under XDP and TC.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use core::arch::asm;
use ebpf_esp::packet::Frame;

/// Offsets above this are refused: the verifier wants a bound, and no frame that these programs see is longer.
pub const MAX_OFFSET: u32 = 4095;

/// Adds `offset` to a packet pointer where the compiler cannot see it: folded into another addition, the verifier
/// loses the range it has proven.
#[inline(always)]
fn add(pointer: usize, offset: u32) -> usize {
    let mut p = pointer;
    // SAFETY: register arithmetic only.
    unsafe {
        asm!(
            "{1} &= 4095",
            "{0} += {1}",
            inout(reg) p,
            inout(reg) offset as u64 => _,
            options(nomem, nostack, preserves_flags)
        );
    }
    p
}

/// The same value, which the compiler cannot derive anything about: what is tested afterwards is tested in the register
/// that is used.
#[inline(always)]
pub fn opaque(value: u32) -> u32 {
    let mut v = value as u64;
    // SAFETY: register arithmetic only.
    unsafe { asm!("{0} += 0", inout(reg) v, options(nomem, nostack, preserves_flags)) };
    v as u32
}

/// Octets of the moving header that the scratch has room for.
pub const HEADER_ROOM: u32 = 192;

/// The same number of octets, which the caller knows to be 1 to `MAX`, for a verifier that does not. Before Linux 6.8 a
/// test says nothing about the place on the stack that the tested value came from, and `!= 0` says nothing at all.
#[inline(always)]
pub fn size<const MAX: u32>(octets: u32) -> u32 {
    let mut v = octets as u64;
    // SAFETY: register arithmetic only.
    unsafe {
        asm!(
            "if {0} <= {max} goto +1",
            "{0} = {max}",
            "if {0} > 0 goto +1",
            "{0} = 1",
            inout(reg) v,
            max = const MAX,
            options(nomem, nostack, preserves_flags)
        );
    }
    v as u32
}

#[inline(always)]
fn checked<T>(data: usize, end: usize, offset: u32) -> Option<*mut T> {
    if offset > MAX_OFFSET {
        return None;
    }
    let p = add(data, offset);
    if p + size_of::<T>() > end {
        return None;
    }
    Some(p as *mut T)
}

/// A frame under XDP.
#[derive(Clone, Copy)]
pub struct XdpFrame(pub *mut xdp_md);

impl XdpFrame {
    /// Octets in the frame.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        // SAFETY: the context is valid for the whole run of the program.
        unsafe { (*self.0).data_end.wrapping_sub((*self.0).data) }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
        // SAFETY: as above.
        unsafe { checked((*self.0).data as usize, (*self.0).data_end as usize, offset) }
    }
}

/// The linear part of an skb under TC.
#[derive(Clone, Copy)]
pub struct SkbFrame(pub *mut __sk_buff);

impl Frame for SkbFrame {
    #[inline(always)]
    fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
        // SAFETY: the context is valid for the whole run of the program.
        unsafe { checked((*self.0).data as usize, (*self.0).data_end as usize, offset) }
    }
}
