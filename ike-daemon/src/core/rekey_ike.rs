//! CREATE_CHILD_SA for the IKE SA itself, both roles, and what happens when both ends do it at once (RFC 7296 sections 1.3.2,
//! 2.18, 2.8.1, 2.25.2).

use std::time::Duration;

use super::api::{Effect, FailureCause, IkeKeys, IkeSpis, RemoveReason, Role};
use super::child_answer::{Refusal, invalid_ke};
use super::context::{Action, Ctx, Failure, check_nonce};
use super::create_child::{cause_of, shared_secret, temporary};
use super::established::{Established, Exchange, MAX_TRIES, Outstanding, Task, Verdict};
use super::link::{Link, Message};
use super::proposal::{accept_ike, choose_ike, describe, ike_offer};
use crate::crypto::keys::Freshness;
use crate::crypto::{CryptoError, IkeSuite, KeyExchange, Secret};
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::ke;
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::{Proposal, SecurityAssociation};
use crate::wire::transform::GroupId;

/// How long the peer may take to decide a collision before the IKE SA it made is dropped.
const PROBATION: Duration = Duration::from_secs(60);

/// A successor we asked for.
pub(super) struct PendingIke {
    our_spi: [u8; 8],
    proposals: Vec<Proposal>,
    nonce: Nonce,
    exchange: Box<dyn KeyExchange>,
    tries: u32,
    /// Whether this is the second attempt with a group the peer named.
    directed: bool,
    pub(super) collision: Option<PeerSuccessor>,
}

/// A successor the peer asked for while ours was under way.
pub(super) struct PeerSuccessor {
    pub(super) our_spi: [u8; 8],
    lowest: Nonce,
}

/// What makes the keys of a successor.
struct Material<'a> {
    spis: IkeSpis,
    role: Role,
    suite: IkeSuite,
    shared: &'a Secret,
    nonces: (&'a Nonce, &'a Nonce),
}

impl Established {
    pub(super) fn start_rekey_ike(
        &mut self,
        ctx: &mut Ctx<'_>,
        tries: u32,
        directed: Option<GroupId>,
    ) -> Result<(), Failure> {
        let our_spi = ctx.ike_spi()?;
        let proposals = ike_offer(ctx.provider, &self.peer.rule, &our_spi);
        let offers = |group: &GroupId| proposals.iter().any(|p| p.groups().any(|g| g == *group));
        let first = proposals.first().and_then(|p| p.groups().next());
        let group = directed.or(Some(self.link.suite.group)).filter(offers).or(first);
        let group = group.ok_or_else(|| Failure::new(FailureCause::Local, "the rule has no usable proposal"))?;
        let exchange = ctx.provider.key_exchange(group)?;
        let nonce = ctx.nonce()?;
        let mut chain = ChainBuilder::new();
        chain.push(PayloadType::SA, &SecurityAssociation { proposals: proposals.clone() })?;
        chain.push(PayloadType::NONCE, &nonce)?;
        chain.push(PayloadType::KE, &ke::KeyExchange { group, public: exchange.public().to_vec() })?;
        let directed = directed.is_some();
        let pending = PendingIke { our_spi, proposals, nonce, exchange, tries, directed, collision: None };
        self.begin(ctx, &chain, Exchange::Ike(Box::new(pending)))
    }

    pub(super) fn on_ike_answer(&mut self, ctx: &mut Ctx<'_>, pending: PendingIke, response: &Payloads) -> Verdict {
        if let Some(error) = response.error() {
            return self.on_rekey_refused(ctx, pending, error);
        }
        let rival = pending.collision.as_ref().map(|c| (c.our_spi, c.lowest.clone()));
        match self.complete_rekey(ctx, pending, response) {
            Err(failure) => {
                self.report(ctx, "rekeying the IKE SA", &failure);
                match rival {
                    Some((our_spi, _)) => self.yield_to(ctx, our_spi),
                    // The peer believes in a successor that we cannot follow.
                    None => Verdict::Delete(RemoveReason::ProtocolError),
                }
            }
            Ok((successor, lowest)) => match rival {
                // The exchange with the lowest nonce is void; who made it takes it back (V2-COL-10).
                Some((our_spi, other)) if lowest < other => {
                    ctx.out.actions.push(Action::Discard(successor));
                    self.yield_to(ctx, our_spi)
                }
                _ => self.succeed(ctx, successor, Verdict::Delete(RemoveReason::Rekeyed)),
            },
        }
    }

