//! The SA payload (RFC 7296 section 3.3): proposals, transforms, attributes. What is acceptable is decided in
//! [`crate::core`]; here only the shape is checked.

use super::chain::{Body, patch};
use super::reader::Reader;
use super::transform::{Encr, EncrId, GroupId, IntegId, PrfId};
use super::{EncodeError, WireError};

/// Protocol ID octet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProtocolId(
    /// The number in the registry.
    pub u8,
);

impl ProtocolId {
    /// The IKE SA.
    pub const IKE: Self = Self(1);
    /// Authentication Header.
    pub const AH: Self = Self(2);
    /// Encapsulating Security Payload.
    pub const ESP: Self = Self(3);
}

/// One transform of a proposal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transform {
    /// Type 1.
    Encr(Encr),
    /// Type 2.
    Prf(PrfId),
    /// Type 3.
    Integ(IntegId),
    /// Type 4.
    Group(GroupId),
    /// Type 5: whether extended sequence numbers are used.
    Esn(bool),
    /// A transform of a known type that can never be chosen: unknown or ill-formed attributes, an unknown ESN number
    /// (V2-SA-09, V2-SA-10).
    Unusable(u8),
    /// A transform of a type we do not know: its whole proposal can never be chosen (V2-SA-08).
    UnknownType(u8),
}

impl Transform {
    /// The transform type.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Encr(_) => KIND_ENCR,
            Self::Prf(_) => KIND_PRF,
            Self::Integ(_) => KIND_INTEG,
            Self::Group(_) => KIND_GROUP,
            Self::Esn(_) => KIND_ESN,
            Self::Unusable(kind) | Self::UnknownType(kind) => *kind,
        }
    }
}

/// One proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// Number, from 1 upward.
    pub number: u8,
    /// What it is for.
    pub protocol: ProtocolId,
    /// The sender's SPI: empty, 4 or 8 octets.
    pub spi: Vec<u8>,
    /// Transforms in the sender's order.
    pub transforms: Vec<Transform>,
}

/// The proposals of an SA payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecurityAssociation {
    /// In the sender's order; never empty.
    pub proposals: Vec<Proposal>,
}

const KIND_ENCR: u8 = 1;
const KIND_PRF: u8 = 2;
const KIND_INTEG: u8 = 3;
const KIND_GROUP: u8 = 4;
const KIND_ESN: u8 = 5;

const LAST: u8 = 0;
const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;

const ATTRIBUTE_KEY_LENGTH: u16 = 14;
const ATTRIBUTE_SHORT_FORM: u16 = 0x8000;

impl SecurityAssociation {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "SA payload");
        let mut proposals = Vec::new();
        loop {
            let more = reader.octet()?;
            reader.octet()?;
            let length = usize::from(reader.short()?).checked_sub(4).ok_or(WireError::Length("proposal"))?;
            let proposal = Proposal::parse(reader.take(length)?)?;
            // Numbers start at 1 and go up in steps of one (section 3.3.1).
            if usize::from(proposal.number) != proposals.len() + 1 && !Self::is_answer(&proposals, more) {
                return Err(WireError::Value("proposal number"));
            }
            proposals.push(proposal);
            match (more, reader.is_empty()) {
                (LAST, true) => return Ok(Self { proposals }),
                (MORE_PROPOSALS, false) => {}
                _ => return Err(WireError::Value("last proposal mark")),
            }
        }
    }

    /// A single proposal may be an answer, which repeats the number of the chosen one.
    fn is_answer(before: &[Proposal], more: u8) -> bool {
        before.is_empty() && more == LAST
    }
}

impl Body for SecurityAssociation {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.proposals.is_empty() {
            return Err(EncodeError::Value("SA payload"));
        }
        let mut left = self.proposals.len();
        for proposal in &self.proposals {
            left -= 1;
            let start = out.len();
            out.extend_from_slice(&[if left == 0 { LAST } else { MORE_PROPOSALS }, 0, 0, 0]);
            proposal.emit(out)?;
            let length = u16::try_from(out.len() - start).map_err(|_| EncodeError::TooLong("proposal"))?;
            patch(out, start + 2, length)?;
        }
        Ok(())
    }
}

