//! What the guest is to do, as a file in its initial file system.

use serde::{Deserialize, Serialize};

/// Where the file is.
pub const PATH: &str = "/job.json";

/// The name by which the guest mounts the root of this machine.
pub const SHARE: &str = "root";

/// The serial port of the tests; the first one belongs to the kernel.
pub const TTY: &str = "/dev/ttyS1";

/// What the guest is to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Job {
    /// Modules to load before the root is mounted: paths in the initial file system, in this order.
    pub modules: Vec<String>,
    /// The directory with all modules of the kernel, on the root; it becomes `/lib/modules/RELEASE`.
    pub module_directory: String,
    /// The program to run and its arguments.
    pub command: Vec<String>,
    /// The directory to run it in.
    pub directory: String,
    /// Its environment, all of it.
    pub environment: Vec<(String, String)>,
    /// Time of day at the start, in seconds since 1970: the guest's own clock may not be set.
    pub time: i64,
}
