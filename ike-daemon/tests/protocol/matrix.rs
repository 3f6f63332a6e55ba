//! Every message to every state of both roles. What happens is held against one table, [`RULES`], and what the table does not
//! name must be nothing at all: no datagram, no change.

use ike_daemon::core::api::*;
use ike_daemon::wire::auth::{AuthMethod, Authentication};
use ike_daemon::wire::chain::{ChainBuilder, PayloadType, parse_inner, parse_message};
use ike_daemon::wire::delete::Delete;
use ike_daemon::wire::header::{ExchangeType, Header};
use ike_daemon::wire::id::{IdPayload, Identification};
use ike_daemon::wire::ke::KeyExchange;
use ike_daemon::wire::nonce::Nonce;
use ike_daemon::wire::notify::{Notify, NotifyType};
use ike_daemon::wire::payloads::Payloads;
use ike_daemon::wire::sa::{Proposal, ProtocolId, SecurityAssociation, Transform};
use ike_daemon::wire::transform::{Encr, GroupId, PrfId};
use ike_daemon::wire::ts::TsPayload;

use crate::forge::{Claim, Forger, give};
use crate::hostile::recovered;
use crate::util::*;

const IN_USE: &str = "active|making child|rekeying child|deleting child|rekeying IKE|probing";
const WAITS_FOR_CREATE_CHILD_SA: &str = "making child|rekeying child|rekeying IKE";
const WAITS_FOR_INFORMATIONAL: &str = "deleting child|probing";
const GOING: &str = "replaced|deleting";

/// State, message with its condition, and what must come of it: what is sent, and with which error; where the IKE SA goes;
/// how many other IKE SAs and children come or go. `*` is any run of characters, `|` stands between alternatives, and the
/// first line that fits counts.
const RULES: &[(&str, &str, &str)] = &[
    // Nobody knows the other's SPI yet, and who sends an IKE_SA_INIT request is an initiator, whatever we began.
    ("nobody", "good IKE_SA_INIT request|wrong SPI IKE_SA_INIT request", "answer, +1 IKE"),
    ("nobody", "critical IKE_SA_INIT request", "answer UNSUPPORTED_CRITICAL_PAYLOAD"),
    ("init sent", "good IKE_SA_INIT response|wrong SPI IKE_SA_INIT response", "request, SENT IKE_AUTH"),
    ("init sent", "wrong role IKE_SA_INIT request", "answer, +1 IKE"),
    // Nothing is done for a stranger, and nothing twice (V2-MID-03, V2-MID-12).
    ("*", "wrong *|forged *|in clear *", "nothing"),
    ("refused", "the answered request", "answer AUTHENTICATION_FAILED"),
    ("*", "the answered request", "answer"),
    // Before the proof there is no other exchange than IKE_AUTH (V2-AUTH-16, V2-ERR-05).
    ("half open", "good IKE_AUTH request", "answer, ACTIVE, +1 child"),
    ("half open", "malformed IKE_AUTH request", "answer INVALID_SYNTAX, gone"),
    ("half open", "critical IKE_AUTH request", "answer UNSUPPORTED_CRITICAL_PAYLOAD, gone"),
    ("auth sent", "good IKE_AUTH response", "ACTIVE, +1 child"),
    ("auth sent", "malformed IKE_AUTH response|critical IKE_AUTH response", "request AUTHENTICATION_FAILED, DELETING"),
    ("*", "* IKE_SA_INIT *|* IKE_AUTH *|* unknown exchange *", "nothing"),
    // Requests to an SA that is in use (V2-HDR-16, V2-ERR-06).
    (IN_USE, "malformed * request", "answer INVALID_SYNTAX, gone, -1 child"),
    (IN_USE, "critical * request", "answer UNSUPPORTED_CRITICAL_PAYLOAD"),
    (IN_USE, "good empty request|good error request|good status request", "answer"),
    (IN_USE, "good delete child request", "answer, -1 child"),
    (IN_USE, "good delete IKE request", "answer, gone, -1 child"),
    ("rekeying IKE", "good new child request|good rekey child request", "answer TEMPORARY_FAILURE"),
    ("deleting child", "good rekey child request", "answer TEMPORARY_FAILURE"),
    (IN_USE, "good new child request|good rekey child request", "answer, +1 child"),
    ("active|probing", "good rekey IKE request", "answer, REPLACED, +1 IKE"),
    ("rekeying IKE", "good rekey IKE request", "answer, +1 IKE"),
    (IN_USE, "good rekey IKE request", "answer TEMPORARY_FAILURE"),
    // Answers to its own request. What cannot be understood ends it, and what does not fit is taken back (V2-ERR-08).
    ("making child", "good new child response", "+1 child"),
    ("rekeying child", "good rekey child response", "request, +1 child"),
    ("making child|rekeying child", "good new child response|good rekey * response", "request"),
    ("rekeying IKE", "good rekey IKE response", "request, DELETING, +1 IKE"),
    (WAITS_FOR_CREATE_CHILD_SA, "* new child response|* rekey * response", "request, DELETING, -1 child"),
    (WAITS_FOR_CREATE_CHILD_SA, "* response", "nothing"),
    ("*", "* new child response|* rekey * response", "nothing"),
    (WAITS_FOR_INFORMATIONAL, "malformed * response|critical * response", "request, DELETING, -1 child"),
    ("deleting child", "good * response", "-1 child"),
    ("deleting", "* response", "gone"),
    // On its way out: everything is answered, nothing new is begun (V2-COL-11, V2-COL-12).
    (GOING, "malformed * request", "answer INVALID_SYNTAX, gone"),
    (GOING, "critical * request", "answer UNSUPPORTED_CRITICAL_PAYLOAD"),
    (GOING, "good new child request|good rekey * request", "answer TEMPORARY_FAILURE"),
    (GOING, "good delete IKE request", "answer, gone"),
    (GOING, "good * request", "answer"),
];

