//! Fuzz targets: functions that take any octets and panic where the code under test is wrong. They know neither what makes
//! the octets (libFuzzer in `fuzz/driver`, the corpus in `fuzz/corpus`) nor how long it goes on.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a target fails by panicking"
)]

mod ah;
/// The time at the hosts of [`util`], where no certificate is.
mod authority {
    pub(crate) const NOW: u64 = 0;
}
mod buffer;
mod certificates;
#[allow(dead_code, reason = "shared with the tests of ike-daemon")]
#[path = "../../ike-daemon/tests/protocol/forge.rs"]
mod forge;
mod fragments;
mod ike_endpoint;
mod ike_wire;
mod list;
mod messages;
mod names;
mod packet;
#[allow(clippy::cast_possible_truncation, dead_code, unreachable_pub, reason = "shared with the tests of ebpf-esp")]
#[path = "../../ebpf-esp/tests/support/reference.rs"]
mod reference;
mod rfc1071;
mod suite;
#[path = "../../ebpf-esp/tests/support/mod.rs"]
mod support;
mod text;
mod too_big;
#[allow(dead_code, reason = "shared with the tests of ike-daemon")]
#[path = "../../ike-daemon/tests/protocol/util.rs"]
mod util;

pub use list::{About, TARGETS};

/// The function of a target: takes any octets, panics on a finding.
#[must_use]
pub fn find(name: &str) -> Option<fn(&[u8])> {
    Some(match name {
        "suite" => suite::run,
        "packet" => packet::run,
        "ah" => ah::run,
        "too-big" => too_big::run,
        "fragments" => fragments::run,
        "ike-wire" => ike_wire::run,
        "ike-endpoint" => ike_endpoint::run,
        "certificates" => certificates::run,
        "ikev2-config" => text::ikev2_config,
        "ikev2-preshared" => text::ikev2_preshared,
        "ipsecinit" => text::ipsecinit,
        "ipseckeys" => text::ipseckeys,
        "ipsecalgs" => text::ipsecalgs,
        "door" => messages::door,
        "pfkey" => messages::pfkey,
        _ => return None,
    })
}
