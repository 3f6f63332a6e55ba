//! Whole ESP packets that documents print, sealed and opened.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod support;

use ebpf_esp::crypto::suite::{Error, Opened};
use ebpf_esp::crypto::transform::{Authentication, Direction, Encryption};
use support::hex;
use support::known::{self, Case};
use support::sa::{ANY_AUTH, NO_AUTH, Sa, known_answer};

/// ESP-FMT-01, ALG-20: the transport-mode and the tunnel-mode packet of RFC 3602 section 4, cases 5 and 7, which have no
/// ICV: IV and ciphertext.
#[test]
fn alg_20_aes_cbc_packets_of_rfc3602_4() {
    let key = hex("90d382b410eeba7ad938c46cec1a82bf");
    let iv = hex("e96e8c08ab465763fd098d45dd3ff893");
    let payload = hex("
        08000ebd a70a0000 8e9c083d b95b0700 08090a0b 0c0d0e0f 10111213 14151617
        18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637");
    let cipher = hex("
        f663c25d 325c18c6 a9453e19 4e120849 a4870b66 cc6b9965 330013b4 898dc856
        a4699e52 3a55db08 0b59ec3a 8e4b7e52 775b07d1 db34ed9c 538ab50c 551b874a
        a269add0 47ad2d59 13ac19b7 cfbad4a6");
    cbc_packet(0x4321, 1, &key, &iv, &payload, 1, &cipher);
    let key = hex("0123456789abcdef0123456789abcdef");
    let iv = hex("f4e765244f6407adf13dc1380f673f37");
    let payload = hex("
        45000054 09040000 4001f988 c0a87b03 c0a87bc8 08009f76 a90a0100 b49c083d
        02a20400 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f 20212223
        24252627 28292a2b 2c2d2e2f 30313233 34353637");
    let cipher = hex("
        773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1 a0cf70f8
        e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5
        c177f132 ad3fbfb2 201ac990 4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d");
    cbc_packet(0x8765, 2, &key, &iv, &payload, 4, &cipher);
}

fn cbc_packet(spi: u32, seq: u64, key: &[u8], iv: &[u8], payload: &[u8], next_header: u8, cipher: &[u8]) {
    let end = |direction| Sa::new(direction, (Encryption::AesCbc, key), &[], ANY_AUTH).with_spi(spi, false);
    let mut packet = end(Direction::Encrypt).seal(payload, seq, iv, next_header);
    let expected = [&spi.to_be_bytes()[..], &(seq as u32).to_be_bytes(), iv, cipher].concat();
    assert_eq!(packet[..packet.len() - 12], expected);
    let opened = end(Direction::Decrypt).suite().open(&mut packet, 0).unwrap();
    assert_eq!(opened, Opened { payload: 24..24 + payload.len(), next_header });
    assert_eq!(packet[opened.payload], *payload);
}

fn packets(encryption: Encryption, cases: &[Case]) {
    for case in cases {
        let (message, expected) = (hex(case.message), hex(case.packet));
        let [pad_len, next_header] = *message.last_chunk().unwrap();
        let payload = &message[..message.len() - 2 - usize::from(pad_len)];
        let [spi, seq] = support::words::<2>(&expected[..8]).map(u32::from_be);
        let iv = &expected[8..16];
        let end = |direction| {
            Sa::new(direction, (encryption, &hex(case.key)), &hex(case.salt), NO_AUTH).with_spi(spi, case.esn)
        };
        let seq = u64::from(case.seq_high) << 32 | u64::from(seq);
        assert_eq!(end(Direction::Encrypt).seal(payload, seq, iv, next_header), expected);
        let mut packet = expected.clone();
        let opened = end(Direction::Decrypt).suite().open(&mut packet, case.seq_high).unwrap();
        assert_eq!(opened, Opened { payload: 16..16 + payload.len(), next_header });
        assert_eq!(packet[opened.payload], *payload);
        if case.esn {
            packet = expected.clone();
            let other = end(Direction::Decrypt).suite().open(&mut packet, case.seq_high ^ 1);
            assert_eq!(other, Err(Error::Icv));
            assert_eq!(packet, expected);
        }
    }
}

/// ALG-22, ESP-FMT-06: packets of draft-mcgrew-gcm-test-01 section 4, with keys of all lengths, with and without ESN.
#[test]
fn alg_22_aes_gcm_packets_of_draft_mcgrew_gcm_test() {
    packets(Encryption::AesGcm, &known::aes_gcm_packets_of_draft_mcgrew_gcm_test());
}

/// ALG-24: the packet with which the Linux kernel tests its rfc4543(gcm(aes)).
#[test]
fn alg_24_aes_gmac_packet_of_the_linux_kernel() {
    packets(Encryption::AesGmac, &[known::aes_gmac_packet_of_the_linux_kernel()]);
}

/// ESP-FMT-13, ALG-01: neither an AEAD with an authenticator beside it nor a cipher without one.
#[test]
fn alg_01_unauthenticated_encryption_is_no_sa() {
    let mut packet = [0; 200];
    for (encryption, key_len, authentication) in [
        (Encryption::AesCbc, 16, Authentication::None),
        (Encryption::AesCtr, 16, Authentication::None),
        (Encryption::Null, 0, Authentication::None),
        (Encryption::AesGcm, 16, Authentication::HmacSha1),
        (Encryption::AesCcm, 16, Authentication::HmacSha256),
    ] {
        let auth_key = vec![2; authentication.key_len()];
        let key = vec![1; key_len];
        let sa = Sa::new(Direction::Encrypt, (encryption, &key), &[3; 4], (authentication, &auth_key));
        let iv = vec![0; encryption.iv_len() as usize];
        assert_eq!(sa.suite().seal(&mut packet, 10, 1, &iv, 4), Err(Error::Suite));
        assert_eq!(sa.suite().open(&mut packet, 0), Err(Error::Suite));
    }
    let odd = Sa::new(Direction::Encrypt, (Encryption::AesGcm, &[1; 16]), &[3; 4], NO_AUTH).with_icv_len(10);
    assert_eq!(odd.suite().open(&mut packet, 0), Err(Error::Suite));
}

/// ESP-IN-11, ESP-IN-12, ESP-FMT-07: what is authentic and still no packet.
#[test]
fn esp_in_11_and_12_malformed_messages_are_refused() {
    let keys = (Encryption::AesCbc, &[1; 16][..]);
    let (out, inbound) =
        (Sa::new(Direction::Encrypt, keys, &[], ANY_AUTH), Sa::new(Direction::Decrypt, keys, &[], ANY_AUTH));
    let open = |message: &[u8]| {
        let mut packet = [&[0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1][..], &[9; 16], message, &[0; 12]].concat();
        if message.len().is_multiple_of(16) {
            out.suite().protect(&mut packet, 0).unwrap();
        }
        inbound.suite().open(&mut packet, 0)
    };
    let message = |end: &[u8]| [vec![0x77; 32 - end.len()], end.to_vec()].concat();
    assert_eq!(open(&message(&[0, 6])), Ok(Opened { payload: 24..54, next_header: 6 }));
    assert_eq!(open(&message(&[1, 2, 2, 6])), Ok(Opened { payload: 24..52, next_header: 6 }));
    let counting: Vec<u8> = (1..=30).chain([30, 6]).collect();
    assert_eq!(open(&counting), Ok(Opened { payload: 24..24, next_header: 6 }));
    assert_eq!(open(&message(&[1, 3, 2, 6])), Err(Error::Padding));
    assert_eq!(open(&message(&[0, 2, 2, 6])), Err(Error::Padding));
    assert_eq!(open(&message(&[31, 6])), Err(Error::Padding));
    assert_eq!(open(&message(&[255, 6])), Err(Error::Padding));
    assert_eq!(open(&[0; 17]), Err(Error::Blocks));
    assert_eq!(open(&[0; 28]), Err(Error::Blocks));
    assert_eq!(open(&[]), Err(Error::Bounds));
    for len in 0..38 {
        assert_eq!(inbound.suite().open(&mut vec![0; len], 0), Err(Error::Bounds), "{len} octets");
    }
}

/// ESP-FMT-11: IVs of CBC are numbers enciphered, those of counter modes the numbers themselves.
#[test]
fn esp_fmt_11_ivs() {
    let number = 0x0102_0304_0506_0708;
    let octets = [1, 2, 3, 4, 5, 6, 7, 8];
    for encryption in [Encryption::AesCtr, Encryption::AesCcm, Encryption::AesGcm, Encryption::AesGmac] {
        let auth = if encryption.is_aead() { NO_AUTH } else { ANY_AUTH };
        let sa = Sa::new(Direction::Encrypt, (encryption, &[7; 16]), &[3; 4], auth);
        assert_eq!(sa.suite().iv(number).unwrap().as_ref(), octets);
    }
    let null = Sa::new(Direction::Encrypt, (Encryption::Null, &[]), &[], ANY_AUTH);
    assert_eq!(null.suite().iv(number).unwrap().as_ref(), [0u8; 0]);
    let mut block = [0; 16];
    block[8..].copy_from_slice(&octets);
    for (encryption, key_len, block) in [
        (Encryption::AesCbc, 32, &block[..]),
        (Encryption::DesCbc, 8, &octets),
        (Encryption::TripleDesCbc, 24, &octets),
        (Encryption::BlowfishCbc, 16, &octets),
    ] {
        let key: Vec<u8> = (1..=key_len).collect();
        let iv = Sa::new(Direction::Encrypt, (encryption, &key), &[], ANY_AUTH).suite().iv(number).unwrap();
        // One block of CBC behind an IV of zeros is the bare cipher.
        known_answer((encryption, &key), &[], &vec![0; block.len()], block, iv.as_ref());
    }
}
