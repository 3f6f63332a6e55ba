//! The hash of the NAT_DETECTION notifications (RFC 7296 section 2.23). SHA-1 is what the RFC says; nothing secret is in it.

use std::net::{IpAddr, SocketAddr};

use sha1::{Digest, Sha1};

/// SHA-1 over both SPIs, the address and the port.
pub fn nat_detection_hash(spi_initiator: [u8; 8], spi_responder: [u8; 8], end: SocketAddr) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(spi_initiator);
    hash.update(spi_responder);
    match end.ip() {
        IpAddr::V4(v4) => hash.update(v4.octets()),
        IpAddr::V6(v6) => hash.update(v6.octets()),
    }
    hash.update(end.port().to_be_bytes());
    hash.finalize().into()
}
