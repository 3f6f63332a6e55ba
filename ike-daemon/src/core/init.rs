//! The initiator before it has keys: IKE_SA_INIT, COOKIE and INVALID_KE_PAYLOAD rounds (RFC 7296 sections 1.2, 2.6, 2.7).
//! Nothing that arrives here is authenticated: an error does not end the attempt at once (section 2.21.1).

use std::sync::Arc;
use std::time::Duration;

use super::api::{
    Acquire, FailureCause, IkeKeys, IkeSaSnapshot, IkeSpis, IkeState, NatState, Path, Role, Rule, Timestamp,
};
use super::auth::AuthSent;
use super::child::Wish;
use super::context::{Ctx, Failure};
use super::create_child::cause_of;
use super::fragments;
use super::link::{Ends, Link, Message};
use super::natd;
use super::proof;
use super::proposal::{accept_ike, describe, ike_offer};
use super::rekey_ike::named_group;
use super::retransmit::{Due, Retransmission};
use super::sa::Sa;
use crate::crypto::KeyExchange;
use crate::crypto::keys::Freshness;
use crate::wire::chain::{ChainBuilder, PayloadType, parse_message};
use crate::wire::header::{ExchangeType, Header};
use crate::wire::ke;
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::{Proposal, SecurityAssociation};
use crate::wire::transform::GroupId;

/// COOKIE and INVALID_KE_PAYLOAD answers taken in one attempt (V2-CKY-08).
const MAX_ROUNDS: u32 = 8;
/// Octets of a cookie (V2-CKY-01).
const COOKIE: std::ops::RangeInclusive<usize> = 1..=64;
/// How long a good answer may follow a bad one (V2-LIVE-06).
const PATIENCE: Duration = Duration::from_secs(2);

/// The initiator's first request, and what it takes to make it again.
pub(super) struct InitSent {
    spi: [u8; 8],
    path: Path,
    rule: Arc<Rule>,
    wishes: Vec<Wish>,
    initial_contact: bool,
    proposals: Vec<Proposal>,
    nonce: Nonce,
    exchange: Box<dyn KeyExchange>,
    cookie: Option<Vec<u8>>,
    rounds: u32,
    request: Vec<u8>,
    timer: Retransmission,
    doubt: Option<(Timestamp, Failure)>,
    since: Timestamp,
}

/// What an answer leads to.
enum Answer {
    Nothing,
    Again,
    Keys(Box<Payloads>),
    Doubt(Failure),
}

impl InitSent {
    /// Sends the first request.
    ///
    /// # Errors
    /// What our own side lacks.
    pub(super) fn begin(
        ctx: &mut Ctx<'_>,
        path: Path,
        rule: Arc<Rule>,
        wish: Wish,
        initial_contact: bool,
    ) -> Result<Self, Box<(Failure, Wish)>> {
        let mut make = || -> Result<_, Failure> {
            proof::ready(ctx, &rule, path.local.ip())?;
            let proposals = ike_offer(ctx.provider, &rule, &[]);
            let group = proposals.first().and_then(|p| p.groups().next());
            let group = group.ok_or_else(|| Failure::new(FailureCause::Local, "the rule has no usable proposal"))?;
            let exchange = ctx.provider.key_exchange(group)?;
            let (spi, nonce) = (ctx.ike_spi()?, ctx.nonce()?);
            let asked = Asked {
                spi,
                path: &path,
                rule: &rule,
                cookie: None,
                proposals: &proposals,
                exchange: &*exchange,
                nonce: &nonce,
            };
            let request = request(ctx, &asked)?;
            Ok((spi, proposals, nonce, exchange, request))
        };
        let (spi, proposals, nonce, exchange, request) = match make() {
            Ok(made) => made,
            Err(failure) => return Err(Box::new((failure, wish))),
        };
        ctx.out.stats.attempted_initiator += 1;
        ctx.transmit(path, request.clone());
        Ok(Self {
            spi,
            path,
            wishes: vec![wish],
            initial_contact,
            proposals,
            nonce,
            exchange,
            cookie: None,
            rounds: 0,
            timer: Retransmission::start(ctx.now, rule.retry, vec![request.clone()]),
            request,
            doubt: None,
            since: ctx.now,
            rule,
        })
    }

