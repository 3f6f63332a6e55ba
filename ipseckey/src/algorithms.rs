//! The algorithms that this process may name: those in force when it began (ipsecalgs(8)), or everything that the data
//! path can do until [`use_table`] says otherwise, as in tests.

pub use ipsec_algorithms::built_in::{ANY, ESP_NULL};
pub use ipsec_algorithms::{ALGORITHMS, Algorithm, KeySizes, Kind, Table};

use ipsec_algorithms::built_in;
use std::sync::OnceLock;

/// What may be named.
struct Known {
    algorithms: &'static [Algorithm],
    table: Table,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

fn known() -> &'static Known {
    KNOWN.get_or_init(|| Known { algorithms: ALGORITHMS, table: Table::built_in() })
}

/// Takes the table in force for the instance that the option, the environment or the default names. Once in the life of a
/// process, before anything is looked up. Gives what is wrong with the table; then nothing may be named.
pub fn use_table(instance: Option<&str>) -> Option<String> {
    // Whoever opens the instance will be told that its name is bad.
    let table = Table::in_force(&sadb_maps::name::chosen(instance).ok()?);
    let fault = table.fault().map(str::to_owned);
    let mut algorithms = Vec::new();
    for listed in table.listed() {
        if let Ok((algorithm, key)) = &listed.usable {
            let names = listed.entry.names.iter().map(|name| &*Box::leak(name.clone().into_boxed_str()));
            let names: &'static [&'static str] = Box::leak(names.collect::<Box<[_]>>());
            algorithms.push(Algorithm { names, key: *key, ..**algorithm });
        }
    }
    let _ = KNOWN.set(Known { algorithms: Box::leak(algorithms.into_boxed_slice()), table });
    fault
}

/// The algorithms of one kind that may be named.
pub fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Algorithm> {
    known().algorithms.iter().filter(move |a| a.kind == kind)
}

/// The algorithm with this number, if it may be named.
pub fn by_id(kind: Kind, id: u8) -> Option<&'static Algorithm> {
    of_kind(kind).find(|a| a.id == id)
}

/// The algorithm with this name, without regard to case.
pub fn by_name(kind: Kind, name: &str) -> Option<&'static Algorithm> {
    of_kind(kind).find(|a| a.names.iter().any(|n| n.eq_ignore_ascii_case(name)))
}

/// Why the algorithm with this name or number may not be named, if there is one.
pub fn refusal(kind: Kind, word: &str) -> Option<String> {
    known().table.refusal(kind, word)
}

/// The algorithm of a rule or an SA that is there, whether or not it may be named any more.
pub fn in_use(kind: Kind, id: u8) -> Option<&'static Algorithm> {
    by_id(kind, id).or_else(|| built_in::by_id(kind, id))
}

/// The displayed name of a number; `<unknown N>` when there is none.
pub fn display_name(kind: Kind, id: u8) -> String {
    match in_use(kind, id) {
        Some(algorithm) => algorithm.name().to_owned(),
        None if id == ANY && kind == Kind::Authentication => "none".to_owned(),
        None => format!("<unknown {id}>"),
    }
}
