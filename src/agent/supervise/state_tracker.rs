//! What the supervisor knows besides the state machine: problems, the rejected revision, the latest check, secrets to
//! mask.
//!
//! It turns what happened into the sentences that people read in `status`, in a `--check` and at the API. It starts and
//! stops nothing.

use std::path::Path;
use std::time::Duration;

use super::secret_registry::SecretRegistry;
use crate::agent::check_outcome::ProblemUpdate;
use crate::agent::mailbox::Postponed;
use crate::collector::start_failure::Outside;
use crate::config::value::Revision;
use crate::control::{CheckResult, Outcome, PollingStatus};
use crate::core::Uptime;
use crate::core::event::Verdict;
use crate::core::late_exits::LateExits;
use crate::core::problems::{Problems, TimedProblem};
use crate::error::Exit;
use crate::log::Masked;
use crate::settings::{Polling, Settings, table};
use crate::source::Failure;
use crate::store::Store;
use crate::store::record::{self, Record, Rejected, unix_now};

pub(super) struct StateTracker {
    pub(super) problems: Problems<Masked>,
    pub(super) rejected: Record<Rejected>,
    /// Failed for something that is not its fault.
    pub(super) postponed: Option<Box<Postponed>>,
    /// What outside of its config the latest collector died of.
    pub(super) outside: Option<Outside>,
    /// Installed and without a verdict.
    installing: Option<Revision>,
    /// The source offers the rejected config, as far as is known.
    pub(super) is_rejected_offered: bool,
    /// What the source offers and does not ask to use yet, and since when, in Unix time.
    pub(super) pending: Option<(Revision, u64)>,
    /// The collector's problem is that it crashes.
    is_crashing: bool,
    pub(super) late_exits: LateExits,
    /// Until when they are a problem, although a collector has proved itself again.
    crashing_until: Option<Uptime>,
    /// How the latest config took effect.
    pub(super) changed_by: Option<Masked>,
    /// Candidates that have arrived and are neither installed nor discarded.
    queued: u32,
    /// There is an outcome that has not been reported to the server.
    pub(super) concluded: bool,
    pub(super) polling: PollingStatus,
    pub(super) secrets: SecretRegistry,
    /// The identity of the policy.
    pub(super) policy: String,
}

impl StateTracker {
    pub(super) fn new(store: &Store, settings: &Settings, settings_problem: Option<String>) -> StateTracker {
        let rejected: Record<Rejected> = Record::open(store.state_dir(), record::REJECTED);
        let unresolved = rejected.get().filter(|it| !it.resolved).map(TimedProblem::from);
        let polling = polling(settings);
        StateTracker {
            problems: Problems {
                config: unresolved.clone(),
                settings: settings_problem.as_deref().and_then(problem_now),
                ..Problems::default()
            },
            rejected,
            is_rejected_offered: polling.endpoint.is_some() && unresolved.is_some(),
            pending: None,
            is_crashing: false,
            late_exits: LateExits::default(),
            crashing_until: None,
            postponed: None,
            outside: None,
            installing: None,
            changed_by: None,
            queued: 0,
            concluded: false,
            polling,
            secrets: SecretRegistry::default(),
            policy: settings.policy.identity().to_string(),
        }
    }

    pub(super) fn take_settings(&mut self, settings: &Settings) {
        self.policy = settings.policy.identity().to_string();
        let fresh = polling(settings);
        let (endpoint, local_because) = (&fresh.endpoint, &fresh.local_because);
        if (endpoint, local_because) != (&self.polling.endpoint, &self.polling.local_because) {
            self.polling = fresh;
        }
    }

    /// What is wrong with the settings as they are written by now.
    pub(super) fn settings_problem(&mut self, problem: Option<&str>) {
        update(&mut self.problems.settings, problem);
    }

    /// The problem, in words.
    pub(super) fn crashed(&mut self, status: &str, uptime: Duration, remedy: Option<&str>, tail: &Masked) -> String {
        let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let lines = if tail.is_empty() { String::new() } else { format!("; its last lines:\n{tail}") };
        let problem = format!("the collector {status} after {:.1} s{remedy}{lines}", uptime.as_secs_f64());
        // It began with the first crash.
        let same = self.problems.collector.take().filter(|_| self.is_crashing);
        self.problems.collector = reworded(same, &problem);
        (self.is_crashing, self.crashing_until) = (true, None);
        problem
    }

    fn collector_problem(&mut self, problem: &str) {
        self.crashing_until = None;
        if update(&mut self.problems.collector, Some(problem)) {
            self.is_crashing = false;
        }
    }