    pub(super) fn spi(&self) -> [u8; 8] {
        self.spi
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// There is, or is about to be, another IKE SA with the peer: IKE_AUTH goes without INITIAL_CONTACT.
    pub(super) fn not_the_first(&mut self) {
        self.initial_contact = false;
    }

    /// Whether traffic for this acquire can wait for this negotiation.
    pub(super) fn serves(&self, acquire: &Acquire, rule: &Rule) -> bool {
        serves((&self.path).into(), &self.rule, acquire, rule)
    }

    pub(super) fn add(&mut self, wish: Wish) {
        self.wishes.push(wish);
    }

    pub(super) fn waiting(&self) -> usize {
        self.wishes.len()
    }

    pub(super) fn handle_message(mut self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Option<Sa> {
        let header = message.header();
        let fits = header.exchange == ExchangeType::IKE_SA_INIT
            && header.response
            && !header.from_initiator
            && header.message_id == 0
            && message.path.remote.ip() == self.path.remote.ip();
        if !fits {
            ctx.out.stats.out_of_window += 1;
            return Some(Sa::InitSent(self));
        }
        match self.judge(ctx, message) {
            Answer::Nothing => Some(Sa::InitSent(self)),
            Answer::Again => self.again(ctx),
            Answer::Keys(response) => self.derive(ctx, message, &response),
            Answer::Doubt(failure) => {
                let patience = ctx.now.after(PATIENCE);
                self.doubt.get_or_insert((patience, failure));
                Some(Sa::InitSent(self))
            }
        }
    }

    fn judge(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Answer {
        let decoded = parse_message(message.octets, &message.received).and_then(|outer| Payloads::decode(&outer.clear));
        let response = match decoded {
            Ok(response) => response,
            Err(_) => {
                ctx.out.stats.malformed += 1;
                return Answer::Nothing;
            }
        };
        if let Some(cookie) = response.notify(NotifyType::COOKIE) {
            if !COOKIE.contains(&cookie.data.len()) {
                return Answer::Nothing;
            }
            self.cookie = Some(cookie.data.clone());
            return Answer::Again;
        }
        if let Some(error) = response.notify(NotifyType::INVALID_KE_PAYLOAD) {
            return self.other_group(ctx, error);
        }
        if let Some(error) = response.error() {
            let text = format!("the peer accepts none of {}", describe(&self.proposals));
            let detail =
                if error.kind == NotifyType::NO_PROPOSAL_CHOSEN { text } else { "the peer's answer".to_owned() };
            return Answer::Doubt(Failure::new(cause_of(error.kind), detail));
        }
        Answer::Keys(Box::new(response))
    }

    /// The peer wants another group: one that we proposed and have (V2-KE-02, V2-KE-03).
    fn other_group(&mut self, ctx: &Ctx<'_>, error: &Notify) -> Answer {
        let refused = |text: String| Answer::Doubt(Failure::new(FailureCause::InvalidKe, text));
        let Some(group) = named_group(error) else { return Answer::Nothing };
        if !self.proposals.iter().any(|p| p.groups().any(|g| g == group)) {
            return refused(format!("the peer asks for {group}, which was not offered"));
        }
        if group == self.exchange.group() {
            return refused(format!("the peer asks for {group}, which it has got"));
        }
        match ctx.provider.key_exchange(group) {
            Ok(exchange) => {
                self.exchange = exchange;
                Answer::Again
            }
            Err(error) => refused(error.to_string()),
        }
    }

    /// Sends the request again with what the peer asked for; everything else stays as it was (V2-CKY-02).
    fn again(mut self: Box<Self>, ctx: &mut Ctx<'_>) -> Option<Sa> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return self.fail(ctx, &Failure::new(FailureCause::TooManyRounds, ""));
        }
        let asked = Asked {
            spi: self.spi,
            path: &self.path,
            rule: &self.rule,
            cookie: self.cookie.as_deref(),
            proposals: &self.proposals,
            exchange: &*self.exchange,
            nonce: &self.nonce,
        };
        match request(ctx, &asked) {
            Ok(octets) => {
                self.request.clone_from(&octets);
                self.timer = Retransmission::start(ctx.now, self.rule.retry, vec![octets.clone()]);
                ctx.transmit(self.path, octets);
                Some(Sa::InitSent(self))
            }
            Err(failure) => self.fail(ctx, &failure),
        }
    }

    fn derive(mut self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>, response: &Payloads) -> Option<Sa> {
        let spi_responder = message.header().spi_responder;
        let (Some(sa), Some(theirs), Some(nonce)) = (&response.sa, &response.ke, &response.nonce) else {
            ctx.out.stats.malformed += 1;
            return Some(Sa::InitSent(self));
        };
        if spi_responder == [0; 8] {
            ctx.out.stats.malformed += 1;
            return Some(Sa::InitSent(self));
        }
        let accepted = accept_ike(&self.proposals, &sa.proposals, 0).map(|(suite, _)| suite);
        let fits = accepted.filter(|suite| {
            suite.group == self.exchange.group()
                && theirs.group == suite.group
                && ctx.provider.public_len(suite.group) == Some(theirs.public.len())
        });
        let Some(suite) = fits else {
            let text = format!("the peer chose {}, which was not offered", describe(&sa.proposals));
            let patience = ctx.now.after(PATIENCE);
            self.doubt.get_or_insert((patience, Failure::new(FailureCause::NoProposalChosen, text)));
            return Some(Sa::InitSent(self));
        };
        if !ctx.provider.prf(suite.prf).is_some_and(|prf| nonce.suffices(prf.output_len())) {
            ctx.out.stats.malformed += 1;
            return Some(Sa::InitSent(self));
        }
        let spis = IkeSpis { initiator: self.spi, responder: spi_responder };
        let fresh =
            Freshness { nonce_initiator: &self.nonce, nonce_responder: nonce, spi_initiator: self.spi, spi_responder };
        let nat = natd::evaluate(response, spis, &message.path);
        let path = self.float(ctx, nat);
        let Self { exchange, rule, wishes, initial_contact, request, since, .. } = *self;
        let made = exchange.complete(&theirs.public).map_err(Failure::from).and_then(|shared| {
            let keys = IkeKeys::initial(ctx.provider, &suite, &shared, &fresh)?;
            Ok(Link::new(ctx, spis, Role::Initiator, path, suite, keys, (1, 0))?)
        });
        match made {
            Ok(mut link) => {
                link.nat = nat;
                link.fragments = ctx.config.fragment_mtu.is_some() && fragments::announced(response);
                let first = super::auth::FirstMessages {
                    request,
                    response: message.octets.to_vec(),
                    nonce_initiator: self.nonce,
                    nonce_responder: nonce.clone(),
                    hints: proof::Hints::of(response),
                };
                AuthSent::begin(ctx, link, rule, wishes, first, initial_contact, since)
            }
            Err(failure) => {
                fail_initiator(ctx, "IKE_SA_INIT", &path, &rule, wishes, &failure);
                None
            }
        }
    }

    /// With a NAT in between, IKE goes on from port 4500 to port 4500 (V2-NAT-03).
    fn float(&self, ctx: &Ctx<'_>, nat: NatState) -> Path {
        let mut path = self.path;
        if nat.any() {
            path.local.set_port(ctx.config.natt_port);
            path.remote.set_port(ctx.config.natt_port);
        }
        path
    }

    pub(super) fn fail(self: Box<Self>, ctx: &mut Ctx<'_>, failure: &Failure) -> Option<Sa> {
        fail_initiator(ctx, "IKE_SA_INIT", &self.path, &self.rule, self.wishes, failure);
        None
    }

    pub(super) fn handle_timeout(mut self: Box<Self>, ctx: &mut Ctx<'_>) -> Option<Sa> {
        if let Some((at, failure)) = self.doubt.take() {
            if at <= ctx.now {
                return self.fail(ctx, &failure);
            }
            self.doubt = Some((at, failure));
        }
        match self.timer.poll(ctx.now) {
            Due::Nothing => {}
            Due::Resend(datagrams) => {
                ctx.out.stats.retransmits += 1;
                datagrams.iter().for_each(|octets| ctx.transmit(self.path, octets.clone()));
            }
            Due::GiveUp => return self.fail(ctx, &Failure::new(FailureCause::Timeout, "no answer")),
        }
        Some(Sa::InitSent(self))
    }

    pub(super) fn next_timeout(&self) -> Timestamp {
        let timer = self.timer.deadline();
        self.doubt.as_ref().map_or(timer, |(at, _)| timer.min(*at))
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> IkeSaSnapshot {
        IkeSaSnapshot {
            spis: IkeSpis { initiator: self.spi, responder: [0; 8] },
            role: Role::Initiator,
            state: IkeState::InitSent,
            version: (2, 0),
            path: self.path,
            rule_label: Some(self.rule.label.clone()),
            encr: None,
            integ: None,
            prf: None,
            group: None,
            local_id: None,
            remote_id: None,
            nat: NatState::default(),
            age: now.since(self.since),
            expires_in: None,
            rekey_in: None,
            children: Vec::new(),
            children_created: 0,
            children_deleted: 0,
            messages_sent: 0,
            messages_received: 0,
            retransmits: 0,
            integrity_failures: 0,
        }
    }
}

/// Whether an IKE SA between these two, under this rule, is the one for an acquire.
pub(super) fn serves(ends: Ends, rule: &Rule, acquire: &Acquire, wanted: &Rule) -> bool {
    ends.local == acquire.local && ends.remote == acquire.remote && rule.label == wanted.label
}

/// Ends an attempt of ours: counted, logged, and told to whoever waits for it.
pub(super) fn fail_initiator(
    ctx: &mut Ctx<'_>,
    what: &str,
    path: &Path,
    rule: &Rule,
    wishes: Vec<Wish>,
    failure: &Failure,
) {
    ctx.out.stats.failed_initiator += 1;
    if failure.cause == FailureCause::Timeout {
        ctx.out.stats.initiator_timeouts += 1;
    }
    ctx.failed(what, path, Some(rule), failure);
    wishes.iter().for_each(|wish| wish.fail(ctx, failure.cause));
}

/// What goes into the first request.
struct Asked<'a> {
    spi: [u8; 8],
    path: &'a Path,
    rule: &'a Rule,
    cookie: Option<&'a [u8]>,
    proposals: &'a [Proposal],
    exchange: &'a dyn KeyExchange,
    nonce: &'a Nonce,
}

fn request(ctx: &Ctx<'_>, asked: &Asked<'_>) -> Result<Vec<u8>, Failure> {
    let Asked { spi, path, rule, cookie, proposals, exchange, nonce } = *asked;
    let mut chain = ChainBuilder::new();
    if let Some(cookie) = cookie {
        chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::COOKIE, cookie.to_vec()))?;
    }
    chain.push(PayloadType::SA, &SecurityAssociation { proposals: proposals.to_vec() })?;
    chain.push(PayloadType::KE, &ke_payload(exchange))?;
    chain.push(PayloadType::NONCE, nonce)?;
    let spis = IkeSpis { initiator: spi, responder: [0; 8] };
    natd::announce(&mut chain, spis, path)?;
    if ctx.config.fragment_mtu.is_some() {
        fragments::announce(&mut chain)?;
    }
    proof::announce(&mut chain, [rule].into_iter())?;
    let header = Header {
        spi_initiator: spi,
        spi_responder: [0; 8],
        exchange: ExchangeType::IKE_SA_INIT,
        from_initiator: true,
        response: false,
        message_id: 0,
    };
    Ok(chain.into_message(&header)?)
}

fn ke_payload(exchange: &dyn KeyExchange) -> ke::KeyExchange {
    let group: GroupId = exchange.group();
    ke::KeyExchange { group, public: exchange.public().to_vec() }
}
