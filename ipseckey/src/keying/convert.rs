//! Requests to what the SADB takes: keys split from salts, inner addresses to selectors, ports to their places.

use super::Message;
use super::hexkey::HexKey;
use super::request::{SaName, SaRequest, SaType};
use crate::algorithms::{self, Algorithm, Kind};
use crate::policy::selectors::Prefix;
use sadb_maps::Addr;
use sadb_maps::host::{Direction, Encap, Mode, SaKey, SaSpec, SaUpdate, SecretKey};
use sadb_maps::sa::SaSelectors;
use std::net::IpAddr;

/// Port of UDP-encapsulated ESP (RFC 3948 section 2.1).
const NATT_PORT: u16 = 4500;

/// The SAs that an add makes: one for each destination. `is_local` says which addresses this host has.
///
/// # Errors
/// Algorithms that do not go together, keys of the wrong length, inner addresses of two families.
pub fn specs(request: &SaRequest, is_local: &dyn Fn(IpAddr) -> bool) -> Result<Vec<SaSpec>, Message> {
    let algorithms = Algorithms::of(request)?;
    let mut found = Vec::new();
    for (source, destination) in request.name.pairs() {
        let any = Prefix::new(destination, 0).unwrap_or(Prefix::host(destination)).addr;
        let mut spec = SaSpec::new(request.name.kind.protocol(), request.name.spi, source.unwrap_or(any), destination);
        spec.direction = request.name.direction;
        spec.mode = if request.is_tunnel() { Mode::Tunnel } else { Mode::Transport };
        spec.encr = algorithms.encr;
        spec.key = algorithms.key.clone();
        spec.salt = algorithms.salt.clone();
        spec.auth = algorithms.auth;
        spec.auth_key = algorithms.auth_key.clone();
        spec.esn = request.esn;
        // A window cannot work when several senders may use the SA.
        spec.replay_window = if source.is_some() { request.replay.unwrap_or(0) } else { 0 };
        spec.replay_value = request.replay_value.unwrap_or(0);
        spec.encap = encap(request, destination, is_local);
        spec.selectors = selectors(request, source, destination)?;
        spec.soft = request.soft.unwrap_or_default();
        spec.hard = request.hard.unwrap_or_default();
        spec.idle = request.idle.unwrap_or_default();
        spec.pair_spi = request.pair_spi;
        [spec.src_identity, spec.dst_identity] = request.identities.clone();
        found.push(spec);
    }
    Ok(found)
}

/// What protects the packets, and its keys.
struct Algorithms {
    encr: u8,
    key: SecretKey,
    salt: SecretKey,
    auth: u8,
    auth_key: SecretKey,
}

impl Algorithms {
    fn of(request: &SaRequest) -> Result<Self, Message> {
        let id = request.encr.unwrap_or(algorithms::ESP_NULL);
        let cipher = algorithms::by_id(Kind::Encryption, id);
        if let Some(algorithm) = cipher.filter(|a| a.combined.is_some())
            && (request.auth.is_some_and(|id| id != 0) || request.auth_key.is_some())
        {
            let text = format!("{} authenticates by itself: remove auth_alg and authkey", algorithm.name());
            return Err(Message::new(request.algorithm_at, text));
        }
        let auth = request.auth.filter(|id| *id != 0);
        let (auth, auth_key) = match (auth, &request.auth_key) {
            (Some(id), Some(key)) => (id, authentication_key(request, id, key)?),
            (Some(id), None) => {
                let name = algorithms::display_name(Kind::Authentication, id);
                return Err(Message::new(request.algorithm_at, format!("{name} needs a key: authkey")));
            }
            (None, Some(_)) => {
                return Err(Message::new(request.auth_key_at, "an authkey without auth_alg"));
            }
            (None, None) => (0, SecretKey::default()),
        };
        if request.name.kind == SaType::Ah {
            return Ok(Self { encr: 0, key: SecretKey::default(), salt: SecretKey::default(), auth, auth_key });
        }
        let Some(algorithm) = cipher else {
            let unknown = || format!("encryption algorithm {id} is unknown");
            let text = algorithms::refusal(Kind::Encryption, &id.to_string()).unwrap_or_else(unknown);
            return Err(Message::new(request.algorithm_at, text));
        };
        if auth == 0 && algorithm.combined.is_none() {
            let text = format!("{} does not authenticate: auth_alg and authkey are needed as well", algorithm.name());
            return Err(Message::new(request.algorithm_at, text));
        }
        let (key, salt) = encryption_key(request, algorithm)?;
        Ok(Self { encr: id, key, salt, auth, auth_key })
    }
}

