//! Reading configuration files: bounded, regular, and for files with secrets owned and closed as they have to be.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// The largest file that is read, in octets.
pub const MAX_FILE: u64 = 1024 * 1024;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system's word.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What happened.
        error: io::Error,
    },
    /// A directory, device or pipe.
    #[error("{0}: expected a regular file")]
    NotRegular(String),
    /// Longer than [`MAX_FILE`].
    #[error("{0}: longer than 1 MiB")]
    TooLong(String),
    /// No UTF-8.
    #[error("{0}: expected text in ASCII or UTF-8")]
    NotText(String),
    /// Secrets that belong to someone else.
    #[error("{path}: owned by user {owner}; it has to be owned by root or by the daemon's user: chown root {path}")]
    Owner {
        /// The file.
        path: String,
        /// Its owner.
        owner: u32,
    },
    /// What is trusted and others may change.
    #[error("{0}: others may write this file, and what it says is trusted: chmod go-w {0}")]
    Writable(String),
    /// Secrets that others may touch.
    #[error("{path}: mode {mode:04o} lets others at the keys: chmod 600 {path}")]
    Mode {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// Whether permissions are what is wrong: of the daemon, or of others.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Io { error, .. } => error.kind() == io::ErrorKind::PermissionDenied,
            Self::Owner { .. } | Self::Mode { .. } | Self::Writable(_) => true,
            Self::NotRegular(_) | Self::TooLong(_) | Self::NotText(_) => false,
        }
    }
}

/// Reads a file without secrets.
///
/// # Errors
/// Any [`FileError`] but those about owner and mode.
pub(super) fn read_text(path: &Path) -> Result<String, FileError> {
    let (file, name) = open(path)?;
    let text = read(file, &name)?;
    String::from_utf8(text.to_vec()).map_err(|_| FileError::NotText(name))
}

/// Reads a file with secrets, which must belong to root or to this process's user and be closed to all others.
///
/// # Errors
/// Any [`FileError`].
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let bytes = read_secret_octets(path)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(FileError::NotText(path.display().to_string())),
    }
}

/// Reads a file of any octets that nobody but root and this process's user may read.
///
/// # Errors
/// Any [`FileError`].
pub(crate) fn read_secret_octets(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let (file, name) = open(path)?;
    let mode = owned(&file, &name)?;
    if mode & 0o077 != 0 {
        return Err(FileError::Mode { path: name, mode });
    }
    read(file, &name)
}

/// Reads a file of any octets that nobody but root and this process's user may write.
///
/// # Errors
/// Any [`FileError`].
pub(crate) fn read_trusted_octets(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let (file, name) = open(path)?;
    let mode = owned(&file, &name)?;
    if mode & 0o022 != 0 {
        return Err(FileError::Writable(name));
    }
    read(file, &name)
}

/// The mode of a file that belongs to root or to this process's user.
fn owned(file: &File, name: &str) -> Result<u32, FileError> {
    let metadata = file.metadata().map_err(|error| FileError::Io { path: name.to_owned(), error })?;
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(FileError::Owner { path: name.to_owned(), owner });
    }
    Ok(metadata.mode() & 0o7777)
}

/// Opens without waiting for the other end of a pipe, and looks at what was opened, not at what the name stood for before.
fn open(path: &Path) -> Result<(File, String), FileError> {
    let name = path.display().to_string();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| FileError::Io { path: name.clone(), error })?;
    let metadata = file.metadata().map_err(|error| FileError::Io { path: name.clone(), error })?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular(name));
    }
    if metadata.len() > MAX_FILE {
        return Err(FileError::TooLong(name));
    }
    Ok((file, name))
}

fn read(file: File, name: &str) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // Sized once, so that no copy of a secret is left behind by growing.
    let room = usize::try_from(MAX_FILE).unwrap_or(usize::MAX).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| FileError::Io { path: name.to_owned(), error })?;
    if bytes.len() >= room {
        return Err(FileError::TooLong(name.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_of_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ikev2.preshared");
        fs::write(&path, "{ }").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read_secret(&path) {
                Ok(text) => assert!(good && text.as_str() == "{ }", "{mode:o}"),
                Err(FileError::Mode { mode: found, .. }) => assert!(!good && found == mode, "{mode:o}"),
                Err(other) => panic!("{mode:o}: {other}"),
            }
        }
    }

    #[test]
    fn what_is_no_plain_text_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_text(dir.path()), Err(FileError::NotRegular(_) | FileError::Io { .. })));
        assert!(matches!(read_text(&dir.path().join("none")), Err(FileError::Io { .. })));
        let path = dir.path().join("binary");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read_text(&path), Err(FileError::NotText(_))));
        fs::write(&path, vec![b' '; usize::try_from(MAX_FILE).unwrap() + 1]).unwrap();
        assert!(matches!(read_text(&path), Err(FileError::TooLong(_))));
    }
}
