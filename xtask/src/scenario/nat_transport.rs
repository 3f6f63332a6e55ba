//! Transport mode through a NAT: the addresses in the checksums of TCP, UDP and ICMPv6 are others than those in the headers
//! that arrive, and inside ESP no NAT repairs them (RFC 3948 section 3.1.2, RFC 7296 section 2.23.1).

use super::manual::nothing_in_clear;
use super::nat::{Family, IPV4, IPV6, PRESHARED, config, mapped, mapping_lives, only};
use super::topology::{A, B, KEY_A_TO_B, KEY_B_TO_A, SPI_A_TO_B, SPI_B_TO_A, TwoSites};
use crate::net::capture::Capture;
use crate::net::{Host, transfer};
use crate::suite::{Suite, counter, drops, number, text};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

const ALGORITHM: &str = "encr_algs chacha20-poly1305 sa shared";

fn host_rule(laddr: &str, raddr: &str) -> String {
    format!("{{ laddr {laddr} raddr {raddr} }} ipsec {{ {ALGORITHM} }}\n")
}

/// Host A behind a NAT, host B outside, and a rule for all that they say to each other.
struct Hosts {
    a: Suite,
    b: Suite,
    sites: TwoSites,
}

impl Hosts {
    /// `publics` are the addresses by which B knows A.
    fn new(name: &str, rules: &[(&str, &str, &str)]) -> Result<Self> {
        let sites = TwoSites::new(name)?;
        sites.add_ipv6()?;
        let a = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
        let b = Suite::attach(&sites.lab, &sites.b, &["wan0"])?;
        let policy = |rule: fn(&(&str, &str, &str)) -> String| rules.iter().map(rule).collect::<String>();
        a.policy(&policy(|(a, b, _)| host_rule(a, b)))?;
        b.policy(&policy(|(_, b, public)| host_rule(b, public)))?;
        Ok(Self { a, b, sites })
    }

    fn state(&self) -> String {
        let stats = |suite: &Suite| {
            let dump = suite.tool("ipseckey", &["-n", "--json", "dump"]).unwrap_or_default();
            suite.tool("espadm", &["stats"]).unwrap_or_default() + &dump
        };
        format!("A:\n{}\nB:\n{}", stats(&self.a), stats(&self.b))
    }

    /// TCP both ways, UDP with and without a checksum, and a ping; nothing lost and nothing in clear.
    fn carries(&self, a: &str, b: &str, public: &str) -> Result<()> {
        let (a, b, public): (IpAddr, IpAddr, IpAddr) = (a.parse()?, b.parse()?, public.parse()?);
        let before = (self.a.counters()?, self.b.counters()?);
        let capture = Capture::start(&self.sites.router, "to-b")?;
        traffic([&self.sites.a, &self.sites.b], [a, b, public], 4 << 20).with_context(|| self.state())?;
        let seen = capture.finish()?;
        nothing_in_clear(&seen)?;
        ensure!(seen.esp == 0, "{} ESP packets were not in UDP", seen.esp);
        let after = (self.a.counters()?, self.b.counters()?);
        let lost: Vec<String> = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
        ensure!(lost.is_empty(), "packets were dropped: {lost:?}");
        Ok(())
    }
}

/// TCP both ways, UDP with and without a checksum, and a ping, between `a` behind a NAT, which gives it the address
/// `public`, and `b` outside.
pub(super) fn traffic([inside, outside]: [&Host; 2], [a, b, public]: [IpAddr; 3], bytes: u64) -> Result<()> {
    // The first packet opens the mapping.
    ensure!(inside.ping(&b.to_string(), &[])?, "no answer through the NAT");
    transfer::tcp(inside, outside, b, bytes, |_| {}).context("TCP through the NAT")?;
    transfer::tcp_to(outside, inside, [public, a], bytes, |_| {}).context("TCP from outside")?;
    ensure!(outside.ping(&public.to_string(), &[])?, "no answer from behind the NAT");
    for checksums in [true, false] {
        // Without a checksum is what IPv4 alone allows.
        if checksums || a.is_ipv4() {
            datagrams(inside, outside, [b, b], checksums)?;
            datagrams(outside, inside, [public, a], checksums)?;
        }
    }
    Ok(())
}

