//! What is compared: each contestant has two gateways with a host behind each and a router between them, all made in
//! the same way.

use super::flow::{self, Rate};
use super::wireguard::{self, Wireguard};
use crate::debian;
use crate::net::capture::Capture;
use crate::net::{Host, transfer};
use crate::scenario::topology::{
    A, B, INNER_B, KEY_A_TO_B, KEY_B_TO_A, NET_A, NET_B, Protected, SHORT_KEY_A_TO_B, SHORT_KEY_B_TO_A, TwoSites,
};
use crate::strongswan::Strongswan;
use anyhow::{Context, Result, ensure};
use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// The host behind B.
const BEHIND_B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 9));

/// How long a tunnel may take to come up.
const PATIENCE: Duration = Duration::from_secs(8);

/// Where a flow starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// At the gateways themselves.
    Gateways,
    /// At hosts behind the gateways, which forward.
    Hosts,
}

impl Ends {
    pub(super) const ALL: [Self; 2] = [Self::Gateways, Self::Hosts];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateways => "gateways",
            Self::Hosts => "hosts",
        }
    }
}

/// Which of the ciphers both IPsec contestants have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cipher {
    ChaCha20,
    AesGcm128,
}

impl Cipher {
    pub(super) const ALL: [Self; 2] = [Self::ChaCha20, Self::AesGcm128];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ChaCha20 => "ChaCha20-Poly1305",
            Self::AesGcm128 => "AES-128-GCM",
        }
    }

    /// As ipsecinit.conf has it.
    fn policy(self) -> &'static str {
        match self {
            Self::ChaCha20 => "encr_algs chacha20-poly1305",
            Self::AesGcm128 => "encr_algs aes-gcm(128)",
        }
    }

    /// As swanctl.conf has it.
    fn proposal(self) -> &'static str {
        match self {
            Self::ChaCha20 => "chacha20poly1305",
            Self::AesGcm128 => "aes128gcm16",
        }
    }
}

/// How packets of this suite go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the stack, and out through the neighbour layer.
    Stack,
    /// Through the stack, and out by XDP redirect.
    XdpExit,
    /// Those of hosts by the gateway shortcut, and out through the neighbour layer.
    Shortcut,
    /// Those of hosts by the gateway shortcut, and out by XDP redirect.
    ShortcutXdpExit,
}

impl Way {
    fn title(self) -> &'static str {
        match self {
            Self::Stack => "",
            Self::XdpExit => ", XDP exit",
            Self::Shortcut => ", shortcut",
            Self::ShortcutXdpExit => ", shortcut, XDP exit",
        }
    }

    fn exit(self) -> &'static str {
        match self {
            Self::Stack | Self::Shortcut => "neighbour",
            Self::XdpExit | Self::ShortcutXdpExit => "xdp",
        }
    }

    fn has_shortcut(self) -> bool {
        matches!(self, Self::Shortcut | Self::ShortcutXdpExit)
    }
}

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No protection; a packet on the wire and in the stack is one segment, as it is for everybody who protects.
    ClearSegments,
    /// No protection, and all that veth can do to handle many segments as one.
    ClearOffloads,
    /// This suite.
    Ours(Cipher, Way),
    /// strongSwan's ESP in user space.
    Strongswan(Cipher),
    /// WireGuard in user space, which is ChaCha20-Poly1305.
    WireguardGo,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::ClearSegments,
        Self::ClearOffloads,
        Self::Ours(Cipher::ChaCha20, Way::Stack),
        Self::Ours(Cipher::ChaCha20, Way::XdpExit),
        Self::Ours(Cipher::ChaCha20, Way::Shortcut),
        Self::Ours(Cipher::ChaCha20, Way::ShortcutXdpExit),
        Self::Ours(Cipher::AesGcm128, Way::Stack),
        Self::Strongswan(Cipher::ChaCha20),
        Self::Strongswan(Cipher::AesGcm128),
        Self::WireguardGo,
    ];

    /// For tables.
    pub(super) fn title(self) -> String {
        match self {
            Self::ClearSegments => "in clear, a segment a packet".to_owned(),
            Self::ClearOffloads => "in clear, with offloads".to_owned(),
            Self::Ours(cipher, way) => format!("this suite, {}{}", cipher.name(), way.title()),
            Self::Strongswan(cipher) => format!("strongSwan, {}", cipher.name()),
            Self::WireguardGo => "wireguard-go".to_owned(),
        }
    }

    /// For programs, and for the name of the lab.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ClearSegments => "clear",
            Self::ClearOffloads => "clearoff",
            Self::Ours(Cipher::ChaCha20, Way::Stack) => "ourschacha",
            Self::Ours(Cipher::ChaCha20, Way::XdpExit) => "oursxdpexit",
            Self::Ours(Cipher::ChaCha20, Way::Shortcut) => "cut",
            Self::Ours(Cipher::ChaCha20, Way::ShortcutXdpExit) => "cutxdp",
            Self::Ours(Cipher::AesGcm128, _) => "oursgcm",
            Self::Strongswan(Cipher::ChaCha20) => "swanchacha",
            Self::Strongswan(Cipher::AesGcm128) => "swangcm",
            Self::WireguardGo => "wgo",
        }
    }

    /// Whether there is something to measure between these ends: what gateways send themselves takes no shortcut.
    pub(super) fn is_measured(self, ends: Ends) -> bool {
        ends == Ends::Hosts || !matches!(self, Self::Ours(_, way) if way.has_shortcut())
    }

    fn is_clear(self) -> bool {
        matches!(self, Self::ClearSegments | Self::ClearOffloads)
    }
}

