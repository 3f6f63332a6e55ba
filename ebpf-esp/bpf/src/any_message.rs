//! Messages that ESP cannot express, by the packet passes of the data path: additional data of any length, and no
//! trailer. What is written here a second time is only the order of the passes.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use ebpf_esp::crypto::{Block16, Block64};
use ebpf_esp::packet::Frame;
use sadb_maps::sa::{GhashTable, SaStatic};

use crate::cipher::{self, BOUNDS, FORGED, OK, chacha_blocks, chacha_xor64, poly_packet, store_icv};
use crate::frame::{MAX_OFFSET, XdpFrame, size};
use crate::gcm::{self, TAG_BLOCK, aes_blocks, ghash_packet};
use crate::scratch::{Job, Scratch, scratch};

/// What the job says, within bounds.
#[inline(always)]
unsafe fn job(sc: *mut Scratch) -> Option<Job> {
    // SAFETY: the scratch of this CPU.
    let job = unsafe { (*sc).job };
    (job.len <= MAX_OFFSET && job.src <= MAX_OFFSET && job.dst <= MAX_OFFSET).then_some(job)
}

/// Compares the ICV in the packet with the one in the scratch.
#[inline(always)]
unsafe fn check_icv(ctx: *mut xdp_md, sc: *mut Scratch, offset: u32) -> u32 {
    let Some(icv) = XdpFrame(ctx).at::<Block16>(offset) else { return BOUNDS };
    // SAFETY: within the packet; the scratch of this CPU.
    let same = unsafe { Block16(icv.cast::<[u32; 4]>().read_unaligned()).ct_eq(&(*sc).small) };
    if same { OK } else { FORGED }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn any_chacha_xor(ctx: *mut xdp_md, src: u32, dst: u32, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET || chacha_blocks(ctx, src, dst, len) != OK {
        return BOUNDS;
    }
    let (whole, rest) = (len & !63, len & 63);
    if rest == 0 {
        return OK;
    }
    // SAFETY: the scratch of this CPU; fewer than 64 octets.
    unsafe {
        let tail = (&raw mut (*sc).tail).cast::<Block64>();
        if bpf_xdp_load_bytes(ctx, src + whole, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
        chacha_xor64(&raw const (*sc).chacha, tail, tail);
        if bpf_xdp_store_bytes(ctx, dst + whole, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
    }
    OK
}

/// Seals (`open` is 0) or opens the job with ChaCha20-Poly1305.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn any_chacha_poly(ctx: *mut xdp_md, sa: *const SaStatic, open: u32, aad: u32, aad_len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || aad > MAX_OFFSET || aad_len > MAX_OFFSET {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let Some(job) = job(sc) else { return BOUNDS };
        cipher::chacha_poly_start(sc, sa);
        if poly_packet(ctx, aad, aad_len) != OK {
            return BOUNDS;
        }
        if open == 0 && any_chacha_xor(ctx, job.src, job.dst, job.len) != OK {
            return BOUNDS;
        }
        if poly_packet(ctx, job.dst, job.len) != OK {
            return BOUNDS;
        }
        cipher::chacha_poly_icv(sc, aad_len, job.len);
        if open == 0 {
            return store_icv(ctx, sc, job.dst + job.len);
        }
        let status = check_icv(ctx, sc, job.dst + job.len);
        if status != OK {
            return status;
        }
        any_chacha_xor(ctx, job.src, job.dst, job.len)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn any_aes_xor(ctx: *mut xdp_md, sa: *const SaStatic, src: u32, dst: u32, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET {
        return BOUNDS;
    }
    if aes_blocks(ctx, sa, src, dst, len) != OK {
        return BOUNDS;
    }
    let (whole, rest) = (len & !63, len & 63);
    if rest == 0 {
        return OK;
    }
    // SAFETY: the scratch of this CPU; fewer than 64 octets.
    unsafe {
        let tail = (&raw mut (*sc).tail).cast::<Block64>();
        if bpf_xdp_load_bytes(ctx, src + whole, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
        gcm::tail_xor(sc, sa, TAG_BLOCK + 1 + whole / 16, rest);
        if bpf_xdp_store_bytes(ctx, dst + whole, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
    }
    OK
}

/// Seals the job with AES-GCM; the additional data have been hashed by [`any_gcm_begin`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn any_gcm_seal(ctx: *mut xdp_md, sa: *const SaStatic, table: *const GhashTable, aad_len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let Some(job) = job(sc) else { return BOUNDS };
        if any_aes_xor(ctx, sa, job.src, job.dst, job.len) != OK || ghash_packet(ctx, table, job.dst, job.len) != OK {
            return BOUNDS;
        }
        gcm::finish(sc, sa, table, aad_len, job.len);
        store_icv(ctx, sc, job.dst + job.len)
    }
}

/// Opens the job with AES-GCM; the additional data have been hashed by [`any_gcm_begin`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn any_gcm_open(ctx: *mut xdp_md, sa: *const SaStatic, table: *const GhashTable, aad_len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let Some(job) = job(sc) else { return BOUNDS };
        if ghash_packet(ctx, table, job.src, job.len) != OK {
            return BOUNDS;
        }
        gcm::finish(sc, sa, table, aad_len, job.len);
        let status = check_icv(ctx, sc, job.src + job.len);
        if status != OK {
            return status;
        }
        any_aes_xor(ctx, sa, job.src, job.dst, job.len)
    }
}

/// Sets AES-GCM up for the job and hashes the additional data.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn any_gcm_begin(
    ctx: *mut xdp_md,
    sa: *const SaStatic,
    table: *const GhashTable,
    aad: u32,
    aad_len: u32,
) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() || aad > MAX_OFFSET || aad_len > MAX_OFFSET {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe { gcm::start(sc, sa) };
    ghash_packet(ctx, table, aad, aad_len)
}
