//! Distinguished names: compared as RFC 5280 section 7.1 wants it (no case, no surplus blanks, no difference between string
//! types), shown, and matched against what an administrator wrote.

use std::fmt;

use der::asn1::{Any, BmpString, ObjectIdentifier};
use der::{Decode, Encode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};

/// Relative names in one name; and attributes in one relative name.
const MAX_PARTS: usize = 64;
/// Characters of a name that a log line shows.
const MAX_SHOWN: usize = 256;

const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");
const SERIAL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");
const DC: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25");
pub(super) const EMAIL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1");

/// Words of attributes; the first of an identifier is shown.
static ATTRIBUTES: &[(&str, ObjectIdentifier)] = &[
    ("CN", ObjectIdentifier::new_unwrap("2.5.4.3")),
    ("C", COUNTRY),
    ("O", ObjectIdentifier::new_unwrap("2.5.4.10")),
    ("OU", ObjectIdentifier::new_unwrap("2.5.4.11")),
    ("L", ObjectIdentifier::new_unwrap("2.5.4.7")),
    ("ST", ObjectIdentifier::new_unwrap("2.5.4.8")),
    ("S", ObjectIdentifier::new_unwrap("2.5.4.8")),
    ("STREET", ObjectIdentifier::new_unwrap("2.5.4.9")),
    ("SN", ObjectIdentifier::new_unwrap("2.5.4.4")),
    ("GN", ObjectIdentifier::new_unwrap("2.5.4.42")),
    ("T", ObjectIdentifier::new_unwrap("2.5.4.12")),
    ("TITLE", ObjectIdentifier::new_unwrap("2.5.4.12")),
    ("SERIALNUMBER", SERIAL),
    ("DC", DC),
    ("UID", ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1")),
    ("E", EMAIL),
    ("EMAIL", EMAIL),
    ("EMAILADDRESS", EMAIL),
];

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Value {
    /// Folded.
    Text(String),
    /// In DER.
    Other(Vec<u8>),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Attribute {
    oid: ObjectIdentifier,
    value: Value,
}

/// A name with the octets it came in.
#[derive(Clone, Debug)]
pub struct DistinguishedName {
    der: Vec<u8>,
    /// Attributes of one relative name in an order of their own.
    parts: Vec<Vec<Attribute>>,
    shown: String,
    emails: Vec<String>,
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for DistinguishedName {}

/// A text that is no distinguished name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadDn {
    /// No `TYPE=value`.
    #[error("expected a name such as \"C=XX, O=Example, CN=gw1\"; this is none: {0}")]
    Syntax(String),
    /// A type that is neither a word nor an object identifier.
    #[error("unknown attribute type \"{0}\" in a name; expected C, O, OU, CN and their like, or an object identifier")]
    Attribute(String),
}

impl DistinguishedName {
    /// Reads a Name in DER.
    ///
    /// # Errors
    /// What the decoder says, or that there are too many parts.
    pub fn from_der(octets: &[u8]) -> Result<Self, der::Error> {
        let sequence = RdnSequence::from_der(octets)?;
        let mut parts = Vec::new();
        let mut shown = Vec::new();
        let mut emails = Vec::new();
        for rdn in sequence.iter() {
            let mut attributes: Vec<Attribute> = Vec::new();
            for attribute in rdn.iter() {
                let text = text(&attribute.value);
                if let (EMAIL, Some(text)) = (attribute.oid, &text) {
                    emails.push(text.clone());
                }
                shown.push(show(attribute.oid, text.as_deref()));
                let value = match text {
                    Some(text) => Value::Text(fold(&text)),
                    None => Value::Other(attribute.value.to_der()?),
                };
                attributes.push(Attribute { oid: attribute.oid, value });
            }
            attributes.sort();
            parts.push(attributes);
            if parts.len() > MAX_PARTS || shown.len() > MAX_PARTS {
                return Err(Tag::Sequence.value_error().into());
            }
        }
        Ok(Self { der: octets.to_vec(), parts, shown: shown.join(", "), emails })
    }

    /// The name as it was encoded.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether both have the same parts, in the same order or in the opposite one: people write names from either end.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self == other || (self.parts.len() == other.parts.len() && self.parts.iter().rev().eq(&other.parts))
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether this name is `base` or below it (RFC 5280 section 4.2.1.10).
    pub(super) fn is_within(&self, base: &Self) -> bool {
        self.parts.starts_with(&base.parts)
    }

    /// emailAddress attributes: old CAs put addresses there.
    pub(super) fn emails(&self) -> &[String] {
        &self.emails
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown.chars().count() > MAX_SHOWN {
            return write!(f, "{}...", self.shown.chars().take(MAX_SHOWN).collect::<String>());
        }
        f.write_str(if self.shown.is_empty() { "(no name)" } else { &self.shown })
    }
}

/// A name as an administrator writes it; `*` in a value stands for any run of characters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DnPattern {
    text: String,
    parts: Vec<Vec<(ObjectIdentifier, String)>>,
}

impl DnPattern {
    /// Reads `C=XX, O=Example, CN=gw1`: parts between commas, the most significant first or last; `+` inside one of
    /// several attributes; `\` in front of a character that means itself.
    ///
    /// # Errors
    /// [`BadDn`].
    pub fn parse(text: &str) -> Result<Self, BadDn> {
        let bad = || BadDn::Syntax(text.chars().take(MAX_SHOWN).collect());
        let mut parts = Vec::new();
        for part in split(text, ',') {
            let mut attributes = Vec::new();
            for attribute in split(&part, '+') {
                let (kind, value) = attribute.split_once('=').ok_or_else(bad)?;
                let value = unescape(value.trim());
                if value.is_empty() {
                    return Err(bad());
                }
                attributes.push((attribute_oid(kind.trim())?, value));
            }
            parts.push(attributes);
        }
        if parts.is_empty() || parts.len() > MAX_PARTS || parts.iter().any(|part| part.len() > MAX_PARTS) {
            return Err(bad());
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether the name has exactly these parts, in this order or in the opposite one.
    pub fn matches(&self, name: &DistinguishedName) -> bool {
        let fits = |(pattern, part): (&Vec<(ObjectIdentifier, String)>, &Vec<Attribute>)| {
            pattern.len() == part.len()
                && pattern.iter().all(|(oid, glob)| {
                    part.iter().any(|a| a.oid == *oid && matches!(&a.value, Value::Text(text) if globs(glob, text)))
                })
        };
        self.parts.len() == name.parts.len()
            && (self.parts.iter().zip(&name.parts).all(fits) || self.parts.iter().rev().zip(&name.parts).all(fits))
    }

    /// Whether exactly one name is meant.
    pub fn is_exact(&self) -> bool {
        self.parts.iter().flatten().all(|(_, value)| !value.contains('*'))
    }

    /// The name in DER, parts in the order in which they were written; [`None`] where a value does not fit its type.
    pub fn to_der(&self) -> Option<Vec<u8>> {
        let mut sequence = RdnSequence::default();
        for part in &self.parts {
            let mut rdn = RelativeDistinguishedName::default();
            for (oid, value) in part {
                let tag = match *oid {
                    COUNTRY | SERIAL => Tag::PrintableString,
                    DC | EMAIL => Tag::Ia5String,
                    _ => Tag::Utf8String,
                };
                if tag != Tag::Utf8String && !value.is_ascii() {
                    return None;
                }
                let value = Any::new(tag, value.as_bytes()).ok()?;
                rdn.insert(AttributeTypeAndValue { oid: *oid, value }).ok()?;
            }
            sequence.push(rdn);
        }
        sequence.to_der().ok()
    }
}

impl fmt::Display for DnPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn attribute_oid(word: &str) -> Result<ObjectIdentifier, BadDn> {
    let upper = word.to_ascii_uppercase();
    match ATTRIBUTES.iter().find(|(name, _)| *name == upper) {
        Some((_, oid)) => Ok(*oid),
        None => ObjectIdentifier::new(word.strip_prefix("OID.").unwrap_or(word))
            .map_err(|_| BadDn::Attribute(word.chars().take(MAX_SHOWN).collect())),
    }
}

/// Splits at a character that no backslash stands in front of; backslashes stay.
fn split(text: &str, at: char) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == at && !escaped {
            pieces.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

/// Without case and surplus blanks.
fn fold(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// Whether a folded text fits a pattern with `*`.
fn globs(glob: &str, text: &str) -> bool {
    let folded: Vec<String> = glob.split('*').map(str::to_lowercase).collect();
    let [only] = folded.as_slice() else {
        let (Some(first), Some(last)) = (folded.first(), folded.last()) else { return false };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for piece in folded.get(1..folded.len().saturating_sub(1)).unwrap_or_default() {
            let Some((_, behind)) = rest.split_once(piece.as_str()) else { return false };
            rest = behind;
        }
        return rest.ends_with(last.as_str());
    };
    fold(only) == text
}

/// The text of a string of any type that names use.
fn text(value: &Any) -> Option<String> {
    let octets = value.value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
            std::str::from_utf8(octets).ok().map(str::to_owned)
        }
        // In practice Latin-1.
        Tag::TeletexString => Some(octets.iter().map(|octet| char::from(*octet)).collect()),
        Tag::BmpString => value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
        _ => None,
    }
}

fn show(oid: ObjectIdentifier, text: Option<&str>) -> String {
    let mut out = match ATTRIBUTES.iter().find(|(_, known)| *known == oid) {
        Some((word, _)) => (*word).to_owned(),
        None => oid.to_string(),
    };
    out.push('=');
    match text {
        None => out.push('?'),
        Some(text) => text.chars().take(MAX_SHOWN).for_each(|c| match c {
            ',' | '+' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DistinguishedName {
        DistinguishedName::from_der(&DnPattern::parse(text).unwrap().to_der().unwrap()).unwrap()
    }

    /// CRT-01: case, blanks, string types and order do not matter; everything else does.
    #[test]
    fn crt_01_names_match_by_parts() {
        let subject = name("C=XX, O=Example\\, Ltd, CN=gw1");
        assert_eq!(subject.to_string(), "C=XX, O=Example\\, Ltd, CN=gw1");
        for good in [
            "C=XX, O=Example\\, Ltd, CN=gw1",
            "CN=GW1,O=example\\,  ltd,C=xx",
            "c=XX, o=Example\\, Ltd, 2.5.4.3=gw1",
            "C=XX, O=*, CN=gw*",
            "C=XX, O=Ex*Ltd, CN=*1",
        ] {
            assert!(DnPattern::parse(good).unwrap().matches(&subject), "{good}");
        }
        for bad in [
            "C=XX, O=Example\\, Ltd",
            "C=XX, O=Example\\, Ltd, CN=gw1, OU=x",
            "C=XX, CN=gw1, O=Example\\, Ltd",
            "C=XX, O=Example\\, Ltd, CN=gw12",
            "C=XX, O=Example\\, Ltd, OU=gw1",
            "C=XX, O=Example\\, Ltd, CN=g*w12",
        ] {
            assert!(!DnPattern::parse(bad).unwrap().matches(&subject), "{bad}");
        }
        for text in ["", "gw1", "C=XX,", "C=", "FOO=bar", "C=XX,,CN=a"] {
            assert!(DnPattern::parse(text).is_err(), "{text}");
        }
        assert!(DnPattern::parse("C=XX, CN=a*").unwrap().to_der().is_some_and(|der| !der.is_empty()));
        assert!(!DnPattern::parse("C=XX, CN=a*").unwrap().is_exact());
    }

    #[test]
    fn subtrees() {
        let subject = name("C=XX, O=Example, CN=gw1");
        assert!(subject.is_within(&name("C=XX, O=example")));
        assert!(!subject.is_within(&name("C=XX, O=Other")));
        assert!(!name("C=XX").is_within(&subject));
    }

    #[test]
    fn what_is_shown_is_harmless() {
        let long = name(&format!("CN=a\u{1b}[2J{}", "x".repeat(1000)));
        let shown = long.to_string();
        assert!(!shown.contains('\u{1b}') && shown.len() < 300, "{shown}");
    }
}
