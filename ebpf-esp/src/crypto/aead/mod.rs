//! What ESP says about AEADs, and the walk over a message: seal and open.
//!
//! Nonce = salt (4 octets of key material) | IV (8 octets of the packet); additional data = SPI | sequence number, or
//! SPI | both halves of the extended sequence number (RFC 7634 section 2, RFC 4106 sections 4 and 5). Both AEADs of ESP
//! pad the payload to 4 octets (RFC 4303 section 2.4). An ICV has 16 octets, with AES-GCM also 8 or 12.
//!
//! [`seal`] and [`open`] know neither packet nor cipher: [`Packet`] gives checked access to the bytes, [`Cipher`] is one
//! started AEAD computation. Full blocks are worked on inside the packet; what is shorter goes through a [`Tail`]
//! outside of it, where the ESP trailer is made as well. In the kernel both traits are thin shells around context
//! access and global functions.

mod aes_gcm;
mod buffer;
mod chacha20poly1305;

pub use aes_gcm::{AesGcm, AesGcmKey, hash_key};
pub use buffer::Buffer;
pub use chacha20poly1305::ChaCha20Poly1305;

use super::{Block16, Block64, ct_eq_words, store, trailer};

/// Octets of an ICV that is not truncated.
pub const ICV_LEN: u32 = 16;

/// Octets of the explicit IV.
pub const IV_LEN: u32 = 8;

/// The nonce of a packet in memory order: salt, then the explicit IV, both as words in memory order.
#[inline(always)]
#[must_use]
pub const fn nonce(salt: u32, iv: [u32; 2]) -> [u32; 3] {
    [salt, iv[0], iv[1]]
}

/// The additional authenticated data of a packet, padded with zeros to one block.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Aad {
    /// The octets, zero from `len` on.
    pub block: Block16,
    /// 8 without ESN, 12 with.
    pub len: u32,
}

impl Aad {
    /// The additional data of the packet with this SPI and full 64-bit sequence number, both as numbers.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
    pub const fn new(spi: u32, seq: u64, esn: bool) -> Self {
        let low = (seq as u32).to_be();
        if esn {
            Self { block: Block16([spi.to_be(), ((seq >> 32) as u32).to_be(), low, 0]), len: 12 }
        } else {
            Self { block: Block16([spi.to_be(), low, 0, 0]), len: 8 }
        }
    }
}

/// Words in a [`Tail`].
const TAIL_WORDS: u32 = 32;

/// Up to 128 octets outside the packet: the part of a message that fills no block, and the trailer. In the kernel it
/// lies in a per-CPU map.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tail(pub [u32; TAIL_WORDS as usize]);

impl Tail {
    /// All zero.
    pub const ZERO: Self = Self([0; TAIL_WORDS as usize]);

    /// One of the two halves.
    ///
    /// # Safety
    /// `tail` is valid over its whole size.
    #[inline(always)]
    pub const unsafe fn half(tail: *mut Self, second: bool) -> *mut Block64 {
        // SAFETY: 0 or 64 of 128 octets.
        unsafe { tail.cast::<Block64>().add(second as usize) }
    }

    /// Block `i`, 0..8, of the eight 16-octet blocks; higher numbers wrap.
    ///
    /// # Safety
    /// `tail` is valid over its whole size.
    #[inline(always)]
    pub const unsafe fn block16(tail: *mut Self, i: u32) -> *mut Block16 {
        // SAFETY: the mask keeps the block within the 128 octets.
        unsafe { tail.cast::<u8>().add(((i << 4) & 0x70) as usize).cast::<Block16>() }
    }

    /// Sets octet `at`; positions wrap at 128.
    ///
    /// # Safety
    /// `tail` is valid for writing over its whole size.
    #[inline(always)]
    pub const unsafe fn set(tail: *mut Self, at: u32, octet: u8) {
        // SAFETY: the mask keeps the octet within the 128.
        unsafe { tail.cast::<u8>().add((at & 127) as usize).write(octet) }
    }

