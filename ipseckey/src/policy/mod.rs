//! ipsecinit.conf: from the text of a policy file to the rules that the data path compares (spec section 4).
//!
//! [`lexer`] splits the text, [`parser`] finds the rules in it, [`entry`] gives them their meaning with the help of
//! [`selectors`] and [`actions`], [`compile`] turns entries into rules in the order of precedence, [`listing`] prints
//! rules in force, [`cache`] keeps the text of what was loaded, [`load`] changes what is in force, [`report`]
//! says what was found. Each stage reports everything that is wrong, with line and column; a file with one error installs
//! nothing.

pub mod actions;
pub mod cache;
pub mod compile;
pub mod entry;
pub mod lexer;
pub mod listing;
pub mod load;
pub mod parser;
pub mod report;
pub mod selectors;

pub use command_lines::Position;

use crate::names::Names;

/// What a "Bad", "Duplicate" or "Requires" error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the text it prints")]
pub enum Subject {
    SourceAddress,
    DestinationAddress,
    SourcePort,
    DestinationPort,
    SourceMask,
    DestinationMask,
    UpperLayerProtocol,
    AuthenticationAlgorithm,
    EncryptionAlgorithm,
    EspAuthenticationAlgorithm,
    Sa,
    Direction,
    IcmpType,
    IcmpCode,
    Negotiate,
    Tunnel,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SourceAddress => "Source Address",
            Self::DestinationAddress => "Destination Address",
            Self::SourcePort => "Source Port",
            Self::DestinationPort => "Destination Port",
            Self::SourceMask => "Source Mask",
            Self::DestinationMask => "Destination Mask",
            Self::UpperLayerProtocol => "Upper Layer Protocol",
            Self::AuthenticationAlgorithm => "Authentication Algorithm",
            Self::EncryptionAlgorithm => "Encryption Algorithm",
            Self::EspAuthenticationAlgorithm => "ESP Authentication Algorithm",
            Self::Sa => "SA",
            Self::Direction => "Direction",
            Self::IcmpType => "ICMP type",
            Self::IcmpCode => "ICMP code",
            Self::Negotiate => "Negotiate",
            Self::Tunnel => "Tunnel",
        })
    }
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the text it prints")]
pub enum Problem {
    #[error("Bad {0} on line {line}: {1}", line = .2.line)]
    Bad(Subject, String, Position),
    #[error("Duplicate {0} on line {line}: '{1}' says again what was said before", line = .2.line)]
    Duplicate(Subject, String, Position),
    #[error("Requires {0} on line {line}: {1}", line = .2.line)]
    Requires(Subject, String, Position),
    #[error("Invalid pattern on line {line}: unexpected '{0}'", line = .1.line)]
    InvalidPattern(String, Position),
    #[error("Invalid properties on line {line}: unexpected '{0}'", line = .1.line)]
    InvalidProperty(String, Position),
    #[error(
        "Invalid action on line {line}: '{0}' is none of ipsec, pass, bypass, drop, apply, permit",
        line = .1.line
    )]
    InvalidAction(String, Position),
    #[error("Error before or at line {line}: {0}", line = .1.line)]
    Structure(String, Position),
    #[error("Missing action on line {line}: 'ipsec' or another is to follow the '}}'", line = .0.line)]
    MissingAction(Position),
    #[error("Missing or incomplete properties on line {line}: {0}", line = .1.line)]
    IncompleteProperties(String, Position),
    #[error(
        "Too many tokens on line {line}: at most {max} between braces, and '{0}' is one more",
        line = .1.line,
        max = parser::MAX_TOKENS
    )]
    TooManyTokens(String, Position),
    #[error("Line {line} is too long: at most {max} octets", line = .0.line, max = lexer::MAX_LINE)]
    LineTooLong(Position),
    #[error("The rule on line {line} is too long: at most {max} octets", line = .0.line, max = parser::MAX_RULE)]
    RuleTooLong(Position),
    #[error("tunnel and negotiate must occur together, on line {line}: '{0}' stands alone", line = .1.line)]
    TunnelWithoutNegotiate(String, Position),
    #[error(
        "Combined-mode encryption on line {line}: {0} authenticates by itself, remove encr_auth_algs",
        line = .1.line
    )]
    CombinedWithAuthentication(&'static str, Position),
    #[error("Direction conflicts with the action '{0}' on line {line}: 'dir {1}'", line = .2.line)]
    DirectionConflict(String, String, Position),
    #[error("line {line}: not UTF-8 text", line = .0.line)]
    NotText(Position),
}

impl Problem {
    /// A keyword that says what another one has said.
    fn duplicate(subject: Subject, word: &lexer::Token<'_>) -> Self {
        Self::Duplicate(subject, word.text.to_owned(), word.at)
    }

    /// Where it is.
    pub fn position(&self) -> Position {
        match self {
            Self::Bad(_, _, at)
            | Self::Duplicate(_, _, at)
            | Self::Requires(_, _, at)
            | Self::InvalidPattern(_, at)
            | Self::InvalidProperty(_, at)
            | Self::InvalidAction(_, at)
            | Self::Structure(_, at)
            | Self::MissingAction(at)
            | Self::IncompleteProperties(_, at)
            | Self::TooManyTokens(_, at)
            | Self::LineTooLong(at)
            | Self::RuleTooLong(at)
            | Self::TunnelWithoutNegotiate(_, at)
            | Self::CombinedWithAuthentication(_, at)
            | Self::DirectionConflict(_, _, at)
            | Self::NotText(at) => *at,
        }
    }
}

/// Something that loads but probably not as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub at: Position,
    /// What, for the user.
    pub text: String,
}

/// Text of a malformed rule, for the echo that follows its errors.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Malformed {
    /// First line of the text.
    pub line: u32,
    /// The text as typed.
    pub text: String,
}

/// A policy file that was read.
#[derive(Clone, Debug, Default)]
pub struct PolicyFile {
    /// Entries without errors, in file order.
    pub entries: Vec<entry::Entry>,
    /// Everything that is wrong, in order of position.
    pub problems: Vec<Problem>,
    /// Warnings, in order of position.
    pub warnings: Vec<Warning>,
    /// The rules that the problems are in.
    pub malformed: Vec<Malformed>,
}

/// Reads a policy file. Never fails as a whole: look at [`PolicyFile::problems`].
pub fn parse(text: &[u8], names: &dyn Names) -> PolicyFile {
    let mut file = PolicyFile::default();
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let before = text.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|b| **b == b'\n').count() as u32;
            let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
            let column = 1 + String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count() as u32;
            file.problems.push(Problem::NotText(Position { line, column }));
            return file;
        }
    };
    let tokens = lexer::tokens(text, &mut file.problems);
    for rule in parser::rules(text, &tokens) {
        let before = file.problems.len();
        file.problems.extend(rule.problems);
        if file.problems.len() == before
            && let Some(entry) = entry::build(&rule.syntax, names, &mut file.problems, &mut file.warnings)
        {
            file.entries.push(entry);
        } else {
            let text = rule.syntax.text.to_owned();
            file.malformed.push(Malformed { line: rule.syntax.at.line, text });
        }
    }
    file.problems.sort_by_key(Problem::position);
    file.warnings.sort_by_key(|w| w.at);
    file
}

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod tests;
