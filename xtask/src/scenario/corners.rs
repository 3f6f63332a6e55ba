//! The corners of RFC 4303 and RFC 4302 against scapy: what a peer may send beside plain packets, and what has to be
//! dropped. Each bad packet is sent between good ones, which have to pass as if it had never come.

use super::echo::Server;
use super::matrix::{AUTHENTICATORS, Direction, Protection, Shape, transforms, transport, tunnel};
use super::second_opinion::{Bench, Way};
use crate::suite::{Counters, counter, drops, number, text};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// Octets of TFC padding: fewer and more than padding could have.
const TFC: [usize; 6] = [1, 3, 64, 255, 256, 700];

/// Extension headers in front of ESP, and those behind it that belong to the packet.
type Headers = (&'static [&'static str], &'static [&'static str]);

/// RFC 8200 section 4.1 has destination options for the last receiver behind ESP; in front of it they may be too.
const EXTENSIONS: [Headers; 5] = [
    (&[], &["destination"]),
    (&["hop-by-hop"], &[]),
    (&["hop-by-hop", "destination"], &[]),
    (&["hop-by-hop", "routing"], &["destination"]),
    (&["hop-by-hop", "destination", "routing"], &["destination"]),
];

/// In a tunnel there are headers of either packet.
const TUNNELLED: [Headers; 3] = [
    (&[], &["hop-by-hop", "destination", "routing"]),
    (&["hop-by-hop", "destination"], &[]),
    (&["destination"], &["hop-by-hop"]),
];

const OPTIONS: [Headers; 1] = [(&["options"], &[])];

const TUNNELLED_OPTIONS: [Headers; 3] = [(&["options"], &[]), (&[], &["options"]), (&["options"], &["options"])];

fn esp(policy: &str, shape: Shape) -> Result<Way> {
    let found = transforms().into_iter().find(|transform| transform.policy() == policy);
    let protection = Protection::esp(found.with_context(|| format!("no transform is called {policy}"))?);
    Ok(Way { protection, shape, options: false })
}

const CHACHA20: &str = "encr_algs chacha20-poly1305(256)";
const CBC: &str = "encr_algs aes-cbc(256) encr_auth_algs hmac-sha256";

/// A case with further members.
fn with(mut case: Value, members: Value) -> Value {
    if let (Some(case), Value::Object(members)) = (case.as_object_mut(), members) {
        case.extend(members);
    }
    case
}

/// Asks the peer, with fresh SAs; hands back what was counted.
fn ask(bench: &mut Bench, way: &Way, members: Value, sizes: &[usize]) -> Result<(Counters, Counters)> {
    let value = if way.shape.esn { format!("replay_value {}", way.start()) } else { String::new() };
    bench.keys(way, [&format!("replay 64 {value}"); 2])?;
    let before = bench.a.counters()?;
    let what = members.to_string();
    bench.ask(&with(way.case(sizes), members)).with_context(|| format!("{}: {what}", way.name()))?;
    Ok((before, bench.a.counters()?))
}

fn nothing_dropped(way: &Way, (before, after): &(Counters, Counters)) -> Result<()> {
    let lost = drops(before, after);
    ensure!(lost.is_empty(), "{}: packets were dropped: {lost:?}", way.name());
    Ok(())
}

pub(super) fn accepted() -> Result<()> {
    let mut bench = Bench::new("corners")?;
    for name in ["ipv4.ip_default_ttl", "ipv6.conf.all.hop_limit", "ipv6.conf.wan0.hop_limit"] {
        bench.sites.a.sysctl(name, "200")?;
    }
    padding(&mut bench)?;
    from_elsewhere(&mut bench)?;
    errors(&mut bench)?;
    dummies(&mut bench)?;
    headers_to_us(&mut bench)?;
    headers_from_us(&mut bench)?;
    without_window(&mut bench)?;
    last_numbers(&mut bench)
}

