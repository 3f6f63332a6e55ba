//! Every word at every command, from one table: what spec section 7.4 says of the extensions, written down anew here, so
//! that it and the table of the parser check each other.

use super::parser::parse;
use super::request::Command;
use super::tokens::{Extension, WORDS};
use crate::names::fake::FakeNames;
use command_lines::Lines;
use std::collections::BTreeSet;

/// Who takes an extension.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Every command that names an SA.
    All,
    /// add, update and update-pair.
    Change,
    /// add and update: update-pair has no use for it.
    NotBoth,
    /// Known, and refused by name.
    Nobody,
}

struct Row {
    words: &'static [&'static str],
    who: Who,
    /// Values that are good; one of no characters for a word without a value.
    good: &'static [&'static str],
    bad: &'static [&'static str],
    /// What must stand beside it.
    beside: &'static str,
}

const fn row(
    words: &'static [&'static str],
    who: Who,
    good: &'static [&'static str],
    bad: &'static [&'static str],
    beside: &'static str,
) -> Row {
    Row { words, who, good, bad, beside }
}

const N8: &[&str] = &["0", "255", "0xff", "0377"];
const BAD8: &[&str] = &["256", "-1", "tcp", "", "1.5"];
const N16: &[&str] = &["1", "65535", "0xffff", "010"];
const BAD16: &[&str] = &["65536", "http", "+1", "08"];
const N32: &[&str] = &["1", "0xffffffff", "037777777777", "4294967295"];
const BAD32: &[&str] = &["4294967296", "0x100000000", "x", "0x"];
const N64: &[&str] = &["0", "0xffffffffffffffff", "18446744073709551615"];
const BAD64: &[&str] = &["18446744073709551616", "1k", "0x1g"];
const ADDRESSES: &[&str] = &["198.51.100.7", "one", "many"];
const BAD_ADDRESSES: &[&str] = &["nobody", "1.2.3", "198.51.100.7/32"];
const SIX: &[&str] = &["2001:db8::1", "six"];
const BAD_SIX: &[&str] = &["198.51.100.7", "one", "2001:db8::g"];
const INNER: &[&str] = &["10.0.0.0/8", "10.1.2.3", "one", "one/24", "10.0.0.0/0"];
const BAD_INNER: &[&str] = &["10.0.0.0/33", "many", "nobody", "10.0.0.0/", "10.0.0.0/x"];
const INNER6: &[&str] = &["2001:db8::/32", "six/64", "::/0"];
const BAD_INNER6: &[&str] = &["10.0.0.0/8", "one", "2001:db8::/129"];
const KEY: &[&str] = &["000102030405060708090a0b0c0d0e0f10111213", "0x000102030405060708090a0b0c0d0e0f10111213/160"];
const BAD_KEY: &[&str] = &["0g", "", "0x", "00/9", "00/0", "/8", "00/x"];
const CIPHER_KEY: &[&str] = &["000102030405060708090a0b0c0d0e0f", "0x000102030405060708090a0b0c0d0e0f/128"];
const UDP: &str = "encap udp nat_lport 4500";
const BARE_UDP: &str = "encap udp nat_rem 203.0.113.9";

