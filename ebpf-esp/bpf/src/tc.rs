//! The TC programs: the classifier at egress of the outer interfaces, the gate in front of `ipsec0`, the second exit on
//! `ipsec0x`, and the hand-over of opened packets at ingress of the outer interfaces.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_redirect, bpf_redirect_neigh,
    bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_vlan_pop, bpf_xdp_adjust_meta,
};
use ebpf_esp::packet::{Content, ETH_LEN, Frame, Parsed, parse, proto};
use ebpf_esp::too_big;
use sadb_maps::abi::Config;
use sadb_maps::counter::Counter;
use sadb_maps::policy::{direction, verdict};
use sadb_maps::sa::{SlotRef, flag};
use sadb_maps::spd::NO_MATCH;
use sadb_maps::tag::{FLAG_BUNDLE, FLAG_GATHER, FLAG_HELD, FLAG_LARGE, FLAG_LOCAL, FLAG_SPLIT, Tag};

use crate::frame::SkbFrame;
use crate::limit::{self, Limit};
use crate::maps::{CONFIG, KM_SOCKETS, SA_OUT, count, count_index};
use crate::policy::Chosen;
use crate::route::Ask;
use crate::scratch::{OF_ITS_SOURCE, park, scratch};
use crate::{acquire, fault, hold, late, path_mtu, policy, report, slow};

/// Let the next program, or the stack, decide (`TCX_NEXT`).
pub const NEXT: i32 = -1;
/// Drop.
pub const DROP: i32 = 2;
/// `BPF_F_INGRESS`.
const INGRESS: u64 = 1;
/// Octets of a frame that are made linear for reading: Ethernet, IPv6, some extension headers, ports.
const LINEAR: u32 = 160;

/// Octets that every IPv4 link takes (RFC 791 section 3.2).
const LEAST_V4: u32 = 68;

/// The same with an ICMP error and the beginning of the packet that it quotes.
const LINEAR_QUOTED: u32 = 256;

/// Metadata that XDP puts in front of a packet that it lets pass, or has sealed for the second exit. Nothing on the wire can
/// carry it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Note {
    /// `mark_sealed` of the configuration, which only these programs know.
    pub secret: u32,
    /// What was done with the packet: one of the following.
    pub what: u32,
    /// Of an opened packet, octets to cut the frame to, and 0 leaves it. Of one in clear, the interface that it came in on. Of
    /// a sealed one, the interface that it leaves by.
    pub value: u32,
}

/// Opened by a transport-mode SA.
pub const OPENED_TRANSPORT: u32 = 1;
/// Opened by a tunnel-mode SA.
pub const OPENED_TUNNEL: u32 = 2;
/// Sealed by the gateway shortcut.
pub const SEALED: u32 = 3;
/// Judged in clear, and let pass.
pub const JUDGED: u32 = 4;

impl Note {
    /// Puts the note in front of the frame.
    ///
    /// # Errors
    /// [`Counter::DropRoom`]: the driver has no room for it.
    #[inline(always)]
    pub fn put(self, ctx: *mut xdp_md) -> Result<(), Counter> {
        // SAFETY: the context is valid.
        if unsafe { bpf_xdp_adjust_meta(ctx, -(size_of::<Self>() as i32)) } != 0 {
            return Err(Counter::DropRoom);
        }
        // SAFETY: as above.
        let (meta, data) = unsafe { ((*ctx).data_meta as usize, (*ctx).data as usize) };
        if meta + size_of::<Self>() > data {
            return Err(Counter::DropRoom);
        }
        // SAFETY: room for one record was just proven.
        unsafe { (meta as *mut Self).write_unaligned(self) };
        Ok(())
    }
}

/// Where a packet that [`judge`] judges comes from: this host or an interface, and leaves through an outer one.
const LEAVING: u32 = 0;
/// Routed to `ipsec0`.
const ROUTED: u32 = 1;
/// Key management, which held it for want of an SA, or the slow path, which cut it.
const RELEASED: u32 = 2;
/// The slow path, which made it whole: it may leave in fragments.
const MADE_WHOLE: u32 = 3;

