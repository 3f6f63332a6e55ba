//! Known answers of ciphers, authenticators and packets: the host tests and those in the kernel read the same lists.

use super::hex;
use ebpf_esp::crypto::transform::{Authentication, Encryption};

/// A message through a cipher alone.
pub struct Message {
    pub source: &'static str,
    pub encryption: Encryption,
    pub key: Vec<u8>,
    pub salt: Vec<u8>,
    pub iv: Vec<u8>,
    pub plain: Vec<u8>,
    pub cipher: Vec<u8>,
}

/// A message and all octets of its HMAC.
pub struct Digest {
    pub authentication: Authentication,
    pub key: Vec<u8>,
    pub message: Vec<u8>,
    pub digest: Vec<u8>,
}

/// An AEAD packet with an ICV of 16 octets, in hexadecimal.
pub struct Case {
    pub key: &'static str,
    pub salt: &'static str,
    pub esn: bool,
    pub seq_high: u32,
    /// Payload with trailer.
    pub message: &'static str,
    pub packet: &'static str,
}

fn counting(from: u8, len: u8) -> Vec<u8> {
    (from..from + len).collect()
}

/// Every message.
pub fn messages() -> Vec<Message> {
    [aes_cbc_of_rfc3602_4(), aes_cbc_of_sp800_38a(), aes_ctr_of_rfc3686_6(), des_of_sp800_17_table_4()]
        .into_iter()
        .chain([triple_des_of_sp800_67_appendix_b(), blowfish_of_eric_young()])
        .flatten()
        .collect()
}

/// ALG-20: RFC 3602 section 4, cases 1 to 4.
pub fn aes_cbc_of_rfc3602_4() -> Vec<Message> {
    let cases = [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg".to_vec(),
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            counting(0, 32),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            "6c3ea0477630ce21a2ce334aa746c2cd",
            "c782dc4c098c66cbd9cd27d825682c81",
            b"This is a 48-byte message (exactly 3 AES blocks)".to_vec(),
            "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5
             021c19216bad525c8579695d83ba2684",
        ),
        (
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            counting(0xa0, 64),
            "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e
             35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
        ),
    ];
    let message = |(key, iv, plain, cipher)| Message {
        source: "RFC 3602 section 4",
        encryption: Encryption::AesCbc,
        key: hex(key),
        salt: vec![],
        iv: hex(iv),
        plain,
        cipher: hex(cipher),
    };
    cases.map(message).into()
}

/// ALG-20: SP 800-38A appendix F.2, all three lengths of key.
pub fn aes_cbc_of_sp800_38a() -> Vec<Message> {
    let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
        30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    let cases = [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a
             571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
    ];
    let message = |(key, cipher)| Message {
        source: "SP 800-38A appendix F.2",
        encryption: Encryption::AesCbc,
        key: hex(key),
        salt: vec![],
        iv: counting(0, 16),
        plain: plain.clone(),
        cipher: hex(cipher),
    };
    cases.map(message).into()
}

/// ALG-21: RFC 3686 section 6, all nine vectors.
pub fn aes_ctr_of_rfc3686_6() -> Vec<Message> {
    let plains = [b"Single block msg".to_vec(), counting(0, 32), counting(0, 36)];
    let cases = [
        ("ae6852f8121067cc4bf7a5765577f39e", "00000030", "0000000000000000", "e4095d4fb7a7b3792d6175a3261311b8"),
        (
            "7e24067817fae0d743d6ce1f32539163",
            "006cb6db",
            "c0543b59da48d90b",
            "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
        ),
        (
            "7691be035e5020a8ac6e618529f9a0dc",
            "00e0017b",
            "27777f3f4a1786f0",
            "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
        ),
        (
            "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515",
            "00000048",
            "36733c147d6d93cb",
            "4b55384fe259c9c84e7935a003cbe928",
        ),
        (
            "7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a",
            "0096b03b",
            "020c6eadc2cb500d",
            "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00",
        ),
        (
            "02bf391ee8ecb159b959617b0965279bf59b60a786d3e0fe",
            "0007bdfd",
            "5cbd60278dcc0912",
            "96893fc55e5c722f540b7dd1ddf7e758d288bc95c69165884536c811662f2188abee0935",
        ),
        (
            "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104",
            "00000060",
            "db5672c97aa8f0b2",
            "145ad01dbf824ec7560863dc71e3e0c0",
        ),
        (
            "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884",
            "00faac24",
            "c1585ef15a43d875",
            "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
        ),
        (
            "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
            "001cc5b7",
            "51a51d70a1c11148",
            "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
        ),
    ];
    let message = |((key, nonce, iv, cipher), plain): ((_, _, _, _), &Vec<u8>)| Message {
        source: "RFC 3686 section 6",
        encryption: Encryption::AesCtr,
        key: hex(key),
        salt: hex(nonce),
        iv: hex(iv),
        plain: plain.clone(),
        cipher: hex(cipher),
    };
    cases.into_iter().zip(plains.iter().cycle()).map(message).collect()
}

