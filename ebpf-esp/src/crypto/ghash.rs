//! GHASH, the authenticator of GCM (SP 800-38D section 6.4), over whole 16-byte blocks.
//!
//! Per SA a table holds, for each of the 32 half-octets of a block and each of its 16 values, that value's product with
//! the hash key, in memory order. A product is then 32 look-ups XORed: no shifting, no reduction, no octet swapped.
//! 8 KiB is the size that stays fast when many SAs are in use; tables of 64 KiB per SA fall out of the cache.
//! **Not constant time**: the table is indexed with the hash of ciphertext and key.

use super::{Block16, Block64, load, store};

/// Words of a table: 32 half-octets, 16 values, 4 words.
pub const TABLE_WORDS: usize = 2048;

/// Half-octet 2 j is the lower half of octet j, 2 j + 1 the upper. Each has 16 products of 16 octets.
pub type Table = [u32; TABLE_WORDS];

/// Fills the table for the hash key `h`, which is the all-zero block enciphered (SP 800-38D section 7.1). For user
/// space, when an SA is installed.
pub fn fill_table(table: &mut Table, h: &Block16) {
    let [a, b, c, d] = h.0.map(|word| u128::from(u32::from_be(word)));
    // H times x^i for the eight powers of an octet: bit 7 of an octet is its lowest power.
    let mut power = a << 96 | b << 64 | c << 32 | d;
    for octet in table.as_chunks_mut::<128>().0 {
        let mut powers = [0u128; 8];
        for slot in &mut powers {
            *slot = power;
            power = (power >> 1) ^ ((power & 1) * (0xe1 << 120));
        }
        let (low, high) = octet.split_at_mut(64);
        let [h0, h1, h2, h3, l0, l1, l2, l3] = powers;
        fill_half(high, [h3, h2, h1, h0]);
        fill_half(low, [l3, l2, l1, l0]);
    }
}

/// Fills the 16 entries of one half-octet, given what each of its bits contributes, lowest bit first.
fn fill_half(half: &mut [u32], bits: [u128; 4]) {
    for (value, entry) in half.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut product = 0;
        for (i, bit) in bits.iter().enumerate() {
            if value >> i & 1 == 1 {
                product ^= bit;
            }
        }
        for (word, octets) in entry.iter_mut().zip(product.to_be_bytes().as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*octets);
        }
    }
}

/// The two 64-bit halves, in memory order, of one entry: `POSITION` is the half-octet, its value is in bits 4..8 of
/// `scaled`.
///
/// # Safety
/// `table` is valid for reading.
#[inline(always)]
unsafe fn entry<const POSITION: usize>(table: *const Table, scaled: u32) -> (u64, u64) {
    // SAFETY: the mask keeps the offset within the 256 octets of a half-octet, of which there are 32.
    unsafe {
        let p = table.cast::<u8>().add(256 * POSITION + (scaled & 0xf0) as usize).cast::<u64>();
        (p.read_unaligned(), p.add(1).read_unaligned())
    }
}

/// (y + block) * H, `y` and the result as two 64-bit halves in memory order.
///
/// # Safety
/// `table` and `block` are valid for reading.
#[inline(always)]
unsafe fn absorb(table: *const Table, y: [u32; 4], block: *const Block16) -> [u32; 4] {
    let (mut low, mut high) = (0, 0);
    macro_rules! word {
        ($i:literal) => {
            // SAFETY: the caller's promise; word $i of four.
            unsafe {
                let w = u32::from_le(y[$i] ^ load(block, $i));
                let p0 = entry::<{ 8 * $i }>(table, w << 4);
                let p1 = entry::<{ 8 * $i + 1 }>(table, w);
                let p2 = entry::<{ 8 * $i + 2 }>(table, w >> 4);
                let p3 = entry::<{ 8 * $i + 3 }>(table, w >> 8);
                let p4 = entry::<{ 8 * $i + 4 }>(table, w >> 12);
                let p5 = entry::<{ 8 * $i + 5 }>(table, w >> 16);
                let p6 = entry::<{ 8 * $i + 6 }>(table, w >> 20);
                let p7 = entry::<{ 8 * $i + 7 }>(table, w >> 24);
                low ^= p0.0 ^ p1.0 ^ p2.0 ^ p3.0 ^ p4.0 ^ p5.0 ^ p6.0 ^ p7.0;
                high ^= p0.1 ^ p1.1 ^ p2.1 ^ p3.1 ^ p4.1 ^ p5.1 ^ p6.1 ^ p7.1;
            }
        };
    }
    word!(0);
    word!(1);
    word!(2);
    word!(3);
    let ([a, b], [c, d]) = (halves(low), halves(high));
    [a, b, c, d]
}

