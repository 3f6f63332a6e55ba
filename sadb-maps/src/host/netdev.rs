//! Network interfaces: listing them, making the `ipsec0` pair and setting it up (facts of the packet path, section 7).
//!
//! Everything happens in the network namespace of the calling thread.

use super::loader::LoaderError;
use crate::tag::IPSEC0_OCTET;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily as RouteFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

/// Name of the interface that packets to be sealed go into.
pub const IPSEC0: &str = "ipsec0";

/// Name of its peer, where they are sealed.
pub const IPSEC0X: &str = "ipsec0x";

/// Interface group of the pair, which it has from its first moment: "IPSE" in ASCII.
pub(super) const PAIR_GROUP: u32 = crate::abi::HEADER_MAGIC;

/// Address of `ipsec0` (RFC 3927: link-local).
const IPSEC0_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 50, 1);

/// Packets that the qdisc of `ipsec0` holds: one 64 KiB packet is 45 segments, and the ring behind it holds 256.
const QUEUE_LIMIT: u32 = 2000;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) mac: [u8; 6],
    /// Receive queues.
    pub(super) rx_queues: u32,
    /// It has Ethernet framing.
    pub(super) ethernet: bool,
    pub(super) loopback: bool,
    pub(super) up: bool,
    /// It is a port of a bridge, bond or team, which is where its packets appear: index of that.
    pub(super) port_of: Option<u32>,
    /// It is one end of a veth pair.
    pub(super) veth: bool,
    /// Group number; [`PAIR_GROUP`] on what the loader makes.
    pub(super) group: u32,
    /// What the loader writes on what it makes, once that is made.
    pub(super) alias: Option<String>,
}

impl Interface {
    /// Whether packets that leave the host leave here: Ethernet, no port of another, not of the data path.
    pub(super) fn is_outer(&self) -> bool {
        self.is_attachable() && self.port_of.is_none()
    }

    /// Whether programs can be attached: Ethernet, not of the data path.
    pub(super) fn is_attachable(&self) -> bool {
        self.ethernet && !self.loopback && self.name != IPSEC0 && self.name != IPSEC0X
    }

    /// Whether packets may leave the host here and no program of ours can judge them: up, and without Ethernet framing.
    pub(super) fn is_beyond_reach(&self) -> bool {
        self.up && !self.ethernet && !self.loopback
    }
}

/// A route netlink socket.
pub(super) struct Route(Socket);

