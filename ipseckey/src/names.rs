//! Names and numbers: hosts, networks, services, protocols and ICMP types, through the system's databases.
//!
//! Everything that parses or prints goes through [`Names`], so that tests bring their own databases.

use std::ffi::{CStr, CString, c_char, c_int};
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};

/// The databases that the parsers and the listings consult.
pub trait Names {
    /// Addresses of a host name, in the resolver's order without repetition; empty when it has none.
    fn hosts(&self, name: &str) -> Vec<IpAddr>;
    /// Prefix of a network name (IPv4 only, as networks(5) is).
    fn network(&self, name: &str) -> Option<(Ipv4Addr, u8)>;
    /// Port of a service for an upper-layer protocol; 0 asks for any protocol.
    fn service(&self, name: &str, proto: u8) -> Option<u16>;
    /// Number of an upper-layer protocol.
    fn protocol(&self, name: &str) -> Option<u8>;
    /// Name of an address, the host's own domain left out.
    fn host_name(&self, addr: IpAddr) -> Option<String>;
    /// Name of a port.
    fn service_name(&self, port: u16, proto: u8) -> Option<String>;
    /// Name of an upper-layer protocol.
    fn protocol_name(&self, proto: u8) -> Option<String>;
}

/// Protocols that are known even where the system has no protocols(5).
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("sctp", 132),
    ("udplite", 136),
];

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// ICMP type names of ipsecinit.conf (spec section 4.3).
const ICMP_TYPES: &[(&str, u8, u8)] = &[
    ("unreach", ICMP, 3),
    ("echo", ICMP, 8),
    ("echorep", ICMP, 0),
    ("squench", ICMP, 4),
    ("redir", ICMP, 5),
    ("timex", ICMP, 11),
    ("paramprob", ICMP, 12),
    ("timest", ICMP, 13),
    ("timestrep", ICMP, 14),
    ("inforeq", ICMP, 15),
    ("inforep", ICMP, 16),
    ("maskreq", ICMP, 17),
    ("maskrep", ICMP, 18),
    ("unreach6", ICMPV6, 1),
    ("pkttoobig6", ICMPV6, 2),
    ("timex6", ICMPV6, 3),
    ("paramprob6", ICMPV6, 4),
    ("echo6", ICMPV6, 128),
    ("echorep6", ICMPV6, 129),
    ("router-sol6", ICMPV6, 133),
    ("router-ad6", ICMPV6, 134),
    ("neigh-sol6", ICMPV6, 135),
    ("neigh-ad6", ICMPV6, 136),
    ("redir6", ICMPV6, 137),
];

/// ICMP code names of ipsecinit.conf (spec section 4.3).
const ICMP_CODES: &[(&str, u8, u8)] = &[
    ("net-unr", ICMP, 0),
    ("host-unr", ICMP, 1),
    ("proto-unr", ICMP, 2),
    ("port-unr", ICMP, 3),
    ("needfrag", ICMP, 4),
    ("srcfail", ICMP, 5),
    ("net-unk", ICMP, 6),
    ("host-unk", ICMP, 7),
    ("isolate", ICMP, 8),
    ("net-prohib", ICMP, 9),
    ("host-prohib", ICMP, 10),
    ("net-tos", ICMP, 11),
    ("host-tos", ICMP, 12),
    ("filter-prohib", ICMP, 13),
    ("host-preced", ICMP, 14),
    ("cutoff-preced", ICMP, 15),
    ("no-route6", ICMPV6, 0),
    ("adm-prohib6", ICMPV6, 1),
    ("addr-unr6", ICMPV6, 3),
    ("port-unr6", ICMPV6, 4),
    ("hop-limex6", ICMPV6, 0),
    ("frag-re-timex6", ICMPV6, 1),
    ("err-head6", ICMPV6, 0),
    ("unrec-head6", ICMPV6, 1),
    ("unreq-opt6", ICMPV6, 2),
];

/// Number of an ICMP type name; `proto` is [`ICMP`] or [`ICMPV6`].
pub fn icmp_type(name: &str, proto: u8) -> Option<u8> {
    ICMP_TYPES.iter().find(|(n, p, _)| *n == name && *p == proto).map(|(_, _, v)| *v)
}

/// Number of an ICMP code name; `proto` is [`ICMP`] or [`ICMPV6`].
pub fn icmp_code(name: &str, proto: u8) -> Option<u8> {
    ICMP_CODES.iter().find(|(n, p, _)| *n == name && *p == proto).map(|(_, _, v)| *v)
}

