//! PF_KEY messages: what the tools and daemons tell each other about SAs (RFC 2367 section 2, with the extensions of
//! Solaris that spec section 8.1 numbers). Keys are never part of one.
//!
//! Lengths are in 64-bit words, SPIs and ports in network order, every other integer in host order. The decoder takes
//! nothing for granted: a length that does not fit is an error, an extension that is not known is skipped.

use super::spec::SaInfo;
use crate::event::{Event, expire};
use crate::policy::Rule;
use crate::sa::{AH, BindingKey, ESP, Lifetime, SaSelectors, encr, flag};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::UNIX_EPOCH;

/// Message types.
pub mod kind {
    /// An SPI was reserved.
    pub const GETSPI: u8 = 1;
    /// Limits, pair or cookie of an SA changed, or a larval SA matured.
    pub const UPDATE: u8 = 2;
    /// An SA was added.
    pub const ADD: u8 = 3;
    /// An SA was deleted.
    pub const DELETE: u8 = 4;
    /// A packet needs an SA.
    pub const ACQUIRE: u8 = 6;
    /// An SA passed a limit.
    pub const EXPIRE: u8 = 8;
    /// Every SA of a type was removed.
    pub const FLUSH: u8 = 9;
    /// The limits of a pair changed.
    pub const UPDATE_PAIR: u8 = 13;
    /// A pair was deleted.
    pub const DELETE_PAIR: u8 = 14;
}

/// SA flags as messages carry them.
pub mod sa_flag {
    /// Perfect forward secrecy.
    pub const PFS: u32 = 1;
    /// No replay protection.
    pub const NOREPLAY: u32 = 2;
    /// In use: a packet has passed.
    pub const USED: u32 = 0x8000_0000;
    /// One flow only.
    pub const UNIQUE: u32 = 0x4000_0000;
    /// This end is behind a NAT.
    pub const NATT_LOC: u32 = 0x0010_0000;
    /// The peer is behind a NAT.
    pub const NATT_REM: u32 = 0x0008_0000;
    /// Tunnel mode.
    pub const TUNNEL: u32 = 0x0002_0000;
    /// Paired.
    pub const PAIRED: u32 = 0x0001_0000;
    /// Seals packets.
    pub const OUTBOUND: u32 = 0x8000;
    /// Opens packets.
    pub const INBOUND: u32 = 0x4000;
    /// UDP encapsulation.
    pub const NATTED: u32 = 0x1000;
}

mod extension {
    pub(super) const SA: u16 = 1;
    pub(super) const LIFETIME_CURRENT: u16 = 2;
    pub(super) const LIFETIME_HARD: u16 = 3;
    pub(super) const LIFETIME_SOFT: u16 = 4;
    pub(super) const ADDRESS_SRC: u16 = 5;
    pub(super) const ADDRESS_DST: u16 = 6;
    pub(super) const INNER_SRC: u16 = 7;
    pub(super) const SPIRANGE: u16 = 16;
    pub(super) const EPROP: u16 = 18;
    pub(super) const KM_COOKIE: u16 = 19;
    pub(super) const NATT_LOC: u16 = 20;
    pub(super) const NATT_REM: u16 = 21;
    pub(super) const INNER_DST: u16 = 22;
    pub(super) const PAIR: u16 = 23;
    pub(super) const REPLAY_VALUE: u16 = 24;
    pub(super) const LIFETIME_IDLE: u16 = 26;
    /// Ours: which binding has no SA, by which rule of which generation.
    pub(super) const BINDING: u16 = 0x8001;
}

/// PF_KEY version.
const PF_KEY_V2: u8 = 2;
/// Octets of the base header.
const BASE: usize = 16;
/// Seconds of the default lifetimes of a proposal (spec section 8.3).
const SOFT_SECONDS: u64 = 24_000;
const HARD_SECONDS: u64 = 28_800;
/// Sequence numbers of messages that come from the data path have this bit.
const KERNEL_SEQUENCE: u32 = 0x8000_0000;

/// Why octets are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than a header, or than a length in it says.
    #[error("message or extension is cut short")]
    Short,
    /// Another version of PF_KEY.
    #[error("PF_KEY version {0} is not 2")]
    Version(u8),
    /// A length is zero, odd or does not suit the extension.
    #[error("extension {0} has a bad length")]
    Length(u16),
    /// An address is of neither family.
    #[error("address of unknown family {0}")]
    Family(u16),
}

