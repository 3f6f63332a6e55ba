//! Reauthentication, make before break: a new IKE SA from scratch with children for all that the old one has, and only then
//! the end of the old one (RFC 7296 section 2.8.3). A peer asks for it with AUTH_LIFETIME (RFC 4478).

use std::sync::Arc;
use std::time::Duration;

use super::api::{Path, Rule, Timestamp};
use super::child::Wish;
use super::context::Ctx;
use super::established::Established;
use crate::wire::notify::NotifyType;
use crate::wire::payloads::Payloads;

/// The shortest time between two reauthentications, whatever the peer says: and when one that led to nothing is repeated.
const APART: Duration = Duration::from_secs(60);

/// What a new IKE SA in the place of another begins with.
pub(super) struct Heritage {
    pub(super) path: Path,
    pub(super) rule: Arc<Rule>,
    pub(super) wishes: Vec<Wish>,
}

/// When to begin, for a peer that takes our proof for so long: early, as a rekey is (V2-REK-12).
fn begins_after(ctx: &mut Ctx<'_>, lifetime: Duration) -> Duration {
    let percent = u32::try_from(80 + ctx.below(10)).unwrap_or(85);
    (lifetime.saturating_mul(percent) / 100).max(APART)
}

impl Established {
    /// Heeds AUTH_LIFETIME in what an authenticated peer sent: a number of seconds (RFC 4478 section 3). Who began the IKE
    /// SA has to begin the next one, and the later word counts.
    pub(super) fn heed_lifetime(&mut self, ctx: &mut Ctx<'_>, payloads: &Payloads) {
        let seconds =
            payloads.notify(NotifyType::AUTH_LIFETIME).and_then(|n| <[u8; 4]>::try_from(n.data.as_slice()).ok());
        if let Some(seconds) = seconds.map(u32::from_be_bytes) {
            let after = begins_after(ctx, Duration::from_secs(seconds.into()));
            self.reauth_at = Some(ctx.now.after(after));
        }
    }

    /// Whether it is time. Should nothing come of it, it will be time again.
    pub(super) fn reauth_due(&mut self, now: Timestamp) -> bool {
        let due = self.reauth_at.is_some_and(|at| at <= now);
        if due {
            self.reauth_at = Some(now.after(APART));
        }
        due
    }

    /// What the IKE SA in our place begins with: the same peer, rule and traffic.
    pub(super) fn heritage(&self) -> Heritage {
        let wish = |child: &super::child::Child| {
            let mut policy = child.policy.clone();
            policy.ts_local.clone_from(&child.ts_local);
            policy.ts_remote.clone_from(&child.ts_remote);
            Wish { acquire: None, policy, packet: None, rekeys: None, tries: 0 }
        };
        let replaced = |inbound: u32| self.children.values().any(|child| child.rekeys == Some(inbound));
        let kept = self.children.values().filter(|child| !child.deleting && !replaced(child.spis.inbound));
        Heritage { path: self.link.path, rule: Arc::clone(&self.peer.rule), wishes: kept.map(wish).collect() }
    }

    /// Whether everything that was wanted when it came up has been answered.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting() == 0 && !self.is_making_child()
    }
}
