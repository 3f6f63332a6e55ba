//! ikev2.config: from words to a syntax tree. Checks that every keyword stands where it may, that its value has the right
//! form, and that it is not repeated; what the values mean together is the business of [`super::rules`].
//!
//! After an error the reader goes on at the next keyword, so that one round shows everything.

use std::net::IpAddr;
use std::time::Duration;

use super::address::{self, AddressSpec};
use super::algorithms::{self, Cipher, Hash};
use super::keywords::{self, Entry, Keyword, Scope, Shape};
use super::lexer::{Lexer, Mode, Token};
use super::source::{Position, Report, Spanned};
use crate::crypto::sign::KeyKind;

/// A whole file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) globals: Vec<Item>,
    pub(super) rules: Vec<Block>,
    /// False when an item outside every block was left out for an error.
    pub(super) complete: bool,
}

/// The items of one `{ }`.
#[derive(Debug)]
pub(super) struct Block {
    /// The opening brace.
    pub(super) at: Position,
    pub(super) items: Vec<Item>,
    /// False when an item was left out for an error: then what is missing is not to be complained about.
    pub(super) complete: bool,
}

/// One keyword with its value.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) keyword: Keyword,
    /// The keyword.
    pub(super) at: Position,
    pub(super) value: Spanned<Value>,
}

/// The value of an item.
#[derive(Debug)]
pub(super) enum Value {
    Number(u64),
    Seconds(Duration),
    Text(String),
    Address(AddressSpec),
    Identity(Identity),
    Method(Method),
    Cipher(Cipher),
    Hash(Hash),
    Transform(Block),
}

/// An identity as written.
#[derive(Debug)]
pub(super) enum Identity {
    Any,
    Named { kind: IdKind, value: String },
}

/// The types of identities the file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdKind {
    Ip,
    Fqdn,
    Email,
    Dn,
    KeyId,
}

/// How to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Preshared,
    /// A certificate with a key of one family, or of any.
    Cert(Option<KeyKind>),
    /// Known, and not there.
    Dss,
}

/// Words of identity types, each in the upper and the lower form.
static ID_KINDS: &[(&str, &str, IdKind)] = &[
    ("IP", "ip", IdKind::Ip),
    ("FQDN", "fqdn", IdKind::Fqdn),
    ("DNS", "dns", IdKind::Fqdn),
    ("EMAIL", "email", IdKind::Email),
    ("MBOX", "mbox", IdKind::Email),
    ("DN", "dn", IdKind::Dn),
    ("KEY_ID", "key_id", IdKind::KeyId),
];

/// Reads all of `text`; findings go to `report`.
pub(super) fn parse(text: &str, report: &mut Report) -> File {
    let mut parser = Parser { lexer: Lexer::new(text), report };
    let mut file = File { globals: Vec::new(), rules: Vec::new(), complete: true };
    loop {
        let Some(token) = parser.peek(Mode::Plain) else {
            file.complete = false;
            continue;
        };
        match token.value {
            Token::End => return file,
            Token::Open => {
                parser.advance();
                file.rules.push(parser.block(Scope::Rule, token.at));
            }
            _ => {
                file.complete &= parser.item(Scope::Global, &mut file.globals);
            }
        }
    }
}

/// A value could not be read; the finding is in the report.
struct Broken;

struct Parser<'a, 'r> {
    lexer: Lexer<'a>,
    report: &'r mut Report,
}

