//! A TCP transfer between two hosts whose payload is recognisable in every segment and checked at the far end.

use super::Host;
use anyhow::{Context, Result, anyhow, bail};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Stands in every 64 bytes of the payload: a capture that sees the flow in clear cannot miss it.
pub const MARKER: &[u8] = b"THIS FLOW IS TO BE PROTECTED";

const LINE: usize = 64;

const CHUNK: usize = 256 * 1024;

/// A stall of this length fails the transfer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A transfer that arrived complete and unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Octets of payload.
    pub bytes: u64,
    /// From the first octet sent to the last received.
    pub time: Duration,
    /// From the attempt to connect to the connection: it contains a negotiation if the traffic asked for one.
    pub connect: Duration,
}

impl Transfer {
    /// Payload in Gbit/s.
    pub fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64() / 1e9
    }
}

/// Sends `bytes` octets from one host to `address` of the other. `progress` gets the octets received so far, a few
/// times a second.
///
/// # Errors
/// No connection within twenty seconds, a stall of that length, or content that is not what was sent.
pub fn tcp(from: &Host, to: &Host, address: IpAddr, bytes: u64, progress: impl FnMut(u64)) -> Result<Transfer> {
    tcp_to(from, to, [address; 2], bytes, progress)
}

/// The same where the sender knows the receiver by another address than it has: `[known, own]`.
///
/// # Errors
/// As [`tcp`].
pub fn tcp_to(
    from: &Host,
    to: &Host,
    [address, own]: [IpAddr; 2],
    bytes: u64,
    progress: impl FnMut(u64),
) -> Result<Transfer> {
    let (listening, ready) = mpsc::channel();
    let (count, counts) = mpsc::channel();
    let receiver = to.spawn_within(move || receive(own, bytes, &listening, &count));
    let port = ready.recv().map_err(|_| anyhow!("the receiver did not start"));
    let port = match port {
        Ok(port) => port,
        Err(error) => return receiver.join().map_err(|_| error)?.and(Err(anyhow!("no transfer"))),
    };
    let sender = from.spawn_within(move || send(SocketAddr::new(address, port), bytes));
    counts.iter().for_each(progress);
    let sent = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
    let received = receiver.join().map_err(|_| anyhow!("the receiver panicked"))?;
    let (start, connect) = sent.context("sending")?;
    let end = received.context("receiving")?;
    Ok(Transfer { bytes, time: end.duration_since(start), connect })
}

fn send(to: SocketAddr, bytes: u64) -> Result<(Instant, Duration)> {
    let attempt = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connecting to {to}"))?;
    let connect = attempt.elapsed();
    stream.set_write_timeout(Some(PATIENCE))?;
    let chunk = chunk();
    let start = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let part = chunk.get(..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)).unwrap_or(&chunk);
        stream.write_all(part).with_context(|| format!("stalled with {left} octets left"))?;
        left -= part.len() as u64;
    }
    Ok((start, connect))
}

fn receive(at: IpAddr, bytes: u64, listening: &mpsc::Sender<u16>, count: &mpsc::Sender<u64>) -> Result<Instant> {
    let listener = TcpListener::bind((at, 0)).with_context(|| format!("listening on {at}"))?;
    listening.send(listener.local_addr()?.port())?;
    let mut stream = accept(&listener)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let expected = chunk();
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    let mut told = Instant::now();
    while total < bytes {
        let offset = usize::try_from(total % CHUNK as u64)?;
        let room = buffer.get_mut(offset..).unwrap_or_default();
        let length = stream.read(room).with_context(|| format!("stalled after {total} octets"))?;
        if length == 0 {
            bail!("the connection ended after {total} of {bytes} octets");
        }
        if buffer.get(offset..offset + length) != expected.get(offset..offset + length) {
            bail!("the payload was changed on the way, at octet {total} or within {length} octets of it");
        }
        total += length as u64;
        if told.elapsed() > Duration::from_millis(200) {
            told = Instant::now();
            count.send(total)?;
        }
    }
    Ok(Instant::now())
}

/// `accept` with a limit: a sender that never connects must not hang the receiver.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("accepting"),
        }
    }
    bail!("nobody connected within {PATIENCE:?}")
}

/// Numbered lines, each with the marker: neither a swap nor a loss goes unnoticed within a chunk.
fn chunk() -> Vec<u8> {
    let marker = String::from_utf8_lossy(MARKER);
    (0..CHUNK / LINE)
        .flat_map(|line| format!("{marker} {line:>width$}\n", width = LINE - MARKER.len() - 2).into_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_64_octets_of_the_payload_have_the_marker() {
        let chunk = chunk();
        assert_eq!(chunk.len(), CHUNK);
        assert!(chunk.chunks(LINE).all(|line| line.starts_with(MARKER)));
    }
}
