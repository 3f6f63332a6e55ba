//! The files of in.ikev2d: ikev2.config (rules) and ikev2.preshared (keys), in the grammars of Solaris.
//!
//! A file is read whole before anything of it is used, and every error in it is reported at once, with line, column and
//! what was expected. Rules come first, keys are attached to them by label; whoever reads one of the two again attaches
//! again.
//!
//! Nothing here opens a socket or knows a state of IKE; the result is the core's [`Rule`](crate::core::api::Rule) with the
//! addresses it is chosen by.

mod address;
mod algorithms;
mod file;
mod keywords;
mod lexer;
mod parse;
mod preshared;
mod rules;
mod source;

use std::path::Path;

use crate::pki::KeyStoreError;
pub use address::{AddressError, AddressSpec};
pub use algorithms::{ciphers, groups, integrity};
pub use file::{FileError, MAX_FILE};
pub(crate) use file::{read_secret_octets, read_trusted_octets};
pub use preshared::{PresharedEntry, PresharedKeys};
pub use rules::{ConfiguredRule, Defaults, MAX_LABEL, RuleSet};
pub use source::{Finding, Position, Report, Severity, Spanned};

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key store could not be read.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// It could not be understood.
    #[error("{0}")]
    Content(Report),
}

impl ConfigError {
    /// Whether the permissions of the file are what is wrong: of the daemon, or of others.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::File(error) => error.is_permission(),
            Self::KeyStore(error) => error.is_permission(),
            Self::Content(_) => false,
        }
    }
}

/// A file that was understood, and what is to be said about it nevertheless.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The content.
    pub value: T,
    /// Warnings only; often empty.
    pub warnings: Report,
}

/// Reads ikev2.config from `path`.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn load_rules(path: &Path) -> Result<Loaded<RuleSet>, ConfigError> {
    parse_rules(&path.display().to_string(), &file::read_text(path)?).map_err(ConfigError::Content)
}

/// Reads ikev2.preshared from `path`, which must be closed to everybody else.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn load_preshared(path: &Path) -> Result<Loaded<PresharedKeys>, ConfigError> {
    parse_preshared(&path.display().to_string(), &file::read_secret(path)?).map_err(ConfigError::Content)
}

/// Reads the text of an ikev2.config called `name`.
///
/// # Errors
/// The findings, at least one of them an error.
pub fn parse_rules(name: &str, text: &str) -> Result<Loaded<RuleSet>, Report> {
    let mut report = Report::new(name);
    let file = parse::parse(text, &mut report);
    let value = rules::build(&file, &mut report);
    judge(value, report.finish(Some(text)))
}

/// Reads the text of an ikev2.preshared called `name`.
///
/// # Errors
/// The findings, at least one of them an error; none repeats a word of the text.
pub fn parse_preshared(name: &str, text: &str) -> Result<Loaded<PresharedKeys>, Report> {
    let mut report = Report::new(name);
    let value = preshared::parse(text, &mut report);
    judge(value, report.finish(None))
}

fn judge<T>(value: T, report: Report) -> Result<Loaded<T>, Report> {
    if report.has_errors() { Err(report) } else { Ok(Loaded { value, warnings: report }) }
}

#[cfg(test)]
mod tests;
