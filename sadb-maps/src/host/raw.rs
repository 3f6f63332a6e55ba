//! Maps as the kernel has them, whatever version made them: octets in, octets out. For what reads maps of another layout,
//! and for making maps that no object declares.

use super::kernel::{InfoAttr, bpf, descriptor, object, path_string};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use zeroize::Zeroizing;

const BPF_MAP_CREATE: i64 = 0;
const BPF_MAP_LOOKUP_ELEM: i64 = 1;
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_MAP_GET_NEXT_KEY: i64 = 4;
const BPF_OBJ_PIN: i64 = 6;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;

/// Map types whose values are one for each CPU: hash, array, LRU hash.
const PER_CPU: [u32; 3] = [5, 6, 10];

/// Octets that may be those of a key.
pub(super) type Octets = Zeroizing<Vec<u8>>;

/// The leading fields of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Shape {
    pub(super) kind: u32,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) entries: u32,
    pub(super) flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    shape: Shape,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// The leading fields of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// The leading fields of `union bpf_attr` for elements.
#[repr(C)]
struct ElementAttr {
    fd: u32,
    pad: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

/// A map.
pub(super) struct RawMap {
    fd: OwnedFd,
    pub(super) shape: Shape,
}

impl AsFd for RawMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl RawMap {
    /// Opens a pin.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::of(object(path)?)
    }

    /// Makes a map.
    pub(super) fn create(name: &str, shape: Shape) -> io::Result<Self> {
        let mut attr = CreateAttr { shape, ..CreateAttr::default() };
        for (to, from) in attr.name.iter_mut().zip(name.bytes().take(15)) {
            *to = from;
        }
        Self::of(bpf(BPF_MAP_CREATE, &attr).map(descriptor)?)
    }

    fn of(fd: OwnedFd) -> io::Result<Self> {
        let mut info = MapInfo::default();
        let attr = InfoAttr { fd: fd.as_raw_fd() as u32, len: size_of::<MapInfo>() as u32, info: &raw mut info as u64 };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)?;
        let MapInfo { kind, key, value, entries, flags, .. } = info;
        Ok(Self { fd, shape: Shape { kind, key, value, entries, flags } })
    }

    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = path_string(path)?;
        bpf(BPF_OBJ_PIN, &super::kernel::ObjectAttr::new(&path, self.fd.as_raw_fd() as u32)).map(drop)
    }

    /// Octets of a value as user space sees it: those of every possible CPU, each a multiple of eight.
    fn room(&self) -> io::Result<usize> {
        let value = self.shape.value as usize;
        if !PER_CPU.contains(&self.shape.kind) {
            return Ok(value);
        }
        let cpus = aya::util::nr_cpus().map_err(|(_, e)| e)?;
        Ok(value.next_multiple_of(8) * cpus)
    }

    fn attr(&self, key: u64, value: u64) -> ElementAttr {
        ElementAttr { fd: self.fd.as_raw_fd() as u32, pad: 0, key, value, flags: 0 }
    }

    fn check(&self, key: &[u8]) -> io::Result<()> {
        if key.len() == self.shape.key as usize { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// The value of a key; `None` when there is none.
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Octets>> {
        self.check(key)?;
        let mut value = Zeroizing::new(vec![0; self.room()?]);
        match bpf(BPF_MAP_LOOKUP_ELEM, &self.attr(key.as_ptr() as u64, value.as_mut_ptr() as u64)) {
            Ok(_) => Ok(Some(value)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Puts a value, in place of one that is there.
    pub(super) fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key)?;
        if value.len() != self.room()? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        super::fault::point();
        bpf(BPF_MAP_UPDATE_ELEM, &self.attr(key.as_ptr() as u64, value.as_ptr() as u64)).map(drop)
    }

    /// Every key, as far as nobody changes the map meanwhile.
    pub(super) fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = vec![];
        let mut next = vec![0; self.shape.key as usize];
        // A map that changes may send the walk back to its beginning.
        let most = 2 * self.shape.entries as usize + 1;
        while keys.len() < most {
            let last = keys.last().map_or(0, |key| key.as_ptr() as u64);
            match bpf(BPF_MAP_GET_NEXT_KEY, &self.attr(last, next.as_mut_ptr() as u64)) {
                Ok(_) => keys.push(next.clone()),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("the map changes faster than it can be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let map = RawMap::create("raw", Shape { kind: 1, key: 4, value: 3, entries: 4, flags: 0 }).unwrap();
        assert!(map.keys().unwrap().is_empty() && map.get(&[0; 4]).unwrap().is_none());
        map.set(&[1, 0, 0, 0], &[1, 2, 3]).unwrap();
        map.set(&[2, 0, 0, 0], &[4, 5, 6]).unwrap();
        let mut keys = map.keys().unwrap();
        keys.sort();
        assert_eq!(keys, [[1, 0, 0, 0], [2, 0, 0, 0]]);
        assert_eq!(**map.get(&[2, 0, 0, 0]).unwrap().unwrap(), [4, 5, 6]);
        assert!(map.set(&[0; 4], &[0; 4]).is_err() && map.set(&[0; 3], &[0; 3]).is_err() && map.get(&[0; 5]).is_err());
        let each = RawMap::create("each", Shape { kind: 6, key: 4, value: 8, entries: 1, flags: 0 }).unwrap();
        let cpus = aya::util::nr_cpus().unwrap();
        assert_eq!(each.get(&[0; 4]).unwrap().unwrap().len(), 8 * cpus);
    }
}
