//! IKE messages in fragments (RFC 7383) with strongSwan: identities of 400 octets make IKE_AUTH longer than either side
//! sends in one piece, and a router drops every fragment of IP.

use super::strongswan::{CHACHA20, IKE, Peers, SECRET, connection, initiate};
use super::topology::{A, B, TwoSites};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Octets of an IP packet of ours; strongSwan's have 600.
const MTU: &str = "576";

/// FRG-01, FRG-02, FRG-03: either side asks; both send in fragments.
pub(super) fn both() -> Result<()> {
    let [here, there] = ["here", "there"].map(|name| format!("{}.{name}.example", name.repeat(400 / name.len())));
    let more = format!("local_id FQDN = \"{here}\" remote_id FQDN = \"{there}\"");
    let theirs = connection(IKE, &CHACHA20, SECRET);
    let theirs = theirs.replace(&format!("id = {B}"), &format!("id = {there}"));
    let theirs = theirs.replace(&format!("id = {A}"), &format!("id = {here}"));
    let sites = TwoSites::new("ikefrag")?;
    sites.router.nftables(
        "table inet nofrag { chain pre { type filter hook prerouting priority -500;\nip frag-off & 0x3fff != 0 counter drop\n}\n}",
    )?;
    let peers = Peers::told(sites, B, &more, CHACHA20.policy, "", &theirs, &["--fragmentation-mtu", MTU])?;
    initiate(&peers).context("strongSwan asks")?;
    in_fragments(&peers, 1).context("strongSwan asks")?;
    peers.theirs.swanctl(&["--terminate", "--ike", "peer"])?;
    peers.until("SAs are left after strongSwan deleted them", || Ok(peers.ours.sas()?.is_empty()))?;
    peers.connect().context("we ask")?;
    in_fragments(&peers, 2).context("we ask")
}

/// So many messages, no fewer, went and came in fragments, and all of them were of use.
pub(super) fn in_fragments(peers: &Peers, least: u64) -> Result<()> {
    let stats = peers.ours.ike_stats()?;
    let counter = |name: &str| {
        let count = stats.pointer("/counters").and_then(|counters| counters.get(name)).and_then(Value::as_u64);
        count.with_context(|| format!("no counter {name:?} in {stats}"))
    };
    let (sent, received) = (counter("messages sent in fragments")?, counter("messages received in fragments")?);
    ensure!(sent >= least && received >= least, "{sent} sent and {received} received in fragments, not {least}");
    ensure!(counter("useless fragments")? == 0, "there were useless fragments");
    Ok(())
}
