//! The Poly1305 authenticator, RFC 8439 section 2.5, over whole 16-byte blocks.
//!
//! An AEAD pads everything to 16 bytes, so a block is always full. The accumulator is four limbs of 32 bits and a small
//! fifth, all in 64-bit words with lazy carries: 20 multiplications per block and no re-slicing of the message, which
//! suits a machine with eleven registers and no 128-bit product better than limbs of 26 or 44 bits. Constant time.

use super::{Block16, Block64, load};

/// One computation: the accumulator and the one-time key.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Poly1305 {
    /// Accumulator. Between blocks h0 is below 2^33, h1..h3 below 2^32, h4 below 4.
    h: [u64; 5],
    /// Clamped r.
    r: [u64; 4],
    /// 5/4 of r1..r3: what they become when a product passes 2^130. Exact, since clamping makes them multiples of 4.
    s: [u64; 3],
    /// The second half of the key, added at the end.
    pad: [u64; 4],
}

impl Poly1305 {
    /// All zero: a place to [`init`].
    pub const ZERO: Self = Self { h: [0; 5], r: [0; 4], s: [0; 3], pad: [0; 4] };

    /// Forgets key and message.
    pub(super) fn wipe(&mut self) {
        // SAFETY: a borrowed record; volatile, so that it is not optimized out.
        unsafe { core::ptr::from_mut(self).write_volatile(Self::ZERO) };
    }
}

/// Starts with the one-time key in the first 32 bytes of `key`: block 0 of the ChaCha20 key stream.
///
/// # Safety
/// `poly` is valid for writing and aligned; `key` is valid for reading, at any alignment.
#[inline(always)]
pub unsafe fn init(poly: *mut Poly1305, key: *const Block64) {
    // SAFETY: indexes 0..8 of 16 words; `poly` as promised.
    unsafe {
        let r0 = u64::from(u32::from_le(load(key, 0)) & 0x0fff_ffff);
        let r1 = u64::from(u32::from_le(load(key, 1)) & 0x0fff_fffc);
        let r2 = u64::from(u32::from_le(load(key, 2)) & 0x0fff_fffc);
        let r3 = u64::from(u32::from_le(load(key, 3)) & 0x0fff_fffc);
        let h = (&raw mut (*poly).h).cast::<u64>();
        // Volatile: for BPF the compiler would make a call of it, to a loop over octets.
        for i in 0..5 {
            h.add(i).write_volatile(0);
        }
        (*poly).r[0] = r0;
        (*poly).r[1] = r1;
        (*poly).r[2] = r2;
        (*poly).r[3] = r3;
        (*poly).s[0] = r1 + (r1 >> 2);
        (*poly).s[1] = r2 + (r2 >> 2);
        (*poly).s[2] = r3 + (r3 >> 2);
        (*poly).pad[0] = u64::from(u32::from_le(load(key, 4)));
        (*poly).pad[1] = u64::from(u32::from_le(load(key, 5)));
        (*poly).pad[2] = u64::from(u32::from_le(load(key, 6)));
        (*poly).pad[3] = u64::from(u32::from_le(load(key, 7)));
    }
}

