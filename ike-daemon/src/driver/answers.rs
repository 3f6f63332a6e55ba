//! What the door shows: the core's snapshots, the rules and the levels as data of the door protocol. Pure functions.

use std::collections::BTreeMap;
use std::time::Duration;

use ike_door::message::Sides;
use ike_door::{
    AddressRange, ChildInfo, DefaultInfo, DefaultSource, IdentityInfo, IkeSaInfo, Item, KeyInfo, LifetimeInfo,
    PresharedInfo, Privilege, Role, RuleInfo, SecretText, StatsInfo, TransformInfo,
};

use super::host::HostCounts;
use crate::config::{self, AddressSpec, ConfiguredRule, Defaults, PresharedEntry};
use crate::core::api::{self, ChildSnapshot, IkeKeys, IkeSaSnapshot, LocalIdentity, Stats};
use crate::crypto::Secret;
use crate::wire::id::{IdType, Identification};
use crate::wire::transform::{EncrId, GroupId};
use crate::wire::ts::TrafficSelector;

/// The most selectors per side that are shown of a child.
const MAX_SELECTORS: usize = 16;

/// One IKE SA; with its keys, if the caller may see them.
pub(super) fn ike_sa(sa: &IkeSaSnapshot, keys: Option<&IkeKeys>) -> IkeSaInfo {
    IkeSaInfo {
        spi_initiator: format!("{:016x}", u64::from_be_bytes(sa.spis.initiator)),
        spi_responder: format!("{:016x}", u64::from_be_bytes(sa.spis.responder)),
        role: match sa.role {
            api::Role::Initiator => Role::Initiator,
            api::Role::Responder => Role::Responder,
        },
        state: sa.state.to_string(),
        version: sa.version,
        rule: sa.rule_label.clone(),
        local: sa.path.local,
        remote: sa.path.remote,
        nat_local: sa.nat.local,
        nat_remote: sa.nat.remote,
        authentication: "pre-shared key".to_owned(),
        encryption: sa.encr.map(|encr| encr.to_string()),
        integrity: sa.integ.map(|integ| integ.to_string()),
        prf: sa.prf.map(|prf| prf.to_string()),
        group: sa.group.map(|group| group.to_string()),
        group_number: sa.group.map(|group| group.0),
        childsa_pfs: sa.children.iter().min_by_key(|child| child.age).map(|child| child.group.0),
        local_id: sa.local_id.as_ref().map(identity),
        remote_id: sa.remote_id.as_ref().map(identity),
        lifetime: LifetimeInfo {
            age: sa.age.as_secs(),
            expires_in: sa.expires_in.map(|left| left.as_secs()),
            rekey_in: sa.rekey_in.map(|left| left.as_secs()),
        },
        children: sa.children.iter().map(child).collect(),
        children_created: sa.children_created,
        children_deleted: sa.children_deleted,
        messages_sent: sa.messages_sent,
        messages_received: sa.messages_received,
        retransmits: sa.retransmits,
        integrity_failures: sa.integrity_failures,
        keys: keys.map(ike_keys).unwrap_or_default(),
    }
}

fn ike_keys(keys: &IkeKeys) -> Vec<KeyInfo> {
    let all = [
        ("SK_d", &keys.sk_d),
        ("SK_ai", &keys.sk_ai),
        ("SK_ar", &keys.sk_ar),
        ("SK_ei", &keys.sk_ei),
        ("SK_er", &keys.sk_er),
        ("SK_pi", &keys.sk_pi),
        ("SK_pr", &keys.sk_pr),
    ];
    all.into_iter().map(|(name, secret)| key(name, secret, true)).collect()
}

fn key(name: &str, secret: &Secret, shown: bool) -> KeyInfo {
    KeyInfo { name: name.to_owned(), octets: secret.len(), value: shown.then(|| SecretText::hex(secret.expose())) }
}

fn child(child: &ChildSnapshot) -> ChildInfo {
    let list = |selectors: &[TrafficSelector]| {
        let mut list: Vec<String> = selectors.iter().take(MAX_SELECTORS).map(TrafficSelector::to_string).collect();
        if let Some(more) = selectors.len().checked_sub(MAX_SELECTORS).filter(|more| *more > 0) {
            list.push(format!("and {more} more"));
        }
        list
    };
    ChildInfo {
        protocol: child.suite.protocol.to_string(),
        spi_in: child.spis.inbound,
        spi_out: child.spis.outbound,
        mode: child.mode.to_string(),
        suite: child.suite.to_string(),
        pfs_group: child.group.0,
        esn: child.esn,
        local: list(&child.ts_local),
        remote: list(&child.ts_remote),
        age: child.age.as_secs(),
    }
}

