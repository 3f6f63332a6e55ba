//! in.ikev2d: the IKEv2 daemon of the IPsec suite. Options, the hardening of the process and its exit status; the library
//! does the work.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use ike_daemon::config::{ConfigError, ConfiguredRule};
use ike_daemon::core::api::EndpointConfig;
use ike_daemon::door_server::{Deadlines, Door};
use ike_daemon::driver::files::DaemonLock;
use ike_daemon::driver::{Choices, Daemon, Files, LogControl, SadbKernel, Settings, SlowPathThread, StartError};
use ike_door::place::IKEV2_DOOR;
use ike_door::{DebugLevel, Privilege};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use sadb_maps::host::Instance;
use service_properties::{PropertyError, Store, store};

/// Automatic key management for IPsec with IKEv2 (RFC 7296).
#[derive(Debug, Parser)]
#[command(name = "in.ikev2d", version)]
struct Options {
    /// Check the configuration and exit: 0 when it is sound
    #[arg(short = 'c', conflicts_with = "debug")]
    check: bool,

    /// Debug: every category in the log
    #[arg(short = 'd')]
    debug: bool,

    /// Configuration file [default: /etc/inet/ike/ikev2.config]
    #[arg(short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,

    /// File with the preshared keys; unlike the default one, a named one has to be there
    #[arg(long, value_name = "FILE")]
    preshared: Option<PathBuf>,

    /// Directory with certificates, private keys and CRLs [default: /var/user/ikeuser]
    #[arg(long, value_name = "DIRECTORY")]
    keystore: Option<PathBuf>,

    /// Instance of the data path, instead of $IPSEC_INSTANCE
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,

    /// Debug categories, as in ikeadm set debug [default: op]
    #[arg(long, value_name = "LEVEL", value_parser = DebugLevel::parse)]
    debug_level: Option<DebugLevel>,

    /// Send messages that take IP packets of more than so many octets in fragments (RFC 7383), and take fragments
    #[arg(long, value_name = "OCTETS", value_parser = clap::value_parser!(u16).range(576..=9216))]
    fragmentation_mtu: Option<u16>,

    /// Wait so many seconds for the answer to a request, whatever retry_limit says
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
    response_wait_time: Option<u16>,

    /// What ikeadm may see of keys; it can only be lowered later [default: base]
    #[arg(long, value_name = "LEVEL",
        value_parser = PossibleValuesParser::new(["base", "modkeys", "keymat", "0", "1", "2"]))]
    admin_privilege: Option<String>,
}

fn main() -> ExitCode {
    if let Some(code) = shell_completions::print_if_asked::<Options>("in.ikev2d") {
        return code;
    }
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("in.ikev2d: {error:#}");
            failure(&error)
        }
    }
}

/// How the method of a service ends (smf_method(7)) whose file is bad, or that lacks a permission. Both keep the service
/// manager from starting it again.
const SERVICE_CONFIG: u8 = 96;
const SERVICE_PERMISSION: u8 = 100;

fn is_service() -> bool {
    std::env::var_os("SMF_FMRI").is_some()
}

/// What a failure is to whoever started the daemon; only a service manager tells one from another.
fn failure(error: &anyhow::Error) -> ExitCode {
    let permission = error.chain().find_map(|cause| match cause.downcast_ref::<StartError>() {
        Some(StartError::Config(error)) => Some(error.is_permission()),
        Some(StartError::Properties(error)) => Some(error.is_permission()),
        _ => cause
            .downcast_ref::<ConfigError>()
            .map(ConfigError::is_permission)
            .or_else(|| cause.downcast_ref::<PropertyError>().map(PropertyError::is_permission)),
    });
    match permission {
        Some(permission) if is_service() => {
            ExitCode::from(if permission { SERVICE_PERMISSION } else { SERVICE_CONFIG })
        }
        _ => ExitCode::FAILURE,
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    harden()?;
    // Properties are those of a service; who runs the daemon by hand says what it is to read.
    let store = is_service().then(|| Store::new(store::DIRECTORY));
    let choices = Choices {
        config: options.file.clone(),
        preshared: options.preshared.clone(),
        key_store: options.keystore.clone(),
        debug: if options.debug { Some(DebugLevel::ALL) } else { options.debug_level },
        privilege: options.admin_privilege.as_deref().and_then(Privilege::parse),
        fragment_mtu: options.fragmentation_mtu,
        response_wait: options.response_wait_time,
        store,
    };
    let chosen = choices.chosen()?;
    if options.check {
        return check(&chosen.files);
    }
    let log = LogControl::install(chosen.debug, chosen.log_file.as_deref())
        .with_context(|| format!("the log {}", chosen.log_file.unwrap_or_default().display()))?;
    let instance = Instance::from_env_or(options.instance.as_deref())?;
    let run_dir = instance.run_dir()?;
    let _lock = DaemonLock::take(&run_dir)?;
    let kernel = SadbKernel::open(&instance)?;
    let _slow_path = SlowPathThread::start(&instance)?;
    let settings = Settings { choices, run_dir: Some(run_dir.clone()), endpoint: EndpointConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let daemon = Daemon::start(kernel, settings, log)?;
        let path = run_dir.join(IKEV2_DOOR);
        let (_door, knocks) =
            Door::open(&path, Deadlines::default()).with_context(|| format!("the door {}", path.display()))?;
        daemon.run(knocks).await?;
        Ok(())
    })
}

/// Reads all files and tells what is to be told about them.
fn check(files: &Files) -> anyhow::Result<()> {
    let (configuration, warnings) = files.load()?;
    for report in warnings.iter().filter(|report| !report.is_empty()) {
        eprintln!("{report}");
    }
    let lacks = |rule: &&ConfiguredRule| rule.rule.needs_psk() && rule.rule.psk.is_none();
    for rule in configuration.rules.rules().iter().filter(lacks) {
        eprintln!("{}: warning: no preshared key carries the label \"{}\"", rule.rule.source, rule.rule.label);
    }
    Ok(())
}

/// Keys must not end up in a core file, in another process of the same user, or in a file that others can read. Whoever
/// starts the daemon may have blocked signals for itself; here they have to arrive.
fn harden() -> anyhow::Result<()> {
    SigSet::empty().thread_set_mask().context("signals cannot be unblocked")?;
    umask(Mode::from_bits_truncate(0o077));
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("core files cannot be forbidden")?;
    nix::sys::prctl::set_dumpable(false).context("the process cannot be made undumpable")?;
    Ok(())
}
