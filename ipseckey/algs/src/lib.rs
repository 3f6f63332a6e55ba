//! The algorithms of IPsec: their numbers, names and key sizes.
//!
//! [`built_in`] is what the data path can do, which never changes while it runs. [`file`] is /etc/inet/ipsecalgs, where an
//! administrator gives algorithms other names and takes away what is not to be used. [`table`] is what both have: the
//! algorithms that policies, keys by hand and key management may name. [`store`] changes the file, [`listing`] prints it. Nothing here
//! changes what is in use already.

pub mod built_in;
pub mod file;
pub mod listing;
pub mod store;
pub mod table;

pub use built_in::{ALGORITHMS, Algorithm, KeySizes, Kind};
pub use file::AlgorithmFile;
pub use table::Table;
