//! A fuzzer of the whole ingress: frames that no peer would send, through the real programs in the kernel. It knows the keys, so
//! that what it makes gets past the ICV: sealed packets that were changed afterwards, nonsense that was sealed properly, packets in
//! clear, fragments, tunnels in tunnels.
//!
//! Whatever comes, every frame that is dropped is counted once and for one reason, and none that goes on; what comes out of an SA is what
//! was sealed, and comes out once; what has not been opened goes on as it came, and not where the policy asks for protection; and
//! after it all the SA opens the next good packet.

use crate::forge::{self, Forge};
use crate::instance::{DataPath, Place, SPI, Shape, ether_type, packet};
use crate::reference::Keys;
use crate::run;
use crate::support::Random;
use crate::transforms::{self, Transform};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use sadb_maps::counter::Counter;
use sadb_maps::host::Counters;
use sadb_maps::host::SecretKey;
use sadb_maps::host::spec::{Encap, SaSpec};
use sadb_maps::policy::Action;
use sadb_maps::sa::AH;
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

const DROP: u32 = 1;
const PASS: u32 = 2;

const UDP: u8 = 17;
const ESP: u8 = 50;

/// Frames with the same SAs.
const ROUND: u64 = 400;
/// Frames that are kept to be changed or sent again.
const KEPT: usize = 32;
/// One frame in so many is good as it is.
const GOOD: usize = 12;

/// Runs until so many frames have been sent or so much processor time is used.
pub(crate) fn run(object: Option<&Path>, seed: u64, frames: u64, minutes: Option<f64>) -> Result<()> {
    let mut path = DataPath::attach("ingress", object)?;
    // This end is the receiver, so that what is for nobody else is known to be for it.
    for line in [
        "address add 198.51.100.1/32 dev lo",
        "address add 2001:db8:1::1/128 dev lo",
        // Those behind it, whom nothing reaches that has not been opened.
        "route add unreachable 10.2.0.0/24",
        "route add unreachable 2001:db8:b::/64",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status().context("could not start ip")?;
        ensure!(status.success(), "ip {line}: {status}");
    }
    for family in ["ipv4", "ipv6"] {
        let file = format!("/proc/sys/net/{family}/conf/all/forwarding");
        std::fs::write(&file, "1").with_context(|| format!("writing {file}"))?;
    }
    let counters = Counters::open(path.instance())?;
    let mut random = Random(seed);
    let mut told = Told::default();
    let more = |told: &Told| -> Result<bool> {
        Ok(match minutes {
            Some(minutes) => processor_minutes()? < minutes,
            None => told.frames < frames,
        })
    };
    let mut rounds = 0;
    while more(&told)? {
        let round = seed.wrapping_add(rounds);
        rounds += 1;
        let mut world = World::new(&mut path, &counters, &mut random)?;
        let what = world.what();
        world.run(&mut told).with_context(|| format!("{what}, seed {seed}, round {round}"))?;
    }
    println!(
        "{} frames in {rounds} worlds, {} opened, {} dropped, {} passed as they came, seed {seed}: nothing found",
        told.frames, told.opened, told.dropped, told.passed
    );
    Ok(())
}

/// Of this process, in user and kernel mode.
fn processor_minutes() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((seconds(usage.user_time()) + seconds(usage.system_time())) / 60.0)
}

/// What became of the frames.
#[derive(Default)]
struct Told {
    frames: u64,
    opened: u64,
    dropped: u64,
    passed: u64,
}

