//! `ipseckey`: manual keys. Options here, everything else in the library.

use anyhow::{Context, bail};
use clap::Parser;
use command_lines::{Line, LineError, Lines};
use ipseckey::keying::parser;
use ipseckey::keying::prompt::{Prompt, Typed};
use ipseckey::keying::request::Command;
use ipseckey::keying::script::{self, FileError, JsonReport, Report, Tally};
use ipseckey::keying::session::{Failure, Options, Session};
use ipseckey::keying::wiping::Wiping;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use sadb_maps::host::Instance;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Manage the security associations of this host by hand.
///
/// Without a command and without -f, -c or -s, commands are read from standard input. add, update and update-pair are
/// refused on the command line, where other users could see the keys.
#[derive(Parser)]
#[command(name = "ipseckey", version, max_term_width = 100)]
struct Cli {
    /// Print numbers instead of names
    #[arg(short = 'n')]
    numeric: bool,
    /// Print XX for each octet of a key
    #[arg(short = 'p')]
    paranoid: bool,
    /// Print requests before they are carried out, and raw times as well
    #[arg(short = 'v')]
    verbose: bool,
    /// Read commands from FILE
    #[arg(short = 'f', value_name = "FILE", conflicts_with_all = ["check", "save", "command"])]
    file: Option<PathBuf>,
    /// Check the commands of FILE and change nothing
    #[arg(short = 'c', value_name = "FILE", conflicts_with_all = ["save", "command"])]
    check: Option<PathBuf>,
    /// Save all SAs to FILE ('-' is standard output)
    #[arg(short = 's', value_name = "FILE", conflicts_with = "command")]
    save: Option<String>,
    /// Print get, dump, monitor and what becomes of a file as JSON
    #[arg(long)]
    json: bool,
    /// Instance of the data path
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Command: get, delete, delete-pair, flush, dump, save, monitor, help
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Exit codes of a service method: configuration and permission.
const SERVICE_CONFIG: u8 = 95;
const SERVICE_PERMISSION: u8 = 100;

/// Set by Ctrl-C: ends monitor, nothing else.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    if let Some(code) = shell_completions::print_if_asked::<Cli>("ipseckey") {
        return code;
    }
    let service = std::env::var_os("SMF_FMRI").is_some();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do when the text cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    // Key files are for their owner to read, and a core file would hold keys.
    umask(Mode::from_bits_truncate(0o377));
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        eprintln!("ipseckey: warning: core files cannot be turned off: {error}");
    }
    if !nix::unistd::getuid().is_root() {
        eprintln!("ipseckey: only root may manage keys; run it with sudo or as root");
        return ExitCode::from(if service { SERVICE_PERMISSION } else { 1 });
    }
    if let Some(fault) = ipseckey::algorithms::use_table(cli.instance.as_deref()) {
        eprintln!("ipseckey: warning: no algorithm may be named: {fault}");
    }
    match run(&cli, service) {
        Ok(code) => code,
        // Whoever read the listing has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipseckey: {error:#}");
            ExitCode::from(if service { SERVICE_CONFIG } else { 1 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: &Cli, service: bool) -> anyhow::Result<ExitCode> {
    // Logs of services are for others to read.
    let verbose = cli.verbose && !service;
    let options = Options { numeric: cli.numeric, paranoid: cli.paranoid, verbose, json: cli.json };
    let open = || -> anyhow::Result<Session> {
        let instance = Instance::from_env_or(cli.instance.as_deref())?;
        Ok(Session::open(&instance, options, &INTERRUPTED)?)
    };
    // A listing may have a million lines.
    let mut out = Wiping::new(io::stdout().lock());
    let mut file = |path, mut session: Session| -> anyhow::Result<ExitCode> {
        let code = run_file(path, &mut session, service, cli.json, &mut out)?;
        out.flush()?;
        Ok(code)
    };
    if let Some(path) = &cli.check {
        return file(path, Session::check_only(options));
    }
    if let Some(path) = &cli.file {
        return file(path, open()?);
    }
    if let Some(file) = &cli.save {
        return finish(open()?.execute(Command::Save(None, Some(file.clone())), &mut out)?.failures, &mut out);
    }
    if cli.command.is_empty() {
        return interactive(&mut open()?, &mut out);
    }
    let line = Line::from_arguments(cli.command.iter().map(String::as_str));
    if cli.command.first().is_some_and(|c| matches!(c.as_str(), "add" | "update" | "update-pair")) {
        bail!(
            "add and update are refused on the command line, where other users could see the keys; use -f or standard input"
        );
    }
    let parsed = parser::parse(&line, &ipseckey::names::SystemNames);
    for warning in &parsed.warnings {
        eprintln!("ipseckey: warning: {}", warning.text);
    }
    let Some(command) = parsed.command else {
        return finish(parsed.errors.into_iter().map(Failure::from).collect(), &mut out);
    };
    let mut session =
        if matches!(command, Command::Help(_) | Command::Quit) { Session::check_only(options) } else { open()? };
    finish(session.execute(command, &mut out)?.failures, &mut out)
}

fn finish(failures: Vec<Failure>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    out.flush()?;
    for failure in &failures {
        eprintln!("ipseckey: {}", failure.text);
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_file(
    path: &Path,
    session: &mut Session,
    service: bool,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let name = path.display().to_string();
    let (text, insecure) = match script::read(path) {
        Ok(read) => read,
        Err(FileError::Io(e)) if service && e.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(ExitCode::from(SERVICE_PERMISSION));
        }
        Err(FileError::Io(e)) if name == "-" && e.kind() == io::ErrorKind::NotFound => {
            bail!("-: a file is needed; without -f and -c commands are read from standard input")
        }
        Err(error) => return Err(error).context(name),
    };
    if insecure {
        let text = format!("{name}: others than root can get at the keys; chown root and chmod 600");
        if service {
            bail!(text);
        }
        eprintln!("ipseckey: warning: {text}");
    }
    if service && session.changes() {
        // Not before: a file that cannot be read takes no SA away.
        writeln!(out, "Flushing existing SAs before loading {name}")?;
        let flushed = session.execute(Command::Flush(None), out)?;
        if let Some(failure) = flushed.failures.into_iter().next() {
            bail!(failure.text);
        }
    }
    let mut problems = vec![];
    let mut report = match (service, json) {
        (true, _) => Report::Nowhere,
        (false, true) => Report::List(&mut problems),
        (false, false) => Report::Text,
    };
    let tally = script::run(&text, &name, session, &mut report, out)?;
    if json {
        let Tally { parsed, added, failed } = tally;
        let report = JsonReport { file: &name, commands: parsed, actions: added, failed, messages: &problems };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else if !tally.is_good() {
        if tally.parsed > 0 && tally.added == 0 {
            writeln!(out, "{name} did not contain any valid SAs.")?;
        }
        if service {
            writeln!(out, "{} of {} commands failed; run 'ipseckey -c {name}' to see why", tally.failed, tally.parsed)?;
        } else {
            writeln!(out, "{} of {} commands failed, {} actions done.", tally.failed, tally.parsed, tally.added)?;
            writeln!(out, "Fatal error - exiting.")?;
        }
    } else if service {
        writeln!(out, "{} actions successfully processed.", tally.added)?;
    }
    Ok(match (tally.is_good(), service) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(SERVICE_CONFIG),
        (false, false) => ExitCode::FAILURE,
    })
}

/// Reads commands until `quit` or the end of the input. Errors do not end it.
fn interactive(session: &mut Session, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    // Without SA_RESTART, so that monitor wakes up; reading a line goes on after it.
    let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores to an atomic.
    unsafe { sigaction(Signal::SIGINT, &action) }?;
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return prompted(session, out);
    }
    let done = commands(io::stdin().lock(), session, out)?;
    // A script on standard input wants to know.
    Ok(if done.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads what a person types, who has seen the messages when the session ends.
fn prompted(session: &mut Session, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut prompt = Prompt::new()?;
    loop {
        match prompt.read()? {
            // What was pasted may be more than one command.
            Typed::Text(text) => {
                if commands(text.as_bytes(), session, out)?.quit {
                    break;
                }
            }
            Typed::Nothing => {}
            Typed::End => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of commands.
#[derive(Default)]
struct Done {
    failed: bool,
    quit: bool,
}

/// Carries out what `input` says, up to `quit`.
fn commands(input: impl BufRead, session: &mut Session, out: &mut dyn Write) -> anyhow::Result<Done> {
    let mut lines = Lines::new(input);
    let mut all = Done::default();
    loop {
        let done = match lines.read() {
            Ok(Some(line)) if line.words.is_empty() => continue,
            Ok(Some(line)) => one_command(&line, session, out)?,
            Ok(None) => break,
            Err(LineError::Io(error)) => return Err(error.into()),
            Err(problem) => {
                writeln!(out, "{problem}")?;
                None
            }
        };
        all.failed |= done.is_none();
        if done == Some(true) {
            all.quit = true;
            break;
        }
    }
    out.flush()?;
    Ok(all)
}

/// One command of an interactive session. `None` when it failed, else whether it was `quit`.
fn one_command(line: &Line, session: &mut Session, out: &mut dyn Write) -> io::Result<Option<bool>> {
    let parsed = parser::parse(line, session.names());
    for warning in &parsed.warnings {
        writeln!(out, "warning: {}", warning.text)?;
    }
    for error in &parsed.errors {
        writeln!(out, "{error}")?;
    }
    let Some(command) = parsed.command else {
        out.flush()?;
        return Ok(None);
    };
    let outcome = session.execute(command, out)?;
    out.flush()?;
    for failure in &outcome.failures {
        eprintln!("{}", failure.text);
    }
    Ok(outcome.failures.is_empty().then_some(outcome.quit))
}
