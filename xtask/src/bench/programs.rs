//! The programs as the kernel sees them.

use super::Part;

/// What is measured here.
pub(super) const PARTS: &[Part] = &[];
