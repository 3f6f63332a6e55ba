//! The ciphers of `ebpf-esp` as a crate that depends on nothing.
//!
//! `ebpf-esp` depends on `sadb-maps` for the records, and `sadb-maps` needs the key expansion of `ebpf-esp` when it
//! installs an SA. One source, in `ebpf-esp/src/crypto`, serves both.

#![cfg_attr(not(test), no_std)]

#[path = "../src/crypto/mod.rs"]
pub mod crypto;
