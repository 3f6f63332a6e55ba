//! Requests and what answers them: plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::level::{DebugLevel, Privilege};

/// Version of the protocol. A daemon answers a client of another version with [`ErrorCode::Malformed`].
pub const VERSION: u32 = 1;

/// What stands in a frame from the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`].
    pub version: u32,
    /// The request.
    pub request: Request,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Request {
    /// The debug level.
    GetDebug,
    /// Another debug level.
    SetDebug {
        /// The new one.
        level: DebugLevel,
    },
    /// The privilege level.
    GetPriv,
    /// A lower privilege level.
    SetPriv {
        /// The new one.
        level: Privilege,
    },
    /// Counters.
    GetStats,
    /// Values that rules without their own have.
    GetDefaults,
    /// Every IKE SA.
    DumpIkeSa,
    /// One IKE SA, or all between two addresses.
    GetIkeSa {
        /// Which.
        id: IkeSaId,
    },
    /// Delete one IKE SA, or all between two addresses; the peer is told.
    DelIkeSa {
        /// Which.
        id: IkeSaId,
    },
    /// Delete every IKE SA; the peers are told.
    FlushIkeSa,
    /// Every rule.
    DumpRule,
    /// One rule.
    GetRule {
        /// Its label.
        label: String,
    },
    /// Every preshared entry.
    DumpPreshared,
    /// Key exchange groups this daemon has.
    DumpGroups,
    /// Ciphers this daemon has for IKE SAs.
    DumpEncrAlgs,
    /// Authentication algorithms this daemon has for IKE SAs.
    DumpAuthAlgs,
    /// Read ikev2.config again.
    ReadRule,
    /// Read ikev2.preshared again.
    ReadPreshared,
}

/// Which IKE SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IkeSaId {
    /// Those between two addresses.
    Addresses {
        /// Ours.
        local: IpAddr,
        /// The peer's.
        remote: IpAddr,
    },
    /// The one with these SPIs, as numbers in network order.
    Spis {
        /// The initiator's.
        initiator: u64,
        /// The responder's.
        responder: u64,
    },
}

/// What stands in a frame from the daemon: items, then one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// One thing asked for; more frames follow.
    Item(Box<Item>),
    /// The last frame.
    End(Outcome),
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done.
    Done,
    /// Not done.
    Failed(Failure),
}

/// Why a request was not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// For programs.
    pub code: ErrorCode,
    /// For people; may have several lines.
    pub detail: String,
}

/// Reasons, in the numbers of the Solaris door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// 1: there is nothing to answer with.
    NoData,
    /// 3: nothing can be called so.
    BadIdentifier,
    /// 4: a file that cannot be read from or written to.
    BadLocation,
    /// 5: not in this state.
    InvalidCommand,
    /// 6: what was given does not hold together, for example a file with errors.
    InvalidData,
    /// 7: a request this daemon does not know.
    UnknownCommand,
    /// 8: not a message of this protocol version.
    Malformed,
    /// 9: the privilege level does not allow it.
    Privilege,
    /// 10: the system refused.
    System,
    /// 11: entries that were there already were left out.
    Duplicates,
    /// 13: this user may not.
    Unauthorized,
    /// 14: the same is already going on.
    InProgress,
    /// 15: no memory.
    NoMemory,
}

impl ErrorCode {
    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::NoData => 1,
            Self::BadIdentifier => 3,
            Self::BadLocation => 4,
            Self::InvalidCommand => 5,
            Self::InvalidData => 6,
            Self::UnknownCommand => 7,
            Self::Malformed => 8,
            Self::Privilege => 9,
            Self::System => 10,
            Self::Duplicates => 11,
            Self::Unauthorized => 13,
            Self::InProgress => 14,
            Self::NoMemory => 15,
        }
    }
}

