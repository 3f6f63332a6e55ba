//! The data path of an attached instance as the driver's [`KernelSide`]: SAs negotiated by the core become records of
//! sadb-maps, events of the ring become requests.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use sadb_maps::Addr;
use sadb_maps::event::{Event, kind};
use sadb_maps::host::{
    CompiledRule, Direction, Encap, HeldPacket, Instance, IvSource, KmSockets, Mode, SaInfo, SaKey, SaSpec, Sadb,
    SadbError, SecretKey, Spd, relay,
};
use sadb_maps::policy::{Rule, rule_flag};
use sadb_maps::sa::{AH, BindingKey, ESP, Lifetime, SaSelectors, km};

use tracing::{info, warn};

use super::holder::Keeper;
use super::kernel::{FoundPair, KernelError, KernelEvent, KernelSide, PairKey};
use super::listen::{self, LEASE_INTERVAL, Listener, Told};
use super::permitted::Permitted;
use super::{algorithms, policy};
use crate::core::api::{self, ChildSa, ExpireKind, InstallRefusal, OutboundUse, Path, Protocol, RefusalKind, SpiPair};
use crate::wire::transform::GroupId;
use crate::wire::ts::{Ports, TrafficSelector};

/// SPIs up to 255 are reserved by IANA (RFC 4303 section 2.1).
const FIRST_SPI: u32 = 256;

/// The most events taken in one go, so that datagrams and timers get their turn in a storm of them.
const MAX_EVENTS: usize = 256;

/// The data path of one instance.
pub struct SadbKernel {
    sadb: Sadb,
    spd: Spd,
    instance: Instance,
    permitted: Permitted,
    sockets: KmSockets,
    registered: Vec<(OwnedFd, u64)>,
    listener: Listener,
    keeper: Keeper,
    /// When it was last asked whether the instance is the same.
    looked: Instant,
    /// The instance is another one than the core knows.
    is_other: bool,
}

impl SadbKernel {
    /// Opens an attached instance and begins to listen to it.
    ///
    /// # Errors
    /// Not attached, another network namespace, maps of another version.
    pub fn open(instance: &Instance) -> Result<Self, KernelError> {
        let failed = |error: SadbError| KernelError(error.to_string());
        Ok(Self {
            sadb: Sadb::open(instance).map_err(failed)?,
            spd: Spd::open(instance).map_err(failed)?,
            instance: instance.clone(),
            permitted: Permitted::of(instance),
            sockets: KmSockets::open(instance).map_err(failed)?,
            registered: Vec::new(),
            listener: Listener::new(instance)?,
            keeper: Keeper::new(instance),
            looked: Instant::now(),
            is_other: false,
        })
    }

    /// The rule in force with this action.
    fn rule(&mut self, action: u64) -> Result<Option<Rule>, KernelError> {
        let rules = self.rules()?;
        Ok(rules.into_iter().map(|compiled| compiled.rule).find(|rule| rule.action_id == action))
    }

    /// Looks, once a second, whether the maps are still those of the instance: it may have been attached anew, or have moved
    /// to other maps. SAs and policy follow by themselves.
    fn follow(&mut self) {
        if self.looked.elapsed() < LEASE_INTERVAL {
            return;
        }
        self.looked = Instant::now();
        self.listener.follow();
        if self.sockets.is_current() {
            return;
        }
        // While nothing is attached nothing stops what key management sends.
        let Ok(mut sockets) = KmSockets::open(&self.instance) else { return };
        for (socket, cookie) in &mut self.registered {
            match sockets.register(&*socket) {
                Ok(new) => *cookie = new,
                Err(error) => {
                    warn!(target: "ikev2d::sadb", %error, "IKE may not pass the data path; trying again");
                    return;
                }
            }
        }
        info!(target: "ikev2d::sadb", "the data path was attached anew, or has other maps");
        (self.sockets, self.is_other) = (sockets, true);
        self.keeper.look_again();
    }

    /// One direction, ignoring that it may be gone.
    fn delete(&mut self, key: &SaKey) -> Result<(), KernelError> {
        match self.sadb.delete(key) {
            Ok(()) | Err(SadbError::NotFound) => Ok(()),
            Err(error) => Err(failed("cannot remove an SA", &error)),
        }
    }

