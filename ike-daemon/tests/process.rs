//! in.ikev2d as a process: options, files, signals, the lock, the door, and what it keeps to itself. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking, their helpers too")]

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ike_door::{Client, ErrorCode, Item, Privilege, Request, place};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use sadb_maps::host::testing::TestInstance;

const PATIENCE: Duration = Duration::from_secs(10);

const KEY: &str = "a key that must not be seen";

const RULES: &str = "ikesa_xform { encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }
{ label \"one\" auth_method preshared local_addr 192.0.2.1 remote_addr 192.0.2.0/24 }\n";

struct Files {
    _dir: tempfile::TempDir,
    config: PathBuf,
    preshared: PathBuf,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files =
            Self { config: dir.path().join("ikev2.config"), preshared: dir.path().join("ikev2.preshared"), _dir: dir };
        fs::write(&files.config, RULES).unwrap();
        fs::write(&files.preshared, format!("{{ label \"one\" key \"{KEY}\" }}")).unwrap();
        fs::set_permissions(&files.preshared, Permissions::from_mode(0o600)).unwrap();
        files
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_in-ikev2d"));
        command.arg("-f").arg(&self.config).arg("--preshared").arg(&self.preshared);
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

#[test]
fn check_tells_everything_and_changes_nothing() {
    let files = Files::new();
    let mut command = files.command();
    command.arg("-c");
    let good = output(command);
    assert!(good.status.success() && good.stderr.is_empty(), "{}", text(&good.stderr));

    fs::write(&files.config, "bogus\n{ label \"x\"\n  childsa_pfs 32 }\n").unwrap();
    let mut command = files.command();
    command.arg("-c");
    let bad = output(command);
    assert_eq!(bad.status.code(), Some(1));
    let said = text(&bad.stderr);
    for place in ["ikev2.config:1:1: error:", "ikev2.config:2:1: error:", "ikev2.config:3:15: error: group 32 is known"]
    {
        assert!(said.contains(place), "{place} in {said}");
    }

    fs::write(&files.config, RULES).unwrap();
    fs::set_permissions(&files.preshared, Permissions::from_mode(0o640)).unwrap();
    let mut command = files.command();
    command.arg("-c");
    let open = output(command);
    assert_eq!(open.status.code(), Some(1));
    assert!(text(&open.stderr).contains("chmod 600"), "{}", text(&open.stderr));
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same command without the right to trace every process, which root has.
fn without_tracing(command: &Command) -> Command {
    let mut limited = Command::new("setpriv");
    limited.args(["--bounding-set", "-sys_ptrace"]).arg(command.get_program()).args(command.get_args());
    limited
}

/// Whether a process that has no more rights than process `id` can open that one's memory.
fn looked_into(id: u32) -> bool {
    let open = format!("exec 3</proc/{id}/mem");
    without_tracing(Command::new("sh").args(["-c", &open])).output().unwrap().status.success()
}

fn ask(door: &Path, request: Request) -> ike_door::Answer {
    Client::connect(door, PATIENCE).unwrap().ask(request).unwrap()
}

fn rules(door: &Path) -> usize {
    ask(door, Request::DumpRule).map_or(0, |rules| rules.len())
}

/// A daemon, which is ended with the test whatever becomes of that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn end(mut daemon: Running) -> (Option<i32>, String) {
    kill(Pid::from_raw(i32::try_from(daemon.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = wait("the end", || daemon.0.try_wait().unwrap());
    let mut log = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (status.code(), log)
}

#[test]
fn a_life_from_start_to_sigterm() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root for network namespaces and maps");
    // This thread's namespace is that of the processes it starts, and so is its signal mask: the daemon must undo that.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    SigSet::all().thread_set_mask().unwrap();
    let test = TestInstance::with_maps(4).unwrap();
    let files = Files::new();
    let door = place::ikev2_door(test.name());
    let start = || {
        let mut command = files.command();
        command.args(["-d", "--instance", test.name(), "--admin-privilege", "keymat"]);
        let mut command = without_tracing(&command);
        command.stderr(Stdio::piped());
        command
    };
    let daemon = Running(start().spawn().unwrap());
    wait("the door", || Client::connect(&door, PATIENCE).ok());
    assert_eq!(fs::metadata(&door).unwrap().permissions().mode() & 0o777, 0o600);
    let status = fs::read_to_string(format!("/proc/{}/limits", daemon.0.id())).unwrap();
    let core = status.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");

    // To a process with the same user and the same rights it is closed; one that did not see to that is open.
    let mut open = without_tracing(Command::new("sleep").arg("60")).spawn().unwrap();
    wait("sleep can be looked into", || looked_into(open.id()).then_some(()));
    open.kill().unwrap();
    open.wait().unwrap();
    assert!(!looked_into(daemon.0.id()), "the daemon can be traced");

    let second = output(start());
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("runs already"), "{}", text(&second.stderr));

    // A file with an error changes nothing, by either way; a sound one does.
    assert_eq!(rules(&door), 1);
    fs::write(&files.config, format!("{RULES}{{ label \"two\" }}")).unwrap();
    let refused = ask(&door, Request::ReadRule).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidData);
    assert!(refused.detail.contains("ikev2.config:3:1: error: this block lacks a local_addr"), "{}", refused.detail);
    let pid = Pid::from_raw(i32::try_from(daemon.0.id()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    assert_eq!(rules(&door), 1);
    fs::write(&files.config, format!("{RULES}{}", RULES.lines().nth(1).unwrap().replace("one", "two"))).unwrap();
    kill(pid, Signal::SIGHUP).unwrap();
    wait("two rules", || (rules(&door) == 2).then_some(()));
    let map = fs::read_to_string(door.with_file_name("ipsec_kmc_map")).unwrap();
    let labels: Vec<&str> = map.lines().filter_map(|line| line.split_once('\t')).map(|(_, label)| label).collect();
    assert_eq!(labels, ["one", "two"]);

    // Keys are for those who may see them, and the level only goes down.
    let Item::Preshared(entry) = ask(&door, Request::DumpPreshared).unwrap().remove(0) else { panic!("an entry") };
    assert_eq!(entry.local_key.unwrap().octets, KEY.len());
    ask(&door, Request::SetPriv { level: Privilege::Modkeys }).unwrap();
    let Item::Preshared(entry) = ask(&door, Request::DumpPreshared).unwrap().remove(0) else { panic!("an entry") };
    assert!(entry.local_key.unwrap().value.is_none());
    ask(&door, Request::SetPriv { level: Privilege::Base }).unwrap();
    for request in [Request::DumpPreshared, Request::ReadPreshared, Request::SetPriv { level: Privilege::Keymat }] {
        assert_eq!(ask(&door, request).unwrap_err().code, ErrorCode::Privilege);
    }
    for (request, count) in [(Request::DumpGroups, 18), (Request::DumpEncrAlgs, 8), (Request::DumpAuthAlgs, 5)] {
        assert_eq!(ask(&door, request).unwrap().len(), count);
    }
    assert_eq!(ask(&door, Request::DumpIkeSa).unwrap_err().code, ErrorCode::NoData);

    let (code, log) = end(daemon);
    assert_eq!(code, Some(0), "{log}");
    assert!(!door.exists());
    assert!(log.contains("in.ikev2d is ready") && log.contains("the configuration stays as it was"), "{log}");
    let hex: String = KEY.bytes().map(|octet| format!("{octet:02x}")).collect();
    assert!(!log.contains(KEY) && !log.contains(&hex), "ROB: no key in the log");
}
