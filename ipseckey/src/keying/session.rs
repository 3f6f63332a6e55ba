//! Commands carried out on the SADB of an instance (spec section 7.5).

use super::dump::{self, Style};
use super::labels::{self, Followed, Labels};
use super::request::{Command, SaName, SaRequest, SaType};
use super::tokens;
use super::wiping::Wiping;
use super::{Message, convert, monitor, save, sent, times};
use crate::names::{Names, SystemNames};
use crate::policy::Position;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sadb_maps::host::check::{self, LocalAddresses};
use sadb_maps::host::pfkey::{self, kind};
use sadb_maps::host::{Direction, Heard, Instance, SaInfo, SaKey, SaSpec, SaUpdate, Sadb, SadbError, Subscriber};
use sadb_maps::sa::state;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// How to print.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `-n`: no names.
    pub numeric: bool,
    /// `-p`: key octets as `XX`.
    pub paranoid: bool,
    /// `-v`: raw times as well.
    pub verbose: bool,
    /// `--json`.
    pub json: bool,
}

/// Why an action failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The word to blame, where there is one.
    pub at: Option<Position>,
    /// What to tell the user.
    pub text: String,
}

impl From<Message> for Failure {
    fn from(message: Message) -> Self {
        Self { at: Some(message.at), text: message.text }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { at: None, text }
    }
}

/// What became of a command.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Actions that succeeded: a flush, or one destination of add, update, delete or get.
    pub done: u32,
    /// What failed, one for each action.
    pub failures: Vec<Failure>,
    /// `quit`.
    pub quit: bool,
}

impl Outcome {
    fn count<T>(&mut self, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => {
                self.done += 1;
                Some(value)
            }
            Err(text) => {
                self.failures.push(text.into());
                None
            }
        }
    }
}

/// Where commands go: an instance, or nowhere when a file is only checked.
pub struct Session {
    sadb: Option<Sadb>,
    /// The labels behind the cookies, where there are any.
    labels: Option<PathBuf>,
    names: SystemNames,
    options: Options,
    interrupted: &'static AtomicBool,
    /// Addresses of this host, while they are not asked for anew.
    local: Option<LocalAddresses>,
}

impl Session {
    /// A session on the SADB of an attached instance. A signal handler that sets `interrupted` ends `monitor`.
    ///
    /// # Errors
    /// As [`Sadb::open`].
    pub fn open(instance: &Instance, options: Options, interrupted: &'static AtomicBool) -> Result<Self, SadbError> {
        let labels = instance.run_dir()?.join(labels::FILE);
        Ok(Self {
            sadb: Some(Sadb::open(instance)?),
            labels: Some(labels),
            names: SystemNames,
            options,
            interrupted,
            local: None,
        })
    }

