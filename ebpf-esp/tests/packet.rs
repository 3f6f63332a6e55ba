//! Reading packets and writing the answer to one that is too long, on the host.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use ebpf_esp::packet::{Content, Frame, Parsed, parse, quoted};
use ebpf_esp::too_big::{self, QUOTED};
use proptest::prelude::*;
use sadb_maps::Addr;
use std::cell::UnsafeCell;
use std::net::IpAddr;

/// A frame in a buffer of exactly its size, so that a read past the end is one that a sanitizer sees.
struct Buffer(UnsafeCell<Box<[u8]>>);

impl Buffer {
    fn new(octets: &[u8]) -> Self {
        Self(UnsafeCell::new(octets.into()))
    }
    fn octets(&self) -> Vec<u8> {
        // SAFETY: one thread, and no other reference lives.
        unsafe { (&*self.0.get()).to_vec() }
    }
}

impl Frame for Buffer {
    fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
        // SAFETY: one thread, and no other reference lives.
        let octets = unsafe { &mut *self.0.get() };
        let end = (offset as usize).checked_add(size_of::<T>())?;
        Some(octets.get_mut(offset as usize..end)?.as_mut_ptr().cast())
    }
}

fn addr(text: &str) -> Addr {
    match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => Addr::v4(u32::from_ne_bytes(v4.octets())),
        IpAddr::V6(v6) => Addr::from_octets(v6.octets()),
    }
}

fn ip(octets: &[u8]) -> Parsed {
    match parse(&Buffer::new(octets)) {
        Content::Ip(parsed) => parsed,
        other => panic!("{other:?}"),
    }
}

fn v4(proto: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0, 0x45, 0xb8]);
    frame.extend((20 + body.len() as u16).to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, proto, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
    frame.extend(body);
    frame
}

fn v6(next: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend([next, hops]);
    frame.extend(addr("2001:db8::1").octets());
    frame.extend(addr("2001:db8::2").octets());
    frame.extend(body);
    frame
}

#[test]
fn ipv4_selectors() {
    let parsed = ip(&v4(6, 0x4000, &[0x1f, 0x90, 0x01, 0xbb, 0, 0]));
    assert_eq!((parsed.src, parsed.dst), (addr("192.0.2.1"), addr("198.51.100.7")));
    assert_eq!((parsed.proto, parsed.sport, parsed.dport, parsed.l4, parsed.l3_len), (6, 8080, 443, 34, 26));
    assert_eq!((parsed.tos, parsed.ttl, parsed.df, parsed.fragment, parsed.opaque), (0xb8, 64, true, false, false));
    let (out, inn) = (parsed.outbound(), parsed.inbound());
    assert_eq!((out.laddr, out.lport, out.rport), (parsed.src, 8080, 443));
    assert_eq!((inn.laddr, inn.lport, inn.rport), (parsed.dst, 443, 8080));
}

/// ARC-SPD-08: where ports are not visible the packet is opaque, and so fits every port rule.
#[test]
fn fragments_are_opaque() {
    let first = ip(&v4(17, 0x2000, &[0, 53, 0, 54, 0, 0, 0, 0]));
    assert_eq!((first.fragment, first.opaque, first.sport), (true, false, 53));
    let later = ip(&v4(17, 0x0010, &[0, 53, 0, 54, 0, 0, 0, 0]));
    assert_eq!((later.fragment, later.opaque, later.sport), (true, true, 0));
    let cut = ip(&v4(6, 0, &[1, 2]));
    assert!(cut.opaque, "ports that are cut off are not zero, they are unknown");
    let later6 = ip(&v6(44, 64, &[17, 0, 0, 0x11, 0, 0, 0, 1, 0, 53, 0, 54]));
    assert_eq!((later6.fragment, later6.opaque, later6.proto), (true, true, 17));
}

#[test]
fn ipv6_extension_headers_are_walked_and_bounded() {
    let parsed = ip(&v6(0, 64, &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0, 0x1f, 0x90, 0x01, 0xbb]));
    assert_eq!((parsed.proto, parsed.sport, parsed.dport, parsed.l4), (6, 8080, 443, 14 + 40 + 16));
    assert_eq!(parsed.next_header, 14 + 40 + 8);
}

