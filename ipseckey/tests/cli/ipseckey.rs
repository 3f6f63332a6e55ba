//! `ipseckey` on real maps: files, listings, exit codes.

use crate::support::Bench;
use crate::transforms::{AUTHENTICATORS, TRANSFORMS, Transform};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

const KEY: &str = "000102030405060708090a0b0c0d0e0f01020304";
const CHACHA: &str = "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5fa0a1a2a3";

fn pair() -> String {
    format!(
        "# two SAs\nadd esp spi 0x1001 src 192.0.2.1 dst 198.51.100.7 outbound \\\n  encr_alg aes-gcm encrkey {KEY}/160 \\\n  \
         soft_bytes 1048576 hard_bytes 2097152 soft_addtime 25920 hard_addtime 28800 esn isrc 10.1.0.0/16 idst 10.2.0.0/16\n\
         add esp spi 0x1002 src 198.51.100.7 dst 192.0.2.1 inbound pair-spi 0x1001 replay 64 \\\n  \
         encr_alg chacha20-poly1305 encrkey {CHACHA} proto 4 isrc 10.2.0.0/16 idst 10.1.0.0/16\n"
    )
}

#[test]
fn a_file_loads_and_dumps() {
    // ARC-KEY-01, PFK-09, PFK-13
    let bench = Bench::new();
    let file = bench.file("keys", &pair());
    let loaded = bench.ipseckey(&["-f", file.to_str().unwrap()]);
    assert!(loaded.out.contains("warning: aes-gcm is a counter mode"), "{loaded:?}");
    assert!(!loaded.out.contains(KEY) && loaded.out.contains("encrkey XX"), "{loaded:?}");
    loaded.ok();

    let dump = bench.ipseckey(&["-n", "dump", "esp"]).ok();
    let lines: Vec<_> = dump
        .lines()
        .filter(|l| {
            !["seq=", "at time:", "Time now", "Time of", "occurs in"].iter().any(|volatile| l.contains(volatile))
        })
        .collect();
    let golden = format!(
        "Base message (version 2) type DUMP, SA type ESP.
SA: SADB_ASSOC spi=0x1001, replay window size=0, state=MATURE
SA: Encryption algorithm = aes-gcm
SA: flags=0x38002 < NOREPLAY X_PAIRED X_OUTBOUND X_TUNNEL >
SRC: Source address (proto=4)
SRC: AF_INET: port 0, 192.0.2.1.
DST: Destination address (proto=4)
DST: AF_INET: port 0, 198.51.100.7.
INS: Inner source address (proto=0)
INS: AF_INET: port 0, 10.1.0.0/16.
IND: Inner destination address (proto=0)
IND: AF_INET: port 0, 10.2.0.0/16.
EKY: Encryption key.
EKY: {}[01020304]/128+32
OTH: Paired with spi=0x1002
OTH: Extended (64-bit) sequence numbers
RPL: Replay Value 0
 LT: Lifetime information
CLT: Current lifetime information:
CLT: 0 bytes protected, 0 allocations used.
SLT: Soft lifetime information:
SLT: 1048576 bytes (1.00 MB) of lifetime, 0 allocations.
SLT: 25920 seconds (7.20 hours) of post-add lifetime.
SLT: 0 seconds of post-use lifetime.
SLT: 1048576 bytes (1.00 MB) more can be protected.
HLT: Hard lifetime information:
HLT: 2097152 bytes (2.00 MB) of lifetime, 0 allocations.
HLT: 28800 seconds (8.00 hours) of post-add lifetime.
HLT: 0 seconds of post-use lifetime.
HLT: 2097152 bytes (2.00 MB) more can be protected.

Base message (version 2) type DUMP, SA type ESP.
SA: SADB_ASSOC spi=0x1002, replay window size=64, state=MATURE
SA: Encryption algorithm = chacha20-poly1305
SA: flags=0x34000 < X_PAIRED X_INBOUND X_TUNNEL >
SRC: Source address (proto=4)
SRC: AF_INET: port 0, 198.51.100.7.
DST: Destination address (proto=4)
DST: AF_INET: port 0, 192.0.2.1.
INS: Inner source address (proto=0)
INS: AF_INET: port 0, 10.2.0.0/16.
IND: Inner destination address (proto=0)
IND: AF_INET: port 0, 10.1.0.0/16.
EKY: Encryption key.
EKY: {}[a0a1a2a3]/256+32
OTH: Paired with spi=0x1001
RPL: Replay Value 0
 LT: Lifetime information
CLT: Current lifetime information:
CLT: 0 bytes protected, 0 allocations used.

Dump succeeded for SA type 3.",
        &KEY[..32],
        &CHACHA[..64]
    );
    assert_eq!(lines.join("\n"), golden);
    assert!(dump.contains("SLT: Soft expiration occurs in 259"), "{dump}");
}

