//! The ciphers of ESP as they run inside eBPF: ChaCha20-Poly1305 (RFC 8439, RFC 7634) and AES-GCM (RFC 4106).
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
pub mod chacha20;
pub mod ghash;
pub mod poly1305;

/// 64 bytes in memory order: one ChaCha20 block. Behind a pointer into a packet it may be at any address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block64(pub [u32; 16]);

/// 16 bytes in memory order: one Poly1305, AES or GHASH block, or an ICV. Behind a pointer into a packet it may be at
/// any address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block16(pub [u32; 4]);

impl Block16 {
    /// Whether both blocks hold the same bytes, in constant time.
    #[inline(always)]
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) == 0
    }
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
