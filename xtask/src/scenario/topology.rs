//! The network that nearly every scenario uses: two gateways with a network behind each, and a router between them
//! that knows both networks, so that what is not protected arrives all the same and is seen.

use crate::net::{Host, Lab};
use anyhow::Result;
use std::net::{IpAddr, Ipv4Addr};

/// The address of host B in its own network, 10.2.0.0/24.
pub(crate) const INNER_B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));

/// Two hosts and the router between them.
pub(crate) struct TwoSites {
    pub(crate) lab: Lab,
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// Its interfaces are `to-a` and `to-b`; those of the hosts are both `wan0`.
    pub(crate) router: Host,
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
        Ok(Self { lab, a, b, router })
    }
}
