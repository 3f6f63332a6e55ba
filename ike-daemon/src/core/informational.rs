//! INFORMATIONAL: Delete of children and of the IKE SA, and requests with nothing in them (RFC 7296 section 1.4).

use super::api::{FailureCause, Level, Protocol, RemoveReason};
use super::context::{Ctx, Failure};
use super::established::{Established, Exchange, Outstanding, Verdict};
use super::link::Message;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::delete::Delete;
use crate::wire::notify::NotifyType;
use crate::wire::payloads::Payloads;
use crate::wire::sa::ProtocolId;

/// Unknown SPIs kept while an exchange is out.
const MAX_REMEMBERED: usize = 16;

impl Established {
    /// Tells the peer that a child goes. It stays able to receive until the peer has answered.
    pub(super) fn start_delete(
        &mut self,
        ctx: &mut Ctx<'_>,
        inbound: u32,
        reason: RemoveReason,
    ) -> Result<(), Failure> {
        let Some(child) = self.children.get_mut(&inbound) else { return Ok(()) };
        child.deleting = true;
        let delete = Delete::Children { protocol: child.suite.protocol.id(), spis: vec![inbound] };
        self.send_delete(ctx, &delete, Some((inbound, reason)))
    }

    pub(super) fn start_delete_spi(
        &mut self,
        ctx: &mut Ctx<'_>,
        protocol: ProtocolId,
        spi: u32,
    ) -> Result<(), Failure> {
        self.send_delete(ctx, &Delete::Children { protocol, spis: vec![spi] }, None)
    }

    fn send_delete(
        &mut self,
        ctx: &mut Ctx<'_>,
        delete: &Delete,
        child: Option<(u32, RemoveReason)>,
    ) -> Result<(), Failure> {
        let mut chain = ChainBuilder::new();
        chain.push(PayloadType::DELETE, delete)?;
        self.begin(ctx, &chain, Exchange::Delete(child))
    }

    /// Every INFORMATIONAL request is answered (V2-INF-01).
    pub(super) fn on_informational(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>, request: &Payloads) -> Verdict {
        // The Delete of the IKE SA ends everything; what stands beside it does not matter any more (V2-INF-07).
        let ike_deleted = request.deletes.contains(&Delete::Ike);
        let auth_failed = request.notify(NotifyType::AUTHENTICATION_FAILED).is_some();
        self.heed_lifetime(ctx, request);
        let mut chain = ChainBuilder::new();
        if !ike_deleted && !auth_failed {
            for (protocol, spis) in self.delete_children(ctx, request) {
                let pushed = chain.push(PayloadType::DELETE, &Delete::Children { protocol, spis });
                if let Err(error) = pushed {
                    self.report(ctx, "answering a Delete", &error.into());
                }
            }
        }
        if let Some(other) = request.error().filter(|_| !auth_failed) {
            let text = format!("IKE SA {}: {} tells {}", self.link.spis, self.link.path.remote, other.kind);
            ctx.log(Level::Info, text);
        }
        if let Err(failure) = self.link.respond(ctx, message, &chain) {
            self.report(ctx, "answering INFORMATIONAL", &failure);
        }
        if auth_failed {
            let failure = Failure::new(FailureCause::AuthenticationFailed, "the peer does not accept our AUTH");
            self.report(ctx, "IKE_AUTH", &failure);
        }
        if ike_deleted || auth_failed { Verdict::Gone(RemoveReason::PeerDeleted) } else { Verdict::Stay }
    }

    /// Removes the children a request names and returns the SPIs for the response: ours, paired with the peer's, except of
    /// those whose Delete we have sent ourselves (V2-INF-03, V2-COL-05).
    fn delete_children(&mut self, ctx: &mut Ctx<'_>, request: &Payloads) -> Vec<(ProtocolId, Vec<u32>)> {
        let mut answer: Vec<(ProtocolId, Vec<u32>)> = Vec::new();
        let named = request.deletes.iter().filter_map(|delete| match delete {
            Delete::Children { protocol, spis } => Some((*protocol, spis)),
            Delete::Ike => None,
        });
        for (id, spis) in named {
            let Some(protocol) = Protocol::from_id(id) else { continue };
            let mut ours = Vec::new();
            for spi in spis {
                let found = self.children.values().find(|c| c.suite.protocol == protocol && c.spis.outbound == *spi);
                let Some((inbound, deleting)) = found.map(|c| (c.spis.inbound, c.deleting)) else {
                    self.remember_deleted(*spi);
                    continue;
                };
                if !deleting {
                    ours.push(inbound);
                }
                let replaced = self.children.values().any(|c| c.rekeys == Some(inbound));
                let reason = if replaced { RemoveReason::Rekeyed } else { RemoveReason::PeerDeleted };
                self.drop_child(ctx, inbound, reason);
                self.delete_answered(inbound);
            }
            if !ours.is_empty() {
                answer.push((id, ours));
            }
        }
        answer
    }

    /// The Delete may have overtaken the answer that would have told us of the child.
    fn remember_deleted(&mut self, spi: u32) {
        if let Some(Outstanding { exchange: Exchange::Child(pending), .. }) = &mut self.outstanding
            && pending.deleted.len() < MAX_REMEMBERED
        {
            pending.deleted.push(spi);
        }
    }

    /// Our own Delete of the same child has nothing left to remove.
    fn delete_answered(&mut self, inbound: u32) {
        if let Some(Outstanding { exchange: Exchange::Delete(child), .. }) = &mut self.outstanding {
            child.take_if(|(spi, _)| *spi == inbound);
        }
    }
}
