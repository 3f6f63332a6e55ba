//! Working memory of one CPU. Programs run with bottom halves disabled and never re-enter on one CPU, so one record
//! serves them all. It holds key stream and one-time keys of the packet in hand; it is no less protected than the SA
//! maps themselves.

use ebpf_esp::crypto::aes;
use ebpf_esp::crypto::chacha20;
use ebpf_esp::crypto::poly1305::Poly1305;
use ebpf_esp::crypto::{Block16, Block64};

use ebpf_esp::ah::Walk;
use ebpf_esp::packet::{Frame, Parsed, quoted};
use sadb_maps::Addr;
use sadb_maps::event::Event;
use sadb_maps::policy::Selectors;
use sadb_maps::sa::{BindingKey, SlotRef};

use crate::maps::SCRATCH;
use crate::{report, route};

/// One packet to seal or open: where its octets lie and what the nonce is made of.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Job {
    /// Offset of the plaintext when sealing, of the ciphertext when opening.
    pub src: u32,
    /// Offset of the ciphertext when sealing; not above `src`.
    pub dst: u32,
    /// Octets of payload when sealing, of ciphertext when opening.
    pub len: u32,
    /// Octets of padding to add.
    pub pad: u32,
    /// Next header to add.
    pub next_header: u32,
    /// SPI in network order.
    pub spi: u32,
    /// High and low half of the sequence number in network order; the high half is used with ESN only.
    pub seq: [u32; 2],
    /// The explicit IV as it is on the wire, in memory order, or the counter that one is made of.
    pub iv: [u32; 2],
    /// Number of the first block of key stream that meets the payload, of a cipher in counter mode.
    pub number: u32,
}

/// What a separate authenticator does.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MacJob {
    /// Offset of the first octet that is covered.
    pub offset: u32,
    /// Octets that are covered, the high half of an extended sequence number not counted.
    pub len: u32,
    /// Offset at which the ICV goes when a packet is sealed.
    pub icv: u32,
    /// Not zero when a packet is opened: the ICV is compared with the one in the scratch.
    pub verify: u32,
    /// The stage that follows.
    pub then: u32,
}

/// What the stages of sealing and opening tell each other: preparing, the cipher, finishing. Each is a function of its
/// own, so that the stacks do not add up.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plan {
    /// Sequence number.
    pub seq: u64,
    /// Boot time in nanoseconds.
    pub now: u64,
    /// The SA.
    pub place: SlotRef,
    /// The stage that comes next.
    pub next: u32,
    /// The AH SA that goes around ESP when sealing, or that has been taken off when opening; slot 0 for none.
    pub ah: SlotRef,
    /// Interface on which the sealed packet last left; 0 when unknown.
    pub route: u32,
    /// Octets that pass on the way in one piece; 0 when unknown.
    pub mtu: u32,
    /// Octets of the IP header that stays in front; 0 in tunnel mode.
    pub header: u32,
    /// Octets of the IP packet when it is sealed.
    pub new_len: u32,
    /// Offset of the ciphertext.
    pub front: u32,
    /// Octets of ciphertext when opening.
    pub len: u32,
    /// Octets above which the sealed packet leaves in fragments; 0 when it may not.
    pub large: u32,
    /// Octets of the frame when TC is to cut it; 0 when XDP did.
    pub cut_to: u32,
    /// Where the packet is sealed: 0 on `ipsec0x`, else by the gateway shortcut: see [`crate::shortcut`].
    pub shortcut: u32,
    /// Interface by which the sealed packet leaves, where the shortcut has found it.
    pub out: u32,
    /// Destination and source MAC address of the sealed packet, where the shortcut has found them.
    pub macs: [u16; 6],
    /// Generation of the policy by which the shortcut has chosen a rule.
    pub policy: u32,
}

/// The clock as it was last read.
#[repr(C)]
pub struct Clock {
    /// Ticks of the kernel.
    pub tick: u64,
    /// Boot time in nanoseconds.
    pub now: u64,
}

