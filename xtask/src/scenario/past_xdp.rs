//! Packets that come in on an outer interface past its XDP program: on receive queues that Linux gave none, and where somebody
//! took the program away. They are judged behind it, and a watch attaches it anew.

use super::manual::{manual_keys, state};
use super::queues::by_queue;
use super::topology::{INNER_A, INNER_B, NET_A, Protected, TwoSites};
use crate::net::transfer;
use crate::suite::{Suite, counter, text};
use crate::workspace::run_text;
use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// In the network behind A, but on the router: what it sends to the network behind B is in clear.
const INTRUDER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 77));

/// How long what must come may take on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn judged() -> Result<()> {
    let net = Protected::new("pastxdp", "encr_algs chacha20-poly1305", &[])?;
    manual_keys(&net, "chacha20-poly1305")?;
    net.sites.router.ip(&[&format!("address add {INTRUDER}/32 dev lo")])?;
    let intruder = Intruder::start(&net.sites)?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).with_context(|| state(&net))?;
    let judged_late = || Ok::<_, anyhow::Error>(counter(&net.b.counters()?, "judged-late"));
    ensure!(judged_late()? == 0, "packets went past XDP before anything was changed: {}", state(&net));

    // Everything that the router sends to B comes in on a queue without a program from now on.
    net.sites.b.run("ethtool", &["-L", "wan0", "rx", "2", "tx", "2"])?;
    net.sites.router.run("ethtool", &["-L", "to-b", "rx", "2", "tx", "2"])?;
    let namespace = net.sites.router.namespace();
    let all = format!("echo {} > /sys/class/net/to-b/queues/tx-1/xps_cpus", every_processor()?);
    run_text(Command::new("ip").args(["netns", "exec", namespace, "sh", "-c", &all]))?;
    all_is_judged(&net, &intruder, "on a queue without XDP")?;
    let said = net.b.tool("espadm", &["show"])?;
    ensure!(said.contains("wan0: it has 2 receive queues, and had 1"), "espadm show says: {said}");

    // The watch attaches XDP anew, and from then on nothing goes past it.
    let log = net.sites.lab.directory().join("watch.log");
    let mut command = net.b.command("espadm");
    command.arg("watch");
    let watch = net.sites.b.start(command, &log)?;
    let renewed = |times: usize, why: &str| {
        until(&format!("{why} (the watch says: {})", watch.log_end()), || {
            Ok(watch.log()?.matches("attached anew").count() == times && watch.log()?.contains(why))
        })
    };
    renewed(1, "2 receive queues, and had 1 when XDP was attached")?;
    ensure!(!net.b.tool("espadm", &["show"])?.contains("attached;"), "espadm show still has something to say");
    let before = judged_late()?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).with_context(|| state(&net))?;
    ensure!(judged_late()? == before, "packets still go past XDP: {}", state(&net));
    let queues = by_queue(&net.sites.b)?;
    ensure!(queues.get(1).is_some_and(|packets| *packets > 1000), "packets by queue: {queues:?}");
    watch.terminate()?;

    // Without a watch again: somebody takes the program away.
    let index = index(&net.b)?;
    let link = Path::new("/run/ipsec/bpf").join(net.b.instance()).join(format!("link_xdp_outer_{index}"));
    fs::remove_file(&link).with_context(|| format!("removing {}", link.display()))?;
    until("XDP gone from wan0", || Ok(!net.sites.b.run("ip", &["link", "show", "dev", "wan0"])?.contains("prog/xdp")))?;
    all_is_judged(&net, &intruder, "without XDP")?;
    let said = net.b.tool("espadm", &["show"])?;
    ensure!(said.contains("wan0: its XDP program is gone"), "espadm show says: {said}");
    net.b.tool("espadm", &["attach", "wan0"])?;
    ensure!(!net.b.tool("espadm", &["show"])?.contains("its XDP program"), "espadm attach did not mend it");
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {}).with_context(|| state(&net))?;
    let sent = intruder.end(&net)?;
    println!("{sent} clear packets sent, and none arrived; {} were judged behind XDP", judged_late()?);
    Ok(())
}

/// The mask of all processors, in words of 32 bits as the kernel reads it.
fn every_processor() -> Result<String> {
    let processors = sysconf(SysconfVar::_NPROCESSORS_CONF)?.context("no number of processors")?;
    let first = format!("{:x}", u32::MAX >> ((32 - processors % 32) % 32));
    let words = std::iter::repeat_n("ffffffff".to_owned(), usize::try_from((processors - 1) / 32)?);
    Ok(std::iter::once(first).chain(words).collect::<Vec<_>>().join(","))
}

