//! From rules of the SPD to what the core negotiates for: the extended ACQUIRE of a packet and the inverse ACQUIRE of a
//! responder, as pure functions (spec sections 8.3 and 8.4; RFC 7296 section 2.9).
//!
//! Every policy that goes to the core has one selector per side, so that whatever comes out of narrowing against it has one
//! that covers the others, and an SA can hold it.

use std::net::IpAddr;

use sadb_maps::Addr;
use sadb_maps::event::Event;
use sadb_maps::host::CompiledRule;
use sadb_maps::policy::{Action, Rule, Selectors, direction, rule_flag, verdict};

use super::algorithms;
use crate::core::api::{Acquire, ChildPolicy, ChildQuery, ChildRefusal, ChildSuite, EsnPolicy, Mode};
use crate::wire::ts::{Ports, TrafficSelector};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Why a request of the data path leads to no negotiation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AcquireError {
    #[error("its policy is no longer in force")]
    Stale,
    #[error("tunnel {0} has no ends; espadm tunnel create gives it some")]
    NoEnds(String),
    #[error("{0} asks for no algorithm that can be negotiated, or that the table of algorithms has (ipsecalgs -l)")]
    NoSuite(String),
    #[error("{0} asks for AH around ESP, which no child SA of IKEv2 is (RFC 7296 section 3.3); keys by hand do it")]
    Bundle(String),
    #[error("{0} and the packet are of different address families")]
    Family(String),
}

/// The request behind an ACQUIRE event.
pub(super) fn acquire(id: u64, event: &Event, rules: &[CompiledRule]) -> Result<Acquire, AcquireError> {
    let compiled = by_action(rules, event.binding.action).ok_or(AcquireError::Stale)?;
    let rule = &compiled.rule;
    let (local, remote) = (IpAddr::from(event.binding.src), IpAddr::from(event.binding.dst));
    if local.is_unspecified() || remote.is_unspecified() {
        return Err(AcquireError::NoEnds(compiled.tunnel.clone().unwrap_or_default()));
    }
    let packet = packet_selectors(&event.packet);
    let (ts_local, ts_remote) = if rule.tunnel_mode != 0 {
        let v4 = event.packet.laddr.is_v4();
        rule_selectors(rule, v4).ok_or_else(|| AcquireError::Family(source(compiled)))?
    } else {
        transport_selectors(rule, &event.packet).ok_or_else(|| AcquireError::Family(source(compiled)))?
    };
    let policy = child_policy(compiled, ts_local, ts_remote).ok_or_else(|| no_suite(compiled))?;
    let packet = packet.filter(|(l, r)| ts_local.contains(l) && ts_remote.contains(r));
    Ok(Acquire { id, local, remote, policy, packet, rule_label: None })
}

/// The request that replaces a pair without an owner: what its rule says now, for the addresses the pair has.
pub(super) fn replacement(
    id: u64,
    action: u64,
    local: IpAddr,
    remote: IpAddr,
    rules: &[CompiledRule],
) -> Result<Acquire, AcquireError> {
    let compiled = by_action(rules, action).ok_or(AcquireError::Stale)?;
    let packet = Selectors { laddr: local.into(), raddr: remote.into(), ..Selectors::default() };
    let selectors = if compiled.rule.tunnel_mode != 0 {
        // A rule without addresses protects both families; the family of the outer addresses is as good a guess as any,
        // and traffic of the other one asks for itself.
        rule_selectors(&compiled.rule, local.is_ipv4()).or_else(|| rule_selectors(&compiled.rule, local.is_ipv6()))
    } else {
        transport_selectors(&compiled.rule, &packet)
    };
    let (ts_local, ts_remote) = selectors.ok_or_else(|| AcquireError::Family(source(compiled)))?;
    let policy = child_policy(compiled, ts_local, ts_remote).ok_or_else(|| no_suite(compiled))?;
    Ok(Acquire { id, local, remote, policy, packet: None, rule_label: None })
}

