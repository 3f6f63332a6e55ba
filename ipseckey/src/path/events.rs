//! Events of the data path as lines and as JSON, and their way to the bus.

use crate::names::{ICMP, ICMPV6};
use sadb_maps::event::{Event, expire, kind};
use sadb_maps::host::{BusError, Instance, Publisher, Sadb, SadbError, Spd, relay};
use sadb_maps::policy::Selectors;
use serde::Serialize;
use std::net::IpAddr;

/// An event for `--json`. Fields that mean nothing for its kind are left out.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names of the fields are the documentation; espadm(8) repeats them")]
pub enum JsonEvent {
    Acquire { boot_ns: u64, policy: u32, rule: u32, action_id: String, src: IpAddr, dst: IpAddr, packet: JsonPacket },
    Expire { boot_ns: u64, limit: &'static str, spi: String, slot: u32 },
    Moved { boot_ns: u64, spi: String, slot: u32, packet: JsonPacket },
    Unknown { boot_ns: u64, kind: u32 },
}

/// The packet of an event, as this host sees it.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; espadm(8) repeats them")]
pub struct JsonPacket {
    pub local: IpAddr,
    pub remote: IpAddr,
    pub proto: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
}

impl From<&Selectors> for JsonPacket {
    fn from(s: &Selectors) -> Self {
        let readable = s.opaque == 0;
        let icmp = readable && matches!(s.proto, ICMP | ICMPV6);
        let ports = readable && (s.lport != 0 || s.rport != 0);
        Self {
            local: s.laddr.into(),
            remote: s.raddr.into(),
            proto: s.proto,
            lport: ports.then_some(s.lport),
            rport: ports.then_some(s.rport),
            icmp_type: icmp.then_some(s.icmp_type),
            icmp_code: icmp.then_some(s.icmp_code),
        }
    }
}

impl From<&Event> for JsonEvent {
    fn from(event: &Event) -> Self {
        let boot_ns = event.time;
        let packet = JsonPacket::from(&event.packet);
        match event.kind {
            kind::ACQUIRE => Self::Acquire {
                boot_ns,
                policy: event.policy,
                rule: event.rule,
                action_id: format!("{:#018x}", event.binding.action),
                src: event.binding.src.into(),
                dst: event.binding.dst.into(),
                packet,
            },
            kind::EXPIRE => Self::Expire {
                boot_ns,
                limit: limit(event.detail),
                spi: format!("0x{:x}", event.spi),
                slot: event.sa.slot,
            },
            kind::MOVED => Self::Moved { boot_ns, spi: format!("0x{:x}", event.spi), slot: event.sa.slot, packet },
            kind => Self::Unknown { boot_ns, kind },
        }
    }
}

fn limit(detail: u32) -> &'static str {
    match detail {
        expire::SOFT => "soft",
        expire::HARD => "hard",
        expire::IDLE => "idle",
        _ => "unknown",
    }
}

/// Passes events on to everybody else: the holder of the lease owes the others what it reads.
#[derive(Debug)]
pub struct Relay {
    publisher: Publisher,
    sadb: Sadb,
    spd: Spd,
}

/// Why an event was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The maps.
    #[error(transparent)]
    Sadb(#[from] SadbError),
}

impl Relay {
    /// A relay for an attached instance.
    ///
    /// # Errors
    /// Not attached; no socket.
    pub fn open(instance: &Instance) -> Result<Self, RelayError> {
        Ok(Self { publisher: Publisher::open()?, sadb: Sadb::open(instance)?, spd: Spd::open(instance)? })
    }

    /// Publishes an event. What its rule or SA no longer stands behind is left out.
    ///
    /// # Errors
    /// Maps or bus.
    pub fn pass_on(&mut self, event: &Event) -> Result<(), RelayError> {
        for message in relay::messages(event, &mut self.sadb, &mut self.spd)? {
            self.publisher.publish(&message)?;
        }
        Ok(())
    }
}

/// The event as one line.
pub fn line(event: &Event) -> String {
    let time = format!("{}.{:06}", event.time / 1_000_000_000, event.time / 1000 % 1_000_000);
    let what = match JsonEvent::from(event) {
        JsonEvent::Acquire { src, dst, rule, action_id, packet, .. } => {
            format!("ACQUIRE {src} -> {dst} for {} (rule {rule}, action {action_id})", packet.text())
        }
        JsonEvent::Expire { limit, spi, slot, .. } => format!("EXPIRE {limit} spi={spi} (slot {slot})"),
        JsonEvent::Moved { spi, slot, packet, .. } => format!("MOVED spi={spi} (slot {slot}): {}", packet.text()),
        JsonEvent::Unknown { kind, .. } => format!("unknown event {kind}"),
    };
    format!("{time} {what}")
}