    /// Zeroes octets 0..64.
    ///
    /// # Safety
    /// `tail` is valid for writing over its whole size.
    #[inline(always)]
    pub unsafe fn clear_half(tail: *mut Self) {
        // Volatile, or the compiler makes a call to memset of it, byte by byte in BPF.
        let words = tail.cast::<u32>();
        let mut i = 0;
        while i < 16 {
            // SAFETY: 16 of 32 words.
            unsafe { words.add(i).write_volatile(0) };
            i += 1;
        }
    }

    /// Zeroes from octet `len` (at most 128) to the end of its 16-octet block, as the authenticators want it.
    ///
    /// # Safety
    /// `tail` is valid over its whole size.
    #[inline(always)]
    pub unsafe fn pad(tail: *mut Self, len: u32) {
        if len & 15 == 0 {
            return;
        }
        let words = tail.cast::<u32>();
        let first = (len >> 2) & 31;
        let keep = (1u32 << ((len & 3) << 3)) - 1;
        // SAFETY: the masks keep every index below 32.
        unsafe {
            let word = words.add(first as usize);
            word.write((u32::from_le(word.read()) & keep).to_le());
            if first & 3 < 3 {
                words.add(((first + 1) & 31) as usize).write(0);
            }
            if first & 3 < 2 {
                words.add(((first + 2) & 31) as usize).write(0);
            }
            if first & 3 < 1 {
                words.add(((first + 3) & 31) as usize).write(0);
            }
        }
    }
}

/// What the length of the ciphertext is a multiple of, in octets.
pub const ALIGN: u32 = 4;

/// Checked access to the octets of a packet.
///
/// # Safety
/// A pointer from [`block64`](Self::block64) is valid for reading and writing 64 octets until the packet's head or tail
/// moves, also while others like it are in use. [`load`](Self::load) writes no more than the first `len` octets.
pub unsafe trait Packet {
    /// Bound of the loops over blocks: no message has more blocks of 64 octets.
    const MAX_BLOCKS: u32;

    /// The 64 octets at `offset`, or `None` when they are not all inside the packet.
    fn block64(&mut self, offset: u32) -> Option<*mut Block64>;

    /// Copies `len` octets (1..=64) at `offset` to the start of `to`, or `None` when they are not inside.
    ///
    /// # Safety
    /// `to` is valid over its whole size and no part of the packet.
    unsafe fn load(&mut self, offset: u32, len: u32, to: *mut Tail) -> Option<()>;

    /// Copies `len` octets (1..=128) from the start of `from` to `offset`, or `None` when they do not fit inside.
    ///
    /// # Safety
    /// `from` is valid over its whole size and no part of the packet.
    unsafe fn store(&mut self, offset: u32, len: u32, from: *const Tail) -> Option<()>;
}

/// One AEAD computation over one message: key stream and authenticator, started with key and nonce.
///
/// # Safety
/// The functions touch no more memory than their pointers' types say.
pub unsafe trait Cipher {
    /// XORs the next 64 octets of key stream into `src`, giving `dst`.
    ///
    /// # Safety
    /// Both are valid at any alignment; where they overlap, `dst <= src`.
    unsafe fn xor64(&mut self, src: *const Block64, dst: *mut Block64);

    /// XORs the next key stream into the first `len` octets (at most 128) of `tail`, and anything into the octets
    /// behind them. The last call of a message.
    ///
    /// # Safety
    /// `tail` is valid over its whole size.
    unsafe fn xor_tail(&mut self, tail: *mut Tail, len: u32);

    /// Authenticates 64 octets.
    ///
    /// # Safety
    /// `block` is valid for reading at any alignment.
    unsafe fn mac64(&mut self, block: *const Block64);

    /// Authenticates 16 octets.
    ///
    /// # Safety
    /// `block` is valid for reading at any alignment.
    unsafe fn mac16(&mut self, block: *const Block16);

    /// The block of lengths, in octets, that ends what is authenticated.
    fn lengths(aad: u32, message: u32) -> Block16;

    /// The ICV of all that was authenticated.
    fn icv(&mut self) -> Block16;
}

