//! Where the door of an instance is, and which instance is meant.

use std::path::{Path, PathBuf};

/// The environment variable that names the instance where no option does.
pub const INSTANCE_VARIABLE: &str = "IPSEC_INSTANCE";

/// The instance where nothing names one.
pub const DEFAULT_INSTANCE: &str = "default";

/// The directory of run-time files, one directory per instance below it.
pub const RUN_DIR: &str = "/run/ipsec";

/// The name of the socket of in.ikev2d in the directory of its instance.
pub const IKEV2_DOOR: &str = "ikev2_door";

/// A name that is no instance name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no instance name: expected 1 to 32 of a-z, 0-9 and -, but not \"bpf\" or \"epoch\"")]
pub struct BadInstance(pub String);

/// The instance that an option names, else the environment, else the default one. The variable is ignored where somebody
/// without rights may have set it: under `AT_SECURE` and under sudo.
///
/// # Errors
/// [`BadInstance`].
pub fn instance(option: Option<&str>) -> Result<String, BadInstance> {
    let name = match option {
        Some(name) => name.to_owned(),
        None if !environment_is_ours() => DEFAULT_INSTANCE.to_owned(),
        None => std::env::var(INSTANCE_VARIABLE).unwrap_or_else(|_| DEFAULT_INSTANCE.to_owned()),
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let reserved = matches!(name.as_str(), "bpf" | "epoch");
    if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) || reserved {
        return Err(BadInstance(name));
    }
    Ok(name)
}

fn environment_is_ours() -> bool {
    // SAFETY: getauxval reads the auxiliary vector of the process and has no precondition.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    !secure && std::env::var_os("SUDO_UID").is_none()
}

/// The socket of in.ikev2d of this instance.
#[must_use]
pub fn ikev2_door(instance: &str) -> PathBuf {
    Path::new(RUN_DIR).join(instance).join(IKEV2_DOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(instance(Some("east-2")).unwrap(), "east-2");
        for bad in ["", "..", "a/b", "A", "bpf", "epoch", "x2345678901234567890123456789012 "] {
            assert!(instance(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(ikev2_door("a"), Path::new("/run/ipsec/a/ikev2_door"));
    }
}
