//! The classifier of the data path over the tables that user space makes, against the plain scan over the rules: first
//! match wins (ARC-SPD-03, ARC-SPD-05, ARC-SPD-08, ARC-FRG-04).

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

use bytemuck::Zeroable;
use ebpf_esp::spd::{Tables, first_match};
use proptest::prelude::*;
use sadb_maps::Addr;
use sadb_maps::abi::MAX_RULES;
use sadb_maps::host::spd::tables::Image;
use sadb_maps::policy::{Rule, Selectors, direction, rule_flag, verdict};
use sadb_maps::spd::{AddressKey, Chunk, Class, NO_MATCH, Page, chunk_number, class_number, scope};
use std::collections::HashMap;
use std::net::IpAddr;

/// The tables as the kernel would look them up.
struct Host {
    prefixes: HashMap<(u32, AddressKey), u16>,
    chunks: HashMap<u32, Chunk>,
    classes: HashMap<u32, Class>,
    pages: Vec<Page>,
}

impl Host {
    fn new(image: Image) -> Self {
        Self {
            prefixes: image.addresses.into_iter().map(|(p, class)| ((p.bits, p.key), class)).collect(),
            chunks: image.chunks.into_iter().collect(),
            classes: image.classes.into_iter().collect(),
            pages: image.pages,
        }
    }
}

impl Tables for Host {
    fn address(&self, dimension: u8, address: &Addr) -> Option<u16> {
        let whole = AddressKey::new(0, dimension, address);
        let value = u128::from_be_bytes(Addr(whole.address).octets());
        (0..=128).rev().find_map(|bits| {
            let kept = value & if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
            let key = AddressKey { address: Addr::from_octets(kept.to_be_bytes()).0, ..whole };
            self.prefixes.get(&(AddressKey::FIXED_BITS + bits, key)).copied()
        })
    }
    fn value(&self, table: u8, chunk: u8, value: u8) -> u16 {
        self.chunks.get(&chunk_number(table, chunk)).map_or(0, |chunk| chunk.0[usize::from(value)])
    }
    fn class(&self, dimension: u8, class: u16) -> Option<&Class> {
        self.classes.get(&class_number(dimension, class))
    }
    fn page(&self, number: u32) -> Option<&Page> {
        self.pages.get(number as usize)
    }
}

/// What the tables must agree with.
fn scan(rules: &[Rule], packet: &Selectors, direction: u8, in_scope: u32) -> u32 {
    let counts = |rule: &Rule| match in_scope {
        scope::LOCAL => true,
        scope::TRANSIT => rule.flags & rule_flag::TUNNEL != 0,
        tunnel => rule.scope == tunnel,
    };
    let found = (0..).zip(rules).find(|(_, rule)| counts(rule) && rule.matches(packet, direction));
    found.map_or(NO_MATCH, |(index, _)| index)
}

