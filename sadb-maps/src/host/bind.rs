//! Which outbound SA serves which binding (architecture section 4, RFC 4301 section 4.4.1 for what a rule asks).
//!
//! Pure functions: rules and SAs in, keys out. A negotiated SA is bound to the action it was negotiated for, and to
//! nothing else; a manual one to every protecting rule whose action it satisfies. Of several SAs for one binding the
//! newest wins.

use super::slots::Known;
use crate::Addr;
use crate::policy::{AhAlgorithm, EspAlgorithms, Rule, direction, rule_flag, verdict};
use crate::sa::{AH, BindingKey, Bundle, ESP, SaSelectors, SlotRef, flag};
use std::collections::HashMap;

/// The bindings that this SA serves under these rules.
pub(super) fn keys(sa: &Known, rules: &[Rule]) -> Vec<BindingKey> {
    if sa.flags & flag::OUTBOUND == 0 || sa.flags & flag::UNBOUND != 0 {
        return vec![];
    }
    if sa.action != 0 {
        return vec![flow(sa, BindingKey { action: sa.action, src: sa.src, dst: sa.dst, ..BindingKey::default() })];
    }
    let mut keys: Vec<BindingKey> = vec![];
    for rule in rules.iter().filter(|rule| satisfies(sa, rule)) {
        let key = BindingKey { action: rule.action_id, src: sa.src, dst: sa.dst, ..BindingKey::default() };
        let key = if rule.flags & rule_flag::UNIQUE != 0 { flow(sa, key) } else { key };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Adds the flow of a unique SA to the key.
fn flow(sa: &Known, key: BindingKey) -> BindingKey {
    match &sa.selectors {
        Some(s) if sa.flags & flag::UNIQUE != 0 => {
            let ([sport, _], [dport, _]) = (s.sport, s.dport);
            BindingKey { sport, dport, proto: s.proto, ..key }
        }
        _ => key,
    }
}

/// Whether a manual SA is what the rule asks for and carries all that the rule covers.
fn satisfies(sa: &Known, rule: &Rule) -> bool {
    if rule.verdict != verdict::PROTECT || rule.directions & direction::OUT == 0 {
        return false;
    }
    let tunnel = sa.flags & flag::TUNNEL != 0;
    if tunnel != (rule.tunnel_mode != 0) {
        return false;
    }
    let algorithm = match sa.proto {
        ESP => rule.accepts_esp(&EspAlgorithms { encr: sa.encr, encr_bits: sa.key_bits, auth: sa.auth }),
        AH => rule.accepts_ah(&AhAlgorithm(sa.auth)),
        _ => false,
    };
    // A binding has an outer source, so an SA without one cannot have a binding.
    if !algorithm || sa.src.is_unspecified() {
        return false;
    }
    // The outer addresses of a tunnel say nothing about the packets in it; its selectors do, below.
    let other_family = if sa.src.is_v4() { rule_flag::V6 } else { rule_flag::V4 };
    if !tunnel && rule.flags & other_family != 0 {
        return false;
    }
    if tunnel {
        return sa.src == rule.tunnel_local && sa.dst == rule.tunnel_remote && contains(sa, rule, true);
    }
    let ends = sa.src.in_prefix(&rule.laddr, &rule.lmask) && sa.dst.in_prefix(&rule.raddr, &rule.rmask);
    if rule.flags & rule_flag::UNIQUE != 0 {
        return ends && sa.flags & flag::UNIQUE != 0 && within(sa, rule);
    }
    ends && contains(sa, rule, false)
}

/// Whether the flow of a unique SA is one that the rule covers.
fn within(sa: &Known, rule: &Rule) -> bool {
    let Some(s) = &sa.selectors else { return false };
    (rule.proto == 0 || rule.proto == s.proto) && covers(rule.lport, s.sport) && covers(rule.rport, s.dport)
}

/// Whether the selectors of the SA hold everything that the rule matches; addresses only where they are not those of
/// the SA itself.
fn contains(sa: &Known, rule: &Rule, addresses: bool) -> bool {
    let Some(s) = &sa.selectors else { return true };
    if addresses
        && !(holds(&s.src_low, &s.src_high, &rule.laddr, &rule.lmask, rule.flags)
            && holds(&s.dst_low, &s.dst_high, &rule.raddr, &rule.rmask, rule.flags))
    {
        return false;
    }
    (s.proto == 0 || s.proto == rule.proto) && covers(s.sport, rule.lport) && covers(s.dport, rule.rport)
}

fn covers([low, high]: [u16; 2], [inner_low, inner_high]: [u16; 2]) -> bool {
    low <= inner_low && inner_high <= high
}

/// Whether the range holds the prefix. A prefix of length 0 of a rule for both families is held by a range that spans
/// one of them: packets of the other then fail the selectors of the SA and are dropped.
fn holds(low: &Addr, high: &Addr, prefix: &Addr, mask: &Addr, flags: u8) -> bool {
    if *mask == Addr::UNSPECIFIED {
        let v4 = flags & rule_flag::V6 == 0 && *low == Addr::v4(0) && *high == Addr::v4(u32::MAX);
        let v6 = flags & rule_flag::V4 == 0 && *low == Addr::UNSPECIFIED && *high == Addr([u32::MAX; 4]);
        return v4 || v6;
    }
    let [p0, p1, p2, p3] = prefix.0;
    let [m0, m1, m2, m3] = mask.0;
    let last = Addr([p0 | !m0, p1 | !m1, p2 | !m2, p3 | !m3]);
    // IPv4 lies inside the IPv6 range as ::ffff:0:0/96, but an SA for one family does not carry the other.
    low.is_v4() == prefix.is_v4() && prefix.in_range(low, high) && last.in_range(low, high)
}

/// Every binding that should be there.
pub(super) fn wanted<'a>(sas: impl Iterator<Item = &'a Known>, rules: &[Rule]) -> HashMap<BindingKey, Bundle> {
    let mut newest: HashMap<(BindingKey, u8), (u64, SlotRef)> = HashMap::new();
    for sa in sas {
        for key in keys(sa, rules) {
            let place = newest.entry((key, sa.proto)).or_insert((sa.added, sa.slot));
            if sa.added > place.0 {
                *place = (sa.added, sa.slot);
            }
        }
    }
    let mut bundles: HashMap<BindingKey, Bundle> = HashMap::new();
    for ((key, proto), (_, slot)) in newest {
        let bundle = bundles.entry(key).or_default();
        *bundle = with(*bundle, proto, slot);
    }
    bundles
}

/// The bundle with its SA of this protocol replaced: ESP goes first, AH second.
pub(super) fn with(mut bundle: Bundle, proto: u8, slot: SlotRef) -> Bundle {
    let [esp, ah] = &mut bundle.sa;
    *(if proto == AH { ah } else { esp }) = slot;
    bundle
}

/// Selectors that span every packet of the family.
pub fn any_selectors(v4: bool) -> SaSelectors {
    let (low, high) = if v4 { (Addr::v4(0), Addr::v4(u32::MAX)) } else { (Addr::UNSPECIFIED, Addr([u32::MAX; 4])) };
    SaSelectors {
        src_low: low,
        src_high: high,
        dst_low: low,
        dst_high: high,
        sport: [0, u16::MAX],
        dport: [0, u16::MAX],
        ..SaSelectors::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, MAX_ACTIONS};
    use crate::sa::encr;
    use bytemuck::Zeroable;
    use std::net::IpAddr;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    fn sa() -> Known {
        Known {
            slot: SlotRef { slot: 3, generation: 1 },
            proto: ESP,
            src: addr("192.0.2.1"),
            dst: addr("198.51.100.7"),
            flags: flag::OUTBOUND,
            encr: encr::CHACHA20_POLY1305,
            key_bits: 256,
            added: 10,
            ..Known::default()
        }
    }

    fn rule() -> Rule {
        let mut actions = [Action::default(); MAX_ACTIONS];
        actions[0] = Action { encr: encr::CHACHA20_POLY1305, encr_bits: [256, 256], ..Action::default() };
        Rule {
            verdict: verdict::PROTECT,
            directions: direction::IN | direction::OUT,
            action_id: 77,
            action_count: 1,
            lport: [0, u16::MAX],
            rport: [0, u16::MAX],
            actions,
            ..Rule::zeroed()
        }
    }

    fn tunnel() -> (Known, Rule) {
        let mut known = sa();
        known.flags |= flag::TUNNEL;
        let rule = Rule {
            tunnel_mode: 1,
            tunnel_local: known.src,
            tunnel_remote: known.dst,
            laddr: addr("10.1.0.0"),
            lmask: Addr::mask(96 + 16),
            raddr: addr("10.2.0.0"),
            rmask: Addr::mask(96 + 16),
            ..rule()
        };
        (known, rule)
    }

    #[test]
    fn a_manual_sa_serves_the_rules_it_satisfies() {
        let key = BindingKey { action: 77, src: sa().src, dst: sa().dst, ..BindingKey::default() };
        assert_eq!(keys(&sa(), &[rule(), rule()]), [key]);
        let none = |sa: Known, rule: Rule| assert_eq!(keys(&sa, &[rule]), []);
        none(Known { flags: flag::INBOUND, ..sa() }, rule());
        none(Known { flags: flag::OUTBOUND | flag::UNBOUND, ..sa() }, rule());
        none(Known { flags: flag::OUTBOUND | flag::TUNNEL, ..sa() }, rule());
        none(Known { encr: encr::AES_GCM_16, ..sa() }, rule());
        // SHA2-256 beside the cipher, which the rule does not ask for; and the other way round.
        none(Known { auth: 5, ..sa() }, rule());
        let mut cbc = rule();
        cbc.actions[0] = Action { encr: encr::AES_CBC, encr_bits: [128, 256], esp_auth: 5, ..Action::default() };
        let with = |auth| Known { encr: encr::AES_CBC, key_bits: 128, auth, ..sa() };
        assert_eq!(keys(&with(5), &[cbc]).len(), 1);
        none(with(7), cbc);
        none(with(0), cbc);
        none(Known { src: addr("0.0.0.0"), ..sa() }, rule());
        none(sa(), Rule { verdict: verdict::PASS, ..rule() });
        none(sa(), Rule { directions: direction::IN, ..rule() });
        none(sa(), Rule { flags: rule_flag::V6, ..rule() });
        none(sa(), Rule { raddr: addr("203.0.113.0"), rmask: Addr::mask(120), ..rule() });
    }

    #[test]
    fn a_tunnel_sa_holds_the_whole_rule() {
        let (known, rule) = tunnel();
        assert_eq!(keys(&known, &[rule]).len(), 1);
        let with = |selectors| keys(&Known { selectors: Some(selectors), ..known.clone() }, &[rule]).len();
        assert_eq!(with(any_selectors(true)), 1);
        assert_eq!(with(any_selectors(false)), 0);
        assert_eq!(with(SaSelectors { dst_high: addr("10.2.255.254"), ..any_selectors(true) }), 0);
        assert_eq!(with(SaSelectors { proto: 6, ..any_selectors(true) }), 0);
        let everything = Rule { laddr: Addr::UNSPECIFIED, lmask: Addr::UNSPECIFIED, ..rule };
        let wide = Known { selectors: Some(any_selectors(true)), ..known.clone() };
        assert_eq!(keys(&wide, &[everything]).len(), 1);
        assert_eq!(keys(&wide, &[Rule { flags: rule_flag::V4, ..everything }]).len(), 1);
        assert_eq!(keys(&wide, &[Rule { flags: rule_flag::V6, ..everything }]), []);
        assert_eq!(keys(&Known { dst: addr("198.51.100.8"), ..known }, &[rule]), []);
    }

    #[test]
    fn a_unique_sa_serves_its_flow_only() {
        let unique = Rule { flags: rule_flag::UNIQUE, proto: 6, ..rule() };
        assert_eq!(keys(&sa(), &[unique]), []);
        let mut known = sa();
        known.flags |= flag::UNIQUE;
        known.selectors = Some(SaSelectors { sport: [5, 5], dport: [80, 80], proto: 6, ..any_selectors(true) });
        let [key] = keys(&known, &[unique])[..] else { panic!("one binding expected") };
        assert_eq!((key.sport, key.dport, key.proto), (5, 80, 6));
        assert_eq!(keys(&known, &[Rule { proto: 17, ..unique }]), []);
    }

    #[test]
    fn the_newest_sa_wins_and_a_negotiated_one_keeps_to_its_action() {
        let new = Known { slot: SlotRef { slot: 4, generation: 9 }, added: 11, ..sa() };
        for order in [[sa(), new.clone()], [new.clone(), sa()]] {
            let bound = wanted(order.iter(), &[rule()]);
            assert_eq!(bound.values().map(|b| b.sa[0]).collect::<Vec<_>>(), [new.slot]);
        }
        let negotiated = Known { action: 5, ..sa() };
        assert_eq!(keys(&negotiated, &[rule()]).iter().map(|k| k.action).collect::<Vec<_>>(), [5]);
    }
}
