//! Runs the tools on an instance that has maps and no programs.

use sadb_maps::host::testing::TestInstance;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// An instance of its own and a directory for files.
pub(crate) struct Bench {
    pub(crate) instance: TestInstance,
    dir: TempDir,
}

/// What a tool printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |octets| String::from_utf8(octets).unwrap();
        Self { code: status.code(), out: text(stdout), err: text(stderr) }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        self
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let instance = TestInstance::with_maps(16).expect("maps: the tests run as root");
        Self { instance, dir: TempDir::new().unwrap() }
    }

    /// A file readable by root alone.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ipseckey(&self, arguments: &[&str]) -> Ran {
        self.run(Path::new(env!("CARGO_BIN_EXE_ipseckey")), arguments, "", &[])
    }

    pub(crate) fn ipsecconf(&self, arguments: &[&str]) -> Ran {
        self.run(Path::new(env!("CARGO_BIN_EXE_ipsecconf")), arguments, "", &[])
    }

    pub(crate) fn espadm(&self, arguments: &[&str]) -> Ran {
        self.run(Path::new(env!("CARGO_BIN_EXE_espadm")), arguments, "", &[])
    }

    /// Runs a tool as a user without rights, from a directory where everybody may run it.
    pub(crate) fn as_nobody(&self, tool: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::CommandExt;
        let directory = TempDir::new().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let copy = directory.path().join("tool");
        // By another process: one that this test starts meanwhile must not inherit the file open for writing.
        assert!(Command::new("cp").arg(tool).arg(&copy).status().unwrap().success());
        let mut command = Command::new(&copy);
        command.args(arguments).uid(65534).gid(65534).env_remove("SMF_FMRI").envs(environment.iter().copied());
        Ran::from(command.output().unwrap())
    }

    /// Runs a tool with the instance chosen by option, `input` on standard input and more environment.
    pub(crate) fn run(&self, tool: &Path, arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> Ran {
        let mut child = Command::new(tool)
            .args(["--instance", self.instance.name()])
            .args(arguments)
            .env("TZ", "UTC")
            .env_remove("SMF_FMRI")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A tool that does not read its input closes it early; that is no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::from(child.wait_with_output().unwrap())
    }
}
