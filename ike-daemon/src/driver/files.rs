//! The daemon's files: the two it reads, and the runtime directory of its instance.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tracing::{info, warn};

use crate::config::{self, ConfigError, ConfiguredRule, FileError, PresharedKeys, Report, RuleSet};
use crate::pki::KeyStore;

/// Where the keys are when nothing says otherwise.
pub const DEFAULT_PRESHARED: &str = "/etc/inet/ike/ikev2.preshared";

/// Where certificates and their keys are when nothing says otherwise: the home of the daemon's user.
pub const DEFAULT_KEY_STORE: &str = "/var/user/ikeuser";

/// The files of in.ikev2d.
#[derive(Debug, Clone)]
pub struct Files {
    /// ikev2.config.
    pub config: PathBuf,
    /// ikev2.preshared.
    pub preshared: PathBuf,
    /// Whether the administrator named the latter: then it has to be there.
    pub preshared_named: bool,
    /// Directory with `certs`, `private` and `crls`.
    pub key_store: PathBuf,
}

/// What the files say.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// The rules, with their keys attached.
    pub rules: RuleSet,
    /// The keys, to be attached again when the rules change.
    pub keys: PresharedKeys,
    /// Certificates, private keys and CRLs.
    pub store: Arc<KeyStore>,
}

impl Files {
    /// Reads all; nothing of any is used unless all are sound.
    ///
    /// # Errors
    /// What is wrong with the first bad one; rules are read before keys, those before certificates.
    pub fn load(&self) -> Result<(Configuration, Vec<Report>), ConfigError> {
        let rules = config::load_rules(&self.config)?;
        let mut warnings = vec![rules.warnings];
        let keys = self.load_keys(&mut warnings)?;
        let store = self.load_store()?;
        let mut configuration = Configuration { rules: rules.value, keys, store };
        configuration.attach();
        Ok((configuration, warnings))
    }

    /// Reads all; one that is refused says nothing.
    pub(super) fn load_sound(&self) -> (Configuration, Vec<Report>) {
        let mut warnings = Vec::new();
        let mut rules = RuleSet::default();
        if let Ok(loaded) = config::load_rules(&self.config) {
            warnings.push(loaded.warnings);
            rules = loaded.value;
        }
        let keys = self.load_keys(&mut warnings).unwrap_or_default();
        let store = self.load_store().unwrap_or_default();
        let mut configuration = Configuration { rules, keys, store };
        configuration.attach();
        (configuration, warnings)
    }

    /// Reads the key store; what is left out goes to the log. No directory is an empty one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load_store(&self) -> Result<Arc<KeyStore>, ConfigError> {
        let (store, notes) = KeyStore::load(&self.key_store)?;
        for note in notes {
            warn!(target: "ikev2d::config", "{note}");
        }
        Ok(Arc::new(store))
    }

    /// Reads the keys. No file is no keys, unless the administrator named it.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load_keys(&self, warnings: &mut Vec<Report>) -> Result<PresharedKeys, ConfigError> {
        match config::load_preshared(&self.preshared) {
            Ok(keys) => {
                warnings.push(keys.warnings);
                Ok(keys.value)
            }
            Err(ConfigError::File(FileError::Io { error, .. }))
                if error.kind() == io::ErrorKind::NotFound && !self.preshared_named =>
            {
                Ok(PresharedKeys::default())
            }
            Err(error) => Err(error),
        }
    }
}

impl Configuration {
    /// Attaches the keys to the rules and says which rules are left without.
    pub fn attach(&mut self) {
        let without = self.keys.attach(&mut self.rules);
        if !without.is_empty() {
            let labels = without.join(", ");
            warn!(target: "ikev2d::config", labels, "rules without a preshared key: negotiations under them will fail");
        }
        let without = self.rules.settle(&self.store);
        if !without.is_empty() {
            let labels = without.join(", ");
            let text = "rules whose local_id no certificate with a private key has: negotiations under them will fail";
            warn!(target: "ikev2d::config", labels, "{text}");
        }
    }
}

/// Tells the log what a load found.
pub(super) fn report(configuration: &Configuration, warnings: &[Report]) {
    for report in warnings.iter().filter(|report| !report.is_empty()) {
        for line in report.to_string().lines() {
            warn!(target: "ikev2d::config", "{line}");
        }
    }
    info!(target: "ikev2d::config", rules = configuration.rules.rules().len(), keys = configuration.keys.entries().len(),
        certificates = configuration.store.certificates().len(), own = configuration.store.own().len(),
        "configuration in force");
}

