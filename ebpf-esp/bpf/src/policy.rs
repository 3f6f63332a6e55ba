//! Classification: the ordered scan over the SPD generation in force.

use sadb_maps::abi::MAX_RULES;
use sadb_maps::policy::{AhAlgorithm, EspAlgorithms, PolicyHead, Rule, Selectors, rule_flag};
use sadb_maps::sa::{BindingKey, Bundle, SaStatic, SlotRef};

use crate::maps::{SPD_HEAD, SPD_RULES};
use crate::sa::{self, Usable};

/// [`classify`] found no rule.
pub const NO_MATCH: u32 = u32::MAX;

/// The head of the SPD; `None` when there are no rules.
#[inline(always)]
pub fn head() -> Option<PolicyHead> {
    let head = *SPD_HEAD.get(0)?;
    if head.count == 0 { None } else { Some(head) }
}

/// A rule of `generation`.
#[inline(always)]
pub fn rule(generation: u32, index: u32) -> Option<&'static Rule> {
    SPD_RULES.get((generation & 1) * MAX_RULES + (index & (MAX_RULES - 1)))
}

/// Index of the first rule of `generation` that fits the packet in `direction`, or [`NO_MATCH`]. Host rules are
/// considered only when `local` is not zero.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn classify(packet: *const Selectors, generation: u32, count: u32, direction: u32, local: u32) -> u32 {
    if packet.is_null() {
        return NO_MATCH;
    }
    // SAFETY: not null; the verifier has proven the rest at the call.
    let packet = unsafe { &*packet };
    for index in 0..MAX_RULES {
        if index >= count {
            break;
        }
        let Some(rule) = rule(generation, index) else { break };
        if rule.flags & rule_flag::TUNNEL == 0 && local == 0 {
            continue;
        }
        if rule.matches(packet, direction as u8) {
            return index;
        }
    }
    NO_MATCH
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
