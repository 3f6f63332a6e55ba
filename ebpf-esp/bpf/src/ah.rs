//! The Authentication Header (RFC 4302): put on, around ESP or alone, and taken off. The authenticators are those of ESP,
//! over the whole packet, in which what may change on the way is zero for as long as they are at work.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use aya_ebpf::programs::XdpContext;
use ebpf_esp::ah::{FIXED, MAX_STEPS, Step, header_len, length_field, step, zero_mutable};
use ebpf_esp::esp::{IPV4_HEADER, IPV6_HEADER};
use ebpf_esp::forward::update_checksum;
use ebpf_esp::packet::{Content, ETH_LEN, Frame, Parsed, parse, proto};
use sadb_maps::counter::Counter;
use sadb_maps::sa::{SlotRef, flag};

use crate::frame::{HEADER_ROOM, MAX_OFFSET, XdpFrame, opaque, size};
use crate::maps::CONFIG;
use crate::open;
use crate::sa::{self, Usable, planned};
use crate::scratch::{Scratch, park, scratch};
use crate::seal::{self, FAILED, GO, status};
use crate::stage;

/// Words of the longest ICV with its padding.
const ICV_WORDS: u32 = 9;

/// Puts AH around the ESP packet that has just been made.
#[inline(always)]
pub fn around(ctx: &XdpContext) -> u32 {
    let Some(sc) = scratch() else { return stage::drop(Counter::DropInternal as u32) };
    // SAFETY: the scratch of this CPU.
    unsafe {
        (*sc).plan.place = (*sc).plan.ah;
    }
    stage::next(ctx, stage::AH_SEAL)
}

/// Puts on the header, without its ICV.
#[inline(always)]
pub fn seal(ctx: &XdpContext) -> u32 {
    let outcome = ah_seal_prepare(ctx.ctx);
    if outcome == GO { authenticate(ctx) } else { stage::drop(outcome) }
}

