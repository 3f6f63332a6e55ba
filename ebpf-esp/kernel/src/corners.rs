//! Corners of RFC 4301 and RFC 4303 that no peer would come to by itself, through the real programs: routers that lie about
//! the path MTU, storms of ICMP errors, more packets lost than sequence numbers tell, fragments on SAs with ports.

mod early;
mod limits;
mod sizes;

use crate::check::sum;
use crate::instance::{DataPath, Place, SPI, Shape, ether_type, packet};
use crate::run;
use crate::support::Random;
use crate::test_object::Plain;
use crate::transforms::{self, Transform};
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use sadb_maps::Addr;
use sadb_maps::abi::map;
use sadb_maps::counter::Counter;
use sadb_maps::host::Counters;
use sadb_maps::host::spec::SaSpec;
use sadb_maps::sa::{ESP, InboundKey, NUMBERS_LEFT, PATH_MTU_AGE, PathMtu, SaSelectors, state};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const DROP: u32 = 1;
const PASS: u32 = 2;

const UDP: u8 = 17;

const SHAPES: [Shape; 2] =
    [Shape::Tunnel { outer_v6: false, inner_v6: false }, Shape::Tunnel { outer_v6: true, inner_v6: true }];

/// Runs all of it.
pub(crate) fn run(object: Option<&Path>) -> Result<()> {
    let path = DataPath::attach("corners", object)?;
    let counters = Counters::open(path.instance())?;
    let mut corners = Corners { path, counters, random: Random(4301) };
    for shape in SHAPES {
        corners.path_mtu(shape).with_context(|| format!("path MTU, {shape:?}"))?;
        corners.storm(shape).with_context(|| format!("ICMP errors, {shape:?}"))?;
        corners.fragments(shape).with_context(|| format!("fragments, {shape:?}"))?;
        corners.known_flow(shape).with_context(|| format!("a flow that is known, {shape:?}"))?;
        corners.nested(shape).with_context(|| format!("a tunnel in the tunnel, {shape:?}"))?;
        corners.running_out(shape).with_context(|| format!("few numbers left, {shape:?}"))?;
    }
    corners.hidden().context("hidden protocols")?;
    corners.early().context("fragments in UDP")?;
    for v6 in [false, true] {
        corners.quotes(v6).with_context(|| format!("what ICMP errors quote, IPv6 {v6}"))?;
    }
    corners.without_window().context("64-bit numbers without a window")?;
    for shape in Shape::ALL {
        corners.answers(shape).with_context(|| format!("answers to what is too big, {shape:?}"))?;
        corners.hard_limit(shape).with_context(|| format!("a hard limit of octets, {shape:?}"))?;
        for around in [false, true] {
            corners.ah_sizes(shape, around).with_context(|| format!("sizes of AH, {shape:?}, around ESP {around}"))?;
            if !shape.outer_v6() {
                corners.identified(shape, around).with_context(|| format!("cut AH, {shape:?}, around ESP {around}"))?;
            }
        }
    }
    for transform in transforms::ALL {
        corners.many_lost(transform).with_context(|| format!("lost packets, {}", transform.name))?;
    }
    println!("path MTU, ICMP errors, fragments and lost packets as the RFCs have them");
    Ok(())
}

/// What the program at egress of the outer interface made of a packet.
struct Left {
    value: i32,
    frame: Vec<u8>,
    counted: Vec<(&'static str, u64)>,
}

struct Corners {
    path: DataPath,
    counters: Counters,
    random: Random,
}

impl Corners {
    fn transform() -> Result<&'static Transform> {
        transforms::ALL.first().context("no transform")
    }

    fn protect(&mut self, shape: Shape, change: impl Fn(SaSpec) -> SaSpec) -> Result<Place> {
        let transform = Self::transform()?;
        let keys = transform.keys(&mut self.random, SPI, false);
        self.path.protect_with(shape, transform, &keys, change)
    }

