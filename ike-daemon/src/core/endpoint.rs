//! The endpoint: every IKE SA of a host, found by SPI; cookies and limits in front of them (RFC 7296 sections 2.5, 2.6).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::api::{
    Acquire, Command, Effect, EndpointConfig, Expire, ExpireKind, FailureCause, Host, IkeKeys, IkeSaSnapshot, IkeSpis,
    Level, LogLine, Path, RandomSource, RemoveReason, Role, Rule, Stats, Timestamp, Transmit,
};
use super::child::Wish;
use super::child_answer::Refusal;
use super::context::{Action, Ctx, Failure, Outbox};
use super::cookie::CookieJar;
use super::established::{Established, Task, Verdict};
use super::half_open::{HalfOpen, plain_header};
use super::init::{InitSent, serves};
use super::link::{Ends, Message};
use super::reauth::Heritage;
use super::sa::Sa;
use super::table::Table;
use crate::crypto::{Provider, Tested, digest};
use crate::wire::WireError;
use crate::wire::chain::{ChainBuilder, PayloadType, RawPayload, parse_message};
use crate::wire::header::{ExchangeType, Header, MAJOR};
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;

/// Unprotected errors and log lines about strangers, per second.
const STRANGERS_PER_SECOND: u32 = 10;

/// All IKEv2 of one host. See [`api`](super::api) for what goes in and what comes out.
pub struct Endpoint<H> {
    config: EndpointConfig,
    provider: Box<dyn Provider>,
    random: Box<dyn RandomSource + Send>,
    host: H,
    table: Table,
    out: Outbox,
    jar: CookieJar,
    strangers: (Timestamp, u32),
    /// Our SPIs of IKE SAs that were begun in the place of others, and of those others.
    replacing: HashMap<[u8; 8], [u8; 8]>,
    shutting_down: bool,
}

impl<H: Host> Endpoint<H> {
    /// An endpoint without SAs, with the algorithms of [`Standard`](crate::crypto::Standard) that pass their test. Those
    /// that do not are named in the log.
    pub fn new(config: EndpointConfig, random: Box<dyn RandomSource + Send>, host: H) -> Self {
        let provider = Tested::standard();
        let failed: Vec<String> = provider.failed().iter().map(ToString::to_string).collect();
        let mut endpoint = Self::with_provider(config, Box::new(provider), random, host);
        for algorithm in failed {
            let text = format!("{algorithm} failed its self-test and is not used");
            endpoint.out.effects.push_back(Effect::Log(LogLine { level: Level::Warning, text }));
        }
        endpoint
    }

    /// Sets [`EndpointConfig::fragment_mtu`] for IKE SAs to come; those that there are go on taking fragments, and send
    /// them as this says.
    pub fn set_fragment_mtu(&mut self, mtu: Option<u16>) {
        self.config.fragment_mtu = mtu;
    }

    /// An endpoint with other algorithms.
    pub fn with_provider(
        config: EndpointConfig,
        provider: Box<dyn Provider>,
        random: Box<dyn RandomSource + Send>,
        host: H,
    ) -> Self {
        Self {
            config,
            provider,
            random,
            host,
            table: Table::default(),
            out: Outbox::default(),
            jar: CookieJar::default(),
            strangers: (Timestamp::default(), 0),
            replacing: HashMap::new(),
            shutting_down: false,
        }
    }

    /// The surroundings given at construction.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The surroundings given at construction.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// A UDP payload came in, its non-ESP marker removed.
    pub fn handle_datagram(&mut self, now: Timestamp, path: Path, octets: &[u8]) {
        self.out.stats.datagrams_received += 1;
        let parsed = if octets.len() > self.config.max_message { None } else { Header::parse(octets).ok() };
        let Some(received) = parsed else {
            self.out.stats.malformed += 1;
            return;
        };
        let message = Message { path, octets, received };
        if received.major != MAJOR {
            self.out.stats.wrong_version += 1;
            let above = received.major > MAJOR && !received.header.response;
            if above && self.stranger(now) {
                self.reply_plain(now, &message, &Notify::plain(NotifyType::INVALID_MAJOR_VERSION, Vec::new()));
            }
            return;
        }
        let header = received.header;
        if header.exchange == ExchangeType::IKE_SA_INIT && !header.response && header.spi_responder == [0; 8] {
            return self.on_init(now, &message);
        }
        let ours = if header.from_initiator { header.spi_responder } else { header.spi_initiator };
        match self.table.by_spi(&ours) {
            Some(id) => self.step(now, id, |sa, ctx| sa.handle_message(ctx, &message)),
            None => self.out.stats.unknown_spi += 1,
        }
    }

