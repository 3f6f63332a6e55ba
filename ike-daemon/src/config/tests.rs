//! ikev2.config as a whole: what is accepted, what it means, and what is said about what is not.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::api::{IdGlob, IdPattern, LocalIdentity};
use crate::wire::id::{IdType, Identification};
use crate::wire::transform::{Encr, GroupId, IntegId, PrfId};

const XFORM: &str = "ikesa_xform { encr_alg aes-gcm(128..256) auth_alg sha256 oakley_group 31 }\n";

fn good(text: &str) -> RuleSet {
    match parse_rules("ikev2.config", text) {
        Ok(loaded) => loaded.value,
        Err(report) => panic!("{report}"),
    }
}

fn bad(text: &str) -> String {
    parse_rules("ikev2.config", text).expect_err("refused").to_string()
}

#[test]
fn the_sample_of_the_specification() {
    let rules = good(
        r#"
        ikesa_lifetime_secs 3600
        ikesa_xform { encr_alg aes(256..256) auth_alg sha384 oakley_group 20 }
        ikesa_xform { encr_alg aes(128..128) auth_alg sha256 oakley_group 19 }  // second best
        {
            label "branch-7"
            auth_method preshared
            local_addr  192.0.2.1
            remote_addr 198.51.100.7
            local_id  IP = "192.0.2.1"
            remote_id FQDN = "gw7.example.net"
            childsa_pfs 20
        }
        "#,
    );
    let [configured] = rules.rules() else { panic!("one rule") };
    let rule = &configured.rule;
    assert_eq!((rule.label.as_str(), rule.source.line), ("branch-7", 5));
    assert_eq!(rule.local_id, LocalIdentity::Fixed(Identification::address("192.0.2.1".parse().unwrap())));
    assert_eq!(rule.remote_id, IdPattern::Fqdn(IdGlob("gw7.example.net".into())));
    assert_eq!(rule.childsa_pfs, GroupId::ECP_384);
    assert_eq!(rule.ikesa_lifetime, Duration::from_secs(3600));
    let [first, second] = rule.proposals.as_slice() else { panic!("two proposals") };
    assert_eq!(first.encr, [Encr::aes_cbc(256)]);
    assert_eq!(first.integ, [IntegId::HMAC_SHA2_384_192]);
    assert_eq!(first.prf, [PrfId::HMAC_SHA2_384]);
    assert_eq!(first.groups, [GroupId::ECP_384]);
    assert_eq!(second.groups, [GroupId::ECP_256]);
}

#[test]
fn defaults_are_addresses_as_identities_and_the_built_in_lifetimes() {
    let rules =
        good(&format!("{XFORM}{{ label \"a\" auth_method preshared local_addr ::/0 remote_addr 2001:db8::/32 }}"));
    let rule = &rules.rules()[0].rule;
    assert_eq!(rule.local_id, LocalIdentity::Address);
    assert_eq!(rule.remote_id, IdPattern::PeerAddress);
    assert_eq!(rule.childsa_pfs, GroupId::NONE);
    assert_eq!(rule.child_lifetimes, Defaults::BUILT_IN.child);
    assert!(rule.psk.is_none());
    assert_eq!(rule.proposals[0].encr, [Encr::aes_gcm_16(256), Encr::aes_gcm_16(192), Encr::aes_gcm_16(128)]);
    assert!(rule.proposals[0].integ.is_empty());
    assert_eq!(rule.proposals[0].prf, [PrfId::HMAC_SHA2_256]);
}

#[test]
fn a_combined_mode_cipher_without_hash_offers_every_prf() {
    let rules = good(
        "{ label \"a\" auth_method preshared local_addr 10.0.0.1 remote_addr 10.0.0.2\n\
         ikesa_xform { encr_alg chacha20-poly1305 dh_group 31 } }",
    );
    let proposal = &rules.rules()[0].rule.proposals[0];
    assert_eq!(proposal.encr, [Encr::CHACHA20_POLY1305]);
    assert_eq!(proposal.prf.len(), 3);
}

