//! Answers in the layouts of ikeadm, with the IKEv2 words where IKEv1 has others: SPIs for cookies, child SAs for quick mode
//! SAs. Every line of a block carries its six-character prefix; scripts match on them.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ike_door::{
    ChildInfo, DefaultInfo, DefaultSource, IdentityInfo, IkeSaInfo, Item, KeyInfo, LifetimeInfo, PresharedInfo, Role,
    RuleInfo, Sides, StatsInfo, TransformInfo,
};

/// Choices of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// No host names.
    pub numeric: bool,
    /// Keys as X.
    pub paranoid: bool,
}

/// Appends all items to `out`. Writing to a string cannot fail, hence the ignored results.
pub fn items(out: &mut String, items: &[Item], style: Style) {
    if items.iter().any(|item| matches!(item, Item::Default(_))) {
        defaults_head(out);
    }
    algorithms_head(out, items.first());
    for item in items {
        match item {
            Item::Debug { old, level } => debug(out, old.is_some(), *level),
            Item::Priv { old, level } => privilege(out, old.is_some(), *level),
            Item::Stats(stats) => self::stats(out, stats),
            Item::Default(default) => self::default(out, default),
            Item::IkeSa(sa) => ike_sa(out, sa, style),
            Item::Rule(rule) => self::rule(out, rule),
            Item::Preshared(entry) => preshared(out, entry, style),
            Item::Group { value, strength, description } => {
                let _ = writeln!(out, "{value:<6}{strength:<9}{description}");
            }
            Item::EncrAlg { value, name, key_bits } => {
                let range = key_bits.map_or("N/A".to_owned(), |(least, greatest)| format!("{least}-{greatest}"));
                let _ = writeln!(out, "{value:<6}{name:<20}{range}");
            }
            Item::AuthAlg { value, name } => {
                let _ = writeln!(out, "{value:<6}{name}");
            }
            Item::Count(_) | Item::Note(_) => {}
        }
    }
}

/// An item as JSON, keys as X if `paranoid`. Notes are for people.
pub fn json(item: Item, paranoid: bool) -> Option<serde_json::Value> {
    let mut value = match item {
        Item::Debug { old, level } => serde_json::json!({
            "old": old.map(|level| level.bits()), "level": level.bits(), "categories": level.descriptions().collect::<Vec<_>>(),
        }),
        Item::Priv { old, level } => serde_json::json!({
            "old": old.map(|level| level.number()), "level": level.number(), "enables": level.description(),
        }),
        Item::Stats(stats) => serde_json::to_value(stats).ok()?,
        Item::Default(default) => serde_json::to_value(default).ok()?,
        Item::IkeSa(sa) => serde_json::to_value(sa).ok()?,
        Item::Rule(rule) => serde_json::to_value(rule).ok()?,
        Item::Preshared(entry) => serde_json::to_value(entry).ok()?,
        Item::Group { value, strength, description } => {
            serde_json::json!({ "value": value, "strength": strength, "description": description })
        }
        Item::EncrAlg { value, name, key_bits } => {
            serde_json::json!({ "value": value, "name": name, "key_bits": key_bits })
        }
        Item::AuthAlg { value, name } => serde_json::json!({ "value": value, "name": name }),
        Item::Count(count) => serde_json::json!({ "count": count }),
        Item::Note(_) => return None,
    };
    if paranoid {
        cross_out(&mut value);
    }
    Some(value)
}

/// Puts X in place of every digit of every key: the `value` beside an `octets`.
fn cross_out(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(values) => values.iter_mut().for_each(cross_out),
        serde_json::Value::Object(fields) => {
            if fields.contains_key("octets")
                && let Some(serde_json::Value::String(digits)) = fields.get_mut("value")
            {
                *digits = "X".repeat(digits.len());
            }
            fields.values_mut().for_each(cross_out);
        }
        _ => {}
    }
}

/// Seconds over a minute in a bigger unit, in brackets with a blank before.
fn human_seconds(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    for (size, name) in UNITS {
        if seconds > 60 && seconds >= size {
            let value = seconds as f64 / size as f64;
            return format!(" ({value:.2} {name}{})", if value < 2.0 { "" } else { "s" });
        }
    }
    String::new()
}

/// Kilobytes over 1024 in a bigger unit, in brackets with a blank before.
fn human_kilobytes(kilobytes: u64) -> String {
    let mut value = kilobytes as f64;
    for unit in ["MB", "GB", "TB", "PB", "EB"] {
        value /= 1024.0;
        if value > 1.0 && value < 1024.0 {
            return format!(" ({value:.2} {unit})");
        }
    }
    String::new()
}

