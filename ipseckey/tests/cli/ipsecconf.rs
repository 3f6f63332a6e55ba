//! `ipsecconf` on real maps: loads, listings, replacement, exit codes.

use crate::support::Bench;
use sadb_maps::host::tunnels::{Tunnel, Tunnels};
use std::path::Path;

const POLICY: &str = "# two hosts
{ laddr 192.0.2.1 raddr 198.51.100.7 } ipsec { encr_algs aes-gcm(256) sa shared }
{ raddr 198.51.100.0/24 ulp tcp rport 443 dir both } pass { }
{ tunnel vpn0 negotiate tunnel laddr 10.1.0.0/16 raddr 10.2.0.0/16 } ipsec { encr_algs any sa shared }
{ ulp udp rport 7 dir out } drop { }
";

#[test]
fn a_policy_loads_lists_and_flushes() {
    let bench = Bench::new();
    let file = bench.file("policy", POLICY);
    let ran = bench.ipsecconf(&["-a", file.to_str().unwrap()]);
    assert!(ran.err.contains("espadm tunnel create vpn0 -a local=A,remote=B"), "{ran:?}");
    ran.ok();
    assert_eq!(
        bench.ipsecconf(&["-l", "-n"]).ok(),
        "\
#INDEX 2 \n\
{ ulp 6 raddr 198.51.100.0/24 rport 443 dir both } pass { } \n\
#INDEX 1 \n\
{ laddr 192.0.2.1/32 raddr 198.51.100.7/32 dir both } ipsec { encr_algs aes-gcm(256) sa shared } \n\
#INDEX 4 \n\
{ ulp 17 rport 7 dir out } drop { } \n"
    );
    assert_eq!(
        bench.ipsecconf(&["-l", "-i", "vpn0", "-n"]).ok(),
        "\
#INDEX vpn0,3 \n\
{ tunnel vpn0 negotiate tunnel laddr 10.1.0.0/16 raddr 10.2.0.0/16 dir both } ipsec { encr_algs aes-gcm(128..) sa shared } or ipsec { encr_algs chacha20-poly1305 sa shared } \n"
    );
    assert_eq!(bench.ipsecconf(&["-L"]).ok().matches("#INDEX").count(), 4);
    let cache = bench.ipsecconf(&[]).ok();
    assert!(cache.starts_with("#INDEX 1 \n{ laddr 192.0.2.1 raddr 198.51.100.7 } ipsec {"), "{cache}");
    assert!(cache.contains("\n\n#INDEX 3 \n{ tunnel vpn0"));
    // A second load adds nothing.
    let again = bench.ipsecconf(&["-a", file.to_str().unwrap()]);
    assert_eq!(again.err.matches("already exists").count(), 4, "{again:?}");
    again.ok();
    assert_eq!(bench.ipsecconf(&[]).ok(), cache);

    let tunnel = Tunnel::new("vpn0", "192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
    Tunnels::open(&bench.instance).unwrap().create(tunnel).unwrap();
    let json: serde_json::Value = serde_json::from_str(&bench.ipsecconf(&["-l", "-i", "vpn0", "--json"]).ok()).unwrap();
    assert_eq!(json[0]["tunnel_remote"], "198.51.100.7");
    assert_eq!(json[0]["protections"][1], "encr_algs chacha20-poly1305");

    bench.ipsecconf(&["-f"]).ok();
    assert_eq!(bench.ipsecconf(&["-L"]).ok().matches("#INDEX").count(), 1);
    bench.ipsecconf(&["-f", "-i", "vpn0"]).ok();
    assert_eq!(bench.ipsecconf(&["-L"]).ok(), "");
    assert_eq!(bench.ipsecconf(&[]).ok(), "");
}

#[test]
fn replacement_delete_and_remove() {
    let bench = Bench::new();
    let file = bench.file("policy", POLICY);
    let name = file.to_str().unwrap();
    bench.ipsecconf(&["-q", "-a", name]).ok();
    bench.ipsecconf(&["-d", "2"]).ok();
    bench.ipsecconf(&["-d", "vpn0,3"]).ok();
    assert!(bench.ipsecconf(&["-d", "3"]).failed().err.contains("no entry with #INDEX 3"));
    assert!(bench.ipsecconf(&["-d", "vpn0,3", "-i", "vpn0"]).failed().err.contains("given twice"));
    assert_eq!(bench.ipsecconf(&["-L"]).ok().matches("#INDEX").count(), 2);
    let gone = bench.file("gone", "{ ulp  udp rport 7 dir out }\n{ }\n");
    assert!(bench.ipsecconf(&["-r", gone.to_str().unwrap()]).failed().err.contains("Missing action on line 1"));
    let gone = bench.file("gone", "{ ulp  udp rport 7 dir out } drop # same words\n{ }\n");
    bench.ipsecconf(&["-r", gone.to_str().unwrap()]).ok();
    assert_eq!(bench.ipsecconf(&["-L"]).ok().matches("#INDEX").count(), 1);
    // An index is not given to another entry in the same step.
    for first in [2, 6, 1] {
        bench.ipsecconf(&["-q", "-F", "-a", name]).ok();
        let text = bench.ipsecconf(&[]).ok();
        assert!(text.starts_with(&format!("#INDEX {first} \n{{ laddr")), "{text}");
    }
    assert_eq!(bench.ipsecconf(&["-L"]).ok().matches("#INDEX").count(), 4);
    bench.ipsecconf(&["-F"]).ok();
    assert_eq!(bench.ipsecconf(&["-L"]).ok(), "");
}

#[test]
fn one_bad_rule_installs_nothing() {
    // ROB-09, ROB-11
    let bench = Bench::new();
    bench.ipsecconf(&["-q", "-a", bench.file("good", POLICY).to_str().unwrap()]).ok();
    let before = bench.ipsecconf(&["-L"]).ok();
    let bad = bench.file(
        "bad",
        "{ ulp tcp dir out } drop { }\n{ laddr 10.0.0.300 } ipsec { encr_algs aes-gcm }\n{ } ipsec\n { encr_algs rot13 }\n",
    );
    let name = bad.to_str().unwrap();
    let ran = bench.ipsecconf(&["-F", "-a", name]).failed();
    for expected in [
        format!("{name}:2:9: error: Bad Source Address on line 2"),
        format!("{name}:4:14: error: Bad Encryption Algorithm on line 4: 'rot13' is unknown"),
        format!("{name}:3: malformed rule:\n    {{ }} ipsec\n     {{ encr_algs rot13"),
        "2 bad rules; nothing was changed".to_owned(),
    ] {
        assert!(ran.err.contains(&expected), "{expected} is not in {}", ran.err);
    }
    assert_eq!(bench.ipsecconf(&["-L"]).ok(), before);
    assert!(bench.ipsecconf(&["-c", name]).failed().err.contains("2 bad rules"));
    let many: String = (0..=16_384).map(|port| format!("{{ lport {port} dir in }} drop {{ }}\n")).collect();
    let ran = bench.ipsecconf(&["-a", bench.file("many", &many).to_str().unwrap()]).failed();
    assert!(ran.err.contains("holds 16384"), "{ran:?}");
    assert_eq!(bench.ipsecconf(&["-L"]).ok(), before);
}

#[test]
fn checking_says_two_lines() {
    let bench = Bench::new();
    let file = bench.file("policy", POLICY);
    let ran = bench.ipsecconf(&["-c", file.to_str().unwrap()]).ok();
    assert_eq!(ran.lines().count(), 2);
    assert!(ran.contains("no errors") && ran.ends_with("IPsec policy was not modified.\n"), "{ran}");
    assert_eq!(bench.ipsecconf(&["-L"]).ok(), "");
}

#[test]
fn one_verb_at_a_time() {
    let bench = Bench::new();
    for arguments in [
        &["-l", "-f"][..],
        &["-a", "x", "-c", "y"],
        &["-l", "-L"],
        &["-f", "-F"],
        &["-F", "-i", "vpn0"],
        &["-a", "x", "-i", "vpn0"],
        &["-c", "x", "-i", "vpn0"],
        &["-a", "x", "-n"],
        &["-n"],
        &["-f", "--json"],
        &["-d", "1", "--json"],
        &["-r", "x", "--strict"],
    ] {
        let ran = bench.ipsecconf(arguments);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("Usage") && ran.out.is_empty(), "{ran:?}");
    }
    let tool = Path::new(env!("CARGO_BIN_EXE_ipsecconf"));
    let service = [("SMF_FMRI", "svc:/network/ipsec/policy:default")];
    let ran = bench.run(tool, &["-l", "-f"], "", &service);
    assert_eq!((ran.code, ran.err.as_str()), (Some(95), ""));
    let ran = bench.run(tool, &["-q", "-F", "-a", "/nonexistent"], "", &service).ok();
    assert!(ran.contains("does not exist"), "{ran}");
}

