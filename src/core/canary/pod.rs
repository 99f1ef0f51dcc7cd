//! What a group knows of one pod, and what the pod's reports say of a candidate.

use std::time::Duration;

use super::{ConfigState, PodReport, Rules};
use crate::core::Uptime;

/// Starts of an agent that has the candidate, within a trial, before the candidate is held responsible: a node that
/// boots makes one.
const MAX_STARTS: u32 = 3;
/// What a report's uptime may be behind the time here: it is cut to seconds, and the report was on its way.
const REPORT_DELAY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct Pod<R> {
    pub joined_at: Uptime,
    pub seen_at: Uptime,
    pub active: Option<R>,
    pub state: Option<ConfigState>,
    /// It runs and has no problem.
    pub is_well: bool,
    pub owes_restart: bool,
    /// It was offered the present candidate, or has it.
    pub trial: Option<Trial>,
    /// It did not take the present candidate in time, or cannot prove it: nobody waits for it.
    pub is_left_out: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub offered_at: Uptime,
    /// Before it was offered.
    was_well: bool,
    /// Since when it runs the candidate, past its probation.
    runs_since: Option<Uptime>,
    /// It has run it past its probation.
    has_run: bool,
    pub is_proved: bool,
    /// Its agent lives since then at least.
    lives_since: Uptime,
    /// How often its agent was started with the candidate.
    starts: u32,
}

impl Trial {
    fn new(now: Uptime, was_well: bool) -> Trial {
        Trial {
            offered_at: now,
            was_well,
            runs_since: None,
            has_run: false,
            is_proved: false,
            lives_since: now,
            starts: 0,
        }
    }

    /// Whether this is another life of its agent, which ended with the candidate: reports come from the living only.
    fn is_started_anew(&mut self, now: Uptime, has_it: bool, uptime: Option<Duration>) -> bool {
        let lives_since = now.saturating_sub(uptime.unwrap_or(now));
        let is_new = lives_since > self.lives_since + REPORT_DELAY;
        if is_new || !has_it {
            self.lives_since = if has_it { lives_since } else { now };
        }
        is_new && has_it
    }
}

/// What a report says of a trial.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Nothing,
    /// It speaks against the candidate, for this.
    Failed(&'static str),
    /// It did not take the candidate in time.
    NotTaken,
    /// It has the candidate, but cannot prove it.
    Unprovable,
}

impl<R: Clone + PartialEq> Pod<R> {
    pub fn new(now: Uptime, report: &PodReport<R>) -> Pod<R> {
        let mut pod = Pod {
            joined_at: now,
            seen_at: now,
            active: None,
            state: None,
            is_well: false,
            owes_restart: false,
            trial: None,
            is_left_out: false,
        };
        pod.update(now, report);
        pod
    }

    pub fn update(&mut self, now: Uptime, report: &PodReport<R>) {
        self.seen_at = now;
        self.active = report.active.clone();
        self.state = report.state;
        self.is_well = report.is_running && report.problem.is_none();
    }

    /// It can be offered something, and would take it.
    pub fn takes_offers(&self) -> bool {
        self.state.is_some_and(|state| state != ConfigState::Held)
    }

    /// Its config has proved itself to it, and nothing is wrong.
    pub fn is_settled(&self) -> bool {
        self.is_well && matches!(self.state, Some(ConfigState::Unconfirmed | ConfigState::Confirmed))
    }

    pub fn begin_trial(&mut self, now: Uptime) {
        let was_well = self.is_well;
        self.trial.get_or_insert_with(|| Trial::new(now, was_well));
    }

    pub fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    pub fn has_proved(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.is_proved)
    }

    /// What its latest report says of the candidate; `update` comes before.
    pub fn judge(&mut self, now: Uptime, candidate: &R, report: &PodReport<R>, rules: &Rules) -> Finding {
        let Some(trial) = &mut self.trial else { return Finding::Nothing };
        let has_it = self.active.as_ref() == Some(candidate);
        if !has_it && trial.has_run {
            if !self.is_well {
                return Finding::Failed("went back from it");
            }
            // By hand, or with the files that an operator removed: as if it had just been offered.
            *trial = Trial::new(now, true);
        }
        if trial.is_started_anew(now, has_it, report.uptime) {
            trial.runs_since = None;
            trial.starts += 1;
            if trial.starts == MAX_STARTS {
                return Finding::Failed("was started again and again with it");
            }
        }
        if has_it && report.is_running && rules.is_past_probation(self.state) {
            trial.has_run = true;
            let since = *trial.runs_since.get_or_insert(now);
            let time = rules.canary_time.unwrap_or(Duration::ZERO);
            let says_so = rules.canary_time.is_some() || self.state == Some(ConfigState::Confirmed);
            trial.is_proved |= says_so && now - since >= time;
        } else {
            trial.runs_since = None;
        }
        let is_late = now - trial.offered_at > rules.pod_deadline;
        match (has_it, trial.was_well, self.is_well) {
            _ if trial.is_proved => Finding::Nothing,
            (false, ..) if is_late || self.state == Some(ConfigState::Held) => Finding::NotTaken,
            (true, true, false) if is_late => Finding::Failed("is not well with it"),
            (true, ..) if is_late => Finding::Unprovable,
            _ => Finding::Nothing,
        }
    }
}

impl Rules {
    fn is_past_probation(&self, state: Option<ConfigState>) -> bool {
        matches!(state, Some(ConfigState::Unconfirmed | ConfigState::Confirmed))
    }
}