/// What policy says about a child that a peer asks for.
pub(super) fn inverse_acquire(query: &ChildQuery<'_>, rules: &[CompiledRule]) -> Result<ChildPolicy, ChildRefusal> {
    let refuse = |reason: String| ChildRefusal { reason };
    if let Some((_, action)) = query.rekeys
        && let Some(compiled) = by_action(rules, action)
    {
        // The rule of the pair that is replaced goes first; if it no longer fits, the others are as good.
        if let Some(policy) = fit(compiled, query) {
            return Ok(policy);
        }
    }
    let outbound = rules.iter().filter(|compiled| compiled.rule.directions & direction::OUT != 0);
    let mut other_mode = None;
    for compiled in outbound {
        if compiled.rule.verdict != verdict::PROTECT || !ends_fit(&compiled.rule, query) {
            continue;
        }
        let Some(policy) = fit(compiled, query) else { continue };
        if policy.mode == Mode::Transport && query.mode == Mode::Tunnel {
            other_mode.get_or_insert(policy.source);
            continue;
        }
        return Ok(policy);
    }
    let traffic = || {
        let list = |ts: &[TrafficSelector]| ts.iter().map(TrafficSelector::to_string).collect::<Vec<_>>().join(", ");
        format!("{} <-> {}", list(query.ts_local), list(query.ts_remote))
    };
    Err(refuse(match other_mode {
        Some(source) => format!("{source} wants transport mode for {}, the peer asked for tunnel mode", traffic()),
        None => format!("no rule protects {} between {} and {}", traffic(), query.local, query.remote),
    }))
}

/// One selector that covers all of `selectors`, if one of them does.
pub(super) fn covering(selectors: &[TrafficSelector]) -> Option<TrafficSelector> {
    selectors.iter().find(|one| selectors.iter().all(|other| one.contains(other))).copied()
}

/// The words for a rule in logs.
fn source(compiled: &CompiledRule) -> String {
    match &compiled.tunnel {
        Some(tunnel) => format!("ipsecinit.conf entry {} (tunnel {tunnel})", compiled.rule.index),
        None => format!("ipsecinit.conf entry {}", compiled.rule.index),
    }
}

fn by_action(rules: &[CompiledRule], action: u64) -> Option<&CompiledRule> {
    rules.iter().find(|compiled| compiled.rule.action_id == action && compiled.rule.verdict == verdict::PROTECT)
}

/// Whether SAs of the rule would run between the ends of the query.
fn ends_fit(rule: &Rule, query: &ChildQuery<'_>) -> bool {
    if rule.tunnel_mode != 0 {
        return rule.tunnel_local == Addr::from(query.local) && rule.tunnel_remote == Addr::from(query.remote);
    }
    let (local, remote) = (Addr::from(query.local), Addr::from(query.remote));
    local.in_prefix(&rule.laddr, &rule.lmask) && remote.in_prefix(&rule.raddr, &rule.rmask)
}

/// The policy of one rule for the query, if its selectors and the peer's have something in common.
fn fit(compiled: &CompiledRule, query: &ChildQuery<'_>) -> Option<ChildPolicy> {
    let rule = &compiled.rule;
    // Transport mode protects the two hosts' own packets and nobody else's, however much the peer offers.
    let transport = rule.tunnel_mode == 0;
    let offered = |ts: &[TrafficSelector], end: IpAddr| -> Vec<TrafficSelector> {
        if !transport {
            return ts.to_vec();
        }
        let host = |ts: &TrafficSelector| TrafficSelector::new(ts.protocol(), ts.ports(), end, end).ok();
        ts.iter().filter_map(|ts| host(ts).filter(|host| ts.contains(host))).collect()
    };
    let pick = if rule.flags & rule_flag::UNIQUE != 0 { first_flow } else { widest };
    let local = pick(&offered(query.ts_local, query.local), &|v4| selector(rule, Side::Local, v4))?;
    let remote = pick(&offered(query.ts_remote, query.remote), &|v4| selector(rule, Side::Remote, v4))?;
    if local.start().is_ipv4() != remote.start().is_ipv4() {
        return None;
    }
    child_policy(compiled, local, remote)
}

/// The largest piece of the rule's selector that one of the peer's selectors leaves. The peer's first selector is often
/// just the packet that caused its request.
fn widest(offered: &[TrafficSelector], ours: &dyn Fn(bool) -> Option<TrafficSelector>) -> Option<TrafficSelector> {
    let mut best: Option<TrafficSelector> = None;
    for ts in offered {
        let Some(common) = ours(ts.start().is_ipv4()).and_then(|own| own.intersect(ts)) else { continue };
        if best.is_none_or(|best| common.contains(&best)) {
            best = Some(common);
        }
    }
    best
}