impl Route {
    pub(super) fn open() -> Result<Self, LoaderError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self(socket))
        };
        open().map_err(LoaderError::io("netlink socket"))
    }

    /// Every interface.
    pub(super) fn interfaces(&self) -> Result<Vec<Interface>, LoaderError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.exchange(request, NLM_F_DUMP).map_err(LoaderError::io("list of interfaces"))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(interface(link)),
                _ => None,
            })
            .collect())
    }

    /// The interface of that name.
    pub(super) fn find(&self, name: &str) -> Result<Option<Interface>, LoaderError> {
        Ok(self.interfaces()?.into_iter().find(|i| i.name == name))
    }

    /// Makes the veth pair: one queue per CPU, and addresses whose first octet tells them from a tag.
    pub(super) fn create_pair(&self, mtu: u32) -> Result<(), LoaderError> {
        let queues = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let mut inner = end(IPSEC0, mtu, queues)?;
        let outer = end(IPSEC0X, mtu, queues)?;
        inner.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(outer))),
        ]));
        self.act(RouteNetlinkMessage::NewLink(inner), NLM_F_CREATE | NLM_F_EXCL, "creation of ipsec0")
    }

    /// Takes an interface up. No ARP: nothing is to be resolved on it.
    pub(super) fn up(&self, index: u32) -> Result<(), LoaderError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up | LinkFlags::Noarp;
        link.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
        self.act(RouteNetlinkMessage::SetLink(link), 0, "taking ipsec0 up")
    }

    /// Takes an interface down.
    pub(super) fn down(&self, index: u32) -> Result<(), LoaderError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.change_mask = LinkFlags::Up;
        self.act(RouteNetlinkMessage::SetLink(link), 0, "taking an interface down")
    }

    /// Writes on the interface whose it is.
    pub(super) fn set_alias(&self, index: u32, alias: &str) -> Result<(), LoaderError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::IfAlias(alias.into()));
        self.act(RouteNetlinkMessage::SetLink(link), 0, "alias of ipsec0")
    }

    /// Sets the MTU, in octets of layer 3.
    pub(super) fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), LoaderError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::Mtu(mtu));
        self.act(RouteNetlinkMessage::SetLink(link), 0, "MTU of ipsec0")
    }

    /// Keeps IPv6 from making addresses on the interface.
    pub(super) fn no_generated_address(&self, index: u32) -> Result<(), LoaderError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
        match self.act(RouteNetlinkMessage::SetLink(link), 0, "address generation of ipsec0") {
            // A kernel without IPv6 makes no addresses.
            Err(LoaderError::Io { source, .. }) if source.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            other => other,
        }
    }

    /// Removes an interface, and with it its peer.
    pub(super) fn delete(&self, index: u32) -> Result<(), LoaderError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        match self.act(RouteNetlinkMessage::DelLink(link), 0, "removal of ipsec0") {
            Err(LoaderError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Gives the interface a queue, so that a burst waits instead of overflowing the ring of the peer.
    pub(super) fn queue(&self, index: u32) -> Result<(), LoaderError> {
        const TCA_OPTIONS: u16 = 2;
        let mut qdisc = TcMessage::default();
        qdisc.header.index = index as i32;
        qdisc.header.parent = TcHandle::ROOT;
        qdisc.attributes.push(TcAttribute::Kind("pfifo".into()));
        // struct tc_fifo_qopt, which is no nest of attributes.
        qdisc.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, QUEUE_LIMIT.to_ne_bytes().to_vec())));
        self.act(RouteNetlinkMessage::NewQueueDiscipline(qdisc), NLM_F_CREATE | NLM_F_REPLACE, "queue of ipsec0")
    }

    /// Gives `ipsec0` an address. Loose reverse-path filtering accepts nothing on an interface without one; link scope
    /// and a full-length prefix keep it out of routing and of source address selection.
    pub(super) fn local_address(&self, index: u32) -> Result<(), LoaderError> {
        let mut address = AddressMessage::default();
        address.header.family = RouteFamily::Inet;
        address.header.prefix_len = 32;
        address.header.scope = AddressScope::Link;
        address.header.index = index;
        address.attributes.push(AddressAttribute::Local(IPSEC0_ADDRESS.into()));
        address.attributes.push(AddressAttribute::Address(IPSEC0_ADDRESS.into()));
        self.act(RouteNetlinkMessage::NewAddress(address), NLM_F_CREATE | NLM_F_REPLACE, "address of ipsec0")
    }

    pub(super) fn act(&self, request: RouteNetlinkMessage, flags: u16, what: &'static str) -> Result<(), LoaderError> {
        self.exchange(request, NLM_F_ACK | flags).map(drop).map_err(LoaderError::io(what))
    }

    /// Sends a request and collects the answers up to the acknowledgement or the end of the dump.
    pub(super) fn exchange(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.0.send(&octets, 0)?;
        let mut answers = vec![];
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages are padded to four octets; the last one may not be.
                let len = (answer.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(len..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) if e.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(e) => return Err(e.to_io()),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// One end of the pair.
fn end(name: &str, mtu: u32, queues: u32) -> Result<LinkMessage, LoaderError> {
    let mut mac = vec![0; 6];
    getrandom::fill(&mut mac).map_err(|e| LoaderError::io("getrandom")(io::Error::other(e.to_string())))?;
    if let Some(first) = mac.first_mut() {
        *first = IPSEC0_OCTET;
    }
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Address(mac),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NumTxQueues(queues),
        LinkAttribute::NumRxQueues(queues),
        LinkAttribute::Group(PAIR_GROUP),
    ];
    Ok(link)
}

fn interface(link: LinkMessage) -> Interface {
    let mut found = Interface {
        index: link.header.index,
        ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        loopback: link.header.flags.contains(LinkFlags::Loopback),
        up: link.header.flags.contains(LinkFlags::Up),
        ..Interface::default()
    };
    // A VRF is a table of routes: what it has is its members' own.
    let (mut controller, mut vrf) = (None, false);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name = name,
            LinkAttribute::Mtu(mtu) => found.mtu = mtu,
            LinkAttribute::Address(mac) => found.mac = mac.try_into().unwrap_or_default(),
            LinkAttribute::NumRxQueues(queues) => found.rx_queues = queues,
            LinkAttribute::Controller(index) => controller = Some(index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => {
                found.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
                vrf = infos.contains(&LinkInfo::PortKind(InfoPortKind::Vrf));
            }
            LinkAttribute::Group(group) => found.group = group,
            LinkAttribute::IfAlias(alias) => found.alias = Some(alias),
            _ => {}
        }
    }
    found.port_of = controller.filter(|_| !vrf);
    found
}

/// `struct ethtool_value` of the kernel.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SSG: u32 = 0x19;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;

/// Has the stack segment and checksum everything before it enters the interface.
pub(super) fn offloads_off(name: &str) -> Result<(), LoaderError> {
    for (command, what) in [
        (ETHTOOL_STSO, "tso off on ipsec0"),
        (ETHTOOL_SGSO, "gso off on ipsec0"),
        (ETHTOOL_STXCSUM, "tx off on ipsec0"),
        (ETHTOOL_SSG, "sg off on ipsec0"),
    ] {
        ethtool(name, command, 0).map_err(LoaderError::io(what))?;
    }
    Ok(())
}

/// Has the interface merge what comes up through it.
pub(super) fn gro_on(name: &str) -> Result<(), LoaderError> {
    ethtool(name, ETHTOOL_SGRO, 1).map_err(LoaderError::io("gro on on ipsec0"))
}

