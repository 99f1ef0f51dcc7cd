//! Whether this kernel lets us hand over, with the rights that we have: tried once at start, for real, since no version
//! number says what a container, a security module or a distribution has switched off.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::collector::handover::binds::{BindChannel, BindWatch, Refusal};
use crate::os::unix::descendants;
use crate::os::unix::sys::{reuseport_bpf, seccomp_bind, seccomp_trial};
use crate::os::wait::{Waitable, wait};

/// The trial takes a millisecond; more than this and something is broken.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// # Errors
/// Why not, in words.
pub fn supported() -> Result<(), String> {
    if !seccomp_bind::CAN_FILTER {
        return Err("hand-over needs Linux on x86-64 or arm64".to_string());
    }
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| format!("cannot open a test socket: {errno}"))?;
    watch_a_child(&socket)?;
    // The child's bind(2) has made this very socket shareable, which steering requires.
    if sockopt::socket_reuseport(&socket) != Ok(true) {
        return Err("a child's socket cannot be shared".to_string());
    }
    reuseport_bpf::attach(socket.as_fd(), 0).map_err(|errno| format!("the kernel cannot steer connections: {errno}"))
}

fn watch_a_child(socket: &rustix::fd::OwnedFd) -> Result<(), String> {
    let (ours, theirs) = BindChannel::pair().map_err(untried)?;
    let fork = || seccomp_trial::fork(theirs.as_fd(), socket.as_fd()).map(|child| (child, child));
    let (child, _known) = descendants::start(fork).map_err(untried)?;
    drop(theirs);
    let result = serve_one(&ours, child);
    let _ = rustix::process::kill_process(child, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()));
    result
}

fn serve_one(channel: &BindChannel, child: Pid) -> Result<(), String> {
    let deadline = Instant::now() + TRIAL_TIMEOUT;
    await_report(channel.waitable(), deadline)?;
    let child = child.as_raw_nonzero().get().cast_unsigned();
    let mut watch = BindWatch::accept(channel, child).map_err(|refusal| match refusal {
        Refusal::Unfiltered(reason) => reason,
        Refusal::Lost(error) => untried(error),
    })?;
    await_report(watch.waitable(), deadline)?;
    watch.serve(&[]);
    watch.shareable()
}

fn await_report(source: Waitable<'_>, deadline: Instant) -> Result<(), String> {
    match wait(&[source], Some(deadline)).map_err(untried)? {
        true => Ok(()),
        false => Err("the kernel does not report a child's binds in time".to_string()),
    }
}

fn untried(error: io::Error) -> String {
    format!("cannot test hand-over: {error}")
}
