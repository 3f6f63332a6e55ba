//! The checks that PF_KEY makes before an SA gets into the SADB, in the order and with the codes of spec section 7.9.

use super::diagnostic::Diagnostic as D;
use super::error::SadbError;
use super::secret::SecretKey;
use super::spec::{Direction, Encap, Mode, SaSpec};
use super::transform;
use crate::Addr;
use crate::sa::{AH, ESP, Lifetime, MAX_REPLAY_WINDOW, SaSelectors, encr};
use esp_crypto::crypto::blowfish;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Authentication algorithms that are known (spec section 4.8): number, key bits.
const AUTH: [(u8, usize); 5] = [(2, 128), (3, 160), (5, 256), (6, 384), (7, 512)];

/// Addresses of this host, in the network namespace of the thread that asked.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses(Arc<HashSet<IpAddr>>);

impl LocalAddresses {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The addresses cannot be read.
    pub fn read() -> Result<Self, SadbError> {
        let all = nix::ifaddrs::getifaddrs().map_err(|e| SadbError::io("getifaddrs", e))?;
        let ips = all.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        });
        Ok(ips.collect())
    }

    /// Whether the address is one of this host's.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}

impl FromIterator<IpAddr> for LocalAddresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(iter: T) -> Self {
        Self(Arc::new(iter.into_iter().collect()))
    }
}

/// Which tables an SA goes into: inbound, outbound.
pub(super) fn tables(direction: Direction, dst: IpAddr, local: &LocalAddresses) -> (bool, bool) {
    match direction {
        Direction::In => (true, false),
        Direction::Out => (false, true),
        Direction::Unspecified if local.contains(dst) => (true, false),
        Direction::Unspecified => (dst.is_multicast(), true),
    }
}

/// Every check that needs no map.
///
/// # Errors
/// [`SadbError::Diagnostic`] with the code of the first that fails.
pub fn check(spec: &SaSpec, local: &LocalAddresses) -> Result<(), SadbError> {
    addresses(spec)?;
    algorithms_named(spec)?;
    limits(spec)?;
    if let Some(encap) = &spec.encap {
        nat(spec, encap, local)?;
    }
    if spec.proto == AH || spec.auth != 0 {
        authentication(spec)?;
    }
    if spec.proto == ESP {
        encryption(spec)?;
    }
    replay(spec)
}

fn addresses(spec: &SaSpec) -> Result<(), SadbError> {
    if spec.proto != ESP && spec.proto != AH {
        return Err(SadbError::diagnostic(D::UnknownSaType));
    }
    if spec.dst.is_unspecified() {
        return Err(SadbError::diagnostic(D::BadDestination));
    }
    if is_group(spec.src) {
        return Err(SadbError::diagnostic(D::BadSource));
    }
    if spec.src.is_ipv4() != spec.dst.is_ipv4() && !spec.src.is_unspecified() {
        return Err(SadbError::diagnostic(D::FamilyMismatch));
    }
    if spec.spi == 0 {
        return Err(SadbError::explained(D::MalformedSa, "an SPI of 0 is reserved"));
    }
    match &spec.selectors {
        Some(selectors) => inner(selectors),
        None if spec.unique => Err(SadbError::explained(D::BadFlags, "a unique SA needs the selectors of its flow")),
        None => Ok(()),
    }
}

fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::from([255, 255, 255, 255])
}

fn inner(s: &SaSelectors) -> Result<(), SadbError> {
    let family = s.src_low.is_v4();
    if [s.src_high, s.dst_low, s.dst_high].iter().any(|a| a.is_v4() != family) {
        return Err(SadbError::diagnostic(D::InnerFamilyMismatch));
    }
    if !s.src_high.in_range(&s.src_low, &Addr([u32::MAX; 4])) || is_inverted(s.sport) {
        return Err(SadbError::diagnostic(D::MalformedInnerSource));
    }
    if !s.dst_high.in_range(&s.dst_low, &Addr([u32::MAX; 4])) || is_inverted(s.dport) {
        return Err(SadbError::diagnostic(D::MalformedInnerDestination));
    }
    Ok(())
}

