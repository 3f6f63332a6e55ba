//! Packets that wait for an SA, by binding: four of each flow, the newest; for fifteen seconds; so many of a binding, so that a flood
//! for one peer leaves room for the others, and so many in all.
//!
//! Only the books are here. [`DriverHost`](super::host::DriverHost) knows when there is an SA, or will be none.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use sadb_maps::host::{Flow, HeldPacket};
use sadb_maps::sa::BindingKey;

use crate::core::api::Timestamp;

/// Packets of one flow, as many as wait for one ACQUIRE on Solaris (`ipsacq_maxpackets`).
const PER_FLOW: usize = 4;

/// Packets that wait for the SA of one binding.
const PER_BINDING: usize = 64;

/// Packets that wait in all: a packet is at most 3,600 octets long, so these take less than 4 MiB.
const IN_ALL: usize = 1024;

/// How long a packet waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// What became of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HoldCounts {
    /// Taken.
    pub(super) taken: u64,
    /// Sent when their SA was there.
    pub(super) sent: u64,
    /// Dropped for newer ones.
    pub(super) replaced: u64,
    /// Dropped because no SA came in time.
    pub(super) expired: u64,
    /// Dropped because the negotiation failed.
    pub(super) refused: u64,
    /// Dropped because they could not be sent.
    pub(super) unsent: u64,
}

/// The packets, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    packets: BTreeMap<u64, (Timestamp, HeldPacket)>,
    bindings: HashMap<BindingKey, VecDeque<(u64, Flow)>>,
    next: u64,
    pub(super) counts: HoldCounts,
}

impl Waiting {
    /// Takes a packet; the oldest of its flow, of its binding, or of all, makes room.
    pub(super) fn push(&mut self, now: Timestamp, packet: HeldPacket) {
        self.counts.taken += 1;
        let own = self.bindings.entry(packet.binding).or_default();
        let flow = packet.flow();
        let like = |(_, other): &&(u64, Flow)| *other == flow;
        let displaced = if own.iter().filter(like).count() == PER_FLOW {
            own.iter().find(like)
        } else if own.len() == PER_BINDING {
            own.front()
        } else {
            None
        };
        let displaced = displaced.map(|(number, _)| *number);
        own.push_back((self.next, flow));
        self.packets.insert(self.next, (now, packet));
        self.next += 1;
        let oldest = || self.packets.first_key_value().map(|(number, _)| *number);
        if let Some(number) = displaced.or_else(|| if self.packets.len() > IN_ALL { oldest() } else { None }) {
            self.remove(number);
            self.counts.replaced += 1;
        }
    }

    fn remove(&mut self, number: u64) -> Option<BindingKey> {
        let (_, packet) = self.packets.remove(&number)?;
        if let Some(own) = self.bindings.get_mut(&packet.binding) {
            own.retain(|(other, _)| *other != number);
            if own.is_empty() {
                self.bindings.remove(&packet.binding);
            }
        }
        Some(packet.binding)
    }

    /// The packets of a binding, in the order in which they came. What becomes of them is the caller's to count.
    pub(super) fn take(&mut self, binding: &BindingKey) -> Vec<HeldPacket> {
        let numbers = self.bindings.remove(binding).unwrap_or_default();
        numbers.iter().filter_map(|(number, _)| self.packets.remove(number)).map(|(_, packet)| packet).collect()
    }

    /// Drops the packets of a binding for which there will be no SA, and says how many.
    pub(super) fn refuse(&mut self, binding: &BindingKey) -> usize {
        let count = self.take(binding).len();
        self.counts.refused += count as u64;
        count
    }