/// A single block, which is CBC behind an IV of zeros.
fn block(source: &'static str, encryption: Encryption, [key, plain, cipher]: [&str; 3]) -> Message {
    let [key, plain, cipher] = [key, plain, cipher].map(hex);
    Message { source, encryption, key, salt: vec![], iv: vec![0; 8], plain, cipher }
}

/// The S-box test of SP 800-17 table 4, which meets every entry of every S-box.
pub fn des_of_sp800_17_table_4() -> Vec<Message> {
    [
        ["7ca110454a1a6e57", "01a1d6d039776742", "690f5b0d9a26939b"],
        ["0131d9619dc1376e", "5cd54ca83def57da", "7a389d10354bd271"],
        ["07a1133e4a0b2686", "0248d43806f67172", "868ebb51cab4599a"],
        ["3849674c2602319e", "51454b582ddf440a", "7178876e01f19b2a"],
        ["04b915ba43feb5b6", "42fd443059577fa2", "af37fb421f8c4095"],
        ["0113b970fd34f2ce", "059b5e0851cf143a", "86a560f10ec6d85b"],
        ["0170f175468fb5e6", "0756d8e0774761d2", "0cd3da020021dc09"],
        ["43297fad38e373fe", "762514b829bf486a", "ea676b2cb7db2b7a"],
        ["07a7137045da2a16", "3bdd119049372802", "dfd64a815caf1a0f"],
        ["04689104c2fd3b2f", "26955f6835af609a", "5c513c9c4886c088"],
        ["37d06bb516cb7546", "164d5e404f275232", "0a2aeeae3ff4ab77"],
        ["1f08260d1ac2465e", "6b056e18759f5cca", "ef1bf03e5dfa575a"],
        ["584023641aba6176", "004bd6ef09176062", "88bf0db6d70dee56"],
        ["025816164629b007", "480d39006ee762f2", "a1f9915541020b56"],
        ["49793ebc79b3258f", "437540c8698f3cfa", "6fbf1cafcffd0556"],
        ["4fb05e1515ab73a7", "072d43a077075292", "2f22e49bab7ca1ac"],
        ["49e95d6d4ca229bf", "02fe55778117f12a", "5a6b612cc26cce4a"],
        ["018310dc409b26d6", "1d9d5c5018f728c2", "5f4c038ed12b2e41"],
        ["1c587f1c13924fef", "305532286d6f295a", "63fac0d034d9f793"],
        ["133457799bbcdff1", "0123456789abcdef", "85e813540f0ab405"],
    ]
    .map(|case| block("SP 800-17 table 4", Encryption::DesCbc, case))
    .into()
}

/// SP 800-67 appendix B: three blocks, each alone.
pub fn triple_des_of_sp800_67_appendix_b() -> Vec<Message> {
    let key = "0123456789abcdef 23456789abcdef01 456789abcdef0123";
    let source = "SP 800-67 appendix B";
    let blocks = [
        [key, "5468652071756663", "a826fd8ce53b855f"],
        [key, "6b2062726f776e20", "cce21c8112256fe6"],
        [key, "666f78206a756d70", "68d5c05dd9b6b900"],
    ];
    blocks.map(|case| block(source, Encryption::TripleDesCbc, case)).into()
}

