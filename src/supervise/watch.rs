//! What the collector does by itself: its output, its exit, its answer to a health check.

use std::collections::VecDeque;

use super::Supervise;
use crate::core::event::Event;
use crate::core::supervisor::Phrase;
use crate::logger;
use crate::process;
use crate::store::Candidate;

impl Supervise {
    pub(super) fn watch_collector(&mut self, events: &mut VecDeque<Event<Candidate>>) {
        let Some(living) = &mut self.living else { return };
        let emit = &mut |line: &[u8]| logger::collector_line(line);
        living.process.read_output(emit);
        let status = match living.process.try_reap(emit) {
            Ok(None) => return,
            Ok(Some(status)) => process::describe(status),
            Err(error) => format!("was lost: {error}"),
        };
        let uptime = self.clock.elapsed().saturating_sub(living.started_at);
        let (child, pid, tail) = (living.child, living.process.id(), living.process.tail());
        self.living = None;
        self.probe = None;
        if self.core.phrase() == Phrase::Stopping {
            log::info!(pid = pid, status = status; "collector stopped");
            events.push_back(Event::Exited { child, problem: String::new() });
            return;
        }
        let problem = self.ledger.crashed(&status, uptime, &tail);
        log::warn!(pid = pid, status = status, uptime_seconds = uptime.as_secs_f64(); "collector exited by itself");
        events.push_back(Event::Exited { child, problem });
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
