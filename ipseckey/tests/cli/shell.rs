//! A shell on a host of its own, for transcripts: commands, what they print and how they end, word for word as in
//! `transcripts/*.txt`.
//!
//! Everything happens in a network namespace with the address of me.example.com, 192.0.2.1, and with an /etc of its own.
//! In a transcript `$` begins a command line, `>` a line of its standard input, `!` a line of standard error, and `[n]` says how it
//! ended. Numbers that differ from run to run are replaced. With IPSEC_WRITE_TRANSCRIPTS in the environment the files are
//! written instead of compared: read what changed.

use crate::support::Bench;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Files of /etc.
const ETC: &[(&str, &str)] = &[
    (
        "hosts",
        "127.0.0.1 localhost\n192.0.2.1 me.example.com me\n198.51.100.7 you.example.com mypeer you\n\
         fec0:bbbb::4483 me6.example.com\nfec0:bbbb::7843 you6.example.com\n\
         203.0.113.1 two.example.com\n203.0.113.2 two.example.com\n",
    ),
    // A name has several addresses.
    ("host.conf", "multi on\n"),
    ("networks", "lab 10.9\n"),
    ("services", "telnet 23/tcp\ndomain 53/tcp\ndomain 53/udp\nhttps 443/tcp\n"),
    ("nsswitch.conf", "hosts: files\nnetworks: files\nservices: files\nprotocols: files\n"),
];

/// A shell on a host.
pub(crate) struct Shell {
    pub(crate) bench: Bench,
    /// What the host has for /etc.
    pub(crate) etc: PathBuf,
    pub(crate) text: String,
}

/// Where the binary of a tool is.
fn binary(tool: &str) -> &'static str {
    match tool {
        "ipseckey" => env!("CARGO_BIN_EXE_ipseckey"),
        "ipsecconf" => env!("CARGO_BIN_EXE_ipsecconf"),
        "ipsecalgs" => env!("CARGO_BIN_EXE_ipsecalgs"),
        _ => panic!("no tool is named {tool}"),
    }
}

impl Shell {
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        let etc = bench.path("etc");
        std::fs::create_dir_all(etc.join("inet")).unwrap();
        for (name, text) in ETC {
            std::fs::write(etc.join(name), text).unwrap();
        }
        Self { bench, etc, text: String::new() }
    }

    /// The line that says what follows.
    pub(crate) fn title(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        writeln!(self.text, "{gap}# {title}").unwrap();
    }

    /// The command, with the databases of this host in place of those of the machine.
    pub(crate) fn command(&self, tool: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc && exec \"$@\""]).arg(&self.etc);
        command.arg(binary(tool)).args(["--instance", self.bench.instance.name()]).args(arguments);
        command.env("TZ", "UTC").env_remove("SMF_FMRI");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `ipseckey`.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> String {
        self.run_with(arguments, "", &[])
    }

    /// `ipseckey` with input and environment.
    pub(crate) fn run_with(&mut self, arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> String {
        self.tool("ipseckey", arguments, input, environment)
    }

    /// Runs a command and writes down what came of it; gives what it printed.
    pub(crate) fn tool(&mut self, tool: &str, arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> String {
        let mut command = self.command(tool, arguments);
        let mut child = command.envs(environment.iter().copied()).spawn().unwrap();
        // A tool that does not read its input closes it early; that is no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let before: String = environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let line = format!("{before}{tool} {}", arguments.join(" "));
        self.lines("$ ", line.trim_end());
        self.lines("> ", input);
        let out = String::from_utf8(stdout).unwrap();
        self.lines("", &out);
        self.lines("! ", &String::from_utf8(stderr).unwrap());
        writeln!(self.text, "[{}]", status.code().unwrap()).unwrap();
        out
    }

    pub(crate) fn lines(&mut self, mark: &str, text: &str) {
        let place = self.bench.path("").display().to_string();
        for line in text.lines() {
            let line = line.replace(&place, "/tmp/").replace(self.bench.instance.name(), "INSTANCE");
            let line = steady(&line);
            writeln!(self.text, "{mark}{line}").unwrap();
        }
    }

    /// A file of commands.
    pub(crate) fn file(&mut self, name: &str, text: &str) -> String {
        writeln!(self.text, "$ cat /tmp/{name}").unwrap();
        self.lines("", text);
        self.bench.file(name, text).display().to_string()
    }

    /// Compares with the transcript of that name.
    #[track_caller]
    pub(crate) fn compare(self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/transcripts").join(name);
        if std::env::var_os("IPSEC_WRITE_TRANSCRIPTS").is_some() {
            return std::fs::write(path, self.text).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap();
        for (number, (found, wanted)) in (1..).zip(self.text.lines().zip(wanted.lines())) {
            assert_eq!(found, wanted, "{name}:{number}");
        }
        assert_eq!(self.text.lines().count(), wanted.lines().count(), "{name}");
    }
}

/// A line with what differs from run to run replaced.
fn steady(line: &str) -> String {
    let mut line = line.to_owned();
    for (before, after) in [("pid=", "."), ("at time: ", ""), ("Time now is ", ""), ("Timestamp: ", "")] {
        if let Some((start, rest)) = line.split_once(before) {
            let end = rest.find(after).filter(|_| !after.is_empty()).map_or("", |at| rest.get(at..).unwrap());
            line = format!("{start}{before}*{end}");
        }
    }
    if let Some((start, _)) = line.split_once(" expiration occurs in ") {
        line = format!("{start} expiration occurs in *");
    }
    if let Some((start, _)) = line.split_once("Time of expiration: ") {
        line = format!("{start}Time of expiration: *");
    }
    line
}

/// Runs `work` in a network namespace that has the addresses of me.example.com.
pub(crate) fn on_a_host(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            for arguments in [
                &["link", "set", "lo", "up"][..],
                &["address", "add", "192.0.2.1/32", "dev", "lo"],
                &["address", "add", "fec0:bbbb::4483/128", "dev", "lo", "nodad"],
            ] {
                assert!(Command::new("ip").args(arguments).status().unwrap().success());
            }
            work();
        });
        thread.join().unwrap();
    });
}
