//! AES-CTR (RFC 3686) and AES-CCM (RFC 4309), in the shape of [`crate::gcm`], whose counter blocks they share.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use ebpf_esp::crypto::aead::Aad;
use ebpf_esp::crypto::{Block16, Block64, ccm};
use sadb_maps::sa::SaStatic;

use crate::cbc::{aes_cbc_encrypt, clear_chain};
use crate::cipher::{BOUNDS, OK, associated_data, check_icv, load_tail, store_short_icv};
use crate::frame::{MAX_OFFSET, opaque, size};
use crate::gcm::{aes_blocks, aes_ctr_init, aes_ctr16, tail_xor};
use crate::scratch::{Scratch, scratch};
use crate::walk;

/// Number of the first block that meets the payload, in both modes.
const FIRST: u32 = 1;
/// Number of the block that masks the ICV of CCM.
const ICV_BLOCK: u32 = 0;

#[inline(always)]
unsafe fn start(sc: *mut Scratch, sa: *const SaStatic) {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        aes_ctr_init(&raw mut (*sc).counter, sa, (*sc).job.iv[0], (*sc).job.iv[1]);
        (*sc).job.number = FIRST;
    }
}

/// Enciphers the job; what is in the tail has been loaded, `end` octets of it. Gives the whole length.
#[inline(always)]
unsafe fn encipher(ctx: *mut xdp_md, sc: *mut Scratch, sa: *const SaStatic, end: u32) -> u32 {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let (src, dst, len) = ((*sc).job.src, (*sc).job.dst, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET || aes_blocks(ctx, sa, src, dst, len) != OK {
            return BOUNDS;
        }
        let whole = len & !63;
        tail_xor(sc, sa, FIRST + whole / 16, end);
        let end = opaque(end);
        if end == 0
            || end > 127
            || bpf_xdp_store_bytes(ctx, dst + whole, (&raw mut (*sc).tail).cast(), size::<127>(end)) != 0
        {
            return BOUNDS;
        }
        (*sc).job.len = whole + end;
        OK
    }
}

/// Deciphers the job in place.
#[inline(always)]
unsafe fn decipher(ctx: *mut xdp_md, sc: *mut Scratch, sa: *const SaStatic) -> u32 {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let (src, len) = ((*sc).job.src, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET || aes_blocks(ctx, sa, src, src, len) != OK {
            return BOUNDS;
        }
        let whole = len & !63;
        let rest = opaque(len & 63);
        if rest == 0 {
            return OK;
        }
        let tail = (&raw mut (*sc).tail).cast::<Block64>();
        if rest > 63 || bpf_xdp_load_bytes(ctx, src + whole, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
        tail_xor(sc, sa, FIRST + whole / 16, rest);
        if bpf_xdp_store_bytes(ctx, src + whole, tail.cast(), size::<63>(rest)) != 0 { BOUNDS } else { OK }
    }
}

/// Enciphers the job with AES-CTR.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_ctr_seal(ctx: *mut xdp_md, sa: *const SaStatic) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        start(sc, sa);
        let (src, len) = ((*sc).job.src, (*sc).job.len);
        let end = opaque(load_tail(ctx, src + (len & !63), len & 63));
        encipher(ctx, sc, sa, end)
    }
}

/// Deciphers the job with AES-CTR.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_ctr_open(ctx: *mut xdp_md, sa: *const SaStatic) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        start(sc, sa);
        decipher(ctx, sc, sa)
    }
}

/// Takes a block into the CBC-MAC, which is the chain in the scratch.
#[inline(always)]
unsafe fn mac_block(sc: *mut Scratch, sa: *const SaStatic, block: *const Block16) {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe { aes_cbc_encrypt(sa, block.cast(), (&raw mut (*sc).block).cast()) };
}

