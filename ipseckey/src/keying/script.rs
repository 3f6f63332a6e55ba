//! Files of commands: `ipseckey -f` and `-c` (spec sections 7.1, 7.2).
//!
//! Everything is read and tried; errors do not stop the file. Each command with errors or warnings is shown once with
//! its place, keys masked: the original shows the keys.

use super::parser;
use super::request::Command;
use super::session::{Session, shares_the_lock};
use crate::policy::Position;
use command_lines::{Line, LineError, Lines};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Largest file that is read, in octets.
const MAX_FILE: u64 = 64 << 20;

/// What became of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands that were read, with or without errors.
    pub parsed: u32,
    /// Actions that succeeded.
    pub added: u32,
    /// Commands with at least one error.
    pub failed: u32,
}

impl Tally {
    /// Whether nothing went wrong and, unless the file is empty, something was done.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && (self.parsed == 0 || self.added > 0)
    }
}

/// Why a file is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Open, stat or read failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A directory, a device, a pipe.
    #[error("not a regular file")]
    NotRegular,
    /// Not UTF-8.
    #[error("not UTF-8 text")]
    NotText,
    /// More octets than a key file may have.
    #[error("too big: a key file has at most {MAX_FILE} octets")]
    TooBig,
}

/// The text of a file of commands, and whether others than root can get at it.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &Path) -> Result<(Zeroizing<String>, bool), FileError> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(FileError::NotRegular);
    }
    if meta.len() > MAX_FILE {
        return Err(FileError::TooBig);
    }
    let insecure = meta.uid() != 0 || meta.mode() & 0o077 != 0;
    // All room at once: a buffer that grew would leave copies of keys behind.
    let mut text = Zeroizing::new(String::with_capacity(meta.len() as usize + 1));
    match file.take(meta.len()).read_to_string(&mut text) {
        Ok(_) => Ok((text, insecure)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(FileError::NotText),
        Err(error) => Err(error.into()),
    }
}

/// Where goes what is to be said about commands.
#[derive(Debug)]
pub enum Report<'r> {
    /// Nowhere: to logs that others may read.
    Nowhere,
    /// Onto the output, with the command, keys masked.
    Text,
    /// Into a list.
    List(&'r mut Vec<Problem>),
}

/// Something to be said about a command, for `--json`.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipseckey(8) repeats them")]
pub struct Problem {
    pub line: u32,
    /// `None` when it is about the whole command.
    pub column: Option<u32>,
    pub severity: &'static str,
    pub text: String,
}

impl Problem {
    fn at(at: Position, severity: &'static str, text: String) -> Self {
        Self { line: at.line, column: Some(at.column), severity, text }
    }

    fn error(at: Option<Position>, line: u32, text: String) -> Self {
        Self { line: at.map_or(line, |at| at.line), column: at.map(|at| at.column), severity: "error", text }
    }

    fn of_line(problem: &LineError, last: u32) -> Self {
        match problem {
            LineError::OpenQuote(at) => Self::error(Some(*at), at.line, "the quoted string is not closed".to_owned()),
            LineError::TooBig(line) | LineError::TooManyWords(line) | LineError::NotText(line) => {
                Self::error(None, *line, problem.to_string())
            }
            LineError::Io(_) => Self::error(None, last, problem.to_string()),
        }
    }
}

/// What became of a file, for `--json`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipseckey(8) repeats them")]
pub struct JsonReport<'a> {
    pub file: &'a str,
    pub commands: u32,
    pub actions: u32,
    pub failed: u32,
    pub messages: &'a [Problem],
}

