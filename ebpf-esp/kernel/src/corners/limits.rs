//! Hard limits of octets.

use super::{Corners, DROP, PASS};
use crate::instance::{SPI, Shape, ether_type, packet};
use crate::run;
use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use sadb_maps::abi::program;
use sadb_maps::counter::Counter;
use sadb_maps::host::spec::SaSpec;
use sadb_maps::sa::{Lifetime, state};

impl Corners {
    /// ARC-SAD-01, PFK-04: an SA carries what its hard limit of octets allows and not one packet more, in both directions and on however
    /// many processors.
    pub(super) fn hard_limit(&mut self, shape: Shape) -> Result<()> {
        const PACKETS: u64 = 12;
        const OCTETS: usize = 100;
        let header = match (shape.is_tunnel(), shape.inner_v6()) {
            (false, _) => 0,
            (true, false) => 20,
            (true, true) => 40,
        };
        let limited = |packets: u64| {
            let bytes = packets * (OCTETS as u64 + header);
            move |spec: SaSpec| SaSpec { hard: Lifetime { bytes, ..Lifetime::default() }, ..spec }
        };
        let inner = packet(shape, 253, OCTETS, &mut self.random)?;
        // Both directions have the same SPI and the same limit.
        let place = self.protect(shape, limited(PACKETS))?;
        let frames: Result<Vec<_>> = (0..PACKETS).map(|_| self.sealed(place, &inner)).collect();
        let outbound = [place.tag(true), ether_type(shape.inner_v6()).to_vec(), inner.clone()].concat();
        let refused = |counted: &[(&str, u64)]| counted.contains(&(Counter::DropExpired.name(), 1));
        let before = self.counters.all()?;
        let more = run::once(&self.path.seal, &outbound, 0)?;
        let counted = self.counted(&before)?;
        ensure!(more.value == DROP && refused(&counted), "packet {PACKETS} and one more: {}, {counted:?}", more.value);
        // Once it is dead nobody finds it.
        ensure!(self.path.outbound_state(shape).map_or(true, |state| state == state::DEAD), "it is not dead");
        for frame in frames? {
            let (value, counted) = self.arrive(&frame)?;
            ensure!(value == PASS, "on its way in: {value}, {counted:?}");
        }
        // One that was sealed by an SA without the limit.
        let keys = Self::transform()?.keys(&mut self.random, SPI, false);
        let free = self.path.protect(shape, Self::transform()?, &keys)?;
        let frames: Result<Vec<_>> = (0..=PACKETS).map(|_| self.sealed(free, &inner)).collect();
        self.path.other_sas(shape, Self::transform()?, &keys, free, limited(PACKETS))?;
        for (number, frame) in (1..).zip(frames?) {
            let (value, counted) = self.arrive(&frame)?;
            let right = if number <= PACKETS { value == PASS } else { value == DROP && refused(&counted) };
            ensure!(right, "packet {number} of {PACKETS} on its way in: {value}, {counted:?}");
        }
        self.race(shape, &inner, limited(40 * PACKETS), 40 * PACKETS)
    }

    /// Two processors at one SA.
    fn race(&mut self, shape: Shape, inner: &[u8], limited: impl Fn(SaSpec) -> SaSpec, allowed: u64) -> Result<()> {
        let place = self.protect(shape, limited)?;
        let frame = [place.tag(true), ether_type(shape.inner_v6()).to_vec(), inner.to_vec()].concat();
        let ours = sched_getaffinity(Pid::from_raw(0))?;
        let processors: Vec<usize> =
            (0..CpuSet::count()).filter(|cpu| ours.is_set(*cpu).unwrap_or(false)).take(2).collect();
        let seal = |cpu: usize| -> Result<u64> {
            let mut only = CpuSet::new();
            only.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &only)?;
            let program = Xdp::from_pin(self.path.instance().pin(program::XDP_IPSEC0X), XdpAttachType::Interface)?;
            let mut sealed = 0;
            for _ in 0..allowed {
                sealed += u64::from(run::once(&program, &frame, 0)?.value == PASS);
            }
            Ok(sealed)
        };
        let sealed = std::thread::scope(|scope| {
            let threads: Vec<_> = processors.iter().map(|cpu| scope.spawn(|| seal(*cpu))).collect();
            threads.into_iter().map(|thread| thread.join().ok().context("a thread failed")?).sum::<Result<u64>>()
        })?;
        ensure!(sealed == allowed, "{} processors sealed {sealed} packets, not {allowed}", processors.len());
        Ok(())
    }
}
