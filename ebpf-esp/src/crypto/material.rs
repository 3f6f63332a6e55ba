//! What an SA keeps of its keys, ready for the data path: 128 words that hold cipher and authenticator side by side, and
//! for three transforms a table apart.
//!
//! | words | holds | for |
//! |---|---|---|
//! | 0..60, 60 | AES schedule of the SA's direction, number of rounds | AES-CBC |
//! | 0..60, 60 | AES enciphering schedule, number of rounds | AES-CTR, -CCM, -GCM, -GMAC (in AH too) |
//! | 0..8 | the key itself | ChaCha20-Poly1305 |
//! | 0..32 | DES schedule of the SA's direction | DES-CBC |
//! | 0..96 | Triple DES schedule of the SA's direction | 3DES-CBC |
//! | 64..124 | AES-128 schedule with two subkeys (not next to 3DES) | AES-XCBC-MAC, AES-CMAC |
//! | 96..104, ..106, ..112 | inner, then outer state | HMAC-MD5, -SHA1, -SHA2-256 |
//! | 96..128 | inner, then outer state, 64-bit words | HMAC-SHA2-384, -SHA2-512 |
//!
//! Apart: the GHASH table of AES-GCM and AES-GMAC (2048 words), the state of Blowfish (1042 words, of the SA's direction).
//! Words of AES and subkeys hold octets in memory order, all others are numbers of the machine. Nothing but the 64-bit
//! words asks for more than an alignment of four. Keys cannot be read back from schedules of the deciphering direction
//! or from states of HMAC.

use super::aes::{self, SCHEDULE_WORDS};
use super::hash::{Hash, Md5, Sha1, Sha256, Sha384, Sha512};
use super::transform::{Authentication, Direction, Encryption};
use super::{blowfish, cmac, des, hmac, wipe};

/// Words of a key area.
pub const WORDS: usize = 128;

/// Index of the word that holds the number of AES rounds.
pub const AES_ROUNDS: usize = 60;

/// Index of the first word of AES-XCBC-MAC and AES-CMAC.
pub const CMAC: usize = 64;

/// Index of the first word of HMAC.
pub const HMAC: usize = 96;

/// The keys of an SA. Secret: whoever owns it wipes it.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct KeyArea(pub [u32; WORDS]);

/// The table apart that a transform needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// None.
    Nothing,
    /// That of [`ghash`](super::ghash).
    Ghash,
    /// That of [`blowfish`].
    Blowfish,
}

/// The table apart that goes with a transform.
#[must_use]
pub const fn apart(encryption: Encryption) -> Apart {
    match encryption {
        Encryption::AesGcm | Encryption::AesGmac => Apart::Ghash,
        Encryption::BlowfishCbc => Apart::Blowfish,
        _ => Apart::Nothing,
    }
}

/// Why keys were not put into an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The transform takes no key of this length.
    KeyLength,
    /// There is no room for cipher and authenticator together: 3DES with AES-XCBC-MAC or AES-CMAC.
    Room,
}

impl KeyArea {
    /// All zero.
    pub const ZERO: Self = Self([0; WORDS]);

    /// Installs both keys, without salt, in an area that is zeroed first.
    ///
    /// # Errors
    /// [`Error`]; the area is zero then.
    pub fn install(
        &mut self,
        direction: Direction,
        (encryption, cipher_key): (Encryption, &[u8]),
        (authentication, auth_key): (Authentication, &[u8]),
    ) -> Result<(), Error> {
        wipe(&mut self.0);
        let cmac = matches!(authentication, Authentication::AesXcbc | Authentication::AesCmac);
        if encryption == Encryption::TripleDesCbc && cmac {
            return Err(Error::Room);
        }
        let installed =
            self.cipher(direction, encryption, cipher_key).and_then(|()| self.auth(authentication, auth_key));
        if installed.is_none() {
            wipe(&mut self.0);
        }
        installed.ok_or(Error::KeyLength)
    }

