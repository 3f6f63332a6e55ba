//! An IKE SA in use: its children, the one request that may be outstanding (window 1), what waits behind it, and its timers.
//! What the exchanges do is in `create_child`, `rekey_ike` and `informational`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::api::{
    Effect, ExpireKind, FailureCause, IkeSaSnapshot, IkeState, Level, Path, PeerMoved, RemoveReason, RetryPolicy, Role,
    Timestamp,
};
use super::child::{Child, Peer, Wish};
use super::context::{Action, Ctx, Failure};
use super::create_child::PendingChild;
use super::link::{Link, Message, Place, Unopened};
use super::rekey_ike::PendingIke;
use super::retiring::Retiring;
use super::retransmit::{Due, Retransmission};
use super::sa::Sa;
use super::selectors;
use crate::wire::WireError;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::delete::Delete;
use crate::wire::header::ExchangeType;
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::ProtocolId;

/// Attempts at a rekey that the peer puts off with TEMPORARY_FAILURE before the IKE SA is given up (V2-COL-13).
pub(super) const MAX_TRIES: u32 = 5;
/// How far apart two IKE SAs may have come up that both ends began at once.
const CROSSING: Duration = Duration::from_secs(10);
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// What an IKE SA is to do when it may send a request.
pub(super) enum Task {
    /// Make a child.
    Child(Box<Wish>),
    /// Replace the child with this inbound SPI.
    RekeyChild { inbound: u32, tries: u32 },
    /// Delete the child with this inbound SPI.
    DeleteChild { inbound: u32, reason: RemoveReason },
    /// Take back an SPI that the peer knows and we never installed.
    DeleteSpi { protocol: ProtocolId, spi: u32 },
    /// Replace this IKE SA.
    RekeyIke { tries: u32 },
    /// Is the peer there?
    Liveness,
}

impl Task {
    /// Whether `other` has nothing to do once this is done.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::RekeyChild { inbound: one, .. }, Self::RekeyChild { inbound: two, .. })
            | (Self::DeleteChild { inbound: one, .. }, Self::DeleteChild { inbound: two, .. }) => one == two,
            (Self::RekeyIke { .. }, Self::RekeyIke { .. }) | (Self::Liveness, Self::Liveness) => true,
            _ => false,
        }
    }
}

/// The request that is out.
pub(super) enum Exchange {
    Child(Box<PendingChild>),
    Ike(Box<PendingIke>),
    /// Children whose Delete it carries.
    Delete(Option<(u32, RemoveReason)>),
    Liveness,
}

impl Exchange {
    fn kind(&self) -> ExchangeType {
        match self {
            Self::Child(_) | Self::Ike(_) => ExchangeType::CREATE_CHILD_SA,
            Self::Delete(_) | Self::Liveness => ExchangeType::INFORMATIONAL,
        }
    }
}

pub(super) struct Outstanding {
    pub(super) id: u32,
    pub(super) timer: Retransmission,
    pub(super) exchange: Exchange,
}

/// What becomes of the IKE SA after a step.
pub(super) enum Verdict {
    Stay,
    /// Tell the peer with a Delete.
    Delete(RemoveReason),
    /// The peer knows, or will not hear: only the stored response is kept for a while.
    Gone(RemoveReason),
    /// The peer replaced it and is to delete it.
    Replaced,
}

pub(super) struct Established {
    pub(super) link: Link,
    pub(super) peer: Peer,
    pub(super) children: BTreeMap<u32, Child>,
    pub(super) outstanding: Option<Outstanding>,
    pub(super) queue: VecDeque<Task>,
    pub(super) delayed: Vec<(Timestamp, Task)>,
    pub(super) since: Timestamp,
    pub(super) created: u64,
    pub(super) deleted: u64,
    /// The lower nonce of its IKE_SA_INIT exchange; a rekeyed IKE SA had none.
    pub(super) lowest: Option<Nonce>,
    rekey_at: Option<Timestamp>,
    expire_at: Option<Timestamp>,
    dpd_at: Option<Timestamp>,
    /// When an IKE SA in its place is begun, because the peer will ask for a new proof.
    pub(super) reauth_at: Option<Timestamp>,
    /// The peer made it while we were making a successor ourselves: its children are still with the predecessor.
    on_probation: bool,
    /// A rekey was begun because message IDs run out.
    exhausted: bool,
}

