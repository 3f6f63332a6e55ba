//! Every transform and authenticator with the octets of its keys, salt included: written down anew here, so that this and
//! the table of the tools check each other.

/// A transform of ESP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transform {
    pub(crate) name: &'static str,
    /// Lengths to try; 0 is no key at all.
    pub(crate) lengths: &'static [usize],
    /// Whether it needs an authenticator beside it.
    pub(crate) separate: bool,
}

const fn separate(name: &'static str, lengths: &'static [usize]) -> Transform {
    Transform { name, lengths, separate: true }
}

const fn combined(name: &'static str, lengths: &'static [usize]) -> Transform {
    Transform { name, lengths, separate: false }
}

pub(crate) const TRANSFORMS: [Transform; 14] = [
    separate("null", &[0]),
    separate("des-cbc", &[8]),
    separate("3des-cbc", &[24]),
    separate("blowfish-cbc", &[4, 16, 56]),
    separate("aes-cbc", &[16, 24, 32]),
    separate("aes-ctr", &[20, 28, 36]),
    combined("aes-ccm8", &[19, 27, 35]),
    combined("aes-ccm12", &[19]),
    combined("aes-ccm", &[19]),
    combined("aes-gcm8", &[20, 28, 36]),
    combined("aes-gcm12", &[20]),
    combined("aes-gcm", &[20]),
    combined("aes-gmac", &[20, 28, 36]),
    combined("chacha20-poly1305", &[36]),
];

/// Authenticators of AH and ESP.
pub(crate) const AUTHENTICATORS: [(&str, usize); 5] =
    [("hmac-md5", 16), ("hmac-sha1", 20), ("hmac-sha256", 32), ("hmac-sha384", 48), ("hmac-sha512", 64)];

#[test]
fn they_are_those_of_the_tools() {
    use ipseckey::algorithms::{Kind, by_name, of_kind};
    assert_eq!(of_kind(Kind::Encryption).count(), TRANSFORMS.len());
    for transform in TRANSFORMS {
        let known = by_name(Kind::Encryption, transform.name).unwrap();
        assert_eq!(known.combined.is_none(), transform.separate, "{transform:?}");
        for length in transform.lengths {
            let bits = u16::try_from(length * 8).unwrap() - known.salt_bits;
            assert!(known.key.contains(bits), "{transform:?}: {bits} bits");
        }
    }
    assert_eq!(of_kind(Kind::Authentication).count(), AUTHENTICATORS.len());
    for (name, length) in AUTHENTICATORS {
        assert!(by_name(Kind::Authentication, name).unwrap().key.contains(length as u16 * 8), "{name}");
    }
}
