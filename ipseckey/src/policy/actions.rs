//! Properties of an action: which AH and ESP algorithms it accepts (spec section 4.4).
//!
//! `any` expands here to what RFC 8221 advises, so one action of the file may become several. ESP is never used without
//! authentication (ESP-FMT-14): a cipher alone that does not authenticate by itself stands for that cipher with `any`
//! authenticator.

use super::lexer::Token;
use super::parser::{ActionSyntax, Item, Property};
use super::selectors::decimal;
use super::{Problem, Subject, Warning};
use crate::algorithms::{self, Algorithm, Kind};
use sadb_maps::policy;

/// Octets of an algorithm word, key range included.
const MAX_ALGORITHM: usize = 40;

/// What an action with algorithms asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Acceptable protections, in order of preference; never empty when there were no problems.
    pub accepted: Vec<policy::Action>,
    /// What is worth a warning.
    pub warnings: Vec<Warning>,
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
    /// What `any` without a range stands for.
    const ANY: Self = Self { algorithm: None, low: None, high: None };

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
                let known = ["any", "none"].into_iter().chain(algorithms::of_kind(kind).map(Algorithm::name));
                let unknown = || format!("'{name}' is unknown; known are {}", known.collect::<Vec<_>>().join(", "));
                bad(algorithms::refusal(kind, name).unwrap_or_else(unknown))
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
        if choice.expand(kind).is_empty() && choice.is_any() {
            return Err(bad(format!("nothing that '{}' stands for has such keys", value.text)));
        }
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
            None => algorithms::of_kind(kind).filter(|a| a.advised).filter_map(|a| self.sized(a)).collect(),
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
            let place = match item.keyword {
                Property::AuthAlgs => &mut found.auth,
                Property::EncrAlgs => &mut found.encr,
                Property::EncrAuthAlgs => &mut found.encr_auth,
                Property::Sa => &mut found.sa,
                Property::Direction => &mut found.dir,
            };
            if place.replace(item).is_some() {
                problems.push(Problem::duplicate(subject(item.keyword), &item.word));
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
pub fn protection(action: &ActionSyntax<'_>, problems: &mut Vec<Problem>) -> Protection {
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
        && let Some(algorithm) = encr.algorithm.filter(|a| a.combined.is_some())
    {
        problems.push(Problem::CombinedWithAuthentication(algorithm.name(), item.word.at));
    }
    let mut result = Protection { unique, ..Protection::default() };
    for (choice, item) in [(auth, given.auth), (encr, given.encr), (encr_auth, given.encr_auth)] {
        let named = choice.and_then(|choice| choice.algorithm).and_then(Algorithm::deprecated);
        result.warnings.extend(named.zip(item).map(|(text, item)| Warning { at: item.value.at, text }));
    }
    let alone = encr.filter(|_| encr_auth.is_none()).and_then(|choice| choice.algorithm);
    if let (Some(cipher), Some(item)) = (alone.filter(|a| a.combined.is_none()), given.encr) {
        let text = format!(
            "DANGER: '{}' encrypts and authenticates nothing; taken with encr_auth_algs any, say which one you mean",
            cipher.name()
        );
        result.warnings.push(Warning { at: item.value.at, text });
    }
    result.accepted = combine(auth, encr, encr_auth);
    if let (true, true, Some(item)) = (result.accepted.is_empty(), problems.is_empty(), given.encr.or(named)) {
        let text = match (given.encr, algorithms::refusal(Kind::Encryption, "null")) {
            (None, Some(reason)) => reason,
            _ => format!("nothing that '{}' stands for can be used; say which algorithms you mean", item.value.text),
        };
        problems.push(Problem::Bad(subject(item.keyword), text, item.value.at));
    }
    result
}

/// What messages call a property.
fn subject(keyword: Property) -> Subject {
    match keyword {
        Property::AuthAlgs => Subject::AuthenticationAlgorithm,
        Property::EncrAlgs => Subject::EncryptionAlgorithm,
        Property::EncrAuthAlgs => Subject::EspAuthenticationAlgorithm,
        Property::Sa => Subject::Sa,
        Property::Direction => Subject::Direction,
    }
}

/// All combinations of the choices, in order of preference.
fn combine(auth: Option<Choice>, encr: Option<Choice>, encr_auth: Option<Choice>) -> Vec<policy::Action> {
    let ahs: Vec<_> = match auth {
        Some(choice) => choice.expand(Kind::Authentication).into_iter().map(Some).collect(),
        None => vec![None],
    };
    let null = algorithms::by_id(Kind::Encryption, algorithms::ESP_NULL);
    let ciphers: Vec<_> = match (encr, encr_auth) {
        (Some(encr), _) => encr.expand(Kind::Encryption).into_iter().map(Some).collect(),
        (None, Some(_)) => null.map(|algorithm| Some(Sized { algorithm, low: 0, high: 0 })).into_iter().collect(),
        (None, None) => vec![None],
    };
    let macs = match (encr, encr_auth) {
        (_, Some(choice)) => choice.expand(Kind::Authentication),
        // Of `any` alone only what authenticates by itself is meant.
        (Some(encr), None) if !encr.is_any() => Choice::ANY.expand(Kind::Authentication),
        _ => vec![],
    };
    let mut accepted = vec![];
    for ah in &ahs {
        for cipher in &ciphers {
            accepted.extend(protections(*ah, *cipher, &macs));
        }
    }
    accepted
}

/// The actions for one AH algorithm, one cipher and any of these authenticators of ESP.
fn protections(ah: Option<Sized>, cipher: Option<Sized>, macs: &[Sized]) -> Vec<policy::Action> {
    let mut action = policy::Action::default();
    if let Some(ah) = ah {
        action.ah = ah.algorithm.id;
        action.ah_bits = [ah.low, ah.high];
    }
    let Some(cipher) = cipher else { return vec![action] };
    action.encr = cipher.algorithm.id;
    action.encr_bits = [cipher.low, cipher.high];
    if cipher.algorithm.combined.is_some() {
        return vec![action];
    }
    let with =
        |mac: &Sized| policy::Action { esp_auth: mac.algorithm.id, esp_auth_bits: [mac.low, mac.high], ..action };
    macs.iter().map(with).collect()
}