#[test]
fn rules_override_globals() {
    let rules = good(&format!(
        "auth_method preshared childsa_lifetime_secs 1000 childsa_pfs 19 retry_timer_init 0.25 retry_limit 3\n{XFORM}\
         {{ label \"a\" local_addr 10.0.0.1 remote_addr 10.0.0.2 }}\n\
         {{ label \"b\" local_addr 10.0.0.1 remote_addr 10.0.0.3 childsa_lifetime_secs 100 childsa_softlife_secs 100\n\
            childsa_pfs 0 childsa_lifetime_kb 10 ikesa_xform {{ encr_alg aes(192) auth_alg sha512 prf_alg sha256 oakley_group 20 }} }}"
    ));
    let (a, b) = (&rules.rules()[0].rule, &rules.rules()[1].rule);
    assert_eq!((a.child_lifetimes.hard, a.child_lifetimes.soft), (Duration::from_secs(1000), Duration::from_secs(900)));
    assert_eq!(a.childsa_pfs, GroupId::ECP_256);
    assert_eq!((a.retry.limit, a.retry.initial), (3, Duration::from_millis(250)));
    assert_eq!((b.child_lifetimes.hard, b.child_lifetimes.soft), (Duration::from_secs(100), Duration::ZERO));
    assert_eq!((b.child_lifetimes.hard_bytes, b.child_lifetimes.soft_bytes), (10240, 9216));
    assert_eq!(b.childsa_pfs, GroupId::NONE);
    assert_eq!(b.proposals.len(), 1);
    assert_eq!(b.proposals[0].encr, [Encr::aes_cbc(192)]);
    assert_eq!(b.proposals[0].prf, [PrfId::HMAC_SHA2_256]);
}

#[test]
fn addresses_choose_rules_in_the_order_of_the_file() {
    let rules = good(&format!(
        "auth_method preshared {XFORM}\
         {{ label \"one\" local_addr 192.0.2.1 remote_addr 203.0.113.10-203.0.113.20 remote_addr 198.51.100.0 / 24 }}\n\
         {{ label \"net\" local_addr 0.0.0.0/0 remote_addr 198.51.100.0/255.255.255.0 }}"
    ));
    let labels = |local: &str, remote: &str| -> Vec<String> {
        rules.covering(local.parse().unwrap(), remote.parse().unwrap()).map(|rule| rule.rule.label.clone()).collect()
    };
    assert_eq!(labels("192.0.2.1", "198.51.100.9"), ["one", "net"]);
    assert_eq!(labels("192.0.2.2", "198.51.100.9"), ["net"]);
    assert_eq!(labels("192.0.2.1", "203.0.113.20"), ["one"]);
    assert!(labels("192.0.2.1", "203.0.113.21").is_empty());
    assert!(rules.by_label("net").is_some() && rules.by_label("Net").is_none());
}

#[test]
fn identities_of_every_supported_type() {
    let with = |ids: &str| {
        good(&format!("{XFORM}{{ label \"a\" auth_method preshared local_addr 10.0.0.1 remote_addr 10.0.0.2 {ids} }}"))
            .rules()[0]
            .rule
            .clone()
    };
    assert_eq!(with("remote_id ANY").remote_id, IdPattern::Any);
    // V2-MISC-06
    let any = format!(
        "{XFORM}{{ label \"a\" auth_method preshared local_addr 10.0.0.1 remote_addr 10.0.0.2 remote_id ANY }}"
    );
    let warnings = parse_rules("ikev2.config", &any).unwrap().warnings.to_string();
    assert!(warnings.contains("warning: whoever holds the preshared key"), "{warnings}");
    assert_eq!(
        with("remote_id IP=\"10.1.0.0/16\"").remote_id,
        IdPattern::AddressRange("10.1.0.0".parse().unwrap(), "10.1.255.255".parse().unwrap())
    );
    assert_eq!(with("remote_id DNS = \"*.example.net\"").remote_id, IdPattern::Fqdn(IdGlob("*.example.net".into())));
    assert_eq!(
        with("remote_id EMAIL = \"ops@example.net\"").remote_id,
        IdPattern::Email(IdGlob("ops@example.net".into()))
    );
    let key_id = Identification::new(IdType::KEY_ID, b"site 7 *".to_vec()).unwrap();
    assert_eq!(with("local_id KEY_ID = \"site 7 *\"").local_id, LocalIdentity::Fixed(key_id.clone()));
    assert_eq!(with("remote_id KEY_ID = \"site 7 *\"").remote_id, IdPattern::Exact(key_id));
}