impl Established {
    pub(super) fn new(ctx: &mut Ctx<'_>, link: Link, peer: Peer) -> Self {
        let life = peer.rule.ikesa_lifetime;
        let limited = !life.is_zero();
        // The two ends draw from different ranges, so that they seldom rekey at once (V2-REK-12).
        let percent = ctx.below(8) + if link.role == Role::Initiator { 80 } else { 89 };
        let early = life.saturating_mul(u32::try_from(percent).unwrap_or(85)) / 100;
        let dpd = peer.rule.dpd_interval;
        Self {
            since: ctx.now,
            rekey_at: limited.then(|| ctx.now.after(early)),
            expire_at: limited.then(|| ctx.now.after(life)),
            dpd_at: (!dpd.is_zero()).then(|| ctx.now.after(dpd)),
            reauth_at: None,
            link,
            peer,
            children: BTreeMap::new(),
            outstanding: None,
            queue: VecDeque::new(),
            delayed: Vec::new(),
            created: 0,
            deleted: 0,
            lowest: None,
            on_probation: false,
            exhausted: false,
        }
    }

    /// Ends after `span` unless its life is set anew by [`adopt`](Self::adopt).
    pub(super) fn put_on_probation(&mut self, now: Timestamp, span: Duration) {
        self.on_probation = true;
        self.expire_at = Some(now.after(span));
    }

    /// Takes over the children of a predecessor.
    pub(super) fn adopt(&mut self, children: Vec<Child>, tasks: Vec<Task>) {
        let life = self.peer.rule.ikesa_lifetime;
        self.on_probation = false;
        self.expire_at = (!life.is_zero()).then(|| self.since.after(life));
        self.children.extend(children.into_iter().map(|child| (child.spis.inbound, child)));
        self.queue.extend(tasks);
    }

    /// Whether this and `other` were begun by one end each, at the same time, between the same two. RFC 7296 leaves open
    /// what becomes of such a pair; it is decided as section 2.8.1 decides between two that a rekey made: the one with
    /// the lowest nonce is deleted by the end that began it. Another implementation may keep its own; then both stay.
    pub(super) fn crosses(&self, other: &Self) -> bool {
        let apart = self.since.since(other.since).max(other.since.since(self.since));
        self.link.role != other.link.role
            && self.lowest.is_some()
            && other.lowest.is_some()
            && apart <= CROSSING
            && self.link.ends == other.link.ends
            && self.peer.rule.label == other.peer.rule.label
            && (&self.peer.local_id, &self.peer.remote_id) == (&other.peer.local_id, &other.peer.remote_id)
    }

    /// Whether each child of `other` has one here for the same policy and traffic.
    pub(super) fn stands_in_for(&self, other: &Self) -> bool {
        other.children.values().all(|theirs| {
            self.children.values().any(|ours| {
                ours.policy.action == theirs.policy.action
                    && selectors::covered(&theirs.ts_local, &ours.ts_local)
                    && selectors::covered(&theirs.ts_remote, &ours.ts_remote)
            })
        })
    }

    pub(super) fn retry(&self) -> RetryPolicy {
        self.peer.rule.retry
    }

    /// Children that are wanted and not asked for yet.
    pub(super) fn waiting(&self) -> usize {
        let tasks = self.queue.iter().chain(self.delayed.iter().map(|(_, task)| task));
        tasks.filter(|task| matches!(task, Task::Child(_))).count()
    }

    pub(super) fn is_making_child(&self) -> bool {
        matches!(&self.outstanding, Some(Outstanding { exchange: Exchange::Child(_), .. }))
    }

    pub(super) fn is_rekeying(&self) -> bool {
        matches!(&self.outstanding, Some(Outstanding { exchange: Exchange::Ike(_), .. }))
    }

