//! The states of an IKE SA, each a type of its own that a message or a timeout consumes.

use std::net::IpAddr;

use super::api::{IkeKeys, IkeSaSnapshot, IkeSpis, Timestamp};
use super::auth::AuthSent;
use super::context::Ctx;
use super::established::Established;
use super::half_open::HalfOpen;
use super::init::InitSent;
use super::link::Message;
use super::retiring::Retiring;

/// An IKE SA.
pub(super) enum Sa {
    /// Initiator: IKE_SA_INIT sent.
    InitSent(Box<InitSent>),
    /// Initiator: IKE_AUTH sent.
    AuthSent(Box<AuthSent>),
    /// Responder: IKE_SA_INIT answered.
    HalfOpen(Box<HalfOpen>),
    /// In use.
    Established(Box<Established>),
    /// On its way out.
    Retiring(Box<Retiring>),
}

impl Sa {
    pub(super) fn handle_message(self, ctx: &mut Ctx<'_>, message: &Message<'_>) -> Option<Self> {
        match self {
            Self::InitSent(sa) => sa.handle_message(ctx, message),
            Self::AuthSent(sa) => sa.handle_message(ctx, message),
            Self::HalfOpen(sa) => sa.handle_message(ctx, message),
            Self::Established(sa) => sa.handle_message(ctx, message),
            Self::Retiring(sa) => sa.handle_message(ctx, message),
        }
    }

    pub(super) fn handle_timeout(self, ctx: &mut Ctx<'_>) -> Option<Self> {
        match self {
            Self::InitSent(sa) => sa.handle_timeout(ctx),
            Self::AuthSent(sa) => sa.handle_timeout(ctx),
            Self::HalfOpen(sa) => sa.handle_timeout(ctx),
            Self::Established(sa) => sa.handle_timeout(ctx),
            Self::Retiring(sa) => sa.handle_timeout(ctx),
        }
    }

    pub(super) fn next_timeout(&self, ctx: &Ctx<'_>) -> Option<Timestamp> {
        match self {
            Self::InitSent(sa) => Some(sa.next_timeout()),
            Self::AuthSent(sa) => Some(sa.next_timeout()),
            Self::HalfOpen(sa) => Some(sa.next_timeout()),
            Self::Established(sa) => sa.next_timeout(ctx.config.keepalive),
            Self::Retiring(sa) => Some(sa.next_timeout()),
        }
    }

    /// The SPI that we chose: the key under which messages for this SA arrive.
    pub(super) fn our_spi(&self) -> [u8; 8] {
        match self {
            Self::InitSent(sa) => sa.spi(),
            Self::AuthSent(sa) => sa.link.our_spi(),
            Self::HalfOpen(sa) => sa.link.our_spi(),
            Self::Established(sa) => sa.link.our_spi(),
            Self::Retiring(sa) => sa.link.our_spi(),
        }
    }

    pub(super) fn spis(&self) -> IkeSpis {
        match self {
            Self::InitSent(sa) => IkeSpis { initiator: sa.spi(), responder: [0; 8] },
            Self::AuthSent(sa) => sa.link.spis,
            Self::HalfOpen(sa) => sa.link.spis,
            Self::Established(sa) => sa.link.spis,
            Self::Retiring(sa) => sa.link.spis,
        }
    }

    pub(super) fn keys(&self) -> Option<&IkeKeys> {
        match self {
            Self::InitSent(_) => None,
            Self::AuthSent(sa) => Some(&sa.link.keys),
            Self::HalfOpen(sa) => Some(&sa.link.keys),
            Self::Established(sa) => Some(&sa.link.keys),
            Self::Retiring(sa) => Some(&sa.link.keys),
        }
    }

    /// Digest of the request that began it, at the responder.
    pub(super) fn began(&self) -> Option<[u8; 32]> {
        match self {
            Self::InitSent(_) | Self::AuthSent(_) => None,
            Self::HalfOpen(sa) => sa.link.began,
            Self::Established(sa) => sa.link.began,
            Self::Retiring(sa) => sa.link.began,
        }
    }

    /// How many requests of the data path wait for it.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::InitSent(sa) => sa.waiting(),
            Self::AuthSent(sa) => sa.waiting(),
            Self::Established(sa) => sa.waiting(),
            Self::HalfOpen(_) | Self::Retiring(_) => 0,
        }
    }

    /// Where the peer is that made us keep this SA and has not proved that it may.
    pub(super) fn unproved(&self) -> Option<IpAddr> {
        match self {
            Self::HalfOpen(sa) => Some(sa.link.path.remote.ip()),
            Self::Retiring(sa) if sa.is_refused() => Some(sa.link.path.remote.ip()),
            _ => None,
        }
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> IkeSaSnapshot {
        match self {
            Self::InitSent(sa) => sa.snapshot(now),
            Self::AuthSent(sa) => sa.snapshot(now),
            Self::HalfOpen(sa) => sa.snapshot(now),
            Self::Established(sa) => sa.snapshot(now),
            Self::Retiring(sa) => sa.snapshot(),
        }
    }

    /// Whether nothing is left of the SA but a stored response.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self, Self::Retiring(sa) if sa.is_lingering())
    }
}
