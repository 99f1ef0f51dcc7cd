//! Processes of a collector that no signal to its group reaches: those that have bound sockets in another group than
//! the child's, as what a wrapper starts by setsid(1) has. They are known without a look at other processes.

use rustix::net::sockopt;
use rustix::process::Signal;

use crate::collector::handover::binds::BindWatch;
use crate::collector::handover::remote_fd;

impl BindWatch {
    /// SIGTERM, and their numbers.
    pub fn ask_strays_to_end(&self) -> Vec<u32> {
        self.signal_strays(&[Signal::TERM, Signal::CONT])
    }

    /// SIGKILL.
    pub fn kill_strays(&self) {
        self.signal_strays(&[Signal::KILL]);
    }

    fn signal_strays(&self, signals: &[Signal]) -> Vec<u32> {
        let mut signalled = Vec::new();
        for bound in self.bound.iter().filter(|bound| bound.process != self.child) {
            let number = bound.process.as_raw_nonzero().get().cast_unsigned();
            let Ok(pidfd) = remote_fd::open(bound.process) else { continue };
            // By its socket it is known to be the one, and not another with its number.
            let is_same = remote_fd::copy_from(&pidfd, bound.fd)
                .is_ok_and(|socket| sockopt::socket_cookie(&socket) == Ok(bound.cookie));
            let is_stray = is_same && rustix::process::getpgid(Some(bound.process)) != Ok(self.child);
            if is_stray && !signalled.contains(&number) {
                for signal in signals {
                    let _ = rustix::process::pidfd_send_signal(&pidfd, *signal);
                }
                signalled.push(number);
            }
        }
        signalled
    }
}
