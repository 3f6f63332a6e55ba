//! Identities of the two ends of an SA (RFC 2367 section 2.3.4): what key management knows them by. They are kept and shown;
//! nothing is decided by them.

use super::diagnostic::Diagnostic;
use super::error::SadbError;
use crate::sa::{IdentityText, MAX_IDENTITY};
use std::fmt;

/// Types of identities with their words, the first of which is printed (spec sections 7.4 and 8.1).
const TYPES: [(u16, &[&str]); 5] = [
    (1, &["prefix"]),
    (2, &["fqdn", "domain", "domainname"]),
    (3, &["user_fqdn", "mailbox"]),
    (4, &["der_dn"]),
    (5, &["der_gn"]),
];

/// An identity: a type and what identifies.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    kind: u16,
    text: String,
}

impl Identity {
    /// An identity of a type: 1 prefix, 2 FQDN, 3 user FQDN, 4 DN, 5 GN, 6 key id, 7 address range, or another number but 0.
    ///
    /// # Errors
    /// [`Diagnostic::BadExtensionLength`] for the type 0 and for text that is empty, longer than
    /// [`MAX_IDENTITY`] octets, or has quotes or control characters in it.
    pub fn new(kind: u16, text: &str) -> Result<Self, SadbError> {
        let refuse = |what: String| Err(SadbError::explained(Diagnostic::BadExtensionLength, what));
        if kind == 0 {
            return refuse("0 is no type of identity".to_owned());
        }
        if text.contains(|c: char| c.is_control() || c == '"') {
            return refuse("an identity has neither quotes nor control characters".to_owned());
        }
        if text.is_empty() || text.len() > MAX_IDENTITY {
            return refuse(format!("an identity has 1 to {MAX_IDENTITY} octets, and this one {}", text.len()));
        }
        Ok(Self { kind, text: text.to_owned() })
    }

    /// The number of its type.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// What identifies.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The word for its type; `None` when that has only a number.
    pub fn word(&self) -> Option<&'static str> {
        TYPES.iter().find(|(kind, _)| *kind == self.kind).and_then(|(_, words)| words.first().copied())
    }

    /// The number behind a word for a type.
    pub fn kind_of(word: &str) -> Option<u16> {
        TYPES.iter().find(|(_, words)| words.contains(&word)).map(|(kind, _)| *kind)
    }

    /// Every word for a type.
    pub fn words() -> impl Iterator<Item = &'static str> {
        TYPES.iter().flat_map(|(_, words)| words.iter().copied())
    }

    /// As the map keeps it.
    pub(super) fn record(identity: Option<&Self>) -> IdentityText {
        let mut record = IdentityText { kind: 0, len: 0, text: [0; MAX_IDENTITY] };
        if let Some(identity) = identity {
            (record.kind, record.len) = (identity.kind, identity.text.len() as u16);
            record.text.iter_mut().zip(identity.text.bytes()).for_each(|(to, from)| *to = from);
        }
        record
    }

    /// What the map keeps.
    pub(super) fn of(record: &IdentityText) -> Option<Self> {
        Self::heard(record.kind, record.text.get(..record.len.into())?)
    }

    /// What somebody else says, with question marks for what is not to be printed; `None` for what identifies nobody.
    pub(super) fn heard(kind: u16, text: &[u8]) -> Option<Self> {
        let printable = |c: char| if c.is_control() || c == '"' { '?' } else { c };
        let text: String = String::from_utf8_lossy(text).chars().map(printable).collect();
        (kind != 0 && !text.is_empty()).then_some(Self { kind, text })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Identity {
    /// Type and value, as the extensions of ipseckey take them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word() {
            Some(word) => write!(f, "{word} {}", self.text),
            None => write!(f, "{} {}", self.kind, self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_record_comes_out() {
        for text in ["a", "gw.example.com", &"x".repeat(MAX_IDENTITY)] {
            let identity = Identity::new(2, text).unwrap();
            assert_eq!(Identity::of(&Identity::record(Some(&identity))), Some(identity));
        }
        assert_eq!(Identity::of(&Identity::record(None)), None);
        for (kind, text) in [(0, "a"), (2, ""), (2, "a\"b"), (2, "a\nb"), (2, &*"x".repeat(MAX_IDENTITY + 1))] {
            assert!(Identity::new(kind, text).is_err());
        }
        // What is no UTF-8 is shown as far as it goes.
        let mut record = Identity::record(Identity::new(6, "ab").ok().as_ref());
        record.text[..2].copy_from_slice(&[0x1b, 0xff]);
        assert_eq!(Identity::of(&record).unwrap().text(), "?\u{fffd}");
        record.len = u16::MAX;
        assert_eq!(Identity::of(&record), None);
    }

    #[test]
    fn types_have_words() {
        assert_eq!(Identity::kind_of("mailbox"), Some(3));
        assert_eq!(Identity::new(3, "me@example.com").unwrap().to_string(), "user_fqdn me@example.com");
        assert_eq!(Identity::new(7, "x").unwrap().to_string(), "7 x");
    }
}
