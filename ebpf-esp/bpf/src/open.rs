//! XDP on an outer interface: opens ESP that is addressed to this host and checks clear packets against the policy
//! (RFC 4301 section 5.2).

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use aya_ebpf::programs::XdpContext;
use ebpf_esp::esp::{ESP_HEADER, Geometry, UDP_HEADER, decapsulated_tos, is_unusual_ecn};
use ebpf_esp::forward::update_checksum;
use ebpf_esp::packet::{Content, ETH_IPV4, ETH_IPV6, ETH_LEN, Frame, Parsed, parse, proto};
use ebpf_esp::replay::{self, Cells};
use sadb_maps::abi::{Config, any};
use sadb_maps::counter::Counter;
use sadb_maps::policy::{Selectors, direction, rule_flag, verdict};
use sadb_maps::sa::{
    AH, ESP, InboundKey, PAGE_BITS, PAGE_WORDS, SaState, WINDOW_BITS, WINDOW_WORDS, WindowPageKey, flag, mac,
};
use sadb_maps::spd::{NO_MATCH, scope};

use crate::frame::{HEADER_ROOM, MAX_OFFSET, XdpFrame, opaque, size};
use crate::maps::{CONFIG, OUTER, SA_IN, SA_WINDOW, SA_WINDOW_PAGES, count};
use crate::route::Place;
use crate::sa::{self, Usable, planned};
use crate::scratch::{OF_ITS_SOURCE, park, park_quoted, scratch};
use crate::seal::{FAILED, status};
use crate::tc::{Note, OPENED_TRANSPORT, OPENED_TUNNEL};
use crate::{ah, atomic, cipher, fault, late, nat, path_mtu, policy, report, route, shortcut, slow, stage};

/// Least window used to infer the high half of a sequence number.
const INFERENCE_WINDOW: u32 = 64;

/// Result of [`open_prepare`]: go on with the cipher. Apart from every XDP action.
pub const OPEN: u32 = 0x80;
/// Result of [`open_finish`]: go on with [`open_deliver`].
pub const DELIVER: u32 = 0x81;
/// A packet that a policy in force lets pass in clear.
pub const CLEAR: u32 = 0x82;
/// Result of [`open_deliver`]: an opened packet of a tunnel, where some interface has the gateway shortcut.
const SEND: u32 = 0x83;
/// Result of [`open_prepare`]: go on with [`open_clear`].
const JUDGE: u32 = 0x84;
/// Result of [`open_prepare`]: the same, with a fragment that the slow path has as well, should it be part of a sealed packet.
const JUDGE_COPIED: u32 = 0x86;
/// Result of [`open_deliver`]: what came out of a tunnel is sealed for this host once more.
const AGAIN: u32 = 0x85;

/// The program on an outer interface: prepares, and jumps to the transform.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    report::begin();
    if let Some(sc) = scratch() {
        // SAFETY: the scratch of this CPU.
        unsafe { (*sc).plan.ah.slot = 0 };
    }
    if lacks_metadata(ctx.ctx) {
        // Behind XDP nobody would know what has been done with the packet here: there it is judged, and opened.
        return xdp_action::XDP_PASS;
    }
    let mut outcome = open_prepare(ctx.ctx);
    if outcome == JUDGE {
        outcome = open_clear(ctx.ctx);
    }
    if outcome == JUDGE_COPIED {
        outcome = open_clear(ctx.ctx);
        if outcome & FAILED != 0 {
            // It may not go on, but is not lost.
            return xdp_action::XDP_DROP;
        }
    }
    conclude(ctx, outcome)
}

/// Whether the driver has no metadata in front of frames, for which the kernel has it place their beginning behind that of the
/// frame (`xdp_set_data_meta_invalid`).
#[inline(always)]
fn lacks_metadata(ctx: *mut xdp_md) -> bool {
    // SAFETY: the context is valid.
    let (meta, data) =
        unsafe { ((&raw const (*ctx).data_meta).read_volatile(), (&raw const (*ctx).data).read_volatile()) };
    meta as usize > data as usize || fault::is(fault::NO_METADATA)
}

/// The same for a packet that is sealed for this host: one that came in fragments and has been made whole, on `ipsec0x`, or
/// out of a tunnel.
#[inline(always)]
pub fn run_whole(ctx: &XdpContext) -> u32 {
    if let Some(sc) = scratch() {
        // SAFETY: the scratch of this CPU.
        unsafe { (*sc).plan.ah.slot = 0 };
    }
    conclude(ctx, open_whole_prepare(ctx.ctx))
}

/// What follows from the result of a stage.
#[inline(always)]
fn conclude(ctx: &XdpContext, outcome: u32) -> u32 {
    match outcome {
        OPEN => stage::follow_plan(ctx),
        CLEAR if shortcut::is_here(ctx.ctx) => stage::next(ctx, stage::SHORTCUT),
        CLEAR => late::seen(ctx.ctx),
        outcome if outcome & FAILED != 0 => stage::drop(outcome),
        action => action,
    }
}