    /// What the program at egress of the outer interface says to a packet of this host.
    fn leave(&self, packet: &[u8]) -> Result<Left> {
        let [first, ..] = packet else { bail!("an empty packet") };
        let frame = [&[0; 12][..], &ether_type(first >> 4 == 6), packet].concat();
        let before = self.counters.all()?;
        let (value, frame) = run::classify(&self.path.leaving, &frame, self.path.outer, 0)?;
        Ok(Left { value, frame, counted: self.counted(&before)? })
    }

    /// What the inbound program says to a frame, and which counters that added to.
    fn arrive(&self, frame: &[u8]) -> Result<(u32, Vec<(&'static str, u64)>)> {
        let before = self.counters.all()?;
        let outcome = run::once(&self.path.open, frame, self.path.outer)?;
        Ok((outcome.value, self.counted(&before)?))
    }

    /// Which counters have grown since, and by how much.
    fn counted(&self, before: &[(&'static str, u64)]) -> Result<Vec<(&'static str, u64)>> {
        let added = before.iter().zip(self.counters.all()?).map(|((_, before), (name, after))| (name, after - before));
        Ok(added.filter(|(_, added)| *added != 0).collect())
    }

    /// ARC-SPD-08: an IPv6 packet that does not say its upper-layer protocol goes no further, where it would pass by rules for
    /// another one.
    fn hidden(&self) -> Result<()> {
        let frame = |next: u8, extensions: &[u8]| -> Result<Vec<u8>> {
            let length = u16::try_from(extensions.len() + 8)?.to_be_bytes();
            let header = [&[0x60, 0, 0, 0][..], &length, &[next, 64], &[0x20; 16], &[0x30; 16]].concat();
            Ok([&[0; 12][..], &ether_type(true), &header, extensions, &[0, 53, 0, 53, 0, 8, 0, 0]].concat())
        };
        let options = |count: usize| {
            let mut headers = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
            if let Some(last) = count.checked_sub(1).and_then(|last| headers.get_mut(last * 8)) {
                *last = UDP;
            }
            frame(60, &headers)
        };
        let refused = [("drop-unreadable-header", 1)];
        let (_, counted) = self.arrive(&options(6)?)?;
        ensure!(counted != refused, "six headers are read over");
        for hidden in [options(7)?, options(12)?, frame(44, &[60, 0, 0, 8, 0, 0, 0, 1])?] {
            let (value, counted) = self.arrive(&hidden)?;
            ensure!(value == DROP && counted == refused, "{value}, counted {counted:?}: {hidden:02x?}");
        }
        Ok(())
    }

    fn sealed(&self, place: Place, inner: &[u8]) -> Result<Vec<u8>> {
        let [first, ..] = inner else { bail!("an empty packet") };
        let frame = [place.tag(true), ether_type(first >> 4 == 6).to_vec(), inner.to_vec()].concat();
        let sealed = run::once(&self.path.seal, &frame, 0)?;
        ensure!(sealed.value == PASS, "sealing: the program returned {}", sealed.value);
        Ok(sealed.frame)
    }

    fn path_mtus(&self) -> Result<HashMap<MapData, Plain<InboundKey>, Plain<PathMtu>>> {
        let pin = MapData::from_pin(self.path.instance().pin(map::PATH_MTUS))?;
        Ok(HashMap::try_from(Map::LruHashMap(pin))?)
    }

    /// ARC-ICMP-02, TUN-11, TUN-12: a router that knows the SPI may lower what is known about the way, down to a floor; nobody
    /// raises it, until it has aged. What is said about the packets of others is not kept.
    fn path_mtu(&mut self, shape: Shape) -> Result<()> {
        self.protect(shape, |spec| spec)?;
        let mut known = self.path_mtus()?;
        let [here, there] = shape.outer();
        let key = Plain(InboundKey { dst: Addr::from(there), spi: SPI, proto: ESP, reserved: [0; 3] });
        let octets = |known: &HashMap<_, _, _>| known.get(&key, 0).map_or(0, |Plain(mtu): Plain<PathMtu>| mtu.octets);
        let floor = if shape.outer_v6() { 1280 } else { 552 };
        let said = [(1400, 1400), (1500, 1400), (9000, 1400), (0, 1400), (1390, 1390), (1391, 1390), (1, floor)];
        for (mtu, kept) in said.into_iter().chain([(1400, floor)]) {
            let (value, _) = self.arrive(&too_big(here, there, ESP, SPI, mtu)?)?;
            ensure!(value == PASS, "what a router says: the program returned {value}");
            ensure!(octets(&known) == kept, "{mtu} was said, {} is known, not {kept}", octets(&known));
        }
        let Plain(mut aged) = known.get(&key, 0)?;
        aged.at = aged.at.wrapping_sub(PATH_MTU_AGE + 2);
        known.insert(key, Plain(aged), 0)?;
        self.arrive(&too_big(here, there, ESP, SPI, 1450)?)?;
        ensure!(octets(&known) == 1450, "it is still {} after {PATH_MTU_AGE} s", octets(&known));
        let entries = known.keys().count();
        // What we never sent: nothing that is sealed, and from a stranger's address.
        let mut stranger = too_big(here, there, ESP, SPI + 1, 1300)?;
        let end_of_source = if shape.outer_v6() { 14 + 40 + 8 + 23 } else { 14 + 20 + 8 + 15 };
        *stranger.get_mut(end_of_source).context("no quoted packet")? ^= 1;
        let unknown = too_big(here, there, ESP, SPI + 2, 1300)?;
        for frame in [stranger, unknown, too_big(here, there, UDP, SPI, 1300)?] {
            self.arrive(&frame)?;
        }
        ensure!(known.keys().count() == entries && octets(&known) == 1450, "what others sent is not ours");
        Ok(())
    }

    /// ARC-ICMP-07: whatever ICMP errors say about sealed packets and protected ones, and however many there are, SAs stay what
    /// they were and key management hears nothing.
    fn storm(&mut self, shape: Shape) -> Result<()> {
        let place = self.protect(shape, |spec| spec)?;
        let inner = packet(shape, 253, 64, &mut self.random)?;
        let frame = self.sealed(place, &inner)?;
        let (value, _) = self.arrive(&frame)?;
        ensure!(value == PASS, "before the storm: the program returned {value}");
        let before = self.path.inbound(shape)?;
        let [here, there] = shape.outer();
        let [inner_here, inner_there] = shape.inner();
        let counters = self.counters.all()?;
        for kind in 0..=u8::MAX {
            for code in [0, 1, 4, 255] {
                for (us, them, proto) in [(here, there, ESP), (here, there, 51), (inner_here, inner_there, UDP)] {
                    // Beside the SPI that is in use, some that are not.
                    let spi = if kind % 2 == 0 { SPI } else { self.random.below(1 << 31) as u32 };
                    let frame = icmp_error(us, them, (kind, code), proto, spi, 1400)?;
                    run::once(&self.path.open, &frame, self.path.outer)?;
                }
            }
        }
        let counted = self.counted(&counters)?;
        let heard = [Counter::Acquires, Counter::Expires, Counter::EventsLost, Counter::Moves].map(Counter::name);
        ensure!(!counted.iter().any(|(name, _)| heard.contains(name)), "key management hears of it: {counted:?}");
        let after = self.path.inbound(shape)?;
        let state = |sa: &sadb_maps::host::spec::SaInfo| (sa.packets, sa.bytes, sa.auth_failed, sa.replayed, sa.top);
        ensure!(state(&before) == state(&after), "the SA was {:?} and is {:?}", state(&before), state(&after));
        ensure!(self.path.sas()? == 2, "there are {} SAs, not 2", self.path.sas()?);
        let frame = self.sealed(place, &inner)?;
        let (value, _) = self.arrive(&frame)?;
        ensure!(value == PASS, "after the storm: the program returned {value}");
        Ok(())
    }

    /// ARC-ICMP-01: an ICMP error in clear about a protected flow is refused wherever it goes to, since the stack looks for the
    /// flow that it quotes; one about another flow passes.
    fn quotes(&mut self, v6: bool) -> Result<()> {
        let shape = Shape::Transport { v6 };
        let transform = Self::transform()?;
        let keys = transform.keys(&mut self.random, SPI, false);
        self.path.protect(shape, transform, &keys)?;
        self.path.protect_own(shape, transform, &keys)?;
        let [here, there] = shape.outer();
        let error = icmp_error(here, there, if v6 { (1, 4) } else { (3, 3) }, UDP, 0x04d2_0035, 0)?;
        // The last octet of the destination of the error, and of the quoted packet.
        let (to, quoted) = if v6 { (14 + 39, 14 + 40 + 8 + 39) } else { (14 + 19, 14 + 20 + 8 + 19) };
        for (what, changed, refused) in [
            ("to the sender of the flow", None, true),
            ("to somebody else", Some(to), true),
            ("about another flow", Some(quoted), false),
        ] {
            let mut frame = error.clone();
            if let Some(octet) = changed.and_then(|at| frame.get_mut(at)) {
                *octet ^= 8;
            }
            let (value, counted) = self.arrive(&frame)?;
            let right = if refused {
                value == DROP && counted == [(Counter::DropClearIn.name(), 1)]
            } else {
                value == PASS && counted == [(Counter::BypassedIn.name(), 1)]
            };
            ensure!(right, "{what}: the program returned {value} and counted {counted:?}");
        }
        Ok(())
    }

    /// ARC-IN-01, ARC-IN-03: that a flow has been let out of an SA counts for that SA and for the policy of then only.
    fn known_flow(&mut self, shape: Shape) -> Result<()> {
        let transform = Self::transform()?;
        let keys = transform.keys(&mut self.random, SPI, false);
        let inner = packet(shape, 253, 64, &mut self.random)?;
        let place = self.path.protect(shape, transform, &keys)?;
        let expect = |path: &mut Self, place: Place, what: &str, expected: Option<Counter>| -> Result<()> {
            let frame = path.sealed(place, &inner)?;
            let (value, counted) = path.arrive(&frame)?;
            let right = match expected {
                None => value == PASS,
                Some(reason) => value == DROP && counted == [(reason.name(), 1)],
            };
            ensure!(right, "{what}: the program returned {value} and counted {counted:?}");
            Ok(())
        };
        for _ in 0..3 {
            expect(self, place, "a flow", None)?;
        }
        let other = |spec: SaSpec| {
            let selectors = SaSelectors {
                src_high: all_ones(spec.src),
                dst_high: all_ones(spec.dst),
                src_low: Addr::from(lowest(spec.src)),
                dst_low: Addr::from(lowest(spec.dst)),
                sport: [0, u16::MAX],
                dport: [0, u16::MAX],
                proto: UDP,
                reserved: [0; 7],
            };
            SaSpec { selectors: Some(selectors), ..spec }
        };
        let narrow = self.path.other_sas(shape, transform, &keys, place, other)?;
        expect(self, narrow, "an SA for another protocol", Some(Counter::DropSelector))?;
        let wide = self.path.other_sas(shape, transform, &keys, place, |spec| spec)?;
        expect(self, wide, "an SA for everything again", None)?;
        // Another length of the key, which no SA has.
        let long = transforms::ALL.iter().find(|other| other.name != transform.name).context("one transform")?;
        let wrong = long.keys(&mut self.random, SPI, false);
        let strict = self.path.other_policy(wide, shape, long, &wrong)?;
        expect(self, strict, "a policy that asks for something else", Some(Counter::DropPolicyMismatch))
    }

    /// ARC-IN-04: ESP for this host that comes out of a tunnel is opened from the top, each layer with its own SA, as deep as it
    /// goes; what no SA opens is dropped, and so is what the policy of the tunnel does not let out.
    fn nested(&mut self, shape: Shape) -> Result<()> {
        let transform = Self::transform()?;
        let [first, second, unknown] = [SPI, SPI + 1, SPI + 2].map(|spi| transform.keys(&mut self.random, spi, false));
        let inner = packet(shape, 253, 64, &mut self.random)?;
        let place = self.path.protect(shape, transform, &first)?;
        let other = self.path.add_another(shape, transform, &second, place)?;
        let once = self.sealed(other, &inner)?;
        let twice = self.sealed(place, once.get(14..).context("no packet")?)?;
        let (value, counted) = self.arrive(&twice)?;
        let refused = (Counter::DropPolicyMismatch.name(), 1);
        ensure!(value == DROP && counted == [refused], "not for this tunnel: {value}, {counted:?}");

        let [place, other] = self.path.allow_nested([place, other], shape, transform, &first)?;
        let mut frame = self.sealed(other, &inner)?;
        for place in [place, other, place] {
            frame = self.sealed(place, frame.get(14..).context("no packet")?)?;
        }
        let before = self.counters.all()?;
        let opened = run::once(&self.path.open, &frame, self.path.outer)?;
        let counted = self.counted(&before)?;
        ensure!(opened.value == PASS && counted == [(Counter::OpenedOk.name(), 4)], "{}, {counted:?}", opened.value);
        ensure!(opened.frame.get(14..) == Some(&inner[..]), "another packet came out: {:02x?}", opened.frame);

        // The inner layer again, in a new outer one: it is a replay whatever is around it.
        let again = self.sealed(place, once.get(14..).context("no packet")?)?;
        let _ = self.arrive(&again)?;
        let again = self.sealed(place, once.get(14..).context("no packet")?)?;
        let (value, counted) = self.arrive(&again)?;
        let replayed = counted.iter().any(|(name, _)| *name == Counter::DropReplay.name());
        ensure!(value == DROP && replayed, "the same inside: {value}, {counted:?}");

        let mut stranger = unknown.seal(&inner, 1, &unknown.iv(1), if shape.inner_v6() { 41 } else { 4 });
        let [src, dst] = shape.outer();
        stranger = ip(src, dst, ESP, 0, &stranger)?;
        let frame = self.sealed(place, &stranger)?;
        let (value, counted) = self.arrive(&frame)?;
        let unknown = counted.iter().any(|(name, _)| *name == Counter::DropNoSaIn.name());
        ensure!(value == DROP && unknown, "an SPI that nobody has: {value}, {counted:?}");
        Ok(())
    }

    /// ESP-FMT-05: an SA that has a sixteenth of its 32-bit sequence numbers left is dying, which key management hears of once,
    /// and carries packets all the same; one with 64-bit numbers has enough.
    fn running_out(&mut self, shape: Shape) -> Result<()> {
        let transform = Self::transform()?;
        for esn in [true, false] {
            let keys = transform.keys(&mut self.random, SPI, esn);
            let place = self.path.protect(shape, transform, &keys)?;
            let expires = self.counters.get(Counter::Expires)?;
            self.path.outbound_at(place, u64::from(u32::MAX) - NUMBERS_LEFT + 1)?;
            let mut looks = 0;
            // Negative, it looks for three ticks of the sweep; else as long as it takes on a busy machine.
            while self.path.outbound_state(shape)? == state::MATURE && looks < if esn { 15 } else { 1200 } {
                std::thread::sleep(Duration::from_millis(50));
                looks += 1;
            }
            let dying = self.path.outbound_state(shape)? == state::DYING;
            let told = self.counters.get(Counter::Expires)? - expires;
            ensure!((dying, told) == (!esn, u64::from(!esn)), "ESN {esn}: dying {dying}, told {told} times");
            let inner = packet(shape, 253, 64, &mut self.random)?;
            self.sealed(place, &inner).context("an SA that is dying")?;
        }
        Ok(())
    }

    /// ARC-FRG-03, ARC-FRG-05: an SA with ports takes nothing in which no ports can be seen, as nobody negotiates that it would; one
    /// without takes every fragment (ARC-FRG-02).
    fn fragments(&mut self, shape: Shape) -> Result<()> {
        for ports in [false, true] {
            let selectors = |spec: SaSpec| {
                let any = SaSelectors {
                    src_high: all_ones(spec.src),
                    dst_high: all_ones(spec.dst),
                    src_low: Addr::from(lowest(spec.src)),
                    dst_low: Addr::from(lowest(spec.dst)),
                    sport: [0, u16::MAX],
                    dport: if ports { [0, 4010] } else { [0, u16::MAX] },
                    proto: UDP,
                    reserved: [0; 7],
                };
                SaSpec { selectors: Some(any), ..spec }
            };
            let place = self.protect(shape, selectors)?;
            for (what, offset, more, fits) in [
                ("a whole packet", 0, false, true),
                ("a first fragment", 0, true, true),
                ("a later fragment", 64, true, !ports),
                ("the last fragment", 1280, false, !ports),
                // It would write the ports anew.
                ("a fragment of one piece", 8, false, !ports),
            ] {
                let inner = udp(shape, 4005, (offset, more), &mut self.random)?;
                let frame = self.sealed(place, &inner)?;
                let (value, counted) = self.arrive(&frame)?;
                let refused = counted.iter().any(|(name, _)| *name == Counter::DropSelector.name());
                ensure!(
                    (value == PASS, refused) == (fits, !fits),
                    "{what}, ports {ports}: the program returned {value} and counted {counted:?}"
                );
            }
            let inner = udp(shape, 4011, (0, false), &mut self.random)?;
            let frame = self.sealed(place, &inner)?;
            let (value, _) = self.arrive(&frame)?;
            ensure!((value == PASS) != ports, "another port, ports {ports}: the program returned {value}");
        }
        Ok(())
    }

    /// ESP-FMT-06, ESP-IN-07: 64-bit numbers without replay protection: the receiver follows the high half over the end of the
    /// low one, and takes a packet again.
    fn without_window(&mut self) -> Result<()> {
        let shape = Shape::Tunnel { outer_v6: false, inner_v6: false };
        let transform = Self::transform()?;
        let keys = transform.keys(&mut self.random, SPI, true);
        let first = (1 << 32) - 3;
        let place = self.path.protect_with(shape, transform, &keys, |spec| SaSpec {
            replay_window: 0,
            replay_value: first,
            ..spec
        })?;
        let inner = packet(shape, 253, 64, &mut self.random)?;
        for ahead in 1..8 {
            let frame = self.sealed(place, &inner)?;
            for _ in 0..2 {
                let (value, counted) = self.arrive(&frame)?;
                ensure!(value == PASS, "{ahead} ahead: the program returned {value} and counted {counted:?}");
            }
        }
        let top = self.path.inbound(shape)?.top;
        ensure!(top == first + 7, "the receiver is at {top:#x}");
        Ok(())
    }

    /// ESP-IN-08: a receiver that has lost 2^32 packets or more cannot tell the high half of the next number (RFC 4303 appendix A3
    /// is not done; `ipseckey(8)` says so): such packets are not authentic, whatever they carry, and move nothing; those of
    /// the window are taken as before, and one less than 2^32 ahead moves it.
    fn many_lost(&mut self, transform: &'static Transform) -> Result<()> {
        const FIRST: u64 = 0x1_2345_6789;
        let shape = Shape::Tunnel { outer_v6: false, inner_v6: false };
        let keys = transform.keys(&mut self.random, SPI, true);
        let place = self.path.protect_with(shape, transform, &keys, |spec| SaSpec { replay_value: FIRST, ..spec })?;
        let inner = packet(shape, 253, 64, &mut self.random)?;
        let mut last = FIRST;
        for (ahead, authentic) in [
            (1, true),
            (u64::from(u32::MAX) - 2000, true),
            (1 << 32, false),
            ((1 << 32) + 5, false),
            (5 << 32, false),
            (2, true),
        ] {
            self.path.outbound_at(place, last + ahead - 1)?;
            let frame = self.sealed(place, &inner)?;
            let before = self.path.inbound(shape)?;
            let (value, counted) = self.arrive(&frame)?;
            let after = self.path.inbound(shape)?;
            if authentic {
                last += ahead;
                ensure!(value == PASS && after.top == last, "{ahead} ahead: {value}, {counted:?}, top {}", after.top);
                continue;
            }
            // Taken for a number of the window, which some of them are, it is a replay.
            let reasons = [Counter::DropAuth.name(), Counter::DropReplay.name()];
            ensure!(
                value == DROP && counted.iter().all(|(name, _)| reasons.contains(name)) && after.top == before.top,
                "{ahead} ahead: the program returned {value} and counted {counted:?}"
            );
        }
        Ok(())
    }
}

impl DataPath {
    /// The outbound SA has given out this sequence number last.
    fn outbound_at(&self, place: Place, last: u64) -> Result<()> {
        self.change_state(place, |state| state.seq = last).map(drop)
    }
}

/// The first address of its family.
fn lowest(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }
}

/// The last address of its family.
fn all_ones(like: IpAddr) -> Addr {
    Addr::from(if like.is_ipv4() { IpAddr::from([255; 4]) } else { IpAddr::from([255; 16]) })
}

/// An IP packet without options, with what stands behind its header.
fn ip(src: IpAddr, dst: IpAddr, proto: u8, fragment: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = vec![];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet.extend([0x45, 0]);
            packet.extend(u16::try_from(20 + payload.len())?.to_be_bytes());
            packet.extend([0, 7]);
            packet.extend(fragment.to_be_bytes());
            packet.extend([64, proto, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            let checksum = !sum(&packet);
            packet.splice(10..12, checksum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(u16::try_from(payload.len())?.to_be_bytes());
            packet.extend([proto, 64]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
        }
        _ => bail!("addresses of two families"),
    }
    packet.extend(payload);
    Ok(packet)
}

/// A UDP datagram of the tunnel, or the fragment of one that begins `offset` octets into it.
fn udp(shape: Shape, dport: u16, (offset, more): (u16, bool), random: &mut Random) -> Result<Vec<u8>> {
    let [src, dst] = shape.inner();
    let mut payload = random.bytes(64);
    if offset == 0 {
        let header = [1234u16.to_be_bytes(), dport.to_be_bytes(), 64u16.to_be_bytes(), [0, 0]].concat();
        payload.splice(..8, header);
    }
    let place = offset / 8;
    if shape.inner_v6() && (offset != 0 || more) {
        let field = place << 3 | u16::from(more);
        let header = [&[UDP, 0][..], &field.to_be_bytes(), &7u32.to_be_bytes()].concat();
        return ip(src, dst, 44, 0, &[header, payload].concat());
    }
    ip(src, dst, UDP, place | if more { 0x2000 } else { 0 }, &payload)
}

/// The frame with which a router says that a packet of `src` is too big for it.
fn too_big(src: IpAddr, dst: IpAddr, proto: u8, spi: u32, mtu: u16) -> Result<Vec<u8>> {
    icmp_error(src, dst, if src.is_ipv4() { (3, 4) } else { (2, 0) }, proto, spi, mtu)
}

/// The frame with which a router says something about a packet from `src` to `dst` that begins with `spi`.
fn icmp_error(src: IpAddr, dst: IpAddr, (kind, code): (u8, u8), proto: u8, spi: u32, mtu: u16) -> Result<Vec<u8>> {
    let mut behind = spi.to_be_bytes().to_vec();
    if proto == 51 {
        behind.splice(..0, [59, 4, 0, 0]);
    }
    behind.extend([0; 60]);
    let quoted = ip(src, dst, proto, 0x4000, &behind)?;
    let (router, number): (IpAddr, u8) = match src {
        IpAddr::V4(_) => ([198, 51, 100, 9].into(), 1),
        IpAddr::V6(_) => ([0x2001, 0xdb8, 1, 0, 0, 0, 0, 9].into(), 58),
    };
    // The programs leave the checksum to the stack.
    let message = [&[kind, code, 0, 0, 0, 0][..], &mtu.to_be_bytes(), &quoted].concat();
    Ok([vec![0; 12], ether_type(src.is_ipv6()).to_vec(), ip(router, src, number, 0, &message)?].concat())
}
