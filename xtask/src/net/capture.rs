//! A capture on an interface: counts what passes, looks for a text in it, keeps frames for a pcap file. An AF_PACKET
//! socket, as tcpdump has; what it could not keep up with is counted, so that "nothing in clear" means something.

use super::Host;
use super::transfer::MARKER;
use anyhow::{Context, Result, anyhow};
use memchr::memmem::Finder;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest the capture sleeps before it looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// Room for what arrives while the capture does not run; about a second of a busy wire.
const BACKLOG: libc::c_int = 64 << 20;

/// Frames above this number are counted and searched, not kept.
const KEPT: usize = 20_000;

/// What passed an interface, both directions.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All frames.
    pub frames: u64,
    /// Octets of all frames.
    pub bytes: u64,
    /// Frames that the capture could not keep up with.
    pub missed: u64,
    /// ESP over IP.
    pub esp: u64,
    /// AH, whatever is inside.
    pub ah: u64,
    /// ESP in UDP, port 4500.
    pub esp_in_udp: u64,
    /// IKE: UDP port 500, and 4500 with the four zero octets in front.
    pub ike: u64,
    /// TCP in clear.
    pub tcp: u64,
    /// Frames with the marker of [`super::transfer`] in them.
    pub marked: u64,
    /// The frames themselves, as far as they are kept: time since 1970 and content from the Ethernet header on.
    pub kept: Vec<(Duration, Vec<u8>)>,
}

impl Seen {
    /// Writes the kept frames as a pcap file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_pcap(&self, path: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(path).with_context(|| format!("creating {}", path.display()))?);
        // Magic of microsecond time stamps, version 2.4, zone, accuracy, snap length, link type Ethernet.
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x0004_0000, 1] {
            file.write_all(&word.to_le_bytes())?;
        }
        for (time, frame) in &self.kept {
            let length = u32::try_from(frame.len())?;
            for word in [u32::try_from(time.as_secs())?, time.subsec_micros(), length, length] {
                file.write_all(&word.to_le_bytes())?;
            }
            file.write_all(frame)?;
        }
        file.flush().with_context(|| format!("writing {}", path.display()))
    }

    fn add(&mut self, frame: &[u8], marker: &Finder) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        match kind(frame) {
            Some(Kind::Esp) => self.esp += 1,
            Some(Kind::Ah) => self.ah += 1,
            Some(Kind::EspInUdp) => self.esp_in_udp += 1,
            Some(Kind::Ike) => self.ike += 1,
            Some(Kind::Tcp) => self.tcp += 1,
            None => {}
        }
        self.marked += u64::from(marker.find(frame).is_some());
        if self.kept.len() < KEPT {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.kept.push((now, frame.to_vec()));
        }
    }
}

/// A capture that goes on until it is asked for its result.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

impl Capture {
    /// Starts to capture on an interface; every frame after the return is seen.
    ///
    /// # Errors
    /// There is no such interface, or no permission.
    pub fn start(host: &Host, interface: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = mpsc::channel();
        let (name, ended) = (interface.to_owned(), Arc::clone(&stop));
        let thread = host.spawn_within(move || {
            let socket = open(&name).with_context(|| format!("capturing on {name}"))?;
            ready.send(())?;
            capture(&socket, &ended)
        });
        if started.recv().is_ok() {
            return Ok(Self { stop, thread });
        }
        Err(match thread.join() {
            Ok(Err(error)) => error,
            _ => anyhow!("the capture on {interface} did not start"),
        })
    }

    /// Ends the capture, after what has arrived so far.
    ///
    /// # Errors
    /// Reading from the interface failed, for example because it is gone.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the capture panicked"))?
    }
}

/// Frames of an interface, both directions, that nobody reads before they are asked for: until then the socket shares their
/// memory with whoever got them next.
pub struct Unread(OwnedFd);

impl Unread {
    /// Every frame after the return is kept.
    ///
    /// # Errors
    /// There is no such interface, or no permission.
    pub fn start(host: &Host, interface: &str) -> Result<Self> {
        let name = interface.to_owned();
        Ok(Self(host.within(move || open(&name).with_context(|| format!("listening on {name}")))?))
    }

    /// The frames so far, as they are now.
    ///
    /// # Errors
    /// Reading failed.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        let mut buffer = vec![0; 1 << 17];
        let mut frames = vec![];
        loop {
            // SAFETY: the pointer and the length are those of `buffer`.
            let length = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if let Ok(length) = usize::try_from(length) {
                frames.push(buffer.get(..length).unwrap_or(&buffer).to_vec());
                continue;
            }
            let error = std::io::Error::last_os_error();
            match error.kind() {
                std::io::ErrorKind::WouldBlock => return Ok(frames),
                std::io::ErrorKind::Interrupted => {}
                _ => return Err(error).context("reading frames"),
            }
        }
    }
}

