//! What each side proves itself with: a pre-shared key, or a signature under a certificate (RFC 7296 section 2.15, RFC 7427,
//! RFC 4754, RFC 8420). Which of the two is said for each direction by the rule.
//!
//! Everything that the peer sent is bounded before it is looked at; what it sends is believed only when its certificate
//! leads to one in the key store, speaks for the identity it claims, and signed this very exchange.

use std::net::IpAddr;
use std::sync::Arc;

use super::api::{AuthBy, FailureCause, Role, Rule};
use super::auth::{FirstMessages, local_identity};
use super::context::{Ctx, Failure};
use super::link::Link;
use crate::crypto::Secret;
use crate::crypto::sign::{EcdsaForm, HashAlgorithm, KeyKind, PrivateKey, PublicKey, Scheme};
use crate::pki::{Certificate, KeyStore, MAX_PATH, OwnCertificate, covers, describe_names, validate};
use crate::wire::EncodeError;
use crate::wire::auth::{AuthMethod, Authentication};
use crate::wire::cert::{CertEncoding, CertPayload, CertRequest};
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::id::{IdPayload, Identification};
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;

/// Certificates of a peer that are looked at, the first included.
const MAX_CERTIFICATES: usize = 2 * MAX_PATH;
/// Authorities named in one CERTREQ; with more than these the request names none, which means any.
const MAX_AUTHORITIES: usize = 32;
/// "Identity": the message goes into the signature unhashed (RFC 8420 section 2).
const HASH_IDENTITY: u16 = 5;

/// What a peer said about the signatures it takes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Hints {
    /// Of SIGNATURE_HASH_ALGORITHMS; without that there is no method 14 (SIG-01).
    hashes: Vec<u16>,
    /// Of CERTREQ.
    authorities: Vec<[u8; 20]>,
}

impl Hints {
    /// What IKE_SA_INIT has about it.
    pub(super) fn of(payloads: &Payloads) -> Self {
        let notify = payloads.notify(NotifyType::SIGNATURE_HASH_ALGORITHMS);
        let pairs = notify.map_or(&[][..], |notify| notify.data.as_chunks::<2>().0);
        let hashes = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        let mut hints = Self { hashes, authorities: Vec::new() };
        hints.more(payloads);
        hints
    }

    /// What IKE_AUTH adds.
    pub(super) fn more(&mut self, payloads: &Payloads) {
        let asked = payloads.certificate_requests.iter().flat_map(|request| request.hashes());
        self.authorities.extend(asked.take(crate::pki::MAX_SIGNATURES * 8));
    }
}

/// Says in IKE_SA_INIT which hashes we verify, where a rule wants a signature of the peer (SIG-01).
pub(super) fn announce<'a>(
    chain: &mut ChainBuilder,
    mut rules: impl Iterator<Item = &'a Rule>,
) -> Result<(), EncodeError> {
    if !rules.any(|rule| rule.remote_auth != AuthBy::Preshared) {
        return Ok(());
    }
    let numbers = HashAlgorithm::SOUND.map(HashAlgorithm::number).into_iter().chain([HASH_IDENTITY]);
    let data = numbers.flat_map(u16::to_be_bytes).collect();
    chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::SIGNATURE_HASH_ALGORITHMS, data))
}

/// Asks for certificates, where a rule wants a signature of the peer (RFC 7296 section 3.7).
pub(super) fn ask<'a>(
    ctx: &Ctx<'_>,
    chain: &mut ChainBuilder,
    mut rules: impl Iterator<Item = &'a Rule>,
) -> Result<(), EncodeError> {
    if !rules.any(|rule| rule.remote_auth != AuthBy::Preshared) {
        return Ok(());
    }
    let mut authorities = ctx.host.key_store().authority_hashes();
    if authorities.len() > MAX_AUTHORITIES {
        authorities.clear();
    }
    chain.push(PayloadType::CERTREQ, &CertRequest::x509(&authorities))
}

/// Whether a negotiation under the rule has what it takes on our side.
///
/// # Errors
/// What is missing.
pub(super) fn ready(ctx: &Ctx<'_>, rule: &Rule, local: IpAddr) -> Result<(), Failure> {
    if rule.needs_psk() && rule.psk.is_none() {
        return Err(Failure::new(FailureCause::NoKey, ""));
    }
    if let AuthBy::Certificate(kind) = rule.local_auth {
        let id = local_identity(rule, local);
        if own(&ctx.host.key_store(), &id, kind).next().is_none() {
            return Err(no_certificate(&id, kind));
        }
    }
    Ok(())
}