/// ARC-SPD-08, ARC-FRG-04: what does not say its upper-layer protocol would pass a rule for one that wants protection.
#[test]
fn packets_that_hide_their_protocol_are_refused() {
    let options = [60, 0, 1, 4, 0, 0, 0, 0];
    let behind = |count: usize, last: u8| {
        let mut chain = options.repeat(count);
        chain[(count - 1) * 8] = last;
        chain.extend([0, 53, 0, 53, 0, 8, 0, 0]);
        v6(60, 64, &chain)
    };
    let parsed = ip(&behind(6, 17));
    assert_eq!((parsed.proto, parsed.dport, parsed.opaque), (17, 53, false));
    let refused = |frame: &[u8]| matches!(parse(&Buffer::new(frame)), Content::Malformed);
    for count in [7, 8, 12, 100] {
        assert!(refused(&behind(count, 17)), "{count} headers");
    }
    // The last of six names another; a header that is cut short; later fragments that begin with one.
    assert!(refused(&behind(6, 43)));
    assert!(refused(&v6(60, 64, &[17])) && refused(&v6(44, 64, &[17, 0, 0, 8, 0, 0, 0])));
    for next in [0, 43, 44, 60] {
        assert!(refused(&v6(44, 64, &[next, 0, 0, 8, 0, 0, 0, 1, 17, 0, 0, 0, 0, 0, 0, 0])), "{next}");
    }
    assert!(ip(&v6(44, 64, &[17, 0, 0, 8, 0, 0, 0, 1])).opaque);
}

#[test]
fn neighbour_discovery_needs_hop_limit_255() {
    assert!(ip(&v6(58, 255, &[135, 0, 0, 0])).is_neighbour_discovery());
    assert!(!ip(&v6(58, 254, &[135, 0, 0, 0])).is_neighbour_discovery());
    assert!(!ip(&v6(58, 255, &[128, 0, 0, 0])).is_neighbour_discovery());
}

#[test]
fn what_is_no_ip_is_told_from_what_is_broken() {
    let mut arp = v4(6, 0, &[]);
    arp[13] = 6;
    assert!(matches!(parse(&Buffer::new(&arp)), Content::Other));
    let mut version = v4(6, 0, &[]);
    version[14] = 0x65;
    assert!(matches!(parse(&Buffer::new(&version)), Content::Malformed));
    let mut short = v4(6, 0, &[]);
    short[14] = 0x44;
    assert!(matches!(parse(&Buffer::new(&short)), Content::Malformed));
    assert!(matches!(parse(&Buffer::new(&v4(6, 0, &[])[..30])), Content::Malformed));
}

#[test]
fn ipv6_with_an_ipv4_address_in_it_is_refused() {
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1]].concat();
    for offset in [22, 38] {
        let mut frame = v6(17, 64, &[0; 8]);
        assert!(matches!(parse(&Buffer::new(&frame)), Content::Ip(_)));
        frame[offset..offset + 16].copy_from_slice(&mapped);
        assert!(matches!(parse(&Buffer::new(&frame)), Content::Malformed));
    }
}

/// ARC-ICMP-05
#[test]
fn an_icmp_error_tells_the_flow_that_it_is_about() {
    // From 192.0.2.1 to 198.51.100.7 as all packets here; what caused it came from there.
    let mut cause = v4(17, 0, &[0x10, 0, 0x20, 0, 0, 8, 0, 0])[14..].to_vec();
    let (src, dst) = (cause[12..16].to_vec(), cause[16..20].to_vec());
    cause[12..16].copy_from_slice(&dst);
    cause[16..20].copy_from_slice(&src);
    let error = |kind: u8, cause: &[u8]| v4(1, 0, &[&[kind, 3, 0, 0, 0, 0, 0, 0], cause].concat());
    let read = |frame: Vec<u8>| {
        let parsed = ip(&frame);
        (parsed.is_icmp_error(), quoted(&Buffer::new(&frame), &parsed))
    };
    let (is_error, flow) = read(error(3, &cause));
    let flow = flow.unwrap();
    assert!(is_error);
    assert_eq!((flow.src, flow.dst), (addr("192.0.2.1"), addr("198.51.100.7")));
    assert_eq!((flow.proto, flow.sport, flow.dport, flow.is_sealed()), (17, 0x2000, 0x1000, false));
    for kind in [0, 8, 13, 30] {
        assert!(!read(error(kind, &cause)).0, "type {kind}");
    }
    // Too short for the ports, for the header, and not from where the error goes.
    assert!(read(error(11, &cause[..22])).1.unwrap().opaque);
    assert!(read(error(11, &cause[..19])).1.is_none());
    let foreign = v4(17, 0, &[0; 8])[14..].to_vec();
    let astray = read(error(3, &foreign)).1.unwrap();
    assert_eq!((astray.src, astray.dst), (addr("198.51.100.7"), addr("192.0.2.1")));
    let six = v6(58, 64, &[&[1, 4, 0, 0, 0, 0, 0, 0][..], &v6(6, 1, &[0, 9, 0, 5])[14..]].concat());
    assert!(ip(&six).is_icmp_error() && quoted(&Buffer::new(&six), &ip(&six)).is_some());
}

