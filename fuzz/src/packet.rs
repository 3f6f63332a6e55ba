//! The packet parser beside a slow one written from the RFCs (791, 8200, 4302 of what is read over).

use crate::buffer::Buffer;
use ebpf_esp::packet::{Content, Parsed, parse, quoted};

pub(crate) fn run(octets: &[u8]) {
    let buffer = Buffer::new(octets);
    let found = parse(&buffer);
    if let Content::Ip(parsed) = &found
        && parsed.is_icmp_error()
        && let Some(flow) = quoted(&buffer, parsed)
    {
        assert_eq!(flow.v4, parsed.v4);
    }
    assert_eq!(buffer.frame(), octets, "reading changed the frame");
    let expected = slow(octets);
    match (found, expected) {
        (Content::Ip(parsed), Slow::Ip(expected)) => {
            assert_eq!(Fields::of(&parsed), expected);
            assert!(parsed.next_header < parsed.l4);
            let (out, inbound) = (parsed.outbound(), parsed.inbound());
            assert!(out.laddr == inbound.raddr && out.raddr == inbound.laddr);
            assert!(out.lport == inbound.rport && out.rport == inbound.lport);
        }
        (Content::Other, Slow::Other) | (Content::Malformed, Slow::Malformed) => {}
        (found, expected) => panic!("{found:?} where {expected:?} was expected"),
    }
}

#[derive(Debug, PartialEq)]
struct Fields {
    addresses: [[u8; 16]; 2],
    ports: [u16; 2],
    icmp: [u8; 2],
    proto: u8,
    bits: [bool; 4],
    tos: u8,
    ttl: u8,
    l4: usize,
    len: usize,
}

impl Fields {
    fn of(parsed: &Parsed) -> Self {
        Self {
            addresses: [parsed.src.octets(), parsed.dst.octets()],
            ports: [parsed.sport, parsed.dport],
            icmp: parsed.icmp,
            proto: parsed.proto,
            bits: [parsed.v4, parsed.fragment, parsed.opaque, parsed.df],
            tos: parsed.tos,
            ttl: parsed.ttl,
            l4: parsed.l4 as usize,
            len: parsed.l3_len as usize,
        }
    }
}

#[derive(Debug)]
enum Slow {
    Ip(Fields),
    Other,
    Malformed,
}

fn slow(frame: &[u8]) -> Slow {
    let Some((ethernet, packet)) = frame.split_at_checked(14) else { return Slow::Malformed };
    let found = match ethernet[12..] {
        [8, 0] => slow_v4(packet),
        [0x86, 0xdd] => slow_v6(packet),
        _ => return Slow::Other,
    };
    found.map_or(Slow::Malformed, Slow::Ip)
}

fn mapped(four: &[u8]) -> [u8; 16] {
    [&[0; 10][..], &[0xff; 2], four].concat().try_into().expect("sixteen octets")
}

fn short(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn slow_v4(packet: &[u8]) -> Option<Fields> {
    let fixed = packet.get(..20)?;
    let header = usize::from(fixed[0] & 15) * 4;
    let len = usize::from(short(fixed, 2));
    if fixed[0] >> 4 != 4 || header < 20 || len < header {
        return None;
    }
    let (more, offset) = (fixed[6] & 0x20 != 0, short(fixed, 6) & 0x1fff);
    let mut fields = Fields {
        addresses: [mapped(&fixed[12..16]), mapped(&fixed[16..20])],
        ports: [0; 2],
        icmp: [0; 2],
        proto: fixed[9],
        bits: [true, more || offset != 0, offset != 0, fixed[6] & 0x40 != 0],
        tos: fixed[1],
        ttl: fixed[8],
        l4: 14 + header,
        len,
    };
    upper(packet, header, &mut fields);
    Some(fields)
}

fn slow_v6(packet: &[u8]) -> Option<Fields> {
    let fixed = packet.get(..40)?;
    let addresses = [&fixed[8..24], &fixed[24..40]];
    // IPv4-mapped addresses are not for the wire.
    if fixed[0] >> 4 != 6 || addresses.iter().any(|address| **address == mapped(&address[12..])) {
        return None;
    }
    let mut fields = Fields {
        addresses: [fixed[8..24].try_into().ok()?, fixed[24..40].try_into().ok()?],
        ports: [0; 2],
        icmp: [0; 2],
        proto: fixed[6],
        bits: [false, false, false, true],
        tos: fixed[0] << 4 | fixed[1] >> 4,
        ttl: fixed[7],
        l4: 0,
        len: 40 + usize::from(short(fixed, 4)),
    };
    let mut at = 40;
    let mut walked = 0;
    while [0, 43, 44, 60].contains(&fields.proto) {
        // Six headers are looked over; what is in a later fragment behind more of them nobody can tell.
        if walked == 6 || fields.bits[2] {
            return None;
        }
        walked += 1;
        let is_fragment = fields.proto == 44;
        let head = packet.get(at..at + if is_fragment { 8 } else { 2 })?;
        fields.proto = head[0];
        at += if is_fragment { 8 } else { 8 * (usize::from(head[1]) + 1) };
        if is_fragment {
            fields.bits[1] = true;
            fields.bits[2] = short(head, 2) & 0xfff8 != 0;
        }
    }
    fields.l4 = 14 + at;
    upper(packet, at, &mut fields);
    Some(fields)
}

/// Ports and ICMP type, of what is in the packet and not of what a short frame has behind it.
fn upper(packet: &[u8], at: usize, fields: &mut Fields) {
    if fields.bits[2] {
        return;
    }
    let packet = &packet[..packet.len().min(fields.len)];
    let wanted = match fields.proto {
        6 | 17 | 132 | 136 => 4,
        1 | 58 => 2,
        _ => return,
    };
    let Some(head) = packet.get(at..at + wanted) else {
        fields.bits[2] = true;
        return;
    };
    if wanted == 4 {
        fields.ports = [short(head, 0), short(head, 2)];
    } else {
        fields.icmp = [head[0], head[1]];
    }
}
