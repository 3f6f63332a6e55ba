//! Finds the object with the programs and has it embedded, so that the tools need no file at run time.
//!
//! `cargo xtask build-ebpf` makes it. Without it everything builds, on a stable toolchain alone; attaching then fails
//! and says what to run.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_HOST").is_none() {
        return;
    }
    let Some(directory) = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(|root| root.join("target/ebpf")) else {
        return;
    };
    // A directory that is missing counts as changed, and the crate would be built anew each time.
    if std::fs::create_dir_all(&directory).is_err() {
        return;
    }
    println!("cargo::rerun-if-changed={}", directory.display());
    let object = directory.join("ipsec-esp.o");
    if object.is_file() {
        println!("cargo::rustc-cfg=ebpf_object");
        println!("cargo::rustc-env=IPSEC_EBPF_OBJECT={}", object.display());
    }
}
