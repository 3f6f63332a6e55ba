//! Child SAs on the side that is asked: policy, algorithms, selectors, mode, and the payloads of the answer or the
//! notification that refuses (RFC 7296 sections 1.3.1, 2.9, 3.10.1).

use super::api::{ChildPolicy, ChildQuery, ChildRefusal, Effect, FailureCause, Mode, Originals, SpiPair, SpiRequest};
use super::child::{Agreement, Child, ChildSecrets, Peer, Wish, behind_nat, install};
use super::context::{Ctx, Failure};
use super::link::{Ends, Link};
use super::proposal::{ChildAgreed, Chosen, GroupRule, child_offer, choose_child, describe};
use super::selectors;
use super::transport_nat;
use crate::crypto::Secret;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::ke::KeyExchange;
use crate::wire::nonce::Nonce;
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;
use crate::wire::sa::SecurityAssociation;
use crate::wire::transform::GroupId;
use crate::wire::ts::{TrafficSelector, TsPayload};

/// Why a peer gets no child: what it is told and what the log says.
pub(super) struct Refusal {
    pub(super) notify: Notify,
    pub(super) failure: Failure,
}

impl Refusal {
    pub(super) fn new(kind: NotifyType, cause: FailureCause, detail: impl Into<String>) -> Self {
        Self { notify: Notify::plain(kind, Vec::new()), failure: Failure::new(cause, detail) }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let kind = match failure.cause {
            FailureCause::InvalidKe | FailureCause::InvalidSyntax => NotifyType::INVALID_SYNTAX,
            FailureCause::NoAdditionalSas => NotifyType::NO_ADDITIONAL_SAS,
            FailureCause::TsUnacceptable => NotifyType::TS_UNACCEPTABLE,
            _ => NotifyType::TEMPORARY_FAILURE,
        };
        Self { notify: Notify::plain(kind, Vec::new()), failure }
    }
}

/// Nonces of the exchange, and whether it is IKE_AUTH: then there is no KE and no nonce of its own.
pub(super) struct Ask<'a> {
    pub(super) payloads: &'a Payloads,
    pub(super) nonce_initiator: &'a Nonce,
    pub(super) nonce_responder: &'a Nonce,
    pub(super) in_auth: bool,
    /// The child to be replaced.
    pub(super) rekeys: Option<&'a Child>,
}

/// Answers a request for a child: fills `chain` and installs the pair.
pub(super) fn answer(
    ctx: &mut Ctx<'_>,
    link: &Link,
    peer: &Peer,
    ask: &Ask<'_>,
    chain: &mut ChainBuilder,
) -> Result<Child, Refusal> {
    let missing = |what| Refusal::new(NotifyType::INVALID_SYNTAX, FailureCause::InvalidSyntax, format!("no {what}"));
    let sa = ask.payloads.sa.as_ref().ok_or_else(|| missing("SA payload"))?;
    let ts_remote = &ask.payloads.ts_initiator.as_ref().ok_or_else(|| missing("TSi payload"))?.selectors;
    let ts_local = &ask.payloads.ts_responder.as_ref().ok_or_else(|| missing("TSr payload"))?.selectors;
    let wanted = match ask.payloads.notify(NotifyType::USE_TRANSPORT_MODE) {
        Some(_) => Mode::Transport,
        None => Mode::Tunnel,
    };
    let offered = || format!("{} {}", selectors::describe(ts_local), selectors::describe(ts_remote));
    let Looked { mut policy, ts_local, ts_remote, originals } = look(ctx, link, peer, ask, wanted, ts_local, ts_remote)
        .map_err(|refusal| {
            let text = format!("{refusal} (the peer offers {})", offered());
            Refusal::new(NotifyType::TS_UNACCEPTABLE, FailureCause::TsUnacceptable, text)
        })?;
    if policy.mode == Mode::Transport && wanted == Mode::Tunnel {
        let text = format!("the peer wants tunnel mode, policy {} transport mode", policy.source);
        return Err(Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, FailureCause::ModeRefused, text));
    }
    if link.encap().is_some() {
        behind_nat(&mut policy)
            .map_err(|text| Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, FailureCause::NoProposalChosen, text))?;
    }
    let narrowed = narrowed(&policy, &ts_local, &ts_remote, ask.rekeys).ok_or_else(|| {
        let text = format!("the peer offers {}, policy {} permits less", offered(), policy.source);
        Refusal::new(NotifyType::TS_UNACCEPTABLE, FailureCause::TsUnacceptable, text)
    })?;
    let chosen = choose(ctx, peer, ask, &policy, &sa.proposals)?;
    let outbound_spi = <[u8; 4]>::try_from(chosen.spi.as_slice()).map(u32::from_be_bytes).unwrap_or_default();
    if outbound_spi <= 255 {
        return Err(Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, FailureCause::NoProposalChosen, "reserved SPI"));
    }
    let exchange = exchange(ctx, ask, chosen.agreed.group)?;
    let agreement = Agreement {
        agreed: chosen.agreed,
        outbound_spi,
        mode: policy.mode,
        ts_local: narrowed.0,
        ts_remote: narrowed.1,
        originals,
    };
    let rekeys = ask.rekeys.map(|old| old.spis);
    commit(ctx, link, peer, ask, chain, Parts { policy, agreement, chosen, exchange, rekeys })
}

