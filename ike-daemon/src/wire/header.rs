//! The IKE header (RFC 7296 section 3.1): 28 octets in front of every message.

use super::reader::Reader;
use super::{EncodeError, WireError};

/// Octets of the header.
pub const LEN: usize = 28;

/// Major version of IKEv2.
pub const MAJOR: u8 = 2;

const FLAG_INITIATOR: u8 = 0x08;
const FLAG_RESPONSE: u8 = 0x20;

/// Exchange type octet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExchangeType(
    /// The number in the registry.
    pub u8,
);

impl ExchangeType {
    /// IKE_SA_INIT.
    pub const IKE_SA_INIT: Self = Self(34);
    /// IKE_AUTH.
    pub const IKE_AUTH: Self = Self(35);
    /// CREATE_CHILD_SA.
    pub const CREATE_CHILD_SA: Self = Self(36);
    /// INFORMATIONAL.
    pub const INFORMATIONAL: Self = Self(37);
}

/// A header without what only the octets decide: length and the type of the first payload are passed on the way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// SPI of the original initiator.
    pub spi_initiator: [u8; 8],
    /// SPI of the original responder; zero while the initiator does not know it.
    pub spi_responder: [u8; 8],
    /// Exchange type.
    pub exchange: ExchangeType,
    /// I flag: the sender is the original initiator of the IKE SA.
    pub from_initiator: bool,
    /// R flag: a response.
    pub response: bool,
    /// Message ID.
    pub message_id: u32,
}

/// A header as it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Its fields.
    pub header: Header,
    /// Major version of the sender; fields behind the SPIs mean nothing when it is not [`MAJOR`].
    pub major: u8,
    /// Type of the first payload, 0 for none.
    pub first_payload: u8,
}

impl Header {
    /// Reads the header of a whole datagram.
    ///
    /// # Errors
    /// [`WireError`] when the datagram is shorter than a header, its length field does not equal the octets received
    /// (V2-HDR-10), or the initiator's SPI is zero (V2-HDR-02).
    pub fn parse(datagram: &[u8]) -> Result<Received, WireError> {
        let mut reader = Reader::new(datagram, "IKE header");
        let spi_initiator = reader.array()?;
        let spi_responder = reader.array()?;
        let first_payload = reader.octet()?;
        let version = reader.octet()?;
        let exchange = ExchangeType(reader.octet()?);
        let flags = reader.octet()?;
        let message_id = u32::from_be_bytes(reader.array()?);
        let length = u32::from_be_bytes(reader.array()?);
        if usize::try_from(length) != Ok(datagram.len()) {
            return Err(WireError::Length("IKE message"));
        }
        if spi_initiator == [0; 8] {
            return Err(WireError::Value("initiator SPI"));
        }
        let header = Self {
            spi_initiator,
            spi_responder,
            exchange,
            from_initiator: flags & FLAG_INITIATOR != 0,
            response: flags & FLAG_RESPONSE != 0,
            message_id,
        };
        Ok(Received { header, major: version >> 4, first_payload })
    }

    /// Writes the header for a message of `length` octets in all whose first payload is of type `first_payload`.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] when the length does not fit 32 bits.
    pub fn emit(&self, first_payload: u8, length: usize) -> Result<[u8; LEN], EncodeError> {
        let length = u32::try_from(length).map_err(|_| EncodeError::TooLong("IKE message"))?;
        let flags =
            (if self.from_initiator { FLAG_INITIATOR } else { 0 }) | (if self.response { FLAG_RESPONSE } else { 0 });
        let mut octets = [0; LEN];
        let mut fields = octets.iter_mut();
        let source = self
            .spi_initiator
            .into_iter()
            .chain(self.spi_responder)
            .chain([first_payload, MAJOR << 4, self.exchange.0, flags])
            .chain(self.message_id.to_be_bytes())
            .chain(length.to_be_bytes());
        fields.by_ref().zip(source).for_each(|(field, octet)| *field = octet);
        Ok(octets)
    }
}
