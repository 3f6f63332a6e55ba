//! TCP between hosts: in clear, through us and through others, in one topology.
//!
//! Every contestant has a lab of its own, all are there at the same time, and they are measured in turns: what disturbs
//! the machine disturbs all of them. A ratio is taken within a round; the median of the rounds is shown.

mod contestants;
mod flow;
mod wireguard;

use super::{Figures, Part, tools};
use anyhow::Result;
use contestants::{Cipher, Contestant, Ends, Kind, Way};
use flow::Rate;
use serde_json::{Value, json};
use std::fmt::Write;

/// What is measured here.
pub(super) const PARTS: &[Part] = &[Part {
    name: "path",
    about: "TCP through this suite, beside clear, strongSwan's ESP in user space and wireguard-go (about 2 minutes)",
    run,
}];

const ROUNDS: usize = 5;

fn run() -> Result<Figures> {
    contestants::ensure_installed()?;
    tools::build(&["ipseckey"])?;
    let load = tools::load();
    eprintln!("  {} labs", Kind::ALL.len());
    let contestants = Kind::ALL.into_iter().map(Contestant::new).collect::<Result<Vec<_>>>()?;
    let mut series: Vec<Series> = Vec::new();
    for ends in Ends::ALL {
        let measured = Kind::ALL.into_iter().filter(|kind| kind.is_measured(ends));
        series.extend(measured.map(|kind| Series { ends, kind, rates: Vec::new() }));
    }
    for round in 0..ROUNDS {
        eprintln!("  round {} of {ROUNDS}", round + 1);
        for ends in Ends::ALL {
            for index in 0..contestants.len() {
                // Forth and back, so that nobody always comes after the same.
                let index = if round % 2 == 0 { index } else { contestants.len() - 1 - index };
                let Some(contestant) = contestants.get(index).filter(|it| it.kind.is_measured(ends)) else { continue };
                let rate = contestant.measure(ends)?;
                let own = series.iter_mut().find(|series| series.ends == ends && series.kind == contestant.kind);
                own.into_iter().for_each(|series| series.rates.push(rate));
            }
        }
    }
    Ok(report(&series, &load))
}

/// All rounds of a contestant between two ends.
struct Series {
    ends: Ends,
    kind: Kind,
    rates: Vec<Rate>,
}

impl Series {
    fn gigabits(&self) -> Spread {
        Spread::of(self.rates.iter().map(|rate| rate.gigabits))
    }

    fn busy(&self) -> Spread {
        Spread::of(self.rates.iter().map(|rate| rate.busy))
    }

    /// Gbit/s for each processor that was busy.
    fn per_busy(&self) -> Spread {
        Spread::of(self.rates.iter().map(|rate| rate.gigabits / rate.busy.max(0.01)))
    }

    /// How many times as fast as `other`, round by round.
    fn ratio(&self, other: &Self) -> Spread {
        let pairs = self.rates.iter().zip(&other.rates);
        Spread::of(pairs.map(|(own, other)| own.gigabits / other.gigabits))
    }
}

/// Median, lowest and highest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    /// All are NaN when there are no figures.
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        Self { median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, lowest: at(0), highest: at(last) }
    }

    fn json(self) -> Value {
        let rounded = |figure: f64| (figure * 1e3).round() / 1e3;
        json!({ "median": rounded(self.median), "lowest": rounded(self.lowest), "highest": rounded(self.highest) })
    }
}

/// What is told as a ratio, between the same ends.
fn comparisons() -> Vec<(Kind, Kind)> {
    let ours = |cipher| Kind::Ours(cipher, Way::Stack);
    let swans = Cipher::ALL.map(|cipher| (ours(cipher), Kind::Strongswan(cipher)));
    let all = Cipher::ALL.map(|cipher| (ours(cipher), Kind::WireguardGo));
    let ways = [Way::XdpExit, Way::Shortcut, Way::ShortcutXdpExit];
    let ways = ways.map(|way| (Kind::Ours(Cipher::ChaCha20, way), ours(Cipher::ChaCha20)));
    swans.into_iter().chain(all).chain(ways).collect()
}

fn report(all: &[Series], load: &tools::Load) -> Figures {
    let mut text = format!(
        "One TCP connection (cubic) between two gateways with a router between them, MTU 1500, all on this machine:\n\
         {}.\n\
         Gbit/s of payload, median of {ROUNDS} rounds in turns; `of clear` is the ratio to a segment a packet in the\n\
         same round; `busy` is how many processors of the machine were not idle.\n",
        load.machine()
    );
    let mut figures = Vec::new();
    let mut ratios = Vec::new();
    for ends in Ends::ALL {
        let find = |kind: Kind| all.iter().find(|series| series.ends == ends && series.kind == kind);
        let _ = writeln!(
            text,
            "\n{:<42} {:>7} {:>16} {:>9} {:>5} {:>11}",
            format!("between {}", ends.name()),
            "Gbit/s",
            "lowest..highest",
            "of clear",
            "busy",
            "Gbit/s/busy"
        );
        let clear = find(Kind::ClearSegments);
        for series in Kind::ALL.into_iter().filter_map(find) {
            let Spread { median, lowest, highest } = series.gigabits();
            let of_clear = clear.map_or(f64::NAN, |clear| series.ratio(clear).median);
            let _ = writeln!(
                text,
                "{:<42} {median:>7.2} {:>16} {of_clear:>9.2} {:>5.2} {:>11.2}",
                series.kind.title(),
                format!("{lowest:.2}..{highest:.2}"),
                series.busy().median,
                series.per_busy().median
            );
            figures.push(json!({
                "between": ends.name(),
                "name": series.kind.name(),
                "gigabits": series.gigabits().json(),
                "of_clear": clear.map(|clear| series.ratio(clear).json()),
                "busy_processors": series.busy().json(),
                "gigabits_per_busy_processor": series.per_busy().json(),
            }));
        }
        for (ours, other) in comparisons() {
            let (Some(own), Some(them)) = (find(ours), find(other)) else { continue };
            let ratio = own.ratio(them);
            let _ = writeln!(
                text,
                "{} is {:.2} ({:.2}..{:.2}) times as fast as {}",
                ours.title(),
                ratio.median,
                ratio.lowest,
                ratio.highest,
                other.title()
            );
            ratios.push(json!({
                "between": ends.name(), "name": ours.name(), "than": other.name(), "times": ratio.json()
            }));
        }
    }
    if let Some(warning) = load.warning() {
        let _ = writeln!(text, "\n{warning}");
    }
    let json = json!({
        "machine": load.json(), "rounds": ROUNDS, "flows": figures, "ratios": ratios
    });
    Figures { text, json }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let odd = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!(odd, Spread { median: 2.0, lowest: 1.0, highest: 3.0 });
        let even = Spread::of([4.0, 1.0, 2.0, 3.0].into_iter());
        assert_eq!(even, Spread { median: 2.5, lowest: 1.0, highest: 4.0 });
        assert!(Spread::of([].into_iter()).median.is_nan());
    }
}