#[test]
fn every_error_is_reported_with_its_place_and_line() {
    let text = "ikesa_xform { encr_alg des  auth_alg sha256 oakley_group 19 }\n\
        retry_limit many\n\
        {\n\
        \tlabel \"a\"\n\
        \tlocal_addr 10.0.0.300\n\
        \tremote_addr 10.0.0.9-10.0.0.1\n\
        \tauth_method rsa\n\
        \tp2_pfs 14\n\
        }\n\
        { label \"b\" label \"c\" auth_method cert local_addr 10.0.0.1 remote_addr 10.0.0.0/40\n\
          ikesa_xform { encr_alg aes(256..128) auth_alg sha256 oakley_group 1 } }\n\
        { auth_method preshared local_id DN = \"C\" childsa_pfs 1 bogus }\n";
    let report = bad(text);
    for expected in [
        "ikev2.config:1:24: error: the cipher des is known but not supported by this release",
        "ikev2.config:2:13: error: expected a number, found \"many\"\n    retry_limit many\n                ^",
        "ikev2.config:5:13: error: expected an IPv4 or IPv6 address in numbers, found \"10.0.0.300\"",
        "ikev2.config:6:14: error: the range ends before it begins",
        "ikev2.config:7:14: error: expected preshared, cert, rsa_sig, ecdsa_sig or eddsa_sig, found \"rsa\"",
        "ikev2.config:8:2: error: \"p2_pfs\" is a keyword of ike.config",
        "ikev2.config:10:13: error: \"label\" was given already at 10:3",
        "ikev2.config:10:81: error: a prefix of this family has at most 32 bits",
        "ikev2.config:11:28: error: the range of key lengths ends before it begins",
        "ikev2.config:12:34: error: expected a name such as",
        "ikev2.config:12:55: error: group 1 is known but not supported by this release",
        "ikev2.config:12:57: error: unknown keyword \"bogus\"",
    ] {
        assert!(report.contains(expected), "{expected}\nmissing in\n{report}");
    }
}

/// ALG-12, ALG-35: each weak choice has one warning with its place.
#[test]
fn alg_12_weak_choices_have_a_warning_each() {
    let text = "ikesa_xform { encr_alg 3des auth_alg sha1 prf_alg sha oakley_group 2 }\n\
        { label \"old\" auth_method preshared local_addr 10.0.0.1 remote_addr 10.0.0.2 childsa_pfs 22 }\n";
    let loaded = parse_rules("ikev2.config", text).unwrap();
    assert_eq!(loaded.warnings.findings().len(), 4);
    let warnings = loaded.warnings.to_string();
    for expected in [
        "ikev2.config:1:24: warning: 3DES has blocks of 64 bits",
        "ikev2.config:1:38: warning: SHA-1 is on its way out",
        "ikev2.config:1:68: warning: group 2 (1024-bit MODP) SHOULD NOT be used",
        "ikev2.config:2:90: warning: group 22 (1024-bit MODP, 160-bit subgroup) MUST NOT be used",
    ] {
        assert!(warnings.contains(expected), "{expected}\nmissing in\n{warnings}");
    }
    let proposal = &loaded.value.rules()[0].rule.proposals[0];
    assert_eq!(proposal.integ, [IntegId::HMAC_SHA1_96]);
    assert_eq!((&proposal.prf[..], &proposal.groups[..]), (&[PrfId::HMAC_SHA1][..], &[GroupId::MODP_1024][..]));
}

