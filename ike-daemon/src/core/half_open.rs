//! The responder before the peer has proved itself: the answer to IKE_SA_INIT, and IKE_AUTH (RFC 7296 sections 1.2, 2.15,
//! 2.21.2).

use std::sync::Arc;

use super::api::{AuthBy, FailureCause, IkeKeys, IkeSaSnapshot, IkeSpis, IkeState, Role, Rule, Timestamp};
use super::auth::{FirstMessages, local_identity, up};
use super::child::Peer;
use super::child_answer::{Ask, Refusal, answer, invalid_ke};
use super::childless;
use super::context::{Action, Ctx, Failure, check_nonce};
use super::established::Verdict;
use super::fragments;
use super::link::{Link, Message, Place, Unopened};
use super::natd;
use super::proof::{self, Claim, Hints, judge, prove};
use super::proposal::{choose_ike, describe, ike_offer};
use super::retiring::Retiring;
use super::sa::Sa;
use crate::crypto::keys::Freshness;
use crate::crypto::{CryptoError, IkeSuite, digest};
use crate::wire::WireError;
use crate::wire::auth::AuthMethod;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::header::{ExchangeType, Header};
use crate::wire::id::IdPayload;
use crate::wire::ke::KeyExchange;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::SecurityAssociation;

/// IKE_SA_INIT answered.
pub(super) struct HalfOpen {
    pub(super) link: Link,
    candidates: Vec<Arc<Rule>>,
    first: FirstMessages,
    until: Timestamp,
    since: Timestamp,
}

/// Header of the answer to a request that has no keys.
pub(super) fn plain_header(request: &Header, spi_responder: [u8; 8]) -> Header {
    Header { spi_responder, from_initiator: !request.from_initiator, response: true, ..*request }
}

