//! The grammars of the configuration files: any text is read or refused, every message has a place in the text, and none
//! shows a key.

use crate::names::FixedNames;
use command_lines::{LineError, Lines};
use ike_daemon::config::{Position, Report, parse_preshared, parse_rules};
use ipsec_algorithms::{ALGORITHMS, AlgorithmFile, Table, listing as tables};
use ipseckey::keying::complete::{Completion, complete};
use ipseckey::keying::parser;
use ipseckey::policy::compile::compile;
use ipseckey::policy::{self, listing};
use sadb_maps::host::spd::CompiledRule;
use sadb_maps::policy::rule_flag;
use std::net::IpAddr;

/// Least characters of a word that is looked for in messages: shorter ones are in them by accident.
const TELLING: usize = 12;

pub(crate) fn ikev2_config(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    match parse_rules("ikev2.config", &text) {
        Ok(loaded) => places(&text, &loaded.warnings),
        Err(report) => {
            assert!(report.has_errors());
            places(&text, &report);
        }
    }
}

pub(crate) fn ikev2_preshared(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let report = match parse_preshared("ikev2.preshared", &text) {
        Ok(loaded) => loaded.warnings,
        Err(report) => report,
    };
    places(&text, &report);
    let shown = report.to_string();
    for secret in text.split(|c: char| c.is_whitespace() || "{}\"#".contains(c)).filter(|word| telling(word)) {
        assert!(!shown.contains(secret), "a finding shows {secret:?}");
    }
}

/// Whether a word could be a key and no word of a message.
fn telling(word: &str) -> bool {
    word.len() >= TELLING && word.chars().any(|c| c.is_ascii_digit())
}

fn places(text: &str, report: &Report) {
    for finding in report.findings() {
        place(text, finding.at.line, finding.at.column);
        assert!(!finding.message.is_empty());
    }
    let sorted: Vec<Position> = report.findings().iter().map(|finding| finding.at).collect();
    assert!(sorted.is_sorted());
    let _ = report.to_string();
}

/// A character of the text, or the one that is missing behind a line or the text.
fn place(text: &str, line: u32, column: u32) {
    let lines = text.split('\n').count();
    assert!((1..=lines as u32).contains(&line), "line {line} of {lines}");
    let len = text.split('\n').nth(line as usize - 1).map_or(0, |line| line.chars().count());
    assert!((1..=len as u32 + 1).contains(&column), "column {column} of {len}, line {line}");
}

pub(crate) fn ipsecinit(octets: &[u8]) {
    let file = policy::parse(octets, &FixedNames);
    let text = String::from_utf8_lossy(octets);
    for problem in &file.problems {
        place(&text, problem.position().line, problem.position().column);
        assert!(!problem.to_string().is_empty());
    }
    for warning in &file.warnings {
        place(&text, warning.at.line, warning.at.column);
    }
    let compiled = compile(Vec::new(), &file.entries, 1, &ends);
    for rule in &compiled.rules {
        let _ = listing::text(rule, Some(&FixedNames));
        let _ = listing::json(rule);
        listed_again(rule);
    }
}

fn ends(name: &str) -> Option<(IpAddr, IpAddr)> {
    (name == "vpn0").then(|| ([198, 51, 100, 2].into(), [203, 0, 113, 2].into()))
}

/// What is listed is policy as well, and means the same.
fn listed_again(rule: &CompiledRule) {
    let text = listing::text(rule, None);
    let again = policy::parse(text.as_bytes(), &FixedNames);
    assert!(again.problems.is_empty(), "{text}is refused: {:?}", again.problems);
    let compiled = compile(Vec::new(), &again.entries, 1, &ends);
    let found = compiled.rules.iter().any(|other| meaning(other) == meaning(rule));
    assert!(found, "{text}means something else");
}

fn meaning(rule: &CompiledRule) -> impl PartialEq {
    let CompiledRule { rule, tunnel } = rule.clone();
    (
        [rule.laddr, rule.lmask, rule.raddr, rule.rmask],
        [rule.lport, rule.rport],
        (rule.proto, rule.verdict, rule.directions, rule.flags, rule.action_id),
        (rule.flags & rule_flag::ICMP != 0).then_some([rule.icmp_type, rule.icmp_code]),
        tunnel,
    )
}

pub(crate) fn ipsecalgs(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let file = match AlgorithmFile::parse(&text) {
        Ok(file) => file,
        Err(error) => return place(&text, u32::try_from(error.line).expect("few lines"), 1),
    };
    assert_eq!(AlgorithmFile::parse(&file.to_string()), Ok(file.clone()));
    let table = Table::of(&file);
    let _ = (tables::file(&file), tables::table(&table), tables::json(Some(&file), &table));
    for algorithm in ALGORITHMS {
        let sizes = algorithm.key.sizes().filter(|bits| table.permits(algorithm.kind, algorithm.id, *bits)).count();
        // Whatever the table says, there is a reason or a use.
        let refusal = table.refusal(algorithm.kind, &algorithm.id.to_string());
        assert_eq!(refusal.is_none(), sizes > 0, "{}", algorithm.name());
    }
}

pub(crate) fn ipseckeys(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    // What the prompt offers fits behind what stands there.
    if let Completion::Words(start, words) = complete(&text) {
        let partial = text.get(start..).expect("the start of a word");
        assert!(words.iter().all(|word| word.starts_with(&partial.to_ascii_lowercase()) || word.starts_with(partial)));
    }
    for line in Lines::new(octets) {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                if let LineError::OpenQuote(at) = error {
                    place(&text, at.line, at.column);
                }
                assert!(!error.ends_input() && !error.to_string().is_empty());
                continue;
            }
        };
        let parsed = parser::parse(&line, &FixedNames);
        assert!(parsed.command.is_none() || parsed.errors.is_empty());
        let masked = line.masked(&["encrkey", "authkey"]);
        let keys: Vec<&str> = line
            .words
            .array_windows()
            .filter(|[before, key]| ["encrkey", "authkey"].contains(&before.text()) && key.may_be_key())
            .map(|[_, key]| key.text())
            .collect();
        // The same digits may be part of a word elsewhere that is none by its looks.
        let elsewhere = |key: &str| line.words.iter().filter(|word| word.text().contains(key)).count() > 1;
        for message in parsed.errors.iter().chain(&parsed.warnings) {
            place(&text, message.at.line, message.at.column);
            let shown = |key: &&&str| message.text.contains(**key) && !elsewhere(key);
            assert!(keys.iter().find(shown).is_none(), "{} shows a key", message.text);
        }
        assert!(keys.iter().all(|key| elsewhere(key) || !masked.contains(key)), "the echo shows a key");
    }
}
