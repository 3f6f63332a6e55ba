//! Traffic selectors (RFC 7296 section 3.13): what one substructure says, with its bounds checked, and the set operations
//! that narrowing needs (section 2.9).

use std::fmt;
use std::net::IpAddr;

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
