//! Tests of the replacement of programs with the real object, each in network namespaces of its own. They run as root.

use super::object::{OBJECT, programs};
use super::testing::{TestInstance, an_sa, in_new_netns, two_interfaces};
use super::*;
use crate::abi::program;
use aya::programs::ProgramInfo;

/// The same programs, as another build.
fn another_build() -> &'static [u8] {
    Box::leak([OBJECT.unwrap(), &[0]].concat().into_boxed_slice())
}

fn attach(test: &Instance) -> bool {
    two_interfaces();
    let options = AttachOptions { capacity: Some(9), ..AttachOptions::default() };
    OBJECT.is_some() && Loader::attach(test, &["lan0", "lan1"], &options).unwrap().loaded
}

fn id(test: &Instance, name: &str) -> u32 {
    ProgramInfo::from_pin(test.pin(name)).unwrap().id()
}

/// Every pinned link, by name of its program and number of the program on it.
fn on_links(test: &Instance) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(test.pin_dir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let links = names.filter_map(|name| Some((name.strip_prefix("link_")?.rsplit_once('_')?.0.to_owned(), name)));
    links.map(|(program, name)| (program, kernel::Link::open(&test.pin(&name)).unwrap().program().unwrap())).collect()
}

/// What an instance is to be, whatever became of the tools before: one build, everywhere, and everything attached.
fn assert_one_build(test: &Instance) {
    let links = on_links(test);
    assert_eq!(links.len(), 2 + 2 + 2 * 3);
    for (name, on) in links {
        assert_eq!(on, id(test, &name), "{name}");
    }
    let status = Status::read(test).unwrap();
    assert!(status.pair && status.interfaces.len() == 2 && status.unattached.is_empty());
    let left = std::fs::read_dir(test.pin_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("upgrade_")));
}

#[test]
fn every_program_is_replaced_and_nothing_else() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        if !attach(&test) {
            return;
        }
        Sadb::open(&test).unwrap().add(&an_sa()).unwrap();
        let maps = layout::MAPS.iter().map(|spec| maps::map_id(&test, spec.name).unwrap()).collect::<Vec<_>>();
        let before: Vec<_> = programs().map(|name| id(&test, name)).collect();
        let same = Loader::upgrade(&test, &UpgradeOptions::default()).unwrap();
        assert!(!same.replaced && same.before == Build::installed() && Some(same.after) == Build::installed());

        let options = UpgradeOptions { object: Some(another_build()), ..UpgradeOptions::default() };
        let report = Loader::upgrade(&test, &options).unwrap();
        assert!(
            report.replaced
                && report.before == Build::installed()
                && Some(&report.after) != Build::installed().as_ref()
        );
        let status = Status::read(&test).unwrap();
        assert_eq!((status.loaded, status.installed), (Some(report.after), Build::installed()));
        assert!(programs().zip(&before).all(|(name, old)| id(&test, name) != *old));
        assert_one_build(&test);
        let now = layout::MAPS.iter().map(|spec| maps::map_id(&test, spec.name).unwrap()).collect::<Vec<_>>();
        assert_eq!(now, maps);
        assert_eq!(Sadb::open(&test).unwrap().dump(None).unwrap().len(), 1);

        let forced = Loader::upgrade(&test, &UpgradeOptions { force: true, ..options }).unwrap();
        assert!(forced.replaced && forced.before == Some(forced.after));
        assert_one_build(&test);
        Loader::detach_all(&test).unwrap();
        assert!(!test.pin_dir().exists());
        let gone = Loader::upgrade(&test, &UpgradeOptions::default()).unwrap_err();
        assert!(gone.to_string().contains("not attached"), "{gone}");
    });
}

#[test]
fn programs_that_this_build_has_not_go_and_those_that_are_missing_come() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        if !attach(&test) {
            return;
        }
        // As another build would have left it: a stage less, one with another name, a map of its own.
        std::fs::remove_file(test.pin("seal_null")).unwrap();
        std::fs::rename(test.pin("open_null"), test.pin("open_plain")).unwrap();
        std::fs::rename(test.pin("SCRATCH"), test.pin("MEMORY")).unwrap();
        let refused = Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap_err();
        assert!(refused.to_string().contains("espadm upgrade"), "{refused}");
        assert!(Loader::upgrade(&test, &UpgradeOptions::default()).unwrap().replaced);
        assert!(!test.pin("open_plain").exists() && !test.pin("MEMORY").exists() && test.pin("SCRATCH").exists());
        assert_one_build(&test);
        Loader::detach_all(&test).unwrap();
    });
}

