//! FIB lookups.

use aya_ebpf::helpers::generated::{bpf_check_mtu, bpf_fib_lookup};
use core::ffi::c_void;
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
    tos: u32,
    src: [u32; 4],
    dst: [u32; 4],
    vlan: u32,
    /// Source MAC, destination MAC.
    macs: [u16; 6],
}

const _: () = assert!(size_of::<Params>() == 64);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `BPF_FIB_LOOKUP_SKIP_NEIGH`, Linux 6.3.
const SKIP_NEIGHBOUR: u32 = 4;

const SUCCESS: i64 = 0;
const NOT_FORWARDED: i64 = 4;
const FORWARDING_DISABLED: i64 = 5;
const NO_NEIGHBOUR: i64 = 7;
const FRAGMENTATION_NEEDED: i64 = 8;

/// A route.
pub struct Found {
    /// Interface to send on.
    pub ifindex: u32,
    /// MTU of the route where the lookup told it, else 0.
    pub mtu: u32,
    /// Whether `macs` is filled in; never when the MTU was asked for.
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

/// The way to `dst`, looked up as if the packet came in on `from`, an interface with forwarding on. `len` not zero asks
/// for the MTU, and for no neighbour: without one the kernel would not tell the MTU.
///
/// # Errors
/// [`Counter::DropNoRoute`].
#[inline(always)]
pub fn lookup(ctx: *mut c_void, from: u32, src: Addr, dst: Addr, len: u32) -> Result<Found, Counter> {
    let p = params(from, src, dst, len).ok_or(Counter::DropInternal)?;
    // SAFETY: context and parameters are valid, the size is theirs.
    let flags = if len != 0 { SKIP_NEIGHBOUR } else { 0 };
    let status = unsafe { bpf_fib_lookup(ctx, p.cast(), size_of::<Params>() as i32, flags) };
    // SAFETY: the scratch of this CPU.
    let p = unsafe { &*p };
    match status {
        SUCCESS | NO_NEIGHBOUR | FRAGMENTATION_NEEDED => Ok(Found {
            ifindex: p.ifindex,
            mtu: if len != 0 { p.tot_len as u32 } else { 0 },
            neighbour: len == 0 && status == SUCCESS,
            macs: [p.macs[3], p.macs[4], p.macs[5], p.macs[0], p.macs[1], p.macs[2]],
        }),
        _ => Err(Counter::DropNoRoute),
    }
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

/// Whether a packet to `dst` that came in on `ifindex` would stay on this host. A host that forwards nothing keeps
/// everything; what is neither forwarded nor clearly foreign counts as local, which is the strict side.
#[inline(always)]
pub fn is_local(ctx: *mut c_void, ifindex: u32, src: Addr, dst: Addr) -> bool {
    let Some(p) = params(ifindex, src, dst, 0) else { return true };
    // SAFETY: as above.
    let status = unsafe { bpf_fib_lookup(ctx, p.cast(), size_of::<Params>() as i32, 0) };
    matches!(status, NOT_FORWARDED | FORWARDING_DISABLED) || (status != SUCCESS && status != NO_NEIGHBOUR)
}
