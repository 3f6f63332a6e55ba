//! The driver: everything around the sans-I/O core that touches the outside. Sockets (`udp`), the data path ([`kernel`],
//! [`sadb`], `slow_path`), configuration and books (`host`), the loop that joins them ([`daemon`]).

mod algorithms;
mod answers;
pub mod choices;
mod clock;
pub mod daemon;
pub mod files;
mod hold;
mod holder;
mod host;
pub mod kernel;
mod listen;
pub mod logging;
mod mappings;
#[cfg(test)]
mod memory;
mod permitted;
mod policy;
pub mod sadb;
mod sink;
mod slow_path;
mod udp;

pub use choices::{Choices, Chosen};
pub use daemon::{Daemon, Settings, StartError};
pub use files::Files;
pub use kernel::KernelSide;
pub use logging::LogControl;
pub use sadb::SadbKernel;
pub use slow_path::SlowPathThread;
