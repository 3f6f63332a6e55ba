//! What ESP and AH are compared in with other implementations: every transform with every length of its key and every
//! authenticator, as each of them names it, and every shape of packet.

use super::topology::{
    A, A6, B, B6, INNER_A, INNER_A6, INNER_B, INNER_B6, NET_A, NET_A6, NET_B, NET_B6, SPI_A_TO_B, SPI_B_TO_A,
};
use std::net::{IpAddr, Ipv6Addr};

/// A cipher, as all sides name it.
pub(super) struct Cipher {
    pub(super) ours: &'static str,
    pub(super) scapys: &'static str,
    /// The name in `ip xfrm state`, which is that of the kernel's crypto interface.
    pub(super) kernels: &'static str,
    /// Lengths of the key in bits; one of 0 for none.
    bits: &'static [usize],
    /// Octets of salt behind the key.
    salt: usize,
    /// Octets of the explicit IV.
    iv: usize,
    /// What plaintext and trailer are padded to, in octets.
    align: usize,
    /// Octets of the ICV; 0 when another transform authenticates.
    pub(super) icv: usize,
}

const fn aead([ours, scapys, kernels]: [&'static str; 3], bits: &'static [usize], salt: usize, icv: usize) -> Cipher {
    Cipher { ours, scapys, kernels, bits, salt, iv: 8, align: 4, icv }
}

const fn cbc([ours, scapys, kernels]: [&'static str; 3], bits: &'static [usize], block: usize) -> Cipher {
    Cipher { ours, scapys, kernels, bits, salt: 0, iv: block, align: block, icv: 0 }
}

const AES: &[usize] = &[128, 192, 256];

const CIPHERS: [Cipher; 14] = [
    aead(["chacha20-poly1305", "CHACHA20-POLY1305", "rfc7539esp(chacha20,poly1305)"], &[256], 4, 16),
    aead(["aes-gcm", "AES-GCM", "rfc4106(gcm(aes))"], AES, 4, 16),
    aead(["aes-gcm12", "AES-GCM-SHORT", "rfc4106(gcm(aes))"], AES, 4, 12),
    aead(["aes-gcm8", "AES-GCM-SHORT", "rfc4106(gcm(aes))"], AES, 4, 8),
    aead(["aes-gmac", "AES-NULL-GMAC", "rfc4543(gcm(aes))"], AES, 4, 16),
    aead(["aes-ccm", "AES-CCM", "rfc4309(ccm(aes))"], AES, 3, 16),
    aead(["aes-ccm12", "AES-CCM", "rfc4309(ccm(aes))"], AES, 3, 12),
    aead(["aes-ccm8", "AES-CCM", "rfc4309(ccm(aes))"], AES, 3, 8),
    cbc(["aes-cbc", "AES-CBC", "cbc(aes)"], AES, 16),
    Cipher {
        ours: "aes-ctr",
        scapys: "AES-CTR",
        kernels: "rfc3686(ctr(aes))",
        bits: AES,
        salt: 4,
        iv: 8,
        align: 4,
        icv: 0,
    },
    Cipher { ours: "null", scapys: "NULL", kernels: "ecb(cipher_null)", bits: &[0], salt: 0, iv: 0, align: 4, icv: 0 },
    cbc(["des-cbc", "DES", "cbc(des)"], &[64], 8),
    cbc(["3des-cbc", "3DES", "cbc(des3_ede)"], &[192], 8),
    cbc(["blowfish-cbc", "Blowfish", "cbc(blowfish)"], &[40, 128, 448], 8),
];

/// An authenticator beside a cipher, or of AH.
pub(super) struct Authenticator {
    pub(super) ours: &'static str,
    pub(super) scapys: &'static str,
    /// The name in `ip xfrm state`.
    pub(super) kernels: &'static str,
    /// Octets of the key.
    pub(super) key: usize,
    /// Octets of the ICV.
    pub(super) icv: usize,
}

const fn hmac([ours, scapys, kernels]: [&'static str; 3], key: usize, icv: usize) -> Authenticator {
    Authenticator { ours, scapys, kernels, key, icv }
}

/// All that there are.
pub(super) const AUTHENTICATORS: [Authenticator; 5] = [
    hmac(["hmac-sha1", "HMAC-SHA1-96", "hmac(sha1)"], 20, 12),
    hmac(["hmac-sha256", "SHA2-256-128", "hmac(sha256)"], 32, 16),
    hmac(["hmac-sha384", "SHA2-384-192", "hmac(sha384)"], 48, 24),
    hmac(["hmac-sha512", "SHA2-512-256", "hmac(sha512)"], 64, 32),
    hmac(["hmac-md5", "HMAC-MD5-96", "hmac(md5)"], 16, 12),
];

/// A cipher with a length of its key, and what authenticates beside it.
#[derive(Clone, Copy)]
pub(super) struct Transform {
    pub(super) cipher: &'static Cipher,
    bits: usize,
    pub(super) auth: Option<&'static Authenticator>,
}

/// All that there are.
pub(super) fn transforms() -> Vec<Transform> {
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
    pub(super) fn policy(&self) -> String {
        let bits = if self.bits == 0 { String::new() } else { format!("({})", self.bits) };
        let auth = self.auth.map(|auth| format!(" encr_auth_algs {}", auth.ours)).unwrap_or_default();
        format!("encr_algs {}{bits}{auth}", self.cipher.ours)
    }

    /// Keys for one direction in hexadecimal, of the cipher with its salt and of the authenticator.
    pub(super) fn keys(&self, direction: u8) -> [String; 2] {
        keys(direction, [self.bits / 8 + self.cipher.salt, self.auth.map_or(0, |auth| auth.key)])
    }

    /// The extensions of ipseckey.
    pub(super) fn ours(&self, [key, auth_key]: &[String; 2]) -> String {
        let encr = if key.is_empty() { String::new() } else { format!("encrkey {key}") };
        let auth = self.auth.map(|auth| format!("auth_alg {} authkey {auth_key}", auth.ours)).unwrap_or_default();
        format!("encr_alg {} {encr} {auth}", self.cipher.ours)
    }

    /// The algorithms of `ip xfrm state`.
    pub(super) fn kernels(&self, [key, auth_key]: &[String; 2]) -> String {
        let name = self.cipher.kernels;
        let key = if key.is_empty() { "\"\"".to_owned() } else { format!("0x{key}") };
        match self.auth {
            None => format!("aead {name} {key} {}", self.cipher.icv * 8),
            Some(auth) => format!("enc {name} {key} {}", auth.kernels(auth_key)),
        }
    }

    /// Whether it enciphers at all.
    pub(super) fn hides(&self) -> bool {
        !["null", "aes-gmac"].contains(&self.cipher.ours)
    }

    fn icv(&self) -> usize {
        self.auth.map_or(self.cipher.icv, |auth| auth.icv)
    }
}

impl Authenticator {
    /// The algorithm of `ip xfrm state`.
    pub(super) fn kernels(&self, key: &str) -> String {
        format!("auth-trunc {} 0x{key} {}", self.kernels, self.icv * 8)
    }
}

/// What protects a packet: ESP, AH, or AH around ESP.
#[derive(Clone, Copy)]
pub(super) struct Protection {
    pub(super) ah: Option<&'static Authenticator>,
    pub(super) esp: Option<Transform>,
}

impl Protection {
    pub(super) fn esp(transform: Transform) -> Self {
        Self { ah: None, esp: Some(transform) }
    }

    /// The properties of a rule of ipsecinit.conf.
    pub(super) fn policy(&self) -> String {
        let words = [self.ah.map(|auth| format!("auth_algs {}", auth.ours)), self.esp.map(|esp| esp.policy())];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    pub(super) fn name(&self, shape: Shape) -> String {
        shape.name(&self.policy())
    }

    /// See [`Shape::largest`].
    pub(super) fn largest(&self, shape: Shape) -> usize {
        shape.largest(self.ah.map_or(0, |auth| shape.ah_len(auth)), self.esp.as_ref())
    }

    /// The key of AH in one direction.
    pub(super) fn ah_key(auth: &Authenticator, direction: Direction) -> String {
        let [key] = keys(direction.number() + 2, [auth.key]);
        key
    }

    /// The SAs of one direction as commands of ipseckey for host A, with further extensions for each.
    pub(super) fn sas(&self, shape: Shape, direction: Direction, further: &str) -> String {
        let ((local, remote), (net, remote_net)) = (shape.outer(), shape.nets());
        let (word, [from, to, isrc, idst]) = match direction {
            Direction::Out => ("outbound", [local, remote, net, remote_net]),
            Direction::In => ("inbound", [remote, local, remote_net, net]),
        };
        let inner = if shape.tunnel { format!("isrc {isrc} idst {idst}") } else { String::new() };
        let esn = if shape.esn { "esn" } else { "" };
        let add = |protocol: &str, spi: u32, keys: String| {
            format!("add {protocol} spi {spi:#x} src {from} dst {to} {word} {inner} {keys} {esn} {further}\n")
        };
        let esp = self.esp.map(|esp| add("esp", direction.spi(), esp.ours(&esp.keys(direction.number()))));
        let ah = self.ah.map(|auth| {
            let key = Self::ah_key(auth, direction);
            add("ah", direction.ah_spi(), format!("auth_alg {} authkey {key}", auth.ours))
        });
        esp.unwrap_or_default() + &ah.unwrap_or_default()
    }
}

/// As host A sees it.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Out,
    In,
}

impl Direction {
    /// The SPI of ESP.
    pub(super) fn spi(self) -> u32 {
        match self {
            Self::Out => SPI_A_TO_B,
            Self::In => SPI_B_TO_A,
        }
    }

    /// The SPI of AH.
    pub(super) fn ah_spi(self) -> u32 {
        self.spi() + 0x100
    }

    /// What makes its keys differ from those of the other.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Out => 1,
            Self::In => 2,
        }
    }
}

/// Keys of the given numbers of octets for one direction, in hexadecimal: no two octets that follow each other are the
/// same, nor are the keys of two directions.
fn keys<const N: usize>(direction: u8, octets: [usize; N]) -> [String; N] {
    let mut next = direction.wrapping_mul(0x51);
    octets.map(|octets| {
        (0..octets).fold(String::new(), |text, _| {
            next = next.wrapping_add(7);
            format!("{text}{next:02x}")
        })
    })
}

/// What a packet looks like from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) tunnel: bool,
    pub(super) outer6: bool,
    pub(super) inner6: bool,
    pub(super) esn: bool,
    pub(super) udp: bool,
}

