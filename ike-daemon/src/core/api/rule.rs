//! IKE rules as the core uses them: the compiled form of a rule of ikev2.config.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::ChildLifetimes;
use crate::crypto::Secret;
use crate::crypto::sign::KeyKind;
use crate::pki::{DistinguishedName, DnPattern};
use crate::wire::id::{IdType, Identification};
use crate::wire::transform::{Encr, GroupId, IntegId, PrfId};

/// Where in a configuration file something was said.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SourceLine {
    /// The file as the administrator named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One `ikesa_xform`: alternatives per kind, best first. A mix of AEAD and other ciphers is offered as two proposals.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IkeProposal {
    /// Ciphers; never empty.
    pub encr: Vec<Encr>,
    /// Integrity algorithms for the ciphers that are no AEAD; may be empty when all are.
    pub integ: Vec<IntegId>,
    /// Pseudo-random functions; never empty.
    pub prf: Vec<PrfId>,
    /// Groups; never empty.
    pub groups: Vec<GroupId>,
}

/// The pre-shared keys of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Psk {
    /// Computes our AUTH.
    pub local: Secret,
    /// Verifies the peer's AUTH.
    pub remote: Secret,
}

/// How one side proves who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AuthBy {
    /// A pre-shared key.
    #[default]
    Preshared,
    /// A signature under a certificate, by a key of one family or of any.
    Certificate(Option<KeyKind>),
}

impl fmt::Display for AuthBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preshared => f.write_str("preshared"),
            Self::Certificate(None) => f.write_str("cert"),
            Self::Certificate(Some(KeyKind::Rsa)) => f.write_str("rsa_sig"),
            Self::Certificate(Some(KeyKind::Ecdsa)) => f.write_str("ecdsa_sig"),
            Self::Certificate(Some(KeyKind::Eddsa)) => f.write_str("eddsa_sig"),
        }
    }
}

/// Who we say we are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LocalIdentity {
    /// Our address on the path of the negotiation.
    Address,
    /// This.
    Fixed(Identification),
}

/// A text in which `*` stands for any run of characters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IdGlob(
    /// The pattern.
    pub String,
);

impl IdGlob {
    fn matches(&self, text: &str, fold: impl Fn(char) -> char) -> bool {
        let mut pieces = self.0.split('*');
        let text: String = text.chars().map(&fold).collect();
        let folded = |piece: &str| piece.chars().map(&fold).collect::<String>();
        let first = folded(pieces.next().unwrap_or_default());
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        let mut pieces: Vec<String> = pieces.map(folded).collect();
        let Some(last) = pieces.pop() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, behind)) = rest.split_once(piece.as_str()) else { return false };
            rest = behind;
        }
        rest.ends_with(last.as_str())
    }
}

/// Which identities of the peer a rule accepts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum IdPattern {
    /// Every identity that holds the key.
    Any,
    /// The address the peer's datagrams come from.
    PeerAddress,
    /// An address identity between the two, both included.
    AddressRange(IpAddr, IpAddr),
    /// A domain name, compared without case.
    Fqdn(IdGlob),
    /// A mail address: the part before the last `@` with case, the domain without.
    Email(IdGlob),
    /// A distinguished name.
    Dn(DnPattern),
    /// Exactly these octets of this type.
    Exact(Identification),
}

