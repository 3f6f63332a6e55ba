//! Name constraints (RFC 5280 section 4.2.1.10) on directory names, domain names, mail addresses and IP addresses. A
//! constraint on a name of another type refuses every certificate below it (CRT-02).

use der::Encode;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

use super::certificate::Certificate;
use super::name::DistinguishedName;

/// Constraints that cost more comparisons than this refuse: names times subtrees.
const MAX_COMPARISONS: usize = 16_384;

/// A name of a certificate in a form that constraints speak about.
enum Named {
    Directory(DistinguishedName),
    Dns(String),
    Mail(String),
    Address(Vec<u8>),
    /// No constraint that is processed here speaks about it.
    Other,
}

/// Whether every name of `certificate` is where `constraints` want it.
pub(super) fn permits(constraints: &NameConstraints, certificate: &Certificate) -> bool {
    let names = names(certificate);
    let list = |subtrees: &Option<Vec<GeneralSubtree>>| subtrees.as_ref().map_or(0, Vec::len);
    let subtrees = list(&constraints.permitted_subtrees) + list(&constraints.excluded_subtrees);
    let Some(names) = names.filter(|names| names.len().saturating_mul(subtrees) <= MAX_COMPARISONS) else {
        return false;
    };
    let excluded = constraints.excluded_subtrees.iter().flatten();
    for subtree in excluded {
        let Some(base) = base(subtree) else { return false };
        if names.iter().any(|name| within(name, &base) == Some(true)) {
            return false;
        }
    }
    let Some(permitted) = &constraints.permitted_subtrees else { return true };
    let mut bases = Vec::new();
    for subtree in permitted {
        let Some(base) = base(subtree) else { return false };
        bases.push(base);
    }
    // A type that no subtree speaks about is free.
    names.iter().all(|name| {
        let mut spoken = bases.iter().filter_map(|base| within(name, base)).peekable();
        spoken.peek().is_none() || spoken.any(|inside| inside)
    })
}

fn names(certificate: &Certificate) -> Option<Vec<Named>> {
    let mut names = Vec::new();
    if !certificate.subject().is_empty() {
        names.push(Named::Directory(certificate.subject().clone()));
    }
    let mut has_mail = false;
    for name in certificate.names() {
        has_mail |= matches!(name, GeneralName::Rfc822Name(_));
        names.push(named(name)?);
    }
    // Only where no alternative name has one (RFC 5280 section 4.2.1.10).
    if !has_mail {
        names.extend(certificate.subject().emails().iter().cloned().map(Named::Mail));
    }
    Some(names)
}

fn named(name: &GeneralName) -> Option<Named> {
    Some(match name {
        GeneralName::DirectoryName(name) => Named::Directory(DistinguishedName::from_der(&name.to_der().ok()?).ok()?),
        GeneralName::DnsName(name) => Named::Dns(name.as_str().to_owned()),
        GeneralName::Rfc822Name(name) => Named::Mail(name.as_str().to_owned()),
        GeneralName::IpAddress(octets) => Named::Address(octets.as_bytes().to_vec()),
        _ => Named::Other,
    })
}

/// What a subtree is about; `None` for what is not processed.
fn base(subtree: &GeneralSubtree) -> Option<Named> {
    if subtree.minimum != 0 || subtree.maximum.is_some() {
        return None;
    }
    match named(&subtree.base)? {
        Named::Other => None,
        Named::Address(octets) if !matches!(octets.len(), 8 | 32) => None,
        known => Some(known),
    }
}

/// Whether a name is in a subtree; `None` where they are of different types.
fn within(name: &Named, base: &Named) -> Option<bool> {
    match (name, base) {
        (Named::Directory(name), Named::Directory(base)) => Some(name.is_within(base)),
        (Named::Dns(name), Named::Dns(base)) => Some(is_below(name, base)),
        (Named::Mail(name), Named::Mail(base)) => Some(mail_within(name, base)),
        (Named::Address(address), Named::Address(base)) => {
            let (net, mask) = base.split_at_checked(base.len() / 2)?;
            // The other family is another type of name.
            (net.len() == address.len())
                .then(|| address.iter().zip(net).zip(mask).all(|((address, net), mask)| address & mask == net & mask))
        }
        _ => None,
    }
}

/// Whether a domain name is `base` or below it.
fn is_below(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let base = base.strip_prefix('.').unwrap_or(&base);
    base.is_empty() || name == base || name.strip_suffix(base).is_some_and(|front| front.ends_with('.'))
}

/// A mailbox, a host, or with a dot in front everything below a domain.
fn mail_within(mail: &str, base: &str) -> bool {
    let Some((user, host)) = mail.rsplit_once('@') else { return false };
    match base.rsplit_once('@') {
        Some((base_user, base_host)) => user == base_user && host.eq_ignore_ascii_case(base_host),
        None if base.starts_with('.') => {
            host.len() > base.len() && host.to_ascii_lowercase().ends_with(&base.to_ascii_lowercase())
        }
        None => host.eq_ignore_ascii_case(base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crt_02_domains_and_mailboxes() {
        for (name, base, inside) in [
            ("gw.example.com", "example.com", true),
            ("EXAMPLE.com", "example.COM", true),
            ("badexample.com", "example.com", false),
            ("gw.example.com", ".example.com", true),
            ("example.org", "example.com", false),
            ("anything", "", true),
        ] {
            assert_eq!(is_below(name, base), inside, "{name} {base}");
        }
        for (mail, base, inside) in [
            ("a@example.com", "example.com", true),
            ("a@gw.example.com", "example.com", false),
            ("a@gw.example.com", ".example.com", true),
            ("a@example.com", ".example.com", false),
            ("a@example.com", "a@Example.com", true),
            ("A@example.com", "a@example.com", false),
            ("nobody", "example.com", false),
        ] {
            assert_eq!(mail_within(mail, base), inside, "{mail} {base}");
        }
    }
}