fn authentication_key(request: &SaRequest, id: u8, key: &HexKey) -> Result<SecretKey, Message> {
    let Some(algorithm) = algorithms::by_id(Kind::Authentication, id) else {
        return Err(Message::new(request.algorithm_at, format!("authentication algorithm {id} is unknown")));
    };
    let wrong = || {
        let text = format!("authkey has {} bits; {} takes {}", key.bits, algorithm.name(), algorithm.key.min);
        Message::new(request.auth_key_at, text)
    };
    if !algorithm.key.contains(key.bits) {
        return Err(wrong());
    }
    key.split_salt(0).map(|(key, _)| key).ok_or_else(wrong)
}

/// Key and salt of a cipher, which takes none when it enciphers nothing.
fn encryption_key(request: &SaRequest, algorithm: &Algorithm) -> Result<(SecretKey, SecretKey), Message> {
    let Some(key) = &request.encr_key else {
        if algorithm.key.max == 0 {
            return Ok((SecretKey::default(), SecretKey::default()));
        }
        return Err(Message::new(request.algorithm_at, format!("{} needs a key: encrkey", algorithm.name())));
    };
    if let Some(reserved) = request.reserved_bits.filter(|bits| *bits != 0 && *bits != algorithm.salt_bits) {
        let text = format!("reserved_bits {reserved}: {} has {} bits of salt", algorithm.name(), algorithm.salt_bits);
        return Err(Message::new(request.key_at, text));
    }
    let wrong = || Message::new(request.key_at, key_lengths(algorithm, key.bits));
    let key_bits = key.bits.checked_sub(algorithm.salt_bits).ok_or_else(wrong)?;
    if !algorithm.key.contains(key_bits) {
        return Err(wrong());
    }
    key.split_salt(algorithm.salt_bits).ok_or_else(wrong)
}

fn key_lengths(algorithm: &Algorithm, given: u16) -> String {
    let (name, key, salt) = (algorithm.name(), algorithm.key, algorithm.salt_bits);
    let sizes = match key {
        _ if key.is_fixed() => key.min.to_string(),
        _ if key.step < 64 => format!("{} to {} in steps of {}", key.min, key.max, key.step),
        _ => {
            let sizes: Vec<_> = (key.min..=key.max).step_by(usize::from(key.step)).map(|b| b.to_string()).collect();
            sizes.join(" or ")
        }
    };
    match salt {
        0 => format!("encrkey has {given} bits; {name} takes a key of {sizes} bits"),
        _ => format!("encrkey has {given} bits; {name} takes a key of {sizes} bits and {salt} bits of salt behind it"),
    }
}

/// Ports of the encapsulation in the direction of the SA's packets.
fn encap(request: &SaRequest, destination: IpAddr, is_local: &dyn Fn(IpAddr) -> bool) -> Option<Encap> {
    let natt = request.encap?;
    let inbound = match request.name.direction {
        Direction::In => true,
        Direction::Out => false,
        Direction::Unspecified => is_local(destination),
    };
    let local = natt.local_port.unwrap_or(NATT_PORT);
    let remote = natt.remote_port.unwrap_or(NATT_PORT);
    let (sport, dport) = if inbound { (remote, local) } else { (local, remote) };
    Some(Encap { sport, dport, nat_local: natt.local, nat_remote: natt.remote })
}

