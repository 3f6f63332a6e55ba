//! The one table of keywords of ikev2.config: what each is called, where it may stand, what follows it, how often.
//!
//! The full text of the Solaris page could not be had, so some entries are inferred from the files that public software
//! generates for Solaris and from the IKEv1 file; a better reading corrects this table and nothing else.

use super::source::Position;

/// A keyword, whatever its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Keyword {
    IkesaLifetimeSecs,
    IkesaXform,
    AuthMethod,
    LocalAuthMethod,
    RemoteAuthMethod,
    RequiredIssuer,
    ChildsaPfs,
    ChildsaLifetimeSecs,
    ChildsaSoftlifeSecs,
    ChildsaIdletimeSecs,
    ChildsaLifetimeKb,
    ChildsaSoftlifeKb,
    RetryLimit,
    RetryTimerInit,
    RetryTimerMax,
    Label,
    LocalAddr,
    RemoteAddr,
    LocalId,
    RemoteId,
    EncrAlg,
    AuthAlg,
    PrfAlg,
    OakleyGroup,
}

/// What has to follow a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A whole number in C notation.
    Number,
    /// A number of seconds, with a decimal fraction if need be.
    Seconds,
    /// A quoted string.
    Text,
    /// An address, prefix or range.
    Address,
    /// `TYPE = "value"` or `ANY`.
    Identity,
    /// `preshared`, `cert` or a kind of signature.
    Method,
    /// A cipher with an optional range of key lengths.
    Cipher,
    /// A hash.
    Hash,
    /// `{ ... }` of a transform.
    Transform,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Outside every block.
    Global,
    /// Inside a rule.
    Rule,
    /// Inside `ikesa_xform { }`.
    Transform,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) word: &'static str,
    pub(super) keyword: Keyword,
    pub(super) shape: Shape,
    scopes: &'static [Scope],
    pub(super) repeats: bool,
}

const TOP: &[Scope] = &[Scope::Global];
const RULE: &[Scope] = &[Scope::Rule];
const BOTH: &[Scope] = &[Scope::Global, Scope::Rule];
const XFORM: &[Scope] = &[Scope::Transform];

const fn once(word: &'static str, keyword: Keyword, shape: Shape, scopes: &'static [Scope]) -> Entry {
    Entry { word, keyword, shape, scopes, repeats: false }
}

const fn many(word: &'static str, keyword: Keyword, shape: Shape, scopes: &'static [Scope]) -> Entry {
    Entry { word, keyword, shape, scopes, repeats: true }
}

static TABLE: &[Entry] = &[
    once("ikesa_lifetime_secs", Keyword::IkesaLifetimeSecs, Shape::Number, BOTH),
    many("ikesa_xform", Keyword::IkesaXform, Shape::Transform, BOTH),
    once("auth_method", Keyword::AuthMethod, Shape::Method, BOTH),
    once("local_auth_method", Keyword::LocalAuthMethod, Shape::Method, RULE),
    once("remote_auth_method", Keyword::RemoteAuthMethod, Shape::Method, RULE),
    once("required_issuer", Keyword::RequiredIssuer, Shape::Text, RULE),
    once("childsa_pfs", Keyword::ChildsaPfs, Shape::Number, BOTH),
    once("childsa_lifetime_secs", Keyword::ChildsaLifetimeSecs, Shape::Number, BOTH),
    once("childsa_softlife_secs", Keyword::ChildsaSoftlifeSecs, Shape::Number, BOTH),
    once("childsa_idletime_secs", Keyword::ChildsaIdletimeSecs, Shape::Number, BOTH),
    once("childsa_lifetime_kb", Keyword::ChildsaLifetimeKb, Shape::Number, BOTH),
    once("childsa_softlife_kb", Keyword::ChildsaSoftlifeKb, Shape::Number, BOTH),
    once("retry_limit", Keyword::RetryLimit, Shape::Number, TOP),
    once("retry_timer_init", Keyword::RetryTimerInit, Shape::Seconds, TOP),
    once("retry_timer_max", Keyword::RetryTimerMax, Shape::Seconds, TOP),
    once("label", Keyword::Label, Shape::Text, RULE),
    many("local_addr", Keyword::LocalAddr, Shape::Address, RULE),
    many("remote_addr", Keyword::RemoteAddr, Shape::Address, RULE),
    once("local_id", Keyword::LocalId, Shape::Identity, RULE),
    once("remote_id", Keyword::RemoteId, Shape::Identity, RULE),
    once("encr_alg", Keyword::EncrAlg, Shape::Cipher, XFORM),
    once("auth_alg", Keyword::AuthAlg, Shape::Hash, XFORM),
    once("prf_alg", Keyword::PrfAlg, Shape::Hash, XFORM),
    once("oakley_group", Keyword::OakleyGroup, Shape::Number, XFORM),
    once("dh_group", Keyword::OakleyGroup, Shape::Number, XFORM),
];

