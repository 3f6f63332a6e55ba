//! The entry points of the data path. What they do is in the modules; what can be tested without a kernel is in the
//! library `ebpf-esp`; names and records are in `sadb-maps`.

#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "atomic intrinsics: core::sync::atomic has no read-modify-write on this target")]

mod acquire;
mod ah;
mod atomic;
mod cbc;
mod checksum;
mod cipher;
mod ctr;
mod fault;
mod frame;
mod gcm;
mod hold;
mod late;
mod limit;
mod mac;
mod maps;
mod nat;
mod open;
mod path_mtu;
mod policy;
mod report;
mod route;
mod sa;
mod scratch;
mod seal;
mod shortcut;
mod slow;
mod stage;
mod sweep;
mod tc;
mod walk;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::maps::{SA_BLOWFISH, SA_GHASH};

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
pub fn open_whole(ctx: XdpContext) -> u32 {
    open::run_whole(&ctx)
}

#[xdp]
pub fn ah_seal(ctx: XdpContext) -> u32 {
    ah::seal(&ctx)
}

#[xdp]
pub fn ah_seal_end(ctx: XdpContext) -> u32 {
    ah::seal_end(&ctx)
}

#[xdp]
pub fn ah_open_end(ctx: XdpContext) -> u32 {
    ah::open_end(&ctx)
}

#[xdp]
pub fn open_end(ctx: XdpContext) -> u32 {
    open::end(&ctx)
}

#[xdp]
pub fn shortcut(ctx: XdpContext) -> u32 {
    shortcut::run(&ctx)
}

/// The programs of a cipher: one that seals, one that opens.
macro_rules! cipher {
    ($seal:ident $open:ident, |$frame:ident, $sa:ident| $sealing:expr, $opening:expr) => {
        #[xdp]
        pub fn $seal(ctx: XdpContext) -> u32 {
            seal::transform(&ctx, |$frame, $sa| $sealing)
        }

        #[xdp]
        pub fn $open(ctx: XdpContext) -> u32 {
            open::transform(&ctx, |$frame, $sa| $opening)
        }
    };
}

/// The same for a cipher that needs a table apart.
macro_rules! cipher_with_table {
    ($seal:ident $open:ident, $table:ident, $sealing:expr, $opening:expr) => {
        cipher!($seal $open, |frame, sa|
            $table.get_ptr(&sa.place.slot).map_or(cipher::UNKNOWN, |table| $sealing(frame, sa.fixed, table)),
            $table.get_ptr(&sa.place.slot).map_or(cipher::UNKNOWN, |table| $opening(frame, sa.fixed, table)));
    };
}

/// The program of a separate authenticator.
macro_rules! authenticator {
    ($name:ident, $authenticate:path) => {
        #[xdp]
        pub fn $name(ctx: XdpContext) -> u32 {
            mac::run(&ctx, $authenticate)
        }
    };
}

cipher!(seal_chacha_poly open_chacha_poly, |frame, sa|
    cipher::chacha_poly_seal(frame, sa.fixed), cipher::chacha_poly_open(frame, sa.fixed));
cipher_with_table!(seal_aes_gcm open_aes_gcm, SA_GHASH, gcm::aes_gcm_seal, gcm::aes_gcm_open);
cipher_with_table!(seal_aes_gmac open_aes_gmac, SA_GHASH, gcm::aes_gmac_seal, gcm::aes_gmac_open);
cipher!(seal_aes_ccm open_aes_ccm, |frame, sa| ctr::aes_ccm_seal(frame, sa.fixed), ctr::aes_ccm_open(frame, sa.fixed));
cipher!(seal_null open_null, |frame, _sa| cbc::null_seal(frame), cbc::null_open(frame));
cipher!(seal_aes_cbc open_aes_cbc, |frame, sa| cbc::aes_cbc_seal(frame, sa.fixed), cbc::aes_cbc_open(frame, sa.fixed));
cipher!(seal_aes_ctr open_aes_ctr, |frame, sa| ctr::aes_ctr_seal(frame, sa.fixed), ctr::aes_ctr_open(frame, sa.fixed));
cipher!(seal_des_cbc open_des_cbc, |frame, sa| cbc::des_cbc_seal(frame, sa.fixed), cbc::des_cbc_open(frame, sa.fixed));
cipher!(seal_triple_des_cbc open_triple_des_cbc, |frame, sa|
    cbc::triple_des_cbc_seal(frame, sa.fixed), cbc::triple_des_cbc_open(frame, sa.fixed));
cipher_with_table!(seal_blowfish open_blowfish, SA_BLOWFISH, cbc::blowfish_seal, cbc::blowfish_open);
authenticator!(hmac_md5, mac::hmac_md5_packet);
authenticator!(hmac_sha1, mac::hmac_sha1_packet);
authenticator!(hmac_sha256, mac::hmac_sha256_packet);
authenticator!(hmac_sha512, mac::hmac_sha512_packet);

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
