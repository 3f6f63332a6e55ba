//! The slow path: the process that does what the programs cannot do with one packet in hand. It makes fragments of sealed
//! packets whole and gives them back to be opened, does the same with fragments of this host that transport mode protects,
//! and cuts what is too long, before its tunnel or once it is sealed.
//!
//! One process at a time has it (a flock on a runtime file), and promises in the `SLOW_STATE` record to take what comes; the
//! promise ends a moment after the process does, and then the programs drop and count. No packet gets past policy here:
//! what is given back goes through the programs, which open it or drop it.

mod packet;
mod reassembly;
mod sender;

pub use packet::split;
pub use reassembly::Reassembly;

use super::clock;
use super::error::SadbError;
use super::events::lease;
use super::inject::Injector;
use super::instance::Instance;
use super::maps::{self, Slots, failed};
use crate::abi::{Config, map};
use crate::slow::{Handed, Outcome, SlowState, errand};
use crate::tag::{FLAG_HELD, FLAG_LARGE, FLAG_LOCAL, FLAG_WHOLE, Tag};
use aya::maps::{Map, MapData, RingBuf};
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sender::Sender;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// How often the promise is renewed, in nanoseconds.
const RENEWAL: u64 = 1_000_000_000;

/// How long a promise holds, in nanoseconds.
const PROMISE: u64 = 3 * RENEWAL;

/// Packets taken in one go, before the promise is looked after again.
const AT_ONCE: usize = 256;

/// The least MTU that IPv6 knows (RFC 8200 section 5).
const V6_MINIMUM: usize = 1280;

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;

/// The right and the duty to take what the programs hand over.
pub struct SlowPath {
    instance: Instance,
    ring: RingBuf<MapData>,
    /// Number of its map.
    id: u32,
    config: Config,
    record: Slots<SlowState>,
    state: SlowState,
    injector: Injector,
    sender: Sender,
    /// Packets from the wire.
    inbound: Reassembly,
    /// Packets of this host: whoever floods the wire does not drive these out.
    outbound: Reassembly,
    /// Held for its lock.
    _lock: Flock<File>,
}

impl std::fmt::Debug for SlowPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SlowPath")
    }
}

impl SlowPath {
    /// Takes it over; `None` while another process has it. From then on [`SlowPath::work`] is to be called once a second.
    ///
    /// # Errors
    /// Not attached, another network namespace or version; no permission for a packet socket.
    pub fn acquire(instance: &Instance) -> Result<Option<Self>, SadbError> {
        maps::checked_header(instance)?;
        let Some(lock) = lease(instance, "slow-path")? else { return Ok(None) };
        let config = Slots::<Config>::open(instance, map::CONFIG)?.get(0)?;
        let id = maps::map_id(instance, map::SLOW)?;
        let ring =
            RingBuf::try_from(Map::RingBuf(maps::open(instance, map::SLOW)?)).map_err(failed(map::SLOW, "open"))?;
        let record = Slots::<SlowState>::open(instance, map::SLOW_STATE)?;
        let mut this = Self {
            instance: instance.clone(),
            ring,
            id,
            config,
            state: record.get(0)?,
            record,
            injector: Injector::open(&config).map_err(|e| SadbError::io("packet socket", e))?,
            sender: Sender::open(&config).map_err(|e| SadbError::io("raw socket", e))?,
            inbound: Reassembly::default(),
            outbound: Reassembly::default(),
            _lock: lock,
        };
        // What was handed to somebody who is gone has waited too long.
        while this.ring.next().is_some() {
            this.count(Outcome::Late, 1);
        }
        this.promise(clock::boot_time())?;
        Ok(Some(this))
    }

    /// Whether the programs still hand packets over here. They do not once the instance was attached anew.
    pub fn is_current(&self) -> bool {
        let config = Slots::<Config>::open(&self.instance, map::CONFIG).and_then(|slots| slots.get(0));
        maps::map_id(&self.instance, map::SLOW).is_ok_and(|id| id == self.id)
            && config.is_ok_and(|config| config.ipsec0 == self.config.ipsec0)
    }

