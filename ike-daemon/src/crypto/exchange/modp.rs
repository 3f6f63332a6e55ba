//! MODP groups: groups 2 (RFC 2409), 5 and 14 to 18 (RFC 3526), 22 to 24 (RFC 5114).
//!
//! Private values of the groups with a safe prime have about twice the bits of the strength that RFC 3526 section 8
//! estimates at best; those of the groups of RFC 5114 are below the order of their subgroup, and a public value outside it
//! is refused (RFC 6989 section 2.2).

use std::sync::OnceLock;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use zeroize::{Zeroize, Zeroizing};

use super::{KeyExchange, primes};
use crate::crypto::{CryptoError, Secret};
use crate::wire::transform::GroupId;

/// How a group is written down.
struct Group {
    id: GroupId,
    /// Bits of the prime.
    bits: u32,
    prime: &'static str,
    /// 2 where there is none.
    generator: Option<&'static str>,
    /// Of the subgroup where it is smaller than half the prime.
    order: Option<&'static str>,
    /// Octets of a private value.
    private: usize,
    numbers: OnceLock<Option<Numbers>>,
}

/// A group as it is computed with.
struct Numbers {
    params: BoxedMontyParams,
    /// Prime less one.
    last: BoxedUint,
    generator: BoxedUint,
    order: Option<BoxedUint>,
}

const fn safe(id: GroupId, bits: u32, prime: &'static str, private: usize) -> Group {
    Group { id, bits, prime, generator: None, order: None, private, numbers: OnceLock::new() }
}

const fn subgroup(id: GroupId, bits: u32, [prime, generator, order]: [&'static str; 3]) -> Group {
    let private = order.len() / 2;
    Group { id, bits, prime, generator: Some(generator), order: Some(order), private, numbers: OnceLock::new() }
}

static GROUPS: [Group; 10] = [
    safe(GroupId::MODP_1024, 1024, primes::MODP_1024, 32),
    safe(GroupId::MODP_1536, 1536, primes::MODP_1536, 32),
    safe(GroupId::MODP_2048, 2048, primes::MODP_2048, 40),
    safe(GroupId::MODP_3072, 3072, primes::MODP_3072, 53),
    safe(GroupId::MODP_4096, 4096, primes::MODP_4096, 60),
    safe(GroupId::MODP_6144, 6144, primes::MODP_6144, 68),
    safe(GroupId::MODP_8192, 8192, primes::MODP_8192, 78),
    subgroup(
        GroupId::MODP_1024_160,
        1024,
        [primes::MODP_1024_160, primes::MODP_1024_160_GENERATOR, primes::MODP_1024_160_ORDER],
    ),
    subgroup(
        GroupId::MODP_2048_224,
        2048,
        [primes::MODP_2048_224, primes::MODP_2048_224_GENERATOR, primes::MODP_2048_224_ORDER],
    ),
    subgroup(
        GroupId::MODP_2048_256,
        2048,
        [primes::MODP_2048_256, primes::MODP_2048_256_GENERATOR, primes::MODP_2048_256_ORDER],
    ),
];

impl Group {
    fn octets(&self) -> usize {
        self.prime.len() / 2
    }

    fn numbers(&self) -> Option<&Numbers> {
        self.numbers.get_or_init(|| self.read()).as_ref()
    }

    fn read(&self) -> Option<Numbers> {
        let number = |hex: &str| {
            let padded = format!("{hex:0>width$}", width = self.prime.len());
            BoxedUint::from_be_hex(&padded, self.bits).into_option()
        };
        let prime = number(self.prime)?;
        let last = prime.wrapping_sub(BoxedUint::one_with_precision(self.bits));
        let order = match self.order {
            Some(hex) => Some(number(hex)?),
            None => None,
        };
        let generator = number(self.generator.unwrap_or("2"))?;
        let params = BoxedMontyParams::new_vartime(Odd::new(prime).into_option()?);
        Some(Numbers { params, last, generator, order })
    }

    /// `base` to the power of `exponent`, in time that depends on the length of the exponent alone.
    fn power(&self, base: BoxedUint, exponent: &[u8]) -> Option<BoxedUint> {
        let bits = u32::try_from(exponent.len()).ok()?.checked_mul(8)?;
        let mut exponent = BoxedUint::from_be_slice(exponent, bits.next_multiple_of(64)).ok()?;
        let mut power = BoxedMontyForm::new(base, &self.numbers()?.params).pow_bounded_exp(&exponent, bits);
        exponent.zeroize();
        let result = power.retrieve();
        power.zeroize();
        Some(result)
    }

    /// Whether a private value is at least 2, and at most the order less 2 where the group has one.
    fn takes(&self, private: &[u8]) -> bool {
        let Some(numbers) = self.numbers() else { return false };
        let Ok(value) = BoxedUint::from_be_slice(private, self.bits) else { return false };
        let value = Zeroizing::new(value);
        let below = |order: &BoxedUint| *value < order.wrapping_sub(BoxedUint::one_with_precision(self.bits));
        *value > BoxedUint::one_with_precision(self.bits) && numbers.order.as_ref().is_none_or(below)
    }

    /// The peer's public value: between 1 and prime less 1, and within the subgroup (RFC 6989 sections 2.1 and 2.2).
    fn read_public(&self, octets: &[u8]) -> Result<BoxedUint, CryptoError> {
        if octets.len() != self.octets() {
            return Err(CryptoError::Length);
        }
        let numbers = self.numbers().ok_or(CryptoError::Unavailable)?;
        let value = BoxedUint::from_be_slice(octets, self.bits).map_err(|_| CryptoError::Length)?;
        let one = BoxedUint::one_with_precision(self.bits);
        if value <= one || value >= numbers.last {
            return Err(CryptoError::PublicValue);
        }
        if let Some(order) = &numbers.order {
            let raised = self.power(value.clone(), &order.to_be_bytes_trimmed_vartime());
            if raised.is_none_or(|raised| raised != one) {
                return Err(CryptoError::PublicValue);
            }
        }
        Ok(value)
    }
}

fn group(id: GroupId) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.id == id)
}

pub(super) fn public_len(id: GroupId) -> Option<usize> {
    group(id).map(Group::octets)
}

pub(super) fn private_len(id: GroupId) -> Option<usize> {
    group(id).map(|group| group.private)
}

pub(super) struct Ephemeral {
    group: &'static Group,
    private: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
}

impl Ephemeral {
    pub(super) fn new(id: GroupId, private: &[u8]) -> Result<Self, CryptoError> {
        let group = group(id).ok_or(CryptoError::Unavailable)?;
        let numbers = group.numbers().ok_or(CryptoError::Unavailable)?;
        if private.len() != group.private || !group.takes(private) {
            return Err(CryptoError::Length);
        }
        let public = group.power(numbers.generator.clone(), private).ok_or(CryptoError::Unavailable)?;
        Ok(Self { group, private: Zeroizing::new(private.to_vec()), public: public.to_be_bytes().into_vec() })
    }
}

impl KeyExchange for Ephemeral {
    fn group(&self) -> GroupId {
        self.group.id
    }

    fn public(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer: &[u8]) -> Result<Secret, CryptoError> {
        let peer = self.group.read_public(peer)?;
        let shared = self.group.power(peer, &self.private).ok_or(CryptoError::Unavailable)?;
        let shared = Zeroizing::new(shared);
        Ok(Secret::new(shared.to_be_bytes().into_vec()))
    }
}
