//! The services and their properties, by the names of Solaris.

use ike_door::{DebugLevel, Privilege};

/// A service.
#[derive(Debug)]
pub struct Service {
    /// Its name in SMF.
    pub fmri: &'static str,
    /// The unit of systemd that stands for it.
    pub unit: &'static str,
    /// Name of the file with its properties.
    pub file: &'static str,
    /// What it has.
    pub properties: &'static [Property],
}

/// A property of a service.
#[derive(Debug)]
pub struct Property {
    /// Group and name, for example `config/config_file`.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Its value where none is set.
    pub default: &'static str,
    /// Only root may read it.
    pub private: bool,
    /// What is missing in this release; such a property has its default and cannot be set.
    pub missing: Option<&'static str>,
    /// What it says, in a few words.
    pub about: &'static str,
}

/// The type of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An absolute path.
    Path,
    /// An absolute path or nothing.
    OptionalPath,
    /// Text without control characters.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A number from the first to the second, both included.
    Count(u64, u64),
    /// The same, or nothing.
    OptionalCount(u64, u64),
    /// What `ikeadm set debug` takes.
    DebugLevel,
    /// What `ikeadm set priv` takes.
    Privilege,
}

/// Why a value does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} takes {expected}")]
pub struct BadValue {
    /// The property. The value is not told: it may be a secret.
    pub name: &'static str,
    /// What it takes.
    pub expected: String,
}

/// Longest value, in octets.
pub const MAX_VALUE: usize = 1024;

impl Kind {
    /// The type that SMF has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Count(..) | Self::OptionalCount(..) => "count",
            Self::Path | Self::OptionalPath | Self::Text | Self::DebugLevel | Self::Privilege => "astring",
        }
    }

    /// What values it takes, for people.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Path => "an absolute path".to_owned(),
            Self::OptionalPath => "an absolute path or nothing".to_owned(),
            Self::Text => format!("at most {MAX_VALUE} octets of text without control characters"),
            Self::Boolean => "true or false".to_owned(),
            Self::Count(least, most) => format!("a number from {least} to {most}"),
            Self::OptionalCount(least, most) => format!("a number from {least} to {most} or nothing"),
            Self::DebugLevel => "debug categories, as ikeadm set debug does".to_owned(),
            Self::Privilege => "base, modkeys or keymat".to_owned(),
        }
    }

    fn takes(self, value: &str) -> bool {
        if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            return false;
        }
        match self {
            Self::Path => value.starts_with('/') && value.trim() == value,
            Self::OptionalPath => value.is_empty() || Self::Path.takes(value),
            Self::Text => value.trim() == value,
            Self::Boolean => matches!(value, "true" | "false"),
            // "007" and "+7" are numbers as well, but no way to write one twice.
            Self::Count(least, most) => {
                value.parse::<u64>().is_ok_and(|n| (least..=most).contains(&n) && n.to_string() == value)
            }
            Self::OptionalCount(least, most) => value.is_empty() || Self::Count(least, most).takes(value),
            Self::DebugLevel => DebugLevel::parse(value).is_ok(),
            Self::Privilege => Privilege::parse(value).is_some(),
        }
    }
}

impl Property {
    const fn new(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Self {
        Self { name, kind, default, private: false, missing: None, about }
    }

    const fn private(self) -> Self {
        Self { private: true, ..self }
    }

    const fn without(self, missing: &'static str) -> Self {
        Self { missing: Some(missing), ..self }
    }

    /// Whether `value` fits.
    ///
    /// # Errors
    /// What the property takes instead.
    pub fn check(&self, value: &str) -> Result<(), BadValue> {
        if self.kind.takes(value) {
            return Ok(());
        }
        Err(BadValue { name: self.name, expected: self.kind.expected() })
    }
}

impl Service {
    /// The service that somebody means by `name`: its name in SMF, whole or from any part of the path on, with or without
    /// `:default`, or its unit.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        SERVICES.iter().find(|service| {
            let path = service.fmri.strip_prefix("svc:/").unwrap_or(service.fmri);
            let short = path.strip_suffix(":default").unwrap_or(path);
            let unit = service.unit.strip_suffix(".service").unwrap_or(service.unit);
            name == service.fmri
                || [service.unit, unit].contains(&name)
                || [path, short].iter().any(|path| *path == name || path.ends_with(&format!("/{name}")))
        })
    }

    /// The property of this name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'static Property> {
        self.properties.iter().find(|property| property.name == name)
    }
}

