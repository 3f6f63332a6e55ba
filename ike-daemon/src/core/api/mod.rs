//! The border of the IKE core: every type that goes in or comes out of `core::Endpoint`.
//!
//! ```text
//! Endpoint::<H: Host>::new(config: EndpointConfig, random: Box<dyn RandomSource + Send>, host: H)
//!   in:   handle_datagram(now, Path, &[u8])        a UDP payload without the non-ESP marker
//!         handle_acquire(now, Acquire)             traffic needs an SA
//!         handle_expire(now, Expire)               a child ran into a soft, hard or idle limit
//!         handle_inbound_used(now, inbound_spi)    the first packet came in on a child of a rekey we answered
//!         handle_command(now, Command)             the administrator, or shutdown
//!         handle_timeout(now)                      poll_timeout's moment has come
//!   out:  poll_effect() -> Option<Effect>          drain these first: an SA must receive before the peer learns its SPI
//!         poll_transmit() -> Option<Transmit>      then these
//!         poll_timeout() -> Option<Timestamp>      then wait until here, at most
//!   look: snapshot(now) -> Vec<IkeSaSnapshot>, keys(IkeSpis) -> Option<IkeKeys>, stats() -> Stats, is_idle() -> bool,
//!         host() -> &H, host_mut() -> &mut H
//! ```
//! Every input may be given at any time with any content; none fails, none panics. What went wrong is told by effects
//! ([`Effect::Log`], [`Effect::AcquireFailed`]) and counted in [`Stats`]. After every input: drain effects, then transmits.

mod child;
mod effect;
mod host;
mod input;
mod rule;
mod snapshot;

pub use child::{
    ChildKeys, ChildLifetimes, ChildPolicy, ChildSa, ChildSuite, Encap, EsnPolicy, Mode, Originals, OutboundUse,
    Protocol, SpiPair,
};
pub use effect::{Effect, FailureCause, Level, LogLine, PeerMoved, RemoveReason, RemovedChild, Transmit};
pub use host::{
    ChildQuery, ChildRefusal, EntropyError, Host, InstallRefusal, RandomSource, RefusalKind, SpiRefusal, SpiRequest,
};
pub use input::{Acquire, Command, EndpointConfig, Expire, ExpireKind, Path, Timestamp};
pub use rule::{AuthBy, IdGlob, IdPattern, IkeProposal, LocalIdentity, Psk, RetryPolicy, Rule, SourceLine};
pub use snapshot::{ChildSnapshot, IkeKeys, IkeSaSnapshot, IkeSpis, IkeState, NatState, Role, Stats};