    /// A session that checks commands and changes nothing.
    pub fn check_only(options: Options) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { sadb: None, labels: None, names: SystemNames, options, interrupted: &NEVER, local: None }
    }

    /// Whether commands change anything.
    pub fn changes(&self) -> bool {
        self.sadb.is_some()
    }

    /// The databases for names in commands.
    pub fn names(&self) -> &dyn Names {
        &self.names
    }

    /// Carries out a command; listings go to `out`.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn execute(&mut self, command: Command, out: &mut dyn Write) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        match command {
            Command::Add(request) => self.add(&request, out, &mut outcome)?,
            Command::Update { request, pair } => self.update(&request, pair, out, &mut outcome)?,
            Command::Delete { name, pair } => {
                let message = |key: &SaKey| sent::delete(key, pair);
                self.each(&name, out, &mut outcome, message, |sadb, key| {
                    if pair { sadb.delete_pair(key) } else { sadb.delete(key) }
                })?;
            }
            Command::Get(name) => self.get(&name, out, &mut outcome)?,
            Command::Flush(kind) => self.flush(kind, out, &mut outcome)?,
            Command::Dump(kind) => self.dump(kind, out, &mut outcome)?,
            Command::Save(kind, file) => self.save(kind, file.as_deref(), out, &mut outcome)?,
            Command::Monitor { passive } => self.monitor(passive, out)?,
            Command::Help(topic) => help(topic.as_deref(), out)?,
            Command::Quit => outcome.quit = true,
        }
        Ok(outcome)
    }

    /// Carries out commands of a file one after another, each as atomic as alone, and gives what became of each. Those that
    /// add, update and delete share the lock of the SADB for some milliseconds at a time.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn execute_all(&mut self, commands: Vec<Command>, out: &mut dyn Write) -> io::Result<Vec<Outcome>> {
        // What -v prints goes to whoever may be slow to read it, and with names that a name server has to be asked for.
        let shares = !self.options.verbose && commands.iter().all(shares_the_lock);
        if shares {
            self.local = LocalAddresses::read().ok();
            self.sadb.iter_mut().for_each(Sadb::begin_batch);
        }
        let mut outcomes =
            commands.into_iter().map(|command| self.execute(command, out)).collect::<io::Result<Vec<_>>>();
        if shares {
            self.local = None;
            if let Some(Err(error)) = self.sadb.as_mut().map(Sadb::end_batch)
                && let Some(last) = outcomes.iter_mut().flatten().next_back()
            {
                last.failures.push(error.to_string().into());
            }
        }
        outcomes
    }

    fn add(&mut self, request: &SaRequest, out: &mut dyn Write, outcome: &mut Outcome) -> io::Result<()> {
        let local = self.local.clone().unwrap_or_else(|| LocalAddresses::read().unwrap_or_default());
        let specs = match convert::specs(request, &|ip| local.contains(ip)) {
            Ok(specs) => specs,
            Err(message) => {
                outcome.failures.push(message.into());
                return Ok(());
            }
        };
        for spec in specs {
            self.show(&sent::add(kind::ADD, &spec), Some(&spec), out)?;
            let result = match &mut self.sadb {
                Some(sadb) => {
                    sadb.set_local_addresses(Some(local.clone()));
                    sadb.add(&spec).map(|_| ())
                }
                None => check::check(&spec, &local),
            };
            outcome.count(result.map_err(|e| describe(&e, &request.name, Some(spec.dst))));
        }
        Ok(())
    }

    fn update(
        &mut self,
        request: &SaRequest,
        pair: bool,
        out: &mut dyn Write,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        if request.has_keys() && !pair && self.names_a_larval_sa(&request.name) {
            return self.mature(request, out, outcome);
        }
        match convert::update(request) {
            Ok(change) => {
                let message = |key: &SaKey| sent::update(key, &change, pair);
                let update = |sadb: &mut Sadb, key: &SaKey| update_one(sadb, key, &change, pair);
                self.each(&request.name, out, outcome, message, update)
            }
            Err(message) => {
                outcome.failures.push(message.into());
                Ok(())
            }
        }
    }

    /// Whether a name is that of an SA that has no keys yet; without an instance there may be one.
    fn names_a_larval_sa(&mut self, name: &SaName) -> bool {
        let Some(sadb) = &mut self.sadb else { return true };
        let larval = |key: &SaKey| sadb.get(key).is_ok_and(|sa| sa.state == state::LARVAL);
        convert::keys(name).iter().any(larval)
    }

    /// Gives an SA that key management has left half-made its keys.
    fn mature(&mut self, request: &SaRequest, out: &mut dyn Write, outcome: &mut Outcome) -> io::Result<()> {
        // What is reserved is always an SPI of our own.
        let specs = match convert::specs(request, &|_| true) {
            Ok(specs) => specs,
            Err(message) => {
                outcome.failures.push(message.into());
                return Ok(());
            }
        };
        for spec in specs {
            let spec = SaSpec { direction: Direction::In, ..spec };
            self.show(&sent::add(kind::UPDATE, &spec), Some(&spec), out)?;
            let result = match &mut self.sadb {
                Some(sadb) => sadb.mature(&spec).map(|_| ()),
                None => check::check(&spec, &LocalAddresses::read().unwrap_or_default()),
            };
            outcome.count(result.map_err(|e| describe(&e, &request.name, Some(spec.dst))));
        }
        Ok(())
    }

    /// Shows a request, where that was asked for.
    fn show(&self, message: &pfkey::Message, spec: Option<&SaSpec>, out: &mut dyn Write) -> io::Result<()> {
        if !self.options.verbose || self.options.json || self.sadb.is_none() {
            return Ok(());
        }
        let labels = self.read_labels();
        out.write_all(dump::request(message, spec, &self.style(&labels)).as_bytes())
    }

    /// One action for each destination of a name.
    fn each(
        &mut self,
        name: &SaName,
        out: &mut dyn Write,
        outcome: &mut Outcome,
        message: impl Fn(&SaKey) -> pfkey::Message,
        mut action: impl FnMut(&mut Sadb, &SaKey) -> Result<(), SadbError>,
    ) -> io::Result<()> {
        for key in convert::keys(name) {
            self.show(&message(&key), None, out)?;
            let result = match &mut self.sadb {
                Some(sadb) => action(sadb, &key).map_err(|e| describe(&e, name, Some(key.dst))),
                None => Ok(()),
            };
            outcome.count(result);
        }
        Ok(())
    }

    fn get(&mut self, name: &SaName, out: &mut dyn Write, outcome: &mut Outcome) -> io::Result<()> {
        let mut found = Vec::new();
        for key in convert::keys(name) {
            self.show(&sent::get(&key), None, out)?;
            let Some(sadb) = &mut self.sadb else {
                outcome.done += 1;
                continue;
            };
            found.extend(outcome.count(sadb.get(&key).map_err(|e| describe(&e, name, Some(key.dst)))));
        }
        self.print(&found, "GET", out)
    }

    fn flush(&mut self, kind: Option<SaType>, out: &mut dyn Write, outcome: &mut Outcome) -> io::Result<()> {
        self.show(&sent::flush(kind), None, out)?;
        let result = match &mut self.sadb {
            Some(sadb) => sadb.flush(kind.map(SaType::protocol)).map(|_| ()),
            None => Ok(()),
        };
        outcome.count(result.map_err(|e| format!("Cannot flush SA type {}: {e}", pfkey_type(kind))));
        Ok(())
    }

    fn dump(&mut self, kind: Option<SaType>, out: &mut dyn Write, outcome: &mut Outcome) -> io::Result<()> {
        self.show(&sent::dump(kind), None, out)?;
        let Some(sadb) = &mut self.sadb else { return Ok(()) };
        match sadb.dump(kind.map(SaType::protocol)) {
            Ok(all) => {
                self.print(&all, "DUMP", out)?;
                if !self.options.json {
                    writeln!(out, "Dump succeeded for SA type {}.", pfkey_type(kind))?;
                }
            }
            Err(error) => outcome.failures.push(format!("Cannot dump SA type {}: {error}", pfkey_type(kind)).into()),
        }
        Ok(())
    }

    fn print(&self, all: &[SaInfo], verb: &str, out: &mut dyn Write) -> io::Result<()> {
        let labels = self.read_labels();
        if self.options.json {
            if self.sadb.is_none() {
                return Ok(());
            }
            let list: Vec<_> = all.iter().map(|sa| dump::json(sa, self.options.paranoid, &labels)).collect();
            serde_json::to_writer_pretty(&mut *out, &list)?;
            return writeln!(out);
        }
        let style = self.style(&labels);
        for (seq, sa) in (1..).zip(all) {
            writeln!(out, "{}", dump::text(sa, verb, seq, &style).as_str())?;
        }
        Ok(())
    }

    fn read_labels(&self) -> Labels {
        self.labels.as_deref().map(Labels::read).unwrap_or_default()
    }

    fn style<'s>(&'s self, labels: &'s Labels) -> Style<'s> {
        Style {
            names: if self.options.numeric { None } else { Some(&self.names) },
            paranoid: self.options.paranoid,
            verbose: self.options.verbose,
            now: times::seconds(SystemTime::now()),
            labels,
        }
    }

    /// Prints what the bus carries until `interrupted`.
    fn monitor(&self, passive: bool, out: &mut dyn Write) -> io::Result<()> {
        let mut bus = Subscriber::open(None).map_err(io::Error::other)?;
        let how = if passive { "Passively" } else { "Actively" };
        let json = self.options.json;
        self.interrupted.store(false, Ordering::Relaxed);
        if !json {
            writeln!(out, "{how} monitoring the PF_KEY socket.")?;
        }
        // Much at a time, as long as there is more to come.
        let out = &mut BufWriter::with_capacity(1 << 16, out);
        let mut labels = self.labels.as_deref().map(Followed::new).unwrap_or_default();
        while !self.interrupted.load(Ordering::Relaxed) {
            match bus.next_message().map_err(io::Error::other)? {
                Some(Heard::Message(message)) => {
                    let style = self.style(labels.current());
                    if json {
                        serde_json::to_writer(&mut *out, &monitor::json(&message, style.now, style.labels))?;
                        writeln!(out)?;
                        continue;
                    }
                    writeln!(out, "Read {} bytes.", message.encode().len())?;
                    writeln!(out, "Timestamp: {}", times::date(style.now))?;
                    writeln!(out, "{}", dump::message(&message, &style))?;
                }
                Some(Heard::Missed(count)) if json => {
                    writeln!(out, "{{\"message\":\"overflow\",\"missed\":{count}}}")?;
                }
                Some(Heard::Missed(count)) => {
                    writeln!(out, "{count} messages were lost; dump shows what is there now.\n")?;
                }
                None => {
                    out.flush()?;
                    // A signal that comes just before the wait does not end it.
                    match poll(&mut [PollFd::new(bus.as_fd(), PollFlags::POLLIN)], PollTimeout::from(500u16)) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    fn save(
        &mut self,
        kind: Option<SaType>,
        file: Option<&str>,
        out: &mut dyn Write,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let Some(sadb) = &mut self.sadb else { return Ok(()) };
        let all = match sadb.dump(kind.map(SaType::protocol)) {
            Ok(all) => all,
            Err(error) => {
                outcome.failures.push(format!("Cannot save SA type {}: {error}", pfkey_type(kind)).into());
                return Ok(());
            }
        };
        let mut opened;
        let target = match file {
            None | Some("-") => out,
            Some(path) => match open_save_file(Path::new(path)) {
                Ok((file, warning)) => {
                    if let Some(warning) = warning {
                        writeln!(out, "{warning}")?;
                    }
                    opened = file;
                    &mut opened
                }
                Err(error) => {
                    outcome.failures.push(format!("{path}: {error}").into());
                    return Ok(());
                }
            },
        };
        let target = &mut Wiping::new(target);
        target.write_all(save::HEADER.as_bytes())?;
        let mut saved = save::Saved::default();
        for sa in &all {
            target.write_all(saved.text(sa, self.options.paranoid).as_bytes())?;
        }
        target.flush()
    }
}

/// Whether a command does nothing but change SAs.
pub fn shares_the_lock(command: &Command) -> bool {
    matches!(command, Command::Add(_) | Command::Update { .. } | Command::Delete { .. })
}

fn update_one(sadb: &mut Sadb, key: &SaKey, change: &SaUpdate, pair: bool) -> Result<(), SadbError> {
    if pair { sadb.update_pair(key, change) } else { sadb.update(key, change) }
}

/// Opens the file of a save: made with mode 0400 for root alone, or emptied when it is there, with a warning when it
/// is one with other permissions.
fn open_save_file(path: &Path) -> io::Result<(File, Option<String>)> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o400).custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, None)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = options.truncate(true).open(path)?;
            let meta = file.metadata()?;
            let odd = meta.is_file() && meta.mode() & 0o777 != 0o400;
            let warning = format!(
                "Warning: {} has permissions {:04o}; a file with keys should have 0400",
                path.display(),
                meta.mode() & 0o777
            );
            Ok((file, odd.then_some(warning)))
        }
        Err(error) => Err(error),
    }
}

