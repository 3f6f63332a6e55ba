//! Packets that wait for an SA: taken from the programs, and given back when there is one.
//!
//! Where nobody holds packets, the programs drop those without an SA. A [`Holder`] has an AF_XDP socket on every queue of
//! `ipsec0x`, to which they go instead; the sockets end with the process, and then packets are dropped as before. What is
//! given back goes into `ipsec0` as a frame that the programs know and judge anew: it leaves sealed or not at all.

use super::error::SadbError;
use super::inject::Injector;
use super::instance::Instance;
use super::maps::{self, Slots, failed};
use super::netdev::{IPSEC0X, Route};
use super::xsk::Receiver;
use crate::abi::{Config, map};
use crate::sa::BindingKey;
use crate::tag::{FLAG_HELD, TAG_OCTET};
use aya::maps::{Map, XskMap};
use nix::sys::socket::sockopt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Packets of one flow have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow(Vec<u8>);

/// A packet without an SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPacket {
    /// The binding that has none.
    pub binding: BindingKey,
    /// The frame, with the tag of the programs in place of its addresses.
    frame: Vec<u8>,
}

impl HeldPacket {
    /// What the programs hand over: the binding, and the frame behind it.
    fn from_octets(octets: &[u8]) -> Option<Self> {
        let (binding, frame) = octets.split_at_checked(size_of::<BindingKey>())?;
        // An Ethernet header, its first octet that of a tag.
        if frame.len() < 14 || frame.first() != Some(&TAG_OCTET) {
            return None;
        }
        Some(Self { binding: bytemuck::pod_read_unaligned(binding), frame: frame.to_vec() })
    }

    /// The flow of the packet: what it is from and to, by its IP header and, where it has them, its ports.
    pub fn flow(&self) -> Flow {
        let ip = self.frame.get(14..).unwrap_or_default();
        let octets = |from: usize, len: usize| ip.get(from..from + len).unwrap_or_default();
        let v4 = ip.first().is_some_and(|first| first >> 4 == 4);
        let (proto, addresses, behind) = if v4 {
            let header = usize::from(ip.first().copied().unwrap_or(0) & 15) * 4;
            // Later fragments have no ports.
            let first = octets(6, 2).iter().zip([0x1f, 0xff]).all(|(octet, mask)| octet & mask == 0);
            (octets(9, 1), octets(12, 8), if first { octets(header, 4) } else { &[] })
        } else {
            // What is behind extension headers is not looked for: its flows count as one.
            (octets(6, 1), octets(8, 32), octets(40, 4))
        };
        let ports = match proto {
            [6 | 17 | 33 | 132 | 136] => behind,
            _ => &[],
        };
        Flow([proto, addresses, ports].concat())
    }

    /// The frame as it goes back: with the flag that it was held.
    fn released(mut self) -> Vec<u8> {
        if let Some(flags) = self.frame.get_mut(1) {
            *flags |= FLAG_HELD;
        }
        self.frame
    }

    /// A packet of some binding, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn for_tests(binding: BindingKey, dport: u16, payload: u8) -> Self {
        let header = [0x45, 0, 0, 50, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1, 0x12, 0x34];
        let frame = [&[TAG_OCTET][..], &[0; 11], &[8, 0], &header, &dport.to_be_bytes(), &[payload; 26]].concat();
        Self { binding, frame }
    }
}

/// The right to the packets without an SA; one process has it.
pub struct Holder {
    instance: Instance,
    receivers: Vec<Receiver>,
    /// The way back.
    injector: Injector,
    ipsec0x: u32,
    /// Number of the map that the sockets are in.
    id: u32,
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Holder")
    }
}

