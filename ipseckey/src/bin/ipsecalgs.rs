//! `ipsecalgs`: the table of protocols and algorithms. Options here, everything else in the library.

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser, error::ErrorKind};
use ipsec_algorithms::file::{Entry, Keys, Mode, Protocol, flag, numbers};
use ipsec_algorithms::store::{self, Store};
use ipsec_algorithms::{AlgorithmFile, Table, listing, table};
use sadb_maps::host::instance::run_dir;
use sadb_maps::name;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Show and change the table of IPsec protocols and algorithms.
///
/// Without options the file /etc/inet/ipsecalgs is listed. Changes are made to that file; -s puts it in force.
#[derive(Parser)]
#[command(name = "ipsecalgs", version, max_term_width = 100)]
struct Cli {
    /// Add an algorithm: needs -P or -p, -N, -n, -m, -k and -b
    #[arg(short = 'a', group = "verb")]
    add: bool,
    /// Remove an algorithm: needs -P or -p, and -N or -n
    #[arg(short = 'r', group = "verb")]
    remove: bool,
    /// Remove a protocol and its algorithms: needs -P or -p
    #[arg(short = 'R', group = "verb")]
    remove_protocol: bool,
    /// List the table in force, and what of it cannot be used
    #[arg(short = 'l', group = "verb")]
    list: bool,
    /// Put the file in force, alone or after a change
    #[arg(short = 's', conflicts_with = "list")]
    synchronize: bool,
    /// With -a, or -P and -p: replace what has the same number or name
    #[arg(short = 'f')]
    force: bool,
    /// Number of a protocol; with -p and no other command: define the protocol
    #[arg(short = 'P', value_name = "PROTOCOL-NUMBER", value_parser = clap::value_parser!(u8).range(1..))]
    protocol_number: Option<u8>,
    /// Name of a protocol
    #[arg(short = 'p', value_name = "PROTOCOL-NAME")]
    protocol_name: Option<String>,
    /// Execution mode of a protocol: sync or async
    #[arg(short = 'e', value_name = "MODE", value_parser = ["sync", "async"])]
    mode: Option<String>,
    /// Number of an algorithm
    #[arg(short = 'N', value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..))]
    number: Option<u8>,
    /// Names of an algorithm, the first being displayed; with -r one of them
    #[arg(short = 'n', value_name = "NAME,NAME...")]
    names: Option<String>,
    /// Mechanism, as PKCS #11 calls it
    #[arg(short = 'm', value_name = "MECHANISM")]
    mechanism: Option<String>,
    /// Key sizes in bits: a list, or with -i a range LEAST-GREATEST
    #[arg(short = 'k', value_name = "SIZES")]
    keys: Option<String>,
    /// Distance between two key sizes of a range, in bits
    #[arg(short = 'i', value_name = "BITS", value_parser = clap::value_parser!(u16).range(1..))]
    increment: Option<u16>,
    /// Key size that is meant when none is given, in bits
    #[arg(short = 'K', value_name = "BITS", value_parser = clap::value_parser!(u16).range(1..))]
    default_key: Option<u16>,
    /// Sizes of blocks or MACs, in octets
    #[arg(short = 'b', value_name = "SIZES")]
    blocks: Option<String>,
    /// Size of the IV, in octets
    #[arg(short = 'I', value_name = "OCTETS")]
    iv: Option<u16>,
    /// Size of the ICV of an algorithm that authenticates as well, in octets
    #[arg(short = 'M', value_name = "OCTETS")]
    icv: Option<u16>,
    /// Size of the salt, in octets
    #[arg(short = 'S', value_name = "OCTETS")]
    salt: Option<u16>,
    /// Flags: a number, or names from COUNTER, COMBINED, CCM, GCM
    #[arg(short = 'F', value_name = "FLAG,FLAG...")]
    flags: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Instance of the data path
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    ListFile,
    ListInForce,
    Synchronize,
    Add,
    Define,
    Remove,
    RemoveProtocol,
    SetMode,
}

