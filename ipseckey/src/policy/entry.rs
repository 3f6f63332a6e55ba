//! An entry of ipsecinit.conf with its meaning: selectors in the view of this host, tunnel, verdict (spec 4.3, 4.4).

use super::actions;
use super::lexer::Token;
use super::parser::{Action, ActionSyntax, Item, Pattern, RuleSyntax};
use super::selectors::{self, Prefix};
use super::{Position, Problem, Subject, Warning};
use crate::names::{self, Names};
use sadb_maps::policy;

/// Octets of a tunnel name.
const MAX_TUNNEL_NAME: usize = 31;

/// Which packets an entry judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Inbound.
    In,
    /// Outbound.
    Out,
    /// Both.
    Both,
}

impl Direction {
    /// The [`policy::direction`] bits.
    pub fn bits(self) -> u8 {
        match self {
            Self::In => policy::direction::IN,
            Self::Out => policy::direction::OUT,
            Self::Both => policy::direction::IN | policy::direction::OUT,
        }
    }
}

/// Selectors of one rule, local and remote as this host sees them. `None` and 0 match everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Local addresses.
    pub local: Option<Prefix>,
    /// Remote addresses.
    pub remote: Option<Prefix>,
    /// Local port.
    pub lport: Option<u16>,
    /// Remote port.
    pub rport: Option<u16>,
    /// Upper-layer protocol; 0 is any.
    pub proto: u8,
    /// Lowest and highest ICMP type.
    pub icmp_type: Option<[u8; 2]>,
    /// Lowest and highest ICMP code.
    pub icmp_code: Option<[u8; 2]>,
    /// Direction.
    pub direction: Direction,
}

/// How a tunnel entry protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Negotiate {
    /// Tunnel mode: the selectors judge inner packets.
    Tunnel,
    /// Transport mode on the encapsulated packets; no selectors.
    Transport,
}

/// The tunnel an entry belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelPart {
    /// Name, as `espadm tunnel create` knows it.
    pub name: String,
    /// Mode.
    pub negotiate: Negotiate,
    /// Where the name stands.
    pub at: Position,
}

/// What happens to a packet that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it pass in clear.
    Pass,
    /// Drop it.
    Drop,
    /// Protect it: acceptable protections in order of preference, never empty; one SA for each flow if `unique`.
    Protect {
        /// Acceptable protections.
        accepted: Vec<policy::Action>,
        /// `sa unique`.
        unique: bool,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins.
    pub at: Position,
    /// Text as typed.
    pub text: String,
    /// One or more flows: more for names with several addresses and for old style in both directions.
    pub flows: Vec<Flow>,
    /// Tunnel.
    pub tunnel: Option<TunnelPart>,
    /// Verdict.
    pub verdict: Verdict,
}

/// Gives a rule its meaning. `None` after problems.
pub fn build(
    rule: &RuleSyntax<'_>,
    names: &dyn Names,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) -> Option<Entry> {
    let mut found = Vec::new();
    let entry = Builder { rule, names, problems: &mut found, warnings }.entry();
    let fine = found.is_empty();
    problems.append(&mut found);
    entry.filter(|_| fine)
}

struct Builder<'s, 'a> {
    rule: &'s RuleSyntax<'a>,
    names: &'s dyn Names,
    problems: &'s mut Vec<Problem>,
    warnings: &'s mut Vec<Warning>,
}

/// `true` for keywords that name an end by source and destination, `false` for local and remote.
fn style(keyword: Pattern) -> Option<bool> {
    match keyword {
        Pattern::SourceAddress
        | Pattern::DestinationAddress
        | Pattern::SourceMask
        | Pattern::DestinationMask
        | Pattern::SourcePort
        | Pattern::DestinationPort => Some(true),
        Pattern::LocalAddress | Pattern::RemoteAddress | Pattern::LocalPort | Pattern::RemotePort => Some(false),
        _ => None,
    }
}

fn subject(keyword: Pattern) -> Subject {
    match keyword {
        Pattern::SourceAddress | Pattern::LocalAddress => Subject::SourceAddress,
        Pattern::DestinationAddress | Pattern::RemoteAddress => Subject::DestinationAddress,
        Pattern::SourceMask => Subject::SourceMask,
        Pattern::DestinationMask => Subject::DestinationMask,
        Pattern::SourcePort | Pattern::LocalPort => Subject::SourcePort,
        Pattern::DestinationPort | Pattern::RemotePort => Subject::DestinationPort,
        Pattern::Protocol => Subject::UpperLayerProtocol,
        Pattern::IcmpType => Subject::IcmpType,
        Pattern::IcmpCode => Subject::IcmpCode,
        Pattern::Tunnel => Subject::Tunnel,
        Pattern::Negotiate => Subject::Negotiate,
        Pattern::Direction => Subject::Direction,
    }
}