    /// Does what there is to do, drops what has waited too long, and renews the promise. Whether there may be more.
    ///
    /// # Errors
    /// The record cannot be written: drop this.
    pub fn work(&mut self) -> Result<bool, SadbError> {
        let mut taken = 0;
        while taken < AT_ONCE {
            let Some(item) = self.ring.next() else { break };
            taken += 1;
            // A record of another size is not ours to understand; the version check makes that impossible.
            if item.len() != size_of::<Handed>() {
                continue;
            }
            let handed: Box<Handed> = Box::new(bytemuck::pod_read_unaligned(&item));
            drop(item);
            self.one(&handed);
        }
        let now = clock::boot_time();
        let expired = self.inbound.expire(now) + self.outbound.expire(now);
        self.count(Outcome::Incomplete, expired);
        let evicted = std::mem::take(&mut self.inbound.evicted) + std::mem::take(&mut self.outbound.evicted);
        self.count(Outcome::Evicted, evicted);
        if taken != 0 || self.state.until < now + PROMISE - RENEWAL {
            self.promise(now)?;
        }
        Ok(taken == AT_ONCE)
    }

    fn promise(&mut self, now: u64) -> Result<(), SadbError> {
        self.state.until = now + PROMISE;
        self.record.set(0, &self.state)
    }

    fn count(&mut self, outcome: Outcome, packets: u64) {
        if let Some(count) = self.state.counts.get_mut(outcome as usize) {
            *count += packets;
        }
    }

    fn one(&mut self, handed: &Handed) {
        let frame = handed.frame.get(..handed.len as usize);
        let ip = frame.and_then(|frame| frame.get(ETHERNET..)).unwrap_or_default();
        // Flags of the tag, of packets that have one.
        let local = frame.and_then(|frame| frame.get(1)).map_or(0, |flags| flags & FLAG_LOCAL);
        let outcome = match handed.errand {
            errand::FRAGMENT_IN => {
                self.inbound.take(handed.time, ip).and_then(|whole| self.give_whole(whole, FLAG_WHOLE))
            }
            errand::FRAGMENT_OUT => self
                .outbound
                .take(handed.time, ip)
                .and_then(|whole| self.give_whole(whole, local | FLAG_HELD | FLAG_LARGE)),
            errand::SPLIT => self.give_cut(ip, handed.detail, local | FLAG_HELD),
            errand::SEALED => self.send_cut(ip, handed.detail),
            _ => Err(Outcome::Malformed),
        };
        match outcome {
            Ok(Some(outcome)) | Err(outcome) => self.count(outcome, 1),
            Ok(None) => {}
        }
    }

    fn give_whole(&self, whole: Option<Vec<u8>>, flags: u8) -> Result<Option<Outcome>, Outcome> {
        let Some(whole) = whole else { return Ok(None) };
        self.give_back(flags, &whole).map(|()| Some(Outcome::Reassembled))
    }

    /// Gives a packet back in fragments that its tunnel takes.
    fn give_cut(&self, ip: &[u8], limit: u32, flags: u8) -> Result<Option<Outcome>, Outcome> {
        let parts = split(ip, limit as usize, 0).ok_or(Outcome::Uncut)?;
        parts.iter().try_for_each(|part| self.give_back(flags, part)).map(|()| Some(Outcome::Fragmented))
    }

    /// Sends a sealed packet in fragments, in IPv6 such that every path takes: what the stack knows of the way to a host
    /// in transport mode it has from answers to what is not sealed yet.
    fn send_cut(&mut self, ip: &[u8], mtu: u32) -> Result<Option<Outcome>, Outcome> {
        let ip = packet::identified(ip).ok_or(Outcome::Uncut)?;
        let mtu = if ip.first().is_some_and(|first| first >> 4 == 6) { V6_MINIMUM } else { mtu as usize };
        let parts = split(&ip, mtu, self.sender.ident()).ok_or(Outcome::Uncut)?;
        let sent = parts.iter().try_for_each(|part| self.sender.send(part));
        sent.map(|()| Some(Outcome::Fragmented)).map_err(|_| Outcome::Unsent)
    }

    /// Gives a packet to the programs, which judge it by these flags of its tag.
    fn give_back(&self, flags: u8, ip: &[u8]) -> Result<(), Outcome> {
        let tag = Tag { flags, rule: 0, policy: 0, slot: 0, generation: 0 };
        let ether_type: u16 = if ip.first().is_some_and(|first| first >> 4 == 4) { 0x0800 } else { 0x86dd };
        let mut frame: Vec<u8> = tag.to_words().iter().flat_map(|word| word.to_ne_bytes()).collect();
        frame.extend(ether_type.to_be_bytes());
        frame.extend(ip);
        self.injector.send(&frame).map_err(|_| Outcome::Unsent)
    }
}

