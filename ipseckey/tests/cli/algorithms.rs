//! `ipsecalgs`, and what the other tools make of its table. Transcripts: see [`crate::shell`].

use crate::shell::{Shell, on_a_host};
use std::fmt::Write as _;

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

impl Shell {
    fn algs(&mut self, arguments: &[&str]) -> String {
        self.tool("ipsecalgs", arguments, "", &[])
    }

    /// A command whose output is too long to be looked at twice: lines with `wanted` are written down.
    fn algs_with(&mut self, arguments: &[&str], wanted: &str) {
        let output = self.command("ipsecalgs", arguments).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        writeln!(self.text, "$ ipsecalgs {} | grep '{wanted}'", arguments.join(" ")).unwrap();
        let lines: Vec<&str> = out.lines().filter(|line| line.contains(wanted)).collect();
        self.lines("", &lines.join("\n"));
        assert!(output.status.success(), "{output:?}");
    }

    /// What the file says.
    fn algs_file(&self) -> String {
        std::fs::read_to_string(self.etc.join("inet/ipsecalgs")).unwrap_or_default()
    }
}

/// The whole table, the examples of the manual page of Solaris, and every command.
#[test]
fn the_table_and_its_commands() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.title("Without a file everything that the data path can do");
        shell.algs(&[]);
        shell.title("Example 1 of the manual page of Solaris: a protocol; it is there under another name");
        shell.algs(&["-P", "3", "-p", "IPSEC_PROTO_ESP"]);
        shell.algs(&["-P", "3", "-p", "IPSEC_PROTO_ESP", "-f"]);
        shell.title("Example 2: Blowfish; 488 is a misprint, and Blowfish is there");
        let blowfish = |keys| {
            vec![
                "-a",
                "-P",
                "3",
                "-k",
                keys,
                "-K",
                "128",
                "-i",
                "8",
                "-n",
                "blowfish",
                "-b",
                "8",
                "-N",
                "7",
                "-m",
                "CKM_BF_CBC",
            ]
        };
        shell.algs(&blowfish("32-488"));
        shell.algs(&[blowfish("32-488"), vec!["-f"]].concat());
        shell.algs_with(&[], "32-488");
        shell.algs(&[blowfish("32-448"), vec!["-f"]].concat());
        shell.title("Example 3: in force");
        shell.algs(&["-s"]);
        shell.algs_with(&["-l"], "blowfish");
        shell.title("One that the data path has not: in the table, and of no use");
        shell.algs(&[
            "-a",
            "-p",
            "IPSEC_PROTO_ESP",
            "-N",
            "22",
            "-n",
            "camellia-cbc,camellia",
            "-m",
            "CKM_CAMELLIA_CBC",
            "-k",
            "256,128",
            "-K",
            "128",
            "-b",
            "16",
            "-s",
        ]);
        shell.algs_with(&["-l"], "INVALID");
        shell.title("Combined modes have parameters and flags");
        shell.algs(&[
            "-a",
            "-P",
            "3",
            "-N",
            "25",
            "-n",
            "x-gcm",
            "-m",
            "CKM_X_GCM",
            "-k",
            "128-256",
            "-i",
            "64",
            "-b",
            "16",
            "-I",
            "8",
            "-M",
            "16",
            "-S",
            "4",
            "-F",
            "COMBINED,COUNTER,GCM",
        ]);
        shell.title("Removing, by name and by number; a protocol with its algorithms; the mode");
        shell.algs(&["-r", "-P", "3", "-n", "x-gcm"]);
        shell.algs(&["-r", "-p", "IPSEC_PROTO_ESP", "-N", "22"]);
        shell.algs(&["-r", "-p", "IPSEC_PROTO_ESP", "-N", "22"]);
        shell.algs(&["-e", "async", "-P", "2"]);
        shell.algs(&["-P", "9", "-p", "NEW", "-e", "async"]);
        shell.algs(&["-R", "-p", "NEW"]);
        shell.algs(&["-R", "-P", "9"]);
        shell.algs(&["-R", "-P", "2", "-s"]);
        shell.algs_with(&["-l"], "Protocol number: 2");
        writeln!(shell.text, "$ cat /etc/inet/ipsecalgs").unwrap();
        let file = shell.algs_file();
        shell.lines("", &file);
        shell.title("A file that somebody has edited");
        std::fs::write(shell.etc.join("inet/ipsecalgs"), "PROTO|3|ESP|sync\nALG|3|12|aes|CKM_AES_CBC|128-x|16\n")
            .unwrap();
        shell.algs(&[]);
        shell.algs(&["-r", "-P", "3", "-n", "aes"]);
        shell.algs(&["-s"]);
        shell.compare("algorithms.txt");
    });
}

