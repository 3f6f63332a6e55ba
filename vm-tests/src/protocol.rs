//! The lines on the second serial port by which the guest says how far it is. Everything else on that port is what the
//! tests print.

use std::fmt;
use std::time::Duration;

const MARK: &str = "@vm";

/// One line of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The first process has the root and starts the tests; the release of the kernel.
    Start(String),
    /// A test came to its end.
    Result {
        /// Its name.
        name: String,
        /// Whether it passed.
        passed: bool,
        /// What it took.
        time: Duration,
    },
    /// All is over: the status with which the tests ended.
    End(i32),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(release) => write!(f, "{MARK} start {release}"),
            Self::Result { name, passed, time } => {
                let word = if *passed { "passed" } else { "failed" };
                write!(f, "{MARK} result {name} {word} {}", time.as_millis())
            }
            Self::End(status) => write!(f, "{MARK} end {status}"),
        }
    }
}

impl Mark {
    /// Reads a line; `None` when it is none of the protocol.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [MARK, "start", release] => Some(Self::Start((*release).to_owned())),
            [MARK, "result", name, word @ ("passed" | "failed"), time] => Some(Self::Result {
                name: (*name).to_owned(),
                passed: *word == "passed",
                time: Duration::from_millis(time.parse().ok()?),
            }),
            [MARK, "end", status] => Some(Self::End(status.parse().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_read_as_written() {
        let result = |passed| Mark::Result { name: "a-b".to_owned(), passed, time: Duration::from_millis(1234) };
        for mark in [Mark::Start("6.12.0".to_owned()), result(true), result(false), Mark::End(0), Mark::End(-9)] {
            assert_eq!(Mark::parse(&format!("{mark}\r\n")), Some(mark));
        }
        for other in ["", "@vm", "@vm end", "@vm end x", "@vm result a maybe 1", "a @vm end 0", "@vmx end 0"] {
            assert_eq!(Mark::parse(other), None, "{other:?}");
        }
    }
}
