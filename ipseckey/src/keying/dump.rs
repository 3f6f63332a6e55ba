//! How get and dump print an SA (spec section 7.6): the PF_KEY message that would carry it, one extension after the
//! other, lifetimes last; and the same for `--json`.

use super::times;
use crate::algorithms::{self, Kind};
use crate::names::Names;
use sadb_maps::Addr;
use sadb_maps::host::{SaInfo, SecretKey};
use sadb_maps::sa::{self, Lifetime, SaSelectors, flag, km, state};
use serde::Serialize;
use std::fmt::{Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use zeroize::Zeroizing;

/// How to print.
#[derive(Clone, Copy)]
pub struct Style<'n> {
    /// Databases for names; `None` prints numbers only (`-n`).
    pub names: Option<&'n dyn Names>,
    /// Print each key octet as `XX` (`-p`).
    pub paranoid: bool,
    /// Print raw times as well (`-v`).
    pub verbose: bool,
    /// Wall clock, seconds since 1970.
    pub now: i64,
    /// Process id in the base message.
    pub pid: u32,
}

/// Flag bits of PF_KEY (spec section 8.1), with the names that are printed.
const FLAGS: [(u32, &str); 7] = [
    (0x1, "PFS"),
    (0x8000_0000, "X_USED"),
    (0x1_0000, "X_PAIRED"),
    (0x8000, "X_OUTBOUND"),
    (0x4000, "X_INBOUND"),
    (0x4000_0000, "X_UNIQUE"),
    (0x10_0000, "X_NATT_LOC"),
];
const MORE_FLAGS: [(u32, &str); 3] = [(0x8_0000, "X_NATT_REM"), (0x2_0000, "X_TUNNEL"), (0x1000, "X_NATTED")];

/// PF_KEY flag bits of an SA.
pub fn pfkey_flags(sa: &SaInfo) -> u32 {
    let bit = |set: bool, value: u32| if set { value } else { 0 };
    let has = |bits: u32| sa.flags & bits != 0;
    bit(has(flag::PFS), 0x1)
        | bit(sa.first_use.is_some(), 0x8000_0000)
        | bit(has(flag::UNIQUE), 0x4000_0000)
        | bit(has(flag::NAT_LOCAL), 0x10_0000)
        | bit(has(flag::NAT_REMOTE), 0x8_0000)
        | bit(has(flag::TUNNEL), 0x2_0000)
        | bit(has(flag::PAIRED), 0x1_0000)
        | bit(has(flag::OUTBOUND), 0x8000)
        | bit(has(flag::INBOUND), 0x4000)
        | bit(has(flag::UDP_ENCAP), 0x1000)
}

/// The word for a state.
pub fn state_word(value: u32) -> &'static str {
    match value {
        state::LARVAL => "LARVAL",
        state::MATURE => "MATURE",
        state::DYING => "DYING",
        state::DEAD => "DEAD",
        _ => "<unknown>",
    }
}

/// The message for one SA. `verb` is `GET` or `DUMP`, `seq` its number in the dump. Wiped after use: it holds keys.
pub fn text(sa: &SaInfo, verb: &str, seq: u32, style: &Style<'_>) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(4096));
    // Writing to a String cannot fail.
    let _ = write(&mut out, sa, verb, seq, style);
    out
}

fn write(out: &mut String, sa: &SaInfo, verb: &str, seq: u32, style: &Style<'_>) -> Result {
    let kind = if sa.proto == sa::AH { "AH" } else { "ESP" };
    writeln!(out, "Base message (version 2) type {verb}, SA type {kind}.")?;
    writeln!(out, "Message length {} bytes, seq={seq}, pid={}.", message_length(sa), style.pid)?;
    let (window, word) = (sa.replay_window, state_word(sa.state));
    writeln!(out, "SA: SADB_ASSOC spi=0x{:x}, replay window size={window}, state={word}", sa.spi)?;
    if sa.auth != 0 {
        writeln!(out, "SA: Authentication algorithm = {}", algorithms::display_name(Kind::Authentication, sa.auth))?;
    }
    if sa.encr != 0 {
        writeln!(out, "SA: Encryption algorithm = {}", algorithms::display_name(Kind::Encryption, sa.encr))?;
    }
    let flags = pfkey_flags(sa);
    write!(out, "SA: flags=0x{flags:x} < ")?;
    for (_, name) in FLAGS.iter().chain(&MORE_FLAGS).filter(|(bit, _)| flags & bit != 0) {
        write!(out, "{name} ")?;
    }
    out.push_str(">\n");
    write_addresses(out, sa, style)?;
    write_key(out, sa, style)?;
    if sa.km != km::MANUAL || sa.km_cookie != 0 {
        write_cookie(out, sa)?;
    }
    if let Some(pair) = sa.pair_spi {
        writeln!(out, "OTH: Paired with spi=0x{pair:x}")?;
    }
    if sa.flags & flag::ESN != 0 {
        out.push_str("OTH: Extended (64-bit) sequence numbers\n");
    }
    writeln!(out, "RPL: Replay Value {}", sequence(sa))?;
    write_lifetimes(out, sa, style)
}