/// The two words of a 64-bit load, first in memory first.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is asked for")]
const fn halves(x: u64) -> [u32; 2] {
    let x = x.to_le();
    [(x as u32).to_le(), ((x >> 32) as u32).to_le()]
}

/// Takes 16 bytes into the hash `y`.
///
/// # Safety
/// `y` is valid for reading and writing, `table` and `block` for reading, all at any alignment.
#[inline(always)]
pub unsafe fn block16(y: *mut Block16, table: *const Table, block: *const Block16) {
    // SAFETY: the caller's promise.
    unsafe {
        let h = [load(y, 0), load(y, 1), load(y, 2), load(y, 3)];
        let h = absorb(table, h, block);
        store(y, 0, h[0]);
        store(y, 1, h[1]);
        store(y, 2, h[2]);
        store(y, 3, h[3]);
    }
}

/// Takes 64 bytes, that is four blocks, into the hash `y`.
///
/// # Safety
/// `y` is valid for reading and writing, `table` and `block` for reading, all at any alignment.
#[inline(always)]
pub unsafe fn block64(y: *mut Block16, table: *const Table, block: *const Block64) {
    let block = block.cast::<Block16>();
    // SAFETY: the caller's promise; four blocks of 16 bytes are the 64.
    unsafe {
        let h = [load(y, 0), load(y, 1), load(y, 2), load(y, 3)];
        let h = absorb(table, h, block);
        let h = absorb(table, h, block.add(1));
        let h = absorb(table, h, block.add(2));
        let h = absorb(table, h, block.add(3));
        store(y, 0, h[0]);
        store(y, 1, h[1]);
        store(y, 2, h[2]);
        store(y, 3, h[3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block16 {
        let octets = u128::from_str_radix(text, 16).unwrap().to_be_bytes();
        Block16(core::array::from_fn(|i| u32::from_ne_bytes(octets[4 * i..4 * i + 4].try_into().unwrap())))
    }

    /// The intermediate values of test case 2 of the GCM specification.
    #[test]
    fn hash_of_gcm_test_case_2() {
        let mut table = [0; TABLE_WORDS];
        fill_table(&mut table, &block("66e94bd4ef8a2c3b884cfa59ca342b2e"));
        let mut y = Block16([0; 4]);
        for (input, expected) in [
            ("0388dace60b6a392f328c2b971b2fe78", "5e2ec746917062882c85b0685353deb7"),
            ("00000000000000000000000000000080", "f38cbb1ad69223dcc3457ae5b6b0f885"),
        ] {
            // SAFETY: live locals.
            unsafe { block16(&mut y, &table, &block(input)) };
            assert_eq!(y.0, block(expected).0);
        }
    }

    #[test]
    fn sixty_four_bytes_equal_four_blocks() {
        let mut table = [0; TABLE_WORDS];
        fill_table(&mut table, &block("b83b533708bf535d0aa6e52980d53b78"));
        let message = Block64(core::array::from_fn(|i| (i as u32 + 1).wrapping_mul(0x9e37_79b9)));
        let (mut one, mut four) = (Block16([7; 4]), Block16([7; 4]));
        // SAFETY: live locals; four blocks in 64 bytes.
        unsafe {
            block64(&mut one, &table, &message);
            for i in 0..4 {
                block16(&mut four, &table, (&raw const message).cast::<Block16>().add(i));
            }
        }
        assert_eq!(one.0, four.0);
    }
}
