//! Cookies of the responder (RFC 7296 section 2.6): proof that the initiator receives at its address, without state.

use subtle::ConstantTimeEq;

use super::api::{EndpointConfig, EntropyError, Path, RandomSource, Timestamp};
use crate::crypto::{Prf, Provider, Secret, Standard};
use crate::wire::nonce::Nonce;
use crate::wire::transform::PrfId;

/// The secret and the one before it.
#[derive(Default)]
pub(super) struct CookieJar {
    current: Option<Baked>,
    previous: Option<Baked>,
}

struct Baked {
    secret: Secret,
    since: Timestamp,
}

impl CookieJar {
    fn prf() -> Option<&'static dyn Prf> {
        Standard.prf(PrfId::HMAC_SHA2_256)
    }

    /// The cookie for a request: it binds nonce, addresses, port and SPI (V2-CKY-05).
    pub(super) fn cookie(
        &mut self,
        now: Timestamp,
        config: &EndpointConfig,
        random: &mut dyn RandomSource,
        request: (&Path, [u8; 8], &Nonce),
    ) -> Result<Vec<u8>, EntropyError> {
        self.rotate(now, config);
        if self.current.is_none() {
            let mut secret = vec![0; 32];
            random.fill(&mut secret)?;
            self.current = Some(Baked { secret: Secret::new(secret), since: now });
        }
        let baked = self.current.as_ref().ok_or(EntropyError)?;
        baked.cookie(request).ok_or(EntropyError)
    }

    /// Whether we baked this cookie for this request, not long ago.
    pub(super) fn verify(
        &mut self,
        now: Timestamp,
        config: &EndpointConfig,
        request: (&Path, [u8; 8], &Nonce),
        cookie: &[u8],
    ) -> bool {
        self.rotate(now, config);
        let baked = [&self.current, &self.previous].into_iter().flatten();
        baked.filter_map(|b| b.cookie(request)).any(|good| bool::from(good.ct_eq(cookie)))
    }

    fn rotate(&mut self, now: Timestamp, config: &EndpointConfig) {
        let old = |baked: &Baked, lives: u32| now.since(baked.since) >= config.cookie_lifetime.saturating_mul(lives);
        if self.current.as_ref().is_some_and(|b| old(b, 1)) {
            self.previous = self.current.take();
        }
        if self.previous.as_ref().is_some_and(|b| old(b, 2)) {
            self.previous = None;
        }
    }
}

impl Baked {
    fn cookie(&self, (path, spi, nonce): (&Path, [u8; 8], &Nonce)) -> Option<Vec<u8>> {
        let ends = path.to_string();
        let tag = CookieJar::prf()?.compute(self.secret.expose(), &[&spi, nonce.octets(), ends.as_bytes()]);
        Some(tag.expose().to_vec())
    }
}
