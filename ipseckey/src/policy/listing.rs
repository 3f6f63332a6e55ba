//! How `ipsecconf -l` prints rules in force (spec section 4.6).

use super::compile::direction;
use super::entry::Direction;
use crate::algorithms::{self, Kind};
use crate::names::Names;
use sadb_maps::Addr;
use sadb_maps::host::spd::CompiledRule;
use sadb_maps::policy::{Action, Rule, rule_flag, verdict};
use serde::Serialize;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Two lines for one rule, as ipsecinit.conf would have them, every token followed by a blank. Without `names`
/// everything is numeric.
pub fn text(rule: &CompiledRule, names: Option<&dyn Names>) -> String {
    let mut out = match &rule.tunnel {
        Some(tunnel) => format!("#INDEX {tunnel},{} \n", rule.rule.index),
        None => format!("#INDEX {} \n", rule.rule.index),
    };
    // Writing to a String cannot fail.
    let _ = write_rule(&mut out, rule, names);
    out
}

fn write_rule(out: &mut String, policy: &CompiledRule, names: Option<&dyn Names>) -> std::fmt::Result {
    let rule = &policy.rule;
    out.push_str("{ ");
    let tunnel_mode = rule.flags & rule_flag::TUNNEL != 0;
    if let Some(tunnel) = &policy.tunnel {
        write!(out, "tunnel {tunnel} negotiate {} ", if tunnel_mode { "tunnel" } else { "transport" })?;
    }
    // What `negotiate transport` compares comes from the tunnel; the entry has no selectors.
    if policy.tunnel.is_none() || tunnel_mode {
        write_selectors(out, rule, names)?;
    }
    let dir = match direction(rule) {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Both => "both",
    };
    write!(out, "dir {dir} }} ")?;
    match rule.verdict {
        verdict::PASS => out.push_str("pass { } "),
        verdict::DROP => out.push_str("drop { } "),
        _ => {
            let sa = if rule.flags & rule_flag::UNIQUE != 0 { "unique" } else { "shared" };
            for (i, action) in rule.actions.iter().take(rule.action_count as usize).enumerate() {
                let or = if i > 0 { "or " } else { "" };
                write!(out, "{or}ipsec {{ {}sa {sa} }} ", properties(action))?;
            }
        }
    }
    out.push('\n');
    Ok(())
}

fn write_selectors(out: &mut String, rule: &Rule, names: Option<&dyn Names>) -> std::fmt::Result {
    if rule.proto != 0 {
        write!(out, "ulp {} ", protocol(rule.proto, names))?;
    }
    if let Some(prefix) = prefix(rule.laddr, rule.lmask, names) {
        write!(out, "laddr {prefix} ")?;
    }
    if let Some(port) = port(rule.lport, rule.proto, names) {
        write!(out, "lport {port} ")?;
    }
    if let Some(prefix) = remote(rule, names) {
        write!(out, "raddr {prefix} ")?;
    }
    if let Some(port) = port(rule.rport, rule.proto, names) {
        write!(out, "rport {port} ")?;
    }
    if rule.flags & rule_flag::ICMP != 0 {
        write!(out, "type {} ", range(rule.icmp_type))?;
        if rule.icmp_code != [0, 255] {
            write!(out, "code {} ", range(rule.icmp_code))?;
        }
    }
    Ok(())
}

fn protocol(proto: u8, names: Option<&dyn Names>) -> String {
    names.and_then(|n| n.protocol_name(proto)).unwrap_or_else(|| proto.to_string())
}

fn port([low, high]: [u16; 2], proto: u8, names: Option<&dyn Names>) -> Option<String> {
    if (low, high) == (0, u16::MAX) {
        return None;
    }
    Some(names.and_then(|n| n.service_name(low, proto)).unwrap_or_else(|| low.to_string()))
}

fn range([low, high]: [u8; 2]) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

/// Prefix of the other end. Of a rule whose only address is `::/0`, wherever that was written, this is it.
fn remote(rule: &Rule, names: Option<&dyn Names>) -> Option<String> {
    let v6_only = rule.flags & rule_flag::V6 != 0 && rule.lmask == Addr::UNSPECIFIED;
    prefix(rule.raddr, rule.rmask, names).or_else(|| v6_only.then(|| "::/0".to_owned()))
}

