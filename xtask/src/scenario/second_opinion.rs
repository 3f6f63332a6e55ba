//! ESP and AH against scapy, in both directions: what it seals we open, what we seal it opens, for every transform with
//! every length of its key, mode, pair of address families and size of sequence numbers.

use super::matrix::{AUTHENTICATORS, Direction, Protection, Shape, Transform, transforms};
use super::topology::{A, A6, B, B6, TwoSites};
use crate::scapy;
use crate::suite::Suite;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// Every mode, pair of families and size of sequence numbers.
fn shapes() -> Vec<Shape> {
    let pairs = [
        (true, false, false),
        (false, true, true),
        (true, true, false),
        (false, false, false),
        (true, false, true),
        (true, true, true),
    ];
    let all = |esn| pairs.map(|(tunnel, outer6, inner6)| Shape { tunnel, outer6, inner6, esn, udp: false });
    [all(false), all(true)].concat()
}

/// A way to protect packets.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) protection: Protection,
    pub(super) shape: Shape,
    /// Packets to us have IP options, or extension headers, in front of AH.
    pub(super) options: bool,
}

impl Way {
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.protection.name(self.shape), if self.options { ", with options" } else { "" })
    }

    fn largest(&self) -> usize {
        let options = match (self.options, self.shape.inner6) {
            (false, _) => 0,
            // What the peer puts in front, rounded up.
            (true, false) => 28,
            (true, true) => 40,
        };
        self.protection.largest(self.shape) - options
    }

    /// The sequence number before the first: with ESN the low half overflows after some packets.
    pub(super) fn start(&self) -> u64 {
        if self.shape.esn { 0x2_ffff_fff0 } else { 0 }
    }
}

fn esp(transform: Transform, shape: Shape) -> Way {
    Way { protection: Protection::esp(transform), shape, options: false }
}

/// Every authenticator of AH in the shapes that `shapes` has for it, alone and around ESP, in transport mode with
/// options as well.
fn ah_ways(shapes: impl Fn(usize) -> Vec<Shape>) -> Vec<Way> {
    let mut ways = vec![];
    let mut inside = transforms().into_iter().cycle().step_by(7);
    for (number, auth) in AUTHENTICATORS.iter().enumerate() {
        for shape in shapes(number) {
            for esp in [None, inside.next()] {
                let way = Way { protection: Protection { ah: Some(auth), esp }, shape, options: false };
                ways.push(way);
                if !shape.tunnel {
                    ways.push(Way { options: true, ..way });
                }
            }
        }
    }
    ways
}

/// Sizes around blocks and words, and the largest.
fn few_sizes(largest: usize) -> Vec<usize> {
    let ends = largest.saturating_sub(7)..=largest;
    (0..=16).chain([31, 47, 48, 63, 64, 65, 127, 129, 333, 777]).chain(ends).collect()
}

/// Every transform once; the shapes take turns.
pub(super) fn every_transform() -> Result<()> {
    let ways = transforms().into_iter().zip(shapes().into_iter().cycle());
    run(ways.map(|(transform, shape)| esp(transform, shape)), few_sizes)
}

/// AH-01, AH-02, AH-03, AH-04, AH-05, AH-06, AH-07, AH-10, ALG-26, ALG-27: every authenticator of AH, alone and around ESP, each
/// in one shape of tunnel mode and one of transport mode.
pub(super) fn ah() -> Result<()> {
    let nth = |tunnel: bool, n| shapes().into_iter().filter(move |shape| shape.tunnel == tunnel).cycle().nth(n);
    let turns = |n| [nth(true, n), nth(false, n)].into_iter().flatten().collect();
    run(ah_ways(turns), |largest| (0..=8).chain([31, 64, 129, 777]).chain(largest - 3..=largest).collect())
}

/// Every transform in every shape, then every authenticator of AH.
pub(super) fn matrix() -> Result<()> {
    let sizes = |largest: usize| {
        let ends = largest.saturating_sub(16)..=largest;
        (0..=80).chain((97..largest.saturating_sub(16)).step_by(173)).chain(ends).collect()
    };
    let all =
        transforms().into_iter().flat_map(|transform| shapes().into_iter().map(move |shape| esp(transform, shape)));
    run(all.chain(ah_ways(|_| shapes())), sizes)
}

fn run(ways: impl IntoIterator<Item = Way>, sizes: impl Fn(usize) -> Vec<usize>) -> Result<()> {
    let mut bench = Bench::new("scapy")?;
    let mut count = 0;
    for way in ways {
        bench.run(&way, &sizes(way.largest()))?;
        count += 1;
    }
    ensure!(count > 0, "nothing was tried");
    println!("{count} ways");
    Ok(())
}

