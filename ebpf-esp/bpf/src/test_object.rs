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
mod frame;
mod gcm;
mod maps;
mod policy;
mod probe;
mod report;
mod route;
mod sa;
mod scratch;
mod task;
mod walk;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;
use probe::{PROBES, Probe};
use sadb_maps::policy::PolicyHead;
use sadb_maps::sa::{GhashTable, SaStatic, encr};
use sadb_maps::spd::BROKEN;
use task::{RAN, Task};

#[map]
static TEST_SA: Array<SaStatic> = Array::with_max_entries(1, 0);
#[map]
static TEST_GHASH: Array<GhashTable> = Array::with_max_entries(1, 0);
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

#[inline(always)]
fn esp(ctx: *mut xdp_md, open: bool) -> Option<u32> {
    take_task()?;
    let sa = TEST_SA.get(0)?;
    match sa.encr {
        encr::CHACHA20_POLY1305 if open => Some(cipher::chacha_poly_open(ctx, sa)),
        encr::CHACHA20_POLY1305 => Some(cipher::chacha_poly_seal(ctx, sa)),
        encr::AES_GCM_16 if open => Some(gcm::aes_gcm_open(ctx, sa, TEST_GHASH.get(0)?)),
        encr::AES_GCM_16 => Some(gcm::aes_gcm_seal(ctx, sa, TEST_GHASH.get(0)?)),
        _ => Some(cipher::UNKNOWN),
    }
}

#[inline(always)]
fn any(ctx: *mut xdp_md, open: bool) -> Option<u32> {
    let task = take_task()?;
    let sa = TEST_SA.get(0)?;
    if sa.encr == encr::CHACHA20_POLY1305 {
        return Some(any_message::any_chacha_poly(ctx, sa, open as u32, task.aad, task.aad_len));
    }
    if sa.encr != encr::AES_GCM_16 {
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
