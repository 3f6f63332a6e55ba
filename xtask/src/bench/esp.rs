//! The cost of a packet in the kernel, beside its bare cryptography.

use super::Part;

/// What is measured here.
pub(super) const PARTS: &[Part] = &[];
