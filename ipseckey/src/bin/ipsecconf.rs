//! `ipsecconf`: the policy of this host. Options here, everything else in the library.

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser, error::ErrorKind};
use ipseckey::names::{Names, SystemNames};
use ipseckey::path::tables;
use ipseckey::policy::load::{self, LoadError, Part, Policy};
use ipseckey::policy::report::Report;
use ipseckey::policy::{self, PolicyFile, Warning, cache, listing};
use nix::sys::signal::{SigSet, Signal};
use sadb_maps::host::{Instance, Status};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

/// Configure which packets IPsec protects, passes or drops.
///
/// Without options the loaded entries are printed as they were typed.
#[derive(Parser)]
#[command(name = "ipsecconf", version, max_term_width = 100)]
struct Cli {
    /// Add the rules of FILE ('-' is standard input); with -f or -F replace, in one step
    #[arg(short = 'a', value_name = "FILE", group = "verb")]
    add: Option<String>,
    /// Check FILE; the policy is not touched
    #[arg(short = 'c', value_name = "FILE", group = "verb", conflicts_with_all = ["flush", "flush_all"])]
    check: Option<String>,
    /// Delete the entry INDEX, or TUNNEL,INDEX
    #[arg(short = 'd', value_name = "INDEX", group = "verb", conflicts_with_all = ["flush", "flush_all"])]
    delete: Option<String>,
    /// Remove the entries of FILE from the policy
    #[arg(short = 'r', value_name = "FILE", group = "verb", conflicts_with_all = ["flush", "flush_all"])]
    remove: Option<String>,
    /// List the rules in force in the order in which they are compared
    #[arg(short = 'l', group = "verb", conflicts_with_all = ["flush", "flush_all"])]
    list: bool,
    /// List the rules in force of this host and of every tunnel
    #[arg(short = 'L', group = "verb", conflicts_with_all = ["flush", "flush_all"])]
    list_all: bool,
    /// Delete the host rules, or those of the tunnel given with -i
    #[arg(short = 'f', conflicts_with = "flush_all")]
    flush: bool,
    /// Delete every rule
    #[arg(short = 'F')]
    flush_all: bool,
    /// With -d, -f, -l or -L: the tunnel
    #[arg(short = 'i', value_name = "TUNNEL", conflicts_with_all = ["flush_all", "check", "remove"])]
    tunnel: Option<String>,
    /// With -l or -L: print numbers instead of names
    #[arg(short = 'n')]
    numeric: bool,
    /// Print no warnings
    #[arg(short = 'q')]
    quiet: bool,
    /// With -a: refuse when an interface is not attached, or cannot be
    #[arg(long)]
    strict: bool,
    /// Print the entries, the listing of -l or -L, or what became of a file, as JSON
    #[arg(long, conflicts_with = "delete")]
    json: bool,
    /// Instance of the data path
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

impl Cli {
    /// What clap cannot say: options that would have no effect.
    fn checked(self) -> Result<Self, clap::Error> {
        let lists = self.list || self.list_all;
        let nothing_else = if self.tunnel.is_some() && !(lists || self.flush || self.delete.is_some()) {
            "-i goes with -d, -f, -l and -L"
        } else if self.numeric && !lists {
            "-n goes with -l and -L"
        } else if self.strict && self.add.is_none() {
            "--strict goes with -a"
        } else if self.json && self.add.is_none() && (self.flush || self.flush_all) {
            "--json has nothing to print of a flush"
        } else {
            return Ok(self);
        };
        Err(Self::command().error(ErrorKind::ArgumentConflict, nothing_else))
    }

