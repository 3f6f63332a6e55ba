//! The packet passes of the ciphers, as BTF-global functions: each is verified once, on its own, whatever calls it.
//! Arguments that are pointers arrive as "memory or null", so each is tested; packet pointers are made afresh from the
//! context for every block.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use ebpf_esp::crypto::chacha20::{self, State};
use ebpf_esp::crypto::poly1305::{self, Poly1305};
use ebpf_esp::crypto::{Block16, Block64};
use ebpf_esp::packet::Frame;
use sadb_maps::sa::{SaStatic, flag};

use crate::frame::{MAX_OFFSET, XdpFrame, opaque, size};
use crate::scratch::{Scratch, scratch};
use crate::walk;

/// Everything went well.
pub const OK: u32 = 0;
/// The packet does not lie where the job says.
pub const BOUNDS: u32 = 1;
/// The ICV does not match; the packet is as it was.
pub const FORGED: u32 = 2;
/// No code for this transform.
pub const UNKNOWN: u32 = 3;

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn chacha_xor64(state: *const State, src: *const Block64, dst: *mut Block64) -> u32 {
    if state.is_null() || src.is_null() || dst.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier; callers pass `dst` at or below `src`.
    unsafe { chacha20::xor_block(state, src, dst) };
    OK
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn poly_block64(poly: *mut Poly1305, block: *const Block64) -> u32 {
    if poly.is_null() || block.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier.
    unsafe { poly1305::block64(poly, block) };
    OK
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn poly_block16(poly: *mut Poly1305, block: *const Block16) -> u32 {
    if poly.is_null() || block.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier.
    unsafe { poly1305::block16(poly, block) };
    OK
}

/// Enciphers the whole 64-octet blocks of `len` octets at `src` to `dst`, and advances the block counter.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn chacha_blocks(ctx: *mut xdp_md, src: u32, dst: u32, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    // SAFETY: the scratch of this CPU.
    walk::map64(ctx, src, dst, len, |from, to| unsafe {
        chacha_xor64(&raw const (*sc).chacha, from, to);
        (*sc).chacha.0[chacha20::COUNTER] += 1;
    })
}

/// Authenticates `len` octets at `offset`, the last block filled up with zeros.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn poly_packet(ctx: *mut xdp_md, offset: u32, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    // SAFETY: the scratch of this CPU.
    let each = |block| unsafe {
        poly_block64(&raw mut (*sc).poly, block);
    };
    let Some(left) = walk::blocks::<Block64>(ctx, offset, len, each) else { return BOUNDS };
    let offset = offset + (len - left);
    // SAFETY: the scratch of this CPU.
    let each = |block| unsafe {
        poly_block16(&raw mut (*sc).poly, block);
    };
    let Some(rest) = walk::last_blocks(ctx, offset, left, each) else { return BOUNDS };
    let offset = offset + (left - rest);
    let rest = rest & 15;
    if rest == 0 {
        return OK;
    }
    // SAFETY: the scratch of this CPU; at most 15 octets go into 16.
    unsafe {
        clear(&raw mut (*sc).small);
        if bpf_xdp_load_bytes(ctx, offset, (&raw mut (*sc).small).cast(), size::<15>(rest)) != 0 {
            return BOUNDS;
        }
        poly_block16(&raw mut (*sc).poly, &raw const (*sc).small);
    }
    OK
}

/// Stores so many zero words. Volatile: the compiler would make a call of it, to a loop over octets.
///
/// # Safety
/// `words` is valid for writing them, and aligned.
#[inline(always)]
pub unsafe fn zero(words: *mut u32, count: usize) {
    for i in 0..count {
        // SAFETY: by the caller.
        unsafe { words.add(i).write_volatile(0) };
    }
}

#[inline(always)]
pub unsafe fn clear(block: *mut Block16) {
    // SAFETY: by the caller.
    unsafe { zero((&raw mut (*block).0).cast(), 4) }
}

/// Sets cipher and authenticator up for the job.
#[inline(always)]
pub unsafe fn chacha_poly_start(sc: *mut Scratch, sa: *const SaStatic) {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let nonce = [(*sa).salt, (*sc).job.iv[0], (*sc).job.iv[1]];
        chacha20::init(&raw mut (*sc).chacha, (&raw const (*sa).key).cast(), 0, nonce);
        zero((&raw mut (*sc).block.0).cast(), 16);
        chacha_xor64(&raw const (*sc).chacha, &raw const (*sc).block, &raw mut (*sc).block);
        poly1305::init(&raw mut (*sc).poly, &raw const (*sc).block);
        (*sc).chacha.0[chacha20::COUNTER] = 1;
    }
}