/// How packets are sealed.
enum Seal {
    Esp(&'static Transform, Box<Keys>, Option<Encap>),
    Ah(&'static str),
}

/// A pair of SAs and the policy that asks for them.
struct World<'a> {
    path: &'a mut DataPath,
    counters: &'a Counters,
    random: &'a mut Random,
    shape: Shape,
    seal: Seal,
    place: Place,
    /// Whether packets that come again are refused.
    replay: bool,
    /// Sequence number that was sealed last.
    seq: u64,
    kept: VecDeque<Sealed>,
}

/// A sealed packet.
#[derive(Clone)]
struct Sealed {
    frame: Vec<u8>,
    inner: Vec<u8>,
    opened: bool,
}

/// A frame that is sent, and what may come of it.
struct Sent {
    frame: Vec<u8>,
    /// The packet that may come out of it, if anything does, and where it is kept.
    plain: Option<(Vec<u8>, Option<usize>)>,
    /// Whether it has to.
    good: bool,
    what: &'static str,
}

const AUTHENTICATORS: [(&str, u8, usize); 5] =
    [("MD5", 2, 16), ("SHA1", 3, 20), ("SHA2-256", 5, 32), ("SHA2-384", 6, 48), ("SHA2-512", 7, 64)];

impl<'a> World<'a> {
    fn new(path: &'a mut DataPath, counters: &'a Counters, random: &'a mut Random) -> Result<Self> {
        let shape = *forge::one(random, &Shape::ALL)?;
        let esn = random.below(2) == 0;
        // Half of the long sequence numbers are about to carry.
        let seq = match random.below(3) {
            0 if esn => (1 << 33) - 1 - random.below(600) as u64,
            1 => random.below(1 << 30) as u64,
            _ => 0,
        };
        let window = *forge::one(random, &[0, 32, 64, 1024, 65536])?;
        let (seal, place) = if random.below(4) == 0 {
            let (name, number, len) = *forge::one(random, &AUTHENTICATORS)?;
            let key: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            let bits = u16::try_from(len * 8)?;
            let action = Action { ah: number, ah_bits: [bits, bits], ..Action::default() };
            let place = path.protect_by(shape, action, |spec| SaSpec {
                proto: AH,
                auth: number,
                auth_key: SecretKey::new(key.clone()),
                esn,
                replay_window: window,
                replay_value: seq,
                ..spec
            })?;
            path.remember_route(&[place])?;
            (Seal::Ah(name), place)
        } else {
            let transform = forge::one(random, transforms::ALL)?;
            let keys = transform.keys(random, SPI, esn);
            let encap = (shape.is_tunnel() && random.below(3) == 0).then_some(Encap {
                sport: 4500,
                dport: 4500,
                ..Encap::default()
            });
            let change = |spec| SaSpec { replay_window: window, replay_value: seq, encap, ..spec };
            let place = path.protect_with(shape, transform, &keys, change)?;
            (Seal::Esp(transform, Box::new(keys), encap), place)
        };
        Ok(Self { path, counters, random, shape, seal, place, replay: window != 0, seq, kept: VecDeque::new() })
    }

    fn what(&self) -> String {
        match &self.seal {
            Seal::Esp(transform, keys, encap) => {
                format!("{:?}, {}, ESN {}, UDP {}", self.shape, transform.name, keys.esn, encap.is_some())
            }
            Seal::Ah(name) => format!("{:?}, AH with {name}", self.shape),
        }
    }