fn is_inverted([low, high]: [u16; 2]) -> bool {
    low > high
}

fn algorithms_named(spec: &SaSpec) -> Result<(), SadbError> {
    if spec.proto == AH {
        if spec.auth_key.is_empty() {
            return Err(SadbError::diagnostic(D::MissingAuthenticationKey));
        }
        if spec.encr != encr::NONE {
            return Err(SadbError::diagnostic(D::EncryptionUnsupported));
        }
        return Ok(());
    }
    if spec.key.is_empty() && spec.encr != encr::NULL {
        return Err(SadbError::diagnostic(D::MissingEncryptionKey));
    }
    if spec.encr == encr::NONE {
        return Err(SadbError::diagnostic(D::BadEncryptionAlgorithm));
    }
    if spec.encr == encr::NULL && spec.auth == 0 {
        return Err(SadbError::diagnostic(D::BadAuthenticationAlgorithm));
    }
    Ok(())
}

/// Soft against hard limits, and idle against both where both are given.
pub(super) fn lifetimes(soft: &Lifetime, hard: &Lifetime, idle: [u32; 2]) -> Result<(), SadbError> {
    let over = |soft: u64, hard: u64| soft != 0 && hard != 0 && soft > hard;
    let [idle_add, idle_used] = idle.map(u64::from);
    let idle_over = |idle: u64, soft: u64, hard: u64| soft != 0 && hard != 0 && (idle > soft || idle > hard);
    for (fails, code) in [
        (over(soft.allocations, hard.allocations), D::AllocationsSoftHard),
        (over(soft.bytes, hard.bytes), D::BytesSoftHard),
        (over(soft.add, hard.add) || idle_over(idle_add, soft.add, hard.add), D::AddTimeSoftHard),
        (over(soft.used, hard.used) || idle_over(idle_used, soft.used, hard.used), D::UseTimeSoftHard),
    ] {
        if fails {
            return Err(SadbError::diagnostic(code));
        }
    }
    Ok(())
}

fn limits(spec: &SaSpec) -> Result<(), SadbError> {
    lifetimes(&spec.soft, &spec.hard, spec.idle)
}

fn nat(spec: &SaSpec, encap: &Encap, local: &LocalAddresses) -> Result<(), SadbError> {
    if spec.proto != ESP {
        return Err(SadbError::explained(D::BadFlags, "only ESP goes into UDP"));
    }
    for (address, family, value) in [
        (encap.nat_remote, D::BadNatRemoteFamily, D::MalformedNatRemote),
        (encap.nat_local, D::BadNatLocalFamily, D::MalformedNatLocal),
    ] {
        let Some(address) = address else { continue };
        if address.is_ipv4() != spec.dst.is_ipv4() {
            return Err(SadbError::diagnostic(family));
        }
        if local.contains(address) || is_group(address) {
            return Err(SadbError::diagnostic(value));
        }
    }
    let known = |nat: Option<IpAddr>| nat.is_some_and(|address| !address.is_unspecified());
    if spec.mode == Mode::Transport && spec.src.is_unspecified() && known(encap.nat_remote) {
        // There is nothing that checksums could be repaired to.
        return Err(SadbError::explained(D::BadSource, "a peer behind a NAT needs a source address in transport mode"));
    }
    if encap.sport == 0 || encap.dport == 0 {
        return Err(SadbError::explained(D::MalformedSa, "UDP encapsulation needs both ports"));
    }
    Ok(())
}

fn authentication(spec: &SaSpec) -> Result<(), SadbError> {
    if spec.proto == ESP && is_aead(spec.encr) {
        let what = "this transform authenticates by itself and takes no authentication algorithm";
        return Err(SadbError::explained(D::BadAuthenticationAlgorithm, what));
    }
    let Some((_, bits)) = AUTH.iter().find(|(id, _)| *id == spec.auth) else {
        return Err(SadbError::diagnostic(D::BadAuthenticationAlgorithm));
    };
    if spec.auth_key.is_empty() {
        return Err(SadbError::diagnostic(D::MissingAuthenticationKey));
    }
    if spec.auth_key.len() * 8 != *bits {
        return Err(SadbError::explained(D::BadAuthenticationKeyBits, format!("{bits} are needed")));
    }
    if spec.auth_key.is_zero() {
        return Err(SadbError::diagnostic(D::MalformedAuthenticationKey));
    }
    Ok(())
}