/// ESP-FMT-09, TUN-13: TFC padding behind the inner packet is cut; what comes back has none. TUN-01, TUN-02, TUN-03: the
/// outer header has no options, no extension headers and hops of its own, and a packet of this host keeps those it has.
fn padding(bench: &mut Bench) -> Result<()> {
    for (policy, shape) in [
        (CHACHA20, tunnel(4, 4, false, false)),
        (CBC, tunnel(6, 6, false, false)),
        (CBC, tunnel(4, 6, true, false)),
        (CHACHA20, tunnel(6, 4, false, false)),
    ] {
        let way = esp(policy, shape)?;
        bench.policy(&way)?;
        let seen = ask(bench, &way, json!({ "tfc": TFC, "hops": 200 }), &[0, 1, 33, 64, 555, 100, 12, 700])?;
        nothing_dropped(&way, &seen)?;
        println!("TFC padding: {}", way.name());
    }
    Ok(())
}

/// ARC-IN-05: who is named as the source of a tunnel's packet does not matter once it is authentic; the answers go to the
/// peer.
fn from_elsewhere(bench: &mut Bench) -> Result<()> {
    for (shape, other) in [(tunnel(4, 4, false, false), "203.0.113.77"), (tunnel(6, 4, false, false), "2001:db8:2::77")]
    {
        let way = esp(CHACHA20, shape)?;
        bench.policy(&way)?;
        nothing_dropped(&way, &ask(bench, &way, json!({ "from": other }), &[0, 33, 64])?)?;
    }
    Ok(())
}

/// ARC-ICMP-05, ARC-ICMP-06: an ICMP error of a router that the selectors do not have comes through with the flow that it
/// quotes.
fn errors(bench: &mut Bench) -> Result<()> {
    for shape in [tunnel(4, 4, false, false), tunnel(4, 6, false, false)] {
        let way = esp(CHACHA20, shape)?;
        bench.policy(&way)?;
        let seen = ask(bench, &way, json!({ "bad": vec!["error about this flow"; 2] }), &[0, 33, 64])?;
        nothing_dropped(&way, &seen)?;
        let (before, after) = seen;
        let opened = counter(&after, "opened") - counter(&before, "opened");
        ensure!(opened == 5, "{}: of three packets and two errors {opened} came through", way.name());
    }
    Ok(())
}

/// ESP-FMT-08: dummy packets are authentic, counted and gone; nobody hears of them.
fn dummies(bench: &mut Bench) -> Result<()> {
    for (policy, shape) in [
        (CHACHA20, tunnel(4, 4, true, false)),
        (CBC, tunnel(6, 6, false, false)),
        (CBC, transport(4, false, false)),
        (CHACHA20, transport(6, true, false)),
    ] {
        let way = esp(policy, shape)?;
        bench.policy(&way)?;
        let (before, after) = ask(bench, &way, json!({ "dummies": 3 }), &[0, 1, 33, 555, 64])?;
        nothing_dropped(&way, &(before.clone(), after.clone()))?;
        let grown = |name: &str| counter(&after, name) - counter(&before, name);
        // The last may still be on their way when the last answer is there.
        let (dummies, opened) = (grown("dummy"), grown("opened"));
        ensure!((12..=15).contains(&dummies) && opened == 5, "{}: {dummies} dummies, {opened} opened", way.name());
        println!("dummy packets: {}", way.name());
    }
    Ok(())
}

/// ESP-FMT-10, ESP-IN-01: extension headers and options in front of ESP, behind it, and in a tunnel on either packet.
fn headers_to_us(bench: &mut Bench) -> Result<()> {
    let all: [(Shape, &[Headers]); 6] = [
        (transport(6, false, false), &EXTENSIONS),
        (tunnel(6, 6, false, false), &TUNNELLED),
        (tunnel(6, 4, true, false), &[(&["hop-by-hop", "routing"], &["options"])]),
        (tunnel(4, 6, false, false), &[(&["options"], &["hop-by-hop", "destination"])]),
        (transport(4, true, false), &OPTIONS),
        (tunnel(4, 4, false, false), &TUNNELLED_OPTIONS),
    ];
    for ((shape, headers), policy) in all.into_iter().zip([CHACHA20, CBC].into_iter().cycle()) {
        let way = esp(policy, shape)?;
        bench.policy(&way)?;
        for (outside, inside) in headers {
            // An echo reply has the options of its request.
            let v4 = |headers: &[&str], six: bool| json!(if six { &[] } else { headers });
            let (front, behind) = match shape.tunnel {
                true => (json!([]), v4(inside, shape.inner6)),
                false => (v4(outside, shape.outer6), json!([])),
            };
            let members = json!({
                "outside": outside, "inside": inside, "headers outside": front, "headers inside": behind,
            });
            nothing_dropped(&way, &ask(bench, &way, members, &[0, 1, 33, 555])?)?;
        }
        println!("headers to us: {}", way.name());
    }
    Ok(())
}

