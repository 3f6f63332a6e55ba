//! NATs between the two ends (RFC 7296 section 2.23, RFC 3948).

use ike_daemon::core::api::*;
use ike_daemon::wire::ts::TrafficSelector;

use crate::util::*;

/// V2-NAT-01, V2-NAT-02, V2-NAT-03, V2-NAT-05, V2-HDR-21: a NAT moves IKE to 4500 and ESP into UDP; keepalives keep it open.
#[test]
fn v2_nat_01_02_03_05_nat_detection() {
    let mut world = World::new(16);
    world.nat = Some(("203.0.113.9".parse().unwrap(), 20_000));
    world.acquire(Side::A);
    world.settle();
    world.assert_mirrored(1);
    assert_eq!(world.a.sent[1].path.local.port(), 4500);
    assert!(world.a.sent[1].natt_marker && !world.a.sent[0].natt_marker);
    let (a, b) = (world.a.up(world.now)[0].clone(), world.b.up(world.now)[0].clone());
    assert_eq!((a.nat, b.nat), (NatState { local: true, remote: false }, NatState { local: false, remote: true }));
    assert_eq!(b.path.remote, "203.0.113.9:24500".parse().unwrap());
    assert_eq!(world.a.only_child().encap, Some(Encap { local_port: 4500, remote_port: 4500 }));
    assert_eq!(world.b.only_child().encap, Some(Encap { local_port: 4500, remote_port: 24_500 }));
    world.run(seconds(65));
    assert!(world.a.sent.iter().filter(|t| t.bytes == [0xff]).count() >= 3);
    assert!(world.b.sent.iter().all(|t| t.bytes != [0xff]));
}

/// V2-NAT-06, V2-NAT-07, V2-NAT-09: the end without NAT follows authenticated messages of a peer whose NAT forgot it.
#[test]
fn v2_nat_06_07_09_the_peer_moves() {
    let mut world = World::new(17);
    world.nat = Some(("203.0.113.9".parse().unwrap(), 20_000));
    world.acquire(Side::A);
    world.settle();
    world.nat = Some(("203.0.113.9".parse().unwrap(), 30_000));
    let replayed = world.a.sent[1].clone();
    world.deliver(&Packet {
        at: world.now,
        to: Side::B,
        path: Path { local: "198.51.100.2:4500".parse().unwrap(), remote: "192.0.2.66:1".parse().unwrap() },
        bytes: replayed.bytes,
    });
    assert_eq!(world.b.up(world.now)[0].path.remote.port(), 24_500, "a replay moves nothing");
    world.wire.clear();
    world.expire(Side::A, ExpireKind::Idle);
    world.settle();
    assert_eq!(world.b.up(world.now)[0].path.remote.port(), 34_500);
    assert_eq!(world.b.only_child().encap.unwrap().remote_port, 34_500);
}

/// V2-NAT-06, V2-NAT-09: an authentic packet of a child is as good as a message; another address leaves names as they are, in
/// what is made afterwards too. The end behind the NAT follows nothing.
#[test]
fn v2_nat_06_09_the_peer_moves_by_esp() {
    let mut world = World::new(20);
    world.nat = Some(("203.0.113.9".parse().unwrap(), 20_000));
    world.acquire(Side::A);
    world.settle();
    let at = |text: &str| text.parse().unwrap();
    let b = world.b.address;
    let name = world.b.only_child().remote;
    let now = Path { local: (b, 4500).into(), remote: at("203.0.113.77:34500") };
    let (now_spi, a_spi) = (world.b.only_child().inbound.spi, world.a.only_child().inbound.spi);
    let elsewhere = Path { local: (b, 4501).into(), ..now };
    let six = Path { remote: at("[2001:db8::9]:34500"), ..now };
    for (spi, path) in [(now_spi ^ 1, now), (now_spi, elsewhere), (now_spi, six)] {
        world.b.endpoint.handle_moved(world.now, spi, path);
        assert_eq!(world.b.up(world.now)[0].path.remote, at("203.0.113.9:24500"));
    }
    let behind = world.a.up(world.now)[0].path;
    world.a.endpoint.handle_moved(world.now, a_spi, Path { remote: at("198.51.100.99:4500"), ..behind });
    assert_eq!(world.a.up(world.now)[0].path, behind, "the end behind the NAT followed");
    world.nat = Some(("203.0.113.77".parse().unwrap(), 30_000));
    world.b.endpoint.handle_moved(world.now, now_spi, now);
    world.flush();
    assert_eq!(world.b.up(world.now)[0].path.remote, now.remote);
    let child = world.b.only_child().clone();
    assert_eq!((child.remote, child.peer, child.encap.unwrap().remote_port), (name, now.remote.ip(), 34_500));
    for round in 0..2 {
        world.expire(Side::B, ExpireKind::Soft);
        world.settle();
        world.run(seconds(30));
        let child = world.b.only_child().clone();
        assert_eq!((child.remote, child.peer), (name, now.remote.ip()), "after {round} rekeys of the IKE SA");
        world.rekey_ike(Side::B);
        world.run(seconds(30));
    }
    world.assert_mirrored(1);
}