fn is_aead(id: u8) -> bool {
    transform::cipher(id).is_some_and(|cipher| cipher.encryption.is_aead())
}

fn encryption(spec: &SaSpec) -> Result<(), SadbError> {
    let bits = spec.key.len() * 8;
    let (fits, wanted) = match spec.encr {
        2 => (bits == 64, "64"),
        3 => (bits == 192, "192"),
        7 => ((32..=448).contains(&bits), "32 to 448"),
        encr::NULL => (bits == 0, "none"),
        encr::AES_CBC | encr::AES_CTR | 14..=16 | 18..=21 => (matches!(bits, 128 | 192 | 256), "128, 192 or 256"),
        encr::CHACHA20_POLY1305 => (bits == 256, "256"),
        _ => return Err(SadbError::diagnostic(D::BadEncryptionAlgorithm)),
    };
    if !fits {
        return Err(SadbError::explained(D::BadEncryptionKeyBits, format!("{wanted} are needed, salt not counted")));
    }
    if spec.encr != encr::NULL && spec.key.is_zero() {
        return Err(SadbError::diagnostic(D::MalformedEncryptionKey));
    }
    match spec.encr {
        encr::DES_CBC if weak_des(spec.key.octets()) => return Err(SadbError::diagnostic(D::WeakEncryptionKey)),
        encr::TRIPLE_DES_CBC if weak_triple_des(&spec.key) => return Err(SadbError::diagnostic(D::WeakEncryptionKey)),
        encr::BLOWFISH_CBC if blowfish::is_weak(spec.key.octets()) == Some(true) => {
            return Err(SadbError::diagnostic(D::WeakEncryptionKey));
        }
        _ => {}
    }
    let Some(cipher) = transform::cipher(spec.encr) else {
        return Err(SadbError::explained(D::BadContext, "the data path does not have this transform"));
    };
    let salt = cipher.encryption.salt_len() as usize;
    if spec.salt.len() != salt {
        let what = match salt {
            0 => "this transform takes no salt".to_owned(),
            _ => format!("{} bits of salt are needed after the key", salt * 8),
        };
        return Err(SadbError::explained(D::BadEncryptionKeyBits, what));
    }
    if spec.auth == 0 && !cipher.encryption.is_aead() {
        // ESP-FMT-14: what is not authenticated can be changed on its way, and what comes of it is read by the peer.
        let what = "this transform needs an authentication algorithm beside it";
        return Err(SadbError::explained(D::BadAuthenticationAlgorithm, what));
    }
    Ok(())
}

/// The weak and semi-weak keys of DES (FIPS 74), without the parity bit of each octet.
fn weak_des(key: &[u8]) -> bool {
    const WEAK: [[u8; 8]; 16] = [
        [0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01],
        [0x1f, 0x1f, 0x1f, 0x1f, 0x0e, 0x0e, 0x0e, 0x0e],
        [0xe0, 0xe0, 0xe0, 0xe0, 0xf1, 0xf1, 0xf1, 0xf1],
        [0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe],
        [0x01, 0xfe, 0x01, 0xfe, 0x01, 0xfe, 0x01, 0xfe],
        [0xfe, 0x01, 0xfe, 0x01, 0xfe, 0x01, 0xfe, 0x01],
        [0x1f, 0xe0, 0x1f, 0xe0, 0x0e, 0xf1, 0x0e, 0xf1],
        [0xe0, 0x1f, 0xe0, 0x1f, 0xf1, 0x0e, 0xf1, 0x0e],
        [0x01, 0xe0, 0x01, 0xe0, 0x01, 0xf1, 0x01, 0xf1],
        [0xe0, 0x01, 0xe0, 0x01, 0xf1, 0x01, 0xf1, 0x01],
        [0x1f, 0xfe, 0x1f, 0xfe, 0x0e, 0xfe, 0x0e, 0xfe],
        [0xfe, 0x1f, 0xfe, 0x1f, 0xfe, 0x0e, 0xfe, 0x0e],
        [0x01, 0x1f, 0x01, 0x1f, 0x01, 0x0e, 0x01, 0x0e],
        [0x1f, 0x01, 0x1f, 0x01, 0x0e, 0x01, 0x0e, 0x01],
        [0xe0, 0xfe, 0xe0, 0xfe, 0xf1, 0xfe, 0xf1, 0xfe],
        [0xfe, 0xe0, 0xfe, 0xe0, 0xfe, 0xf1, 0xfe, 0xf1],
    ];
    WEAK.iter().any(|weak| same_des(weak, key))
}