/// Kinds of messages that are exchanges of [`ExchangeType::CREATE_CHILD_SA`].
const CREATING: [&str; 3] = ["new child", "rekey child", "rekey IKE"];

/// What can be wrong with a message. All but the last are under the right keys, where there are keys.
const CONDITIONS: [&str; 8] =
    ["good", "malformed", "critical", "wrong id", "wrong SPI", "wrong role", "forged", "in clear"];

const KINDS: [&str; 11] = [
    "IKE_SA_INIT",
    "IKE_AUTH",
    "new child",
    "rekey child",
    "rekey IKE",
    "empty",
    "delete child",
    "delete IKE",
    "error",
    "status",
    "unknown exchange",
];

const STATES: [&str; 12] = [
    "nobody",
    "init sent",
    "half open",
    "auth sent",
    "active",
    "making child",
    "rekeying child",
    "deleting child",
    "rekeying IKE",
    "probing",
    "replaced",
    "deleting",
];

/// A node in a state, and what it waits for.
struct Scene {
    world: World,
    side: Side,
    role: Role,
    spis: Option<IkeSpis>,
    /// ID of the peer's next request, and of the answer that is waited for.
    next: u32,
    awaited: u32,
    /// The message that only the other side can make: kind, whether it is a response, octets.
    genuine: Option<(&'static str, bool, Vec<u8>)>,
    /// The request that was answered last.
    answered: Option<Vec<u8>>,
}

impl Scene {
    /// The peer that has the keys of the IKE SA in question, if there are any; also when the SA is not shown any more.
    fn forger(&mut self) -> Option<Forger> {
        let spis = self.spis?;
        let keys = self.world.node(self.side).endpoint.keys(spis)?;
        Some(Forger::holding(keys, spis))
    }
}

/// Delivers the oldest packet on the wire.
fn pass(world: &mut World) -> Vec<u8> {
    let packet = world.wire.pop_front().unwrap();
    world.deliver(&packet);
    packet.bytes
}

fn scene(state: &str, role: Role) -> Option<Scene> {
    let mut world = World::new(900);
    let side = if role == Role::Initiator { Side::A } else { Side::B };
    let other = if role == Role::Initiator { Side::B } else { Side::A };
    let blank = |world, side, genuine, answered| {
        Some(Scene { world, side, role, spis: None, next: 0, awaited: 0, genuine, answered })
    };
    let steps = match state {
        "nobody" => 0,
        "init sent" => 0,
        "half open" => 2,
        "auth sent" => 2,
        "refused" => 3,
        _ => 4,
    };
    if state == "refused" {
        world.b.rule(|rule| rule.psk.as_mut().unwrap().remote = ike_daemon::crypto::Secret::copy_of(b"another"));
    }
    world.acquire(Side::A);
    let passed: Vec<Vec<u8>> = (0..steps).map(|_| pass(&mut world)).collect();
    let early = match (state, role) {
        ("nobody", Role::Responder) => {
            let init = world.wire.pop_front().unwrap().bytes;
            return blank(world, side, Some(("IKE_SA_INIT", false, init)), None);
        }
        ("init sent", Role::Initiator) => {
            pass(&mut world);
            Some((Some(("IKE_SA_INIT", true, world.wire.pop_front().unwrap().bytes)), None, 0, 0))
        }
        ("half open", Role::Responder) => {
            let auth = world.wire.pop_front().unwrap().bytes;
            Some((Some(("IKE_AUTH", false, auth)), Some(passed[0].clone()), 1, 0))
        }
        ("auth sent", Role::Initiator) => {
            pass(&mut world);
            Some((Some(("IKE_AUTH", true, world.wire.pop_front().unwrap().bytes)), None, 0, 1))
        }
        ("refused", Role::Responder) => {
            world.wire.clear();
            world.b.rule(|known| known.psk = rule("").psk);
            Some((None, Some(passed[2].clone()), 2, 0))
        }
        ("nobody" | "init sent" | "half open" | "auth sent" | "refused", _) => return None,
        _ => None,
    };
    let now = world.now;
    let spis = |world: &mut World| world.node(side).endpoint.snapshot(now).first().map(|sa| sa.spis);
    if let Some((genuine, answered, next, awaited)) = early {
        let spis = spis(&mut world).or_else(|| {
            passed.get(2).map(|auth| {
                let header = Header::parse(auth).unwrap().header;
                IkeSpis { initiator: header.spi_initiator, responder: header.spi_responder }
            })
        });
        return Some(Scene { world, side, role, spis, next, awaited, genuine, answered });
    }
    world.assert_mirrored(1);
    let spis = spis(&mut world);
    let ike = spis.unwrap();
    let (next, awaited) = if role == Role::Initiator { (0, 2) } else { (2, 0) };
    let mut scene = Scene { world, side, role, spis, next, awaited, genuine: None, answered: None };
    if role == Role::Responder {
        scene.answered = Some(passed[2].clone());
    }
    let world = &mut scene.world;
    let asked = match state {
        "active" => None,
        "making child" => {
            world.acquire(side);
            Some("new child")
        }
        "rekeying child" => {
            world.expire(side, ExpireKind::Soft);
            Some("rekey child")
        }
        "deleting child" => {
            world.expire(side, ExpireKind::Hard);
            Some("empty")
        }
        "rekeying IKE" => {
            world.rekey_ike(side);
            Some("rekey IKE")
        }
        "probing" => {
            world.expire(side, ExpireKind::Idle);
            Some("empty")
        }
        "deleting" => {
            world.command(side, Command::DeleteIkeSa(ike));
            Some("empty")
        }
        "replaced" => {
            world.rekey_ike(other);
            scene.answered = Some(pass(world));
            scene.next += 1;
            world.wire.clear();
            None
        }
        "lingering" => {
            world.command(other, Command::DeleteIkeSa(ike));
            scene.answered = Some(pass(world));
            scene.next += 1;
            world.wire.clear();
            None
        }
        _ => panic!("{state}"),
    };
    if let Some(kind) = asked {
        pass(world);
        let answer = world.wire.pop_front().unwrap().bytes;
        scene.genuine = Some((kind, true, answer));
    }
    world.wire.clear();
    Some(scene)
}

fn exchange_of(kind: &str) -> ExchangeType {
    match kind {
        "IKE_SA_INIT" => ExchangeType::IKE_SA_INIT,
        "IKE_AUTH" => ExchangeType::IKE_AUTH,
        _ if CREATING.contains(&kind) => ExchangeType::CREATE_CHILD_SA,
        "unknown exchange" => ExchangeType(99),
        _ => ExchangeType::INFORMATIONAL,
    }
}

/// The payloads of a message; `child` is the SPI that the peer receives on.
fn content(kind: &str, world: &World, child: u32) -> ChainBuilder {
    let mut chain = ChainBuilder::new();
    let ike = |spi: usize| {
        let transforms = vec![
            Transform::Encr(Encr::aes_gcm_16(256)),
            Transform::Prf(PrfId::HMAC_SHA2_256),
            Transform::Group(GroupId::CURVE25519),
        ];
        let proposal = Proposal { number: 1, protocol: ProtocolId::IKE, spi: vec![6; spi], transforms };
        SecurityAssociation { proposals: vec![proposal] }
    };
    let keys = |chain: &mut ChainBuilder, sa: &SecurityAssociation, ke: bool| {
        chain.push(PayloadType::SA, sa).unwrap();
        chain.push(PayloadType::NONCE, &Nonce::new(vec![1; 32]).unwrap()).unwrap();
        if ke {
            chain.push(PayloadType::KE, &KeyExchange { group: GroupId::CURVE25519, public: vec![9; 32] }).unwrap();
        }
    };
    match kind {
        "IKE_SA_INIT" => keys(&mut chain, &ike(0), true),
        "rekey IKE" => keys(&mut chain, &ike(8), true),
        "IKE_AUTH" => {
            let id = IdPayload::new(Identification::address(world.a.address));
            chain.push(PayloadType::ID_I, &id).unwrap();
            let auth = Authentication { method: AuthMethod::SHARED_KEY, data: vec![7; 32] };
            chain.push(PayloadType::AUTH, &auth).unwrap();
        }
        "new child" | "rekey child" => {
            if kind == "rekey child" {
                chain.push(PayloadType::NOTIFY, &Notify::about_child(NotifyType::REKEY_SA, 3, child)).unwrap();
            }
            let transforms = vec![Transform::Encr(Encr::CHACHA20_POLY1305), Transform::Esn(true)];
            let proposal = Proposal { number: 1, protocol: ProtocolId::ESP, spi: vec![3; 4], transforms };
            keys(&mut chain, &SecurityAssociation { proposals: vec![proposal] }, false);
            for (kind, (first, last)) in [
                (PayloadType::TS_I, ("10.0.0.0", "10.255.255.255")),
                (PayloadType::TS_R, ("10.0.0.0", "10.255.255.255")),
            ] {
                chain.push(kind, &TsPayload { selectors: vec![net(first, last)] }).unwrap();
            }
        }
        "delete child" => {
            let delete = Delete::Children { protocol: ProtocolId::ESP, spis: vec![child] };
            chain.push(PayloadType::DELETE, &delete).unwrap();
        }
        "delete IKE" => chain.push(PayloadType::DELETE, &Delete::Ike).unwrap(),
        "error" => chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::TS_UNACCEPTABLE, vec![])).unwrap(),
        "status" => chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType(40_000), vec![1, 2])).unwrap(),
        _ => {}
    }
    chain
}

