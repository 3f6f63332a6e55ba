//! The transforms that encipher and authenticate at once.

use super::mac::octets;
use super::{Error, Parts, Suite, same_icv};
use crate::crypto::Block16;
use crate::crypto::aead::{self, Aad, AesGcm, Buffer, ChaCha20Poly1305, Cipher, Seal, Tail};
use crate::crypto::cbc::mac_block;
use crate::crypto::ccm;
use crate::crypto::gmac::Gmac;
use crate::crypto::permutation::Permutation;
use crate::crypto::transform::Encryption;

impl Suite<'_> {
    pub(super) fn seal_aead(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let nonce = self.nonce(packet)?;
        if self.encryption == Encryption::AesGcm {
            self.seal_with(&mut self.gcm(nonce)?, packet, seq_high)
        } else {
            self.seal_with(&mut ChaCha20Poly1305::new(self.keys.chacha20(), nonce), packet, seq_high)
        }
    }

    fn seal_with<C: Cipher>(&self, cipher: &mut C, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let aad = self.aad(packet, seq_high)?;
        let (front, len) = self.message(packet)?;
        let message = Seal { src: front, dst: front, len, trailer: None, icv_len: self.icv_len };
        let mut tail = Tail::ZERO;
        aead::seal(cipher, &mut Buffer::new(packet), &mut tail, &aad, &message)?;
        Ok(())
    }

    pub(super) fn open_aead(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let nonce = self.nonce(packet)?;
        if self.encryption == Encryption::AesGcm {
            self.open_with(&mut self.gcm(nonce)?, packet, seq_high)
        } else {
            self.open_with(&mut ChaCha20Poly1305::new(self.keys.chacha20(), nonce), packet, seq_high)
        }
    }

    fn open_with<C: Cipher>(&self, cipher: &mut C, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let aad = self.aad(packet, seq_high)?;
        let (front, len) = self.message(packet)?;
        let mut tail = Tail::ZERO;
        Ok(aead::open(cipher, &mut Buffer::new(packet), &mut tail, &aad, front, len, self.icv_len)?)
    }

    /// Where the message starts, and its length.
    fn message(&self, packet: &[u8]) -> Result<(u32, u32), Error> {
        let front = size(self.front())?;
        Ok((front, size(packet.len())?.checked_sub(front + self.icv_len).ok_or(Error::Bounds)?))
    }

    fn gcm(&self, nonce: [u32; 3]) -> Result<AesGcm<'_>, Error> {
        let (schedule, rounds) = self.keys.aes();
        Ok(AesGcm::with_parts(schedule, rounds, self.table.ok_or(Error::Suite)?, nonce))
    }

    pub(super) fn seal_ccm(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let Parts { front, message, icv } = self.parts(packet)?;
        let nonce = self.nonce(front)?;
        let mac = self.ccm_mac(nonce, &self.aad(front, seq_high)?, message)?;
        self.count(nonce, message);
        icv.iter_mut().zip(mac).for_each(|(octet, of_mac)| *octet = of_mac);
        Ok(())
    }

    /// The message is deciphered before its ICV can be known, and enciphered again if that does not match.
    pub(super) fn open_ccm(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let Parts { front, message, icv } = self.parts(packet)?;
        let nonce = self.nonce(front)?;
        self.count(nonce, message);
        let mac = self.ccm_mac(nonce, &self.aad(front, seq_high)?, message)?;
        if same_icv(icv, mac.get(..icv.len()).ok_or(Error::Suite)?) {
            return Ok(());
        }
        self.count(nonce, message);
        Err(Error::Icv)
    }

    /// The masked CBC-MAC of a plaintext, zeros behind.
    fn ccm_mac(&self, nonce: [u32; 3], aad: &Aad, plain: &[u8]) -> Result<[u8; 64], Error> {
        let [salt, iv @ ..] = nonce;
        let forward = self.aes_forward();
        let mut mac = Block16([0; 4]);
        let mut absorb = |block: *const Block16| {
            // SAFETY: a live local, and blocks of 16 octets from below.
            unsafe { mac_block(&forward, &raw mut mac.0, block.cast()) };
        };
        let first = ccm::first_block(salt, iv, self.icv_len, size(plain.len())?);
        absorb(&raw const first);
        let block = ccm::aad_block(aad);
        absorb(&raw const block);
        let (blocks, rest) = plain.as_chunks::<16>();
        blocks.iter().for_each(|block| absorb(block.as_ptr().cast()));
        if !rest.is_empty() {
            let mut block = [0; 16];
            block.iter_mut().zip(rest).for_each(|(octet, of_rest)| *octet = *of_rest);
            absorb(block.as_ptr().cast());
        }
        let [a, b, c, d] = forward.apply([nonce[0], nonce[1], nonce[2], 0]);
        let [e, f, g, h] = mac.0;
        Ok(octets(&Block16([a ^ e, b ^ f, c ^ g, d ^ h])))
    }

    pub(super) fn seal_gmac(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let Parts { front, message, icv } = self.parts(packet)?;
        let mac = self.gmac(front, message, seq_high)?;
        icv.iter_mut().zip(mac).for_each(|(octet, of_mac)| *octet = of_mac);
        Ok(())
    }

    pub(super) fn open_gmac(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let Parts { front, message, icv } = self.parts(packet)?;
        let mac = self.gmac(front, message, seq_high)?;
        if same_icv(icv, mac.get(..icv.len()).ok_or(Error::Suite)?) { Ok(()) } else { Err(Error::Icv) }
    }

    /// The tag of SPI, sequence number (with ESN both halves, the high one first), IV and payload.
    fn gmac(&self, front: &[u8], message: &[u8], seq_high: u32) -> Result<[u8; 64], Error> {
        let (schedule, rounds) = self.keys.aes();
        let mut mac = Gmac::new(schedule, rounds, self.table.ok_or(Error::Suite)?, self.nonce(front)?);
        let (spi, rest) = front.split_at_checked(4).ok_or(Error::Bounds)?;
        mac.update(spi);
        if self.esn {
            mac.update(&seq_high.to_be_bytes());
        }
        mac.update(rest);
        mac.update(message);
        Ok(octets(&mac.finish()))
    }
}

fn size(len: usize) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| Error::Bounds)
}
