//! What becomes of packets that are too long once they are sealed.

use super::{Corners, DROP, Left, PASS};
use crate::instance::{Place, SPI, Shape, ether_type, packet};
use crate::run;
use crate::test_object::Plain;
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, RingBuf};
use ebpf_esp::esp::Geometry;
use sadb_maps::abi::map;
use sadb_maps::counter::Counter;
use sadb_maps::slow::{Handed, OUTCOMES, SlowState, errand};
use sadb_maps::tag::FLAG_LARGE;

/// Verdict of a program at a traffic-control hook: dropped.
pub(super) const SHOT: i32 = 2;
/// The same: goes on elsewhere.
pub(super) const REDIRECT: i32 = 7;

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;

impl Corners {
    /// SAs of AH, around ESP or alone: the outbound one that is applied first, and all of them.
    fn by_ah(&mut self, shape: Shape, around: bool) -> Result<(Place, Vec<Place>)> {
        let transform = Self::transform()?;
        let keys = transform.keys(&mut self.random, SPI, false);
        let (first, second) = self.path.protect_by_ah(shape, around.then_some((transform, &keys)), &mut self.random)?;
        Ok((first, [Some(first), second].into_iter().flatten().collect()))
    }

    /// TUN-10: what AH, or AH around ESP, makes longer than its way takes is dropped before it costs a number, to the octet, also
    /// where TC did not see it coming; anything shorter leaves.
    pub(super) fn ah_sizes(&mut self, shape: Shape, around: bool) -> Result<()> {
        const MTU: u32 = 600;
        let (first, all) = self.by_ah(shape, around)?;
        self.path.set_route(first, MTU)?;
        let numbers = |this: &Self| -> Result<Vec<u64>> {
            all.iter().map(|place| Ok(this.path.change_state(*place, |_| {})?.seq)).collect()
        };
        let mut longest = 0;
        for len in 440..580 {
            let inner = packet(shape, 253, len, &mut self.random)?;
            let frame = [first.tag(false), ether_type(shape.inner_v6()).to_vec(), inner].concat();
            let (before, spent) = (self.counters.all()?, numbers(self)?);
            let sealed = run::once(&self.path.seal, &frame, 0)?;
            let counted = self.counted(&before)?;
            if sealed.value == PASS {
                ensure!(longest + 1 == len || longest == 0, "{len} octets leave, and {} do not", len - 1);
                longest = len;
                let octets = sealed.frame.len() - ETHERNET;
                ensure!(octets <= MTU as usize, "{len} octets leave as {octets}");
                continue;
            }
            let spends = numbers(self)?;
            ensure!(
                sealed.value == DROP && counted == [(Counter::DropTooBig.name(), 1)] && spent == spends,
                "{len} octets: the program returned {}, counted {counted:?}, numbers {spent:?} and {spends:?}",
                sealed.value
            );
        }
        // AH alone adds a header of its own and that of the tunnel, and nothing else.
        let header = if shape.inner_v6() { 40 } else { 20 };
        let outer = match (shape.is_tunnel(), shape.outer_v6()) {
            (false, _) => 0,
            (true, false) => 20,
            (true, true) => 40,
        };
        let ah = if shape.outer_v6() { 32 } else { 28 };
        let exact = MTU as usize - header - outer - ah;
        let last = packet(shape, 253, 64, &mut self.random)?;
        let frame = [first.tag(false), ether_type(shape.inner_v6()).to_vec(), last].concat();
        let sealed = run::once(&self.path.seal, &frame, 0)?.frame;
        let at = ETHERNET + if shape.outer_v6() { 40 } else { 20 };
        for bit in [8 * (at + 13), 8 * (sealed.len() - 1)] {
            let (value, counted) = self.arrive(&crate::check::flip(&sealed, bit))?;
            let refused = value == DROP && counted == [(Counter::DropAuth.name(), 1)];
            ensure!(refused, "forged AH, bit {bit}: the program returned {value} and counted {counted:?}");
        }
        let right = if around { (1..exact).contains(&longest) } else { longest == exact };
        ensure!(right, "the longest that leaves has {longest} octets; {exact} would fit AH alone");
        Ok(())
    }

    /// AH-04: what is to be cut has an identification before AH covers it: the kernel gives one to each fragment that has none.
    pub(super) fn identified(&mut self, shape: Shape, around: bool) -> Result<()> {
        let (first, all) = self.by_ah(shape, around)?;
        self.path.set_route(first, 600)?;
        for place in all {
            // In tunnel mode the number of the packet names it.
            self.path.outbound_at(place, u64::from(u16::MAX))?;
        }
        let mut inner = packet(shape, 253, 1000, &mut self.random)?;
        if !shape.inner_v6() {
            // No identification, and it may be cut.
            inner.get_mut(4..8).context("a header")?.fill(0);
            inner.get_mut(10..12).context("a header")?.fill(0);
            let sum = !crate::check::sum(inner.get(..20).context("a header")?);
            inner.splice(10..12, sum.to_be_bytes());
        }
        let mut ring = self.serve(true)?;
        let frame = [first.tag_with(false, FLAG_LARGE), ether_type(shape.inner_v6()).to_vec(), inner].concat();
        let before = self.counters.all()?;
        let sealed = run::once(&self.path.seal, &frame, 0)?;
        let counted = self.counted(&before)?;
        let handed = ring.next().with_context(|| format!("nothing was handed over: {}, {counted:?}", sealed.value))?;
        let handed: Handed = bytemuck::pod_read_unaligned(&handed);
        ensure!(handed.errand == errand::SEALED && handed.detail == 600, "errand {}, {}", handed.errand, handed.detail);
        let frame = handed.frame.get(..handed.len as usize).context("too long")?;
        let ident = frame.get(ETHERNET + 4..ETHERNET + 6).context("cut short")?;
        ensure!(ident != [0, 0], "it has no identification");
        let header = frame.get(ETHERNET..ETHERNET + 20).context("cut short")?;
        ensure!(crate::check::sum(header) == 0xffff, "the checksum of the header is wrong: {header:02x?}");
        let (value, counted) = self.arrive(frame)?;
        ensure!(value == PASS, "what is cut does not verify: {value}, {counted:?}");
        Ok(())
    }

