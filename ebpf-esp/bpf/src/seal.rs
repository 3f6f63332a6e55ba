//! XDP on `ipsec0x`: one finished frame in, one sealed packet out.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use ebpf_esp::ah::header_len;
use ebpf_esp::esp::{ESP_HEADER, Fields, Geometry, UDP_HEADER, ipv4_header, ipv6_header};
use ebpf_esp::forward::update_checksum;
use ebpf_esp::packet::{ETH_IPV4, ETH_IPV6, ETH_LEN, Frame, Parsed, proto};
use sadb_maps::Addr;
use sadb_maps::abi::{Config, EXIT_XDP, any};
use sadb_maps::counter::Counter;
use sadb_maps::policy::{direction, verdict};
use sadb_maps::sa::{AH, SlotRef, flag, mac};
use sadb_maps::slow::errand;
use sadb_maps::spd::NO_MATCH;
use sadb_maps::tag::{FLAG_BUNDLE, FLAG_GATHER, FLAG_HELD, FLAG_LARGE, FLAG_LOCAL, FLAG_SPLIT, FLAG_WHOLE, Tag};

use crate::acquire;
use crate::checksum;
use crate::frame::{HEADER_ROOM, XdpFrame, opaque, size};
use crate::maps::{CONFIG, OUTER, SA_OUT, count};
use crate::open::{IP, read_inner};
use crate::policy::{self, Chosen};
use crate::route::Ask;
use crate::sa::{self, Usable, planned};
use crate::scratch::{Scratch, scratch};
use crate::tc::{Note, SEALED};
use crate::{ah, atomic, cipher, fault, hold, nat, report, route, shortcut, slow, stage};

/// Octets of an IP packet above which there is no room in a frame that is not split.
pub const LONGEST: u32 = 3600;

/// Octets of an explicit IV that is the counter itself; a longer one is made by the transform.
const IV_COUNTER: u32 = 8;

/// The program on `ipsec0x`: prepares, and jumps to the transform.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    report::begin();
    let outcome = seal_find(ctx.ctx);
    if outcome == GO {
        return go_on(ctx, seal_ready(ctx.ctx));
    }
    if outcome == ERRAND {
        return run_errand(ctx);
    }
    if outcome == FAILED | Counter::Held as u32 {
        return hold::hand_over(ctx.ctx);
    }
    stage::drop(outcome)
}

/// On the slow path or back from it.
#[inline(always)]
fn run_errand(ctx: &XdpContext) -> u32 {
    let Some(tag) = XdpFrame(ctx.ctx).read::<[u32; 3]>(0).and_then(Tag::from_words) else {
        return stage::drop(Counter::DropForeignFrame as u32);
    };
    if tag.flags & (FLAG_WHOLE | FLAG_GATHER) == FLAG_WHOLE {
        return stage::next(ctx, stage::OPEN_WHOLE);
    }
    slow::run_errand(ctx.ctx, &tag)
}

/// From [`seal_ready`] to the transform.
#[inline(always)]
pub fn go_on(ctx: &XdpContext, outcome: u32) -> u32 {
    if outcome == GO { stage::follow_plan(ctx) } else { stage::drop(outcome) }
}

/// A cipher over the job, then the authenticator, if there is a separate one, then the end.
#[inline(always)]
pub fn transform(ctx: &XdpContext, cipher: impl FnOnce(*mut xdp_md, &Usable) -> u32) -> u32 {
    let (sa, sc) = match (planned(), scratch()) {
        (Ok(sa), Some(sc)) => (sa, sc),
        (Err(reason), _) => return stage::drop(reason as u32),
        _ => return stage::drop(Counter::DropInternal as u32),
    };
    if cipher(ctx.ctx, &sa) != cipher::OK {
        return stage::drop(Counter::DropInternal as u32);
    }
    if sa.fixed.mac == mac::NONE {
        return stage::next(ctx, stage::SEAL_END);
    }
    // SAFETY: the scratch of this CPU.
    unsafe {
        let header = ESP_HEADER + sa.fixed.iv_len as u32;
        let (dst, len) = ((*sc).job.dst, (*sc).job.len);
        let job = &mut (*sc).mac;
        job.offset = dst - header;
        job.len = header + len;
        job.icv = dst + len;
        job.verify = 0;
        job.then = stage::SEAL_END;
    }
    stage::next(ctx, stage::authenticate(sa.fixed.mac))
}

