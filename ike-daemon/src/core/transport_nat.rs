//! Traffic selectors of transport mode through a NAT (RFC 7296 section 2.23.1): they stand for the two hosts, and each host
//! writes the addresses that it knows. What is written for an end behind a NAT gives way to the address that this host
//! knows that end by; the written one is what the peer makes its checksums with.

use super::api::{NatState, Originals};
use super::link::Ends;
use crate::wire::ts::TrafficSelector;
use std::net::IpAddr;

/// Selectors as this host means them.
pub(super) struct Substituted {
    pub(super) ts_local: Vec<TrafficSelector>,
    pub(super) ts_remote: Vec<TrafficSelector>,
    pub(super) originals: Originals,
}

/// What the peer has written, in addresses of ours. `None` where a side behind a NAT has no selector that is one address.
pub(super) fn substitute(
    nat: NatState,
    ends: Ends,
    ts_local: &[TrafficSelector],
    ts_remote: &[TrafficSelector],
) -> Option<Substituted> {
    let (ts_local, local) = side(nat.local, ends.local, ts_local)?;
    let (ts_remote, remote) = side(nat.remote, ends.remote, ts_remote)?;
    Some(Substituted { ts_local, ts_remote, originals: Originals { local, remote } })
}

/// One side, and the address the peer knows it by. All its selectors are of one address, the first one's; others are left
/// out.
fn side(behind_nat: bool, end: IpAddr, written: &[TrafficSelector]) -> Option<(Vec<TrafficSelector>, IpAddr)> {
    if !behind_nat {
        return Some((written.to_vec(), end));
    }
    let hosts = || written.iter().filter(|ts| ts.start() == ts.end() && ts.start().is_ipv4() == end.is_ipv4());
    let original = hosts().next()?.start();
    let same = hosts().filter(|ts| ts.start() == original);
    let ours = same.filter_map(|ts| TrafficSelector::new(ts.protocol(), ts.ports(), end, end).ok()).collect();
    Some((ours, original))
}