const TABLE: &[Row] = &[
    row(&["spi"], Who::All, N32, &["0", "0x100000000", "x"], ""),
    row(&["pair-spi"], Who::NotBoth, N32, &["0", "0x100000000", "x"], ""),
    row(&["inbound"], Who::All, &[""], &[], ""),
    row(&["outbound"], Who::All, &[""], &[], ""),
    row(&["replay"], Who::Change, &["0", "64", "65536"], &["65537", "x"], ""),
    row(&["replay_value"], Who::Change, &["0", "0xffffffff"], BAD64, ""),
    row(&["state"], Who::Change, &["mature", "1"], &["larval", "dying", "dead", "0", "2", "3", "4", "MATURE"], ""),
    row(&["auth_alg", "authalg"], Who::Change, &["sha1", "HMAC-SHA1", "3", "0x3"], &["256", "sha9", "des"], ""),
    row(&["encr_alg", "encralg"], Who::Change, &["aes", "AES-CBC", "12"], &["256", "rot13", "sha1"], ""),
    row(&["authkey"], Who::Change, KEY, BAD_KEY, ""),
    row(&["encrkey"], Who::Change, CIPHER_KEY, BAD_KEY, ""),
    row(&["reserved_bits"], Who::Change, &["0"], BAD16, ""),
    row(&["soft_alloc"], Who::Change, N32, BAD32, ""),
    row(&["soft_bytes"], Who::Change, N64, BAD64, ""),
    row(&["soft_addtime"], Who::Change, N64, BAD64, ""),
    row(&["soft_usetime"], Who::Change, N64, BAD64, ""),
    row(&["hard_alloc"], Who::Change, N32, BAD32, ""),
    row(&["hard_bytes"], Who::Change, N64, BAD64, ""),
    row(&["hard_addtime"], Who::Change, N64, BAD64, ""),
    row(&["hard_usetime"], Who::Change, N64, BAD64, ""),
    row(&["idle_addtime"], Who::Change, N32, BAD32, ""),
    row(&["idle_usetime"], Who::Change, N32, BAD32, ""),
    row(&["src", "srcaddr", "saddr"], Who::All, ADDRESSES, BAD_ADDRESSES, ""),
    row(&["dst", "dstaddr", "daddr"], Who::All, ADDRESSES, BAD_ADDRESSES, ""),
    row(&["src6", "srcaddr6", "saddr6"], Who::All, SIX, BAD_SIX, ""),
    row(&["dst6", "dstaddr6", "daddr6"], Who::All, SIX, BAD_SIX, ""),
    row(&["isrc", "innersrc", "proxy", "proxyaddr"], Who::Change, INNER, BAD_INNER, ""),
    row(&["isrc6", "innersrc6", "proxy6", "proxyaddr6"], Who::Change, INNER6, BAD_INNER6, ""),
    row(&["idst", "innerdst"], Who::Change, INNER, BAD_INNER, ""),
    row(&["idst6", "innerdst6"], Who::Change, INNER6, BAD_INNER6, ""),
    row(&["sport"], Who::All, N16, BAD16, ""),
    row(&["dport"], Who::All, N16, BAD16, ""),
    row(&["isport", "innersport"], Who::Change, N16, BAD16, ""),
    row(&["idport", "innerdport"], Who::Change, N16, BAD16, ""),
    row(&["proto", "ulp"], Who::All, N8, BAD8, ""),
    row(&["iproto", "iulp"], Who::Change, N8, BAD8, ""),
    row(&["encap"], Who::Change, &["udp", "u", "ud"], &["tcp", "udpx", ""], "nat_rport 4500"),
    row(&["nat_loc"], Who::Change, &["203.0.113.9", "one", "mixed", "2001:db8::9"], &["nobody", "many"], UDP),
    row(&["nat_rem"], Who::Change, &["203.0.113.9", "one", "0.0.0.0"], &["nobody", "many"], UDP),
    row(&["nat_lport"], Who::Change, N16, BAD16, BARE_UDP),
    row(&["nat_rport"], Who::Change, N16, BAD16, BARE_UDP),
    row(&["srcidtype"], Who::Change, &["fqdn me.example.com", "prefix 10.0.0.0/8", "7 x"], &["bogus x"], ""),
    row(&["dstidtype"], Who::Change, &["mailbox me@example.com", "user_fqdn x"], &["bogus x"], ""),
    row(&["label"], Who::Nobody, &["public"], &[], ""),
    row(&["outer-label"], Who::Nobody, &["public"], &[], ""),
    row(&["implicit-label"], Who::Nobody, &["public"], &[], ""),
    // Ours.
    row(&["esn"], Who::Change, &[""], &[], ""),
    row(&["flags"], Who::Nobody, &["1"], &[], ""),
    row(&["current_alloc"], Who::Nobody, &["1"], &[], ""),
    row(&["current_bytes"], Who::Nobody, &["1"], &[], ""),
    row(&["current_addtime"], Who::Nobody, &["1"], &[], ""),
    row(&["current_usetime"], Who::Nobody, &["1"], &[], ""),
    row(&["dpd"], Who::Nobody, &["1"], &[], ""),
    row(&["sens_level"], Who::Nobody, &["1"], &[], ""),
    row(&["sens_map"], Who::Nobody, &["1"], &[], ""),
    row(&["integ_level"], Who::Nobody, &["1"], &[], ""),
    row(&["integ_map"], Who::Nobody, &["1"], &[], ""),
];

const VERBS: [&str; 6] = ["add", "update", "update-pair", "delete", "delete-pair", "get"];

/// Reads one command.
fn read(text: &str) -> (bool, Vec<String>, Option<Command>) {
    let line = Lines::new(text.as_bytes()).read().unwrap().unwrap();
    let parsed = parse(&line, &FakeNames);
    (parsed.errors.is_empty(), parsed.errors.iter().map(|e| e.text.clone()).collect(), parsed.command)
}