    /// Traffic needs an SA.
    pub fn handle_acquire(&mut self, now: Timestamp, acquire: Acquire) {
        let rule = self.host.rule_for_initiator(&acquire);
        let path = Path {
            local: (acquire.local, self.config.ike_port).into(),
            remote: (acquire.remote, self.config.ike_port).into(),
        };
        let wish = Wish {
            acquire: Some(acquire.id),
            policy: acquire.policy.clone(),
            packet: acquire.packet,
            rekeys: None,
            tries: 0,
        };
        let Some(rule) = rule else {
            let text = format!("no rule of ikev2.config has these addresses; policy {}", acquire.policy.source);
            return self.refuse_acquire(now, &path, None, &wish, &Failure::new(FailureCause::NoRule, text));
        };
        if self.shutting_down {
            let failure = Failure::new(FailureCause::Local, "shutting down");
            return self.refuse_acquire(now, &path, Some(&rule), &wish, &failure);
        }
        if self.is_ambiguous(&acquire) {
            let text = "several peers come from this address, and whose traffic this is cannot be told";
            let failure = Failure::new(FailureCause::Local, text);
            return self.refuse_acquire(now, &path, Some(&rule), &wish, &failure);
        }
        if let Some(id) = self.serving(&acquire, &rule) {
            if self.table.get(id).is_some_and(|sa| sa.waiting() >= self.config.max_waiting) {
                let failure = Failure::new(FailureCause::Local, "too many requests wait for this peer");
                return self.refuse_acquire(now, &path, Some(&rule), &wish, &failure);
            }
            return self.step(now, id, |sa, ctx| join(sa, ctx, wish));
        }
        if self.table.len() >= self.config.max_ike_sas {
            let failure = Failure::new(FailureCause::Local, "too many IKE SAs");
            return self.refuse_acquire(now, &path, Some(&rule), &wish, &failure);
        }
        let known = self.table.iter().any(|(_, sa)| talks_to(sa, &path));
        let id = self.table.fresh();
        let (mut ctx, table) = self.split(now);
        match InitSent::begin(&mut ctx, path, Arc::clone(&rule), wish, !known) {
            Ok(sa) => table.put(&ctx, id, Sa::InitSent(Box::new(sa))),
            Err(refused) => {
                let (failure, wish) = *refused;
                ctx.out.stats.failed_initiator += 1;
                ctx.failed("IKE_SA_INIT", &path, Some(&rule), &failure);
                wish.fail(&mut ctx, failure.cause);
            }
        }
    }

    /// A child ran into a limit. Children that are not ours are none of our business.
    pub fn handle_expire(&mut self, now: Timestamp, expire: Expire) {
        let fits = |spis: (u32, u32)| if expire.inbound { spis.0 == expire.spi } else { spis.1 == expire.spi };
        let found = self.find_children(fits);
        // Outbound SPIs are chosen by peers: two may choose the same. Then replacing each is right for the one that is meant
        // and harmless to the others.
        let kind = if found.len() > 1 { ExpireKind::Soft } else { expire.kind };
        for (id, inbound) in found {
            self.step(now, id, |sa, ctx| match sa {
                Sa::Established(sa) => sa.handle_expire(ctx, inbound, kind),
                other => Some(other),
            });
        }
    }

    /// The first packet came in on a child.
    pub fn handle_inbound_used(&mut self, now: Timestamp, inbound_spi: u32) {
        if let Some((id, inbound)) = self.find_child(|spis| spis.0 == inbound_spi) {
            self.step(now, id, |sa, ctx| match sa {
                Sa::Established(sa) => sa.handle_inbound_used(ctx, inbound),
                other => Some(other),
            });
        }
    }

    /// The newest authentic packet of the child that we receive on with this SPI came by another path than before.
    pub fn handle_moved(&mut self, now: Timestamp, inbound_spi: u32, path: Path) {
        if let Some((id, _)) = self.find_child(|spis| spis.0 == inbound_spi) {
            self.step(now, id, |sa, ctx| match sa {
                Sa::Established(sa) => sa.handle_moved(ctx, &path),
                other => Some(other),
            });
        }
    }