/// Results of [`judge`]: these four, or [`PASS_COUNTED`] or [`DROP_COUNTED`] plus a counter.
const PASS_SILENT: u32 = 0;
/// Goes to `ipsec0` with the tag in the scratch.
const PROTECT: u32 = 1;
/// Too long: answer with the limit in the scratch.
const TOO_BIG: u32 = 2;
/// Too long, and may be cut: goes to the slow path with the tag in the scratch, and a sender on this host is told the limit.
const SPLIT: u32 = 3;
const PASS_COUNTED: u32 = 0x100;
const DROP_COUNTED: u32 = 0x200;

#[inline(always)]
fn readable(skb: *mut __sk_buff) -> SkbFrame {
    // SAFETY: the context is valid.
    unsafe {
        let want = if (*skb).len < LINEAR { (*skb).len } else { LINEAR };
        if (*skb).data_end - (*skb).data < want {
            // A failure shows as a header that cannot be read.
            bpf_skb_pull_data(skb, want);
        }
    }
    SkbFrame(skb)
}

/// TCX egress on an outer interface.
#[inline(always)]
pub fn outer_egress(skb: *mut __sk_buff) -> i32 {
    let Some(config) = CONFIG.get(0) else { return DROP };
    // SAFETY: the context is valid.
    let (mark, local) = unsafe { ((*skb).mark, (*skb).ingress_ifindex == 0) };
    if mark == config.mark_sealed && mark != 0 {
        return NEXT;
    }
    if policy::head().is_none() {
        return NEXT;
    }
    report::begin();
    let outcome = judge(skb, local as u32, LEAVING);
    match outcome {
        PASS_SILENT => NEXT,
        // SAFETY: no preconditions.
        PROTECT if fault::is(fault::CLEAR) && unsafe { bpf_get_prandom_u32() } & 63 == 0 => NEXT,
        PROTECT => {
            if write_tag(skb).is_none() {
                count(Counter::DropInternal);
                return DROP;
            }
            // SAFETY: the context is valid.
            unsafe {
                (*skb).mark = config.mark_tagged;
                bpf_redirect(config.ipsec0, 0) as i32
            }
        }
        TOO_BIG => answer_too_big(skb),
        SPLIT => split(skb, config, local),
        _ => {
            if outcome & DROP_COUNTED != 0 {
                report::dropped(outcome & 0xff);
                return DROP;
            }
            count_index(outcome & 0xff);
            NEXT
        }
    }
}

/// Sends a packet that is too long on the slow path. A sender on this host learns the limit as well, and makes packets
/// that fit; one elsewhere has not asked for an answer (RFC 1812 section 4.3.2.7).
#[inline(always)]
fn split(skb: *mut __sk_buff, config: &Config, local: bool) -> i32 {
    if write_tag(skb).is_none() {
        count(Counter::DropInternal);
        return DROP;
    }
    // SAFETY: the context is valid.
    unsafe {
        let told = scratch().is_some_and(|sc| (*sc).decision.answer != 0);
        let mark = (*skb).mark;
        (*skb).mark = config.mark_tagged;
        if !local || !told {
            return bpf_redirect(config.ipsec0, 0) as i32;
        }
        if bpf_clone_redirect(skb, config.ipsec0, 0) != 0 {
            count(Counter::DropSlowPathFull);
        }
        (*skb).mark = mark;
    }
    answer_too_big(skb)
}

#[inline(always)]
fn write_tag(skb: *mut __sk_buff) -> Option<()> {
    let sc = scratch()?;
    // SAFETY: the scratch of this CPU.
    SkbFrame(skb).write(0, unsafe { (*sc).decision.tag })
}