/// What is sealed is opened, what policy lets pass passes, what it protects and is in clear does not.
fn all_is_judged(net: &Protected, intruder: &Intruder, how: &str) -> Result<()> {
    let before = net.b.counters()?;
    intruder.arrives().with_context(|| how.to_owned())?;
    let grown = |name: &str| Ok::<_, anyhow::Error>(counter(&net.b.counters()?, name) - counter(&before, name));
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 4 << 20, |_| {})
        .with_context(|| format!("{how}: {}", state(net)))?;
    transfer::tcp(&net.sites.b, &net.sites.a, INNER_A, 1 << 20, |_| {})
        .with_context(|| format!("{how}: {}", state(net)))?;
    // Between the outer addresses nothing is protected.
    until(&format!("an answer in clear {how}"), || net.sites.router.ping(super::topology::B, &[]))?;
    until(&format!("clear packets dropped {how}: {}", state(net)), || Ok(grown("drop-clear-inbound")? > 10))?;
    let (late, opened, passed) = (grown("judged-late")?, grown("opened")?, grown("bypassed-in")?);
    // A full segment a packet, at most.
    ensure!(
        late > opened && opened > (4 << 20) / 1448 && passed > 0,
        "{how}: {late} packets were judged late, {opened} opened, {passed} passed"
    );
    println!("{how}: {late} packets judged, {opened} of them opened");
    Ok(())
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Index of the outer interface, as espadm shows it.
fn index(suite: &Suite) -> Result<u64> {
    let shown = suite.tool("espadm", &["--json", "show"])?;
    let shown: Value = serde_json::from_str(&shown).with_context(|| format!("espadm show printed {shown:?}"))?;
    let interfaces = shown.get("interfaces").and_then(Value::as_array).context("no interfaces")?;
    let wan0 = interfaces.iter().find(|interface| text(interface, "name") == "wan0").context("wan0 is not attached")?;
    wan0.get("ifindex").and_then(Value::as_u64).context("wan0 has no index")
}

/// Sends datagrams in clear, by which nothing may ever come in, and waits for them at the other end.
struct Intruder {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    got: Arc<AtomicU64>,
    threads: [JoinHandle<Result<()>>; 2],
}

impl Intruder {
    fn start(sites: &TwoSites) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (sent, got) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let sink = sites.b.within(|| UdpSocket::bind((INNER_B, 0)).context("a socket of B"))?;
        let address = sink.local_addr()?;
        sink.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (ended, count) = (Arc::clone(&over), Arc::clone(&got));
        let receive = sites.b.spawn_within(move || {
            let mut buffer = [0; 64];
            while !ended.load(Ordering::Acquire) {
                if sink.recv_from(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::AcqRel);
                }
            }
            Ok(())
        });
        let (ended, count) = (Arc::clone(&over), Arc::clone(&sent));
        let send = sites.router.spawn_within(move || send(address, &ended, &count));
        Ok(Self { over, sent, got, threads: [send, receive] })
    }

    /// Waits until some more datagrams have been sent, and fails when one has ever got in.
    fn arrives(&self) -> Result<()> {
        let before = self.sent.load(Ordering::Acquire);
        until("datagrams in clear sent", || Ok(self.sent.load(Ordering::Acquire) > before + 20))?;
        self.nothing_got_in()
    }

    fn nothing_got_in(&self) -> Result<()> {
        let got = self.got.load(Ordering::Acquire);
        ensure!(got == 0, "{got} packets in clear got in from {NET_A}");
        Ok(())
    }

    /// Ends, and gives the number of datagrams that were sent.
    fn end(self, net: &Protected) -> Result<u64> {
        self.arrives().with_context(|| state(net))?;
        self.over.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        ensure!(self.got.load(Ordering::Acquire) == 0, "a packet in clear got in");
        Ok(self.sent.load(Ordering::Acquire))
    }
}

fn send(to: SocketAddr, over: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let socket = UdpSocket::bind((INTRUDER, 0))?;
    while !over.load(Ordering::Acquire) {
        // While the number of queues changes there is no carrier.
        if socket.send_to(b"in clear", to).is_ok() {
            sent.fetch_add(1, Ordering::AcqRel);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
