//! Every transform of ESP that strongSwan's user-space ESP has as well, each in a child SA of its own between addresses of
//! its own, all in one IKE SA: negotiated by either side, with traffic both ways.
//!
//! AES-GMAC is not here: kernel-libipsec of Debian's strongSwan 5.9.8 knows it for no AEAD.

use super::strongswan::{IKE, Peers, SECRET, judge};
use super::topology::{A, B, TwoSites, rule};
use crate::net::capture::Capture;
use crate::net::transfer;
use crate::suite::{counter, text};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};

/// How both sides name the algorithms of one child, and how in.ikev2d shows them.
struct Transform {
    policy: &'static str,
    proposal: &'static str,
    shown: &'static str,
}

const fn transform(policy: &'static str, proposal: &'static str, shown: &'static str) -> Transform {
    Transform { policy, proposal, shown }
}

const TRANSFORMS: &[Transform] = &[
    transform("encr_algs aes-cbc(128) encr_auth_algs sha1", "aes128-sha1", "ESP AES-CBC(128) HMAC-SHA1-96"),
    transform("encr_algs aes-cbc(192) encr_auth_algs sha256", "aes192-sha256", "ESP AES-CBC(192) HMAC-SHA2-256-128"),
    transform("encr_algs aes-cbc(256) encr_auth_algs sha384", "aes256-sha384", "ESP AES-CBC(256) HMAC-SHA2-384-192"),
    transform("encr_algs aes-cbc(256) encr_auth_algs sha512", "aes256-sha512", "ESP AES-CBC(256) HMAC-SHA2-512-256"),
    transform("encr_algs aes-ctr(128) encr_auth_algs sha256", "aes128ctr-sha256", "ESP AES-CTR(128) HMAC-SHA2-256-128"),
    transform("encr_algs aes-ctr(256) encr_auth_algs sha1", "aes256ctr-sha1", "ESP AES-CTR(256) HMAC-SHA1-96"),
    transform("encr_algs aes-ccm8(128)", "aes128ccm8", "ESP AES-CCM-8(128)"),
    transform("encr_algs aes-ccm12(192)", "aes192ccm12", "ESP AES-CCM-12(192)"),
    transform("encr_algs aes-ccm(256)", "aes256ccm16", "ESP AES-CCM-16(256)"),
    transform("encr_algs aes-gcm8(128)", "aes128gcm8", "ESP AES-GCM-8(128)"),
    transform("encr_algs aes-gcm12(256)", "aes256gcm12", "ESP AES-GCM-12(256)"),
    transform("encr_algs aes-gcm(192)", "aes192gcm16", "ESP AES-GCM-16(192)"),
    transform("encr_algs 3des encr_auth_algs sha1", "3des-sha1", "ESP 3DES-CBC HMAC-SHA1-96"),
    transform("encr_algs 3des encr_auth_algs md5", "3des-md5", "ESP 3DES-CBC HMAC-MD5-96"),
    transform("encr_algs des encr_auth_algs md5", "des-md5", "ESP DES-CBC HMAC-MD5-96"),
    transform("encr_algs blowfish(128) encr_auth_algs sha1", "blowfish128-sha1", "ESP BLOWFISH-CBC(128) HMAC-SHA1-96"),
    transform("encr_algs blowfish(256) encr_auth_algs sha1", "blowfish256-sha1", "ESP BLOWFISH-CBC(256) HMAC-SHA1-96"),
    transform("encr_algs null encr_auth_algs sha256", "null-sha256", "ESP NULL HMAC-SHA2-256-128"),
];

/// Payload each way through each child.
const OCTETS: u64 = 256 << 10;

/// The addresses of the two ends that child `index` serves.
fn ends(index: usize) -> (Ipv4Addr, Ipv4Addr) {
    let last = u8::try_from(index).unwrap_or(u8::MAX).saturating_add(10);
    (Ipv4Addr::new(10, 1, 0, last), Ipv4Addr::new(10, 2, 0, last))
}

/// A rule for each transform.
fn policy() -> String {
    let rules = TRANSFORMS.iter().enumerate().map(|(index, transform)| {
        let (here, there) = ends(index);
        rule(&here.to_string(), &there.to_string(), transform.policy)
    });
    rules.collect()
}