/// The same of a stage behind a transform, after which there may be a packet to deliver.
#[inline(always)]
pub fn deliver_or_conclude(ctx: &XdpContext, mut outcome: u32) -> u32 {
    if outcome == DELIVER {
        outcome = open_deliver(ctx.ctx);
    }
    if outcome == AGAIN {
        return stage::next(ctx, stage::OPEN_WHOLE);
    }
    if outcome == SEND {
        outcome = shortcut::shortcut_opened(ctx.ctx);
        if outcome == shortcut::LEFT {
            outcome = open_up(ctx.ctx);
        }
    }
    conclude(ctx, outcome)
}

/// A transform: `cipher` over the job, then the end.
#[inline(always)]
pub fn transform(ctx: &XdpContext, cipher: impl FnOnce(*mut xdp_md, &Usable) -> u32) -> u32 {
    let sa = match planned() {
        Ok(sa) => sa,
        Err(reason) => return stage::drop(reason as u32),
    };
    match cipher(ctx.ctx, &sa) {
        cipher::OK => stage::next(ctx, stage::OPEN_END),
        cipher::FORGED => {
            // SAFETY: a live map value.
            unsafe { atomic::fetch_add(&raw mut (*sa.state).auth_failed, 1) };
            stage::drop(Counter::DropAuth as u32)
        }
        _ => stage::drop(Counter::DropMalformed as u32),
    }
}

/// The end: replay commit, headers, policy.
#[inline(always)]
pub fn end(ctx: &XdpContext) -> u32 {
    deliver_or_conclude(ctx, open_finish(ctx.ctx))
}

/// Tells ESP for this host from everything else, which is judged as clear.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_prepare(ctx: *mut xdp_md) -> u32 {
    let frame = XdpFrame(ctx);
    match read_inner(ctx) {
        IP => {}
        // What is no IP is the stack's to judge.
        NO_IP => return xdp_action::XDP_PASS,
        // As the program at TC would: what goes on without a note may have one of before.
        _ => return FAILED | Counter::DropUnreadable as u32,
    }
    let Some(sc) = scratch() else { return xdp_action::XDP_DROP };
    // SAFETY: the scratch of this CPU, where the packet has just been put.
    let parsed = unsafe { &(*sc).parsed };
    status(match esp_offset(&frame, parsed) {
        Kind::Esp(offset) => match find(&frame, parsed, offset, ESP) {
            Some(sa) => prepare(ctx, parsed, offset, &sa),
            None if is_local(&frame, parsed) => Err(Counter::DropNoSaIn),
            None => Ok(JUDGE),
        },
        Kind::Ah(place) => match find(&frame, parsed, place + 4, AH) {
            Some(sa) => ah::open_prepare(ctx, parsed, place, &sa),
            None if is_local(&frame, parsed) => Err(Counter::DropNoSaIn),
            None => Ok(JUDGE),
        },
        Kind::Keepalive if is_local(&frame, parsed) => {
            count(Counter::Keepalive);
            return xdp_action::XDP_DROP;
        }
        Kind::Runt if is_local(&frame, parsed) => Err(Counter::DropBadEncap),
        Kind::Fragment if is_local(&frame, parsed) => slow::fragment(ctx, parsed),
        Kind::Early if slow::is_served() && is_local(&frame, parsed) && slow::copy_early(ctx) != 0 => Ok(JUDGE_COPIED),
        _ => Ok(JUDGE),
    })
}

/// Judges the packet in the scratch, which is for nobody here to open.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_clear(ctx: *mut xdp_md) -> u32 {
    let Some(sc) = scratch() else { return FAILED | Counter::DropInternal as u32 };
    // SAFETY: the scratch of this CPU, where the packet has just been put.
    status(clear(&XdpFrame(ctx), unsafe { &(*sc).parsed }))
}

/// As [`open_prepare`], for a packet that is known to be sealed for this host: anything else is dropped.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_whole_prepare(ctx: *mut xdp_md) -> u32 {
    let frame = XdpFrame(ctx);
    let Some(parsed) = inner(ctx) else { return FAILED | Counter::DropMalformed as u32 };
    status(match esp_offset(&frame, parsed) {
        Kind::Esp(offset) => match find(&frame, parsed, offset, ESP) {
            Some(sa) => prepare(ctx, parsed, offset, &sa),
            None => Err(Counter::DropNoSaIn),
        },
        Kind::Ah(place) => match find(&frame, parsed, place + 4, AH) {
            Some(sa) => ah::open_prepare(ctx, parsed, place, &sa),
            None => Err(Counter::DropNoSaIn),
        },
        _ => Err(Counter::DropMalformed),
    })
}

/// Reads the frame into the scratch: [`IP`], [`NO_IP`] or [`BROKEN_IP`]. A function of its own, so that its stack does not
/// add up with the classifier's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_inner(ctx: *mut xdp_md) -> u32 {
    match parse(&XdpFrame(ctx)) {
        Content::Ip(parsed) if park(parsed).is_some() => IP,
        Content::Other => NO_IP,
        _ => BROKEN_IP,
    }
}

/// [`read_inner`]: an IP packet, which is in the scratch now.
pub const IP: u32 = 1;
const NO_IP: u32 = 0;
const BROKEN_IP: u32 = 2;

/// The packet that came out of an SA.
#[inline(always)]
fn inner(ctx: *mut xdp_md) -> Option<&'static Parsed> {
    let sc = scratch()?;
    // SAFETY: the scratch of this CPU, where the packet has just been put.
    if read_inner(ctx) == IP { Some(unsafe { &(*sc).parsed }) } else { None }
}

