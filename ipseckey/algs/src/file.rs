//! /etc/inet/ipsecalgs (spec section 4.9): protocols and algorithms, one a line, fields separated by `|`.
//!
//! ```text
//! PROTO|protocol|name|mode
//! ALG|protocol|number|name,name..|mechanism|keys|sizes|parameters|flags
//! ```
//!
//! `keys` are bits: `n,n..`, the first being the default, or `default/least-greatest,step`. `sizes` are octets of blocks or
//! MACs. Parameters (octets of IV, ICV and salt) and flags may be left out.

use crate::built_in::{ALGORITHMS, Algorithm, Kind};
use std::fmt;

/// Protocol number of the half of the table that AH and ESP authentication share (PROTO_IPSEC_AH of RFC 2407).
pub const AH: u8 = 2;
/// Protocol number of ESP encryption (PROTO_IPSEC_ESP).
pub const ESP: u8 = 3;

/// Octets of a file that is read.
pub const MAX_FILE: usize = 64 << 10;
/// Octets of a name.
const MAX_NAME: usize = 63;
/// Values of one list.
const MAX_LIST: usize = 64;

/// Flags of algorithms.
pub mod flag {
    /// Taken for good.
    pub const VALID: u16 = 1;
    /// Counter mode.
    pub const COUNTER: u16 = 2;
    /// Authenticates as well.
    pub const COMBINED: u16 = 4;
    /// CCM.
    pub const CCM: u16 = 8;
    /// GCM.
    pub const GCM: u16 = 16;
    /// Names, in the order in which they are listed.
    pub const NAMES: [(&str, u16); 5] =
        [("VALID", VALID), ("COUNTER", COUNTER), ("COMBINED", COMBINED), ("CCM", CCM), ("GCM", GCM)];
}

/// Execution mode of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The work is done as the packet comes: what the data path always does.
    Sync,
    /// The work is queued.
    Async,
}

impl Mode {
    /// The mode of this name.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "sync" => Some(Self::Sync),
            "async" => Some(Self::Async),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Sync { "sync" } else { "async" })
    }
}

/// A protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Number, as IANA gives them for ISAKMP.
    pub number: u8,
    /// Name.
    pub name: String,
    /// Execution mode.
    pub mode: Mode,
}

/// Key sizes in bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// These; the first is the default. `[0]` for an algorithm without keys.
    List(Vec<u16>),
    /// Every `step` bits from `low` to `high`.
    Range {
        /// Least.
        low: u16,
        /// Greatest, above `low` by a multiple of `step`.
        high: u16,
        /// Distance between two, not 0.
        step: u16,
        /// Meant when none is given.
        default: u16,
    },
}

impl Keys {
    /// A range, checked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn range(low: u16, high: u16, step: u16, default: Option<u16>) -> Result<Self, String> {
        if low >= high {
            return Err(format!("the range of key sizes {low}-{high} has no width"));
        }
        if step == 0 || !(high - low).is_multiple_of(step) {
            return Err(format!("an increment of {step} bits does not lead from {low} to {high}"));
        }
        let keys = Self::Range { low, high, step, default: default.unwrap_or(low) };
        if keys.contains(keys.default()) {
            Ok(keys)
        } else {
            Err(format!("the default size {} is not in the range of key sizes", keys.default()))
        }
    }

    /// A list, checked; the default goes to its front.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn list(mut sizes: Vec<u16>, default: Option<u16>) -> Result<Self, String> {
        if let Some(default) = default {
            let Some(at) = sizes.iter().position(|size| *size == default) else {
                return Err(format!("the default size {default} is not in the list of key sizes"));
            };
            sizes.swap(0, at);
        }
        let distinct: std::collections::BTreeSet<_> = sizes.iter().collect();
        if distinct.len() != sizes.len() || sizes.is_empty() {
            return Err("a list of key sizes names each once".to_owned());
        }
        Ok(Self::List(sizes))
    }

    /// Whether keys of `bits` bits are among them.
    pub fn contains(&self, bits: u16) -> bool {
        match self {
            Self::List(sizes) => sizes.contains(&bits),
            Self::Range { low, high, step, .. } => (*low..=*high).contains(&bits) && (bits - low).is_multiple_of(*step),
        }
    }

    /// Size that is meant when none is given.
    pub fn default(&self) -> u16 {
        match self {
            Self::List(sizes) => sizes.first().copied().unwrap_or(0),
            Self::Range { default, .. } => *default,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (default, sizes) = match text.split_once('/') {
            Some((default, sizes)) => (Some(number(default, "default key size")?), sizes),
            None => (None, text),
        };
        match sizes.split_once('-') {
            None => Self::list(numbers(sizes, "key size")?, default),
            Some((low, rest)) => {
                let (high, step) = rest.split_once(',').ok_or("a range of key sizes needs an increment")?;
                let of = |text| number(text, "key size");
                Self::range(of(low)?, of(high)?, of(step)?, default)
            }
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(sizes) => f.write_str(&joined(sizes, ",")),
            Self::Range { low, high, step, default } => write!(f, "{default}/{low}-{high},{step}"),
        }
    }
}

