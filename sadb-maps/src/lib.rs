//! The records and keys of every BPF map of the IPsec suite and the typed handle on them.
