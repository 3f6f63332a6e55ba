//! Known-answer tests that run before an algorithm is offered (RFC 8247; V2-SA-18, ALG-34): one vector per PRF, cipher and
//! integrity algorithm, and an exchange with itself per group. What fails is not there.

use std::sync::OnceLock;

use super::{CryptoError, IvKind, KeyExchange, Prf, ProtectionShape, Protector, Provider, Secret, Standard};
use crate::wire::transform::{Encr, GroupId, IntegId, PrfId};

/// Something a provider can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// A pseudo-random function.
    Prf(PrfId),
    /// A cipher with its integrity algorithm.
    Protection(Encr, IntegId),
    /// A key exchange group.
    Group(GroupId),
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prf(prf) => write!(f, "PRF {prf}"),
            Self::Protection(encr, IntegId::NONE) => write!(f, "cipher {encr}"),
            Self::Protection(encr, integ) => write!(f, "cipher {encr} with {integ}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// A provider without what failed its test.
#[derive(Clone, Debug)]
pub struct Tested<P> {
    inner: P,
    failed: Vec<Algorithm>,
}

impl<P: Provider> Tested<P> {
    /// Tests everything the provider has.
    pub fn new(inner: P) -> Self {
        let failed = failures(&inner);
        Self { inner, failed }
    }

    /// What failed.
    pub fn failed(&self) -> &[Algorithm] {
        &self.failed
    }

    fn passed(&self, algorithm: Algorithm) -> bool {
        !self.failed.contains(&algorithm)
    }
}

impl Tested<Standard> {
    /// [`Standard`], tested once per process.
    pub fn standard() -> Self {
        static FAILED: OnceLock<Vec<Algorithm>> = OnceLock::new();
        Self { inner: Standard, failed: FAILED.get_or_init(|| failures(&Standard)).clone() }
    }
}

impl<P: Provider> Provider for Tested<P> {
    fn prf(&self, id: PrfId) -> Option<&'static dyn Prf> {
        self.inner.prf(id).filter(|_| self.passed(Algorithm::Prf(id)))
    }

    fn protection(&self, encr: Encr, integ: IntegId) -> Option<ProtectionShape> {
        self.inner.protection(encr, integ).filter(|_| self.passed(Algorithm::Protection(encr, integ)))
    }

    fn protector(
        &self,
        encr: Encr,
        integ: IntegId,
        cipher_key: &Secret,
        integ_key: &Secret,
    ) -> Result<Box<dyn Protector>, CryptoError> {
        if !self.passed(Algorithm::Protection(encr, integ)) {
            return Err(CryptoError::Unavailable);
        }
        self.inner.protector(encr, integ, cipher_key, integ_key)
    }

    fn public_len(&self, group: GroupId) -> Option<usize> {
        self.inner.public_len(group).filter(|_| self.passed(Algorithm::Group(group)))
    }

    fn key_exchange(&self, group: GroupId) -> Result<Box<dyn KeyExchange>, CryptoError> {
        if !self.passed(Algorithm::Group(group)) {
            return Err(CryptoError::Unavailable);
        }
        self.inner.key_exchange(group)
    }
}

fn failures(provider: &dyn Provider) -> Vec<Algorithm> {
    let prfs = PRFS.iter().filter(|(id, _)| provider.prf(*id).is_some());
    let prfs = prfs.filter(|(id, good)| prf_answer(provider, *id).as_deref() != Some(*good));
    let ciphers = PROTECTIONS.iter().filter(|(encr, integ, _)| provider.protection(*encr, *integ).is_some());
    let ciphers =
        ciphers.filter(|(encr, integ, good)| protection_answer(provider, *encr, *integ).as_deref() != Some(*good));
    let groups = GROUPS.iter().filter(|id| provider.public_len(**id).is_some());
    let groups = groups.filter(|id| exchange_agrees(provider, **id) != Some(true));
    prfs.map(|(id, _)| Algorithm::Prf(*id))
        .chain(ciphers.map(|(encr, integ, _)| Algorithm::Protection(*encr, *integ)))
        .chain(groups.map(|id| Algorithm::Group(*id)))
        .collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Octets 0, 1, 2 and so on.
fn counting(length: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length).collect()
}

