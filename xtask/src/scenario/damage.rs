//! IKE messages damaged on the wire: between two live daemons stands a relay that shows each of them thousands of
//! messages that are cut short or have a flipped bit, in every exchange there is.

use super::topology::{A, B, INNER_B, NET_A, NET_B, TwoSites, rule};
use crate::net::daemon::Daemon;
use crate::net::relay::Relay;
use crate::suite::{Suite, number, text};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What the relay is called on A's side and on B's.
const LEFT: &str = "198.51.100.1";
const RIGHT: &str = "203.0.113.1";

/// Exchange types of RFC 7296 section 3.1: IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL.
const EXCHANGES: [u8; 4] = [34, 35, 36, 37];

/// Notify types of RFC 7296 section 3.10.1 that may answer an IKE_SA_INIT request: UNSUPPORTED_CRITICAL_PAYLOAD,
/// INVALID_MAJOR_VERSION, INVALID_SYNTAX, NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, COOKIE. 0 is a full answer.
const ANSWERS: [u16; 7] = [0, 1, 5, 7, NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, COOKIE];
const NO_PROPOSAL_CHOSEN: u16 = 14;
const INVALID_KE_PAYLOAD: u16 = 17;
const COOKIE: u16 = 16390;

/// How long a peer that began may stay away before its half-open IKE SA goes, and some.
const HALF_OPEN: Duration = Duration::from_secs(60);

const PATIENCE: Duration = Duration::from_secs(40);

const PRESHARED: &str = "{ label \"pair\" key \"a secret of the tests, shared by two\" }\n";

fn side(sites: &TwoSites, host: &crate::net::Host, ends: [&str; 2], nets: [&str; 2]) -> Result<(Suite, Daemon)> {
    let ([local, remote], [here, there]) = (ends, nets);
    let suite = Suite::attach(&sites.lab, host, &["--acquire-hold", "1", "wan0"])?;
    suite.tunnel("vpn0", local, remote)?;
    suite.policy(&rule(here, there, "encr_algs chacha20-poly1305"))?;
    // A rekeys, soon; both are behind a NAT as they see it, so addresses are no identities.
    let lifetime = if local == A { "childsa_lifetime_secs 60\nchildsa_softlife_secs 8\n" } else { "" };
    let daemon = suite.daemon(
        &format!(
            "ikesa_xform {{ encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }}\n{lifetime}\
             {{ label \"pair\" auth_method preshared local_addr {local} remote_addr {remote} remote_id ANY }}\n"
        ),
        PRESHARED,
    )?;
    Ok((suite, daemon))
}

pub(super) fn every_exchange() -> Result<()> {
    let sites = TwoSites::new("damage")?;
    let relay = Relay::start(&sites.router, [LEFT.parse()?, A.parse()?], [RIGHT.parse()?, B.parse()?])?;
    let (a, a_daemon) = side(&sites, &sites.a, [A, LEFT], [NET_A, NET_B])?;
    let (b, b_daemon) = side(&sites, &sites.b, [B, RIGHT], [NET_B, NET_A])?;
    let logs = || format!("{:?}\nA:\n{}\nB:\n{}", relay.tally(), a_daemon.log_end(), b_daemon.log_end());
    let until = |what: &str, limit: Duration, holds: &mut dyn FnMut() -> Result<bool>| -> Result<()> {
        let start = Instant::now();
        while !holds()? {
            ensure!(start.elapsed() < limit, "not within {limit:?}: {what}\n{}", logs());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    let answered = || sites.a.ping(&INNER_B.to_string(), &["-W", "1"]);

    until("an answer through the tunnel", PATIENCE, &mut || answered())?;
    let first = a.outbound_spis()?;
    until("a rekey", PATIENCE, &mut || Ok(a.outbound_spis()?.iter().any(|spi| !first.contains(spi))))?;
    until("the delete of what was rekeyed", PATIENCE, &mut || Ok(a.sas()?.len() == 2 && b.sas()?.len() == 2))?;
    ensure!(answered()?, "no answer after the rekey\n{}", logs());
    until("damage to every exchange", PATIENCE, &mut || {
        let done = relay.tally()?.exchanges;
        Ok(EXCHANGES.iter().all(|exchange| done.get(exchange).is_some_and(|(messages, _)| *messages >= 2)))
    })?;
    let tally = relay.tally()?;
    println!("messages and what was made of them, by exchange: {:?}", tally.exchanges);
    println!("answers to damaged IKE_SA_INIT requests, by notification: {:?}", tally.answers);
    ensure!(tally.unexpected.is_empty(), "answered: {}", tally.unexpected.join(", "));
    ensure!(tally.answers.keys().all(|kind| ANSWERS.contains(kind)), "unknown answers: {:?}", tally.answers);
    for kind in [0, NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, COOKIE] {
        ensure!(tally.answers.contains_key(&kind), "no damaged request was answered with notification {kind}");
    }
    for suite in [&a, &b] {
        let active = active(&suite.ike_sas()?);
        let [sa] = active.as_slice() else { anyhow::bail!("there should be one IKE SA: {active:?}\n{}", logs()) };
        ensure!(number(sa, "integrity_failures") > 100, "damaged messages were not noticed: {sa}");
    }

    // What damaged IKE_SA_INIT requests left behind does not keep the next negotiation away.
    relay.be_harmless();
    a.tool("ikeadm", &["flush", "ikesa"])?;
    until("the end of all SAs", PATIENCE, &mut || {
        Ok([&a, &b].iter().all(|suite| suite.sas().is_ok_and(|sas| sas.is_empty())))
    })?;
    until("an answer after a new negotiation", PATIENCE, &mut || answered())?;
    let half_open = b.ike_sas()?.len();
    until("half-open IKE SAs gone", HALF_OPEN, &mut || Ok(b.ike_sas()?.len() == 1 && a.ike_sas()?.len() == 1))?;
    println!("{half_open} IKE SAs became one");
    ensure!(a.sas()?.len() == 2 && b.sas()?.len() == 2, "SAs are left over\n{}", logs());
    ensure!(answered()?, "no answer in the end\n{}", logs());
    for daemon in [&a_daemon, &b_daemon] {
        ensure!(daemon.status()?.is_none() && !daemon.log()?.contains("panicked"), "a daemon fell over\n{}", logs());
    }
    relay.finish().context("the relay")
}

fn active(sas: &[Value]) -> Vec<Value> {
    sas.iter().filter(|sa| text(sa, "state") == "ACTIVE").cloned().collect()
}
