//! How get, dump and monitor print an SA (spec section 7.6): the PF_KEY message that would carry it, one extension after the
//! other, lifetimes last; and the same for `--json`.

use super::labels::Labels;
use super::times;
use crate::algorithms::{self, Kind};
use crate::names::Names;
use sadb_maps::host::pfkey::{Association, Choices, Endpoint, Message, Proposal, kind, sa_flag};
use sadb_maps::host::{Diagnostic, Identity, SaInfo, SaSpec, SecretKey};
use sadb_maps::sa::{self, Lifetime, flag, km, state};
use serde::Serialize;
use std::borrow::Cow;
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
    /// Labels behind cookies.
    pub labels: &'n Labels,
}

/// Flag bits of PF_KEY (spec section 8.1) in the order in which they are printed.
const FLAGS: [(u32, &str); 11] = [
    (sa_flag::PFS, "PFS"),
    (sa_flag::NOREPLAY, "NOREPLAY"),
    (sa_flag::USED, "X_USED"),
    (sa_flag::PAIRED, "X_PAIRED"),
    (sa_flag::OUTBOUND, "X_OUTBOUND"),
    (sa_flag::INBOUND, "X_INBOUND"),
    (sa_flag::UNIQUE, "X_UNIQUE"),
    (sa_flag::NATT_LOC, "X_NATT_LOC"),
    (sa_flag::NATT_REM, "X_NATT_REM"),
    (sa_flag::TUNNEL, "X_TUNNEL"),
    (sa_flag::NATTED, "X_NATTED"),
];

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
    let message = Message { seq, ..about(sa) };
    // Writing to a String cannot fail.
    let _ = write(&mut out, verb, &message, &Beside::of(sa), style);
    out
}

/// A request as it is sent, for `-v`: the message between two lines. Wiped after use: it may hold keys.
pub fn request(message: &Message, spec: Option<&SaSpec>, style: &Style<'_>) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(4096));
    let beside = spec.map(|spec| Beside {
        window: Some(spec.replay_window),
        keys: Some([&spec.auth_key, &spec.key, &spec.salt]),
        esn: spec.esn,
        ..Beside::default()
    });
    let _ = writeln!(out, "{RULE}");
    // Writing to a String cannot fail.
    let _ = write(&mut out, &verb(message.kind), message, &beside.unwrap_or_default(), style);
    let _ = writeln!(out, "{RULE}");
    out
}

/// What stands above and below a request.
const RULE: &str = "----------------------------------------";

/// What is to be printed of an SA and is in no message of the bus.
#[derive(Default)]
struct Beside<'a> {
    /// Packets of the replay window, for which the message has eight bits.
    window: Option<u32>,
    /// Keys of authentication and encryption, and salt.
    keys: Option<[&'a SecretKey; 3]>,
    esn: bool,
    /// Seconds since it was added and first used, by a clock that does not jump.
    age: Option<u64>,
    used: Option<u64>,
}

impl<'a> Beside<'a> {
    fn of(sa: &'a SaInfo) -> Self {
        Self {
            window: Some(sa.replay_window),
            keys: Some([sa.auth_key(), sa.key(), sa.salt()]),
            esn: sa.flags & flag::ESN != 0,
            age: Some(sa.age.as_secs()),
            used: sa.first_use.map(|since| since.as_secs()),
        }
    }
}

/// A message of the bus, as `monitor` prints it. There are no keys on the bus.
pub fn message(message: &Message, style: &Style<'_>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, &verb(message.kind), message, &Beside::default(), style);
    out
}

/// The word for a message of the bus.
pub(super) fn verb(message: u8) -> Cow<'static, str> {
    Cow::Borrowed(match message {
        0 => "RESERVED",
        kind::GETSPI => "GETSPI",
        kind::UPDATE => "UPDATE",
        kind::ADD => "ADD",
        kind::DELETE => "DELETE",
        GET => "GET",
        kind::ACQUIRE => "ACQUIRE",
        7 => "REGISTER",
        kind::EXPIRE => "EXPIRE",
        kind::FLUSH => "FLUSH",
        DUMP => "DUMP",
        11 => "X_PROMISC",
        12 => "X_INVERSE_ACQUIRE",
        kind::UPDATE_PAIR => "UPDATE PAIR",
        kind::DELETE_PAIR => "DELETE PAIR",
        kind::NEW_MAPPING => "NEW MAPPING",
        other => return Cow::Owned(format!("Unknown ({other})")),
    })
}

