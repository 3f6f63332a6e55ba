//! The log of the programs: what they write with aya-log about packets they drop, read by the holder of the event lease.
//!
//! Off unless somebody listens: writing a line costs a packet more than dropping it. The programs write at most twenty
//! lines a second on each CPU; the [counters](super::Counters) have them all.

use super::error::SadbError;
use super::events::EventLease;
use super::instance::Instance;
use super::loader::LoaderError;
use super::lock::InstanceLock;
use super::maps::Slots;
use crate::abi::{Config, map, program};
use aya::programs::ProgramInfo;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use std::os::fd::{AsFd, BorrowedFd};

/// Where the lines go.
type Say = Box<dyn Fn(&str) + Send + Sync>;

struct Sink(Say);

impl Log for Sink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The programs fill names up to one length.
        (self.0)(record.args().to_string().trim_end());
    }

    fn flush(&self) {}
}

/// The log, turned on for as long as this value lives. Its descriptor is readable when there are lines.
pub struct PathLog {
    instance: Instance,
    /// Number of the program whose log it is.
    program: u32,
    logger: EbpfLogger<Sink>,
}

impl std::fmt::Debug for PathLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PathLog")
    }
}

impl PathLog {
    /// Turns the log on; every line will be said to `say`. A ring has one reader: whoever has the lease.
    ///
    /// # Errors
    /// Not attached, another network namespace; the programs cannot be read or write no log.
    pub fn open(
        instance: &Instance,
        _lease: &EventLease,
        say: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, LoaderError> {
        let program = program_id(instance)?;
        let logger = EbpfLogger::init_from_id_with_logger(program, Sink(Box::new(say)))
            .map_err(|e| LoaderError::kernel("log of the programs", &e))?;
        turn(instance, true)?;
        Ok(Self { instance: instance.clone(), program, logger })
    }

    /// Whether the programs still write here. They do not once others have taken their place: open another log then.
    pub fn is_current(&self) -> bool {
        program_id(&self.instance).is_ok_and(|id| id == self.program)
    }

    /// Says what there is to say.
    pub fn flush(&mut self) {
        self.logger.flush();
    }
}

impl AsFd for PathLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.logger.as_fd()
    }
}

impl Drop for PathLog {
    fn drop(&mut self) {
        // An instance that is gone has nothing to be turned off; a log that stays on only fills its ring.
        let _ = turn(&self.instance, false);
    }
}

fn program_id(instance: &Instance) -> Result<u32, LoaderError> {
    let name = program::XDP_OUTER;
    let info =
        ProgramInfo::from_pin(instance.pin(name)).map_err(|e| LoaderError::kernel(format!("program {name}"), &e))?;
    Ok(info.id())
}

fn turn(instance: &Instance, on: bool) -> Result<(), SadbError> {
    let _lock = InstanceLock::acquire(instance)?;
    let mut slots = Slots::<Config>::open(instance, map::CONFIG)?;
    let config = slots.get(0)?;
    slots.set(0, &Config { log_level: u32::from(on), ..config })
}
