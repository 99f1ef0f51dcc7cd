//! The pods of one workload, and what they are to have: which question may be answered with the candidate, and what a
//! report moves.

use std::collections::BTreeMap;

use super::pod::{Finding, Pod};
use super::{Action, Answer, Candidate, Event, PodId, PodReport, Record, Rejection, Rules, Stage, Status};
use crate::core::Uptime;

/// Canaries in a row that may vanish with a candidate before it is held responsible. A node that is drained takes one
/// along, hardly three.
pub(super) const MAX_VANISHED: u32 = 3;
/// Pods that are remembered, more than a cluster has nodes: 300 bytes each, so 3 MB at most. Others get what has
/// proved itself.
const MAX_PODS: usize = 10_000;

#[derive(Debug)]
pub struct Group<R> {
    pub(super) rules: Rules,
    /// As it is to be: what was ordered last.
    pub(super) wanted: Record<R>,
    /// As it is known to be, without a candidate when another one, or none, was ordered since.
    pub(super) written: Record<R>,
    /// The number of the latest order.
    pub(super) ordered: u64,
    pub(super) pods: BTreeMap<PodId, Pod<R>>,
    /// When a pod asked last.
    pub(super) heard_at: Option<Uptime>,
    /// None of the pods counts as vanished before.
    pub(super) all_live_until: Uptime,
    /// From when all pods that live have asked.
    pub(super) learned_at: Option<Uptime>,
    /// Since when all may have the candidate: who comes later is not waited for.
    pub(super) all_since: Option<Uptime>,
    /// The canary that is named may have been offered the candidate, and has not proved it.
    pub(super) is_canary_exposed: bool,
    /// Pods that have vanished on trial since the stage began.
    pub(super) vanished: usize,
    /// How often every pod in turn has not taken the candidate as canary.
    pub(super) rounds: u32,
    pub(super) no_canary_before: Uptime,
    pub(super) obstacle: Option<String>,
}

impl<R: Clone + PartialEq> Group<R> {
    /// Goes on where the record says.
    pub fn new(rules: Rules, record: Record<R>) -> Group<R> {
        Group {
            rules,
            wanted: record.clone().consistent(),
            written: record,
            ordered: 0,
            pods: BTreeMap::new(),
            heard_at: None,
            all_live_until: Uptime::ZERO,
            learned_at: None,
            all_since: None,
            is_canary_exposed: true,
            vanished: 0,
            rounds: 0,
            no_canary_before: Uptime::ZERO,
            obstacle: None,
        }
    }

    /// What was ordered to be written last, or found.
    pub fn record(&self) -> &Record<R> {
        &self.wanted
    }

    /// It is not written yet. Offers are those that both records allow.
    pub fn is_unwritten(&self) -> bool {
        self.wanted != self.written
    }

    pub fn status(&self) -> Status {
        let count = |is: fn(&Pod<R>) -> bool| self.pods.values().filter(|pod| is(pod)).count();
        Status {
            pods: self.pods.len(),
            silent: count(|pod| pod.state.is_none()),
            holding: count(Pod::is_on_trial),
            proved: count(Pod::has_proved),
            obstacle: self.obstacle.clone(),
        }
    }

    /// Times go forward, here and in `reported`.
    pub fn handle(&mut self, now: Uptime, event: Event<R>) -> Vec<Action<R>> {
        let before = self.wanted.clone();
        let mut actions = Vec::new();
        match event {
            Event::Offered(revision) => self.offered(now, revision),
            Event::RestartAsked => self.pods.values_mut().for_each(|pod| pod.owes_restart = true),
            Event::Persisted(order) if order == self.ordered => {
                self.written = self.wanted.clone();
                self.advance(now, &mut actions);
            }
            // Another order came since: what there is now, nobody knows.
            Event::Persisted(_) => {}
            Event::Found(record) => {
                self.end_trials();
                self.wanted = record.clone().consistent();
                // An order that is on its way may be carried out yet: what there is, is known when this one was.
                self.written = Record { candidate: None, ..record };
                (self.all_since, self.is_canary_exposed, self.vanished) = (None, true, 0);
                self.learned_at = self.heard_at.map(|_| now + self.rules.forget_after());
                self.ordered += 1;
                return vec![Action::Persist { order: self.ordered, record: self.wanted.clone() }];
            }
        }
        self.order(&before, actions)
    }

