//! AES-GCM on a packet (RFC 4106), in the shape of [`crate::cipher`]. Table-driven, so not constant time: documented
//! with the algorithm, and a reason to prefer ChaCha20-Poly1305.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use ebpf_esp::crypto::aes::{self, Counter, TABLES};
use ebpf_esp::crypto::{Block16, Block64, ghash, gmac};
use sadb_maps::sa::{AES_ROUNDS_WORD, GhashTable, SaStatic, flag};

use crate::cbc::null_seal;
use crate::cipher::{BOUNDS, OK, associated_data, check_icv, clear, load_tail, store_short_icv};
use crate::frame::{MAX_OFFSET, opaque, size};
use crate::scratch::{Scratch, scratch};
use crate::walk;

/// Number of the counter block that masks the tag; data starts at the next one (RFC 4106 section 3, NIST SP 800-38D).
pub const TAG_BLOCK: u32 = 1;

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_ctr16(
    counter: *const Counter,
    sa: *const SaStatic,
    number: u32,
    src: *const Block16,
    dst: *mut Block16,
) -> u32 {
    if counter.is_null() || sa.is_null() || src.is_null() || dst.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier; callers pass `dst` at or below `src`.
    unsafe {
        let schedule = (&raw const (*sa).key).cast();
        aes::counter_xor(counter, &raw const TABLES, schedule, (*sa).key[AES_ROUNDS_WORD], number, src, dst);
    }
    OK
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_ctr_init(counter: *mut Counter, sa: *const SaStatic, iv0: u32, iv1: u32) -> u32 {
    if counter.is_null() || sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier.
    unsafe {
        let schedule = (&raw const (*sa).key).cast();
        aes::counter_init(counter, &raw const TABLES, schedule, [(*sa).salt, iv0, iv1], 0);
    }
    OK
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ghash16(hash: *mut Block16, table: *const GhashTable, block: *const Block16) -> u32 {
    if hash.is_null() || table.is_null() || block.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier.
    unsafe { ghash::block16(hash, &raw const (*table).0, block) };
    OK
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ghash64(hash: *mut Block16, table: *const GhashTable, block: *const Block64) -> u32 {
    if hash.is_null() || table.is_null() || block.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier.
    unsafe { ghash::block64(hash, &raw const (*table).0, block) };
    OK
}

/// Enciphers or deciphers the whole 64-octet blocks of `len` octets at `src` to `dst`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_blocks(ctx: *mut xdp_md, sa: *const SaStatic, src: u32, dst: u32, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU.
    let mut number = unsafe { (*sc).job.number };
    walk::map64(ctx, src, dst, len, |from, to| {
        // SAFETY: four blocks of 16 octets each; the scratch of this CPU.
        unsafe {
            let (from, to, counter) = (from.cast::<Block16>(), to.cast::<Block16>(), &raw const (*sc).counter);
            aes_ctr16(counter, sa, number, from, to);
            aes_ctr16(counter, sa, number + 1, from.add(1), to.add(1));
            aes_ctr16(counter, sa, number + 2, from.add(2), to.add(2));
            aes_ctr16(counter, sa, number + 3, from.add(3), to.add(3));
        }
        number += 4;
    })
}

/// Hashes `len` octets at `offset`, the last block filled up with zeros.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ghash_packet(ctx: *mut xdp_md, table: *const GhashTable, offset: u32, len: u32) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if table.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU.
    let each = |block| unsafe {
        ghash64(&raw mut (*sc).hash, table, block);
    };
    let Some(left) = walk::blocks::<Block64>(ctx, offset, len, each) else { return BOUNDS };
    let offset = offset + (len - left);
    // SAFETY: the scratch of this CPU.
    let each = |block| unsafe {
        ghash16(&raw mut (*sc).hash, table, block);
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
        ghash16(&raw mut (*sc).hash, table, &raw const (*sc).small);
    }
    OK
}

/// Sets counter and hash up for the job.
#[inline(always)]
pub unsafe fn start(sc: *mut Scratch, sa: *const SaStatic) {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        aes_ctr_init(&raw mut (*sc).counter, sa, (*sc).job.iv[0], (*sc).job.iv[1]);
        (*sc).job.number = TAG_BLOCK + 1;
        clear(&raw mut (*sc).hash);
    }
}

/// Sets up for the job and hashes the additional data. Returns its length in octets.
#[inline(always)]
unsafe fn begin(sc: *mut Scratch, sa: *const SaStatic, table: *const GhashTable) -> u32 {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        start(sc, sa);
        let len = associated_data(sc, sa);
        ghash16(&raw mut (*sc).hash, table, &raw const (*sc).small);
        len
    }
}

/// Hashes the lengths, masks the tag, and leaves the ICV in the small block.
#[inline(always)]
pub unsafe fn finish(sc: *mut Scratch, sa: *const SaStatic, table: *const GhashTable, aad: u32, len: u32) {
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        (*sc).small.0[0] = 0;
        (*sc).small.0[1] = (aad * 8).to_be();
        (*sc).small.0[2] = 0;
        (*sc).small.0[3] = (len * 8).to_be();
        ghash16(&raw mut (*sc).hash, table, &raw const (*sc).small);
        aes_ctr16(&raw const (*sc).counter, sa, TAG_BLOCK, &raw const (*sc).hash, &raw mut (*sc).small);
    }
}

