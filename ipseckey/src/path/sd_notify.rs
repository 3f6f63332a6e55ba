//! Telling the service manager that a service is ready (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the process is ready, where somebody wants to know (`NOTIFY_SOCKET`).
///
/// # Errors
/// The socket that was named cannot be written to.
pub fn ready() -> io::Result<()> {
    match std::env::var("NOTIFY_SOCKET") {
        Ok(name) if !name.is_empty() => tell(&name, b"READY=1\n"),
        _ => Ok(()),
    }
}

/// Sends a message to a socket: a path, or after `@` a name without a file.
fn tell(name: &str, message: &[u8]) -> io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("espadm-test-{}", std::process::id());
        let file = UnixDatagram::bind(&path).unwrap();
        let other = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        tell(path.to_str().unwrap(), b"READY=1\n").unwrap();
        tell(&format!("@{name}"), b"READY=1\n").unwrap();
        for socket in [file, other] {
            let mut text = [0; 16];
            assert_eq!(socket.recv(&mut text).unwrap(), 8);
            assert_eq!(&text[..8], b"READY=1\n");
        }
        assert!(tell("/nonexistent/notify", b"READY=1\n").is_err());
    }
}