#[test]
fn what_is_missing_is_named() {
    let report = bad("{ }\n{ label \"b\" local_addr 10.0.0.1 remote_addr 10.0.0.2 auth_method preshared }");
    for expected in [
        "1:1: error: this block lacks a label",
        "1:1: error: this block lacks a local_addr",
        "1:1: error: this block lacks a remote_addr",
        "1:1: error: this block lacks an auth_method",
        "2:1: error: this block lacks an ikesa_xform, in the rule or outside every block",
    ] {
        assert!(report.contains(expected), "{expected}\nmissing in\n{report}");
    }
    let report = bad("ikesa_xform { encr_alg aes oakley_group 19 } ikesa_xform { auth_alg sha256 }");
    assert!(report.contains("1:13: error: this block lacks an auth_alg, which"), "{report}");
    assert!(report.contains("1:58: error: this block lacks an encr_alg"), "{report}");
    assert!(report.contains("1:58: error: this block lacks an oakley_group"), "{report}");
}

/// ROB-01: blocks inside blocks, as deep as a file of the largest size has room for, end in an error and not the process.
#[test]
fn rob_01_nested_blocks_do_not_nest_the_reader() {
    for (opening, scope) in [("ikesa_xform{", ""), ("{", ""), ("ikesa_xform{", "{ label \"a\" ")] {
        let text = format!("{scope}{}", opening.repeat(1024 * 1024 / opening.len() - 1));
        let report = bad(&text);
        assert!(report.contains("ikev2.config:1:"), "{report}");
    }
    let report = bad("ikesa_xform { encr_alg aes-gcm ikesa_xform { prf_alg sha256 } oakley_group 31 }\nbogus");
    assert!(report.contains(":1:32: error: \"ikesa_xform\" may not stand inside ikesa_xform { }"), "{report}");
    assert!(report.contains(":2:1: error: unknown keyword \"bogus\""), "{report}");
}

#[test]
fn labels_are_unique_and_bounded() {
    let rule = |label: &str| format!("{{ label \"{label}\" auth_method preshared local_addr ::1 remote_addr ::2 }}\n");
    let report = bad(&format!("{XFORM}{}{}", rule("a"), rule("a")));
    assert!(report.contains("3:9: error: the label \"a\" is already that of the rule at 2:9"), "{report}");
    good(&format!("{XFORM}{}", rule(&"x".repeat(255))));
    assert!(bad(&format!("{XFORM}{}", rule(&"x".repeat(256)))).contains("1 to 255 octets"));
    assert!(bad(&format!("{XFORM}{}", rule(""))).contains("1 to 255 octets"));
}

#[test]
fn a_missing_brace_does_not_swallow_the_next_rule() {
    let report = bad(&format!("{XFORM}{{ label \"a\"\n{{ label \"b\" bogus }}\n"));
    assert!(report.contains("2:1: error: this block is not closed"), "{report}");
    assert!(report.contains("3:13: error: unknown keyword \"bogus\""), "{report}");
}

#[test]
fn soft_limits_alone_are_ignored_with_a_warning() {
    let loaded = parse_rules("f", "childsa_softlife_secs 10 childsa_softlife_kb 10").unwrap();
    assert_eq!(loaded.warnings.findings().len(), 2);
    assert_eq!(loaded.value.defaults(), &Defaults::BUILT_IN);
}

