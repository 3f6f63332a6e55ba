//! Child SAs on the side that asks: the wish, the offer made of it, the check of the answer, and what both sides build of an
//! agreement (RFC 7296 sections 1.3.1, 2.9 and 2.17).

use std::sync::Arc;
use std::time::Duration;

use super::api::{
    ChildKeys, ChildLifetimes, ChildPolicy, ChildSa, ChildSnapshot, ChildSuite, Effect, FailureCause, Mode, Originals,
    OutboundUse, Protocol, RefusalKind, RemoveReason, RemovedChild, Rule, SpiPair, SpiRequest, Timestamp,
};
use super::context::{Ctx, Failure, check_nonce};
use super::create_child::cause_of;
use super::established::Task;
use super::link::{Ends, Link};
use super::proposal::{ChildAgreed, accept_child, child_offer, describe};
use super::selectors;
use super::transport_nat;
use crate::crypto::keys::{DirectionKeys, child_keys, child_shape};
use crate::crypto::{CryptoError, Secret};
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::id::Identification;
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::{Proposal, SecurityAssociation};
use crate::wire::transform::GroupId;
use crate::wire::ts::{TrafficSelector, TsPayload};

/// Packets of the replay window of every negotiated SA.
const REPLAY_WINDOW: u32 = 1024;

/// Who talks to whom under which rule, once both are authenticated.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) rule: Arc<Rule>,
    pub(super) local_id: Identification,
    pub(super) remote_id: Identification,
}

/// A child in use.
pub(super) struct Child {
    pub(super) spis: SpiPair,
    pub(super) policy: ChildPolicy,
    pub(super) suite: ChildSuite,
    pub(super) group: GroupId,
    pub(super) esn: bool,
    pub(super) mode: Mode,
    pub(super) ts_local: Vec<TrafficSelector>,
    pub(super) ts_remote: Vec<TrafficSelector>,
    pub(super) created: Timestamp,
    /// Our Delete for it is queued or on its way.
    pub(super) deleting: bool,
    /// Inbound SPI of the child it replaces.
    pub(super) rekeys: Option<u32>,
    /// Its outbound half is not bound yet.
    pub(super) outbound_pending: bool,
}

impl Child {
    pub(super) fn snapshot(&self, now: Timestamp) -> ChildSnapshot {
        ChildSnapshot {
            spis: self.spis,
            suite: self.suite,
            group: self.group,
            esn: self.esn,
            mode: self.mode,
            ts_local: self.ts_local.clone(),
            ts_remote: self.ts_remote.clone(),
            action: self.policy.action,
            age: now.since(self.created),
        }
    }

    /// Tells the SADB that the pair is gone.
    pub(super) fn remove(self, ctx: &mut Ctx<'_>, ends: Ends, reason: RemoveReason) {
        ctx.out.stats.children_deleted += 1;
        ctx.effect(Effect::RemoveChild(RemovedChild {
            spis: self.spis,
            protocol: self.suite.protocol,
            local: ends.local,
            remote: ends.remote,
            reason,
        }));
    }

    /// Binds the outbound half, if that was put off.
    pub(super) fn switch_outbound(&mut self, ctx: &mut Ctx<'_>, ends: Ends) {
        if std::mem::take(&mut self.outbound_pending) {
            let (spis, protocol) = (self.spis, self.suite.protocol);
            ctx.effect(Effect::SwitchOutbound { spis, protocol, remote: ends.remote });
        }
    }
}

/// A child that is wanted.
#[derive(Clone)]
pub(super) struct Wish {
    pub(super) acquire: Option<u64>,
    pub(super) policy: ChildPolicy,
    pub(super) packet: Option<(TrafficSelector, TrafficSelector)>,
    /// The pair to be replaced.
    pub(super) rekeys: Option<SpiPair>,
    /// Attempts that the peer put off.
    pub(super) tries: u32,
}

impl Wish {
    /// The same traffic with one selector on either side (SINGLE_PAIR_REQUIRED); `None` when there is one already.
    pub(super) fn single_pair(mut self) -> Option<Self> {
        if self.policy.ts_local.len() + self.policy.ts_remote.len() <= 2 && self.packet.is_none() {
            return None;
        }
        let (local, remote) = match self.packet.take() {
            Some(pair) => pair,
            None => (*self.policy.ts_local.first()?, *self.policy.ts_remote.first()?),
        };
        self.policy.ts_local = vec![local];
        self.policy.ts_remote = vec![remote];
        Some(self)
    }

    /// Ends the wish: whoever asked for it is told.
    pub(super) fn fail(&self, ctx: &mut Ctx<'_>, cause: FailureCause) {
        if let Some(id) = self.acquire {
            ctx.effect(Effect::AcquireFailed { id, action: self.policy.action, cause });
        }
    }
}

