//! A gateway and its peers for hours on a bad network: one event after the other, from a seed. Datagrams and packets are
//! lost, doubled and late; clocks jump ahead as those of hosts that slept. Soft limits, hard limits, liveness and lifetimes
//! run as they do under the daemon, and traffic asks for SAs as the data path does.
//!
//! `IKE_SIMULATION=peers,hours,seed` chooses another size.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ike_daemon::core::Endpoint;
use ike_daemon::core::api::*;
use ike_daemon::wire::transform::Encr;
use ike_daemon::wire::ts::TrafficSelector;

use crate::util::{Seeded, rule, seconds};

/// Percent of datagrams and packets that are lost, doubled, and held up.
const LOST: u64 = 20;
const DOUBLED: u64 = 10;
const LATE: u64 = 50;

/// Policies, and what the SADB of a node has.
#[derive(Default)]
struct Sadb {
    rules: Vec<Arc<Rule>>,
    policies: BTreeMap<IpAddr, ChildPolicy>,
    last_spi: u32,
    larval: BTreeSet<u32>,
    pairs: BTreeMap<u32, Pair>,
    /// By peer, the pair that its traffic goes out on.
    bound: BTreeMap<IpAddr, u32>,
    /// When limits are met, by the clock of the node.
    limits: BTreeSet<(Timestamp, u32, bool)>,
}

struct Pair {
    sa: ChildSa,
    heard: Option<Timestamp>,
    spoke: Option<Timestamp>,
    /// Past its hard limit.
    dead: bool,
}

impl Host for Sadb {
    fn rule_for_initiator(&self, _: &Acquire) -> Option<Arc<Rule>> {
        self.rules.first().cloned()
    }

    fn rules_for_responder(&self, _: IpAddr, remote: IpAddr) -> Vec<Arc<Rule>> {
        if self.policies.contains_key(&remote) { self.rules.clone() } else { Vec::new() }
    }

    fn child_policy(&self, query: &ChildQuery<'_>) -> Result<ChildPolicy, ChildRefusal> {
        let policy = self.policies.get(&query.remote).cloned();
        policy.ok_or(ChildRefusal { reason: "no policy".to_owned() })
    }

    fn allocate_spi(&mut self, _: &SpiRequest) -> Result<u32, SpiRefusal> {
        self.last_spi += 1;
        self.larval.insert(self.last_spi);
        Ok(self.last_spi)
    }

    fn install_child(&mut self, sa: &ChildSa) -> Result<(), InstallRefusal> {
        assert!(self.larval.remove(&sa.inbound.spi), "installed without reservation");
        Ok(())
    }

    fn last_inbound(&self, inbound_spi: u32) -> Option<Timestamp> {
        self.pairs.get(&inbound_spi).and_then(|pair| pair.heard)
    }

    fn last_outbound(&self, inbound_spi: u32) -> Option<Timestamp> {
        self.pairs.get(&inbound_spi).and_then(|pair| pair.spoke)
    }
}

struct Node {
    endpoint: Endpoint<Sadb>,
    address: IpAddr,
    /// How far its clock is ahead of that of the simulation.
    ahead: Duration,
    /// Of its wakings in the queue only the newest counts.
    waking: u64,
    /// Requests of the data path that wait, by peer.
    asked: BTreeMap<IpAddr, u64>,
    asks: u64,
    refused: u64,
}

#[derive(Debug)]
enum Event {
    Datagram {
        to: IpAddr,
        path: Path,
        bytes: Vec<u8>,
    },
    /// A packet under an SA: its SPI, and the key it was sealed with.
    Sealed {
        to: IpAddr,
        spi: u32,
        key: Vec<u8>,
    },
    Wake {
        node: IpAddr,
        number: u64,
    },
    /// A host has something to send to another.
    Traffic {
        from: IpAddr,
        to: IpAddr,
    },
    /// A host slept.
    Jump {
        node: IpAddr,
    },
}

struct Simulation {
    now: Duration,
    nodes: BTreeMap<IpAddr, Node>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    number: u64,
    random: Seeded,
    lossy: bool,
    /// Everything that happened.
    digest: DefaultHasher,
    offered: u64,
    arrived: u64,
}

fn gateway() -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1).into()
}

fn peer(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0001 + number).into()
}

