//! Transcripts of `ipseckey`: see [`crate::shell`].

use crate::shell::{Shell, on_a_host};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};

const MD5: &str = "authalg md5 authkey bde359723576fdea08e56cbe876e24ad";
const DES: &str = "encralg des encrkey be02938e7def2839";

/// Every example of the manual page of Solaris, in its order.
#[test]
fn the_examples_of_the_manual_of_solaris() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.title("Example 7: adding and updating, in a session");
        let session = "add ah spi 0x90125 src me.example.com dst you.example.com \\\n          authalg md5 authkey \
             1234567890abcdef1234567890abcdef\nupdate ah spi 0x90125 dst you.example.com hard_bytes \\\n          \
             16000000\nexit\n";
        shell.run_with(&[], session, &[]);
        shell.run(&["-n", "get", "ah", "spi", "0x90125", "dst", "you.example.com"]);
        shell.title("Example 7, a pair: both SAs of it have one direction, and so it is refused");
        let pair = |src: &str, dst: &str| {
            format!(
                "add esp spi 0x2345 src me.example.com dst you.example.com \\\n   {MD5} \\\n   {DES}\nadd esp spi 0x5432 src \
                 {src} dst {dst} \\\n   {MD5} \\\n   {DES} pair-spi 0x2345\nexit\n"
            )
        };
        shell.run_with(&[], &pair("me.example.com", "you.example.com"), &[]);
        shell.title("The same with the ends of the second one exchanged");
        shell.run(&["flush", "esp"]);
        shell.run_with(&[], &pair("you.example.com", "me.example.com"), &[]);
        shell.run(&["dump", "esp"]);
        shell.title("Example 8: an SA in the opposite direction");
        let opposite = format!(
            "add ah spi 0x2112 src you.example.com dst me.example.com \\\n          {MD5} \\\n          hard_bytes 16000000\nexit\n"
        );
        shell.run_with(&[], &opposite, &[]);
        shell.run(&["-n", "-p", "get", "ah", "spi", "0x2112", "dst", "me.example.com"]);
        shell.title("Example 3: saving all SAs to standard output");
        shell.run(&["save", "all"]);
        shell.title("Example 4: saving those of ESP to a file");
        let snapshot = shell.bench.path("snapshot").display().to_string();
        shell.run(&["save", "esp", &snapshot]);
        let saved = std::fs::read_to_string(&snapshot).unwrap();
        writeln!(shell.text, "$ cat /tmp/snapshot").unwrap();
        shell.lines("", &saved);
        shell.title("Example 5: deleting");
        let group = format!(
            "add esp spi 0x2112 src me.example.com dst 224.0.0.1 encr_alg aes-ctr encrkey {}000102 {MD5}\n",
            "01234567".repeat(4) + "89"
        );
        shell.run_with(&[], &group, &[]);
        shell.run(&["delete", "esp", "spi", "0x2112", "dst", "224.0.0.1"]);
        shell.run(&["delete", "esp", "spi", "0x2112", "dst", "224.0.0.1"]);
        shell.run_with(&[], &group, &[]);
        shell.run(&["delete-pair", "esp", "spi", "0x2112", "dst", "224.0.0.1"]);
        shell.run(&["delete-pair", "esp", "spi", "0x5432", "dst", "me.example.com"]);
        shell.title("Example 6: getting information");
        shell.run_with(&[], &format!("add ah spi 0x5150 src me.example.com dst mypeer {MD5}\n"), &[]);
        shell.run(&["get", "ah", "spi", "0x5150", "dst", "mypeer"]);
        shell.title("Example 2: flushing AH only");
        shell.run_with(&[], &format!("add esp spi 1 src me dst mypeer {DES} {MD5}\n"), &[]);
        shell.run(&["flush", "ah"]);
        shell.run(&["dump", "ah"]);
        shell.run(&["-n", "-p", "dump"]);
        shell.title("Example 1: emptying out everything");
        shell.run(&["flush"]);
        shell.run(&["dump"]);
        shell.title("Example 10: commands in a file");
        let file = shell.file(
            "sample",
            &format!(
                "# This is a sample file for flushing out the ESP table and\n# adding a pair of SAs.\n\nflush esp\n\n\
                 ### Watch out!  I have keying material in this file.\n\n\
                 add esp spi 0x2112 src me.example.com dst you.example.com \\\n    {MD5} \\\n    {DES} hard_usetime 28800\n\
                 add esp spi 0x5150 src you.example.com dst me.example.com \\\n    authalg md5 authkey \
                 930987dbe09743ade09d92b4097d9e93 \\\n    encralg des encrkey 8bd4a52e10127deb hard_usetime 28800\n\n\
                 ## End of file  -  This is a gratuitous comment\n"
            ),
        );
        shell.run(&["-c", &file]);
        shell.run(&["-f", &file]);
        shell.run(&["-n", "-p", "dump"]);
        shell.run_with(&["-f", &file], "", &[("SMF_FMRI", "svc:/network/ipsec/manual-key:default")]);
        shell.title("Example 11: IPv6; a backslash right behind a word is a blank");
        let six = format!(
            "add esp spi 0x6789 src6 fec0:bbbb::4483 dst6 fec0:bbbb::7843\\\n           {MD5} \\\n          {DES} \
             hard_usetime 28800\nexit\n"
        );
        shell.run_with(&[], &six, &[]);
        shell.run(&["-p", "get", "esp", "spi", "0x6789", "dst", "fec0:bbbb::7843"]);
        shell.title("Example 12: linking two SAs; not on the command line, where the manual has it");
        shell.run(&["update", "esp", "spi", "0x123456", "dst", "192.168.99.2", "pair-spi", "0x654321"]);
        let link = format!(
            "add esp spi 0x123456 src me dst 192.168.99.2 {DES} {MD5}\nadd esp spi 0x654321 src 192.168.99.2 dst me {DES} \
             {MD5}\nupdate esp spi 0x123456 dst 192.168.99.2 pair-spi 0x654321\n"
        );
        shell.run_with(&[], &link, &[]);
        shell.run(&["-n", "-p", "get", "esp", "spi", "0x654321", "dst", "me"]);
        shell.compare("manual.txt");
    });
}