/// Leaves of a policy what passes the NAT on the way: not AH, which covers the addresses (AH-11, RFC 3947 section 1).
///
/// # Errors
/// Why nothing is left.
pub(super) fn behind_nat(policy: &mut ChildPolicy) -> Result<(), String> {
    policy.suites.retain(|suite| suite.protocol != Protocol::Ah);
    if policy.suites.is_empty() {
        return Err(format!("policy {} asks for AH, which does not pass the NAT that is on the way", policy.source));
    }
    Ok(())
}

/// A wish on its way to the peer: an SPI is reserved for each protocol in it.
pub(super) struct ChildOffer {
    pub(super) wish: Wish,
    spis: Vec<(Protocol, u32)>,
    local: std::net::IpAddr,
    proposals: Vec<Proposal>,
    ts_local: Vec<TrafficSelector>,
    ts_remote: Vec<TrafficSelector>,
}

/// What the peer's answer and our offer agree on.
pub(super) struct Agreement {
    pub(super) agreed: ChildAgreed,
    pub(super) outbound_spi: u32,
    pub(super) mode: Mode,
    pub(super) ts_local: Vec<TrafficSelector>,
    pub(super) ts_remote: Vec<TrafficSelector>,
    pub(super) originals: Option<Originals>,
}

impl ChildOffer {
    /// Reserves SPIs and makes the offer. `pfs` is the group of a key exchange of its own.
    pub(super) fn prepare(ctx: &mut Ctx<'_>, link: &Link, wish: &Wish, pfs: GroupId) -> Result<Self, Failure> {
        let mut wish = wish.clone();
        if link.encap().is_some() {
            behind_nat(&mut wish.policy).map_err(|text| Failure::new(FailureCause::Local, text))?;
        }
        let Ends { local, remote } = link.ends;
        let (packet_local, packet_remote) = wish.packet.unzip();
        let ts_local = selectors::offer(packet_local, &wish.policy.ts_local);
        let ts_remote = selectors::offer(packet_remote, &wish.policy.ts_remote);
        let mut offer = Self { wish, spis: Vec::new(), local, proposals: Vec::new(), ts_local, ts_remote };
        for protocol in [Protocol::Esp, Protocol::Ah] {
            if offer.wish.policy.suites.iter().all(|suite| suite.protocol != protocol) {
                continue;
            }
            let request = SpiRequest { protocol, local, remote, ike: link.spis, acquire: offer.wish.acquire };
            match ctx.host.allocate_spi(&request) {
                Ok(spi) => offer.spis.push((protocol, spi)),
                Err(error) => {
                    offer.abandon(ctx);
                    return Err(Failure::new(FailureCause::Local, error.to_string()));
                }
            }
        }
        if offer.spis.is_empty() {
            return Err(Failure::new(FailureCause::Local, "the policy names no algorithm"));
        }
        offer.proposals = child_offer(&offer.wish.policy, |protocol| offer.spi(protocol), pfs);
        Ok(offer)
    }

    /// The SPI that is reserved for a protocol; 0 for none.
    fn spi(&self, protocol: Protocol) -> u32 {
        self.spis.iter().find(|(of, _)| *of == protocol).map_or(0, |(_, spi)| *spi)
    }

    /// The protocol of a rekey, which has one.
    pub(super) fn protocol(&self) -> Protocol {
        self.spis.first().map_or(Protocol::Esp, |(protocol, _)| *protocol)
    }

    /// What tells the peer that we have none of what it has made of the offer.
    pub(super) fn deletes(&self) -> impl Iterator<Item = Task> {
        self.spis.iter().map(|(protocol, spi)| Task::DeleteSpi { protocol: protocol.id(), spi: *spi })
    }

    /// Installs what was agreed, and gives the SPI of the other protocol back.
    pub(super) fn install(
        &self,
        ctx: &mut Ctx<'_>,
        link: &Link,
        peer: &Peer,
        agreement: &Agreement,
        secrets: &ChildSecrets<'_>,
    ) -> Result<Child, Failure> {
        let agreed = agreement.agreed.suite.protocol;
        let child = install(ctx, link, peer, &self.wish, (self.spi(agreed), agreement), secrets)?;
        for (protocol, spi) in self.spis.iter().copied().filter(|(protocol, _)| *protocol != agreed) {
            ctx.effect(Effect::ReleaseSpi { spi, protocol, local: self.local });
        }
        Ok(child)
    }

