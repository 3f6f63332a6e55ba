//! The KE payload (RFC 7296 section 3.4): group and public value. Whether the length fits the group is known to
//! [`crate::crypto`].

use super::chain::Body;
use super::reader::Reader;
use super::transform::GroupId;
use super::{EncodeError, WireError};

/// A public value with its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyExchange {
    /// Group.
    pub group: GroupId,
    /// Public value, as the group's RFC writes it.
    pub public: Vec<u8>,
}

impl KeyExchange {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body, "KE payload");
        let group = GroupId(reader.short()?);
        reader.take(2)?;
        let public = reader.rest();
        if public.is_empty() {
            return Err(WireError::Length("KE payload"));
        }
        Ok(Self { group, public: public.to_vec() })
    }
}

impl Body for KeyExchange {
    fn emit(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.public.is_empty() {
            return Err(EncodeError::Value("public value"));
        }
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.public);
        Ok(())
    }
}
