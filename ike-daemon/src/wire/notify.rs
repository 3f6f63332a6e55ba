//! The Notify payload (RFC 7296 section 3.10): errors below 16384, status from there.

use std::fmt;

use super::chain::Body;
use super::reader::Reader;
use super::{EncodeError, WireError};

/// Notify message type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotifyType(
    /// The number in the registry.
    pub u16,
);

macro_rules! notifications {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl NotifyType {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name the registry gives, for the types this build acts on.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

notifications! {
    /// A critical payload is not understood; data: its type.
    UNSUPPORTED_CRITICAL_PAYLOAD = 1;
    /// No IKE SA with these SPIs.
    INVALID_IKE_SPI = 4;
    /// The major version is not spoken here.
    INVALID_MAJOR_VERSION = 5;
    /// Malformed.
    INVALID_SYNTAX = 7;
    /// A message ID outside the window.
    INVALID_MESSAGE_ID = 9;
    /// An SPI that is not known.
    INVALID_SPI = 11;
    /// No proposal is acceptable.
    NO_PROPOSAL_CHOSEN = 14;
    /// Another group, please; data: its number.
    INVALID_KE_PAYLOAD = 17;
    /// The peer could not be authenticated.
    AUTHENTICATION_FAILED = 24;
    /// One pair of selectors only.
    SINGLE_PAIR_REQUIRED = 34;
    /// No more children on this IKE SA.
    NO_ADDITIONAL_SAS = 35;
    /// No address could be assigned.
    INTERNAL_ADDRESS_FAILURE = 36;
    /// Configuration is required.
    FAILED_CP_REQUIRED = 37;
    /// Nothing of the selectors is acceptable.
    TS_UNACCEPTABLE = 38;
    /// The selectors of a packet do not fit its SA.
    INVALID_SELECTORS = 39;
    /// Not now.
    TEMPORARY_FAILURE = 43;
    /// The child does not exist.
    CHILD_SA_NOT_FOUND = 44;
    /// Every older IKE SA between these identities is gone.
    INITIAL_CONTACT = 16384;
    /// Size of the request window; four octets.
    SET_WINDOW_SIZE = 16385;
    /// More selectors would be acceptable in another child.
    ADDITIONAL_TS_POSSIBLE = 16386;
    /// Hash over SPIs and the sender's address and port.
    NAT_DETECTION_SOURCE_IP = 16388;
    /// Hash over SPIs and the receiver's address and port.
    NAT_DETECTION_DESTINATION_IP = 16389;
    /// To be repeated by an initiator who is really there.
    COOKIE = 16390;
    /// Transport mode is wanted, or agreed.
    USE_TRANSPORT_MODE = 16391;
    /// The child that is to be replaced.
    REKEY_SA = 16393;
    /// No TFC padding, please.
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394;
    /// How long the sender takes our proof of who we are, in seconds (RFC 4478).
    AUTH_LIFETIME = 16403;
    /// An IKE SA may begin without a child (RFC 6023).
    CHILDLESS_IKEV2_SUPPORTED = 16418;
    /// Messages in fragments can be put together (RFC 7383).
    IKEV2_FRAGMENTATION_SUPPORTED = 16430;
    /// Hashes of signatures that are verified; two octets each (RFC 7427).
    SIGNATURE_HASH_ALGORITHMS = 16431;
}

impl NotifyType {
    /// Whether the type is an error type (below 16384).
    pub fn is_error(self) -> bool {
        self.0 < 16384
    }
}

impl fmt::Display for NotifyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "notification {}", self.0),
        }
    }
}

impl fmt::Debug for NotifyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A notification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notify {
    /// Protocol ID of the SA meant: 2 AH, 3 ESP, 0 when the SPI is empty.
    pub protocol: u8,
    /// SPI of the SA meant; empty for the IKE SA itself.
    pub spi: Vec<u8>,
    /// What it says.
    pub kind: NotifyType,
    /// Data, as the type defines it.
    pub data: Vec<u8>,
}

impl Notify {
    /// A notification about the IKE SA or the exchange.
    pub fn plain(kind: NotifyType, data: Vec<u8>) -> Self {
        Self { protocol: 0, spi: Vec::new(), kind, data }
    }

    /// A notification about a child.
    pub fn about_child(kind: NotifyType, protocol: u8, spi: u32) -> Self {
        Self { protocol, spi: spi.to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    /// The SPI, when it is that of an ESP or AH SA.
    pub fn child_spi(&self) -> Option<u32> {
        <[u8; 4]>::try_from(self.spi.as_slice()).ok().map(u32::from_be_bytes)
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "Notify payload");
        let protocol = reader.octet()?;
        let spi_size = usize::from(reader.octet()?);
        let kind = NotifyType(reader.short()?);
        let spi = reader.take(spi_size)?.to_vec();
        let data = reader.rest().to_vec();
        if kind == NotifyType::SET_WINDOW_SIZE && !matches!(<[u8; 4]>::try_from(data.as_slice()), Ok(v) if v != [0; 4])
        {
            return Err(WireError::Value("SET_WINDOW_SIZE"));
        }
        Ok(Self { protocol, spi, kind, data })
    }
}

impl Body for Notify {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let spi_size = u8::try_from(self.spi.len()).map_err(|_| EncodeError::TooLong("SPI"))?;
        out.extend_from_slice(&[self.protocol, spi_size]);
        out.extend_from_slice(&self.kind.0.to_be_bytes());
        out.extend_from_slice(&self.spi);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}