/// TCX egress on `ipsec0`: takes tagged frames that carry the mark of [`outer_egress`], judges those anew that key
/// management held, and judges routed frames by the tunnel rules.
#[inline(always)]
pub fn ipsec0_egress(skb: *mut __sk_buff) -> i32 {
    let Some(config) = CONFIG.get(0) else { return DROP };
    // SAFETY: the context is valid.
    let mark = unsafe { (*skb).mark };
    let Some(words) = SkbFrame(skb).read::<[u32; 3]>(0) else { return DROP };
    let (mut local, mut origin) = (0, ROUTED);
    if let Some(tag) = Tag::from_words(words) {
        if mark != config.mark_tagged {
            count(Counter::DropForeignFrame);
            return DROP;
        }
        if tag.flags & FLAG_HELD == 0 {
            return NEXT;
        }
        // What was held has seen no limit, and perhaps another policy.
        origin = if tag.flags & FLAG_LARGE != 0 { MADE_WHOLE } else { RELEASED };
        local = (tag.flags & FLAG_LOCAL) as u32;
    }
    if policy::head().is_none() {
        count(Counter::DropTunnelNoRule);
        return DROP;
    }
    report::begin();
    let outcome = judge(skb, local, origin);
    match outcome {
        PROTECT => {
            if write_tag(skb).is_none() {
                count(Counter::DropInternal);
                return DROP;
            }
            NEXT
        }
        TOO_BIG => answer_too_big(skb),
        // SAFETY: the context is valid.
        SPLIT => split(skb, config, origin == ROUTED && unsafe { (*skb).ingress_ifindex } == 0),
        _ if outcome == PASS_COUNTED | Counter::LinkLocal as u32 => {
            count(Counter::LinkLocal);
            DROP
        }
        _ => {
            let reason = if outcome & DROP_COUNTED != 0 { outcome & 0xff } else { Counter::DropTunnelNoRule as u32 };
            report::dropped(reason);
            DROP
        }
    }
}

/// Judges one packet that is leaving: see [`PASS_SILENT`] and its neighbours for what it returns.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge(skb: *mut __sk_buff, local: u32, origin: u32) -> u32 {
    match decide(skb, local != 0, origin) {
        Ok(outcome) => outcome,
        Err(reason) => DROP_COUNTED | reason as u32,
    }
}

/// Result of [`read_packet`]: an IP packet, in the scratch.
pub const READ: u32 = 0;
/// Result of [`read_packet`]: something else than IP.
pub const READ_OTHER: u32 = 1;
const READ_MALFORMED: u32 = 2;

/// Reads the packet into the scratch. A function of its own, so that its stack does not add up with the classifier's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_packet(skb: *mut __sk_buff) -> u32 {
    match parse(&readable(skb)) {
        Content::Ip(parsed) => match park(parsed) {
            Some(_) => READ,
            None => READ_MALFORMED,
        },
        Content::Other => READ_OTHER,
        Content::Malformed => READ_MALFORMED,
    }
}

/// Reads the packet that the ICMP error in the scratch quotes: see [`park_quoted`](crate::scratch::park_quoted).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_quoted_skb(skb: *mut __sk_buff) -> u32 {
    // SAFETY: the context is valid. A failure shows as a packet that cannot be read.
    unsafe {
        let want = if (*skb).len < LINEAR_QUOTED { (*skb).len } else { LINEAR_QUOTED };
        bpf_skb_pull_data(skb, want);
    }
    crate::scratch::park_quoted(&SkbFrame(skb))
}

