//! What the driver needs of the data path, behind a trait, so that everything above it is tested without a kernel.
//!
//! [`SadbKernel`](super::sadb::SadbKernel) is the real one.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use sadb_maps::event::Event;
use sadb_maps::host::{CompiledRule, HeldPacket};
use sadb_maps::sa::BindingKey;

use crate::core::api::{ChildSa, ExpireKind, InstallRefusal, Path, Protocol, RefusalKind, RemovedChild, SpiPair};

/// A pair of SAs by the names under which the SADB knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PairKey {
    /// ESP or AH.
    pub protocol: Protocol,
    /// Our outer address: the destination of the inbound SA.
    pub local: IpAddr,
    /// The peer's outer address: the destination of the outbound SA.
    pub remote: IpAddr,
    /// SPIs; 0 where a pair found in the SADB lacks that direction.
    pub spis: SpiPair,
}

impl From<&ChildSa> for PairKey {
    fn from(sa: &ChildSa) -> Self {
        Self { protocol: sa.suite.protocol, local: sa.local, remote: sa.remote, spis: sa.spis() }
    }
}

impl From<&RemovedChild> for PairKey {
    fn from(removed: &RemovedChild) -> Self {
        Self { protocol: removed.protocol, local: removed.local, remote: removed.remote, spis: removed.spis }
    }
}

/// A pair in the SADB that an IKEv2 daemon installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPair {
    /// Its names.
    pub key: PairKey,
    /// The policy action it serves.
    pub action: u64,
}

/// What the data path tells.
#[derive(Debug, Clone)]
pub enum KernelEvent {
    /// A packet met a rule that wants protection and found no SA.
    Acquire(Box<Event>),
    /// An SA passed a limit.
    Expire {
        /// The SPI of the SA.
        spi: u32,
        /// Whether we receive on it.
        inbound: bool,
        /// Which limit.
        kind: ExpireKind,
        /// The pair, as far as it can be told.
        pair: FoundPair,
    },
    /// The newest authentic packet of an inbound SA came from another address or port than the SA has.
    Moved {
        /// The SPI of the SA.
        spi: u32,
        /// Where it was sent to.
        local: SocketAddr,
        /// Where it came from.
        remote: SocketAddr,
    },
}

/// The data path refused or could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KernelError(
    /// One phrase for the log.
    pub String,
);

impl From<KernelError> for InstallRefusal {
    fn from(KernelError(reason): KernelError) -> Self {
        Self { reason, kind: RefusalKind::Failure }
    }
}

/// SADB, SPD and events of one instance.
pub trait KernelSide {
    /// Reserves an inbound SPI of 256 or more (GETSPI).
    ///
    /// # Errors
    /// None is to be had.
    fn allocate_spi(&mut self, protocol: Protocol, local: IpAddr, remote: IpAddr) -> Result<u32, KernelError>;

    /// Gives a reserved SPI back. One that is not there any more is no error.
    ///
    /// # Errors
    /// The maps cannot be changed.
    fn release_spi(&mut self, protocol: Protocol, spi: u32, local: IpAddr) -> Result<(), KernelError>;

    /// Installs both directions or neither. The outbound half carries traffic at once or not yet, as `sa` says.
    ///
    /// # Errors
    /// The SADB refuses the pair.
    fn install(&mut self, sa: &ChildSa, cookie: u64) -> Result<(), InstallRefusal>;

    /// Lets the outbound half of `pair` carry traffic.
    ///
    /// # Errors
    /// It is not there.
    fn switch_outbound(&mut self, pair: &PairKey) -> Result<(), KernelError>;

    /// Removes both directions. One that is not there any more is no error.
    ///
    /// # Errors
    /// The maps cannot be changed.
    fn remove(&mut self, pair: &PairKey) -> Result<(), KernelError>;

    /// Has both directions of `pair` go by the address and port that the peer's NAT gives it now. Their names, keys,
    /// counters and limits stay.
    ///
    /// # Errors
    /// The SADB refuses.
    fn move_pair(&mut self, pair: &PairKey, peer: SocketAddr) -> Result<(), KernelError>;