/// What lies behind AH: ESP, which is opened next, or what is delivered.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn inside_ah(ctx: *mut xdp_md) -> u32 {
    let frame = XdpFrame(ctx);
    let Some(parsed) = inner(ctx) else { return FAILED | Counter::DropMalformed as u32 };
    if parsed.proto != proto::ESP {
        return DELIVER;
    }
    status(match find(&frame, parsed, parsed.l4, ESP) {
        _ if parsed.fragment => Err(Counter::DropFragment),
        Some(sa) => prepare(ctx, parsed, parsed.l4, &sa),
        None => Err(Counter::DropNoSaIn),
    })
}

/// What a packet is to whoever opens.
pub enum Kind {
    /// ESP header at this offset.
    Esp(u32),
    /// AH header at this offset.
    Ah(u32),
    /// NAT keepalive (RFC 3948 section 2.3).
    Keepalive,
    /// A datagram to port 4500 that is too short to be anything.
    Runt,
    /// A fragment of an ESP or AH packet, in UDP or not.
    Fragment,
    /// A later fragment in UDP that comes before the first one, which knows what it is part of.
    Early,
    /// Not for us.
    Other,
}

/// What the packet in the scratch is.
#[inline(always)]
pub fn esp_offset<F: Frame>(frame: &F, parsed: &Parsed) -> Kind {
    match parsed.proto {
        proto::ESP | proto::AH if parsed.fragment => Kind::Fragment,
        proto::AH => Kind::Ah(parsed.l4),
        proto::ESP => Kind::Esp(parsed.l4),
        proto::UDP if parsed.dport == 4500 && !parsed.fragment => {
            let payload = parsed.l4 + UDP_HEADER;
            let len = match frame.read::<u16>(parsed.l4 + 4) {
                Some(len) => u16::from_be(len) as u32,
                None => return Kind::Runt,
            };
            if len == UDP_HEADER + 1 {
                return match frame.read::<u8>(payload) {
                    Some(0xff) => Kind::Keepalive,
                    _ => Kind::Runt,
                };
            }
            // UDP-06, UDP-07: at least the SPI and sequence number of ESP, or the marker and something behind.
            if len < UDP_HEADER + ESP_HEADER {
                return Kind::Runt;
            }
            match frame.read::<u32>(payload) {
                Some(0) => Kind::Other,
                Some(_) => Kind::Esp(payload),
                None => Kind::Runt,
            }
        }
        proto::UDP if parsed.dport == 4500 && !parsed.opaque => match frame.read::<u32>(parsed.l4 + UDP_HEADER) {
            // IKE, or too little to tell.
            Some(0) | None => Kind::Other,
            Some(_) => Kind::Fragment,
        },
        _ if parsed.fragment && parsed.opaque => match slow::part_of() {
            slow::of::SEALED => Kind::Fragment,
            slow::of::UNKNOWN if parsed.proto == proto::UDP => Kind::Early,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

/// A frame at the hook where it has come in on an outer interface.
pub trait Arrival: Frame {
    /// The context of the program.
    fn context(&self) -> *mut c_void;
    /// Index of the interface.
    fn interface(&self) -> u32;
    /// Reads the packet that the ICMP error in the scratch quotes: see [`park_quoted`].
    fn read_quoted(&self) -> u32;
    /// Heeds what the ICMP error in the scratch says about the sealed packet that it quotes.
    fn learn_path_mtu(&self);
}

impl Arrival for XdpFrame {
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.cast()
    }
    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.0).ingress_ifindex }
    }
    #[inline(always)]
    fn read_quoted(&self) -> u32 {
        read_quoted(self.0)
    }
    #[inline(always)]
    fn learn_path_mtu(&self) {
        path_mtu::learn_path_mtu(self.0);
    }
}

/// Whether the packet would stay on this host.
#[inline(always)]
pub fn is_local<A: Arrival>(frame: &A, parsed: &Parsed) -> bool {
    route::is_local(frame.context(), frame.interface(), parsed.src, parsed.dst)
}

/// The inbound SA whose SPI stands at `offset`.
#[inline(always)]
pub fn find<F: Frame>(frame: &F, parsed: &Parsed, offset: u32, proto: u8) -> Option<Usable> {
    let spi = u32::from_be(frame.read::<u32>(offset)?);
    // SAFETY: the scratch of this CPU.
    unsafe { (*scratch()?).subject.spi = spi };
    // In words, or zeros are filled in octet by octet, and of the size to which the stack has to be aligned.
    // SAFETY: plain data of one size, and the key is no more aligned.
    let [a, b]: [u64; 2] = unsafe { core::mem::transmute(parsed.dst) };
    // SAFETY: as above.
    let name: u64 = unsafe { core::mem::transmute([spi, u32::from_ne_bytes([proto, 0, 0, 0])]) };
    let key = [a, b, name];
    // SAFETY: as above; the value is copied at once. Without one there is no slot.
    let place = unsafe { SA_IN.get(&*(&raw const key).cast::<InboundKey>()) }.copied().unwrap_or_default();
    // An element that is removed while it is read may hold another key's value by then.
    sa::resolve(place).filter(|sa| sa.fixed.spi == spi && sa.fixed.dst == parsed.dst && sa.fixed.proto == proto)
}

