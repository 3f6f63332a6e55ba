//! What is believed of a router that says how much it passes on (RFC 1191, RFC 8201, RFC 4301 section 8.2). Its word is not
//! authentic, so it only ever lowers what is known, not below a floor, and is forgotten after [`PATH_MTU_AGE`].

use sadb_maps::sa::{PATH_MTU_AGE, PathMtu};

/// The least that is believed, as in Linux (`net.ipv4.route.min_pmtu`): less costs more than it brings.
const LEAST_V4: u32 = 552;
/// RFC 8200 section 5.
const LEAST_V6: u32 = 1280;

/// What is to be kept after a router has said `octets` in the second `now` of boot time, when `known` is kept already.
/// `None`: nothing changes, because it says nothing (before RFC 1191) or not less than is known.
#[inline(always)]
pub fn learned(known: Option<PathMtu>, octets: u32, v4: bool, now: u32) -> Option<PathMtu> {
    if octets == 0 {
        return None;
    }
    let least = if v4 { LEAST_V4 } else { LEAST_V6 };
    let said = PathMtu { octets: if octets < least { least } else { octets }, at: now };
    match known {
        // Said again it may stand for longer: the way has not become wider.
        Some(known) if is_fresh(known, now) && known.octets < said.octets => None,
        _ => Some(said),
    }
}

/// Octets that pass on a way whose first link passes `mtu`, in the second `now` of boot time.
#[inline(always)]
pub fn heeded(known: PathMtu, mtu: u32, now: u32) -> u32 {
    if !is_fresh(known, now) || known.octets > mtu { mtu } else { known.octets }
}

#[inline(always)]
fn is_fresh(known: PathMtu, now: u32) -> bool {
    now.wrapping_sub(known.at) <= PATH_MTU_AGE
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 5000;

    fn said(octets: u32, at: u32) -> Option<PathMtu> {
        Some(PathMtu { octets, at })
    }

    /// ARC-ICMP-02, TUN-11: lowered by anyone who knows the SPI, never raised, and not below the floor.
    #[test]
    fn what_a_router_says_only_lowers() {
        assert_eq!(learned(None, 1400, true, NOW), said(1400, NOW));
        assert_eq!(learned(said(1400, NOW - 1), 1300, true, NOW), said(1300, NOW));
        assert_eq!(learned(said(1300, NOW - 1), 1300, true, NOW), said(1300, NOW));
        assert_eq!(learned(said(1300, NOW - 1), 1301, true, NOW), None);
        assert_eq!(learned(said(1300, NOW - 1), u32::MAX, true, NOW), None);
        assert_eq!(learned(said(1300, NOW - 1), 0, true, NOW), None);
        assert_eq!(learned(None, 1, true, NOW), said(LEAST_V4, NOW));
        assert_eq!(learned(None, 1279, false, NOW), said(LEAST_V6, NOW));
        assert_eq!(learned(said(LEAST_V4, NOW), 68, true, NOW), said(LEAST_V4, NOW));
    }

    /// TUN-12: forgotten after ten minutes, so that it may grow again.
    #[test]
    fn what_a_router_has_said_ages() {
        let known = PathMtu { octets: 1300, at: NOW };
        for (age, passes) in [(0, 1300), (PATH_MTU_AGE, 1300), (PATH_MTU_AGE + 1, 1500)] {
            assert_eq!(heeded(known, 1500, NOW + age), passes);
        }
        assert_eq!(learned(Some(known), 1400, true, NOW + PATH_MTU_AGE), None);
        assert_eq!(learned(Some(known), 1400, true, NOW + PATH_MTU_AGE + 1), said(1400, NOW + PATH_MTU_AGE + 1));
        // Nobody raises the first link.
        assert_eq!(heeded(known, 1280, NOW), 1280);
    }
}
