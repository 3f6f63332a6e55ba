//! The initiator with keys and without proof: IKE_AUTH with a pre-shared key, and the first child (RFC 7296 sections 1.2 and
//! 2.15).

use std::sync::Arc;

use super::api::{
    Acquire, Effect, FailureCause, IkeSaSnapshot, IkeState, Level, LocalIdentity, RemoveReason, Role, Rule, Timestamp,
};
use super::child::{ChildOffer, ChildSecrets, Peer, Wish};
use super::context::{Action, Ctx, Failure};
use super::create_child::cause_of;
use super::established::{Established, Task, Verdict};
use super::init::{fail_initiator, serves};
use super::link::{Link, Message, Place, Unopened};
use super::retiring::Retiring;
use super::retransmit::{Due, Retransmission};
use super::sa::Sa;
use crate::crypto::Secret;
use crate::crypto::auth::SignedOctets;
use crate::wire::WireError;
use crate::wire::auth::{AuthMethod, Authentication};
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
}

impl FirstMessages {
    /// AUTH data of one side (V2-AUTH-01, V2-AUTH-02).
    pub(super) fn auth(&self, link: &Link, signer: Role, id: &IdPayload, key: &Secret) -> Secret {
        let id_body = id.signed_body();
        let signed = match signer {
            Role::Initiator => SignedOctets {
                message: &self.request,
                peer_nonce: &self.nonce_responder,
                sk_p: &link.keys.sk_pi,
                id_body: &id_body,
            },
            Role::Responder => SignedOctets {
                message: &self.response,
                peer_nonce: &self.nonce_initiator,
                sk_p: &link.keys.sk_pr,
                id_body: &id_body,
            },
        };
        signed.with_psk(link.prf, key)
    }

    /// Whether a peer's AUTH payload proves that it holds the key.
    pub(super) fn verify(
        &self,
        link: &Link,
        signer: Role,
        id: &IdPayload,
        auth: &Authentication,
        key: &Secret,
    ) -> Result<(), Failure> {
        if auth.method != AuthMethod::SHARED_KEY {
            let text = format!("the peer used authentication method {}, the rule wants preshared", auth.method.0);
            return Err(Failure::new(FailureCause::AuthenticationFailed, text));
        }
        if self.auth(link, signer, id, key) == Secret::copy_of(&auth.data) {
            return Ok(());
        }
        let text = format!("AUTH of {} does not verify: the pre-shared keys differ", id.id);
        Err(Failure::new(FailureCause::AuthenticationFailed, text))
    }
}

/// Who we are under a rule on a path.
pub(super) fn local_identity(rule: &Rule, link: &Link) -> Identification {
    match &rule.local_id {
        LocalIdentity::Address => Identification::address(link.path.local.ip()),
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
        let local_id = local_identity(&rule, &link);
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
        let sent = request(&link, &rule, &local_id, &first, &offer, initial_contact)
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
            let text = format!("the peer refuses us as {}, or our pre-shared key", self.local_id);
            let failure = Failure::new(cause_of(error.kind), text);
            return self.fail(ctx, &failure);
        }
        match self.authenticate(&response) {
            Ok(remote_id) => self.establish(ctx, remote_id, &response),
            Err(failure) => self.reject(ctx, &failure),
        }
    }

    /// Holds the peer's identity and AUTH against the rule, before anything is installed (V2-AUTH-05).
    fn authenticate(&self, response: &Payloads) -> Result<Identification, Failure> {
        let missing = |what| Failure::new(FailureCause::InvalidSyntax, format!("the answer has no {what} payload"));
        let id = response.id_responder.as_ref().ok_or_else(|| missing("IDr"))?;
        let auth = response.auth.as_ref().ok_or_else(|| missing("AUTH"))?;
        if !self.rule.remote_id.matches(&id.id, self.link.path.remote.ip()) {
            let text = format!("the peer says it is {}, the rule wants {}", id.id, self.rule.remote_id);
            return Err(Failure::new(FailureCause::WrongIdentity, text));
        }
        let psk = self.rule.psk.as_ref().ok_or_else(|| Failure::new(FailureCause::NoKey, ""))?;
        self.first.verify(&self.link, Role::Responder, id, auth, &psk.remote)?;
        Ok(id.id.clone())
    }

    fn establish(self: Box<Self>, ctx: &mut Ctx<'_>, remote_id: Identification, response: &Payloads) -> Option<Sa> {
        let Self { link, rule, local_id, first, offer, waiting, .. } = *self;
        let peer = Peer { rule, local_id, remote_id };
        let mut sa = Box::new(up(ctx, link, peer, &first));
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
    link: &Link,
    rule: &Rule,
    local_id: &Identification,
    first: &FirstMessages,
    offer: &ChildOffer,
    initial_contact: bool,
) -> Result<ChainBuilder, Failure> {
    let psk = rule.psk.as_ref().ok_or_else(|| Failure::new(FailureCause::NoKey, ""))?;
    let id = IdPayload::new(local_id.clone());
    let data = first.auth(link, Role::Initiator, &id, &psk.local).expose().to_vec();
    let mut chain = ChainBuilder::new();
    chain.push(PayloadType::ID_I, &id)?;
    if initial_contact {
        chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::INITIAL_CONTACT, Vec::new()))?;
    }
    if let Some(wanted) = rule.remote_id.single() {
        chain.push(PayloadType::ID_R, &IdPayload::new(wanted))?;
    }
    chain.push(PayloadType::AUTH, &Authentication { method: AuthMethod::SHARED_KEY, data })?;
    offer.push_mode(&mut chain)?;
    offer.push_sa(&mut chain)?;
    offer.push_ts(&mut chain)?;
    Ok(chain)
}
