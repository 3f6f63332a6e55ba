//! The real programs, attached in a network namespace of this process, with SAs and rules of its own. One instance plays
//! both ends: it seals as A and opens as B.

use crate::reference::Keys;
use crate::support::Random;
use crate::test_object::Plain;
use crate::transforms::Transform;
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData};
use aya::programs::{SchedClassifier, Xdp};
use aya_obj::programs::XdpAttachType;
use bytemuck::Zeroable;
use nix::sched::{CloneFlags, unshare};
use sadb_maps::Addr;
use sadb_maps::abi::{self, program};
use sadb_maps::host::instance::STATE_DIR;
use sadb_maps::host::spec::{Direction, IvSource, Mode, SaInfo, SaKey, SaSpec};
use sadb_maps::host::{AttachOptions, CompiledRule, Instance, Loader, Sadb, SecretKey, Spd};
use sadb_maps::policy::{Action, Rule, direction, rule_flag, verdict};
use sadb_maps::sa::{AH, ESP, SaState, SlotRef};
use sadb_maps::tag::{FLAG_LOCAL, Tag};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

/// The outer interface. Its MTU leaves room for ESP around packets of 1500 octets.
const OUTER: &str = "wan0";

/// The stage that ends sealing, by the name that the loader pins it under.
const SEAL_END: &str = "seal_end";

const MTU: u32 = 2000;

/// Of both SAs.
pub(crate) const SPI: u32 = 0x1001;

/// Mode, and the family inside and outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Tunnel { outer_v6: bool, inner_v6: bool },
    Transport { v6: bool },
}

impl Shape {
    pub(crate) const ALL: [Self; 6] = [
        Self::Tunnel { outer_v6: false, inner_v6: false },
        Self::Tunnel { outer_v6: false, inner_v6: true },
        Self::Tunnel { outer_v6: true, inner_v6: false },
        Self::Tunnel { outer_v6: true, inner_v6: true },
        Self::Transport { v6: false },
        Self::Transport { v6: true },
    ];

    pub(crate) fn is_tunnel(self) -> bool {
        matches!(self, Self::Tunnel { .. })
    }

    /// Whether the packet that is to be protected is IPv6.
    pub(crate) fn inner_v6(self) -> bool {
        matches!(self, Self::Tunnel { inner_v6: true, .. } | Self::Transport { v6: true })
    }

    /// Whether the protected packet is IPv6.
    pub(crate) fn outer_v6(self) -> bool {
        matches!(self, Self::Tunnel { outer_v6: true, .. } | Self::Transport { v6: true })
    }

    /// Outer source and destination.
    pub(crate) fn outer(self) -> [IpAddr; 2] {
        if self.outer_v6() {
            [[0x2001, 0xdb8, 1, 0, 0, 0, 0, 2].into(), [0x2001, 0xdb8, 1, 0, 0, 0, 0, 1].into()]
        } else {
            [[198, 51, 100, 2].into(), [198, 51, 100, 1].into()]
        }
    }

    /// Source and destination of the packet that is to be protected.
    pub(crate) fn inner(self) -> [IpAddr; 2] {
        match self {
            Self::Transport { .. } => self.outer(),
            Self::Tunnel { inner_v6: true, .. } => {
                [[0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1].into(), [0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1].into()]
            }
            Self::Tunnel { .. } => [[10, 1, 0, 1].into(), [10, 2, 0, 1].into()],
        }
    }
}

/// Where the outbound SA and its rule are: what TC writes into the tag of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    sa: SlotRef,
    generation: u32,
}

impl Place {
    /// The twelve octets that TC puts in the place of the MAC addresses; `known` tells whether it had found the SA.
    pub(crate) fn tag(&self, known: bool) -> Vec<u8> {
        self.tag_with(known, 0)
    }

    /// The same with more flags.
    pub(crate) fn tag_with(&self, known: bool, flags: u8) -> Vec<u8> {
        let (slot, generation) = if known { (self.sa.slot, self.sa.generation & 0xff_ffff) } else { (0, 0) };
        let tag = Tag { flags: FLAG_LOCAL | flags, rule: 0, policy: self.generation as u16, slot, generation };
        tag.to_words().into_iter().flat_map(u32::to_ne_bytes).collect()
    }
}

