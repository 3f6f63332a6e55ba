//! CREATE_CHILD_SA for children, both roles: new ones and rekeys, and the collision rules of RFC 7296 sections 2.8.1 and 2.25.

use super::api::{FailureCause, Protocol, RemoveReason};
use super::child::{ChildOffer, ChildSecrets, Wish};
use super::child_answer::{Ask, Refusal, answer};
use super::context::{Ctx, Failure};
use super::established::{Established, Exchange, MAX_TRIES, Outstanding, Task, Verdict};
use super::link::Message;
use crate::crypto::{KeyExchange, Secret};
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::ke;
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::{ProtocolId, SecurityAssociation};
use crate::wire::transform::GroupId;

/// A child we asked for.
pub(super) struct PendingChild {
    pub(super) offer: ChildOffer,
    nonce: Nonce,
    exchange: Option<Box<dyn KeyExchange>>,
    /// The lower nonce of the exchange in which the peer replaced the same child meanwhile.
    pub(super) collision: Option<Nonce>,
    /// SPIs unknown here that the peer deleted meanwhile: its answer, still on the way, may name one of them.
    pub(super) deleted: Vec<u32>,
}

impl Established {
    pub(super) fn start_child(&mut self, ctx: &mut Ctx<'_>, wish: &Wish) -> Result<(), Failure> {
        let started = self.offer_child(ctx, wish);
        if let Err(failure) = &started {
            wish.fail(ctx, failure.cause);
        }
        started
    }

    pub(super) fn start_rekey_child(&mut self, ctx: &mut Ctx<'_>, inbound: u32, tries: u32) -> Result<(), Failure> {
        let superseded = self.children.values().any(|c| c.rekeys == Some(inbound));
        let Some(child) = self.children.get(&inbound).filter(|c| !c.deleting && !superseded) else { return Ok(()) };
        let mut policy = child.policy.clone();
        // A rekey asks for what is in use (V2-TS-12), and REKEY_SA names the protocol of both.
        let protocol = child.suite.protocol;
        policy.suites.retain(|suite| suite.protocol == protocol);
        policy.ts_local.clone_from(&child.ts_local);
        policy.ts_remote.clone_from(&child.ts_remote);
        let wish = Wish { acquire: None, policy, packet: None, rekeys: Some(child.spis), tries };
        self.offer_child(ctx, &wish)
    }

    fn offer_child(&mut self, ctx: &mut Ctx<'_>, wish: &Wish) -> Result<(), Failure> {
        let pfs = self.peer.rule.childsa_pfs;
        let exchange = if pfs == GroupId::NONE { None } else { Some(ctx.provider.key_exchange(pfs)?) };
        let nonce = ctx.nonce()?;
        let offer = ChildOffer::prepare(ctx, &self.link, wish, pfs)?;
        let chain = request_chain(&offer, &nonce, exchange.as_deref());
        let releases = offer.releases();
        let pending =
            Exchange::Child(Box::new(PendingChild { offer, nonce, exchange, collision: None, deleted: Vec::new() }));
        let begun = chain.and_then(|chain| self.begin(ctx, &chain, pending));
        begun.inspect_err(|_| releases.into_iter().for_each(|effect| ctx.effect(effect)))
    }

    pub(super) fn on_child_answer(
        &mut self,
        ctx: &mut Ctx<'_>,
        mut pending: PendingChild,
        response: &Payloads,
    ) -> Verdict {
        if let Some(error) = response.error() {
            return self.on_child_refused(ctx, pending, error);
        }
        match self.complete_child(ctx, &mut pending, response) {
            Ok(true) => {}
            Ok(false) => {
                pending.offer.abandon(ctx);
                self.queue.extend(pending.offer.deletes());
            }
            Err(failure) => {
                // The peer has a pair that we do not take: it is told so (V2-REK-02, V2-TS-10).
                self.report(ctx, "CREATE_CHILD_SA", &failure);
                pending.offer.abandon(ctx);
                pending.offer.wish.fail(ctx, failure.cause);
                self.queue.extend(pending.offer.deletes());
            }
        }
        Verdict::Stay
    }