/// An algorithm as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the protocol.
    pub protocol: u8,
    /// Number of the algorithm; 0 is the one that stands for every other.
    pub number: u8,
    /// Names; the first is displayed.
    pub names: Vec<String>,
    /// Mechanism; `-` for none.
    pub mechanism: String,
    /// Key sizes.
    pub keys: Keys,
    /// Octets of a block or of a MAC.
    pub sizes: Vec<u16>,
    /// Octets of IV, ICV and salt.
    pub parameters: Vec<u16>,
    /// See [`flag`].
    pub flags: u16,
}

impl Entry {
    /// Which half of the table of the data path this belongs to.
    pub fn kind(&self) -> Option<Kind> {
        match self.protocol {
            AH => Some(Kind::Authentication),
            ESP => Some(Kind::Encryption),
            _ => None,
        }
    }

    /// Whether this is one of its names, in any case.
    pub fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn of(algorithm: &Algorithm) -> Self {
        let key = algorithm.key;
        let aead = algorithm.combined.is_some();
        let counter = algorithm.salt_bits != 0;
        let of_mechanism = |word, bit| if algorithm.mechanism.ends_with(word) { bit } else { 0 };
        Self {
            protocol: if algorithm.kind == Kind::Authentication { AH } else { ESP },
            number: algorithm.id,
            names: algorithm.names.iter().map(|name| (*name).to_owned()).collect(),
            mechanism: algorithm.mechanism.to_owned(),
            keys: if key.is_fixed() {
                Keys::List(vec![key.min])
            } else {
                Keys::Range { low: key.min, high: key.max, step: key.step, default: key.default }
            },
            sizes: vec![if algorithm.mechanism == "-" { 0 } else { u16::from(algorithm.block) }],
            parameters: if counter {
                vec![8, u16::from(algorithm.combined.unwrap_or(0)), algorithm.salt_bits / 8]
            } else {
                vec![]
            },
            flags: flag::VALID
                | if counter { flag::COUNTER } else { 0 }
                | if aead { flag::COMBINED } else { 0 }
                | of_mechanism("_CCM", flag::CCM)
                | of_mechanism("_GCM", flag::GCM),
        }
    }

    fn wildcard(protocol: u8, names: &[&str]) -> Self {
        Self {
            protocol,
            number: 0,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            mechanism: "-".to_owned(),
            keys: Keys::List(vec![0]),
            sizes: vec![0],
            parameters: vec![],
            flags: flag::VALID,
        }
    }

    fn parse(fields: &[&str]) -> Result<Self, String> {
        let [protocol, id, names, mechanism, keys, sizes, rest @ ..] = fields else {
            return Err("an algorithm has six fields and two that may be left out".to_owned());
        };
        let (parameters, flags) = match rest {
            [] => (vec![], flag::VALID),
            [parameters] => (numbers(parameters, "parameter")?, flag::VALID),
            ["", flags] => (vec![], number(flags, "flags")?),
            [parameters, flags] => (numbers(parameters, "parameter")?, number(flags, "flags")?),
            _ => return Err("too many fields".to_owned()),
        };
        let entry = Self {
            protocol: number(protocol, "protocol")?,
            number: number(id, "algorithm number")?,
            names: names.split(',').map(str::to_owned).collect(),
            mechanism: (*mechanism).to_owned(),
            keys: Keys::parse(keys)?,
            sizes: numbers(sizes, "block or MAC size")?,
            parameters,
            flags,
        };
        entry.check()?;
        Ok(entry)
    }