/// The SA extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Association {
    /// SPI, host order.
    pub spi: u32,
    /// Replay window in packets; 255 stands for that and more.
    pub replay: u8,
    /// [`state`](crate::sa::state).
    pub state: u8,
    /// Authentication algorithm.
    pub auth: u8,
    /// ESP transform.
    pub encr: u8,
    /// [`sa_flag`] bits.
    pub flags: u32,
}

/// An address extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Upper-layer protocol; 0 is any.
    pub proto: u8,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// Address.
    pub addr: IpAddr,
    /// Port; 0 is any.
    pub port: u16,
}

impl Endpoint {
    /// One address, any protocol and port.
    pub fn host(addr: IpAddr) -> Self {
        Self { proto: 0, prefix: if addr.is_ipv4() { 32 } else { 128 }, addr, port: 0 }
    }
}

/// One algorithm of a combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm {
    /// SA type: 2 AH, 3 ESP.
    pub satype: u8,
    /// 1 authentication, 2 encryption.
    pub kind: u8,
    /// Algorithm number.
    pub id: u8,
    /// Bits of salt after the key.
    pub salt_bits: u8,
    /// Least key bits.
    pub min_bits: u16,
    /// Greatest key bits.
    pub max_bits: u16,
}

/// One combination of an extended proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Combination {
    /// Algorithms, all of which are wanted.
    pub algorithms: Vec<Algorithm>,
    /// Soft limits to propose.
    pub soft: Lifetime,
    /// Hard limits to propose.
    pub hard: Lifetime,
}

/// An extended proposal: combinations, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// Replay window to propose.
    pub replay: u8,
    /// The combinations.
    pub combinations: Vec<Combination>,
}

/// Which binding an ACQUIRE is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The binding without an SA.
    pub binding: BindingKey,
    /// Generation of the SPD.
    pub policy: u32,
    /// Index of the rule in it.
    pub rule: u32,
}

/// One message. What is `None` is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// [`kind`] number.
    pub kind: u8,
    /// errno of a reply; 0 is success.
    pub errno: u8,
    /// SA type: 0 all, 2 AH, 3 ESP.
    pub satype: u8,
    /// PF_KEY diagnostic of a reply that failed.
    pub diagnostic: u16,
    /// Sequence number; with bit 31 when the data path is the origin.
    pub seq: u32,
    /// Process that caused it; 0 for the data path.
    pub pid: u32,
    /// The SA.
    pub sa: Option<Association>,
    /// Outer source.
    pub src: Option<Endpoint>,
    /// Outer destination.
    pub dst: Option<Endpoint>,
    /// Inner source.
    pub inner_src: Option<Endpoint>,
    /// Inner destination.
    pub inner_dst: Option<Endpoint>,
    /// NAT-T local address and port.
    pub nat_local: Option<Endpoint>,
    /// NAT-T remote address and port.
    pub nat_remote: Option<Endpoint>,
    /// What was used: octets, time added and first used in seconds since 1970.
    pub current: Option<Lifetime>,
    /// Hard limits.
    pub hard: Option<Lifetime>,
    /// Soft limits.
    pub soft: Option<Lifetime>,
    /// Idle limits.
    pub idle: Option<Lifetime>,
    /// Key management protocol and cookie.
    pub km: Option<(u32, u64)>,
    /// SPI of the partner.
    pub pair: Option<u32>,
    /// Replay counter.
    pub replay: Option<u64>,
    /// SPI range.
    pub range: Option<(u32, u32)>,
    /// Extended proposal.
    pub proposal: Option<Proposal>,
    /// Which binding an ACQUIRE is for.
    pub wanted: Option<Wanted>,
}

/// PF_KEY SA type of an IP protocol.
pub fn satype(proto: Option<u8>) -> u8 {
    match proto {
        Some(AH) => 2,
        Some(ESP) => 3,
        _ => 0,
    }
}

