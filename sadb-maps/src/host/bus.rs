//! The bus: PF_KEY messages to every tool and daemon in the network namespace (architecture section 4, "The bus").
//!
//! A multicast group of NETLINK_USERSOCK carries them. Any local user can send to such a group, so the kernel is asked
//! who did, and what neither root nor a user whom the listener trusts has sent is dropped. A message is only a hint:
//! whoever acts on it reads the maps first. A listener that was too slow is told, and reads the maps again.

use super::pfkey::{Malformed, Message};
use netlink_sys::protocols::NETLINK_USERSOCK;
use netlink_sys::{Socket, SocketAddr};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Number of the multicast group, below 32 so that a bit of the address names it.
const GROUP: u32 = 21;

/// Netlink message type of our datagrams: the first that is not the protocol's own.
const TYPE: u16 = 0x10;

/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Longest datagram; an ACQUIRE with twenty alternatives stays far below.
const LONGEST: usize = 8192;

/// Octets that the kernel holds for a listener that is busy.
const BACKLOG: usize = 16 << 20;

/// Failure of the bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The socket.
    #[error("bus: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> BusError {
    move |source| BusError::Io { what, source }
}

/// The sending end. Any user may have one; nobody listens to what others than root and the daemon's user send.
#[derive(Debug)]
pub struct Publisher {
    socket: Socket,
}

impl Publisher {
    /// A sender in the network namespace of this thread.
    ///
    /// # Errors
    /// No socket.
    pub fn open() -> Result<Self, BusError> {
        let mut socket = Socket::new(NETLINK_USERSOCK).map_err(failed("socket"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        Ok(Self { socket })
    }

    /// Sends a message to every listener. That there is none is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn publish(&self, message: &Message) -> Result<(), BusError> {
        let body = message.encode();
        let len = (HEADER + body.len()) as u32;
        let mut datagram = len.to_ne_bytes().to_vec();
        datagram.extend_from_slice(&TYPE.to_ne_bytes());
        // Flags, sequence number and port stay zero.
        datagram.resize(HEADER, 0);
        datagram.extend_from_slice(&body);
        match self.socket.send_to(&datagram, &SocketAddr::new(0, 1 << (GROUP - 1)), 0) {
            Ok(_) => Ok(()),
            // The kernel itself, to which it goes as well, does not listen: that is the answer however many others do. A
            // listener that has no room is told so itself.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOBUFS)) => Ok(()),
            Err(e) => Err(failed("send")(e)),
        }
    }
}

/// Whether anybody in the network namespace of this thread listens; where the kernel does not say, somebody may.
pub(super) fn is_heard() -> bool {
    fs::read_to_string("/proc/thread-self/net/netlink").map_or(true, |table| has_listener(&table))
}

/// Whether a socket of the table, netlink_seq_show() of the kernel, is in our group: the fields are socket, protocol, port and
/// the first 32 groups.
fn has_listener(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let protocol = fields.next().and_then(|field| field.parse::<isize>().ok());
        let groups = fields.nth(1).and_then(|field| u32::from_str_radix(field, 16).ok());
        // A line that is not understood may be that of a listener.
        protocol.is_none_or(|number| number == NETLINK_USERSOCK) && groups.is_none_or(|set| set & 1 << (GROUP - 1) != 0)
    })
}

/// What a listener heard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "short-lived, and nearly always a message")]
pub enum Heard {
    /// A message from somebody trusted.
    Message(Message),
    /// So many messages were lost, because they came faster than they were taken: read the maps again.
    Missed(u32),
}

/// The receiving end. Needs CAP_NET_ADMIN.
#[derive(Debug)]
pub struct Subscriber {
    socket: Socket,
    trusted: Option<u32>,
    buffer: Vec<u8>,
    /// Messages that the kernel had to drop, as far as that was told.
    told: u32,
    /// There may be some that were not.
    overflowed: bool,
}

impl Subscriber {
    /// A listener in the network namespace of this thread. It trusts root, and `trusted`, the user that the daemons
    /// run as if that is not root. It does not block.
    ///
    /// # Errors
    /// No socket, no permission.
    pub fn open(trusted: Option<u32>) -> Result<Self, BusError> {
        let mut socket = Socket::new(NETLINK_USERSOCK).map_err(failed("socket"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.set_non_blocking(true).map_err(failed("non-blocking mode"))?;
        let borrowed = borrow(&socket);
        // Beyond the limit of the system, which is there for those who may not.
        setsockopt(&borrowed, sockopt::RcvBufForce, &BACKLOG).map_err(|e| failed("receive buffer")(e.into()))?;
        setsockopt(&borrowed, sockopt::PassCred, &true).map_err(|e| failed("SO_PASSCRED")(e.into()))?;
        // Only now, so that no message comes in without the name of its sender.
        socket.add_membership(GROUP).map_err(failed("joining the group"))?;
        Ok(Self { socket, trusted, buffer: vec![0; LONGEST], told: 0, overflowed: false })
    }

    /// What is there to hear; `None` when there is nothing more, and then the descriptor tells when there is. Messages
    /// of strangers and octets that are no message are passed over.
    ///
    /// # Errors
    /// The socket fails.
    pub fn next_message(&mut self) -> Result<Option<Heard>, BusError> {
        loop {
            let mut space = cmsg_space!(UnixCredentials);
            let mut slice = [IoSliceMut::new(&mut self.buffer)];
            let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut slice, Some(&mut space), MsgFlags::MSG_DONTWAIT);
            let (len, sender) = match received {
                Ok(received) => {
                    let sender = received.cmsgs().ok().and_then(|mut all| all.find_map(credentials));
                    (received.bytes, sender)
                }
                Err(Errno::EAGAIN) if !self.overflowed => return Ok(None),
                // Those that came before the queue was empty again are lost as well, so it is counted then.
                Err(Errno::EAGAIN) => {
                    self.overflowed = false;
                    let dropped = dropped(&self.socket).map_err(failed("counting what was lost"))?;
                    let missed = dropped.wrapping_sub(self.told);
                    self.told = dropped;
                    return Ok(Some(Heard::Missed(missed)));
                }
                Err(Errno::ENOBUFS) => {
                    self.overflowed = true;
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(failed("receive")(e.into())),
            };
            let trusted = sender.is_some_and(|uid| uid == 0 || Some(uid) == self.trusted);
            if !trusted {
                continue;
            }
            if let Some(Ok(message)) = self.buffer.get(..len).map(body) {
                return Ok(Some(Heard::Message(message)));
            }
        }
    }
}

/// Messages that the kernel had no room for on this socket, since it was made (`SO_MEMINFO`, Linux 4.12).
fn dropped(socket: &Socket) -> io::Result<u32> {
    const SO_MEMINFO: libc::c_int = 55;
    const SK_MEMINFO_DROPS: usize = 8;
    let mut numbers = [0_u32; SK_MEMINFO_DROPS + 1];
    let mut len = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets into the numbers, which live through the call.
    let result = unsafe {
        let place = numbers.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, place, &raw mut len)
    };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(numbers[SK_MEMINFO_DROPS]) }
}

