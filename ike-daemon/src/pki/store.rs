//! The key store: certificates that are trusted, certificates of our own with their keys, and CRLs; three directories of
//! files in PEM or DER.
//!
//! `certs` has everything that is a certificate: of CAs, of peers that are known one by one, and our own. `private` has
//! our private keys, in files that nobody else can read; a key belongs to the certificates with its public half, whatever
//! the files are called. `crls` has revocation lists.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::crl::Crl;
use super::identity::covers;
use super::name::DistinguishedName;
use crate::config::{FileError, read_secret_octets, read_trusted_octets};
use crate::crypto::sign::PrivateKey;
use crate::wire::id::{IdType, Identification};

/// Files of one directory.
const MAX_FILES: usize = 4096;
/// Certificates or CRLs of one file.
const MAX_IN_FILE: usize = 1024;

/// Why a key store was not read.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// A directory cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// The directory.
        path: String,
        /// What happened.
        error: io::Error,
    },
    /// Others may change what is trusted.
    #[error("{0}: others may write here, and what is here is trusted: chmod go-w {0}")]
    Writable(String),
    /// It belongs to somebody else.
    #[error("{path}: owned by user {owner}; expected root or the daemon's user")]
    Owner {
        /// The directory.
        path: String,
        /// Its owner.
        owner: u32,
    },
    /// More files than any honest key store has.
    #[error("{0}: more than 4096 files")]
    TooMany(String),
    /// A file cannot be used. With a CRL left out, a revoked peer would be let in; with a key left out, nobody.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file has the wrong owner or mode.
    #[error(transparent)]
    Access(#[from] FileError),
}

impl KeyStoreError {
    /// Whether permissions are what is wrong: of the daemon, or of others.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Io { error, .. } => error.kind() == io::ErrorKind::PermissionDenied,
            Self::Writable(_) | Self::Owner { .. } => true,
            Self::Access(error) => error.is_permission(),
            Self::TooMany(_) | Self::File { .. } => false,
        }
    }
}

/// A certificate with its private key.
#[derive(Clone, Debug)]
pub struct OwnCertificate {
    /// What peers are shown.
    pub certificate: Arc<Certificate>,
    /// What signs.
    pub key: Arc<PrivateKey>,
}

/// What is trusted, and who we are. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct KeyStore {
    certificates: Vec<Arc<Certificate>>,
    own: Vec<OwnCertificate>,
    crls: Vec<Arc<Crl>>,
}

impl KeyStore {
    /// A store of these; a key goes with every certificate that has its public half. Keys without certificate are of no
    /// use, and are handed back.
    pub fn new(certificates: Vec<Certificate>, keys: Vec<PrivateKey>, crls: Vec<Crl>) -> (Self, Vec<PrivateKey>) {
        let mut store =
            Self { certificates: Vec::new(), own: Vec::new(), crls: crls.into_iter().map(Arc::new).collect() };
        for certificate in certificates.into_iter().map(Arc::new) {
            if !store.certificates.contains(&certificate) {
                store.certificates.push(certificate);
            }
        }
        let mut idle = Vec::new();
        for key in keys {
            let fits = |certificate: &&Arc<Certificate>| certificate.key().is_ok_and(|public| public == key.public());
            let found: Vec<_> = store.certificates.iter().filter(fits).cloned().collect();
            if found.is_empty() {
                idle.push(key);
                continue;
            }
            let key = Arc::new(key);
            store
                .own
                .extend(found.into_iter().map(|certificate| OwnCertificate { certificate, key: Arc::clone(&key) }));
        }
        (store, idle)
    }

    /// Reads `certs`, `private` and `crls` below `directory`; those that are not there are empty. What is to be said about
    /// files that were left out comes with it.
    ///
    /// # Errors
    /// [`KeyStoreError`]; a certificate that cannot be read is left out, anything else is an error.
    pub fn load(directory: &Path) -> Result<(Self, Vec<String>), KeyStoreError> {
        let mut notes = Vec::new();
        let mut certificates = Vec::new();
        for path in files(&directory.join("certs"))? {
            let octets = read_trusted_octets(&path)?;
            for inside in pieces(&octets, &["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"]) {
                match Certificate::from_der(&inside) {
                    Ok(certificate) => certificates.push(certificate),
                    Err(error) => notes.push(format!("{}: {error}; it is left out", path.display())),
                }
            }
        }
        let mut keys = Vec::new();
        for path in files(&directory.join("private"))? {
            let octets = read_secret_octets(&path)?;
            keys.push(PrivateKey::read(&octets).map_err(|error| file_error(&path, &error))?);
        }
        let mut crls = Vec::new();
        for path in files(&directory.join("crls"))? {
            let octets = read_trusted_octets(&path)?;
            for inside in pieces(&octets, &["X509 CRL"]) {
                crls.push(Crl::from_der(&inside).map_err(|error| file_error(&path, &error))?);
            }
        }
        let (store, idle) = Self::new(certificates, keys, crls);
        if !idle.is_empty() {
            let directory = directory.display();
            notes.push(format!(
                "{directory}: {} private keys have no certificate in certs and are of no use",
                idle.len()
            ));
        }
        Ok((store, notes))
    }

    /// Every certificate.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }

