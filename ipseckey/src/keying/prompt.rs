//! The prompt: commands that a person types, with editing, history and completion of words.
//!
//! A backslash at the end of a line asks for another one. The history is that of the session: commands may hold keys, so
//! it is never written anywhere.

use super::complete::{Completion, complete};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::io;
use zeroize::Zeroizing;

/// What stands before each command.
pub const PROMPT: &str = "ipseckey> ";

/// Commands that the history keeps.
const HISTORY: usize = 500;

/// The prompt of a session on a terminal.
pub struct Prompt {
    editor: Editor<Words, MemHistory>,
}

impl std::fmt::Debug for Prompt {
    /// Without the history, which may hold keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prompt")
    }
}

/// What a person typed.
#[derive(Debug)]
pub enum Typed {
    /// One or more lines, with the backslashes between those that belong together.
    Text(Zeroizing<String>),
    /// Ctrl-C: whatever was typed is not wanted.
    Nothing,
    /// Ctrl-D, or the terminal is gone.
    End,
}

impl Prompt {
    /// A prompt on standard input and output, which are terminals.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn new() -> io::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map_err(failed)?
            .completion_type(CompletionType::List)
            .auto_add_history(false)
            .build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).map_err(failed)?;
        editor.set_helper(Some(Words { files: FilenameCompleter::new() }));
        Ok(Self { editor })
    }

    /// The next thing that is typed.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn read(&mut self) -> io::Result<Typed> {
        match self.editor.readline(PROMPT) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                self.editor.add_history_entry(text.as_str()).map_err(failed)?;
                Ok(Typed::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Nothing),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        ReadlineError::Errno(errno) => errno.into(),
        other => io::Error::other(other),
    }
}

/// What the editor asks about the language of commands.
struct Words {
    files: FilenameCompleter,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        match complete(line.get(..pos).unwrap_or(line)) {
            Completion::File => self.files.complete_path(line, pos),
            Completion::Words(start, words) => {
                let pair = |word: &&str| Pair { display: (*word).to_owned(), replacement: format!("{word} ") };
                Ok((start, words.iter().map(pair).collect()))
            }
        }
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if context.input().ends_with('\\') { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}
