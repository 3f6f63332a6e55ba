//! What the core asks of its surroundings, and what it wants done: configuration, policy and SADB brought together.
//!
//! [`DriverHost`] is the core's [`Host`]. It also keeps the books that the core does not: which pairs of SAs are this
//! daemon's, which are left over from one before it, which requests of the data path are under way.
//!
//! Pairs left over ("orphans") go on working. They are removed when a negotiation with their peer has put others in their
//! place, and one that runs into a limit is replaced as if its traffic had asked.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sadb_maps::host::CompiledRule;
use sadb_maps::sa::BindingKey;
use tracing::{debug, info, warn};

use super::clock;
use super::files;
use super::hold::Waiting;
use super::kernel::{FoundPair, KernelEvent, KernelSide, PairKey};
use super::mappings::Mappings;
use super::policy;
use crate::config::RuleSet;
use crate::core::api::{
    Acquire, ChildPolicy, ChildQuery, ChildRefusal, ChildSa, Effect, Expire, ExpireKind, FailureCause, Host,
    InstallRefusal, Level, OutboundUse, Path, PeerMoved, RefusalKind, RemovedChild, Rule, SpiRefusal, SpiRequest,
    Timestamp,
};
use crate::pki::KeyStore;
use crate::wire::id::Identification;

/// Something for the core that came out of an event.
#[derive(Debug)]
pub(super) enum Input {
    Acquire(Box<Acquire>),
    Expire(Expire),
    /// The peer of the pair that we receive on with this SPI sends by this path.
    Moved {
        spi: u32,
        path: Path,
    },
}

/// A pair of this daemon.
#[derive(Debug, Clone)]
struct Owned {
    key: PairKey,
    /// Who the peer is.
    remote_id: Identification,
    /// The peer rekeyed and we send on the old pair until it uses this one.
    waits_for_use: bool,
}

/// Numbers for `get stats`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HostCounts {
    pub(super) acquires: u64,
    pub(super) acquires_repeated: u64,
    pub(super) acquires_stale: u64,
    pub(super) expires: u64,
    pub(super) install_failures: u64,
}

/// Configuration and data path, as the core and the driver use them.
pub(super) struct DriverHost<K> {
    kernel: RefCell<K>,
    rules: RuleSet,
    store: Arc<KeyStore>,
    owned: HashMap<u32, Owned>,
    orphans: Vec<FoundPair>,
    /// Peers with a new IKE SA since the last [`DriverHost::settle`].
    renewed: HashSet<(IpAddr, IpAddr)>,
    pending: HashMap<BindingKey, u64>,
    last_acquire: u64,
    mappings: Mappings,
    /// Packets that wait for an SA.
    pub(super) waiting: Waiting,
    pub(super) counts: HostCounts,
}

impl<K: KernelSide> DriverHost<K> {
    /// With what is in the SADB already: pairs of a dead predecessor.
    pub(super) fn new(mut kernel: K, rules: RuleSet, store: Arc<KeyStore>) -> Self {
        let orphans = kernel.pairs().unwrap_or_else(|error| {
            warn!(target: "ikev2d::sadb", %error, "SAs of an earlier daemon cannot be looked for");
            Vec::new()
        });
        if !orphans.is_empty() {
            info!(target: "ikev2d::sadb", pairs = orphans.len(), "found SAs of an earlier daemon; they work until replaced");
        }
        Self {
            kernel: RefCell::new(kernel),
            rules,
            store,
            owned: HashMap::new(),
            orphans,
            renewed: HashSet::new(),
            pending: HashMap::new(),
            last_acquire: 0,
            mappings: Mappings::default(),
            waiting: Waiting::default(),
            counts: HostCounts::default(),
        }
    }

    pub(super) fn kernel(&mut self) -> &mut K {
        self.kernel.get_mut()
    }

    /// Packets that the data path had to drop although they could have waited.
    pub(super) fn packets_lost(&self) -> u64 {
        self.kernel.borrow().packets_lost()
    }

