//! IKE SAs in the core of in.ikev2d, which an example of its crate sets up by the thousand in memory.

use super::Figures;
use crate::suite::number;
use crate::workspace::{cargo, run_text};
use anyhow::{Context, Result};
use serde_json::Value;

pub(super) fn measure() -> Result<Figures> {
    let text = run_text(cargo().args(["run", "--quiet", "-p", "ike-daemon", "--example", "ike_sa_memory"]))?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("ike_sa_memory printed {text:?}"))?;
    let figure = |name: &str| number(&json, name);
    let text = format!(
        "Octets for each IKE SA with one child in the sans-I/O core of in.ikev2d, from {} that were negotiated in\n\
         memory, half of them as initiator; what the driver and the SADB keep is not in it\n  \
         {:<24} {:>8}\n  {:<24} {:>8}\n",
        figure("ike_sas"),
        "resident",
        figure("resident"),
        "allocated",
        figure("allocated")
    );
    Ok(Figures { text, json })
}
