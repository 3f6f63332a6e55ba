//! The IKEv2 codec (ROB-01, ROB-04): any octets are decoded or refused, and what was decoded survives being written.

use ike_daemon::wire::chain::{Body, ChainBuilder, Outer, PayloadType, RawPayload, parse_inner, parse_message};
use ike_daemon::wire::header::{self, Header};
use ike_daemon::wire::payloads::Payloads;
use ike_daemon::wire::sa::Transform;

/// A datagram; its length field is put right, so that the rest is reached.
pub(crate) fn run(octets: &[u8]) {
    let _ = Header::parse(octets);
    let mut datagram = octets.to_vec();
    let len = (datagram.len() as u32).to_be_bytes();
    if let Some(field) = datagram.get_mut(24..28) {
        field.copy_from_slice(&len);
    }
    let Ok(received) = Header::parse(&datagram) else { return };
    let again = received.header.emit(received.first_payload, datagram.len()).expect("a header that was read");
    let reread = Header::parse(&[&again[..], &datagram[header::LEN..]].concat()).expect("a header that was written");
    assert_eq!((reread.header, reread.first_payload), (received.header, received.first_payload));

    let Ok(Outer { clear, sealed }) = parse_message(&datagram, &received) else { return };
    payloads(&clear, &received.header);
    if let Some(sealed) = sealed {
        assert_eq!(sealed.associated.len() + sealed.body.len(), datagram.len());
        // As if its protection had been taken off.
        if let Ok(inner) = parse_inner(sealed.body, sealed.first_inner) {
            payloads(&inner, &received.header);
        }
    }
}

fn payloads(chain: &[RawPayload<'_>], header: &Header) {
    let Ok(mut all) = Payloads::decode(chain) else { return };
    // What was recognised as of no use is not written again.
    for proposal in all.sa.iter_mut().flat_map(|sa| &mut sa.proposals) {
        proposal.transforms.retain(|t| !matches!(t, Transform::Unusable(_) | Transform::UnknownType(_)));
    }
    for ts in [&mut all.ts_initiator, &mut all.ts_responder] {
        if ts.as_ref().is_some_and(|ts| ts.selectors.is_empty()) {
            *ts = None;
        }
    }
    let mut builder = ChainBuilder::new();
    push(&mut builder, PayloadType::SA, all.sa.as_ref());
    push(&mut builder, PayloadType::KE, all.ke.as_ref());
    push(&mut builder, PayloadType::NONCE, all.nonce.as_ref());
    push(&mut builder, PayloadType::ID_I, all.id_initiator.as_ref());
    push(&mut builder, PayloadType::ID_R, all.id_responder.as_ref());
    push(&mut builder, PayloadType::AUTH, all.auth.as_ref());
    all.certificates.iter().for_each(|cert| push(&mut builder, PayloadType::CERT, Some(cert)));
    all.certificate_requests.iter().for_each(|request| push(&mut builder, PayloadType::CERTREQ, Some(request)));
    push(&mut builder, PayloadType::TS_I, all.ts_initiator.as_ref());
    push(&mut builder, PayloadType::TS_R, all.ts_responder.as_ref());
    all.notifies.iter().for_each(|notify| push(&mut builder, PayloadType::NOTIFY, Some(notify)));
    all.deletes.iter().for_each(|delete| push(&mut builder, PayloadType::DELETE, Some(delete)));
    let message = builder.into_message(header).expect("what came in one message fits one");
    let received = Header::parse(&message).expect("a header that was written");
    let outer = parse_message(&message, &received).expect("a chain that was written");
    assert_eq!(Payloads::decode(&outer.clear).as_ref(), Ok(&all));
}

fn push(builder: &mut ChainBuilder, kind: PayloadType, body: Option<&impl Body>) {
    if let Some(body) = body {
        builder.push(kind, body).expect("a payload that was read");
    }
}