/// Example 9 of the manual page of Solaris.
#[test]
fn monitor_tells_what_others_do() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.title("Example 9: monitoring");
        writeln!(shell.text, "$ ipseckey -n monitor").unwrap();
        let mut child = shell.command("ipseckey", &["-n", "monitor"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first = lines.next().unwrap();
        shell.lines("", &first);
        let session = format!(
            "add esp spi 0x2112 src me dst mypeer {DES} {MD5}\nupdate esp spi 0x2112 dst mypeer soft_addtime 6000 \
             hard_addtime 9000\ndelete esp spi 0x2112 dst mypeer\nflush ah\n"
        );
        let file = shell.bench.file("keys", &session).display().to_string();
        let keys = shell.command("ipseckey", &["-f", &file]).output().unwrap();
        assert!(keys.status.success(), "{keys:?}");
        // Four messages, with an empty line behind each.
        let mut left = 4;
        while left > 0 {
            let line = lines.next().unwrap();
            left -= i32::from(line.is_empty());
            assert!(!line.contains("bde359") && !line.contains("be0293"));
            shell.lines("", &format!("{line}\n"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        shell.compare("monitor.txt");
    });
}

/// The example file of the reference, and what goes with it.
#[test]
fn the_example_file_of_the_reference() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.title("A file with three SAs, two of them a pair");
        let file = shell.file(
            "ipseckeys",
            "# /etc/inet/secret/ipseckeys   (root, 0600)\nflush esp\n\
             add esp spi 0x1001 src 192.0.2.1 dst 198.51.100.7 outbound \\\n    encr_alg aes encrkey \
             000102030405060708090a0b0c0d0e0f \\\n    auth_alg sha256 authkey \
             202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f \\\n    hard_addtime 28800 soft_addtime 25920 \
             soft_bytes 900000000 hard_bytes 1000000000\n\
             add esp spi 0x1002 src 198.51.100.7 dst 192.0.2.1 inbound pair-spi 0x1001 \\\n    encr_alg aes-gcm encrkey \
             000102030405060708090a0b0c0d0e0f01020304/160\n\
             add esp spi 0x2001 src 192.0.2.1 dst 198.51.100.7 proto 4 isrc 10.1.0.0/16 idst 10.2.0.0/16 encr_alg null \\\n    \
             auth_alg sha1 authkey 0x000102030405060708090a0b0c0d0e0f10111213\n",
        );
        shell.run(&["-c", &file]);
        shell.run(&["-f", &file]);
        shell.run(&["-n", "dump"]);
        shell.run(&["-v", "-n", "-p", "get", "esp", "spi", "0x1001", "dst", "198.51.100.7"]);
        shell.run(&["save", "esp"]);
        shell.title("A second time: SAs that are there");
        let file = shell.file("again", "add esp spi 0x2001 src 192.0.2.1 dst 198.51.100.7 encr_alg null auth_alg sha1 authkey 0x000102030405060708090a0b0c0d0e0f10111213\n");
        shell.run(&["-f", &file]);
        shell.title("What becomes of partners");
        shell.run(&["delete", "esp", "spi", "0x1001", "dst", "198.51.100.7"]);
        shell.run(&["-n", "-p", "get", "esp", "spi", "0x1002", "dst", "192.0.2.1"]);
        shell.title("A name with two addresses makes two SAs");
        let two = shell.file(
            "two",
            &format!("add esp spi 0x77 src me dst two.example.com {DES} {MD5}\nget esp spi 0x77 dst two.example.com\n"),
        );
        shell.run(&["-n", "-p", "-f", &two]);
        shell.run(&["delete", "esp", "spi", "0x77", "dst", "two.example.com"]);
        shell.compare("reference.txt");
    });
}

