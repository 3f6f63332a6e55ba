//! Deliberate faults, for `cargo xtask scenario faults`, which shows that the tests see them. They are in an object of their
//! own, which nothing else asks for; a word of it says which one it has.

/// The mark by which the test finds the word behind it, which is the number of a fault; 0 is none.
#[cfg(feature = "faults")]
#[unsafe(no_mangle)]
static FAULT: [u32; 4] = [0x6465_6c69, 0x6265_7261, 0x7465_6c79, 0];

/// The last octet of the ICV is wrong.
pub const ICV: u32 = 1;
/// Nothing is a replay.
pub const REPLAY: u32 = 2;
/// One packet in 64 that should be protected goes out as it is.
pub const CLEAR: u32 = 3;
/// The ICV of AH is not looked at.
pub const AH: u32 = 4;
/// What comes out of an SA is asked neither for its selectors nor for policy.
pub const POLICY_IN: u32 = 5;
/// What has come past XDP is let through.
pub const LATE: u32 = 6;
/// One packet in 64 that takes the gateway shortcut leaves as it is.
pub const SHORTCUT: u32 = 7;
/// No fault: as if the driver had no metadata in front of frames.
pub const NO_METADATA: u32 = 8;

/// Whether this object has the fault.
#[cfg(feature = "faults")]
#[inline(always)]
pub fn is(fault: u32) -> bool {
    // SAFETY: a static of this object.
    unsafe { (&raw const FAULT[3]).read_volatile() == fault }
}

/// Whether this object has the fault.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn is(_: u32) -> bool {
    false
}