/// Datagrams of every length up to a few words, odd ones too; the stack of the receiver judges their checksums. Those
/// without one have 0 there, which no repair may touch.
fn datagrams(from: &Host, to: &Host, [known, own]: [IpAddr; 2], checksums: bool) -> Result<()> {
    let receiver = to.within(move || UdpSocket::bind((own, 0)).with_context(|| format!("binding {own}")))?;
    receiver.set_read_timeout(Some(Duration::from_secs(10)))?;
    let port = receiver.local_addr()?.port();
    let any: IpAddr = if known.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let sender = from.within(move || UdpSocket::bind((any, 0)).context("binding"))?;
    if !checksums {
        without_checksums(&sender)?;
    }
    let mut buffer = [0; 256];
    for length in 0..=64u8 {
        let sent = vec![length; usize::from(length)];
        sender.send_to(&sent, (known, port)).context("sending")?;
        let (got, _) = receiver.recv_from(&mut buffer).with_context(|| {
            format!("{length} octets to {known} did not arrive, checksums {checksums}: {}", udp_errors(to))
        })?;
        ensure!(buffer.get(..got) == Some(&sent[..]), "{length} octets became {got}");
    }
    Ok(())
}

fn without_checksums(socket: &UdpSocket) -> Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: the value lives across the call and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    ensure!(result == 0, "SO_NO_CHECK: {}", std::io::Error::last_os_error());
    Ok(())
}

fn udp_errors(host: &Host) -> String {
    let all = host.run("cat", &["/proc/net/snmp"]).unwrap_or_default();
    all.lines().filter(|line| line.starts_with("Udp:")).collect::<Vec<_>>().join(" ")
}

/// V2-NAT-08, UDP-04 with keys by hand: the NAT has one address and one port for A, which both know.
pub(super) fn by_hand() -> Result<()> {
    const PUBLIC: &str = "203.0.113.1";
    const PORT: u16 = 24_500;
    let hosts = Hosts::new("natman", &[(A, B, PUBLIC)])?;
    hosts.sites.router.translate("to-b", A, &format!("{PUBLIC}:{PORT}"))?;
    let add = |spi: u32, [src, dst]: [&str; 2], direction: &str, key: &str, nat: &str| {
        format!(
            "add esp spi {spi:#x} src {src} dst {dst} {direction} encr_alg chacha20-poly1305 encrkey {key} replay 1024 \
             encap udp {nat}\n"
        )
    };
    let inside = format!("nat_loc {PUBLIC} nat_lport 4500 nat_rport 4500");
    let outside = format!("nat_rem {A} nat_lport 4500 nat_rport {PORT}");
    hosts.a.keys(
        &(add(SPI_A_TO_B, [A, B], "outbound", KEY_A_TO_B, &inside)
            + &add(SPI_B_TO_A, [B, A], "inbound", KEY_B_TO_A, &inside)),
    )?;
    let b_keys = add(SPI_A_TO_B, [PUBLIC, B], "inbound", KEY_A_TO_B, &outside)
        + &add(SPI_B_TO_A, [B, PUBLIC], "outbound", KEY_B_TO_A, &outside);
    hosts.b.keys(&b_keys)?;
    hosts.carries(A, B, PUBLIC)?;
    // A daemon that has negotiated nothing keeps the mapping of A, and B, which no NAT hides, sends nothing.
    let (a_before, b_before) = (hosts.a.counters()?, hosts.b.counters()?);
    let _daemons = [hosts.a.daemon(&config(A, B, ""), PRESHARED)?, hosts.b.daemon(&config(B, PUBLIC, ""), PRESHARED)?];
    let keepalives = |suite: &Suite, before| {
        Ok::<_, anyhow::Error>(counter(&suite.counters()?, "keepalive") - counter(before, "keepalive"))
    };
    let start = Instant::now();
    while keepalives(&hosts.b, &b_before)? == 0 {
        ensure!(start.elapsed() < Duration::from_secs(60), "no keepalive in 60 seconds of silence\n{}", hosts.state());
        thread::sleep(Duration::from_millis(100));
    }
    // The next one is due 20 seconds later.
    thread::sleep(Duration::from_secs(3));
    let (at_a, at_b) = (keepalives(&hosts.a, &a_before)?, keepalives(&hosts.b, &b_before)?);
    ensure!((at_a, at_b) == (0, 1), "{at_a} keepalives came to A, {at_b} to B, after {:?} of silence", start.elapsed());
    // What the tools save is what they load: without the addresses checksums would be wrong.
    let file = hosts.sites.lab.directory().join("saved");
    let file = file.to_string_lossy();
    hosts.b.tool("ipseckey", &["save", "esp", &file])?;
    hosts.b.tool("ipseckey", &["flush"])?;
    hosts.b.tool("ipseckey", &["-f", &file])?;
    let of_a = |sa: &&Value| text(sa, "src") == PUBLIC && text(sa, "nat_rem") == A;
    let sas = hosts.b.sas()?;
    ensure!(sas.iter().filter(of_a).count() == 1, "what was saved is not what was loaded: {sas:?}");
    Ok(())
}

