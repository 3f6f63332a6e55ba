//! The harness itself: that a capture sees what is in clear, and that strongSwan works in it.

use super::topology::{A, B, INNER_B, NET_A, NET_B, TwoSites};
use crate::net::capture::Capture;
use crate::net::transfer;
use crate::strongswan::Strongswan;
use crate::tshark;
use anyhow::{Result, ensure};

pub(super) fn clear_transfer() -> Result<()> {
    let sites = TwoSites::new("clear")?;
    let capture = Capture::start(&sites.router, "to-a")?;
    let transfer = transfer::tcp(&sites.a, &sites.b, INNER_B, 16 << 20, |_| {})?;
    let seen = capture.finish()?;
    println!("{:.2} Gbit/s, {} frames, {} with the marker", transfer.gigabits(), seen.frames, seen.marked);
    ensure!(seen.missed == 0, "the capture missed {} frames", seen.missed);
    ensure!(seen.bytes > 16 << 20 && seen.marked > 0, "the capture did not see the transfer: {} octets", seen.bytes);
    ensure!(seen.tcp > seen.marked && seen.esp == 0, "frames were taken for what they are not");
    Ok(())
}

pub(super) fn strongswan_pair() -> Result<()> {
    let sites = TwoSites::new("swan")?;
    let connection = |local: &str, remote: &str, local_net: &str, remote_net: &str| {
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
                    esp_proposals = aes256gcm16
                }} }}
            }} }}
            secrets {{ ike {{ secret = \"a secret of the tests\" }} }}"
        )
    };
    let capture = Capture::start(&sites.router, "to-a")?;
    let responder = Strongswan::start(&sites.lab, &sites.b, &connection(B, A, NET_B, NET_A))?;
    let initiator = Strongswan::start(&sites.lab, &sites.a, &connection(A, B, NET_A, NET_B))?;
    initiator.swanctl(&["--initiate", "--child", "net", "--timeout", "10"])?;
    ensure!(sites.a.ping(&INNER_B.to_string(), &[])?, "no answer through the tunnel\n{}", responder.log_end());
    let transfer = transfer::tcp(&sites.a, &sites.b, INNER_B, 4 << 20, |_| {})?;
    initiator.swanctl(&["--rekey", "--child", "net"])?;
    initiator.swanctl(&["--terminate", "--ike", "peer"])?;
    let seen = capture.finish()?;
    println!("{:.2} Gbit/s, {} ESP in UDP", transfer.gigabits(), seen.esp_in_udp);
    ensure!(seen.marked == 0 && seen.esp_in_udp > 0, "the flow was not protected");
    tshark::accept(&seen, &sites.lab.directory().join("swan.pcap"), 8)
}
