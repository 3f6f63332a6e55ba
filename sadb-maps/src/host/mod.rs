//! User space.
