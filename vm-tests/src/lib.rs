//! Virtual machines for tests that need another kernel than the one of this machine: an initial file system with the
//! modules that its root needs, QEMU under time limits, and the lines by which the guest says what came of it.
//!
//! The guest has this machine's root, read-only over 9p under a layer in memory, so that it runs what was built here and
//! finds every tool that is installed here; nothing that it writes reaches this machine. The binary `vm-init` of this
//! package is its first process. Where kernels come from and which tests there are is not decided here.

pub mod cpio;
pub mod initramfs;
pub mod job;
pub mod modules;
pub mod protocol;
pub mod qemu;