/// The host under test, and scapy on the other.
pub(super) struct Bench {
    pub(super) a: Suite,
    peer: Peer,
    /// Last, so that the processes in it have ended.
    pub(super) sites: TwoSites,
}

impl Bench {
    pub(super) fn new(name: &str) -> Result<Self> {
        let sites = TwoSites::new(name)?;
        sites.add_ipv6()?;
        // The stack of host B has no ESP, and would tell host A so.
        sites.b.ip(&[&format!("route add blackhole {A}"), &format!("route add blackhole {A6}")])?;
        let a = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
        a.tunnel("vpn4", A, B)?;
        a.tunnel("vpn6", A6, B6)?;
        let peer = Peer::start(&sites)?;
        Ok(Self { a, peer, sites })
    }

    fn run(&mut self, way: &Way, sizes: &[usize]) -> Result<()> {
        let name = way.name();
        self.policy(way)?;
        let value = if way.shape.esn { format!("replay_value {}", way.start()) } else { String::new() };
        self.keys(way, [&format!("replay 64 {value}"); 2])?;
        let answer = self.ask(&way.case(sizes)).with_context(|| name.clone())?;
        println!("{name}: {answer}");
        Ok(())
    }

    pub(super) fn policy(&self, way: &Way) -> Result<()> {
        self.a.policy(&way.shape.rule(&way.protection.policy()))
    }

    /// Fresh SAs, with further extensions for those out and in.
    pub(super) fn keys(&self, way: &Way, [out, into]: [&str; 2]) -> Result<()> {
        let sas = |direction, further| way.protection.sas(way.shape, direction, further);
        let text = format!("flush\n{}{}", sas(Direction::Out, out), sas(Direction::In, into));
        self.a.keys(&text).with_context(|| way.name())
    }

    /// What the peer says to a case, if that is that everything was answered as it should be.
    pub(super) fn ask(&mut self, case: &serde_json::Value) -> Result<String> {
        let answer = self.peer.ask(case)?;
        if !answer.starts_with("answered ") {
            bail!("{answer}\n{}", self.a.tool("espadm", &["stats"]).unwrap_or_default());
        }
        Ok(answer)
    }
}

impl Way {
    /// What the peer is told.
    pub(super) fn case(&self, sizes: &[usize]) -> serde_json::Value {
        let Self { protection, shape, options } = self;
        let ((remote, local), (inner_remote, inner_local)) = (shape.outer(), shape.inner());
        let esp = protection.esp.map(|esp| {
            let keys = |direction: Direction| {
                let [key, auth_key] = esp.keys(direction.number());
                json!({ "spi": direction.spi(), "key": key, "auth_key": auth_key })
            };
            json!({
                "crypt": esp.cipher.scapys,
                "icv": if esp.cipher.icv == 0 { json!(null) } else { json!(esp.cipher.icv) },
                "auth": esp.auth.map(|auth| auth.scapys),
                "in": keys(Direction::Out), "out": keys(Direction::In),
            })
        });
        let ah = protection.ah.map(|auth| {
            let keys =
                |direction: Direction| json!({ "spi": direction.ah_spi(), "key": Protection::ah_key(auth, direction) });
            json!({ "auth": auth.scapys, "in": keys(Direction::Out), "out": keys(Direction::In) })
        });
        json!({
            "local": local, "remote": remote, "inner_local": inner_local, "inner_remote": inner_remote,
            "tunnel": shape.tunnel, "esn": shape.esn, "start": self.start(), "options": options,
            "esp": esp, "ah": ah, "sizes": sizes,
        })
    }
}

/// The program with scapy on host B; ended with the value.
struct Peer {
    child: Child,
    cases: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(sites: &TwoSites) -> Result<Self> {
        let mut command = sites.b.command(scapy::ensure()?);
        let script = sites.lab.directory().join("scapy_peer.py");
        fs::write(&script, include_str!("scapy_peer.py"))?;
        command.arg(&script).args(["wan0", &sites.router.mac("to-b")?]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the peer with scapy")?;
        let (cases, answers) = (child.stdin.take(), child.stdout.take());
        let (cases, answers) = cases.zip(answers).context("the peer has no pipes")?;
        Ok(Self { child, cases, answers: BufReader::new(answers) })
    }

    fn ask(&mut self, case: &serde_json::Value) -> Result<String> {
        writeln!(self.cases, "{case}").context("the peer takes no case")?;
        let mut answer = String::new();
        let len = self.answers.read_line(&mut answer).context("reading the peer's answer")?;
        ensure!(len != 0, "the peer ended; what it said is above");
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
