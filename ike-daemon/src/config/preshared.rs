//! ikev2.preshared: keys by the labels of the rules they belong to (RFC 7296 section 2.15; V2-AUTH-03).
//!
//! Findings over this file name the place and what was expected, and never repeat a word of it.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::lexer::{Lexer, Mode, Token};
use super::rules::{MAX_LABEL, RuleSet};
use super::source::{Position, Report, Spanned};
use crate::core::api::Psk;
use crate::crypto::Secret;

/// Keys below this length get a warning: an eavesdropper with an active part can try them out off line.
const SHORT_KEY: usize = 16;

/// One `{ }` of the file.
#[derive(Debug, Clone)]
pub struct PresharedEntry {
    /// The rules it is for.
    pub labels: Vec<String>,
    /// Computes our AUTH.
    pub local: Option<Secret>,
    /// Verifies the peer's AUTH.
    pub remote: Option<Secret>,
    /// Where the entry begins.
    pub at: Position,
}

/// All keys of a file.
#[derive(Debug, Clone, Default)]
pub struct PresharedKeys {
    entries: Vec<PresharedEntry>,
    by_label: HashMap<String, Psk>,
}

impl PresharedKeys {
    /// The entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[PresharedEntry] {
        &self.entries
    }

    /// The keys of a label; `None` without an entry that has both directions.
    #[must_use]
    pub fn for_label(&self, label: &str) -> Option<&Psk> {
        self.by_label.get(label)
    }

    /// Gives every rule its keys and takes away those of rules that have none any more. Labels that match no rule are
    /// nobody's concern. Returns the labels of the rules that are left without keys.
    pub fn attach(&self, rules: &mut RuleSet) -> Vec<String> {
        rules.attach(|label| self.for_label(label).cloned())
    }
}

/// Reads all of `text`; findings go to `report`.
pub(super) fn parse(text: &str, report: &mut Report) -> PresharedKeys {
    let mut parser = Parser { lexer: Lexer::new(text), report };
    let mut keys = PresharedKeys::default();
    let mut seen: HashMap<String, Position> = HashMap::new();
    while let Some(entry) = parser.entry() {
        let Entry::Read(entry) = entry else { continue };
        let psk = match (&entry.local, &entry.remote) {
            (Some(local), Some(remote)) => Some(Psk { local: local.clone(), remote: remote.clone() }),
            _ => None,
        };
        for label in &entry.labels {
            let earlier = *seen.entry(label.clone()).or_insert(entry.at);
            if earlier != entry.at {
                // The same label with one direction each in two entries is still a duplicate: the first one counts.
                parser.report.warning(
                    entry.at,
                    format!("a label of this entry is already in the entry at {earlier}, which counts"),
                );
            } else if let Some(psk) = &psk {
                keys.by_label.insert(label.clone(), psk.clone());
            }
        }
        keys.entries.push(entry);
    }
    keys
}

enum Entry {
    Read(PresharedEntry),
    Skipped,
}

struct Parser<'a, 'r> {
    lexer: Lexer<'a>,
    report: &'r mut Report,
}

const ATTRIBUTES: &str = "label, key, local_key, remote_key";

