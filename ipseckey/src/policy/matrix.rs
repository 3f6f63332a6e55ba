//! Every keyword with every kind of value, in every style, with every action: what spec sections 4.2 to 4.4 say, written
//! down anew here, so that it and the parser check each other. From the same table come random rules that are printed and
//! read again.

use super::compile::compile;
use super::*;
use crate::names::fake::FakeNames;
use proptest::prelude::*;
use sadb_maps::host::spd::CompiledRule;
use sadb_maps::policy::rule_flag;
use std::net::IpAddr;

/// Which rules take a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Source and destination.
    Old,
    /// Local and remote.
    New,
    /// Both.
    Any,
}

/// A keyword of the pattern with its synonyms, and values that are good and bad for it.
struct Row {
    words: &'static [&'static str],
    style: Style,
    /// What must stand before it.
    beside: &'static str,
    good: &'static [&'static str],
    bad: &'static [&'static str],
    /// What a message calls it.
    subject: &'static str,
}

const fn row(
    words: &'static [&'static str],
    style: Style,
    beside: &'static str,
    good: &'static [&'static str],
    bad: &'static [&'static str],
    subject: &'static str,
) -> Row {
    Row { words, style, beside, good, bad, subject }
}

const ADDRESSES: &[&str] = &[
    "192.0.2.1",
    "10.0.0.0/8",
    "10.1.2.3/32",
    "0.0.0.0/0",
    "2001:db8::1",
    "2001:db8::/32",
    "::/0",
    "one",
    "one/24",
    "many",
    "mixed",
    "lab",
    "lab/24",
];
const BAD_ADDRESSES: &[&str] = &[
    "nobody",
    "192.0.2",
    "192.0.2.256",
    "192.0.2.1/33",
    "2001:db8::/129",
    "192.0.2.1/",
    "192.0.2.1/-1",
    "many/24",
    "1!",
    "/8",
];
const MASKS: &[&str] = &["0xffffff00", "0XFF000000", "255.255.0.0", "255.255.255.255"];
const BAD_MASKS: &[&str] =
    &["0", "0x0", "0.0.0.0", "255.0.255.0", "0xff00ff00", "0x1ffffffff", "24", "/24", "0x+ff", "mask"];
const PORTS: &[&str] = &["0", "1", "65535", "http", "ssh"];
const BAD_PORTS: &[&str] = &["65536", "-1", "1-2", "0x50", "nothing", "+1"];
const PROTOCOLS: &[&str] = &["0", "6", "255", "tcp", "udp", "icmp", "ipv6-icmp"];
const BAD_PROTOCOLS: &[&str] = &["256", "-1", "0x6", "nothing", "TCP/IP"];

const PATTERN: &[Row] = &[
    row(&["saddr", "src", "srcaddr"], Style::Old, "", ADDRESSES, BAD_ADDRESSES, "Source Address"),
    row(&["daddr", "dst", "dstaddr"], Style::Old, "", ADDRESSES, BAD_ADDRESSES, "Destination Address"),
    row(&["smask"], Style::Old, "src 192.0.2.1", MASKS, BAD_MASKS, "Source Mask"),
    row(&["dmask"], Style::Old, "dst 192.0.2.1", MASKS, BAD_MASKS, "Destination Mask"),
    row(&["sport"], Style::Old, "", PORTS, BAD_PORTS, "Source Port"),
    row(&["dport"], Style::Old, "", PORTS, BAD_PORTS, "Destination Port"),
    row(&["laddr", "local"], Style::New, "", ADDRESSES, BAD_ADDRESSES, "Source Address"),
    row(&["raddr", "remote"], Style::New, "", ADDRESSES, BAD_ADDRESSES, "Destination Address"),
    row(&["lport"], Style::New, "", PORTS, BAD_PORTS, "Source Port"),
    row(&["rport"], Style::New, "", PORTS, BAD_PORTS, "Destination Port"),
    row(&["ulp", "proto"], Style::Any, "", PROTOCOLS, BAD_PROTOCOLS, "Upper Layer Protocol"),
    row(
        &["type"],
        Style::Any,
        "ulp icmp",
        &["0", "255", "3-4", "8-8", "echo", "unreach", "maskrep"],
        &["256", "4-3", "3-", "-3", "echo6", "nothing", "3-256"],
        "ICMP type",
    ),
    row(
        &["type"],
        Style::Any,
        "ulp ipv6-icmp",
        &["1", "133-137", "echo6", "router-sol6", "redir6"],
        &["256", "echo", "unreach", "nothing"],
        "ICMP type",
    ),
    row(
        &["code"],
        Style::Any,
        "ulp icmp type unreach",
        &["0", "254", "1-3", "needfrag", "cutoff-preced"],
        &["255", "3-1", "no-route6", "nothing"],
        "ICMP code",
    ),
    row(
        &["code"],
        Style::Any,
        "ulp 58 type 1",
        &["4", "no-route6", "port-unr6", "0-4"],
        &["255", "needfrag", "256"],
        "ICMP code",
    ),
    row(
        &["tunnel"],
        Style::Any,
        "negotiate tunnel",
        &["vpn0", "ip.tun0", "a_b-c", "0123456789012345678901234567890"],
        &["vpn/0", "01234567890123456789012345678901", "vpn,0", "tünnel"],
        "Tunnel",
    ),
    row(
        &["negotiate"],
        Style::Any,
        "tunnel vpn0",
        &["tunnel", "tun", "transport", "tr"],
        &["TUNNEL", "both", "tunnels", "x"],
        "Negotiate",
    ),
];

