//! The one place where this process waits for descriptors, with one rule for what poll(2) may answer.
//!
//! A signal does not end a wait. A poll(2) that fails, since the kernel is out of memory, is an error that has taken a
//! moment, so that a caller who tries everything all the same does not spin.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// How long a wait takes that fails.
const BLIND_INTERVAL: Duration = Duration::from_millis(100);

/// Something that a wait ends for.
#[derive(Clone, Debug)]
pub struct Waitable<'a>(PollFd<'a>);

impl<'a> Waitable<'a> {
    /// Until it can be read from without blocking, or has ended.
    pub fn to_read(fd: &'a impl AsFd) -> Waitable<'a> {
        Waitable(PollFd::new(fd, PollFlags::IN))
    }

    /// Until the other end has closed it whole; that it only writes no more is not waited for.
    pub fn to_hang_up(fd: &'a impl AsFd) -> Waitable<'a> {
        // POLLHUP and POLLERR come without being asked for.
        Waitable(PollFd::new(fd, PollFlags::empty()))
    }

    /// Until it can be written to without blocking, or nobody reads any more.
    pub fn to_write(fd: &'a impl AsFd) -> Waitable<'a> {
        Waitable(PollFd::new(fd, PollFlags::OUT))
    }
}

/// Sleeps until one of `sources` is ready, which is true, or `deadline` has come; `None` is never.
///
/// # Errors
/// The system cannot say what is ready. A tenth of a second has passed then, or the time until `deadline`: try
/// everything.
pub fn wait(sources: &[Waitable<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> = sources.iter().map(|source| source.0.clone()).collect();
    poll(&mut fds, deadline)
}

/// What there is at once for one descriptor; nothing, or any of the flags of poll(2).
///
/// # Errors
/// As of `wait`, but it takes no time.
pub fn ready_to_read(fd: BorrowedFd<'_>) -> io::Result<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(Instant::now()))?;
    Ok(fds[0].revents())
}

fn poll(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // One that is too long for the kernel is as good as none.
        let timeout = left.and_then(|left| left.try_into().ok());
        match rustix::event::poll(fds, timeout.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => {
                thread::sleep(left.map_or(BLIND_INTERVAL, |left| left.min(BLIND_INTERVAL)));
                return Err(error.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_wait_ends_when_something_is_ready_or_its_time_has_come() {
        let (reader, mut writer) = io::pipe().unwrap();
        let moment = Duration::from_millis(20);
        let began_at = Instant::now();
        assert!(!wait(&[Waitable::to_read(&reader)], Some(began_at + moment)).unwrap());
        assert!(began_at.elapsed() >= moment);
        assert!(ready_to_read(reader.as_fd()).unwrap().is_empty());
        assert!(wait(&[Waitable::to_read(&reader), Waitable::to_write(&writer)], None).unwrap());
        writer.write_all(b"x").unwrap();
        assert!(wait(&[Waitable::to_read(&reader)], None).unwrap());
        assert_eq!(ready_to_read(reader.as_fd()).unwrap(), PollFlags::IN);
        drop(writer);
        // What another test has forked meanwhile has a copy of it until its exec.
        while ready_to_read(reader.as_fd()).unwrap() != PollFlags::IN | PollFlags::HUP {
            thread::yield_now();
        }
    }
}
