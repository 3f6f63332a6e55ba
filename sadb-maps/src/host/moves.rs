//! Peers that a NAT moves to another address or port (RFC 7296 section 2.23).

use super::diagnostic::Diagnostic as D;
use super::error::SadbError;
use super::maps::Wiped;
use super::pfkey::kind;
use super::sadb::Sadb;
use super::spec::SaKey;
use crate::Addr;
use crate::sa::flag;
use std::net::SocketAddr;

impl Sadb {
    /// Has these SAs, all of them in UDP, go by the address and port that their peer has now. They keep their names, keys
    /// and counters, and so their bindings: policy goes on to know the peer by the address it had before. Programs at work
    /// meanwhile may send a packet to the new address and the old port.
    ///
    /// # Errors
    /// [`SadbError::NotFound`]; [`D::BadFlags`] for an SA that is not in UDP or serves both directions;
    /// [`D::FamilyMismatch`]; [`D::MalformedSa`] for port 0. Then nothing has been changed.
    pub fn move_peer(&mut self, keys: &[SaKey], peer: SocketAddr) -> Result<(), SadbError> {
        if peer.port() == 0 {
            return Err(SadbError::explained(D::MalformedSa, "UDP encapsulation needs both ports"));
        }
        self.locked(|sadb, held| {
            let mut moving = vec![];
            for key in keys {
                let (known, _) = sadb.living(key)?;
                if known.flags & flag::UDP_ENCAP == 0 || known.flags & flag::BOTH == flag::BOTH {
                    return Err(SadbError::explained(D::BadFlags, "only a peer of SAs in UDP moves"));
                }
                if known.dst.is_v4() != peer.is_ipv4() {
                    return Err(SadbError::diagnostic(D::FamilyMismatch));
                }
                moving.push(known);
            }
            sadb.begin(held)?;
            let now = Addr::from(peer.ip());
            for known in moving {
                let mut record = Wiped::new(sadb.maps.statics.get(known.slot.slot)?);
                let outbound = known.flags & flag::OUTBOUND != 0;
                let [sport, dport] = &mut record.encap_ports;
                *(if outbound { dport } else { sport }) = peer.port();
                let name = if outbound { known.dst } else { known.src };
                record.peer = if now == name { Addr::UNSPECIFIED } else { now };
                sadb.rewrite(&known, &record)?;
                sadb.tell(held, kind::UPDATE, &known)?;
            }
            Ok(())
        })
    }
}