    pub(super) fn handle_message(mut self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Option<Sa> {
        let verdict = match self.link.place(message, self.outstanding.as_ref().map(|o| o.id)) {
            Place::Request => self.on_request(ctx, message),
            Place::Response => self.on_response(ctx, message),
            Place::Repeated => {
                self.link.repeat(ctx, message);
                Verdict::Stay
            }
            Place::Outside => {
                ctx.out.stats.out_of_window += 1;
                Verdict::Stay
            }
        };
        self.conclude(ctx, verdict)
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Verdict {
        let exchange = message.header().exchange;
        if !matches!(exchange, ExchangeType::CREATE_CHILD_SA | ExchangeType::INFORMATIONAL) {
            ctx.out.stats.out_of_window += 1;
            return Verdict::Stay;
        }
        let decoded = match self.link.open(ctx, message) {
            Err(Unopened::Forged | Unopened::Incomplete) => return Verdict::Stay,
            Err(Unopened::Malformed) => Err(WireError::Length("padding")),
            Ok(opened) => opened.decode(),
        };
        self.follow(ctx, &message.path);
        match decoded {
            // The peer has decided a collision that we have not: what it asks about is not here yet. It will ask again.
            Ok(payloads) if self.on_probation && !payloads.deletes.contains(&Delete::Ike) => Verdict::Stay,
            Ok(payloads) if exchange == ExchangeType::INFORMATIONAL => self.on_informational(ctx, message, &payloads),
            Ok(payloads) => self.on_create_child(ctx, message, &payloads),
            Err(WireError::Critical(kind)) => {
                let notify = Notify::plain(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]);
                self.respond_notify(ctx, message, &notify);
                Verdict::Stay
            }
            Err(error) => self.protocol_error(ctx, message, &Failure::from(error)),
        }
    }

    /// INVALID_SYNTAX inside protection ends the IKE SA on both sides (V2-ERR-06).
    pub(super) fn protocol_error(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>, failure: &Failure) -> Verdict {
        self.report(ctx, "the exchange the peer began", failure);
        self.respond_notify(ctx, message, &Notify::plain(NotifyType::INVALID_SYNTAX, Vec::new()));
        Verdict::Gone(RemoveReason::ProtocolError)
    }

    fn on_response(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Verdict {
        let expected = self.outstanding.as_ref().map(|o| o.exchange.kind());
        if expected != Some(message.header().exchange) {
            ctx.out.stats.out_of_window += 1;
            return Verdict::Stay;
        }
        let decoded = match self.link.open(ctx, message) {
            Err(Unopened::Forged | Unopened::Incomplete) => return Verdict::Stay,
            Err(Unopened::Malformed) => Err(WireError::Length("padding")),
            Ok(opened) => opened.decode(),
        };
        self.follow(ctx, &message.path);
        let Some(outstanding) = self.outstanding.take() else { return Verdict::Stay };
        match decoded {
            Ok(payloads) => self.on_answer(ctx, outstanding.exchange, &payloads),
            Err(error) => {
                // No reply to a malformed response (V2-ERR-08); the exchange has failed and the two sides disagree.
                let failure = Failure::from(error);
                self.report(ctx, "the exchange we began", &failure);
                self.forget(ctx, outstanding.exchange, failure.cause);
                Verdict::Delete(RemoveReason::ProtocolError)
            }
        }
    }

    fn on_answer(&mut self, ctx: &mut Ctx<'_>, exchange: Exchange, payloads: &Payloads) -> Verdict {
        match exchange {
            Exchange::Child(pending) => self.on_child_answer(ctx, *pending, payloads),
            Exchange::Ike(pending) => self.on_ike_answer(ctx, *pending, payloads),
            Exchange::Delete(Some((inbound, reason))) => {
                self.drop_child(ctx, inbound, reason);
                Verdict::Stay
            }
            Exchange::Delete(None) | Exchange::Liveness => Verdict::Stay,
        }
    }

    /// An authentic packet of a child, newer than any before it, came by another path (V2-NAT-06, V2-NAT-09).
    pub(super) fn handle_moved(mut self: Box<Self>, ctx: &mut Ctx<'_>, path: &Path) -> Option<Sa> {
        self.follow(ctx, path);
        self.conclude(ctx, Verdict::Stay)
    }

    /// Goes where the peer is now, when the peer is behind a NAT and we are not (V2-NAT-06). A NAT moves the peer, not us, and
    /// not from one address family to the other.
    fn follow(&mut self, ctx: &mut Ctx<'_>, path: &Path) {
        let old = self.link.path;
        if old == *path || !self.link.nat.remote || self.link.nat.local {
            return;
        }
        if old.local != path.local || old.remote.is_ipv4() != path.remote.is_ipv4() {
            return;
        }
        self.link.path = *path;
        let children = self.children.values().map(|c| (c.suite.protocol, c.spis)).collect();
        ctx.effect(Effect::MovePeer(PeerMoved { children, old, new: *path, encap: self.link.encap() }));
        ctx.log(
            Level::Info,
            format!("IKE SA {}: the peer moved from {} to {}", self.link.spis, old.remote, path.remote),
        );
    }

    pub(super) fn respond_notify(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>, notify: &Notify) {
        let mut chain = ChainBuilder::new();
        let pushed = chain.push(PayloadType::NOTIFY, notify).map_err(Failure::from);
        if let Err(failure) = pushed.and_then(|()| self.link.respond(ctx, message, &chain)) {
            self.report(ctx, "answering", &failure);
        }
    }

    pub(super) fn report(&self, ctx: &mut Ctx<'_>, what: &str, failure: &Failure) {
        ctx.failed(what, &self.link.path, Some(&self.peer.rule), failure);
    }

    /// Sends a request and keeps it until it is answered.
    pub(super) fn begin(&mut self, ctx: &mut Ctx<'_>, chain: &ChainBuilder, exchange: Exchange) -> Result<(), Failure> {
        let (id, octets) = self.link.request(ctx, exchange.kind(), chain)?;
        let timer = Retransmission::start(ctx.now, self.retry(), octets);
        self.outstanding = Some(Outstanding { id, timer, exchange });
        Ok(())
    }

    /// Removes a child. Where nothing that replaced it, or replaced the same child as it did, sends yet, the newest of those
    /// takes over.
    pub(super) fn drop_child(&mut self, ctx: &mut Ctx<'_>, inbound: u32, reason: RemoveReason) {
        let Some(child) = self.children.remove(&inbound) else { return };
        let kin = |c: &Child| c.rekeys == Some(inbound) || (c.rekeys.is_some() && c.rekeys == child.rekeys);
        if !self.children.values().any(|c| kin(c) && !c.outbound_pending)
            && let Some(heir) = self.children.values_mut().filter(|c| kin(c)).max_by_key(|c| c.created)
        {
            heir.switch_outbound(ctx, self.link.ends);
        }
        self.deleted += 1;
        child.remove(ctx, self.link.ends, reason);
    }

    pub(super) fn defer(&mut self, ctx: &mut Ctx<'_>, task: Task, tries: u32) {
        let jitter = Duration::from_millis(ctx.below(2000));
        self.delayed.push((ctx.now.after(RETRY_DELAY.saturating_mul(tries.max(1)) + jitter), task));
    }

    /// Starts what waits, while nothing is outstanding.
    fn pump(&mut self, ctx: &mut Ctx<'_>) {
        while self.outstanding.is_none() {
            let Some(task) = self.queue.pop_front() else { return };
            let (what, started) = match task {
                Task::Child(wish) => ("CREATE_CHILD_SA", self.start_child(ctx, &wish)),
                Task::RekeyChild { inbound, tries } => {
                    ("rekeying a child", self.start_rekey_child(ctx, inbound, tries))
                }
                Task::DeleteChild { inbound, reason } => ("deleting a child", self.start_delete(ctx, inbound, reason)),
                Task::DeleteSpi { protocol, spi } => ("deleting a child", self.start_delete_spi(ctx, protocol, spi)),
                Task::RekeyIke { tries } => ("rekeying the IKE SA", self.start_rekey_ike(ctx, tries, None)),
                Task::Liveness => ("the liveness check", self.begin(ctx, &ChainBuilder::new(), Exchange::Liveness)),
            };
            if let Err(failure) = started {
                self.report(ctx, what, &failure);
            }
        }
    }

    pub(super) fn handle_timeout(mut self: Box<Self>, ctx: &mut Ctx<'_>) -> Option<Sa> {
        let verdict = self.on_timeout(ctx);
        self.conclude(ctx, verdict)
    }

    fn on_timeout(&mut self, ctx: &mut Ctx<'_>) -> Verdict {
        let due = self.outstanding.as_mut().map_or(Due::Nothing, |o| o.timer.poll(ctx.now));
        match due {
            Due::Nothing => {}
            Due::Resend(datagrams) => {
                self.link.resend(ctx, datagrams);
            }
            Due::GiveUp => {
                ctx.out.stats.peers_dead += 1;
                self.report(ctx, "the exchange we began", &Failure::new(FailureCause::Timeout, ""));
                return Verdict::Gone(RemoveReason::PeerDead);
            }
        }
        if self.expire_at.is_some_and(|at| at <= ctx.now) {
            return Verdict::Delete(RemoveReason::LocalDeleted);
        }
        if self.rekey_at.is_some_and(|at| at <= ctx.now) {
            self.rekey_at = None;
            self.want(Task::RekeyIke { tries: 0 });
        }
        if self.reauth_due(ctx.now) {
            ctx.out.actions.push(Action::Reauthenticate { our_spi: self.link.our_spi() });
        }
        let (due, later) = std::mem::take(&mut self.delayed).into_iter().partition(|(at, _)| *at <= ctx.now);
        self.delayed = later;
        let due: Vec<(Timestamp, Task)> = due;
        self.queue.extend(due.into_iter().map(|(_, task)| task));
        self.check_liveness(ctx);
        self.keep_mapping(ctx);
        Verdict::Stay
    }

    /// Behind a NAT, sends a keepalive when nothing else went out for the interval, on the children either (UDP-03).
    fn keep_mapping(&mut self, ctx: &mut Ctx<'_>) {
        if !self.link.nat.local || ctx.now < self.link.spoke.after(ctx.config.keepalive) {
            return;
        }
        let sent = self.children.keys().filter_map(|spi| ctx.host.last_outbound(*spi)).max().unwrap_or_default();
        self.link.spoke = self.link.spoke.max(sent);
        if ctx.now >= self.link.spoke.after(ctx.config.keepalive) {
            self.link.spoke = ctx.now;
            ctx.keepalive(self.link.path);
        }
    }

    /// Asks a peer that was silent for the interval; any fresh protected packet counts as life (V2-LIVE-03).
    fn check_liveness(&mut self, ctx: &mut Ctx<'_>) {
        let interval = self.peer.rule.dpd_interval;
        if self.dpd_at.is_none_or(|at| at > ctx.now) {
            return;
        }
        let esp = self.children.keys().filter_map(|spi| ctx.host.last_inbound(*spi)).max().unwrap_or_default();
        let alive = esp.max(self.link.heard);
        if ctx.now.since(alive) < interval {
            self.dpd_at = Some(alive.after(interval));
            return;
        }
        self.dpd_at = Some(ctx.now.after(interval));
        self.probe();
    }

    fn probe(&mut self) {
        if self.outstanding.is_none() {
            self.want(Task::Liveness);
        }
    }

    /// Queues a task, unless it waits already: limits are met again and again while a peer does not answer.
    fn want(&mut self, task: Task) {
        let waiting = self.queue.iter().chain(self.delayed.iter().map(|(_, task)| task));
        if !waiting.into_iter().any(|other| other.covers(&task)) {
            self.queue.push_back(task);
        }
    }

    /// A child ran into a limit.
    pub(super) fn handle_expire(mut self: Box<Self>, ctx: &mut Ctx<'_>, inbound: u32, kind: ExpireKind) -> Option<Sa> {
        match kind {
            ExpireKind::Soft => self.want(Task::RekeyChild { inbound, tries: 0 }),
            ExpireKind::Hard => self.want(Task::DeleteChild { inbound, reason: RemoveReason::LocalDeleted }),
            ExpireKind::Idle => self.probe(),
        }
        self.conclude(ctx, Verdict::Stay)
    }

    /// Traffic came in on a child that replaces another: the peer has it, so we may send on it (V2-REK-10).
    pub(super) fn handle_inbound_used(mut self: Box<Self>, ctx: &mut Ctx<'_>, inbound: u32) -> Option<Sa> {
        if let Some(child) = self.children.get_mut(&inbound) {
            child.switch_outbound(ctx, self.link.ends);
        }
        self.conclude(ctx, Verdict::Stay)
    }

    pub(super) fn enqueue(mut self: Box<Self>, ctx: &mut Ctx<'_>, task: Task) -> Option<Sa> {
        self.want(task);
        self.conclude(ctx, Verdict::Stay)
    }

    /// Ends the wishes of an exchange that will not be answered.
    fn forget(&mut self, ctx: &mut Ctx<'_>, exchange: Exchange, cause: FailureCause) {
        if let Exchange::Child(pending) = exchange {
            pending.offer.abandon(ctx);
            pending.offer.wish.fail(ctx, cause);
        }
    }

    /// Acts on a verdict: goes on, or becomes what remains of an IKE SA.
    pub(super) fn conclude(mut self: Box<Self>, ctx: &mut Ctx<'_>, verdict: Verdict) -> Option<Sa> {
        let reason = match verdict {
            Verdict::Stay => {
                if self.link.nearly_exhausted() && !std::mem::replace(&mut self.exhausted, true) {
                    self.queue.push_front(Task::RekeyIke { tries: 0 });
                }
                self.pump(ctx);
                return Some(Sa::Established(self));
            }
            Verdict::Delete(reason) | Verdict::Gone(reason) => reason,
            Verdict::Replaced => RemoveReason::Rekeyed,
        };
        let outstanding = self.outstanding.take();
        let heir = match &outstanding {
            Some(Outstanding { exchange: Exchange::Ike(pending), .. }) => pending.collision.as_ref().map(|c| c.our_spi),
            _ => None,
        };
        // The peer's successor inherits when our own rekey will never be answered (V2-COL-12).
        match heir {
            Some(our_spi) if matches!(verdict, Verdict::Gone(RemoveReason::PeerDeleted)) => self.bequeath(ctx, our_spi),
            _ => self.clear(ctx, reason),
        }
        ctx.effect(Effect::IkeSaDown { spis: self.link.spis, reason });
        let role = self.link.role;
        ctx.log(Level::Info, format!("IKE SA {} with {} ({role:?}): {reason}", self.link.spis, self.link.path.remote));
        let unanswered = outstanding.map(|o| {
            let held = (o.id, o.exchange.kind(), o.timer);
            self.forget(ctx, o.exchange, FailureCause::IkeSaGone);
            held
        });
        let retry = self.retry();
        let Self { link, .. } = *self;
        match verdict {
            Verdict::Delete(_) => Retiring::delete(ctx, link, retry, unanswered),
            Verdict::Replaced => Some(Retiring::replaced(ctx, link, retry)),
            _ => Some(Retiring::linger(ctx, link, retry)),
        }
    }

    /// Leaves children and tasks to the IKE SA with this SPI of ours.
    pub(super) fn bequeath(&mut self, ctx: &mut Ctx<'_>, our_spi: [u8; 8]) {
        let children = std::mem::take(&mut self.children).into_values().collect();
        let tasks = std::mem::take(&mut self.queue).into_iter();
        let tasks = tasks.chain(std::mem::take(&mut self.delayed).into_iter().map(|(_, task)| task)).collect();
        ctx.out.actions.push(Action::Adopt { our_spi, ends: self.link.ends, children, tasks });
    }

    fn clear(&mut self, ctx: &mut Ctx<'_>, reason: RemoveReason) {
        for (_, child) in std::mem::take(&mut self.children) {
            child.remove(ctx, self.link.ends, reason);
        }
        let tasks = std::mem::take(&mut self.queue).into_iter();
        for task in tasks.chain(std::mem::take(&mut self.delayed).into_iter().map(|(_, task)| task)) {
            if let Task::Child(wish) = task {
                wish.fail(ctx, FailureCause::IkeSaGone);
            }
        }
    }

    pub(super) fn next_timeout(&self, keepalive: Duration) -> Option<Timestamp> {
        let timer = self.outstanding.as_ref().map(|o| o.timer.deadline());
        let delayed = self.delayed.iter().map(|(at, _)| *at).min();
        let keepalive = self.link.nat.local.then(|| self.link.spoke.after(keepalive));
        [timer, delayed, keepalive, self.rekey_at, self.expire_at, self.dpd_at, self.reauth_at]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> IkeSaSnapshot {
        let state = if self.is_rekeying() { IkeState::Rekeying } else { IkeState::Established };
        IkeSaSnapshot {
            rule_label: Some(self.peer.rule.label.clone()),
            local_id: Some(self.peer.local_id.clone()),
            remote_id: Some(self.peer.remote_id.clone()),
            age: now.since(self.since),
            expires_in: self.expire_at.map(|at| at.since(now)),
            rekey_in: self.rekey_at.map(|at| at.since(now)),
            children: self.children.values().map(|c| c.snapshot(now)).collect(),
            children_created: self.created,
            children_deleted: self.deleted,
            ..self.link.snapshot(state)
        }
    }
}