#[test]
fn paranoid_listings_and_json_hide_keys() {
    // PFK-11
    let bench = Bench::new();
    let file = bench.file("keys", &pair());
    bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
    let dump = bench.ipseckey(&["-n", "-p", "dump"]).ok();
    assert!(dump.contains(&format!("EKY: {}[XXXXXXXX]/128+32", "XX".repeat(16))), "{dump}");
    let hidden = bench.ipseckey(&["-p", "--json", "dump"]).ok();
    assert!(!hidden.contains("encrkey"));
    let shown: serde_json::Value = serde_json::from_str(&bench.ipseckey(&["--json", "dump"]).ok()).unwrap();
    assert_eq!(shown[0]["encrkey"], format!("{KEY}/160"));
    assert_eq!(shown[1]["inner_src"], "10.2.0.0/16");
    assert_eq!(shown[1]["pair_spi"], "0x1001");
}

#[test]
fn get_delete_and_flush() {
    // PFK-07, PFK-08
    let bench = Bench::new();
    let file = bench.file("keys", &pair());
    bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
    let one = bench.ipseckey(&["-n", "get", "esp", "spi", "0x1001", "dst", "198.51.100.7"]).ok();
    assert!(one.starts_with("Base message (version 2) type GET, SA type ESP.\n"), "{one}");
    let again = bench.ipseckey(&["-f", file.to_str().unwrap()]).failed();
    let exists = "Association (type = esp) with spi 0x1001 and addr\n198.51.100.7 already exists.";
    assert!(again.out.contains(exists), "{again:?}");
    assert!(again.out.contains("did not contain any valid SAs") && again.out.contains("Fatal error - exiting."));
    bench.ipseckey(&["delete", "esp", "spi", "0x1002", "dst", "192.0.2.1"]).ok();
    let missing = bench.ipseckey(&["get", "esp", "spi", "0x1002", "dst", "192.0.2.1"]).failed();
    assert!(missing.err.contains("with spi 0x1002 and addr\n192.0.2.1 does not exist."), "{missing:?}");
    let pairless = bench.ipseckey(&["delete-pair", "esp", "spi", "0x1001", "dst", "198.51.100.7"]).failed();
    assert!(pairless.err.contains("PF_KEY Diagnostic code 76:"), "{pairless:?}");
    bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
    bench.ipseckey(&["flush", "esp"]).ok();
    assert_eq!(bench.ipseckey(&["dump"]).ok(), "Dump succeeded for SA type 0.\n");
}

#[test]
fn a_bad_file_reports_everything_and_keys_never() {
    // PFK-12, ROB-02
    let bench = Bench::new();
    let text = format!(
        "add esp spi 1 dst 192.0.2.9 encr_alg aes encrkey {KEY} auth_alg sha1 authkey 11\n\
         add esp spi 0 dst nowhere.invalid\n\
         dump\n\
         add esp spi 2 src 192.0.2.1 dst 198.51.100.7 encr_alg aes-gcm encrkey {KEY}00 \n\
         add esp spi 3 src 192.0.2.1 dst 198.51.100.7 encr_alg aes-gcm encrkey {KEY}\n\
         delete esp spi 3 dst 198.51.100.7\n\
         add esp encrky {KEY}\n"
    );
    let file = bench.file("keys", &text);
    let name = file.to_str().unwrap();
    let ran = bench.ipseckey(&["-f", name]).failed();
    for expected in [
        ":1:113: error: authkey has 8 bits; hmac-sha1 takes 160",
        ":2:13: error: an SPI of 0 is invalid",
        ":2:19: error: 'nowhere.invalid' is neither an address nor the name of one",
        ":3: error: this command is not allowed in a file",
        "encrkey has 168 bits; aes-gcm takes a key of 128 or 192 or 256 bits and 32 bits of salt behind it",
        ":7:9: error: unknown extension 'encrky'",
        "5 of 7 commands failed, 2 actions done.",
    ] {
        assert!(ran.out.contains(expected), "{expected} is not in {}", ran.out);
    }
    assert!(!ran.out.contains(KEY), "{}", ran.out);
    let checked = bench.ipseckey(&["-c", name]).failed();
    assert!(checked.out.contains(":2:13: error"), "{checked:?}");
}