impl<'s, 'a> Builder<'s, 'a> {
    fn item(&self, keyword: Pattern) -> Option<&'s Item<'a, Pattern>> {
        self.rule.pattern.iter().find(|i| i.keyword == keyword)
    }

    /// The first of two keywords that mean one thing (source and local, destination and remote).
    fn either(&self, one: Pattern, other: Pattern) -> Option<&'s Item<'a, Pattern>> {
        self.item(one).or_else(|| self.item(other))
    }

    fn ok<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn bad(&mut self, subject: Subject, text: String, at: Position) {
        self.problems.push(Problem::Bad(subject, text, at));
    }

    fn entry(&mut self) -> Option<Entry> {
        let first = self.rule.actions.first()?;
        self.check_repetition();
        let tunnel = self.tunnel();
        let old_style = self.old_style();
        let verdict = self.verdict(tunnel.as_ref(), old_style);
        let direction = self.direction(first, old_style)?;
        let flows = self.flows(old_style, direction)?;
        Some(Entry { at: self.rule.at, text: self.rule.text.to_owned(), flows, tunnel, verdict: verdict? })
    }

    /// Each keyword at most once; one style only.
    fn check_repetition(&mut self) {
        let items = &self.rule.pattern;
        for (i, item) in items.iter().enumerate() {
            if items.iter().take(i).any(|before| before.keyword == item.keyword) {
                self.problems.push(Problem::duplicate(subject(item.keyword), &item.word));
            }
        }
        let mut styles = items.iter().filter_map(|i| style(i.keyword));
        if let Some(first) = styles.next()
            && let Some(other) = items.iter().find(|i| style(i.keyword) == Some(!first))
        {
            let text = format!("'{}': source and destination do not mix with local and remote", other.word.text);
            self.bad(subject(other.keyword), text, other.word.at);
        }
    }

    /// Whether the entry speaks of source and destination. `apply`, `permit` and `dir` as a property are old style too.
    fn old_style(&self) -> bool {
        match self.rule.pattern.iter().find_map(|i| style(i.keyword)) {
            Some(old) => old,
            None => self
                .rule
                .actions
                .iter()
                .any(|a| matches!(a.action, Action::Apply | Action::Permit) || actions::direction(a).is_some()),
        }
    }