    /// The peer's successor inherits, and the peer deletes this IKE SA.
    fn yield_to(&mut self, ctx: &mut Ctx<'_>, our_spi: [u8; 8]) -> Verdict {
        self.bequeath(ctx, our_spi);
        Verdict::Replaced
    }

    /// The successor goes into use with everything this IKE SA has.
    fn succeed(&mut self, ctx: &mut Ctx<'_>, successor: Box<Established>, verdict: Verdict) -> Verdict {
        let our_spi = successor.link.our_spi();
        ctx.out.actions.push(Action::Spawn(successor));
        self.bequeath(ctx, our_spi);
        verdict
    }

    fn complete_rekey(
        &self,
        ctx: &mut Ctx<'_>,
        pending: PendingIke,
        response: &Payloads,
    ) -> Result<(Box<Established>, Nonce), Failure> {
        let syntax = |what: &str| Failure::new(FailureCause::InvalidSyntax, format!("the answer has no {what}"));
        let sa = response.sa.as_ref().ok_or_else(|| syntax("SA payload"))?;
        let theirs = response.nonce.as_ref().ok_or_else(|| syntax("nonce"))?;
        let (suite, spi) = accept_ike(&pending.proposals, &sa.proposals, 8).ok_or_else(|| {
            let text = format!("the peer chose {}, which was not offered", describe(&sa.proposals));
            Failure::new(FailureCause::NoProposalChosen, text)
        })?;
        let responder = peer_spi(&spi).ok_or_else(|| syntax("SPI"))?;
        let shared = shared_secret(Some(pending.exchange), suite.group, response)?;
        let spis = IkeSpis { initiator: pending.our_spi, responder };
        let nonces = (&pending.nonce, theirs);
        let material = Material { spis, role: Role::Initiator, suite, shared: &shared, nonces };
        let successor = self.successor(ctx, &material)?;
        Ok((successor, pending.nonce.clone().min(theirs.clone())))
    }

    fn successor(&self, ctx: &mut Ctx<'_>, material: &Material<'_>) -> Result<Box<Self>, Failure> {
        let Material { spis, role, suite, shared, nonces } = material;
        let fresh = Freshness {
            nonce_initiator: nonces.0,
            nonce_responder: nonces.1,
            spi_initiator: spis.initiator,
            spi_responder: spis.responder,
        };
        let prf = ctx.provider.prf(suite.prf).ok_or(CryptoError::Unavailable)?;
        check_nonce(if *role == Role::Initiator { nonces.1 } else { nonces.0 }, prf)?;
        let keys: IkeKeys = self.link.keys.rekeyed(ctx.provider, self.link.prf, suite, shared, &fresh)?;
        let mut link = Link::new(ctx, *spis, *role, self.link.path, *suite, keys, (0, 0))?;
        (link.nat, link.ends) = (self.link.nat, self.link.ends);
        link.fragments = self.link.fragments;
        let mut successor = Self::new(ctx, link, self.peer.clone());
        successor.created = self.created;
        successor.deleted = self.deleted;
        successor.reauth_at = self.reauth_at;
        ctx.effect(Effect::IkeSaUp {
            spis: *spis,
            role: *role,
            path: self.link.path,
            remote_id: self.peer.remote_id.clone(),
            rule_label: self.peer.rule.label.clone(),
            rekeys: Some(self.link.spis),
        });
        ctx.out.stats.ike_rekeyed += 1;
        Ok(Box::new(successor))
    }

    fn on_rekey_refused(&mut self, ctx: &mut Ctx<'_>, pending: PendingIke, error: &Notify) -> Verdict {
        let failure = Failure::new(cause_of(error.kind), "the peer's answer");
        if let Some(rival) = &pending.collision {
            return self.yield_to(ctx, rival.our_spi);
        }
        match error.kind {
            NotifyType::INVALID_KE_PAYLOAD if !pending.directed => {
                let group =
                    named_group(error).filter(|g| pending.proposals.iter().any(|p| p.groups().any(|o| o == *g)));
                if let Some(group) = group {
                    if let Err(failure) = self.start_rekey_ike(ctx, pending.tries, Some(group)) {
                        self.report(ctx, "rekeying the IKE SA", &failure);
                    }
                    return Verdict::Stay;
                }
            }
            NotifyType::TEMPORARY_FAILURE if pending.tries < MAX_TRIES => {
                let tries = pending.tries + 1;
                self.defer(ctx, Task::RekeyIke { tries }, tries);
                return Verdict::Stay;
            }
            NotifyType::TEMPORARY_FAILURE => {
                self.report(ctx, "rekeying the IKE SA", &failure);
                return Verdict::Delete(RemoveReason::LocalDeleted);
            }
            _ => {}
        }
        self.report(ctx, "rekeying the IKE SA", &failure);
        Verdict::Stay
    }

