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
    let Some(manifest) = std::env::var_os("CARGO_MANIFEST_DIR") else { return };
    let Some(directory) = Path::new(&manifest).parent().map(|root| root.join("target/ebpf")) else {
        return;
    };
    let object = directory.join("ipsec-esp.o");
    if object.is_file() {
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-cfg=ebpf_object");
        println!("cargo::rustc-env=IPSEC_EBPF_OBJECT={}", object.display());
        return;
    }
    // The directory changes when the object comes. What is missing counts as changed, and the crate would be built anew
    // each time; so the directory is made, and the object is not named before it is there.
    if std::fs::create_dir_all(&directory).is_ok() {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
}
