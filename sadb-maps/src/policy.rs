//! The SPD as the kernel sees it: two generations of ordered rules and one head that says which is in force.
//!
//! User space resolves the precedence of spec section 4.5 before it writes, so the first match wins. What a match is,
//! [`Rule::matches`] says; how the first one is found among many, [`spd`](crate::spd).

use crate::Addr;
use crate::sa::BindingKey;
use bytemuck::{Pod, Zeroable};

/// Alternatives (`or`) of one rule, as ipsecconf limits them.
pub const MAX_ACTIONS: usize = 20;

/// Bits of [`Rule::directions`].
pub mod direction {
    /// Inbound.
    pub const IN: u8 = 1;
    /// Outbound.
    pub const OUT: u8 = 2;
}

/// Values of [`Rule::verdict`].
pub mod verdict {
    /// Let the packet pass in clear (`pass`, `bypass`).
    pub const PASS: u8 = 0;
    /// Drop it.
    pub const DROP: u8 = 1;
    /// Protect it with one of the actions.
    pub const PROTECT: u8 = 2;
}

/// Bits of [`Rule::flags`].
pub mod rule_flag {
    /// The rule belongs to a tunnel and judges inner packets, forwarded ones too; otherwise it is a host rule and
    /// judges only packets that this host sends or receives itself.
    pub const TUNNEL: u8 = 1;
    /// One SA for each flow (`sa unique`), transport mode only.
    pub const UNIQUE: u8 = 2;
    /// `icmp_type` and `icmp_code` are to be compared.
    pub const ICMP: u8 = 4;
    /// IPv4 packets only. Without this and `V6` a prefix of length 0 is every address of both families.
    pub const V4: u8 = 8;
    /// IPv6 packets only.
    pub const V6: u8 = 16;
    /// Some action asks for AH.
    pub const AH: u8 = 1 << 5;
}

/// What a packet is matched by, from the view of this host: local is the source of an outbound packet and the
/// destination of an inbound one. Both addresses are of one family; ICMP has no ports, and others no type and code.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Selectors {
    /// Local address.
    pub laddr: Addr,
    /// Remote address.
    pub raddr: Addr,
    /// Local port; 0 where the protocol has none.
    pub lport: u16,
    /// Remote port.
    pub rport: u16,
    /// Upper-layer protocol.
    pub proto: u8,
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code.
    pub icmp_code: u8,
    /// Not zero when ports (or type and code) could not be read: a later fragment. See [`Rule::takes_opaque`].
    pub opaque: u8,
}

/// One acceptable protection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Action {
    /// ESP transform ([`crate::sa::encr`]); 0 when the action has no ESP.
    pub encr: u8,
    /// ESP authentication algorithm; 0 is none or that of the AEAD.
    pub esp_auth: u8,
    /// AH authentication algorithm; 0 when the action has no AH.
    pub ah: u8,
    /// Zero.
    pub reserved: u8,
    /// Least and greatest key bits of `encr`.
    pub encr_bits: [u16; 2],
    /// Least and greatest key bits of `esp_auth`.
    pub esp_auth_bits: [u16; 2],
    /// Least and greatest key bits of `ah`.
    pub ah_bits: [u16; 2],
}

/// Algorithms of an ESP SA; all zero stands for no ESP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EspAlgorithms {
    /// ESP transform.
    pub encr: u8,
    /// Its key bits.
    pub encr_bits: u16,
    /// Separate authenticator; 0 for none.
    pub auth: u8,
}

/// Algorithm of an AH SA; zero stands for no AH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AhAlgorithm(pub u8);

impl Action {
    /// Whether ESP with these algorithms, or none, is what this action asks for. Authenticators have keys of one length.
    #[inline(always)]
    fn wants_esp(&self, esp: &EspAlgorithms) -> bool {
        let [low, high] = self.encr_bits;
        self.encr == esp.encr && esp.encr_bits >= low && esp.encr_bits <= high && self.esp_auth == esp.auth
    }

    /// Whether AH with this algorithm, or none, is.
    #[inline(always)]
    fn wants_ah(&self, ah: &AhAlgorithm) -> bool {
        self.ah == ah.0
    }
}

/// One rule.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// Local prefix.
    pub laddr: Addr,
    /// Mask of the local prefix, ones before zeros; all zero matches every address of the families of the rule.
    pub lmask: Addr,
    /// Remote prefix.
    pub raddr: Addr,
    /// Mask of the remote prefix.
    pub rmask: Addr,
    /// Lowest and highest local port.
    pub lport: [u16; 2],
    /// Lowest and highest remote port.
    pub rport: [u16; 2],
    /// Upper-layer protocol; 0 is any.
    pub proto: u8,
    /// [`direction`] bits.
    pub directions: u8,
    /// [`verdict`] number.
    pub verdict: u8,
    /// [`rule_flag`] bits.
    pub flags: u8,
    /// Lowest and highest ICMP type, when [`rule_flag::ICMP`].
    pub icmp_type: [u8; 2],
    /// Lowest and highest ICMP code; 0 and 255 is any.
    pub icmp_code: [u8; 2],
    /// Priority as in spec section 4.5; rules lie in descending order. For display.
    pub priority: u32,
    /// Index of the file entry the rule was made from. For display.
    pub index: u32,
    /// Stable id: hash of selectors, tunnel and actions; survives a reload. Never 0 for a protecting rule.
    pub action_id: u64,
    /// Number of entries of `actions` in use.
    pub action_count: u32,
    /// Not zero for tunnel mode: SAs carry whole packets between `tunnel_local` and `tunnel_remote`.
    pub tunnel_mode: u32,
    /// This end of the tunnel; unspecified when the tunnel has no ends yet.
    pub tunnel_local: Addr,
    /// The other end.
    pub tunnel_remote: Addr,
    /// [`scope`](crate::spd::scope) of the tunnel in this generation; 0 for a host rule and a tunnel without ends.
    /// Written by [`Spd::replace`](../host/spd/struct.Spd.html).
    pub scope: u32,
    /// Zero.
    pub reserved: u32,
    /// Acceptable protections, best first.
    pub actions: [Action; MAX_ACTIONS],
}

