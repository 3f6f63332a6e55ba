//! The loader: brings an instance to life in the network namespace of the calling thread, attaches interfaces to it,
//! takes them off again.
//!
//! An instance has its base (maps, programs, the pair `ipsec0`/`ipsec0x` and the links on it) and any number of outer
//! interfaces. Everything is pinned, so the tool may leave. The header is written last: pins without it are what a loader
//! that died has left, and are removed by the next one. A pair that was deleted under a living instance is made anew;
//! SAs and policy stay.

use super::attach::{self, InterfaceReport};
use super::error::SadbError;
use super::fault;
use super::features;
use super::instance::{Instance, InstanceError};
use super::kernel::Link;
use super::layout::MAPS;
use super::lock::InstanceLock;
use super::maps::{self, Slots, Table};
use super::migrate::Target;
use super::netdev::{self, IPSEC0, IPSEC0X, Interface, PAIR_GROUP, Route};
use super::object::{self, Loaded, OBJECT};
use super::upgrade;
use crate::abi::{Config, DEFAULT_SA_CAPACITY, Header, MAX_SA_CAPACITY, MAX_XDP_MTU, Outer, map};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Prefix of the alias by which the loader knows a pair as its own.
const ALIAS: &str = "ipsec instance ";

/// Why an interface cannot be attached or detached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// The tools were built without the programs.
    #[error("this build has no eBPF programs in it; run `cargo xtask build-ebpf` and build again")]
    NoObject,
    /// The capacity does not fit.
    #[error("a capacity of {0} SAs is not possible; 1 to {max} are", max = MAX_SA_CAPACITY - 1)]
    Capacity(u32),
    /// The instance has another capacity.
    #[error("the instance has room for {0} SAs; 'espadm upgrade --capacity' changes that and keeps them")]
    OtherCapacity(u32),
    /// No such interface.
    #[error("no interface {0:?} in this network namespace")]
    NoInterface(String),
    /// The interface cannot be an outer one.
    #[error("{name} cannot be attached: {reason}")]
    Unfit {
        /// The interface.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The MTU is above what XDP in a driver takes.
    #[error(
        "{name} has an MTU of {mtu} octets and XDP in its driver takes at most {MAX_XDP_MTU}; lower it (ip link set {name} \
         mtu {MAX_XDP_MTU}), or have XDP run on the socket buffer, where sealed packets still have at most that length"
    )]
    TooLong {
        /// The interface.
        name: String,
        /// Its MTU.
        mtu: u32,
    },
    /// No interface was found to attach.
    #[error("no Ethernet interface in this network namespace; name one")]
    NothingToAttach,
    /// An `ipsec0` that is not ours.
    #[error("there is an interface ipsec0 that belongs to {0}; remove it, or detach that instance first")]
    ForeignPair(String),
    /// The object lacks a program.
    #[error("the eBPF object has no program {0}; it and this tool are of different versions")]
    NoProgram(&'static str),
    /// The kernel or the object.
    #[error("{what}: {reason}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The whole chain of reasons.
        reason: String,
    },
    /// The new maps are too small.
    #[error("{present} SAs are there, more than the {capacity} that there would be room for; nothing was changed")]
    NoRoom {
        /// What was asked for.
        capacity: u32,
        /// What is there.
        present: usize,
    },
    /// The numbers of an SA do not suffice for the move.
    #[error(
        "the outbound SA with SPI {0:#x} is so near the end of its sequence numbers that it cannot be moved; \
         rekey or delete it first; nothing was changed"
    )]
    NearEnd(u32),
    /// Another process watches the instance.
    #[error("process {0} watches the interfaces of this instance already")]
    Watched(u32),
    /// The instance.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Maps and lock.
    #[error(transparent)]
    Sadb(#[from] SadbError),
    /// A system call.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl LoaderError {
    pub(super) fn unfit(interface: &Interface, reason: impl Into<String>) -> Self {
        Self::Unfit { name: interface.name.clone(), reason: reason.into() }
    }

    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Keeps every reason of an aya error: the verifier's is the innermost.
    pub(super) fn kernel(what: impl Into<String>, error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            let text = inner.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = inner.source();
        }
        Self::Kernel { what: what.into(), reason }
    }
}

