//! What the collectors do by themselves: they exit, answer a health check, are suspended.

use std::collections::VecDeque;

use super::collectors::{Exited, LiveCollector};
use super::{Supervise, handover};
use crate::agent::mailbox::PollerCommand;
use crate::collector::process::KILL_PATIENCE;
use crate::collector::socket_files::{self, SocketFile};
use crate::core::event::{Event, ExitCause, PortHolder};
use crate::os::descendants::{self, Which};
use crate::store::Candidate;

impl Supervise {
    pub(super) fn watch_collectors(&mut self, events: &mut VecDeque<Event<Candidate>>) {
        let exited = self.collectors.watch(self.now());
        if !exited.is_empty() {
            self.end_descendants();
        }
        for exited in exited {
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
    /// may be waiting for us, the poller does it; what was started since that one was may be that one's.
    fn end_descendants(&mut self) {
        match self.collectors.oldest() {
            Some(oldest) => self.poller.send(PollerCommand::EndDescendants { before: oldest }),
            None if self.collectors.iter().next().is_none() => descendants::end(Which::All, KILL_PATIENCE),
            // The system does not say how old it is.
            None => {}
        }
    }

    fn on_exit(&mut self, exited: Exited) -> Event<Candidate> {
        let Exited { collector: dead, status } = exited;
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
        let uptime = self.now().saturating_sub(dead.started_at);
        let tail = dead.process.tail();
        let cause = handover::exit_cause(&self.collectors, &dead, &tail);
        self.state_tracker.outside = handover::outside(cause, &tail);
        let remedy = match cause {
            ExitCause::PortInUse(PortHolder::OtherProcess) => {
                handover::port_taken(&self.collectors, &tail).or_else(|| socket_files::remedy(&tail))
            }
            _ => None,
        };
        // Its lines are in the log already.
        let told = dead.facts.told_outside(&tail);
        let problem = self.state_tracker.crashed(&status, uptime, remedy, &told);
        log::warn!(
            pid = pid, status = status.as_str(), uptime_seconds = crate::log::seconds(uptime);
            "collector exited unexpectedly"
        );
        Event::Exited { child, problem, cause }
    }

    /// A collector that is suspended wakes nothing: this is asked when its answer is wanted.
    pub(super) fn check_suspended(&mut self) {
        self.state_tracker.suspended(self.collectors.suspended());
    }
}
