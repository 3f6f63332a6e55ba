//! The classifier in the kernel: what it answers, beside the plain scan over the rules, and what it costs.
//!
//! The programs of the test-only object ask the functions of the data path, over the maps of an instance that the
//! library has filled.

use crate::instance::DataPath;
use crate::support::Random;
use crate::test_object::Plain;
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, MapData};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bytemuck::Zeroable;
use sadb_maps::Addr;
use sadb_maps::abi::{self, MAX_RULES};
use sadb_maps::host::CompiledRule;
use sadb_maps::policy::{Rule, Selectors, direction, rule_flag, verdict};
use sadb_maps::spd::{FLOW_SETS, NO_MATCH, scope};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[path = "../../bpf/src/probe.rs"]
#[allow(unreachable_pub, reason = "shared with the object")]
mod probe;

use probe::{PROBES, Probe, program};

/// Numbers of rules that are measured.
const COUNTS: [u32; 5] = [1, 10, 100, 1000, 10_000];

/// Classifications in one call of `BPF_PROG_TEST_RUN`.
const REPEAT: u32 = 200_000;

/// Turns, of which the median counts.
const ROUNDS: usize = 7;

struct Classifier {
    path: DataPath,
    ebpf: Ebpf,
    probes: Array<MapData, Plain<Probe>>,
    cursor: Array<MapData, u32>,
}

impl Classifier {
    fn load(object: &Path, name: &str) -> Result<Self> {
        let path = DataPath::attach(name, None)?;
        let object =
            std::fs::read(object).with_context(|| format!("{}: run `cargo xtask build-ebpf`", object.display()))?;
        let mut loader = EbpfLoader::new();
        for unused in [abi::map::SA_IN, abi::map::SA_OUT, abi::map::SA_STATIC, abi::map::SA_STATE, abi::map::SA_WINDOW]
        {
            loader.map_max_entries(unused, 1);
        }
        for shared in [
            abi::map::CONFIG,
            abi::map::SPD_HEAD,
            abi::map::SPD_GENERATIONS,
            abi::map::SPD_RULES,
            abi::map::SPD_ADDRESSES,
            abi::map::SPD_CHUNKS,
            abi::map::SPD_TUNNELS,
            abi::map::SPD_CLASSES,
            abi::map::SPD_PAGES,
            abi::map::SPD_FLOWS,
        ] {
            loader.map_pin_path(shared, path.instance().pin(shared));
        }
        let mut ebpf = loader.load(&object).context("loading the test-only object")?;
        for name in [program::CLASSIFY, program::SEARCH, program::NOTHING] {
            let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
            program.load().with_context(|| format!("loading program {name}"))?;
        }
        let mut map = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let probes = Array::try_from(map(probe::map::PROBES)?)?;
        let cursor = Array::try_from(map(probe::map::CURSOR)?)?;
        Ok(Self { path, ebpf, probes, cursor })
    }

    fn put(&mut self, probes: &[Probe]) -> Result<()> {
        ensure!(probes.len() <= PROBES as usize, "{} probes", probes.len());
        for (index, probe) in (0..).zip(probes) {
            self.probes.set(index, Plain(*probe), 0)?;
        }
        self.cursor.set(0, 0, 0)?;
        Ok(self.cursor.set(1, u32::try_from(probes.len())?, 0)?)
    }

    /// Runs a program on the next probes. Gives what it said of the last, and the nanoseconds for one.
    fn run(&self, name: &str, times: u32) -> Result<(u32, f64)> {
        let program: &Xdp = self.ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?;
        let frame = [0; 64];
        let options = TestRunOptions { data_in: Some(&frame), repeat: times, ..TestRunOptions::new() };
        let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
        Ok((result.return_value, result.duration.as_nanos() as f64))
    }

    fn replace(&mut self, rules: &[Rule]) -> Result<Vec<Rule>> {
        let rules: Vec<_> = rules.iter().map(|rule| CompiledRule { rule: *rule, tunnel: None }).collect();
        self.path.policy().replace(&rules)?;
        Ok(self.path.policy().rules()?.iter().map(|compiled| compiled.rule).collect())
    }
}

