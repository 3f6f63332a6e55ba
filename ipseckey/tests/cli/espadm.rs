//! `espadm` on maps without programs: tunnels, counters, and what it says when it cannot help. Attaching is tested by
//! the demonstration and the scenarios, which have programs and interfaces.

use crate::support::Bench;
use sadb_maps::host::EventLease;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn tunnels_are_created_listed_and_deleted() {
    let bench = Bench::new();
    bench.espadm(&["tunnel", "create", "vpn0", "-a", "local=192.0.2.1,remote=198.51.100.7"]).ok();
    bench.espadm(&["tunnel", "create", "six", "-a", "remote=2001:db8::2,local=2001:db8::1"]).ok();
    assert_eq!(
        bench.espadm(&["tunnel", "list"]).ok(),
        "TUNNEL  LOCAL        REMOTE        DSCP  DF     TTL  ECN\n\
         six     2001:db8::1  2001:db8::2   copy  clear   64  normal\n\
         vpn0    192.0.2.1    198.51.100.7  copy  clear   64  normal\n"
    );
    let json: serde_json::Value = serde_json::from_str(&bench.espadm(&["--json", "tunnel", "list"]).ok()).unwrap();
    assert_eq!(json[1]["remote"], "198.51.100.7");
    let again = bench.espadm(&["tunnel", "create", "vpn0", "-a", "local=192.0.2.1,remote=198.51.100.7"]).failed();
    assert!(again.err.contains("exists already; delete it first"), "{again:?}");
    bench.espadm(&["tunnel", "delete", "six"]).ok();
    assert!(bench.espadm(&["tunnel", "delete", "six"]).failed().err.contains("no tunnel"));
    for ends in
        ["local=192.0.2.1", "local=x,remote=192.0.2.1", "local=192.0.2.1,local=192.0.2.2", "here=192.0.2.1", "x"]
    {
        let ran = bench.espadm(&["tunnel", "create", "t", "-a", ends]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
}

#[test]
fn tunnels_give_their_ends_to_the_policy() {
    let bench = Bench::new();
    let policy = bench.file("policy", "{ tunnel vpn0 negotiate tunnel } ipsec { encr_algs aes-gcm }\n");
    bench.ipsecconf(&["-q", "-a", policy.to_str().unwrap()]).ok();
    bench.espadm(&["tunnel", "create", "vpn0", "-a", "local=192.0.2.1,remote=198.51.100.7"]).ok();
    let json: serde_json::Value = serde_json::from_str(&bench.ipsecconf(&["-L", "--json"]).ok()).unwrap();
    assert_eq!((&json[0]["tunnel_local"], &json[0]["tunnel_remote"]), (&"192.0.2.1".into(), &"198.51.100.7".into()));
    bench.espadm(&["tunnel", "delete", "vpn0"]).ok();
    let json: serde_json::Value = serde_json::from_str(&bench.ipsecconf(&["-L", "--json"]).ok()).unwrap();
    assert!(json[0]["tunnel_local"].is_null());
}

#[test]
fn counters_are_listed() {
    let bench = Bench::new();
    assert!(bench.espadm(&["stats"]).ok().contains("no packet has been counted"));
    assert!(bench.espadm(&["stats", "--all"]).ok().contains("drop-replay"));
    let json: serde_json::Value = serde_json::from_str(&bench.espadm(&["stats", "--json"]).ok()).unwrap();
    assert_eq!(json["drop-integrity"], 0);
}

#[test]
fn what_is_not_attached_says_how_to_attach() {
    let bench = Bench::new();
    bench.instance.remove_pins().unwrap();
    let shown = bench.espadm(&["show"]);
    assert!(shown.out.contains("not attached; 'espadm attach' attaches it"), "{shown:?}");
    assert_eq!(bench.espadm(&["show", "--strict"]).code, Some(1));
    for ran in
        [bench.espadm(&["stats"]), bench.espadm(&["events"]), bench.ipseckey(&["dump"]), bench.ipsecconf(&["-l"])]
    {
        assert!(ran.failed().err.contains("run espadm attach"));
    }
    assert!(bench.espadm(&["attach", "nosuchif0"]).failed().err.contains("nosuchif0"));
    assert_eq!(bench.espadm(&["detach"]).code, Some(2));
    assert_eq!(bench.espadm(&["attach", "--mode", "fast"]).code, Some(2));
}

#[test]
fn another_namespace_and_a_bad_instance_are_refused() {
    let bench = Bench::new();
    let ran = Command::new("unshare")
        .args(["-n", env!("CARGO_BIN_EXE_ipseckey"), "--instance", bench.instance.name(), "dump"])
        .output()
        .unwrap();
    assert!(!ran.status.success());
    assert!(String::from_utf8(ran.stderr).unwrap().contains("belongs to network namespace"));
    let ran = Command::new(env!("CARGO_BIN_EXE_espadm")).args(["--instance", "No", "show"]).output().unwrap();
    assert!(String::from_utf8(ran.stderr).unwrap().contains("no instance name"));
}

#[test]
fn one_process_at_a_time_reads_events() {
    let bench = Bench::new();
    let lease = EventLease::acquire(&bench.instance).unwrap();
    assert!(lease.is_some());
    let mut child = Command::new(env!("CARGO_BIN_EXE_espadm"))
        .args(["--instance", bench.instance.name(), "events"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("another process reads the events"), "{line}");
}

/// Keys, policy and tunnel may come in any order: the outbound SA ends up bound to the action of the rule.
#[test]
fn keys_policy_and_tunnel_find_each_other_in_any_order() {
    use aya::maps::{HashMap, Map, MapData};
    use sadb_maps::abi::map;
    use sadb_maps::sa::{BindingKey, Bundle};
    let policy =
        "{ tunnel vpn0 negotiate tunnel laddr 10.1.0.0/16 raddr 10.2.0.0/16 } ipsec { encr_algs aes-gcm(128) }\n";
    let keys = "add esp spi 0x1001 src 192.0.2.1 dst 198.51.100.7 outbound isrc 10.1.0.0/16 idst 10.2.0.0/16 \
                encr_alg aes-gcm encrkey 000102030405060708090a0b0c0d0e0f01020304\n";
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let bench = Bench::new();
        let (policy, keys) = (bench.file("policy", policy), bench.file("keys", keys));
        for step in order {
            match step {
                0 => bench.ipseckey(&["-f", keys.to_str().unwrap()]).ok(),
                1 => bench.ipsecconf(&["-q", "-a", policy.to_str().unwrap()]).ok(),
                _ => bench.espadm(&["tunnel", "create", "vpn0", "-a", "local=192.0.2.1,remote=198.51.100.7"]).ok(),
            };
        }
        let rules: serde_json::Value = serde_json::from_str(&bench.ipsecconf(&["-L", "--json"]).ok()).unwrap();
        let data = MapData::from_pin(bench.instance.pin(map::SA_OUT)).unwrap();
        let bindings: HashMap<_, [u8; size_of::<BindingKey>()], [u8; size_of::<Bundle>()]> =
            HashMap::try_from(Map::HashMap(data)).unwrap();
        let bound: Vec<BindingKey> = bindings.keys().map(|key| bytemuck::pod_read_unaligned(&key.unwrap())).collect();
        assert_eq!(bound.len(), 1, "{order:?}");
        assert_eq!(rules[0]["action_id"], format!("{:#018x}", bound[0].action), "{order:?}");
        assert_eq!(bound[0].dst, "198.51.100.7".parse::<std::net::IpAddr>().unwrap().into(), "{order:?}");
    }
}
