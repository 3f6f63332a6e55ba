//! How `espadm` prints the state of the data path: tables for people, JSON for programs.

pub mod events;
pub mod properties;
pub mod tables;
