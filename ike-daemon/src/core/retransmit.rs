//! Retransmission of requests (RFC 7296 section 2.4): identical octets at doubling intervals, then the end.

use std::time::Duration;

use super::api::{RetryPolicy, Timestamp};

/// A request on its way.
pub(super) struct Retransmission {
    /// One datagram, or the fragments of the request.
    datagrams: Vec<Vec<u8>>,
    left: u32,
    wait: Duration,
    longest: Duration,
    next: Timestamp,
    /// When there is no more waiting.
    end: Option<Timestamp>,
}

/// What is due.
pub(super) enum Due<'a> {
    /// Nothing yet.
    Nothing,
    /// Send these datagrams again.
    Resend(&'a [Vec<u8>]),
    /// The attempt has failed.
    GiveUp,
}

impl Retransmission {
    /// A request that was just sent for the first time.
    pub(super) fn start(now: Timestamp, policy: RetryPolicy, datagrams: Vec<Vec<u8>>) -> Self {
        let wait = policy.initial.min(policy.max).max(Duration::from_millis(1));
        let end = policy.patience.map(|patience| now.after(patience.max(wait)));
        let left = if end.is_some() { u32::MAX } else { policy.limit };
        Self { datagrams, left, wait, longest: policy.max.max(wait), next: now.after(wait), end }
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.next
    }

    pub(super) fn poll(&mut self, now: Timestamp) -> Due<'_> {
        if now < self.next {
            return Due::Nothing;
        }
        let Some(left) = self.left.checked_sub(1) else { return Due::GiveUp };
        if self.end.is_some_and(|end| now >= end) {
            return Due::GiveUp;
        }
        self.left = left;
        self.wait = self.wait.saturating_mul(2).min(self.longest);
        let next = now.after(self.wait);
        self.next = self.end.map_or(next, |end| next.min(end));
        Due::Resend(&self.datagrams)
    }
}