/// The window of an SA in its maps, for the code that the host tests share.
struct MapCells {
    slot: u32,
    bits: u32,
    state: *mut SaState,
}

impl Cells for MapCells {
    type Word = NonNull<u64>;

    #[inline(always)]
    fn bits(&self) -> u32 {
        self.bits
    }
    #[inline(always)]
    fn word(&self, index: usize) -> Option<Self::Word> {
        // SAFETY: a live map value; the index is masked to its words.
        unsafe {
            let word = if self.bits == WINDOW_BITS {
                let window = SA_WINDOW.get_ptr_mut(self.slot)?;
                (&raw mut (*window).0).cast::<u64>().add(index & (WINDOW_WORDS - 1))
            } else {
                let key = WindowPageKey { slot: self.slot, page: index as u32 >> PAGE_BITS };
                let page = SA_WINDOW_PAGES.get_ptr_mut(&key)?;
                (&raw mut (*page).0).cast::<u64>().add(index & (PAGE_WORDS - 1))
            };
            NonNull::new(word)
        }
    }
    #[inline(always)]
    fn load(&self, word: Self::Word) -> u64 {
        // SAFETY: a live map value.
        unsafe { word.as_ptr().read_volatile() }
    }
    #[inline(always)]
    fn swap(&self, word: Self::Word, old: u64, new: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic::compare_swap(word.as_ptr(), old, new) }
    }
    #[inline(always)]
    fn top(&self) -> u64 {
        // SAFETY: a live map value.
        unsafe { (&raw const (*self.state).top).read_volatile() }
    }
    #[inline(always)]
    fn swap_top(&self, old: u64, new: u64) -> u64 {
        // SAFETY: a live map value.
        unsafe { atomic::compare_swap(&raw mut (*self.state).top, old, new) }
    }
}

#[inline(always)]
fn refused(sa: &Usable, refusal: replay::Refusal) -> Counter {
    // SAFETY: a live map value.
    unsafe { atomic::fetch_add(&raw mut (*sa.state).replayed, 1) };
    match refusal {
        replay::Refusal::Contended | replay::Refusal::NoWindow => Counter::DropInternal,
        _ => Counter::DropReplay,
    }
}

/// Checks state, lengths and replay before the cipher.
#[inline(always)]
fn prepare(ctx: *mut xdp_md, parsed: &Parsed, offset: u32, sa: &Usable) -> Result<u32, Counter> {
    let frame = XdpFrame(ctx);
    let now = sa::now_to_a_tick();
    sa::admit(sa, now)?;
    let (iv_len, icv_len) = (sa.fixed.iv_len as u32, sa.fixed.icv_len as u32);
    let end = ETH_LEN + parsed.l3_len;
    if end > MAX_OFFSET {
        return Err(Counter::DropTooLong);
    }
    if end > frame.len() || offset > MAX_OFFSET {
        return Err(Counter::DropMalformed);
    }
    let front = offset + ESP_HEADER + iv_len;
    if end < front + icv_len + 4 {
        return Err(Counter::DropMalformed);
    }
    let len = end - front - icv_len;
    if len & (Geometry::of(sa.fixed).align - 1) != 0 {
        return Err(Counter::DropMalformed);
    }
    let [spi, low] = frame.read::<[u32; 2]>(offset).ok_or(Counter::DropMalformed)?;
    let iv = frame.read::<[u32; 2]>(offset + ESP_HEADER).ok_or(Counter::DropMalformed)?;
    let low = u32::from_be(low);
    let seq = sequence(sa, low)?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU.
    unsafe {
        let job = &mut (*sc).job;
        job.src = front;
        job.dst = front;
        job.len = len;
        job.spi = spi;
        job.seq[0] = ((seq >> 32) as u32).to_be();
        job.seq[1] = low.to_be();
        job.iv[0] = iv[0];
        job.iv[1] = iv[1];
        let plan = &mut (*sc).plan;
        plan.seq = seq;
        plan.now = now;
        plan.place = sa.place;
        plan.next = stage::open(sa.fixed.family);
        plan.front = front;
        plan.len = len;
        if sa.fixed.mac != mac::NONE {
            let header = ESP_HEADER + iv_len;
            let job = &mut (*sc).mac;
            job.offset = front - header;
            job.len = header + len;
            job.verify = 1;
            job.then = plan.next;
            plan.next = stage::authenticate(sa.fixed.mac);
            let icv_len = opaque(icv_len & 63);
            if icv_len == 0
                || icv_len > 32
                || bpf_xdp_load_bytes(ctx, front + len, (&raw mut (*sc).icv).cast(), size::<32>(icv_len)) != 0
            {
                return Err(Counter::DropMalformed);
            }
        }
    }
    Ok(OPEN)
}