/// Values of `dir` by style.
const DIRECTIONS: &[(&str, bool, bool)] = &[
    // Word, good for new style, good for old style.
    ("in", true, true),
    ("i", true, true),
    ("out", true, true),
    ("o", true, true),
    ("both", true, false),
    ("b", true, false),
    ("IN", false, false),
    ("inout", false, false),
    ("x", false, false),
];

/// An action word: what directions it forces, and whether it protects.
const ACTIONS: &[(&str, Option<&str>, bool)] = &[
    ("ipsec", None, true),
    ("apply", Some("out"), true),
    ("permit", Some("in"), true),
    ("pass", None, false),
    ("bypass", None, false),
    ("drop", None, false),
];

/// Properties of protection, and whether they are good.
const PROPERTIES: &[(&str, bool)] = &[
    ("encr_algs aes-gcm", true),
    ("encr_algs AES-GCM(256)", true),
    ("encr_algs aes(128..192) encr_auth_algs sha256", true),
    ("encr_algs 12 encr_auth_algs 5", true),
    ("encr_algs blowfish(..128) encr_auth_algs md5", true),
    ("encr_algs any", true),
    ("encr_algs any(256..) encr_auth_algs any", true),
    ("encr_algs aes", true),
    ("encr_auth_algs sha512", true),
    ("auth_algs sha1", true),
    ("auth_algs any encr_algs chacha20-poly1305", true),
    ("auth_algs sha256 encr_algs 3des encr_auth_algs sha1", true),
    ("encr_algs aes-gcm auth_algs none", true),
    ("", false),
    ("encr_algs none", false),
    ("encr_algs aes-gcm encr_auth_algs sha256", false),
    ("encr_algs aes-gcm(64)", false),
    ("encr_algs aes(192..128)", false),
    ("encr_algs rot13", false),
    ("encr_algs sha256", false),
    ("auth_algs aes", false),
    ("encr_algs aes-gcm encr_algs aes-gcm", false),
    ("encr_algs aes-gcm bogus 1", false),
    ("encr_algs", false),
];

const SA: &[(&str, bool)] = &[
    ("", true),
    ("sa shared", true),
    ("sa unique", true),
    ("sa SHARED", false),
    ("sa shared sa shared", false),
    ("sa", false),
];

fn problems(text: &str) -> Vec<String> {
    parse(text.as_bytes(), &FakeNames).problems.iter().map(|p| format!("{} {p}", p.position())).collect()
}

#[track_caller]
fn check(text: &str, good: bool, about: &str) {
    let found = problems(text);
    if good {
        assert!(found.is_empty(), "{text}: {found:?}");
    } else {
        assert!(found.iter().any(|problem| problem.contains(about)), "{text}: wanted {about}, got {found:?}");
    }
}

/// A direction and an action that go with every pattern of a style.
fn rule(pattern: &str) -> String {
    format!("{{ {pattern} dir in }} drop {{ }}")
}

