//! Tables: columns as wide as their widest cell, two blanks between them.

use sadb_maps::host::attach::{InterfaceReport, Shortcut};
use sadb_maps::host::features::Feature;
use sadb_maps::host::loader::AttachReport;
use sadb_maps::host::status::{Status, Watcher};
use sadb_maps::host::tunnels::{DfOption, OuterOptions, Tunnel};
use sadb_maps::host::upgrade::UpgradeReport;
use sadb_maps::host::watch::Seen;
use std::collections::BTreeMap;

/// A table. The first row is the heading; columns in `right` are aligned to the right.
pub fn table<const N: usize>(rows: &[[String; N]], right: [bool; N]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(right) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            if right {
                line.push_str(&padding);
            }
            line.push_str(cell);
            if !right {
                line.push_str(&padding);
            }
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Octets for people: ` B` below 1024, then one decimal.
pub fn octets(count: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => format!("{count} B"),
    }
}

fn mode(interface: &InterfaceReport) -> &'static str {
    if interface.native { "native" } else { "generic" }
}

fn exit(interface: &InterfaceReport) -> &'static str {
    if interface.xdp_exit { "xdp" } else { "neighbour" }
}

fn lan(interface: &InterfaceReport) -> &'static str {
    match interface.shortcut {
        Shortcut::None => "-",
        Shortcut::In => "in",
        Shortcut::Both => "both",
    }
}

fn hooks(interface: &InterfaceReport) -> &'static str {
    if interface.clsact { "clsact" } else { "tcx" }
}

/// How an interface is attached, on a line.
fn attachment(interface: &InterfaceReport) -> String {
    let shortcut = match interface.shortcut {
        Shortcut::None => "",
        Shortcut::In => ", gateway shortcut to tunnels",
        Shortcut::Both => ", gateway shortcut to and from tunnels",
    };
    let (mode, hooks, exit) = (mode(interface), hooks(interface), exit(interface));
    format!("XDP {mode}, TC {hooks}, exit {exit}, MTU {}{shortcut}", interface.mtu)
}

/// What the kernel has and lacks.
pub fn features(features: &[Feature]) -> String {
    let mut rows = vec![["FEATURE", "SINCE", "HERE", "FOR"].map(str::to_owned)];
    for feature in features {
        let here = match (feature.present, feature.otherwise) {
            (true, _) => "yes".to_owned(),
            (false, None) => "no".to_owned(),
            (false, Some(otherwise)) => format!("no: {otherwise}"),
        };
        rows.push([feature.name.to_owned(), feature.since.to_owned(), here, feature.purpose.to_owned()]);
    }
    table(&rows, [false; 4])
}

/// What attaching did, one line for each interface.
pub fn attached(report: &AttachReport) -> String {
    let mut out = String::new();
    if report.loaded {
        out.push_str(&format!("programs loaded and verified in {} ms\n", report.load_ms));
    }
    out.push_str(&format!("room for {} SAs, {} in maps\n", report.capacity, octets(report.memory)));
    for interface in &report.interfaces {
        out.push_str(&format!("{}: {}\n", interface.name, attachment(interface)));
        for note in &interface.notes {
            out.push_str(&format!("{}: {note}\n", interface.name));
        }
    }
    out
}

/// What a watch did or found, in one line.
pub fn seen(seen: &Seen) -> String {
    match seen {
        Seen::Attached(i) => {
            let mut line = format!("{}: attached: {}", i.name, attachment(i));
            for note in &i.notes {
                line.push_str(&format!("; {note}"));
            }
            line
        }
        Seen::Refused { name, reason } => format!("{name}: cannot be attached: {reason}"),
        Seen::TakenDown(name) => format!("{name}: taken down, because it is not attached"),
        Seen::Unjudged(name) => format!("{name}: up and not attached: what a route sends there leaves in clear"),
        Seen::Renewed { name, why } => format!("{name}: attached anew, because {why}"),
        Seen::Gone(index) => format!("interface {index} that was attached is gone"),
        Seen::Mended => "ipsec0: made whole again".to_owned(),
    }
}

