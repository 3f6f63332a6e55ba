//! Identification payloads IDi and IDr (RFC 7296 section 3.5): type and data, with the length rules of each type.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::chain::Body;
use super::reader::Reader;
use super::{EncodeError, WireError};
use crate::pki::DistinguishedName;

/// ID type octet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IdType(
    /// The number in the registry.
    pub u8,
);

impl IdType {
    /// A single IPv4 address, four octets.
    pub const IPV4_ADDR: Self = Self(1);
    /// A fully qualified domain name in ASCII.
    pub const FQDN: Self = Self(2);
    /// An electronic mail address in ASCII.
    pub const RFC822_ADDR: Self = Self(3);
    /// A single IPv6 address, sixteen octets.
    pub const IPV6_ADDR: Self = Self(5);
    /// A DER encoded distinguished name.
    pub const DER_ASN1_DN: Self = Self(9);
    /// A DER encoded general name.
    pub const DER_ASN1_GN: Self = Self(10);
    /// Opaque octets that both sides know.
    pub const KEY_ID: Self = Self(11);
}

/// An identity as it goes over the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identification {
    id_type: IdType,
    data: Vec<u8>,
}

/// Why type and data do not make an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("identity of type {0} with {1} octets of data")]
pub struct BadIdentity(
    /// The ID type octet.
    pub u8,
    /// Octets of data.
    pub usize,
);

/// Data beyond this length is refused: no name or key identifier in use comes near.
const MAX_DATA: usize = 4096;
/// Octets of an identity that a log line shows.
const MAX_SHOWN: usize = 128;

impl Identification {
    /// Checks the data against the type: addresses have 4 and 16 octets, every other type at least one.
    ///
    /// # Errors
    /// [`BadIdentity`] where the length does not fit the type.
    pub fn new(id_type: IdType, data: Vec<u8>) -> Result<Self, BadIdentity> {
        let fits = match id_type {
            IdType::IPV4_ADDR => data.len() == 4,
            IdType::IPV6_ADDR => data.len() == 16,
            _ => !data.is_empty() && data.len() <= MAX_DATA,
        };
        if fits { Ok(Self { id_type, data }) } else { Err(BadIdentity(id_type.0, data.len())) }
    }

    /// The identity that an address is.
    pub fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self { id_type: IdType::IPV4_ADDR, data: v4.octets().to_vec() },
            IpAddr::V6(v6) => Self { id_type: IdType::IPV6_ADDR, data: v6.octets().to_vec() },
        }
    }

    /// The ID type.
    pub fn id_type(&self) -> IdType {
        self.id_type
    }

    /// The identification data.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The address, when the identity is one.
    pub fn as_address(&self) -> Option<IpAddr> {
        match self.id_type {
            IdType::IPV4_ADDR => <[u8; 4]>::try_from(self.data.as_slice()).ok().map(|o| Ipv4Addr::from(o).into()),
            IdType::IPV6_ADDR => <[u8; 16]>::try_from(self.data.as_slice()).ok().map(|o| Ipv6Addr::from(o).into()),
            _ => None,
        }
    }

    /// The text of an FQDN or mail address, when it is printable ASCII.
    pub fn as_text(&self) -> Option<&str> {
        let textual = matches!(self.id_type, IdType::FQDN | IdType::RFC822_ADDR);
        let printable = self.data.iter().all(u8::is_ascii_graphic);
        if textual && printable { std::str::from_utf8(&self.data).ok() } else { None }
    }
}

impl fmt::Display for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.as_address() {
            return write!(f, "{address}");
        }
        let (head, cut) = match self.data.split_at_checked(MAX_SHOWN) {
            Some((head, tail)) => (head, !tail.is_empty()),
            None => (self.data.as_slice(), false),
        };
        if self.id_type == IdType::DER_ASN1_DN
            && let Ok(name) = DistinguishedName::from_der(&self.data)
        {
            return write!(f, "{name}");
        }
        if self.as_text().is_some() {
            head.iter().try_for_each(|octet| write!(f, "{}", char::from(*octet)))?;
        } else {
            write!(f, "type {}:", self.id_type.0)?;
            head.iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        }
        if cut { f.write_str("...") } else { Ok(()) }
    }
}

/// An ID payload as it stands in a message. The RESERVED octets are part of what AUTH signs (V2-HDR-13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdPayload {
    /// The identity.
    pub id: Identification,
    reserved: [u8; 3],
}

impl IdPayload {
    /// One of ours, with RESERVED zero.
    pub fn new(id: Identification) -> Self {
        Self { id, reserved: [0; 3] }
    }

    /// The payload body, exactly as sent or received: what AUTH covers (RFC 7296 section 2.15).
    pub fn signed_body(&self) -> Vec<u8> {
        let mut body = vec![self.id.id_type.0];
        body.extend_from_slice(&self.reserved);
        body.extend_from_slice(&self.id.data);
        body
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "ID payload");
        let id_type = IdType(reader.octet()?);
        let reserved = reader.array()?;
        let id = Identification::new(id_type, reader.rest().to_vec()).map_err(|_| WireError::Length("ID payload"))?;
        Ok(Self { id, reserved })
    }
}

impl Body for IdPayload {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.signed_body());
        Ok(())
    }
}
