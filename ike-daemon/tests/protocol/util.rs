//! Two hosts and the wire between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ike_daemon::core::Endpoint;
use ike_daemon::core::api::*;
use ike_daemon::crypto::Secret;
use ike_daemon::pki::KeyStore;
use ike_daemon::wire::transform::{Encr, GroupId, IntegId, PrfId};
use ike_daemon::wire::ts::{Ports, TrafficSelector};

/// splitmix64: enough to be unpredictable to the code, and the same in every run.
#[derive(Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

impl RandomSource for Seeded {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        out.iter_mut().for_each(|octet| *octet = self.next().to_be_bytes()[0]);
        Ok(())
    }
}

/// Configuration, policy and SADB of one host.
pub(crate) struct TestHost {
    pub(crate) rules: Vec<Arc<Rule>>,
    pub(crate) policy: Option<ChildPolicy>,
    next_spi: u32,
    pub(crate) larval: BTreeSet<u32>,
    pub(crate) heard: BTreeMap<u32, Timestamp>,
    pub(crate) spoken: BTreeMap<u32, Timestamp>,
    pub(crate) no_spi: bool,
    pub(crate) store: Arc<KeyStore>,
    /// The time of day, in seconds since 1970.
    pub(crate) wall: u64,
    /// Why the SADB takes no pair.
    pub(crate) refuses: Option<InstallRefusal>,
}

impl Host for TestHost {
    fn rule_for_initiator(&self, acquire: &Acquire) -> Option<Arc<Rule>> {
        let wanted = acquire.rule_label.as_ref();
        self.rules.iter().find(|rule| wanted.is_none_or(|label| *label == rule.label)).cloned()
    }

    fn rules_for_responder(&self, _: IpAddr, _: IpAddr) -> Vec<Arc<Rule>> {
        self.rules.clone()
    }

    fn key_store(&self) -> Arc<KeyStore> {
        Arc::clone(&self.store)
    }

    fn wall_clock(&self) -> Duration {
        seconds(self.wall)
    }

    fn child_policy(&self, query: &ChildQuery<'_>) -> Result<ChildPolicy, ChildRefusal> {
        assert!(!query.ts_local.is_empty() || !query.ts_remote.is_empty() || query.mode == Mode::Tunnel);
        self.policy.clone().ok_or(ChildRefusal { reason: "no policy protects this traffic".to_owned() })
    }

    fn allocate_spi(&mut self, _: &SpiRequest) -> Result<u32, SpiRefusal> {
        if self.no_spi {
            return Err(SpiRefusal { reason: "the SADB is full".to_owned() });
        }
        self.next_spi += 1;
        self.larval.insert(self.next_spi);
        Ok(self.next_spi)
    }

    fn install_child(&mut self, sa: &ChildSa) -> Result<(), InstallRefusal> {
        assert!(self.larval.contains(&sa.inbound.spi), "installed without reservation");
        if let Some(refusal) = &self.refuses {
            return Err(refusal.clone());
        }
        self.larval.remove(&sa.inbound.spi);
        Ok(())
    }

    fn last_inbound(&self, inbound_spi: u32) -> Option<Timestamp> {
        self.heard.get(&inbound_spi).copied()
    }

    fn last_outbound(&self, inbound_spi: u32) -> Option<Timestamp> {
        self.spoken.get(&inbound_spi).copied()
    }
}

/// One host.
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint<TestHost>,
    pub(crate) address: IpAddr,
    pub(crate) installed: BTreeMap<u32, ChildSa>,
    /// Inbound SPI of the pair that outbound traffic uses now.
    pub(crate) bound: Option<u32>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) sent: Vec<Transmit>,
}

