//! The manual pages and what shells complete: sound, and about the same options.

use crate::debian;
use crate::package::layout;
use crate::workspace::{binaries, root, run_text};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Shells with the places where Debian has their completions; what stands before and behind the name of a command.
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", "/usr/share/bash-completion/completions/", ""),
    ("zsh", "/usr/share/zsh/vendor-completions/_", ""),
    ("fish", "/usr/share/fish/vendor_completions.d/", ".fish"),
];

/// Every command has them, and no page need say so.
const EVERYWHERE: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Where a file of completions goes, from the root, and its text.
///
/// # Errors
/// A command cannot be run.
pub(crate) fn completions(binaries: &Path) -> Result<Vec<(&'static str, String, String)>> {
    let mut all = vec![];
    for (built, name) in layout::commands() {
        for (shell, before, behind) in SHELLS {
            let text = run_text(Command::new(binaries.join(built)).args(["--completions", shell]))?;
            all.push((shell, format!("{before}{name}{behind}"), text));
        }
    }
    Ok(all)
}

/// Writes the completions of every command and shell below `directory`, as if that were the root.
///
/// # Errors
/// Something has not been built, or a file cannot be written.
pub fn write_completions(directory: &Path) -> Result<()> {
    for (_, path, text) in completions(&binaries()?)? {
        let to = directory.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(directory))?;
        fs::write(&to, text).with_context(|| format!("writing {}", to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

/// What [`check`] needs.
///
/// # Errors
/// It is not there and cannot be installed.
pub fn prepare() -> Result<()> {
    debian::ensure(&["mandoc", "bash"], "reading the manual pages and completions")
}

/// Looks at every page and every file of completions, and gives how many there were.
///
/// # Errors
/// What is wrong with the first one that is not sound.
pub fn check() -> Result<u32> {
    let pages = pages()?;
    for page in &pages {
        let mut lint = Command::new("mandoc");
        let output = lint.args(["-T", "lint", "-W", "warning"]).arg(page).output().context("could not start mandoc")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let completions = completions(&binaries()?)?;
    for (shell, path, text) in &completions {
        syntax(shell, text).with_context(|| path.clone())?;
    }
    for (_, name) in layout::commands() {
        let path = root().join(format!("docs/man/{name}.8"));
        let page = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let bash = completions.iter().find(|(shell, path, _)| *shell == "bash" && path.ends_with(&format!("/{name}")));
        let taken = taken(bash.map_or("", |(_, _, text)| text.as_str()));
        ensure!(!taken.is_empty(), "{name} takes no options, say its completions");
        compare(&page, &taken).with_context(|| path.display().to_string())?;
    }
    Ok(u32::try_from(pages.len() + completions.len())?)
}

fn pages() -> Result<Vec<std::path::PathBuf>> {
    let mut pages = vec![];
    for entry in fs::read_dir(root().join("docs/man"))? {
        pages.push(entry?.path());
    }
    pages.sort();
    ensure!(pages.len() > 7, "manual pages are missing");
    Ok(pages)
}

/// Has the shell read what it would complete with. One that is not here is not asked.
fn syntax(shell: &str, text: &str) -> Result<()> {
    ensure!(!text.is_empty(), "there is nothing in it");
    let option = if shell == "fish" { "--no-execute" } else { "-n" };
    let mut command = Command::new(shell);
    let mut child = match command.arg(option).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound && shell != "bash" => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("could not start {shell}")),
    };
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(written?)
}

/// The options that a command and its subcommands take, from its completions for bash.
fn taken(bash: &str) -> BTreeSet<String> {
    let lists = bash.lines().filter_map(|line| line.trim().strip_prefix("opts=\"")?.strip_suffix('"'));
    let options = lists.flat_map(str::split_whitespace).filter(|word| word.starts_with('-'));
    options.filter(|word| !EVERYWHERE.contains(word)).map(str::to_owned).collect()
}

/// Every option of the command is in its page, and every option that the page defines is one of the command.
fn compare(page: &str, taken: &BTreeSet<String>) -> Result<()> {
    let (named, defined) = (options(page.lines()), options(page.lines().filter(|line| line.starts_with(".It "))));
    let missing: Vec<_> = taken.difference(&named).collect();
    ensure!(missing.is_empty(), "the page does not tell of {missing:?}");
    let stray: Vec<_> = defined.difference(taken).filter(|word| !EVERYWHERE.contains(&word.as_str())).collect();
    ensure!(stray.is_empty(), "the page defines {stray:?}, which the command does not take");
    Ok(())
}

/// The arguments of every `Fl` in lines of mdoc(7).
fn options<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in lines.filter(|line| line.starts_with('.')) {
        let mut is_flag = false;
        for word in line.trim_start_matches('.').split_whitespace() {
            // Other macros begin with a capital, and have two letters; options of one letter have one.
            let is_macro = word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
            match word {
                "Fl" => is_flag = true,
                _ if is_macro => is_flag = false,
                "," | "|" | "." | ";" | ":" | "(" | ")" => {}
                _ if !is_flag => {}
                _ if word.starts_with('-') => drop(found.insert(format!("-{word}"))),
                // Several of one letter may stand together.
                _ => found.extend(word.chars().filter(char::is_ascii_alphabetic).map(|c| format!("-{c}"))),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn options_are_found_in_pages_and_completions() {
        let page = ".Nm\n.Op Fl np\n.It Fl a Ar FILE Oc Fl -json\n.It Fl d , f , l\nno Fl here\n.Cm Fx y\n.It Fl l";
        assert_eq!(options(page.lines()), set(&["-n", "-p", "-a", "--json", "-d", "-f", "-l"]));
        let bash = "  opts=\"-n --json --help [COMMAND]... attach\"\n x\n opts=\"-h\"";
        assert_eq!(taken(bash), set(&["-n", "--json"]));
    }

    #[test]
    fn pages_and_commands_that_differ_are_told() {
        let page = ".Op Fl n\n.It Fl n\n.It Fl -json\n";
        compare(page, &set(&["-n", "--json"])).unwrap();
        for (options, wanted) in
            [(&["-n"][..], "defines [\"--json\"]"), (&["-n", "--json", "-x"], "does not tell of [\"-x\"]")]
        {
            assert!(compare(page, &set(options)).unwrap_err().to_string().contains(wanted), "{options:?}");
        }
    }
}
