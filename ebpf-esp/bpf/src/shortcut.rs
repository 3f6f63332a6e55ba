//! The gateway shortcut: what arrives on a LAN interface for a tunnel is sealed there and leaves, and what comes out of a
//! tunnel for a host behind such an interface goes there at once. Neither meets the stack, nor its netfilter.
//!
//! Everything that is decided here the stack would decide alike. What is not sure to be so (no route, a source that came
//! from elsewhere, no SA, too long, no hop left, anything that is no plain unicast packet) is left to it, untouched: on
//! its way out it meets the classifier as ever.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_redirect, bpf_xdp_adjust_meta};
use aya_ebpf::programs::XdpContext;
use ebpf_esp::forward;
use ebpf_esp::packet::{Frame, Parsed};
use sadb_maps::abi::{Config, EXIT_XDP, Outer, any, shortcut as bits};
use sadb_maps::counter::Counter;
use sadb_maps::policy::{PolicyHead, direction, verdict};
use sadb_maps::sa::{flag, state};
use sadb_maps::spd::NO_MATCH;

use crate::frame::XdpFrame;
use crate::maps::{CONFIG, OUTER, SA_OUT, count};
use crate::policy::{self, Chosen};
use crate::route::{self, Ask};
use crate::scratch::scratch;
use crate::seal::{self, LONGEST};
use crate::tc::Note;
use crate::{fault, late, limit};

/// The packet is on `ipsec0x`, not on a LAN interface.
pub const NOT: u32 = 0;
/// It leaves by XDP redirect to the neighbour in the plan.
pub const NEIGHBOUR: u32 = 1;
/// It leaves through the neighbour layer.
const NEIGHBOUR_LAYER: u32 = 2;

/// Result of [`shortcut_opened`]: the stack's.
pub const LEFT: u32 = 0;

/// It does not: it is the stack's.
const STACK: u32 = 0;

#[inline(always)]
fn ingress(ctx: *mut xdp_md) -> u32 {
    // SAFETY: the context is valid.
    unsafe { (&raw const (*ctx).ingress_ifindex).read_volatile() }
}

/// The interface, if it has this part of the shortcut.
#[inline(always)]
fn with_shortcut(ifindex: u32, part: u8) -> Option<&'static Outer> {
    // SAFETY: read only.
    unsafe { OUTER.get(&ifindex) }.filter(|outer| outer.shortcut & part != 0)
}

/// Whether the frame arrived on an interface with the shortcut.
#[inline(always)]
pub fn is_here(ctx: *mut xdp_md) -> bool {
    CONFIG.get(0).is_some_and(|config| config.any & any::SHORTCUT != 0)
        && with_shortcut(ingress(ctx), bits::IN).is_some()
}

/// The program behind the one on a LAN interface: a clear packet that policy let in is in the scratch. Its steps are
/// functions of their own that leave what they found there, so that their stacks do not add up.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let rule = shortcut_rule(ctx.ctx);
    let exit = if rule == NO_MATCH { STACK } else { shortcut_way(ctx.ctx, rule) };
    if exit == STACK {
        count(Counter::ShortcutLeft);
        return late::seen(ctx.ctx);
    }
    // SAFETY: no preconditions.
    if fault::is(fault::SHORTCUT) && unsafe { bpf_get_prandom_u32() } & 63 == 0 {
        return in_clear(ctx.ctx).unwrap_or(STACK);
    }
    let outcome = seal::seal_ready(ctx.ctx);
    if let Some(sc) = scratch() {
        // SAFETY: the scratch of this CPU.
        unsafe { (*sc).plan.shortcut = exit };
    }
    seal::go_on(ctx, outcome)
}

/// The deliberate fault: the packet leaves as it is.
#[inline(always)]
fn in_clear(ctx: *mut xdp_md) -> Option<u32> {
    // SAFETY: the scratch of this CPU.
    let (out, macs) = unsafe { ((*scratch()?).plan.out, (*scratch()?).plan.macs) };
    XdpFrame(ctx).write(0, macs)?;
    // SAFETY: no preconditions.
    Some(unsafe { bpf_redirect(out, 0) } as u32)
}

/// Index of the rule for the packet, if a router would do no more with it than to send it on; [`NO_MATCH`]. Leaves the
/// generation of the rule in the plan.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shortcut_rule(ctx: *mut xdp_md) -> u32 {
    rule_of(ctx).unwrap_or(NO_MATCH)
}

#[inline(always)]
fn rule_of(ctx: *mut xdp_md) -> Option<u32> {
    let head = policy::head()?;
    let packet = packet()?;
    // Another host's frame, which the card took in because it was told to take all.
    let here = with_shortcut(ingress(ctx), bits::IN)?;
    let frame = XdpFrame(ctx);
    if frame.read::<[u8; 6]>(0)? != here.mac || !forward::is_plain(&frame, packet) || packet.l3_len > LONGEST {
        return None;
    }
    // SAFETY: the scratch of this CPU.
    unsafe { (*scratch()?).plan.policy = head.generation };
    outbound(&head, packet)
}

/// How the packet leaves, if the rule protects it and nothing speaks against it: [`NEIGHBOUR`], [`NEIGHBOUR_LAYER`] or
/// [`STACK`]. Leaves its SAs in the plan, and the packet one hop on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shortcut_way(ctx: *mut xdp_md, rule: u32) -> u32 {
    way(ctx, rule).unwrap_or(STACK)
}

