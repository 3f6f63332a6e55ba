//! How long pairs of SAs take to set up, by how many there are: with two handles, one for SAs and one for policy, as
//! in.ikev2d has them. Needs root.
//!
//! `cargo run --release -p sadb-maps --features testing --example setup_rate -- [PAIRS...]`

use std::net::IpAddr;
use std::time::Instant;

use sadb_maps::host::testing::TestInstance;
use sadb_maps::host::{Direction, IvSource, SaSpec, Sadb, SecretKey, Spd};
use sadb_maps::sa::{ESP, encr, km};

const CAPACITY: u32 = 16_384;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<u32> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let counts = if given.is_empty() { vec![250, 2_500] } else { given };
    for pairs in counts {
        let instance = TestInstance::with_maps(CAPACITY)?;
        let (mut sadb, mut spd) = (Sadb::open(&instance)?, Spd::open(&instance)?);
        let start = Instant::now();
        for number in 0..pairs {
            add(&mut sadb, &mut spd, number)?;
        }
        let time = start.elapsed();
        println!("{} SAs in pairs: {time:.2?}, {:.2?} a pair", 2 * pairs, time / pairs.max(1));
        let start = Instant::now();
        sadb.flush(None)?;
        println!("flush: {:.2?}", start.elapsed());
    }
    Ok(())
}

/// What a negotiation does: reserves an SPI, looks at the policy, adds both directions.
fn add(sadb: &mut Sadb, spd: &mut Spd, number: u32) -> Result<(), Box<dyn std::error::Error>> {
    let [_, a, b, c] = number.to_be_bytes();
    let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([10, a, b, c]));
    let inbound = sadb.reserve_spi(ESP, there, here, 256..=u32::MAX, km::IKEV2)?;
    spd.rules()?;
    let sa = |spi, src, dst, direction| SaSpec {
        direction,
        encr: encr::CHACHA20_POLY1305,
        key: SecretKey::new(vec![7; 32]),
        salt: SecretKey::new(vec![1; 4]),
        km: km::IKEV2,
        action: 7,
        iv: IvSource::FreshKey,
        ..SaSpec::new(ESP, spi, src, dst)
    };
    sadb.add(&sa(inbound, there, here, Direction::In))?;
    sadb.add(&SaSpec { pair_spi: Some(inbound), ..sa(number + 256, here, there, Direction::Out) })?;
    Ok(())
}