    fn cipher(&mut self, direction: Direction, encryption: Encryption, key: &[u8]) -> Option<()> {
        if !encryption.takes_key_len(key.len()) {
            return None;
        }
        match encryption {
            Encryption::Null | Encryption::BlowfishCbc => {}
            Encryption::DesCbc => {
                des::schedule::expand_key(key.first_chunk()?, direction, self.0.first_chunk_mut()?);
            }
            Encryption::TripleDesCbc => {
                des::schedule::expand_triple_key(key.first_chunk()?, direction, self.0.first_chunk_mut()?);
            }
            Encryption::ChaCha20Poly1305 => {
                let octets = key.as_chunks::<4>().0;
                self.0.iter_mut().zip(octets).for_each(|(word, octets)| *word = u32::from_ne_bytes(*octets));
            }
            Encryption::AesCbc if direction == Direction::Decrypt => {
                *self.0.get_mut(AES_ROUNDS)? = aes::inverse::expand_key(key, self.0.first_chunk_mut()?)?;
            }
            _ => *self.0.get_mut(AES_ROUNDS)? = aes::expand_key(key, self.0.first_chunk_mut()?)?,
        }
        Some(())
    }

    fn auth(&mut self, authentication: Authentication, key: &[u8]) -> Option<()> {
        if key.len() != authentication.key_len() {
            return None;
        }
        match authentication {
            Authentication::None => Some(()),
            Authentication::HmacMd5 => self.put_hmac::<Md5>(key),
            Authentication::HmacSha1 => self.put_hmac::<Sha1>(key),
            Authentication::HmacSha256 => self.put_hmac::<Sha256>(key),
            Authentication::HmacSha384 => self.put_hmac::<Sha384>(key),
            Authentication::HmacSha512 => self.put_hmac::<Sha512>(key),
            Authentication::AesXcbc => {
                cmac::expand_xcbc_key(key.first_chunk()?, self.0.get_mut(CMAC..)?.first_chunk_mut()?);
                Some(())
            }
            Authentication::AesCmac => {
                cmac::expand_cmac_key(key.first_chunk()?, self.0.get_mut(CMAC..)?.first_chunk_mut()?);
                Some(())
            }
        }
    }

    fn put_hmac<H: Hash>(&mut self, key: &[u8]) -> Option<()> {
        const { assert!(size_of::<hmac::Key<H>>() <= 4 * (WORDS - HMAC)) };
        let place = self.0.get_mut(HMAC..)?.as_mut_ptr().cast::<hmac::Key<H>>();
        let mut states = hmac::expand_key::<H>(key);
        // SAFETY: asserted to fit; 96 words into an area that is aligned to 64 octets is a multiple of 8.
        unsafe {
            place.write(states);
            wipe(core::slice::from_raw_parts_mut((&raw mut states).cast(), size_of::<hmac::Key<H>>() / 4));
        }
        Some(())
    }

    /// The states of HMAC with this hash.
    #[must_use]
    pub fn hmac<H: Hash>(&self) -> hmac::Key<H> {
        const { assert!(size_of::<hmac::Key<H>>() <= 4 * (WORDS - HMAC)) };
        // SAFETY: 96 of 128 words; what follows is as long as asserted, and plain words.
        unsafe { (&raw const self.0).cast::<u32>().add(HMAC).cast::<hmac::Key<H>>().read_unaligned() }
    }

    /// The schedule of AES-XCBC-MAC or AES-CMAC.
    #[must_use]
    pub const fn cmac(&self) -> &[u32; SCHEDULE_WORDS] {
        const { assert!(CMAC + SCHEDULE_WORDS <= WORDS) };
        // SAFETY: asserted to lie inside.
        unsafe { &*(&raw const self.0).cast::<u32>().add(CMAC).cast() }
    }