    /// Those with a private key.
    pub fn own(&self) -> &[OwnCertificate] {
        &self.own
    }

    /// Ours that speak for an identity.
    pub fn own_for<'a>(&'a self, id: &'a Identification) -> impl Iterator<Item = &'a OwnCertificate> {
        self.own.iter().filter(move |own| covers(&own.certificate, id))
    }

    /// The subject of a certificate of ours as it stands there, for a distinguished name that an administrator wrote.
    pub fn name_of_own(&self, id: &Identification) -> Option<Identification> {
        if id.id_type() != IdType::DER_ASN1_DN {
            return None;
        }
        let wanted = DistinguishedName::from_der(id.data()).ok()?;
        let own = self.own.iter().find(|own| own.certificate.subject().is_like(&wanted))?;
        Identification::new(IdType::DER_ASN1_DN, own.certificate.subject().der().to_vec()).ok()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.crls.is_empty()
    }

    /// CRLs.
    pub fn crls(&self) -> impl Iterator<Item = &Crl> {
        self.crls.iter().map(Arc::as_ref)
    }

    /// Whether exactly this certificate is in the store.
    pub(super) fn trusts(&self, certificate: &Certificate) -> bool {
        self.certificates.iter().any(|trusted| **trusted == *certificate)
    }

    /// Certificates of CAs.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.iter().filter(|certificate| certificate.is_ca())
    }

    /// SHA-1 hashes of the keys by which a peer may prove itself: of roots, and of peers that are known one by one (RFC 7296
    /// section 3.7).
    pub fn authority_hashes(&self) -> Vec<[u8; 20]> {
        let is_own = |certificate: &Arc<Certificate>| self.own.iter().any(|own| own.certificate == *certificate);
        let asked = self.certificates.iter().filter(|c| c.is_root() || (!c.is_ca() && !is_own(c)));
        let mut hashes: Vec<[u8; 20]> = asked.map(|certificate| *certificate.key_hash()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    /// The certificates of ours that a peer needs beside `leaf`: its intermediates, as far as the store has them, without the
    /// root.
    pub fn intermediates(&self, leaf: &Certificate) -> Vec<Arc<Certificate>> {
        let mut chain: Vec<Arc<Certificate>> = Vec::new();
        let mut last = leaf;
        while chain.len() < super::MAX_PATH {
            let next = self.authorities().find(|authority| {
                last.may_come_from(authority) && authority.as_ref() != last && last.verify(authority).is_ok()
            });
            let Some(next) = next.filter(|next| !next.is_root() && !chain.contains(next)) else { break };
            chain.push(Arc::clone(next));
            last = next;
        }
        chain
    }

    /// The key hashes of `leaf` and of everything above it that the store has: what a CERTREQ may name to mean it.
    pub fn lineage(&self, leaf: &Certificate) -> Vec<[u8; 20]> {
        let mut hashes = vec![*leaf.key_hash()];
        let chain = self.intermediates(leaf);
        hashes.extend(chain.iter().map(|certificate| *certificate.key_hash()));
        let last = chain.last().map_or(leaf, Arc::as_ref);
        hashes.extend(self.authorities().filter(|c| last.may_come_from(c)).map(|c| *c.key_hash()));
        hashes
    }
}

fn file_error(path: &Path, error: &dyn std::error::Error) -> KeyStoreError {
    KeyStoreError::File { path: path.display().to_string(), reason: error.to_string() }
}

/// The regular files of a directory, by name; hidden ones are somebody's editor.
fn files(directory: &Path) -> Result<Vec<PathBuf>, KeyStoreError> {
    use std::os::unix::fs::MetadataExt;
    let name = || directory.display().to_string();
    let io = |error| KeyStoreError::Io { path: name(), error };
    let metadata = match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(io)?,
    };
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(KeyStoreError::Owner { path: name(), owner });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(KeyStoreError::Writable(name()));
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_file() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(KeyStoreError::TooMany(name()));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The PEM blocks of a file with one of these labels, or the whole file where it has no PEM.
fn pieces(octets: &[u8], labels: &[&str]) -> Vec<Zeroizing<Vec<u8>>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const END: &[u8] = b"-----END ";
    let find = |octets: &[u8], word: &[u8]| octets.windows(word.len()).position(|window| window == word);
    let mut out = Vec::new();
    let mut rest = octets;
    let mut any = false;
    while let Some(at) = find(rest, BEGIN) {
        any = true;
        rest = rest.get(at..).unwrap_or_default();
        let end = find(rest, END).unwrap_or(rest.len());
        let line = rest.get(end..).unwrap_or_default().iter().position(|octet| *octet == b'\n');
        let stop = line.map_or(rest.len(), |line| end + line);
        let block = rest.get(..stop).unwrap_or_default();
        let wanted = der::pem::decode_label(block).is_ok_and(|label| labels.contains(&label));
        if wanted {
            // What is no base64 is no certificate either, and is named as such.
            let inside = der::pem::decode_vec(block).map(|(_, inside)| inside).unwrap_or_default();
            out.push(Zeroizing::new(inside));
        }
        rest = rest.get(stop.max(BEGIN.len())..).unwrap_or_default();
        if out.len() >= MAX_IN_FILE {
            break;
        }
    }
    if !any {
        out.push(Zeroizing::new(octets.to_vec()));
    }
    out
}
