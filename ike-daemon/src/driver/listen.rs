//! How the daemon hears of the data path: from the ring while it holds the event lease, and then it passes on what it reads;
//! from the bus while somebody else does.
//!
//! A message of the bus is only a hint: it says which binding wants an SA or which SA met a limit, and the maps say the rest.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use sadb_maps::event::{Event, expire, kind};
use sadb_maps::host::pfkey::{self, Endpoint, Message, sa_flag};
use sadb_maps::host::{Direction, EventLease, Heard, Instance, PathLog, Publisher, SaKey, Subscriber};
use sadb_maps::policy::Selectors;
use sadb_maps::sa::{AH, ESP};
use tracing::{debug, info, warn};

use super::kernel::{FoundPair, KernelError, PairKey};
use crate::core::api::{ExpireKind, Protocol, SpiPair};

/// How often the lease is asked for while somebody else has it.
pub(super) const LEASE_INTERVAL: Duration = Duration::from_secs(1);

/// SA types of PF_KEY (RFC 2367 section 3.5).
const SATYPE_AH: u8 = 2;
const SATYPE_ESP: u8 = 3;

/// What was heard.
#[derive(Debug)]
pub(super) enum Told {
    /// An event of the ring.
    Event(Event),
    /// A binding without an SA, by the bus.
    Wanted(Event),
    /// An SA that met a limit, by the bus, and its pair as the message has it: a dead SA cannot be looked up any more.
    Expired(SaKey, ExpireKind, FoundPair),
    /// The peer of an inbound SA has moved, by the bus: where the packet went and where it came from.
    Moved(SaKey, SocketAddr, SocketAddr),
}

enum Source {
    Ring(EventLease),
    Bus(Subscriber),
    Nothing,
}

/// The ear of a daemon.
pub(super) struct Listener {
    instance: Instance,
    source: Source,
    pub(super) asked: Instant,
    /// The descriptor to wait for is another one since it was last given out.
    fresh: bool,
    publisher: Option<Publisher>,
    /// Whether the log of the programs is wanted, and what reads it while the lease is ours.
    wants_log: bool,
    log: Option<PathLog>,
    /// The ring is one that nobody fills any more, and has not been emptied yet.
    is_over: bool,
    /// It has been said that there is nothing to listen to.
    complained: bool,
}

impl Listener {
    /// Takes the lease if it is free, the bus otherwise.
    pub(super) fn new(instance: &Instance) -> Result<Self, KernelError> {
        let publisher = Publisher::open()
            .inspect_err(|error| warn!(target: "ikev2d::sadb", %error, "other tools will not hear of events"))
            .ok();
        let now = Instant::now();
        let mut this = Self {
            instance: instance.clone(),
            source: Source::Nothing,
            asked: now,
            fresh: false,
            publisher,
            wants_log: false,
            log: None,
            is_over: false,
            complained: false,
        };
        this.tune()?;
        Ok(this)
    }

    /// Whether the ring is ours.
    pub(super) fn has_lease(&self) -> bool {
        matches!(self.source, Source::Ring(_))
    }

    /// Looks whether the ring is still the one that the programs write to, and the log; to be called once a second. What is
    /// in a ring that is not is still taken, and then the lease is asked for anew.
    pub(super) fn follow(&mut self) {
        if let Source::Ring(lease) = &self.source {
            self.is_over = !lease.is_current();
        }
        if self.log.as_ref().is_some_and(|log| !log.is_current()) {
            // The old one turns it off, so it goes first.
            (self.log, self.fresh) = (None, true);
            self.open_log();
        }
    }

    /// Leaves a ring that is over and empty.
    fn leave(&mut self) {
        info!(target: "ikev2d::sadb", "the data path was detached, or has other maps");
        (self.log, self.source) = (None, Source::Nothing);
        (self.is_over, self.fresh) = (false, true);
    }

