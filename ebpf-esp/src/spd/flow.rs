//! The flow cache in front of the classifier: what it found for the last packets of this CPU, in sets of two flows.
//!
//! A cache for each CPU needs no lock and has no reader that could meet a half-written entry, which a shared table that
//! reuses its entries has. An entry is good for its generation only.

use sadb_maps::policy::Selectors;
use sadb_maps::spd::{FLOW_SETS, Flow, FlowSet};

/// Odd, without a pattern: the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a packet is judged by: everything that [`first_match`](super::first_match) depends on.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The packet.
    pub packet: &'a Selectors,
    /// Generation in force.
    pub generation: u32,
    /// Direction bit.
    pub direction: u32,
    /// [`scope`](sadb_maps::spd::scope).
    pub scope: u32,
}

/// The selectors as five words.
#[inline(always)]
fn words(packet: &Selectors) -> [u64; 5] {
    const _: () = assert!(size_of::<Selectors>() == size_of::<[u64; 5]>());
    // SAFETY: plain data of that size.
    unsafe { (packet as *const Selectors).cast::<[u64; 5]>().read_unaligned() }
}

/// Set for the question; `seed` keeps others from choosing packets that share one.
#[inline(always)]
pub fn set_of(question: &Question<'_>, seed: u32) -> u32 {
    let mut hash = seed as u64 | (question.direction as u64) << 32 | (question.scope as u64) << 34;
    for word in words(question.packet) {
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 29;
    }
    (hash >> 32) as u32 & (FLOW_SETS - 1)
}

#[inline(always)]
fn answers(flow: &Flow, question: &Question<'_>) -> bool {
    let [a, b, c, d, e] = words(&flow.selectors);
    let [f, g, h, i, j] = words(question.packet);
    (a ^ f) | (b ^ g) | (c ^ h) | (d ^ i) | (e ^ j) == 0
        && flow.generation == question.generation
        && flow.direction == question.direction
        && flow.scope == question.scope
}

/// The rule that was found for the same question.
#[inline(always)]
pub fn recall(set: &mut FlowSet, question: &Question<'_>) -> Option<u32> {
    let [first, second] = &set.flows;
    if answers(first, question) {
        set.second_used = 0;
        return Some(first.rule);
    }
    if answers(second, question) {
        set.second_used = 1;
        return Some(second.rule);
    }
    None
}

/// Remembers what was found, in the place of the flow that was not the last to be used.
#[inline(always)]
pub fn remember(set: &mut FlowSet, question: &Question<'_>, rule: u32) {
    let [first, second] = &mut set.flows;
    let (flow, used) = if set.second_used != 0 { (first, 0) } else { (second, 1) };
    flow.selectors = *question.packet;
    flow.generation = question.generation;
    flow.direction = question.direction;
    flow.scope = question.scope;
    flow.rule = rule;
    set.second_used = used;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(rport: u16) -> Selectors {
        Selectors { rport, proto: 6, ..Selectors::default() }
    }

    fn question(packet: &Selectors) -> Question<'_> {
        Question { packet, generation: 7, direction: 2, scope: 1 }
    }

    #[test]
    fn a_flow_is_remembered_for_its_generation_direction_and_scope_only() {
        let mut set = FlowSet::default();
        let packet = packet(80);
        let asked = question(&packet);
        assert_eq!(recall(&mut set, &asked), None);
        remember(&mut set, &asked, 5);
        assert_eq!(recall(&mut set, &asked), Some(5));
        assert_eq!(recall(&mut set, &Question { generation: 8, ..asked }), None);
        assert_eq!(recall(&mut set, &Question { direction: 1, ..asked }), None);
        assert_eq!(recall(&mut set, &Question { scope: 0, ..asked }), None);
        let other = Selectors { opaque: 1, ..packet };
        assert_eq!(recall(&mut set, &question(&other)), None);
    }

    #[test]
    fn the_flow_used_last_stays() {
        let mut set = FlowSet::default();
        let packets = [packet(1), packet(2), packet(3)];
        remember(&mut set, &question(&packets[0]), 1);
        remember(&mut set, &question(&packets[1]), 2);
        assert_eq!(recall(&mut set, &question(&packets[0])), Some(1));
        remember(&mut set, &question(&packets[2]), 3);
        let found = packets.map(|p| recall(&mut set, &question(&p)));
        assert_eq!(found, [Some(1), None, Some(3)]);
    }

    #[test]
    fn flows_spread_over_the_sets() {
        let mut used = vec![0u32; FLOW_SETS as usize];
        for port in 0..FLOW_SETS {
            let packet = packet(port as u16);
            used[set_of(&question(&packet), 1) as usize] += 1;
        }
        assert!(used.iter().all(|n| *n < 16));
        // Balls thrown at random leave 1/e of the sets empty.
        assert!(used.iter().filter(|n| **n == 0).count() < FLOW_SETS as usize / 2);
    }
}