    /// USE_TRANSPORT_MODE, where it is wanted.
    pub(super) fn push_mode(&self, chain: &mut ChainBuilder) -> Result<(), Failure> {
        if self.wish.policy.mode == Mode::Transport {
            chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::USE_TRANSPORT_MODE, Vec::new()))?;
        }
        Ok(())
    }

    pub(super) fn push_sa(&self, chain: &mut ChainBuilder) -> Result<(), Failure> {
        Ok(chain.push(PayloadType::SA, &SecurityAssociation { proposals: self.proposals.clone() })?)
    }

    pub(super) fn push_ts(&self, chain: &mut ChainBuilder) -> Result<(), Failure> {
        chain.push(PayloadType::TS_I, &TsPayload { selectors: self.ts_local.clone() })?;
        chain.push(PayloadType::TS_R, &TsPayload { selectors: self.ts_remote.clone() })?;
        Ok(())
    }

    /// Why the peer did not take the offer, in words that name the policy behind it.
    pub(super) fn refused(&self, error: &Notify) -> Failure {
        let source = &self.wish.policy.source;
        let detail = match error.kind {
            NotifyType::NO_PROPOSAL_CHOSEN => {
                format!("the peer accepts none of {}, which policy {source} asks for", describe(&self.proposals))
            }
            NotifyType::TS_UNACCEPTABLE => {
                let (local, remote) = (selectors::describe(&self.ts_local), selectors::describe(&self.ts_remote));
                format!("the peer does not accept {local} {remote} of policy {source}")
            }
            _ => format!("the peer refuses what policy {source} asks for"),
        };
        Failure::new(cause_of(error.kind), detail)
    }

    /// Gives the SPIs back.
    pub(super) fn abandon(&self, ctx: &mut Ctx<'_>) {
        self.releases().into_iter().for_each(|effect| ctx.effect(effect));
    }

    /// What gives the SPIs back.
    pub(super) fn releases(&self) -> Vec<Effect> {
        let local = self.local;
        self.spis.iter().map(|(protocol, spi)| Effect::ReleaseSpi { spi: *spi, protocol: *protocol, local }).collect()
    }

    /// Holds a response without error against the offer.
    pub(super) fn agree(&self, link: &Link, response: &Payloads) -> Result<Agreement, Failure> {
        let syntax = |what: &str| Failure::new(FailureCause::InvalidSyntax, format!("the answer has no {what}"));
        let sa = response.sa.as_ref().ok_or_else(|| syntax("SA payload"))?;
        let ts_local = &response.ts_initiator.as_ref().ok_or_else(|| syntax("TSi payload"))?.selectors;
        let ts_remote = &response.ts_responder.as_ref().ok_or_else(|| syntax("TSr payload"))?.selectors;
        let (agreed, outbound_spi) = accept_child(&self.proposals, &sa.proposals).ok_or_else(|| {
            let text = format!("the peer chose {}, which was not offered", describe(&sa.proposals));
            Failure::new(FailureCause::NoProposalChosen, text)
        })?;
        let transport = response.notify(NotifyType::USE_TRANSPORT_MODE).is_some();
        let mode = if transport { Mode::Transport } else { Mode::Tunnel };
        let (ts_local, ts_remote, originals) = if transport && link.nat.any() {
            let ours = transport_nat::substitute(link.nat, link.ends, ts_local, ts_remote).ok_or_else(|| {
                let (local, remote) = (selectors::describe(ts_local), selectors::describe(ts_remote));
                let text =
                    format!("transport mode through a NAT with the selectors {local} {remote}, not of two hosts");
                Failure::new(FailureCause::TsUnacceptable, text)
            })?;
            (ours.ts_local, ours.ts_remote, Some(ours.originals))
        } else {
            (ts_local.clone(), ts_remote.clone(), None)
        };
        self.check_selectors(&ts_local, &ts_remote)?;
        if mode != self.wish.policy.mode {
            let text = format!("policy {} wants {} mode", self.wish.policy.source, self.wish.policy.mode);
            return Err(Failure::new(FailureCause::ModeRefused, text));
        }
        Ok(Agreement { agreed, outbound_spi, mode, ts_local, ts_remote, originals })
    }

    fn check_selectors(&self, local: &[TrafficSelector], remote: &[TrafficSelector]) -> Result<(), Failure> {
        let refused = |text: String| Err(Failure::new(FailureCause::TsUnacceptable, text));
        let subset = selectors::covered(local, &self.ts_local) && selectors::covered(remote, &self.ts_remote);
        if local.is_empty() || remote.is_empty() || !subset {
            let (local, remote) = (selectors::describe(local), selectors::describe(remote));
            return refused(format!("the peer's answer {local} {remote} is no subset of what was offered"));
        }
        // A pair that does not carry the packet would be asked for again and again (V2-TS-11).
        let carries = |(l, r): (TrafficSelector, TrafficSelector)| {
            selectors::covered(&[l], local) && selectors::covered(&[r], remote)
        };
        let offered = |(l, r): (TrafficSelector, TrafficSelector)| {
            selectors::covered(&[l], &self.ts_local) && selectors::covered(&[r], &self.ts_remote)
        };
        if self.wish.packet.is_some_and(|packet| offered(packet) && !carries(packet)) {
            return refused("the peer narrowed the selectors so that the waiting packet does not fit".to_owned());
        }
        Ok(())
    }
}