/// Sets up for the job and authenticates the additional data: SPI and sequence number.
#[inline(always)]
unsafe fn chacha_poly_begin(sc: *mut Scratch, sa: *const SaStatic) {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        chacha_poly_start(sc, sa);
        associated_data(sc, sa);
        poly_block16(&raw mut (*sc).poly, &raw const (*sc).small);
    }
}

/// The additional data of an AEAD in ESP (RFC 4106 section 5, RFC 7634 section 2.1), filled up with zeros.
#[inline(always)]
pub unsafe fn associated_data(sc: *mut Scratch, sa: *const SaStatic) -> u32 {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let job = &(*sc).job;
        (*sc).small.0[0] = job.spi;
        (*sc).small.0[3] = 0;
        if (*sa).flags & flag::ESN != 0 {
            (*sc).small.0[1] = job.seq[0];
            (*sc).small.0[2] = job.seq[1];
            12
        } else {
            (*sc).small.0[1] = job.seq[1];
            (*sc).small.0[2] = 0;
            8
        }
    }
}

/// Authenticates the lengths and leaves the ICV in the scratch block.
#[inline(always)]
unsafe fn chacha_poly_finish(sc: *mut Scratch, sa: *const SaStatic, len: u32) {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe { chacha_poly_icv(sc, if (*sa).flags & flag::ESN != 0 { 12 } else { 8 }, len) }
}

/// As [`chacha_poly_finish`], for additional data of `aad` octets.
#[inline(always)]
pub unsafe fn chacha_poly_icv(sc: *mut Scratch, aad: u32, len: u32) {
    // SAFETY: the scratch of this CPU.
    unsafe {
        (*sc).small.0[0] = aad.to_le();
        (*sc).small.0[1] = 0;
        (*sc).small.0[2] = len.to_le();
        (*sc).small.0[3] = 0;
        poly_block16(&raw mut (*sc).poly, &raw const (*sc).small);
        let icv = poly1305::finish(&raw const (*sc).poly);
        (*sc).small.0[0] = icv.0[0];
        (*sc).small.0[1] = icv.0[1];
        (*sc).small.0[2] = icv.0[2];
        (*sc).small.0[3] = icv.0[3];
    }
}

/// Seals the job with ChaCha20-Poly1305 (RFC 7634): ciphertext and ICV at `job.dst`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn chacha_poly_seal(ctx: *mut xdp_md, sa: *const SaStatic) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        chacha_poly_begin(sc, sa);
        let (src, dst, len) = ((*sc).job.src, (*sc).job.dst, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET {
            return BOUNDS;
        }
        if chacha_blocks(ctx, src, dst, len) != OK {
            return BOUNDS;
        }
        let whole = len & !63;
        let end = opaque(load_tail(ctx, src + whole, len & 63));
        if end == 0 || end > 127 {
            return BOUNDS;
        }
        let tail = (&raw mut (*sc).tail).cast::<Block64>();
        chacha_xor64(&raw const (*sc).chacha, tail, tail);
        if end > 64 {
            (*sc).chacha.0[chacha20::COUNTER] += 1;
            let second = (&raw mut (*sc).tail[16]).cast::<Block64>();
            chacha_xor64(&raw const (*sc).chacha, second, second);
        }
        if bpf_xdp_store_bytes(ctx, dst + whole, tail.cast(), size::<127>(end)) != 0 {
            return BOUNDS;
        }
        let total = whole + end;
        if poly_packet(ctx, dst, total) != OK {
            return BOUNDS;
        }
        chacha_poly_finish(sc, sa, total);
        store_icv(ctx, sc, dst + total)
    }
}