/// What a command needs beside the extension that is looked at, and no other word for the same.
fn rest(verb: &str, words: &[&str]) -> String {
    let six = words.iter().any(|word| word.ends_with('6') && !word.starts_with('i') && !word.starts_with('p'));
    let has = |word: &str| {
        let field = |word: &str| Extension::from_word(word).map(Extension::field);
        words.iter().any(|w| field(w) == field(word))
    };
    let mut all = vec![("spi", "0x1001"), ("dst", if six { "2001:db8::7" } else { "198.51.100.7" })];
    if verb == "add" {
        all.push(("encr_alg", "aes"));
        all.push(("encrkey", CIPHER_KEY[0]));
        all.push(("auth_alg", "sha1"));
        all.push(("authkey", KEY[0]));
    }
    all.into_iter().filter(|(word, _)| !has(word)).map(|(word, value)| format!("{word} {value} ")).collect()
}

/// PFK-01, PFK-02
#[test]
fn every_word_goes_with_the_commands_that_take_it_and_no_others() {
    let mut seen = BTreeSet::new();
    for row in TABLE {
        for (word, verb) in row.words.iter().flat_map(|word| VERBS.map(|verb| (*word, verb))) {
            seen.insert(word);
            let changes = VERBS[..3].contains(&verb);
            let taken = match row.who {
                Who::All => true,
                Who::Change => changes,
                Who::NotBoth => verb == "add" || verb == "update",
                Who::Nobody => false,
            };
            let beside = if changes { row.beside } else { "" };
            for value in row.good {
                for text in [
                    format!("{verb} esp {} {beside} {word} {value}", rest(verb, row.words)),
                    // In any order.
                    format!("{verb} esp {word} {value} {beside} {}", rest(verb, row.words)),
                ] {
                    let (good, errors, _) = read(&text);
                    assert_eq!(good, taken, "{text}: {errors:?}");
                }
            }
            if !taken {
                continue;
            }
            for value in row.bad {
                let text = format!("{verb} esp {} {beside} {word} \"{value}\"", rest(verb, row.words));
                let text = text.replace("\"bogus x\"", "bogus x");
                assert!(!read(&text).0, "{text}");
            }
            // Twice, once by each of its words.
            for again in row.words {
                let value = row.good[0];
                let text = format!("{verb} esp {} {beside} {word} {value} {again} {value}", rest(verb, row.words));
                let (_, errors, _) = read(&text);
                assert_eq!(errors, [format!("can only specify single '{again}'")], "{text}");
            }
            // Without its value.
            if !row.good[0].is_empty() {
                let text = format!("{verb} esp {} {beside} {word}", rest(verb, row.words));
                let (_, errors, _) = read(&text);
                assert!(errors.contains(&format!("'{word}' needs a value")), "{text}: {errors:?}");
            }
            // Words are case-sensitive.
            let text = format!("{verb} esp {} {beside} {} {}", rest(verb, row.words), word.to_uppercase(), row.good[0]);
            assert!(!read(&text).0, "{text}");
        }
    }
    assert_eq!(seen, WORDS.iter().copied().collect(), "words of the parser that are not in the table");
}

#[test]
fn refused_words_are_refused_by_name() {
    for (row, verb) in TABLE.iter().filter(|row| row.who == Who::Nobody).flat_map(|row| VERBS.map(|verb| (row, verb))) {
        let word = row.words[0];
        let (_, errors, _) = read(&format!("{verb} esp {} {word} {}", rest(verb, row.words), row.good[0]));
        let wanted = if !word.ends_with("label") {
            format!("don't use extension '{word}': it is not for manual keys")
        } else if VERBS[..3].contains(&verb) {
            "labels need a labelled system (diagnostic code 83)".to_owned()
        } else {
            format!("extension '{word}' only goes with add and update")
        };
        assert_eq!(errors, [wanted], "{verb} {word}");
    }
}

/// The SA types that each command takes, in any case of letters and as numbers.
#[test]
fn every_command_takes_its_types() {
    let name = "spi 1 dst 198.51.100.7";
    let keys = format!("{name} auth_alg sha1 authkey {}", KEY[0]);
    for kind in ["ah", "AH", "esp", "Esp", "2", "3", "all", "0", "rsvp", "5", ""] {
        let one = ["ah", "AH", "esp", "Esp", "2", "3"].contains(&kind);
        let any = one || ["all", "0"].contains(&kind);
        for (command, taken) in [
            (format!("add {kind} {keys}"), one),
            (format!("update {kind} {name} soft_bytes 1"), one),
            (format!("update-pair {kind} {name} soft_bytes 1"), one),
            (format!("delete {kind} {name}"), one),
            (format!("delete-pair {kind} {name}"), one),
            (format!("get {kind} {name}"), one),
            (format!("flush {kind}"), any || kind.is_empty()),
            (format!("dump {kind}"), any || kind.is_empty()),
            (format!("save {kind}"), any),
            (format!("monitor {kind}"), kind.is_empty()),
            (format!("quit {kind}"), kind.is_empty()),
            (format!("ADD {kind} {keys}"), false),
        ] {
            assert_eq!(read(&command).0, taken, "{command}");
        }
    }
}
