//! The command words: a command, an object, arguments. Words must match exactly, in lower case; plurals and the IKEv1 word
//! `p1` are taken as aliases.

use std::net::{IpAddr, ToSocketAddrs};

use ike_door::{DebugLevel, IkeSaId, Privilege, Request};

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// Debug level
    Debug,
    /// Privilege level
    Priv,
    /// Counters
    Stats,
    /// Defaults
    Defaults,
    /// IKE SAs
    IkeSa,
    /// Rules
    Rule,
    /// Preshared keys
    Preshared,
    /// Key exchange groups
    Groups,
    /// Ciphers of IKE SAs
    EncrAlgs,
    /// Authentication algorithms of IKE SAs
    AuthAlgs,
}

impl Object {
    /// One of them, in messages.
    #[must_use]
    pub fn singular(self) -> &'static str {
        match self {
            Self::Debug => "debug level",
            Self::Priv => "privilege level",
            Self::Stats => "stats",
            Self::Defaults => "defaults",
            Self::IkeSa => "IKE SA",
            Self::Rule => "policy rule",
            Self::Preshared => "preshared key",
            Self::Groups => "groups",
            Self::EncrAlgs => "encralgs",
            Self::AuthAlgs => "authalgs",
        }
    }

    /// Many of them, in messages.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::IkeSa => "IKE SA info",
            Self::Rule => "policy rules",
            Self::Preshared => "preshared keys",
            other => other.singular(),
        }
    }
}

/// A command understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask the daemon, once or several times.
    Ask {
        /// What about.
        object: Object,
        /// The requests.
        requests: Vec<Request>,
    },
    /// Help, on one command or on all.
    Help(Option<String>),
    /// `exit`, `quit`.
    Leave,
}

/// Words that are no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// Nobody knows it.
    #[error("Unrecognized command '{0}'")]
    Command(String),
    /// Not with this command.
    #[error("Unrecognized object '{object}' after {command}; expected {expected}")]
    Object {
        /// What was written.
        object: String,
        /// After which command.
        command: &'static str,
        /// What could have been.
        expected: &'static str,
    },
    /// Known on Solaris.
    #[error("{0} is not part of this release")]
    NotHere(String),
    /// Too few or too many.
    #[error("usage: {0}")]
    Arguments(&'static str),
    /// A value that is none.
    #[error("{0}")]
    Value(String),
}

impl WordError {
    /// Whether the overview of commands helps.
    #[must_use]
    pub fn wants_usage(&self) -> bool {
        matches!(self, Self::Command(_) | Self::Object { .. })
    }
}

const OVERVIEW: &[(&str, &str, &str)] = &[
    ("get", "debug | priv | stats | defaults", "show a level, the counters, the defaults"),
    ("get", "ikesa LOCAL REMOTE | ikesa 0xSPI_I 0xSPI_R", "show IKE SAs by addresses or one by its SPIs"),
    ("get", "rule LABEL", "show one rule"),
    ("set", "debug LEVEL", "a number or words joined by + and -, such as op+p1"),
    ("set", "priv LEVEL", "lower the privilege level: 2 keymat, 1 modkeys, 0 base"),
    ("del", "ikesa LOCAL REMOTE | ikesa 0xSPI_I 0xSPI_R", "delete IKE SAs with their children"),
    ("dump", "ikesa | rule | preshared", "show all"),
    ("dump", "groups | encralgs | authalgs", "show what IKE SAs can be made of"),
    ("flush", "ikesa", "delete all IKE SAs with their children"),
    ("read", "rule | preshared", "make the daemon read its file again"),
    ("help", "[COMMAND]", "this text"),
    ("exit", "", "leave the interactive mode; also quit"),
];

/// Commands of Solaris that this release lacks.
const NOT_HERE: &[&str] = &["add", "write", "token", "dbg"];

const OBJECTS_NOT_HERE: &[&str] = &["certcache"];

/// What `help` prints.
#[must_use]
pub fn help(topic: Option<&str>) -> String {
    let mut text = String::new();
    for (command, object, what) in OVERVIEW {
        if topic.is_none_or(|topic| topic == *command) {
            text.push_str(&format!("  {:<52} {what}\n", format!("{command} {object}").trim_end()));
        }
    }
    if text.is_empty() {
        return help(None);
    }
    match topic {
        None => format!("usage: ikeadm [-np] [-v 2] [--json] [--instance NAME] [command object [arguments]]\n{text}"),
        Some(_) => text,
    }
}

/// What goes to the error stream after a word nobody knows.
#[must_use]
pub fn usage() -> String {
    help(None)
}

