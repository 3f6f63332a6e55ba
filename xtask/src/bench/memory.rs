//! Memory of an SA in the maps and of an IKE SA in the daemon, measured and not computed from the sizes of records.

mod ike;
mod maps;

use super::{Figures, Part, tools};
use anyhow::Result;
use serde_json::json;

/// What is measured here.
pub(super) const PARTS: &[Part] = &[Part {
    name: "memory",
    about: "octets for each SA over all maps, and for each IKE SA in the core of in.ikev2d (about 20 s)",
    run,
}];

fn run() -> Result<Figures> {
    tools::build(&["ipseckey"])?;
    let maps = maps::measure()?;
    let ike = ike::measure()?;
    Ok(Figures {
        text: format!("{}\n{}", maps.text, ike.text),
        json: json!({ "machine": tools::load().json(), "maps": maps.json, "ike": ike.json }),
    })
}