    /// The part of the policy that -f, -F, -l and -L are about.
    fn part(&self) -> Part {
        match &self.tunnel {
            Some(tunnel) => Part::Tunnel(tunnel.clone()),
            None if self.flush_all || self.list_all => Part::All,
            None => Part::Host,
        }
    }
}

/// How a method of a service ends (smf_method(7)): it cannot go on, its file is bad, it lacks a permission. Each keeps the
/// service manager from trying again.
const SERVICE_FATAL: u8 = 95;
const SERVICE_CONFIG: u8 = 96;
const SERVICE_PERMISSION: u8 = 100;

/// Made by systemd while the unit of the policy is active.
const UNIT: &str = "/run/systemd/units/invocation:ipsec-policy.service";

/// Whether a service manager runs this as a method.
fn is_service() -> bool {
    std::env::var_os("SMF_FMRI").is_some()
}

/// The exit code of a failure.
fn failure(service: u8) -> ExitCode {
    if is_service() { ExitCode::from(service) } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    if let Some(code) = shell_completions::print_if_asked::<Cli>("ipsecconf") {
        return code;
    }
    let cli = match Cli::try_parse().and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            // A service log is no place for usage text.
            if !failed || !is_service() {
                let _ = error.print();
            }
            return if failed { failure(SERVICE_FATAL) } else { ExitCode::SUCCESS };
        }
    };
    if let Some(fault) = ipseckey::algorithms::use_table(cli.instance.as_deref()) {
        eprintln!("ipsecconf: warning: no algorithm may be named: {fault}");
    }
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            let kind = error.chain().find_map(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind);
            // Whoever read the listing has seen enough.
            if kind == Some(io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            eprintln!("ipsecconf: {error:#}");
            failure(if kind == Some(io::ErrorKind::PermissionDenied) { SERVICE_PERMISSION } else { SERVICE_FATAL })
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Some(path) = &cli.check {
        return check(path, cli);
    }
    if !nix::unistd::getuid().is_root() {
        eprintln!("ipsecconf: only root may see or change the policy; run it with sudo or as root");
        return Ok(failure(SERVICE_PERMISSION));
    }
    let instance = Instance::from_env_or(cli.instance.as_deref())?;
    let lists = cli.list || cli.list_all;
    let changes = cli.add.is_some() || cli.remove.is_some() || cli.delete.is_some() || cli.flush || cli.flush_all;
    if changes && !cli.quiet && !is_service() && Path::new(UNIT).symlink_metadata().is_ok() {
        eprintln!(
            "ipsecconf: warning: the service ipsec-policy is active and loads its own file when it is reloaded; stop it \
             first, or change the file and reload it"
        );
    }
    if let Some(path) = &cli.add {
        return add(path, &instance, cli);
    }
    if let Some(path) = &cli.remove {
        return remove(path, &instance, cli);
    }
    let mut policy = Policy::open(&instance)?;
    finish_before_interrupts()?;
    if lists {
        list(&mut policy, cli)?;
    } else if cli.flush || cli.flush_all {
        policy.flush(&cli.part())?;
    } else if let Some(index) = &cli.delete {
        let (tunnel, number) = match (index.split_once(','), cli.tunnel.as_deref()) {
            (Some(_), Some(_)) => bail!("the tunnel is given twice: write -d TUNNEL,INDEX or -d INDEX -i TUNNEL"),
            (Some((tunnel, number)), None) => (Some(tunnel), number),
            (None, tunnel) => (tunnel, index.as_str()),
        };
        let number = number.parse().with_context(|| format!("'{number}' is no index"))?;
        policy.delete(number, tunnel)?;
    } else if cli.json {
        print_json(&policy.entries()?)?;
    } else {
        io::stdout().write_all(cache::format(&policy.entries()?).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A change that is under way is finished before an interrupt is acted on.
fn finish_before_interrupts() -> nix::Result<()> {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>().thread_block()
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}

/// A file that was read, and what is said about it.
struct Input {
    name: String,
    file: PolicyFile,
    report: Report,
}

impl Input {
    /// Reads and parses; `-` is standard input.
    fn read(path: &str, quiet: bool) -> anyhow::Result<Self> {
        /// Far above what the limits of lines and rules allow.
        const MAX_FILE: u64 = 16 << 20;
        let (name, input): (_, Box<dyn Read>) = match path {
            "-" => ("<stdin>", Box::new(io::stdin())),
            _ => (path, Box::new(std::fs::File::open(path).with_context(|| path.to_owned())?)),
        };
        let mut text = Vec::new();
        input.take(MAX_FILE + 1).read_to_end(&mut text).with_context(|| name.to_owned())?;
        // Part of a policy is not the policy.
        if text.len() as u64 > MAX_FILE {
            bail!("{name} is too big: a policy file has at most {MAX_FILE} octets");
        }
        let file = policy::parse(&text, &SystemNames);
        let report = Report::of(&file, quiet);
        Ok(Self { name: name.to_owned(), file, report })
    }

    /// Whether the parser found nothing wrong.
    fn is_good(&self) -> bool {
        self.file.problems.is_empty()
    }

    /// Says what was found and how it ends: with `added` and `removed` rules, or because of errors without a change.
    fn finish(&self, cli: &Cli, added: usize, removed: usize) -> anyhow::Result<ExitCode> {
        let (name, bad) = (&self.name, self.report.bad());
        if cli.json {
            print_json(&self.report.json(name, self.file.entries.len() + self.file.malformed.len(), added, removed))?;
        } else {
            self.report.text(name, &mut io::stderr().lock())?;
            if bad > 0 {
                let rules = if bad == 1 { "rule" } else { "rules" };
                eprintln!("ipsecconf: {name}: {bad} bad {rules}; nothing was changed");
            } else if self.file.entries.is_empty() {
                println!("ipsecconf: {name} has no rules");
            }
        }
        Ok(if bad > 0 { failure(SERVICE_CONFIG) } else { ExitCode::SUCCESS })
    }

    /// Takes what a load found; an error that is not about the file is handed back.
    fn loaded<T>(&mut self, result: Result<T, LoadError>) -> anyhow::Result<Option<T>> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(LoadError::Bad(problems, malformed)) => {
                self.report.add(vec![], problems, malformed);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn check(path: &str, cli: &Cli) -> anyhow::Result<ExitCode> {
    let mut input = Input::read(path, cli.quiet)?;
    if input.is_good()
        && let Some(found) = input.loaded(load::check(&input.file))?
        && !cli.quiet
    {
        input.report.add(found.warnings, vec![], vec![]);
    }
    let code = input.finish(cli, 0, 0)?;
    if code == ExitCode::SUCCESS && !cli.json {
        println!("ipsecconf: no errors in {}", input.name);
        println!("ipsecconf: IPsec policy was not modified.");
    }
    Ok(code)
}

fn add(path: &str, instance: &Instance, cli: &Cli) -> anyhow::Result<ExitCode> {
    if is_service() && path != "-" && !Path::new(path).exists() {
        println!("ipsecconf: {path} does not exist; no policy is loaded");
        return Ok(ExitCode::SUCCESS);
    }
    let mut input = Input::read(path, cli.quiet)?;
    if !input.is_good() {
        return input.finish(cli, 0, 0);
    }
    let warn = |text: String| {
        if !cli.quiet {
            eprintln!("ipsecconf: warning: {text}");
        }
    };
    if let Some(meta) = std::fs::metadata(path).ok().filter(|m| m.is_file())
        && (meta.uid() != 0 || meta.mode() & 0o022 != 0)
    {
        warn(format!("{path}: others than root can write it, and so decide what is protected; chown root, chmod go-w"));
    }
    let mut policy = Policy::open(instance)?;
    // The policy is for the whole host; an interface without the data path does not obey it.
    match Status::read(instance).map(|status| tables::unjudged_warning(&status)) {
        Ok(Some(text)) if cli.strict => bail!("{text}"),
        Ok(Some(text)) => warn(text),
        Err(error) if cli.strict => return Err(error.into()),
        _ => {}
    }
    finish_before_interrupts()?;
    let part = (cli.flush || cli.flush_all).then(|| cli.part());
    let loaded = input.loaded(policy.add(&input.file, part.as_ref()))?.unwrap_or_default();
    if !cli.quiet {
        input.report.add(loaded.warnings, vec![], vec![]);
    }
    input.finish(cli, loaded.added, 0)
}

fn remove(path: &str, instance: &Instance, cli: &Cli) -> anyhow::Result<ExitCode> {
    let mut input = Input::read(path, cli.quiet)?;
    if !input.is_good() {
        return input.finish(cli, 0, 0);
    }
    let mut policy = Policy::open(instance)?;
    finish_before_interrupts()?;
    let removed = policy.remove(&input.file)?;
    if !cli.quiet {
        let text = "the policy has no entry with these words; it is not removed";
        let missing = removed.missing.iter().map(|entry| Warning { at: entry.at, text: text.to_owned() });
        input.report.add(missing.collect(), vec![], vec![]);
    }
    let code = input.finish(cli, 0, removed.count)?;
    if removed.count == 0 && !input.file.entries.is_empty() {
        bail!("no entry of {} is in the policy; 'ipsecconf' lists the entries", input.name);
    }
    Ok(code)
}

fn list(policy: &mut Policy, cli: &Cli) -> anyhow::Result<()> {
    let part = cli.part();
    let mut rules = policy.rules()?;
    rules.retain(|rule| part.holds(rule.tunnel.as_deref()));
    if cli.json {
        return print_json(&rules.iter().map(listing::json).collect::<Vec<_>>());
    }
    let names: Option<&dyn Names> = if cli.numeric { None } else { Some(&SystemNames) };
    let mut out = io::stdout().lock();
    for rule in &rules {
        out.write_all(listing::text(rule, names).as_bytes())?;
    }
    Ok(())
}