/// How XDP is to run on an outer interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpChoice {
    /// In the driver where that works, generic otherwise.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// On the socket buffer; slower, works everywhere.
    Generic,
}

/// How sealed packets leave through an outer interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitChoice {
    /// What works on every interface: through the neighbour layer.
    #[default]
    Auto,
    /// Through the neighbour layer.
    Neighbour,
    /// By FIB lookup and XDP redirect; the driver must transmit XDP frames.
    Xdp,
}

/// What attaching can be told. Only `xdp`, `exit`, `lan` and `no_lan` matter once the instance has its base.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Number of SAs that fit; `None` is [`DEFAULT_SA_CAPACITY`] less the unused slot, or what the instance has.
    pub capacity: Option<u32>,
    /// XDP mode.
    pub xdp: XdpChoice,
    /// Exit.
    pub exit: ExitChoice,
    /// `skb->mark` for packets out of tunnel-mode SAs; 0 leaves it alone.
    pub mark_tunnel_in: u32,
    /// `skb->mark` for packets out of transport-mode SAs; 0 leaves it alone.
    pub mark_transport_in: u32,
    /// Seconds in which further packets of a flow raise no second ACQUIRE.
    pub acquire_hold: u32,
    /// Interfaces to attach as well, with the gateway shortcut.
    pub lan: Vec<String>,
    /// Attached interfaces to take the gateway shortcut from.
    pub no_lan: Vec<String>,
    /// Programs to load in place of those that are embedded; for tests, no tool sets it.
    pub object: Option<&'static [u8]>,
}

impl Default for AttachOptions {
    fn default() -> Self {
        Self {
            capacity: None,
            xdp: XdpChoice::Auto,
            exit: ExitChoice::Auto,
            mark_tunnel_in: 0,
            mark_transport_in: 0,
            acquire_hold: 15,
            lan: vec![],
            no_lan: vec![],
            object: None,
        }
    }
}

/// What attaching did.
#[derive(Clone, Debug, Serialize)]
pub struct AttachReport {
    /// Whether the base was made; otherwise it was there.
    pub loaded: bool,
    /// Time that loading and verifying took, in milliseconds; 0 when the base was there.
    pub load_ms: u64,
    /// Number of SAs that fit.
    pub capacity: u32,
    /// Octets of kernel memory in all maps.
    pub memory: u64,
    /// The interfaces, in the order they were named.
    pub interfaces: Vec<InterfaceReport>,
}

/// Attaches and detaches interfaces.
#[derive(Debug)]
pub struct Loader;

impl Loader {
    /// Attaches interfaces, or with an empty list every Ethernet interface that is no port of another; makes the base
    /// of the instance first if it has none. An interface that is attached already is left as it is and reported.
    ///
    /// # Errors
    /// See [`LoaderError`]. Interfaces before the one that failed stay attached.
    pub fn attach(
        instance: &Instance,
        interfaces: &[&str],
        options: &AttachOptions,
    ) -> Result<AttachReport, LoaderError> {
        let slots = slots(options.capacity)?;
        let mut lock = InstanceLock::acquire(instance)?;
        let route = Route::open()?;
        let outer = choose(&route, interfaces, options)?;
        let base = base(instance, &mut lock, &route, slots, options)?;
        let reports: Result<_, _> = outer.iter().map(|i| attach::outer(instance, i, options)).collect();
        Ok(AttachReport {
            loaded: base.load.is_some(),
            load_ms: base.load.map_or(0, |load| load.as_millis() as u64),
            capacity: base.header.capacity.saturating_sub(1),
            memory: super::status::memory(instance)?.iter().map(|m| m.bytes).sum(),
            interfaces: reports?,
        })
    }