/// Opens the job with ChaCha20-Poly1305: verifies the ICV behind `job.len` octets, then deciphers in place.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn chacha_poly_open(ctx: *mut xdp_md, sa: *const SaStatic) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        chacha_poly_begin(sc, sa);
        let (src, len) = ((*sc).job.src, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET {
            return BOUNDS;
        }
        if poly_packet(ctx, src, len) != OK {
            return BOUNDS;
        }
        chacha_poly_finish(sc, sa, len);
        let Some(icv) = XdpFrame(ctx).at::<Block16>(src + len) else { return BOUNDS };
        if !Block16(icv.cast::<[u32; 4]>().read_unaligned()).ct_eq(&(*sc).small) {
            return FORGED;
        }
        if chacha_blocks(ctx, src, src, len) != OK {
            return BOUNDS;
        }
        let rest = len & 63;
        if rest == 0 {
            return OK;
        }
        let tail = (&raw mut (*sc).tail).cast::<Block64>();
        let offset = src + (len & !63);
        if bpf_xdp_load_bytes(ctx, offset, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
        chacha_xor64(&raw const (*sc).chacha, tail, tail);
        if bpf_xdp_store_bytes(ctx, offset, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
    }
    OK
}

/// Brings the last `rest` (below 64) octets of the payload at `offset` into the tail, with padding, pad length and next
/// header behind. Returns the octets there, 2 to 80; 0 when the packet ends early.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn load_tail(ctx: *mut xdp_md, offset: u32, rest: u32) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    let rest = opaque(rest & 63);
    // SAFETY: the scratch of this CPU; every index is masked to its 128 octets.
    unsafe {
        let tail = (&raw mut (*sc).tail).cast::<u8>();
        if rest != 0 && (rest > 63 || bpf_xdp_load_bytes(ctx, offset, tail.cast(), size::<63>(rest)) != 0) {
            return 0;
        }
        let pad = (*sc).job.pad & 15;
        let mut end = rest;
        for i in 1..16 {
            if i > pad {
                break;
            }
            *tail.add((end & 127) as usize) = i as u8;
            end += 1;
        }
        *tail.add((end & 127) as usize) = pad as u8;
        end += 1;
        *tail.add((end & 127) as usize) = (*sc).job.next_header as u8;
        (end + 1) & 127
    }
}

/// Stores the first `len` octets of the small block, 8, 12 or 16.
#[inline(always)]
pub unsafe fn store_short_icv(ctx: *mut xdp_md, sc: *mut Scratch, offset: u32, len: u32) -> u32 {
    if len == 16 {
        // SAFETY: by the caller.
        return unsafe { store_icv(ctx, sc, offset) };
    }
    let len = opaque(len & 15);
    // SAFETY: the scratch of this CPU; at most 15 octets out of 16.
    unsafe {
        if len == 0 || len > 15 || bpf_xdp_store_bytes(ctx, offset, (&raw mut (*sc).small).cast(), size::<15>(len)) != 0
        {
            return BOUNDS;
        }
    }
    OK
}

/// Compares `len` octets at `offset`, 8, 12 or 16, with the small block, in constant time.
#[inline(always)]
pub unsafe fn check_icv(ctx: *mut xdp_md, sc: *mut Scratch, offset: u32, len: u32) -> u32 {
    let frame = XdpFrame(ctx);
    if len < 8 {
        return BOUNDS;
    }
    let Some([a, b]) = frame.read::<[u32; 2]>(offset) else { return BOUNDS };
    // SAFETY: the scratch of this CPU.
    let small = unsafe { (*sc).small.0 };
    let mut difference = (a ^ small[0]) | (b ^ small[1]);
    if len >= 12 {
        let Some(c) = frame.read::<u32>(offset + 8) else { return BOUNDS };
        difference |= c ^ small[2];
    }
    if len >= 16 {
        let Some(d) = frame.read::<u32>(offset + 12) else { return BOUNDS };
        difference |= d ^ small[3];
    }
    if difference == 0 { OK } else { FORGED }
}

#[inline(always)]
pub unsafe fn store_icv(ctx: *mut xdp_md, sc: *mut Scratch, offset: u32) -> u32 {
    let Some(icv) = XdpFrame(ctx).at::<[u32; 4]>(offset) else { return BOUNDS };
    let icv = icv.cast::<u32>();
    // Word by word: what may overlap is else copied by octets.
    // SAFETY: within the packet; the scratch of this CPU.
    unsafe {
        let [a, b, c, d] = (*sc).small.0;
        icv.write_unaligned(a);
        icv.add(1).write_unaligned(b);
        icv.add(2).write_unaligned(c);
        icv.add(3).write_unaligned(d);
    }
    OK
}
