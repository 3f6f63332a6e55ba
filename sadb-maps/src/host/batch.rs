//! Many elements of a map with one system call (Linux 5.6). The kernel handles them one after another: each is as atomic as
//! alone, and all together are not.

use super::fault;
use bytemuck::{Pod, Zeroable};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use zeroize::Zeroize;

const BPF_MAP_LOOKUP_BATCH: i64 = 24;
const BPF_MAP_UPDATE_BATCH: i64 = 26;

/// Elements that callers take at a time: enough that a system call costs next to nothing for each.
pub(super) const CHUNK: u32 = 512;

/// The leading fields of `union bpf_attr` for batches.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    fd: u32,
    element_flags: u64,
    flags: u64,
}

/// The command; gives the number of elements handled, also when it stopped before the last.
fn run(command: i64, attr: &mut BatchAttr) -> (u32, io::Result<()>) {
    // SAFETY: attr is a properly initialised prefix of union bpf_attr and lives through the call, as what it points to; the
    // kernel takes the rest of the union as zero because it is told the size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<BatchAttr>()) };
    (attr.count, if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })
}

/// Records that may hold secrets: wiped when dropped.
pub(super) struct WipedList<T: Pod>(Vec<T>);

impl<T: Pod> Deref for WipedList<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Pod> Drop for WipedList<T> {
    fn drop(&mut self) {
        bytemuck::cast_slice_mut::<T, u8>(&mut self.0).zeroize();
    }
}

/// A descriptor of an array map whose values are `V`.
#[derive(Debug)]
pub(super) struct ArrayBatch(OwnedFd);

impl ArrayBatch {
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        map.try_clone_to_owned().map(Self)
    }

    fn attr(&self, count: usize) -> BatchAttr {
        let fd = self.0.as_raw_fd() as u32;
        BatchAttr { in_batch: 0, out_batch: 0, keys: 0, values: 0, count: count as u32, fd, element_flags: 0, flags: 0 }
    }

    /// The values from index `first` on, at most `count`; fewer where the map ends.
    pub(super) fn read<V: Pod>(&self, first: u32, count: u32) -> io::Result<WipedList<V>> {
        let mut values = WipedList(vec![V::zeroed(); count as usize]);
        let mut keys = vec![0_u32; count as usize];
        let (before, mut last) = (first.checked_sub(1), 0_u32);
        let mut attr = self.attr(count as usize);
        // The walk begins behind the key that is given.
        attr.in_batch = before.as_ref().map_or(0, |key| std::ptr::from_ref(key) as u64);
        attr.out_batch = &raw mut last as u64;
        (attr.keys, attr.values) = (keys.as_mut_ptr() as u64, values.0.as_mut_ptr() as u64);
        let (read, result) = run(BPF_MAP_LOOKUP_BATCH, &mut attr);
        match result {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
            _ => {
                fault::lookups_of(read);
                values.0.truncate(read as usize);
                Ok(values)
            }
        }
    }

    /// Writes each value under its index, in this order.
    pub(super) fn write<V: Pod>(&self, keys: &[u32], values: &[V]) -> io::Result<()> {
        if keys.len() != values.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // A test that dies at a write dies between two of a batch as well.
        let step = if fault::is_armed() { 1 } else { keys.len().max(1) };
        for (keys, values) in keys.chunks(step).zip(values.chunks(step)) {
            fault::point();
            let mut attr = self.attr(keys.len());
            (attr.keys, attr.values) = (keys.as_ptr() as u64, values.as_ptr() as u64);
            run(BPF_MAP_UPDATE_BATCH, &mut attr).1?;
        }
        Ok(())
    }

    /// Writes zeros under each index.
    pub(super) fn clear<V: Pod + Zeroable>(&self, keys: &[u32]) -> io::Result<()> {
        self.write(keys, &vec![V::zeroed(); keys.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::{RawMap, Shape};
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_batch_is_what_its_elements_are() {
        let map = RawMap::create("batch", Shape { kind: 2, key: 4, value: 8, entries: 10, flags: 0 }).unwrap();
        let batch = ArrayBatch::new(map.as_fd()).unwrap();
        let keys: Vec<u32> = (1..8).collect();
        let values: Vec<u64> = keys.iter().map(|key| u64::from(*key) * 3).collect();
        batch.write(&keys, &values).unwrap();
        assert_eq!(map.get(&5_u32.to_ne_bytes()).unwrap().unwrap()[..], 15_u64.to_ne_bytes());
        assert_eq!(batch.read::<u64>(0, 4).unwrap()[..], [0, 3, 6, 9]);
        assert_eq!(batch.read::<u64>(6, 100).unwrap()[..], [18, 21, 0, 0]);
        assert!(batch.read::<u64>(10, 1).unwrap().is_empty());
        batch.clear::<u64>(&[2, 6]).unwrap();
        assert_eq!(batch.read::<u64>(1, 6).unwrap()[..], [3, 0, 9, 12, 15, 0]);
        assert!(batch.write(&[10], &[1_u64]).is_err() && batch.write(&[1, 2], &[1_u64]).is_err());
    }
}