pub(super) const fn tunnel(outer: u8, inner: u8, esn: bool, udp: bool) -> Shape {
    Shape { tunnel: true, outer6: outer == 6, inner6: inner == 6, esn, udp }
}

pub(super) const fn transport(family: u8, esn: bool, udp: bool) -> Shape {
    Shape { tunnel: false, outer6: family == 6, inner6: family == 6, esn, udp }
}

impl Shape {
    /// For a person, beside what protects the packet.
    fn name(self, policy: &str) -> String {
        let version = |six| if six { 6 } else { 4 };
        let mode = match self.tunnel {
            true => format!("tunnel {} in {}", version(self.inner6), version(self.outer6)),
            false => format!("transport {}", version(self.outer6)),
        };
        let esn = if self.esn { ", ESN" } else { "" };
        let udp = if self.udp { ", in UDP" } else { "" };
        format!("{policy}, {mode}{esn}{udp}")
    }

    pub(super) fn outer(self) -> (&'static str, &'static str) {
        if self.outer6 { (A6, B6) } else { (A, B) }
    }

    pub(super) fn nets(self) -> (&'static str, &'static str) {
        if self.inner6 { (NET_A6, NET_B6) } else { (NET_A, NET_B) }
    }

    /// The addresses that talk to each other.
    pub(super) fn inner(self) -> (IpAddr, IpAddr) {
        match (self.tunnel, self.inner6) {
            (true, false) => (INNER_A, INNER_B),
            (true, true) => (INNER_A6, INNER_B6),
            // They are constants; what is no address would fail the first datagram.
            (false, _) => {
                let address = |text: &str| text.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                let (a, b) = self.outer();
                (address(a), address(b))
            }
        }
    }

