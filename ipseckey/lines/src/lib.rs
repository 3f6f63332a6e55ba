//! Commands as typed or as they stand in a file, for `ipseckey` and `ikeadm` (spec section 7.2): lines, and the words in
//! them with their places.
//!
//! A backslash before the end of a line joins it with the next and counts as a blank; a `#` that is the first character of
//! a joined line makes it a comment; double quotes keep blanks and are removed. Words may be keys, so they wipe themselves,
//! and however long the input is, no more of it is kept than a command may have.

mod words;

pub use words::{Line, Position, Word};

use std::io::{self, BufRead};
use words::Joined;
use zeroize::{Zeroize, Zeroizing};

/// Octets of a joined line, ends of lines included.
pub const MAX_LINE: usize = 4096;

/// Words of a joined line.
pub const MAX_WORDS: usize = 4096;

/// Why there is no command.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Over [`MAX_LINE`]. Number of the last line, as for the next two.
    #[error("line {0} is too big: a command has at most {max} octets", max = MAX_LINE)]
    TooBig(u32),
    /// Over [`MAX_WORDS`].
    #[error("line {0}: too many input tokens: at most {max}", max = MAX_WORDS)]
    TooManyWords(u32),
    /// Not UTF-8.
    #[error("line {0} is not UTF-8 text")]
    NotText(u32),
    /// A quote without its partner.
    #[error("{0}: the quoted string is not closed")]
    OpenQuote(Position),
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
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u32,
    /// Room for a physical line, empty and wiped between two commands.
    room: Zeroizing<Vec<u8>>,
}

/// How a physical line ended.
enum End {
    /// With the end of the input and nothing before it.
    Input,
    /// The next line belongs to this one.
    Joined,
    /// With its own end, or that of the input.
    Line,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        // All room at once: a buffer that grew would leave copies of keys behind.
        Self { input, number: 0, room: Zeroizing::new(Vec::with_capacity(MAX_LINE)) }
    }

    /// The next command; one without words for a comment or a blank line; `None` at the end.
    ///
    /// # Errors
    /// [`LineError`]; unless that [ends the input](LineError::ends_input) the next line can be read.
    pub fn read(&mut self) -> Result<Option<Line>, LineError> {
        let mut room = std::mem::take(&mut self.room);
        let read = self.command(&mut room);
        wipe(&mut room);
        self.room = room;
        read
    }

    fn command(&mut self, octets: &mut Vec<u8>) -> Result<Option<Line>, LineError> {
        let mut joined = Joined::default();
        let first = self.number;
        loop {
            wipe(octets);
            let (end, len) = self.physical(octets)?;
            match end {
                End::Input if self.number == first => return Ok(None),
                End::Input => return joined.finish(self.number).map(Some),
                End::Joined | End::Line => self.number = self.number.saturating_add(1),
            }
            joined.add(octets, len, self.number);
            if matches!(end, End::Line) {
                return joined.finish(self.number).map(Some);
            }
        }
    }

    /// One line, without its end and without a backslash before that, and its length. Of one that is too long only what
    /// fits is kept.
    fn physical(&mut self, kept: &mut Vec<u8>) -> Result<(End, usize), LineError> {
        let (mut len, mut last) = (0, 0);
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if buffer.is_empty() {
                return Ok((if len == 0 { End::Input } else { End::Line }, len));
            }
            let (line, ended) = match buffer.iter().position(|b| *b == b'\n') {
                Some(at) => (buffer.get(..at).unwrap_or_default(), true),
                None => (buffer, false),
            };
            last = line.last().copied().unwrap_or(last);
            let room = MAX_LINE - kept.len();
            kept.extend_from_slice(line.get(..room).unwrap_or(line));
            len += line.len();
            let used = line.len() + usize::from(ended);
            self.input.consume(used);
            if ended {
                let joined = last == b'\\';
                if joined {
                    len -= 1;
                    kept.truncate(len);
                }
                return Ok((if joined { End::Joined } else { End::Line }, len));
            }
        }
    }
}