/// Number of an SA type; 0 is all.
fn pfkey_type(kind: Option<SaType>) -> u8 {
    kind.map_or(0, SaType::pfkey)
}

/// The text for a refusal, in the words of the original where scripts match on them.
fn describe(error: &SadbError, name: &SaName, destination: Option<std::net::IpAddr>) -> String {
    let association = |what: &str| {
        let place = destination.map(|d| d.to_string()).unwrap_or_default();
        format!("Association (type = {}) with spi 0x{:x} and addr\n{place} {what}.", name.kind.word(), name.spi)
    };
    match error {
        SadbError::Exists => association("already exists"),
        SadbError::NotFound => association("does not exist"),
        SadbError::Diagnostic { code, detail } => {
            let mut text = format!("PF_KEY Diagnostic code {}: {}.", code.code(), code.text());
            if !detail.is_empty() {
                text.push_str(&format!("\n  {detail}"));
            }
            text
        }
        other => other.to_string(),
    }
}

const COMMANDS: [(&str, &str); 12] = [
    ("add TYPE EXTENSION...", "add an SA for each destination"),
    ("update TYPE EXTENSION...", "change lifetimes and pairing of an SA"),
    ("update-pair TYPE EXTENSION...", "change lifetimes of both SAs of a pair"),
    ("delete TYPE spi N dst A...", "delete an SA"),
    ("delete-pair TYPE spi N dst A...", "delete both SAs of a pair"),
    ("get TYPE spi N dst A...", "show an SA"),
    ("flush [TYPE]", "delete all SAs"),
    ("dump [TYPE]", "show all SAs"),
    ("save TYPE [FILE]", "write all SAs as commands"),
    ("monitor, passive_monitor, pmonitor", "show what happens to SAs until Ctrl-C"),
    ("help [COMMAND|attr]", "explain; 'help attr' lists the extensions"),
    ("quit, exit", "leave"),
];

fn help(topic: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    if topic == Some("attr") {
        for line in tokens::WORDS.chunks(3) {
            let row: String = line.iter().map(|word| format!("{word:<20}")).collect();
            writeln!(out, "  {}", row.trim_end())?;
        }
        return Ok(());
    }
    let chosen = |usage: &str| topic.is_none_or(|t| usage.split([' ', ',']).any(|word| word == t));
    let mut shown = false;
    for (usage, text) in COMMANDS.iter().filter(|(usage, _)| chosen(usage)) {
        writeln!(out, "  {usage:<36}{text}")?;
        shown = true;
    }
    if !shown {
        writeln!(out, "no help on '{}'; 'help' lists the commands", topic.unwrap_or_default())?;
    }
    Ok(())
}