/// Puts frames on an interface, as they were seen there or elsewhere.
///
/// # Errors
/// There is no such interface, or it does not take them.
pub fn replay(host: &Host, interface: &str, frames: &[Vec<u8>]) -> Result<()> {
    host.within(|| {
        let socket = open(interface).with_context(|| format!("sending on {interface}"))?;
        for frame in frames {
            // SAFETY: the frame lives across the call, and its length is given as such.
            let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
            if sent < 0 {
                return Err(std::io::Error::last_os_error()).context("sending a frame");
            }
        }
        Ok(())
    })
}

/// An AF_PACKET socket on an interface, for whole frames; of the thread's namespace.
pub(crate) fn open(interface: &str) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: `name` is a string that ends with a zero octet and lives across the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // The protocol comes with the bind: before it, frames of every interface would be queued.
    // SAFETY: a plain system call; the result is checked before it becomes an owned descriptor.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: `socket` was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BACKLOG)?;
    let tick = libc::timeval { tv_sec: 0, tv_usec: TICK.subsec_micros().into() };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &tick)?;
    // SAFETY: all zero is a valid value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = libc::c_int::try_from(index)?;
    // SAFETY: the address is a sockaddr_ll and its length is given as such.
    let bound = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if bound != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(socket)
}

/// `value` is of the type that the option has.
pub(crate) fn set_option<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> Result<()> {
    // SAFETY: `value` is a plain structure of the option's type, and its size is passed along.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

fn capture(socket: &OwnedFd, stop: &AtomicBool) -> Result<Seen> {
    let marker = Finder::new(MARKER);
    let mut seen = Seen::default();
    // Offloads make frames of up to 64 KiB and headers.
    let mut buffer = vec![0; 1 << 17];
    loop {
        let ending = stop.load(Ordering::Acquire);
        // SAFETY: the pointer and the length are those of `buffer`.
        let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if let Ok(length) = usize::try_from(length) {
            seen.add(buffer.get(..length).unwrap_or(&buffer), &marker);
            continue;
        }
        let error = std::io::Error::last_os_error();
        match error.kind() {
            std::io::ErrorKind::WouldBlock if ending => break,
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => {}
            _ => return Err(error).context("reading from the capture"),
        }
    }
    seen.missed = missed(socket)?;
    Ok(seen)
}

fn missed(socket: &OwnedFd) -> Result<u64> {
    let mut counts = [0_u32; 2];
    let mut length = size_of_val(&counts) as libc::socklen_t;
    // SAFETY: the kernel writes a tpacket_stats (two 32-bit numbers: packets, drops) of at most `length` octets.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            counts.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("the statistics of the capture");
    }
    let [_, drops] = counts;
    Ok(drops.into())
}

#[derive(Debug, PartialEq)]
enum Kind {
    Esp,
    Ah,
    EspInUdp,
    Ike,
    Tcp,
}

fn kind(frame: &[u8]) -> Option<Kind> {
    let (protocol, payload) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(frame.get(14)? & 15) * 4;
            (frame.get(14 + 9)?, frame.get(14 + header..)?)
        }
        [0x86, 0xdd] => (frame.get(14 + 6)?, frame.get(14 + 40..)?),
        _ => return None,
    };
    match protocol {
        50 => Some(Kind::Esp),
        51 => Some(Kind::Ah),
        6 => Some(Kind::Tcp),
        17 => udp_kind(payload),
        _ => None,
    }
}

fn udp_kind(datagram: &[u8]) -> Option<Kind> {
    let port = |at: usize| Some(u16::from_be_bytes(datagram.get(at..at + 2)?.try_into().ok()?));
    let ports = [port(0)?, port(2)?];
    if ports.contains(&500) {
        return Some(Kind::Ike);
    }
    if !ports.contains(&4500) {
        return None;
    }
    // RFC 3948 section 2.2: where the SPI of ESP would be, IKE has zeros. A keepalive is a single octet.
    match datagram.get(8..12)? {
        [0, 0, 0, 0] => Some(Kind::Ike),
        _ => Some(Kind::EspInUdp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20];
        frame[12] = 0x08;
        frame[14] = 0x45;
        frame[23] = 17;
        frame.extend([0x30, 0x39]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn port_4500_carries_both_ike_and_esp() {
        assert_eq!(kind(&udp(4500, &[0, 0, 0, 0, 1])), Some(Kind::Ike));
        assert_eq!(kind(&udp(4500, &[1, 2, 3, 4, 1])), Some(Kind::EspInUdp));
        assert_eq!(kind(&udp(4500, &[0xff])), None);
        assert_eq!(kind(&udp(500, &[])), Some(Kind::Ike));
        assert_eq!(kind(&udp(53, &[1, 2, 3, 4])), None);
    }

    #[test]
    fn a_frame_that_is_cut_short_has_no_kind() {
        let frame = udp(4500, &[1, 2, 3, 4]);
        for length in 0..frame.len() {
            assert_eq!(kind(&frame[..length]), None);
        }
    }
}
