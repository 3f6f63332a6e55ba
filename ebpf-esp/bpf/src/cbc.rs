//! Ciphers in CBC mode and none at all: what is used with a separate authenticator. Each block is a function of its own,
//! verified once.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use ebpf_esp::crypto::aes::{self, Forward, inverse};
use ebpf_esp::crypto::blowfish::{self, Blowfish};
use ebpf_esp::crypto::des::{self, Des, TripleDes};
use ebpf_esp::crypto::{Block64, cbc};
use ebpf_esp::packet::Frame;
use sadb_maps::sa::{AES_ROUNDS_WORD, BlowfishState, SaStatic};

use crate::cipher::{BOUNDS, OK, load_tail};
use crate::frame::{MAX_OFFSET, XdpFrame, opaque, size};
use crate::scratch::{Scratch, scratch};
use crate::walk;

/// Defines a cipher in CBC mode: one block each way, the whole 64-octet blocks of a packet each way, a packet each way.
///
/// `$key` is what the key of the cipher lies in, `$forward` and `$backward` make the cipher of a pointer to it.
macro_rules! cbc {
    (
        $words:literal, $key:ty, $forward:expr, $backward:expr;
        $encrypt:ident, $decrypt:ident, $encrypt_packet:ident, $decrypt_packet:ident, $seal:ident, $open:ident
    ) => {
        /// Enciphers one block; the chain is in the scratch.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $encrypt(key: *const $key, src: *const [u32; $words], dst: *mut [u32; $words]) -> u32 {
            let Some(sc) = scratch() else { return BOUNDS };
            if key.is_null() || src.is_null() || dst.is_null() {
                return BOUNDS;
            }
            // SAFETY: not null, sized by the verifier; the scratch of this CPU.
            unsafe { cbc::encrypt_block(&$forward(key), (&raw mut (*sc).chain).cast(), src, dst) };
            OK
        }

        /// Deciphers one block; the chain is in the scratch.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $decrypt(key: *const $key, src: *const [u32; $words], dst: *mut [u32; $words]) -> u32 {
            let Some(sc) = scratch() else { return BOUNDS };
            if key.is_null() || src.is_null() || dst.is_null() {
                return BOUNDS;
            }
            // SAFETY: not null, sized by the verifier; the scratch of this CPU.
            unsafe { cbc::decrypt_block(&$backward(key), (&raw mut (*sc).chain).cast(), src, dst) };
            OK
        }

        /// Enciphers the whole 64-octet blocks of `len` octets at `src` to `dst`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $encrypt_packet(ctx: *mut xdp_md, key: *const $key, src: u32, dst: u32, len: u32) -> u32 {
            if key.is_null() {
                return BOUNDS;
            }
            walk::map64(ctx, src, dst, len, |from, to| {
                let (from, to) = (from.cast::<[u32; $words]>(), to.cast::<[u32; $words]>());
                for i in 0..16 / $words {
                    // SAFETY: a 64-octet block has as many.
                    unsafe { $encrypt(key, from.add(i), to.add(i)) };
                }
            })
        }

        /// Deciphers the whole 64-octet blocks of `len` octets at `offset`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $decrypt_packet(ctx: *mut xdp_md, key: *const $key, offset: u32, len: u32) -> u32 {
            if key.is_null() {
                return BOUNDS;
            }
            walk::map64(ctx, offset, offset, len, |from, to| {
                let (from, to) = (from.cast::<[u32; $words]>(), to.cast::<[u32; $words]>());
                for i in 0..16 / $words {
                    // SAFETY: a 64-octet block has as many.
                    unsafe { $decrypt(key, from.add(i), to.add(i)) };
                }
            })
        }

        /// Enciphers the job, with an IV made of its counter in front.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $seal(ctx: *mut xdp_md, key: *const $key) -> u32 {
            let Some(sc) = scratch() else { return BOUNDS };
            if key.is_null() {
                return BOUNDS;
            }
            // SAFETY: the scratch of this CPU; not null, sized by the verifier.
            unsafe {
                let (src, dst, len) = ((*sc).job.src, (*sc).job.dst, (*sc).job.len);
                if len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET || dst < 4 * $words {
                    return BOUNDS;
                }
                // The IV is the counter enciphered: CBC of a single block with a chain of zeros.
                let iv = (&raw mut (*sc).block).cast::<[u32; $words]>();
                clear_chain(sc);
                for i in 0..$words {
                    (*sc).block.0[i] = 0;
                }
                (*sc).block.0[$words - 2] = (*sc).job.iv[0];
                (*sc).block.0[$words - 1] = (*sc).job.iv[1];
                $encrypt(key, iv, iv);
                let Some(place) = XdpFrame(ctx).at::<[u32; $words]>(dst - 4 * $words) else { return BOUNDS };
                place.write_unaligned(*iv);
                if $encrypt_packet(ctx, key, src, dst, len) != OK {
                    return BOUNDS;
                }
                let whole = len & !63;
                let end = opaque(load_tail(ctx, src + whole, len & 63));
                if end == 0 || end > 127 {
                    return BOUNDS;
                }
                let tail = (&raw mut (*sc).tail).cast::<[u32; $words]>();
                for i in 0..20 / $words {
                    if i as u32 * 4 * $words >= end {
                        break;
                    }
                    $encrypt(key, tail.add(i), tail.add(i));
                }
                (*sc).job.len = whole + end;
                if bpf_xdp_store_bytes(ctx, dst + whole, tail.cast(), size::<127>(end)) != 0 { BOUNDS } else { OK }
            }
        }

        /// Deciphers the job in place.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $open(ctx: *mut xdp_md, key: *const $key) -> u32 {
            let Some(sc) = scratch() else { return BOUNDS };
            if key.is_null() {
                return BOUNDS;
            }
            // SAFETY: the scratch of this CPU; not null, sized by the verifier.
            unsafe {
                let (src, len) = ((*sc).job.src, (*sc).job.len);
                if len > MAX_OFFSET || src > MAX_OFFSET || src < 4 * $words {
                    return BOUNDS;
                }
                let Some(iv) = XdpFrame(ctx).at::<[u32; $words]>(src - 4 * $words) else { return BOUNDS };
                (&raw mut (*sc).chain).cast::<[u32; $words]>().write(iv.read_unaligned());
                if $decrypt_packet(ctx, key, src, len) != OK {
                    return BOUNDS;
                }
                let rest = opaque(len & 63);
                if rest == 0 {
                    return OK;
                }
                let offset = src + (len & !63);
                let tail = (&raw mut (*sc).tail).cast::<[u32; $words]>();
                if rest > 63 || bpf_xdp_load_bytes(ctx, offset, tail.cast(), size::<63>(rest)) != 0 {
                    return BOUNDS;
                }
                for i in 0..16 / $words {
                    if i as u32 * 4 * $words >= rest {
                        break;
                    }
                    $decrypt(key, tail.add(i), tail.add(i));
                }
                if bpf_xdp_store_bytes(ctx, offset, tail.cast(), size::<63>(rest)) != 0 { BOUNDS } else { OK }
            }
        }
    };
}