/// What goes into a message as our proof.
pub(super) struct Proof {
    certificates: Vec<Arc<Certificate>>,
    auth: Authentication,
}

impl Proof {
    /// Certificates, the one that signs first (V2-AUTH-11).
    pub(super) fn push_certificates(&self, chain: &mut ChainBuilder) -> Result<(), EncodeError> {
        for certificate in &self.certificates {
            let data = certificate.der().to_vec();
            let payload = CertPayload { encoding: CertEncoding::X509_SIGNATURE, data };
            chain.push(PayloadType::CERT, &payload)?;
        }
        Ok(())
    }

    pub(super) fn push_auth(&self, chain: &mut ChainBuilder) -> Result<(), EncodeError> {
        chain.push(PayloadType::AUTH, &self.auth)
    }
}

/// Proves that we are `id`.
///
/// # Errors
/// No key, no certificate, or none that the peer can verify.
pub(super) fn prove(
    ctx: &Ctx<'_>,
    link: &Link,
    first: &FirstMessages,
    role: Role,
    rule: &Rule,
    id: &IdPayload,
) -> Result<Proof, Failure> {
    let kind = match rule.local_auth {
        AuthBy::Preshared => {
            let psk = rule.psk.as_ref().ok_or_else(|| Failure::new(FailureCause::NoKey, ""))?;
            let data = first.mac(link, role, id, &psk.local).expose().to_vec();
            let auth = Authentication { method: AuthMethod::SHARED_KEY, data };
            return Ok(Proof { certificates: Vec::new(), auth });
        }
        AuthBy::Certificate(kind) => kind,
    };
    let store = ctx.host.key_store();
    let hints = &first.hints;
    let now = ctx.host.wall_clock();
    let wanted =
        |own: &OwnCertificate| store.lineage(&own.certificate).iter().any(|hash| hints.authorities.contains(hash));
    let in_time = |own: &OwnCertificate| {
        let (not_before, not_after) = own.certificate.validity();
        not_before <= now && now <= not_after
    };
    let mut candidates: Vec<(&OwnCertificate, Method)> =
        own(&store, &id.id, kind).filter_map(|own| Some((own, Method::choose(&own.key, &hints.hashes)?))).collect();
    if candidates.is_empty() {
        return Err(match own(&store, &id.id, kind).next() {
            None => no_certificate(&id.id, kind),
            Some(own) => {
                let text = format!("the peer verifies no signature that our {} key makes", own.key.public());
                Failure::new(FailureCause::NoCertificate, text)
            }
        });
    }
    // A request for authorities is a hint (V2-AUTH-13): it orders, and excludes none. Sorting keeps the order of files.
    candidates.sort_by_key(|(own, _)| (!in_time(own), !wanted(own)));
    let Some((own, method)) = candidates.first() else { return Err(no_certificate(&id.id, kind)) };
    let octets = first.signed_octets(link, role, id);
    let auth = method.sign(&own.key, &octets)?;
    let mut certificates = vec![Arc::clone(&own.certificate)];
    certificates.extend(store.intermediates(&own.certificate));
    Ok(Proof { certificates, auth })
}

/// Who a peer says it is, and with what.
pub(super) struct Claim<'a> {
    pub(super) id: &'a IdPayload,
    pub(super) auth: &'a Authentication,
    /// The message with its certificates.
    pub(super) payloads: &'a Payloads,
}

/// Holds the peer's proof against the rule (V2-AUTH-15): before anything is installed, and for this identity only.
///
/// # Errors
/// Why the peer is not believed.
pub(super) fn judge(
    ctx: &Ctx<'_>,
    link: &Link,
    first: &FirstMessages,
    signer: Role,
    rule: &Rule,
    claim: &Claim<'_>,
) -> Result<(), Failure> {
    let Claim { id, auth, payloads } = *claim;
    match rule.remote_auth {
        AuthBy::Preshared => {
            let none = || Failure::new(FailureCause::NoKey, "the rule has no pre-shared key");
            let psk = rule.psk.as_ref().ok_or_else(none)?;
            preshared(link, first, signer, id, auth, &psk.remote)
        }
        AuthBy::Certificate(kind) => {
            let octets = first.signed_octets(link, signer, id);
            certified(ctx, rule, kind, &id.id, auth, payloads, &octets)
        }
    }
}

