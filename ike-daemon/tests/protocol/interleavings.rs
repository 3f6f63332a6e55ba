//! Both ends at once, in every order: each operation of one end with each of the other, every place at which the second can
//! begin, every order in which the messages can arrive, and every one of them lost once (RFC 7296 sections 2.8 and 2.25).
//!
//! A world cannot be copied, so that a schedule is run from its start each time: a list of choices, continued by the first of
//! what there is. How deep choices are tried is `IKE_COLLISION_DEPTH`.

use std::sync::atomic::{AtomicUsize, Ordering};

use ike_daemon::core::api::*;
use ike_daemon::wire::transform::GroupId;

use crate::util::*;

/// What an end begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    RekeyChild,
    DeleteChild,
    NewChild,
    RekeyIke,
    DeleteIke,
    Probe,
}

use Operation::{DeleteChild, DeleteIke, NewChild, Probe, RekeyChild, RekeyIke};

const OPERATIONS: [Operation; 6] = [RekeyChild, DeleteChild, NewChild, RekeyIke, DeleteIke, Probe];

/// Choices that are all tried in `cargo xtask test`; behind them messages arrive as they were sent.
const DEPTH: usize = 3;

/// What is wanted of the IKE SA is wanted of the one that there is by now.
fn begin(world: &mut World, side: Side, operation: Operation, child: [u32; 2]) {
    let now = world.now;
    let spis = world.node(side).up(now).first().map_or(IkeSpis { initiator: [0; 8], responder: [0; 8] }, |sa| sa.spis);
    let spi = child[usize::from(side == Side::B)];
    let expire = |kind| Expire { spi, inbound: true, kind };
    match operation {
        RekeyChild => world.node(side).endpoint.handle_expire(now, expire(ExpireKind::Soft)),
        DeleteChild => world.node(side).endpoint.handle_expire(now, expire(ExpireKind::Hard)),
        Probe => world.node(side).endpoint.handle_expire(now, expire(ExpireKind::Idle)),
        RekeyIke => world.node(side).endpoint.handle_command(now, Command::RekeyIkeSa(spis)),
        DeleteIke => world.node(side).endpoint.handle_command(now, Command::DeleteIkeSa(spis)),
        NewChild => drop(world.acquire(side)),
    }
    world.flush();
}

/// What may be done next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Deliver(usize),
    Begin,
    Lose(usize),
}

/// Two operations that meet, and the choices made so far.
struct Run {
    world: World,
    child: [u32; 2],
    begun: bool,
    lost: bool,
}

impl Run {
    fn start(seed: u64, pfs: GroupId, first: Operation) -> Self {
        let mut world = World::new(seed);
        for side in [Side::A, Side::B] {
            world.node(side).rule(|rule| rule.childsa_pfs = pfs);
        }
        world.acquire(Side::A);
        world.settle();
        let child = [&world.a, &world.b].map(|node| node.only_child().inbound.spi);
        begin(&mut world, Side::A, first, child);
        Self { world, child, begun: false, lost: false }
    }

    fn choices(&self) -> Vec<Choice> {
        let flying = 0..self.world.wire.len();
        let begin = (!self.begun).then_some(Choice::Begin);
        let lose = if self.lost { 0..0 } else { flying.clone() };
        flying.map(Choice::Deliver).chain(begin).chain(lose.map(Choice::Lose)).collect()
    }

    fn make(&mut self, choice: Choice, second: Operation) {
        match choice {
            Choice::Begin => {
                self.begun = true;
                begin(&mut self.world, Side::B, second, self.child);
            }
            Choice::Deliver(index) => {
                let packet = self.world.wire.remove(index).unwrap();
                self.world.now = self.world.now.max(packet.at);
                self.world.deliver(&packet);
            }
            Choice::Lose(index) => {
                self.lost = true;
                self.world.wire.remove(index).unwrap();
            }
        }
    }
}

/// How many children may be left.
fn left(first: Operation, second: Operation) -> std::ops::RangeInclusive<usize> {
    let of = |operation| first == operation || second == operation;
    let new = [first, second].into_iter().filter(|operation| *operation == NewChild).count();
    if of(DeleteIke) {
        // A wish that comes late makes an IKE SA of its own.
        return 0..=new;
    }
    // A Delete and a rekey of one child: whichever is first.
    let least = usize::from(!of(DeleteChild));
    let most = if of(DeleteChild) && !of(RekeyChild) { 0 } else { 1 };
    least + new..=most + new
}