/// Installs what is missing of those that we are compared with.
///
/// # Errors
/// See [`debian::ensure`].
pub(super) fn ensure_installed() -> Result<()> {
    debian::ensure(&["iproute2", "ethtool", "iputils-ping"], "hosts in network namespaces")?;
    Strongswan::ensure()?;
    debian::ensure(&wireguard::PACKAGES, "WireGuard in user space, to compare with")
}

/// A contestant that is ready for traffic. Idle it takes no processor time.
pub(super) struct Contestant {
    pub(super) kind: Kind,
    a: Host,
    b: Host,
    router: Host,
    left: Host,
    right: Host,
    /// Daemons and tools, which end before the lab does.
    _parts: Vec<Box<dyn Any>>,
    _sites: Box<dyn Any>,
}

impl Contestant {
    /// Makes the hosts and the tunnel, and looks whether a transfer is seen on the wire in clear, as it should be for
    /// those without protection and for nobody else.
    ///
    /// # Errors
    /// Something does not start, or the flow on the wire is not what it should be.
    pub(super) fn new(kind: Kind) -> Result<Self> {
        Self::start(kind).and_then(Self::checked).with_context(|| kind.title())
    }

    fn start(kind: Kind) -> Result<Self> {
        if let Kind::Ours(cipher, way) = kind {
            let net = Protected::new(kind.name(), cipher.policy(), &["--exit", way.exit()])?;
            let (left, right) = net.sites.add_hosts()?;
            if way.has_shortcut() {
                for (suite, host) in [(&net.a, &left), (&net.b, &right)] {
                    host.run("ethtool", &["-K", "eth0", "tx", "off"])?;
                    let said = suite.tool("espadm", &["attach", "--lan", "lan0", "wan0"])?;
                    ensure!(
                        said.contains("gateway shortcut to and from tunnels"),
                        "no shortcut out of tunnels: {said}"
                    );
                }
            }
            match cipher {
                Cipher::ChaCha20 => net.keys(
                    &format!("encr_alg chacha20-poly1305 encrkey {KEY_A_TO_B} replay 1024"),
                    &format!("encr_alg chacha20-poly1305 encrkey {KEY_B_TO_A} replay 1024"),
                )?,
                Cipher::AesGcm128 => net.keys(
                    &format!("encr_alg aes-gcm encrkey {SHORT_KEY_A_TO_B} replay 1024"),
                    &format!("encr_alg aes-gcm encrkey {SHORT_KEY_B_TO_A} replay 1024"),
                )?,
            }
            let [a, b, router] = [&net.sites.a, &net.sites.b, &net.sites.router].map(Clone::clone);
            return Ok(Self { kind, a, b, router, left, right, _parts: Vec::new(), _sites: Box::new(net) });
        }
        let sites = TwoSites::new(kind.name())?;
        let (left, right) = sites.add_hosts()?;
        let mut parts: Vec<Box<dyn Any>> = Vec::new();
        match kind {
            Kind::ClearSegments => {
                let ends = [(&sites.a, "wan0"), (&sites.a, "lan0"), (&sites.b, "wan0"), (&sites.b, "lan0")];
                let rest = [(&sites.router, "to-a"), (&sites.router, "to-b"), (&left, "eth0"), (&right, "eth0")];
                for (host, interface) in ends.into_iter().chain(rest) {
                    host.run("ethtool", &["-K", interface, "tso", "off", "gso", "off", "gro", "off"])?;
                }
            }
            Kind::Strongswan(cipher) => {
                let responder = Strongswan::start(&sites.lab, &sites.b, &connection(cipher, [B, A], [NET_B, NET_A]))?;
                let initiator = Strongswan::start(&sites.lab, &sites.a, &connection(cipher, [A, B], [NET_A, NET_B]))?;
                initiator.swanctl(&["--initiate", "--child", "net", "--timeout", "8"])?;
                parts.push(Box::new((responder, initiator)));
            }
            Kind::WireguardGo => {
                let (a, b) = (Wireguard::start(&sites.lab, &sites.a)?, Wireguard::start(&sites.lab, &sites.b)?);
                a.join(&b, B, NET_B, "10.1.0.1")?;
                b.join(&a, A, NET_A, "10.2.0.1")?;
                parts.push(Box::new((a, b)));
            }
            Kind::ClearOffloads | Kind::Ours(..) => {}
        }
        let [a, b, router] = [&sites.a, &sites.b, &sites.router].map(Clone::clone);
        Ok(Self { kind, a, b, router, left, right, _parts: parts, _sites: Box::new(sites) })
    }