impl IdPattern {
    /// Whether `id`, claimed by a peer at `peer`, is accepted.
    pub fn matches(&self, id: &Identification, peer: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::PeerAddress => id.as_address() == Some(peer),
            Self::AddressRange(first, last) => {
                id.as_address().is_some_and(|a| a.is_ipv4() == first.is_ipv4() && *first <= a && a <= *last)
            }
            Self::Fqdn(glob) => {
                id.id_type() == IdType::FQDN
                    && id.as_text().is_some_and(|text| glob.matches(text, |c| c.to_ascii_lowercase()))
            }
            Self::Email(glob) => id.id_type() == IdType::RFC822_ADDR && id.as_text().is_some_and(|t| email(glob, t)),
            Self::Dn(pattern) => {
                id.id_type() == IdType::DER_ASN1_DN
                    && DistinguishedName::from_der(id.data()).is_ok_and(|name| pattern.matches(&name))
            }
            Self::Exact(wanted) => wanted == id,
        }
    }

    /// The identity to ask the responder for (IDr in the first IKE_AUTH request), where the pattern names exactly one.
    pub fn single(&self) -> Option<Identification> {
        match self {
            Self::AddressRange(first, last) if first == last => Some(Identification::address(*first)),
            Self::Fqdn(IdGlob(text)) if !text.contains('*') => {
                Identification::new(IdType::FQDN, text.clone().into_bytes()).ok()
            }
            Self::Email(IdGlob(text)) if !text.contains('*') => {
                Identification::new(IdType::RFC822_ADDR, text.clone().into_bytes()).ok()
            }
            Self::Exact(id) => Some(id.clone()),
            _ => None,
        }
    }
}

fn email(glob: &IdGlob, text: &str) -> bool {
    let same = |c: char| c;
    let lower = |c: char| c.to_ascii_lowercase();
    match (glob.0.rsplit_once('@'), text.rsplit_once('@')) {
        (Some((user, domain)), Some((their_user, their_domain))) => {
            IdGlob(user.to_owned()).matches(their_user, same) && IdGlob(domain.to_owned()).matches(their_domain, lower)
        }
        _ => glob.matches(text, same),
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("ANY"),
            Self::PeerAddress => f.write_str("IP = the peer's address"),
            Self::AddressRange(first, last) if first == last => write!(f, "IP = {first}"),
            Self::AddressRange(first, last) => write!(f, "IP = {first}-{last}"),
            Self::Fqdn(glob) => write!(f, "FQDN = {}", glob.0),
            Self::Email(glob) => write!(f, "EMAIL = {}", glob.0),
            Self::Dn(pattern) => write!(f, "DN = {pattern}"),
            Self::Exact(id) => write!(f, "{id}"),
        }
    }
}

/// When a request is sent again, and when it is given up (RFC 7296 section 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RetryPolicy {
    /// Retransmissions after the first transmission.
    pub limit: u32,
    /// Wait before the first retransmission; doubled each time.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
    /// How long to wait for an answer in all, in place of `limit`.
    pub patience: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { limit: 5, initial: Duration::from_millis(500), max: Duration::from_secs(30), patience: None }
    }
}

/// A rule of ikev2.config with its keys attached. Addresses are matched by the [`Host`](super::Host).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Unique name.
    pub label: String,
    /// Where it stands.
    pub source: SourceLine,
    /// Who we say we are.
    pub local_id: LocalIdentity,
    /// Whom we accept.
    pub remote_id: IdPattern,
    /// How we prove ourselves.
    pub local_auth: AuthBy,
    /// How the peer has to.
    pub remote_auth: AuthBy,
    /// One of those who issued the peer's certificate, directly or not.
    pub required_issuer: Option<DnPattern>,
    /// Pre-shared keys; `None` while no entry of ikev2.preshared carries the label: then every negotiation under this rule
    /// fails, and says why.
    pub psk: Option<Psk>,
    /// What to offer and accept for the IKE SA, best first; never empty.
    pub proposals: Vec<IkeProposal>,
    /// Life of an IKE SA; it is rekeyed somewhat earlier. Zero is no limit.
    pub ikesa_lifetime: Duration,
    /// Lifetimes of its children.
    pub child_lifetimes: ChildLifetimes,
    /// Group for CREATE_CHILD_SA of children; [`GroupId::NONE`] for none.
    pub childsa_pfs: GroupId,
    /// Retransmission.
    pub retry: RetryPolicy,
    /// Silence of the peer after which an empty INFORMATIONAL asks for it; zero is never.
    pub dpd_interval: Duration,
}

impl Rule {
    /// Whether either side proves itself with a pre-shared key.
    pub fn needs_psk(&self) -> bool {
        self.local_auth == AuthBy::Preshared || self.remote_auth == AuthBy::Preshared
    }
}
