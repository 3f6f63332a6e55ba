//! From the syntax tree of ikev2.config to the rules the core works with: defaults filled in, values checked against each
//! other, labels unique. Part of the Peer Authorization Database of RFC 4301 section 4.4.3.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::AddressSpec;
use super::algorithms::{self, Cipher, Hash};
use super::keywords::Keyword;
use super::parse::{Block, File, IdKind, Identity, Item, Method, Value};
use super::source::{Position, Report, Spanned};
use crate::core::api::{
    AuthBy, ChildLifetimes, IdGlob, IdPattern, IkeProposal, LocalIdentity, Psk, RetryPolicy, Rule, SourceLine,
};
use crate::pki::{DnPattern, KeyStore, OwnCertificate};
use crate::wire::id::{IdType, Identification};
use crate::wire::transform::GroupId;

/// The longest label in octets: the field of the administration protocol has 256 with its end.
pub const MAX_LABEL: usize = 255;

/// Values that stand where neither rule nor file says otherwise. `ikeadm get defaults` prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Life of an IKE SA.
    pub ikesa_lifetime: Duration,
    /// Lifetimes of child SAs.
    pub child: ChildLifetimes,
    /// Group of CREATE_CHILD_SA.
    pub childsa_pfs: GroupId,
    /// Retransmission.
    pub retry: RetryPolicy,
    /// Silence of the peer before it is probed; not tunable in the file.
    pub dpd_interval: Duration,
}

impl Defaults {
    /// What this release starts from.
    pub const BUILT_IN: Self = Self {
        ikesa_lifetime: Duration::from_secs(3600),
        child: ChildLifetimes {
            soft: Duration::from_secs(3240),
            hard: Duration::from_secs(3600),
            soft_bytes: 0,
            hard_bytes: 0,
            idle: Duration::ZERO,
        },
        childsa_pfs: GroupId::NONE,
        retry: RetryPolicy {
            limit: 5,
            initial: Duration::from_millis(500),
            max: Duration::from_secs(30),
            patience: None,
        },
        dpd_interval: Duration::from_secs(30),
    };
}

/// A rule and the addresses it is chosen by.
#[derive(Debug, Clone)]
pub struct ConfiguredRule {
    /// What the core negotiates under.
    pub rule: Arc<Rule>,
    /// Our addresses; never empty.
    pub local_addr: Vec<AddressSpec>,
    /// The peer's addresses; never empty.
    pub remote_addr: Vec<AddressSpec>,
}

impl ConfiguredRule {
    /// Whether the rule covers this pair.
    #[must_use]
    pub fn covers(&self, local: IpAddr, remote: IpAddr) -> bool {
        self.local_addr.iter().any(|spec| spec.contains(local))
            && self.remote_addr.iter().any(|spec| spec.contains(remote))
    }
}

/// A whole ikev2.config, in the order of the file.
#[derive(Debug, Clone)]
pub struct RuleSet {
    rules: Vec<ConfiguredRule>,
    defaults: Defaults,
}

impl Default for RuleSet {
    /// No rules.
    fn default() -> Self {
        Self { rules: Vec::new(), defaults: Defaults::BUILT_IN }
    }
}

impl RuleSet {
    /// The rules in the order of the file.
    #[must_use]
    pub fn rules(&self) -> &[ConfiguredRule] {
        &self.rules
    }

    /// The values that rules without their own have.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// The rules that cover this pair of addresses, in the order of the file.
    pub fn covering(&self, local: IpAddr, remote: IpAddr) -> impl Iterator<Item = &ConfiguredRule> {
        self.rules.iter().filter(move |rule| rule.covers(local, remote))
    }

    /// The rule with this label.
    #[must_use]
    pub fn by_label(&self, label: &str) -> Option<&ConfiguredRule> {
        self.rules.iter().find(|rule| rule.rule.label == label)
    }

