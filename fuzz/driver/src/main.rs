//! libFuzzer around one target, whose name is in the environment variable `FUZZ_TARGET`.

#![no_main]

use fuzz_targets::find;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    find(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

fuzz_target!(|octets: &[u8]| TARGET(octets));
