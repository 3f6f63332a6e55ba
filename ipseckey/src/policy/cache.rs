//! The cache of loaded entries: their text as typed, which the rules in force no longer have (spec section 4.6).
//!
//! One file, `#INDEX n` before each entry and a blank line after it; entries that begin with `;` are deleted ones and
//! are skipped. Changes happen under a lock of their own, because file and rules in force change together: the new text
//! is written beside the old one, the rules are switched, the new text is renamed. A tool that dies in between leaves
//! both texts. A change never gives an index to another entry than the one that has it, so reading both and keeping
//! what is in force is right whenever the tool died.

use super::lexer;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use whole_files::Fresh;

/// Name of the cache in the run directory of the instance.
pub const FILE: &str = "ipsecpolicy.conf";
/// Name of a new cache that is not yet in its place.
const STAGED: &str = "ipsecpolicy.conf.new";
/// Name of the lock beside it.
pub const LOCK: &str = "ipsecconf.lock";

/// One entry of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cached {
    /// Index of the entry and of the rules made from it.
    pub index: u32,
    /// Text as typed.
    pub text: String,
}

/// Reads a cache; lines before the first index are dropped.
pub fn parse(text: &str) -> Vec<Cached> {
    let mut found: Vec<Cached> = Vec::new();
    for line in text.lines() {
        if let Some(index) = line.strip_prefix("#INDEX ").and_then(|n| n.trim().parse().ok()) {
            found.push(Cached { index, text: String::new() });
        } else if let Some(last) = found.last_mut() {
            if !last.text.is_empty() {
                last.text.push('\n');
            }
            last.text.push_str(line);
        }
    }
    for entry in &mut found {
        entry.text.truncate(entry.text.trim_end().len());
    }
    found.retain(|e| !e.text.is_empty() && !e.text.starts_with(';'));
    found
}

/// The text of a cache: what `ipsecconf` without arguments prints.
pub fn format(entries: &[Cached]) -> String {
    entries.iter().map(|e| format!("#INDEX {} \n{}\n\n", e.index, e.text)).collect()
}

/// An entry without blanks and comments: equal ones are the same.
pub fn words(text: &str) -> Vec<String> {
    lexer::tokens(text, &mut Vec::new()).iter().map(|t| t.text.to_owned()).collect()
}

/// The cache file of an instance.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// The lock, held until dropped.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

impl Cache {
    /// The cache in the run directory `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Its entries and those of a change that was cut short; none when there is no file. What is not in force has to be
    /// left out by the caller.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn read(&self) -> io::Result<Vec<Cached>> {
        let mut all = Vec::new();
        for name in [FILE, STAGED] {
            match std::fs::read_to_string(self.dir.join(name)) {
                Ok(text) => all.extend(parse(&text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by_key(|e| e.index);
        all.dedup_by_key(|e| e.index);
        Ok(all)
    }

    /// Takes the lock, waiting for whoever holds it.
    ///
    /// # Errors
    /// The lock file is not an empty regular file of root's with one name, or cannot be made.
    pub fn lock(&self) -> io::Result<CacheLock> {
        let path = self.dir.join(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.uid() != 0 || meta.len() != 0 || meta.nlink() != 1 {
            let text = format!("{} is not an empty file of root's with one name; remove it", path.display());
            return Err(io::Error::other(text));
        }
        loop {
            // SAFETY: flock takes a descriptor that `file` keeps open.
            if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } == 0 {
                return Ok(CacheLock { _file: file });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Writes `entries` to a file of their own, ready to take the place of the cache.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn stage(&self, entries: &[Cached]) -> io::Result<Fresh> {
        let mut file = Fresh::begin(&self.dir.join(FILE), 0o600)?;
        file.write_all(format(entries).as_bytes())?;
        file.sync()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_survives_the_round_trip() {
        let entries = vec![
            Cached { index: 1, text: "{ laddr 192.0.2.1 } ipsec\n    { encr_algs aes-gcm }".to_owned() },
            Cached { index: 7, text: "{ } drop { }".to_owned() },
        ];
        assert_eq!(parse(&format(&entries)), entries);
        assert_eq!(parse("#INDEX 2 \n; { } drop { }\n\n#INDEX x\n"), []);
        assert_eq!(parse("stray\n"), []);
    }

    #[test]
    fn blanks_and_comments_do_not_count() {
        assert_eq!(words("{ ulp tcp }  pass { }"), words("{ulp tcp} pass # x\n { }"));
        assert_ne!(words("{ ulp tcp } pass { }"), words("{ ulp udp } pass { }"));
    }

    #[test]
    fn a_staged_cache_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        assert_eq!(cache.read().unwrap(), []);
        let entries = vec![Cached { index: 1, text: "{ } drop { }".to_owned() }];
        let staged = cache.stage(&entries).unwrap();
        assert!(!dir.path().join(FILE).exists());
        assert_eq!(cache.read().unwrap(), entries, "a change that was cut short is read as well");
        staged.commit().unwrap();
        assert_eq!(cache.read().unwrap(), entries);
        assert!(!dir.path().join(STAGED).exists());
    }
}
