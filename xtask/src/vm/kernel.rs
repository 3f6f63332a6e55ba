//! Kernels of Debian: fetched as packages, unpacked below `target/vm`, never installed.

use crate::debian;
use crate::workspace::{run, run_text, target};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A line of kernels that the tests know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// How the user names it.
    pub name: &'static str,
    /// What the names of its packages start with, before the rest of the version.
    package: &'static str,
    /// What it is to show.
    pub about: &'static str,
}

/// The kernels, in the order in which they run.
pub const ALL: [Series; 2] = [
    Series { name: "6.12", package: "linux-image-6.12.", about: "Debian 13, and Debian 12 by its security updates" },
    Series { name: "6.1", package: "linux-image-6.1.0-", about: "Debian 12: no TCX, programs on a clsact qdisc" },
];

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What a boot loader loads.
    pub image: PathBuf,
    /// The directory of its modules; its name is the release.
    pub modules: PathBuf,
}

/// Finds a kernel of the series that was fetched before, or fetches the newest one.
///
/// # Errors
/// This is not Debian, its package sources have no such kernel, or a tool failed.
pub fn ensure(series: Series) -> Result<Kernel> {
    let place = target("vm").join(series.name);
    if let Ok(kernel) = unpacked(&place) {
        return Ok(kernel);
    }
    debian::ensure(&["kmod", "xz-utils"], "kernels for virtual machines")?;
    let package = newest(series)?;
    println!("fetching {package} into {}", place.display());
    let partial = place.with_extension(format!("partial-{}", std::process::id()));
    // What an interrupted run has left.
    let _ = fs::remove_dir_all(&partial);
    let made = fetch(&package, &partial).and_then(|()| unpacked(&partial));
    if let Err(error) = made {
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    // There may be an incomplete one; a complete one would have been taken.
    let _ = fs::remove_dir_all(&place);
    fs::rename(&partial, &place).with_context(|| format!("writing {}", place.display()))?;
    unpacked(&place)
}

/// Downloads a package, unpacks it into `place` and lists the dependencies of its modules, as its installation would.
fn fetch(package: &str, place: &Path) -> Result<()> {
    let download = place.join("download");
    fs::create_dir_all(&download).with_context(|| format!("creating {}", download.display()))?;
    let mut apt = Command::new("apt-get");
    // apt's own user may not write to this directory.
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(&download);
    run(&mut apt)?;
    let packages = fs::read_dir(&download).with_context(|| format!("reading {}", download.display()))?;
    let file = packages.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "deb"));
    let file = file.with_context(|| format!("apt-get download {package} left no package"))?;
    run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(place))?;
    fs::remove_dir_all(&download).with_context(|| format!("removing {}", download.display()))?;
    let modules = modules(place)?;
    let release = modules.file_name().context("modules without a release")?;
    let base = modules.ancestors().nth(3).context("modules at the root")?;
    run(Command::new("depmod").arg("--basedir").arg(base).arg(release)).map(|_| ())
}

/// The kernel in a directory into which a package was unpacked.
fn unpacked(place: &Path) -> Result<Kernel> {
    let modules = modules(place)?;
    let release = modules.file_name().context("modules without a release")?.to_string_lossy().into_owned();
    let image = place.join("boot").join(format!("vmlinuz-{release}"));
    for path in [&image, &modules.join("modules.dep")] {
        if !path.is_file() {
            bail!("{} is missing", path.display());
        }
    }
    Ok(Kernel { image, modules })
}

fn modules(place: &Path) -> Result<PathBuf> {
    // Debian 13 has moved them.
    for directory in ["usr/lib/modules", "lib/modules"] {
        let mut entries = fs::read_dir(place.join(directory)).into_iter().flatten().flatten();
        if let Some(entry) = entries.next() {
            return Ok(entry.path());
        }
    }
    bail!("no modules below {}", place.display())
}

/// The newest package of a series that this machine's package sources have.
fn newest(series: Series) -> Result<String> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("the kernels for virtual machines come from Debian's packages, and there is no apt-get here");
    }
    let list = || run_text(Command::new("apt-cache").args(["search", "--names-only", "^linux-image-[0-9]"]));
    if let Some(package) = pick(&list()?, series.package) {
        return Ok(package);
    }
    // The list of packages may be old, or not be there yet.
    run(Command::new("apt-get").args(["-q", "update"]))?;
    pick(&list()?, series.package).with_context(|| {
        format!(
            "the package sources of this machine have no {}*-amd64; Debian 12 with its security updates has",
            series.package
        )
    })
}

/// The package with the highest version among lines `linux-image-6.12.117+deb12-amd64 - Linux 6.12 for ...`.
fn pick(list: &str, prefix: &str) -> Option<String> {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let ours = names.filter_map(|name| {
        let rest = name.strip_prefix(prefix)?.strip_suffix("-amd64")?;
        // Flavours for clouds and real time have their names between version and architecture.
        if rest.contains('-') {
            return None;
        }
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((digits.parse::<u32>().ok()?, name))
    });
    ours.max().map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_is_taken() {
        let list = "linux-image-6.12.99+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
            linux-image-6.12.117+deb12-amd64-unsigned - Linux 6.12 for 64-bit PCs\n\
            linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)\n\
            linux-image-6.12.115+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
            linux-image-6.1.0-56-amd64 - Linux 6.1 for 64-bit PCs (signed)\n\
            linux-image-6.1.0-9-rt-amd64 - Linux 6.1 for 64-bit PCs (signed)\n";
        let [new, old] = ALL;
        assert_eq!(pick(list, new.package).as_deref(), Some("linux-image-6.12.115+deb12-amd64"));
        assert_eq!(pick(list, old.package).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(pick("", old.package), None);
    }
}
