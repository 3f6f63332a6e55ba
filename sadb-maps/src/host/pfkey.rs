//! PF_KEY messages: what the tools and daemons tell each other about SAs (RFC 2367 section 2, with the extensions of
//! Solaris that spec section 8.1 numbers). Keys are never part of one.
//!
//! Lengths are in 64-bit words, SPIs and ports in network order, every other integer in host order. The decoder takes
//! nothing for granted: a length that does not fit is an error, an extension that is not known is skipped.

use super::identity::Identity;
use crate::sa::{BindingKey, Lifetime};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// A peer has another address or port: NAT-T local and remote address are those of its newest packet. Not one of
    /// Solaris; the number is that of other systems.
    pub const NEW_MAPPING: u8 = 22;
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
    pub(super) const IDENTITY_SRC: u16 = 10;
    pub(super) const IDENTITY_DST: u16 = 11;
    pub(super) const PROPOSAL: u16 = 13;
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

/// One combination of a regular proposal (RFC 2367 section 2.3.7); an algorithm 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Authentication algorithm.
    pub auth: u8,
    /// ESP transform.
    pub encr: u8,
    /// [`sa_flag`] bits, as far as there is room for them.
    pub flags: u16,
    /// Least and greatest bits of the authentication key.
    pub auth_bits: [u16; 2],
    /// Least and greatest bits of the key of the cipher.
    pub encr_bits: [u16; 2],
    /// Soft limits to propose.
    pub soft: Lifetime,
    /// Hard limits to propose.
    pub hard: Lifetime,
}

/// A regular proposal, for one protocol: combinations, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Replay window to propose.
    pub replay: u8,
    /// The combinations.
    pub choices: Vec<Choice>,
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
    /// Identity of the source.
    pub src_identity: Option<Identity>,
    /// Identity of the destination.
    pub dst_identity: Option<Identity>,
    /// Key management protocol and cookie.
    pub km: Option<(u32, u64)>,
    /// SPI of the partner.
    pub pair: Option<u32>,
    /// Replay counter.
    pub replay: Option<u64>,
    /// SPI range.
    pub range: Option<(u32, u32)>,
    /// Regular proposal, of an ACQUIRE for one protocol.
    pub choices: Option<Choices>,
    /// Extended proposal.
    pub proposal: Option<Proposal>,
    /// Which binding an ACQUIRE is for.
    pub wanted: Option<Wanted>,
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
        for (id, identity) in
            [(extension::IDENTITY_SRC, &self.src_identity), (extension::IDENTITY_DST, &self.dst_identity)]
        {
            if let Some(identity) = identity {
                // Type, reserved, number of the user; the string ends with a zero octet (RFC 2367 section 2.3.4).
                let head = [&identity.kind().to_ne_bytes()[..], &[0; 10]].concat();
                put(&mut out, id, &[&head, identity.text().as_bytes(), &[0]].concat());
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
        if let Some(choices) = &self.choices {
            put(&mut out, extension::PROPOSAL, &choices.encode());
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
            extension::IDENTITY_SRC => self.src_identity = body.identity()?,
            extension::IDENTITY_DST => self.dst_identity = body.identity()?,
            extension::SPIRANGE => self.range = Some((body.u32()?, body.u32()?)),
            extension::KM_COOKIE => self.km = Some((body.u32()?, body.u64()?)),
            extension::PAIR => self.pair = Some(u32::from_be(body.u32()?)),
            extension::REPLAY_VALUE => {
                body.u32()?;
                self.replay = Some(body.u64()?);
            }
            extension::PROPOSAL => self.choices = Some(body.choices()?),
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

/// Appends the limits to propose: allocations of both, then octets, seconds since added and since used.
fn put_limits(out: &mut Vec<u8>, soft: &Lifetime, hard: &Lifetime) {
    for allocations in [soft.allocations, hard.allocations] {
        out.extend_from_slice(&u32::try_from(allocations).unwrap_or(u32::MAX).to_ne_bytes());
    }
    for n in [soft.bytes, hard.bytes, soft.add, hard.add, soft.used, hard.used] {
        out.extend_from_slice(&n.to_ne_bytes());
    }
}

impl Choices {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.replay, 0, 0, 0];
        for choice in &self.choices {
            out.extend_from_slice(&[choice.auth, choice.encr]);
            let bits = [choice.auth_bits, choice.encr_bits];
            for n in [choice.flags].iter().chain(bits.as_flattened()) {
                out.extend_from_slice(&n.to_ne_bytes());
            }
            out.extend_from_slice(&[0; 4]);
            put_limits(&mut out, &choice.soft, &choice.hard);
        }
        out
    }
}

impl Proposal {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.replay, 0];
        out.extend_from_slice(&(self.combinations.len() as u16).to_ne_bytes());
        for combination in &self.combinations {
            out.push(combination.algorithms.len() as u8);
            out.extend_from_slice(&[0; 7]);
            put_limits(&mut out, &combination.soft, &combination.hard);
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

    /// `None` for one that is empty or has no text.
    fn identity(&mut self) -> Result<Option<Identity>, Malformed> {
        let kind = self.u16()?;
        self.take(10)?;
        let end = self.0.iter().position(|octet| *octet == 0).ok_or(Malformed::Short)?;
        Ok(Identity::heard(kind, self.take(end)?))
    }

    fn limits(&mut self) -> Result<[Lifetime; 2], Malformed> {
        let [mut soft, mut hard] = [Lifetime::default(); 2];
        (soft.allocations, hard.allocations) = (self.u32()?.into(), self.u32()?.into());
        (soft.bytes, hard.bytes) = (self.u64()?, self.u64()?);
        (soft.add, hard.add) = (self.u64()?, self.u64()?);
        (soft.used, hard.used) = (self.u64()?, self.u64()?);
        Ok([soft, hard])
    }

    /// As many combinations as there are octets for.
    fn choices(&mut self) -> Result<Choices, Malformed> {
        let [replay, ..] = self.array::<4>()?;
        let mut choices = vec![];
        while !self.0.is_empty() {
            let (auth, encr, flags) = (self.u8()?, self.u8()?, self.u16()?);
            let (auth_bits, encr_bits) = ([self.u16()?, self.u16()?], [self.u16()?, self.u16()?]);
            self.u32()?;
            let [soft, hard] = self.limits()?;
            choices.push(Choice { auth, encr, flags, auth_bits, encr_bits, soft, hard });
        }
        Ok(Choices { replay, choices })
    }

    fn proposal(&mut self) -> Result<Proposal, Malformed> {
        let (replay, _, count) = (self.u8()?, self.u8()?, self.u16()?);
        let mut combinations = vec![];
        for _ in 0..count {
            let algorithms = self.u8()?;
            self.take(7)?;
            let [soft, hard] = self.limits()?;
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