/// One thing in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// Debug levels.
    Debug {
        /// Before, in answer to a change.
        old: Option<DebugLevel>,
        /// Now.
        level: DebugLevel,
    },
    /// Privilege levels.
    Priv {
        /// Before, in answer to a change.
        old: Option<Privilege>,
        /// Now.
        level: Privilege,
    },
    /// Counters.
    Stats(StatsInfo),
    /// One default.
    Default(DefaultInfo),
    /// One IKE SA.
    IkeSa(Box<IkeSaInfo>),
    /// One rule.
    Rule(RuleInfo),
    /// One preshared entry.
    Preshared(PresharedInfo),
    /// One key exchange group.
    Group {
        /// Its number at IANA (IKEv2 transform type 4).
        value: u16,
        /// About as hard to break as a symmetric key of this many bits.
        strength: u16,
        /// What it is.
        description: String,
    },
    /// One cipher.
    EncrAlg {
        /// Its number at IANA (IKEv2 transform type 1).
        value: u16,
        /// Its name.
        name: String,
        /// Least and greatest key length in bits; none where there is only one.
        key_bits: Option<(u16, u16)>,
    },
    /// One authentication algorithm.
    AuthAlg {
        /// Its number at IANA (IKEv2 transform type 3).
        value: u16,
        /// Its name.
        name: String,
    },
    /// How many were deleted or read.
    Count(u64),
    /// Something to know beside a success: warnings over a file.
    Note(String),
}

/// Text that holds a key: wiped when dropped, not shown by Debug.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Octets as hexadecimal digits.
    #[must_use]
    pub fn hex(octets: &[u8]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(octets.len().saturating_mul(2)));
        for octet in octets {
            for digit in [octet >> 4, octet & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('?'));
            }
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Octets behind the digits.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.0.len() / 2
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({} octets)", self.octets())
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// For example `SK_d`.
    pub name: String,
    /// Octets; 0 where the suite has no such key.
    pub octets: usize,
    /// The octets in hexadecimal; only at level keymat.
    pub value: Option<SecretText>,
}

/// Who began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// This host.
    Initiator,
    /// The peer.
    Responder,
}

/// An identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityInfo {
    /// For example `FQDN`.
    pub kind: String,
    /// As text.
    pub value: String,
}

/// Limits and use of an IKE SA, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifetimeInfo {
    /// Since it was begun.
    pub age: u64,
    /// Until it ends; none without a limit.
    pub expires_in: Option<u64>,
    /// Until this host rekeys it.
    pub rekey_in: Option<u64>,
}

/// One IKE SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeSaInfo {
    /// The initiator's SPI, sixteen hexadecimal digits.
    pub spi_initiator: String,
    /// The responder's SPI, sixteen hexadecimal digits.
    pub spi_responder: String,
    /// The role of this host.
    pub role: Role,
    /// For example `ACTIVE`.
    pub state: String,
    /// Major and minor version.
    pub version: (u8, u8),
    /// Label of the rule.
    pub rule: Option<String>,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// This host is behind a NAT.
    pub nat_local: bool,
    /// The peer is behind a NAT.
    pub nat_remote: bool,
    /// How the two authenticate.
    pub authentication: String,
    /// Cipher, once agreed.
    pub encryption: Option<String>,
    /// Integrity algorithm, once agreed; `NONE` beside a combined-mode cipher.
    pub integrity: Option<String>,
    /// Pseudo-random function, once agreed.
    pub prf: Option<String>,
    /// Group, once agreed.
    pub group: Option<String>,
    /// Number of the group.
    pub group_number: Option<u16>,
    /// Group that the newest child SA was negotiated with; 0 is none, as with the first one. `None` without child SAs.
    pub childsa_pfs: Option<u16>,
    /// Who this host is.
    pub local_id: Option<IdentityInfo>,
    /// Who the peer is.
    pub remote_id: Option<IdentityInfo>,
    /// Limits.
    pub lifetime: LifetimeInfo,
    /// Children in use.
    pub children: Vec<ChildInfo>,
    /// Children made in its life.
    pub children_created: u64,
    /// Children deleted in its life.
    pub children_deleted: u64,
    /// Messages sent under its keys.
    pub messages_sent: u64,
    /// Messages accepted under its keys.
    pub messages_received: u64,
    /// Requests sent again.
    pub retransmits: u64,
    /// Messages whose protection did not verify.
    pub integrity_failures: u64,
    /// Keys; empty below level keymat.
    pub keys: Vec<KeyInfo>,
}

