//! Negotiates thousands of IKE SAs in memory, with one child each, and prints as JSON by how many octets the process
//! grew for each: what is resident, and what the allocator handed out. Two endpoints are in the process, so half of
//! the SAs are an initiator's and half a responder's. `cargo xtask bench memory` runs it.

use anyhow::{Context, Result, ensure};
use ike_daemon::core::Endpoint;
use ike_daemon::core::api::*;
use ike_daemon::crypto::Secret;
use ike_daemon::wire::transform::{Encr, GroupId, PrfId};
use ike_daemon::wire::ts::{Ports, TrafficSelector};
use ring::rand::{SecureRandom, SystemRandom};
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Pairs of IKE SAs that are measured.
const PAIRS: u32 = 4000;

/// Pairs before the measurement: what grows once has grown, and the heap has its first pages.
const WARM_UP: u32 = 200;

/// Counts what is handed out.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the allocator of the system with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The entropy of the system.
struct Entropy(SystemRandom);

impl RandomSource for Entropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(out).map_err(|_| EntropyError)
    }
}

/// One rule for everybody, and an SADB that keeps nothing.
struct Surroundings {
    rule: Arc<Rule>,
    next_spi: u32,
}

impl Host for Surroundings {
    fn rule_for_initiator(&self, _: &Acquire) -> Option<Arc<Rule>> {
        Some(Arc::clone(&self.rule))
    }

    fn rules_for_responder(&self, _: IpAddr, _: IpAddr) -> Vec<Arc<Rule>> {
        vec![Arc::clone(&self.rule)]
    }

    fn child_policy(&self, query: &ChildQuery<'_>) -> Result<ChildPolicy, ChildRefusal> {
        Ok(policy(query.ts_local.to_vec(), query.ts_remote.to_vec()))
    }

    fn allocate_spi(&mut self, _: &SpiRequest) -> Result<u32, SpiRefusal> {
        self.next_spi += 1;
        Ok(self.next_spi)
    }

    fn install_child(&mut self, _: &ChildSa) -> Result<(), InstallRefusal> {
        Ok(())
    }

    fn last_inbound(&self, _: u32) -> Option<Timestamp> {
        None
    }

    fn last_outbound(&self, _: u32) -> Option<Timestamp> {
        None
    }
}

fn rule() -> Rule {
    let secret = || Secret::copy_of(b"the key of both");
    Rule {
        label: "all".to_owned(),
        source: SourceLine { file: "ikev2.config".to_owned(), line: 1 },
        local_id: LocalIdentity::Address,
        remote_id: IdPattern::Any,
        local_auth: AuthBy::Preshared,
        remote_auth: AuthBy::Preshared,
        required_issuer: None,
        psk: Some(Psk { local: secret(), remote: secret() }),
        proposals: vec![IkeProposal {
            encr: vec![Encr::aes_gcm_16(256)],
            integ: vec![],
            prf: vec![PrfId::HMAC_SHA2_256],
            groups: vec![GroupId::CURVE25519],
        }],
        ikesa_lifetime: Duration::ZERO,
        child_lifetimes: ChildLifetimes::default(),
        childsa_pfs: GroupId::NONE,
        retry: RetryPolicy { limit: 4, initial: Duration::from_secs(1), max: Duration::from_secs(8), patience: None },
        dpd_interval: Duration::ZERO,
    }
}

fn policy(ts_local: Vec<TrafficSelector>, ts_remote: Vec<TrafficSelector>) -> ChildPolicy {
    ChildPolicy {
        action: 1,
        source: "ipsecinit.conf:1".to_owned(),
        mode: Mode::Tunnel,
        suites: vec![ChildSuite::esp_aead(Encr::CHACHA20_POLY1305)],
        esn: EsnPolicy::Preferred,
        ts_local,
        ts_remote,
    }
}

fn network(first: [u8; 4], last: [u8; 4]) -> Result<TrafficSelector> {
    let (first, last) = (IpAddr::from(first), IpAddr::from(last));
    TrafficSelector::new(0, Ports::ANY, first, last).context("selectors of the example")
}

fn endpoint(first_spi: u32) -> Endpoint<Surroundings> {
    let host = Surroundings { rule: Arc::new(rule()), next_spi: first_spi };
    Endpoint::new(EndpointConfig::default(), Box::new(Entropy(SystemRandom::new())), host)
}

struct World {
    initiator: Endpoint<Surroundings>,
    responder: Endpoint<Surroundings>,
    children: u64,
    now: Timestamp,
}

impl World {
    /// A negotiation between two addresses that nothing else is between.
    fn connect(&mut self, number: u32) -> Result<()> {
        self.now = self.now.after(Duration::from_millis(1));
        let address = |first: u8| IpAddr::V4(Ipv4Addr::from(u32::from(first) << 24 | (number + 1)));
        let acquire = Acquire {
            id: number.into(),
            local: address(10),
            remote: address(11),
            policy: policy(
                vec![network([172, 16, 0, 0], [172, 16, 255, 255])?],
                vec![network([172, 17, 0, 0], [172, 17, 255, 255])?],
            ),
            packet: None,
            rule_label: None,
        };
        self.initiator.handle_acquire(self.now, acquire);
        while self.exchange() {}
        Ok(())
    }

    /// Carries what both have to say to the other; false when neither has anything.
    fn exchange(&mut self) -> bool {
        let (now, mut any) = (self.now, false);
        for initiator in [true, false] {
            let ends = (&mut self.initiator, &mut self.responder);
            let (from, to) = if initiator { ends } else { (ends.1, ends.0) };
            while let Some(effect) = from.poll_effect() {
                self.children += u64::from(matches!(effect, Effect::ChildInstalled(_)));
            }
            while let Some(Transmit { path: Path { local, remote }, bytes, .. }) = from.poll_transmit() {
                to.handle_datagram(now, Path { local: remote, remote: local }, &bytes);
                any = true;
            }
        }
        any
    }
}

/// Octets of this process that are in memory.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.context("/proc/self/status has no VmRSS")? * 1024)
}

fn main() -> Result<()> {
    let now = Timestamp::from_duration(Duration::from_secs(1000));
    let mut world = World { initiator: endpoint(1 << 20), responder: endpoint(1 << 21), children: 0, now };
    for number in 0..WARM_UP {
        world.connect(number)?;
    }
    let (resident_before, allocated_before) = (resident()?, LIVE.load(Ordering::Relaxed));
    for number in WARM_UP..WARM_UP + PAIRS {
        world.connect(number)?;
    }
    let (resident_after, allocated_after) = (resident()?, LIVE.load(Ordering::Relaxed));
    let wanted = u64::from(2 * (WARM_UP + PAIRS));
    ensure!(world.children == wanted, "{} children were installed, not {wanted}", world.children);
    let sas = u64::from(2 * PAIRS);
    println!(
        "{{ \"ike_sas\": {sas}, \"resident\": {}, \"allocated\": {} }}",
        resident_after.saturating_sub(resident_before) / sas,
        allocated_after.saturating_sub(allocated_before) as u64 / sas
    );
    Ok(())
}
