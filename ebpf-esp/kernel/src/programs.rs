//! The programs of the real object, each loaded by itself: how long the kernel takes to verify and translate it, how
//! many instructions its verifier walks for that, and how long the machine code is.

use anyhow::{Context, Result, bail};
use aya::EbpfLoader;
use aya::programs::{Program, ProgramInfo};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Loads that the median is of.
const LOADS: usize = 5;

/// Measures and prints JSON.
pub(crate) fn run(path: &Path) -> Result<()> {
    let object = std::fs::read(path).with_context(|| format!("{}: run `cargo xtask build-ebpf`", path.display()))?;
    let ebpf = EbpfLoader::new().load(&object).context("loading the maps")?;
    let mut names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    let mut rows = vec![];
    for name in &names {
        let mut times = vec![];
        let mut row = json!(null);
        for _ in 0..LOADS {
            let (time, info) = load(&object, name).with_context(|| format!("loading {name}"))?;
            times.push(time);
            row = json!({
                "program": name,
                "verified": info.verified_instruction_count(),
                "translated_octets": info.size_translated(),
                "machine_code_octets": info.size_jitted(),
            });
        }
        times.sort_by(f64::total_cmp);
        if let Some(row) = row.as_object_mut() {
            row.insert("load_ms".to_owned(), json!(times.get(LOADS / 2)));
        }
        rows.push(row);
    }
    println!("{:#}", json!({ "loads": LOADS, "rows": rows }));
    Ok(())
}

/// Loads one program with maps of its own; the time is that of the system call, in milliseconds.
fn load(object: &[u8], name: &str) -> Result<(f64, ProgramInfo)> {
    let mut ebpf = EbpfLoader::new().load(object).context("loading the maps")?;
    let program = ebpf.program_mut(name).context("no such program")?;
    let start = Instant::now();
    let info = match program {
        Program::Xdp(program) => program.load().and_then(|()| program.info()),
        Program::SchedClassifier(program) => program.load().and_then(|()| program.info()),
        _ => bail!("neither XDP nor TC"),
    }?;
    Ok((start.elapsed().as_secs_f64() * 1e3, info))
}
