//! Lines and words of `ipseckey` input (spec section 7.2).
//!
//! A backslash before the newline joins lines and counts as a blank; a `#` that is the first character of a joined
//! line makes it a comment; double quotes keep blanks and are removed. Words may be keys, so they wipe themselves.

use crate::policy::Position;
use zeroize::Zeroizing;

/// Octets of a joined line, newline included.
pub const MAX_LINE: usize = 4096;
/// Words of a joined line.
pub const MAX_WORDS: usize = 4096;

/// A word.
#[derive(Clone)]
pub struct Word {
    text: Zeroizing<String>,
    /// Position of its first character, quotes included.
    pub at: Position,
}

impl Word {
    /// The word without quotes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The word for a message: `XX` for what may be a key that stands where no key should.
    pub fn shown(&self) -> &str {
        if self.may_be_key() { "XX" } else { &self.text }
    }

    /// Whether the word looks like a key, mistyped perhaps: such a word is neither shown nor looked up as a name.
    pub fn may_be_key(&self) -> bool {
        let digits = self.text.split('/').next().unwrap_or_default();
        let hexadecimal = digits.bytes().filter(u8::is_ascii_hexdigit).count();
        // Addresses have dots or colons, and what is left with so many digits is no name of ours.
        digits.len() >= 16 && !digits.contains(['.', ':']) && hexadecimal * 4 >= digits.len() * 3
    }
}

impl std::fmt::Debug for Word {
    /// Where it is, not what: it may be a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Word({})", self.at)
    }
}

/// A joined line that is neither blank nor a comment.
#[derive(Clone, Debug)]
pub struct Line {
    /// At least one.
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

    /// The command as read, with `XX` in place of the keys.
    pub fn masked(&self) -> String {
        let mut out = String::new();
        let mut key_follows = false;
        for word in &self.words {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(if key_follows { "XX" } else { word.shown() });
            key_follows = matches!(word.text(), "encrkey" | "authkey");
        }
        out
    }
}

/// Why a joined line cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadProblem {
    /// Over [`MAX_LINE`].
    #[error("line {0} is too big: a command has at most {max} octets", max = MAX_LINE)]
    TooBig(u32),
    /// Over [`MAX_WORDS`].
    #[error("line {0}: too many input tokens: at most {max}", max = MAX_WORDS)]
    TooManyWords(u32),
}

/// Whether more is to come: the text ends in a backslash.
pub fn continues(line: &str) -> bool {
    line.strip_suffix('\n').unwrap_or(line).ends_with('\\')
}

/// The joined lines of `text`.
pub fn lines(text: &str) -> Vec<Result<Line, ReadProblem>> {
    let mut found = Vec::new();
    let mut joined = Joined::default();
    for (number, raw) in (1u32..).zip(text.split_inclusive('\n')) {
        let line = raw.strip_suffix('\n').unwrap_or(raw);
        let (body, more) = match line.strip_suffix('\\').filter(|_| raw.ends_with('\n')) {
            Some(body) => (body, true),
            None => (line, false),
        };
        joined.add(body, number);
        if !more {
            found.extend(std::mem::take(&mut joined).finish(number));
        }
    }
    let last = text.split_inclusive('\n').count() as u32;
    found.extend(joined.finish(last));
    found
}

#[derive(Default)]
struct Joined {
    octets: usize,
    words: Vec<Word>,
    quoted: bool,
    /// Whether the last word may still grow.
    open: bool,
    comment: bool,
    started: bool,
}

impl Joined {
    fn add(&mut self, body: &str, line: u32) {
        self.octets += body.len() + 1;
        if self.octets > MAX_LINE {
            return;
        }
        for (column, c) in (1u32..).zip(body.chars()) {
            self.character(c, Position { line, column });
        }
        // The end of the line, or the backslash that stands for it, is a blank.
        self.character(' ', Position { line, column: body.chars().count() as u32 + 1 });
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
            self.quoted = !self.quoted;
        } else if c.is_whitespace() && !self.quoted {
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

    fn finish(self, last: u32) -> Option<Result<Line, ReadProblem>> {
        if self.octets > MAX_LINE && !self.comment {
            return Some(Err(ReadProblem::TooBig(last)));
        }
        if self.words.len() > MAX_WORDS {
            return Some(Err(ReadProblem::TooManyWords(last)));
        }
        if self.words.is_empty() {
            return None;
        }
        Some(Ok(Line { words: self.words, last }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        lines(text).into_iter().map(|l| l.unwrap().words.iter().map(|w| w.text().to_owned()).collect()).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let text = "# head \\\n still comment\n\n add esp \\\n  spi 1 # data\nflush\\\n\n";
        assert_eq!(words(text), [vec!["add", "esp", "spi", "1", "#", "data"], vec!["flush"]]);
        let read = lines(text);
        let line = read[0].as_ref().unwrap();
        assert_eq!(line.words[2].at, Position { line: 5, column: 3 });
        assert_eq!(line.last, 5);
    }

    #[test]
    fn quotes_keep_blanks() {
        assert_eq!(words("a \"b  c\"d \"\" e\"f"), [["a", "b  cd", "", "ef "]]);
    }

    #[test]
    fn long_lines_are_refused_once_and_the_next_is_read() {
        let long = format!("add \\\n{}\nflush\n", "x".repeat(MAX_LINE));
        let read = lines(&long);
        assert_eq!(read[0].as_ref().unwrap_err(), &ReadProblem::TooBig(2));
        assert_eq!(read[1].as_ref().unwrap().words[0].text(), "flush");
    }

    #[test]
    fn keys_are_masked() {
        let read = lines("add esp encrkey 00ff authkey \"11 22\" dst 192.0.2.1");
        let line = read[0].as_ref().unwrap();
        assert_eq!(line.masked(), "add esp encrkey XX authkey XX dst 192.0.2.1");
        let typo = lines("add esp encrky 0x00112233445566778899/80 spi 0x1001");
        assert_eq!(typo[0].as_ref().unwrap().masked(), "add esp encrky XX spi 0x1001");
        assert!(!format!("{line:?}").contains("00ff"));
        for key in ["0x0o112233445566778899aabbccddeeff", "encrkey=00112233445566778899aabbccddeeff00112233/160"] {
            assert_eq!(lines(key)[0].as_ref().unwrap().masked(), "XX");
        }
        for word in ["chacha20-poly1305", "2001:0db8:0000:0000:0000:ff00:0042:8329", "deadbeef.example.net", "dead"] {
            assert_eq!(lines(word)[0].as_ref().unwrap().masked(), word);
        }
    }
}
