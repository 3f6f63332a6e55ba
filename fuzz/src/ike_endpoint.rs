//! Two endpoints of the IKEv2 core and a wire between them that the octets rule (ROB-01, ROB-05): what is wanted, when, what
//! arrives, in which order, and what somebody makes of it who knows all keys. Whatever happens, neither panics, the SADBs
//! of both are asked for nothing impossible, and once all is over nothing is left and a new handshake succeeds.

use crate::forge::{Claim, Forger};
use crate::util::{Packet, Side, World, seconds};
use ike_daemon::core::api::{Command, EndpointConfig, ExpireKind, IkeSaSnapshot, Path, Role};
use ike_daemon::wire::chain::PayloadType;
use ike_daemon::wire::header::{ExchangeType, Header};
use ike_daemon::wire::transform::GroupId;

/// Steps of one run, and datagrams on the wire.
const STEPS: usize = 200;
const WIRE: usize = 32;

/// The octets, taken from the front; zero once there are none.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.octet()) % bound.max(1)
    }

    fn side(&mut self) -> Side {
        if self.octet() & 1 == 0 { Side::A } else { Side::B }
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

pub(crate) fn run(octets: &[u8]) {
    let mut script = Script(octets);
    let setting = script.octet();
    let fragment_mtu = (setting & 2 != 0).then_some(576);
    let cookie_threshold = if setting & 4 == 0 { 32 } else { 0 };
    let mut world = World::with_config(
        u64::from(setting >> 4),
        EndpointConfig { fragment_mtu, cookie_threshold, ..EndpointConfig::default() },
    );
    for side in [Side::A, Side::B] {
        world.node(side).rule(|rule| {
            rule.childsa_pfs = if setting & 1 == 0 { GroupId::NONE } else { GroupId::CURVE25519 };
            rule.ikesa_lifetime = if setting & 8 == 0 { seconds(0) } else { seconds(200) };
            rule.dpd_interval = seconds(60);
        });
    }
    world.acquire(Side::A);
    for _ in 0..STEPS {
        if script.0.is_empty() {
            break;
        }
        step(&mut world, &mut script);
        world.wire.truncate(WIRE);
    }
    over(world);
}

fn step(world: &mut World, script: &mut Script<'_>) {
    let now = world.now;
    match script.octet() % 16 {
        0..=2 => {
            if let Some(packet) = world.wire.pop_front() {
                world.deliver(&packet);
            }
        }
        3 => {
            let index = script.below(world.wire.len());
            if let Some(packet) = world.wire.remove(index) {
                world.deliver(&packet);
            }
        }
        4 => drop(world.wire.pop_front()),
        5 => {
            let index = script.below(world.wire.len());
            if let Some(packet) = world.wire.get(index).cloned() {
                world.deliver(&packet);
            }
        }
        6 => {
            let span = u64::from(script.octet());
            world.run(seconds(span / 4));
        }
        7 => {
            let side = script.side();
            world.acquire(side);
        }
        8 => {
            let (side, kind) = (script.side(), script.below(3));
            let kind = [ExpireKind::Soft, ExpireKind::Hard, ExpireKind::Idle][kind];
            if !world.node(side).installed.is_empty() {
                world.expire(side, kind);
            }
        }
        9 => {
            let (side, what) = (script.side(), script.below(3));
            let Some(spis) = world.node(side).up(now).first().map(|sa| sa.spis) else { return };
            match what {
                0 | 1 => world.command(side, Command::RekeyIkeSa(spis)),
                _ => world.command(side, Command::DeleteIkeSa(spis)),
            }
        }
        // Something is changed on its way, in clear.
        10 => {
            let index = script.below(world.wire.len());
            let (at, to) = (usize::from(script.octet()) * 3, script.octet());
            if let Some(packet) = world.wire.get_mut(index)
                && let Some(octet) = packet.bytes.get_mut(at)
            {
                *octet = to;
            }
        }
        // The same by somebody who has the keys.
        11 | 12 => rewrite(world, script),
        // A message that nobody sent.
        _ => forge(world, script),
    }
}

/// The peer's IKE SAs that have keys.
fn keyed(world: &mut World, side: Side) -> Vec<IkeSaSnapshot> {
    let now = world.now;
    let all = world.node(side).endpoint.snapshot(now);
    all.into_iter().filter(|sa| sa.encr.is_some()).collect()
}

fn rewrite(world: &mut World, script: &mut Script<'_>) {
    let index = script.below(world.wire.len());
    let Some(Packet { to, bytes, .. }) = world.wire.get(index).cloned() else { return };
    let Ok(received) = Header::parse(&bytes) else { return };
    let header = received.header;
    let Some(sa) = keyed(world, to).into_iter().find(|sa| sa.spis.initiator == header.spi_initiator) else { return };
    let forger = Forger::of_snapshot(world.node(to), &sa);
    let Some((first, mut inner)) = forger.try_open(&bytes) else { return };
    let (how, at) = (script.octet(), script.below(inner.len() + 1));
    let text = script.take(usize::from(how >> 3) % 16);
    match how % 4 {
        0 => inner.iter_mut().skip(at).zip(text).for_each(|(octet, new)| *octet = *new),
        1 => drop(inner.splice(at..at, text.iter().copied())),
        2 => inner.truncate(at),
        _ => inner.extend_from_slice(text),
    }
    let from = if header.from_initiator { Role::Initiator } else { Role::Responder };
    let claim = Claim { from, exchange: header.exchange, response: header.response, id: header.message_id };
    let bytes = forger.seal_octets(claim, first, &inner);
    if let Some(packet) = world.wire.get_mut(index) {
        packet.bytes = bytes;
    }
}

fn forge(world: &mut World, script: &mut Script<'_>) {
    let to = script.side();
    let all = keyed(world, to);
    let Some(sa) = all.get(script.below(all.len())).cloned() else { return };
    let forger = Forger::of_snapshot(world.node(to), &sa);
    let (flags, exchange, id) = (script.octet(), script.octet(), script.octet());
    let ours = flags & 1 != 0;
    let claim = Claim {
        from: if (sa.role == Role::Initiator) == ours { Role::Initiator } else { Role::Responder },
        exchange: ExchangeType(34 + exchange % 12),
        response: flags & 2 != 0,
        id: u32::from(id % 8),
    };
    let first = PayloadType(if flags & 4 == 0 { 33 + script.octet() % 16 } else { 0 });
    let length = script.below(120);
    let inner = script.take(length);
    let bytes = if flags & 8 == 0 {
        forger.seal_octets(claim, first, inner)
    } else {
        forger.seal_fragment(claim, (u16::from(id >> 6), u16::from(id >> 4 & 3)), first, inner)
    };
    let path = Path { local: sa.path.local, remote: sa.path.remote };
    let packet = Packet { at: world.now, to, path, bytes };
    world.deliver(&packet);
}

/// Everything is told to end, and does; then the two begin anew.
fn over(mut world: World) {
    world.wire.clear();
    world.run(seconds(60));
    world.assert_no_leak();
    world.command(Side::A, Command::FlushIkeSas);
    world.command(Side::B, Command::FlushIkeSas);
    world.run(seconds(300));
    world.assert_mirrored(0);
    assert!(world.a.endpoint.poll_timeout().is_none() && world.b.endpoint.poll_timeout().is_none());
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    world.assert_answered();
}
