//! The Authentication Header: its size, and what of the IP header in front of it is covered (RFC 4302 sections 2, 3.3.3
//! and appendix A).

use crate::packet::{Frame, proto};

/// Octets of the fixed part: next header, length, reserved, SPI, sequence number.
pub const FIXED: u32 = 12;

/// Octets of the whole header with an ICV of `icv` octets: a multiple of four with IPv4, of eight with IPv6.
#[inline(always)]
#[must_use]
pub const fn header_len(icv: u32, v4: bool) -> u32 {
    let align = if v4 { 4 } else { 8 };
    (FIXED + icv + align - 1) & !(align - 1)
}

/// What the length field says for a header of `len` octets: words, less two.
#[inline(always)]
#[must_use]
pub const fn length_field(len: u32) -> u8 {
    (len / 4 - 2) as u8
}

/// IPv4 options that keep their value on the way (RFC 4302 appendix A1): security, extended security, commercial
/// security, router alert, multi-destination delivery.
#[inline(always)]
const fn keeps_its_value(option: u8) -> bool {
    matches!(option, 130 | 133 | 134 | 148 | 149)
}

/// Loose and strict source route, which change the destination on the way.
#[inline(always)]
const fn is_source_route(option: u8) -> bool {
    matches!(option, 131 | 137)
}

/// Bit of an IPv6 option type: its data may change on the way.
const MUTABLE: u8 = 0x20;

/// The most steps that [`step`] takes: octets of options in an IPv4 header, of extension headers that are looked through.
pub const MAX_STEPS: u32 = 160;

/// Where the walk through options and extension headers is. A step at a time, with what it knows in memory, because the
/// verifier follows every way through a loop whose state it can see.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// Offset of the next octet.
    at: u32,
    /// Offset of the end of the extension header in hand (IPv6).
    end: u32,
    /// Offset of the AH header, where the walk ends.
    ah: u32,
    /// Octets of an option that are still to be zeroed.
    zero: u32,
    /// Octets of an option that are still to be kept.
    keep: u32,
    /// What follows the extension header in hand (IPv6).
    next: u32,
    /// Not zero for IPv4.
    v4: u32,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more.
    More,
    /// Everything that may change is zero.
    Done,
    /// A header is malformed, or routes by its source, so that the far end would see another destination.
    Bad,
}

/// Zeroes what may change on the way in the fixed part of the IP header that starts at `l3`, as the sender has to before
/// it computes the ICV and the receiver before it checks one, and begins the walk through what lies between that and the
/// AH header at `ah`. `None` when the packet ends early.
#[inline(always)]
pub fn zero_mutable<F: Frame>(frame: &F, l3: u32, ah: u32, v4: bool, walk: &mut Walk) -> Option<()> {
    if v4 {
        // DSCP and ECN, flags and offset, TTL, checksum.
        frame.write::<u8>(l3 + 1, 0)?;
        frame.write::<u16>(l3 + 6, 0)?;
        frame.write::<u8>(l3 + 8, 0)?;
        frame.write::<u16>(l3 + 10, 0)?;
        *walk = Walk { at: l3 + 20, end: 0, ah, zero: 0, keep: 0, next: 0, v4: 1 };
    } else {
        // Traffic class and flow label, hop limit.
        frame.write::<u32>(l3, 0x6000_0000u32.to_be())?;
        frame.write::<u8>(l3 + 7, 0)?;
        let next = frame.read::<u8>(l3 + 6)? as u32;
        *walk = Walk { at: l3 + 40, end: l3 + 40, ah, zero: 0, keep: 0, next, v4: 0 };
    }
    Some(())
}

/// The next step of the walk.
#[inline(always)]
pub fn step<F: Frame>(frame: &F, walk: &mut Walk) -> Step {
    let done = if walk.v4 != 0 { step_v4(frame, walk) } else { step_v6(frame, walk) };
    match done {
        Some(true) => Step::Done,
        Some(false) => Step::More,
        None => Step::Bad,
    }
}

/// One octet of an option, or the first two of one. Whether the walk is over.
#[inline(always)]
fn step_v4<F: Frame>(frame: &F, walk: &mut Walk) -> Option<bool> {
    let at = walk.at;
    if at >= walk.ah {
        return if walk.zero == 0 && walk.keep == 0 { Some(true) } else { None };
    }
    walk.at = at + 1;
    if walk.zero != 0 {
        walk.zero -= 1;
        frame.write::<u8>(at, 0)?;
        return Some(false);
    }
    if walk.keep != 0 {
        walk.keep -= 1;
        return Some(false);
    }
    let option = frame.read::<u8>(at)?;
    match option {
        0 => return Some(true),
        1 => return Some(false),
        _ if is_source_route(option) => return None,
        _ => {}
    }
    let len = frame.read::<u8>(at + 1)? as u32;
    if len < 2 || len > walk.ah - at {
        return None;
    }
    if keeps_its_value(option) {
        walk.keep = len - 1;
    } else {
        walk.zero = len - 1;
        frame.write::<u8>(at, 0)?;
    }
    Some(false)
}

