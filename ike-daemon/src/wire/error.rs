//! What can be wrong with octets from the wire, and with values on their way to it.

/// Octets that are no IKE message, or a payload that breaks its rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The octets end before the field does.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// A length or count field contradicts what it describes.
    #[error("{0} has a wrong length")]
    Length(&'static str),
    /// A field holds a value that the RFC excludes.
    #[error("{0} has an impossible value")]
    Value(&'static str),
    /// A payload that must occur once occurs again.
    #[error("{0} occurs twice")]
    Duplicate(&'static str),
    /// More of something than any honest message has.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A payload type we do not know is marked critical (RFC 7296 section 2.5).
    #[error("critical payload of unknown type {0}")]
    Critical(u8),
}

/// A value that does not fit its field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// The value needs more octets than its length field can count.
    #[error("{0} is too long for its length field")]
    TooLong(&'static str),
    /// The value breaks a rule that our own decoder enforces.
    #[error("{0} has an impossible value")]
    Value(&'static str),
}