/// ESP-FMT-10, TUN-01, TUN-02: what this host sends has its options and extension headers in front of ESP in transport
/// mode; in a tunnel they stay with their packet, and the outer one has none.
fn headers_from_us(bench: &mut Bench) -> Result<()> {
    for shape in [
        transport(6, true, false),
        transport(4, false, false),
        tunnel(6, 6, false, false),
        tunnel(4, 4, false, false),
        tunnel(4, 6, false, false),
    ] {
        let way = esp(CBC, shape)?;
        bench.policy(&way)?;
        let server = Server::start(&bench.sites.a, shape.inner().0, true)?;
        let own = if shape.inner6 { json!(["hop-by-hop", "destination"]) } else { json!(["options"]) };
        let (front, behind) = if shape.tunnel { (json!([]), own) } else { (own, json!([])) };
        let members = json!({ "udp": server.port, "headers outside": front, "headers inside": behind });
        let seen = ask(bench, &way, members, &[0, 1, 33, 555]);
        server.end()?;
        nothing_dropped(&way, &seen?)?;
        println!("headers from us: {}", way.name());
    }
    Ok(())
}

/// ESP-IN-09: without a window, as manual SAs are by default, what comes twice is taken twice.
fn without_window(bench: &mut Bench) -> Result<()> {
    for way in [esp(CHACHA20, tunnel(4, 4, false, false))?, ah(transport(6, false, false))] {
        bench.policy(&way)?;
        bench.keys(&way, [""; 2])?;
        let case = with(way.case(&[0, 33, 64]), json!({ "twice": true }));
        bench.ask(&case).with_context(|| format!("without a window: {}", way.name()))?;
    }
    Ok(())
}

/// ESP-FMT-04, AH-03: the last sequence number is sent, and then nothing: the SA is dead, which an EXPIRE message tells.
fn last_numbers(bench: &mut Bench) -> Result<()> {
    for way in [
        esp(CHACHA20, tunnel(4, 4, false, false))?,
        esp(CBC, transport(6, true, false))?,
        ah(transport(4, false, false)),
    ] {
        bench.policy(&way)?;
        let last = if way.shape.esn { u64::MAX } else { u32::MAX.into() };
        bench.keys(&way, [&format!("replay_value {}", last - 3), &format!("replay_value {}", way.start())])?;
        let case = with(way.case(&[0, 33, 64]), json!({ "answers": last - 3 }));
        bench.ask(&case).with_context(|| way.name())?;
        let before = bench.a.counters()?;
        // As far as the host knows the peer has sent nothing yet: there is no window.
        let answer = bench.ask(&with(case, json!({ "patience": 2 })));
        let after = bench.a.counters()?;
        ensure!(answer.is_err(), "{}: a sequence number was used after the last", way.name());
        let lost = drops(&before, &after);
        ensure!(lost == ["drop-sequence-exhausted +1"], "{}: {lost:?}", way.name());
        ensure!(counter(&after, "expires") == counter(&before, "expires") + 1, "{}: no EXPIRE", way.name());
        let (spis, sas) = (bench.a.outbound_spis()?, bench.a.sas()?);
        ensure!(spis.is_empty(), "{}: {sas:?}", way.name());
        println!("last numbers: {}", way.name());
    }
    Ok(())
}

