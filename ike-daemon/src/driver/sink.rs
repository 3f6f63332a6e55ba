//! Where the lines of the log go: standard error, which a service manager keeps, or a file of the administrator's.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The place, which may change under the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Sink {
    file: Arc<Mutex<Option<File>>>,
}

impl Sink {
    /// From now on lines go to the file at this path, made where it is missing, mode 0600; without a path, to standard
    /// error. The file is opened anew also when the path is the same: it may have been moved away.
    pub(super) fn direct(&self, path: Option<&Path>) -> io::Result<()> {
        let file = path.map(open).transpose()?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match file.as_mut().map(|file| file.write(line)) {
            Some(Ok(length)) => Ok(length),
            // A full disk must not hide what happens.
            Some(Err(_)) | None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Neither is buffered.
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lines_follow_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut sink = Sink::default();
        sink.direct(Some(&path)).unwrap();
        sink.write_all(b"one\n").unwrap();
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        sink.direct(Some(&path)).unwrap();
        sink.write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(sink.direct(Some(dir.path())).is_err());
        assert!(sink.direct(Some(&dir.path().join("none/log"))).is_err());
        sink.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }
}
