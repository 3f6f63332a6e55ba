//! What a NAT on the way changes: the source of packets that come in, and with it the checksums inside transport mode
//! (RFC 3948 section 3.1.2); and the news that a peer has got another address or port (RFC 7296 section 2.23).

use aya_ebpf::bindings::xdp_md;
use ebpf_esp::forward::update_checksum;
use ebpf_esp::packet::{ETH_LEN, Frame, Parsed, proto};
use sadb_maps::counter::Counter;
use sadb_maps::event::{Event, kind};
use sadb_maps::nat::repaired;
use sadb_maps::sa::flag;

use crate::frame::XdpFrame;
use crate::sa::{self, SECOND, Usable, planned};
use crate::scratch::scratch;
use crate::seal::status;

/// Raises MOVED when the packet in the scratch, which is authentic and in UDP, did not come from where its SA has the peer:
/// at most once a second for each SA, and only for a packet that is newer than any before it, which one without replay
/// protection never is known to be (V2-NAT-06, V2-NAT-07).
#[inline(always)]
pub fn watch(sa: &Usable, parsed: &Parsed, seq: u64, now: u64) {
    if sa.fixed.flags & flag::UDP_ENCAP == 0 || parsed.proto != proto::UDP {
        return;
    }
    if parsed.sport == sa.fixed.encap_ports[0] && parsed.src == sa.fixed.near_end() {
        return;
    }
    // SAFETY: a live map value.
    let (top, last) = unsafe { ((&raw const (*sa.state).top).read_volatile(), (*sa.state).moved) };
    if sa.fixed.replay_window == 0 || seq < top || sa.fixed.src.is_unspecified() {
        return;
    }
    if last != 0 && now < last + SECOND {
        return;
    }
    // SAFETY: a live map value; the last writer wins.
    unsafe { (*sa.state).moved = now };
    announce_move(now);
}

/// Raises MOVED for the SA and the packet in hand.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_move(now: u64) -> u32 {
    let (Some(sc), Ok(sa)) = (scratch(), planned()) else { return 0 };
    // SAFETY: the scratch of this CPU.
    let (event, parsed) = unsafe { (&mut (*sc).event, &(*sc).parsed) };
    *event = Event::default();
    event.kind = kind::MOVED;
    event.time = now;
    event.sa = sa.place;
    event.spi = sa.fixed.spi;
    event.packet = parsed.inbound();
    sa::submit(event, Counter::Moves);
    0
}

/// Gives the opened packet, whose header came over the wire, the source that its SA was made for: a peer behind a NAT is
/// who it is by its SA and not by where the NAT has it come from.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn name_source(ctx: *mut xdp_md) -> u32 {
    status(name(ctx))
}

#[inline(always)]
fn name(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let sa = planned()?;
    let frame = XdpFrame(ctx);
    let src = sa.fixed.src;
    if !src.is_v4() {
        return frame.write(ETH_LEN + 8, src.0).ok_or(Counter::DropMalformed).map(|()| 0);
    }
    replace_v4(&frame, ETH_LEN + 12, src.0[3]).map(|()| 0)
}

/// Replaces an address of an IPv4 header, which lies behind the Ethernet header, and repairs the checksum of the header.
#[inline(always)]
pub fn replace_v4(frame: &XdpFrame, offset: u32, address: u32) -> Result<(), Counter> {
    let old = frame.read::<[u16; 2]>(offset).ok_or(Counter::DropMalformed)?;
    let sum = frame.read::<u16>(ETH_LEN + 10).ok_or(Counter::DropMalformed)?;
    let sum = update_checksum(sum, old[0], address as u16);
    let sum = update_checksum(sum, old[1], (address >> 16) as u16);
    frame.write(ETH_LEN + 10, sum).ok_or(Counter::DropMalformed)?;
    frame.write(offset, address).ok_or(Counter::DropMalformed)
}

/// Repairs the checksum of the opened packet in the scratch, whose sender knew other addresses (UDP-04). TCP, UDP and
/// ICMPv6 sum up addresses; UDP over IPv4 may have no checksum, and then gets none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn repair_checksum(ctx: *mut xdp_md) -> u32 {
    status(repair(ctx))
}

#[inline(always)]
fn repair(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let sa = planned()?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU.
    let parsed = unsafe { &(*sc).parsed };
    let field = match parsed.proto {
        proto::TCP => 16,
        proto::UDP => 6,
        proto::ICMPV6 => 2,
        _ => return Ok(0),
    };
    if parsed.opaque {
        return Ok(0);
    }
    let frame = XdpFrame(ctx);
    let offset = parsed.l4 + field;
    let sum = frame.read::<u16>(offset).ok_or(Counter::DropMalformed)?;
    let udp = parsed.proto == proto::UDP;
    if udp && sum == 0 {
        return Ok(0);
    }
    let sum = repaired(sum, sa.fixed.checksum_delta);
    let sum = if udp && sum == 0 { u16::MAX } else { sum };
    frame.write(offset, sum).ok_or(Counter::DropMalformed)?;
    Ok(0)
}