impl Message {
    /// A message about an SA, with all that may be said of it.
    pub fn about(kind: u8, info: &SaInfo) -> Self {
        let inner = info.selectors.as_ref().map(ends);
        let first_use = info.first_use.map_or(0, |first| {
            let added = info.added.duration_since(UNIX_EPOCH).unwrap_or_default();
            (added + info.age.saturating_sub(first)).as_secs()
        });
        let added = info.added.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let [idle_add, idle_used] = info.idle.map(u64::from);
        let given = |lifetime: Lifetime| (lifetime != Lifetime::default()).then_some(lifetime);
        Self {
            kind,
            satype: satype(Some(info.proto)),
            pid: std::process::id(),
            sa: Some(association(info)),
            src: Some(Endpoint::host(info.src)),
            dst: Some(Endpoint::host(info.dst)),
            inner_src: inner.map(|(src, _)| src),
            inner_dst: inner.map(|(_, dst)| dst),
            current: Some(Lifetime { bytes: info.bytes, add: added, used: first_use, allocations: 0 }),
            hard: given(info.hard),
            soft: given(info.soft),
            idle: given(Lifetime { add: idle_add, used: idle_used, ..Lifetime::default() }),
            km: (info.km_cookie != 0).then_some((info.km.into(), info.km_cookie)),
            pair: info.pair_spi,
            replay: Some(if info.is_outbound() { info.seq } else { info.top }),
            ..Self::default()
        }
    }

    /// FLUSH of one protocol or of all.
    pub fn flush(proto: Option<u8>) -> Self {
        Self { kind: kind::FLUSH, satype: satype(proto), pid: std::process::id(), ..Self::default() }
    }

    /// EXPIRE for an event of the data path, with the limit that was passed and no other.
    pub fn expired(event: &Event, info: &SaInfo) -> Self {
        let mut message = Self { pid: 0, seq: KERNEL_SEQUENCE, ..Self::about(kind::EXPIRE, info) };
        let (soft, hard, idle) = (message.soft.take(), message.hard.take(), message.idle.take());
        match event.detail {
            expire::SOFT => message.soft = soft,
            expire::HARD => message.hard = hard,
            _ => message.idle = idle,
        }
        message
    }

    /// Extended ACQUIRE for an event of the data path (spec section 8.3), given the rule that asked.
    pub fn acquire(event: &Event, rule: &Rule) -> Self {
        let packet = &event.packet;
        let v4 = packet.raddr.is_v4();
        let end = |addr: crate::Addr, mask: crate::Addr, ports: [u16; 2]| {
            let bits = mask.octets().iter().map(|o| o.count_ones() as u8).fold(0u8, u8::saturating_add);
            let prefix = if v4 { bits.saturating_sub(96) } else { bits };
            let [low, high] = ports;
            let any = mask == crate::Addr::UNSPECIFIED;
            let unspecified: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            Endpoint {
                proto: rule.proto,
                prefix: if any { 0 } else { prefix },
                addr: if any { unspecified } else { addr.into() },
                port: if low == high { low } else { 0 },
            }
        };
        let outer = |addr: crate::Addr, proto, port| Endpoint { proto, port, ..Endpoint::host(addr.into()) };
        let binding = &event.binding;
        let (src, dst, inner) = if rule.tunnel_mode != 0 {
            // The outer protocol says what is inside: IPv4 or IPv6.
            let proto = if v4 { 4 } else { 41 };
            let inner = (end(rule.laddr, rule.lmask, rule.lport), end(rule.raddr, rule.rmask, rule.rport));
            (outer(binding.src, proto, 0), outer(binding.dst, proto, 0), Some(inner))
        } else {
            let proto = if binding.proto != 0 { binding.proto } else { rule.proto };
            (outer(binding.src, proto, binding.sport), outer(binding.dst, proto, binding.dport), None)
        };
        Self {
            kind: kind::ACQUIRE,
            seq: KERNEL_SEQUENCE,
            src: Some(src),
            dst: Some(dst),
            inner_src: inner.map(|(src, _)| src),
            inner_dst: inner.map(|(_, dst)| dst),
            proposal: Some(proposal(rule)),
            wanted: Some(Wanted { binding: event.binding, policy: event.policy, rule: event.rule }),
            ..Self::default()
        }
    }
}

fn association(info: &SaInfo) -> Association {
    let mut flags = 0;
    for (ours, theirs) in [
        (flag::PFS, sa_flag::PFS),
        (flag::UNIQUE, sa_flag::UNIQUE),
        (flag::NAT_LOCAL, sa_flag::NATT_LOC),
        (flag::NAT_REMOTE, sa_flag::NATT_REM),
        (flag::TUNNEL, sa_flag::TUNNEL),
        (flag::PAIRED, sa_flag::PAIRED),
        (flag::OUTBOUND, sa_flag::OUTBOUND),
        (flag::INBOUND, sa_flag::INBOUND),
        (flag::UDP_ENCAP, sa_flag::NATTED),
    ] {
        flags |= if info.flags & ours != 0 { theirs } else { 0 };
    }
    flags |= if info.first_use.is_some() { sa_flag::USED } else { 0 };
    flags |= if info.replay_window == 0 { sa_flag::NOREPLAY } else { 0 };
    Association {
        spi: info.spi,
        replay: u8::try_from(info.replay_window).unwrap_or(u8::MAX),
        state: info.state as u8,
        auth: info.auth,
        encr: info.encr,
        flags,
    }
}