impl Holder {
    /// Takes a socket for every queue of `ipsec0x`, or none.
    ///
    /// # Errors
    /// Not attached, another network namespace or version; no `ipsec0x`; somebody else has the sockets, or had them a moment
    /// ago (`EBUSY`); the kernel refuses AF_XDP.
    pub fn open(instance: &Instance) -> Result<Self, SadbError> {
        maps::checked_header(instance)?;
        let config = Slots::<Config>::open(instance, map::CONFIG)?.get(0)?;
        let pair = Route::open().and_then(|route| route.find(IPSEC0X)).map_err(|e| SadbError::io(IPSEC0X, other(e)))?;
        let Some(pair) = pair.filter(|pair| pair.index == config.ipsec0x) else {
            return Err(SadbError::io(IPSEC0X, io::Error::from(io::ErrorKind::NotFound)));
        };
        let id = maps::map_id(instance, map::XSKS)?;
        let mut places =
            XskMap::try_from(Map::XskMap(maps::open(instance, map::XSKS)?)).map_err(failed(map::XSKS, "open"))?;
        let injector = Injector::open(&config).map_err(|e| SadbError::io("packet socket", e))?;
        let receivers = (0..pair.rx_queues.max(1))
            .map(|queue| Receiver::bind(pair.index, queue).map_err(|e| SadbError::io("AF_XDP socket on ipsec0x", e)))
            .collect::<Result<Vec<_>, _>>()?;
        // The programs take the first for all: it comes last.
        for (queue, receiver) in (0..pair.rx_queues.max(1)).zip(&receivers).rev() {
            places.set(queue, receiver.as_fd(), 0).map_err(failed(map::XSKS, "update"))?;
        }
        Ok(Self { instance: instance.clone(), receivers, injector, ipsec0x: config.ipsec0x, id })
    }

    /// The next packet; `None` when there is none. Take them until `None` after each wake-up.
    ///
    /// # Errors
    /// The sockets do not work any more: drop this.
    pub fn next_packet(&mut self) -> io::Result<Option<HeldPacket>> {
        for receiver in &mut self.receivers {
            while let Some(octets) = receiver.next_frame()? {
                // The programs hand over nothing else.
                if let Some(packet) = HeldPacket::from_octets(&octets) {
                    return Ok(Some(packet));
                }
            }
        }
        Ok(None)
    }

    /// Gives a packet back, to leave through its SA.
    ///
    /// # Errors
    /// `ipsec0` is gone or down, or takes no more at the moment: the packet is lost.
    pub fn release(&self, packet: HeldPacket) -> io::Result<()> {
        self.injector.send(&packet.released())
    }

    /// Packets that came faster than they were taken, and were dropped.
    ///
    /// # Errors
    /// The sockets do not work any more.
    pub fn lost(&self) -> io::Result<u64> {
        self.receivers.iter().map(Receiver::lost).sum()
    }

    /// Whether packets still come this way. They do not once the instance was attached anew, or `ipsec0x` was.
    pub fn is_current(&self) -> bool {
        let index = Slots::<Config>::open(&self.instance, map::CONFIG).and_then(|slots| slots.get(0));
        maps::map_id(&self.instance, map::XSKS).is_ok_and(|id| id == self.id)
            && index.is_ok_and(|config| config.ipsec0x == self.ipsec0x)
            && self.receivers.iter().all(|receiver| sockopt_error(receiver).is_ok_and(|error| error == 0))
    }

    /// The descriptors that become readable when there are packets.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.receivers.iter().map(AsFd::as_fd)
    }
}

/// The error that the kernel left on a socket, as when its interface went away.
fn sockopt_error(receiver: &Receiver) -> nix::Result<i32> {
    nix::sys::socket::getsockopt(receiver, sockopt::SocketError)
}