    /// As [`Listener::tune`], and says once why it cannot be: the data path may be attached again.
    fn try_to_tune(&mut self) {
        match self.tune() {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                warn!(target: "ikev2d::sadb", %error, "no events of the data path until it is attached");
                self.complained = true;
            }
            Err(_) => {}
        }
    }

    fn tune(&mut self) -> Result<(), KernelError> {
        self.asked = Instant::now();
        let lease = EventLease::acquire(&self.instance)
            .map_err(|error| KernelError(format!("cannot take the event lease: {error}")))?;
        if let Some(lease) = lease {
            debug!(target: "ikev2d::sadb", "listening to the ring of the data path");
            (self.source, self.fresh) = (Source::Ring(lease), true);
            self.open_log();
        } else if matches!(self.source, Source::Nothing) {
            let trusted = nix::unistd::geteuid().as_raw();
            let bus = Subscriber::open((trusted != 0).then_some(trusted))
                .map_err(|error| KernelError(format!("cannot listen to the bus: {error}")))?;
            info!(target: "ikev2d::sadb", "somebody else reads the events of the data path; listening to the bus");
            (self.source, self.fresh) = (Source::Bus(bus), true);
        }
        Ok(())
    }

    /// Sends the lines of the programs to the log of this process, or stops that.
    pub(super) fn set_path_log(&mut self, on: bool) {
        self.wants_log = on;
        if !on && self.log.take().is_some() {
            self.fresh = true;
        }
        self.open_log();
    }

    fn open_log(&mut self) {
        let Source::Ring(lease) = &self.source else { return };
        if !self.wants_log || self.log.is_some() {
            return;
        }
        match PathLog::open(&self.instance, lease, |line| debug!(target: "ikev2d::path", "dropped {line}")) {
            Ok(log) => (self.log, self.fresh) = (Some(log), true),
            Err(error) => warn!(target: "ikev2d::sadb", %error, "the log of the data path stays off"),
        }
    }

    /// The next thing there is to hear; `None` when there is nothing more.
    pub(super) fn next(&mut self) -> Result<Option<Told>, KernelError> {
        if !self.has_lease() && self.asked.elapsed() >= LEASE_INTERVAL {
            self.try_to_tune();
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        match &mut self.source {
            Source::Ring(lease) => {
                if let Some(event) = lease.next_event() {
                    return Ok(Some(Told::Event(event)));
                }
                if self.is_over {
                    self.leave();
                    self.try_to_tune();
                }
                Ok(None)
            }
            Source::Nothing => Ok(None),
            Source::Bus(bus) => loop {
                match bus.next_message().map_err(|error| KernelError(error.to_string()))? {
                    None => return Ok(None),
                    // What was lost is asked for again: an ACQUIRE by the next packet, a limit by the next one after it.
                    Some(Heard::Missed(count)) => warn!(target: "ikev2d::sadb", count, "messages of the bus were lost"),
                    Some(Heard::Message(message)) => {
                        if let Some(told) = understand(&message) {
                            return Ok(Some(told));
                        }
                    }
                }
            },
        }
    }

    /// Tells the other tools.
    pub(super) fn publish(&self, message: &Message) {
        if let Some(publisher) = &self.publisher
            && let Err(error) = publisher.publish(message)
        {
            debug!(target: "ikev2d::sadb", %error, "nobody hears of an event");
        }
    }

    /// The holder of packets is another one, or gone.
    pub(super) fn refresh(&mut self) {
        self.fresh = true;
    }

    /// A descriptor that becomes readable when there is something to hear, or one of the `others` is readable, if it is
    /// another one than last time.
    pub(super) fn new_descriptor<'a>(
        &'a mut self,
        others: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> std::io::Result<Option<OwnedFd>> {
        if !self.fresh {
            return Ok(None);
        }
        let descriptor: Option<BorrowedFd<'_>> = match &self.source {
            Source::Ring(lease) => Some(lease.as_fd()),
            Source::Bus(bus) => Some(bus.as_fd()),
            Source::Nothing => None,
        };
        let log = self.log.as_ref().map(PathLog::as_fd);
        let all: Vec<BorrowedFd<'_>> = descriptor.into_iter().chain(log).chain(others).collect();
        let descriptor = match all.as_slice() {
            [] => None,
            [only] => Some(only.try_clone_to_owned()?),
            several => Some(any(several)?),
        };
        self.fresh = false;
        Ok(descriptor)
    }
}