    /// Takes interfaces off; what they carry then goes unprotected and unchecked. The base stays, with SAs and policy.
    ///
    /// # Errors
    /// [`LoaderError::NoInterface`] for one that is not attached.
    pub fn detach(instance: &Instance, interfaces: &[&str]) -> Result<(), LoaderError> {
        let _lock = InstanceLock::acquire(instance)?;
        upgrade::finish(instance, &Target::OURS)?;
        maps::checked_header(instance)?;
        let route = Route::open()?;
        let attached = Table::<u32, Outer>::open(instance, map::OUTER)?;
        for name in interfaces {
            let missing = || LoaderError::NoInterface((*name).to_owned());
            let interface = route.find(name)?.ok_or_else(missing)?;
            attached.get(&interface.index)?.ok_or_else(missing)?;
            attach::take_off(instance, interface.index)?;
        }
        Ok(())
    }

    /// Takes every interface off and removes programs, maps with all SAs and policy, and the pair. Also cleans up after
    /// an instance whose network namespace is gone.
    ///
    /// # Errors
    /// [`InstanceError::OtherNamespace`] while the instance lives in another network namespace.
    pub fn detach_all(instance: &Instance) -> Result<(), LoaderError> {
        let mut lock = InstanceLock::acquire(instance)?;
        match usable_header(instance) {
            // What another version has made can still be taken away.
            Err(
                LoaderError::Sadb(SadbError::Instance(InstanceError::Abi { .. } | InstanceError::Map { .. }))
                | LoaderError::Instance(InstanceError::NoProgram { .. }),
            ) => {}
            // Refuses where the instance is alive elsewhere.
            other => drop(other?),
        }
        // Whoever has the maps open is to notice.
        lock.announce()?;
        remove_base(instance, &Route::open()?)
    }
}

/// The number of slots that options ask for.
pub(super) fn slots(capacity: Option<u32>) -> Result<Option<u32>, LoaderError> {
    match capacity {
        Some(n) if n == 0 || n >= MAX_SA_CAPACITY => Err(LoaderError::Capacity(n)),
        // Slot 0 is never used.
        capacity => Ok(capacity.map(|n| n + 1)),
    }
}

/// The base of an instance.
pub(super) struct Base {
    pub(super) header: Header,
    /// How long making it took; `None` when it was there.
    pub(super) load: Option<Duration>,
}

/// Finds the base and mends it, or makes it.
pub(super) fn base(
    instance: &Instance,
    lock: &mut InstanceLock,
    route: &Route,
    slots: Option<u32>,
    options: &AttachOptions,
) -> Result<Base, LoaderError> {
    upgrade::finish(instance, &Target::OURS)?;
    match usable_header(instance)? {
        Some(header) if slots.is_some_and(|n| n != header.capacity) => {
            Err(LoaderError::OtherCapacity(header.capacity.saturating_sub(1)))
        }
        Some(header) => {
            mend_pair(instance, route)?;
            attach::forget_missing(instance, &route.interfaces()?)?;
            Ok(Base { header, load: None })
        }
        None => {
            let started = Instant::now();
            lock.announce()?;
            remove_base(instance, route)?;
            match load_base(instance, route, slots.unwrap_or(DEFAULT_SA_CAPACITY), options) {
                Ok(header) => Ok(Base { header, load: Some(started.elapsed()) }),
                Err(e) => {
                    // Half a base is of no use to anybody; the first failure is what counts.
                    let _ = remove_base(instance, route);
                    Err(features::explain(e))
                }
            }
        }
    }
}

/// The interfaces to attach: those named, or all that make sense, and those that the shortcut is for.
fn choose(route: &Route, names: &[&str], options: &AttachOptions) -> Result<Vec<Interface>, LoaderError> {
    let all = route.interfaces()?;
    let mut chosen: Vec<Interface> = vec![];
    if names.is_empty() && options.no_lan.is_empty() {
        chosen = all.iter().filter(|i| i.is_outer()).cloned().collect();
        if chosen.is_empty() {
            return Err(LoaderError::NothingToAttach);
        }
    }
    for name in names.iter().copied().chain(options.lan.iter().chain(&options.no_lan).map(String::as_str)) {
        if !chosen.iter().any(|i| i.name == name) {
            chosen.push(named(&all, name)?);
        }
    }
    Ok(chosen)
}

