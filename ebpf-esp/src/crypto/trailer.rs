//! The trailer of ESP, RFC 4303 section 2.4: padding 1, 2, 3, … up to the alignment of the cipher, pad length, next
//! header.

use super::aead::Tail;

/// The longest padding that the pad length can tell.
pub const MAX_PADDING: u32 = 255;

/// Octets of padding behind `len` octets of payload, so that the ciphertext is a multiple of `align`: a power of two, 4
/// to 16.
#[inline(always)]
#[must_use]
pub const fn padding(len: u32, align: u32) -> u32 {
    0u32.wrapping_sub(len).wrapping_sub(2) & (align - 1)
}

/// Octets of padding, pad length and next header behind `len` octets of payload: 2 to `align` + 1.
#[inline(always)]
#[must_use]
pub const fn trailer_len(len: u32, align: u32) -> u32 {
    2 + padding(len, align)
}

/// Writes the trailer behind the `len` octets (at most 63) in `tail` and gives the new length, a multiple of `align`: a
/// power of two, 4 to 16.
///
/// # Safety
/// `tail` is valid for writing over its whole size.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most 15")]
pub unsafe fn append(tail: *mut Tail, len: u32, align: u32, next_header: u8) -> u32 {
    let pad = padding(len, align) & 15;
    let mut i = 0;
    // SAFETY: Tail::set wraps inside.
    unsafe {
        while i < 15 && i < pad {
            Tail::set(tail, len + i, i as u8 + 1);
            i += 1;
        }
        Tail::set(tail, len + pad, pad as u8);
        Tail::set(tail, len + pad + 1, next_header);
    }
    len + pad + 2
}

/// Whether the first `len` octets (at most 255) are 1, 2, 3, …, as a receiver should check (RFC 4303 section 2.4).
///
/// # Safety
/// `octets` is valid for reading `len` octets.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "at most 255")]
pub unsafe fn is_counting(octets: *const [u8; 256], len: u32) -> bool {
    let mut difference = 0;
    let mut i = 0;
    while i < MAX_PADDING && i < len {
        // SAFETY: below `len` and 255.
        difference |= unsafe { octets.cast::<u8>().add(i as usize).read() } ^ (i as u8 + 1);
        i += 1;
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ESP-FMT-07: padding 1, 2, 3 up to the alignment, pad length, next header.
    #[test]
    fn padding_of_rfc4303_2_4() {
        for align in [4, 8, 16] {
            for len in 0..64 {
                let mut tail = Tail([0xeeee_eeee; 32]);
                // SAFETY: a live local.
                let total = unsafe { append(&raw mut tail, len, align, 41) };
                assert_eq!(total, len + trailer_len(len, align));
                assert_eq!(total % align, 0);
                let octets: Vec<u8> = tail.0.iter().flat_map(|w| w.to_ne_bytes()).collect();
                let pad = total - len - 2;
                assert!(pad < align);
                let mut expected: Vec<u8> = (1..=pad as u8).collect();
                expected.extend([pad as u8, 41]);
                assert_eq!(octets[len as usize..total as usize], expected);
                assert!(octets[total as usize..].iter().all(|octet| *octet == 0xee));
            }
        }
    }

    #[test]
    fn padding_is_checked_to_its_end_and_no_further() {
        let counting: [u8; 256] = core::array::from_fn(|i| (i + 1) as u8);
        for len in 0..=255 {
            // SAFETY: a live local.
            assert!(unsafe { is_counting(&raw const counting, len) });
            for at in 0..255 {
                let mut other = counting;
                other[at as usize] ^= 0x80;
                // SAFETY: a live local.
                assert_eq!(unsafe { is_counting(&raw const other, len) }, at >= len);
            }
        }
    }
}
