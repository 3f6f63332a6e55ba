//! Memory of an SA in the maps and of an IKE SA in the daemon.

use super::Part;

/// What is measured here.
pub(super) const PARTS: &[Part] = &[];
