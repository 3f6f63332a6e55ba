//! `cargo xtask package`: a package for Debian, made by the tools that every Debian has. The same sources make the same
//! octets: times are those of the last commit, or of SOURCE_DATE_EPOCH.

pub(crate) mod layout;

use crate::workspace::{cargo, clean_command, root, run, run_shown, run_text, target};
use crate::{build_ebpf, debian, manuals};
use anyhow::{Context, Result, ensure};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the package.
pub(crate) const NAME: &str = "ipsec-xdp";

/// Maintainer scripts.
const SCRIPTS: [&str; 3] = ["postinst", "postrm", "prerm"];

/// What the user asked for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Number of the build, behind the version; a higher one is an upgrade
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    build: u32,
    /// Directory for the package instead of target/package
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// How much is made of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As small as can be.
    Release,
    /// As quick as can be.
    Test,
}

/// Builds the suite for release and packs it.
///
/// # Errors
/// This is no Debian, or something cannot be built.
pub fn run_task(arguments: &Arguments) -> Result<()> {
    prepare()?;
    build_ebpf::run_quietly()?;
    run_shown(cargo().args(["build", "--release", "--bins", "-p", "ipseckey", "-p", "ikeadm", "-p", "ike-daemon"]))?;
    let output = arguments.output.clone().unwrap_or_else(|| target("package"));
    let package = build(&target("release"), &output, arguments.build, Effort::Release)?;
    println!("{}", package.display());
    Ok(())
}

/// Installs what packing needs.
///
/// # Errors
/// See [`debian::ensure`].
pub(crate) fn prepare() -> Result<()> {
    debian::ensure(&["dpkg-dev", "binutils", "gzip"], "packages")
}

/// Packs the programs of `binaries`, and hands back the path of the package in `output`.
///
/// # Errors
/// What one of the tools said.
pub(crate) fn build(binaries: &Path, output: &Path, number: u32, effort: Effort) -> Result<PathBuf> {
    let version = format!("{}-{number}", env!("CARGO_PKG_VERSION"));
    let architecture = run_text(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    fs::create_dir_all(output).with_context(|| format!("creating {}", output.display()))?;
    let tree = output.join(format!("{NAME}_{version}.tree"));
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    }
    let directory = |path: &Path| DirBuilder::new().recursive(true).mode(0o755).create(path);
    directory(&tree)?;
    fs::set_permissions(&tree, Permissions::from_mode(0o755))?;
    layout::stage(binaries, &tree)?;
    let installed = layout::files(binaries)?;
    let mut programs = vec![];
    for file in &installed {
        let path = layout::below(&tree, &file.path);
        if file.is_program() {
            run(stripping().arg(&path))?;
            programs.push(path);
        } else if file.is_manual() {
            run(Command::new("gzip").args(["-9", "-n"]).arg(&path))?;
        }
    }
    for (_, path, text) in manuals::completions(binaries)? {
        let path = layout::below(&tree, &path);
        directory(path.parent().context("a completion without a directory")?)?;
        write(&path, &text, 0o644)?;
    }
    let time = time()?;
    let about = tree.join("usr/share/doc").join(NAME);
    directory(&about)?;
    let packaging = root().join("packaging/debian");
    write(&about.join("copyright"), &read(&packaging.join("copyright"))?, 0o644)?;
    write(&about.join("changelog.Debian"), &changelog(&version, time)?, 0o644)?;
    run(Command::new("gzip").args(["-9", "-n"]).arg(about.join("changelog.Debian")))?;
    let control = tree.join("DEBIAN");
    directory(&control)?;
    for script in SCRIPTS {
        write(&control.join(script), &read(&packaging.join(script))?, 0o755)?;
    }
    let settings: Vec<&str> =
        installed.iter().map(|file| file.path.as_str()).filter(|path| path.starts_with("/etc/")).collect();
    write(&control.join("conffiles"), &(settings.join("\n") + "\n"), 0o644)?;
    let size = run_text(Command::new("du").args(["-k", "-s", "--apparent-size", "--exclude=DEBIAN"]).arg(&tree))?;
    let size = size.split_whitespace().next().context("du has printed nothing")?.to_owned();
    let filled = [
        ("@VERSION@", version.as_str()),
        ("@ARCHITECTURE@", &architecture),
        ("@SIZE@", &size),
        ("@DEPENDS@", &libraries(&programs, output)?),
    ]
    .iter()
    .fold(read(&packaging.join("control"))?, |text, (place, value)| text.replace(place, value));
    let places = ["@VERSION@", "@ARCHITECTURE@", "@SIZE@", "@DEPENDS@"];
    ensure!(!places.iter().any(|place| filled.contains(place)), "packaging/debian/control is not filled: {filled}");
    write(&control.join("control"), &filled, 0o644)?;
    let package = output.join(format!("{NAME}_{version}_{architecture}.deb"));
    let mut pack = clean_command("dpkg-deb");
    pack.env("SOURCE_DATE_EPOCH", time.to_string()).arg("--root-owner-group").arg("--threads-max=1");
    match effort {
        Effort::Release => pack.arg("-Zxz"),
        Effort::Test => pack.args(["-Zgzip", "-z1"]),
    };
    run(pack.arg("--build").arg(&tree).arg(&package))?;
    fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    Ok(package)
}

/// Takes from a program what only debuggers need.
fn stripping() -> Command {
    let mut command = Command::new("strip");
    command.args(["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note"]);
    command
}

/// Puts the programs of `binaries` into `directory` without what only debuggers need.
///
/// # Errors
/// A program is not there.
pub(crate) fn strip(binaries: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    for file in layout::files(binaries)?.iter().filter(|file| file.is_program()) {
        let name = file.source.file_name().context("a program without a name")?;
        run(stripping().arg(&file.source).arg("-o").arg(directory.join(name)))?;
    }
    Ok(())
}

/// The packages with the libraries that the programs are linked to, with the versions they need.
fn libraries(programs: &[PathBuf], output: &Path) -> Result<String> {
    // It wants to be run in a source package.
    let source = output.join("shlibdeps");
    fs::create_dir_all(source.join("debian"))?;
    write(&source.join("debian/control"), &format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: any\n"), 0o644)?;
    let text = run_text(Command::new("dpkg-shlibdeps").arg("-O").args(programs).current_dir(&source))?;
    fs::remove_dir_all(&source)?;
    let depends = text.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(depends.context("dpkg-shlibdeps has found no library")?.to_owned())
}

/// Seconds since 1970: SOURCE_DATE_EPOCH, or the time of the last commit.
fn time() -> Result<i64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => run_text(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()))?,
    };
    text.trim().parse().with_context(|| format!("{text:?} is no time in seconds"))
}

fn changelog(version: &str, time: i64) -> Result<String> {
    let date = run_text(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{time}")]))?;
    let control = read(&root().join("packaging/debian/control"))?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("packaging/debian/control has no maintainer")?;
    Ok(format!(
        "{NAME} ({version}) unstable; urgency=medium\n\n  * Built from the sources; git has their history.\n\n \
         -- {maintainer}  {}\n",
        date.trim()
    ))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}
