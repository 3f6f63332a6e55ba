//! Values of a pattern: addresses, masks, ports, protocols, ICMP types (spec section 4.3).

use super::lexer::Token;
use super::{Problem, Subject};
use crate::names::{self, Names};
use std::net::{IpAddr, Ipv4Addr};

/// An address prefix; host bits are clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// First address.
    pub addr: IpAddr,
    /// Leading bits that count: at most 32 or 128.
    pub len: u8,
}

impl Prefix {
    /// The prefix of `len` bits that holds `addr`; `None` when the family has fewer bits.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let addr = match addr {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32u32.checked_sub(u32::from(len))?).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128u32.checked_sub(u32::from(len))?).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        };
        Some(Self { addr, len })
    }

    /// The prefix that holds `addr` alone.
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether it holds every address of its family.
    pub fn is_any(&self) -> bool {
        self.len == 0
    }
}

/// Addresses that one value stands for; several for a host name only.
pub fn addresses(value: &Token<'_>, subject: Subject, names: &dyn Names) -> Result<Vec<Prefix>, Problem> {
    let bad = |text: String| Problem::Bad(subject, text, value.at);
    let (name, len) = match value.text.split_once('/') {
        Some((name, len)) => {
            let number = decimal::<u8>(len).ok_or_else(|| bad(format!("'{len}' is no prefix length")))?;
            (name, Some(number))
        }
        None => (value.text, None),
    };
    let prefix = |addr: IpAddr, len: u8| {
        Prefix::new(addr, len).ok_or_else(|| {
            let most = if addr.is_ipv4() { 32 } else { 128 };
            bad(format!("prefix length {len} is over {most}"))
        })
    };
    if let Ok(addr) = name.parse::<IpAddr>() {
        // What a v4-mapped address stands for is an IPv4 address (RFC 4291 section 2.5.5.2).
        let mapped = IpAddr::is_ipv6(&addr) && addr.to_canonical().is_ipv4();
        let len =
            match len {
                Some(len) if mapped => Some(len.checked_sub(96).ok_or_else(|| {
                    bad(format!("prefix length {len} cuts into what maps IPv4: write an IPv4 address"))
                })?),
                len => len,
            };
        let addr = addr.to_canonical();
        return Ok(vec![match len {
            Some(len) => prefix(addr, len)?,
            None => Prefix::host(addr),
        }]);
    }
    if !names::is_host_name(name) {
        return Err(bad(format!("'{name}' is neither an address nor a name")));
    }
    let found = names.hosts(name);
    match (found.as_slice(), len) {
        ([], _) => {}
        ([one], Some(len)) => return Ok(vec![prefix(*one, len)?]),
        (_, Some(_)) => return Err(bad(format!("'{name}' has several addresses: a prefix length needs one"))),
        (many, None) => return Ok(many.iter().copied().map(Prefix::host).collect()),
    }
    if let Some((net, net_len)) = names.network(name) {
        return Ok(vec![prefix(net.into(), len.unwrap_or(net_len))?]);
    }
    Err(bad(format!("no host or network is named '{name}'")))
}

/// `smask`, `dmask`: a contiguous IPv4 mask that is not zero, in hexadecimal or dotted form. Gives the prefix length.
pub fn mask(value: &Token<'_>, subject: Subject) -> Result<u8, Problem> {
    let bad = |text: &str| Problem::Bad(subject, format!("'{}' {text}", value.text), value.at);
    let number = match value.text.strip_prefix("0x").or_else(|| value.text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok(),
        _ => value.text.parse::<Ipv4Addr>().ok().map(u32::from),
    };
    let number = number.ok_or_else(|| bad("is no mask: write 0xffffff00 or 255.255.255.0"))?;
    if number == 0 || number.leading_ones() + number.trailing_zeros() != 32 {
        return Err(bad("is no contiguous mask"));
    }
    Ok(number.leading_ones() as u8)
}

/// A port number or service name.
pub fn port(value: &Token<'_>, subject: Subject, proto: u8, names: &dyn Names) -> Result<u16, Problem> {
    decimal(value.text).or_else(|| names.service(value.text, proto)).ok_or_else(|| {
        let text = format!("'{}' is neither a port from 0 to 65535 nor a service", value.text);
        Problem::Bad(subject, text, value.at)
    })
}

/// A protocol number or name; 0 is any.
pub fn protocol(value: &Token<'_>, names: &dyn Names) -> Result<u8, Problem> {
    decimal(value.text).or_else(|| names.protocol(value.text)).ok_or_else(|| {
        let text = format!("'{}' is neither a protocol number nor a protocol name", value.text);
        Problem::Bad(Subject::UpperLayerProtocol, text, value.at)
    })
}

/// An ICMP type or code, or a range of them. `most` is the greatest number.
pub fn icmp(
    value: &Token<'_>,
    subject: Subject,
    proto: u8,
    most: u8,
    by_name: fn(&str, u8) -> Option<u8>,
) -> Result<[u8; 2], Problem> {
    let bad = |text: String| Problem::Bad(subject, text, value.at);
    if let Some(number) = by_name(value.text, proto) {
        return Ok([number, number]);
    }
    let other = if proto == names::ICMP { names::ICMPV6 } else { names::ICMP };
    if by_name(value.text, other).is_some() {
        return Err(bad(format!("'{}' belongs to the other version of ICMP", value.text)));
    }
    let (low, high) = value.text.split_once('-').unwrap_or((value.text, value.text));
    match (decimal::<u8>(low), decimal::<u8>(high)) {
        (Some(low), Some(high)) if low <= high && high <= most => Ok([low, high]),
        (Some(low), Some(high)) if low > high => Err(bad(format!("the range {low}-{high} runs backwards"))),
        _ => Err(bad(format!("'{}' is neither a name nor a number from 0 to {most}", value.text))),
    }
}

/// A plain decimal number: digits only.
pub(super) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}