fn preshared(
    link: &Link,
    first: &FirstMessages,
    signer: Role,
    id: &IdPayload,
    auth: &Authentication,
    key: &Secret,
) -> Result<(), Failure> {
    if auth.method != AuthMethod::SHARED_KEY {
        return Err(refused(format!(
            "the peer used authentication method {}, the rule wants preshared",
            auth.method.0
        )));
    }
    if first.mac(link, signer, id, key) == Secret::copy_of(&auth.data) {
        return Ok(());
    }
    Err(refused(format!("AUTH of {} does not verify: the pre-shared keys differ", id.id)))
}

fn certified(
    ctx: &Ctx<'_>,
    rule: &Rule,
    kind: Option<KeyKind>,
    id: &Identification,
    auth: &Authentication,
    payloads: &Payloads,
    octets: &[u8],
) -> Result<(), Failure> {
    if auth.method == AuthMethod::SHARED_KEY {
        return Err(refused("the peer used a pre-shared key, the rule wants a certificate".to_owned()));
    }
    let store = ctx.host.key_store();
    let (leaf, others) = presented(&store, id, payloads)?;
    let key = leaf.key().map_err(|error| refused(format!("the certificate of {}: {error}", leaf.subject())))?;
    if let Some(kind) = kind.filter(|kind| *kind != key.kind()) {
        let text = format!("the certificate of {} has a key for {}, the rule wants {kind}", leaf.subject(), key.kind());
        return Err(refused(text));
    }
    if !covers(&leaf, id) {
        let text = format!("the peer says it is {id}, its certificate speaks for {}", describe_names(&leaf));
        return Err(Failure::new(FailureCause::WrongIdentity, text));
    }
    let path = validate(&leaf, &others, &store, &ctx.host.validation_policy(), ctx.host.wall_clock())
        .map_err(|error| refused(error.to_string()))?;
    if let Some(wanted) = &rule.required_issuer {
        let signers = path.iter().skip(1).map(|certificate| certificate.subject()).chain([leaf.issuer()]);
        if !signers.into_iter().any(|signer| wanted.matches(signer)) {
            let text = format!(
                "the certificate of {} was issued by {}, the rule wants {wanted}",
                leaf.subject(),
                leaf.issuer()
            );
            return Err(refused(text));
        }
    }
    verify(key, auth, octets)
        .map_err(|what| refused(format!("AUTH of {id} does not verify with its certificate: {what}")))
}

/// The certificate that is to have signed, and those beside it (V2-AUTH-11, V2-AUTH-12). A peer that is known one by one need
/// not send its own.
fn presented(
    store: &KeyStore,
    id: &Identification,
    payloads: &Payloads,
) -> Result<(Arc<Certificate>, Vec<Arc<Certificate>>), Failure> {
    let sent = payloads.certificates.iter().filter(|cert| cert.encoding == CertEncoding::X509_SIGNATURE);
    let mut sent = sent.take(MAX_CERTIFICATES);
    let Some(first) = sent.next() else {
        let known = store.certificates().iter().find(|known| covers(known, id) && !known.is_ca());
        let known =
            known.ok_or_else(|| refused(format!("the peer {id} sent no certificate, and the key store has none")))?;
        return Ok((Arc::clone(known), Vec::new()));
    };
    let leaf = Certificate::from_der(&first.data)
        .map_err(|error| refused(format!("the certificate that the peer {id} sent: {error}")))?;
    // What cannot be read is of no use, and stands in nobody's way.
    let others = sent.filter_map(|cert| Certificate::from_der(&cert.data).ok()).map(Arc::new).collect();
    Ok((Arc::new(leaf), others))
}

