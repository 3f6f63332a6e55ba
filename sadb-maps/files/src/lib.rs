//! Files that are replaced as a whole: a reader sees the old one or the new one, also after a crash.
//!
//! The new file is written beside the old one, under its name with `.new` behind it, and synced before it takes its place; so is
//! the directory afterwards. One writer at a time: callers have a lock.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file that has not taken its place yet. It is removed when it is dropped before.
#[derive(Debug)]
pub struct Fresh {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Fresh {
    /// Begins one for `target` with exactly this mode, whatever the umask. What a killed writer has left is removed.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn begin(target: &Path, mode: u32) -> io::Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(".new");
        let temporary = PathBuf::from(name);
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&temporary)?;
        let fresh = Self { file, temporary, target: target.to_owned() };
        fresh.file.set_permissions(Permissions::from_mode(mode))?;
        Ok(fresh)
    }

    /// Makes sure that what was written is on the disk, so that [`Fresh::commit`] need not fail for want of room.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// It cannot be written or renamed; the old file is there then. When only the directory cannot be synced, it is the new one.
    pub fn commit(self) -> io::Result<()> {
        self.sync()?;
        std::fs::rename(&self.temporary, &self.target)?;
        let directory = self.target.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for Fresh {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Once it has taken its place there is nothing of that name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Replaces `target` by these octets, with this mode.
///
/// # Errors
/// As for [`Fresh`].
pub fn replace(target: &Path, mode: u32, octets: &[u8]) -> io::Result<()> {
    let mut fresh = Fresh::begin(target, mode)?;
    fresh.write_all(octets)?;
    fresh.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn replaced_as_a_whole_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        // Of another mode and longer: nothing of it stays.
        std::fs::write(&path, "what was there before").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        std::fs::write(directory.path().join("file.new"), "of a killed writer").unwrap();
        replace(&path, 0o640, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn given_up_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, 0o600, b"old").unwrap();
        let mut fresh = Fresh::begin(&path, 0o600).unwrap();
        fresh.write_all(b"half").unwrap();
        drop(fresh);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["file"]);
        assert!(replace(&directory.path().join("none/file"), 0o600, b"").is_err());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [path, other] = ["file", "other"].map(|name| directory.path().join(name));
        std::fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        std::os::unix::fs::symlink(&other, directory.path().join("file.new")).unwrap();
        replace(&path, 0o600, b"new").unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), b"untouched");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    }
}