#[inline(always)]
pub unsafe fn clear_chain(sc: *mut Scratch) {
    // SAFETY: by the caller.
    unsafe {
        (*sc).chain[0] = 0;
        (*sc).chain[1] = 0;
        (*sc).chain[2] = 0;
        (*sc).chain[3] = 0;
    }
}

#[inline(always)]
unsafe fn aes_forward(sa: *const SaStatic) -> Forward {
    // SAFETY: a live SA.
    unsafe { Forward::new(&raw const aes::TABLES, (&raw const (*sa).key).cast(), (*sa).key[AES_ROUNDS_WORD]) }
}

#[inline(always)]
unsafe fn aes_backward(sa: *const SaStatic) -> inverse::Backward {
    // SAFETY: a live SA.
    unsafe {
        inverse::Backward::new(&raw const inverse::TABLES, (&raw const (*sa).key).cast(), (*sa).key[AES_ROUNDS_WORD])
    }
}

#[inline(always)]
unsafe fn des_cipher(sa: *const SaStatic) -> Des {
    // SAFETY: a live SA.
    unsafe { Des::new(&raw const des::TABLES, (&raw const (*sa).key).cast()) }
}

#[inline(always)]
unsafe fn triple_des_cipher(sa: *const SaStatic) -> TripleDes {
    // SAFETY: a live SA.
    unsafe { TripleDes::new(&raw const des::TABLES, (&raw const (*sa).key).cast()) }
}

