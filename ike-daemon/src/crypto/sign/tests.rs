//! Keys in every form, signatures in every algorithm, and what has to be refused.

use super::*;

const PKCS8_RSA: &[u8] = include_bytes!("../../../testdata/rsa2048.pem");
const PKCS1_RSA: &[u8] = include_bytes!("../../../testdata/rsa2048-pkcs1.pem");
const RSA_1024: &[u8] = include_bytes!("../../../testdata/rsa1024.pem");
const P256: &[u8] = include_bytes!("../../../testdata/p256.pem");
const P384: &[u8] = include_bytes!("../../../testdata/p384-sec1.pem");
const P521: &[u8] = include_bytes!("../../../testdata/p521.pem");
const ED25519: &[u8] = include_bytes!("../../../testdata/ed25519.pem");

fn keys() -> Vec<PrivateKey> {
    [PKCS8_RSA, P256, P384, P521, ED25519].map(|pem| PrivateKey::read(pem).unwrap()).into()
}

/// SIG-02, SIG-04, SIG-05, V2-AUTH-20: what is signed verifies in both forms, and nothing else does.
#[test]
fn sig_04_every_scheme_signs_and_verifies() {
    let keys = keys();
    let mut count = 0;
    for key in &keys {
        for scheme in key.schemes().iter().copied() {
            for form in [EcdsaForm::Der, EcdsaForm::Fixed] {
                count += 1;
                let signature = key.sign(scheme, form, b"message").unwrap();
                let public = key.public();
                assert!(public.can(scheme));
                public.verify_as(scheme, form, b"message", &signature).unwrap();
                assert_eq!(public.verify_as(scheme, form, b"massage", &signature), Err(BadSignature));
                for at in [0, signature.len() / 2, signature.len() - 1] {
                    let mut bad = signature.clone();
                    bad[at] ^= 1;
                    assert!(public.verify_as(scheme, form, b"message", &bad).is_err(), "{scheme} at {at}");
                }
                // CRT-09: of another length, empty, of zeros, of ones.
                let mut longer = signature.clone();
                longer.push(0);
                let shorter = signature[..signature.len() - 1].to_vec();
                for bad in [longer, shorter, Vec::new(), vec![0; signature.len()], vec![0xff; signature.len()]] {
                    assert!(public.verify_as(scheme, form, b"message", &bad).is_err(), "{scheme}");
                }
                for other in keys.iter().filter(|other| other.public() != public) {
                    assert!(other.public().verify_as(scheme, form, b"message", &signature).is_err());
                }
            }
            // The name says which algorithm it was (SIG-03).
            let name = scheme.to_der().unwrap();
            let mut behind = name.clone();
            behind.extend_from_slice(b"signature");
            assert_eq!(Scheme::split_der(&behind), Ok((scheme, name.len())));
        }
    }
    assert_eq!(count, 2 * (6 + 1 + 1 + 3 + 1));
    // Curve and hash are tied in methods 9 to 11: each fixed signature has twice the octets of the order.
    let fixed = |key: &PrivateKey| key.sign(key.schemes()[0], EcdsaForm::Fixed, b"m").unwrap().len();
    assert_eq!([fixed(&keys[1]), fixed(&keys[2]), fixed(&keys[3])], [64, 96, 132]);
}

