//! FIB lookups.

use aya_ebpf::helpers::generated::{bpf_check_mtu, bpf_fib_lookup};
use core::ffi::c_void;
use ebpf_esp::packet::Parsed;
use sadb_maps::Addr;
use sadb_maps::counter::Counter;

use crate::scratch::scratch;

/// `struct bpf_fib_lookup` of the kernel, with the members of its unions that are used here.
#[repr(C)]
pub struct Params {
    family: u8,
    l4_protocol: u8,
    sport: u16,
    dport: u16,
    /// In: total length to compare with the MTU; out: the MTU of the route.
    tot_len: u16,
    /// In: the interface to look up from; out: the interface to send on.
    ifindex: u32,
    /// TOS octet in memory order; in IPv6 traffic class and flow label in network order.
    tos: u32,
    src: [u32; 4],
    dst: [u32; 4],
    vlan: u32,
    /// Source MAC, destination MAC.
    macs: [u16; 6],
}

const _: () = assert!(size_of::<Params>() == 64);

impl Params {
    /// Destination and source MAC address, as they go at the head of the frame.
    #[inline(always)]
    fn addresses(&self) -> [u16; 6] {
        let [a, b, c, d, e, f] = self.macs;
        [d, e, f, a, b, c]
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `BPF_FIB_LOOKUP_SKIP_NEIGH`, Linux 6.3.
const SKIP_NEIGHBOUR: u32 = 4;

const SUCCESS: i64 = 0;
const NOT_FORWARDED: i64 = 4;
const FORWARDING_DISABLED: i64 = 5;
const NO_NEIGHBOUR: i64 = 7;

/// A route.
pub struct Found {
    /// Interface to send on.
    pub ifindex: u32,
    /// MTU of the route if it was asked for, else 0.
    pub mtu: u32,
    /// Whether `macs` is filled in.
    pub neighbour: bool,
    /// Destination and source MAC address, as they go at the head of the frame.
    pub macs: [u16; 6],
}

/// Fills in the lookup in the scratch: its 64 octets are too many for the stack.
#[inline(always)]
fn params(ifindex: u32, src: Addr, dst: Addr, len: u32) -> Option<*mut Params> {
    let sc = scratch()?;
    // SAFETY: the scratch of this CPU.
    unsafe {
        let p = &raw mut (*sc).fib;
        let v4 = dst.is_v4();
        (*p).family = if v4 { AF_INET } else { AF_INET6 };
        (*p).l4_protocol = 0;
        (*p).sport = 0;
        (*p).dport = 0;
        (*p).tot_len = len as u16;
        (*p).ifindex = ifindex;
        (*p).tos = 0;
        (*p).src[0] = if v4 { src.0[3] } else { src.0[0] };
        (*p).src[1] = src.0[1];
        (*p).src[2] = src.0[2];
        (*p).src[3] = src.0[3];
        (*p).dst[0] = if v4 { dst.0[3] } else { dst.0[0] };
        (*p).dst[1] = dst.0[1];
        (*p).dst[2] = dst.0[2];
        (*p).dst[3] = dst.0[3];
        (*p).vlan = 0;
        Some(p)
    }
}

/// What is asked about a route beside the interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Its MTU, and no neighbour.
    Mtu,
    /// The neighbour, and no MTU.
    Neighbour,
    /// The neighbour, and the MTU whether there is one or not, which takes a second lookup when there is none.
    Both,
}

/// The way to `dst`, looked up as if the packet came in on `from`, an interface with forwarding on.
///
/// # Errors
/// [`Counter::DropNoRoute`].
#[inline(always)]
pub fn lookup(ctx: *mut c_void, from: u32, src: Addr, dst: Addr, ask: Ask) -> Result<Found, Counter> {
    // A length asks for the MTU, and every packet is at least that long.
    let len = if ask == Ask::Neighbour { 0 } else { 1 };
    let p = params(from, src, dst, len).ok_or(Counter::DropInternal)?;
    let mut status = find(ctx, p, if ask == Ask::Mtu { SKIP_NEIGHBOUR } else { 0 });
    let neighbour = ask != Ask::Mtu && status == SUCCESS;
    if ask == Ask::Both && status == NO_NEIGHBOUR {
        // The kernel tells no MTU with this answer.
        let p = params(from, src, dst, len).ok_or(Counter::DropInternal)?;
        status = find(ctx, p, SKIP_NEIGHBOUR);
    }
    // SAFETY: the scratch of this CPU.
    let p = unsafe { &*p };
    match status {
        SUCCESS | NO_NEIGHBOUR => Ok(Found {
            ifindex: p.ifindex,
            mtu: if ask == Ask::Neighbour { 0 } else { p.tot_len as u32 },
            neighbour,
            macs: p.addresses(),
        }),
        _ => Err(Counter::DropNoRoute),
    }
}

#[inline(always)]
fn find(ctx: *mut c_void, params: *mut Params, flags: u32) -> i64 {
    // SAFETY: context and parameters are valid, the size is theirs.
    unsafe { bpf_fib_lookup(ctx, params.cast(), size_of::<Params>() as i32, flags) }
}

/// Where the stack would forward `packet` to that came in on `from`, if it fits there in one piece; `None` when it would
/// not forward it, as far as routes tell. With `neighbour` the next hop must be known.
#[inline(always)]
pub fn forward(ctx: *mut c_void, from: u32, packet: &Parsed, neighbour: bool) -> Option<Found> {
    let p = params(from, packet.src, packet.dst, packet.l3_len)?;
    // SAFETY: the scratch of this CPU.
    unsafe {
        // What routing rules look at.
        (*p).l4_protocol = packet.proto;
        (*p).sport = packet.sport.to_be();
        (*p).dport = packet.dport.to_be();
        // The kernel takes of it what it looks up routes with. In IPv6 it is the word of which a flow label is the rest.
        (*p).tos = if packet.v4 { packet.tos as u32 } else { ((packet.tos as u32) << 20).to_be() };
    }
    if find(ctx, p, if neighbour { 0 } else { SKIP_NEIGHBOUR }) != SUCCESS {
        return None;
    }
    // SAFETY: the scratch of this CPU.
    let p = unsafe { &*p };
    Some(Found { ifindex: p.ifindex, mtu: 0, neighbour, macs: p.addresses() })
}

/// The interface on which the way back to the source of `packet` begins, if there is one.
#[inline(always)]
pub fn way_back(ctx: *mut c_void, from: u32, packet: &Parsed) -> Option<u32> {
    let p = params(from, packet.dst, packet.src, 0)?;
    // SAFETY: the scratch of this CPU.
    if find(ctx, p, SKIP_NEIGHBOUR) == SUCCESS { Some(unsafe { (*p).ifindex }) } else { None }
}

/// The MTU of an interface, whatever its routes say.
///
/// # Errors
/// [`Counter::DropNoRoute`]: there is no such interface.
#[inline(always)]
pub fn device_mtu(ctx: *mut c_void, ifindex: u32) -> Result<u32, Counter> {
    // In: a length to compare, 0 being that of the packet. Out: the MTU.
    let mut mtu = 1;
    // SAFETY: context and variable are valid.
    match unsafe { bpf_check_mtu(ctx, ifindex, &raw mut mtu, 0, 0) } {
        0 => Ok(mtu),
        _ => Err(Counter::DropNoRoute),
    }
}

/// Whose a packet is that came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It stays on this host, or the stack drops it: nobody else gets it. A host that forwards nothing keeps everything.
    Here,
    /// It is forwarded.
    Foreign,
    /// The route does not tell: it is unreachable, or has a tunnel of the kernel's, or is too narrow.
    Unclear,
}

/// Whose a packet to `dst` is that came in on `ifindex`.
#[inline(always)]
pub fn place(ctx: *mut c_void, ifindex: u32, src: Addr, dst: Addr) -> Place {
    let Some(p) = params(ifindex, src, dst, 0) else { return Place::Unclear };
    match find(ctx, p, 0) {
        NOT_FORWARDED | FORWARDING_DISABLED => Place::Here,
        SUCCESS | NO_NEIGHBOUR => Place::Foreign,
        _ => Place::Unclear,
    }
}

/// Whether a packet to `dst` that came in on `ifindex` would stay on this host. What is neither forwarded nor clearly
/// foreign counts as local, which is the strict side where host rules are to be kept.
#[inline(always)]
pub fn is_local(ctx: *mut c_void, ifindex: u32, src: Addr, dst: Addr) -> bool {
    place(ctx, ifindex, src, dst) != Place::Foreign
}
