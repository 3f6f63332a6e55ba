//! ikeadm, the administrator's hand on a running IKE daemon: the command words of Solaris over the door protocol.
//!
//! [`words`] turns words into requests, [`lines`] turns typed lines into words, [`show`] turns answers into the layouts that
//! administrators and scripts know, and `--json` prints them as they are. Nothing here knows what an SA is beyond what the
//! daemon says.

pub mod show;
pub mod words;

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use command_lines::Lines;
use ike_door::{Client, ClientError, DebugLevel, ErrorCode, Failure, Item, Outcome, Privilege, Request};

use crate::show::Style;
use crate::words::{Command, Object};

/// How long the daemon may take for one request. It answers from memory, but a flush waits for peers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Show and change the state of the IKE daemons.
#[derive(Debug, Parser)]
#[command(name = "ikeadm", version, disable_help_flag = true, disable_help_subcommand = true)]
struct Options {
    /// Numbers in place of host names, in what is read and in what is shown
    #[arg(short = 'n')]
    numeric: bool,

    /// Paranoid: keys as X, even where they could be shown
    #[arg(short = 'p')]
    paranoid: bool,

    /// Help
    #[arg(short = 'h', long = "help")]
    help: bool,

    /// IKE version whose daemon is meant: 2 (in.ikev2d)
    #[arg(short = 'v', value_name = "1|2")]
    version_of_ike: Option<u8>,

    /// JSON in place of the usual layouts
    #[arg(long)]
    json: bool,

    /// Instance of the data path, instead of $IPSEC_INSTANCE
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,

    /// Command, object and arguments; none starts the interactive mode
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The program: 0 when everything was done, 1 otherwise.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Some(code) = shell_completions::print_if_asked::<Options>("ikeadm") {
        return code;
    }
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            // Nothing better can be done about a closed terminal.
            let _ = error.print();
            return if error.kind() == ErrorKind::DisplayVersion { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    if options.help {
        return exit(out.write_all(words::help(None).as_bytes()).is_ok());
    }
    match options.version_of_ike {
        None | Some(2) => {}
        Some(1) => {
            let _ = writeln!(
                err,
                "ikeadm: -v 1 means in.iked, the IKEv1 daemon, which is not part of this release; use -v 2 for in.ikev2d"
            );
            return ExitCode::FAILURE;
        }
        Some(other) => {
            let _ = writeln!(err, "ikeadm: -v {other}: expected 1 (in.iked) or 2 (in.ikev2d)");
            return ExitCode::FAILURE;
        }
    }
    let instance = match ike_door::place::instance(options.instance.as_deref()) {
        Ok(instance) => instance,
        Err(error) => {
            let _ = writeln!(err, "ikeadm: {error}");
            return ExitCode::FAILURE;
        }
    };
    let door = ike_door::place::ikev2_door(&instance);
    let style = Style { numeric: options.numeric, paranoid: options.paranoid };
    let mut session = Session::new(door, style, options.json, &mut out, &mut err);
    if options.command.is_empty() {
        let terminal = io::stdin().is_terminal();
        return exit(session.interactive(&mut io::stdin().lock(), terminal));
    }
    exit(session.run(&options.command).done())
}

fn exit(done: bool) -> ExitCode {
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ctrl-C is for the line, not for the program, as in the original.
fn ignore_interrupts() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: ignoring a signal installs no handler that could run code of ours.
    let _ = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) };
}

/// What became of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was carried out.
    Yes,
    /// It was not; why is on the error stream.
    No,
    /// The user wants to leave.
    Leave,
}

impl Done {
    /// Whether the exit status is 0.
    #[must_use]
    pub fn done(self) -> bool {
        self != Self::No
    }
}