/// Highest sequence number given out or accepted.
fn sequence(sa: &SaInfo) -> u64 {
    if sa.is_outbound() { sa.seq } else { sa.top }
}

/// Octets of the PF_KEY message with these extensions, each a multiple of eight (RFC 2367 section 2).
fn message_length(sa: &SaInfo) -> usize {
    let address = |ip: IpAddr| if ip.is_ipv4() { 24 } else { 40 };
    let mut length = 16 + 16 + address(sa.src) + address(sa.dst) + 32;
    if let Some(s) = sa.selectors.filter(|_| sa.is_tunnel()) {
        length += address(s.src_low.into()) + address(s.dst_low.into());
    }
    for limits in [sa.soft, sa.hard] {
        length += if limits == Lifetime::default() { 0 } else { 32 };
    }
    length += if sa.idle == [0; 2] { 0 } else { 32 };
    let key = sa.key().len() + sa.salt().len();
    length += if key == 0 { 0 } else { 8 + key.next_multiple_of(8) };
    length += if sa.pair_spi.is_some() { 8 } else { 0 };
    length + if sa.km != km::MANUAL { 16 } else { 0 } + 16
}

fn write_addresses(out: &mut String, sa: &SaInfo, style: &Style<'_>) -> Result {
    let selectors = sa.selectors.unwrap_or_default();
    let outer = sa.selectors.filter(|_| !sa.is_tunnel());
    let outer_proto = match (sa.is_tunnel(), outer) {
        (true, _) if selectors.src_low.is_v4() || sa.selectors.is_none() => 4,
        (true, _) => 41,
        (false, Some(s)) => s.proto,
        (false, None) => 0,
    };
    let port = |port: [u16; 2]| if port == [0, u16::MAX] { 0 } else { port[0] };
    let (sport, dport) = outer.map_or((0, 0), |s| (port(s.sport), port(s.dport)));
    write_address(out, "SRC", "Source address", outer_proto, sport, sa.src, None, style)?;
    write_address(out, "DST", "Destination address", outer_proto, dport, sa.dst, None, style)?;
    if let Some(s) = sa.selectors.filter(|_| sa.is_tunnel()) {
        let (source, destination) = inner(&s);
        let (proto, sport, dport) = (s.proto, port(s.sport), port(s.dport));
        write_address(out, "INS", "Inner source address", proto, sport, source.0, Some(source.1), style)?;
        write_address(
            out,
            "IND",
            "Inner destination address",
            proto,
            dport,
            destination.0,
            Some(destination.1),
            style,
        )?;
    }
    if let Some([sport, dport]) = sa.encap {
        let (local, remote) = if sa.is_outbound() { (sport, dport) } else { (dport, sport) };
        // The addresses behind the NATs are not kept.
        let any: IpAddr = if sa.dst.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        write_address(out, "NLC", "NAT-T local address", 17, local, any, None, style)?;
        write_address(out, "NRM", "NAT-T remote address", 17, remote, any, None, style)?;
    }
    Ok(())
}

/// Inner source and destination with their prefix lengths.
pub fn inner(s: &SaSelectors) -> ((IpAddr, u32), (IpAddr, u32)) {
    ((s.src_low.into(), prefix_len(s.src_low, s.src_high)), (s.dst_low.into(), prefix_len(s.dst_low, s.dst_high)))
}

/// Length of the smallest prefix that holds the range.
fn prefix_len(low: Addr, high: Addr) -> u32 {
    let [low_bits, high_bits] = [low, high].map(|a| u128::from_be_bytes(a.octets()));
    let len = (low_bits ^ high_bits).leading_zeros();
    if low.is_v4() { len.saturating_sub(96) } else { len }
}

#[allow(clippy::too_many_arguments, reason = "one line of output with all that stands in it")]
fn write_address(
    out: &mut String,
    tag: &str,
    what: &str,
    proto: u8,
    port: u16,
    addr: IpAddr,
    prefix: Option<u32>,
    style: &Style<'_>,
) -> Result {
    write!(out, "{tag}: {what} (proto={proto}")?;
    if let Some(name) = style.names.filter(|_| proto != 0).and_then(|n| n.protocol_name(proto)) {
        write!(out, "/{name}")?;
    }
    let family = if addr.is_ipv4() { "AF_INET" } else { "AF_INET6" };
    write!(out, ")\n{tag}: {family}: port {port}, {addr}")?;
    if let Some(len) = prefix {
        write!(out, "/{len}")?;
    }
    match style.names {
        _ if addr.is_unspecified() => out.push_str(" <unspecified>"),
        None => {}
        Some(names) => match names.host_name(addr) {
            Some(name) => write!(out, " ({name})")?,
            None => out.push_str(" <unknown>"),
        },
    }
    out.push_str(".\n");
    Ok(())
}

