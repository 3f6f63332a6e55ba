//! The loop of a running daemon: datagrams, events of the data path, the door, signals and timers go into the core; what
//! comes out is sent, installed and told.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ike_door::{DebugLevel, ErrorCode, Failure, IkeSaId, Item, Privilege, Request};
use service_properties::PropertyError;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::answers;
use super::choices::{Choices, Chosen};
use super::clock::{self, SystemSource};
use super::files::{self, Configuration};
use super::host::{DriverHost, Input};
use super::kernel::KernelSide;
use super::listen::LEASE_INTERVAL;
use super::logging::{self, LogControl};
use super::udp::{Datagram, SocketError, Sockets};
use crate::config::ConfigError;
use crate::core::Endpoint;
use crate::core::api::{Command, EndpointConfig, IkeSaSnapshot, IkeSpis, Timestamp, Transmit};
use crate::door_server::{Answer, Knock};

/// How often the data path is asked whether the peer uses a pair that it rekeyed.
const USE_INTERVAL: Duration = Duration::from_millis(50);

/// Rounds of events taken before everything else gets its turn.
const EVENT_ROUNDS: usize = 8;

/// How often dead SAs are removed.
const REAP_INTERVAL: Duration = Duration::from_secs(10);

/// How often SAs are looked at that others keep and that may need a keepalive, once there are any.
const MAPPING_INTERVAL: Duration = Duration::from_secs(2);

/// How long the end waits for peers to answer the Deletes.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to read, at the start and again on SIGHUP.
    pub choices: Choices,
    /// Directory of runtime files; none in tests.
    pub run_dir: Option<PathBuf>,
    /// Limits and ports.
    pub endpoint: EndpointConfig,
}

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The properties of the service.
    #[error(transparent)]
    Properties(#[from] PropertyError),
    /// The ports.
    #[error("{0}")]
    Socket(String),
    /// The data path does not let IKE pass.
    #[error("{0}")]
    Kernel(String),
    /// Signals cannot be had.
    #[error("signals: {0}")]
    Signal(io::Error),
}

impl From<SocketError> for StartError {
    fn from(error: SocketError) -> Self {
        Self::Socket(error.to_string())
    }
}

/// A daemon.
pub struct Daemon<K: KernelSide> {
    endpoint: Endpoint<DriverHost<K>>,
    sockets: Sockets,
    datagrams: mpsc::Receiver<Datagram>,
    configuration: Configuration,
    settings: Settings,
    /// What options and properties said when they were last read.
    chosen: Chosen,
    /// Privilege level of the door.
    privilege: Privilege,
    /// Debug level of the log.
    debug: DebugLevel,
    log: LogControl,
    /// Ring or bus: what to wait for.
    ring: Option<AsyncFd<OwnedFd>>,
    /// There was more to hear when the rounds were over.
    more_events: bool,
    looked: Timestamp,
    reaped: Timestamp,
    /// When SAs were last looked at that may need a keepalive.
    kept: Timestamp,
}

impl<K: KernelSide> Daemon<K> {
    /// Reads the files, opens the ports and tells the data path about them.
    ///
    /// # Errors
    /// [`StartError`]; nothing of the data path has been changed then, except that sockets may be known to it.
    pub fn start(mut kernel: K, settings: Settings, log: LogControl) -> Result<Self, StartError> {
        let chosen = settings.choices.chosen()?;
        let (mut configuration, warnings) = match chosen.files.load() {
            Err(error) if chosen.ignore_errors => {
                for line in error.to_string().lines() {
                    warn!(target: "ikev2d::config", "{line}");
                }
                chosen.files.load_sound()
            }
            loaded => loaded?,
        };
        files::report(&configuration, &warnings);
        configuration.rules.wait(chosen.response_wait);
        let (sockets, datagrams) = Sockets::open(settings.endpoint.ike_port, settings.endpoint.natt_port)?;
        for descriptor in sockets.descriptors() {
            kernel.exempt_socket(descriptor).map_err(|error| StartError::Kernel(error.to_string()))?;
        }
        let host = DriverHost::new(kernel, configuration.rules.clone(), Arc::clone(&configuration.store));
        let config = EndpointConfig { fragment_mtu: chosen.fragment_mtu, ..settings.endpoint.clone() };
        let endpoint = Endpoint::new(config, Box::new(SystemSource::new()), host);
        let now = clock::now();
        let mut daemon = Self {
            endpoint,
            sockets,
            datagrams,
            configuration,
            settings,
            privilege: chosen.privilege,
            debug: chosen.debug,
            chosen,
            log,
            ring: None,
            more_events: false,
            looked: now,
            reaped: now,
            kept: now,
        };
        daemon.write_labels();
        daemon.tune_path_log();
        Ok(daemon)
    }

