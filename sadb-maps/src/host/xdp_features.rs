//! What the driver of an interface can do for XDP, by the generic netlink family `netdev` (Linux 6.3, netdev.yaml).
//!
//! A frame that is redirected to a driver that does not transmit such frames is lost without a word: whether it does has to
//! be asked beforehand, and again when that may have changed. Many drivers say so only once they have a program.

use super::loader::LoaderError;
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// `NETDEV_XDP_ACT_NDO_XMIT`.
const TRANSMITS: u64 = 4;

const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// Octets of `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 16 + 4;

/// The family that tells about families: its message type, command and attributes.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// Whether the interface with this index, of the network namespace of this thread, transmits frames that an XDP program of
/// another interface redirects to it. `None` where the kernel does not tell.
///
/// # Errors
/// No netlink socket.
pub(super) fn transmits(ifindex: u32) -> Result<Option<bool>, LoaderError> {
    let asked = || -> io::Result<Option<u64>> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let family = request(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0")?;
        let Some(family) = family.and_then(|answer| attribute(&answer, CTRL_ATTR_FAMILY_ID).map(<[u8]>::to_vec)) else {
            return Ok(None);
        };
        let Ok(family) = family.try_into().map(u16::from_ne_bytes) else { return Ok(None) };
        let index = ifindex.to_ne_bytes();
        let answer = request(&socket, family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &index)?;
        let features = answer.as_deref().and_then(|answer| attribute(answer, NETDEV_A_DEV_XDP_FEATURES));
        Ok(features.and_then(|octets| octets.try_into().ok()).map(u64::from_ne_bytes))
    };
    let features = asked().map_err(LoaderError::io("generic netlink"))?;
    Ok(features.map(|features| features & TRANSMITS != 0))
}

/// Asks with one attribute; the attributes of the answer, `None` when the kernel refuses.
fn request(socket: &Socket, kind: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let padded = value.len().next_multiple_of(4);
    let mut message = Vec::with_capacity(HEADERS + 4 + padded);
    message.extend(((HEADERS + 4 + padded) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(((4 + value.len()) as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(HEADERS + 4 + padded, 0);
    socket.send(&message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let refused = answer.get(4..6) == Some(&NLMSG_ERROR.to_ne_bytes());
    Ok((!refused).then(|| answer.get(HEADERS..).unwrap_or_default().to_vec()))
}

/// The value of the first attribute of this number.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// The upper bits say that the value is a nest, or in network order.
    const NUMBER: u16 = 0x3fff;
    loop {
        let [a, b, c, d] = *attributes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([c, d]) & NUMBER == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_nothing_is_read_beyond_them() {
        let attributes =
            [&[5, 0, 9, 0, 7, 0, 0, 0][..], &[8, 0, 1, 0, 1, 2, 3, 4], &[6, 0, 2, 0x80, 5, 6, 0, 0]].concat();
        assert_eq!(attribute(&attributes, 1), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&attributes, 2), Some(&[5, 6][..]));
        assert_eq!(attribute(&attributes, 3), None);
        for end in 0..attributes.len() {
            let _ = attribute(&attributes[..end], 3);
        }
        // Lengths that lie.
        assert_eq!(attribute(&[0, 0, 1, 0], 1), None);
        assert_eq!(attribute(&[200, 0, 1, 0], 1), None);
    }
}
