//! Negotiation of algorithms (RFC 7296 sections 2.7 and 3.3): what a rule or policy offers, what is chosen from a peer's
//! offer, whether a peer's choice is one of ours.

use super::api::{ChildPolicy, ChildSuite, EsnPolicy, IkeProposal, Protocol, Rule};
use crate::crypto::keys::child_shape;
use crate::crypto::{IkeSuite, Provider};
use crate::wire::sa::{Proposal, ProtocolId, Transform};
use crate::wire::transform::{Encr, GroupId, IntegId};

impl Protocol {
    /// The number in proposals, notifications and deletes.
    pub(super) fn id(self) -> ProtocolId {
        match self {
            Self::Ah => ProtocolId::AH,
            Self::Esp => ProtocolId::ESP,
        }
    }

    pub(super) fn from_id(id: ProtocolId) -> Option<Self> {
        match id {
            ProtocolId::AH => Some(Self::Ah),
            ProtocolId::ESP => Some(Self::Esp),
            _ => None,
        }
    }
}

/// An answer to a peer's proposals.
pub(super) struct Chosen<T> {
    /// What was agreed.
    pub(super) agreed: T,
    /// The proposal for the response.
    pub(super) answer: Proposal,
    /// The peer's SPI.
    pub(super) spi: Vec<u8>,
}

/// What both sides agreed on for a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChildAgreed {
    pub(super) suite: ChildSuite,
    pub(super) esn: bool,
    pub(super) group: GroupId,
}

/// What a rule offers for an IKE SA: AEAD and other ciphers in proposals of their own (RFC 5282 section 8), without what the
/// provider cannot do.
pub(super) fn ike_offer(provider: &dyn Provider, rule: &Rule, spi: &[u8]) -> Vec<Proposal> {
    let mut proposals: Vec<Proposal> = Vec::new();
    for xform in &rule.proposals {
        for aead in [true, false] {
            let Some(transforms) = ike_transforms(provider, xform, aead) else { continue };
            let Ok(number) = u8::try_from(proposals.len() + 1) else { return proposals };
            proposals.push(Proposal { number, protocol: ProtocolId::IKE, spi: spi.to_vec(), transforms });
        }
    }
    proposals
}

fn ike_transforms(provider: &dyn Provider, xform: &IkeProposal, aead: bool) -> Option<Vec<Transform>> {
    let integs = if aead { vec![IntegId::NONE] } else { xform.integ.clone() };
    let possible = |encr: Encr, integ: IntegId| provider.protection(encr, integ).is_some();
    let encrs: Vec<Encr> =
        xform.encr.iter().copied().filter(|e| e.is_aead() == aead && integs.iter().any(|i| possible(*e, *i))).collect();
    let integs: Vec<IntegId> = integs.into_iter().filter(|i| encrs.iter().any(|e| possible(*e, *i))).collect();
    let prfs: Vec<_> = xform.prf.iter().copied().filter(|p| provider.prf(*p).is_some()).collect();
    let groups: Vec<_> = xform.groups.iter().copied().filter(|g| provider.public_len(*g).is_some()).collect();
    if encrs.is_empty() || integs.is_empty() || prfs.is_empty() || groups.is_empty() {
        return None;
    }
    let integs = integs.into_iter().filter(|i| *i != IntegId::NONE).map(Transform::Integ);
    let transforms = encrs.into_iter().map(Transform::Encr);
    let transforms = transforms.chain(integs).chain(prfs.into_iter().map(Transform::Prf));
    Some(transforms.chain(groups.into_iter().map(Transform::Group)).collect())
}

/// Whether a proposal's integrity transforms fit its ciphers (V2-SA-07).
fn integ_fits(proposal: &Proposal) -> bool {
    let aead = proposal.encr().filter(|e| e.is_aead()).count();
    if aead == 0 {
        return proposal.integ().any(|i| i != IntegId::NONE);
    }
    aead == proposal.encr().count() && proposal.integ().all(|i| i == IntegId::NONE)
}

fn first_common<T: PartialEq + Copy>(ours: impl Iterator<Item = T>, theirs: &[T]) -> Option<T> {
    ours.into_iter().find(|value| theirs.contains(value))
}

