//! Packets for the fuzzer of the ingress, and how they are spoilt.

use crate::check::sum;
use crate::instance::ether_type;
use crate::support::Random;
use anyhow::{Context, Result, bail};
use ebpf_esp::packet::{self, Content, Frame};
use std::net::IpAddr;

/// Octets of the Ethernet header.
const ETHERNET: usize = 14;

/// Values at the limits of lengths and fields.
const LIMITS: [u16; 16] = [0, 1, 2, 3, 4, 7, 8, 20, 40, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff];
/// Protocols that the programs look at, and some that they do not.
const PROTOCOLS: [u8; 15] = [0, 1, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 135, 255];

/// One of several.
pub(crate) fn one<'a, T>(random: &mut Random, of: &'a [T]) -> Result<&'a T> {
    of.get(random.below(of.len())).context("nothing to choose from")
}

/// An IP packet without options, with what stands behind its header.
pub(crate) fn ip(src: IpAddr, dst: IpAddr, proto: u8, tos: u8, behind: &[u8]) -> Result<Vec<u8>> {
    let mut packet = vec![];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet.extend([0x45, tos]);
            packet.extend(u16::try_from(20 + behind.len())?.to_be_bytes());
            packet.extend([0, 7, 0, 0, 64, proto, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            let checksum = !sum(&packet);
            packet.splice(10..12, checksum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.extend((6 << 28 | u32::from(tos) << 20).to_be_bytes());
            packet.extend(u16::try_from(behind.len())?.to_be_bytes());
            packet.extend([proto, 64]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
        }
        _ => bail!("addresses of two families"),
    }
    packet.extend(behind);
    Ok(packet)
}

/// The same in a frame.
pub(crate) fn frame(src: IpAddr, dst: IpAddr, proto: u8, tos: u8, behind: &[u8]) -> Result<Vec<u8>> {
    Ok([vec![2; 12], ether_type(src.is_ipv6()).to_vec(), ip(src, dst, proto, tos, behind)?].concat())
}

/// The packet without what opening may change: DSCP and ECN, and the checksum that follows them.
pub(crate) fn unmarked(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match &mut packet[..] {
        [first, tos, _, _, _, _, _, _, _, _, a, b, ..] if *first >> 4 == 4 => (*tos, *a, *b) = (0, 0, 0),
        [first, second, ..] if *first >> 4 == 6 => (*first, *second) = (0x60, *second & 0xf),
        _ => {}
    }
    packet
}

/// A frame that is read only.
struct Octets<'a>(&'a [u8]);

impl Frame for Octets<'_> {
    fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
        let octets = self.0.get(offset as usize..)?.get(..size_of::<T>())?;
        // The parser only reads.
        Some(octets.as_ptr().cast_mut().cast())
    }
}

/// Whether this IP packet passes where its flow is protected: neighbour discovery, and key management of this host, which
/// `host` says is its destination.
pub(crate) fn is_excepted(ip: &[u8], v6: bool, host: bool) -> bool {
    let frame = [vec![0; 12], ether_type(v6).to_vec(), ip.to_vec()].concat();
    match packet::parse(&Octets(&frame)) {
        Content::Ip(parsed) => {
            let management = parsed.proto == 17 && !parsed.opaque && (parsed.dport == 500 || parsed.dport == 4500);
            parsed.is_neighbour_discovery() || host && management
        }
        _ => false,
    }
}

/// Spoils frames.
pub(crate) struct Forge<'a>(pub(crate) &'a mut Random);

