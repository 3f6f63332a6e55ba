//! Two clients behind one NAT who both call themselves A: what goes to one never reaches the other (RFC 3948 section 5).
//! The NAT of the second client's own network hides its address from the router, so that each is somebody there.

use super::manual::nothing_in_clear;
use super::nat::{IPV4, PRESHARED, config};
use super::topology::{A, B, INNER_A, INNER_B, NET_A, NET_B, TwoSites, rule};
use crate::net::capture::Capture;
use crate::net::daemon::Daemon;
use crate::net::{Host, transfer};
use crate::suite::{Suite, counter};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

/// How long what is to happen may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);

/// Hosts A and C have the same addresses, inner ones too; B is outside.
struct Clients {
    a: Suite,
    b: Suite,
    c: Suite,
    sites: TwoSites,
    /// The second client, and the NAT that it is behind alone.
    second: Host,
    _nat: Host,
}

impl Clients {
    fn new(name: &str) -> Result<Self> {
        let sites = TwoSites::new(name)?;
        let (second, nat) = (sites.lab.host("c")?, sites.lab.host("q")?);
        sites.lab.join((&second, "wan0"), (&nat, "to-c"))?;
        sites.lab.join((&nat, "to-r"), (&sites.router, "to-q"))?;
        nat.sysctl("ipv4.ip_forward", "1")?;
        sites.router.ip(&["address add 192.168.77.1/24 dev to-q"])?;
        nat.ip(&[
            "address add 198.51.100.1/24 dev to-c",
            "address add 192.168.77.2/24 dev to-r",
            "route add default via 192.168.77.1",
        ])?;
        second.ip(&[
            "address add 198.51.100.2/24 dev wan0",
            "address add 10.1.0.1/24 dev lo",
            "route add default via 198.51.100.1",
            "route add 10.2.0.0/24 via 198.51.100.1 src 10.1.0.1",
        ])?;
        nat.masquerade("to-r")?;
        sites.router.masquerade("to-b")?;
        let attach = |host: &Host| Suite::attach(&sites.lab, host, &["wan0"]);
        Ok(Self { a: attach(&sites.a)?, b: attach(&sites.b)?, c: attach(&second)?, sites, second, _nat: nat })
    }

    /// Daemons of A, B and C: the clients differ in their identities alone.
    fn daemons(&self) -> Result<[Daemon; 3]> {
        let client = |name: &str| config(A, B, &format!("local_id FQDN = \"{name}.example\""));
        Ok([
            self.a.daemon(&client("one"), PRESHARED)?,
            self.b.daemon(&config(B, IPV4.public, "remote_id FQDN = \"*.example\""), PRESHARED)?,
            self.c.daemon(&client("two"), PRESHARED)?,
        ])
    }
}

/// UDP-05: tunnels with one inner network. The second client is refused and told so, as long as the first one is there.
pub(super) fn tunnels() -> Result<()> {
    let clients = Clients::new("natsame")?;
    let algorithm = "encr_algs chacha20-poly1305";
    for (suite, local, remote, nets) in [
        (&clients.a, A, B, [NET_A, NET_B]),
        (&clients.c, A, B, [NET_A, NET_B]),
        (&clients.b, B, IPV4.public, [NET_B, NET_A]),
    ] {
        suite.tunnel("vpn0", local, remote)?;
        let [here, there] = nets;
        suite.policy(&rule(here, there, algorithm))?;
    }
    let [first, outside, second] = clients.daemons()?;
    let inner = INNER_B.to_string();
    let logs = || format!("A: {}\nB: {}\nC: {}", first.log_end(), outside.log_end(), second.log_end());
    ensure!(clients.sites.a.ping(&inner, &[])?, "no answer to the first client\n{}", logs());
    ensure!(clients.second.silent(&inner, &[])?, "both clients have the same traffic\n{}", logs());
    outside.wait_for("one.example has this traffic and comes from the same address, 203.0.113.1", PATIENCE)?;
    second.wait_for("TS_UNACCEPTABLE", PATIENCE)?;
    // What B sends to the address that both have goes to the one who has it.
    transfer::tcp(&clients.sites.b, &clients.sites.a, INNER_A, 1 << 20, |_| {}).with_context(logs)?;
    let opened = counter(&clients.c.counters()?, "opened");
    ensure!(opened == 0, "the second client has opened {opened} packets of the first\n{}", logs());
    drop(first);
    outside.wait_for("deleted by the peer", PATIENCE)?;
    // The data path of the second client does not ask again at once; that of B has not asked yet.
    let answered = clients.sites.b.ping(&INNER_A.to_string(), &[])?;
    let logs = || format!("B: {}\nC: {}", outside.log_end(), second.log_end());
    ensure!(answered && clients.second.ping(&inner, &[])?, "the second client does not take over\n{}", logs());
    Ok(())
}

