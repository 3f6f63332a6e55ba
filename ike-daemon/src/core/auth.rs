//! The initiator with keys and without proof: IKE_AUTH, and the first child (RFC 7296 sections 1.2 and
//! 2.15).

use std::net::IpAddr;
use std::sync::Arc;

use super::api::{
    Acquire, AuthBy, Effect, FailureCause, IkeSaSnapshot, IkeState, Level, LocalIdentity, RemoveReason, Role, Rule,
    Timestamp,
};
use super::child::{ChildOffer, ChildSecrets, Peer, Wish};
use super::context::{Action, Ctx, Failure};
use super::create_child::cause_of;
use super::established::{Established, Task, Verdict};
use super::init::{fail_initiator, serves};
use super::link::{Link, Message, Place, Unopened};
use super::proof::{Claim, Hints, ask, judge, prove};
use super::retiring::Retiring;
use super::retransmit::{Due, Retransmission};
use super::sa::Sa;
use crate::crypto::Secret;
use crate::crypto::auth::SignedOctets;
use crate::wire::WireError;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::header::ExchangeType;
use crate::wire::id::{IdPayload, Identification};
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::transform::GroupId;

/// Both IKE_SA_INIT messages as they finally went, and their nonces: what AUTH signs.
pub(super) struct FirstMessages {
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) nonce_initiator: Nonce,
    pub(super) nonce_responder: Nonce,
    /// What the peer said about the signatures it takes.
    pub(super) hints: Hints,
}

impl FirstMessages {
    /// AUTH data of one side with a pre-shared key (V2-AUTH-01, V2-AUTH-02).
    pub(super) fn mac(&self, link: &Link, signer: Role, id: &IdPayload, key: &Secret) -> Secret {
        self.signed(link, signer, &id.signed_body()).with_psk(link.prf, key)
    }

    /// What a signature of one side is made over.
    pub(super) fn signed_octets(&self, link: &Link, signer: Role, id: &IdPayload) -> Vec<u8> {
        self.signed(link, signer, &id.signed_body()).octets(link.prf)
    }

    fn signed<'a>(&'a self, link: &'a Link, signer: Role, id_body: &'a [u8]) -> SignedOctets<'a> {
        match signer {
            Role::Initiator => SignedOctets {
                message: &self.request,
                peer_nonce: &self.nonce_responder,
                sk_p: &link.keys.sk_pi,
                id_body,
            },
            Role::Responder => SignedOctets {
                message: &self.response,
                peer_nonce: &self.nonce_initiator,
                sk_p: &link.keys.sk_pr,
                id_body,
            },
        }
    }
}

/// Who we are under a rule on a path.
pub(super) fn local_identity(rule: &Rule, local: IpAddr) -> Identification {
    match &rule.local_id {
        LocalIdentity::Address => Identification::address(local),
        LocalIdentity::Fixed(id) => id.clone(),
    }
}

/// IKE_AUTH sent.
pub(super) struct AuthSent {
    pub(super) link: Link,
    rule: Arc<Rule>,
    local_id: Identification,
    first: FirstMessages,
    offer: ChildOffer,
    waiting: Vec<Wish>,
    id: u32,
    timer: Retransmission,
    since: Timestamp,
}

impl AuthSent {
    /// Sends IKE_AUTH with the first wish; the others follow when the IKE SA is up.
    pub(super) fn begin(
        ctx: &mut Ctx<'_>,
        mut link: Link,
        rule: Arc<Rule>,
        mut wishes: Vec<Wish>,
        first: FirstMessages,
        initial_contact: bool,
        since: Timestamp,
    ) -> Option<Sa> {
        let path = link.path;
        let local_id = local_identity(&rule, link.path.local.ip());
        let wish = if wishes.is_empty() { None } else { Some(wishes.remove(0)) };
        let prepared = match &wish {
            Some(wish) => ChildOffer::prepare(ctx, &link, wish, GroupId::NONE),
            None => Err(Failure::new(FailureCause::Local, "nothing asks for a child any more")),
        };
        let offer = match prepared {
            Ok(offer) => offer,
            Err(failure) => {
                wishes.extend(wish);
                fail_initiator(ctx, "IKE_AUTH", &path, &rule, wishes, &failure);
                return None;
            }
        };
        let sent = request(ctx, &link, &rule, &local_id, &first, &offer, initial_contact)
            .and_then(|chain| link.request(ctx, ExchangeType::IKE_AUTH, &chain));
        match sent {
            Ok((id, octets)) => {
                let timer = Retransmission::start(ctx.now, rule.retry, octets);
                let sa = Self { link, rule, local_id, first, offer, waiting: wishes, id, timer, since };
                Some(Sa::AuthSent(Box::new(sa)))
            }
            Err(failure) => {
                offer.abandon(ctx);
                wishes.push(offer.wish);
                fail_initiator(ctx, "IKE_AUTH", &path, &rule, wishes, &failure);
                None
            }
        }
    }