    /// A pod asks: its answer, and what its report moves.
    pub fn reported(&mut self, now: Uptime, id: &PodId, report: &PodReport<R>) -> (Answer<R>, Vec<Action<R>>) {
        let before = self.wanted.clone();
        let mut actions = Vec::new();
        self.hear(now);
        if self.remember(now, id, report) {
            self.judge(now, id, report, &mut actions);
        }
        self.forget_vanished(now);
        self.advance(now, &mut actions);
        let actions = self.order(&before, actions);
        (self.answer(now, id, report), actions)
    }

    fn order(&mut self, before: &Record<R>, mut actions: Vec<Action<R>>) -> Vec<Action<R>> {
        if self.wanted != *before {
            self.ordered += 1;
            let revision = |record: &Record<R>| record.candidate.as_ref().map(|candidate| candidate.revision.clone());
            if revision(&self.wanted) != revision(before) {
                self.written.candidate = None;
            }
            actions.insert(0, Action::Persist { order: self.ordered, record: self.wanted.clone() });
        }
        actions
    }

    fn offered(&mut self, now: Uptime, revision: R) {
        if self.candidate() == Some(&revision) {
            return;
        }
        let is_rejected = self.wanted.rejected.as_ref().is_some_and(|rejection| rejection.revision == revision);
        let is_new = self.wanted.stable.as_ref() != Some(&revision) && !is_rejected;
        if !is_new && self.wanted.candidate.is_none() {
            return;
        }
        self.end_trials();
        self.wanted.candidate =
            is_new.then_some(Candidate { revision, stage: Stage::Canary { pod: None, vanished: 0 } });
        self.name_canary(now, 0);
    }

    pub(super) fn candidate(&self) -> Option<&R> {
        self.wanted.candidate.as_ref().map(|candidate| &candidate.revision)
    }

    // ---- Reports.

    fn hear(&mut self, now: Uptime) {
        let silence = self.heard_at.map(|heard_at| now - heard_at);
        if silence.is_none_or(|silence| silence > self.rules.silence()) {
            self.learned_at = Some(now + self.rules.forget_after());
            for pod in self.pods.values_mut() {
                pod.seen_at = now;
                if let Some(trial) = &mut pod.trial {
                    trial.offered_at += silence.unwrap_or_default();
                }
            }
        }
        self.heard_at = Some(now);
    }

    pub(super) fn has_learned(&self, now: Uptime) -> bool {
        self.learned_at.is_some_and(|learned_at| now >= learned_at)
    }

    /// `false` if there are too many.
    fn remember(&mut self, now: Uptime, id: &PodId, report: &PodReport<R>) -> bool {
        let is_full = self.pods.len() >= MAX_PODS;
        match self.pods.get_mut(id) {
            Some(pod) => pod.update(now, report),
            None if is_full => return false,
            None => _ = self.pods.insert(id.clone(), Pod::new(now, report)),
        }
        true
    }

    fn judge(&mut self, now: Uptime, id: &PodId, report: &PodReport<R>, actions: &mut Vec<Action<R>>) {
        let Some(Candidate { revision, stage }) = self.wanted.candidate.clone() else { return };
        let problem = report.problem.as_deref().unwrap_or("no problem is reported");
        if report.rejected.as_ref() == Some(&revision) {
            return self.reject(format!("pod {id} rejected it: {problem}"), actions);
        }
        let may_have_it = self.may_have(now, id, &revision);
        let Some(pod) = self.pods.get_mut(id) else { return };
        // From before a start of the updater.
        if may_have_it && pod.active.as_ref() == Some(&revision) && pod.state.is_some() {
            pod.begin_trial(now);
        }
        let (finding, is_well) = (pod.judge(now, &revision, report, &self.rules), pod.is_well);
        let is_canary = matches!(&stage, Stage::Canary { pod: Some(canary), .. } if canary == id);
        match finding {
            Finding::Nothing => {}
            Finding::Failed(how) => self.reject(format!("pod {id} {how}: {problem}"), actions),
            // It has it and is well: it is only slow.
            Finding::Unprovable if is_canary && is_well => {}
            Finding::Unprovable if !is_canary => pod.is_left_out = true,
            Finding::Unprovable | Finding::NotTaken => (pod.trial, pod.is_left_out) = (None, true),
        }
        let Some(pod) = self.pods.get(id) else { return };
        if is_canary && pod.has_proved() {
            self.is_canary_exposed = false;
        }
        if is_canary && pod.is_left_out {
            let how = if finding == Finding::NotTaken { "did not take it" } else { "did not prove it" };
            self.obstacle = Some(format!("pod {id} {how}: {problem}"));
        }
    }