    pub(super) fn set_rules(&mut self, rules: RuleSet, store: Arc<KeyStore>) {
        self.rules = rules;
        self.store = store;
    }

    /// Number of pairs of this daemon.
    pub(super) fn owned(&self) -> usize {
        self.owned.len()
    }

    /// Number of pairs left over from an earlier daemon.
    pub(super) fn orphans(&self) -> usize {
        self.orphans.len()
    }

    fn policy(&self) -> Vec<CompiledRule> {
        self.kernel.borrow_mut().rules().unwrap_or_else(|error| {
            warn!(target: "ikev2d::sadb", %error, "no policy");
            Vec::new()
        })
    }

    /// What an event of the data path means to the core.
    pub(super) fn event(&mut self, event: &KernelEvent) -> Option<Input> {
        match event {
            KernelEvent::Acquire(event) => {
                self.counts.acquires += 1;
                self.request(event.binding, |id, rules| policy::acquire(id, event, rules))
            }
            KernelEvent::Expire { spi, inbound, kind, pair } => self.expired(*spi, *inbound, *kind, pair),
            KernelEvent::Moved { spi, local, remote } => {
                let path = Path { local: *local, remote: *remote };
                self.owned.contains_key(spi).then_some(Input::Moved { spi: *spi, path })
            }
        }
    }

    /// A request to the core, unless the same is under way.
    fn request(
        &mut self,
        binding: BindingKey,
        make: impl FnOnce(u64, &[CompiledRule]) -> Result<Acquire, policy::AcquireError>,
    ) -> Option<Input> {
        if self.pending.contains_key(&binding) {
            self.counts.acquires_repeated += 1;
            return None;
        }
        let id = self.last_acquire.wrapping_add(1);
        match make(id, &self.policy()) {
            Ok(acquire) => {
                self.last_acquire = id;
                self.pending.insert(binding, id);
                debug!(target: "ikev2d::sadb", id, local = %acquire.local, remote = %acquire.remote,
                    policy = %acquire.policy.source, "traffic asks for an SA");
                Some(Input::Acquire(Box::new(acquire)))
            }
            Err(reason) => {
                self.counts.acquires_stale += 1;
                debug!(target: "ikev2d::sadb", %reason, "a request of the data path is dropped");
                None
            }
        }
    }

    fn expired(&mut self, spi: u32, inbound: bool, kind: ExpireKind, pair: &FoundPair) -> Option<Input> {
        self.counts.expires += 1;
        let ours = if inbound {
            self.owned.contains_key(&spi)
        } else {
            self.owned.values().any(|owned| owned.key.spis.outbound == spi && owned.key.remote == pair.key.remote)
        };
        debug!(target: "ikev2d::sadb", spi = format_args!("0x{spi:08x}"), inbound, ?kind, ours, "an SA met a limit");
        if ours {
            return Some(Input::Expire(Expire { spi, inbound, kind }));
        }
        let orphan = self.orphans.iter().find(|orphan| orphan.key == pair.key)?.clone();
        if kind == ExpireKind::Idle {
            return None;
        }
        if kind == ExpireKind::Hard {
            self.orphans.retain(|orphan| orphan.key != pair.key);
            self.remove_from_kernel(&pair.key);
        }
        let (action, local, remote) = (orphan.action, pair.key.local, pair.key.remote);
        let binding = BindingKey { action, src: local.into(), dst: remote.into(), ..BindingKey::default() };
        self.request(binding, |id, rules| policy::replacement(id, action, local, remote, rules))
    }

