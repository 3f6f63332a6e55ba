//! Interfaces that come and go: whoever watches attaches those that match what the administrator wants, as soon as the
//! kernel tells of them, and makes the pair `ipsec0` anew when it is gone.
//!
//! An interface comes into the world down, and is attached then: before it has an address, a route or a packet. The kernel
//! makes no promise, though; what it takes up at once may carry packets for the moments until it is attached. One process
//! watches an instance, known by a lock.

use super::attach::{self, InterfaceReport, PastXdp};
use super::error::SadbError;
use super::files;
use super::instance::{Instance, InstanceError};
use super::loader::{self, AttachOptions, LoaderError};
use super::lock::InstanceLock;
use super::netdev::{Interface, Route};
use crate::abi::Outer;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// `RTMGRP_LINK` of rtnetlink(7).
const RTMGRP_LINK: u32 = 1;

/// Milliseconds after which everything is looked at although the kernel told nothing.
const LOOK: u16 = 10_000;

/// What is to be done with interfaces.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Names of interfaces, `*` standing for any characters and `?` for one; with none, every Ethernet interface that is no
    /// port of another.
    pub names: Vec<String>,
    /// What may carry packets and is not attached is taken down.
    pub strict: bool,
}

impl Wanted {
    /// Whether an interface is one to attach.
    fn matches(&self, interface: &Interface) -> bool {
        if self.names.is_empty() {
            return interface.is_outer();
        }
        // A port that is named is refused with the reason.
        let fits = |pattern: &String| fits(pattern.as_bytes(), interface.name.as_bytes());
        let named = self.names.contains(&interface.name);
        named && interface.is_attachable() || interface.is_outer() && self.names.iter().any(fits)
    }
}

/// Whether a name fits a pattern. Both are short: a name of an interface has 15 octets at most.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| name.get(skip..).is_some_and(|name| fits(rest, name))),
        (Some((b'?', pattern)), Some((_, name))) => fits(pattern, name),
        (Some((one, pattern)), Some((other, name))) => one == other && fits(pattern, name),
        _ => false,
    }
}

/// Something that the watch did or found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Attached.
    Attached(InterfaceReport),
    /// Could not be attached, and why.
    Refused {
        /// The interface.
        name: String,
        /// The reason.
        reason: String,
    },
    /// Taken down, because it is not attached.
    TakenDown(String),
    /// Up and not attached: what a route sends there is not judged.
    Unjudged(String),
    /// An interface that was attached is gone.
    Gone(u32),
    /// Packets came in past XDP, and the interface was attached anew.
    Renewed {
        /// The interface.
        name: String,
        /// Why they did.
        why: PastXdp,
    },
    /// `ipsec0` was damaged or gone, and is whole again.
    Mended,
}

/// The watch over the interfaces of one instance.
pub struct Watch {
    instance: Instance,
    wanted: Wanted,
    options: AttachOptions,
    news: Socket,
    /// The interfaces that were attached or refused, by index, and what was said of them last.
    known: BTreeMap<u32, Seen>,
    /// Held for its lock.
    _lock: Flock<File>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Watch {
    /// Begins to watch, loads the data path if it is not, and attaches what is there; no interface at all is fine. Gives what
    /// was done.
    ///
    /// # Errors
    /// Somebody else watches the instance; a name is empty or too long; what [`Loader::attach`](super::Loader::attach) may fail with, save what concerns
    /// one interface.
    pub fn begin(
        instance: &Instance,
        wanted: Wanted,
        options: AttachOptions,
    ) -> Result<(Self, Vec<Seen>), LoaderError> {
        if let Some(name) = wanted.names.iter().find(|name| name.is_empty() || name.len() >= libc::IFNAMSIZ) {
            return Err(LoaderError::NoInterface(name.clone()));
        }
        let lock = take_lock(instance, wanted.strict)?;
        let news = listen().map_err(LoaderError::io("news of interfaces"))?;
        {
            let mut lock = InstanceLock::acquire(instance)?;
            loader::base(instance, &mut lock, &Route::open()?, loader::slots(options.capacity)?, &options)?;
        }
        let known = BTreeMap::new();
        let mut watch = Self { instance: instance.clone(), wanted, options, news, known, _lock: lock };
        let seen = watch.look()?;
        Ok((watch, seen))
    }

    /// Waits until the kernel tells of a change, or a while, and does what there is to do. Gives what was done, which may be
    /// nothing.
    ///
    /// # Errors
    /// The instance was detached: the watch is over. Or netlink or maps fail, and it may be tried again.
    pub fn wait(&mut self) -> Result<Vec<Seen>, LoaderError> {
        // SAFETY: the descriptor belongs to the socket, which lives through the call.
        let fd = unsafe { BorrowedFd::borrow_raw(self.news.as_raw_fd()) };
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(LOOK)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(LoaderError::io("poll")(e.into())),
        }
        self.drain()?;
        self.look()
    }