    pub(super) fn reject(&mut self, reason: String, actions: &mut Vec<Action<R>>) {
        let Some(Candidate { revision, .. }) = self.wanted.candidate.take() else { return };
        let rejection = Rejection { revision, reason };
        self.wanted.rejected = Some(rejection.clone());
        self.end_trials();
        actions.push(Action::Rejected(rejection));
    }

    pub(super) fn end_trials(&mut self) {
        for pod in self.pods.values_mut() {
            (pod.trial, pod.is_left_out) = (None, false);
        }
        (self.rounds, self.no_canary_before, self.obstacle) = (0, Uptime::ZERO, None);
    }

    fn forget_vanished(&mut self, now: Uptime) {
        if now <= self.all_live_until {
            return;
        }
        let after = self.rules.forget_after();
        let (vanished, mut longest_ago) = (&mut self.vanished, now);
        self.pods.retain(|_, pod| {
            let is_gone = now - pod.seen_at > after;
            *vanished += usize::from(is_gone && pod.is_on_trial() && !pod.has_proved());
            longest_ago = if is_gone { longest_ago } else { longest_ago.min(pod.seen_at) };
            !is_gone
        });
        self.all_live_until = longest_ago + after;
    }

    // ---- Answers.

    /// Whether it has its place in a step when it asks.
    pub(super) fn is_next(&self, pod: &Pod<R>) -> bool {
        pod.is_settled() && pod.takes_offers() && !pod.is_left_out && !pod.is_on_trial()
    }

    /// Both records have to say so: what is ordered may be less than what is written, and may not be written yet.
    fn may_have(&self, now: Uptime, id: &PodId, candidate: &R) -> bool {
        [&self.wanted, &self.written].into_iter().all(|record| match &record.candidate {
            Some(Candidate { revision, stage }) if revision == candidate => match stage {
                Stage::Canary { pod, .. } => pod.as_ref() == Some(id),
                Stage::Step { pods, .. } => self.pods.get(id).is_some_and(|pod| {
                    let holding = self.pods.values().filter(|pod| pod.is_on_trial()).count();
                    let is_free = self.has_learned(now) && holding < *pods;
                    pod.is_on_trial() || pod.active.as_ref() == Some(candidate) || (is_free && self.is_next(pod))
                }),
                Stage::All => true,
            },
            _ => false,
        })
    }

    fn answer(&mut self, now: Uptime, id: &PodId, report: &PodReport<R>) -> Answer<R> {
        let nothing = |restart| Answer { config: None, restart };
        let candidate = self.candidate().filter(|candidate| self.may_have(now, id, candidate)).cloned();
        let is_candidate = candidate.is_some();
        let meant = candidate.or_else(|| self.wanted.stable.clone());
        let Some(pod) = self.pods.get_mut(id) else {
            let config = meant.filter(|meant| report.state.is_some() && report.active.as_ref() != Some(meant));
            return Answer { restart: config.is_some(), config };
        };
        let owes_restart = std::mem::take(&mut pod.owes_restart);
        let Some(meant) = meant.filter(|meant| pod.state.is_some() && pod.active.as_ref() != Some(meant)) else {
            return nothing(owes_restart);
        };
        if is_candidate {
            pod.begin_trial(now);
            self.is_canary_exposed = true;
        }
        Answer { config: Some(meant), restart: true }
    }
}
