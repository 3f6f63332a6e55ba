//! From ordered rules to the tables of the classifier (see [`crate::spd`]): pure, no map is touched.

use super::super::error::SadbError;
use super::vectors::{Classes, Pages};
use crate::Addr;
use crate::policy::{Rule, direction, rule_flag};
use crate::spd::{
    AddressKey, CHUNK_VALUES, Chunk, Class, MAX_CLASSES, MAX_PAGES, OPAQUE_CLASS, Page, chunk_number, class_number,
    dimension, family, kind_chunk, scope, table,
};
use std::collections::{BTreeMap, HashMap};

/// ICMP and ICMPv6.
const ICMP: [u8; 2] = [1, 58];

/// A prefix of the trie: its length in bits, those before the address included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Length.
    pub bits: u32,
    /// The rest; parity 0.
    pub key: AddressKey,
}

/// The tables of a generation. Keys lack the parity.
#[derive(Debug, Default)]
pub struct Image {
    /// Prefixes and their classes.
    pub addresses: Vec<(Prefix, u16)>,
    /// Chunks by [`chunk_number`].
    pub chunks: Vec<(u32, Chunk)>,
    /// Bit vectors by [`class_number`].
    pub classes: Vec<(u32, Class)>,
    /// Pages by number.
    pub pages: Vec<Page>,
    /// Local and remote end of tunnels and their scopes.
    pub tunnels: Vec<((Addr, Addr), u32)>,
}

impl Image {
    /// Makes the tables, and writes the scope of its tunnel into each rule.
    ///
    /// # Errors
    /// [`SadbError::UnfitRule`] for a mask that is none; [`SadbError::TooDiverse`].
    pub fn new(rules: &mut [Rule]) -> Result<Self, SadbError> {
        let mut image = Self::default();
        image.number_tunnels(rules);
        let mut pages = Pages::default();
        let rules = &*rules;
        for (number, side) in [(dimension::LOCAL, Side::Local), (dimension::REMOTE, Side::Remote)] {
            let classes = image.addresses(&mut pages, rules, number, side)?;
            image.keep(number, classes)?;
        }
        for (number, side) in [(dimension::NEAR, Side::Local), (dimension::FAR, Side::Remote)] {
            let classes = image.ports(&mut pages, rules, side);
            image.keep(number, classes)?;
        }
        let opaque = pages.with(&Class::default(), &which(rules, |rule| rule.takes_opaque()), true);
        image.classes.push((class_number(dimension::NEAR, OPAQUE_CLASS), opaque));
        let classes = image.kinds(&mut pages, rules);
        image.keep(dimension::KIND, classes)?;
        image.tunnel_classes(&mut pages, rules);
        if image.classes.len() > MAX_CLASSES as usize || pages.len() > MAX_PAGES as usize {
            return Err(SadbError::TooDiverse);
        }
        image.pages = pages.into_all();
        Ok(image)
    }

    /// Number of entries in all tables.
    pub fn entries(&self) -> usize {
        self.addresses.len() + self.chunks.len() + self.classes.len() + self.pages.len() + self.tunnels.len()
    }

    fn keep(&mut self, dimension: u8, classes: Classes) -> Result<(), SadbError> {
        // The last number is that of opaque packets.
        if classes.len() > usize::from(u16::MAX) {
            return Err(SadbError::TooDiverse);
        }
        self.classes.extend((0..).zip(classes.into_all()).map(|(n, class)| (class_number(dimension, n), class)));
        Ok(())
    }

    fn number_tunnels(&mut self, rules: &mut [Rule]) {
        let mut known = HashMap::new();
        for rule in rules {
            rule.scope = 0;
            if rule.flags & rule_flag::TUNNEL == 0 || rule.tunnel_local.is_unspecified() {
                continue;
            }
            let ends = (rule.tunnel_local, rule.tunnel_remote);
            let next = scope::FIRST_TUNNEL + known.len() as u32;
            rule.scope = *known.entry(ends).or_insert_with(|| {
                self.tunnels.push((ends, next));
                next
            });
        }
    }

    fn tunnel_classes(&mut self, pages: &mut Pages, rules: &[Rule]) {
        let mut of_tunnel: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (index, rule) in (0..).zip(rules) {
            if let Some(number) = rule.scope.checked_sub(scope::FIRST_TUNNEL) {
                of_tunnel.entry(number).or_default().push(index);
            }
        }
        for (number, rules) in of_tunnel {
            let class = pages.with(&Class::default(), &rules, true);
            self.classes.push((class_number(dimension::TUNNEL, number as u16), class));
        }
    }

