//! The services under systemd: the installed units on a host that systemd has booted.

use crate::debian;
use crate::net::Lab;
use crate::net::booted::Booted;
use crate::package::layout;
use crate::workspace::binaries;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::time::{Duration, Instant};

const DATA_PATH: &str = "ipsec-datapath.service";
const ALGORITHMS: &str = "ipsec-algs.service";
const POLICY: &str = "ipsec-policy.service";
const MANUAL_KEY: &str = "ipsec-manual-key.service";
const IKE: &str = "ipsec-ikev2.service";

/// Exposure to tell from `systemd-analyze security`, in tenths of its points: 100 is a service without limits.
const EXPOSURE: [(&str, u32); 5] = [(DATA_PATH, 35), (ALGORITHMS, 30), (POLICY, 30), (MANUAL_KEY, 30), (IKE, 30)];

const KEYS: &str = "add esp spi 0x1001 src 192.0.2.1 dst 192.0.2.2 encr_alg aes-gcm encrkey \
    000102030405060708090a0b0c0d0e0f10111213\n";

const PROTECTED: &str = "{ raddr 192.0.2.0/24 } ipsec { encr_algs aes-gcm }\n";

const IKE_RULES: &str = "ikesa_xform { encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }\n\
    { label \"peer\" auth_method preshared local_addr 192.0.2.1 remote_addr 192.0.2.2 }\n";

const IKE_KEYS: &str = "{ label \"peer\" key 0x7b1a4e8c30d95f62a7c4e01b88f3d6259e0c4b7d12aa5f3860d1e94c3b7f2a60 }\n";

