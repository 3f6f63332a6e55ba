//! Tunnels by name: the ends that `tunnel NAME` in a policy rule stands for.
//!
//! Solaris takes them from its tunnel interfaces; here `espadm tunnel create` defines them, and they outlive a boot.
//! A rule may name a tunnel that does not exist yet; it gets its ends when the tunnel is made.

use super::error::SadbError;
use super::files;
use super::instance::{Instance, InstanceError};
use super::lock::InstanceLock;
use super::maps;
use super::spd::Spd;
use crate::sa::{OuterHeader, outer};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// Longest name in octets (spec section 4.2).
pub const MAX_TUNNEL_NAME: usize = 31;

/// A named pair of outer addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Name as rules write it.
    pub name: String,
    /// Outer address of this end.
    pub local: IpAddr,
    /// Outer address of the other end.
    pub remote: IpAddr,
    /// What the outer headers of its packets say.
    #[serde(default, skip_serializing_if = "OuterOptions::is_default")]
    pub outer: OuterOptions,
}

impl Tunnel {
    /// A tunnel whose outer headers are the usual ones.
    pub fn new(name: impl Into<String>, local: IpAddr, remote: IpAddr) -> Self {
        Self { name: name.into(), local, remote, outer: OuterOptions::default() }
    }
}

/// What outer headers take from inner ones (RFC 4301 section 5.1.2, RFC 6040).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterOptions {
    /// DSCP, 0 to 63; `None` copies that of the inner header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// DF bit, IPv4 outside.
    #[serde(default)]
    pub df: DfOption,
    /// TTL or hop limit, 1 to 255; `None` is 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Not-ECT outside, for a far end that would lose congestion marks (RFC 6040 section 4.3).
    #[serde(default)]
    pub ecn_compatible: bool,
}

/// The DF bit of outer IPv4 headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DfOption {
    /// Not set: routers may fragment what is sealed.
    #[default]
    Clear,
    /// As the inner header has it.
    Copy,
    /// Set.
    Set,
}

impl OuterOptions {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// As the data path has it.
    pub fn header(&self) -> OuterHeader {
        OuterHeader {
            dscp: self.dscp.map_or(0, |dscp| outer::FIXED_DSCP | (dscp & 63)),
            df: match self.df {
                DfOption::Clear => outer::CLEAR_DF,
                DfOption::Copy => outer::COPY_DF,
                DfOption::Set => outer::SET_DF,
            },
            ttl: self.ttl.unwrap_or(0),
            ecn: if self.ecn_compatible { outer::ECN_COMPATIBLE } else { outer::ECN_NORMAL },
        }
    }
}

/// Why a tunnel cannot be defined or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The name is empty, too long or has characters that no rule could write.
    #[error("{0:?} is no tunnel name: use 1 to 31 letters, digits, '.', '_' or '-'")]
    Name(String),
    /// The ends are of two families, unspecified, multicast or the same.
    #[error(
        "{local} and {remote} cannot be the ends of a tunnel: two different unicast addresses of one family are needed"
    )]
    Ends {
        /// This end.
        local: IpAddr,
        /// The other end.
        remote: IpAddr,
    },
    /// There is a tunnel of that name.
    #[error("tunnel {0:?} exists already; delete it first")]
    Exists(String),
    /// There is no tunnel of that name.
    #[error("no tunnel {0:?}")]
    NotFound(String),
    /// Files or maps.
    #[error(transparent)]
    Sadb(#[from] SadbError),
}

/// The tunnel definitions of an instance.
#[derive(Debug)]
pub struct Tunnels {
    instance: Instance,
    path: PathBuf,
}

impl Tunnels {
    /// The definitions of the instance, which need not be attached.
    ///
    /// # Errors
    /// The instance belongs to another network namespace; the state directory cannot be made.
    pub fn open(instance: &Instance) -> Result<Self, SadbError> {
        match maps::header(instance) {
            Err(e @ SadbError::Instance(InstanceError::OtherNamespace { .. })) => Err(e),
            // Whatever else is wrong with what is attached, the definitions are a file of their own.
            _ => Ok(Self { instance: instance.clone(), path: path(instance)? }),
        }
    }

    /// Every tunnel, by name.
    ///
    /// # Errors
    /// The file cannot be read or is not ours.
    pub fn list(&self) -> Result<Vec<Tunnel>, SadbError> {
        Ok(files::read(&self.path)?.unwrap_or_default())
    }

    /// The tunnel of that name.
    ///
    /// # Errors
    /// As [`Tunnels::list`].
    pub fn find(&self, name: &str) -> Result<Option<Tunnel>, SadbError> {
        Ok(self.list()?.into_iter().find(|t| t.name == name))
    }

