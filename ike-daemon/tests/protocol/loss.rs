//! A bad wire: loss, duplication, reordering. Whatever is lost, both ends agree in the end and nothing is left over.

use ike_daemon::core::api::*;
use ike_daemon::wire::transform::GroupId;

use crate::util::*;

const BAD: Faults = Faults { lose: 20, double: 20, delay: 50 };

fn patient(seed: u64) -> World {
    let mut world = World::new(seed);
    for side in [Side::A, Side::B] {
        world.node(side).rule(|rule| {
            rule.retry = RetryPolicy { limit: 12, initial: seconds(1), max: seconds(4), patience: None };
            rule.childsa_pfs = if seed.is_multiple_of(2) { GroupId::NONE } else { GroupId::CURVE25519 };
        });
    }
    world
}

/// V2-MID-01, V2-MID-03, ROB-05: handshake, rekeys by both, delete over a bad wire, many seeds.
#[test]
fn v2_mid_01_03_whole_life_over_a_bad_wire() {
    for seed in 500..560 {
        let mut world = patient(seed);
        world.faults = BAD;
        world.acquire(Side::A);
        world.run(seconds(100));
        world.assert_mirrored(1);
        world.expire(Side::A, ExpireKind::Soft);
        world.run(seconds(100));
        world.assert_mirrored(1);
        world.assert_bound_together();
        world.rekey_ike(Side::B);
        world.run(seconds(150));
        world.assert_mirrored(1);
        world.assert_one_ike();
        world.acquire(Side::B);
        world.run(seconds(100));
        world.assert_mirrored(2);
        world.command(Side::B, Command::FlushIkeSas);
        world.run(seconds(200));
        world.assert_mirrored(0);
        world.assert_answered();
        assert!(world.a.endpoint.poll_timeout().is_none() && world.b.endpoint.poll_timeout().is_none());
    }
}

/// V2-COL-14: everything at once from both sides over a bad wire; then quiet: one IKE SA, mirrored children.
#[test]
fn v2_col_14_everything_at_once_over_a_bad_wire() {
    for seed in 600..680 {
        let mut world = patient(seed);
        world.acquire(Side::A);
        world.settle();
        world.faults = BAD;
        for _ in 0..6 {
            let side = if world.random.chance(50) { Side::A } else { Side::B };
            let now = world.now;
            match world.random.next() % 4 {
                _ if world.node(side).installed.is_empty() || world.a.up(now).is_empty() => {}
                0 if !world.node(side).up(now).is_empty() => world.rekey_ike(side),
                1 => {
                    world.acquire(side);
                }
                2 => world.expire(side, ExpireKind::Hard),
                _ => world.expire(side, ExpireKind::Soft),
            }
            let pause = world.random.next() % 3;
            world.run(seconds(pause));
        }
        world.run(seconds(600));
        world.faults = Faults::default();
        world.run(seconds(300));
        let children = world.a.installed.len();
        world.assert_mirrored(children);
        world.assert_answered();
        assert!(world.a.up(world.now).len() <= 1 || children == 0, "seed {seed}: {}", world.story());
    }
}
