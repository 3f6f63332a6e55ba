//! Every algorithm and group of IKE SAs that strongSwan has as well (ALG-10), either side asking.

use super::strongswan::{CHACHA20, Peers, SECRET, connection, initiate};
use super::topology::{B, INNER_B, TwoSites};
use crate::suite::text;
use anyhow::{Context, Result, bail, ensure};

/// A suite as ikev2.config, strongSwan and `ikeadm` name it.
struct Ike {
    xform: &'static str,
    proposal: &'static str,
    /// Cipher, integrity algorithm, pseudo-random function; number of the group.
    shown: ([&'static str; 3], u64),
}

const fn ike(xform: &'static str, proposal: &'static str, shown: [&'static str; 3], group: u64) -> Ike {
    Ike { xform, proposal, shown: (shown, group) }
}

const SHA1: &str = "HMAC-SHA1";
const SHA256: &str = "HMAC-SHA2-256";
const SHA384: &str = "HMAC-SHA2-384";
const SHA512: &str = "HMAC-SHA2-512";

/// Every cipher with every length of its key, every integrity algorithm and pseudo-random function, every group.
const SUITES: [Ike; 21] = [
    ike("3des auth_alg sha1 oakley_group 2", "3des-sha1-modp1024", ["3DES-CBC", "HMAC-SHA1-96", SHA1], 2),
    ike(
        "aes(128) auth_alg sha1-160 oakley_group 5",
        "aes128-sha1_160-prfsha1-modp1536",
        ["AES-CBC(128)", "HMAC-SHA1-160", SHA1],
        5,
    ),
    ike(
        "aes(128) auth_alg sha256 oakley_group 14",
        "aes128-sha256-modp2048",
        ["AES-CBC(128)", "HMAC-SHA2-256-128", SHA256],
        14,
    ),
    ike(
        "aes(192) auth_alg sha384 oakley_group 15",
        "aes192-sha384-modp3072",
        ["AES-CBC(192)", "HMAC-SHA2-384-192", SHA384],
        15,
    ),
    ike(
        "aes(256) auth_alg sha512 oakley_group 16",
        "aes256-sha512-modp4096",
        ["AES-CBC(256)", "HMAC-SHA2-512-256", SHA512],
        16,
    ),
    ike(
        "aes(256) auth_alg sha512 prf_alg sha384 oakley_group 31",
        "aes256-sha512-prfsha384-x25519",
        ["AES-CBC(256)", "HMAC-SHA2-512-256", SHA384],
        31,
    ),
    ike(
        "aes-gcm(128) auth_alg sha256 oakley_group 17",
        "aes128gcm16-prfsha256-modp6144",
        ["AES-GCM-16(128)", "NONE", SHA256],
        17,
    ),
    ike(
        "aes-gcm(192) auth_alg sha384 oakley_group 18",
        "aes192gcm16-prfsha384-modp8192",
        ["AES-GCM-16(192)", "NONE", SHA384],
        18,
    ),
    ike(
        "aes-gcm(256) auth_alg sha512 oakley_group 19",
        "aes256gcm16-prfsha512-ecp256",
        ["AES-GCM-16(256)", "NONE", SHA512],
        19,
    ),
    ike(
        "aes-gcm12(128) auth_alg sha256 oakley_group 20",
        "aes128gcm12-prfsha256-ecp384",
        ["AES-GCM-12(128)", "NONE", SHA256],
        20,
    ),
    ike(
        "aes-gcm12(192) auth_alg sha384 oakley_group 21",
        "aes192gcm12-prfsha384-ecp521",
        ["AES-GCM-12(192)", "NONE", SHA384],
        21,
    ),
    ike(
        "aes-gcm12(256) auth_alg sha512 oakley_group 22",
        "aes256gcm12-prfsha512-modp1024s160",
        ["AES-GCM-12(256)", "NONE", SHA512],
        22,
    ),
    ike(
        "aes-ccm8(128) auth_alg sha256 oakley_group 23",
        "aes128ccm8-prfsha256-modp2048s224",
        ["AES-CCM-8(128)", "NONE", SHA256],
        23,
    ),
    ike(
        "aes-ccm8(192) auth_alg sha384 oakley_group 24",
        "aes192ccm8-prfsha384-modp2048s256",
        ["AES-CCM-8(192)", "NONE", SHA384],
        24,
    ),
    ike(
        "aes-ccm8(256) auth_alg sha512 oakley_group 25",
        "aes256ccm8-prfsha512-ecp192",
        ["AES-CCM-8(256)", "NONE", SHA512],
        25,
    ),
    ike(
        "aes-ccm12(128) auth_alg sha256 oakley_group 26",
        "aes128ccm12-prfsha256-ecp224",
        ["AES-CCM-12(128)", "NONE", SHA256],
        26,
    ),
    ike(
        "aes-ccm12(256) auth_alg sha512 oakley_group 28",
        "aes256ccm12-prfsha512-ecp256bp",
        ["AES-CCM-12(256)", "NONE", SHA512],
        28,
    ),
    ike(
        "aes-ccm16(128) auth_alg sha256 oakley_group 29",
        "aes128ccm16-prfsha256-ecp384bp",
        ["AES-CCM-16(128)", "NONE", SHA256],
        29,
    ),
    ike(
        "aes-ccm(192) auth_alg sha384 oakley_group 14",
        "aes192ccm16-prfsha384-modp2048",
        ["AES-CCM-16(192)", "NONE", SHA384],
        14,
    ),
    ike(
        "aes-ccm(256) auth_alg sha512 oakley_group 31",
        "aes256ccm16-prfsha512-x25519",
        ["AES-CCM-16(256)", "NONE", SHA512],
        31,
    ),
    ike(
        "chacha20-poly1305 auth_alg sha512 oakley_group 19",
        "chacha20poly1305-prfsha512-ecp256",
        ["CHACHA20-POLY1305", "NONE", SHA512],
        19,
    ),
];

/// Our rule has all of them, strongSwan one after the other; the child is rekeyed with a key exchange of its own.
pub(super) fn suites() -> Result<()> {
    let ours: Vec<String> = SUITES.iter().map(|ike| format!("ikesa_xform {{ encr_alg {} }}", ike.xform)).collect();
    let theirs = |ike: &Ike| connection(ike.proposal, &CHACHA20, SECRET);
    let sites = TwoSites::new("ikesuites")?;
    let first = SUITES.first().context("no suites")?;
    let peers = Peers::across(sites, B, &ours.join("\n"), CHACHA20.policy, "", &theirs(first))?;
    for ike in &SUITES {
        peers.theirs.load(&theirs(ike))?;
        initiate(&peers).with_context(|| format!("{}, strongSwan asks", ike.proposal))?;
        agreed(&peers, ike).with_context(|| format!("{}, strongSwan asks", ike.proposal))?;
        peers.theirs.swanctl(&["--terminate", "--ike", "peer"])?;
        peers.until("SAs are left after strongSwan deleted them", || Ok(peers.ours.sas()?.is_empty()))?;
        peers.connect().with_context(|| format!("{}, we ask", ike.proposal))?;
        agreed(&peers, ike).with_context(|| format!("{}, we ask", ike.proposal))?;
        peers.ours.tool("ikeadm", &["flush", "ikesa"])?;
        peers.until("SAs are left after the flush", || Ok(peers.ours.sas()?.is_empty()))?;
    }
    Ok(())
}

/// The one IKE SA has the algorithms of `ike`, and a packet gets through.
fn agreed(peers: &Peers, ike: &Ike) -> Result<()> {
    let sas = peers.ours.ike_sas()?;
    let [sa] = sas.as_slice() else { bail!("there should be one IKE SA: {sas:?}") };
    let ([encryption, integrity, prf], group) = ike.shown;
    let found = ["encryption", "integrity", "prf"].map(|field| text(sa, field));
    ensure!(found == [encryption, integrity, prf] && sa.get("group_number") == Some(&group.into()), "found {sa}");
    ensure!(peers.sites.a.ping(&INNER_B.to_string(), &["-W", "2"])?, "no answer\n{}", peers.logs());
    Ok(())
}
