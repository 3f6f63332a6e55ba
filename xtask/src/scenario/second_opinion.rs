//! ESP against scapy, in both directions: what it seals we open, what we seal it opens, for every transform with every
//! length of its key, mode, pair of address families and size of sequence numbers.

use super::topology::{
    A, A6, B, B6, INNER_A, INNER_A6, INNER_B, INNER_B6, NET_A, NET_A6, NET_B, NET_B6, SPI_A_TO_B, SPI_B_TO_A, TwoSites,
};
use crate::scapy;
use crate::suite::Suite;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A cipher, as both sides name it.
struct Cipher {
    ours: &'static str,
    scapys: &'static str,
    /// Lengths of the key in bits; one of 0 for none.
    bits: &'static [usize],
    /// Octets of salt behind the key.
    salt: usize,
    /// Octets of the explicit IV.
    iv: usize,
    /// What plaintext and trailer are padded to, in octets.
    align: usize,
    /// Octets of the ICV; 0 when another transform authenticates.
    icv: usize,
}

const fn aead(ours: &'static str, scapys: &'static str, bits: &'static [usize], salt: usize, icv: usize) -> Cipher {
    Cipher { ours, scapys, bits, salt, iv: 8, align: 4, icv }
}

const fn cbc(ours: &'static str, scapys: &'static str, bits: &'static [usize], block: usize) -> Cipher {
    Cipher { ours, scapys, bits, salt: 0, iv: block, align: block, icv: 0 }
}

const AES: &[usize] = &[128, 192, 256];

const CIPHERS: [Cipher; 14] = [
    aead("chacha20-poly1305", "CHACHA20-POLY1305", &[256], 4, 16),
    aead("aes-gcm", "AES-GCM", AES, 4, 16),
    aead("aes-gcm12", "AES-GCM-SHORT", AES, 4, 12),
    aead("aes-gcm8", "AES-GCM-SHORT", AES, 4, 8),
    aead("aes-gmac", "AES-NULL-GMAC", AES, 4, 16),
    aead("aes-ccm", "AES-CCM", AES, 3, 16),
    aead("aes-ccm12", "AES-CCM", AES, 3, 12),
    aead("aes-ccm8", "AES-CCM", AES, 3, 8),
    cbc("aes-cbc", "AES-CBC", AES, 16),
    Cipher { ours: "aes-ctr", scapys: "AES-CTR", bits: AES, salt: 4, iv: 8, align: 4, icv: 0 },
    Cipher { ours: "null", scapys: "NULL", bits: &[0], salt: 0, iv: 0, align: 4, icv: 0 },
    cbc("des-cbc", "DES", &[64], 8),
    cbc("3des-cbc", "3DES", &[192], 8),
    cbc("blowfish-cbc", "Blowfish", &[40, 128, 448], 8),
];

/// An authenticator beside a cipher.
struct Authenticator {
    ours: &'static str,
    scapys: &'static str,
    /// Octets of the key.
    key: usize,
    /// Octets of the ICV.
    icv: usize,
}

const AUTHENTICATORS: [Authenticator; 5] = [
    Authenticator { ours: "hmac-sha1", scapys: "HMAC-SHA1-96", key: 20, icv: 12 },
    Authenticator { ours: "hmac-sha256", scapys: "SHA2-256-128", key: 32, icv: 16 },
    Authenticator { ours: "hmac-sha384", scapys: "SHA2-384-192", key: 48, icv: 24 },
    Authenticator { ours: "hmac-sha512", scapys: "SHA2-512-256", key: 64, icv: 32 },
    Authenticator { ours: "hmac-md5", scapys: "HMAC-MD5-96", key: 16, icv: 12 },
];

/// A cipher with a length of its key, and what authenticates beside it.
#[derive(Clone, Copy)]
struct Transform {
    cipher: &'static Cipher,
    bits: usize,
    auth: Option<&'static Authenticator>,
}

/// All that there are.
fn transforms() -> Vec<Transform> {
    let mut all = vec![];
    for cipher in &CIPHERS {
        for bits in cipher.bits.iter().copied() {
            match cipher.icv {
                0 => all.extend(AUTHENTICATORS.iter().map(|auth| Transform { cipher, bits, auth: Some(auth) })),
                _ => all.push(Transform { cipher, bits, auth: None }),
            }
        }
    }
    all
}

impl Transform {
    /// The properties of a rule of ipsecinit.conf.
    fn policy(&self) -> String {
        let bits = if self.bits == 0 { String::new() } else { format!("({})", self.bits) };
        let auth = self.auth.map(|auth| format!(" encr_auth_algs {}", auth.ours)).unwrap_or_default();
        format!("encr_algs {}{bits}{auth}", self.cipher.ours)
    }

