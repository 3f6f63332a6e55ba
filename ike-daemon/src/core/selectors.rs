//! Narrowing of traffic selectors (RFC 7296 section 2.9).

use crate::wire::ts::TrafficSelector;

/// Selectors in one answer: enough for any policy, few enough for any peer.
const MAX_SELECTORS: usize = 64;

/// What of the peer's offer policy permits: every intersection, without those another one covers. Empty when there is none.
pub(super) fn narrow(offered: &[TrafficSelector], permitted: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut narrowed: Vec<TrafficSelector> = Vec::new();
    for both in offered.iter().flat_map(|o| permitted.iter().filter_map(|p| o.intersect(p))) {
        if narrowed.iter().any(|kept| kept.contains(&both)) {
            continue;
        }
        narrowed.retain(|kept| !both.contains(kept));
        if narrowed.len() < MAX_SELECTORS {
            narrowed.push(both);
        }
    }
    narrowed
}

/// Whether every selector of `inner` lies in one of `outer`.
pub(super) fn covered(inner: &[TrafficSelector], outer: &[TrafficSelector]) -> bool {
    inner.iter().all(|i| outer.iter().any(|o| o.contains(i)))
}

/// The offer for a policy: the packet's own selector first when there is one (section 2.9).
pub(super) fn offer(packet: Option<TrafficSelector>, policy: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let packet = packet.filter(|p| !policy.contains(p) && policy.iter().any(|t| t.contains(p)));
    packet.into_iter().chain(policy.iter().copied()).take(MAX_SELECTORS).collect()
}

/// Selectors in words.
pub(super) fn describe(selectors: &[TrafficSelector]) -> String {
    let words: Vec<String> = selectors.iter().take(8).map(ToString::to_string).collect();
    format!("[{}]", words.join(", "))
}
