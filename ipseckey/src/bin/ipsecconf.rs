//! `ipsecconf`: the policy of this host. Options here, everything else in the library.

use anyhow::{Context, bail};
use clap::Parser;
use ipseckey::names::{Names, SystemNames};
use ipseckey::path::tables;
use ipseckey::policy::load::{LoadError, Part, Policy};
use ipseckey::policy::{self, PolicyFile, Problem, Warning, cache, listing};
use nix::sys::signal::{SigSet, Signal};
use sadb_maps::host::{Instance, Status};
use std::io::{self, Read, Write};
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
    /// Tunnel
    #[arg(short = 'i', value_name = "TUNNEL")]
    tunnel: Option<String>,
    /// Print numbers instead of names
    #[arg(short = 'n')]
    numeric: bool,
    /// Print no warnings
    #[arg(short = 'q')]
    quiet: bool,
    /// With -a: refuse when an interface is not attached, or cannot be
    #[arg(long, requires = "add")]
    strict: bool,
    /// Print the entries, or the listing of -l or -L, as JSON
    #[arg(long)]
    json: bool,
    /// Instance of the data path
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            // A service log is no place for usage text.
            if !failed || std::env::var_os("SMF_FMRI").is_none() {
                let _ = error.print();
            }
            return if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(&cli) {
        Ok(code) => code,
        // Whoever read the listing has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipsecconf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Some(path) = &cli.check {
        return check(path, cli.quiet);
    }
    if !nix::unistd::getuid().is_root() {
        bail!("only root may see or change the policy; run it with sudo or as root");
    }
    let instance = Instance::from_env_or(cli.instance.as_deref())?;
    let part = match (&cli.tunnel, cli.flush_all || cli.list_all) {
        (Some(_), true) => bail!("-i does not go with -F and -L, which are about every tunnel"),
        (None, true) => Part::All,
        (Some(tunnel), false) => Part::Tunnel(tunnel.clone()),
        (None, false) => Part::Host,
    };
    if let Some(path) = &cli.add {
        let instead_of = (cli.flush || cli.flush_all).then_some(&part);
        return add(path, &instance, instead_of, cli);
    }
    let mut policy = Policy::open(&instance)?;
    // A change that is under way is finished before an interrupt is acted on.
    let blocked = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
    blocked.thread_block()?;
    if cli.list || cli.list_all {
        list(&mut policy, &part, cli)?;
    } else if cli.flush || cli.flush_all {
        policy.flush(&part)?;
    } else if let Some(index) = &cli.delete {
        let (tunnel, number) = match (index.split_once(','), cli.tunnel.as_deref()) {
            (Some(_), Some(_)) => bail!("give the tunnel once: -d TUNNEL,INDEX or -d INDEX -i TUNNEL"),
            (Some((tunnel, number)), None) => (Some(tunnel), number),
            (None, tunnel) => (tunnel, index.as_str()),
        };
        let number = number.parse().with_context(|| format!("'{number}' is no index"))?;
        policy.delete(number, tunnel)?;
    } else if let Some(path) = &cli.remove {
        let (name, text) = read(path)?;
        let file = policy::parse(&text, &SystemNames);
        report(&name, &file.problems, if cli.quiet { &[] } else { &file.warnings });
        if !file.problems.is_empty() {
            echo(&name, &file);
            bail!("{name} has errors; nothing was removed");
        }
        if policy.remove(&file)? == 0 {
            bail!("no entry of {name} is in the policy; 'ipsecconf' lists the entries");
        }
    } else if cli.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &policy.entries()?)?;
        writeln!(out)?;
    } else {
        io::stdout().write_all(cache::format(&policy.entries()?).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Name for messages and octets of a file; `-` is standard input.
fn read(path: &str) -> anyhow::Result<(String, Vec<u8>)> {
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
    Ok((name.to_owned(), text))
}

fn report(name: &str, problems: &[Problem], warnings: &[Warning]) {
    for warning in warnings {
        eprintln!("{name}:{}: warning: {}", warning.at, warning.text);
    }
    for problem in problems {
        eprintln!("{name}:{}: error: {problem}", problem.position());
    }
}

/// Shows the rules that the errors are in.
fn echo(name: &str, file: &PolicyFile) {
    for malformed in &file.malformed {
        eprintln!("{name}:{}: malformed rule:", malformed.line);
        for line in malformed.text.lines() {
            eprintln!("    {line}");
        }
    }
}

fn check(path: &str, quiet: bool) -> anyhow::Result<ExitCode> {
    let (name, text) = read(path)?;
    let file = policy::parse(&text, &SystemNames);
    report(&name, &file.problems, if quiet { &[] } else { &file.warnings });
    if !file.problems.is_empty() {
        echo(&name, &file);
        eprintln!("ipsecconf: {name}: {} bad rules", file.malformed.len());
        return Ok(ExitCode::FAILURE);
    }
    // What cannot be known without the tunnels of an instance is left to the load.
    println!("ipsecconf: no errors in {name}");
    println!("ipsecconf: IPsec policy was not modified.");
    Ok(ExitCode::SUCCESS)
}

fn add(path: &str, instance: &Instance, instead_of: Option<&Part>, cli: &Cli) -> anyhow::Result<ExitCode> {
    let quiet = cli.quiet;
    let service = std::env::var_os("SMF_FMRI").is_some();
    if service && path != "-" && !std::path::Path::new(path).exists() {
        println!("ipsecconf: {path} does not exist; no policy is loaded");
        return Ok(ExitCode::SUCCESS);
    }
    let (name, text) = read(path)?;
    let file = policy::parse(&text, &SystemNames);
    report(&name, &file.problems, if quiet { &[] } else { &file.warnings });
    if !file.problems.is_empty() {
        echo(&name, &file);
        bail!("{name}: {} bad rules; nothing was changed", file.malformed.len());
    }
    if file.entries.is_empty() {
        println!("ipsecconf: {name} has no rules");
    }
    let mut policy = Policy::open(instance)?;
    // The policy is for the whole host; an interface without the data path does not obey it.
    match Status::read(instance).map(|status| tables::unjudged_warning(&status)) {
        Ok(Some(text)) if cli.strict => bail!("{text}"),
        Ok(Some(text)) if !quiet => eprintln!("ipsecconf: warning: {text}"),
        Err(error) if cli.strict => return Err(error.into()),
        _ => {}
    }
    let blocked = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
    blocked.thread_block()?;
    match policy.add(&file, instead_of) {
        Ok(loaded) => {
            if !quiet {
                report(&name, &[], &loaded.warnings);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(LoadError::Bad(problems)) => {
            report(&name, &problems, &[]);
            bail!("{name}: {} bad rules; nothing was changed", problems.len());
        }
        Err(error) => Err(error.into()),
    }
}

fn list(policy: &mut Policy, part: &Part, cli: &Cli) -> anyhow::Result<()> {
    let mut rules = policy.rules()?;
    rules.retain(|rule| part.holds(rule.tunnel.as_deref()));
    let mut out = io::stdout().lock();
    if cli.json {
        let all: Vec<_> = rules.iter().map(listing::json).collect();
        serde_json::to_writer_pretty(&mut out, &all)?;
        return Ok(writeln!(out)?);
    }
    let names: Option<&dyn Names> = if cli.numeric { None } else { Some(&SystemNames) };
    for rule in &rules {
        out.write_all(listing::text(rule, names).as_bytes())?;
    }
    Ok(())
}
