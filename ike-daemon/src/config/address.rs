//! Addresses as the configuration files write them: one address, a prefix (`A/N`, `A/MASK`) or an inclusive range.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A non-empty set of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressSpec {
    /// One address.
    Host(IpAddr),
    /// All addresses that share the first `length` bits.
    Prefix {
        /// The prefix, host bits zero.
        network: IpAddr,
        /// Bits, 0..=32 or 0..=128.
        length: u8,
    },
    /// All addresses from `first` to `last`, both included.
    Range {
        /// The lowest address.
        first: IpAddr,
        /// The highest address, of the family of `first`.
        last: IpAddr,
    },
}

/// Why an address specification makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address of either family.
    #[error("expected an IPv4 or IPv6 address in numbers")]
    NotAnAddress,
    /// Too many bits.
    #[error("a prefix of this family has at most {0} bits")]
    PrefixTooLong(u8),
    /// Ones after zeros, or an IPv6 mask.
    #[error("expected a prefix length or a contiguous IPv4 mask")]
    BadMask,
    /// Ends in the wrong order.
    #[error("the range ends before it begins")]
    BackwardRange,
    /// One end IPv4, the other IPv6.
    #[error("both ends of a range have to be of one family")]
    MixedFamilies,
}

impl AddressSpec {
    /// Whether `address` belongs to the set.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.bounds();
        first.is_ipv4() == address.is_ipv4() && first <= address && address <= last
    }

    /// The lowest and the highest address of the set.
    #[must_use]
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        match *self {
            Self::Host(address) => (address, address),
            Self::Range { first, last } => (first, last),
            Self::Prefix { network, length } => (network, last_of(network, length)),
        }
    }

    /// The one address of the set, if it is one.
    #[must_use]
    pub fn single(&self) -> Option<IpAddr> {
        let (first, last) = self.bounds();
        (first == last).then_some(first)
    }

    /// A set of one prefix; host bits are cleared.
    ///
    /// # Errors
    /// [`AddressError::PrefixTooLong`].
    pub fn prefix(address: IpAddr, length: u8) -> Result<Self, AddressError> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(AddressError::PrefixTooLong(bits));
        }
        Ok(Self::Prefix { network: first_of(address, length), length })
    }

    /// A set of a range.
    ///
    /// # Errors
    /// [`AddressError::BackwardRange`], [`AddressError::MixedFamilies`].
    pub fn range(first: IpAddr, last: IpAddr) -> Result<Self, AddressError> {
        if first.is_ipv4() != last.is_ipv4() {
            return Err(AddressError::MixedFamilies);
        }
        if last < first {
            return Err(AddressError::BackwardRange);
        }
        Ok(Self::Range { first, last })
    }

    /// A set written in one word, for values in quotes: `A`, `A/N`, `A/MASK`, `A-B`.
    ///
    /// # Errors
    /// Any [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some((address, mask)) = text.split_once('/') {
            return Self::masked(parse_address(address.trim())?, mask.trim());
        }
        if let Some((first, last)) = text.split_once('-') {
            return Self::range(parse_address(first.trim())?, parse_address(last.trim())?);
        }
        parse_address(text.trim()).map(Self::Host)
    }

    /// `address` under `mask`, a number of bits or a dotted mask.
    pub(super) fn masked(address: IpAddr, mask: &str) -> Result<Self, AddressError> {
        if mask.bytes().all(|b| b.is_ascii_digit()) {
            let length = mask.parse().map_err(|_| match address {
                _ if mask.is_empty() => AddressError::BadMask,
                IpAddr::V4(_) => AddressError::PrefixTooLong(32),
                IpAddr::V6(_) => AddressError::PrefixTooLong(128),
            })?;
            return Self::prefix(address, length);
        }
        let (IpAddr::V4(_), Ok(mask)) = (address, mask.parse::<Ipv4Addr>()) else {
            return Err(AddressError::BadMask);
        };
        let mask = u32::from(mask);
        if mask.leading_ones() + mask.trailing_zeros() < 32 {
            return Err(AddressError::BadMask);
        }
        Self::prefix(address, u8::try_from(mask.leading_ones()).unwrap_or(32))
    }
}

impl fmt::Display for AddressSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address) => write!(f, "{address}"),
            Self::Prefix { network, length } => write!(f, "{network}/{length}"),
            Self::Range { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// One numeric address. An IPv4-mapped IPv6 address is its IPv4 address: that is what a socket reports.
pub(super) fn parse_address(word: &str) -> Result<IpAddr, AddressError> {
    word.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| AddressError::NotAnAddress)
}

fn first_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) & !host_mask4(length)).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) & !host_mask6(length)).into(),
    }
}

fn last_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) | host_mask4(length)).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) | host_mask6(length)).into(),
    }
}

fn host_mask4(length: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

fn host_mask6(length: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(text: &str) -> AddressSpec {
        AddressSpec::parse(text).unwrap()
    }

    #[test]
    fn prefixes_and_masks() {
        assert_eq!(spec("198.51.100.77/24"), spec("198.51.100.0/255.255.255.0"));
        assert!(spec("198.51.100.0/24").contains("198.51.100.255".parse().unwrap()));
        assert!(!spec("198.51.100.0/24").contains("198.51.101.0".parse().unwrap()));
        assert!(spec("0.0.0.0/0").contains("255.255.255.255".parse().unwrap()));
        assert!(!spec("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(spec("::/0").contains("2001:db8::1".parse().unwrap()));
        assert_eq!(spec("2001:db8::1/128").single(), Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, error) in [
            ("10.0.0.0/33", AddressError::PrefixTooLong(32)),
            ("10.0.0.0/999", AddressError::PrefixTooLong(32)),
            ("::/129", AddressError::PrefixTooLong(128)),
            ("10.0.0.0/255.0.255.0", AddressError::BadMask),
            ("10.0.0.0/", AddressError::BadMask),
            ("::/255.0.0.0", AddressError::BadMask),
            ("10.0.0.9-10.0.0.1", AddressError::BackwardRange),
            ("10.0.0.9-::1", AddressError::MixedFamilies),
            ("host", AddressError::NotAnAddress),
        ] {
            assert_eq!(AddressSpec::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_round_trips(first: u32, span in 0u32..1000, length in 0u8..=32, v6: u128, length6 in 0u8..=128) {
            let a = Ipv4Addr::from(first);
            let b = Ipv4Addr::from(first.saturating_add(span));
            for spec in [
                AddressSpec::Host(a.into()),
                AddressSpec::range(a.into(), b.into()).unwrap(),
                AddressSpec::prefix(a.into(), length).unwrap(),
                AddressSpec::prefix(Ipv6Addr::from(v6 | (1 << 127)).into(), length6).unwrap(),
            ] {
                prop_assert_eq!(AddressSpec::parse(&spec.to_string()), Ok(spec));
            }
        }

        #[test]
        fn parse_never_panics(text in "\\PC{0,60}") {
            let _ = AddressSpec::parse(&text);
        }
    }
}
