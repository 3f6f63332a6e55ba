//! ikeadm against a door that answers like a daemon, in this process: what it asks, what it prints, how it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking, their helpers too")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use ike_door::{
    ChildInfo, DebugLevel, DefaultInfo, DefaultSource, Envelope, ErrorCode, Failure, IdentityInfo, IkeSaInfo, Item,
    KeyInfo, LifetimeInfo, Outcome, Privilege, Reply, Request, Role, RuleInfo, SecretText, Sides, StatsInfo,
    TransformInfo, frame,
};
use ikeadm::show::Style;
use ikeadm::{Done, Session};

type Answer = Result<Vec<Item>, Failure>;

/// A daemon's door with canned answers; tells what it was asked.
struct Double {
    dir: tempfile::TempDir,
    asked: Receiver<Request>,
}

impl Double {
    fn new(mut answers: Vec<Answer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("door")).unwrap();
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while let Some(request) = receive(&mut stream) {
                    tell.send(request).unwrap();
                    answer(&mut stream, answers.remove(0));
                }
            }
        });
        Self { dir, asked }
    }

    fn door(&self) -> PathBuf {
        self.dir.path().join("door")
    }

    fn run(&self, words: &str, json: bool, paranoid: bool) -> (Done, String, String) {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let style = Style { numeric: true, paranoid };
        let done = Session::new(self.door(), style, json, &mut out, &mut err).run(&words);
        (done, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

fn receive(stream: &mut UnixStream) -> Option<Request> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).ok()?;
    let mut text = vec![0; frame::length(header).unwrap()];
    stream.read_exact(&mut text).unwrap();
    Some(frame::decode::<Envelope>(&text).unwrap().request)
}

fn answer(stream: &mut UnixStream, answer: Answer) {
    let (items, end) = match answer {
        Ok(items) => (items, Outcome::Done),
        Err(failure) => (Vec::new(), Outcome::Failed(failure)),
    };
    for item in items {
        stream.write_all(&frame::encode(&Reply::Item(Box::new(item))).unwrap()).unwrap();
    }
    stream.write_all(&frame::encode(&Reply::End(end)).unwrap()).unwrap();
}

fn refused(code: ErrorCode, detail: &str) -> Answer {
    Err(Failure { code, detail: detail.to_owned() })
}

fn ike_sa() -> Item {
    Item::IkeSa(Box::new(IkeSaInfo {
        spi_initiator: "0123456789abcdef".into(),
        spi_responder: "fedcba9876543210".into(),
        role: Role::Initiator,
        state: "ACTIVE".into(),
        version: (2, 0),
        rule: Some("branch-7".into()),
        local: "192.0.2.1:500".parse().unwrap(),
        remote: "[2001:db8::7]:4500".parse().unwrap(),
        nat_local: false,
        nat_remote: true,
        authentication: "pre-shared key".into(),
        encryption: Some("AES-GCM-16(256)".into()),
        integrity: Some("NONE".into()),
        prf: Some("HMAC-SHA2-256".into()),
        group: Some("CURVE25519".into()),
        group_number: Some(31),
        childsa_pfs: Some(31),
        local_id: Some(IdentityInfo { kind: "IPv4 address".into(), value: "192.0.2.1".into() }),
        remote_id: Some(IdentityInfo { kind: "FQDN".into(), value: "gw7.example.net".into() }),
        lifetime: LifetimeInfo { age: 30, expires_in: Some(3570), rekey_in: Some(3000) },
        children: vec![ChildInfo {
            protocol: "ESP".into(),
            spi_in: 0x1000,
            spi_out: 0xc0ff_ee00,
            mode: "tunnel".into(),
            suite: "ESP AES-CBC(256) HMAC-SHA2-256-128".into(),
            pfs_group: 31,
            esn: true,
            local: vec!["10.1.0.0-10.1.0.255".into()],
            remote: vec!["10.2.0.0-10.2.0.255".into()],
            age: 29,
        }],
        children_created: 2,
        children_deleted: 1,
        messages_sent: 4,
        messages_received: 4,
        retransmits: 0,
        integrity_failures: 3,
        keys: vec![KeyInfo { name: "SK_d".into(), octets: 4, value: Some(SecretText::hex(&[0xde, 0xad, 0xbe, 0xef])) }],
    }))
}