/// The exit codes of a service method: each keeps the service manager from trying again.
#[test]
fn a_service_ends_as_its_manager_expects() {
    let bench = Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipsecconf"));
    let service = [("SMF_FMRI", "svc:/network/ipsec/policy:default")];
    let bad = bench.file("bad", "{ ulp tcp } allow { }\n");
    let bad = bad.to_str().unwrap();
    assert_eq!(bench.run(tool, &["-q", "-F", "-a", bad], "", &service).code, Some(96));
    assert_eq!(bench.ipsecconf(&["-q", "-F", "-a", bad]).code, Some(1));
    let directory = bench.path("").display().to_string();
    assert_eq!(bench.run(tool, &["-q", "-a", &directory], "", &service).code, Some(95));
    let good = bench.file("good", POLICY);
    assert_eq!(bench.run(tool, &["-q", "-a", good.to_str().unwrap()], "", &service).code, Some(0));
    assert_eq!(bench.run(tool, &["-F"], "", &service).code, Some(0));
    let ran = bench.as_nobody(tool, &["-F"], &service);
    assert_eq!(ran.code, Some(100), "{ran:?}");
    assert!(ran.err.contains("only root"), "{ran:?}");
    assert_eq!(bench.as_nobody(tool, &["-F"], &[]).code, Some(1));
    bench.as_nobody(tool, &["-c", "/dev/null"], &[]).ok();
}