/// Chooses from a peer's offer for an IKE SA, by our preference; of the groups in question the one the peer already sent a
/// public value for, if it may be used. `spi_len` is 0 for a new IKE SA and 8 for a rekeyed one (V2-SA-04).
pub(super) fn choose_ike(
    provider: &dyn Provider,
    rule: &Rule,
    offered: &[Proposal],
    spi_len: usize,
    sent_group: Option<GroupId>,
    our_spi: &[u8],
) -> Option<Chosen<IkeSuite>> {
    let ours = ike_offer(provider, rule, our_spi);
    let theirs = offered.iter().filter(|p| {
        p.protocol == ProtocolId::IKE && p.spi.len() == spi_len && !p.has_unknown_type() && p.esn().next().is_none()
    });
    let theirs: Vec<&Proposal> = theirs.filter(|p| integ_fits(p)).collect();
    ours.iter().find_map(|own| theirs.iter().find_map(|peer| match_ike(own, peer, sent_group, our_spi)))
}

fn match_ike(own: &Proposal, peer: &Proposal, sent_group: Option<GroupId>, our_spi: &[u8]) -> Option<Chosen<IkeSuite>> {
    let encr = first_common(own.encr(), &peer.encr().collect::<Vec<_>>())?;
    let prf = first_common(own.prf(), &peer.prf().collect::<Vec<_>>())?;
    let groups: Vec<GroupId> = peer.groups().collect();
    let sent = sent_group.filter(|sent| groups.contains(sent) && own.groups().any(|g| g == *sent));
    let group = sent.or_else(|| first_common(own.groups(), &groups))?;
    let offered: Vec<IntegId> = peer.integ().collect();
    let integ = if encr.is_aead() { IntegId::NONE } else { first_common(own.integ(), &offered)? };
    let mut transforms = vec![Transform::Encr(encr)];
    // A response has one transform of each type the chosen proposal has (V2-SA-02).
    if !offered.is_empty() {
        transforms.push(Transform::Integ(integ));
    }
    transforms.extend([Transform::Prf(prf), Transform::Group(group)]);
    let answer = Proposal { number: peer.number, protocol: ProtocolId::IKE, spi: our_spi.to_vec(), transforms };
    Some(Chosen { agreed: IkeSuite { encr, integ, prf, group }, answer, spi: peer.spi.clone() })
}

/// The suite of a peer's answer, and its SPI, when it is one of what we offered (V2-SA-03).
pub(super) fn accept_ike(offered: &[Proposal], answer: &[Proposal], spi_len: usize) -> Option<(IkeSuite, Vec<u8>)> {
    let (own, answer) = accepted_pair(offered, answer, spi_len)?;
    let encr = single(answer.encr()).filter(|v| own.encr().any(|o| o == *v))?;
    let prf = single(answer.prf()).filter(|v| own.prf().any(|o| o == *v))?;
    let group = single(answer.groups()).filter(|v| own.groups().any(|o| o == *v))?;
    let integ = accepted_integ(own, answer, Some(encr))?;
    answer.esn().next().is_none().then_some((IkeSuite { encr, integ, prf, group }, answer.spi.clone()))
}

fn accepted_pair<'a>(
    offered: &'a [Proposal],
    answer: &'a [Proposal],
    spi_len: usize,
) -> Option<(&'a Proposal, &'a Proposal)> {
    let [answer] = answer else { return None };
    let own = offered.iter().find(|p| p.number == answer.number && p.protocol == answer.protocol)?;
    let usable = answer.transforms.iter().all(|t| !matches!(t, Transform::Unusable(_) | Transform::UnknownType(_)));
    (usable && answer.spi.len() == spi_len).then_some((own, answer))
}

fn accepted_integ(own: &Proposal, answer: &Proposal, encr: Option<Encr>) -> Option<IntegId> {
    if encr.is_some_and(Encr::is_aead) {
        return answer.integ().all(|i| i == IntegId::NONE).then_some(IntegId::NONE);
    }
    single(answer.integ()).filter(|v| own.integ().any(|o| o == *v))
}