/// Understands words. With `numeric`, addresses have to be numbers.
///
/// # Errors
/// [`WordError`].
pub fn parse(words: &[String], numeric: bool) -> Result<Command, WordError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((command, rest)) = words.split_first() else {
        return Err(WordError::Arguments("ikeadm command object [arguments]"));
    };
    match *command {
        "get" => get(rest, numeric),
        "set" => set(rest),
        "del" => del(rest, numeric),
        "dump" => dump(rest),
        "flush" => flush(rest),
        "read" => read(rest),
        "help" | "?" => Ok(Command::Help(rest.first().map(|topic| (*topic).to_owned()))),
        "exit" | "quit" => Ok(Command::Leave),
        other if NOT_HERE.contains(&other) => Err(WordError::NotHere(format!("the command {other}"))),
        other => Err(WordError::Command(other.to_owned())),
    }
}

fn ask(object: Object, request: Request) -> Result<Command, WordError> {
    Ok(Command::Ask { object, requests: vec![request] })
}

fn unknown(command: &'static str, object: Option<&&str>, expected: &'static str) -> WordError {
    match object {
        Some(object) if OBJECTS_NOT_HERE.contains(object) => WordError::NotHere(format!("{command} {object}")),
        Some(object) => WordError::Object { object: (*object).to_owned(), command, expected },
        None => WordError::Value(format!("{command} what? expected {expected}")),
    }
}

fn get(words: &[&str], numeric: bool) -> Result<Command, WordError> {
    match words {
        ["debug"] => ask(Object::Debug, Request::GetDebug),
        ["priv"] => ask(Object::Priv, Request::GetPriv),
        ["stats"] => ask(Object::Stats, Request::GetStats),
        ["defaults"] => ask(Object::Defaults, Request::GetDefaults),
        ["debug" | "priv" | "stats" | "defaults", ..] => {
            Err(WordError::Arguments("get debug | priv | stats | defaults, without arguments"))
        }
        ["ikesa" | "p1", first, second] => {
            let requests = ike_sa_ids(first, second, numeric)?.into_iter().map(|id| Request::GetIkeSa { id }).collect();
            Ok(Command::Ask { object: Object::IkeSa, requests })
        }
        ["ikesa" | "p1", ..] => Err(WordError::Arguments("get ikesa LOCAL REMOTE, or get ikesa 0xSPI_I 0xSPI_R")),
        ["rule" | "rules", label] => ask(Object::Rule, Request::GetRule { label: (*label).to_owned() }),
        ["rule" | "rules", ..] => Err(WordError::Arguments("get rule LABEL")),
        ["preshared", ..] => Err(WordError::NotHere("get preshared (use dump preshared)".to_owned())),
        other => Err(unknown("get", other.first(), "debug, priv, stats, defaults, ikesa, rule")),
    }
}

fn set(words: &[&str]) -> Result<Command, WordError> {
    match words {
        ["debug", level] => {
            let level = DebugLevel::parse(level).map_err(|error| WordError::Value(error.to_string()))?;
            ask(Object::Debug, Request::SetDebug { level })
        }
        ["debug", _, _] => Err(WordError::NotHere(
            "a log file with set debug (in.ikev2d writes its log to standard error, which the service manager keeps)"
                .to_owned(),
        )),
        ["debug", ..] => Err(WordError::Arguments("set debug LEVEL")),
        ["priv", level] => {
            let level = Privilege::parse(level).ok_or_else(|| {
                WordError::Value(format!("Bad privilege level \"{level}\"; expected 0, 1, 2, base, modkeys or keymat"))
            })?;
            ask(Object::Priv, Request::SetPriv { level })
        }
        ["priv", ..] => Err(WordError::Arguments("set priv LEVEL")),
        other => Err(unknown("set", other.first(), "debug, priv")),
    }
}

fn del(words: &[&str], numeric: bool) -> Result<Command, WordError> {
    match words {
        ["ikesa" | "p1", first, second] => {
            let requests = ike_sa_ids(first, second, numeric)?.into_iter().map(|id| Request::DelIkeSa { id }).collect();
            Ok(Command::Ask { object: Object::IkeSa, requests })
        }
        ["ikesa" | "p1", ..] => Err(WordError::Arguments("del ikesa LOCAL REMOTE, or del ikesa 0xSPI_I 0xSPI_R")),
        ["rule" | "rules" | "preshared", ..] => Err(WordError::NotHere(
            "del rule and del preshared (edit the file, then read rule or read preshared)".to_owned(),
        )),
        other => Err(unknown("del", other.first(), "ikesa")),
    }
}

fn dump(words: &[&str]) -> Result<Command, WordError> {
    match words {
        ["ikesa" | "p1"] => ask(Object::IkeSa, Request::DumpIkeSa),
        ["rule" | "rules"] => ask(Object::Rule, Request::DumpRule),
        ["preshared"] => ask(Object::Preshared, Request::DumpPreshared),
        ["groups"] => ask(Object::Groups, Request::DumpGroups),
        ["encralgs"] => ask(Object::EncrAlgs, Request::DumpEncrAlgs),
        ["authalgs"] => ask(Object::AuthAlgs, Request::DumpAuthAlgs),
        ["ikesa" | "p1" | "rule" | "rules" | "preshared" | "groups" | "encralgs" | "authalgs", ..] => {
            Err(WordError::Arguments("dump ikesa | rule | preshared | groups | encralgs | authalgs, without arguments"))
        }
        other => Err(unknown("dump", other.first(), "ikesa, rule, preshared, groups, encralgs, authalgs")),
    }
}

