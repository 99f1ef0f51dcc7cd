//! What a config check found, and what follows from it: one match, for the poller, the supervisor and `--check`.
//!
//! Data only: nothing is logged, kept, replied or started here. A new outcome is a variant and its arm in `effects`.

use log::Level;

use crate::config::value::Revision;
use crate::control::{CheckResult, Outcome};
use crate::core::problems::TimedProblem;
use crate::error::{Error, Exit};
use crate::log::Masked;
use crate::source::report::ConfigState;
use crate::store::Candidate;
use crate::store::record::Rejected;

/// What a config check found.
#[derive(Debug)]
pub enum CheckOutcome {
    /// There is nothing to do; `confirmed` if the source offers the active config.
    Unchanged { confirmed: bool },
    /// The source has another config but does not ask to use it.
    NotYet { revision: Revision },
    /// A validated config; `retried` if it was rejected and that does not hold any more.
    Install { candidate: Candidate, retried: bool },
    /// The latest candidate has had no verdict yet.
    OnItsWay,
    /// The active config is to be started anew.
    Restart,
    /// The same, but what runs might not come up again; the next check tries again.
    NotRestarted(Error),
    /// The collector or the agent refuses the config.
    Refused(Rejected),
    /// It is the config that was rejected before.
    StillRejected(Rejected),
    /// It could not be tried, for a reason that is not the config's; the next check tries again.
    Postponed(Error),
    /// There is no source to ask.
    Local { reason: String },
}

/// What follows from an outcome.
#[derive(Debug)]
pub struct Effects {
    /// Of the resident agent.
    pub log: LogLine,
    pub problem: ProblemUpdate,
    pub order: Order,
    /// For the client that asked for the check, unless the order changes it.
    pub reply: Outcome,
    pub reply_at: ReplyAt,
    /// For the client that asked for a dry run; `None`: the same.
    pub dry_run: Option<Outcome>,
    /// The config that the source offers and does not ask to use yet.
    pub pending: Option<Revision>,
}

/// A line of the log whose text is constant and whose fields vary.
#[derive(Debug)]
pub struct LogLine {
    pub level: Level,
    pub message: &'static str,
    pub fields: Vec<(&'static str, Masked)>,
    /// Written once for as long as checks in a row have the same one.
    pub once: Option<String>,
}

/// What becomes of the problems that are reported.
#[derive(Debug)]
pub enum ProblemUpdate {
    /// They stay.
    None,
    /// The config is what the source wants, so nothing is wrong with it.
    Resolved,
    /// It was rejected, and what that depended on has changed: it is tried.
    Forgotten,
    /// The config that the source offers is rejected; `is_new` if that is to be kept and reported.
    Rejected {
        rejected: Rejected,
        is_new: bool,
    },
    Postponed(Masked),
    NotRestarted(Masked),
}

/// What is to be done with the collector.
#[derive(Debug)]
pub enum Order {
    Nothing,
    Install(Candidate),
    Restart,
    /// An operator may have put a config in place where there was none.
    StartIfStopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyAt {
    Once,
    /// When the candidate has its verdict, if one is due; else at once.
    Verdict,
    /// The same; else the verdict came while the check was made, and the next one knows of it.
    VerdictOrNextCheck,
}

impl CheckOutcome {
    /// What is reported of an offered config that is neither active nor rejected.
    pub fn undecided(&self) -> Option<ConfigState> {
        match self {
            CheckOutcome::NotYet { .. } => Some(ConfigState::Pending),
            CheckOutcome::Postponed(_) => Some(ConfigState::Validating),
            _ => None,
        }
    }

