//! Four processes at one SADB, and a model that says what each of them must have seen.
//!
//! Every change of the maps has a number, in the order in which the lock was held. A process notes beside each answer how
//! many changes there had been, its own included; so all operations of all processes can be put in the one order in which
//! they took place, and the model, which knows no maps, locks and slots, carries them out again.

use super::testing::{self, TestInstance};
use super::*;
use crate::sa::{AH, ESP, Lifetime, encr};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

const PROCESSES: u64 = 4;
const OPERATIONS: usize = 120;
/// Room for fewer SAs than there are names.
const CAPACITY: u32 = 7;
const SPIS: u32 = 3;

/// A protocol, a direction and an SPI; the addresses follow from the direction.
type Name = (u8, bool, u32);

#[derive(Clone, Copy, Debug)]
enum Operation {
    Add { name: Name, pair: Option<u32>, soft: u64 },
    Update { name: Name, pair: Option<u32>, soft: u64 },
    UpdatePair { name: Name, soft: u64 },
    Delete(Name),
    DeletePair(Name),
    Get(Name),
    Dump(Option<u8>),
    Flush(Option<u8>),
}

/// xorshift64*: enough to choose operations with, and the same in child and parent.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn operation(&mut self) -> Operation {
        let mut name = || {
            let proto = if self.below(3) == 0 { AH } else { ESP };
            (proto, self.below(2) == 0, 1 + self.below(SPIS.into()) as u32)
        };
        let name = name();
        let pair = (self.below(2) == 0).then(|| 1 + self.below(SPIS.into()) as u32);
        let soft = 1000 + self.below(1000);
        let proto = [None, Some(ESP), Some(AH)][self.below(3) as usize];
        match self.below(40) {
            0..16 => Operation::Add { name, pair, soft },
            16..21 => Operation::Update { name, pair, soft },
            21..24 => Operation::UpdatePair { name, soft },
            24..30 => Operation::Delete(name),
            30..33 => Operation::DeletePair(name),
            33..37 => Operation::Get(name),
            37..39 => Operation::Dump(proto),
            _ => Operation::Flush(proto),
        }
    }
}

fn key((proto, inbound, spi): Name) -> SaKey {
    let dst: IpAddr = if inbound { [192, 0, 2, 1] } else { [198, 51, 100, 7] }.into();
    SaKey::new(proto, spi, dst).toward(if inbound { Direction::In } else { Direction::Out })
}

fn spec(name: Name, pair_spi: Option<u32>, soft: u64) -> SaSpec {
    let (here, there): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [198, 51, 100, 7].into());
    let (proto, inbound, spi) = name;
    let (src, dst) = if inbound { (there, here) } else { (here, there) };
    SaSpec {
        direction: if inbound { Direction::In } else { Direction::Out },
        encr: if proto == ESP { encr::NULL } else { encr::NONE },
        auth: 5,
        auth_key: SecretKey::new((1..=32).collect()),
        soft: limit(soft),
        pair_spi,
        // Nothing of this test is about IVs.
        iv: IvSource::FreshKey,
        ..SaSpec::new(proto, spi, src, dst)
    }
}

fn limit(add: u64) -> Lifetime {
    Lifetime { add, ..Lifetime::default() }
}

fn update(soft: u64, pair_spi: Option<u32>) -> SaUpdate {
    SaUpdate { soft: Some(limit(soft)), pair_spi, ..SaUpdate::default() }
}

/// How an answer is told to the parent.
fn told<T>(result: Result<T, SadbError>, show: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(SadbError::Exists) => "exists".into(),
        Err(SadbError::NotFound) => "not found".into(),
        Err(SadbError::Full(_)) => "full".into(),
        Err(error) => error.code().map_or_else(|| format!("{error:?}"), |code| format!("diagnostic {}", code.code())),
    }
}

fn shown(pair: Option<u32>, soft: u64) -> String {
    format!("pair {pair:?} soft {soft}")
}

