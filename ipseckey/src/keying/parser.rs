//! Words to commands, with every check that needs no SADB (spec sections 7.3, 7.4).
//!
//! All that is wrong with one command is collected before anything is done. Numbers that do not fit their field are
//! errors: the original cuts them silently.

use super::Message;
use super::hexkey::HexKey;
use super::request::{Command, Natt, SaName, SaRequest, SaType};
use super::tokens::{Extension, Values};
use crate::algorithms::{self, Kind};
use crate::names::Names;
use crate::policy::Position;
use crate::policy::selectors::Prefix;
use command_lines::{Line, Word};
use sadb_maps::host::{Direction, Identity};
use sadb_maps::sa::Lifetime;
use std::net::IpAddr;

/// A command that was read.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The command; `None` after errors.
    pub command: Option<Command>,
    /// Everything that is wrong.
    pub errors: Vec<Message>,
    /// What is worth a warning.
    pub warnings: Vec<Message>,
}

/// Reads the command of a line.
pub fn parse(line: &Line, names: &dyn Names) -> Parsed {
    let mut parser = Parser { words: &line.words, next: 0, names, errors: Vec::new(), warnings: Vec::new() };
    let command = parser.command();
    let command = command.filter(|_| parser.errors.is_empty());
    Parsed { command, errors: parser.errors, warnings: parser.warnings }
}

/// What the extensions of a command say before they are put together.
#[derive(Default)]
struct Fields {
    seen: Vec<Extension>,
    spi: Option<(u32, Position)>,
    direction: Direction,
    sources: Option<Vec<IpAddr>>,
    destinations: Option<Vec<IpAddr>>,
    pair_spi: Option<u32>,
    replay: Option<u32>,
    replay_value: Option<(u64, Position)>,
    state: Option<u32>,
    auth: Option<u8>,
    encr: Option<u8>,
    auth_key: Option<HexKey>,
    encr_key: Option<HexKey>,
    reserved_bits: Option<u16>,
    soft: Option<Lifetime>,
    hard: Option<Lifetime>,
    idle: Option<[u32; 2]>,
    inner_source: Option<Prefix>,
    inner_destination: Option<Prefix>,
    ports: [Option<u16>; 2],
    inner_ports: [Option<u16>; 2],
    proto: Option<u8>,
    inner_proto: Option<u8>,
    encap: Option<Position>,
    natt: Natt,
    natt_at: Option<Position>,
    esn: bool,
    identities: [Option<Identity>; 2],
    identity_at: Option<Position>,
    algorithm_at: Option<Position>,
    key_at: Option<Position>,
    auth_key_at: Option<Position>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Update,
    UpdatePair,
    Name,
}

