//! The package: what is installed, and where.

pub(crate) mod layout;
