//! Known answers of the RFCs and of the GCM specification for whole messages: the host tests and those in the kernel
//! read the same list.

use super::hex;

/// The AEADs of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aead {
    ChaCha20Poly1305,
    AesGcm,
}

/// A message and what it is sealed to.
pub struct Vector {
    pub name: &'static str,
    pub aead: Aead,
    pub key: Vec<u8>,
    /// 96 bits: salt and explicit IV in ESP.
    pub nonce: Vec<u8>,
    pub aad: Vec<u8>,
    /// The whole plaintext, with the ESP trailer where there is one.
    pub plain: Vec<u8>,
    /// Octets of `plain` before the trailer of RFC 4303 section 2.4, for a message that is an ESP payload.
    pub payload: Option<usize>,
    /// Ciphertext and ICV.
    pub sealed: Vec<u8>,
}

/// All of them.
pub fn all() -> Vec<Vector> {
    let mut all = vec![rfc8439_2_8_2(), rfc7634_appendix_a(), draft_mcgrew_gcm_test()];
    all.extend(aes_128_cases());
    all.extend(aes_192_cases());
    all.extend(aes_256_cases());
    all
}

pub fn rfc8439_2_8_2() -> Vector {
    Vector {
        name: "RFC 8439 section 2.8.2",
        aead: Aead::ChaCha20Poly1305,
        key: hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
        nonce: hex("070000004041424344454647"),
        aad: hex("50515253c0c1c2c3c4c5c6c7"),
        plain:
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen \
            would be it."
                .to_vec(),
        payload: None,
        sealed: hex("
            d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e06
            0b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d265
            86cec64b6116 1ae10b594f09e26a7e902ecbd0600691"),
    }
}

/// The whole ESP packet: SPI 0x01020304, sequence number 5, 32-bit.
pub fn rfc7634_appendix_a() -> Vector {
    Vector {
        name: "RFC 7634 appendix A",
        aead: Aead::ChaCha20Poly1305,
        key: hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
        nonce: hex("a0a1a2a3 1011121314151617"),
        aad: hex("01020304 00000005"),
        plain: hex("
            45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
            0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
            2425262728292a2b2c2d2e2f3031323334353637 01020204"),
        payload: Some(84),
        sealed: hex("
            24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
            14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
            cbec163fac469b502773f6fb94e664da9165b82829f641e0
            76aaa8266b7fb0f7b11b369907e1ad43"),
    }
}

/// An ESP packet with extended sequence number: SPI 0x4321, sequence number 0x87654321_00000000.
pub fn draft_mcgrew_gcm_test() -> Vector {
    Vector {
        name: "draft-mcgrew-gcm-test-01",
        aead: Aead::AesGcm,
        key: hex("4c80cdefbb5d10da906ac73c3613a634"),
        nonce: hex("2e443b68 4956ed7e3b244cfe"),
        aad: hex("000043218765432100000000"),
        plain: hex("
            45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
            00000000045f736970045f756470037369700963796265726369747902646b00
            0021000101020201"),
        payload: Some(68),
        sealed: hex("
            fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
            cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
            61bc17d768fd9732459018148f6cbe722fd04796562dfdb4"),
    }
}

const GCM_KEY: &str = "feffe9928665731c6d6a8f9467308308";
const GCM_PLAIN: &str = "
    d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
const GCM_AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const GCM_NONCE: &str = "cafebabefacedbaddecaf888";

/// One length of key of the GCM specification's appendix B: nothing, a zero block, four blocks, and those cut to 60
/// octets with additional data.
fn specification(names: [&'static str; 4], key_len: usize, tags: [&str; 4], zero: &str, blocks: &str) -> [Vector; 4] {
    let key = [hex(GCM_KEY), hex(GCM_KEY)].concat()[..key_len].to_vec();
    let (plain, nonce) = (hex(GCM_PLAIN), hex(GCM_NONCE));
    let cases = [
        (vec![0; key_len], vec![0; 12], vec![], vec![], vec![]),
        (vec![0; key_len], vec![0; 12], vec![], vec![0; 16], hex(zero)),
        (key.clone(), nonce.clone(), vec![], plain.clone(), hex(blocks)),
        (key, nonce, hex(GCM_AAD), plain[..60].to_vec(), hex(blocks)[..60].to_vec()),
    ];
    let mut named = names.into_iter().zip(tags);
    cases.map(|(key, nonce, aad, plain, cipher)| {
        let (name, tag) = named.next().unwrap();
        let sealed = [cipher, hex(tag)].concat();
        Vector { name, aead: Aead::AesGcm, key, nonce, aad, plain, payload: None, sealed }
    })
}

pub fn aes_128_cases() -> [Vector; 4] {
    specification(
        ["GCM case 1", "GCM case 2", "GCM case 3", "GCM case 4"],
        16,
        [
            "58e2fccefa7e3061367f1d57a4e7455a",
            "ab6e47d42cec13bdf53a67b21257bddf",
            "4d5c2af327cd64a62cf35abd2ba6fab4",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ],
        "0388dace60b6a392f328c2b971b2fe78",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
         21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
    )
}

pub fn aes_192_cases() -> [Vector; 4] {
    specification(
        ["GCM case 7", "GCM case 8", "GCM case 9", "GCM case 10"],
        24,
        [
            "cd33b28ac773f74ba00ed1f312572435",
            "2ff58d80033927ab8ef4d4587514f0fb",
            "9924a7c8587336bfb118024db8674a14",
            "2519498e80f1478f37ba55bd6d27618c",
        ],
        "98e7247c07f0fe411c267e4384b0f600",
        "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c
         7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710acade256",
    )
}

pub fn aes_256_cases() -> [Vector; 4] {
    specification(
        ["GCM case 13", "GCM case 14", "GCM case 15", "GCM case 16"],
        32,
        [
            "530f8afbc74536b9a963b4f1c4cb738b",
            "d0d1c8a799996bf0265b98b5d48ab919",
            "b094dac5d93471bdec1a502270e3cc6c",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ],
        "cea7403d4d606b6e074ec5d3baf39d18",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
    )
}