#[test]
fn every_keyword_with_every_value() {
    for row in PATTERN {
        for word in row.words {
            for value in row.good {
                check(&rule(&format!("{} {word} {value}", row.beside)), true, "");
            }
            for value in row.bad {
                check(&rule(&format!("{} {word} {value}", row.beside)), false, &format!("Bad {}", row.subject));
            }
            // Without a value, twice, in capitals, and without what goes before it.
            check(&format!("{{ {} {word} }} drop {{ }}", row.beside), false, "has no value");
            let value = row.good[0];
            for again in row.words {
                let twice = rule(&format!("{} {word} {value} {again} {value}", row.beside));
                check(&twice, false, &format!("Duplicate {}", row.subject));
            }
            check(&rule(&format!("{} {} {value}", row.beside, word.to_uppercase())), false, "Invalid pattern");
            let needs = match *word {
                "smask" => "Requires Source Address",
                "dmask" => "Requires Destination Address",
                "type" | "code" => "Requires Upper Layer Protocol",
                "tunnel" | "negotiate" => "must occur together",
                _ => continue,
            };
            check(&rule(&format!("{word} {value}")), false, needs);
        }
    }
}

#[test]
fn styles_do_not_mix() {
    for one in PATTERN {
        for other in PATTERN {
            let text = rule(&format!(
                "{} {} {} {} {} {}",
                one.beside, one.words[0], one.good[0], other.beside, other.words[0], other.good[0]
            ));
            let mixed = matches!((one.style, other.style), (Style::Old, Style::New) | (Style::New, Style::Old));
            let told = problems(&text).iter().any(|p| p.contains("do not mix"));
            assert_eq!(told, mixed, "{text}");
        }
    }
}

#[test]
fn every_direction_with_every_action_in_every_style() {
    for (action, forced, protects) in ACTIONS {
        let properties = if *protects { "encr_algs aes-gcm" } else { "" };
        for (pattern, old) in [("lport 1", false), ("sport 1", true)] {
            for (dir, new_style, old_style) in DIRECTIONS {
                let good = if old { *old_style } else { *new_style };
                // apply and permit say which direction; another one contradicts them, whatever the style.
                let conflict = good && forced.is_some_and(|forced| !forced.starts_with(dir));
                let about = if conflict { "Direction conflicts" } else { "Bad Direction" };
                let both = dir.starts_with('b') && (old || forced.is_some());
                let good = good && !conflict;
                let text = format!("{{ {pattern} dir {dir} }} {action} {{ {properties} }}");
                check(&text, good, if both { "Direction" } else { about });
                if old {
                    check(&format!("{{ {pattern} }} {action} {{ {properties} dir {dir} }}"), good, "Direction");
                    check(
                        &format!("{{ {pattern} dir in }} {action} {{ {properties} dir in }}"),
                        false,
                        "Duplicate Direction",
                    );
                }
            }
            let needs = old && *action == "ipsec";
            check(&format!("{{ {pattern} }} {action} {{ {properties} }}"), !needs, "Requires Direction");
        }
    }
}

#[test]
fn every_property_with_every_action() {
    for (action, _, protects) in ACTIONS {
        for (properties, good) in PROPERTIES {
            for (sa, good_sa) in SA {
                let text = format!("{{ ulp tcp }} {action} {{ {properties} {sa} }}");
                let nothing = properties.is_empty() && sa.is_empty();
                let good = if *protects { *good && *good_sa } else { nothing };
                assert_eq!(problems(&text).is_empty(), good, "{text}: {:?}", problems(&text));
            }
        }
    }
}

#[test]
fn transport_mode_takes_no_selectors() {
    for row in PATTERN.iter().filter(|row| !["tunnel", "negotiate"].contains(&row.words[0])) {
        let text = rule(&format!("tunnel vpn0 negotiate transport {} {} {}", row.beside, row.words[0], row.good[0]));
        check(&text, false, "negotiate transport takes no selectors");
    }
}

fn ends(name: &str) -> Option<(IpAddr, IpAddr)> {
    (name == "vpn0").then(|| ("192.0.2.1".parse().unwrap(), "198.51.100.1".parse().unwrap()))
}