/// Keywords of ike.config (IKEv1) and what takes their place here.
static FOREIGN: &[(&str, &str)] = &[
    ("p1_xform", "ikesa_xform"),
    ("p1_lifetime_secs", "ikesa_lifetime_secs"),
    ("p2_pfs", "childsa_pfs"),
    ("p2_lifetime_secs", "childsa_lifetime_secs"),
    ("p2_softlife_secs", "childsa_softlife_secs"),
    ("p2_idletime_secs", "childsa_idletime_secs"),
    ("p2_lifetime_kb", "childsa_lifetime_kb"),
    ("p2_softlife_kb", "childsa_softlife_kb"),
    ("local_id_type", "local_id TYPE = \"value\""),
];

/// The row of `word`, wherever it may stand.
pub(super) fn lookup(word: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.word == word)
}

/// Whether an item probably begins with `word`: a keyword of this file or of the IKEv1 one.
pub(super) fn is_known(word: &str) -> bool {
    lookup(word).is_some() || FOREIGN.iter().any(|(foreign, _)| *foreign == word)
}

impl Entry {
    /// Whether the keyword may stand in `scope`.
    pub(super) fn allowed_in(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Where the keyword may stand, for a message.
    pub(super) fn places(&self) -> String {
        let names: Vec<&str> = self.scopes.iter().map(|scope| scope.name()).collect();
        names.join(" or ")
    }
}

impl Scope {
    /// Words for a message.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Global => "outside every block",
            Self::Rule => "inside a rule { }",
            Self::Transform => "inside ikesa_xform { }",
        }
    }
}

/// What to say about a word that is no keyword.
pub(super) fn unknown(word: &str, scope: Scope) -> String {
    if let Some((_, instead)) = FOREIGN.iter().find(|(foreign, _)| *foreign == word) {
        return format!("\"{word}\" is a keyword of ike.config (IKEv1); here it is {instead}");
    }
    if let Some(entry) = TABLE.iter().find(|entry| entry.word.eq_ignore_ascii_case(word)) {
        return format!("unknown keyword \"{word}\"; keywords are case-sensitive: \"{}\"", entry.word);
    }
    let expected: Vec<&str> = TABLE.iter().filter(|entry| entry.allowed_in(scope)).map(|entry| entry.word).collect();
    let also = match scope {
        Scope::Global => " or \"{\" of a rule",
        Scope::Rule | Scope::Transform => " or \"}\"",
    };
    format!("unknown keyword \"{word}\"; expected {}{also}", expected.join(", "))
}

/// What to say about a keyword that comes a second time.
pub(super) fn repeated(word: &str, first: Position) -> String {
    format!("\"{word}\" was given already at {first} and may be given once only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique() {
        for (index, entry) in TABLE.iter().enumerate() {
            assert!(TABLE.iter().skip(index + 1).all(|other| other.word != entry.word), "{}", entry.word);
        }
    }

    #[test]
    fn ikev1_words_are_explained() {
        assert!(unknown("p1_xform", Scope::Global).contains("ikesa_xform"));
        assert!(unknown("Label", Scope::Rule).contains("case-sensitive"));
    }
}
