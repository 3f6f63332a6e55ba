//! The algorithms that may be named: those that the file and the data path both have.
//!
//! `ipsecalgs -s` puts a copy of /etc/inet/ipsecalgs into the run directory of an instance, which is then in force, as the
//! table in the kernel of Solaris is; before that the file itself is, and without a file everything that the data path can
//! do. A table that cannot be read permits nothing.

use crate::built_in::{self, ALGORITHMS, Algorithm, KeySizes, Kind};
use crate::file::{AlgorithmFile, Entry, MAX_FILE};
use sadb_maps::name::RUN_DIR;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file of the administrator.
pub const PATH: &str = "/etc/inet/ipsecalgs";
/// Name of the table in force in the run directory of an instance.
pub const IN_FORCE: &str = "ipsecalgs";

/// An algorithm that may be used, or why not.
#[derive(Clone, Debug)]
pub struct Listed {
    /// As the file has it.
    pub entry: Entry,
    /// Its implementation with the key sizes that both have, or why there is none.
    pub usable: Result<(&'static Algorithm, KeySizes), String>,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    listed: Vec<Listed>,
    /// Why nothing is permitted.
    broken: Option<String>,
}

impl Table {
    /// Everything that the data path can do.
    pub fn built_in() -> Self {
        Self::of(&AlgorithmFile::built_in())
    }

    /// What is in a file.
    pub fn of(file: &AlgorithmFile) -> Self {
        let listed = |entry: &Entry| Listed { entry: entry.clone(), usable: usable(entry) };
        Self { listed: file.entries.iter().map(listed).collect(), broken: None }
    }

    /// Nothing, because of this.
    pub fn broken(reason: String) -> Self {
        Self { listed: vec![], broken: Some(reason) }
    }

    /// The table in force for the instance of this name.
    pub fn in_force(instance: &str) -> Self {
        Self::load(&in_force_path(instance), Path::new(PATH))
    }

    /// The first of the two files that exists, or what is built in. One that others may not read does not count: whoever
    /// only checks a file may not see the run directory.
    fn load(in_force: &Path, file: &Path) -> Self {
        for path in [in_force, file] {
            match read(path) {
                Ok(file) => return Self::of(&file),
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound => {}
                    io::ErrorKind::PermissionDenied if path == in_force => {}
                    _ => return Self::broken(format!("{}: {error}; see ipsecalgs(8)", path.display())),
                },
            }
        }
        Self::built_in()
    }

    /// Why nothing is permitted, if nothing is.
    pub fn fault(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Its algorithms, the ones that cannot be used included.
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Whether an algorithm with keys of so many bits may be used. Algorithm 0, which is none, always may.
    pub fn permits(&self, kind: Kind, id: u8, bits: u16) -> bool {
        let hit = |(algorithm, key): &(&Algorithm, KeySizes)| {
            algorithm.kind == kind && algorithm.id == id && key.contains(bits)
        };
        id == built_in::ANY || self.listed.iter().filter_map(|listed| listed.usable.as_ref().ok()).any(hit)
    }

    /// Why the algorithm with this name or number may not be used, if there is one and it may not.
    pub fn refusal(&self, kind: Kind, word: &str) -> Option<String> {
        let known =
            built_in::by_name(kind, word).or_else(|| word.parse().ok().and_then(|id| built_in::by_id(kind, id)));
        if let Some(reason) = &self.broken {
            return known.map(|_| reason.clone());
        }
        let named = |listed: &&Listed| {
            let entry = &listed.entry;
            let this = entry.is_named(word) || entry.number.to_string() == word;
            entry.kind() == Some(kind) && entry.number != built_in::ANY && this
        };
        match self.listed.iter().find(named) {
            Some(Listed { usable: Err(reason), .. }) => Some(reason.clone()),
            Some(_) => None,
            None => {
                let (name, id) = known.map(|known| (known.name(), known.id))?;
                let other = self.listed.iter().find(|l| l.entry.kind() == Some(kind) && l.entry.number == id);
                Some(match other {
                    Some(other) => format!(
                        "the table of algorithms has no name '{word}': {name} is called {} there (ipsecalgs -l)",
                        other.entry.names.join(", ")
                    ),
                    None => format!("{name} is not in the table of algorithms (ipsecalgs -l)"),
                })
            }
        }
    }
}

/// Which files a table came from: another one means that another table is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin([Option<(u64, u64, i64, i64)>; 2]);

/// Which files the table in force for the instance of this name comes from. Costs two stat(2).
pub fn origin(instance: &str) -> Origin {
    Origin([&in_force_path(instance), Path::new(PATH)].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    }))
}

/// Where the table in force of an instance is.
pub fn in_force_path(instance: &str) -> PathBuf {
    Path::new(RUN_DIR).join(instance).join(IN_FORCE)
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, is too big, is no text, or has a line that is wrong.
pub fn read(path: &Path) -> io::Result<AlgorithmFile> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut text)?;
    let text = String::from_utf8(text).map_err(|_| invalid("not UTF-8 text".to_owned()))?;
    AlgorithmFile::parse(&text).map_err(|error| invalid(error.to_string()))
}

