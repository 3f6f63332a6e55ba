//! Classification: the generation of the SPD in force, the flow cache, and the tables behind it.

use aya_ebpf::maps::lpm_trie::Key;
use ebpf_esp::spd::flow::{self, Question};
use ebpf_esp::spd::{Tables, first_match};
use sadb_maps::Addr;
use sadb_maps::abi::MAX_RULES;
use sadb_maps::policy::{AhAlgorithm, EspAlgorithms, PolicyHead, Rule, Selectors, rule_flag};
use sadb_maps::sa::{BindingKey, Bundle, SaStatic, SlotRef};
use sadb_maps::spd::{
    AddressKey, BROKEN, Class, FlowSet, OPENED, Page, TunnelKey, chunk_number, class_number, numbered,
};

use crate::maps::{
    CONFIG, SPD_ADDRESSES, SPD_CHUNKS, SPD_CLASSES, SPD_FLOWS, SPD_GENERATIONS, SPD_HEAD, SPD_PAGES, SPD_RULES,
    SPD_TUNNELS,
};
use crate::sa::{self, Usable};

/// Number of rules of a generation that cannot be: every packet is dropped.
const TORN: u32 = u32::MAX;

/// The generation in force; `None` when it has no rules.
#[inline(always)]
pub fn head() -> Option<PolicyHead> {
    // SAFETY: a live map value; read once.
    let generation = unsafe { SPD_HEAD.get_ptr(0)?.read_volatile() };
    let mut head = *SPD_GENERATIONS.get(generation & 1)?;
    if head.generation != generation {
        head.count = TORN;
    }
    if head.count == 0 { None } else { Some(head) }
}

/// A rule of `generation`.
#[inline(always)]
pub fn rule(generation: u32, index: u32) -> Option<&'static Rule> {
    if index >= MAX_RULES {
        return None;
    }
    let key = numbered(generation, index);
    // SAFETY: elements of a generation are removed when no program can see them any more.
    SPD_RULES.get_ptr(key).map(|rule| unsafe { &*rule })
}

/// The tables of this generation.
struct Generation(u32);

impl Tables for Generation {
    #[inline(always)]
    fn address(&self, dimension: u8, address: &Addr) -> Option<u16> {
        let key = Key::new(AddressKey::FIXED_BITS + 128, AddressKey::new(self.0, dimension, address));
        SPD_ADDRESSES.get(key).map(|class| *class as u16)
    }
    #[inline(always)]
    fn value(&self, table: u8, chunk: u8, value: u8) -> u16 {
        let key = numbered(self.0, chunk_number(table, chunk));
        // SAFETY: as in `rule`; an octet is within the chunk.
        SPD_CHUNKS
            .get_ptr(key)
            .map_or(0, |chunk| unsafe { (&raw const (*chunk).0).cast::<u16>().add(value as usize).read() })
    }
    #[inline(always)]
    fn class(&self, dimension: u8, class: u16) -> Option<&Class> {
        // SAFETY: as in `rule`.
        SPD_CLASSES.get_ptr(numbered(self.0, class_number(dimension, class))).map(|class| unsafe { &*class })
    }
    #[inline(always)]
    fn page(&self, number: u32) -> Option<&Page> {
        // SAFETY: as in `rule`.
        SPD_PAGES.get_ptr(numbered(self.0, number)).map(|page| unsafe { &*page })
    }
}

/// Index of the first rule of `generation`, which has `count` rules, that fits the packet in `direction`; [`NO_MATCH`];
/// or one for which there is no [`rule`]. `in_scope` says which rules count: see [`scope`]. Not a function of its own, which
/// would stand on the stack below the search.
#[inline(always)]
pub fn classify(packet: *const Selectors, generation: u32, count: u32, direction: u32, in_scope: u32) -> u32 {
    if count > MAX_RULES {
        return BROKEN;
    }
    let known = recall_flow(packet, generation, direction, in_scope);
    if known != UNKNOWN_FLOW {
        return known as u32;
    }
    let rule = search(packet, generation, direction, in_scope);
    remember_flow(packet, generation, direction, in_scope, rule);
    rule
}

/// No flow like this was seen lately: apart from every answer.
const UNKNOWN_FLOW: u64 = 1 << 32;

/// What the flow cache of this CPU knows: the answer, or [`UNKNOWN_FLOW`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recall_flow(packet: *const Selectors, generation: u32, direction: u32, in_scope: u32) -> u64 {
    if packet.is_null() {
        return BROKEN as u64;
    }
    // SAFETY: not null; the verifier has proven the rest at the call.
    let asked = Question { packet: unsafe { &*packet }, generation, direction, scope: in_scope };
    match flows(&asked).and_then(|set| flow::recall(set, &asked)) {
        Some(rule) => rule as u64,
        None => UNKNOWN_FLOW,
    }
}

