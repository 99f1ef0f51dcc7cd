//! SIGKILL at every system call: whatever the moment, the files are whole, and the agent comes up and converges by
//! itself.
//!
//! `KM_LONG=1` takes every system call of both threads; the quick form takes those that change something on disk.

use std::os::unix::process::ExitStatusExt;

use super::scenario::{Scenario, Scene};
use super::strace::{Fault, Point, Thread};
use super::{Table, assert_may_miss, each, rehearse};

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

/// The first execve(2) is what makes it an agent.
fn is_taken(call: &str) -> bool {
    super::is_long() && call != "execve" || CHANGING.contains(&call)
}

#[track_caller]
fn kill_everywhere(scenario: Scenario) {
    let mut table = Table::new(&format!("killed: {scenario:?}"));
    for &thread in scenario.threads() {
        let rehearsal = rehearse(scenario, thread, is_taken);
        let struck = each(&rehearsal.points, |point| killed_at(scenario, thread, &rehearsal.scene, point));
        table.row(&format!("{thread:?}: {struck} of {} points", rehearsal.points.len()));
    }
}

fn killed_at(scenario: Scenario, thread: Thread, rehearsed: &Scene, point: &Point) -> bool {
    let mut scene = Scene::new(scenario);
    scene.run(thread, Some((point, Fault::Killed)));
    scene.agent.wait_until("the outcome, or an end", || scene.agent.exit_status().is_some() || scene.is_over());
    let was_killed = scene.agent.exit_status().is_some_and(|status| status.signal() == Some(9));
    if was_killed {
        scene.assert_whole();
        scene.assert_recovers();
    } else {
        assert_may_miss(rehearsed, &scene, point);
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
fn during_a_confirmation() {
    kill_everywhere(Scenario::Confirmation);
}

#[test]
fn during_a_late_roll_back() {
    kill_everywhere(Scenario::LateRollBack);
}

#[test]
fn during_a_fall_back_at_start() {
    kill_everywhere(Scenario::FallBack);
}

#[test]
fn during_a_check_without_an_agent() {
    kill_everywhere(Scenario::Check);
}

#[test]
fn during_a_roll_back_without_an_agent() {
    kill_everywhere(Scenario::CheckRollBack);
}
