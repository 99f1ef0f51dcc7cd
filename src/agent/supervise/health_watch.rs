//! What a collector's health check says besides the core's own probes: that it is ready, though its log does not say
//! so, and that one which has proved itself is no longer healthy.
//!
//! Nothing here is a verdict: the core takes readiness as an event, and ill health is a reported problem.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Supervise, handover};
use crate::config::inspect::HealthCheck;
use crate::core::Uptime;
use crate::core::event::{ChildId, Event, Health};
use crate::core::supervisor::{PROBE_TIMEOUT, StateName};
use crate::store::Candidate;

/// Between two looks at a collector that is not ready.
const READY_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct HealthWatch {
    /// When to look whether the collector is ready that was started last.
    look_at: Uptime,
    /// One whose health check, as its config declares it, cannot be asked.
    mute: Option<ChildId>,
    /// The latest question, whom it was asked and when, if it has no answer.
    asked: Option<(Question, ChildId, Uptime)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    IsReady,
    IsStillHealthy,
}

impl HealthWatch {
    /// A collector was started. What another one was asked is still to be answered.
    pub(super) fn started(&mut self, now: Uptime) {
        self.look_at = now + READY_INTERVAL;
    }

    /// The core asks: an answer is its own.
    pub(super) fn give_up(&mut self) {
        self.asked = None;
    }
}

impl Supervise {
    /// When to look whether the collector is ready that is to be, if anything but its log can tell.
    pub(super) fn ready_look_at(&self) -> Option<Uptime> {
        let child = self.core.awaited()?;
        let can_tell = self.health_check(child).is_some() || self.collectors.pair(child).is_some();
        can_tell.then_some(self.health_watch.look_at)
    }

    /// Looks whether the collector is ready that is to be, if that is due.
    pub(super) fn look_for_ready(&mut self, events: &mut VecDeque<Event<Candidate>>) {
        let now = self.now();
        let (Some(child), Some(at)) = (self.core.awaited(), self.ready_look_at()) else { return };
        if now < at {
            return;
        }
        self.health_watch.look_at = now + READY_INTERVAL;
        // Beside another collector its health check may be answered by that one.
        if self.collectors.pair(child).is_some() {
            if handover::has_started(&self.collectors, child, now) {
                events.push_back(Event::Ready { child });
            }
            return;
        }
        let is_asked = self.health_watch.asked.is_some_and(|(_, asked, at)| asked == child && now < at + PROBE_TIMEOUT);
        if !is_asked && self.ask(child, Question::IsReady) == Some(Health::Healthy) {
            // It cannot be asked at all.
            self.health_watch.mute = Some(child);
        }
    }

    /// Asks a collector that has proved itself whether it is healthy, as the agent is awake for a config check anyway.
    pub(super) fn ask_still_healthy(&mut self) {
        let Some(live) = self.collectors.only().filter(|_| self.core.state_name() == StateName::Running) else {
            return;
        };
        let child = live.child;
        if let Some((Question::IsStillHealthy, asked, asked_at)) = self.health_watch.asked
            && asked == child
        {
            if self.now() < asked_at + PROBE_TIMEOUT {
                return;
            }
            self.state_tracker.still_healthy(Some("the health check has not answered"));
        }
        match self.ask(child, Question::IsStillHealthy) {
            Some(Health::Healthy) | None => {}
            Some(Health::Unhealthy(problem) | Health::Unknown(problem)) => {
                self.state_tracker.still_healthy(Some(&problem));
            }
        }
    }

    /// Its own: after a hand-over that has failed the collector that goes on is not the one that was started last.
    fn health_check(&self, child: ChildId) -> Option<&HealthCheck> {
        let live = self.collectors.find(child).filter(|_| self.health_watch.mute != Some(child))?;
        live.facts.health_check.as_ref()
    }

    /// The answer if there is nothing to wait for: healthy then means that it cannot be asked.
    fn ask(&mut self, child: ChildId, question: Question) -> Option<Health> {
        let check = self.health_check(child).cloned();
        let health = self.collectors.begin_probe(child, check.as_ref());
        self.health_watch.asked = health.is_none().then_some((question, child, self.now()));
        health
    }

    /// An answer of a health check.
    pub(super) fn probed(&mut self, child: ChildId, health: Health) -> Option<Event<Candidate>> {
        match self.health_watch.asked.take_if(|(_, asked, _)| *asked == child) {
            None => self.answer_probe(child, health),
            Some((Question::IsReady, ..)) => (health == Health::Healthy).then_some(Event::Ready { child }),
            Some((Question::IsStillHealthy, ..)) => {
                self.state_tracker.still_healthy(match &health {
                    Health::Healthy => None,
                    Health::Unhealthy(problem) | Health::Unknown(problem) => Some(problem),
                });
                None
            }
        }
    }
}
