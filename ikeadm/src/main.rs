//! ikeadm: administration of the IKE daemons. The library does the work; here are the process and its exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    ikeadm::main(std::env::args_os())
}
