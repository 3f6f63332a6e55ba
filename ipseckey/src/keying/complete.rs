//! What may stand at the end of a half-typed command: for the prompt, which finishes words at the TAB key.
//!
//! Only words of the language are offered, never keys and addresses.

use super::request::SaType;
use super::tokens::{self, Extension, Values};
use crate::algorithms::{self, Kind};
use sadb_maps::host::Identity;

/// What fits at the end of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// These words in place of what stands from the octet on, in alphabetic order.
    Words(usize, Vec<&'static str>),
    /// The name of a file.
    File,
}

/// The commands, the usual word for each first.
const COMMANDS: [&[&str]; 12] = [
    &["add"],
    &["update"],
    &["update-pair"],
    &["delete"],
    &["delete-pair"],
    &["get"],
    &["flush"],
    &["dump"],
    &["save"],
    &["monitor", "passive_monitor", "pmonitor"],
    &["help", "?"],
    &["exit", "quit"],
];

/// What fits at the end of `text`, which is what stands before the cursor; continuation lines may be part of it.
pub fn complete(text: &str) -> Completion {
    let start = text.rfind(char::is_whitespace).map_or(0, |at| {
        let white = text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        at + white
    });
    let (before, partial) = (text.get(..start).unwrap_or_default(), text.get(start..).unwrap_or_default());
    // A backslash that stands alone is the end of a line that goes on.
    let before: Vec<&str> = before.split_whitespace().filter(|word| *word != "\\").collect();
    let words = match before.as_slice() {
        [] => matching(partial, COMMANDS),
        ["flush" | "dump"] | ["save"] => matching(partial, [&["all"], &["ah"], &["esp"]]),
        ["save", _] => return Completion::File,
        ["help" | "?"] => matching(partial, COMMANDS.into_iter().chain([&["attr"][..]])),
        ["add" | "update" | "update-pair" | "delete" | "delete-pair" | "get"] => matching(partial, [&["ah"], &["esp"]]),
        [verb @ ("add" | "update" | "update-pair" | "delete" | "delete-pair" | "get"), kind, extensions @ ..] => {
            let kind = if kind.eq_ignore_ascii_case("ah") { SaType::Ah } else { SaType::Esp };
            extension(verb, kind, extensions, partial)
        }
        _ => vec![],
    };
    Completion::Words(start, words)
}

/// The next word of a command that takes extensions: one of them, or the value of the last.
fn extension(verb: &str, kind: SaType, before: &[&str], partial: &str) -> Vec<&'static str> {
    let mut seen = vec![];
    let mut words = before.iter();
    while let Some(word) = words.next() {
        let Some(found) = Extension::from_word(word) else { continue };
        seen.push(found.field());
        let wanted = match found.values() {
            Values::None => 0,
            Values::One => 1,
            Values::Two => 2,
        };
        for number in 0..wanted {
            if words.next().is_none() {
                return value(found, number, partial);
            }
        }
    }
    let names_only = matches!(verb, "delete" | "delete-pair" | "get");
    let fits = |e: &Extension| {
        let of_kind = kind == SaType::Esp || !matches!(e, Extension::EncrAlg | Extension::EncrKey | Extension::Encap);
        !e.is_refused() && of_kind && (e.names_an_sa() || !names_only) && !seen.contains(&e.field())
    };
    matching(partial, tokens::ALL.iter().filter(|e| fits(e)).map(|e| e.words()))
}

/// The value of an extension; `number` counts those before it.
fn value(extension: Extension, number: usize, partial: &str) -> Vec<&'static str> {
    let names = |kind| matching(&partial.to_ascii_lowercase(), algorithms::of_kind(kind).map(|a| a.names));
    match extension {
        Extension::AuthAlg => names(Kind::Authentication),
        Extension::EncrAlg => names(Kind::Encryption),
        Extension::State => matching(partial, [&["mature"]]),
        Extension::Encap => matching(partial, [&["udp"]]),
        Extension::SourceIdentity | Extension::DestinationIdentity if number == 0 => {
            matching(partial, Identity::words().map(|word| [word]))
        }
        _ => vec![],
    }
}

/// Of each group of synonyms those that begin so, or the first one as long as nothing has been typed.
fn matching<T: AsRef<[&'static str]>>(partial: &str, groups: impl IntoIterator<Item = T>) -> Vec<&'static str> {
    let mut found = vec![];
    for group in groups {
        let group = group.as_ref();
        let offered = if partial.is_empty() { group.get(..1).unwrap_or_default() } else { group };
        found.extend(offered.iter().filter(|word| word.starts_with(partial)));
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn words(text: &str) -> Vec<&'static str> {
        match complete(text) {
            Completion::Words(start, words) => {
                let partial = text.get(start..).unwrap();
                assert!(words.iter().all(|w| w.starts_with(&partial.to_ascii_lowercase()) || w.starts_with(partial)));
                words
            }
            Completion::File => panic!("a file"),
        }
    }

    #[test]
    fn commands_types_and_topics() {
        assert_eq!(words("d"), ["delete", "delete-pair", "dump"]);
        assert_eq!(words("pm"), ["pmonitor"]);
        assert_eq!(words("").len(), COMMANDS.len());
        assert_eq!(words("flush "), ["ah", "all", "esp"]);
        assert_eq!(words("get e"), ["esp"]);
        assert_eq!(words("help a"), ["add", "attr"]);
        assert_eq!(words("help add "), [""; 0]);
        assert_eq!(words("bogus "), [""; 0]);
        assert_eq!(complete("save esp /tm"), Completion::File);
    }

    #[test]
    fn extensions_that_are_left_and_values_that_are_known() {
        let left = words("get esp spi 1 ");
        assert!(left.contains(&"dst") && !left.contains(&"spi") && !left.contains(&"encrkey"), "{left:?}");
        assert_eq!(words("add esp spi 1 da"), ["daddr", "daddr6"]);
        assert_eq!(words("add esp spi 1 dst6 ::1 dst"), ["dstidtype"]);
        assert_eq!(words("add esp encr_alg AES-GCM"), ["aes-gcm", "aes-gcm12", "aes-gcm16", "aes-gcm8"]);
        assert_eq!(words("add esp authalg sha2"), ["sha256"]);
        assert_eq!(words("add esp srcidtype m"), ["mailbox"]);
        assert_eq!(words("add ah enc"), [""; 0]);
        // A backslash at the end of a line belongs to no word.
        assert_eq!(words("add esp spi 1 \\\n    stat"), ["state"]);
        assert_eq!(words("add esp spi 1 state "), ["mature"]);
        assert_eq!(words("add esp\u{2003}out"), ["outbound", "outer-label"]);
    }

    /// Keys and addresses are not for us to propose.
    #[test]
    fn nothing_is_offered_for_other_values() {
        for extension in tokens::ALL.iter().filter(|e| e.values() != Values::None) {
            let known = words(&format!("add esp {} ", extension.words()[0]));
            let offers = matches!(
                extension,
                Extension::AuthAlg
                    | Extension::EncrAlg
                    | Extension::State
                    | Extension::Encap
                    | Extension::SourceIdentity
                    | Extension::DestinationIdentity
            );
            assert_eq!(known.is_empty(), !offers, "{extension:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|(add|get|save|help|esp|spi|\\\\|\"| |\t|\n|\u{85}){0,12}") {
            if let Completion::Words(start, _) = complete(&text) {
                proptest::prop_assert!(text.is_char_boundary(start));
            }
        }
    }
}
