//! Requests as the PF_KEY messages that they stand for: what `-v` shows of a command before it is carried out.

use super::dump::{DUMP, GET};
use super::request::SaType;
use sadb_maps::host::announce::{ends, satype};
use sadb_maps::host::pfkey::{Association, Endpoint, Message, kind, sa_flag};
use sadb_maps::host::{Direction, Mode, SaKey, SaSpec, SaUpdate};
use sadb_maps::sa::{Lifetime, state};
use std::net::IpAddr;

/// ADD, or UPDATE of a larval SA.
pub fn add(kind: u8, spec: &SaSpec) -> Message {
    let tunnel = spec.mode == Mode::Tunnel;
    let mut flags = direction(spec.direction);
    flags |= if tunnel { sa_flag::TUNNEL } else { 0 };
    flags |= if spec.pair_spi.is_some() { sa_flag::PAIRED } else { 0 };
    flags |= if spec.replay_window == 0 { sa_flag::NOREPLAY } else { 0 };
    let inner = spec.selectors.as_ref().map(ends);
    let (mut src, mut dst) = (Endpoint::host(spec.src), Endpoint::host(spec.dst));
    match &inner {
        Some((from, _)) if tunnel => {
            let proto = if from.addr.is_ipv4() { 4 } else { 41 };
            (src.proto, dst.proto) = (proto, proto);
        }
        Some((from, to)) => {
            (src.proto, src.port, dst.proto, dst.port) = (from.proto, from.port, to.proto, to.port);
        }
        None => {}
    }
    let inner = inner.filter(|_| tunnel);
    let nat = |address: Option<IpAddr>, bit| address.map_or(0, |_| bit);
    let mut message = Message {
        kind,
        satype: satype(Some(spec.proto)),
        pid: std::process::id(),
        src: Some(src),
        dst: Some(dst),
        inner_src: inner.map(|(src, _)| src),
        inner_dst: inner.map(|(_, dst)| dst),
        hard: given(spec.hard),
        soft: given(spec.soft),
        idle: given(idle(spec.idle)),
        pair: spec.pair_spi,
        src_identity: spec.src_identity.clone(),
        dst_identity: spec.dst_identity.clone(),
        replay: (spec.replay_value != 0).then_some(spec.replay_value),
        ..Message::default()
    };
    if let Some(encap) = spec.encap {
        flags |= nat(encap.nat_local, sa_flag::NATT_LOC) | nat(encap.nat_remote, sa_flag::NATT_REM) | sa_flag::NATTED;
        let end = |address: Option<IpAddr>| address.map(|address| Endpoint { proto: 17, ..Endpoint::host(address) });
        (message.nat_local, message.nat_remote) = (end(encap.nat_local), end(encap.nat_remote));
    }
    message.sa = Some(Association {
        spi: spec.spi,
        replay: u8::try_from(spec.replay_window).unwrap_or(u8::MAX),
        state: state::MATURE as u8,
        auth: spec.auth,
        encr: spec.encr,
        flags,
    });
    message
}

/// UPDATE or UPDATE PAIR of a mature SA.
pub fn update(key: &SaKey, change: &SaUpdate, pair: bool) -> Message {
    let mut message = named(if pair { kind::UPDATE_PAIR } else { kind::UPDATE }, key);
    if let (Some(sa), Some(_)) = (&mut message.sa, change.pair_spi) {
        sa.flags |= sa_flag::PAIRED;
    }
    Message { hard: change.hard, soft: change.soft, idle: change.idle.map(idle), pair: change.pair_spi, ..message }
}

/// DELETE or DELETE PAIR.
pub fn delete(key: &SaKey, pair: bool) -> Message {
    named(if pair { kind::DELETE_PAIR } else { kind::DELETE }, key)
}

/// GET.
pub fn get(key: &SaKey) -> Message {
    named(GET, key)
}

/// FLUSH.
pub fn flush(kind: Option<SaType>) -> Message {
    Message::flush(kind.map(SaType::protocol))
}

/// DUMP.
pub fn dump(kind: Option<SaType>) -> Message {
    Message { kind: DUMP, ..flush(kind) }
}

/// A message that does no more than name an SA.
fn named(kind: u8, key: &SaKey) -> Message {
    Message {
        kind,
        satype: satype(Some(key.proto)),
        pid: std::process::id(),
        sa: Some(Association {
            spi: key.spi,
            replay: 0,
            state: state::MATURE as u8,
            auth: 0,
            encr: 0,
            flags: direction(key.direction),
        }),
        src: key.src.map(Endpoint::host),
        dst: Some(Endpoint::host(key.dst)),
        ..Message::default()
    }
}

fn direction(direction: Direction) -> u32 {
    match direction {
        Direction::In => sa_flag::INBOUND,
        Direction::Out => sa_flag::OUTBOUND,
        Direction::Unspecified => 0,
    }
}

fn idle([add, used]: [u32; 2]) -> Lifetime {
    Lifetime { add: add.into(), used: used.into(), ..Lifetime::default() }
}

fn given(limits: Lifetime) -> Option<Lifetime> {
    (limits != Lifetime::default()).then_some(limits)
}