    /// Runs until SIGTERM or SIGINT, then tells the peers and removes its SAs.
    ///
    /// # Errors
    /// Signals cannot be had.
    pub async fn run(mut self, mut knocks: mpsc::Receiver<Knock>) -> Result<(), StartError> {
        let on = |kind| signal(kind).map_err(StartError::Signal);
        let (mut hangup, mut terminate, mut interrupt) =
            (on(SignalKind::hangup())?, on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        info!(target: "ikev2d::ike", "in.ikev2d is ready");
        self.events();
        loop {
            let nap = self.nap();
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload(),
                Some(knock) = knocks.recv() => {
                    let answer = self.answer(knock.request);
                    // A client that gave up needs no answer.
                    let _ = knock.answer.send(answer);
                }
                Some(datagram) = self.datagrams.recv() => self.datagram(&datagram),
                () = ready(self.ring.as_ref()) => self.events(),
                () = sleep(nap) => self.tick(),
            }
        }
        drop(knocks);
        self.farewell().await;
        Ok(())
    }

    /// Time until something has to be looked at. Counted from the last look, so that a busy loop looks as well.
    fn nap(&self) -> Duration {
        if self.more_events {
            return Duration::ZERO;
        }
        // The data path may be attached anew, or somebody may leave the lease.
        let mut interval = LEASE_INTERVAL;
        if self.endpoint.host().keeps_mappings() {
            interval = interval.min(MAPPING_INTERVAL);
        }
        if self.endpoint.host().waits_for_use() {
            interval = interval.min(USE_INTERVAL);
        }
        let mut wake = self.looked.after(interval);
        if let Some(timeout) = self.endpoint.poll_timeout() {
            wake = wake.min(timeout);
        }
        wake.since(clock::now())
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.looked = now;
        if self.endpoint.poll_timeout().is_some_and(|timeout| timeout <= now) {
            self.endpoint.handle_timeout(now);
            self.drain();
        }
        for spi in self.endpoint.host_mut().used() {
            self.endpoint.handle_inbound_used(now, spi);
            self.drain();
        }
        self.events();
        self.endpoint.host_mut().tire(now);
        self.keep_mappings(now);
        if now.since(self.reaped) >= REAP_INTERVAL {
            self.reaped = now;
            if let Err(error) = self.endpoint.host_mut().kernel().reap() {
                warn!(target: "ikev2d::sadb", %error, "dead SAs stay");
            }
        }
    }

    /// Keepalives for SAs that no IKE SA of ours sends any for.
    fn keep_mappings(&mut self, now: Timestamp) {
        let interval = if self.endpoint.host().keeps_mappings() { MAPPING_INTERVAL } else { REAP_INTERVAL };
        if now.since(self.kept) < interval {
            return;
        }
        self.kept = now;
        let keepalive = self.settings.endpoint.keepalive;
        for path in self.endpoint.host_mut().quiet_paths(now, keepalive) {
            let transmit = Transmit { path, bytes: vec![0xff], natt_marker: false };
            if let Err(error) = self.sockets.send(&transmit) {
                debug!(target: "ikev2d::udp", path = %transmit.path, %error, "keepalive");
            }
        }
    }

    fn datagram(&mut self, datagram: &Datagram) {
        self.endpoint.handle_datagram(clock::now(), datagram.path, &datagram.bytes);
        self.drain();
    }

