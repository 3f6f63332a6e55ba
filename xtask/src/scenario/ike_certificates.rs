//! Authentication with certificates against strongSwan: each kind of key below an intermediate CA, self-signed ones, chains
//! in fragments, and what has to be refused. OpenSSL makes the certificates when the scenario runs.

use super::ike_fragments::in_fragments;
use super::strongswan::{CHACHA20, IKE, Peers, connection, initiate, refusal};
use super::topology::{A, B, TwoSites};
use crate::debian;
use crate::strongswan::Strongswan;
use crate::workspace::run;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Octets of an IP packet of ours; strongSwan's have 600. No chain of two certificates fits.
const MTU: &str = "576";

/// Words for `openssl genpkey`, and what our log calls the key.
const KINDS: [&[&str]; 5] = [
    &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    &["-algorithm", "ED25519"],
];

const THERE: &str = "there.example.com";

const EXTENSIONS: &str = "[req]
distinguished_name = none
[none]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[here]
subjectAltName = DNS:here.example.com
keyUsage = critical, digitalSignature
extendedKeyUsage = 1.3.6.1.5.5.7.3.17
[there]
subjectAltName = DNS:there.example.com
[stranger]
subjectAltName = DNS:stranger.example.com
[lists]
database = index
default_md = sha256
default_crl_days = 30
";

/// A directory with a root, an intermediate CA and what they issue.
struct Pki {
    directory: PathBuf,
}

impl Pki {
    fn new(directory: PathBuf) -> Result<Self> {
        debian::ensure(&["openssl"], "certificates for the tests")?;
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("openssl.cnf"), EXTENSIONS)?;
        fs::write(directory.join("index"), "")?;
        let pki = Self { directory };
        pki.key("root", KINDS[1])?;
        pki.openssl(
            "req -x509 -key root.key -out root.pem -days 30 -subj /O=Tests/CN=root -extensions ca -config openssl.cnf",
        )?;
        pki.key("middle", KINDS[1])?;
        pki.certificate("middle", "middle", "ca", "root", "-days 30")?;
        Ok(pki)
    }

    fn openssl(&self, words: &str) -> Result<()> {
        run(Command::new("openssl").args(words.split(' ')).current_dir(&self.directory)).map(|_| ())
    }

    fn key(&self, name: &str, kind: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        command.arg("genpkey").args(kind).args(["-out", &format!("{name}.key")]).current_dir(&self.directory);
        run(&mut command).map(|_| ())
    }

    /// `NAME.pem` for the key `NAME.key`, `CN=COMMON`, with a section of extensions.
    fn certificate(&self, name: &str, common: &str, section: &str, issuer: &str, dates: &str) -> Result<()> {
        self.openssl(&format!(
            "req -new -key {name}.key -out {name}.csr -subj /O=Tests/CN={common} -config openssl.cnf"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -out {name}.pem {dates} \
             -extfile openssl.cnf -extensions {section}"
        ))
    }

    /// Keys and certificates for both sides, below the intermediate CA.
    fn pair(&self, kind: &[&str]) -> Result<()> {
        for (name, section) in [("here", "here"), ("there", "there")] {
            self.key(name, kind)?;
            self.certificate(name, name, section, "middle", "-days 30")?;
        }
        Ok(())
    }

    fn copy(&self, name: &str, to: &Path) -> Result<()> {
        let parent = to.parent().context("a file has a directory")?;
        fs::create_dir_all(parent)?;
        fs::copy(self.directory.join(name), to).with_context(|| format!("copying {name} to {}", to.display()))?;
        let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
        fs::set_permissions(to, Permissions::from_mode(mode))?;
        Ok(())
    }
}

/// Where our key store is, and strongSwan's.
struct Stores {
    ours: PathBuf,
    theirs: PathBuf,
}

impl Stores {
    fn of(sites: &TwoSites) -> Self {
        let ours = sites.lab.directory().join("keystore");
        Self { ours, theirs: Strongswan::directory(&sites.lab, &sites.b) }
    }

    fn empty(&self) -> Result<()> {
        for directory in ["certs", "private", "crls"].map(|name| self.ours.join(name)) {
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        }
        for name in ["x509", "x509ca", "private"] {
            let _ = fs::remove_dir_all(self.theirs.join(name));
        }
        Ok(())
    }

