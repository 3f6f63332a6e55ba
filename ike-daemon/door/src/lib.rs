//! The protocol between ikeadm and the IKE daemons.