fn ah(shape: Shape) -> Way {
    let [_, sha256, ..] = &AUTHENTICATORS;
    Way { protection: Protection { ah: Some(sha256), esp: None }, shape, options: false }
}

/// A kind of bad packet, and what counts it.
type Bad = (&'static str, &'static str);

/// ESP and AH in either mode.
const ANY: [Bad; 9] = [
    ("unknown SPI", "drop-no-sa-inbound"),
    ("SPI zero", "drop-no-sa-inbound"),
    ("replayed", "drop-replay"),
    ("left of the window", "drop-replay"),
    ("forged", "drop-integrity"),
    ("forged, far ahead", "drop-integrity"),
    ("changed on the way", "drop-integrity"),
    ("cut short", "drop-malformed"),
    ("clear", "drop-clear-inbound"),
];

/// What is wrong inside ESP, in either mode.
const INSIDE: [Bad; 5] = [
    ("pad length", "drop-malformed"),
    ("padding", "drop-malformed"),
    ("block not whole", "drop-malformed"),
    ("dummy, forged", "drop-integrity"),
    ("foreign source", "drop-selector-mismatch"),
];

const TUNNEL: [Bad; 6] = [
    ("next header", "drop-malformed"),
    ("other version", "drop-malformed"),
    ("longer inside", "drop-malformed"),
    ("no header inside", "drop-malformed"),
    ("foreign destination", "drop-selector-mismatch"),
    ("error about another flow", "drop-selector-mismatch"),
];

/// Datagrams to port 4500, which no SA needs to be there for: no SPI and sequence number, and no IKE.
const UDP: [Bad; 7] = [
    ("udp ", "drop-bad-encapsulation"),
    ("udp 00", "drop-bad-encapsulation"),
    ("udp ffff", "drop-bad-encapsulation"),
    ("udp 010203", "drop-bad-encapsulation"),
    ("udp 00000000", "drop-bad-encapsulation"),
    ("udp 0000100100", "drop-bad-encapsulation"),
    ("udp 0000100100000001", "drop-no-sa-inbound"),
];

/// ESP-FMT-02, ESP-IN-02, ESP-IN-04, ESP-IN-05, ESP-IN-06, ESP-IN-10, ESP-IN-11, ESP-IN-12, ESP-IN-13, AH-01, AH-09,
/// ARC-IN-01, ARC-IN-02, ARC-IN-03, ARC-ICMP-06, UDP-02, UDP-06, UDP-07: each kind of bad packet is counted under its
/// reason, on its SA where it has one; nobody hears of it; and the window is where it was.
pub(super) fn refused() -> Result<()> {
    let mut bench = Bench::new("bad")?;
    let zero = [("number zero", "drop-replay")];
    let length = [("AH length", "drop-malformed")];
    for (way, kinds) in [
        (esp(CHACHA20, tunnel(4, 4, false, false))?, [&ANY[..], &INSIDE, &TUNNEL, &UDP, &zero].concat()),
        (esp(CBC, tunnel(6, 6, true, false))?, [&ANY[..], &INSIDE, &TUNNEL, &UDP].concat()),
        (esp(CBC, transport(6, false, false))?, [&ANY[..], &INSIDE, &zero].concat()),
        (ah(transport(4, true, false)), [&ANY[..], &length].concat()),
        (ah(tunnel(6, 6, false, false)), [&ANY[..], &length, &zero].concat()),
    ] {
        bench.a.policy(&(way.shape.rule(&way.protection.policy()) + &stranger(&way, None)))?;
        let mut by_counter = BTreeMap::<&str, Vec<&str>>::new();
        for (kind, name) in &kinds {
            // Of 64-bit numbers those left of the window are taken for ones far ahead (RFC 4303 appendix A2.2).
            let ahead = way.shape.esn && *kind == "left of the window";
            by_counter.entry(if ahead { "drop-integrity" } else { name }).or_default().push(kind);
        }
        for (name, kinds) in by_counter {
            let together = dropped(&mut bench, &way, &kinds, name);
            if together.is_err() {
                // Which of them?
                for kind in &kinds {
                    dropped(&mut bench, &way, &[kind], name)?;
                }
            }
            together?;
        }
        println!("{} kinds: {}", kinds.len(), way.name());
    }
    keepalive_and_ike(&mut bench)
}

