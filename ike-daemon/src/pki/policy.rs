//! What validation is asked to overlook or to insist on: the attributes of a KMF policy (kmfcfg(1)) that in.ikev2d obeys.

use std::time::Duration;

use super::name::DnPattern;

/// A validation policy. The default overlooks nothing and asks for nothing special.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ValidationPolicy {
    /// `ignore-date`: certificates are valid before and after their time.
    pub ignore_date: bool,
    /// `validity-adjusttime`: so much earlier and later they are valid as well.
    pub adjust: Duration,
    /// `ignore-unknown-eku`: any extended key usage will do.
    pub ignore_unknown_eku: bool,
    /// `ignore-trust-anchor`: a path may end at any CA certificate of the key store, not only at a self-signed one.
    pub ignore_trust_anchor: bool,
    /// `ta-name` and `ta-serial`: the only CA certificate at which a path may end.
    pub trust_anchor: Option<(DnPattern, Vec<u8>)>,
    /// `crl-ignore-crl-sign`: the signature of a CRL is not verified.
    pub crl_ignore_sign: bool,
    /// `crl-ignore-crl-date`: a CRL holds after its time.
    pub crl_ignore_date: bool,
}
