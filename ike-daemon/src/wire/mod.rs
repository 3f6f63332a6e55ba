//! IKEv2 on the wire (RFC 7296 section 3). Codecs only: bounded, checked, total. Nothing here knows a state, a key or a
//! policy. Decoders take any octets and return a value or a [`WireError`]; encoders return an [`EncodeError`] rather than a
//! message that our own decoders would refuse. RESERVED fields go out as zero and come in ignored (section 2.5).

pub mod auth;
pub mod cert;
pub mod chain;
pub mod delete;
mod error;
pub mod header;
pub mod id;
pub mod ke;
pub mod nonce;
pub mod notify;
pub mod payloads;
mod reader;
pub mod sa;
#[cfg(test)]
mod tests;
pub mod transform;
pub mod ts;

pub use error::{EncodeError, WireError};
