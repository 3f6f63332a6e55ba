//! What remains of an IKE SA that no child lives under any more: a Delete on its way, a successor in its place, or only the
//! stored response for a peer that missed it (RFC 7296 sections 1.4.1, 2.1, 2.8).

use std::time::Duration;

use super::api::{IkeSaSnapshot, IkeState, RetryPolicy, Timestamp};
use super::context::{Ctx, Failure};
use super::link::{Link, Message, Place, Unopened};
use super::retransmit::{Due, Retransmission};
use super::sa::Sa;
use crate::wire::WireError;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::delete::Delete;
use crate::wire::header::ExchangeType;
use crate::wire::notify::{Notify, NotifyType};

/// How long the peer may take to delete what it replaced, before we do.
const REPLACED: Duration = Duration::from_secs(30);
/// How long the last response is kept: as long as a common peer retransmits.
const LINGER: Duration = Duration::from_secs(30);

pub(super) struct Retiring {
    pub(super) link: Link,
    retry: RetryPolicy,
    stage: Stage,
}

enum Stage {
    /// An earlier request, of this kind, is out; the Delete must wait for its answer (window 1).
    Waiting(u32, ExchangeType, Retransmission),
    /// The last request is out.
    Closing(u32, Retransmission),
    /// A successor is in use; the peer is to delete.
    Replaced(Timestamp),
    /// Nothing is left but the stored response.
    Lingering(Timestamp),
    /// The same, and the response says that the peer has not proved itself.
    Refused(Timestamp),
}

impl Retiring {
    /// Sends a Delete, or waits until it may.
    pub(super) fn delete(
        ctx: &mut Ctx<'_>,
        link: Link,
        retry: RetryPolicy,
        unanswered: Option<(u32, ExchangeType, Retransmission)>,
    ) -> Option<Sa> {
        if let Some((id, exchange, timer)) = unanswered {
            return Some(Self { link, retry, stage: Stage::Waiting(id, exchange, timer) }.into());
        }
        let mut chain = ChainBuilder::new();
        chain.push(PayloadType::DELETE, &Delete::Ike).ok()?;
        Self::farewell(ctx, link, retry, &chain)
    }

