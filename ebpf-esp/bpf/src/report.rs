//! What the programs say about packets they drop: a counter for each reason always, and a line of the log when somebody
//! asked for it.

use sadb_maps::Addr;
use sadb_maps::counter::{COUNTERS, Counter};

use crate::maps::{CONFIG, count_index};
use crate::sa::{self, SECOND};
use crate::scratch::scratch;

/// Lines that one CPU logs in a second; the counters say how many there were.
const LINES_PER_SECOND: u32 = 20;
/// Octets of a name in [`NAMES`].
const NAME: usize = 24;

/// The names of the counters, filled up with blanks. Equal lengths, because a copy of unknown length is a loop to the
/// verifier, and no pointers, because constants of an object file cannot hold any.
static NAMES: [[u8; NAME]; COUNTERS as usize] = names();

const fn names() -> [[u8; NAME]; COUNTERS as usize] {
    let mut table = [[b' '; NAME]; COUNTERS as usize];
    let mut i = 0;
    while i < COUNTERS as usize {
        let name = Counter::ALL[i].name().as_bytes();
        let mut k = 0;
        while k < name.len() {
            table[i][k] = name[k];
            k += 1;
        }
        i += 1;
    }
    table
}

/// What is known of the packet in hand, for the log.
#[repr(C)]
pub struct Subject {
    /// Not zero when the packet has been read: the scratch has it.
    pub read: u32,
    /// SPI that the packet names, host order; 0 when it names none.
    pub spi: u32,
    /// Second of boot time in which lines were last logged.
    second: u64,
    /// Lines logged in that second.
    lines: u32,
}

/// Begins with a new packet.
#[inline(always)]
pub fn begin() {
    if let Some(sc) = scratch() {
        // SAFETY: the scratch of this CPU.
        unsafe {
            (*sc).subject.read = 0;
            (*sc).subject.spi = 0;
        }
    }
}

/// Counts the packet in hand as dropped for this reason, the index of a counter.
#[inline(always)]
pub fn dropped(reason: u32) {
    count_index(reason);
    if CONFIG.get(0).is_some_and(|config| config.log_level != 0) {
        log_drop(reason);
    }
}

#[inline(always)]
fn octets(addr: Addr) -> [u8; 16] {
    // SAFETY: four words are sixteen octets, and any octets will do.
    unsafe { core::mem::transmute(addr.0) }
}

/// One line of the log about the packet in hand.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn log_drop(reason: u32) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let (subject, parsed) = unsafe { (&mut (*sc).subject, &(*sc).parsed) };
    let second = sa::now() / SECOND;
    if subject.second != second {
        subject.second = second;
        subject.lines = 0;
    }
    if subject.lines >= LINES_PER_SECOND {
        return 0;
    }
    subject.lines += 1;
    let Some(name) = NAMES.get(reason as usize) else { return 0 };
    // SAFETY: names of counters are ASCII.
    let name = unsafe { core::str::from_utf8_unchecked(name) };
    if subject.read == 0 {
        aya_log_ebpf::debug!((), "unread packet: {}", name);
    } else if parsed.v4 {
        let (src, dst) = (u32::from_be(parsed.src.0[3]), u32::from_be(parsed.dst.0[3]));
        aya_log_ebpf::debug!((), "{:i} > {:i} protocol {} SPI 0x{:x}: {}", src, dst, parsed.proto, subject.spi, name);
    } else {
        let (src, dst) = (octets(parsed.src), octets(parsed.dst));
        aya_log_ebpf::debug!((), "{:i} > {:i} protocol {} SPI 0x{:x}: {}", src, dst, parsed.proto, subject.spi, name);
    }
    0
}