fn debug(out: &mut String, changed: bool, level: ike_door::DebugLevel) {
    if !changed {
        let _ = writeln!(out, "Current debug level is {level}");
    }
    if level.descriptions().next().is_none() {
        let _ = writeln!(out, "No debug categories enabled.");
        return;
    }
    let _ = writeln!(out, "Debug categories enabled:");
    for description in level.descriptions() {
        let _ = writeln!(out, "\t{description}");
    }
}

fn privilege(out: &mut String, changed: bool, level: ike_door::Privilege) {
    let (number, what) = (level.number(), level.description());
    let _ = if changed {
        writeln!(out, "New privilege level 0x{number:x} enables {what}")
    } else {
        writeln!(out, "Current privilege level is 0x{number:x}, {what} enabled")
    };
}

fn stats(out: &mut String, stats: &StatsInfo) {
    let _ = writeln!(out, "IKE SA counts:");
    let mut row = |name: &str, sides: &Sides| {
        let _ = writeln!(out, "{name:<11}initiator: {:>10}   responder: {:>10}", sides.initiator, sides.responder);
    };
    row("Current:", &stats.current);
    row("Total:", &stats.total);
    row("Attempted:", &stats.attempted);
    row("Failed:", &stats.failed);
    let _ = writeln!(out, "           initiator fails include {} time-out(s)", stats.initiator_timeouts);
    for (title, counts) in [("Failed negotiations by reason:", &stats.failures), ("Other counts:", &stats.counters)] {
        if counts.values().any(|count| *count > 0) {
            let _ = writeln!(out, "{title}");
            for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
                let _ = writeln!(out, "  {name:<44}{count:>12}");
            }
        }
    }
}

fn defaults_head(out: &mut String) {
    let _ = writeln!(out, "\nThese are the values that rules have unless they name their own.\n");
    let _ = writeln!(out, "A change of the file takes effect when the daemon reads it again.\n");
    let _ = writeln!(out, "{:<22}{:<10}{:>12} {:<10}{:<26}", "Token", "Source", "Value", "Unit", "Description");
}

/// The heading of a table of algorithms.
fn algorithms_head(out: &mut String, first: Option<&Item>) {
    // Widths are those of the rows: 6, then 9 for a strength or 20 for a name.
    let head = match first {
        Some(Item::Group { .. }) => {
            "Key exchange groups for IKE SAs and PFS of child SAs.\nStrength is that of a symmetric key, in bits.\n\n\
             Value Strength Description"
        }
        Some(Item::EncrAlg { .. }) => "Ciphers for IKE SAs.\n\nValue Name                Keylen range",
        Some(Item::AuthAlg { .. }) => "Authentication algorithms for IKE SAs.\n\nValue Name",
        _ => return,
    };
    let _ = writeln!(out, "\n{head}");
}

fn default(out: &mut String, default: &DefaultInfo) {
    let source = match default.source {
        DefaultSource::Default => "default",
        DefaultSource::Config => "config",
    };
    let _ = writeln!(
        out,
        "{:<22}{source:<10}{:>12} {:<10}{}",
        default.token, default.value, default.unit, default.description
    );
}