/// Why a message was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The message, with its trailer and ICV, does not lie inside the packet.
    Bounds,
    /// The message has more than [`Packet::MAX_BLOCKS`] blocks.
    TooLong,
    /// The ICV does not match. The packet is as it was.
    Icv,
}

/// A message to be sealed; offsets and lengths in octets.
#[derive(Clone, Copy)]
pub struct Seal {
    /// Where the payload is.
    pub src: u32,
    /// Where the ciphertext goes: not after `src`, by any distance.
    pub dst: u32,
    /// Length of the payload.
    pub len: u32,
    /// `Some(next header)`: the ESP trailer is appended. `None`: the payload alone is the message.
    pub trailer: Option<u8>,
    /// Octets of the ICV: 16, or with AES-GCM 8 or 12.
    pub icv_len: u32,
}

/// Enciphers and authenticates: ciphertext of payload and trailer at `dst`, the ICV behind it. Gives the length of the
/// ciphertext. After an error, the contents of the packet are lost.
///
/// # Errors
/// [`Error::Bounds`], also when `dst` lies after `src`, and [`Error::TooLong`].
#[inline(always)]
pub fn seal<C: Cipher, P: Packet>(
    cipher: &mut C,
    packet: &mut P,
    tail: &mut Tail,
    aad: &Aad,
    message: &Seal,
) -> Result<u32, Error> {
    if message.dst > message.src {
        return Err(Error::Bounds);
    }
    let mut done = 0;
    let mut blocks = 0;
    while message.len - done >= 64 {
        if blocks == P::MAX_BLOCKS {
            return Err(Error::TooLong);
        }
        blocks += 1;
        let src = packet.block64(message.src + done).ok_or(Error::Bounds)?;
        let dst = packet.block64(message.dst + done).ok_or(Error::Bounds)?;
        // SAFETY: both come from the packet, the destination is not the higher one.
        unsafe { cipher.xor64(src, dst) };
        done += 64;
    }
    let mut rest = (message.len - done) & 63;
    // SAFETY: `tail` is borrowed for this call; its functions wrap inside.
    unsafe {
        if rest > 0 {
            packet.load(message.src + done, rest, tail).ok_or(Error::Bounds)?;
        }
        if let Some(next_header) = message.trailer {
            rest = trailer::append(tail, rest, ALIGN, next_header);
        }
        if rest > 0 {
            cipher.xor_tail(tail, rest);
            packet.store(message.dst + done, rest, tail).ok_or(Error::Bounds)?;
            Tail::pad(tail, rest);
        }
    }
    authenticate(cipher, packet, tail, aad, message.dst, done, rest)?;
    let icv = cipher.icv();
    // SAFETY: the borrowed tail; at most 16 of its 128 octets.
    unsafe {
        store_block16(tail, &icv);
        packet.store(message.dst + done + rest, message.icv_len.min(ICV_LEN), tail).ok_or(Error::Bounds)?;
    }
    Ok(done + rest)
}

/// Verifies and deciphers the `len` octets of ciphertext at `offset`, whose ICV of `icv_len` octets (8, 12 or 16; any
/// other matches nothing) follows them, in place. The packet is untouched unless the ICV matches (RFC 4303 section 3.4.4.1).
///
/// # Errors
/// [`Error::Bounds`], [`Error::TooLong`] and [`Error::Icv`].
#[inline(always)]
pub fn open<C: Cipher, P: Packet>(
    cipher: &mut C,
    packet: &mut P,
    tail: &mut Tail,
    aad: &Aad,
    offset: u32,
    len: u32,
    icv_len: u32,
) -> Result<(), Error> {
    if !matches!(icv_len, 8 | 12 | 16) {
        return Err(Error::Icv);
    }
    let rest = len & 63;
    let full = len - rest;
    if full / 64 > P::MAX_BLOCKS {
        return Err(Error::TooLong);
    }
    // SAFETY: `tail` is borrowed for this call.
    let received = unsafe {
        packet.load(offset + len, icv_len, tail).ok_or(Error::Bounds)?;
        Tail::block16(tail, 0).read()
    };
    if rest > 0 {
        // SAFETY: `tail` is borrowed for this call.
        unsafe {
            Tail::clear_half(tail);
            packet.load(offset + full, rest, tail).ok_or(Error::Bounds)?;
        }
    }
    authenticate(cipher, packet, tail, aad, offset, full, rest)?;
    let icv = cipher.icv();
    // SAFETY: four words of locals.
    if !unsafe { ct_eq_words((&raw const icv).cast(), (&raw const received).cast(), icv_len >> 2) } {
        return Err(Error::Icv);
    }
    let mut done = 0;
    let mut blocks = 0;
    while done < full && blocks < P::MAX_BLOCKS {
        blocks += 1;
        let block = packet.block64(offset + done).ok_or(Error::Bounds)?;
        // SAFETY: a block of the packet, in place.
        unsafe { cipher.xor64(block, block) };
        done += 64;
    }
    if rest > 0 {
        // SAFETY: the tail still holds the ciphertext that was verified.
        unsafe {
            cipher.xor_tail(tail, rest);
            packet.store(offset + full, rest, tail).ok_or(Error::Bounds)?;
        }
    }
    Ok(())
}

