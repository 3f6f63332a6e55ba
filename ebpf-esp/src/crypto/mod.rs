//! The ciphers and authenticators of ESP and AH as they run inside eBPF.
//!
//! - AEADs: ChaCha20-Poly1305 (RFC 7634), AES-GCM (RFC 4106), AES-CCM (RFC 4309, [`ccm`]), AES-GMAC (RFC 4543, [`gmac`]).
//! - Ciphers: AES-CBC (RFC 3602), AES-CTR (RFC 3686, [`aes::Counter`]), and for old peers 3DES-CBC and Blowfish-CBC
//!   (RFC 2451), DES-CBC (RFC 2405); [`cbc`] is their mode.
//! - Authenticators: HMAC ([`hmac`]) with MD5, SHA-1 and SHA-2 (RFC 2403, 2404, 4868), AES-XCBC-MAC and AES-CMAC
//!   ([`cmac`]; RFC 3566, 4494).
//!
//! [`transform`] says what each asks for, [`material`] makes the words that an SA keeps of its keys, [`suite`] seals and
//! opens whole packets in ordinary memory with any combination.
//!
//! Everything here is written for the verifier and a linker that has no `core` panics to offer: fixed-size words behind
//! raw pointers, no slice, no allocation, no variable index that the compiler or the verifier cannot bound. The same
//! functions run on the host, where the tests compare them with vectors and with other implementations.
//!
//! What is *not* known here: SAs, sequence numbers, packets' headers. [`aead`] holds what ESP says about nonces and
//! additional data, and the drivers that walk a message.
//!
//! Types that hold key material are plain `Copy` words where they live in BPF maps: whoever owns the map wipes them. What
//! is only used on the host wipes itself. None has `Debug`.

pub mod aead;
pub mod aes;
pub mod blowfish;
pub mod cbc;
pub mod ccm;
pub mod chacha20;
pub mod cmac;
pub mod des;
pub mod ghash;
pub mod gmac;
pub mod hash;
pub mod hmac;
pub mod material;
pub mod permutation;
pub mod poly1305;
pub mod suite;
pub mod trailer;
pub mod transform;

/// 128 bytes in memory order: one block of SHA-384 or SHA-512. Behind a pointer into a packet it may be at any address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block128(pub [u32; 32]);

/// 64 bytes in memory order: one block of ChaCha20 or of the shorter hashes. Behind a pointer into a packet it may be at any address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block64(pub [u32; 16]);

/// 16 bytes in memory order: one Poly1305, AES or GHASH block, or an ICV. Behind a pointer into a packet it may be at
/// any address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block16(pub [u32; 4]);

/// 8 bytes in memory order: one block of DES or Blowfish. Behind a pointer into a packet it may be at any address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block8(pub [u32; 2]);

impl Block16 {
    /// Whether both blocks hold the same bytes, in constant time.
    #[inline(always)]
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) == 0
    }
}

/// Words in the longest ICV: that of HMAC-SHA2-512-256.
pub const MAX_ICV_WORDS: u32 = 8;

/// Whether the first `words` words (at most [`MAX_ICV_WORDS`]) of both hold the same octets, in constant time.
///
/// # Safety
/// Both are valid for reading `4 * words` octets, at any alignment.
#[inline(always)]
#[must_use]
pub unsafe fn ct_eq_words(a: *const u32, b: *const u32, words: u32) -> bool {
    let mut difference = 0;
    let mut i = 0;
    while i < MAX_ICV_WORDS && i < words {
        // SAFETY: below `words`.
        difference |= unsafe { load(a, i as usize) ^ load(b, i as usize) };
        i += 1;
    }
    difference == 0
}

/// Word `i` of what `p` points to, as stored in memory, from any address.
///
/// # Safety
/// `p` is valid for reading `4 * (i + 1)` bytes.
#[inline(always)]
unsafe fn load<T>(p: *const T, i: usize) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { p.cast::<u32>().add(i).read_unaligned() }
}

/// Sets word `i` of what `p` points to, at any address.
///
/// # Safety
/// `p` is valid for writing `4 * (i + 1)` bytes.
#[inline(always)]
unsafe fn store<T>(p: *mut T, i: usize, word: u32) {
    // SAFETY: the caller's promise.
    unsafe { p.cast::<u32>().add(i).write_unaligned(word) }
}

/// Zeroes what held a secret, in a way that is not optimized out.
fn wipe(words: &mut [u32]) {
    for word in words {
        // SAFETY: a borrowed word.
        unsafe { core::ptr::from_mut(word).write_volatile(0) };
    }
}