fn ike_sa(out: &mut String, sa: &IkeSaInfo, style: Style) {
    let role =
        |role: Role| if role == Role::Initiator { ("initiator", "Initiator") } else { ("responder", "Responder") };
    let other = if sa.role == Role::Initiator { Role::Responder } else { Role::Initiator };
    let unknown = || "<none/unavailable>".to_owned();
    let named = |name: &Option<String>| name.clone().unwrap_or_else(unknown);
    let _ = writeln!(out);
    let _ = writeln!(out, "IKESA: SPIs: Initiator 0x{}  Responder 0x{}", sa.spi_initiator, sa.spi_responder);
    let _ = writeln!(out, "IKESA: The local host is the {}.", role(sa.role).0);
    let _ = writeln!(out, "IKESA: IKE version {}.{}", sa.version.0, sa.version.1);
    if let Some(rule) = &sa.rule {
        let _ = writeln!(out, "IKESA: Label '{rule}'");
    }
    let _ = writeln!(out, "IKESA: Current state is {}", sa.state);
    let _ = writeln!(out, "IKESA: NAT: {}", nat(sa));
    let _ = writeln!(out, "XFORM: Authentication method: {}", sa.authentication);
    let _ =
        writeln!(out, "XFORM: Encryption alg: {}; Authentication alg: {}", named(&sa.encryption), named(&sa.integrity));
    let group = match (&sa.group, sa.group_number) {
        (Some(name), Some(number)) => format!("{name} (group {number})"),
        _ => "<unavailable>".to_owned(),
    };
    let _ = writeln!(out, "XFORM: PRF: {} ; Oakley Group: {group}", named(&sa.prf));
    match sa.childsa_pfs {
        None => {}
        Some(0) => {
            let _ = writeln!(out, "XFORM: Child SA PFS is not used");
        }
        Some(number) => {
            let _ = writeln!(out, "XFORM: Child SA PFS is required (Oakley Group: {number})");
        }
    }
    endpoint(out, "LOCIP:", role(sa.role).1, sa.local, style);
    endpoint(out, "REMIP:", role(other).1, sa.remote, style);
    lifetime(out, &sa.lifetime);
    let _ = writeln!(
        out,
        "STATS: {} Child SAs created; {} Child SAs deleted; {} in use",
        sa.children_created,
        sa.children_deleted,
        sa.children.len()
    );
    let _ = writeln!(
        out,
        "STATS: {} messages sent, {} retransmitted; {} messages received",
        sa.messages_sent, sa.retransmits, sa.messages_received
    );
    let _ = writeln!(out, "ERRS:  {} RX errors: {} integrity", sa.integrity_failures, sa.integrity_failures);
    identity(out, "LOCID:", role(sa.role).1, sa.local_id.as_ref());
    identity(out, "REMID:", role(other).1, sa.remote_id.as_ref());
    for child in &sa.children {
        self::child(out, child);
    }
    for key in &sa.keys {
        self::key(out, "KEY:  ", key, style);
    }
}

fn nat(sa: &IkeSaInfo) -> &'static str {
    match (sa.nat_local, sa.nat_remote) {
        (false, false) => "none detected",
        (true, false) => "the local host is behind a NAT",
        (false, true) => "the remote host is behind a NAT",
        (true, true) => "both hosts are behind NATs",
    }
}

fn endpoint(out: &mut String, prefix: &str, role: &str, address: SocketAddr, style: Style) {
    let family = if address.is_ipv4() { "AF_INET" } else { "AF_INET6" };
    let _ = writeln!(out, "{prefix} Address ({role}):");
    let _ = writeln!(out, "{prefix} {family}: port {}, {}{}.", address.port(), address.ip(), host(address.ip(), style));
}

/// The name of a host in brackets, where there is one and names are wanted.
fn host(address: IpAddr, style: Style) -> String {
    if style.numeric {
        return String::new();
    }
    match dns_lookup::lookup_addr(&address) {
        Ok(name) if name.parse::<IpAddr>().is_err() => format!(" ({name})"),
        _ => String::new(),
    }
}

fn lifetime(out: &mut String, lifetime: &LifetimeInfo) {
    let _ = writeln!(out, "LIFTM: Lifetime limits:");
    match lifetime.expires_in.map(|left| left.saturating_add(lifetime.age)) {
        Some(limit) => {
            let _ = writeln!(out, "LIFTM: {limit} seconds{}", human_seconds(limit));
        }
        None => {
            let _ = writeln!(out, "LIFTM: No limit");
        }
    }
    let _ = writeln!(out, "LIFTM: Current usage:");
    let _ = writeln!(out, "LIFTM: SA created {} seconds{} ago", lifetime.age, human_seconds(lifetime.age));
    let _ = writeln!(out, "LIFTM: Expiration info:");
    if let Some(left) = lifetime.rekey_in {
        let _ = writeln!(out, "LIFTM: SA is rekeyed in {left} seconds{}", human_seconds(left));
    }
    if let Some(left) = lifetime.expires_in {
        let _ = writeln!(out, "LIFTM: SA expires in {left} seconds{}", human_seconds(left));
    }
}

fn identity(out: &mut String, prefix: &str, role: &str, identity: Option<&IdentityInfo>) {
    if let Some(identity) = identity {
        let _ = writeln!(out, "{prefix} {role} identity, type {}", identity.kind);
        let _ = writeln!(out, "{prefix} {}", identity.value);
    }
}

fn child(out: &mut String, child: &ChildInfo) {
    let pfs = if child.pfs_group == 0 { String::new() } else { format!("; PFS group {}", child.pfs_group) };
    let _ = writeln!(
        out,
        "CHILD: {} SPIs: in 0x{:08x}  out 0x{:08x}; {} mode; {}{}{pfs}",
        child.protocol,
        child.spi_in,
        child.spi_out,
        child.mode,
        child.suite,
        if child.esn { "; ESN" } else { "" }
    );
    let _ = writeln!(
        out,
        "CHILD: {} <-> {}; created {} seconds{} ago",
        child.local.join(", "),
        child.remote.join(", "),
        child.age,
        human_seconds(child.age)
    );
}

