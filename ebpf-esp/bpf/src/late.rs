//! What has come in on an outer interface past its XDP program is judged here, at TC ingress: policy holds whatever becomes of
//! that program. Linux gives none to receive queues that a veth gets later, a driver may lose it, an administrator may detach
//! it. XDP leaves a note in front of what it has judged; every other packet is judged as it would have been there. Sealed
//! packets for this host go the way of those that came in fragments and were made whole, and are opened on `ipsec0x`.
//! Fragments of sealed packets go to the slow path by the same way.

use aya_ebpf::bindings::{__sk_buff, xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_redirect, bpf_skb_vlan_pop};
use core::ffi::c_void;
use ebpf_esp::packet::Frame;
use sadb_maps::abi::Config;
use sadb_maps::counter::Counter;
use sadb_maps::sa::{AH, ESP};
use sadb_maps::tag::{FLAG_GATHER, FLAG_WHOLE, Tag};

use crate::frame::SkbFrame;
use crate::maps::{CONFIG, count};
use crate::open::{self, Arrival, CLEAR, Kind};
use crate::scratch::scratch;
use crate::seal::{FAILED, status};
use crate::tc::{DROP, JUDGED, NEXT, Note, READ, READ_OTHER, read_packet, read_quoted_skb};
use crate::{fault, path_mtu, policy, report, slow};

/// `PACKET_LOOPBACK`: what this host has sent to a group that it is in itself.
const LOOPED_BACK: u32 = 5;
/// The bits of a VLAN tag that name the VLAN.
const VLAN_ID: u32 = 0xfff;
/// `ETH_P_8021Q`.
const VLAN: u16 = 0x8100;
/// `ETH_P_8021AD`.
const OUTER_VLAN: u16 = 0x88a8;

/// Result of [`judge_late`]: a sealed packet for this host.
const OPEN: u32 = 0x80;
/// Result of [`judge_late`]: it has served its purpose.
const DONE: u32 = 0x83;
/// Result of [`judge_late`]: a fragment of a sealed packet for this host.
const GATHER: u32 = 0x84;
/// Result of [`judge_late`]: a fragment that is to pass, and goes to the slow path as well.
const COPY: u32 = 0x85;

/// Passes a frame that XDP has judged, with a note that says so. A driver that has no room for it costs that every packet
/// is judged twice.
#[inline(always)]
pub fn seen(ctx: *mut xdp_md) -> u32 {
    if let Some(config) = CONFIG.get(0) {
        // SAFETY: the context is valid.
        let value = unsafe { (&raw const (*ctx).ingress_ifindex).read_volatile() };
        let _ = Note { secret: config.mark_sealed, what: JUDGED, value }.put(ctx);
    }
    xdp_action::XDP_PASS
}

impl Arrival for SkbFrame {
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.cast()
    }
    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.0).ifindex }
    }
    #[inline(always)]
    fn read_quoted(&self) -> u32 {
        read_quoted_skb(self.0)
    }
    #[inline(always)]
    fn learn_path_mtu(&self) {
        path_mtu::learn_path_mtu_skb(self.0);
    }
}

/// A packet without a note.
#[inline(always)]
pub fn run(skb: *mut __sk_buff, config: &Config) -> i32 {
    // SAFETY: the context is valid.
    let (kind, tagged, tag) = unsafe { ((*skb).pkt_type, (*skb).vlan_present != 0, (*skb).vlan_tci) };
    // Another VLAN is another interface.
    if kind == LOOPED_BACK || (tagged && tag & VLAN_ID != 0) || policy::head().is_none() {
        return NEXT;
    }
    report::begin();
    match judge_late(skb) {
        OPEN => to_pair(skb, config, tagged, FLAG_WHOLE),
        GATHER => to_pair(skb, config, tagged, FLAG_WHOLE | FLAG_GATHER),
        COPY => {
            copy_to_pair(skb, config);
            NEXT
        }
        DONE => DROP,
        outcome if outcome & FAILED != 0 => {
            report::dropped(outcome & 0xff);
            DROP
        }
        _ => NEXT,
    }
}

