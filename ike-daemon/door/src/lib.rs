//! The protocol between ikeadm and an IKE daemon, Solaris calls it the door: a Unix stream socket on which one side asks
//! and the other answers.
//!
//! A frame is a length (32 bits, big-endian, at most [`MAX_FRAME`]) and a JSON text. One request is followed by zero or more
//! items and one end, an [`Outcome`]. Both ends know who the other is (SO_PEERCRED), and both give up at a deadline. The
//! meaning of requests, levels and error codes follows ikeadm of Solaris; the encoding is our own.
//!
//! This crate knows no socket of IKE, no state of an SA and no file: [`message`] is data, [`frame`] is the encoding,
//! [`client`] asks.

pub mod client;
pub mod frame;
pub mod level;
pub mod message;
pub mod place;

pub use client::{Answer, Client, ClientError};
pub use frame::{FrameError, MAX_FRAME};
pub use level::{DebugLevel, Privilege};
pub use message::{
    AddressRange, ChildInfo, DefaultInfo, DefaultSource, Envelope, ErrorCode, Failure, IdentityInfo, IkeSaId,
    IkeSaInfo, Item, KeyInfo, LifetimeInfo, Outcome, PresharedInfo, Reply, Request, Role, RuleInfo, SecretText, Sides,
    StatsInfo, TransformInfo, VERSION,
};
