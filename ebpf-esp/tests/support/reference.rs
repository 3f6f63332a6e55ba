//! ESP packets made with the RustCrypto crates, as the RFCs say and nothing of ours: what ours are compared with.

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt, BlockEncryptMut, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{Aead, AeadInPlace, Payload};
use aes_gcm::aes::cipher::consts::{U8, U11, U12, U16};
use cbc::cipher::block_padding::NoPadding;
use cmac::Mac;
use ebpf_esp::crypto::transform::{Authentication, Encryption};

/// Keys and parameters of an SA.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) encryption: Encryption,
    pub(crate) authentication: Authentication,
    pub(crate) key: Vec<u8>,
    pub(crate) salt: Vec<u8>,
    pub(crate) auth_key: Vec<u8>,
    pub(crate) icv_len: usize,
    pub(crate) spi: u32,
    pub(crate) esn: bool,
}

/// Payload with the trailer of RFC 4303 section 2.4.
pub(crate) fn with_trailer(payload: &[u8], align: usize, next_header: u8) -> Vec<u8> {
    let mut message = payload.to_vec();
    while !(message.len() + 2).is_multiple_of(align) {
        message.push((message.len() - payload.len() + 1) as u8);
    }
    let pad = message.len() - payload.len();
    message.extend([pad as u8, next_header]);
    message
}

impl Keys {
    /// The whole packet.
    pub(crate) fn seal(&self, payload: &[u8], seq: u64, iv: &[u8], next_header: u8) -> Vec<u8> {
        self.seal_message(&with_trailer(payload, self.align(), next_header), seq, iv)
    }

    /// The same with a trailer that is there, which has to fill the last block.
    pub(crate) fn seal_message(&self, message: &[u8], seq: u64, iv: &[u8]) -> Vec<u8> {
        let (low, high) = ((seq as u32).to_be_bytes(), ((seq >> 32) as u32).to_be_bytes());
        let spi = self.spi.to_be_bytes();
        let aad = if self.esn { [spi, high, low].concat() } else { [spi, low].concat() };
        let header = [&spi, &low, iv].concat();
        let nonce = [&self.salt, iv].concat();
        if self.encryption == Encryption::AesGmac {
            let aad = [&aad, iv, message].concat();
            return [&header, message, &self.aead(&nonce, &aad, &[])].concat();
        }
        if self.encryption.is_aead() {
            return [header, self.aead(&nonce, &aad, message)].concat();
        }
        let sealed = [header, self.cipher(&nonce, iv, message)].concat();
        let authenticated = if self.esn { [&sealed[..], &high].concat() } else { sealed.clone() };
        [sealed, self.mac(&authenticated)].concat()
    }

    /// What the plaintext is padded to a multiple of, in octets.
    pub(crate) fn align(&self) -> usize {
        match self.encryption {
            Encryption::AesCbc => 16,
            Encryption::DesCbc | Encryption::TripleDesCbc | Encryption::BlowfishCbc => 8,
            _ => 4,
        }
    }

    /// The explicit IV that a counter makes: itself, and enciphered for CBC, whose IVs nobody may foresee (RFC 3602
    /// section 3).
    pub(crate) fn iv(&self, counter: u64) -> Vec<u8> {
        let counter = counter.to_be_bytes();
        match self.encryption {
            Encryption::Null => Vec::new(),
            Encryption::AesCbc => self.cipher(&[], &[0; 16], &[[0; 8], counter].concat()),
            Encryption::DesCbc | Encryption::TripleDesCbc | Encryption::BlowfishCbc => {
                self.cipher(&[], &[0; 8], &counter)
            }
            _ => counter.to_vec(),
        }
    }

    fn cipher(&self, nonce: &[u8], iv: &[u8], message: &[u8]) -> Vec<u8> {
        let key = &self.key[..];
        match (self.encryption, key.len()) {
            (Encryption::Null, _) => message.to_vec(),
            (Encryption::AesCbc, 16) => in_cbc::<Aes128>(key, iv, message),
            (Encryption::AesCbc, 24) => in_cbc::<Aes192>(key, iv, message),
            (Encryption::AesCbc, 32) => in_cbc::<Aes256>(key, iv, message),
            (Encryption::DesCbc, _) => in_cbc::<des::Des>(key, iv, message),
            (Encryption::TripleDesCbc, _) => in_cbc::<des::TdesEde3>(key, iv, message),
            (Encryption::BlowfishCbc, _) => in_cbc::<blowfish::Blowfish>(key, iv, message),
            (Encryption::AesCtr, len) => {
                let mut out = message.to_vec();
                let block = [nonce, &[0, 0, 0, 1]].concat();
                match len {
                    16 => ctr::Ctr128BE::<Aes128>::new_from_slices(key, &block).unwrap().apply_keystream(&mut out),
                    24 => ctr::Ctr128BE::<Aes192>::new_from_slices(key, &block).unwrap().apply_keystream(&mut out),
                    _ => ctr::Ctr128BE::<Aes256>::new_from_slices(key, &block).unwrap().apply_keystream(&mut out),
                }
                out
            }
            // No such pair: an empty message matches nothing.
            _ => Vec::new(),
        }
    }