    /// Drops the packets that have waited too long, and gives their bindings, one for each packet.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<BindingKey> {
        let mut expired = Vec::new();
        while let Some((number, (came, _))) = self.packets.first_key_value()
            && now.since(*came) >= PATIENCE
        {
            let number = *number;
            expired.extend(self.remove(number));
        }
        self.counts.expired += expired.len() as u64;
        expired
    }

    /// The bindings that have packets here.
    pub(super) fn bindings(&self) -> Vec<BindingKey> {
        self.bindings.keys().copied().collect()
    }

    /// Number of packets.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(action: u64) -> BindingKey {
        BindingKey { action, ..BindingKey::default() }
    }

    fn packet(action: u64, payload: u8) -> HeldPacket {
        of_flow(action, 53, payload)
    }

    fn of_flow(action: u64, dport: u16, payload: u8) -> HeldPacket {
        HeldPacket::for_tests(binding(action), dport, payload)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_duration(Duration::from_secs(100 + seconds))
    }

    #[test]
    fn the_four_newest_of_a_flow_are_kept_in_order() {
        let mut waiting = Waiting::default();
        for payload in 0..10 {
            waiting.push(at(0), packet(1, payload));
        }
        waiting.push(at(0), packet(2, 77));
        assert_eq!((waiting.len(), waiting.counts.taken, waiting.counts.replaced), (5, 11, 6));
        assert_eq!(waiting.take(&binding(1)), [6, 7, 8, 9].map(|payload| packet(1, payload)));
        assert_eq!(waiting.take(&binding(1)), []);
        assert_eq!(waiting.bindings(), [binding(2)]);
        assert_eq!(waiting.refuse(&binding(2)), 1);
        assert_eq!((waiting.refuse(&binding(2)), waiting.counts.refused, waiting.len()), (0, 1, 0));
    }

    #[test]
    fn a_flow_does_not_drive_out_another_of_its_binding() {
        let mut waiting = Waiting::default();
        waiting.push(at(0), of_flow(1, 22, 0));
        for payload in 1..10 {
            waiting.push(at(0), of_flow(1, 53, payload));
        }
        waiting.push(at(0), of_flow(1, 22, 10));
        let kept = [(22, 0), (53, 6), (53, 7), (53, 8), (53, 9), (22, 10)];
        assert_eq!(waiting.take(&binding(1)), kept.map(|(dport, payload)| of_flow(1, dport, payload)));
        assert_eq!((waiting.len(), waiting.counts.replaced), (0, 5));
    }

    #[test]
    fn a_flood_of_flows_has_its_bound_and_leaves_other_bindings_alone() {
        let mut waiting = Waiting::default();
        waiting.push(at(0), packet(2, 1));
        for dport in 0..1000 {
            waiting.push(at(0), of_flow(1, dport, 0));
        }
        assert_eq!(waiting.len(), PER_BINDING + 1);
        assert_eq!(waiting.take(&binding(2)), [packet(2, 1)]);
        let last = waiting.take(&binding(1));
        assert_eq!((last.first(), last.last()), (Some(&of_flow(1, 936, 0)), Some(&of_flow(1, 999, 0))));
    }

    #[test]
    fn many_bindings_drive_out_the_oldest_packets() {
        let mut waiting = Waiting::default();
        for action in 0..3 * IN_ALL as u64 {
            waiting.push(at(0), packet(action, 0));
            assert!(waiting.len() <= IN_ALL && waiting.bindings.len() <= IN_ALL);
        }
        assert_eq!(waiting.counts.replaced, 2 * IN_ALL as u64);
        assert!(waiting.take(&binding(2 * IN_ALL as u64 - 1)).is_empty());
        assert_eq!(waiting.take(&binding(2 * IN_ALL as u64)).len(), 1);
    }

    #[test]
    fn nobody_waits_longer_than_fifteen_seconds() {
        let mut waiting = Waiting::default();
        for second in 0..4 {
            waiting.push(at(second), packet(second / 2, 0));
        }
        assert!(waiting.expire(at(14)).is_empty());
        assert_eq!(waiting.expire(at(17)), [binding(0), binding(0), binding(1)]);
        assert_eq!((waiting.len(), waiting.bindings(), waiting.counts.expired), (1, vec![binding(1)], 3));
        assert_eq!(waiting.expire(at(100)), [binding(1)]);
        assert!(waiting.bindings().is_empty());
    }
}
