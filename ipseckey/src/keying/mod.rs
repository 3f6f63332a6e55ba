//! The commands of `ipseckey` and what it prints (spec section 7).
//!
//! [`command_lines`] joins lines and splits words, [`parser`] turns words into a [`request`] with every local check,
//! [`convert`] turns a request into what the SADB takes, [`session`] does it and with `-v` shows what is [`sent`], [`dump`] and [`save`] print SAs,
//! [`monitor`] messages, [`labels`] names cookies,
//! [`script`] reads a file of commands, [`prompt`] a person's, whose words [`complete`] finishes. Keys are held in memory that
//! wipes itself, and no message shows them: where the original echoes the command with its keys, [`masked`](command_lines::Line::masked)
//! leaves them out.

pub mod complete;
pub mod convert;
pub mod dump;
pub mod hexkey;
pub mod labels;
pub mod monitor;
pub mod parser;
pub mod prompt;
pub mod request;
pub mod save;
pub mod script;
pub mod sent;
pub mod session;
pub mod times;
pub mod tokens;
mod values;
pub mod wiping;

use crate::policy::Position;

/// Something wrong with a command, or worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub at: Position,
    /// What. Never holds a key.
    pub text: String,
}

impl Message {
    /// A message about the word at `at`.
    pub fn new(at: Position, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod tests;
