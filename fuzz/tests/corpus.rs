//! The corpus through every target: what fuzzing found once does not come back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use fuzz_targets::{TARGETS, find};
use std::fs;
use std::path::{Path, PathBuf};

fn inputs(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_takes_its_corpus() {
    for target in TARGETS {
        let (files, run) = (inputs(target.name), find(target.name).unwrap());
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            let octets = fs::read(&file).unwrap();
            assert!(octets.len() <= target.max_len, "{} is longer than {}", file.display(), target.max_len);
            // The name of a file that panics is in the output.
            eprintln!("{}", file.display());
            run(&octets);
        }
    }
}

#[test]
fn no_directory_of_the_corpus_is_without_a_target() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(find(&name).is_some(), "{name}");
    }
}