impl Proposal {
    fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(octets, "proposal");
        let number = reader.octet()?;
        let protocol = ProtocolId(reader.octet()?);
        let spi_size = usize::from(reader.octet()?);
        let count = usize::from(reader.octet()?);
        let spi = reader.take(spi_size)?.to_vec();
        if number == 0 {
            return Err(WireError::Value("proposal number"));
        }
        let mut transforms = Vec::with_capacity(count);
        while transforms.len() < count {
            let more = reader.octet()?;
            reader.octet()?;
            let length = usize::from(reader.short()?).checked_sub(4).ok_or(WireError::Length("transform"))?;
            transforms.push(Transform::parse(reader.take(length)?)?);
            let expected = if transforms.len() == count { LAST } else { MORE_TRANSFORMS };
            if more != expected {
                return Err(WireError::Value("last transform mark"));
            }
        }
        if !reader.is_empty() {
            return Err(WireError::Length("proposal"));
        }
        Ok(Self { number, protocol, spi, transforms })
    }

    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let spi_size = u8::try_from(self.spi.len()).map_err(|_| EncodeError::TooLong("SPI"))?;
        let count = u8::try_from(self.transforms.len()).map_err(|_| EncodeError::TooLong("proposal"))?;
        if self.number == 0 {
            return Err(EncodeError::Value("proposal number"));
        }
        out.extend_from_slice(&[self.number, self.protocol.0, spi_size, count]);
        out.extend_from_slice(&self.spi);
        let mut left = count;
        for transform in &self.transforms {
            left -= 1;
            transform.emit(left == 0, out)?;
        }
        Ok(())
    }

    /// Whether a transform of a type we do not know rules the proposal out.
    pub fn has_unknown_type(&self) -> bool {
        self.transforms.iter().any(|t| matches!(t, Transform::UnknownType(_)))
    }

    /// Whether the proposal has any transform of this kind, usable or not.
    pub fn has_kind(&self, of: &Transform) -> bool {
        self.transforms.iter().any(|t| t.kind() == of.kind())
    }

    /// Ciphers, in order.
    pub fn encr(&self) -> impl Iterator<Item = Encr> {
        self.transforms.iter().filter_map(|t| if let Transform::Encr(v) = t { Some(*v) } else { None })
    }

    /// Pseudo-random functions, in order.
    pub fn prf(&self) -> impl Iterator<Item = PrfId> {
        self.transforms.iter().filter_map(|t| if let Transform::Prf(v) = t { Some(*v) } else { None })
    }

    /// Integrity algorithms, in order.
    pub fn integ(&self) -> impl Iterator<Item = IntegId> {
        self.transforms.iter().filter_map(|t| if let Transform::Integ(v) = t { Some(*v) } else { None })
    }

    /// Groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.transforms.iter().filter_map(|t| if let Transform::Group(v) = t { Some(*v) } else { None })
    }

    /// ESN choices, in order.
    pub fn esn(&self) -> impl Iterator<Item = bool> {
        self.transforms.iter().filter_map(|t| if let Transform::Esn(v) = t { Some(*v) } else { None })
    }
}

impl Transform {
    fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(octets, "transform");
        let kind = reader.octet()?;
        reader.octet()?;
        let id = reader.short()?;
        let attributes = Attributes::parse(reader)?;
        Ok(match (kind, attributes) {
            (KIND_ENCR..=KIND_ESN, Attributes::Unusable) => Self::Unusable(kind),
            (KIND_ENCR, Attributes::KeyBits(bits)) => Self::Encr(Encr { id: EncrId(id), key_bits: Some(bits) }),
            (KIND_ENCR, Attributes::None) => Self::Encr(Encr { id: EncrId(id), key_bits: None }),
            (KIND_PRF, Attributes::None) => Self::Prf(PrfId(id)),
            (KIND_INTEG, Attributes::None) => Self::Integ(IntegId(id)),
            (KIND_GROUP, Attributes::None) => Self::Group(GroupId(id)),
            (KIND_ESN, Attributes::None) if id <= 1 => Self::Esn(id == 1),
            (KIND_PRF..=KIND_ESN, _) => Self::Unusable(kind),
            _ => Self::UnknownType(kind),
        })
    }

    fn emit(&self, last: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (id, key_bits) = match self {
            Self::Encr(encr) => (encr.id.0, encr.key_bits),
            Self::Prf(prf) => (prf.0, None),
            Self::Integ(integ) => (integ.0, None),
            Self::Group(group) => (group.0, None),
            Self::Esn(esn) => (u16::from(*esn), None),
            Self::Unusable(_) | Self::UnknownType(_) => return Err(EncodeError::Value("transform")),
        };
        let length: u16 = if key_bits.is_some() { 12 } else { 8 };
        out.extend_from_slice(&[if last { LAST } else { MORE_TRANSFORMS }, 0]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[self.kind(), 0]);
        out.extend_from_slice(&id.to_be_bytes());
        if let Some(bits) = key_bits {
            out.extend_from_slice(&(ATTRIBUTE_SHORT_FORM | ATTRIBUTE_KEY_LENGTH).to_be_bytes());
            out.extend_from_slice(&bits.to_be_bytes());
        }
        Ok(())
    }
}

enum Attributes {
    None,
    KeyBits(u16),
    Unusable,
}

impl Attributes {
    fn parse(mut reader: Reader<'_>) -> Result<Self, WireError> {
        let mut found = Self::None;
        while !reader.is_empty() {
            let kind = reader.short()?;
            let value = reader.short()?;
            if kind & ATTRIBUTE_SHORT_FORM == 0 {
                reader.take(usize::from(value))?;
                found = Self::Unusable;
                continue;
            }
            found = match (found, kind & !ATTRIBUTE_SHORT_FORM) {
                (Self::None, ATTRIBUTE_KEY_LENGTH) => Self::KeyBits(value),
                _ => Self::Unusable,
            };
        }
        Ok(found)
    }
}
