//! The pinned maps, opened and typed: every read and write of the library goes through here.

use super::batch::{Batch, WipedList};
use super::error::SadbError;
use super::fault;
use super::instance::{Instance, InstanceError};
use super::layout;
use super::raw::RawMap;
use crate::abi::{Config, Header, Outer, map};
use crate::event::Event;
use crate::policy::{PolicyHead, Rule};
use crate::sa::{
    BindingKey, BlowfishState, Bundle, GhashTable, Identities, InboundKey, KeyText, SaState, SaStatic, SlotRef, Window,
    WindowPage, WindowPageKey,
};
use crate::slow::SlowState;
use crate::spd::{AddressKey, Chunk, Class, Page, TunnelKey};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::path::Path;
use zeroize::Zeroize;

macro_rules! pod {
    ($($t:ty),*) => {
        $(
            // SAFETY: the type is bytemuck::Pod, which asks for the same and more: any bits are valid, no padding.
            unsafe impl aya::Pod for $t {}
        )*
    };
}

pod!(
    Header,
    Config,
    Outer,
    InboundKey,
    SlotRef,
    BindingKey,
    Bundle,
    SaStatic,
    SaState,
    Window,
    WindowPage,
    WindowPageKey,
    GhashTable,
    BlowfishState,
    KeyText,
    Identities
);
pod!(PolicyHead, Rule, Event, AddressKey, TunnelKey, Class, Page, Chunk, SlowState);

/// A record that holds secrets: wiped when dropped.
pub(super) struct Wiped<T: bytemuck::Pod>(pub(super) Box<T>);

impl<T: bytemuck::Pod> Wiped<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Box::new(value))
    }

    pub(super) fn zeroed() -> Self {
        Self(Box::new(T::zeroed()))
    }
}

impl<T: bytemuck::Pod> Deref for Wiped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: bytemuck::Pod> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: bytemuck::Pod> Drop for Wiped<T> {
    fn drop(&mut self) {
        bytemuck::bytes_of_mut(&mut *self.0).zeroize();
    }
}

/// Opens a pin. A missing one means that the instance is not attached.
pub(super) fn open(instance: &Instance, name: &'static str) -> Result<MapData, SadbError> {
    let path = instance.pin(name);
    if !path.exists() {
        return Err(InstanceError::NotAttached(instance.name().to_owned()).into());
    }
    MapData::from_pin(path).map_err(|source| SadbError::Map { map: name, operation: "open", source })
}

/// An array map with its name, for errors.
pub(super) struct Slots<V: aya::Pod> {
    name: &'static str,
    map: Array<MapData, V>,
    batch: Batch,
}

impl<V: aya::Pod + bytemuck::Pod> Slots<V> {
    pub(super) fn open(instance: &Instance, name: &'static str) -> Result<Self, SadbError> {
        let data = open(instance, name)?;
        let batch = Batch::new(data.fd().as_fd()).map_err(|e| SadbError::io(name, e))?;
        let map = Array::try_from(Map::Array(data)).map_err(failed(name, "open"))?;
        Ok(Self { name, map, batch })
    }

    /// The values from index `first` on, at most `count`; fewer where the map ends.
    pub(super) fn range(&self, first: u32, count: u32) -> Result<WipedList<V>, SadbError> {
        self.batch.read(first, count).map_err(|e| SadbError::io(self.name, e))
    }

    /// Writes each value under its index, in this order.
    pub(super) fn set_many(&mut self, keys: &[u32], values: &[V]) -> Result<(), SadbError> {
        self.batch.write(keys, values).map_err(|e| SadbError::io(self.name, e))
    }

    /// Writes zeros under each index.
    pub(super) fn clear_many(&mut self, keys: &[u32]) -> Result<(), SadbError> {
        self.batch.clear::<u32, V>(keys).map_err(|e| SadbError::io(self.name, e))
    }

    pub(super) fn len(&self) -> u32 {
        self.map.len()
    }

    pub(super) fn get(&self, index: u32) -> Result<V, SadbError> {
        fault::lookup();
        self.map.get(&index, 0).map_err(failed(self.name, "lookup"))
    }

    pub(super) fn set(&mut self, index: u32, value: &V) -> Result<(), SadbError> {
        fault::point();
        self.map.set(index, value, 0).map_err(failed(self.name, "update"))
    }
}

/// A hash map with its name, for errors.
pub(super) struct Table<K: aya::Pod, V: aya::Pod> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
    batch: Batch,
}

