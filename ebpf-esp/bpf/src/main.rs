//! The entry points of the data path. What they do is in the modules; what can be tested without a kernel is in the
//! library `ebpf-esp`; names and records are in `sadb-maps`.

#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "atomic intrinsics: core::sync::atomic has no read-modify-write on this target")]

mod acquire;
mod atomic;
mod checksum;
mod cipher;
mod frame;
mod gcm;
mod maps;
mod open;
mod policy;
mod report;
mod route;
mod sa;
mod scratch;
mod seal;
mod stage;
mod sweep;
mod tc;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::maps::SA_GHASH;

#[xdp]
pub fn xdp_outer(ctx: XdpContext) -> u32 {
    open::run(&ctx)
}

#[xdp]
pub fn xdp_ipsec0x(ctx: XdpContext) -> u32 {
    seal::run(&ctx)
}

#[xdp]
pub fn seal_end(ctx: XdpContext) -> u32 {
    seal::end(&ctx)
}

#[xdp]
pub fn open_end(ctx: XdpContext) -> u32 {
    open::end(&ctx)
}

#[xdp]
pub fn seal_chacha_poly(ctx: XdpContext) -> u32 {
    seal::transform(&ctx, |frame, sa| cipher::chacha_poly_seal(frame, sa.fixed))
}

#[xdp]
pub fn open_chacha_poly(ctx: XdpContext) -> u32 {
    open::transform(&ctx, |frame, sa| cipher::chacha_poly_open(frame, sa.fixed))
}

#[xdp]
pub fn seal_aes_gcm(ctx: XdpContext) -> u32 {
    seal::transform(&ctx, |frame, sa| match SA_GHASH.get_ptr(&sa.place.slot) {
        Some(table) => gcm::aes_gcm_seal(frame, sa.fixed, table),
        None => cipher::UNKNOWN,
    })
}

#[xdp]
pub fn open_aes_gcm(ctx: XdpContext) -> u32 {
    open::transform(&ctx, |frame, sa| match SA_GHASH.get_ptr(&sa.place.slot) {
        Some(table) => gcm::aes_gcm_open(frame, sa.fixed, table),
        None => cipher::UNKNOWN,
    })
}

#[xdp]
pub fn xdp_ipsec0(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[classifier]
pub fn tc_outer_egress(ctx: TcContext) -> i32 {
    tc::outer_egress(ctx.skb.skb)
}

#[classifier]
pub fn tc_outer_ingress(ctx: TcContext) -> i32 {
    tc::outer_ingress(ctx.skb.skb)
}

#[classifier]
pub fn tc_ipsec0_egress(ctx: TcContext) -> i32 {
    tc::ipsec0_egress(ctx.skb.skb)
}

#[classifier]
pub fn tc_ipsec0x_ingress(ctx: TcContext) -> i32 {
    tc::ipsec0x_ingress(ctx.skb.skb)
}

/// Never attached: the loader runs it once.
#[classifier]
pub fn arm_sweep(_ctx: TcContext) -> i32 {
    sweep::arm()
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets programs under a GPL-compatible licence call every helper.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
