//! Tests of the message codec.

use super::*;
use crate::Addr;
use crate::event::Event;
use crate::host::announce::ends;
use crate::host::bind::any_selectors;
use crate::policy::{Action, MAX_ACTIONS, Rule, Selectors, verdict};
use crate::sa::{ESP, SaSelectors, encr};
use bytemuck::Zeroable;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(addr: &str, prefix: u8, port: u16) -> Endpoint {
    Endpoint { proto: 6, prefix, addr: ip(addr), port }
}

fn full() -> Message {
    let lifetime = Lifetime { bytes: 1 << 40, add: 2, used: 3, allocations: 4 };
    let algorithm = Algorithm { satype: 3, kind: 2, id: 28, salt_bits: 32, min_bits: 256, max_bits: 256 };
    let one = Combination { algorithms: vec![algorithm; 2], soft: lifetime, hard: lifetime };
    let (auth_bits, encr_bits) = ([160, 161], [128, 256]);
    let choice = Choice { auth: 3, encr: 12, flags: 5, auth_bits, encr_bits, soft: lifetime, hard: lifetime };
    Message {
        kind: kind::ACQUIRE,
        errno: 22,
        satype: 3,
        diagnostic: 73,
        seq: 0x8000_0001,
        pid: 77,
        sa: Some(Association { spi: 0x1001, replay: 64, state: 1, auth: 0, encr: 28, flags: sa_flag::TUNNEL }),
        src: Some(endpoint("192.0.2.1", 32, 5)),
        dst: Some(endpoint("2001:db8::1", 128, 6)),
        src_identity: Identity::new(2, "gw.example.com").ok(),
        dst_identity: Identity::new(6, "1234567").ok(),
        inner_src: Some(endpoint("10.1.0.0", 16, 0)),
        inner_dst: Some(endpoint("2001:db8:1::", 48, 0)),
        nat_local: Some(endpoint("203.0.113.1", 32, 4500)),
        nat_remote: Some(endpoint("203.0.113.2", 32, 4501)),
        current: Some(lifetime),
        hard: Some(lifetime),
        soft: Some(lifetime),
        idle: Some(lifetime),
        km: Some((3, 0x0123_4567_89ab_cdef)),
        pair: Some(0x1002),
        replay: Some(1 << 33),
        range: Some((256, 512)),
        choices: Some(Choices { replay: 64, choices: vec![choice; 2] }),
        proposal: Some(Proposal { replay: 64, combinations: vec![one.clone(), one] }),
        wanted: Some(Wanted { binding: BindingKey { action: 9, ..BindingKey::default() }, policy: 2, rule: 1 }),
    }
}

#[test]
fn a_message_survives_the_way() {
    for message in [full(), Message::default(), Message::flush(Some(ESP))] {
        let octets = message.encode();
        assert_eq!(octets.len() % 8, 0);
        assert_eq!(Message::decode(&octets), Ok(message));
    }
}