    /// What was heard, as far as it concerns an IKEv2 daemon. What came from the ring goes on to the bus, whoever it
    /// concerns.
    fn translate(&mut self, told: Told) -> Result<Option<KernelEvent>, KernelError> {
        let (found, limit) = match told {
            Told::Wanted(event) => return Ok(Some(KernelEvent::Acquire(Box::new(event)))),
            Told::Event(event) => {
                self.pass_on(&event);
                match event.kind {
                    kind::ACQUIRE => return Ok(Some(KernelEvent::Acquire(Box::new(event)))),
                    kind::MOVED => {
                        let at = |address: Addr, port| SocketAddr::new(address.into(), port);
                        let packet = &event.packet;
                        let ends = [at(packet.laddr, packet.lport), at(packet.raddr, packet.rport)];
                        let found = self.sadb.get_slot(event.sa);
                        return moved(found, ends);
                    }
                    kind::EXPIRE => {
                        let Some(limit) = listen::limit(&event) else { return Ok(None) };
                        (self.sadb.get_slot(event.sa), limit)
                    }
                    _ => return Ok(None),
                }
            }
            Told::Moved(key, local, remote) => {
                let found = self.sadb.get(&key);
                return moved(found, [local, remote]);
            }
            Told::Expired(key, limit, pair) => {
                let found = self.sadb.get(&key);
                if limit == ExpireKind::Hard && matches!(found, Err(SadbError::NotFound)) {
                    let inbound = key.direction == Direction::In;
                    return Ok(Some(KernelEvent::Expire { spi: key.spi, inbound, kind: limit, pair }));
                }
                // The maps show only what lives: it has not met that limit.
                if limit == ExpireKind::Hard && found.is_ok() {
                    return Ok(None);
                }
                (found, limit)
            }
        };
        match found {
            Ok(info) if info.km == km::IKEV2 => Ok(Some(KernelEvent::Expire {
                spi: info.spi,
                inbound: info.is_inbound(),
                kind: limit,
                pair: self::found(&info),
            })),
            Ok(_) | Err(SadbError::NotFound) => Ok(None),
            Err(error) => Err(failed("cannot read an SA", &error)),
        }
    }

    /// Tells the other tools of an event of the ring.
    fn pass_on(&mut self, event: &Event) {
        match relay::messages(event, &mut self.sadb, &mut self.spd) {
            Ok(messages) => messages.iter().for_each(|message| self.listener.publish(message)),
            Err(error) => warn!(target: "ikev2d::sadb", %error, "nobody else hears of an event"),
        }
    }
}

impl Drop for SadbKernel {
    fn drop(&mut self) {
        for (_, cookie) in self.registered.drain(..) {
            // The kernel gives no cookie twice: what stays behind opens nothing.
            let _ = self.sockets.unregister(cookie);
        }
    }
}

impl KernelSide for SadbKernel {
    fn allocate_spi(&mut self, protocol: Protocol, local: IpAddr, remote: IpAddr) -> Result<u32, KernelError> {
        self.sadb
            .reserve_spi(number(protocol), remote, local, FIRST_SPI..=u32::MAX, km::IKEV2)
            .map_err(|error| failed("cannot reserve an SPI", &error))
    }

    fn release_spi(&mut self, protocol: Protocol, spi: u32, local: IpAddr) -> Result<(), KernelError> {
        self.delete(&SaKey { direction: Direction::In, ..SaKey::new(number(protocol), spi, local) })
    }

    fn install(&mut self, sa: &ChildSa, cookie: u64) -> Result<(), InstallRefusal> {
        let rule = self.rule(sa.action)?;
        let (mut inbound, mut outbound) = specs(sa, cookie)?;
        // Bound to its flow, where the policy wants an SA for each.
        let unique = rule.is_some_and(|rule| rule.flags & rule_flag::UNIQUE != 0);
        (inbound.unique, outbound.unique) = (unique, unique);
        self.sadb.add(&inbound).map_err(|error| refused("cannot add the inbound SA", &error))?;
        let pair = PairKey::from(sa);
        let added = match sa.outbound_use {
            OutboundUse::Now => self.sadb.add(&outbound),
            OutboundUse::Later => self.sadb.add_unbound(&outbound),
        };
        if let Err(error) = added {
            self.delete(&inbound_key(&pair))?;
            return Err(refused("cannot add the outbound SA", &error));
        }
        if let Some(encap) = sa.encap.filter(|_| sa.peer != sa.remote) {
            self.move_pair(&pair, SocketAddr::new(sa.peer, encap.remote_port))?;
        }
        Ok(())
    }