fn prf_answer(provider: &dyn Provider, id: PrfId) -> Option<String> {
    let output = provider.prf(id)?.compute(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
    Some(hex(output.expose()))
}

/// The sealed body, when it also opens again and refuses a change.
fn protection_answer(provider: &dyn Provider, encr: Encr, integ: IntegId) -> Option<String> {
    let shape = provider.protection(encr, integ)?;
    let key = Secret::new(counting(shape.cipher + shape.salt));
    let protector = provider.protector(encr, integ, &key, &Secret::new(counting(shape.integ))).ok()?;
    let iv = match protector.iv() {
        IvKind::Counter => 1u64.to_be_bytes().to_vec(),
        IvKind::Random => counting(16),
    };
    let body = protector.seal(&iv, b"header", b"inner payloads").ok()?;
    let opened = protector.open(b"header", &body).ok()?;
    let sound = opened.as_slice() == b"inner payloads" && protector.open(b"Header", &body).is_err();
    sound.then(|| hex(&body))
}

/// Whether two fresh halves come to one secret. The library gives no way to set a private value, hence no fixed vector.
fn exchange_agrees(provider: &dyn Provider, id: GroupId) -> Option<bool> {
    let (one, other) = (provider.key_exchange(id).ok()?, provider.key_exchange(id).ok()?);
    let (from_one, from_other) = (one.public().to_vec(), other.public().to_vec());
    let fits = Some(from_one.len()) == provider.public_len(id) && from_one != from_other;
    Some(fits && one.complete(&from_other).ok()? == other.complete(&from_one).ok()?)
}

const GROUPS: [GroupId; 3] = [GroupId::CURVE25519, GroupId::ECP_256, GroupId::ECP_384];

/// RFC 4231 section 4.3.
const PRFS: [(PrfId, &str); 3] = [
    (PrfId::HMAC_SHA2_256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (
        PrfId::HMAC_SHA2_384,
        "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
    ),
    (
        PrfId::HMAC_SHA2_512,
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ),
];

/// "inner payloads" with associated data "header"; keys count up from 0, salt included; computed with pyca/cryptography.
const PROTECTIONS: [(Encr, IntegId, &str); 12] = [
    (
        Encr::aes_gcm_16(128),
        IntegId::NONE,
        "0000000000000001372894f4c9345e7746ebc22c7ef7f2cbcefc3247ddc550410070a0e62f25c3",
    ),
    (
        Encr::aes_gcm_16(256),
        IntegId::NONE,
        "000000000000000100e155d3244175bb7fa7d43b354f7509c4c393b62313b9e1292a74c5322543",
    ),
    (
        Encr::CHACHA20_POLY1305,
        IntegId::NONE,
        "0000000000000001f9df2333f1cca26ed6f561521bb41e40ef189e65e5d070d5768ae9becb265e",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA2_256_128,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de72dfa1e8843efc893157f3b6d227ee466",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA2_384_192,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de7a36f2960f1668093936046e4af44844ea41116539e4d2060",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA2_512_256,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de7c35d035154490716c47f61043b46c0f1a86673d16aa98e5cb5d3e15104e58109",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA2_256_128,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de58790548d7ea0cce1acd34065896354485639f56",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA2_384_192,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de5879054855a4e7237f1abe8ce27b8bbdfcb1855f8d3f3e1a8a4b5217",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA2_512_256,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de58790548d5fe5c566f3d08c1b80ade0d5178dc15b18daeae0ebe952120c7264ac78f9a57",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA2_256_128,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd28669a5d9c9438380a7220c40900c7e17e5",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA2_384_192,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd286ce174d0198b5aeed6a7c7d3dc55dc4c16a645acf7d267c70",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA2_512_256,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd28659f2fc53abe311dbacec8a6ab0054ee40dc848d3ecbcf13ce241e2fff216d368",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// V2-SA-18, ALG-34: everything there is has a vector and passes.
    #[test]
    fn v2_sa_18_alg_34_standard_passes() {
        assert_eq!(Tested::standard().failed(), []);
        for (id, _) in PRFS {
            assert!(Standard.prf(id).is_some());
        }
        for (encr, integ, _) in PROTECTIONS {
            assert!(Standard.protection(encr, integ).is_some());
        }
    }

    /// Computes nothing right: its only PRF ignores the key, its cipher does not encrypt, its group repeats itself.
    struct Broken;

    struct Wrong;

    impl Prf for Wrong {
        fn output_len(&self) -> usize {
            32
        }

        fn compute(&self, _: &[u8], parts: &[&[u8]]) -> Secret {
            Secret::new(parts.concat())
        }
    }

    impl Provider for Broken {
        fn prf(&self, id: PrfId) -> Option<&'static dyn Prf> {
            if id == PrfId::HMAC_SHA2_256 { Some(&Wrong) } else { Standard.prf(id) }
        }

        fn protection(&self, encr: Encr, integ: IntegId) -> Option<ProtectionShape> {
            Standard.protection(encr, integ)
        }

        fn protector(
            &self,
            encr: Encr,
            integ: IntegId,
            key: &Secret,
            _: &Secret,
        ) -> Result<Box<dyn Protector>, CryptoError> {
            let zero = Secret::new(vec![0; Standard.protection(encr, integ).map_or(0, |shape| shape.integ)]);
            Standard.protector(encr, integ, key, &zero)
        }

        fn public_len(&self, group: GroupId) -> Option<usize> {
            Standard.public_len(group).map(|length| if group == GroupId::ECP_256 { length + 1 } else { length })
        }

        fn key_exchange(&self, group: GroupId) -> Result<Box<dyn KeyExchange>, CryptoError> {
            Standard.key_exchange(group)
        }
    }

    /// V2-SA-18, ALG-34: what fails is gone, what passes stays.
    #[test]
    fn v2_sa_18_alg_34_what_fails_is_gone() {
        let tested = Tested::new(Broken);
        assert_eq!(tested.failed().len(), 1 + 9 + 1);
        assert!(tested.prf(PrfId::HMAC_SHA2_256).is_none() && tested.prf(PrfId::HMAC_SHA2_384).is_some());
        let sha = IntegId::HMAC_SHA2_256_128;
        assert!(tested.protection(Encr::aes_cbc(128), sha).is_none());
        assert!(tested.protector(Encr::aes_cbc(128), sha, &Secret::default(), &Secret::default()).is_err());
        assert!(tested.protection(Encr::CHACHA20_POLY1305, IntegId::NONE).is_some());
        assert!(tested.public_len(GroupId::ECP_256).is_none() && tested.key_exchange(GroupId::ECP_256).is_err());
        assert!(tested.public_len(GroupId::CURVE25519).is_some());
        assert_eq!(tested.failed()[0].to_string(), "PRF HMAC-SHA2-256");
    }
}