    pub(super) fn serves(&self, acquire: &Acquire, rule: &Rule) -> bool {
        serves(self.link.ends, &self.rule, acquire, rule)
    }

    pub(super) fn add(&mut self, wish: Wish) {
        self.waiting.push(wish);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn handle_message(mut self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Option<Sa> {
        let fits = message.header().exchange == ExchangeType::IKE_AUTH;
        if !fits || self.link.place(message, Some(self.id)) != Place::Response {
            ctx.out.stats.out_of_window += 1;
            return Some(Sa::AuthSent(self));
        }
        let decoded = match self.link.open(ctx, message) {
            Err(Unopened::Forged | Unopened::Incomplete) => return Some(Sa::AuthSent(self)),
            Err(Unopened::Malformed) => Err(WireError::Length("padding")),
            Ok(opened) => opened.decode(),
        };
        let response = match decoded {
            Ok(response) => response,
            Err(error) => return self.reject(ctx, &error.into()),
        };
        if let (None, Some(error)) = (&response.auth, response.error()) {
            let what = if self.rule.local_auth == AuthBy::Preshared { "pre-shared key" } else { "certificate" };
            let text = format!("the peer refuses us as {}, or our {what}", self.local_id);
            let failure = Failure::new(cause_of(error.kind), text);
            return self.fail(ctx, &failure);
        }
        match self.authenticate(ctx, &response) {
            Ok(remote_id) => self.establish(ctx, remote_id, &response),
            Err(failure) => self.reject(ctx, &failure),
        }
    }

    /// Holds the peer's identity and AUTH against the rule, before anything is installed (V2-AUTH-05).
    fn authenticate(&self, ctx: &Ctx<'_>, response: &Payloads) -> Result<Identification, Failure> {
        let missing = |what| Failure::new(FailureCause::InvalidSyntax, format!("the answer has no {what} payload"));
        let id = response.id_responder.as_ref().ok_or_else(|| missing("IDr"))?;
        let auth = response.auth.as_ref().ok_or_else(|| missing("AUTH"))?;
        if !self.rule.remote_id.matches(&id.id, self.link.path.remote.ip()) {
            let text = format!("the peer says it is {}, the rule wants {}", id.id, self.rule.remote_id);
            return Err(Failure::new(FailureCause::WrongIdentity, text));
        }
        let claim = Claim { id, auth, payloads: response };
        judge(ctx, &self.link, &self.first, Role::Responder, &self.rule, &claim)?;
        Ok(id.id.clone())
    }

    fn establish(self: Box<Self>, ctx: &mut Ctx<'_>, remote_id: Identification, response: &Payloads) -> Option<Sa> {
        let Self { link, rule, local_id, first, offer, waiting, .. } = *self;
        let peer = Peer { rule, local_id, remote_id };
        let mut sa = Box::new(up(ctx, link, peer, &first));
        sa.heed_lifetime(ctx, response);
        sa.queue.extend(waiting.into_iter().map(|wish| Task::Child(Box::new(wish))));
        if let Some(error) = response.error() {
            // The child failed, the IKE SA did not (V2-AUTH-17).
            let failure = offer.refused(error);
            sa.report(ctx, "the first child", &failure);
            offer.abandon(ctx);
            let retry = offer.wish.clone().single_pair().filter(|_| error.kind == NotifyType::SINGLE_PAIR_REQUIRED);
            match retry {
                Some(wish) => sa.queue.push_back(Task::Child(Box::new(wish))),
                None => offer.wish.fail(ctx, failure.cause),
            }
            return sa.conclude(ctx, Verdict::Stay);
        }
        let secrets = ChildSecrets {
            nonce_initiator: &first.nonce_initiator,
            nonce_responder: &first.nonce_responder,
            shared: None,
            initiator: true,
        };
        let made = offer
            .agree(&sa.link, response)
            .and_then(|agreement| offer.install(ctx, &sa.link, &sa.peer, &agreement, &secrets));
        match made {
            Ok(child) => {
                sa.created += 1;
                sa.children.insert(child.spis.inbound, child);
            }
            Err(failure) => {
                sa.report(ctx, "the first child", &failure);
                offer.abandon(ctx);
                offer.wish.fail(ctx, failure.cause);
                for task in offer.deletes() {
                    sa.queue.push_front(task);
                }
            }
        }
        sa.conclude(ctx, Verdict::Stay)
    }

    /// The peer did not prove itself, or not in words we understand: it is told (V2-AUTH-07).
    fn reject(self: Box<Self>, ctx: &mut Ctx<'_>, failure: &Failure) -> Option<Sa> {
        let Self { link, rule, offer, mut waiting, .. } = *self;
        offer.abandon(ctx);
        waiting.push(offer.wish);
        fail_initiator(ctx, "IKE_AUTH", &link.path, &rule, waiting, failure);
        Retiring::auth_failed(ctx, link, rule.retry)
    }

    pub(super) fn fail(self: Box<Self>, ctx: &mut Ctx<'_>, failure: &Failure) -> Option<Sa> {
        let Self { link, rule, offer, mut waiting, .. } = *self;
        offer.abandon(ctx);
        waiting.push(offer.wish);
        fail_initiator(ctx, "IKE_AUTH", &link.path, &rule, waiting, failure);
        None
    }

    /// The administrator ends the attempt: the peer may have an IKE SA by now, so it gets a Delete after its answer.
    pub(super) fn cancel(self: Box<Self>, ctx: &mut Ctx<'_>) -> Option<Sa> {
        let Self { link, rule, offer, mut waiting, id, timer, .. } = *self;
        offer.abandon(ctx);
        waiting.push(offer.wish);
        let failure = Failure::new(FailureCause::Local, RemoveReason::LocalDeleted.to_string());
        fail_initiator(ctx, "IKE_AUTH", &link.path, &rule, waiting, &failure);
        Retiring::delete(ctx, link, rule.retry, Some((id, ExchangeType::IKE_AUTH, timer)))
    }

    pub(super) fn handle_timeout(mut self: Box<Self>, ctx: &mut Ctx<'_>) -> Option<Sa> {
        match self.timer.poll(ctx.now) {
            Due::Nothing => {}
            Due::Resend(datagrams) => {
                self.link.resend(ctx, datagrams);
            }
            Due::GiveUp => return self.fail(ctx, &Failure::new(FailureCause::Timeout, "no answer")),
        }
        Some(Sa::AuthSent(self))
    }

    pub(super) fn next_timeout(&self) -> Timestamp {
        self.timer.deadline()
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> IkeSaSnapshot {
        IkeSaSnapshot {
            rule_label: Some(self.rule.label.clone()),
            local_id: Some(self.local_id.clone()),
            age: now.since(self.since),
            ..self.link.snapshot(IkeState::AuthSent)
        }
    }
}

/// An authenticated IKE SA begins its life.
pub(super) fn up(ctx: &mut Ctx<'_>, link: Link, peer: Peer, first: &FirstMessages) -> Established {
    let (spis, role, path) = (link.spis, link.role, link.path);
    match role {
        Role::Initiator => ctx.out.stats.total_initiator += 1,
        Role::Responder => ctx.out.stats.total_responder += 1,
    }
    let remote_id = peer.remote_id.clone();
    let text = format!("IKE SA {spis} with {} ({remote_id}) is up; rule \"{}\"", path.remote, peer.rule.label);
    ctx.log(Level::Info, text);
    let rule_label = peer.rule.label.clone();
    ctx.effect(Effect::IkeSaUp { spis, role, path, remote_id, rule_label, rekeys: None });
    ctx.out.actions.push(Action::Settle { our_spi: link.our_spi() });
    let mut sa = Established::new(ctx, link, peer);
    sa.lowest = Some((&first.nonce_initiator).min(&first.nonce_responder).clone());
    sa
}

fn request(
    ctx: &Ctx<'_>,
    link: &Link,
    rule: &Rule,
    local_id: &Identification,
    first: &FirstMessages,
    offer: &ChildOffer,
    initial_contact: bool,
) -> Result<ChainBuilder, Failure> {
    let id = IdPayload::new(local_id.clone());
    let proof = prove(ctx, link, first, Role::Initiator, rule, &id)?;
    let mut chain = ChainBuilder::new();
    chain.push(PayloadType::ID_I, &id)?;
    proof.push_certificates(&mut chain)?;
    if initial_contact {
        chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::INITIAL_CONTACT, Vec::new()))?;
    }
    ask(ctx, &mut chain, [rule].into_iter())?;
    if let Some(wanted) = rule.remote_id.single() {
        chain.push(PayloadType::ID_R, &IdPayload::new(wanted))?;
    }
    proof.push_auth(&mut chain)?;
    offer.push_mode(&mut chain)?;
    offer.push_sa(&mut chain)?;
    offer.push_ts(&mut chain)?;
    Ok(chain)
}
