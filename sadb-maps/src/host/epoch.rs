//! The install epoch: a number that is never given out twice on this host, not even after a crash or a boot.
//!
//! An SA whose key may be loaded again (a manual one) takes the upper half of its 64-bit explicit IVs from it, so that
//! the same key never sees the same nonce twice (RFC 4106 section 3.1, RFC 8750 section 2: the pair of key and IV must
//! not repeat). The file is written and synced before the number is used.

use super::error::SadbError;
use super::instance::STATE_DIR;
use super::{bpffs, clock, files};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most numbers that one write sets aside.
const LARGEST_BLOCK: u32 = 1 << 14;

/// Gives out epochs. Sets aside larger blocks as more are wanted, so that a file with thousands of keys does not wait
/// for the disk once per key; numbers that are left over are lost.
#[derive(Debug)]
pub struct EpochSource {
    path: PathBuf,
    next: u32,
    end: u32,
    block: u32,
}

impl Default for EpochSource {
    fn default() -> Self {
        Self::at(&Path::new(STATE_DIR).join("epoch"))
    }
}

impl EpochSource {
    /// A source with its file at `path`, whose directory is made (mode 0700) if missing.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), next: 0, end: 0, block: 1 }
    }

    /// An epoch nobody got before.
    ///
    /// # Errors
    /// [`SadbError::Epoch`] when the file cannot be locked, read, written or synced, holds no number, or the numbers
    /// are used up.
    pub fn next_epoch(&mut self) -> Result<u32, SadbError> {
        if self.next == self.end {
            let start = reserve(&self.path, self.block).map_err(SadbError::Epoch)?;
            (self.next, self.end) = (start, start + self.block);
            self.block = (self.block * 2).min(LARGEST_BLOCK);
        }
        let epoch = self.next;
        self.next += 1;
        Ok(epoch)
    }
}

/// Sets `count` numbers aside and returns the first.
fn reserve(path: &Path, count: u32) -> io::Result<u32> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    bpffs::private_dir(dir).map_err(io::Error::other)?;
    let file = files::private(path)?;
    let mut file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| io::Error::from(e))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let start: u32 = if text.is_empty() {
        // A lost file must not start over: seconds since 1970 have grown by more than the epochs given out, unless
        // more than one SA a second was installed all the time.
        u32::try_from(clock::wall_seconds()).map_err(io::Error::other)?
    } else {
        let what =
            || format!("{} holds no number; remove it only if no manual key is ever loaded again", path.display());
        text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, what()))?
    };
    let end = start.checked_add(count).ok_or_else(|| io::Error::other("the install epochs are used up"))?;
    // Same width every time: a torn write cannot leave digits of another number behind the new one.
    file.write_all_at(format!("{end:010}\n").as_bytes(), 0)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn epochs_never_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let mut source = EpochSource::at(&path);
            for _ in 0..5 {
                assert!(seen.insert(source.next_epoch().unwrap()));
            }
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut source = EpochSource::at(&path);
                        (0..10).map(|_| source.next_epoch().unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            for epoch in threads.into_iter().flat_map(|t| t.join().unwrap()) {
                assert!(seen.insert(epoch));
            }
        });
    }

    #[test]
    fn nothing_is_given_out_that_cannot_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        std::fs::write(&path, "rubbish").unwrap();
        assert!(matches!(EpochSource::at(&path).next_epoch(), Err(SadbError::Epoch(_))));
        std::fs::write(&path, "4294967295\n").unwrap();
        assert!(matches!(EpochSource::at(&path).next_epoch(), Err(SadbError::Epoch(_))));
        // A directory in the place of the file cannot be written.
        let blocked = dir.path().join("blocked");
        std::fs::create_dir(&blocked).unwrap();
        assert!(matches!(EpochSource::at(&blocked).next_epoch(), Err(SadbError::Epoch(_))));
    }
}