#[inline(always)]
unsafe fn blowfish_cipher(state: *const BlowfishState) -> Blowfish {
    // SAFETY: a live state.
    unsafe { Blowfish::new(state.cast::<blowfish::State>()) }
}

cbc! {
    4, SaStatic, aes_forward, aes_backward;
    aes_cbc_encrypt, aes_cbc_decrypt, aes_cbc_encrypt_packet, aes_cbc_decrypt_packet, aes_cbc_seal, aes_cbc_open
}
cbc! {
    2, SaStatic, des_cipher, des_cipher;
    des_encrypt, des_decrypt, des_encrypt_packet, des_decrypt_packet, des_cbc_seal, des_cbc_open
}
cbc! {
    2, SaStatic, triple_des_cipher, triple_des_cipher;
    triple_des_encrypt, triple_des_decrypt, triple_des_encrypt_packet, triple_des_decrypt_packet,
    triple_des_cbc_seal, triple_des_cbc_open
}
cbc! {
    2, BlowfishState, blowfish_cipher, blowfish_cipher;
    blowfish_encrypt, blowfish_decrypt, blowfish_encrypt_packet, blowfish_decrypt_packet,
    blowfish_cbc_seal, blowfish_cbc_open
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copy64(src: *const Block64, dst: *mut Block64) -> u32 {
    if src.is_null() || dst.is_null() {
        return BOUNDS;
    }
    // SAFETY: not null, sized by the verifier; the block is read before it is written.
    unsafe { dst.write_unaligned(src.read_unaligned()) };
    OK
}

/// Moves the whole 64-octet blocks of `len` octets from `src` down to `dst`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shift_packet(ctx: *mut xdp_md, src: u32, dst: u32, len: u32) -> u32 {
    walk::map64(ctx, src, dst, len, |from, to| {
        copy64(from, to);
    })
}

/// Puts the job where it belongs, with its trailer, and enciphers nothing (RFC 2410).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn null_seal(ctx: *mut xdp_md) -> u32 {
    let Some(sc) = scratch() else { return BOUNDS };
    // SAFETY: the scratch of this CPU.
    unsafe {
        let (src, dst, len) = ((*sc).job.src, (*sc).job.dst, (*sc).job.len);
        if len > MAX_OFFSET || src > MAX_OFFSET || dst > MAX_OFFSET || shift_packet(ctx, src, dst, len) != OK {
            return BOUNDS;
        }
        let whole = len & !63;
        let end = opaque(load_tail(ctx, src + whole, len & 63));
        if end == 0 || end > 127 {
            return BOUNDS;
        }
        (*sc).job.len = whole + end;
        if bpf_xdp_store_bytes(ctx, dst + whole, (&raw mut (*sc).tail).cast(), size::<127>(end)) != 0 {
            BOUNDS
        } else {
            OK
        }
    }
}

/// What is not enciphered is not deciphered.
#[inline(always)]
pub fn null_open(_ctx: *mut xdp_md) -> u32 {
    OK
}

/// Enciphers the job with Blowfish.
#[inline(always)]
pub fn blowfish_seal(ctx: *mut xdp_md, _sa: &SaStatic, state: *const BlowfishState) -> u32 {
    blowfish_cbc_seal(ctx, state)
}

/// Deciphers the job with Blowfish.
#[inline(always)]
pub fn blowfish_open(ctx: *mut xdp_md, _sa: &SaStatic, state: *const BlowfishState) -> u32 {
    blowfish_cbc_open(ctx, state)
}
