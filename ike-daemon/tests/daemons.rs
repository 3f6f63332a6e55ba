//! Two whole daemons in two network namespaces, with real sockets, real maps and real doors; only the programs in the kernel
//! are missing, so the first packet's ACQUIRE is put in by hand. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking, their helpers too"
)]

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ike_daemon::core::api::{ChildSa, EndpointConfig, InstallRefusal, Path as IkePath, Protocol};
use ike_daemon::door_server::{Deadlines, Door};
use ike_daemon::driver::kernel::{FoundPair, KernelError, KernelEvent, PairKey};
use ike_daemon::driver::{Choices, Daemon, KernelSide, LogControl, SadbKernel, Settings};
use ike_door::{Client, IkeSaInfo, Item, Privilege, Request, StatsInfo};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, raise};
use sadb_maps::Addr;
use sadb_maps::event::Event;
use sadb_maps::host::testing::TestInstance;
use sadb_maps::host::{CompiledRule, HeldPacket, SaInfo, Sadb, Spd};
use sadb_maps::policy::{Action, MAX_ACTIONS, Rule, Selectors, direction, rule_flag, verdict};
use sadb_maps::sa::{BindingKey, encr};

const PATIENCE: Duration = Duration::from_secs(10);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A tunnel rule: `local` net here, `remote` net there, between the two ends.
fn rule(local_net: &str, remote_net: &str, local: &str, remote: &str) -> CompiledRule {
    let mut actions = [Action::default(); MAX_ACTIONS];
    actions[0] = Action { encr: encr::CHACHA20_POLY1305, encr_bits: [256, 256], ..Action::default() };
    let rule = Rule {
        laddr: ip(local_net).into(),
        lmask: Addr::mask(112),
        raddr: ip(remote_net).into(),
        rmask: Addr::mask(112),
        lport: [0, u16::MAX],
        rport: [0, u16::MAX],
        proto: 0,
        directions: direction::IN | direction::OUT,
        verdict: verdict::PROTECT,
        flags: rule_flag::TUNNEL,
        icmp_type: [0; 2],
        icmp_code: [0; 2],
        priority: 0,
        index: 1,
        action_id: 7,
        action_count: 1,
        tunnel_mode: 1,
        tunnel_local: ip(local).into(),
        tunnel_remote: ip(remote).into(),
        scope: 0,
        reserved: 0,
        actions,
    };
    CompiledRule { rule, tunnel: None }
}

/// The real data path, with events put in by the test.
struct Injected {
    kernel: SadbKernel,
    events: Receiver<KernelEvent>,
}

impl KernelSide for Injected {
    fn allocate_spi(&mut self, protocol: Protocol, local: IpAddr, remote: IpAddr) -> Result<u32, KernelError> {
        self.kernel.allocate_spi(protocol, local, remote)
    }
    fn release_spi(&mut self, protocol: Protocol, spi: u32, local: IpAddr) -> Result<(), KernelError> {
        self.kernel.release_spi(protocol, spi, local)
    }
    fn install(&mut self, sa: &ChildSa, cookie: u64) -> Result<(), InstallRefusal> {
        self.kernel.install(sa, cookie)
    }
    fn switch_outbound(&mut self, pair: &PairKey) -> Result<(), KernelError> {
        self.kernel.switch_outbound(pair)
    }
    fn remove(&mut self, pair: &PairKey) -> Result<(), KernelError> {
        self.kernel.remove(pair)
    }
    fn move_pair(&mut self, pair: &PairKey, peer: SocketAddr) -> Result<(), KernelError> {
        self.kernel.move_pair(pair, peer)
    }
    fn idle_outbound(&mut self, pair: &PairKey) -> Result<Option<Duration>, KernelError> {
        self.kernel.idle_outbound(pair)
    }
    fn mappings(&mut self) -> Result<Vec<(u32, IkePath, Duration)>, KernelError> {
        self.kernel.mappings()
    }
    fn holder(&mut self, sa: &ChildSa) -> Result<Option<u32>, KernelError> {
        self.kernel.holder(sa)
    }
    fn idle_inbound(&mut self, pair: &PairKey) -> Result<Option<Duration>, KernelError> {
        self.kernel.idle_inbound(pair)
    }
    fn pairs(&mut self) -> Result<Vec<FoundPair>, KernelError> {
        self.kernel.pairs()
    }
    fn forget_acquire(&mut self, binding: &BindingKey) -> Result<(), KernelError> {
        self.kernel.forget_acquire(binding)
    }
    fn reap(&mut self) -> Result<(), KernelError> {
        self.kernel.reap()
    }
    fn rules(&mut self) -> Result<Vec<CompiledRule>, KernelError> {
        self.kernel.rules()
    }
    fn events(&mut self) -> Result<Vec<KernelEvent>, KernelError> {
        Ok(self.events.try_iter().collect())
    }
    fn new_event_fd(&mut self) -> Result<Option<OwnedFd>, KernelError> {
        Ok(None)
    }
    fn is_other(&mut self) -> bool {
        false
    }
    fn packets(&mut self) -> Vec<HeldPacket> {
        self.kernel.packets()
    }
    fn packets_lost(&self) -> u64 {
        self.kernel.packets_lost()
    }
    fn release_packet(&mut self, packet: HeldPacket) -> Result<(), KernelError> {
        self.kernel.release_packet(packet)
    }
    fn is_bound(&mut self, binding: &BindingKey) -> Result<bool, KernelError> {
        self.kernel.is_bound(binding)
    }
    fn set_path_log(&mut self, on: bool) {
        self.kernel.set_path_log(on);
    }
    fn exempt_socket(&mut self, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.kernel.exempt_socket(socket)
    }
}

