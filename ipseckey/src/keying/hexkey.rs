//! Keys as typed: `[0x]HEX[/bits]` (spec section 7.4).

use sadb_maps::host::SecretKey;
use zeroize::Zeroizing;

/// A key with its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexKey {
    /// Octets, the first digit first; unused low bits of the last one are clear.
    pub octets: SecretKey,
    /// Bits that count, from the most significant.
    pub bits: u16,
}

/// Why a word is no key. Never says what the word was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No digit.
    #[error("the key has no hexadecimal digits")]
    Empty,
    /// A character that is no digit.
    #[error("character {0} of the key is not a hexadecimal digit")]
    Digit(usize),
    /// What follows the slash.
    #[error("the number of bits after the '/' is not a number from 1 to 65535")]
    Bits,
    /// More bits than digits.
    #[error("the key has {have} bits, but {want} are asked for")]
    TooFew {
        /// Bits of the digits.
        have: usize,
        /// Bits asked for.
        want: u16,
    },
    /// More digits than a key has.
    #[error("the key is too long: at most 65528 bits")]
    TooLong,
}

impl HexKey {
    /// Reads a key. The flag is set when digits were cut off.
    ///
    /// Without `/bits` the length is that of the digits in whole octets; a last odd digit fills the high half of its
    /// octet.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<(Self, bool), KeyError> {
        let (digits, bits) = match text.split_once('/') {
            Some((digits, bits)) => (digits, Some(bits)),
            None => (text, None),
        };
        let prefixed = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let skipped = if prefixed.is_some() { 2 } else { 0 };
        let digits = prefixed.unwrap_or(digits);
        if digits.is_empty() {
            return Err(KeyError::Empty);
        }
        let mut octets = Zeroizing::new(Vec::with_capacity(digits.len().div_ceil(2)));
        for (i, c) in digits.chars().enumerate() {
            let value = c.to_digit(16).ok_or(KeyError::Digit(skipped + i + 1))? as u8;
            match octets.last_mut() {
                Some(last) if i % 2 == 1 => *last |= value,
                _ => octets.push(value << 4),
            }
        }
        let have = octets.len() * 8;
        let whole = u16::try_from(have).map_err(|_| KeyError::TooLong)?;
        let bits = match bits {
            None => whole,
            Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => {
                number.parse().ok().filter(|b| *b > 0).ok_or(KeyError::Bits)?
            }
            Some(_) => return Err(KeyError::Bits),
        };
        if bits > whole {
            return Err(KeyError::TooFew { have: digits.len() * 4, want: bits });
        }
        octets.truncate(usize::from(bits).div_ceil(8));
        if let (Some(last), unused @ 1..) = (octets.last_mut(), octets_unused(bits)) {
            *last &= u8::MAX << unused;
        }
        let cut = digits.len() * 4 >= usize::from(bits) + 4 && digits.len().div_ceil(2) * 8 != usize::from(bits);
        Ok((Self { octets: SecretKey::from(octets.as_slice()), bits }, cut))
    }

    /// Splits off the last `salt_bits` bits. `None` unless both parts are whole octets and the key part is not empty.
    pub fn split_salt(&self, salt_bits: u16) -> Option<(SecretKey, SecretKey)> {
        let key_bits = self.bits.checked_sub(salt_bits)?;
        if key_bits == 0 || !key_bits.is_multiple_of(8) || !salt_bits.is_multiple_of(8) {
            return None;
        }
        let (key, salt) = self.octets.octets().split_at_checked(usize::from(key_bits / 8))?;
        Some((SecretKey::from(key), SecretKey::from(salt)))
    }
}

/// Low bits of the last octet that do not count.
fn octets_unused(bits: u16) -> u16 {
    (8 - bits % 8) % 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> (Vec<u8>, u16, bool) {
        let (key, cut) = HexKey::parse(text).unwrap();
        (key.octets.octets().to_vec(), key.bits, cut)
    }

    #[test]
    fn digits_bits_and_truncation() {
        assert_eq!(key("0001020f"), (vec![0, 1, 2, 15], 32, false));
        assert_eq!(key("0xFFee"), (vec![0xff, 0xee], 16, false));
        assert_eq!(key("123"), (vec![0x12, 0x30], 16, false));
        assert_eq!(key("123/12"), (vec![0x12, 0x30], 12, false));
        assert_eq!(key("123/16"), (vec![0x12, 0x30], 16, false));
        assert_eq!(key("ffff/15"), (vec![0xff, 0xfe], 15, false));
        assert_eq!(key("ffff/9"), (vec![0xff, 0x80], 9, true));
        assert_eq!(key("ffffff/8"), (vec![0xff], 8, true));
    }

    #[test]
    fn what_is_no_key_is_refused_without_echo() {
        let error = |text: &str| HexKey::parse(text).unwrap_err();
        assert_eq!(error(""), KeyError::Empty);
        assert_eq!(error("0x"), KeyError::Empty);
        assert_eq!(error("0x12g4"), KeyError::Digit(5));
        assert_eq!(error("1é"), KeyError::Digit(2));
        assert_eq!(error("12/x"), KeyError::Bits);
        assert_eq!(error("12/0"), KeyError::Bits);
        assert_eq!(error("12/"), KeyError::Bits);
        assert_eq!(error("12/9"), KeyError::TooFew { have: 8, want: 9 });
        assert_eq!(error(&"f".repeat(20000)), KeyError::TooLong);
    }

    #[test]
    fn salt_is_the_end_of_the_key() {
        let (key, _) = HexKey::parse("000102030405060708090a0b0c0d0e0f01020304").unwrap();
        let (cipher, salt) = key.split_salt(32).unwrap();
        assert_eq!((cipher.len(), salt.octets()), (16, [1, 2, 3, 4].as_slice()));
        assert!(HexKey::parse("01020304").unwrap().0.split_salt(32).is_none());
        assert!(HexKey::parse("0102030405/36").unwrap().0.split_salt(32).is_none());
    }
}