/// The user that the kernel says has sent.
fn credentials(control: ControlMessageOwned) -> Option<u32> {
    match control {
        ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.uid()),
        _ => None,
    }
}

/// The message in a datagram.
fn body(datagram: &[u8]) -> Result<Message, Malformed> {
    let kind = datagram.get(4..6).and_then(|octets| octets.try_into().ok()).map(u16::from_ne_bytes);
    if kind != Some(TYPE) {
        return Err(Malformed::Short);
    }
    Message::decode(datagram.get(HEADER..).ok_or(Malformed::Short)?)
}

fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to the socket, which lives as long as the borrow.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

impl AsRawFd for Subscriber {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Subscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::in_new_netns;
    use crate::sa::ESP;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    #[test]
    fn everybody_in_the_namespace_hears() {
        in_new_netns(|| {
            let publisher = Publisher::open().unwrap();
            publisher.publish(&Message::flush(None)).unwrap();
            let mut listeners = [Subscriber::open(None).unwrap(), Subscriber::open(Some(7)).unwrap()];
            let message = Message::flush(Some(ESP));
            publisher.publish(&message).unwrap();
            in_new_netns(|| Publisher::open().unwrap().publish(&Message::flush(None)).unwrap());
            for listener in &mut listeners {
                assert_eq!(listener.next_message().unwrap(), Some(Heard::Message(message.clone())));
                assert_eq!(listener.next_message().unwrap(), None);
            }
        });
    }

    #[test]
    fn whether_anybody_listens() {
        in_new_netns(|| {
            assert!(!is_heard());
            let _sender = Publisher::open().unwrap();
            assert!(!is_heard());
            let listener = Subscriber::open(None).unwrap();
            assert!(is_heard());
            in_new_netns(|| assert!(!is_heard()));
            drop(listener);
            assert!(!is_heard());
        });
        assert!(has_listener("head\nsomething else\n"));
    }

    #[test]
    fn a_forged_message_is_not_heard() {
        in_new_netns(|| {
            const NOBODY: u32 = 65_534;
            let mut listener = Subscriber::open(None).unwrap();
            let mut trusting = Subscriber::open(Some(NOBODY)).unwrap();
            // SAFETY: the child only makes system calls and leaves through _exit.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let sent = nix::unistd::setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into()).is_ok()
                        && Publisher::open().and_then(|p| p.publish(&Message::flush(None))).is_ok();
                    // SAFETY: ends the child without running what the parent registered for its own exit.
                    unsafe { libc::_exit(if sent { 0 } else { 1 }) }
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                }
            }
            // It did arrive: a listener that trusts the user hears it.
            assert!(matches!(trusting.next_message().unwrap(), Some(Heard::Message(_))));
            assert_eq!(listener.next_message().unwrap(), None);
            let honest = Message::flush(Some(ESP));
            Publisher::open().unwrap().publish(&honest).unwrap();
            assert_eq!(listener.next_message().unwrap(), Some(Heard::Message(honest)));
        });
    }

    #[test]
    fn a_slow_listener_is_told() {
        in_new_netns(|| {
            let mut listener = Subscriber::open(None).unwrap();
            setsockopt(&borrow(&listener.socket), sockopt::RcvBufForce, &(1 << 18)).unwrap();
            let publisher = Publisher::open().unwrap();
            const SENT: u32 = 10_000;
            for round in 0..2 {
                for _ in 0..SENT {
                    publisher.publish(&Message::flush(None)).unwrap();
                }
                let (mut heard, mut missed) = (0, vec![]);
                while let Some(next) = listener.next_message().unwrap() {
                    match next {
                        Heard::Message(_) => heard += 1,
                        Heard::Missed(count) => missed.push(count),
                    }
                }
                // Each one was heard or counted, and the count comes behind those that were heard.
                let [count] = missed[..] else { panic!("round {round}: {missed:?}") };
                assert!(heard > 100 && heard + count == SENT, "round {round}: {heard} heard, {count} missed");
            }
            publisher.publish(&Message::flush(None)).unwrap();
            assert!(listener.next_message().unwrap().is_some());
        });
    }
}
