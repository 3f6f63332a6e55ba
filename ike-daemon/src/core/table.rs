//! The IKE SAs of an endpoint, and the ways to find one: by our SPI, by the first request that made it, by its next timeout.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use super::api::Timestamp;
use super::context::Ctx;
use super::sa::Sa;

#[derive(Default)]
pub(super) struct Table {
    entries: BTreeMap<u64, Entry>,
    by_spi: HashMap<[u8; 8], u64>,
    by_request: HashMap<[u8; 32], u64>,
    timers: BTreeSet<(Timestamp, u64)>,
    half_open: usize,
    half_open_of: HashMap<IpAddr, usize>,
    next: u64,
}

struct Entry {
    sa: Sa,
    spi: [u8; 8],
    request: Option<[u8; 32]>,
    deadline: Option<Timestamp>,
    unproved: Option<IpAddr>,
}

/// What counts as one source of requests: an IPv4 address, or an IPv6 network, all of whose addresses one host can have.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Responder SAs whose peer has not proved itself: those that wait for IKE_AUTH, and those that are kept for a while
    /// because it was refused.
    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    /// How many of those come from the source that `address` belongs to.
    pub(super) fn half_open_of(&self, address: IpAddr) -> usize {
        self.half_open_of.get(&source(address)).copied().unwrap_or(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Sa)> {
        self.entries.iter().map(|(id, entry)| (*id, &entry.sa))
    }

    pub(super) fn get(&self, id: u64) -> Option<&Sa> {
        self.entries.get(&id).map(|entry| &entry.sa)
    }

    pub(super) fn by_spi(&self, spi: &[u8; 8]) -> Option<u64> {
        self.by_spi.get(spi).copied()
    }

    pub(super) fn by_request(&self, digest: &[u8; 32]) -> Option<u64> {
        self.by_request.get(digest).copied()
    }

    /// The earliest timeout of all.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// An SA whose timeout has come.
    pub(super) fn due(&self, now: Timestamp) -> Option<u64> {
        self.timers.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// A number for an SA that is not in the table yet.
    pub(super) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Sa> {
        let entry = self.entries.remove(&id)?;
        self.by_spi.remove(&entry.spi);
        if let Some(digest) = entry.request {
            self.by_request.remove(&digest);
        }
        if let Some(at) = entry.deadline {
            self.timers.remove(&(at, id));
        }
        if let Some(source) = entry.unproved {
            self.half_open -= 1;
            if let Some(count) = self.half_open_of.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.half_open_of.remove(&source);
                }
            }
        }
        Some(entry.sa)
    }

    pub(super) fn put(&mut self, ctx: &Ctx<'_>, id: u64, sa: Sa) {
        let spi = sa.our_spi();
        let request = sa.began();
        let unproved = sa.unproved().map(source);
        if let Some(source) = unproved {
            self.half_open += 1;
            *self.half_open_of.entry(source).or_default() += 1;
        }
        let deadline = sa.next_timeout(ctx);
        self.by_spi.insert(spi, id);
        if let Some(digest) = request {
            self.by_request.insert(digest, id);
        }
        if let Some(at) = deadline {
            self.timers.insert((at, id));
        }
        self.entries.insert(id, Entry { sa, spi, request, deadline, unproved });
    }
}