/// Octets of a key in hexadecimal, or `XX` for each.
fn push_hex(out: &mut String, key: &SecretKey, paranoid: bool) {
    for octet in key.octets() {
        // Writing to a String cannot fail.
        let _ = if paranoid { out.write_str("XX") } else { write!(out, "{octet:02x}") };
    }
}

fn write_key(out: &mut String, sa: &SaInfo, style: &Style<'_>) -> Result {
    if sa.key().is_empty() {
        return Ok(());
    }
    out.push_str("EKY: Encryption key.\nEKY: ");
    push_hex(out, sa.key(), style.paranoid);
    if sa.salt().is_empty() {
        return writeln!(out, "/{}", sa.key().len() * 8);
    }
    out.push('[');
    push_hex(out, sa.salt(), style.paranoid);
    writeln!(out, "]/{}+{}", sa.key().len() * 8, sa.salt().len() * 8)
}

fn write_cookie(out: &mut String, sa: &SaInfo) -> Result {
    let cookie = sa.km_cookie;
    let text = match sa.km {
        km::IKEV1 => "<Label not found.>".to_owned(),
        km::IKEV2 => format!("IKEV2: 0x{cookie:016x}"),
        km::MANUAL => format!("Manual SA with cookie: 0x{cookie:016x}"),
        other => format!("<unknown {other}>: 0x{cookie:016x}"),
    };
    writeln!(out, "KMC:  Protocol {}, cookie=\"{text}\" ({cookie})", sa.km)
}

fn write_lifetimes(out: &mut String, sa: &SaInfo, style: &Style<'_>) -> Result {
    let raw = |time: i64| if style.verbose { format!(" (raw time {time})") } else { String::new() };
    let date = |time: i64| format!("{}{}", times::date(time), raw(time));
    out.push_str(" LT: Lifetime information\nCLT: Current lifetime information:\n");
    writeln!(out, "CLT: {} bytes{} protected, 0 allocations used.", sa.bytes, times::octets(sa.bytes))?;
    let added = times::seconds(sa.added);
    writeln!(out, "CLT: SA added at time: {}", date(added))?;
    let first_use = sa.first_use.map(|ago| style.now.saturating_sub_unsigned(ago.as_secs()));
    if let Some(first) = first_use {
        writeln!(out, "CLT: SA first used at time {}", date(first))?;
    }
    writeln!(out, "CLT: Time now is {}", date(style.now))?;
    for (tag, name, limits) in [("SLT", "Soft", sa.soft), ("HLT", "Hard", sa.hard)] {
        if limits == Lifetime::default() {
            continue;
        }
        writeln!(out, "{tag}: {name} lifetime information:")?;
        let Lifetime { bytes, add, used, allocations } = limits;
        writeln!(out, "{tag}: {bytes} bytes{} of lifetime, {allocations} allocations.", times::octets(bytes))?;
        writeln!(out, "{tag}: {add} seconds{} of post-add lifetime.", times::duration(add))?;
        writeln!(out, "{tag}: {used} seconds{} of post-use lifetime.", times::duration(used))?;
        if bytes != 0 {
            let left = bytes.saturating_sub(sa.bytes);
            writeln!(out, "{tag}: {left} bytes{} more can be protected.", times::octets(left))?;
        }
        if let Some(remaining) = remaining(sa, &limits) {
            match remaining {
                Some(left) => writeln!(
                    out,
                    "{tag}: {name} expiration occurs in {left} seconds{}\n{tag}: Time of expiration: {}.",
                    times::duration(left),
                    date(style.now.saturating_add_unsigned(left))
                )?,
                None => writeln!(out, "{tag}: {name} expiration occurred")?,
            }
        }
    }
    if sa.idle != [0; 2] {
        let [add, used] = sa.idle.map(u64::from);
        out.push_str("ILT: Idle lifetime information:\n");
        writeln!(out, "ILT: {add} seconds{} of post-add lifetime.", times::duration(add))?;
        writeln!(out, "ILT: {used} seconds{} of post-use lifetime.", times::duration(used))?;
    }
    Ok(())
}

/// Seconds to the earlier of the two expiries by time; `Some(None)` when it has passed, `None` when there is no limit.
fn remaining(sa: &SaInfo, limits: &Lifetime) -> Option<Option<u64>> {
    let by_add = (limits.add != 0).then_some((limits.add, sa.age));
    let by_use = sa.first_use.filter(|_| limits.used != 0).map(|since| (limits.used, since));
    [by_add, by_use].into_iter().flatten().map(|(limit, age)| limit.checked_sub(age.as_secs()).filter(|l| *l > 0)).min()
}