    fn tunnel(&mut self) -> Option<TunnelPart> {
        let (name, negotiate) = match (self.item(Pattern::Tunnel), self.item(Pattern::Negotiate)) {
            (None, None) => return None,
            (Some(item), None) | (None, Some(item)) => {
                self.problems.push(Problem::TunnelWithoutNegotiate(item.word.text.to_owned(), item.word.at));
                return None;
            }
            (Some(name), Some(negotiate)) => (name, negotiate),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.value.text.len() > MAX_TUNNEL_NAME || !name.value.text.chars().all(allowed) {
            let text = format!(
                "'{}': a name has at most {MAX_TUNNEL_NAME} letters, digits, '.', '_' and '-'",
                name.value.text
            );
            self.bad(Subject::Tunnel, text, name.value.at);
        }
        let mode = if prefix_of(negotiate.value.text, "tunnel") {
            Negotiate::Tunnel
        } else if prefix_of(negotiate.value.text, "transport") {
            Negotiate::Transport
        } else {
            let text = format!("'{}' is neither tunnel nor transport", negotiate.value.text);
            self.bad(Subject::Negotiate, text, negotiate.value.at);
            return None;
        };
        if mode == Negotiate::Transport {
            let selects = |k| !matches!(k, Pattern::Tunnel | Pattern::Negotiate | Pattern::Direction);
            if let Some(item) = self.rule.pattern.iter().find(|i| selects(i.keyword)) {
                let text = format!("'{}': negotiate transport takes no selectors", item.word.text);
                self.bad(subject(item.keyword), text, item.word.at);
            }
        }
        Some(TunnelPart { name: name.value.text.to_owned(), negotiate: mode, at: name.value.at })
    }

    /// Direction of the entry: from the action word, else from `dir`, else both.
    fn direction(&mut self, first: &ActionSyntax<'a>, old_style: bool) -> Option<Direction> {
        let in_pattern = self.item(Pattern::Direction).map(|i| i.value);
        let in_properties = actions::direction(first);
        if let (Some(_), Some(again)) = (in_pattern, in_properties) {
            self.problems.push(Problem::duplicate(Subject::Direction, &again));
        }
        let given = match in_pattern.or(in_properties) {
            None => None,
            Some(word) => Some((word, self.direction_word(word)?)),
        };
        if let Some((word, Direction::Both)) = given
            && old_style
        {
            let text = "'both' goes with local and remote only; write one rule for each direction";
            self.bad(Subject::Direction, text.to_owned(), word.at);
        }
        let forced = match first.action {
            Action::Apply => Some(Direction::Out),
            Action::Permit => Some(Direction::In),
            _ => None,
        };
        match (forced, given, first.action) {
            (Some(forced), Some((word, given)), _) if forced != given => {
                let (action, given) = (first.word.text.to_owned(), word.text.to_owned());
                self.problems.push(Problem::DirectionConflict(action, given, word.at));
                None
            }
            (Some(forced), _, _) => Some(forced),
            (None, Some((_, given)), _) => Some(given),
            (None, None, Action::Ipsec) if old_style => {
                let text = "give dir in or dir out, or use laddr and raddr".to_owned();
                self.problems.push(Problem::Requires(Subject::Direction, text, first.word.at));
                None
            }
            (None, None, Action::Ipsec) => Some(Direction::Both),
            (None, None, _) => {
                let text = format!("'{}' without dir: taken as both directions", first.word.text);
                self.warnings.push(Warning { at: first.word.at, text });
                Some(Direction::Both)
            }
        }
    }

    fn direction_word(&mut self, word: Token<'a>) -> Option<Direction> {
        for (name, direction) in [("in", Direction::In), ("out", Direction::Out), ("both", Direction::Both)] {
            if prefix_of(word.text, name) {
                return Some(direction);
            }
        }
        self.bad(Subject::Direction, format!("'{}' is none of in, out, both", word.text), word.at);
        None
    }

    fn verdict(&mut self, tunnel: Option<&TunnelPart>, old_style: bool) -> Option<Verdict> {
        let rule = self.rule;
        let (first, others) = rule.actions.split_first()?;
        if let (true, Some(other)) = (old_style, others.first()) {
            let text = "'or' goes with local and remote only".to_owned();
            self.problems.push(Problem::Structure(text, other.word.at));
        }
        if matches!(first.action, Action::Pass | Action::Drop) {
            if let Some(other) = others.first() {
                let text = format!("'{}' has no alternatives", first.word.text);
                self.problems.push(Problem::Structure(text, other.word.at));
            }
            actions::none(first, self.problems);
            return Some(if first.action == Action::Pass { Verdict::Pass } else { Verdict::Drop });
        }
        let (mut accepted, mut unique) = (Vec::new(), false);
        for action in &rule.actions {
            if matches!(action.action, Action::Pass | Action::Drop) {
                let text = format!("'{}' cannot be an alternative of '{}'", action.word.text, first.word.text);
                self.problems.push(Problem::Structure(text, action.word.at));
                continue;
            }
            let protection = actions::protection(action, self.problems);
            for action in protection.accepted {
                if !accepted.contains(&action) {
                    accepted.push(action);
                }
            }
            unique |= protection.unique;
            self.warnings.extend(protection.warnings);
        }
        if accepted.len() > policy::MAX_ACTIONS {
            let text = format!("more than {} alternatives", policy::MAX_ACTIONS);
            self.problems.push(Problem::Structure(text, first.word.at));
        }
        match tunnel.map(|t| t.negotiate) {
            Some(Negotiate::Tunnel) if unique => {
                let text = "sa unique has no effect in tunnel mode: a rule has one SA pair".to_owned();
                self.warnings.push(Warning { at: first.word.at, text });
                unique = false;
            }
            Some(Negotiate::Transport) => unique = true,
            _ => {}
        }
        Some(Verdict::Protect { accepted, unique })
    }

    fn flows(&mut self, old_style: bool, direction: Direction) -> Option<Vec<Flow>> {
        let proto = match self.item(Pattern::Protocol) {
            Some(item) => {
                let value = selectors::protocol(&item.value, self.names);
                self.ok(value)?
            }
            None => 0,
        };
        let near = self.end(Pattern::SourceAddress, Pattern::LocalAddress, Pattern::SourceMask);
        let far = self.end(Pattern::DestinationAddress, Pattern::RemoteAddress, Pattern::DestinationMask);
        let near_port = self.port(Pattern::SourcePort, Pattern::LocalPort, proto);
        let far_port = self.port(Pattern::DestinationPort, Pattern::RemotePort, proto);
        let (icmp_type, icmp_code) = self.icmp(proto);
        let mut flows = Vec::new();
        for near in near? {
            for far in far.as_ref()? {
                if let (Some(near), Some(far)) = (near, far)
                    && near.addr.is_ipv4() != far.addr.is_ipv4()
                {
                    continue;
                }
                let flow = Flow {
                    local: near,
                    remote: *far,
                    lport: near_port,
                    rport: far_port,
                    proto,
                    icmp_type,
                    icmp_code,
                    direction,
                };
                flows.extend(orient(flow, old_style));
            }
        }
        if flows.is_empty() {
            let at =
                self.either(Pattern::DestinationAddress, Pattern::RemoteAddress).map_or(self.rule.at, |i| i.value.at);
            self.bad(Subject::DestinationAddress, "no address has the IP version of the other end".to_owned(), at);
        }
        Some(flows)
    }

    /// Addresses of one end; a single `None` when the entry does not name it.
    fn end(&mut self, old: Pattern, new: Pattern, mask: Pattern) -> Option<Vec<Option<Prefix>>> {
        let address = self.either(old, new);
        let mask = self.item(mask);
        let Some(item) = address else {
            if let Some(mask) = mask {
                let text = format!("'{}' needs an address", mask.word.text);
                self.problems.push(Problem::Requires(subject(old), text, mask.word.at));
            }
            return Some(vec![None]);
        };
        let value = selectors::addresses(&item.value, subject(item.keyword), self.names);
        let mut prefixes = self.ok(value)?;
        if let Some(mask) = mask {
            let length = selectors::mask(&mask.value, subject(mask.keyword));
            let length = self.ok(length)?;
            if item.value.text.contains('/') {
                self.bad(subject(mask.keyword), "the address has a prefix length already".to_owned(), mask.word.at);
            }
            for prefix in &mut prefixes {
                match Prefix::new(prefix.addr, length).filter(|p| p.addr.is_ipv4()) {
                    Some(masked) => *prefix = masked,
                    None => self.bad(subject(mask.keyword), "masks are for IPv4".to_owned(), mask.word.at),
                }
            }
        }
        // A prefix of length zero still says which IP version the rule is for.
        Some(prefixes.into_iter().map(Some).collect())
    }

    fn port(&mut self, old: Pattern, new: Pattern, proto: u8) -> Option<u16> {
        let item = self.either(old, new)?;
        let value = selectors::port(&item.value, subject(item.keyword), proto, self.names);
        self.ok(value)
    }

    fn icmp(&mut self, proto: u8) -> (Option<[u8; 2]>, Option<[u8; 2]>) {
        let (type_item, code_item) = (self.item(Pattern::IcmpType), self.item(Pattern::IcmpCode));
        if let Some(item) = type_item.or(code_item)
            && !matches!(proto, names::ICMP | names::ICMPV6)
        {
            let text = format!("'{}' goes with ulp icmp or ulp ipv6-icmp", item.word.text);
            self.problems.push(Problem::Requires(Subject::UpperLayerProtocol, text, item.word.at));
            return (None, None);
        }
        if let (None, Some(code)) = (type_item, code_item) {
            let text = "'code' needs 'type'".to_owned();
            self.problems.push(Problem::Requires(Subject::IcmpType, text, code.word.at));
        }
        let kind = type_item.map(|i| selectors::icmp(&i.value, Subject::IcmpType, proto, 255, names::icmp_type));
        let code = code_item.map(|i| selectors::icmp(&i.value, Subject::IcmpCode, proto, 254, names::icmp_code));
        (kind.and_then(|r| self.ok(r)), code.and_then(|r| self.ok(r)))
    }
}

/// Flows in the view of this host. Old style gives source as local and destination as remote for outbound packets and
/// the other way round for inbound ones.
fn orient(flow: Flow, old_style: bool) -> Vec<Flow> {
    let swapped = Flow { local: flow.remote, remote: flow.local, lport: flow.rport, rport: flow.lport, ..flow };
    match (old_style, flow.direction) {
        (true, Direction::In) => vec![swapped],
        (true, Direction::Both) => {
            vec![Flow { direction: Direction::Out, ..flow }, Flow { direction: Direction::In, ..swapped }]
        }
        _ => vec![flow],
    }
}

/// Whether `word` is a prefix of `name`, not empty.
fn prefix_of(word: &str, name: &str) -> bool {
    !word.is_empty() && name.starts_with(word)
}