/// What policy says, and the selectors that it says it about.
struct Looked {
    policy: ChildPolicy,
    ts_local: Vec<TrafficSelector>,
    ts_remote: Vec<TrafficSelector>,
    originals: Option<Originals>,
}

/// Asks policy about the selectors of the peer. Those of transport mode through a NAT are taken for those of the two hosts;
/// where policy has no transport mode for them, they count as they are written (RFC 7296 section 2.23.1).
fn look(
    ctx: &Ctx<'_>,
    link: &Link,
    peer: &Peer,
    ask: &Ask<'_>,
    mode: Mode,
    ts_local: &[TrafficSelector],
    ts_remote: &[TrafficSelector],
) -> Result<Looked, ChildRefusal> {
    let query = |ts_local: &[TrafficSelector], ts_remote: &[TrafficSelector]| {
        ctx.host.child_policy(&ChildQuery {
            local: link.ends.local,
            remote: link.ends.remote,
            rule: &peer.rule,
            remote_id: &peer.remote_id,
            mode,
            ts_local,
            ts_remote,
            rekeys: ask.rekeys.map(|old| (old.spis, old.policy.action)),
        })
    };
    let written = || {
        let policy = query(ts_local, ts_remote)?;
        Ok(Looked { policy, ts_local: ts_local.to_vec(), ts_remote: ts_remote.to_vec(), originals: None })
    };
    if mode != Mode::Transport || !link.nat.any() {
        return written();
    }
    let none = || ChildRefusal { reason: "transport mode through a NAT needs selectors of two hosts".to_owned() };
    let refusal = match transport_nat::substitute(link.nat, link.ends, ts_local, ts_remote) {
        None => none(),
        Some(ours) => match query(&ours.ts_local, &ours.ts_remote) {
            Ok(policy) if policy.mode == Mode::Transport => {
                let transport_nat::Substituted { ts_local, ts_remote, originals } = ours;
                return Ok(Looked { policy, ts_local, ts_remote, originals: Some(originals) });
            }
            Ok(_) => none(),
            Err(refusal) => refusal,
        },
    };
    // Transport mode for the addresses as they are written would be that of other hosts.
    written().ok().filter(|looked: &Looked| looked.policy.mode == Mode::Tunnel).ok_or(refusal)
}

struct Parts {
    policy: ChildPolicy,
    agreement: Agreement,
    chosen: Chosen<ChildAgreed>,
    exchange: Option<(KeyExchange, Secret)>,
    rekeys: Option<SpiPair>,
}