/// The end: headers and exit.
#[inline(always)]
pub fn end(ctx: &XdpContext) -> u32 {
    match seal_finish(ctx.ctx) {
        AROUND => ah::around(ctx),
        outcome if outcome & FAILED != 0 => stage::drop(outcome),
        outcome => outcome,
    }
}

/// [`seal_finish`] is done with ESP, and AH goes around it.
const AROUND: u32 = 0x80;
/// What [`seal_find`] was given is not to be sealed.
const ERRAND: u32 = 0x81;
/// A stage went well and has no more to say.
pub const GO: u32 = 0;
/// A stage failed; the low octet is the counter.
pub const FAILED: u32 = 0x100;

/// The result of a stage as a number.
#[inline(always)]
pub fn status(result: Result<u32, Counter>) -> u32 {
    match result {
        Ok(value) => value,
        Err(reason) => FAILED | reason as u32,
    }
}

/// Reads the packet and finds its SAs, which it leaves in the plan, with what may become of it when it is too long.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn seal_find(ctx: *mut xdp_md) -> u32 {
    status(find(ctx))
}

#[inline(always)]
fn find(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let frame = XdpFrame(ctx);
    let words = frame.read::<[u32; 3]>(0).ok_or(Counter::DropMalformed)?;
    let tag = Tag::from_words(words).ok_or(Counter::DropForeignFrame)?;
    if tag.flags & (FLAG_WHOLE | FLAG_SPLIT | FLAG_GATHER) != 0 {
        return Ok(ERRAND);
    }
    if read_inner(ctx) != IP {
        return Err(Counter::DropForeignFrame);
    }
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU, where the packet has just been put.
    let parsed = unsafe { &(*sc).parsed };
    if parsed.l3_len > LONGEST || parsed.l4 > ETH_LEN + HEADER_ROOM {
        return Err(Counter::DropTooBig);
    }
    let Chosen { first, second } = find_sa(&tag, parsed)?;
    // SAFETY: a live map value.
    let mtu = (unsafe { (*first.state).route } >> 32) as u32;
    // SAFETY: the scratch of this CPU.
    unsafe {
        let plan = &mut (*sc).plan;
        plan.place = first.place;
        plan.ah = second;
        plan.large = if tag.flags & FLAG_LARGE != 0 { mtu } else { 0 };
    }
    Ok(GO)
}

/// Takes sequence number and IV of the SA in the plan for the packet in the scratch, and makes room for what goes around it.
/// A function of its own, so that its stack does not add up with the classifier's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn seal_ready(ctx: *mut xdp_md) -> u32 {
    status(ready(ctx))
}

