//! Commands, their errors and what becomes of them.

use super::parser::{Parsed, parse};
use super::request::{Command, SaType};
use super::*;
use crate::names::fake::FakeNames;
use command_lines::{Line, Lines};
use sadb_maps::host::{Direction, Mode, SaSpec};
use std::net::IpAddr;

const GCM: &str = "add esp spi 0x1001 src 192.0.2.1 dst 198.51.100.7 encr_alg aes-gcm \
                   encrkey 000102030405060708090a0b0c0d0e0f01020304";

fn lines(text: &str) -> Vec<Line> {
    Lines::new(text.as_bytes()).flatten().filter(|line| !line.words.is_empty()).collect()
}

fn read(text: &str) -> Parsed {
    parse(&lines(text)[0], &FakeNames)
}

fn specs(text: &str) -> Result<Vec<SaSpec>, Message> {
    let parsed = read(text);
    assert_eq!(parsed.errors, [], "{text}");
    match parsed.command {
        Some(Command::Add(request)) => convert::specs(&request, &|ip| ip.to_string() == "192.0.2.1"),
        other => panic!("{other:?}"),
    }
}

fn spec(text: &str) -> SaSpec {
    specs(text).unwrap().remove(0)
}

#[track_caller]
fn assert_error(text: &str, start: &str) {
    let parsed = read(text);
    let errors: Vec<_> = parsed.errors.iter().map(ToString::to_string).collect();
    assert!(errors.iter().any(|e| e.starts_with(start)), "{text}: wanted {start}, got {errors:?}");
    assert!(parsed.command.is_none());
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_add_carries_everything_over() {
    let text = format!(
        "{GCM} outbound replay 0x20 replay_value 010 pair-spi 9 soft_bytes 1000 hard_addtime 60 hard_alloc 2 \
         idle_usetime 5 esn state mature"
    );
    let spec = spec(&text);
    assert_eq!((spec.proto, spec.spi, spec.src, spec.dst), (50, 0x1001, ip("192.0.2.1"), ip("198.51.100.7")));
    assert_eq!((spec.direction, spec.mode, spec.encr, spec.esn), (Direction::Out, Mode::Transport, 20, true));
    assert_eq!(spec.key.octets(), (0..16).collect::<Vec<u8>>());
    assert_eq!(spec.salt.octets(), [1, 2, 3, 4]);
    assert_eq!((spec.replay_window, spec.replay_value, spec.pair_spi), (32, 8, Some(9)));
    assert_eq!((spec.soft.bytes, spec.hard.add, spec.hard.allocations, spec.idle), (1000, 60, 2, [0, 5]));
    assert!(spec.selectors.is_none());
}

#[test]
fn inner_addresses_make_a_tunnel() {
    // PFK-10
    let spec = spec(&format!("{GCM} proto 4 isrc 10.1.0.9/16 idst 10.2.0.0/15 iproto 6 idport 80"));
    let selectors = spec.selectors.unwrap();
    assert_eq!(spec.mode, Mode::Tunnel);
    assert_eq!(IpAddr::from(selectors.src_low), ip("10.1.0.0"));
    assert_eq!(IpAddr::from(selectors.src_high), ip("10.1.255.255"));
    assert_eq!(IpAddr::from(selectors.dst_high), ip("10.3.255.255"));
    assert_eq!((selectors.proto, selectors.sport, selectors.dport), (6, [0, 65535], [80, 80]));
    let half = self::spec(&format!("{GCM} isrc6 2001:db8::/32")).selectors.unwrap();
    assert_eq!(IpAddr::from(half.dst_low), ip("::"));
    assert_eq!(IpAddr::from(half.dst_high), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    let error = |tail: &str| specs(&format!("{GCM} {tail}")).unwrap_err().text;
    assert!(error("isrc 10.0.0.1 idst ::1").contains("67"));
    assert!(error("proto 41 isrc 10.0.0.1 idst 10.0.0.2").contains("67"));
    let transport = self::spec(&format!("{GCM} proto 17 dport 53")).selectors.unwrap();
    assert_eq!(IpAddr::from(transport.src_high), ip("192.0.2.1"));
    assert_eq!((transport.proto, transport.dport), (17, [53, 53]));
}

#[test]
fn nat_ports_follow_the_direction() {
    let tail = "encap udp nat_rem 203.0.113.5 nat_rport 1024";
    let ports = |text: &str| spec(text).encap.map(|e| (e.sport, e.dport));
    assert_eq!(ports(&format!("{GCM} {tail}")), Some((4500, 1024)));
    assert_eq!(ports(&format!("{GCM} inbound {tail}")), Some((1024, 4500)));
    let swapped = GCM.replace("src 192.0.2.1 dst 198.51.100.7", "src 198.51.100.7 dst 192.0.2.1");
    assert_eq!(ports(&format!("{swapped} encap u nat_lport 4501")), Some((4500, 4501)));
    assert_error(&format!("{GCM} encap udp"), "1:");
    assert_error(&format!("{GCM} encap tcp nat_loc 203.0.113.1"), "1:");
    assert_error(&format!("{GCM} nat_loc 203.0.113.1"), "1:");
    let nat = |tail: &str| spec(&format!("{GCM} encap udp nat_loc {tail}")).encap.unwrap().nat_local;
    assert_eq!(nat("one"), Some(ip("192.0.2.10")));
    assert_eq!(nat("mixed"), Some(ip("192.0.2.30")));
    assert_eq!(nat("six"), Some(ip("2001:db8::6")));
    assert_error(&format!("{GCM} encap udp nat_loc many"), "1:135: 'many' has several addresses");
    assert_error(&format!("{GCM} encap udp nat_rem nobody"), "1:135: 'nobody' is neither an address nor the name");
}

#[test]
fn algorithms_that_do_not_run_are_refused_by_name() {
    // ESP-FMT-13, ALG-01, PFK-06
    let error = |text: &str| specs(text).unwrap_err().text;
    let base = "add esp spi 1 dst 192.0.2.1";
    for (text, what) in [
        ("encr_alg aes encrkey 00ff", "aes-cbc does not authenticate: auth_alg and authkey"),
        ("encr_alg aes encrkey 00ff auth_alg sha256 authkey 11", "authkey has 8 bits; hmac-sha256 takes 256"),
        ("encr_alg aes encrkey 00ff auth_alg sha256", "hmac-sha256 needs a key: authkey"),
        ("encr_alg 16 encrkey 11", "takes a key of 128 or 192 or 256 bits and 24 bits of salt"),
        ("encr_alg blowfish encrkey 11 auth_alg sha1 authkey 0102030405060708090a0b0c0d0e0f1011121314", "32 to 448"),
    ] {
        assert!(error(&format!("{base} {text}")).contains(what), "{}", error(&format!("{base} {text}")));
    }
    let cbc = format!(
        "{base} encr_alg 3des encrkey {} auth_alg md5 authkey {}",
        "0123456789abcdef".repeat(3),
        "11".repeat(16)
    );
    let cbc = spec(&cbc);
    assert_eq!((cbc.encr, cbc.key.len(), cbc.auth, cbc.auth_key.len(), cbc.salt.len()), (3, 24, 2, 16, 0));
    let null = spec(&format!("{base} auth_alg sha1 authkey {}", "11".repeat(20)));
    assert_eq!((null.encr, null.key.len(), null.auth, null.auth_key.len()), (11, 0, 3, 20));
    assert!(
        error(&format!("{base} encr_alg aes-gcm encrkey 0011/12"))
            .contains("128 or 192 or 256 bits and 32 bits of salt")
    );
    assert!(
        error(&format!("{base} encr_alg chacha20-poly1305 encrkey {}", "ab".repeat(32)))
            .contains("256 bits and 32 bits of salt")
    );
    assert!(error(&format!("{GCM} auth_alg sha1 authkey 11")).contains("authenticates by itself"));
    assert!(error(&format!("{GCM} reserved_bits 24")).contains("32 bits of salt"));
    assert_eq!(spec(&format!("{GCM} reserved_bits 32")).salt.len(), 4);
    assert!(error(&format!("{base} encr_alg 99 encrkey 11")).contains("99 is unknown"));
}

#[test]
fn a_counter_mode_warns_and_keys_stay_out_of_messages() {
    // ALG-02, PFK-12, PFK-13
    let parsed = read(&format!("{GCM} replay 64"));
    assert_eq!(parsed.warnings.len(), 2);
    assert!(parsed.warnings[0].text.contains("counter mode"));
    assert!(parsed.warnings[1].text.contains("considered harmful"));
    let broken = read("add esp spi 1 dst 192.0.2.1 encr_alg aes encrkey deadbeefz bogus");
    assert!(broken.errors.iter().all(|e| !e.text.contains("deadbeef")), "{:?}", broken.errors);
    assert!(!format!("{:?}", read(GCM).command).contains("000102"));
}

/// RFC 8221 sections 5 and 6: one warning for each, and the SA is added all the same.
#[test]
fn deprecated_algorithms_warn() {
    let base = "add esp spi 1 src 192.0.2.2 dst 192.0.2.1";
    let md5 = format!("auth_alg md5 authkey {}", "ab12".repeat(8));
    for (text, names) in [
        (format!("{base} encr_alg des encrkey 0123456789abcdef {md5}"), &["des-cbc must not", "hmac-md5 must not"][..]),
        (format!("{base} encr_alg null {md5}"), &["hmac-md5 must not"]),
        (format!("{base} encr_alg aes encrkey {} auth_alg sha1 authkey {}", "01".repeat(16), "23".repeat(20)), &[]),
    ] {
        let parsed = read(&text);
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let found: Vec<_> = parsed.warnings.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(found.len(), names.len(), "{found:?}");
        assert!(found.iter().zip(names).all(|(found, name)| found.starts_with(name)), "{found:?}");
    }
}

/// A key in the wrong place is not repeated, and no name server is asked for it.
#[test]
fn a_key_in_the_wrong_place_is_not_shown() {
    let key = "00112233445566778899aabbccddeeff00112233";
    for text in [
        "KEY",
        "add esp spi 1 dst KEY",
        "add esp spi 1 dst ::1 state KEY",
        "add esp spi KEY dst ::1",
        "add esp spi 1 dst ::1 isrc KEY/3",
        "add esp spi 1 dst ::1 encr_alg KEY",
        "add KEY spi 1",
        "get esp spi 1 dst ::1 KEY",
        "dump esp KEY",
    ] {
        let parsed = read(&text.replace("KEY", key));
        assert!(!parsed.errors.is_empty(), "{text}");
        assert!(parsed.errors.iter().chain(&parsed.warnings).all(|m| !m.text.contains("0011")), "{text}");
    }
}

#[test]
fn names_with_several_addresses_make_several_sas() {
    let dst = |name: &str| GCM.replace("dst 198.51.100.7", &format!("dst {name}"));
    assert_eq!(specs(&dst("many")).unwrap().len(), 2);
    assert_eq!(specs(&dst("mixed")).unwrap().len(), 1);
    let parsed = read(&dst("one").replace("src 192.0.2.1", "src many"));
    assert!(parsed.warnings.iter().any(|w| w.text.contains("left unspecified")));
    let spec = spec(&dst("one").replace("src 192.0.2.1", "src many replay 64"));
    assert!(spec.src.is_unspecified() && spec.replay_window == 0);
    assert_error(&dst("nobody"), "1:38: 'nobody' is neither");
    assert_error(&dst("six"), "1:13: no source address has the IP version");
}

#[test]
fn every_fault_is_reported_with_its_place() {
    // PFK-02: what is missing, doubled or not needed is an error.
    assert_error("bogus", "1:1: unknown command");
    assert_error("add", "1:1: the SA type is missing");
    assert_error("add all", "1:5: a specific SA type is needed");
    assert_error("add rsvp", "1:5: 'rsvp' is no SA type");
    assert_error("flush esp now", "1:11: too many arguments");
    assert_error("add esp spi 0 dst 192.0.2.1", "1:13: an SPI of 0 is invalid");
    assert_error("add esp spi 0x100000000", "1:13: 0x100000000 does not fit 32 bits");
    assert_error("add esp spi 089", "1:13: '089' is no number");
    assert_error("add esp spi +1", "1:13: '+1' is no number");
    assert_error("add esp spi", "1:9: 'spi' needs a value");
    assert_error("add esp dst 192.0.2.1", "1:13: the SPI is missing");
    assert_error("get esp spi 1", "1:13: the destination is missing");
    assert_error("get esp spi 1 dst 192.0.2.1 replay 3", "1:29: extension 'replay' only goes with");
    assert_error("get esp spi 1 spi 2", "1:15: can only specify single 'spi'");
    assert_error("get esp spi 1 inbound outbound", "1:23: inbound and outbound do not go together");
    assert_error("get esp spi 1 dst 192.0.2.1 dst6 ::1", "1:29: can only specify single 'dst6'");
    assert_error("get esp spi 1 dst6 192.0.2.1", "1:20: '192.0.2.1' is neither an IPv6 address");
    assert_error("get esp spi 1 dst 192.0.2.1 proto tcp", "1:35: 'tcp' is no number");
    assert_error(&format!("{GCM} flags 1"), "1:");
    assert_error(&format!("{GCM} replay 65537"), "1:");
    assert_error(&format!("{GCM} replay_value 0x100000000"), "1:");
    assert_error(&format!("{GCM} state dead"), "1:");
    assert_error(&format!("{GCM} state 2"), "1:123: an SA cannot be added as 2 (diagnostic code 43)");
    assert_error(&format!("{GCM} state 4"), "1:123: '4' is no state: use mature");
    assert!(read(&format!("{GCM} state 1")).command.is_some());
    assert_error(&format!("{GCM} label x"), "1:");
    assert_error(&format!("{GCM} isrc 10.0.0.0/33"), "1:");
    assert_error(&format!("{GCM} isport 1 sport 2"), "1:");
    assert_error("add ah spi 1 dst 192.0.2.1 encr_alg aes encrkey 00", "1:37: AH does not encrypt");
    assert_error("add esp spi 1 dst 192.0.2.1 encr_alg null encrkey 00", "1:43: null encryption takes no key");
    assert_error("add esp spi 1 dst 192.0.2.1", "1:19: an algorithm is missing");
    assert_error("update-pair esp spi 1 dst 192.0.2.1 pair-spi 2", "1:46: update-pair takes no pair-spi");
    // All at once, and nothing is done.
    assert_eq!(read("add esp spi x dst nobody bogus").errors.len(), 5);
}

#[test]
fn commands_other_than_add() {
    assert!(matches!(read("flush").command, Some(Command::Flush(None))));
    assert!(matches!(read("flush ESP").command, Some(Command::Flush(Some(SaType::Esp)))));
    assert!(matches!(read("dump 2").command, Some(Command::Dump(Some(SaType::Ah)))));
    assert!(matches!(read("save all /tmp/x").command, Some(Command::Save(None, Some(_)))));
    assert!(matches!(read("delete-pair esp spi 1 dst ::1").command, Some(Command::Delete { pair: true, .. })));
    assert!(matches!(read("pmonitor").command, Some(Command::Monitor { passive: true })));
    assert!(matches!(read("exit").command, Some(Command::Quit)));
    assert!(matches!(read("? attr").command, Some(Command::Help(Some(_)))));
    let update = |text: &str| match read(text).command {
        Some(Command::Update { request, .. }) => convert::update(&request),
        other => panic!("{other:?}"),
    };
    let change = update("update esp spi 1 dst ::1 soft_bytes 5 hard_bytes 9").unwrap();
    assert_eq!((change.soft.unwrap().bytes, change.hard.unwrap().bytes, change.idle), (5, 9, None));
    for (tail, code) in [("encrkey 00", "37"), ("auth_alg sha1", "36"), ("replay_value 1", "43"), ("esn", "only")] {
        assert!(update(&format!("update esp spi 1 dst ::1 {tail}")).unwrap_err().text.contains(code), "{tail}");
    }
}

#[test]
fn the_example_of_the_manual_loads() {
    let page = include_str!("../../../docs/man/ipseckey.8").replace("\\e\n", "\\\n");
    let example = page
        .split(".Sh EXAMPLES")
        .nth(1)
        .unwrap()
        .split(".Bd -literal -offset indent\n")
        .nth(1)
        .unwrap()
        .split("\n# ")
        .next()
        .unwrap();
    let made: Vec<_> = lines(example)
        .into_iter()
        .map(|line| parse(&line, &FakeNames))
        .map(|parsed| match parsed.command {
            Some(Command::Add(request)) => convert::specs(&request, &|_| false).unwrap().remove(0),
            _ => panic!("{:?}", parsed.errors),
        })
        .collect();
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|spec| spec.mode == Mode::Tunnel));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn no_command_panics_and_every_error_has_a_place(
            verb in proptest::sample::select(vec!["add esp", "update ah", "get esp", "flush", "save all", ""]),
            words in proptest::collection::vec(
                prop_oneof![
                    proptest::sample::select(tokens::WORDS.to_vec()).prop_map(str::to_owned),
                    proptest::sample::select(vec![
                        "1", "0xff", "192.0.2.1", "::1", "10.0.0.0/8", "many", "mixed", "aes-gcm", "udp", "mature",
                        "00112233445566778899aabbccddeeff00112233", "fqdn", "\\\n", "\"",
                    ])
                    .prop_map(str::to_owned),
                    "\\PC{0,10}",
                ],
                0..24,
            ),
        ) {
            let text = format!("{verb} {}", words.join(" "));
            for line in lines(&text) {
                let parsed = parse(&line, &FakeNames);
                for message in parsed.errors.iter().chain(&parsed.warnings) {
                    prop_assert!(message.at.line >= 1 && message.at.column >= 1, "{message}");
                }
                prop_assert_eq!(parsed.command.is_none(), !parsed.errors.is_empty());
                match parsed.command {
                    Some(Command::Add(request)) => drop(convert::specs(&request, &|_| false)),
                    Some(Command::Update { request, .. }) => drop(convert::update(&request)),
                    _ => {}
                }
            }
        }

        #[test]
        fn every_key_keeps_its_digits(octets in proptest::collection::vec(any::<u8>(), 1..70)) {
            let text: String = octets.iter().map(|o| format!("{o:02x}")).collect();
            let (key, cut) = hexkey::HexKey::parse(&text).unwrap();
            prop_assert_eq!(key.octets.octets(), octets.as_slice());
            prop_assert!(!cut);
        }
    }
}