/// The accumulator after one more block, with `high` (0 or 1) at bit 128.
///
/// # Safety
/// `poly` is valid for reading and aligned; `block` is valid for reading, at any alignment.
#[inline(always)]
unsafe fn absorb(poly: *const Poly1305, h: [u64; 5], block: *const Block16, high: u64) -> [u64; 5] {
    // SAFETY: indexes 0..4 of 4 words; `poly` as promised.
    let ([r0, r1, r2, r3], [s1, s2, s3], m0, m1, m2, m3) = unsafe {
        (
            (*poly).r,
            (*poly).s,
            u64::from(u32::from_le(load(block, 0))),
            u64::from(u32::from_le(load(block, 1))),
            u64::from(u32::from_le(load(block, 2))),
            u64::from(u32::from_le(load(block, 3))),
        )
    };
    // No sum below can pass 2^64: the factors are below 2^34 and 2^28 * 5/4, and h4 is at most 4.
    let h0 = h[0] + m0;
    let h1 = h[1] + m1;
    let h2 = h[2] + m2;
    let h3 = h[3] + m3;
    let h4 = h[4] + high;
    let d0 = h0 * r0 + h1 * s3 + h2 * s2 + h3 * s1;
    let d1 = h0 * r1 + h1 * r0 + h2 * s3 + h3 * s2 + h4 * s1 + (d0 >> 32);
    let d2 = h0 * r2 + h1 * r1 + h2 * r0 + h3 * s3 + h4 * s2 + (d1 >> 32);
    let d3 = h0 * r3 + h1 * r2 + h2 * r1 + h3 * r0 + h4 * s3 + (d2 >> 32);
    let d4 = h4 * r0 + (d3 >> 32);
    // 2^130 = 5: the part of d4 above bit 1 comes back five-fold, as 1 + 4 times a quarter.
    [(d0 & 0xffff_ffff) + (d4 >> 2) + (d4 & !3), d1 & 0xffff_ffff, d2 & 0xffff_ffff, d3 & 0xffff_ffff, d4 & 3]
}

/// Takes in 16 bytes.
///
/// # Safety
/// `poly` is valid for reading and writing, and aligned; `block` is valid for reading, at any alignment.
#[inline(always)]
pub unsafe fn block16(poly: *mut Poly1305, block: *const Block16) {
    // SAFETY: the caller's promise.
    unsafe {
        let h = absorb(poly, (*poly).h, block, 1);
        (*poly).h[0] = h[0];
        (*poly).h[1] = h[1];
        (*poly).h[2] = h[2];
        (*poly).h[3] = h[3];
        (*poly).h[4] = h[4];
    }
}

/// Takes in 64 bytes, that is four blocks.
///
/// # Safety
/// `poly` is valid for reading and writing, and aligned; `block` is valid for reading, at any alignment.
#[inline(always)]
pub unsafe fn block64(poly: *mut Poly1305, block: *const Block64) {
    let block = block.cast::<Block16>();
    // SAFETY: the caller's promise; four blocks of 16 bytes are the 64.
    unsafe {
        let h = absorb(poly, (*poly).h, block, 1);
        let h = absorb(poly, h, block.add(1), 1);
        let h = absorb(poly, h, block.add(2), 1);
        let h = absorb(poly, h, block.add(3), 1);
        (*poly).h[0] = h[0];
        (*poly).h[1] = h[1];
        (*poly).h[2] = h[2];
        (*poly).h[3] = h[3];
        (*poly).h[4] = h[4];
    }
}

