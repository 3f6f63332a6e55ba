//! A hundred thousand SAs in the hands of an administrator: what `ipseckey` takes for them, built for release.

use super::{Figures, Part, tools};
use crate::build_ebpf;
use crate::net::{Host, Lab};
use crate::suite::Suite;
use crate::workspace::{cargo, root, run_shown};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// What is measured here.
pub(super) const PARTS: &[Part] = &[Part {
    name: "sadb",
    about: "100,000 SAs: add from a file, dump, save, get, flush, monitor, memory (about 30 s and a release build)",
    run,
}];

/// SAs, half of them in each direction.
const SAS: u32 = 100_000;

/// Transforms, with what ipseckey is told of each; the first one is that of everything else.
const TRANSFORMS: [(&str, &str); 3] = [
    ("ChaCha20-Poly1305", "encr_alg chacha20-poly1305 encrkey KEY36"),
    ("AES-128-CBC, HMAC-SHA2-256", "encr_alg aes encrkey KEY16 auth_alg sha256 authkey KEY32"),
    ("AES-128-GCM", "encr_alg aes-gcm encrkey KEY20"),
];

/// Messages a second that a listener is offered, in portions.
const PACE: u32 = 10_000;
const PORTION: u32 = 1_000;

fn run() -> Result<Figures> {
    build_ebpf::run_quietly()?;
    run_shown(cargo().args(["build", "--quiet", "-p", "ipseckey"]))?;
    run_shown(cargo().args(["build", "--quiet", "--release", "-p", "ipseckey", "--bin", "ipseckey"]))?;
    let load = tools::load();
    let bench = Bench::new()?;
    let mut text = format!("{SAS} SAs, half of them in each direction. {}.\n", load.machine());
    text.extend(load.warning().map(|warning| warning + "\n"));
    let mut figures = Map::new();
    let mut row = |text: &mut String, name: &str, value: f64, unit: &str, about: &str| {
        let _ = writeln!(text, "{name:<34} {value:>10.1} {unit:<10} {about}");
        figures.insert(name.trim().to_owned(), json!({ "value": value, "unit": unit }));
    };
    for (name, words) in TRANSFORMS.into_iter().rev() {
        bench.ipseckey(&["flush"])?;
        let file = bench.file("sas", 0..SAS, words)?;
        let before = processor_seconds()?;
        let time = bench.ipseckey(&["-f", &file])?;
        let busy = (processor_seconds()? - before) / f64::from(SAS);
        row(&mut text, &format!("add, {name}"), f64::from(SAS) / time.as_secs_f64(), "SAs/s", "one file");
        row(&mut text, &format!("  cost, {name}"), busy * 1e6, "us", "processor time for each");
    }
    bench.ipseckey(&["flush"])?;
    let slowest = bench.beside(&["-f", &bench.file("sas", 0..SAS, TRANSFORMS[0].1)?])?;
    row(&mut text, "wait while others add", milliseconds(slowest), "ms", "slowest get of another process");
    let found = bench.lines("dump", &["-n", "dump"])?;
    ensure!(found.1.matches("Base message").count() == SAS as usize, "dump does not show all");
    row(&mut text, "dump", milliseconds(found.0), "ms", "-n, into a file");
    let (time, json) = bench.lines("json", &["--json", "dump"])?;
    ensure!(json.matches("\"spi\"").count() == SAS as usize, "dump does not show all");
    row(&mut text, "dump --json", milliseconds(time), "ms", "");
    row(&mut text, "dump: memory", bench.peak(&["-n", "dump"])? / 1024.0, "MiB", "resident, as seen every 5 ms");
    let saved = bench.path("saved");
    row(&mut text, "save", milliseconds(bench.ipseckey(&["-s", &saved])?), "ms", "");
    let get = |number: u32| {
        let (spi, to) = (spi(number).to_string(), ends(number)[1].clone());
        bench.ipseckey(&["-n", "get", "esp", "spi", &spi, "dst", &to])
    };
    let before = processor_seconds()?;
    let mut times = (0..40).map(|index| get(index * (SAS / 40))).collect::<Result<Vec<_>>>()?;
    times.sort();
    row(
        &mut text,
        "get",
        milliseconds(times.get(times.len() / 2).copied().unwrap_or_default()),
        "ms",
        "median of 40, the whole command",
    );
    row(
        &mut text,
        "  cost of get",
        (processor_seconds()? - before) * 1e3 / 40.0,
        "ms",
        "processor time, with its start",
    );
    let one = bench.file("one", SAS..SAS + 1, TRANSFORMS[0].1)?;
    row(&mut text, "add one more", milliseconds(bench.ipseckey(&["-f", &one])?), "ms", "the whole command");
    let before = processor_seconds()?;
    row(&mut text, "flush", milliseconds(bench.ipseckey(&["flush"])?), "ms", "");
    row(&mut text, "  cost of flush", (processor_seconds()? - before) * 1e3, "ms", "processor time");
    row(&mut text, "load what was saved", milliseconds(bench.ipseckey(&["-f", &saved])?), "ms", "");
    row(&mut text, "flush again", milliseconds(bench.ipseckey(&["flush"])?), "ms", "");
    for (name, pace) in [("monitor, all at once", None), ("monitor, 10,000 a second", Some(PACE))] {
        let heard = bench.listen(pace)?;
        row(&mut text, name, heard.messages.into(), "messages", "heard, -n, into a file");
        row(&mut text, &format!("{name}: missed"), heard.missed.into(), "messages", "said to be lost");
        row(&mut text, &format!("{name}: rate"), heard.rate, "a second", "offered");
    }
    let maps = bench.map_memory()?;
    row(&mut text, "maps", maps / f64::from(1 << 20), "MiB", "all of the instance, by the kernel's count");
    row(&mut text, "maps for each SA", maps / f64::from(SAS), "octets", "the rest of the maps is in it");
    text += METHOD;
    let mut json = Value::Object(figures);
    if let Some(members) = json.as_object_mut() {
        members.insert("machine".to_owned(), load.json());
        members.insert("method".to_owned(), json!(METHOD.trim()));
    }
    Ok(Figures { text, json })
}

