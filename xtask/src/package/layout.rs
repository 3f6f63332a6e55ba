//! What the suite installs: each file with its place, its mode and where it comes from. One list for the package and for
//! the tests that run what is installed.

use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Programs by the names that they are built and installed under.
const PROGRAMS: [(&str, &str); 8] = [
    ("espadm", "/usr/sbin/espadm"),
    ("ikeadm", "/usr/sbin/ikeadm"),
    ("in-ikev2d", "/usr/sbin/in.ikev2d"),
    ("ipsec-method", "/usr/libexec/ipsec/ipsec-method"),
    ("ipsecalgs", "/usr/sbin/ipsecalgs"),
    ("ipsecconf", "/usr/sbin/ipsecconf"),
    ("ipseckey", "/usr/sbin/ipseckey"),
    ("ipsecprop", "/usr/sbin/ipsecprop"),
];

/// Directories, the end of the names of their files, and where those are installed.
const SOURCES: [(&str, &str, &str); 10] = [
    ("docs/man", ".5", "/usr/share/man/man5"),
    ("docs/man", ".7", "/usr/share/man/man7"),
    ("docs/man", ".8", "/usr/share/man/man8"),
    ("packaging/logrotate", "", "/etc/logrotate.d"),
    ("packaging/polkit", ".policy", "/usr/share/polkit-1/actions"),
    ("packaging/polkit", ".rules", "/usr/share/polkit-1/rules.d"),
    ("packaging/systemd", ".mount", "/lib/systemd/system"),
    ("packaging/systemd", ".preset", "/lib/systemd/system-preset"),
    ("packaging/systemd", ".service", "/lib/systemd/system"),
    ("packaging/sysusers", ".conf", "/usr/lib/sysusers.d"),
];

/// The commands that people type, by the names that they are built and installed under.
pub(crate) fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROGRAMS.iter().filter_map(|(built, path)| Some((*built, path.strip_prefix("/usr/sbin/")?)))
}
/// Directories for files of the administrator: the first is for all to see, what has keys is not.
const DIRECTORIES: [(&str, u32); 3] = [("/etc/inet", 0o755), ("/etc/inet/ike", 0o700), ("/etc/inet/secret", 0o700)];

/// One installed file.
#[derive(Debug)]
pub(crate) struct Installed {
    /// Where it comes from.
    pub(crate) source: PathBuf,
    /// Where it goes, from the root.
    pub(crate) path: String,
    /// Its permission bits.
    pub(crate) mode: u32,
}

impl Installed {
    /// Whether it is a program of ours.
    pub(crate) fn is_program(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// Whether it is a manual page.
    pub(crate) fn is_manual(&self) -> bool {
        self.path.starts_with("/usr/share/man/")
    }
}

/// Every file, with the programs of `binaries`.
///
/// # Errors
/// Something is not there.
pub(crate) fn files(binaries: &Path) -> Result<Vec<Installed>> {
    let mut files: Vec<Installed> = PROGRAMS
        .iter()
        .map(|(built, path)| Installed { source: binaries.join(built), path: (*path).to_owned(), mode: 0o755 })
        .collect();
    for (directory, end, to) in SOURCES {
        let before = files.len();
        for source in listed(&root().join(directory))? {
            let name = name(&source)?;
            if name.ends_with(end) {
                files.push(Installed { path: format!("{to}/{name}"), source, mode: 0o644 });
            }
        }
        ensure!(files.len() > before, "{directory} has nothing that ends with {end:?}");
    }
    for file in &files {
        ensure!(file.source.is_file(), "{} is not there: build the workspace first", file.source.display());
    }
    Ok(files)
}

/// The names of the units, as systemd knows them.
///
/// # Errors
/// The directory of the units cannot be read.
pub(crate) fn units() -> Result<Vec<String>> {
    let all = listed(&root().join("packaging/systemd"))?;
    let names: Vec<String> = all.iter().map(|path| name(path)).collect::<Result<_>>()?;
    Ok(names.into_iter().filter(|name| !name.ends_with(".preset")).collect())
}

/// Puts every file and directory below `directory`, as if that were the root.
///
/// # Errors
/// A file cannot be copied.
pub(crate) fn stage(binaries: &Path, directory: &Path) -> Result<()> {
    for file in files(binaries)? {
        let to = below(directory, &file.path);
        if let Some(parent) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        fs::copy(&file.source, &to).with_context(|| format!("copying {}", file.source.display()))?;
        fs::set_permissions(&to, Permissions::from_mode(file.mode))?;
    }
    for (path, mode) in DIRECTORIES {
        let path = below(directory, path);
        DirBuilder::new().recursive(true).create(&path).with_context(|| format!("creating {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// `path` with `directory` for the root.
pub(crate) fn below(directory: &Path, path: &str) -> PathBuf {
    directory.join(path.trim_start_matches('/'))
}

/// The files of a directory, in the order of their names.
fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).with_context(|| format!("{} has no name in UTF-8", path.display()))
}