/// The whole sequence number of which a packet carries the low half, if the window has not seen it.
#[inline(always)]
pub fn sequence(sa: &Usable, low: u32) -> Result<u64, Counter> {
    let cells = window_of(sa);
    let window = sa.fixed.replay_window;
    let seq = if sa.fixed.flags & flag::ESN != 0 {
        let width = if window > INFERENCE_WINDOW { window } else { INFERENCE_WINDOW };
        replay::infer_high(cells.top(), low, width)
    } else {
        low as u64
    };
    if window != 0 && !fault::is(fault::REPLAY) {
        if seq == 0 {
            return Err(refused(sa, replay::Refusal::TooOld));
        }
        replay::precheck(&cells, seq, window).map_err(|r| refused(sa, r))?;
    }
    Ok(seq)
}

/// Takes the sequence number of a packet that has been authenticated.
#[inline(always)]
pub fn commit(sa: &Usable, seq: u64) -> Result<(), Counter> {
    let window = sa.fixed.replay_window;
    if window != 0 && !fault::is(fault::REPLAY) {
        replay::commit(&window_of(sa), seq, window).map_err(|r| refused(sa, r))?;
    } else if sa.fixed.flags & flag::ESN != 0 {
        replay::follow(&window_of(sa), seq);
    }
    Ok(())
}

#[inline(always)]
fn window_of(sa: &Usable) -> MapCells {
    // A shift by more than 31 is none that the verifier knows a result of.
    MapCells { slot: sa.place.slot, bits: sa.fixed.ring_bits as u32 & 15, state: sa.state }
}

/// Takes the sequence number, strips what ESP added, checks what came out, and hands it up.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_finish(ctx: *mut xdp_md) -> u32 {
    status(finish(ctx))
}

#[inline(always)]
fn finish(ctx: *mut xdp_md) -> Result<u32, Counter> {
    let frame = XdpFrame(ctx);
    let config = CONFIG.get(0).ok_or(Counter::DropInternal)?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let sa = planned()?;
    // SAFETY: the scratch of this CPU.
    let (plan, parsed) = unsafe { (&(*sc).plan, &(*sc).parsed) };
    let (front, len) = (plan.front, plan.len);
    if len < 2 || len > MAX_OFFSET || front > MAX_OFFSET || front < ETH_LEN {
        return Err(Counter::DropInternal);
    }
    commit(&sa, plan.seq)?;
    nat::watch(&sa, parsed, plan.seq, plan.now);
    let [pad, next_header] = frame.read::<[u8; 2]>(front + len - 2).ok_or(Counter::DropMalformed)?;
    if pad as u32 + 2 > len {
        return Err(Counter::DropMalformed);
    }
    let payload = len - 2 - pad as u32;
    if padding_counts_up(ctx, front + payload, pad as u32) == 0 {
        return Err(Counter::DropMalformed);
    }
    sa::spend(&sa, payload as u64, plan.now)?;
    sa::account(&sa, plan.now);
    if next_header == proto::NONE {
        count(Counter::Dummy);
        return Ok(xdp_action::XDP_DROP);
    }
    if sa.fixed.flags & flag::TUNNEL != 0 {
        strip_tunnel(ctx, config, parsed, front, payload, next_header)?;
    } else {
        let behind_nat = sa.fixed.flags & flag::NAT_REMOTE != 0 && !sa.fixed.src.is_unspecified();
        let renamed = behind_nat && parsed.src != sa.fixed.src;
        strip_transport(ctx, parsed, front, payload, next_header)?;
        if renamed && nat::name_source(ctx) & FAILED != 0 {
            return Err(Counter::DropMalformed);
        }
    }
    Ok(DELIVER)
}

/// Whether the padding is 1, 2, 3, … as every transform here has it (RFC 4303 section 2.4): 1 or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn padding_counts_up(ctx: *mut xdp_md, offset: u32, pad: u32) -> u32 {
    let frame = XdpFrame(ctx);
    for i in 0..=u8::MAX as u32 {
        if i >= pad {
            return 1;
        }
        if frame.read::<u8>(offset + i) != Some((i + 1) as u8) {
            return 0;
        }
    }
    0
}

/// Judges the packet that came out: see [`deliver`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_deliver(ctx: *mut xdp_md) -> u32 {
    let result = match (CONFIG.get(0), planned()) {
        (Some(config), Ok(sa)) => deliver(ctx, config, &sa),
        (_, Err(reason)) => Err(reason),
        _ => Err(Counter::DropInternal),
    };
    status(result)
}