#[test]
fn dump_ikesa_prints_blocks() {
    let double = Double::new(vec![Ok(vec![ike_sa()])]);
    let (done, out, err) = double.run("dump ikesa", false, false);
    assert_eq!((done, err.as_str()), (Done::Yes, ""));
    assert_eq!(double.asked.recv().unwrap(), Request::DumpIkeSa);
    let expected = "
IKESA: SPIs: Initiator 0x0123456789abcdef  Responder 0xfedcba9876543210
IKESA: The local host is the initiator.
IKESA: IKE version 2.0
IKESA: Label 'branch-7'
IKESA: Current state is ACTIVE
IKESA: NAT: the remote host is behind a NAT
XFORM: Authentication method: pre-shared key
XFORM: Encryption alg: AES-GCM-16(256); Authentication alg: NONE
XFORM: PRF: HMAC-SHA2-256 ; Oakley Group: CURVE25519 (group 31)
XFORM: Child SA PFS is required (Oakley Group: 31)
LOCIP: Address (Initiator):
LOCIP: AF_INET: port 500, 192.0.2.1.
REMIP: Address (Responder):
REMIP: AF_INET6: port 4500, 2001:db8::7.
LIFTM: Lifetime limits:
LIFTM: 3600 seconds (1.00 hour)
LIFTM: Current usage:
LIFTM: SA created 30 seconds ago
LIFTM: Expiration info:
LIFTM: SA is rekeyed in 3000 seconds (50.00 minutes)
LIFTM: SA expires in 3570 seconds (59.50 minutes)
STATS: 2 Child SAs created; 1 Child SAs deleted; 1 in use
STATS: 4 messages sent, 0 retransmitted; 4 messages received
ERRS:  3 RX errors: 3 integrity
LOCID: Initiator identity, type IPv4 address
LOCID: 192.0.2.1
REMID: Responder identity, type FQDN
REMID: gw7.example.net
CHILD: ESP SPIs: in 0x00001000  out 0xc0ffee00; tunnel mode; ESP AES-CBC(256) HMAC-SHA2-256-128; ESN; PFS group 31
CHILD: 10.1.0.0-10.1.0.255 <-> 10.2.0.0-10.2.0.255; created 29 seconds ago
KEY:   SK_d (4 bytes): deadbeef/32

Completed dump of IKE SA info
";
    assert_eq!(out, expected);
}

#[test]
fn paranoid_shows_keys_as_x() {
    let double = Double::new(vec![Ok(vec![ike_sa()]), Ok(vec![ike_sa()])]);
    let (_, out, _) = double.run("dump ikesa", false, true);
    assert!(out.contains("KEY:   SK_d (4 bytes): XXXXXXXX/32\n") && !out.contains("deadbeef"), "{out}");
    let (_, out, _) = double.run("dump ikesa", true, true);
    assert!(out.contains("\"value\": \"XXXXXXXX\"") && !out.contains("deadbeef"), "{out}");
}

#[test]
fn json_is_one_document() {
    let double = Double::new(vec![Ok(vec![ike_sa(), ike_sa()]), Ok(Vec::new()), Ok(vec![Item::Count(2)])]);
    let (done, out, _) = double.run("dump ikesa", true, false);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(done, Done::Yes);
    assert_eq!(value.as_array().unwrap().len(), 2);
    assert_eq!(value[0]["children"][0]["spi_in"], 0x1000);
    assert_eq!(value[0]["keys"][0]["value"], "deadbeef");
    let (_, out, _) = double.run("dump ikesa", true, false);
    assert_eq!(out, "[]\n");
    let (_, out, _) = double.run("flush ikesa", true, false);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["count"], 2);
}

#[test]
fn empty_dump_is_no_error() {
    let double = Double::new(vec![refused(ErrorCode::NoData, "none")]);
    let (done, out, err) = double.run("dump rules", false, false);
    assert_eq!((done, out.as_str(), err.as_str()), (Done::Yes, "\nCompleted dump of policy rules\n", ""));
}

#[test]
fn levels() {
    let double = Double::new(vec![
        Ok(vec![Item::Debug { old: None, level: DebugLevel::parse("op+p1").unwrap() }]),
        Ok(vec![Item::Debug { old: Some(DebugLevel::OPERATIONAL), level: DebugLevel::NONE }]),
        Ok(vec![Item::Priv { old: None, level: Privilege::Keymat }]),
        Ok(vec![Item::Priv { old: Some(Privilege::Keymat), level: Privilege::Base }]),
        refused(ErrorCode::Privilege, "not allowed at current privilege level"),
    ]);
    let (_, out, _) = double.run("get debug", false, false);
    assert_eq!(out, "Current debug level is 0xc\nDebug categories enabled:\n\tOperational\n\tPhase 1 SA creation\n");
    let (_, out, err) = double.run("set debug 0", false, false);
    assert_eq!(out, "No debug categories enabled.\n");
    assert_eq!(err, "ikeadm: Successfully changed debug level from 0x4 to 0x0\n");
    let (_, out, _) = double.run("get priv", false, false);
    assert_eq!(out, "Current privilege level is 0x2, access to keying material enabled\n");
    let (_, out, err) = double.run("set priv base", false, false);
    assert_eq!(out, "New privilege level 0x0 enables base privileges\n");
    assert_eq!(err, "ikeadm: Successfully changed privilege level from 0x2 to 0x0\n");
    let (done, _, err) = double.run("set priv 2", false, false);
    assert_eq!(done, Done::No);
    assert_eq!(err, "ikeadm: error setting privilege level: not allowed at current privilege level\n");
}