impl<'a> Parser<'a, '_> {
    /// The next word without moving; `None` after an unterminated string, which is reported and skipped.
    fn peek(&mut self, mode: Mode) -> Option<Spanned<Token<'a>>> {
        match self.lexer.peek(mode) {
            Ok(token) => Some(token),
            Err(_) => {
                self.take(mode);
                None
            }
        }
    }

    fn take(&mut self, mode: Mode) -> Option<Spanned<Token<'a>>> {
        match self.lexer.next(mode) {
            Ok(token) => Some(token),
            Err(open) => {
                self.report.error(open.at, "this string is not closed on its line; expected '\"'");
                None
            }
        }
    }

    fn advance(&mut self) {
        self.take(Mode::Plain);
    }

    /// The items up to the closing brace; the opening one is behind us.
    fn block(&mut self, scope: Scope, at: Position) -> Block {
        let mut block = Block { at, items: Vec::new(), complete: true };
        loop {
            let Some(token) = self.peek(Mode::Plain) else {
                block.complete = false;
                continue;
            };
            match token.value {
                Token::Close => {
                    self.advance();
                    return block;
                }
                Token::End => {
                    self.report.error(at, format!("this block is not closed; expected \"}}\" before {}", token.at));
                    block.complete = false;
                    return block;
                }
                // A brace at the start of a line where no item may begin with one: the closing brace before it is
                // missing. Reading on as a new rule keeps the errors few.
                Token::Open if token.at.column == 1 => {
                    self.report.error(at, format!("this block is not closed; expected \"}}\" before {}", token.at));
                    block.complete = false;
                    return block;
                }
                _ => block.complete &= self.item(scope, &mut block.items),
            }
        }
    }

    /// One item; `false` when it was left out.
    fn item(&mut self, scope: Scope, items: &mut Vec<Item>) -> bool {
        let Some(token) = self.take(Mode::Plain) else {
            self.recover(scope);
            return false;
        };
        let at = token.at;
        let Token::Word(word) = token.value else {
            self.report.error(at, format!("expected a keyword, found {}", describe(&token.value)));
            if token.value == Token::Open {
                self.skip_block(1);
            }
            self.recover(scope);
            return false;
        };
        let Some(entry) = keywords::lookup(word) else {
            self.report.error(at, keywords::unknown(word, scope));
            self.recover(scope);
            return false;
        };
        if !entry.allowed_in(scope) {
            self.report.error(at, format!("\"{word}\" may not stand {}; it belongs {}", scope.name(), entry.places()));
            // Read and dropped: its value would give errors of its own. A block is skipped and not read, since blocks that
            // stand in each other would be read in each other, as deep as the file has them.
            if entry.shape == Shape::Transform {
                if self.peek(Mode::Plain).is_some_and(|token| token.value == Token::Open) {
                    self.advance();
                    self.skip_block(1);
                }
                return false;
            }
            let before = self.report.findings().len();
            if self.value(entry).is_err() && self.report.findings().len() > before {
                self.recover(scope);
            }
            return false;
        }
        let value_at = self.lexer.peek(Mode::Plain).map_or_else(|open| open.at, |next| next.at);
        let Ok(value) = self.value(entry) else {
            self.recover(scope);
            return false;
        };
        if !entry.repeats
            && let Some(first) = items.iter().find(|item| item.keyword == entry.keyword)
        {
            self.report.error(at, keywords::repeated(word, first.at));
            return false;
        }
        items.push(Item { keyword: entry.keyword, at, value: Spanned::new(value, value_at) });
        true
    }

    /// Skips to a word that can begin an item of this scope or end it.
    fn recover(&mut self, scope: Scope) {
        loop {
            let Some(token) = self.peek(Mode::Plain) else { continue };
            match token.value {
                Token::End => return,
                Token::Close if scope != Scope::Global => return,
                Token::Open if scope == Scope::Global || token.at.column == 1 => return,
                Token::Open => {
                    self.advance();
                    self.skip_block(1);
                }
                Token::Word(word) if keywords::is_known(word) => return,
                _ => self.advance(),
            }
        }
    }

    /// Skips to behind the brace that closes `depth` open ones.
    fn skip_block(&mut self, mut depth: u32) {
        while depth > 0 {
            match self.take(Mode::Plain).map(|token| token.value) {
                Some(Token::Open) => depth = depth.saturating_add(1),
                Some(Token::Close) => depth -= 1,
                Some(Token::End) => return,
                _ => {}
            }
        }
    }

    fn value(&mut self, entry: &'static Entry) -> Result<Value, Broken> {
        match entry.shape {
            Shape::Number => self.word("a number", |word| number(word).map(Value::Number)),
            Shape::Seconds => {
                self.word("a number of seconds, with a fraction if need be", |word| seconds(word).map(Value::Seconds))
            }
            Shape::Method => self.word("preshared, cert, rsa_sig, ecdsa_sig or eddsa_sig", |word| {
                let method = match word {
                    "preshared" => Method::Preshared,
                    "cert" => Method::Cert(None),
                    "rsa_sig" => Method::Cert(Some(KeyKind::Rsa)),
                    "ecdsa_sig" => Method::Cert(Some(KeyKind::Ecdsa)),
                    "eddsa_sig" => Method::Cert(Some(KeyKind::Eddsa)),
                    "dss_sig" => Method::Dss,
                    _ => return None,
                };
                Some(Value::Method(method))
            }),
            Shape::Text => self.text().map(Value::Text),
            Shape::Address => self.address().map(Value::Address),
            Shape::Identity => self.identity().map(Value::Identity),
            Shape::Cipher => self.cipher().map(Value::Cipher),
            Shape::Hash => self.hash().map(Value::Hash),
            Shape::Transform => {
                let at = self.expect(&Token::Open, "\"{\"")?;
                Ok(Value::Transform(self.block(Scope::Transform, at)))
            }
        }
    }

    /// Takes the next word if it is what is expected; leaves it where it is otherwise, as it may be the next keyword.
    fn expect(&mut self, wanted: &Token<'_>, name: &str) -> Result<Position, Broken> {
        let token = self.peek(Mode::Plain).ok_or(Broken)?;
        if token.value == *wanted {
            self.advance();
            return Ok(token.at);
        }
        self.wrong(&token, name)
    }

    fn wrong<T>(&mut self, token: &Spanned<Token<'_>>, expected: &str) -> Result<T, Broken> {
        self.report.error(token.at, format!("expected {expected}, found {}", describe(&token.value)));
        Err(Broken)
    }

    fn word<T>(&mut self, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Broken> {
        let token = self.peek(Mode::Plain).ok_or(Broken)?;
        if let Token::Word(word) = token.value
            && let Some(value) = read(word)
        {
            self.advance();
            return Ok(value);
        }
        self.wrong(&token, expected)
    }

    fn text(&mut self) -> Result<String, Broken> {
        let token = self.peek(Mode::Plain).ok_or(Broken)?;
        let Token::Text(text) = &token.value else {
            return self.wrong(&token, "a string in double quotes");
        };
        let text = text.to_string();
        self.advance();
        Ok(text)
    }

    fn address(&mut self) -> Result<AddressSpec, Broken> {
        let (first, at) = self.one_address()?;
        let spec = match self.peek(Mode::Address).ok_or(Broken)?.value {
            Token::Slash => {
                self.take(Mode::Address);
                let token = self.peek(Mode::Address).ok_or(Broken)?;
                let Token::Word(mask) = token.value else {
                    return self.wrong(&token, "a prefix length or a mask");
                };
                self.take(Mode::Address);
                AddressSpec::masked(first, mask).map_err(|error| (token.at, error))
            }
            Token::Dash => {
                self.take(Mode::Address);
                let (last, _) = self.one_address()?;
                AddressSpec::range(first, last).map_err(|error| (at, error))
            }
            _ => Ok(AddressSpec::Host(first)),
        };
        spec.map_err(|(at, error)| {
            self.report.error(at, error.to_string());
            Broken
        })
    }

    fn one_address(&mut self) -> Result<(IpAddr, Position), Broken> {
        let token = self.peek(Mode::Address).ok_or(Broken)?;
        if let Token::Word(word) = token.value
            && let Ok(address) = address::parse_address(word)
        {
            self.take(Mode::Address);
            return Ok((address, token.at));
        }
        self.wrong(&token, "an IPv4 or IPv6 address in numbers")
    }

    fn identity(&mut self) -> Result<Identity, Broken> {
        let expected = "ANY or an identity type (IP, FQDN, DNS, EMAIL, DN, KEY_ID) before = \"value\"";
        let kind = self.word(expected, |word| match word {
            "ANY" | "any" => Some(None),
            _ => ID_KINDS
                .iter()
                .find(|(upper, lower, _)| word == *upper || word == *lower)
                .map(|(_, _, kind)| Some(*kind)),
        })?;
        let Some(kind) = kind else { return Ok(Identity::Any) };
        self.expect(&Token::Equals, "\"=\"")?;
        Ok(Identity::Named { kind, value: self.text()? })
    }

    fn cipher(&mut self) -> Result<Cipher, Broken> {
        let token = self.peek(Mode::Plain).ok_or(Broken)?;
        let Token::Word(word) = token.value else {
            return self.wrong(&token, "the name of a cipher");
        };
        let kind = match algorithms::cipher(word) {
            Ok(kind) => kind,
            Err(message) => {
                self.advance();
                self.report.error(token.at, message);
                self.key_range()?;
                return Err(Broken);
            }
        };
        self.advance();
        let Some(range) = self.key_range()? else { return Ok(Cipher::whole(kind)) };
        Cipher::with_range(kind, range.value).map_err(|message| {
            self.report.error(range.at, message);
            Broken
        })
    }

    /// `(n)` or `(low..high)`.
    fn key_range(&mut self) -> Result<Option<Spanned<(u64, u64)>>, Broken> {
        if self.peek(Mode::Plain).ok_or(Broken)?.value != Token::ParenOpen {
            return Ok(None);
        }
        self.advance();
        let at = self.lexer.position();
        // `128..256` is one word; `128 .. 256` is three.
        let mut text = String::new();
        while let Some(Spanned { value: Token::Word(word), .. }) = self.peek(Mode::Plain) {
            text.push_str(word);
            self.advance();
        }
        self.expect(&Token::ParenClose, "\")\"")?;
        let (low, high) = text.split_once("..").unwrap_or((&text, &text));
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            self.report.error(at, "expected a key length in bits or a range of them, as in (256) or (128..256)");
            return Err(Broken);
        };
        Ok(Some(Spanned::new((low, high), at)))
    }

    fn hash(&mut self) -> Result<Hash, Broken> {
        let token = self.peek(Mode::Plain).ok_or(Broken)?;
        let Token::Word(word) = token.value else {
            return self.wrong(&token, &format!("one of {}", algorithms::hashes()));
        };
        self.advance();
        algorithms::hash(word).map_err(|message| {
            self.report.error(token.at, message);
            Broken
        })
    }
}

