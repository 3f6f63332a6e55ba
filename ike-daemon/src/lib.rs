//! in.ikev2d: the IKE daemons, sans-I/O core and driver.

pub mod config;
pub mod core;
pub mod crypto;
pub mod door_server;
pub mod driver;
pub mod pki;
pub mod wire;