    /// Takes what the kernel told. What it is about does not matter: everything is looked at, also what was lost.
    fn drain(&self) -> Result<(), LoaderError> {
        loop {
            match self.news.recv_from_full() {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::EINTR)) => {}
                Err(e) => return Err(LoaderError::io("news of interfaces")(e)),
            }
        }
    }

    /// Looks at every interface and does what there is to do.
    fn look(&mut self) -> Result<Vec<Seen>, LoaderError> {
        let mut lock = InstanceLock::acquire(&self.instance)?;
        if !self.instance.is_attached() {
            return Err(SadbError::Instance(InstanceError::NotAttached(self.instance.name().to_owned())).into());
        }
        let route = Route::open()?;
        let mut seen = vec![];
        let all = route.interfaces()?;
        let outer: BTreeMap<_, _> = attach::attached(&self.instance)?
            .into_iter()
            .map(|(index, record, whole)| (index, (record, whole)))
            .collect();
        let names = self.options.lan.clone();
        let lan = |interface: &Interface| names.contains(&interface.name);
        let wanted: Vec<&Interface> =
            all.iter().filter(|interface| self.wanted.matches(interface) || lan(interface)).collect();
        let whole = loader::pair_is_whole(&self.instance, &all)?;
        if !whole || outer.keys().any(|index| all.iter().all(|i| i.index != *index)) {
            // Its capacity is its own.
            loader::base(&self.instance, &mut lock, &route, None, &self.options)?;
        }
        if !whole {
            seen.push(Seen::Mended);
        }
        for interface in &wanted {
            let record = outer.get(&interface.index);
            // What was attached and is not any more, somebody has detached on purpose.
            let was_attached = matches!(self.known.get(&interface.index), Some(Seen::Attached(_)));
            if was_attached && record.is_none() {
                continue;
            }
            let past_xdp = record.and_then(|(record, _)| attach::past_xdp(&self.instance, interface, record));
            // The shortcut is given once; whoever takes it away has a reason.
            let lacks_shortcut = |record: &Outer| !was_attached && lan(interface) && record.shortcut == 0;
            if record.is_some_and(|(record, whole)| {
                let changed = record.mtu != interface.mtu || record.mac != interface.mac;
                *whole && past_xdp.is_none() && !changed && !lacks_shortcut(record)
            }) {
                if let Some((record, _)) = record.filter(|_| !was_attached) {
                    let report = InterfaceReport::of(&self.instance, interface, record);
                    self.known.insert(interface.index, Seen::Attached(report));
                }
                continue;
            }
            let fit = if record.is_some() { Ok(()) } else { loader::check_fit(&all, interface) };
            let news = match fit.and_then(|()| attach::outer(&self.instance, interface, &self.options)) {
                Ok(report) => Seen::Attached(report),
                Err(LoaderError::Unfit { name, reason }) => Seen::Refused { name, reason },
                Err(e) => Seen::Refused { name: interface.name.clone(), reason: e.to_string() },
            };
            if let (Some(why), Seen::Attached(_)) = (past_xdp, &news) {
                seen.push(Seen::Renewed { name: interface.name.clone(), why });
                self.known.insert(interface.index, news);
                continue;
            }
            self.tell(interface.index, news, &mut seen);
        }
        drop(lock);
        for interface in
            all.iter().filter(|interface| interface.up && (interface.is_outer() || interface.is_beyond_reach()))
        {
            let is_attached = matches!(self.known.get(&interface.index), Some(Seen::Attached(_)))
                || outer.get(&interface.index).is_some_and(|(_, whole)| *whole);
            if is_attached {
                continue;
            }
            if self.wanted.strict {
                match route.down(interface.index) {
                    Ok(()) => seen.push(Seen::TakenDown(interface.name.clone())),
                    Err(e) => {
                        let news = Seen::Refused { name: interface.name.clone(), reason: e.to_string() };
                        self.tell(interface.index, news, &mut seen);
                    }
                }
            } else if !self.known.contains_key(&interface.index) {
                self.tell(interface.index, Seen::Unjudged(interface.name.clone()), &mut seen);
            }
        }
        let present: BTreeSet<u32> = all.iter().map(|interface| interface.index).collect();
        let gone: Vec<u32> = self.known.keys().copied().filter(|index| !present.contains(index)).collect();
        for index in gone {
            if matches!(self.known.remove(&index), Some(Seen::Attached(_))) {
                seen.push(Seen::Gone(index));
            }
        }
        Ok(seen)
    }

    /// Notes what is to be said of an interface, unless it was said already.
    fn tell(&mut self, index: u32, news: Seen, seen: &mut Vec<Seen>) {
        if self.known.get(&index) != Some(&news) {
            self.known.insert(index, news.clone());
            seen.push(news);
        }
    }
}

