//! An object for tests and measurements only, made of the functions of the data path: their cryptography on a packet,
//! without SA lookup and headers, told what to do by a map. It is never installed.

#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "atomic intrinsics: core::sync::atomic has no read-modify-write on this target")]
#![allow(dead_code, reason = "the modules of the data path, of which this object uses the ciphers")]

mod any_message;
mod atomic;
mod cbc;
mod cipher;
mod ctr;
mod fault;
mod frame;
mod gcm;
mod mac;
mod maps;
mod policy;
mod probe;
mod report;
mod route;
mod sa;
mod scratch;
#[allow(unused_imports, reason = "the next stages, of which a packet here meets none")]
mod stage;
mod task;
mod walk;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;
use frame::{MAX_OFFSET, opaque};
use probe::{PROBES, Probe};
use sadb_maps::counter::Counter;
use sadb_maps::policy::PolicyHead;
use sadb_maps::sa::{BlowfishState, GhashTable, SaStatic, family};
use sadb_maps::spd::BROKEN;
use task::{RAN, Task};

#[map]
static TEST_SA: Array<SaStatic> = Array::with_max_entries(1, 0);
#[map]
static TEST_GHASH: Array<GhashTable> = Array::with_max_entries(1, 0);
#[map]
static TEST_BLOWFISH: Array<BlowfishState> = Array::with_max_entries(1, 0);
#[map]
static TEST_TASK: Array<Task> = Array::with_max_entries(1, 0);

#[map]
static TEST_PROBES: Array<Probe> = Array::with_max_entries(PROBES, 0);
#[map]
static TEST_CURSOR: Array<u32> = Array::with_max_entries(2, 0);

#[xdp]
pub fn spd_classify(_ctx: XdpContext) -> u32 {
    probe(|probe, head| policy::classify(&probe.packet, head.generation, head.count, probe.direction, probe.scope))
}

#[xdp]
pub fn spd_search(_ctx: XdpContext) -> u32 {
    probe(|probe, head| policy::search(&probe.packet, head.generation, probe.direction, probe.scope))
}

#[xdp]
pub fn spd_nothing(_ctx: XdpContext) -> u32 {
    probe(|probe, head| probe.scope + head.count)
}

/// The next probe, and what is asked of it.
#[inline(always)]
fn probe(ask: impl FnOnce(&Probe, PolicyHead) -> u32) -> u32 {
    let (Some(cursor), Some(count)) = (TEST_CURSOR.get_ptr_mut(0), TEST_CURSOR.get(1)) else { return BROKEN };
    // SAFETY: a live map value; one run at a time.
    let index = unsafe { *cursor };
    // SAFETY: as above.
    unsafe { *cursor = if index + 1 < *count { index + 1 } else { 0 } };
    match (TEST_PROBES.get(index), policy::head()) {
        (Some(probe), Some(head)) => ask(probe, head),
        _ => BROKEN,
    }
}

#[xdp]
pub fn esp_seal(ctx: XdpContext) -> u32 {
    esp(ctx.ctx, false).unwrap_or(cipher::BOUNDS) | RAN
}

#[xdp]
pub fn esp_open(ctx: XdpContext) -> u32 {
    esp(ctx.ctx, true).unwrap_or(cipher::BOUNDS) | RAN
}

#[xdp]
pub fn esp_mac(ctx: XdpContext) -> u32 {
    only_mac(ctx.ctx).unwrap_or(cipher::BOUNDS) | RAN
}

#[xdp]
pub fn any_seal(ctx: XdpContext) -> u32 {
    any(ctx.ctx, false).unwrap_or(cipher::BOUNDS) | RAN
}

#[xdp]
pub fn any_open(ctx: XdpContext) -> u32 {
    any(ctx.ctx, true).unwrap_or(cipher::BOUNDS) | RAN
}

#[xdp]
pub fn empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Makes the task the job of this CPU.
#[inline(always)]
fn take_task() -> Option<&'static Task> {
    let task = TEST_TASK.get(0)?;
    let sc = scratch::scratch()?;
    // SAFETY: the scratch of this CPU.
    let job = unsafe { &mut (*sc).job };
    job.src = task.src;
    job.dst = task.dst;
    job.len = task.len;
    job.pad = task.pad;
    job.next_header = task.next_header;
    job.spi = task.spi;
    job.seq[0] = task.seq[0];
    job.seq[1] = task.seq[1];
    job.iv[0] = task.iv[0];
    job.iv[1] = task.iv[1];
    Some(task)
}

/// SPI and sequence number, which a separate authenticator covers.
const ESP_HEADER: u32 = 8;

#[inline(always)]
fn esp(ctx: *mut xdp_md, open: bool) -> Option<u32> {
    take_task()?;
    let sa = TEST_SA.get(0)?;
    let sc = scratch::scratch()?;
    let header = ESP_HEADER + sa.iv_len as u32;
    if open && sa.mac != sadb_maps::sa::mac::NONE {
        // SAFETY: the scratch of this CPU.
        let (src, len) = unsafe { ((*sc).job.src, (*sc).job.len) };
        let status = authenticate(ctx, sa, src - header, header + len, src + len, true)?;
        if status != cipher::OK {
            return Some(status);
        }
    }
    let status = encipher(ctx, sa, open)?;
    if open || status != cipher::OK || sa.mac == sadb_maps::sa::mac::NONE {
        return Some(status);
    }
    // SAFETY: the scratch of this CPU.
    let (dst, len) = unsafe { ((*sc).job.dst, (*sc).job.len) };
    authenticate(ctx, sa, dst - header, header + len, dst + len, false)
}

