//! Replacing the programs of an instance that is at work, without a packet or an SA lost.
//!
//! The programs of this build are loaded on the maps that the instance has, with an array of stages and working memory of
//! their own, so that a packet goes to its end with the build that it began with. Then they take the place of the old ones on
//! every interface, by one exchange for each hook: who takes packets before who sends them there, the classifier that everything
//! enters by last. A tool that dies on the way leaves a mixture that works, since maps and frame tags mean the same to both,
//! and the next loader goes on (module `staging`). Maps of another version, or for another number of SAs, are made anew and
//! filled (module `migrate`).

use super::attach;
use super::build::Build;
use super::error::SadbError;
use super::features;
use super::instance::{Instance, InstanceError};
use super::loader::{self, Loader, LoaderError};
use super::lock::InstanceLock;
use super::maps;
use super::migrate::{self, Move, Target};
use super::netdev::Route;
use super::object::{self, Loaded, OBJECT};
use super::staging;
use crate::abi::{ABI_VERSION, map};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// What an upgrade can be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpgradeOptions {
    /// Replace the programs even by the same ones.
    pub force: bool,
    /// Number of SAs that are to fit; `None` leaves it.
    pub capacity: Option<u32>,
    /// Programs to load in place of those that are embedded; for tests, no tool sets it.
    pub object: Option<&'static [u8]>,
}

/// What an upgrade did.
#[derive(Clone, Debug, Serialize)]
pub struct UpgradeReport {
    /// Programs that ran before; `None` when that version left no record.
    pub before: Option<Build>,
    /// Programs that run now.
    pub after: Build,
    /// Whether anything was replaced; otherwise they were the same.
    pub replaced: bool,
    /// Number of SAs that fit now.
    pub capacity: u32,
    /// Number of SAs that moved to other maps; `None` when the maps stayed.
    pub moved: Option<usize>,
    /// Time that loading and verifying took, in milliseconds, while the old programs were at work.
    pub load_ms: u64,
    /// Time from the first interface with other programs to the last, in microseconds.
    pub switch_us: u64,
}

impl Loader {
    /// Replaces the programs of an attached instance by those of this build; SAs, policy, counters and everything attached stay.
    /// Maps of an older version, or for another number of SAs than is asked for, give way to new ones. What an earlier upgrade
    /// left half done is finished first.
    ///
    /// # Errors
    /// Not attached, another network namespace, maps of a version that nothing is known of; the kernel refuses the programs;
    /// [`LoaderError::NoRoom`], [`LoaderError::NearEnd`]. Nothing has changed then.
    pub fn upgrade(instance: &Instance, options: &UpgradeOptions) -> Result<UpgradeReport, LoaderError> {
        upgrade_to(instance, options, &Target::OURS)
    }
}

/// [`Loader::upgrade`] to maps of any version; for tests.
///
/// # Errors
/// As [`Loader::upgrade`].
pub fn upgrade_to(
    instance: &Instance,
    options: &UpgradeOptions,
    target: &Target,
) -> Result<UpgradeReport, LoaderError> {
    let after = options.object.or(OBJECT).ok_or(LoaderError::NoObject)?;
    let slots = loader::slots(options.capacity)?;
    let (header, id) = {
        let _lock = InstanceLock::acquire(instance)?;
        let header = maps::any_header(instance)?;
        instance.check_place(&header).map_err(SadbError::from)?;
        target.check(instance, &header)?;
        finish(instance, target)?;
        (maps::any_header(instance)?, maps::map_id(instance, map::HEADER)?)
    };
    if header.abi == ABI_VERSION {
        maps::checked_header(instance)?;
    }
    let capacity = slots.unwrap_or(header.capacity);
    let moves = header.abi != target.abi || capacity != header.capacity;
    let before = Build::loaded(instance).map_err(LoaderError::io("record of the build"))?;
    let mut report = UpgradeReport {
        before,
        after: Build::of(after),
        replaced: false,
        capacity: capacity.saturating_sub(1),
        moved: None,
        load_ms: 0,
        switch_us: 0,
    };
    if !moves && report.before.as_ref() == Some(&report.after) && loader::is_whole(instance) && !options.force {
        return Ok(report);
    }
    let started = Instant::now();
    let maps_of = (!moves).then_some(instance);
    let mut loaded = Loaded::new(after, target.maps, capacity, maps_of).map_err(features::explain)?;
    if !moves {
        loaded.arm_sweep()?;
    }
    report.load_ms = started.elapsed().as_millis() as u64;
    let (time, moved) = put_in_place(instance, &mut loaded, id, moves.then_some(capacity), target)?;
    (report.replaced, report.moved, report.switch_us) = (true, moved, time.as_micros() as u64);
    Ok(report)
}

/// Puts loaded programs in the place of those of the instance, whose header has to be the map of that number; with a capacity,
/// their maps as well. Gives the time in which some were old and some new, and the number of SAs that moved.
pub(super) fn put_in_place(
    instance: &Instance,
    loaded: &mut Loaded,
    id: u32,
    capacity: Option<u32>,
    target: &Target,
) -> Result<(Duration, Option<usize>), LoaderError> {
    let mut lock = InstanceLock::acquire(instance)?;
    if !maps::map_id(instance, map::HEADER).is_ok_and(|now| now == id) {
        return Err(SadbError::Instance(InstanceError::NotAttached(instance.name().to_owned())).into());
    }
    // Another upgrade may have died meanwhile.
    finish(instance, target)?;
    // Whoever has maps open, or reads what belongs to the programs as the log, is to look again.
    lock.announce()?;
    let directory = staging::begin(instance)?;
    let fill = |directory: &Path| -> Result<Option<usize>, LoaderError> {
        let Some(capacity) = capacity else { return Ok(None) };
        let moving = Move::new(instance, directory, maps::any_header(instance)?, target, capacity)?;
        moving.fill()?;
        Ok(Some(moving.len()))
    };
    let staged = loaded.pin(&directory, target.maps).and_then(|()| fill(&directory));
    let moved = match staged.and_then(|moved| staging::commit(instance).map(|()| moved)) {
        Ok(moved) => moved,
        Err(error) => {
            // The first failure is what counts.
            let _ = staging::abandon(instance);
            return Err(error);
        }
    };
    let switching = Instant::now();
    finish(instance, target)?;
    let time = switching.elapsed();
    if moved.is_some() {
        // What waited for the lock looks at other maps from here on.
        lock.announce()?;
    }
    if target.abi == ABI_VERSION {
        // What the old programs had no place for.
        attach::complete(instance, &Route::open()?)?;
    }
    Ok((time, moved))
}

/// Brings an upgrade that was cut short to its end.
pub(super) fn finish(instance: &Instance, target: &Target) -> Result<bool, LoaderError> {
    staging::finish(instance, |ready, moving| {
        if !moving {
            return attach::switch(instance, ready);
        }
        let there = maps::header_in(ready)?;
        if there.abi != target.abi {
            let name = instance.name().to_owned();
            return Err(InstanceError::Abi { name, theirs: there.abi, ours: target.abi }.into());
        }
        let moving = Move::new(instance, ready, maps::any_header(instance)?, target, there.capacity)?;
        if !migrate::has_parted(instance, ready) {
            moving.part()?;
        }
        attach::switch(instance, ready)?;
        moving.complete()?;
        object::arm_pinned_sweep(ready)
    })
}