/// A socket that hears of interfaces.
fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, RTMGRP_LINK))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// The file that says who watches: locked, with the number of the process, and whether strictly, in it.
fn lock_file(instance: &Instance) -> Result<File, SadbError> {
    let path = instance.run_dir()?.join("watch");
    files::private(&path).map_err(|e| SadbError::io(path.display().to_string(), e))
}

fn take_lock(instance: &Instance, strict: bool) -> Result<Flock<File>, LoaderError> {
    match Flock::lock(lock_file(instance)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            let text = format!("{:>10} {}\n", std::process::id(), if strict { "strict" } else { "loose " });
            lock.write_all_at(text.as_bytes(), 0).map_err(LoaderError::io("lock of the watch"))?;
            Ok(lock)
        }
        Err((_, Errno::EWOULDBLOCK)) => Err(LoaderError::Watched(watcher(instance)?.map_or(0, |(process, _)| process))),
        Err((_, e)) => Err(LoaderError::io("lock of the watch")(e.into())),
    }
}

/// The process that watches the instance, and whether it takes down what is not attached; `None` when nobody does.
pub(super) fn watcher(instance: &Instance) -> Result<Option<(u32, bool)>, LoaderError> {
    match Flock::lock(lock_file(instance)?, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(None),
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut text = [0; 18];
            let len = file.read_at(&mut text, 0).map_err(LoaderError::io("lock of the watch"))?;
            let text = String::from_utf8_lossy(text.get(..len).unwrap_or_default()).into_owned();
            let mut words = text.split_whitespace();
            let process = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            Ok(Some((process, words.next() == Some("strict"))))
        }
        Err((_, e)) => Err(LoaderError::io("lock of the watch")(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kernel::Link;
    use crate::host::netdev;
    use crate::host::object::OBJECT;
    use crate::host::status::Status;
    use crate::host::testing::{TestInstance, in_new_netns, ip};
    use crate::host::{Loader, Shortcut};
    use std::time::{Duration, Instant};

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, fitting) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth", true),
            ("eth*", "eth12", true),
            ("*", "", true),
            ("e?h*1", "eth11", true),
            ("e?h*1", "eh1", false),
            ("*.10?", "bond0.100", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), fitting, "{pattern} {name}");
        }
    }

    fn names(status: &Status) -> Vec<&str> {
        let mut names: Vec<_> = status.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        names.sort();
        names
    }

    /// Does what there is to do until `done`.
    fn until(watch: &mut Watch, done: impl Fn(&[Seen]) -> bool) {
        let start = Instant::now();
        let mut seen = vec![];
        while !done(&seen) {
            assert!(start.elapsed() < Duration::from_secs(20), "{seen:?}");
            seen.extend(watch.wait().unwrap());
        }
    }

    fn attached(name: &'static str) -> impl Fn(&[Seen]) -> bool {
        move |seen| seen.iter().any(|seen| matches!(seen, Seen::Attached(report) if report.name == name))
    }

    const SMALL: AttachOptions = AttachOptions {
        capacity: Some(9),
        xdp: super::super::XdpChoice::Auto,
        exit: super::super::ExitChoice::Auto,
        mark_tunnel_in: 0,
        mark_transport_in: 0,
        acquire_hold: 15,
        lan: vec![],
        no_lan: vec![],
        object: None,
    };

    #[test]
    fn interfaces_that_come_are_attached_and_what_is_detached_stays_so() {
        in_new_netns(|| {
            let test = TestInstance::bare().unwrap();
            if OBJECT.is_none() {
                return;
            }
            // Nothing is there yet, and the data path is loaded all the same.
            let (mut watch, seen) = Watch::begin(&test, Wanted::default(), SMALL).unwrap();
            assert!(seen.is_empty(), "{seen:?}");
            let status = Status::read(&test).unwrap();
            assert!(status.attached && status.pair && status.interfaces.is_empty());
            assert_eq!(status.watcher.unwrap().process, std::process::id());
            let other = Watch::begin(&test, Wanted::default(), SMALL).unwrap_err();
            assert!(other.to_string().contains(&std::process::id().to_string()), "{other}");

            ip("link add lan0 type veth peer name lan1");
            until(&mut watch, attached("lan1"));
            assert_eq!(names(&Status::read(&test).unwrap()), ["lan0", "lan1"]);
            // By another name it is the same.
            ip("link set lan1 name lan2");
            watch.wait().unwrap();
            assert_eq!(names(&Status::read(&test).unwrap()), ["lan0", "lan2"]);
            // The programs know the MTU.
            ip("link set lan0 mtu 2000");
            until(&mut watch, |_| Status::read(&test).unwrap().interfaces.iter().any(|i| i.mtu == 2000));
            ip("link del lan0");
            until(&mut watch, |seen| seen.iter().filter(|seen| matches!(seen, Seen::Gone(_))).count() == 2);
            ip("link add lan0 type veth peer name lan1");
            until(&mut watch, attached("lan1"));
            // The pair is made anew under SAs and policy.
            ip("link del ipsec0");
            until(&mut watch, |seen| seen.contains(&Seen::Mended));
            assert!(Status::read(&test).unwrap().pair);
            // What the administrator takes off stays off; without its ends the watch is over.
            Loader::detach(&test, &["lan0"]).unwrap();
            ip("link set lan0 up");
            watch.wait().unwrap();
            assert_eq!(names(&Status::read(&test).unwrap()), ["lan1"]);
            Loader::detach_all(&test).unwrap();
            let over = watch.wait().unwrap_err();
            assert!(over.to_string().contains("not attached") && !test.is_attached(), "{over}");
            drop(watch);
            assert!(Status::read(&test).unwrap().watcher.is_none());
        });
    }

    #[test]
    fn an_interface_whose_packets_go_past_xdp_is_attached_anew() {
        in_new_netns(|| {
            let test = TestInstance::bare().unwrap();
            if OBJECT.is_none() {
                return;
            }
            let queues = "numrxqueues 2 numtxqueues 2";
            ip(&format!("link add lan0 {queues} type veth peer name lan1 {queues}"));
            netdev::set_queues("lan1", 1);
            let wanted = Wanted { names: vec!["lan0".to_owned()], strict: false };
            let (mut watch, seen) = Watch::begin(&test, wanted, SMALL).unwrap();
            assert!(attached("lan0")(&seen), "{seen:?}");
            let past = || Status::read(&test).unwrap().interfaces.first().unwrap().past_xdp;
            assert_eq!(past(), None);
            let renewed =
                |why: PastXdp| move |seen: &[Seen]| seen.contains(&Seen::Renewed { name: "lan0".to_owned(), why });
            for (then, now) in [(2, 1), (1, 2)] {
                netdev::set_queues("lan0", now.into());
                let why = PastXdp::Queues { then, now };
                assert_eq!(past(), Some(why));
                until(&mut watch, renewed(why));
                assert_eq!(past(), None);
            }
            let lan0 = Route::open().unwrap().find("lan0").unwrap().unwrap();
            let link = || Link::open(&test.pin(&format!("link_xdp_outer_{}", lan0.index))).unwrap();
            link().detach().unwrap();
            assert_eq!(past(), Some(PastXdp::Gone));
            ip("link set lan0 up");
            until(&mut watch, renewed(PastXdp::Gone));
            assert_eq!((past(), link().ifindex().unwrap()), (None, lan0.index));
            // Without a watch, whoever attaches it again mends it.
            netdev::set_queues("lan0", 1);
            Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap();
            assert_eq!(past(), None);
            Loader::detach_all(&test).unwrap();
        });
    }

    #[test]
    fn the_shortcut_is_given_once_and_ports_are_refused() {
        in_new_netns(|| {
            let test = TestInstance::bare().unwrap();
            if OBJECT.is_none() {
                return;
            }
            ip("link add lan0 type veth peer name lan1");
            ip("link add br0 type bridge");
            ip("link set lan1 master br0");
            Loader::attach(&test, &["lan0"], &SMALL).unwrap();
            let shortcut =
                || Status::read(&test).unwrap().interfaces.iter().find(|i| i.name == "lan0").unwrap().shortcut;
            assert_eq!(shortcut(), Shortcut::None);
            // What a pattern covers is no port; one that is named is refused with the reason.
            let options = AttachOptions { lan: vec!["lan0".to_owned()], ..SMALL };
            let wanted = Wanted { names: vec!["lan?".to_owned()], strict: false };
            let (mut watch, seen) = Watch::begin(&test, wanted, options.clone()).unwrap();
            assert!(
                attached("lan0")(&seen) && !seen.iter().any(|seen| matches!(seen, Seen::Refused { .. })),
                "{seen:?}"
            );
            assert_ne!(shortcut(), Shortcut::None);
            // Who takes it away has a reason.
            let without = AttachOptions { no_lan: vec!["lan0".to_owned()], ..AttachOptions::default() };
            Loader::attach(&test, &[], &without).unwrap();
            ip("link set lan0 up");
            watch.wait().unwrap();
            assert_eq!(shortcut(), Shortcut::None);
            drop(watch);
            let wanted = Wanted { names: vec!["lan1".to_owned()], strict: false };
            let (_watch, seen) = Watch::begin(&test, wanted, SMALL).unwrap();
            let refused = |seen: &Seen| matches!(seen, Seen::Refused { name, reason } if name == "lan1" && reason.contains("port of br0"));
            assert!(seen.iter().any(refused), "{seen:?}");
            Loader::detach_all(&test).unwrap();
        });
    }

    #[test]
    fn what_is_not_attached_is_taken_down_under_a_strict_watch() {
        in_new_netns(|| {
            let test = TestInstance::bare().unwrap();
            if OBJECT.is_none() {
                return;
            }
            ip("link add lan0 type veth peer name other0");
            ip("link set lan0 up");
            ip("link set other0 up");
            let wanted = Wanted { names: vec!["lan*".to_owned()], strict: true };
            let (mut watch, seen) = Watch::begin(&test, wanted, SMALL).unwrap();
            assert!(attached("lan0")(&seen) && seen.contains(&Seen::TakenDown("other0".to_owned())), "{seen:?}");
            let up = |name: &str| Route::open().unwrap().find(name).unwrap().unwrap().up;
            assert!(up("lan0") && !up("other0") && up("ipsec0"));
            // No Ethernet: no program of ours can judge what leaves there.
            ip("tuntap add dev tun0 mode tun");
            ip("link set tun0 up");
            until(&mut watch, |seen| seen.contains(&Seen::TakenDown("tun0".to_owned())));
            assert!(!up("tun0"));
            drop(watch);
            // Otherwise it is said, once.
            ip("link set tun0 up");
            let wanted = Wanted { names: vec!["lan*".to_owned()], strict: false };
            let (mut watch, seen) = Watch::begin(&test, wanted, SMALL).unwrap();
            assert_eq!(seen, [Seen::Unjudged("tun0".to_owned())]);
            ip("link set tun0 mtu 1400");
            assert_eq!(watch.wait().unwrap(), []);
            Loader::detach_all(&test).unwrap();
        });
    }
}