fn scan(rules: &[Rule], probe: &Probe) -> u32 {
    let counts = |rule: &Rule| match probe.scope {
        scope::LOCAL => true,
        scope::TRANSIT => rule.flags & rule_flag::TUNNEL != 0,
        tunnel => rule.scope == tunnel,
    };
    let mut numbered = (0..).zip(rules);
    let found = numbered.find(|(_, rule)| counts(rule) && rule.matches(&probe.packet, probe.direction as u8));
    found.map_or(NO_MATCH, |(index, _)| index)
}

/// One of few addresses, so that rules and packets meet.
fn address(random: &mut Random, v4: bool) -> Addr {
    let word = random.below(1 << 16) as u32;
    if v4 {
        return Addr::v4((0x0a00_0000 | word).to_be());
    }
    // Beside 2001:db8::/32 the neighbours of the IPv4-mapped ones.
    let third: u32 = if random.below(4) == 0 { 0xfffe } else { 0 };
    let first = if third == 0 { 0x2001_0db8_u32.to_be() } else { 0 };
    Addr([first, 0, third.to_be(), word.to_be()])
}

fn prefix(random: &mut Random, v4: bool) -> (Addr, Addr) {
    let address = address(random, v4);
    let bits = match random.below(6) {
        0 => 0,
        1 => 128,
        _ if v4 => 104 + random.below(25) as u32,
        _ => 90 + random.below(39) as u32,
    };
    let mask = Addr::mask(bits);
    let [[a, b, c, d], [e, f, g, h]] = [address.0, mask.0];
    (Addr([a & e, b & f, c & g, d & h]), mask)
}

fn ports(random: &mut Random) -> [u16; 2] {
    let low = random.below(1 << 10) as u16;
    match random.below(3) {
        0 => [0, u16::MAX],
        1 => [low, low],
        _ => [low, low + random.below(1 << 12) as u16],
    }
}

fn random_rule(random: &mut Random) -> Rule {
    let v4 = random.below(2) == 0;
    let ((laddr, lmask), (raddr, rmask)) = (prefix(random, v4), prefix(random, v4));
    let proto = [0, 1, 6, 17, 58].get(random.below(5)).copied().unwrap_or(0);
    let octet = |random: &mut Random| random.below(256) as u8;
    let flag = |random: &mut Random, flag| if random.below(3) == 0 { flag } else { 0 };
    let family = if v4 { rule_flag::V4 } else { rule_flag::V6 };
    let tunnel = flag(random, rule_flag::TUNNEL);
    let icmp = if proto == 1 || proto == 58 { flag(random, rule_flag::ICMP) } else { 0 };
    let (low_type, low_code) = (octet(random) / 2, octet(random) / 2);
    Rule {
        laddr,
        lmask,
        raddr,
        rmask,
        lport: ports(random),
        rport: ports(random),
        proto,
        directions: 1 + random.below(3) as u8,
        verdict: random.below(3) as u8,
        flags: tunnel | icmp | flag(random, family),
        icmp_type: [low_type, low_type.saturating_add(octet(random))],
        icmp_code: [low_code, low_code.saturating_add(octet(random))],
        tunnel_local: if tunnel == 0 { Addr::UNSPECIFIED } else { Addr::v4(1) },
        tunnel_remote: if tunnel == 0 { Addr::UNSPECIFIED } else { Addr::v4(random.below(5) as u32) },
        ..Rule::zeroed()
    }
}

fn random_probe(random: &mut Random, tunnels: u32) -> Probe {
    let v4 = random.below(2) == 0;
    let mut packet = Selectors {
        laddr: address(random, v4),
        raddr: address(random, v4),
        proto: [1, 6, 17, 58, 132].get(random.below(5)).copied().unwrap_or(6),
        ..Selectors::default()
    };
    match packet.proto {
        _ if random.below(8) == 0 => packet.opaque = 1,
        1 | 58 => (packet.icmp_type, packet.icmp_code) = (random.below(256) as u8, random.below(256) as u8),
        _ => (packet.lport, packet.rport) = (random.below(1 << 12) as u16, random.below(1 << 12) as u16),
    }
    Probe {
        packet,
        direction: 1 + random.below(2) as u32,
        scope: random.below(tunnels.max(scope::LOCAL) as usize + 1) as u32,
    }
}