impl Node {
    fn new(seed: u64, address: &str, config: EndpointConfig, rule: Rule, policy: ChildPolicy) -> Self {
        let next_spi = u32::try_from(seed % 1000 + 1).unwrap() << 20;
        let host = TestHost {
            rules: vec![Arc::new(rule)],
            policy: Some(policy),
            next_spi,
            larval: BTreeSet::new(),
            heard: BTreeMap::new(),
            spoken: BTreeMap::new(),
            no_spi: false,
            store: Arc::default(),
            wall: crate::authority::NOW,
            refuses: None,
        };
        Self {
            endpoint: Endpoint::new(config, Box::new(Seeded(seed)), host),
            address: address.parse().unwrap(),
            installed: BTreeMap::new(),
            bound: None,
            effects: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Does what a driver and an SADB would do; asserts that the core asks for nothing impossible.
    fn drain(&mut self) {
        while let Some(effect) = self.endpoint.poll_effect() {
            match &effect {
                Effect::ChildInstalled(sa) => {
                    if sa.outbound_use == OutboundUse::Now {
                        self.bound = Some(sa.inbound.spi);
                    }
                    assert!(self.installed.insert(sa.inbound.spi, (**sa).clone()).is_none());
                }
                Effect::ReleaseSpi { spi, .. } => {
                    assert!(self.endpoint.host_mut().larval.remove(spi), "released twice or never reserved");
                }
                Effect::RemoveChild(removed) => {
                    let sa = self.installed.remove(&removed.spis.inbound).expect("removed and never installed");
                    assert_eq!(sa.spis(), removed.spis);
                    self.bound.take_if(|spi| *spi == removed.spis.inbound);
                }
                Effect::SwitchOutbound { spis, .. } => {
                    assert!(self.installed.contains_key(&spis.inbound));
                    self.bound = Some(spis.inbound);
                }
                Effect::MovePeer(moved) => {
                    for (_, spis) in &moved.children {
                        let sa = self.installed.get_mut(&spis.inbound).unwrap();
                        sa.peer = moved.new.remote.ip();
                        sa.encap = moved.encap;
                    }
                }
                _ => {}
            }
            self.effects.push(effect);
        }
    }

    pub(crate) fn logs(&self) -> Vec<String> {
        let line = |effect: &Effect| if let Effect::Log(line) = effect { Some(line.text.clone()) } else { None };
        self.effects.iter().filter_map(line).collect()
    }

    pub(crate) fn logged(&self, word: &str) -> bool {
        self.logs().iter().any(|line| line.contains(word))
    }

    pub(crate) fn acquire_failures(&self) -> Vec<(u64, FailureCause)> {
        let failed = |effect: &Effect| match effect {
            Effect::AcquireFailed { id, cause, .. } => Some((*id, *cause)),
            _ => None,
        };
        self.effects.iter().filter_map(failed).collect()
    }

    pub(crate) fn host(&mut self) -> &mut TestHost {
        self.endpoint.host_mut()
    }

    /// Changes the only rule.
    pub(crate) fn rule(&mut self, change: impl FnOnce(&mut Rule)) {
        let mut rule = (*self.host().rules[0]).clone();
        change(&mut rule);
        self.host().rules[0] = Arc::new(rule);
    }

    pub(crate) fn policy(&mut self) -> &mut ChildPolicy {
        self.host().policy.as_mut().unwrap()
    }

    pub(crate) fn only_child(&self) -> &ChildSa {
        assert_eq!(self.installed.len(), 1, "children: {:?}", self.installed.keys());
        self.installed.values().next().unwrap()
    }

    pub(crate) fn up(&self, now: Timestamp) -> Vec<IkeSaSnapshot> {
        let in_use = |sa: &IkeSaSnapshot| matches!(sa.state, IkeState::Established | IkeState::Rekeying);
        self.endpoint.snapshot(now).into_iter().filter(in_use).collect()
    }
}

/// Which host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    A,
    B,
}

#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) at: Timestamp,
    pub(crate) to: Side,
    pub(crate) path: Path,
    pub(crate) bytes: Vec<u8>,
}

/// Loss, duplication and delay, in percent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lose: u64,
    pub(crate) double: u64,
    pub(crate) delay: u64,
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) wire: VecDeque<Packet>,
    pub(crate) faults: Faults,
    pub(crate) random: Seeded,
    /// Public address of A, when A is behind a NAT; ports are kept, plus this.
    pub(crate) nat: Option<(IpAddr, u16)>,
    /// Packets to hold back: they stay on the wire until the filter changes.
    pub(crate) hold: Option<fn(&Packet) -> bool>,
    acquires: u64,
}

pub(crate) const LATENCY: Duration = Duration::from_millis(10);

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn net(text: &str, last: &str) -> TrafficSelector {
    TrafficSelector::new(0, Ports::ANY, text.parse().unwrap(), last.parse().unwrap()).unwrap()
}