fn identity(id: &Identification) -> IdentityInfo {
    let kind = match id.id_type() {
        IdType::IPV4_ADDR => "IPv4 address",
        IdType::IPV6_ADDR => "IPv6 address",
        IdType::FQDN => "FQDN",
        IdType::RFC822_ADDR => "user-FQDN (mbox)",
        IdType::DER_ASN1_DN => "ASN.1 DER Distinguished Name",
        IdType::DER_ASN1_GN => "ASN.1 DER Generic Name",
        IdType::KEY_ID => "Generic key id",
        IdType(other) => return IdentityInfo { kind: format!("<unknown {other}>"), value: id.to_string() },
    };
    IdentityInfo { kind: kind.to_owned(), value: id.to_string() }
}

/// The counters of core, books and sockets.
pub(super) fn stats(stats: &Stats, host: HostCounts, extra: &[(&str, u64)]) -> StatsInfo {
    let sides = |initiator, responder| Sides { initiator, responder };
    let named: [(&str, u64); 24] = [
        ("child SAs created", stats.children_created),
        ("child SAs deleted", stats.children_deleted),
        ("child SAs rekeyed", stats.children_rekeyed),
        ("IKE SAs rekeyed", stats.ike_rekeyed),
        ("datagrams received", stats.datagrams_received),
        ("datagrams sent", stats.datagrams_sent),
        ("requests retransmitted", stats.retransmits),
        ("responses repeated", stats.responses_repeated),
        ("malformed datagrams", stats.malformed),
        ("messages for unknown SPIs", stats.unknown_spi),
        ("messages of another IKE version", stats.wrong_version),
        ("integrity failures", stats.integrity_failures),
        ("messages outside the window", stats.out_of_window),
        ("messages sent in fragments", stats.fragmented),
        ("messages received in fragments", stats.reassembled),
        ("useless fragments", stats.fragments_dropped),
        ("cookies sent", stats.cookies_sent),
        ("requests dropped at a limit", stats.limited),
        ("peers found dead", stats.peers_dead),
        ("acquires", host.acquires),
        ("acquires repeated", host.acquires_repeated),
        ("acquires without policy", host.acquires_stale),
        ("expires", host.expires),
        ("SAs not installed", host.install_failures),
    ];
    let counters = named.iter().chain(extra).map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let failures: BTreeMap<String, u64> =
        stats.failed.iter().map(|(cause, count)| (cause.to_string(), *count)).collect();
    StatsInfo {
        current: sides(stats.current_initiator, stats.current_responder),
        total: sides(stats.total_initiator, stats.total_responder),
        attempted: sides(stats.attempted_initiator, stats.attempted_responder),
        failed: sides(stats.failed_initiator, stats.failed_responder),
        initiator_timeouts: stats.initiator_timeouts,
        failures,
        counters,
    }
}

/// The values that rules have unless they name their own, in the order of `get defaults`.
pub(super) fn defaults(now: &Defaults) -> Vec<DefaultInfo> {
    let built_in = &Defaults::BUILT_IN;
    let row = |token: &str, unit: &str, description: &str, value: &dyn Fn(&Defaults) -> String| DefaultInfo {
        token: token.to_owned(),
        source: if value(now) == value(built_in) { DefaultSource::Default } else { DefaultSource::Config },
        value: value(now),
        unit: unit.to_owned(),
        description: description.to_owned(),
    };
    let secs = |value: Duration| value.as_secs().to_string();
    vec![
        row("ikesa_lifetime_secs", "seconds", "IKE SA lifetime", &|d| secs(d.ikesa_lifetime)),
        row("childsa_lifetime_secs", "seconds", "child SA lifetime, hard", &|d| secs(d.child.hard)),
        row("childsa_softlife_secs", "seconds", "child SA lifetime, soft", &|d| secs(d.child.soft)),
        row("childsa_idletime_secs", "seconds", "child SA idle time, 0 is none", &|d| secs(d.child.idle)),
        row("childsa_lifetime_kb", "kbytes", "child SA bytes, hard, 0 is no limit", &|d| {
            (d.child.hard_bytes / 1024).to_string()
        }),
        row("childsa_softlife_kb", "kbytes", "child SA bytes, soft, 0 is no limit", &|d| {
            (d.child.soft_bytes / 1024).to_string()
        }),
        row("childsa_pfs", "group", "PFS group of child SAs, 0 is none", &|d| d.childsa_pfs.0.to_string()),
        row("retry_limit", "count", "retransmissions of a request", &|d| d.retry.limit.to_string()),
        row("retry_timer_init", "seconds", "first wait for an answer", &|d| d.retry.initial.as_secs_f64().to_string()),
        row("retry_timer_max", "seconds", "longest wait for an answer", &|d| d.retry.max.as_secs_f64().to_string()),
        row("response_wait_time", "seconds", "wait for an answer in all, 0 is retry_limit", &|d| {
            secs(d.retry.patience.unwrap_or_default())
        }),
        row("-", "seconds", "silence before a peer is probed", &|d| secs(d.dpd_interval)),
        row("-", "", "IKE port number", &|_| "500".to_owned()),
        row("-", "", "NAT-T port number", &|_| "4500".to_owned()),
    ]
}