/// What the others make of it: names and synonyms, what is not there, key sizes, a table that cannot be read.
#[test]
fn the_other_tools_follow_the_table() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.title("Before");
        let policy = shell.file(
            "policy",
            "{ lport 1 } ipsec { encr_algs aes(128) encr_auth_algs sha1 }\n{ lport 2 } ipsec { encr_algs 12 auth_algs none encr_auth_algs any }\n",
        );
        let keys = shell.file(
            "keys",
            &format!(
                "add esp spi 0x10 src me dst you encr_alg aes encrkey {KEY} auth_alg sha1 authkey {KEY}10111213\n"
            ),
        );
        shell.tool("ipsecconf", &["-q", "-F", "-a", &policy], "", &[]);
        shell.tool("ipseckey", &["-f", &keys], "", &[]);
        shell.title("Synonyms; a change without -s changes nothing yet once a table is in force");
        shell.algs(&["-s"]);
        shell.algs(&[
            "-a",
            "-P",
            "3",
            "-N",
            "12",
            "-n",
            "rijndael,aes-cbc",
            "-m",
            "CKM_AES_CBC",
            "-k",
            "256,192",
            "-K",
            "192",
            "-b",
            "16",
            "-f",
        ]);
        let rijndael = shell.file("rijndael", "{ lport 3 } ipsec { encr_algs RIJNDAEL encr_auth_algs sha1 }\n");
        shell.tool("ipsecconf", &["-c", &rijndael], "", &[]);
        shell.algs(&["-s"]);
        shell.tool("ipsecconf", &["-a", &rijndael], "", &[]);
        shell.tool("ipsecconf", &["-l"], "", &[]);
        shell.title("Names that are not there any more, and key sizes");
        shell.tool("ipsecconf", &["-c", &policy], "", &[]);
        shell.tool("ipseckey", &["-c", &keys], "", &[]);
        let number = shell.file(
            "number",
            &format!("add esp spi 0x11 src me dst you encr_alg 12 encrkey {KEY} auth_alg sha1 authkey {KEY}10111213\n\
                      add esp spi 0x12 src me dst you encr_alg rijndael encrkey {KEY}0001020304050607 auth_alg sha1 authkey {KEY}10111213\n"),
        );
        shell.tool("ipseckey", &["-f", &number], "", &[]);
        shell.title("Removed: refused by name and by number, still shown");
        shell.algs(&["-r", "-P", "2", "-n", "sha1", "-s"]);
        shell.algs(&["-r", "-P", "3", "-n", "null", "-s"]);
        let removed = shell.file(
            "removed",
            "{ lport 4 } ipsec { auth_algs hmac-sha1 }\n{ lport 5 } ipsec { auth_algs 3 }\n{ lport 6 } ipsec { encr_auth_algs sha256 \
             }\n{ lport 7 } ipsec { auth_algs any }\n",
        );
        shell.tool("ipsecconf", &["-c", &removed], "", &[]);
        let sha1 = shell.file(
            "sha1",
            &format!("add ah spi 0x13 src me dst you auth_alg sha1 authkey {KEY}10111213\nadd ah spi 0x13 src me dst you auth_alg 3 \
                      authkey {KEY}10111213\nadd esp spi 0x14 src me dst you auth_alg md5 authkey {KEY}\n"),
        );
        shell.tool("ipseckey", &["-f", &sha1], "", &[]);
        shell.tool("ipseckey", &["-n", "-p", "get", "esp", "spi", "0x10", "dst", "you"], "", &[]);
        shell.title("Without a table in force the file holds");
        std::fs::remove_file(shell.bench.instance.run_dir().unwrap().join("ipsecalgs")).unwrap();
        shell.algs(&["-R", "-P", "3"]);
        shell.tool("ipsecconf", &["-c", &rijndael], "", &[]);
        shell.title("A table that cannot be read permits nothing, and keeps nobody from looking and flushing");
        std::fs::write(shell.bench.instance.run_dir().unwrap().join("ipsecalgs"), "bogus\n").unwrap();
        shell.tool("ipsecconf", &["-c", &rijndael], "", &[]);
        shell.tool("ipsecconf", &["-F"], "", &[]);
        shell.tool("ipseckey", &["flush"], "", &[]);
        shell.algs(&["-l"]);
        shell.compare("algorithms_followed.txt");
    });
}

/// A command of the table below: what it needs, and which options go with it.
struct Command {
    needed: &'static [&'static str],
    /// Options that may stand beside.
    takes: &'static str,
}

