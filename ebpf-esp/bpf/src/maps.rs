//! Every map of the data path. Names, records and sizes are those of `sadb_maps::abi`; the loader overrides the number
//! of entries of the slot maps by the capacity it was asked for.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf, XskMap};
use sadb_maps::abi::{Config, DEFAULT_SA_CAPACITY, Header, MAX_QUEUES, MAX_RULES, Outer, stage};
use sadb_maps::counter::{COUNTERS as COUNTER_COUNT, Counter};
use sadb_maps::policy::{PolicyHead, Rule};
use sadb_maps::sa::{
    BindingKey, BlowfishState, Bundle, GhashTable, Identities, InboundKey, KeyText, MAX_WINDOW_PAGES, PathMtu, SaState,
    SaStatic, SlotRef, Window, WindowPage, WindowPageKey,
};
use sadb_maps::slow::{FragmentKey, MAX_KNOWN, RING, SlowState};
use sadb_maps::spd::{
    AddressKey, Chunk, Class, FLOW_SETS, FlowSet, MAX_CHUNKS, MAX_CLASSES, MAX_PAGES, MAX_PREFIXES, Page, TunnelKey,
};

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

#[map]
pub static HEADER: Array<Header> = Array::with_max_entries(1, 0);
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
pub static OUTER: HashMap<u32, Outer> = HashMap::with_max_entries(256, 0);
#[map]
pub static SA_IN: HashMap<InboundKey, SlotRef> = HashMap::with_max_entries(DEFAULT_SA_CAPACITY, 0);
#[map]
pub static SA_NAMES: HashMap<InboundKey, SlotRef> = HashMap::with_max_entries(DEFAULT_SA_CAPACITY, 0);
#[map]
pub static SA_OUT: HashMap<BindingKey, Bundle> = HashMap::with_max_entries(DEFAULT_SA_CAPACITY, 0);
#[map]
pub static SA_STATIC: Array<SaStatic> = Array::with_max_entries(DEFAULT_SA_CAPACITY, 0);
#[map]
pub static SA_KEYS: Array<KeyText> = Array::with_max_entries(DEFAULT_SA_CAPACITY, 0);
#[map]
pub static SA_IDENTITIES: HashMap<u32, Identities> = HashMap::with_max_entries(DEFAULT_SA_CAPACITY, NO_PREALLOC);
#[map]
pub static SA_STATE: Array<SaState> = Array::with_max_entries(DEFAULT_SA_CAPACITY, 0);
#[map]
pub static SA_WINDOW: Array<Window> = Array::with_max_entries(DEFAULT_SA_CAPACITY, 0);
#[map]
pub static SA_WINDOW_PAGES: HashMap<WindowPageKey, WindowPage> =
    HashMap::with_max_entries(MAX_WINDOW_PAGES, NO_PREALLOC);
#[map]
pub static SA_GHASH: HashMap<u32, GhashTable> = HashMap::with_max_entries(DEFAULT_SA_CAPACITY, NO_PREALLOC);
#[map]
pub static SA_BLOWFISH: HashMap<u32, BlowfishState> = HashMap::with_max_entries(DEFAULT_SA_CAPACITY, NO_PREALLOC);
#[map]
pub static SPD_HEAD: Array<u32> = Array::with_max_entries(1, 0);
#[map]
pub static SPD_GENERATIONS: Array<PolicyHead> = Array::with_max_entries(2, 0);
#[map]
pub static SPD_RULES: HashMap<u32, Rule> = HashMap::with_max_entries(2 * MAX_RULES, NO_PREALLOC);
#[map]
pub static SPD_ADDRESSES: LpmTrie<AddressKey, u32> = LpmTrie::with_max_entries(2 * MAX_PREFIXES, NO_PREALLOC);
#[map]
pub static SPD_CHUNKS: HashMap<u32, Chunk> = HashMap::with_max_entries(2 * MAX_CHUNKS, NO_PREALLOC);
#[map]
pub static SPD_TUNNELS: HashMap<TunnelKey, u32> = HashMap::with_max_entries(2 * MAX_RULES, NO_PREALLOC);
#[map]
pub static SPD_CLASSES: HashMap<u32, Class> = HashMap::with_max_entries(2 * MAX_CLASSES, NO_PREALLOC);
#[map]
pub static SPD_PAGES: HashMap<u32, Page> = HashMap::with_max_entries(2 * MAX_PAGES, NO_PREALLOC);
#[map]
pub static SPD_FLOWS: PerCpuArray<FlowSet> = PerCpuArray::with_max_entries(FLOW_SETS, 0);
#[map]
pub static KM_SOCKETS: HashMap<u64, u32> = HashMap::with_max_entries(64, 0);
#[map]
pub static ACQUIRES: LruHashMap<BindingKey, u64> = LruHashMap::with_max_entries(4096, 0);
#[map]
pub static PATH_MTUS: LruHashMap<InboundKey, PathMtu> = LruHashMap::with_max_entries(4096, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);
#[map]
pub static STAGES: ProgramArray = ProgramArray::with_max_entries(stage::STAGES, 0);
#[map]
pub static XSKS: XskMap = XskMap::with_max_entries(MAX_QUEUES, 0);
#[map]
pub static SLOW: RingBuf = RingBuf::with_byte_size(RING, 0);
#[map]
pub static SLOW_STATE: Array<SlowState> = Array::with_max_entries(1, 0);
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u64> = LruHashMap::with_max_entries(MAX_KNOWN, 0);
#[map]
pub static SCRATCH: PerCpuArray<crate::scratch::Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    count_index(counter as u32);
}

/// Adds one to the counter with this index.
#[inline(always)]
pub fn count_index(index: u32) {
    if let Some(cell) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: a cell of this CPU; programs on one CPU do not interrupt each other.
        unsafe { *cell += 1 };
    }
}
