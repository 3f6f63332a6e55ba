//! One SA on several processors: it seals on all of them, and its packets arrive by several receive queues at once.

use super::datagrams::Random;
use super::manual::state;
use super::topology::{INNER_A, INNER_B, KEY_A_TO_B, KEY_B_TO_A, Protected, SPI_A_TO_B};
use crate::net::Host;
use crate::net::capture::{self, Capture};
use crate::suite::{Suite, counter, number, text};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Datagrams that each processor sends.
const DATAGRAMS: u32 = 6_000;

/// Times that everything is sent to B again, at most: a queue that is full drops frames.
const ROUNDS: u64 = 40;

/// Octets of Ethernet and IPv4 before ESP.
const ESP: usize = 14 + 20;

/// Two processors send by one SA; two send what was captured to two queues of B, each in an order of its own, over and
/// over. Every sequence number is given out once and taken once (RFC 4303 sections 2.2 and 3.4.3).
pub(super) fn one_sa() -> Result<()> {
    let net = Protected::new("queues", "encr_algs chacha20-poly1305", &[])?;
    let transform = |key: &str| format!("encr_alg chacha20-poly1305 encrkey {key} replay 65536");
    net.keys(&transform(KEY_A_TO_B), &transform(KEY_B_TO_A))?;
    // The queues first: Linux gives those of a veth that come later no XDP program, see past_xdp.
    net.b.tool("espadm", &["detach", "wan0"])?;
    net.sites.b.run("ethtool", &["-L", "wan0", "rx", "2", "tx", "2"])?;
    net.b.tool("espadm", &["attach", "wan0"])?;
    net.sites.router.run("ethtool", &["-L", "to-b", "rx", "2", "tx", "2"])?;
    // Nothing reaches B by itself.
    net.sites.router.sysctl("ipv4.ip_forward", "0")?;
    let packets = sealed(&net).with_context(|| state(&net))?;
    let frames = for_interface(&net.sites.b, &net.sites.router, packets)?;
    opened_once(&net, &frames).with_context(|| state(&net))
}

/// ESP packets that A has sent from two processors, by sequence number.
fn sealed(net: &Protected) -> Result<Vec<Vec<u8>>> {
    let capture = Capture::start(&net.sites.router, "to-a")?;
    on_two_processors(&net.sites.a, |_| {
        let socket = UdpSocket::bind((INNER_A, 0))?;
        socket.connect((INNER_B, 4242))?;
        for n in 0..DATAGRAMS {
            // What finds no room is not sent.
            let _ = socket.send(&n.to_be_bytes());
        }
        Ok(())
    })?;
    std::thread::sleep(Duration::from_millis(200));
    let seen = capture.finish()?;
    let esp: Vec<Vec<u8>> = seen.kept.into_iter().map(|(_, frame)| frame).filter(|frame| is_ours(frame)).collect();
    let numbers: BTreeSet<u32> = esp.iter().filter_map(|frame| word(frame, ESP + 4)).collect();
    let ivs: BTreeSet<Option<[u8; 8]>> =
        esp.iter().map(|frame| frame.get(ESP + 8..ESP + 16)?.try_into().ok()).collect();
    ensure!(esp.len() > DATAGRAMS as usize / 2, "only {} packets arrived", esp.len());
    ensure!(
        numbers.len() == esp.len() && ivs.len() == esp.len(),
        "{} packets with {} sequence numbers and {} initialization vectors",
        esp.len(),
        numbers.len(),
        ivs.len()
    );
    let given = sa(&net.a)?;
    ensure!(number(&given, "packets") >= esp.len() as u64, "A has counted {}", number(&given, "packets"));
    println!("{} packets from two processors, no number twice", esp.len());
    Ok(esp)
}

fn is_ours(frame: &[u8]) -> bool {
    frame.get(23) == Some(&50) && word(frame, ESP) == Some(SPI_A_TO_B)
}

fn word(frame: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?))
}

/// With the addresses of the last hop.
fn for_interface(b: &Host, router: &Host, frames: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    let octets = |text: String| -> Result<Vec<u8>> {
        text.split(':').map(|octet| u8::from_str_radix(octet, 16).context("a MAC address")).collect()
    };
    let addresses = [octets(b.mac("wan0")?)?, octets(router.mac("to-b")?)?].concat();
    Ok(frames.into_iter().map(|frame| [&addresses, frame.get(12..).unwrap_or_default()].concat()).collect())
}

fn opened_once(net: &Protected, frames: &[Vec<u8>]) -> Result<()> {
    let expected = frames.len() as u64;
    for round in 0..ROUNDS {
        on_two_processors(&net.sites.router, |processor| {
            let socket = capture::open("to-b")?;
            // The queue of the processor, not that of the flow.
            let on: libc::c_int = 1;
            capture::set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on)?;
            let mut order: Vec<&Vec<u8>> = frames.iter().collect();
            let mut random = Random(round * 2 + processor);
            for at in (1..order.len()).rev() {
                order.swap(at, (random.next() % (at as u64 + 1)) as usize);
            }
            order.into_iter().try_for_each(|frame| put(&socket, frame))
        })?;
        std::thread::sleep(Duration::from_millis(100));
        let got = sa(&net.b)?;
        let (taken, refused) = (number(&got, "packets"), counter(&net.b.counters()?, "drop-replay"));
        ensure!(taken <= expected, "{taken} packets were taken, of {expected} numbers");
        // Two rounds at least: then every packet has been a replay.
        if taken == expected && refused > expected {
            let queues = by_queue(&net.sites.b)?;
            ensure!(queues.iter().all(|packets| *packets > 1000), "packets by queue: {queues:?}");
            println!("{taken} packets taken, each once; {refused} replays refused; by queue: {queues:?}");
            return Ok(());
        }
    }
    bail!("{} packets were taken, not {expected}, after {ROUNDS} rounds", number(&sa(&net.b)?, "packets"))
}

fn put(socket: &OwnedFd, frame: &[u8]) -> Result<()> {
    match send(socket.as_raw_fd(), frame, MsgFlags::empty()) {
        Ok(_) | Err(nix::Error::ENOBUFS) => Ok(()),
        Err(error) => Err(error).context("sending a frame"),
    }
}

/// The SA from A to B, on either side.
fn sa(suite: &Suite) -> Result<Value> {
    let direction = if suite.host().name() == "a" { "out" } else { "in" };
    let found = suite.sas()?.into_iter().find(|sa| text(sa, "direction") == direction);
    found.with_context(|| format!("{} has no SA {direction}", suite.host().name()))
}

/// Frames that XDP has seen on each receive queue.
pub(super) fn by_queue(host: &Host) -> Result<Vec<u64>> {
    let text = host.run("ethtool", &["-S", "wan0"])?;
    let lines = text.lines().filter(|line| line.contains("rx_queue_") && line.contains("xdp_packets"));
    lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse().context("a number of ethtool")).collect()
}

/// Runs `work` twice at once inside the namespace, each on a processor of its own where there are two.
fn on_two_processors(host: &Host, work: impl Fn(u64) -> Result<()> + Sync) -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let processors: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    std::thread::scope(|scope| {
        let run = |index: usize| {
            let (work, processors) = (&work, &processors);
            scope.spawn(move || {
                host.within(|| {
                    let mut only = CpuSet::new();
                    let cpu = processors.get(index % processors.len().max(1)).context("no processor")?;
                    only.set(*cpu)?;
                    sched_setaffinity(Pid::from_raw(0), &only)?;
                    work(index as u64)
                })
            })
        };
        let threads = [run(0), run(1)];
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