pub(crate) fn proposal(encr: Encr, integ: &[IntegId], prf: PrfId, group: GroupId) -> IkeProposal {
    IkeProposal { encr: vec![encr], integ: integ.to_vec(), prf: vec![prf], groups: vec![group] }
}

pub(crate) fn rule(label: &str) -> Rule {
    let secret = || Secret::copy_of(b"the key of both");
    Rule {
        label: label.to_owned(),
        source: SourceLine { file: "ikev2.config".to_owned(), line: 12 },
        local_id: LocalIdentity::Address,
        remote_id: IdPattern::Any,
        local_auth: AuthBy::Preshared,
        remote_auth: AuthBy::Preshared,
        required_issuer: None,
        psk: Some(Psk { local: secret(), remote: secret() }),
        proposals: vec![IkeProposal {
            encr: vec![Encr::aes_gcm_16(256), Encr::CHACHA20_POLY1305],
            integ: vec![],
            prf: vec![PrfId::HMAC_SHA2_256],
            groups: vec![GroupId::CURVE25519, GroupId::ECP_256],
        }],
        ikesa_lifetime: Duration::ZERO,
        child_lifetimes: ChildLifetimes { soft: seconds(2400), hard: seconds(2880), ..ChildLifetimes::default() },
        childsa_pfs: GroupId::NONE,
        retry: RetryPolicy { limit: 4, initial: seconds(1), max: seconds(8), patience: None },
        dpd_interval: Duration::ZERO,
    }
}

fn policy(local: TrafficSelector, remote: TrafficSelector) -> ChildPolicy {
    ChildPolicy {
        action: 77,
        source: "ipsecinit.conf:3".to_owned(),
        mode: Mode::Tunnel,
        suites: vec![ChildSuite::esp_aead(Encr::CHACHA20_POLY1305), ChildSuite::esp_aead(Encr::aes_gcm_16(128))],
        esn: EsnPolicy::Preferred,
        ts_local: vec![local],
        ts_remote: vec![remote],
    }
}

