//! Programs on interfaces: links, pinned under the name of the program and the index of the interface, and where the
//! kernel has no TCX, filters on a clsact qdisc.

use super::clsact::{self, Hook};
use super::error::SadbError;
use super::fault;
use super::instance::Instance;
use super::kernel::{self, Link};
use super::loader::{AttachOptions, ExitChoice, LoaderError, XdpChoice, is_linked};
use super::maps::{Slots, Table};
use super::netdev::{self, Interface, Route};
use super::staging;
use super::xdp_features;
use crate::abi::{Config, EXIT_NEIGHBOUR, EXIT_XDP, MAX_XDP_MTU, Outer, any, map, program, shortcut};
use aya::programs::links::FdLink;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, ProgramInfo, SchedClassifier, Xdp, XdpMode};
use aya_obj::programs::XdpAttachType;
use serde::Serialize;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// An attached interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceReport {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u32,
    /// XDP runs in the driver; generic otherwise.
    pub native: bool,
    /// Sealed packets leave by XDP redirect; through the neighbour layer otherwise.
    pub xdp_exit: bool,
    /// MTU in octets, as the programs know it.
    pub mtu: u32,
    /// The kernel has no TCX: the programs at the traffic-control hooks are filters on a clsact qdisc.
    pub clsact: bool,
    /// Why XDP does not see every packet; what it does not see is judged behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past_xdp: Option<PastXdp>,
    /// The gateway shortcut.
    pub shortcut: Shortcut,
    /// What was not possible, or what the shortcut needs and nobody can see from here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Why packets come in on an attached interface past its XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PastXdp {
    /// It has no XDP program of ours any more.
    Gone,
    /// The number of its receive queues is another: some may have no program.
    Queues {
        /// When XDP was attached; 255 stands for more as well.
        then: u8,
        /// Today; 255 stands for more as well.
        now: u8,
    },
}

impl fmt::Display for PastXdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("its XDP program is gone"),
            Self::Queues { then, now } => {
                write!(f, "it has {now} receive queues, and had {then} when XDP was attached")
            }
        }
    }
}

/// Which packets take the gateway shortcut at a LAN interface: see `espadm(8)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortcut {
    /// None.
    #[default]
    None,
    /// Those that arrive there for a tunnel.
    In,
    /// Those, and those that come out of a tunnel for a host behind it.
    Both,
}

impl From<Outer> for Shortcut {
    fn from(record: Outer) -> Self {
        match (record.shortcut & shortcut::IN, record.shortcut & shortcut::OUT) {
            (0, _) => Self::None,
            (_, 0) => Self::In,
            _ => Self::Both,
        }
    }
}

impl InterfaceReport {
    /// Of an interface that is attached.
    pub(super) fn of(instance: &Instance, interface: &Interface, record: &Outer) -> Self {
        Self {
            name: interface.name.clone(),
            ifindex: interface.index,
            native: record.native != 0,
            xdp_exit: record.exit == EXIT_XDP,
            mtu: record.mtu,
            clsact: is_filter(instance, interface.index),
            past_xdp: past_xdp(instance, interface, record),
            shortcut: (*record).into(),
            notes: vec![],
        }
    }
}

/// Why packets may come in past XDP on an interface whose other programs are there.
pub(super) fn past_xdp(instance: &Instance, interface: &Interface, record: &Outer) -> Option<PastXdp> {
    if attachment(instance, program::XDP_OUTER, interface.index).is_none() {
        return Some(PastXdp::Gone);
    }
    let (then, now) = (record.queues, queues(interface));
    let differ = record.native != 0 && then != 0 && now != 0 && then != now;
    differ.then_some(PastXdp::Queues { then, now })
}

/// Receive queues of the interface as its record has them.
fn queues(interface: &Interface) -> u8 {
    netdev::receive_queues(&interface.name).map_or(0, |queues| u8::try_from(queues).unwrap_or(u8::MAX))
}

