//! What is tested between hosts: each scenario is a function with a name that makes its own lab, and fails with an
//! error that says what was expected. `cargo xtask scenario NAME` runs one by hand.

mod ah;
mod baseline;
mod corners;
mod damage;
mod datagrams;
mod echo;
pub(crate) mod faults;
mod first_packet;
mod fragments;
mod gateway;
mod guest;
mod ike_ah;
mod ike_certificates;
mod ike_fragments;
mod ike_suites;
mod interfaces;
pub(crate) mod kernel;
mod leak;
mod lifetimes;
mod manual;
mod matrix;
mod nat;
mod nat_clients;
mod nat_transport;
mod ours;
mod outer;
mod package;
mod past_xdp;
mod path_mtu;
mod policy;
mod queues;
mod readme;
mod second_opinion;
mod services;
mod sizes;
mod strongswan;
pub(crate) mod topology;
mod transforms;
mod transport;
mod upgrade;
mod xfrm;
mod xfrm_fragments;
mod xfrm_nat;

use crate::build_ebpf;
use crate::workspace::{cargo, run_shown};
use anyhow::{Context, Result};
use std::time::Instant;

/// What a scenario needs beside the programs of this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Nothing: hosts in network namespaces.
    Namespace,
    /// Other implementations.
    Interop,
    /// Another kernel than this machine's: `cargo xtask vm`.
    Guest,
    /// Minutes: only by name.
    Long,
}

