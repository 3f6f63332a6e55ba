//! Fragments of UDP datagrams, of which only the first says what it is part of.

use super::sizes::{REDIRECT, SHOT};
use super::{Corners, DROP, PASS, SPI, UDP, ether_type, ip};
use crate::instance::Shape;
use crate::run;
use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, RingBuf};
use sadb_maps::counter::Counter;
use sadb_maps::slow::{Handed, errand};
use sadb_maps::tag::{FLAG_GATHER, FLAG_WHOLE, TAG_OCTET};
use std::net::IpAddr;

impl Corners {
    /// UDP-01: a later fragment that comes before the first goes to the slow path, and no further where policy wants it
    /// protected; those of key management follow the first one; at XDP and, for what XDP has not seen, behind it.
    pub(super) fn early(&mut self) -> Result<()> {
        let handed = (Counter::SlowPath.name(), 1);
        for v6 in [false, true] {
            let shape = Shape::Transport { v6 };
            let transform = Self::transform()?;
            let keys = transform.keys(&mut self.random, SPI, false);
            self.path.protect(shape, transform, &keys)?;
            let [here, there] = shape.outer();
            let later = |ident: u32| fragment(there, here, ident, (184, false), &[7; 64]);
            let first = |ident: u32, port: u16, spi: u32| {
                let header = [port.to_be_bytes(), port.to_be_bytes(), [1, 0], [0; 2]].concat();
                fragment(there, here, ident, (0, true), &[&header[..], &spi.to_be_bytes(), &[7; 172]].concat())
            };
            let ring = &mut self.serve(true)?;
            // Nothing is said about what comes from there: it may go on, and the slow path has it as well.
            let (value, counted) = self.arrive(&later(1)?)?;
            ensure!(value == PASS && counted.contains(&handed), "no policy: {value}, {counted:?}");
            ensure!(next(ring)? == later(1)?, "another frame was handed over");

            self.path.protect_own(shape, transform, &keys)?;
            let (value, counted) = self.arrive(&later(2)?)?;
            ensure!(value == DROP && counted == [handed], "before the first: {value}, {counted:?}");
            ensure!(next(ring)? == later(2)?, "another frame was handed over");
            for frame in [first(2, 4500, SPI)?, later(2)?] {
                let (value, counted) = self.arrive(&frame)?;
                ensure!(value == DROP && counted == [handed], "ESP in UDP: {value}, {counted:?}");
                ensure!(next(ring)? == frame, "another frame was handed over");
            }
            let passed = [(Counter::KeyManagement.name(), 1)];
            for (ident, port) in [(3, 500), (4, 4500)] {
                for frame in [first(ident, port, 0)?, later(ident)?] {
                    let (value, counted) = self.arrive(&frame)?;
                    ensure!(value == PASS && counted == passed, "IKE on port {port}: {value}, {counted:?}");
                }
            }
            let refused = [(Counter::DropClearIn.name(), 1)];
            for frame in [first(5, 53, SPI)?, later(5)?] {
                let (value, counted) = self.arrive(&frame)?;
                ensure!(value == DROP && counted == refused, "in clear: {value}, {counted:?}");
            }
            ensure!(ring.next().is_none(), "what is in clear was handed over");
            self.behind(v6, &[first(6, 4500, SPI)?, later(6)?, later(7)?], &[first(8, 500, 0)?, later(8)?])?;
            self.serve(false)?;
            let (value, counted) = self.arrive(&later(9)?)?;
            ensure!(value == DROP && counted == refused, "with nobody to take it: {value}, {counted:?}");
        }
        Ok(())
    }

    /// What has come past XDP: fragments to be made whole, and such that may pass.
    fn behind(&self, v6: bool, gathered: &[Vec<u8>], passing: &[Vec<u8>]) -> Result<()> {
        let judge = |frame: &[u8]| run::classify(&self.path.behind, frame, self.path.outer, self.path.outer);
        for frame in gathered {
            let (value, left) = judge(frame)?;
            let tagged = left.first() == Some(&TAG_OCTET) && left.get(1) == Some(&(FLAG_WHOLE | FLAG_GATHER));
            ensure!(value == REDIRECT && tagged, "past XDP: {value}, {:02x?}", left.get(..14));
        }
        for frame in passing {
            let (value, left) = judge(frame)?;
            ensure!(value == -1 && left.get(12..14) == Some(&ether_type(v6)), "IKE past XDP: {value}");
        }
        self.serve(false)?;
        for frame in gathered {
            let (value, _) = judge(frame)?;
            ensure!(value == SHOT, "past XDP, with nobody to take it: {value}");
        }
        self.serve(true).map(drop)
    }
}

/// The frame that was handed over, without what the programs do not look at.
fn next(ring: &mut RingBuf<MapData>) -> Result<Vec<u8>> {
    let handed: Handed = bytemuck::pod_read_unaligned(&ring.next().context("nothing was handed over")?);
    ensure!(handed.errand == errand::FRAGMENT_IN, "errand {}", handed.errand);
    Ok(handed.frame.get(..handed.len as usize).context("too long")?.to_vec())
}

/// The frame of a fragment in UDP.
fn fragment(src: IpAddr, dst: IpAddr, ident: u32, (offset, more): (u16, bool), payload: &[u8]) -> Result<Vec<u8>> {
    let place = offset / 8;
    let packet = if src.is_ipv6() {
        let field = place << 3 | u16::from(more);
        let header = [&[UDP, 0][..], &field.to_be_bytes(), &ident.to_be_bytes()].concat();
        ip(src, dst, 44, 0, &[&header, payload].concat())?
    } else {
        let mut packet = ip(src, dst, UDP, place | if more { 0x2000 } else { 0 }, payload)?;
        packet.splice(4..6, u16::try_from(ident)?.to_be_bytes());
        packet
    };
    Ok([&[0; 12][..], &ether_type(src.is_ipv6()), &packet].concat())
}
