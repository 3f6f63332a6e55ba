//! An AF_XDP socket that only receives, in copy mode: what a program redirects to it from one queue of an interface.
//!
//! The packets lie in memory that this process shares with the kernel (the UMEM), cut into chunks. The fill ring tells the
//! kernel which chunks are free, the receive ring tells us which it has filled; each has one producer and one consumer
//! (Linux, Documentation/networking/af_xdp.rst).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Octets of a chunk: a page, which is more than a frame under XDP without fragments.
const CHUNK: usize = 4096;

/// Chunks of a socket, and entries of its rings: a power of two.
const CHUNKS: u32 = 128;

/// Memory that is mapped as long as the value lives.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value alone; the kernel's side is reached through atomics.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps a ring of the socket, or without one fresh memory.
    fn new(len: usize, ring: Option<(BorrowedFd<'_>, i64)>) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (flags, fd, offset) = match ring {
            Some((fd, offset)) => (libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        };
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, len })
    }

    /// Where a `T` lies at `offset`; refused when it does not fit or is not aligned.
    fn at<T>(&self, offset: u64) -> io::Result<*mut T> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let fits = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len);
        if !fits || !offset.is_multiple_of(align_of::<T>()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: within the mapping, as just checked.
        Ok(unsafe { self.start.as_ptr().add(offset) }.cast())
    }

    /// A copy of the octets there; `None` when they do not lie in the mapping.
    fn copy(&self, offset: u64, len: u32) -> Option<Vec<u8>> {
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: within the mapping, and the kernel writes to no chunk that it has handed over.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) }.to_vec())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and nothing refers to it any more. A failure would leave it mapped.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// One ring, with entries of `T`.
struct Ring<T> {
    mapping: Mapping,
    producer: u64,
    consumer: u64,
    entries: u64,
    kind: std::marker::PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    fn open(socket: BorrowedFd<'_>, page: i64, place: &libc::xdp_ring_offset) -> io::Result<Self> {
        let len = usize::try_from(place.desc).map_err(io::Error::other)? + CHUNKS as usize * size_of::<T>();
        let mapping = Mapping::new(len, Some((socket, page)))?;
        // What is asked for later must not fail.
        mapping.at::<AtomicU32>(place.producer)?;
        mapping.at::<AtomicU32>(place.consumer)?;
        mapping.at::<T>(place.desc)?;
        let kind = std::marker::PhantomData;
        Ok(Self { mapping, producer: place.producer, consumer: place.consumer, entries: place.desc, kind })
    }

    fn index(&self, offset: u64) -> io::Result<&AtomicU32> {
        // SAFETY: an aligned word of the mapping, which lives as long as self; both sides use it as an atomic.
        Ok(unsafe { AtomicU32::from_ptr(self.mapping.at(offset)?) })
    }

    fn entry(&self, index: u32) -> io::Result<*mut T> {
        self.mapping.at(self.entries + u64::from(index % CHUNKS) * size_of::<T>() as u64)
    }

    /// Gives the kernel an entry. There is always room: rings have as many entries as there are chunks.
    fn put(&self, value: T) -> io::Result<()> {
        let producer = self.index(self.producer)?;
        let next = producer.load(Ordering::Relaxed);
        // SAFETY: an entry of the mapping that is ours until the index says otherwise.
        unsafe { self.entry(next)?.write(value) };
        producer.store(next.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// The entry that is next, and the index to give back with [`Ring::done`].
    fn peek(&self) -> io::Result<Option<(T, u32)>> {
        let next = self.index(self.consumer)?.load(Ordering::Relaxed);
        if self.index(self.producer)?.load(Ordering::Acquire) == next {
            return Ok(None);
        }
        // SAFETY: an entry of the mapping that the kernel has finished writing.
        Ok(Some((unsafe { self.entry(next)?.read() }, next)))
    }

    fn done(&self, index: u32) -> io::Result<()> {
        self.index(self.consumer)?.store(index.wrapping_add(1), Ordering::Release);
        Ok(())
    }
}

/// A socket on one queue. Its descriptor is readable when there are frames.
pub(super) struct Receiver {
    socket: OwnedFd,
    umem: Mapping,
    fill: Ring<u64>,
    filled: Ring<libc::xdp_desc>,
}

impl Receiver {
    /// Binds to a queue; nothing comes before a program redirects.
    ///
    /// # Errors
    /// `EBUSY` when the queue has a socket already; no permission; a kernel without AF_XDP.
    pub(super) fn bind(ifindex: u32, queue: u32) -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let umem = Mapping::new(CHUNKS as usize * CHUNK, None)?;
        let memory = libc::xdp_umem_reg {
            addr: umem.start.as_ptr() as u64,
            len: umem.len as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(&socket, libc::XDP_UMEM_REG, &memory)?;
        // A completion ring must be there, though nothing is sent.
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
            set(&socket, ring, &CHUNKS)?;
        }
        let places = get::<libc::xdp_mmap_offsets>(&socket, libc::XDP_MMAP_OFFSETS)?;
        let fill_page = i64::try_from(libc::XDP_UMEM_PGOFF_FILL_RING).map_err(io::Error::other)?;
        let fill = Ring::open(socket.as_fd(), fill_page, &places.fr)?;
        let filled = Ring::open(socket.as_fd(), libc::XDP_PGOFF_RX_RING, &places.rx)?;
        for chunk in 0..CHUNKS {
            fill.put(u64::from(chunk) * CHUNK as u64)?;
        }
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: a live address of the size that the call is told.
        if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, umem, fill, filled })
    }

    /// The next frame; `None` when there is none, and then the descriptor tells when there is.
    ///
    /// # Errors
    /// The kernel's rings make no sense.
    pub(super) fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((found, index)) = self.filled.peek()? else { return Ok(None) };
        let frame = self.umem.copy(found.addr, found.len);
        self.filled.done(index)?;
        self.fill.put(found.addr & !(CHUNK as u64 - 1))?;
        frame.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Frames that found no room, since the socket was made.
    pub(super) fn lost(&self) -> io::Result<u64> {
        let numbers = get::<libc::xdp_statistics>(&self.socket, libc::XDP_STATISTICS)?;
        // A frame without a chunk is counted as dropped, or as an empty fill ring on its way out of the driver.
        Ok(numbers.rx_dropped.saturating_add(numbers.rx_ring_full))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: a live value of the size that the call is told.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, std::ptr::from_ref(value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get<T>(socket: &OwnedFd, option: libc::c_int) -> io::Result<T> {
    // SAFETY: the records of this socket family are numbers, for which all zero is valid.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: value and length are live variables, and the call is told the size of the value.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, (&raw mut value).cast(), &raw mut len) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