    fn run(&mut self, told: &mut Told) -> Result<()> {
        let mut before = self.counters.all()?;
        for _ in 0..ROUND {
            let sent = self.next()?;
            let outcome = run::once(&self.path.open, &sent.frame, self.path.outer)?;
            let after = self.counters.all()?;
            let grown: Vec<(&'static str, u64)> = before
                .iter()
                .zip(&after)
                .map(|((_, before), (name, after))| (*name, after - before))
                .filter(|(_, added)| *added != 0)
                .collect();
            before = after;
            told.frames += 1;
            self.judge(&sent, &outcome, &grown, told).with_context(|| {
                let mut text = format!("{}: returned {}, counted {grown:?}, of", sent.what, outcome.value);
                sent.frame.iter().for_each(|octet| _ = write!(text, " {octet:02x}"));
                text
            })?;
        }
        Ok(())
    }

    /// See the head of this module.
    fn judge(
        &mut self,
        sent: &Sent,
        outcome: &run::Outcome,
        grown: &[(&'static str, u64)],
        told: &mut Told,
    ) -> Result<()> {
        let count = |wanted: Counter| grown.iter().find(|(name, _)| *name == wanted.name()).map_or(0, |(_, n)| *n);
        let drops: u64 = Counter::ALL.iter().filter(|counter| counter.is_drop()).map(|counter| count(*counter)).sum();
        let opened = count(Counter::OpenedOk);
        match outcome.value {
            DROP => {
                told.dropped += 1;
                let silent = count(Counter::Dummy) + count(Counter::Keepalive);
                ensure!(drops + silent == 1, "dropped, and counted {} times", drops + silent);
                ensure!(!sent.good, "a good packet is dropped");
            }
            PASS => {
                ensure!(drops == 0, "passed, and counted as dropped");
                let (_, came) = outcome.frame.split_at_checked(14).context("no whole frame")?;
                if opened == 0 {
                    told.passed += 1;
                    ensure!(outcome.frame == sent.frame, "passed in clear, and not as it came");
                    ensure!(!self.asks_for_protection(&sent.frame), "passed in clear against the policy");
                    ensure!(!sent.good, "a good packet is passed as it is");
                    return Ok(());
                }
                told.opened += 1;
                let (plain, kept) = sent.plain.as_ref().context("opened, and never sealed")?;
                ensure!(self.is_that(came, plain), "opened, and was not sealed: {came:02x?}, but {plain:02x?}");
                if let Some(kept) = kept.and_then(|kept| self.kept.get_mut(kept)) {
                    ensure!(!kept.opened || !self.replay, "opened twice");
                    kept.opened = true;
                }
            }
            other => bail!("{other} is nothing that a program of the ingress returns here"),
        }
        Ok(())
    }

    /// Whether this is the packet that was sealed, but for what the way changes.
    fn is_that(&self, came: &[u8], plain: &[u8]) -> bool {
        if self.shape.is_tunnel() {
            let len = match came {
                [first, _, high, low, ..] if first >> 4 == 4 => usize::from(u16::from_be_bytes([*high, *low])),
                [first, _, _, _, high, low, ..] if first >> 4 == 6 => {
                    40 + usize::from(u16::from_be_bytes([*high, *low]))
                }
                _ => return false,
            };
            return came.len() == len
                && plain.get(..len).is_some_and(|plain| forge::unmarked(came) == forge::unmarked(plain));
        }
        // Nothing protects the IP header then, except with AH, whose mutable fields are not.
        let header = if self.shape.inner_v6() { 40 } else { 20 };
        plain.get(header..).is_some_and(|payload| came.ends_with(payload))
    }

    /// Whether the frame is of a flow that the policy protects, and no exception is made for it.
    fn asks_for_protection(&self, frame: &[u8]) -> bool {
        let Some((head, ip)) = frame.split_at_checked(14) else { return false };
        let v6 = match head {
            [.., 0x08, 0x00] => false,
            [.., 0x86, 0xdd] => true,
            _ => return false,
        };
        let [a, b] = self.shape.inner();
        let flow = |ip: &[u8], src: IpAddr, dst: IpAddr| match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                !v6 && ip.get(12..20) == Some(&[src.octets(), dst.octets()].concat()[..])
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                v6 && ip.get(8..40) == Some(&[src.octets(), dst.octets()].concat()[..])
            }
            _ => false,
        };
        flow(ip, a, b) && !forge::is_excepted(ip, v6, !self.shape.is_tunnel())
    }

    /// The next frame.
    fn next(&mut self) -> Result<Sent> {
        if self.kept.len() < 2 || self.random.below(GOOD) == 0 {
            return self.good();
        }
        match self.random.below(10) {
            0..4 => {
                let (index, mut sealed) = self.old()?;
                Forge(self.random).change(&mut sealed.frame);
                Ok(Sent { frame: sealed.frame, plain: Some((sealed.inner, Some(index))), good: false, what: "changed" })
            }
            4 => {
                let (index, sealed) = self.old()?;
                Ok(Sent { frame: sealed.frame, plain: Some((sealed.inner, Some(index))), good: false, what: "again" })
            }
            5..7 => self.nonsense(),
            7 => self.fragment(),
            8 => self.quoting(),
            _ => self.clear(),
        }
    }

    /// One of those that were sent, most of them not opened before.
    fn old(&mut self) -> Result<(usize, Sealed)> {
        if self.random.below(3) != 0 {
            let inner = self.packet()?;
            let frame = self.sealed(&inner)?;
            self.keep(Sealed { frame, inner, opened: false });
        }
        let index = self.random.below(self.kept.len());
        let sealed = self.kept.get(index).context("nothing was sent")?;
        Ok((index, sealed.clone()))
    }

    fn keep(&mut self, sealed: Sealed) -> usize {
        if self.kept.len() == KEPT {
            // In its place, so that the others keep theirs.
            let index = self.random.below(KEPT);
            if let Some(place) = self.kept.get_mut(index) {
                *place = sealed;
            }
            return index;
        }
        self.kept.push_back(sealed);
        self.kept.len() - 1
    }

    /// A packet that the policy asks to be protected.
    fn packet(&mut self) -> Result<Vec<u8>> {
        let len = match self.random.below(8) {
            0 => self.random.below(1400),
            _ => self.random.below(100),
        };
        packet(self.shape, 253, len, self.random)
    }

    fn good(&mut self) -> Result<Sent> {
        let inner = self.packet()?;
        let frame = self.sealed(&inner)?;
        let index = self.keep(Sealed { frame: frame.clone(), inner: inner.clone(), opened: false });
        Ok(Sent { frame, plain: Some((inner, Some(index))), good: true, what: "good" })
    }

    fn sealed(&mut self, inner: &[u8]) -> Result<Vec<u8>> {
        if let Seal::Ah(_) = self.seal {
            let frame = [self.place.tag(true), ether_type(self.shape.inner_v6()).to_vec(), inner.to_vec()].concat();
            let sealed = run::once(&self.path.seal, &frame, 0)?;
            ensure!(sealed.value == PASS, "sealing: the program returned {}", sealed.value);
            return Ok(sealed.frame);
        }
        let (payload, next) = match self.shape {
            Shape::Tunnel { inner_v6, .. } => (inner, if inner_v6 { 41 } else { 4 }),
            Shape::Transport { v6 } => {
                let (header, payload) = inner.split_at_checked(if v6 { 40 } else { 20 }).context("no IP header")?;
                (payload, header.get(if v6 { 6 } else { 9 }).copied().context("no protocol")?)
            }
        };
        self.esp(payload, next, None)
    }

    /// The frame with this payload; `padding` instead of the usual one.
    fn esp(&mut self, payload: &[u8], next: u8, padding: Option<&[u8]>) -> Result<Vec<u8>> {
        self.seq += 1;
        let Seal::Esp(_, keys, encap) = &self.seal else { bail!("no ESP here") };
        let iv = keys.iv(self.seq);
        let mut behind = match padding {
            None => keys.seal(payload, self.seq, &iv, next),
            Some(padding) => keys.seal_message(&[payload, padding, &[next]].concat(), self.seq, &iv),
        };
        let mut proto = ESP;
        if encap.is_some() {
            let len = u16::try_from(8 + behind.len())?.to_be_bytes();
            behind.splice(..0, [&4500u16.to_be_bytes()[..], &4500u16.to_be_bytes(), &len, &[0, 0]].concat());
            proto = UDP;
        }
        let [src, dst] = self.shape.outer();
        // A congestion mark would be a reason to drop what is not capable of ECN.
        forge::frame(src, dst, proto, (self.random.below(64) << 2) as u8, &behind)
    }

    /// What no sender would seal, sealed properly.
    fn nonsense(&mut self) -> Result<Sent> {
        let mut inner = self.packet()?;
        if let Seal::Ah(_) = self.seal {
            // Only the programs can make the ICV, and they seal what the policy lets out.
            let frame = self.sealed(&inner)?;
            let index = self.keep(Sealed { frame: frame.clone(), inner: inner.clone(), opened: false });
            let mut frame = frame;
            Forge(self.random).header(&mut frame);
            return Ok(Sent { frame, plain: Some((inner, Some(index))), good: false, what: "another header" });
        }
        if self.random.below(3) == 0 {
            // ESP in ESP, whose SPI may even be ours.
            inner = self.sealed(&inner)?.split_off(14);
        }
        if self.random.below(4) != 0 {
            Forge(self.random).change_packet(&mut inner);
        }
        let v6 = self.shape.inner_v6();
        let usual = match self.shape {
            Shape::Tunnel { .. } => {
                if v6 {
                    41
                } else {
                    4
                }
            }
            Shape::Transport { .. } => 253,
        };
        let next = match self.random.below(3) {
            0 => *forge::one(self.random, &[4, 41, 59, 0, 43, 44, 60, 50, 51, 6, 17, 1, 58, 135, 255])?,
            _ => usual,
        };
        let align = match &self.seal {
            Seal::Esp(_, keys, _) => keys.align(),
            Seal::Ah(_) => 4,
        };
        let padding = (self.random.below(2) == 0).then(|| Forge(self.random).padding(inner.len(), align));
        let frame = self.esp(&inner, next, padding.as_deref())?;
        if let Some([padding @ .., told]) = padding.as_deref() {
            // The payload ends where the pad length says.
            inner.extend(padding);
            inner.truncate(inner.len().saturating_sub(usize::from(*told)));
        }
        // In transport mode the payload is all of it.
        let header = if self.shape.is_tunnel() {
            0
        } else if v6 {
            40
        } else {
            20
        };
        let plain = [&vec![0; header][..], &inner].concat();
        Ok(Sent { frame, plain: Some((plain, None)), good: false, what: "nonsense" })
    }

    /// A piece of a sealed packet, which nobody is there to make whole.
    fn fragment(&mut self) -> Result<Sent> {
        let inner = self.packet()?;
        let mut frame = self.sealed(&inner)?;
        Forge(self.random).cut(&mut frame, self.shape.outer_v6());
        // Cut to all of it, it is whole.
        Ok(Sent { frame, plain: Some((inner, None)), good: false, what: "a fragment" })
    }

    /// An ICMP error about what goes the other way: what is said about a protected flow is not believed in clear.
    fn quoting(&mut self) -> Result<Sent> {
        let [a, b] = self.shape.inner();
        let quoted = forge::ip(b, a, *forge::one(self.random, &[6, 17, 253])?, 64, &self.random.bytes(32))?;
        let kind = if a.is_ipv4() {
            (1, *forge::one(self.random, &[3, 11, 12])?)
        } else {
            (58, 1 + self.random.below(4) as u8)
        };
        let message = [&[kind.1, self.random.below(6) as u8, 0, 0, 0, 0, 5, 0][..], &quoted].concat();
        let router: IpAddr = match a {
            IpAddr::V4(_) => [203, 0, 113, 9].into(),
            IpAddr::V6(_) => [0x2001, 0xdb8, 99, 0, 0, 0, 0, 9].into(),
        };
        let mut frame = forge::frame(router, b, kind.0, 64, &message)?;
        let what = if self.random.below(2) == 0 {
            "an ICMP error"
        } else {
            Forge(self.random).change(&mut frame);
            "a changed ICMP error"
        };
        Ok(Sent { frame, plain: None, good: false, what })
    }

    /// A packet of the protected flow or of another one, as it is or changed.
    fn clear(&mut self) -> Result<Sent> {
        let [a, b] = self.shape.inner();
        let proto = *forge::one(self.random, &[1, 2, 4, 6, 17, 41, 44, 47, 50, 51, 58, 59, 60, 253])?;
        let len = 8 + self.random.below(64);
        let mut payload = self.random.bytes(len);
        let ports: [u16; 2] = [4500, *forge::one(self.random, &[53, 500, 4500])?];
        if proto == UDP {
            let len = u16::try_from(payload.len())?;
            let header: Vec<u8> = [ports[0], ports[1], len, 0].into_iter().flat_map(u16::to_be_bytes).collect();
            payload.splice(..8, header);
        }
        let mut frame = forge::frame(a, b, proto, *forge::one(self.random, &[1, 64, 255])?, &payload)?;
        if self.random.below(2) == 0 {
            Forge(self.random).change(&mut frame);
        }
        Ok(Sent { frame, plain: None, good: false, what: "in clear" })
    }
}