/// Takes the whole 64-octet blocks of `len` octets at `offset` into the CBC-MAC.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ccm_mac_packet(ctx: *mut xdp_md, sa: *const SaStatic, offset: u32, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    let each = |block: *const Block64| {
        let block = block.cast::<Block16>();
        // SAFETY: four blocks of 16 octets; the scratch of this CPU and a live SA.
        unsafe {
            mac_block(sc, sa, block);
            mac_block(sc, sa, block.add(1));
            mac_block(sc, sa, block.add(2));
            mac_block(sc, sa, block.add(3));
        }
    };
    if walk::blocks::<Block64>(ctx, offset, len, each).is_some() { OK } else { BOUNDS }
}

/// Begins the CBC-MAC of a message of `len` octets: first block and additional data.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ccm_mac_begin(sa: *const SaStatic, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        clear_chain(sc);
        let aad = associated_data(sc, sa);
        let small = (*sc).small;
        let first = ccm::first_block((*sa).salt, [(*sc).job.iv[0], (*sc).job.iv[1]], (*sa).icv_len as u32, len);
        put(sc, first);
        mac_block(sc, sa, &raw const (*sc).small);
        put(sc, ccm::aad_block(&Aad { block: small, len: aad }));
        mac_block(sc, sa, &raw const (*sc).small);
    }
    OK
}

#[inline(always)]
unsafe fn put(sc: *mut Scratch, block: Block16) {
    // SAFETY: the scratch of this CPU.
    unsafe {
        (*sc).small.0[0] = block.0[0];
        (*sc).small.0[1] = block.0[1];
        (*sc).small.0[2] = block.0[2];
        (*sc).small.0[3] = block.0[3];
    }
}

/// Takes the first `len` octets of the tail, a multiple of four, into the CBC-MAC, filled up with zeros, and leaves the
/// ICV in the small block.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ccm_mac_end(sa: *const SaStatic, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU, indexes masked to the 32 words of the tail; a live SA.
    unsafe {
        let word = len / 4;
        for i in 0..3 {
            *(&raw mut (*sc).tail).cast::<u32>().add(((word + i) & 31) as usize) = 0;
        }
        for i in 0..5 {
            if i * 16 >= len {
                break;
            }
            mac_block(sc, sa, (&raw const (*sc).tail).cast::<Block16>().add(i as usize));
        }
        let chain = (&raw const (*sc).chain).cast::<Block16>();
        aes_ctr16(&raw const (*sc).counter, sa, ICV_BLOCK, chain, &raw mut (*sc).small);
    }
    OK
}

/// Seals the job with AES-CCM: ciphertext and ICV at `job.dst`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_ccm_seal(ctx: *mut xdp_md, sa: *const SaStatic) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        start(sc, sa);
        let (src, dst, len) = ((*sc).job.src, (*sc).job.dst, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET {
            return BOUNDS;
        }
        let whole = len & !63;
        let end = opaque(load_tail(ctx, src + whole, len & 63));
        if end == 0 || end > 80 {
            return BOUNDS;
        }
        ccm_mac_begin(sa, whole + end);
        if ccm_mac_packet(ctx, sa, src, len) != OK {
            return BOUNDS;
        }
        ccm_mac_end(sa, end);
        if encipher(ctx, sc, sa, end) != OK {
            return BOUNDS;
        }
        store_short_icv(ctx, sc, dst + whole + end, (*sa).icv_len as u32)
    }
}

/// Opens the job with AES-CCM: deciphers in place and verifies; what does not verify goes no further.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_ccm_open(ctx: *mut xdp_md, sa: *const SaStatic) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        start(sc, sa);
        let (src, len) = ((*sc).job.src, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET || decipher(ctx, sc, sa) != OK {
            return BOUNDS;
        }
        ccm_mac_begin(sa, len);
        if ccm_mac_packet(ctx, sa, src, len) != OK {
            return BOUNDS;
        }
        // The rest of the message is still in the tail.
        ccm_mac_end(sa, len & 63);
        check_icv(ctx, sc, src + len, (*sa).icv_len as u32)
    }
}