/// What an upgrade did.
pub fn upgraded(report: &UpgradeReport) -> String {
    let UpgradeReport { before, after, replaced, capacity, moved, load_ms, switch_us } = report;
    if !replaced {
        return format!("programs {after} are loaded already; --force replaces them all the same\n");
    }
    let before = before.as_ref().map_or("of an unknown version".to_owned(), ToString::to_string);
    let mut out = format!(
        "programs {before} replaced by {after}: loaded and verified in {load_ms} ms, exchanged in {}.{:03} ms\n",
        switch_us / 1000,
        switch_us % 1000
    );
    if let Some(moved) = moved {
        out.push_str(&format!("{moved} SAs moved to other maps, with room for {capacity}\n"));
    }
    out
}

/// Which programs are loaded, and whether this tool has others.
fn builds(status: &Status) -> String {
    let loaded = status.loaded.as_ref().map_or("of an unknown version".to_owned(), ToString::to_string);
    match &status.installed {
        Some(installed) if status.loaded.as_ref() != Some(installed) => {
            format!("programs {loaded}; installed are {installed}, 'espadm upgrade' loads them\n")
        }
        _ => format!("programs {loaded}\n"),
    }
}

/// The state of the data path; with `details` memory by map and programs too.
pub fn status(status: &Status, details: bool) -> String {
    if !status.attached {
        return format!("instance {}: not attached; 'espadm attach' attaches it\n", status.instance);
    }
    let memory: u64 = status.maps.iter().map(|m| m.bytes).sum();
    let mut out =
        format!("instance {}: room for {} SAs, {} in maps\n", status.instance, status.capacity, octets(memory));
    out.push_str(&builds(status));
    if !status.pair {
        out.push_str("ipsec0 is missing, down or without its programs; 'espadm attach' mends it\n");
    }
    if let Some(Watcher { process, strict }) = status.watcher {
        let more = if strict { "; what it cannot attach it takes down" } else { "" };
        out.push_str(&format!("interfaces that come are attached by process {process}{more}\n"));
    }
    let mut rows = vec![["INTERFACE", "XDP", "TC", "EXIT", "SHORTCUT", "MTU"].map(str::to_owned)];
    for i in &status.interfaces {
        rows.push([i.name.clone(), mode(i).into(), hooks(i).into(), exit(i).into(), lan(i).into(), i.mtu.to_string()]);
    }
    out.push('\n');
    out.push_str(&table(&rows, [false, false, false, false, false, true]));
    for (name, why) in status.interfaces.iter().filter_map(|i| i.past_xdp.map(|why| (&i.name, why))) {
        out.push_str(&format!(
            "{name}: {why}; packets that XDP does not see are judged behind it, which is slower: espadm attach {name}\n"
        ));
    }
    if !details {
        return out;
    }
    let mut rows = vec![["MAP", "ENTRIES", "MEMORY"].map(str::to_owned)];
    rows.extend(status.maps.iter().map(|m| [m.name.clone(), m.entries.to_string(), octets(m.bytes)]));
    out.push('\n');
    out.push_str(&table(&rows, [false, true, true]));
    let mut rows = vec![["PROGRAM", "ID", "VERIFIED", "CODE"].map(str::to_owned)];
    for p in &status.programs {
        rows.push([p.name.to_owned(), p.id.to_string(), p.verified.to_string(), octets(p.machine_code.into())]);
    }
    out.push('\n');
    out.push_str(&table(&rows, [false, true, true, true]));
    out
}