fn node(address: IpAddr, seed: u64, with: &[IpAddr]) -> Node {
    let mut known = rule("all");
    known.ikesa_lifetime = seconds(4 * 3600);
    known.child_lifetimes = ChildLifetimes { soft: seconds(2400), hard: seconds(2880), ..ChildLifetimes::default() };
    known.retry = RetryPolicy::default();
    known.dpd_interval = seconds(300);
    let policy = |remote: &IpAddr| ChildPolicy {
        action: 1,
        source: "ipsecinit.conf:1".to_owned(),
        mode: Mode::Tunnel,
        suites: vec![ChildSuite::esp_aead(Encr::CHACHA20_POLY1305)],
        esn: EsnPolicy::Preferred,
        ts_local: vec![TrafficSelector::host(address)],
        ts_remote: vec![TrafficSelector::host(*remote)],
    };
    let host = Sadb {
        rules: vec![Arc::new(known)],
        policies: with.iter().map(|remote| (*remote, policy(remote))).collect(),
        last_spi: u32::try_from(seed % 4096).unwrap() << 19 | 256,
        ..Sadb::default()
    };
    let config = EndpointConfig { cookie_threshold: 1 << 20, max_half_open: 1 << 20, ..EndpointConfig::default() };
    Node {
        endpoint: Endpoint::new(config, Box::new(Seeded(seed)), host),
        address,
        ahead: Duration::ZERO,
        waking: 0,
        asked: BTreeMap::new(),
        asks: 0,
        refused: 0,
    }
}

impl Node {
    fn clock(&self, now: Duration) -> Timestamp {
        Timestamp::from_duration(now + self.ahead)
    }

    /// When it next has something to do of its own accord, by the clock of the simulation.
    fn wakes(&self, now: Duration) -> Option<Duration> {
        let limit = self.endpoint.host().limits.first().map(|(at, ..)| *at);
        let next = [self.endpoint.poll_timeout(), limit].into_iter().flatten().min()?;
        Some(next.as_duration().saturating_sub(self.ahead).max(now))
    }

    /// Limits that are met, and the timers of the core.
    fn wake(&mut self, now: Timestamp) {
        while let Some((at, spi, hard)) = self.endpoint.host().limits.first().copied().filter(|(at, ..)| *at <= now) {
            let sadb = self.endpoint.host_mut();
            sadb.limits.remove(&(at, spi, hard));
            if let Some(pair) = sadb.pairs.get_mut(&spi).filter(|_| hard) {
                pair.dead = true;
                let remote = pair.sa.remote;
                sadb.bound.retain(|peer, bound| *peer != remote || *bound != spi);
            }
            let kind = if hard { ExpireKind::Hard } else { ExpireKind::Soft };
            self.endpoint.handle_expire(now, Expire { spi, inbound: true, kind });
        }
        self.endpoint.handle_timeout(now);
    }

    /// Does what a driver and an SADB do; returns the datagrams.
    fn drain(&mut self, now: Timestamp, digest: &mut DefaultHasher) -> Vec<Transmit> {
        while let Some(effect) = self.endpoint.poll_effect() {
            let refused = &mut self.refused;
            let sadb = self.endpoint.host_mut();
            match effect {
                Effect::ChildInstalled(sa) => {
                    ("installed", self.address, sa.inbound.spi, sa.outbound.spi, now).hash(digest);
                    let (spi, limits) = (sa.inbound.spi, sa.lifetimes);
                    sadb.limits.insert((now.after(limits.soft), spi, false));
                    sadb.limits.insert((now.after(limits.hard), spi, true));
                    if sa.outbound_use == OutboundUse::Now {
                        sadb.bound.insert(sa.remote, spi);
                    }
                    if let Some(id) = sa.acquire {
                        self.asked.retain(|_, asked| *asked != id);
                    }
                    let old = sadb.pairs.insert(spi, Pair { sa: *sa, heard: None, spoke: None, dead: false });
                    assert!(old.is_none(), "one SPI twice");
                }
                Effect::ReleaseSpi { spi, .. } => assert!(sadb.larval.remove(&spi), "released and not reserved"),
                Effect::RemoveChild(removed) => {
                    ("removed", self.address, removed.spis.inbound, now).hash(digest);
                    let spi = removed.spis.inbound;
                    assert!(sadb.pairs.remove(&spi).is_some(), "removed and not installed");
                    sadb.limits.retain(|(_, of, _)| *of != spi);
                    sadb.bound.retain(|_, bound| *bound != spi);
                }
                Effect::SwitchOutbound { spis, .. } => {
                    let pair = sadb.pairs.get(&spis.inbound).expect("switched to what is not there");
                    if !pair.dead {
                        sadb.bound.insert(pair.sa.remote, spis.inbound);
                    }
                }
                Effect::AcquireFailed { id, .. } => {
                    *refused += 1;
                    self.asked.retain(|_, asked| *asked != id);
                }
                _ => {}
            }
        }
        std::iter::from_fn(|| self.endpoint.poll_transmit()).filter(|transmit| transmit.bytes != [0xff]).collect()
    }
}