/// Random rules and packets, with and without the flow cache, while generations change.
pub(crate) fn check(object: &Path) -> Result<()> {
    let mut classifier = Classifier::load(object, "policy")?;
    let mut random = Random(4);
    let mut found = 0;
    for count in [1, 3, 8, 64, 500, 3000, MAX_RULES] {
        let mut rules: Vec<_> = (0..count).map(|_| random_rule(&mut random)).collect();
        // Narrow ones first: the widest would leave nothing for the rest.
        rules.sort_by_key(|rule| {
            [rule.lmask, rule.rmask]
                .map(|mask| mask.octets().map(u8::count_zeros).iter().sum::<u32>())
                .iter()
                .sum::<u32>()
        });
        let rules = classifier.replace(&rules)?;
        let tunnels = rules.iter().map(|rule| rule.scope).max().unwrap_or(0);
        let probes: Vec<_> = (0..2000).map(|_| random_probe(&mut random, tunnels)).collect();
        // Twice with the cache: what it has learned, and from what it remembers of the last generation.
        for name in [program::CLASSIFY, program::CLASSIFY, program::SEARCH] {
            classifier.put(&probes)?;
            for probe in &probes {
                let (answer, _) = classifier.run(name, 1)?;
                let wanted = scan(&rules, probe);
                found += u32::from(wanted != NO_MATCH);
                ensure!(
                    answer == wanted,
                    "{name} of {count} rules: {answer}, but the scan finds {wanted}: {:?} direction {} scope {}",
                    probe.packet,
                    probe.direction,
                    probe.scope
                );
            }
        }
    }
    ensure!(found > 5000, "only {found} packets had a rule");
    println!("{found} packets had a rule, the one that the plain scan finds");
    Ok(())
}

/// Rules and packets of one shape.
struct Shape {
    name: &'static str,
    rule: fn(u32) -> Rule,
    packet: fn(u32) -> Selectors,
}

const ANY: [u16; 2] = [0, u16::MAX];

fn protecting() -> Rule {
    Rule {
        lport: ANY,
        rport: ANY,
        directions: direction::IN | direction::OUT,
        verdict: verdict::PROTECT,
        flags: rule_flag::V4,
        ..Rule::zeroed()
    }
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "sites",
        rule: |n| Rule {
            laddr: Addr::v4((0x0a00_0000 | (n % 16) << 16).to_be()),
            lmask: Addr::mask(112),
            raddr: Addr::v4((0x1400_0000 | n << 8).to_be()),
            rmask: Addr::mask(120),
            ..protecting()
        },
        packet: |n| Selectors {
            laddr: Addr::v4((0x0a00_0001 | (n % 16) << 16).to_be()),
            raddr: Addr::v4((0x1400_0002 | n << 8).to_be()),
            proto: 6,
            lport: 40_000,
            rport: 443,
            ..Selectors::default()
        },
    },
    Shape {
        name: "flows",
        rule: |n| Rule {
            raddr: Addr::v4((0x1400_0000 | (n / 4)).to_be()),
            rmask: Addr::mask(128),
            rport: [n as u16, n as u16],
            proto: 6,
            ..protecting()
        },
        packet: |n| Selectors {
            laddr: Addr::v4(0x0a00_0001_u32.to_be()),
            raddr: Addr::v4((0x1400_0000 | (n / 4)).to_be()),
            proto: 6,
            lport: 40_000,
            rport: n as u16,
            ..Selectors::default()
        },
    },
    // Every word of the bit vectors looks as if it could hold the rule, and only the last does.
    Shape {
        name: "worst",
        rule: |n| Rule {
            laddr: Addr::v4((0x0a00_0000 | (n & 1) << 16).to_be()),
            lmask: Addr::mask(112),
            raddr: Addr::v4((0x1400_0000 | (!n & 1) << 16).to_be()),
            rmask: Addr::mask(112),
            lport: if n & 2 == 0 { ANY } else { [1024, u16::MAX] },
            rport: if n & 4 == 0 { ANY } else { [1, u16::MAX] },
            proto: if n & 8 == 0 { 0 } else { 6 },
            ..protecting()
        },
        packet: |n| Selectors {
            laddr: Addr::v4((0x0a00_0000 | (n & 0xffff)).to_be()),
            raddr: Addr::v4((0x1400_0000 | (n.wrapping_mul(7) & 0xffff)).to_be()),
            proto: 6,
            lport: 40_000,
            rport: 443,
            ..Selectors::default()
        },
    },
];

