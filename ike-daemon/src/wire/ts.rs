//! Traffic selectors (RFC 7296 section 3.13): what one substructure says, with its bounds checked, and the set operations
//! that narrowing needs (section 2.9).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::chain::{Body, patch};
use super::reader::Reader;
use super::{EncodeError, WireError};

/// Ports of a traffic selector. For ICMP and ICMPv6 the type is the high octet and the code the low one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ports {
    /// From the first to the second, both included; 0 to 65535 is any.
    Range(u16, u16),
    /// Ports are not visible in the packets meant (later fragments): start 65535, end 0 on the wire.
    Opaque,
}

impl Ports {
    /// Every port.
    pub const ANY: Self = Self::Range(0, u16::MAX);

    fn intersect(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Opaque, Self::Opaque) => Some(Self::Opaque),
            // ANY includes OPAQUE (RFC 4301 section 4.4.1.1).
            (Self::Opaque, any) | (any, Self::Opaque) => (any == Self::ANY).then_some(Self::Opaque),
            (Self::Range(a, b), Self::Range(c, d)) => (a.max(c) <= b.min(d)).then(|| Self::Range(a.max(c), b.min(d))),
        }
    }
}

/// One traffic selector: a protocol, a range of ports and a range of addresses of one family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TrafficSelector {
    protocol: u8,
    ports: Ports,
    start: IpAddr,
    end: IpAddr,
}

/// Why the parts do not make a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadSelector {
    /// Start and end address are of different families.
    #[error("addresses of two families")]
    Family,
    /// The start address lies behind the end address.
    #[error("start address behind end address")]
    Addresses,
    /// The start port lies behind the end port (and they are not the OPAQUE pair).
    #[error("start port behind end port")]
    Ports,
}

impl TrafficSelector {
    /// `protocol` 0 is any. Addresses are inclusive.
    ///
    /// # Errors
    /// [`BadSelector`] where a range runs backwards or mixes families.
    pub fn new(protocol: u8, ports: Ports, start: IpAddr, end: IpAddr) -> Result<Self, BadSelector> {
        if start.is_ipv4() != end.is_ipv4() {
            return Err(BadSelector::Family);
        }
        if start > end {
            return Err(BadSelector::Addresses);
        }
        if matches!(ports, Ports::Range(low, high) if low > high) {
            return Err(BadSelector::Ports);
        }
        Ok(Self { protocol, ports, start, end })
    }

    /// One address, any protocol, any port.
    pub fn host(address: IpAddr) -> Self {
        Self { protocol: 0, ports: Ports::ANY, start: address, end: address }
    }

    /// Protocol number, 0 for any.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Ports.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// First address.
    pub fn start(&self) -> IpAddr {
        self.start
    }

    /// Last address.
    pub fn end(&self) -> IpAddr {
        self.end
    }

    /// What both select, if anything.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let protocol = match (self.protocol, other.protocol) {
            (0, p) | (p, 0) => p,
            (p, q) if p == q => p,
            _ => return None,
        };
        if self.start.is_ipv4() != other.start.is_ipv4() {
            return None;
        }
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        if start > end {
            return None;
        }
        Some(Self { protocol, ports: self.ports.intersect(other.ports)?, start, end })
    }

    /// Whether everything `other` selects is selected by `self`.
    pub fn contains(&self, other: &Self) -> bool {
        self.intersect(other) == Some(*other)
    }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)?;
        } else {
            write!(f, "{}-{}", self.start, self.end)?;
        }
        if self.protocol != 0 {
            write!(f, " proto {}", self.protocol)?;
        }
        match self.ports {
            Ports::ANY => Ok(()),
            Ports::Opaque => f.write_str(" port opaque"),
            Ports::Range(low, high) if low == high => write!(f, " port {low}"),
            Ports::Range(low, high) => write!(f, " port {low}-{high}"),
        }
    }
}

/// A TSi or TSr payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TsPayload {
    /// The selectors of types we know, in order. Empty only when every one was of another type (V2-TS-04).
    pub selectors: Vec<TrafficSelector>,
}

const TS_IPV4_ADDR_RANGE: u8 = 7;
const TS_IPV6_ADDR_RANGE: u8 = 8;
const OPAQUE: (u16, u16) = (u16::MAX, 0);

impl TsPayload {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "TS payload");
        let count = usize::from(reader.octet()?);
        reader.take(3)?;
        if count == 0 {
            return Err(WireError::Length("TS payload"));
        }
        let mut selectors = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = reader.octet()?;
            let protocol = reader.octet()?;
            let length = usize::from(reader.short()?).checked_sub(4).ok_or(WireError::Length("traffic selector"))?;
            let octets = reader.take(length)?;
            match kind {
                TS_IPV4_ADDR_RANGE => {
                    selectors.push(selector(protocol, octets, |a: [u8; 4]| Ipv4Addr::from(a).into())?)
                }
                TS_IPV6_ADDR_RANGE => {
                    selectors.push(selector(protocol, octets, |a: [u8; 16]| Ipv6Addr::from(a).into())?)
                }
                _ => {}
            }
        }
        if !reader.is_empty() {
            return Err(WireError::Length("TS payload"));
        }
        Ok(Self { selectors })
    }
}

fn selector<const N: usize>(
    protocol: u8,
    octets: &[u8],
    address: impl Fn([u8; N]) -> IpAddr,
) -> Result<TrafficSelector, WireError> {
    let mut reader = Reader::new(octets, "traffic selector");
    let ports = match (reader.short()?, reader.short()?) {
        OPAQUE => Ports::Opaque,
        (low, high) => Ports::Range(low, high),
    };
    let (start, end) = (address(reader.array()?), address(reader.array()?));
    if !reader.is_empty() {
        return Err(WireError::Length("traffic selector"));
    }
    TrafficSelector::new(protocol, ports, start, end).map_err(|_| WireError::Value("traffic selector"))
}

impl Body for TsPayload {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let count = u8::try_from(self.selectors.len()).map_err(|_| EncodeError::TooLong("TS payload"))?;
        if count == 0 {
            return Err(EncodeError::Value("TS payload"));
        }
        out.extend_from_slice(&[count, 0, 0, 0]);
        for selector in &self.selectors {
            let start = out.len();
            let kind = if selector.start.is_ipv4() { TS_IPV4_ADDR_RANGE } else { TS_IPV6_ADDR_RANGE };
            out.extend_from_slice(&[kind, selector.protocol, 0, 0]);
            let (low, high) = match selector.ports {
                Ports::Opaque => OPAQUE,
                Ports::Range(low, high) => (low, high),
            };
            out.extend_from_slice(&low.to_be_bytes());
            out.extend_from_slice(&high.to_be_bytes());
            for address in [selector.start, selector.end] {
                match address {
                    IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
                    IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
                }
            }
            let length = u16::try_from(out.len() - start).map_err(|_| EncodeError::TooLong("traffic selector"))?;
            patch(out, start + 2, length)?;
        }
        Ok(())
    }
}