/// Makes the inner packet the frame.
#[inline(always)]
pub fn strip_tunnel(
    ctx: *mut xdp_md,
    config: &Config,
    outer: &Parsed,
    front: u32,
    payload: u32,
    next_header: u8,
) -> Result<(), Counter> {
    let frame = XdpFrame(ctx);
    let first = u32::from_be(frame.read::<u32>(front).ok_or(Counter::DropMalformed)?);
    let (ether_type, inner_len, inner_tos) = match next_header {
        proto::IPIP if first >> 28 == 4 && payload >= 20 => (ETH_IPV4, first & 0xffff, (first >> 16) as u8),
        proto::IPV6 if first >> 28 == 6 && payload >= 40 => {
            let len = frame.read::<u16>(front + 4).ok_or(Counter::DropMalformed)?;
            (ETH_IPV6, u16::from_be(len) as u32 + 40, (first >> 20) as u8)
        }
        _ => return Err(Counter::DropMalformed),
    };
    // What lies behind the inner packet is TFC padding (RFC 4303 section 2.7).
    if inner_len > payload {
        return Err(Counter::DropMalformed);
    }
    let tos = decapsulated_tos(inner_tos, outer.tos).ok_or(Counter::DropEcn)?;
    if is_unusual_ecn(inner_tos, outer.tos) {
        count(Counter::UnusualEcn);
    }
    // SAFETY: the context is valid.
    if unsafe { bpf_xdp_adjust_head(ctx, (front - ETH_LEN) as i32) } != 0 {
        return Err(Counter::DropRoom);
    }
    cut(ctx, ETH_LEN + inner_len)?;
    let [a, b, c, d, e, f] = config.ipsec0_mac;
    let [g, h, i, j, k, l] = config.ipsec0x_mac;
    frame.write(0, [a, b, c, d, e, f, g, h, i, j, k, l]).ok_or(Counter::DropInternal)?;
    frame.write(12, ether_type.to_be()).ok_or(Counter::DropInternal)?;
    if tos == inner_tos {
        return Ok(());
    }
    if ether_type == ETH_IPV6 {
        return frame.write(ETH_LEN, ((first & 0xf00f_ffff) | (tos as u32) << 20).to_be()).ok_or(Counter::DropInternal);
    }
    let old = frame.read::<[u16; 6]>(ETH_LEN).ok_or(Counter::DropInternal)?;
    let new = (((first >> 16) as u16 & 0xff00) | tos as u16).to_be();
    frame.write(ETH_LEN, new).ok_or(Counter::DropInternal)?;
    frame.write(ETH_LEN + 10, update_checksum(old[5], old[0], new)).ok_or(Counter::DropInternal)
}

/// Takes ESP (and UDP) out from between IP header and payload.
#[inline(always)]
pub fn strip_transport(
    ctx: *mut xdp_md,
    parsed: &Parsed,
    front: u32,
    payload: u32,
    next_header: u8,
) -> Result<(), Counter> {
    let frame = XdpFrame(ctx);
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let header = parsed.l4;
    if header < ETH_LEN + 20 || header > HEADER_ROOM || front < header {
        return Err(Counter::DropMalformed);
    }
    // SAFETY: at most 192 octets into 256; the context is valid.
    unsafe {
        if bpf_xdp_load_bytes(ctx, 0, (&raw mut (*sc).header).cast(), size::<HEADER_ROOM>(header)) != 0 {
            return Err(Counter::DropMalformed);
        }
        if bpf_xdp_adjust_head(ctx, (front - header) as i32) != 0 {
            return Err(Counter::DropRoom);
        }
        if bpf_xdp_store_bytes(ctx, 0, (&raw mut (*sc).header).cast(), size::<HEADER_ROOM>(header)) != 0 {
            return Err(Counter::DropInternal);
        }
    }
    cut(ctx, header + payload)?;
    frame.write(parsed.next_header, next_header).ok_or(Counter::DropInternal)?;
    let len = header - ETH_LEN + payload;
    if !parsed.v4 {
        return frame.write(ETH_LEN + 4, ((len - 40) as u16).to_be()).ok_or(Counter::DropInternal);
    }
    let old = frame.read::<[u16; 6]>(ETH_LEN).ok_or(Counter::DropInternal)?;
    let new_len = (len as u16).to_be();
    frame.write(ETH_LEN + 2, new_len).ok_or(Counter::DropInternal)?;
    let [ttl, _] = old[4].to_ne_bytes();
    let sum = update_checksum(old[5], old[1], new_len);
    let sum = update_checksum(sum, u16::from_ne_bytes([ttl, parsed.proto]), u16::from_ne_bytes([ttl, next_header]));
    frame.write(ETH_LEN + 10, sum).ok_or(Counter::DropInternal)
}

/// Cuts the frame to `len` octets. In generic mode TC does that: there the kernel leaves the tail of an skb that XDP
/// shortened where the MAC header was not counted, and TCP, when it joins two such skbs, writes 14 octets too far.
#[inline(always)]
fn cut(ctx: *mut xdp_md, len: u32) -> Result<(), Counter> {
    let have = XdpFrame(ctx).len();
    if have < len {
        return Err(Counter::DropMalformed);
    }
    let config = CONFIG.get(0).ok_or(Counter::DropInternal)?;
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU; the context is valid.
    unsafe {
        let ifindex = (&raw const (*ctx).ingress_ifindex).read_volatile();
        let native = config.any & any::GENERIC == 0 || OUTER.get(ifindex).is_some_and(|outer| outer.native != 0);
        (*sc).plan.cut_to = if native { 0 } else { len };
        if native && have > len && bpf_xdp_adjust_tail(ctx, -((have - len) as i32)) != 0 {
            return Err(Counter::DropRoom);
        }
    }
    Ok(())
}

