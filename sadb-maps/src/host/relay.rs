//! What the holder of the event lease owes everybody else: the events that it reads, as messages of the bus.

use super::error::SadbError;
use super::pfkey::Message;
use super::sadb::Sadb;
use super::spd::Spd;
use crate::event::{Event, kind};

/// The message that says what the event says. `None` when its rule or SA is gone meanwhile: then the next packet
/// asks again, and nobody has to hear of a limit.
///
/// # Errors
/// A map cannot be read.
pub fn message(event: &Event, sadb: &mut Sadb, spd: &mut Spd) -> Result<Option<Message>, SadbError> {
    match event.kind {
        kind::ACQUIRE => {
            let rule = spd.rule_at(event.policy, event.rule)?;
            Ok(rule.map(|compiled| Message::acquire(event, &compiled.rule)))
        }
        kind::EXPIRE | kind::MOVED => match sadb.get_slot(event.sa) {
            Ok(info) if event.kind == kind::MOVED => Ok(Some(Message::moved(event, &info))),
            Ok(info) => Ok(Some(Message::expired(event, &info))),
            Err(SadbError::NotFound) => Ok(None),
            Err(error) => Err(error),
        },
        _ => Ok(None),
    }
}
