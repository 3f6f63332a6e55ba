//! SAs of any transforms, made as user space makes them, for the tests of whole packets.

use ebpf_esp::crypto::blowfish;
use ebpf_esp::crypto::ccm::salt_word;
use ebpf_esp::crypto::ghash;
use ebpf_esp::crypto::material::{Apart, KeyArea, apart};
use ebpf_esp::crypto::permutation::Permutation;
use ebpf_esp::crypto::suite::Suite;
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};

/// The encryption that lacks an authenticator gets this one where a test does not care.
pub const ANY_AUTH: (Authentication, &[u8]) = (Authentication::HmacSha1, &[0x55; 20]);

/// No authenticator of its own.
pub const NO_AUTH: (Authentication, &[u8]) = (Authentication::None, &[]);

/// One end of an SA with everything it keeps.
pub struct Sa {
    encryption: Encryption,
    authentication: Authentication,
    icv_len: u32,
    keys: Box<KeyArea>,
    salt: u32,
    table: Box<ghash::Table>,
    blowfish: Box<blowfish::State>,
    pub spi: u32,
    pub esn: bool,
}

impl Sa {
    /// `key` without salt; `salt` may be longer than needed. An ICV of 16 with an AEAD.
    pub fn new(
        direction: Direction,
        (encryption, key): (Encryption, &[u8]),
        salt: &[u8],
        (authentication, auth_key): (Authentication, &[u8]),
    ) -> Self {
        let mut keys = Box::new(KeyArea::ZERO);
        keys.install(direction, (encryption, key), (authentication, auth_key)).unwrap();
        let mut table = Box::new([0; ghash::TABLE_WORDS]);
        let mut state = Box::new([0; blowfish::STATE_WORDS]);
        match apart(encryption) {
            Apart::Nothing => {}
            Apart::Ghash => {
                let (schedule, rounds) = keys.aes();
                ghash::fill_table(&mut table, &ebpf_esp::crypto::aead::hash_key(schedule, rounds));
            }
            Apart::Blowfish => blowfish::expand_key(key, direction, &mut state).unwrap(),
        }
        let salt = match encryption.salt_len() {
            0 => 0,
            3 => salt_word(salt[..3].try_into().unwrap()),
            _ => u32::from_ne_bytes(salt[..4].try_into().unwrap()),
        };
        let icv_len = if encryption.is_aead() { 16 } else { authentication.icv_len() };
        Self { encryption, authentication, icv_len, keys, salt, table, blowfish: state, spi: 0x1234_5678, esn: false }
    }

    pub fn with_icv_len(mut self, icv_len: u32) -> Self {
        self.icv_len = icv_len;
        self
    }

    pub fn with_spi(mut self, spi: u32, esn: bool) -> Self {
        (self.spi, self.esn) = (spi, esn);
        self
    }

    pub fn suite(&self) -> Suite<'_> {
        Suite {
            encryption: self.encryption,
            authentication: self.authentication,
            icv_len: self.icv_len,
            keys: &self.keys,
            salt: self.salt,
            table: Some(&self.table),
            blowfish: Some(&self.blowfish),
            spi: self.spi,
            esn: self.esn,
        }
    }

    /// A sealed packet.
    pub fn seal(&self, payload: &[u8], seq: u64, iv: &[u8], next_header: u8) -> Vec<u8> {
        let suite = self.suite();
        let mut packet = vec![0xa5; suite.front()];
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + suite.back(payload.len()), 0xa5);
        let len = suite.seal(&mut packet, payload.len(), seq, iv, next_header).unwrap();
        assert_eq!(len, packet.len());
        packet
    }
}

/// A message without trailer, enciphered or deciphered by a packet's encryption alone.
pub fn message(
    direction: Direction,
    (encryption, key): (Encryption, &[u8]),
    salt: &[u8],
    iv: &[u8],
    text: &[u8],
) -> Vec<u8> {
    // An end that deciphers needs an ICV that matches: it is made over the ciphertext, by an SA that enciphers nothing.
    let sa = Sa::new(direction, (encryption, key), salt, ANY_AUTH);
    let front = 8 + iv.len();
    let mut packet = [&0x1234_5678_u32.to_be_bytes()[..], &[0; 4], iv, text, &[0; 12]].concat();
    match direction {
        Direction::Encrypt => sa.suite().protect(&mut packet, 0).unwrap(),
        Direction::Decrypt => {
            Sa::new(direction, (Encryption::Null, &[]), &[], ANY_AUTH).suite().protect(&mut packet, 0).unwrap();
            sa.suite().unprotect(&mut packet, 0).unwrap();
        }
    }
    packet[front..front + text.len()].to_vec()
}

/// Asserts that a key and IV turn `plain` into `cipher`, and back.
pub fn known_answer(cipher: (Encryption, &[u8]), salt: &[u8], iv: &[u8], plain: &[u8], expected: &[u8]) {
    assert_eq!(message(Direction::Encrypt, cipher, salt, iv, plain), expected, "{:?}", cipher.0);
    assert_eq!(message(Direction::Decrypt, cipher, salt, iv, expected), plain, "{:?}", cipher.0);
}

/// One block through one direction of a cipher.
pub fn block<const WORDS: usize>(cipher: &impl Permutation<WORDS>, octets: &[u8]) -> Vec<u8> {
    cipher.apply(super::words(octets)).map(u32::to_ne_bytes).concat()
}