/// The check of what came out against SA and policy (RFC 4301 section 5.2 steps 3 and 4), and the way up.
#[inline(always)]
fn deliver(ctx: *mut xdp_md, config: &Config, sa: &Usable) -> Result<u32, Counter> {
    let inner = inner(ctx).ok_or(Counter::DropMalformed)?;
    let mut outcome = judge_opened(0);
    // An ICMP error may come in the company of the flow that it is about (RFC 4301 section 6.2, ARC-ICMP-05).
    let unfit = outcome == Counter::DropSelector as u32 || outcome == Counter::DropPolicyMismatch as u32;
    if unfit && inner.is_icmp_error() && read_quoted(ctx) == OF_ITS_SOURCE {
        outcome = judge_opened(1);
    }
    if outcome != 0 {
        return Ok(FAILED | outcome);
    }
    if sa.fixed.checksum_delta != 0 {
        let repaired = nat::repair_checksum(ctx);
        if repaired & FAILED != 0 {
            return Ok(repaired);
        }
    }
    let tunnel = sa.fixed.flags & flag::TUNNEL != 0;
    count(Counter::OpenedOk);
    // Nested (RFC 4301 section 5.2 step 4): from the top, with what is inside. The kernel bounds how often.
    if tunnel && matches!(inner.proto, proto::ESP | proto::AH | proto::UDP) && is_sealed_for_us(ctx) != 0 {
        return Ok(AGAIN);
    }
    if tunnel && config.any & any::SHORTCUT != 0 {
        return Ok(SEND);
    }
    up(ctx, config, sa)
}

/// Whether the packet in the scratch is ESP or AH, or ESP in UDP, for this host: 1 or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_sealed_for_us(ctx: *mut xdp_md) -> u32 {
    let frame = XdpFrame(ctx);
    let Some(sc) = scratch() else { return 0 };
    // SAFETY: the scratch of this CPU.
    let parsed = unsafe { &(*sc).parsed };
    match esp_offset(&frame, parsed) {
        Kind::Esp(_) | Kind::Ah(_) => is_local(&frame, parsed) as u32,
        _ => 0,
    }
}

/// Hands the packet that came out of the SA to the stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_up(ctx: *mut xdp_md) -> u32 {
    let result = match (CONFIG.get(0), planned()) {
        (Some(config), Ok(sa)) => up(ctx, config, &sa),
        (_, Err(reason)) => Err(reason),
        _ => Err(Counter::DropInternal),
    };
    status(result)
}

#[inline(always)]
fn up(ctx: *mut xdp_md, config: &Config, sa: &Usable) -> Result<u32, Counter> {
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU.
    let value = unsafe { (*sc).plan.cut_to };
    let what = if sa.fixed.flags & flag::TUNNEL != 0 { OPENED_TUNNEL } else { OPENED_TRANSPORT };
    Note { secret: config.mark_sealed, what, value }.put(ctx)?;
    Ok(xdp_action::XDP_PASS)
}

/// Reads the packet that the ICMP error in the scratch quotes: 1 if there is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_quoted(ctx: *mut xdp_md) -> u32 {
    park_quoted(&XdpFrame(ctx))
}

/// Whether the packet in the scratch, or with `quoted` the one that it quotes, fits the SAs that were applied and the
/// policy asks for these: 0, or the counter.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_opened(quoted: u32) -> u32 {
    match judge(quoted != 0) {
        Ok(()) => 0,
        Err(reason) => reason as u32,
    }
}

#[inline(always)]
fn judge(quoted: bool) -> Result<(), Counter> {
    if fault::is(fault::POLICY_IN) {
        return Ok(());
    }
    let sc = scratch().ok_or(Counter::DropInternal)?;
    let sa = &planned()?;
    // SAFETY: the scratch of this CPU.
    let (inner, taken_off) = unsafe { (if quoted { &(*sc).quoted } else { &(*sc).parsed }, (*sc).plan.ah) };
    // SAFETY: the scratch of this CPU.
    let selectors = unsafe { &mut (*sc).selectors };
    *selectors = inner.inbound();
    let head = policy::head().ok_or(Counter::DropPolicyMismatch)?;
    // Nothing but these decides whether a packet of one SA is accepted.
    let alone = taken_off.slot == 0 && !quoted;
    if alone && policy::was_opened(selectors, &head, sa.place) {
        return Ok(());
    }
    if sa.fixed.flags & flag::SELECTORS != 0 && !fits(sa, inner) {
        return Err(Counter::DropSelector);
    }
    let tunnel = sa.fixed.flags & flag::TUNNEL != 0;
    if !tunnel && !quoted && !sa.fixed.src.is_unspecified() && inner.src != sa.fixed.src {
        // In transport mode nothing but the SA says who sent the packet.
        return Err(Counter::DropSelector);
    }
    let in_scope = if tunnel {
        policy::tunnel_scope(head.generation, &sa.fixed.dst, &sa.fixed.src).ok_or(Counter::DropPolicyMismatch)?
    } else {
        scope::LOCAL
    };
    let index = policy::classify(selectors, head.generation, head.count, direction::IN as u32, in_scope);
    if index == NO_MATCH {
        return Err(Counter::DropPolicyMismatch);
    }
    let rule = policy::rule(head.generation, index).ok_or(Counter::DropInternal)?;
    if rule.verdict != verdict::PROTECT || (rule.tunnel_mode != 0) != tunnel {
        return Err(Counter::DropPolicyMismatch);
    }
    if tunnel && (rule.tunnel_local != sa.fixed.dst || rule.tunnel_remote != sa.fixed.src) {
        return Err(Counter::DropPolicyMismatch);
    }
    let ah = if taken_off.slot == 0 { None } else { Some(sa::resolve(taken_off).ok_or(Counter::DropExpired)?.fixed) };
    let esp = if sa.fixed.proto == ESP { Some(sa.fixed) } else { None };
    // An SA that was negotiated for this very action has its algorithms; whether all SAs it asks for were there is
    // another question.
    let complete = ah.is_none() && rule.flags & rule_flag::AH == 0;
    if !(complete && rule.action_id == sa.fixed.action) && !policy::accepts(rule, esp, ah) {
        return Err(Counter::DropPolicyMismatch);
    }
    if alone {
        policy::remember_opened(selectors, &head, sa.place);
    }
    Ok(())
}