pub(super) struct Parser<'a> {
    words: &'a [Word],
    next: usize,
    pub(super) names: &'a dyn Names,
    errors: Vec<Message>,
    warnings: Vec<Message>,
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Option<&'a Word> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    pub(super) fn error(&mut self, at: Position, text: impl Into<String>) {
        self.errors.push(Message::new(at, text));
    }

    pub(super) fn warn(&mut self, at: Position, text: impl Into<String>) {
        self.warnings.push(Message::new(at, text));
    }

    /// Position of the last word taken.
    fn here(&self) -> Position {
        self.next.checked_sub(1).and_then(|i| self.words.get(i)).map_or(Position::default(), |w| w.at)
    }

    fn command(&mut self) -> Option<Command> {
        let verb = self.take()?;
        let command = match verb.text() {
            "add" => {
                let request = self.request(Verb::Add)?;
                Command::Add(Box::new(request))
            }
            "update" => Command::Update { request: Box::new(self.request(Verb::Update)?), pair: false },
            "update-pair" => Command::Update { request: Box::new(self.request(Verb::UpdatePair)?), pair: true },
            "delete" => Command::Delete { name: self.name()?, pair: false },
            "delete-pair" => Command::Delete { name: self.name()?, pair: true },
            "get" => Command::Get(self.name()?),
            "flush" => Command::Flush(self.optional_type()?),
            "dump" => Command::Dump(self.optional_type()?),
            "save" => {
                let kind = self.optional_type_word(true)?;
                let file = self.take().map(|w| w.text().to_owned());
                Command::Save(kind, file)
            }
            "monitor" => Command::Monitor { passive: false },
            "passive_monitor" | "pmonitor" => Command::Monitor { passive: true },
            "help" | "?" => Command::Help(self.take().map(|w| w.text().to_owned())),
            "quit" | "exit" => Command::Quit,
            _ => {
                self.error(verb.at, format!("unknown command '{}'; 'help' lists the commands", verb.shown()));
                return None;
            }
        };
        if let Some(extra) = self.words.get(self.next) {
            self.error(extra.at, format!("too many arguments after '{}'", verb.shown()));
        }
        Some(command)
    }

    /// An optional SA type and nothing else. `Some(None)` is every type.
    fn optional_type(&mut self) -> Option<Option<SaType>> {
        self.optional_type_word(false)
    }

    fn optional_type_word(&mut self, required: bool) -> Option<Option<SaType>> {
        let Some(word) = self.take() else {
            if required {
                self.error(self.here(), "the SA type is missing: all, ah or esp");
                return None;
            }
            return Some(None);
        };
        match sa_type(word.text()) {
            Some(kind) => Some(kind),
            None => {
                self.error(word.at, format!("'{}' is no SA type: use all, ah or esp", word.shown()));
                None
            }
        }
    }

    fn required_type(&mut self) -> Option<SaType> {
        match self.optional_type_word(true)? {
            Some(kind) => Some(kind),
            None => {
                self.error(self.here(), "a specific SA type is needed: ah or esp");
                None
            }
        }
    }

    /// get, delete, delete-pair.
    fn name(&mut self) -> Option<SaName> {
        let kind = self.required_type()?;
        let mut fields = self.extensions(kind, Verb::Name);
        self.sa_name(kind, &mut fields)
    }

    fn sa_name(&mut self, kind: SaType, fields: &mut Fields) -> Option<SaName> {
        if fields.spi.is_none() && !fields.seen.contains(&Extension::Spi) {
            self.error(self.here(), "the SPI is missing: spi NUMBER");
        }
        if !fields.seen.contains(&Extension::Destination) {
            self.error(self.here(), "the destination is missing: dst ADDRESS");
        }
        let (spi, at) = fields.spi?;
        let name = SaName {
            kind,
            spi,
            direction: fields.direction,
            sources: fields.sources.take().unwrap_or_default(),
            destinations: fields.destinations.take().unwrap_or_default(),
            at,
        };
        if !name.sources.is_empty() && !name.destinations.is_empty() {
            let pairs = name.pairs();
            if pairs.is_empty() {
                self.error(at, "no source address has the IP version of a destination");
            } else if name.sources.len() > 1 && pairs.iter().any(|(source, _)| source.is_none()) {
                self.warn(at, "the source has several addresses; it is left unspecified");
            }
        }
        Some(name)
    }

    /// add, update, update-pair.
    fn request(&mut self, verb: Verb) -> Option<SaRequest> {
        let kind = self.required_type()?;
        let mut fields = self.extensions(kind, verb);
        let name = self.sa_name(kind, &mut fields);
        self.check(kind, verb, &mut fields);
        let name = name?;
        Some(SaRequest {
            algorithm_at: fields.algorithm_at.unwrap_or(name.at),
            key_at: fields.key_at.unwrap_or(name.at),
            auth_key_at: fields.auth_key_at.or(fields.algorithm_at).unwrap_or(name.at),
            name,
            pair_spi: fields.pair_spi,
            replay: fields.replay,
            replay_value: fields.replay_value.map(|(value, _)| value),
            state: fields.state,
            auth: fields.auth,
            encr: fields.encr,
            auth_key: fields.auth_key,
            encr_key: fields.encr_key,
            reserved_bits: fields.reserved_bits,
            soft: fields.soft,
            hard: fields.hard,
            idle: fields.idle,
            inner_source: fields.inner_source,
            inner_destination: fields.inner_destination,
            ports: fields.ports,
            inner_ports: fields.inner_ports,
            proto: fields.proto,
            inner_proto: fields.inner_proto,
            encap: fields.encap.map(|_| fields.natt),
            esn: fields.esn,
            identities: fields.identities,
        })
    }

    /// What can be said once all extensions are there.
    fn check(&mut self, kind: SaType, verb: Verb, fields: &mut Fields) {
        let end = self.here();
        let given = |e: Extension| fields.seen.contains(&e);
        if verb == Verb::Add {
            if !given(Extension::AuthAlg) && !given(Extension::EncrAlg) {
                self.error(end, "an algorithm is missing: encr_alg or auth_alg");
            }
            if !given(Extension::AuthKey) && !given(Extension::EncrKey) {
                self.error(end, "a key is missing: encrkey or authkey");
            }
            if kind == SaType::Esp && !given(Extension::EncrAlg) {
                fields.encr = Some(algorithms::ESP_NULL);
            }
        }
        if let (Some(at), Verb::Update | Verb::UpdatePair) = (fields.identity_at, verb) {
            self.warn(at, "identities stay as they were when the SA was added");
        }
        if verb == Verb::UpdatePair && given(Extension::PairSpi) {
            self.error(end, "update-pair takes no pair-spi");
        }
        if kind == SaType::Ah && given(Extension::EncrAlg) {
            self.error(fields.algorithm_at.unwrap_or(end), "AH does not encrypt: remove encr_alg");
        }
        if let (Some((value, at)), false) = (fields.replay_value, fields.esn)
            && value > u64::from(u32::MAX)
        {
            self.error(at, "replay_value is over 32 bits; 64-bit sequence numbers need 'esn'");
        }
        let tunnel = fields.inner_source.is_some()
            || fields.inner_destination.is_some()
            || fields.inner_proto.is_some()
            || fields.inner_ports.iter().any(Option::is_some);
        if tunnel && !matches!(fields.proto, None | Some(0 | 4 | 41)) {
            self.warn(end, "in tunnel mode the outer protocol is 4 (IPv4) or 41 (IPv6)");
        }
        if tunnel && fields.ports.iter().any(Option::is_some) && fields.inner_ports.iter().any(Option::is_some) {
            self.error(end, "inner and outer ports do not go together");
        }
        match (fields.encap, fields.natt_at) {
            (None, Some(at)) => self.error(at, "NAT traversal needs 'encap udp'"),
            // A port without its address means an unspecified address.
            (Some(at), None) => self.error(at, "'encap udp' needs nat_loc, nat_rem, nat_lport or nat_rport"),
            _ => {}
        }
        // The window is spoken of first: it is what the warning of the original is about.
        if fields.replay.is_some_and(|window| window > 0) && verb == Verb::Add {
            self.warn(end, "replay protection with manual keys is considered harmful: a restarted peer is locked out");
        }
    }

    /// The extensions up to the end of the line.
    fn extensions(&mut self, kind: SaType, verb: Verb) -> Fields {
        let mut fields = Fields::default();
        while let Some(word) = self.take() {
            let Some(extension) = Extension::from_word(word.text()) else {
                self.error(word.at, format!("unknown extension '{}'; 'help attr' lists them", word.shown()));
                // What follows is most likely its value.
                self.next += usize::from(
                    self.words.get(self.next).is_some_and(|next| Extension::from_word(next.text()).is_none()),
                );
                continue;
            };
            let values = match extension.values() {
                Values::None => 0,
                Values::One => 1,
                Values::Two => 2,
            };
            let Some(values) = self.words.get(self.next..self.next + values) else {
                self.error(word.at, format!("'{}' needs a value", word.shown()));
                self.next = self.words.len();
                break;
            };
            self.next += values.len();
            if extension.is_refused() {
                self.error(word.at, format!("don't use extension '{}': it is not for manual keys", word.shown()));
                continue;
            }
            if verb == Verb::Name && !extension.names_an_sa() {
                self.error(word.at, format!("extension '{}' only goes with add and update", word.shown()));
                continue;
            }
            if fields.seen.contains(&extension.field()) {
                let text = match (extension, fields.direction) {
                    (Extension::Inbound, Direction::Out) | (Extension::Outbound, Direction::In) => {
                        "inbound and outbound do not go together".to_owned()
                    }
                    _ => format!("can only specify single '{}'", word.shown()),
                };
                self.error(word.at, text);
                continue;
            }
            fields.seen.push(extension.field());
            match values {
                [] => self.flag(extension, &mut fields),
                [kind, value] => {
                    fields.identity_at.get_or_insert(word.at);
                    let place = usize::from(extension == Extension::DestinationIdentity);
                    if let Some(identity) = fields.identities.get_mut(place) {
                        *identity = self.identity(kind, value);
                    }
                }
                [value, ..] => self.value(kind, extension, word, value, &mut fields),
            }
        }
        fields
    }

    fn flag(&mut self, extension: Extension, fields: &mut Fields) {
        match extension {
            Extension::Inbound => fields.direction = Direction::In,
            Extension::Outbound => fields.direction = Direction::Out,
            _ => fields.esn = true,
        }
    }

    fn value(&mut self, kind: SaType, extension: Extension, word: &Word, value: &Word, fields: &mut Fields) {
        use Extension as E;
        let soft = fields.soft.unwrap_or_default();
        let hard = fields.hard.unwrap_or_default();
        let idle = fields.idle.unwrap_or_default();
        match extension {
            E::Spi => fields.spi = self.spi(value).map(|spi| (spi, value.at)),
            E::PairSpi => fields.pair_spi = self.spi(value),
            E::Replay => fields.replay = self.replay(value),
            E::ReplayValue => fields.replay_value = self.number(value).map(|n| (n, value.at)),
            E::State => fields.state = self.state(value),
            E::AuthAlg => {
                fields.algorithm_at.get_or_insert(value.at);
                fields.auth = self.algorithm(Kind::Authentication, value);
            }
            E::EncrAlg => {
                fields.algorithm_at = Some(value.at);
                fields.encr = self.encryption(kind, value);
            }
            E::AuthKey => {
                fields.auth_key_at = Some(value.at);
                fields.auth_key = self.key(value);
            }
            E::EncrKey => {
                fields.key_at = Some(value.at);
                if fields.encr == Some(algorithms::ESP_NULL) {
                    self.error(word.at, "null encryption takes no key");
                } else {
                    fields.encr_key = self.key(value);
                }
            }
            E::ReservedBits => fields.reserved_bits = self.number(value),
            E::SoftAlloc => fields.soft = self.u32(value).map(|n| Lifetime { allocations: n, ..soft }).or(fields.soft),
            E::SoftBytes => fields.soft = self.number(value).map(|n| Lifetime { bytes: n, ..soft }).or(fields.soft),
            E::SoftAddTime => fields.soft = self.number(value).map(|n| Lifetime { add: n, ..soft }).or(fields.soft),
            E::SoftUseTime => fields.soft = self.number(value).map(|n| Lifetime { used: n, ..soft }).or(fields.soft),
            E::HardAlloc => fields.hard = self.u32(value).map(|n| Lifetime { allocations: n, ..hard }).or(fields.hard),
            E::HardBytes => fields.hard = self.number(value).map(|n| Lifetime { bytes: n, ..hard }).or(fields.hard),
            E::HardAddTime => fields.hard = self.number(value).map(|n| Lifetime { add: n, ..hard }).or(fields.hard),
            E::HardUseTime => fields.hard = self.number(value).map(|n| Lifetime { used: n, ..hard }).or(fields.hard),
            E::IdleAddTime => fields.idle = self.number(value).map(|n| [n, idle[1]]).or(fields.idle),
            E::IdleUseTime => fields.idle = self.number(value).map(|n| [idle[0], n]).or(fields.idle),
            E::Source | E::Source6 => fields.sources = self.addresses(value, extension == E::Source6),
            E::Destination | E::Destination6 => {
                fields.destinations = self.addresses(value, extension == E::Destination6);
            }
            E::InnerSource | E::InnerSource6 => fields.inner_source = self.prefix(value, extension == E::InnerSource6),
            E::InnerDestination | E::InnerDestination6 => {
                fields.inner_destination = self.prefix(value, extension == E::InnerDestination6);
            }
            E::SourcePort => fields.ports[0] = self.number(value),
            E::DestinationPort => fields.ports[1] = self.number(value),
            E::InnerSourcePort => fields.inner_ports[0] = self.number(value),
            E::InnerDestinationPort => fields.inner_ports[1] = self.number(value),
            E::Protocol => fields.proto = self.number(value),
            E::InnerProtocol => fields.inner_proto = self.number(value),
            E::Encap => {
                fields.encap = Some(value.at);
                if value.text().is_empty() || !"udp".starts_with(value.text()) {
                    self.error(value.at, format!("'{}' is no encapsulation: use udp", value.shown()));
                }
            }
            E::NatLocal | E::NatRemote => {
                fields.natt_at = Some(word.at);
                let address = self.nat_address(value);
                *(if extension == E::NatLocal { &mut fields.natt.local } else { &mut fields.natt.remote }) = address;
            }
            E::NatLocalPort | E::NatRemotePort => {
                fields.natt_at = Some(word.at);
                let port = self.number(value);
                let place = if extension == E::NatLocalPort {
                    &mut fields.natt.local_port
                } else {
                    &mut fields.natt.remote_port
                };
                *place = port;
            }
            E::Label | E::OuterLabel | E::ImplicitLabel => {
                self.error(word.at, "labels need a labelled system (diagnostic code 83)");
            }
            // Flags have no value and refused words do not come here.
            _ => self.error(word.at, format!("'{}' takes no value", word.shown())),
        }
    }
}

/// `Some(None)` is every type.
fn sa_type(word: &str) -> Option<Option<SaType>> {
    match word.to_ascii_lowercase().as_str() {
        "all" | "0" => Some(None),
        "ah" | "2" => Some(Some(SaType::Ah)),
        "esp" | "3" => Some(Some(SaType::Esp)),
        _ => None,
    }
}