/// The authenticator alone: of `len` octets at `src`, put at `dst`.
#[inline(always)]
fn only_mac(ctx: *mut xdp_md) -> Option<u32> {
    let task = take_task()?;
    authenticate(ctx, TEST_SA.get(0)?, task.src, task.len, task.dst, false)
}

/// What the cipher of the SA does with the job.
#[inline(always)]
fn encipher(ctx: *mut xdp_md, sa: &SaStatic, open: bool) -> Option<u32> {
    Some(match sa.family {
        family::CHACHA20_POLY1305 if open => cipher::chacha_poly_open(ctx, sa),
        family::CHACHA20_POLY1305 => cipher::chacha_poly_seal(ctx, sa),
        family::AES_GCM if open => gcm::aes_gcm_open(ctx, sa, TEST_GHASH.get(0)?),
        family::AES_GCM => gcm::aes_gcm_seal(ctx, sa, TEST_GHASH.get(0)?),
        family::AES_GMAC if open => gcm::aes_gmac_open(ctx, sa, TEST_GHASH.get(0)?),
        family::AES_GMAC => gcm::aes_gmac_seal(ctx, sa, TEST_GHASH.get(0)?),
        family::AES_CCM if open => ctr::aes_ccm_open(ctx, sa),
        family::AES_CCM => ctr::aes_ccm_seal(ctx, sa),
        family::NULL if open => cbc::null_open(ctx),
        family::NULL => cbc::null_seal(ctx),
        family::AES_CBC if open => cbc::aes_cbc_open(ctx, sa),
        family::AES_CBC => cbc::aes_cbc_seal(ctx, sa),
        family::AES_CTR if open => ctr::aes_ctr_open(ctx, sa),
        family::AES_CTR => ctr::aes_ctr_seal(ctx, sa),
        family::DES_CBC if open => cbc::des_cbc_open(ctx, sa),
        family::DES_CBC => cbc::des_cbc_seal(ctx, sa),
        family::TRIPLE_DES_CBC if open => cbc::triple_des_cbc_open(ctx, sa),
        family::TRIPLE_DES_CBC => cbc::triple_des_cbc_seal(ctx, sa),
        family::BLOWFISH_CBC if open => cbc::blowfish_open(ctx, sa, TEST_BLOWFISH.get(0)?),
        family::BLOWFISH_CBC => cbc::blowfish_seal(ctx, sa, TEST_BLOWFISH.get(0)?),
        _ => cipher::UNKNOWN,
    })
}

/// Compares the ICV at offset `icv` with that of `len` octets at `offset`, or puts it there.
#[inline(always)]
fn authenticate(ctx: *mut xdp_md, sa: &SaStatic, offset: u32, len: u32, icv: u32, verify: bool) -> Option<u32> {
    use sadb_maps::sa::mac::{HMAC_MD5, HMAC_SHA1, HMAC_SHA256, HMAC_SHA512};
    let sc = scratch::scratch()?;
    let icv_len = opaque(sa.icv_len as u32 & 63);
    if icv > MAX_OFFSET || icv_len == 0 || icv_len > 32 {
        return None;
    }
    // SAFETY: the scratch of this CPU; at most 32 octets into as many.
    unsafe {
        let job = &mut (*sc).mac;
        job.offset = offset;
        job.len = len;
        job.icv = icv;
        job.verify = verify as u32;
        job.then = 0;
        if verify && bpf_xdp_load_bytes(ctx, icv, (&raw mut (*sc).icv).cast(), icv_len) != 0 {
            return None;
        }
    }
    let status = match sa.mac {
        HMAC_MD5 => mac::hmac_md5_packet(ctx, sa),
        HMAC_SHA1 => mac::hmac_sha1_packet(ctx, sa),
        HMAC_SHA256 => mac::hmac_sha256_packet(ctx, sa),
        HMAC_SHA512 => mac::hmac_sha512_packet(ctx, sa),
        _ => cipher::UNKNOWN,
    };
    if status != cipher::OK {
        return Some(status);
    }
    // SAFETY: the scratch of this CPU.
    Some(match unsafe { mac::deliver(ctx, sc, icv_len) } {
        Ok(_) => cipher::OK,
        Err(Counter::DropAuth) => cipher::FORGED,
        Err(_) => cipher::BOUNDS,
    })
}

#[inline(always)]
fn any(ctx: *mut xdp_md, open: bool) -> Option<u32> {
    let task = take_task()?;
    let sa = TEST_SA.get(0)?;
    if sa.family == family::CHACHA20_POLY1305 {
        return Some(any_message::any_chacha_poly(ctx, sa, open as u32, task.aad, task.aad_len));
    }
    if sa.family != family::AES_GCM {
        return Some(cipher::UNKNOWN);
    }
    let table = TEST_GHASH.get(0)?;
    match any_message::any_gcm_begin(ctx, sa, table, task.aad, task.aad_len) {
        cipher::OK if open => Some(any_message::any_gcm_open(ctx, sa, table, task.aad_len)),
        cipher::OK => Some(any_message::any_gcm_seal(ctx, sa, table, task.aad_len)),
        status => Some(status),
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets programs under a GPL-compatible licence call every helper.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
