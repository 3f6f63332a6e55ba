//! The initial file system: the first process with the libraries it needs, the modules without which there is no root,
//! and the job.

use crate::cpio::Archive;
use crate::job::{self, Job};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules without which the guest cannot mount its root; what they need comes with them.
pub const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// Makes the archive. `init` is the first process, `modules` are files in the order of loading, and `job` is given the
/// names they have in the guest.
///
/// # Errors
/// A file cannot be read, or the libraries of `init` cannot be found.
pub fn build(init: &Path, modules: &[PathBuf], mut job: Job) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for directory in ["dev", "proc", "sys", "root", "layer", "new"] {
        archive.directory(directory)?;
    }
    archive.program("init", &read(init)?)?;
    for library in libraries(init)? {
        archive.program(&library.to_string_lossy(), &read(&library)?)?;
    }
    for module in modules {
        let name = module.file_name().context("a module without a name")?.to_string_lossy().into_owned();
        let path = format!("/modules/{}", name.trim_end_matches(".xz"));
        archive.file(&path, &unpacked(module)?)?;
        job.modules.push(path);
    }
    archive.file(job::PATH, &serde_json::to_vec(&job).context("the job as JSON")?)?;
    archive.finish()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// The content of a module; kernels since 6.12 come with theirs compressed.
fn unpacked(module: &Path) -> Result<Vec<u8>> {
    match module.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => read(module),
        Some("xz") => {
            let output = Command::new("xz").arg("-dc").arg(module).output().context("could not start xz")?;
            if !output.status.success() {
                bail!("xz -dc {}: {}", module.display(), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(output.stdout)
        }
        _ => bail!("{} is packed in a way that this does not know", module.display()),
    }
}

/// The shared libraries of a program and the loader that finds them, under the names by which it looks for them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("could not start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("ldd {}: {}{text}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    paths(&text)
}

/// Reads lines like `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)` and `/lib64/ld-linux-x86-64.so.2
/// (0x...)`; `linux-vdso.so.1 (0x...)` is no file.
fn paths(ldd: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in ldd.lines() {
        if line.contains("not found") {
            bail!("a library is missing: {}", line.trim());
        }
        let file = line.split_once("=>").map_or(line, |(_, file)| file).trim();
        let file = file.split_once(" (").map_or(file, |(file, _)| file);
        if file.starts_with('/') {
            found.push(PathBuf::from(file));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f11)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f22)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths(text).unwrap(), expected);
        assert!(paths("\tlibx.so.1 => not found\n").is_err());
        assert_eq!(paths("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_job_arrives_with_the_names_of_its_modules() {
        let directory = tempfile::tempdir().unwrap();
        let module = directory.path().join("veth.ko");
        fs::write(&module, "module").unwrap();
        let init = std::env::current_exe().unwrap();
        let archive = build(&init, &[module], Job::default()).unwrap();
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains(r#""modules":["/modules/veth.ko"]"#));
        assert!(text.contains("libc.so"));
    }
}