    fn holder(&mut self, sa: &ChildSa) -> Result<Option<u32>, KernelError> {
        let unique = self.rule(sa.action)?.is_some_and(|rule| rule.flags & rule_flag::UNIQUE != 0);
        let (_, outbound) = specs(sa, 0)?;
        let mut binding =
            BindingKey { action: sa.action, src: sa.local.into(), dst: sa.remote.into(), ..BindingKey::default() };
        if let Some(flow) = outbound.selectors.filter(|_| unique) {
            let ([sport, _], [dport, _]) = (flow.sport, flow.dport);
            binding = BindingKey { sport, dport, proto: flow.proto, ..binding };
        }
        let bound = self.sadb.bound(&binding).map_err(|error| failed("cannot look for an SA", &error))?;
        Ok(bound.and_then(|info| info.pair_spi))
    }

    fn switch_outbound(&mut self, pair: &PairKey) -> Result<(), KernelError> {
        self.sadb
            .switch_outbound(&outbound_key(pair))
            .map_err(|error| failed("cannot switch to the new outbound SA", &error))
    }

    fn remove(&mut self, pair: &PairKey) -> Result<(), KernelError> {
        // Outbound first: nothing is sent that could not be answered.
        let both = self.sadb.delete_each(&[outbound_key(pair), inbound_key(pair)]);
        both.map(|_| ()).map_err(|error| failed("cannot remove a pair of SAs", &error))
    }

    fn move_pair(&mut self, pair: &PairKey, peer: SocketAddr) -> Result<(), KernelError> {
        let both = [inbound_key(pair), outbound_key(pair)];
        self.sadb.move_peer(&both, peer).map_err(|error| failed("cannot move a pair of SAs", &error))
    }

    fn idle_inbound(&mut self, pair: &PairKey) -> Result<Option<Duration>, KernelError> {
        let info = self.sadb.get(&inbound_key(pair)).map_err(|error| failed("cannot read an SA", &error))?;
        Ok(info.last_use)
    }

    fn idle_outbound(&mut self, pair: &PairKey) -> Result<Option<Duration>, KernelError> {
        let info = self.sadb.get(&outbound_key(pair)).map_err(|error| failed("cannot read an SA", &error))?;
        Ok(info.last_use)
    }

    fn mappings(&mut self) -> Result<Vec<(u32, Path, Duration)>, KernelError> {
        let all = self.sadb.dump(Some(ESP)).map_err(|error| failed("cannot read the SADB", &error))?;
        let natted = all.iter().filter(|info| info.is_outbound() && !info.is_inbound());
        let path = |info: &SaInfo| {
            let encap = info.encap.filter(|encap| encap.nat_local.is_some())?;
            let remote = SocketAddr::new(info.moved_to.unwrap_or(info.dst), encap.dport);
            let path = Path { local: SocketAddr::new(info.src, encap.sport), remote };
            Some((info.pair_spi.unwrap_or(0), path, info.last_use.unwrap_or(info.age)))
        };
        Ok(natted.filter_map(path).collect())
    }

