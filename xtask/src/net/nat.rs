//! A router that translates addresses: the kernel's own NAT, set up with nftables.

use super::Host;
use crate::debian;
use crate::workspace::run_text;
use anyhow::{Context, Result};
use std::ops::RangeInclusive;

/// What a NAT makes of the source ports of UDP: never the port that the host behind it uses.
pub const MAPPED: RangeInclusive<u16> = 20_000..=29_999;

/// Installs what is missing for a NAT.
///
/// # Errors
/// See [`debian::ensure`].
pub fn ensure() -> Result<()> {
    debian::ensure(&["nftables"], "a NAT between hosts")
}

impl Host {
    /// Hides who sends UDP out of `interface` behind this router's own address there and a port of [`MAPPED`], IPv4 and
    /// IPv6.
    ///
    /// # Errors
    /// nftables is missing, or the kernel has no NAT.
    pub fn masquerade(&self, interface: &str) -> Result<()> {
        let (first, last) = (MAPPED.start(), MAPPED.end());
        self.nftables(&format!(
            "table inet outgoing {{ chain outgoing {{ type nat hook postrouting priority srcnat;\n\
             oifname {interface} meta l4proto udp masquerade to :{first}-{last} random\n}}\n}}"
        ))
    }

    /// As [`Host::masquerade`], for the IPv4 host `from` alone, behind `to`: one address and one port.
    ///
    /// # Errors
    /// As [`Host::masquerade`].
    pub fn translate(&self, interface: &str, from: &str, to: &str) -> Result<()> {
        self.nftables(&format!(
            "table ip fixed {{ chain fixed {{ type nat hook postrouting priority srcnat - 1;\n\
             oifname {interface} ip saddr {from} meta l4proto udp snat to {to}\n}}\n}}"
        ))
    }

    /// Hands UDP to `ports` that comes in on `interface` for this router to the IPv4 address `to`.
    ///
    /// # Errors
    /// As [`Host::masquerade`].
    pub fn forward_ports(&self, interface: &str, ports: &str, to: &str) -> Result<()> {
        self.nftables(&format!(
            "table ip incoming {{ chain incoming {{ type nat hook prerouting priority dstnat;\n\
             iifname {interface} udp dport {{ {ports} }} dnat to {to}\n}}\n}}"
        ))
    }

    /// Adds rules in the syntax of nft(8).
    ///
    /// # Errors
    /// nftables is missing, or what nft said.
    pub fn nftables(&self, rules: &str) -> Result<()> {
        ensure()?;
        run_text(self.command("nft").arg(rules)).with_context(|| format!("nftables on {}", self.name())).map(|_| ())
    }
}
