//! `espadm`: the data path on interfaces and its replacement by another version, tunnels, statistics and events.

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipseckey::path::properties::{self, Properties};
use ipseckey::path::{events, sd_notify, tables};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sadb_maps::host::Instance;
use sadb_maps::host::counters::Counters;
use sadb_maps::host::events::EventLease;
use sadb_maps::host::features::{self, Feature};
use sadb_maps::host::loader::{AttachOptions, ExitChoice, Loader, XdpChoice};
use sadb_maps::host::slow::{self, SlowPath, Told};
use sadb_maps::host::status::Status;
use sadb_maps::host::tunnels::{Tunnel, Tunnels};
use sadb_maps::host::upgrade::UpgradeOptions;
use sadb_maps::host::watch::{Seen, Wanted, Watch};
use serde::Serialize;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

/// Load the IPsec data path onto interfaces, define tunnels, show statistics and events.
#[derive(Parser)]
#[command(name = "espadm", version, max_term_width = 100)]
struct Cli {
    /// Instance of the data path
    #[arg(long, value_name = "NAME", global = true)]
    instance: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Attach interfaces; without a list every Ethernet interface that is no port of another
    Attach(Attach),
    /// Attach interfaces as they come, until killed; also before there is any
    Watch(WatchArguments),
    /// Detach interfaces; what they carry then goes unprotected and unchecked
    Detach {
        /// Interfaces
        #[arg(value_name = "INTERFACE", required_unless_present = "all")]
        interfaces: Vec<String>,
        /// Detach every interface and remove the instance with its SAs and policy
        #[arg(long, conflicts_with = "interfaces")]
        all: bool,
    },
    /// Replace the programs of an attached instance by those of this version; no SA and no packet is lost
    Upgrade {
        /// Replace them even when they are the same
        #[arg(long)]
        force: bool,
        /// Number of SAs to make room for; those that are there move
        #[arg(long, value_name = "N")]
        capacity: Option<u32>,
    },
    /// Show what is attached
    Show {
        /// Fail when an interface is not attached, or cannot be
        #[arg(long)]
        strict: bool,
        /// Show memory by map and what the verifier counted
        #[arg(long)]
        all: bool,
    },
    /// Show what this kernel has of what the data path needs
    Features,
    /// Show the counters of the data path
    Stats {
        /// Show counters that are zero too
        #[arg(long)]
        all: bool,
    },
    /// Define the ends that 'tunnel NAME' in a policy file stands for
    #[command(subcommand)]
    Tunnel(TunnelVerb),
    /// Print ACQUIRE, EXPIRE and MOVED events as they come, and pass them on to daemons and monitors
    Events,
    /// Deal with the packets that the data path cannot deal with one by one: fragments of sealed packets
    SlowPath,
}

#[derive(Args)]
struct Attach {
    /// Interfaces
    #[arg(value_name = "INTERFACE")]
    interfaces: Vec<String>,
    #[command(flatten)]
    how: How,
    /// Take the gateway shortcut from this interface
    #[arg(long, value_name = "INTERFACE", conflicts_with = "lan")]
    no_lan: Vec<String>,
    /// Refuse when an interface would stay unattached
    #[arg(long)]
    strict: bool,
}

#[derive(Args)]
struct WatchArguments {
    /// Interfaces: names, in which * stands for any characters and ? for one; without, every Ethernet interface that is no
    /// port of another
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    #[command(flatten)]
    how: How,
    /// Take down what is up and not attached
    #[arg(long)]
    strict: bool,
}

#[derive(Args)]
struct How {
    /// How XDP runs: in the driver, on the socket buffer, or in the driver where that works
    #[arg(long, value_enum, default_value = "auto")]
    mode: Mode,
    /// How sealed packets leave: through the neighbour layer, or by XDP redirect
    #[arg(long, value_enum, default_value = "auto")]
    exit: Exit,
    /// Attach this interface too, with the gateway shortcut: packets of hosts behind it go into tunnels, and back, past
    /// the stack and its packet filter
    #[arg(long, value_name = "INTERFACE")]
    lan: Vec<String>,
    /// Number of SAs to make room for
    #[arg(long, value_name = "N")]
    capacity: Option<u32>,
    /// skb mark of packets that came out of tunnel-mode SAs
    #[arg(long, value_name = "N", value_parser = mark)]
    mark_tunnel: Option<u32>,
    /// skb mark of packets that came out of transport-mode SAs
    #[arg(long, value_name = "N", value_parser = mark)]
    mark_transport: Option<u32>,
    /// Seconds in which further packets of a flow raise no second ACQUIRE
    #[arg(long, value_name = "SECONDS")]
    acquire_hold: Option<u32>,
}