/// What the test asks a host's thread for; SADB and daemon belong to the thread in their namespace.
struct Host {
    events: Sender<KernelEvent>,
    door: PathBuf,
    sas: Receiver<Vec<SaInfo>>,
    look: Sender<()>,
    daemon: thread::JoinHandle<()>,
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A thread in a network namespace of its own, with one end of a veth pair, maps and a daemon.
fn host(dir: &Path, compiled: CompiledRule, own: &str, peer_namespace: Option<&str>) -> (Host, String) {
    let config = dir.join("ikev2.config");
    fs::write(
        &config,
        "ikesa_xform { encr_alg aes-gcm(256) auth_alg sha256 oakley_group 31 }
         { label \"pair\" auth_method preshared local_addr 192.0.2.0/24 remote_addr 192.0.2.0/24 }",
    )
    .unwrap();
    let preshared = dir.join("ikev2.preshared");
    fs::write(&preshared, "{ label \"pair\" key \"of no use to anybody else\" }").unwrap();
    fs::set_permissions(&preshared, fs::Permissions::from_mode(0o600)).unwrap();
    let door = dir.join("door");
    let settings = Settings {
        choices: Choices {
            config: Some(config),
            preshared: Some(preshared),
            privilege: Some(Privilege::Keymat),
            ..Choices::default()
        },
        run_dir: None,
        endpoint: EndpointConfig::default(),
    };
    let (events, injected) = mpsc::channel();
    let (look, looks) = mpsc::channel::<()>();
    let (shown, sas) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let (own, peer_namespace, socket) = (own.to_owned(), peer_namespace.map(str::to_owned), door.clone());
    let daemon = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let namespace = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
        if let Some(peer) = peer_namespace {
            run(&format!("ip link add wire type veth peer name wire netns {peer}"));
        }
        let test = TestInstance::with_maps(16).unwrap();
        Spd::open(&test).unwrap().replace(&[compiled]).unwrap();
        let mut sadb = Sadb::open(&test).unwrap();
        let kernel = Injected { kernel: SadbKernel::open(&test).unwrap(), events: injected };
        ready.send(namespace).unwrap();
        // The other end of the wire comes with the other host.
        let _ = looks.recv();
        run(&format!("ip addr add {own}/24 dev wire"));
        run("ip link set wire up");
        run("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let daemon = Daemon::start(kernel, settings, LogControl::none()).unwrap();
            let (_door, knocks) = Door::open(&socket, Deadlines::default()).unwrap();
            shown.send(Vec::new()).unwrap();
            // Shows the SADB whenever it is asked to, beside the daemon.
            let show = async {
                loop {
                    if looks.try_recv().is_ok() {
                        shown.send(sadb.dump(None).unwrap()).unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                result = daemon.run(knocks) => result.unwrap(),
                () = show => {}
            }
        });
        let _ = shown.send(sadb.dump(None).unwrap());
    });
    let namespace = is_ready.recv_timeout(PATIENCE).unwrap();
    (Host { events, door, sas, look, daemon }, namespace)
}

impl Host {
    fn sas(&self) -> Vec<SaInfo> {
        self.look.send(()).unwrap();
        self.sas.recv_timeout(PATIENCE).unwrap()
    }

