//! A buffer in front of files and of standard output that leaves no keys behind in memory.

use std::io::{self, Write};
use zeroize::{Zeroize, Zeroizing};

/// Octets that are written at once.
const ROOM: usize = 1 << 16;

/// Collects what is written, up to a flush or as much as there is room for, and wipes it then.
pub struct Wiping<W: Write> {
    inner: W,
    buffer: Zeroizing<Vec<u8>>,
}

impl<W: Write> Wiping<W> {
    /// An empty buffer in front of `inner`. What is not flushed before it is dropped is lost.
    pub fn new(inner: W) -> Self {
        Self { inner, buffer: Zeroizing::new(Vec::with_capacity(ROOM)) }
    }

    fn empty(&mut self) -> io::Result<()> {
        let written = self.inner.write_all(&self.buffer);
        self.buffer.as_mut_slice().zeroize();
        self.buffer.clear();
        written
    }
}

impl<W: Write> Write for Wiping<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // It never grows: an allocation that is given back would not be wiped.
        if octets.len() > ROOM - self.buffer.len() {
            self.empty()?;
        }
        let len = octets.len().min(ROOM);
        self.buffer.extend_from_slice(octets.get(..len).unwrap_or_default());
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.empty()?;
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_comes_out_in_order() {
        let mut out = vec![];
        let mut buffer = Wiping::new(&mut out);
        let mut wanted = vec![];
        for number in 0..3000_u32 {
            let part = vec![number as u8; (number % 200) as usize];
            buffer.write_all(&part).unwrap();
            wanted.extend(part);
        }
        let long = vec![7; 3 * ROOM + 1];
        buffer.write_all(&long).unwrap();
        wanted.extend(long);
        buffer.flush().unwrap();
        drop(buffer);
        assert_eq!(out, wanted);
    }
}
