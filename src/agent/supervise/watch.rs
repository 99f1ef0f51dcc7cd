//! What the collectors do by themselves: their sockets, their output, their exits, their answers to a health check.

use std::collections::VecDeque;

use super::Supervise;
use crate::collector::process;
use crate::core::event::{ChildId, Event, Problem};
use crate::store::Candidate;

/// What a collector logs, at level info, when the last of its components is started.
const READY: &[u8] = b"Everything is ready.";

impl Supervise {
    pub(super) fn watch_collectors(&mut self, events: &mut VecDeque<Event<Candidate>>) {
        let now = self.now();
        let mut index = 0;
        while index < self.living.len() {
            let (before, rest) = self.living.split_at_mut(index);
            let Some((living, after)) = rest.split_first_mut() else { return };
            let partners: Vec<_> = before.iter().chain(&*after).filter_map(|it| it.process.binds().ok()).collect();
            if living.process.serve_binds(&partners) {
                living.bound_at = now;
            }
            let emit = &mut |line: &[u8]| {
                living.is_ready |= line.windows(READY.len()).any(|part| part == READY);
                crate::log::collector_line(line);
            };
            living.process.read_output(emit);
            match living.process.try_reap(emit) {
                Ok(None) => index += 1,
                Ok(Some(status)) => events.push_back(self.on_exit(index, &process::describe(status))),
                Err(error) => events.push_back(self.on_exit(index, &format!("cannot be waited for: {error}"))),
            }
        }
    }

    /// A collector has ended: `status` says how.
    fn on_exit(&mut self, index: usize, status: &str) -> Event<Candidate> {
        let living = self.living.remove(index);
        let (child, pid) = (living.child, living.process.id());
        self.probe.take_if(|(probed, _)| *probed == child);
        self.overlap.wanted_twice = living.process.wanted_twice();
        self.release();
        if self.core.is_leaving(child) {
            log::info!(pid = pid, status = status; "collector stopped");
            return Event::Exited { child, problem: String::new() };
        }
        let uptime = self.now().saturating_sub(living.started_at);
        let problem = self.state_tracker.crashed(status, uptime, &living.process.tail());
        log::warn!(pid = pid, reason = status, uptime_seconds = uptime.as_secs_f64(); "collector exited unexpectedly");
        Event::Exited { child, problem }
    }

    /// One that has been suspended for as long as it lives has proved nothing.
    pub(super) fn is_let_run(&self, child: ChildId) -> Result<(), Problem> {
        match self.living.iter().any(|living| living.child == child && living.process.is_suspended()) {
            true => Err("the collector is suspended by a signal (such as SIGSTOP)".to_string()),
            false => Ok(()),
        }
    }

    /// Nobody is woken by a collector that is suspended: it is looked for when there is somebody to tell.
    pub(super) fn look_for_suspended(&mut self) {
        let suspended = self.living.iter().find(|living| living.process.is_suspended());
        self.state_tracker.suspended(suspended.map(|living| living.process.id()));
    }

    pub(super) fn watch_probe(&mut self, events: &mut VecDeque<Event<Candidate>>) {
        if let Some((child, probe)) = &mut self.probe
            && let Some(health) = probe.advance()
        {
            events.push_back(Event::Probed { child: *child, health });
            self.probe = None;
        }
    }
}