fn single<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// What a policy offers for a child, best first, with the ESN choices in order of preference. Suites that follow each
/// other and differ in one kind of transform share a proposal, in which every cipher goes with every integrity algorithm;
/// AEADs and other ciphers never share one (section 3.3). Each has the SPI that `spi` gives for its protocol.
pub(super) fn child_offer(policy: &ChildPolicy, spi: impl Fn(Protocol) -> u32, pfs: GroupId) -> Vec<Proposal> {
    let esn: &[bool] = match policy.esn {
        EsnPolicy::Preferred => &[true, false],
        EsnPolicy::Required => &[true],
        EsnPolicy::Never => &[false],
    };
    let proposals = products(&policy.suites).into_iter().zip(1u8..).map(|(product, number)| {
        let encr = product.encr.into_iter().flatten().map(Transform::Encr);
        let integ = product.integ.into_iter().filter(|i| *i != IntegId::NONE).map(Transform::Integ);
        let group = (pfs != GroupId::NONE).then_some(Transform::Group(pfs));
        let transforms = encr.chain(integ).chain(group).chain(esn.iter().copied().map(Transform::Esn));
        Proposal {
            number,
            protocol: product.protocol.id(),
            spi: spi(product.protocol).to_be_bytes().to_vec(),
            transforms: transforms.collect(),
        }
    });
    proposals.collect()
}

/// Suites that make one proposal: each of the ciphers with each of the integrity algorithms.
struct Product {
    protocol: Protocol,
    encr: Vec<Option<Encr>>,
    integ: Vec<IntegId>,
}

/// The suites that can be computed, in their order, as few products as merging neighbours gives.
fn products(suites: &[ChildSuite]) -> Vec<Product> {
    let mut rows: Vec<Product> = Vec::new();
    for (index, suite) in suites.iter().enumerate() {
        let repeated = suites.iter().take(index).any(|other| other == suite);
        if repeated || child_shape(suite.encr, suite.integ).is_none() {
            continue;
        }
        match rows.last_mut() {
            Some(row) if row.protocol == suite.protocol && row.integ == [suite.integ] && suite.encr.is_some() => {
                row.encr.push(suite.encr);
            }
            _ => rows.push(Product { protocol: suite.protocol, encr: vec![suite.encr], integ: vec![suite.integ] }),
        }
    }
    let mut products: Vec<Product> = Vec::new();
    for row in rows {
        let separate = !row.integ.contains(&IntegId::NONE);
        match products.last_mut() {
            Some(last) if separate && last.protocol == row.protocol && last.encr == row.encr => {
                last.integ.extend(row.integ);
            }
            _ => products.push(row),
        }
    }
    products
}

/// Which group the children of CREATE_CHILD_SA may use.
#[derive(Clone, Copy)]
pub(super) enum GroupRule<'a> {
    /// IKE_AUTH: no key exchange of its own (V2-AUTH-18).
    NoExchange,
    /// This group and no other.
    Only(GroupId),
    /// None, or whichever of the peer's the provider has.
    Any(&'a dyn Provider),
}

impl GroupRule<'_> {
    fn pick(self, offered: &[GroupId], sent: Option<GroupId>) -> Option<GroupId> {
        match self {
            Self::NoExchange => Some(GroupId::NONE),
            Self::Only(group) => offered.contains(&group).then_some(group),
            Self::Any(_) if offered.is_empty() => Some(GroupId::NONE),
            Self::Any(provider) => {
                let can = |g: &GroupId| *g == GroupId::NONE || provider.public_len(*g).is_some();
                let sent = sent.filter(|s| offered.contains(s) && can(s));
                sent.or_else(|| offered.iter().copied().find(can))
            }
        }
    }
}

/// Chooses from a peer's offer for a child, by the policy's preference.
pub(super) fn choose_child(
    policy: &ChildPolicy,
    groups: GroupRule<'_>,
    offered: &[Proposal],
    sent_group: Option<GroupId>,
) -> Option<Chosen<ChildAgreed>> {
    policy.suites.iter().find_map(|suite| {
        child_shape(suite.encr, suite.integ)?;
        offered.iter().find_map(|peer| match_child(suite, policy.esn, groups, peer, sent_group))
    })
}