#[test]
fn stats() {
    let mut stats = StatsInfo {
        current: Sides { initiator: 1, responder: 2 },
        attempted: Sides { initiator: 30, responder: 4 },
        failed: Sides { initiator: 5, responder: 0 },
        initiator_timeouts: 5,
        ..StatsInfo::default()
    };
    stats.failures.insert("the peer does not answer".into(), 5);
    stats.counters.insert("datagrams received".into(), 0);
    let double = Double::new(vec![Ok(vec![Item::Stats(stats)])]);
    let (_, out, _) = double.run("get stats", false, false);
    assert_eq!(
        out,
        "IKE SA counts:
Current:   initiator:          1   responder:          2
Total:     initiator:          0   responder:          0
Attempted: initiator:         30   responder:          4
Failed:    initiator:          5   responder:          0
           initiator fails include 5 time-out(s)
Failed negotiations by reason:
  the peer does not answer                               5
"
    );
}

#[test]
fn rules_and_defaults() {
    let rule = RuleInfo {
        label: "a".into(),
        source: "ikev2.config:3".into(),
        local_addr: vec![ike_door::AddressRange {
            first: "10.0.0.0".parse().unwrap(),
            last: "10.0.0.255".parse().unwrap(),
        }],
        remote_addr: vec![ike_door::AddressRange { first: "::1".parse().unwrap(), last: "::1".parse().unwrap() }],
        local_id: "IP = own address".into(),
        remote_id: "ANY".into(),
        has_key: false,
        local_auth: "preshared".to_owned(),
        remote_auth: "cert".to_owned(),
        required_issuer: None,
        transforms: vec![TransformInfo {
            encryption: vec!["AES-CBC(256)".into(), "AES-CBC(128)".into()],
            integrity: vec!["HMAC-SHA2-256-128".into()],
            prf: vec!["HMAC-SHA2-256".into()],
            groups: vec!["ECP-256".into()],
        }],
        ikesa_lifetime: 3600,
        childsa_pfs: 19,
        childsa_lifetime_secs: 120,
        childsa_softlife_secs: 60,
        childsa_idletime_secs: 0,
        childsa_lifetime_kb: 102_400,
        childsa_softlife_kb: 0,
    };
    let default = DefaultInfo {
        token: "ikesa_lifetime_secs".into(),
        source: DefaultSource::Config,
        value: "7200".into(),
        unit: "seconds".into(),
        description: "life of an IKE SA".into(),
    };
    let double = Double::new(vec![Ok(vec![Item::Rule(rule)]), Ok(vec![Item::Default(default)])]);
    let (_, out, _) = double.run("get rule a", false, false);
    assert_eq!(
        out,
        "
GLOBL: Label 'a' (ikev2.config:3)
GLOBL: local auth preshared, remote auth cert
GLOBL: preshared key missing
GLOBL: childsa_pfs=true (group 19)
GLOBL: ikesa_lifetime=3600 seconds (1.00 hour)
GLOBL: childsa_lifetime=120 seconds (2.00 minutes)
GLOBL: childsa_softlife=60 seconds
GLOBL: childsa_idletime=0 seconds
GLOBL: childsa_lifetime_kb=102400 kilobytes (100.00 MB)
GLOBL: childsa_softlife_kb=0 kilobytes
LOCIP: IP address range(s):
LOCIP: 10.0.0.0 - 10.0.0.255
REMIP: IP address range(s):
REMIP: ::1
LOCID: Identity descriptors:
LOCID:     IP = own address
REMID: Identity descriptors:
REMID:     ANY
XFRMS: Available Transforms:
XF  0: Encryption alg: AES-CBC(256), AES-CBC(128); Authentication alg: HMAC-SHA2-256-128
XF  0: PRF: HMAC-SHA2-256 ; Oakley Group: ECP-256
"
    );
    let (_, out, _) = double.run("get defaults", false, false);
    assert!(out.contains("ikesa_lifetime_secs   config            7200 seconds   life of an IKE SA\n"), "{out}");
}

