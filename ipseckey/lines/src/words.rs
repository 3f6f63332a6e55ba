//! Words, and how characters become words.

use super::{LineError, MAX_LINE, MAX_WORDS};
use zeroize::Zeroizing;

/// A place in a text. Both count from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Octets of the shortest word that is taken for a key.
const SHORTEST_KEY: usize = 16;

/// A word.
#[derive(Clone)]
pub struct Word {
    text: Zeroizing<String>,
    /// Position of its first character, quotes included.
    pub at: Position,
}

impl Word {
    /// The word without quotes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The word for a message: `XX` for what may be a key that stands where no key should.
    #[must_use]
    pub fn shown(&self) -> &str {
        if self.may_be_key() { "XX" } else { &self.text }
    }

    /// Whether the word looks like a key, mistyped perhaps: such a word is neither shown nor looked up as a name.
    #[must_use]
    pub fn may_be_key(&self) -> bool {
        if self.text.len() < SHORTEST_KEY {
            return false;
        }
        // A quote that was forgotten makes one word of several.
        self.text.split_whitespace().any(|piece| {
            let digits = piece.split('/').next().unwrap_or_default();
            let hexadecimal = digits.bytes().filter(u8::is_ascii_hexdigit).count();
            // Addresses have dots or colons, and what is left with so many digits is no name of ours.
            digits.len() >= SHORTEST_KEY && !digits.contains(['.', ':']) && hexadecimal * 4 >= digits.len() * 3
        })
    }
}

impl std::fmt::Debug for Word {
    /// Where it is, not what: it may be a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Word({})", self.at)
    }
}

/// A joined line.
#[derive(Clone, Debug)]
pub struct Line {
    /// None for a comment and a blank line.
    pub words: Vec<Word>,
    /// Number of its last physical line, from 1.
    pub last: u32,
}

impl Line {
    /// The line that the arguments of a command line make. Columns count from the first argument, blanks between
    /// arguments as one.
    pub fn from_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut column = 1;
        let mut words = Vec::new();
        for argument in arguments {
            words.push(Word { text: Zeroizing::new(argument.to_owned()), at: Position { line: 1, column } });
            column += argument.chars().count() as u32 + 1;
        }
        Self { words, last: 1 }
    }

    /// The command as read, with `XX` in place of what may be a key and of what follows one of the words `before_keys`.
    #[must_use]
    pub fn masked(&self, before_keys: &[&str]) -> String {
        let mut out = String::new();
        let mut key_follows = false;
        for word in &self.words {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(if key_follows { "XX" } else { word.shown() });
            key_follows = before_keys.contains(&word.text());
        }
        out
    }
}

/// A joined line in the making.
#[derive(Default)]
pub(crate) struct Joined {
    octets: usize,
    words: Vec<Word>,
    quote: Option<Position>,
    /// Whether the last word may still grow.
    open: bool,
    comment: bool,
    started: bool,
    no_text: bool,
}

impl Joined {
    /// Adds a physical line of `len` octets, of which there may be fewer here when they are too many anyway.
    pub(crate) fn add(&mut self, body: &[u8], len: usize, line: u32) {
        let first = self.octets == 0;
        self.octets = self.octets.saturating_add(len).saturating_add(1);
        if self.comment {
            return;
        }
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            // Cut in the middle of a character.
            Err(error) if body.len() < len && error.error_len().is_none() => "",
            Err(_) => {
                self.no_text = true;
                return;
            }
        };
        if self.octets > MAX_LINE {
            self.comment = first && text.trim_start().starts_with('#');
            return;
        }
        for (column, c) in (1u32..).zip(text.chars()) {
            self.character(c, Position { line, column });
        }
        // The end of the line, or the backslash that stands for it, is a blank.
        self.character(' ', Position { line, column: text.chars().count() as u32 + 1 });
    }

    fn character(&mut self, c: char, at: Position) {
        if !self.started && !c.is_whitespace() {
            self.started = true;
            self.comment = c == '#';
        }
        if self.comment {
            return;
        }
        if c == '"' {
            self.quote = if self.quote.is_some() { None } else { Some(at) };
        } else if c.is_whitespace() && self.quote.is_none() {
            self.open = false;
            return;
        }
        if !self.open {
            // Room for the longest word from the start: a word that grew would leave copies of a key behind.
            self.words.push(Word { text: Zeroizing::new(String::with_capacity(128)), at });
            self.open = true;
        }
        if let (Some(word), true) = (self.words.last_mut(), c != '"') {
            reserve(&mut word.text, c.len_utf8());
            word.text.push(c);
        }
    }

    /// The line, whose last physical one was number `last`.
    pub(crate) fn finish(self, last: u32) -> Result<Line, LineError> {
        if self.comment {
            return Ok(Line { words: vec![], last });
        }
        if self.octets > MAX_LINE {
            return Err(LineError::TooBig(last));
        }
        if self.no_text {
            return Err(LineError::NotText(last));
        }
        if self.words.len() > MAX_WORDS {
            return Err(LineError::TooManyWords(last));
        }
        match self.quote {
            Some(at) => Err(LineError::OpenQuote(at)),
            None => Ok(Line { words: self.words, last }),
        }
    }
}

/// Makes room without leaving a copy of the text in freed memory.
fn reserve(text: &mut Zeroizing<String>, more: usize) {
    if text.capacity() - text.len() >= more {
        return;
    }
    let mut larger = Zeroizing::new(String::with_capacity(text.capacity() * 2 + more));
    larger.push_str(text);
    *text = larger;
}
