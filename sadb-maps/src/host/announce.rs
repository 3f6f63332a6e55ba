//! Messages about SAs and events, made from what the maps and the data path say (spec sections 8.2 and 8.3).

use super::pfkey::{
    Algorithm, Association, Choice, Choices, Combination, Endpoint, Message, Proposal, Wanted, kind, sa_flag,
};
use super::spec::SaInfo;
use crate::event::{Event, expire};
use crate::policy::Rule;
use crate::sa::{AH, ESP, Lifetime, SaSelectors, encr, flag};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::UNIX_EPOCH;

/// Seconds of the default lifetimes of a proposal (spec section 8.3).
const SOFT_SECONDS: u64 = 24_000;
const HARD_SECONDS: u64 = 28_800;

/// Replay window of a proposal (spec section 8.3).
const REPLAY: u8 = 64;

/// Sequence numbers of messages that come from the data path have this bit.
const KERNEL_SEQUENCE: u32 = 0x8000_0000;

/// PF_KEY SA type of an IP protocol.
pub fn satype(proto: Option<u8>) -> u8 {
    match proto {
        Some(AH) => 2,
        Some(ESP) => 3,
        _ => 0,
    }
}

impl Message {
    /// A message about an SA, with all that may be said of it.
    pub fn about(kind: u8, info: &SaInfo) -> Self {
        let inner = info.selectors.as_ref().map(ends);
        let first_use = info.first_use.map_or(0, |first| {
            let added = info.added.duration_since(UNIX_EPOCH).unwrap_or_default();
            (added + info.age.saturating_sub(first)).as_secs()
        });
        let added = info.added.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let [idle_add, idle_used] = info.idle.map(u64::from);
        let given = |lifetime: Lifetime| (lifetime != Lifetime::default()).then_some(lifetime);
        Self {
            kind,
            satype: satype(Some(info.proto)),
            pid: std::process::id(),
            sa: Some(association(info)),
            src: Some(Endpoint::host(info.src)),
            dst: Some(Endpoint::host(info.dst)),
            inner_src: inner.map(|(src, _)| src),
            inner_dst: inner.map(|(_, dst)| dst),
            current: Some(Lifetime { bytes: info.bytes, add: added, used: first_use, allocations: 0 }),
            hard: given(info.hard),
            soft: given(info.soft),
            idle: given(Lifetime { add: idle_add, used: idle_used, ..Lifetime::default() }),
            km: (info.km_cookie != 0).then_some((info.km.into(), info.km_cookie)),
            pair: info.pair_spi,
            src_identity: info.src_identity.clone(),
            dst_identity: info.dst_identity.clone(),
            replay: Some(if info.is_outbound() { info.seq } else { info.top }),
            ..Self::default()
        }
    }

    /// FLUSH of one protocol or of all.
    pub fn flush(proto: Option<u8>) -> Self {
        Self { kind: kind::FLUSH, satype: satype(proto), pid: std::process::id(), ..Self::default() }
    }

    /// EXPIRE for an event of the data path, with the limit that was passed and no other.
    pub fn expired(event: &Event, info: &SaInfo) -> Self {
        let mut message = Self { pid: 0, seq: KERNEL_SEQUENCE, ..Self::about(kind::EXPIRE, info) };
        let (soft, hard, idle) = (message.soft.take(), message.hard.take(), message.idle.take());
        match event.detail {
            expire::SOFT => message.soft = soft,
            // One that ends with its partner may have no limit of its own.
            expire::HARD => message.hard = Some(hard.unwrap_or_default()),
            _ => message.idle = idle,
        }
        message
    }

    /// The news of an event of the data path that the peer of an SA has moved.
    pub fn moved(event: &Event, info: &SaInfo) -> Self {
        let packet = &event.packet;
        let end = |addr: crate::Addr, port| Endpoint { proto: packet.proto, port, ..Endpoint::host(addr.into()) };
        Self {
            pid: 0,
            seq: KERNEL_SEQUENCE,
            nat_local: Some(end(packet.laddr, packet.lport)),
            nat_remote: Some(end(packet.raddr, packet.rport)),
            ..Self::about(kind::NEW_MAPPING, info)
        }
    }

    /// What an event of the data path says that asks for SAs, given its rule: the extended ACQUIRE, and behind it a regular one for
    /// each protocol that the rule may need (spec section 8.3).
    pub fn acquires(event: &Event, rule: &Rule) -> Vec<Self> {
        let extended = Self::acquire(event, rule);
        let regular = [ESP, AH].into_iter().filter_map(|proto| {
            let choices = choices(rule, proto).filter(|choices| !choices.choices.is_empty());
            choices.map(|choices| Self {
                satype: satype(Some(proto)),
                choices: Some(choices),
                proposal: None,
                // Key management that understands the extended one is not to hear of the same twice.
                wanted: None,
                ..extended.clone()
            })
        });
        let regular: Vec<Self> = regular.collect();
        std::iter::once(extended).chain(regular).collect()
    }

