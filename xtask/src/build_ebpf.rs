//! Builds the programs that run in the kernel. They live in a package of their own below `ebpf-esp/bpf`, because they
//! need a target and a toolchain that a stable installation lacks: this module finds or prepares one, says which, and
//! leaves one object per program binary in `target/ebpf/`, touched only when its content changed.

use crate::debian;
use crate::workspace::{clean_command, on_path, root, run, run_shown, run_text, target};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Without them the code is about a fifth slower: 32-bit arithmetic, one load instead of eight for unaligned words.
/// The `--btf` argument keeps the type information that maps and function calls between programs need.
const FLAGS: [&str; 10] = [
    "--cfg",
    "bpf_target_arch=\"x86_64\"",
    "-C",
    "debuginfo=2",
    "-C",
    "link-arg=--btf",
    "-C",
    "target-cpu=v3",
    "-C",
    "target-feature=+allows-misaligned-mem-access",
];

const TARGET: &str = "bpfel-unknown-none";

const LINKER_VERSION: &str = "0.13.0";

/// What Debian calls the parts: a compiler newer than the distribution's own, made for building browsers, its sources
/// (for `core`), and the LLVM that it uses, which the linker of BPF objects has to match.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

const LLVM: &str = "/usr/lib/llvm-22/bin";

/// A toolchain that builds for [`TARGET`].
struct Toolchain {
    description: String,
    cargo: PathBuf,
    rustc: Option<PathBuf>,
    arguments: Vec<&'static str>,
    linker: PathBuf,
}

/// Builds every object and hands back their paths.
///
/// # Errors
/// No toolchain could be found or prepared, or the programs do not compile.
pub fn run_quietly() -> Result<Vec<PathBuf>> {
    let package = root().join("ebpf-esp/bpf");
    if !package.join("Cargo.toml").is_file() {
        bail!("{} has no Cargo.toml: is this the complete work tree?", package.display());
    }
    build(&package, &target("ebpf-build"), &target("ebpf"), &["--bins"])
}

/// Builds the object of the data path with a feature of its package that is for tests, into a directory of its own, and hands
/// back its path.
///
/// # Errors
/// As [`run_quietly`].
pub(crate) fn variant(feature: &str) -> Result<PathBuf> {
    let arguments = ["--bin", "ipsec-esp", "--features", feature];
    let objects = target("variants").join(feature);
    build(&root().join("ebpf-esp/bpf"), &target("ebpf-build"), &objects, &arguments)?.pop().context("no object")
}

/// What this thread builds from now on takes only what nobody else wants of the processors.
pub(crate) fn be_modest() {
    // SAFETY: no pointers. If it fails nothing is lost but time.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// As [`run_quietly`], and says how long it took and where the objects are.
///
/// # Errors
/// As [`run_quietly`].
pub fn run_task() -> Result<()> {
    let start = Instant::now();
    for object in run_quietly()? {
        println!("{}", object.strip_prefix(root()).unwrap_or(&object).display());
    }
    println!("done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn build(package: &Path, target_dir: &Path, objects: &Path, what: &[&str]) -> Result<Vec<PathBuf>> {
    let toolchain = find_toolchain()?;
    eprintln!("eBPF toolchain: {}", toolchain.description);
    let output = cargo_build(&toolchain, package, target_dir, what)?;
    fs::create_dir_all(objects).with_context(|| format!("creating {}", objects.display()))?;
    let mut built = Vec::new();
    for binary in binaries(&output) {
        let name = binary.file_name().context("a binary without a name")?;
        let object = objects.join(name).with_extension("o");
        copy_if_changed(&binary, &object)?;
        built.push(object);
    }
    if built.is_empty() {
        bail!("{} has no binary for {TARGET}", package.display());
    }
    Ok(built)
}

/// Runs cargo and hands back its messages, one JSON object per line; diagnostics go to the user.
fn cargo_build(toolchain: &Toolchain, package: &Path, target_dir: &Path, what: &[&str]) -> Result<String> {
    let mut flags: Vec<String> = FLAGS.map(String::from).to_vec();
    flags.push(format!("-Clinker={}", toolchain.linker.display()));
    let mut command = clean_command(&toolchain.cargo);
    command
        .args(&toolchain.arguments)
        .args(["build", "--release", "--quiet", "-Z", "build-std=core", "--target", TARGET])
        .args(what)
        .arg("--message-format=json")
        .current_dir(package)
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .stderr(Stdio::inherit());
    if let Some(rustc) = &toolchain.rustc {
        // The release compiler is not a nightly one, and only those take -Z options without being asked to.
        command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    }
    let output = command.output().with_context(|| format!("could not start {}", toolchain.cargo.display()))?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in diagnostics(&messages) {
        eprint!("{text}");
    }
    if !output.status.success() {
        bail!("{} does not build for {TARGET}", package.display());
    }
    Ok(messages)
}

/// What the compiler has to say, without its remark on a flag that we chose knowingly.
fn diagnostics(messages: &str) -> Vec<String> {
    parsed(messages)
        .filter(|message| field(message, &["reason"]) == Some("compiler-message"))
        .filter_map(|message| field(&message, &["message", "rendered"]).map(str::to_owned))
        .filter(|text| !text.contains("`-Ctarget-feature`: `allows-misaligned-mem-access`"))
        .collect()
}

fn parsed(messages: &str) -> impl Iterator<Item = Value> {
    messages.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// The text at the end of a path of keys; a list along it stands for its first element.
fn field<'a>(message: &'a Value, path: &[&str]) -> Option<&'a str> {
    let mut value = message;
    for key in path {
        value = value.get(key)?;
        if let Value::Array(list) = value {
            value = list.first()?;
        }
    }
    value.as_str()
}

/// The files of the binary targets among cargo's messages.
fn binaries(messages: &str) -> Vec<PathBuf> {
    parsed(messages)
        .filter(|message| field(message, &["reason"]) == Some("compiler-artifact"))
        .filter(|message| field(message, &["target", "kind"]) == Some("bin"))
        .filter_map(|message| field(&message, &["filenames"]).map(PathBuf::from))
        .collect()
}

/// The crates that embed an object rebuild when its file is newer: leave it alone when nothing changed, and never let
/// them see half of it.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let partial = to.with_extension(format!("o.{}", std::process::id()));
    fs::write(&partial, content).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("writing {}", to.display()))
}

