//! The contract between the programs in the kernel and the tools in user space.
//!
//! The records and keys of every BPF map of the suite live here, plain old data whose layout is asserted at compile
//! time, together with the few pure functions that both sides must agree on to the bit (how an outbound binding is
//! keyed, how a frame is tagged, how the replay window is laid out). Behind the `host` feature stands the typed handle
//! that the tools use: [`Sadb`](host::Sadb), [`Spd`](host::Spd), the loader, the event lease and the bus. Behind `names` stands what instances are called. Nothing in
//! this crate knows an IKE type.
//!
//! Byte order: an [`Addr`] holds the octets of the wire; every other integer is in host order.

#![cfg_attr(not(any(feature = "names", test)), no_std)]

pub mod abi;
pub mod addr;
pub mod counter;
pub mod event;
#[cfg(feature = "names")]
pub mod name;
pub mod nat;
pub mod policy;
pub mod sa;
pub mod slow;
pub mod spd;
pub mod tag;

#[cfg(feature = "host")]
pub mod host;

pub use addr::Addr;