/// Empties the buffer, and leaves nothing of what was in it.
fn wipe(octets: &mut Vec<u8>) {
    octets.as_mut_slice().zeroize();
    octets.clear();
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<Result<Line, LineError>> {
        Lines::new(text.as_bytes()).collect()
    }

    fn words(text: &str) -> Vec<Vec<String>> {
        let words = |line: Line| line.words.iter().map(|w| w.text().to_owned()).collect::<Vec<_>>();
        all(text).into_iter().map(|line| words(line.unwrap())).filter(|words| !words.is_empty()).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let text = "# head \\\n still comment\n\n add esp \\\n  spi 1 # data\nflush\\\n\n";
        assert_eq!(words(text), [vec!["add", "esp", "spi", "1", "#", "data"], vec!["flush"]]);
        let read = all(text);
        let line = read[2].as_ref().unwrap();
        assert_eq!(line.words[2].at, Position { line: 5, column: 3 });
        assert_eq!(line.last, 5);
        assert_eq!(read.iter().filter(|line| line.as_ref().unwrap().words.is_empty()).count(), 2);
    }

    #[test]
    fn quotes_keep_blanks() {
        assert_eq!(words("a \"b  c\"d \"\" e\"f\" \"a b\"#c"), [["a", "b  cd", "", "ef", "a b#c"]]);
        let open = all("get \\\n rule \"a\nnext");
        assert!(matches!(open[0], Err(LineError::OpenQuote(Position { line: 2, column: 7 }))), "{open:?}");
        assert_eq!(open[1].as_ref().unwrap().words[0].text(), "next");
    }

    #[test]
    fn the_end_after_a_backslash_is_an_end() {
        assert_eq!(words("get \\\n"), [["get"]]);
        assert_eq!(words("get \\"), [["get", "\\"]]);
    }

    #[test]
    fn long_lines_are_refused_once_and_the_next_is_read() {
        for long in [format!("add \\\n{}", "x".repeat(MAX_LINE)), "y ".repeat(10 * MAX_LINE)] {
            let read = all(&format!("{long}\nflush\n"));
            assert!(matches!(read[0], Err(LineError::TooBig(_))));
            assert_eq!(read[1].as_ref().unwrap().words[0].text(), "flush");
            assert_eq!(read.len(), 2);
        }
        let comment = format!("#{}\nflush", "x".repeat(3 * MAX_LINE));
        assert_eq!(words(&comment), [["flush"]]);
        let no_comment = format!("{} \\\n# x", "x".repeat(MAX_LINE));
        assert!(matches!(all(&no_comment)[..], [Err(LineError::TooBig(2))]));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let read: Vec<_> = Lines::new(&b"add \xff\nflush\n"[..]).collect();
        assert!(matches!(read[0], Err(LineError::NotText(1))));
        assert_eq!(read[1].as_ref().unwrap().words[0].text(), "flush");
    }

    #[test]
    fn keys_are_masked() {
        let masked = |text| all(text)[0].as_ref().unwrap().masked(&["encrkey", "authkey"]);
        assert_eq!(
            masked("add esp encrkey 00ff authkey \"11 22\" dst 192.0.2.1"),
            "add esp encrkey XX authkey XX dst 192.0.2.1"
        );
        assert_eq!(masked("add esp encrky 0x00112233445566778899/80 spi 0x1001"), "add esp encrky XX spi 0x1001");
        assert!(!format!("{:?}", all("encrkey 00ff")).contains("00ff"));
        for key in ["0x0o112233445566778899aabbccddeeff", "encrkey=00112233445566778899aabbccddeeff00112233/160"] {
            assert_eq!(masked(key), "XX");
        }
        for word in ["chacha20-poly1305", "2001:0db8:0000:0000:0000:ff00:0042:8329", "deadbeef.example.net", "dead"] {
            assert_eq!(masked(word), word);
        }
    }

    proptest! {
        #[test]
        fn all_input_comes_to_an_end(text in proptest::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(Lines::new(&text[..]).count() <= text.len() + 1);
        }
    }
}
