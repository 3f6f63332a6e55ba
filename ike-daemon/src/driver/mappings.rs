//! Keepalives for SAs that no IKE SA keeps alive: those with keys by hand, and what an earlier daemon left (RFC 3948 section
//! 4). This end is behind a NAT, says the SA, and its mapping lasts as long as something is sent.

use std::collections::HashMap;
use std::time::Duration;

use crate::core::api::{Path, Timestamp};

/// When keepalives went out.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    sent: HashMap<Path, Timestamp>,
}

impl Mappings {
    /// The paths on which nothing was sent for `interval`, which counts from now for them. `found` are those of all SAs, each
    /// with the time since its latest packet, or since it was added; what is not among them any more is forgotten.
    pub(super) fn due(&mut self, now: Timestamp, interval: Duration, found: &[(Path, Duration)]) -> Vec<Path> {
        let mut idle: HashMap<Path, Duration> = HashMap::new();
        for (path, span) in found {
            idle.entry(*path).and_modify(|least| *least = (*least).min(*span)).or_insert(*span);
        }
        self.sent.retain(|path, _| idle.contains_key(path));
        let quiet = |path: &Path| self.sent.get(path).is_none_or(|sent| now.since(*sent) >= interval);
        let due: Vec<Path> =
            idle.iter().filter(|(path, span)| **span >= interval && quiet(path)).map(|(path, _)| *path).collect();
        self.sent.extend(due.iter().map(|path| (*path, now)));
        due
    }

    /// Whether there was anything to keep at the last look after a keepalive.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UDP-03: only when nothing else was sent for the interval, by any SA of the path.
    #[test]
    fn udp_03_a_path_that_is_quiet_gets_a_keepalive_an_interval() {
        let at = |seconds: u64| Timestamp::from_duration(Duration::from_secs(1000 + seconds));
        let path = |port| Path { local: ([10, 0, 0, 5], 4500).into(), remote: ([203, 0, 113, 2], port).into() };
        let span = Duration::from_secs;
        let mut mappings = Mappings::default();
        let mut due = |seconds, found: &[(Path, Duration)]| mappings.due(at(seconds), span(20), found);
        assert!(due(0, &[(path(4500), span(19))]).is_empty());
        assert!(due(1, &[(path(4500), span(90)), (path(4500), span(3))]).is_empty(), "another SA sends");
        assert_eq!(due(2, &[(path(4500), span(20)), (path(4500), span(90)), (path(4501), span(1))]), [path(4500)]);
        assert!(due(21, &[(path(4500), span(39))]).is_empty());
        assert_eq!(due(22, &[(path(4500), span(40))]), [path(4500)]);
        assert!(due(23, &[]).is_empty() && mappings.is_empty());
    }
}
