//! What an `ipseckey` command asks for, with all its words understood.

use super::hexkey::HexKey;
use crate::policy::Position;
use crate::policy::selectors::Prefix;
use sadb_maps::host::{Direction, Identity};
use sadb_maps::sa::{self, Lifetime};
use std::net::IpAddr;

/// Type of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaType {
    /// Authentication Header.
    Ah,
    /// Encapsulating Security Payload.
    Esp,
}

impl SaType {
    /// IP protocol number.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Ah => sa::AH,
            Self::Esp => sa::ESP,
        }
    }

    /// Number in PF_KEY.
    pub fn pfkey(self) -> u8 {
        match self {
            Self::Ah => 2,
            Self::Esp => 3,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ah => "ah",
            Self::Esp => "esp",
        }
    }
}

/// A command.
#[derive(Clone, Debug)]
pub enum Command {
    /// Add an SA for each destination.
    Add(Box<SaRequest>),
    /// Change an SA, or both of a pair.
    Update {
        /// The change.
        request: Box<SaRequest>,
        /// `update-pair`.
        pair: bool,
    },
    /// Delete an SA, or both of a pair.
    Delete {
        /// Which.
        name: SaName,
        /// `delete-pair`.
        pair: bool,
    },
    /// Show an SA.
    Get(SaName),
    /// Delete all; `None` is every type.
    Flush(Option<SaType>),
    /// Show all.
    Dump(Option<SaType>),
    /// Write all to a file; `None` is standard output.
    Save(Option<SaType>, Option<String>),
    /// Watch the bus. Both kinds show the same: replies to get and dump are not on it.
    Monitor {
        /// `passive_monitor`.
        passive: bool,
    },
    /// Explain.
    Help(Option<String>),
    /// Leave.
    Quit,
}

/// Which SA, by name: what get, delete and delete-pair need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaName {
    /// Type.
    pub kind: SaType,
    /// SPI, not 0.
    pub spi: u32,
    /// Direction flag.
    pub direction: Direction,
    /// Source addresses of the name that was given; empty when none was.
    pub sources: Vec<IpAddr>,
    /// Destination addresses.
    pub destinations: Vec<IpAddr>,
    /// Where the SPI stands.
    pub at: Position,
}

impl SaName {
    /// One pair of source and destination for each destination that a source fits. A destination without one is left
    /// out; several sources that fit make the source unspecified (`None`).
    pub fn pairs(&self) -> Vec<(Option<IpAddr>, IpAddr)> {
        let mut found = Vec::new();
        for destination in &self.destinations {
            let fits = |source: &&IpAddr| source.is_ipv4() == destination.is_ipv4() || source.is_unspecified();
            let mut fitting: Vec<_> = self.sources.iter().filter(fits).collect();
            if fitting.len() > 1 {
                // Addresses of a link do not reach others.
                fitting.retain(|source| is_of_a_link(source) == is_of_a_link(destination));
            }
            match (self.sources.is_empty(), fitting.as_slice()) {
                (true, _) => found.push((None, *destination)),
                (false, []) => {}
                (false, [one]) => found.push((Some(**one).filter(|s| !s.is_unspecified()), *destination)),
                (false, _) => found.push((None, *destination)),
            }
        }
        found
    }
}

/// Whether an address is good on its link only (RFC 4291 section 2.5.6).
fn is_of_a_link(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// UDP encapsulation as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Natt {
    /// `nat_loc`.
    pub local: Option<IpAddr>,
    /// `nat_rem`.
    pub remote: Option<IpAddr>,
    /// `nat_lport`.
    pub local_port: Option<u16>,
    /// `nat_rport`.
    pub remote_port: Option<u16>,
}

/// What add and update say about an SA.
#[derive(Clone, Debug)]
pub struct SaRequest {
    /// Which SA.
    pub name: SaName,
    /// `pair-spi`.
    pub pair_spi: Option<u32>,
    /// `replay`: packets of the window.
    pub replay: Option<u32>,
    /// `replay_value`.
    pub replay_value: Option<u64>,
    /// `state`, [`sa::state`].
    pub state: Option<u32>,
    /// `auth_alg`.
    pub auth: Option<u8>,
    /// `encr_alg`; filled in with NULL for ESP by add.
    pub encr: Option<u8>,
    /// `authkey`.
    pub auth_key: Option<HexKey>,
    /// `encrkey`.
    pub encr_key: Option<HexKey>,
    /// `reserved_bits`.
    pub reserved_bits: Option<u16>,
    /// `soft_*`, when any was given.
    pub soft: Option<Lifetime>,
    /// `hard_*`, when any was given.
    pub hard: Option<Lifetime>,
    /// `idle_*`, when any was given.
    pub idle: Option<[u32; 2]>,
    /// `isrc`.
    pub inner_source: Option<Prefix>,
    /// `idst`.
    pub inner_destination: Option<Prefix>,
    /// `sport`, `dport`.
    pub ports: [Option<u16>; 2],
    /// `isport`, `idport`.
    pub inner_ports: [Option<u16>; 2],
    /// `proto`.
    pub proto: Option<u8>,
    /// `iproto`.
    pub inner_proto: Option<u8>,
    /// `encap udp`.
    pub encap: Option<Natt>,
    /// `esn`.
    pub esn: bool,
    /// `srcidtype`, `dstidtype`.
    pub identities: [Option<Identity>; 2],
    /// Where the algorithm stands, for errors.
    pub algorithm_at: Position,
    /// Where the key stands, for errors.
    pub key_at: Position,
    /// Where the key of authentication stands, for errors.
    pub auth_key_at: Position,
}

impl SaRequest {
    /// Whether an algorithm or a key was given.
    pub fn has_keys(&self) -> bool {
        self.encr.is_some() || self.auth.is_some() || self.encr_key.is_some() || self.auth_key.is_some()
    }

    /// Whether a word was given that makes the SA one of tunnel mode.
    pub fn is_tunnel(&self) -> bool {
        self.inner_source.is_some()
            || self.inner_destination.is_some()
            || self.inner_proto.is_some()
            || self.inner_ports.iter().any(Option::is_some)
    }
}