    /// Gives rules with a certificate of ours the exact name that stands in it, where theirs is a distinguished name. Returns
    /// the labels of those for which the store has no certificate with its key.
    pub fn settle(&mut self, store: &KeyStore) -> Vec<String> {
        let mut without = Vec::new();
        for configured in &mut self.rules {
            let rule = &configured.rule;
            let (AuthBy::Certificate(kind), LocalIdentity::Fixed(id)) = (rule.local_auth, &rule.local_id) else {
                continue;
            };
            let id = store.name_of_own(id).unwrap_or_else(|| id.clone());
            let fits = |own: &OwnCertificate| kind.is_none_or(|kind| kind == own.key.public().kind());
            if !store.own_for(&id).any(fits) {
                without.push(rule.label.clone());
            }
            Arc::make_mut(&mut configured.rule).local_id = LocalIdentity::Fixed(id);
        }
        without
    }

    /// Makes requests under every rule wait so long for their answer in all; `None` is what the file says.
    pub fn wait(&mut self, patience: Option<Duration>) {
        self.defaults.retry.patience = patience;
        self.rules.iter_mut().for_each(|configured| Arc::make_mut(&mut configured.rule).retry.patience = patience);
    }

    /// Gives every rule the keys that `find` has for its label, and takes away those of the others. Returns the labels
    /// that have none and need some.
    pub(super) fn attach(&mut self, find: impl Fn(&str) -> Option<Psk>) -> Vec<String> {
        let mut without = Vec::new();
        for configured in &mut self.rules {
            let psk = find(&configured.rule.label);
            if psk.is_none() && configured.rule.needs_psk() {
                without.push(configured.rule.label.clone());
            }
            Arc::make_mut(&mut configured.rule).psk = psk;
        }
        without
    }
}

/// Builds the rules; findings go to `report`.
pub(super) fn build(file: &File, report: &mut Report) -> RuleSet {
    let name = report.file().to_owned();
    let mut builder = Builder { report, file: name };
    let defaults = builder.defaults(&file.globals);
    let method = builder.method(&file.globals, Keyword::AuthMethod);
    let mut proposals = builder.proposals(&file.globals);
    // An item that could not be read may have been the transform; its error is enough.
    proposals.any |= !file.complete;
    let mut rules = Vec::new();
    let mut labels: HashMap<String, Position> = HashMap::new();
    for block in &file.rules {
        let Some(rule) = builder.rule(block, &defaults, method, &proposals) else { continue };
        let at = find(&block.items, Keyword::Label).map_or(block.at, |item| item.value.at);
        if let Some(first) = labels.insert(rule.rule.label.clone(), at) {
            builder
                .report
                .error(at, format!("the label \"{}\" is already that of the rule at {first}", rule.rule.label));
        }
        rules.push(rule);
    }
    RuleSet { rules, defaults }
}

/// Global transforms, if there are any.
struct Proposals {
    list: Vec<IkeProposal>,
    /// A transform was written, good or not.
    any: bool,
}

struct Builder<'r> {
    report: &'r mut Report,
    file: String,
}

fn find(items: &[Item], keyword: Keyword) -> Option<&Item> {
    items.iter().find(|item| item.keyword == keyword)
}

fn number(items: &[Item], keyword: Keyword) -> Option<Spanned<u64>> {
    let item = find(items, keyword)?;
    match item.value.value {
        Value::Number(value) => Some(Spanned::new(value, item.value.at)),
        _ => None,
    }
}

fn duration(items: &[Item], keyword: Keyword) -> Option<Spanned<Duration>> {
    let item = find(items, keyword)?;
    match item.value.value {
        Value::Seconds(value) => Some(Spanned::new(value, item.value.at)),
        _ => None,
    }
}

fn text(items: &[Item], keyword: Keyword) -> Option<Spanned<&str>> {
    let item = find(items, keyword)?;
    match &item.value.value {
        Value::Text(value) => Some(Spanned::new(value.as_str(), item.value.at)),
        _ => None,
    }
}

fn addresses(items: &[Item], keyword: Keyword) -> Vec<AddressSpec> {
    let spec = |item: &Item| match item.value.value {
        Value::Address(spec) if item.keyword == keyword => Some(spec),
        _ => None,
    };
    items.iter().filter_map(spec).collect()
}

