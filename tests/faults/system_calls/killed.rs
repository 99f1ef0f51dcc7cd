//! SIGKILL at every system call: whatever the moment, the files are whole, and the agent comes up and converges by itself.
//!
//! `KM_LONG=1` takes every system call of both threads; the quick form takes those that change something on disk.

use super::scenario::{Scenario, Scene};
use super::strace::{Fault, Point, Thread};
use super::{each, points};

/// What can change a file system, by the names that both C libraries use. Between two of them the disk is the same.
const CHANGING: [&str; 21] = [
    "open",
    "openat",
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
];

fn is_taken(call: &str) -> bool {
    super::is_long() || CHANGING.contains(&call)
}

#[track_caller]
fn kill_everywhere(scenario: Scenario) {
    for &thread in scenario.threads() {
        let points = points(scenario, thread, is_taken);
        let struck = each(&points, |point| killed_at(scenario, thread, point));
        eprintln!("faults: {scenario:?}, {thread:?}: killed at {struck} of {} points", points.len());
        // The number of some calls, log lines for instance, differs a little from run to run.
        assert!(struck * 10 >= points.len() * 8, "only {struck} of {} points were met", points.len());
    }
}

fn killed_at(scenario: Scenario, thread: Thread, point: &Point) -> bool {
    let mut scene = Scene::new(scenario);
    scene.run(thread, Some((point, Fault::Killed)));
    let was_killed = scene.agent.exit_status().is_some();
    if was_killed {
        assert_eq!(scene.agent.wait_exit(), -9);
        scene.assert_whole();
        scene.assert_recovers();
    } else {
        scene.assert_converges();
    }
    was_killed
}

#[test]
fn during_a_bootstrap() {
    kill_everywhere(Scenario::Bootstrap);
}

#[test]
fn during_a_first_install() {
    kill_everywhere(Scenario::First);
}

#[test]
fn during_an_install() {
    kill_everywhere(Scenario::Install);
}

#[test]
fn during_a_hand_over() {
    kill_everywhere(Scenario::HandOver);
}

#[test]
fn during_a_roll_back() {
    kill_everywhere(Scenario::RollBack);
}

#[test]
fn during_a_fall_back_at_start() {
    kill_everywhere(Scenario::FallBack);
}