/// Source and destination of selectors. A range that is no prefix is shown as the smallest prefix around it.
pub fn ends(s: &SaSelectors) -> (Endpoint, Endpoint) {
    let end = |low: crate::Addr, high: crate::Addr, [first, last]: [u16; 2]| {
        let bits = |a: crate::Addr| u128::from_be_bytes(a.octets());
        let common = (bits(low) ^ bits(high)).leading_zeros();
        let mask = crate::Addr::mask(common);
        let [l0, l1, l2, l3] = low.0;
        let [m0, m1, m2, m3] = mask.0;
        let prefix = if low.is_v4() { common.saturating_sub(96) } else { common };
        // The first address of a wider range than all of IPv4 is not one of IPv4 any more; the prefix says so.
        let first_address = crate::Addr([l0 & m0, l1 & m1, l2 & m2, l3 & m3]);
        let addr = if common >= 96 || !low.is_v4() { first_address } else { low };
        Endpoint {
            proto: s.proto,
            prefix: prefix as u8,
            addr: addr.into(),
            port: if first == last { first } else { 0 },
        }
    };
    (end(s.src_low, s.src_high, s.sport), end(s.dst_low, s.dst_high, s.dport))
}

fn proposal(rule: &Rule) -> Proposal {
    let limits = |add| Lifetime { add, ..Lifetime::default() };
    let combination = |action: &crate::policy::Action| {
        let [esp, auth, ah] = [action.encr_bits, action.esp_auth_bits, action.ah_bits];
        let salt_bits = if matches!(action.encr, 18..=20 | encr::CHACHA20_POLY1305) { 32 } else { 0 };
        let algorithm = |satype, kind, id, salt_bits, [min_bits, max_bits]: [u16; 2]| {
            (id != 0).then_some(Algorithm { satype, kind, id, salt_bits, min_bits, max_bits })
        };
        let all = [
            algorithm(3, 2, action.encr, salt_bits, esp),
            algorithm(3, 1, action.esp_auth, 0, auth),
            algorithm(2, 1, action.ah, 0, ah),
        ];
        let algorithms = all.into_iter().flatten().collect();
        Combination { algorithms, soft: limits(SOFT_SECONDS), hard: limits(HARD_SECONDS) }
    };
    let actions = rule.actions.iter().take(rule.action_count as usize);
    Proposal { replay: 64, combinations: actions.map(combination).collect() }
}