/// strongSwan's side: a child for each.
fn connection() -> String {
    let children = TRANSFORMS.iter().enumerate().map(|(index, transform)| {
        let (here, there) = ends(index);
        format!(
            "child{index} {{ local_ts = {there}/32
                remote_ts = {here}/32
                esp_proposals = {} }}\n",
            transform.proposal
        )
    });
    format!(
        "connections {{ peer {{
            version = 2
            local_addrs = {B}
            remote_addrs = {A}
            proposals = {IKE}
            local {{ auth = psk
                     id = {B} }}
            remote {{ auth = psk
                      id = {A} }}
            children {{ {} }}
        }} }}
        secrets {{ ike {{ secret = \"{SECRET}\" }} }}",
        children.collect::<String>()
    )
}

/// Both hosts have the addresses of every child and use them as source.
fn sites(name: &str) -> Result<TwoSites> {
    let sites = TwoSites::new(name)?;
    for index in 0..TRANSFORMS.len() {
        let (here, there) = ends(index);
        sites.a.ip(&[
            &format!("address add {here}/32 dev lo"),
            &format!("route add {there}/32 via 198.51.100.1 src {here}"),
        ])?;
        sites.b.ip(&[&format!("address add {there}/32 dev lo")])?;
    }
    Ok(sites)
}

/// Traffic both ways through child `index`, whose algorithms our daemon shows as they are.
fn carried(peers: &Peers, index: usize, transform: &Transform) -> Result<()> {
    let (here, there) = ends(index);
    let (a, b) = (&peers.sites.a, &peers.sites.b);
    transfer::tcp(a, b, IpAddr::V4(there), OCTETS, |_| {}).with_context(|| peers.logs())?;
    transfer::tcp(b, a, IpAddr::V4(here), OCTETS, |_| {}).with_context(|| peers.logs())?;
    let sas = peers.ours.ike_sas()?;
    let children = sas.iter().filter_map(|sa| sa.get("children")?.as_array()).flatten();
    let shown: Vec<&str> = children.map(|child| text(child, "suite")).collect();
    ensure!(shown.contains(&transform.shown), "{} is not among {shown:?}", transform.shown);
    Ok(())
}

/// Everything but NULL in turn, which a capture may see; then NULL, which hides nothing. `ask` makes child `index` come up.
fn all(peers: &Peers, ask: impl Fn(usize) -> Result<()>) -> Result<()> {
    let each = |(index, transform): (usize, &Transform)| {
        ask(index).and_then(|()| carried(peers, index, transform)).with_context(|| transform.proposal)
    };
    let capture = Capture::start(&peers.sites.router, "to-a")?;
    let hides = |(_, transform): &(usize, &Transform)| !transform.shown.starts_with("ESP NULL");
    TRANSFORMS.iter().enumerate().filter(hides).try_for_each(each)?;
    judge(capture, peers, 4)?;
    TRANSFORMS.iter().enumerate().filter(|one| !hides(one)).try_for_each(each)?;
    let counters = peers.ours.counters()?;
    ensure!(counter(&counters, "drop-integrity") == 0, "packets failed their integrity check");
    ensure!(peers.ike_spis()?.len() == 1, "every child should be in one IKE SA");
    Ok(())
}

/// Our traffic asks for each child.
pub(super) fn responder() -> Result<()> {
    let peers = Peers::across(sites("resptransf")?, B, "", &policy(), "", &connection())?;
    all(&peers, |index| {
        let (_, there) = ends(index);
        peers.until("no answer through the tunnel", || peers.sites.a.ping(&there.to_string(), &["-W", "0.3"]))
    })
}

/// strongSwan asks for each child.
pub(super) fn initiator() -> Result<()> {
    let peers = Peers::across(sites("inittransf")?, B, "", &policy(), "", &connection())?;
    all(&peers, |index| {
        let child = format!("child{index}");
        peers.theirs.swanctl(&["--initiate", "--child", &child, "--timeout", "8"]).map(|_| ())
    })
}