impl Builder<'_> {
    fn defaults(&mut self, globals: &[Item]) -> Defaults {
        let built_in = Defaults::BUILT_IN;
        let mut retry = built_in.retry;
        if let Some(limit) = number(globals, Keyword::RetryLimit) {
            match u32::try_from(limit.value).ok().filter(|limit| *limit <= 30) {
                Some(limit) => retry.limit = limit,
                None => self.report.error(limit.at, "expected at most 30 retransmissions"),
            }
        }
        let mut timer = |keyword, value: &mut Duration| {
            if let Some(given) = duration(globals, keyword) {
                if given.value < Duration::from_millis(10) || given.value > Duration::from_secs(3600) {
                    self.report.error(given.at, "expected 0.01 to 3600 seconds");
                }
                *value = given.value;
            }
        };
        timer(Keyword::RetryTimerInit, &mut retry.initial);
        timer(Keyword::RetryTimerMax, &mut retry.max);
        if retry.max < retry.initial
            && let Some(item) = find(globals, Keyword::RetryTimerMax).or(find(globals, Keyword::RetryTimerInit))
        {
            self.report.error(item.at, "retry_timer_max is less than retry_timer_init");
        }
        Defaults {
            ikesa_lifetime: self.ikesa_lifetime(globals, built_in.ikesa_lifetime),
            child: self.child_lifetimes(globals, built_in.child),
            childsa_pfs: self.pfs(globals, built_in.childsa_pfs),
            retry,
            dpd_interval: built_in.dpd_interval,
        }
    }

    fn rule(
        &mut self,
        block: &Block,
        defaults: &Defaults,
        method: Option<AuthBy>,
        global: &Proposals,
    ) -> Option<ConfiguredRule> {
        let items = &block.items;
        let label = self.label(block);
        let local_addr = self.addresses(block, Keyword::LocalAddr, "local_addr");
        let remote_addr = self.addresses(block, Keyword::RemoteAddr, "remote_addr");
        let (local_auth, remote_auth) = self.methods(block, method);
        let own = self.proposals(items);
        if block.complete && !own.any && !global.any {
            self.missing(block, "an ikesa_xform, in the rule or outside every block");
        }
        let rule = Rule {
            label: label.clone().unwrap_or_default(),
            source: SourceLine { file: self.file.clone(), line: block.at.line },
            local_id: self.local_id(items).unwrap_or(LocalIdentity::Address),
            remote_id: self.remote_id(items, remote_auth).unwrap_or(IdPattern::PeerAddress),
            local_auth,
            remote_auth,
            required_issuer: self.required_issuer(items, remote_auth),
            psk: None,
            proposals: if own.any { own.list } else { global.list.clone() },
            ikesa_lifetime: self.ikesa_lifetime(items, defaults.ikesa_lifetime),
            child_lifetimes: self.child_lifetimes(items, defaults.child),
            childsa_pfs: self.pfs(items, defaults.childsa_pfs),
            retry: defaults.retry,
            dpd_interval: defaults.dpd_interval,
        };
        // Only now: a rule without a label has other things to complain about as well.
        label.map(|_| ConfiguredRule { rule: Arc::new(rule), local_addr, remote_addr })
    }

    fn missing(&mut self, block: &Block, what: &str) {
        self.report.error(block.at, format!("this block lacks {what}"));
    }

    fn label(&mut self, block: &Block) -> Option<String> {
        let Some(label) = text(&block.items, Keyword::Label) else {
            if block.complete {
                self.missing(block, "a label");
            }
            return None;
        };
        if label.value.is_empty() || label.value.len() > MAX_LABEL {
            self.report.error(label.at, format!("expected a label of 1 to {MAX_LABEL} octets"));
            return None;
        }
        if label.value.chars().any(char::is_control) {
            self.report.error(label.at, "expected a label without control characters");
            return None;
        }
        Some(label.value.to_owned())
    }

    fn addresses(&mut self, block: &Block, keyword: Keyword, word: &str) -> Vec<AddressSpec> {
        let specs = addresses(&block.items, keyword);
        if specs.is_empty() && block.complete {
            self.missing(block, &format!("a {word}"));
        }
        specs
    }

    /// The method that a keyword in `items` gives.
    fn method(&mut self, items: &[Item], keyword: Keyword) -> Option<AuthBy> {
        let item = find(items, keyword)?;
        match item.value.value {
            Value::Method(Method::Preshared) => Some(AuthBy::Preshared),
            Value::Method(Method::Cert(kind)) => Some(AuthBy::Certificate(kind)),
            Value::Method(Method::Dss) => {
                let text = "dss_sig is known but not supported by this release; use rsa_sig, ecdsa_sig or eddsa_sig";
                self.report.error(item.value.at, text);
                // Its error is enough.
                Some(AuthBy::Preshared)
            }
            _ => None,
        }
    }

    /// How we prove ourselves, and how the peer has to.
    fn methods(&mut self, block: &Block, default: Option<AuthBy>) -> (AuthBy, AuthBy) {
        let items = &block.items;
        let both = self.method(items, Keyword::AuthMethod).or(default);
        let local = self.method(items, Keyword::LocalAuthMethod).or(both);
        let remote = self.method(items, Keyword::RemoteAuthMethod).or(both);
        if (local.is_none() || remote.is_none()) && block.complete {
            self.missing(block, "an auth_method");
        }
        (local.unwrap_or_default(), remote.unwrap_or_default())
    }

    fn required_issuer(&mut self, items: &[Item], remote: AuthBy) -> Option<DnPattern> {
        let issuer = text(items, Keyword::RequiredIssuer)?;
        if remote == AuthBy::Preshared {
            self.report.error(
                issuer.at,
                "required_issuer is about certificates, and the peer proves itself with a preshared key",
            );
            return None;
        }
        self.dn(issuer.value, issuer.at)
    }

    fn dn(&mut self, value: &str, at: Position) -> Option<DnPattern> {
        DnPattern::parse(value).map_err(|error| self.report.error(at, error.to_string())).ok()
    }

    fn local_id(&mut self, items: &[Item]) -> Option<LocalIdentity> {
        let item = find(items, Keyword::LocalId)?;
        let at = item.value.at;
        let Value::Identity(identity) = &item.value.value else { return None };
        let Identity::Named { kind, value } = identity else {
            self.report.error(at, "local_id names one identity; ANY is for remote_id");
            return None;
        };
        if *kind == IdKind::Ip {
            match AddressSpec::parse(value).map(|spec| spec.single()) {
                Ok(Some(address)) => return Some(LocalIdentity::Fixed(Identification::address(address))),
                Ok(None) => self.report.error(at, "local_id names one address, not a prefix or range"),
                Err(error) => self.report.error(at, error.to_string()),
            }
            return None;
        }
        if *kind != IdKind::KeyId && value.contains('*') {
            self.report.error(at, "local_id names one identity; \"*\" is for remote_id");
            return None;
        }
        self.exact(*kind, value, at).map(LocalIdentity::Fixed)
    }

    fn remote_id(&mut self, items: &[Item], method: AuthBy) -> Option<IdPattern> {
        let item = find(items, Keyword::RemoteId)?;
        let at = item.value.at;
        let Value::Identity(identity) = &item.value.value else { return None };
        let (kind, value) = match identity {
            // What a certificate may call itself is said by who issued it.
            Identity::Any if method != AuthBy::Preshared => return Some(IdPattern::Any),
            Identity::Any => {
                // V2-MISC-06
                let text = "whoever holds the preshared key of this rule may call itself anything: a key for each peer, \
                            with its identity here, keeps them apart";
                self.report.warning(at, text);
                return Some(IdPattern::Any);
            }
            Identity::Named { kind, value } => (*kind, value),
        };
        match kind {
            IdKind::Ip => match AddressSpec::parse(value) {
                Ok(spec) => {
                    let (first, last) = spec.bounds();
                    Some(IdPattern::AddressRange(first, last))
                }
                Err(error) => {
                    self.report.error(at, error.to_string());
                    None
                }
            },
            IdKind::Fqdn => self.exact(kind, value, at).map(|_| IdPattern::Fqdn(IdGlob(value.clone()))),
            IdKind::Email => self.exact(kind, value, at).map(|_| IdPattern::Email(IdGlob(value.clone()))),
            IdKind::Dn => self.dn(value, at).map(IdPattern::Dn),
            IdKind::KeyId => self.exact(kind, value, at).map(IdPattern::Exact),
        }
    }

    fn exact(&mut self, kind: IdKind, value: &str, at: Position) -> Option<Identification> {
        let (id_type, printable) = match kind {
            IdKind::Fqdn => (IdType::FQDN, true),
            IdKind::Email => (IdType::RFC822_ADDR, true),
            IdKind::KeyId => (IdType::KEY_ID, false),
            IdKind::Dn => {
                let der = self.dn(value, at)?.to_der();
                if der.is_none() {
                    self.report.error(at, "a part of this name has characters that its type does not allow");
                }
                return Identification::new(IdType::DER_ASN1_DN, der?).ok();
            }
            // Read by who calls.
            IdKind::Ip => return None,
        };
        if printable && !value.bytes().all(|b| b.is_ascii_graphic()) {
            self.report.error(at, "expected printable ASCII without blanks");
            return None;
        }
        if kind == IdKind::Email && !value.contains('@') {
            self.report.error(at, "expected user@domain");
            return None;
        }
        match Identification::new(id_type, value.as_bytes().to_vec()) {
            Ok(id) => Some(id),
            Err(_) => {
                self.report.error(at, "expected an identity of 1 to 4096 octets");
                None
            }
        }
    }

    fn proposals(&mut self, items: &[Item]) -> Proposals {
        let mut proposals = Proposals { list: Vec::new(), any: false };
        for item in items {
            let Value::Transform(block) = &item.value.value else { continue };
            proposals.any = true;
            proposals.list.extend(self.proposal(block));
        }
        proposals
    }

    fn proposal(&mut self, block: &Block) -> Option<IkeProposal> {
        let items = &block.items;
        let cipher = find(items, Keyword::EncrAlg).and_then(|item| match &item.value.value {
            Value::Cipher(cipher) => Some(cipher),
            _ => None,
        });
        let hash = |keyword| {
            find(items, keyword).and_then(|item| match item.value.value {
                Value::Hash(hash) => Some((hash, item.value.at)),
                _ => None,
            })
        };
        let (auth, prf) = (hash(Keyword::AuthAlg), hash(Keyword::PrfAlg));
        let group = number(items, Keyword::OakleyGroup)
            .map(|group| algorithms::group(group.value).map_err(|message| self.report.error(group.at, message)));
        if block.complete {
            if cipher.is_none() {
                self.missing(block, "an encr_alg");
            }
            if group.is_none() {
                self.missing(block, "an oakley_group");
            }
        }
        let (cipher, group) = (cipher?, group?.ok()?);
        self.weak(items, cipher, [auth, prf], group);
        let integ = if cipher.kind.is_aead() {
            if let (Some((auth, _)), Some((prf, at))) = (auth, prf)
                && auth != prf
            {
                self.report.error(
                    at,
                    "with a combined-mode cipher auth_alg and prf_alg both name the PRF; here they name different ones",
                );
                return None;
            }
            Vec::new()
        } else {
            let Some((auth, _)) = auth else {
                if block.complete {
                    self.missing(block, "an auth_alg, which a cipher without authentication of its own needs");
                }
                return None;
            };
            vec![auth.integ()]
        };
        // Said nowhere, the PRF of a combined-mode cipher is left to the peer's choice among what there is.
        let prf = match prf.or(auth) {
            Some((hash, _)) => vec![hash.prf()],
            None => [Hash::Sha256, Hash::Sha384, Hash::Sha512].map(Hash::prf).to_vec(),
        };
        Some(IkeProposal { encr: cipher.transforms(), integ, prf, groups: vec![group] })
    }

    /// One warning for each weak choice of a transform (ALG-12).
    fn weak(&mut self, items: &[Item], cipher: &Cipher, hashes: [Option<(Hash, Position)>; 2], group: GroupId) {
        let at = |keyword| find(items, keyword).map_or(Position::START, |item| item.value.at);
        if let Some(advice) = cipher.kind.advice() {
            self.report.warning(at(Keyword::EncrAlg), advice);
        }
        if let Some((at, advice)) = hashes.into_iter().flatten().find_map(|(hash, at)| Some((at, hash.advice()?))) {
            self.report.warning(at, advice);
        }
        if let Some(advice) = algorithms::group_advice(group) {
            self.report.warning(at(Keyword::OakleyGroup), advice);
        }
    }

    fn pfs(&mut self, items: &[Item], default: GroupId) -> GroupId {
        let Some(given) = number(items, Keyword::ChildsaPfs) else { return default };
        if given.value == 0 {
            return GroupId::NONE;
        }
        match algorithms::group(given.value) {
            Ok(group) => {
                if let Some(advice) = algorithms::group_advice(group) {
                    self.report.warning(given.at, advice);
                }
                group
            }
            Err(message) => {
                self.report.error(given.at, format!("{message}, or 0 for none"));
                default
            }
        }
    }

    fn ikesa_lifetime(&mut self, items: &[Item], default: Duration) -> Duration {
        match number(items, Keyword::IkesaLifetimeSecs) {
            None => default,
            Some(given) => self.secs(given, 1).unwrap_or(default),
        }
    }

    /// A number of seconds between `least` and what 32 bits hold.
    fn secs(&mut self, given: Spanned<u64>, least: u64) -> Option<Duration> {
        if given.value < least || given.value > u64::from(u32::MAX) {
            self.report.error(given.at, format!("expected {least} to {} seconds", u32::MAX));
            return None;
        }
        Some(Duration::from_secs(given.value))
    }

    /// Kilobytes as octets.
    fn kilobytes(&mut self, given: Spanned<u64>) -> Option<u64> {
        let octets = given.value.checked_mul(1024);
        if octets.is_none() {
            self.report.error(given.at, format!("expected at most {} kilobytes", u64::MAX / 1024));
        }
        octets
    }

    fn child_lifetimes(&mut self, items: &[Item], default: ChildLifetimes) -> ChildLifetimes {
        let mut lifetimes = default;
        let soft = number(items, Keyword::ChildsaSoftlifeSecs);
        if let Some(hard) = number(items, Keyword::ChildsaLifetimeSecs).and_then(|given| self.secs(given, 1)) {
            lifetimes.hard = hard;
            lifetimes.soft = hard * 9 / 10;
            if let Some(given) = &soft
                && let Some(soft) = self.secs(given.clone(), 1)
            {
                if soft > hard {
                    self.report.error(given.at, "the soft lifetime is longer than the hard one");
                }
                // Equal is how the file asks for no soft limit.
                lifetimes.soft = if soft == hard { Duration::ZERO } else { soft };
            }
        } else if let Some(given) = soft {
            self.report.warning(given.at, "childsa_softlife_secs is ignored without childsa_lifetime_secs beside it");
        }
        let soft = number(items, Keyword::ChildsaSoftlifeKb);
        if let Some(hard) = number(items, Keyword::ChildsaLifetimeKb).and_then(|given| self.kilobytes(given)) {
            lifetimes.hard_bytes = hard;
            lifetimes.soft_bytes = hard / 10 * 9;
            if let Some(given) = &soft
                && let Some(soft) = self.kilobytes(given.clone())
            {
                if soft > hard {
                    self.report.error(given.at, "the soft lifetime is longer than the hard one");
                }
                lifetimes.soft_bytes = if soft == hard { 0 } else { soft };
            }
        } else if let Some(given) = soft {
            self.report.warning(given.at, "childsa_softlife_kb is ignored without childsa_lifetime_kb beside it");
        }
        if let Some(idle) = number(items, Keyword::ChildsaIdletimeSecs).and_then(|given| self.secs(given, 0)) {
            lifetimes.idle = idle;
        }
        lifetimes
    }
}
