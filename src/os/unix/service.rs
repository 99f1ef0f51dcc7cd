//! Tells the service manager how we are (sd_notify(3)), when it asked for it: a datagram to the socket that
//! `NOTIFY_SOCKET` names.
//!
//! Nothing here can fail: who does not listen misses a message, which is worth one debug line. The collector must not
//! inherit what is read here, or it would speak in our name: `collector::environment` takes it out.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub struct Notify {
    /// `None`: there is no service manager to notify.
    peer: Option<(UnixDatagram, SocketAddr)>,
    watchdog_interval: Option<Duration>,
    has_failed: AtomicBool,
}

impl Notify {
    pub fn from_env() -> Notify {
        Notify::new(|name| std::env::var_os(name), std::process::id())
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>, own_pid: u32) -> Notify {
        let peer = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            peer(&name)
                .inspect_err(|error| log::debug!(error:%, socket:? = name; "cannot notify the service manager"))
                .ok()
        });
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // A pid that is not ours means that the variables were inherited from a parent (sd_watchdog_enabled(3)).
        let is_for_us = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(own_pid));
        let watchdog_interval = number("WATCHDOG_USEC")
            .filter(|&microseconds| microseconds > 0 && is_for_us && peer.is_some())
            .map(|microseconds| Duration::from_micros(microseconds) / 2);
        Notify { peer, watchdog_interval, has_failed: AtomicBool::new(false) }
    }

    /// We are up: the unit counts as started.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        // A newline would start the next assignment.
        let line = text.replace(char::is_control, " ");
        self.send(&format!("STATUS={line}"));
    }

    /// We are on our way out, and it will not take longer than `longest`, whatever the service manager's own patience
    /// is.
    pub fn stopping(&self, longest: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", longest.as_micros()));
    }

    /// We are alive; due every `watchdog_interval`.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// Half of what the service manager grants, as sd_watchdog_enabled(3) advises; `None` when it does not watch.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog_interval
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.peer else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            log::debug!(error:%; "cannot notify the service manager");
        }
    }
}

/// A path, or an abstract name after `@`. The socket does not block: a full queue at a stuck service manager must not
/// stop us.
fn peer(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN_PID: u32 = 42;

    fn notify(variables: &[(&str, &str)]) -> Notify {
        Notify::new(
            |name| variables.iter().find(|variable| variable.0 == name).map(|variable| variable.1.into()),
            OWN_PID,
        )
    }

    fn received(listener: &UnixDatagram) -> String {
        let mut message = [0; 512];
        let length = listener.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("kmagent-notify-{}", std::process::id()));
        let name = format!("kmagent-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (listener, socket) in [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{name}"))] {
            let notify = notify(&[("NOTIFY_SOCKET", &socket)]);
            notify.ready();
            notify.status("running\nMAINPID=1");
            notify.watchdog();
            notify.stopping(Duration::from_secs(40));
            let stopping = "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000";
            for expected in ["READY=1", "STATUS=running MAINPID=1", "WATCHDOG=1", stopping] {
                assert_eq!(received(&listener), expected);
            }
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("kmagent-notify-full-{}", std::process::id()));
        let _listener = UnixDatagram::bind(&path).unwrap();
        let notify = notify(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        for _ in 0..10_000 {
            notify.watchdog();
        }
        assert!(notify.has_failed.load(Ordering::Relaxed));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_asked_means_nothing_is_done() {
        for socket in ["", "relative", "vsock:2:1234"] {
            let notify = notify(&[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "1000000")]);
            assert!(notify.peer.is_none() && notify.watchdog_interval().is_none(), "{socket}");
            notify.ready();
        }
        assert!(notify(&[]).peer.is_none());
    }

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        for (usec, pid, expected) in [
            ("10000000", None, Some(Duration::from_secs(5))),
            ("10000000", Some("42"), Some(Duration::from_secs(5))),
            ("10000000", Some("43"), None),
            ("10000000", Some("x"), None),
            ("0", None, None),
            ("-1", None, None),
            ("soon", None, None),
        ] {
            let mut variables = vec![("NOTIFY_SOCKET", "@kmagent-nobody"), ("WATCHDOG_USEC", usec)];
            variables.extend(pid.map(|pid| ("WATCHDOG_PID", pid)));
            assert_eq!(notify(&variables).watchdog_interval(), expected, "{usec} {pid:?}");
        }
    }
}
