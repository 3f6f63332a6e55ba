//! The words of the IKE configuration files: free format, `#` and `//` comments outside quotes, a backslash before the
//! end of a line as white space, double-quoted strings on one line, and the separators that end a word without white
//! space. Knows no keyword.
//!
//! `-` is part of a word (`aes-cbc`) except where an address is read (`192.0.2.1-192.0.2.9`), so the reader says with
//! [`Mode`] what it is about to read.

use std::str::Chars;

use zeroize::Zeroizing;

use super::source::{Position, Spanned};

/// One word. Strings and words may be secrets, hence the wiping container around strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `{`
    Open,
    /// `}`
    Close,
    /// `(`
    ParenOpen,
    /// `)`
    ParenClose,
    /// `/`
    Slash,
    /// `=`
    Equals,
    /// `-`, in [`Mode::Address`] only
    Dash,
    /// Anything else without quotes
    Word(&'a str),
    /// A quoted string, quotes removed and escapes resolved
    Text(Zeroizing<String>),
    /// The end of the file
    End,
}

/// What the reader expects next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Anything: `-` belongs to words
    Plain,
    /// An address, prefix or range: `-` stands alone
    Address,
}

/// A string that is not closed on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unterminated {
    pub(super) at: Position,
}

/// A cursor over a text. Cloning it marks a place to come back to.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    rest: Chars<'a>,
    at: Position,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // A byte order mark is not content.
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text).chars(), at: Position::START }
    }

    /// Where the cursor stands.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// The next word. After an unterminated string the cursor stands at the end of that line.
    pub(super) fn next(&mut self, mode: Mode) -> Result<Spanned<Token<'a>>, Unterminated> {
        self.skip_blanks();
        let at = self.at;
        let text = self.rest.as_str();
        let Some(first) = self.rest.clone().next() else {
            return Ok(Spanned::new(Token::End, at));
        };
        let single = match first {
            '{' => Some(Token::Open),
            '}' => Some(Token::Close),
            '(' => Some(Token::ParenOpen),
            ')' => Some(Token::ParenClose),
            '/' => Some(Token::Slash),
            '=' => Some(Token::Equals),
            '-' if mode == Mode::Address => Some(Token::Dash),
            _ => None,
        };
        if let Some(token) = single {
            self.bump();
            return Ok(Spanned::new(token, at));
        }
        if first == '"' {
            self.bump();
            return self.string(at).map(|text| Spanned::new(Token::Text(text), at));
        }
        let end = text.find(|c: char| ends_word(c, mode)).unwrap_or(text.len());
        let word = text.get(..end).unwrap_or_default();
        // A lone backslash in the middle of a line is not white space; it becomes a word of its own, which no reader knows.
        let word = if word.is_empty() { text.get(..first.len_utf8()).unwrap_or_default() } else { word };
        for _ in word.chars() {
            self.bump();
        }
        Ok(Spanned::new(Token::Word(word), at))
    }

    /// The next word without moving.
    pub(super) fn peek(&self, mode: Mode) -> Result<Spanned<Token<'a>>, Unterminated> {
        self.clone().next(mode)
    }

    fn string(&mut self, at: Position) -> Result<Zeroizing<String>, Unterminated> {
        // Sized once: growing would leave copies of a secret behind.
        let line = self.rest.as_str().find('\n').unwrap_or(self.rest.as_str().len());
        let mut out = Zeroizing::new(String::with_capacity(line));
        loop {
            let next = self.rest.clone().next();
            match next {
                None | Some('\n') => return Err(Unterminated { at }),
                Some('"') => {
                    self.bump();
                    return Ok(out);
                }
                Some('\\') => {
                    self.bump();
                    match self.rest.clone().next() {
                        Some(escaped @ ('"' | '\\')) => {
                            self.bump();
                            out.push(escaped);
                        }
                        // An unknown escape stands for itself: `\,` reaches the reader of a distinguished name whole.
                        _ => out.push('\\'),
                    }
                }
                Some(other) => {
                    self.bump();
                    out.push(other);
                }
            }
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            let text = self.rest.as_str();
            if text.starts_with('#') || text.starts_with("//") {
                while self.rest.clone().next().is_some_and(|c| c != '\n') {
                    self.bump();
                }
            } else if text.starts_with("\\\n") || text.starts_with("\\\r\n") || text.starts_with(char::is_whitespace) {
                self.bump();
            } else {
                return;
            }
        }
    }

    fn bump(&mut self) {
        match self.rest.next() {
            None => {}
            Some('\n') => self.at = Position { line: self.at.line.saturating_add(1), column: 1 },
            Some(_) => self.at.column = self.at.column.saturating_add(1),
        }
    }
}

