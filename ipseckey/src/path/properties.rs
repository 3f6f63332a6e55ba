//! Properties of a tunnel as `espadm tunnel create -a` takes them.

use sadb_maps::host::tunnels::{DfOption, OuterOptions};
use std::net::IpAddr;

/// The ends of a tunnel, and what its outer headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Outer address of this end.
    pub local: IpAddr,
    /// Outer address of the other end.
    pub remote: IpAddr,
    /// Outer headers.
    pub outer: OuterOptions,
}

/// Reads `KEY=VALUE` pairs that commas separate: `local`, `remote`, `dscp`, `df`, `ttl`, `ecn`.
///
/// # Errors
/// One phrase for the user: an unknown or doubled key, a value out of range, a missing end.
pub fn parse(text: &str) -> Result<Properties, String> {
    let (mut local, mut remote, mut outer) = (None, None, OuterOptions::default());
    let mut seen = Vec::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("'{part}' is not KEY=VALUE"))?;
        if seen.contains(&key) {
            return Err(format!("'{key}' is given twice"));
        }
        seen.push(key);
        let address = || value.parse::<IpAddr>().map_err(|_| format!("'{value}' is no address"));
        match key {
            "local" => local = Some(address()?),
            "remote" => remote = Some(address()?),
            "dscp" => outer.dscp = if value == "copy" { None } else { Some(number(key, value, 0, 63)?) },
            "ttl" => outer.ttl = Some(number(key, value, 1, 255)?),
            "df" => {
                outer.df = match value {
                    "clear" => DfOption::Clear,
                    "copy" => DfOption::Copy,
                    "set" => DfOption::Set,
                    _ => return Err(format!("'{value}' is none of clear, copy and set")),
                }
            }
            "ecn" => {
                outer.ecn_compatible = match value {
                    "normal" => false,
                    "compatible" => true,
                    _ => return Err(format!("'{value}' is neither normal nor compatible")),
                }
            }
            other => return Err(format!("'{other}' is none of local, remote, dscp, df, ttl and ecn")),
        }
    }
    match (local, remote) {
        (Some(local), Some(remote)) => Ok(Properties { local, remote, outer }),
        _ => Err("both local=ADDRESS and remote=ADDRESS are needed".to_owned()),
    }
}

fn number(key: &str, value: &str, low: u8, high: u8) -> Result<u8, String> {
    let found = value.parse::<u8>().ok().filter(|n| (low..=high).contains(n));
    found.ok_or_else(|| format!("{key} '{value}' is no number from {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_read_and_checked() {
        let plain = parse("local=192.0.2.1,remote=198.51.100.7").unwrap();
        assert!(plain.outer.is_default());
        let all = parse("remote=2001:db8::2,ttl=9,df=copy,ecn=compatible,dscp=46,local=2001:db8::1").unwrap();
        let outer = OuterOptions { dscp: Some(46), df: DfOption::Copy, ttl: Some(9), ecn_compatible: true };
        assert_eq!(all.outer, outer);
        assert_eq!(parse("local=192.0.2.1,remote=198.51.100.7,dscp=copy,df=clear,ecn=normal").unwrap(), plain);
        for (bad, why) in [
            ("local=192.0.2.1", "both local=ADDRESS and remote=ADDRESS are needed"),
            ("local=192.0.2.1,local=192.0.2.1", "'local' is given twice"),
            ("local", "'local' is not KEY=VALUE"),
            ("local=here", "'here' is no address"),
            ("dscp=64", "dscp '64' is no number from 0 to 63"),
            ("ttl=0", "ttl '0' is no number from 1 to 255"),
            ("df=yes", "'yes' is none of clear, copy and set"),
            ("ecn=on", "'on' is neither normal nor compatible"),
            ("mtu=9", "'mtu' is none of local, remote, dscp, df, ttl and ecn"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), why);
        }
    }
}
