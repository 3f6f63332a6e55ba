//! The books over a data path in memory.

use std::time::Duration;

use sadb_maps::host::HeldPacket;

use super::*;
use crate::config::parse_rules;
use crate::core::api::{FailureCause, IkeSpis, NatState, Path, Protocol, RemoveReason, Role, SpiPair};
use crate::driver::memory::{MemoryKernel, child};
use crate::driver::policy::tests::{event, ip, tunnel_rule};
use crate::wire::id::Identification;

fn rules() -> RuleSet {
    let text = "ikesa_xform { encr_alg aes-gcm oakley_group 31 } auth_method preshared
        { label \"first\" local_addr 198.51.100.1 remote_addr 198.51.100.2 }
        { label \"second\" local_addr 192.0.2.1 remote_addr 192.0.2.0/24 }
        { label \"third\" local_addr 0.0.0.0/0 remote_addr 0.0.0.0/0 }";
    parse_rules("ikev2.config", text).unwrap().value
}

fn host() -> DriverHost<MemoryKernel> {
    DriverHost::new(MemoryKernel { rules: vec![tunnel_rule(7)], ..MemoryKernel::default() }, rules(), Arc::default())
}

fn acquire_event() -> KernelEvent {
    KernelEvent::Acquire(Box::new(event(&tunnel_rule(7), "10.1.0.5", "10.2.0.9")))
}

fn orphan(inbound: u32, remote: &str) -> FoundPair {
    let spis = SpiPair { inbound, outbound: inbound + 1 };
    FoundPair { key: PairKey { protocol: Protocol::Esp, local: ip("192.0.2.1"), remote: ip(remote), spis }, action: 7 }
}

fn ike_up(remote: &str, rekeys: Option<IkeSpis>) -> Effect {
    Effect::IkeSaUp {
        spis: IkeSpis { initiator: [1; 8], responder: [2; 8] },
        role: Role::Initiator,
        path: Path { local: "192.0.2.1:500".parse().unwrap(), remote: format!("{remote}:500").parse().unwrap() },
        remote_id: Identification::address(ip(remote)),
        rule_label: "second".into(),
        rekeys,
    }
}

#[test]
fn rules_are_chosen_by_addresses_in_order_or_by_label() {
    let mut host = host();
    let Some(Input::Acquire(mut acquire)) = host.event(&acquire_event()) else { panic!("an acquire") };
    assert_eq!(host.rule_for_initiator(&acquire).unwrap().label, "second");
    acquire.rule_label = Some("third".into());
    assert_eq!(host.rule_for_initiator(&acquire).unwrap().label, "third");
    let labels: Vec<String> =
        host.rules_for_responder(ip("192.0.2.1"), ip("192.0.2.9")).iter().map(|rule| rule.label.clone()).collect();
    assert_eq!(labels, ["second", "third"]);
}

#[test]
fn one_request_at_a_time_for_a_binding() {
    let mut host = host();
    let Some(Input::Acquire(first)) = host.event(&acquire_event()) else { panic!("an acquire") };
    assert!(host.event(&acquire_event()).is_none());
    assert_eq!(host.counts.acquires_repeated, 1);
    host.effect(&Effect::AcquireFailed { id: first.id, action: 7, cause: FailureCause::Timeout });
    assert!(host.kernel().forgotten.is_empty());
    let Some(Input::Acquire(second)) = host.event(&acquire_event()) else { panic!("an acquire") };
    assert_ne!(first.id, second.id);
    let sa = ChildSa { acquire: Some(second.id), ..child(300, 77) };
    host.install_child(&sa).unwrap();
    assert!(host.event(&acquire_event()).is_some());
}

#[test]
fn traffic_may_ask_again_at_once_where_only_the_moment_was_wrong() {
    let mut host = host();
    let Some(Input::Acquire(acquire)) = host.event(&acquire_event()) else { panic!("an acquire") };
    host.effect(&Effect::AcquireFailed { id: acquire.id, action: 7, cause: FailureCause::IkeSaGone });
    assert_eq!(host.kernel().forgotten.len(), 1);
    host.effect(&Effect::AcquireFailed { id: acquire.id, action: 7, cause: FailureCause::IkeSaGone });
    assert_eq!(host.kernel().forgotten.len(), 1);
}

#[test]
fn a_request_without_policy_is_dropped() {
    let mut host = host();
    host.kernel().rules.clear();
    assert!(host.event(&acquire_event()).is_none());
    assert_eq!(host.counts.acquires_stale, 1);
}

#[test]
fn installed_pairs_carry_the_cookie_of_their_rule() {
    let mut host = host();
    host.install_child(&ChildSa { rule_label: "second".into(), ..child(300, 77) }).unwrap();
    assert_eq!(host.kernel().installed[0].1, files::cookie("second"));
    assert_eq!(host.owned(), 1);
}

#[test]
fn a_refused_pair_goes_back_to_the_core() {
    let mut host = host();
    host.kernel().refuse = true;
    let refusal = host.install_child(&child(300, 77)).unwrap_err();
    assert!(refusal.kind == RefusalKind::Full && refusal.reason == "no room");
    assert_eq!((host.owned(), host.counts.install_failures), (0, 1));
}

/// UDP-05, V2-NAT-08: of two clients behind one NAT whose packets could not be told apart the second one is refused; the same
/// client may come again, and two that no NAT hides are one host.
#[test]
fn the_second_client_with_the_same_traffic_is_refused() {
    let mut host = host();
    let nat = NatState { local: false, remote: true };
    let client = |inbound: u32, last: u8| ChildSa {
        nat,
        remote_id: Identification::address([10, 0, 0, last].into()),
        ..child(inbound, inbound + 1)
    };
    host.install_child(&client(300, 5)).unwrap();
    let refusal = host.install_child(&client(302, 6)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Taken);
    assert!(refusal.reason.contains("10.0.0.5") && refusal.reason.contains("192.0.2.2"), "{}", refusal.reason);
    host.install_child(&client(304, 5)).unwrap();
    host.install_child(&ChildSa { action: 8, ..client(306, 6) }).unwrap();
    host.install_child(&ChildSa { nat: NatState::default(), ..client(308, 6) }).unwrap();
}

#[test]
fn limits_of_our_pairs_go_to_the_core() {
    let mut host = host();
    host.install_child(&child(300, 77)).unwrap();
    let pair = FoundPair { key: PairKey::from(&child(300, 77)), action: 7 };
    for (spi, inbound) in [(300, true), (77, false)] {
        let event = KernelEvent::Expire { spi, inbound, kind: ExpireKind::Soft, pair: pair.clone() };
        let Some(Input::Expire(expire)) = host.event(&event) else { panic!("an expire") };
        assert_eq!(expire, Expire { spi, inbound, kind: ExpireKind::Soft });
    }
    let event = KernelEvent::Expire { spi: 300, inbound: false, kind: ExpireKind::Soft, pair };
    assert!(host.event(&event).is_none());
}

#[test]
fn orphans_are_kept_until_their_peer_is_renewed() {
    let kernel = MemoryKernel {
        rules: vec![tunnel_rule(7)],
        found: vec![orphan(500, "192.0.2.2"), orphan(600, "192.0.2.3")],
        ..MemoryKernel::default()
    };
    let mut host = DriverHost::new(kernel, rules(), Arc::default());
    assert_eq!(host.orphans(), 2);
    host.install_child(&child(300, 77)).unwrap();
    host.effect(&ike_up("192.0.2.2", Some(IkeSpis { initiator: [9; 8], responder: [9; 8] })));
    host.settle();
    assert_eq!(host.orphans(), 2);
    host.effect(&ike_up("192.0.2.2", None));
    assert!(host.kernel().removed.is_empty());
    host.settle();
    assert_eq!(host.kernel().removed, [orphan(500, "192.0.2.2").key]);
    assert_eq!((host.orphans(), host.owned()), (1, 1));
}

#[test]
fn an_orphan_at_its_limit_asks_like_traffic_does() {
    let pair = orphan(500, "192.0.2.2");
    let kernel = MemoryKernel { rules: vec![tunnel_rule(7)], found: vec![pair.clone()], ..MemoryKernel::default() };
    let mut host = DriverHost::new(kernel, rules(), Arc::default());
    let expire = |kind| KernelEvent::Expire { spi: 500, inbound: true, kind, pair: pair.clone() };
    assert!(host.event(&expire(ExpireKind::Idle)).is_none());
    let Some(Input::Acquire(acquire)) = host.event(&expire(ExpireKind::Soft)) else { panic!("an acquire") };
    assert_eq!((acquire.policy.action, acquire.remote), (7, ip("192.0.2.2")));
    assert!(host.kernel().removed.is_empty());
    assert!(host.event(&expire(ExpireKind::Hard)).is_none(), "the same request is under way");
    assert_eq!(host.kernel().removed, [pair.key]);
    assert_eq!(host.orphans(), 0);
}

#[test]
fn a_pair_of_a_rekey_waits_for_the_peer() {
    let mut host = host();
    host.install_child(&ChildSa { outbound_use: OutboundUse::Later, ..child(300, 77) }).unwrap();
    assert!(host.waits_for_use() && host.used().is_empty());
    host.kernel().idle = Some(Duration::ZERO);
    assert_eq!(host.used(), [300]);
    let sa = child(300, 77);
    host.effect(&Effect::SwitchOutbound { spis: sa.spis(), protocol: Protocol::Esp, remote: sa.remote });
    assert!(!host.waits_for_use());
    assert_eq!(host.kernel().switched, [PairKey::from(&sa)]);
}

#[test]
fn a_moved_pair_keeps_its_name() {
    let mut host = host();
    let sa = child(300, 77);
    host.install_child(&sa).unwrap();
    host.effect(&Effect::MovePeer(PeerMoved {
        children: vec![(Protocol::Esp, sa.spis())],
        old: Path { local: "192.0.2.1:4500".parse().unwrap(), remote: "192.0.2.2:4500".parse().unwrap() },
        new: Path { local: "192.0.2.1:4500".parse().unwrap(), remote: "192.0.2.99:1024".parse().unwrap() },
        encap: None,
    }));
    assert_eq!(host.kernel().moved, [(PairKey::from(&sa), "192.0.2.99:1024".parse().unwrap())]);
    host.effect(&Effect::RemoveChild(RemovedChild {
        spis: sa.spis(),
        protocol: Protocol::Esp,
        local: sa.local,
        remote: sa.remote,
        reason: RemoveReason::PeerDeleted,
    }));
    assert_eq!(host.kernel().removed, [PairKey::from(&sa)]);
}

/// V2-NAT-06: what the data path has authenticated is for the core; pairs of others are not.
#[test]
fn the_core_hears_of_a_peer_that_moves() {
    let mut host = host();
    let event = KernelEvent::Moved {
        spi: 300,
        local: "192.0.2.1:4500".parse().unwrap(),
        remote: "192.0.2.99:1024".parse().unwrap(),
    };
    assert!(host.event(&event).is_none());
    host.install_child(&child(300, 77)).unwrap();
    let Some(Input::Moved { spi: 300, path }) = host.event(&event) else { panic!("the core does not hear of it") };
    assert_eq!(path.remote, "192.0.2.99:1024".parse().unwrap());
}

#[test]
fn liveness_counts_from_the_latest_packet() {
    let mut host = host();
    host.install_child(&child(300, 77)).unwrap();
    assert_eq!(host.last_inbound(300), None);
    host.kernel().idle = Some(Duration::from_secs(2));
    let latest = host.last_inbound(300).unwrap();
    let age = clock::now().since(latest);
    assert!(age >= Duration::from_secs(2) && age < Duration::from_secs(60), "{age:?}");
    assert_eq!((host.last_inbound(301), host.last_outbound(301)), (None, None));
    let latest = host.last_outbound(300).unwrap();
    assert!(clock::now().since(latest) >= Duration::from_secs(2));
}

#[test]
fn the_end_removes_what_is_ours_and_only_that() {
    let kernel = MemoryKernel { found: vec![orphan(500, "192.0.2.2")], ..MemoryKernel::default() };
    let mut host = DriverHost::new(kernel, rules(), Arc::default());
    host.install_child(&child(300, 77)).unwrap();
    host.remove_all();
    assert_eq!(host.kernel().removed, [PairKey::from(&child(300, 77))]);
}

/// A packet without an SA of the binding that [`acquire_event`] asks for.
fn packet(host: &DriverHost<MemoryKernel>, payload: u8) -> HeldPacket {
    let (binding, _) = host.pending.iter().next().unwrap();
    HeldPacket::for_tests(*binding, 53, payload)
}

#[test]
fn packets_wait_for_their_sa_and_leave_in_order() {
    let mut host = host();
    let Some(Input::Acquire(acquire)) = host.event(&acquire_event()) else { panic!("an acquire") };
    let packets: Vec<HeldPacket> = (0..3).map(|payload| packet(&host, payload)).collect();
    let stranger = HeldPacket::for_tests(BindingKey { action: 99, ..BindingKey::default() }, 53, 7);
    host.kernel().packets = vec![packets[0].clone(), stranger, packets[1].clone()];
    assert!(host.packets() && !host.packets());
    assert_eq!((host.waiting.len(), host.kernel().sent.len()), (3, 0));
    // One that was on its way when the SA came goes with the others.
    host.kernel().packets = vec![packets[2].clone()];
    host.kernel().bound = vec![packets[0].binding];
    let sa = ChildSa { acquire: Some(acquire.id), ..child(300, 77) };
    host.install_child(&sa).unwrap();
    assert_eq!(host.kernel().sent, packets);
    assert_eq!((host.waiting.len(), host.waiting.counts.taken, host.waiting.counts.sent), (1, 4, 3));
}

#[test]
fn packets_of_a_refused_request_are_dropped_and_others_wait() {
    let mut host = host();
    for (cause, left) in [(FailureCause::TsUnacceptable, 0), (FailureCause::IkeSaGone, 1)] {
        let Some(Input::Acquire(acquire)) = host.event(&acquire_event()) else { panic!("an acquire") };
        host.kernel().packets = vec![packet(&host, 1)];
        host.effect(&Effect::AcquireFailed { id: acquire.id, action: 7, cause });
        assert_eq!((host.packets(), host.waiting.len()), (left == 1, left));
    }
    assert_eq!(host.waiting.counts.refused, 1);
    host.tire(clock::now());
    assert_eq!(host.waiting.len(), 1);
    host.tire(clock::now().after(super::super::hold::PATIENCE));
    assert_eq!((host.waiting.len(), host.waiting.counts.expired), (0, 1));
    assert!(host.kernel().sent.is_empty());
}

/// The peer began as well: our own attempt fails, and there is an SA all the same.
#[test]
fn packets_leave_by_the_sa_of_the_other_side() {
    let mut host = host();
    let Some(Input::Acquire(acquire)) = host.event(&acquire_event()) else { panic!("an acquire") };
    let packet = packet(&host, 1);
    host.kernel().bound = vec![packet.binding];
    host.kernel().packets = vec![packet.clone()];
    host.effect(&Effect::AcquireFailed { id: acquire.id, action: 7, cause: FailureCause::Timeout });
    assert_eq!(host.kernel().sent, [packet]);
    assert_eq!((host.waiting.len(), host.waiting.counts.refused), (0, 0));
}

#[test]
fn pairs_that_went_with_their_data_path_are_told_to_the_core() {
    let mut host = host();
    let (kept, lost) = (child(300, 77), child(400, 78));
    host.install_child(&kept).unwrap();
    host.install_child(&lost).unwrap();
    assert!(host.lost().is_empty());
    host.kernel().found = vec![FoundPair { key: PairKey::from(&kept), action: 7 }];
    assert!(host.lost().is_empty(), "it is the same data path");
    host.kernel().is_other = true;
    let told = host.lost();
    assert!(
        matches!(told.as_slice(), [Input::Expire(Expire { spi: 400, inbound: true, kind: ExpireKind::Hard })]),
        "{told:?}"
    );
    assert!(host.lost().is_empty());
}

#[test]
fn what_an_earlier_daemon_left_is_forgotten_with_its_data_path() {
    let found = vec![orphan(500, "192.0.2.2")];
    let kernel = MemoryKernel { found, ..MemoryKernel::default() };
    let mut host = DriverHost::new(kernel, rules(), Arc::default());
    (host.kernel().found, host.kernel().is_other) = (vec![], true);
    assert!(host.lost().is_empty());
    assert_eq!(host.orphans(), 0);
}
