//! User space: the typed handle on the maps of an instance.
//!
//! [`Instance`] names and checks an instance; [`Sadb`] changes its SAs under a lock that survives the death of its
//! holder.

pub mod bind;
mod bpffs;
pub mod check;
pub mod clock;
pub mod diagnostic;
pub mod epoch;
pub mod error;
pub mod fault;
pub mod instance;
pub mod layout;
pub mod lock;
mod maps;
mod repair;
pub mod sadb;
#[cfg(test)]
mod sadb_tests;
pub mod secret;
mod slots;
pub mod spec;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transform;

pub use diagnostic::Diagnostic;
pub use error::SadbError;
pub use instance::{Instance, InstanceError};
pub use sadb::Sadb;
pub use secret::SecretKey;
pub use spec::{Direction, Encap, IvSource, Mode, SaInfo, SaKey, SaSpec, SaUpdate};
