//! The tag that a frame carries in its twelve MAC address octets on the way through `ipsec0`.
//!
//! TCX egress on the outer interface classifies once and writes the outcome here; segmentation copies the MAC header to
//! every segment, so XDP on `ipsec0x` does not classify again. `ipsec0` has a MAC address with another first octet, so
//! a routed frame is never taken for a tagged one.

/// First octet of the destination address of a tagged frame: unicast, locally administered.
pub const TAG_OCTET: u8 = 0x06;

/// First octet of the MAC addresses that the loader gives to `ipsec0` and `ipsec0x`.
pub const IPSEC0_OCTET: u8 = 0x02;

/// The packet was made by this host; otherwise it was forwarded.
pub const FLAG_LOCAL: u8 = 1;
/// AH goes around the ESP of the SA that the tag names.
pub const FLAG_BUNDLE: u8 = 2;
/// Key management has held the packet: it is judged anew, and not held again.
pub const FLAG_HELD: u8 = 4;
/// A sealed packet for this host that came in fragments and has been made whole: it is opened.
pub const FLAG_WHOLE: u8 = 8;
/// The packet may be longer than its way takes, once it is sealed: it leaves in fragments then.
pub const FLAG_LARGE: u8 = 16;
/// The packet is longer than its tunnel takes, the slot, and may be cut: it takes the slow path.
pub const FLAG_SPLIT: u8 = 32;
/// A fragment of what transport mode protects as a whole: it takes the slow path.
pub const FLAG_GATHER: u8 = 64;

/// What the classifier found. The slot and the generations are cut to the bits that fit; a stale tag costs a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The flags above.
    pub flags: u8,
    /// Rule index within its generation of the SPD.
    pub rule: u16,
    /// Low 16 bits of the SPD generation.
    pub policy: u16,
    /// SA slot, 24 bits; 0 when there was none.
    pub slot: u32,
    /// Low 24 bits of the slot's generation.
    pub generation: u32,
}

impl Tag {
    /// The twelve octets as three words in memory order.
    #[inline(always)]
    pub const fn to_words(self) -> [u32; 3] {
        [
            (TAG_OCTET as u32) | (self.flags as u32) << 8 | (self.rule as u32) << 16,
            (self.policy as u32) | (self.slot & 0xffff) << 16,
            (self.slot >> 16 & 0xff) | (self.generation & 0xff_ffff) << 8,
        ]
    }

    /// Reads a tag; `None` for a frame that carries none.
    #[inline(always)]
    pub const fn from_words(w: [u32; 3]) -> Option<Self> {
        if w[0] & 0xff != TAG_OCTET as u32 {
            return None;
        }
        Some(Self {
            flags: (w[0] >> 8) as u8,
            rule: (w[0] >> 16) as u16,
            policy: w[1] as u16,
            slot: w[1] >> 16 | (w[2] & 0xff) << 16,
            generation: w[2] >> 8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_the_frame() {
        let tag = Tag { flags: FLAG_LOCAL, rule: 63, policy: 0xbeef, slot: 0xab_cdef, generation: 0x12_3456 };
        assert_eq!(Tag::from_words(tag.to_words()), Some(tag));
        assert_eq!(tag.to_words()[0].to_le_bytes()[0], TAG_OCTET);
        assert_eq!(Tag::from_words([u32::from(IPSEC0_OCTET), 0, 0]), None);
    }
}
