//! Entries to rules in the order in which the data path compares them (spec section 4.5).
//!
//! The first match wins in the data path, so the precedence of Solaris is resolved here: entries get a priority that
//! counts down in load order, raised for pass, for ESP and for AH, and rules lie in descending priority, tunnel rules
//! before host rules. `drop` is raised by nothing, so any protecting or passing rule beats it.
//!
//! A protecting rule carries an action id: the first eight octets, as a big-endian number, of SHA-256 over the
//! canonical selectors, the tunnel and the accepted protections. Direction, priority and place in the file are left
//! out, so that the id survives a reload and the two halves of an old-style pair share their SAs.

use super::entry::{Direction, Entry, Flow, Negotiate, TunnelPart, Verdict};
use super::selectors::Prefix;
use super::{Malformed, Problem, Subject, Warning};
use ring::digest::{Context, SHA256};
use sadb_maps::Addr;
use sadb_maps::host::spd::CompiledRule;
use sadb_maps::policy::{self, Rule, rule_flag, verdict};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Priority of the first entry; later ones count down.
const FIRST_PRIORITY: u32 = 0x000f_ffff;
/// Raise for an entry that passes packets.
const RAISE_PASS: u32 = 0x0080_0000;
/// Raise for an entry with ESP.
const RAISE_ESP: u32 = 0x0040_0000;
/// Raise for an entry with AH.
const RAISE_AH: u32 = 0x0020_0000;
/// The raises together.
const RAISES: u32 = RAISE_PASS | RAISE_ESP | RAISE_AH;

/// The flags of versions of IP.
const FAMILIES: u8 = rule_flag::V4 | rule_flag::V6;

/// IP in IP and IPv6 in IP: what `negotiate transport` protects.
const ENCAPSULATIONS: [u8; 2] = [4, 41];

/// Whether a rule belongs to a tunnel in tunnel mode.
fn is_tunnel_mode(rule: &Rule) -> bool {
    rule.flags & rule_flag::TUNNEL != 0
}

/// What packets a rule is for, as far as directions overlap, and at which raise of the priority: one such rule is enough.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    tunnel: Option<String>,
    addresses: [Addr; 4],
    ports: [[u16; 2]; 2],
    proto: u8,
    families: u8,
    icmp: Option<[[u8; 2]; 2]>,
    raises: u32,
}

impl Place {
    fn of(compiled: &CompiledRule) -> Self {
        let r = &compiled.rule;
        Self {
            tunnel: compiled.tunnel.clone(),
            addresses: [r.laddr, r.lmask, r.raddr, r.rmask],
            ports: [r.lport, r.rport],
            proto: r.proto,
            families: r.flags & FAMILIES,
            icmp: (r.flags & rule_flag::ICMP != 0).then_some([r.icmp_type, r.icmp_code]),
            raises: r.priority & RAISES,
        }
    }
}

/// The rules that are there, by their places: index of the entry and directions.
#[derive(Default)]
struct Places(HashMap<Place, Vec<(u32, u8)>>);

impl Places {
    fn add(&mut self, compiled: &CompiledRule) {
        let rule = &compiled.rule;
        self.0.entry(Place::of(compiled)).or_default().push((rule.index, rule.directions));
    }

    /// Index of an entry with a rule that does all that this one would.
    fn covering(&self, compiled: &CompiledRule) -> Option<u32> {
        let there = self.0.get(&Place::of(compiled))?;
        there.iter().find(|(_, directions)| compiled.rule.directions & !directions == 0).map(|(index, _)| *index)
    }
}

/// Ends of a tunnel, local then remote, by its name; `None` when it is not defined (yet).
pub type TunnelEnds<'f> = dyn Fn(&str) -> Option<(IpAddr, IpAddr)> + 'f;

/// What [`compile`] made.
#[derive(Debug, Default)]
pub struct Compiled {
    /// `existing` and the new rules, in order of precedence.
    pub rules: Vec<CompiledRule>,
    /// Index given to each entry, in the order of the entries; `None` for one that was skipped as a duplicate.
    pub indexes: Vec<Option<u32>>,
    /// What keeps the entries from being loaded.
    pub problems: Vec<Problem>,
    /// The entries that the problems are in.
    pub malformed: Vec<Malformed>,
    /// Duplicates and tunnels that do not exist yet.
    pub warnings: Vec<Warning>,
}