impl Message {
    /// The octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![PF_KEY_V2, self.kind, self.errno, self.satype, 0, 0];
        out.extend_from_slice(&self.diagnostic.to_ne_bytes());
        out.extend_from_slice(&self.seq.to_ne_bytes());
        out.extend_from_slice(&self.pid.to_ne_bytes());
        if let Some(sa) = &self.sa {
            let mut body = sa.spi.to_be_bytes().to_vec();
            body.extend_from_slice(&[sa.replay, sa.state, sa.auth, sa.encr]);
            body.extend_from_slice(&sa.flags.to_ne_bytes());
            put(&mut out, extension::SA, &body);
        }
        for (id, lifetime) in [
            (extension::LIFETIME_CURRENT, &self.current),
            (extension::LIFETIME_HARD, &self.hard),
            (extension::LIFETIME_SOFT, &self.soft),
            (extension::LIFETIME_IDLE, &self.idle),
        ] {
            if let Some(l) = lifetime {
                let allocations = u32::try_from(l.allocations).unwrap_or(u32::MAX);
                let mut body = allocations.to_ne_bytes().to_vec();
                [l.bytes, l.add, l.used].iter().for_each(|n| body.extend_from_slice(&n.to_ne_bytes()));
                put(&mut out, id, &body);
            }
        }
        for (id, endpoint) in [
            (extension::ADDRESS_SRC, &self.src),
            (extension::ADDRESS_DST, &self.dst),
            (extension::INNER_SRC, &self.inner_src),
            (extension::INNER_DST, &self.inner_dst),
            (extension::NATT_LOC, &self.nat_local),
            (extension::NATT_REM, &self.nat_remote),
        ] {
            if let Some(endpoint) = endpoint {
                put(&mut out, id, &endpoint.encode());
            }
        }
        if let Some((low, high)) = self.range {
            put(&mut out, extension::SPIRANGE, &[low.to_ne_bytes(), high.to_ne_bytes(), [0; 4]].concat());
        }
        if let Some((protocol, cookie)) = self.km {
            put(&mut out, extension::KM_COOKIE, &[&protocol.to_ne_bytes()[..], &cookie.to_ne_bytes()].concat());
        }
        if let Some(spi) = self.pair {
            put(&mut out, extension::PAIR, &spi.to_be_bytes());
        }
        if let Some(counter) = self.replay {
            let low = counter as u32;
            put(&mut out, extension::REPLAY_VALUE, &[&low.to_ne_bytes()[..], &counter.to_ne_bytes()].concat());
        }
        if let Some(proposal) = &self.proposal {
            put(&mut out, extension::EPROP, &proposal.encode());
        }
        if let Some(wanted) = &self.wanted {
            let numbers = [wanted.policy.to_ne_bytes(), wanted.rule.to_ne_bytes(), [0; 4]].concat();
            put(&mut out, extension::BINDING, &[&numbers[..], bytemuck::bytes_of(&wanted.binding)].concat());
        }
        let words = (out.len() / 8) as u16;
        for (place, octet) in out.iter_mut().skip(4).zip(words.to_ne_bytes()) {
            *place = octet;
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        let mut base = Reader(octets.get(..BASE).ok_or(Malformed::Short)?);
        let version = base.u8()?;
        if version != PF_KEY_V2 {
            return Err(Malformed::Version(version));
        }
        let (kind, errno, satype) = (base.u8()?, base.u8()?, base.u8()?);
        let len = usize::from(base.u16()?) * 8;
        let (diagnostic, seq, pid) = (base.u16()?, base.u32()?, base.u32()?);
        let mut message = Self { kind, errno, satype, diagnostic, seq, pid, ..Self::default() };
        let mut rest = octets.get(BASE..len).ok_or(Malformed::Short)?;
        while !rest.is_empty() {
            let mut head = Reader(rest);
            let (words, id) = (usize::from(head.u16()?), head.u16()?);
            if words == 0 {
                return Err(Malformed::Length(id));
            }
            let body = rest.get(4..words * 8).ok_or(Malformed::Short)?;
            message
                .extension(id, Reader(body))
                .map_err(|e| if e == Malformed::Short { Malformed::Length(id) } else { e })?;
            rest = rest.get(words * 8..).unwrap_or_default();
        }
        Ok(message)
    }

    fn extension(&mut self, id: u16, mut body: Reader<'_>) -> Result<(), Malformed> {
        match id {
            extension::SA => {
                self.sa = Some(Association {
                    spi: u32::from_be(body.u32()?),
                    replay: body.u8()?,
                    state: body.u8()?,
                    auth: body.u8()?,
                    encr: body.u8()?,
                    flags: body.u32()?,
                });
            }
            extension::LIFETIME_CURRENT => self.current = Some(body.lifetime()?),
            extension::LIFETIME_HARD => self.hard = Some(body.lifetime()?),
            extension::LIFETIME_SOFT => self.soft = Some(body.lifetime()?),
            extension::LIFETIME_IDLE => self.idle = Some(body.lifetime()?),
            extension::ADDRESS_SRC => self.src = Some(body.endpoint()?),
            extension::ADDRESS_DST => self.dst = Some(body.endpoint()?),
            extension::INNER_SRC => self.inner_src = Some(body.endpoint()?),
            extension::INNER_DST => self.inner_dst = Some(body.endpoint()?),
            extension::NATT_LOC => self.nat_local = Some(body.endpoint()?),
            extension::NATT_REM => self.nat_remote = Some(body.endpoint()?),
            extension::SPIRANGE => self.range = Some((body.u32()?, body.u32()?)),
            extension::KM_COOKIE => self.km = Some((body.u32()?, body.u64()?)),
            extension::PAIR => self.pair = Some(u32::from_be(body.u32()?)),
            extension::REPLAY_VALUE => {
                body.u32()?;
                self.replay = Some(body.u64()?);
            }
            extension::EPROP => self.proposal = Some(body.proposal()?),
            extension::BINDING => {
                let (policy, rule, _) = (body.u32()?, body.u32()?, body.u32()?);
                let binding = bytemuck::pod_read_unaligned(body.take(size_of::<BindingKey>())?);
                self.wanted = Some(Wanted { binding, policy, rule });
            }
            _ => {}
        }
        Ok(())
    }
}

