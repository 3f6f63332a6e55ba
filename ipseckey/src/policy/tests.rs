//! The grammar, its errors and the listing of what was compiled.

use super::compile::compile;
use super::entry::Verdict;
use super::*;
use crate::names::fake::FakeNames;
use sadb_maps::host::spd::CompiledRule;
use sadb_maps::policy::rule_flag;
use std::net::IpAddr;

fn file(text: &str) -> PolicyFile {
    parse(text.as_bytes(), &FakeNames)
}

fn ends(name: &str) -> Option<(IpAddr, IpAddr)> {
    (name == "vpn0").then(|| ("192.0.2.1".parse().unwrap(), "198.51.100.1".parse().unwrap()))
}

fn rules(text: &str) -> Vec<CompiledRule> {
    let file = file(text);
    assert_eq!(file.problems, [], "{text}");
    let compiled = compile(Vec::new(), &file.entries, 1, &ends);
    assert_eq!(compiled.problems, [], "{text}");
    compiled.rules
}

fn list(text: &str) -> String {
    rules(text).iter().map(|r| listing::text(r, None)).collect()
}

/// Errors as `line:column text`.
fn errors(text: &str) -> Vec<String> {
    file(text).problems.iter().map(|p| format!("{} {p}", p.position())).collect()
}

#[track_caller]
fn assert_error(text: &str, start: &str) {
    let errors = errors(text);
    assert!(errors.iter().any(|e| e.starts_with(start)), "{text}: wanted {start}, got {errors:?}");
}

#[test]
fn new_style_rules_list_as_they_compile() {
    let text = "
{ laddr 192.0.2.1 raddr 198.51.100.7 } ipsec { encr_algs aes-gcm(256) sa shared }
{ raddr 198.51.100.0/24 ulp tcp rport 443 dir both } pass { }            # above every ipsec rule
{ raddr 203.0.113.9 } ipsec { encr_algs AES-GCM } or ipsec
        { encr_algs chacha20-poly1305 }                         # \"or\" on the brace line
{ ulp ipv6-icmp type 133-137 dir both } pass { }
{ ulp icmp type echo code 0 dir in } drop {}
{ tunnel vpn0 negotiate tunnel laddr 10.1.0.0/16 raddr 10.2.3.4/16 } ipsec { encr_algs any sa shared }
";
    assert_eq!(
        list(text),
        "\
#INDEX vpn0,6 \n\
{ tunnel vpn0 negotiate tunnel laddr 10.1.0.0/16 raddr 10.2.0.0/16 dir both } ipsec { encr_algs aes-gcm(128..) sa shared } or ipsec { encr_algs chacha20-poly1305 sa shared } \n\
#INDEX 2 \n\
{ ulp 6 raddr 198.51.100.0/24 rport 443 dir both } pass { } \n\
#INDEX 4 \n\
{ ulp 58 type 133-137 dir both } pass { } \n\
#INDEX 1 \n\
{ laddr 192.0.2.1/32 raddr 198.51.100.7/32 dir both } ipsec { encr_algs aes-gcm(256) sa shared } \n\
#INDEX 3 \n\
{ raddr 203.0.113.9/32 dir both } ipsec { encr_algs aes-gcm(128..) sa shared } or ipsec { encr_algs chacha20-poly1305 sa shared } \n\
#INDEX 5 \n\
{ ulp 1 type 8 code 0 dir in } drop { } \n"
    );
}

#[test]
fn a_listing_loads_as_the_same_rules() {
    let text = "{ laddr one raddr lab ulp tcp lport ssh } ipsec { encr_algs aes-gcm(128..192) sa unique }
{ ulp udp dir out } drop { }
{ tunnel vpn0 negotiate tunnel } ipsec { encr_algs chacha20poly1305 }";
    let first = rules(text);
    let listed: String = first.iter().map(|r| listing::text(r, Some(&FakeNames))).collect();
    assert!(listed.contains("laddr one/32 lport ssh raddr 10.9.0.0/16"), "{listed}");
    let again = rules(&listed);
    let strip = |rules: &[CompiledRule]| -> Vec<_> {
        rules.iter().map(|r| (r.rule.action_id, r.rule.verdict, r.rule.directions, r.rule.lport)).collect()
    };
    assert_eq!(strip(&first), strip(&again));
}