    /// Classes of addresses: a prefix has its own rules and those of the prefixes around it.
    fn addresses(
        &mut self,
        pages: &mut Pages,
        rules: &[Rule],
        dimension: u8,
        side: Side,
    ) -> Result<Classes, SadbError> {
        let mut classes = Classes::default();
        for family in [family::V4, family::V6] {
            let mut of_prefix: BTreeMap<(u128, u32), Vec<u32>> = BTreeMap::new();
            for (index, rule) in (0..).zip(rules) {
                let (address, mask, _) = side.of(rule);
                let (address, mask) = (number(address), number(mask));
                if mask.leading_ones() + mask.trailing_zeros() < u128::BITS {
                    return Err(SadbError::UnfitRule { index, reason: "its mask has ones behind a zero" });
                }
                let prefix =
                    (address & !mask == 0).then(|| in_family(address, mask.leading_ones(), rule.flags, family));
                if let Some(prefix) = prefix.flatten() {
                    of_prefix.entry(prefix).or_default().push(index);
                }
            }
            // In this order a prefix comes before those in it, so those around one are on the stack.
            let mut around: Vec<(u128, u32, Class)> = vec![];
            for ((value, bits), rules) in of_prefix {
                while around.last().is_some_and(|(outer, len, _)| (value ^ outer) & mask(*len) != 0) {
                    around.pop();
                }
                let outer = around.last().map_or_else(Class::default, |(.., class)| *class);
                let class = pages.with(&outer, &rules, true);
                around.push((value, bits, class));
                let [a, b, c, d] = Addr::from_octets(value.to_be_bytes()).0;
                let key = AddressKey { parity: 0, dimension, family, reserved: 0, address: [a, b, c, d] };
                let prefix = Prefix { bits: AddressKey::FIXED_BITS + bits, key };
                self.addresses.push((prefix, classes.number(&class)));
            }
        }
        Ok(classes)
    }

    /// Classes of ports, and of ICMP types or codes, which take their place.
    fn ports(&mut self, pages: &mut Pages, rules: &[Rule], side: Side) -> Classes {
        let mut classes = Classes::default();
        let (port_table, icmp_table) = match side {
            Side::Local => (table::LOCAL_PORT, table::ICMP_TYPE),
            Side::Remote => (table::REMOTE_PORT, table::ICMP_CODE),
        };
        let icmp = |rule: &Rule| match (rule.flags & rule_flag::ICMP != 0, side) {
            (false, _) => [0, u8::MAX],
            (true, Side::Local) => rule.icmp_type,
            (true, Side::Remote) => rule.icmp_code,
        };
        // Packets of other protocols count as of type and code 0, and ICMP as of port 0, as in `Rule::matches`.
        let ports = ranges(rules, u16::MAX.into(), |rule| {
            let [low, _] = icmp(rule);
            (!ICMP.contains(&rule.proto) && low == 0).then(|| side.of(rule).2.map(u32::from))
        });
        let kinds = ranges(rules, u8::MAX.into(), |rule| {
            let ([low, _], icmp) = (side.of(rule).2, icmp(rule));
            ((rule.proto == 0 || ICMP.contains(&rule.proto)) && low == 0).then(|| icmp.map(u32::from))
        });
        let values = spread(pages, &mut classes, &ports);
        self.chunks(port_table, values);
        let values = spread(pages, &mut classes, &kinds);
        self.chunks(icmp_table, values);
        classes
    }

    /// Classes of protocols in each direction and scope.
    fn kinds(&mut self, pages: &mut Pages, rules: &[Rule]) -> Classes {
        let mut classes = Classes::default();
        for direction in [direction::IN, direction::OUT] {
            for in_scope in [scope::TRANSIT, scope::LOCAL] {
                let counts = |rule: &Rule| {
                    rule.directions & direction != 0
                        && (in_scope == scope::LOCAL || rule.flags & rule_flag::TUNNEL != 0)
                };
                let protocols = ranges(rules, u8::MAX.into(), |rule| {
                    let range = if rule.proto == 0 { [0, u8::MAX] } else { [rule.proto; 2] };
                    counts(rule).then(|| range.map(u32::from))
                });
                let values = spread(pages, &mut classes, &protocols);
                if let Some(chunk) = values.into_iter().next() {
                    self.chunks.push((chunk_number(table::KIND, kind_chunk(direction.into(), in_scope)), chunk));
                }
            }
        }
        classes
    }