    /// What the administrator wants.
    pub fn handle_command(&mut self, now: Timestamp, command: Command) {
        match command {
            Command::DeleteIkeSa(spis) => self.delete_where(now, |sa| sa.spis() == spis),
            Command::FlushIkeSas => self.delete_where(now, |_| true),
            Command::Shutdown => {
                self.shutting_down = true;
                self.delete_where(now, |_| true);
            }
            Command::RekeyIkeSa(spis) => {
                let id = self.table.iter().find(|(_, sa)| sa.spis() == spis).map(|(id, _)| id);
                self.enqueue(now, id, Task::RekeyIke { tries: 0 });
            }
            Command::RekeyChild { inbound_spi } => {
                let found = self.find_child(|spis| spis.0 == inbound_spi).map(|(id, _)| id);
                self.enqueue(now, found, Task::RekeyChild { inbound: inbound_spi, tries: 0 });
            }
            Command::DeleteChild { inbound_spi } => {
                let found = self.find_child(|spis| spis.0 == inbound_spi).map(|(id, _)| id);
                let reason = RemoveReason::LocalDeleted;
                self.enqueue(now, found, Task::DeleteChild { inbound: inbound_spi, reason });
            }
        }
    }

    /// The moment of [`poll_timeout`](Self::poll_timeout) has come, or any other.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        // Every step moves its SA's timeout behind `now` or ends it; the bound only guards against a rule with no wait at all.
        for _ in 0..=self.table.len().saturating_mul(4) {
            let Some(id) = self.table.due(now) else { return };
            self.step(now, id, Sa::handle_timeout);
        }
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// The next datagram. Every effect must have been fetched before.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.table.next_timeout()
    }

    /// Every IKE SA as it stands.
    pub fn snapshot(&self, now: Timestamp) -> Vec<IkeSaSnapshot> {
        self.table.iter().filter(|(_, sa)| !sa.is_lingering()).map(|(_, sa)| sa.snapshot(now)).collect()
    }

    /// The keys of one IKE SA.
    pub fn keys(&self, spis: IkeSpis) -> Option<IkeKeys> {
        self.table.iter().find(|(_, sa)| sa.spis() == spis).and_then(|(_, sa)| sa.keys().cloned())
    }

    /// Counters since start.
    pub fn stats(&self) -> Stats {
        let mut stats = self.out.stats.clone();
        for (_, sa) in self.table.iter() {
            match sa {
                Sa::Established(sa) if sa.link.role == Role::Initiator => stats.current_initiator += 1,
                Sa::Established(_) => stats.current_responder += 1,
                _ => {}
            }
        }
        stats
    }

    /// Whether no SA is left that a peer is still to be told about.
    pub fn is_idle(&self) -> bool {
        self.table.iter().all(|(_, sa)| sa.is_lingering())
    }

    fn split(&mut self, now: Timestamp) -> (Ctx<'_>, &mut Table) {
        let Self { config, provider, random, host, table, out, .. } = self;
        (Ctx { now, config, provider: &**provider, random: &mut **random, host, out }, table)
    }

    /// Runs one SA through one step and does what it wants done to others.
    fn step(&mut self, now: Timestamp, id: u64, run: impl FnOnce(Sa, &mut Ctx<'_>) -> Option<Sa>) {
        let (mut ctx, table) = self.split(now);
        let Some(sa) = table.take(id) else { return };
        if let Some(sa) = run(sa, &mut ctx) {
            table.put(&ctx, id, sa);
        }
        while !self.out.actions.is_empty() {
            let action = self.out.actions.remove(0);
            self.act(now, action);
        }
        if !self.replacing.is_empty() {
            self.retire_replaced(now, id);
        }
    }

    fn act(&mut self, now: Timestamp, action: Action) {
        match action {
            Action::Spawn(sa) => {
                let id = self.table.fresh();
                let (ctx, table) = self.split(now);
                table.put(&ctx, id, Sa::Established(sa));
            }
            Action::Discard(sa) => {
                let id = self.table.fresh();
                let (mut ctx, table) = self.split(now);
                if let Some(sa) = sa.conclude(&mut ctx, Verdict::Delete(RemoveReason::Redundant)) {
                    table.put(&ctx, id, sa);
                }
            }
            Action::Adopt { our_spi, ends, children, tasks } => {
                let heir = self.table.by_spi(&our_spi);
                match heir.filter(|id| matches!(self.table.get(*id), Some(Sa::Established(_)))) {
                    Some(id) => self.step(now, id, |sa, ctx| match sa {
                        Sa::Established(mut sa) => {
                            sa.adopt(children, tasks);
                            sa.conclude(ctx, Verdict::Stay)
                        }
                        other => Some(other),
                    }),
                    None => self.orphaned(now, ends, children, tasks),
                }
            }
            Action::Reauthenticate { our_spi } => self.reauthenticate(now, our_spi),
            Action::Settle { our_spi } => {
                let redundant = self.redundant(&our_spi).map(|id| (id, RemoveReason::Redundant));
                let surplus = self.surplus(&our_spi).into_iter().map(|id| (id, RemoveReason::Surplus));
                for (id, reason) in redundant.into_iter().chain(surplus).collect::<Vec<_>>() {
                    self.step(now, id, |sa, ctx| match sa {
                        Sa::Established(sa) => sa.conclude(ctx, Verdict::Delete(reason)),
                        other => Some(other),
                    });
                }
            }
            Action::Forget { except, local_id, remote_id, before } => {
                let old = |sa: &Established| {
                    sa.link.our_spi() != except
                        && sa.since < before
                        && sa.peer.local_id == local_id
                        && sa.peer.remote_id == remote_id
                };
                let found = self.table.iter().filter(|(_, sa)| matches!(sa, Sa::Established(e) if old(e)));
                for id in found.map(|(id, _)| id).collect::<Vec<_>>() {
                    self.step(now, id, |sa, ctx| match sa {
                        Sa::Established(sa) => sa.conclude(ctx, Verdict::Gone(RemoveReason::InitialContact)),
                        other => Some(other),
                    });
                }
            }
        }
    }

    /// Begins an IKE SA in the place of the one with this SPI of ours, which stays until the new one does for all it has.
    fn reauthenticate(&mut self, now: Timestamp, our_spi: [u8; 8]) {
        let Some(id) = self.table.by_spi(&our_spi) else { return };
        let Some(Sa::Established(old)) = self.table.get(id) else { return };
        let Heritage { path, rule, wishes } = old.heritage();
        let mut wishes = wishes.into_iter();
        let Some(first) = wishes.next() else {
            // Nothing to take over: the next traffic begins a new one.
            return self.step(now, id, |sa, ctx| match sa {
                Sa::Established(sa) => sa.conclude(ctx, Verdict::Delete(RemoveReason::Reauthenticated)),
                other => Some(other),
            });
        };
        let known = |spi: &[u8; 8]| self.table.by_spi(spi).is_some();
        self.replacing.retain(|new, old| known(new) && known(old));
        if self.replacing.values().any(|old| *old == our_spi) || self.table.len() >= self.config.max_ike_sas {
            return;
        }
        let id = self.table.fresh();
        let (mut ctx, table) = self.split(now);
        match InitSent::begin(&mut ctx, path, Arc::clone(&rule), first, false) {
            Ok(mut sa) => {
                wishes.for_each(|wish| sa.add(wish));
                let new = sa.spi();
                table.put(&ctx, id, Sa::InitSent(Box::new(sa)));
                self.replacing.insert(new, our_spi);
            }
            Err(refused) => {
                let (failure, _) = *refused;
                ctx.out.stats.failed_initiator += 1;
                ctx.failed("reauthenticating", &path, Some(&rule), &failure);
            }
        }
    }

    /// Deletes the IKE SA whose place the one with this number has taken, once that does for all its children.
    fn retire_replaced(&mut self, now: Timestamp, id: u64) {
        let Some(Sa::Established(new)) = self.table.get(id) else { return };
        if !new.is_settled() {
            return;
        }
        let Some(old) = self.replacing.remove(&new.link.our_spi()) else { return };
        let Some(old_id) = self.table.by_spi(&old) else { return };
        let done = matches!(self.table.get(old_id), Some(Sa::Established(old)) if new.stands_in_for(old));
        if done {
            self.step(now, old_id, |sa, ctx| match sa {
                Sa::Established(sa) => sa.conclude(ctx, Verdict::Delete(RemoveReason::Reauthenticated)),
                other => Some(other),
            });
        }
    }

    /// The IKE SA of ours that is to go because this one came up: it or the one that crossed it.
    fn redundant(&self, our_spi: &[u8; 8]) -> Option<u64> {
        let id = self.table.by_spi(our_spi)?;
        let Sa::Established(newest) = self.table.get(id)? else { return None };
        let (other_id, other) = self.table.iter().find_map(|(id, sa)| match sa {
            Sa::Established(sa) if sa.crosses(newest) => Some((id, sa)),
            _ => None,
        })?;
        let (id, ours, theirs) = match newest.link.role {
            Role::Initiator => (id, newest, other),
            Role::Responder => (other_id, other, newest),
        };
        (ours.lowest < theirs.lowest && theirs.stands_in_for(ours)).then_some(id)
    }

    /// The oldest IKE SAs of a peer that has begun more than its share, the one with this SPI of ours being the newest. They
    /// go, and not the newest, so that a peer that has lost its own is not locked out.
    fn surplus(&self, our_spi: &[u8; 8]) -> Vec<u64> {
        let newest = self.table.by_spi(our_spi).and_then(|id| self.table.get(id));
        let Some(Sa::Established(newest)) = newest else { return Vec::new() };
        if newest.link.role == Role::Initiator {
            return Vec::new();
        }
        let same = |sa: &Established| {
            sa.link.role == Role::Responder
                && sa.peer.rule.label == newest.peer.rule.label
                && (&sa.peer.local_id, &sa.peer.remote_id) == (&newest.peer.local_id, &newest.peer.remote_id)
        };
        let mut begun: Vec<(Timestamp, u64)> = Vec::new();
        for (id, sa) in self.table.iter() {
            if let Sa::Established(sa) = sa
                && same(sa)
            {
                begun.push((sa.since, id));
            }
        }
        begun.sort_unstable();
        begun.truncate(begun.len().saturating_sub(self.config.max_ike_sas_per_peer.max(1)));
        begun.into_iter().map(|(_, id)| id).collect()
    }

    /// The successor is gone already: what was left to it goes too.
    fn orphaned(&mut self, now: Timestamp, ends: Ends, children: Vec<super::child::Child>, tasks: Vec<Task>) {
        let (mut ctx, _) = self.split(now);
        children.into_iter().for_each(|child| child.remove(&mut ctx, ends, RemoveReason::PeerDeleted));
        for task in tasks {
            if let Task::Child(wish) = task {
                wish.fail(&mut ctx, FailureCause::IkeSaGone);
            }
        }
    }

    fn serving(&self, acquire: &Acquire, rule: &Rule) -> Option<u64> {
        let fits = |sa: &Sa| match sa {
            Sa::InitSent(sa) => sa.serves(acquire, rule),
            Sa::AuthSent(sa) => sa.serves(acquire, rule),
            Sa::Established(sa) => serves(sa.link.ends, &sa.peer.rule, acquire, rule),
            Sa::HalfOpen(_) | Sa::Retiring(_) => false,
        };
        self.table.iter().find(|(_, sa)| fits(sa)).map(|(id, _)| id)
    }

    /// Whether peers with different identities come from the address that traffic goes to: clients behind one NAT (UDP-05).
    fn is_ambiguous(&self, acquire: &Acquire) -> bool {
        let ends = Ends { local: acquire.local, remote: acquire.remote };
        let mut peers = self.table.iter().filter_map(|(_, sa)| match sa {
            Sa::Established(sa) if sa.link.ends == ends && sa.link.nat.remote => Some(&sa.peer.remote_id),
            _ => None,
        });
        peers.next().is_some_and(|first| peers.any(|other| other != first))
    }

    fn refuse_acquire(&mut self, now: Timestamp, path: &Path, rule: Option<&Rule>, wish: &Wish, failure: &Failure) {
        let (mut ctx, _) = self.split(now);
        ctx.failed("ACQUIRE for traffic", path, rule, failure);
        wish.fail(&mut ctx, failure.cause);
    }

    fn find_child(&self, fits: impl Fn((u32, u32)) -> bool) -> Option<(u64, u32)> {
        self.find_children(fits).first().copied()
    }

    /// The SAs and inbound SPIs of children whose inbound and outbound SPI fit.
    fn find_children(&self, fits: impl Fn((u32, u32)) -> bool) -> Vec<(u64, u32)> {
        let mut found = Vec::new();
        for (id, sa) in self.table.iter() {
            if let Sa::Established(sa) = sa {
                let pairs = sa.children.values().map(|c| (c.spis.inbound, c.spis.outbound));
                found.extend(pairs.filter(|pair| fits(*pair)).map(|(inbound, _)| (id, inbound)));
            }
        }
        found
    }

    fn enqueue(&mut self, now: Timestamp, id: Option<u64>, task: Task) {
        if let Some(id) = id {
            self.step(now, id, |sa, ctx| match sa {
                Sa::Established(sa) => sa.enqueue(ctx, task),
                other => Some(other),
            });
        }
    }

    fn delete_where(&mut self, now: Timestamp, chosen: impl Fn(&Sa) -> bool) {
        let ids: Vec<u64> = self.table.iter().filter(|(_, sa)| chosen(sa)).map(|(id, _)| id).collect();
        let reason = RemoveReason::LocalDeleted;
        for id in ids {
            self.step(now, id, |sa, ctx| match sa {
                Sa::InitSent(sa) => sa.fail(ctx, &Failure::new(FailureCause::Local, reason.to_string())),
                Sa::AuthSent(sa) => sa.cancel(ctx),
                Sa::HalfOpen(_) => None,
                Sa::Established(sa) => sa.conclude(ctx, Verdict::Delete(reason)),
                Sa::Retiring(sa) => Some(Sa::Retiring(sa)),
            });
        }
    }

    /// An IKE_SA_INIT request: a repetition, a stranger to be held off, or a new SA.
    fn on_init(&mut self, now: Timestamp, message: &Message<'_>) {
        let header = message.header();
        if !header.from_initiator || header.message_id != 0 {
            self.out.stats.out_of_window += 1;
            return;
        }
        if let Some(id) = self.table.by_request(&digest(message.octets)) {
            return self.step(now, id, |sa, ctx| {
                match &sa {
                    Sa::HalfOpen(sa) => sa.repeat_init(ctx, message),
                    // The initiator has had the answer, or it could not have gone on.
                    _ => ctx.out.stats.out_of_window += 1,
                }
                Some(sa)
            });
        }
        let room_for_peers = self.config.max_ike_sas - self.config.max_ike_sas / 8;
        let crowded = self.table.len() >= room_for_peers
            || self.table.half_open() >= self.config.max_half_open
            || self.table.half_open_of(message.path.remote.ip()) >= self.config.max_half_open_per_source;
        if self.shutting_down || crowded {
            self.out.stats.limited += 1;
            return;
        }
        let decoded = parse_message(message.octets, &message.received).and_then(|outer| {
            let inner = |p: &&RawPayload<'_>| p.kind == PayloadType::NOTIFY;
            let cookie_first = outer.clear.first().filter(inner).is_some();
            Ok((Payloads::decode(&outer.clear)?, cookie_first))
        });
        let (request, cookie_first) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                self.out.stats.malformed += 1;
                if let WireError::Critical(kind) = error
                    && self.stranger(now)
                {
                    let notify = Notify::plain(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]);
                    self.reply_plain(now, message, &notify);
                }
                return;
            }
        };
        if self.demands_cookie(now, message, &request, cookie_first) {
            return;
        }
        self.begin_response(now, message, &request);
    }

    /// While many SAs are half open, a request without our cookie makes no state (V2-CKY-04).
    fn demands_cookie(&mut self, now: Timestamp, message: &Message<'_>, request: &Payloads, first: bool) -> bool {
        if self.table.half_open() < self.config.cookie_threshold {
            return false;
        }
        let Some(nonce) = &request.nonce else { return true };
        let bound = (&message.path, message.header().spi_initiator, nonce);
        let cookie = request.notify(NotifyType::COOKIE).filter(|_| first);
        if cookie.is_some_and(|c| self.jar.verify(now, &self.config, bound, &c.data)) {
            return false;
        }
        if let Ok(cookie) = self.jar.cookie(now, &self.config, &mut *self.random, bound) {
            self.out.stats.cookies_sent += 1;
            self.reply_plain(now, message, &Notify::plain(NotifyType::COOKIE, cookie));
        }
        true
    }

    fn begin_response(&mut self, now: Timestamp, message: &Message<'_>, request: &Payloads) {
        let rules = self.host.rules_for_responder(message.path.local.ip(), message.path.remote.ip());
        self.out.stats.attempted_responder += 1;
        let id = self.table.fresh();
        let (mut ctx, table) = self.split(now);
        let answered = if rules.is_empty() {
            let text = "no rule of ikev2.config has these addresses";
            Err(Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, FailureCause::NoRule, text))
        } else {
            HalfOpen::answer(&mut ctx, message, request, &rules)
        };
        match answered {
            Ok(sa) => {
                table.put(&ctx, id, Sa::HalfOpen(Box::new(sa)));
                self.meet(now, &message.path);
            }
            Err(refusal) => self.refuse_init(now, message, &rules, &refusal),
        }
    }

    /// The peer begins while we do: what we began is not the initial contact any more, or it would end what the peer's
    /// attempt leads to (V2-LIVE-07).
    fn meet(&mut self, now: Timestamp, path: &Path) {
        let meets = |sa: &Sa| matches!(sa, Sa::InitSent(sa) if Ends::from(sa.path()) == Ends::from(path));
        let ids: Vec<u64> = self.table.iter().filter(|(_, sa)| meets(sa)).map(|(id, _)| id).collect();
        for id in ids {
            self.step(now, id, |mut sa, _| {
                if let Sa::InitSent(sa) = &mut sa {
                    sa.not_the_first();
                }
                Some(sa)
            });
        }
    }

    fn refuse_init(&mut self, now: Timestamp, message: &Message<'_>, rules: &[Arc<Rule>], refusal: &Refusal) {
        let retry = refusal.notify.kind == NotifyType::INVALID_KE_PAYLOAD;
        if !retry {
            self.out.stats.failed_responder += 1;
        }
        if !retry && !self.stranger(now) {
            *self.out.stats.failed.entry(refusal.failure.cause).or_default() += 1;
            return;
        }
        let (mut ctx, _) = self.split(now);
        if retry {
            let text = format!("IKE_SA_INIT of {}: {}", message.path.remote, refusal.failure.detail);
            ctx.log(Level::Debug, text);
        } else {
            let only = if let [rule] = rules { Some(&**rule) } else { None };
            ctx.failed("IKE_SA_INIT of the peer", &message.path, only, &refusal.failure);
        }
        self.reply_plain(now, message, &refusal.notify);
    }

    /// Whether one more unprotected reply or log line about a stranger may go out in this second.
    fn stranger(&mut self, now: Timestamp) -> bool {
        let (since, count) = &mut self.strangers;
        if now.since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= STRANGERS_PER_SECOND
    }

    /// Answers without protection, without state.
    fn reply_plain(&mut self, now: Timestamp, message: &Message<'_>, notify: &Notify) {
        let request = message.header();
        let (mut ctx, _) = self.split(now);
        let mut chain = ChainBuilder::new();
        let pushed = chain.push(PayloadType::NOTIFY, notify);
        if let Ok(octets) = pushed.and_then(|()| chain.into_message(&plain_header(request, request.spi_responder))) {
            ctx.transmit(message.path, octets);
        }
    }
}

/// A wish joins an IKE SA that serves it.
fn join(sa: Sa, ctx: &mut Ctx<'_>, wish: Wish) -> Option<Sa> {
    match sa {
        Sa::InitSent(mut sa) => {
            sa.add(wish);
            Some(Sa::InitSent(sa))
        }
        Sa::AuthSent(mut sa) => {
            sa.add(wish);
            Some(Sa::AuthSent(sa))
        }
        Sa::Established(sa) => sa.enqueue(ctx, Task::Child(Box::new(wish))),
        other => Some(other),
    }
}

/// Whether an SA with the same peer is up or coming: then a new one is not the initial contact (V2-LIVE-07).
fn talks_to(sa: &Sa, path: &Path) -> bool {
    let ends = Ends::from(path);
    match sa {
        Sa::HalfOpen(sa) => sa.link.ends == ends,
        Sa::Established(sa) => sa.link.ends == ends,
        Sa::AuthSent(sa) => sa.link.ends == ends,
        Sa::InitSent(_) | Sa::Retiring(_) => false,
    }
}
