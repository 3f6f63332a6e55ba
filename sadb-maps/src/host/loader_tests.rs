//! Tests of the loader with the real object, each in network namespaces of its own. They run as root.

use super::object::OBJECT;
use super::testing::{TestInstance, an_sa, in_new_netns, ip, two_interfaces};
use super::*;
use crate::abi::program;
use std::process::Command;
use std::time::{Duration, Instant};

fn with_capacity(n: u32) -> AttachOptions {
    AttachOptions { capacity: Some(n), ..AttachOptions::default() }
}

/// Whether there is something to test: a build without the programs says so instead of attaching.
fn has_object(test: &Instance) -> bool {
    if OBJECT.is_none() {
        assert!(matches!(Loader::attach(test, &["lan0"], &with_capacity(9)), Err(LoaderError::NoObject)));
        assert!(!test.is_attached() && !Status::read(test).unwrap().attached);
    }
    OBJECT.is_some()
}

#[test]
fn interfaces_come_and_go_and_the_sas_stay() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        let report = Loader::attach(&test, &["lan0"], &with_capacity(99)).unwrap();
        assert!(report.loaded && report.capacity == 99 && report.memory > 99 * 640);
        let lan0 = &report.interfaces[0];
        assert!(lan0.native && !lan0.xdp_exit && lan0.mtu == 1500 && lan0.notes.is_empty());
        Sadb::open(&test).unwrap().add(&an_sa()).unwrap();

        let second = Loader::attach(&test, &["lan1", "lan0"], &AttachOptions::default()).unwrap();
        assert!(!second.loaded && second.interfaces.len() == 2 && second.interfaces[1].native);
        let other = Loader::attach(&test, &["lan1"], &with_capacity(7));
        assert!(matches!(other, Err(LoaderError::OtherCapacity(99))));

        let status = Status::read(&test).unwrap();
        assert!(status.attached && status.pair && status.unattached.is_empty());
        assert_eq!(status.interfaces.len(), 2);
        assert!(status.programs.iter().all(|p| p.verified > 0 && p.machine_code > 0));
        assert!(status.maps.iter().any(|m| m.name == "SA_STATIC" && m.entries == 100));

        Loader::detach(&test, &["lan0"]).unwrap();
        assert!(matches!(Loader::detach(&test, &["lan0"]), Err(LoaderError::NoInterface(_))));
        assert_eq!(Status::read(&test).unwrap().unattached, ["lan0"]);

        // Somebody removes the pair; the next attach makes it anew.
        ip("link del ipsec0");
        assert!(!Status::read(&test).unwrap().pair);
        Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap();
        assert!(Status::read(&test).unwrap().pair);
        assert_eq!(Sadb::open(&test).unwrap().dump(None).unwrap().len(), 1);
        // Or takes one end of it down.
        for end in ["ipsec0", "ipsec0x"] {
            ip(&format!("link set {end} down"));
            assert!(!Status::read(&test).unwrap().pair);
            Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap();
            assert!(Status::read(&test).unwrap().pair);
        }

        // Another network namespace is another host.
        in_new_netns(|| {
            two_interfaces();
            let refused = |r: Result<_, LoaderError>| {
                matches!(
                    r,
                    Err(LoaderError::Instance(InstanceError::OtherNamespace { .. })
                        | LoaderError::Sadb(SadbError::Instance(InstanceError::OtherNamespace { .. })))
                )
            };
            assert!(refused(Loader::attach(&test, &["lan0"], &AttachOptions::default()).map(drop)));
            assert!(refused(Loader::detach_all(&test)));
            assert!(refused(Status::read(&test).map(drop)));
        });

        // The next version of the tools can take away what this one has made.
        let header = test.new_header(100).unwrap();
        maps::write_header(&test, &crate::abi::Header { abi: header.abi + 1, ..header }).unwrap();
        assert!(
            Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap_err().to_string().contains("version")
        );

        Loader::detach_all(&test).unwrap();
        assert!(!test.is_attached() && !test.pin_dir().exists());
        assert!(netdev::Route::open().unwrap().find("ipsec0").unwrap().is_none());
    });
}