    /// TUN-09, TUN-10: the sender of what is too long is told what fits, if ICMP may tell him anything; where the route passes
    /// less than the link it counts, also to where the packet goes itself, but not what the stack has learnt from us.
    pub(super) fn answers(&mut self, shape: Shape) -> Result<()> {
        self.protect(shape, |spec| spec)?;
        self.serve(false)?;
        let mut known = self.path_mtus()?;
        let keys: Vec<_> = known.keys().collect::<Result<_, _>>()?;
        keys.iter().try_for_each(|key| known.remove(key))?;
        let fits = |mtu| {
            let outer = if !shape.is_tunnel() {
                0
            } else if shape.outer_v6() {
                40
            } else {
                20
            };
            let header = if shape.is_tunnel() {
                0
            } else if shape.inner_v6() {
                40
            } else {
                20
            };
            Geometry { outer, udp: 0, iv: 8, icv: 16, align: 4 }.inner_limit(mtu, header)
        };
        let [src, dst] = shape.inner();
        let plain = |len: u32| {
            super::ip(src, dst, 253, 0x4000, &vec![7; len as usize - if shape.inner_v6() { 40 } else { 20 }])
        };
        let answered = |this: &Self, mtu: u32| -> Result<()> {
            let fits = fits(mtu);
            let Left { value, counted, .. } = this.leave(&plain(fits)?)?;
            ensure!(value == REDIRECT && counted.is_empty(), "{fits} of {mtu} octets: {value}, {counted:?}");
            let Left { value, frame, counted } = this.leave(&plain(fits + 1)?)?;
            let told = counted == [(Counter::TooBigAnswered.name(), 1)];
            ensure!(value == REDIRECT && told, "{} of {mtu} octets: {value}, {counted:?}", fits + 1);
            let at = if shape.inner_v6() { 14 + 40 + 6 } else { 14 + 20 + 6 };
            let limit = frame.get(at..at + 2).and_then(|word| word.try_into().ok()).map(u16::from_be_bytes);
            ensure!(limit.map(u32::from) == Some(fits), "told {limit:?}, and {fits} of {mtu} fit");
            Ok(())
        };
        answered(self, 2000)?;
        self.path.narrow(shape, Some(1500))?;
        answered(self, 1500)?;
        if !shape.is_tunnel() {
            // As what the stack learns from the answer looks like.
            self.path.narrow(shape, Some(fits(1500)))?;
            answered(self, 2000)?;
        }
        self.path.narrow(shape, Some(1280))?;
        if shape.inner_v6() {
            // Nobody may be told less than 1280 octets, and to who sends no more there is nothing to say.
            let Left { value, counted, .. } = self.leave(&plain(1280)?)?;
            ensure!(value == SHOT && counted == [(Counter::DropTooBig.name(), 1)], "1280 octets: {value}, {counted:?}");
            let Left { value, counted, .. } = self.leave(&plain(1281)?)?;
            let told = counted == [(Counter::TooBigAnswered.name(), 1)];
            ensure!(value == REDIRECT && told, "1281 octets: {value}, {counted:?}");
            let _ring = self.serve(true)?;
            let Left { value, frame, counted } = self.leave(&plain(1280)?)?;
            let large = frame.get(1).is_some_and(|flags| flags & FLAG_LARGE != 0);
            ensure!(value == REDIRECT && counted.is_empty() && large, "1280 octets, served: {value}, {counted:?}");
            self.serve(false)?;
        }
        // An error, and a later fragment.
        let mut unanswered = vec![];
        if shape.inner_v6() {
            unanswered.push(super::ip(src, dst, 58, 0, &[&[1, 0, 0, 0][..], &[7; 1400]].concat())?);
        } else {
            unanswered.push(super::ip(src, dst, 1, 0x4000, &[&[3, 1, 0, 0][..], &[7; 1400]].concat())?);
            if shape.is_tunnel() {
                unanswered.push(super::ip(src, dst, 17, 0x4001, &[7; 1400])?);
            }
        }
        for packet in unanswered {
            let Left { value, counted, .. } = self.leave(&packet)?;
            ensure!(value == SHOT && counted == [(Counter::DropTooBig.name(), 1)], "{value}, {counted:?}");
        }
        self.path.narrow(shape, None)
    }

    /// Whether somebody promises to take packets on the slow path from now on, and what he is given.
    pub(super) fn serve(&self, promised: bool) -> Result<RingBuf<MapData>> {
        let pinned = |name| MapData::from_pin(self.path.instance().pin(name));
        let mut state = Array::<_, Plain<SlowState>>::try_from(Map::Array(pinned(map::SLOW_STATE)?))?;
        state.set(0, Plain(SlowState { until: if promised { u64::MAX } else { 0 }, counts: [0; OUTCOMES] }), 0)?;
        Ok(RingBuf::try_from(Map::RingBuf(pinned(map::SLOW)?))?)
    }
}
