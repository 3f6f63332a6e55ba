//! The longest packet that an SA carries in one piece.

use core::ffi::c_void;
use ebpf_esp::ah;
use ebpf_esp::esp::Geometry;
use ebpf_esp::packet::{ETH_LEN, Parsed};
use sadb_maps::abi::{Config, MAX_XDP_MTU};
use sadb_maps::counter::Counter;
use sadb_maps::sa::{AH, SlotRef, flag};

use crate::path_mtu;
use crate::route::{self, Ask, Found};
use crate::sa::{self, Usable};
use crate::seal::outer_ends;

/// See [`of`].
pub struct Limit {
    /// Octets of the packet before it is sealed.
    pub octets: u32,
    /// The route of the sealed packet.
    pub route: Found,
    /// It goes to the same address as the packet.
    pub own: bool,
}

/// Longest IP packet that the SA, with the AH SA `second` around it, carries in one piece, by the MTU of the route of the
/// sealed packet. Leaves the route in the SA for the program that seals.
///
/// # Errors
/// There is no route, or it leads back to where packets are sealed.
#[inline(always)]
pub fn of(
    ctx: *mut c_void,
    config: &Config,
    sa: &Usable,
    second: SlotRef,
    parsed: &Parsed,
    ask: Ask,
) -> Result<Limit, Counter> {
    let tunnel = sa.fixed.flags & flag::TUNNEL != 0;
    let (src, dst) = outer_ends(sa, tunnel, parsed);
    let route = route::lookup(ctx, config.ipsec0x, src, dst, ask)?;
    if route.ifindex == config.ipsec0 || route.ifindex == config.ipsec0x {
        return Err(Counter::DropRouteLoop);
    }
    let own = dst == parsed.dst;
    let mtu = if own { of_own_route(ctx, &route)? } else { route.mtu };
    let outermost = match sa::resolve(second) {
        Some(ah) => ah.fixed,
        None => sa.fixed,
    };
    // What is longer does not fit a frame on the way to be sealed.
    let mtu = path_mtu::heeded(outermost, dst, mtu).min(MAX_XDP_MTU);
    // SAFETY: a live map value; one aligned store of a cache that any CPU may refresh.
    unsafe { (&raw mut (*sa.state).route).write_volatile((mtu as u64) << 32 | route.ifindex as u64) };
    let header = if tunnel { 0 } else { parsed.l4 - ETH_LEN };
    let geometry = Geometry::of(sa.fixed);
    if sa.fixed.proto == AH {
        let growth = geometry.outer + ah::header_len(geometry.icv, dst.is_v4());
        return Ok(Limit { octets: mtu.saturating_sub(growth), route, own });
    }
    let around = match sa::resolve(second) {
        Some(ah) => ah::header_len(ah.fixed.icv_len as u32, dst.is_v4()),
        None => 0,
    };
    Ok(Limit { octets: geometry.inner_limit(mtu.saturating_sub(around), header), route, own })
}

/// The MTU of the route of a sealed packet that goes to the same address as the one in the scratch. The stack may have
/// learnt from our own answers what passes before it is sealed, which is not what passes on the way: used as such, every
/// answer would be smaller than the one before. The interface knows better then.
#[inline(always)]
fn of_own_route(ctx: *mut c_void, route: &Found) -> Result<u32, Counter> {
    let link = route::device_mtu(ctx, route.ifindex)?;
    Ok(if route.mtu >= link || path_mtu::was_told(route.mtu) != 0 { link } else { route.mtu })
}