/// One child of an IKE SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildInfo {
    /// `ESP` or `AH`.
    pub protocol: String,
    /// SPI this host receives on.
    pub spi_in: u32,
    /// SPI this host sends with.
    pub spi_out: u32,
    /// `tunnel` or `transport`.
    pub mode: String,
    /// Algorithms.
    pub suite: String,
    /// Group of its own key exchange (perfect forward secrecy); 0 is none.
    pub pfs_group: u16,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Traffic on our side; cut at sixteen selectors.
    pub local: Vec<String>,
    /// Traffic on the peer's side; cut at sixteen selectors.
    pub remote: Vec<String>,
    /// Seconds since it was made.
    pub age: u64,
}

/// Counters since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsInfo {
    /// IKE SAs now, by role of this host.
    pub current: Sides,
    /// IKE SAs ever established.
    pub total: Sides,
    /// Negotiations begun.
    pub attempted: Sides,
    /// Negotiations failed.
    pub failed: Sides,
    /// Failures as initiator without an answer.
    pub initiator_timeouts: u64,
    /// Failures by reason.
    pub failures: BTreeMap<String, u64>,
    /// Everything else, by name.
    pub counters: BTreeMap<String, u64>,
}

/// A count for each role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    /// This host began.
    pub initiator: u64,
    /// The peer began.
    pub responder: u64,
}

/// Where a default comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultSource {
    /// Built in.
    Default,
    /// The configuration file.
    Config,
}

/// One default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultInfo {
    /// The keyword, or `-` where the file has none for it.
    pub token: String,
    /// Where the value comes from.
    pub source: DefaultSource,
    /// The value.
    pub value: String,
    /// Its unit.
    pub unit: String,
    /// What it is.
    pub description: String,
}

/// From the first to the last address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// The first one.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
}

/// One IKE SA transform of a rule: alternatives of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformInfo {
    /// Ciphers.
    pub encryption: Vec<String>,
    /// Integrity algorithms.
    pub integrity: Vec<String>,
    /// Pseudo-random functions.
    pub prf: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Its name.
    pub label: String,
    /// File and line.
    pub source: String,
    /// Our addresses.
    pub local_addr: Vec<AddressRange>,
    /// The peer's addresses.
    pub remote_addr: Vec<AddressRange>,
    /// Who this host says it is.
    pub local_id: String,
    /// Whom it accepts.
    pub remote_id: String,
    /// Whether keys are attached.
    pub has_key: bool,
    /// How we prove ourselves, in the word of ikev2.config.
    pub local_auth: String,
    /// How the peer has to.
    pub remote_auth: String,
    /// Who has to have issued its certificate.
    pub required_issuer: Option<String>,
    /// IKE SA transforms, best first.
    pub transforms: Vec<TransformInfo>,
    /// Seconds.
    pub ikesa_lifetime: u64,
    /// Group of CREATE_CHILD_SA; 0 is none.
    pub childsa_pfs: u16,
    /// Seconds; 0 is no limit.
    pub childsa_lifetime_secs: u64,
    /// Seconds; 0 is no limit.
    pub childsa_softlife_secs: u64,
    /// Seconds; 0 is no limit.
    pub childsa_idletime_secs: u64,
    /// Kilobytes; 0 is no limit.
    pub childsa_lifetime_kb: u64,
    /// Kilobytes; 0 is no limit.
    pub childsa_softlife_kb: u64,
}

/// One preshared entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresharedInfo {
    /// Labels of rules.
    pub labels: Vec<String>,
    /// Key of this host's AUTH.
    pub local_key: Option<KeyInfo>,
    /// Key of the peer's AUTH.
    pub remote_key: Option<KeyInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hex_and_hidden() {
        let secret = SecretText::hex(&[0x0f, 0xa0]);
        assert_eq!(secret.expose(), "0fa0");
        assert_eq!(format!("{secret:?}"), "SecretText(2 octets)");
        let text = serde_json::to_string(&secret).unwrap();
        assert_eq!(serde_json::from_str::<SecretText>(&text).unwrap(), secret);
    }

    #[test]
    fn requests_have_stable_names() {
        let text =
            serde_json::to_string(&Request::GetIkeSa { id: IkeSaId::Spis { initiator: 1, responder: 2 } }).unwrap();
        assert_eq!(text, r#"{"do":"get-ike-sa","id":{"spis":{"initiator":1,"responder":2}}}"#);
    }
}