/// The octets of one message to a scene; `None` where there is no such message.
fn message(scene: &mut Scene, kind: &str, response: bool, condition: &str) -> Option<Vec<u8>> {
    let side = scene.side;
    let spis = scene.spis.unwrap_or(IkeSpis { initiator: [4; 8], responder: [0; 8] });
    let forger = scene.forger();
    let genuine = scene.genuine.clone().filter(|(k, r, _)| (*k, *r) == (kind, response)).map(|(.., octets)| octets);
    let node = scene.world.node(side);
    let child = node.installed.values().next().map_or(5, |sa| sa.outbound.spi);
    let mut id = if response { scene.awaited } else { scene.next };
    if condition == "wrong id" {
        id += 5;
    }
    let from = match (scene.role, condition == "wrong role") {
        (Role::Initiator, false) | (Role::Responder, true) => Role::Responder,
        _ => Role::Initiator,
    };
    let exchange = exchange_of(kind);
    let mut header = Header {
        spi_initiator: spis.initiator,
        spi_responder: spis.responder,
        exchange,
        from_initiator: from == Role::Initiator,
        response,
        message_id: id,
    };
    // What the honest peer would send here, where it would send this; otherwise something of that kind.
    let (mut first, mut inner) = match (&genuine, &forger) {
        (Some(octets), Some(forger)) if exchange != ExchangeType::IKE_SA_INIT => forger.open(octets),
        (Some(octets), _) => {
            let theirs = Header::parse(octets).unwrap().header;
            (header.spi_initiator, header.spi_responder) = (theirs.spi_initiator, theirs.spi_responder);
            (PayloadType(octets[16]), octets[28..].to_vec())
        }
        (None, _) => {
            let chain = content(kind, &scene.world, child);
            (chain.first(), chain.octets().to_vec())
        }
    };
    match condition {
        "malformed" => (first, inner) = (PayloadType::NOTIFY, vec![0, 0, 0, 3]),
        "critical" => {
            let mut front = vec![first.0, 0x80, 0, 5, 1];
            front.append(&mut inner);
            (first, inner) = (PayloadType(200), front);
        }
        "wrong SPI" => {
            let peer =
                if scene.role == Role::Initiator { &mut header.spi_responder } else { &mut header.spi_initiator };
            peer[3] ^= 0x40;
        }
        _ => assert!(parse_inner(&inner, first).is_ok()),
    }
    let clear = exchange == ExchangeType::IKE_SA_INIT || condition == "in clear";
    let forger = if clear { None } else { forger };
    let known = forger.is_some();
    let mut octets = match forger {
        Some(forger) => {
            let spis = IkeSpis { initiator: header.spi_initiator, responder: header.spi_responder };
            let claim = Claim { from, exchange, response, id };
            forger.with_spis(spis).seal_octets(claim, first, &inner)
        }
        None => {
            let mut octets = header.emit(first.0, 28 + inner.len()).unwrap().to_vec();
            octets.extend_from_slice(&inner);
            octets
        }
    };
    if condition == "in clear" && !known {
        return None;
    }
    if condition == "forged" {
        if !known {
            return None;
        }
        *octets.last_mut().unwrap() ^= 1;
    }
    Some(octets)
}

