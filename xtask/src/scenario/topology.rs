//! The network that nearly every scenario uses: two gateways with a network behind each, and a router between them
//! that knows both networks, so that what is not protected arrives all the same and is seen.

use crate::net::{Host, Lab};
use crate::suite::Suite;
use anyhow::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The outer address of host A.
pub(crate) const A: &str = "198.51.100.2";
/// The outer address of host B.
pub(crate) const B: &str = "203.0.113.2";
/// The network behind host A, with its own address there.
pub(crate) const NET_A: &str = "10.1.0.0/24";
/// The network behind host B.
pub(crate) const NET_B: &str = "10.2.0.0/24";
/// The address of host A in its network.
pub(crate) const INNER_A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
/// The address of host B in its network.
pub(crate) const INNER_B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));

/// The same in IPv6, on hosts that [`TwoSites::add_ipv6`] gave it to.
pub(crate) const A6: &str = "2001:db8:1::2";
/// The outer IPv6 address of host B.
pub(crate) const B6: &str = "2001:db8:2::2";
/// The IPv6 network behind host A.
pub(crate) const NET_A6: &str = "2001:db8:a::/64";
/// The IPv6 network behind host B.
pub(crate) const NET_B6: &str = "2001:db8:b::/64";
/// The address of host A in its IPv6 network.
pub(crate) const INNER_A6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));
/// The address of host B in its IPv6 network.
pub(crate) const INNER_B6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1));

/// Two hosts and the router between them.
pub(crate) struct TwoSites {
    pub(crate) lab: Lab,
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// Its interfaces are `to-a` and `to-b`; those of the hosts are both `wan0`.
    pub(crate) router: Host,
    /// The interface of the router where what A sends is seen.
    pub(crate) wire: &'static str,
}

impl TwoSites {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let (a, router, b) = (lab.host("a")?, lab.host("r")?, lab.host("b")?);
        lab.join((&a, "wan0"), (&router, "to-a"))?;
        lab.join((&b, "wan0"), (&router, "to-b"))?;
        router.sysctl("ipv4.ip_forward", "1")?;
        router.ip(&[
            "address add 198.51.100.1/24 dev to-a",
            "address add 203.0.113.1/24 dev to-b",
            "route add 10.1.0.0/24 via 198.51.100.2",
            "route add 10.2.0.0/24 via 203.0.113.2",
        ])?;
        a.ip(&[
            "address add 198.51.100.2/24 dev wan0",
            "address add 10.1.0.1/24 dev lo",
            "route add default via 198.51.100.1",
            "route add 10.2.0.0/24 via 198.51.100.1 src 10.1.0.1",
        ])?;
        b.ip(&[
            "address add 203.0.113.2/24 dev wan0",
            "address add 10.2.0.1/24 dev lo",
            "route add default via 203.0.113.1",
            "route add 10.1.0.0/24 via 203.0.113.1 src 10.2.0.1",
        ])?;
        Ok(Self { lab, a, b, router, wire: "to-a" })
    }

    /// Adds a host behind each gateway, 10.1.0.9 and 10.2.0.9; the gateways forward, and have their own addresses in
    /// those networks on the interface `lan0`.
    pub(crate) fn add_hosts(&self) -> Result<(Host, Host)> {
        let behind = |name: &str, gateway: &Host, base: &str| -> Result<Host> {
            let host = self.lab.host(name)?;
            self.lab.join((&host, "eth0"), (gateway, "lan0"))?;
            gateway.sysctl("ipv4.ip_forward", "1")?;
            gateway
                .ip(&[&format!("address delete {base}.1/24 dev lo"), &format!("address add {base}.1/24 dev lan0")])?;
            host.ip(&[&format!("address add {base}.9/24 dev eth0"), &format!("route add default via {base}.1")])?;
            Ok(host)
        };
        let hosts = (behind("la", &self.a, "10.1.0")?, behind("lb", &self.b, "10.2.0")?);
        // The routes were chosen with the addresses that have moved.
        self.a.ip(&["route replace 10.2.0.0/24 via 198.51.100.1 src 10.1.0.1"])?;
        self.b.ip(&["route replace 10.1.0.0/24 via 203.0.113.1 src 10.2.0.1"])?;
        Ok(hosts)
    }

    /// Adds the same network in IPv6.
    pub(crate) fn add_ipv6(&self) -> Result<()> {
        self.router.sysctl("ipv6.conf.all.forwarding", "1")?;
        self.router.ip(&[
            "address add 2001:db8:1::1/64 dev to-a nodad",
            "address add 2001:db8:2::1/64 dev to-b nodad",
            "route add 2001:db8:a::/64 via 2001:db8:1::2",
            "route add 2001:db8:b::/64 via 2001:db8:2::2",
        ])?;
        for (host, own, inner, gateway, there) in
            [(&self.a, A6, INNER_A6, "2001:db8:1::1", NET_B6), (&self.b, B6, INNER_B6, "2001:db8:2::1", NET_A6)]
        {
            host.ip(&[
                &format!("address add {own}/64 dev wan0 nodad"),
                &format!("address add {inner}/64 dev lo nodad"),
                &format!("route add default via {gateway}"),
                &format!("route add {there} via {gateway} src {inner}"),
            ])?;
        }
        Ok(())
    }
}