/// The tag of everything taken in, in memory order.
///
/// # Safety
/// `poly` is valid for reading and aligned.
#[inline(always)]
#[must_use]
pub unsafe fn finish(poly: *const Poly1305) -> Block16 {
    // SAFETY: the caller's promise.
    let (h, pad) = unsafe { ((*poly).h, (*poly).pad) };
    let c0 = h[0];
    let c1 = h[1] + (c0 >> 32);
    let c2 = h[2] + (c1 >> 32);
    let c3 = h[3] + (c2 >> 32);
    let c4 = h[4] + (c3 >> 32);
    // c is now below 2^131. It reaches a multiple of 2^130 - 5 exactly when c + 5 * (c >> 130) + 5 passes it; the
    // quotient found so makes the rest canonical without a branch.
    let q = c4 >> 2;
    let g0 = (c0 & 0xffff_ffff) + 5 * q + 5;
    let g1 = (c1 & 0xffff_ffff) + (g0 >> 32);
    let g2 = (c2 & 0xffff_ffff) + (g1 >> 32);
    let g3 = (c3 & 0xffff_ffff) + (g2 >> 32);
    let g4 = (c4 & 3) + (g3 >> 32);
    let q = q + (g4 >> 2);

    let t0 = (c0 & 0xffff_ffff) + 5 * q + pad[0];
    let t1 = (c1 & 0xffff_ffff) + pad[1] + (t0 >> 32);
    let t2 = (c2 & 0xffff_ffff) + pad[2] + (t1 >> 32);
    let t3 = (c3 & 0xffff_ffff) + pad[3] + (t2 >> 32);
    Block16([low(t0).to_le(), low(t1).to_le(), low(t2).to_le(), low(t3).to_le()])
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low(x: u64) -> u32 {
    x as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Poly1305 of any bytes: the last block of a message that is not padded has its end bit below bit 128.
    fn poly1305(key: [u8; 32], message: &[u8]) -> [u8; 16] {
        let mut block = Block64([0; 16]);
        for (word, bytes) in block.0.iter_mut().zip(key.chunks(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap());
        }
        let mut poly = Poly1305::ZERO;
        // SAFETY: all live locals.
        unsafe { init(&mut poly, &block) };
        for chunk in message.chunks(16) {
            let mut bytes = [0u8; 17];
            bytes[..chunk.len()].copy_from_slice(chunk);
            bytes[chunk.len()] = 1;
            // SAFETY: 16 of the 17 bytes; `poly` is live.
            poly.h = unsafe { absorb(&poly, poly.h, bytes.as_ptr().cast(), u64::from(bytes[16])) };
        }
        // SAFETY: live local.
        let tag = unsafe { finish(&poly) };
        let mut out = [0; 16];
        for (bytes, word) in out.chunks_mut(4).zip(tag.0) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        assert_eq!(text.len(), 2 * N);
        let digit = |i: usize| char::from(text.as_bytes()[i]).to_digit(16).unwrap() as u8;
        core::array::from_fn(|i| digit(2 * i) << 4 | digit(2 * i + 1))
    }

    #[test]
    fn tag_of_rfc8439_2_5_2() {
        let key = hex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b");
        let tag = poly1305(key, b"Cryptographic Forum Research Group");
        assert_eq!(tag, hex("a8061dc1305136c6c22b8baf0c0127a9"));
    }

    /// The cases of RFC 8439 appendix A.3 (7 to 11) that provoke the last reduction and its carries.
    #[test]
    fn edges_of_rfc8439_a_3() {
        let r2: [u8; 32] = hex("0200000000000000000000000000000000000000000000000000000000000000");
        let r1: [u8; 32] = hex("0100000000000000000000000000000000000000000000000000000000000000");
        let r2s: [u8; 32] = hex("02000000000000000000000000000000ffffffffffffffffffffffffffffffff");
        assert_eq!(poly1305(r2, &[0xff; 16]), hex("03000000000000000000000000000000"));
        assert_eq!(
            poly1305(r2s, &hex::<16>("02000000000000000000000000000000")),
            hex("03000000000000000000000000000000")
        );
        let message: [u8; 48] =
            hex("fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff11000000000000000000000000000000");
        assert_eq!(poly1305(r1, &message), hex("05000000000000000000000000000000"));
        let message: [u8; 48] =
            hex("fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe01010101010101010101010101010101");
        assert_eq!(poly1305(r1, &message), hex("00000000000000000000000000000000"));
        assert_eq!(
            poly1305(r2, &hex::<16>("fdffffffffffffffffffffffffffffff")),
            hex("faffffffffffffffffffffffffffffff")
        );
        let r: [u8; 32] = hex("0100000000000000040000000000000000000000000000000000000000000000");
        let message: [u8; 64] = hex("e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000\
            000000000000000001000000000000000000000000000000");
        assert_eq!(poly1305(r, &message), hex("14000000000000005500000000000000"));
        assert_eq!(poly1305(r, &message[..48]), hex("13000000000000000000000000000000"));
    }

    #[test]
    fn sixty_four_bytes_equal_four_blocks() {
        let key = Block64(core::array::from_fn(|i| (i as u32 + 1).wrapping_mul(0x9e37_79b9)));
        let message = Block64([u32::MAX; 16]);
        let (mut one, mut four) = (Poly1305::ZERO, Poly1305::ZERO);
        // SAFETY: live locals; four blocks in 64 bytes.
        unsafe {
            init(&mut one, &key);
            init(&mut four, &key);
            for _ in 0..32 {
                block64(&mut one, &message);
                for i in 0..4 {
                    block16(&mut four, (&raw const message).cast::<Block16>().add(i));
                }
            }
            assert_eq!(finish(&one).0, finish(&four).0);
        }
    }
}