impl JsonPacket {
    fn text(&self) -> String {
        let port = |port: Option<u16>| port.map(|p| format!(" port {p}")).unwrap_or_default();
        let icmp = match (self.icmp_type, self.icmp_code) {
            (Some(kind), Some(code)) => format!(" type {kind} code {code}"),
            _ => String::new(),
        };
        format!(
            "local {}{} remote {}{} proto {}{icmp}",
            self.local,
            port(self.lport),
            self.remote,
            port(self.rport),
            self.proto
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sadb_maps::sa::BindingKey;

    fn ip(text: &str) -> sadb_maps::Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn the_bus_hears_what_the_lease_holder_reads() {
        use sadb_maps::host::testing::TestInstance;
        use sadb_maps::host::{Heard, SaKey, SaSpec, SecretKey, Subscriber, pfkey};
        // A namespace of its own: the bus carries the messages of every test that runs beside this one.
        let listen = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let test = TestInstance::with_maps(4).unwrap();
            let mut spec =
                SaSpec::new(sadb_maps::sa::ESP, 7, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
            spec.encr = sadb_maps::sa::encr::CHACHA20_POLY1305;
            (spec.key, spec.salt) = (SecretKey::new(vec![7; 32]), SecretKey::new(vec![7; 4]));
            (spec.soft.bytes, spec.hard.bytes) = (10, 20);
            let mut sadb = Sadb::open(&test).unwrap();
            let slot = sadb.add(&spec).unwrap();
            let mut relay = Relay::open(&test).unwrap();
            let mut bus = Subscriber::open(None).unwrap();
            let event = Event { kind: kind::EXPIRE, detail: expire::SOFT, sa: slot, spi: 7, ..Event::default() };
            relay.pass_on(&event).unwrap();
            let Some(Heard::Message(heard)) = bus.next_message().unwrap() else { panic!("nothing heard") };
            assert_eq!((heard.kind, heard.soft.map(|l| l.bytes), heard.hard), (pfkey::kind::EXPIRE, Some(10), None));
            // Deleted meanwhile: nothing to say, and no error.
            sadb.delete(&SaKey::new(spec.proto, spec.spi, spec.dst)).unwrap();
            assert!(matches!(bus.next_message().unwrap(), Some(Heard::Message(_))));
            relay.pass_on(&event).unwrap();
            assert_eq!(bus.next_message().unwrap(), None);
        };
        std::thread::spawn(listen).join().unwrap();
    }

    #[test]
    fn events_read_as_lines() {
        let packet = Selectors {
            laddr: ip("10.1.0.1"),
            raddr: ip("10.2.0.1"),
            lport: 40_000,
            rport: 80,
            proto: 6,
            ..Selectors::default()
        };
        let binding =
            BindingKey { action: 0xabc, src: ip("192.0.2.1"), dst: ip("198.51.100.7"), ..BindingKey::default() };
        let acquire = Event { kind: kind::ACQUIRE, time: 1_002_003_000, rule: 2, binding, packet, ..Event::default() };
        assert_eq!(
            line(&acquire),
            "1.002003 ACQUIRE 192.0.2.1 -> 198.51.100.7 for local 10.1.0.1 port 40000 remote 10.2.0.1 port 80 proto 6 \
             (rule 2, action 0x0000000000000abc)"
        );
        let expire = Event { kind: kind::EXPIRE, detail: expire::SOFT, spi: 0x1001, ..Event::default() };
        assert_eq!(line(&expire), "0.000000 EXPIRE soft spi=0x1001 (slot 0)");
        let datagram = Selectors { proto: 17, lport: 4500, rport: 1024, ..packet };
        let moved = Event { kind: kind::MOVED, spi: 0x1001, packet: datagram, ..Event::default() };
        assert_eq!(
            line(&moved),
            "0.000000 MOVED spi=0x1001 (slot 0): local 10.1.0.1 port 4500 remote 10.2.0.1 port 1024 proto 17"
        );
        let ping = Selectors { proto: ICMP, icmp_type: 8, ..packet };
        let acquire_for_ping = line(&Event { packet: ping, ..acquire });
        assert!(acquire_for_ping.contains("proto 1 type 8 code 0"), "{acquire_for_ping}");
        let json = serde_json::to_value(JsonEvent::from(&acquire)).unwrap();
        assert_eq!((&json["event"], &json["packet"]["rport"]), (&"acquire".into(), &80.into()));
        assert!(line(&Event { kind: 9, detail: 99, ..Event::default() }).contains("unknown event 9"));
    }
}