/// An SA for `--json`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipseckey(8) repeats them")]
pub struct JsonSa {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub spi: String,
    pub direction: &'static str,
    pub mode: &'static str,
    pub state: String,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub inner_src: Option<String>,
    pub inner_dst: Option<String>,
    pub inner_proto: Option<u8>,
    pub encr_alg: Option<String>,
    pub key_bits: u16,
    pub auth_alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrkey: Option<String>,
    pub esn: bool,
    pub replay_window: u32,
    pub replay_value: u64,
    pub pair_spi: Option<String>,
    pub udp_encap: Option<[u16; 2]>,
    pub key_management: &'static str,
    pub cookie: Option<String>,
    pub packets: u64,
    pub bytes: u64,
    pub integrity_failures: u64,
    pub replays: u64,
    pub added: i64,
    pub age_seconds: u64,
    pub first_use_seconds_ago: Option<u64>,
    pub last_use_seconds_ago: Option<u64>,
    pub soft: JsonLimits,
    pub hard: JsonLimits,
    pub idle: JsonIdle,
}

/// Limits for `--json`; 0 is none.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation")]
pub struct JsonLimits {
    pub bytes: u64,
    pub addtime: u64,
    pub usetime: u64,
    pub allocations: u64,
}

/// Idle limits for `--json`; 0 is none.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation")]
pub struct JsonIdle {
    pub addtime: u32,
    pub usetime: u32,
}

impl From<Lifetime> for JsonLimits {
    fn from(l: Lifetime) -> Self {
        Self { bytes: l.bytes, addtime: l.add, usetime: l.used, allocations: l.allocations }
    }
}

impl Drop for JsonSa {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.encrkey.zeroize();
    }
}

/// The SA as `--json` prints it; without the key when `paranoid`.
pub fn json(sa: &SaInfo, paranoid: bool) -> JsonSa {
    let inner = sa.selectors.filter(|_| sa.is_tunnel()).map(|s| inner(&s));
    let seconds = |ago: Option<Duration>| ago.map(|d| d.as_secs());
    let key = (!paranoid && !sa.key().is_empty()).then(|| {
        let mut text = String::with_capacity(2 * (sa.key().len() + sa.salt().len()) + 8);
        push_hex(&mut text, sa.key(), false);
        push_hex(&mut text, sa.salt(), false);
        let bits = (sa.key().len() + sa.salt().len()) * 8;
        // Writing to a String cannot fail.
        let _ = write!(text, "/{bits}");
        text
    });
    JsonSa {
        kind: if sa.proto == sa::AH { "ah" } else { "esp" },
        spi: format!("0x{:x}", sa.spi),
        direction: match (sa.is_inbound(), sa.is_outbound()) {
            (true, true) => "both",
            (true, false) => "in",
            _ => "out",
        },
        mode: if sa.is_tunnel() { "tunnel" } else { "transport" },
        state: state_word(sa.state).to_ascii_lowercase(),
        src: sa.src,
        dst: sa.dst,
        inner_src: inner.map(|((addr, len), _)| format!("{addr}/{len}")),
        inner_dst: inner.map(|(_, (addr, len))| format!("{addr}/{len}")),
        inner_proto: inner.and(sa.selectors).map(|s| s.proto),
        encr_alg: (sa.encr != 0).then(|| algorithms::display_name(Kind::Encryption, sa.encr)),
        key_bits: sa.key_bits,
        auth_alg: (sa.auth != 0).then(|| algorithms::display_name(Kind::Authentication, sa.auth)),
        encrkey: key,
        esn: sa.flags & flag::ESN != 0,
        replay_window: sa.replay_window,
        replay_value: sequence(sa),
        pair_spi: sa.pair_spi.map(|spi| format!("0x{spi:x}")),
        udp_encap: sa.encap,
        key_management: match sa.km {
            km::MANUAL => "manual",
            km::IKEV1 => "ikev1",
            km::IKEV2 => "ikev2",
            _ => "unknown",
        },
        cookie: (sa.km_cookie != 0).then(|| format!("0x{:x}", sa.km_cookie)),
        packets: sa.packets,
        bytes: sa.bytes,
        integrity_failures: sa.auth_failed,
        replays: sa.replayed,
        added: times::seconds(sa.added),
        age_seconds: sa.age.as_secs(),
        first_use_seconds_ago: seconds(sa.first_use),
        last_use_seconds_ago: seconds(sa.last_use),
        soft: sa.soft.into(),
        hard: sa.hard.into(),
        idle: JsonIdle { addtime: sa.idle[0], usetime: sa.idle[1] },
    }
}
