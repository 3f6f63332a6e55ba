//! IKEv2 on the wire (RFC 7296 section 3). Codecs only: bounded, checked, total. Nothing here knows a state, a key or a
//! policy.

pub mod id;
pub mod transform;
pub mod ts;