    /// The ICV of a message, with a transform that authenticates separately.
    pub(crate) fn mac(&self, message: &[u8]) -> Vec<u8> {
        let key = &self.auth_key[..];
        let mut mac = match self.authentication {
            Authentication::HmacMd5 => mac_of::<hmac::Hmac<md5::Md5>>(key, message),
            Authentication::HmacSha1 => mac_of::<hmac::Hmac<sha1::Sha1>>(key, message),
            Authentication::HmacSha256 => mac_of::<hmac::Hmac<sha2::Sha256>>(key, message),
            Authentication::HmacSha384 => mac_of::<hmac::Hmac<sha2::Sha384>>(key, message),
            Authentication::HmacSha512 => mac_of::<hmac::Hmac<sha2::Sha512>>(key, message),
            Authentication::AesCmac => mac_of::<cmac::Cmac<Aes128>>(key, message),
            Authentication::AesXcbc => xcbc(key, message),
            Authentication::None => Vec::new(),
        };
        mac.truncate(self.icv_len);
        mac
    }

    /// Ciphertext and ICV.
    fn aead(&self, nonce: &[u8], aad: &[u8], message: &[u8]) -> Vec<u8> {
        let key = &self.key[..];
        match (self.encryption, key.len(), self.icv_len) {
            (Encryption::ChaCha20Poly1305, ..) => {
                let payload = Payload { msg: message, aad };
                chacha20poly1305::ChaCha20Poly1305::new_from_slice(key)
                    .unwrap()
                    .encrypt(GenericArray::from_slice(nonce), payload)
                    .unwrap()
            }
            (Encryption::AesCcm, 16, 8) => in_aead::<ccm::Ccm<Aes128, U8, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 24, 8) => in_aead::<ccm::Ccm<Aes192, U8, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 32, 8) => in_aead::<ccm::Ccm<Aes256, U8, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 16, 12) => in_aead::<ccm::Ccm<Aes128, U12, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 24, 12) => in_aead::<ccm::Ccm<Aes192, U12, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 32, 12) => in_aead::<ccm::Ccm<Aes256, U12, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 16, 16) => in_aead::<ccm::Ccm<Aes128, U16, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 24, 16) => in_aead::<ccm::Ccm<Aes192, U16, U11>>(key, nonce, aad, message),
            (Encryption::AesCcm, 32, 16) => in_aead::<ccm::Ccm<Aes256, U16, U11>>(key, nonce, aad, message),
            // GCM's shorter ICVs are its tag, cut (RFC 4106 section 6); those of CCM are not.
            (_, 16, _) => self.cut(in_aead::<aes_gcm::AesGcm<Aes128, U12>>(key, nonce, aad, message)),
            (_, 24, _) => self.cut(in_aead::<aes_gcm::AesGcm<Aes192, U12>>(key, nonce, aad, message)),
            _ => self.cut(in_aead::<aes_gcm::AesGcm<Aes256, U12>>(key, nonce, aad, message)),
        }
    }

    fn cut(&self, mut sealed: Vec<u8>) -> Vec<u8> {
        sealed.truncate(sealed.len() - 16 + self.icv_len);
        sealed
    }
}

fn in_cbc<C: BlockEncryptMut + aes::cipher::BlockCipher + KeyInit>(key: &[u8], iv: &[u8], message: &[u8]) -> Vec<u8> {
    let cipher = C::new_from_slice(key).unwrap();
    let cbc = <cbc::Encryptor<C> as aes::cipher::InnerIvInit>::inner_iv_slice_init(cipher, iv).unwrap();
    cbc.encrypt_padded_vec_mut::<NoPadding>(message)
}

fn mac_of<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as Mac>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn in_aead<A: AeadInPlace + KeyInit>(key: &[u8], nonce: &[u8], aad: &[u8], message: &[u8]) -> Vec<u8> {
    let mut out = message.to_vec();
    A::new_from_slice(key).unwrap().encrypt_in_place(GenericArray::from_slice(nonce), aad, &mut out).unwrap();
    out
}

/// RFC 3566 section 4, over the aes crate.
fn xcbc(key: &[u8], message: &[u8]) -> Vec<u8> {
    let derived = |octet: u8| {
        let mut block = GenericArray::from([octet; 16]);
        Aes128::new_from_slice(key).unwrap().encrypt_block(&mut block);
        block
    };
    let aes = Aes128::new(&derived(1));
    let blocks = message.len().div_ceil(16).max(1);
    let mut mac = GenericArray::from([0; 16]);
    for i in 0..blocks {
        let chunk = &message[16 * i..message.len().min(16 * i + 16)];
        chunk.iter().zip(mac.iter_mut()).for_each(|(octet, mac)| *mac ^= octet);
        if i + 1 == blocks {
            if chunk.len() < 16 {
                mac[chunk.len()] ^= 0x80;
            }
            let subkey = derived(if chunk.len() == 16 { 2 } else { 3 });
            subkey.iter().zip(mac.iter_mut()).for_each(|(octet, mac)| *mac ^= octet);
        }
        aes.encrypt_block(&mut mac);
    }
    mac.to_vec()
}
