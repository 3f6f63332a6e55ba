//! ESP packets of any pair of transforms in ordinary memory: what the programs in the kernel do, for tests and fuzzers.
//!
//! A packet is a slice from the SPI on. Sealing turns `front | payload | room` into `SPI | sequence number | IV |
//! ciphertext | ICV`, opening gives back where the payload lies. Every block goes through the functions that the kernel
//! runs, and every key through the words that an SA keeps in its maps.

mod combined;
mod mac;
mod separate;

pub use mac::authenticate;

use super::aead::{self, Aad};
use super::aes::{self, Forward};
use super::blowfish::{self, Blowfish};
use super::cbc;
use super::des::{self, Des, TripleDes};
use super::ghash::Table;
use super::material::KeyArea;
use super::trailer;
use super::transform::{Authentication, Encryption};
use core::ops::Range;

/// Octets of SPI and sequence number.
const HEADER: usize = 8;

/// Longest IV in octets.
const MAX_IV: usize = 16;

/// Why a packet was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The pair of transforms, ICV length or tables do not make an SA, or an IV has another length.
    Suite,
    /// The packet does not fit the memory, or is too short to be one.
    Bounds,
    /// The ciphertext does not consist of whole blocks (ESP-IN-12).
    Blocks,
    /// The ICV does not match. The packet is as it was.
    Icv,
    /// The pad length is more than there is, or the padding is not 1, 2, 3, ….
    Padding,
}

impl From<aead::Error> for Error {
    fn from(error: aead::Error) -> Self {
        match error {
            aead::Error::Icv => Self::Icv,
            aead::Error::Bounds | aead::Error::TooLong => Self::Bounds,
        }
    }
}

/// One end of an SA.
#[derive(Clone, Copy)]
pub struct Suite<'a> {
    /// The cipher or AEAD.
    pub encryption: Encryption,
    /// What authenticates, with a cipher that does not.
    pub authentication: Authentication,
    /// Octets of the ICV.
    pub icv_len: u32,
    /// The keys, of this end's direction.
    pub keys: &'a KeyArea,
    /// Salt in memory order; for CCM as [`salt_word`](super::ccm::salt_word) makes it.
    pub salt: u32,
    /// The GHASH table of AES-GCM and AES-GMAC.
    pub table: Option<&'a Table>,
    /// The state of Blowfish, of this end's direction.
    pub blowfish: Option<&'a blowfish::State>,
    /// SPI.
    pub spi: u32,
    /// Whether sequence numbers are extended.
    pub esn: bool,
}

/// An IV: as many octets as the transform has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iv {
    octets: [u8; MAX_IV],
    len: usize,
}

impl AsRef<[u8]> for Iv {
    fn as_ref(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

/// What lies in an opened packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The payload, without padding.
    pub payload: Range<usize>,
    /// The next header.
    pub next_header: u8,
}

/// The parts of a packet.
struct Parts<'p> {
    /// Header and IV.
    front: &'p mut [u8],
    /// Payload and trailer, in clear or enciphered.
    message: &'p mut [u8],
    icv: &'p mut [u8],
}

