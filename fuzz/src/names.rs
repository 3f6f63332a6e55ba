//! The system's databases as the targets see them: the same everywhere.

use ipseckey::names::Names;
use std::net::{IpAddr, Ipv4Addr};

pub(crate) struct FixedNames;

const PROTOCOLS: [(&str, u8); 6] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("esp", 50), ("ah", 51), ("ipv6-icmp", 58)];
const SERVICES: [(&str, u16); 3] = [("ssh", 22), ("http", 80), ("isakmp", 500)];

impl Names for FixedNames {
    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "one" => vec![[192, 0, 2, 10].into()],
            "many" => vec![[192, 0, 2, 20].into(), [192, 0, 2, 21].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()],
            _ => Vec::new(),
        }
    }
    fn network(&self, name: &str) -> Option<(Ipv4Addr, u8)> {
        (name == "lab").then_some((Ipv4Addr::new(10, 9, 0, 0), 16))
    }
    fn service(&self, name: &str, _: u8) -> Option<u16> {
        SERVICES.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
    }
    fn protocol(&self, name: &str) -> Option<u8> {
        PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }
    fn host_name(&self, _: IpAddr) -> Option<String> {
        None
    }
    fn service_name(&self, port: u16, _: u8) -> Option<String> {
        SERVICES.iter().find(|(_, known)| *known == port).map(|(name, _)| (*name).to_owned())
    }
    fn protocol_name(&self, proto: u8) -> Option<String> {
        PROTOCOLS.iter().find(|(_, known)| *known == proto).map(|(name, _)| (*name).to_owned())
    }
}
