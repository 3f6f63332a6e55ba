//! A NAT between the hosts that changes addresses and ports: the kernel's own, on the router. It verifies UDP checksums
//! too: the kernel translates no datagram whose checksum is wrong.

use super::manual::{checksums, nothing_in_clear};
use super::topology::{A, A6, B, B6, INNER_A, INNER_A6, INNER_B, INNER_B6, NET_A, NET_A6, NET_B, NET_B6};
use super::topology::{TwoSites, rule};
use crate::net::Host;
use crate::net::capture::{Capture, Seen};
use crate::net::daemon::Daemon;
use crate::net::nat::MAPPED;
use crate::net::transfer;
use crate::suite::{Suite, counter, drops, number, text};
use crate::tshark;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// RFC 3948 section 4: there are 20 seconds between keepalives, and a machine that does other things too takes some more.
const KEEPALIVE: Duration = Duration::from_secs(60);

pub(super) const PRESHARED: &str = "{ label \"nat\" key \"a secret of the tests, shared by two\" }\n";

/// The addresses of one family: outer ones, networks, inner ones, and what the router calls itself on B's side.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) outer: [&'static str; 2],
    nets: [&'static str; 2],
    inner: [IpAddr; 2],
    pub(super) public: &'static str,
}

pub(super) const IPV4: Family =
    Family { name: "nat4", outer: [A, B], nets: [NET_A, NET_B], inner: [INNER_A, INNER_B], public: "203.0.113.1" };

pub(super) const IPV6: Family = Family {
    name: "nat6",
    outer: [A6, B6],
    nets: [NET_A6, NET_B6],
    inner: [INNER_A6, INNER_B6],
    public: "2001:db8:2::1",
};

/// Host A behind a NAT, host B outside, with daemons on both.
struct Translated {
    family: &'static Family,
    a: Suite,
    b: Suite,
    daemons: [Daemon; 2],
    sites: TwoSites,
}

impl Translated {
    /// `lifetimes` are global lines of A's ikev2.config.
    fn new(family: &'static Family, lifetimes: &str) -> Result<Self> {
        let sites = TwoSites::new(family.name)?;
        sites.add_ipv6()?;
        sites.router.masquerade("to-b")?;
        let [a_outer, b_outer] = family.outer;
        let [a_net, b_net] = family.nets;
        let a = Suite::attach(&sites.lab, &sites.a, &["wan0"])?;
        let b = Suite::attach(&sites.lab, &sites.b, &["wan0"])?;
        a.tunnel("vpn0", a_outer, b_outer)?;
        // B knows its peer by the address that the NAT gives it.
        b.tunnel("vpn0", b_outer, family.public)?;
        let algorithm = "encr_algs chacha20-poly1305";
        a.policy(&rule(a_net, b_net, algorithm))?;
        b.policy(&rule(b_net, a_net, algorithm))?;
        let there = a.daemon(&(lifetimes.to_owned() + &config(a_outer, b_outer, "")), PRESHARED)?;
        let back = b.daemon(&config(b_outer, family.public, &format!("remote_id IP = \"{a_outer}\"")), PRESHARED)?;
        Ok(Self { family, a, b, daemons: [there, back], sites })
    }

    fn logs(&self) -> String {
        let [a, b] = &self.daemons;
        let stats = |suite: &Suite| suite.tool("espadm", &["stats"]).unwrap_or_default();
        format!("A:\n{}\n{}\nB:\n{}\n{}", stats(&self.a), a.log_end(), stats(&self.b), b.log_end())
    }

    /// Negotiates, moves traffic both ways, and looks at who thinks what of the NAT.
    fn negotiate(&self) -> Result<()> {
        let [a_inner, b_inner] = self.family.inner;
        let (a, b) = (&self.sites.a, &self.sites.b);
        let there = transfer::tcp(a, b, b_inner, 8 << 20, |_| {}).with_context(|| self.logs())?;
        let back = transfer::tcp(b, a, a_inner, 8 << 20, |_| {}).with_context(|| self.logs())?;
        println!("{}: {:.2} Gbit/s there, {:.2} back", self.family.name, there.gigabits(), back.gigabits());
        let (inside, outside) = (only(self.a.ike_sas()?)?, only(self.b.ike_sas()?)?);
        let sides = |sa: &Value| (sa.get("nat_local").cloned(), sa.get("nat_remote").cloned());
        ensure!(
            sides(&inside) == (Some(true.into()), Some(false.into())),
            "A does not know it is behind a NAT: {inside}"
        );
        ensure!(sides(&outside) == (Some(false.into()), Some(true.into())), "B does not see the NAT: {outside}");
        let mapped = mapped(&outside)?;
        ensure!(mapped.ip().to_string() == self.family.public, "B knows its peer as {mapped}");
        ensure!(MAPPED.contains(&mapped.port()), "B knows its peer as {mapped}, which no NAT made");
        ensure!(text(&inside, "local").ends_with(":4500"), "A did not move to port 4500: {inside}");
        let ports: Vec<Value> = self.b.sas()?.iter().filter_map(|sa| sa.get("udp_encap").cloned()).collect();
        let port = mapped.port();
        let expected = [Value::from(vec![4500, port]), Value::from(vec![port, 4500])];
        ensure!(expected.iter().all(|pair| ports.contains(pair)), "B's SAs have the ports {ports:?}, not {port}");
        Ok(())
    }