/// The first piece that is one end of one flow: what a rule with an SA for each flow can grant.
fn first_flow(offered: &[TrafficSelector], ours: &dyn Fn(bool) -> Option<TrafficSelector>) -> Option<TrafficSelector> {
    let common = offered.iter().filter_map(|ts| ours(ts.start().is_ipv4())?.intersect(ts));
    common.filter(|ts| ts.protocol() != 0).find(|ts| matches!(ts.ports(), Ports::Range(low, high) if low == high))
}

fn actions(rule: &Rule) -> impl Iterator<Item = &Action> {
    rule.actions.iter().take(usize::try_from(rule.action_count).unwrap_or(usize::MAX))
}

/// Why nothing of the rule can be negotiated.
fn no_suite(compiled: &CompiledRule) -> AcquireError {
    let source = source(compiled);
    let bundle = actions(&compiled.rule).any(|action| action.ah != 0 && action.encr != 0);
    if bundle { AcquireError::Bundle(source) } else { AcquireError::NoSuite(source) }
}

fn child_policy(compiled: &CompiledRule, ts_local: TrafficSelector, ts_remote: TrafficSelector) -> Option<ChildPolicy> {
    let rule = &compiled.rule;
    let suites: Vec<ChildSuite> = actions(rule).flat_map(algorithms::suites).collect();
    if suites.is_empty() {
        return None;
    }
    Some(ChildPolicy {
        action: rule.action_id,
        source: source(compiled),
        mode: if rule.tunnel_mode != 0 { Mode::Tunnel } else { Mode::Transport },
        suites,
        esn: EsnPolicy::Preferred,
        ts_local: vec![ts_local],
        ts_remote: vec![ts_remote],
    })
}

#[derive(Clone, Copy)]
enum Side {
    Local,
    Remote,
}

/// Both selectors of a rule in one family.
fn rule_selectors(rule: &Rule, v4: bool) -> Option<(TrafficSelector, TrafficSelector)> {
    Some((selector(rule, Side::Local, v4)?, selector(rule, Side::Remote, v4)?))
}

/// One selector of a rule in one family; `None` where the rule is of the other one.
fn selector(rule: &Rule, side: Side, v4: bool) -> Option<TrafficSelector> {
    if rule.flags & (if v4 { rule_flag::V6 } else { rule_flag::V4 }) != 0 {
        return None;
    }
    let (address, mask, ports) = match side {
        Side::Local => (&rule.laddr, &rule.lmask, rule.lport),
        Side::Remote => (&rule.raddr, &rule.rmask, rule.rport),
    };
    let (start, end) = if *mask == Addr::UNSPECIFIED {
        any_address(v4)
    } else {
        let start = Addr(std::array::from_fn(|i| word(address, i) & word(mask, i)));
        let end = Addr(std::array::from_fn(|i| word(address, i) | !word(mask, i)));
        (IpAddr::from(start), IpAddr::from(end))
    };
    if start.is_ipv4() != v4 || end.is_ipv4() != v4 {
        return None;
    }
    TrafficSelector::new(rule.proto, rule_ports(rule, ports), start, end).ok()
}

fn word(address: &Addr, index: usize) -> u32 {
    address.0.get(index).copied().unwrap_or(0)
}

fn any_address(v4: bool) -> (IpAddr, IpAddr) {
    if v4 {
        (IpAddr::from([0; 4]), IpAddr::from([u8::MAX; 4]))
    } else {
        (IpAddr::from([0; 16]), IpAddr::from([u8::MAX; 16]))
    }
}

/// Ports of a rule; type and code of ICMP in their place (RFC 7296 section 3.13.1).
fn rule_ports(rule: &Rule, [low, high]: [u16; 2]) -> Ports {
    if rule.flags & rule_flag::ICMP != 0 {
        let [type_low, type_high] = rule.icmp_type;
        let [code_low, code_high] = rule.icmp_code;
        return Ports::Range(u16::from_be_bytes([type_low, code_low]), u16::from_be_bytes([type_high, code_high]));
    }
    Ports::Range(low, high)
}

/// Selectors of a transport mode SA: the addresses of the packet; protocol and ports where the policy names them, or
/// all of the packet's where it wants an SA for each flow.
fn transport_selectors(rule: &Rule, packet: &Selectors) -> Option<(TrafficSelector, TrafficSelector)> {
    let (local, remote) = (IpAddr::from(packet.laddr), IpAddr::from(packet.raddr));
    let unique = rule.flags & rule_flag::UNIQUE != 0;
    let (protocol, lport, rport) = if unique {
        (packet.proto, Ports::Range(packet.lport, packet.lport), Ports::Range(packet.rport, packet.rport))
    } else {
        (rule.proto, rule_ports(rule, rule.lport), rule_ports(rule, rule.rport))
    };
    Some((
        TrafficSelector::new(protocol, lport, local, local).ok()?,
        TrafficSelector::new(protocol, rport, remote, remote).ok()?,
    ))
}

