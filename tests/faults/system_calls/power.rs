//! A power failure after every step: what was not synced is dropped, and the agent that then starts finds whole files
//! and converges.
//!
//! The steps are those of a real run, seen by strace; what may be left of them is `disk_model`'s business.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::disk_model::{Disk, Files, Step, steps};
use super::scenario::{Scenario, Scene};
use super::{Table, each};

/// Where the agent writes what must survive.
const DIRECTORIES: [&str; 2] = ["etc", "state"];

fn read_all(root: &Path) -> Files {
    let directories = DIRECTORIES.iter().chain(&["state/generations"]);
    let entries = directories.filter_map(|name| fs::read_dir(root.join(name)).ok()).flatten();
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap())).collect()
}

/// Without what may be anything after a power failure, such as the lock.
fn lasting(states: BTreeSet<Files>) -> BTreeSet<Files> {
    let is_lasting = |path: &Path| DIRECTORIES.iter().any(|name| path.starts_with(name));
    states.into_iter().map(|files| files.into_iter().filter(|(path, _)| is_lasting(path)).collect()).collect()
}

/// The files that are in no state as they are there.
fn unexplained(states: &BTreeSet<Files>, after: &Files) -> String {
    let is_known =
        |(path, content): &(&PathBuf, &Vec<u8>)| states.iter().any(|state| state.get(*path) == Some(*content));
    let unknown = after.iter().filter(|file| !is_known(file));
    unknown.map(|(path, content)| format!("{}: {}\n", path.display(), String::from_utf8_lossy(content))).collect()
}

#[track_caller]
fn fail_everywhere(scenario: Scenario) {
    let mut table = Table::new(&format!("power failures: {scenario:?}"));
    let mut scene = Scene::new(scenario);
    let before = read_all(scene.agent.dir());
    let trace = scene.record();
    let steps = steps(&trace, scene.agent.dir());
    let mut disk = Disk::new(&before);
    let mut states: BTreeSet<Files> = lasting(disk.remains());
    for step in &steps {
        disk.take(step);
        states.extend(lasting(disk.remains()));
    }
    let after = read_all(scene.agent.dir());
    assert!(
        states.contains(&after),
        "the model does not lead to what is there: {}\n{steps:?}",
        unexplained(&states, &after)
    );
    let syncs = steps.iter().filter(|step| matches!(step, Step::Sync(_))).count();
    assert!(syncs > 0 && states.len() > 2, "{steps:?}");
    // The agent's settings hold its own paths, so each state needs a scene of its own.
    let states: Vec<Files> = states.into_iter().collect();
    drop(scene);
    each(&states, |state| {
        let mut scene = Scene::new(scenario);
        scene.lose_power(state, &DIRECTORIES);
        scene.assert_whole();
        scene.assert_recovers();
        true
    });
    table.row(&format!("{} steps, {} states", steps.len(), states.len()));
}

#[test]
fn during_a_bootstrap() {
    fail_everywhere(Scenario::Bootstrap);
}

#[test]
fn during_an_install() {
    fail_everywhere(Scenario::Install);
}

#[test]
fn during_a_hand_over() {
    fail_everywhere(Scenario::HandOver);
}

#[test]
fn during_a_roll_back() {
    fail_everywhere(Scenario::RollBack);
}

#[test]
fn during_a_confirmation() {
    fail_everywhere(Scenario::Confirmation);
}

#[test]
fn during_a_late_roll_back() {
    fail_everywhere(Scenario::LateRollBack);
}

#[test]
fn during_a_fall_back_at_start() {
    fail_everywhere(Scenario::FallBack);
}

#[test]
fn during_a_check_without_an_agent() {
    fail_everywhere(Scenario::Check);
}

#[test]
fn during_a_roll_back_without_an_agent() {
    fail_everywhere(Scenario::CheckRollBack);
}