    /// The peer asks for a successor.
    pub(super) fn on_rekey_ike(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>, request: &Payloads) -> Verdict {
        let mut chain = ChainBuilder::new();
        let (mut successor, lowest) = match self.answer_rekey(ctx, request, &mut chain) {
            Ok(made) => made,
            Err(refusal) => return self.refuse(ctx, message, &refusal),
        };
        if let Err(failure) = self.link.respond(ctx, message, &chain) {
            self.report(ctx, "answering CREATE_CHILD_SA", &failure);
            return Verdict::Stay;
        }
        if let Some(Outstanding { exchange: Exchange::Ike(pending), .. }) = &mut self.outstanding {
            // Which of the two stays is known when our own is answered; until then the children stay here.
            let our_spi = successor.link.our_spi();
            pending.collision = Some(PeerSuccessor { our_spi, lowest });
            successor.put_on_probation(ctx.now, PROBATION);
            ctx.out.actions.push(Action::Spawn(successor));
            return Verdict::Stay;
        }
        self.succeed(ctx, successor, Verdict::Replaced)
    }

    fn answer_rekey(
        &self,
        ctx: &mut Ctx<'_>,
        request: &Payloads,
        chain: &mut ChainBuilder,
    ) -> Result<(Box<Self>, Nonce), Refusal> {
        match self.outstanding.as_ref().map(|o| &o.exchange) {
            None | Some(Exchange::Liveness) => {}
            Some(Exchange::Ike(pending)) if pending.collision.is_none() => {}
            Some(_) => return Err(temporary("another exchange is under way")),
        }
        let syntax = |what| Refusal::new(NotifyType::INVALID_SYNTAX, FailureCause::InvalidSyntax, what);
        let sa = request.sa.as_ref().ok_or_else(|| syntax("no SA payload"))?;
        let theirs = request.nonce.as_ref().ok_or_else(|| syntax("no nonce"))?;
        let public = request.ke.as_ref().ok_or_else(|| syntax("no KE payload"))?;
        let our_spi = ctx.ike_spi().map_err(Failure::from)?;
        let rule = &self.peer.rule;
        let chosen = choose_ike(ctx.provider, rule, &sa.proposals, 8, Some(public.group), &our_spi);
        let chosen = chosen.ok_or_else(|| {
            let text = format!("the peer offers {}", describe(&sa.proposals));
            Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, FailureCause::NoProposalChosen, text)
        })?;
        let suite = chosen.agreed;
        let initiator = peer_spi(&chosen.spi).ok_or_else(|| syntax("SPI of zero"))?;
        if suite.group != public.group {
            return Err(invalid_ke(suite.group));
        }
        let ours = ctx.provider.key_exchange(suite.group).map_err(Failure::from)?;
        let reply = ke::KeyExchange { group: suite.group, public: ours.public().to_vec() };
        let shared = ours.complete(&public.public).map_err(Failure::from)?;
        let nonce = ctx.nonce()?;
        let write = |chain: &mut ChainBuilder| -> Result<(), Failure> {
            chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![chosen.answer.clone()] })?;
            chain.push(PayloadType::NONCE, &nonce)?;
            Ok(chain.push(PayloadType::KE, &reply)?)
        };
        write(chain)?;
        let spis = IkeSpis { initiator, responder: our_spi };
        let material = Material { spis, role: Role::Responder, suite, shared: &shared, nonces: (theirs, &nonce) };
        let successor = self.successor(ctx, &material)?;
        Ok((successor, theirs.clone().min(nonce)))
    }
}

fn peer_spi(octets: &[u8]) -> Option<[u8; 8]> {
    <[u8; 8]>::try_from(octets).ok().filter(|spi| *spi != [0; 8])
}

/// The group an INVALID_KE_PAYLOAD names.
pub(super) fn named_group(notify: &Notify) -> Option<GroupId> {
    <[u8; 2]>::try_from(notify.data.as_slice()).ok().map(|octets| GroupId(u16::from_be_bytes(octets)))
}