#[inline(always)]
fn ready(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let sa = planned()?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: a live map value.
    let route = unsafe { (*sa.state).route };
    // SAFETY: the scratch of this CPU.
    unsafe {
        (*sc).subject.spi = sa.fixed.spi;
        let plan = &mut (*sc).plan;
        plan.route = route as u32;
        plan.mtu = (route >> 32) as u32;
        plan.shortcut = shortcut::NOT;
        plan.next = if sa.fixed.proto == AH { stage::AH_SEAL } else { stage::seal(sa.fixed.family) };
    }
    if sa.fixed.proto == AH {
        return Ok(GO);
    }
    // SAFETY: the scratch of this CPU.
    let (parsed, second) = unsafe { (&(*sc).parsed, (*sc).plan.ah) };
    let tunnel = sa.fixed.flags & flag::TUNNEL != 0;
    if !tunnel && parsed.fragment {
        return Err(Counter::DropFragment);
    }
    let now = sa::now_to_a_tick();
    let header = if tunnel { 0 } else { parsed.l4 - ETH_LEN };
    if parsed.l3_len < header {
        return Err(Counter::DropMalformed);
    }
    let payload = parsed.l3_len - header;
    sa::admit(&sa, now)?;

    let geometry = Geometry::of(sa.fixed);
    let back = geometry.back(payload);
    let growth = geometry.front() + back;
    let new_len = parsed.l3_len + growth;
    let around = match sa::resolve(second) {
        Some(ah) => header_len(ah.fixed.icv_len as u32, outer_is_v4(&sa, tunnel, parsed)),
        None => 0,
    };
    fits(sc, new_len + around)?;
    sa::spend(&sa, payload as u64, now)?;

    let seq = next_sequence(&sa)?;
    let iv = next_iv(&sa)?;

    trim(ctx, ETH_LEN + parsed.l3_len)?;
    if !tunnel {
        save_header(ctx, sc, header)?;
    }
    // The trailer takes its room at the head as well: tailroom is missing for a third of all sizes under veth
    // and shifting the payload costs nothing, since enciphering goes out of place anyway.
    // SAFETY: the context is valid.
    if unsafe { bpf_xdp_adjust_head(ctx, -(growth as i32)) } != 0 {
        return Err(Counter::DropRoom);
    }
    let front = ETH_LEN + header + geometry.front();
    let (spi, low) = (sa.fixed.spi.to_be(), (seq as u32).to_be());
    let iv = [((iv >> 32) as u32).to_be(), (iv as u32).to_be()];
    let frame = XdpFrame(ctx);
    frame.write(front - geometry.iv - ESP_HEADER, [spi, low]).ok_or(Counter::DropRoom)?;
    if geometry.iv == IV_COUNTER {
        frame.write(front - IV_COUNTER, iv).ok_or(Counter::DropRoom)?;
    }
    let next_header = if !tunnel {
        parsed.proto
    } else if parsed.v4 {
        proto::IPIP
    } else {
        proto::IPV6
    };
    // SAFETY: the scratch of this CPU.
    unsafe {
        let job = &mut (*sc).job;
        job.src = front + back;
        job.dst = front;
        job.len = payload;
        job.pad = geometry.padding(payload);
        job.next_header = next_header as u32;
        job.spi = spi;
        job.seq[0] = ((seq >> 32) as u32).to_be();
        job.seq[1] = low;
        job.iv[0] = iv[0];
        job.iv[1] = iv[1];
        let plan = &mut (*sc).plan;
        plan.seq = seq;
        plan.now = now;
        plan.header = header;
        plan.new_len = new_len;
        plan.front = front;
    }
    Ok(GO)
}

/// Whether `len` octets pass on the way of the packet in hand, or it may leave in fragments. What TC has let through can be
/// longer all the same: the way may have become narrower since.
///
/// # Errors
/// [`Counter::DropTooBig`].
#[inline(always)]
pub fn fits(sc: *mut Scratch, len: u32) -> Result<(), Counter> {
    // SAFETY: the scratch of this CPU.
    let (mtu, large) = unsafe { ((*sc).plan.mtu, (*sc).plan.large) };
    if mtu != 0 && len > mtu && large == 0 { Err(Counter::DropTooBig) } else { Ok(()) }
}

/// Writes the headers in front of the ciphertext and picks the exit.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn seal_finish(ctx: *mut xdp_md) -> u32 {
    status(finish(ctx))
}

