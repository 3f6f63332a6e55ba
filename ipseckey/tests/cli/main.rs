//! The tools from outside: real binaries on real maps. They run as root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::string_slice,
    reason = "what helps tests may panic as they do"
)]

mod espadm;
mod ipsecconf;
mod ipseckey;
mod prompt;
mod round_trip;
mod support;
mod transcripts;