/// Pin of a link.
fn link_path(instance: &Instance, program: &str, ifindex: u32) -> PathBuf {
    instance.pin(&format!("link_{program}_{ifindex}"))
}

/// Every pinned link, with its path.
fn links(instance: &Instance) -> Result<Vec<PathBuf>, LoaderError> {
    let entries = match std::fs::read_dir(instance.pin_dir()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(LoaderError::io("directory of the pins")(e)),
    };
    let mut links = vec![];
    for entry in entries {
        let entry = entry.map_err(LoaderError::io("directory of the pins"))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("link_")) {
            links.push(entry.path());
        }
    }
    Ok(links)
}

/// Whether no pinned link is attached to anything: the network namespace of the instance is gone.
pub(super) fn all_links_dead(instance: &Instance) -> Result<bool, LoaderError> {
    Ok(links(instance)?.iter().all(|path| Link::open(path).and_then(|link| link.ifindex()).is_ok_and(|i| i == 0)))
}

/// Detaches and unpins every link of the instance, and removes its filters from the interfaces of this network
/// namespace.
pub(super) fn detach_links(instance: &Instance) -> Result<(), LoaderError> {
    let route = Route::open()?;
    let programs: Vec<u32> = TC_PROGRAMS.iter().flat_map(|(name, _)| program_ids(instance, name)).collect();
    for interface in route.interfaces()? {
        for hook in Hook::BOTH {
            for id in &programs {
                clsact::remove(&route, interface.index, hook, *id)?;
            }
        }
    }
    links(instance)?.into_iter().try_for_each(remove_link)
}

/// The programs at the traffic-control hooks, and where each belongs.
const TC_PROGRAMS: [(&str, Hook); 4] = [
    (program::TC_OUTER_EGRESS, Hook::Egress),
    (program::TC_OUTER_INGRESS, Hook::Ingress),
    (program::TC_IPSEC0_EGRESS, Hook::Egress),
    (program::TC_IPSEC0X_INGRESS, Hook::Ingress),
];

/// The numbers of a pinned program: one, or none when it is not pinned, or two while one takes the place of the other.
fn program_ids(instance: &Instance, name: &str) -> Vec<u32> {
    let pins = staging::directories(instance).map(|directory| directory.join(name));
    pins.iter().filter_map(|pin| ProgramInfo::from_pin(pin).ok().map(|info| info.id())).collect()
}

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    Link,
    Filter,
}

/// Whether a program is on an interface, and how.
fn attachment(instance: &Instance, name: &str, index: u32) -> Option<Attached> {
    if is_linked(&link_path(instance, name, index), index) {
        return Some(Attached::Link);
    }
    let (_, hook) = TC_PROGRAMS.iter().find(|(tc, _)| *tc == name)?;
    let found = Route::open().and_then(|route| clsact::program(&route, index, *hook)).ok()??;
    program_ids(instance, name).contains(&found).then_some(Attached::Filter)
}