    /// Whether the new pair is installed; false when it lost a collision.
    fn complete_child(
        &mut self,
        ctx: &mut Ctx<'_>,
        pending: &mut PendingChild,
        response: &Payloads,
    ) -> Result<bool, Failure> {
        let agreement = pending.offer.agree(&self.link, response)?;
        if pending.deleted.contains(&agreement.outbound_spi) {
            return Err(Failure::new(FailureCause::ChildNotFound, "the peer deleted the child before its answer came"));
        }
        let theirs = response.nonce.as_ref();
        let theirs = theirs.ok_or_else(|| Failure::new(FailureCause::InvalidSyntax, "the answer has no nonce"))?;
        // Of two exchanges that replace one child, the one with the lowest nonce is void (V2-COL-01).
        let ours = pending.nonce.clone().min(theirs.clone());
        if pending.collision.as_ref().is_some_and(|other| ours < *other) {
            return Ok(false);
        }
        let shared = match agreement.agreed.group {
            GroupId::NONE => None,
            group => Some(shared_secret(pending.exchange.take(), group, response)?),
        };
        let secrets = ChildSecrets {
            nonce_initiator: &pending.nonce,
            nonce_responder: theirs,
            shared: shared.as_ref(),
            initiator: true,
        };
        let wish = &pending.offer.wish;
        let child = pending.offer.install(ctx, &self.link, &self.peer, &agreement, &secrets)?;
        self.created += 1;
        self.children.insert(child.spis.inbound, child);
        if let Some(old) = wish.rekeys {
            self.queue.push_back(Task::DeleteChild { inbound: old.inbound, reason: RemoveReason::Rekeyed });
        }
        Ok(true)
    }

    fn on_child_refused(&mut self, ctx: &mut Ctx<'_>, pending: PendingChild, error: &Notify) -> Verdict {
        pending.offer.abandon(ctx);
        let failure = pending.offer.refused(error);
        let mut wish = pending.offer.wish;
        let collided = pending.collision.is_some();
        match (error.kind, wish.rekeys) {
            (NotifyType::TEMPORARY_FAILURE, _) if !collided && wish.tries < MAX_TRIES => {
                wish.tries += 1;
                let tries = wish.tries;
                let task = match wish.rekeys {
                    Some(old) => Task::RekeyChild { inbound: old.inbound, tries },
                    None => Task::Child(Box::new(wish)),
                };
                self.defer(ctx, task, tries);
                return Verdict::Stay;
            }
            (NotifyType::SINGLE_PAIR_REQUIRED, None) => {
                if let Some(wish) = wish.clone().single_pair() {
                    self.queue.push_back(Task::Child(Box::new(wish)));
                    return Verdict::Stay;
                }
            }
            // The peer has not got the child any more, so neither have we (V2-COL-06).
            (NotifyType::CHILD_SA_NOT_FOUND, Some(old)) => self.drop_child(ctx, old.inbound, RemoveReason::PeerDeleted),
            _ => {}
        }
        self.report(ctx, "CREATE_CHILD_SA", &failure);
        wish.fail(ctx, failure.cause);
        let exhausted = error.kind == NotifyType::TEMPORARY_FAILURE && wish.rekeys.is_some() && !collided;
        if exhausted { Verdict::Delete(RemoveReason::LocalDeleted) } else { Verdict::Stay }
    }

    /// A CREATE_CHILD_SA request of the peer, of any kind.
    pub(super) fn on_create_child(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>, request: &Payloads) -> Verdict {
        let for_ike = |sa: &SecurityAssociation| sa.proposals.iter().any(|p| p.protocol == ProtocolId::IKE);
        if request.sa.as_ref().is_some_and(for_ike) {
            return self.on_rekey_ike(ctx, message, request);
        }
        let mut chain = ChainBuilder::new();
        match self.answer_child(ctx, request, &mut chain) {
            Ok(()) => {
                if let Err(failure) = self.link.respond(ctx, message, &chain) {
                    self.report(ctx, "answering CREATE_CHILD_SA", &failure);
                }
                Verdict::Stay
            }
            Err(refusal) => self.refuse(ctx, message, &refusal),
        }
    }

    /// Tells the peer no. What breaks the syntax ends the IKE SA.
    pub(super) fn refuse(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>, refusal: &Refusal) -> Verdict {
        if refusal.notify.kind == NotifyType::INVALID_SYNTAX {
            return self.protocol_error(ctx, message, &refusal.failure);
        }
        self.report(ctx, "CREATE_CHILD_SA of the peer", &refusal.failure);
        self.respond_notify(ctx, message, &refusal.notify);
        Verdict::Stay
    }

    fn answer_child(&mut self, ctx: &mut Ctx<'_>, request: &Payloads, chain: &mut ChainBuilder) -> Result<(), Refusal> {
        if self.is_rekeying() {
            return Err(temporary("we are rekeying the IKE SA"));
        }
        let old = match request.notify(NotifyType::REKEY_SA) {
            Some(notify) => Some(self.child_to_rekey(notify)?),
            None => None,
        };
        if self.children.len() >= ctx.config.max_children {
            let kind = NotifyType::NO_ADDITIONAL_SAS;
            return Err(Refusal::new(kind, FailureCause::NoAdditionalSas, "too many children"));
        }
        let missing = || Refusal::new(NotifyType::INVALID_SYNTAX, FailureCause::InvalidSyntax, "no nonce");
        let nonce_initiator = request.nonce.as_ref().ok_or_else(missing)?;
        let nonce_responder = ctx.nonce()?;
        let ask = Ask {
            payloads: request,
            nonce_initiator,
            nonce_responder: &nonce_responder,
            in_auth: false,
            rekeys: old.and_then(|inbound| self.children.get(&inbound)),
        };
        let child = answer(ctx, &self.link, &self.peer, &ask, chain)?;
        self.created += 1;
        self.children.insert(child.spis.inbound, child);
        if let Some(Outstanding { exchange: Exchange::Child(pending), .. }) = &mut self.outstanding
            && pending.offer.wish.rekeys.map(|pair| pair.inbound) == old
            && old.is_some()
        {
            pending.collision = Some(nonce_initiator.clone().min(nonce_responder));
        }
        Ok(())
    }

