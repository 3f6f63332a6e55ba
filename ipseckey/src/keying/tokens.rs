//! The words of the extensions of `ipseckey` commands (spec section 7.4) and `esn`, which is ours.

/// What follows a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Nothing.
    None,
    /// One value.
    One,
    /// A type and a value.
    Two,
}

macro_rules! tokens {
    ($($variant:ident = $($text:literal)|+, $values:ident, $access:ident;)*) => {
        /// An extension.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is its word")]
        pub enum Extension { $($variant,)* }

        impl Extension {
            /// The extension of this word; words are case-sensitive.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($($text)|+ => Some(Self::$variant),)* _ => None }
            }

            /// The words for it, the usual one first.
            pub fn words(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($text),+],)* }
            }

            /// What follows the word.
            pub fn values(self) -> Values {
                match self { $(Self::$variant => Values::$values,)* }
            }

            /// Whether get, delete and delete-pair take it as well as add and update.
            pub fn names_an_sa(self) -> bool {
                match self { $(Self::$variant => tokens!(@$access),)* }
            }
        }

        /// Every extension.
        pub const ALL: &[Extension] = &[$(Extension::$variant,)*];

        /// Every word, for `help attr`.
        pub const WORDS: &[&str] = &[$($($text,)+)*];
    };
    (@All) => { true };
    (@Add) => { false };
}

tokens! {
    Spi = "spi", One, All;
    PairSpi = "pair-spi", One, Add;
    Inbound = "inbound", None, All;
    Outbound = "outbound", None, All;
    Replay = "replay", One, Add;
    ReplayValue = "replay_value", One, Add;
    State = "state", One, Add;
    AuthAlg = "auth_alg" | "authalg", One, Add;
    EncrAlg = "encr_alg" | "encralg", One, Add;
    AuthKey = "authkey", One, Add;
    EncrKey = "encrkey", One, Add;
    ReservedBits = "reserved_bits", One, Add;
    SoftAlloc = "soft_alloc", One, Add;
    SoftBytes = "soft_bytes", One, Add;
    SoftAddTime = "soft_addtime", One, Add;
    SoftUseTime = "soft_usetime", One, Add;
    HardAlloc = "hard_alloc", One, Add;
    HardBytes = "hard_bytes", One, Add;
    HardAddTime = "hard_addtime", One, Add;
    HardUseTime = "hard_usetime", One, Add;
    IdleAddTime = "idle_addtime", One, Add;
    IdleUseTime = "idle_usetime", One, Add;
    Source = "src" | "srcaddr" | "saddr", One, All;
    Destination = "dst" | "dstaddr" | "daddr", One, All;
    Source6 = "src6" | "srcaddr6" | "saddr6", One, All;
    Destination6 = "dst6" | "dstaddr6" | "daddr6", One, All;
    InnerSource = "isrc" | "innersrc" | "proxy" | "proxyaddr", One, Add;
    InnerSource6 = "isrc6" | "innersrc6" | "proxy6" | "proxyaddr6", One, Add;
    InnerDestination = "idst" | "innerdst", One, Add;
    InnerDestination6 = "idst6" | "innerdst6", One, Add;
    SourcePort = "sport", One, All;
    DestinationPort = "dport", One, All;
    InnerSourcePort = "isport" | "innersport", One, Add;
    InnerDestinationPort = "idport" | "innerdport", One, Add;
    Protocol = "proto" | "ulp", One, All;
    InnerProtocol = "iproto" | "iulp", One, Add;
    Encap = "encap", One, Add;
    NatLocal = "nat_loc", One, Add;
    NatRemote = "nat_rem", One, Add;
    NatLocalPort = "nat_lport", One, Add;
    NatRemotePort = "nat_rport", One, Add;
    SourceIdentity = "srcidtype", Two, Add;
    DestinationIdentity = "dstidtype", Two, Add;
    Label = "label", One, Add;
    OuterLabel = "outer-label", One, Add;
    ImplicitLabel = "implicit-label", One, Add;
    Esn = "esn", None, Add;
    Flags = "flags", One, Add;
    CurrentAlloc = "current_alloc", One, Add;
    CurrentBytes = "current_bytes", One, Add;
    CurrentAddTime = "current_addtime", One, Add;
    CurrentUseTime = "current_usetime", One, Add;
    Dpd = "dpd", One, Add;
    SensLevel = "sens_level", One, Add;
    SensMap = "sens_map", One, Add;
    IntegLevel = "integ_level", One, Add;
    IntegMap = "integ_map", One, Add;
}

impl Extension {
    /// Words that are known so that they can be refused by name.
    pub fn is_refused(self) -> bool {
        matches!(
            self,
            Self::Flags
                | Self::CurrentAlloc
                | Self::CurrentBytes
                | Self::CurrentAddTime
                | Self::CurrentUseTime
                | Self::Dpd
                | Self::SensLevel
                | Self::SensMap
                | Self::IntegLevel
                | Self::IntegMap
        )
    }

    /// The extension that the same field of a request belongs to: the IPv6 spelling of an address, one direction.
    pub fn field(self) -> Self {
        match self {
            Self::Source6 => Self::Source,
            Self::Destination6 => Self::Destination,
            Self::InnerSource6 => Self::InnerSource,
            Self::InnerDestination6 => Self::InnerDestination,
            Self::Outbound => Self::Inbound,
            other => other,
        }
    }
}