impl<'a> Parser<'a, '_> {
    fn take(&mut self) -> Option<Spanned<Token<'a>>> {
        match self.lexer.next(Mode::Plain) {
            Ok(token) => Some(token),
            Err(open) => {
                self.report.error(open.at, "this string is not closed on its line; expected '\"'");
                None
            }
        }
    }

    /// The next entry; `None` at the end of the file.
    fn entry(&mut self) -> Option<Entry> {
        let at = loop {
            let Some(token) = self.take() else { continue };
            match token.value {
                Token::End => return None,
                Token::Open => break token.at,
                _ => {
                    self.report.error(token.at, "expected \"{\" of an entry");
                    self.skip_to_open();
                }
            }
        };
        let mut entry = PresharedEntry { labels: Vec::new(), local: None, remote: None, at };
        let mut both: Option<Secret> = None;
        let mut sound = true;
        loop {
            let Some(token) = self.take() else {
                sound = false;
                continue;
            };
            let outcome = match token.value {
                Token::Close => break,
                Token::End => {
                    self.report.error(at, "this entry is not closed; expected \"}\"");
                    return Some(Entry::Skipped);
                }
                Token::Word("label") => self.label().map(|label| entry.labels.push(label)),
                Token::Word("key") => self.key(token.at, &mut both),
                Token::Word("local_key") => self.key(token.at, &mut entry.local),
                Token::Word("remote_key") => self.key(token.at, &mut entry.remote),
                _ => {
                    self.report.error(token.at, format!("expected one of the attributes {ATTRIBUTES}, or \"}}\""));
                    None
                }
            };
            if outcome.is_none() {
                sound = false;
                self.recover();
            }
        }
        if !sound {
            return Some(Entry::Skipped);
        }
        self.complete(entry, both)
    }

    fn complete(&mut self, mut entry: PresharedEntry, both: Option<Secret>) -> Option<Entry> {
        if entry.labels.is_empty() {
            self.report.error(entry.at, "this entry lacks a label");
            return Some(Entry::Skipped);
        }
        if let Some(both) = both {
            if entry.local.is_some() || entry.remote.is_some() {
                self.report.error(entry.at, "this entry has key beside local_key or remote_key; expected either");
                return Some(Entry::Skipped);
            }
            entry.local = Some(both.clone());
            entry.remote = Some(both);
        } else if entry.local.is_none() && entry.remote.is_none() {
            self.report.error(entry.at, "this entry lacks a key, local_key or remote_key");
            return Some(Entry::Skipped);
        } else if entry.local.is_none() || entry.remote.is_none() {
            self.report
                .warning(entry.at, "this entry has one direction only; its rules need both local_key and remote_key");
        }
        Some(Entry::Read(entry))
    }

    fn label(&mut self) -> Option<String> {
        let token = self.peek()?;
        let label = match &token.value {
            Token::Text(text) => text.to_string(),
            // Without quotes it might as well be a key in the wrong place, but a plain word is what people write.
            Token::Word(word) => (*word).to_owned(),
            _ => {
                self.report.error(token.at, "expected a label in double quotes");
                return None;
            }
        };
        self.take();
        if label.is_empty() || label.len() > MAX_LABEL {
            self.report.error(token.at, format!("expected a label of 1 to {MAX_LABEL} octets"));
            return None;
        }
        Some(label)
    }

    fn key(&mut self, at: Position, slot: &mut Option<Secret>) -> Option<()> {
        let token = self.peek()?;
        let secret = match &token.value {
            Token::Text(text) if !text.is_empty() => Some(Secret::copy_of(text.as_bytes())),
            Token::Word(word) => hex(word),
            _ => None,
        };
        let Some(secret) = secret else {
            self.report
                .error(token.at, "expected a key: hexadecimal digits, with 0x or without, or a string in quotes");
            return None;
        };
        self.take();
        if slot.is_some() {
            self.report.error(at, "this attribute was given already in this entry");
            return None;
        }
        if secret.len() < SHORT_KEY {
            self.report.warning(token.at, format!("a key of less than {SHORT_KEY} octets can be guessed off line"));
        }
        *slot = Some(secret);
        Some(())
    }

    fn peek(&mut self) -> Option<Spanned<Token<'a>>> {
        match self.lexer.peek(Mode::Plain) {
            Ok(token) => Some(token),
            Err(_) => {
                self.take();
                None
            }
        }
    }

    /// Skips to the next attribute or brace.
    fn recover(&mut self) {
        loop {
            match self.lexer.peek(Mode::Plain).map(|token| token.value) {
                Ok(Token::Word("label" | "key" | "local_key" | "remote_key") | Token::Close | Token::End) => return,
                _ => {
                    self.take();
                }
            }
        }
    }

    fn skip_to_open(&mut self) {
        loop {
            match self.lexer.peek(Mode::Plain).map(|token| token.value) {
                Ok(Token::Open | Token::End) => return,
                _ => {
                    self.take();
                }
            }
        }
    }
}