#[test]
fn filters_of_a_kernel_without_tcx_are_replaced_in_place() {
    use super::clsact::{self, Hook};
    use super::netdev::Route;
    use std::os::fd::AsFd;
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        if !attach(&test) {
            return;
        }
        let route = Route::open().unwrap();
        let lan1 = route.find("lan1").unwrap().unwrap().index;
        let name = program::TC_OUTER_EGRESS;
        // The link gives way to a filter, as on such a kernel.
        let link = test.pin(&format!("link_{name}_{lan1}"));
        kernel::Link::open(&link).unwrap().detach().unwrap();
        std::fs::remove_file(&link).unwrap();
        let pinned = kernel::object(&test.pin(name)).unwrap();
        clsact::put(&route, lan1, Hook::Egress, pinned.as_fd(), name).unwrap();
        let before = id(&test, name);
        assert_eq!(clsact::program(&route, lan1, Hook::Egress).unwrap(), Some(before));
        Loader::upgrade(&test, &UpgradeOptions { force: true, ..UpgradeOptions::default() }).unwrap();
        let now = id(&test, name);
        assert!(now != before && clsact::program(&route, lan1, Hook::Egress).unwrap() == Some(now));
        assert!(!link.exists(), "one of each is enough");
        Loader::detach_all(&test).unwrap();
        assert_eq!(clsact::program(&route, lan1, Hook::Egress).unwrap(), None);
    });
}

#[test]
fn an_upgrade_killed_on_the_way_is_brought_to_its_end() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        if !attach(&test) {
            return;
        }
        Sadb::open(&test).unwrap().add(&an_sa()).unwrap();
        // Loading takes long, and changes nothing: two builds are loaded once, and take turns.
        let header = maps::map_id(&test, crate::abi::map::HEADER).unwrap();
        let load = || object::Loaded::new(OBJECT.unwrap(), layout::MAPS, 10, Some(&test)).unwrap();
        let mut builds = [load(), load()];
        let mut upgrade =
            |n: usize| upgrade::put_in_place(&test, &mut builds[n % 2], header, None, &migrate::Target::OURS).map(drop);
        // Pins of stages are like each other; what comes after them is looked at step by step.
        let steps = (1..40).step_by(13).chain((40..90).step_by(3)).chain(90..);
        for (round, n) in steps.enumerate() {
            let lived = fault::survives(n, || upgrade(round).unwrap());
            match round % 3 {
                0 => drop(Loader::attach(&test, &["lan0"], &AttachOptions::default()).unwrap()),
                1 => upgrade(round + 1).unwrap(),
                // Half-way, it works as well, and says so.
                _ => {
                    assert_eq!(Status::read(&test).unwrap().interfaces.len(), 2, "step {n}");
                    Loader::detach(&test, &["lan1"]).unwrap();
                    Loader::attach(&test, &["lan1"], &AttachOptions::default()).unwrap();
                }
            }
            assert_one_build(&test);
            assert_eq!(Sadb::open(&test).unwrap().dump(None).unwrap().len(), 1);
            if lived {
                assert!(n > 90, "only {n} steps");
                break;
            }
        }
        // And one that is taken away half-way leaves nothing.
        assert!(!fault::survives(60, || upgrade(0).unwrap()));
        Loader::detach_all(&test).unwrap();
        assert!(!test.pin_dir().exists());
    });
}

#[test]
fn a_move_to_other_maps_killed_on_the_way_loses_no_sa() {
    in_new_netns(|| {
        let test = TestInstance::bare().unwrap();
        if !attach(&test) {
            return;
        }
        Sadb::open(&test).unwrap().add(&SaSpec { replay_value: 33, ..an_sa() }).unwrap();
        let mut capacities = [12, 9].into_iter().cycle();
        let mut capacity = 9;
        // Pins, records, counters, interfaces, windows, pins again.
        for n in (50..).step_by(45) {
            let next = capacities.find(|next| *next != capacity).unwrap();
            let options = UpgradeOptions { capacity: Some(next), ..UpgradeOptions::default() };
            let lived = fault::survives(n, || drop(Loader::upgrade(&test, &options).unwrap()));
            match Sadb::open(&test).and_then(|mut sadb| sadb.dump(None)) {
                Ok(all) => assert_eq!(all.len(), 1, "step {n}"),
                // In between nobody may change anything.
                Err(SadbError::Moving) => {}
                // The shapes of old and new maps, while pins are being moved.
                Err(SadbError::Instance(InstanceError::Map { .. })) => {}
                Err(e) => panic!("step {n}: {e}"),
            }
            let report = Loader::upgrade(&test, &UpgradeOptions::default()).unwrap();
            assert!([capacity, next].contains(&report.capacity), "step {n}");
            capacity = report.capacity;
            assert_one_build(&test);
            let mut sadb = Sadb::open(&test).unwrap();
            let all = sadb.dump(None).unwrap();
            assert_eq!((all.len(), all[0].state, all[0].top), (1, crate::sa::state::MATURE, 33), "step {n}");
            assert_eq!(sadb.capacity(), capacity);
            if lived {
                assert!(n > 150 && capacity == next, "only {n} steps");
                break;
            }
        }
        Loader::detach_all(&test).unwrap();
    });
}