/// V2-NAT-08, UDP-04: negotiated, IPv4 and IPv6, and rekeyed by either side.
pub(super) fn negotiated() -> Result<()> {
    let families: [&Family; 2] = [&IPV4, &IPV6];
    let rules = families.map(|family| (family.outer[0], family.outer[1], family.public));
    let hosts = Hosts::new("nattrans", &rules)?;
    hosts.sites.router.masquerade("to-b")?;
    let [first, second] = families.map(|family| {
        let [a, b] = family.outer;
        (config(a, b, ""), config(b, family.public, &format!("remote_id IP = \"{a}\"")))
    });
    // One file for both families: the second has the global lines of the first, and another label.
    let both = |one: &str, other: &str| {
        let other = other.lines().skip(1).collect::<Vec<_>>().join("\n");
        format!("{one}{}\n", other.replace("\"nat\"", "\"nat6\""))
    };
    let keys = PRESHARED.to_owned() + &PRESHARED.replace("\"nat\"", "\"nat6\"");
    let inside = hosts.a.daemon(&both(&first.0, &second.0), &keys)?;
    let outside = hosts.b.daemon(&both(&first.1, &second.1), &keys)?;
    let logs = || format!("{}\nA: {}\nB: {}", hosts.state(), inside.log_end(), outside.log_end());
    for family in families {
        let [a, b] = family.outer;
        ensure!(hosts.sites.a.ping(b, &[])?, "{}: no answer\n{}", family.name, logs());
        hosts.carries(a, b, family.public).with_context(logs)?;
        let addresses = |sa: &&Value| text(sa, "src") == family.public && text(sa, "nat_rem") == a;
        let sas = hosts.b.sas()?;
        ensure!(sas.iter().filter(addresses).count() == 1, "B does not know what A calls itself: {sas:?}");
    }
    Ok(())
}

/// V2-NAT-06, V2-NAT-09: the NAT gets another address and forgets its mappings. B knows A by the first one: its rule, its
/// sockets and the names of its SAs have that. The next packet of A is followed, without an IKE message.
pub(super) fn moved() -> Result<()> {
    const NEXT: &str = "203.0.113.9";
    let [a, b] = IPV4.outer;
    let hosts = Hosts::new("natmove", &[(a, b, IPV4.public)])?;
    let router = &hosts.sites.router;
    router.masquerade("to-b")?;
    let inside = hosts.a.daemon(&config(a, b, ""), PRESHARED)?;
    let remote_id = format!("remote_id IP = \"{a}\"");
    let outside = hosts.b.daemon(&config(b, IPV4.public, &remote_id), PRESHARED)?;
    let logs = || format!("{}\nA: {}\nB: {}", hosts.state(), inside.log_end(), outside.log_end());
    ensure!(hosts.sites.a.ping(b, &[])?, "no answer\n{}", logs());
    hosts.carries(a, b, IPV4.public).with_context(logs)?;
    let seen = || only(hosts.b.ike_sas()?);
    let (before, messages) = (mapped(&seen()?)?, number(&seen()?, "messages_received"));
    ensure!(before.ip().to_string() == IPV4.public, "B knows its peer as {before}");

    mapping_lives(router, "1")?;
    ensure!(hosts.sites.a.ping(b, &[])?, "no answer before the mapping was lost\n{}", logs());
    thread::sleep(Duration::from_secs(2));
    mapping_lives(router, "120")?;
    router.ip(&[&format!("address add {NEXT}/24 dev to-b")])?;
    router.translate("to-b", a, &format!("{NEXT}:24501"))?;
    let start = Instant::now();
    while hosts.sites.a.silent(b, &[])? || mapped(&seen()?)?.to_string() != format!("{NEXT}:24501") {
        ensure!(start.elapsed() < Duration::from_secs(40), "{} is not followed\n{}", mapped(&seen()?)?, logs());
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(number(&seen()?, "messages_received") == messages, "IKE has told of the new address, not ESP");
    ensure!(counter(&hosts.b.counters()?, "moves") > 0, "B has counted no move");
    // By the name that B has for A, as before.
    hosts.carries(a, b, IPV4.public).with_context(logs)?;
    let moved = |sa: &&Value| text(sa, "moved_to") == NEXT;
    let sas = hosts.b.sas()?;
    ensure!(sas.iter().filter(moved).count() == 2, "the SAs of B do not tell where A is: {sas:?}");
    Ok(())
}