impl Forge<'_> {
    /// Changes a frame in one to four places.
    pub(crate) fn change(&mut self, frame: &mut Vec<u8>) {
        let mut packet = frame.split_off(ETHERNET.min(frame.len()));
        self.change_packet(&mut packet);
        if self.0.below(32) == 0 {
            self.octet(frame);
        }
        frame.append(&mut packet);
        if frame.len() < ETHERNET {
            frame.resize(ETHERNET, 0);
        }
    }

    /// Changes a packet in one to four places; half of the time lengths and checksum are right afterwards.
    pub(crate) fn change_packet(&mut self, packet: &mut Vec<u8>) {
        for _ in 0..=self.0.below(4) {
            match self.0.below(9) {
                0..3 => self.octet(packet),
                3 => self.header_field(packet),
                4 => self.protocol(packet),
                5 => self.extend(packet),
                6 => packet.truncate(self.0.below(packet.len() + 1)),
                7 => {
                    let more = self.0.below(64);
                    let more = self.0.bytes(more);
                    packet.extend(more);
                }
                _ => self.move_octets(packet),
            }
        }
        if self.0.below(2) == 0 {
            mend(packet);
        }
    }

    /// Changes the header in a way that AH or nobody protects.
    pub(crate) fn header(&mut self, frame: &mut Vec<u8>) {
        let mut packet = frame.split_off(ETHERNET.min(frame.len()));
        match self.0.below(3) {
            0 => self.header_field(&mut packet),
            1 => self.extend(&mut packet),
            _ => self.protocol(&mut packet),
        }
        if self.0.below(4) != 0 {
            mend(&mut packet);
        }
        frame.append(&mut packet);
    }

    /// One octet in the first 100, or anywhere.
    fn octet(&mut self, packet: &mut [u8]) {
        let bound = if self.0.below(4) == 0 { packet.len() } else { packet.len().min(100) };
        if bound == 0 {
            return;
        }
        let (at, with) = (self.0.below(bound), self.0.next() as u8);
        let bit = 1 << self.0.below(8);
        if let Some(octet) = packet.get_mut(at) {
            *octet = if with & 1 == 0 { *octet ^ bit } else { with };
        }
    }

    /// One of the fields of the IP header, to a value at its limits.
    fn header_field(&mut self, packet: &mut [u8]) {
        let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let value = LIMITS.get(self.0.below(LIMITS.len())).copied().unwrap_or(0);
        let near = self.0.below(8) as u16;
        match self.0.below(4) {
            // Version and length of the header.
            0 => {
                let value = 0x40 | self.0.below(16) as u8;
                if let Some(first) = packet.first_mut() {
                    *first = if v6 { *first ^ 0x20 } else { value };
                }
            }
            // Lengths, those that are nearly right as well.
            1 => put(packet, if v6 { 4 } else { 2 }, value),
            2 => {
                let len = (packet.len() as u16).wrapping_sub(if v6 { 40 } else { 0 });
                put(packet, if v6 { 4 } else { 2 }, len.wrapping_add(near).wrapping_sub(4));
            }
            // Flags and fragments, or the hop limit.
            _ => put(packet, 6, value),
        }
    }

    fn protocol(&mut self, packet: &mut [u8]) {
        let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let value = PROTOCOLS.get(self.0.below(PROTOCOLS.len())).copied().unwrap_or(0);
        if let Some(octet) = packet.get_mut(if v6 { 6 } else { 9 }) {
            *octet = value;
        }
    }

    /// Options or extension headers behind the IP header, right or nearly so.
    fn extend(&mut self, packet: &mut Vec<u8>) {
        match packet.first().map(|first| first >> 4) {
            Some(6) => {
                let Some(next) = packet.get(6).copied() else { return };
                let kinds = [0u8, 43, 44, 60];
                let mut chain = Vec::new();
                let mut first = next;
                for _ in 0..=self.0.below(8) {
                    let kind = kinds.get(self.0.below(kinds.len())).copied().unwrap_or(60);
                    let len = if self.0.below(8) == 0 { self.0.next() as u8 } else { 0 };
                    let rest = if kind == 44 && self.0.below(2) == 0 { [0; 6] } else { [1, 4, 0, 0, 0, 0] };
                    chain.splice(..0, [&[first, len][..], &rest].concat());
                    first = kind;
                }
                let at = 40.min(packet.len());
                packet.splice(at..at, chain);
                if let Some(octet) = packet.get_mut(6) {
                    *octet = first;
                }
            }
            Some(4) => {
                let words = 1 + self.0.below(10);
                let options = self.0.bytes(4 * words);
                let at = 20.min(packet.len());
                packet.splice(at..at, options);
                if let Some(first) = packet.first_mut() {
                    *first = 0x40 | (5 + words as u8);
                }
            }
            _ => {}
        }
    }

    /// Removes, doubles or moves some octets.
    fn move_octets(&mut self, packet: &mut Vec<u8>) {
        if packet.is_empty() {
            return;
        }
        let from = self.0.below(packet.len());
        let to = (from + 1 + self.0.below(16)).min(packet.len());
        let piece: Vec<u8> = if self.0.below(2) == 0 {
            packet.drain(from..to).collect()
        } else {
            packet.get(from..to).unwrap_or_default().to_vec()
        };
        if self.0.below(2) == 0 {
            let at = self.0.below(packet.len() + 1);
            packet.splice(at..at, piece);
        }
    }

    /// Padding and pad length, most of them wrong, so that the message is as long as the cipher has it.
    pub(crate) fn padding(&mut self, payload: usize, align: usize) -> Vec<u8> {
        let least = (align - (payload + 2) % align) % align;
        let len = least + align * self.0.below(200 / align);
        let mut padding: Vec<u8> = (1..=len).map(|octet| octet as u8).collect();
        match self.0.below(3) {
            0 => {}
            1 => self.octet(&mut padding),
            _ => padding = self.0.bytes(len),
        }
        let told = match self.0.below(3) {
            0 => len as u8,
            1 => self.0.next() as u8,
            _ => (len as u8).wrapping_add(1),
        };
        padding.push(told);
        padding
    }

    /// Makes a fragment of a packet without options, or something near one.
    pub(crate) fn cut(&mut self, frame: &mut Vec<u8>, v6: bool) {
        let mut packet = frame.split_off(ETHERNET.min(frame.len()));
        let offset = if self.0.below(3) == 0 { 0 } else { self.0.below(190) as u16 };
        let more = self.0.below(2) == 0;
        if v6 {
            let next = packet.get(6).copied().unwrap_or(0);
            let field = (offset << 3 | u16::from(more)).to_be_bytes();
            packet.splice(40.min(packet.len())..40.min(packet.len()), [next, 0, field[0], field[1], 0, 0, 0, 9]);
            if let Some(octet) = packet.get_mut(6) {
                *octet = 44;
            }
        } else {
            put(&mut packet, 6, offset | if more { 0x2000 } else { 0 });
        }
        if self.0.below(2) == 0 {
            let keep = self.0.below(packet.len() + 1);
            packet.truncate(keep.max(28));
        }
        mend(&mut packet);
        if self.0.below(4) == 0 {
            self.change_packet(&mut packet);
        }
        frame.append(&mut packet);
    }
}

/// Writes a 16-bit field.
fn put(packet: &mut [u8], at: usize, value: u16) {
    if let Some(field) = packet.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Makes lengths and checksum of an IP header right.
fn mend(packet: &mut [u8]) {
    let len = packet.len();
    match packet.first().copied() {
        Some(first) if first >> 4 == 4 => {
            let header = usize::from(first & 15) * 4;
            put(packet, 2, len.min(65535) as u16);
            put(packet, 10, 0);
            if let Some(header) = packet.get(..header) {
                let checksum = !sum(header);
                put(packet, 10, checksum);
            }
        }
        Some(first) if first >> 4 == 6 => put(packet, 4, len.saturating_sub(40).min(65535) as u16),
        _ => {}
    }
}