#[inline(always)]
fn finish(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let config = CONFIG.get(0).ok_or(Counter::DropInternal)?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let sa = planned()?;
    let frame = XdpFrame(ctx);
    // SAFETY: the scratch of this CPU.
    let (plan, parsed) = unsafe { (&(*sc).plan, &(*sc).parsed) };
    let geometry = Geometry::of(sa.fixed);
    let tunnel = sa.fixed.flags & flag::TUNNEL != 0;
    let (header, new_len) = (plan.header, plan.new_len);
    if plan.front < geometry.iv + ESP_HEADER + geometry.udp {
        return Err(Counter::DropInternal);
    }
    let esp = plan.front - geometry.iv - ESP_HEADER;
    let inner_proto = if geometry.udp != 0 { proto::UDP } else { proto::ESP };
    if tunnel {
        outer_header(&frame, &sa, parsed, inner_proto, new_len, plan.seq)?;
    } else {
        restore_header(ctx, sc, parsed, header, inner_proto, new_len)?;
        if sa.fixed.peer != Addr::UNSPECIFIED {
            send_to_peer(&frame, sa.fixed.peer)?;
        }
    }
    let (src, dst) = outer_ends(&sa, tunnel, parsed);
    if geometry.udp != 0 {
        let [sport, dport] = sa.fixed.encap_ports;
        let udp_len = new_len - header - geometry.outer;
        let udp = [(sport as u32) << 16 | dport as u32, udp_len << 16];
        frame.write(esp - UDP_HEADER, [udp[0].to_be(), udp[1].to_be()]).ok_or(Counter::DropInternal)?;
        if !outer_is_v4(&sa, tunnel, parsed) {
            checksum::udp6(ctx, esp - UDP_HEADER, udp_len, src, dst)?;
        }
    }
    sa::account(&sa, plan.now);
    if fault::is(fault::ICV) {
        let last = ETH_LEN + new_len - 1;
        let octet = frame.read::<u8>(last).ok_or(Counter::DropInternal)?;
        frame.write(last, octet ^ 1).ok_or(Counter::DropInternal)?;
    }
    if plan.ah.slot != 0 {
        return Ok(AROUND);
    }
    leave(ctx, config, src, dst, plan.route)
}

/// Source and destination of the sealed packet.
#[inline(always)]
pub fn outer_ends(sa: &Usable, tunnel: bool, parsed: &Parsed) -> (Addr, Addr) {
    let moved = sa.fixed.peer != Addr::UNSPECIFIED;
    let dst = if tunnel || moved { sa.fixed.far_end() } else { parsed.dst };
    (if tunnel { sa.fixed.src } else { parsed.src }, dst)
}

/// The header of a transport-mode packet to a peer that its NAT has moved. The peer repairs what is summed up inside as it
/// did before: who moved is the NAT.
#[inline(always)]
fn send_to_peer(frame: &XdpFrame, peer: Addr) -> Result<(), Counter> {
    if peer.is_v4() {
        return nat::replace_v4(frame, ETH_LEN + 16, peer.0[3]);
    }
    frame.write(ETH_LEN + 24, peer.0).ok_or(Counter::DropInternal)
}

#[inline(always)]
fn outer_is_v4(sa: &Usable, tunnel: bool, parsed: &Parsed) -> bool {
    if tunnel { sa.fixed.dst.is_v4() } else { parsed.v4 }
}

/// The SA that the tag names, if it is still the right one and alone; otherwise those that the policy names now. Without
/// one the packet is to be held, unless it has been.
#[inline(always)]
fn find_sa(tag: &Tag, parsed: &Parsed) -> Result<Chosen, Counter> {
    let head = policy::head().ok_or(Counter::DropPolicyChanged)?;
    let current = tag.policy == head.generation as u16;
    if current
        && tag.flags & FLAG_BUNDLE == 0
        && let Some(first) = sa::resolve_tagged(tag)
    {
        return Ok(Chosen { first, second: SlotRef { slot: 0, generation: 0 } });
    }
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU.
    let (selectors, binding) = unsafe { (&mut (*sc).selectors, &mut (*sc).binding) };
    *selectors = parsed.outbound();
    let mut index = tag.rule as u32;
    if !current {
        let local = (tag.flags & FLAG_LOCAL) as u32;
        index = policy::classify(selectors, head.generation, head.count, direction::OUT as u32, local);
        if index == NO_MATCH {
            return Err(Counter::DropPolicyChanged);
        }
    }
    let rule = policy::rule(head.generation, index).ok_or(Counter::DropInternal)?;
    if rule.verdict != verdict::PROTECT {
        return Err(Counter::DropPolicyChanged);
    }
    *binding = rule.binding(selectors);
    // SAFETY: copied at once.
    let bundle = unsafe { SA_OUT.get(&*binding) }.copied();
    match policy::choose(rule, binding, bundle) {
        Some(chosen) => Ok(chosen),
        None => {
            acquire::raise_acquire(head.generation, index, 0);
            Err(if tag.flags & FLAG_HELD != 0 { Counter::DropNoSaOut } else { Counter::Held })
        }
    }
}