    /// The child a REKEY_SA notification means: it names the SPI its sender receives on (V2-REK-06).
    fn child_to_rekey(&self, notify: &Notify) -> Result<u32, Refusal> {
        let syntax = || Refusal::new(NotifyType::INVALID_SYNTAX, FailureCause::InvalidSyntax, "REKEY_SA names no SPI");
        let protocol = Protocol::from_id(ProtocolId(notify.protocol)).ok_or_else(syntax)?;
        let spi = notify.child_spi().ok_or_else(syntax)?;
        let found = self.children.values().find(|c| c.suite.protocol == protocol && c.spis.outbound == spi);
        let Some(child) = found else {
            // It may be the child of an answer that is still on its way to us.
            if matches!(&self.outstanding, Some(Outstanding { exchange: Exchange::Child(_), .. })) {
                return Err(temporary("we are making a child ourselves"));
            }
            let notify = Notify::about_child(NotifyType::CHILD_SA_NOT_FOUND, notify.protocol, spi);
            let failure = Failure::new(FailureCause::ChildNotFound, format!("the peer rekeys {spi:08x}, unknown here"));
            return Err(Refusal { notify, failure });
        };
        if child.deleting { Err(temporary("we are deleting that child")) } else { Ok(child.spis.inbound) }
    }
}

pub(super) fn temporary(detail: &str) -> Refusal {
    Refusal::new(NotifyType::TEMPORARY_FAILURE, FailureCause::TemporaryFailure, detail)
}

/// What a failure is counted as when the peer told it.
pub(super) fn cause_of(kind: NotifyType) -> FailureCause {
    match kind {
        NotifyType::NO_PROPOSAL_CHOSEN => FailureCause::NoProposalChosen,
        NotifyType::INVALID_KE_PAYLOAD => FailureCause::InvalidKe,
        NotifyType::AUTHENTICATION_FAILED => FailureCause::AuthenticationFailed,
        NotifyType::TS_UNACCEPTABLE | NotifyType::SINGLE_PAIR_REQUIRED => FailureCause::TsUnacceptable,
        NotifyType::INVALID_SYNTAX => FailureCause::InvalidSyntax,
        NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD => FailureCause::UnsupportedCriticalPayload,
        NotifyType::NO_ADDITIONAL_SAS => FailureCause::NoAdditionalSas,
        NotifyType::TEMPORARY_FAILURE => FailureCause::TemporaryFailure,
        NotifyType::CHILD_SA_NOT_FOUND => FailureCause::ChildNotFound,
        NotifyType(number) => FailureCause::PeerError(number),
    }
}

fn request_chain(
    offer: &ChildOffer,
    nonce: &Nonce,
    exchange: Option<&dyn KeyExchange>,
) -> Result<ChainBuilder, Failure> {
    let mut chain = ChainBuilder::new();
    if let Some(old) = offer.wish.rekeys {
        let notify = Notify::about_child(NotifyType::REKEY_SA, offer.protocol().id().0, old.inbound);
        chain.push(PayloadType::NOTIFY, &notify)?;
    }
    offer.push_mode(&mut chain)?;
    offer.push_sa(&mut chain)?;
    chain.push(PayloadType::NONCE, nonce)?;
    if let Some(ours) = exchange {
        let public = ke::KeyExchange { group: ours.group(), public: ours.public().to_vec() };
        chain.push(PayloadType::KE, &public)?;
    }
    offer.push_ts(&mut chain)?;
    Ok(chain)
}

/// The secret of our half and the peer's KE payload, which must be of the agreed group.
pub(super) fn shared_secret(
    ours: Option<Box<dyn KeyExchange>>,
    group: GroupId,
    response: &Payloads,
) -> Result<Secret, Failure> {
    let theirs = response.ke.as_ref().filter(|ke| ke.group == group);
    match (ours.filter(|o| o.group() == group), theirs) {
        (Some(ours), Some(theirs)) => Ok(ours.complete(&theirs.public)?),
        _ => Err(Failure::new(FailureCause::InvalidKe, format!("the answer has no public value of {group}"))),
    }
}
