//! Random packets of every size through the real programs as they are installed: the program of `ipsec0x` seals them, the
//! result is compared octet by octet with what RFC 4303 and the RustCrypto crates say, the program of the outer interface
//! opens it, and what comes out has to be the packet that went in. A forgery and a replay of each packet have to be
//! dropped.
//!
//! ESP-FMT-01, ESP-FMT-03, ESP-FMT-06, ESP-FMT-07 (padding that is sent), ESP-FMT-11 (IVs), ESP-IN-04, ESP-IN-05,
//! ESP-IN-10, ESP-IN-14; ALG-20 to ALG-27.

use crate::check::{flip, sum};
use crate::instance::{DataPath, Place, SPI, Shape, ether_type, packet};
use crate::reference::Keys;
use crate::run;
use crate::support::Random;
use crate::transforms::{self, Transform};
use anyhow::{Context, Result, ensure};
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

const DROP: u32 = 1;
const PASS: u32 = 2;

/// Octets behind the IP header of the packet that is protected: with its header it is longer than 1500.
const LARGEST: usize = 1500;

/// Up to this, every shape of packet meets every size; above, the shapes share those that are a multiple of [`STEP`].
const SMALL: usize = 64;
/// See [`SMALL`]. Prime to the sizes of blocks.
const STEP: usize = 3;

/// Runs all of it.
pub(crate) fn run(object: Option<&Path>) -> Result<()> {
    let mut path = DataPath::attach("packets", object)?;
    let mut random = Random(4303);
    for transform in transforms::ALL {
        let start = Instant::now();
        let mut packets = 0;
        for (i, shape) in Shape::ALL.into_iter().enumerate() {
            packets += some_sizes(&mut path, &mut random, (i, shape), transform)
                .with_context(|| format!("{}, {shape:?}", transform.name))?;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{}: {packets} packets sealed, opened, forged and replayed, {seconds:.1} s", transform.name);
    }
    Ok(())
}

/// The sizes of one shape, the `i`th: all small ones and its part of the others, half of them with extended sequence
/// numbers.
fn some_sizes(
    path: &mut DataPath,
    random: &mut Random,
    (i, shape): (usize, Shape),
    transform: &Transform,
) -> Result<u64> {
    let mut packets = 0;
    for esn in [false, true] {
        let keys = transform.keys(random, SPI, esn);
        let place = path.protect(shape, transform, &keys)?;
        let (mut count, mut bytes) = (0, 0);
        let turn = 2 * i + usize::from(esn);
        let mine = |len: &usize| match *len {
            ..=SMALL => len.is_multiple_of(2) == esn,
            _ => len.is_multiple_of(STEP) && len / STEP % (2 * Shape::ALL.len()) == turn,
        };
        for len in (0..=LARGEST).filter(mine) {
            // What has no ports, and what has some and no whole header.
            let proto = [253, 6, 17].get(random.below(3)).copied().unwrap_or(253);
            let inner = packet(shape, proto, len, random)?;
            count += 1;
            let check = Check { path, shape, keys: &keys, count };
            check.packet(place, &inner, random).with_context(|| format!("{len} octets behind the IP header"))?;
            bytes += if shape.is_tunnel() { inner.len() as u64 } else { len as u64 };
        }
        let sa = path.inbound(shape)?;
        ensure!(
            (sa.packets, sa.bytes, sa.auth_failed, sa.replayed, sa.top) == (count, bytes, count, count, count),
            "of {count} packets with {bytes} octets the SA counts {} with {}, {} forged, {} replayed",
            sa.packets,
            sa.bytes,
            sa.auth_failed,
            sa.replayed
        );
        packets += count;
    }
    Ok(packets)
}

struct Check<'a> {
    path: &'a DataPath,
    shape: Shape,
    keys: &'a Keys,
    /// Sequence number and explicit IV that are next.
    count: u64,
}

