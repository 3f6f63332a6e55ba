//! How `espadm` prints the state of the data path, tables for people and JSON for programs, and what else it has to tell.

pub mod events;
pub mod properties;
pub mod sd_notify;
pub mod tables;