/// A generation of the SPD. The one in force is that whose number is in `SPD_HEAD`, a single word, so that a packet sees
/// the old one or the new one and nothing in between.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PolicyHead {
    /// Its number; 0 is the empty SPD of a new instance.
    pub generation: u32,
    /// Number of its rules.
    pub count: u32,
    /// Number of tunnel rules among them, which come first.
    pub tunnel_count: u32,
    /// Zero.
    pub reserved: u32,
}

impl Rule {
    /// Whether the packet fits the selectors of this rule in `direction`. The verdict is the caller's affair.
    #[inline(always)]
    pub fn matches(&self, packet: &Selectors, direction: u8) -> bool {
        if self.directions & direction == 0 {
            return false;
        }
        let other_family = if packet.laddr.is_v4() { rule_flag::V6 } else { rule_flag::V4 };
        if self.flags & other_family != 0 {
            return false;
        }
        if !packet.raddr.in_prefix(&self.raddr, &self.rmask) || !packet.laddr.in_prefix(&self.laddr, &self.lmask) {
            return false;
        }
        if self.proto != 0 && self.proto != packet.proto {
            return false;
        }
        if packet.opaque != 0 {
            return self.takes_opaque();
        }
        let [ll, lh] = self.lport;
        let [rl, rh] = self.rport;
        if packet.lport < ll || packet.lport > lh || packet.rport < rl || packet.rport > rh {
            return false;
        }
        if self.flags & rule_flag::ICMP != 0 {
            let [tl, th] = self.icmp_type;
            let [cl, ch] = self.icmp_code;
            return packet.icmp_type >= tl
                && packet.icmp_type <= th
                && packet.icmp_code >= cl
                && packet.icmp_code <= ch;
        }
        true
    }

    /// Whether the rule judges packets whose ports cannot be read. One that lets packets pass does so for every port
    /// only; others count as if every port fitted: in doubt a packet is protected or dropped (ARC-FRG-04, ARC-SPD-08).
    #[inline(always)]
    pub const fn takes_opaque(&self) -> bool {
        let [ll, lh] = self.lport;
        let [rl, rh] = self.rport;
        let any = ll == 0 && lh == u16::MAX && rl == 0 && rh == u16::MAX && self.flags & rule_flag::ICMP == 0;
        self.verdict != verdict::PASS || any
    }

    /// Whether SAs with these algorithms, and no others, are what some action asks for (RFC 4301 section 5.2, spec section
    /// 4.5: an unexpected AH or ESP fails as a missing one does).
    #[inline(always)]
    pub fn accepts(&self, esp: &EspAlgorithms, ah: &AhAlgorithm) -> bool {
        let mut i = 0;
        while i < MAX_ACTIONS {
            if i as u32 >= self.action_count {
                break;
            }
            let Some(action) = self.actions.get(i) else { break };
            if action.wants_esp(esp) && action.wants_ah(ah) {
                return true;
            }
            i += 1;
        }
        false
    }

    /// Whether an ESP SA with these algorithms is part of what some action asks for.
    pub fn accepts_esp(&self, esp: &EspAlgorithms) -> bool {
        self.alternatives().any(|action| action.encr != 0 && action.wants_esp(esp))
    }

    /// Whether an AH SA with this algorithm is part of what some action asks for.
    pub fn accepts_ah(&self, ah: &AhAlgorithm) -> bool {
        self.alternatives().any(|action| action.ah != 0 && action.wants_ah(ah))
    }

    fn alternatives(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter().take(self.action_count as usize)
    }

    /// Key of the binding under which a packet of this rule finds its SAs.
    #[inline(always)]
    pub fn binding(&self, packet: &Selectors) -> BindingKey {
        let mut key = BindingKey { action: self.action_id, ..BindingKey::default() };
        if self.tunnel_mode != 0 {
            key.src = self.tunnel_local;
            key.dst = self.tunnel_remote;
            return key;
        }
        key.src = packet.laddr;
        key.dst = packet.raddr;
        if self.flags & rule_flag::UNIQUE != 0 {
            key.sport = packet.lport;
            key.dport = packet.rport;
            key.proto = packet.proto;
        }
        key
    }
}

const _: () = assert!(size_of::<Selectors>() == 40);
const _: () = assert!(size_of::<Action>() == 16);
const _: () = assert!(size_of::<Rule>() == 464);
const _: () = assert!(size_of::<PolicyHead>() == 16);
