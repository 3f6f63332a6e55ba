//! The lock of an instance in the hands of the SADB: one operation under it, or a batch of them.
//!
//! In a batch the lock stays for the next operation, and with it what is written once for each taking of it: the dirty flag,
//! the count of changes, the messages. Each operation is as atomic as alone, and whoever dies in between leaves those that
//! were finished. Others get the lock after [`LONGEST`] and have [`PAUSE`] to take it.

use super::bus;
use super::error::SadbError;
use super::lock::InstanceLock;
use super::maps::SaMaps;
use super::pfkey::Message;
use super::repair;
use super::sadb::Sadb;
use super::slots::{Known, Register};
use super::spd::store::PolicyMaps;
use super::{clock, staging};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a batch keeps the lock before others may have it.
const LONGEST: Duration = Duration::from_millis(50);

/// How long it stays away then: others look every millisecond.
const PAUSE: Duration = Duration::from_millis(2);

/// The lock, and what was done under it.
pub(super) struct Held {
    lock: InstanceLock,
    since: Instant,
    /// Something was written.
    begun: bool,
    /// The operation at work has written something.
    pub(super) changing: bool,
    /// The maps were repaired, so that nobody knows which slots have changed.
    repaired: bool,
    /// Somebody listens to the bus, as far as is known.
    pub(super) heard: bool,
}