/// Authenticates additional data, `full` octets (a multiple of 64) of the packet, `rest` octets of the zero-padded tail,
/// and the lengths.
#[inline(always)]
fn authenticate<C: Cipher, P: Packet>(
    cipher: &mut C,
    packet: &mut P,
    tail: &mut Tail,
    aad: &Aad,
    offset: u32,
    full: u32,
    rest: u32,
) -> Result<(), Error> {
    if aad.len > 0 {
        // SAFETY: a borrowed block.
        unsafe { cipher.mac16(&raw const aad.block) };
    }
    let mut done = 0;
    let mut blocks = 0;
    while done < full && blocks < P::MAX_BLOCKS {
        blocks += 1;
        let block = packet.block64(offset + done).ok_or(Error::Bounds)?;
        // SAFETY: a block of the packet.
        unsafe { cipher.mac64(block) };
        done += 64;
    }
    let mut block = 0;
    while block << 4 < rest && block < 8 {
        // SAFETY: a block of the borrowed tail.
        unsafe { cipher.mac16(Tail::block16(tail, block)) };
        block += 1;
    }
    let lengths = C::lengths(aad.len, full + rest);
    // SAFETY: a live local.
    unsafe { cipher.mac16(&raw const lengths) };
    Ok(())
}

/// Puts a block at the start of the tail.
#[inline(always)]
unsafe fn store_block16(tail: *mut Tail, block: &Block16) {
    // SAFETY: four of 32 words; the caller's pointer is valid.
    unsafe {
        store(tail, 0, block.0[0]);
        store(tail, 1, block.0[1]);
        store(tail, 2, block.0[2]);
        store(tail, 3, block.0[3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pad_zeroes_to_the_end_of_the_block_only() {
        for len in 0..=128u32 {
            let mut tail = Tail([0xeeee_eeee; 32]);
            // SAFETY: a live local.
            unsafe { Tail::pad(&mut tail, len) };
            let end = len.next_multiple_of(16) as usize;
            for (i, octet) in tail.0.iter().flat_map(|w| w.to_ne_bytes()).enumerate() {
                assert_eq!(octet == 0, (len as usize..end).contains(&i), "len {len}, octet {i}");
            }
        }
    }

    /// ESP-FMT-06: with ESN the high half stands before the low one.
    #[test]
    fn additional_data_of_rfc4106_5() {
        let octets = |aad: Aad| aad.block.0.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>();
        let plain = Aad::new(0x0102_0304, 0x1112_1314_2122_2324, false);
        assert_eq!(plain.len, 8);
        assert_eq!(octets(plain), [1, 2, 3, 4, 0x21, 0x22, 0x23, 0x24, 0, 0, 0, 0, 0, 0, 0, 0]);
        let esn = Aad::new(0x0102_0304, 0x1112_1314_2122_2324, true);
        assert_eq!(esn.len, 12);
        assert_eq!(octets(esn), [1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0, 0, 0, 0]);
    }
}