    /// Keeps the chunks that have something else than class 0.
    fn chunks(&mut self, table: u8, values: Vec<Chunk>) {
        for (number, chunk) in (0..=u8::MAX).zip(values) {
            if chunk.0.iter().any(|class| *class != 0) {
                self.chunks.push((chunk_number(table, number), chunk));
            }
        }
    }
}

/// Which end of a rule.
#[derive(Clone, Copy)]
enum Side {
    Local,
    Remote,
}

impl Side {
    fn of(self, rule: &Rule) -> (&Addr, &Addr, [u16; 2]) {
        match self {
            Self::Local => (&rule.laddr, &rule.lmask, rule.lport),
            Self::Remote => (&rule.raddr, &rule.rmask, rule.rport),
        }
    }
}

/// What values of 0 to `last` the rules match.
struct Ranges {
    last: u32,
    /// Rules that match every value.
    everything: Vec<u32>,
    /// Other rules, and the lowest and highest value of each.
    some: Vec<(u32, [u32; 2])>,
}

fn which(rules: &[Rule], takes: impl Fn(&Rule) -> bool) -> Vec<u32> {
    (0..).zip(rules).filter(|(_, rule)| takes(rule)).map(|(index, _)| index).collect()
}

fn ranges(rules: &[Rule], last: u32, of: impl Fn(&Rule) -> Option<[u32; 2]>) -> Ranges {
    let mut ranges = Ranges { last, everything: vec![], some: vec![] };
    for (index, rule) in (0..).zip(rules) {
        match of(rule) {
            Some([0, high]) if high == last => ranges.everything.push(index),
            Some([low, high]) if low <= high => ranges.some.push((index, [low, high])),
            _ => {}
        }
    }
    ranges
}

/// The class of each value, in chunks. The class changes only where a range begins or has ended.
fn spread(pages: &mut Pages, classes: &mut Classes, ranges: &Ranges) -> Vec<Chunk> {
    let mut changes: BTreeMap<u32, [Vec<u32>; 2]> = BTreeMap::new();
    for (rule, [low, high]) in &ranges.some {
        let [begin, _] = changes.entry(*low).or_default();
        begin.push(*rule);
        let [_, end] = changes.entry(high + 1).or_default();
        end.push(*rule);
    }
    let mut vector = pages.with(&Class::default(), &ranges.everything, true);
    let mut class = classes.number(&vector);
    let mut changes = changes.into_iter().peekable();
    let mut values = Vec::with_capacity(ranges.last as usize + 1);
    for value in 0..=ranges.last {
        if let Some((_, [begin, end])) = changes.next_if(|(at, _)| *at == value) {
            vector = pages.with(&vector, &end, false);
            vector = pages.with(&vector, &begin, true);
            class = classes.number(&vector);
        }
        values.push(class);
    }
    let (chunks, _) = values.as_chunks::<CHUNK_VALUES>();
    chunks.iter().map(|chunk| Chunk(*chunk)).collect()
}

/// Value and length of what a prefix is among the addresses of a family; `None` where it has none of them.
fn in_family(address: u128, bits: u32, flags: u8, family: u8) -> Option<(u128, u32)> {
    const MAPPED: u128 = 0xffff << 32;
    const MAPPED_BITS: u32 = 96;
    let within_mapped = bits >= MAPPED_BITS && (address ^ MAPPED) & mask(MAPPED_BITS) == 0;
    if family == family::V6 {
        return (flags & rule_flag::V4 == 0 && !within_mapped).then_some((address, bits));
    }
    if flags & rule_flag::V6 != 0 {
        return None;
    }
    if within_mapped {
        return Some((address << MAPPED_BITS, bits - MAPPED_BITS));
    }
    (bits < MAPPED_BITS && (address ^ MAPPED) & mask(bits) == 0).then_some((0, 0))
}

/// Ones in the first `bits`.
fn mask(bits: u32) -> u128 {
    number(&Addr::mask(bits))
}

fn number(address: &Addr) -> u128 {
    u128::from_be_bytes(address.octets())
}