fn find_toolchain() -> Result<Toolchain> {
    if let Some(toolchain) = nightly() {
        return Ok(toolchain);
    }
    debian_toolchain()
}

/// A nightly toolchain of rustup with the sources of `core`, and a linker that the user installed.
fn nightly() -> Option<Toolchain> {
    let linker = on_path("bpf-linker")?;
    let rustup = on_path("rustup")?;
    let rustc =
        |arguments: &[&str]| run_text(clean_command(&rustup).args(["run", "nightly", "rustc"]).args(arguments)).ok();
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
    if !sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
        return None;
    }
    let version = rustc(&["--version"])?;
    Some(Toolchain {
        description: format!("rustup nightly ({}) with {}", version.trim(), linker.display()),
        cargo: rustup,
        rustc: None,
        arguments: vec!["run", "nightly", "cargo"],
        linker,
    })
}

fn debian_toolchain() -> Result<Toolchain> {
    let purpose = "building the eBPF programs (or else: rustup's nightly with the rust-src component, and bpf-linker)";
    let rustc = PathBuf::from("/usr/bin/rustc");
    let cargo = PathBuf::from("/usr/bin/cargo");
    if !(rustc.exists() && cargo.exists() && library_sources(&rustc) && Path::new(LLVM).is_dir()) {
        debian::ensure(&PACKAGES, purpose)?;
    }
    let version = run_text(clean_command(&rustc).arg("--version"))?;
    if minor_version(&version).is_none_or(|minor| minor < 96) {
        debian::ensure(&PACKAGES, purpose)?;
        bail!("{} is too old ({}): 1.96 or newer is needed for {purpose}", rustc.display(), version.trim());
    }
    if !library_sources(&rustc) {
        bail!("the sources of core are not below {}'s sysroot; they are needed for {purpose}", rustc.display());
    }
    let linker = debian_linker(&cargo, &rustc)?;
    Ok(Toolchain {
        description: format!("Debian's {} with {}", version.trim(), linker.display()),
        cargo,
        rustc: Some(rustc),
        arguments: Vec::new(),
        linker,
    })
}

/// Whether `-Z build-std` will find the sources of `core` for this compiler.
fn library_sources(rustc: &Path) -> bool {
    run_text(clean_command(rustc).args(["--print", "sysroot"]))
        .is_ok_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file())
}

/// The `96` of `rustc 1.96.0 (...)`.
fn minor_version(version: &str) -> Option<u32> {
    version.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}

/// The linker of BPF objects, built against the LLVM of the compiler and kept in `target/tools`.
fn debian_linker(cargo: &Path, rustc: &Path) -> Result<PathBuf> {
    let tools = target("tools");
    let linker = tools.join("bin/bpf-linker");
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    if run_text(Command::new(&linker).arg("--version")).is_ok_and(|version| version.trim() == wanted) {
        return Ok(linker);
    }
    debian::ensure(&PACKAGES, "building the linker of BPF objects")?;
    eprintln!("building {wanted} into {} (once, a minute or two)", tools.display());
    let mut path = std::ffi::OsString::from(LLVM);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = clean_command(cargo);
    command
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force", "--quiet"])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(&tools)
        .env("PATH", path)
        .env("RUSTC", rustc)
        .env("CARGO_TARGET_DIR", target("tools-build"));
    run_shown(&mut command).context("building bpf-linker")?;
    run(Command::new(&linker).arg("--version"))?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_compiler_is_read() {
        assert_eq!(minor_version("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"), Some(96));
        assert_eq!(minor_version("rustc"), None);
    }

    #[test]
    fn binaries_come_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"]},"filenames":["/t/libx.rlib"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"]},"filenames":["/t/ipsec-esp"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#
        );
        assert_eq!(binaries(messages), [PathBuf::from("/t/ipsec-esp")]);
    }
}
