//! What the collectors do by themselves: they exit, answer a health check, are suspended.

use std::collections::VecDeque;
use std::path::Path;

use super::collectors::{Exited, LiveCollector};
use super::{Supervise, handover};
use crate::agent::mailbox::PollerCommand;
use crate::collector::process::KILL_PATIENCE;
use crate::collector::socket_files::{self, SocketFile};
use crate::collector::start_failure;
use crate::config::value::Value;
use crate::core::event::{Event, ExitCause, PortHolder};
use crate::core::supervisor::StateName;
use crate::os::descendants::{self, Which};
use crate::store::Candidate;

/// What to do about a script that ends while what it has started goes on.
const IN_BACKGROUND: &str = "it left processes running, which were killed: a script that is the collector must run it by \
                             exec, or wait for it (setsid --wait, no &)";

impl Supervise {
    pub(super) fn watch_collectors(&mut self, events: &mut VecDeque<Event<Candidate>>) {
        let exited = self.collectors.watch(self.now());
        let had_descendants = !exited.is_empty() && self.end_descendants();
        for mut exited in exited {
            exited.has_left |= had_descendants;
            self.notice_ready(&exited.collector, events);
            events.push_back(self.on_exit(exited));
        }
        if let Some(live) = self.core.awaited().and_then(|child| self.collectors.find(child)) {
            self.notice_ready(live, events);
        }
        if let Some((child, health)) = self.collectors.finish_probe() {
            events.extend(self.probed(child, health));
        }
        if let Some(drained) = self.drain.drained(&self.collectors, self.now()) {
            events.push_back(self.healthy(drained));
        }
    }

    fn notice_ready(&self, live: &LiveCollector, events: &mut VecDeque<Event<Candidate>>) {
        if live.is_ready && self.core.awaited() == Some(live.child) {
            events.push_back(Event::Ready { child: live.child });
        }
    }

    /// What a collector that has ended has left behind ends too, before the next one starts. Beside one that lives, and
    /// may be waiting for us, the poller does it; what was started since that one was may be that one's. Whether there
    /// was any, as far as that is known here.
    fn end_descendants(&mut self) -> bool {
        match self.collectors.oldest() {
            Some(oldest) => self.poller.send(PollerCommand::EndDescendants { before: oldest }),
            None if self.collectors.iter().next().is_none() => return descendants::end(Which::All, KILL_PATIENCE),
            // The system does not say how old it is.
            None => {}
        }
        false
    }

    fn on_exit(&mut self, exited: Exited) -> Event<Candidate> {
        let Exited { collector: dead, status, is_success, has_left } = exited;
        let (child, pid) = (dead.child, dead.process.id());
        // A copy of a listener that is just being closed would keep it open for a moment, and nothing would accept from
        // it.
        if let Some(left) = self.collectors.only().filter(|left| !self.core.is_terminating(left.child)) {
            handover::release(left);
        }
        dead.sockets.iter().for_each(SocketFile::remove_if_dead);
        if self.core.is_terminating(child) {
            log::info!(pid = pid, status = status.as_str(); "collector stopped");
            return Event::Exited { child, problem: String::new(), cause: ExitCause::Unrelated };
        }
        let now = self.now();
        if self.core.state_name() == StateName::Running {
            self.state_tracker.late_exits.exited(now);
        }
        let uptime = now.saturating_sub(dead.started_at);
        let tail = dead.process.tail();
        let cause = handover::exit_cause(&self.collectors, &dead, &tail);
        self.state_tracker.outside = handover::outside(cause, &tail);
        let remedy = match cause {
            ExitCause::PortInUse(PortHolder::OtherProcess) => {
                handover::port_taken(&self.collectors, &tail).or_else(|| socket_files::remedy(&tail))
            }
            _ if is_success && has_left => Some(IN_BACKGROUND.to_string()),
            _ => None,
        };
        // Its lines are in the log already.
        let told = dead.facts.told_outside(&tail);
        // Not where another one may be waiting: the next check does it.
        let overlay =
            start_failure::fatal(&tail).filter(|_| self.collectors.iter().next().is_none()).and_then(|error| {
                self.collectors.collector().local_config()?;
                let config = self.store.read_config().unwrap_or(Value::Null);
                let read = |path: &Path| self.store.read_overlay(path).ok();
                self.collectors.collector().overlay_problem(error, &config, read)
            });
        let remedy = remedy.into_iter().chain(overlay).reduce(|remedy, overlay| format!("{remedy}; {overlay}"));
        let problem = self.state_tracker.crashed(&status, uptime, remedy.as_deref(), &told);
        let (status, uptime) = (status.as_str(), crate::log::seconds(uptime));
        match remedy.as_deref() {
            None => log::warn!(pid = pid, status = status, uptime_seconds = uptime; "collector exited unexpectedly"),
            Some(remedy) => log::warn!(
                pid = pid, status = status, uptime_seconds = uptime, remedy = remedy;
                "collector exited unexpectedly"
            ),
        }
        Event::Exited { child, problem, cause }
    }

    /// A collector that is suspended wakes nothing: this is asked when its answer is wanted.
    pub(super) fn check_suspended(&mut self) {
        self.state_tracker.suspended(self.collectors.suspended());
    }
}