#[test]
fn precedence_is_pass_then_protection_then_drop() {
    // ARC-SPD-03
    let text = "{ ulp udp dir both } drop { }
{ ulp udp } ipsec { encr_algs aes-gcm }
{ ulp udp lport 53 } ipsec { encr_algs aes-gcm }
{ ulp udp dir both } pass { }";
    let order: Vec<_> = rules(text).iter().map(|r| (r.rule.index, r.rule.priority)).collect();
    assert_eq!(order, [(4, 0x8ffffc), (2, 0x4ffffe), (3, 0x4ffffd), (1, 0xfffff)]);
}

#[test]
fn old_style_is_seen_from_this_host() {
    let text = "{ dport 23 } apply { encr_algs aes-gcm sa shared }
{ sport 23 } permit { encr_algs aes-gcm }";
    assert_eq!(
        list(text),
        "#INDEX 1 \n{ rport 23 dir out } ipsec { encr_algs aes-gcm(128..) sa shared } \n\
         #INDEX 2 \n{ rport 23 dir in } ipsec { encr_algs aes-gcm(128..) sa shared } \n"
    );
    // The two halves of a pair share their SAs.
    let ids: Vec<_> = rules(text).iter().map(|r| r.rule.action_id).collect();
    assert_eq!(ids[0], ids[1]);
    let text = "{ saddr 192.0.2.0 smask 255.255.255.0 daddr 198.51.100.1 } ipsec { encr_algs aes-gcm dir in }";
    assert!(list(text).contains("{ laddr 198.51.100.1/32 raddr 192.0.2.0/24 dir in }"));
    assert_eq!(list("{ saddr 192.0.2.1 } drop { }").matches("#INDEX").count(), 2);
    assert_error("{ saddr 192.0.2.1 } ipsec { encr_algs aes-gcm }", "1:21 Requires Direction on line 1");
    assert_error("{ saddr 192.0.2.1 dir both } drop { }", "1:23 Bad Direction on line 1");
    assert_error("{ sport 1 dir in } apply { encr_algs aes-gcm }", "1:15 Direction conflicts");
    assert_error(
        "{ sport 1 } apply { encr_algs aes-gcm } or apply { encr_algs any }",
        "1:44 Error before or at line 1",
    );
}

#[test]
fn names_with_several_addresses_make_several_rules() {
    assert_eq!(rules("{ laddr many raddr mixed dir both } drop { }").len(), 2);
    assert_eq!(rules("{ laddr mixed raddr mixed dir both } drop { }").len(), 2);
    assert_error("{ laddr six raddr one dir both } drop { }", "1:19 Bad Destination Address on line 1");
    assert_error("{ laddr many/24 dir both } drop { }", "1:9 Bad Source Address on line 1");
    assert_error("{ laddr nobody dir both } drop { }", "1:9 Bad Source Address on line 1");
    assert_error("{ raddr 10.0.0.300 dir both } drop { }", "1:9 Bad Destination Address on line 1");
    assert_error("{ raddr 10.0.0.0/33 dir both } drop { }", "1:9 Bad Destination Address on line 1");
    assert_error("{ raddr 10.0.0.0/ dir both } drop { }", "1:9 Bad Destination Address on line 1");
}