#[test]
fn a_driver_that_refuses_is_a_reported_fallback() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        // The driver refuses where the other end sends more than a page holds.
        ip("link add plain0 mtu 9000 type veth peer name plain1 mtu 9000");
        let report = Loader::attach(&test, &["plain0"], &with_capacity(9)).unwrap();
        let said = report.interfaces[0].notes.join("; ");
        assert!(
            !report.interfaces[0].native && ["plain0", "9000", "3506"].iter().all(|part| said.contains(part)),
            "{said}"
        );
        let native = AttachOptions { xdp: XdpChoice::Native, ..AttachOptions::default() };
        Loader::detach(&test, &["plain0"]).unwrap();
        let refused = Loader::attach(&test, &["plain0"], &native).unwrap_err().to_string();
        assert!(["plain0", "9000", "3506"].iter().all(|part| refused.contains(part)), "{refused}");
        assert_eq!(Status::read(&test).unwrap().interfaces.len(), 0);
        // Without a list every Ethernet interface is taken, and never the pair or the loopback.
        let all = Loader::attach(&test, &[], &AttachOptions::default()).unwrap();
        let mut names: Vec<_> = all.interfaces.iter().map(|i| i.name.as_str()).collect();
        names.sort();
        assert_eq!(names, ["lan0", "lan1", "plain0", "plain1"]);
        assert_eq!(netdev::Route::open().unwrap().find("ipsec0").unwrap().unwrap().mtu, crate::abi::MAX_XDP_MTU);
        for (name, reason) in [("lo", "framing"), ("ipsec0", "itself"), ("none0", "no interface")] {
            let refused = Loader::attach(&test, &[name], &AttachOptions::default()).unwrap_err();
            assert!(refused.to_string().contains(reason), "{refused}");
        }
        Loader::detach_all(&test).unwrap();
    });
}

#[test]
fn interfaces_that_are_gone_leave_no_room_taken() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        ip("link add gone0 type veth peer name gone1");
        if !has_object(&test) {
            return;
        }
        Loader::attach(&test, &["lan0", "gone0"], &with_capacity(9)).unwrap();
        let gone = netdev::Route::open().unwrap().find("gone0").unwrap().unwrap();
        ip("link del gone0");
        Loader::attach(&test, &["lan1"], &AttachOptions::default()).unwrap();
        let outer = maps::Table::<u32, crate::abi::Outer>::open(&test, crate::abi::map::OUTER).unwrap();
        assert_eq!(outer.keys().unwrap().len(), 2);
        assert!(!test.pin(&format!("link_{}_{}", program::XDP_OUTER, gone.index)).exists());
        assert_eq!(Status::read(&test).unwrap().interfaces.len(), 2);
        Loader::detach_all(&test).unwrap();
    });
}

#[test]
fn an_interface_that_cannot_be_attached_is_reported_while_it_is_up() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        ip("link set lo up");
        ip("tuntap add dev tun0 mode tun");
        let found = || Status::read(&test).unwrap().unattachable;
        assert!(found().is_empty());
        ip("link set tun0 up");
        assert_eq!(found(), ["tun0"]);
    });
}

#[test]
fn what_fails_on_an_attached_interface_leaves_the_rest_of_it_attached() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        Loader::attach(&test, &["lan0"], &with_capacity(9)).unwrap();
        let lan0 = netdev::Route::open().unwrap().find("lan0").unwrap().unwrap();
        let link = |name: &str| test.pin(&format!("link_{name}_{}", lan0.index));
        // At once: what a link whose pin is removed holds, the kernel gives back some time later.
        kernel::Link::open(&link(program::TC_OUTER_INGRESS)).unwrap().detach().unwrap();
        // TCX attaches by name, and there is none of this one.
        let unnamed = netdev::Interface { name: "none0".into(), ..lan0.clone() };
        attach::outer(&test, &unnamed, &AttachOptions::default()).unwrap_err();
        for name in [program::XDP_OUTER, program::TC_OUTER_EGRESS] {
            assert!(loader::is_linked(&link(name), lan0.index), "{name}");
        }
        Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap();
        assert_eq!(Status::read(&test).unwrap().interfaces.len(), 1);
        // On one that was not attached nothing stays.
        Loader::detach(&test, &["lan0"]).unwrap();
        attach::outer(&test, &unnamed, &AttachOptions::default()).unwrap_err();
        assert!(!loader::is_linked(&link(program::XDP_OUTER), lan0.index));
        Loader::detach_all(&test).unwrap();
    });
}

