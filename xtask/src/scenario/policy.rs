//! Policy in force: replaced under traffic.

use super::manual::{manual_keys, nothing_in_clear, same_counts};
use super::topology::{A, B, INNER_A, INNER_B, NET_A, NET_B, Protected, rule};
use crate::net::capture::Capture;
use crate::net::transfer;
use crate::suite::{counter, drops};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Loads on both hosts together.
const LOADS: u32 = 200;

/// Packets that an old and a new policy judge together would be dropped or pass in clear: the rule of the traffic has
/// another place in each policy, and what has its place in the next one drops or lets pass.
pub(super) fn replaced() -> Result<()> {
    let algorithms = "encr_algs chacha20-poly1305";
    let net = Protected::new("replaced", algorithms, &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    ensure!(net.sites.a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel");
    let before = (net.a.counters()?, net.b.counters()?);
    let capture = Capture::start(&net.sites.router, "to-a")?;
    let loads = AtomicU32::new(0);
    let octets = std::thread::scope(|scope| {
        let loader = scope.spawn(|| -> Result<()> {
            while loads.load(Ordering::Relaxed) < LOADS {
                let n = loads.fetch_add(1, Ordering::Relaxed);
                let (suite, near, far) =
                    if n.is_multiple_of(2) { (&net.a, NET_A, NET_B) } else { (&net.b, NET_B, NET_A) };
                suite.policy(&policy(n / 2, &rule(near, far, algorithms))?).with_context(|| format!("load {n}"))?;
            }
            Ok(())
        });
        let mut octets = 0;
        while !loader.is_finished() {
            for (from, to, address) in [(&net.sites.a, &net.sites.b, INNER_B), (&net.sites.b, &net.sites.a, INNER_A)] {
                octets += transfer::tcp(from, to, address, 8 << 20, |_| {})
                    .with_context(|| format!("after {} loads", loads.load(Ordering::Relaxed)))?
                    .bytes;
            }
        }
        loader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, anyhow::Error>(octets)
    })?;
    let seen = capture.finish()?;
    println!("{LOADS} loads while {} MiB went through, {} ESP frames", octets >> 20, seen.esp);
    nothing_in_clear(&seen)?;
    let after = (net.a.counters()?, net.b.counters()?);
    let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
    // No comparison of what the SAs counted: a veth that is full drops frames, and counts them nowhere.
    ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
    Ok(())
}

/// ARC-ICMP-04: a rule for UDP alone, and a port that nobody listens on: the error that says so is about a protected flow and goes
/// with it, there and back (RFC 4301 section 6.2). One in clear about such a flow is nobody's to send.
pub(super) fn icmp_errors() -> Result<()> {
    let net = Protected::new("icmp", "encr_algs chacha20-poly1305", &[])?;
    for (suite, near, far) in [(&net.a, NET_A, NET_B), (&net.b, NET_B, NET_A)] {
        let pattern = format!("tunnel vpn0 negotiate tunnel laddr {near} raddr {far} ulp udp");
        suite.policy(&format!("{{ {pattern} }} ipsec {{ encr_algs chacha20-poly1305 }}\n"))?;
    }
    manual_keys(&net, "chacha20-poly1305")?;
    // What is to come may take a while.
    let told = |patience: u64| {
        net.sites.a.within(|| {
            let socket = UdpSocket::bind((INNER_A, 0))?;
            socket.connect((INNER_B, 9))?;
            socket.set_read_timeout(Some(Duration::from_secs(patience)))?;
            socket.send(transfer::MARKER)?;
            Ok(socket.recv(&mut [0; 16]).err().map(|error| error.kind()) == Some(ErrorKind::ConnectionRefused))
        })
    };
    let capture = Capture::start(&net.sites.router, "to-a")?;
    ensure!(told(15)?, "the error did not arrive");
    let seen = capture.finish()?;
    nothing_in_clear(&seen)?;
    ensure!(seen.esp == 2, "{} ESP packets, not the datagram and the error", seen.esp);
    same_counts(&net)?;
    // Without policy B says it in clear, where anybody could.
    net.b.tool("ipsecconf", &["-F"])?;
    let file = format!(
        "{{ tunnel vpn0 negotiate tunnel laddr {NET_B} raddr {NET_A} ulp udp dir in }} ipsec {{ encr_algs chacha20-poly1305 }}\n"
    );
    net.b.policy(&file)?;
    let before = net.a.counters()?;
    ensure!(!told(1)?, "an error in clear about a protected flow was believed");
    ensure!(
        counter(&net.a.counters()?, "drop-clear-inbound") > counter(&before, "drop-clear-inbound"),
        "it was not counted"
    );
    // ARC-ICMP-01: which errors in clear are believed is the administrator's to say, for each type and code.
    let believe = |code: &str| {
        let own = format!("{{ tunnel vpn0 negotiate tunnel laddr {NET_A} raddr {NET_B} ulp udp }}");
        let clear = format!("{{ ulp icmp type unreach code {code} dir in }} pass {{ }}\n");
        net.a.policy(&format!("{own} ipsec {{ encr_algs chacha20-poly1305 }}\n{clear}"))
    };
    believe("host-unr")?;
    ensure!(!told(1)?, "an error of another code was believed");
    believe("port-unr")?;
    ensure!(told(15)?, "an error that a rule lets in was not believed");
    Ok(())
}

/// ARC-SPD-01, ARC-SPD-02, ARC-SPD-04: what no rule names: a host policy lets it pass in clear, and a tunnel that has rules drops it, in both directions; which
/// is what the policy heads of Solaris do.
pub(super) fn defaults() -> Result<()> {
    let net = Protected::new("defaults", "encr_algs chacha20-poly1305", &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    let (a, b) = (&net.sites.a, &net.sites.b);
    // Between the hosts themselves: no rule names them.
    ensure!(a.ping(B, &[])? && b.ping(A, &[])?, "host policy without a rule for the traffic does not let it pass");
    ensure!(a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel");
    directions(&net)?;
    // B lets nothing but UDP out of its tunnel, or into it.
    net.b.policy(&format!(
        "{{ tunnel vpn0 negotiate tunnel laddr {NET_B} raddr {NET_A} ulp udp }} ipsec {{ encr_algs chacha20-poly1305 }}\n"
    ))?;
    let before = net.b.counters()?;
    ensure!(a.silent(&INNER_B.to_string(), &[])?, "what no rule of the tunnel names came out of it");
    let after = net.b.counters()?;
    let counted = |name: &str| counter(&after, name) - counter(&before, name);
    ensure!(counted("drop-policy-mismatch") == 1, "not counted as one packet that the policy has no rule for");
    // What is routed into the tunnel's interface and has no rule.
    b.ip(&[&format!("route replace {NET_A} dev ipsec0")])?;
    let capture = Capture::start(&net.sites.router, "to-b")?;
    let before = net.b.counters()?;
    ensure!(b.silent(&INNER_A.to_string(), &["-I", &INNER_B.to_string()])?, "an answer to what no rule lets in");
    let after = net.b.counters()?;
    ensure!(
        counter(&after, "drop-tunnel-no-rule") > counter(&before, "drop-tunnel-no-rule"),
        "not counted as a packet that no rule of a tunnel covers"
    );
    let seen = capture.finish()?;
    ensure!(seen.esp == 0, "{} ESP packets", seen.esp);
    let inner: Vec<u8> = [INNER_B, INNER_A].iter().flat_map(|address| octets(*address)).collect();
    ensure!(seen.kept.iter().all(|(_, frame)| frame.get(26..34) != Some(&inner[..])), "it left in clear");
    // A tunnel without rules: nothing comes out, and nothing is sealed.
    net.b.policy("")?;
    ensure!(a.silent(&INNER_B.to_string(), &[])?, "a tunnel without rules let a packet out");
    Ok(())
}

/// ARC-SPD-07: what a rule drops or lets pass in one direction goes the other way as before; to pass goes before to drop; and
/// whoever drops everything between two hosts still hears key management, and lets nobody else send in its name.
fn directions(net: &Protected) -> Result<()> {
    let (a, b) = (&net.sites.a, &net.sites.b);
    let tunnel = rule(NET_A, NET_B, "encr_algs chacha20-poly1305");
    let requests = format!("laddr {A} raddr {B} ulp icmp type 8");
    net.a.policy(&format!("{{ {requests} dir out }} drop {{ }}\n{tunnel}"))?;
    ensure!(a.silent(B, &[])? && b.ping(A, &[])?, "what A drops on its way out, and only that");
    net.a.policy(&format!("{{ {requests} dir in }} drop {{ }}\n{tunnel}"))?;
    ensure!(b.silent(A, &[])? && a.ping(B, &[])?, "what A drops on its way in, and only that");
    ensure!(a.ping(&INNER_B.to_string(), &[])?, "the tunnel does not care");
    let all = format!("{{ laddr {A} raddr {B} dir both }} drop {{ }}\n");
    net.a.policy(&format!("{all}{{ {requests} dir out }} pass {{ }}\n{{ {requests} dir in }} pass {{ }}\n{tunnel}"))?;
    // Answers are no requests.
    ensure!(a.silent(B, &[])? && b.silent(A, &[])?, "answers have no rule to pass by");
    net.a.policy(&format!("{all}{{ laddr {A} raddr {B} ulp icmp dir both }} pass {{ }}\n{tunnel}"))?;
    ensure!(a.ping(B, &[])? && b.ping(A, &[])?, "a rule to pass goes before one to drop");

    net.a.policy(&format!("{all}{tunnel}"))?;
    ensure!(a.silent(B, &[])? && b.silent(A, &[])?, "not everything is dropped");
    let before = net.a.counters()?;
    let counted = |name: &str| -> Result<u64> { Ok(counter(&net.a.counters()?, name) - counter(&before, name)) };
    let bound = |port| move || UdpSocket::bind((A, port)).context("a socket on A");
    let [ike, other] = [a.within(bound(500))?, a.within(bound(501))?];
    let from_b = b.within(|| UdpSocket::bind((B, 500)).context("a socket on B"))?;
    for socket in [&ike, &from_b] {
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    }
    from_b.send_to(b"other", (A, 501))?;
    from_b.send_to(b"ike", (A, 500))?;
    let mut text = [0; 16];
    let len = ike.recv(&mut text).context("key management hears nothing")?;
    ensure!(text.get(..len) == Some(b"ike") && counted("key-management")? == 1, "not what was sent to port 500");
    ensure!(counted("drop-policy-in")? >= 1, "what was sent to another port was not dropped");
    other.set_nonblocking(true)?;
    ensure!(
        other.recv(&mut text).is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
        "port 501 heard something"
    );
    let before_out = counted("drop-policy-out")?;
    // Nobody has told the data path that this is a key manager. The stack may say so.
    let _ = ike.send_to(b"not ike", (B, 500));
    ensure!(counted("drop-policy-out")? == before_out + 1, "a stranger sent from port 500");
    net.a.policy(&tunnel)?;
    ensure!(a.ping(B, &[])? && a.ping(&INNER_B.to_string(), &[])?, "without the rules it is as before");
    Ok(())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A policy of its own for each number: the rule of the traffic after another number of rules that pass and drop what
/// nobody sends.
fn policy(number: u32, own: &str) -> Result<String> {
    let mut text = String::new();
    for n in 0..number * 7 % 40 {
        let action = if n.is_multiple_of(2) { "pass" } else { "drop" };
        let tunnel = "tunnel vpn0 negotiate tunnel";
        writeln!(text, "{{ {tunnel} laddr 10.9.{number}.0/24 raddr 10.8.{n}.0/24 dir both }} {action} {{ }}")?;
        writeln!(text, "{{ raddr 192.0.2.{n} ulp udp rport {} dir both }} drop {{ }}", 1000 + number)?;
    }
    Ok(text + own)
}