/// Whether the packet is within the traffic selectors of the SA (ARC-IN-01, ARC-IN-03).
#[inline(always)]
fn fits(sa: &Usable, inner: &Parsed) -> bool {
    let sel = &sa.fixed.sel;
    if !inner.src.in_range(&sel.src_low, &sel.src_high) || !inner.dst.in_range(&sel.dst_low, &sel.dst_high) {
        return false;
    }
    if sel.proto != 0 && sel.proto != inner.proto {
        return false;
    }
    let any_ports = sel.sport[0] == 0 && sel.sport[1] == 0xffff && sel.dport[0] == 0 && sel.dport[1] == 0xffff;
    if any_ports {
        return true;
    }
    !inner.opaque
        && inner.sport >= sel.sport[0]
        && inner.sport <= sel.sport[1]
        && inner.dport >= sel.dport[0]
        && inner.dport <= sel.dport[1]
}

/// A packet in clear: may it pass? [`CLEAR`], or XDP_PASS where there is no policy.
#[inline(always)]
pub fn clear<A: Arrival>(frame: &A, parsed: &Parsed) -> Result<u32, Counter> {
    let Some(head) = policy::head() else { return Ok(xdp_action::XDP_PASS) };
    if parsed.is_neighbour_discovery() {
        return Ok(CLEAR);
    }
    if parsed.fragment && parsed.proto == proto::UDP {
        if !parsed.opaque {
            // For whoever is behind this host nothing is let through.
            if route::place(frame.context(), frame.interface(), parsed.src, parsed.dst) == Place::Here {
                slow::remember(if is_key_management(parsed) { slow::of::KEY_MANAGEMENT } else { slow::of::CLEAR });
            }
        } else if slow::part_of() == slow::of::KEY_MANAGEMENT {
            // The stack makes nothing of it but part of what has passed already.
            count(Counter::KeyManagement);
            return Ok(CLEAR);
        }
    }
    let sc = scratch().ok_or(Counter::DropInternal)?;
    // SAFETY: the scratch of this CPU.
    let selectors = unsafe { &mut (*sc).selectors };
    *selectors = parsed.inbound();
    if parsed.is_icmp_error() {
        let quotes = frame.read_quoted();
        // SAFETY: the scratch of this CPU, where the quoted packet has just been put, if there is one.
        let quoted = unsafe { &(*sc).quoted };
        let named =
            policy::classify(selectors, head.generation, head.count, direction::IN as u32, scope::LOCAL) != NO_MATCH;
        if quotes != 0 && quoted.is_sealed() && is_local(frame, parsed) {
            // What a router says about sealed packets is heard whatever becomes of the error itself.
            if quotes == OF_ITS_SOURCE {
                frame.learn_path_mtu();
            }
        } else if quotes != 0 && !named {
            // What is said in clear about a protected flow comes from nobody who can see it. It is the flow that the
            // stack looks at, wherever the error goes to.
            *selectors = quoted.inbound();
        }
    }
    let (matched, host) = match_clear(selectors, head.generation, head.count, 1)?;
    let mut what = matched;
    if what != verdict::PASS {
        let place = route::place(frame.context(), frame.interface(), parsed.src, parsed.dst);
        // An exception is made only where it is sure that nobody behind this host gets the packet.
        if place == Place::Here && is_key_management(parsed) {
            count(Counter::KeyManagement);
            return Ok(CLEAR);
        }
        if host && place == Place::Foreign {
            // Host rules do not judge what is only passing through.
            what = match_clear(selectors, head.generation, head.count, 0)?.0;
        }
    }
    match what {
        verdict::PASS => {
            count(Counter::BypassedIn);
            Ok(CLEAR)
        }
        verdict::PROTECT => Err(Counter::DropClearIn),
        _ => Err(Counter::DropPolicyIn),
    }
}

/// Whether this is for a key manager, should it be for this host.
#[inline(always)]
fn is_key_management(parsed: &Parsed) -> bool {
    parsed.proto == proto::UDP && (parsed.dport == 500 || parsed.dport == 4500)
}

/// Verdict for a clear packet, and whether it came from a host rule. No rule is the same as a passing one.
#[inline(always)]
fn match_clear(packet: &Selectors, generation: u32, rules: u32, local: u32) -> Result<(u8, bool), Counter> {
    let index = policy::classify(packet, generation, rules, direction::IN as u32, local);
    if index == NO_MATCH {
        return Ok((verdict::PASS, true));
    }
    let rule = policy::rule(generation, index).ok_or(Counter::DropInternal)?;
    Ok((rule.verdict, rule.flags & rule_flag::TUNNEL == 0))
}