/// The suite on both hosts, with a tunnel `vpn0` between them whose rule protects the traffic of the two networks.
pub(crate) struct Protected {
    pub(crate) a: Suite,
    pub(crate) b: Suite,
    pub(crate) sites: TwoSites,
}

impl Protected {
    /// `algorithms` are the properties of the rule, for example `encr_algs aes-gcm(256)`; `attach` has further options
    /// of `espadm attach`.
    pub(crate) fn new(name: &str, algorithms: &str, attach: &[&str]) -> Result<Self> {
        let attach = [attach, &["wan0"]].concat();
        Self::on(TwoSites::new(name)?, algorithms, &attach, &attach)
    }

    /// The same on hosts that are there, with all arguments of `espadm attach` for each.
    pub(crate) fn on(sites: TwoSites, algorithms: &str, attach_a: &[&str], attach_b: &[&str]) -> Result<Self> {
        let (a, b) = (Suite::attach(&sites.lab, &sites.a, attach_a)?, Suite::attach(&sites.lab, &sites.b, attach_b)?);
        a.tunnel("vpn0", A, B)?;
        b.tunnel("vpn0", B, A)?;
        let protected = Self { a, b, sites };
        protected.policy(algorithms)?;
        Ok(protected)
    }

    /// Replaces the policy of both.
    pub(crate) fn policy(&self, algorithms: &str) -> Result<()> {
        self.a.policy(&rule(NET_A, NET_B, algorithms))?;
        self.b.policy(&rule(NET_B, NET_A, algorithms))
    }

    /// Removes the policy of both: what was protected goes in clear.
    pub(crate) fn unprotect(&self) -> Result<()> {
        self.a.policy("")?;
        self.b.policy("")
    }

    /// Loads a pair of tunnel-mode SAs on both; `transform` are the extensions of ipseckey that say how, with a key for
    /// each direction.
    pub(crate) fn keys(&self, a_to_b: &str, b_to_a: &str) -> Result<()> {
        let add = |spi: u32, src: &str, dst: &str, isrc: &str, idst: &str, direction: &str, transform: &str| {
            format!("add esp spi {spi:#x} src {src} dst {dst} {direction} isrc {isrc} idst {idst} {transform}\n")
        };
        for (suite, first, second) in [(&self.a, "outbound", "inbound"), (&self.b, "inbound", "outbound")] {
            let there = add(SPI_A_TO_B, A, B, NET_A, NET_B, first, a_to_b);
            let back = add(SPI_B_TO_A, B, A, NET_B, NET_A, second, b_to_a);
            suite.keys(&(there + &back))?;
        }
        Ok(())
    }
}

/// The rule of one end.
pub(crate) fn rule(local: &str, remote: &str, algorithms: &str) -> String {
    format!("{{ tunnel vpn0 negotiate tunnel laddr {local} raddr {remote} }} ipsec {{ {algorithms} }}\n")
}

/// 256 bits of key and 32 bits of salt, different for each direction, as every counter mode needs.
pub(crate) const KEY_A_TO_B: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fa0a1a2a3";
/// The key of the other direction.
pub(crate) const KEY_B_TO_A: &str = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fb0b1b2b3";
/// The same with 128 bits of key.
pub(crate) const SHORT_KEY_A_TO_B: &str = "000102030405060708090a0b0c0d0e0fa0a1a2a3";
/// The key of the other direction.
pub(crate) const SHORT_KEY_B_TO_A: &str = "808182838485868788898a8b8c8d8e8fb0b1b2b3";

/// SPI of what A sends.
pub(crate) const SPI_A_TO_B: u32 = 0x1001;
/// SPI of what B sends.
pub(crate) const SPI_B_TO_A: u32 = 0x1002;