/// Number of GET, which is never on the bus.
pub(super) const GET: u8 = 5;
/// Number of DUMP, which is never on the bus.
pub(super) const DUMP: u8 = 10;

/// The message that would carry the SA: ports and protocol of a transport-mode SA stand with its outer addresses.
fn about(sa: &SaInfo) -> Message {
    let mut message = Message::about(0, sa);
    if sa.is_tunnel() {
        let proto = if message.inner_src.is_none_or(|s| s.addr.is_ipv4()) { 4 } else { 41 };
        for end in [&mut message.src, &mut message.dst].into_iter().flatten() {
            end.proto = proto;
        }
    } else {
        let inner = [message.inner_src.take(), message.inner_dst.take()];
        for (end, inner) in [&mut message.src, &mut message.dst].into_iter().zip(inner) {
            if let (Some(end), Some(inner)) = (end, inner) {
                (end.proto, end.port) = (inner.proto, inner.port);
            }
        }
    }
    if let Some(encap) = sa.encap {
        let (local, remote) = if sa.is_outbound() { (encap.sport, encap.dport) } else { (encap.dport, encap.sport) };
        let any: IpAddr = if sa.dst.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let end = |nat: Option<IpAddr>, port| Endpoint { proto: UDP, port, ..Endpoint::host(nat.unwrap_or(any)) };
        message.nat_local = Some(end(encap.nat_local, local));
        message.nat_remote = Some(end(encap.nat_remote, remote));
    }
    message
}

/// Protocol number of UDP.
const UDP: u8 = 17;

fn write(out: &mut String, verb: &str, message: &Message, beside: &Beside<'_>, style: &Style<'_>) -> Result {
    writeln!(out, "Base message (version 2) type {verb}, SA type {}.", sa_type(message.satype))?;
    if message.errno != 0 {
        let reason = std::io::Error::from_raw_os_error(message.errno.into());
        writeln!(out, "Error {reason} from PF_KEY.")?;
    }
    if message.diagnostic != 0 {
        let text =
            u8::try_from(message.diagnostic).ok().and_then(Diagnostic::from_code).map_or("unknown", |d| d.text());
        writeln!(out, "  Diagnostic code {}:  {text}.", message.diagnostic)?;
    }
    // Each extension is a multiple of eight octets (RFC 2367 section 2); keys are in no message of the library.
    let keys = beside.keys.map_or([0, 0], |[auth, key, salt]| [auth.len(), key.len() + salt.len()]);
    let of_keys = keys.map(|len| if len == 0 { 0 } else { 8 + len.next_multiple_of(8) });
    let length = message.encode().len() + of_keys.iter().sum::<usize>();
    writeln!(out, "Message length {length} bytes, seq={}, pid={}.", message.seq, message.pid)?;
    if let Some(association) = &message.sa {
        let window = beside.window.unwrap_or(association.replay.into());
        write_association(out, association, window)?;
    }
    for (tag, what, end, prefix) in [
        ("SRC", "Source address", &message.src, false),
        ("DST", "Destination address", &message.dst, false),
        ("INS", "Inner source address", &message.inner_src, true),
        ("IND", "Inner destination address", &message.inner_dst, true),
        ("NLC", "NAT-T local address", &message.nat_local, false),
        ("NRM", "NAT-T remote address", &message.nat_remote, false),
    ] {
        if let Some(end) = end {
            write_address(out, [tag, what], end, prefix, style)?;
        }
    }
    if let Some(keys) = beside.keys {
        write_keys(out, keys, style)?;
    }
    for (tag, what, identity) in
        [("SID", "Source", &message.src_identity), ("DID", "Destination", &message.dst_identity)]
    {
        if let Some(identity) = identity {
            let (kind, text) = (identity_type(identity), identity.text());
            // The number of the user is not kept: there are no sockets with SAs of their own.
            writeln!(out, "{tag}: {what} identity, uid=0, type {kind}\n{tag}: {text}")?;
        }
    }
    if let Some((protocol, cookie)) = message.km {
        write_cookie(out, protocol, cookie, style.labels)?;
    }
    if let Some(pair) = message.pair {
        writeln!(out, "OTH: Paired with spi=0x{pair:x}")?;
    }
    if beside.esn {
        out.push_str("OTH: Extended (64-bit) sequence numbers\n");
    }
    if let Some(replay) = message.replay {
        writeln!(out, "RPL: Replay Value {replay}")?;
    }
    if let Some((low, high)) = message.range {
        writeln!(out, "SPR: SPI range, min=0x{low:x}, max=0x{high:x}")?;
    }
    if let Some(choices) = &message.choices {
        write_choices(out, choices)?;
    }
    if let Some(proposal) = &message.proposal {
        write_proposal(out, proposal)?;
    }
    write_lifetimes(out, message, beside, style)
}

