//! How much of what the RFCs ask for has a test: the identifiers of `docs/rfc-checklist-ids.txt`, looked for in the tests.
//!
//! An identifier counts when it stands in a test, in its doc line or in its name (`esp_in_10` is ESP-IN-10). Whether the
//! test shows all that the identifier stands for is for its reader to judge.

use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const IDENTIFIERS: &str = "docs/rfc-checklist-ids.txt";

/// Directories that are not ours, or hold no source.
const SKIPPED: [&str; 4] = ["target", ".git", "docs", "corpus"];

struct Section<'t> {
    name: &'t str,
    identifiers: Vec<&'t str>,
}

/// A line for each section with its share and what it lacks.
///
/// # Errors
/// The list or a test cannot be read.
pub(crate) fn report() -> Result<String> {
    let list = root().join(IDENTIFIERS);
    let list = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let mut tests = String::new();
    collect(&root(), &mut tests)?;
    share(&list, &named(&tests))
}

fn share(list: &str, tested: &BTreeSet<String>) -> Result<String> {
    let sections = sections(list);
    ensure!(!sections.is_empty(), "{IDENTIFIERS} names nothing");
    let (mut text, mut covered, mut all) = (String::new(), 0, 0);
    for Section { name, identifiers } in &sections {
        let missing: Vec<&str> = identifiers.iter().filter(|id| !tested.contains(**id)).copied().collect();
        let found = identifiers.len() - missing.len();
        covered += found;
        all += identifiers.len();
        writeln!(text, "   {name}: {found} of {}; not in a test: {}", identifiers.len(), missing.join(" "))?;
    }
    writeln!(text, "   together {covered} of {all}, {} %", 100 * covered / all.max(1))?;
    Ok(text)
}

fn sections(list: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match sections.last_mut() {
            Some(section) if !line.contains(' ') => section.identifiers.push(line),
            _ => sections.push(Section { name: line, identifiers: Vec::new() }),
        }
    }
    sections
}

/// Everything that looks like an identifier, in capitals.
fn named(tests: &str) -> BTreeSet<String> {
    let words = tests.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    let mut found = BTreeSet::new();
    for word in words.map(|word| word.to_ascii_uppercase().replace('_', "-")) {
        let parts: Vec<&str> = word.split('-').collect();
        // In a name the words of the test follow, and several identifiers may.
        for (start, _) in parts.iter().enumerate() {
            for len in [2, 3] {
                if let Some(parts) = parts.get(start..start + len)
                    && parts
                        .last()
                        .is_some_and(|number| number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit()))
                {
                    found.insert(parts.join("-"));
                }
            }
        }
    }
    found
}

/// The text of all tests: files of tests whole, of others what follows `#[cfg(test)]`.
fn collect(directory: &Path, text: &mut String) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(&path, text)?;
            }
        } else if name.ends_with(".rs") || name.ends_with(".py") {
            let content = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            text.push_str(tests_of(&path, &content));
            text.push('\n');
        }
    }
    Ok(())
}

fn tests_of<'c>(path: &Path, content: &'c str) -> &'c str {
    let is_test = |part: &str| ["tests", "scenario", "fuzz"].contains(&part);
    let parts = path.strip_prefix(root()).unwrap_or(path).components();
    let whole = parts.filter_map(|part| part.as_os_str().to_str()).any(is_test)
        || path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| stem == "tests" || stem.ends_with("_tests"))
        || path.starts_with(root().join("ebpf-esp/kernel"));
    if whole { content } else { content.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_found_in_names_and_text() {
        let found =
            named("/// TUN-98, AH-97 (x)\nfn esp_in_96_every_bit() {}\nfn udp_95_and_udp_94() {} let x_1 = 10_000;");
        let expected = ["AH-97", "ESP-IN-96", "TUN-98", "UDP-94", "UDP-95"];
        assert!(expected.iter().all(|id| found.contains(*id)), "{found:?}");
        assert!(!found.contains("AH-96"));
    }

    #[test]
    fn shares_are_of_what_is_listed() {
        let tested = named("AH-98");
        let text = share("# c\nAH (RFC 4302)\nAH-98\nAH-99\n", &tested).unwrap();
        assert_eq!(text, "   AH (RFC 4302): 1 of 2; not in a test: AH-99\n   together 1 of 2, 50 %\n");
        assert!(share("", &tested).is_err());
    }

    #[test]
    fn only_the_tests_of_a_file_count() {
        let own = root().join("sadb-maps/src/x.rs");
        assert_eq!(tests_of(&own, "A\n#[cfg(test)]\nB"), "\nB");
        assert_eq!(tests_of(&own, "A"), "");
        assert_eq!(tests_of(&root().join("sadb-maps/tests/x.rs"), "A"), "A");
    }
}