fn match_child(
    suite: &ChildSuite,
    esn: EsnPolicy,
    groups: GroupRule<'_>,
    peer: &Proposal,
    sent_group: Option<GroupId>,
) -> Option<Chosen<ChildAgreed>> {
    if peer.protocol != suite.protocol.id()
        || peer.spi.len() != 4
        || peer.has_unknown_type()
        || peer.prf().next().is_some()
    {
        return None;
    }
    // A response repeats the transform as it was offered.
    let encr = suite.encr.and_then(|encr| peer.encr().find(|e| e.means(encr)));
    let algorithms = match encr {
        Some(encr) => !encr.is_aead() || integ_fits(peer),
        None => suite.encr.is_none() && peer.encr().next().is_none(),
    };
    let integrity = if suite.integ == IntegId::NONE {
        peer.integ().all(|i| i == IntegId::NONE)
    } else {
        peer.integ().any(|i| i == suite.integ)
    };
    let sequence: Vec<bool> = peer.esn().collect();
    let esn = match esn {
        EsnPolicy::Preferred => [true, false].into_iter().find(|v| sequence.contains(v))?,
        EsnPolicy::Required => sequence.contains(&true).then_some(true)?,
        EsnPolicy::Never => sequence.contains(&false).then_some(false)?,
    };
    let group = groups.pick(&peer.groups().collect::<Vec<_>>(), sent_group)?;
    if !algorithms || !integrity {
        return None;
    }
    let mut transforms: Vec<Transform> = encr.map(Transform::Encr).into_iter().collect();
    if peer.integ().next().is_some() {
        transforms.push(Transform::Integ(suite.integ));
    }
    let exchanged = !matches!(groups, GroupRule::NoExchange) && peer.groups().next().is_some();
    if exchanged {
        transforms.push(Transform::Group(group));
    }
    transforms.push(Transform::Esn(esn));
    let answer = Proposal { number: peer.number, protocol: peer.protocol, spi: Vec::new(), transforms };
    Some(Chosen { agreed: ChildAgreed { suite: *suite, esn, group }, answer, spi: peer.spi.clone() })
}

/// What a peer chose for a child, and its SPI, when it is one of what we offered.
pub(super) fn accept_child(offered: &[Proposal], answer: &[Proposal]) -> Option<(ChildAgreed, u32)> {
    let (own, answer) = accepted_pair(offered, answer, 4)?;
    let spi = <[u8; 4]>::try_from(answer.spi.as_slice()).ok().map(u32::from_be_bytes)?;
    let encr = match own.encr().next() {
        None => answer.encr().next().is_none().then_some(None)?,
        Some(_) => Some(single(answer.encr()).and_then(|v| own.encr().find(|o| o.means(v)))?),
    };
    let integ = accepted_integ(own, answer, encr)?;
    let esn = single(answer.esn()).filter(|v| own.esn().any(|o| o == *v))?;
    let group = match own.groups().next() {
        None => answer.groups().all(|g| g == GroupId::NONE).then_some(GroupId::NONE)?,
        Some(_) => single(answer.groups()).filter(|v| own.groups().any(|o| o == *v))?,
    };
    let protocol = Protocol::from_id(answer.protocol)?;
    (spi > 255).then_some((ChildAgreed { suite: ChildSuite { protocol, encr, integ }, esn, group }, spi))
}

/// Proposals in words, for the line that says why none was chosen.
pub(super) fn describe(proposals: &[Proposal]) -> String {
    let one = |proposal: &Proposal| {
        let words = proposal.transforms.iter().map(|transform| match transform {
            Transform::Encr(v) => v.to_string(),
            Transform::Prf(v) => format!("PRF-{v}"),
            Transform::Integ(v) => v.to_string(),
            Transform::Group(v) => v.to_string(),
            Transform::Esn(true) => "ESN".to_owned(),
            Transform::Esn(false) => "no-ESN".to_owned(),
            Transform::Unusable(kind) => format!("<type {kind}>"),
            Transform::UnknownType(kind) => format!("<unknown type {kind}>"),
        });
        words.take(24).collect::<Vec<_>>().join("/")
    };
    proposals.iter().take(8).map(one).collect::<Vec<_>>().join(", ")
}
