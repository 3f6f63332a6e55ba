//! Certification authorities of the tests, made when they run.

#![allow(dead_code, reason = "tests of the library and of the protocol each use a part")]

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PKCS_RSA_SHA256, RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

/// ring makes no RSA keys.
pub(crate) const RSA: &str = include_str!("../../testdata/rsa2048.pem");

/// The time at which everything of the tests is valid: a day in 2026, in seconds since 1970.
pub(crate) const NOW: u64 = 1_790_000_000;

/// Kinds of keys for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Rsa, Self::P256, Self::P384, Self::Ed25519];

    fn pair(self) -> KeyPair {
        let algorithm: &'static SignatureAlgorithm = match self {
            Self::Rsa => return KeyPair::from_pem_and_sign_algo(RSA, &PKCS_RSA_SHA256).unwrap(),
            Self::P256 => &PKCS_ECDSA_P256_SHA256,
            Self::P384 => &PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &PKCS_ED25519,
        };
        KeyPair::generate_for(algorithm).unwrap()
    }
}

/// Somebody who issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

/// A certificate and its key in PKCS#8.
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) serial: Vec<u8>,
}

/// `CN=name` below `O=Tests`, valid from 2020 to 2040.
pub(crate) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, "Tests");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A subject alternative name, by its look.
pub(crate) fn alternative(name: &str) -> SanType {
    match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) if name.contains('@') => SanType::Rfc822Name(name.try_into().unwrap()),
        Err(_) => SanType::DnsName(name.try_into().unwrap()),
    }
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(crate) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = Kind::P256.pair();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = Kind::P256.pair();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// For an end entity of this name with these alternative names.
    pub(crate) fn issue(&self, kind: Kind, name: &str, names: &[&str]) -> Issued {
        self.issue_with(kind, name, names, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        kind: Kind,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let (params, key) = (leaf(name, names, change), kind.pair());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        issued(&params, &certificate, &key)
    }

    /// A CRL in force that revokes these serial numbers.
    pub(crate) fn crl(&self, revoked: &[&[u8]], change: impl FnOnce(&mut CertificateRevocationListParams)) -> Vec<u8> {
        let entry = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

fn leaf(name: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = params(name);
    params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
    // With a zero in front and without a sign bit, whatever rcgen would choose.
    params.serial_number =
        Some(SerialNumber::from_slice(&[0x17, u8::try_from(name.len()).unwrap(), name.as_bytes()[0]]));
    change(&mut params);
    params
}

fn issued(params: &CertificateParams, certificate: &Certificate, key: &KeyPair) -> Issued {
    Issued {
        der: certificate.der().to_vec(),
        key: key.serialize_der(),
        serial: params.serial_number.clone().unwrap().to_bytes(),
    }
}

/// A certificate that vouches for itself.
pub(crate) fn self_signed(kind: Kind, name: &str, names: &[&str]) -> Issued {
    let (params, key) = (leaf(name, names, |_| {}), kind.pair());
    let certificate = params.self_signed(&key).unwrap();
    issued(&params, &certificate, &key)
}