impl Drop for SlowPath {
    fn drop(&mut self) {
        self.state.until = 0;
        // If it cannot be written the promise ends by itself.
        let _ = self.record.set(0, &self.state);
    }
}

impl AsFd for SlowPath {
    /// Becomes readable when there is something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the ring, which lives as long as the borrow of self.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// What [`serve`] tells.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// Packets are taken from now on.
    Serving,
    /// Another process takes them; it is waited for.
    Waiting,
    /// Not at the moment, for this reason; tried again every second.
    Failed(&'a SadbError),
}

/// Takes what the programs hand over, whenever that can be had, until `stop` becomes readable or its other end is closed.
/// `tell` hears of every change.
pub fn serve(instance: &Instance, stop: BorrowedFd<'_>, mut tell: impl FnMut(Told<'_>)) {
    let mut said = None;
    let mut say = |now: &'static str, told: Told<'_>| {
        if said != Some(now) {
            said = Some(now);
            tell(told);
        }
    };
    loop {
        match SlowPath::acquire(instance) {
            Ok(Some(path)) => {
                say("serving", Told::Serving);
                match serve_one(path, stop) {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => say("failed", Told::Failed(&error)),
                }
            }
            Ok(None) => say("waiting", Told::Waiting),
            Err(error) => say("failed", Told::Failed(&error)),
        }
        if wait(&mut [PollFd::new(stop, PollFlags::POLLIN)]) {
            return;
        }
    }
}

/// As long as the programs use this one; whether to stop.
fn serve_one(mut path: SlowPath, stop: BorrowedFd<'_>) -> Result<bool, SadbError> {
    while path.is_current() {
        while path.work()? {}
        let (stopping, ready) = {
            let mut both = [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(path.as_fd(), PollFlags::POLLIN)];
            let ready = wait(&mut both);
            let [stop, _] = both;
            (stop.any().unwrap_or(true), ready)
        };
        if ready && stopping {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits at most a second; whether one is ready.
fn wait(all: &mut [PollFd<'_>]) -> bool {
    const SECOND: Duration = Duration::from_secs(1);
    match poll(all, PollTimeout::try_from(SECOND).unwrap_or(PollTimeout::ZERO)) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        // Nothing else can be waited for either: not in a hurry.
        Err(_) => {
            std::thread::sleep(SECOND);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::TestInstance;
    use std::os::unix::net::UnixStream;

    #[test]
    fn one_process_at_a_time_takes_packets_and_says_so() {
        let test = TestInstance::with_maps(2).unwrap();
        let until = || Slots::<SlowState>::open(&test, map::SLOW_STATE).unwrap().get(0).unwrap().until;
        assert_eq!(until(), 0);
        let mut path = SlowPath::acquire(&test).unwrap().unwrap();
        assert!(SlowPath::acquire(&test).unwrap().is_none());
        let promised = until();
        assert!(promised > clock::boot_time());
        std::thread::sleep(Duration::from_millis(1100));
        assert!(!path.work().unwrap());
        assert!(until() > promised, "renewed");
        assert!(path.is_current());
        path.count(Outcome::Overlap, 2);
        drop(path);
        assert_eq!(until(), 0);
        let path = SlowPath::acquire(&test).unwrap().unwrap();
        assert_eq!(path.state.counts[Outcome::Overlap as usize], 2, "counts go on");
        test.remove_pins().unwrap();
        assert!(!path.is_current());
    }

    #[test]
    fn it_serves_until_it_is_told_to_stop() {
        let test = TestInstance::with_maps(2).unwrap();
        let (stop, ours) = UnixStream::pair().unwrap();
        let other = SlowPath::acquire(&test).unwrap().unwrap();
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let instance = &test;
            let serving = scope.spawn(move || {
                serve(instance, stop.as_fd(), |what| {
                    tell.send(matches!(what, Told::Serving)).unwrap();
                });
            });
            assert!(!told.recv().unwrap());
            drop(other);
            assert!(told.recv().unwrap());
            drop(ours);
            serving.join().unwrap();
        });
        assert!(SlowPath::acquire(&test).unwrap().is_some());
    }
}