    /// What the file cannot hold.
    fn check(&self) -> Result<(), String> {
        if self.names.is_empty() || self.names.len() > MAX_LIST {
            return Err(format!("an algorithm has one to {MAX_LIST} names"));
        }
        for (at, name) in self.names.iter().enumerate() {
            check_name(name)?;
            if name.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("'{name}' is a number, not a name"));
            }
            if self.names.iter().take(at).any(|before| before.eq_ignore_ascii_case(name)) {
                return Err(format!("the name '{name}' is given twice"));
            }
        }
        check_name(&self.mechanism)?;
        if self.sizes.is_empty() || self.sizes.len() > MAX_LIST || self.parameters.len() > MAX_LIST {
            return Err(format!("a list has one to {MAX_LIST} values"));
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, number, names, mechanism, keys, sizes, parameters, flags } = self;
        write!(f, "ALG|{protocol}|{number}|{}|{mechanism}|{keys}|{}", names.join(","), joined(sizes, ","))?;
        match (parameters.is_empty(), *flags) {
            (true, flag::VALID) => Ok(()),
            _ => write!(f, "|{}|{flags}", joined(parameters, ",")),
        }
    }
}

/// What a message calls the thing that is there already or not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A protocol with this number or name is there.
    #[error("protocol {0} exists already; -f replaces it")]
    ProtocolExists(String),
    /// An algorithm with this number or name is there.
    #[error("algorithm {0} exists already; -f replaces it")]
    AlgorithmExists(String),
    /// No such protocol.
    #[error("there is no protocol {0}")]
    NoProtocol(String),
    /// No such algorithm.
    #[error("there is no algorithm {0} of protocol {1}")]
    NoAlgorithm(String, String),
    /// A value that the file cannot hold.
    #[error("{0}")]
    Bad(String),
}

/// A line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct LineError {
    /// Which one, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: String,
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlgorithmFile {
    /// Protocols, in the order of the file.
    pub protocols: Vec<Protocol>,
    /// Algorithms, in the order of the file; each belongs to one of the protocols.
    pub entries: Vec<Entry>,
}

