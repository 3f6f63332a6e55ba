//! The UDP checksum over IPv6, which may not be left out (RFC 8200 section 8.1, RFC 3948 section 2.1).

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use ebpf_esp::packet::{Frame, proto};
use sadb_maps::Addr;
use sadb_maps::counter::Counter;

use crate::frame::{MAX_OFFSET, XdpFrame, size};
use crate::scratch::scratch;

/// Sum of `len` octets at `offset` as 16-bit words in memory order, folded to 16 bits; 2^31 when out of bounds.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sum_packet(ctx: *mut xdp_md, offset: u32, len: u32) -> u32 {
    const OUT_OF_BOUNDS: u32 = 1 << 31;
    let frame = XdpFrame(ctx);
    let Some(sc) = scratch() else { return OUT_OF_BOUNDS };
    let mut sum = 0u64;
    let (mut offset, mut left) = (offset, len);
    for _ in 0..MAX_OFFSET / 32 {
        if left < 32 {
            break;
        }
        let Some(words) = frame.at::<[u32; 8]>(offset) else { return OUT_OF_BOUNDS };
        for i in 0..8 {
            // SAFETY: within the packet; the index is below 8.
            sum += unsafe { words.cast::<u32>().add(i).read_unaligned() } as u64;
        }
        offset += 32;
        left -= 32;
    }
    let rest = left & 31;
    if rest != 0 {
        // SAFETY: the scratch of this CPU; at most 31 octets into 128.
        unsafe {
            for i in 0..8 {
                (*sc).tail[i] = 0;
            }
            if bpf_xdp_load_bytes(ctx, offset, (&raw mut (*sc).tail).cast(), size::<31>(rest)) != 0 {
                return OUT_OF_BOUNDS;
            }
            for i in 0..8 {
                sum += (*sc).tail[i] as u64;
            }
        }
    }
    fold(sum)
}

#[inline(always)]
fn fold(mut sum: u64) -> u32 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u32
}

/// Fills in the checksum of the UDP datagram of `len` octets at `offset`, whose checksum field is zero.
#[inline(always)]
pub fn udp6(ctx: *mut xdp_md, offset: u32, len: u32, src: Addr, dst: Addr) -> Result<(), Counter> {
    let body = sum_packet(ctx, offset, len);
    if body > 0xffff {
        return Err(Counter::DropInternal);
    }
    let mut sum = body as u64;
    for i in 0..4 {
        sum += src.0[i] as u64 + dst.0[i] as u64;
    }
    sum += len.to_be() as u64 + (proto::UDP as u32).to_be() as u64;
    let sum = !(fold(sum) as u16);
    let sum = if sum == 0 { 0xffff } else { sum };
    XdpFrame(ctx).write(offset + 6, sum).ok_or(Counter::DropInternal)
}