    /// Extended ACQUIRE for an event of the data path (spec section 8.3), given the rule that asked.
    pub fn acquire(event: &Event, rule: &Rule) -> Self {
        let packet = &event.packet;
        let v4 = packet.raddr.is_v4();
        let end = |addr: crate::Addr, mask: crate::Addr, ports: [u16; 2]| {
            let bits = mask.octets().iter().map(|o| o.count_ones() as u8).fold(0u8, u8::saturating_add);
            let prefix = if v4 { bits.saturating_sub(96) } else { bits };
            let [low, high] = ports;
            let any = mask == crate::Addr::UNSPECIFIED;
            let unspecified: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            Endpoint {
                proto: rule.proto,
                prefix: if any { 0 } else { prefix },
                addr: if any { unspecified } else { addr.into() },
                port: if low == high { low } else { 0 },
            }
        };
        let outer = |addr: crate::Addr, proto, port| Endpoint { proto, port, ..Endpoint::host(addr.into()) };
        let binding = &event.binding;
        let (src, dst, inner) = if rule.tunnel_mode != 0 {
            // The outer protocol says what is inside: IPv4 or IPv6.
            let proto = if v4 { 4 } else { 41 };
            let inner = (end(rule.laddr, rule.lmask, rule.lport), end(rule.raddr, rule.rmask, rule.rport));
            (outer(binding.src, proto, 0), outer(binding.dst, proto, 0), Some(inner))
        } else {
            let proto = if binding.proto != 0 { binding.proto } else { rule.proto };
            (outer(binding.src, proto, binding.sport), outer(binding.dst, proto, binding.dport), None)
        };
        Self {
            kind: kind::ACQUIRE,
            seq: KERNEL_SEQUENCE,
            src: Some(src),
            dst: Some(dst),
            inner_src: inner.map(|(src, _)| src),
            inner_dst: inner.map(|(_, dst)| dst),
            proposal: Some(proposal(rule)),
            wanted: Some(Wanted { binding: event.binding, policy: event.policy, rule: event.rule }),
            ..Self::default()
        }
    }
}

fn association(info: &SaInfo) -> Association {
    let mut flags = 0;
    for (ours, theirs) in [
        (flag::PFS, sa_flag::PFS),
        (flag::UNIQUE, sa_flag::UNIQUE),
        (flag::NAT_LOCAL, sa_flag::NATT_LOC),
        (flag::NAT_REMOTE, sa_flag::NATT_REM),
        (flag::TUNNEL, sa_flag::TUNNEL),
        (flag::PAIRED, sa_flag::PAIRED),
        (flag::OUTBOUND, sa_flag::OUTBOUND),
        (flag::INBOUND, sa_flag::INBOUND),
        (flag::UDP_ENCAP, sa_flag::NATTED),
    ] {
        flags |= if info.flags & ours != 0 { theirs } else { 0 };
    }
    flags |= if info.first_use.is_some() { sa_flag::USED } else { 0 };
    flags |= if info.replay_window == 0 { sa_flag::NOREPLAY } else { 0 };
    Association {
        spi: info.spi,
        replay: u8::try_from(info.replay_window).unwrap_or(u8::MAX),
        state: info.state as u8,
        auth: info.auth,
        encr: info.encr,
        flags,
    }
}

/// Source and destination of selectors. A range that is no prefix is shown as the smallest prefix around it.
pub fn ends(s: &SaSelectors) -> (Endpoint, Endpoint) {
    let end = |low: crate::Addr, high: crate::Addr, [first, last]: [u16; 2]| {
        let bits = |a: crate::Addr| u128::from_be_bytes(a.octets());
        let common = (bits(low) ^ bits(high)).leading_zeros();
        let mask = crate::Addr::mask(common);
        let [l0, l1, l2, l3] = low.0;
        let [m0, m1, m2, m3] = mask.0;
        let prefix = if low.is_v4() { common.saturating_sub(96) } else { common };
        // The first address of a wider range than all of IPv4 is not one of IPv4 any more; the prefix says so.
        let first_address = crate::Addr([l0 & m0, l1 & m1, l2 & m2, l3 & m3]);
        let addr = if common >= 96 || !low.is_v4() { first_address } else { low };
        Endpoint {
            proto: s.proto,
            prefix: prefix as u8,
            addr: addr.into(),
            port: if first == last { first } else { 0 },
        }
    };
    (end(s.src_low, s.src_high, s.sport), end(s.dst_low, s.dst_high, s.dport))
}

fn limits(add: u64) -> Lifetime {
    Lifetime { add, ..Lifetime::default() }
}

/// What the actions of a rule want of one protocol, in their order; `None` for a protocol that is neither of them.
fn choices(rule: &Rule, proto: u8) -> Option<Choices> {
    let mut choices: Vec<Choice> = vec![];
    for action in rule.actions.iter().take(rule.action_count as usize) {
        let (auth, auth_bits, encr, encr_bits) = match proto {
            ESP => (action.esp_auth, action.esp_auth_bits, action.encr, action.encr_bits),
            AH => (action.ah, action.ah_bits, 0, [0; 2]),
            _ => return None,
        };
        let (soft, hard) = (limits(SOFT_SECONDS), limits(HARD_SECONDS));
        let choice = Choice { auth, encr, flags: 0, auth_bits, encr_bits, soft, hard };
        // Two actions that differ in the other protocol are one here.
        if (auth, encr) != (0, 0) && !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    Some(Choices { replay: REPLAY, choices })
}

fn proposal(rule: &Rule) -> Proposal {
    let combination = |action: &crate::policy::Action| {
        let [esp, auth, ah] = [action.encr_bits, action.esp_auth_bits, action.ah_bits];
        let salt_bits = if matches!(action.encr, 18..=20 | encr::CHACHA20_POLY1305) { 32 } else { 0 };
        let algorithm = |satype, kind, id, salt_bits, [min_bits, max_bits]: [u16; 2]| {
            (id != 0).then_some(Algorithm { satype, kind, id, salt_bits, min_bits, max_bits })
        };
        let all = [
            algorithm(3, 2, action.encr, salt_bits, esp),
            algorithm(3, 1, action.esp_auth, 0, auth),
            algorithm(2, 1, action.ah, 0, ah),
        ];
        let algorithms = all.into_iter().flatten().collect();
        Combination { algorithms, soft: limits(SOFT_SECONDS), hard: limits(HARD_SECONDS) }
    };
    let actions = rule.actions.iter().take(rule.action_count as usize);
    Proposal { replay: REPLAY, combinations: actions.map(combination).collect() }
}