/// Adds `entries` to the rules `existing`; the first new entry gets index `first_index`.
pub fn compile(existing: Vec<CompiledRule>, entries: &[Entry], first_index: u32, ends: &TunnelEnds<'_>) -> Compiled {
    let mut places = Places::default();
    existing.iter().for_each(|rule| places.add(rule));
    let mut modes = Modes::default();
    existing.iter().for_each(|rule| modes.add(rule));
    let mut result = Compiled { rules: existing, ..Compiled::default() };
    let mut index = first_index;
    for entry in entries {
        let mut added = false;
        if let Some(tunnel) = &entry.tunnel {
            let before = result.problems.len();
            check_tunnel(tunnel, &modes, &mut result, ends);
            if result.problems.len() > before {
                result.malformed.push(Malformed { line: entry.at.line, text: entry.text.clone() });
            }
        }
        for flow in flows(entry, ends) {
            let new = CompiledRule {
                rule: rule(entry, &flow, index, ends),
                tunnel: entry.tunnel.as_ref().map(|t| t.name.clone()),
            };
            if let Some(old) = places.covering(&new) {
                let text = format!("rule already exists as #INDEX {old}; skipped");
                result.warnings.push(Warning { at: entry.at, text });
                continue;
            }
            places.add(&new);
            modes.add(&new);
            result.rules.push(new);
            added = true;
        }
        result.indexes.push(added.then_some(index));
        index = index.saturating_add(u32::from(added));
    }
    result.rules.sort_by_key(|r| (!is_tunnel_mode(&r.rule), std::cmp::Reverse(r.rule.priority)));
    result
}

/// The names of tunnels with rules in force, and whether those are in tunnel mode.
#[derive(Default)]
struct Modes(HashSet<(String, bool)>);

impl Modes {
    fn add(&mut self, compiled: &CompiledRule) {
        self.0.extend(compiled.tunnel.clone().map(|name| (name, is_tunnel_mode(&compiled.rule))));
    }
}

/// One tunnel cannot have rules of both modes. A tunnel that does not exist yet is worth a warning, or an error for
/// transport mode.
fn check_tunnel(tunnel: &TunnelPart, modes: &Modes, result: &mut Compiled, ends: &TunnelEnds<'_>) {
    let mode = tunnel.negotiate == Negotiate::Tunnel;
    if modes.0.contains(&(tunnel.name.clone(), !mode)) {
        let text = format!("tunnel {} has rules of the other mode; one tunnel cannot mix them", tunnel.name);
        result.problems.push(Problem::Bad(Subject::Negotiate, text, tunnel.at));
    }
    if ends(&tunnel.name).is_some() {
        return;
    }
    if !mode {
        // What such a rule compares are the ends themselves, which cannot be filled in later.
        let text = format!(
            "negotiate transport needs a tunnel that exists: first 'espadm tunnel create {} -a local=A,remote=B'",
            tunnel.name
        );
        result.problems.push(Problem::Bad(Subject::Tunnel, text, tunnel.at));
    } else {
        let text = format!(
            "tunnel {0} does not exist yet; the rule takes effect with 'espadm tunnel create {0} -a local=A,remote=B'",
            tunnel.name
        );
        result.warnings.push(Warning { at: tunnel.at, text });
    }
}

/// The flows of an entry. With `negotiate transport` they are the encapsulations between the ends of the tunnel.
fn flows(entry: &Entry, ends: &TunnelEnds<'_>) -> Vec<Flow> {
    let Some(TunnelPart { name, negotiate: Negotiate::Transport, .. }) = &entry.tunnel else {
        return entry.flows.clone();
    };
    let Some((local, remote)) = ends(name).map(|(l, r)| (Prefix::host(l), Prefix::host(r))) else {
        return Vec::new();
    };
    let outer = |flow: &Flow, proto| Flow { local: Some(local), remote: Some(remote), proto, ..*flow };
    entry.flows.iter().flat_map(|flow| ENCAPSULATIONS.map(|proto| outer(flow, proto))).collect()
}