/// A descriptor that is readable when one of these is.
fn any(descriptors: &[BorrowedFd<'_>]) -> std::io::Result<OwnedFd> {
    let all = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for fd in descriptors {
        // By edges: each is drained after every wake-up, and what was there before is looked at when this is made.
        all.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    }
    Ok(all.0)
}

/// What a message of the bus means here; most are about changes that tools made.
fn understand(message: &Message) -> Option<Told> {
    match message.kind {
        pfkey::kind::ACQUIRE => {
            let wanted = message.wanted?;
            let binding = wanted.binding;
            let (laddr, raddr) = match (message.inner_src, message.inner_dst) {
                (Some(src), Some(dst)) => (src.addr.into(), dst.addr.into()),
                _ => (binding.src, binding.dst),
            };
            let packet = Selectors {
                laddr,
                raddr,
                lport: binding.sport,
                rport: binding.dport,
                proto: binding.proto,
                // The packet itself is not on the bus.
                opaque: 1,
                ..Selectors::default()
            };
            let (policy, rule) = (wanted.policy, wanted.rule);
            Some(Told::Wanted(Event { kind: kind::ACQUIRE, binding, policy, rule, packet, ..Event::default() }))
        }
        pfkey::kind::EXPIRE => {
            let sa = message.sa?;
            let (proto, protocol) = match message.satype {
                SATYPE_AH => (AH, Protocol::Ah),
                SATYPE_ESP => (ESP, Protocol::Esp),
                _ => return None,
            };
            let limit = match (message.soft, message.hard) {
                (Some(_), _) => ExpireKind::Soft,
                (None, Some(_)) => ExpireKind::Hard,
                (None, None) => ExpireKind::Idle,
            };
            let outbound = sa.flags & sa_flag::OUTBOUND != 0;
            let (src, dst, partner) = (message.src?.addr, message.dst?.addr, message.pair.unwrap_or(0));
            let direction = if outbound { Direction::Out } else { Direction::In };
            let (local, remote, spis) = if outbound {
                (src, dst, SpiPair { inbound: partner, outbound: sa.spi })
            } else {
                (dst, src, SpiPair { inbound: sa.spi, outbound: partner })
            };
            let pair = FoundPair { key: PairKey { protocol, local, remote, spis }, action: 0 };
            Some(Told::Expired(SaKey { proto, spi: sa.spi, dst, src: Some(src), direction }, limit, pair))
        }
        pfkey::kind::NEW_MAPPING if message.satype == SATYPE_ESP => {
            let at = |end: Option<Endpoint>| end.map(|end| SocketAddr::new(end.addr, end.port));
            let key = SaKey { direction: Direction::In, ..SaKey::new(ESP, message.sa?.spi, message.dst?.addr) };
            Some(Told::Moved(key, at(message.nat_local)?, at(message.nat_remote)?))
        }
        _ => None,
    }
}

/// The limit an EXPIRE event is about.
pub(super) fn limit(event: &Event) -> Option<ExpireKind> {
    match event.detail {
        expire::SOFT => Some(ExpireKind::Soft),
        expire::HARD => Some(ExpireKind::Hard),
        expire::IDLE => Some(ExpireKind::Idle),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::policy;
    use crate::driver::policy::tests::{event, tunnel_rule};

    #[test]
    fn an_acquire_of_the_bus_asks_for_the_same_as_one_of_the_ring() {
        let rules = [tunnel_rule(7)];
        let event = event(&rules[0], "10.1.0.5", "10.2.0.9");
        let message = Message::acquire(&event, &rules[0].rule);
        let message = Message::decode(&message.encode()).unwrap();
        let Some(Told::Wanted(heard)) = understand(&message) else { panic!("an acquire") };
        assert_eq!(heard.binding, event.binding);
        let (ring, bus) = (policy::acquire(1, &event, &rules).unwrap(), policy::acquire(1, &heard, &rules).unwrap());
        assert_eq!((ring.policy, ring.local, ring.remote), (bus.policy, bus.local, bus.remote));
        assert!(bus.packet.is_none());
    }

    #[test]
    fn other_messages_say_nothing() {
        assert!(understand(&Message::flush(None)).is_none());
        assert!(understand(&Message { kind: pfkey::kind::ACQUIRE, ..Message::default() }).is_none());
        assert!(understand(&Message { kind: pfkey::kind::EXPIRE, ..Message::default() }).is_none());
        let moved = Message { kind: pfkey::kind::NEW_MAPPING, satype: SATYPE_ESP, ..Message::default() };
        assert!(understand(&moved).is_none());
    }
}