/// V2-NAT-08, UDP-05, ARC-SPD-06: transport mode with an SA for each flow. Flows that differ in a port go to the client that they are of,
/// at once; the second client that begins a flow with the ports of another one's is refused.
pub(super) fn flows() -> Result<()> {
    const PORT: u16 = 7001;
    let clients = Clients::new("natflows")?;
    let protect = |laddr: &str, raddr: &str, port: &str| {
        format!(
            "{{ laddr {laddr} raddr {raddr} ulp tcp {port} {PORT} }} ipsec {{ encr_algs aes-gcm(256) sa unique }}\n"
        )
    };
    clients.a.policy(&protect(A, B, "rport"))?;
    clients.c.policy(&protect(A, B, "rport"))?;
    clients.b.policy(&protect(B, IPV4.public, "lport"))?;
    let [first, outside, second] = clients.daemons()?;
    let logs = || format!("A: {}\nB: {}\nC: {}", first.log_end(), outside.log_end(), second.log_end());
    let server: SocketAddr = format!("{B}:{PORT}").parse()?;
    let listener = clients.sites.b.within(|| TcpListener::bind(server).context("listening"))?;
    let capture = Capture::start(&clients.sites.router, "to-b")?;
    let accept = || -> Result<TcpStream> {
        let (stream, _) = listener.accept().context("accepting")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let one = connect(&clients.sites.a, 40_001, server).with_context(logs)?;
    let (one, to_one) = (one, accept()?);
    let two = connect(&clients.second, 40_002, server).with_context(logs)?;
    let (two, to_two) = (two, accept()?);
    for round in 0..20 {
        for (name, near, far) in [("one", &one, &to_one), ("two", &two, &to_two)] {
            let words = format!("{name} {round}");
            exchange(near, far, &words).and_then(|()| exchange(far, near, &words)).with_context(logs)?;
        }
    }
    // To B this is the flow that the first client has.
    ensure!(connect(&clients.second, 40_001, server).is_err(), "two clients have one flow\n{}", logs());
    outside.wait_for("one.example has this traffic", PATIENCE)?;
    exchange(&one, &to_one, "still here").and_then(|()| exchange(&to_one, &one, "still there")).with_context(logs)?;
    nothing_in_clear(&capture.finish()?)
}

/// Connects from a port.
fn connect(from: &Host, port: u16, server: SocketAddr) -> Result<TcpStream> {
    from.within(move || {
        let socket = bound(port)?;
        let stream = connected(socket, server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    })
}

/// A TCP socket with a port of its own.
fn bound(port: u16) -> Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    use nix::sys::socket::{SockaddrIn, bind};
    use std::os::fd::AsRawFd;
    bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port)).with_context(|| format!("binding port {port}"))?;
    Ok(fd)
}

/// Four seconds, which a first packet that waits for its SA does not need.
fn connected(socket: OwnedFd, server: SocketAddr) -> Result<TcpStream> {
    use nix::sys::socket::{SockaddrStorage, connect, setsockopt, sockopt};
    use nix::sys::time::{TimeVal, TimeValLike};
    use std::os::fd::AsRawFd;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(4))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(server)).with_context(|| format!("connecting to {server}"))?;
    Ok(TcpStream::from(socket))
}

/// Words from one end to the other.
fn exchange(mut from: &TcpStream, mut to: &TcpStream, words: &str) -> Result<()> {
    from.write_all(words.as_bytes()).context("sending")?;
    let mut got = vec![0; words.len()];
    to.read_exact(&mut got).with_context(|| format!("waiting for \"{words}\""))?;
    ensure!(got == words.as_bytes(), "\"{}\" for \"{words}\"", String::from_utf8_lossy(&got));
    Ok(())
}