/// What a type of identity is called.
fn identity_type(identity: &Identity) -> Cow<'static, str> {
    Cow::Borrowed(match identity.kind() {
        1 => "prefix",
        2 => "FQDN",
        3 => "user-FQDN (mailbox)",
        4 => "ASN.1 DER Distinguished Name",
        5 => "ASN.1 DER Generic Name",
        6 => "key id",
        7 => "address range",
        other => return Cow::Owned(format!("<unknown {other}>")),
    })
}

/// Name of a PF_KEY SA type.
fn sa_type(satype: u8) -> &'static str {
    match satype {
        0 => "<unspecified/all>",
        2 => "AH",
        3 => "ESP",
        _ => "<unknown>",
    }
}

fn write_association(out: &mut String, sa: &Association, window: u32) -> Result {
    let state = state_word(sa.state.into());
    writeln!(out, "SA: SADB_ASSOC spi=0x{:x}, replay window size={window}, state={state}", sa.spi)?;
    if sa.auth != 0 {
        writeln!(out, "SA: Authentication algorithm = {}", algorithms::display_name(Kind::Authentication, sa.auth))?;
    }
    if sa.encr != 0 {
        writeln!(out, "SA: Encryption algorithm = {}", algorithms::display_name(Kind::Encryption, sa.encr))?;
    }
    write!(out, "SA: flags=0x{:x} < ", sa.flags)?;
    for (_, name) in FLAGS.iter().filter(|(bit, _)| sa.flags & bit != 0) {
        write!(out, "{name} ")?;
    }
    out.push_str(">\n");
    Ok(())
}

