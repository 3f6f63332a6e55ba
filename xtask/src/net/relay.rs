//! A relay for IKE between two hosts that shows every message to its receiver damaged, beside the real one: cut short at
//! many places, and with a flipped bit in every octet. To the hosts it is a NAT on either side.

use super::Host;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PORTS: [u16; 2] = [500, 4500];

/// Octets of an IKE header (RFC 7296 section 3.1), and where the exchange type, the flags and the length are in it.
const HEADER: usize = 28;
const EXCHANGE: usize = 18;
const FLAGS: usize = 19;
const LENGTH: usize = 24;

const RESPONSE: u8 = 0x20;
const IKE_SA_INIT: u8 = 34;

/// The type of a Notify payload.
const NOTIFY: u8 = 41;

/// How long nothing may come before nothing will come.
const QUIET: Duration = Duration::from_millis(250);

/// Exchanges by their type, as far as damage was done to them: number of messages, and of damaged ones made of them.
pub type Exchanges = BTreeMap<u8, (u32, u32)>;

/// What the relay did and saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// What was damaged.
    pub exchanges: Exchanges,
    /// Answers to damaged IKE_SA_INIT requests by the Notify payload they begin with; 0 is an answer like any other.
    pub answers: BTreeMap<u16, u32>,
    /// Answers to what nobody may answer: messages that were cut short, and damaged ones under protection.
    pub unexpected: Vec<String>,
}

/// A relay that runs until it is finished.
pub struct Relay {
    stop: Arc<AtomicBool>,
    harmless: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: JoinHandle<Result<()>>,
}

/// One side: the relay's sockets there, and who is to be reached by them.
struct Side {
    sockets: [UdpSocket; 2],
    host: IpAddr,
}

impl Side {
    fn open(own: IpAddr, host: IpAddr) -> Result<Self> {
        let open = |port| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((own, port)).with_context(|| format!("binding {own} port {port}"))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Self { sockets: [open(PORTS[0])?, open(PORTS[1])?], host })
    }

    /// A datagram that has come, and the index of its port.
    fn receive(&self) -> Result<Option<(usize, Vec<u8>)>> {
        for (index, socket) in self.sockets.iter().enumerate() {
            let mut room = [0; 2048];
            match socket.recv_from(&mut room) {
                Ok((length, from)) if from.ip() == self.host => {
                    return Ok(Some((index, room.get(..length).unwrap_or_default().to_vec())));
                }
                Ok(_) => {}
                // A host that does not listen yet answers with an ICMP error.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
        Ok(None)
    }

    fn send(&self, index: usize, datagram: &[u8]) -> Result<()> {
        let (Some(socket), Some(port)) = (self.sockets.get(index), PORTS.get(index)) else { return Ok(()) };
        match socket.send_to(datagram, SocketAddr::new(self.host, *port)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error).context("sending"),
        }
    }
}

impl Relay {
    /// Starts it on `router`; each side is the router's address there and the host's.
    ///
    /// # Errors
    /// A port is in use.
    pub fn start(router: &Host, left: [IpAddr; 2], right: [IpAddr; 2]) -> Result<Self> {
        let [left, right] = [left, right].map(|[own, host]| router.within(move || Side::open(own, host)));
        let sides = [left?, right?];
        let stop = Arc::new(AtomicBool::new(false));
        let harmless = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut relaying = Relaying { sides, seen: HashSet::new(), tally: Arc::clone(&tally) };
        let (end, only) = (Arc::clone(&stop), Arc::clone(&harmless));
        let thread = std::thread::spawn(move || relaying.run(&end, &only));
        Ok(Self { stop, harmless, tally, thread })
    }

    /// From now on it only relays.
    pub fn be_harmless(&self) {
        self.harmless.store(true, Ordering::Release);
    }