impl HalfOpen {
    /// Answers IKE_SA_INIT. `rules` are those whose addresses fit; never empty.
    pub(super) fn answer(
        ctx: &mut Ctx<'_>,
        message: &Message<'_>,
        request: &Payloads,
        rules: &[Arc<Rule>],
    ) -> Result<Self, Refusal> {
        let missing = |what| Refusal::new(NotifyType::INVALID_SYNTAX, FailureCause::InvalidSyntax, what);
        let sa = request.sa.as_ref().ok_or_else(|| missing("no SA payload"))?;
        let theirs = request.ke.as_ref().ok_or_else(|| missing("no KE payload"))?;
        let nonce = request.nonce.as_ref().ok_or_else(|| missing("no nonce"))?;
        let pick = |rule: &Arc<Rule>| choose_ike(ctx.provider, rule, &sa.proposals, 0, Some(theirs.group), &[]);
        let chosen = rules.iter().find_map(pick).ok_or_else(|| {
            let ours = rules.iter().map(|rule| describe(&ike_offer(ctx.provider, rule, &[]))).collect::<Vec<_>>();
            let text = format!("the peer offers {}; accepted are {}", describe(&sa.proposals), ours.join(", "));
            Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, FailureCause::NoProposalChosen, text)
        })?;
        let suite = chosen.agreed;
        if suite.group != theirs.group {
            return Err(invalid_ke(suite.group));
        }
        let prf = ctx.provider.prf(suite.prf).ok_or(CryptoError::Unavailable).map_err(Failure::from)?;
        check_nonce(nonce, prf)?;
        let ours = ctx.provider.key_exchange(suite.group).map_err(Failure::from)?;
        let public = KeyExchange { group: suite.group, public: ours.public().to_vec() };
        let shared = ours.complete(&theirs.public).map_err(Failure::from)?;
        let nonce_responder = ctx.nonce()?;
        let header = *message.header();
        let spi_responder = ctx.ike_spi().map_err(Failure::from)?;
        let spis = IkeSpis { initiator: header.spi_initiator, responder: spi_responder };
        let fresh = Freshness {
            nonce_initiator: nonce,
            nonce_responder: &nonce_responder,
            spi_initiator: spis.initiator,
            spi_responder,
        };
        let keys = IkeKeys::initial(ctx.provider, &suite, &shared, &fresh).map_err(Failure::from)?;
        let mut link =
            Link::new(ctx, spis, Role::Responder, message.path, suite, keys, (0, 1)).map_err(Failure::from)?;
        link.began = Some(digest(message.octets));
        // The request was hashed before there was a responder SPI (V2-NAT-01).
        link.nat = natd::evaluate(request, IkeSpis { responder: [0; 8], ..spis }, &message.path);
        link.fragments = ctx.config.fragment_mtu.is_some() && fragments::announced(request);
        let write = || -> Result<Vec<u8>, Failure> {
            let mut chain = ChainBuilder::new();
            chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![chosen.answer.clone()] })?;
            chain.push(PayloadType::KE, &public)?;
            chain.push(PayloadType::NONCE, &nonce_responder)?;
            natd::announce(&mut chain, spis, &message.path)?;
            childless::announce(&mut chain)?;
            if link.fragments {
                fragments::announce(&mut chain)?;
            }
            proof::announce(&mut chain, rules.iter().map(|rule| &**rule))?;
            proof::ask(ctx, &mut chain, rules.iter().map(|rule| &**rule))?;
            Ok(chain.into_message(&plain_header(&header, spi_responder))?)
        };
        let response = write()?;
        ctx.transmit(message.path, response.clone());
        let candidates = rules.iter().filter(|r| accepts(ctx, r, &suite)).cloned().collect();
        let first = FirstMessages {
            request: message.octets.to_vec(),
            response,
            nonce_initiator: nonce.clone(),
            nonce_responder,
            hints: Hints::of(request),
        };
        let until = ctx.now.after(ctx.config.half_open_timeout);
        Ok(Self { link, candidates, first, until, since: ctx.now })
    }

    /// Sends the answer to IKE_SA_INIT again.
    pub(super) fn repeat_init(&self, ctx: &mut Ctx<'_>, message: &Message<'_>) {
        ctx.out.stats.responses_repeated += 1;
        ctx.transmit(message.path, self.first.response.clone());
    }

    pub(super) fn handle_message(mut self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Option<Sa> {
        let fits = message.header().exchange == ExchangeType::IKE_AUTH;
        if !fits || self.link.place(message, None) != Place::Request {
            ctx.out.stats.out_of_window += 1;
            return Some(Sa::HalfOpen(self));
        }
        let decoded = match self.link.open(ctx, message) {
            Err(Unopened::Forged | Unopened::Incomplete) => return Some(Sa::HalfOpen(self)),
            Err(Unopened::Malformed) => Err(WireError::Length("padding")),
            Ok(opened) => opened.decode(),
        };
        // The initiator may have moved to port 4500 (V2-NAT-03); it is there from now on.
        self.link.path = message.path;
        self.link.ends = (&message.path).into();
        let checked =
            decoded.map_err(refuse_syntax).and_then(|request| Ok((self.authenticate(ctx, &request)?, request)));
        match checked {
            Ok((peer, request)) => self.establish(ctx, message, peer, &request),
            Err(refusal) => self.reject(ctx, message, &refusal),
        }
    }

    /// Finds the rule for the peer's identity and holds AUTH against it, before anything is installed (V2-AUTH-05).
    fn authenticate(&self, ctx: &Ctx<'_>, request: &Payloads) -> Result<Peer, Refusal> {
        let refuse = |cause, text: String| Refusal::new(NotifyType::AUTHENTICATION_FAILED, cause, text);
        let missing =
            |what| Refusal::new(NotifyType::INVALID_SYNTAX, FailureCause::InvalidSyntax, format!("no {what}"));
        let id = request.id_initiator.as_ref().ok_or_else(|| missing("IDi payload"))?;
        let auth = request.auth.as_ref().ok_or_else(|| {
            refuse(FailureCause::AuthenticationFailed, "the peer wants EAP, which no rule does".to_owned())
        })?;
        let (local, from) = (self.link.path.local.ip(), self.link.path.remote.ip());
        let mut matching: Vec<&Arc<Rule>> =
            self.candidates.iter().filter(|r| r.remote_id.matches(&id.id, from)).collect();
        // Of several rules for this identity, those that want what the peer does; the first of them all says what is wrong.
        let preshared = auth.method == AuthMethod::SHARED_KEY;
        matching.sort_by_key(|rule| preshared != (rule.remote_auth == AuthBy::Preshared));
        let wished = request.id_responder.as_ref().map(|r| &r.id);
        let called = |rule: &&&Arc<Rule>| wished.is_none_or(|w| local_identity(rule, local) == *w);
        // The initiator's IDr is a wish (V2-AUTH-10): without a rule for it the first one answers with its own identity.
        let rule = matching.iter().find(called).or(matching.first()).ok_or_else(|| {
            let wanted: Vec<String> =
                self.candidates.iter().map(|r| format!("{} \"{}\"", r.remote_id, r.label)).collect();
            refuse(
                FailureCause::WrongIdentity,
                format!("the peer says it is {}; rules want {}", id.id, wanted.join(", ")),
            )
        })?;
        // With one candidate the log line names the rule anyway.
        let which = match self.candidates.as_slice() {
            [_] => String::new(),
            _ => format!("; rule \"{}\" ({})", rule.label, rule.source),
        };
        let described = |f: Failure| refuse(f.cause, f.detail + &which);
        let claim = Claim { id, auth, payloads: request };
        judge(ctx, &self.link, &self.first, Role::Initiator, rule, &claim).map_err(described)?;
        let local_id = local_identity(rule, local);
        Ok(Peer { rule: Arc::clone(rule), local_id, remote_id: id.id.clone() })
    }

    fn establish(
        mut self: Box<Self>,
        ctx: &mut Ctx<'_>,
        message: &Message<'_>,
        peer: Peer,
        request: &Payloads,
    ) -> Option<Sa> {
        self.first.hints.more(request);
        let mut chain = ChainBuilder::new();
        if let Err(failure) = show(ctx, &self.link, &peer, &self.first, &mut chain) {
            let notify = Notify::plain(NotifyType::AUTHENTICATION_FAILED, Vec::new());
            return self.reject(ctx, message, &Refusal { notify, failure });
        }
        let Self { mut link, first, since, .. } = *self;
        let ask = Ask {
            payloads: request,
            nonce_initiator: &first.nonce_initiator,
            nonce_responder: &first.nonce_responder,
            in_auth: true,
            rekeys: None,
        };
        let wanted = !childless::asks_for_none(request);
        let child = match wanted.then(|| answer(ctx, &link, &peer, &ask, &mut chain)).transpose() {
            Ok(child) => child,
            Err(refusal) => {
                // The child failed, the IKE SA does not (V2-AUTH-17).
                ctx.failed("the first child", &link.path, Some(&peer.rule), &refusal.failure);
                if let Err(error) = chain.push(PayloadType::NOTIFY, &refusal.notify) {
                    ctx.failed("IKE_AUTH", &link.path, Some(&peer.rule), &error.into());
                }
                None
            }
        };
        let sent = link.respond(ctx, message, &chain);
        let mut sa = Box::new(up(ctx, link, peer, &first));
        if let Err(failure) = sent {
            sa.report(ctx, "IKE_AUTH", &failure);
        }
        if request.notify(NotifyType::INITIAL_CONTACT).is_some() {
            ctx.out.actions.push(Action::Forget {
                except: sa.link.our_spi(),
                local_id: sa.peer.local_id.clone(),
                remote_id: sa.peer.remote_id.clone(),
                before: since,
            });
        }
        if let Some(child) = child {
            sa.created += 1;
            sa.children.insert(child.spis.inbound, child);
        }
        sa.conclude(ctx, Verdict::Stay)
    }

    /// Tells the peer under protection, and keeps the answer for its retransmissions (V2-AUTH-06).
    fn reject(self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>, refusal: &Refusal) -> Option<Sa> {
        let Self { mut link, candidates, .. } = *self;
        ctx.out.stats.failed_responder += 1;
        let only = if let [rule] = candidates.as_slice() { Some(&**rule) } else { None };
        ctx.failed("IKE_AUTH", &link.path, only, &refusal.failure);
        let mut chain = ChainBuilder::new();
        chain.push(PayloadType::NOTIFY, &refusal.notify).ok()?;
        link.respond(ctx, message, &chain).ok()?;
        let retry = candidates.first().map(|rule| rule.retry).unwrap_or_default();
        Some(Retiring::refused(ctx, link, retry))
    }

    pub(super) fn handle_timeout(self: Box<Self>, ctx: &mut Ctx<'_>) -> Option<Sa> {
        if ctx.now < self.until {
            return Some(Sa::HalfOpen(self));
        }
        ctx.out.stats.failed_responder += 1;
        let only = if let [rule] = self.candidates.as_slice() { Some(&**rule) } else { None };
        let failure = Failure::new(FailureCause::Timeout, "no IKE_AUTH came");
        ctx.failed("IKE_SA_INIT of the peer", &self.link.path, only, &failure);
        None
    }

    pub(super) fn next_timeout(&self) -> Timestamp {
        self.until
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> IkeSaSnapshot {
        IkeSaSnapshot {
            rule_label: self.candidates.first().map(|rule| rule.label.clone()),
            age: now.since(self.since),
            expires_in: Some(self.until.since(now)),
            ..self.link.snapshot(IkeState::HalfOpen)
        }
    }
}

fn accepts(ctx: &Ctx<'_>, rule: &Rule, suite: &IkeSuite) -> bool {
    ike_offer(ctx.provider, rule, &[]).iter().any(|p| {
        p.encr().any(|v| v == suite.encr)
            && p.prf().any(|v| v == suite.prf)
            && p.groups().any(|v| v == suite.group)
            && (suite.encr.is_aead() || p.integ().any(|v| v == suite.integ))
    })
}

fn refuse_syntax(error: WireError) -> Refusal {
    let notify = match error {
        WireError::Critical(kind) => Notify::plain(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]),
        _ => Notify::plain(NotifyType::INVALID_SYNTAX, Vec::new()),
    };
    Refusal { notify, failure: error.into() }
}

/// IDr and our AUTH.
fn show(
    ctx: &Ctx<'_>,
    link: &Link,
    peer: &Peer,
    first: &FirstMessages,
    chain: &mut ChainBuilder,
) -> Result<(), Failure> {
    let id = IdPayload::new(peer.local_id.clone());
    let proof = prove(ctx, link, first, Role::Responder, &peer.rule, &id)?;
    chain.push(PayloadType::ID_R, &id)?;
    proof.push_certificates(chain)?;
    proof.push_auth(chain)?;
    Ok(())
}