/// Enabled as delivered, started with good files and bad ones, reloaded, stopped.
pub(super) fn under_systemd() -> Result<()> {
    debian::ensure(&["polkitd", "pkexec"], "the rights of users")?;
    let lab = Lab::new("services")?;
    let (host, other) = (lab.host("a")?, lab.host("b")?);
    lab.join((&host, "wan0"), (&other, "to-a"))?;
    host.ip(&["addr add 192.0.2.1/24 dev wan0"])?;
    let booted = Booted::boot(&lab, &host)?;
    layout::stage(&binaries()?, &booted.path("/"))?;
    sound(&booted)?;
    booted.run("systemctl", &["daemon-reload"])?;
    let parts = [
        ("as delivered", as_delivered as fn(&Booted) -> Result<()>),
        ("without files", without_files),
        ("policy", policy),
        ("table of algorithms", algorithms),
        ("properties of the policy", policy_properties),
        ("keys by hand", manual_keys),
        ("in.ikev2d", ike),
        ("properties of in.ikev2d", ike_properties),
        ("rights of users", authorisations),
    ];
    for (name, part) in parts {
        let start = Instant::now();
        part(&booted).with_context(|| name)?;
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    end(&booted)
}

/// As systemd reads them, and how far each is kept from what it does not need.
fn sound(booted: &Booted) -> Result<()> {
    let units = layout::units()?;
    let mut verify = booted.command("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(&units);
    let output = verify.output().context("could not start systemd-analyze")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It reads what the units name as well, which is not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("ipsec")).collect();
    ensure!(output.status.success() && ours.is_empty(), "systemd-analyze verify: {said}");
    for (unit, most) in EXPOSURE {
        let told = booted.output(
            "systemd-analyze",
            &["security", "--no-pager", "--offline=yes", &format!("--threshold={most}"), unit],
        )?;
        let text = String::from_utf8_lossy(&told.stdout);
        let overall = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
        println!("{overall}");
        ensure!(told.status.success(), "{unit} may do more than it should:\n{text}");
    }
    Ok(())
}

/// Policy is enabled by the preset, what needs keys is not.
fn as_delivered(booted: &Booted) -> Result<()> {
    let units = layout::units()?;
    let services: Vec<&str> = units.iter().map(String::as_str).filter(|unit| unit.ends_with(".service")).collect();
    booted.run("systemctl", &[&["preset"], services.as_slice()].concat())?;
    for service in services {
        let state = booted.output("systemctl", &["is-enabled", service])?;
        let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
        let expected = if [ALGORITHMS, POLICY].contains(&service) { "enabled" } else { "disabled" };
        ensure!(state == expected, "{service} is delivered {state}, not {expected}");
    }
    Ok(())
}

/// A host without any file has a policy service that is content, and no data path.
fn without_files(booted: &Booted) -> Result<()> {
    booted.run("systemctl", &["start", POLICY])?;
    ensure!(booted.show(POLICY, ["ActiveState", "Result"])? == ["active", "success"], "{}", booted.journal(POLICY));
    let [state, condition] = booted.show(DATA_PATH, ["ActiveState", "ConditionResult"])?;
    ensure!(
        (state.as_str(), condition.as_str()) == ("inactive", "no"),
        "the data path is {state}: there is nothing to do"
    );
    Ok(())
}

/// Good, bad at a reload, bad at a start, gone on stopping the watch.
fn policy(booted: &Booted) -> Result<()> {
    booted.write("/etc/inet/ipsecinit.conf", PROTECTED, 0o644)?;
    booted.run("systemctl", &["restart", POLICY]).with_context(|| booted.journal(POLICY))?;
    booted.until(DATA_PATH, "ActiveState", "active")?;
    let in_force = || booted.run("ipsecconf", &["-l", "-n"]);
    let rules = in_force()?;
    ensure!(rules.contains("192.0.2.0/24"), "the policy is not in force: {rules}\n{}", booted.journal(POLICY));
    let shown = booted.run("espadm", &["show"])?;
    ensure!(shown.contains("wan0"), "wan0 is not attached: {shown}");
    booted.write("/etc/inet/ipsecinit.conf", "{ raddr 192.0.2.0/24 } ipsec { encr_algs rot13 }\n", 0o644)?;
    ensure!(!booted.output("systemctl", &["reload", POLICY])?.status.success(), "a bad policy was reloaded");
    ensure!(in_force()? == rules, "a bad file has changed the policy");
    ensure!(booted.show(POLICY, ["ActiveState"])? == ["active"], "the policy is in force: {}", booted.journal(POLICY));
    ensure!(!booted.output("systemctl", &["restart", POLICY])?.status.success(), "a bad policy was loaded");
    maintenance(booted, POLICY, "96")?;
    ensure!(in_force()? == rules, "a restart with a bad file has changed the policy");
    booted.write("/etc/inet/ipsecinit.conf", PROTECTED, 0o644)?;
    booted.run("systemctl", &["start", POLICY])?;
    booted.run("systemctl", &["reload", POLICY, DATA_PATH])?;
    booted.run("systemctl", &["stop", POLICY, DATA_PATH])?;
    ensure!(in_force()? == rules, "stopping has let traffic out in clear");
    booted.run("systemctl", &["start", POLICY])?;
    booted.until(DATA_PATH, "ActiveState", "active")
}

/// Another file, from the next reload on; what does not fit is refused, and so is who may not.
fn policy_properties(booted: &Booted) -> Result<()> {
    let in_force = || booted.run("ipsecconf", &["-l", "-n"]);
    let before = in_force()?;
    booted.write("/etc/inet/other.conf", "{ raddr 198.51.100.0/24 } drop {}\n", 0o644)?;
    let set = |value: &str| booted.output("ipsecprop", &["set", "policy", &format!("config/config_file={value}")]);
    ensure!(!set("other.conf")?.status.success(), "a path that is not absolute was taken");
    ensure!(set("/etc/inet/other.conf")?.status.success(), "the property was not set");
    ensure!(in_force()? == before, "a property was in force before the reload");
    booted.run("systemctl", &["reload", POLICY]).with_context(|| booted.journal(POLICY))?;
    let rules = in_force()?;
    ensure!(
        rules.contains("198.51.100.0/24") && !rules.contains("192.0.2.0/24"),
        "the other file is not in force: {rules}"
    );
    let other = |arguments: &[&str]| {
        let drop = ["--reuid=65534", "--regid=65534", "--clear-groups", "ipsecprop"];
        booted.output("setpriv", &[&drop, arguments].concat())
    };
    let read = other(&["get", "policy", "config/config_file"])?;
    ensure!(read.stdout == b"/etc/inet/other.conf\n", "{}", String::from_utf8_lossy(&read.stderr));
    ensure!(!other(&["unset", "policy", "config/config_file"])?.status.success(), "anybody may set properties");
    booted.write("/etc/inet/properties/policy", "config/config_file boolean true\n", 0o644)?;
    ensure!(!booted.output("systemctl", &["restart", POLICY])?.status.success(), "bad properties were read over");
    maintenance(booted, POLICY, "96")?;
    fs::remove_file(booted.path("/etc/inet/properties/policy"))?;
    booted.run("systemctl", &["start", POLICY])?;
    ensure!(in_force()? == before, "without a property the default does not hold");
    Ok(())
}

/// Failed with this exit status, and not started again.
fn maintenance(booted: &Booted, unit: &str, status: &str) -> Result<()> {
    booted.until(unit, "ActiveState", "failed")?;
    let [found, result, restarts] = booted.show(unit, ["ExecMainStatus", "Result", "NRestarts"])?;
    ensure!(
        (found.as_str(), result.as_str(), restarts.as_str()) == (status, "exit-code", "0"),
        "{unit}: exit status {found}, {result}, {restarts} restarts\n{}",
        booted.journal(unit)
    );
    Ok(())
}

/// A table is put in force, a bad one leaves it as it was, and the others go by it.
fn algorithms(booted: &Booted) -> Result<()> {
    booted.run("ipsecalgs", &["-r", "-P", "3", "-n", "3des-cbc"])?;
    booted.run("systemctl", &["start", ALGORITHMS]).with_context(|| booted.journal(ALGORITHMS))?;
    let in_force = || booted.run("ipsecalgs", &["-l"]);
    let table = in_force()?;
    ensure!(table.contains("aes-gcm") && !table.contains("3des-cbc"), "not the table that was written: {table}");
    let rule = "{ raddr 192.0.2.0/24 } ipsec { encr_algs 3des encr_auth_algs sha1 }\n";
    booted.write("/etc/inet/ipsecinit.conf", rule, 0o644)?;
    ensure!(!booted.output("systemctl", &["reload", POLICY])?.status.success(), "what is not in the table was loaded");
    booted.write("/etc/inet/ipsecinit.conf", PROTECTED, 0o644)?;
    booted.run("systemctl", &["reload", POLICY])?;
    let file = fs::read_to_string(booted.path("/etc/inet/ipsecalgs"))?;
    booted.write("/etc/inet/ipsecalgs", "bogus\n", 0o644)?;
    ensure!(!booted.output("systemctl", &["reload", ALGORITHMS])?.status.success(), "a bad table was put in force");
    ensure!(in_force()? == table, "a bad file has changed the table in force");
    booted.write("/etc/inet/ipsecalgs", &file, 0o644)
}

fn manual_keys(booted: &Booted) -> Result<()> {
    let keys = "/etc/inet/secret/ipseckeys";
    let start = || booted.output("systemctl", &["start", MANUAL_KEY]);
    for (text, mode, status) in [("add esp spi\n", 0o600, "95"), (KEYS, 0o644, "95")] {
        booted.write(keys, text, mode)?;
        ensure!(!start()?.status.success(), "a bad file of keys was loaded");
        maintenance(booted, MANUAL_KEY, status)?;
    }
    booted.write(keys, KEYS, 0o600)?;
    ensure!(start()?.status.success(), "{}", booted.journal(MANUAL_KEY));
    let sas = || booted.run("ipseckey", &["-n", "-p", "dump"]);
    ensure!(sas()?.contains("1001"), "the SA is not there");
    booted.write(keys, &KEYS.replace("1001", "2002"), 0o600)?;
    booted.run("systemctl", &["reload", MANUAL_KEY]).with_context(|| booted.journal(MANUAL_KEY))?;
    ensure!(sas()?.contains("2002") && !sas()?.contains("1001"), "what was reloaded is not what is there");
    ensure!(!booted.journal(MANUAL_KEY).contains("0001020304"), "a key is in the journal");
    booted.run("systemctl", &["stop", MANUAL_KEY])?;
    ensure!(!sas()?.contains("2002"), "stopping has left SAs");
    Ok(())
}

fn ike(booted: &Booted) -> Result<()> {
    let (rules, keys) = ("/etc/inet/ike/ikev2.config", "/etc/inet/ike/ikev2.preshared");
    for (text, mode, status) in [("{ label }", 0o600, "96"), (IKE_RULES, 0o644, "100")] {
        booted.write(rules, text, 0o644)?;
        booted.write(keys, IKE_KEYS, mode)?;
        // Type=exec: what is wrong shows afterwards.
        let _ = booted.output("systemctl", &["start", IKE])?;
        maintenance(booted, IKE, status)?;
    }
    booted.write(keys, IKE_KEYS, 0o600)?;
    booted.run("systemctl", &["start", IKE])?;
    let dumped = answered(booted)?;
    ensure!(dumped.contains("peer"), "the rule is not there: {dumped}");
    booted.write(rules, &IKE_RULES.replace("label \"peer\"", "label \"other\""), 0o644)?;
    booted.run("systemctl", &["reload", IKE])?;
    let start = Instant::now();
    while !booted.run("ikeadm", &["dump", "rule"])?.contains("other") {
        ensure!(start.elapsed().as_secs() < 60, "reloading has changed nothing: {}", booted.journal(IKE));
        std::thread::sleep(Duration::from_millis(50));
    }
    let journal = booted.journal(IKE);
    // AF_XDP sockets, sockets out of reach of policy, the port: what the unit's limits could forbid.
    let forbidden = ["not permitted", "denied", "cannot"].iter().find(|word| journal.contains(**word));
    ensure!(forbidden.is_none(), "{journal}");
    ensure!(booted.show(IKE, ["NRestarts", "ActiveState"])? == ["0", "active"], "{journal}");
    Ok(())
}

/// The log in a file, louder; a start with a bad file that is to be ignored; what this release lacks is refused.
fn ike_properties(booted: &Booted) -> Result<()> {
    let level = || booted.run("ikeadm", &["get", "debug"]);
    let quiet = level()?;
    let log = "/var/log/ikev2/in.ikev2d.log";
    let file = format!("config/debug_logfile={log}");
    booted.run("ipsecprop", &["set", "ike:ikev2", &file, "config/debug_level=all", "config/ignore_errors=true"])?;
    booted.run("systemctl", &["reload", IKE])?;
    let start = Instant::now();
    while !fs::read_to_string(booted.path(log)).unwrap_or_default().contains("configuration in force") {
        ensure!(start.elapsed().as_secs() < 60, "nothing is in {log}: {}", booted.journal(IKE));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mode = booted.run("stat", &["-c", "%a", log])?;
    ensure!(mode == "600\n", "{log} has mode {mode}");
    ensure!(level()? != quiet, "the level is still {quiet}");
    booted.write("/etc/inet/ike/ikev2.config", "{ label }", 0o644)?;
    booted.run("systemctl", &["restart", IKE])?;
    ensure!(!answered_nothing(booted)?.contains("peer"), "a bad file has rules");
    let refused = booted.output("ipsecprop", &["set", "ike:ikev2", "config/min_threads=2"])?;
    ensure!(!refused.status.success(), "a property was set that does nothing");
    booted.write("/etc/inet/ike/ikev2.config", IKE_RULES, 0o644)?;
    booted.run("ipsecprop", &["unset", "ike:ikev2", "config/ignore_errors", "config/debug_level"])?;
    booted.run("systemctl", &["restart", IKE])?;
    ensure!(answered(booted)?.contains("peer") && level()? == quiet, "the defaults do not hold");
    Ok(())
}

/// Who is in the groups may do what they say, and nothing else.
fn authorisations(booted: &Booted) -> Result<()> {
    booted.run("systemd-sysusers", &["ipsec.conf"])?;
    let users = [("manager", "ipsec-manage"), ("setter", "ipsec-value"), ("nobody-else", "users")];
    for (user, group) in users {
        booted.run("useradd", &["--groups", group, user])?;
    }
    booted.run("systemctl", &["start", "dbus.socket", "polkit.service"])?;
    // As the user would from a script: nobody is asked for a password.
    let may = |user: &str, command: &[&str]| -> Result<bool> {
        let run = ["--reuid", user, "--regid", user, "--init-groups", "timeout", "60"];
        let output = booted.output("setpriv", &[&run, command].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() || said.to_lowercase().contains("auth"), "{user}: {command:?}: {said}");
        Ok(output.status.success())
    };
    let systemctl = |verb: &'static str, unit: &'static str| ["systemctl", "--no-ask-password", verb, unit];
    let value = ["pkexec", "--disable-internal-agent", "ipsecprop", "set", "ike:ikev2", "config/debug_level=op+p1"];
    let shell = ["pkexec", "--disable-internal-agent", "sh", "-c", "true"];
    for (user, _) in users {
        let (manager, setter) = (user == "manager", user == "setter");
        for (verb, unit, allowed) in [
            ("reload", POLICY, manager),
            ("restart", MANUAL_KEY, manager),
            ("start", DATA_PATH, manager),
            ("kill", IKE, false),
            ("restart", "systemd-journald.service", false),
            ("stop", "dbus.service", false),
        ] {
            ensure!(may(user, &systemctl(verb, unit))? == allowed, "{user}: {verb} {unit}: not {allowed}");
        }
        ensure!(may(user, &value)? == setter, "{user}: properties: not {setter}");
        ensure!(!may(user, &shell)?, "{user} may run a shell");
    }
    let level = booted.run("ipsecprop", &["get", "ike:ikev2", "config/debug_level"])?;
    ensure!(level == "op+p1\n", "the property is {level}");
    let listed = booted.run("ipsecprop", &["--json", "list", "ike:ikev2"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let count = listed.get("properties").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    ensure!(count == 14, "ipsecprop lists {count} properties: {listed}");
    Ok(())
}

/// What the daemon says, once it answers, although it has no rule.
fn answered_nothing(booted: &Booted) -> Result<String> {
    let start = Instant::now();
    loop {
        let output = booted.output("ikeadm", &["get", "stats"])?;
        if output.status.success() {
            let rules = booted.output("ikeadm", &["dump", "rule"])?;
            return Ok(String::from_utf8_lossy(&rules.stdout).into_owned());
        }
        ensure!(start.elapsed().as_secs() < 60, "in.ikev2d does not answer: {}", booted.journal(IKE));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the daemon says about its rules, once it answers.
fn answered(booted: &Booted) -> Result<String> {
    let start = Instant::now();
    loop {
        let output = booted.output("ikeadm", &["dump", "rule"])?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        ensure!(start.elapsed().as_secs() < 60, "in.ikev2d does not answer: {}", booted.journal(IKE));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The daemon is killed and started again; stopped, it stays so.
fn end(booted: &Booted) -> Result<()> {
    booted.run("systemctl", &["kill", "--signal=KILL", IKE])?;
    booted.until(IKE, "NRestarts", "1")?;
    booted.until(IKE, "ActiveState", "active")?;
    answered(booted)?;
    booted.run("systemctl", &["stop", IKE])?;
    booted.until(IKE, "ActiveState", "inactive")
}