impl Suite<'_> {
    /// Octets in front of the payload.
    #[must_use]
    pub const fn front(&self) -> usize {
        HEADER + self.encryption.iv_len() as usize
    }

    /// Octets behind a payload of `len` octets: trailer and ICV.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits decide")]
    pub const fn back(&self, len: usize) -> usize {
        (trailer::trailer_len(len as u32, self.encryption.align()) + self.icv_len) as usize
    }

    /// The IV of the packet with this number, which must not come twice under one key: the number itself, or for CBC the
    /// number enciphered, for which this must be the enciphering end.
    ///
    /// # Errors
    /// [`Error::Suite`].
    pub fn iv(&self, number: u64) -> Result<Iv, Error> {
        let mut iv = Iv { octets: [0; MAX_IV], len: self.encryption.iv_len() as usize };
        let mut put = |words: &[u32]| {
            let chunks = iv.octets.as_chunks_mut::<4>().0.iter_mut();
            chunks.zip(words).for_each(|(octets, word)| *octets = word.to_ne_bytes());
        };
        match self.encryption {
            Encryption::Null => {}
            Encryption::AesCbc => put(&cbc::iv(&self.aes_forward(), number)),
            Encryption::DesCbc => put(&cbc::iv(&self.des(), number)),
            Encryption::TripleDesCbc => put(&cbc::iv(&self.triple_des(), number)),
            Encryption::BlowfishCbc => put(&cbc::iv(&self.blowfish()?, number)),
            _ => iv.octets.iter_mut().zip(number.to_be_bytes()).for_each(|(octet, of_number)| *octet = of_number),
        }
        Ok(iv)
    }

    /// Seals the payload of `len` octets that lies behind [`front`](Self::front) octets, and gives the length of the
    /// packet. After an error, the contents of the packet are lost.
    ///
    /// # Errors
    /// [`Error::Suite`], and [`Error::Bounds`] when there are not [`back`](Self::back) octets behind the payload.
    pub fn seal(&self, packet: &mut [u8], len: usize, seq: u64, iv: &[u8], next_header: u8) -> Result<usize, Error> {
        self.check()?;
        if iv.len() != self.encryption.iv_len() as usize {
            return Err(Error::Suite);
        }
        let end = self.front().checked_add(len).ok_or(Error::Bounds)?;
        let total = end.checked_add(self.back(len)).ok_or(Error::Bounds)?;
        let packet = packet.get_mut(..total).ok_or(Error::Bounds)?;
        let (low, high) = halves(seq);
        let front = self.spi.to_be_bytes().into_iter().chain(low.to_be_bytes()).chain(iv.iter().copied());
        packet.iter_mut().zip(front).for_each(|(octet, of_front)| *octet = of_front);
        put_trailer(packet.get_mut(end..).ok_or(Error::Bounds)?, len, self.encryption, next_header)?;
        self.protect(packet, high)?;
        Ok(total)
    }

    /// Enciphers and authenticates a packet that has its header, IV and trailer, and behind the message room for the ICV.
    ///
    /// # Errors
    /// [`Error::Suite`], [`Error::Bounds`], and [`Error::Blocks`] for a message that CBC does not take.
    pub fn protect(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        self.check()?;
        match self.encryption {
            Encryption::AesGcm | Encryption::ChaCha20Poly1305 => self.seal_aead(packet, seq_high),
            Encryption::AesCcm => self.seal_ccm(packet, seq_high),
            Encryption::AesGmac => self.seal_gmac(packet, seq_high),
            _ => self.seal_separately(packet, seq_high),
        }
    }

    /// Opens a packet in place. `seq_high` is the high half of its sequence number, as the replay window has it.
    ///
    /// # Errors
    /// [`Error`]. Unless the ICV matches, the packet is as it was.
    pub fn open(&self, packet: &mut [u8], seq_high: u32) -> Result<Opened, Error> {
        self.check()?;
        let cipher_len = packet.len().checked_sub(self.front() + self.icv_len as usize).ok_or(Error::Bounds)?;
        if cipher_len < 2 {
            return Err(Error::Bounds);
        }
        if cipher_len % self.encryption.align() as usize != 0 {
            return Err(Error::Blocks);
        }
        self.unprotect(packet, seq_high)?;
        let plain = packet.get(self.front()..self.front() + cipher_len).ok_or(Error::Bounds)?;
        let (len, next_header) = check_trailer(plain)?;
        Ok(Opened { payload: self.front()..self.front() + len, next_header })
    }

    /// Verifies a packet and deciphers its message, whatever that is, in place.
    ///
    /// # Errors
    /// [`Error::Suite`], [`Error::Bounds`], [`Error::Icv`], and [`Error::Blocks`] for a message that CBC does not take.
    pub fn unprotect(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        self.check()?;
        match self.encryption {
            Encryption::AesGcm | Encryption::ChaCha20Poly1305 => self.open_aead(packet, seq_high),
            Encryption::AesCcm => self.open_ccm(packet, seq_high),
            Encryption::AesGmac => self.open_gmac(packet, seq_high),
            _ => self.open_separately(packet, seq_high),
        }
    }

    /// Whether this is an SA at all.
    fn check(&self) -> Result<(), Error> {
        let separate = !self.encryption.is_aead();
        let authenticated = (self.authentication != Authentication::None) == separate;
        let icv = if separate {
            self.icv_len == self.authentication.icv_len()
        } else {
            self.encryption.takes_icv_len(self.icv_len)
        };
        if authenticated && icv { Ok(()) } else { Err(Error::Suite) }
    }

    /// Takes a packet apart.
    fn parts<'p>(&self, packet: &'p mut [u8]) -> Result<Parts<'p>, Error> {
        let cipher_end = packet.len().checked_sub(self.icv_len as usize).ok_or(Error::Bounds)?;
        let (rest, icv) = packet.split_at_mut_checked(cipher_end).ok_or(Error::Bounds)?;
        let (front, message) = rest.split_at_mut_checked(self.front()).ok_or(Error::Bounds)?;
        Ok(Parts { front, message, icv })
    }

    /// The nonce of a counter mode: salt, and IV behind the header.
    fn nonce(&self, front: &[u8]) -> Result<[u32; 3], Error> {
        let iv: &[u8; 8] = front.get(HEADER..).and_then(<[u8]>::first_chunk).ok_or(Error::Bounds)?;
        let [a, b, c, d, e, f, g, h] = *iv;
        Ok(aead::nonce(self.salt, [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]))
    }

    /// The additional data of an AEAD.
    fn aad(&self, front: &[u8], seq_high: u32) -> Result<Aad, Error> {
        let [_, _, _, _, a, b, c, d] = *front.first_chunk::<HEADER>().ok_or(Error::Bounds)?;
        let seq = u64::from(seq_high) << 32 | u64::from(u32::from_be_bytes([a, b, c, d]));
        Ok(Aad::new(self.spi, seq, self.esn))
    }

    fn aes_forward(&self) -> Forward {
        let (schedule, rounds) = self.keys.aes();
        // SAFETY: the static tables, and keys that are borrowed longer than any use of the value.
        unsafe { Forward::new(&raw const aes::TABLES, schedule, rounds) }
    }

    fn aes_backward(&self) -> aes::inverse::Backward {
        let (schedule, rounds) = self.keys.aes();
        // SAFETY: as above.
        unsafe { aes::inverse::Backward::new(&raw const aes::inverse::TABLES, schedule, rounds) }
    }

    fn des(&self) -> Des {
        // SAFETY: as above.
        unsafe { Des::new(&raw const des::TABLES, self.keys.des()) }
    }

    fn triple_des(&self) -> TripleDes {
        // SAFETY: as above.
        unsafe { TripleDes::new(&raw const des::TABLES, self.keys.triple_des()) }
    }

    fn blowfish(&self) -> Result<Blowfish, Error> {
        let state = self.blowfish.ok_or(Error::Suite)?;
        // SAFETY: a state that is borrowed longer than any use of the value.
        Ok(unsafe { Blowfish::new(state) })
    }
}