/// The algorithm of the data path that an entry is about.
fn usable(entry: &Entry) -> Result<(&'static Algorithm, KeySizes), String> {
    let name = entry.names.first().map_or("", String::as_str);
    if entry.number == built_in::ANY {
        return Err(format!("'{name}' stands for other algorithms"));
    }
    let known = entry.kind().and_then(|kind| ALGORITHMS.iter().find(|a| a.kind == kind && a.id == entry.number));
    let Some(algorithm) = known else {
        return Err(format!("the data path has no algorithm {} ({name})", entry.number));
    };
    if algorithm.mechanism != "-" && !entry.sizes.contains(&u16::from(algorithm.block)) {
        let octets = algorithm.block;
        return Err(format!("{name}: the data path has blocks or MACs of {octets} octets only"));
    }
    let sizes: Vec<u16> = algorithm.key.sizes().filter(|bits| entry.keys.contains(*bits)).collect();
    let (Some(min), Some(max)) = (sizes.first().copied(), sizes.last().copied()) else {
        return Err(format!("{name}: the data path has keys of none of these sizes"));
    };
    let step = sizes.get(1).map_or(0, |second| second - min);
    let default = if sizes.contains(&entry.keys.default()) { entry.keys.default() } else { min };
    let key = KeySizes { min, max, step, default };
    if sizes.iter().all(|bits| key.contains(*bits)) && key.sizes().count() == sizes.len() {
        Ok((algorithm, key))
    } else {
        Err(format!("{name}: key sizes that are not evenly spaced cannot be used"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &str) -> Table {
        let text = format!("PROTO|2|AH|sync\nPROTO|3|ESP|sync\nPROTO|9|OTHER|sync\n{lines}\n");
        Table::of(&AlgorithmFile::parse(&text).unwrap())
    }

    #[test]
    fn everything_that_is_built_in_may_be_used() {
        let table = Table::built_in();
        for algorithm in ALGORITHMS {
            for bits in algorithm.key.sizes() {
                assert!(table.permits(algorithm.kind, algorithm.id, bits), "{} {bits}", algorithm.name());
            }
            for name in algorithm.names {
                assert_eq!(table.refusal(algorithm.kind, name), None);
            }
        }
        assert!(!table.permits(Kind::Encryption, 12, 160) && !table.permits(Kind::Encryption, 99, 128));
        assert!(table.permits(Kind::Authentication, 0, 0));
    }

    #[test]
    fn what_the_file_leaves_out_is_refused_with_the_reason() {
        let table = table("ALG|3|12|rijndael|CKM_AES_CBC|256|16\nALG|3|40|twofish|-|128|16\nALG|3|2|des|-|64|16");
        assert!(table.permits(Kind::Encryption, 12, 256) && !table.permits(Kind::Encryption, 12, 128));
        assert!(!table.permits(Kind::Encryption, 20, 128) && !table.permits(Kind::Authentication, 3, 160));
        for (word, wanted) in [
            ("aes-gcm", Some("aes-gcm is not in the table of algorithms (ipsecalgs -l)")),
            ("20", Some("aes-gcm is not in the table of algorithms (ipsecalgs -l)")),
            ("AES", Some("the table of algorithms has no name 'AES': aes-cbc is called rijndael there (ipsecalgs -l)")),
            ("twofish", Some("the data path has no algorithm 40 (twofish)")),
            ("DES", Some("des: the data path has blocks or MACs of 8 octets only")),
            ("Rijndael", None),
            ("12", None),
            ("rot13", None),
        ] {
            assert_eq!(table.refusal(Kind::Encryption, word).as_deref(), wanted, "{word}");
        }
    }

    #[test]
    fn key_sizes_are_those_that_both_have() {
        let sizes = |keys: &str| {
            let table = table(&format!("ALG|3|12|aes|-|{keys}|16"));
            table.listed()[0].usable.clone().map(|(_, key)| (key.min, key.max, key.step, key.default))
        };
        assert_eq!(sizes("256"), Ok((256, 256, 0, 256)));
        assert_eq!(sizes("256,128"), Ok((128, 256, 128, 256)));
        assert_eq!(sizes("192/128-256,64"), Ok((128, 256, 64, 192)));
        assert_eq!(sizes("8-512,8"), Ok((128, 256, 64, 128)));
        assert!(sizes("64").unwrap_err().contains("none of these sizes"));
        let blowfish = table("ALG|3|7|blowfish|-|128,192,448|8");
        assert!(blowfish.listed()[0].usable.clone().unwrap_err().contains("not evenly spaced"));
    }

    #[test]
    fn a_table_that_cannot_be_read_permits_nothing() {
        let table = Table::load(Path::new("/nonexistent"), Path::new("/proc/self/exe"));
        assert!(table.fault().unwrap().contains("ipsecalgs(8)"), "{table:?}");
        assert!(!table.permits(Kind::Encryption, 12, 256));
        assert!(table.refusal(Kind::Encryption, "aes").is_some() && table.refusal(Kind::Encryption, "rot13").is_none());
        let none = Table::load(Path::new("/nonexistent"), Path::new("/nonexistent"));
        assert!(none.fault().is_none() && none.permits(Kind::Encryption, 12, 256));
    }
}
