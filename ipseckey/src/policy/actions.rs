//! Properties of an action: which AH and ESP algorithms it accepts (spec section 4.4).
//!
//! `any` expands here to what the data path implements, so one action of the file may become several. Algorithms that
//! are known but not implemented are refused by name, never silently replaced.

use super::lexer::Token;
use super::parser::{ActionSyntax, Item, Property};
use super::selectors::decimal;
use super::{Problem, Subject, Warning};
use crate::algorithms::{self, Algorithm, Kind, NotImplemented};
use sadb_maps::policy;

/// Octets of an algorithm word, key range included.
const MAX_ALGORITHM: usize = 40;

/// What an action with algorithms asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Acceptable protections, in order of preference; empty when the data path implements none of them.
    pub accepted: Vec<policy::Action>,
    /// Why `accepted` lacks what the file asks for.
    pub missing: Vec<NotImplemented>,
    /// `sa unique`.
    pub unique: bool,
}

/// An algorithm word: which algorithms, and how many key bits.
#[derive(Clone, Copy, Debug)]
struct Choice {
    /// `None` is `any`.
    algorithm: Option<&'static Algorithm>,
    low: Option<u16>,
    high: Option<u16>,
}

/// An algorithm with the key bits that are accepted.
#[derive(Clone, Copy, Debug)]
struct Sized {
    algorithm: &'static Algorithm,
    low: u16,
    high: u16,
}

impl Choice {
    /// Reads `name`, `name(n)`, `name(n..)`, `name(..m)`, `name(n..m)`. `Ok(None)` is `none`.
    fn parse(value: &Token<'_>, kind: Kind, subject: Subject) -> Result<Option<Self>, Problem> {
        let bad = |text: String| Problem::Bad(subject, text, value.at);
        if value.text.len() > MAX_ALGORITHM {
            return Err(bad(format!("more than {MAX_ALGORITHM} octets")));
        }
        let (name, range) = match value.text.split_once('(') {
            None => (value.text, None),
            Some((name, rest)) => {
                let range = rest.strip_suffix(')').ok_or_else(|| bad("')' is missing".to_owned()))?;
                (name, Some(range))
            }
        };
        if name.eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        let algorithm = if name.eq_ignore_ascii_case("any") {
            None
        } else {
            let by_number = decimal::<u8>(name).and_then(|id| algorithms::by_id(kind, id));
            Some(by_number.or_else(|| algorithms::by_name(kind, name)).ok_or_else(|| {
                let known: Vec<_> = algorithms::of_kind(kind).map(Algorithm::name).collect();
                bad(format!("'{name}' is unknown; known are any, none, {}", known.join(", ")))
            })?)
        };
        let bits = |text: &str| decimal::<u16>(text).ok_or_else(|| bad(format!("'{text}' is no number of key bits")));
        let (low, high) = match range {
            None => (None, None),
            Some(range) => match range.split_once("..") {
                None => (Some(bits(range)?), Some(bits(range)?)),
                Some(("", "")) => return Err(bad("an empty key range".to_owned())),
                Some((low, "")) => (Some(bits(low)?), None),
                Some(("", high)) => (None, Some(bits(high)?)),
                Some((low, high)) => (Some(bits(low)?), Some(bits(high)?)),
            },
        };
        let choice = Self { algorithm, low, high };
        if let Some(algorithm) = algorithm
            && choice.sized(algorithm).is_none()
        {
            let key = algorithm.key;
            let sizes = if key.is_fixed() { key.min.to_string() } else { format!("{} to {}", key.min, key.max) };
            return Err(bad(format!("{} has no such keys: its keys have {sizes} bits", algorithm.name())));
        }
        Ok(Some(choice))
    }

    /// The range cut to the keys that `algorithm` has; `None` when nothing is left.
    ///
    /// Without a minimum the default size of the algorithm is the minimum, unless the maximum is below it.
    fn sized(&self, algorithm: &'static Algorithm) -> Option<Sized> {
        let key = algorithm.key;
        let high = self.high.unwrap_or(key.max).min(key.max);
        let low = self.low.unwrap_or(if key.default <= high { key.default } else { key.min }).max(key.min);
        (low..=high).any(|bits| key.contains(bits)).then_some(Sized { algorithm, low, high })
    }

    /// The algorithms this stands for, `any` expanded.
    fn expand(&self, kind: Kind) -> Vec<Sized> {
        match self.algorithm {
            Some(algorithm) => self.sized(algorithm).into_iter().collect(),
            None => algorithms::of_kind(kind)
                .filter(|a| a.id != algorithms::ESP_NULL)
                .filter_map(|a| self.sized(a))
                .collect(),
        }
    }

    fn is_any(&self) -> bool {
        self.algorithm.is_none()
    }
}

/// The value of each property, given at most once.
#[derive(Default)]
struct Properties<'t, 'a> {
    auth: Option<&'t Item<'a, Property>>,
    encr: Option<&'t Item<'a, Property>>,
    encr_auth: Option<&'t Item<'a, Property>>,
    sa: Option<&'t Item<'a, Property>>,
    dir: Option<&'t Item<'a, Property>>,
}