#[test]
fn what_becomes_of_a_file_is_told_to_programs_too() {
    let bench = Bench::new();
    let text = format!("{}add esp spi 0 dst ::1\ndump\nflush \"\nadd esp encrky {KEY}\n", pair());
    let file = bench.file("keys", &text);
    let read = |out: &str| serde_json::from_str::<serde_json::Value>(out).unwrap();
    for (option, actions) in [("-c", 2), ("-f", 2)] {
        let ran = bench.ipseckey(&["--json", option, file.to_str().unwrap()]).failed();
        assert!(!ran.out.contains(KEY), "{ran:?}");
        let report = read(&ran.out);
        let counts = [&report["commands"], &report["actions"], &report["failed"]].map(|n| n.as_u64().unwrap());
        assert_eq!(counts, [6, actions, 4], "{report}");
        let messages = report["messages"].as_array().unwrap();
        let shown = |m: &serde_json::Value| format!("{}:{} {}", m["line"], m["column"], m["severity"]);
        let places: Vec<_> = messages.iter().map(|m| shown(m).replace('"', "")).collect();
        for wanted in ["3:12 warning", "6:12 warning", "7:13 error", "8:null error", "9:7 error", "10:9 error"] {
            assert!(places.iter().any(|place| place == wanted), "{places:?}");
        }
        assert!(messages.iter().any(|m| m["text"] == "an SPI of 0 is invalid"));
    }
    assert_eq!(read(&bench.ipseckey(&["--json", "dump"]).ok()).as_array().unwrap().len(), 2);
    let good = bench.file("good", "flush\n");
    let report = read(&bench.ipseckey(&["--json", "-f", good.to_str().unwrap()]).ok());
    assert_eq!((&report["failed"], &report["messages"]), (&0.into(), &serde_json::json!([])));
}

