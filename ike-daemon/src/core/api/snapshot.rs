//! What the core shows of itself: `ikeadm dump ikesa`, `get stats`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{ChildSuite, FailureCause, Mode, Path, SpiPair};
pub use crate::crypto::keys::IkeKeys;
use crate::wire::id::Identification;
use crate::wire::transform::{Encr, GroupId, IntegId, PrfId};
use crate::wire::ts::TrafficSelector;

/// The SPI pair of an IKE SA, in network order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSpis {
    /// The original initiator's.
    pub initiator: [u8; 8],
    /// The original responder's; zero while it is not known.
    pub responder: [u8; 8],
}

impl fmt::Display for IkeSpis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{:016x}", u64::from_be_bytes(self.initiator), u64::from_be_bytes(self.responder))
    }
}

impl fmt::Debug for IkeSpis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IkeSpis({self})")
    }
}

/// Who began the IKE SA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// We did.
    Initiator,
    /// The peer did.
    Responder,
}

/// How far an IKE SA has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IkeState {
    /// Initiator: IKE_SA_INIT sent.
    InitSent,
    /// Responder: IKE_SA_INIT answered.
    HalfOpen,
    /// Initiator: IKE_AUTH sent.
    AuthSent,
    /// In use.
    Established,
    /// In use while its successor is negotiated.
    Rekeying,
    /// Replaced; waits for its Delete.
    Replaced,
    /// Delete sent.
    Deleting,
}

impl fmt::Display for IkeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InitSent => "SENT IKE_SA_INIT",
            Self::HalfOpen => "ANSWERED IKE_SA_INIT",
            Self::AuthSent => "SENT IKE_AUTH",
            Self::Established => "ACTIVE",
            Self::Rekeying => "REKEYING",
            Self::Replaced => "REPLACED",
            Self::Deleting => "DELETING",
        })
    }
}

/// What NAT detection found (RFC 7296 section 2.23).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NatState {
    /// We are behind a NAT.
    pub local: bool,
    /// The peer is behind a NAT.
    pub remote: bool,
}

impl NatState {
    /// Whether there is any NAT between us.
    pub fn any(self) -> bool {
        self.local || self.remote
    }
}

/// One IKE SA as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IkeSaSnapshot {
    /// SPIs.
    pub spis: IkeSpis,
    /// Our role.
    pub role: Role,
    /// State.
    pub state: IkeState,
    /// Major and minor version: 2.0.
    pub version: (u8, u8),
    /// Where it lives.
    pub path: Path,
    /// Label of the rule; of the first candidate while the peer's identity is not known.
    pub rule_label: Option<String>,
    /// Cipher, once agreed.
    pub encr: Option<Encr>,
    /// Integrity algorithm, once agreed; `NONE` with an AEAD.
    pub integ: Option<IntegId>,
    /// Pseudo-random function, once agreed.
    pub prf: Option<PrfId>,
    /// Group, once agreed.
    pub group: Option<GroupId>,
    /// Who we are, once said.
    pub local_id: Option<Identification>,
    /// Who the peer is, once proved.
    pub remote_id: Option<Identification>,
    /// NAT detection.
    pub nat: NatState,
    /// Time since it was begun.
    pub age: Duration,
    /// Time until it ends if it is not rekeyed; `None` without a limit.
    pub expires_in: Option<Duration>,
    /// Time until we rekey it.
    pub rekey_in: Option<Duration>,
    /// Children in use.
    pub children: Vec<ChildSnapshot>,
    /// Children made in its life, its predecessors' included.
    pub children_created: u64,
    /// Children deleted in its life, its predecessors' included.
    pub children_deleted: u64,
    /// Messages and octets sent and received under its keys.
    pub messages_sent: u64,
    /// Messages accepted.
    pub messages_received: u64,
    /// Requests sent again.
    pub retransmits: u64,
    /// Messages whose protection did not verify.
    pub integrity_failures: u64,
}

/// One child of an IKE SA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildSnapshot {
    /// SPIs.
    pub spis: SpiPair,
    /// Algorithms.
    pub suite: ChildSuite,
    /// Group of a key exchange of its own; `NONE` where there was none.
    pub group: GroupId,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Mode.
    pub mode: Mode,
    /// Traffic on our side.
    pub ts_local: Vec<TrafficSelector>,
    /// Traffic on the peer's side.
    pub ts_remote: Vec<TrafficSelector>,
    /// Policy action.
    pub action: u64,
    /// Time since it was made.
    pub age: Duration,
}

/// Counters since start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// IKE SAs established now that we initiated.
    pub current_initiator: u64,
    /// IKE SAs established now that the peer initiated.
    pub current_responder: u64,
    /// IKE SAs ever established that we initiated.
    pub total_initiator: u64,
    /// IKE SAs ever established that the peer initiated.
    pub total_responder: u64,
    /// Negotiations we began.
    pub attempted_initiator: u64,
    /// Negotiations the peer began and we answered.
    pub attempted_responder: u64,
    /// Negotiations of IKE SAs of ours that failed.
    pub failed_initiator: u64,
    /// Negotiations of IKE SAs of the peer's that failed.
    pub failed_responder: u64,
    /// Of [`Stats::failed_initiator`], how many had no answer.
    pub initiator_timeouts: u64,
    /// Failures by cause, of IKE SAs and of children.
    pub failed: BTreeMap<FailureCause, u64>,
    /// Children made.
    pub children_created: u64,
    /// Children removed.
    pub children_deleted: u64,
    /// Children rekeyed (each pair once).
    pub children_rekeyed: u64,
    /// IKE SAs rekeyed.
    pub ike_rekeyed: u64,
    /// Datagrams in.
    pub datagrams_received: u64,
    /// Datagrams out.
    pub datagrams_sent: u64,
    /// Requests sent again.
    pub retransmits: u64,
    /// Stored responses sent again.
    pub responses_repeated: u64,
    /// Datagrams that were no IKE message.
    pub malformed: u64,
    /// Messages for SPIs that are not ours.
    pub unknown_spi: u64,
    /// Messages of another major version.
    pub wrong_version: u64,
    /// Messages whose protection did not verify.
    pub integrity_failures: u64,
    /// Messages outside the window, or that fit no exchange.
    pub out_of_window: u64,
    /// Messages sent in fragments.
    pub fragmented: u64,
    /// Messages that came in fragments and are whole.
    pub reassembled: u64,
    /// Authentic fragments that were of no use: doubled, or of a message that is too long (RFC 7383 section 2.6).
    pub fragments_dropped: u64,
    /// COOKIE notifications sent.
    pub cookies_sent: u64,
    /// IKE_SA_INIT requests dropped at a limit.
    pub limited: u64,
    /// Peers found dead.
    pub peers_dead: u64,
}
