//! Transcripts of `ipsecconf`: see [`crate::shell`].

use crate::shell::{Shell, on_a_host};
use sadb_maps::host::tunnels::{Tunnel, Tunnels};
use std::fmt::Write as _;

const SERVICE: [(&str, &str); 1] = [("SMF_FMRI", "svc:/network/ipsec/policy:default")];

impl Shell {
    fn conf(&mut self, arguments: &[&str]) -> String {
        self.tool("ipsecconf", arguments, "", &[])
    }

    /// A policy in place of what there was, and what it made.
    fn policy(&mut self, title: &str, text: &str) {
        self.title(title);
        let file = self.file("policy", text);
        self.conf(&["-F", "-a", &file]);
        self.conf(&["-L"]);
    }

    fn tunnel(&self, name: &str) {
        let tunnel = Tunnel::new(name, "192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        Tunnels::open(&self.bench.instance).unwrap().create(tunnel).unwrap();
    }
}

/// What the examples of the manual page of Solaris show, in its order.
#[test]
fn what_the_examples_of_the_manual_of_solaris_show() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.tunnel("ip.tun0");
        for (title, text) in [
            (
                "Example 1: outbound TCP with ESP; a cipher without authentication",
                "#\n# TCP to another host\n#\n{\n     laddr me\n     raddr you\n     ulp tcp\n     dir out\n} ipsec {\n\t     encr_algs AES\n}\n",
            ),
            (
                "Example 2: the same for what comes in",
                "{\n\tladdr me\n\traddr you\n\tulp tcp\n\tdir in\n} ipsec {\n\tencr_algs AES\n}\n",
            ),
            ("Example 3: both directions at once", "{ laddr me raddr you ulp tcp } ipsec { encr_algs AES }\n"),
            (
                "Example 4: inbound to the port of telnet, authenticated",
                "# comes authenticated\n{\n\tlport telnet\n\tdir in\n} ipsec {\n\tauth_algs sha1\n}\n",
            ),
            (
                "Example 5: null encryption, and one host past it",
                "{\nraddr you\n\tdir in\n} bypass {}\n\n# Now for its network.\n{\n\traddr lab/16\n\tdir in\n} ipsec {\n\
                 encr_algs NULL\nencr_auth_algs md5\n}\n",
            ),
            (
                "Example 6: ports in clear; bypass without dir",
                "{lport 53} bypass {}\n{rport domain} bypass {}\n{raddr you } ipsec {encr_algs any sa unique}\n",
            ),
            (
                "Example 7: a name with two addresses makes two rules",
                "{raddr you dir out} ipsec {auth_algs any sa unique}\n{\n    laddr two.example.com\n    raddr you\n    dir in\n} \
                 ipsec {auth_algs any sa unique}\n",
            ),
            (
                "Example 8: order does not matter to bypass",
                "{raddr lab/16 dir out} ipsec {auth_algs any}\n{dir out} ipsec {encr_algs any}\n{raddr 10.8.0.0/16 dir out} \
                 bypass {} # NULL properties\n",
            ),
            (
                "Example 9: IPv6 with triple DES and MD5",
                "{\n    laddr fe80::a00:20ff:fe21:4483\n    raddr fe80::a00:20ff:fe1f:e346\n    dir out\n} ipsec {\n    \
                 encr_algs 3DES\n    encr_auth_algs MD5\n}\n",
            ),
            (
                "Example 9 with the misprint of the page",
                "{\n    laddr fe80::a00:20ff:fe21:4483\n    raddr fe80::a00:20ff:felf:e346\n    dir out\n} ipsec {\n    \
                 encr_algs 3DES\n    encr_auth_algs MD5\n}\n",
            ),
            ("Example 10: a network of IPv6", "{raddr fec0:abcd::0/32} ipsec { auth_algs SHA1 }\n"),
            (
                "Example 11: lengths of keys; one rule is enough for the same packets",
                "# any\n{raddr 10.1.0.1} ipsec {encr_algs aes}\n# 192\n{raddr 10.1.0.2} ipsec {encr_algs aes(192)}\n\
                 # up to 192\n{raddr 10.1.0.3} ipsec {encr_algs aes(..192)}\n# 192 or more\n{raddr 10.1.0.4} ipsec {encr_algs \
                 aes(192..)}\n# from 192 to 256\n{raddr 10.1.0.5} ipsec {encr_algs aes(192..256)}\n# anything with 192 or \
                 more\n{raddr 10.1.0.6} ipsec {encr_algs any(192..)}\n{raddr 10.1.0.1} ipsec {encr_algs aes(192)}\n",
            ),
            (
                "Example 12: where a rule may be broken",
                "{ raddr you rport telnet } ipsec { encr_algs 3des encr_auth_algs\nsha1 sa shared}\n\n{\n        raddr you\n        \
                 rport 24\n} ipsec {\n        encr_algs 3des\n        encr_auth_algs sha1\n        sa shared\n}\n\n\
                 { raddr you rport 25 } ipsec\n        { encr_algs 3des encr_auth_algs sha1 sa shared}\n\n\
                 { raddr you rport 26 } ipsec\n        { encr_algs 3des encr_auth_algs sha1 sa shared} or ipsec\n        \
                 { encr_algs aes encr_auth_algs sha1 sa shared}\n",
            ),
            (
                "Example 12: where it may not",
                "{ raddr you rport telnet } ipsec\n        { encr_algs 3des encr_auth_algs sha1 sa shared}\n        or ipsec { \
                 encr_algs aes encr_auth_algs sha1 sa shared}\n",
            ),
            (
                "Example 13: neighbour discovery in clear",
                "{raddr fec0:abcd::0/32} ipsec { auth_algs SHA1 }\n{raddr fec0:abcd::0/32 ulp ipv6-icmp type 133-137  dir both \
                 }\n    pass { }\n",
            ),
            (
                "Example 13 as the text of the page has it, the action on the line of the brace",
                "{raddr fec0:abcd::0/32} ipsec { auth_algs SHA1 }\n{raddr fec0:abcd::0/32 ulp ipv6-icmp type 133-137  dir both \
                 } pass { }\n",
            ),
            ("Example 14: or", "{raddr you} ipsec {encr_algs aes} or ipsec {encr_algs blowfish}\n"),
            (
                "Example 15: the outer packets of a tunnel in transport mode",
                "{tunnel ip.tun0 negotiate transport} ipsec {encr_algs aes\n                      encr_auth_algs md5}\n",
            ),
            (
                "Example 16: one client behind a tunnel",
                "{tunnel ip.tun0 negotiate tunnel raddr 10.9.9.9/32\nladdr 0.0.0.0/0} ipsec {encr_algs aes encr_auth_algs sha1}\n",
            ),
            (
                "Example 17: from tunnel to tunnel",
                "{tunnel ip.tun0 negotiate tunnel raddr 10.1.0.0/24 laddr\n10.2.0.0/24} ipsec {encr_algs 3des encr_auth_algs md5}\n\
                 {tunnel ip.tun0 negotiate tunnel raddr 10.1.0.0/24 laddr\n10.3.0.0/24} ipsec {encr_algs 3des encr_auth_algs md5}\n\
                 {tunnel ip.tun1 negotiate tunnel raddr 10.2.0.0/24 laddr\n10.1.0.0/24} ipsec {encr_algs aes encr_auth_algs sha1}\n\
                 {tunnel ip.tun1 negotiate tunnel raddr 10.2.0.0/24 laddr\n10.3.0.0/24} ipsec {encr_algs aes encr_auth_algs md5}\n",
            ),
        ] {
            shell.policy(title, text);
        }
        shell.compare("policy_manual.txt");
    });
}