/// The rule of another peer, or with further extensions an SA from it: what is foreign to one SA is right in the other.
fn stranger(way: &Way, keys: Option<&str>) -> String {
    let shape = way.shape;
    let (known, other) = match (shape.tunnel, shape.inner6) {
        (true, false) => (shape.nets().1, "10.3.0.0/24"),
        (true, true) => (shape.nets().1, "2001:db8:c::/64"),
        (false, false) => (shape.outer().1, "10.3.0.9"),
        (false, true) => (shape.outer().1, "2001:db8:c::9"),
    };
    let text = match keys {
        None => shape.rule(&way.protection.policy()),
        Some(further) => way.protection.sas(shape, Direction::In, further),
    };
    text.replace(known, other).replace(" spi 0x1", " spi 0x3")
}

/// Two of each kind, each between good packets.
fn dropped(bench: &mut Bench, way: &Way, kinds: &[&str], name: &str) -> Result<()> {
    // Far enough from zero to be left of the window.
    let start = way.start() + 200;
    let value = format!("replay 64 replay_value {start}");
    bench.keys(way, [&value; 2])?;
    bench.a.keys(&stranger(way, Some("replay 64")))?;
    let before = bench.a.counters()?;
    let bad: Vec<&str> = kinds.iter().flat_map(|kind| [*kind; 2]).collect();
    let sizes: Vec<usize> = (0..=bad.len()).map(|n| n * 33).collect();
    let context = || format!("{}: {kinds:?}", way.name());
    bench.ask(&with(way.case(&sizes), json!({ "bad": bad, "start": start }))).with_context(context)?;
    let lost = drops(&before, &bench.a.counters()?);
    ensure!(lost == [format!("{name} +{}", bad.len())], "{}: {lost:?}, not all by {name}", context());
    let spi = match way.protection.ah {
        Some(_) => Direction::In.ah_spi(),
        None => Direction::In.spi(),
    };
    let sas = bench.a.sas()?;
    let sa = sas.iter().find(|sa| text(sa, "spi") == format!("{spi:#x}")).context("the SA is gone")?;
    let found = (number(sa, "replays"), number(sa, "integrity_failures"));
    let of = |which: &str| if name == which { bad.len() as u64 } else { 0 };
    ensure!(found == (of("drop-replay"), of("drop-integrity")), "{}: the SA has counted {found:?}", context());
    Ok(())
}

/// UDP-02, UDP-03: a keepalive is counted and gone; four octets of zero and something behind are IKE's.
fn keepalive_and_ike(bench: &mut Bench) -> Result<()> {
    for shape in [tunnel(4, 4, false, false), tunnel(6, 6, false, false)] {
        let way = esp(CHACHA20, shape)?;
        bench.policy(&way)?;
        let address: IpAddr = shape.outer().0.parse()?;
        let ike = bench.sites.a.within(move || UdpSocket::bind((address, 4500)).context("the port of IKE"))?;
        ike.set_read_timeout(Some(Duration::from_secs(2)))?;
        let (before, after) = ask(bench, &way, json!({ "bad": ["udp ff", "udp ff"] }), &[0, 1, 2])?;
        nothing_dropped(&way, &(before.clone(), after.clone()))?;
        ensure!(counter(&after, "keepalive") == counter(&before, "keepalive") + 2, "not counted as keepalives");
        let marked = "00000000ff000000";
        let seen = ask(bench, &way, json!({ "bad": [format!("udp {marked}")] }), &[0, 1])?;
        nothing_dropped(&way, &seen)?;
        let mut buffer = [0; 64];
        let (length, _) = ike.recv_from(&mut buffer).context("IKE got nothing")?;
        ensure!(buffer.get(..length) == Some(&[0, 0, 0, 0, 0xff, 0, 0, 0]), "IKE got something else first");
    }
    Ok(())
}