/// Octets from hexadecimal digits; an odd last digit is the high half of its octet.
fn hex(word: &str) -> Option<Secret> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    if digits.is_empty() {
        return None;
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(digits.len().div_ceil(2)));
    for pair in digits.as_bytes().chunks(2) {
        let digit = |index: usize| pair.get(index).map_or(Some(0), |b| char::from(*b).to_digit(16));
        octets.push(u8::try_from(digit(0)? << 4 | digit(1)?).ok()?);
    }
    Some(Secret::copy_of(&octets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (PresharedKeys, Report) {
        let mut report = Report::new("ikev2.preshared");
        let keys = parse(text, &mut report);
        (keys, report.finish(None))
    }

    #[test]
    fn v2_auth_03_hex_and_ascii_keys() {
        let long = "x".repeat(300);
        let (keys, report) = read(&format!(
            "# keys\n{{ label \"a\" label \"b\" key 0x6b657920666f722062726e63680123ab }}\n\
             {{ label \"c\" local_key \"ours \\\"is\\\" this\\one\" remote_key 123 }} // end\n{{ key \"{long}\" label \"d\" }}"
        ));
        assert!(!report.has_errors(), "{report}");
        let key = |label: &str| keys.for_label(label).unwrap();
        assert_eq!(key("a").local.expose(), b"key for brnch\x01\x23\xab");
        assert_eq!(key("a"), key("b"));
        assert_eq!(key("c").local.expose(), b"ours \"is\" this\\one");
        assert_eq!(key("c").remote.expose(), [0x12, 0x30]);
        assert_eq!(key("d").local.len(), 300);
        assert!(report.to_string().contains("guessed off line"));
    }

    #[test]
    fn errors_have_places_and_hide_keys() {
        let (_, report) = read(
            "{ label \"a\" key hunter2hunter2 }\n{ key \"secretsecretsecret\" }\n{ label \"c\" key 0x0123456789012345678901234567890123\n\
             local_key 00 }\nhunter2\n{ label \"d\" }\n{ label \"e\" key \"hunter2 }",
        );
        let text = report.to_string();
        for expected in [
            "ikev2.preshared:1:17: error: expected a key",
            "ikev2.preshared:2:1: error: this entry lacks a label",
            "ikev2.preshared:3:1: error: this entry has key beside",
            "ikev2.preshared:5:1: error: expected \"{\"",
            "ikev2.preshared:6:1: error: this entry lacks a key",
            "ikev2.preshared:7:17: error: this string is not closed",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        assert!(!text.contains("hunter2") && !text.contains("secretsecret"), "{text}");
    }

    #[test]
    fn the_first_of_two_entries_counts() {
        let (keys, report) =
            read("{ label \"a\" key \"one one one one one\" }\n{ label \"a\" key \"two two two two two\" }");
        assert!(!report.has_errors());
        assert_eq!(report.findings().len(), 1);
        assert_eq!(keys.for_label("a").unwrap().local.expose(), b"one one one one one");
    }

    #[test]
    fn debug_hides_keys() {
        let (keys, _) = read("{ label \"a\" key \"hunter2hunter2hunter2\" }");
        assert!(!format!("{keys:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}|([{}\"\\\\/ \n#]|label|key|local_key|0x12|\"a\"){0,60}") {
            read(&text);
        }

        #[test]
        fn hex_round_trips(octets in proptest::collection::vec(any::<u8>(), 1..64)) {
            let text: String = octets.iter().map(|b| format!("{b:02x}")).collect();
            let plain = hex(&text).unwrap();
            prop_assert_eq!(plain.expose(), &octets[..]);
            let prefixed = hex(&format!("0x{text}")).unwrap();
            prop_assert_eq!(prefixed.expose(), &octets[..]);
        }
    }
}
