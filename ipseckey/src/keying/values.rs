//! Values of the extensions of `ipseckey` commands: numbers, algorithms, keys, addresses (spec section 7.4).

use super::hexkey::HexKey;
use super::parser::Parser;
use super::request::SaType;
use crate::algorithms::{self, Algorithm, Kind};
use crate::names::is_host_name;
use crate::policy::selectors::Prefix;
use command_lines::Word;
use sadb_maps::host::Identity;
use sadb_maps::sa::state;
use std::net::IpAddr;

impl Parser<'_> {
    /// A type of identity, by word or number, and what identifies.
    pub(super) fn identity(&mut self, kind: &Word, value: &Word) -> Option<Identity> {
        let number = parse_number(kind.text()).and_then(|number| u16::try_from(number).ok());
        let Some(number) = Identity::kind_of(kind.text()).or(number.filter(|number| *number != 0)) else {
            self.error(kind.at, format!("'{}' is no identity type", kind.shown()));
            return None;
        };
        match Identity::new(number, value.text()) {
            Ok(identity) => Some(identity),
            Err(error) => {
                self.error(value.at, error.to_string());
                None
            }
        }
    }

    pub(super) fn number<T: TryFrom<u64>>(&mut self, word: &Word) -> Option<T> {
        let Some(number) = parse_number(word.text()) else {
            self.error(word.at, format!("'{}' is no number (decimal, 0x hexadecimal, leading 0 octal)", word.shown()));
            return None;
        };
        match T::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => {
                let text = format!("{} does not fit {} bits", word.shown(), size_of::<T>() * 8);
                self.error(word.at, text);
                None
            }
        }
    }

    pub(super) fn u32(&mut self, word: &Word) -> Option<u64> {
        self.number::<u32>(word).map(u64::from)
    }

    pub(super) fn spi(&mut self, word: &Word) -> Option<u32> {
        let spi = self.number(word)?;
        if spi == 0 {
            self.error(word.at, "an SPI of 0 is invalid");
            return None;
        }
        Some(spi)
    }

    pub(super) fn replay(&mut self, word: &Word) -> Option<u32> {
        let window = self.number(word)?;
        let most = sadb_maps::sa::MAX_REPLAY_WINDOW;
        if window > most {
            self.error(word.at, format!("the replay window has at most {most} packets"));
            return None;
        }
        Some(window)
    }

    pub(super) fn state(&mut self, word: &Word) -> Option<u32> {
        // The manual of the original promises numbers as well, which the original refuses.
        match word.text() {
            "mature" | "1" => Some(state::MATURE),
            "larval" | "dying" | "dead" | "0" | "2" | "3" => {
                self.error(word.at, format!("an SA cannot be added as {} (diagnostic code 43)", word.shown()));
                None
            }
            _ => {
                self.error(word.at, format!("'{}' is no state: use mature", word.shown()));
                None
            }
        }
    }

    pub(super) fn algorithm(&mut self, kind: Kind, word: &Word) -> Option<u8> {
        let id = self.algorithm_number(kind, word)?;
        if let Some(reason) = algorithms::refusal(kind, &id.to_string()) {
            self.error(word.at, reason);
            return None;
        }
        if let Some(text) = algorithms::by_id(kind, id).and_then(Algorithm::deprecated) {
            self.warn(word.at, text);
        }
        Some(id)
    }

    fn algorithm_number(&mut self, kind: Kind, word: &Word) -> Option<u8> {
        if let Some(algorithm) = algorithms::by_name(kind, word.text()) {
            return Some(algorithm.id);
        }
        let what = if kind == Kind::Encryption { "encryption" } else { "authentication" };
        match parse_number(word.text()) {
            Some(number) => match u8::try_from(number) {
                Ok(id) => Some(id),
                Err(_) => {
                    self.error(word.at, format!("{what} algorithm numbers go from 0 to 255"));
                    None
                }
            },
            None => {
                let known = || algorithms::of_kind(kind).map(Algorithm::name).collect::<Vec<_>>().join(", ");
                let unknown = || format!("unknown {what} algorithm '{}'; known: {}", word.shown(), known());
                self.error(word.at, algorithms::refusal(kind, word.text()).unwrap_or_else(unknown));
                None
            }
        }
    }

    pub(super) fn encryption(&mut self, kind: SaType, word: &Word) -> Option<u8> {
        let id = self.algorithm(Kind::Encryption, word)?;
        let known = algorithms::by_id(Kind::Encryption, id);
        if kind == SaType::Esp
            && let Some(algorithm) = known.filter(|a| a.salt_bits != 0)
        {
            let text = format!(
                "{} is a counter mode: two packets with one key and IV give both away. IVs of this host never repeat, \
                 but nothing keeps another host from using the same key and salt; prefer IKE",
                algorithm.name()
            );
            self.warn(word.at, text);
        }
        Some(id)
    }

    pub(super) fn key(&mut self, word: &Word) -> Option<HexKey> {
        match HexKey::parse(word.text()) {
            Ok((key, cut)) => {
                if cut {
                    self.warn(word.at, format!("the key is cut to {} bits", key.bits));
                }
                Some(key)
            }
            Err(error) => {
                self.error(word.at, error.to_string());
                None
            }
        }
    }

    pub(super) fn addresses(&mut self, word: &Word, v6_only: bool) -> Option<Vec<IpAddr>> {
        let mut found = match word.text().parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) if is_host_name(word.text()) && !word.may_be_key() => self.names.hosts(word.text()),
            Err(_) => Vec::new(),
        };
        if v6_only {
            found.retain(IpAddr::is_ipv6);
        }
        if found.is_empty() {
            let version = if v6_only { "IPv6 " } else { "" };
            self.error(word.at, format!("'{}' is neither an {version}address nor the name of one", word.shown()));
            return None;
        }
        Some(found)
    }

    pub(super) fn prefix(&mut self, word: &Word, v6_only: bool) -> Option<Prefix> {
        let (text, length) = match word.text().split_once('/') {
            Some((text, length)) => (text, Some(length)),
            None => (word.text(), None),
        };
        let address = match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => {
                let mut found =
                    if is_host_name(text) && !word.may_be_key() { self.names.hosts(text) } else { Vec::new() };
                found.retain(|a| a.is_ipv6() || !v6_only);
                match found.as_slice() {
                    [] => {
                        self.error(word.at, format!("'{}' is neither an address nor the name of one", word.shown()));
                        return None;
                    }
                    [one] => *one,
                    [_, ..] => {
                        // The original goes on without it, and so with an SA for more than was asked.
                        self.error(word.at, format!("'{}' has several addresses; give the one inside", word.shown()));
                        return None;
                    }
                }
            }
        };
        if v6_only && address.is_ipv4() {
            self.error(word.at, format!("'{}' is no IPv6 address", word.shown()));
            return None;
        }
        let Some(length) = length else { return Some(Prefix::host(address)) };
        let prefix = length.parse().ok().and_then(|length| Prefix::new(address, length));
        if prefix.is_none() {
            self.error(word.at, format!("'{}': no prefix length for {address}", word.shown()));
        }
        prefix
    }

    /// An address on the other side of a NAT: the one that a name has, of its IPv4 ones if it has others as well.
    pub(super) fn nat_address(&mut self, word: &Word) -> Option<IpAddr> {
        let found = self.addresses(word, false)?;
        let v4: Vec<_> = found.iter().filter(|address| address.is_ipv4()).collect();
        match (found.as_slice(), v4.as_slice()) {
            ([one], _) => Some(*one),
            (_, [one]) => Some(**one),
            _ => {
                self.error(word.at, format!("'{}' has several addresses; give the one that the NAT has", word.shown()));
                None
            }
        }
    }
}

/// A number in C notation.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        if text.starts_with('+') { None } else { u64::from_str_radix(text, radix).ok() }
    };
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return digits(hex, 16);
    }
    match text.strip_prefix('0') {
        Some("") => Some(0),
        Some(octal) => digits(octal, 8),
        None => digits(text, 10),
    }
}
