//! Where in a file something stands, and what is wrong there.
//!
//! A reader of a configuration file collects every finding in a [`Report`] instead of stopping at the first, so that an
//! administrator corrects a file in one round. A report over a file with secrets never repeats the text of a line.

use std::fmt;

/// The most findings one report keeps; a file that is not a configuration at all would otherwise fill a screen per line.
const MAX_FINDINGS: usize = 64;

/// The longest piece of a source line that is shown, in characters.
const MAX_SHOWN: usize = 160;

/// A place in a text, both counted from 1; the column counts characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Character in the line, from 1.
    pub column: u32,
}

impl Position {
    /// The first character of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and the place it was written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its first character.
    pub at: Position,
}

impl<T> Spanned<T> {
    /// `value`, written at `at`.
    pub fn new(value: T, at: Position) -> Self {
        Self { value, at }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; the administrator should look.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Position,
    /// How bad.
    pub severity: Severity,
    /// What is wrong and what was expected.
    pub message: String,
    /// The offending line; `None` for a file that holds secrets.
    pub line: Option<String>,
}

/// Everything found in one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    file: String,
    findings: Vec<Finding>,
    left_out: usize,
    errors: usize,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), findings: Vec::new(), left_out: 0, errors: 0 }
    }

    pub(super) fn error(&mut self, at: Position, message: impl Into<String>) {
        self.push(at, Severity::Error, message.into());
    }

    pub(super) fn warning(&mut self, at: Position, message: impl Into<String>) {
        self.push(at, Severity::Warning, message.into());
    }

    fn push(&mut self, at: Position, severity: Severity, message: String) {
        self.errors = self.errors.saturating_add(usize::from(severity == Severity::Error));
        if self.findings.len() >= MAX_FINDINGS {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.findings.push(Finding { at, severity, message, line: None });
    }

    /// Sorts the findings by place and, with `show` the text of the file, adds the offending lines.
    pub(super) fn finish(mut self, show: Option<&str>) -> Self {
        self.findings.sort_by_key(|finding| finding.at);
        if let Some(text) = show {
            for finding in &mut self.findings {
                let index = usize::try_from(finding.at.line.saturating_sub(1)).unwrap_or(usize::MAX);
                finding.line = text.lines().nth(index).map(|line| line.chars().take(MAX_SHOWN).collect());
            }
        }
        self
    }

    /// The file's name as the caller gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The findings in the order of the file.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether the file has to be refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty() && self.left_out == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let word = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            write!(f, "{}:{}: {word}: {}", self.file, finding.at, finding.message)?;
            if let Some(line) = &finding.line {
                let before = usize::try_from(finding.at.column.saturating_sub(1)).unwrap_or(0);
                if before <= line.chars().count() {
                    let pad: String = line.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                    write!(f, "\n    {line}\n    {pad}^")?;
                } else {
                    write!(f, "\n    {line}")?;
                }
            }
        }
        if self.left_out > 0 {
            write!(f, "\n{}: {} more findings not shown", self.file, self.left_out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_line_and_caret() {
        let mut report = Report::new("f");
        report.error(Position { line: 2, column: 3 }, "bad");
        let report = report.finish(Some("one\n\ttwo\n"));
        assert_eq!(report.to_string(), "f:2:3: error: bad\n    \ttwo\n    \t ^");
    }

    #[test]
    fn stays_bounded() {
        let mut report = Report::new("f");
        for _ in 0..MAX_FINDINGS + 3 {
            report.warning(Position::START, "w");
        }
        assert_eq!(report.findings().len(), MAX_FINDINGS);
        assert!(report.to_string().ends_with("f: 3 more findings not shown"));
        assert!(!report.has_errors());
        report.error(Position::START, "e");
        assert!(report.has_errors());
    }
}
