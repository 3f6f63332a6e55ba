//! Requests to what the SADB takes: keys split from salts, inner addresses to selectors, ports to their places.

use super::Message;
use super::request::{SaName, SaRequest, SaType};
use crate::algorithms::{self, Algorithm, Kind, NotImplemented};
use crate::policy::selectors::Prefix;
use sadb_maps::Addr;
use sadb_maps::host::{Direction, Encap, Mode, SaKey, SaSpec, SaUpdate};
use sadb_maps::sa::SaSelectors;
use std::net::IpAddr;

/// Port of UDP-encapsulated ESP (RFC 3948 section 2.1).
const NATT_PORT: u16 = 4500;

/// The SAs that an add makes: one for each destination. `is_local` says which addresses this host has.
///
/// # Errors
/// Algorithms that the data path does not implement, keys of the wrong length, inner addresses of two families.
pub fn specs(request: &SaRequest, is_local: &dyn Fn(IpAddr) -> bool) -> Result<Vec<SaSpec>, Message> {
    let algorithm = implemented(request)?;
    let key = request
        .encr_key
        .as_ref()
        .ok_or_else(|| Message::new(request.algorithm_at, format!("{} needs a key: encrkey", algorithm.name())))?;
    if let Some(reserved) = request.reserved_bits.filter(|bits| *bits != 0 && *bits != algorithm.salt_bits()) {
        let text = format!("reserved_bits {reserved}: {} has {} bits of salt", algorithm.name(), algorithm.salt_bits());
        return Err(Message::new(request.key_at, text));
    }
    let key_bits = key.bits.saturating_sub(algorithm.salt_bits());
    if !algorithm.implemented.contains(&key_bits) {
        return Err(Message::new(request.key_at, key_lengths(algorithm, key.bits)));
    }
    let (cipher_key, salt) = key
        .split_salt(algorithm.salt_bits())
        .ok_or_else(|| Message::new(request.key_at, key_lengths(algorithm, key.bits)))?;
    let mut found = Vec::new();
    for (source, destination) in request.name.pairs() {
        let any = Prefix::new(destination, 0).unwrap_or(Prefix::host(destination)).addr;
        let mut spec = SaSpec::new(request.name.kind.protocol(), request.name.spi, source.unwrap_or(any), destination);
        spec.direction = request.name.direction;
        spec.mode = if request.is_tunnel() { Mode::Tunnel } else { Mode::Transport };
        spec.encr = algorithm.id;
        spec.key = cipher_key.clone();
        spec.salt = salt.clone();
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
        found.push(spec);
    }
    Ok(found)
}

/// The algorithm of the request, if the data path has it.
fn implemented(request: &SaRequest) -> Result<&'static Algorithm, Message> {
    let refuse = |what: String| Message::new(request.algorithm_at, NotImplemented(what).to_string());
    if request.name.kind == SaType::Ah {
        let auth = algorithms::display_name(Kind::Authentication, request.auth.unwrap_or(0));
        return Err(refuse(format!("AH with {auth}")));
    }
    let id = request.encr.unwrap_or(algorithms::ESP_NULL);
    let Some(algorithm) = algorithms::by_id(Kind::Encryption, id) else {
        return Err(Message::new(request.algorithm_at, format!("encryption algorithm {id} is unknown")));
    };
    let auth = request.auth.filter(|id| *id != 0);
    if algorithm.implemented.is_empty() {
        let with = auth.map(|id| format!(" with {}", algorithms::display_name(Kind::Authentication, id)));
        return Err(refuse(format!("ESP {}{}", algorithm.name(), with.unwrap_or_default())));
    }
    if auth.is_some() || request.auth_key.is_some() {
        let text = format!("{} authenticates by itself: remove auth_alg and authkey", algorithm.name());
        return Err(Message::new(request.algorithm_at, text));
    }
    Ok(algorithm)
}

fn key_lengths(algorithm: &Algorithm, given: u16) -> String {
    let salt = algorithm.salt_bits();
    let sizes: Vec<_> = algorithm.implemented.iter().map(|bits| format!("{bits}+{salt}")).collect();
    format!("encrkey has {given} bits; {} takes a key and then its salt, {} bits", algorithm.name(), sizes.join(" or "))
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
    Some(Encap { sport, dport, nat_local: natt.local.map(IpAddr::V4), nat_remote: natt.remote.map(IpAddr::V4) })
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
fn range(prefix: Prefix) -> (Addr, Addr) {
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
        return Err(Message::new(at, "an SA in use cannot change its authentication (diagnostic code 36)"));
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
