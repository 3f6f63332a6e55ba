//! Which modules of a kernel have to be loaded, and in which order, as depmod wrote it into `modules.dep`.

use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of one kernel.
#[derive(Debug)]
pub struct Modules {
    directory: PathBuf,
    /// By name: the file relative to the directory, and the files it needs, the deepest dependency last.
    files: HashMap<String, (String, Vec<String>)>,
    built_in: Vec<String>,
}

impl Modules {
    /// Reads `modules.dep` and `modules.builtin` of a directory like `/lib/modules/VERSION`.
    ///
    /// # Errors
    /// They are not there (depmod makes the former).
    pub fn read(directory: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let files = text("modules.dep")?.lines().filter_map(entry).collect();
        let built_in = text("modules.builtin")?.lines().map(name).collect();
        Ok(Self { directory: directory.to_owned(), files, built_in })
    }

    /// The files of these modules and of all that they need, each once, dependencies first. What the kernel has built
    /// in needs no file.
    ///
    /// # Errors
    /// The kernel has no module of a name.
    pub fn needed(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order: Vec<&String> = Vec::new();
        for wanted in names {
            let Some((file, dependencies)) = self.files.get(*wanted) else {
                if self.built_in.iter().any(|name| name == wanted) {
                    continue;
                }
                bail!("{} has no module {wanted}", self.directory.display());
            };
            for file in dependencies.iter().rev().chain([file]) {
                if !order.contains(&file) {
                    order.push(file);
                }
            }
        }
        Ok(order.into_iter().map(|file| self.directory.join(file)).collect())
    }
}

/// A line `kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz ...`.
fn entry(line: &str) -> Option<(String, (String, Vec<String>))> {
    let (file, dependencies) = line.split_once(':')?;
    let dependencies = dependencies.split_whitespace().map(str::to_owned).collect();
    Some((name(file), (file.to_owned(), dependencies)))
}

/// The name of the module in a file; `-` and `_` are the same to the kernel.
fn name(file: &str) -> String {
    let last = file.rsplit('/').next().unwrap_or(file);
    last.split_once(".ko").map_or(last, |(stem, _)| stem).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let dep = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
            kernel/net/9p/9pnet_virtio.ko.xz: kernel/drivers/virtio/virtio-ring.ko.xz kernel/net/9p/9pnet.ko.xz\n\
            kernel/net/9p/9pnet.ko.xz:\nkernel/fs/netfs/netfs.ko.xz:\nkernel/drivers/virtio/virtio-ring.ko.xz:\n";
        fs::write(directory.path().join("modules.dep"), dep).unwrap();
        fs::write(directory.path().join("modules.builtin"), "kernel/drivers/virtio/virtio.ko\n").unwrap();
        let modules = Modules::read(directory.path()).unwrap();
        let files = modules.needed(&["9p", "virtio", "9pnet_virtio", "virtio_ring"]).unwrap();
        let names: Vec<String> = files.iter().map(|file| name(&file.to_string_lossy())).collect();
        assert_eq!(names, ["netfs", "9pnet", "9p", "virtio_ring", "9pnet_virtio"]);
        assert!(modules.needed(&["ext5"]).unwrap_err().to_string().ends_with("has no module ext5"));
    }
}