/// What a rule means, place and index aside.
fn meaning(rule: &CompiledRule) -> impl PartialEq + std::fmt::Debug {
    let CompiledRule { rule, tunnel } = rule.clone();
    (
        [rule.laddr, rule.lmask, rule.raddr, rule.rmask],
        [rule.lport, rule.rport],
        (rule.proto, rule.verdict, rule.directions, rule.flags, rule.action_id),
        (rule.flags & rule_flag::ICMP != 0).then_some([rule.icmp_type, rule.icmp_code]),
        (rule.tunnel_mode, tunnel),
        rule.actions[..rule.action_count as usize].to_vec(),
    )
}

/// One keyword with a value that is good for it, or nothing.
fn chosen(row: &'static Row) -> impl Strategy<Value = String> {
    let value = proptest::sample::select(row.good);
    let word = proptest::sample::select(row.words);
    (word, value, 0..3u8)
        .prop_map(|(word, value, there)| if there == 0 { format!("{word} {value} ") } else { String::new() })
}

/// A rule that may be good: the parser says.
fn random_rule() -> impl Strategy<Value = String> {
    let pattern: Vec<_> = PATTERN.iter().filter(|row| row.beside.is_empty()).map(chosen).collect();
    let extra = prop_oneof![
        4 => Just(String::new()),
        1 => Just("ulp icmp type 3-4 code 1 ".to_owned()),
        1 => Just("ulp 58 type 133-137 ".to_owned()),
        1 => Just("tunnel vpn0 negotiate tunnel ".to_owned()),
        1 => Just("tunnel vpn0 negotiate transport ".to_owned()),
    ];
    let dir = proptest::sample::select(vec!["dir in ", "dir out ", "dir both ", ""]);
    let style = any::<bool>();
    let good = |list: &'static [(&'static str, bool)]| -> Vec<&'static str> {
        list.iter().filter(|(_, good)| *good).map(|(text, _)| *text).collect()
    };
    let protection = (proptest::sample::select(good(PROPERTIES)), proptest::sample::select(good(SA)));
    let action = prop_oneof![
        2 => Just("pass { }".to_owned()),
        1 => Just("drop { }".to_owned()),
        4 => proptest::collection::vec(protection, 1..4)
            .prop_map(|list| list.iter().map(|(p, sa)| format!("ipsec {{ {p} {sa} }}")).collect::<Vec<_>>().join(" or ")),
    ];
    (pattern, extra, dir, style, action).prop_map(|(pattern, extra, dir, old, action)| {
        let unwanted = if old { Style::New } else { Style::Old };
        let rows = PATTERN.iter().filter(|row| row.beside.is_empty());
        let kept = rows.zip(&pattern).filter(|(row, _)| row.style != unwanted && !extra.contains(row.words[0]));
        let pattern: String = kept.map(|(_, text)| text.as_str()).collect();
        format!("{{ {extra}{pattern}{dir}}} {action}\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    /// What is listed, with names or without, is policy, means the same, and is listed alike.
    #[test]
    fn what_is_listed_loads_and_lists_the_same(text in random_rule()) {
        let file = parse(text.as_bytes(), &FakeNames);
        let compiled = compile(Vec::new(), &file.entries, 1, &ends);
        prop_assert!(file.problems.is_empty() || compiled.rules.is_empty());
        for names in [None, Some(&FakeNames as &dyn Names)] {
            for rule in &compiled.rules {
                let listed = listing::text(rule, names);
                let again = parse(listed.as_bytes(), &FakeNames);
                prop_assert!(again.problems.is_empty(), "{}: {:?}", listed, again.problems);
                let again = compile(Vec::new(), &again.entries, rule.rule.index, &ends);
                let Some(same) = again.rules.iter().find(|other| meaning(other) == meaning(rule)) else {
                    return Err(TestCaseError::fail(format!("{text}{listed}means {:?}", again.rules.iter().map(meaning).collect::<Vec<_>>())));
                };
                prop_assert_eq!(listing::text(same, names), listed);
            }
        }
    }
}

/// The table above covers what the random rules need.
#[test]
fn random_rules_are_mostly_good() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let rules: Vec<String> = (0..200).map(|_| random_rule().new_tree(&mut runner).unwrap().current()).collect();
    let good = rules.iter().filter(|text| problems(text).is_empty()).count();
    assert!(good > 80, "{good} of {}", rules.len());
}