#[test]
fn what_became_of_a_file_as_json() {
    let bench = Bench::new();
    let json =
        |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&bench.ipsecconf(arguments).out).unwrap() };
    let good = bench.file("good", POLICY);
    let good = good.to_str().unwrap();
    let checked = json(&["--json", "-c", good]);
    assert_eq!((&checked["rules"], &checked["added"], &checked["bad"]), (&4.into(), &0.into(), &0.into()));
    let added = json(&["--json", "-a", good]);
    assert_eq!((&added["added"], &added["messages"][0]["severity"]), (&4.into(), &"warning".into()), "{added}");
    assert_eq!(json(&["--json", "-q", "-a", good])["added"], 0);
    assert_eq!(json(&["--json", "-r", good])["removed"], 4);
    let bad = bench.file("bad", "{ ulp tcp dir in } drop { }\n{ ulp } drop { }\n");
    let found = json(&["--json", "-a", bad.to_str().unwrap()]);
    assert_eq!((&found["rules"], &found["bad"], &found["added"]), (&2.into(), &1.into(), &0.into()));
    assert_eq!(found["messages"][0]["line"], 2);
    assert_eq!(found["malformed"][0]["text"], "{ ulp } drop { }");
}

#[test]
fn standard_input_and_an_empty_file() {
    let bench = Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipsecconf"));
    bench.run(tool, &["-a", "-"], "{ ulp tcp dir out } drop { }\n", &[]).ok();
    assert_eq!(bench.ipsecconf(&["-l"]).ok(), "#INDEX 1 \n{ ulp tcp dir out } drop { } \n");
    let ran = bench.run(tool, &["-F", "-a", "-"], "# nothing\n", &[]).ok();
    assert!(ran.contains("has no rules"), "{ran}");
    assert_eq!(bench.ipsecconf(&["-l"]).ok(), "");
}

#[test]
fn killed_at_every_write_text_and_rules_agree() {
    // ROB-10
    let bench = Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipsecconf"));
    let old = bench.file("old", "{ ulp tcp lport 1 dir in } drop { }\n{ ulp tcp lport 2 dir in } drop { }\n");
    let new = bench.file("new", "{ ulp udp lport 3 dir in } drop { }\n");
    let mut survived = false;
    for n in 1..400 {
        bench.ipsecconf(&["-F"]).ok();
        bench.ipsecconf(&["-a", old.to_str().unwrap()]).ok();
        let fault = [("IPSEC_FAULT_AT_WRITE", n.to_string())];
        let fault = fault.each_ref().map(|(name, n)| (*name, n.as_str()));
        let ran = bench.run(tool, &["-F", "-a", new.to_str().unwrap()], "", &fault);
        let (text, rules) = (bench.ipsecconf(&[]).ok(), bench.ipsecconf(&["-l", "-n"]).ok());
        let seen = |text: &str, word: &str| text.matches(word).count();
        let found = (seen(&text, "ulp tcp"), seen(&text, "ulp udp"), seen(&rules, "ulp 6"), seen(&rules, "ulp 17"));
        assert!(found == (2, 0, 2, 0) || found == (0, 1, 0, 1), "write {n}: {text}{rules}");
        if ran.code == Some(0) {
            survived = true;
            break;
        }
    }
    assert!(survived);
}

#[test]
fn a_file_that_is_too_big_is_refused_and_not_cut() {
    let bench = Bench::new();
    let text = format!("{{ raddr 192.0.2.1 }} pass {{ }}\n{}", "#\n".repeat(8 << 20));
    let ran = bench.ipsecconf(&["-q", "-a", bench.file("big", &text).to_str().unwrap()]).failed();
    assert!(ran.err.contains("too big"), "{ran:?}");
    assert_eq!(bench.ipsecconf(&["-l"]).ok(), "");
}

#[test]
fn entries_list_as_json() {
    let bench = Bench::new();
    assert_eq!(bench.ipsecconf(&["--json"]).ok(), "[]\n");
    let file = bench.file("policy", "{ raddr 192.0.2.1 dir both } pass { }\n");
    bench.ipsecconf(&["-q", "-a", file.to_str().unwrap()]).ok();
    let json: serde_json::Value = serde_json::from_str(&bench.ipsecconf(&["--json"]).ok()).unwrap();
    assert_eq!((&json[0]["index"], &json[0]["text"]), (&1.into(), &"{ raddr 192.0.2.1 dir both } pass { }".into()));
}
