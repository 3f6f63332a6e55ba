//! TCP between hosts: in clear, through us and through others, in one topology.

use super::Part;

/// What is measured here.
pub(super) const PARTS: &[Part] = &[];
