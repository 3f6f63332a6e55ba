//! Walking a packet in blocks: the loops that every cipher and authenticator shares. Packet pointers are made afresh for
//! every block, because a call in between may leave none valid.

use aya_ebpf::bindings::xdp_md;
use ebpf_esp::crypto::{Block16, Block64};
use ebpf_esp::packet::Frame;

use crate::cipher::{BOUNDS, OK};
use crate::frame::{MAX_OFFSET, XdpFrame};

/// 64-octet blocks that the longest frame can hold.
pub const MAX_BLOCKS: u32 = MAX_OFFSET / 64;

/// Hands every whole 64-octet block of `len` octets to `each`, with where it lies and where its image goes.
#[inline(always)]
pub fn map64(
    ctx: *mut xdp_md,
    src: u32,
    dst: u32,
    len: u32,
    mut each: impl FnMut(*const Block64, *mut Block64),
) -> u32 {
    let frame = XdpFrame(ctx);
    let (mut src, mut dst, mut left) = (src, dst, len);
    for _ in 0..MAX_BLOCKS {
        if left < 64 {
            return OK;
        }
        let Some(from) = frame.at::<Block64>(src) else { return BOUNDS };
        let Some(to) = frame.at::<Block64>(dst) else { return BOUNDS };
        each(from, to);
        src += 64;
        dst += 64;
        left -= 64;
    }
    OK
}

/// Hands every whole block `T` of `len` octets to `each`. Gives how many octets are left.
#[inline(always)]
pub fn blocks<T: Copy>(ctx: *mut xdp_md, offset: u32, len: u32, mut each: impl FnMut(*const T)) -> Option<u32> {
    let frame = XdpFrame(ctx);
    let size = size_of::<T>() as u32;
    let (mut offset, mut left) = (offset, len);
    for _ in 0..MAX_OFFSET / size {
        if left < size {
            break;
        }
        each(frame.at::<T>(offset)?);
        offset += size;
        left -= size;
    }
    Some(left)
}

/// Hands the up to three whole 16-octet blocks of `len` octets, which are fewer than 64, to `each`. Gives how many octets
/// are left.
#[inline(always)]
pub fn last_blocks(ctx: *mut xdp_md, offset: u32, len: u32, mut each: impl FnMut(*const Block16)) -> Option<u32> {
    let frame = XdpFrame(ctx);
    let (mut offset, mut left) = (offset, len);
    for _ in 0..3 {
        if left < 16 {
            break;
        }
        each(frame.at::<Block16>(offset)?);
        offset += 16;
        left -= 16;
    }
    Some(left)
}