/// Whether two DES keys are one, parity aside.
fn same_des(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (x, y)| seen | ((x ^ y) & 0xfe)) == 0
}

fn weak_triple_des(key: &SecretKey) -> bool {
    let parts: Vec<&[u8]> = key.octets().chunks(8).collect();
    let weak = parts.iter().filter(|part| weak_des(part)).count();
    weak >= 2 || parts.windows(2).any(|pair| matches!(pair, [a, b] if same_des(a, b)))
}

fn replay(spec: &SaSpec) -> Result<(), SadbError> {
    if spec.replay_window > MAX_REPLAY_WINDOW {
        let what =
            format!("a replay window of {} packets; the data path keeps {MAX_REPLAY_WINDOW}", spec.replay_window);
        return Err(SadbError::explained(D::InvalidReplay, what));
    }
    if !spec.esn && spec.replay_value > u64::from(u32::MAX) {
        return Err(SadbError::explained(D::InvalidReplay, "the counter does not fit 32-bit sequence numbers"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sa::km;

    fn good() -> SaSpec {
        SaSpec {
            encr: encr::CHACHA20_POLY1305,
            key: SecretKey::new(vec![7; 32]),
            salt: SecretKey::new(vec![1, 2, 3, 4]),
            km: km::MANUAL,
            ..SaSpec::new(ESP, 0x1001, ip("192.0.2.1"), ip("198.51.100.7"))
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn code(change: impl FnOnce(&mut SaSpec)) -> Option<D> {
        let mut spec = good();
        change(&mut spec);
        check(&spec, &[ip("192.0.2.1")].into_iter().collect()).err().map(|e| e.code().unwrap())
    }

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(code(|_| ()), None);
        assert_eq!(code(|s| s.dst = ip("0.0.0.0")), Some(D::BadDestination));
        assert_eq!(code(|s| s.src = ip("224.0.0.1")), Some(D::BadSource));
        assert_eq!(code(|s| s.src = ip("2001:db8::1")), Some(D::FamilyMismatch));
        assert_eq!(code(|s| s.src = ip("::")), None);
        assert_eq!(code(|s| s.proto = 6), Some(D::UnknownSaType));
        assert_eq!(code(|s| s.spi = 0), Some(D::MalformedSa));
        assert_eq!(code(|s| s.key = SecretKey::default()), Some(D::MissingEncryptionKey));
        assert_eq!(code(|s| s.encr = 0), Some(D::BadEncryptionAlgorithm));
        assert_eq!(code(|s| s.encr = 99), Some(D::BadEncryptionAlgorithm));
        assert_eq!(code(|s| s.encr = encr::NULL), Some(D::BadAuthenticationAlgorithm));
        assert_eq!(code(|s| s.auth = 5), Some(D::BadAuthenticationAlgorithm));
        assert_eq!(code(|s| s.key = SecretKey::new(vec![7; 16])), Some(D::BadEncryptionKeyBits));
        assert_eq!(code(|s| s.salt = SecretKey::new(vec![7; 3])), Some(D::BadEncryptionKeyBits));
        assert_eq!(code(|s| s.key = SecretKey::new(vec![0; 32])), Some(D::MalformedEncryptionKey));
        assert_eq!(code(|s| s.replay_window = 65_537), Some(D::InvalidReplay));
        assert_eq!(code(|s| s.replay_value = 1 << 32), Some(D::InvalidReplay));
        assert_eq!(code(|s| s.unique = true), Some(D::BadFlags));
    }

    #[test]
    fn ah_and_ciphers_without_authentication_are_refused_after_their_own_checks() {
        let ah = |s: &mut SaSpec| {
            (s.proto, s.encr, s.auth) = (AH, 0, 5);
            s.auth_key = SecretKey::new(vec![1; 32]);
        };
        assert_eq!(code(ah), None);
        let with = |f: fn(&mut SaSpec)| {
            code(|s| {
                ah(s);
                f(s);
            })
        };
        assert_eq!(with(|s| s.auth_key = SecretKey::default()), Some(D::MissingAuthenticationKey));
        assert_eq!(with(|s| s.encr = 12), Some(D::EncryptionUnsupported));
        assert_eq!(with(|s| s.auth = 9), Some(D::BadAuthenticationAlgorithm));
        assert_eq!(with(|s| s.auth_key = SecretKey::new(vec![1; 31])), Some(D::BadAuthenticationKeyBits));
        assert_eq!(with(|s| s.auth_key = SecretKey::new(vec![0; 32])), Some(D::MalformedAuthenticationKey));
        // ESP-FMT-13, ESP-FMT-14
        let cbc = |s: &mut SaSpec| (s.encr, s.key, s.salt) = (12, SecretKey::new(vec![1; 16]), SecretKey::default());
        assert_eq!(code(cbc), Some(D::BadAuthenticationAlgorithm));
        assert_eq!(code(|s| (s.encr, s.key) = (encr::NULL, SecretKey::default())), Some(D::BadAuthenticationAlgorithm));
        let authenticated = |s: &mut SaSpec| {
            cbc(s);
            (s.auth, s.auth_key) = (5, SecretKey::new(vec![1; 32]));
        };
        assert_eq!(code(authenticated), None);
        assert_eq!(code(|s| (s.encr, s.key) = (12, SecretKey::new(vec![1; 16]))), Some(D::BadEncryptionKeyBits));
        assert_eq!(code(|s| (s.encr, s.key) = (2, SecretKey::new(vec![1; 8]))), Some(D::WeakEncryptionKey));
        let twice = [3u8, 1, 4, 1, 5, 9, 2, 6, 3, 1, 4, 1, 5, 9, 2, 6, 8, 8, 9, 8, 8, 9, 8, 8];
        assert_eq!(code(|s| (s.encr, s.key) = (3, SecretKey::new(twice.to_vec()))), Some(D::WeakEncryptionKey));
    }

    /// PFK-06: the weak and semi-weak keys of spec section 7.9, whatever their parity.
    #[test]
    fn every_weak_key_is_refused() {
        let weak: Vec<Vec<u8>> = [
            0x0101010101010101u64,
            0x1f1f1f1f0e0e0e0e,
            0xe0e0e0e0f1f1f1f1,
            0xfefefefefefefefe,
            0x01fe01fe01fe01fe,
            0xfe01fe01fe01fe01,
            0x1fe01fe00ef10ef1,
            0xe01fe01ff10ef10e,
            0x01e001e001f101f1,
            0xe001e001f101f101,
            0x1ffe1ffe0efe0efe,
            0xfe1ffe1ffe0efe0e,
            0x011f011f010e010e,
            0x1f011f010e010e01,
            0xe0fee0fef1fef1fe,
            0xfee0fee0fef1fef1,
        ]
        .map(|key| key.to_be_bytes().to_vec())
        .to_vec();
        let good = [[3u8, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8], [1, 4, 1, 4, 2, 1, 3, 5]].map(Vec::from);
        let other_parity = |key: &[u8]| key.iter().map(|octet| octet ^ 1).collect::<Vec<u8>>();
        let with = |id: u8, key: Vec<u8>| {
            code(|s| {
                (s.encr, s.key, s.salt) = (id, SecretKey::new(key), SecretKey::default());
                (s.auth, s.auth_key) = (5, SecretKey::new(vec![1; 32]));
            })
        };
        let refused = Some(D::WeakEncryptionKey);
        let [a, b, c] = &good;
        assert_eq!(with(2, a.clone()), None);
        assert_eq!(with(3, [a.clone(), b.clone(), c.clone()].concat()), None);
        // Two keys for three, as RFC 2451 section 2.3 warns of it, are not weak to PF_KEY.
        assert_eq!(with(3, [a.clone(), b.clone(), a.clone()].concat()), None);
        assert_eq!(with(3, [a.clone(), a.clone(), b.clone()].concat()), refused);
        assert_eq!(with(3, [b.clone(), a.clone(), other_parity(a)].concat()), refused);
        for key in &weak {
            assert_eq!(with(2, key.clone()), refused, "{key:02x?}");
            // That of the first is all zero, which no key may be.
            assert!([refused, Some(D::MalformedEncryptionKey)].contains(&with(2, other_parity(key))), "{key:02x?}");
            assert_eq!(with(3, [key.clone(), a.clone(), b.clone()].concat()), None, "{key:02x?}");
            for second in &weak {
                assert_eq!(with(3, [a.clone(), key.clone(), second.clone()].concat()), refused, "{key:02x?}");
                assert_eq!(with(3, [key.clone(), a.clone(), other_parity(second)].concat()), refused, "{key:02x?}");
            }
        }
    }

    #[test]
    fn limits_are_compared_when_both_are_given() {
        let life = |bytes, add, used| Lifetime { bytes, add, used, allocations: 0 };
        assert_eq!(code(|s| (s.soft, s.hard) = (life(2, 0, 0), life(1, 0, 0))), Some(D::BytesSoftHard));
        assert_eq!(code(|s| (s.soft, s.hard) = (life(2, 0, 0), life(0, 0, 0))), None);
        assert_eq!(code(|s| (s.soft, s.hard) = (life(0, 2, 0), life(0, 1, 0))), Some(D::AddTimeSoftHard));
        assert_eq!(code(|s| (s.soft, s.hard) = (life(0, 0, 2), life(0, 0, 1))), Some(D::UseTimeSoftHard));
        let idle = |s: &mut SaSpec| (s.soft, s.hard, s.idle) = (life(0, 5, 0), life(0, 6, 0), [7, 0]);
        assert_eq!(code(idle), Some(D::AddTimeSoftHard));
        assert_eq!(code(|s| s.idle = [7, 7]), None);
    }

    #[test]
    fn nat_addresses_are_not_ours_and_of_the_outer_family() {
        let encap = |address: &str| {
            let nat_local = Some(ip(address));
            code(|s| s.encap = Some(Encap { sport: 4500, dport: 4500, nat_local, nat_remote: None }))
        };
        assert_eq!(encap("203.0.113.1"), None);
        assert_eq!(encap("192.0.2.1"), Some(D::MalformedNatLocal));
        assert_eq!(encap("2001:db8::1"), Some(D::BadNatLocalFamily));
        assert_eq!(code(|s| s.encap = Some(Encap::default())), Some(D::MalformedSa));
    }

    #[test]
    fn the_destination_decides_the_direction() {
        let local: LocalAddresses = [ip("192.0.2.1")].into_iter().collect();
        let decide = |direction, dst| tables(direction, ip(dst), &local);
        assert_eq!(decide(Direction::Unspecified, "192.0.2.1"), (true, false));
        assert_eq!(decide(Direction::Unspecified, "192.0.2.2"), (false, true));
        assert_eq!(decide(Direction::Unspecified, "224.0.0.5"), (true, true));
        assert_eq!(decide(Direction::Out, "192.0.2.1"), (false, true));
    }
}