fn ends_word(c: char, mode: Mode) -> bool {
    c.is_whitespace()
        || matches!(c, '{' | '}' | '(' | ')' | '/' | '=' | '"' | '#' | '\\')
        || (c == '-' && mode == Mode::Address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str, mode: Mode) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(text);
        let mut out = Vec::new();
        loop {
            match lexer.next(mode).unwrap().value {
                Token::End => return out,
                token => out.push(token),
            }
        }
    }

    fn text(s: &str) -> Token<'_> {
        Token::Text(Zeroizing::new(s.to_owned()))
    }

    #[test]
    fn separators_end_words() {
        use Token::{Close, Open, ParenClose, ParenOpen, Word};
        assert_eq!(
            all("a{aes-cbc(128..256)}", Mode::Plain),
            [Word("a"), Open, Word("aes-cbc"), ParenOpen, Word("128..256"), ParenClose, Close]
        );
    }

    #[test]
    fn dash_separates_in_addresses_only() {
        assert_eq!(all("10.0.0.1-10.0.0.2", Mode::Plain), [Token::Word("10.0.0.1-10.0.0.2")]);
        assert_eq!(
            all("10.0.0.1-10.0.0.2", Mode::Address),
            [Token::Word("10.0.0.1"), Token::Dash, Token::Word("10.0.0.2")]
        );
    }

    #[test]
    fn comments_and_continuation_are_blank() {
        assert_eq!(
            all("a # x\nb // y \"\nc \\\nd/e", Mode::Plain),
            [Token::Word("a"), Token::Word("b"), Token::Word("c"), Token::Word("d"), Token::Slash, Token::Word("e")]
        );
    }

    #[test]
    fn strings_keep_comment_signs_and_unknown_escapes() {
        assert_eq!(all(r#""a # // b""#, Mode::Plain), [text("a # // b")]);
        assert_eq!(all(r#""O=X\, Y\\, \"Z\"""#, Mode::Plain), [text(r#"O=X\, Y\, "Z""#)]);
        assert_eq!(all(r#""one""two""#, Mode::Plain), [text("one"), text("two")]);
    }

    #[test]
    fn open_string_is_an_error_and_does_not_swallow_the_file() {
        let mut lexer = Lexer::new("  \"abc\nnext");
        assert_eq!(lexer.next(Mode::Plain), Err(Unterminated { at: Position { line: 1, column: 3 } }));
        assert_eq!(
            lexer.next(Mode::Plain).unwrap(),
            Spanned::new(Token::Word("next"), Position { line: 2, column: 1 })
        );
    }

    #[test]
    fn columns_count_characters() {
        let mut lexer = Lexer::new("\"äö\" x");
        lexer.next(Mode::Plain).unwrap();
        assert_eq!(lexer.next(Mode::Plain).unwrap().at, Position { line: 1, column: 6 });
    }

    proptest! {
        #[test]
        fn always_ends(input in "\\PC*|[\\x00-\\x7f]{0,200}") {
            for mode in [Mode::Plain, Mode::Address] {
                let mut lexer = Lexer::new(&input);
                let mut steps = 0;
                while !matches!(lexer.next(mode), Ok(Spanned { value: Token::End, .. })) {
                    steps += 1;
                    prop_assert!(steps <= input.len() + 1);
                }
            }
        }
    }
}