    /// Takes everything the data path has to tell, and waits for another descriptor if that has changed.
    fn events(&mut self) {
        self.more_events = true;
        for _ in 0..EVENT_ROUNDS {
            let events = match self.endpoint.host_mut().kernel().events() {
                Ok(events) => events,
                Err(error) => {
                    warn!(target: "ikev2d::sadb", %error, "events");
                    Vec::new()
                }
            };
            let packets = self.endpoint.host_mut().packets();
            if events.is_empty() && !packets {
                self.more_events = false;
                break;
            }
            for event in &events {
                if let Some(input) = self.endpoint.host_mut().event(event) {
                    self.input(input);
                    self.drain();
                }
            }
        }
        for input in self.endpoint.host_mut().lost() {
            self.input(input);
            self.drain();
        }
        match self.endpoint.host_mut().kernel().new_event_fd() {
            Ok(None) => {}
            Ok(Some(descriptor)) => match watch(descriptor) {
                Ok(ring) => self.ring = Some(ring),
                Err(error) => warn!(target: "ikev2d::sadb", %error, "cannot wait for events"),
            },
            Err(error) => warn!(target: "ikev2d::sadb", %error, "cannot wait for events"),
        }
    }

    fn input(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Acquire(acquire) => self.endpoint.handle_acquire(now, *acquire),
            Input::Expire(expire) => self.endpoint.handle_expire(now, expire),
            Input::Moved { spi, path } => self.endpoint.handle_moved(now, spi, path),
        }
    }

    /// Does everything the core wants done: SAs first, for a peer must not learn of one that cannot receive.
    fn drain(&mut self) {
        loop {
            while let Some(effect) = self.endpoint.poll_effect() {
                self.endpoint.host_mut().effect(&effect);
            }
            let Some(transmit) = self.endpoint.poll_transmit() else { break };
            if let Err(error) = self.sockets.send(&transmit) {
                debug!(target: "ikev2d::udp", path = %transmit.path, %error, "send");
            }
        }
        self.endpoint.host_mut().settle();
    }

    /// Tells every peer that it is over and waits a little for their answers; then removes what is left.
    async fn farewell(&mut self) {
        info!(target: "ikev2d::ike", "in.ikev2d ends: deleting its SAs at the peers");
        self.endpoint.handle_command(clock::now(), Command::Shutdown);
        self.drain();
        let deadline = Instant::now() + FAREWELL;
        while !self.endpoint.is_idle() && Instant::now() < deadline {
            let nap = self.endpoint.poll_timeout().map_or(FAREWELL, |timeout| timeout.since(clock::now()));
            let until = deadline.min(Instant::now() + nap);
            match timeout_at(until, self.datagrams.recv()).await {
                Ok(Some(datagram)) => self.datagram(&datagram),
                Ok(None) => break,
                Err(_) => {
                    self.endpoint.handle_timeout(clock::now());
                    self.drain();
                }
            }
        }
        if !self.endpoint.is_idle() {
            info!(target: "ikev2d::ike", "not every peer has answered its Delete");
        }
        self.endpoint.host_mut().remove_all();
    }

    /// SIGHUP: properties and both files again, or things stay as they are.
    fn reload(&mut self) {
        if let Err(error) = self.load_again() {
            for line in error.to_string().lines() {
                warn!(target: "ikev2d::config", "{line}");
            }
            warn!(target: "ikev2d::config", "the configuration stays as it was");
        }
    }

    fn load_again(&mut self) -> Result<(), StartError> {
        let chosen = self.settings.choices.chosen()?;
        let (configuration, warnings) = chosen.files.load()?;
        if let Err(error) = self.log.direct(chosen.log_file.as_deref()) {
            warn!(target: "ikev2d::config", file = ?chosen.log_file, %error, "the log stays where it was");
        }
        // Unless it was changed, what ikeadm set since goes on.
        if chosen.debug != self.chosen.debug {
            self.set_debug(chosen.debug);
        }
        self.endpoint.set_fragment_mtu(chosen.fragment_mtu);
        self.chosen = chosen;
        files::report(&configuration, &warnings);
        self.apply(configuration);
        Ok(())
    }

    fn set_debug(&mut self, level: DebugLevel) {
        self.debug = level;
        self.log.set(level);
        self.tune_path_log();
        // There is another descriptor to wait for.
        self.events();
    }

    fn apply(&mut self, mut configuration: Configuration) {
        configuration.rules.wait(self.chosen.response_wait);
        self.endpoint.host_mut().set_rules(configuration.rules.clone(), Arc::clone(&configuration.store));
        self.configuration = configuration;
        self.write_labels();
    }

    /// Drops of the data path are details of the SADB: whoever asks for those hears of them.
    fn tune_path_log(&mut self) {
        let wanted = logging::wants_path(self.debug);
        self.endpoint.host_mut().kernel().set_path_log(wanted);
    }

    fn write_labels(&self) {
        let Some(run_dir) = &self.settings.run_dir else { return };
        if let Err(error) = files::write_labels(run_dir, &self.configuration.rules) {
            warn!(target: "ikev2d::config", %error, "tools will show cookies without labels");
        }
    }

    /// The answer to one request at the door.
    fn answer(&mut self, request: Request) -> Answer {
        let now = clock::now();
        match request {
            Request::GetDebug => Ok(vec![Item::Debug { old: None, level: self.debug }]),
            Request::SetDebug { level } => {
                let old = self.debug;
                self.set_debug(level);
                Ok(vec![Item::Debug { old: Some(old), level }])
            }
            Request::GetPriv => Ok(vec![Item::Priv { old: None, level: self.privilege }]),
            Request::SetPriv { level } => {
                self.require(level)?;
                let old = std::mem::replace(&mut self.privilege, level);
                Ok(vec![Item::Priv { old: Some(old), level }])
            }
            Request::GetStats => Ok(vec![Item::Stats(self.stats())]),
            Request::GetDefaults => {
                Ok(answers::defaults(self.configuration.rules.defaults()).into_iter().map(Item::Default).collect())
            }
            Request::DumpIkeSa => self.ike_sas(|_| true),
            Request::GetIkeSa { id } => self.ike_sas(|sa| is_meant(sa, &id)),
            Request::DelIkeSa { id } => {
                let spis: Vec<IkeSpis> =
                    self.endpoint.snapshot(now).iter().filter(|sa| is_meant(sa, &id)).map(|sa| sa.spis).collect();
                for spis in &spis {
                    self.endpoint.handle_command(now, Command::DeleteIkeSa(*spis));
                    self.drain();
                }
                counted(spis.len())
            }
            Request::FlushIkeSa => {
                let count = self.endpoint.snapshot(now).len();
                self.endpoint.handle_command(now, Command::FlushIkeSas);
                self.drain();
                Ok(vec![Item::Count(u64::try_from(count).unwrap_or(u64::MAX))])
            }
            Request::DumpRule => {
                found(self.configuration.rules.rules().iter().map(|rule| Item::Rule(answers::rule(rule))).collect())
            }
            Request::GetRule { label } => {
                let rule = self.configuration.rules.by_label(&label);
                found(rule.map(|rule| Item::Rule(answers::rule(rule))).into_iter().collect())
            }
            Request::DumpPreshared => {
                self.require(Privilege::Modkeys)?;
                let level = self.privilege;
                let entries = self.configuration.keys.entries().iter();
                found(entries.map(|entry| Item::Preshared(answers::preshared(entry, level))).collect())
            }
            Request::DumpGroups => found(answers::groups()),
            Request::DumpEncrAlgs => found(answers::ciphers()),
            Request::DumpAuthAlgs => found(answers::integrity()),
            Request::ReadRule => self.read_rules(),
            Request::ReadPreshared => self.read_keys(),
        }
    }

    fn require(&self, level: Privilege) -> Result<(), Failure> {
        if level <= self.privilege {
            return Ok(());
        }
        Err(Failure { code: ErrorCode::Privilege, detail: "not allowed at current privilege level".to_owned() })
    }

    fn stats(&self) -> ike_door::StatsInfo {
        let host = self.endpoint.host();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let dropped = &self.sockets.dropped;
        let held = host.waiting.counts;
        let extra = [
            ("child SA pairs installed now", count(host.owned())),
            ("SA pairs of an earlier daemon", count(host.orphans())),
            ("NAT keepalives received", dropped.keepalives.load(Ordering::Relaxed)),
            ("datagrams without non-ESP marker", dropped.unmarked.load(Ordering::Relaxed)),
            ("datagrams too long", dropped.too_long.load(Ordering::Relaxed)),
            ("datagrams not sent", dropped.unsent.load(Ordering::Relaxed)),
            ("packets waiting for an SA now", count(host.waiting.len())),
            ("packets held", held.taken),
            ("held packets sent", held.sent),
            ("held packets dropped for newer ones", held.replaced),
            ("held packets without an SA in time", held.expired),
            ("held packets whose SA was refused", held.refused),
            ("held packets lost", held.unsent.saturating_add(host.packets_lost())),
        ];
        answers::stats(&self.endpoint.stats(), host.counts, &extra)
    }

    fn ike_sas(&self, wanted: impl Fn(&IkeSaSnapshot) -> bool) -> Answer {
        let keymat = self.privilege >= Privilege::Keymat;
        let item = |sa: &IkeSaSnapshot| {
            let keys = if keymat { self.endpoint.keys(sa.spis) } else { None };
            Item::IkeSa(Box::new(answers::ike_sa(sa, keys.as_ref())))
        };
        found(self.endpoint.snapshot(clock::now()).iter().filter(|sa| wanted(sa)).map(item).collect())
    }

    fn read_rules(&mut self) -> Answer {
        let loaded = crate::config::load_rules(&self.chosen.files.config).map_err(|error| refused(&error))?;
        let Configuration { keys, store, .. } = self.configuration.clone();
        let mut configuration = Configuration { rules: loaded.value, keys, store };
        configuration.attach();
        let count = configuration.rules.rules().len();
        files::report(&configuration, std::slice::from_ref(&loaded.warnings));
        self.apply(configuration);
        read(count, &[loaded.warnings])
    }

    fn read_keys(&mut self) -> Answer {
        self.require(Privilege::Modkeys)?;
        let mut warnings = Vec::new();
        let keys = self.chosen.files.load_keys(&mut warnings).map_err(|error| refused(&error))?;
        let count = keys.entries().len();
        let Configuration { rules, store, .. } = self.configuration.clone();
        let mut configuration = Configuration { rules, keys, store };
        configuration.attach();
        files::report(&configuration, &warnings);
        self.apply(configuration);
        read(count, &warnings)
    }
}

