//! The names of the targets and what each shows. `cargo xtask` has this file as a module too, so that it need not be built
//! with everything that is fuzzed.

/// A target without its function.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What it is called on the command line; also the name of its directory in `fuzz/corpus`.
    pub name: &'static str,
    /// What it shows, in one line.
    pub shows: &'static str,
    /// Octets beyond which nothing new is reached.
    pub max_len: usize,
}

/// All of them.
pub const TARGETS: &[About] = &[
    about("suite", "every ESP transform, sealed and opened, against RustCrypto", 2048),
    about("packet", "the packet parser against a slow one, within the frame", 512),
    about("ah", "what AH covers: options and extension headers against a slow walk", 512),
    about("too-big", "the ICMP answer to any packet: checksums, quotation, limits", 512),
    about("fragments", "packets cut and made whole, within bounds, against a slow model", 4096),
    about("ike-wire", "the IKEv2 codec: no panic, and what is read is written back", 4096),
    about("ike-endpoint", "two IKEv2 endpoints, ruled by somebody who has the keys: nothing is left over", 1024),
    about("certificates", "certificates, CRLs, names and keys: read or refused, and no stranger is believed", 4096),
    about("ikev2-config", "the grammar of ikev2.config: findings have a place in the text", 4096),
    about("ikev2-preshared", "that of ikev2.preshared, whose findings show no key", 4096),
    about("ipsecinit", "that of ipsecinit.conf, from text to rules and back", 4096),
    about("ipseckeys", "that of ipseckeys, whose messages show no key", 4096),
    about("ipsecalgs", "the table of algorithms: read, written, read again, and what may be used", 4096),
    about("door", "messages at the door of the daemons: read, written, read again", 4096),
    about("pfkey", "PF_KEY messages on the bus: read, written, read again", 4096),
];

const fn about(name: &'static str, shows: &'static str, max_len: usize) -> About {
    About { name, shows, max_len }
}
