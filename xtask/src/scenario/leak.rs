//! Random changes of policy, SAs, tunnels and interfaces under traffic, with tools that are killed in the middle: as long as
//! a rule protects the traffic, not one octet of it is on the wire in clear, whatever else is going on.

use super::datagrams::Random;
use super::manual::{manual_keys, state};
use super::topology::{A, B, INNER_A, INNER_B, KEY_A_TO_B, KEY_B_TO_A, NET_A, NET_B, Protected};
use super::topology::{SHORT_KEY_A_TO_B, SHORT_KEY_B_TO_A, SPI_A_TO_B, SPI_B_TO_A, rule};
use crate::net::Host;
use crate::net::capture::Capture;
use crate::net::transfer::{self, MARKER};
use crate::suite::Suite;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Changes that are made unless the environment variable of [`CHANGES`] says otherwise.
const DEFAULT_CHANGES: u64 = 200;
/// How many changes.
const CHANGES: &str = "IPSEC_LEAK_CHANGES";
/// Seed of the changes; the time when it is not there.
const SEED: &str = "IPSEC_LEAK_SEED";

/// One tool in so many is killed, at a random moment of its life.
const KILLED: u64 = 4;
/// The longest that one which is to be killed may run, in microseconds.
const LIFE: u64 = 20_000;

/// An interface of A that is attached and detached; nothing goes there.
const SPARE: &str = "spare0";

/// What rule and SAs agree on.
#[derive(Clone, Copy)]
struct Transform {
    /// Properties of a rule.
    rule: &'static str,
    /// The name that ipseckey knows.
    name: &'static str,
    /// From A to B, and back.
    keys: [&'static str; 2],
}

const CHACHA: Transform =
    Transform { rule: "encr_algs chacha20-poly1305", name: "chacha20-poly1305", keys: [KEY_A_TO_B, KEY_B_TO_A] };
const LONG_AES: Transform = Transform { rule: "encr_algs aes-gcm(256)", name: "aes-gcm", ..CHACHA };
const SHORT_AES: Transform =
    Transform { rule: "encr_algs aes-gcm(128)", name: "aes-gcm", keys: [SHORT_KEY_A_TO_B, SHORT_KEY_B_TO_A] };

pub(super) fn random_changes() -> Result<()> {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().context(name.to_owned())).transpose();
    let changes = number(CHANGES)?.unwrap_or(DEFAULT_CHANGES);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let seed = number(SEED)?.unwrap_or(clock);
    println!("{changes} changes, seed {seed} ({CHANGES}, {SEED})");

    let net = Protected::new("leak", CHACHA.rule, &[])?;
    net.sites.lab.join((&net.sites.a, SPARE), (&net.sites.router, "spare1"))?;
    let mut storm = Storm {
        net: &net,
        random: Random(seed),
        spi: SPI_B_TO_A,
        pairs: vec![[SPI_A_TO_B, SPI_B_TO_A]],
        made: BTreeMap::new(),
    };
    let capture = Capture::start(&net.sites.router, "to-a")?;
    manual_keys(&net, CHACHA.name)?;
    let flows = [Flow::start(&net.sites.a, &net.sites.b, INNER_B)?, Flow::start(&net.sites.b, &net.sites.a, INNER_A)?];
    let start = Instant::now();
    while storm.changes() < changes {
        storm.change().with_context(|| format!("after {} changes, seed {seed}", storm.changes()))?;
    }
    let (time, made) = (start.elapsed(), storm.made.clone());
    let [there, back] = flows.map(Flow::finish);
    // What killed tools left behind is repaired by the next ones, and traffic passes again.
    for suite in [&net.a, &net.b] {
        suite.tool("ipseckey", &["flush"])?;
    }
    restore(&net.a, A, B)?;
    restore(&net.b, B, A)?;
    net.policy(CHACHA.rule)?;
    manual_keys(&net, CHACHA.name)?;
    transfer::tcp(&net.sites.a, &net.sites.b, INNER_B, 1 << 20, |_| {})
        .with_context(|| format!("after the changes, seed {seed}\n{}", state(&net)))?;
    let seen = capture.finish()?;
    for (what, Made { done, refused, killed, why }) in &made {
        let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        println!("  {what:<16} {done:>4} done, {killed:>4} killed, {refused:>4} refused{why}");
    }
    println!(
        "{:.1} s; datagrams {} of {} and {} of {} arrived; {} ESP frames, {} in clear",
        time.as_secs_f64(),
        there.arrived,
        there.sent,
        back.arrived,
        back.sent,
        seen.esp,
        seen.marked
    );
    ensure!(seen.missed == 0, "the capture missed {} frames", seen.missed);
    ensure!(
        seen.marked == 0 && seen.tcp == 0,
        "{} frames of the flow were in clear, seed {seed}",
        seen.marked.max(seen.tcp)
    );
    ensure!(there.arrived > changes && back.arrived > changes, "hardly any traffic passed, seed {seed}");
    ensure!(made.values().map(|made| made.done).sum::<u64>() > changes / 2, "most changes were refused, seed {seed}");
    Ok(())
}