fn is_meant(sa: &IkeSaSnapshot, id: &IkeSaId) -> bool {
    match *id {
        IkeSaId::Addresses { local, remote } => sa.path.local.ip() == local && sa.path.remote.ip() == remote,
        IkeSaId::Spis { initiator, responder } => {
            sa.spis.initiator == initiator.to_be_bytes() && sa.spis.responder == responder.to_be_bytes()
        }
    }
}

fn no_data() -> Failure {
    Failure { code: ErrorCode::NoData, detail: "there is none".to_owned() }
}

fn found(items: Vec<Item>) -> Answer {
    if items.is_empty() { Err(no_data()) } else { Ok(items) }
}

fn counted(count: usize) -> Answer {
    if count == 0 { Err(no_data()) } else { Ok(vec![Item::Count(u64::try_from(count).unwrap_or(u64::MAX))]) }
}

/// The answer to a read: how many, and what the file's warnings are.
fn read(count: usize, warnings: &[crate::config::Report]) -> Answer {
    let mut items = vec![Item::Count(u64::try_from(count).unwrap_or(u64::MAX))];
    items.extend(warnings.iter().filter(|report| !report.is_empty()).map(|report| Item::Note(report.to_string())));
    Ok(items)
}

fn refused(error: &ConfigError) -> Failure {
    let code = match error {
        ConfigError::File(_) | ConfigError::KeyStore(_) => ErrorCode::BadLocation,
        ConfigError::Content(_) => ErrorCode::InvalidData,
    };
    Failure { code, detail: error.to_string() }
}

/// Registers a descriptor with the runtime.
fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the AsyncFd from here on, so it stays open and the same as long as that lives.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

/// Waits until the ring has something; for ever without a ring.
async fn ready(ring: Option<&AsyncFd<OwnedFd>>) {
    let Some(ring) = ring else { return pending().await };
    match ring.readable().await {
        // The caller drains the ring until it is empty; what comes after this moment makes it ready again.
        Ok(mut guard) => guard.clear_ready(),
        // The runtime is about to end.
        Err(_) => pending().await,
    }
}
