//! A cipher and an authenticator, each on its own (RFC 4303 section 3.3.2.1): the ICV is over header, IV and ciphertext,
//! and over the high half of the sequence number behind them.

use super::mac::authenticate;
use super::{Error, HEADER, Parts, Suite, same_icv};
use crate::crypto::aes::{self, Counter};
use crate::crypto::cbc;
use crate::crypto::permutation::Permutation;
use crate::crypto::transform::{Direction, Encryption};

impl Suite<'_> {
    pub(super) fn seal_separately(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let Parts { front, message, icv } = self.parts(packet)?;
        self.run(Direction::Encrypt, front, message)?;
        let mac = self.mac(front, message, seq_high);
        icv.iter_mut().zip(mac).for_each(|(octet, of_mac)| *octet = of_mac);
        Ok(())
    }

    pub(super) fn open_separately(&self, packet: &mut [u8], seq_high: u32) -> Result<(), Error> {
        let Parts { front, message, icv } = self.parts(packet)?;
        let mac = self.mac(front, message, seq_high);
        if !same_icv(icv, mac.get(..icv.len()).ok_or(Error::Suite)?) {
            return Err(Error::Icv);
        }
        self.run(Direction::Decrypt, front, message)
    }

    fn mac(&self, front: &[u8], cipher: &[u8], seq_high: u32) -> [u8; 64] {
        let high = seq_high.to_be_bytes();
        authenticate(self.authentication, self.keys, &[front, cipher, if self.esn { &high } else { &[] }])
    }

    /// Enciphers or deciphers in place.
    fn run(&self, direction: Direction, front: &[u8], message: &mut [u8]) -> Result<(), Error> {
        let iv = front.get(HEADER..).ok_or(Error::Bounds)?;
        match (self.encryption, direction) {
            (Encryption::Null, _) => Ok(()),
            (Encryption::AesCbc, Direction::Encrypt) => chain(direction, &self.aes_forward(), iv, message),
            (Encryption::AesCbc, Direction::Decrypt) => chain(direction, &self.aes_backward(), iv, message),
            (Encryption::DesCbc, _) => chain(direction, &self.des(), iv, message),
            (Encryption::TripleDesCbc, _) => chain(direction, &self.triple_des(), iv, message),
            (Encryption::BlowfishCbc, _) => chain(direction, &self.blowfish()?, iv, message),
            (Encryption::AesCtr, _) => {
                self.count(self.nonce(front)?, message);
                Ok(())
            }
            _ => Err(Error::Suite),
        }
    }

    /// XORs the key stream of counter mode into a message, in place.
    pub(super) fn count(&self, nonce: [u32; 3], message: &mut [u8]) {
        let (schedule, rounds) = self.keys.aes();
        let mut counter = Counter::ZERO;
        let mut number = self.encryption.first_block();
        let mut init = true;
        for chunk in message.chunks_mut(16) {
            let mut block = [0; 16];
            block.iter_mut().zip(chunk.iter()).for_each(|(octet, plain)| *octet = *plain);
            let p = (&raw mut block).cast();
            // SAFETY: live locals, in place; prepared whenever the upper octets of the number change.
            unsafe {
                if init {
                    aes::counter_init(&raw mut counter, &raw const aes::TABLES, schedule, nonce, number);
                }
                aes::counter_xor(&raw const counter, &raw const aes::TABLES, schedule, rounds, number, p, p);
            }
            chunk.iter_mut().zip(block).for_each(|(octet, cipher)| *octet = cipher);
            number = number.wrapping_add(1);
            init = number & 0xff == 0;
        }
        counter.wipe();
    }
}

/// CBC over whole blocks in place.
fn chain<const WORDS: usize, P: Permutation<WORDS>>(
    direction: Direction,
    cipher: &P,
    iv: &[u8],
    message: &mut [u8],
) -> Result<(), Error> {
    if iv.len() != 4 * WORDS || !message.len().is_multiple_of(4 * WORDS) {
        return Err(Error::Blocks);
    }
    let mut chain = [0; WORDS];
    let words = chain.iter_mut().zip(iv.as_chunks::<4>().0);
    words.for_each(|(word, octets)| *word = u32::from_ne_bytes(*octets));
    for block in message.chunks_exact_mut(4 * WORDS) {
        let p = block.as_mut_ptr().cast();
        // SAFETY: a whole block, in place.
        unsafe {
            match direction {
                Direction::Encrypt => cbc::encrypt_block(cipher, &raw mut chain, p, p),
                Direction::Decrypt => cbc::decrypt_block(cipher, &raw mut chain, p, p),
            }
        }
    }
    Ok(())
}