impl<K: aya::Pod, V: aya::Pod> Table<K, V> {
    pub(super) fn open(instance: &Instance, name: &'static str) -> Result<Self, SadbError> {
        Self::from_map(instance, name, Map::HashMap)
    }

    /// A map that forgets the entries least recently used when it is full.
    pub(super) fn open_lru(instance: &Instance, name: &'static str) -> Result<Self, SadbError> {
        Self::from_map(instance, name, Map::LruHashMap)
    }

    fn from_map(instance: &Instance, name: &'static str, kind: fn(MapData) -> Map) -> Result<Self, SadbError> {
        let data = open(instance, name)?;
        let batch = Batch::new(data.fd().as_fd()).map_err(|e| SadbError::io(name, e))?;
        let map = HashMap::try_from(kind(data)).map_err(failed(name, "open"))?;
        Ok(Self { name, map, batch })
    }

    /// `None` when the key is not there.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, SadbError> {
        fault::lookup();
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(e) => Err(failed(self.name, "lookup")(e)),
        }
    }

    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, SadbError> {
        self.map.iter().collect::<Result<_, _>>().map_err(failed(self.name, "iteration"))
    }

    pub(super) fn keys(&self) -> Result<Vec<K>, SadbError> {
        self.map.keys().collect::<Result<_, _>>().map_err(failed(self.name, "iteration"))
    }

    pub(super) fn insert(&mut self, key: &K, value: &V) -> Result<(), SadbError> {
        fault::point();
        self.map.insert(key, value, 0).map_err(failed(self.name, "update"))
    }

    /// Inserts each value under its key, in this order.
    pub(super) fn insert_many(&mut self, keys: &[K], values: &[V]) -> Result<(), SadbError> {
        self.batch.write(keys, values).map_err(|e| SadbError::io(self.name, e))
    }

    /// Writes zeros under each key.
    pub(super) fn clear_many(&mut self, keys: &[K]) -> Result<(), SadbError>
    where
        V: bytemuck::Zeroable,
    {
        self.batch.clear::<K, V>(keys).map_err(|e| SadbError::io(self.name, e))
    }

    /// Removes each key; those that are not there are passed over.
    pub(super) fn remove_many(&mut self, keys: &[K]) -> Result<(), SadbError> {
        self.batch.remove(keys).map_err(|e| SadbError::io(self.name, e))
    }

    /// Inserts, or gives `false` when the map is full.
    pub(super) fn insert_if_room(&mut self, key: &K, value: &V) -> Result<bool, SadbError> {
        match self.insert(key, value) {
            Ok(()) => Ok(true),
            Err(SadbError::Map { source: MapError::SyscallError(e), .. })
                if e.io_error.raw_os_error() == Some(libc::E2BIG) =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Removing what is not there is no error.
    pub(super) fn remove(&mut self, key: &K) -> Result<(), SadbError> {
        fault::point();
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(e) => Err(failed(self.name, "delete")(e)),
        }
    }
}

/// A trie of prefixes with its name, for errors.
pub(super) struct Trie<K: aya::Pod, V: aya::Pod> {
    name: &'static str,
    map: LpmTrie<MapData, K, V>,
}

impl<K: aya::Pod, V: aya::Pod> Trie<K, V> {
    pub(super) fn open(instance: &Instance, name: &'static str) -> Result<Self, SadbError> {
        let map = LpmTrie::try_from(Map::LpmTrie(open(instance, name)?)).map_err(failed(name, "open"))?;
        Ok(Self { name, map })
    }

    /// Every prefix: number of bits and data.
    pub(super) fn keys(&self) -> Result<Vec<(u32, K)>, SadbError> {
        let keys = self.map.keys().map(|key| key.map(|key| (key.prefix_len(), key.data())));
        keys.collect::<Result<_, _>>().map_err(failed(self.name, "iteration"))
    }

    pub(super) fn insert(&mut self, bits: u32, key: &K, value: &V) -> Result<(), SadbError> {
        fault::point();
        self.map.insert(&Key::new(bits, *key), value, 0).map_err(failed(self.name, "update"))
    }

    pub(super) fn remove(&mut self, bits: u32, key: &K) -> Result<(), SadbError> {
        fault::point();
        self.map.remove(&Key::new(bits, *key)).map_err(failed(self.name, "delete"))
    }
}

