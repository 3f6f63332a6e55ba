//! The diagnostic codes of PF_KEY: what exactly was wrong with a request that failed with EINVAL or ESRCH.
//!
//! Numbers and meanings are those of spec section 7.8; `ipseckey` prints both.

macro_rules! diagnostics {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// One diagnostic code.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Diagnostic {
            $(#[doc = $text] $name = $code,)*
        }

        impl Diagnostic {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number that goes over the wire and that tools print.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// What the number means, without a full stop.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

diagnostics! {
    None = 0, "No diagnostic";
    UnknownMessage = 1, "Unknown message type";
    UnknownExtension = 2, "Unknown extension type";
    BadExtensionLength = 3, "Bad extension length";
    UnknownSaType = 4, "Unknown security association type";
    SaTypeNeeded = 5, "A specific security association type is required";
    NoSadbs = 6, "No security association database is present";
    NoExtensions = 7, "The message takes no extensions";
    BadSourceFamily = 8, "Bad source address family";
    BadDestinationFamily = 9, "Bad destination address family";
    BadInnerSourceFamily = 10, "Bad inner source address family";
    FamilyMismatch = 11, "Source and destination address families differ";
    BadSource = 12, "Bad source address value";
    BadDestination = 13, "Bad destination address value";
    AllocationsSoftHard = 14, "Soft allocations limit exceeds the hard limit";
    BytesSoftHard = 15, "Soft bytes limit exceeds the hard limit";
    AddTimeSoftHard = 16, "Soft or idle add time exceeds the hard limit";
    UseTimeSoftHard = 17, "Soft or idle use time exceeds the hard limit";
    MissingSource = 18, "Missing source address";
    MissingDestination = 19, "Missing destination address";
    MissingSa = 20, "Missing security association";
    MissingEncryptionKey = 21, "Missing encryption key";
    MissingAuthenticationKey = 22, "Missing authentication key";
    MissingRange = 23, "Missing SPI range";
    DuplicateSource = 24, "Duplicate source address";
    DuplicateDestination = 25, "Duplicate destination address";
    DuplicateSa = 26, "Duplicate security association";
    DuplicateEncryptionKey = 27, "Duplicate encryption key";
    DuplicateAuthenticationKey = 28, "Duplicate authentication key";
    DuplicateRange = 29, "Duplicate SPI range";
    MalformedSource = 30, "Malformed source address";
    MalformedDestination = 31, "Malformed destination address";
    MalformedSa = 32, "Malformed security association";
    MalformedEncryptionKey = 33, "Malformed encryption key";
    MalformedAuthenticationKey = 34, "Malformed authentication key";
    MalformedRange = 35, "Malformed SPI range";
    AuthenticationKeyPresent = 36, "Authentication key not wanted";
    EncryptionKeyPresent = 37, "Encryption key not wanted";
    ProposalPresent = 38, "Proposal not wanted";
    SupportedPresent = 39, "List of supported algorithms not wanted";
    BadAuthenticationAlgorithm = 40, "Unsupported authentication algorithm";
    BadEncryptionAlgorithm = 41, "Unsupported encryption algorithm";
    BadFlags = 42, "Invalid security association flags";
    BadState = 43, "Invalid security association state";
    BadAuthenticationKeyBits = 44, "Bad number of authentication key bits";
    BadEncryptionKeyBits = 45, "Bad number of encryption key bits";
    EncryptionUnsupported = 46, "This security association type does not encrypt";
    WeakEncryptionKey = 47, "Weak encryption key";
    WeakAuthenticationKey = 48, "Weak authentication key";
    DuplicateKmProtocol = 49, "Another key management protocol owns the security association";
    DuplicateKmCookie = 50, "Another key management cookie is set";
    MissingNatLocal = 51, "Missing local NAT address";
    MissingNatRemote = 52, "Missing remote NAT address";
    DuplicateNatLocal = 53, "Duplicate local NAT address";
    DuplicateNatRemote = 54, "Duplicate remote NAT address";
    MalformedNatLocal = 55, "Malformed local NAT address";
    MalformedNatRemote = 56, "Malformed remote NAT address";
    DuplicateNatPorts = 57, "Duplicate NAT ports";
    MissingInnerSource = 58, "Missing inner source address";
    MissingInnerDestination = 59, "Missing inner destination address";
    DuplicateInnerSource = 60, "Duplicate inner source address";
    DuplicateInnerDestination = 61, "Duplicate inner destination address";
    MalformedInnerSource = 62, "Malformed inner source address";
    MalformedInnerDestination = 63, "Malformed inner destination address";
    PrefixInnerSource = 64, "Bad inner source prefix length";
    PrefixInnerDestination = 65, "Bad inner destination prefix length";
    BadInnerDestinationFamily = 66, "Bad inner destination address family";
    InnerFamilyMismatch = 67, "Inner address families differ";
    BadNatRemoteFamily = 68, "Bad remote NAT address family";
    BadNatLocalFamily = 69, "Bad local NAT address family";
    ProtocolMismatch = 70, "Source and destination protocols differ";
    InnerProtocolMismatch = 71, "Inner source and destination protocols differ";
    DualPortSets = 72, "Both inner and outer ports are set";
    PairInappropriate = 73, "The other security association cannot be paired";
    PairAddressMismatch = 74, "Addresses of the pair are not mirrored";
    PairAlready = 75, "The other security association is paired already";
    PairNotFound = 76, "The other security association of the pair was not found";
    BadDirection = 77, "Wrong direction of the security association";
    SaNotFound = 78, "Security association not found";
    SaExpired = 79, "Security association is no longer valid";
    BadContext = 80, "The cryptographic layer refused the algorithm";
    InvalidReplay = 81, "Invalid replay counter";
    MissingLifetime = 82, "Inappropriate lifetimes";
    BadLabel = 83, "Label on a system without labels";
}

impl Diagnostic {
    /// The diagnostic with this number; `None` above 83.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_from_zero() {
        for (i, d) in Diagnostic::ALL.iter().enumerate() {
            assert_eq!(usize::from(d.code()), i);
            assert_eq!(Diagnostic::from_code(i as u8), Some(*d));
        }
        assert_eq!(Diagnostic::ALL.len(), 84);
        assert_eq!(Diagnostic::from_code(84), None);
    }
}