impl Cli {
    /// The command, once it is sure that every option has something to say to it.
    fn verb(&self) -> Result<Verb, clap::Error> {
        let both = self.protocol_number.is_some() && self.protocol_name.is_some();
        let protocol = self.protocol_number.is_some() || self.protocol_name.is_some();
        use Verb::{Add, Define, ListFile, ListInForce, Remove, RemoveProtocol, SetMode, Synchronize};
        let verb = match (self.add, self.remove, self.remove_protocol, self.list) {
            (true, ..) => Add,
            (_, true, ..) => Remove,
            (_, _, true, _) => RemoveProtocol,
            (.., true) => ListInForce,
            _ if both => Define,
            _ if self.mode.is_some() => SetMode,
            _ if self.synchronize => Synchronize,
            _ => ListFile,
        };
        let given = |given: bool, option: &str, verbs: &[Verb]| {
            let stray = given && !verbs.contains(&verb);
            if stray {
                Err(wrong(ErrorKind::ArgumentConflict, &format!("{option} does not go with this command")))
            } else {
                Ok(())
            }
        };
        given(protocol, "-P or -p", &[Add, Define, Remove, RemoveProtocol, SetMode])?;
        given(both, "-P together with -p", &[Define])?;
        given(self.force, "-f", &[Add, Define])?;
        given(self.mode.is_some(), "-e", &[Define, SetMode])?;
        given(self.number.is_some(), "-N", &[Add, Remove])?;
        given(self.names.is_some(), "-n", &[Add, Remove])?;
        given(self.json, "--json", &[ListFile, ListInForce])?;
        for (there, option) in [
            (self.mechanism.is_some(), "-m"),
            (self.keys.is_some(), "-k"),
            (self.increment.is_some(), "-i"),
            (self.default_key.is_some(), "-K"),
            (self.blocks.is_some(), "-b"),
            (self.iv.is_some(), "-I"),
            (self.icv.is_some(), "-M"),
            (self.salt.is_some(), "-S"),
            (self.flags.is_some(), "-F"),
        ] {
            given(there, option, &[Add])?;
        }
        let needed: &[(bool, &str)] = match verb {
            Add => &[
                (protocol, "the protocol: -P or -p"),
                (self.number.is_some(), "the number of the algorithm: -N"),
                (self.names.is_some(), "its names: -n"),
                (self.mechanism.is_some(), "its mechanism: -m"),
                (self.keys.is_some(), "its key sizes: -k"),
                (self.blocks.is_some(), "its block or MAC sizes: -b"),
            ],
            Remove => &[
                (protocol, "the protocol: -P or -p"),
                (self.number.is_some() != self.names.is_some(), "one number or one name of the algorithm: -N or -n"),
            ],
            RemoveProtocol | SetMode => &[(protocol, "the protocol: -P or -p")],
            _ => &[],
        };
        match needed.iter().find(|(there, _)| !there) {
            Some((_, what)) => Err(wrong(ErrorKind::MissingRequiredArgument, &format!("say {what}"))),
            None => Ok(verb),
        }
    }

    /// The protocol as it was named; [`Self::verb`] has seen to it that it was.
    fn protocol(&self) -> String {
        self.protocol_number.map(|n| n.to_string()).or_else(|| self.protocol_name.clone()).unwrap_or_default()
    }

    fn mode(&self) -> Mode {
        self.mode.as_deref().and_then(Mode::from_word).unwrap_or(Mode::Sync)
    }

    /// The algorithm that -a describes.
    fn entry(&self, file: &AlgorithmFile) -> anyhow::Result<Entry> {
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let list = |text: &str, what| numbers(text, what).map_err(anyhow::Error::msg);
        let keys = text(&self.keys);
        let keys = match (keys.split_once('-'), self.increment) {
            (Some((low, high)), Some(step)) => {
                let ends = [list(low, "key size")?, list(high, "key size")?].concat();
                let [low, high] = ends[..] else { bail!("a range of key sizes is LEAST-GREATEST") };
                Keys::range(low, high, step, self.default_key)
            }
            (Some(_), None) => bail!("a range of key sizes needs an increment: -i"),
            (None, Some(_)) => bail!("an increment goes with a range of key sizes, not with a list"),
            (None, None) => Keys::list(list(&keys, "key size")?, self.default_key),
        };
        let parameters = match (self.iv, self.icv, self.salt) {
            (None, None, None) => vec![],
            (iv, icv, salt) => [iv, icv, salt].map(|octets| octets.unwrap_or(0)).to_vec(),
        };
        Ok(Entry {
            protocol: file.protocol(&self.protocol())?.number,
            number: self.number.unwrap_or_default(),
            names: text(&self.names).split(',').map(str::to_owned).collect(),
            mechanism: text(&self.mechanism),
            keys: keys.map_err(anyhow::Error::msg)?,
            sizes: list(&text(&self.blocks), "block or MAC size")?,
            parameters,
            flags: flag::VALID | self.flags.as_deref().map_or(Ok(0), flags)?,
        })
    }
}