impl How {
    fn options(&self) -> AttachOptions {
        let defaults = AttachOptions::default();
        AttachOptions {
            capacity: self.capacity,
            xdp: match self.mode {
                Mode::Auto => XdpChoice::Auto,
                Mode::Native => XdpChoice::Native,
                Mode::Generic => XdpChoice::Generic,
            },
            exit: match self.exit {
                Exit::Auto => ExitChoice::Auto,
                Exit::Neighbour => ExitChoice::Neighbour,
                Exit::Xdp => ExitChoice::Xdp,
            },
            mark_tunnel_in: self.mark_tunnel.unwrap_or(defaults.mark_tunnel_in),
            mark_transport_in: self.mark_transport.unwrap_or(defaults.mark_transport_in),
            acquire_hold: self.acquire_hold.unwrap_or(defaults.acquire_hold),
            lan: self.lan.clone(),
            no_lan: vec![],
            object: None,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Auto,
    Native,
    Generic,
}

#[derive(Clone, Copy, ValueEnum)]
enum Exit {
    Auto,
    Neighbour,
    Xdp,
}

#[derive(Subcommand)]
enum TunnelVerb {
    /// Define a tunnel
    Create {
        /// Name, as policy files write it
        name: String,
        /// Outer addresses, and what outer headers say: local=ADDRESS,remote=ADDRESS[,dscp=copy|0..63]
        /// [,df=clear|copy|set][,ttl=1..255][,ecn=normal|compatible]
        #[arg(short = 'a', value_name = "PROPERTIES", value_parser = properties::parse)]
        properties: Properties,
    },
    /// List the tunnels
    List,
    /// Remove a tunnel; what its rules cover is dropped from then on
    Delete {
        /// Name
        name: String,
    },
}

fn mark(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("'{text}' is no mark: a number of 32 bits, decimal or with 0x"))
}

fn main() -> ExitCode {
    if let Some(code) = shell_completions::print_if_asked::<Cli>("espadm") {
        return code;
    }
    match run(&Cli::parse()) {
        Ok(code) => code,
        // Whoever read the listing has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("espadm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if !nix::unistd::getuid().is_root() {
        bail!("only root may manage the data path; run it with sudo or as root");
    }
    let instance = Instance::from_env_or(cli.instance.as_deref())?;
    match &cli.command {
        Verb::Attach(options) => attach(&instance, options, cli.json),
        Verb::Watch(options) => watch(&instance, options, cli.json),
        Verb::Detach { all: true, .. } => {
            Loader::detach_all(&instance)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Detach { interfaces, .. } => {
            Loader::detach(&instance, &names(interfaces))?;
            warn_of_unjudged(&Status::read(&instance)?);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Upgrade { force, capacity } => {
            let options = UpgradeOptions { force: *force, capacity: *capacity, object: None };
            let report = Loader::upgrade(&instance, &options)?;
            print(cli.json, &report, || tables::upgraded(&report))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Show { strict, all } => {
            let status = Status::read(&instance)?;
            print(cli.json, &status, || tables::status(&status, *all))?;
            let loose = status.attached.then(|| tables::unjudged_warning(&status)).flatten();
            if let Some(text) = &loose {
                eprintln!("espadm: warning: {text}");
            }
            let bad = *strict && (loose.is_some() || !status.attached || !status.pair);
            Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Verb::Features => {
            let found = features::probe();
            print(cli.json, &found, || tables::features(&found))?;
            let lacking = found.iter().any(Feature::is_lacking);
            Ok(if lacking { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Verb::Stats { all } => {
            let values = Counters::open(&instance)?.all()?;
            print(cli.json, &tables::counters_by_name(&values), || tables::counters(&values, *all))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Tunnel(verb) => tunnel(&instance, verb, cli.json),
        Verb::Events => follow(&instance, cli.json),
        Verb::SlowPath => slow_path(&instance),
    }
}

fn warn_of_unjudged(status: &Status) {
    if let Some(text) = tables::unjudged_warning(status) {
        eprintln!("espadm: warning: {text}");
    }
}

fn names(interfaces: &[String]) -> Vec<&str> {
    interfaces.iter().map(String::as_str).collect()
}

fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, value)?;
        return writeln!(out);
    }
    out.write_all(text().as_bytes())
}

fn attach(instance: &Instance, options: &Attach, json: bool) -> anyhow::Result<ExitCode> {
    if options.strict {
        let Status { unattached: mut left, unattachable, .. } = Status::read(instance)?;
        let listed = |name: &String| options.interfaces.contains(name) || options.how.lan.contains(name);
        left.retain(|name| !options.interfaces.is_empty() && !listed(name));
        if !left.is_empty() {
            bail!("--strict: {} would stay unattached; name them too, or name none", left.join(" "));
        }
        if !unattachable.is_empty() {
            bail!("--strict: {} cannot be attached and is up; take it down first", unattachable.join(" "));
        }
    }
    let chosen = AttachOptions { no_lan: options.no_lan.clone(), ..options.how.options() };
    let report = Loader::attach(instance, &names(&options.interfaces), &chosen)?;
    print(json, &report, || tables::attached(&report))?;
    let How { mark_tunnel, mark_transport, acquire_hold, .. } = &options.how;
    let for_the_load = mark_tunnel.is_some() || mark_transport.is_some() || acquire_hold.is_some();
    if for_the_load && !report.loaded {
        eprintln!(
            "espadm: warning: the data path was loaded before; marks and --acquire-hold are those of then. \
             'espadm detach --all' first to change them, which deletes SAs and policy"
        );
    }
    warn_of_unjudged(&Status::read(instance)?);
    Ok(ExitCode::SUCCESS)
}

/// Attaches what comes until the instance is detached, or this is killed.
fn watch(instance: &Instance, options: &WatchArguments, json: bool) -> anyhow::Result<ExitCode> {
    /// Time before another try, when the kernel or another tool was in the way.
    const RETRY: Duration = Duration::from_secs(1);
    let wanted = Wanted { names: options.patterns.clone(), strict: options.strict };
    let (mut watch, seen) = Watch::begin(instance, wanted, options.how.options())?;
    let say = |seen: &[Seen]| -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        for one in seen {
            if json {
                serde_json::to_writer(&mut out, one)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", tables::seen(one))?;
            }
        }
        Ok(out.flush()?)
    };
    say(&seen)?;
    sd_notify::ready().context("telling the service manager")?;
    loop {
        match watch.wait() {
            Ok(seen) => say(&seen)?,
            Err(error) if !instance.is_attached() => {
                eprintln!("espadm: {error}; the watch is over");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => {
                eprintln!("espadm: warning: {error}; trying again");
                std::thread::sleep(RETRY);
            }
        }
    }
}

fn tunnel(instance: &Instance, verb: &TunnelVerb, json: bool) -> anyhow::Result<ExitCode> {
    let tunnels = Tunnels::open(instance)?;
    match verb {
        TunnelVerb::Create { name, properties: Properties { local, remote, outer } } => {
            tunnels.create(Tunnel { outer: *outer, ..Tunnel::new(name, *local, *remote) })?;
        }
        TunnelVerb::List => {
            let all = tunnels.list()?;
            print(json, &all, || tables::tunnels(&all))?;
        }
        TunnelVerb::Delete { name } => tunnels.delete(name)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes what the data path hands over until it is told to end. Waits while another process does.
fn slow_path(instance: &Instance) -> anyhow::Result<ExitCode> {
    // What cannot work is said at once, and not only to whoever reads what is said later.
    drop(SlowPath::acquire(instance)?);
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("signals cannot be blocked")?;
    let stop = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("signals cannot be waited for")?;
    slow::serve(instance, stop.as_fd(), |told| match told {
        Told::Serving => eprintln!("espadm: taking packets from the data path"),
        Told::Waiting => {
            eprintln!("espadm: another process takes the packets, most likely a key management daemon; waiting for it")
        }
        Told::Failed(error) => eprintln!("espadm: no packets can be taken, trying again: {error}"),
    });
    Ok(ExitCode::SUCCESS)
}

/// Prints events and passes them on until it is killed. Waits for the lease while another process has it.
fn follow(instance: &Instance, json: bool) -> anyhow::Result<ExitCode> {
    /// Time between two tries to get the lease.
    const RETRY: Duration = Duration::from_secs(1);
    let mut said = false;
    let mut out = io::stdout().lock();
    loop {
        match EventLease::acquire(instance)? {
            Some(lease) => {
                follow_one(instance, lease, json, &mut out)?;
                eprintln!("espadm: the instance was detached or attached anew");
            }
            None if !said => {
                eprintln!(
                    "espadm: another process reads the events, most likely a key management daemon; waiting for it"
                );
                said = true;
            }
            None => std::thread::sleep(RETRY),
        }
    }
}

/// Prints events as long as they come out of the ring of this lease.
fn follow_one(instance: &Instance, mut lease: EventLease, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    /// Milliseconds between two looks whether the programs still write to this ring.
    const LOOK: u16 = 1000;
    let mut relay = events::Relay::open(instance)?;
    while lease.is_current() {
        while let Some(event) = lease.next_event() {
            // What others miss they find in the maps; what is printed here must not stop for it.
            if let Err(error) = relay.pass_on(&event) {
                eprintln!("espadm: warning: an event was not passed on: {error}");
            }
            if json {
                serde_json::to_writer(&mut *out, &events::JsonEvent::from(&event))?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", events::line(&event))?;
            }
        }
        out.flush()?;
        let mut wait = [PollFd::new(lease.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, PollTimeout::from(LOOK)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
    Ok(())
}
