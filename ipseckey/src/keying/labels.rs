//! The labels behind the cookies of key management: what the daemons write for tools that show SAs (spec section 0,
//! `ipsec_kmc_map`). One `cookie<TAB>label` per line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the file in the runtime directory of the instance.
pub const FILE: &str = "ipsec_kmc_map";

/// Largest file that is read, in octets.
const MAX_FILE: u64 = 4 << 20;

/// Labels by cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<u64, String>);

impl Labels {
    /// Reads the file. No file, or one that cannot be read, is no labels: cookies are then shown as numbers.
    pub fn read(path: &Path) -> Self {
        let mut octets = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut octets)) {
            Ok(_) => Self::parse(&String::from_utf8_lossy(&octets)),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (cookie, label) = line.split_once('\t')?;
            // What a terminal would obey is not for the terminal.
            let label = label.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            Some((cookie.parse().ok()?, label))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// The label of the rule with this cookie.
    pub fn get(&self, cookie: u64) -> Option<&str> {
        self.0.get(&cookie).map(String::as_str)
    }
}

/// The labels of a file that may change at any time.
#[derive(Debug, Default)]
pub struct Followed {
    path: PathBuf,
    /// What tells one content from another: a daemon replaces the file, and never writes into it.
    seen: Option<(u64, i64, i64)>,
    labels: Labels,
}

impl Followed {
    /// Nothing is read yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// The labels that are in the file now.
    pub fn current(&mut self) -> &Labels {
        let now = std::fs::metadata(&self.path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        if now != self.seen {
            self.labels = Labels::read(&self.path);
            self.seen = now;
        }
        &self.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let labels = Labels::parse("7\ta b\n8 no tab\nx\ty\n9\t\u{1b}[2J\n\n18446744073709551615\tlast");
        assert_eq!(labels.get(7), Some("a b"));
        assert_eq!(labels.get(8), None);
        assert_eq!(labels.get(9), Some("?[2J"));
        assert_eq!(labels.get(u64::MAX), Some("last"));
        assert_eq!(Labels::read(Path::new("/nonexistent")), Labels::default());
    }

    #[test]
    fn another_file_has_other_labels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut followed = Followed::new(&path);
        assert_eq!(followed.current().get(7), None);
        for label in ["one", "another"] {
            std::fs::write(dir.path().join("new"), format!("7\t{label}\n")).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
            assert_eq!(followed.current().get(7), Some(label));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(followed.current().get(7), None);
    }
}