/// Appends an extension, padded to 64 bits. The body starts after length and type.
fn put(out: &mut Vec<u8>, id: u16, body: &[u8]) {
    let words = (4 + body.len()).div_ceil(8);
    let end = out.len() + words * 8;
    out.extend_from_slice(&(words as u16).to_ne_bytes());
    out.extend_from_slice(&id.to_ne_bytes());
    out.extend_from_slice(body);
    out.resize(end, 0);
}

impl Endpoint {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.proto, self.prefix, 0, 0];
        let family = if self.addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u16;
        out.extend_from_slice(&family.to_ne_bytes());
        out.extend_from_slice(&self.port.to_be_bytes());
        match self.addr {
            // The rest of sockaddr_in is padding; sockaddr_in6 has the flow label before and the scope after.
            IpAddr::V4(v4) => out.extend_from_slice(&[&v4.octets()[..], &[0; 8]].concat()),
            IpAddr::V6(v6) => out.extend_from_slice(&[&[0; 4][..], &v6.octets(), &[0; 4]].concat()),
        }
        out
    }
}

impl Proposal {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.replay, 0];
        out.extend_from_slice(&(self.combinations.len() as u16).to_ne_bytes());
        for combination in &self.combinations {
            let (s, h) = (&combination.soft, &combination.hard);
            out.push(combination.algorithms.len() as u8);
            out.extend_from_slice(&[0; 7]);
            for allocations in [s.allocations, h.allocations] {
                out.extend_from_slice(&u32::try_from(allocations).unwrap_or(u32::MAX).to_ne_bytes());
            }
            for n in [s.bytes, h.bytes, s.add, h.add, s.used, h.used] {
                out.extend_from_slice(&n.to_ne_bytes());
            }
            for a in &combination.algorithms {
                out.extend_from_slice(&[a.satype, a.kind, a.id, a.salt_bits]);
                out.extend_from_slice(&a.min_bits.to_ne_bytes());
                out.extend_from_slice(&a.max_bits.to_ne_bytes());
            }
        }
        out
    }
}

/// Takes numbers off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[octet]: [u8; 1]| octet)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    fn lifetime(&mut self) -> Result<Lifetime, Malformed> {
        let allocations = self.u32()?.into();
        Ok(Lifetime { allocations, bytes: self.u64()?, add: self.u64()?, used: self.u64()? })
    }

    fn endpoint(&mut self) -> Result<Endpoint, Malformed> {
        let [proto, prefix, _, _] = self.array()?;
        let (family, port) = (self.u16()?, u16::from_be(self.u16()?));
        let addr = match i32::from(family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            libc::AF_INET6 => {
                self.u32()?;
                IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))
            }
            _ => return Err(Malformed::Family(family)),
        };
        Ok(Endpoint { proto, prefix, addr, port })
    }

    fn proposal(&mut self) -> Result<Proposal, Malformed> {
        let (replay, _, count) = (self.u8()?, self.u8()?, self.u16()?);
        let mut combinations = vec![];
        for _ in 0..count {
            let algorithms = self.u8()?;
            self.take(7)?;
            let (soft, hard) = (self.u32()?, self.u32()?);
            let mut soft = Lifetime { allocations: soft.into(), ..Lifetime::default() };
            let mut hard = Lifetime { allocations: hard.into(), ..Lifetime::default() };
            (soft.bytes, hard.bytes) = (self.u64()?, self.u64()?);
            (soft.add, hard.add) = (self.u64()?, self.u64()?);
            (soft.used, hard.used) = (self.u64()?, self.u64()?);
            let algorithm = |reader: &mut Self| {
                let [satype, kind, id, salt_bits] = reader.array()?;
                Ok(Algorithm { satype, kind, id, salt_bits, min_bits: reader.u16()?, max_bits: reader.u16()? })
            };
            let algorithms = (0..algorithms).map(|_| algorithm(self)).collect::<Result<_, _>>()?;
            combinations.push(Combination { algorithms, soft, hard });
        }
        Ok(Proposal { replay, combinations })
    }
}

#[cfg(test)]
#[path = "pfkey_tests.rs"]
mod tests;