#[inline(always)]
fn decide(skb: *mut __sk_buff, local: bool, origin: u32) -> Result<u32, Counter> {
    let config = CONFIG.get(0).ok_or(Counter::DropInternal)?;
    // The last rule may go between the look of the program and this one.
    let Some(head) = policy::head() else {
        return if origin == LEAVING { Ok(PASS_SILENT) } else { Err(Counter::DropTunnelNoRule) };
    };
    let sc = scratch().ok_or(Counter::DropInternal)?;
    match read_packet(skb) {
        READ => {}
        READ_OTHER => return Ok(PASS_SILENT),
        _ => return Err(Counter::DropUnreadable),
    }
    // SAFETY: the scratch of this CPU, where the packet has just been put.
    let parsed = unsafe { &(*sc).parsed };
    if origin == ROUTED && is_link_local_multicast(parsed) {
        return Ok(PASS_COUNTED | Counter::LinkLocal as u32);
    }
    if parsed.is_neighbour_discovery() {
        return Ok(PASS_SILENT);
    }
    if local && origin == LEAVING && is_key_management(skb, parsed) {
        return Ok(PASS_COUNTED | Counter::KeyManagement as u32);
    }
    // SAFETY: the scratch of this CPU.
    let (selectors, binding, decision) = unsafe { (&mut (*sc).selectors, &mut (*sc).binding, &mut (*sc).decision) };
    *selectors = parsed.outbound();
    let mut index = policy::classify(selectors, head.generation, head.count, direction::OUT as u32, local as u32);
    if index == NO_MATCH && parsed.is_icmp_error() && read_quoted_skb(skb) == OF_ITS_SOURCE {
        // Goes the way of the flow that it is about (RFC 4301 section 6.2, ARC-ICMP-05).
        // SAFETY: the scratch of this CPU, where the quoted packet has just been put.
        *selectors = unsafe { (*sc).quoted.outbound() };
        index = policy::classify(selectors, head.generation, head.count, direction::OUT as u32, local as u32);
    }
    if index == NO_MATCH {
        return Ok(PASS_COUNTED | Counter::BypassedOut as u32);
    }
    let rule = policy::rule(head.generation, index).ok_or(Counter::DropInternal)?;
    match rule.verdict {
        verdict::PASS => return Ok(PASS_COUNTED | Counter::BypassedOut as u32),
        verdict::PROTECT => {}
        _ => return Err(Counter::DropPolicyOut),
    }
    if rule.tunnel_mode == 0 && parsed.fragment {
        // Transport mode is for whole packets (RFC 4303 section 3.3.4).
        if origin >= RELEASED || !slow::is_served() {
            return Err(Counter::DropFragment);
        }
        slow_tag(FLAG_GATHER as u32, local as u32, 0);
        return Ok(PROTECT);
    }
    *binding = rule.binding(selectors);
    // SAFETY: copied at once.
    let bundle = unsafe { SA_OUT.get(&*binding) }.copied();
    let Some(Chosen { first: sa, second }) = policy::choose(rule, binding, bundle) else {
        // SAFETY: the context is valid.
        acquire::raise_acquire(head.generation, index, unsafe { (*skb).ifindex });
        if origin == RELEASED || !hold::is_possible() {
            return Err(Counter::DropNoSaOut);
        }
        tag_without_sa(head.generation, index, local as u32);
        return Ok(PROTECT);
    };
    let Limit { octets: limit, own, .. } = limit::of(skb.cast(), config, &sa, second, parsed, Ask::Mtu)?;
    let mut large = 0;
    let len = segment_len(skb, parsed);
    if len > limit {
        let tunnel = sa.fixed.flags & flag::TUNNEL != 0;
        let may_be_cut = parsed.v4 && !parsed.df;
        // Nobody sends less than the least packet of IPv6, whatever he is told.
        let least = !parsed.v4 && len <= too_big::V6_MINIMUM;
        // In transport mode what is sealed is cut, and so is the least packet of IPv6 where it does not fit.
        if slow::is_served() && (least || (!tunnel && (may_be_cut || origin == MADE_WHOLE))) {
            large = FLAG_LARGE;
        }
        decision.limit = limit;
        decision.src = parsed.src;
        decision.dst = parsed.dst;
        decision.v4 = parsed.v4 as u32;
        decision.own = own as u32;
        decision.answer = (!least && too_big::may_be_answered(parsed)) as u32;
        if large == 0 && tunnel && may_be_cut && limit >= LEAST_V4 && slow::is_served() {
            slow_tag(FLAG_SPLIT as u32, local as u32, limit);
            return Ok(SPLIT);
        }
        if large == 0 {
            return if decision.answer != 0 { Ok(TOO_BIG) } else { Err(Counter::DropTooBig) };
        }
    }
    let flags = large | if second.slot != 0 { FLAG_BUNDLE } else { 0 } | if origin >= RELEASED { FLAG_HELD } else { 0 };
    decision.tag = tag(head.generation, index, local, flags, sa.place);
    Ok(PROTECT)
}

/// The tag of a packet that has no SA: segmented and checksummed, it is handed over where it would be sealed. A function of
/// its own: merged with what follows a found SA, parts of that SA are stored that were never set, which the verifier
/// refuses.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tag_without_sa(policy: u32, rule: u32, local: u32) -> u32 {
    if let Some(sc) = scratch() {
        // SAFETY: the scratch of this CPU.
        unsafe { (*sc).decision.tag = tag(policy, rule, local != 0, 0, SlotRef { slot: 0, generation: 0 }) };
    }
    0
}

