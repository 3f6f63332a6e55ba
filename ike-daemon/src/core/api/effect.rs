//! What comes out of the core besides bytes: changes of the SADB, failures, log lines.

use std::fmt;
use std::net::IpAddr;

use super::{ChildSa, Encap, IkeSpis, Path, Protocol, Role, SpiPair};
use crate::wire::id::Identification;

/// A datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// From where to where.
    pub path: Path,
    /// The UDP payload, without non-ESP marker.
    pub bytes: Vec<u8>,
    /// Whether four zero octets go in front (IKE on the NAT-T port; not for a keepalive).
    pub natt_marker: bool,
}

/// Something the driver is to do. Effects come in the order in which they must take place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// [`Host::install_child`](super::Host::install_child) has taken this pair. Nothing is left to be done.
    ChildInstalled(Box<ChildSa>),
    /// Bind the outbound half of a pair installed with [`OutboundUse::Later`](super::OutboundUse::Later).
    SwitchOutbound {
        /// The pair to send on from now.
        spis: SpiPair,
        /// Its protocol.
        protocol: Protocol,
        /// The peer's outer address.
        remote: IpAddr,
    },
    /// Remove both directions.
    RemoveChild(RemovedChild),
    /// Give back an SPI that [`Host::allocate_spi`](super::Host::allocate_spi) reserved and that no SA will use.
    ReleaseSpi {
        /// The SPI.
        spi: u32,
        /// Its protocol.
        protocol: Protocol,
        /// Our outer address.
        local: IpAddr,
    },
    /// The peer's address or port changed (NAT): move the outer addresses and ports of these pairs.
    MovePeer(PeerMoved),
    /// The request of the data path cannot be met now.
    AcquireFailed {
        /// [`Acquire::id`](super::Acquire::id).
        id: u64,
        /// [`ChildPolicy::action`](super::ChildPolicy::action).
        action: u64,
        /// Why.
        cause: FailureCause,
    },
    /// An IKE SA was established (or took another one's place by rekeying).
    IkeSaUp {
        /// Its SPIs.
        spis: IkeSpis,
        /// Our role in it.
        role: Role,
        /// Its path.
        path: Path,
        /// Who the peer is.
        remote_id: Identification,
        /// Label of the rule.
        rule_label: String,
        /// The IKE SA it replaces.
        rekeys: Option<IkeSpis>,
    },
    /// An established IKE SA is gone.
    IkeSaDown {
        /// Its SPIs.
        spis: IkeSpis,
        /// Why.
        reason: RemoveReason,
    },
    /// One line for the log.
    Log(LogLine),
}

/// A child that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemovedChild {
    /// Its SPIs.
    pub spis: SpiPair,
    /// ESP or AH.
    pub protocol: Protocol,
    /// Our outer address: the destination of the inbound SA.
    pub local: IpAddr,
    /// The peer's outer address: the destination of the outbound SA.
    pub remote: IpAddr,
    /// Why.
    pub reason: RemoveReason,
}

/// Why an SA went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RemoveReason {
    /// The peer deleted it.
    PeerDeleted,
    /// We deleted it: command, shutdown, hard lifetime.
    LocalDeleted,
    /// Its successor is in use.
    Rekeyed,
    /// Both ends made one at once, by a rekey or by beginning, and it lost (RFC 7296 section 2.8.1).
    Redundant,
    /// Another IKE SA was made in its place from scratch, with a new proof of who is who.
    Reauthenticated,
    /// The peer has begun more than its share; this was its oldest.
    Surplus,
    /// The peer does not answer.
    PeerDead,
    /// The peer set up a new IKE SA with INITIAL_CONTACT.
    InitialContact,
    /// The peer broke the protocol inside a protected message.
    ProtocolError,
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerDeleted => "deleted by the peer",
            Self::LocalDeleted => "deleted here",
            Self::Rekeyed => "rekeyed",
            Self::Reauthenticated => "reauthenticated",
            Self::Redundant => "redundant, both sides made one at once",
            Self::Surplus => "the peer has begun too many, and this was its oldest",
            Self::PeerDead => "the peer does not answer",
            Self::InitialContact => "the peer started anew",
            Self::ProtocolError => "the peer broke the protocol",
        })
    }
}

/// Children whose outer addresses or ports changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerMoved {
    /// The pairs.
    pub children: Vec<(Protocol, SpiPair)>,
    /// Before.
    pub old: Path,
    /// Now.
    pub new: Path,
    /// Encapsulation now.
    pub encap: Option<Encap>,
}

/// Why a negotiation failed. The numbers behind each are in [`Stats::failed`](super::Stats::failed).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FailureCause {
    /// No rule fits the addresses.
    NoRule,
    /// The rule has no pre-shared key.
    NoKey,
    /// No certificate with a private key speaks for us.
    NoCertificate,
    /// The peer did not answer.
    Timeout,
    /// No proposal in common.
    NoProposalChosen,
    /// The key exchange group or value was refused.
    InvalidKe,
    /// The peer's AUTH does not verify, or ours was refused.
    AuthenticationFailed,
    /// The peer's identity is none the rule accepts.
    WrongIdentity,
    /// Traffic selectors have nothing in common, or policy protects no such traffic.
    TsUnacceptable,
    /// The mode the policy wants was not agreed.
    ModeRefused,
    /// A message that was malformed inside its protection, or an answer that breaks the rules.
    InvalidSyntax,
    /// A critical payload that one side does not know.
    UnsupportedCriticalPayload,
    /// The peer takes no more children, or this host has no room for them.
    NoAdditionalSas,
    /// The peer asked for patience until patience ended.
    TemporaryFailure,
    /// The child to rekey does not exist at the peer.
    ChildNotFound,
    /// COOKIE and INVALID_KE_PAYLOAD went round in circles.
    TooManyRounds,
    /// An error notification of another type.
    PeerError(u16),
    /// The IKE SA went away meanwhile.
    IkeSaGone,
    /// Limits, shutdown, SPIs, randomness: our side.
    Local,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRule => "no rule fits",
            Self::NoKey => "the rule has no pre-shared key",
            Self::NoCertificate => "no certificate of our own",
            Self::Timeout => "the peer does not answer",
            Self::NoProposalChosen => "NO_PROPOSAL_CHOSEN",
            Self::InvalidKe => "INVALID_KE_PAYLOAD",
            Self::AuthenticationFailed => "AUTHENTICATION_FAILED",
            Self::WrongIdentity => "identity not accepted",
            Self::TsUnacceptable => "TS_UNACCEPTABLE",
            Self::ModeRefused => "mode not agreed",
            Self::InvalidSyntax => "INVALID_SYNTAX",
            Self::UnsupportedCriticalPayload => "UNSUPPORTED_CRITICAL_PAYLOAD",
            Self::NoAdditionalSas => "NO_ADDITIONAL_SAS",
            Self::TemporaryFailure => "TEMPORARY_FAILURE",
            Self::ChildNotFound => "CHILD_SA_NOT_FOUND",
            Self::TooManyRounds => "too many COOKIE or INVALID_KE_PAYLOAD rounds",
            Self::PeerError(number) => return write!(f, "error notification {number}"),
            Self::IkeSaGone => "the IKE SA is gone",
            Self::Local => "local limit or failure",
        })
    }
}

/// How much a log line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Detail for whoever looks for a fault.
    Debug,
    /// Normal life.
    Info,
    /// A negotiation failed, a peer misbehaves.
    Warning,
}

/// One line for the log. Holds no key; text from a peer is escaped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The text, without a line end.
    pub text: String,
}