    fn pairs(&mut self) -> Result<Vec<FoundPair>, KernelError> {
        let all = self.sadb.dump(None).map_err(|error| failed("cannot read the SADB", &error))?;
        let mut pairs: Vec<FoundPair> = Vec::new();
        for info in all.iter().filter(|info| info.km == km::IKEV2) {
            let pair = found(info);
            // Both halves of a pair tell the same.
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        Ok(pairs)
    }

    fn forget_acquire(&mut self, binding: &BindingKey) -> Result<(), KernelError> {
        self.sadb.forget_acquire(binding).map_err(|error| failed("cannot forget an ACQUIRE", &error))
    }

    fn reap(&mut self) -> Result<(), KernelError> {
        self.sadb.reap().map(|_| ()).map_err(|error| failed("cannot remove dead SAs", &error))
    }

    fn rules(&mut self) -> Result<Vec<CompiledRule>, KernelError> {
        let mut rules = self.spd.rules().map_err(|error| failed("cannot read the policy", &error))?;
        self.permitted.follow();
        rules.iter_mut().for_each(|compiled| self.permitted.restrict(&mut compiled.rule));
        Ok(rules)
    }

    fn events(&mut self) -> Result<Vec<KernelEvent>, KernelError> {
        self.follow();
        // One process for all that the data path says.
        if self.keeper.tend(self.listener.has_lease()) {
            self.listener.refresh();
        }
        let mut events = Vec::new();
        while events.len() < MAX_EVENTS {
            let Some(told) = self.listener.next()? else { break };
            events.extend(self.translate(told)?);
        }
        Ok(events)
    }

    fn new_event_fd(&mut self) -> Result<Option<OwnedFd>, KernelError> {
        self.listener
            .new_descriptor(self.keeper.descriptors())
            .map_err(|error| KernelError(format!("cannot wait for events: {error}")))
    }

    fn is_other(&mut self) -> bool {
        std::mem::take(&mut self.is_other)
    }

    fn packets(&mut self) -> Vec<HeldPacket> {
        self.keeper.packets()
    }

    fn packets_lost(&self) -> u64 {
        self.keeper.lost()
    }

    fn release_packet(&mut self, packet: HeldPacket) -> Result<(), KernelError> {
        self.keeper.release(packet).map_err(|error| KernelError(error.to_string()))
    }

    fn is_bound(&mut self, binding: &BindingKey) -> Result<bool, KernelError> {
        self.sadb.is_bound(binding).map_err(|error| failed("cannot look for an SA", &error))
    }

    fn set_path_log(&mut self, on: bool) {
        self.listener.set_path_log(on);
    }

    fn exempt_socket(&mut self, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        let cookie = self.sockets.register(socket).map_err(|error| failed("cannot register a socket", &error))?;
        let kept =
            socket.try_clone_to_owned().map_err(|error| KernelError(format!("cannot keep a socket: {error}")))?;
        self.registered.push((kept, cookie));
        Ok(())
    }
}

/// A packet of this SA came from somewhere else, local end first.
fn moved(
    found: Result<SaInfo, SadbError>,
    [local, remote]: [SocketAddr; 2],
) -> Result<Option<KernelEvent>, KernelError> {
    match found {
        Ok(info) if info.km == km::IKEV2 => Ok(Some(KernelEvent::Moved { spi: info.spi, local, remote })),
        Ok(_) | Err(SadbError::NotFound) => Ok(None),
        Err(error) => Err(failed("cannot read an SA", &error)),
    }
}

fn failed(what: &str, error: &SadbError) -> KernelError {
    KernelError(format!("{what}: {error}"))
}

fn refused(what: &str, error: &SadbError) -> InstallRefusal {
    let full = matches!(error, SadbError::Full(_) | SadbError::TooManyBindings(_));
    let kind = if full { RefusalKind::Full } else { RefusalKind::Failure };
    InstallRefusal { kind, ..failed(what, error).into() }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Ah => AH,
        Protocol::Esp => ESP,
    }
}

fn inbound_key(pair: &PairKey) -> SaKey {
    SaKey { direction: Direction::In, ..SaKey::new(number(pair.protocol), pair.spis.inbound, pair.local) }
}

fn outbound_key(pair: &PairKey) -> SaKey {
    let key = SaKey::new(number(pair.protocol), pair.spis.outbound, pair.remote);
    SaKey { direction: Direction::Out, src: Some(pair.local), ..key }
}

/// The pair an SA belongs to, as far as the SA tells.
fn found(info: &SaInfo) -> FoundPair {
    let partner = info.pair_spi.unwrap_or(0);
    let (local, remote, spis) = if info.is_inbound() {
        (info.dst, info.src, SpiPair { inbound: info.spi, outbound: partner })
    } else {
        (info.src, info.dst, SpiPair { inbound: partner, outbound: info.spi })
    };
    let protocol = if info.proto == AH { Protocol::Ah } else { Protocol::Esp };
    FoundPair { key: PairKey { protocol, local, remote, spis }, action: info.action }
}