/// The right to be the in.ikev2d of an instance; given back when dropped, or by death.
#[derive(Debug)]
pub struct DaemonLock {
    _file: Flock<File>,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is a daemon already.
    #[error("an in.ikev2d of this instance runs already ({0} is locked)")]
    Running(PathBuf),
    /// The file cannot be made.
    #[error("{path}: {error}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DaemonLock {
    /// Takes the lock in `run_dir` and writes the process id into it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(run_dir: &Path) -> Result<Self, LockError> {
        let path = run_dir.join("in.ikev2d.pid");
        let failed = |error: io::Error| LockError::Io { path: path.clone(), error };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(failed)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(LockError::Running(path)),
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The cookie under which the SADB shows that an SA was negotiated under the rule with this label. It depends on nothing
/// but the label, so that it still means the same after the file was changed.
pub(super) fn cookie(label: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, label.as_bytes());
    let first = digest.as_ref().first_chunk::<4>().copied().unwrap_or_default();
    // 0 is no cookie.
    u64::from(u32::from_be_bytes(first)).max(1)
}

/// Writes the labels behind the cookies of the SAs, for tools that show them: `cookie<TAB>label` per line.
pub(super) fn write_labels(run_dir: &Path, rules: &RuleSet) -> io::Result<()> {
    let line = |rule: &ConfiguredRule| format!("{}\t{}\n", cookie(&rule.rule.label), rule.rule.label);
    let text: String = rules.rules().iter().map(line).collect();
    whole_files::replace(&run_dir.join("ipsec_kmc_map"), 0o600, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const RULES: &str = "ikesa_xform { encr_alg aes-gcm oakley_group 31 } auth_method preshared
        { label \"a\" local_addr ::1 remote_addr ::2 } { label \"b\" local_addr ::1 remote_addr ::3 }";

    fn files(dir: &Path) -> Files {
        Files {
            config: dir.join("ikev2.config"),
            preshared: dir.join("ikev2.preshared"),
            preshared_named: false,
            key_store: dir.join("store"),
        }
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn keys_may_be_missing_unless_they_were_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(dir.path());
        assert!(matches!(files.load(), Err(ConfigError::File(FileError::Io { .. }))));
        write(&files.config, RULES);
        let (configuration, _) = files.load().unwrap();
        assert!(configuration.rules.rules().iter().all(|rule| rule.rule.psk.is_none()));
        files.preshared_named = true;
        assert!(files.load().is_err());
        write(&files.preshared, "{ label \"b\" key 0x00112233445566778899aabbccddeeff }");
        let (configuration, _) = files.load().unwrap();
        let with: Vec<bool> = configuration.rules.rules().iter().map(|rule| rule.rule.psk.is_some()).collect();
        assert_eq!(with, [false, true]);
    }

    #[test]
    fn a_refused_file_says_nothing_and_the_other_holds() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        write(&files.config, RULES);
        write(&files.preshared, "{ label }");
        let (configuration, _) = files.load_sound();
        assert_eq!((configuration.rules.rules().len(), configuration.keys.entries().len()), (2, 0));
        write(&files.config, "{");
        write(&files.preshared, "{ label \"b\" key 0x00112233445566778899aabbccddeeff }");
        let (configuration, _) = files.load_sound();
        assert_eq!((configuration.rules.rules().len(), configuration.keys.entries().len()), (0, 1));
    }

    #[test]
    fn one_daemon_per_instance() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DaemonLock::take(dir.path()).unwrap();
        let error = DaemonLock::take(dir.path()).unwrap_err();
        assert!(error.to_string().contains("runs already"), "{error}");
        drop(lock);
        DaemonLock::take(dir.path()).unwrap();
        let pid = fs::read_to_string(dir.path().join("in.ikev2d.pid")).unwrap();
        assert_eq!(pid.trim().parse(), Ok(std::process::id()));
    }

    #[test]
    fn labels_stand_behind_their_cookies() {
        let dir = tempfile::tempdir().unwrap();
        let rules = config::parse_rules("f", RULES).unwrap().value;
        write_labels(dir.path(), &rules).unwrap();
        let text = fs::read_to_string(dir.path().join("ipsec_kmc_map")).unwrap();
        assert_eq!(text, format!("{}\ta\n{}\tb\n", cookie("a"), cookie("b")));
        assert_ne!(cookie("a"), cookie("b"));
    }
}
