//! The chain of payloads behind a header or inside SK (RFC 7296 section 3.2): types, critical bits and bodies, in any order.

use super::header::{self, Header};
use super::reader::Reader;
use super::{EncodeError, WireError};

/// Payload type octet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PayloadType(
    /// The number in the registry.
    pub u8,
);

impl PayloadType {
    /// End of the chain.
    pub const NONE: Self = Self(0);
    /// Security association.
    pub const SA: Self = Self(33);
    /// Key exchange.
    pub const KE: Self = Self(34);
    /// Identification of the initiator.
    pub const ID_I: Self = Self(35);
    /// Identification of the responder.
    pub const ID_R: Self = Self(36);
    /// Certificate.
    pub const CERT: Self = Self(37);
    /// Certificate request.
    pub const CERTREQ: Self = Self(38);
    /// Authentication.
    pub const AUTH: Self = Self(39);
    /// Nonce.
    pub const NONCE: Self = Self(40);
    /// Notify.
    pub const NOTIFY: Self = Self(41);
    /// Delete.
    pub const DELETE: Self = Self(42);
    /// Vendor ID.
    pub const VENDOR: Self = Self(43);
    /// Traffic selectors of the initiator.
    pub const TS_I: Self = Self(44);
    /// Traffic selectors of the responder.
    pub const TS_R: Self = Self(45);
    /// Encrypted and authenticated.
    pub const SK: Self = Self(46);
    /// Configuration.
    pub const CP: Self = Self(47);
    /// Extensible authentication.
    pub const EAP: Self = Self(48);
    /// A fragment, encrypted and authenticated (RFC 7383 section 2.5).
    pub const SKF: Self = Self(53);

    /// Whether the base RFC defines the type: its critical bit is ignored then (V2-HDR-18).
    pub fn is_known(self) -> bool {
        (Self::SA..=Self::EAP).contains(&self)
    }
}

/// One payload as it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawPayload<'a> {
    /// Its type.
    pub kind: PayloadType,
    /// Its critical bit.
    pub critical: bool,
    /// What stands behind its generic header.
    pub body: &'a [u8],
}

/// Which part of a message an SKF payload has (RFC 7383 section 2.5), as it says itself: nothing is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// From 1.
    pub number: u16,
    /// How many there are.
    pub total: u16,
}

/// The SK or SKF payload of a message and the octets its protection covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed<'a> {
    /// Type of the first payload inside; [`PayloadType::NONE`] in every fragment but the first.
    pub first_inner: PayloadType,
    /// `None` for SK.
    pub fragment: Option<Fragment>,
    /// The message from its first octet up to the IV: the associated data of an AEAD (RFC 5282 section 5.1, RFC 7383
    /// section 2.5).
    pub associated: &'a [u8],
    /// IV, ciphertext and ICV.
    pub body: &'a [u8],
}

/// What stands behind a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outer<'a> {
    /// Payloads in clear.
    pub clear: Vec<RawPayload<'a>>,
    /// The SK or SKF payload, always the last.
    pub sealed: Option<Sealed<'a>>,
}

/// Payloads in one chain: no honest message comes near.
const MAX_PAYLOADS: usize = 128;
const GENERIC: usize = 4;
const CRITICAL: u8 = 0x80;

/// Splits a whole datagram behind its header.
///
/// # Errors
/// [`WireError`] on a payload shorter than its own header or longer than the message (V2-HDR-11), on octets behind the last
/// payload, on more payloads than any message has.
pub fn parse_message<'a>(datagram: &'a [u8], received: &header::Received) -> Result<Outer<'a>, WireError> {
    let octets = datagram.get(header::LEN..).ok_or(WireError::Truncated("IKE header"))?;
    let mut walk = Walk::new(octets, PayloadType(received.first_payload));
    let mut clear = Vec::new();
    while let Some(payload) = walk.next_payload()? {
        if !matches!(payload.kind, PayloadType::SK | PayloadType::SKF) {
            clear.push(payload);
            continue;
        }
        // SK's next payload names what is inside it, so nothing can follow (V2-HDR-22).
        if !walk.rest.is_empty() {
            return Err(WireError::Length("SK payload"));
        }
        let mut reader = Reader::new(payload.body, "SKF payload");
        let fragment = match payload.kind {
            PayloadType::SKF => Some(Fragment { number: reader.short()?, total: reader.short()? }),
            _ => None,
        };
        let split = datagram.len() - reader.rest().len();
        let (associated, body) = datagram.split_at_checked(split).ok_or(WireError::Length("SK payload"))?;
        return Ok(Outer { clear, sealed: Some(Sealed { first_inner: walk.next, fragment, associated, body }) });
    }
    Ok(Outer { clear, sealed: None })
}

/// Splits the payloads that were inside SK. An SK inside SK is an error.
///
/// # Errors
/// As [`parse_message`].
pub fn parse_inner(octets: &[u8], first: PayloadType) -> Result<Vec<RawPayload<'_>>, WireError> {
    let mut walk = Walk::new(octets, first);
    let mut payloads = Vec::new();
    while let Some(payload) = walk.next_payload()? {
        if matches!(payload.kind, PayloadType::SK | PayloadType::SKF) {
            return Err(WireError::Value("SK inside SK"));
        }
        payloads.push(payload);
    }
    Ok(payloads)
}