/// One test between hosts.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The stage of `cargo xtask test` that runs it.
    pub group: Group,
    /// It mostly waits: `cargo xtask test` runs it beside another.
    pub waits: bool,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The test.
    pub run: fn() -> Result<()>,
}

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    namespace(
        "harness",
        "a transfer in clear between two hosts is seen on the wire between them",
        baseline::clear_transfer,
    ),
    namespace(
        "manual-chacha20-poly1305",
        "keys by hand: ping and TCP through a tunnel, nothing in clear, equal counters, clear without policy",
        manual::chacha20,
    ),
    namespace("manual-aes-gcm", "the same with AES-GCM", manual::aes_gcm),
    namespace("manual-generic-xdp", "the same with XDP on the socket buffer", manual::generic_xdp),
    namespace("manual-xdp-exit", "the same with sealed packets leaving by XDP redirect", manual::xdp_exit),
    namespace("manual-rp-filter", "the same under strict reverse path filtering", manual::strict_rp_filter),
    namespace("manual-udp", "the same in UDP, IPv4 and IPv6, with right checksums", manual::udp_encapsulation),
    namespace(
        "kernel-vectors",
        "every transform in the kernel: RFCs, NIST, Wycheproof, forgeries, random packets beside RustCrypto",
        kernel::vectors,
    ),
    namespace(
        "kernel-packets",
        "random packets of every size and transform through the real programs, beside RustCrypto; forgeries, replays",
        kernel::packets,
    ),
    namespace(
        "kernel-ecn",
        "every TOS or traffic class inside with every ECN field outside, through the real programs",
        kernel::ecn,
    ),
    namespace(
        "kernel-corners",
        "routers that lie about the path, storms of ICMP errors, fragments on SAs with ports, 2^32 packets lost",
        kernel::corners,
    ),
    namespace(
        "kernel-ingress",
        "8,000 frames that nobody sends, in 20 worlds: what opens was sealed, once; what is dropped is counted, once; nothing passes in clear",
        kernel::ingress,
    ),
    namespace(
        "kernel-policy",
        "random rules and packets through the classifier in the kernel, beside the plain scan, up to 16,384 rules",
        kernel::policy,
    ),
    namespace(
        "policy-replaced",
        "200 policies replaced under traffic: no packet is dropped and none in clear",
        policy::replaced,
    ),
    namespace(
        "policy-defaults",
        "what no rule names: passes by host policy, and goes neither into nor out of a tunnel that has rules",
        policy::defaults,
    ),
    namespace(
        "interfaces",
        "an interface that comes is attached before it is used, goes and comes again; ipsec0 made anew; units for systemd",
        interfaces::come_and_go,
    ),
    namespace(
        "upgrade",
        "20 upgrades of the programs under TCP traffic: no packet dropped, none in clear, SAs and counters kept",
        upgrade::same_maps,
    ),
    namespace(
        "upgrade-capacity",
        "maps for more and fewer SAs under TCP traffic: SAs and policy move, no number comes twice, replays are refused",
        upgrade::capacity,
    ),
    namespace(
        "upgrade-abi",
        "the same to maps of a later version, which these tools refuse, and back",
        upgrade::other_abi,
    ),
    namespace(
        "icmp-errors",
        "an ICMP error about a protected flow goes with it, and one in clear is not believed",
        policy::icmp_errors,
    ),
    namespace("random-datagrams", "random datagrams of every size over veth, fragments too", datagrams::random_content),
    namespace(
        "queues",
        "one SA on two processors and two receive queues, a window of 65,536: every number once, whatever the order",
        queues::one_sa,
    ),
    namespace(
        "past-xdp",
        "receive queues that come under traffic, and XDP taken away: every packet is judged all the same, nothing in clear",
        past_xdp::judged,
    ),
    namespace(
        "fragments",
        "ESP, AH and ESP in UDP that a router has cut: made whole by espadm slow-path, dropped without it; clear ones stay out",
        fragments::inbound,
    ),
    namespace(
        "own-fragments",
        "what the host cut itself, in transport mode: made whole, protected, cut again; ESP and AH, IPv4 and IPv6",
        sizes::own_fragments,
    ),
    namespace(
        "cut-or-answered",
        "too long for the tunnel: cut, or answered, as the packet says",
        sizes::cut_or_answered,
    ),
    waiting(
        "lifetimes",
        "the ends of SAs by octets, time, use and want of use: seen at once, told once, not a packet past them",
        lifetimes::all_kinds,
    ),
    namespace("every-size", "an echo of every size from 0 to the largest, both algorithms", manual::every_size),
    waiting("too-big", "the exact inner MTU in an ICMP error, under strict reverse path filtering", ours::too_big),
    namespace("ah", "AH alone and around ESP, both modes, IPv4 and IPv6, every authenticator", ah::every_way),
    namespace("outer-header", "DSCP, ECN, DF and TTL as the tunnel is defined", ours::outer_header),
    waiting("path-log", "what the programs log about dropped packets, in the log of the daemon", ours::path_log),
    waiting("too-big-ipv6", "the same for IPv6 inside, and TCP that learns from it", ours::too_big_ipv6),
    waiting(
        "path-mtu",
        "a router that passes on less: its answers reach the sender, who learns what passes when sealed",
        path_mtu::ours,
    ),
    namespace("forwarded", "hosts behind the gateways, all offloads on, no MTU set", ours::forwarded),
    namespace(
        "shortcut",
        "the gateway shortcut, both exits: both ways past the stack; what it cannot decide goes by the stack, not in clear",
        gateway::shortcut,
    ),
    namespace(
        "nftables",
        "strict reverse path filtering and a firewall that lets in what comes from ipsec0; the shortcut goes past it",
        gateway::firewall,
    ),
    namespace(
        "outer-bridge",
        "the outer interface is a bridge; a port of it, and the XDP exit, are refused",
        outer::bridge,
    ),
    waiting("netns-exec", "every tool through ip netns exec", ours::netns_exec),
    waiting("ike-by-traffic", "the first packet makes the daemons negotiate", ours::negotiated_by_traffic),
    waiting(
        "first-packet",
        "packets that ask for an SA wait for it: ping, SYN, a burst, too big; both modes and families; never in clear",
        first_packet::waits,
    ),
    waiting("first-packet-dropped", "nobody to hold them, or no SA in time: counted", first_packet::dropped),
    waiting("ike-both-begin", "both hosts begin at once: one IKE SA is left", ours::both_begin),
    waiting("ike-kill-9", "killed daemons: traffic goes on, then stops, never in clear", ours::killed_daemon),
    waiting(
        "ike-attached-anew",
        "the data path detached and attached again under the daemon: it follows, and the peer hears which SAs are gone",
        ours::attached_anew,
    ),
    waiting(
        "ike-damage",
        "every message cut short at many places and with a bit flipped in every octet, in all exchanges",
        damage::every_exchange,
    ),
    waiting(
        "ike-transport",
        "transport mode negotiated for a host rule, IPv4 and IPv6, decoded by tshark with the keys",
        transport::negotiated,
    ),
    namespace(
        "ike-ah",
        "AH negotiated, both modes, IPv4 and IPv6, alone or as an alternative to ESP; around ESP refused with the reason",
        ike_ah::negotiated,
    ),
    namespace(
        "leak",
        "random changes of policy, SAs, tunnels and interfaces under traffic, tools killed: nothing in clear",
        leak::random_changes,
    ),
    namespace(
        "faults",
        "a data path that seals wrongly, leaks, or leaves out a check makes other scenarios fail",
        faults::are_seen,
    ),
    waiting(
        "nat",
        "a host behind a NAT, IPv4 and IPv6: port 4500, ESP in UDP both ways, keepalives, mapped ports",
        nat::ours,
    ),
    waiting(
        "nat-remapped",
        "a NAT that forgets its mapping: the next packet, ESP or IKE, shows the new port and is followed",
        nat::remapped,
    ),
    waiting(
        "nat-moved",
        "a NAT that gets another address: the next packet is followed, and rules and SAs keep the names they have",
        nat_transport::moved,
    ),
    namespace(
        "nat-transport",
        "transport mode through a NAT, IPv4 and IPv6: TCP, UDP and ICMPv6 with repaired checksums, both ways",
        nat_transport::negotiated,
    ),
    waiting(
        "nat-same-inner",
        "two clients behind one NAT with the same inner network: the second one is refused, and told why",
        nat_clients::tunnels,
    ),
    waiting(
        "nat-flows",
        "two clients behind one NAT in transport mode, an SA for each flow: each gets its own, and nobody another's",
        nat_clients::flows,
    ),
    waiting("nat-transport-manual", "the same with keys by hand", nat_transport::by_hand),
    namespace("readme", "the configuration that the README shows, word for word", readme::two_hosts),
    interop(
        "scapy",
        "every transform against scapy; modes, families and ESN take turns",
        second_opinion::every_transform,
    ),
    interop(
        "scapy-ah",
        "AH against scapy, alone and around ESP, with options and extension headers that routers change",
        second_opinion::ah,
    ),
    interop(
        "scapy-corners",
        "TFC padding, dummy packets, options and extension headers in front of ESP and inside, against scapy",
        corners::accepted,
    ),
    interop(
        "scapy-bad",
        "each kind of bad packet from scapy: dropped for its own reason, unanswered, and the next good one passes",
        corners::refused,
    ),
    Scenario {
        name: "scapy-matrix",
        group: Group::Long,
        waits: false,
        about: "every transform and authenticator against scapy in every mode and family, ESN on and off: minutes",
        run: second_opinion::matrix,
    },
    waiting(
        "package",
        "the package for Debian: same octets, lintian, installed, upgraded under traffic, purged",
        package::life,
    ),
    waiting(
        "services",
        "the installed units on a host that systemd boots: delivered, good and bad files, reload, stop",
        services::under_systemd,
    ),
    interop(
        "strongswan-pair",
        "two strongSwans agree in this harness: what fails against us is not the harness",
        baseline::strongswan_pair,
    ),
    interop("strongswan-responds", "our traffic makes us negotiate with strongSwan, both AEADs", strongswan::responder),
    interop("strongswan-initiates", "strongSwan negotiates with us, both AEADs", strongswan::initiator),
    interop(
        "strongswan-fragments",
        "IKE messages in fragments, past a router that drops those of IP",
        ike_fragments::both,
    ),
    interop(
        "strongswan-certificates",
        "RSA, ECDSA and Ed25519 below an intermediate CA, self-signed, in fragments, both roles",
        ike_certificates::accepted,
    ),
    interop(
        "strongswan-bad-certificates",
        "certificates of a strange CA, of another name, expired and revoked are refused, and the log says why",
        ike_certificates::refused,
    ),
    interop("strongswan-suites", "every algorithm and group of IKE SAs that both have", ike_suites::suites),
    interop(
        "strongswan-nat",
        "either side behind a NAT, strongSwan as initiator and as responder",
        strongswan::behind_nat,
    ),
    interop("strongswan-rekeys", "strongSwan rekeys child and IKE SA; no packet is lost", strongswan::rekey_by_them),
    interop("strongswan-rekeyed", "we rekey child and IKE SA at their limits", strongswan::rekey_by_us),
    interop("strongswan-delete", "delete by strongSwan, by ikeadm and by SIGTERM", strongswan::delete_by_either),
    interop("strongswan-wrong-key", "a wrong key fails, says why, and leaves nothing", strongswan::wrong_key),
    interop("strongswan-no-proposal", "IKE and child without a common proposal", strongswan::no_common_proposal),
    guest("kernel-features", "what this kernel has of what the data path needs, by its version", guest::features),
    guest("kernel-tunnel", "two hosts of ours on this kernel: datagrams and TCP through a tunnel", guest::tunnel),
    guest("outer-vlan", "the outer interface is a VLAN, alone and attached with what it lies on", outer::vlan),
    guest("kernel-shortcut", "the gateway shortcut on this kernel, as far as it has it", gateway::shortcut_of_guest),
    guest("kernel-xfrm", "ESP and AH against the kernel's own, one case of each kind", xfrm::quick),
    guest(
        "kernel-esp-chacha20-poly1305",
        "every shape: tunnel and transport, IPv4 and IPv6, ESN, in UDP",
        xfrm::chacha20_poly1305,
    ),
    guest("kernel-esp-aes-128-gcm", "the same with AES-GCM and a key of 128 bits", xfrm::aes_128_gcm),
    guest("kernel-esp-aes-256-gcm", "the same with AES-GCM and a key of 256 bits", xfrm::aes_256_gcm),
    guest("kernel-esp-aes-cbc-sha256", "the same with AES-CBC and HMAC-SHA2-256-128", xfrm::aes_cbc_sha256),
    guest(
        "kernel-esp-combined",
        "every length of key and ICV of AES-GCM, AES-CCM, AES-GMAC, ChaCha20-Poly1305; shapes take turns",
        xfrm::combined,
    ),
    guest("kernel-esp-aes-cbc", "AES-CBC with every authenticator; shapes take turns", xfrm::aes_cbc),
    guest("kernel-esp-aes-ctr", "AES-CTR with every authenticator; shapes take turns", xfrm::aes_ctr),
    guest("kernel-esp-null", "every authenticator without a cipher; shapes take turns", xfrm::null),
    guest("kernel-esp-legacy", "DES, triple DES and Blowfish with every authenticator", xfrm::legacy),
    guest(
        "kernel-ah",
        "AH against the kernel's own: every authenticator, alone and around ESP, with options and extension headers",
        xfrm::ah,
    ),
    guest(
        "kernel-path-mtu",
        "a router that passes on less between us and the kernel; what it cuts the kernel puts together",
        path_mtu::kernel,
    ),
    guest(
        "kernel-fragments",
        "ESP and AH of the kernel's own that a router or the kernel has cut: made whole by espadm slow-path",
        xfrm_fragments::inbound,
    ),
    guest(
        "kernel-nat-transport",
        "transport mode through a NAT against the kernel's own, either side behind it",
        xfrm_nat::either_side,
    ),
    guest("kernel-ah-sha256", "the same in every shape with HMAC-SHA2-256-128", xfrm::ah_sha256),
    interop(
        "strongswan-transforms-responds",
        "every transform that strongSwan's ESP has as well, a child SA each; we negotiate",
        transforms::responder,
    ),
    interop("strongswan-transforms-initiates", "the same with strongSwan as initiator", transforms::initiator),
    interop("strongswan-selectors", "selectors that policy does not have", strongswan::unacceptable_selectors),
];

