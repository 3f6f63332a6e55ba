//! in.ikev2d and the data path against strongSwan, each as initiator and as responder: negotiation, traffic both ways,
//! rekey of child and IKE SA by either side, delete by either side, and what has to fail. kernel-libipsec makes every
//! SA one of tunnel mode with UDP encapsulation and 32-bit sequence numbers.

use super::manual::nothing_in_clear;
use super::topology::{A, B, INNER_A, INNER_B, NET_A, NET_B, TwoSites, rule};
use crate::net::capture::Capture;
use crate::net::daemon::Daemon;
use crate::net::nat::MAPPED;
use crate::net::transfer;
use crate::strongswan::Strongswan;
use crate::suite::{Suite, counter, text};
use crate::tshark;
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

pub(super) const SECRET: &str = "a secret of the tests, shared by two";

/// What strongSwan offers for the IKE SA when it is to agree with us.
pub(super) const IKE: &str = "aes256gcm16-prfsha256-x25519";

const PATIENCE: Duration = Duration::from_secs(30);

/// How both sides name one algorithm.
pub(super) struct Algorithm {
    pub(super) policy: &'static str,
    pub(super) proposal: &'static str,
}

pub(super) const CHACHA20: Algorithm =
    Algorithm { policy: "encr_algs chacha20-poly1305", proposal: "chacha20poly1305" };
const AES_GCM_128: Algorithm = Algorithm { policy: "encr_algs aes-gcm(128)", proposal: "aes128gcm16" };
const AES_GCM_256: Algorithm = Algorithm { policy: "encr_algs aes-gcm(256)", proposal: "aes256gcm16" };

/// Our side on host A, strongSwan on host B.
pub(super) struct Peers {
    pub(super) sites: TwoSites,
    pub(super) ours: Suite,
    pub(super) daemon: Daemon,
    pub(super) theirs: Strongswan,
    /// Failures in the log that were looked at.
    looked_at: Cell<usize>,
}

impl Peers {
    fn new(name: &str, algorithm: &Algorithm, lifetimes: &str) -> Result<Self> {
        Self::with(name, algorithm.policy, lifetimes, &connection(IKE, algorithm, SECRET))
    }

    fn with(name: &str, policy: &str, lifetimes: &str, connection: &str) -> Result<Self> {
        Self::across(TwoSites::new(name)?, B, "", policy, lifetimes, connection)
    }

    /// `remote` is the address by which we know strongSwan, `more` further words of the rule of ikev2.config, `policy` the
    /// properties of the rule for the two networks, or whole rules.
    pub(super) fn across(
        sites: TwoSites,
        remote: &str,
        more: &str,
        policy: &str,
        lifetimes: &str,
        connection: &str,
    ) -> Result<Self> {
        Self::told(sites, remote, more, policy, lifetimes, connection, &[])
    }

    /// The same with options of in.ikev2d.
    pub(super) fn told(
        sites: TwoSites,
        remote: &str,
        more: &str,
        policy: &str,
        lifetimes: &str,
        connection: &str,
        options: &[&str],
    ) -> Result<Self> {
        let config = format!(
            "ikesa_xform {{ encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }}\n{lifetimes}\n\
             {{ label \"peer\" auth_method preshared local_addr {A} remote_addr {remote} {more} }}\n"
        );
        let keys = format!("{{ label \"peer\" key \"{SECRET}\" }}\n");
        Self::configured(sites, remote, policy, (&config, &keys), connection, options)
    }

    /// The same with another ikev2.config and ikev2.preshared.
    pub(super) fn configured(
        sites: TwoSites,
        remote: &str,
        policy: &str,
        (config, keys): (&str, &str),
        connection: &str,
        options: &[&str],
    ) -> Result<Self> {
        let theirs = Strongswan::start(&sites.lab, &sites.b, connection)?;
        let ours = Suite::attach(&sites.lab, &sites.a, &["--acquire-hold", "1", "wan0"])?;
        ours.tunnel("vpn0", A, remote)?;
        let whole = rule(NET_A, NET_B, policy);
        ours.policy(if policy.starts_with('{') { policy } else { &whole })?;
        let daemon = ours.daemon_with(config, keys, options)?;
        Ok(Self { sites, ours, daemon, theirs, looked_at: Cell::new(0) })
    }