/// Judges the packet: [`OPEN`], [`DONE`], [`FAILED`] with the counter of the drop; anything else is to pass.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_late(skb: *mut __sk_buff) -> u32 {
    if fault::is(fault::LATE) { CLEAR } else { status(judge(skb)) }
}

#[inline(always)]
fn judge(skb: *mut __sk_buff) -> Result<u32, Counter> {
    let frame = SkbFrame(skb);
    match read_packet(skb) {
        READ => {}
        READ_OTHER => {
            // Behind a tag without a VLAN, and another one, the stack would find a packet that nobody has judged.
            // SAFETY: the context is valid.
            let (tagged, protocol) = unsafe { ((*skb).vlan_present != 0, u16::from_be((*skb).protocol as u16)) };
            let hidden = tagged && (protocol == VLAN || protocol == OUTER_VLAN);
            return if hidden { Err(Counter::DropUnreadable) } else { Ok(CLEAR) };
        }
        _ => return Err(Counter::DropUnreadable),
    }
    count(Counter::JudgedLate);
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU, where the packet has just been put.
    let parsed = unsafe { &(*sc).parsed };
    let sealed = match open::esp_offset(&frame, parsed) {
        Kind::Esp(offset) => open::find(&frame, parsed, offset, ESP).is_some(),
        Kind::Ah(place) => open::find(&frame, parsed, place + 4, AH).is_some(),
        Kind::Keepalive if open::is_local(&frame, parsed) => {
            count(Counter::Keepalive);
            return Ok(DONE);
        }
        Kind::Runt if open::is_local(&frame, parsed) => return Err(Counter::DropBadEncap),
        Kind::Fragment if open::is_local(&frame, parsed) => {
            if !slow::is_served() {
                return Err(Counter::DropFragment);
            }
            if !parsed.opaque {
                slow::remember(slow::of::SEALED);
            }
            return Ok(GATHER);
        }
        Kind::Early if slow::is_served() && open::is_local(&frame, parsed) => {
            return Ok(if open::clear(&frame, parsed).is_ok() { COPY } else { GATHER });
        }
        _ => return open::clear(&frame, parsed),
    };
    match sealed {
        true => Ok(OPEN),
        false if open::is_local(&frame, parsed) => Err(Counter::DropNoSaIn),
        false => open::clear(&frame, parsed),
    }
}

/// Sends a packet to `ipsec0x`, to be opened there, or to take the slow path.
#[inline(always)]
fn to_pair(skb: *mut __sk_buff, config: &Config, tagged: bool, flags: u8) -> i32 {
    let tag = Tag { flags, rule: 0, policy: 0, slot: 0, generation: 0 };
    // SAFETY: the context is valid.
    if (tagged && unsafe { bpf_skb_vlan_pop(skb) } != 0) || SkbFrame(skb).write(0, tag.to_words()).is_none() {
        count(Counter::DropRoom);
        return DROP;
    }
    // SAFETY: as above.
    unsafe {
        (*skb).mark = config.mark_tagged;
        bpf_redirect(config.ipsec0, 0) as i32
    }
}

/// Sends a copy of a packet on the slow path. If it does not get there it was one of a packet that never becomes whole.
#[inline(always)]
fn copy_to_pair(skb: *mut __sk_buff, config: &Config) {
    const TAG: Tag = Tag { flags: FLAG_WHOLE | FLAG_GATHER, rule: 0, policy: 0, slot: 0, generation: 0 };
    let Some(addresses) = SkbFrame(skb).read::<[u32; 3]>(0) else { return };
    if SkbFrame(skb).write(0, TAG.to_words()).is_none() {
        return;
    }
    // SAFETY: the context is valid.
    unsafe {
        let mark = (*skb).mark;
        (*skb).mark = config.mark_tagged;
        if bpf_clone_redirect(skb, config.ipsec0, 0) != 0 {
            count(Counter::DropSlowPathFull);
        }
        (*skb).mark = mark;
    }
    let _ = SkbFrame(skb).write(0, addresses);
}
