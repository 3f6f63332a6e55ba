//! All payloads of a message, decoded: what must occur at most once is a field, what may repeat is a list (ROB-04).

use super::WireError;
use super::auth::Authentication;
use super::cert::{CertPayload, CertRequest};
use super::chain::{PayloadType, RawPayload};
use super::delete::Delete;
use super::id::IdPayload;
use super::ke::KeyExchange;
use super::nonce::Nonce;
use super::notify::{Notify, NotifyType};
use super::sa::SecurityAssociation;
use super::ts::TsPayload;

/// Decoded payloads. Vendor IDs, configuration and EAP are known and skipped: nothing here asks for them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Payloads {
    /// SA.
    pub sa: Option<SecurityAssociation>,
    /// KE.
    pub ke: Option<KeyExchange>,
    /// Nonce.
    pub nonce: Option<Nonce>,
    /// IDi.
    pub id_initiator: Option<IdPayload>,
    /// IDr.
    pub id_responder: Option<IdPayload>,
    /// AUTH.
    pub auth: Option<Authentication>,
    /// Certificates, in order: the first has the key that signs AUTH.
    pub certificates: Vec<CertPayload>,
    /// Requests for certificates.
    pub certificate_requests: Vec<CertRequest>,
    /// TSi.
    pub ts_initiator: Option<TsPayload>,
    /// TSr.
    pub ts_responder: Option<TsPayload>,
    /// Notifications, in order.
    pub notifies: Vec<Notify>,
    /// Deletes, in order.
    pub deletes: Vec<Delete>,
}

impl Payloads {
    /// Decodes a chain. Unknown payloads without the critical bit are skipped (V2-HDR-15).
    ///
    /// # Errors
    /// [`WireError::Critical`] for an unknown payload with the critical bit, before anything else is looked at (V2-HDR-16);
    /// otherwise what is wrong with the first payload that is.
    pub fn decode(chain: &[RawPayload<'_>]) -> Result<Self, WireError> {
        if let Some(unknown) = chain.iter().find(|p| p.critical && !p.kind.is_known()) {
            return Err(WireError::Critical(unknown.kind.0));
        }
        let mut all = Self::default();
        for RawPayload { kind, body, .. } in chain {
            match *kind {
                PayloadType::SA => once(&mut all.sa, SecurityAssociation::parse(body)?, "SA payload")?,
                PayloadType::KE => once(&mut all.ke, KeyExchange::parse(body)?, "KE payload")?,
                PayloadType::NONCE => once(&mut all.nonce, Nonce::new(body.to_vec())?, "Nonce payload")?,
                PayloadType::ID_I => once(&mut all.id_initiator, IdPayload::parse(body)?, "IDi payload")?,
                PayloadType::ID_R => once(&mut all.id_responder, IdPayload::parse(body)?, "IDr payload")?,
                PayloadType::AUTH => once(&mut all.auth, Authentication::parse(body)?, "AUTH payload")?,
                PayloadType::TS_I => once(&mut all.ts_initiator, TsPayload::parse(body)?, "TSi payload")?,
                PayloadType::TS_R => once(&mut all.ts_responder, TsPayload::parse(body)?, "TSr payload")?,
                PayloadType::CERT => all.certificates.push(CertPayload::parse(body)?),
                PayloadType::CERTREQ => all.certificate_requests.push(CertRequest::parse(body)?),
                PayloadType::NOTIFY => all.notifies.push(Notify::parse(body)?),
                PayloadType::DELETE => all.deletes.push(Delete::parse(body)?),
                _ => {}
            }
        }
        Ok(all)
    }

    /// The first notification of a type.
    pub fn notify(&self, kind: NotifyType) -> Option<&Notify> {
        self.notifies.iter().find(|n| n.kind == kind)
    }

    /// The first error notification.
    pub fn error(&self) -> Option<&Notify> {
        self.notifies.iter().find(|n| n.kind.is_error())
    }
}

fn once<T>(slot: &mut Option<T>, value: T, what: &'static str) -> Result<(), WireError> {
    if slot.replace(value).is_some() { Err(WireError::Duplicate(what)) } else { Ok(()) }
}