fn carry_out(sadb: &mut Sadb, operation: Operation) -> String {
    let done = |()| "ok".to_owned();
    match operation {
        Operation::Add { name, pair, soft } => told(sadb.add(&spec(name, pair, soft)), |_| "ok".into()),
        Operation::Update { name, pair, soft } => told(sadb.update(&key(name), &update(soft, pair)), done),
        Operation::UpdatePair { name, soft } => told(sadb.update_pair(&key(name), &update(soft, None)), done),
        Operation::Delete(name) => told(sadb.delete(&key(name)), done),
        Operation::DeletePair(name) => told(sadb.delete_pair(&key(name)), done),
        Operation::Get(name) => told(sadb.get(&key(name)), |sa| shown(sa.pair_spi, sa.soft.add)),
        Operation::Dump(proto) => told(sadb.dump(proto), |all| {
            let mut names: Vec<_> =
                all.iter().map(|sa| ((sa.proto, sa.is_inbound(), sa.spi), shown(sa.pair_spi, sa.soft.add))).collect();
            names.sort();
            format!("{names:?}")
        }),
        Operation::Flush(proto) => told(sadb.flush(proto), |count| count.to_string()),
    }
}

/// What the SADB is: names, each with its partner and its soft limit.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<Name, (Option<u32>, u64)>);

impl Model {
    /// The partner that an SA may have: diagnostic codes of spec section 7.9.
    fn partner(&self, (proto, inbound, _): Name, spi: u32) -> Result<Name, String> {
        let other = (proto, !inbound, spi);
        match self.0.get(&other) {
            None => Err("diagnostic 73".into()),
            Some((Some(_), _)) => Err("diagnostic 75".into()),
            Some((None, _)) => Ok(other),
        }
    }

    fn paired(&self, (proto, inbound, spi): Name) -> Option<Name> {
        let (pair, _) = self.0.get(&(proto, inbound, spi))?;
        Some((proto, !inbound, (*pair)?))
    }

    fn set_pair(&mut self, name: Name, spi: Option<u32>) {
        if let Some((pair, _)) = self.0.get_mut(&name) {
            *pair = spi;
        }
    }

    fn take(&mut self, name: Name) {
        if let Some(partner) = self.paired(name) {
            self.set_pair(partner, None);
        }
        self.0.remove(&name);
    }

    /// Carries an operation out; the answer is that of the SADB.
    fn carry_out(&mut self, operation: Operation) -> Result<String, String> {
        let missing = || "not found".to_owned();
        let ok = Ok("ok".to_owned());
        match operation {
            Operation::Add { name, pair, soft } => {
                if self.0.contains_key(&name) {
                    return Err("exists".into());
                }
                let partner = pair.map(|spi| self.partner(name, spi)).transpose()?;
                if self.0.len() as u32 == CAPACITY - 1 {
                    return Err("full".into());
                }
                self.0.insert(name, (pair, soft));
                if let Some(partner) = partner {
                    self.set_pair(partner, Some(name.2));
                }
                ok
            }
            Operation::Update { name, pair, soft } => {
                let (old, _) = *self.0.get(&name).ok_or_else(missing)?;
                if pair.is_some() && old.is_some() {
                    return Err("diagnostic 75".into());
                }
                let partner = pair.map(|spi| self.partner(name, spi)).transpose()?;
                self.0.insert(name, (pair.or(old), soft));
                if let Some(partner) = partner {
                    self.set_pair(partner, Some(name.2));
                }
                ok
            }
            Operation::UpdatePair { name, soft } => {
                self.0.get(&name).ok_or_else(missing)?;
                let partner = self.paired(name).ok_or("diagnostic 76")?;
                for name in [name, partner] {
                    if let Some((_, limit)) = self.0.get_mut(&name) {
                        *limit = soft;
                    }
                }
                ok
            }
            Operation::Delete(name) => {
                self.0.get(&name).ok_or_else(missing)?;
                self.take(name);
                ok
            }
            Operation::DeletePair(name) => {
                self.0.get(&name).ok_or_else(missing)?;
                let partner = self.paired(name);
                self.take(name);
                partner.map(|partner| self.take(partner)).ok_or("diagnostic 76")?;
                ok
            }
            Operation::Get(name) => {
                let (pair, soft) = self.0.get(&name).ok_or_else(missing)?;
                Ok(shown(*pair, *soft))
            }
            Operation::Dump(proto) => {
                let all = self.0.iter().filter(|((p, ..), _)| proto.is_none_or(|proto| proto == *p));
                let names: Vec<_> = all.map(|(name, (pair, soft))| (*name, shown(*pair, *soft))).collect();
                Ok(format!("{names:?}"))
            }
            Operation::Flush(proto) => {
                let before = self.0.len();
                self.0.retain(|(p, ..), _| proto.is_some_and(|proto| proto != *p));
                Ok((before - self.0.len()).to_string())
            }
        }
    }
}

