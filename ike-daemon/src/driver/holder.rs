//! The holder of packets without an SA, as long as it can be had: who starts after a daemon that was killed may find its
//! sockets still there for a moment, and `ipsec0x` may be made anew.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use sadb_maps::host::{HeldPacket, Holder, Instance};
use tracing::{debug, warn};

/// How long after a refusal the next attempt comes, at first.
const SOON: Duration = Duration::from_secs(1);

/// And how long after those, and how often it is seen to that packets still come.
const LATER: Duration = Duration::from_secs(10);

/// Refusals after which it is said that packets will be dropped.
const REFUSALS: u32 = 3;

/// The most packets taken in one go, so that others get their turn in a flood.
const AT_ONCE: usize = 256;

/// See the module.
pub(super) struct Keeper {
    instance: Instance,
    holder: Option<Holder>,
    /// When it was last asked for, or looked at.
    asked: Option<Instant>,
    refusals: u32,
    /// Packets lost by holders before this one.
    lost: u64,
}

impl Keeper {
    pub(super) fn new(instance: &Instance) -> Self {
        Self { instance: instance.clone(), holder: None, asked: None, refusals: 0, lost: 0 }
    }

    /// Takes or keeps the holder if it is `wanted`, and leaves it otherwise. Gives whether the descriptors are others.
    pub(super) fn tend(&mut self, wanted: bool) -> bool {
        let interval = if self.retries() { SOON } else { LATER };
        if wanted && self.asked.is_some_and(|asked| asked.elapsed() < interval) {
            return false;
        }
        if let Some(holder) = &self.holder {
            self.asked = Some(Instant::now());
            if wanted && holder.is_current() {
                return false;
            }
            self.leave();
        }
        if !wanted {
            return false;
        }
        self.asked = Some(Instant::now());
        match Holder::open(&self.instance) {
            Ok(holder) => {
                debug!(target: "ikev2d::sadb", "holding the packets that wait for an SA");
                (self.holder, self.refusals) = (Some(holder), 0);
                true
            }
            Err(error) => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals == REFUSALS {
                    warn!(target: "ikev2d::sadb", %error, "packets that find no SA are dropped, for they cannot be held");
                }
                false
            }
        }
    }

    /// Has the next look come at once: the data path is another one.
    pub(super) fn look_again(&mut self) {
        self.asked = None;
    }

    fn leave(&mut self) {
        self.lost = self.lost();
        self.holder = None;
        self.refusals = 0;
    }

    /// Whether the next attempt comes soon.
    fn retries(&self) -> bool {
        self.holder.is_none() && self.refusals < REFUSALS
    }

    /// See [`KernelSide::packets`](super::kernel::KernelSide::packets).
    pub(super) fn packets(&mut self) -> Vec<HeldPacket> {
        let mut packets = Vec::new();
        let Some(holder) = &mut self.holder else { return packets };
        while packets.len() < AT_ONCE {
            match holder.next_packet() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => {
                    warn!(target: "ikev2d::sadb", %error, "packets that wait for an SA cannot be taken");
                    self.leave();
                    break;
                }
            }
        }
        packets
    }

    pub(super) fn lost(&self) -> u64 {
        // A holder that cannot say has lost nothing that anybody knows of.
        let now = self.holder.as_ref().and_then(|holder| holder.lost().ok()).unwrap_or(0);
        self.lost.saturating_add(now)
    }

    pub(super) fn release(&mut self, packet: HeldPacket) -> io::Result<()> {
        self.holder.as_ref().ok_or(io::ErrorKind::NotConnected)?.release(packet)
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.holder.iter().flat_map(Holder::descriptors)
    }
}
