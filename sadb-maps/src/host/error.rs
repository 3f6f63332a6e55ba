//! What can go wrong with the databases, with the errno that PF_KEY would have answered.

use super::diagnostic::Diagnostic;
use super::instance::InstanceError;
use std::io;

/// Failure of an operation on the maps of an instance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SadbError {
    /// The maps are on their way to others, and whoever moved them died.
    #[error("an upgrade of the data path was cut short; run espadm upgrade to finish it")]
    Moving,
    /// The SA (protocol, SPI, destination, direction) is there already.
    #[error("the security association exists already")]
    Exists,
    /// No such SA.
    #[error("no such security association")]
    NotFound,
    /// The request is wrong; `detail` says more than the text of the code where there is more to say.
    #[error("{code}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
    Diagnostic {
        /// The PF_KEY code.
        code: Diagnostic,
        /// What was expected; empty when the code says it all.
        detail: String,
    },
    /// Every slot is taken.
    #[error("all {0} slots for security associations are taken; attach with a larger --capacity")]
    Full(u32),
    /// No room is left for a replay window above 1024 packets.
    #[error("the replay windows above 1024 packets have {0} packets together, and all are taken; choose a smaller one")]
    WindowsFull(u32),
    /// The outbound bindings do not fit: one manual SA takes one for each rule that it satisfies.
    #[error(
        "more than the {0} outbound bindings that fit are needed; attach with a larger --capacity, or load fewer rules"
    )]
    TooManyBindings(u32),
    /// Another tool held the lock for longer than a tool may wait.
    #[error("another tool has held the lock of the instance for more than {0} s")]
    Busy(u64),
    /// The rules do not fit.
    #[error("{0} rules, but the policy database holds at most {max}", max = crate::abi::MAX_RULES)]
    TooManyRules(usize),
    /// A rule that the data path cannot apply.
    #[error("rule {index}, counted from 0: {reason}")]
    UnfitRule {
        /// Its place.
        index: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The rules differ in more ways than the tables hold.
    #[error("the rules name too many different addresses and ports for the policy database; join some")]
    TooDiverse,
    /// The epoch that keeps nonces unique cannot be persisted, so no SA with a reusable key is installed.
    #[error("the install epoch cannot be persisted, so a nonce could repeat: {0}")]
    Epoch(#[source] io::Error),
    /// The instance: name, namespace, pins, version.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// A map operation failed.
    #[error("map {map}: {operation} failed: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: aya::maps::MapError,
    },
    /// A file or a system call.
    #[error("{what}: {source}")]
    Io {
        /// The file or the call.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl SadbError {
    /// A diagnostic whose code says it all.
    pub fn diagnostic(code: Diagnostic) -> Self {
        Self::Diagnostic { code, detail: String::new() }
    }

    /// A diagnostic with what was expected.
    pub fn explained(code: Diagnostic, detail: impl Into<String>) -> Self {
        Self::Diagnostic { code, detail: detail.into() }
    }

    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    /// The PF_KEY code, when the error has one.
    pub fn code(&self) -> Option<Diagnostic> {
        match self {
            Self::Diagnostic { code, .. } => Some(*code),
            Self::NotFound => Some(Diagnostic::SaNotFound),
            _ => None,
        }
    }

    /// The errno of a PF_KEY reply (spec section 8.1).
    pub fn errno(&self) -> i32 {
        match self {
            Self::Exists => libc::EEXIST,
            Self::NotFound => libc::ESRCH,
            Self::Diagnostic {
                code: Diagnostic::PairNotFound | Diagnostic::SaNotFound | Diagnostic::SaExpired,
                ..
            } => libc::ESRCH,
            Self::Diagnostic { .. } => libc::EINVAL,
            Self::UnfitRule { .. } => libc::EINVAL,
            Self::Full(_)
            | Self::WindowsFull(_)
            | Self::TooManyRules(_)
            | Self::TooDiverse
            | Self::TooManyBindings(_) => libc::ENOMEM,
            Self::Busy(_) => libc::ETIMEDOUT,
            Self::Moving => libc::EAGAIN,
            Self::Epoch(e) => e.raw_os_error().unwrap_or(libc::EIO),
            Self::Instance(_) => libc::ENODEV,
            Self::Map { .. } => libc::EIO,
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}