/// Enciphers or deciphers the first `len` octets of the tail, whose first block has this `number`.
#[inline(always)]
pub unsafe fn tail_xor(sc: *mut Scratch, sa: *const SaStatic, number: u32, len: u32) {
    // Verifiers before Linux 6.7 see the end of a loop only in a test against a constant, which must therefore stay.
    let len = opaque(len);
    for i in 0..5 {
        if i * 16 >= len {
            break;
        }
        // SAFETY: five blocks of 16 octets out of 128.
        unsafe {
            let block = (&raw mut (*sc).tail).cast::<Block16>().add(i as usize);
            aes_ctr16(&raw const (*sc).counter, sa, number + i, block, block);
        }
    }
}

/// Seals the job with AES-GCM: ciphertext and ICV at `job.dst`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_gcm_seal(ctx: *mut xdp_md, sa: *const SaStatic, table: *const GhashTable) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let aad = begin(sc, sa, table);
        let (src, dst, len) = ((*sc).job.src, (*sc).job.dst, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET {
            return BOUNDS;
        }
        if aes_blocks(ctx, sa, src, dst, len) != OK {
            return BOUNDS;
        }
        let whole = len & !63;
        let end = opaque(load_tail(ctx, src + whole, len & 63));
        if end == 0 || end > 127 {
            return BOUNDS;
        }
        tail_xor(sc, sa, TAG_BLOCK + 1 + whole / 16, end);
        if bpf_xdp_store_bytes(ctx, dst + whole, (&raw mut (*sc).tail).cast(), size::<127>(end)) != 0 {
            return BOUNDS;
        }
        let total = whole + end;
        if ghash_packet(ctx, table, dst, total) != OK {
            return BOUNDS;
        }
        finish(sc, sa, table, aad, total);
        store_short_icv(ctx, sc, dst + total, (*sa).icv_len as u32)
    }
}

/// Opens the job with AES-GCM: verifies the ICV behind `job.len` octets, then deciphers in place.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_gcm_open(ctx: *mut xdp_md, sa: *const SaStatic, table: *const GhashTable) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let aad = begin(sc, sa, table);
        let (src, len) = ((*sc).job.src, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET {
            return BOUNDS;
        }
        if ghash_packet(ctx, table, src, len) != OK {
            return BOUNDS;
        }
        finish(sc, sa, table, aad, len);
        let status = check_icv(ctx, sc, src + len, (*sa).icv_len as u32);
        if status != OK {
            return status;
        }
        if aes_blocks(ctx, sa, src, src, len) != OK {
            return BOUNDS;
        }
        let rest = len & 63;
        if rest == 0 {
            return OK;
        }
        let whole = len & !63;
        let tail = (&raw mut (*sc).tail).cast::<Block64>();
        if bpf_xdp_load_bytes(ctx, src + whole, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
        tail_xor(sc, sa, TAG_BLOCK + 1 + whole / 16, rest);
        if bpf_xdp_store_bytes(ctx, src + whole, tail.cast(), size::<63>(rest)) != 0 {
            return BOUNDS;
        }
    }
    OK
}

/// Octets of ESP header and IV, which AES-GMAC covers.
const COVERED_HEADER: u32 = 16;

/// Leaves the ICV of AES-GMAC over `len` octets of payload at `offset`, with what ESP has in front, in the small block.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_gmac(
    ctx: *mut xdp_md,
    sa: *const SaStatic,
    table: *const GhashTable,
    offset: u32,
    len: u32,
) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() || offset < COVERED_HEADER || offset > MAX_OFFSET || len > MAX_OFFSET {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        start(sc, sa);
        let job = &(*sc).job;
        let mut from = offset - COVERED_HEADER;
        let mut total = COVERED_HEADER + len;
        let mut rest = total;
        if (*sa).flags & flag::ESN != 0 {
            let first = gmac::first_block(job.spi, job.seq[0], job.seq[1], job.iv[0]);
            (*sc).small.0[0] = first.0[0];
            (*sc).small.0[1] = first.0[1];
            (*sc).small.0[2] = first.0[2];
            (*sc).small.0[3] = first.0[3];
            ghash16(&raw mut (*sc).hash, table, &raw const (*sc).small);
            from += gmac::SECOND_BLOCK;
            rest -= gmac::SECOND_BLOCK;
            total += 4;
        }
        if ghash_packet(ctx, table, from, rest) != OK {
            return BOUNDS;
        }
        finish(sc, sa, table, total, 0);
    }
    OK
}

/// Seals the job with AES-GMAC (RFC 4543): payload as it is, and ICV.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_gmac_seal(ctx: *mut xdp_md, sa: *const SaStatic, table: *const GhashTable) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() || null_seal(ctx) != OK {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let (dst, len) = ((*sc).job.dst, (*sc).job.len);
        if aes_gmac(ctx, sa, table, dst, len) != OK {
            return BOUNDS;
        }
        store_short_icv(ctx, sc, dst + len, (*sa).icv_len as u32)
    }
}

/// Opens the job with AES-GMAC: verifies the ICV.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn aes_gmac_open(ctx: *mut xdp_md, sa: *const SaStatic, table: *const GhashTable) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    if sa.is_null() || table.is_null() {
        return BOUNDS;
    }
    // SAFETY: the scratch of this CPU and a live SA.
    unsafe {
        let (src, len) = ((*sc).job.src, (*sc).job.len);
        if aes_gmac(ctx, sa, table, src, len) != OK {
            return BOUNDS;
        }
        check_icv(ctx, sc, src + len, (*sa).icv_len as u32)
    }
}