/// Something that a resolver may be asked for; keeps half-typed addresses and numbers from going to a name server.
pub fn is_host_name(text: &str) -> bool {
    let labels_fine = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    labels_fine && text.chars().any(|c| c.is_ascii_alphabetic()) && !text.starts_with("0x")
}

/// The C library's databases, with built-in protocol numbers where protocols(5) is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

/// The lookup functions of the C library return static storage.
static DATABASES: Mutex<()> = Mutex::new(());

/// `struct netent` of netdb.h, which the libc crate does not declare.
#[repr(C)]
struct NetEntry {
    name: *mut c_char,
    aliases: *mut *mut c_char,
    address_type: c_int,
    net: u32,
}

unsafe extern "C" {
    fn getnetbyname(name: *const c_char) -> *mut NetEntry;
}

/// C string of the name of a transport protocol for the services database.
fn transport_name(proto: u8) -> Option<&'static CStr> {
    Some(match proto {
        6 => c"tcp",
        17 => c"udp",
        33 => c"dccp",
        132 => c"sctp",
        _ => return None,
    })
}

impl Names for SystemNames {
    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for address in (name, 0).to_socket_addrs().into_iter().flatten() {
            if !found.contains(&address.ip()) {
                found.push(address.ip());
            }
        }
        found
    }

    fn network(&self, name: &str) -> Option<(Ipv4Addr, u8)> {
        let name = CString::new(name).ok()?;
        let _lock = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `name` is a C string; the returned storage is read while the lock keeps other callers out.
        let (kind, net) = unsafe {
            let entry = getnetbyname(name.as_ptr()).as_ref()?;
            (entry.address_type, entry.net)
        };
        if kind != libc::AF_INET || net == 0 {
            return None;
        }
        // Trailing zero octets are left out of the number: shift them back, then the octets in use are the prefix.
        let shift = (net.leading_zeros() / 8) * 8;
        let net = net.checked_shl(shift)?;
        let octets = 4 - net.trailing_zeros() / 8;
        Some((Ipv4Addr::from(net), (octets * 8) as u8))
    }

    fn service(&self, name: &str, proto: u8) -> Option<u16> {
        let name = CString::new(name).ok()?;
        let proto = transport_name(proto).map_or(std::ptr::null(), CStr::as_ptr);
        let _lock = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: both arguments are C strings or null; the storage is read under the lock.
        let port = unsafe { libc::getservbyname(name.as_ptr(), proto).as_ref()?.s_port };
        Some(u16::from_be(port as u16))
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        if let Some((_, number)) = PROTOCOLS.iter().find(|(n, _)| *n == name) {
            return Some(*number);
        }
        let name = CString::new(name).ok()?;
        let _lock = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `name` is a C string; the storage is read under the lock.
        let number = unsafe { libc::getprotobyname(name.as_ptr()).as_ref()?.p_proto };
        u8::try_from(number).ok()
    }

    fn host_name(&self, addr: IpAddr) -> Option<String> {
        let name = reverse_lookup(addr)?;
        let own = own_domain();
        match own.as_deref().and_then(|domain| name.strip_suffix(domain)).and_then(|n| n.strip_suffix('.')) {
            Some(short) if !short.is_empty() => Some(short.to_owned()),
            _ => Some(name),
        }
    }

    fn service_name(&self, port: u16, proto: u8) -> Option<String> {
        let proto = transport_name(proto).map_or(std::ptr::null(), CStr::as_ptr);
        let _lock = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `proto` is a C string or null; the name is copied out under the lock.
        unsafe {
            let entry = libc::getservbyport(c_int::from(port.to_be()), proto).as_ref()?;
            Some(CStr::from_ptr(entry.s_name).to_string_lossy().into_owned())
        }
    }

    fn protocol_name(&self, proto: u8) -> Option<String> {
        if let Some((name, _)) = PROTOCOLS.iter().find(|(_, number)| *number == proto) {
            return Some((*name).to_owned());
        }
        let _lock = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the name is copied out under the lock.
        unsafe {
            let entry = libc::getprotobynumber(c_int::from(proto)).as_ref()?;
            Some(CStr::from_ptr(entry.p_name).to_string_lossy().into_owned())
        }
    }
}