/// Verifies AUTH under a key, or says what is wrong with it.
fn verify(key: &PublicKey, auth: &Authentication, octets: &[u8]) -> Result<(), String> {
    let ecdsa = |curve: bool, hash| match curve {
        true => {
            key.verify_as(Scheme::Ecdsa(hash), EcdsaForm::Fixed, octets, &auth.data).map_err(|error| error.to_string())
        }
        false => Err(format!("method {} belongs to another curve than that of the {key} key", auth.method.0)),
    };
    match auth.method {
        AuthMethod::RSA if key.kind() == KeyKind::Rsa => {
            // The method does not say which hash; peers that know no other method may use SHA-1 (RFC 7296 section 2.15).
            let hashes = [HashAlgorithm::Sha256, HashAlgorithm::Sha1, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
            let fits = hashes.iter().any(|hash| key.verify(Scheme::RsaPkcs1(*hash), octets, &auth.data).is_ok());
            if fits { Ok(()) } else { Err("the signature does not verify".to_owned()) }
        }
        AuthMethod::ECDSA_256 => ecdsa(matches!(key, PublicKey::P256(_)), HashAlgorithm::Sha256),
        AuthMethod::ECDSA_384 => ecdsa(matches!(key, PublicKey::P384(_)), HashAlgorithm::Sha384),
        AuthMethod::ECDSA_521 => ecdsa(matches!(key, PublicKey::P521(_)), HashAlgorithm::Sha512),
        AuthMethod::DIGITAL_SIGNATURE => {
            let malformed = || "malformed data of method 14".to_owned();
            let (length, rest) = auth.data.split_first().ok_or_else(malformed)?;
            let (name, signature) = rest.split_at_checked(usize::from(*length)).ok_or_else(malformed)?;
            let (scheme, used) = Scheme::split_der(name).map_err(|error| error.to_string())?;
            if used != name.len() {
                return Err(malformed());
            }
            // SIG-03, SIG-06
            if scheme.hash() == Some(HashAlgorithm::Sha1) {
                return Err(format!("{scheme} was not announced and is not accepted"));
            }
            if !key.can(scheme) {
                return Err(format!("{scheme} is nothing for the {key} key"));
            }
            key.verify(scheme, octets, signature).map_err(|error| error.to_string())
        }
        other => Err(format!("authentication method {} is nothing for the {key} key", other.0)),
    }
}

/// How one key signs for one peer.
struct Method {
    method: AuthMethod,
    scheme: Scheme,
    form: EcdsaForm,
}

impl Method {
    /// The best that the peer verifies: method 14 where it announced a hash that the key has, the older ones otherwise.
    fn choose(key: &PrivateKey, hashes: &[u16]) -> Option<Self> {
        let number = |scheme: &Scheme| scheme.hash().map_or(HASH_IDENTITY, HashAlgorithm::number);
        if let Some(scheme) = key.schemes().iter().find(|scheme| hashes.contains(&number(scheme))) {
            return Some(Self { method: AuthMethod::DIGITAL_SIGNATURE, scheme: *scheme, form: EcdsaForm::Der });
        }
        let (method, scheme) = match key.public() {
            PublicKey::Rsa(_) => (AuthMethod::RSA, Scheme::RsaPkcs1(HashAlgorithm::Sha256)),
            PublicKey::P256(_) => (AuthMethod::ECDSA_256, Scheme::Ecdsa(HashAlgorithm::Sha256)),
            PublicKey::P384(_) => (AuthMethod::ECDSA_384, Scheme::Ecdsa(HashAlgorithm::Sha384)),
            PublicKey::P521(_) => (AuthMethod::ECDSA_521, Scheme::Ecdsa(HashAlgorithm::Sha512)),
            PublicKey::Ed25519(_) => return None,
        };
        Some(Self { method, scheme, form: EcdsaForm::Fixed })
    }

    fn sign(&self, key: &PrivateKey, octets: &[u8]) -> Result<Authentication, Failure> {
        let failed = |what: String| Failure::new(FailureCause::Local, what);
        let signature = key.sign(self.scheme, self.form, octets).map_err(|error| failed(error.to_string()))?;
        if self.method != AuthMethod::DIGITAL_SIGNATURE {
            return Ok(Authentication { method: self.method, data: signature });
        }
        let name = self.scheme.to_der().map_err(|error| failed(error.to_string()))?;
        let length = u8::try_from(name.len()).map_err(|error| failed(error.to_string()))?;
        let mut data = vec![length];
        data.extend_from_slice(&name);
        data.extend_from_slice(&signature);
        Ok(Authentication { method: self.method, data })
    }
}

fn own<'a>(
    store: &'a KeyStore,
    id: &'a Identification,
    kind: Option<KeyKind>,
) -> impl Iterator<Item = &'a OwnCertificate> {
    store.own_for(id).filter(move |own| kind.is_none_or(|kind| kind == own.key.public().kind()))
}

fn no_certificate(id: &Identification, kind: Option<KeyKind>) -> Failure {
    let kind = kind.map_or_else(String::new, |kind| format!(" {kind}"));
    Failure::new(FailureCause::NoCertificate, format!("the key store has no{kind} certificate with its key for {id}"))
}