impl AlgorithmFile {
    /// What holds without a file: everything that the data path can do.
    pub fn built_in() -> Self {
        let protocol = |number, name: &str| Protocol { number, name: name.to_owned(), mode: Mode::Sync };
        let of = |kind| ALGORITHMS.iter().filter(move |algorithm| algorithm.kind == kind).map(Entry::of);
        let mut entries = vec![Entry::wildcard(AH, &["none", "any"])];
        entries.extend(of(Kind::Authentication));
        entries.push(Entry::wildcard(ESP, &["any"]));
        entries.extend(of(Kind::Encryption));
        Self { protocols: vec![protocol(AH, "PROTO_IPSEC_AH"), protocol(ESP, "PROTO_IPSEC_ESP")], entries }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut file = Self::default();
        if text.len() > MAX_FILE {
            return Err(LineError { line: 1, text: format!("the file has more than {MAX_FILE} octets") });
        }
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or_default().trim();
            if !content.is_empty() {
                file.read(content).map_err(|text| LineError { line, text })?;
            }
        }
        Ok(file)
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        match fields.as_slice() {
            ["PROTO", id, name, mode] => {
                let mode = Mode::from_word(mode).ok_or_else(|| format!("'{mode}' is neither sync nor async"))?;
                let protocol = Protocol { number: number(id, "protocol")?, name: (*name).to_owned(), mode };
                self.add_protocol(protocol, false).map_err(|e| e.to_string())
            }
            ["PROTO", ..] => Err("a protocol has a number, a name and a mode".to_owned()),
            ["ALG", fields @ ..] => self.add(Entry::parse(fields)?, false).map_err(|e| e.to_string()),
            _ => Err("a line begins with PROTO| or ALG|".to_owned()),
        }
    }

    /// The protocol of this name, or of this number in digits.
    ///
    /// # Errors
    /// [`ChangeError::NoProtocol`].
    pub fn protocol(&self, word: &str) -> Result<&Protocol, ChangeError> {
        let found = self.protocols.iter().find(|p| p.name == word || p.number.to_string() == word);
        found.ok_or_else(|| ChangeError::NoProtocol(word.to_owned()))
    }

    /// Adds a protocol; with `force` in place of those with its number or name.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn add_protocol(&mut self, new: Protocol, force: bool) -> Result<(), ChangeError> {
        check_name(&new.name).map_err(ChangeError::Bad)?;
        if new.number == 0 {
            return Err(ChangeError::Bad("protocol numbers go from 1 to 255".to_owned()));
        }
        let clash = |old: &Protocol| old.number == new.number || old.name == new.name;
        if let Some(old) = self.protocols.iter().find(|old| clash(old))
            && !force
        {
            return Err(ChangeError::ProtocolExists(format!("{}/{}", old.number, old.name)));
        }
        // Algorithms of a number that goes with the name it had have no protocol any more.
        let gone: Vec<u8> = self.protocols.iter().filter(|old| clash(old)).map(|old| old.number).collect();
        self.entries.retain(|entry| entry.protocol == new.number || !gone.contains(&entry.protocol));
        self.protocols.retain(|old| !clash(old));
        self.protocols.push(new);
        self.protocols.sort_by_key(|protocol| protocol.number);
        Ok(())
    }

    /// Adds an algorithm; with `force` in place of those with its number or one of its names.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn add(&mut self, new: Entry, force: bool) -> Result<(), ChangeError> {
        new.check().map_err(ChangeError::Bad)?;
        self.protocol(&new.protocol.to_string())?;
        let clash = |old: &Entry| {
            old.protocol == new.protocol
                && (old.number == new.number || old.names.iter().any(|name| new.is_named(name)))
        };
        if let Some(old) = self.entries.iter().find(|old| clash(old))
            && !force
        {
            let names = old.names.join(",");
            return Err(ChangeError::AlgorithmExists(format!("{}/{names} of protocol {}", old.number, old.protocol)));
        }
        self.entries.retain(|old| !clash(old));
        self.entries.push(new);
        self.entries.sort_by_key(|entry| (entry.protocol, entry.number));
        Ok(())
    }

    /// Removes the algorithm with this name, or with this number in digits.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn remove(&mut self, protocol: &str, word: &str) -> Result<(), ChangeError> {
        let number = self.protocol(protocol)?.number;
        let hit = |e: &Entry| e.protocol == number && (e.is_named(word) || e.number.to_string() == word);
        let before = self.entries.len();
        self.entries.retain(|entry| !hit(entry));
        if self.entries.len() == before {
            return Err(ChangeError::NoAlgorithm(word.to_owned(), protocol.to_owned()));
        }
        Ok(())
    }

    /// Removes a protocol with its algorithms.
    ///
    /// # Errors
    /// [`ChangeError::NoProtocol`].
    pub fn remove_protocol(&mut self, word: &str) -> Result<(), ChangeError> {
        let number = self.protocol(word)?.number;
        self.protocols.retain(|protocol| protocol.number != number);
        self.entries.retain(|entry| entry.protocol != number);
        Ok(())
    }

    /// Sets the execution mode of a protocol.
    ///
    /// # Errors
    /// [`ChangeError::NoProtocol`].
    pub fn set_mode(&mut self, word: &str, mode: Mode) -> Result<(), ChangeError> {
        let number = self.protocol(word)?.number;
        for protocol in self.protocols.iter_mut().filter(|protocol| protocol.number == number) {
            protocol.mode = mode;
        }
        Ok(())
    }
}

impl fmt::Display for AlgorithmFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by ipsecalgs(8), which also reads it: do not edit. Comments are not kept.\n")?;
        writeln!(f, "# PROTO|protocol|name|mode")?;
        for Protocol { number, name, mode } in &self.protocols {
            writeln!(f, "PROTO|{number}|{name}|{mode}")?;
        }
        writeln!(f, "\n# ALG|protocol|number|names|mechanism|key sizes|block or MAC sizes|IV, ICV, salt|flags")?;
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

/// Numbers as a list.
pub fn joined(numbers: &[u16], between: &str) -> String {
    numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(between)
}

/// A name that a line can hold, and that a policy can say.
fn check_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fine) {
        return Err(format!("'{name}' is no name: one to {MAX_NAME} letters, digits, '-', '_' and '.'"));
    }
    Ok(())
}

/// A decimal number, digits only.
///
/// # Errors
/// What is wrong with it; `what` says what it is.
pub fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| format!("{what} '{text}' is no number, or too big"))
}