pub(crate) struct DataPath {
    instance: Instance,
    sadb: Sadb,
    spd: Spd,
    /// Index of the outer interface.
    pub(crate) outer: u32,
    pub(crate) seal: Xdp,
    pub(crate) open: Xdp,
    /// The last program of sealing: headers and exit.
    pub(crate) seal_end: Xdp,
    /// At the traffic-control hooks of the outer interface: what leaves, and what has come in.
    pub(crate) leaving: SchedClassifier,
    pub(crate) behind: SchedClassifier,
}

/// Attaches the programs of an object to interfaces of this network namespace.
pub(crate) fn attach(instance: &str, object: &Path, interfaces: &[String]) -> Result<()> {
    let options = AttachOptions { object: Some(read(object)?), ..AttachOptions::default() };
    let interfaces: Vec<&str> = interfaces.iter().map(String::as_str).collect();
    Loader::attach(&Instance::open(instance)?, &interfaces, &options)?;
    Ok(())
}

/// The octets of an object, for as long as this process lives.
pub(crate) fn read(object: &Path) -> Result<&'static [u8]> {
    let octets = std::fs::read(object).with_context(|| format!("reading {}", object.display()))?;
    Ok(octets.leak())
}

impl DataPath {
    /// Makes the namespace and attaches the programs of `object`, or those that `sadb-maps` has embedded. `name` is a
    /// short word.
    pub(crate) fn attach(name: &str, object: Option<&Path>) -> Result<Self> {
        Self::attach_with_room(name, object, 16)
    }

