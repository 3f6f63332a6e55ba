//! Typed lines and the words in them: comments, continuation, quotes and limits as ikeadm and ipseckey of Solaris have them.

use std::io::{self, BufRead};

/// The longest command after joining, in octets, end of line included.
const MAX_COMMAND: usize = 4096;

/// The most words of a command.
const MAX_WORDS: usize = 4096;

/// Why a line is no command.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Longer than a command may be.
    #[error("the line is longer than {MAX_COMMAND} octets and was dropped")]
    TooLong,
    /// More words than a command may have.
    #[error("Too many input tokens")]
    TooManyWords,
    /// A quote without its partner.
    #[error("a quoted string is not closed")]
    OpenQuote,
    /// No text.
    #[error("expected text in ASCII or UTF-8")]
    NotText,
    /// The input broke.
    #[error("cannot read commands: {0}")]
    Io(#[from] io::Error),
}

impl LineError {
    /// Whether there is no point in reading on.
    #[must_use]
    pub fn ends_input(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

/// A reader of commands.
pub struct Lines<'a> {
    input: &'a mut dyn BufRead,
}

impl<'a> Lines<'a> {
    /// Reads from `input`.
    pub fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input }
    }

    /// The words of the next command; none for a comment or a blank line; `None` at the end.
    ///
    /// # Errors
    /// [`LineError`]; except after [`LineError::Io`] the next line can be read.
    pub fn read(&mut self) -> Result<Option<Vec<String>>, LineError> {
        let mut command: Vec<u8> = Vec::new();
        let mut too_long = false;
        let mut any = false;
        loop {
            let (ended, joined) = self.physical(&mut command, &mut too_long)?;
            any |= !ended;
            if !joined {
                break;
            }
        }
        if !any && command.is_empty() {
            return Ok(None);
        }
        if too_long {
            return Err(LineError::TooLong);
        }
        let text = std::str::from_utf8(&command).map_err(|_| LineError::NotText)?;
        words(text).map(Some)
    }

    /// Appends one line. Returns whether the input had ended, and whether the next line belongs to this one. Of a line
    /// that is too long only what fits is kept, so that input without line ends cannot fill the memory.
    fn physical(&mut self, command: &mut Vec<u8>, too_long: &mut bool) -> Result<(bool, bool), LineError> {
        let mut any = false;
        let mut last = 0;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if buffer.is_empty() {
                return Ok((!any, false));
            }
            any = true;
            let (line, ended) = match buffer.iter().position(|b| *b == b'\n') {
                Some(at) => (buffer.get(..at).unwrap_or_default(), true),
                None => (buffer, false),
            };
            last = line.last().copied().unwrap_or(last);
            if command.len() + line.len() >= MAX_COMMAND {
                *too_long = true;
            } else {
                command.extend_from_slice(line);
            }
            let used = line.len() + usize::from(ended);
            self.input.consume(used);
            if ended {
                let joined = last == b'\\';
                if joined && !*too_long {
                    command.pop();
                    command.push(b' ');
                }
                return Ok((false, joined));
            }
        }
    }
}

/// The words of a joined line: split at white space, quotes removed and their blanks kept, no escapes.
fn words(line: &str) -> Result<Vec<String>, LineError> {
    if line.trim_start().starts_with('#') {
        return Ok(Vec::new());
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
        if words.len() > MAX_WORDS {
            return Err(LineError::TooManyWords);
        }
    }
    if quoted {
        return Err(LineError::OpenQuote);
    }
    words.extend(word);
    Ok(words)
}

/// Ctrl-C is for the line, not for the program, as in the original.
pub fn ignore_interrupts() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: ignoring a signal installs no handler that could run code of ours.
    let _ = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<Result<Vec<String>, String>> {
        let mut input = text.as_bytes();
        let mut lines = Lines::new(&mut input);
        let mut out = Vec::new();
        while let Some(line) = lines.read().map_err(|error| error.to_string()).transpose() {
            out.push(line);
        }
        out
    }

    fn ok(words: &[&str]) -> Result<Vec<String>, String> {
        Ok(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn words_quotes_comments_and_joined_lines() {
        assert_eq!(
            all("get stats\n  # comment\n\nget rule \"a b\"#c \\\n next\ndump \"\" x"),
            [ok(&["get", "stats"]), ok(&[]), ok(&[]), ok(&["get", "rule", "a b#c", "next"]), ok(&["dump", "", "x"])]
        );
    }

    #[test]
    fn the_end_after_a_backslash_is_an_end() {
        assert_eq!(all("get \\\n"), [ok(&["get"])]);
        assert_eq!(all("get \\"), [ok(&["get", "\\"])]);
    }

    #[test]
    fn long_lines_are_dropped_and_the_next_is_read() {
        let text = format!("{}\nhelp\n", "x".repeat(MAX_COMMAND));
        let lines = all(&text);
        assert!(lines[0].as_ref().unwrap_err().contains("dropped"));
        assert_eq!(lines[1], ok(&["help"]));
    }

    #[test]
    fn open_quotes_are_errors() {
        assert!(all("get rule \"a")[0].is_err());
    }

    proptest! {
        #[test]
        fn always_ends(text in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut input = &text[..];
            let mut lines = Lines::new(&mut input);
            for _ in 0..=text.len() + 1 {
                if let Ok(None) = lines.read() {
                    return Ok(());
                }
            }
            prop_assert!(false, "no end");
        }
    }
}