/// Measures and prints JSON.
pub(crate) fn bench(object: &Path, ipsecconf: &Path) -> Result<()> {
    let mut classifier = Classifier::load(object, "policy")?;
    let mut rows = vec![];
    for shape in &SHAPES {
        for count in COUNTS {
            rows.push(row(&mut classifier, shape, count).with_context(|| format!("{} {count}", shape.name))?);
        }
    }
    let loads = loads(&mut classifier, ipsecconf)?;
    println!("{:#}", json!({ "unit": "ns", "repeat": REPEAT, "rounds": ROUNDS, "rows": rows, "loads": loads }));
    Ok(())
}

fn row(classifier: &mut Classifier, shape: &Shape, count: u32) -> Result<Value> {
    let start = Instant::now();
    let rules = classifier.replace(&(0..count).map(shape.rule).collect::<Vec<_>>())?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let probe = |n| Probe { packet: (shape.packet)(n), direction: direction::OUT.into(), scope: scope::LOCAL };
    let spread: Vec<_> = (0..PROBES / 2).map(|n| probe(n.wrapping_mul(40_503) % count.max(FLOW_SETS * 4))).collect();
    let with_rule = spread.iter().filter(|probe| scan(&rules, probe) != NO_MATCH).count();
    let measure = |classifier: &mut Classifier, probes: &[Probe], name| -> Result<f64> {
        classifier.put(probes)?;
        classifier.run(name, REPEAT)?;
        let mut times = (0..ROUNDS).map(|_| Ok(classifier.run(name, REPEAT)?.1)).collect::<Result<Vec<_>>>()?;
        times.sort_by(f64::total_cmp);
        times.get(ROUNDS / 2).copied().context("no round")
    };
    let (one, few) = ([probe(count / 2)], (0..256).map(|n| probe(n % count)).collect::<Vec<_>>());
    let nothing = measure(classifier, &one, program::NOTHING)?;
    let nothing_spread = measure(classifier, &spread, program::NOTHING)?;
    let hit = measure(classifier, &one, program::CLASSIFY)? - nothing;
    let hits = measure(classifier, &few, program::CLASSIFY)? - nothing;
    let hot = measure(classifier, &one, program::SEARCH)? - nothing;
    let miss = measure(classifier, &spread, program::CLASSIFY)? - nothing_spread;
    Ok(json!({
        "shape": shape.name, "rules": count, "hit": hit, "hit_of_256_flows": hits, "search_again": hot, "miss": miss,
        "packets_with_rule": with_rule as f64 / spread.len() as f64, "load_ms": load_ms,
    }))
}

/// Loading a file of rules with the tool, from nothing and in the place of itself.
fn loads(classifier: &mut Classifier, ipsecconf: &Path) -> Result<Vec<Value>> {
    let path = std::env::temp_dir().join(format!("{}.conf", classifier.path.instance().name()));
    let mut rows = vec![];
    for count in COUNTS {
        let mut text = String::new();
        for n in 0..count {
            let [_, b, c, d] = (n << 8).to_be_bytes();
            let (b, far) = (b, format!("20.{b}.{c}.{d}/24"));
            writeln!(text, "{{ laddr 10.{b}.0.0/16 raddr {far} }} ipsec {{ encr_algs aes-gcm(256) }}")?;
        }
        std::fs::write(&path, text)?;
        let run = |arguments: &[&str]| -> Result<f64> {
            let mut command = Command::new(ipsecconf);
            command.args(arguments).arg("-a").arg(&path).args(["-q", "--instance", classifier.path.instance().name()]);
            let start = Instant::now();
            let output = command.output().with_context(|| format!("could not start {}", ipsecconf.display()))?;
            if !output.status.success() {
                bail!("ipsecconf: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        let replaced = run(&["-F"])?;
        let again = run(&["-F"])?;
        rows.push(json!({ "rules": count, "first_ms": replaced, "again_ms": again }));
    }
    // Nothing depends on it.
    let _ = std::fs::remove_file(&path);
    Ok(rows)
}