/// V2-NAT-08: transport mode through a NAT: selectors become the addresses that each end knows, and each end learns those
/// that the other makes checksums with; so in a rekey by either, and where both ends are behind a NAT.
#[test]
fn v2_nat_08_transport_mode_through_a_nat() {
    let mut world = World::new(21);
    let (a, b, public) = (world.a.address, world.b.address, "203.0.113.9".parse().unwrap());
    world.nat = Some((public, 20_000));
    let host = |policy: &mut ChildPolicy, local, remote| {
        policy.mode = Mode::Transport;
        (policy.ts_local, policy.ts_remote) = (vec![TrafficSelector::host(local)], vec![TrafficSelector::host(remote)]);
    };
    host(world.a.policy(), a, b);
    host(world.b.policy(), b, public);
    let check = |world: &World| {
        let (here, there) = (world.a.only_child(), world.b.only_child());
        assert_eq!((here.mode, there.mode), (Mode::Transport, Mode::Transport));
        let one = |ts: &[TrafficSelector]| (ts.len(), ts[0].start(), ts[0].end());
        assert_eq!((one(&here.ts_local), one(&here.ts_remote)), ((1, a, a), (1, b, b)));
        assert_eq!((one(&there.ts_local), one(&there.ts_remote)), ((1, b, b), (1, public, public)));
        assert_eq!(here.originals, Some(Originals { local: public, remote: b }));
        assert_eq!(there.originals, Some(Originals { local: b, remote: a }));
        assert_eq!((here.remote, there.remote), (b, public));
    };
    world.acquire(Side::A);
    world.settle();
    check(&world);
    for side in [Side::A, Side::B] {
        world.expire(side, ExpireKind::Soft);
        world.settle();
        world.run(seconds(30));
        check(&world);
    }
}

/// V2-NAT-08: selectors of more than two hosts are refused in transport mode through a NAT, and where policy has a tunnel
/// they count as they are written.
#[test]
fn v2_nat_08_other_selectors() {
    let mut world = World::new(22);
    world.nat = Some(("203.0.113.9".parse().unwrap(), 20_000));
    world.a.policy().mode = Mode::Transport;
    world.acquire(Side::A);
    world.settle();
    // B wants tunnel mode for these networks: A, which wants transport mode, does not take that.
    assert!(world.b.installed.is_empty() && world.a.installed.is_empty(), "{}", world.story());
    assert!(world.a.logged("wants transport mode"), "{:?}", world.a.logs());
    world.b.policy().mode = Mode::Transport;
    world.acquire(Side::A);
    world.settle();
    assert!(world.b.installed.is_empty(), "{}", world.story());
    assert!(world.b.logged("selectors of two hosts"), "{:?}", world.b.logs());
}

/// UDP-03: a keepalive is for a mapping that nothing else keeps open.
#[test]
fn udp_03_no_keepalive_while_children_send() {
    let mut world = World::new(23);
    world.nat = Some(("203.0.113.9".parse().unwrap(), 20_000));
    world.acquire(Side::A);
    world.settle();
    let spi = world.a.only_child().inbound.spi;
    let keepalives = |world: &World| world.a.sent.iter().filter(|t| t.bytes == [0xff]).count();
    for _ in 0..13 {
        world.run(seconds(5));
        let now = world.now;
        world.a.host().spoken.insert(spi, now);
    }
    assert_eq!(keepalives(&world), 0);
    world.run(seconds(19));
    assert_eq!(keepalives(&world), 0);
    world.run(seconds(45));
    assert_eq!(keepalives(&world), 3);
}

/// V2-NAT-02: without a NAT nothing moves and nothing is encapsulated.
#[test]
fn v2_nat_02_without_nat() {
    let world = World::connected(18);
    assert!(world.a.sent.iter().all(|t| t.path.local.port() == 500 && !t.natt_marker));
    assert_eq!(world.a.only_child().encap, None);
}