fn other(error: super::loader::LoaderError) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{TestInstance, in_new_netns};
    use crate::tag::Tag;

    #[test]
    fn what_is_handed_over_comes_back_with_the_flag() {
        let binding = BindingKey { action: 7, sport: 9, ..BindingKey::default() };
        let tag = Tag { flags: 1, rule: 2, policy: 3, slot: 0, generation: 0 };
        let mut octets = bytemuck::bytes_of(&binding).to_vec();
        octets.extend(tag.to_words().iter().flat_map(|word| word.to_ne_bytes()));
        assert_eq!(HeldPacket::from_octets(&octets), None, "no type of packet");
        octets.extend([8, 0, 0x45]);
        let packet = HeldPacket::from_octets(&octets).unwrap();
        assert_eq!(packet.binding, binding);
        let frame = packet.released();
        let words: [u32; 3] = bytemuck::pod_read_unaligned(&frame[..12]);
        assert_eq!(Tag::from_words(words), Some(Tag { flags: 1 | FLAG_HELD, ..tag }));
        assert_eq!(frame[12..], [8, 0, 0x45]);
        octets[size_of::<BindingKey>()] = 2;
        assert_eq!(HeldPacket::from_octets(&octets), None, "no tag");
        assert_eq!(HeldPacket::from_octets(&octets[..40]), None);
    }

    #[test]
    fn flows_are_told_apart_by_addresses_protocol_and_ports() {
        let flow = |change: &[(usize, u8)]| {
            let mut packet = HeldPacket::for_tests(BindingKey::default(), 53, 0);
            change.iter().for_each(|(at, octet)| packet.frame[14 + at] = *octet);
            packet.flow()
        };
        let udp = flow(&[]);
        // Payload, TTL and identification make no difference.
        assert_eq!(udp, flow(&[(30, 1), (8, 1), (5, 9)]));
        for other in [&[(15, 9)][..], &[(19, 9)], &[(9, 6)], &[(21, 9)], &[(23, 9)], &[(9, 1)]] {
            assert_ne!(udp, flow(other), "{other:?}");
        }
        // ICMP has no ports, nor has a later fragment, or one behind options is found.
        assert_eq!(flow(&[(9, 1)]), flow(&[(9, 1), (21, 9)]));
        assert_eq!(flow(&[(7, 8)]), flow(&[(7, 8), (21, 9)]));
        assert_ne!(flow(&[(0, 0x46)]), flow(&[(0, 0x46), (25, 9)]));
        // IPv6.
        let six = |change: &[(usize, u8)]| flow(&[&[(0, 0x60), (6, 17)], change].concat());
        assert_eq!(six(&[]), six(&[(45, 9)]));
        for other in [(8, 9), (39, 9), (40, 9), (43, 9), (6, 6)] {
            assert_ne!(six(&[]), six(&[other]), "{other:?}");
        }
        // Nothing that cannot be read.
        let broken = HeldPacket { binding: BindingKey::default(), frame: vec![TAG_OCTET; 14] };
        assert_ne!(broken.flow(), udp);
    }

    /// One process has the sockets, all of them, and whoever comes next can have them once it is gone.
    #[test]
    fn one_process_holds_packets() {
        in_new_netns(|| {
            let test = TestInstance::with_maps(2).unwrap();
            assert!(Holder::open(&test).is_err(), "there is no ipsec0x");
            let route = Route::open().unwrap();
            route.create_pair(1500).unwrap();
            let index = |name: &str| route.find(name).unwrap().unwrap().index;
            let config = Config { ipsec0: index("ipsec0"), ipsec0x: index(IPSEC0X), ..Config::default() };
            Slots::open(&test, map::CONFIG).unwrap().set(0, &config).unwrap();
            let mut first = Holder::open(&test).unwrap();
            let queues = std::thread::available_parallelism().unwrap().get();
            assert_eq!(first.descriptors().count(), queues);
            assert!(first.is_current());
            assert_eq!((first.next_packet().unwrap(), first.lost().unwrap()), (None, 0));
            let refused = Holder::open(&test).unwrap_err().to_string();
            assert!(refused.contains("AF_XDP") && refused.contains("busy"), "{refused}");
            drop(first);
            // The kernel takes the sockets off the queues a moment later.
            let again = (0..100).find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                Holder::open(&test).ok()
            });
            let again = again.unwrap();
            route.delete(index(IPSEC0X)).unwrap();
            assert!(!again.is_current());
        });
    }
}
