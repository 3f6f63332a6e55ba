//! PFK-11: whatever is added is saved as commands that make the same database again.

use crate::support::Bench;
use crate::transforms::{AUTHENTICATORS, TRANSFORMS, Transform};
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher};

/// xorshift64*: enough to choose SAs with.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one<T: Copy>(&mut self, all: &[T]) -> T {
        *all.get(self.below(all.len() as u64) as usize).unwrap()
    }

    /// True once in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn key(&mut self, octets: usize) -> String {
        (0..octets).fold(String::new(), |text, _| text + &format!("{:02x}", self.below(256)))
    }
}

/// What both SAs of a pair have in common.
struct Shape {
    kind: &'static str,
    ends: [&'static str; 2],
    /// Without a source.
    any_source: bool,
    tunnel: bool,
}

/// A command that adds an SA.
fn add(random: &mut Random, shape: &Shape, spi: u32, outbound: bool, partner: Option<u32>) -> String {
    let mut text = format!("add {} spi {spi}", shape.kind);
    let [mut src, mut dst] = shape.ends;
    if !outbound {
        (src, dst) = (dst, src);
    }
    let (source, flag) = if outbound { (true, "outbound") } else { (!shape.any_source, "inbound") };
    write!(text, " dst {dst} {flag}").unwrap();
    if source {
        write!(text, " src {src}").unwrap();
    }
    if let Some(spi) = partner {
        write!(text, " pair-spi {spi:#x}").unwrap();
    }
    let Transform { name: cipher, lengths, separate } = random.one(&TRANSFORMS);
    if shape.kind == "esp" {
        write!(text, " encr_alg {cipher}").unwrap();
        let length = random.one(lengths);
        if length > 0 {
            // One Blowfish key in some thousands is weak and refused.
            let key = if cipher == "blowfish-cbc" { "6b65".repeat(length / 2) } else { random.key(length) };
            write!(text, " encrkey {key}").unwrap();
        }
    }
    if shape.kind == "ah" || separate {
        let (name, length) = random.one(&AUTHENTICATORS);
        write!(text, " auth_alg {name} authkey {}", random.key(length)).unwrap();
    }
    let six = dst.contains(':');
    if shape.tunnel {
        let inner =
            random.one(&[["10.1.0.0/16", "10.2.3.4"], ["2001:db8:1::/48", "::/0"], ["0.0.0.0/0", "10.0.0.0/9"]]);
        write!(text, " isrc {} idst {}", inner[0], inner[1]).unwrap();
        if random.once_in(3) {
            write!(text, " iproto 17 isport {}", 1 + random.below(65535)).unwrap();
        }
        if random.once_in(3) {
            write!(text, " idport {}", 1 + random.below(65535)).unwrap();
        }
    } else if random.once_in(3) {
        write!(text, " proto 6 dport {}", 1 + random.below(65535)).unwrap();
        if random.once_in(2) {
            write!(text, " sport {}", 1 + random.below(65535)).unwrap();
        }
    }
    if shape.kind == "esp" && random.once_in(4) {
        write!(text, " encap udp nat_lport {} nat_rport {}", 1 + random.below(65535), 1 + random.below(65535)).unwrap();
        if random.once_in(2) {
            write!(text, " nat_loc {}", if six { "2001:db8::99" } else { "203.0.113.99" }).unwrap();
        }
        if source && random.once_in(2) {
            write!(text, " nat_rem {}", if six { "2001:db8::98" } else { "0.0.0.0" }).unwrap();
        }
    }
    let esn = random.once_in(3);
    if esn {
        text += " esn";
    }
    if random.once_in(2) {
        write!(text, " replay {}", random.one(&[0, 32, 255, 1024, 5000])).unwrap();
    }
    if random.once_in(2) {
        let most = if esn { u64::from(u32::MAX) << 8 } else { 1 << 31 };
        write!(text, " replay_value {}", random.below(most)).unwrap();
    }
    for what in ["bytes", "addtime", "usetime", "alloc"] {
        if random.once_in(3) {
            write!(text, " soft_{what} {}", 100_000 + random.below(100_000)).unwrap();
        }
        if random.once_in(3) {
            write!(text, " hard_{what} {}", 200_000 + random.below(100_000)).unwrap();
        }
    }
    for what in ["addtime", "usetime"] {
        if random.once_in(4) {
            write!(text, " idle_{what} {}", 1000 + random.below(90_000)).unwrap();
        }
    }
    text + "\n"
}

/// Some SAs, many of them in pairs.
fn some(random: &mut Random) -> (String, usize) {
    let (mut text, mut count, mut spi) = (String::new(), 0, 0x1000);
    while count < 13 {
        let tunnel = random.once_in(2);
        let shape = Shape {
            kind: if random.once_in(3) { "ah" } else { "esp" },
            ends: random.one(&[["192.0.2.1", "198.51.100.7"], ["2001:db8::1", "2001:db8::7"]]),
            any_source: random.once_in(4),
            tunnel,
        };
        let paired = !shape.any_source && random.once_in(2);
        spi += 1 + random.below(1 << 24) as u32;
        let outbound = random.once_in(2);
        text += &add(random, &shape, spi, outbound, None);
        count += 1;
        if paired {
            text += &add(random, &shape, spi + 1, !outbound, Some(spi));
            count += 1;
            spi += 1;
        }
    }
    (text, count)
}

/// Everything that is there, as people and as programs see it, without what the time of loading changes.
fn everything(bench: &Bench) -> (String, Vec<serde_json::Value>) {
    let text = bench.ipseckey(&["-n", "dump"]).ok();
    let volatile = ["seq=", "at time:", "Time now", "Time of", "occurs in"];
    let lines: Vec<_> = text.lines().filter(|line| !volatile.iter().any(|word| line.contains(word))).collect();
    let mut all: Vec<serde_json::Value> = serde_json::from_str(&bench.ipseckey(&["--json", "dump"]).ok()).unwrap();
    for sa in &mut all {
        for volatile in ["added", "age_seconds"] {
            sa.as_object_mut().unwrap().remove(volatile);
        }
    }
    (lines.join("\n"), all)
}

#[test]
fn what_is_saved_makes_the_same_database_again() {
    let bench = Bench::new();
    for round in 0..6 {
        let seed = RandomState::new().build_hasher().finish() | 1;
        let mut random = Random(seed);
        let (text, count) = some(&mut random);
        let ran = bench.ipseckey(&["-f", bench.file("keys", &text).to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "round {round}, seed {seed}: {}\n{text}", ran.out);
        let before = everything(&bench);
        assert_eq!(before.1.len(), count);
        let saved = bench.ipseckey(&["-s", "-"]).ok();
        bench.ipseckey(&["flush"]).ok();
        let ran = bench.ipseckey(&["-f", bench.file("saved", &saved).to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "round {round}, seed {seed}: {}\n{saved}", ran.out);
        let after = everything(&bench);
        assert_eq!(after, before, "round {round}, seed {seed}: {text}{saved}");
        // And once more, octet for octet.
        assert_eq!(bench.ipseckey(&["save", "all"]).ok(), saved, "round {round}, seed {seed}");
        bench.ipseckey(&["flush"]).ok();
    }
}