/// Both directions of a negotiated pair.
fn specs(sa: &ChildSa, cookie: u64) -> Result<(SaSpec, SaSpec), KernelError> {
    let one = |selectors: &[TrafficSelector], side: &str| {
        policy::covering(selectors).ok_or_else(|| {
            let list: Vec<String> = selectors.iter().map(TrafficSelector::to_string).collect();
            KernelError(format!(
                "the {side} selectors {} are not one range, which is what an SA can hold",
                list.join(", ")
            ))
        })
    };
    let (local_ts, remote_ts) = (one(&sa.ts_local, "local")?, one(&sa.ts_remote, "remote")?);
    let numbers = algorithms::cipher(sa.suite.encr).zip(algorithms::auth(sa.suite.integ));
    let (encr, auth) = numbers.ok_or_else(|| KernelError(format!("the data path has no numbers for {}", sa.suite)))?;
    let common = |keys: &api::ChildKeys, src: IpAddr, dst: IpAddr, direction| SaSpec {
        direction,
        mode: match sa.mode {
            api::Mode::Transport => Mode::Transport,
            api::Mode::Tunnel => Mode::Tunnel,
        },
        encr,
        key: SecretKey::new(keys.cipher_key.expose().to_vec()),
        salt: SecretKey::new(keys.salt.expose().to_vec()),
        auth,
        auth_key: SecretKey::new(keys.integ_key.expose().to_vec()),
        esn: sa.esn,
        pfs: sa.group != GroupId::NONE,
        soft: lifetime(sa.lifetimes.soft, sa.lifetimes.soft_bytes),
        hard: lifetime(sa.lifetimes.hard, sa.lifetimes.hard_bytes),
        km: km::IKEV2,
        km_cookie: cookie,
        action: sa.action,
        iv: IvSource::FreshKey,
        ..SaSpec::new(number(sa.suite.protocol), keys.spi, src, dst)
    };
    let idle = u32::try_from(sa.lifetimes.idle.as_secs()).unwrap_or(u32::MAX);
    let inbound = SaSpec {
        replay_window: sa.replay_window,
        idle: [idle; 2],
        selectors: Some(selectors(&remote_ts, &local_ts)),
        encap: sa.encap.map(|encap| encapsulation(sa, [encap.remote_port, encap.local_port])),
        ..common(&sa.inbound, sa.remote, sa.local, Direction::In)
    };
    let outbound = SaSpec {
        selectors: Some(selectors(&local_ts, &remote_ts)),
        encap: sa.encap.map(|encap| encapsulation(sa, [encap.local_port, encap.remote_port])),
        pair_spi: Some(sa.inbound.spi),
        ..common(&sa.outbound, sa.local, sa.remote, Direction::Out)
    };
    Ok((inbound, outbound))
}

/// The encapsulation of one direction, with these ports in the direction of its packets.
fn encapsulation(sa: &ChildSa, [sport, dport]: [u16; 2]) -> Encap {
    let unknown: IpAddr = if sa.local.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    // An original that is the address in use says nothing.
    let address = |behind_nat: bool, original: Option<IpAddr>, ours: IpAddr| {
        behind_nat.then(|| original.filter(|address| *address != ours).unwrap_or(unknown))
    };
    let originals = sa.originals;
    Encap {
        sport,
        dport,
        nat_local: address(sa.nat.local, originals.map(|o| o.local), sa.local),
        nat_remote: address(sa.nat.remote, originals.map(|o| o.remote), sa.remote),
    }
}

fn lifetime(since_added: Duration, bytes: u64) -> Lifetime {
    // A fraction of a second counts as a whole one: 0 would be no limit.
    let rounded = since_added.as_secs().saturating_add(u64::from(since_added.subsec_nanos() > 0));
    Lifetime { add: rounded, bytes, ..Lifetime::default() }
}