/// A run of commands against one door.
pub struct Session<'a> {
    door: PathBuf,
    client: Option<Client>,
    style: Style,
    json: bool,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Session<'a> {
    /// A session with the daemon at `door`, not connected yet.
    pub fn new(door: PathBuf, style: Style, json: bool, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { door, client: None, style, json, out, err }
    }

    /// Commands from `input`, one a line, until it ends or says `exit`. Errors do not end it. `prompt` is for terminals.
    pub fn interactive(&mut self, input: &mut dyn BufRead, prompt: bool) -> bool {
        if prompt {
            ignore_interrupts();
        }
        let mut lines = Lines::new(input);
        loop {
            if prompt {
                let _ = write!(self.out, "ikeadm> ");
                let _ = self.out.flush();
            }
            match lines.read() {
                Ok(None) => return true,
                Ok(Some(line)) if line.words.is_empty() => {}
                Ok(Some(line)) => {
                    let words: Vec<String> = line.words.iter().map(|word| word.text().to_owned()).collect();
                    if self.run(&words) == Done::Leave {
                        return true;
                    }
                    let _ = self.out.flush();
                }
                Err(error) if error.ends_input() => {
                    self.complain(&error.to_string());
                    return false;
                }
                Err(error) => self.complain(&error.to_string()),
            }
        }
    }

    /// One command.
    pub fn run(&mut self, words: &[String]) -> Done {
        match words::parse(words, self.style.numeric) {
            Ok(Command::Leave) => Done::Leave,
            Ok(Command::Help(topic)) => {
                let _ = self.out.write_all(words::help(topic.as_deref()).as_bytes());
                Done::Yes
            }
            Ok(Command::Ask { object, requests }) => {
                let outcomes: Vec<Done> = requests.into_iter().map(|request| self.ask(object, request)).collect();
                if outcomes.contains(&Done::No) { Done::No } else { Done::Yes }
            }
            Err(error) => {
                self.complain(&error.to_string());
                if error.wants_usage() {
                    let _ = self.err.write_all(words::usage().as_bytes());
                }
                Done::No
            }
        }
    }

    fn complain(&mut self, text: &str) {
        let _ = writeln!(self.err, "ikeadm: {text}");
    }

    fn ask(&mut self, object: Object, request: Request) -> Done {
        let mut items = Vec::new();
        match self.exchange(&request, &mut items) {
            Ok(Outcome::Done) => {}
            // An empty table is not an error.
            Ok(Outcome::Failed(Failure { code: ErrorCode::NoData, .. })) if is_dump(&request) => {}
            Ok(Outcome::Failed(failure)) => {
                let text = refusal(object, &request, &failure);
                self.complain(&text);
                return Done::No;
            }
            Err(error) => {
                self.complain(&error.to_string());
                if matches!(error, ClientError::Connect { .. }) {
                    self.complain("is in.ikev2d running, and is this its instance?");
                }
                return Done::No;
            }
        }
        if self.json { self.print_json(&request, items) } else { self.print(object, &request, &items) }
    }

    fn exchange(&mut self, request: &Request, items: &mut Vec<Item>) -> Result<Outcome, ClientError> {
        let fresh = self.client.is_none();
        let result = self.attempt(request, items);
        // A connection kept from an earlier command dies with the daemon; a new daemon is as good.
        if !fresh && matches!(result, Err(ClientError::Broken(_))) {
            items.clear();
            self.client = None;
            return self.attempt(request, items);
        }
        if result.is_err() {
            self.client = None;
        }
        result
    }

    fn attempt(&mut self, request: &Request, items: &mut Vec<Item>) -> Result<Outcome, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(connect(&self.door)?),
        };
        client.ask_each(request.clone(), |item| items.push(item))
    }

    fn print_json(&mut self, request: &Request, items: Vec<Item>) -> Done {
        let paranoid = self.style.paranoid;
        let values: Vec<serde_json::Value> = items.into_iter().filter_map(|item| show::json(item, paranoid)).collect();
        let value = if is_list(request) {
            serde_json::Value::Array(values)
        } else {
            values.into_iter().next().unwrap_or_else(|| serde_json::json!({}))
        };
        match serde_json::to_writer_pretty(&mut *self.out, &value) {
            Ok(()) if writeln!(self.out).is_ok() => Done::Yes,
            _ => Done::No,
        }
    }

    fn print(&mut self, object: Object, request: &Request, items: &[Item]) -> Done {
        let mut text = String::new();
        show::items(&mut text, items, self.style);
        if is_dump(request) {
            text.push_str(&format!("\nCompleted dump of {}\n", object.plural()));
        }
        if self.out.write_all(text.as_bytes()).is_err() {
            return Done::No;
        }
        if let Some(status) = status(object, request, items) {
            self.complain(&status);
        }
        for item in items {
            if let Item::Note(note) = item {
                self.complain(note);
            }
        }
        Done::Yes
    }
}

fn connect(door: &Path) -> Result<Client, ClientError> {
    Client::connect(door, PATIENCE)
}

fn is_dump(request: &Request) -> bool {
    use Request::{DumpAuthAlgs, DumpEncrAlgs, DumpGroups, DumpIkeSa, DumpPreshared, DumpRule};
    matches!(request, DumpIkeSa | DumpRule | DumpPreshared | DumpGroups | DumpEncrAlgs | DumpAuthAlgs)
}

/// Whether the JSON of the answer is an array.
fn is_list(request: &Request) -> bool {
    is_dump(request) || matches!(request, Request::GetDefaults | Request::GetIkeSa { .. })
}

/// The line that says a change was made, if one was.
fn status(object: Object, request: &Request, items: &[Item]) -> Option<String> {
    let changed =
        |what: &str, old: String, new: String| Some(format!("Successfully changed {what} level from {old} to {new}"));
    match request {
        Request::SetDebug { .. } => items.iter().find_map(|item| match item {
            Item::Debug { old, level } => {
                changed("debug", old.unwrap_or(DebugLevel::NONE).to_string(), level.to_string())
            }
            _ => None,
        }),
        Request::SetPriv { .. } => items.iter().find_map(|item| match item {
            Item::Priv { old, level } => {
                let hex = |level: Privilege| format!("0x{:x}", level.number());
                changed("privilege", hex(old.unwrap_or(*level)), hex(*level))
            }
            _ => None,
        }),
        Request::DelIkeSa { .. } => Some(format!("Successfully deleted selected {}.", object.singular())),
        Request::FlushIkeSa => Some("Successfully flushed IKE SAs.".to_owned()),
        Request::ReadRule | Request::ReadPreshared => {
            Some(format!("Completed read of {} configuration information.", object.singular()))
        }
        _ => None,
    }
}

/// What to say about a refusal.
fn refusal(object: Object, request: &Request, failure: &Failure) -> String {
    if failure.code == ErrorCode::NoData
        && matches!(request, Request::GetIkeSa { .. } | Request::DelIkeSa { .. } | Request::GetRule { .. })
    {
        return format!("Could not find requested {}.", object.singular());
    }
    let doing = match request {
        Request::GetDebug | Request::GetPriv | Request::GetStats | Request::GetDefaults => "getting",
        Request::GetIkeSa { .. } | Request::GetRule { .. } => "getting",
        Request::SetDebug { .. } | Request::SetPriv { .. } => "setting",
        Request::DelIkeSa { .. } => "deleting",
        Request::FlushIkeSa => "flushing",
        Request::DumpIkeSa | Request::DumpRule | Request::DumpPreshared => "dumping",
        Request::DumpGroups | Request::DumpEncrAlgs | Request::DumpAuthAlgs => "dumping",
        Request::ReadRule | Request::ReadPreshared => "reading",
    };
    format!("error {doing} {}: {}", object.singular(), failure.detail)
}
