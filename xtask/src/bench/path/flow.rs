//! One TCP connection that sends as fast as it can for a fixed time, and how busy the machine was meanwhile.

use crate::net::Host;
use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{setsockopt, sockopt};
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Left out of the measurement, so that the window has opened.
const WARM_UP: Duration = Duration::from_millis(200);

/// What is measured.
const MEASURED: Duration = Duration::from_millis(700);

/// A stall of this length fails the measurement.
const PATIENCE: Duration = Duration::from_secs(5);

const CHUNK: usize = 256 * 1024;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Payload that the receiver read, in Gbit/s.
    pub(super) gigabits: f64,
    /// Processors of the whole machine that were not idle in that time, on average.
    pub(super) busy: f64,
}

/// Measures a flow from one host to `address` of the other.
///
/// # Errors
/// No connection, or a stall, of five seconds.
pub(super) fn measure(from: &Host, to: &Host, address: IpAddr) -> Result<Rate> {
    let (listening, ready) = mpsc::channel();
    let receiver = to.spawn_within(move || receive(address, &listening));
    // A receiver that failed before it listened says why when it is joined.
    let sender = ready.recv().ok().map(|port| from.spawn_within(move || send(SocketAddr::new(address, port))));
    let received = receiver.join().map_err(|_| anyhow!("the receiver panicked"))?;
    let sent = sender.map(|sender| sender.join().map_err(|_| anyhow!("the sender panicked"))).transpose()?;
    sent.transpose().context("sending")?;
    received.context("receiving")
}

/// Sends until the receiver has had enough and closes.
fn send(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connecting to {to}"))?;
    // The default differs between machines, and what waits for its pacing timer measures the timer.
    setsockopt(&stream, sockopt::TcpCongestion, &OsString::from("cubic")).context("congestion control cubic")?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let chunk = vec![0x5a; CHUNK];
    loop {
        match stream.write_all(&chunk) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return Ok(()),
            Err(error) => return Err(error).context("stalled"),
        }
    }
}

fn receive(at: IpAddr, listening: &mpsc::Sender<u16>) -> Result<Rate> {
    let listener = TcpListener::bind((at, 0)).with_context(|| format!("listening on {at}"))?;
    listening.send(listener.local_addr()?.port())?;
    let mut stream = accept(&listener)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; CHUNK];
    let mut read_for = |time: Duration| -> Result<(u64, Duration)> {
        let (start, mut octets) = (Instant::now(), 0);
        while start.elapsed() < time {
            match stream.read(&mut buffer).context("stalled")? {
                0 => bail!("the connection ended"),
                length => octets += length as u64,
            }
        }
        Ok((octets, start.elapsed()))
    };
    read_for(WARM_UP)?;
    let before = Ticks::now()?;
    let (octets, time) = read_for(MEASURED)?;
    let busy = Ticks::now()?.busy_since(&before);
    Ok(Rate { gigabits: octets as f64 * 8.0 / time.as_secs_f64() / 1e9, busy })
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(error).context("accepting"),
        }
    }
    bail!("nobody connected within {PATIENCE:?}")
}

/// What proc(5) counts in the lines `cpuN` of /proc/stat.
struct Ticks {
    cpus: u32,
    busy: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/stat").context("reading /proc/stat")?))
    }

    fn parse(stat: &str) -> Self {
        let mut ticks = Self { cpus: 0, busy: 0, all: 0 };
        for line in stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")) {
            // user nice system idle iowait irq softirq steal; guest times are in user and nice already.
            let times: Vec<u64> = line.split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap_or(0)).collect();
            let all: u64 = times.iter().sum();
            let not_ours: u64 = [3, 4, 7].iter().filter_map(|n| times.get(*n)).sum();
            ticks.cpus += 1;
            ticks.all += all;
            ticks.busy += all.saturating_sub(not_ours);
        }
        ticks
    }

    fn busy_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        f64::from(self.cpus) * self.busy.saturating_sub(before.busy) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        let before = Ticks::parse("cpu  1 1 1 1\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 5 0 0 5 0 0 0 0 0 0\nintr 7\n");
        let after = Ticks::parse("cpu  1 1 1 1\ncpu0 10 0 20 30 0 0 10 30 0 0\ncpu1 65 0 0 45 0 0 0 0 0 0\nintr 7\n");
        // 40 of 100 and 60 of 100.
        assert!((after.busy_since(&before) - 1.0).abs() < 1e-9, "{}", after.busy_since(&before));
    }
}