/// One rule.
pub(super) fn rule(configured: &ConfiguredRule) -> RuleInfo {
    let rule = &configured.rule;
    let ranges = |specs: &[AddressSpec]| {
        let range = |spec: &AddressSpec| {
            let (first, last) = spec.bounds();
            AddressRange { first, last }
        };
        specs.iter().map(range).collect()
    };
    let lifetimes = &rule.child_lifetimes;
    RuleInfo {
        label: rule.label.clone(),
        source: rule.source.to_string(),
        local_addr: ranges(&configured.local_addr),
        remote_addr: ranges(&configured.remote_addr),
        local_id: match &rule.local_id {
            LocalIdentity::Address => "IP = own address".to_owned(),
            LocalIdentity::Fixed(id) => {
                let info = identity(id);
                format!("{} = {}", info.kind, info.value)
            }
        },
        remote_id: rule.remote_id.to_string(),
        has_key: rule.psk.is_some(),
        local_auth: rule.local_auth.to_string(),
        remote_auth: rule.remote_auth.to_string(),
        required_issuer: rule.required_issuer.as_ref().map(ToString::to_string),
        transforms: rule
            .proposals
            .iter()
            .map(|proposal| TransformInfo {
                encryption: proposal.encr.iter().map(ToString::to_string).collect(),
                integrity: proposal.integ.iter().map(ToString::to_string).collect(),
                prf: proposal.prf.iter().map(ToString::to_string).collect(),
                groups: proposal.groups.iter().map(|group| format!("{group} (group {})", group.0)).collect(),
            })
            .collect(),
        ikesa_lifetime: rule.ikesa_lifetime.as_secs(),
        childsa_pfs: rule.childsa_pfs.0,
        childsa_lifetime_secs: lifetimes.hard.as_secs(),
        childsa_softlife_secs: lifetimes.soft.as_secs(),
        childsa_idletime_secs: lifetimes.idle.as_secs(),
        childsa_lifetime_kb: lifetimes.hard_bytes / 1024,
        childsa_softlife_kb: lifetimes.soft_bytes / 1024,
    }
}

/// One preshared entry, with its keys at level keymat.
pub(super) fn preshared(entry: &PresharedEntry, level: Privilege) -> PresharedInfo {
    let shown = level >= Privilege::Keymat;
    let octets = |info: KeyInfo| if shown { info } else { KeyInfo { octets: 0, ..info } };
    PresharedInfo {
        labels: entry.labels.clone(),
        local_key: entry.local.as_ref().map(|secret| octets(key("Pre-shared key, local", secret, shown))),
        remote_key: entry.remote.as_ref().map(|secret| octets(key("Pre-shared key, remote", secret, shown))),
    }
}

/// The groups this release has.
pub(super) fn groups() -> Vec<Item> {
    let item = |(group, strength, what): (GroupId, u16, &str)| Item::Group {
        value: group.0,
        strength,
        description: what.to_owned(),
    };
    config::groups().map(item).collect()
}

/// The ciphers this release has for IKE SAs.
pub(super) fn ciphers() -> Vec<Item> {
    let item = |(id, key_bits): (EncrId, _)| Item::EncrAlg { value: id.0, name: id.to_string(), key_bits };
    config::ciphers().map(item).collect()
}