fn ethtool(name: &str, command: u32, data: u32) -> io::Result<()> {
    ioctl(name, &mut EthtoolValue { command, data })
}

/// `struct ethtool_channels` of the kernel: the command, four maxima, and the numbers of queues.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    command: u32,
    maxima: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// How many receive queues an interface has now; `None` where its driver does not say.
pub(super) fn receive_queues(name: &str) -> Option<u32> {
    let channels = channels(name).ok()?;
    Some(channels.rx.saturating_add(channels.combined))
}

fn channels(name: &str) -> io::Result<EthtoolChannels> {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    let mut channels = EthtoolChannels { command: ETHTOOL_GCHANNELS, ..EthtoolChannels::default() };
    ioctl(name, &mut channels)?;
    Ok(channels)
}

/// Gives a veth another number of queues, as `ethtool -L` does.
#[cfg(test)]
pub(super) fn set_queues(name: &str, queues: u32) {
    const ETHTOOL_SCHANNELS: u32 = 0x3d;
    let mut wanted = EthtoolChannels { command: ETHTOOL_SCHANNELS, rx: queues, tx: queues, ..channels(name).unwrap() };
    ioctl(name, &mut wanted).unwrap();
}

/// `value` is a structure of ethtool that begins with its command.
fn ioctl<T>(name: &str, value: &mut T) -> io::Result<()> {
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    // SAFETY: ifreq is plain data for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(value).cast();
    // Any socket will do; this family is there in every kernel and needs no address.
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the data pointer leads to a live structure, which names the command that it is for.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets FIB lookups from the interface give routes: `bpf_fib_lookup` refuses where forwarding is off for the device
/// that it is asked about.
pub(super) fn forwarding_on(name: &str) -> Result<(), LoaderError> {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{name}/forwarding");
        match std::fs::write(&path, "1") {
            Err(e) if e.kind() == io::ErrorKind::NotFound && family == "ipv6" => {}
            other => other.map_err(LoaderError::io("forwarding on ipsec0x"))?,
        }
    }
    Ok(())
}

/// Makes reverse-path filtering on the interface loose, also where it is strict for the whole host (the higher value
/// counts): what comes out of a tunnel has been checked against SA and policy, and its way back may be another
/// interface.
pub(super) fn loose_reverse_path(name: &str) -> Result<(), LoaderError> {
    std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "2")
        .map_err(LoaderError::io("reverse-path filter of ipsec0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::in_new_netns;

    fn feature(name: &str, command: u32) -> u32 {
        let mut value = EthtoolValue { command, data: 7 };
        ioctl(name, &mut value).unwrap();
        value.data
    }

    #[test]
    fn the_pair_is_set_up_as_the_path_needs_it() {
        in_new_netns(|| {
            let route = Route::open().unwrap();
            assert_eq!(route.find(IPSEC0).unwrap(), None);
            route.create_pair(1500).unwrap();
            route.set_alias(route.find(IPSEC0X).unwrap().unwrap().index, "test").unwrap();
            let (inner, outer) = (route.find(IPSEC0).unwrap().unwrap(), route.find(IPSEC0X).unwrap().unwrap());
            assert_eq!((inner.mac[0], inner.mtu, inner.ethernet), (IPSEC0_OCTET, 1500, true));
            assert_ne!(inner.mac, outer.mac);
            assert_eq!((outer.alias.as_deref(), inner.alias.as_deref()), (Some("test"), None));
            assert_eq!((inner.group, outer.group), (PAIR_GROUP, PAIR_GROUP));
            assert!(!outer.is_outer() && outer.port_of.is_none() && outer.veth);
            offloads_off(IPSEC0).unwrap();
            gro_on(IPSEC0).unwrap();
            forwarding_on(IPSEC0X).unwrap();
            for end in [&inner, &outer] {
                route.no_generated_address(end.index).unwrap();
                route.up(end.index).unwrap();
            }
            route.queue(inner.index).unwrap();
            // ETHTOOL_GTXCSUM, GSG, GTSO, GGSO, GGRO.
            let features = [0x16, 0x18, 0x1e, 0x23, 0x2b].map(|command| feature(IPSEC0, command));
            assert_eq!(features, [0, 0, 0, 0, 1]);
            let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/conf/ipsec0x/forwarding").unwrap();
            assert_eq!(forwarding.trim(), "1");
            let addresses = nix::ifaddrs::getifaddrs().unwrap();
            assert!(
                addresses.filter_map(|a| a.address).all(|a| a.as_sockaddr_in6().is_none()),
                "no address of its own"
            );
            route.set_mtu(outer.index, 3000).unwrap();
            assert_eq!(route.find(IPSEC0X).unwrap().unwrap().mtu, 3000);
            route.delete(inner.index).unwrap();
            assert_eq!(route.find(IPSEC0X).unwrap(), None);
            route.delete(inner.index).unwrap();
        });
    }
}