    pub fn effects(self) -> Effects {
        use CheckResult::*;
        match self {
            CheckOutcome::Unchanged { confirmed } => Effects {
                problem: if confirmed { ProblemUpdate::Resolved } else { ProblemUpdate::None },
                order: Order::StartIfStopped,
                reply_at: if confirmed { ReplyAt::Verdict } else { ReplyAt::Once },
                ..Effects::new(
                    LogLine::debug("config is up to date"),
                    Outcome::done(Unchanged, "the config is up to date"),
                )
            },
            CheckOutcome::NotYet { revision } => {
                let once = Some(revision.to_string());
                let log = LogLine::info("config pending: the API does not ask to apply it yet");
                let log = LogLine { once, ..log.field("revision", revision.short()) };
                let message = "the API offers a new config but does not ask to apply it yet";
                Effects { pending: Some(revision), ..Effects::new(log, Outcome::done(Unchanged, message)) }
            }
            CheckOutcome::Install { candidate, retried } => {
                let revision = candidate.revision.short().to_string();
                let would = format!("would install config {revision}");
                let log = LogLine::info("new config is valid").field("revision", revision);
                Effects {
                    problem: if retried { ProblemUpdate::Forgotten } else { ProblemUpdate::None },
                    order: Order::Install(candidate),
                    reply_at: ReplyAt::Verdict,
                    dry_run: Some(Outcome::done(WouldInstall, would)),
                    ..Effects::new(log, Outcome::done(Unchanged, "config is still on probation"))
                }
            }
            CheckOutcome::OnItsWay => {
                let message = "config is still on probation";
                Effects {
                    reply_at: ReplyAt::VerdictOrNextCheck,
                    ..Effects::new(LogLine::debug(message), Outcome::done(Unchanged, message))
                }
            }
            CheckOutcome::Restart => Effects {
                order: Order::Restart,
                dry_run: Some(Outcome::done(WouldRestart, "would restart the collector")),
                ..Effects::new(
                    LogLine::info("the API requested a collector restart"),
                    Outcome::done(Restarted, "restarting the collector, as the API requested"),
                )
            },
            CheckOutcome::NotRestarted(error) => {
                let log = LogLine::error("collector not restarted; the next check will retry").because(&error);
                let problem = ProblemUpdate::NotRestarted(error.to_string().into());
                Effects { problem, ..Effects::new(log, Outcome::failed(&error)) }
            }
            CheckOutcome::Refused(rejected) => {
                let mut log = LogLine::error("new config rejected; nothing changed")
                    .field("revision", rejected.revision.short())
                    .field("problem", &*rejected.problem);
                if let Some(kept) = &rejected.kept {
                    log = log.field("kept", kept.display().to_string());
                }
                Effects::rejected(log, rejected, true)
            }
            CheckOutcome::StillRejected(rejected) => {
                let log = LogLine::debug("the API still sends the rejected config")
                    .field("revision", rejected.revision.short());
                Effects::rejected(log, rejected, false)
            }
            CheckOutcome::Postponed(error) => {
                let log = LogLine::error("new config not applied; the next check will retry").because(&error);
                let problem = ProblemUpdate::Postponed(error.to_string().into());
                Effects { problem, ..Effects::new(log, Outcome::failed(&error)) }
            }
            CheckOutcome::Local { reason } => {
                let message = format!("no API endpoint: {reason}").into();
                let reply = Outcome { exit: Exit::Settings.code(), result: Failed, message };
                let log = LogLine::debug("local mode").field("reason", reason);
                Effects { order: Order::StartIfStopped, ..Effects::new(log, reply) }
            }
        }
    }
}

impl Effects {
    fn new(log: LogLine, reply: Outcome) -> Effects {
        let (problem, order, reply_at) = (ProblemUpdate::None, Order::Nothing, ReplyAt::Once);
        Effects { log, problem, order, reply, reply_at, dry_run: None, pending: None }
    }

    fn rejected(log: LogLine, rejected: Rejected, is_new: bool) -> Effects {
        let TimedProblem { problem: message, .. } = TimedProblem::from(&rejected);
        let reply = Outcome { exit: Exit::ConfigRefused.code(), result: CheckResult::Rejected, message };
        Effects { problem: ProblemUpdate::Rejected { rejected, is_new }, ..Effects::new(log, reply) }
    }

    /// The config that was refused by this check.
    pub fn newly_rejected(&self) -> Option<&Rejected> {
        match &self.problem {
            ProblemUpdate::Rejected { rejected, is_new: true } => Some(rejected),
            _ => None,
        }
    }

    /// The config that will have a verdict.
    pub fn candidate(&self) -> Option<&Candidate> {
        match &self.order {
            Order::Install(candidate) => Some(candidate),
            _ => None,
        }
    }
}

impl LogLine {
    fn new(level: Level, message: &'static str) -> LogLine {
        LogLine { level, message, fields: Vec::new(), once: None }
    }