/// Flags by number or by name.
fn flags(text: &str) -> anyhow::Result<u16> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    text.split(',').try_fold(0, |flags, word| {
        let known = flag::NAMES.iter().find(|(name, _)| *name == word);
        let (_, bit) =
            known.with_context(|| format!("'{word}' is no flag: use COUNTER, COMBINED, CCM, GCM or a number"))?;
        Ok(flags | bit)
    })
}

fn wrong(kind: ErrorKind, text: &str) -> clap::Error {
    Cli::command().error(kind, text)
}

fn main() -> ExitCode {
    if let Some(code) = shell_completions::print_if_asked::<Cli>("ipsecalgs") {
        return code;
    }
    let (cli, verb) = match Cli::try_parse().and_then(|cli| cli.verb().map(|verb| (cli, verb))) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Nothing is left to do when the text cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(&cli, verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let kind = error.chain().find_map(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind);
            // Whoever read the listing has seen enough.
            if kind == Some(io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            eprintln!("ipsecalgs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli, verb: Verb) -> anyhow::Result<()> {
    let path = Path::new(table::PATH);
    if verb == Verb::ListFile {
        let file = store::read(path).with_context(|| table::PATH)?;
        return print(cli, Some(&file), &Table::of(&file), || listing::file(&file));
    }
    if !nix::unistd::getuid().is_root() {
        bail!("only root may change the table or see what is in force; run it with sudo or as root");
    }
    // The table needs neither maps nor programs: it is there before them.
    let instance = name::chosen(cli.instance.as_deref())?;
    if verb == Verb::ListInForce {
        let table = Table::in_force(&instance);
        if let Some(fault) = table.fault() {
            bail!("no algorithm may be used: {fault}");
        }
        return print(cli, None, &table, || listing::table(&table));
    }
    let store = Store::lock(path).with_context(|| table::PATH)?;
    let mut file = store.read().with_context(|| table::PATH)?;
    change(cli, verb, &mut file)?;
    if verb != Verb::Synchronize {
        store.write(&file).with_context(|| table::PATH)?;
    }
    if cli.synchronize {
        let target = run_dir(&instance)?.join(table::IN_FORCE);
        store::replace(&target, &file, 0o600).with_context(|| target.display().to_string())?;
        for listed in Table::of(&file).listed().iter().filter(|listed| listed.entry.number != 0) {
            if let Err(reason) = &listed.usable {
                eprintln!("ipsecalgs: warning: {reason}; it is in the table and cannot be used");
            }
        }
    }
    Ok(())
}

fn change(cli: &Cli, verb: Verb, file: &mut AlgorithmFile) -> anyhow::Result<()> {
    match verb {
        Verb::Add => file.add(cli.entry(file)?, cli.force)?,
        Verb::Define => {
            let (Some(number), Some(name)) = (cli.protocol_number, cli.protocol_name.clone()) else { return Ok(()) };
            file.add_protocol(Protocol { number, name, mode: cli.mode() }, cli.force)?;
        }
        Verb::Remove => {
            let word = cli.number.map(|n| n.to_string()).or_else(|| cli.names.clone()).unwrap_or_default();
            if word.contains(',') {
                bail!("name one algorithm, not a list");
            }
            file.remove(&cli.protocol(), &word)?;
        }
        Verb::RemoveProtocol => file.remove_protocol(&cli.protocol())?,
        Verb::SetMode => file.set_mode(&cli.protocol(), cli.mode())?,
        Verb::ListFile | Verb::ListInForce | Verb::Synchronize => {}
    }
    if matches!(verb, Verb::Define | Verb::SetMode) && cli.mode() == Mode::Async {
        eprintln!("ipsecalgs: warning: the mode is kept and has no effect: packets are always worked on as they come");
    }
    Ok(())
}

fn print(cli: &Cli, file: Option<&AlgorithmFile>, table: &Table, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if cli.json {
        serde_json::to_writer_pretty(&mut out, &listing::json(file, table))?;
        return Ok(writeln!(out)?);
    }
    Ok(out.write_all(text().as_bytes())?)
}