/// Runs a schedule to its end; returns how many choices there were at each place.
fn play(
    seed: u64,
    pfs: GroupId,
    (first, second): (Operation, Operation),
    schedule: &[usize],
    depth: usize,
) -> Vec<usize> {
    let mut run = Run::start(seed, pfs, first);
    let mut made = Vec::new();
    let mut wide = Vec::new();
    while wide.len() < depth {
        let choices = run.choices();
        if choices.is_empty() {
            break;
        }
        let choice = choices[schedule.get(wide.len()).copied().unwrap_or(0)];
        wide.push(choices.len());
        made.push(choice);
        run.make(choice, second);
    }
    if !run.begun {
        run.world.settle();
        run.make(Choice::Begin, second);
    }
    let Run { mut world, .. } = run;
    world.run(seconds(400));
    let children = world.a.installed.len();
    let allowed = left(first, second);
    let told = || format!("seed {seed} {pfs} {first:?} {second:?} {made:?}: {}", world.story());
    assert!(allowed.contains(&children), "{children} children of {allowed:?}: {}", told());
    let ups = [&world.a, &world.b].map(|node| node.up(world.now));
    let all = [&world.a, &world.b].map(|node| node.endpoint.snapshot(world.now).len());
    assert_eq!(all, ups.each_ref().map(Vec::len), "something is left of an IKE SA: {}", told());
    let ended = first == DeleteIke || second == DeleteIke;
    assert!(all == [1, 1] || (ended && all == [0, 0]), "{all:?} {}", told());
    assert_eq!(ups[0].first().map(|sa| sa.spis), ups[1].first().map(|sa| sa.spis), "{}", told());
    world.assert_mirrored(children);
    world.assert_answered();
    if children > 0 {
        // Of two pairs for one policy each end sends on the one that came last to it.
        let sends = |node: &Node| node.bound.is_some_and(|spi| node.installed.contains_key(&spi));
        assert!(sends(&world.a) && sends(&world.b), "traffic would go nowhere: {}", told());
        if children == 1 {
            world.assert_bound_together();
        }
        // It is still good for everything.
        world.rekey_ike(Side::B);
        world.expire(Side::A, ExpireKind::Soft);
        world.run(seconds(100));
        world.assert_mirrored(children);
        world.assert_one_ike();
    }
    wide
}

/// Plays every schedule of a pair of operations; returns how many there were.
fn explore(seed: u64, pfs: GroupId, pair: (Operation, Operation), depth: usize) -> usize {
    let (mut runs, mut open) = (0, vec![Vec::new()]);
    while let Some(schedule) = open.pop() {
        runs += 1;
        for (place, width) in play(seed, pfs, pair, &schedule, depth).into_iter().enumerate().skip(schedule.len()) {
            for other in 1..width {
                let mut next = schedule.clone();
                next.resize(place, 0);
                next.push(other);
                open.push(next);
            }
        }
    }
    runs
}

/// V2-COL-01, V2-COL-03 to V2-COL-14, V2-MID-11: 56 cases, each with either nonce the lowest, in all orders of the first
/// messages, without loss and with: at the end both have the same SAs, one pair for each wish, and nothing is left over.
#[test]
fn v2_col_14_every_pair_in_every_order() {
    let depth = std::env::var("IKE_COLLISION_DEPTH").map_or(DEPTH, |depth| depth.parse().unwrap());
    let pairs = OPERATIONS.into_iter().flat_map(|first| OPERATIONS.map(|second| (first, second)));
    let cases: Vec<(GroupId, (Operation, Operation))> = pairs
        .flat_map(|pair| {
            let makes_a_child = [pair.0, pair.1].iter().any(|one| matches!(one, RekeyChild | NewChild));
            let with_exchange = makes_a_child.then_some((GroupId::CURVE25519, pair));
            [(GroupId::NONE, pair)].into_iter().chain(with_exchange)
        })
        .collect();
    assert_eq!(cases.len(), 56);
    let next = AtomicUsize::new(0);
    let runs = AtomicUsize::new(0);
    let work = || {
        while let Some((pfs, pair)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            for seed in [1100, 1101] {
                runs.fetch_add(explore(seed, *pfs, *pair, depth), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let runs = runs.into_inner();
    println!("{runs} schedules of up to {depth} choices");
    assert!(runs > 1000, "{runs}");
}
