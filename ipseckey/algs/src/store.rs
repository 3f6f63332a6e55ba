//! The file on disk: changed under a lock, and replaced as a whole.

use crate::file::AlgorithmFile;
use crate::table;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A table on disk that nobody else changes meanwhile.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Locked until dropped.
    _directory: File,
}

impl Store {
    /// Locks the directory of `path`, which is made if there is none.
    ///
    /// # Errors
    /// The directory cannot be made or opened.
    pub fn lock(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = File::open(directory)?;
        directory.lock()?;
        Ok(Self { path: path.to_owned(), _directory: directory })
    }

    /// What the file has, or what is built in where there is none.
    ///
    /// # Errors
    /// As [`table::read`], but for a file that does not exist.
    pub fn read(&self) -> io::Result<AlgorithmFile> {
        read(&self.path)
    }

    /// Puts a new file in place of the old one.
    ///
    /// # Errors
    /// It cannot be written or renamed.
    pub fn write(&self, file: &AlgorithmFile) -> io::Result<()> {
        replace(&self.path, file, 0o644)
    }
}

/// What a file has, or what is built in where there is none.
///
/// # Errors
/// As [`table::read`], but for a file that does not exist.
pub fn read(path: &Path) -> io::Result<AlgorithmFile> {
    match table::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(AlgorithmFile::built_in()),
        result => result,
    }
}

/// Writes a file with this mode beside `path`, and then in its place.
///
/// # Errors
/// It cannot be written or renamed.
pub fn replace(path: &Path, file: &AlgorithmFile, mode: u32) -> io::Result<()> {
    whole_files::replace(path, mode, file.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_made_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inet/ipsecalgs");
        {
            let store = Store::lock(&path).unwrap();
            let mut file = store.read().unwrap();
            assert_eq!(file, AlgorithmFile::built_in());
            file.remove("3", "des").unwrap();
            std::fs::write(directory.path().join("inet/ipsecalgs.new"), "left behind").unwrap();
            store.write(&file).unwrap();
            assert_eq!(store.read().unwrap(), file);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(directory.path().join("inet")).unwrap().count(), 1);
        std::fs::write(&path, "bogus\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
    }

    /// Each of many changes made at once is there in the end.
    #[test]
    fn changes_at_once_do_not_undo_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = &directory.path().join("ipsecalgs");
        std::thread::scope(|scope| {
            for number in 100..120u8 {
                scope.spawn(move || {
                    let store = Store::lock(path).unwrap();
                    let mut file = store.read().unwrap();
                    let name = format!("P{number}");
                    file.add_protocol(crate::file::Protocol { number, name, mode: crate::file::Mode::Sync }, false)
                        .unwrap();
                    store.write(&file).unwrap();
                });
            }
        });
        assert_eq!(read(path).unwrap().protocols.len(), 22);
    }
}
