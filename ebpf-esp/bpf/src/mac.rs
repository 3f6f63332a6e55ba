//! The separate authenticators, one program each. What they cover and what happens next is in the job: the same program
//! serves packets that are sealed and packets that are opened, ESP and AH.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use aya_ebpf::programs::XdpContext;
use core::ptr::null_mut;
use ebpf_esp::crypto::ct_eq_words;
use ebpf_esp::crypto::hash::{Hash, Md5, Sha1, Sha256, Sha384, Sha512};
use ebpf_esp::crypto::hmac::{End, Key};
use sadb_maps::counter::Counter;
use sadb_maps::sa::{HMAC_WORD, SaStatic, flag};

use crate::cipher::{BOUNDS, OK};
use crate::frame::{MAX_OFFSET, opaque, size};
use crate::sa::planned;
use crate::scratch::{Scratch, scratch};
use crate::{atomic, fault, stage, walk};

/// Defines an HMAC: compressing one block, compressing the whole blocks of a packet, and all of it.
macro_rules! hmac {
    ($hash:ty, $compress:ident, $packet:ident, $hmac:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $compress(block: *const <$hash as Hash>::Block) -> u32 {
            let Some(sc) = scratch() else { return BOUNDS };
            if block.is_null() {
                return BOUNDS;
            }
            // SAFETY: not null, sized by the verifier; the scratch of this CPU, whose areas are aligned to eight octets.
            unsafe {
                let (state, schedule) = ((&raw mut (*sc).mac_state).cast(), (&raw mut (*sc).mac_schedule).cast());
                <$hash>::compress(state, schedule, block);
            }
            OK
        }

        /// Compresses the whole blocks of `len` octets at `offset`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $packet(ctx: *mut xdp_md, offset: u32, len: u32) -> u32 {
            let each = |block| {
                $compress(block);
            };
            if walk::blocks::<<$hash as Hash>::Block>(ctx, offset, len, each).is_some() { OK } else { BOUNDS }
        }

        /// Leaves the authenticator of the job in the scratch.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $hmac(ctx: *mut xdp_md, sa: *const SaStatic) -> u32 {
            let Some(sc) = scratch() else { return BOUNDS };
            if sa.is_null() {
                return BOUNDS;
            }
            // SAFETY: the scratch of this CPU and a live SA.
            unsafe {
                let key = (&raw const (*sa).key).cast::<u32>().add(HMAC_WORD).cast::<Key<$hash>>();
                let state = (&raw mut (*sc).mac_state).cast::<<$hash as Hash>::State>();
                let end = (&raw mut (*sc).mac_end).cast::<End<$hash>>();
                let job = &(*sc).mac;
                let (offset, len) = (job.offset, job.len);
                if offset > MAX_OFFSET || len > MAX_OFFSET {
                    return BOUNDS;
                }
                state.write((*key).inner);
                if $packet(ctx, offset, len) != OK {
                    return BOUNDS;
                }
                End::<$hash>::clear(end);
                const BLOCK: u32 = size_of::<<$hash as Hash>::Block>() as u32;
                let mut rest = opaque(len & (BLOCK - 1));
                if rest != 0 {
                    if rest > BLOCK - 1
                        || bpf_xdp_load_bytes(
                            ctx,
                            offset + (len & !(BLOCK - 1)),
                            end.cast(),
                            size::<{ BLOCK - 1 }>(rest),
                        ) != 0
                    {
                        return BOUNDS;
                    }
                }
                let mut total = len;
                if (*sa).flags & flag::ESN != 0 {
                    End::<$hash>::append_word(end, rest, (*sc).job.seq[0]);
                    rest += 4;
                    total += 4;
                }
                let blocks = End::<$hash>::finish(end, rest, total);
                $compress(End::<$hash>::block(end, false));
                if blocks == 2 {
                    $compress(End::<$hash>::block(end, true));
                }
                // HMAC-SHA2-384 has this program too, and its inner digest is one third shorter (RFC 4868 section 2.1).
                if <$hash>::DIGEST_WORDS == Sha512::DIGEST_WORDS && (*sa).auth_bits == 384 {
                    End::<Sha384>::outer(end.cast(), state.cast());
                } else {
                    End::<$hash>::outer(end, state);
                }
                state.write((*key).outer);
                $compress(End::<$hash>::block(end, false));
                <$hash>::digest(state, (&raw mut (*sc).digest).cast());
            }
            OK
        }
    };
}

hmac!(Md5, md5_compress, md5_packet, hmac_md5_packet);
hmac!(Sha1, sha1_compress, sha1_packet, hmac_sha1_packet);
hmac!(Sha256, sha256_compress, sha256_packet, hmac_sha256_packet);
hmac!(Sha512, sha512_compress, sha512_packet, hmac_sha512_packet);

/// The program of an authenticator.
#[inline(always)]
pub fn run(ctx: &XdpContext, authenticate: extern "C" fn(*mut xdp_md, *const SaStatic) -> u32) -> u32 {
    let sa = match planned() {
        Ok(sa) => sa,
        Err(reason) => return stage::drop(reason as u32),
    };
    if authenticate(ctx.ctx, sa.fixed) != OK {
        return stage::drop(Counter::DropMalformed as u32);
    }
    let sc = scratch().unwrap_or(null_mut());
    if sc.is_null() {
        return stage::drop(Counter::DropInternal as u32);
    }
    // SAFETY: the scratch of this CPU.
    match unsafe { deliver(ctx.ctx, sc, sa.fixed.icv_len as u32) } {
        Ok(then) => stage::next(ctx, then),
        Err(reason) => {
            if reason == Counter::DropAuth {
                // SAFETY: a live map value.
                unsafe { atomic::fetch_add(&raw mut (*sa.state).auth_failed, 1) };
            }
            stage::drop(reason as u32)
        }
    }
}

/// Compares or stores the first `len` octets of the digest.
#[inline(always)]
pub unsafe fn deliver(ctx: *mut xdp_md, sc: *mut Scratch, len: u32) -> Result<u32, Counter> {
    // SAFETY: the scratch of this CPU.
    unsafe {
        let job = &(*sc).mac;
        let digest = (&raw mut (*sc).digest).cast::<u32>();
        if job.verify != 0 {
            let believed = fault::is(fault::AH) && job.then == stage::AH_OPEN_END;
            if !ct_eq_words(digest, (&raw const (*sc).icv).cast(), len / 4) && !believed {
                return Err(Counter::DropAuth);
            }
        } else {
            let len = opaque(len & 63);
            if len == 0 || len > 32 || bpf_xdp_store_bytes(ctx, job.icv, digest.cast(), size::<32>(len)) != 0 {
                return Err(Counter::DropInternal);
            }
        }
        Ok(job.then)
    }
}