#[test]
fn keys_are_attached_by_label_and_taken_away_again() {
    let mut rules = good(&format!(
        "auth_method preshared {XFORM}{{ label \"a\" local_addr ::1 remote_addr ::2 }} {{ label \"b\" local_addr ::1 remote_addr ::3 }}"
    ));
    let keys = |text: &str| parse_preshared("k", text).unwrap().value;
    let both = keys("{ label \"a\" label \"b\" label \"nobody\" key \"0123456789abcdef\" }");
    assert!(both.attach(&mut rules).is_empty());
    assert!(rules.rules().iter().all(|rule| rule.rule.psk.is_some()));
    let one = keys("{ label \"b\" local_key \"0123456789abcdef\" remote_key \"fedcba9876543210\" }");
    assert_eq!(one.attach(&mut rules), ["a"]);
    assert!(rules.by_label("a").unwrap().rule.psk.is_none());
    let psk = rules.by_label("b").unwrap().rule.psk.clone().unwrap();
    assert_ne!(psk.local, psk.remote);
}

/// Words out of which texts near the grammar are made.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "(",
        ")",
        "/",
        "-",
        "=",
        "..",
        "\"",
        "\"x\"",
        "\\",
        "\\\n",
        "\n",
        "#",
        "//",
        "label",
        "local_addr",
        "remote_addr",
        "10.0.0.1",
        "::1",
        "24",
        "auth_method",
        "preshared",
        "cert",
        "ikesa_xform",
        "encr_alg",
        "aes",
        "aes-gcm",
        "256",
        "auth_alg",
        "sha256",
        "oakley_group",
        "19",
        "childsa_pfs",
        "0",
        "local_id",
        "remote_id",
        "IP",
        "ANY",
        "FQDN",
        "ikesa_lifetime_secs",
        "retry_timer_init",
        "0.5",
        "required_issuer",
        "é",
        "childsa_lifetime_kb",
        "99999999999999999999",
        "18446744073709551615",
        "childsa_softlife_secs",
        "childsa_lifetime_secs",
    ]);
    prop::collection::vec(word, 0..80).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rob_01_the_reader_never_panics_and_reports_in_order(text in words()) {
        if let Err(report) = parse_rules("f", &text) {
            prop_assert!(report.findings().is_sorted_by_key(|finding| finding.at));
            let _ = report.to_string();
        }
    }

    #[test]
    fn rob_01_nor_on_arbitrary_text(text in "\\PC{0,300}") {
        let _ = parse_rules("f", &text);
    }

    #[test]
    fn addresses_survive_the_file(a: u32, length in 0u8..=32) {
        let address = std::net::Ipv4Addr::from(a);
        let rules = good(&format!(
            "{XFORM}{{ label \"a\" auth_method preshared local_addr {address} remote_addr {address} / {length} }}"
        ));
        let rule = &rules.rules()[0];
        prop_assert_eq!(rule.local_addr[0], AddressSpec::Host(address.into()));
        prop_assert_eq!(rule.remote_addr[0], AddressSpec::prefix(address.into(), length).unwrap());
    }
}

/// The displayed blocks of a manual page.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split(".Bd -literal -offset indent\n").skip(1);
    blocks.filter_map(|block| block.split("\n.Ed\n").next()).map(|text| text.replace("\\-", "-") + "\n").collect()
}

#[test]
fn the_examples_of_the_manual_are_accepted() {
    let configs = examples(include_str!("../../../docs/man/ikev2.config.5"));
    assert_eq!(configs.len(), 3);
    for text in configs {
        assert!(!good(&text).rules().is_empty(), "{text}");
    }
    let keys: Vec<String> = examples(include_str!("../../../docs/man/ikev2.preshared.5"))
        .into_iter()
        .filter(|text| text.starts_with('{'))
        .collect();
    assert_eq!(keys.len(), 1);
    let loaded = parse_preshared("ikev2.preshared", &keys[0]).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.value.entries().len(), 2);
    assert!(loaded.warnings.is_empty());
}