    /// Tells a responder whose AUTH did not verify, in an exchange of its own (V2-AUTH-07).
    pub(super) fn auth_failed(ctx: &mut Ctx<'_>, link: Link, retry: RetryPolicy) -> Option<Sa> {
        let mut chain = ChainBuilder::new();
        chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::AUTHENTICATION_FAILED, Vec::new())).ok()?;
        Self::farewell(ctx, link, retry, &chain)
    }

    fn farewell(ctx: &mut Ctx<'_>, mut link: Link, retry: RetryPolicy, chain: &ChainBuilder) -> Option<Sa> {
        match link.request(ctx, ExchangeType::INFORMATIONAL, chain) {
            Ok((id, octets)) => {
                let stage = Stage::Closing(id, Retransmission::start(ctx.now, retry, octets));
                Some(Self { link, retry, stage }.into())
            }
            Err(failure) => {
                ctx.failed("deleting an IKE SA", &link.path, None, &failure);
                None
            }
        }
    }

    /// The peer replaced the IKE SA.
    pub(super) fn replaced(ctx: &Ctx<'_>, link: Link, retry: RetryPolicy) -> Sa {
        Self { link, retry, stage: Stage::Replaced(ctx.now.after(REPLACED)) }.into()
    }

    /// Nothing more is to be said.
    pub(super) fn linger(ctx: &Ctx<'_>, link: Link, retry: RetryPolicy) -> Sa {
        Self { link, retry, stage: Stage::Lingering(ctx.now.after(LINGER)) }.into()
    }

    /// The peer did not prove itself, and was told so.
    pub(super) fn refused(ctx: &Ctx<'_>, link: Link, retry: RetryPolicy) -> Sa {
        Self { link, retry, stage: Stage::Refused(ctx.now.after(LINGER)) }.into()
    }

    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.stage, Stage::Lingering(_) | Stage::Refused(_))
    }

    /// Whether the SA is one of a peer that did not prove itself.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused(_))
    }

    fn outstanding(&self) -> Option<(u32, ExchangeType)> {
        match &self.stage {
            Stage::Waiting(id, exchange, _) => Some((*id, *exchange)),
            Stage::Closing(id, _) => Some((*id, ExchangeType::INFORMATIONAL)),
            Stage::Replaced(_) | Stage::Lingering(_) | Stage::Refused(_) => None,
        }
    }

    pub(super) fn handle_message(mut self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Option<Sa> {
        let outstanding = self.outstanding();
        match self.link.place(message, outstanding.map(|(id, _)| id)) {
            Place::Response if outstanding.is_none_or(|(_, exchange)| exchange != message.header().exchange) => {
                ctx.out.stats.out_of_window += 1;
            }
            Place::Repeated => self.link.repeat(ctx, message),
            Place::Outside => ctx.out.stats.out_of_window += 1,
            Place::Response => {
                if self.link.open(ctx, message).is_ok() {
                    return match self.stage {
                        Stage::Waiting(..) => Self::delete(ctx, self.link, self.retry, None),
                        _ => None,
                    };
                }
            }
            Place::Request => return self.on_request(ctx, message),
        }
        Some(Sa::Retiring(self))
    }

    fn on_request(mut self: Box<Self>, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Option<Sa> {
        let exchange = message.header().exchange;
        if self.is_lingering() || !matches!(exchange, ExchangeType::CREATE_CHILD_SA | ExchangeType::INFORMATIONAL) {
            ctx.out.stats.out_of_window += 1;
            return Some(Sa::Retiring(self));
        }
        let decoded = match self.link.open(ctx, message) {
            Err(Unopened::Forged | Unopened::Incomplete) => return Some(Sa::Retiring(self)),
            Err(Unopened::Malformed) => Err(WireError::Length("padding")),
            Ok(opened) => opened.decode(),
        };
        let (error, over) = match decoded {
            // V2-COL-11, and the same for children.
            Ok(_) if exchange == ExchangeType::CREATE_CHILD_SA => {
                (Some((NotifyType::TEMPORARY_FAILURE, vec![])), false)
            }
            Ok(request) => (None, request.deletes.contains(&Delete::Ike)),
            Err(WireError::Critical(kind)) => (Some((NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind])), false),
            Err(_) => (Some((NotifyType::INVALID_SYNTAX, vec![])), true),
        };
        let mut chain = ChainBuilder::new();
        if let Some((kind, data)) = error {
            chain.push(PayloadType::NOTIFY, &Notify::plain(kind, data)).ok()?;
        }
        if let Err(failure) = self.link.respond(ctx, message, &chain) {
            self.report(ctx, &failure);
        }
        if over {
            return Some(Self::linger(ctx, self.link, self.retry));
        }
        Some(Sa::Retiring(self))
    }

    fn report(&self, ctx: &mut Ctx<'_>, failure: &Failure) {
        ctx.failed("deleting an IKE SA", &self.link.path, None, failure);
    }

    pub(super) fn handle_timeout(mut self: Box<Self>, ctx: &mut Ctx<'_>) -> Option<Sa> {
        let due = match &mut self.stage {
            Stage::Waiting(_, _, timer) | Stage::Closing(_, timer) => timer.poll(ctx.now),
            Stage::Replaced(at) if *at <= ctx.now => return Self::delete(ctx, self.link, self.retry, None),
            Stage::Lingering(at) | Stage::Refused(at) if *at <= ctx.now => return None,
            Stage::Replaced(_) | Stage::Lingering(_) | Stage::Refused(_) => Due::Nothing,
        };
        match due {
            Due::Nothing => {}
            Due::GiveUp => return None,
            Due::Resend(datagrams) => {
                self.link.resend(ctx, datagrams);
            }
        }
        Some(Sa::Retiring(self))
    }

    pub(super) fn next_timeout(&self) -> Timestamp {
        match &self.stage {
            Stage::Waiting(_, _, timer) | Stage::Closing(_, timer) => timer.deadline(),
            Stage::Replaced(at) | Stage::Lingering(at) | Stage::Refused(at) => *at,
        }
    }

    pub(super) fn snapshot(&self) -> IkeSaSnapshot {
        let state = match self.stage {
            Stage::Replaced(_) => IkeState::Replaced,
            _ => IkeState::Deleting,
        };
        self.link.snapshot(state)
    }
}

impl From<Retiring> for Sa {
    fn from(retiring: Retiring) -> Self {
        Self::Retiring(Box::new(retiring))
    }
}