const COMMANDS: &[Command] = &[
    Command { needed: &[], takes: "" },
    Command { needed: &["-l"], takes: "" },
    Command { needed: &["-s"], takes: "" },
    Command {
        needed: &["-a", "-P 3", "-N 99", "-n fine", "-m CKM_X", "-k 64-128", "-i 8", "-b 8"],
        takes: "K I M S F f s",
    },
    Command { needed: &["-P 9", "-p NINE"], takes: "e f s" },
    Command { needed: &["-e sync", "-P 3"], takes: "s" },
    Command { needed: &["-r", "-P 3", "-n des"], takes: "s" },
    Command { needed: &["-r", "-p PROTO_IPSEC_ESP", "-N 2"], takes: "s" },
    Command { needed: &["-R", "-P 3"], takes: "s" },
];

/// Every option with a good value.
const OPTIONS: &[&str] = &[
    "-a",
    "-r",
    "-R",
    "-l",
    "-s",
    "-f",
    "-P 3",
    "-p PROTO_IPSEC_ESP",
    "-e sync",
    "-N 99",
    "-n fine",
    "-m CKM_X",
    "-k 64",
    "-i 8",
    "-K 64",
    "-b 8",
    "-I 8",
    "-M 8",
    "-S 4",
    "-F COUNTER",
];

/// Options and values that are wrong wherever they stand.
const BAD: &[&str] = &[
    "-P 0", "-P 256", "-P x", "-N 0", "-N 256", "-e fast", "-i 0", "-K 0", "-K 65536", "-I x", "-M -1", "-F LOUD",
    "-z", "stray",
];

fn words(parts: &[&str]) -> Vec<String> {
    parts.iter().flat_map(|part| part.split(' ')).map(str::to_owned).collect()
}

/// Every option with every command: taken, or refused without a change. From one table.
#[test]
fn every_option_with_every_command() {
    on_a_host(|| {
        let shell = Shell::new();
        let path = shell.etc.join("inet/ipsecalgs");
        let run = |parts: &[&str]| {
            let _ = std::fs::remove_file(&path);
            let arguments = words(parts);
            let output =
                shell.command("ipsecalgs", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
            (output.status.code() == Some(0), path.exists(), output)
        };
        for Command { needed, takes } in COMMANDS {
            let (good, changed, output) = run(needed);
            let changes = !matches!(needed, [] | ["-l"] | ["-s"]);
            assert!(good && changed == changes, "{needed:?}: {output:?}");
            for missing in 0..needed.len() {
                let rest: Vec<&str> =
                    needed.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, part)| *part).collect();
                // What is left is a command of its own, or none.
                if rest.is_empty() || COMMANDS.iter().any(|other| other.needed == rest) {
                    continue;
                }
                let (good, changed, output) = run(&rest);
                assert!(!good && !changed, "{rest:?}: {output:?}");
            }
            for option in OPTIONS {
                let letter = option.get(1..2).unwrap();
                let there = needed.iter().any(|part| part.get(1..2) == Some(letter));
                let (good, changed, output) = run(&[needed, &[*option][..]].concat());
                // An option without a command is a command, or a part of one.
                let wanted = match (needed.is_empty(), there) {
                    (true, _) => matches!(letter, "l" | "s"),
                    (_, true) => false,
                    (_, false) => takes.contains(letter),
                };
                // -P beside -e or -p is another command.
                if !there && matches!((*needed, letter), (["-e sync", ..], "p")) {
                    assert!(good || !changed, "{needed:?} {option}: {output:?}");
                    continue;
                }
                assert_eq!(good, wanted, "{needed:?} {option}: {output:?}");
                assert!(good || !changed, "{needed:?} {option}");
            }
            for bad in BAD {
                let letter = bad.get(1..2).unwrap();
                if needed.iter().any(|part| part.get(1..2) == Some(letter)) {
                    continue;
                }
                let (good, changed, output) = run(&[needed, &[*bad][..]].concat());
                assert!(!good && !changed, "{needed:?} {bad}: {output:?}");
            }
        }
    });
}

#[test]
fn only_root_changes_the_table_and_everybody_may_read_it() {
    use std::path::Path;
    let bench = crate::support::Bench::new();
    let tool = Path::new(env!("CARGO_BIN_EXE_ipsecalgs"));
    for arguments in [&["-l"][..], &["-s"], &["-r", "-P", "3", "-n", "des"]] {
        let ran = bench.as_nobody(tool, arguments, &[]);
        assert!(ran.code == Some(1) && ran.err.contains("only root"), "{ran:?}");
    }
    let listed = bench.as_nobody(tool, &["--json"], &[]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["protocols"][0]["mode"] == "sync" && listed["algorithms"][1]["usable"] == true, "{listed}");
}