    /// The same with room for `capacity` SAs.
    pub(crate) fn attach_with_room(name: &str, object: Option<&Path>, capacity: u32) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "BPF programs need root: run this as root");
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        for line in [
            format!("link add {OUTER} mtu {MTU} type veth peer name peer0 mtu {MTU}"),
            "link set lo up".to_owned(),
            "link set peer0 up".to_owned(),
            format!("link set {OUTER} up"),
            format!("address add 198.51.100.2/24 dev {OUTER}"),
            format!("address add 2001:db8:1::2/64 dev {OUTER} nodad"),
        ] {
            ip(&line)?;
        }
        // As the labs call theirs, so that what a killed process leaves is removed by the next lab.
        let instance = Instance::open(&format!("xtask-{}-{name}", std::process::id()))?;
        let removed = Removed(instance.clone());
        let options = AttachOptions {
            capacity: Some(capacity),
            object: object.map(read).transpose()?,
            ..AttachOptions::default()
        };
        let report = Loader::attach(&instance, &[OUTER], &options)?;
        ensure!(report.interfaces.iter().all(|interface| interface.native), "XDP does not run in the driver");
        let xdp = |name| Xdp::from_pin(instance.pin(name), XdpAttachType::Interface);
        let path = Self {
            sadb: Sadb::open(&instance)?,
            spd: Spd::open(&instance)?,
            outer: nix::net::if_::if_nametoindex(OUTER)?,
            seal: xdp(program::XDP_IPSEC0X)?,
            open: xdp(program::XDP_OUTER)?,
            seal_end: xdp(SEAL_END)?,
            leaving: SchedClassifier::from_pin(instance.pin(program::TC_OUTER_EGRESS))?,
            behind: SchedClassifier::from_pin(instance.pin(program::TC_OUTER_INGRESS))?,
            instance,
        };
        std::mem::forget(removed);
        Ok(path)
    }

    /// The way to the other end of the tunnel, or of transport mode, passes `mtu` octets; as much as the link with `None`.
    pub(crate) fn narrow(&self, shape: Shape, mtu: Option<u32>) -> Result<()> {
        let [_, there] = shape.outer();
        let mtu = mtu.map_or(String::new(), |mtu| format!(" mtu lock {mtu}"));
        ip(&format!("route replace {there} dev {OUTER}{mtu}"))
    }

    /// Replaces the policy by one that protects everything between the ends, as seen from here, both ways.
    pub(crate) fn protect_own(&mut self, shape: Shape, transform: &Transform, keys: &Keys) -> Result<()> {
        let mut own = rule(shape, direction::OUT, action(transform, keys)?)?;
        own.rule.directions = direction::OUT | direction::IN;
        self.spd.replace(&[own]).map(drop).map_err(Into::into)
    }

    /// The policy.
    pub(crate) fn policy(&mut self) -> &mut Spd {
        &mut self.spd
    }

    /// The instance.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Replaces policy and SAs.
    pub(crate) fn protect(&mut self, shape: Shape, transform: &Transform, keys: &Keys) -> Result<Place> {
        self.protect_with(shape, transform, keys, |spec| spec)
    }

    /// The same with SAs that `change` makes of the usual ones.
    pub(crate) fn protect_with(
        &mut self,
        shape: Shape,
        transform: &Transform,
        keys: &Keys,
        change: impl Fn(SaSpec) -> SaSpec,
    ) -> Result<Place> {
        self.sadb.flush(None)?;
        let generation = self.allow(shape, transform, keys)?;
        self.add_pair(shape, transform, keys, generation, change)
    }

    /// Replaces policy and SAs by ones without ESP's keys: `change` gives theirs, which `action` accepts.
    pub(crate) fn protect_by(
        &mut self,
        shape: Shape,
        action: Action,
        change: impl Fn(SaSpec) -> SaSpec,
    ) -> Result<Place> {
        self.sadb.flush(None)?;
        let generation = self.allow_by(shape, action)?;
        let [src, dst] = shape.outer();
        self.add_both(change(blank(shape, src, dst, SPI)), generation)
    }

    /// Replaces the SAs and leaves the policy, which `place` was made for.
    pub(crate) fn other_sas(
        &mut self,
        shape: Shape,
        transform: &Transform,
        keys: &Keys,
        place: Place,
        change: impl Fn(SaSpec) -> SaSpec,
    ) -> Result<Place> {
        self.sadb.flush(None)?;
        self.add_pair(shape, transform, keys, place.generation, change)
    }

    /// Replaces the policy by one that accepts these keys and leaves the SAs. Gives the outbound one its place in it.
    pub(crate) fn other_policy(
        &mut self,
        place: Place,
        shape: Shape,
        transform: &Transform,
        keys: &Keys,
    ) -> Result<Place> {
        Ok(Place { generation: self.allow(shape, transform, keys)?, ..place })
    }

    /// The same with `count` pairs of SAs, with keys of their own and ascending SPIs.
    pub(crate) fn protect_with_pairs(
        &mut self,
        shape: Shape,
        transform: &Transform,
        count: u32,
        random: &mut Random,
    ) -> Result<Vec<Place>> {
        self.sadb.flush(None)?;
        let mut keys = transform.keys(random, SPI, false);
        let generation = self.allow(shape, transform, &keys)?;
        let mut pair = |spi| {
            keys = transform.keys(random, spi, false);
            self.add_pair(shape, transform, &keys, generation, |spec| spec)
        };
        (SPI..SPI + count).map(&mut pair).collect()
    }

    /// Replaces the policy by one that accepts these keys, both ways. Gives its generation.
    fn allow(&mut self, shape: Shape, transform: &Transform, keys: &Keys) -> Result<u32> {
        self.allow_by(shape, action(transform, keys)?)
    }

    fn allow_by(&mut self, shape: Shape, action: Action) -> Result<u32> {
        Ok(self.spd.replace(&[rule(shape, direction::OUT, action)?, rule(shape, direction::IN, action)?])?)
    }

    /// Adds the SAs of both directions, which have the same SPI and the same keys.
    fn add_pair(
        &mut self,
        shape: Shape,
        transform: &Transform,
        keys: &Keys,
        generation: u32,
        change: impl Fn(SaSpec) -> SaSpec,
    ) -> Result<Place> {
        let [src, dst] = shape.outer();
        let spec = change(SaSpec {
            encr: transform.encr,
            key: SecretKey::new(keys.key.clone()),
            salt: SecretKey::new(keys.salt.clone()),
            auth: transform.auth(),
            auth_key: SecretKey::new(keys.auth_key.clone()),
            esn: keys.esn,
            ..blank(shape, src, dst, keys.spi)
        });
        self.add_both(spec, generation)
    }

    fn add_both(&mut self, spec: SaSpec, generation: u32) -> Result<Place> {
        self.sadb.add(&SaSpec { direction: Direction::In, ..spec.clone() })?;
        let sa = self.sadb.add(&SaSpec { direction: Direction::Out, ..spec })?;
        Ok(Place { sa, generation })
    }

    /// Replaces policy and SAs by AH with HMAC-SHA2-256-128 in both directions, around ESP with these keys or alone. Gives the
    /// outbound SA that is applied first, and the other one.
    pub(crate) fn protect_by_ah(
        &mut self,
        shape: Shape,
        esp: Option<(&Transform, &Keys)>,
        random: &mut Random,
    ) -> Result<(Place, Option<Place>)> {
        const HMAC_SHA256: u8 = 5;
        let action = match esp {
            Some((transform, keys)) => action(transform, keys)?,
            None => Action::default(),
        };
        let action = Action { ah: HMAC_SHA256, ah_bits: [256; 2], ..action };
        let rules: Result<Vec<CompiledRule>> = [direction::OUT, direction::IN]
            .into_iter()
            .map(|way| {
                let mut made = rule(shape, way, action)?;
                made.rule.flags |= rule_flag::AH;
                Ok(made)
            })
            .collect();
        self.sadb.flush(None)?;
        let generation = self.spd.replace(&rules?)?;
        let [src, dst] = shape.outer();
        let spec = SaSpec {
            mode: if shape.is_tunnel() { Mode::Tunnel } else { Mode::Transport },
            auth: HMAC_SHA256,
            // All equal octets are a key that is refused.
            auth_key: SecretKey::new((0..32).map(|_| random.next() as u8).collect()),
            replay_window: 1024,
            ..SaSpec::new(AH, SPI, src, dst)
        };
        self.sadb.add(&SaSpec { direction: Direction::In, ..spec.clone() })?;
        let sa = self.sadb.add(&SaSpec { direction: Direction::Out, ..spec })?;
        let ah = Place { sa, generation };
        match esp {
            Some((transform, keys)) => Ok((self.add_pair(shape, transform, keys, generation, |spec| spec)?, Some(ah))),
            None => Ok((ah, None)),
        }
    }

    /// The mutable part of an outbound SA, as `change` makes it.
    pub(crate) fn change_state(&self, place: Place, change: impl FnOnce(&mut SaState)) -> Result<SaState> {
        let pin = MapData::from_pin(self.instance.pin(abi::map::SA_STATE))?;
        let mut states = Array::<_, Plain<SaState>>::try_from(Map::Array(pin))?;
        let Plain(mut state) = states.get(&place.sa.slot, 0)?;
        change(&mut state);
        states.set(place.sa.slot, Plain(state), 0)?;
        Ok(state)
    }

    /// Leaves in the outbound SAs the route of their packets, as TC does with every packet that it classifies: then the XDP
    /// program looks none up.
    pub(crate) fn remember_route(&self, places: &[Place]) -> Result<()> {
        places.iter().try_for_each(|place| self.set_route(*place, MTU))
    }

    /// The same for one, and a way on which `mtu` octets pass.
    pub(crate) fn set_route(&self, place: Place, mtu: u32) -> Result<()> {
        self.change_state(place, |state| state.route = u64::from(mtu) << 32 | u64::from(self.outer)).map(drop)
    }

    /// State of the outbound SA.
    pub(crate) fn outbound_state(&mut self, shape: Shape) -> Result<u32> {
        let [_, dst] = shape.outer();
        Ok(self.sadb.get(&SaKey { direction: Direction::Out, ..SaKey::new(ESP, SPI, dst) })?.state)
    }

    /// Replaces the policy by one that lets sealed packets between the ends of the tunnel into it as well.
    pub(crate) fn allow_nested(
        &mut self,
        places: [Place; 2],
        shape: Shape,
        transform: &Transform,
        keys: &Keys,
    ) -> Result<[Place; 2]> {
        let action = action(transform, keys)?;
        let mut rules = vec![];
        for way in [direction::OUT, direction::IN] {
            let plain = rule(shape, way, action)?;
            let mut nested = plain.clone();
            nested.rule.laddr = nested.rule.tunnel_local;
            nested.rule.raddr = nested.rule.tunnel_remote;
            nested.rule.proto = ESP;
            rules.extend([plain, nested]);
        }
        let generation = self.spd.replace(&rules)?;
        Ok(places.map(|place| Place { generation, ..place }))
    }

    /// Adds another pair of SAs beside the one that is there.
    pub(crate) fn add_another(
        &mut self,
        shape: Shape,
        transform: &Transform,
        keys: &Keys,
        place: Place,
    ) -> Result<Place> {
        self.add_pair(shape, transform, keys, place.generation, |spec| spec)
    }

    /// Number of SAs.
    pub(crate) fn sas(&mut self) -> Result<usize> {
        Ok(self.sadb.dump(None)?.len())
    }

    /// The inbound SA as it is now.
    pub(crate) fn inbound(&mut self, shape: Shape) -> Result<SaInfo> {
        let [_, dst] = shape.outer();
        Ok(self.sadb.get(&SaKey { direction: Direction::In, ..SaKey::new(ESP, SPI, dst) })?)
    }
}