    /// How long ago the inbound half accepted its latest packet; `None` if it never did.
    ///
    /// # Errors
    /// It is not there.
    fn idle_inbound(&mut self, pair: &PairKey) -> Result<Option<Duration>, KernelError>;

    /// How long ago the outbound half sent its latest packet; `None` if it never did.
    ///
    /// # Errors
    /// It is not there.
    fn idle_outbound(&mut self, pair: &PairKey) -> Result<Option<Duration>, KernelError>;

    /// Where the outbound SAs lead whose owner says that we are behind a NAT, each with its inbound SPI, 0 where it has none,
    /// and the time since its latest packet, or since it was added.
    ///
    /// # Errors
    /// The maps cannot be read.
    fn mappings(&mut self) -> Result<Vec<(u32, Path, Duration)>, KernelError>;

    /// Every pair that an IKEv2 daemon installed, this one or one before it.
    ///
    /// # Errors
    /// The maps cannot be read.
    fn pairs(&mut self) -> Result<Vec<FoundPair>, KernelError>;

    /// Forgets that traffic of this binding has asked for an SA, so that its next packet asks again at once and not only
    /// after the time for which the data path keeps quiet.
    ///
    /// # Errors
    /// The map cannot be changed.
    fn forget_acquire(&mut self, binding: &BindingKey) -> Result<(), KernelError>;

    /// Removes what limits have ended: dead SAs and reserved SPIs that nobody used.
    ///
    /// # Errors
    /// The maps cannot be changed.
    fn reap(&mut self) -> Result<(), KernelError>;

    /// The policy in force.
    ///
    /// # Errors
    /// The maps cannot be read.
    fn rules(&mut self) -> Result<Vec<CompiledRule>, KernelError>;

    /// What happened since the last call. To be called once a second, so that a data path that is attached anew is found.
    ///
    /// # Errors
    /// Ring, bus or maps cannot be read.
    fn events(&mut self) -> Result<Vec<KernelEvent>, KernelError>;

    /// A descriptor that becomes readable when there are events, if it is another one than at the last call.
    ///
    /// # Errors
    /// No descriptors are left.
    fn new_event_fd(&mut self) -> Result<Option<OwnedFd>, KernelError>;

    /// Whether SAs and policy lie in other maps than at the last call: the instance was attached anew, or has moved. What was
    /// installed before may not be there.
    fn is_other(&mut self) -> bool;

    /// Packets without an SA that came since the last call; none when there are no more for now. The descriptor of
    /// [`KernelSide::new_event_fd`] becomes readable for them too. Without the event lease there are none: then the data
    /// path drops them, unless another process takes them.
    fn packets(&mut self) -> Vec<HeldPacket>;

    /// Packets that came faster than they were taken.
    fn packets_lost(&self) -> u64;

    /// Gives a packet back to the data path, which sends it through its SA or drops it.
    ///
    /// # Errors
    /// The packet is lost.
    fn release_packet(&mut self, packet: HeldPacket) -> Result<(), KernelError>;

    /// The inbound SPI of the pair that packets go by now that `sa` would take over, if there is one.
    ///
    /// # Errors
    /// The maps cannot be read.
    fn holder(&mut self, sa: &ChildSa) -> Result<Option<u32>, KernelError>;

    /// Whether packets of this binding find an SA.
    ///
    /// # Errors
    /// The map cannot be read.
    fn is_bound(&mut self, binding: &BindingKey) -> Result<bool, KernelError>;

    /// Has the lines that the data path writes about packets it drops go to the log of this process, or not, as long as
    /// the events come from the data path itself.
    fn set_path_log(&mut self, on: bool);

    /// Lets the datagrams of this socket leave in clear whatever policy says, until this value is dropped.
    ///
    /// # Errors
    /// The registry cannot be written.
    fn exempt_socket(&mut self, socket: BorrowedFd<'_>) -> Result<(), KernelError>;
}
