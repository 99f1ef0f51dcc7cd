//! What the service manager and the log learn of the agent: that it is ready, alive and stopping, and the
//! collector's state.

use std::time::Duration;

use crate::core::Uptime;
use crate::core::supervisor::StateName;
use crate::os::service::Notify;
use crate::store::record::unix_now;

/// What a stop may take beyond `stop-timeout`: a collector too young for SIGTERM, the reaping, the last words.
const STOP_SLACK: Duration = Duration::from_secs(15);

pub(super) struct ServiceStatus {
    notify: Notify,
    /// When the service manager's watchdog is due; `None` if there is none.
    watchdog_at: Option<Uptime>,
    stop_timeout: Duration,
    /// The state that was logged last.
    logged_state: StateName,
    /// In Unix time: since when it is in that state.
    pub(super) since: u64,
}

impl ServiceStatus {
    pub(super) fn new(notify: Notify, stop_timeout: Duration) -> ServiceStatus {
        let watchdog_at = notify.watchdog_interval();
        ServiceStatus { notify, watchdog_at, stop_timeout, logged_state: StateName::Stopped, since: unix_now() }
    }

    pub(super) fn ready(&self) {
        self.notify.ready();
    }

    pub(super) fn set_stop_timeout(&mut self, stop_timeout: Duration) {
        self.stop_timeout = stop_timeout;
    }

    /// From the request to the agent's end.
    pub(super) fn longest_stop(&self) -> Duration {
        self.stop_timeout + STOP_SLACK
    }

    pub(super) fn stopping(&self, asked_by: &str) {
        log::info!(asked_by = asked_by; "stopping");
        self.notify.stopping(self.longest_stop());
    }

    /// The one place that logs a change of state. `next_start`: in how long, where a start is due.
    pub(super) fn state(&mut self, to: StateName, next_start: Option<Duration>) {
        let from = std::mem::replace(&mut self.logged_state, to);
        if from == to {
            return;
        }
        self.since = unix_now();
        let (old, new) = (from.as_str(), to.as_str());
        match next_start.map(crate::log::seconds) {
            Some(seconds) => log::info!(from = old, to = new, next_start_seconds = seconds; "collector state"),
            None => log::info!(from = old, to = new; "collector state"),
        }
        self.notify.status(&format!("collector {new}"));
    }

    pub(super) fn deadline(&self) -> Option<Uptime> {
        self.watchdog_at
    }

    /// Tells the service manager that we are alive, if that is due.
    pub(super) fn feed_watchdog(&mut self, now: Uptime) {
        if self.watchdog_at.is_some_and(|at| now >= at) {
            self.notify.watchdog();
            self.watchdog_at = self.notify.watchdog_interval().map(|interval| now + interval);
        }
    }
}
