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
const BPF_MAP_DELETE_BATCH: i64 = 27;

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

/// A descriptor of a map, an array or a hash table.
#[derive(Debug)]
pub(super) struct Batch(OwnedFd);

impl Batch {
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        map.try_clone_to_owned().map(Self)
    }

    fn attr(&self, count: usize) -> BatchAttr {
        let fd = self.0.as_raw_fd() as u32;
        BatchAttr { in_batch: 0, out_batch: 0, keys: 0, values: 0, count: count as u32, fd, element_flags: 0, flags: 0 }
    }

    /// The values of an array from index `first` on, at most `count`; fewer where the map ends.
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

    /// Writes each value under its key, in this order.
    pub(super) fn write<K: aya::Pod, V: aya::Pod>(&self, keys: &[K], values: &[V]) -> io::Result<()> {
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

    /// Writes zeros under each key.
    pub(super) fn clear<K: aya::Pod, V: aya::Pod + Zeroable>(&self, keys: &[K]) -> io::Result<()> {
        self.write(keys, &vec![V::zeroed(); keys.len()])
    }

    /// Takes each key out of a hash table; one that is not there is passed over.
    pub(super) fn remove<K: aya::Pod>(&self, keys: &[K]) -> io::Result<()> {
        let mut left = keys;
        while !left.is_empty() {
            fault::point();
            let step = if fault::is_armed() { 1 } else { left.len() };
            let mut attr = self.attr(step);
            attr.keys = left.as_ptr() as u64;
            // Where the kernel stops, the count is that of those before.
            let past = match run(BPF_MAP_DELETE_BATCH, &mut attr) {
                (_, Ok(())) => step,
                (count, Err(e)) if e.raw_os_error() == Some(libc::ENOENT) => (count as usize).saturating_add(1),
                (_, Err(e)) => return Err(e),
            };
            left = left.get(past..).unwrap_or_default();
        }
        Ok(())
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
        let batch = Batch::new(map.as_fd()).unwrap();
        let keys: Vec<u32> = (1..8).collect();
        let values: Vec<u64> = keys.iter().map(|key| u64::from(*key) * 3).collect();
        batch.write(&keys, &values).unwrap();
        assert_eq!(map.get(&5_u32.to_ne_bytes()).unwrap().unwrap()[..], 15_u64.to_ne_bytes());
        assert_eq!(batch.read::<u64>(0, 4).unwrap()[..], [0, 3, 6, 9]);
        assert_eq!(batch.read::<u64>(6, 100).unwrap()[..], [18, 21, 0, 0]);
        assert!(batch.read::<u64>(10, 1).unwrap().is_empty());
        batch.clear::<u32, u64>(&[2, 6]).unwrap();
        assert_eq!(batch.read::<u64>(1, 6).unwrap()[..], [3, 0, 9, 12, 15, 0]);
        assert!(batch.write(&[10_u32], &[1_u64]).is_err() && batch.write(&[1_u32, 2], &[1_u64]).is_err());
    }

    #[test]
    fn what_is_not_in_a_table_is_passed_over() {
        const HASH: u32 = 1;
        let map = RawMap::create("batch", Shape { kind: HASH, key: 4, value: 8, entries: 10, flags: 0 }).unwrap();
        let batch = Batch::new(map.as_fd()).unwrap();
        let there = |key: u32| map.get(&key.to_ne_bytes()).unwrap().is_some();
        batch.write(&[1_u32, 2, 3, 4, 5], &[7_u64; 5]).unwrap();
        batch.remove(&[9_u32, 1, 8, 3, 3, 5, 7]).unwrap();
        assert_eq!([1, 2, 3, 4, 5].map(there), [false, true, false, true, false]);
        let all: Vec<u32> = (10..21).collect();
        assert!(batch.write(&all, &[0_u64; 11]).is_err());
    }
}