    fn debug(message: &'static str) -> LogLine {
        LogLine::new(Level::Debug, message)
    }

    fn info(message: &'static str) -> LogLine {
        LogLine::new(Level::Info, message)
    }

    fn error(message: &'static str) -> LogLine {
        LogLine::new(Level::Error, message)
    }

    fn field(mut self, name: &'static str, value: impl Into<Masked>) -> LogLine {
        self.fields.push((name, value.into()));
        self
    }

    /// The error is one that every check may meet.
    fn because(self, error: &Error) -> LogLine {
        LogLine { once: Some(error.what().to_string()), ..self.field("error", error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value;

    fn rejected() -> Rejected {
        let revision = Value::Null.revision();
        Rejected { at: 1, ..Rejected::new(revision, "it is empty") }
    }

    fn error() -> Error {
        Error::because(Exit::CannotWrite, "cannot write", "disk full")
    }

    #[test]
    fn each_outcome_has_its_reply() {
        use CheckResult::*;
        let name = rejected().revision.short().to_string();
        let is_rejected = format!("config {name} is rejected: it is empty");
        for (outcome, exit, result, message) in [
            (CheckOutcome::Unchanged { confirmed: false }, 0, Unchanged, "the config is up to date"),
            (
                CheckOutcome::NotYet { revision: rejected().revision },
                0,
                Unchanged,
                "the API offers a new config but does not ask to apply it yet",
            ),
            (CheckOutcome::Restart, 0, Restarted, "restarting the collector, as the API requested"),
            (CheckOutcome::NotRestarted(error()), 73, Failed, "cannot write: disk full"),
            (CheckOutcome::Refused(rejected()), 65, Rejected, &*is_rejected),
            (CheckOutcome::StillRejected(rejected()), 65, Rejected, &*is_rejected),
            (CheckOutcome::Postponed(error()), 73, Failed, "cannot write: disk full"),
            (CheckOutcome::Local { reason: "r".to_string() }, 78, Failed, "no API endpoint: r"),
        ] {
            let effects = outcome.effects();
            assert_eq!(effects.reply, Outcome { exit, result, message: message.into() });
        }
    }

    #[test]
    fn a_dry_run_says_what_would_be_done_and_else_the_same() {
        assert_eq!(CheckOutcome::Restart.effects().dry_run.unwrap().result, CheckResult::WouldRestart);
        assert_eq!(CheckOutcome::Unchanged { confirmed: true }.effects().dry_run, None);
    }

    #[test]
    fn only_a_new_rejection_is_kept_and_only_the_offer_of_the_active_config_resolves_one() {
        assert_eq!(CheckOutcome::Refused(rejected()).effects().newly_rejected(), Some(&rejected()));
        assert_eq!(CheckOutcome::StillRejected(rejected()).effects().newly_rejected(), None);
        for (confirmed, expected, reply_at) in [(true, true, ReplyAt::Verdict), (false, false, ReplyAt::Once)] {
            let effects = CheckOutcome::Unchanged { confirmed }.effects();
            assert_eq!(matches!(effects.problem, ProblemUpdate::Resolved), expected);
            assert_eq!(effects.reply_at, reply_at);
        }
    }

    #[test]
    fn an_error_that_every_check_may_meet_is_logged_once_by_what_failed() {
        for outcome in [CheckOutcome::NotRestarted(error()), CheckOutcome::Postponed(error())] {
            let log = outcome.effects().log;
            assert_eq!((log.level, log.once.as_deref()), (Level::Error, Some("cannot write")));
            assert_eq!(log.fields, [("error", "cannot write: disk full".into())]);
        }
        assert_eq!(CheckOutcome::Restart.effects().log.once, None);
    }

    #[test]
    fn a_pending_config_is_logged_once_for_each_revision() {
        let revision = Value::Null.revision();
        let effects = CheckOutcome::NotYet { revision: revision.clone() }.effects();
        assert_eq!((effects.log.level, effects.log.once), (Level::Info, Some(revision.to_string())));
        assert_eq!(effects.pending, Some(revision));
    }
}