    /// Pairs of which the data path knows nothing, when it is another one than before: to the core, as if a hard limit had
    /// ended them, so that the peers hear of it and the next packet asks for others.
    pub(super) fn lost(&mut self) -> Vec<Input> {
        if !self.kernel.get_mut().is_other() {
            return Vec::new();
        }
        let present = match self.kernel.get_mut().pairs() {
            Ok(present) => present,
            Err(error) => {
                warn!(target: "ikev2d::sadb", %error, "SAs cannot be looked for in the data path");
                return Vec::new();
            }
        };
        let is_there = |key: &PairKey| present.iter().any(|pair| pair.key == *key);
        self.orphans.retain(|orphan| is_there(&orphan.key));
        let lost = self.owned.values().filter(|owned| !is_there(&owned.key)).map(|owned| owned.key.spis.inbound);
        let lost: Vec<u32> = lost.collect();
        if !lost.is_empty() {
            info!(target: "ikev2d::sadb", pairs = lost.len(), "SAs went with the data path that had them; their peers hear of it");
        }
        let gone = |spi| Input::Expire(Expire { spi, inbound: true, kind: ExpireKind::Hard });
        lost.into_iter().map(gone).collect()
    }

    /// Does what the core wants done.
    pub(super) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::SwitchOutbound { spis, .. } => self.switch_outbound(spis.inbound),
            Effect::RemoveChild(removed) => self.remove(removed),
            Effect::ReleaseSpi { spi, protocol, local } => {
                if let Err(error) = self.kernel.get_mut().release_spi(*protocol, *spi, *local) {
                    warn!(target: "ikev2d::sadb", %error, "an SPI stays reserved until it lapses");
                }
            }
            Effect::MovePeer(moved) => self.move_peer(moved),
            Effect::AcquireFailed { id, cause, .. } => self.acquire_failed(*id, *cause),
            Effect::IkeSaUp { path, rekeys, .. } => {
                if rekeys.is_none() {
                    self.renewed.insert((path.local.ip(), path.remote.ip()));
                }
            }
            Effect::ChildInstalled(_) | Effect::IkeSaDown { .. } => {}
            Effect::Log(line) => match line.level {
                Level::Debug => debug!(target: "ikev2d::ike", "{}", line.text),
                Level::Info => info!(target: "ikev2d::ike", "{}", line.text),
                Level::Warning => warn!(target: "ikev2d::ike", "{}", line.text),
            },
        }
    }

    /// A request came to nothing. The data path keeps quiet for a while, which is as it should be after a refusal; where
    /// only the moment was wrong, the next packet may ask again at once.
    fn acquire_failed(&mut self, id: u64, cause: FailureCause) {
        let Some(binding) = self.pending.iter().find(|(_, pending)| **pending == id).map(|(binding, _)| *binding)
        else {
            return;
        };
        self.pending.remove(&binding);
        if matches!(cause, FailureCause::IkeSaGone | FailureCause::TemporaryFailure | FailureCause::ChildNotFound) {
            if let Err(error) = self.kernel.get_mut().forget_acquire(&binding) {
                debug!(target: "ikev2d::sadb", %error, "the next request comes later");
            }
            return;
        }
        // An SA may be there all the same: the peer began as well.
        self.packets();
        let packets = self.waiting.refuse(&binding);
        if packets > 0 {
            info!(target: "ikev2d::sadb", packets, remote = %IpAddr::from(binding.dst), %cause,
                "packets that waited for an SA are dropped");
        }
    }

    /// Takes the packets without an SA that have come, and sends those that have one by now. Gives whether any came.
    pub(super) fn packets(&mut self) -> bool {
        let packets = self.kernel.get_mut().packets();
        let came = !packets.is_empty();
        let now = clock::now();
        for packet in packets {
            self.waiting.push(now, packet);
        }
        for binding in self.waiting.bindings() {
            let kernel = self.kernel.get_mut();
            match kernel.is_bound(&binding) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => {
                    debug!(target: "ikev2d::sadb", %error, "packets go on waiting for an SA");
                    break;
                }
            }
            for packet in self.waiting.take(&binding) {
                match kernel.release_packet(packet) {
                    Ok(()) => self.waiting.counts.sent += 1,
                    Err(error) => {
                        self.waiting.counts.unsent += 1;
                        debug!(target: "ikev2d::sadb", %error, "a packet that waited for an SA is lost");
                    }
                }
            }
        }
        came
    }

    /// Drops the packets that have waited too long, after a last look for their SAs.
    pub(super) fn tire(&mut self, now: Timestamp) {
        if self.waiting.len() == 0 {
            return;
        }
        self.packets();
        let expired = self.waiting.expire(now);
        if let Some(first) = expired.first() {
            info!(target: "ikev2d::sadb", packets = expired.len(), remote = %IpAddr::from(first.dst),
                "no SA came in time for packets that waited; they are dropped");
        }
    }

    fn switch_outbound(&mut self, inbound: u32) {
        let Some(owned) = self.owned.get_mut(&inbound) else { return };
        owned.waits_for_use = false;
        let key = owned.key;
        if let Err(error) = self.kernel.get_mut().switch_outbound(&key) {
            warn!(target: "ikev2d::sadb", %error, "traffic stays on the old SA");
        }
        self.packets();
    }

    fn remove(&mut self, removed: &RemovedChild) {
        self.owned.remove(&removed.spis.inbound);
        let key = PairKey::from(removed);
        debug!(target: "ikev2d::sadb", spi_in = format_args!("0x{:08x}", key.spis.inbound),
            spi_out = format_args!("0x{:08x}", key.spis.outbound), reason = %removed.reason, "SA removed");
        self.remove_from_kernel(&key);
    }

    fn remove_from_kernel(&mut self, key: &PairKey) {
        if let Err(error) = self.kernel.get_mut().remove(key) {
            warn!(target: "ikev2d::sadb", %error, "an SA stays until its limits end it");
        }
    }

    fn move_peer(&mut self, moved: &PeerMoved) {
        for (_, spis) in &moved.children {
            let Some(owned) = self.owned.get(&spis.inbound) else { continue };
            if let Err(error) = self.kernel.get_mut().move_pair(&owned.key, moved.new.remote) {
                warn!(target: "ikev2d::sadb", %error, peer = %moved.new.remote, "an SA does not follow its peer");
            }
        }
    }

    /// Where keepalives have to go that the core does not send: it does for the pairs that are ours.
    pub(super) fn quiet_paths(&mut self, now: Timestamp, interval: Duration) -> Vec<Path> {
        let found = self.kernel.get_mut().mappings().unwrap_or_else(|error| {
            debug!(target: "ikev2d::sadb", %error, "no keepalives for SAs of others");
            Vec::new()
        });
        let others: Vec<(Path, Duration)> = found
            .into_iter()
            .filter(|(spi, ..)| !self.owned.contains_key(spi))
            .map(|(_, path, idle)| (path, idle))
            .collect();
        self.mappings.due(now, interval, &others)
    }

    /// Whether keepalives may be due sooner than everything else.
    pub(super) fn keeps_mappings(&self) -> bool {
        !self.mappings.is_empty()
    }

    /// After all effects of one input: pairs left over between ends that have a new IKE SA have been replaced.
    pub(super) fn settle(&mut self) {
        if self.renewed.is_empty() {
            return;
        }
        let renewed = std::mem::take(&mut self.renewed);
        let of = |pair: &FoundPair| renewed.contains(&(pair.key.local, pair.key.remote));
        let (gone, kept) = std::mem::take(&mut self.orphans).into_iter().partition(of);
        self.orphans = kept;
        for pair in &gone {
            debug!(target: "ikev2d::sadb", peer = %pair.key.remote, "an SA of an earlier daemon is replaced");
            self.remove_from_kernel(&pair.key);
        }
    }

    /// The other peer that has the traffic of `sa` already (RFC 3948 section 5): its packets would go to the newcomer. Who
    /// has the same identity is the same peer, which may begin anew.
    fn rival(&mut self, sa: &ChildSa) -> Result<Option<Identification>, InstallRefusal> {
        if !sa.nat.remote {
            return Ok(None);
        }
        let holder = self.kernel.get_mut().holder(sa)?.and_then(|spi| self.owned.get(&spi));
        Ok(holder.map(|owned| &owned.remote_id).filter(|id| **id != sa.remote_id).cloned())
    }

    /// Whether a pair waits for the peer's first packet.
    pub(super) fn waits_for_use(&self) -> bool {
        self.owned.values().any(|owned| owned.waits_for_use)
    }

    /// Inbound SPIs of waiting pairs on which something came in.
    pub(super) fn used(&mut self) -> Vec<u32> {
        let kernel = self.kernel.get_mut();
        let waiting = self.owned.values().filter(|owned| owned.waits_for_use);
        waiting
            .filter(|owned| matches!(kernel.idle_inbound(&owned.key), Ok(Some(_))))
            .map(|owned| owned.key.spis.inbound)
            .collect()
    }

    /// Removes every pair of this daemon, at the end.
    pub(super) fn remove_all(&mut self) {
        let owned: Vec<PairKey> = self.owned.drain().map(|(_, owned)| owned.key).collect();
        for key in &owned {
            self.remove_from_kernel(key);
        }
    }
}

