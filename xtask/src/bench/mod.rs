//! Measurements. Each part measures one thing, says how, and gives figures that hold beside each other in one run; what
//! is compared is measured in turns. Nothing here is a test: no figure passes or fails.

mod esp;
mod memory;
mod path;
mod programs;
mod sadb;
mod scale;
mod spd;
mod tools;

use crate::net;
use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value};

/// What `cargo xtask bench` is told.
#[derive(Args)]
pub struct Arguments {
    /// Print one JSON object with a member for each part
    #[arg(long)]
    json: bool,
    /// Parts to measure, as `--list` names them; `all` or nothing is all of them
    names: Vec<String>,
    /// Print what there is and measure nothing
    #[arg(long)]
    list: bool,
}

/// One thing that is measured.
struct Part {
    /// What it is called on the command line and in the JSON object.
    name: &'static str,
    /// What it shows, in one line.
    about: &'static str,
    /// Measures. Progress goes to standard error.
    run: fn() -> Result<Figures>,
}

/// What a part found.
struct Figures {
    /// For people, with the way it was measured.
    text: String,
    /// For programs.
    json: Value,
}

fn parts() -> impl Iterator<Item = &'static Part> {
    [esp::PARTS, path::PARTS, memory::PARTS, programs::PARTS, spd::PARTS, sadb::PARTS, scale::PARTS]
        .into_iter()
        .flatten()
}

/// Measures the parts that are asked for.
///
/// # Errors
/// There is no part of that name, or one could not be measured.
pub fn run(arguments: &Arguments) -> Result<()> {
    net::undo::watch_signals();
    if arguments.list {
        parts().for_each(|part| println!("{:<10} {}", part.name, part.about));
        return Ok(());
    }
    let asked = |name: &str| arguments.names.iter().any(|asked| asked == name);
    let all = arguments.names.is_empty() || asked("all");
    if let Some(unknown) = arguments.names.iter().find(|name| *name != "all" && !parts().any(|p| p.name == *name)) {
        bail!("nothing is measured as {unknown}; there are: {}", parts().map(|p| p.name).collect::<Vec<_>>().join(" "));
    }
    let mut figures = Map::new();
    for part in parts().filter(|part| all || asked(part.name)) {
        eprintln!("bench {}: {}", part.name, part.about);
        let found = (part.run)()?;
        if !arguments.json {
            println!("{}", found.text);
        }
        figures.insert(part.name.to_owned(), found.json);
    }
    if arguments.json {
        println!("{:#}", Value::Object(figures));
    }
    Ok(())
}