pub(super) fn failed(map: &'static str, operation: &'static str) -> impl Fn(MapError) -> SadbError {
    move |source| SadbError::Map { map, operation, source }
}

/// The header, whatever version made it: its first octets are the same in every one.
pub(super) fn any_header(instance: &Instance) -> Result<Header, SadbError> {
    if !instance.is_attached() {
        return Err(InstanceError::NotAttached(instance.name().to_owned()).into());
    }
    header_in(&instance.pin_dir())
}

/// The header that is pinned in a directory.
pub(super) fn header_in(directory: &Path) -> Result<Header, SadbError> {
    let failed = |e| SadbError::io(map::HEADER, e);
    let value = RawMap::open(&directory.join(map::HEADER)).and_then(|map| map.get(&[0; 4])).map_err(failed)?;
    let header = value.as_ref().and_then(|value| value.get(..size_of::<Header>()));
    // One that is shorter is none of ours.
    Ok(header.map(bytemuck::pod_read_unaligned).unwrap_or_default())
}

/// Reads and checks the header.
pub(super) fn header(instance: &Instance) -> Result<Header, SadbError> {
    let header = any_header(instance)?;
    instance.check_header(&header)?;
    Ok(header)
}

/// Reads and checks the header, and the shape of every map.
pub(super) fn checked_header(instance: &Instance) -> Result<Header, SadbError> {
    let header = header(instance)?;
    layout::check(instance, header.capacity)?;
    Ok(header)
}

/// Writes the header. The loader's first act on new maps.
pub(super) fn write_header(instance: &Instance, header: &Header) -> Result<(), SadbError> {
    Slots::<Header>::open(instance, map::HEADER)?.set(0, header)
}

/// Number that the kernel knows the pinned map by: another one once the instance was attached anew.
pub(super) fn map_id(instance: &Instance, name: &'static str) -> Result<u32, SadbError> {
    Ok(open(instance, name)?.info().map_err(failed(name, "info"))?.id())
}

/// The maps of the SADB.
pub(super) struct SaMaps {
    id: u32,
    pub(super) header: Slots<Header>,
    pub(super) inbound: Table<InboundKey, SlotRef>,
    pub(super) names: Table<InboundKey, SlotRef>,
    pub(super) outbound: Table<BindingKey, Bundle>,
    pub(super) statics: Slots<SaStatic>,
    pub(super) states: Slots<SaState>,
    pub(super) windows: Slots<Window>,
    pub(super) pages: Table<WindowPageKey, WindowPage>,
    pub(super) keys: Slots<KeyText>,
    pub(super) ghash: Table<u32, GhashTable>,
    pub(super) blowfish: Table<u32, BlowfishState>,
    pub(super) identities: Table<u32, Identities>,
    pub(super) acquires: Table<BindingKey, u64>,
}

impl SaMaps {
    pub(super) fn open(instance: &Instance) -> Result<Self, SadbError> {
        let id = map_id(instance, map::HEADER)?;
        checked_header(instance)?;
        Ok(Self {
            id,
            header: Slots::open(instance, map::HEADER)?,
            inbound: Table::open(instance, map::SA_IN)?,
            names: Table::open(instance, map::SA_NAMES)?,
            outbound: Table::open(instance, map::SA_OUT)?,
            statics: Slots::open(instance, map::SA_STATIC)?,
            states: Slots::open(instance, map::SA_STATE)?,
            windows: Slots::open(instance, map::SA_WINDOW)?,
            pages: Table::open(instance, map::SA_WINDOW_PAGES)?,
            keys: Slots::open(instance, map::SA_KEYS)?,
            ghash: Table::open(instance, map::SA_GHASH)?,
            blowfish: Table::open(instance, map::SA_BLOWFISH)?,
            identities: Table::open(instance, map::SA_IDENTITIES)?,
            acquires: Table::open_lru(instance, map::ACQUIRES)?,
        })
    }

    /// Whether the pins are still those of these maps.
    ///
    /// # Errors
    /// [`InstanceError::NotAttached`] when there are none.
    pub(super) fn are_pinned(&self, instance: &Instance) -> Result<bool, SadbError> {
        Ok(map_id(instance, map::HEADER)? == self.id)
    }

    pub(super) fn set_dirty(&mut self, dirty: bool) -> Result<(), SadbError> {
        let header = self.header.get(0)?;
        if (header.dirty != 0) == dirty {
            return Ok(());
        }
        self.header.set(0, &Header { dirty: u32::from(dirty), ..header })
    }
}
