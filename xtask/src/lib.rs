//! The entry points of the project and what they share: building the programs that run in the kernel, network
//! namespaces as hosts, captures on their wires, the demonstration and the test stages. Nothing here is installed, and
//! nothing here depends on the crates that embed the object of `build-ebpf`: it has to run before they are built.

pub mod bench;
pub mod build_ebpf;
mod checklist;
pub mod debian;
pub mod demo;
pub mod fuzz;
pub mod manuals;
pub mod net;
pub mod package;
pub mod scapy;
pub mod scenario;
pub mod strongswan;
pub mod suite;
pub mod test;
pub mod tshark;
pub mod vm;
pub mod workspace;