/// Puts an answer into the flow cache of this CPU. 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn remember_flow(
    packet: *const Selectors,
    generation: u32,
    direction: u32,
    in_scope: u32,
    rule: u32,
) -> u32 {
    if packet.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier has proven the rest at the call.
    let asked = Question { packet: unsafe { &*packet }, generation, direction, scope: in_scope };
    if let Some(set) = flows(&asked) {
        flow::remember(set, &asked, rule);
    }
    0
}

/// Whether a packet of this flow has lately been accepted out of this SA, and no other around it, by the rules in force.
#[inline(always)]
pub fn was_opened(packet: *const Selectors, head: &PolicyHead, sa: SlotRef) -> bool {
    head.count <= MAX_RULES && recall_flow(packet, head.generation, OPENED, sa.slot) == sa.generation as u64
}

/// So that [`was_opened`] says so from now on.
#[inline(always)]
pub fn remember_opened(packet: *const Selectors, head: &PolicyHead, sa: SlotRef) {
    remember_flow(packet, head.generation, OPENED, sa.slot, sa.generation);
}

/// The set of the flow cache that a flow is in.
#[inline(always)]
fn flows(asked: &Question) -> Option<&'static mut FlowSet> {
    let seed = CONFIG.get(0).map_or(0, |config| config.mark_sealed);
    // SAFETY: a cell of this CPU; programs on one CPU do not interrupt each other.
    SPD_FLOWS.get_ptr_mut(flow::set_of(asked, seed)).map(|set| unsafe { &mut *set })
}

/// As [`classify`], without the flow cache.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn search(packet: *const Selectors, generation: u32, direction: u32, in_scope: u32) -> u32 {
    if packet.is_null() {
        return BROKEN;
    }
    // SAFETY: not null; the verifier has proven the rest at the call.
    first_match(&Generation(generation), unsafe { &*packet }, direction, in_scope)
}

/// The scope of packets in the tunnel of a tunnel-mode SA between these ends. Without rules of its own the tunnel has
/// none that could fit, and nothing comes out of it.
#[inline(always)]
pub fn tunnel_scope(generation: u32, local: &Addr, remote: &Addr) -> Option<u32> {
    let key = TunnelKey { generation: numbered(generation, 0), local: *local, remote: *remote };
    // SAFETY: copied at once.
    unsafe { SPD_TUNNELS.get(&key) }.copied()
}

/// Whether `rule` accepts an ESP SA with these algorithms (all 0: none) together with an AH SA with this one (0: none): 1
/// or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rule_accepts(rule: *const Rule, encr: u32, encr_bits: u32, auth: u32, ah: u32) -> u32 {
    if rule.is_null() {
        return 0;
    }
    let esp = EspAlgorithms { encr: encr as u8, encr_bits: encr_bits as u16, auth: auth as u8 };
    // SAFETY: not null; the verifier has proven the rest at the call.
    unsafe { (*rule).accepts(&esp, &AhAlgorithm(ah as u8)) as u32 }
}

/// Whether `rule` accepts these SAs and no others.
#[inline(always)]
pub fn accepts(rule: &Rule, esp: Option<&SaStatic>, ah: Option<&SaStatic>) -> bool {
    let esp = esp.map_or(EspAlgorithms { encr: 0, encr_bits: 0, auth: 0 }, SaStatic::esp_algorithms);
    let ah = ah.map_or(0, |sa| sa.auth as u32);
    rule_accepts(rule, esp.encr as u32, esp.encr_bits as u32, esp.auth as u32, ah) != 0
}

/// What protects a packet: the SA that is applied first, and the AH SA that goes around it, if any.
pub struct Chosen {
    /// ESP, or AH where there is no ESP.
    pub first: Usable,
    /// AH around ESP; slot 0 for none.
    pub second: SlotRef,
}

/// The SA of a bundle, if it goes between the ends of the binding: an element that is removed from the map while it is
/// read may hold another binding's value by then.
#[inline(always)]
fn member(place: SlotRef, binding: &BindingKey) -> Option<Usable> {
    sa::resolve(place).filter(|sa| sa.fixed.src == binding.src && sa.fixed.dst == binding.dst)
}

/// The SAs of a binding, if they are all that the rule asks for.
#[inline(always)]
pub fn choose(rule: &Rule, binding: &BindingKey, bundle: Option<Bundle>) -> Option<Chosen> {
    const NONE: SlotRef = SlotRef { slot: 0, generation: 0 };
    let bundle = bundle?;
    let esp = member(bundle.sa[0], binding);
    if rule.flags & rule_flag::AH == 0 {
        return Some(Chosen { first: esp?, second: NONE });
    }
    let ah = member(bundle.sa[1], binding);
    let fixed = |sa: Usable| sa.fixed;
    if !accepts(rule, esp.map(fixed), ah.map(fixed)) {
        return None;
    }
    match (esp, ah) {
        (Some(first), Some(ah)) => Some(Chosen { first, second: ah.place }),
        (Some(first), None) => Some(Chosen { first, second: NONE }),
        (None, ah) => Some(Chosen { first: ah?, second: NONE }),
    }
}