    /// Keys for one direction in hexadecimal, of the cipher with its salt and of the authenticator: no two octets that
    /// follow each other are the same, nor are the keys of two directions.
    fn keys(&self, direction: u8) -> [String; 2] {
        let mut next = direction.wrapping_mul(0x51);
        let mut key = |octets: usize| {
            (0..octets).fold(String::new(), |text, _| {
                next = next.wrapping_add(7);
                format!("{text}{next:02x}")
            })
        };
        [key(self.bits / 8 + self.cipher.salt), key(self.auth.map_or(0, |auth| auth.key))]
    }

    /// The extensions of ipseckey.
    fn ours(&self, [key, auth_key]: &[String; 2]) -> String {
        let encr = if key.is_empty() { String::new() } else { format!("encrkey {key}") };
        let auth = self.auth.map(|auth| format!("auth_alg {} authkey {auth_key}", auth.ours)).unwrap_or_default();
        format!("encr_alg {} {encr} {auth}", self.cipher.ours)
    }

    fn icv(&self) -> usize {
        self.auth.map_or(self.cipher.icv, |auth| auth.icv)
    }
}

/// What a packet looks like from outside.
#[derive(Clone, Copy)]
struct Shape {
    tunnel: bool,
    outer6: bool,
    inner6: bool,
    esn: bool,
}

/// Every mode, pair of families and size of sequence numbers.
fn shapes() -> Vec<Shape> {
    let pairs = [
        (true, false, false),
        (false, true, true),
        (true, true, false),
        (false, false, false),
        (true, false, true),
        (true, true, true),
    ];
    let all = |esn| pairs.map(|(tunnel, outer6, inner6)| Shape { tunnel, outer6, inner6, esn });
    [all(false), all(true)].concat()
}

/// Every transform once; the shapes take turns.
pub(super) fn every_transform() -> Result<()> {
    let mut bench = Bench::new()?;
    let sizes = |largest: usize| {
        let ends = largest.saturating_sub(7)..=largest;
        (0..=16).chain([31, 47, 48, 63, 64, 65, 127, 129, 333, 777]).chain(ends).collect()
    };
    let cases = transforms().into_iter().zip(shapes().into_iter().cycle());
    let mut count = 0;
    for (transform, shape) in cases {
        bench.run(transform, shape, sizes)?;
        count += 1;
    }
    println!("{count} transforms");
    Ok(())
}

/// Every transform in every shape.
pub(super) fn matrix() -> Result<()> {
    let mut bench = Bench::new()?;
    let sizes = |largest: usize| {
        let ends = largest.saturating_sub(16)..=largest;
        (0..=80).chain((97..largest.saturating_sub(16)).step_by(173)).chain(ends).collect()
    };
    let mut count = 0;
    for transform in transforms() {
        for shape in shapes() {
            bench.run(transform, shape, sizes)?;
            count += 1;
        }
    }
    println!("{count} pairs of transform and shape");
    Ok(())
}

/// The host under test, and scapy on the other.
struct Bench {
    a: Suite,
    peer: Peer,
    /// Last, so that the processes in it have ended.
    _sites: TwoSites,
}

impl Bench {
    fn new() -> Result<Self> {
        let sites = TwoSites::new("scapy")?;
        sites.add_ipv6()?;
        let a = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
        a.tunnel("vpn4", A, B)?;
        a.tunnel("vpn6", A6, B6)?;
        let peer = Peer::start(&sites)?;
        Ok(Self { a, peer, _sites: sites })
    }

    fn run(&mut self, transform: Transform, shape: Shape, sizes: impl Fn(usize) -> Vec<usize>) -> Result<()> {
        let name = shape.name(&transform.policy());
        self.configure(transform, shape).with_context(|| name.clone())?;
        let answer = self.peer.ask(&shape.case(transform, &sizes(shape.largest(transform))))?;
        println!("{name}: {answer}");
        if !answer.starts_with("answered ") {
            let stats = self.a.tool("espadm", &["stats"]).unwrap_or_default();
            bail!("{name}: {answer}\n{stats}");
        }
        Ok(())
    }