/// What one process does: an answer a line, with the count of changes before it.
fn hammer(instance: &Instance, seed: u64, notes: &Path) {
    let mut sadb = Sadb::open(instance).unwrap();
    let mut numbers = Numbers(seed);
    let mut text = String::new();
    let mut one = |sadb: &mut Sadb| {
        let operation = numbers.operation();
        let answer = loop {
            // Who waited for the lock for too long has done nothing, and asks again.
            match carry_out(sadb, operation) {
                answer if answer.starts_with("Busy") => {}
                answer => break answer,
            }
        };
        let changes = sadb.changes().unwrap();
        writeln!(text, "{changes} {answer}").unwrap();
    };
    let mut left = OPERATIONS;
    // Alone, or several under one lock.
    for size in [1, 2, 1, 3, 5].into_iter().cycle() {
        let size = size.min(left);
        if size == 1 {
            one(&mut sadb);
        } else {
            sadb.begin_batch();
            (0..size).for_each(|_| one(&mut sadb));
            sadb.end_batch().unwrap();
        }
        left -= size;
        if left == 0 {
            break;
        }
    }
    std::fs::write(notes, text).unwrap();
}

/// Starts the processes and gives what they noted: count of changes, operation, answer.
fn race(test: &TestInstance, seed: u64) -> Vec<(u64, Operation, String)> {
    let dir = test.run_dir().unwrap();
    let notes = |number: u64| dir.join(format!("race-{number}"));
    let seed_of = |number: u64| (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
    let mut children = vec![];
    for number in 0..PROCESSES {
        // SAFETY: the child uses no lock of another thread but the allocator's, which the C library resets, and ends
        // with _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let work = || hammer(test, seed_of(number), &notes(number));
                let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
                // SAFETY: ends the child without running what the parent registered for its own exit.
                unsafe { libc::_exit(i32::from(!fine)) }
            }
            ForkResult::Parent { child } => children.push(child),
        }
    }
    for child in children {
        assert!(matches!(waitpid(child, None).unwrap(), WaitStatus::Exited(_, 0)), "seed {seed}: a process failed");
    }
    let mut all = vec![];
    for number in 0..PROCESSES {
        let mut numbers = Numbers(seed_of(number));
        for line in std::fs::read_to_string(notes(number)).unwrap().lines() {
            let (changes, answer) = line.split_once(' ').unwrap();
            all.push((changes.parse().unwrap(), numbers.operation(), answer.to_owned()));
        }
    }
    // Of those with one count the change was first, and the others saw what it left.
    all.sort_by_key(|(changes, operation, answer)| (*changes, !is_change(*operation, answer)));
    all
}

/// Whether an operation with this answer has begun to change something, and so has a count of its own.
fn is_change(operation: Operation, answer: &str) -> bool {
    match operation {
        Operation::Get(_) | Operation::Dump(_) => false,
        Operation::Flush(_) => answer != "0",
        // It is announced, and there is no slot for it.
        Operation::Add { .. } if answer == "full" => true,
        // The SA is gone nevertheless.
        Operation::DeletePair(_) => answer == "ok" || answer == "diagnostic 76",
        _ => answer == "ok",
    }
}

/// Every operation is atomic against every other process.
#[test]
fn four_processes_see_one_order_of_things() {
    testing::in_new_netns(|| {
        for round in 0..3 {
            let seed = getrandom::u64().unwrap();
            let test = TestInstance::with_maps(CAPACITY).unwrap();
            let all = race(&test, seed);
            assert_eq!(all.len(), PROCESSES as usize * OPERATIONS);
            let mut model = Model::default();
            let (mut count, mut changed) = (0, 0);
            for (changes, operation, answer) in &all {
                let change = is_change(*operation, answer);
                assert_eq!(*changes, count + u64::from(change), "round {round}, seed {seed}: {operation:?}: {answer}");
                count = *changes;
                changed += u64::from(change);
                let wanted = model.carry_out(*operation).unwrap_or_else(|error| error);
                assert_eq!(*answer, wanted, "round {round}, seed {seed}, change {changes}: {operation:?}\n{model:?}");
            }
            // It was a race about something.
            assert!(changed > 40, "seed {seed}: only {changed} changes");
            let mut sadb = Sadb::open(&test).unwrap();
            assert_eq!(Ok(carry_out(&mut sadb, Operation::Dump(None))), model.carry_out(Operation::Dump(None)));
        }
    });
}
