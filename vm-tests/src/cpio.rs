//! The archive format of an initial file system: "newc" of cpio, as Linux documents it in
//! Documentation/driver-api/early-userspace/buffer-format.rst. Every number is eight digits of hexadecimal in ASCII, and
//! names and contents end at a multiple of four octets.

use anyhow::{Context, Result, ensure};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// An archive that grows in memory.
#[derive(Debug, Default)]
pub struct Archive {
    octets: Vec<u8>,
    entries: u32,
    directories: Vec<String>,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory, and those above it, unless they are in the archive. `path` is relative to the root.
    ///
    /// # Errors
    /// See [`Archive::file`].
    pub fn directory(&mut self, path: &str) -> Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.iter().any(|known| known == path) {
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above)?;
        }
        self.directories.push(path.to_owned());
        self.entry(path, DIRECTORY, &[])
    }

    /// Adds a file, and the directories above it.
    ///
    /// # Errors
    /// The path holds a NUL, or the file has 4 GiB or more.
    pub fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.with_mode(path, FILE, content)
    }

    /// Adds a file that can be executed, and the directories above it.
    ///
    /// # Errors
    /// See [`Archive::file`].
    pub fn program(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.with_mode(path, PROGRAM, content)
    }

    fn with_mode(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = path.trim_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above)?;
        }
        self.entry(path, mode, content)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        ensure!(!path.contains('\0'), "a path with a NUL in it: {path:?}");
        let size = u32::try_from(content.len()).with_context(|| format!("{path} has 4 GiB or more"))?;
        let name_size = u32::try_from(path.len() + 1).with_context(|| format!("{path} is too long a name"))?;
        self.entries += 1;
        // Inode, mode, user, group, links, time, size, device and device number in two halves each, size of the name
        // with its NUL, checksum (none).
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.octets.extend_from_slice(b"070701");
        for field in fields {
            self.octets.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.octets.extend_from_slice(path.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }

    /// Ends the archive and hands it back.
    ///
    /// # Errors
    /// None that can happen; the last entry is made as all others.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn headers_are_as_documented() {
        let mut archive = Archive::new();
        archive.file("a/b", b"hello").unwrap();
        let octets = archive.finish().unwrap();
        let text = String::from_utf8(octets.clone()).unwrap();
        assert!(text.starts_with(
            "070701\
             00000001000041ED00000000000000000000000100000000\
             0000000000000000000000000000000000000000\
             0000000200000000a\0"
        ));
        // Header and name of the directory: 110 + 2, a multiple of four.
        let file = text.get(112..).unwrap();
        assert!(file.starts_with("07070100000002000081A4"), "{file:?}");
        assert_eq!(file.get(110..124).unwrap(), "a/b\0\0\0hello\0\0\0");
        assert_eq!(file.get(124..130).unwrap(), "070701");
        assert_eq!(octets.len() % 4, 0);
    }

    /// Where cpio is installed, it reads what we wrote.
    #[test]
    fn directories_are_there_once() {
        let mut archive = Archive::new();
        archive.program("/bin/one", b"1").unwrap();
        archive.program("/bin/two", b"2").unwrap();
        archive.directory("bin").unwrap();
        let octets = archive.finish().unwrap();
        let names = octets.windows(6).filter(|window| window == b"070701").count();
        assert_eq!(names, 4, "bin, one, two, trailer");
        let cpio = Command::new("cpio").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        if let Ok(mut cpio) = cpio {
            cpio.stdin.take().unwrap().write_all(&octets).unwrap();
            let output = cpio.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "bin\nbin/one\nbin/two\n");
        }
    }
}