/// The next sequence number: never zero, never twice, and none after the last (ESP-FMT-03, ESP-FMT-04).
#[inline(always)]
pub fn next_sequence(sa: &Usable) -> Result<u64, Counter> {
    let limit = if sa.fixed.flags & flag::ESN != 0 { u64::MAX } else { u32::MAX as u64 };
    // SAFETY: a live map value.
    let last = unsafe { atomic::fetch_add(&raw mut (*sa.state).seq, 1) };
    if last >= limit {
        // Holds the counter at the end, so that it cannot come round.
        // SAFETY: as above.
        unsafe { atomic::compare_swap(&raw mut (*sa.state).seq, last.wrapping_add(1), limit) };
        sa::expire_hard(sa, sa::now());
        return Err(Counter::DropSequenceEnd);
    }
    Ok(last + 1)
}

/// The next explicit IV, from a counter of its own.
#[inline(always)]
fn next_iv(sa: &Usable) -> Result<u64, Counter> {
    // SAFETY: a live map value.
    let iv = unsafe { atomic::fetch_add(&raw mut (*sa.state).iv, 1) };
    if iv >= sa.fixed.iv_limit {
        // SAFETY: as above.
        unsafe { atomic::compare_swap(&raw mut (*sa.state).iv, iv.wrapping_add(1), sa.fixed.iv_limit) };
        sa::expire_hard(sa, sa::now());
        return Err(Counter::DropSequenceEnd);
    }
    Ok(iv)
}

/// Cuts what lies behind the IP packet (Ethernet padding).
#[inline(always)]
pub fn trim(ctx: *mut xdp_md, len: u32) -> Result<(), Counter> {
    let have = XdpFrame(ctx).len();
    if have < len {
        return Err(Counter::DropMalformed);
    }
    // SAFETY: the context is valid.
    if have > len && unsafe { bpf_xdp_adjust_tail(ctx, -((have - len) as i32)) } != 0 {
        return Err(Counter::DropRoom);
    }
    Ok(())
}

/// Keeps the IP header, which in transport mode moves to the new front.
#[inline(always)]
pub fn save_header(ctx: *mut xdp_md, sc: *mut Scratch, header: u32) -> Result<(), Counter> {
    if header == 0 || header > HEADER_ROOM {
        return Err(Counter::DropMalformed);
    }
    // SAFETY: at most 192 octets into 256.
    let status =
        unsafe { bpf_xdp_load_bytes(ctx, ETH_LEN, (&raw mut (*sc).header).cast(), size::<HEADER_ROOM>(header)) };
    if status != 0 { Err(Counter::DropMalformed) } else { Ok(()) }
}

#[inline(always)]
pub fn restore_header(
    ctx: *mut xdp_md,
    sc: *mut Scratch,
    parsed: &Parsed,
    header: u32,
    inner_proto: u8,
    new_len: u32,
) -> Result<(), Counter> {
    let frame = XdpFrame(ctx);
    if header == 0 || header > HEADER_ROOM {
        return Err(Counter::DropMalformed);
    }
    // SAFETY: at most 192 octets out of 256.
    if unsafe { bpf_xdp_store_bytes(ctx, ETH_LEN, (&raw mut (*sc).header).cast(), size::<HEADER_ROOM>(header)) } != 0 {
        return Err(Counter::DropInternal);
    }
    let ether_type = if parsed.v4 { ETH_IPV4 } else { ETH_IPV6 };
    frame.write(12, ether_type.to_be()).ok_or(Counter::DropInternal)?;
    frame.write(parsed.next_header, inner_proto).ok_or(Counter::DropInternal)?;
    if !parsed.v4 {
        return frame.write(ETH_LEN + 4, ((new_len - 40) as u16).to_be()).ok_or(Counter::DropInternal);
    }
    let old = frame.read::<[u16; 6]>(ETH_LEN).ok_or(Counter::DropInternal)?;
    let len = (new_len as u16).to_be();
    frame.write(ETH_LEN + 2, len).ok_or(Counter::DropInternal)?;
    // Incremental update (RFC 1624): the length changed, and the protocol octet next to the TTL.
    let new_ttl_proto = u16::from_ne_bytes([old[4].to_ne_bytes()[0], inner_proto]);
    let old_ttl_proto = u16::from_ne_bytes([old[4].to_ne_bytes()[0], parsed.proto]);
    let sum = update_checksum(update_checksum(old[5], old[1], len), old_ttl_proto, new_ttl_proto);
    frame.write(ETH_LEN + 10, sum).ok_or(Counter::DropInternal)
}

