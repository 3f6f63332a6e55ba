//! What the daemon is told: options, and under a service manager the properties of its service, which options override.

use std::path::PathBuf;
use std::time::Duration;

use ike_door::{DebugLevel, Privilege};
use service_properties::{PropertyError, Service, Store};

use super::files::{DEFAULT_KEY_STORE, DEFAULT_PRESHARED, Files};

/// The service whose properties in.ikev2d reads.
const SERVICE: &str = "svc:/network/ipsec/ike:ikev2";

/// What the options say, and where properties are.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// ikev2.config.
    pub config: Option<PathBuf>,
    /// ikev2.preshared.
    pub preshared: Option<PathBuf>,
    /// Directory with certificates and private keys.
    pub key_store: Option<PathBuf>,
    /// Debug level of the log.
    pub debug: Option<DebugLevel>,
    /// Privilege level of the door.
    pub privilege: Option<Privilege>,
    /// Octets of an IP packet above which messages go in fragments.
    pub fragment_mtu: Option<u16>,
    /// How long to wait for the answer to a request, in seconds.
    pub response_wait: Option<u16>,
    /// Properties; without a store each has its default.
    pub store: Option<Store>,
}

/// What holds.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Files to read.
    pub files: Files,
    /// Start without what is wrong in them.
    pub ignore_errors: bool,
    /// Debug level of the log.
    pub debug: DebugLevel,
    /// File of the log; standard error without.
    pub log_file: Option<PathBuf>,
    /// Privilege level of the door.
    pub privilege: Privilege,
    /// Octets of an IP packet above which messages go in fragments; `None` for never.
    pub fragment_mtu: Option<u16>,
    /// How long to wait for the answer to a request; `None` as the rules say.
    pub response_wait: Option<Duration>,
}

impl Choices {
    /// Options, then properties, then defaults.
    ///
    /// # Errors
    /// The file with the properties cannot be read or is bad.
    pub fn chosen(&self) -> Result<Chosen, PropertyError> {
        let service = Service::find(SERVICE);
        let values = match (&self.store, service) {
            (Some(store), Some(service)) => Some(store.read(service)?),
            _ => None,
        };
        let value = |name: &str| {
            let property = service.and_then(|service| service.property(name))?;
            let value = values.as_ref().map_or(Some(property.default), |values| values.get(property));
            value.filter(|value| !value.is_empty())
        };
        let path = |name: &str| value(name).map(PathBuf::from);
        let preshared = self.preshared.clone().or_else(|| path("config/preshared_file"));
        // What is read here fits its property; what could not be understood nevertheless is the careful choice.
        let debug = value("config/debug_level").and_then(|level| DebugLevel::parse(level).ok());
        let privilege = value("config/admin_privilege").and_then(Privilege::parse);
        let cuts = value("config/fragmentation_enable") == Some("true");
        let fragment_mtu = value("config/fragmentation_mtu").filter(|_| cuts).and_then(|mtu| mtu.parse().ok());
        let response_wait = value("config/response_wait_time").and_then(|seconds| seconds.parse().ok());
        Ok(Chosen {
            files: Files {
                config: self.config.clone().or_else(|| path("config/config_file")).unwrap_or_default(),
                preshared_named: preshared.is_some(),
                preshared: preshared.unwrap_or_else(|| PathBuf::from(DEFAULT_PRESHARED)),
                key_store: self
                    .key_store
                    .clone()
                    .or_else(|| path("config/keystore"))
                    .unwrap_or_else(|| PathBuf::from(DEFAULT_KEY_STORE)),
            },
            ignore_errors: value("config/ignore_errors") == Some("true"),
            debug: self.debug.or(debug).unwrap_or(DebugLevel::OPERATIONAL),
            log_file: path("config/debug_logfile"),
            privilege: self.privilege.or(privilege).unwrap_or(Privilege::Base),
            fragment_mtu: self.fragment_mtu.or(fragment_mtu),
            response_wait: self.response_wait.or(response_wait).map(|seconds| Duration::from_secs(seconds.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn options_override_properties_and_those_defaults() {
        let chosen = Choices::default().chosen().unwrap();
        assert_eq!(chosen.files.config, Path::new("/etc/inet/ike/ikev2.config"));
        assert_eq!(chosen.files.preshared, Path::new(DEFAULT_PRESHARED));
        assert_eq!(chosen.files.key_store, Path::new(DEFAULT_KEY_STORE));
        assert!(!chosen.files.preshared_named && !chosen.ignore_errors && chosen.log_file.is_none());
        assert_eq!((chosen.debug, chosen.privilege), (DebugLevel::OPERATIONAL, Privilege::Base));
        assert_eq!((chosen.fragment_mtu, chosen.response_wait), (None, None));
        let dir = tempfile::tempdir().unwrap();
        let text = "config/config_file astring /p/config\nconfig/keystore astring /p/store\nconfig/preshared_file astring /p/keys\n\
            config/debug_level astring all\nconfig/debug_logfile astring /p/log\n\
            config/ignore_errors boolean true\nconfig/admin_privilege astring keymat\n\
            config/fragmentation_enable boolean true\nconfig/response_wait_time count 90\n";
        std::fs::write(dir.path().join("ike-ikev2"), text).unwrap();
        let mut choices = Choices { store: Some(Store::new(dir.path())), ..Choices::default() };
        let chosen = choices.chosen().unwrap();
        assert_eq!(chosen.files.config, Path::new("/p/config"));
        assert_eq!(chosen.files.preshared, Path::new("/p/keys"));
        assert_eq!(chosen.files.key_store, Path::new("/p/store"));
        assert!(chosen.files.preshared_named && chosen.ignore_errors);
        assert_eq!(chosen.log_file.as_deref(), Some(Path::new("/p/log")));
        assert_eq!((chosen.debug, chosen.privilege), (DebugLevel::ALL, Privilege::Keymat));
        assert_eq!(chosen.fragment_mtu, Some(1350));
        assert_eq!(chosen.response_wait, Some(Duration::from_secs(90)));
        choices.config = Some("/o/config".into());
        choices.preshared = Some("/o/keys".into());
        choices.key_store = Some("/o/store".into());
        choices.fragment_mtu = Some(576);
        choices.response_wait = Some(5);
        choices.debug = Some(DebugLevel::CONFIG);
        choices.privilege = Some(Privilege::Modkeys);
        let chosen = choices.chosen().unwrap();
        assert_eq!(chosen.files.config, Path::new("/o/config"));
        assert_eq!(chosen.files.preshared, Path::new("/o/keys"));
        assert_eq!(chosen.files.key_store, Path::new("/o/store"));
        assert_eq!((chosen.debug, chosen.privilege), (DebugLevel::CONFIG, Privilege::Modkeys));
        assert_eq!((chosen.fragment_mtu, chosen.response_wait), (Some(576), Some(Duration::from_secs(5))));
        std::fs::write(dir.path().join("ike-ikev2"), "config/ignore_errors boolean maybe\n").unwrap();
        assert!(choices.chosen().is_err());
    }
}
