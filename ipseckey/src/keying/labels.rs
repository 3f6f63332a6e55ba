//! The labels behind the cookies of key management: what the daemons write for tools that show SAs (spec section 0,
//! `ipsec_kmc_map`). One `cookie<TAB>label` per line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

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
}