#[test]
fn tables_of_algorithms() {
    let group = Item::Group { value: 31, strength: 128, description: "X25519".into() };
    let cipher = |value, name: &str, key_bits| Item::EncrAlg { value, name: name.into(), key_bits };
    let double = Double::new(vec![
        Ok(vec![group.clone()]),
        Ok(vec![cipher(12, "AES-CBC", Some((128, 256))), cipher(28, "CHACHA20-POLY1305", None)]),
        Ok(vec![Item::AuthAlg { value: 12, name: "HMAC-SHA2-256-128".into() }]),
        Ok(vec![group]),
    ]);
    let (_, out, _) = double.run("dump groups", false, false);
    assert!(out.ends_with("Value Strength Description\n31    128      X25519\n\nCompleted dump of groups\n"), "{out}");
    let (_, out, _) = double.run("dump encralgs", false, false);
    assert!(out.contains("\n12    AES-CBC             128-256\n28    CHACHA20-POLY1305   N/A\n"), "{out}");
    let (_, out, _) = double.run("dump authalgs", false, false);
    assert!(out.contains("\n12    HMAC-SHA2-256-128\n"), "{out}");
    let (_, out, _) = double.run("dump groups", true, false);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()[0]["value"], 31);
}

#[test]
fn changes_report_on_the_error_stream() {
    let double = Double::new(vec![
        Ok(vec![Item::Count(1)]),
        refused(ErrorCode::NoData, "none"),
        Ok(vec![Item::Count(0)]),
        Ok(vec![Item::Count(3), Item::Note("f:1:1: warning: w".into())]),
        refused(ErrorCode::InvalidData, "f:1:1: error: bad\n    line\n    ^"),
    ]);
    let (done, out, err) = double.run("del ikesa 10.0.0.1 10.0.0.2", false, false);
    assert_eq!((done, out.as_str(), err.as_str()), (Done::Yes, "", "ikeadm: Successfully deleted selected IKE SA.\n"));
    let (done, _, err) = double.run("del ikesa 0x1 0x2", false, false);
    assert_eq!((done, err.as_str()), (Done::No, "ikeadm: Could not find requested IKE SA.\n"));
    assert_eq!(double.run("flush ikesa", false, false).2, "ikeadm: Successfully flushed IKE SAs.\n");
    let (_, _, err) = double.run("read rules", false, false);
    assert_eq!(err, "ikeadm: Completed read of policy rule configuration information.\nikeadm: f:1:1: warning: w\n");
    let (done, _, err) = double.run("read preshared", false, false);
    assert_eq!(done, Done::No);
    assert!(err.starts_with("ikeadm: error reading preshared key: f:1:1: error: bad\n"), "{err}");
}

#[test]
fn interactive_mode_goes_on_after_errors_and_reconnects() {
    let double = Double::new(vec![
        Ok(vec![Item::Priv { old: None, level: Privilege::Base }]),
        Ok(vec![Item::Priv { old: None, level: Privilege::Base }]),
    ]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let style = Style { numeric: true, paranoid: false };
    let mut session = Session::new(double.door(), style, false, &mut out, &mut err);
    let mut input = "# comment\nget priv\nbogus\nget \\\n \"priv\"\nexit\nget priv\n".as_bytes();
    assert!(session.interactive(&mut input, false));
    drop(session);
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2);
    assert!(String::from_utf8(err).unwrap().contains("Unrecognized command 'bogus'"));
}

#[test]
fn no_daemon_is_an_error_with_a_hint() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let style = Style { numeric: true, paranoid: false };
    let done =
        Session::new("/nonexistent".into(), style, false, &mut out, &mut err).run(&["get".into(), "stats".into()]);
    assert_eq!(done, Done::No);
    let err = String::from_utf8(err).unwrap();
    assert!(err.contains("cannot talk to the daemon") && err.contains("is in.ikev2d running"), "{err}");
}

#[test]
fn the_program_itself() {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ikeadm")).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = run(&["-h"]);
    assert!(code == Some(0) && out.contains("dump ikesa"), "{out}");
    let (code, out, _) = run(&["help", "flush"]);
    assert!(code == Some(0) && out.contains("flush ikesa") && !out.contains("dump"), "{out}");
    let (code, _, err) = run(&["-v1", "get", "stats"]);
    assert!(code == Some(1) && err.contains("in.iked") && err.contains("not part of this release"), "{err}");
    assert_eq!(run(&["-v", "3", "get", "stats"]).0, Some(1));
    assert_eq!(run(&["--bogus"]).0, Some(1));
    assert_eq!(run(&["--instance", "../x", "get", "stats"]).0, Some(1));
    let (code, _, err) = run(&["-v2", "-np", "--instance", "no-such-one", "get", "stats"]);
    assert!(code == Some(1) && err.contains("/run/ipsec/no-such-one/ikev2_door"), "{err}");
}