/// Eric Young's set: single blocks under keys of 64 bits, and the message in CBC, zeros behind its end.
pub fn blowfish_of_eric_young() -> Vec<Message> {
    let source = "Eric Young's set";
    let mut all: Vec<_> = [
        ["0000000000000000", "0000000000000000", "4ef997456198dd78"],
        ["ffffffffffffffff", "ffffffffffffffff", "51866fd5b85ecb8a"],
        ["3000000000000000", "1000000000000001", "7d856f9a613063f2"],
        ["1111111111111111", "1111111111111111", "2466dd878b963c9d"],
        ["0123456789abcdef", "1111111111111111", "61f9c3802281b096"],
        ["1111111111111111", "0123456789abcdef", "7d0cc630afda1ec7"],
        ["fedcba9876543210", "0123456789abcdef", "0aceab0fc6a0a28d"],
        ["7ca110454a1a6e57", "01a1d6d039776742", "59c68245eb05282b"],
        ["0131d9619dc1376e", "5cd54ca83def57da", "b1b8cc0b250f09a0"],
        ["07a1133e4a0b2686", "0248d43806f67172", "1730e5778bea1da4"],
        ["3849674c2602319e", "51454b582ddf440a", "a25e7856cf2651eb"],
        ["04b915ba43feb5b6", "42fd443059577fa2", "353882b109ce8f1a"],
        ["0113b970fd34f2ce", "059b5e0851cf143a", "48f4d0884c379918"],
        ["0170f175468fb5e6", "0756d8e0774761d2", "432193b78951fc98"],
        ["43297fad38e373fe", "762514b829bf486a", "13f04154d69d1ae5"],
        ["07a7137045da2a16", "3bdd119049372802", "2eedda93ffd39c79"],
        ["04689104c2fd3b2f", "26955f6835af609a", "d887e0393c2da6e3"],
        ["37d06bb516cb7546", "164d5e404f275232", "5f99d04f5b163969"],
        ["1f08260d1ac2465e", "6b056e18759f5cca", "4a057a3b24d3977b"],
        ["584023641aba6176", "004bd6ef09176062", "452031c1e4fada8e"],
        ["025816164629b007", "480d39006ee762f2", "7555ae39f59b87bd"],
        ["49793ebc79b3258f", "437540c8698f3cfa", "53c55f9cb49fc019"],
        ["4fb05e1515ab73a7", "072d43a077075292", "7a8e7bfa937e89a3"],
        ["49e95d6d4ca229bf", "02fe55778117f12a", "cf9c5d7a4986adb5"],
        ["018310dc409b26d6", "1d9d5c5018f728c2", "d1abb290658bc778"],
        ["1c587f1c13924fef", "305532286d6f295a", "55cb3774d13ef201"],
        ["0101010101010101", "0123456789abcdef", "fa34ec4847b268b2"],
        ["1f1f1f1f0e0e0e0e", "0123456789abcdef", "a790795108ea3cae"],
        ["e0fee0fef1fef1fe", "0123456789abcdef", "c39e072d9fac631d"],
        ["0000000000000000", "ffffffffffffffff", "014933e0cdaff6e4"],
        ["ffffffffffffffff", "0000000000000000", "f21e9a77b71c49bc"],
        ["0123456789abcdef", "0000000000000000", "245946885754369a"],
        ["fedcba9876543210", "ffffffffffffffff", "6b5c5a9c5d9e0a5a"],
    ]
    .map(|case| block(source, Encryption::BlowfishCbc, case))
    .into();
    all.push(Message {
        source,
        encryption: Encryption::BlowfishCbc,
        key: hex("0123456789abcdeff0e1d2c3b4a59687"),
        salt: vec![],
        iv: hex("fedcba9876543210"),
        plain: b"7654321 Now is the time for \0\0\0\0".to_vec(),
        cipher: hex("6b77b4d63006dee605b156e27403979358deb9e7154616d959f1652bd5ff92cc"),
    });
    all
}

const LONG_KEY: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
const LONG_BOTH: &[u8] = b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data";