/// Name of an address by getnameinfo(3); `None` when it has none.
fn reverse_lookup(addr: IpAddr) -> Option<String> {
    let mut name = [0u8; 1025];
    let capacity = name.len() as libc::socklen_t;
    let status = match addr {
        IpAddr::V4(v4) => {
            // SAFETY: all zero is a valid sockaddr_in.
            let mut sa: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            sa.sin_family = libc::AF_INET as libc::sa_family_t;
            sa.sin_addr.s_addr = u32::from_ne_bytes(v4.octets());
            // SAFETY: the address and the buffer are valid for the lengths that are given.
            unsafe { name_of((&raw const sa).cast(), size_of_val(&sa), &mut name, capacity) }
        }
        IpAddr::V6(v6) => {
            // SAFETY: all zero is a valid sockaddr_in6.
            let mut sa: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            sa.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            sa.sin6_addr.s6_addr = v6.octets();
            // SAFETY: as above.
            unsafe { name_of((&raw const sa).cast(), size_of_val(&sa), &mut name, capacity) }
        }
    };
    if status != 0 {
        return None;
    }
    CStr::from_bytes_until_nul(&name).ok()?.to_str().ok().map(str::to_owned)
}

/// Calls getnameinfo(3) for a name only.
///
/// # Safety
/// `sa` points to a socket address of `len` octets; `name` has `capacity` octets.
unsafe fn name_of(sa: *const libc::sockaddr, len: usize, name: &mut [u8; 1025], capacity: libc::socklen_t) -> c_int {
    // SAFETY: the caller vouches for the pointers; no service name is asked for.
    unsafe {
        libc::getnameinfo(
            sa,
            len as libc::socklen_t,
            name.as_mut_ptr().cast(),
            capacity,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    }
}

/// Domain part of this host's own name, when its name has one.
fn own_domain() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    name.split_once('.').map(|(_, domain)| domain.to_owned())
}

#[cfg(test)]
pub(crate) mod fake {
    //! A fixed set of databases for tests.

    use super::*;

    /// Knows `one`, `many`, `mixed`, `six`, network `lab`, services `http`, `ssh`, and the built-in protocols.
    pub(crate) struct FakeNames;

    impl Names for FakeNames {
        fn hosts(&self, name: &str) -> Vec<IpAddr> {
            let list: &[&str] = match name {
                "one" => &["192.0.2.10"],
                "many" => &["192.0.2.20", "192.0.2.21"],
                "mixed" => &["192.0.2.30", "2001:db8::30"],
                "six" => &["2001:db8::6"],
                _ => &[],
            };
            list.iter().map(|a| a.parse().unwrap()).collect()
        }
        fn network(&self, name: &str) -> Option<(Ipv4Addr, u8)> {
            (name == "lab").then_some((Ipv4Addr::new(10, 9, 0, 0), 16))
        }
        fn service(&self, name: &str, _: u8) -> Option<u16> {
            match name {
                "http" => Some(80),
                "ssh" => Some(22),
                _ => None,
            }
        }
        fn protocol(&self, name: &str) -> Option<u8> {
            PROTOCOLS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
        }
        fn host_name(&self, addr: IpAddr) -> Option<String> {
            (addr.to_string() == "192.0.2.10").then(|| "one".to_owned())
        }
        fn service_name(&self, port: u16, _: u8) -> Option<String> {
            match port {
                80 => Some("http".to_owned()),
                22 => Some("ssh".to_owned()),
                _ => None,
            }
        }
        fn protocol_name(&self, proto: u8) -> Option<String> {
            PROTOCOLS.iter().find(|(_, v)| *v == proto).map(|(n, _)| (*n).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_itself() {
        let names = SystemNames;
        assert!(names.hosts("localhost").iter().all(IpAddr::is_loopback));
        assert_eq!(names.protocol("ipv6-icmp"), Some(ICMPV6));
        assert_eq!(names.protocol_name(6).as_deref(), Some("tcp"));
        assert_eq!(names.service("no such service", 0), None);
        assert_eq!(names.network("no such network"), None);
        assert_eq!(names.protocol("no such protocol"), None);
    }

    #[test]
    fn half_typed_addresses_are_no_names() {
        assert!(["host", "a-1.example", "x_y"].iter().all(|t| is_host_name(t)));
        assert!(["", "10.0.0.300", "1.2", "0xff", "a b", "2001:db8::g", "é"].iter().all(|t| !is_host_name(t)));
    }

    #[test]
    fn icmp_names_belong_to_one_family() {
        assert_eq!(icmp_type("echo", ICMP), Some(8));
        assert_eq!(icmp_type("echo", ICMPV6), None);
        assert_eq!(icmp_type("neigh-sol6", ICMPV6), Some(135));
        assert_eq!(icmp_code("needfrag", ICMP), Some(4));
        assert_eq!(icmp_code("unreq-opt6", ICMPV6), Some(2));
    }
}