/// The integrity algorithms this release has for IKE SAs.
pub(super) fn integrity() -> Vec<Item> {
    config::integrity().map(|id| Item::AuthAlg { value: id.0, name: id.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RuleSet, parse_preshared, parse_rules};
    use crate::core::api::{IkeSpis, IkeState, NatState, Path};
    use crate::wire::transform::Encr;

    const RULES: &str = "ikesa_lifetime_secs 7200 ikesa_xform { encr_alg aes-gcm auth_alg sha256 oakley_group 31 }
        { label \"a\" auth_method preshared local_addr 10.0.0.0/24 remote_addr ::1 childsa_pfs 19 remote_id FQDN = \"b\" }";

    fn rules() -> RuleSet {
        parse_rules("ikev2.config", RULES).unwrap().value
    }

    fn snapshot() -> IkeSaSnapshot {
        IkeSaSnapshot {
            spis: IkeSpis { initiator: [0, 0, 0, 0, 0, 0, 1, 2], responder: [0; 8] },
            role: api::Role::Responder,
            state: IkeState::HalfOpen,
            version: (2, 0),
            path: Path { local: "10.0.0.1:500".parse().unwrap(), remote: "10.0.0.2:500".parse().unwrap() },
            rule_label: Some("a".into()),
            encr: None,
            integ: None,
            prf: None,
            group: None,
            local_id: Some(Identification::address("10.0.0.1".parse().unwrap())),
            remote_id: None,
            nat: NatState { local: true, remote: false },
            age: Duration::from_millis(1500),
            expires_in: None,
            rekey_in: None,
            children: Vec::new(),
            children_created: 0,
            children_deleted: 0,
            messages_sent: 1,
            messages_received: 1,
            retransmits: 0,
            integrity_failures: 0,
        }
    }

    #[test]
    fn keys_are_shown_only_where_they_are_given() {
        let snapshot = snapshot();
        let info = ike_sa(&snapshot, None);
        assert!(info.keys.is_empty());
        assert_eq!((info.spi_initiator.as_str(), info.lifetime.age, info.childsa_pfs), ("0000000000000102", 1, None));
        assert_eq!(info.local_id.unwrap().kind, "IPv4 address");
        let secret = || Secret::copy_of(&[0xab, 0xcd]);
        let keys = IkeKeys {
            sk_d: secret(),
            sk_ai: Secret::default(),
            sk_ar: Secret::default(),
            sk_ei: secret(),
            sk_er: secret(),
            sk_pi: secret(),
            sk_pr: secret(),
        };
        let info = ike_sa(&snapshot, Some(&keys));
        assert_eq!(info.keys.len(), 7);
        assert_eq!(info.keys[0].value.as_ref().unwrap().expose(), "abcd");
    }

    /// What is shown is what was negotiated, not what the rule wants.
    #[test]
    fn the_group_of_the_newest_child_is_shown() {
        let child = |group, seconds| ChildSnapshot {
            spis: api::SpiPair { inbound: 1, outbound: 2 },
            suite: api::ChildSuite::esp_aead(Encr::CHACHA20_POLY1305),
            group,
            esn: true,
            mode: api::Mode::Tunnel,
            ts_local: Vec::new(),
            ts_remote: Vec::new(),
            action: 7,
            age: Duration::from_secs(seconds),
        };
        let shown = |children: &[ChildSnapshot]| {
            let snapshot = IkeSaSnapshot { children: children.to_vec(), ..snapshot() };
            ike_sa(&snapshot, None).childsa_pfs
        };
        assert_eq!(shown(&[]), None);
        assert_eq!(shown(&[child(GroupId::NONE, 9)]), Some(0));
        assert_eq!(shown(&[child(GroupId::NONE, 9), child(GroupId::CURVE25519, 3)]), Some(31));
    }

    #[test]
    fn rules_and_defaults_say_where_they_come_from() {
        let rules = rules();
        let info = rule(&rules.rules()[0]);
        assert_eq!(info.source, "ikev2.config:2");
        assert_eq!((info.ikesa_lifetime, info.childsa_pfs, info.has_key), (7200, 19, false));
        assert_eq!(info.local_addr[0].last.to_string(), "10.0.0.255");
        assert_eq!(info.transforms[0].groups, ["CURVE25519 (group 31)"]);
        let defaults = defaults(rules.defaults());
        assert_eq!((defaults[0].source, defaults[0].value.as_str()), (DefaultSource::Config, "7200"));
        assert_eq!((defaults[1].source, defaults[1].value.as_str()), (DefaultSource::Default, "3600"));
    }

    #[test]
    fn preshared_keys_need_keymat() {
        let keys = parse_preshared("k", "{ label \"a\" key 0x00112233445566778899aabbccddeeff }").unwrap().value;
        let entry = &keys.entries()[0];
        let hidden = preshared(entry, Privilege::Modkeys).local_key.unwrap();
        assert!(hidden.value.is_none() && hidden.octets == 0);
        let shown = preshared(entry, Privilege::Keymat).remote_key.unwrap();
        assert_eq!(shown.value.unwrap().expose(), "00112233445566778899aabbccddeeff");
    }
}
