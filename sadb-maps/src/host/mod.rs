//! User space: the typed handle on the maps of an instance, and what the tools and daemons share around it.
//!
//! [`Instance`] names and checks an instance and [`Loader`] brings it to life. [`Sadb`] changes its SAs under a lock that
//! survives the death of its holder, [`Spd`] replaces its rules, [`Tunnels`] gives names to tunnel ends. [`Counters`] and
//! [`Status`] show. [`EventLease`] drains what the programs report, [`Publisher`] and [`Subscriber`] are the bus on which
//! everybody hears of every change, [`KmSockets`] lets key management out in clear, [`Holder`] gets the packets that wait
//! for an SA, and [`SlowPath`] those that the programs cannot deal with one by one.

pub mod announce;
pub mod attach;
mod batch;
pub mod bind;
mod bpffs;
pub mod build;
pub mod bus;
pub mod check;
pub mod clock;
mod clsact;
pub mod counters;
pub mod diagnostic;
pub mod epoch;
pub mod error;
pub mod events;
pub mod fault;
pub mod features;
mod files;
mod held;
pub mod hold;
pub mod identity;
mod inject;
pub mod instance;
mod kernel;
pub mod km;
pub mod layout;
mod links;
pub mod loader;
#[cfg(test)]
mod loader_tests;
pub mod lock;
mod maps;
pub mod migrate;
mod moves;
pub mod netdev;
mod object;
pub mod path_log;
mod pending;
pub mod pfkey;
mod raw;
pub mod relay;
mod repair;
pub mod sadb;
#[cfg(test)]
mod sadb_race_tests;
#[cfg(test)]
mod sadb_state_tests;
#[cfg(test)]
mod sadb_tests;
pub mod secret;
mod slots;
pub mod slow;
mod sockopt;
pub mod spd;
pub mod spec;
mod staging;
pub mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transform;
pub mod tunnels;
pub mod upgrade;
#[cfg(test)]
mod upgrade_tests;
pub mod watch;
mod window;
mod xdp_features;
mod xsk;

pub use attach::{InterfaceReport, Shortcut};
pub use build::Build;
pub use bus::{BusError, Heard, Publisher, Subscriber};
pub use counters::Counters;
pub use diagnostic::Diagnostic;
pub use error::SadbError;
pub use events::EventLease;
pub use features::Feature;
pub use hold::{Flow, HeldPacket, Holder};
pub use identity::Identity;
pub use instance::{Instance, InstanceError};
pub use km::KmSockets;
pub use loader::{AttachOptions, AttachReport, ExitChoice, Loader, LoaderError, XdpChoice};
pub use path_log::PathLog;
pub use sadb::Sadb;
pub use secret::SecretKey;
pub use slow::SlowPath;
pub use spd::{CompiledRule, Scope, Spd};
pub use spec::{Direction, Encap, IvSource, Mode, SaInfo, SaKey, SaSpec, SaUpdate};
pub use status::Status;
pub use tunnels::{Tunnel, TunnelError, Tunnels};
pub use upgrade::{UpgradeOptions, UpgradeReport};
pub use watch::{Wanted, Watch};