impl Sadb {
    /// From here to [`Sadb::end_batch`] operations share the lock, up to a time, and their messages go out with it: for many
    /// one after another, with nothing in between that waits for anything.
    pub fn begin_batch(&mut self) {
        self.batching = true;
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// A map or the lock file cannot be written: then the next one who takes the lock repairs, and finds the operations that
    /// were finished.
    pub fn end_batch(&mut self) -> Result<(), SadbError> {
        self.batching = false;
        self.kept.take().map_or(Ok(()), |held| self.give_back(held))
    }

    /// Count of changes that the latest operation of this handle saw, its own included.
    #[cfg(test)]
    pub(super) fn changes(&self) -> Option<u64> {
        let mark = self.kept.as_ref().map(|held| held.lock.mark()).or(self.latest);
        mark.map(|mark| mark.changes())
    }

    /// Runs `work` under the lock with a register that is true, and leaves the maps clean, or in a batch whole.
    pub(super) fn locked<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Held) -> Result<T, SadbError>,
    ) -> Result<T, SadbError> {
        self.adding(|sadb, held| {
            // Whatever fails here was begun by an add before.
            held.changing = !sadb.pending.is_empty();
            sadb.write_pending()?;
            held.changing = false;
            work(sadb, held)
        })
    }

    /// The same for an add, which may leave those before it to be written with it.
    pub(super) fn adding<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Held) -> Result<T, SadbError>,
    ) -> Result<T, SadbError> {
        let mut held = match self.kept.take() {
            Some(held) => held,
            None => self.take()?,
        };
        held.changing = false;
        let result = work(self, &mut held);
        if held.changing && matches!(&result, Err(e) if !is_answer(e)) {
            // Those before it were finished, as far as they can be written.
            let _ = self.write_pending();
            self.pending.clear();
            repair::repair(self)?;
            held.repaired = true;
        }
        if self.batching && held.since.elapsed() < LONGEST {
            self.kept = Some(held);
        } else {
            self.give_back(held)?;
        }
        result
    }

    /// Runs `work`, which changes nothing and needs no register, under the lock.
    pub(super) fn looking<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, SadbError>) -> Result<T, SadbError> {
        if self.kept.is_some() {
            return self.locked(|sadb, _| work(sadb));
        }
        let lock = self.lock()?;
        if self.maps.header.get(0)?.dirty != 0 {
            drop(lock);
            return self.locked(|sadb, _| work(sadb));
        }
        work(self)
    }

    /// Takes the lock, on the maps that the instance has now.
    fn lock(&mut self) -> Result<InstanceLock, SadbError> {
        if let Some(gave) = self.gave_back.filter(|_| self.batching) {
            std::thread::sleep(PAUSE.saturating_sub(gave.elapsed()));
        }
        let lock = InstanceLock::acquire(&self.instance)?;
        #[cfg(test)]
        {
            self.latest = Some(lock.mark());
        }
        if self.seen != Some(lock.mark()) && staging::maps_are_moving(&self.instance) {
            return Err(SadbError::Moving);
        }
        if self.seen != Some(lock.mark()) && !self.maps.are_pinned(&self.instance)? {
            // The instance was attached anew, and nothing would come of changes to the maps that it had before.
            (self.maps, self.policy) = (SaMaps::open(&self.instance)?, PolicyMaps::open(&self.instance)?);
            self.seen = None;
        }
        Ok(lock)
    }

    /// Takes the lock and makes the register true.
    fn take(&mut self) -> Result<Held, SadbError> {
        let lock = self.lock()?;
        // To ask who listens costs more than one message, and less than many.
        let heard = !self.batching || bus::is_heard();
        let mut held = Held { lock, since: Instant::now(), begun: false, changing: false, repaired: false, heard };
        // What a failure before its end left unsaid.
        self.news.clear();
        self.pending.clear();
        self.tunnels = None;
        if self.maps.header.get(0)?.dirty != 0 {
            held.lock.announce()?;
            (held.begun, held.repaired) = (true, true);
            repair::repair(self)?;
        } else {
            self.catch_up(&held.lock)?;
        }
        // What fails from here on without an end is read anew.
        self.seen = None;
        Ok(held)
    }

    fn give_back(&mut self, mut held: Held) -> Result<(), SadbError> {
        self.write_pending()?;
        if held.begun {
            // Before the flag goes: whoever finds it gone follows what is noted.
            held.lock.note(self.register.changed().filter(|_| !held.repaired))?;
            self.maps.set_dirty(false)?;
        }
        self.seen = Some(held.lock.mark());
        #[cfg(test)]
        {
            self.latest = self.seen;
        }
        drop(held);
        self.gave_back = Some(Instant::now());
        for message in self.news.drain(..) {
            if let Some(publisher) = &self.publisher {
                // Whoever misses a message finds the change in the maps.
                let _ = publisher.publish(&message);
            }
        }
        Ok(())
    }

    /// Makes the register true: reads the slots that others have changed, or all where nobody knows which those are.
    fn catch_up(&mut self, lock: &InstanceLock) -> Result<(), SadbError> {
        let changed = match self.seen {
            Some(mark) if mark == lock.mark() => Some(vec![]),
            Some(mark) => lock.changed_since(mark)?,
            None => None,
        };
        match changed {
            Some(changed) => {
                for slot in changed.into_iter().collect::<BTreeSet<u32>>() {
                    self.register.refresh(&self.maps, slot)?;
                }
            }
            None => self.register = Register::read(&self.maps)?,
        }
        self.register.forget_changed();
        Ok(())
    }

    /// To be called before the first write of an operation.
    pub(super) fn begin(&mut self, held: &mut Held) -> Result<(), SadbError> {
        if !held.changing {
            // One that is cut short counts as well, which the first of a batch says for all.
            if held.begun {
                held.lock.count_another()
            } else {
                held.lock.announce()?
            }
            if !held.begun {
                self.maps.set_dirty(true)?;
            }
            (held.begun, held.changing) = (true, true);
        }
        Ok(())
    }

    /// Writes the SAs that a batch has put off.
    pub(super) fn write_pending(&mut self) -> Result<(), SadbError> {
        self.pending.write(&mut self.maps)
    }

    /// Notes a message about an SA, as the maps show it now.
    pub(super) fn tell(&mut self, held: &Held, kind: u8, known: &Known) -> Result<(), SadbError> {
        if !held.heard {
            return Ok(());
        }
        let slot = known.slot.slot;
        let info = self.info(slot, &self.maps.states.get(slot)?, clock::boot_time())?;
        self.news.push(Message::about(kind, &info));
        Ok(())
    }
}

/// Whether the error is the answer to a request that was carried out as far as it goes, and not a failure half-way.
fn is_answer(e: &SadbError) -> bool {
    matches!(
        e,
        SadbError::NotFound
            | SadbError::Exists
            | SadbError::Full(_)
            | SadbError::TooManyBindings(_)
            | SadbError::Diagnostic { .. }
    )
}