/// What can be seen of a node: the IKE SA in question, other IKE SAs, children, what traffic goes out on, reservations.
#[derive(PartialEq, Debug)]
struct Sight {
    state: Option<IkeState>,
    others: usize,
    children: Vec<u32>,
    bound: Option<u32>,
    reserved: usize,
    paths: Vec<Path>,
}

fn sight(scene: &mut Scene) -> Sight {
    let now = scene.world.now;
    let spis = scene.spis;
    let node = scene.world.node(scene.side);
    let all = node.endpoint.snapshot(now);
    // An SA of which only our SPI was known is still the same one when the other is known too.
    let ours = |sa: &&IkeSaSnapshot| {
        spis.is_some_and(|s| s.initiator == sa.spis.initiator && (s.responder == [0; 8] || s == sa.spis))
    };
    let state = all.iter().find(ours).map(|sa| sa.state);
    Sight {
        state,
        others: all.len() - usize::from(state.is_some()),
        children: node.installed.keys().copied().collect(),
        bound: node.bound,
        reserved: node.host().larval.len(),
        paths: all.iter().map(|sa| sa.path).collect(),
    }
}

/// What a message has done, in the words of the table.
fn outcome(before: &Sight, after: &Sight, sent: &[Transmit], forger: Option<&Forger>) -> String {
    let mut words: Vec<String> = Vec::new();
    for Transmit { bytes, .. } in sent {
        let received = Header::parse(bytes).unwrap();
        let word = if received.header.response { "answer" } else { "request" };
        let payloads = match forger.filter(|_| received.header.exchange != ExchangeType::IKE_SA_INIT) {
            Some(forger) => forger.payloads(bytes),
            None => Payloads::decode(&parse_message(bytes, &received).unwrap().clear).unwrap(),
        };
        words.push(payloads.error().map_or(word.to_owned(), |error| format!("{word} {}", error.kind)));
    }
    if before.state != after.state {
        words.push(after.state.map_or("gone".to_owned(), |state| state.to_string()));
    }
    let mut count = |what: &str, was: usize, is: usize| {
        if was != is {
            words.push(format!("{:+} {what}", i64::try_from(is).unwrap() - i64::try_from(was).unwrap()));
        }
    };
    count("IKE", before.others, after.others);
    count("child", before.children.len(), after.children.len());
    if words.is_empty() && before != after {
        words.push(format!("something: {before:?} {after:?}"));
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

fn fits(patterns: &str, text: &str) -> bool {
    patterns.split('|').any(|pattern| matches(pattern, text))
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    tail.is_empty() || rest.char_indices().any(|(at, _)| rest.get(at..).is_some_and(|rest| matches(tail, rest)))
}

/// ROB-01, ROB-05, V2-HDR-09, V2-HDR-16, V2-HDR-19, V2-MID-03, V2-MID-12, V2-AUTH-16, V2-ERR-05, V2-ERR-06, V2-ERR-08,
/// V2-COL-08, V2-COL-09, V2-COL-11: every message in every state of both roles does what the table says, and after all that
/// does something, everything ends when it is told to and a new handshake succeeds.
#[test]
fn rob_05_state_by_message() {
    let mut used = vec![false; RULES.len()];
    let (mut wrong, mut cells) = (Vec::new(), 0);
    let states = STATES.into_iter().chain(["lingering", "refused"]);
    for (state, role) in states.flat_map(|state| [(state, Role::Initiator), (state, Role::Responder)]) {
        let Some(mut current) = scene(state, role) else { continue };
        let fresh = || scene(state, role).unwrap();
        let mut judge = |mut scene: Scene, name: &str, octets: Vec<u8>| -> Option<Scene> {
            let before = sight(&mut scene);
            let side = scene.side;
            let forger = scene.forger();
            let sent = give(&mut scene.world, side, octets);
            let done = outcome(&before, &sight(&mut scene), &sent, forger.as_ref());
            let rule = RULES.iter().position(|(states, message, _)| fits(states, state) && fits(message, name));
            let expected = rule.map_or("nothing", |at| RULES[at].2);
            if let Some(at) = rule {
                used[at] = true;
            }
            cells += 1;
            if done != expected {
                wrong.push(format!("{state} ({role:?}): {name}: {done}, not {expected}"));
            }
            if done == "nothing" {
                return Some(scene);
            }
            recovered(scene.world, side);
            None
        };
        for condition in CONDITIONS {
            for kind in KINDS {
                for response in [false, true] {
                    let Some(octets) = message(&mut current, kind, response, condition) else { continue };
                    let name = format!("{condition} {kind} {}", if response { "response" } else { "request" });
                    current = judge(current, &name, octets).unwrap_or_else(fresh);
                }
            }
        }
        if let Some(octets) = current.answered.clone() {
            judge(current, "the answered request", octets);
        }
    }
    let idle: Vec<_> = RULES.iter().zip(&used).filter(|(_, used)| !**used).map(|(rule, _)| rule).collect();
    assert!(wrong.is_empty() && idle.is_empty(), "{cells} cells\n{}\nrules never met: {idle:?}", wrong.join("\n"));
    assert!(cells > 3000, "{cells}");
}