/// What to say about interfaces that nothing judges; `None` when there are none.
pub fn unjudged_warning(status: &Status) -> Option<String> {
    let Status { unattached, unattachable, .. } = status;
    let leaks = "what a route sends there leaves in clear, whatever the policy says";
    let mut parts = vec![];
    if !unattached.is_empty() {
        let names = unattached.join(" ");
        parts.push(format!("not attached: {names}; {leaks}: espadm attach {names}"));
    }
    if !unattachable.is_empty() {
        let names = unattachable.join(" ");
        parts.push(format!("without Ethernet framing, so not to be attached: {names}; {leaks}"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Counters that count something; every one with `all`.
pub fn counters(values: &[(&str, u64)], all: bool) -> String {
    let mut rows = vec![["COUNTER", "PACKETS"].map(str::to_owned)];
    for (name, value) in values.iter().filter(|(_, value)| all || *value != 0) {
        rows.push([(*name).to_owned(), value.to_string()]);
    }
    if rows.len() == 1 {
        return "no packet has been counted; --all lists every counter\n".to_owned();
    }
    table(&rows, [false, true])
}

/// Every counter by name, for `--json`.
pub fn counters_by_name<'a>(values: &[(&'a str, u64)]) -> BTreeMap<&'a str, u64> {
    values.iter().copied().collect()
}

/// The tunnels.
pub fn tunnels(all: &[Tunnel]) -> String {
    let mut rows = vec![["TUNNEL", "LOCAL", "REMOTE", "DSCP", "DF", "TTL", "ECN"].map(str::to_owned)];
    rows.extend(all.iter().map(|t| {
        let OuterOptions { dscp, df, ttl, ecn_compatible } = t.outer;
        let df = match df {
            DfOption::Clear => "clear",
            DfOption::Copy => "copy",
            DfOption::Set => "set",
        };
        let ecn = if ecn_compatible { "compatible" } else { "normal" };
        [
            t.name.clone(),
            t.local.to_string(),
            t.remote.to_string(),
            dscp.map_or_else(|| "copy".to_owned(), |dscp| dscp.to_string()),
            df.to_owned(),
            ttl.unwrap_or(64).to_string(),
            ecn.to_owned(),
        ]
    }));
    table(&rows, [false, false, false, true, false, true, false])
}

#[cfg(test)]
mod tests {
    use super::*;
    use sadb_maps::host::attach::PastXdp;
    use sadb_maps::host::build::Build;
    use sadb_maps::host::status::{MapReport, ProgramReport};

    fn full() -> Status {
        Status {
            instance: "default".to_owned(),
            attached: true,
            capacity: 16_383,
            loaded: Some(Build::of(b"loaded")),
            installed: Some(Build::of(b"loaded")),
            pair: true,
            watcher: None,
            interfaces: vec![
                InterfaceReport {
                    name: "eth0".to_owned(),
                    ifindex: 2,
                    native: true,
                    xdp_exit: false,
                    mtu: 1500,
                    clsact: false,
                    past_xdp: None,
                    shortcut: Shortcut::Both,
                    notes: vec![],
                },
                InterfaceReport {
                    name: "wlan-long".to_owned(),
                    ifindex: 3,
                    native: false,
                    xdp_exit: true,
                    mtu: 9000,
                    clsact: true,
                    past_xdp: None,
                    shortcut: Shortcut::None,
                    notes: vec![],
                },
            ],
            unattached: vec!["eth1".to_owned()],
            unattachable: vec![],
            maps: vec![MapReport { name: "SA_IN".to_owned(), entries: 8, bytes: 3 << 20 }],
            programs: vec![ProgramReport { name: "xdp_outer", id: 7, verified: 12_345, machine_code: 2048 }],
        }
    }

