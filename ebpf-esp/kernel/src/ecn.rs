//! Congestion notification across the tunnel, through the real programs: every TOS octet or traffic class inside with every
//! ECN field outside, in each combination of families (RFC 6040 section 4).

use crate::check::sum;
use crate::instance::{DataPath, SPI, Shape, ether_type, packet};
use crate::run;
use crate::support::Random;
use crate::transforms;
use anyhow::{Context, Result, ensure};
use sadb_maps::counter::Counter;
use sadb_maps::host::Counters;

const DROP: u32 = 1;
const PASS: u32 = 2;

const ETHERNET: usize = 14;

/// What comes out for inner (row) and outer (column) ECN of 0 to 3; `None` is dropped (RFC 6040 figure 4).
const TABLE: [[Option<u8>; 4]; 4] = [
    [Some(0), Some(0), Some(0), None],
    [Some(1), Some(1), Some(1), Some(3)],
    [Some(2), Some(1), Some(2), Some(3)],
    [Some(3), Some(3), Some(3), Some(3)],
];

/// Rows and columns that RFC 6040 wants to be noticed.
const UNUSUAL: [(u8, u8); 3] = [(0, 1), (0, 2), (3, 1)];

/// TUN-04, TUN-05 (copied outside, left alone inside), TUN-06, TUN-07, TUN-08.
pub(crate) fn run() -> Result<()> {
    let mut path = DataPath::attach("ecn", None)?;
    let mut random = Random(6040);
    let transform = transforms::ALL.first().context("no transform")?;
    let mut packets = 0;
    for shape in Shape::ALL.into_iter().filter(|shape| shape.is_tunnel()) {
        let keys = transform.keys(&mut random, SPI, false);
        let place = path.protect(shape, transform, &keys)?;
        for class in 0..=u8::MAX {
            for mark in 0..4 {
                let mut inner = packet(shape, 17, random.below(64), &mut random)?;
                set_class(&mut inner, class)?;
                let frame = [place.tag(true), ether_type(shape.inner_v6()).to_vec(), inner.clone()].concat();
                let sealed = run::once(&path.seal, &frame, 0)?;
                ensure!(sealed.value == PASS, "sealing: the program returned {}", sealed.value);
                let mut frame = sealed.frame;
                let outer = frame.get_mut(ETHERNET..).context("no whole frame")?;
                ensure!(self::class(outer)? == class, "{class:#04x} inside, {:#04x} outside", self::class(outer)?);
                set_class(outer, class & !3 | mark)?;
                case(&path, shape, &frame, (&inner, class, mark))
                    .with_context(|| format!("{shape:?}: {class:#04x} inside, ECN {mark} outside"))?;
                packets += 1;
            }
        }
    }
    println!("{packets} packets with every TOS or traffic class inside and every ECN field outside");
    Ok(())
}

fn case(path: &DataPath, shape: Shape, frame: &[u8], (inner, class, mark): (&[u8], u8, u8)) -> Result<()> {
    let counters = Counters::open(path.instance())?;
    let count = || Ok::<_, anyhow::Error>((counters.get(Counter::DropEcn)?, counters.get(Counter::UnusualEcn)?));
    let before = count()?;
    let opened = run::once(&path.open, frame, path.outer)?;
    let after = count()?;
    let expected = TABLE.get(usize::from(class & 3)).and_then(|row| row.get(usize::from(mark))).context("a field")?;
    let counted = (after.0 - before.0, after.1 - before.1);
    let unusual = u64::from(UNUSUAL.contains(&(class & 3, mark)));
    let Some(ecn) = expected else {
        ensure!(opened.value == DROP && counted == (1, 0), "not dropped and counted: {} {counted:?}", opened.value);
        return Ok(());
    };
    ensure!(opened.value == PASS, "opening: the program returned {}", opened.value);
    ensure!(counted == (0, unusual), "counted {counted:?}");
    let mut expected = inner.to_vec();
    set_class(&mut expected, class & !3 | ecn)?;
    let came = opened.frame.get(12..).and_then(|rest| rest.strip_prefix(&ether_type(shape.inner_v6())[..]));
    ensure!(came == Some(&expected[..]), "another packet came out: {came:02x?}, not {expected:02x?}");
    Ok(())
}

/// TOS octet or traffic class of a packet.
fn class(packet: &[u8]) -> Result<u8> {
    let [first, second, ..] = packet else { anyhow::bail!("no whole header") };
    Ok(if first >> 4 == 4 { *second } else { first << 4 | second >> 4 })
}

/// Sets it, with the header checksum of IPv4.
fn set_class(packet: &mut [u8], class: u8) -> Result<()> {
    let [first, second, ..] = packet else { anyhow::bail!("no whole header") };
    if *first >> 4 == 6 {
        *first = 0x60 | class >> 4;
        *second = *second & 0xf | class << 4;
        return Ok(());
    }
    *second = class;
    let header = packet.get_mut(..20).context("no whole header")?;
    header.get_mut(10..12).context("no checksum")?.fill(0);
    let checksum = !sum(header);
    header.get_mut(10..12).context("no checksum")?.copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}
