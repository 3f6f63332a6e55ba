//! What every step of the core has in its hands: the time, the surroundings, and the queues that hold what came out of it.

use std::collections::VecDeque;

use super::api::{
    Effect, EndpointConfig, EntropyError, FailureCause, Host, Level, LogLine, Path, RandomSource, Rule, Stats,
    Timestamp, Transmit,
};
use super::child::Child;
use super::established::{Established, Task};
use super::link::Ends;
use crate::crypto::{CryptoError, Prf, Provider};
use crate::wire::id::Identification;
use crate::wire::nonce::Nonce;
use crate::wire::{EncodeError, WireError};

/// Surroundings of one step.
pub(super) struct Ctx<'a> {
    pub(super) now: Timestamp,
    pub(super) config: &'a EndpointConfig,
    pub(super) provider: &'a dyn Provider,
    pub(super) random: &'a mut dyn RandomSource,
    pub(super) host: &'a mut dyn Host,
    pub(super) out: &'a mut Outbox,
}

/// What came out and was not fetched yet.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) effects: VecDeque<Effect>,
    pub(super) stats: Stats,
    pub(super) actions: Vec<Action>,
}

/// What one IKE SA wants done to another; the endpoint does it when the step is over.
pub(super) enum Action {
    /// A rekeyed IKE SA begins its life.
    Spawn(Box<Established>),
    /// A successor that lost a collision is deleted at once.
    Discard(Box<Established>),
    /// The IKE SA with this SPI of ours takes over what its predecessor leaves.
    Adopt { our_spi: [u8; 8], ends: Ends, children: Vec<Child>, tasks: Vec<Task> },
    /// The IKE SA with this SPI of ours is up: should both ends have begun one at once, one of the two goes.
    Settle { our_spi: [u8; 8] },
    /// The peer will not take our proof for much longer: another IKE SA is made in the place of the one with this SPI of ours.
    Reauthenticate { our_spi: [u8; 8] },
    /// INITIAL_CONTACT: remove IKE SAs between these identities that were up before `before`, except the one named.
    Forget { except: [u8; 8], local_id: Identification, remote_id: Identification, before: Timestamp },
}

/// Why a step ended badly: the cause that is counted, and words for the log.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) cause: FailureCause,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(cause: FailureCause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Self::new(FailureCause::Local, error.to_string())
    }
}

impl From<EntropyError> for Failure {
    fn from(error: EntropyError) -> Self {
        Self::new(FailureCause::Local, error.to_string())
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        let cause = match error {
            WireError::Critical(_) => FailureCause::UnsupportedCriticalPayload,
            _ => FailureCause::InvalidSyntax,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<CryptoError> for Failure {
    fn from(error: CryptoError) -> Self {
        let cause = match error {
            CryptoError::PublicValue | CryptoError::Length => FailureCause::InvalidKe,
            _ => FailureCause::Local,
        };
        Self::new(cause, error.to_string())
    }
}

/// Holds the peer's nonce against the pseudo-random function that it goes into (V2-KEY-01).
///
/// # Errors
/// A syntax error.
pub(super) fn check_nonce(nonce: &Nonce, prf: &dyn Prf) -> Result<(), Failure> {
    if nonce.suffices(prf.output_len()) {
        return Ok(());
    }
    let text = format!("a nonce of {} octets is too short for the PRF", nonce.octets().len());
    Err(Failure::new(FailureCause::InvalidSyntax, text))
}

impl Ctx<'_> {
    /// Random octets.
    pub(super) fn octets<const N: usize>(&mut self) -> Result<[u8; N], EntropyError> {
        let mut octets = [0; N];
        self.random.fill(&mut octets)?;
        Ok(octets)
    }

    /// A fresh nonce of 32 octets: half the key size of every PRF there is.
    pub(super) fn nonce(&mut self) -> Result<Nonce, Failure> {
        Ok(Nonce::new(self.octets::<32>()?.to_vec())?)
    }

    /// An SPI for an IKE SA: random and not zero.
    pub(super) fn ike_spi(&mut self) -> Result<[u8; 8], EntropyError> {
        loop {
            let spi = self.octets::<8>()?;
            if spi != [0; 8] {
                return Ok(spi);
            }
        }
    }

    /// A number below `bound` for jitter; the middle where the random source fails.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        match self.octets::<8>() {
            Ok(octets) => u64::from_be_bytes(octets).checked_rem(bound).unwrap_or(0),
            Err(EntropyError) => bound / 2,
        }
    }

    pub(super) fn transmit(&mut self, path: Path, bytes: Vec<u8>) {
        self.out.stats.datagrams_sent += 1;
        let natt_marker = path.local.port() == self.config.natt_port;
        self.out.transmits.push_back(Transmit { path, bytes, natt_marker });
    }

    pub(super) fn keepalive(&mut self, path: Path) {
        self.out.transmits.push_back(Transmit { path, bytes: vec![0xff], natt_marker: false });
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.out.effects.push_back(effect);
    }

    pub(super) fn log(&mut self, level: Level, text: String) {
        self.effect(Effect::Log(LogLine { level, text }));
    }

    /// Counts a failure and says in one line what failed, with whom, why, and which configuration line was behind it.
    pub(super) fn failed(&mut self, what: &str, path: &Path, rule: Option<&Rule>, failure: &Failure) {
        *self.out.stats.failed.entry(failure.cause).or_default() += 1;
        let rule = rule.map_or_else(String::new, |r| format!("; rule \"{}\" ({})", r.label, r.source));
        let detail = if failure.detail.is_empty() { String::new() } else { format!(": {}", failure.detail) };
        let text = format!("{what} with {} failed: {}{detail}{rule}", path.remote, failure.cause);
        self.log(Level::Warning, text);
    }
}