/// The tunnel as it was, if a tool was killed between deleting and making it.
fn restore(suite: &Suite, local: &str, remote: &str) -> Result<()> {
    if !suite.tool("espadm", &["tunnel", "list"])?.contains("vpn0") {
        suite.tunnel("vpn0", local, remote)?;
    }
    Ok(())
}

struct Storm<'n> {
    net: &'n Protected,
    random: Random,
    /// The last SPI that was given out.
    spi: u32,
    /// SPIs of the pairs that should be there.
    pairs: Vec<[u32; 2]>,
    /// What came of the tools.
    made: BTreeMap<&'static str, Made>,
}

/// What came of a kind of tool.
#[derive(Clone, Default)]
struct Made {
    done: u64,
    refused: u64,
    killed: u64,
    /// What one of them said when it refused.
    why: Option<String>,
}

impl Storm<'_> {
    /// Tools that were run.
    fn changes(&self) -> u64 {
        self.made.values().map(|made| made.done + made.refused + made.killed).sum()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn change(&mut self) -> Result<()> {
        let (suite, here, there) = match self.below(2) {
            0 => (&self.net.a, (A, NET_A), (B, NET_B)),
            _ => (&self.net.b, (B, NET_B), (A, NET_A)),
        };
        match self.below(12) {
            0 | 1 => {
                let text = self.policy(here.1, there.1);
                let file = suite.file("changed.conf", &text)?;
                self.tool("policy replace", suite, "ipsecconf", &["-F", "-q", "-a", &file])
            }
            2 => {
                let text = self.bystanders();
                let file = suite.file("added.conf", &text)?;
                self.tool("policy add", suite, "ipsecconf", &["-q", "-a", &file])
            }
            3..=5 => {
                let transform = self.transform();
                let file = [
                    (&self.net.a, self.net.a.file("both.conf", &rule(NET_A, NET_B, transform.rule))?),
                    (&self.net.b, self.net.b.file("both.conf", &rule(NET_B, NET_A, transform.rule))?),
                ];
                for (suite, file) in file {
                    self.tool("policy replace", suite, "ipsecconf", &["-F", "-q", "-a", &file])?;
                }
                self.rekey(transform)
            }
            6 => {
                let Some([first, second]) = self.some_pair() else { return Ok(()) };
                let spi = if self.below(2) == 0 { (first, B) } else { (second, A) };
                self.tool(
                    "SA delete",
                    suite,
                    "ipseckey",
                    &["delete", "esp", "spi", &format!("{:#x}", spi.0), "dst", spi.1],
                )
            }
            7 => {
                let Some([first, _]) = self.some_pair() else { return Ok(()) };
                let (spi, seconds) = (format!("{first:#x}"), 1 + self.below(3600));
                let text = format!("update esp spi {spi} dst {B} hard_addtime {seconds}\n");
                let file = suite.file("update", &text)?;
                self.tool("SA update", suite, "ipseckey", &["-f", &file])
            }
            8 => match self.below(4) {
                0 => self.tool("SA flush", suite, "ipseckey", &["flush"]),
                1 => self.tool("upgrade", suite, "espadm", &["upgrade", "--force"]),
                _ => self.tool("attach again", suite, "espadm", &["attach", "wan0"]),
            },
            9 => {
                let verb = if self.below(2) == 0 { "attach" } else { "detach" };
                self.tool("other interface", &self.net.a, "espadm", &[verb, SPARE])
            }
            10 => {
                let name = format!("vpn{}", 1 + self.below(3));
                if self.below(2) == 0 {
                    return self.tool("tunnel delete", suite, "espadm", &["tunnel", "delete", &name]);
                }
                let ends = format!("local={},remote=192.0.2.{}", here.0, 1 + self.below(200));
                self.tool("tunnel create", suite, "espadm", &["tunnel", "create", &name, "-a", &ends])
            }
            _ => {
                self.tool("tunnel delete", suite, "espadm", &["tunnel", "delete", "vpn0"])?;
                let ends = format!("local={},remote={}", here.0, there.0);
                self.tool("tunnel create", suite, "espadm", &["tunnel", "create", "vpn0", "-a", &ends])
            }
        }
    }

    fn transform(&mut self) -> Transform {
        match self.below(3) {
            0 => CHACHA,
            1 => LONG_AES,
            _ => SHORT_AES,
        }
    }

    /// Rules of which one protects the traffic, whatever is around it.
    fn policy(&mut self, local: &str, remote: &str) -> String {
        let transform = self.transform();
        let (before, behind) = (self.bystanders(), self.bystanders());
        before + &rule(local, remote, transform.rule) + &behind
    }

    /// Rules for others than the flow.
    fn bystanders(&mut self) -> String {
        let count = self.below(6);
        let one = |random: &mut Random| {
            let rest = match random.next() % 3 {
                0 => "dir both } pass { }",
                1 => "dir both } drop { }",
                _ => "} ipsec { encr_algs aes-gcm(256) }",
            };
            format!("{{ raddr 10.9.{}.0/24 {rest}\n", random.next() % 200)
        };
        (0..count).map(|_| one(&mut self.random)).collect()
    }

    fn some_pair(&mut self) -> Option<[u32; 2]> {
        let at = self.below(self.pairs.len().max(1) as u64) as usize;
        self.pairs.get(at).copied()
    }

    /// A new pair on both hosts, then the oldest away.
    fn rekey(&mut self, Transform { name, keys: [there, back], .. }: Transform) -> Result<()> {
        let [first, second] = [self.spi + 1, self.spi + 2];
        self.spi += 2;
        self.pairs.push([first, second]);
        for (suite, out, inward) in [(&self.net.b, "inbound", "outbound"), (&self.net.a, "outbound", "inbound")] {
            let add = |spi: u32, [src, dst]: [&str; 2], [isrc, idst]: [&str; 2], direction: &str, key: &str| {
                format!(
                    "add esp spi {spi:#x} src {src} dst {dst} {direction} isrc {isrc} idst {idst} \
                     encr_alg {name} encrkey {key} replay 1024\n"
                )
            };
            let text =
                add(first, [A, B], [NET_A, NET_B], out, there) + &add(second, [B, A], [NET_B, NET_A], inward, back);
            let file = suite.file("rekey", &text)?;
            self.tool("SA add", suite, "ipseckey", &["-f", &file])?;
        }
        while self.pairs.len() > 3 {
            let [first, second] = self.pairs.remove(0);
            for suite in [&self.net.a, &self.net.b] {
                for (spi, dst) in [(first, B), (second, A)] {
                    self.tool(
                        "SA delete",
                        suite,
                        "ipseckey",
                        &["delete", "esp", "spi", &format!("{spi:#x}"), "dst", dst],
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Runs a tool, or kills it while it runs. That it refuses is no failure: what it was told may be gone already.
    fn tool(&mut self, what: &'static str, suite: &Suite, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = suite.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let outcome = match self.below(KILLED) {
            0 => {
                let life = Duration::from_micros(self.below(LIFE));
                end_early(&mut command, life)?
            }
            _ => run(&mut command)?,
        };
        let made = self.made.entry(what).or_default();
        match outcome {
            Outcome::Done => made.done += 1,
            Outcome::Refused(why) => {
                made.refused += 1;
                made.why = Some(why);
            }
            Outcome::Killed => made.killed += 1,
        }
        Ok(())
    }
}

enum Outcome {
    Done,
    Refused(String),
    Killed,
}

fn run(command: &mut Command) -> Result<Outcome> {
    let output = command.output().context("could not start a tool")?;
    if output.status.success() {
        return Ok(Outcome::Done);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code().is_some() && !said.contains("panicked"), "a tool crashed: {}\n{said}", output.status);
    // ipseckey speaks on standard output, as its original does.
    let said =
        said.lines().chain(std::str::from_utf8(&output.stdout).unwrap_or_default().lines()).next().map(str::to_owned);
    Ok(Outcome::Refused(said.unwrap_or_default()))
}

fn end_early(command: &mut Command, life: Duration) -> Result<Outcome> {
    let mut child = command.spawn().context("could not start a tool")?;
    std::thread::sleep(life);
    child.kill().context("killing a tool")?;
    let status = child.wait().context("waiting for a tool")?;
    let mut said = String::new();
    child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said)).transpose()?;
    ensure!(!said.contains("panicked"), "a tool crashed: {said}");
    Ok(match status.code() {
        Some(0) => Outcome::Done,
        Some(_) => Outcome::Refused(said.lines().next().unwrap_or_default().to_owned()),
        None => Outcome::Killed,
    })
}

/// Datagrams of all sizes with the marker, as fast as a few thousand a second.
struct Flow {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    threads: [JoinHandle<Result<()>>; 2],
}

struct Counts {
    sent: u64,
    arrived: u64,
}

impl Flow {
    fn start(from: &Host, to: &Host, address: IpAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, arrived) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let receiver = to.within(|| UdpSocket::bind((address, 0)).context("a socket"))?;
        receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
        let target = receiver.local_addr()?;
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&arrived));
        let receiving = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ended.load(Ordering::Acquire) {
                if receiver.recv_from(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let sending = from.spawn_within(move || {
            let socket = UdpSocket::bind((if address.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).context("a socket")?;
            let payload = MARKER.repeat(60);
            for number in 0_usize.. {
                if ended.load(Ordering::Acquire) {
                    break;
                }
                // At least one whole marker; some do not fit the tunnel and go in fragments.
                let size = MARKER.len() + number * 37 % (1472 - MARKER.len());
                // The data path may drop it, and says so to the sender by an error; that is what is to happen.
                let _ = socket.send_to(payload.get(..size).unwrap_or(&payload), target);
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
            Ok(())
        });
        Ok(Self { stop, sent, arrived, threads: [receiving, sending] })
    }

    fn finish(self) -> Counts {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            let _ = thread.join();
        }
        Counts { sent: self.sent.load(Ordering::Relaxed), arrived: self.arrived.load(Ordering::Relaxed) }
    }
}