#[inline(always)]
fn authenticate(ctx: &XdpContext) -> u32 {
    match planned() {
        Ok(sa) => stage::next(ctx, stage::authenticate(sa.fixed.mac)),
        Err(reason) => stage::drop(reason as u32),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ah_seal_prepare(ctx: *mut xdp_md) -> u32 {
    status(seal_prepare(ctx))
}

#[inline(always)]
fn seal_prepare(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let frame = XdpFrame(ctx);
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let sa = planned()?;
    let Content::Ip(parsed) = parse(&frame) else { return Err(Counter::DropMalformed) };
    let parsed = park(parsed).ok_or(Counter::DropInternal)?;
    // Around ESP, AH goes behind the IP header that ESP has put on.
    // SAFETY: the scratch of this CPU.
    let alone = unsafe { (*sc).plan.ah.slot } != sa.place.slot;
    let tunnel = alone && sa.fixed.flags & flag::TUNNEL != 0;
    if !tunnel && parsed.fragment {
        return Err(Counter::DropFragment);
    }
    let header = if tunnel { 0 } else { parsed.l4 - ETH_LEN };
    if parsed.l3_len > MAX_OFFSET - 256 || header > HEADER_ROOM || parsed.l3_len < header {
        return Err(Counter::DropMalformed);
    }
    let payload = parsed.l3_len - header;
    let now = sa::now_to_a_tick();
    sa::admit(&sa, now)?;
    let v4 = if tunnel { sa.fixed.dst.is_v4() } else { parsed.v4 };
    let outer = match (tunnel, v4) {
        (false, _) => 0,
        (true, true) => IPV4_HEADER,
        (true, false) => IPV6_HEADER,
    };
    let ah_len = header_len(sa.fixed.icv_len as u32, v4);
    let new_len = parsed.l3_len + outer + ah_len;
    seal::fits(sc, new_len)?;
    sa::spend(&sa, payload as u64, now)?;
    let seq = seal::next_sequence(&sa)?;
    seal::trim(ctx, ETH_LEN + parsed.l3_len)?;
    if !tunnel {
        seal::save_header(ctx, sc, header)?;
    }
    // SAFETY: the context is valid.
    if unsafe { bpf_xdp_adjust_head(ctx, -((outer + ah_len) as i32)) } != 0 {
        return Err(Counter::DropRoom);
    }
    let next = match (tunnel, parsed.v4) {
        (false, _) => parsed.proto,
        (true, true) => proto::IPIP,
        (true, false) => proto::IPV6,
    };
    if tunnel {
        seal::outer_header(&frame, &sa, parsed, proto::AH, new_len, seq)?;
    } else {
        seal::restore_header(ctx, sc, parsed, header, proto::AH, new_len)?;
    }
    // SAFETY: the scratch of this CPU.
    let large = unsafe { (*sc).plan.large };
    if v4 && large != 0 && new_len > large {
        identify(&frame)?;
    }
    let place = ETH_LEN + header + outer;
    let first = (next as u32) << 24 | (length_field(ah_len) as u32) << 16;
    let fixed = [first.to_be(), sa.fixed.spi.to_be(), (seq as u32).to_be()];
    frame.write(place, fixed).ok_or(Counter::DropRoom)?;
    // SAFETY: the scratch of this CPU.
    unsafe {
        let job = &mut (*sc).job;
        job.spi = sa.fixed.spi.to_be();
        job.seq[0] = ((seq >> 32) as u32).to_be();
        job.seq[1] = (seq as u32).to_be();
        let plan = &mut (*sc).plan;
        plan.seq = seq;
        plan.now = now;
        plan.new_len = new_len;
        let mac = &mut (*sc).mac;
        mac.verify = 0;
        mac.then = stage::AH_SEAL_END;
    }
    // The padding that we send is zero.
    cover(ctx, sc, place, ah_len, new_len, v4)?;
    Ok(GO)
}

/// Gives the IPv4 packet an identification if it has none: it is to be cut, the host that sends the fragments gives each of
/// them one where it finds zero, and AH covers the field.
#[inline(always)]
fn identify(frame: &XdpFrame) -> Result<(), Counter> {
    const IDENTIFICATION: u16 = 0xffff;
    if frame.read::<u16>(ETH_LEN + 4).ok_or(Counter::DropInternal)? != 0 {
        return Ok(());
    }
    let sum = frame.read::<u16>(ETH_LEN + 10).ok_or(Counter::DropInternal)?;
    frame.write(ETH_LEN + 4, IDENTIFICATION).ok_or(Counter::DropInternal)?;
    frame.write(ETH_LEN + 10, update_checksum(sum, 0, IDENTIFICATION)).ok_or(Counter::DropInternal)
}

/// Keeps the IP header in front of the AH header at `place`, and zeroes what the authenticator may not see: what may
/// change on the way, and the AH header from the ICV to `end` octets from its start.
#[inline(always)]
fn cover(ctx: *mut xdp_md, sc: *mut Scratch, place: u32, end: u32, len: u32, v4: bool) -> Result<(), Counter> {
    let frame = XdpFrame(ctx);
    let header = place - ETH_LEN;
    seal::save_header(ctx, sc, header)?;
    // SAFETY: the scratch of this CPU.
    unsafe {
        let plan = &mut (*sc).plan;
        plan.header = header;
        let mac = &mut (*sc).mac;
        mac.offset = ETH_LEN;
        mac.len = len;
        mac.icv = place + FIXED;
        zero_mutable(&frame, ETH_LEN, place, v4, &mut (*sc).walk).ok_or(Counter::DropMalformed)?;
    }
    for i in 0..ICV_WORDS {
        if FIXED + i * 4 >= end {
            break;
        }
        frame.write(place + FIXED + i * 4, 0u32).ok_or(Counter::DropMalformed)?;
    }
    if zero_options(ctx) != GO {
        return Err(Counter::DropUnreadable);
    }
    Ok(())
}

/// One step through options and extension headers: see [`step`]. 0 for more, 1 when done, 2 when they are bad.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ah_step(ctx: *mut xdp_md) -> u32 {
    let Some(sc) = scratch() else { return 2 };
    // SAFETY: the scratch of this CPU.
    match step(&XdpFrame(ctx), unsafe { &mut (*sc).walk }) {
        Step::More => 0,
        Step::Done => 1,
        Step::Bad => 2,
    }
}

/// Walks through options and extension headers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn zero_options(ctx: *mut xdp_md) -> u32 {
    for _ in 0..MAX_STEPS {
        match ah_step(ctx) {
            0 => {}
            1 => return GO,
            _ => return FAILED,
        }
    }
    FAILED
}

/// Brings the IP header back as it was.
#[inline(always)]
fn uncover(ctx: *mut xdp_md, sc: *mut Scratch) -> Result<u32, Counter> {
    // SAFETY: the scratch of this CPU; at most 192 octets out of 256.
    unsafe {
        let header = opaque((*sc).plan.header);
        if header == 0 || header > HEADER_ROOM {
            return Err(Counter::DropInternal);
        }
        if bpf_xdp_store_bytes(ctx, ETH_LEN, (&raw mut (*sc).header).cast(), size::<HEADER_ROOM>(header)) != 0 {
            return Err(Counter::DropInternal);
        }
        Ok(header)
    }
}

