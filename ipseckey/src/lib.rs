//! What the administration tools of the databases share: `ipseckey` (SADB), `ipsecconf` (SPD), `ipsecalgs` and
//! `espadm` (data path).
//!
//! The binaries only parse their options and print; everything they know lives here. [`algorithms`] are those that may be
//! named, [`names`] the system's databases, [`policy`] ipsecinit.conf, [`keying`] the commands and listings of `ipseckey`,
//! [`path`] the output of `espadm`, [`methods`] how services start. Nothing here talks to a daemon: the tools work on the
//! maps through `sadb_maps::host`.

pub mod algorithms;
pub mod keying;
pub mod methods;
pub mod names;
pub mod path;
pub mod policy;