const fn namespace(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Scenario {
    Scenario { name, group: Group::Namespace, waits: false, about, run }
}

const fn waiting(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Scenario {
    Scenario { waits: true, ..namespace(name, about, run) }
}

const fn interop(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Scenario {
    Scenario { name, group: Group::Interop, waits: false, about, run }
}

const fn guest(name: &'static str, about: &'static str, run: fn() -> Result<()>) -> Scenario {
    Scenario { name, group: Group::Guest, waits: false, about, run }
}

/// Builds what the scenarios run, the programs of the data path included.
///
/// # Errors
/// Something does not build.
pub fn build() -> Result<()> {
    build_ebpf::run_quietly()?;
    run_shown(cargo().args(["build", "--quiet", "--workspace", "--bins"]))
}

/// Runs the named scenarios, or all that need no other kernel and not minutes, in this process.
///
/// # Errors
/// There is no scenario of that name, or one failed.
pub fn run(names: &[String]) -> Result<()> {
    crate::net::undo::watch_signals();
    let names = known(names)?;
    let wanted = |scenario: &&Scenario| match names.as_slice() {
        [] => !matches!(scenario.group, Group::Guest | Group::Long),
        names => names.contains(&scenario.name),
    };
    for scenario in ALL.iter().filter(wanted) {
        let start = Instant::now();
        println!("{}: {}", scenario.name, scenario.about);
        (scenario.run)().with_context(|| format!("scenario {}", scenario.name))?;
        println!("{}: passed in {:.1} s", scenario.name, start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The names that the user wrote, if all of them are those of scenarios.
///
/// # Errors
/// One is not.
pub fn known(names: &[String]) -> Result<Vec<&'static str>> {
    let find = |name: &String| {
        let found = ALL.iter().find(|scenario| scenario.name == name);
        found.map(|scenario| scenario.name).with_context(|| {
            let all: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            format!("no scenario is called {name}; there are: {}", all.join(" "))
        })
    };
    names.iter().map(find).collect()
}

/// Prints the names and what they show.
pub fn list() {
    for scenario in ALL {
        println!("{:<28} {}", scenario.name, scenario.about);
    }
}