/// Behind the authenticator: the header as it was, and the exit.
#[inline(always)]
pub fn seal_end(ctx: &XdpContext) -> u32 {
    let outcome = ah_seal_finish(ctx.ctx);
    if outcome & FAILED != 0 { stage::drop(outcome) } else { outcome }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ah_seal_finish(ctx: *mut xdp_md) -> u32 {
    status(seal_finish(ctx))
}

#[inline(always)]
fn seal_finish(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let config = CONFIG.get(0).ok_or(Counter::DropInternal)?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let sa = planned()?;
    uncover(ctx, sc)?;
    // SAFETY: the scratch of this CPU.
    let (plan, parsed) = unsafe { (&(*sc).plan, &(*sc).parsed) };
    sa::account(&sa, plan.now);
    let alone = plan.ah.slot != sa.place.slot;
    let tunnel = alone && sa.fixed.flags & flag::TUNNEL != 0;
    let (src, dst) = if tunnel { (sa.fixed.src, sa.fixed.dst) } else { (parsed.src, parsed.dst) };
    seal::leave(ctx, config, src, dst, plan.route)
}

/// Checks the AH header at `place` of a packet for this host, and makes it ready for the authenticator.
#[inline(always)]
pub fn open_prepare(ctx: *mut xdp_md, parsed: &Parsed, place: u32, sa: &Usable) -> Result<u32, Counter> {
    let frame = XdpFrame(ctx);
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let now = sa::now_to_a_tick();
    sa::admit(sa, now)?;
    let ah_len = header_len(sa.fixed.icv_len as u32, parsed.v4);
    let [first, spi, low] = frame.read::<[u32; 3]>(place).ok_or(Counter::DropMalformed)?;
    let end = ETH_LEN + parsed.l3_len;
    if end > MAX_OFFSET {
        return Err(Counter::DropTooLong);
    }
    if (u32::from_be(first) >> 16 & 0xff) as u8 != length_field(ah_len)
        || end > frame.len()
        || place + ah_len > end
        || place > ETH_LEN + HEADER_ROOM
    {
        return Err(Counter::DropMalformed);
    }
    let seq = open::sequence(sa, u32::from_be(low))?;
    // SAFETY: the scratch of this CPU.
    unsafe {
        let icv_len = opaque(sa.fixed.icv_len as u32 & 63);
        if icv_len == 0
            || icv_len > 32
            || bpf_xdp_load_bytes(ctx, place + FIXED, (&raw mut (*sc).icv).cast(), size::<32>(icv_len)) != 0
        {
            return Err(Counter::DropMalformed);
        }
        let job = &mut (*sc).job;
        job.spi = spi;
        job.seq[0] = ((seq >> 32) as u32).to_be();
        job.seq[1] = low;
        let plan = &mut (*sc).plan;
        plan.seq = seq;
        plan.now = now;
        plan.place = sa.place;
        plan.front = place + ah_len;
        plan.next = stage::authenticate(sa.fixed.mac);
        let mac = &mut (*sc).mac;
        mac.verify = 1;
        mac.then = stage::AH_OPEN_END;
    }
    // What pads the ICV is the sender's choice, and authenticated (RFC 4302 section 3.3.3.2.1).
    cover(ctx, sc, place, FIXED + sa.fixed.icv_len as u32, parsed.l3_len, parsed.v4)?;
    Ok(open::OPEN)
}

/// Behind the authenticator: takes the header off, and goes on with ESP behind it, or delivers.
#[inline(always)]
pub fn open_end(ctx: &XdpContext) -> u32 {
    let mut outcome = ah_open_finish(ctx.ctx);
    if outcome == open::DELIVER {
        outcome = open::inside_ah(ctx.ctx);
    }
    open::deliver_or_conclude(ctx, outcome)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ah_open_finish(ctx: *mut xdp_md) -> u32 {
    status(open_finish(ctx))
}

#[inline(always)]
fn open_finish(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let config = CONFIG.get(0).ok_or(Counter::DropInternal)?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let sa = planned()?;
    let header = uncover(ctx, sc)?;
    // SAFETY: the scratch of this CPU.
    let (plan, parsed) = unsafe { (&mut (*sc).plan, &(*sc).parsed) };
    open::commit(&sa, plan.seq)?;
    let place = ETH_LEN + header;
    let front = plan.front;
    let end = ETH_LEN + parsed.l3_len;
    if front < place || front > end || end > MAX_OFFSET {
        return Err(Counter::DropInternal);
    }
    let payload = end - front;
    let next = XdpFrame(ctx).read::<u8>(place).ok_or(Counter::DropMalformed)?;
    sa::spend(&sa, payload as u64, plan.now)?;
    sa::account(&sa, plan.now);
    plan.ah = SlotRef { slot: sa.place.slot, generation: sa.place.generation };
    if next != proto::ESP && sa.fixed.flags & flag::TUNNEL != 0 {
        open::strip_tunnel(ctx, config, parsed, front, payload, next)?;
    } else {
        open::strip_transport(ctx, parsed, front, payload, next)?;
    }
    Ok(open::DELIVER)
}
