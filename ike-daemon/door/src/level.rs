//! Debug categories and privilege levels, with the numbers and words of ikeadm.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of debug categories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DebugLevel(u32);

/// Bit, words, description.
type Category = (u32, &'static [&'static str], &'static str);

static CATEGORIES: &[Category] = &[
    (0x001, &["cert"], "Certificate management"),
    (0x002, &["key"], "Key management"),
    (0x004, &["op"], "Operational"),
    (0x008, &["p1", "phase1"], "Phase 1 SA creation"),
    (0x010, &["p2", "phase2"], "Phase 2 SA creation"),
    (0x020, &["pfkey"], "PF_KEY interface"),
    (0x040, &["pol", "policy"], "Policy management"),
    (0x080, &["prop"], "Proposal construction"),
    (0x100, &["door"], "Door interface"),
    (0x200, &["config"], "Config file processing"),
    (0x400, &["label"], "MAC label processing"),
    (0x800, &["verbose"], "Verbose operational detail"),
];

/// Why an expression is no debug level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Bad debug flag \"{0}\"")]
pub struct BadDebugFlag(pub String);

impl DebugLevel {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Normal operation: what a daemon starts with.
    pub const OPERATIONAL: Self = Self(0x004);
    /// Every category.
    pub const ALL: Self = Self(0xfff);
    /// Phase 1: IKE SAs.
    pub const IKE_SA: Self = Self(0x008);
    /// Phase 2: child SAs.
    pub const CHILD_SA: Self = Self(0x010);
    /// The SADB.
    pub const SADB: Self = Self(0x020);
    /// The door.
    pub const DOOR: Self = Self(0x100);
    /// Files.
    pub const CONFIG: Self = Self(0x200);

    /// From bits; unknown ones are dropped.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// As bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether any of `categories` is on.
    #[must_use]
    pub fn has(self, categories: Self) -> bool {
        self.0 & categories.0 != 0
    }

    /// Descriptions of what is on, in the order of the bits.
    pub fn descriptions(self) -> impl Iterator<Item = &'static str> {
        CATEGORIES.iter().filter(move |(bit, _, _)| self.0 & bit != 0).map(|(_, _, text)| *text)
    }

    /// An expression: a number in C notation, or words joined by `+` and `-`, a leading `+` implied, `all` for every
    /// category, in any case.
    ///
    /// # Errors
    /// [`BadDebugFlag`] with the word that is none.
    pub fn parse(text: &str) -> Result<Self, BadDebugFlag> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = c_number(text).ok_or_else(|| BadDebugFlag(text.to_owned()))?;
            return if bits & !Self::ALL.0 == 0 { Ok(Self(bits)) } else { Err(BadDebugFlag(text.to_owned())) };
        }
        let mut level = 0;
        let mut rest = text;
        let mut add = true;
        if let Some(behind) = rest.strip_prefix(['+', '-']) {
            add = rest.starts_with('+');
            rest = behind;
        }
        loop {
            let (word, next) = match rest.find(['+', '-']) {
                Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at..)),
                None => (rest, None),
            };
            let bits = word_bits(word).ok_or_else(|| BadDebugFlag(word.to_owned()))?;
            level = if add { level | bits } else { level & !bits };
            let Some(next) = next else { return Ok(Self(level)) };
            add = next.starts_with('+');
            rest = next.get(1..).unwrap_or_default();
        }
    }
}

impl fmt::Display for DebugLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

fn word_bits(word: &str) -> Option<u32> {
    if word.eq_ignore_ascii_case("all") {
        return Some(DebugLevel::ALL.0);
    }
    let named = |(_, words, _): &&Category| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    CATEGORIES.iter().find(named).map(|(bit, _, _)| *bit)
}

fn c_number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with(['+', '-']));
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// What an administrator may see of keys. A daemon's level may only be lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// No access to preshared keys.
    Base,
    /// Preshared entries without their keys; they may be read again.
    Modkeys,
    /// Key octets.
    Keymat,
}

impl Privilege {
    /// From `0`, `1`, `2` or the words.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "0" | "0x0" | "base" => Some(Self::Base),
            "1" | "0x1" | "modkeys" => Some(Self::Modkeys),
            "2" | "0x2" | "keymat" => Some(Self::Keymat),
            _ => None,
        }
    }

    /// As the number of the protocol.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Base => 0,
            Self::Modkeys => 1,
            Self::Keymat => 2,
        }
    }

    /// What the level gives access to.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Base => "base privileges",
            Self::Modkeys => "access to preshared key information",
            Self::Keymat => "access to keying material",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expressions() {
        for (text, bits) in [
            ("0", 0),
            ("0x3ff", 0x3ff),
            ("010", 8),
            ("12", 12),
            ("op", 4),
            ("OP+p1", 0xc),
            ("+cert", 1),
            ("all-door-config", 0xcff),
            ("phase1+phase2+policy", 0x58),
            ("verbose", 0x800),
            ("-op", 0),
        ] {
            assert_eq!(DebugLevel::parse(text), Ok(DebugLevel(bits)), "{text}");
        }
        for bad in ["", "+", "op+", "bogus", "op--p1", "0x10000", "0x", "1x", "op+bogus"] {
            assert!(DebugLevel::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(DebugLevel::parse("op+bogus").unwrap_err().to_string(), "Bad debug flag \"bogus\"");
    }

    #[test]
    fn levels_are_a_chain() {
        assert!(Privilege::Base < Privilege::Modkeys && Privilege::Modkeys < Privilege::Keymat);
        assert_eq!(Privilege::parse("2"), Some(Privilege::Keymat));
        assert_eq!(Privilege::parse("root"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,20}") {
            let _ = DebugLevel::parse(&text);
        }
    }
}