impl<K: KernelSide> Host for DriverHost<K> {
    fn rule_for_initiator(&self, acquire: &Acquire) -> Option<Arc<Rule>> {
        if let Some(label) = &acquire.rule_label {
            return self.rules.by_label(label).map(|rule| Arc::clone(&rule.rule));
        }
        self.rules.covering(acquire.local, acquire.remote).next().map(|rule| Arc::clone(&rule.rule))
    }

    fn rules_for_responder(&self, local: IpAddr, remote: IpAddr) -> Vec<Arc<Rule>> {
        self.rules.covering(local, remote).map(|rule| Arc::clone(&rule.rule)).collect()
    }

    fn key_store(&self) -> Arc<KeyStore> {
        Arc::clone(&self.store)
    }

    fn wall_clock(&self) -> Duration {
        clock::wall()
    }

    fn child_policy(&self, query: &ChildQuery<'_>) -> Result<ChildPolicy, ChildRefusal> {
        policy::inverse_acquire(query, &self.policy())
    }

    fn allocate_spi(&mut self, request: &SpiRequest) -> Result<u32, SpiRefusal> {
        let kernel = self.kernel.get_mut();
        kernel
            .allocate_spi(request.protocol, request.local, request.remote)
            .map_err(|error| SpiRefusal { reason: error.to_string() })
    }