fn flush(words: &[&str]) -> Result<Command, WordError> {
    match words {
        ["ikesa" | "p1"] => ask(Object::IkeSa, Request::FlushIkeSa),
        ["ikesa" | "p1", ..] => Err(WordError::Arguments("flush ikesa, without arguments")),
        other => Err(unknown("flush", other.first(), "ikesa")),
    }
}

fn read(words: &[&str]) -> Result<Command, WordError> {
    match words {
        ["rule" | "rules"] => ask(Object::Rule, Request::ReadRule),
        ["preshared"] => ask(Object::Preshared, Request::ReadPreshared),
        ["rule" | "rules" | "preshared", _] => Err(WordError::NotHere(
            "read with a file (the daemon reads the files it was started with; change those)".to_owned(),
        )),
        ["rule" | "rules" | "preshared", ..] => Err(WordError::Arguments("read rule | preshared")),
        other => Err(unknown("read", other.first(), "rule, preshared")),
    }
}

/// IKE SAs by SPIs, where the first word begins with `0x`, or by addresses: every combination where names have several.
fn ike_sa_ids(first: &str, second: &str, numeric: bool) -> Result<Vec<IkeSaId>, WordError> {
    if first.starts_with("0x") || first.starts_with("0X") {
        return Ok(vec![IkeSaId::Spis { initiator: spi(first)?, responder: spi(second)? }]);
    }
    let (locals, remotes) = (addresses(first, numeric)?, addresses(second, numeric)?);
    let mut ids = Vec::new();
    for local in &locals {
        for remote in remotes.iter().filter(|remote| remote.is_ipv4() == local.is_ipv4()) {
            ids.push(IkeSaId::Addresses { local: *local, remote: *remote });
        }
    }
    if ids.is_empty() {
        return Err(WordError::Value(format!("{first} and {second} have no addresses of one family")));
    }
    Ok(ids)
}

fn spi(word: &str) -> Result<u64, WordError> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or_default();
    let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
        .ok_or_else(|| WordError::Value(format!("{word}: expected an SPI: 0x and up to 16 hexadecimal digits")))
}

fn addresses(word: &str, numeric: bool) -> Result<Vec<IpAddr>, WordError> {
    if let Ok(address) = word.parse() {
        return Ok(vec![address]);
    }
    if numeric {
        return Err(WordError::Value(format!("{word}: expected an address in numbers, because of -n")));
    }
    let found = (word, 0).to_socket_addrs().map_err(|error| WordError::Value(format!("{word}: {error}")))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(text: &str) -> Result<Command, WordError> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(&words, true)
    }

    #[test]
    fn words_become_requests() {
        assert_eq!(command("dump p1"), ask(Object::IkeSa, Request::DumpIkeSa));
        assert_eq!(command("read rules"), ask(Object::Rule, Request::ReadRule));
        assert_eq!(command("set priv keymat"), ask(Object::Priv, Request::SetPriv { level: Privilege::Keymat }));
        assert_eq!(
            command("get ikesa 0x1 0xff"),
            ask(Object::IkeSa, Request::GetIkeSa { id: IkeSaId::Spis { initiator: 1, responder: 255 } })
        );
        assert_eq!(
            command("del ikesa 10.0.0.1 10.0.0.2"),
            ask(
                Object::IkeSa,
                Request::DelIkeSa {
                    id: IkeSaId::Addresses { local: "10.0.0.1".parse().unwrap(), remote: "10.0.0.2".parse().unwrap() }
                }
            )
        );
        assert_eq!(command("quit"), Ok(Command::Leave));
    }

    #[test]
    fn what_is_no_command_is_explained() {
        for (text, expected) in [
            ("Get stats", "Unrecognized command 'Get'"),
            ("get bogus", "Unrecognized object 'bogus'"),
            ("get stats now", "usage: get debug"),
            ("set debug bogus", "Bad debug flag \"bogus\""),
            ("set priv 3", "Bad privilege level"),
            ("add rule x", "the command add is not part of this release"),
            ("dump certcache", "dump certcache is not part of this release"),
            ("get ikesa 0xzz 0x1", "expected an SPI"),
            ("get ikesa 10.0.0.1 ::1", "no addresses of one family"),
            ("get ikesa host other", "because of -n"),
            ("get", "get what?"),
        ] {
            let error = command(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn help_on_everything_and_on_one() {
        assert!(help(None).contains("flush ikesa"));
        assert!(!help(Some("get")).contains("flush ikesa"));
        assert_eq!(help(Some("nonsense")), help(None));
    }

    proptest! {
        #[test]
        fn never_panics(words in prop::collection::vec("\\PC{0,8}|get|set|ikesa|0x[0-9a-f]{0,18}", 0..5)) {
            let _ = parse(&words, true);
        }
    }
}