    /// Forgets exits that are too long ago to be a problem: to be called before problems are told.
    pub(super) fn forget_exits(&mut self, now: Uptime) {
        if self.crashing_until.take_if(|until| now >= *until).is_some() {
            self.problems.collector = None;
        }
    }

    pub(super) fn cannot_start(&mut self, problem: &str) {
        // Said once, however often it is tried.
        if self.problems.collector.as_ref().is_none_or(|timed| timed.problem != Masked::new(problem)) {
            log::error!(problem = problem; "collector not started");
        }
        self.collector_problem(problem);
    }

    pub(super) fn no_config(&mut self, path: &Path, fallback: bool) {
        let path = path.display();
        let problem = match (fallback, &self.polling.endpoint) {
            (true, _) => format!("the collector config {path} was missing; restored an earlier one"),
            (false, Some(_)) => format!("there is no collector config {path} yet: waiting for the API to send one"),
            (false, None) => format!("there is no collector config {path}: put one there, then `kmagent --check`"),
        };
        if self.problems.collector.as_ref().is_none_or(|timed| timed.problem != Masked::new(&problem)) {
            log::warn!(problem = problem.as_str(); "collector not started");
        }
        self.collector_problem(&problem);
    }

    pub(super) fn arrived(&mut self) {
        self.queued += 1;
    }

    /// A candidate is installed or discarded.
    pub(super) fn candidate_answered(&mut self) {
        self.queued = self.queued.saturating_sub(1);
    }

    /// A candidate is being installed: the next verdict is about it.
    pub(super) fn begin_install(&mut self, revision: &Revision) {
        self.candidate_answered();
        self.installing = Some(revision.clone());
    }

    pub(super) fn changed_by(&mut self, words: String) {
        self.changed_by = Some(words.into());
    }

    /// The process id of a collector that is suspended by SIGSTOP or the like, if there is one.
    pub(super) fn suspended(&mut self, pid: Option<u32>) {
        let problem =
            pid.map(|pid| format!("the collector is suspended: resume it with `kill -CONT {pid}`, or restart it"));
        if update(&mut self.problems.suspended, problem.as_deref())
            && let Some(problem) = problem
        {
            log::warn!(problem = problem.as_str(); "collector suspended");
        }
    }

    /// Why a collector that has proved itself is no longer healthy, if it is not.
    pub(super) fn still_healthy(&mut self, problem: Option<&str>) {
        let problem = problem.map(|problem| format!("the collector is unhealthy: {problem}"));
        let was_healthy = self.problems.health.is_none();
        if update(&mut self.problems.health, problem.as_deref())
            && let Some(problem) = problem
        {
            log::warn!(problem = problem.as_str(); "collector unhealthy; it is not restarted for that");
        } else if !was_healthy && self.problems.health.is_none() {
            log::info!("collector healthy again");
        }
    }

    /// Why the names in the run directory cannot be looked at or made anew, if they cannot.
    pub(super) fn run_dir_usable(&mut self, problem: Option<&str>) {
        if update(&mut self.problems.run_dir, problem)
            && let Some(problem) = problem
        {
            log::error!(problem = problem; "cannot restore the run directory; status and stop may not find the agent");
        }
    }

    /// What cannot be written, if anything.
    pub(super) fn state_kept(&mut self, problem: Option<&str>) {
        if update(&mut self.problems.state, problem)
            && let Some(problem) = problem
        {
            log::error!(problem = problem; "cannot write state; will retry");
        }
    }

    /// Why the active config is not kept.
    pub(super) fn unkept(&self) -> &str {
        self.problems.state.as_ref().map_or("is not kept yet", |timed| &timed.problem)
    }

    /// The outcome for those who wait for it, if this is about an install.
    pub(super) fn concluded(&mut self, verdict: &Verdict, now: Uptime) -> Option<Outcome> {
        // After a roll back too: the config's problem says it all, and the old collector may never have ended.
        match verdict {
            Verdict::Proved => {
                self.crashing_until = self.late_exits.problem_until(now).filter(|_| self.is_crashing);
                self.problems.collector.take_if(|_| self.crashing_until.is_none());
            }
            Verdict::Promoted | Verdict::RolledBack(_) => {
                self.problems.collector = None;
                (self.late_exits, self.crashing_until) = (LateExits::default(), None);
            }
            Verdict::Failing(problem) => self.collector_problem(problem),
            Verdict::NotInstalled(_) => {}
        }
        let revision = self.installing.take()?;
        if matches!(verdict, Verdict::Promoted | Verdict::Proved) {
            self.postponed = None;
        }
        self.concluded = true;
        let name = revision.short();
        let (exit, result, message) = match verdict {
            Verdict::Promoted | Verdict::Proved => {
                self.resolve();
                (Exit::Done, CheckResult::Installed, format!("installed config {name}"))
            }
            Verdict::RolledBack(problem) => {
                let message = format!("config {name} was rolled back: {problem}");
                (Exit::ConfigRefused, CheckResult::RolledBack, message)
            }
            Verdict::Failing(problem) => {
                let message = format!("config {name} fails and there is none to go back to: {problem}");
                (Exit::ConfigRefused, CheckResult::Failed, message)
            }
            Verdict::NotInstalled(problem) => {
                self.problems.config = problem_now(problem);
                (Exit::CannotWrite, CheckResult::Failed, problem.clone())
            }
        };
        Some(Outcome { exit: exit.code(), result, message: message.into() })
    }