pub(crate) const A_NET: (&str, &str) = ("10.1.0.0", "10.1.255.255");
pub(crate) const B_NET: (&str, &str) = ("10.2.0.0", "10.2.255.255");

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_config(seed, EndpointConfig::default())
    }

    pub(crate) fn with_config(seed: u64, config: EndpointConfig) -> Self {
        let (left, right) = (net(A_NET.0, A_NET.1), net(B_NET.0, B_NET.1));
        Self {
            now: Timestamp::from_duration(seconds(1000)),
            a: Node::new(seed * 2 + 1, "192.0.2.1", config.clone(), rule("to-b"), policy(left, right)),
            b: Node::new(seed * 2 + 2, "198.51.100.2", config, rule("to-a"), policy(right, left)),
            wire: VecDeque::new(),
            faults: Faults::default(),
            random: Seeded(seed ^ 0x5eed),
            nat: None,
            hold: None,
            acquires: 0,
        }
    }

    /// Begins one side anew with another configuration of its own.
    pub(crate) fn give_config(&mut self, side: Side, seed: u64, config: EndpointConfig) {
        let (left, right) = (net(A_NET.0, A_NET.1), net(B_NET.0, B_NET.1));
        *self.node(side) = match side {
            Side::A => Node::new(seed, "192.0.2.1", config, rule("to-b"), policy(left, right)),
            Side::B => Node::new(seed, "198.51.100.2", config, rule("to-a"), policy(right, left)),
        };
    }

    /// The same hosts with IPv6 addresses; the networks behind them keep IPv4.
    pub(crate) fn over_ipv6(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.a.address = "2001:db8::1".parse().unwrap();
        world.b.address = "2001:db8:2::2".parse().unwrap();
        world
    }

    /// A world in which A has negotiated one child with B.
    pub(crate) fn connected(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.acquire(Side::A);
        world.settle();
        world.assert_mirrored(1);
        world
    }

    pub(crate) fn node(&mut self, side: Side) -> &mut Node {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Traffic on one side meets its policy.
    pub(crate) fn acquire(&mut self, side: Side) -> u64 {
        self.acquires += 1;
        let (id, now) = (self.acquires, self.now);
        let remote = if side == Side::A { self.b.address } else { self.a.address };
        let node = self.node(side);
        let acquire =
            Acquire { id, local: node.address, remote, policy: node.policy().clone(), packet: None, rule_label: None };
        node.endpoint.handle_acquire(now, acquire);
        self.flush();
        id
    }

    pub(crate) fn command(&mut self, side: Side, command: Command) {
        let now = self.now;
        self.node(side).endpoint.handle_command(now, command);
        self.flush();
    }

    pub(crate) fn expire(&mut self, side: Side, kind: ExpireKind) {
        let now = self.now;
        let node = self.node(side);
        let spi = *node.installed.keys().next_back().unwrap();
        node.endpoint.handle_expire(now, Expire { spi, inbound: true, kind });
        self.flush();
    }

    pub(crate) fn rekey_ike(&mut self, side: Side) {
        let now = self.now;
        let spis = self.node(side).up(now)[0].spis;
        self.command(side, Command::RekeyIkeSa(spis));
    }

    /// Fetches what came out of both hosts, effects first, and puts datagrams on the wire.
    pub(crate) fn flush(&mut self) {
        for side in [Side::A, Side::B] {
            self.node(side).drain();
            while let Some(transmit) = self.node(side).endpoint.poll_transmit() {
                self.node(side).sent.push(transmit.clone());
                self.send(side, &transmit);
            }
        }
    }

    fn send(&mut self, from: Side, transmit: &Transmit) {
        assert_eq!(transmit.natt_marker, transmit.path.local.port() == 4500 && transmit.bytes != [0xff]);
        if transmit.bytes == [0xff] {
            return;
        }
        let Path { local, remote } = transmit.path;
        let (to, path) = match (from, self.nat) {
            (Side::A, None) => (Side::B, Path { local: remote, remote: local }),
            (Side::B, None) => (Side::A, Path { local: remote, remote: local }),
            (Side::A, Some((public, shift))) => {
                let seen = SocketAddr::new(public, local.port() + shift);
                (Side::B, Path { local: remote, remote: seen })
            }
            (Side::B, Some((public, shift))) => {
                if remote.ip() != public {
                    return;
                }
                let inside = SocketAddr::new(self.a.address, remote.port().wrapping_sub(shift));
                (Side::A, Path { local: inside, remote: local })
            }
        };
        if self.random.chance(self.faults.lose) {
            return;
        }
        let copies = if self.random.chance(self.faults.double) { 2 } else { 1 };
        for _ in 0..copies {
            let extra = if self.random.chance(self.faults.delay) { self.random.next() % 1500 } else { 0 };
            let at = self.now.after(LATENCY + Duration::from_millis(extra));
            self.wire.push_back(Packet { at, to, path, bytes: transmit.bytes.clone() });
        }
    }

    fn next_packet(&self) -> Option<usize> {
        let held = |p: &Packet| self.hold.is_some_and(|hold| hold(p));
        let free = self.wire.iter().enumerate().filter(|(_, p)| !held(p));
        free.min_by_key(|(index, p)| (p.at, *index)).map(|(index, _)| index)
    }

    pub(crate) fn deliver(&mut self, packet: &Packet) {
        let now = self.now;
        self.node(packet.to).endpoint.handle_datagram(now, packet.path, &packet.bytes);
        self.flush();
    }

    /// Delivers packets until none is on its way; no timer fires.
    pub(crate) fn settle(&mut self) {
        while let Some(index) = self.next_packet() {
            let packet = self.wire.remove(index).unwrap();
            self.now = self.now.max(packet.at);
            self.deliver(&packet);
        }
    }

    /// Lets time pass: packets and timers in order.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            let packet = self.next_packet().map(|index| (self.wire[index].at, index));
            let timers = [Side::A, Side::B].map(|side| self.node(side).endpoint.poll_timeout());
            let timer = timers.into_iter().flatten().min();
            let next = packet.map(|(at, _)| at).into_iter().chain(timer).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            if let Some((_, index)) = packet.filter(|(at, _)| *at <= next) {
                let packet = self.wire.remove(index).unwrap();
                self.deliver(&packet);
            } else {
                let now = self.now;
                self.a.endpoint.handle_timeout(now);
                self.b.endpoint.handle_timeout(now);
                self.flush();
            }
        }
        self.now = end;
    }

    /// Both hosts have the same children, crosswise, with the same keys; nothing is reserved and unused.
    pub(crate) fn assert_mirrored(&self, count: usize) {
        assert_eq!(self.a.installed.len(), count, "A: {:?}\n{}", self.a.installed.keys(), self.story());
        assert_eq!(self.b.installed.len(), count, "B: {:?}\n{}", self.b.installed.keys(), self.story());
        for here in self.a.installed.values() {
            let there = self.b.installed.get(&here.outbound.spi).expect("no counterpart");
            assert_eq!(here.outbound, there.inbound);
            assert_eq!(here.inbound, there.outbound);
            assert_eq!((&here.ts_local, &here.ts_remote), (&there.ts_remote, &there.ts_local));
            assert_eq!((here.suite, here.esn, here.mode), (there.suite, there.esn, there.mode));
            assert_eq!((&here.local_id, &here.remote_id), (&there.remote_id, &there.local_id));
        }
        self.assert_no_leak();
    }

    /// No SPI is reserved without a negotiation, and what the SADB has is what the core knows.
    pub(crate) fn assert_no_leak(&self) {
        for node in [&self.a, &self.b] {
            assert!(
                node.endpoint.host().larval.is_empty(),
                "larval: {:?}\n{}",
                node.endpoint.host().larval,
                self.story()
            );
            let known: BTreeSet<u32> =
                node.up(self.now).iter().flat_map(|sa| sa.children.iter().map(|c| c.spis.inbound)).collect();
            assert_eq!(known, node.installed.keys().copied().collect(), "{}", self.story());
        }
    }

    /// Every request of the data path was answered exactly once, by an SA or by a failure.
    pub(crate) fn assert_answered(&self) {
        let mut answers: BTreeMap<u64, usize> = (1..=self.acquires).map(|id| (id, 0)).collect();
        for effect in self.a.effects.iter().chain(&self.b.effects) {
            let id = match effect {
                Effect::ChildInstalled(sa) => sa.acquire,
                Effect::AcquireFailed { id, .. } => Some(*id),
                _ => None,
            };
            if let Some(count) = id.and_then(|id| answers.get_mut(&id)) {
                *count += 1;
            }
        }
        assert!(answers.values().all(|count| *count == 1), "{answers:?}\n{}", self.story());
    }

    /// Both hosts have exactly one IKE SA, the same one, and can talk on it.
    pub(crate) fn assert_one_ike(&mut self) -> IkeSpis {
        let (here, there) = (self.a.up(self.now), self.b.up(self.now));
        assert_eq!((here.len(), there.len()), (1, 1), "{}", self.story());
        assert_eq!(here[0].spis, there[0].spis);
        assert_eq!(self.a.endpoint.keys(here[0].spis), self.b.endpoint.keys(here[0].spis));
        here[0].spis
    }

    /// The outbound half in use on either side belongs to the same pair.
    pub(crate) fn assert_bound_together(&self) {
        let (here, there) = (self.a.bound.expect("A sends on nothing"), self.b.bound.expect("B sends on nothing"));
        assert_eq!(self.a.installed[&here].outbound.spi, there, "{}", self.story());
    }

    /// What happened, for the reader of a failed assertion.
    pub(crate) fn story(&self) -> String {
        let brief = |effect: &Effect| match effect {
            Effect::ChildInstalled(sa) => {
                format!("install {:?} rekeys {:?} {:?} in {}", sa.spis(), sa.rekeys, sa.outbound_use, sa.ike)
            }
            Effect::RemoveChild(removed) => format!("remove {:?} {}", removed.spis, removed.reason),
            Effect::IkeSaUp { spis, rekeys, .. } => format!("up {spis} rekeys {rekeys:?}"),
            Effect::Log(line) => format!("log: {}", line.text),
            other => format!("{other:?}"),
        };
        let all = |node: &Node| node.effects.iter().map(brief).collect::<Vec<_>>().join("\n  ");
        format!("A:\n  {}\nB:\n  {}", all(&self.a), all(&self.b))
    }
}
