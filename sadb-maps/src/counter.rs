//! The counters of the data path: one per outcome, one per reason to drop.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Index into the `COUNTERS` map.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            /// Every counter, in the order of the map.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that `espadm stats` prints: lower case, words joined by `-`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// Packets sealed and sent.
    SealedOk = "sealed",
    /// Packets opened and delivered.
    OpenedOk = "opened",
    /// Outbound packets that no rule protects, sent as they are.
    BypassedOut = "bypassed-out",
    /// Inbound clear packets that no rule protects, delivered as they are.
    BypassedIn = "bypassed-in",
    /// Packets of key management let through by socket or port.
    KeyManagement = "key-management",
    /// ACQUIRE events raised.
    Acquires = "acquires",
    /// EXPIRE events raised.
    Expires = "expires",
    /// Events lost because the ring was full.
    EventsLost = "events-lost",
    /// ICMP errors sent for packets over the inner MTU.
    TooBigAnswered = "too-big-answered",
    /// Dropped by a `drop` rule, outbound.
    DropPolicyOut = "drop-policy-out",
    /// Dropped by a `drop` rule, inbound.
    DropPolicyIn = "drop-policy-in",
    /// Inbound clear packet that the policy says must be protected.
    DropClearIn = "drop-clear-inbound",
    /// Outbound packet without an SA, and nobody to hold it until there is one.
    DropNoSaOut = "drop-no-sa-outbound",
    /// Inbound packet for this host whose SPI is unknown.
    DropNoSaIn = "drop-no-sa-inbound",
    /// The SA is larval.
    DropLarval = "drop-larval",
    /// The SA has reached a hard lifetime or is dead.
    DropExpired = "drop-expired",
    /// Sequence numbers or IVs of the SA are used up.
    DropSequenceEnd = "drop-sequence-exhausted",
    /// Inbound packet left of the replay window or seen before.
    DropReplay = "drop-replay",
    /// The integrity check value does not match.
    DropAuth = "drop-integrity",
    /// Sealed packet malformed, or what came out of it: too short, wrong padding, wrong length, unknown next header, or an
    /// upper-layer protocol that cannot be told (IPv6 with more than six extension headers).
    DropMalformed = "drop-malformed",
    /// Opened packet whose selectors do not fit the SA.
    DropSelector = "drop-selector-mismatch",
    /// Opened packet whose policy does not accept this SA.
    DropPolicyMismatch = "drop-policy-mismatch",
    /// Outbound packet over the inner MTU that could not be answered, or that nobody may be told about: an ICMP error, IPv4 to
    /// many hosts or a later fragment, a source that is no single host, IPv6 of 1280 octets or less.
    DropTooBig = "drop-too-big",
    /// Fragment of a sealed packet, and nobody to make it whole; or fragment on a transport-mode SA.
    DropFragment = "drop-fragment",
    /// Packet in clear whose headers could not be read, or do not tell its upper-layer protocol, while policy is in force.
    DropUnreadable = "drop-unreadable-header",
    /// Route of the sealed packet leads back into `ipsec0`.
    DropRouteLoop = "drop-route-loop",
    /// No route for the sealed packet.
    DropNoRoute = "drop-no-route",
    /// Frame on `ipsec0` that came from neither source it takes frames from.
    DropForeignFrame = "drop-foreign-frame",
    /// Policy changed while the packet was on its way and no longer protects it.
    DropPolicyChanged = "drop-policy-changed",
    /// The frame could not be grown or shrunk.
    DropRoom = "drop-no-room",
    /// A map is missing an entry that must be there, or a bounded retry ran out.
    DropInternal = "drop-internal",
    /// The transform of the SA is not in this object.
    DropNoTransform = "drop-no-transform",
    /// Dummy packet (next header 59), discarded as it should be.
    Dummy = "dummy",
    /// Packet on `ipsec0` that no tunnel rule covers.
    DropTunnelNoRule = "drop-tunnel-no-rule",
    /// UDP-encapsulated datagram that is neither IKE, ESP nor a keepalive.
    DropBadEncap = "drop-bad-encapsulation",
    /// NAT keepalives received.
    Keepalive = "keepalive",
    /// Link-local multicast that the host sends on `ipsec0` itself; there is nobody to hear it.
    LinkLocal = "link-local-ignored",
    /// Outbound packets without an SA, handed to key management, which sends them when there is one.
    Held = "held",
    /// Opened packet that was not capable of ECN in an outer header with a congestion mark (RFC 6040 section 4.2).
    DropEcn = "drop-ecn",
    /// Opened packets whose ECN fields no working tunnel sends together; delivered (RFC 6040 section 4.2).
    UnusualEcn = "unusual-ecn",
    /// Packets handed to the slow path.
    SlowPath = "slow-path",
    /// Packets for the slow path that found no room on the way there.
    DropSlowPathFull = "drop-slow-path-full",
    /// Events that say that a peer sends from another address or port.
    Moves = "moves",
    /// ICMP errors of routers about sealed packets that were too big, heeded.
    PathMtu = "path-mtu-learned",
    /// Sealed packet for this host that is longer than what the programs take.
    DropTooLong = "drop-too-long",
    /// Packets that came in past the XDP program of their interface, and were judged behind it.
    JudgedLate = "judged-late",
    /// Packets sealed on the LAN interface where they arrived, without the stack.
    ShortcutSealed = "shortcut-sealed",
    /// Opened packets sent out of a LAN interface without the stack.
    ShortcutOpened = "shortcut-opened",
    /// Packets that met the gateway shortcut and were left to the stack, which judges them as any other.
    ShortcutLeft = "shortcut-left",
}

/// Number of counters.
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// Whether the counter counts packets that were lost.
    pub fn is_drop(self) -> bool {
        self.name().starts_with("drop-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ordered_as_the_map() {
        for (i, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, i);
            assert_eq!(Counter::ALL.iter().filter(|c| c.name() == counter.name()).count(), 1);
        }
    }
}