#[test]
fn tunnels() {
    let missing = file("{ tunnel vpn9 negotiate tunnel } ipsec { encr_algs aes-gcm }");
    let compiled = compile(Vec::new(), &missing.entries, 1, &ends);
    assert!(compiled.warnings[0].text.contains("espadm tunnel create vpn9"));
    assert!(compiled.rules[0].rule.tunnel_local.is_unspecified());

    let transport = "{ tunnel vpn0 negotiate transport } ipsec { encr_algs aes-gcm }";
    let found = rules(transport);
    assert_eq!(found.iter().map(|r| r.rule.proto).collect::<Vec<_>>(), [4, 41]);
    assert!(found.iter().all(|r| r.rule.tunnel_mode == 0 && r.rule.flags == rule_flag::UNIQUE | rule_flag::V4));
    assert_eq!(
        listing::text(&found[0], None),
        "#INDEX vpn0,1 \n{ tunnel vpn0 negotiate transport dir both } ipsec { encr_algs aes-gcm(128..) sa unique } \n"
    );

    let early = file("{ tunnel vpn9 negotiate transport } ipsec { encr_algs aes-gcm }");
    let compiled = compile(Vec::new(), &early.entries, 1, &ends);
    assert!(compiled.problems[0].to_string().starts_with("Bad Tunnel on line 1: negotiate transport needs"));

    let mixed = file(&format!("{transport}\n{{ tunnel vpn0 negotiate tunnel }} ipsec {{ encr_algs aes-gcm }}"));
    let compiled = compile(Vec::new(), &mixed.entries, 1, &ends);
    assert!(compiled.problems[0].to_string().starts_with("Bad Negotiate on line 2"));
    assert_error("{ tunnel vpn0 } drop { }", "1:3 tunnel and negotiate must occur together");
    assert_error("{ negotiate tunnel } drop { }", "1:3 tunnel and negotiate must occur together");
    assert_error("{ tunnel vpn0 negotiate x } drop { }", "1:25 Bad Negotiate on line 1");
    assert_error("{ tunnel vpn/0 negotiate tun dir in } drop { }", "1:10 Bad Tunnel on line 1");
    assert_error("{ tunnel vpn0 negotiate trans ulp tcp } drop { }", "1:31 Bad Upper Layer Protocol on line 1");
}