    fn configure(&self, transform: Transform, shape: Shape) -> Result<()> {
        let ((local, remote), (net, remote_net)) = (shape.outer(), shape.nets());
        let policy = transform.policy();
        self.a.policy(&match shape.tunnel {
            true => {
                let name = if shape.outer6 { "vpn6" } else { "vpn4" };
                format!("{{ tunnel {name} negotiate tunnel laddr {net} raddr {remote_net} }} ipsec {{ {policy} }}\n")
            }
            false => format!("{{ laddr {local} raddr {remote} }} ipsec {{ {policy} sa shared }}\n"),
        })?;
        let add = |spi: u32, [from, to, isrc, idst]: [&str; 4], direction: &str, keys: &[String; 2]| {
            let inner = if shape.tunnel { format!("isrc {isrc} idst {idst}") } else { String::new() };
            let esn = if shape.esn { format!("esn replay_value {}", shape.start()) } else { String::new() };
            let transform = transform.ours(keys);
            format!("add esp spi {spi} src {from} dst {to} {direction} {inner} {transform} replay 64 {esn}\n")
        };
        let out = add(SPI_A_TO_B, [local, remote, net, remote_net], "outbound", &transform.keys(1));
        let back = add(SPI_B_TO_A, [remote, local, remote_net, net], "inbound", &transform.keys(2));
        self.a.keys(&format!("flush\n{out}{back}"))
    }
}

impl Shape {
    fn name(self, policy: &str) -> String {
        let version = |six| if six { 6 } else { 4 };
        let mode = match self.tunnel {
            true => format!("tunnel {} in {}", version(self.inner6), version(self.outer6)),
            false => format!("transport {}", version(self.outer6)),
        };
        format!("{policy}, {mode}{}", if self.esn { ", ESN" } else { "" })
    }

    fn outer(self) -> (&'static str, &'static str) {
        if self.outer6 { (A6, B6) } else { (A, B) }
    }

    fn nets(self) -> (&'static str, &'static str) {
        if self.inner6 { (NET_A6, NET_B6) } else { (NET_A, NET_B) }
    }

    /// The addresses that talk to each other.
    fn inner(self) -> (String, String) {
        match (self.tunnel, self.inner6) {
            (true, false) => (INNER_A.to_string(), INNER_B.to_string()),
            (true, true) => (INNER_A6.to_string(), INNER_B6.to_string()),
            (false, _) => (self.outer().0.to_owned(), self.outer().1.to_owned()),
        }
    }

    /// The sequence number before the first: with ESN the low half overflows after some packets.
    fn start(self) -> u64 {
        if self.esn { 0x2_ffff_fff0 } else { 0 }
    }

    /// The largest echo payload that fits when sealed into 1500 octets: outer header, SPI and sequence number, IV, padding
    /// with its two octets, ICV. In transport mode the header of the packet is the outer one.
    fn largest(self, transform: Transform) -> usize {
        const ECHO: usize = 8;
        let header = |six| if six { 40 } else { 20 };
        let Cipher { iv, align, .. } = transform.cipher;
        let room = 1500 - header(self.outer6) - 8 - iv - transform.icv();
        let sealed = room - room % align - 2;
        sealed - ECHO - if self.tunnel { header(self.inner6) } else { 0 }
    }

    /// What the peer is told.
    fn case(self, transform: Transform, sizes: &[usize]) -> serde_json::Value {
        let ((remote, local), (inner_remote, inner_local)) = (self.outer(), self.inner());
        let keys = |spi: u32, direction| {
            let [key, auth_key] = transform.keys(direction);
            json!({ "spi": spi, "key": key, "auth_key": auth_key })
        };
        json!({
            "local": local, "remote": remote, "inner_local": inner_local, "inner_remote": inner_remote,
            "tunnel": self.tunnel, "esn": self.esn, "start": self.start(),
            "crypt": transform.cipher.scapys,
            "icv": if transform.cipher.icv == 0 { json!(null) } else { json!(transform.cipher.icv) },
            "auth": transform.auth.map(|auth| auth.scapys),
            "in": keys(SPI_A_TO_B, 1), "out": keys(SPI_B_TO_A, 2),
            "sizes": sizes,
        })
    }
}

/// The program with scapy on host B; ended with the value.
struct Peer {
    child: Child,
    cases: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(sites: &TwoSites) -> Result<Self> {
        let mut command = sites.b.command(scapy::ensure()?);
        let script = sites.lab.directory().join("esp_peer.py");
        fs::write(&script, include_str!("esp_peer.py"))?;
        command.arg(&script).args(["wan0", &sites.router.mac("to-b")?]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the peer with scapy")?;
        let (cases, answers) = (child.stdin.take(), child.stdout.take());
        let (cases, answers) = cases.zip(answers).context("the peer has no pipes")?;
        Ok(Self { child, cases, answers: BufReader::new(answers) })
    }

    fn ask(&mut self, case: &serde_json::Value) -> Result<String> {
        writeln!(self.cases, "{case}").context("the peer takes no case")?;
        let mut answer = String::new();
        let len = self.answers.read_line(&mut answer).context("reading the peer's answer")?;
        ensure!(len != 0, "the peer ended; what it said is above");
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