/// The packet itself as selectors.
fn packet_selectors(packet: &Selectors) -> Option<(TrafficSelector, TrafficSelector)> {
    if packet.opaque != 0 {
        return None;
    }
    let ports = |port| match packet.proto {
        ICMP | ICMPV6 => Ports::ANY,
        _ => Ports::Range(port, port),
    };
    let one = |address: Addr, port| {
        let address = IpAddr::from(address);
        TrafficSelector::new(packet.proto, ports(port), address, address).ok()
    };
    Some((one(packet.laddr, packet.lport)?, one(packet.raddr, packet.rport)?))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use sadb_maps::policy::MAX_ACTIONS;
    use sadb_maps::sa::{BindingKey, encr};

    use super::*;
    use crate::core::api::{ChildLifetimes, IdPattern, LocalIdentity, RetryPolicy, SourceLine, SpiPair};
    use crate::wire::id::Identification;
    use crate::wire::transform::{Encr, GroupId};

    pub(crate) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ts(low: &str, high: &str) -> TrafficSelector {
        TrafficSelector::new(0, Ports::ANY, ip(low), ip(high)).unwrap()
    }

    /// A rule without addresses for both directions, ChaCha20-Poly1305 before AES-GCM of every length.
    pub(crate) fn host_rule(action_id: u64) -> CompiledRule {
        let mut actions = [Action::default(); MAX_ACTIONS];
        actions[0] = Action { encr: encr::CHACHA20_POLY1305, encr_bits: [256, 256], ..Action::default() };
        actions[1] = Action { encr: encr::AES_GCM_16, encr_bits: [128, 256], ..Action::default() };
        let rule = Rule {
            laddr: Addr::default(),
            lmask: Addr::default(),
            raddr: Addr::default(),
            rmask: Addr::default(),
            lport: [0, u16::MAX],
            rport: [0, u16::MAX],
            proto: 0,
            directions: direction::IN | direction::OUT,
            verdict: verdict::PROTECT,
            flags: 0,
            icmp_type: [0; 2],
            icmp_code: [0; 2],
            priority: 0,
            index: 1,
            action_id,
            action_count: 2,
            tunnel_mode: 0,
            tunnel_local: Addr::default(),
            tunnel_remote: Addr::default(),
            scope: 0,
            reserved: 0,
            actions,
        };
        CompiledRule { rule, tunnel: None }
    }

    /// 10.1.0.0/16 here, 10.2.0.0/16 there, between 192.0.2.1 and 192.0.2.2.
    pub(crate) fn tunnel_rule(action_id: u64) -> CompiledRule {
        let mut compiled = host_rule(action_id);
        let rule = &mut compiled.rule;
        (rule.laddr, rule.raddr) = (ip("10.1.0.0").into(), ip("10.2.0.0").into());
        (rule.lmask, rule.rmask) = (Addr::mask(112), Addr::mask(112));
        rule.flags = rule_flag::TUNNEL;
        rule.tunnel_mode = 1;
        (rule.tunnel_local, rule.tunnel_remote) = (ip("192.0.2.1").into(), ip("192.0.2.2").into());
        compiled.tunnel = Some("vpn0".into());
        compiled
    }

    pub(crate) fn event(rule: &CompiledRule, local: &str, remote: &str) -> Event {
        let packet = Selectors {
            laddr: ip(local).into(),
            raddr: ip(remote).into(),
            lport: 4000,
            rport: 80,
            proto: 6,
            ..Selectors::default()
        };
        Event { binding: rule.rule.binding(&packet), packet, ..Event::default() }
    }

    fn ike_rule() -> crate::core::api::Rule {
        crate::core::api::Rule {
            label: "a".into(),
            source: SourceLine { file: "f".into(), line: 1 },
            local_id: LocalIdentity::Address,
            remote_id: IdPattern::Any,
            local_auth: crate::core::api::AuthBy::Preshared,
            remote_auth: crate::core::api::AuthBy::Preshared,
            required_issuer: None,
            psk: None,
            proposals: Vec::new(),
            ikesa_lifetime: Duration::ZERO,
            child_lifetimes: ChildLifetimes::default(),
            childsa_pfs: GroupId::NONE,
            retry: RetryPolicy::default(),
            dpd_interval: Duration::ZERO,
        }
    }

    fn ask(
        mode: Mode,
        ts_local: &[TrafficSelector],
        ts_remote: &[TrafficSelector],
        rekeys: Option<(SpiPair, u64)>,
        rules: &[CompiledRule],
    ) -> Result<ChildPolicy, ChildRefusal> {
        let (rule, remote_id) = (ike_rule(), Identification::address(ip("192.0.2.2")));
        let query = ChildQuery {
            local: ip("192.0.2.1"),
            remote: ip("192.0.2.2"),
            rule: &rule,
            remote_id: &remote_id,
            mode,
            ts_local,
            ts_remote,
            rekeys,
        };
        inverse_acquire(&query, rules)
    }

    #[test]
    fn a_tunnel_asks_for_the_rules_prefixes_and_names_the_packet() {
        let rules = [tunnel_rule(7)];
        let acquire = acquire(1, &event(&rules[0], "10.1.0.5", "10.2.0.9"), &rules).unwrap();
        assert_eq!((acquire.local, acquire.remote), (ip("192.0.2.1"), ip("192.0.2.2")));
        let policy = acquire.policy;
        assert_eq!((policy.mode, policy.action), (Mode::Tunnel, 7));
        assert_eq!(policy.ts_local, [ts("10.1.0.0", "10.1.255.255")]);
        assert_eq!(policy.ts_remote, [ts("10.2.0.0", "10.2.255.255")]);
        assert_eq!(
            policy.suites.iter().filter_map(|suite| suite.encr).collect::<Vec<_>>(),
            [Encr::CHACHA20_POLY1305, Encr::aes_gcm_16(256), Encr::aes_gcm_16(192), Encr::aes_gcm_16(128)]
        );
        let (local, remote) = acquire.packet.unwrap();
        assert_eq!(
            (local.to_string(), remote.to_string()),
            ("10.1.0.5 proto 6 port 4000".into(), "10.2.0.9 proto 6 port 80".into())
        );
    }

    #[test]
    fn transport_takes_ports_only_where_the_policy_names_them() {
        let mut rules = [host_rule(7)];
        let event = event(&rules[0], "192.0.2.1", "192.0.2.2");
        let policy = acquire(1, &event, &rules).unwrap().policy;
        assert_eq!(policy.ts_local, [TrafficSelector::host(ip("192.0.2.1"))]);
        rules[0].rule.flags = rule_flag::UNIQUE;
        let policy = acquire(1, &event, &rules).unwrap().policy;
        assert_eq!(policy.ts_remote[0].to_string(), "192.0.2.2 proto 6 port 80");
    }

    #[test]
    fn events_that_lead_nowhere_say_why() {
        let rules = [tunnel_rule(7)];
        let good = event(&rules[0], "10.1.0.5", "10.2.0.9");
        assert_eq!(acquire(1, &good, &[]).unwrap_err(), AcquireError::Stale);
        let bad = Event { binding: BindingKey { src: Addr::default(), ..good.binding }, ..good };
        assert_eq!(acquire(1, &bad, &rules).unwrap_err(), AcquireError::NoEnds("vpn0".into()));
        let mut none = [tunnel_rule(7)];
        none[0].rule.action_count = 0;
        assert!(matches!(acquire(1, &good, &none), Err(AcquireError::NoSuite(_))));
        let mut around = [tunnel_rule(7)];
        around[0].rule.actions[0].ah = 5;
        around[0].rule.actions[1].ah = 5;
        assert!(matches!(acquire(1, &good, &around), Err(AcquireError::Bundle(_))));
        // As an alternative to it, ESP alone is what is negotiated.
        around[0].rule.actions[1].ah = 0;
        let suites = acquire(1, &good, &around).unwrap().policy.suites;
        assert!(!suites.is_empty() && suites.iter().all(|suite| suite.encr.is_some_and(|encr| encr.id.0 == 20)));
    }

    #[test]
    fn a_responder_takes_the_largest_common_piece() {
        let rules = [tunnel_rule(7)];
        let packet = TrafficSelector::new(6, Ports::Range(80, 80), ip("10.1.0.5"), ip("10.1.0.5")).unwrap();
        let policy = ask(
            Mode::Tunnel,
            &[packet, ts("0.0.0.0", "255.255.255.255")],
            &[ts("10.2.3.0", "10.2.3.255")],
            None,
            &rules,
        )
        .unwrap();
        assert_eq!(policy.ts_local, [ts("10.1.0.0", "10.1.255.255")]);
        assert_eq!(policy.ts_remote, [ts("10.2.3.0", "10.2.3.255")]);
    }

    #[test]
    fn unprotected_traffic_and_foreign_modes_are_refused_with_the_reason() {
        let rules = [tunnel_rule(7)];
        let refusal = ask(Mode::Tunnel, &[ts("172.16.0.0", "172.16.0.9")], &[ts("10.2.0.0", "10.2.0.9")], None, &rules);
        assert!(refusal.unwrap_err().reason.contains("no rule protects 172.16.0.0-172.16.0.9 <-> 10.2.0.0-10.2.0.9"));
        let (here, there) = ([ts("192.0.2.1", "192.0.2.1")], [ts("192.0.2.2", "192.0.2.2")]);
        let rules = [host_rule(8)];
        let refusal = ask(Mode::Tunnel, &here, &there, None, &rules);
        assert!(refusal.unwrap_err().reason.contains("ipsecinit.conf entry 1 wants transport mode"));
        assert_eq!(ask(Mode::Transport, &here, &there, None, &rules).unwrap().mode, Mode::Transport);
    }

    #[test]
    fn a_rule_with_an_sa_for_each_flow_grants_one_flow() {
        let mut rules = [host_rule(7)];
        rules[0].rule.flags = rule_flag::UNIQUE;
        let end =
            |address: &str, port| TrafficSelector::new(6, Ports::Range(port, port), ip(address), ip(address)).unwrap();
        let (here, there) = (TrafficSelector::host(ip("192.0.2.1")), TrafficSelector::host(ip("192.0.2.2")));
        let flow = (end("192.0.2.1", 80), end("192.0.2.2", 4000));
        let policy = ask(Mode::Transport, &[flow.0, here], &[flow.1, there], None, &rules).unwrap();
        assert_eq!((policy.ts_local, policy.ts_remote), (vec![flow.0], vec![flow.1]));
        assert!(ask(Mode::Transport, &[here], &[there], None, &rules).is_err());
    }

    #[test]
    fn a_rekey_stays_with_its_rule() {
        let rules = [tunnel_rule(7), tunnel_rule(8)];
        let spis = SpiPair { inbound: 1, outbound: 2 };
        let (here, there) = ([ts("10.1.0.0", "10.1.255.255")], [ts("10.2.0.0", "10.2.255.255")]);
        let action = |rekeys| ask(Mode::Tunnel, &here, &there, rekeys, &rules).unwrap().action;
        assert_eq!(action(None), 7);
        assert_eq!(action(Some((spis, 8))), 8);
        assert_eq!(action(Some((spis, 99))), 7);
    }

    #[test]
    fn icmp_types_stand_where_ports_do() {
        let mut compiled = tunnel_rule(7);
        compiled.rule.proto = ICMP;
        compiled.rule.flags |= rule_flag::ICMP;
        (compiled.rule.icmp_type, compiled.rule.icmp_code) = ([8, 8], [0, 255]);
        let (local, _) = rule_selectors(&compiled.rule, true).unwrap();
        assert_eq!(local.ports(), Ports::Range(0x0800, 0x08ff));
    }

    #[test]
    fn covering_selectors() {
        let (wide, narrow) = (ts("10.0.0.0", "10.0.0.255"), ts("10.0.0.1", "10.0.0.1"));
        assert_eq!(covering(&[narrow, wide]), Some(wide));
        assert_eq!(covering(&[narrow, ts("10.0.0.3", "10.0.0.4")]), None);
        assert_eq!(covering(&[]), None);
    }

    #[test]
    fn orphans_are_replaced_by_what_their_rule_says_now() {
        let rules = [tunnel_rule(7)];
        let acquire = replacement(3, 7, ip("192.0.2.1"), ip("192.0.2.2"), &rules).unwrap();
        assert_eq!(acquire.policy.ts_local, [ts("10.1.0.0", "10.1.255.255")]);
        assert!(replacement(3, 8, ip("192.0.2.1"), ip("192.0.2.2"), &rules).is_err());
    }
}