/// RFC 7427 appendix A: AlgorithmIdentifiers octet by octet, with and without NULL, and PSS parameters (SIG-05).
#[test]
fn sig_05_algorithm_identifiers() {
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    let rsa256 = hex("300d 0609 2a864886f70d01010b 0500");
    let ecdsa256 = hex("300a 0608 2a8648ce3d040302");
    let pss256 = hex("3041 0609 2a864886f70d01010a 3034 a00f 300d 0609 608648016503040201 0500 \
         a11c 301a 0609 2a864886f70d010108 300d 0609 608648016503040201 0500 a203 020120");
    let of = |octets: &[u8]| Scheme::split_der(octets).map(|(scheme, _)| scheme);
    for (octets, scheme) in [
        (&rsa256, Scheme::RsaPkcs1(HashAlgorithm::Sha256)),
        (&ecdsa256, Scheme::Ecdsa(HashAlgorithm::Sha256)),
        (&pss256, Scheme::RsaPss(HashAlgorithm::Sha256)),
    ] {
        assert_eq!(of(octets), Ok(scheme));
        assert_eq!(&scheme.to_der().unwrap(), octets, "{scheme}");
    }
    assert_eq!(of(&hex("300b 0609 2a864886f70d01010b")), Ok(Scheme::RsaPkcs1(HashAlgorithm::Sha256)));
    assert_eq!(of(&hex("3005 0603 2b6570")), Ok(Scheme::Ed25519));
    for bad in [
        // PSS without parameters, with empty ones (SHA-1), with MGF1 without its hash, with another hash in MGF1, with
        // an absurd salt, with another trailer.
        "300b 0609 2a864886f70d01010a",
        "300d 0609 2a864886f70d01010a 3000",
        "3032 0609 2a864886f70d01010a 3025 a00f 300d 0609 608648016503040201 0500 a10d 300b 0609 2a864886f70d010108 a203 020120",
        "3041 0609 2a864886f70d01010a 3034 a00f 300d 0609 608648016503040201 0500 a11c 301a 0609 2a864886f70d010108 300d 0609 608648016503040202 0500 a203 020120",
        "3043 0609 2a864886f70d01010a 3036 a00f 300d 0609 608648016503040201 0500 a11c 301a 0609 2a864886f70d010108 300d 0609 608648016503040201 0500 a205 02037fffff",
        "3046 0609 2a864886f70d01010a 3039 a00f 300d 0609 608648016503040201 0500 a11c 301a 0609 2a864886f70d010108 300d 0609 608648016503040201 0500 a203 020120 a303 020102",
        // ECDSA and Ed25519 with NULL, another algorithm, nothing.
        "300c 0608 2a8648ce3d040302 0500",
        "3007 0603 2b6570 0500",
        "300d 0609 2a864886f70d010104 0500",
        "3000",
        "",
    ] {
        assert!(of(&hex(bad)).is_err(), "{bad}");
    }
}

/// One key is the same in PKCS#8 and PKCS#1; weak, encrypted and foreign ones are refused by name (CRT-08).
#[test]
fn crt_08_private_keys() {
    let (one, other) = (PrivateKey::read(PKCS8_RSA).unwrap(), PrivateKey::read(PKCS1_RSA).unwrap());
    assert_eq!(one.public(), other.public());
    assert_eq!(one.public().to_string(), "RSA-2048");
    assert_eq!(PrivateKey::read(P384).unwrap().public().to_string(), "ECDSA P-384");
    // DER is taken as well as PEM.
    let (_, der) = der::pem::decode_vec(P521).unwrap();
    assert_eq!(PrivateKey::read(&der).unwrap().public(), PrivateKey::read(P521).unwrap().public());
    assert!(matches!(PrivateKey::read(RSA_1024), Err(KeyError::Refused(_))));
    assert!(matches!(
        PrivateKey::read(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        Err(KeyError::Encrypted)
    ));
    assert!(matches!(
        PrivateKey::read(b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
        Err(KeyError::Encrypted)
    ));
    for bad in [&b""[..], b"hello", b"\x30\x03\x02\x01\x00", &PKCS8_RSA[..400]] {
        assert!(matches!(PrivateKey::read(bad), Err(KeyError::Malformed)), "{bad:?}");
    }
    // ROB-12
    assert_eq!(format!("{one:?}"), "PrivateKey(RSA-2048)");
}

/// CRT-08: RSA keys with impossible numbers, and points that are none.
#[test]
fn crt_08_public_keys() {
    use der::Encode;
    use der::asn1::UintRef;
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let body =
            [UintRef::new(modulus).unwrap().to_der().unwrap(), UintRef::new(exponent).unwrap().to_der().unwrap()];
        let body = body.concat();
        let mut out =
            der::Header::new(der::Tag::Sequence, der::Length::try_from(body.len()).unwrap()).to_der().unwrap();
        out.extend(body);
        PublicKey::rsa(&out)
    };
    let odd = [&[0xc1; 255][..], &[1]].concat();
    assert!(rsa(&odd, &[1, 0, 1]).is_ok());
    assert!(matches!(rsa(&[0xc1; 128], &[1, 0, 1]), Err(PublicKeyError::RsaBits(1024))));
    assert!(matches!(rsa(&[0xc1; 2000], &[1, 0, 1]), Err(PublicKeyError::RsaBits(16000))));
    assert!(rsa(&[0xc2; 256], &[1, 0, 1]).is_err(), "an even modulus");
    for exponent in [&[0][..], &[1], &[2], &[1, 0, 0, 0, 1]] {
        assert_eq!(rsa(&odd, exponent), Err(PublicKeyError::RsaNumbers), "{exponent:?}");
    }
    let point = [&[4][..], &[7; 64]].concat();
    assert_eq!(PublicKey::point(public::P256, &point), Err(PublicKeyError::Malformed));
    assert_eq!(PublicKey::point(public::P256, &[0]), Err(PublicKeyError::Malformed));
}