#[inline(always)]
pub fn outer_header(
    frame: &XdpFrame,
    sa: &Usable,
    parsed: &Parsed,
    inner_proto: u8,
    new_len: u32,
    seq: u64,
) -> Result<(), Counter> {
    let (src, dst) = (sa.fixed.src, sa.fixed.far_end());
    let fields = Fields::outer(&sa.fixed.outer, inner_proto, parsed.tos, parsed.df);
    if dst.is_v4() {
        let header = ipv4_header(src, dst, fields, seq as u16, new_len);
        frame.write(ETH_LEN, header).ok_or(Counter::DropInternal)?;
        frame.write(12, ETH_IPV4.to_be()).ok_or(Counter::DropInternal)
    } else {
        let header = ipv6_header(src, dst, fields, new_len - 40);
        frame.write(ETH_LEN, header).ok_or(Counter::DropInternal)?;
        frame.write(12, ETH_IPV6.to_be()).ok_or(Counter::DropInternal)
    }
}

/// The two exits: XDP redirect where the driver can and the neighbour is known, else up to TC on the interface that the
/// frame is on. Counts the packet as sealed. `cached` is the interface on which the latest packet of the SA left.
#[inline(always)]
pub fn leave(ctx: *mut xdp_md, config: &Config, src: Addr, dst: Addr, cached: u32) -> Result<u32, Counter> {
    let frame = XdpFrame(ctx);
    count(Counter::SealedOk);
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU.
    let large = unsafe { (*sc).plan.large };
    if large != 0 && frame.len() - ETH_LEN > large {
        return slow::hand_over(ctx, errand::SEALED, large);
    }
    // SAFETY: the scratch of this CPU.
    let (way, out, macs) = unsafe { ((*sc).plan.shortcut, (*sc).plan.out, (*sc).plan.macs) };
    if way != shortcut::NOT {
        count(Counter::ShortcutSealed);
        if way == shortcut::NEIGHBOUR {
            frame.write(0, macs).ok_or(Counter::DropInternal)?;
            // SAFETY: no preconditions.
            return Ok(unsafe { bpf_redirect(out, 0) } as u32);
        }
        return up(ctx, config, out);
    }
    let mut out = cached;
    // SAFETY: read only.
    let direct =
        config.any & any::XDP_EXIT != 0 && unsafe { OUTER.get(&cached) }.is_some_and(|outer| outer.exit == EXIT_XDP);
    if out == 0 || direct {
        let found = route::lookup(ctx.cast(), config.ipsec0x, src, dst, Ask::Neighbour)?;
        if found.ifindex == config.ipsec0 || found.ifindex == config.ipsec0x {
            return Err(Counter::DropRouteLoop);
        }
        out = found.ifindex;
        if direct && found.neighbour {
            frame.write(0, found.macs).ok_or(Counter::DropInternal)?;
            // SAFETY: no preconditions.
            return Ok(unsafe { bpf_redirect(out, 0) } as u32);
        }
    }
    up(ctx, config, out)
}

/// To TC, where the packet leaves through the neighbour layer of `out`. Without a note of ours the skb of a veth would keep
/// the length of one that it came with, and TC would read what an earlier packet has left in front of this one.
#[inline(always)]
fn up(ctx: *mut xdp_md, config: &Config, out: u32) -> Result<u32, Counter> {
    // No address: should the program at TC not be there, nobody takes the packet.
    let nobody = opaque(0);
    XdpFrame(ctx).write(0, [nobody; 3]).ok_or(Counter::DropInternal)?;
    Note { secret: config.mark_sealed, what: SEALED, value: out }.put(ctx)?;
    Ok(xdp_action::XDP_PASS)
}
