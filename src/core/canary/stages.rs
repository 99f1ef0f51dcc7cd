//! From stage to stage: who is the canary, when a stage is over, and what comes after it.

use super::group::{Group, MAX_VANISHED};
use super::pod::Pod;
use super::{Action, Candidate, PodId, Stage};
use crate::core::{Uptime, retries};

impl<R: Clone + PartialEq> Group<R> {
    /// Goes to the next stage if the present one is over. One that is not written has not begun.
    pub(super) fn advance(&mut self, now: Uptime, actions: &mut Vec<Action<R>>) {
        if self.is_unwritten() {
            return;
        }
        let Some(Candidate { revision, stage }) = self.wanted.candidate.clone() else { return };
        match stage {
            Stage::Canary { pod: None, vanished } => self.name_canary(now, vanished),
            Stage::Canary { pod: Some(id), vanished } => self.look_at_canary(now, &id, vanished, actions),
            Stage::Step { .. } | Stage::All if self.has_vanished_with_it() => {
                self.reject("most of the pods that it was offered to have vanished".into(), actions);
            }
            Stage::Step { percent, pods } if self.is_step_over(now, pods) => self.begin_step(percent),
            Stage::Step { .. } => {}
            Stage::All if !self.has_learned(now) => {}
            Stage::All => {
                let since = *self.all_since.get_or_insert(now);
                if self.has_proved(|pod| pod.joined_at <= since) {
                    (self.wanted.stable, self.wanted.candidate) = (Some(revision.clone()), None);
                    self.end_trials();
                    actions.push(Action::Promoted(revision));
                }
            }
        }
    }

    fn look_at_canary(&mut self, now: Uptime, id: &PodId, vanished: u32, actions: &mut Vec<Action<R>>) {
        match self.pods.get(id) {
            Some(pod) if pod.has_proved() && self.has_learned(now) => self.begin_step(0),
            Some(pod) if pod.is_left_out => self.name_canary(now, vanished),
            Some(_) => {}
            None if !self.has_learned(now) => {}
            None => {
                let vanished = vanished + u32::from(self.is_canary_exposed);
                if vanished < MAX_VANISHED {
                    return self.name_canary(now, vanished);
                }
                self.reject(format!("{vanished} pods in a row vanished after it was offered to them"), actions);
            }
        }
    }

    /// Names the next canary, or none if there is none to be had now.
    pub(super) fn name_canary(&mut self, now: Uptime, vanished: u32) {
        let pod = self.next_canary(now);
        if let Some(candidate) = &mut self.wanted.candidate {
            candidate.stage = Stage::Canary { pod, vanished };
            self.is_canary_exposed = false;
        }
    }

    fn next_canary(&mut self, now: Uptime) -> Option<PodId> {
        let takes_offers = |pod: &Pod<R>| pod.takes_offers();
        let all_left_out = self.pods.values().filter(|pod| takes_offers(pod)).all(|pod| pod.is_left_out);
        if all_left_out && self.pods.values().any(takes_offers) {
            self.rounds += 1;
            self.no_canary_before = now + retries::delay(self.rounds);
            self.pods.values_mut().for_each(|pod| pod.is_left_out = false);
        }
        if now < self.no_canary_before {
            return None;
        }
        // One that is not well only if none is, which is known when all have asked.
        let has_learned = self.has_learned(now);
        let eligible = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.takes_offers() && !pod.is_left_out && (has_learned || pod.is_settled()));
        // One that has it already, else the one that asks next: that asked longest ago, but not longer than an
        // interval, since it may have vanished.
        let next = eligible.max_by_key(|(_, pod)| {
            let ago = now - pod.seen_at;
            let has_it = pod.active.as_ref() == self.candidate();
            (pod.is_settled(), has_it, if ago <= self.rules.interval { ago } else { Uptime::ZERO })
        });
        next.map(|(id, _)| id.clone())
    }

    /// The step after the one of so many percent.
    fn begin_step(&mut self, after: u8) {
        let (live, holding) = (self.pods.len(), self.pods.values().filter(|pod| pod.is_on_trial()).count());
        let steps = self.rules.steps.iter().filter(|percent| **percent > after && **percent < 100);
        let steps = steps.map(|&percent| (percent, (live * usize::from(percent)).div_ceil(100)));
        let step = steps.into_iter().find(|(_, pods)| *pods > holding && *pods < live);
        if let Some(candidate) = &mut self.wanted.candidate {
            candidate.stage = step.map_or(Stage::All, |(percent, pods)| Stage::Step { percent, pods });
        }
        (self.all_since, self.vanished) = (None, 0);
    }

    fn is_step_over(&self, now: Uptime, pods: usize) -> bool {
        let holding = self.pods.values().filter(|pod| pod.is_on_trial()).count();
        let is_full = holding >= pods || !self.pods.values().any(|pod| self.is_next(pod));
        self.has_learned(now) && is_full && self.has_proved(|pod| pod.is_on_trial())
    }

    /// Somebody has proved the candidate, and so has each of these that can.
    fn has_proved(&self, is_one: impl Fn(&Pod<R>) -> bool) -> bool {
        let mut pods = self.pods.values().filter(|pod| is_one(pod) && !pod.is_left_out && pod.takes_offers());
        self.pods.values().any(Pod::has_proved) && pods.all(Pod::has_proved)
    }

    /// More vanished than are left.
    fn has_vanished_with_it(&self) -> bool {
        self.vanished >= MAX_VANISHED as usize
            && self.vanished > self.pods.values().filter(|pod| pod.is_on_trial()).count()
    }
}
