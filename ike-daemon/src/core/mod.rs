//! The IKEv2 core: RFC 7296 without a socket, a clock, a map or a task. Bytes, time, commands and policy come in; bytes,
//! timers and effects come out. See [`api`] for every type that crosses the border and [`Endpoint`] for the way across.
//!
//! An IKE SA is one of the state types of `sa`: `init` and `auth` on the initiator's side, `half_open` on the responder's,
//! then `established` with its exchanges `create_child`, `rekey_ike` and `informational`, and `retiring` at the end. All
//! that have keys share `link`, the protected channel.

pub mod api;
mod auth;
mod child;
mod child_answer;
mod childless;
mod context;
mod cookie;
mod create_child;
mod endpoint;
mod established;
mod fragments;
mod half_open;
mod informational;
mod init;
mod link;
mod natd;
mod proof;
mod proposal;
mod reauth;
mod rekey_ike;
mod retiring;
mod retransmit;
mod sa;
mod selectors;
mod table;
#[cfg(test)]
mod tests;
mod transport_nat;

pub use endpoint::Endpoint;
