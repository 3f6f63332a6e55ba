//! What is said about a policy file: warnings, errors with their places, and the text of the rules that the errors are in.

use super::{Malformed, PolicyFile, Position, Problem, Warning};
use serde::Serialize;
use std::io::{self, Write};

/// Lines of a rule that are shown below its errors.
const MAX_ECHO: usize = 20;

/// Everything that was found in one file, in the order in which it is said.
#[derive(Debug, Default)]
pub struct Report {
    warnings: Vec<Warning>,
    problems: Vec<Problem>,
    malformed: Vec<Malformed>,
}

/// A message of [`JsonReport`].
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipsecconf(8) repeats them")]
pub struct JsonMessage {
    pub severity: &'static str,
    pub line: u32,
    pub column: u32,
    pub text: String,
}

/// What became of a file, for `--json`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipsecconf(8) repeats them")]
pub struct JsonReport<'a> {
    pub file: &'a str,
    pub rules: usize,
    pub bad: usize,
    pub added: usize,
    pub removed: usize,
    pub messages: Vec<JsonMessage>,
    pub malformed: &'a [Malformed],
}

impl Report {
    /// What the parser found; without its warnings if `quiet`.
    pub fn of(file: &PolicyFile, quiet: bool) -> Self {
        let warnings = if quiet { vec![] } else { file.warnings.clone() };
        Self { warnings, problems: file.problems.clone(), malformed: file.malformed.clone() }
    }

    /// Adds what the load found.
    pub fn add(&mut self, warnings: Vec<Warning>, problems: Vec<Problem>, malformed: Vec<Malformed>) {
        self.warnings.extend(warnings);
        self.warnings.sort_by_key(|warning| warning.at);
        // A rule of several addresses says the same of each.
        self.warnings.dedup();
        self.problems.extend(problems);
        self.malformed.extend(malformed);
    }

    /// How many rules are bad. An error outside of every rule counts as one.
    pub fn bad(&self) -> usize {
        self.malformed.len().max(usize::from(!self.problems.is_empty()))
    }

    /// Writes one line for each message, and the rules that the errors are in; `name` is that of the file.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn text(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        for warning in &self.warnings {
            writeln!(out, "{name}:{}: warning: {}", warning.at, warning.text)?;
        }
        for problem in &self.problems {
            writeln!(out, "{name}:{}: error: {problem}", problem.position())?;
        }
        for malformed in &self.malformed {
            writeln!(out, "{name}:{}: malformed rule:", malformed.line)?;
            for line in malformed.text.lines().take(MAX_ECHO) {
                writeln!(out, "    {line}")?;
            }
            if malformed.text.lines().count() > MAX_ECHO {
                writeln!(out, "    ...")?;
            }
        }
        Ok(())
    }

    /// The same for `--json`: `rules` were read, `added` and `removed` is what was done.
    pub fn json<'a>(&'a self, file: &'a str, rules: usize, added: usize, removed: usize) -> JsonReport<'a> {
        let message = |severity, at: Position, text| JsonMessage { severity, line: at.line, column: at.column, text };
        let warnings = self.warnings.iter().map(|w| message("warning", w.at, w.text.clone()));
        let problems = self.problems.iter().map(|p| message("error", p.position(), p.to_string()));
        let messages = warnings.chain(problems).collect();
        JsonReport { file, rules, bad: self.bad(), added, removed, messages, malformed: &self.malformed }
    }
}