fn refused(text: String) -> Failure {
    Failure::new(FailureCause::AuthenticationFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&[u8]; 5] = [
        include_bytes!("../../testdata/rsa2048.pem"),
        include_bytes!("../../testdata/p256.pem"),
        include_bytes!("../../testdata/p384-sec1.pem"),
        include_bytes!("../../testdata/p521.pem"),
        include_bytes!("../../testdata/ed25519.pem"),
    ];
    const ALL: [u16; 4] = [2, 3, 4, HASH_IDENTITY];

    fn keys() -> Vec<PrivateKey> {
        KEYS.iter().map(|pem| PrivateKey::read(pem).unwrap()).collect()
    }

    /// V2-AUTH-15, V2-AUTH-19, V2-AUTH-20, SIG-01, SIG-03: the method that the peer verifies, and no key believes another's.
    #[test]
    fn v2_auth_20_methods_follow_key_and_peer() {
        let keys = keys();
        let chosen = |hashes: &[u16]| -> Vec<_> {
            keys.iter().map(|key| Method::choose(key, hashes).map(|m| (m.method.0, m.scheme.to_string()))).collect()
        };
        let some = |number, scheme: &str| Some((number, scheme.to_owned()));
        let modern = [
            some(14, "RSA-PSS with SHA2-256"),
            some(14, "ECDSA with SHA2-256"),
            some(14, "ECDSA with SHA2-384"),
            some(14, "ECDSA with SHA2-512"),
            some(14, "Ed25519"),
        ];
        assert_eq!(chosen(&ALL), modern);
        let old = [
            some(1, "RSA with SHA2-256"),
            some(9, "ECDSA with SHA2-256"),
            some(10, "ECDSA with SHA2-384"),
            some(11, "ECDSA with SHA2-512"),
            None,
        ];
        assert_eq!(chosen(&[]), old);
        // A peer with one hash: what does not go with it takes the older way.
        assert_eq!(chosen(&[4])[0], some(14, "RSA-PSS with SHA2-512"));
        assert_eq!(chosen(&[4])[1], some(9, "ECDSA with SHA2-256"));
        // SHA-1 is offered nothing.
        assert_eq!(chosen(&[1])[0], some(1, "RSA with SHA2-256"));
        for hashes in [&ALL[..], &[]] {
            for key in &keys {
                let Some(method) = Method::choose(key, hashes) else { continue };
                let auth = method.sign(key, b"octets").unwrap();
                assert_eq!(verify(key.public(), &auth, b"octets"), Ok(()));
                assert!(verify(key.public(), &auth, b"others").is_err());
                for other in keys.iter().filter(|other| other.public() != key.public()) {
                    assert!(verify(other.public(), &auth, b"octets").is_err());
                }
            }
        }
    }

    /// SIG-02, SIG-06, V2-AUTH-21: lengths of method 14 that lie, SHA-1 in it, methods that do not belong to the key, and data
    /// of nothing, zeros and ones.
    #[test]
    fn sig_02_malformed_auth_is_refused() {
        let keys = keys();
        let rsa = &keys[0];
        let auth = |method, data: &[u8]| Authentication { method, data: data.to_vec() };
        let good = Method::choose(rsa, &ALL).unwrap().sign(rsa, b"octets").unwrap();
        for length in [0, 1, good.data[0] - 1, good.data[0] + 1, 255] {
            let mut bad = good.clone();
            bad.data[0] = length;
            assert!(verify(rsa.public(), &bad, b"octets").is_err(), "{length}");
        }
        let sha1 = Scheme::RsaPkcs1(HashAlgorithm::Sha1).to_der().unwrap();
        let mut named = vec![u8::try_from(sha1.len()).unwrap()];
        named.extend(sha1);
        named.extend([1; 256]);
        let error = verify(rsa.public(), &auth(AuthMethod::DIGITAL_SIGNATURE, &named), b"octets").unwrap_err();
        assert!(error.contains("was not announced"), "{error}");
        for key in &keys {
            for method in (0..=15).map(AuthMethod).filter(|method| *method != AuthMethod::SHARED_KEY) {
                for data in [&[][..], &[0; 64], &[0xff; 64], &[0; 256], &[0xff; 256]] {
                    assert!(
                        verify(key.public(), &auth(method, data), b"octets").is_err(),
                        "{} {method:?}",
                        key.public()
                    );
                }
            }
        }
    }
}
