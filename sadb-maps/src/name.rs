//! Names of instances, and which one a tool means: what tools that touch no map have to know as well.

/// Name of the instance when neither option nor environment says otherwise.
pub const DEFAULT: &str = "default";

/// Environment variable that names the instance.
pub const VARIABLE: &str = "IPSEC_INSTANCE";

/// Directory of everything that lives until the next boot, with a directory for each instance.
pub const RUN_DIR: &str = "/run/ipsec";

/// Most octets of a name.
const MAX_LENGTH: usize = 32;

/// Names that would collide with our own entries in the directories.
const RESERVED: [&str; 2] = ["bpf", "epoch"];

/// Not 1 to 32 of `a-z`, `0-9` and `-`, or reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no instance name: use 1 to 32 of a-z, 0-9 and -, and neither \"bpf\" nor \"epoch\"")]
pub struct BadName(pub String);

/// Whether an instance may have this name.
///
/// # Errors
/// [`BadName`].
pub fn check(name: &str) -> Result<(), BadName> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > MAX_LENGTH || !name.bytes().all(plain) || RESERVED.contains(&name) {
        return Err(BadName(name.into()));
    }
    Ok(())
}

/// The instance that an option names, else the environment, else the default one. The variable is ignored where somebody
/// without rights may have set it: under `AT_SECURE` and under sudo.
///
/// # Errors
/// [`BadName`].
pub fn chosen(option: Option<&str>) -> Result<String, BadName> {
    let variable = std::env::var(VARIABLE).ok().filter(|_| environment_is_ours());
    let name = option.or(variable.as_deref()).unwrap_or(DEFAULT);
    check(name).map(|()| name.into())
}

/// Whether the environment comes from the user whose rights the process has.
fn environment_is_ours() -> bool {
    // SAFETY: getauxval reads the auxiliary vector of the process and has no precondition.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    !secure && std::env::var_os("SUDO_UID").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(chosen(Some("east-2")).unwrap(), "east-2");
        for bad in ["", "A", "a/b", "..", "bpf", "epoch", "a b", &"x".repeat(33)] {
            assert_eq!(chosen(Some(bad)), Err(BadName(bad.into())));
        }
        assert!(check(&"x".repeat(32)).is_ok());
    }
}
