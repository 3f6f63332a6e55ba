//! What the holder of the event lease owes everybody else: the events that it reads, as messages of the bus.

use super::error::SadbError;
use super::pfkey::Message;
use super::sadb::Sadb;
use super::spd::Spd;
use crate::event::{Event, kind};

/// The messages that say what the event says. None when its rule or SA is gone meanwhile: then the next packet
/// asks again, and nobody has to hear of a limit.
///
/// # Errors
/// A map cannot be read.
pub fn messages(event: &Event, sadb: &mut Sadb, spd: &mut Spd) -> Result<Vec<Message>, SadbError> {
    match event.kind {
        kind::ACQUIRE => {
            let rule = spd.rule_at(event.policy, event.rule)?;
            Ok(rule.map_or_else(Vec::new, |compiled| Message::acquires(event, &compiled.rule)))
        }
        kind::EXPIRE | kind::MOVED => match sadb.get_slot(event.sa) {
            Ok(info) if event.kind == kind::MOVED => Ok(vec![Message::moved(event, &info)]),
            Ok(info) => Ok(vec![Message::expired(event, &info)]),
            Err(SadbError::NotFound) => Ok(vec![]),
            Err(error) => Err(error),
        },
        _ => Ok(vec![]),
    }
}