/// What the SA may carry, in the direction of its packets; `None` when only mode and addresses decide.
fn selectors(request: &SaRequest, source: Option<IpAddr>, destination: IpAddr) -> Result<Option<SaSelectors>, Message> {
    let port = |port: Option<u16>| match port {
        None | Some(0) => [0, u16::MAX],
        Some(port) => [port, port],
    };
    if !request.is_tunnel() {
        let proto = request.proto.unwrap_or(0);
        if proto == 0 && request.ports.iter().all(Option::is_none) {
            return Ok(None);
        }
        let any = Prefix::new(destination, 0).unwrap_or(Prefix::host(destination));
        let (src_low, src_high) = range(source.map_or(any, Prefix::host));
        let (dst_low, dst_high) = range(Prefix::host(destination));
        let [sport, dport] = request.ports.map(port);
        return Ok(Some(SaSelectors {
            src_low,
            src_high,
            dst_low,
            dst_high,
            sport,
            dport,
            proto,
            ..SaSelectors::default()
        }));
    }
    // One inner address alone leaves the other unspecified: any address of that family.
    let family = request.inner_source.or(request.inner_destination).map_or(destination, |p| p.addr);
    if let (Some(a), Some(b)) = (request.inner_source, request.inner_destination)
        && a.addr.is_ipv4() != b.addr.is_ipv4()
    {
        let text = "inner source and destination are of two IP versions (diagnostic code 67)";
        return Err(Message::new(request.name.at, text));
    }
    let outer = if family.is_ipv4() { 4 } else { 41 };
    if let Some(proto) = request.proto.filter(|p| *p != 0 && *p != outer) {
        let text = format!("proto {proto}: the outer protocol of this tunnel is {outer} (diagnostic code 67)");
        return Err(Message::new(request.name.at, text));
    }
    let any = Prefix::new(family, 0).unwrap_or(Prefix::host(family));
    let (src_low, src_high) = range(request.inner_source.unwrap_or(any));
    let (dst_low, dst_high) = range(request.inner_destination.unwrap_or(any));
    let [sport, dport] = request.inner_ports.map(port);
    let proto = request.inner_proto.unwrap_or(0);
    Ok(Some(SaSelectors { src_low, src_high, dst_low, dst_high, sport, dport, proto, ..SaSelectors::default() }))
}

/// First and last address of a prefix.
pub(super) fn range(prefix: Prefix) -> (Addr, Addr) {
    let bits = u32::from(prefix.len) + if prefix.addr.is_ipv4() { 96 } else { 0 };
    let low = Addr::from(prefix.addr);
    let free = u128::MAX.checked_shr(bits).unwrap_or(0);
    let high = Addr::from_octets((u128::from_be_bytes(low.octets()) | free).to_be_bytes());
    (low, high)
}

/// The keys of the SAs that a name stands for.
pub fn keys(name: &SaName) -> Vec<SaKey> {
    let key = |(src, dst)| SaKey { proto: name.kind.protocol(), spi: name.spi, dst, src, direction: name.direction };
    name.pairs().into_iter().map(key).collect()
}

/// What an update changes.
///
/// # Errors
/// Something was given that an SA in use cannot change (diagnostic codes 36, 37, 43).
pub fn update(request: &SaRequest) -> Result<SaUpdate, Message> {
    let at = request.name.at;
    if request.encr_key.is_some() || request.encr.is_some() {
        return Err(Message::new(request.key_at, "an SA in use cannot change its encryption (diagnostic code 37)"));
    }
    if request.auth_key.is_some() || request.auth.is_some() {
        let text = "an SA in use cannot change its authentication (diagnostic code 36)";
        return Err(Message::new(request.auth_key_at, text));
    }
    if request.replay_value.is_some() {
        return Err(Message::new(at, "an SA in use cannot change its replay counter (diagnostic code 43)"));
    }
    let other = request.is_tunnel()
        || request.esn
        || request.encap.is_some()
        || request.replay.is_some()
        || request.reserved_bits.is_some();
    if other {
        return Err(Message::new(at, "update changes lifetimes and pairing only"));
    }
    Ok(SaUpdate { soft: request.soft, hard: request.hard, idle: request.idle, pair_spi: request.pair_spi, km: None })
}
