//! What the two threads tell each other. They share nothing else, and a closed channel means stop.

use crate::core::problems::TimedProblem;
use crate::error::Error;
use crate::source::kloudmate::Status;
use crate::store::Candidate;
use crate::store::record::Rejected;

/// To the supervisor.
#[derive(Debug)]
pub enum SupervisorEvent {
    /// SIGTERM, SIGINT or SIGHUP.
    Signalled,
    Checked(Checked),
    /// The poller panicked, which is our own bug.
    PollerEnded,
}

/// A config check ended.
#[derive(Debug)]
pub struct Checked {
    /// The newest `CheckNow` that had arrived when the check began.
    pub ticket: u64,
    pub finding: Result<CheckOutcome, Error>,
}

/// What a config check found.
#[derive(Debug)]
pub enum CheckOutcome {
    /// There is nothing to do; `confirmed` if the server sent the config that is in force.
    Unchanged { confirmed: bool },
    /// The server has another config but does not ask to use it.
    NotYet,
    /// A validated config.
    Install(Candidate),
    /// The latest candidate has had no verdict yet.
    OnItsWay,
    /// The config in force is to be started anew.
    Restart,
    /// The same, but what runs might not come up again; the next check tries again.
    NotRestarted(Error),
    /// The collector or we refuse the config, for good.
    Refused(Rejected),
    /// It is the config that was rejected before.
    StillRejected(Rejected),
    /// It could not be tried, for a reason that is not the config's; the next check tries again.
    Postponed(Error),
    /// There is no API to ask.
    Local { reason: String },
}

/// To the poller.
#[derive(Debug)]
pub enum PollerCommand {
    Changed(Snapshot),
    /// The latest candidate has its verdict: the server should learn of it.
    Concluded,
    /// Somebody asks for a check.
    CheckNow {
        ticket: u64,
    },
    Stop,
}

/// What the poller reports of the supervisor's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub collector_status: Status,
    pub problem: Option<TimedProblem>,
    pub rejected: Option<Rejected>,
    pub restarts: u64,
}