/// One octet of an option, the head of one, or that of an extension header. Whether the walk is over.
#[inline(always)]
fn step_v6<F: Frame>(frame: &F, walk: &mut Walk) -> Option<bool> {
    let at = walk.at;
    if at >= walk.ah {
        return if at == walk.ah && walk.end == at && walk.zero == 0 && walk.keep == 0 { Some(true) } else { None };
    }
    if at == walk.end {
        if walk.zero != 0 || walk.keep != 0 {
            return None;
        }
        let header = walk.next as u8;
        let [next, len] = frame.read::<[u8; 2]>(at)?;
        walk.next = next as u32;
        walk.end = at + (len as u32 + 1) * 8;
        walk.at = match header {
            proto::HOP_BY_HOP | proto::DEST_OPTIONS => at + 2,
            // A route that is not used up changes the destination on the way.
            proto::ROUTING if frame.read::<u8>(at + 3)? == 0 => walk.end,
            _ => return None,
        };
        return Some(false);
    }
    walk.at = at + 1;
    if walk.zero != 0 {
        walk.zero -= 1;
        frame.write::<u8>(at, 0)?;
        return Some(false);
    }
    if walk.keep != 0 {
        walk.keep -= 1;
        return Some(false);
    }
    let option = frame.read::<u8>(at)?;
    if option == 0 {
        return Some(false);
    }
    let len = frame.read::<u8>(at + 1)? as u32;
    if at + 2 + len > walk.end {
        return None;
    }
    walk.at = at + 2;
    if option & MUTABLE != 0 {
        walk.zero = len;
    } else {
        walk.keep = len;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Octets(RefCell<Vec<u8>>);

    impl Frame for Octets {
        fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
            let mut octets = self.0.borrow_mut();
            let range = offset as usize..offset as usize + size_of::<T>();
            octets.get_mut(range).map(|found| found.as_mut_ptr().cast())
        }
    }

    fn zeroed(packet: &[u8], ah: u32, v4: bool) -> Option<Vec<u8>> {
        let frame = Octets(RefCell::new(packet.to_vec()));
        let mut walk = Walk::default();
        zero_mutable(&frame, 0, ah, v4, &mut walk)?;
        for _ in 0..MAX_STEPS {
            match step(&frame, &mut walk) {
                Step::More => {}
                Step::Done => return Some(frame.0.into_inner()),
                Step::Bad => return None,
            }
        }
        None
    }

    /// AH-01: the header is a multiple of 32 bits with IPv4, of 64 with IPv6.
    #[test]
    fn ah_01_lengths() {
        for (icv, v4, len, field) in [
            (12, true, 24, 4),
            (12, false, 24, 4),
            (16, true, 28, 5),
            (16, false, 32, 6),
            (24, true, 36, 7),
            (24, false, 40, 8),
            (32, true, 44, 9),
            (32, false, 48, 10),
        ] {
            assert_eq!((header_len(icv, v4), length_field(len)), (len, field));
        }
    }

    #[test]
    fn mutable_fields_of_ipv4_are_zeroed_and_no_others() {
        let header: Vec<u8> = (1..=20).map(|i| i * 3).collect();
        let mut expected = header.clone();
        for at in [1, 6, 7, 8, 10, 11] {
            expected[at] = 0;
        }
        assert_eq!(zeroed(&header, 20, true).unwrap(), expected);
    }

    #[test]
    fn ipv4_options_are_zeroed_by_kind() {
        let base = [0u8; 20];
        let with = |options: &[u8]| zeroed(&[&base[..], options].concat(), 20 + options.len() as u32, true);
        // Router alert stays, a timestamp goes, no-operation and the end stay.
        let options = [148, 4, 1, 2, 1, 1, 68, 6, 5, 0, 9, 9, 0, 0, 0, 0];
        let expected = [148, 4, 1, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(with(&options).unwrap()[20..], expected);
        // Record route over all that is there.
        let mut record = vec![7, 40];
        record.resize(40, 0xaa);
        assert_eq!(with(&record).unwrap()[20..], [0; 40]);
        for bad in
            [&[131, 4, 4, 0][..], &[137, 3, 4, 0], &[68, 1, 0, 0], &[68, 5, 0, 0], &[68, 0, 0, 0], &[1, 1, 1, 68]]
        {
            assert!(with(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn ipv6_headers_and_options_are_zeroed_by_their_bit() {
        let mut packet = vec![0x6b, 0xcd, 0xef, 0x12, 0, 99, 0, 64];
        packet.extend([0x11; 32]);
        let mut expected = packet.clone();
        expected[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 99, 0, 0]);
        let plain = [&packet[..], &[0xee; 4]].concat();
        assert_eq!(zeroed(&plain, 40, false).unwrap()[..40], expected);
        // Hop-by-hop: Pad1, a mutable option of two octets, then destination options: an immutable one of four.
        let extensions = [60, 0, 0, 0x3e, 2, 7, 7, 0, 51, 0, 0x05, 4, 1, 2, 3, 4];
        let after = [60, 0, 0, 0x3e, 2, 0, 0, 0, 51, 0, 0x05, 4, 1, 2, 3, 4];
        let whole = [&packet[..], &extensions].concat();
        assert_eq!(zeroed(&whole, 56, false).unwrap()[40..], after);
        // An option beyond its header; a header beyond the AH header.
        let beyond = [&packet[..], &[51, 0, 0x05, 5, 1, 2, 3, 4]].concat();
        assert!(zeroed(&beyond, 48, false).is_none());
        let longer = [&packet[..], &[51, 1, 0, 0, 0, 0, 0, 0]].concat();
        assert!(zeroed(&longer, 48, false).is_none());
        // A routing header with segments left, one without, and something that may not come before AH.
        let mut route = packet.clone();
        route[6] = 43;
        let left = [&route[..], &[51, 0, 0, 1, 0, 0, 0, 0]].concat();
        assert!(zeroed(&left, 48, false).is_none());
        let done = [&route[..], &[51, 0, 0, 0, 9, 9, 9, 9]].concat();
        assert_eq!(zeroed(&done, 48, false).unwrap()[40..], done[40..]);
        route[6] = 6;
        assert!(zeroed(&[&route[..], &[0; 8]].concat(), 48, false).is_none());
    }
}