/// `A/n`, or nothing for every address.
fn prefix(addr: Addr, mask: Addr, names: Option<&dyn Names>) -> Option<String> {
    let bits = u128::from_be_bytes(mask.octets()).leading_ones();
    if bits == 0 {
        return None;
    }
    let ip = IpAddr::from(addr);
    let (len, most) = if ip.is_ipv4() { (bits.saturating_sub(96), 32) } else { (bits, 128) };
    let name = names.filter(|_| len == most).and_then(|n| n.host_name(ip));
    Some(format!("{}/{len}", name.unwrap_or_else(|| ip.to_string())))
}

/// The algorithms of an action, each token followed by a blank.
fn properties(action: &Action) -> String {
    let mut out = String::new();
    let mut push = |keyword: &str, kind, id, bits: [u16; 2]| {
        if id != 0 {
            // Writing to a String cannot fail.
            let _ = write!(out, "{keyword} {} ", algorithm(kind, id, bits));
        }
    };
    push("auth_algs", Kind::Authentication, action.ah, action.ah_bits);
    push("encr_algs", Kind::Encryption, action.encr, action.encr_bits);
    push("encr_auth_algs", Kind::Authentication, action.esp_auth, action.esp_auth_bits);
    out
}

/// Name and key range: nothing for keys of one size, `(n)`, `(n..)` up to the greatest, or `(n..m)`.
fn algorithm(kind: Kind, id: u8, [low, high]: [u16; 2]) -> String {
    let Some(known) = algorithms::in_use(kind, id) else { return id.to_string() };
    let range = match (low, high) {
        _ if known.key.is_fixed() => String::new(),
        (low, high) if low == high => format!("({low})"),
        (low, high) if high == known.key.max => format!("({low}..)"),
        (low, high) => format!("({low}..{high})"),
    };
    format!("{}{range}", known.name())
}

/// A rule for `--json`. Numbers and addresses are never resolved to names.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipsecconf(8) repeats them")]
pub struct JsonRule {
    pub index: u32,
    pub priority: u32,
    pub tunnel: Option<String>,
    pub negotiate: Option<&'static str>,
    pub tunnel_local: Option<IpAddr>,
    pub tunnel_remote: Option<IpAddr>,
    pub ulp: Option<u8>,
    pub laddr: Option<String>,
    pub lport: Option<String>,
    pub raddr: Option<String>,
    pub rport: Option<String>,
    pub icmp_type: Option<String>,
    pub icmp_code: Option<String>,
    pub dir: &'static str,
    pub action: &'static str,
    pub sa: Option<&'static str>,
    pub protections: Vec<String>,
    pub action_id: Option<String>,
    pub text: String,
}

/// The rule as `--json` prints it.
pub fn json(policy: &CompiledRule) -> JsonRule {
    let rule = &policy.rule;
    let mode = rule.flags & rule_flag::TUNNEL != 0;
    let icmp = rule.flags & rule_flag::ICMP != 0;
    let protect = rule.verdict == verdict::PROTECT;
    let end = |addr: Addr| (!addr.is_unspecified()).then(|| IpAddr::from(addr));
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = write_rule(&mut line, policy, None);
    JsonRule {
        index: rule.index,
        priority: rule.priority,
        tunnel: policy.tunnel.clone(),
        negotiate: policy.tunnel.as_ref().map(|_| if mode { "tunnel" } else { "transport" }),
        tunnel_local: end(rule.tunnel_local),
        tunnel_remote: end(rule.tunnel_remote),
        ulp: (rule.proto != 0).then_some(rule.proto),
        laddr: prefix(rule.laddr, rule.lmask, None),
        lport: port(rule.lport, rule.proto, None),
        raddr: remote(rule, None),
        rport: port(rule.rport, rule.proto, None),
        icmp_type: icmp.then(|| range(rule.icmp_type)),
        icmp_code: (icmp && rule.icmp_code != [0, 255]).then(|| range(rule.icmp_code)),
        dir: match direction(rule) {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Both => "both",
        },
        action: match rule.verdict {
            verdict::PASS => "pass",
            verdict::DROP => "drop",
            _ => "ipsec",
        },
        sa: protect.then_some(if rule.flags & rule_flag::UNIQUE != 0 { "unique" } else { "shared" }),
        protections: rule
            .actions
            .iter()
            .take(rule.action_count as usize)
            .map(|a| properties(a).trim_end().to_owned())
            .collect(),
        action_id: protect.then(|| format!("{:#018x}", rule.action_id)),
        text: line.trim_end().to_owned(),
    }
}