/// Selectors in the direction of an SA's packets.
fn selectors(src: &TrafficSelector, dst: &TrafficSelector) -> SaSelectors {
    let range = |ts: &TrafficSelector| match ts.ports() {
        Ports::Range(low, high) => [low, high],
        // Packets whose ports cannot be read match every port anyway.
        Ports::Opaque => [0, u16::MAX],
    };
    let protocol = if src.protocol() != 0 { src.protocol() } else { dst.protocol() };
    SaSelectors {
        src_low: Addr::from(src.start()),
        src_high: Addr::from(src.end()),
        dst_low: Addr::from(dst.start()),
        dst_high: Addr::from(dst.end()),
        sport: range(src),
        dport: range(dst),
        proto: protocol,
        reserved: [0; 7],
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use sadb_maps::host::Loader;
    use sadb_maps::host::pfkey::Message;
    use sadb_maps::host::testing::TestInstance;
    use sadb_maps::policy::Action;
    use sadb_maps::sa::flag;

    use super::*;
    use crate::crypto::Secret;
    use crate::crypto::keys::child_shape;
    use crate::driver::memory;
    use crate::driver::policy::tests::{ip, tunnel_rule};

    fn child(inbound: u32, outbound: u32, outbound_use: OutboundUse) -> ChildSa {
        ChildSa { outbound_use, ..memory::child(inbound, outbound) }
    }

    fn open(test: &TestInstance) -> SadbKernel {
        let mut spd = Spd::open(test).unwrap();
        let mut compiled = tunnel_rule(7);
        compiled.tunnel = None;
        spd.replace(&[compiled]).unwrap();
        SadbKernel::open(test).unwrap()
    }

    #[test]
    fn a_pair_is_installed_found_and_removed() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut kernel = open(&test);
        assert!(kernel.listener.has_lease());
        assert!(kernel.new_event_fd().unwrap().is_some() && kernel.new_event_fd().unwrap().is_none());
        let spi = kernel.allocate_spi(Protocol::Esp, ip("192.0.2.1"), ip("192.0.2.2")).unwrap();
        assert!(spi >= FIRST_SPI);
        let sa = child(spi, 77, OutboundUse::Now);
        let pair = PairKey::from(&sa);
        kernel.install(&sa, 5).unwrap();
        assert_eq!(kernel.pairs().unwrap(), [FoundPair { key: pair, action: 7 }]);
        assert_eq!(kernel.idle_inbound(&pair).unwrap(), None);
        let info = kernel.sadb.get(&inbound_key(&pair)).unwrap();
        assert_eq!((info.soft.add, info.hard.add, info.km_cookie, info.replay_window), (60, 100, 5, 1024));
        assert_eq!(info.selectors.unwrap().dst_low, Addr::from(ip("10.1.0.0")));
        assert_eq!(info.pair_spi, Some(77));
        kernel.remove(&pair).unwrap();
        kernel.remove(&pair).unwrap();
        assert!(kernel.pairs().unwrap().is_empty());
    }

    /// Spec section 4.4, `sa unique`: the binding is that of the flow.
    #[test]
    fn a_pair_of_a_unique_rule_is_bound_to_its_flow() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut compiled = policy::tests::host_rule(7);
        compiled.rule.flags = rule_flag::UNIQUE;
        Spd::open(&test).unwrap().replace(std::slice::from_ref(&compiled)).unwrap();
        let mut kernel = SadbKernel::open(&test).unwrap();
        let flow =
            |address: &str, port| TrafficSelector::new(6, Ports::Range(port, port), ip(address), ip(address)).unwrap();
        let sa = ChildSa {
            mode: api::Mode::Transport,
            ts_local: vec![flow("192.0.2.1", 4000)],
            ts_remote: vec![flow("192.0.2.2", 80)],
            ..child(300, 77, OutboundUse::Now)
        };
        kernel.install(&sa, 0).unwrap();
        let info = kernel.sadb.get(&outbound_key(&PairKey::from(&sa))).unwrap();
        assert!(info.flags & flag::UNIQUE != 0);
        assert_eq!((info.selectors.unwrap().sport, info.selectors.unwrap().dport), ([4000; 2], [80; 2]));
    }

    /// The socket may be used again, events come from the new ring, and the core hears that its SAs are elsewhere.
    #[test]
    fn a_data_path_that_is_attached_anew_is_followed() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut kernel = open(&test);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        kernel.exempt_socket(socket.as_fd()).unwrap();
        kernel.install(&child(300, 77, OutboundUse::Now), 0).unwrap();
        assert_eq!(kernel.pairs().unwrap().len(), 1);
        let look = |kernel: &mut SadbKernel| {
            kernel.looked -= LEASE_INTERVAL;
            kernel.listener.asked -= LEASE_INTERVAL;
            kernel.events().unwrap()
        };
        look(&mut kernel);
        assert!(kernel.listener.has_lease() && !kernel.is_other());
        Loader::detach_all(&test).unwrap();
        look(&mut kernel);
        assert!(!kernel.listener.has_lease() && !kernel.is_other() && kernel.pairs().is_err());
        sadb_maps::host::layout::create_pinned(&test, 5).unwrap();
        look(&mut kernel);
        assert!(kernel.listener.has_lease() && kernel.is_other() && !kernel.is_other());
        assert!(kernel.new_event_fd().unwrap().is_some());
        assert!(kernel.pairs().unwrap().is_empty());
        assert!(kernel.sockets.is_registered(kernel.registered[0].1).unwrap());
        kernel.install(&child(300, 77, OutboundUse::Now), 0).unwrap();
    }

    #[test]
    fn a_refused_half_leaves_nothing() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut kernel = open(&test);
        let mut sa = child(300, 77, OutboundUse::Now);
        sa.outbound.salt = Secret::new(vec![0; 3]);
        assert!(kernel.install(&sa, 0).unwrap_err().reason.contains("outbound"));
        assert!(kernel.pairs().unwrap().is_empty());
        let mut sa = child(300, 77, OutboundUse::Now);
        sa.ts_remote = vec![TrafficSelector::host(ip("10.2.0.1")), TrafficSelector::host(ip("10.2.0.9"))];
        assert!(kernel.install(&sa, 0).unwrap_err().reason.contains("not one range"));
    }

    #[test]
    fn a_later_pair_switches_when_told() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut kernel = open(&test);
        let sa = child(300, 77, OutboundUse::Later);
        kernel.install(&sa, 0).unwrap();
        kernel.switch_outbound(&PairKey::from(&sa)).unwrap();
        assert!(
            kernel
                .switch_outbound(&PairKey { spis: SpiPair { inbound: 300, outbound: 78 }, ..PairKey::from(&sa) })
                .is_err()
        );
    }

    #[test]
    fn who_comes_second_listens_to_the_bus_and_takes_over() {
        let test = TestInstance::with_maps(2).unwrap();
        let first = open(&test);
        let mut second = SadbKernel::open(&test).unwrap();
        assert!(first.listener.has_lease() && !second.listener.has_lease());
        assert!(second.new_event_fd().unwrap().is_some());
        let compiled = tunnel_rule(7);
        let event = policy::tests::event(&compiled, "10.1.0.5", "10.2.0.9");
        Message::acquires(&event, &compiled.rule).iter().for_each(|message| first.listener.publish(message));
        let events = second.events().unwrap();
        let mine = |heard: &KernelEvent| matches!(heard, KernelEvent::Acquire(heard) if heard.binding == event.binding);
        // Not once more for the regular ones.
        assert_eq!(events.iter().filter(|event| mine(event)).count(), 1, "{events:?}");
        drop(first);
        second.listener.asked -= LEASE_INTERVAL;
        second.events().unwrap();
        assert!(second.listener.has_lease() && second.new_event_fd().unwrap().is_some());
    }

    /// A message of the bus is only a hint: an SA that the maps show alive has not met its hard limit, whoever says so.
    #[test]
    fn a_living_sa_is_not_ended_by_the_bus() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut first = open(&test);
        let mut second = SadbKernel::open(&test).unwrap();
        let sa = child(300, 77, OutboundUse::Now);
        first.install(&sa, 0).unwrap();
        let info = first.sadb.get(&inbound_key(&PairKey::from(&sa))).unwrap();
        let event = |detail| Event { kind: kind::EXPIRE, detail, ..Event::default() };
        let expires = |kernel: &mut SadbKernel| {
            let events = kernel.events().unwrap();
            events.iter().filter(|heard| matches!(heard, KernelEvent::Expire { spi: 300, .. })).count()
        };
        first.listener.publish(&Message::expired(&event(sadb_maps::event::expire::HARD), &info));
        assert_eq!(expires(&mut second), 0);
        first.listener.publish(&Message::expired(&event(sadb_maps::event::expire::SOFT), &info));
        assert_eq!(expires(&mut second), 1);
        first.remove(&PairKey::from(&sa)).unwrap();
        first.listener.publish(&Message::expired(&event(sadb_maps::event::expire::HARD), &info));
        assert_eq!(expires(&mut second), 1);
    }

    #[test]
    fn reserved_spis_go_back() {
        let test = TestInstance::with_maps(2).unwrap();
        let mut kernel = open(&test);
        for _ in 0..4 {
            let spi = kernel.allocate_spi(Protocol::Esp, ip("192.0.2.1"), ip("192.0.2.2")).unwrap();
            kernel.release_spi(Protocol::Esp, spi, ip("192.0.2.1")).unwrap();
        }
        kernel.release_spi(Protocol::Esp, 4711, ip("192.0.2.1")).unwrap();
    }

    /// Every suite of a policy goes into the SADB with the numbers and keys of both algorithms, and survives a move.
    #[test]
    fn every_suite_is_installed_and_moved() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut kernel = open(&test);
        let encap = Some(api::Encap { local_port: 4500, remote_port: 1024 });
        let ciphers = [2, 3, 7, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 28];
        let actions = ciphers.into_iter().flat_map(|encr| [0, 2, 3, 5, 6, 7].map(|auth| (encr, auth)));
        let mut count = 0;
        for (encr, esp_auth) in actions {
            let action = Action { encr, encr_bits: [0, 448], esp_auth, ..Action::default() };
            for suite in algorithms::suites(&action) {
                let shape = child_shape(suite.encr, suite.integ).unwrap();
                let mut sa = ChildSa { suite, encap, ..child(300, 77, OutboundUse::Now) };
                for keys in [&mut sa.inbound, &mut sa.outbound] {
                    let octets = |first: u8, len: usize| Secret::new((first..).take(len).collect());
                    keys.cipher_key = octets(3, shape.cipher);
                    keys.salt = octets(101, shape.salt);
                    keys.integ_key = octets(51, shape.integ);
                }
                kernel.install(&sa, 0).unwrap_or_else(|error| panic!("{suite}: {error}"));
                let pair = PairKey::from(&sa);
                for place in [1, 2] {
                    for (key, keys) in [(inbound_key(&pair), &sa.inbound), (outbound_key(&pair), &sa.outbound)] {
                        let info = kernel.sadb.get(&key).unwrap();
                        assert_eq!((info.encr, info.auth), (encr, esp_auth), "{suite}");
                        assert_eq!(info.key().octets(), keys.cipher_key.expose(), "{suite}");
                        assert_eq!(info.salt().octets(), keys.salt.expose(), "{suite}");
                        assert_eq!(info.auth_key().octets(), keys.integ_key.expose(), "{suite}");
                    }
                    if place == 1 {
                        kernel.move_pair(&pair, "192.0.2.99:1024".parse().unwrap()).unwrap();
                    }
                }
                kernel.remove(&pair).unwrap();
                count += 1;
            }
        }
        // Eight AEADs, one of them with one length; beside five authenticators three ciphers with one length, two with
        // three and Blowfish with eight.
        assert_eq!(count, 7 * 3 + 1 + 5 * (3 + 2 * 3 + 8));
    }

    /// V2-NAT-06, V2-NAT-09: what names the pair stays, so its binding and its place in the books do.
    #[test]
    fn a_moved_pair_keeps_its_name_and_its_binding() {
        let test = TestInstance::with_maps(8).unwrap();
        let mut kernel = open(&test);
        let encap = Some(api::Encap { local_port: 4500, remote_port: 1023 });
        let sa = ChildSa { encap, ..child(300, 77, OutboundUse::Now) };
        kernel.install(&sa, 0).unwrap();
        let pair = PairKey::from(&sa);
        let binding =
            BindingKey { action: 7, src: ip("192.0.2.1").into(), dst: ip("192.0.2.2").into(), ..Default::default() };
        let ends = |kernel: &mut SadbKernel| {
            [outbound_key(&pair), inbound_key(&pair)].map(|key| {
                let info = kernel.sadb.get(&key).unwrap();
                (info.encap.map(|e| [e.sport, e.dport]), info.moved_to)
            })
        };
        for (peer, moved_to) in [("192.0.2.99:1024", Some(ip("192.0.2.99"))), ("192.0.2.2:1025", None)] {
            let peer: SocketAddr = peer.parse().unwrap();
            kernel.move_pair(&pair, peer).unwrap();
            assert_eq!(kernel.pairs().unwrap(), [FoundPair { key: pair, action: 7 }]);
            assert!(kernel.is_bound(&binding).unwrap());
            let port = peer.port();
            assert_eq!(ends(&mut kernel), [(Some([4500, port]), moved_to), (Some([port, 4500]), moved_to)]);
        }
        // A pair that is made after the move has the old name and the new place.
        let next = ChildSa { peer: ip("192.0.2.99"), ..ChildSa { encap, ..child(301, 78, OutboundUse::Now) } };
        kernel.install(&next, 0).unwrap();
        let info = kernel.sadb.get(&outbound_key(&PairKey::from(&next))).unwrap();
        assert_eq!((info.dst, info.moved_to), (ip("192.0.2.2"), Some(ip("192.0.2.99"))));
        assert!(
            kernel
                .move_pair(&PairKey::from(&child(302, 79, OutboundUse::Now)), "192.0.2.9:1".parse().unwrap())
                .is_err()
        );
    }
}