fn key(out: &mut String, prefix: &str, key: &KeyInfo, style: Style) {
    let Some(value) = &key.value else { return };
    if key.octets == 0 {
        return;
    }
    let _ = write!(out, "{prefix} {} ({} bytes): ", key.name, key.octets);
    if style.paranoid {
        (0..value.expose().len()).for_each(|_| out.push('X'));
    } else {
        out.push_str(value.expose());
    }
    let _ = writeln!(out, "/{}", key.octets.saturating_mul(8));
}

fn rule(out: &mut String, rule: &RuleInfo) {
    let _ = writeln!(out);
    let _ = writeln!(out, "GLOBL: Label '{}' ({})", rule.label, rule.source);
    let _ = writeln!(out, "GLOBL: local auth {}, remote auth {}", rule.local_auth, rule.remote_auth);
    if let Some(issuer) = &rule.required_issuer {
        let _ = writeln!(out, "GLOBL: required issuer {issuer}");
    }
    if rule.local_auth == "preshared" || rule.remote_auth == "preshared" {
        let _ = writeln!(out, "GLOBL: preshared key {}", if rule.has_key { "attached" } else { "missing" });
    }
    let _ = writeln!(
        out,
        "GLOBL: childsa_pfs={}",
        if rule.childsa_pfs == 0 { "false".to_owned() } else { format!("true (group {})", rule.childsa_pfs) }
    );
    let mut seconds = |name: &str, value: u64| {
        let _ = writeln!(out, "GLOBL: {name}={value} seconds{}", human_seconds(value));
    };
    seconds("ikesa_lifetime", rule.ikesa_lifetime);
    seconds("childsa_lifetime", rule.childsa_lifetime_secs);
    seconds("childsa_softlife", rule.childsa_softlife_secs);
    seconds("childsa_idletime", rule.childsa_idletime_secs);
    let mut kilobytes = |name: &str, value: u64| {
        let _ = writeln!(out, "GLOBL: {name}={value} kilobytes{}", human_kilobytes(value));
    };
    kilobytes("childsa_lifetime_kb", rule.childsa_lifetime_kb);
    kilobytes("childsa_softlife_kb", rule.childsa_softlife_kb);
    for (prefix, ranges) in [("LOCIP:", &rule.local_addr), ("REMIP:", &rule.remote_addr)] {
        let _ = writeln!(out, "{prefix} IP address range(s):");
        for range in ranges {
            let _ = if range.first == range.last {
                writeln!(out, "{prefix} {}", range.first)
            } else {
                writeln!(out, "{prefix} {} - {}", range.first, range.last)
            };
        }
    }
    for (prefix, identity) in [("LOCID:", &rule.local_id), ("REMID:", &rule.remote_id)] {
        let _ = writeln!(out, "{prefix} Identity descriptors:");
        let _ = writeln!(out, "{prefix}     {identity}");
    }
    let _ = writeln!(out, "XFRMS: Available Transforms:");
    for (number, transform) in rule.transforms.iter().enumerate() {
        self::transform(out, number, transform);
    }
}

fn transform(out: &mut String, number: usize, transform: &TransformInfo) {
    let list = |names: &[String]| if names.is_empty() { "NONE".to_owned() } else { names.join(", ") };
    let _ = writeln!(
        out,
        "XF {number:>2}: Encryption alg: {}; Authentication alg: {}",
        list(&transform.encryption),
        list(&transform.integrity)
    );
    let _ = writeln!(out, "XF {number:>2}: PRF: {} ; Oakley Group: {}", list(&transform.prf), list(&transform.groups));
}

fn preshared(out: &mut String, entry: &PresharedInfo, style: Style) {
    let _ = writeln!(out);
    for label in &entry.labels {
        let _ = writeln!(out, "PSKEY: Label '{label}'");
    }
    for key in [&entry.local_key, &entry.remote_key].into_iter().flatten() {
        if key.value.is_some() {
            self::key(out, "PSKEY:", key, style);
        } else {
            let _ = writeln!(out, "PSKEY: {}", key.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn human_units() {
        assert_eq!(human_seconds(60), "");
        assert_eq!(human_seconds(61), " (1.02 minute)");
        assert_eq!(human_seconds(3600), " (1.00 hour)");
        assert_eq!(human_seconds(28_800), " (8.00 hours)");
        assert_eq!(human_seconds(172_800), " (2.00 days)");
        assert_eq!(human_kilobytes(1024), "");
        assert_eq!(human_kilobytes(102_400), " (100.00 MB)");
        assert_eq!(human_kilobytes(u64::MAX), "");
    }
}
