//! ikeadm: administration of the IKE daemons.
fn main() {}
