//! Processes that an earlier agent of this run directory left behind: they are ended before the first start.
//!
//! A collector gets SIGTERM when its agent dies, however that dies; one that ignores the signal, or has forked what does, would keep
//! its ports and send everything twice. They are known by the variable that each collector is started with. Whoever calls this
//! holds the lock, so no agent lives that they could belong to.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

/// Names the run directory in the environment of each collector.
pub const VARIABLE: &str = "KM_AGENT_RUN_DIR";
/// They were told to end when their agent died, so this is for their last words; the default of stop-timeout.
const PATIENCE: Duration = Duration::from_secs(30);

struct Leftover {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Ends them: SIGTERM, `stop_timeout` or half a minute, SIGKILL.
pub fn end(run_dir: &Path, stop_timeout: Duration) {
    let mut left = find(run_dir);
    if left.is_empty() {
        return;
    }
    let pids: Vec<i32> = left.iter().map(|leftover| leftover.pid.as_raw_nonzero().get()).collect();
    log::warn!(pids:? = pids; "terminating processes that a killed agent left behind");
    for (signal, patience) in [(Signal::TERM, stop_timeout.min(PATIENCE)), (Signal::KILL, PATIENCE)] {
        for leftover in &left {
            // One that has ended meanwhile is no failure.
            let _ = rustix::process::pidfd_send_signal(&leftover.pidfd, signal);
            // One that was suspended could not act on it.
            let _ = rustix::process::pidfd_send_signal(&leftover.pidfd, Signal::CONT);
        }
        await_end(&mut left, patience);
    }
    for leftover in left {
        log::error!(
            pid = leftover.pid.as_raw_nonzero().get();
            "a process that a killed agent left behind does not exit: kill it, or reboot"
        );
    }
}

fn find(run_dir: &Path) -> Vec<Leftover> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let own = rustix::process::getpid();
    pids.filter(|pid| *pid != own && bears_mark(*pid, run_dir))
        .filter_map(|pid| {
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // Again, since the number may have become another's.
            bears_mark(pid, run_dir).then_some(Leftover { pid, pidfd })
        })
        .collect()
}

/// A process that cannot be looked at is somebody else's; one without an environment is a zombie or the kernel's.
fn bears_mark(pid: Pid, run_dir: &Path) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    let mark = mark(run_dir);
    environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
}

fn mark(run_dir: &Path) -> OsString {
    let mut mark = format!("{VARIABLE}=").into_bytes();
    mark.extend_from_slice(run_dir.as_os_str().as_bytes());
    OsString::from_vec(mark)
}

/// Keeps those that are still there after `patience`.
fn await_end(left: &mut Vec<Leftover>, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !left.is_empty() {
        let pause = deadline.saturating_duration_since(Instant::now());
        let mut fds: Vec<PollFd<'_>> = left.iter().map(|it| PollFd::new(&it.pidfd, PollFlags::IN)).collect();
        if pause.is_zero() || rustix::event::poll(&mut fds, Some(&pause.try_into().unwrap_or_default())).is_err() {
            return;
        }
        let mut ended = fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<bool>>().into_iter();
        left.retain(|_| !ended.next().unwrap_or(false));
    }
}