/// Keys and nonces of an exchange that made a child.
pub(super) struct ChildSecrets<'a> {
    pub(super) nonce_initiator: &'a Nonce,
    pub(super) nonce_responder: &'a Nonce,
    pub(super) shared: Option<&'a Secret>,
    /// Whether we began the exchange.
    pub(super) initiator: bool,
}

/// Builds the pair of an agreement and hands it to the SADB, which may refuse it.
pub(super) fn install(
    ctx: &mut Ctx<'_>,
    link: &Link,
    peer: &Peer,
    wish: &Wish,
    (inbound_spi, agreement): (u32, &Agreement),
    secrets: &ChildSecrets<'_>,
) -> Result<Child, Failure> {
    let ChildAgreed { suite, esn, group } = agreement.agreed;
    let shape = child_shape(suite.encr, suite.integ).ok_or(CryptoError::Unavailable)?;
    let nonces = (secrets.nonce_initiator, secrets.nonce_responder);
    check_nonce(if secrets.initiator { nonces.1 } else { nonces.0 }, link.prf)?;
    let (first, second) = child_keys(link.prf, &link.keys.sk_d, secrets.shared, nonces, shape)?;
    let (ours, theirs) = if secrets.initiator { (first, second) } else { (second, first) };
    let direction = |spi: u32, keys: DirectionKeys| ChildKeys {
        spi,
        cipher_key: keys.cipher,
        salt: keys.salt,
        integ_key: keys.integ,
    };
    let spis = SpiPair { inbound: inbound_spi, outbound: agreement.outbound_spi };
    // The responder of a rekey goes on with the old pair until the initiator has shown that it has the new one (V2-REK-10).
    let later = wish.rekeys.is_some() && !secrets.initiator;
    let sa = ChildSa {
        ike: link.spis,
        rule_label: peer.rule.label.clone(),
        action: wish.policy.action,
        acquire: wish.acquire,
        initiator: secrets.initiator,
        mode: agreement.mode,
        local: link.ends.local,
        remote: link.ends.remote,
        peer: link.path.remote.ip(),
        encap: link.encap(),
        nat: link.nat,
        originals: agreement.originals,
        ts_local: agreement.ts_local.clone(),
        ts_remote: agreement.ts_remote.clone(),
        suite,
        group,
        esn,
        inbound: direction(spis.inbound, theirs),
        outbound: direction(spis.outbound, ours),
        lifetimes: jittered(ctx, peer.rule.child_lifetimes),
        replay_window: REPLAY_WINDOW,
        rekeys: wish.rekeys,
        outbound_use: if later { OutboundUse::Later } else { OutboundUse::Now },
        local_id: peer.local_id.clone(),
        remote_id: peer.remote_id.clone(),
    };
    ctx.host.install_child(&sa).map_err(|refusal| {
        let cause = match refusal.kind {
            RefusalKind::Full => FailureCause::NoAdditionalSas,
            RefusalKind::Taken => FailureCause::TsUnacceptable,
            RefusalKind::Failure => FailureCause::Local,
        };
        Failure::new(cause, refusal.to_string())
    })?;
    ctx.effect(Effect::ChildInstalled(Box::new(sa)));
    ctx.out.stats.children_created += 1;
    if wish.rekeys.is_some() {
        ctx.out.stats.children_rekeyed += 1;
    }
    Ok(Child {
        spis,
        policy: wish.policy.clone(),
        suite,
        group,
        esn,
        mode: agreement.mode,
        ts_local: agreement.ts_local.clone(),
        ts_remote: agreement.ts_remote.clone(),
        created: ctx.now,
        deleting: false,
        rekeys: wish.rekeys.map(|pair| pair.inbound),
        outbound_pending: later,
    })
}

/// Soft limits come up to a tenth earlier than configured, so that two ends, and many children, do not rekey at once
/// (V2-REK-12). One that would come with the hard limit or after it comes at nine tenths of that; none stays none.
fn jittered(ctx: &mut Ctx<'_>, limits: ChildLifetimes) -> ChildLifetimes {
    let mut early = |soft: u64, hard: u64| {
        if soft == 0 {
            return 0;
        }
        let soft = if hard != 0 && soft >= hard { hard - hard / 10 } else { soft };
        soft - ctx.below((soft / 10).max(1))
    };
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    ChildLifetimes {
        soft: Duration::from_millis(early(millis(limits.soft), millis(limits.hard))),
        soft_bytes: early(limits.soft_bytes, limits.hard_bytes),
        ..limits
    }
}
