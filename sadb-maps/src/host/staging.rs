//! The pins of a build on its way in: a directory beside those of the build in force, whose name says how far it has come.
//!
//! `upgrade_new` is being filled; whoever finds it throws it away. `upgrade_ready` is complete: the interfaces go over to
//! its programs one after another, and whoever finds it goes on with that, as often as it takes. `upgrade_done` has all
//! of them, and its pins take the places of the old ones. Every step between is one rename. With [`map::HEADER`] among them,
//! the pins are of other maps as well (module `migrate`); without, the maps stay.

use super::attach;
use super::error::SadbError;
use super::fault;
use super::instance::Instance;
use super::layout::MAPS;
use super::loader::LoaderError;
use crate::abi::map;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

const NEW: &str = "upgrade_new";
const READY: &str = "upgrade_ready";
const DONE: &str = "upgrade_done";

/// Where the pins of an instance are, those on their way in last.
pub(super) fn directories(instance: &Instance) -> [PathBuf; 3] {
    [instance.pin_dir(), instance.pin(READY), instance.pin(DONE)]
}

/// Whether the maps are being replaced, or were when a tool died: changes to those of either side would be lost.
pub(super) fn maps_are_moving(instance: &Instance) -> bool {
    [READY, DONE].iter().any(|stage| instance.pin(stage).join(map::HEADER).exists())
}

/// Makes an empty directory to pin into.
pub(super) fn begin(instance: &Instance) -> Result<PathBuf, LoaderError> {
    discard(instance, NEW)?;
    let directory = instance.pin(NEW);
    std::fs::create_dir(&directory).map_err(failed("making a directory of pins"))?;
    Ok(directory)
}

/// What was pinned is complete: from here on there is only forward.
pub(super) fn commit(instance: &Instance) -> Result<(), LoaderError> {
    rename(instance, NEW, READY)
}

/// What was begun and not committed goes.
pub(super) fn abandon(instance: &Instance) -> Result<(), LoaderError> {
    discard(instance, NEW)
}

/// Brings what was begun to its end, if anything was; gives whether there was something committed. `exchange` gives the
/// interfaces the programs of a directory, and sees to it that maps which move are complete.
///
/// # Errors
/// The kernel refuses a program its place: then every interface has its old programs again, as far as they can be given
/// back, and what was begun is gone; or maps or pins cannot be moved, and what was begun waits for the next one to try.
pub(super) fn finish(
    instance: &Instance,
    exchange: impl FnOnce(&Path, bool) -> Result<(), LoaderError>,
) -> Result<bool, LoaderError> {
    discard(instance, NEW)?;
    let ready = instance.pin(READY);
    let mut found = false;
    if ready.exists() {
        found = true;
        let moving = ready.join(map::HEADER).exists();
        if let Err(error) = exchange(&ready, moving) {
            // Programs on other maps are not given back: packets have gone by the new ones.
            if !moving && attach::switch(instance, &instance.pin_dir()).is_ok() {
                discard(instance, READY)?;
            }
            return Err(error);
        }
        retire(instance, &ready, moving)?;
        rename(instance, READY, DONE)?;
    }
    let done = instance.pin(DONE);
    if done.exists() {
        found = true;
        // The header last: with it, the maps are those of the instance.
        let (header, others): (Vec<_>, Vec<_>) = names(&done)?.into_iter().partition(|name| name == map::HEADER);
        for name in others.into_iter().chain(header) {
            fault::point();
            std::fs::rename(done.join(&name), instance.pin_dir().join(&name)).map_err(failed("moving a pin"))?;
        }
        fault::point();
        std::fs::remove_dir(&done).map_err(failed("removing a directory of pins"))?;
    }
    Ok(found)
}

/// Removes the pins that have no successor.
fn retire(instance: &Instance, ready: &Path, moving: bool) -> Result<(), LoaderError> {
    let successors: HashSet<OsString> = names(ready)?.into_iter().collect();
    for name in names(&instance.pin_dir())? {
        let text = name.to_string_lossy();
        let stays = text.starts_with("link_")
            || text.starts_with("upgrade_")
            || (!moving && MAPS.iter().any(|spec| spec.name == text));
        if !stays && !successors.contains(&name) {
            fault::point();
            std::fs::remove_file(instance.pin_dir().join(&name)).map_err(failed("removing a pin"))?;
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<OsString>, LoaderError> {
    let entries = std::fs::read_dir(directory).map_err(failed("directory of the pins"))?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed("directory of the pins"))).collect()
}

fn rename(instance: &Instance, from: &str, to: &str) -> Result<(), LoaderError> {
    fault::point();
    std::fs::rename(instance.pin(from), instance.pin(to)).map_err(failed("renaming a directory of pins"))
}

fn discard(instance: &Instance, stage: &str) -> Result<(), LoaderError> {
    let directory = instance.pin(stage);
    if !directory.exists() {
        return Ok(());
    }
    for name in names(&directory)? {
        fault::point();
        std::fs::remove_file(directory.join(name)).map_err(failed("removing a pin"))?;
    }
    fault::point();
    std::fs::remove_dir(&directory).map_err(failed("removing a directory of pins"))
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> LoaderError {
    move |source| SadbError::io(what, source).into()
}