    fn ask(&self, request: Request) -> Vec<Item> {
        Client::connect(&self.door, PATIENCE).unwrap().ask(request).unwrap().unwrap_or_default()
    }

    fn stats(&self) -> StatsInfo {
        match self.ask(Request::GetStats).into_iter().next() {
            Some(Item::Stats(stats)) => stats,
            other => panic!("{other:?}"),
        }
    }

    fn ike_sas(&self) -> Vec<IkeSaInfo> {
        let sa = |item| match item {
            Item::IkeSa(sa) => *sa,
            other => panic!("{other:?}"),
        };
        self.ask(Request::DumpIkeSa).into_iter().map(sa).collect()
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// V2-AUTH-02, and the whole way from an ACQUIRE to two SADBs and back: negotiate, look through the door, flush, ask again,
/// end by SIGTERM.
#[test]
fn two_daemons_from_acquire_to_farewell() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root for network namespaces and maps");
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let compiled_a = rule("10.1.0.0", "10.2.0.0", "192.0.2.1", "192.0.2.2");
    let compiled_b = rule("10.2.0.0", "10.1.0.0", "192.0.2.2", "192.0.2.1");
    let packet = Selectors {
        laddr: ip("10.1.0.5").into(),
        raddr: ip("10.2.0.9").into(),
        lport: 4000,
        rport: 80,
        proto: 6,
        ..Selectors::default()
    };
    let event = Event { binding: compiled_a.rule.binding(&packet), packet, ..Event::default() };
    let (a, namespace) = host(dir_a.path(), compiled_a, "192.0.2.1", None);
    let (b, _) = host(dir_b.path(), compiled_b, "192.0.2.2", Some(&namespace));
    for host in [&a, &b] {
        host.look.send(()).unwrap();
        host.sas.recv_timeout(PATIENCE).unwrap();
    }

    a.events.send(KernelEvent::Acquire(Box::new(event))).unwrap();
    wait("SAs on both hosts", || a.sas().len() == 2 && b.sas().len() == 2);
    let (sas_a, sas_b) = (a.sas(), b.sas());
    for sa in &sas_a {
        let same = sas_b.iter().find(|other| other.spi == sa.spi).unwrap();
        assert_eq!((sa.src, sa.dst), (same.src, same.dst));
        assert_ne!(sa.is_inbound(), same.is_inbound());
        assert_eq!(sa.key().octets(), same.key().octets());
        assert_eq!(sa.salt().octets(), same.salt().octets());
        assert_eq!(sa.selectors.unwrap(), same.selectors.unwrap());
    }
    let (ike_a, ike_b) = (a.ike_sas(), b.ike_sas());
    assert_eq!((ike_a.len(), ike_b.len()), (1, 1));
    assert_eq!(ike_a[0].spi_initiator, ike_b[0].spi_initiator);
    assert_eq!(ike_a[0].rule.as_deref(), Some("pair"));
    assert_eq!(ike_a[0].keys.len(), 7);
    assert_eq!(ike_a[0].keys[0], ike_b[0].keys[0]);
    assert_eq!(ike_a[0].children.len(), 1);
    assert_eq!((a.stats().current.initiator, b.stats().current.responder), (1, 1));

    a.ask(Request::FlushIkeSa);
    wait("no SAs after a flush", || a.sas().is_empty() && b.sas().is_empty());
    wait("no IKE SAs after a flush", || a.ike_sas().is_empty() && b.ike_sas().is_empty());
    a.events.send(KernelEvent::Acquire(Box::new(event))).unwrap();
    wait("SAs again", || a.sas().len() == 2 && b.sas().len() == 2);

    raise(Signal::SIGTERM).unwrap();
    for host in [a, b] {
        host.daemon.join().unwrap();
        let last = host.sas.try_iter().last();
        assert!(last.is_some_and(|sas| sas.is_empty()), "a daemon removes its SAs at the end");
        assert!(!host.door.exists());
    }
}