    /// The AES schedule and the number of rounds.
    #[must_use]
    pub const fn aes(&self) -> (&[u32; SCHEDULE_WORDS], u32) {
        // SAFETY: 60 of 128 words, from the first on.
        (unsafe { &*(&raw const self.0).cast() }, self.0[AES_ROUNDS])
    }

    /// The DES schedule.
    #[must_use]
    pub const fn des(&self) -> &[u32; des::SCHEDULE_WORDS] {
        // SAFETY: 32 of 128 words, from the first on.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// The Triple DES schedule.
    #[must_use]
    pub const fn triple_des(&self) -> &[u32; des::TRIPLE_SCHEDULE_WORDS] {
        // SAFETY: 96 of 128 words, from the first on.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// The ChaCha20 key.
    #[must_use]
    pub const fn chacha20(&self) -> &[u32; 8] {
        // SAFETY: 8 of 128 words, from the first on.
        unsafe { &*(&raw const self.0).cast() }
    }
}

const _: () = assert!(size_of::<KeyArea>() == 512);
const _: () = assert!(AES_ROUNDS < CMAC && des::TRIPLE_SCHEDULE_WORDS <= HMAC);
const _: () = assert!(size_of::<blowfish::State>() == 4168);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lengths_leave_nothing_behind() {
        let mut area = KeyArea([7; WORDS]);
        let direction = Direction::Encrypt;
        let short = area.install(direction, (Encryption::AesCbc, &[1; 17]), (Authentication::HmacSha1, &[2; 20]));
        assert_eq!(short, Err(Error::KeyLength));
        assert_eq!(area.0, [0; WORDS]);
        let short = area.install(direction, (Encryption::AesCbc, &[1; 16]), (Authentication::HmacSha1, &[2; 16]));
        assert_eq!(short, Err(Error::KeyLength));
        assert_eq!(area.0, [0; WORDS]);
        let room = area.install(direction, (Encryption::TripleDesCbc, &[1; 24]), (Authentication::AesCmac, &[2; 16]));
        assert_eq!(room, Err(Error::Room));
        assert_eq!(area.0, [0; WORDS]);
    }

    #[test]
    fn cipher_and_authenticator_do_not_meet() {
        let ciphers = [
            (Encryption::AesCbc, 32, 0..61),
            (Encryption::TripleDesCbc, 24, 0..96),
            (Encryption::DesCbc, 8, 0..32),
            (Encryption::ChaCha20Poly1305, 32, 0..8),
            (Encryption::Null, 0, 0..0),
        ];
        let auths = [
            (Authentication::None, WORDS..WORDS),
            (Authentication::HmacMd5, 96..104),
            (Authentication::HmacSha1, 96..106),
            (Authentication::HmacSha256, 96..112),
            (Authentication::HmacSha384, 96..128),
            (Authentication::HmacSha512, 96..128),
            (Authentication::AesCmac, 64..124),
            (Authentication::AesXcbc, 64..124),
        ];
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            for (encryption, key_len, cipher_words) in &ciphers {
                for (authentication, auth_words) in &auths {
                    let (mut one, mut two) = (KeyArea::ZERO, KeyArea::ZERO);
                    let key: Vec<u8> = (1..=*key_len).collect();
                    let auth_key = vec![3; authentication.key_len()];
                    let both = one.install(direction, (*encryption, &key), (*authentication, &auth_key));
                    if matches!(both, Err(Error::Room)) {
                        assert_eq!(*encryption, Encryption::TripleDesCbc);
                        continue;
                    }
                    both.unwrap();
                    two.install(direction, (*encryption, &key), (Authentication::None, &[])).unwrap();
                    for (i, (word, alone)) in one.0.iter().zip(two.0).enumerate() {
                        assert!(auth_words.contains(&i) || *word == alone, "{encryption:?} {authentication:?} {i}");
                        assert!(cipher_words.contains(&i) || alone == 0, "{encryption:?} {i}");
                    }
                }
            }
        }
    }
}