fn ip(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

/// Addresses that share prefixes of many lengths, and the edges of IPv4 within IPv6.
fn address() -> impl Strategy<Value = Addr> {
    let near = [
        "10.1.2.3",
        "10.1.2.4",
        "10.1.3.3",
        "10.200.0.1",
        "192.0.2.1",
        "0.0.0.0",
        "255.255.255.255",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::1",
        "::",
        "::1",
        "::ff",
        "::fffe:0:1",
        "::1:0:0:0",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    let near: Vec<Addr> = near.map(ip).to_vec();
    prop_oneof![
        8 => proptest::sample::select(near),
        1 => any::<u32>().prop_map(Addr::v4),
        1 => any::<[u8; 16]>().prop_map(Addr::from_octets),
    ]
}

fn prefix() -> impl Strategy<Value = (Addr, Addr)> {
    let bits = prop_oneof![Just(0), Just(128), 0..=128u32, 90..=104u32];
    (address(), bits, prop::bool::weighted(0.02)).prop_map(|(address, bits, stray)| {
        let mask = Addr::mask(bits);
        let kept = std::array::from_fn(|i| address.0[i] & mask.0[i]);
        // Bits behind the prefix: such a rule matches nothing.
        (if stray { address } else { Addr(kept) }, mask)
    })
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![proptest::sample::select(vec![0, 1, 79, 80, 81, 255, 256, 443, 4500, 65_534, 65_535]), any::<u16>()]
}

fn ports() -> impl Strategy<Value = [u16; 2]> {
    prop_oneof![3 => Just([0, u16::MAX]), 2 => port().prop_map(|p| [p, p]), 1 => [port(), port()]]
}

fn octets() -> impl Strategy<Value = [u8; 2]> {
    let octet = || prop_oneof![proptest::sample::select(vec![0, 3, 8, 11, 128, 255]), any::<u8>()];
    prop_oneof![2 => Just([0, 255]), 2 => octet().prop_map(|o| [o, o]), 2 => [octet(), octet()]]
}

fn proto() -> impl Strategy<Value = u8> {
    prop_oneof![4 => proptest::sample::select(vec![1, 6, 17, 58]), 1 => any::<u8>()]
}

fn rule() -> impl Strategy<Value = Rule> {
    let addresses = (prefix(), prefix(), prop_oneof![6 => Just((Addr::default(), Addr::default())), 1 => prefix()]);
    let rest = (ports(), ports(), prop_oneof![Just(0), proto()], 0..=3u8, 0..=2u8, octets(), octets());
    let flags = (prop::bool::ANY, prop::bool::ANY, 0..4u8, prop::bool::weighted(0.3), 0..3u32);
    (addresses, rest, flags).prop_map(|((local, remote, any), rest, (wide, icmp, families, tunnel, ends))| {
        let (lport, rport, proto, directions, verdict, icmp_type, icmp_code) = rest;
        let (local, remote) = if wide { (any, remote) } else { (local, remote) };
        let bit = |on: bool, flag: u8| if on { flag } else { 0 };
        Rule {
            laddr: local.0,
            lmask: local.1,
            raddr: remote.0,
            rmask: remote.1,
            lport,
            rport,
            proto,
            directions,
            verdict,
            icmp_type,
            icmp_code,
            flags: bit(icmp, rule_flag::ICMP)
                | bit(tunnel, rule_flag::TUNNEL)
                | bit(families & 1 != 0, rule_flag::V4)
                | bit(families & 2 != 0, rule_flag::V6),
            tunnel_local: if ends == 0 { Addr::default() } else { ip("198.51.100.1") },
            tunnel_remote: Addr::v4(ends),
            ..Rule::zeroed()
        }
    })
}

/// Both addresses are of one family; ICMP has no ports, others no type and code.
fn packet() -> impl Strategy<Value = Selectors> {
    let ends = (address(), address(), any::<u32>());
    (ends, port(), port(), proto(), octets(), octets(), prop::bool::weighted(0.2)).prop_map(
        |((laddr, raddr, other), lport, rport, proto, [icmp_type, _], [icmp_code, _], opaque)| {
            let raddr = match (laddr.is_v4(), raddr.is_v4()) {
                (true, false) => Addr::v4(other),
                (false, true) => Addr([u32::from_ne_bytes([0x20, 1, 0xd, 0xb8]), 0, 0, other]),
                _ => raddr,
            };
            let plain = Selectors { laddr, raddr, proto, opaque: u8::from(opaque), ..Selectors::default() };
            match proto {
                _ if opaque => plain,
                1 | 58 => Selectors { icmp_type, icmp_code, ..plain },
                _ => Selectors { lport, rport, ..plain },
            }
        },
    )
}

fn agree(rules: &mut [Rule], packets: &[Selectors]) {
    let host = Host::new(Image::new(rules).unwrap());
    let tunnels = rules.iter().map(|rule| rule.scope).max().unwrap_or(0);
    for packet in packets {
        for direction in [direction::IN, direction::OUT] {
            for in_scope in 0..=tunnels.max(scope::LOCAL) {
                let found = first_match(&host, packet, direction.into(), in_scope);
                let wanted = scan(rules, packet, direction, in_scope);
                assert_eq!(found, wanted, "{packet:?} direction {direction} scope {in_scope}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_few_rules(mut rules in prop::collection::vec(rule(), 0..12), packets in prop::collection::vec(packet(), 40)) {
        agree(&mut rules, &packets);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn thousands_of_rules(mut rules in prop::collection::vec(rule(), 2000..3000), packets in prop::collection::vec(packet(), 60)) {
        // Most of these would be shadowed by the widest: those come last.
        rules.sort_by_key(|rule| rule.lmask.octets().iter().map(|o| o.count_zeros()).sum::<u32>());
        agree(&mut rules, &packets);
    }
}

/// As many rules as fit, each for its own pair of networks and port, with exceptions around and a drop for the rest.
#[test]
fn as_many_rules_as_fit() {
    let mut rules: Vec<Rule> = (0..MAX_RULES - 1)
        .map(|n| Rule {
            laddr: Addr::v4((0x0a00_0000 | (n % 128) << 8).to_be()),
            lmask: Addr::mask(120),
            raddr: Addr::v4((0xac10_0000 | n).to_be()),
            rmask: Addr::mask(if n % 64 == 63 { 122 } else { 128 }),
            lport: [0, u16::MAX],
            rport: if n % 3 == 0 { [n as u16, n as u16 | 15] } else { [0, u16::MAX] },
            proto: if n % 3 == 0 { 17 } else { 0 },
            directions: direction::IN | direction::OUT,
            verdict: verdict::PROTECT,
            ..Rule::zeroed()
        })
        .map(|rule| Rule { raddr: Addr(std::array::from_fn(|i| rule.raddr.0[i] & rule.rmask.0[i])), ..rule })
        .collect();
    rules.push(Rule {
        lport: [0, u16::MAX],
        rport: [0, u16::MAX],
        directions: direction::IN | direction::OUT,
        verdict: verdict::DROP,
        ..Rule::zeroed()
    });
    let packets: Vec<_> = (0..MAX_RULES)
        .step_by(37)
        .flat_map(|n| {
            [0, 1].map(|off| Selectors {
                laddr: Addr::v4((0x0a00_0005 | ((n + off) % 128) << 8).to_be()),
                raddr: Addr::v4((0xac10_0000 | n).to_be()),
                rport: n as u16,
                proto: 17,
                ..Selectors::default()
            })
        })
        .collect();
    agree(&mut rules, &packets);
}

#[test]
fn a_rule_for_one_family_matches_that_family_only() {
    let any = Rule {
        lport: [0, u16::MAX],
        rport: [0, u16::MAX],
        directions: direction::OUT,
        verdict: verdict::PROTECT,
        ..Rule::zeroed()
    };
    let packet = |a: &str, b: &str| Selectors { laddr: ip(a), raddr: ip(b), proto: 6, ..Selectors::default() };
    let (v4, v6) = (packet("192.0.2.1", "198.51.100.1"), packet("2001:db8::1", "::1"));
    let low = Rule { raddr: Addr::UNSPECIFIED, rmask: Addr::mask(64), ..any };
    for (rule, on_v4, on_v6) in [
        (any, 0, 0),
        (Rule { flags: rule_flag::V4, ..any }, 0, NO_MATCH),
        (Rule { flags: rule_flag::V6, ..any }, NO_MATCH, 0),
        // ::/64 holds the IPv4 addresses as this crate writes them, and must not.
        (low, 0, 0),
        (Rule { flags: rule_flag::V6, ..low }, NO_MATCH, 0),
    ] {
        let mut rules = [rule];
        let host = Host::new(Image::new(&mut rules).unwrap());
        let find = |packet| first_match(&host, packet, direction::OUT.into(), scope::LOCAL);
        assert_eq!((find(&v4), find(&v6)), (on_v4, on_v6), "flags {}", rule.flags);
        agree(&mut rules, &[v4, v6]);
    }
}

#[test]
fn a_fragment_passes_by_no_rule_for_one_port() {
    let rule =
        Rule { lport: [0, u16::MAX], rport: [0, u16::MAX], proto: 6, directions: direction::OUT, ..Rule::zeroed() };
    let pass = Rule { rport: [443, 443], verdict: verdict::PASS, ..rule };
    let protect = Rule { rport: [80, 80], verdict: verdict::PROTECT, ..rule };
    let (a, b) = (ip("192.0.2.1"), ip("198.51.100.1"));
    let later = Selectors { laddr: a, raddr: b, proto: 6, opaque: 1, ..Selectors::default() };
    let mut rules = [pass, protect];
    agree(&mut rules, &[later]);
    assert_eq!(scan(&rules, &later, direction::OUT, scope::LOCAL), 1);
    assert_eq!(scan(&[Rule { rport: [0, u16::MAX], ..pass }, protect], &later, direction::OUT, scope::LOCAL), 0);
}