fn remove_link(path: PathBuf) -> Result<(), LoaderError> {
    match Link::open(&path) {
        Ok(link) => {
            fault::point();
            link.detach().map_err(LoaderError::io("detaching a program"))?;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(LoaderError::io("opening a link")(e)),
    }
    fault::point();
    std::fs::remove_file(&path).map_err(LoaderError::io("removing a link"))
}

/// Attaches an XDP program and pins the link, unless it is there.
fn xdp(instance: &Instance, name: &'static str, ifindex: u32, mode: XdpMode) -> Result<(), LoaderError> {
    let path = link_path(instance, name, ifindex);
    if is_linked(&path, ifindex) {
        return Ok(());
    }
    remove_link(path.clone())?;
    let what = || format!("attaching {name} to interface {ifindex}");
    let mut xdp = Xdp::from_pin(instance.pin(name), XdpAttachType::Interface)
        .map_err(|e| LoaderError::kernel(format!("program {name}"), &e))?;
    fault::point();
    let id = xdp.attach_to_if_index(ifindex, mode).map_err(|e| LoaderError::kernel(what(), &e))?;
    let link = xdp.take_link(id).map_err(|e| LoaderError::kernel(what(), &e))?;
    let link = FdLink::try_from(link).map_err(|e| LoaderError::kernel(what(), &e))?;
    fault::point();
    link.pin(path).map(drop).map_err(|e| LoaderError::kernel(what(), &e))
}

/// Attaches a program at a traffic-control hook, unless it is there: by a link that is pinned, or as a filter where the
/// kernel has no TCX.
fn tc(instance: &Instance, name: &'static str, on: &Interface, hook: Hook) -> Result<(), LoaderError> {
    if attachment(instance, name, on.index).is_some() {
        return Ok(());
    }
    let path = link_path(instance, name, on.index);
    remove_link(path.clone())?;
    let what = || format!("attaching {name} to {}", on.name);
    let mut tc = SchedClassifier::from_pin(instance.pin(name))
        .map_err(|e| LoaderError::kernel(format!("program {name}"), &e))?;
    fault::point();
    if !clsact::has_tcx() {
        let fd = tc.fd().map_err(|e| LoaderError::kernel(what(), &e))?;
        return clsact::put(&Route::open()?, on.index, hook, fd.as_fd(), name)
            .map_err(|e| LoaderError::kernel(what(), &e));
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = tc.attach_with_options(&on.name, hook.into(), order).map_err(|e| LoaderError::kernel(what(), &e))?;
    let link = tc.take_link(id).map_err(|e| LoaderError::kernel(what(), &e))?;
    let link = FdLink::try_from(link).map_err(|e| LoaderError::kernel(what(), &e))?;
    fault::point();
    link.pin(path).map(drop).map_err(|e| LoaderError::kernel(what(), &e))
}

/// Attaches what belongs on the pair. The program that lets packets in goes on last.
pub(super) fn pair(instance: &Instance, inner: &Interface, outer: &Interface) -> Result<(), LoaderError> {
    xdp(instance, program::XDP_IPSEC0, inner.index, XdpMode::Driver)?;
    tc(instance, program::TC_IPSEC0X_INGRESS, outer, Hook::Ingress)?;
    xdp(instance, program::XDP_IPSEC0X, outer.index, XdpMode::Driver)?;
    tc(instance, program::TC_IPSEC0_EGRESS, inner, Hook::Egress)
}

/// The programs of an outer interface, in the order in which they are taken off.
const OUTER_PROGRAMS: [&str; 3] = [program::TC_OUTER_EGRESS, program::XDP_OUTER, program::TC_OUTER_INGRESS];

/// Attaches an outer interface, or what it lacks, and XDP anew where it has other queues than it had. If that fails it is
/// taken off again, unless it was attached before: then what it has stays, because without it everything would leave in
/// clear.
pub(super) fn outer(
    instance: &Instance,
    interface: &Interface,
    options: &AttachOptions,
) -> Result<InterfaceReport, LoaderError> {
    let before = has_any(instance, interface.index);
    let attached = attach_outer(instance, interface, options);
    if attached.is_err() && !before {
        // The reason why it did not work is what counts.
        let _ = take_off(instance, interface.index);
    }
    attached
}

/// Whether an outer interface has any of its programs.
fn has_any(instance: &Instance, index: u32) -> bool {
    OUTER_PROGRAMS.iter().any(|name| attachment(instance, name, index).is_some())
}

fn attach_outer(
    instance: &Instance,
    interface: &Interface,
    options: &AttachOptions,
) -> Result<InterfaceReport, LoaderError> {
    let index = interface.index;
    let mut table = Table::<u32, Outer>::open(instance, map::OUTER)?;
    let before = table.get(&index)?.filter(|_| has_any(instance, index));
    if before.is_some_and(|before| matches!(past_xdp(instance, interface, &before), Some(PastXdp::Queues { .. }))) {
        // Given to the same link, the same program would change nothing. Until it is back packets are judged behind it.
        remove_link(link_path(instance, program::XDP_OUTER, index))?;
    }
    let queues = queues(interface);
    let lan = options.lan.contains(&interface.name);
    let mut notes = vec![];
    let native = match (&before, options.xdp) {
        (Some(known), _) => known.native != 0,
        (None, XdpChoice::Generic) => false,
        (None, XdpChoice::Native) => match try_native(instance, interface) {
            Ok(()) => true,
            Err(e) => {
                let reason = format!("--mode native: {e}; --mode generic works everywhere");
                return Err(too_long(interface).unwrap_or_else(|| LoaderError::unfit(interface, reason)));
            }
        },
        (None, XdpChoice::Auto) => match try_native(instance, interface) {
            Ok(()) => true,
            Err(e) => {
                let reason = too_long(interface).unwrap_or(e);
                notes.push(format!("generic because native XDP failed: {reason}"));
                false
            }
        },
    };
    if lan && !native {
        let reason = notes.pop().unwrap_or_else(|| "XDP is generic; detach it and attach it with --mode native".into());
        return Err(LoaderError::unfit(interface, format!("the gateway shortcut needs XDP in the driver: {reason}")));
    }
    let mut record = Outer {
        exit: before.map_or(EXIT_NEIGHBOUR, |known| known.exit),
        mtu: interface.mtu,
        native: u32::from(native),
        mac: interface.mac,
        queues,
        shortcut: before.map_or(0, |known| known.shortcut),
    };
    // The programs must know the interface before they see its first packet.
    table.insert(&index, &record)?;
    announce(instance)?;
    let mode = if native { XdpMode::Driver } else { XdpMode::Skb };
    xdp(instance, program::XDP_OUTER, index, mode)
        .map_err(|e| if native { too_long(interface).unwrap_or(e) } else { e })?;
    tc(instance, program::TC_OUTER_INGRESS, interface, Hook::Ingress)?;
    tc(instance, program::TC_OUTER_EGRESS, interface, Hook::Egress)?;
    // Only now: many drivers can transmit such frames once they have a program, and what the shortcut seals for the second
    // exit needs the program at ingress.
    if before.is_none() && options.exit == ExitChoice::Xdp {
        record.exit = EXIT_XDP;
        notes.extend(xdp_exit(interface)?);
    }
    if lan {
        let (bits, more) = gateway_shortcut(interface)?;
        record.shortcut = bits;
        notes.extend(more);
    } else if options.no_lan.contains(&interface.name) {
        record.shortcut = 0;
    }
    table.insert(&index, &record)?;
    announce(instance)?;
    Ok(InterfaceReport { notes, ..InterfaceReport::of(instance, interface, &record) })
}

/// The reason, where it is the MTU: a driver runs programs of this kind on frames within a page only.
fn too_long(interface: &Interface) -> Option<LoaderError> {
    let Interface { name, mtu, .. } = interface.clone();
    (mtu > MAX_XDP_MTU).then_some(LoaderError::TooLong { name, mtu })
}

/// Refuses the exit by XDP redirect where the driver does not transmit such frames: they would be lost without a word.
/// Gives what is to be said where the kernel does not tell.
fn xdp_exit(interface: &Interface) -> Result<Option<String>, LoaderError> {
    match xdp_features::transmits(interface.index)? {
        Some(true) => Ok(None),
        Some(false) => Err(LoaderError::unfit(
            interface,
            format!("--exit xdp: {}; --exit neighbour works everywhere", silent(interface)),
        )),
        None => Ok(Some("this kernel, before 6.3, does not tell whether the driver transmits XDP frames".to_owned())),
    }
}

/// The bits of the shortcut that the interface can have, and what is to be said of it.
fn gateway_shortcut(interface: &Interface) -> Result<(u8, Vec<String>), LoaderError> {
    let mut notes = vec![];
    let bits = match xdp_features::transmits(interface.index)? {
        Some(true) => shortcut::IN | shortcut::OUT,
        Some(false) => {
            notes.push(format!("what comes out of tunnels goes through the stack: {}", silent(interface)));
            shortcut::IN
        }
        None => {
            notes.push(
                "what comes out of tunnels goes through the stack: this kernel, before 6.3, does not tell whether the \
                 driver transmits XDP frames"
                    .to_owned(),
            );
            shortcut::IN
        }
    };
    if interface.veth {
        notes.push(
            "veth: frames arrive as the other end left them; it must finish their checksums (ethtool -K ... tx off), \
             or the tunnel carries wrong ones"
                .to_owned(),
        );
    }
    Ok((bits, notes))
}

/// Why the interface does not transmit XDP frames.
fn silent(interface: &Interface) -> &'static str {
    if interface.veth {
        "the other end of this veth takes no XDP frames; turn GRO on there (ethtool -K ... gro on)"
    } else {
        "its driver does not transmit XDP frames"
    }
}

/// Tells the programs what at least one interface has.
fn announce(instance: &Instance) -> Result<(), LoaderError> {
    let all = Table::<u32, Outer>::open(instance, map::OUTER)?.entries()?;
    let bit = |bit: u32, has: fn(&Outer) -> bool| if all.iter().any(|(_, outer)| has(outer)) { bit } else { 0 };
    let found = bit(any::SHORTCUT, |outer| outer.shortcut != 0)
        | bit(any::GENERIC, |outer| outer.native == 0)
        | bit(any::XDP_EXIT, |outer| outer.exit == EXIT_XDP);
    let mut slots = Slots::<Config>::open(instance, map::CONFIG)?;
    let config = slots.get(0)?;
    Ok(slots.set(0, &Config { any: found, ..config })?)
}

/// Attaches XDP in the driver. The record of the interface goes first, as for any attachment.
fn try_native(instance: &Instance, interface: &Interface) -> Result<(), LoaderError> {
    let record = Outer { native: 1, mtu: interface.mtu, mac: interface.mac, ..Outer::default() };
    Table::<u32, Outer>::open(instance, map::OUTER)?.insert(&interface.index, &record)?;
    xdp(instance, program::XDP_OUTER, interface.index, XdpMode::Driver)
}

/// Takes an outer interface off. Outbound first: from then on nothing new enters the path.
pub(super) fn take_off(instance: &Instance, ifindex: u32) -> Result<(), LoaderError> {
    let route = Route::open()?;
    for name in OUTER_PROGRAMS {
        remove_link(link_path(instance, name, ifindex))?;
        if let Some((_, hook)) = TC_PROGRAMS.iter().find(|(tc, _)| *tc == name) {
            for id in program_ids(instance, name) {
                clsact::remove(&route, ifindex, *hook, id)?;
            }
        }
    }
    Table::<u32, Outer>::open(instance, map::OUTER)?.remove(&ifindex)?;
    announce(instance)
}

/// Forgets interfaces that are no more, whose places others may need.
pub(super) fn forget_missing(instance: &Instance, present: &[Interface]) -> Result<(), LoaderError> {
    let known = Table::<u32, Outer>::open(instance, map::OUTER)?.keys()?;
    let missing = known.into_iter().filter(|index| present.iter().all(|interface| interface.index != *index));
    missing.into_iter().try_for_each(|index| take_off(instance, index))
}

/// The programs on interfaces in the order in which they are replaced: who takes packets before who sends them there, and the
/// one by which everything enters last.
const ORDER: [&str; 7] = [
    program::XDP_IPSEC0,
    program::TC_OUTER_INGRESS,
    program::TC_IPSEC0X_INGRESS,
    program::XDP_IPSEC0X,
    program::TC_IPSEC0_EGRESS,
    program::XDP_OUTER,
    program::TC_OUTER_EGRESS,
];

/// Gives every link and filter the program of its name that is pinned in `directory`. Each packet meets the one or the other.
/// One that has no successor there is detached, last.
///
/// # Errors
/// The kernel refuses a program its place; some have been replaced then, and doing it again is no harm.
pub(super) fn switch(instance: &Instance, directory: &Path) -> Result<(), LoaderError> {
    let route = Route::open()?;
    let interfaces = route.interfaces()?;
    let mut links = links(instance)?;
    for name in ORDER {
        let pin = directory.join(name);
        if !pin.exists() {
            continue;
        }
        let program = kernel::object(&pin).map_err(LoaderError::io("opening a program"))?;
        let prefix = format!("link_{name}_");
        let (own, rest) = links.into_iter().partition::<Vec<_>, _>(|path| {
            path.file_name().and_then(|file| file.to_str()).is_some_and(|file| file.starts_with(&prefix))
        });
        links = rest;
        for path in own {
            fault::point();
            let refused = |e| LoaderError::kernel(format!("replacing program {name}"), &e);
            Link::open(&path).and_then(|link| link.update(&program)).map_err(refused)?;
        }
        if let Some((_, hook)) = TC_PROGRAMS.iter().find(|(tc, _)| *tc == name) {
            let ids = program_ids(instance, name);
            for interface in &interfaces {
                if clsact::program(&route, interface.index, *hook)?.is_some_and(|id| ids.contains(&id)) {
                    fault::point();
                    clsact::put(&route, interface.index, *hook, program.as_fd(), name)?;
                }
            }
        }
    }
    links.into_iter().try_for_each(remove_link)
}

/// Whether a link of this name runs the program that is pinned in `directory`.
pub(super) fn runs(instance: &Instance, name: &str, directory: &Path) -> bool {
    let Ok(wanted) = ProgramInfo::from_pin(directory.join(name)) else { return false };
    let prefix = format!("link_{name}_");
    let links = links(instance).unwrap_or_default();
    let own = links
        .iter()
        .filter(|path| path.file_name().and_then(|file| file.to_str()).is_some_and(|file| file.starts_with(&prefix)));
    own.into_iter().any(|path| Link::open(path).and_then(|link| link.program()).is_ok_and(|id| id == wanted.id()))
}

/// Attaches what is missing on the pair and on the attached interfaces.
pub(super) fn complete(instance: &Instance, route: &Route) -> Result<(), LoaderError> {
    let all = route.interfaces()?;
    let config = Slots::<Config>::open(instance, map::CONFIG)?.get(0)?;
    let find = |index: u32| all.iter().find(|interface| interface.index == index);
    if let Some((inner, outer)) = find(config.ipsec0).zip(find(config.ipsec0x)) {
        pair(instance, inner, outer)?;
    }
    let known = Table::<u32, Outer>::open(instance, map::OUTER)?.keys()?;
    for interface in known.into_iter().filter_map(find) {
        outer(instance, interface, &AttachOptions::default())?;
    }
    Ok(())
}

/// The attached interfaces by index, and whether each still has its programs, XDP aside: see [`past_xdp`].
pub(super) fn attached(instance: &Instance) -> Result<Vec<(u32, Outer, bool)>, SadbError> {
    let table = Table::<u32, Outer>::open(instance, map::OUTER)?;
    let behind = [program::TC_OUTER_INGRESS, program::TC_OUTER_EGRESS];
    let alive = |index: u32| behind.iter().all(|name| attachment(instance, name, index).is_some());
    Ok(table.entries()?.into_iter().map(|(index, record)| (index, record, alive(index))).collect())
}

/// Whether the pair has its programs.
pub(super) fn pair_is_whole(instance: &Instance, inner: u32, outer: u32) -> bool {
    let on = |name: &str, index: u32| attachment(instance, name, index).is_some();
    on(program::XDP_IPSEC0, inner)
        && on(program::TC_IPSEC0_EGRESS, inner)
        && on(program::XDP_IPSEC0X, outer)
        && on(program::TC_IPSEC0X_INGRESS, outer)
}

/// Whether an attached interface has filters instead of links.
fn is_filter(instance: &Instance, index: u32) -> bool {
    attachment(instance, program::TC_OUTER_EGRESS, index) == Some(Attached::Filter)
}
