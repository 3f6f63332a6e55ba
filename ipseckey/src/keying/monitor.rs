//! Messages of the bus for `monitor --json`: one object a line.

use super::dump::{self, JsonIdentity, JsonIdle, JsonLimits};
use super::labels::Labels;
use sadb_maps::host::pfkey::{Endpoint, Message};
use sadb_maps::sa::state;
use serde::Serialize;

/// A message. What it does not say is left out; there are no keys on the bus.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation; ipseckey(8) repeats them")]
pub struct JsonMessage {
    pub time: i64,
    pub message: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub seq: u32,
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spi: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<JsonEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<JsonEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_src: Option<JsonEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_dst: Option<JsonEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_identity: Option<JsonIdentity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_identity: Option<JsonIdentity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_spi: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft: Option<JsonLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard: Option<JsonLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<JsonIdle>,
}

/// An address with what stands beside it; 0 is any.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the fields are the documentation")]
pub struct JsonEnd {
    pub address: String,
    pub proto: u8,
    pub port: u16,
}

fn end(end: Option<Endpoint>) -> Option<JsonEnd> {
    end.map(|e| JsonEnd { address: format!("{}/{}", e.addr, e.prefix), proto: e.proto, port: e.port })
}

/// The message, heard at `time` seconds since 1970.
pub fn json(message: &Message, time: i64, labels: &Labels) -> JsonMessage {
    let hex = |spi: u32| format!("0x{spi:x}");
    let idle = message.idle.map(|l| JsonIdle {
        addtime: u32::try_from(l.add).unwrap_or(u32::MAX),
        usetime: u32::try_from(l.used).unwrap_or(u32::MAX),
    });
    JsonMessage {
        time,
        message: dump::verb(message.kind).to_lowercase(),
        kind: match message.satype {
            2 => Some("ah"),
            3 => Some("esp"),
            _ => None,
        },
        seq: message.seq,
        pid: message.pid,
        spi: message.sa.map(|sa| hex(sa.spi)),
        state: message
            .sa
            .filter(|sa| u32::from(sa.state) <= state::DEAD)
            .map(|sa| dump::state_word(sa.state.into()).to_ascii_lowercase()),
        src: end(message.src),
        dst: end(message.dst),
        inner_src: end(message.inner_src),
        inner_dst: end(message.inner_dst),
        src_identity: message.src_identity.as_ref().map(JsonIdentity::from),
        dst_identity: message.dst_identity.as_ref().map(JsonIdentity::from),
        pair_spi: message.pair.map(hex),
        cookie: message.km.map(|(_, cookie)| format!("0x{cookie:x}")),
        label: message.km.and_then(|(_, cookie)| labels.get(cookie)).map(str::to_owned),
        soft: message.soft.map(JsonLimits::from),
        hard: message.hard.map(JsonLimits::from),
        idle,
    }
}