const METHOD: &str = "
Each figure is a run of ipseckey from start to end, built for release, on an instance of its own with room for as many SAs
in a network namespace; files are in the directory of the lab. No ip xfrm stands beside it: its rate would be that of a
kernel with xfrm ESP, which the kernel that this suite is for does not need and the one that was measured on has not.
";

struct Bench {
    suite: Suite,
    program: PathBuf,
    lab: Lab,
}

/// What a listener heard.
struct Heard {
    messages: u32,
    missed: u32,
    rate: f64,
}

fn spi(number: u32) -> u32 {
    0x1000 + number
}

/// Source and destination.
fn ends(number: u32) -> [String; 2] {
    let [_, a, b, c] = number.to_be_bytes();
    let (here, there) = ("192.0.2.1".to_owned(), format!("10.{a}.{b}.{c}"));
    if number.is_multiple_of(2) { [here, there] } else { [there, here] }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Bench {
    fn new() -> Result<Self> {
        let lab = Lab::new("benchsadb")?;
        let (a, b): (Host, Host) = (lab.host("a")?, lab.host("b")?);
        lab.join((&a, "wan0"), (&b, "wan0"))?;
        a.ip(&["address add 192.0.2.1/24 dev wan0"])?;
        let suite = Suite::attach(&lab, &a, &["--capacity", &(SAS + 1).to_string(), "wan0"])?;
        Ok(Self { suite, program: root().join("target/release/ipseckey"), lab })
    }

    fn path(&self, name: &str) -> String {
        self.lab.directory().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.suite.host().command(&self.program);
        command.env("IPSEC_INSTANCE", self.suite.instance()).args(arguments);
        command
    }

    /// Runs ipseckey to its end.
    fn ipseckey(&self, arguments: &[&str]) -> Result<Duration> {
        self.lines("out", arguments).map(|(time, _)| time)
    }

    /// Runs ipseckey to its end, and gives what it printed.
    fn lines(&self, name: &str, arguments: &[&str]) -> Result<(Duration, String)> {
        let path = self.path(name);
        let mut command = self.command(arguments);
        command.stdout(File::create(&path)?);
        let start = Instant::now();
        let status = command.status()?;
        let time = start.elapsed();
        let printed = fs::read_to_string(&path)?;
        ensure!(status.success(), "ipseckey {} ended with {status}: {printed:.400}", arguments.join(" "));
        Ok((time, printed))
    }

    /// Kibibytes that ipseckey had resident at its peak, before it ended.
    fn peak(&self, arguments: &[&str]) -> Result<f64> {
        let mut command = self.command(arguments);
        command.stdout(File::create(self.path("out"))?);
        let mut child = command.spawn()?;
        let mut peak = 0.0_f64;
        while child.try_wait()?.is_none() {
            // It may end in between.
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak = peak.max(line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0.0));
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(peak)
    }

    /// Runs ipseckey to its end while another one asks for an SA again and again; gives the slowest
    /// of the others.
    fn beside(&self, arguments: &[&str]) -> Result<Duration> {
        let mut command = self.command(arguments);
        command.stdout(File::create(self.path("out"))?);
        let mut child = command.spawn()?;
        let mut slowest = Duration::ZERO;
        let (name, to) = (spi(1).to_string(), ends(1)[1].clone());
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "ipseckey {} ended with {status}", arguments.join(" "));
                return Ok(slowest);
            }
            let mut get = self.command(&["-n", "get", "esp", "spi", &name, "dst", &to]);
            let asked = Instant::now();
            // It may not be there yet.
            get.output()?;
            slowest = slowest.max(asked.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A file of add commands.
    fn file(&self, name: &str, numbers: std::ops::Range<u32>, transform: &str) -> Result<String> {
        let mut text = String::new();
        for number in numbers {
            let key = |octets: usize| format!("{:08x}", number + 1).repeat(octets / 4);
            let mut transform = transform.to_owned();
            for octets in [16, 20, 32, 36] {
                transform = transform.replace(&format!("KEY{octets}"), &key(octets));
            }
            let ([from, to], spi) = (ends(number), spi(number));
            let direction = if number.is_multiple_of(2) { "outbound" } else { "inbound" };
            writeln!(text, "add esp spi {spi:#x} src {from} dst {to} {direction} {transform}")?;
        }
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// Starts a listener, adds every SA, at once or so many a second, and asks it what it heard.
    fn listen(&self, pace: Option<u32>) -> Result<Heard> {
        let portion = pace.map_or(SAS, |_| PORTION);
        let count = pace.map_or(SAS, |pace| 5 * pace);
        let files = (0..count / portion)
            .map(|part| self.file(&format!("part{part}"), part * portion..(part + 1) * portion, TRANSFORMS[0].1))
            .collect::<Result<Vec<_>>>()?;
        let log = PathBuf::from(self.path("heard"));
        let monitor = self.suite.host().start(self.command(&["-n", "monitor"]), &log)?;
        monitor.wait_for("monitoring", Duration::from_secs(10))?;
        // Those are not counted, and the last of them says that it listens.
        while !fs::read_to_string(&log)?.contains("FLUSH") {
            self.ipseckey(&["flush", "ah"])?;
        }
        let start = Instant::now();
        for (number, file) in (1..).zip(&files) {
            self.ipseckey(&["-f", file])?;
            let due = pace.map_or(Duration::ZERO, |pace| Duration::from_secs(1) * portion / pace) * number;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let rate = f64::from(count) / start.elapsed().as_secs_f64();
        // The last message of all, which comes when there is room for one again.
        let text = loop {
            self.ipseckey(&["flush", "esp"])?;
            std::thread::sleep(Duration::from_millis(200));
            let text = fs::read_to_string(&log)?;
            if text.contains("type FLUSH, SA type ESP") {
                break text;
            }
            ensure!(start.elapsed() < Duration::from_secs(300), "the monitor does not come to an end");
        };
        monitor.terminate()?;
        let lost =
            text.lines().filter_map(|line| line.strip_suffix(" messages were lost; dump shows what is there now."));
        let missed = lost.filter_map(|count| count.parse::<u32>().ok()).sum();
        Ok(Heard { messages: text.matches("type ADD,").count() as u32, missed, rate })
    }

    /// Octets of all maps.
    fn map_memory(&self) -> Result<f64> {
        let text = self.suite.tool("espadm", &["--json", "show"])?;
        let status: Value = serde_json::from_str(&text)?;
        let maps = status.get("maps").and_then(Value::as_array).context("espadm shows no maps")?;
        Ok(maps.iter().filter_map(|map| map.get("bytes")?.as_f64()).sum())
    }
}

/// Time that the processes which ended have had, in user space and in the kernel.
fn processor_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').context("/proc/self/stat has no name")?;
    // Fields 16 and 17 of proc(5), in hundredths of a second; the third is the first behind the name.
    let ticks = fields.split_whitespace().skip(13).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}