/// See the module.
#[repr(C)]
pub struct Scratch {
    /// See [`crate::sa::now_to_a_tick`].
    pub clock: Clock,
    /// The stages' common knowledge.
    pub plan: Plan,
    /// The packet in hand.
    pub job: Job,
    /// Cipher state.
    pub chacha: chacha20::State,
    /// Authenticator state.
    pub poly: Poly1305,
    /// AES counter state.
    pub counter: aes::Counter,
    /// GHASH accumulator.
    pub hash: Block16,
    /// A block of key stream, or the last block of a message.
    pub block: Block64,
    /// The end of a message with its trailer.
    pub tail: [u32; 32],
    /// A 16-octet block: AAD, lengths, ICV.
    pub small: Block16,
    /// The latest block of ciphertext of CBC.
    pub chain: [u32; 4],
    /// The authenticator's part of the job.
    pub mac: MacJob,
    /// State of a hash.
    pub mac_state: [u64; 8],
    /// Its message schedule.
    pub mac_schedule: [u64; 80],
    /// The end of its message: two blocks.
    pub mac_end: [u64; 32],
    /// What it came to.
    pub digest: [u32; 16],
    /// The ICV of a packet that is opened.
    pub icv: [u32; 8],
    /// Header that moves: at most 14 + 60 octets and some.
    pub header: [u32; 64],
    /// Where in the options of a header AH is.
    pub walk: Walk,
    /// The packet in hand, read. Too long for the stack of a program that calls three functions deep.
    pub parsed: Parsed,
    /// The packet that an ICMP error in hand quotes, on its way back.
    pub quoted: Parsed,
    /// What is known of it, for the log.
    pub subject: report::Subject,
    /// Selectors of the packet in hand.
    pub selectors: Selectors,
    /// Binding in hand.
    pub binding: BindingKey,
    /// Event in the making.
    pub event: Event,
    /// FIB lookup in hand.
    pub fib: route::Params,
    /// What the classifier decided: the tag, or the limit and the addresses of the packet that is too long.
    pub decision: Decision,
}

/// See [`Scratch::decision`].
#[repr(C)]
pub struct Decision {
    /// The tag, as it goes at the head of the frame.
    pub tag: [u32; 3],
    /// Longest packet that fits.
    pub limit: u32,
    /// Source of the packet.
    pub src: Addr,
    /// Destination of the packet.
    pub dst: Addr,
    /// Not zero for IPv4.
    pub v4: u32,
    /// Not zero when the sender may be told the limit.
    pub answer: u32,
    /// Not zero when the packet is sealed for where it goes: the stack keeps what it is told by that address.
    pub own: u32,
}

/// The scratch of this CPU.
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// Parks `parsed` in the scratch of this CPU. The reference is good until the next packet is read.
#[inline(always)]
pub fn park(parsed: Parsed) -> Option<&'static Parsed> {
    let sc = scratch()?;
    // SAFETY: the scratch of this CPU; nothing else refers to the field while a program runs.
    unsafe {
        (*sc).parsed = parsed;
        (*sc).subject.read = 1;
        Some(&(*sc).parsed)
    }
}

/// What [`park_quoted`] says of a packet that was sent from where the error goes.
pub const OF_ITS_SOURCE: u32 = 2;

/// Parks the packet that the ICMP error in the scratch quotes: 0 when there is none, 1 or [`OF_ITS_SOURCE`] else.
#[inline(always)]
pub fn park_quoted<F: Frame>(frame: &F) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let error = unsafe { &(*sc).parsed };
    match quoted(frame, error) {
        Some(packet) => {
            // SAFETY: as above.
            unsafe { (*sc).quoted = packet };
            if packet.dst == error.dst { OF_ITS_SOURCE } else { 1 }
        }
        None => 0,
    }
}