    /// The rule of host A; in tunnel mode the tunnel is `vpn4` or `vpn6`, by its outer addresses.
    pub(super) fn rule(self, algorithms: &str) -> String {
        let ((local, remote), (net, remote_net)) = (self.outer(), self.nets());
        if self.tunnel {
            let name = if self.outer6 { "vpn6" } else { "vpn4" };
            format!("{{ tunnel {name} negotiate tunnel laddr {net} raddr {remote_net} }} ipsec {{ {algorithms} }}\n")
        } else {
            format!("{{ laddr {local} raddr {remote} }} ipsec {{ {algorithms} sa shared }}\n")
        }
    }

    /// Octets of the largest payload behind a header of eight octets (UDP, ICMP echo) that fits when sealed into 1500
    /// octets: outer header, UDP, AH of `ah` octets, SPI and sequence number, IV, padding with its two octets, ICV. In
    /// transport mode the header of the packet is the outer one.
    fn largest(self, ah: usize, esp: Option<&Transform>) -> usize {
        let room = 1500 - self.header() - if self.udp { 8 } else { 0 } - ah;
        let inside = match esp {
            None => room,
            Some(transform) => {
                let Cipher { iv, align, .. } = transform.cipher;
                let room = room - 8 - iv - transform.icv();
                room - room % align - 2
            }
        };
        inside - 8 - if self.tunnel { self.inner_header() } else { 0 }
    }

