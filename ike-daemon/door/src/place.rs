//! Where the door of an instance is.

use sadb_maps::name::RUN_DIR;
use std::path::{Path, PathBuf};

pub use sadb_maps::name::chosen as instance;

/// The name of the socket of in.ikev2d in the directory of its instance.
pub const IKEV2_DOOR: &str = "ikev2_door";

/// The socket of in.ikev2d of this instance.
#[must_use]
pub fn ikev2_door(instance: &str) -> PathBuf {
    Path::new(RUN_DIR).join(instance).join(IKEV2_DOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_is_in_the_directory_of_its_instance() {
        assert_eq!(ikev2_door(&instance(Some("a")).unwrap()), Path::new("/run/ipsec/a/ikev2_door"));
    }
}
