//! A data path in memory, for tests.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use sadb_maps::host::{CompiledRule, HeldPacket};
use sadb_maps::sa::BindingKey;

use super::kernel::{FoundPair, KernelError, KernelEvent, KernelSide, PairKey};
use super::policy::tests::ip;
use crate::core::api::{
    ChildKeys, ChildLifetimes, ChildSa, ChildSuite, IkeSpis, InstallRefusal, Mode, NatState, OutboundUse, Path,
    Protocol, RefusalKind,
};
use crate::crypto::Secret;
use crate::wire::id::Identification;
use crate::wire::transform::{Encr, GroupId};
use crate::wire::ts::{Ports, TrafficSelector};

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct MemoryKernel {
    pub(super) rules: Vec<CompiledRule>,
    pub(super) found: Vec<FoundPair>,
    pub(super) events: Vec<KernelEvent>,
    /// Refuse the next installations.
    pub(super) refuse: bool,
    /// Time since the latest packet of every pair, inbound and outbound.
    pub(super) idle: Option<Duration>,
    pub(super) installed: Vec<(ChildSa, u64)>,
    pub(super) removed: Vec<PairKey>,
    pub(super) switched: Vec<PairKey>,
    pub(super) moved: Vec<(PairKey, SocketAddr)>,
    pub(super) mappings: Vec<(u32, Path, Duration)>,
    pub(super) released: Vec<u32>,
    pub(super) exempt: usize,
    pub(super) forgotten: Vec<BindingKey>,
    pub(super) last_spi: u32,
    /// Packets without an SA that have not been asked for.
    pub(super) packets: Vec<HeldPacket>,
    /// Packets that were given back.
    pub(super) sent: Vec<HeldPacket>,
    /// Bindings that have an SA.
    pub(super) bound: Vec<BindingKey>,
    /// The data path is another one than before.
    pub(super) is_other: bool,
}

impl KernelSide for MemoryKernel {
    fn allocate_spi(&mut self, _: Protocol, _: IpAddr, _: IpAddr) -> Result<u32, KernelError> {
        self.last_spi += 1;
        Ok(0x1000 + self.last_spi)
    }

    fn release_spi(&mut self, _: Protocol, spi: u32, _: IpAddr) -> Result<(), KernelError> {
        self.released.push(spi);
        Ok(())
    }

    fn install(&mut self, sa: &ChildSa, cookie: u64) -> Result<(), InstallRefusal> {
        if self.refuse {
            return Err(InstallRefusal { reason: "no room".into(), kind: RefusalKind::Full });
        }
        self.installed.push((sa.clone(), cookie));
        Ok(())
    }

    fn switch_outbound(&mut self, pair: &PairKey) -> Result<(), KernelError> {
        self.switched.push(*pair);
        Ok(())
    }

    fn remove(&mut self, pair: &PairKey) -> Result<(), KernelError> {
        self.installed.retain(|(sa, _)| PairKey::from(sa) != *pair);
        self.removed.push(*pair);
        Ok(())
    }

    fn move_pair(&mut self, pair: &PairKey, peer: SocketAddr) -> Result<(), KernelError> {
        self.moved.push((*pair, peer));
        Ok(())
    }

    fn idle_outbound(&mut self, _: &PairKey) -> Result<Option<Duration>, KernelError> {
        Ok(self.idle)
    }

    fn idle_inbound(&mut self, _: &PairKey) -> Result<Option<Duration>, KernelError> {
        Ok(self.idle)
    }

    fn mappings(&mut self) -> Result<Vec<(u32, Path, Duration)>, KernelError> {
        Ok(self.mappings.clone())
    }

    fn pairs(&mut self) -> Result<Vec<FoundPair>, KernelError> {
        Ok(self.found.clone())
    }

    fn forget_acquire(&mut self, binding: &BindingKey) -> Result<(), KernelError> {
        self.forgotten.push(*binding);
        Ok(())
    }

    fn reap(&mut self) -> Result<(), KernelError> {
        Ok(())
    }

    fn rules(&mut self) -> Result<Vec<CompiledRule>, KernelError> {
        Ok(self.rules.clone())
    }

    fn events(&mut self) -> Result<Vec<KernelEvent>, KernelError> {
        Ok(std::mem::take(&mut self.events))
    }

    fn new_event_fd(&mut self) -> Result<Option<OwnedFd>, KernelError> {
        Ok(None)
    }

    fn is_other(&mut self) -> bool {
        std::mem::take(&mut self.is_other)
    }

    fn packets(&mut self) -> Vec<HeldPacket> {
        std::mem::take(&mut self.packets)
    }

    fn packets_lost(&self) -> u64 {
        0
    }

    fn release_packet(&mut self, packet: HeldPacket) -> Result<(), KernelError> {
        self.sent.push(packet);
        Ok(())
    }

    fn holder(&mut self, sa: &ChildSa) -> Result<Option<u32>, KernelError> {
        let same = |other: &ChildSa| (other.action, other.local, other.remote) == (sa.action, sa.local, sa.remote);
        Ok(self.installed.iter().rev().find(|(other, _)| same(other)).map(|(other, _)| other.inbound.spi))
    }

    fn is_bound(&mut self, binding: &BindingKey) -> Result<bool, KernelError> {
        Ok(self.bound.contains(binding))
    }

    fn set_path_log(&mut self, _: bool) {}

    fn exempt_socket(&mut self, _: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.exempt += 1;
        Ok(())
    }
}

/// A pair for action 7 between 192.0.2.1 and 192.0.2.2.
pub(super) fn child(inbound: u32, outbound: u32) -> ChildSa {
    let keys = |spi, fill| ChildKeys {
        spi,
        cipher_key: Secret::new(vec![fill; 32]),
        salt: Secret::new(vec![fill; 4]),
        integ_key: Secret::default(),
    };
    let wide = |low: &str, high: &str| TrafficSelector::new(0, Ports::ANY, ip(low), ip(high)).unwrap();
    ChildSa {
        ike: IkeSpis { initiator: [1; 8], responder: [2; 8] },
        rule_label: "a".into(),
        action: 7,
        acquire: None,
        initiator: true,
        mode: Mode::Tunnel,
        local: ip("192.0.2.1"),
        remote: ip("192.0.2.2"),
        peer: ip("192.0.2.2"),
        encap: None,
        nat: NatState::default(),
        originals: None,
        ts_local: vec![TrafficSelector::host(ip("10.1.0.5")), wide("10.1.0.0", "10.1.255.255")],
        ts_remote: vec![wide("10.2.0.0", "10.2.255.255")],
        suite: ChildSuite::esp_aead(Encr::CHACHA20_POLY1305),
        group: GroupId::NONE,
        esn: true,
        inbound: keys(inbound, 1),
        outbound: keys(outbound, 2),
        lifetimes: ChildLifetimes {
            soft: Duration::from_millis(59_500),
            hard: Duration::from_secs(100),
            ..ChildLifetimes::default()
        },
        replay_window: 1024,
        rekeys: None,
        outbound_use: OutboundUse::Now,
        local_id: Identification::address(ip("192.0.2.1")),
        remote_id: Identification::address(ip("192.0.2.2")),
    }
}