/// The tag of a packet for the slow path, which is judged anew when it comes back.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn slow_tag(flags: u32, local: u32, detail: u32) -> u32 {
    if let Some(sc) = scratch() {
        // SAFETY: the scratch of this CPU.
        unsafe { (*sc).decision.tag = tag(0, 0, local != 0, flags as u8, SlotRef { slot: detail, generation: 0 }) };
    }
    0
}

/// The tag of a packet that a rule protects.
#[inline(always)]
fn tag(policy: u32, rule: u32, local: bool, flags: u8, place: SlotRef) -> [u32; 3] {
    Tag {
        flags: flags | if local { FLAG_LOCAL } else { 0 },
        rule: rule as u16,
        policy: policy as u16,
        slot: place.slot,
        generation: place.generation & 0xff_ffff,
    }
    .to_words()
}

#[inline(always)]
fn is_link_local_multicast(parsed: &Parsed) -> bool {
    if parsed.v4 {
        u32::from_be(parsed.dst.0[3]) >> 8 == 0xe0_0000
    } else {
        u32::from_be(parsed.dst.0[0]) >> 16 == 0xff02
    }
}

/// Sockets whose cookie the daemon registered may send IKE in clear, nobody else.
#[inline(always)]
fn is_key_management(skb: *mut __sk_buff, parsed: &Parsed) -> bool {
    if parsed.proto != proto::UDP || (parsed.sport != 500 && parsed.sport != 4500) {
        return false;
    }
    // SAFETY: the context is valid.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    KM_SOCKETS.get_ptr(&cookie).is_some()
}

/// Length of the IP packets that segmentation will make of this one.
#[inline(always)]
fn segment_len(skb: *mut __sk_buff, parsed: &Parsed) -> u32 {
    // SAFETY: the context is valid.
    let gso_size = unsafe { (*skb).gso_size };
    if gso_size == 0 {
        return parsed.l3_len;
    }
    let transport = match parsed.proto {
        proto::TCP => match SkbFrame(skb).read::<u8>(parsed.l4 + 12) {
            Some(offset) => (offset >> 4) as u32 * 4,
            None => 60,
        },
        _ => 8,
    };
    parsed.l4 - ETH_LEN + transport + gso_size
}

/// Turns the packet into the ICMP error that tells its sender the limit, and hands it to the stack as if it had come
/// out of `ipsec0` from the packet's destination. There reverse-path filtering is loose and no XDP program of an outer
/// interface, not even a generic one, takes it for a clear packet from the wire.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_too_big(skb: *mut __sk_buff) -> i32 {
    let (Some(sc), Some(config)) = (scratch(), CONFIG.get(0)) else { return DROP };
    // SAFETY: the scratch of this CPU.
    let (v4, limit, own) = unsafe { ((*sc).decision.v4 != 0, (*sc).decision.limit, (*sc).decision.own != 0) };
    if own {
        path_mtu::remember_told();
    }
    let grow = if v4 { too_big::V4_GROWTH } else { too_big::V6_GROWTH };
    // SAFETY: the context is valid.
    unsafe {
        if bpf_skb_change_tail(skb, ETH_LEN + too_big::QUOTED, 0) != 0
            || bpf_skb_change_head(skb, grow, 0) != 0
            || bpf_skb_pull_data(skb, ETH_LEN + grow + too_big::QUOTED) != 0
        {
            count(Counter::DropTooBig);
            return DROP;
        }
    }
    let frame = SkbFrame(skb);
    // SAFETY: the scratch of this CPU.
    let (src, dst) = unsafe { ((*sc).decision.src, (*sc).decision.dst) };
    let written =
        if v4 { too_big::write_v4(&frame, src, dst, limit) } else { too_big::write_v6(&frame, src, dst, limit) };
    if written.is_none() || frame.write(0, config.ipsec0_mac).is_none() {
        count(Counter::DropTooBig);
        return DROP;
    }
    count(Counter::TooBigAnswered);
    // SAFETY: no preconditions.
    unsafe { bpf_redirect(config.ipsec0, INGRESS) as i32 }
}