    /// Whether the latest candidate is on its way to a verdict.
    pub(super) fn awaits_verdict(&self) -> bool {
        self.queued > 0 || self.installing.is_some()
    }

    /// A config check got no answer. Without the URL, which is known as the endpoint.
    pub(super) fn check_failed(&mut self, failure: &Failure) {
        self.polling.error = Some(failure.reason().into());
        self.polling.failing_since.get_or_insert_with(unix_now);
    }

    /// What a config check left to a later one.
    pub(super) fn pending(&mut self, revision: Option<&Revision>) {
        if self.pending.as_ref().map(|(revision, _)| revision) != revision {
            self.pending = revision.map(|revision| (revision.clone(), unix_now()));
        }
    }

    /// Takes in what a config check found.
    pub(super) fn checked(&mut self, found: &ProblemUpdate) {
        if self.polling.endpoint.is_some() {
            self.polling.succeeded_at = Some(unix_now());
            self.polling.error = None;
            self.polling.failing_since = None;
        }
        self.is_rejected_offered = matches!(found, ProblemUpdate::Rejected { .. });
        let not_restarted = match found {
            ProblemUpdate::NotRestarted(problem) => Some(problem),
            _ => None,
        };
        update(&mut self.problems.restart, not_restarted.map(|problem| &**problem));
        match found {
            ProblemUpdate::Resolved if !self.awaits_verdict() => self.resolve(),
            ProblemUpdate::Rejected { rejected, is_new } => {
                self.concluded |= *is_new;
                // What it depends on may be known better.
                if *is_new || self.is_rejected(&rejected.revision) {
                    self.reject(rejected.clone());
                }
                self.problems.config = Some(TimedProblem::from(rejected));
            }
            ProblemUpdate::Postponed(problem) => {
                // It may know more of the same one.
                let same = self.problems.config.take().filter(|timed| problem.contains(&*timed.problem));
                self.problems.config = reworded(same, problem);
            }
            ProblemUpdate::Forgotten => self.forget_rejection(),
            ProblemUpdate::None | ProblemUpdate::Resolved | ProblemUpdate::NotRestarted(_) => {}
        }
    }

    pub(super) fn take_concluded(&mut self) -> bool {
        std::mem::take(&mut self.concluded)
    }

    /// Another config than the rejected one is active, as the server wants it.
    fn resolve(&mut self) {
        self.problems.config = None;
        if let Some(rejected) = self.rejected.get().filter(|it| !it.resolved).cloned() {
            self.reject(Rejected { resolved: true, ..rejected });
        }
    }

    /// Who calls this has it written.
    pub(super) fn reject(&mut self, rejected: Rejected) {
        self.rejected.put(Some(rejected));
    }
}

/// Nothing is known of any check yet.
fn polling(settings: &Settings) -> PollingStatus {
    let (endpoint, local_because) = match &settings.polling {
        Polling::Endpoint(url) => (Some(Masked::new(&table::masked("update-endpoint", url))), None),
        Polling::Local { reason } => (None, Some(Masked::new(reason))),
    };
    PollingStatus { endpoint, local_because, ..PollingStatus::default() }
}

/// A problem keeps its time while it stays the same. True if it is another one.
pub(super) fn update(kept: &mut Option<TimedProblem<Masked>>, problem: Option<&str>) -> bool {
    let problem = problem.map(Masked::new);
    let is_new = kept.as_ref().map(|timed| &timed.problem) != problem.as_ref();
    if is_new {
        *kept = problem.map(|problem| TimedProblem { problem, at: unix_now() });
    }
    is_new
}

/// The same problem in other words began when it did in the earlier ones.
pub(super) fn reworded(same: Option<TimedProblem<Masked>>, problem: &str) -> Option<TimedProblem<Masked>> {
    Some(TimedProblem { problem: problem.into(), at: same.map_or_else(unix_now, |timed| timed.at) })
}

pub(super) fn problem_now(problem: &str) -> Option<TimedProblem<Masked>> {
    Some(TimedProblem { problem: problem.into(), at: unix_now() })
}