fn rule(entry: &Entry, flow: &Flow, index: u32, ends: &TunnelEnds<'_>) -> Rule {
    let (laddr, lmask) = prefix(flow.local);
    let (raddr, rmask) = prefix(flow.remote);
    let mut rule = Rule {
        laddr,
        lmask,
        raddr,
        rmask,
        lport: port(flow.lport),
        rport: port(flow.rport),
        proto: flow.proto,
        directions: flow.direction.bits(),
        verdict: verdict::PASS,
        flags: family(flow),
        icmp_type: [0, 255],
        icmp_code: [0, 255],
        priority: FIRST_PRIORITY.saturating_sub(index.saturating_sub(1)),
        index,
        action_id: 0,
        action_count: 0,
        tunnel_mode: 0,
        tunnel_local: Addr::UNSPECIFIED,
        tunnel_remote: Addr::UNSPECIFIED,
        scope: 0,
        reserved: 0,
        actions: [policy::Action::default(); policy::MAX_ACTIONS],
    };
    if let Some(kind) = flow.icmp_type {
        rule.flags |= rule_flag::ICMP;
        rule.icmp_type = kind;
        rule.icmp_code = flow.icmp_code.unwrap_or([0, 255]);
    }
    if let Some(tunnel) = entry.tunnel.as_ref().filter(|t| t.negotiate == Negotiate::Tunnel) {
        rule.flags |= rule_flag::TUNNEL;
        rule.tunnel_mode = 1;
        if let Some((local, remote)) = ends(&tunnel.name) {
            rule.tunnel_local = local.into();
            rule.tunnel_remote = remote.into();
        }
    }
    match &entry.verdict {
        Verdict::Pass => rule.priority |= RAISE_PASS,
        Verdict::Drop => rule.verdict = verdict::DROP,
        Verdict::Protect { accepted, unique } => {
            rule.verdict = verdict::PROTECT;
            if *unique {
                rule.flags |= rule_flag::UNIQUE;
            }
            for (place, action) in rule.actions.iter_mut().zip(accepted) {
                *place = *action;
                rule.action_count += 1;
                if action.encr != 0 {
                    rule.priority |= RAISE_ESP;
                }
                if action.ah != 0 {
                    rule.flags |= rule_flag::AH;
                    rule.priority |= RAISE_AH;
                }
            }
            rule.action_id = action_id(&rule, entry.tunnel.as_ref());
        }
    }
    rule
}

/// A rule with an address, be it of length 0, is for that version of IP only.
fn family(flow: &Flow) -> u8 {
    match flow.local.or(flow.remote) {
        None => 0,
        Some(prefix) if prefix.addr.is_ipv4() => rule_flag::V4,
        Some(_) => rule_flag::V6,
    }
}

fn prefix(prefix: Option<Prefix>) -> (Addr, Addr) {
    match prefix {
        None => (Addr::default(), Addr::default()),
        Some(Prefix { addr, len }) => {
            let bits = u32::from(len) + if addr.is_ipv4() { 96 } else { 0 };
            (addr.into(), Addr::mask(bits))
        }
    }
}

fn port(port: Option<u16>) -> [u16; 2] {
    port.map_or([0, u16::MAX], |p| [p, p])
}

/// See the head of the module.
fn action_id(rule: &Rule, tunnel: Option<&TunnelPart>) -> u64 {
    let mut hash = Context::new(&SHA256);
    hash.update(b"ipsec policy action 1\0");
    if let Some(tunnel) = tunnel {
        hash.update(if tunnel.negotiate == Negotiate::Tunnel { b"tunnel\0" } else { b"transport\0" });
        hash.update(tunnel.name.as_bytes());
    }
    hash.update(b"\0");
    // The addresses of `negotiate transport` come from the tunnel, whose name is in the hash already.
    if tunnel.is_none_or(|t| t.negotiate == Negotiate::Tunnel) {
        for addr in [rule.laddr, rule.lmask, rule.raddr, rule.rmask] {
            hash.update(&addr.octets());
        }
    }
    for [low, high] in [rule.lport, rule.rport] {
        hash.update(&low.to_be_bytes());
        hash.update(&high.to_be_bytes());
    }
    // The version of IP shows in every prefix but ::/0.
    let no_prefix = rule.lmask == Addr::UNSPECIFIED && rule.rmask == Addr::UNSPECIFIED;
    let family = if no_prefix { rule_flag::V6 } else { 0 };
    hash.update(&[rule.proto, rule.flags & (rule_flag::UNIQUE | rule_flag::ICMP | family)]);
    hash.update(&rule.icmp_type);
    hash.update(&rule.icmp_code);
    for action in rule.actions.iter().take(rule.action_count as usize) {
        hash.update(&[action.encr, action.esp_auth, action.ah]);
        for bits in [action.encr_bits, action.esp_auth_bits, action.ah_bits].into_iter().flatten() {
            hash.update(&bits.to_be_bytes());
        }
    }
    let digest = hash.finish();
    let id = digest.as_ref().first_chunk().map_or(0, |first: &[u8; 8]| u64::from_be_bytes(*first));
    id.max(1)
}

/// Directions of a rule from its bits.
pub fn direction(rule: &Rule) -> Direction {
    match rule.directions {
        policy::direction::IN => Direction::In,
        policy::direction::OUT => Direction::Out,
        _ => Direction::Both,
    }
}