#[test]
fn the_layout_is_that_of_rfc_2367() {
    let sa = Association { spi: 0x1001, replay: 64, state: 1, auth: 5, encr: 12, flags: 1 };
    let message = Message { kind: kind::ADD, satype: 3, seq: 1, pid: 2, sa: Some(sa), ..Message::default() };
    let mut wanted = vec![2, 3, 0, 3, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
    wanted.extend_from_slice(&[2, 0, 1, 0, 0, 0, 0x10, 0x01, 64, 1, 5, 12, 1, 0, 0, 0]);
    assert_eq!(message.encode(), wanted);
    let address = Message { src: Some(endpoint("192.0.2.1", 32, 80)), ..Message::default() }.encode();
    assert_eq!(address[16..], [3, 0, 5, 0, 6, 32, 0, 0, 2, 0, 0, 80, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn no_octets_are_too_strange() {
    let good = full().encode();
    for len in 0..good.len() {
        assert!(Message::decode(&good[..len]).is_err(), "{len} octets");
    }
    // Each octet in turn, each way: an answer, never a panic.
    for place in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[place] = value;
            let _ = Message::decode(&bad);
        }
    }
    let mut unknown = Message::default().encode();
    unknown.extend_from_slice(&[1, 0, 99, 0, 0, 0, 0, 0]);
    unknown[4] = 3;
    assert_eq!(Message::decode(&unknown), Ok(Message::default()));
    unknown[16] = 0;
    assert_eq!(Message::decode(&unknown), Err(Malformed::Length(99)));
}

#[test]
fn an_acquire_says_what_the_rule_wants() {
    let mut actions = [Action::default(); MAX_ACTIONS];
    actions[0] = Action { encr: encr::AES_GCM_16, encr_bits: [128, 256], ..Action::default() };
    actions[1] =
        Action { encr: 12, encr_bits: [256, 256], esp_auth: 5, esp_auth_bits: [256, 256], ..Action::default() };
    let rule = Rule {
        verdict: verdict::PROTECT,
        tunnel_mode: 1,
        laddr: Addr::from(ip("10.1.0.0")),
        lmask: Addr::mask(96 + 16),
        actions,
        action_count: 2,
        ..Rule::zeroed()
    };
    let packet = Selectors { raddr: Addr::from(ip("10.2.0.9")), ..Selectors::default() };
    let (src, dst) = (Addr::from(ip("192.0.2.1")), Addr::from(ip("198.51.100.7")));
    let binding = BindingKey { action: 5, src, dst, ..BindingKey::default() };
    let event = Event { binding, packet, policy: 3, rule: 1, ..Event::default() };
    let message = Message::acquire(&event, &rule);
    assert_eq!(message.src, Some(Endpoint { proto: 4, ..Endpoint::host(ip("192.0.2.1")) }));
    let (inner_src, inner_dst) = (message.inner_src.unwrap(), message.inner_dst.unwrap());
    assert_eq!((inner_src.addr, inner_src.prefix), (ip("10.1.0.0"), 16));
    assert_eq!((inner_dst.addr, inner_dst.prefix), (ip("0.0.0.0"), 0));
    let ids: Vec<Vec<u8>> = message
        .proposal
        .as_ref()
        .unwrap()
        .combinations
        .iter()
        .map(|c| c.algorithms.iter().map(|a| a.id).collect())
        .collect();
    assert_eq!(ids, [vec![20], vec![12, 5]]);
    assert_eq!(message.wanted.unwrap().binding, binding);
    assert_eq!(Message::decode(&message.encode()), Ok(message.clone()));
    // A second action with the same ESP beside AH: one combination less for ESP, and one for AH.
    let (mut actions, count) = (rule.actions, 3);
    actions[2] = Action { ah: 7, ah_bits: [512, 512], ..actions[0] };
    let all = Message::acquires(&event, &Rule { actions, action_count: count, ..rule });
    let [extended, esp, ah] = &all[..] else { panic!("{all:?}") };
    assert_eq!((extended.satype, extended.proposal.as_ref().unwrap().combinations.len()), (0, 3));
    let of = |m: &Message| {
        let choices = &m.choices.as_ref().unwrap().choices;
        choices.iter().map(|c| (c.encr, c.encr_bits, c.auth, c.auth_bits)).collect::<Vec<_>>()
    };
    assert_eq!((esp.satype, of(esp)), (3, vec![(20, [128, 256], 0, [0, 0]), (12, [256, 256], 5, [256, 256])]));
    assert_eq!((ah.satype, of(ah)), (2, vec![(0, [0, 0], 7, [512, 512])]));
    for regular in [esp, ah] {
        assert_eq!((regular.src, regular.inner_dst, regular.seq), (extended.src, extended.inner_dst, extended.seq));
        assert!(regular.wanted.is_none() && regular.proposal.is_none());
        assert_eq!(Message::decode(&regular.encode()).as_ref(), Ok(regular));
    }
    // Without AH there is nothing to say of it.
    assert_eq!(Message::acquires(&event, &rule).len(), 2);
}

#[test]
fn a_proposal_has_the_layout_of_rfc_2367() {
    let limit = |n| Lifetime { allocations: n, bytes: n + 1, add: n + 2, used: n + 3 };
    let (soft, hard) = (limit(0x10), limit(0x20));
    let choice = Choice { auth: 2, encr: 3, flags: 4, auth_bits: [5, 6], encr_bits: [7, 8], soft, hard };
    let octets = Message { choices: Some(Choices { replay: 9, choices: vec![choice] }), ..Message::default() }.encode();
    let mut wanted = vec![10, 0, 13, 0, 9, 0, 0, 0, 2, 3, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 0, 0, 0, 0];
    [0x10_u32, 0x20].iter().for_each(|n| wanted.extend_from_slice(&n.to_ne_bytes()));
    [0x11_u64, 0x21, 0x12, 0x22, 0x13, 0x23].iter().for_each(|n| wanted.extend_from_slice(&n.to_ne_bytes()));
    assert_eq!(octets[16..], wanted);
    let cut = |mut octets: Vec<u8>| {
        // A combination that is not whole.
        octets.truncate(octets.len() - 8);
        (octets[4], octets[16]) = (octets[4] - 1, octets[16] - 1);
        Message::decode(&octets)
    };
    assert_eq!(cut(octets), Err(Malformed::Length(13)));
}

#[test]
fn ranges_are_shown_as_prefixes() {
    let shown = |low: &str, high: &str| {
        let selectors = SaSelectors { src_low: ip(low).into(), src_high: ip(high).into(), ..any_selectors(true) };
        let (src, dst) = ends(&selectors);
        assert_eq!((dst.addr, dst.prefix), (ip("0.0.0.0"), 0));
        format!("{}/{}", src.addr, src.prefix)
    };
    assert_eq!(shown("10.1.0.0", "10.1.255.255"), "10.1.0.0/16");
    assert_eq!(shown("10.1.0.7", "10.1.0.7"), "10.1.0.7/32");
    assert_eq!(shown("10.1.0.1", "10.1.0.2"), "10.1.0.0/30");
}