impl Drop for DataPath {
    fn drop(&mut self) {
        drop(Removed(self.instance.clone()));
    }
}

/// Takes an instance away.
struct Removed(Instance);

impl Drop for Removed {
    fn drop(&mut self) {
        // Nothing is left to report to; the next lab removes what stays behind.
        let _ = Loader::detach_all(&self.0);
        for directory in ["/run/ipsec", STATE_DIR] {
            let _ = std::fs::remove_dir_all(Path::new(directory).join(self.0.name()));
        }
    }
}

/// An SA without keys.
fn blank(shape: Shape, src: IpAddr, dst: IpAddr, spi: u32) -> SaSpec {
    SaSpec {
        mode: if shape.is_tunnel() { Mode::Tunnel } else { Mode::Transport },
        replay_window: 1024,
        iv: IvSource::FreshKey,
        ..SaSpec::new(ESP, spi, src, dst)
    }
}

/// Runs `ip` with what is between blanks.
fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split_whitespace()).output().context("could not start ip")?;
    if !output.status.success() {
        bail!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// What accepts these keys and no others.
fn action(transform: &Transform, keys: &Keys) -> Result<Action> {
    let bits = |key: &[u8]| u16::try_from(key.len() * 8).map(|bits| [bits, bits]);
    Ok(Action {
        encr: transform.encr,
        encr_bits: bits(&keys.key)?,
        esp_auth: transform.auth(),
        esp_auth_bits: bits(&keys.auth_key)?,
        ..Action::default()
    })
}

/// The rule for one direction: this end is A for what goes out and B for what comes in.
fn rule(shape: Shape, way: u8, action: Action) -> Result<CompiledRule> {
    let turn = |[a, b]: [IpAddr; 2]| if way == direction::OUT { [a.into(), b.into()] } else { [b.into(), a.into()] };
    let [laddr, raddr]: [Addr; 2] = turn(shape.inner());
    let [tunnel_local, tunnel_remote]: [Addr; 2] = turn(shape.outer());
    let mut rule = Rule {
        laddr,
        lmask: Addr::mask(128),
        raddr,
        rmask: Addr::mask(128),
        lport: [0, u16::MAX],
        rport: [0, u16::MAX],
        directions: way,
        verdict: verdict::PROTECT,
        action_id: 70 + u64::from(way),
        action_count: 1,
        ..Rule::zeroed()
    };
    *rule.actions.first_mut().context("no room for an action")? = action;
    if shape.is_tunnel() {
        rule.flags = rule_flag::TUNNEL;
        rule.tunnel_mode = 1;
        rule.tunnel_local = tunnel_local;
        rule.tunnel_remote = tunnel_remote;
    }
    Ok(CompiledRule { rule, tunnel: None })
}

/// An IP packet with random content: `len` octets behind its header, `proto` in front of them.
pub(crate) fn packet(shape: Shape, proto: u8, len: usize, random: &mut Random) -> Result<Vec<u8>> {
    let payload = random.bytes(len);
    let [src, dst] = shape.inner();
    let (tos, ttl) = (random.below(256) as u8, 1 + random.below(255) as u8);
    let mut packet = vec![];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet.extend([0x45, tos]);
            packet.extend(u16::try_from(20 + len)?.to_be_bytes());
            packet.extend((random.below(65536) as u16).to_be_bytes());
            // Don't fragment, or not.
            packet.extend([if random.below(2) == 0 { 0x40 } else { 0 }, 0, ttl, proto, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            let sum = !crate::check::sum(&packet);
            packet.splice(10..12, sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let label = random.below(1 << 20) as u32;
            packet.extend((6 << 28 | u32::from(tos) << 20 | label).to_be_bytes());
            packet.extend(u16::try_from(len)?.to_be_bytes());
            packet.extend([proto, ttl]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
        }
        _ => bail!("addresses of two families"),
    }
    packet.extend(payload);
    Ok(packet)
}

/// EtherType of a packet.
pub(crate) fn ether_type(v6: bool) -> [u8; 2] {
    if v6 { [0x86, 0xdd] } else { [0x08, 0x00] }
}