fn describe(token: &Token<'_>) -> String {
    match token {
        Token::Open => "\"{\"".to_owned(),
        Token::Close => "\"}\"".to_owned(),
        Token::ParenOpen => "\"(\"".to_owned(),
        Token::ParenClose => "\")\"".to_owned(),
        Token::Slash => "\"/\"".to_owned(),
        Token::Equals => "\"=\"".to_owned(),
        Token::Dash => "\"-\"".to_owned(),
        Token::Word(word) => format!("\"{}\"", word.chars().take(64).collect::<String>().escape_debug()),
        Token::Text(_) => "a string".to_owned(),
        Token::End => "the end of the file".to_owned(),
    }
}

/// A number in C notation: decimal, `0x` hexadecimal, leading-zero octal.
pub(super) fn number(word: &str) -> Option<u64> {
    let (digits, radix) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => match word.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => (octal, 8),
            _ => (word, 10),
        },
    };
    // from_str_radix takes a sign.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Seconds as a whole number in C notation or with a decimal fraction, to the nanosecond.
fn seconds(word: &str) -> Option<Duration> {
    let Some((whole, fraction)) = word.split_once('.') else {
        return number(word).map(Duration::from_secs);
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 || word.len() < 2 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(whole, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_c_notation() {
        for (word, value) in
            [("0", Some(0)), ("3600", Some(3600)), ("0x10", Some(16)), ("010", Some(8)), ("08", None), ("-1", None)]
        {
            assert_eq!(number(word), value, "{word}");
        }
        assert_eq!(number("+1"), None);
        assert_eq!(number("0x"), None);
        assert_eq!(number("18446744073709551616"), None);
    }

    #[test]
    fn seconds_take_fractions() {
        assert_eq!(seconds("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(seconds(".25"), Some(Duration::from_millis(250)));
        assert_eq!(seconds("2"), Some(Duration::from_secs(2)));
        for bad in [".", "1.2.3", "0.1234567890", "x", "1.x", "-0.5"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
