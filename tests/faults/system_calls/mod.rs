//! Faults at every system call: what must hold all the same, and how often it did.
//!
//! Each test has a quick form, which runs with all the others, and with `KM_LONG=1` a long one that leaves nothing out.

mod disk_model;
mod failing;
mod held;
mod killed;
mod power;
mod scenario;
mod strace;
mod supervisor;

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Table;
use scenario::{Scenario, Scene};
use strace::{Point, Thread};

/// Most points wait for processes: two cores have room for this many at a time, besides the other tests.
const AT_A_TIME: usize = 4;

pub(super) fn is_long() -> bool {
    std::env::var_os("KM_LONG").is_some_and(|value| value == "1")
}

/// Calls whose number depends on the speed of other processes, unless they are about a file of the agent's: they wait,
/// wake one, pass on what is there, or look at it. For each directory on the way to a file the agent asks who it is.
const VARYING: [&str; 23] = [
    "accept4",
    "clock_nanosleep",
    "close",
    "epoll_wait",
    "fcntl",
    "futex",
    "getegid",
    "geteuid",
    "getrandom",
    "ioctl",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "poll",
    "ppoll",
    "read",
    "recvfrom",
    "rt_sigprocmask",
    "sched_yield",
    "setsockopt",
    "waitid",
    "write",
];

/// Where either thread of an agent writes what the supervisor has decided, whichever comes to it first: the generations
/// and the rejected revision. On the way it passes these directories, and syncs that of the config.
const STATE: [&str; 4] =
    ["state/generations", "state/.generations.json.candidate", "state/rejected.json", "state/.rejected.json.candidate"];
const ON_THE_WAY: [&str; 5] = ["", "/", "/tmp", "etc", "state"];

/// Who writes a generation first reads it, where the config or its second name is all that has it yet, and then removes
/// the second name. Whatever else is done to these is the change itself, which one thread does, and no run leaves out.
const BESIDE: [&str; 2] = ["etc/config.yaml", "etc/.config.yaml.candidate-#-#"];
const LOOKING: [&str; 7] = ["fstat", "lstat", "newfstatat", "open", "openat", "read", "statx"];

/// A scenario without a fault.
struct Rehearsal {
    points: Vec<Point>,
    scene: Scene,
}

/// Every system call that this thread makes in a scenario without faults, of those that `is_taken` chooses.
#[track_caller]
fn rehearse(scenario: Scenario, thread: Thread, is_taken: impl Fn(&str) -> bool) -> Rehearsal {
    let mut scene = Scene::new(scenario);
    scene.run(thread, None);
    assert!(scene.is_over(), "the scenario does not come to its end even without a fault: {:?}", scene.agent.status());
    let points: Vec<Point> = scene.trace().points().into_iter().filter(|point| is_taken(&point.call)).collect();
    assert!(!points.is_empty(), "strace saw nothing");
    Rehearsal { points, scene }
}

/// Asserts that `scene`, which was over before it met this point, just made fewer of such calls than the rehearsal.
#[track_caller]
fn assert_may_miss(rehearsed: &Scene, scene: &Scene, point: &Point) {
    // The rehearsal had a poll more.
    if scene.polls() < rehearsed.polls() {
        return;
    }
    let (all, made) = (rehearsed.trace().calls(&point.call), scene.trace().calls(&point.call));
    let missing = all.into_iter().filter(|(about, count)| made.get(about).is_none_or(|made| made < count));
    let unexcused: Vec<_> = missing.filter(|(about, _)| !may_leave_out(&point.call, about, scene.is_check())).collect();
    assert!(unexcused.is_empty(), "it was over before the call, and left out {unexcused:?}");
}

/// Whether the number of such calls about these files is not the same in each run.
fn may_leave_out(call: &str, about: &[String], is_check: bool) -> bool {
    let is_ours = |path: &String| path.is_empty() || !path.starts_with('/');
    if !about.iter().any(is_ours) && VARYING.contains(&call) {
        return true;
    }
    about.iter().all(|path| {
        let is_saved = ON_THE_WAY.contains(&&**path) || STATE.iter().any(|saved| path.starts_with(saved));
        let is_looked_at = BESIDE.contains(&&**path) && (LOOKING.contains(&call) || call == "unlinkat");
        // What processes the host has, and when they end, is not the agent's doing.
        path.starts_with("/proc") || !is_check && (is_saved || is_looked_at)
    }) && !about.is_empty()
}

/// Tries each point and counts those where the fault struck; a failure names its point.
#[track_caller]
fn each<T: Debug + Sync>(points: &[T], try_one: impl Fn(&T) -> bool + Sync) -> usize {
    each_at_a_time(AT_A_TIME, points, try_one)
}

/// The same, with so many at a time.
#[track_caller]
pub(super) fn each_at_a_time<T: Debug + Sync>(
    width: usize,
    points: &[T],
    try_one: impl Fn(&T) -> bool + Sync,
) -> usize {
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..width.min(points.len()) {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match panic::catch_unwind(AssertUnwindSafe(|| try_one(point))) {
                        Ok(has_struck) => _ = struck.fetch_add(has_struck.into(), Ordering::Relaxed),
                        Err(_) => failed.lock().unwrap().push(format!("{point:?}")),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failed at {} of {} points, see above: {failed:?}", failed.len(), points.len());
    struck.into_inner()
}