    /// What has happened so far.
    ///
    /// # Errors
    /// The relay has ended, which it should not have.
    pub fn tally(&self) -> Result<Tally> {
        if self.thread.is_finished() {
            bail!("the relay ended by itself");
        }
        Ok(self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Ends it.
    ///
    /// # Errors
    /// What went wrong meanwhile.
    pub fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the relay panicked"))?
    }
}

struct Relaying {
    sides: [Side; 2],
    /// Messages that were damaged already: what comes again is a retransmission.
    seen: HashSet<Vec<u8>>,
    tally: Arc<Mutex<Tally>>,
}

impl Relaying {
    fn run(&mut self, stop: &AtomicBool, harmless: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Acquire) {
            let mut idle = true;
            for from in [0, 1] {
                while let Some((port, datagram)) = self.side(from)?.receive()? {
                    idle = false;
                    self.relay(from, port, datagram, harmless.load(Ordering::Acquire))?;
                }
            }
            if idle {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn side(&self, index: usize) -> Result<&Side> {
        self.sides.get(index).context("there are two sides")
    }

    fn relay(&mut self, from: usize, port: usize, datagram: Vec<u8>, harmless: bool) -> Result<()> {
        let to = 1 - from;
        // On port 4500 four zero octets are in front of IKE; anything else is ESP or a keepalive.
        let marker = port * 4;
        let is_ike = datagram.get(..marker).is_some_and(|octets| octets.iter().all(|octet| *octet == 0));
        let message = datagram.get(marker..).filter(|message| is_ike && message.len() > HEADER).map(<[u8]>::to_vec);
        let Some(message) = message.filter(|_| !harmless) else { return self.side(to)?.send(port, &datagram) };
        if !self.seen.insert(message.clone()) {
            return self.side(to)?.send(port, &datagram);
        }
        let (cut, flipped) = (cut_short(&message), flipped(&message));
        self.count(&message, cut.len() + flipped.len());
        // Nobody may act on the beginning of a message.
        self.shower(to, port, &cut)?;
        self.expect_silence(to, "one that was cut short")?;
        if message.get(EXCHANGE) != Some(&IKE_SA_INIT) {
            self.shower(to, port, &flipped)?;
            self.expect_silence(to, "one with a flipped bit")?;
            return self.side(to)?.send(port, &datagram);
        }
        // Without protection a flipped bit may make another good message, of which the first counts.
        self.side(to)?.send(port, &datagram)?;
        let mut later = Vec::new();
        if !is_response(&message) {
            later.extend(self.next(to)?);
        }
        self.shower(to, port, &flipped)?;
        while let Some((port, reply)) = self.next(to)? {
            if is_response(&reply) {
                *self.tally().answers.entry(first_notify(&reply)).or_default() += 1;
            } else {
                // The initiator goes on with what it took from the first.
                later.push((port, reply));
            }
        }
        for (port, message) in later {
            self.relay(to, port, [&vec![0; port * 4][..], &message].concat(), false)?;
        }
        Ok(())
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, message: &[u8], damaged: usize) {
        let exchange = message.get(EXCHANGE).copied().unwrap_or_default();
        let mut tally = self.tally();
        let (messages, all) = tally.exchanges.entry(exchange).or_default();
        *messages += 1;
        *all += u32::try_from(damaged).unwrap_or(u32::MAX);
    }

    fn shower(&self, to: usize, port: usize, messages: &[Vec<u8>]) -> Result<()> {
        for (index, message) in messages.iter().enumerate() {
            self.side(to)?.send(port, &[&vec![0; port * 4][..], message].concat())?;
            // Not more at once than a socket holds.
            if index % 32 == 31 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// The next IKE message from a side, without marker; `None` when it says nothing for a while.
    fn next(&self, side: usize) -> Result<Option<(usize, Vec<u8>)>> {
        let start = Instant::now();
        while start.elapsed() < QUIET {
            match self.side(side)?.receive()? {
                Some((port, datagram)) => {
                    let marker = port * 4;
                    let is_ike = datagram.get(..marker).is_some_and(|octets| octets.iter().all(|octet| *octet == 0));
                    if let Some(message) = datagram.get(marker..).filter(|message| is_ike && message.len() > HEADER) {
                        return Ok(Some((port, message.to_vec())));
                    }
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        Ok(None)
    }

    fn expect_silence(&self, side: usize, what: &str) -> Result<()> {
        while let Some((port, message)) = self.next(side)? {
            if is_response(&message) && !self.seen.contains(&message) {
                let exchange = message.get(EXCHANGE).copied().unwrap_or_default();
                let text = format!("{what} was answered in exchange {exchange}, notify {}", first_notify(&message));
                self.tally().unexpected.push(text);
            } else {
                // A request of its own, or a good answer once more, since a good request came once more.
                self.side(1 - side)?.send(port, &[&vec![0; port * 4][..], &message].concat())?;
            }
        }
        Ok(())
    }
}

fn is_response(message: &[u8]) -> bool {
    message.get(FLAGS).is_some_and(|flags| flags & RESPONSE != 0)
}

/// The type in the first payload when that is a Notify payload; 0 otherwise.
fn first_notify(message: &[u8]) -> u16 {
    let octets = message.get(HEADER + 6..HEADER + 8).and_then(|octets| octets.try_into().ok());
    if message.get(16) == Some(&NOTIFY) { octets.map_or(0, u16::from_be_bytes) } else { 0 }
}

/// The message cut short, with the length it had and with the length it has.
fn cut_short(message: &[u8]) -> Vec<Vec<u8>> {
    let lengths = (1..message.len()).filter(|length| *length < 2 * HEADER || length % 5 == 0);
    let mut all = Vec::new();
    for part in lengths.filter_map(|length| message.get(..length)) {
        all.push(part.to_vec());
        let mut honest = part.to_vec();
        if let Some(field) = honest.get_mut(LENGTH..LENGTH + 4) {
            field.copy_from_slice(&(part.len() as u32).to_be_bytes());
            all.push(honest);
        }
    }
    all
}

/// The message with one bit flipped, once for each octet.
fn flipped(message: &[u8]) -> Vec<Vec<u8>> {
    let flip = |index: usize| {
        let mut copy = message.to_vec();
        if let Some(octet) = copy.get_mut(index) {
            *octet ^= 1 << (index % 8);
        }
        copy
    };
    (0..message.len()).map(flip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_is_flipped_once_and_no_cut_is_the_message() {
        let message: Vec<u8> = (0..100).collect();
        let flips = flipped(&message);
        assert_eq!(flips.len(), 100);
        assert!(flips.iter().enumerate().all(|(index, flip)| {
            flip.iter().zip(&message).enumerate().all(|(at, (one, other))| (one == other) == (at != index))
        }));
        let cuts = cut_short(&message);
        assert!(cuts.iter().all(|cut| cut.len() < message.len()));
        // 55 lengths up to two headers and eight beyond, and where there is a length field, once more with a true one.
        assert_eq!(cuts.len(), 55 + 8 + 28 + 8);
        assert!(cuts.contains(&message[..55].to_vec()));
    }

    #[test]
    fn a_notification_is_found_where_it_is_first() {
        let mut message = vec![0; HEADER + 8];
        assert_eq!(first_notify(&message), 0);
        message[16] = NOTIFY;
        message[HEADER + 7] = 14;
        assert_eq!(first_notify(&message), 14);
        assert_eq!(first_notify(&message[..HEADER + 7]), 0);
    }
}
