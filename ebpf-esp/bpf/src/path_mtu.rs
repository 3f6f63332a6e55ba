//! What routers say about sealed packets that are too big for them (RFC 4301 section 8.2): kept by the SA that the quoted
//! packet names, so that whoever does not see the packets has an SPI to guess, and if it is one of ours. How far it is believed is in
//! [`ebpf_esp::path_mtu`]. The stack has no use for these errors: to it, ESP and AH belong to nobody.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use ebpf_esp::esp::UDP_HEADER;
use ebpf_esp::packet::{Frame, proto};
use ebpf_esp::path_mtu;
use sadb_maps::Addr;
use sadb_maps::counter::Counter;
use sadb_maps::sa::{AH, ESP, InboundKey, PathMtu, SaStatic};

use crate::frame::{SkbFrame, XdpFrame};
use crate::maps::{PATH_MTUS, SA_NAMES, count};
use crate::sa::{self, SECOND};
use crate::scratch::scratch;

/// Keeps what the ICMP error in the scratch says about the packet of this host that it quotes, which is there too. 1 when
/// there was something to keep.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn learn_path_mtu(ctx: *mut xdp_md) -> u32 {
    learn(&XdpFrame(ctx))
}

/// The same at a traffic-control hook.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn learn_path_mtu_skb(skb: *mut __sk_buff) -> u32 {
    learn(&SkbFrame(skb))
}

#[inline(always)]
fn learn<F: Frame>(frame: &F) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let (error, quoted) = unsafe { (&(*sc).parsed, &(*sc).quoted) };
    let octets = match (error.proto, error.icmp) {
        (proto::ICMP, [3, 4]) => frame.read::<u16>(error.l4 + 6).map(|mtu| u16::from_be(mtu) as u32),
        (proto::ICMPV6, [2, _]) => frame.read::<u32>(error.l4 + 4).map(u32::from_be),
        _ => return 0,
    };
    // The quoted packet stands there as its answer would: what it was sent from is its destination.
    let spi = match quoted.proto {
        proto::ESP => frame.read::<u32>(quoted.l4),
        proto::AH => frame.read::<u32>(quoted.l4 + 4),
        proto::UDP if quoted.sport == 4500 || quoted.dport == 4500 => frame.read::<u32>(quoted.l4 + UDP_HEADER),
        _ => return 0,
    };
    let (Some(octets), Some(spi)) = (octets, spi) else { return 0 };
    if spi == 0 {
        return 0;
    }
    let proto = if quoted.proto == proto::AH { AH } else { ESP };
    let key = InboundKey { dst: quoted.src, spi: u32::from_be(spi), proto, reserved: [0; 3] };
    let known = known(&key);
    if known.is_none() && !is_ours(&key) {
        return 0;
    }
    let Some(new) = path_mtu::learned(known, octets, quoted.v4, now()) else { return 0 };
    if PATH_MTUS.insert(&key, &new, 0).is_err() {
        return 0;
    }
    count(Counter::PathMtu);
    1
}

/// What passes on the way of the packets of the outermost SA: `mtu`, or what a router has said.
#[inline(always)]
pub fn heeded(sa: &SaStatic, dst: Addr, mtu: u32) -> u32 {
    let key = InboundKey { dst, spi: sa.spi, proto: sa.proto, reserved: [0; 3] };
    match known(&key) {
        Some(known) => path_mtu::heeded(known, mtu, now()),
        None => {
            if sa.peer != Addr::UNSPECIFIED {
                // By the address that its peer has moved to, nobody finds the SA.
                let _ = PATH_MTUS.insert(&key, &PathMtu { octets: u32::MAX, at: now() }, 0);
            }
            mtu
        }
    }
}

/// Whether an outbound SA has this name: what is said about others would drive out what is known.
#[inline(always)]
fn is_ours(key: &InboundKey) -> bool {
    let place = match SA_NAMES.get_ptr(key) {
        // SAFETY: a live map value.
        Some(place) => unsafe { *place },
        None => return false,
    };
    // The element may be that of another name by now.
    sa::resolve(place).is_some_and(|sa| sa.fixed.spi == key.spi && sa.fixed.dst == key.dst)
}

/// Where it is kept what senders to `dst` were told, beside what routers say about SAs: those have an SPI.
#[inline(always)]
fn told(dst: Addr) -> InboundKey {
    InboundKey { dst, spi: 0, proto: 0, reserved: [0; 3] }
}

/// Keeps that the sender of the packet in the scratch is told the limit there. The stack does the same with the least that
/// it hears, for as long (`net.ipv4.route.mtu_expires`, `net.ipv6.route.mtu_expires`). 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn remember_told() -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let (dst, limit, v4) = unsafe { ((*sc).decision.dst, (*sc).decision.limit, (*sc).decision.v4 != 0) };
    let key = told(dst);
    // Less than the stack believes may as well be what the way passes.
    if let Some(new) = path_mtu::learned(known(&key), limit, v4, now()).filter(|new| new.octets == limit) {
        // A full map forgets the oldest by itself.
        let _ = PATH_MTUS.insert(&key, &new, 0);
    }
    0
}

/// Whether this is what senders to the destination of the packet in the scratch were told: 1 or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn was_told(octets: u32) -> u32 {
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let key = told(unsafe { (*sc).parsed.dst });
    known(&key).is_some_and(|said| said.octets == octets) as u32
}

#[inline(always)]
fn known(key: &InboundKey) -> Option<PathMtu> {
    // SAFETY: copied at once.
    unsafe { PATH_MTUS.get(key) }.copied()
}

/// Boot time in seconds.
#[inline(always)]
fn now() -> u32 {
    (sa::now() / SECOND) as u32
}