/// Runs the commands of `text`; what they list goes to `out`.
///
/// # Errors
/// `out` cannot be written.
pub fn run(
    text: &str,
    name: &str,
    session: &mut Session,
    report: &mut Report<'_>,
    out: &mut dyn Write,
) -> io::Result<Tally> {
    let mut file = Run { name, session, report, out, tally: Tally::default(), waiting: vec![] };
    let mut last = 0;
    for line in Lines::new(text.as_bytes()) {
        let line = match line {
            Ok(line) if line.words.is_empty() => continue,
            Ok(line) => line,
            Err(problem) => {
                file.finish()?;
                file.tally.parsed += 1;
                file.tally.failed += 1;
                file.tell(None, vec![Problem::of_line(&problem, last)])?;
                continue;
            }
        };
        last = line.last;
        let parsed = parser::parse(&line, file.session.names());
        let mut problems: Vec<Problem> =
            parsed.warnings.into_iter().map(|w| Problem::at(w.at, "warning", w.text)).collect();
        let warnings = problems.len();
        problems.extend(parsed.errors.into_iter().map(|e| Problem::at(e.at, "error", e.text)));
        let step = |command, problems| Step { line, command, problems, warnings };
        if file.take(match parsed.command {
            Some(Command::Help(_) | Command::Dump(_) | Command::Save(..) | Command::Monitor { .. }) => {
                problems.push(Problem::error(None, last, "this command is not allowed in a file".to_owned()));
                step(None, problems)
            }
            command => step(command, problems),
        })? {
            break;
        }
    }
    file.finish()?;
    Ok(file.tally)
}

/// Commands that are carried out together, at most: what parsing them takes is time for others to use the SADB.
const TOGETHER: usize = 512;

/// A command that was read, and what is to be said about it so far.
struct Step {
    line: Line,
    /// `None` when it is none, or not one for a file.
    command: Option<Command>,
    problems: Vec<Problem>,
    /// How many of the problems are warnings.
    warnings: usize,
}

/// A file on its way.
struct Run<'r, 'l> {
    name: &'r str,
    session: &'r mut Session,
    report: &'r mut Report<'l>,
    out: &'r mut dyn Write,
    tally: Tally,
    /// Commands that change SAs and nothing else, to be carried out together.
    waiting: Vec<Step>,
}

impl Run<'_, '_> {
    /// Carries a command out, now or with those that follow; whether it was `quit`.
    fn take(&mut self, step: Step) -> io::Result<bool> {
        if step.command.as_ref().is_some_and(shares_the_lock) {
            self.waiting.push(step);
            if self.waiting.len() >= TOGETHER {
                self.finish()?;
            }
            return Ok(false);
        }
        self.finish()?;
        self.carry_out(vec![step])
    }

    /// Carries out what waits.
    fn finish(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.carry_out(waiting).map(drop)
    }

    fn carry_out(&mut self, mut steps: Vec<Step>) -> io::Result<bool> {
        let commands = steps.iter_mut().filter_map(|step| step.command.take().map(|command| (command, step)));
        let (commands, with_command): (Vec<_>, Vec<_>) = commands.unzip();
        let outcomes = self.session.execute_all(commands, self.out)?;
        let mut quit = false;
        for (outcome, step) in outcomes.into_iter().zip(with_command) {
            self.tally.added += outcome.done;
            quit |= outcome.quit;
            let last = step.line.last;
            step.problems.extend(outcome.failures.into_iter().map(|f| Problem::error(f.at, last, f.text)));
        }
        for Step { line, problems, warnings, .. } in steps {
            self.tally.parsed += u32::from(!quit);
            self.tally.failed += u32::from(problems.len() > warnings);
            self.tell(Some(&line), problems)?;
        }
        Ok(quit)
    }

    fn tell(&mut self, line: Option<&Line>, problems: Vec<Problem>) -> io::Result<()> {
        tell(self.name, line, problems, self.report, self.out)
    }
}

/// Words that a key follows.
const BEFORE_KEYS: [&str; 2] = ["encrkey", "authkey"];

fn tell(
    name: &str,
    line: Option<&Line>,
    problems: Vec<Problem>,
    report: &mut Report<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match report {
        Report::Nowhere => {}
        Report::List(list) => list.extend(problems),
        Report::Text => {
            for Problem { line, column, severity, text } in &problems {
                match column {
                    Some(column) => writeln!(out, "{name}:{line}:{column}: {severity}: {text}")?,
                    None => writeln!(out, "{name}:{line}: {severity}: {text}")?,
                }
            }
            if let Some(line) = line.filter(|_| !problems.is_empty()) {
                writeln!(out, "    {}", line.masked(&BEFORE_KEYS))?;
            }
        }
    }
    Ok(())
}