    #[test]
    fn what_is_loaded_and_what_is_installed_is_said() {
        let (old, new) = (Build::of(b"old"), Build::of(b"new"));
        let two = Status { loaded: Some(old.clone()), installed: Some(new.clone()), ..full() };
        let said = format!("programs {old}; installed are {new}, 'espadm upgrade' loads them\n");
        assert!(status(&two, false).contains(&said));
        let unknown = Status { loaded: None, ..full() };
        assert!(status(&unknown, false).contains("programs of an unknown version; installed are "));
        let watched = Status { watcher: Some(Watcher { process: 42, strict: true }), ..full() };
        assert!(status(&watched, false).contains("attached by process 42; what it cannot attach it takes down\n"));
        let none = Status { installed: None, ..full() };
        assert!(!status(&none, false).contains("installed"));
        let done = UpgradeReport {
            before: Some(old),
            after: new,
            replaced: true,
            capacity: 63,
            moved: None,
            load_ms: 900,
            switch_us: 1042,
        };
        assert!(upgraded(&done).contains(": loaded and verified in 900 ms, exchanged in 1.042 ms\n"));
        let moved = UpgradeReport { moved: Some(2), ..done.clone() };
        assert!(upgraded(&moved).ends_with("ms\n2 SAs moved to other maps, with room for 63\n"));
        assert!(upgraded(&UpgradeReport { replaced: false, ..done }).contains("loaded already; --force"));
    }

    #[test]
    fn the_state_is_a_table() {
        let build = Build::of(b"loaded").to_string();
        assert_eq!(
            status(&full(), false).replace(&build, "0.1.0-BUILD"),
            "\
instance default: room for 16383 SAs, 3.0 MiB in maps
programs 0.1.0-BUILD

INTERFACE  XDP      TC      EXIT       SHORTCUT   MTU
eth0       native   tcx     neighbour  both      1500
wlan-long  generic  clsact  xdp        -         9000
"
        );
        let mut less = full();
        less.interfaces[1].past_xdp = Some(PastXdp::Queues { then: 1, now: 4 });
        let said = status(&less, false);
        assert!(
            said.contains("\nwlan-long: it has 4 receive queues, and had 1 when XDP was attached; packets"),
            "{said}"
        );
        let renewed = Seen::Renewed { name: "eth0".to_owned(), why: PastXdp::Gone };
        assert_eq!(seen(&renewed), "eth0: attached anew, because its XDP program is gone");
        let details = status(&full(), true);
        assert!(details.contains("MAP    ENTRIES   MEMORY\nSA_IN        8  3.0 MiB\n"), "{details}");
        assert!(details.contains("xdp_outer   7     12345  2.0 KiB\n"), "{details}");
        let nothing = Status { attached: false, ..full() };
        assert_eq!(status(&nothing, true), "instance default: not attached; 'espadm attach' attaches it\n");
        assert!(status(&Status { pair: false, ..full() }, false).contains("mends it"));
    }

    #[test]
    fn what_a_kernel_lacks_is_told_with_what_is_done_instead() {
        let feature = |name, present, otherwise| Feature { name, since: "6.6", purpose: "links", otherwise, present };
        let some = [feature("TCX", false, Some("filters")), feature("BTF", false, None), feature("XDP", true, None)];
        assert_eq!(
            features(&some),
            "FEATURE  SINCE  HERE         FOR\n\
             TCX      6.6    no: filters  links\n\
             BTF      6.6    no           links\n\
             XDP      6.6    yes          links\n"
        );
    }

    #[test]
    fn counters_hide_zeros_unless_asked() {
        let values = [("sealed", 12), ("drop-integrity", 0)];
        assert_eq!(counters(&values, false), "COUNTER  PACKETS\nsealed        12\n");
        assert_eq!(counters(&values, true).lines().count(), 3);
        assert!(counters(&[("sealed", 0)], false).starts_with("no packet"));
        assert_eq!(counters_by_name(&values)["drop-integrity"], 0);
    }

    #[test]
    fn interfaces_that_nothing_judges_are_named_with_the_cure() {
        let with = |unattached: &[&str], unattachable: &[&str]| {
            let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
            unjudged_warning(&Status { unattached: names(unattached), unattachable: names(unattachable), ..full() })
        };
        assert_eq!(with(&[], &[]), None);
        let text = with(&["eth1", "eth2"], &[]).unwrap();
        assert!(text.ends_with("espadm attach eth1 eth2"), "{text}");
        let text = with(&["eth1"], &["wg0", "tun0"]).unwrap();
        assert!(text.contains("espadm attach eth1;") && text.contains("attached: wg0 tun0;"), "{text}");
    }
}