/// What XDP says of the packet, if it says something.
#[inline(always)]
fn noted(skb: *mut __sk_buff, config: &Config) -> Option<Note> {
    // SAFETY: the context is valid.
    let (meta, data) = unsafe { ((*skb).data_meta as usize, (*skb).data as usize) };
    if meta + size_of::<Note>() > data {
        return None;
    }
    // SAFETY: the metadata holds at least one record.
    let note = unsafe { (meta as *const Note).read_unaligned() };
    if note.secret == config.mark_sealed { Some(note) } else { None }
}

/// Cuts what XDP has left behind the opened packet and gives it its mark. `None` when that cannot be done.
#[inline(always)]
fn finish_opened(skb: *mut __sk_buff, config: &Config, note: &Note) -> Option<()> {
    // SAFETY: the context is valid.
    let len = unsafe { (*skb).len };
    if note.value != 0 && note.value < len && unsafe { bpf_skb_change_tail(skb, note.value, 0) } != 0 {
        count(Counter::DropRoom);
        return None;
    }
    let mark = if note.what == OPENED_TUNNEL { config.mark_tunnel_in } else { config.mark_transport_in };
    if mark != 0 {
        // SAFETY: the context is valid.
        unsafe { (*skb).mark = mark };
    }
    Some(())
}

/// TCX ingress on an outer interface: packets that XDP opened get their mark, and those of tunnels go up on `ipsec0`; what
/// it sealed for the second exit leaves. What XDP has not judged is judged now.
#[inline(always)]
pub fn outer_ingress(skb: *mut __sk_buff) -> i32 {
    let Some(config) = CONFIG.get(0) else { return DROP };
    let Some(note) = noted(skb, config) else { return late::run(skb, config) };
    if note.what == JUDGED {
        // A frame that goes on to an interface on top of this one keeps its note.
        // SAFETY: the context is valid.
        return if note.value == unsafe { (*skb).ifindex } { NEXT } else { late::run(skb, config) };
    }
    // A tag that the card took out of the frame would go with the packet to an interface that knows no VLANs.
    // SAFETY: the context is valid.
    if note.what != OPENED_TRANSPORT && unsafe { (*skb).vlan_present } != 0 && unsafe { bpf_skb_vlan_pop(skb) } != 0 {
        count(Counter::DropRoom);
        return DROP;
    }
    if note.what == SEALED {
        return leave(skb, config.mark_sealed, note.value);
    }
    if finish_opened(skb, config, &note).is_none() {
        return DROP;
    }
    if note.what == OPENED_TUNNEL {
        // SAFETY: no preconditions.
        return unsafe { bpf_redirect(config.ipsec0, INGRESS) as i32 };
    }
    NEXT
}

/// The second exit: through the neighbour layer of `ifindex`, marked as sealed.
#[inline(always)]
fn leave(skb: *mut __sk_buff, mark: u32, ifindex: u32) -> i32 {
    // SAFETY: the context is valid; no parameters means that the destination of the packet is the next hop's key.
    unsafe {
        (*skb).mark = mark;
        bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32
    }
}

/// TCX ingress on `ipsec0x`: sealed packets leave through the neighbour layer of the interface that XDP chose. Those that
/// had been made whole and were opened go up on `ipsec0`, of either mode: on the interface that they came in on a generic
/// XDP program would take them for clear ones.
#[inline(always)]
pub fn ipsec0x_ingress(skb: *mut __sk_buff) -> i32 {
    let Some(config) = CONFIG.get(0) else { return DROP };
    let Some(note) = noted(skb, config) else {
        count(Counter::DropForeignFrame);
        return DROP;
    };
    if note.what == SEALED {
        return leave(skb, config.mark_sealed, note.value);
    }
    if finish_opened(skb, config, &note).is_none() || SkbFrame(skb).write(0, config.ipsec0_mac).is_none() {
        return DROP;
    }
    // SAFETY: no preconditions.
    unsafe { bpf_redirect(config.ipsec0, INGRESS) as i32 }
}