    /// Both trust the root and have the intermediate CA, their own certificate and its key.
    fn below_root(&self, pki: &Pki) -> Result<()> {
        self.empty()?;
        for authority in ["root.pem", "middle.pem"] {
            pki.copy(authority, &self.ours.join("certs").join(authority))?;
            pki.copy(authority, &self.theirs.join("x509ca").join(authority))?;
        }
        self.own(pki)
    }

    fn own(&self, pki: &Pki) -> Result<()> {
        pki.copy("here.pem", &self.ours.join("certs/here.pem"))?;
        pki.copy("here.key", &self.ours.join("private/here.key"))?;
        pki.copy("there.pem", &self.theirs.join("x509/there.pem"))?;
        pki.copy("there.key", &self.theirs.join("private/there.key"))
    }
}

/// strongSwan's side; `more` goes into its idea of us.
fn certified(more: &str) -> String {
    let psk = connection(IKE, &CHACHA20, "unused");
    let local = format!("local {{ auth = psk\n                     id = {B} }}");
    let remote = format!("remote {{ auth = psk\n                      id = {A} }}");
    psk.replace(&local, &format!("local {{ auth = pubkey\n certs = there.pem\n id = {THERE} }}"))
        .replace(&remote, &format!("remote {{ auth = pubkey\n id = \"O=Tests, CN=here\"\n {more} }}"))
}

fn start(sites: TwoSites, stores: &Stores, rule: &str) -> Result<Peers> {
    let store = stores.ours.to_string_lossy().into_owned();
    let options = ["--keystore", &store, "--fragmentation-mtu", MTU];
    Peers::configured(sites, B, CHACHA20.policy, (&rules(rule), ""), &certified(""), &options)
}

const RULE: &str =
    "local_id DN = \"CN=here, O=Tests\" remote_id FQDN = \"there.example.com\" required_issuer \"O=Tests, CN=root\"";

/// Reads what changed on both sides.
fn reload(peers: &Peers, theirs: &str) -> Result<()> {
    let count = || Ok::<_, anyhow::Error>(peers.daemon.log()?.matches("configuration in force").count());
    let before = count()?;
    peers.daemon.signal(Signal::SIGHUP)?;
    peers.until("the key store was not read again", || Ok(count()? > before))?;
    peers.theirs.load(theirs)
}

/// V2-AUTH-11, V2-AUTH-12, SIG-01 to SIG-04: every kind of key, either side asks; certificates go in fragments.
pub(super) fn accepted() -> Result<()> {
    let sites = TwoSites::new("ikecert")?;
    let stores = Stores::of(&sites);
    let pki = Pki::new(sites.lab.directory().join("pki"))?;
    pki.pair(KINDS[0])?;
    stores.below_root(&pki)?;
    let peers = start(sites, &stores, RULE)?;
    for (index, kind) in KINDS.iter().enumerate() {
        let name = kind.join(" ");
        if index > 0 {
            pki.pair(kind)?;
            stores.below_root(&pki)?;
            reload(&peers, &certified(""))?;
        }
        both_roles(&peers).with_context(|| name.clone())?;
    }
    in_fragments(&peers, 10)?;
    // Each is known to the other by its certificate alone.
    stores.empty()?;
    for name in ["here", "there"] {
        pki.key(name, KINDS[1])?;
        pki.openssl(&format!(
            "req -x509 -key {name}.key -out {name}.pem -days 30 -subj /O=Tests/CN={name} -extensions {name} -config openssl.cnf"
        ))?;
    }
    stores.own(&pki)?;
    pki.copy("there.pem", &stores.ours.join("certs/there.pem"))?;
    pki.copy("here.pem", &stores.theirs.join("x509/here.pem"))?;
    let rule = RULE.split(" required_issuer").next().unwrap_or_default();
    peers.ours.file("ikev2.config", &rules(rule))?;
    reload(&peers, &certified("certs = here.pem"))?;
    both_roles(&peers).context("self-signed")
}

/// An ikev2.config with one rule, in line 3.
fn rules(rule: &str) -> String {
    format!(
        "ikesa_xform {{ encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }}\n\n\
         {{ label \"peer\" auth_method cert local_addr {A} remote_addr {B} {rule} }}\n"
    )
}