/// RFC 2202, all cases; few of their keys are as long as those of ESP.
pub fn digests_of_rfc2202() -> Vec<Digest> {
    let counting: Vec<u8> = (1..=25).collect();
    let jefe = b"what do ya want for nothing?";
    let long = &[0xaa; 80][..];
    let digest = |authentication| {
        move |(key, message, digest): (&[u8], &[u8], &str)| Digest {
            authentication,
            key: key.to_vec(),
            message: message.to_vec(),
            digest: hex(digest),
        }
    };
    let md5 = [
        (&[0x0b; 16][..], &b"Hi There"[..], "9294727a3638bb1c13f48ef8158bfc9d"),
        (b"Jefe", jefe, "750c783e6ab0b503eaa86e310a5db738"),
        (&[0xaa; 16], &[0xdd; 50], "56be34521d144c88dbb8c733f0e8b3f6"),
        (&counting, &[0xcd; 50], "697eaf0aca3a3aea3a75164746ffaa79"),
        (&[0x0c; 16], b"Test With Truncation", "56461ef2342edc00f9bab995690efd4c"),
        (long, LONG_KEY, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"),
        (long, LONG_BOTH, "6f630fad67cda0ee1fb1f562db3aa53e"),
    ]
    .map(digest(Authentication::HmacMd5));
    let sha1 = [
        (&[0x0b; 20][..], &b"Hi There"[..], "b617318655057264e28bc0b6fb378c8ef146be00"),
        (b"Jefe", jefe, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (&[0xaa; 20], &[0xdd; 50], "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        (&counting, &[0xcd; 50], "4c9007f4026250c6bc8414f9bf50c86c2d7235da"),
        (&[0x0c; 20], b"Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"),
        (long, LONG_KEY, "aa4ae5e15272d00e95705637ce8a3b55ed402112"),
        (long, LONG_BOTH, "e8e99d0f45237d786d6bbaa7965c7808bbff1a91"),
    ]
    .map(digest(Authentication::HmacSha1));
    md5.into_iter().chain(sha1).collect()
}

/// ALG-27: RFC 4868 section 2.7.2: keys as long as the digest, and the ICVs, which are half of it.
pub fn icvs_of_rfc4868_2_7_2() -> Vec<Digest> {
    let mut all = vec![];
    let jefe = |len: usize| b"Jefe".repeat(len / 4);
    // The key of case 4 for SHA-384 starts to count a second time, at 10.
    let counting = |len: u8| match len {
        48 => (1..=32).chain(10..26).collect::<Vec<u8>>(),
        _ => (1..=len).collect(),
    };
    let want = &b"what do ya want for nothing?"[..];
    for (authentication, len, expected) in [
        (
            Authentication::HmacSha256,
            32u8,
            [
                "198a607eb44bfbc69903a0f1cf2bbdc5",
                "167f928588c5cc2eef8e3093caa0e87c",
                "cdcb1220d1ecccea91e53aba3092f962",
                "372efcf9b40b35c2115b1346903d2ef4",
            ],
        ),
        (
            Authentication::HmacSha384,
            48,
            [
                "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
                "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d",
                "809f439be00274321d4a538652164b53554a508184a0c316",
                "5b540085c6e6358096532b2493609ed1cb298f774f87bb5c",
            ],
        ),
        (
            Authentication::HmacSha512,
            64,
            [
                "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
                "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454",
                "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8",
                "5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108",
            ],
        ),
    ] {
        let n = usize::from(len);
        let cases: [(Vec<u8>, &[u8]); 4] =
            [(vec![0x0b; n], b"Hi There"), (jefe(n), want), (vec![0xaa; n], &[0xdd; 50]), (counting(len), &[0xcd; 50])];
        let made = cases.into_iter().zip(expected).map(|((key, message), icv)| Digest {
            authentication,
            key,
            message: message.to_vec(),
            digest: hex(icv),
        });
        all.extend(made);
    }
    all
}

/// ALG-22, ESP-FMT-06: packets of draft-mcgrew-gcm-test-01 section 4, with keys of all lengths, with and without ESN.
pub fn aes_gcm_packets_of_draft_mcgrew_gcm_test() -> Vec<Case> {
    vec![
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
    ]
}

/// ALG-24: the packet with which the Linux kernel tests its rfc4543(gcm(aes)).
pub fn aes_gmac_packet_of_the_linux_kernel() -> Case {
    Case {
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
    }
}