#[test]
fn an_instance_that_lacks_a_program_is_refused_and_loses_nothing() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        Loader::attach(&test, &["lan0", "lan1"], &with_capacity(9)).unwrap();
        Sadb::open(&test).unwrap().add(&an_sa()).unwrap();
        std::fs::remove_file(test.pin(program::TC_OUTER_INGRESS)).unwrap();
        let refused = Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap_err();
        assert!(refused.to_string().contains("detach --all"), "{refused}");
        assert_eq!(Sadb::open(&test).unwrap().dump(None).unwrap().len(), 1);
        let lan1 = netdev::Route::open().unwrap().find("lan1").unwrap().unwrap();
        let link = test.pin(&format!("link_{}_{}", program::TC_OUTER_EGRESS, lan1.index));
        assert!(loader::is_linked(&link, lan1.index));
        Loader::detach_all(&test).unwrap();
        assert!(!test.is_attached());
    });
}

#[test]
fn an_instance_whose_namespace_is_gone_is_replaced() {
    let test = TestInstance::bare().unwrap();
    let loaded = in_new_netns(|| {
        two_interfaces();
        has_object(&test) && Loader::attach(&test, &["lan0"], &with_capacity(9)).unwrap().loaded
    });
    if !loaded {
        return;
    }
    in_new_netns(|| {
        two_interfaces();
        // The kernel takes a namespace down some time after its last user.
        let deadline = Instant::now() + Duration::from_secs(10);
        let report = loop {
            match Loader::attach(&test, &["lan0"], &with_capacity(11)) {
                Ok(report) => break report,
                Err(e) if Instant::now() > deadline => panic!("{e}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(report.loaded && report.capacity == 11);
        Loader::detach_all(&test).unwrap();
    });
}

#[test]
fn a_handle_follows_its_instance_to_new_maps() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        Loader::attach(&test, &["lan0"], &with_capacity(9)).unwrap();
        let mut sadb = Sadb::open(&test).unwrap();
        sadb.add(&an_sa()).unwrap();
        Loader::detach_all(&test).unwrap();
        assert!(matches!(sadb.dump(None), Err(SadbError::Instance(InstanceError::NotAttached(_)))));
        Loader::attach(&test, &["lan0"], &with_capacity(7)).unwrap();
        assert!(sadb.dump(None).unwrap().is_empty());
        sadb.add(&an_sa()).unwrap();
        assert_eq!(Sadb::open(&test).unwrap().dump(None).unwrap().len(), 1);
        assert_eq!(sadb.capacity(), 7);
        Loader::detach_all(&test).unwrap();
    });
}

/// What is to be there after an attach, whatever was there before.
fn assert_whole(test: &Instance, step: usize) {
    let report = Loader::attach(test, &["lan0"], &with_capacity(9)).unwrap();
    let status = Status::read(test).unwrap();
    assert!(status.pair && status.interfaces.len() == 1 && report.interfaces.len() == 1, "step {step}");
}

#[test]
fn a_loader_killed_on_the_way_is_cleaned_up_after() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        // Loading takes long, and one pin of many is like the next.
        for n in (1..).step_by(11) {
            let lived = fault::survives(n, || assert_whole(&test, 0));
            assert_whole(&test, n as usize);
            if lived {
                assert!(n > 24);
                break;
            }
            Loader::detach_all(&test).unwrap();
        }
        let attach = || Loader::attach(&test, &["lan0"], &with_capacity(9)).map(drop);
        let detach = || Loader::detach(&test, &["lan0"]);
        for (work, least) in [(&attach as &dyn Fn() -> Result<(), LoaderError>, 7), (&detach, 6)] {
            for n in 1.. {
                if least == 7 {
                    detach().unwrap();
                }
                let lived = fault::survives(n, || work().unwrap());
                assert_whole(&test, n as usize);
                if lived {
                    assert!(n > least);
                    break;
                }
            }
        }
        Loader::detach_all(&test).unwrap();
    });
}