/// Everything is agreed: reserves the SPI, writes the answer, installs. The SPI goes back when one of these fails.
fn commit(
    ctx: &mut Ctx<'_>,
    link: &Link,
    peer: &Peer,
    ask: &Ask<'_>,
    chain: &mut ChainBuilder,
    parts: Parts,
) -> Result<Child, Refusal> {
    let Parts { policy, agreement, mut chosen, exchange, rekeys } = parts;
    let Ends { local, remote } = link.ends;
    let protocol = agreement.agreed.suite.protocol;
    let request = SpiRequest { protocol, local, remote, ike: link.spis, acquire: None };
    let spi = ctx.host.allocate_spi(&request).map_err(|e| Failure::new(FailureCause::Local, e.to_string()))?;
    chosen.answer.spi = spi.to_be_bytes().to_vec();
    let mut write = || -> Result<(), Failure> {
        if agreement.mode == Mode::Transport {
            chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::USE_TRANSPORT_MODE, Vec::new()))?;
        }
        chain.push(PayloadType::SA, &SecurityAssociation { proposals: vec![chosen.answer.clone()] })?;
        if !ask.in_auth {
            chain.push(PayloadType::NONCE, ask.nonce_responder)?;
        }
        if let Some((public, _)) = &exchange {
            chain.push(PayloadType::KE, public)?;
        }
        chain.push(PayloadType::TS_I, &TsPayload { selectors: agreement.ts_remote.clone() })?;
        chain.push(PayloadType::TS_R, &TsPayload { selectors: agreement.ts_local.clone() })?;
        Ok(())
    };
    let wish = Wish { acquire: None, policy, packet: None, rekeys, tries: 0 };
    let secrets = ChildSecrets {
        nonce_initiator: ask.nonce_initiator,
        nonce_responder: ask.nonce_responder,
        shared: exchange.as_ref().map(|(_, secret)| secret),
        initiator: false,
    };
    let made = match write() {
        Ok(()) => install(ctx, link, peer, &wish, (spi, &agreement), &secrets),
        Err(failure) => Err(failure),
    };
    made.map_err(|failure| {
        ctx.effect(Effect::ReleaseSpi { spi, protocol, local });
        failure.into()
    })
}

fn narrowed(
    policy: &ChildPolicy,
    ts_local: &[TrafficSelector],
    ts_remote: &[TrafficSelector],
    rekeys: Option<&Child>,
) -> Option<(Vec<TrafficSelector>, Vec<TrafficSelector>)> {
    let local = selectors::narrow(ts_local, &policy.ts_local);
    let remote = selectors::narrow(ts_remote, &policy.ts_remote);
    // A rekey never ends up narrower than what it replaces (V2-TS-12).
    let wide_enough = rekeys
        .is_none_or(|old| selectors::covered(&old.ts_local, &local) && selectors::covered(&old.ts_remote, &remote));
    (!local.is_empty() && !remote.is_empty() && wide_enough).then_some((local, remote))
}

fn choose(
    ctx: &Ctx<'_>,
    peer: &Peer,
    ask: &Ask<'_>,
    policy: &ChildPolicy,
    offered: &[crate::wire::sa::Proposal],
) -> Result<Chosen<ChildAgreed>, Refusal> {
    let pfs = peer.rule.childsa_pfs;
    let groups = match pfs {
        _ if ask.in_auth => GroupRule::NoExchange,
        GroupId::NONE => GroupRule::Any(ctx.provider),
        group => GroupRule::Only(group),
    };
    let sent = ask.payloads.ke.as_ref().map(|ke| ke.group);
    choose_child(policy, groups, offered, sent).ok_or_else(|| {
        let ours = child_offer(policy, |_| 0, if ask.in_auth { GroupId::NONE } else { pfs });
        let text = format!("the peer offers {}; policy {} wants {}", describe(offered), policy.source, describe(&ours));
        Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, FailureCause::NoProposalChosen, text)
    })
}

/// The key exchange of the child's own, when the agreed group says there is one (V2-REK-01).
fn exchange(ctx: &Ctx<'_>, ask: &Ask<'_>, group: GroupId) -> Result<Option<(KeyExchange, Secret)>, Refusal> {
    if ask.in_auth || group == GroupId::NONE {
        return Ok(None);
    }
    let Some(theirs) = ask.payloads.ke.as_ref().filter(|ke| ke.group == group) else {
        return Err(invalid_ke(group));
    };
    let ours = ctx.provider.key_exchange(group).map_err(Failure::from)?;
    let public = KeyExchange { group, public: ours.public().to_vec() };
    let secret = ours.complete(&theirs.public).map_err(Failure::from)?;
    Ok(Some((public, secret)))
}

/// INVALID_KE_PAYLOAD with the group that is wanted (V2-KE-01).
pub(super) fn invalid_ke(group: GroupId) -> Refusal {
    let notify = Notify::plain(NotifyType::INVALID_KE_PAYLOAD, group.0.to_be_bytes().to_vec());
    Refusal { notify, failure: Failure::new(FailureCause::InvalidKe, format!("asked the peer for {group}")) }
}
