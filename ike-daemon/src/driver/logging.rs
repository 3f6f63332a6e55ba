//! The log: one line per event on standard error, which the service manager keeps, or in a file; how much, `ikeadm set
//! debug` says.
//!
//! Targets are the categories: `ikev2d::ike` (p1 and p2: the core), `ikev2d::sadb` (pfkey), `ikev2d::door`, `ikev2d::config`,
//! `ikev2d::udp`, `ikev2d::path` (with pfkey: packets that the data path dropped). Nothing that is a key is ever handed to a log line.

use std::io::{self, IsTerminal};
use std::path::Path;

use ike_door::DebugLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use super::sink::Sink;

/// Turns the log up and down.
#[derive(Clone)]
pub struct LogControl {
    handle: Option<reload::Handle<Targets, Registry>>,
    sink: Sink,
}

impl LogControl {
    /// Sends the log of this process to `file`, or to standard error, as loud as `level` says.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn install(level: DebugLevel, file: Option<&Path>) -> io::Result<Self> {
        let (filter, handle) = reload::Layer::new(filter(level));
        let sink = Sink::default();
        sink.direct(file)?;
        let writer = sink.clone();
        let colours = file.is_none() && io::stderr().is_terminal();
        let lines = fmt::layer().with_writer(move || writer.clone()).with_ansi(colours).with_target(false);
        // Somebody else's subscriber, in a test for example, is as good.
        let installed = tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok();
        Ok(Self { handle: installed.then_some(handle), sink })
    }

    /// A control of nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { handle: None, sink: Sink::default() }
    }

    /// Goes on in `file`, opened anew, or on standard error.
    ///
    /// # Errors
    /// The file cannot be opened; the log goes on where it was.
    pub fn direct(&self, file: Option<&Path>) -> io::Result<()> {
        self.sink.direct(file)
    }

    /// As loud as `level` says from now on.
    pub fn set(&self, level: DebugLevel) {
        if let Some(handle) = &self.handle {
            // Fails only when the subscriber is gone, and the log with it.
            let _ = handle.reload(filter(level));
        }
    }
}

/// Whether this level shows what the programs of the data path write.
pub(super) fn wants_path(level: DebugLevel) -> bool {
    filter(level).would_enable("ikev2d::path", &tracing::Level::DEBUG)
}

/// Operational: what happens to SAs, and why negotiations fail. Nothing: failures only. A category: its details.
fn filter(level: DebugLevel) -> Targets {
    let usual = if level.has(DebugLevel::OPERATIONAL) { LevelFilter::INFO } else { LevelFilter::WARN };
    let mut targets = Targets::new().with_default(usual);
    let categories = [
        (DebugLevel::from_bits(DebugLevel::IKE_SA.bits() | DebugLevel::CHILD_SA.bits() | 0x80), "ikev2d::ike"),
        (DebugLevel::from_bits(DebugLevel::SADB.bits() | 0x40), "ikev2d::sadb"),
        (DebugLevel::SADB, "ikev2d::path"),
        (DebugLevel::DOOR, "ikev2d::door"),
        (DebugLevel::CONFIG, "ikev2d::config"),
        (DebugLevel::IKE_SA, "ikev2d::udp"),
    ];
    for (bits, target) in categories {
        if level.has(bits) {
            targets = targets.with_target(target, LevelFilter::DEBUG);
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn categories_turn_up_their_targets() {
        let enabled =
            |level: &str, target: &str, at: Level| filter(DebugLevel::parse(level).unwrap()).would_enable(target, &at);
        assert!(enabled("op", "ikev2d::ike", Level::INFO) && !enabled("op", "ikev2d::ike", Level::DEBUG));
        assert!(enabled("0", "ikev2d::ike", Level::WARN) && !enabled("0", "ikev2d::ike", Level::INFO));
        assert!(enabled("op+p1", "ikev2d::ike", Level::DEBUG) && !enabled("op+p1", "ikev2d::door", Level::DEBUG));
        assert!(enabled("all", "ikev2d::sadb", Level::DEBUG));
    }
}