fn both_roles(peers: &Peers) -> Result<()> {
    initiate(peers).with_context(|| format!("strongSwan asks\n{}", peers.logs()))?;
    peers.traffic(1 << 18)?;
    end(peers)?;
    peers.connect().context("we ask")?;
    peers.traffic(1 << 18)?;
    end(peers)
}

fn end(peers: &Peers) -> Result<()> {
    peers.theirs.swanctl(&["--terminate", "--ike", "peer"])?;
    peers.until("SAs are left after strongSwan deleted them", || Ok(peers.ours.sas()?.is_empty()))
}

/// CRT-02, CRT-04, V2-AUTH-06, V2-AUTH-08: one line each, with the cause and the line of the rule.
pub(super) fn refused() -> Result<()> {
    let sites = TwoSites::new("ikebadcert")?;
    let stores = Stores::of(&sites);
    let pki = Pki::new(sites.lab.directory().join("pki"))?;
    pki.pair(KINDS[1])?;
    stores.below_root(&pki)?;
    let peers = start(sites, &stores, RULE)?;
    let failed = "IKE_AUTH with 203.0.113.2:4500 failed:";
    let cause = |what: &str| format!("{failed} AUTHENTICATION_FAILED: {what}");

    // strongSwan's is revoked.
    pki.openssl("ca -config openssl.cnf -name lists -keyfile middle.key -cert middle.pem -revoke there.pem")?;
    pki.openssl("ca -config openssl.cnf -name lists -keyfile middle.key -cert middle.pem -gencrl -out middle.crl")?;
    pki.copy("middle.crl", &stores.ours.join("crls/middle.crl"))?;
    reload(&peers, &certified(""))?;
    asked(&peers, &cause("the certificate of O=Tests, CN=there was revoked by O=Tests, CN=middle"))?;
    fs::remove_file(stores.ours.join("crls/middle.crl"))?;

    // It has expired.
    pki.certificate("there", "there", "there", "middle", "-days -1")?;
    stores.below_root(&pki)?;
    reload(&peers, &certified(""))?;
    asked(&peers, &cause("the certificate of O=Tests, CN=there has expired"))?;

    // It is good, but for somebody else.
    pki.certificate("there", "there", "stranger", "middle", "-days 30")?;
    stores.below_root(&pki)?;
    let stranger = certified("").replace(THERE, "stranger.example.com");
    reload(&peers, &stranger)?;
    asked(
        &peers,
        &format!(
            "{failed} identity not accepted: the peer says it is stranger.example.com; rules want FQDN = there.example.com \"peer\""
        ),
    )?;

    // It comes from a CA of the same name that nobody knows.
    let other = Pki::new(pki.directory.join("other"))?;
    other.pair(KINDS[1])?;
    stores.below_root(&pki)?;
    for (from, to) in [("there.pem", "x509/there.pem"), ("there.key", "private/there.key")] {
        other.copy(from, &stores.theirs.join(to))?;
    }
    for authority in ["root.pem", "middle.pem"] {
        other.copy(authority, &stores.theirs.join("x509ca").join(format!("other-{authority}")))?;
    }
    reload(&peers, &certified(""))?;
    let told = refusal(&peers);
    ensure!(told.contains("AUTH_FAILED"), "strongSwan was not told: {told}\n{}", peers.logs());
    let line = peers.failure()?;
    let stranger = "the certificate of O=Tests, CN=";
    ensure!(line.contains(&cause(stranger)), "not the line of a strange CA: {line}");

    // Nothing of it stands in the way of a good one.
    pki.pair(KINDS[1])?;
    stores.below_root(&pki)?;
    reload(&peers, &certified(""))?;
    both_roles(&peers)
}

/// strongSwan asks, and we refuse with one line.
fn asked(peers: &Peers, words: &str) -> Result<()> {
    let told = refusal(peers);
    ensure!(told.contains("AUTH_FAILED"), "strongSwan was not told: {told}\n{}", peers.logs());
    peers.says(words)?;
    ensure!(peers.ours.sas()?.is_empty(), "a refused negotiation left SAs behind");
    Ok(())
}
