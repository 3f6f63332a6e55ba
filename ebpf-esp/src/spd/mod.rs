//! The classifier: the first rule that a packet fits (RFC 4301 section 4.4.1), by the bit vectors of
//! [`sadb_maps::spd`]. Knows the tables through a trait and nothing of what a rule is.

pub mod flow;

use crate::packet::proto;
use sadb_maps::Addr;
use sadb_maps::policy::Selectors;
use sadb_maps::spd::{
    BROKEN, Class, NO_MATCH, OPAQUE_CLASS, PAGE_RULES, PAGE_WORDS, Page, SUMMARY_PAGES, SUMMARY_WORDS, dimension,
    kind_chunk, scope, table,
};

/// The tables of one generation.
pub trait Tables {
    /// Class of an address; `None` when no rule has it.
    fn address(&self, dimension: u8, address: &Addr) -> Option<u16>;
    /// Class of a value in a chunk of a table.
    fn value(&self, table: u8, chunk: u8, value: u8) -> u16;
    /// A bit vector.
    fn class(&self, dimension: u8, class: u16) -> Option<&Class>;
    /// A page of one.
    fn page(&self, number: u32) -> Option<&Page>;
}

/// The classes that a packet has.
struct Found<'a> {
    local: &'a Class,
    remote: &'a Class,
    near: &'a Class,
    far: &'a Class,
    kind: &'a Class,
    tunnel: &'a Class,
}

/// Index of the first rule that the packet fits in this direction (a bit of [`sadb_maps::policy::direction`]) and
/// [`scope`], [`NO_MATCH`], or [`BROKEN`] when the tables contradict themselves.
#[inline(always)]
pub fn first_match<T: Tables>(tables: &T, packet: &Selectors, direction: u32, in_scope: u32) -> u32 {
    let Some(local) = tables.address(dimension::LOCAL, &packet.laddr) else { return NO_MATCH };
    let Some(remote) = tables.address(dimension::REMOTE, &packet.raddr) else { return NO_MATCH };
    match classes(tables, packet, direction, in_scope, local, remote) {
        Some(found) => first_common(tables, &found),
        None => BROKEN,
    }
}

/// Dimensions that do not count for this packet get the class of another one: it changes nothing in an intersection.
#[inline(always)]
fn classes<'t, T: Tables>(
    tables: &'t T,
    packet: &Selectors,
    direction: u32,
    in_scope: u32,
    local: u16,
    remote: u16,
) -> Option<Found<'t>> {
    let kind = tables.value(table::KIND, kind_chunk(direction, in_scope), packet.proto);
    let kind = tables.class(dimension::KIND, kind)?;
    let (near, far) = if packet.opaque != 0 {
        (tables.class(dimension::NEAR, OPAQUE_CLASS)?, kind)
    } else {
        let (near, far) = match packet.proto {
            proto::ICMP | proto::ICMPV6 => (
                tables.value(table::ICMP_TYPE, 0, packet.icmp_type),
                tables.value(table::ICMP_CODE, 0, packet.icmp_code),
            ),
            _ => (port(tables, table::LOCAL_PORT, packet.lport), port(tables, table::REMOTE_PORT, packet.rport)),
        };
        (tables.class(dimension::NEAR, near)?, tables.class(dimension::FAR, far)?)
    };
    let tunnel = match in_scope.checked_sub(scope::FIRST_TUNNEL) {
        Some(number) => tables.class(dimension::TUNNEL, number as u16)?,
        None => kind,
    };
    Some(Found {
        local: tables.class(dimension::LOCAL, local)?,
        remote: tables.class(dimension::REMOTE, remote)?,
        near,
        far,
        kind,
        tunnel,
    })
}

#[inline(always)]
fn port<T: Tables>(tables: &T, table: u8, port: u16) -> u16 {
    tables.value(table, (port >> 8) as u8, port as u8)
}

/// The first bit that all have.
#[inline(always)]
fn first_common<T: Tables>(tables: &T, found: &Found<'_>) -> u32 {
    let mut part = 0;
    while part < SUMMARY_WORDS {
        let candidates = summary(found, part);
        let mut page = 0;
        while page < SUMMARY_PAGES && candidates != 0 {
            if candidates >> (page * PAGE_WORDS) & ((1 << PAGE_WORDS) - 1) != 0 {
                let index = part * SUMMARY_PAGES + page;
                match in_page(tables, found, index) {
                    Some(NO_MATCH) => {}
                    Some(bit) => return index as u32 * PAGE_RULES + bit,
                    None => return BROKEN,
                }
            }
            page += 1;
        }
        part += 1;
    }
    NO_MATCH
}

/// The words that may have a bit in common: all of them have one that is not zero there.
#[inline(always)]
fn summary(found: &Found<'_>, part: usize) -> u64 {
    let word = |class: &Class| class.summary.get(part).copied().unwrap_or(0);
    word(found.kind) & word(found.tunnel) & word(found.near) & word(found.far) & word(found.local) & word(found.remote)
}

/// The first bit that all have in this page, or [`NO_MATCH`]; `None` when a page is missing.
#[inline(always)]
fn in_page<T: Tables>(tables: &T, found: &Found<'_>, index: usize) -> Option<u32> {
    let number = |class: &Class| class.pages.get(index).copied();
    // Equal pages are one page, so what does not narrow the choice is often the page before.
    let next = |class: &Class, last: (u32, _)| {
        let number = number(class)?;
        if number == last.0 { Some(last) } else { Some((number, tables.page(number)?)) }
    };
    let number = number(found.kind)?;
    let kind = (number, tables.page(number)?);
    let tunnel = next(found.tunnel, kind)?;
    let near = next(found.near, tunnel)?;
    let far = next(found.far, near)?;
    let local = next(found.local, far)?;
    let remote = next(found.remote, local)?;
    let mut word = 0;
    while word < PAGE_WORDS {
        let common = [tunnel, near, far, local, remote]
            .iter()
            .fold(bits(kind.1, word), |common, (_, page)| common & bits(page, word));
        if common != 0 {
            return Some(word as u32 * u64::BITS + common.trailing_zeros());
        }
        word += 1;
    }
    Some(NO_MATCH)
}

#[inline(always)]
fn bits(page: &Page, word: usize) -> u64 {
    page.0.get(word).copied().unwrap_or(0)
}