#[test]
fn killed_while_it_takes_all_off_a_tool_leaves_nothing_that_stays() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        for n in (1..).step_by(15) {
            assert_whole(&test, n as usize);
            let lived = fault::survives(n, || Loader::detach_all(&test).unwrap());
            // Either way on: what is left is mended or removed.
            if n % 2 == 0 {
                assert_whole(&test, n as usize);
            }
            Loader::detach_all(&test).unwrap();
            assert!(!test.pin_dir().exists());
            if lived {
                assert!(n > 30);
                break;
            }
        }
    });
}

/// Tells the child of the test below, which is this test binary again, what to do.
const CHILD: &str = "IPSEC_TEST_NETNS_CHILD";

/// Removes the named network namespace again, also after a panic.
struct NamedNetns(String);

impl Drop for NamedNetns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn pins_made_under_ip_netns_exec_outlive_the_command() {
    let this = "host::loader_tests::pins_made_under_ip_netns_exec_outlive_the_command";
    if let Ok(name) = std::env::var(CHILD) {
        let instance = Instance::open(&name).unwrap();
        if !instance.is_attached() {
            layout::create_pinned(&instance, 4).unwrap();
        }
        let added = Sadb::open(&instance).unwrap().add(&an_sa());
        std::process::exit(if added.is_ok() { 10 } else { 20 });
    }
    let test = TestInstance::bare().unwrap();
    let netns = NamedNetns(format!("{}-netns", test.name()));
    ip(&format!("netns add {}", netns.0));
    let run = || {
        let exe = std::env::current_exe().unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &netns.0]).arg(exe).args(["--exact", this]);
        command.env(CHILD, test.name()).output().unwrap().status.code()
    };
    assert_eq!(run(), Some(10), "the first command makes the maps and adds an SA");
    assert!(test.is_attached(), "the maps are seen from outside");
    assert_eq!(run(), Some(20), "the second command finds the SA");
    assert!(matches!(Sadb::open(&test), Err(SadbError::Instance(InstanceError::OtherNamespace { .. }))));
}

/// On this kernel the loader takes TCX; what it does where there is none works all the same.
#[test]
fn filters_are_put_found_replaced_and_removed() {
    use super::clsact::{self, Hook};
    use super::netdev::Route;
    use aya::programs::{ProgramInfo, SchedClassifier};
    use std::os::fd::AsFd;
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        two_interfaces();
        if !has_object(&test) {
            return;
        }
        Loader::attach(&test, &["lan0"], &with_capacity(9)).unwrap();
        let route = Route::open().unwrap();
        let lan1 = route.find("lan1").unwrap().unwrap().index;
        for hook in Hook::BOTH {
            assert_eq!(clsact::program(&route, lan1, hook).unwrap(), None);
        }
        let pinned = |name: &str| test.pin(name);
        let id = |name: &str| ProgramInfo::from_pin(pinned(name)).unwrap().id();
        let (one, two) = (program::TC_OUTER_EGRESS, program::TC_OUTER_INGRESS);
        for name in [one, two, two] {
            let tc = SchedClassifier::from_pin(pinned(name)).unwrap();
            clsact::put(&route, lan1, Hook::Egress, tc.fd().unwrap().as_fd(), name).unwrap();
            assert_eq!(clsact::program(&route, lan1, Hook::Egress).unwrap(), Some(id(name)));
        }
        let listed = Command::new("tc").args(["filter", "show", "dev", "lan1", "egress"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(listed.matches("handle").count(), 1, "{listed}");
        assert!(listed.contains("pref 1 ") && listed.contains("handle 0x49505345 tc_outer_ingress direct-action"));
        assert_eq!(clsact::program(&route, lan1, Hook::Ingress).unwrap(), None);

        // Another's filter stays.
        clsact::remove(&route, lan1, Hook::Egress, id(one)).unwrap();
        assert_eq!(clsact::program(&route, lan1, Hook::Egress).unwrap(), Some(id(two)));
        // Without its interface in the table, the filter goes with the instance.
        Loader::detach_all(&test).unwrap();
        assert_eq!(clsact::program(&route, lan1, Hook::Egress).unwrap(), None);
        assert_eq!(clsact::program(&route, 4_000_000, Hook::Egress).unwrap(), None);
    });
}