    /// Defines a tunnel and gives its ends to the rules in force that name it.
    ///
    /// # Errors
    /// [`TunnelError::Name`], [`TunnelError::Ends`], [`TunnelError::Exists`]; the file cannot be written.
    pub fn create(&self, tunnel: Tunnel) -> Result<(), TunnelError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if tunnel.name.is_empty() || tunnel.name.len() > MAX_TUNNEL_NAME || !tunnel.name.chars().all(plain) {
            return Err(TunnelError::Name(tunnel.name));
        }
        let Tunnel { local, remote, .. } = tunnel;
        let usable = |ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast();
        if local == remote || local.is_ipv4() != remote.is_ipv4() || !usable(local) || !usable(remote) {
            return Err(TunnelError::Ends { local, remote });
        }
        self.change(|all| match all.binary_search_by(|t| t.name.cmp(&tunnel.name)) {
            Ok(_) => Err(TunnelError::Exists(tunnel.name)),
            Err(place) => {
                all.insert(place, tunnel);
                Ok(())
            }
        })
    }

    /// Removes a tunnel. Rules in force that name it lose their ends: what they cover is dropped.
    ///
    /// # Errors
    /// [`TunnelError::NotFound`]; the file cannot be written.
    pub fn delete(&self, name: &str) -> Result<(), TunnelError> {
        self.change(|all| match all.iter().position(|t| t.name == name) {
            Some(place) => {
                all.remove(place);
                Ok(())
            }
            None => Err(TunnelError::NotFound(name.to_owned())),
        })
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Tunnel>) -> Result<(), TunnelError>) -> Result<(), TunnelError> {
        let edited = || {
            let mut all = self.list()?;
            edit(&mut all).map(|()| all)
        };
        match Spd::open(&self.instance) {
            Ok(mut spd) => spd.change_tunnels(|write| match edited() {
                Ok(all) => write(&all).map(Ok),
                Err(e) => Ok(Err(e)),
            })?,
            Err(SadbError::Instance(InstanceError::NotAttached(_))) => {
                let _lock = InstanceLock::acquire(&self.instance)?;
                Ok(files::replace(&self.path, &edited()?)?)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Every definition.
pub(super) fn read(instance: &Instance) -> Result<Vec<Tunnel>, SadbError> {
    Ok(files::read(&path(instance)?)?.unwrap_or_default())
}

/// The outer header for SAs between these ends.
pub(super) fn outer_header(all: &[Tunnel], local: IpAddr, remote: IpAddr) -> OuterHeader {
    let between = |t: &&Tunnel| t.local == local && t.remote == remote;
    all.iter().find(between).map(|t| t.outer.header()).unwrap_or_default()
}

/// File of the definitions.
pub(super) fn path(instance: &Instance) -> Result<PathBuf, SadbError> {
    Ok(instance.state_dir()?.join("tunnels.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Addr;
    use crate::host::fault;
    use crate::host::spd::CompiledRule;
    use crate::host::testing::{TestInstance, in_new_netns};
    use crate::policy::Rule;
    use bytemuck::Zeroable;

    fn tunnel(name: &str, local: &str, remote: &str) -> Tunnel {
        Tunnel::new(name, local.parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn tunnels_are_kept_by_name() {
        let test = TestInstance::bare().unwrap();
        let tunnels = Tunnels::open(&test).unwrap();
        assert_eq!(tunnels.list().unwrap(), []);
        let (a, b) = (tunnel("a0", "192.0.2.1", "192.0.2.2"), tunnel("b0", "2001:db8::1", "2001:db8::2"));
        tunnels.create(b.clone()).unwrap();
        tunnels.create(a.clone()).unwrap();
        assert_eq!(Tunnels::open(&test).unwrap().list().unwrap(), [a.clone(), b.clone()]);
        assert!(matches!(tunnels.create(a.clone()), Err(TunnelError::Exists(_))));
        tunnels.delete("a0").unwrap();
        assert!(matches!(tunnels.delete("a0"), Err(TunnelError::NotFound(_))));
        assert_eq!(tunnels.find("b0").unwrap(), Some(b));
        assert_eq!(tunnels.find("a0").unwrap(), None);
    }

    #[test]
    fn another_network_namespace_changes_nothing() {
        let test = TestInstance::with_maps(2).unwrap();
        in_new_netns(|| {
            let refused = Tunnels::open(&test).map(drop).unwrap_err();
            assert!(matches!(refused, SadbError::Instance(InstanceError::OtherNamespace { .. })), "{refused}");
        });
        assert_eq!(Tunnels::open(&test).unwrap().list().unwrap(), []);
    }

    #[test]
    fn remains_of_an_instance_do_not_keep_a_tunnel_from_being_defined() {
        let test = TestInstance::with_maps(2).unwrap();
        maps::write_header(&test, &crate::abi::Header::default()).unwrap();
        Tunnels::open(&test).unwrap().create(tunnel("a0", "192.0.2.1", "192.0.2.2")).unwrap();
    }

    #[test]
    fn killed_at_any_write_rules_have_the_ends_of_the_definition_once_the_next_tool_has_looked() {
        let test = TestInstance::with_maps(2).unwrap();
        let rule = Rule { directions: 3, flags: crate::policy::rule_flag::TUNNEL, ..Rule::zeroed() };
        let rule = CompiledRule { rule, tunnel: Some("a0".into()) };
        let tunnels = Tunnels::open(&test).unwrap();
        for n in 1.. {
            Spd::open(&test).unwrap().replace(std::slice::from_ref(&rule)).unwrap();
            let lived = fault::survives(n, || tunnels.create(tunnel("a0", "192.0.2.1", "192.0.2.2")).unwrap());
            let defined = tunnels.find("a0").unwrap().map(|t| Addr::from(t.remote)).unwrap_or_default();
            assert_eq!(Spd::open(&test).unwrap().rules().unwrap()[0].rule.tunnel_remote, defined, "write {n}");
            if lived {
                assert!(n > 3);
                break;
            }
            if defined != Addr::default() {
                tunnels.delete("a0").unwrap();
            }
        }
    }

    #[test]
    fn impossible_tunnels_are_refused() {
        let test = TestInstance::bare().unwrap();
        let tunnels = Tunnels::open(&test).unwrap();
        for (local, remote) in [("::1", "192.0.2.2"), ("192.0.2.1", "192.0.2.1"), ("0.0.0.0", "192.0.2.1")] {
            assert!(matches!(tunnels.create(tunnel("x", local, remote)), Err(TunnelError::Ends { .. })));
        }
        for name in ["", "a b", "a/b", &"x".repeat(32)] {
            assert!(matches!(tunnels.create(tunnel(name, "192.0.2.1", "192.0.2.2")), Err(TunnelError::Name(_))));
        }
    }
}
