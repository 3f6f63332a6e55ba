//! Datagrams with random content over real interfaces, where a frame has less room than one that is handed to a program.

use super::manual::{manual_keys, same_counts, state};
use super::topology::{INNER_A, INNER_B, Protected};
use crate::suite::drops;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Twice every size, each in both directions, and some over.
const DATAGRAMS: usize = 3000;

/// Octets of the longest one: an IPv4 packet of 1500. Those above 1418 do not fit the tunnel and go in two fragments.
const LARGEST: usize = 1472;

/// A datagram that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// ARC-FRG-02: a tunnel for any port carries fragments, the first and the others.
pub(super) fn random_content() -> Result<()> {
    for (algorithm, policy) in
        [("chacha20-poly1305", "encr_algs chacha20-poly1305"), ("aes-gcm", "encr_algs aes-gcm(256)")]
    {
        let net = Protected::new("datagrams", policy, &[])?;
        manual_keys(&net, algorithm)?;
        let a = net.sites.a.within(|| socket(INNER_A))?;
        let b = net.sites.b.within(|| socket(INNER_B))?;
        for (from, to) in [(&a, &b), (&b, &a)] {
            learn_limit(from, to).with_context(|| format!("{algorithm}: {}", state(&net)))?;
        }
        let before = (net.a.counters()?, net.b.counters()?);
        let mut random = Random(1);
        for count in 0..DATAGRAMS {
            let size = count % (LARGEST + 1);
            let content = random.octets(size);
            // The sizes are odd in number, so the second time round each goes the other way.
            let (from, to) = if count % 2 == 0 { (&a, &b) } else { (&b, &a) };
            pass(from, to, &content).with_context(|| format!("{algorithm}, {size} octets: {}", state(&net)))?;
        }
        let after = (net.a.counters()?, net.b.counters()?);
        let lost = [drops(&before.0, &after.0), drops(&before.1, &after.1)].concat();
        ensure!(lost.is_empty(), "packets were dropped: {}", lost.join(", "));
        same_counts(&net)?;
        println!("{algorithm}: {DATAGRAMS} datagrams of 0 to {LARGEST} octets arrived as they were sent");
    }
    Ok(())
}

fn socket(address: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).with_context(|| format!("a socket on {address}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The first packet that is too long is answered, not sealed; from then on the stack makes fragments.
fn learn_limit(from: &UdpSocket, to: &UdpSocket) -> Result<()> {
    let long = [0x55; LARGEST];
    from.send_to(&long, to.local_addr()?)?;
    to.set_read_timeout(Some(Duration::from_millis(200)))?;
    let first = to.recv_from(&mut [0; LARGEST]);
    to.set_read_timeout(Some(PATIENCE))?;
    ensure!(first.is_err(), "a datagram that does not fit came through before its sender knew");
    pass(from, to, &long)
}

/// Sends one datagram and compares what comes out.
fn pass(from: &UdpSocket, to: &UdpSocket, content: &[u8]) -> Result<()> {
    from.send_to(content, to.local_addr()?).context("sending")?;
    let mut buffer = [0; LARGEST + 1];
    let (length, sender): (usize, SocketAddr) = to.recv_from(&mut buffer).context("nothing came")?;
    ensure!(sender == from.local_addr()?, "a datagram from {sender}");
    ensure!(buffer.get(..length) == Some(content), "{length} octets came, and not those that were sent");
    Ok(())
}

/// A small seeded generator (SplitMix64): the same content on every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn octets(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| self.next().to_ne_bytes());
        words.take(len).collect()
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