/// Every message about what is wrong with a command: one bad command a line, each with what is said about it.
#[test]
fn what_is_said_about_bad_commands() {
    const KEY: &str = "000102030405060708090a0b0c0d0e0f";
    on_a_host(|| {
        let mut shell = Shell::new();
        let good = format!("src me dst you encr_alg aes encrkey {KEY} auth_alg sha1 authkey {KEY}10111213");
        let bench = &shell.bench;
        let first = format!(
            "add esp spi 0x10 {good} outbound\nadd esp spi 0x11 src you dst me inbound encr_alg null auth_alg sha1 authkey {KEY}10111213\n"
        );
        bench
            .ipseckey(&[
                "-f",
                bench
                    .file("first", &first.replace("me ", "192.0.2.1 ").replace("you", "198.51.100.7"))
                    .to_str()
                    .unwrap(),
            ])
            .ok();
        let group = |title: &str, lines: &[String]| (title.to_owned(), lines.to_vec());
        let add = |rest: &str| format!("add esp spi 0x100 {rest}");
        let with = |rest: &str| add(&format!("{good} {rest}"));
        let aes = |rest: &str| add(&format!("src me dst you encr_alg aes {rest}"));
        let des =
            |key: &str| add(&format!("src me dst you encr_alg des encrkey {key} auth_alg sha1 authkey {KEY}10111213"));
        let words = |list: &[&str]| list.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        for (title, lines) in [
            group(
                "Commands",
                &words(&[
                    "bogus",
                    "add",
                    "add all spi 1",
                    "add rsvp spi 1",
                    "flush esp now",
                    "flush bogus",
                    "dump esp",
                    "save",
                    "help",
                    "monitor",
                    "get",
                    "get esp",
                    "get esp spi 1",
                    "get esp dst you",
                    "update esp spi 0x10",
                    "update-pair esp spi 0x10 dst you pair-spi 9",
                ]),
            ),
            group(
                "Extensions",
                &[
                    with("bogus 1"),
                    with("flags 1"),
                    with("current_bytes 1"),
                    with("dpd 1"),
                    with("sens_level 1"),
                    with("spi 5"),
                    with("daddr6 ::1"),
                    with("inbound outbound"),
                    with("spi"),
                    "get esp spi 1 dst you replay 3".into(),
                    "delete esp spi 1 dst you encrkey 00".into(),
                    with("label public"),
                    with("srcidtype bogus x"),
                    with("srcidtype fqdn"),
                    with("state larval"),
                    with("state 9"),
                    with("encap tcp"),
                    with("encap udp"),
                    with("nat_loc 203.0.113.9"),
                ],
            ),
            group(
                "Numbers",
                &words(&[
                    "get esp spi 0 dst you",
                    "get esp spi 0x100000000 dst you",
                    "get esp spi 089 dst you",
                    "get esp spi +1 dst you",
                    "get esp spi 0x dst you",
                    "get esp spi -1 dst you",
                    "get esp spi 1 dst you sport 65536",
                    "get esp spi 1 dst you proto tcp",
                    "get esp spi 1 dst you dport http",
                ]),
            ),
            group(
                "Addresses",
                &words(&[
                    "get esp spi 1 dst nobody.invalid",
                    "get esp spi 1 dst6 you",
                    "get esp spi 1 dst 192.0.2.300",
                    "get esp spi 1 src6 fec0:bbbb::4483 dst you",
                    "add esp spi 0x100 dst 0.0.0.0 encr_alg null auth_alg md5 authkey bde359723576fdea08e56cbe876e24ad",
                    "add esp spi 0x100 src 224.0.0.1 dst you encr_alg null auth_alg md5 authkey bde359723576fdea08e56cbe876e24ad",
                ]),
            ),
            group(
                "Tunnels",
                &[
                    with("isrc 10.0.0.0/33 idst 10.0.0.1"),
                    with("isrc 10.0.0.1 idst ::1"),
                    with("proto 6 isrc 10.0.0.1 idst 10.0.0.2"),
                    with("isport 1 sport 2"),
                    with("isrc6 10.0.0.1"),
                    with("isrc two.example.com idst 10.0.0.2"),
                ],
            ),
            group(
                "Keys",
                &[
                    add("src me dst you"),
                    add(&format!("src me dst you encrkey {KEY}")),
                    aes("encrkey 00g1"),
                    aes("encrkey 0x"),
                    aes("encrkey 00/0"),
                    aes("encrkey 00/9x"),
                    aes("encrkey 00/99"),
                    aes(&format!("encrkey {KEY}")),
                    aes(&format!("encrkey {KEY}00 auth_alg sha1 authkey {KEY}10111213")),
                    aes(&format!("encrkey {KEY}/127 auth_alg sha1 authkey {KEY}10111213")),
                    aes(&format!("encrkey {KEY} auth_alg sha1 authkey {KEY}")),
                    aes(&format!("encrkey {KEY} auth_alg sha1")),
                    aes(&format!("encrkey {KEY} authkey {KEY}10111213")),
                    aes(&format!("auth_alg sha1 authkey {KEY}10111213")),
                    add(&format!("src me dst you encr_alg aes-gcm encrkey {KEY} auth_alg sha1 authkey {KEY}10111213")),
                    add(&format!("src me dst you encr_alg aes-gcm encrkey {KEY}")),
                    add(&format!("src me dst you encr_alg aes-gcm encrkey {KEY}01020304 reserved_bits 8")),
                    add(&format!("src me dst you encr_alg null encrkey {KEY}")),
                    add(&format!("src me dst you encr_alg rot13 encrkey {KEY}")),
                    add(&format!("src me dst you encr_alg 99 encrkey {KEY} auth_alg sha1 authkey {KEY}10111213")),
                    add(&format!("src me dst you encr_alg 256 encrkey {KEY}")),
                    format!("add ah spi 0x100 src me dst you encr_alg aes encrkey {KEY}"),
                    format!("add ah spi 0x100 src me dst you auth_alg sha9 authkey {KEY}"),
                    aes(&format!("encrkey {} auth_alg sha1 authkey {KEY}10111213", "00".repeat(16))),
                    des("0101010101010101"),
                    des("e0fee0fef1fef1fe"),
                    add(&format!(
                        "src me dst you encr_alg 3des encrkey {} auth_alg sha1 authkey {KEY}10111213",
                        "be02938e7def2839".repeat(3)
                    )),
                ],
            ),
            group(
                "Limits",
                &[
                    with("soft_bytes 2 hard_bytes 1"),
                    with("soft_addtime 2 hard_addtime 1"),
                    with("soft_usetime 2 hard_usetime 1"),
                    with("soft_alloc 2 hard_alloc 1"),
                    with("soft_addtime 5 hard_addtime 6 idle_addtime 7"),
                    with("replay 65537"),
                    with("replay_value 0x100000000"),
                    with("soft_alloc 0x100000000"),
                    with("idle_addtime 0x100000000"),
                ],
            ),
            group(
                "What the database refuses",
                &[
                    format!("add esp spi 0x10 {good} outbound"),
                    "get esp spi 0x77 dst you".into(),
                    "delete ah spi 0x10 dst you".into(),
                    "delete-pair ah spi 0x10 dst you".into(),
                    "update esp spi 0x77 dst you soft_bytes 1".into(),
                    "update-pair esp spi 0x10 dst you soft_bytes 1".into(),
                    format!("add esp spi 0x100 {good} outbound pair-spi 0x77"),
                    format!(
                        "add esp spi 0x100 src me dst two.example.com outbound pair-spi 0x11 encr_alg null auth_alg sha1 authkey {KEY}10111213"
                    ),
                    with("encap udp nat_loc 192.0.2.1"),
                    with("encap udp nat_loc ::1"),
                    format!("update esp spi 0x10 dst you encrkey {KEY}"),
                    format!("update esp spi 0x10 dst you authkey {KEY}"),
                    "update esp spi 0x10 dst you replay_value 9".into(),
                    "update esp spi 0x10 dst you replay 9".into(),
                    "update esp spi 0x10 dst you pair-spi 0x10".into(),
                ],
            ),
        ] {
            shell.title(&title);
            let file = shell.bench.file("bad", &(lines.join("\n") + "\n")).display().to_string();
            let out = shell.run(&["-n", "-f", &file]);
            assert!(!out.contains(KEY), "{out}");
            let every = format!("{0} of {0} commands failed, ", lines.len());
            assert!(out.contains(&every), "{out}");
        }
        shell.title("Lines");
        let file = shell
            .bench
            .file("lines", &format!("flush \"esp\nadd esp {}\nflush esp\n", "x ".repeat(3000)))
            .display()
            .to_string();
        shell.run(&["-f", &file]);
        shell.title("Options and files");
        for arguments in [
            &["-f", "/nonexistent/keys"][..],
            &["-f", "/"],
            &["-f", "-"],
            &["-s", "/nonexistent/keys"],
            &["add", "esp"],
            &["update-pair", "esp"],
            &["get", "esp", "spi", "1"],
            &["flush", "rsvp"],
        ] {
            shell.run(arguments);
        }
        shell.compare("errors.txt");
    });
}
