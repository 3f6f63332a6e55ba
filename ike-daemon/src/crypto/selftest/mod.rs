//! Known-answer tests that run before an algorithm is offered (RFC 8247; V2-SA-18, ALG-34): one vector per PRF, per cipher
//! with its integrity algorithm and per group, for the groups of ring an exchange with itself. What fails is not there.

mod answers;

use std::sync::OnceLock;

use answers::{GROUPS, PRFS, PROTECTIONS};

use super::{CryptoError, IvKind, KeyExchange, Prf, ProtectionShape, Protector, Provider, Secret, Standard, digest};
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

    fn key_exchange_with(&self, group: GroupId, private: &[u8]) -> Option<Box<dyn KeyExchange>> {
        self.inner.key_exchange_with(group, private).filter(|_| self.passed(Algorithm::Group(group)))
    }
}

/// Groups without a known answer: ring sets its private values itself.
const FRESH: [GroupId; 3] = [GroupId::CURVE25519, GroupId::ECP_256, GroupId::ECP_384];

fn failures(provider: &dyn Provider) -> Vec<Algorithm> {
    let prfs = PRFS.iter().filter(|(id, _)| provider.prf(*id).is_some());
    let prfs = prfs.filter(|(id, good)| prf_answer(provider, *id).as_deref() != Some(*good));
    let ciphers = PROTECTIONS.iter().filter(|(encr, integ, _)| provider.protection(*encr, *integ).is_some());
    let ciphers =
        ciphers.filter(|(encr, integ, good)| protection_answer(provider, *encr, *integ).as_deref() != Some(*good));
    let groups = GROUPS.iter().filter(|(id, ..)| provider.public_len(*id).is_some());
    let groups = groups.filter(|(id, octets, good)| shared_answer(provider, *id, *octets).as_deref() != Some(*good));
    let fresh = FRESH.iter().filter(|id| provider.public_len(**id).is_some());
    let fresh = fresh.filter(|id| exchange_agrees(provider, **id) != Some(true));
    prfs.map(|(id, _)| Algorithm::Prf(*id))
        .chain(ciphers.map(|(encr, integ, _)| Algorithm::Protection(*encr, *integ)))
        .chain(groups.map(|(id, ..)| Algorithm::Group(*id)))
        .chain(fresh.map(|id| Algorithm::Group(*id)))
        .collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Octets 0, 1, 2 and so on.
fn counting(length: usize) -> Vec<u8> {
    counting_from(0, length)
}

fn counting_from(first: u8, length: usize) -> Vec<u8> {
    (0..=u8::MAX).map(|octet| octet.wrapping_add(first)).cycle().take(length).collect()
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
        IvKind::Random(octets) => counting(octets),
    };
    let body = protector.seal(&iv, b"header", b"inner payloads").ok()?;
    let opened = protector.open(b"header", &body).ok()?;
    let sound = opened.as_slice() == b"inner payloads" && protector.open(b"Header", &body).is_err();
    sound.then(|| hex(&body))
}

/// SHA-256 of a public value and of what it shares with another one; private values count up from 1 and from 65.
fn shared_answer(provider: &dyn Provider, id: GroupId, octets: usize) -> Option<String> {
    let one = provider.key_exchange_with(id, &counting_from(1, octets))?;
    let other = provider.key_exchange_with(id, &counting_from(65, octets))?;
    let (from_one, from_other) = (one.public().to_vec(), other.public().to_vec());
    if Some(from_one.len()) != provider.public_len(id) {
        return None;
    }
    let shared = one.complete(&from_other).ok()?;
    let agreed = shared == other.complete(&from_one).ok()?;
    agreed.then(|| hex(&digest(&[&from_one, shared.expose()].concat())))
}

/// Whether two fresh halves come to one secret.
fn exchange_agrees(provider: &dyn Provider, id: GroupId) -> Option<bool> {
    let (one, other) = (provider.key_exchange(id).ok()?, provider.key_exchange(id).ok()?);
    let (from_one, from_other) = (one.public().to_vec(), other.public().to_vec());
    let fits = Some(from_one.len()) == provider.public_len(id) && from_one != from_other;
    Some(fits && one.complete(&from_other).ok()? == other.complete(&from_one).ok()?)
}

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
        for (id, ..) in GROUPS {
            assert!(Standard.public_len(id).is_some());
        }
        for number in 0..=u16::MAX {
            let known = FRESH.iter().chain(GROUPS.iter().map(|(id, ..)| id)).any(|id| id.0 == number);
            assert_eq!(Standard.public_len(GroupId(number)).is_some(), known, "{number}");
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

        fn key_exchange_with(&self, group: GroupId, private: &[u8]) -> Option<Box<dyn KeyExchange>> {
            let group = if group == GroupId::MODP_2048_224 { GroupId::MODP_2048_256 } else { group };
            Standard.key_exchange_with(group, private)
        }
    }

    /// V2-SA-18, ALG-34: what fails is gone, what passes stays.
    #[test]
    fn v2_sa_18_alg_34_what_fails_is_gone() {
        let tested = Tested::new(Broken);
        assert_eq!(tested.failed().len(), 1 + 20 + 2);
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