/// Low and high half.
#[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
const fn halves(seq: u64) -> (u32, u32) {
    (seq as u32, (seq >> 32) as u32)
}

/// Writes the trailer of a payload of `len` octets at the start of `room`.
#[expect(clippy::cast_possible_truncation, reason = "the padding is at most 15")]
fn put_trailer(room: &mut [u8], len: usize, encryption: Encryption, next_header: u8) -> Result<(), Error> {
    let pad = trailer::padding(len as u32, encryption.align()) as u8;
    let trailer = (1..=pad).chain([pad, next_header]);
    if room.len() < usize::from(pad) + 2 {
        return Err(Error::Bounds);
    }
    room.iter_mut().zip(trailer).for_each(|(octet, of_trailer)| *octet = of_trailer);
    Ok(())
}

/// The length of the payload in a deciphered message, and the next header.
#[expect(clippy::cast_possible_truncation, reason = "the pad length is an octet")]
fn check_trailer(plain: &[u8]) -> Result<(usize, u8), Error> {
    let (rest, [pad_len, next_header]) = plain.split_last_chunk().ok_or(Error::Bounds)?;
    let len = rest.len().checked_sub(usize::from(*pad_len)).ok_or(Error::Padding)?;
    let mut padding = [0; 256];
    let octets = rest.get(len..).ok_or(Error::Padding)?;
    padding.iter_mut().zip(octets).for_each(|(octet, of_padding)| *octet = *of_padding);
    // SAFETY: a live local.
    if unsafe { trailer::is_counting(&raw const padding, octets.len() as u32) } {
        Ok((len, *next_header))
    } else {
        Err(Error::Padding)
    }
}

/// Whether both hold the same ICV: 8 to 32 octets, a multiple of four.
fn same_icv(a: &[u8], b: &[u8]) -> bool {
    // SAFETY: both are as long as is compared.
    a.len() == b.len() && unsafe { super::ct_eq_words(a.as_ptr().cast(), b.as_ptr().cast(), (a.len() / 4) as u32) }
}