/// The examples of the reference (spec section 4.7), and every command on what they made.
#[test]
fn the_examples_of_the_reference_and_every_command() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.tunnel("vpn1");
        shell.title("Nothing is loaded");
        shell.conf(&[]);
        shell.conf(&["-l"]);
        shell.policy(
            "The examples of the reference",
            "{ laddr 192.0.2.1 raddr 198.51.100.7 } ipsec { encr_algs aes(256) encr_auth_algs sha256 sa shared }\n\
             { raddr 198.51.100.0/24 ulp tcp rport 443 dir both } pass { }            # boosted above every ipsec rule\n\
             { raddr 203.0.113.9 } ipsec { encr_algs aes-gcm(256) } or ipsec\n        { encr_algs aes encr_auth_algs sha512 }    \
             # \"or\" on the brace line\n\
             { tunnel vpn0 negotiate tunnel laddr 10.1.0.0/16 raddr 10.2.0.0/16 } ipsec { encr_algs aes encr_auth_algs sha384 \
             sa shared }\n\
             { tunnel vpn1 negotiate transport } ipsec { encr_algs aes encr_auth_algs sha256 }\n\
             { dport 23 } apply { encr_algs aes encr_auth_algs sha1 sa shared }      # old style pair\n\
             { sport 23 } permit { encr_algs aes encr_auth_algs sha1 }\n",
        );
        let file = shell.bench.path("policy").display().to_string();
        shell.title("Entries as typed");
        shell.conf(&[]);
        shell.title("Checking only");
        shell.conf(&["-c", &file]);
        shell.title("Numbers instead of names; one tunnel");
        shell.conf(&["-l", "-n"]);
        shell.conf(&["-l", "-i", "vpn0", "-n"]);
        shell.conf(&["-L", "-i", "vpn1"]);
        shell.conf(&["-l", "-i", "vpn9"]);
        shell.title("A second time; quietly");
        shell.conf(&["-a", &file]);
        shell.conf(&["-a", &file, "-q"]);
        shell.title("Deleting by index");
        shell.conf(&["-d", "2"]);
        shell.conf(&["-d", "2"]);
        shell.conf(&["-d", "4"]);
        shell.conf(&["-d", "vpn0,4", "-i", "vpn0"]);
        shell.conf(&["-d", "vpn0,4"]);
        shell.conf(&["-d", "5", "-i", "vpn1"]);
        shell.conf(&["-d", "x"]);
        shell.conf(&["-l", "-n"]);
        shell.title("Removing by text");
        let some = shell.file(
            "some",
            "{ sport   23 } permit # the same words\n  { encr_algs aes encr_auth_algs sha1 }\n{ dport 24 } drop { }\n",
        );
        shell.conf(&["-r", &some]);
        shell.conf(&["-r", &some, "-q"]);
        shell.conf(&[]);
        shell.title("Flushing a tunnel, the host, everything");
        shell.conf(&["-q", "-F", "-a", &file]);
        shell.conf(&["-f", "-i", "vpn0"]);
        shell.conf(&["-l", "-i", "vpn0"]);
        shell.conf(&["-f"]);
        shell.conf(&["-L"]);
        shell.conf(&["-F"]);
        shell.conf(&["-L"]);
        shell.title("Replacing the policy of one tunnel, and from standard input");
        shell.conf(&["-q", "-a", &file]);
        shell.tool(
            "ipsecconf",
            &["-f", "-i", "vpn0", "-a", "-"],
            "{ tunnel vpn0 neg tunnel } ipsec { encr_algs aes }\n",
            &[],
        );
        shell.tool(
            "ipsecconf",
            &["-f", "-i", "vpn0", "-a", "-"],
            "{ tunnel vpn0 negotiate tunnel } ipsec { encr_algs aes-gcm }\n",
            &[],
        );
        shell.conf(&["-l", "-i", "vpn0"]);
        shell.tool("ipsecconf", &["-f", "-a", "-"], "# nothing\n", &[]);
        shell.conf(&["-l"]);
        shell.title("As a service");
        shell.tool("ipsecconf", &["-q", "-F", "-a", &file], "", &SERVICE);
        let bad = shell.file("bad", "{ ulp tcp } ipsec { }\n");
        shell.tool("ipsecconf", &["-q", "-F", "-a", &bad], "", &SERVICE);
        shell.tool("ipsecconf", &["-q", "-F", "-a", "/nonexistent"], "", &SERVICE);
        shell.tool("ipsecconf", &["-q", "-F", "-x"], "", &SERVICE);
        shell.conf(&["-l", "-n"]);
        shell.tool("ipsecconf", &["-F"], "", &SERVICE);
        shell.title("As JSON");
        shell.conf(&["--json", "-q", "-F", "-a", &some]);
        shell.conf(&["--json"]);
        shell.conf(&["--json", "-l"]);
        shell.conf(&["--json", "-c", &bad]);
        shell.compare("policy_reference.txt");
    });
}

