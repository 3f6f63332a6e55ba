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

/// An AEAD packet: key, salt, whether ESN, high half of the sequence number, payload with trailer, packet.
struct Case {
    key: &'static str,
    salt: &'static str,
    esn: bool,
    seq_high: u32,
    message: &'static str,
    packet: &'static str,
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
    packets(
        Encryption::AesGcm,
        &[
            Case {
                key: "4c80cdefbb5d10da906ac73c3613a634",
                salt: "2e443b68",
                esn: true,
                seq_high: 0x8765_4321,
                message: "
                    45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
                    00000000045f736970045f756470037369700963796265726369747902646b00
                    0021000101020201",
                packet: "
                    00004321000000004956ed7e3b244cfe
                    fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
                    cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
                    61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
            },
            Case {
                key: "feffe9928665731c6d6a8f9467308308",
                salt: "cafebabe",
                esn: false,
                seq_high: 0,
                message: "
                    4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100
                    00010000000000000373697009637962 65726369747902646b00000100010001",
                packet: "
                    0000a5f80000000afacedbaddecaf888
                    deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c
                    3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1
                    83b70d3aa8bc6ee4c309e9d85a41ad4a",
            },
            Case {
                key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
                salt: "11223344",
                esn: false,
                seq_high: 0,
                message: "
                    4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
                    7002400020bf0000020405b40101040201020201",
                packet: "
                    4a2cbfe3000000020102030405060708
                    ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
                    748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49
                    15956c96",
            },
            Case {
                key: "feffe9928665731c6d6a8f9467308308feffe9928665731c",
                salt: "cafebabe",
                esn: false,
                seq_high: 0,
                message: "
                    45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e
                    501016d075680001",
                packet: "
                    0000a5f80000000afacedbaddecaf888
                    a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0
                    315b27452144cc7795457b9652037f5318027b5b4cd7a636",
            },
            Case {
                key: "abbccddef00112233445566778899aab",
                salt: "decaf888",
                esn: true,
                seq_high: 0,
                message: "
                    4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d5
                    00004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec95
                    9b6266c04722b14923010101",
                packet: "
                    0000010000000001cafedebaceface74
                    18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f
                    9190feebaf2cb01984e65863965d7472b79da345e0e780191f0d2f0e0f496c22
                    6f2127b27db35724e7845d68651f57e65f354f75ff17015769623436",
            },
            Case {
                key: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961",
                salt: "7475726e",
                esn: true,
                seq_high: 0xffff_ffff,
                message: "
                    45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364
                    65666768696a6b6c6d6e6f707172737401020201",
                packet: "
                    796b6963ffffffff333021696765746d
                    f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a86
                    4cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937ba2945f669368661a32
                    9fb4c053",
            },
        ],
    );
}

/// ALG-24: the packet with which the Linux kernel tests its rfc4543(gcm(aes)).
#[test]
fn alg_24_aes_gmac_packet_of_the_linux_kernel() {
    packets(
        Encryption::AesGmac,
        &[Case {
            key: "4c80cdefbb5d10da906ac73c3613a634",
            salt: "22433c64",
            esn: false,
            seq_high: 0,
            message: "
                45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364
                65666768696a6b6c6d6e6f707172737401020201",
            packet: "
                00004321000000070000000000000000
                45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364
                65666768696a6b6c6d6e6f707172737401020201
                f2a9a836e155106aa8dcd618e4099aaa",
        }],
    );
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