/// Every service that has properties, in the order of their start.
pub const SERVICES: &[Service] = &[
    Service {
        fmri: "svc:/network/ipsec/policy:default",
        unit: "ipsec-policy.service",
        file: "policy",
        properties: &[Property::new(
            "config/config_file",
            Kind::Path,
            "/etc/inet/ipsecinit.conf",
            "file with the policy; without it there is none",
        )],
    },
    Service {
        fmri: "svc:/network/ipsec/manual-key:default",
        unit: "ipsec-manual-key.service",
        file: "manual-key",
        properties: &[Property::new(
            "config/config_file",
            Kind::Path,
            "/etc/inet/secret/ipseckeys",
            "file with the security associations",
        )],
    },
    Service {
        fmri: "svc:/network/ipsec/ike:ikev2",
        unit: "ipsec-ikev2.service",
        file: "ike-ikev2",
        properties: &[
            Property::new("config/config_file", Kind::Path, "/etc/inet/ike/ikev2.config", "file with the rules"),
            Property::new(
                "config/preshared_file",
                Kind::OptionalPath,
                "",
                "file with the keys; unset, /etc/inet/ike/ikev2.preshared, which may be missing",
            ),
            Property::new(
                "config/keystore",
                Kind::Path,
                "/var/user/ikeuser",
                "directory with certificates, private keys and CRLs",
            ),
            Property::new("config/debug_level", Kind::DebugLevel, "op", "categories in the log"),
            Property::new("config/debug_logfile", Kind::OptionalPath, "", "file for the log; unset, the journal"),
            Property::new("config/ignore_errors", Kind::Boolean, "false", "start without the file that is refused"),
            Property::new("config/admin_privilege", Kind::Privilege, "base", "what ikeadm may see of keys"),
            Property::new("config/min_threads", Kind::Count(1, 1024), "1", "threads kept").without(ONE_THREAD),
            Property::new("config/max_threads", Kind::Count(1, 1024), "1", "threads at most").without(ONE_THREAD),
            Property::new(
                "config/response_wait_time",
                Kind::OptionalCount(1, 3600),
                "",
                "seconds to wait for an answer; unset, as retry_limit of ikev2.config says",
            ),
            Property::new("config/fragmentation_enable", Kind::Boolean, "false", "cut long messages (RFC 7383)"),
            Property::new(
                "config/fragmentation_mtu",
                Kind::Count(576, 9216),
                "1350",
                "octets of the longest IP packet that a message takes",
            ),
            Property::new("pkcs11_token/uri", Kind::Text, "", "token with certificates and keys").without(NO_TOKENS),
            Property::new("pkcs11_token/pin", Kind::Text, "", "PIN of the token").private().without(NO_TOKENS),
        ],
    },
];

const ONE_THREAD: &str = "in.ikev2d has one thread for the protocol";
const NO_TOKENS: &str = "certificates and tokens are not there";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_fits_and_every_name_is_there_once() {
        for service in SERVICES {
            for (at, property) in service.properties.iter().enumerate() {
                assert_eq!(property.check(property.default), Ok(()), "{}", property.name);
                let first = service.properties.iter().position(|other| other.name == property.name);
                assert_eq!(first, Some(at), "{}", property.name);
                assert!(property.name.split('/').count() == 2 && !property.name.contains([' ', '=']));
            }
        }
    }

    #[test]
    fn services_are_found_by_what_people_type() {
        let unit = |name: &str| Service::find(name).map(|service| service.unit);
        for name in [
            "svc:/network/ipsec/policy:default",
            "network/ipsec/policy",
            "ipsec/policy:default",
            "policy",
            "ipsec-policy",
            "ipsec-policy.service",
        ] {
            assert_eq!(unit(name), Some("ipsec-policy.service"), "{name}");
        }
        assert_eq!(unit("ike:ikev2"), Some("ipsec-ikev2.service"));
        for none in ["", "ike", "ikev2", "icy", "svc:/", "network/ipsec"] {
            assert_eq!(unit(none), None, "{none}");
        }
    }

    #[test]
    fn values_have_types_and_ranges() {
        let cases: [(Kind, &[&str], &[&str]); 8] = [
            (Kind::OptionalCount(1, 9), &["", "1", "9"], &["0", "10", " ", "x"]),
            (Kind::Path, &["/a", "/a b"], &["", "a", "/a\n", " /a", "/a "]),
            (Kind::OptionalPath, &["", "/a"], &["a", "./a"]),
            (Kind::Text, &["", "pkcs11:token=x"], &["a\0", "\t", " a"]),
            (Kind::Boolean, &["true", "false"], &["", "TRUE", "1", "yes"]),
            (Kind::Count(576, 9216), &["576", "9216"], &["575", "9217", "-1", "+600", "0600", "600 ", "0x300", ""]),
            (Kind::DebugLevel, &["op", "all", "op+p1", "0x1"], &["", "loud", "op+"]),
            (Kind::Privilege, &["base", "modkeys", "keymat"], &["", "root"]),
        ];
        for (kind, good, bad) in cases {
            for value in good {
                assert!(kind.takes(value), "{kind:?} {value:?}");
            }
            for value in bad {
                assert!(!kind.takes(value), "{kind:?} {value:?}");
            }
        }
        assert!(!Kind::Text.takes(&"x".repeat(MAX_VALUE + 1)));
    }
}