/// Every message about what is wrong with a rule: one bad rule each, with what is said about it.
#[test]
fn what_is_said_about_bad_rules() {
    on_a_host(|| {
        let mut shell = Shell::new();
        shell.tunnel("vpn1");
        let long = format!("{{ laddr {} dir in }} drop {{ }}", "1".repeat(8200));
        let many = format!("{{ {}}} drop {{ }}", "ulp tcp ".repeat(11));
        let ors = format!("{{ }} ipsec {{ encr_algs aes-gcm }}{}", " or ipsec { encr_algs aes-gcm }".repeat(20));
        let huge = format!("{{ }} ipsec {{\n{}}}", "# x\n".repeat(2048));
        let name = format!("{{ tunnel {} negotiate tunnel dir in }} drop {{ }}", "n".repeat(32));
        let algorithm = format!("{{ }} ipsec {{ encr_algs aes({}) }}", "1".repeat(40));
        for (title, rules) in [
            (
                "Structure",
                &[
                    "drop { }",
                    "{ ulp tcp",
                    "{ ulp tcp }",
                    "{ ulp tcp }\n{ ulp udp dir in } drop { }",
                    "{ ulp tcp } drop",
                    "{ ulp tcp } drop {",
                    "{ ulp tcp } allow { }",
                    "{ ulp tcp dir in } drop { } \\",
                    "{ ulp tcp dir in } drop { } { ulp udp dir in } drop { }",
                    "{ ulp tcp dir in } drop { }\nor drop { }",
                    "{ ulp tcp dir in } pass { } or pass { }",
                    "{ } ipsec { encr_algs aes-gcm } or drop { }",
                    "{ } ipsec { encr_algs aes-gcm } or",
                    "{ { ulp tcp } } drop { }",
                    "{ ULP tcp } drop { }",
                    "{ ulp } drop { }",
                    "{ ulp tcp dir in } drop { bogus 1 }",
                    &many,
                    &ors,
                ][..],
            ),
            ("Length", &[long.as_str(), &huge, &name, &algorithm][..]),
            (
                "Addresses",
                &[
                    "{ laddr 192.0.2.300 dir in } drop { }",
                    "{ laddr 192.0.2.1/33 dir in } drop { }",
                    "{ raddr 2001:db8::/129 dir in } drop { }",
                    "{ raddr 192.0.2.1/x dir in } drop { }",
                    "{ raddr nobody.invalid dir in } drop { }",
                    "{ raddr two.example.com/24 dir in } drop { }",
                    "{ laddr me6.example.com raddr you.example.com dir in } drop { }",
                    "{ laddr one! dir in } drop { }",
                    "{ laddr ::ffff:192.0.2.1/8 dir in } drop { }",
                    "{ src me smask 0xff00ff00 dir in } drop { }",
                    "{ src me smask 0 dir in } drop { }",
                    "{ dst me dmask 0.0.0.0 dir in } drop { }",
                    "{ dst me/24 dmask 0xffffff00 dir in } drop { }",
                    "{ dst me6.example.com dmask 0xffffff00 dir in } drop { }",
                    "{ smask 0xffffff00 dir in } drop { }",
                ][..],
            ),
            (
                "Ports, protocols, ICMP",
                &[
                    "{ lport 65536 dir in } drop { }",
                    "{ rport nothing dir in } drop { }",
                    "{ sport 1-2 dir in } drop { }",
                    "{ ulp 256 dir in } drop { }",
                    "{ ulp nothing dir in } drop { }",
                    "{ type 8 dir in } drop { }",
                    "{ ulp tcp code 8 dir in } drop { }",
                    "{ ulp icmp code 8 dir in } drop { }",
                    "{ ulp icmp type 256 dir in } drop { }",
                    "{ ulp icmp type 9-8 dir in } drop { }",
                    "{ ulp icmp type echo6 dir in } drop { }",
                    "{ ulp icmp type 3 code 255 dir in } drop { }",
                    "{ ulp ipv6-icmp type unreach6 code host-unr dir in } drop { }",
                ][..],
            ),
            (
                "Styles, directions, repetition",
                &[
                    "{ laddr me dst you dir in } drop { }",
                    "{ sport 1 rport 2 dir in } drop { }",
                    "{ src me } ipsec { encr_algs aes-gcm }",
                    "{ src me dir both } drop { }",
                    "{ src me dir out } ipsec { encr_algs aes-gcm } or ipsec { encr_algs chacha20-poly1305 }",
                    "{ src me dir in } apply { encr_algs aes-gcm }",
                    "{ src me } permit { encr_algs aes-gcm dir out }",
                    "{ src me dir in } drop { dir in }",
                    "{ dir up } drop { }",
                    "{ ulp tcp proto udp dir in } drop { }",
                    "{ laddr me local you dir in } drop { }",
                    "{ src me saddr you dir in } drop { }",
                    "{ lport 1 lport 2 dir in } drop { }",
                    "{ ulp icmp type 1 type 2 dir in } drop { }",
                    "{ dir in dir in } drop { }",
                ][..],
            ),
            (
                "Tunnels",
                &[
                    "{ tunnel vpn0 dir in } drop { }",
                    "{ negotiate tunnel dir in } drop { }",
                    "{ tunnel vpn0 negotiate both dir in } drop { }",
                    "{ tunnel vpn/0 negotiate tunnel dir in } drop { }",
                    "{ tunnel vpn0 negotiate transport laddr me dir in } drop { }",
                    "{ tunnel vpn0 tunnel vpn1 negotiate tunnel dir in } drop { }",
                ][..],
            ),
            (
                "Algorithms",
                &[
                    "{ } ipsec { }",
                    "{ } ipsec { sa shared }",
                    "{ } ipsec { encr_algs none }",
                    "{ } ipsec { encr_algs rot13 }",
                    "{ } ipsec { auth_algs aes }",
                    "{ } ipsec { encr_auth_algs 99 }",
                    "{ } ipsec { encr_algs 256 }",
                    "{ } ipsec { encr_algs aes(512) }",
                    "{ } ipsec { encr_algs aes(129..191) }",
                    "{ } ipsec { encr_algs aes(256..128) }",
                    "{ } ipsec { encr_algs aes(..) }",
                    "{ } ipsec { encr_algs aes(x) }",
                    "{ } ipsec { encr_algs aes(128 }",
                    "{ } ipsec { encr_algs any(64) }",
                    "{ } ipsec { auth_algs sha1(128) }",
                    "{ } ipsec { encr_algs aes-gcm encr_auth_algs sha256 }",
                    "{ } ipsec { encr_algs aes-ccm encr_auth_algs any }",
                    "{ } ipsec { encr_algs aes-gcm encr_algs aes }",
                    "{ } ipsec { auth_algs sha1 auth_algs md5 }",
                    "{ } ipsec { encr_auth_algs sha1 encr_auth_algs md5 }",
                    "{ } ipsec { encr_algs aes-gcm sa mine }",
                    "{ } ipsec { encr_algs aes-gcm sa shared sa unique }",
                    "{ dir in } drop { encr_algs aes }",
                    "{ dir in } bypass { sa shared }",
                ][..],
            ),
        ] {
            for (number, rule) in (1..).zip(rules) {
                shell.title(&format!("{title}, {number}"));
                let file = shell.bench.file("bad", &format!("{rule}\n")).display().to_string();
                if rule.len() < 500 {
                    shell.lines("", rule);
                } else {
                    writeln!(shell.text, "({} octets)", rule.len()).unwrap();
                }
                shell.conf(&["-q", "-c", &file]);
            }
        }
        shell.title("What depends on other rules and on tunnels; the load is all or nothing");
        let mixed = shell.file(
            "mixed",
            "{ ulp tcp dir in } drop { }\n{ tunnel vpn1 negotiate transport dir in } drop { }\n\
             { tunnel vpn1 negotiate tunnel dir in } drop { }\n",
        );
        shell.conf(&["-c", &mixed]);
        shell.conf(&["-a", &mixed]);
        let missing = shell.file("missing", "{ tunnel vpn9 negotiate transport } ipsec { encr_algs aes-gcm }\n");
        shell.conf(&["-c", &missing]);
        shell.conf(&["-a", &missing]);
        shell.conf(&["-L"]);
        shell.title("Warnings");
        let warn = shell.file(
            "warn",
            "{ ulp tcp } drop { }\n{ raddr you } ipsec { encr_algs aes }\n{ raddr you } ipsec { encr_algs aes-gcm }\n\
             { tunnel vpn0 negotiate tunnel } ipsec { encr_algs aes-gcm sa unique }\n\
             { lport 9 } ipsec { encr_algs des encr_auth_algs md5 }\n",
        );
        shell.conf(&["-c", &warn]);
        shell.conf(&["-a", &warn]);
        shell.title("Options and files");
        for arguments in [
            &["-a"][..],
            &["-a", "/nonexistent"],
            &["-a", "/"],
            &["-l", "-f"],
            &["-F", "-i", "vpn0"],
            &["-a", "x", "-i", "vpn0"],
            &["-n"],
            &["-z"],
            &["stray"],
        ] {
            shell.conf(arguments);
        }
        shell.compare("policy_errors.txt");
    });
}