    /// Octets of an AH header: 12, and the ICV, with padding to four octets in IPv4 and to eight in IPv6 (RFC 4302
    /// section 3.3.3.2.1).
    fn ah_len(self, auth: &Authenticator) -> usize {
        (12 + auth.icv).next_multiple_of(if self.outer6 { 8 } else { 4 })
    }

    /// Octets of the header outside.
    fn header(self) -> usize {
        if self.outer6 { 40 } else { 20 }
    }

    /// Octets of the header of the packet inside a tunnel.
    fn inner_header(self) -> usize {
        if self.inner6 { 40 } else { 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(policy: &str) -> Transform {
        transforms().into_iter().find(|transform| transform.policy() == policy).unwrap()
    }

    #[test]
    fn keys_have_their_lengths_and_differ() {
        let gcm = named("encr_algs aes-gcm(256)");
        let [encr, auth] = gcm.keys(1);
        assert_eq!((encr.len(), auth.len()), (72, 0));
        assert_ne!(gcm.keys(1), gcm.keys(2));
        let cbc = named("encr_algs aes-cbc(192) encr_auth_algs hmac-sha256");
        let [encr, auth] = cbc.keys(1);
        assert_eq!((encr.len(), auth.len()), (48, 64));
    }

    #[test]
    fn the_kernel_is_told_names_keys_and_icvs() {
        let text = |policy: &str| named(policy).kernels(&["11".into(), "22".into()]);
        assert_eq!(text("encr_algs aes-gcm8(128)"), "aead rfc4106(gcm(aes)) 0x11 64");
        let cbc = "enc cbc(aes) 0x11 auth-trunc hmac(sha384) 0x22 192";
        assert_eq!(text("encr_algs aes-cbc(256) encr_auth_algs hmac-sha384"), cbc);
        let null = named("encr_algs null encr_auth_algs hmac-md5").kernels(&[String::new(), "22".into()]);
        assert_eq!(null, "enc ecb(cipher_null) \"\" auth-trunc hmac(md5) 0x22 96");
    }

    /// The sum is worked out by hand: 1500 - 20 - 8 - 8 - 16 = 1448, less two for pad length and next header.
    #[test]
    fn the_largest_payload_fills_a_packet() {
        let gcm = named("encr_algs aes-gcm(128)");
        assert_eq!(tunnel(4, 4, false, false).largest(0, Some(&gcm)), 1446 - 28);
        assert_eq!(transport(4, false, false).largest(0, Some(&gcm)), 1446 - 8);
        assert_eq!(tunnel(4, 4, false, true).largest(0, Some(&gcm)), 1438 - 28);
        assert_eq!(tunnel(6, 6, false, false).largest(0, Some(&gcm)), 1426 - 48);
        let [_, sha256, ..] = &AUTHENTICATORS;
        let (v4, v6) = (transport(4, false, false), transport(6, false, false));
        assert_eq!((v4.ah_len(sha256), v6.ah_len(sha256)), (28, 32));
        assert_eq!((v4.largest(28, None), v6.largest(32, None)), (1500 - 20 - 28 - 8, 1500 - 40 - 32 - 8));
    }
}