/// Decimal numbers separated by commas.
///
/// # Errors
/// As [`number`]; too many.
pub fn numbers(text: &str, what: &str) -> Result<Vec<u16>, String> {
    let list: Vec<u16> = text.split(',').map(|text| number(text, what)).collect::<Result<_, _>>()?;
    if list.len() > MAX_LIST {
        return Err(format!("a list has at most {MAX_LIST} values"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The file of Solaris, as spec section 4.8 has it.
    const SOLARIS: &str = "PROTO|2|PROTO_IPSEC_AH|sync
PROTO|3|PROTO_IPSEC_ESP|sync
ALG|2|0|none,any|-|0|0
ALG|2|2|hmac-md5,md5|CKM_MD5_HMAC_GENERAL|128|12
ALG|2|3|hmac-sha1,sha,sha1,sha-1,hmac-sha,hmac-sha-1|CKM_SHA_1_HMAC_GENERAL|160|12
ALG|2|5|hmac-sha256,sha256,sha-256,hmac-sha-256|CKM_SHA256_HMAC_GENERAL|256|16
ALG|2|6|hmac-sha384,sha384,sha-384,hmac-sha-384|CKM_SHA384_HMAC_GENERAL|384|24
ALG|2|7|hmac-sha512,sha512,sha-512,hmac-sha-512|CKM_SHA512_HMAC_GENERAL|512|32
ALG|3|0|any|-|0|0
ALG|3|2|des-cbc,des|CKM_DES_CBC|64|8
ALG|3|3|3des-cbc,3des|CKM_DES3_CBC|192|8
ALG|3|7|blowfish-cbc,blowfish|CKM_BLOWFISH_CBC|128/32-448,8|8
ALG|3|11|null|-|0|0
ALG|3|12|aes-cbc,aes|CKM_AES_CBC|128/128-256,64|16
ALG|3|14|aes-ccm8|CKM_AES_CCM|128/128-256,64|16|8,8,3|15
ALG|3|20|aes-gcm,aes-gcm16|CKM_AES_GCM|128/128-256,64|16|8,16,4|23
";

    #[test]
    fn the_built_in_table_has_what_that_of_solaris_has() {
        let ours = AlgorithmFile::built_in();
        let theirs = AlgorithmFile::parse(SOLARIS).unwrap();
        assert_eq!(ours.protocols, theirs.protocols);
        for entry in &theirs.entries {
            assert!(ours.entries.contains(entry), "{entry}");
        }
        for algorithm in ALGORITHMS {
            let same = |e: &&Entry| e.kind() == Some(algorithm.kind) && e.number == algorithm.id;
            assert_eq!(ours.entries.iter().filter(same).count(), 1, "{}", algorithm.name());
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let built_in = AlgorithmFile::built_in();
        assert_eq!(AlgorithmFile::parse(&built_in.to_string()), Ok(built_in));
        let theirs = AlgorithmFile::parse(SOLARIS).unwrap();
        assert_eq!(AlgorithmFile::parse(&theirs.to_string()), Ok(theirs));
    }

    #[test]
    fn bad_lines_are_told_with_their_number() {
        let proto = "PROTO|3|ESP|sync\n";
        for (line, wanted) in [
            ("PROTO|3|ESP|fast", "'fast' is neither sync nor async"),
            ("PROTO|3|ESP", "a protocol has a number, a name and a mode"),
            ("PROTO|300|ESP|sync", "protocol '300' is no number, or too big"),
            ("PROTO|0|ESP|sync", "protocol numbers go from 1 to 255"),
            ("PROTO|4|E SP|sync", "'E SP' is no name"),
            ("PROTO|3|AGAIN|sync", "protocol 3/ESP exists already"),
            ("PROTO|4|ESP|sync", "protocol 3/ESP exists already"),
            ("ALGO|3|2|x|-|64|8", "a line begins with PROTO| or ALG|"),
            ("ALG|3|2|x|-|64", "an algorithm has six fields"),
            ("ALG|3|2|x|-|64|8|1|1|1", "too many fields"),
            ("ALG|4|2|x|-|64|8", "there is no protocol 4"),
            ("ALG|3|256|x|-|64|8", "algorithm number '256' is no number, or too big"),
            ("ALG|3|2||-|64|8", "'' is no name"),
            ("ALG|3|2|x,X|-|64|8", "the name 'X' is given twice"),
            ("ALG|3|2|x|a b|64|8", "'a b' is no name"),
            ("ALG|3|2|x,12|-|64|8", "'12' is a number, not a name"),
            ("ALG|3|2|x|-|64,64|8", "a list of key sizes names each once"),
            ("ALG|3|2|x|-|128/64,96|8", "the default size 128 is not in the list of key sizes"),
            ("ALG|3|2|x|-|64-128|8", "a range of key sizes needs an increment"),
            ("ALG|3|2|x|-|128-64,8|8", "the range of key sizes 128-64 has no width"),
            ("ALG|3|2|x|-|64-128,60|8", "an increment of 60 bits does not lead from 64 to 128"),
            ("ALG|3|2|x|-|64-128,0|8", "an increment of 0 bits does not lead from 64 to 128"),
            ("ALG|3|2|x|-|65/64-128,8|8", "the default size 65 is not in the range of key sizes"),
            ("ALG|3|2|x|-|+64|8", "key size '+64' is no number, or too big"),
            ("ALG|3|2|x|-|64|x", "block or MAC size 'x' is no number, or too big"),
        ] {
            let error = AlgorithmFile::parse(&format!("{proto}\n{line}\n")).unwrap_err();
            assert!(error.line == 3 && error.text.starts_with(wanted), "{line}: {error}");
        }
        let twice = "PROTO|3|ESP|sync\nALG|3|2|x|-|64|8\nALG|3|3|y,X|-|64|8\n";
        assert!(
            AlgorithmFile::parse(twice).unwrap_err().text.starts_with("algorithm 2/x of protocol 3 exists already")
        );
        assert!(AlgorithmFile::parse(&"#\n".repeat(MAX_FILE)).is_err());
    }

    #[test]
    fn changes() {
        let mut file = AlgorithmFile::built_in();
        let twofish = Entry::parse(&["3", "40", "twofish", "CKM_TWOFISH_CBC", "128/128-256,64", "16"]).unwrap();
        file.add(twofish.clone(), false).unwrap();
        assert!(matches!(file.add(twofish.clone(), false), Err(ChangeError::AlgorithmExists(_))));
        file.add(Entry { names: vec!["twofish".into(), "aes".into()], ..twofish }, true).unwrap();
        assert!(!file.entries.iter().any(|entry| entry.names.contains(&"aes-cbc".to_owned())), "its name is taken");
        file.remove("PROTO_IPSEC_ESP", "TWOFISH").unwrap();
        file.remove("3", "20").unwrap();
        assert_eq!(file.remove("3", "20"), Err(ChangeError::NoAlgorithm("20".into(), "3".into())));
        assert_eq!(file.remove("9", "20"), Err(ChangeError::NoProtocol("9".into())));
        file.set_mode("2", Mode::Async).unwrap();
        assert_eq!(file.protocol("PROTO_IPSEC_AH").unwrap().mode, Mode::Async);
        file.remove_protocol("PROTO_IPSEC_AH").unwrap();
        assert!(file.entries.iter().all(|entry| entry.protocol == ESP));
        assert!(file.set_mode("2", Mode::Sync).is_err() && file.remove_protocol("2").is_err());
        // Another name for a number keeps the algorithms; another number for a name does not.
        file.add_protocol(Protocol { number: 3, name: "ESP".into(), mode: Mode::Sync }, true).unwrap();
        assert!(!file.entries.is_empty());
        file.add_protocol(Protocol { number: 9, name: "ESP".into(), mode: Mode::Sync }, true).unwrap();
        assert!(file.entries.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn whatever_is_read_is_written_and_read_again(
            lines in proptest::collection::vec(
                ("(PROTO|ALG|#)", "[0-9]{1,3}", "[a-z,0-9-]{0,9}", "[a-z,-]{0,9}", "[0-9]{0,3}[/,-]?[0-9]{0,3}[-,]?[0-9,]{0,5}", "[0-9,]{0,4}"),
                0..12,
            ),
        ) {
            let mut text = "PROTO|3|ESP|sync\n".to_owned();
            for (word, a, b, c, d, e) in lines {
                text.push_str(&format!("{word}|{}|{a}|{b}|{c}|{d}|{e}\n", 3));
            }
            if let Ok(file) = AlgorithmFile::parse(&text) {
                prop_assert_eq!(AlgorithmFile::parse(&file.to_string()), Ok(file));
            }
        }
    }
}
