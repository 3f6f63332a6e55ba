//! The files: `NAME TYPE VALUE` on a line, as svcprop(1) prints them. Private properties are in a second file, mode 0600.
//!
//! A change is wholly there or not at all: the file is replaced, and changes wait for each other.

use crate::table::{BadValue, MAX_VALUE, Property, Service};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the properties of this host are.
pub const DIRECTORY: &str = "/etc/inet/properties";

/// Far above what all properties of a service take.
const MAX_FILE: u64 = 1 << 20;

/// Why properties cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum PropertyError {
    /// A file or directory.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A line that is none.
    #[error("{path}:{line}: expected a property, its type and its value")]
    Line {
        /// The file.
        path: String,
        /// Number of the line, from 1.
        line: usize,
    },
    /// A line about a property that the service does not have, or has with another type or in the other file.
    #[error("{path}:{line}: this service has no property {name} of this type here")]
    Unknown {
        /// The file.
        path: String,
        /// Number of the line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A value that does not fit.
    #[error("{path}:{line}: {bad}")]
    Value {
        /// The file.
        path: String,
        /// Number of the line, from 1.
        line: usize,
        /// The property and what it takes.
        bad: BadValue,
    },
    /// A value that is to be set and does not fit.
    #[error(transparent)]
    Bad(#[from] BadValue),
    /// The file is too long to be one of ours.
    #[error("{0}: longer than 1 MiB")]
    TooLong(String),
}

impl PropertyError {
    fn io(path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Io { path: path.display().to_string(), error: error.into() }
    }

    /// Whether a permission is missing.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The values of a service.
#[derive(Debug)]
pub struct Values {
    set: BTreeMap<&'static str, Zeroizing<String>>,
    /// Private properties could be read.
    complete: bool,
}

impl Values {
    /// The value of a property: what was set, else the default. `None` for a private one that this user may not read.
    #[must_use]
    pub fn get(&self, property: &Property) -> Option<&str> {
        if property.private && !self.complete {
            return None;
        }
        Some(self.set.get(property.name).map_or(property.default, |value| value.as_str()))
    }

    /// Whether somebody has set it.
    #[must_use]
    pub fn is_set(&self, property: &Property) -> bool {
        self.set.contains_key(property.name)
    }
}

/// A directory with properties.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Properties in `directory`; [`DIRECTORY`] has those of this host.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The values of a service. Without a file every property has its default.
    ///
    /// # Errors
    /// A file cannot be read or has a line that does not fit. That private properties may not be read is no error.
    pub fn read(&self, service: &Service) -> Result<Values, PropertyError> {
        let mut values = Values { set: BTreeMap::new(), complete: true };
        self.read_file(service, false, &mut values)?;
        match self.read_file(service, true, &mut values) {
            Err(error) if error.is_permission() => values.complete = false,
            other => other?,
        }
        Ok(values)
    }

    /// Sets properties, or takes their values away; all of them or none.
    ///
    /// # Errors
    /// A value does not fit, or a file cannot be read or written.
    pub fn change(
        &self,
        service: &Service,
        changes: &[(&'static Property, Option<Zeroizing<String>>)],
    ) -> Result<(), PropertyError> {
        for (property, value) in changes {
            property.check(value.as_ref().map_or(property.default, |value| value.as_str()))?;
        }
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&self.directory);
        made.map_err(|error| PropertyError::io(&self.directory, error))?;
        let path = self.directory.join(".lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let file = options.open(&path).map_err(|error| PropertyError::io(&path, error))?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| PropertyError::io(&path, error))?;
        let mut values = self.read(service)?;
        if !values.complete && changes.iter().any(|(property, _)| property.private) {
            return Err(PropertyError::io(&self.path(service, true), io::Error::from(io::ErrorKind::PermissionDenied)));
        }
        for (property, value) in changes {
            match value {
                Some(value) => values.set.insert(property.name, value.clone()),
                None => values.set.remove(property.name),
            };
        }
        for private in [false, true] {
            if changes.iter().any(|(property, _)| property.private == private) {
                self.write(service, private, &values)?;
            }
        }
        Ok(())
    }

    fn path(&self, service: &Service, private: bool) -> PathBuf {
        let name = if private { format!("{}.private", service.file) } else { service.file.to_owned() };
        self.directory.join(name)
    }

    fn read_file(&self, service: &Service, private: bool, values: &mut Values) -> Result<(), PropertyError> {
        let path = self.path(service, private);
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(PropertyError::io(&path, error)),
        };
        let mut text = Zeroizing::new(String::with_capacity(4096));
        let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| PropertyError::io(&path, e))?;
        let path = path.display().to_string();
        if length as u64 > MAX_FILE {
            return Err(PropertyError::TooLong(path));
        }
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            let mut parts = text.splitn(3, ' ');
            let (Some(name), Some(kind)) = (parts.next(), parts.next()) else {
                return Err(PropertyError::Line { path, line });
            };
            let property = service.property(name).filter(|p| p.kind.name() == kind && p.private == private);
            let Some(property) = property else {
                return Err(PropertyError::Unknown { path, line, name: name.chars().take(MAX_VALUE).collect() });
            };
            let value = parts.next().unwrap_or_default();
            if let Err(bad) = property.check(value) {
                return Err(PropertyError::Value { path, line, bad });
            }
            values.set.insert(property.name, Zeroizing::new(value.to_owned()));
        }
        Ok(())
    }

    fn write(&self, service: &Service, private: bool, values: &Values) -> Result<(), PropertyError> {
        let path = self.path(service, private);
        let mut text = Zeroizing::new(String::with_capacity(64 * 1024));
        text.push_str("# Properties of ");
        text.push_str(service.fmri);
        text.push_str(", written by ipsecprop(8).\n");
        for property in service.properties.iter().filter(|property| property.private == private) {
            if let Some(value) = values.set.get(property.name) {
                for part in [property.name, " ", property.kind.name(), " ", value, "\n"] {
                    text.push_str(part);
                }
            }
        }
        // Whatever the umask: everybody may read what is not private.
        let mode = if private { 0o600 } else { 0o644 };
        whole_files::replace(&path, mode, text.as_bytes()).map_err(|error| PropertyError::io(&path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn ike() -> &'static Service {
        Service::find("ike:ikev2").unwrap()
    }

    fn to(value: &str) -> Option<Zeroizing<String>> {
        Some(Zeroizing::new(value.to_owned()))
    }

    #[test]
    fn what_is_set_is_read_and_what_is_not_has_its_default() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("deep/er"));
        let file = ike().property("config/config_file").unwrap();
        let level = ike().property("config/debug_level").unwrap();
        assert_eq!(store.read(ike()).unwrap().get(file), Some("/etc/inet/ike/ikev2.config"));
        store.change(ike(), &[(file, to("/a b")), (level, to("all"))]).unwrap();
        let values = store.read(ike()).unwrap();
        assert_eq!((values.get(file), values.get(level)), (Some("/a b"), Some("all")));
        store.change(ike(), &[(file, None)]).unwrap();
        let values = store.read(ike()).unwrap();
        assert_eq!((values.get(file), values.get(level)), (Some(file.default), Some("all")));
        assert!(!values.is_set(file) && values.is_set(level));
    }

    #[test]
    fn one_bad_value_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let file = ike().property("config/config_file").unwrap();
        let ignore = ike().property("config/ignore_errors").unwrap();
        let error = store.change(ike(), &[(file, to("/new")), (ignore, to("maybe"))]).unwrap_err();
        assert_eq!(error.to_string(), "config/ignore_errors takes true or false");
        assert!(!store.read(ike()).unwrap().is_set(file));
    }

    #[test]
    fn private_properties_are_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let pin = ike().property("pkcs11_token/pin").unwrap();
        let level = ike().property("config/debug_level").unwrap();
        store.change(ike(), &[(pin, to("secret")), (level, to("all"))]).unwrap();
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("ike-ikev2"), mode("ike-ikev2.private")), (0o644, 0o600));
        assert!(!std::fs::read_to_string(dir.path().join("ike-ikev2")).unwrap().contains("secret"));
        assert_eq!(store.read(ike()).unwrap().get(pin), Some("secret"));
        // Somebody else gets the rest.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let values = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                // SAFETY: the system call changes the effective user of this thread alone, which ends with the block.
                assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
                store.read(ike()).unwrap()
            });
            other.join().unwrap()
        });
        assert_eq!((values.get(pin), values.get(level)), (None, Some("all")));
        // In the file that everybody reads it is refused.
        std::fs::write(dir.path().join("ike-ikev2"), "pkcs11_token/pin astring secret\n").unwrap();
        let error = store.read(ike()).unwrap_err().to_string();
        assert!(error.contains(":1: ") && error.contains("pkcs11_token/pin") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn what_was_edited_badly_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        for (text, expected) in [
            ("# fine\n\nconfig/debug_level\n", ":3: expected a property"),
            ("config/debug_level count 1\n", ":1: this service has no property config/debug_level"),
            ("config/loud boolean true\n", ":1: this service has no property config/loud"),
            ("config/ignore_errors boolean perhaps\n", ":1: config/ignore_errors takes true or false"),
        ] {
            std::fs::write(dir.path().join("ike-ikev2"), text).unwrap();
            let error = store.read(ike()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::write(dir.path().join("ike-ikev2"), [0xff, 0xfe]).unwrap();
        assert!(matches!(store.read(ike()), Err(PropertyError::Io { .. })));
    }

    #[test]
    fn changes_at_once_lose_none() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["config/config_file", "config/preshared_file", "config/debug_logfile"];
        std::thread::scope(|scope| {
            for name in names {
                let store = Store::new(dir.path());
                scope.spawn(move || {
                    for round in 0..50 {
                        let value = format!("/{name}/{round}");
                        store.change(ike(), &[(ike().property(name).unwrap(), to(&value))]).unwrap();
                    }
                });
            }
        });
        let values = Store::new(dir.path()).read(ike()).unwrap();
        for name in names {
            assert_eq!(values.get(ike().property(name).unwrap()), Some(format!("/{name}/49").as_str()));
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(text in "(config/(debug_level|config_file|x)? ?(astring|count)? ?.{0,20}\n){0,4}") {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("ike-ikev2"), &text).unwrap();
            let _ = Store::new(dir.path()).read(ike());
        }

        #[test]
        fn any_value_that_fits_comes_back(value in "/\\PC{0,40}") {
            let dir = tempfile::tempdir().unwrap();
            let (store, file) = (Store::new(dir.path()), ike().property("config/config_file").unwrap());
            if file.check(&value).is_ok() {
                store.change(ike(), &[(file, to(&value))]).unwrap();
                let values = store.read(ike()).unwrap();
                prop_assert_eq!(values.get(file), Some(value.as_str()));
            }
        }
    }
}