    /// Pings from our side until there is an answer: the first packets are those that ask for the SA.
    pub(super) fn connect(&self) -> Result<()> {
        self.until("no answer through the tunnel", || self.sites.a.ping(&INNER_B.to_string(), &["-W", "1"]))
    }

    pub(super) fn traffic(&self, bytes: u64) -> Result<()> {
        let there = transfer::tcp(&self.sites.a, &self.sites.b, INNER_B, bytes, |_| {}).with_context(|| self.logs())?;
        let back = transfer::tcp(&self.sites.b, &self.sites.a, INNER_A, bytes, |_| {}).with_context(|| self.logs())?;
        println!("{:.2} Gbit/s there, {:.2} back", there.gigabits(), back.gigabits());
        Ok(())
    }

    pub(super) fn until(&self, complaint: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !holds()? {
            if start.elapsed() > PATIENCE {
                bail!("{complaint} within {PATIENCE:?}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Runs what makes either side rekey, and waits until our outbound SA is another; traffic has to pass before,
    /// meanwhile and after.
    fn rekeyed(&self, who: &str, start: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.ours.outbound_spis()?;
        start()?;
        self.until(&format!("no rekey by {who}"), || {
            ensure!(self.sites.a.ping(&INNER_B.to_string(), &[])?, "a ping was lost during a rekey by {who}");
            Ok(self.ours.outbound_spis()?.iter().any(|spi| !before.contains(spi)))
        })?;
        self.traffic(1 << 20).with_context(|| format!("after a rekey by {who}"))
    }

    /// One line of our log, the only one about a failure since the last time, has these words at its end, before the
    /// rule and its line in ikev2.config.
    pub(super) fn says(&self, words: &str) -> Result<()> {
        let line = self.failure().with_context(|| format!("expected was {words}"))?;
        let (said, rule) = line.split_once("; rule ").with_context(|| format!("no rule is named: {line}"))?;
        ensure!(said.ends_with(words), "expected {words:?}, found: {line}");
        ensure!(
            rule.starts_with("\"peer\" (") && rule.ends_with("/ikev2.config:3)"),
            "not the line of the rule: {line}"
        );
        Ok(())
    }

    /// The line of our log about a failure, the only one since the last time.
    pub(super) fn failure(&self) -> Result<String> {
        self.until("no failure in the log", || Ok(!self.failures()?.is_empty()))?;
        let lines = self.failures()?;
        self.looked_at.set(self.looked_at.get() + lines.len());
        let [line] = lines.as_slice() else { bail!("there should be one line: {lines:?}") };
        Ok(line.clone())
    }

    /// Lines of our log about what failed, without those that [`Peers::says`] has seen.
    fn failures(&self) -> Result<Vec<String>> {
        let log = self.daemon.log()?;
        let failures = log.lines().filter(|line| line.contains(" WARN ") && line.contains(" failed: "));
        Ok(failures.skip(self.looked_at.get()).map(str::to_owned).collect())
    }

    /// We ask, and strongSwan refuses.
    pub(super) fn refused_us(&self, words: &str) -> Result<()> {
        self.ours.tool("ikeadm", &["flush", "ikesa"])?;
        self.until("IKE SAs are left after the flush", || Ok(self.ours.ike_sas()?.is_empty()))?;
        // For less than the second after which the data path asks again.
        ensure!(self.sites.a.silent(&INNER_B.to_string(), &["-W", "0.2"])?, "there was an answer");
        self.says(words)
    }

    /// SPIs of the IKE SAs on our side.
    pub(super) fn ike_spis(&self) -> Result<Vec<String>> {
        let sas = self.ours.ike_sas()?;
        Ok(sas.iter().map(|sa| format!("{} {}", text(sa, "spi_initiator"), text(sa, "spi_responder"))).collect())
    }

    /// Waits for an IKE SA that is not one of `before`.
    fn new_ike_sa(&self, before: &[String]) -> Result<()> {
        self.until("no new IKE SA", || Ok(self.ike_spis()?.iter().any(|spis| !before.contains(spis))))
    }

    pub(super) fn their_sas(&self) -> Result<String> {
        self.theirs.swanctl(&["--list-sas"])
    }

    pub(super) fn logs(&self) -> String {
        let stats = self.ours.tool("espadm", &["stats"]).unwrap_or_default();
        format!("{stats}\nin.ikev2d:\n{}\nstrongSwan:\n{}", self.daemon.log_end(), self.theirs.log_end())
    }
}

/// strongSwan's side in the syntax of swanctl.conf.
pub(super) fn connection(ike: &str, algorithm: &Algorithm, secret: &str) -> String {
    let esp = algorithm.proposal;
    format!(
        "connections {{ peer {{
            version = 2
            local_addrs = {B}
            remote_addrs = {A}
            proposals = {ike}
            local {{ auth = psk
                     id = {B} }}
            remote {{ auth = psk
                      id = {A} }}
            children {{ net {{
                local_ts = {NET_B}
                remote_ts = {NET_A}
                esp_proposals = {esp}
            }} }}
        }} }}
        secrets {{ ike {{ secret = \"{secret}\" }} }}"
    )
}

pub(super) fn initiate(peers: &Peers) -> Result<()> {
    peers.theirs.swanctl(&["--initiate", "--child", "net", "--timeout", "8"]).map(|_| ())
}

pub(super) fn responder() -> Result<()> {
    for (name, algorithm) in [("respchacha", CHACHA20), ("respgcm", AES_GCM_256)] {
        let peers = Peers::new(name, &algorithm, "")?;
        let capture = Capture::start(&peers.sites.router, "to-a")?;
        // The packet that asks for the SA is not lost.
        ensure!(peers.sites.a.ping(&INNER_B.to_string(), &[])?, "the first ping was lost\n{}", peers.logs());
        peers.traffic(8 << 20)?;
        judge(capture, &peers, 4)?;
    }
    Ok(())
}

pub(super) fn initiator() -> Result<()> {
    for (name, algorithm) in [("initchacha", CHACHA20), ("initgcm", AES_GCM_128)] {
        let peers = Peers::new(name, &algorithm, "")?;
        let capture = Capture::start(&peers.sites.router, "to-a")?;
        initiate(&peers)?;
        peers.traffic(8 << 20)?;
        judge(capture, &peers, 4)?;
    }
    Ok(())
}

/// One of the two is behind the kernel's NAT; whoever it is can be the one who asks, if ports are forwarded.
pub(super) fn behind_nat() -> Result<()> {
    // The router's addresses on either side: by them a host outside knows the one behind.
    const OUTSIDE_OF_A: &str = "203.0.113.1";
    const OUTSIDE_OF_B: &str = "198.51.100.1";
    let connection = connection(IKE, &CHACHA20, SECRET);
    let policy = CHACHA20.policy;
    let its_id = format!("remote_id IP = \"{B}\"");

    let sites = TwoSites::new("natus")?;
    sites.router.masquerade("to-b")?;
    let theirs = connection.replace(&format!("remote_addrs = {A}"), &format!("remote_addrs = {OUTSIDE_OF_A}"));
    let peers = Peers::across(sites, B, "", policy, "", &theirs)?;
    let capture = Capture::start(&peers.sites.router, "to-b")?;
    peers.connect()?;
    translated(capture, &peers, true, B, 4500..=4500).context("we behind a NAT")?;

    let sites = TwoSites::new("natthem")?;
    sites.router.masquerade("to-a")?;
    let peers = Peers::across(sites, OUTSIDE_OF_B, &its_id, policy, "", &connection)?;
    let capture = Capture::start(&peers.sites.router, "to-a")?;
    initiate(&peers)?;
    translated(capture, &peers, false, OUTSIDE_OF_B, MAPPED).context("strongSwan behind a NAT")?;

    let sites = TwoSites::new("natfwd")?;
    sites.router.forward_ports("to-a", "500, 4500", B)?;
    let peers = Peers::across(sites, OUTSIDE_OF_B, &its_id, policy, "", &connection)?;
    let capture = Capture::start(&peers.sites.router, "to-a")?;
    peers.connect()?;
    translated(capture, &peers, false, OUTSIDE_OF_B, 4500..=4500).context("strongSwan behind a NAT that forwards ports")
}

/// Traffic both ways over the one IKE SA, in which we know whether we are behind the NAT, and strongSwan by `address` and
/// one of `ports`. kernel-libipsec pretends to be behind a NAT always.
fn translated(capture: Capture, peers: &Peers, behind: bool, address: &str, ports: RangeInclusive<u16>) -> Result<()> {
    peers.traffic(4 << 20)?;
    let sas = peers.ours.ike_sas()?;
    let [sa] = sas.as_slice() else { bail!("there should be one IKE SA: {sas:?}") };
    ensure!(sa.get("nat_local") == Some(&behind.into()), "we are behind a NAT, or not, and say otherwise: {sa}");
    let remote: SocketAddr = text(sa, "remote").parse().with_context(|| format!("the peer of {sa}"))?;
    let expected = remote.ip().to_string() == address && ports.contains(&remote.port());
    ensure!(expected, "strongSwan is at {remote}, not at {address} port {ports:?}");
    judge(capture, peers, 4)
}

pub(super) fn rekey_by_them() -> Result<()> {
    let peers = Peers::new("rekeythem", &CHACHA20, "")?;
    let capture = Capture::start(&peers.sites.router, "to-a")?;
    initiate(&peers)?;
    peers.rekeyed("strongSwan", || peers.theirs.swanctl(&["--rekey", "--child", "net"]).map(|_| ()))?;
    let before = peers.ike_spis()?;
    peers.theirs.swanctl(&["--rekey", "--ike", "peer"])?;
    peers.new_ike_sa(&before)?;
    peers.traffic(1 << 20).context("after strongSwan rekeyed the IKE SA")?;
    judge(capture, &peers, 8)
}

/// ARC-SAD-03: soft limits make us rekey, before the hard ones.
pub(super) fn rekey_by_us() -> Result<()> {
    let lifetimes = "ikesa_lifetime_secs 8\nchildsa_lifetime_secs 30\nchildsa_softlife_secs 3";
    let peers = Peers::new("rekeyus", &AES_GCM_128, lifetimes)?;
    let capture = Capture::start(&peers.sites.router, "to-a")?;
    peers.connect()?;
    peers.rekeyed("in.ikev2d", || Ok(()))?;
    peers.new_ike_sa(&peers.ike_spis()?)?;
    peers.traffic(1 << 20).context("after in.ikev2d rekeyed the IKE SA")?;
    judge(capture, &peers, 8)
}

pub(super) fn delete_by_either() -> Result<()> {
    let peers = Peers::new("delete", &CHACHA20, "")?;
    initiate(&peers)?;
    peers.traffic(1 << 20)?;
    peers.theirs.swanctl(&["--terminate", "--ike", "peer"])?;
    peers.until("SAs are left after strongSwan deleted them", || Ok(peers.ours.sas()?.is_empty()))?;
    peers.connect().context("a new negotiation after strongSwan deleted the first")?;
    peers.ours.tool("ikeadm", &["flush", "ikesa"])?;
    peers.until("strongSwan has SAs left after ours were flushed", || Ok(peers.their_sas()?.trim().is_empty()))?;
    peers.until("SAs are left after the flush", || Ok(peers.ours.sas()?.is_empty()))?;
    peers.connect().context("a new negotiation after the flush")?;
    let status = peers.daemon.terminate()?;
    ensure!(status.success(), "in.ikev2d ended with {status}\n{}", peers.daemon.log_end());
    peers.until("strongSwan has SAs left after SIGTERM", || Ok(peers.their_sas()?.trim().is_empty()))
}

/// ARC-PAD-02: the identity of a peer has its key, and no other.
pub(super) fn wrong_key() -> Result<()> {
    let wrong = connection(IKE, &CHACHA20, "not what the other side has");
    let peers = Peers::with("wrongkey", CHACHA20.policy, "", &wrong)?;
    let told = refusal(&peers);
    ensure!(told.contains("AUTH_FAILED"), "strongSwan was not told that its key is wrong: {told}");
    peers.says(
        "IKE_AUTH with 203.0.113.2:4500 failed: AUTHENTICATION_FAILED: \
         AUTH of 203.0.113.2 does not verify: the pre-shared keys differ",
    )?;
    peers.refused_us(
        "IKE_AUTH with 203.0.113.2:4500 failed: AUTHENTICATION_FAILED: \
         the peer refuses us as 198.51.100.2, or our pre-shared key",
    )?;
    refused_then_accepted(&peers)
}

pub(super) fn no_common_proposal() -> Result<()> {
    let other = connection("aes128-sha256-modp2048", &CHACHA20, SECRET);
    let peers = Peers::with("noprop", CHACHA20.policy, "", &other)?;
    let told = refusal(&peers);
    ensure!(told.contains("NO_PROP"), "strongSwan was not told that no proposal is acceptable: {told}");
    peers.says(
        "IKE_SA_INIT of the peer with 203.0.113.2:500 failed: NO_PROPOSAL_CHOSEN: \
         the peer offers AES-CBC(128)/HMAC-SHA2-256-128/PRF-HMAC-SHA2-256/MODP-2048; \
         accepted are AES-GCM-16(256)/PRF-HMAC-SHA2-256/CURVE25519",
    )?;
    peers.refused_us(
        "IKE_SA_INIT with 203.0.113.2:500 failed: NO_PROPOSAL_CHOSEN: \
         the peer accepts none of AES-GCM-16(256)/PRF-HMAC-SHA2-256/CURVE25519",
    )?;

    peers.theirs.load(&connection(IKE, &AES_GCM_128, SECRET))?;
    let told = refusal(&peers);
    ensure!(told.contains("NO_PROP"), "a child was not refused for its algorithms: {told}");
    peers.says(
        "the first child with 203.0.113.2:4500 failed: NO_PROPOSAL_CHOSEN: the peer offers AES-GCM-16(128)/no-ESN; \
         policy ipsecinit.conf entry 1 (tunnel vpn0) wants CHACHA20-POLY1305/ESN/no-ESN",
    )?;
    peers.refused_us(
        "the first child with 203.0.113.2:4500 failed: NO_PROPOSAL_CHOSEN: \
         the peer accepts none of CHACHA20-POLY1305/ESN/no-ESN, which policy ipsecinit.conf entry 1 (tunnel vpn0) asks for",
    )?;
    refused_then_accepted(&peers)
}

/// ARC-PAD-02: nor may it ask for other selectors than those of the rules for it.
pub(super) fn unacceptable_selectors() -> Result<()> {
    let other = connection(IKE, &CHACHA20, SECRET).replace(NET_B, "10.77.0.0/24");
    let peers = Peers::with("nots", CHACHA20.policy, "", &other)?;
    let told = refusal(&peers);
    ensure!(told.contains("TS_UNACCEPT"), "strongSwan was not told that its selectors are refused: {told}");
    peers.says(
        "the first child with 203.0.113.2:4500 failed: TS_UNACCEPTABLE: \
         no rule protects 10.1.0.0-10.1.0.255 <-> 10.77.0.0-10.77.0.255 between 198.51.100.2 and 203.0.113.2 \
         (the peer offers [10.1.0.0-10.1.0.255] [10.77.0.0-10.77.0.255])",
    )?;
    peers.refused_us(
        "the first child with 203.0.113.2:4500 failed: TS_UNACCEPTABLE: the peer does not accept \
         [10.1.0.1 proto 1, 10.1.0.0-10.1.0.255] [10.2.0.1 proto 1, 10.2.0.0-10.2.0.255] \
         of policy ipsecinit.conf entry 1 (tunnel vpn0)",
    )?;
    refused_then_accepted(&peers)
}

/// What strongSwan says when it does not get its child; nothing when it does.
pub(super) fn refusal(peers: &Peers) -> String {
    initiate(peers).map_or_else(|error| format!("{error:#}"), |()| String::new())
}

/// Nothing of the refused negotiation stands in the way of the next one.
fn refused_then_accepted(peers: &Peers) -> Result<()> {
    ensure!(peers.ours.sas()?.is_empty(), "a refused negotiation left SAs behind");
    peers.theirs.load(&connection(IKE, &CHACHA20, SECRET))?;
    initiate(peers)?;
    peers.traffic(1 << 20)
}

pub(super) fn judge(capture: Capture, peers: &Peers, messages: usize) -> Result<()> {
    let seen = capture.finish()?;
    nothing_in_clear(&seen)?;
    let counters = peers.ours.counters()?;
    ensure!(counter(&counters, "drop-integrity") == 0, "packets failed their integrity check");
    tshark::accept(&seen, &peers.sites.lab.directory().join("wire.pcap"), messages)
}
