//! Small files that nobody else reads: those that are replaced as a whole, so that a reader, also after a crash, sees the
//! old one or the new one; and those that are locked and written in place.

use super::error::SadbError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a JSON file; `None` when there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SadbError> {
    let failed = |e: io::Error| SadbError::io(path.display().to_string(), e);
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| failed(e.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

/// Opens a file for reading and writing, makes it where it is missing, mode 0600, and leaves what is in it. It follows no
/// symbolic link and is closed by exec.
pub(super) fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Replaces a JSON file, mode 0600, synced. One writer at a time: the caller holds the lock of the instance.
pub(super) fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), SadbError> {
    let write = || -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        whole_files::replace(path, 0o600, &text)
    };
    write().map_err(|e| SadbError::io(path.display().to_string(), e))
}
