//! Where things are below the workspace, and how a child process is started without what cargo put into our
//! environment.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The directory with the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// `target/NAME`: caches and results of the tasks, gone with `cargo clean`.
pub fn target(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// The directory with the binaries of the workspace, as built by the profile that built this one.
pub fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this binary")?;
    let dir = own.parent().context("this binary has no directory")?;
    // Tests run from target/<profile>/deps.
    let dir = if dir.file_name() == Some(OsStr::new("deps")) { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_path_buf())
}

/// A command that does not inherit the choices cargo and rustup made for this process, so that another toolchain can
/// be run from it; where crates come from (home, registries, proxies) stays.
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_BUILD_JOBS",
        "CARGO_TERM_",
    ];
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let set_by_cargo = text.starts_with("CARGO") && !KEPT.iter().any(|kept| text.starts_with(kept));
        let chooses = matches!(
            text.as_ref(),
            "RUSTUP_TOOLCHAIN"
                | "RUSTC"
                | "RUSTDOC"
                | "RUSTFLAGS"
                | "RUSTC_WRAPPER"
                | "RUSTC_BOOTSTRAP"
                | "LD_LIBRARY_PATH"
        );
        if set_by_cargo || chooses {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that runs us, with the toolchain and the target directory the user chose but without what it told us
/// about this package: build scripts would take that for a change.
pub fn cargo() -> Command {
    let mut command = clean_command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_TARGET_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.current_dir(root());
    command
}

/// Runs a command to its end; an error carries what it printed.
pub fn run(command: &mut Command) -> Result<Output> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` ended with {}\n{}{}", output.status, stdout, stderr);
    }
    Ok(output)
}

/// Runs a command to its end and hands back what it printed on standard output.
pub fn run_text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run(command)?.stdout).into_owned())
}

/// Runs a command whose output the user is to see.
pub fn run_shown(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// The command line as a user would type it.
pub fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// The first directory of PATH that has `program`, joined with it.
pub fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}