    /// Waits for the tunnel, and looks at its wire.
    fn checked(self) -> Result<Self> {
        let start = Instant::now();
        for ends in Ends::ALL {
            let (from, _, address) = self.ends(ends);
            while !from.ping(&address.to_string(), &[])? {
                ensure!(start.elapsed() < PATIENCE, "no answer between {} within {PATIENCE:?}", ends.name());
            }
        }
        let capture = Capture::start(&self.router, "to-a")?;
        transfer::tcp(&self.a, &self.b, INNER_B, 1 << 20, |_| {})?;
        let seen = capture.finish()?;
        ensure!(seen.frames > 700 || self.kind == Kind::ClearOffloads, "only {} frames were seen", seen.frames);
        ensure!((seen.marked > 0) == self.kind.is_clear(), "{} frames with the flow in clear", seen.marked);
        Ok(self)
    }

    /// Measures one flow.
    ///
    /// # Errors
    /// It stalls.
    pub(super) fn measure(&self, ends: Ends) -> Result<Rate> {
        let (from, to, address) = self.ends(ends);
        flow::measure(from, to, address).with_context(|| format!("{}, between {}", self.kind.title(), ends.name()))
    }

    fn ends(&self, ends: Ends) -> (&Host, &Host, IpAddr) {
        match ends {
            Ends::Gateways => (&self.a, &self.b, INNER_B),
            Ends::Hosts => (&self.left, &self.right, BEHIND_B),
        }
    }
}

/// One end of strongSwan in the syntax of swanctl.conf; its own side comes first.
fn connection(cipher: Cipher, [local, remote]: [&str; 2], [local_net, remote_net]: [&str; 2]) -> String {
    let esp = cipher.proposal();
    format!(
        "connections {{ peer {{
            version = 2
            local_addrs = {local}
            remote_addrs = {remote}
            proposals = aes256gcm16-prfsha256-x25519
            local {{ auth = psk
                     id = {local} }}
            remote {{ auth = psk
                      id = {remote} }}
            children {{ net {{
                local_ts = {local_net}
                remote_ts = {remote_net}
                esp_proposals = {esp}
            }} }}
        }} }}
        secrets {{ ike {{ secret = \"a secret of the measurements\" }} }}"
    )
}