    fn install_child(&mut self, sa: &ChildSa) -> Result<(), InstallRefusal> {
        let (key, cookie) = (PairKey::from(sa), files::cookie(&sa.rule_label));
        if let Some(holder) = self.rival(sa)? {
            self.counts.install_failures += 1;
            let reason = format!("{holder} has this traffic and comes from the same address, {}", sa.remote);
            return Err(InstallRefusal { reason, kind: RefusalKind::Taken });
        }
        if let Err(refusal) = self.kernel.get_mut().install(sa, cookie) {
            self.counts.install_failures += 1;
            return Err(refusal);
        }
        if let Some(id) = sa.acquire {
            self.pending.retain(|_, pending| *pending != id);
        }
        let waits_for_use = sa.outbound_use == OutboundUse::Later;
        let remote_id = sa.remote_id.clone();
        self.owned.insert(key.spis.inbound, Owned { key, remote_id, waits_for_use });
        info!(target: "ikev2d::sadb", rule = sa.rule_label, local = %sa.local, remote = %sa.remote, mode = %sa.mode,
            suite = %sa.suite, spi_in = format_args!("0x{:08x}", key.spis.inbound),
            spi_out = format_args!("0x{:08x}", key.spis.outbound), "SA installed");
        self.packets();
        Ok(())
    }

    fn last_inbound(&self, inbound_spi: u32) -> Option<Timestamp> {
        let key = self.owned.get(&inbound_spi)?.key;
        let idle = self.kernel.borrow_mut().idle_inbound(&key).ok()??;
        Some(ago(idle))
    }

    fn last_outbound(&self, inbound_spi: u32) -> Option<Timestamp> {
        let key = self.owned.get(&inbound_spi)?.key;
        let idle = self.kernel.borrow_mut().idle_outbound(&key).ok()??;
        Some(ago(idle))
    }
}

fn ago(span: Duration) -> Timestamp {
    Timestamp::from_duration(clock::now().as_duration().saturating_sub(span))
}

#[cfg(test)]
mod tests;