fn write_address(out: &mut String, [tag, what]: [&str; 2], end: &Endpoint, prefix: bool, style: &Style<'_>) -> Result {
    let Endpoint { proto, addr, port, .. } = *end;
    write!(out, "{tag}: {what} (proto={proto}")?;
    if let Some(name) = style.names.filter(|_| proto != 0).and_then(|n| n.protocol_name(proto)) {
        write!(out, "/{name}")?;
    }
    let family = if addr.is_ipv4() { "AF_INET" } else { "AF_INET6" };
    write!(out, ")\n{tag}: {family}: port {port}, {addr}")?;
    if prefix {
        write!(out, "/{}", end.prefix)?;
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

fn write_limits(out: &mut String, tag: &str, soft: &Lifetime, hard: &Lifetime) -> Result {
    for (name, l) in [("HARD", hard), ("SOFT", soft)] {
        writeln!(
            out,
            "{tag}: {name}: alloc={}, bytes={}, post-add secs={}, post-use secs={}",
            l.allocations, l.bytes, l.add, l.used
        )?;
    }
    Ok(())
}

fn write_choices(out: &mut String, choices: &Choices) -> Result {
    let (replay, count) = (choices.replay, choices.choices.len());
    writeln!(out, "PRP: Proposal, replay window size={replay}, {count} combinations.")?;
    for (number, choice) in (1..).zip(&choices.choices) {
        writeln!(out, "PRP: Combination {number}:")?;
        write_limits(out, "PRP", &choice.soft, &choice.hard)?;
        for (what, kind, id, [least, most]) in [
            ("authentication", Kind::Authentication, choice.auth, choice.auth_bits),
            ("encryption", Kind::Encryption, choice.encr, choice.encr_bits),
        ] {
            if id != 0 {
                let name = algorithms::display_name(kind, id);
                writeln!(out, "PRP: {what} = {name}, minbits={least}, maxbits={most}")?;
            }
        }
    }
    Ok(())
}

fn write_proposal(out: &mut String, proposal: &Proposal) -> Result {
    let (replay, count) = (proposal.replay, proposal.combinations.len());
    writeln!(out, "EPR: Extended proposal, replay window size={replay}, {count} combinations.")?;
    for (number, combination) in (1..).zip(&proposal.combinations) {
        writeln!(out, "EPR: Combination {number}:")?;
        write_limits(out, "EPR", &combination.soft, &combination.hard)?;
        for algorithm in &combination.algorithms {
            let (what, kind) = match algorithm.kind {
                1 => ("authentication", Kind::Authentication),
                _ => ("encryption", Kind::Encryption),
            };
            writeln!(
                out,
                "EPR: {} {what} = {}, minbits={}, maxbits={}, saltbits={}",
                sa_type(algorithm.satype),
                algorithms::display_name(kind, algorithm.id),
                algorithm.min_bits,
                algorithm.max_bits,
                algorithm.salt_bits
            )?;
        }
    }
    Ok(())
}

/// Octets of a key in hexadecimal, or `XX` for each.
pub(super) fn push_hex(out: &mut String, key: &SecretKey, paranoid: bool) {
    for octet in key.octets() {
        // Writing to a String cannot fail.
        let _ = if paranoid { out.write_str("XX") } else { write!(out, "{octet:02x}") };
    }
}

fn write_keys(out: &mut String, [auth, key, salt]: [&SecretKey; 3], style: &Style<'_>) -> Result {
    if !auth.is_empty() {
        out.push_str("AKY: Authentication key.\nAKY: ");
        push_hex(out, auth, style.paranoid);
        writeln!(out, "/{}", auth.len() * 8)?;
    }
    if key.is_empty() {
        return Ok(());
    }
    out.push_str("EKY: Encryption key.\nEKY: ");
    push_hex(out, key, style.paranoid);
    if salt.is_empty() {
        return writeln!(out, "/{}", key.len() * 8);
    }
    out.push('[');
    push_hex(out, salt, style.paranoid);
    writeln!(out, "]/{}+{}", key.len() * 8, salt.len() * 8)
}

fn write_cookie(out: &mut String, protocol: u32, cookie: u64, labels: &Labels) -> Result {
    let label = labels.get(cookie);
    let text = match (u8::try_from(protocol), label) {
        (Ok(km::IKEV1 | km::IKEV2), Some(label)) => label.to_owned(),
        (Ok(km::IKEV1), None) => "<Label not found.>".to_owned(),
        (Ok(km::IKEV2), None) => format!("IKEV2: 0x{cookie:016x}"),
        (Ok(km::MANUAL), _) => format!("Manual SA with cookie: 0x{cookie:016x}"),
        _ => format!("<unknown {protocol}>: 0x{cookie:016x}"),
    };
    writeln!(out, "KMC:  Protocol {protocol}, cookie=\"{text}\" ({cookie})")
}

fn write_lifetimes(out: &mut String, message: &Message, beside: &Beside<'_>, style: &Style<'_>) -> Result {
    let raw = |time: i64| if style.verbose { format!(" (raw time {time})") } else { String::new() };
    let date = |time: i64| format!("{}{}", times::date(time), raw(time));
    let wall = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    // The clock of the SA does not jump; without the SA the wall clock has to do.
    let since = |then: u64| u64::try_from(style.now.saturating_sub(wall(then))).unwrap_or(0);
    if message.current.is_some() || message.soft.is_some() || message.hard.is_some() || message.idle.is_some() {
        out.push_str(" LT: Lifetime information\n");
    }
    if let Some(current) = &message.current {
        out.push_str("CLT: Current lifetime information:\n");
        let (bytes, allocations) = (current.bytes, current.allocations);
        writeln!(out, "CLT: {bytes} bytes{} protected, {allocations} allocations used.", times::octets(bytes))?;
        writeln!(out, "CLT: SA added at time: {}", date(wall(current.add)))?;
        if current.used != 0 {
            writeln!(out, "CLT: SA first used at time {}", date(wall(current.used)))?;
        }
        writeln!(out, "CLT: Time now is {}", date(style.now))?;
    }
    for (tag, name, limits) in [("SLT", "Soft", message.soft), ("HLT", "Hard", message.hard)] {
        let Some(limits) = limits else { continue };
        writeln!(out, "{tag}: {name} lifetime information:")?;
        let Lifetime { bytes, add, used: since_use, allocations } = limits;
        writeln!(out, "{tag}: {bytes} bytes{} of lifetime, {allocations} allocations.", times::octets(bytes))?;
        writeln!(out, "{tag}: {add} seconds{} of post-add lifetime.", times::duration(add))?;
        writeln!(out, "{tag}: {since_use} seconds{} of post-use lifetime.", times::duration(since_use))?;
        let Some(current) = &message.current else { continue };
        if bytes != 0 {
            let left = bytes.saturating_sub(current.bytes);
            writeln!(out, "{tag}: {left} bytes{} more can be protected.", times::octets(left))?;
        }
        let age = beside.age.unwrap_or(since(current.add));
        let used = (current.used != 0).then(|| beside.used.unwrap_or(since(current.used)));
        match remaining(&limits, age, used) {
            None => {}
            Some(0) => writeln!(out, "{tag}: {name} expiration occurred")?,
            Some(left) => writeln!(
                out,
                "{tag}: {name} expiration occurs in {left} seconds{}\n{tag}: Time of expiration: {}.",
                times::duration(left),
                date(style.now.saturating_add_unsigned(left))
            )?,
        }
    }
    if let Some(Lifetime { add, used, .. }) = message.idle {
        out.push_str("ILT: Idle lifetime information:\n");
        writeln!(out, "ILT: {add} seconds{} of post-add lifetime.", times::duration(add))?;
        writeln!(out, "ILT: {used} seconds{} of post-use lifetime.", times::duration(used))?;
    }
    Ok(())
}

/// Seconds to the earlier of the two expiries by time; 0 when it has passed, `None` when there is no such limit.
fn remaining(limits: &Lifetime, age: u64, used: Option<u64>) -> Option<u64> {
    let by_add = (limits.add != 0).then(|| limits.add.saturating_sub(age));
    let by_use = used.filter(|_| limits.used != 0).map(|since| limits.used.saturating_sub(since));
    by_add.into_iter().chain(by_use).min()
}

/// Inner source and destination of a tunnel-mode SA, with prefix lengths.
pub fn inner(sa: &SaInfo) -> Option<(Endpoint, Endpoint)> {
    let message = Message::about(0, sa);
    message.inner_src.zip(message.inner_dst).filter(|_| sa.is_tunnel())
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
    pub proto: Option<u8>,
    pub sport: Option<[u16; 2]>,
    pub dport: Option<[u16; 2]>,
    pub inner_src: Option<String>,
    pub inner_dst: Option<String>,
    pub inner_proto: Option<u8>,
    pub inner_sport: Option<[u16; 2]>,
    pub inner_dport: Option<[u16; 2]>,
    pub encr_alg: Option<String>,
    pub key_bits: u16,
    pub auth_alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authkey: Option<String>,
    pub esn: bool,
    pub replay_window: u32,
    pub replay_value: u64,
    pub pair_spi: Option<String>,
    pub udp_encap: Option<[u16; 2]>,
    pub nat_loc: Option<IpAddr>,
    pub nat_rem: Option<IpAddr>,
    pub moved_to: Option<IpAddr>,
    pub src_identity: Option<JsonIdentity>,
    pub dst_identity: Option<JsonIdentity>,
    pub key_management: &'static str,
    pub cookie: Option<String>,
    pub label: Option<String>,
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

/// An identity for `--json`: `type` as the extensions of ipseckey take it.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation")]
pub struct JsonIdentity {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

impl From<&Identity> for JsonIdentity {
    fn from(identity: &Identity) -> Self {
        let kind = identity.word().map_or_else(|| identity.kind().to_string(), str::to_owned);
        Self { kind, value: identity.text().to_owned() }
    }
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
        self.authkey.zeroize();
    }
}

/// The SA as `--json` prints it; without the keys when `paranoid`.
pub fn json(sa: &SaInfo, paranoid: bool, labels: &Labels) -> JsonSa {
    let inner = inner(sa);
    // Those of a flow in transport mode, and of the packets inside in tunnel mode.
    let [flow, inside] = if sa.is_tunnel() { [None, sa.selectors] } else { [sa.selectors, None] };
    let ports = |range: [u16; 2]| (range != [0, u16::MAX]).then_some(range);
    let prefix = |end: &Endpoint| format!("{}/{}", end.addr, end.prefix);
    let seconds = |ago: Option<Duration>| ago.map(|d| d.as_secs());
    let key = |key: &SecretKey, salt: &SecretKey| {
        let len = key.len() + salt.len();
        (!paranoid && len != 0).then(|| {
            let mut text = String::with_capacity(2 * len + 8);
            push_hex(&mut text, key, false);
            push_hex(&mut text, salt, false);
            // Writing to a String cannot fail.
            let _ = write!(text, "/{}", len * 8);
            text
        })
    };
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
        proto: flow.map(|s| s.proto).filter(|proto| *proto != 0),
        sport: flow.and_then(|s| ports(s.sport)),
        dport: flow.and_then(|s| ports(s.dport)),
        inner_src: inner.as_ref().map(|(src, _)| prefix(src)),
        inner_dst: inner.as_ref().map(|(_, dst)| prefix(dst)),
        inner_proto: inner.map(|(src, _)| src.proto),
        inner_sport: inside.and_then(|s| ports(s.sport)),
        inner_dport: inside.and_then(|s| ports(s.dport)),
        encr_alg: (sa.encr != 0).then(|| algorithms::display_name(Kind::Encryption, sa.encr)),
        key_bits: sa.key_bits,
        auth_alg: (sa.auth != 0).then(|| algorithms::display_name(Kind::Authentication, sa.auth)),
        encrkey: key(sa.key(), sa.salt()),
        authkey: key(sa.auth_key(), &SecretKey::default()),
        esn: sa.flags & flag::ESN != 0,
        replay_window: sa.replay_window,
        replay_value: if sa.is_outbound() { sa.seq } else { sa.top },
        pair_spi: sa.pair_spi.map(|spi| format!("0x{spi:x}")),
        udp_encap: sa.encap.map(|encap| [encap.sport, encap.dport]),
        nat_loc: sa.encap.and_then(|encap| encap.nat_local),
        nat_rem: sa.encap.and_then(|encap| encap.nat_remote),
        moved_to: sa.moved_to,
        src_identity: sa.src_identity.as_ref().map(JsonIdentity::from),
        dst_identity: sa.dst_identity.as_ref().map(JsonIdentity::from),
        key_management: match sa.km {
            km::MANUAL => "manual",
            km::IKEV1 => "ikev1",
            km::IKEV2 => "ikev2",
            _ => "unknown",
        },
        cookie: (sa.km_cookie != 0).then(|| format!("0x{:x}", sa.km_cookie)),
        label: labels.get(sa.km_cookie).filter(|_| sa.km != km::MANUAL).map(str::to_owned),
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