impl Simulation {
    fn new(peers: u32, seed: u64) -> Self {
        let addresses: Vec<IpAddr> = (0..peers).map(peer).collect();
        let mut simulation = Self {
            now: seconds(1000),
            nodes: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            number: 0,
            random: Seeded(seed),
            lossy: true,
            digest: DefaultHasher::new(),
            offered: 0,
            arrived: 0,
        };
        let own = simulation.random.next();
        simulation.nodes.insert(gateway(), node(gateway(), own, &addresses));
        for address in addresses {
            let own = simulation.random.next();
            simulation.nodes.insert(address, node(address, own, &[gateway()]));
            for (from, to) in [(gateway(), address), (address, gateway())] {
                let after = simulation.within(seconds(120));
                simulation.put(after, Event::Traffic { from, to });
            }
            let after = simulation.within(seconds(6 * 3600));
            simulation.put(after, Event::Jump { node: address });
        }
        let after = simulation.within(seconds(6 * 3600));
        simulation.put(after, Event::Jump { node: gateway() });
        simulation
    }

    fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.random.next() % u64::try_from(span.as_micros()).unwrap())
    }

    fn put(&mut self, after: Duration, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((self.now + after, self.number)));
        self.events.insert(self.number, event);
    }

    /// Over the network: lost, doubled, late.
    fn send(&mut self, make: impl Fn() -> Event) {
        if self.lossy && self.random.chance(LOST) {
            return;
        }
        let copies = if self.lossy && self.random.chance(DOUBLED) { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.lossy && self.random.chance(LATE);
            let extra = if late { self.within(seconds(2)) } else { Duration::ZERO };
            self.put(Duration::from_millis(10) + extra, make());
        }
    }

    /// Gives a node something to do, and takes from it what comes of that.
    fn step(&mut self, address: IpAddr, act: impl FnOnce(&mut Node, Timestamp)) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&address) else { return };
        let clock = node.clock(now);
        act(node, clock);
        let sent = node.drain(clock, &mut self.digest);
        node.waking += 1;
        let (number, wakes) = (node.waking, node.wakes(now));
        if let Some(at) = wakes {
            self.put(at - now, Event::Wake { node: address, number });
        }
        for Transmit { path, bytes, .. } in sent {
            let path = Path { local: path.remote, remote: path.local };
            self.send(|| Event::Datagram { to: path.local.ip(), path, bytes: bytes.clone() });
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, number))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = self.now.max(at);
            let event = self.events.remove(&number).unwrap();
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram { to, path, bytes } => {
                self.step(to, |node, now| node.endpoint.handle_datagram(now, path, &bytes));
            }
            Event::Wake { node, number } => {
                if self.nodes.get(&node).is_some_and(|known| known.waking == number) {
                    self.step(node, Node::wake);
                }
            }
            Event::Sealed { to, spi, key } => self.receive(to, spi, &key),
            Event::Traffic { from, to } => {
                self.traffic(from, to);
                let after = self.within(seconds(120));
                self.put(after, Event::Traffic { from, to });
            }
            Event::Jump { node } => {
                if self.lossy {
                    let slept = self.within(seconds(900));
                    self.nodes.get_mut(&node).unwrap().ahead += slept;
                    self.step(node, Node::wake);
                }
                let after = self.within(seconds(12 * 3600));
                self.put(after, Event::Jump { node });
            }
        }
    }

    fn receive(&mut self, to: IpAddr, spi: u32, key: &[u8]) {
        let now = self.now;
        let node = self.nodes.get_mut(&to).unwrap();
        let clock = node.clock(now);
        let Some(pair) = node.endpoint.host_mut().pairs.get_mut(&spi).filter(|pair| !pair.dead) else { return };
        assert_eq!(pair.sa.inbound.cipher_key.expose(), key, "one SPI, two keys");
        self.arrived += 1;
        if pair.heard.replace(clock).is_none() {
            self.step(to, |node, now| node.endpoint.handle_inbound_used(now, spi));
        }
    }

    /// A packet: under the pair that is bound, or else one is asked for. Nothing ever goes out otherwise.
    fn traffic(&mut self, from: IpAddr, to: IpAddr) {
        self.offered += 1;
        let now = self.now;
        let node = self.nodes.get_mut(&from).unwrap();
        let clock = node.clock(now);
        if let Some(spi) = node.endpoint.host().bound.get(&to).copied() {
            let pair = node.endpoint.host_mut().pairs.get_mut(&spi).expect("bound and not there");
            pair.spoke = Some(clock);
            let (spi, key) = (pair.sa.outbound.spi, pair.sa.outbound.cipher_key.expose().to_vec());
            return self.send(|| Event::Sealed { to, spi, key: key.clone() });
        }
        if node.asked.contains_key(&to) {
            return;
        }
        node.asks += 1;
        let id = node.asks;
        node.asked.insert(to, id);
        let policy = node.endpoint.host().policies[&to].clone();
        let acquire = Acquire { id, local: from, remote: to, policy, packet: None, rule_label: None };
        self.step(from, |node, now| node.endpoint.handle_acquire(now, acquire));
    }

    /// What must hold once the network is good again for a while: each policy has a pair that both ends send on and receive
    /// on, both ends have the same IKE SAs and pairs, and nothing is reserved or remembered beyond that.
    fn check(&self) {
        let hub = &self.nodes[&gateway()];
        let mut pairs = 0;
        for (address, node) in self.nodes.iter().filter(|(address, _)| **address != gateway()) {
            let (here, there) = (node.endpoint.host(), hub.endpoint.host());
            let sends = here.bound.get(&gateway()).unwrap_or_else(|| panic!("{address} has no pair to send on"));
            let answers = there.bound.get(address).unwrap_or_else(|| panic!("the gateway has none for {address}"));
            for (pair, other) in [(&here.pairs[sends], there), (&there.pairs[answers], here)] {
                let partner = other.pairs.get(&pair.sa.outbound.spi);
                let partner = partner.unwrap_or_else(|| panic!("{address}: sent on a pair that the other has not"));
                assert!(!pair.dead && !partner.dead && pair.sa.outbound == partner.sa.inbound);
            }
            let theirs: BTreeSet<SpiPair> = here.pairs.values().map(|pair| pair.sa.spis()).collect();
            let ours = there.pairs.values().filter(|pair| pair.sa.remote == *address);
            let ours: BTreeSet<SpiPair> =
                ours.map(|pair| SpiPair { inbound: pair.sa.outbound.spi, outbound: pair.sa.inbound.spi }).collect();
            assert_eq!(ours, theirs, "{address}");
            pairs += ours.len();
        }
        for (address, node) in &self.nodes {
            assert!(node.endpoint.host().larval.is_empty(), "{address}: reserved for ever");
            assert!(node.asked.is_empty(), "{address}: asked and not answered");
            let shown = node.endpoint.snapshot(node.clock(self.now));
            let known: BTreeSet<u32> = shown.iter().flat_map(|sa| sa.children.iter().map(|c| c.spis.inbound)).collect();
            assert_eq!(known, node.endpoint.host().pairs.keys().copied().collect(), "{address}");
        }
        let policies = self.nodes.len() - 1;
        let shown = hub.endpoint.snapshot(hub.clock(self.now)).len();
        assert!(pairs <= policies + policies / 4 + 1, "{pairs} pairs for {policies} policies");
        assert!(shown <= policies + policies / 4 + 1, "{shown} IKE SAs for {policies} policies");
        println!("{policies} policies, {shown} IKE SAs, {pairs} pairs");
    }

    fn life(peers: u32, hours: u64, seed: u64) -> (u64, Stats) {
        let mut simulation = Self::new(peers, seed);
        simulation.run(seconds(hours * 3600));
        simulation.lossy = false;
        simulation.run(seconds(1800));
        simulation.check();
        let stats = simulation.nodes[&gateway()].endpoint.stats();
        println!(
            "{} events; of {} packets {} arrived (of 100 sent 80 do, and then doubled ones); the gateway: {stats:?}",
            simulation.number, simulation.offered, simulation.arrived
        );
        // Doubled packets arrive twice, lost ones never, and only a few find no SA.
        assert!(simulation.arrived * 10 > simulation.offered * 7, "{} of {}", simulation.arrived, simulation.offered);
        (simulation.digest.finish(), stats)
    }
}

/// V2-COL-14, V2-MID-01, V2-LIVE-02, V2-REK-08, ROB-08: after hours of loss, reordering, duplicates and clocks that jump,
/// every policy has a pair that both ends use, both ends agree about everything, nothing leaks, and no packet ever met the
/// key of another pair. The same seed gives the same, and another one something else.
#[test]
fn v2_col_14_hours_on_a_bad_network() {
    if let Ok(size) = std::env::var("IKE_SIMULATION") {
        let numbers: Vec<u64> = size.split(',').map(|number| number.parse().unwrap()).collect();
        let [peers, hours, seed] = numbers[..] else { panic!("IKE_SIMULATION=peers,hours,seed") };
        Simulation::life(u32::try_from(peers).unwrap(), hours, seed);
        return;
    }
    let (first, stats) = Simulation::life(12, 8, 1);
    assert!(stats.children_rekeyed > 100 && stats.ike_rekeyed > 10 && stats.retransmits > 200, "{stats:?}");
    assert_eq!(Simulation::life(12, 8, 1).0, first);
    assert_ne!(Simulation::life(12, 8, 2).0, first);
}
