//! Classification: the ordered scan over the SPD generation in force.

use sadb_maps::abi::MAX_RULES;
use sadb_maps::policy::{PolicyHead, Rule, Selectors, rule_flag};
use sadb_maps::sa::SaStatic;

use crate::maps::{SPD_HEAD, SPD_RULES};

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

/// Whether `rule` accepts the algorithms of `sa` (1) or not (0).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rule_accepts(rule: *const Rule, sa: *const SaStatic) -> u32 {
    if rule.is_null() || sa.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier has proven the rest at the call.
    unsafe { (*rule).accepts_esp((*sa).encr, (*sa).key_bits, (*sa).auth) as u32 }
}
