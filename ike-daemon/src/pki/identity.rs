//! Which identities of IKE a certificate speaks for (RFC 4945 section 3.1).

use der::Encode;
use x509_cert::ext::pkix::name::GeneralName;

use super::certificate::Certificate;
use super::name::DistinguishedName;
use crate::wire::id::{IdType, Identification};

/// Names of a certificate that a log line lists.
const MAX_LISTED: usize = 8;

/// Whether the holder of the certificate may call itself `id` (V2-AUTH-08, CRT-01): an address, domain name or mail address
/// of subjectAltName, the whole subject, or a general name octet by octet. There are no wildcards in certificates, and the
/// common name is no domain name. A KEY_ID is covered by no certificate.
pub fn covers(certificate: &Certificate, id: &Identification) -> bool {
    match id.id_type() {
        IdType::IPV4_ADDR | IdType::IPV6_ADDR => certificate
            .names()
            .iter()
            .any(|name| matches!(name, GeneralName::IpAddress(octets) if octets.as_bytes() == id.data())),
        IdType::FQDN => id.as_text().is_some_and(|wanted| {
            certificate.names().iter().any(
                |name| matches!(name, GeneralName::DnsName(dns) if !wanted.contains('*') && dns.as_str().eq_ignore_ascii_case(wanted)),
            )
        }),
        IdType::RFC822_ADDR => id.as_text().is_some_and(|wanted| {
            certificate
                .names()
                .iter()
                .any(|name| matches!(name, GeneralName::Rfc822Name(mail) if same_mailbox(mail.as_str(), wanted)))
        }),
        IdType::DER_ASN1_DN => DistinguishedName::from_der(id.data())
            .is_ok_and(|name| !name.is_empty() && name == *certificate.subject()),
        IdType::DER_ASN1_GN => {
            certificate.names().iter().any(|name| name.to_der().is_ok_and(|octets| octets == id.data()))
        }
        _ => false,
    }
}

/// The identities of a certificate, for the log.
pub fn describe_names(certificate: &Certificate) -> String {
    let mut names = vec![certificate.subject().to_string()];
    for name in certificate.names().iter().take(MAX_LISTED) {
        let id = match name {
            GeneralName::DnsName(name) => Identification::new(IdType::FQDN, name.as_bytes().to_vec()),
            GeneralName::Rfc822Name(name) => Identification::new(IdType::RFC822_ADDR, name.as_bytes().to_vec()),
            GeneralName::IpAddress(octets) if octets.as_bytes().len() == 4 => {
                Identification::new(IdType::IPV4_ADDR, octets.as_bytes().to_vec())
            }
            GeneralName::IpAddress(octets) => Identification::new(IdType::IPV6_ADDR, octets.as_bytes().to_vec()),
            _ => continue,
        };
        names.extend(id.ok().map(|id| id.to_string()));
    }
    names.join(", ")
}

/// The part in front of `@` with case, the domain without.
fn same_mailbox(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((user, host)), Some((their_user, their_host))) => {
            user == their_user && host.eq_ignore_ascii_case(their_host)
        }
        _ => false,
    }
}