/// Padding of a short frame is no part of the packet, whatever ports it would be.
#[test]
fn ports_are_not_read_from_the_padding() {
    for (frame, len) in [(v4(6, 0, &[0x1f, 0x90, 0x01]), 23), (v6(17, 64, &[0, 53, 0]), 43), (v4(1, 0, &[8]), 21)] {
        let parsed = ip(&[&frame[..], &[0xbb; 20]].concat());
        assert_eq!((parsed.l3_len, parsed.opaque), (len, true));
        assert_eq!((parsed.sport, parsed.dport, parsed.icmp), (0, 0, [0; 2]));
    }
}

fn sum(octets: &[u8]) -> u16 {
    let total: u32 = octets.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]))).sum();
    let folded = (total & 0xffff) + (total >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// A packet as the kernel hands it over: cut to the quoted octets, grown at the head.
fn grown(packet: &[u8], growth: u32) -> Buffer {
    let mut frame = vec![0; growth as usize];
    frame.extend([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    frame.extend(&packet[12..14 + QUOTED as usize]);
    Buffer::new(&frame)
}

/// TUN-11, ARC-ICMP-03: the answer names the exact limit, quotes the packet, and its checksums verify.
#[test]
fn the_answer_to_a_packet_that_is_too_long() {
    let packet = v4(17, 0x4000, &[7; 300]);
    let frame = grown(&packet, too_big::V4_GROWTH);
    too_big::write_v4(&frame, addr("192.0.2.1"), addr("198.51.100.7"), 1446).unwrap();
    let octets = frame.octets();
    assert_eq!(octets[..14], [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 8, 0]);
    assert_eq!((sum(&octets[14..34]), sum(&octets[34..])), (0xffff, 0xffff));
    assert_eq!(octets[26..34], [198, 51, 100, 7, 192, 0, 2, 1]);
    assert_eq!((octets[34], octets[35], &octets[40..42]), (3, 4, &1446u16.to_be_bytes()[..]));
    assert_eq!(octets[42..], packet[14..14 + QUOTED as usize]);

    let packet = v6(17, 64, &[7; 1400]);
    let frame = grown(&packet, too_big::V6_GROWTH);
    too_big::write_v6(&frame, addr("2001:db8::1"), addr("2001:db8::2"), 1000).unwrap();
    let octets = frame.octets();
    assert_eq!((octets[54], &octets[58..62]), (2, &1280u32.to_be_bytes()[..]), "never below the minimum of IPv6");
    let mut pseudo = octets[22..54].to_vec();
    pseudo.extend([0, 0, 0, 8 + QUOTED as u8, 0, 0, 0, 58]);
    pseudo.extend(&octets[54..]);
    assert_eq!(sum(&pseudo), 0xffff);
    assert_eq!(octets[62..], packet[14..14 + QUOTED as usize]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// ROB-01: whatever the octets, reading ends and stays within the frame.
    #[test]
    fn garbage_is_read_without_harm(mut octets in prop::collection::vec(any::<u8>(), 0..200), six in any::<bool>()) {
        if let Some(ether_type) = octets.get_mut(12..14) {
            ether_type.copy_from_slice(if six { &[0x86, 0xdd] } else { &[8, 0] });
        }
        if let Content::Ip(parsed) = parse(&Buffer::new(&octets)) {
            prop_assert!(parsed.l4 >= 34 && parsed.l4 <= 14 + 40 + 6 * 2048);
            prop_assert!(parsed.next_header < parsed.l4);
        }
    }
}