impl<'t, 'a> Properties<'t, 'a> {
    fn collect(items: &'t [Item<'a, Property>], problems: &mut Vec<Problem>) -> Self {
        let mut found = Self::default();
        for item in items {
            let (place, subject) = match item.keyword {
                Property::AuthAlgs => (&mut found.auth, Subject::AuthenticationAlgorithm),
                Property::EncrAlgs => (&mut found.encr, Subject::EncryptionAlgorithm),
                Property::EncrAuthAlgs => (&mut found.encr_auth, Subject::EspAuthenticationAlgorithm),
                Property::Sa => (&mut found.sa, Subject::Sa),
                Property::Direction => (&mut found.dir, Subject::Direction),
            };
            if place.replace(item).is_some() {
                problems.push(Problem::Duplicate(subject, item.word.at));
            }
        }
        found
    }
}

/// The `dir` property of an action (old style), as typed.
pub fn direction<'a>(action: &ActionSyntax<'a>) -> Option<Token<'a>> {
    action.properties.iter().find(|p| p.keyword == Property::Direction).map(|p| p.value)
}

/// Checks that an action without protection (`pass`, `drop`) has no properties that only make sense with one.
pub fn none(action: &ActionSyntax<'_>, problems: &mut Vec<Problem>) {
    let found = Properties::collect(&action.properties, problems);
    for item in [found.auth, found.encr, found.encr_auth, found.sa].into_iter().flatten() {
        problems.push(Problem::InvalidProperty(format!("{} with {}", item.word.text, action.word.text), item.word.at));
    }
}

/// What an action with protection asks for. Problems are appended; then the value has no meaning.
pub fn protection(action: &ActionSyntax<'_>, problems: &mut Vec<Problem>, warnings: &mut Vec<Warning>) -> Protection {
    let given = Properties::collect(&action.properties, problems);
    let mut choice = |item: Option<&Item<'_, Property>>, kind, subject| {
        let value = item?.value;
        Choice::parse(&value, kind, subject).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        })
    };
    let auth = choice(given.auth, Kind::Authentication, Subject::AuthenticationAlgorithm);
    let encr = choice(given.encr, Kind::Encryption, Subject::EncryptionAlgorithm);
    let encr_auth = choice(given.encr_auth, Kind::Authentication, Subject::EspAuthenticationAlgorithm);
    let mut unique = false;
    if let Some(item) = given.sa {
        match item.value.text {
            "unique" => unique = true,
            "shared" => {}
            other => {
                let text = format!("'{other}' is neither shared nor unique");
                problems.push(Problem::Bad(Subject::Sa, text, item.value.at));
            }
        }
    }
    let named = given.auth.or(given.encr).or(given.encr_auth);
    if named.is_none() || (problems.is_empty() && auth.is_none() && encr.is_none() && encr_auth.is_none()) {
        let text = format!("'{}' names no algorithm; give encr_algs, encr_auth_algs or auth_algs", action.word.text);
        problems.push(Problem::IncompleteProperties(text, action.word.at));
    }
    if let (Some(encr), Some(_), Some(item)) = (encr, encr_auth, given.encr_auth)
        && encr.algorithm.is_some_and(|a| a.combined.is_some())
    {
        problems.push(Problem::CombinedWithAuthentication(item.word.at));
    }
    if let (Some(encr), None, Some(item)) = (encr, encr_auth, given.encr)
        && encr.algorithm.is_some_and(|a| a.combined.is_none())
    {
        let name = encr.algorithm.map_or("", Algorithm::name);
        let text =
            format!("DANGER: {name} without authentication can be forged and read; add encr_auth_algs or use aes-gcm");
        warnings.push(Warning { at: item.word.at, text });
    }
    let mut result = Protection { unique, ..Protection::default() };
    combine(auth, encr, encr_auth, &mut result);
    result
}

/// All combinations of the choices, in order of preference.
fn combine(auth: Option<Choice>, encr: Option<Choice>, encr_auth: Option<Choice>, result: &mut Protection) {
    let ahs = auth.map(|c| c.expand(Kind::Authentication));
    let null =
        algorithms::by_id(Kind::Encryption, algorithms::ESP_NULL).map(|algorithm| Sized { algorithm, low: 0, high: 0 });
    let ciphers = match (encr, encr_auth) {
        (Some(encr), _) => Some(encr.expand(Kind::Encryption)),
        (None, Some(_)) => Some(null.into_iter().collect()),
        (None, None) => None,
    };
    // A wildcard that the data path cannot satisfy in full is no error as long as something is left.
    let wild = [auth, encr, encr_auth].into_iter().flatten().any(|c| c.is_any());
    let mut missing = Vec::new();
    for ah in ahs.iter().flatten() {
        missing.push(NotImplemented(format!("AH with {}", ah.algorithm.name())));
    }
    if ahs.is_none() {
        for cipher in ciphers.iter().flatten() {
            match accept(cipher, encr_auth) {
                Ok(action) => result.accepted.push(action),
                Err(error) => missing.push(error),
            }
        }
    }
    if !wild || result.accepted.is_empty() {
        result.missing = missing;
    }
}

/// The action for one cipher, if the data path has it.
fn accept(cipher: &Sized, encr_auth: Option<Choice>) -> Result<policy::Action, NotImplemented> {
    let Sized { algorithm, low, high } = *cipher;
    if algorithm.combined.is_none() {
        let auth = match encr_auth {
            Some(Choice { algorithm: Some(a), .. }) => format!(" with {}", a.name()),
            Some(_) => " with separate authentication".to_owned(),
            None => String::new(),
        };
        return Err(NotImplemented(format!("ESP {}{auth}", algorithm.name())));
    }
    if !algorithm.implements(low, high) {
        return Err(NotImplemented(format!("ESP {}({low}..{high})", algorithm.name())));
    }
    Ok(policy::Action { encr: algorithm.id, encr_bits: [low, high], ..policy::Action::default() })
}