#[test]
fn checking_changes_nothing_and_needs_no_instance() {
    let bench = Bench::new();
    let file = bench.file("keys", &pair());
    bench.ipseckey(&["-c", file.to_str().unwrap()]).ok();
    assert_eq!(bench.ipseckey(&["dump"]).ok(), "Dump succeeded for SA type 0.\n");
    let insecure = bench.file("open", "flush\n");
    std::fs::set_permissions(&insecure, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = bench.ipseckey(&["-f", insecure.to_str().unwrap()]);
    assert!(ran.err.contains("chmod 600"), "{ran:?}");
    ran.ok();
    let missing = bench.ipseckey(&["-f", "/nonexistent"]).failed();
    assert!(missing.err.contains("/nonexistent"), "{missing:?}");
    assert!(bench.ipseckey(&["-f", "/"]).failed().err.contains("not a regular file"));
}

#[test]
fn keys_are_refused_on_the_command_line() {
    // PFK-12
    let bench = Bench::new();
    let ran = bench.ipseckey(&["add", "esp", "spi", "1", "dst", "192.0.2.1", "encr_alg", "aes-gcm", "encrkey", KEY]);
    assert!(ran.failed().err.contains("refused on the command line"));
    assert_eq!(bench.ipseckey(&["dump", "ah"]).ok(), "Dump succeeded for SA type 2.\n");
    assert!(bench.ipseckey(&["-s", "x", "-f", "y"]).failed().err.contains("Usage"));
    assert!(bench.ipseckey(&["flush", "rsvp"]).failed().err.contains("'rsvp' is no SA type"));
    assert!(bench.ipseckey(&["help", "attr"]).ok().contains("replay_value"));
}

#[test]
fn standard_input_is_a_session() {
    let bench = Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipseckey"));
    let ran = bench.run(tool, &["-n"], &format!("{}get esp spi 0x1002 dst 192.0.2.1\nquit\nbogus\n", pair()), &[]);
    assert!(ran.ok().contains("SADB_ASSOC spi=0x1002"));
    let ran = bench.run(tool, &[], "bogus\nflush\n", &[]).failed();
    assert!(ran.out.contains("unknown command"), "{ran:?}");
    assert_eq!(bench.ipseckey(&["dump"]).ok(), "Dump succeeded for SA type 0.\n");
}

/// What is there, without what changes with every load: times are those of the load.
fn listing(bench: &Bench) -> Vec<serde_json::Value> {
    let mut all: Vec<serde_json::Value> = serde_json::from_str(&bench.ipseckey(&["--json", "dump"]).ok()).unwrap();
    for sa in &mut all {
        for volatile in ["added", "age_seconds"] {
            sa.as_object_mut().unwrap().remove(volatile);
        }
    }
    all
}

/// PFK-11: keys of every transform are printed and saved, and what is saved makes the same SAs.
#[test]
fn every_transform_is_saved_and_loads_again() {
    let mut number = 0u8;
    let mut key = |octets: usize| {
        (0..octets).fold(String::new(), |text, _| {
            number = number.wrapping_add(7);
            format!("{text}{number:02x}")
        })
    };
    let (mut pairs, mut spi) = (vec![], 0x1000);
    let mut add = |kind: &str, what: &str, keys: &[&String]| {
        let mut text = String::new();
        for (src, dst, direction) in
            [("192.0.2.1", "198.51.100.7", "outbound"), ("198.51.100.7", "192.0.2.1", "inbound")]
        {
            spi += 1;
            text += &format!("add {kind} spi {spi} src {src} dst {dst} {direction} {what}\n");
        }
        pairs.push((text, keys.iter().map(|key| (*key).clone()).collect::<Vec<_>>()));
    };
    for (auth, auth_len) in AUTHENTICATORS {
        let auth_key = key(auth_len);
        add("ah", &format!("auth_alg {auth} authkey {auth_key}"), &[&auth_key]);
    }
    for Transform { name: cipher, lengths, separate } in TRANSFORMS {
        for (len, (auth, auth_len)) in lengths.iter().zip(AUTHENTICATORS) {
            let (key, auth_key) = (key(*len), key(auth_len));
            let what = if *len == 0 { String::new() } else { format!("encrkey {key}") };
            let what = format!("encr_alg {cipher} {what}");
            match separate {
                true => add("esp", &format!("{what} auth_alg {auth} authkey {auth_key}"), &[&key, &auth_key]),
                false => add("esp", &what, &[&key]),
            }
        }
    }
    // As many as there is room for at a time.
    for (i, pairs) in pairs.chunks(7).enumerate() {
        let bench = Bench::new();
        let text: String = pairs.iter().map(|(text, _)| text.as_str()).collect();
        let keys: Vec<_> = pairs.iter().flat_map(|(_, keys)| keys).filter(|key| !key.is_empty()).collect();
        let file = bench.file("keys", &text);
        bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
        let before = listing(&bench);
        assert_eq!(before.len(), 2 * pairs.len());
        let dump = bench.ipseckey(&["-n", "dump"]).ok().replace(['[', ']'], "");
        for key in &keys {
            assert_eq!(dump.matches(&format!("KY: {key}/")).count(), 2, "chunk {i}: a key in the dump");
        }
        let saved = bench.path("saved");
        bench.ipseckey(&["-s", saved.to_str().unwrap()]).ok();
        bench.ipseckey(&["flush"]).ok();
        bench.ipseckey(&["-f", saved.to_str().unwrap()]).ok();
        assert_eq!(listing(&bench), before, "chunk {i}");
        let shown = bench.ipseckey(&["-p", "-s", "-"]).ok() + &bench.ipseckey(&["-p", "dump"]).ok();
        assert!(keys.iter().all(|key| !shown.contains(*key)) && shown.contains("key XXXX"), "chunk {i}");
    }
}

#[test]
fn what_is_saved_loads_again() {
    // PFK-11
    let bench = Bench::new();
    let file = bench.file("keys", &pair());
    bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
    let before = listing(&bench);
    let saved = bench.path("saved");
    bench.ipseckey(&["-s", saved.to_str().unwrap()]).ok();
    assert_eq!(std::fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o400);
    bench.ipseckey(&["flush"]).ok();
    bench.ipseckey(&["-f", saved.to_str().unwrap()]).ok();
    assert_eq!(listing(&bench), before);
    assert!(bench.ipseckey(&["-p", "-s", "-"]).ok().contains("encrkey XXXX"));
}

/// Selectors that key management may negotiate and commands cannot say are left out, with a word about it.
#[test]
fn what_has_no_words_is_not_saved() {
    use sadb_maps::host::announce::ends;
    use sadb_maps::host::{Mode, SaSpec, Sadb, SecretKey};
    use sadb_maps::sa::{ESP, SaSelectors, encr, km};
    let bench = Bench::new();
    let address = |text: &str| std::net::IpAddr::from_str(text).unwrap().into();
    let good = SaSelectors {
        src_low: address("10.0.0.0"),
        src_high: address("10.0.0.255"),
        dst_low: address("10.1.0.1"),
        dst_high: address("10.1.0.1"),
        sport: [0, u16::MAX],
        dport: [80, 80],
        proto: 6,
        ..SaSelectors::default()
    };
    let mut sadb = Sadb::open(&bench.instance).unwrap();
    for (spi, selectors) in (1..).zip([
        good,
        SaSelectors { src_high: address("10.0.0.254"), ..good },
        SaSelectors { dport: [80, 81], ..good },
        SaSelectors { sport: [0, 0], ..good },
    ]) {
        let sa = SaSpec {
            encr: encr::CHACHA20_POLY1305,
            key: SecretKey::new(vec![7; 32]),
            salt: SecretKey::new(vec![7; 4]),
            km: km::IKEV2,
            mode: Mode::Tunnel,
            selectors: Some(selectors),
            ..SaSpec::new(ESP, spi, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap())
        };
        assert_eq!(ends(&selectors).1.addr, std::net::IpAddr::from_str("10.1.0.1").unwrap());
        sadb.add(&sa).unwrap();
    }
    let saved = bench.ipseckey(&["-s", "-"]).ok();
    assert_eq!(saved.matches("\nadd esp").count(), 1, "{saved}");
    for spi in 2..5 {
        let word =
            format!("# Warning: esp spi 0x{spi:x} dst 192.0.2.2 is not saved: there are no words for its selectors.");
        assert!(saved.contains(&word), "{saved}");
    }
    bench.ipseckey(&["flush"]).ok();
    bench.ipseckey(&["-f", bench.file("saved", &saved).to_str().unwrap()]).ok();
    assert_eq!(listing(&bench)[0]["inner_dport"], serde_json::json!([80, 80]));
}

/// The seed: keying material of an SA that automated key management has left half-made.
#[test]
fn an_update_gives_a_larval_sa_its_keys() {
    use sadb_maps::host::Sadb;
    use sadb_maps::sa::{ESP, km};
    let bench = Bench::new();
    let (src, dst) = ("198.51.100.7".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let mut sadb = Sadb::open(&bench.instance).unwrap();
    let spi = sadb.reserve_spi(ESP, src, dst, 0x2000..=0x2000, km::IKEV2).unwrap();
    assert!(bench.ipseckey(&["-n", "get", "esp", "spi", "0x2000", "dst", "192.0.2.1"]).ok().contains("state=LARVAL"));
    let text = format!("update esp spi {spi} dst 192.0.2.1 src 198.51.100.7 encr_alg aes-gcm encrkey {KEY}\n");
    let file = bench.file("keys", &text);
    bench.ipseckey(&["-c", file.to_str().unwrap()]).ok();
    bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
    let all = listing(&bench);
    assert_eq!((&all[0]["state"], &all[0]["direction"]), (&"mature".into(), &"in".into()));
    assert_eq!(all[0]["encrkey"], format!("{KEY}/160"));
    // It has them now, and keeps them.
    let again = bench.ipseckey(&["-f", file.to_str().unwrap()]).failed();
    assert!(again.out.contains("cannot change its encryption (diagnostic code 37)"), "{again:?}");
}

/// -v shows each request before it is carried out.
#[test]
fn requests_are_shown_on_demand() {
    let bench = Bench::new();
    let file = bench.file("keys", &pair());
    let ran = bench.ipseckey(&["-v", "-n", "-p", "-f", file.to_str().unwrap()]).ok();
    let rule = "-".repeat(40);
    let shown: Vec<_> = ran.split(&rule).collect();
    assert_eq!(shown.len(), 5, "{ran}");
    for expected in [
        "Base message (version 2) type ADD, SA type ESP.\n",
        "SA: SADB_ASSOC spi=0x1001, replay window size=0, state=MATURE\n",
        "SA: flags=0x28002 < NOREPLAY X_OUTBOUND X_TUNNEL >\n",
        "SRC: Source address (proto=4)\nSRC: AF_INET: port 0, 192.0.2.1.\n",
        "INS: AF_INET: port 0, 10.1.0.0/16.\n",
        "[XXXXXXXX]/128+32\n",
        "OTH: Extended (64-bit) sequence numbers\n",
        "HLT: 28800 seconds (8.00 hours) of post-add lifetime.\n",
    ] {
        assert!(shown[1].contains(expected), "{expected}: {}", shown[1]);
    }
    assert!(!ran.contains(KEY) && !ran.contains("CLT"));
    let ran = bench.ipseckey(&["-v", "-n", "delete-pair", "esp", "spi", "0x1001", "dst", "198.51.100.7"]).ok();
    assert!(ran.contains("type DELETE PAIR, SA type ESP.\n") && ran.contains("DST: AF_INET: port 0, 198.51.100.7.\n"));
    let ran = bench.ipseckey(&["-v", "flush", "ah"]).ok();
    assert!(ran.contains("type FLUSH, SA type AH.\n"), "{ran}");
    // A service's log is no place for keys.
    let tool = Path::new(env!("CARGO_BIN_EXE_ipseckey"));
    let ran = bench.run(tool, &["-v", "-f", file.to_str().unwrap()], "", &[("SMF_FMRI", "x")]).ok();
    assert!(!ran.contains(&rule) && !ran.contains(&KEY[..32]), "{ran}");
}

#[test]
fn updates_change_lifetimes_and_pairs() {
    // PFK-05
    let bench = Bench::new();
    let text = pair()
        + "update-pair esp spi 0x1001 dst 198.51.100.7 hard_bytes 4000000 soft_bytes 3000000\n\
           update esp spi 0x1002 dst 192.0.2.1 idle_addtime 60\n";
    let file = bench.file("keys", &text);
    bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
    let all: serde_json::Value = serde_json::from_str(&bench.ipseckey(&["--json", "dump"]).ok()).unwrap();
    assert_eq!((&all[0]["hard"]["bytes"], &all[1]["hard"]["bytes"]), (&4_000_000.into(), &4_000_000.into()));
    assert_eq!(all[1]["idle"]["addtime"], 60);
}

#[test]
fn a_service_flushes_first_and_keeps_quiet() {
    let bench = Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipseckey"));
    let service = [("SMF_FMRI", "svc:/network/ipsec/manual-key:default")];
    let file = bench.file("keys", &pair());
    for _ in 0..2 {
        let ran = bench.run(tool, &["-f", file.to_str().unwrap()], "", &service).ok();
        assert!(ran.contains("Flushing") && ran.ends_with("2 actions successfully processed.\n"), "{ran}");
        assert!(!ran.contains("encrkey"));
    }
    let bad = bench.file("bad", "add esp spi 0\n");
    let ran = bench.run(tool, &["-f", bad.to_str().unwrap()], "", &service);
    assert_eq!(ran.code, Some(95), "{ran:?}");
    assert!(!ran.out.contains("spi 0"), "{ran:?}");
}

/// Files that others than root can get at: a warning from a shell, the end for a service, which then leaves things as they are.
#[test]
fn a_service_takes_no_file_that_others_can_read() {
    let bench = Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipseckey"));
    let service = [("SMF_FMRI", "svc:/network/ipsec/manual-key:default")];
    bench.ipseckey(&["-f", bench.file("keys", &pair()).to_str().unwrap()]).ok();
    let file = bench.file("open", "flush\n");
    for (mode, owner) in [(0o640, 0), (0o604, 0), (0o601, 0), (0o600, 65534)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&file, Some(owner), None).unwrap();
        let checked = bench.ipseckey(&["-c", file.to_str().unwrap()]);
        assert!(checked.err.contains("others than root can get at the keys"), "{mode:o} {owner}: {checked:?}");
        let ran = bench.run(tool, &["-f", file.to_str().unwrap()], "", &service);
        assert_eq!(ran.code, Some(95), "{mode:o} {owner}: {ran:?}");
    }
    for missing in ["/nonexistent/keys", "/"] {
        assert_eq!(bench.run(tool, &["-f", missing], "", &service).code, Some(95));
    }
    assert_eq!(listing(&bench).len(), 2);
    // A check is no change for a service either.
    let good = bench.file("good", "flush esp\n");
    bench.run(tool, &["-c", good.to_str().unwrap()], "", &service).ok();
    assert_eq!(listing(&bench).len(), 2);
}

#[test]
fn a_saved_file_is_for_its_owner() {
    let bench = Bench::new();
    bench.ipseckey(&["-f", bench.file("keys", &pair()).to_str().unwrap()]).ok();
    let file = bench.file("there", &"x".repeat(10_000));
    let name = file.to_str().unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = bench.ipseckey(&["-s", name]).ok();
    assert!(said.contains("has permissions 0644; a file with keys should have 0400"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# This key file") && !text.contains('x'.to_string().repeat(9).as_str()), "{text}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(bench.ipseckey(&["save", "esp", name]).ok(), "");
    // Not through a link, which somebody else may have put there.
    let link = bench.path("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    bench.ipseckey(&["-s", link.to_str().unwrap()]).failed();
}

#[test]
fn only_root_manages_keys() {
    let bench = Bench::new();
    for (service, code) in [(&[][..], 1), (&[("SMF_FMRI", "svc:/network/ipsec/manual-key:default")], 100)] {
        let ran = bench.as_nobody(Path::new(env!("CARGO_BIN_EXE_ipseckey")), &["dump"], service);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains("only root may manage keys"), "{ran:?}");
    }
}

#[test]
fn the_same_key_twice_gets_other_ivs() {
    // ALG-02
    // RFC 4106 section 3.1, RFC 7634 section 2: a nonce never repeats under one key, even when the key is loaded twice.
    use sadb_maps::sa::SaState;
    let bench = Bench::new();
    let text = format!("add esp spi 9 src 192.0.2.1 dst 198.51.100.7 outbound encr_alg aes-gcm encrkey {KEY}\n");
    let file = bench.file("keys", &text);
    let mut seen = Vec::new();
    for _ in 0..3 {
        bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
        let data = aya::maps::MapData::from_pin(bench.instance.pin(sadb_maps::abi::map::SA_STATE)).unwrap();
        let map = aya::maps::Array::<_, [u8; size_of::<SaState>()]>::try_from(aya::maps::Map::Array(data)).unwrap();
        let iv = (1..16)
            .map(|slot| bytemuck::pod_read_unaligned::<SaState>(&map.get(&slot, 0).unwrap()))
            .find(|s| s.state == u64::from(sadb_maps::sa::state::MATURE))
            .unwrap()
            .iv;
        seen.push(iv >> 32);
        bench.ipseckey(&["flush"]).ok();
    }
    assert!(seen.windows(2).all(|w| w[0] < w[1]) && seen[0] > 0, "{seen:?}");
}

#[test]
fn killed_at_every_write_the_next_tool_repairs() {
    // ROB-09, ROB-10
    let bench = Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipseckey"));
    let file = bench.file("keys", &pair());
    let mut survived = false;
    for n in 1..100 {
        let ran = bench.run(tool, &["-f", file.to_str().unwrap()], "", &[("IPSEC_FAULT_AT_WRITE", &n.to_string())]);
        bench.ipseckey(&["flush"]).ok();
        assert_eq!(bench.ipseckey(&["dump"]).ok(), "Dump succeeded for SA type 0.\n", "after write {n}");
        if ran.code == Some(0) {
            survived = true;
            break;
        }
        assert_eq!(ran.code, None, "write {n}: {ran:?}");
    }
    assert!(survived);
    bench.ipseckey(&["-f", file.to_str().unwrap()]).ok();
}

#[test]
fn monitor_shows_what_happens() {
    use sadb_maps::host::testing::TestInstance;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    // The bus is that of the namespace, which other tests share: only our SPI counts.
    let bench = Bench::new();
    let instance: &TestInstance = &bench.instance;
    let mut child = Command::new(env!("CARGO_BIN_EXE_ipseckey"))
        .args(["--instance", instance.name(), "-n", "monitor"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "Actively monitoring the PF_KEY socket.");
    let text = format!("add esp spi 0xfeed src 192.0.2.1 dst 198.51.100.7 encr_alg aes-gcm encrkey {KEY}\n");
    bench.ipseckey(&["-f", bench.file("keys", &text).to_str().unwrap()]).ok();
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        seen.push(line);
        if seen.last().unwrap().contains("spi=0xfeed") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let base = seen.iter().rev().find(|l| l.starts_with("Base message")).unwrap();
    assert_eq!(base, "Base message (version 2) type ADD, SA type ESP.");
    assert!(seen.iter().all(|l| !l.contains("EKY")));
}

#[test]
fn cookies_of_key_management_have_their_labels() {
    use sadb_maps::host::{SaSpec, Sadb, SecretKey};
    use sadb_maps::sa::{ESP, encr, km};
    let bench = Bench::new();
    let sa = SaSpec {
        encr: encr::CHACHA20_POLY1305,
        key: SecretKey::new(vec![7; 32]),
        salt: SecretKey::new(vec![7; 4]),
        km: km::IKEV2,
        km_cookie: 4711,
        ..SaSpec::new(ESP, 0x1001, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap())
    };
    Sadb::open(&bench.instance).unwrap().add(&sa).unwrap();
    assert!(bench.ipseckey(&["-n", "dump"]).ok().contains("cookie=\"IKEV2: 0x0000000000001267\" (4711)"));
    let map = bench.instance.run_dir().unwrap().join("ipsec_kmc_map");
    std::fs::write(map, "12\tother\n4711\tbranch 7\n").unwrap();
    assert!(bench.ipseckey(&["-n", "dump"]).ok().contains("KMC:  Protocol 3, cookie=\"branch 7\" (4711)"));
    let json: serde_json::Value = serde_json::from_str(&bench.ipseckey(&["--json", "dump"]).ok()).unwrap();
    assert_eq!(json[0]["label"], "branch 7");
}

#[test]
fn monitor_speaks_json_too() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let bench = Bench::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ipseckey"))
        .args(["--instance", bench.instance.name(), "--json", "monitor"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let text = format!("add esp spi 0xfeee src 192.0.2.1 dst 198.51.100.7 encr_alg aes-gcm encrkey {KEY}\n");
    let file = bench.file("keys", &text);
    let (done, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let found = lines.find(|line| line.contains("0xfeee"));
        done.send(found).unwrap();
    });
    // Until it listens nobody hears.
    let line = loop {
        bench.ipseckey(&["-f", file.to_str().unwrap()]);
        bench.ipseckey(&["flush"]).ok();
        match heard.recv_timeout(std::time::Duration::from_millis(50)) {
            Ok(found) => break found.unwrap(),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&json["message"], &json["dst"]["address"]), (&"add".into(), &"198.51.100.7/32".into()), "{line}");
    assert!(!line.contains("key"));
}
