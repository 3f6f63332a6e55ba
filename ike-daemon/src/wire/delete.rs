//! The Delete payload (RFC 7296 section 3.11): the IKE SA itself, or children by the SPIs their deleter receives on.

use super::chain::Body;
use super::reader::Reader;
use super::sa::ProtocolId;
use super::{EncodeError, WireError};

/// What is deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delete {
    /// The IKE SA that carries the message.
    Ike,
    /// Children of one protocol.
    Children {
        /// ESP or AH.
        protocol: ProtocolId,
        /// SPIs.
        spis: Vec<u32>,
    },
}

impl Delete {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "Delete payload");
        let protocol = ProtocolId(reader.octet()?);
        let spi_size = reader.octet()?;
        let count = usize::from(reader.short()?);
        let octets = reader.rest();
        match (protocol, spi_size) {
            (ProtocolId::IKE, 0) if count == 0 && octets.is_empty() => Ok(Self::Ike),
            (ProtocolId::AH | ProtocolId::ESP, 4) => {
                let (spis, tail) = octets.as_chunks::<4>();
                if !tail.is_empty() || spis.len() != count {
                    return Err(WireError::Length("Delete payload"));
                }
                Ok(Self::Children { protocol, spis: spis.iter().copied().map(u32::from_be_bytes).collect() })
            }
            _ => Err(WireError::Value("Delete payload")),
        }
    }
}

impl Body for Delete {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Ike => out.extend_from_slice(&[ProtocolId::IKE.0, 0, 0, 0]),
            Self::Children { protocol, spis } => {
                let count = u16::try_from(spis.len()).map_err(|_| EncodeError::TooLong("Delete payload"))?;
                out.extend_from_slice(&[protocol.0, 4]);
                out.extend_from_slice(&count.to_be_bytes());
                spis.iter().for_each(|spi| out.extend_from_slice(&spi.to_be_bytes()));
            }
        }
        Ok(())
    }
}