#[test]
fn algorithms_and_key_ranges() {
    let bits = |alg: &str| match &file(&format!("{{ }} ipsec {{ encr_algs {alg} }}")).entries[0].verdict {
        Verdict::Protect { accepted, .. } => accepted.iter().map(|a| (a.encr, a.encr_bits)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bits("aes-gcm"), [(20, [128, 256])]);
    assert_eq!(bits("20(..128)"), [(20, [128, 128])]);
    assert_eq!(bits("aes-gcm16(192..)"), [(20, [192, 256])]);
    assert_eq!(bits("any(256)"), [(20, [256, 256]), (28, [256, 256])]);
    let cbc = (12, [128, 256]);
    assert_eq!(bits("any encr_auth_algs any"), [cbc, cbc, cbc, cbc, (20, [128, 256]), (28, [256, 256])]);
    assert_eq!(bits("ChaCha20-Poly1305 auth_algs none"), [(28, [256, 256])]);
    let bad = |props: &str, error: &str| assert_error(&format!("{{ }} ipsec {{ {props} }}"), error);
    bad("encr_algs aes-gcm(512)", "1:23 Bad Encryption Algorithm");
    bad("encr_algs aes-gcm(256..128)", "1:23 Bad Encryption Algorithm");
    bad("encr_algs aes-gcm(..)", "1:23 Bad Encryption Algorithm");
    bad("encr_algs aes-gcm(128", "1:23 Bad Encryption Algorithm");
    bad("encr_algs rot13", "1:23 Bad Encryption Algorithm");
    bad("auth_algs 99", "1:23 Bad Authentication Algorithm");
    bad("encr_auth_algs aes", "1:28 Bad ESP Authentication Algorithm");
    bad("encr_algs aes-gcm encr_auth_algs sha256", "1:31 Combined-mode encryption on line 1");
    bad("encr_algs aes-gcm encr_algs any", "1:31 Duplicate Encryption Algorithm");
    bad("encr_algs aes-gcm sa private", "1:34 Bad SA");
    bad("encr_algs none", "1:5 Missing or incomplete properties");
    bad("sa shared", "1:5 Missing or incomplete properties");
    bad(
        "encr_algs any(64)",
        "1:23 Bad Encryption Algorithm on line 1: nothing that 'any(64)' stands for has such keys",
    );
    bad("auth_algs any(7) encr_algs aes-gcm", "1:23 Bad Authentication Algorithm");
    for (props, count) in [
        ("encr_algs aes encr_auth_algs sha256", 1),
        ("encr_auth_algs sha1", 1),
        ("auth_algs md5", 1),
        ("auth_algs md5 encr_algs aes-gcm", 1),
        ("auth_algs any encr_algs any", 8),
        ("encr_algs blowfish(448) encr_auth_algs md5", 1),
        ("encr_algs aes-ccm", 1),
        ("encr_algs aes-gcm(192)", 1),
        // Four advised authenticators, and AEADs that need none.
        ("encr_algs aes encr_auth_algs any", 4),
        ("encr_algs any", 2),
        // Never without authentication: the same four.
        ("encr_algs aes", 4),
        ("encr_algs null auth_algs sha1", 4),
        ("encr_algs any encr_auth_algs any", 6),
    ] {
        let found = rules(&format!("{{ }} ipsec {{ {props} }}"));
        assert_eq!(found[0].rule.action_count, count, "{props}");
    }
}

/// ALG-01, ESP-FMT-14: whatever the file says, nothing is encrypted without being authenticated.
#[test]
fn encryption_alone_is_taken_with_authentication_and_a_warning() {
    for (props, warnings) in [
        ("encr_algs aes", 1),
        ("encr_algs null", 1),
        ("encr_algs aes-ctr(256) auth_algs sha256", 1),
        ("encr_algs 12 encr_auth_algs none", 1),
        ("encr_algs any", 0),
        ("encr_algs aes-gmac", 0),
        ("encr_algs aes encr_auth_algs sha1", 0),
    ] {
        let text = format!("{{ }} ipsec {{ {props} }}");
        let danger = file(&text).warnings.iter().filter(|w| w.text.starts_with("DANGER: ")).count();
        assert_eq!(danger, warnings, "{props}");
        let rule = rules(&text)[0].rule;
        let mut actions = rule.actions.iter().take(rule.action_count as usize);
        let by_itself =
            |id| crate::algorithms::by_id(crate::algorithms::Kind::Encryption, id).unwrap().combined.is_some();
        assert!(actions.all(|a| by_itself(a.encr) != (a.esp_auth != 0)), "{props}: {:?}", rule.actions);
    }
}

/// RFC 4291 section 2.5.5.2.
#[test]
fn addresses_that_map_ipv4_are_ipv4() {
    let text = "{ laddr ::ffff:192.0.2.1 raddr ::ffff:198.51.100.0/120 dir in } drop { }";
    assert!(list(text).contains("{ laddr 192.0.2.1/32 raddr 198.51.100.0/24 dir in }"), "{}", list(text));
    assert_error("{ laddr ::ffff:192.0.2.1/64 dir in } drop { }", "1:9 Bad Source Address on line 1: prefix length 64");
    assert_error(
        "{ laddr ::ffff:192.0.2.1/129 dir in } drop { }",
        "1:9 Bad Source Address on line 1: prefix length 33",
    );
}

#[test]
fn action_ids_are_stable_and_tell_rules_apart() {
    let id = |text: &str| rules(text)[0].rule.action_id;
    // Pinned: SAs of running instances are bound to these numbers.
    let base = id("{ raddr 198.51.100.0/24 } ipsec { encr_algs aes-gcm }");
    assert_eq!(base, 0x6d7dd5926285cb03);
    assert_eq!(
        base,
        id("\n# moved\n{ raddr 198.51.100.9/24 dir out } ipsec { encr_algs aes-gcm(128..256) sa shared }")
    );
    for other in [
        "{ raddr 198.51.100.0/25 } ipsec { encr_algs aes-gcm }",
        "{ laddr 198.51.100.0/24 } ipsec { encr_algs aes-gcm }",
        "{ raddr 198.51.100.0/24 ulp tcp } ipsec { encr_algs aes-gcm }",
        "{ raddr 198.51.100.0/24 } ipsec { encr_algs aes-gcm(256) }",
        "{ raddr 198.51.100.0/24 } ipsec { encr_algs aes-gcm sa unique }",
        "{ tunnel vpn0 negotiate tunnel raddr 198.51.100.0/24 } ipsec { encr_algs aes-gcm }",
    ] {
        assert_ne!(base, id(other), "{other}");
    }
    assert_eq!(rules("{ dir both } drop { }")[0].rule.action_id, 0);
}

/// Spec section 4.5: pass, AH with ESP, ESP, AH, and last drop, which nothing raises; in each the order of the file, and
/// a packet gets the first that it fits.
#[test]
fn precedence_by_table() {
    use sadb_maps::policy::{Action, direction, verdict};
    let kinds = ["pass", "ah+esp", "esp", "ah", "drop"];
    let entry = |kind: &str, ulp: u8| {
        let (action, options) = match kind {
            "pass" | "drop" => (kind, ""),
            _ => ("ipsec", "encr_algs aes-gcm"),
        };
        let parsed = file(&format!("{{ ulp {ulp} dir both }} {action} {{ {options} }}"));
        assert_eq!(parsed.problems, []);
        let mut entry = parsed.entries[0].clone();
        if let Verdict::Protect { accepted, .. } = &mut entry.verdict {
            let esp = accepted[0];
            let ah = Action { ah: 5, ah_bits: [256, 256], ..Action::default() };
            *accepted = match kind {
                "ah" => vec![ah],
                "ah+esp" => vec![Action { ah: 5, ah_bits: [256, 256], ..esp }],
                _ => vec![esp],
            };
        }
        entry
    };
    for (strong, first) in kinds.iter().enumerate() {
        for (weak, second) in kinds.iter().enumerate() {
            // What comes later in the file, for the same packets, wins only when it is of a stronger kind.
            let entries = [entry(second, 0), entry(first, 6)];
            let compiled = compile(Vec::new(), &entries, 1, &ends);
            let order: Vec<u32> = compiled.rules.iter().map(|r| r.rule.index).collect();
            assert_eq!(order, if strong < weak { [2, 1] } else { [1, 2] }, "{second}, then {first}");
            let tcp = sadb_maps::policy::Selectors { proto: 6, ..Default::default() };
            let hit = compiled.rules.iter().find(|r| r.rule.matches(&tcp, direction::OUT)).unwrap();
            assert_eq!(hit.rule.index, if strong < weak { 2 } else { 1 }, "{second}, then {first}");
            assert_eq!(hit.rule.verdict == verdict::PASS, hit.rule.priority & 0x80_0000 != 0);
        }
    }
}

#[test]
fn an_address_makes_a_rule_one_for_its_version_of_ip() {
    let families = |text: &str| rules(text)[0].rule.flags & (rule_flag::V4 | rule_flag::V6);
    for (pattern, wanted) in [
        ("", 0),
        ("ulp tcp", 0),
        ("laddr 0.0.0.0/0", rule_flag::V4),
        ("raddr 192.0.2.1", rule_flag::V4),
        ("raddr ::/0", rule_flag::V6),
        ("laddr ::/0", rule_flag::V6),
        ("laddr ::/64 raddr 2001:db8::1", rule_flag::V6),
    ] {
        assert_eq!(families(&format!("{{ {pattern} dir both }} drop {{ }}")), wanted, "{pattern}");
    }
    let id = |text: &str| rules(text)[0].rule.action_id;
    assert_ne!(id("{ raddr ::/0 } ipsec { encr_algs aes-gcm }"), id("{ } ipsec { encr_algs aes-gcm }"));
    assert!(list("{ laddr ::/0 dir in } drop { }").contains("{ raddr ::/0 dir in } drop"));
    assert_eq!(
        rules("{ raddr ::/0 dir in } drop { }\n{ dir in } drop { }\n{ raddr 0.0.0.0/0 dir in } drop { }").len(),
        3
    );
}

#[test]
fn ten_thousand_entries_compile_in_a_moment() {
    let text: String = (0..10_000u32)
        .map(|n| format!("{{ raddr 10.{}.{}.0/24 }} ipsec {{ encr_algs aes-gcm }}\n", n >> 8, n & 255))
        .collect();
    let file = file(&text);
    let start = std::time::Instant::now();
    let compiled = compile(Vec::new(), &file.entries, 1, &ends);
    let again = compile(compiled.rules, &file.entries, 20_000, &ends);
    assert_eq!((again.rules.len(), again.warnings.len()), (10_000, 10_000));
    // Generous: the machine may be busy.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// RFC 8221 sections 5 and 6.
#[test]
fn deprecated_algorithms_warn() {
    for (props, count) in [
        ("encr_algs 3des encr_auth_algs md5", 2),
        ("encr_algs blowfish encr_auth_algs sha1", 1),
        ("encr_algs any encr_auth_algs any", 0),
    ] {
        let found = file(&format!("{{ }} ipsec {{ {props} }}"));
        assert_eq!(found.problems, [], "{props}");
        let warned = found.warnings.iter().filter(|w| w.text.contains("RFC 8221")).count();
        assert_eq!(warned, count, "{props}: {:?}", found.warnings);
    }
}

#[test]
fn duplicates_are_skipped_with_a_warning() {
    let file = file(
        "{ ulp tcp } ipsec { encr_algs aes-gcm }\n{ ulp 6 dir in } ipsec { encr_algs any }\n{ ulp tcp dir in } drop { }",
    );
    let compiled = compile(Vec::new(), &file.entries, 5, &ends);
    assert_eq!(compiled.indexes, [Some(5), None, Some(6)]);
    assert_eq!(compiled.warnings.len(), 1);
    let more = compile(compiled.rules, &file.entries, 7, &ends);
    assert_eq!(more.indexes, [None; 3]);
}

#[test]
fn structure_errors_have_their_place_and_do_not_stop_the_parse() {
    assert_error("{ ulp tcp } pass { } \\", "1:22 Error before or at line 1");
    assert_error("{ ulp tcp } pass { }\nor pass { }", "2:1 Error before or at line 2");
    assert_error("{ ulp tcp } pass { } { ulp udp } pass { }", "1:22 Error before or at line 1");
    assert_error("{ ulp tcp }\n{ ulp udp dir in } pass { }", "1:11 Missing action on line 1");
    assert_error("{ ulp tcp }\n\nladdr pass { }", "3:1 Invalid action on line 3: 'laddr'");
    assert_eq!(rules("{ ulp tcp dir in }\n# what the manual of Solaris does itself\n  pass\n{ }").len(), 1);
    assert_error("{ ulp tcp } allow { }", "1:13 Invalid action on line 1");
    assert_error("{ ulp tcp } pass", "1:13 Missing or incomplete properties");
    assert_error("{ ulp tcp } pass { encr_algs aes }", "1:20 Invalid properties");
    let two = errors("{ ulp tcp }\n{ ulp udp dir in } pass { }\n{ ulp udp dir up } drop { }");
    assert_eq!(two.len(), 2, "the rule behind the bad one is read: {two:?}");
    assert_error("{ ulp tcp ulp udp dir in } pass { }", "1:11 Duplicate Upper Layer Protocol");
    assert_error("{ LADDR 10.0.0.1 } pass { }", "1:3 Invalid pattern");
    assert_error("{ laddr 10.0.0.1 dport 1 } pass { }", "1:18 Bad Destination Port");
    assert_error("{ ulp } pass { }", "1:3 Error before or at line 1");
    assert_error("{ ulp tcp", "1:1 Error before or at line 1");
    assert_error("{ lport 65536 dir in } pass { }", "1:9 Bad Source Port");
    assert_error("{ ulp icmp type 256 dir in } pass { }", "1:17 Bad ICMP type");
    assert_error("{ ulp icmp type echo6 dir in } pass { }", "1:17 Bad ICMP type");
    assert_error("{ ulp icmp code 1 dir in } pass { }", "1:12 Requires ICMP type");
    assert_error("{ ulp tcp type 1 dir in } pass { }", "1:11 Requires Upper Layer Protocol");
    assert_error("{ daddr ::1 dmask 0xff000000 } drop { }", "1:13 Bad Destination Mask on line 1: masks are for IPv4");
    assert_error("{ dmask 0xff000000 } drop { }", "1:3 Requires Destination Address");
    assert_error("{ daddr 10.0.0.1/8 dmask 0xff000000 } drop { }", "1:20 Bad Destination Mask");
    assert_error("{ daddr 10.0.0.1 dmask 0xff00ff00 } drop { }", "1:24 Bad Destination Mask");
    assert_error(&format!("{{ {}}} pass {{ }}", "ulp tcp ".repeat(11)), "1:83 Too many tokens");
    let several = errors("{ bogus 1 ulp tcp } pass { }\n{ laddr 1.2.3 } ipsec\n{ encr_algs x }\n{ } drop");
    assert_eq!(several.len(), 4, "{several:?}");
    let file = file("{ ulp tcp\n{ dir in } pass { }\n{ dir out } drop { }");
    assert_eq!(file.entries.len(), 2);
    assert_eq!(file.malformed, [Malformed { line: 1, text: "{ ulp tcp".to_owned() }]);
}

#[test]
fn text_that_is_no_text_is_refused_with_its_place() {
    let file = parse(b"# one\n# t\xc3\xbc \xff\n", &FakeNames);
    assert_eq!(file.problems, [Problem::NotText(Position { line: 2, column: 6 })]);
}

#[test]
fn pass_without_dir_is_both_with_a_warning() {
    let file = file("{ ulp tcp } bypass { }");
    assert_eq!(file.warnings.len(), 1);
    assert!(list("{ ulp tcp } bypass { }").contains("dir both } pass"));
}

#[test]
fn the_examples_of_the_manual_load() {
    let page = include_str!("../../../docs/man/ipsecinit.conf.5");
    let examples = page.split(".Sh EXAMPLES\n.Bd -literal\n").nth(1).unwrap().split(".Ed").next().unwrap();
    let file = file(examples);
    assert_eq!((file.problems.as_slice(), file.entries.len(), file.warnings.len()), (&[][..], 5, 0));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::sample::select(vec![
                "{",
                "}",
                "\n",
                "#",
                "or",
                "ipsec",
                "pass",
                "drop",
                "apply",
                "permit",
                "laddr",
                "raddr",
                "src",
                "dst",
                "smask",
                "lport",
                "dport",
                "ulp",
                "tcp",
                "icmp",
                "type",
                "code",
                "tunnel",
                "vpn0",
                "negotiate",
                "transport",
                "dir",
                "in",
                "both",
                "encr_algs",
                "aes-gcm(128..)",
                "any",
                "encr_auth_algs",
                "auth_algs",
                "sha256",
                "sa",
                "unique",
                "10.0.0.0/8",
                "::/0",
                "many",
                "80",
                "0-255",
                "255.0.0.0",
            ])
            .prop_map(str::to_owned),
            "\\PC{0,12}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn no_text_panics_and_every_error_has_a_place(words in proptest::collection::vec(word(), 0..60)) {
            let text = words.join(" ");
            let lines = text.lines().count() as u32;
            let file = file(&text);
            for problem in &file.problems {
                let at = problem.position();
                prop_assert!(at.line >= 1 && at.line <= lines.max(1) && at.column >= 1, "{problem}");
            }
            let compiled = compile(Vec::new(), &file.entries, 1, &ends);
            for rule in &compiled.rules {
                listing::text(rule, Some(&FakeNames));
                prop_assert!((rule.rule.verdict == sadb_maps::policy::verdict::PROTECT) == (rule.rule.action_id != 0));
            }
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&octets, &FakeNames);
        }
    }
}