struct Walk<'a> {
    rest: &'a [u8],
    next: PayloadType,
    count: usize,
}

impl<'a> Walk<'a> {
    fn new(rest: &'a [u8], next: PayloadType) -> Self {
        Self { rest, next, count: 0 }
    }

    fn next_payload(&mut self) -> Result<Option<RawPayload<'a>>, WireError> {
        if self.next == PayloadType::NONE {
            return if self.rest.is_empty() { Ok(None) } else { Err(WireError::Length("payload chain")) };
        }
        self.count += 1;
        if self.count > MAX_PAYLOADS {
            return Err(WireError::TooMany("payloads"));
        }
        let kind = self.next;
        let mut reader = Reader::new(self.rest, "payload header");
        self.next = PayloadType(reader.octet()?);
        let critical = reader.octet()? & CRITICAL != 0;
        let length = usize::from(reader.short()?);
        let body_length = length.checked_sub(GENERIC).ok_or(WireError::Length("payload"))?;
        let body = reader.take(body_length)?;
        self.rest = reader.rest();
        Ok(Some(RawPayload { kind, critical, body }))
    }
}

/// The body of a payload on its way out.
pub trait Body {
    /// Appends the body, without generic header.
    ///
    /// # Errors
    /// [`EncodeError`] where a value does not fit its field.
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// Builds a chain payload by payload.
#[derive(Clone, Debug, Default)]
pub struct ChainBuilder {
    first: Option<PayloadType>,
    last_header: usize,
    octets: Vec<u8>,
}

impl ChainBuilder {
    /// An empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a payload.
    ///
    /// # Errors
    /// [`EncodeError`] where the body refuses or does not fit the 16-bit length; the chain is as before then.
    pub fn push(&mut self, kind: PayloadType, body: &impl Body) -> Result<(), EncodeError> {
        let start = self.octets.len();
        self.octets.extend_from_slice(&[0; GENERIC]);
        if let Err(error) = self.finish(start, body) {
            self.octets.truncate(start);
            return Err(error);
        }
        match self.first {
            None => self.first = Some(kind),
            Some(_) => {
                if let Some(next) = self.octets.get_mut(self.last_header) {
                    *next = kind.0;
                }
            }
        }
        self.last_header = start;
        Ok(())
    }

    fn finish(&mut self, start: usize, body: &impl Body) -> Result<(), EncodeError> {
        body.emit(&mut self.octets)?;
        let length = u16::try_from(self.octets.len() - start).map_err(|_| EncodeError::TooLong("payload"))?;
        patch(&mut self.octets, start + 2, length)
    }

    /// Type of the first payload.
    pub fn first(&self) -> PayloadType {
        self.first.unwrap_or(PayloadType::NONE)
    }

    /// The payloads so far.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The whole message in clear, with `header` in front.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn into_message(self, header: &Header) -> Result<Vec<u8>, EncodeError> {
        let mut message = header.emit(self.first().0, header::LEN + self.octets.len())?.to_vec();
        message.extend_from_slice(&self.octets);
        Ok(message)
    }
}

/// Octets of a message with an SKF payload in front of its body.
pub const FRAGMENT_PREFIX: usize = header::LEN + GENERIC + 4;

/// Header and generic SK header of a protected message whose SK body will have `body_length` octets.
///
/// # Errors
/// [`EncodeError::TooLong`] when the body does not fit a payload.
pub fn sealed_prefix(header: &Header, first_inner: PayloadType, body_length: usize) -> Result<Vec<u8>, EncodeError> {
    prefix(header, PayloadType::SK, first_inner, &[], body_length)
}

/// Header and SKF header of a fragment whose body will have `body_length` octets.
///
/// # Errors
/// [`EncodeError::TooLong`] when the body does not fit a payload.
pub fn fragment_prefix(
    header: &Header,
    first_inner: PayloadType,
    fragment: Fragment,
    body_length: usize,
) -> Result<Vec<u8>, EncodeError> {
    let place = [fragment.number.to_be_bytes(), fragment.total.to_be_bytes()].concat();
    prefix(header, PayloadType::SKF, first_inner, &place, body_length)
}

fn prefix(
    header: &Header,
    kind: PayloadType,
    first_inner: PayloadType,
    place: &[u8],
    body_length: usize,
) -> Result<Vec<u8>, EncodeError> {
    let length = GENERIC + place.len() + body_length;
    let payload = u16::try_from(length).map_err(|_| EncodeError::TooLong("SK payload"))?;
    let mut message = header.emit(kind.0, header::LEN + usize::from(payload))?.to_vec();
    message.extend_from_slice(&[first_inner.0, 0]);
    message.extend_from_slice(&payload.to_be_bytes());
    message.extend_from_slice(place);
    Ok(message)
}

/// Writes a 16-bit field into octets that were reserved for it.
pub(super) fn patch(octets: &mut [u8], at: usize, value: u16) -> Result<(), EncodeError> {
    let field = octets.get_mut(at..at + 2).ok_or(EncodeError::Value("length field"))?;
    field.copy_from_slice(&value.to_be_bytes());
    Ok(())
}
