//! The tools from outside: real binaries on real maps. They run as root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "what helps tests may panic as they do"
)]

mod algorithms;
mod espadm;
mod ipsecconf;
mod ipseckey;
mod policy_transcripts;
mod prompt;
mod round_trip;
mod shell;
mod support;
mod transcripts;
mod transforms;
