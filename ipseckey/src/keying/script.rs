//! Files of commands: `ipseckey -f` and `-c` (spec sections 7.1, 7.2).
//!
//! Everything is read and tried; errors do not stop the file. Each command with errors or warnings is shown once with
//! its place, keys masked: the original shows the keys.

use super::parser;
use super::request::Command;
use super::session::Session;
use command_lines::{Line, LineError, Lines};
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

/// Runs the commands of `text`. `quiet` leaves out what is wrong, for logs that others may read.
///
/// # Errors
/// `out` cannot be written.
pub fn run(text: &str, name: &str, session: &mut Session, quiet: bool, out: &mut dyn Write) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for line in Lines::new(text.as_bytes()) {
        tally.parsed += 1;
        let line = match line {
            Ok(line) if line.words.is_empty() => {
                tally.parsed -= 1;
                continue;
            }
            Ok(line) => line,
            Err(problem) => {
                tally.failed += 1;
                if !quiet {
                    match problem {
                        LineError::OpenQuote(at) => {
                            writeln!(out, "{name}:{at}: error: the quoted string is not closed")?
                        }
                        LineError::TooBig(line) | LineError::TooManyWords(line) | LineError::NotText(line) => {
                            writeln!(out, "{name}:{line}: error: {problem}")?
                        }
                        LineError::Io(_) => writeln!(out, "{name}: error: {problem}")?,
                    }
                }
                continue;
            }
        };
        let parsed = parser::parse(&line, session.names());
        let mut errors: Vec<String> =
            parsed.errors.iter().map(|e| format!("{name}:{}: error: {}", e.at, e.text)).collect();
        let warnings: Vec<String> =
            parsed.warnings.iter().map(|w| format!("{name}:{}: warning: {}", w.at, w.text)).collect();
        let mut quit = false;
        match parsed.command {
            Some(Command::Help(_) | Command::Dump(_) | Command::Save(..) | Command::Monitor { .. }) => {
                errors.push(format!("{name}:{}: error: this command is not allowed in a file", line.last));
            }
            Some(command) => {
                let outcome = session.execute(command, out)?;
                tally.added += outcome.done;
                quit = outcome.quit;
                errors.extend(outcome.failures.into_iter().map(|failure| match failure.at {
                    Some(at) => format!("{name}:{at}: error: {}", failure.text),
                    None => format!("{name}:{}: error: {}", line.last, failure.text),
                }));
            }
            None => {}
        }
        tally.failed += u32::from(!errors.is_empty());
        if !quiet {
            report(&line, warnings.iter().chain(&errors), out)?;
        }
        if quit {
            tally.parsed -= 1;
            break;
        }
    }
    Ok(tally)
}

/// Words that a key follows.
const BEFORE_KEYS: [&str; 2] = ["encrkey", "authkey"];

fn report<'t>(line: &Line, messages: impl Iterator<Item = &'t String>, out: &mut dyn Write) -> io::Result<()> {
    let mut any = false;
    for message in messages {
        writeln!(out, "{message}")?;
        any = true;
    }
    if any {
        writeln!(out, "    {}", line.masked(&BEFORE_KEYS))?;
    }
    Ok(())
}