    /// The mapping of the NAT is lost, as when it is started again: the peer comes from another port. Returns both.
    fn forget_mapping(&self) -> Result<[SocketAddr; 2]> {
        let before = mapped(&only(self.b.ike_sas()?)?)?;
        let [_, b_inner] = self.family.inner;
        let b_inner = b_inner.to_string();
        self.mapping_lives("1")?;
        // A packet gives the mapping the new limit.
        ensure!(self.sites.a.ping(&b_inner, &[])?, "no answer before the mapping was lost\n{}", self.logs());
        thread::sleep(Duration::from_secs(2));
        self.mapping_lives("120")?;
        let start = Instant::now();
        loop {
            let answered = !self.sites.a.silent(&b_inner, &[])?;
            let after = mapped(&only(self.b.ike_sas()?)?)?;
            if answered && after != before {
                return Ok([before, after]);
            }
            ensure!(start.elapsed() < Duration::from_secs(40), "{before} is {after} now\n{}", self.logs());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn mapping_lives(&self, seconds: &str) -> Result<()> {
        mapping_lives(&self.sites.router, seconds)
    }
}

/// Sets after how many seconds without a packet the router forgets a mapping.
pub(super) fn mapping_lives(router: &Host, seconds: &str) -> Result<()> {
    let settings = ["netfilter.nf_conntrack_udp_timeout", "netfilter.nf_conntrack_udp_timeout_stream"];
    settings.iter().try_for_each(|setting| router.sysctl(setting, seconds))
}

pub(super) fn config(local: &str, remote: &str, more: &str) -> String {
    format!(
        "ikesa_xform {{ encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }}\n\
         {{ label \"nat\" auth_method preshared local_addr {local} remote_addr {remote} {more} }}\n"
    )
}

pub(super) fn only(sas: Vec<Value>) -> Result<Value> {
    ensure!(sas.len() == 1, "there should be one IKE SA: {sas:?}");
    sas.into_iter().next().context("there is no IKE SA")
}

/// The peer's address and port in an IKE SA.
pub(super) fn mapped(sa: &Value) -> Result<SocketAddr> {
    text(sa, "remote").parse().with_context(|| format!("the peer of {sa}"))
}

/// Both families at once, since what takes time is the wait for a keepalive.
pub(super) fn ours() -> Result<()> {
    let labs = [Translated::new(&IPV4, "")?, Translated::new(&IPV6, "")?];
    let captures = [capture(&labs[0])?, capture(&labs[1])?];
    let before: Vec<_> = labs.iter().map(|lab| Ok((lab.a.counters()?, lab.b.counters()?))).collect::<Result<_>>()?;
    labs.iter().try_for_each(Translated::negotiate)?;
    let start = Instant::now();
    for lab in &labs {
        while counter(&lab.b.counters()?, "keepalive") == 0 && start.elapsed() < KEEPALIVE {
            thread::sleep(Duration::from_millis(100));
        }
    }
    for (lab, before) in labs.iter().zip(&before) {
        let (a, b) = (lab.a.counters()?, lab.b.counters()?);
        ensure!(
            counter(&b, "keepalive") > 0,
            "{}: no keepalive came in {KEEPALIVE:?}\n{}",
            lab.family.name,
            lab.logs()
        );
        ensure!(counter(&a, "keepalive") == 0, "{}: B, which is behind no NAT, sent a keepalive", lab.family.name);
        let lost: Vec<String> = [drops(&before.0, &a), drops(&before.1, &b)].concat();
        // The first SYN is dropped while its SA is negotiated.
        let lost: Vec<&String> = lost.iter().filter(|name| !name.starts_with("drop-no-sa-outbound")).collect();
        ensure!(lost.is_empty(), "{}: packets were dropped: {lost:?}", lab.family.name);
    }
    for (lab, capture) in labs.iter().zip(captures) {
        judge(lab, &capture.finish()?)?;
    }
    Ok(())
}

fn capture(lab: &Translated) -> Result<Capture> {
    Capture::start(&lab.sites.router, "to-b")
}

/// All ESP was in UDP, between B's port 4500 and ports of the NAT, and tshark finds every checksum right.
fn judge(lab: &Translated, seen: &Seen) -> Result<()> {
    nothing_in_clear(seen)?;
    ensure!(seen.esp == 0, "{} ESP packets were not encapsulated", seen.esp);
    let file = lab.sites.lab.directory().join("wire.pcap");
    tshark::accept(seen, &file, 4)?;
    let outgoing = format!("udp.srcport == 4500 && !(udp.dstport in {{{}..{}}})", MAPPED.start(), MAPPED.end());
    let foreign = tshark::count(&file, &format!("esp && {outgoing}"))?;
    ensure!(foreign == 0, "{foreign} ESP packets of B did not go to the port of the NAT");
    let foreign = tshark::count(&file, &format!("isakmp && {outgoing}"))?;
    ensure!(foreign == 0, "{foreign} IKE messages of B did not go to the port of the NAT");
    checksums(seen, &file, lab.family.name == IPV6.name)
}

/// V2-NAT-06, V2-NAT-09: the next packet comes from the new port, is authentic, and is followed. No IKE message is due.
pub(super) fn remapped() -> Result<()> {
    let lab = Translated::new(&IPV4, "")?;
    lab.negotiate()?;
    let received = |lab: &Translated| Ok::<_, anyhow::Error>(number(&only(lab.b.ike_sas()?)?, "messages_received"));
    let messages = received(&lab)?;
    let [before, after] = lab.forget_mapping()?;
    println!("{before} became {after}");
    ensure!(received(&lab)? == messages, "IKE has told of the new port, not ESP");
    ensure!(counter(&lab.b.counters()?, "moves") > 0, "B has counted no move");
    let [a_inner, _] = lab.family.inner;
    transfer::tcp(&lab.sites.b, &lab.sites.a, a_inner, 1 << 20, |_| {}).with_context(|| lab.logs())?;
    Ok(())
}
