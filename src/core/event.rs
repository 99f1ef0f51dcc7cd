//! The supervisor's vocabulary: facts that it is given (`Event`) and orders that it gives (`Action`).
//!
//! Facts are in the past tense, orders in the imperative, and they are never mixed. `C` is a validated candidate, of
//! which the core knows the revision alone. Problems are sentences for operators, made where they happen; what
//! the core decides by is never read out of a sentence, but comes beside it as a fact of its own.

use std::fmt::Debug;

/// One collector process: a number that is never used again, so that an exit always finds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChildId(pub u64);

/// A sentence for operators: what went wrong, and what to do about it.
pub type Problem = String;

/// A validated config that may be installed.
pub trait Candidate {
    /// The same for configs that are the same.
    type Revision: Clone + Debug + PartialEq;

    fn revision(&self) -> Self::Revision;
}

/// What is known about the config that a collector was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustLevel {
    /// It is the last known good.
    LastKnownGood,
    /// It has not proved itself, and there is a last known good to go back to.
    OnProbation,
    /// It has not proved itself, and there is nothing to go back to.
    NoFallback,
}

/// What became of an ordered spawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnResult {
    Spawned {
        child: ChildId,
        trust: TrustLevel,
        /// The kernel tells what it listens on. One that is not watched cannot take over from another.
        is_watched: bool,
    },
    Failed(Problem),
    /// There is no config file; `fallback` tells whether there is a last known good.
    NoConfig {
        fallback: bool,
    },
}

/// How an installed config can be put into effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationMode {
    /// The old collector ends, then the new one starts.
    Restart,
    /// The new one starts beside the old one and takes over from it.
    HandOver,
}

/// Why a config is put into effect by restart, whatever it is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartReason {
    /// There is no collector to hand over from: none runs alone that has proved itself.
    NothingToHandOverFrom,
    /// A hand-over to it failed, and that may have been the hand-over's doing.
    HandOverFailed,
}

/// What a collector died of, as far as another collector beside it may be the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// Nothing that another collector could have to do with.
    Unrelated,
    /// A port that it wanted was in use.
    PortInUse(PortHolder),
    /// Something that one process may hold at a time stayed locked.
    LockTimeout,
}

/// Who has a port that a collector could not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortHolder {
    /// Itself: two of its own sockets wanted it.
    Itself,
    OtherCollector,
    /// Neither of the two.
    OtherProcess,
    /// What the other collector listens on could not be read.
    Unknown,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The health check answered 200, or none is declared.
    Healthy,
    Unhealthy(Problem),
    /// Its health check could not be asked, or another collector might have answered in its place.
    Unknown(Problem),
}

/// What is to blame for a failed config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The config: it is not tried again.
    Config,
    /// It may have been the old collector beside it, or the new one could not be tried: it is tried again by restart.
    HandOver,
    /// Another process, which has a port that it wants: it is tried again later.
    OtherProcess,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<C> {
    Launched(SpawnResult),
    Exited {
        child: ChildId,
        problem: Problem,
        cause: ExitCause,
    },
    CandidateArrived(C),
    /// Also when the active config itself is to take effect once more, in a new collector.
    Installed(Result<ActivationMode, Problem>),
    RolledBack(Result<(), Problem>),
    Probed {
        child: ChildId,
        health: Health,
    },
    /// What came of an ordered `TakeOver`; the problem is what keeps new connections from going to this one.
    TookOver {
        child: ChildId,
        outcome: Result<(), Problem>,
    },
    RestartRequested,
    StopRequested,
    DeadlinePassed,
}

/// `Spawn`, `SpawnSecond`, `Install`, `RollBack` and `TakeOver` are answered by an event before the core is given any
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<C> {
    /// Start a collector on the config file.
    Spawn,
    /// Start one beside the collector that runs, which keeps all new connections.
    SpawnSecond,
    /// Have new connections go to this one: once it listens on all that is expected of it, or, `in_part`, wherever it
    /// listens.
    TakeOver { child: ChildId, in_part: bool },
    /// Have them go to the other one again.
    GiveBack(ChildId),
    /// SIGTERM to its process group.
    Terminate(ChildId),
    /// SIGKILL to its process group.
    Kill(ChildId),
    /// Rename the candidate over the config, and say how it can be put into effect: by restart if `hand_over` gives a
    /// reason.
    Install { candidate: C, hand_over: Result<(), RestartReason> },
    /// The candidate will not be used.
    Discard(C),
    /// Put the last known good over the config, and remember the revision that it replaces as rejected, if that is to
    /// blame.
    RollBack { problem: Problem, blame: Blame },
    /// Ask the collector's health check, if it declares one.
    Probe(ChildId),
    /// The active config has passed its probation: save it as last known good.
    Promote,
    /// How the latest install or start ended.
    Conclude(Verdict),
    /// No child lives and none will follow.
    Finish,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new last known good.
    Promoted,
    /// The last known good, started again, proved itself again: no news of any install.
    Proved,
    RolledBack(Problem),
    /// It failed its probation and there is nothing better to go back to: it is tried again.
    Failing(Problem),
    NotInstalled(Problem),
}