impl Check<'_> {
    fn packet(&self, place: Place, inner: &[u8], random: &mut Random) -> Result<()> {
        let shape = self.shape;
        let known = random.below(2) == 0;
        // What drivers leave behind a short packet is no part of it.
        let padding = if inner.len() < 46 { random.below(46 - inner.len()) } else { 0 };
        let frame =
            [place.tag(known), ether_type(shape.inner_v6()).to_vec(), inner.to_vec(), vec![0; padding]].concat();
        let sealed = run::once(&self.path.seal, &frame, 0)?;
        ensure!(sealed.value == PASS, "sealing: the program returned {}", sealed.value);
        let (front, len) = self.sealed(inner, &sealed.frame).context("sealed")?;

        // Somewhere in IV, ciphertext or ICV: the sequence number is judged before.
        let bit = 8 * front + random.below(8 * (len - front));
        let forged = run::once(&self.path.open, &flip(&sealed.frame, bit), self.path.outer)?;
        ensure!(forged.value == DROP, "a forged packet: the program returned {}", forged.value);
        let opened = run::once(&self.path.open, &sealed.frame, self.path.outer)?;
        ensure!(opened.value == PASS, "opening: the program returned {}", opened.value);
        let ether = ether_type(shape.inner_v6());
        let came = opened.frame.get(12..).context("no whole frame came out")?;
        ensure!(came.strip_prefix(&ether[..]) == Some(inner), "another packet came out: {came:02x?}");
        let replayed = run::once(&self.path.open, &sealed.frame, self.path.outer)?;
        ensure!(replayed.value == DROP, "a replayed packet: the program returned {}", replayed.value);
        Ok(())
    }

    /// Compares the whole frame with what it has to be; gives the offset of what follows the ESP header, and the length.
    fn sealed(&self, inner: &[u8], frame: &[u8]) -> Result<(usize, usize)> {
        let outer_header = if self.shape.outer_v6() { 40 } else { 20 };
        let (_, rest) = frame.split_at_checked(12).context("no whole frame")?;
        let packet = rest.strip_prefix(&ether_type(self.shape.outer_v6())).context("EtherType")?;
        let (header, esp) = packet.split_at_checked(outer_header).context("no IP header")?;
        self.header(inner, header, packet.len())?;

        let inner_header = if self.shape.inner_v6() { 40 } else { 20 };
        let (payload, next_header) = match self.shape {
            Shape::Tunnel { inner_v6: false, .. } => (inner, 4),
            Shape::Tunnel { inner_v6: true, .. } => (inner, 41),
            Shape::Transport { v6 } => {
                let proto = inner.get(if v6 { 6 } else { 9 }).copied().context("no protocol")?;
                (inner.get(inner_header..).context("no payload")?, proto)
            }
        };
        let expected = self.keys.seal(payload, self.count, &self.keys.iv(self.count), next_header);
        ensure!(esp == expected, "is not what RFC 4303 and RustCrypto say, {expected:02x?}, but {esp:02x?}");
        Ok((14 + outer_header + 8, frame.len()))
    }

    /// The IP header in front of ESP: RFC 4301 section 5.1.2 in tunnel mode, RFC 4303 section 3.1.1 in transport mode.
    fn header(&self, inner: &[u8], header: &[u8], len: usize) -> Result<()> {
        let [src, dst] = self.shape.outer().map(octets);
        let field = |from: usize, len: usize| header.get(from..from + len).context("IP header");
        if self.shape.outer_v6() {
            ensure!(
                field(4, 2)? == u16::try_from(len - 40)?.to_be_bytes() && field(6, 1)? == [50],
                "length or protocol"
            );
            ensure!(field(8, 16)? == src && field(24, 16)? == dst, "addresses");
        } else {
            ensure!(field(0, 1)? == [0x45] && field(2, 2)? == u16::try_from(len)?.to_be_bytes(), "version or length");
            ensure!(field(9, 1)? == [50] && sum(header) == 0xffff, "protocol or checksum");
            ensure!(field(12, 4)? == src && field(16, 4)? == dst, "addresses");
        }
        if let Shape::Transport { v6 } = self.shape {
            // All but length, protocol and checksum stays as it was.
            let same: &[(usize, usize)] = if v6 { &[(0, 4), (7, 33)] } else { &[(0, 2), (4, 5), (12, 8)] };
            for (from, len) in same {
                ensure!(
                    inner.get(*from..from + len) == Some(field(*from, *len)?),
                    "octet {from} of the IP header changed"
                );
            }
        }
        Ok(())
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