#[inline(always)]
fn way(ctx: *mut xdp_md, rule: u32) -> Option<u32> {
    let config = CONFIG.get(0)?;
    let packet = packet()?;
    let sc = scratch()?;
    // The policy may have been replaced since the rule was chosen: then its elements stay until no program sees them.
    // SAFETY: the scratch of this CPU.
    let rule = policy::rule(unsafe { (*sc).plan.policy }, rule)?;
    if rule.verdict != verdict::PROTECT {
        return None;
    }
    // SAFETY: the scratch of this CPU; the value of the map is copied at once.
    let (binding, bundle) = unsafe {
        (*sc).binding = rule.binding(&(*sc).selectors);
        let binding = &(*sc).binding;
        (binding, SA_OUT.get(binding).copied())
    };
    let Chosen { first, second } = policy::choose(rule, binding, bundle)?;
    // SAFETY: a live map value.
    let usable = matches!(unsafe { (*first.state).state } as u32, state::MATURE | state::DYING);
    if !usable || first.fixed.flags & flag::TUNNEL == 0 {
        return None;
    }
    // SAFETY: the scratch of this CPU.
    let plan = unsafe { &mut (*sc).plan };
    plan.place = first.place;
    plan.ah = second;
    // What is too long is the stack's.
    plan.large = 0;
    let sealed = limit::of(ctx.cast(), config, &first, second, packet, Ask::Both).ok()?;
    if packet.l3_len > sealed.octets {
        return None;
    }
    plan.macs = sealed.route.macs;
    plan.out = sealed.route.ifindex;
    // Where the stack would send it, the policy must hold, and it would tell a host about a better router.
    let here = ingress(ctx);
    let out = route::forward(ctx.cast(), here, packet, false)?.ifindex;
    if out == here || !is_judged(config, out) {
        return None;
    }
    // Strict reverse path filtering, whether the stack does it here or not. It also sees through cards that take VLAN tags
    // out of frames: what came in on a VLAN has its way back there.
    if route::way_back(ctx.cast(), here, packet)? != here {
        return None;
    }
    // SAFETY: read only.
    let direct = sealed.route.neighbour
        && unsafe { OUTER.get(&sealed.route.ifindex) }.is_some_and(|outer| outer.exit == EXIT_XDP);
    if !direct && !has_room_for_note(ctx) {
        return None;
    }
    forward::one_hop_less(&XdpFrame(ctx), packet)?;
    Some(if direct { NEIGHBOUR } else { NEIGHBOUR_LAYER })
}

/// Whether TC can be told what has been done with the frame: not every driver has metadata.
#[inline(always)]
fn has_room_for_note(ctx: *mut xdp_md) -> bool {
    const OCTETS: i32 = size_of::<Note>() as i32;
    // SAFETY: the context is valid.
    unsafe { bpf_xdp_adjust_meta(ctx, -OCTETS) == 0 && bpf_xdp_adjust_meta(ctx, OCTETS) == 0 }
}

/// The packet that the program before this one has put into the scratch.
#[inline(always)]
fn packet() -> Option<&'static Parsed> {
    // SAFETY: the scratch of this CPU; nothing writes to the field before the next packet.
    scratch().map(|sc| unsafe { &(*sc).parsed })
}

/// Whether what leaves by the interface meets the classifier.
#[inline(always)]
fn is_judged(config: &Config, ifindex: u32) -> bool {
    // SAFETY: read only.
    ifindex == config.ipsec0 || unsafe { OUTER.get(&ifindex) }.is_some()
}

/// Index of the first rule that fits the packet on its way out, forwarded. Leaves its selectors in the scratch.
#[inline(always)]
fn outbound(head: &PolicyHead, packet: &Parsed) -> Option<u32> {
    // SAFETY: the scratch of this CPU.
    let selectors = unsafe { &mut (*scratch()?).selectors };
    *selectors = packet.outbound();
    Some(policy::classify(selectors, head.generation, head.count, direction::OUT as u32, 0))
}

/// Sends the opened packet in the scratch, which SA and policy accept, to the host behind a LAN interface: the action, or
/// [`LEFT`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shortcut_opened(ctx: *mut xdp_md) -> u32 {
    match send(ctx) {
        Some(action) => {
            count(Counter::ShortcutOpened);
            action
        }
        None => {
            count(Counter::ShortcutLeft);
            LEFT
        }
    }
}

#[inline(always)]
fn send(ctx: *mut xdp_md) -> Option<u32> {
    let config = CONFIG.get(0)?;
    let head = policy::head()?;
    let sc = scratch()?;
    let packet = packet()?;
    // SAFETY: the scratch of this CPU.
    let uncut = unsafe { (*sc).plan.cut_to };
    let frame = XdpFrame(ctx);
    // In generic mode the frame still has its trailer. An ICMP error may have to go into a tunnel, where the flow goes
    // that it is about.
    if uncut != 0 || !forward::is_plain(&frame, packet) || packet.is_icmp_error() {
        return None;
    }
    let found = route::forward(ctx.cast(), config.ipsec0, packet, true)?;
    with_shortcut(found.ifindex, bits::OUT)?;
    // On the way out it would be judged once more.
    let index = outbound(&head, packet)?;
    if index != NO_MATCH && policy::rule(head.generation, index)?.verdict != verdict::PASS {
        return None;
    }
    // Loose reverse path filtering, as it is on ipsec0.
    route::way_back(ctx.cast(), config.ipsec0, packet)?;
    forward::one_hop_less(&frame, packet)?;
    frame.write(0, found.macs)?;
    // SAFETY: no preconditions.
    Some(unsafe { bpf_redirect(found.ifindex, 0) } as u32)
}