/// The interface of that name, if it can be attached.
fn named(all: &[Interface], name: &str) -> Result<Interface, LoaderError> {
    let found = all.iter().find(|i| i.name == name).ok_or_else(|| LoaderError::NoInterface(name.into()))?;
    check_fit(all, found)?;
    Ok(found.clone())
}

/// Whether the interface can be attached.
///
/// # Errors
/// [`LoaderError::Unfit`] with the reason why not.
pub(super) fn check_fit(all: &[Interface], found: &Interface) -> Result<(), LoaderError> {
    if found.name == IPSEC0 || found.name == IPSEC0X {
        return Err(LoaderError::unfit(found, "it is part of the data path itself"));
    }
    if found.loopback || !found.ethernet {
        return Err(LoaderError::unfit(found, "it has no Ethernet framing"));
    }
    if let Some(index) = found.port_of {
        let master = all.iter().find(|i| i.index == index).map_or("another interface", |i| i.name.as_str());
        let reason = format!("it is a port of {master}, which has its addresses and packets; attach {master}");
        return Err(LoaderError::unfit(found, reason));
    }
    Ok(())
}

/// The header of a base that this process may go on with; `None` when there is no base, or only the remains of one. The
/// header is the last thing to come and the first to go, so a base that has one and lacks a program is damaged, or another
/// version's: its SAs and what it is attached to are not thrown away unasked.
fn usable_header(instance: &Instance) -> Result<Option<Header>, LoaderError> {
    match maps::checked_header(instance) {
        Ok(header) => match missing_program(instance) {
            None => Ok(Some(header)),
            Some(program) => Err(InstanceError::NoProgram { name: instance.name().to_owned(), program }.into()),
        },
        Err(SadbError::Instance(InstanceError::NotAttached(_))) => Ok(None),
        Err(SadbError::Instance(InstanceError::OtherNamespace { .. })) if attach::all_links_dead(instance)? => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn missing_program(instance: &Instance) -> Option<&'static str> {
    object::programs().find(|name| !instance.pin(name).exists())
}

/// Whether every program of this build is pinned.
pub(super) fn is_whole(instance: &Instance) -> bool {
    missing_program(instance).is_none()
}

/// Removes all that belongs to the instance: links, pins, the pair.
fn remove_base(instance: &Instance, route: &Route) -> Result<(), LoaderError> {
    attach::detach_links(instance)?;
    fault::point();
    remove_pair(instance, route)?;
    Ok(instance.remove_pins()?)
}

/// Name of the instance that a pair says it belongs to.
fn owner(pair: &Interface) -> Option<&str> {
    pair.alias.as_deref()?.strip_prefix(ALIAS)
}

/// Removes the pair of this instance, or one that a loader that died did not come to write its name on.
fn remove_pair(instance: &Instance, route: &Route) -> Result<(), LoaderError> {
    match route.find(IPSEC0)? {
        Some(pair) if pair.group == PAIR_GROUP && owner(&pair).is_none_or(|owner| owner == instance.name()) => {
            route.delete(pair.index)
        }
        // Another instance's, or nothing of ours: not for us to remove.
        _ => Ok(()),
    }
}

/// Makes the pair and gives the indexes and addresses of `ipsec0` and `ipsec0x`. It has the largest MTU there is, whatever
/// the outer interfaces have: packets that came in fragments pass through it whole.
fn make_pair(instance: &Instance, route: &Route) -> Result<(Interface, Interface), LoaderError> {
    if let Some(pair) = route.find(IPSEC0)?.or(route.find(IPSEC0X)?) {
        return Err(LoaderError::ForeignPair(match owner(&pair) {
            Some(name) => format!("instance {name:?}"),
            None => "somebody else".to_owned(),
        }));
    }
    fault::point();
    route.create_pair(MAX_XDP_MTU)?;
    fault::point();
    let missing = |name: &str| LoaderError::NoInterface(name.to_owned());
    let inner = route.find(IPSEC0)?.ok_or_else(|| missing(IPSEC0))?;
    let outer = route.find(IPSEC0X)?.ok_or_else(|| missing(IPSEC0X))?;
    for end in [&inner, &outer] {
        route.set_alias(end.index, &format!("{ALIAS}{}", instance.name()))?;
    }
    fault::point();
    netdev::offloads_off(IPSEC0)?;
    netdev::gro_on(IPSEC0)?;
    netdev::forwarding_on(IPSEC0X)?;
    for end in [&inner, &outer] {
        route.no_generated_address(end.index)?;
        route.up(end.index)?;
    }
    fault::point();
    route.queue(inner.index)?;
    route.local_address(inner.index)?;
    netdev::loose_reverse_path(IPSEC0)?;
    Ok((inner, outer))
}

/// Makes a missing pair anew under a living instance, and sees to it that the MTU is enough.
fn mend_pair(instance: &Instance, route: &Route) -> Result<(), LoaderError> {
    let mut slots = Slots::<Config>::open(instance, map::CONFIG)?;
    let config = slots.get(0)?;
    let (inner, outer) = (route.find(IPSEC0)?, route.find(IPSEC0X)?);
    let (inner, outer) = match (inner, outer) {
        (Some(inner), Some(outer)) if inner.index == config.ipsec0 && outer.index == config.ipsec0x => (inner, outer),
        _ => {
            remove_pair(instance, route)?;
            let (inner, outer) = make_pair(instance, route)?;
            slots.set(0, &with_pair(config, &inner, &outer))?;
            (inner, outer)
        }
    };
    for end in [&inner, &outer] {
        if !end.up {
            route.up(end.index)?;
        }
    }
    if inner.mtu < MAX_XDP_MTU {
        route.set_mtu(outer.index, MAX_XDP_MTU)?;
        route.set_mtu(inner.index, MAX_XDP_MTU)?;
    }
    attach::pair(instance, &inner, &outer)
}

/// Whether the pair is there, up and with its programs.
pub(super) fn pair_is_whole(instance: &Instance, all: &[Interface]) -> Result<bool, LoaderError> {
    let config = Slots::<Config>::open(instance, map::CONFIG)?.get(0)?;
    let good = |index| all.iter().any(|i| i.index == index && i.up);
    Ok(good(config.ipsec0) && good(config.ipsec0x) && attach::pair_is_whole(instance, config.ipsec0, config.ipsec0x))
}

fn with_pair(config: Config, inner: &Interface, outer: &Interface) -> Config {
    Config { ipsec0: inner.index, ipsec0x: outer.index, ipsec0_mac: inner.mac, ipsec0x_mac: outer.mac, ..config }
}

/// Loads and pins everything, makes the pair, attaches what belongs on it, and writes the header last.
fn load_base(
    instance: &Instance,
    route: &Route,
    capacity: u32,
    options: &AttachOptions,
) -> Result<Header, LoaderError> {
    let object = options.object.or(OBJECT).ok_or(LoaderError::NoObject)?;
    instance.create_pin_dir()?;
    let mut loaded = Loaded::new(object, MAPS, capacity, None)?;
    loaded.pin(&instance.pin_dir(), MAPS)?;
    let (inner, outer) = make_pair(instance, route)?;
    let config = Config {
        mark_tagged: random_mark()?,
        mark_sealed: random_mark()?,
        mark_tunnel_in: options.mark_tunnel_in,
        mark_transport_in: options.mark_transport_in,
        acquire_hold: options.acquire_hold,
        ..Config::default()
    };
    Slots::open(instance, map::CONFIG)?.set(0, &with_pair(config, &inner, &outer))?;
    attach::pair(instance, &inner, &outer)?;
    loaded.arm_sweep()?;
    let header = instance.new_header(capacity)?;
    maps::write_header(instance, &header)?;
    Ok(header)
}

/// A mark that nobody guesses, so that nobody's packets pass for ours.
fn random_mark() -> Result<u32, LoaderError> {
    let random = getrandom::u32().map_err(|e| LoaderError::io("getrandom")(io::Error::other(e.to_string())))?;
    Ok(random | 1)
}

/// Whether the link pinned at `path` is attached to a living interface of this index.
pub(super) fn is_linked(path: &Path, ifindex: u32) -> bool {
    Link::open(path).and_then(|link| link.ifindex()).is_ok_and(|index| index == ifindex)
}
