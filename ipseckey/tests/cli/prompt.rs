//! `ipseckey` on a terminal: editing, history, completion, continuation lines, Ctrl-C.

use crate::support::Bench;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Long enough for any machine: nothing waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the editor tells the terminal when it begins to read, once for each command; the prompt it may print again and
/// again while somebody types.
const READY: &str = "\x1b[?2004h";

/// A terminal with `ipseckey` on it.
struct Terminal {
    child: Child,
    screen: File,
    /// Everything that was printed.
    seen: String,
    /// How much of it was waited for.
    read: usize,
}

impl Terminal {
    fn new(bench: &Bench) -> Self {
        let pty = openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipseckey"));
        command.args(["--instance", bench.instance.name(), "-n"]).env("TERM", "xterm").env_remove("SMF_FMRI");
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls are fit for the child of a fork.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        let mut this = Self { child, screen: File::from(pty.master), seen: String::new(), read: 0 };
        this.wait_for(READY);
        this
    }

    /// Waits until `text` is printed, and gives what was printed up to there since the last wait.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.read..].find(text) {
                let end = self.read + at + text.len();
                let shown = self.seen[self.read..end].to_owned();
                self.read = end;
                return shown;
            }
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", &self.seen[self.read..]);
            let mut ready = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(1000u16)).unwrap() > 0 {
                let mut octets = [0; 4096];
                let len = self.screen.read(&mut octets).unwrap();
                self.seen += &String::from_utf8_lossy(octets.get(..len).unwrap());
            }
        }
    }

    /// Types keys, and waits for what they bring up.
    #[track_caller]
    fn type_and_see(&mut self, keys: &str, text: &str) -> String {
        self.screen.write_all(keys.as_bytes()).unwrap();
        self.wait_for(text)
    }

    /// Runs a command: what it printed up to the next prompt.
    #[track_caller]
    fn run(&mut self, command: &str) -> String {
        self.type_and_see(&format!("{command}\r"), READY)
    }

    fn end(mut self) -> ExitStatus {
        // What is not read would hold the tool up.
        let mut octets = [0; 4096];
        loop {
            match self.screen.read(&mut octets) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // The other end is closed.
                    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
                    break;
                }
            }
        }
        self.child.wait().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const NULL: &str = "encr_alg null auth_alg sha1 authkey 000102030405060708090a0b0c0d0e0f10111213";

#[test]
fn words_are_completed_and_lines_continued() {
    let bench = Bench::new();
    let mut terminal = Terminal::new(&bench);
    terminal.wait_for("ipseckey> ");
    terminal.type_and_see("du\t", "dump ");
    terminal.type_and_see("es\t", "esp ");
    assert!(terminal.run("").contains("Dump succeeded for SA type 3."));
    // One that is not alone is listed.
    terminal.type_and_see("dele\t", "delete");
    terminal.type_and_see("\t", "delete-pair");
    terminal.type_and_see("\x03", READY);
    terminal.type_and_see("add esp spi 0x77 src 192.0.2.1 \\\r", "\n");
    terminal.type_and_see(&format!("  dst 198.51.100.7 {NULL} \\\r"), "\n");
    terminal.run("  outbound");
    assert!(terminal.run("get esp spi 0x77 dst 198.51.100.7").contains("SADB_ASSOC spi=0x77"));
    terminal.type_and_see("exit\r", "\n");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn commands_come_back_and_ctrl_c_drops_them() {
    let bench = Bench::new();
    let mut terminal = Terminal::new(&bench);
    assert!(terminal.run("dump ah").contains("Dump succeeded for SA type 2."));
    // An error is shown, and the session goes on.
    assert!(terminal.run("dump bogus").contains("'bogus' is no SA type"));
    assert!(terminal.run("get esp spi 1 dst 192.0.2.1").contains("does not exist."));
    terminal.type_and_see("\x1b[A\x1b[A\x1b[A\r", "Dump succeeded for SA type 2.");
    terminal.wait_for(READY);
    terminal.type_and_see("flush nonsen\x03", READY);
    assert!(terminal.run("dump esp").contains("Dump succeeded for SA type 3."));
    assert!(!terminal.seen.contains("too many arguments"));
    // The end of the input is the end of the session.
    terminal.type_and_see("\x04", "\n");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn ctrl_c_leaves_monitor_and_not_the_session() {
    let bench = Bench::new();
    let mut terminal = Terminal::new(&bench);
    terminal.type_and_see("monitor\r", "Actively monitoring the PF_KEY socket.");
    terminal.type_and_see("\x03", READY);
    assert!(terminal.run("dump").contains("Dump succeeded for SA type 0."));
    terminal.type_and_see("quit\r", "\n");
    assert_eq!(terminal.end().code(), Some(0));
}

/// What is pasted may be more than one command.
#[test]
fn pasted_commands_are_carried_out_one_after_the_other() {
    let bench = Bench::new();
    let mut terminal = Terminal::new(&bench);
    let text = format!(
        "add esp spi 0x78 src 192.0.2.1 dst 198.51.100.7 outbound {NULL}\nget esp spi 0x78 dst 198.51.100.7\nexit\n"
    );
    terminal.type_and_see(&format!("\x1b[200~{text}\x1b[201~\r"), "SADB_ASSOC spi=0x78");
    assert_eq!(terminal.end().code(), Some(0));
}
