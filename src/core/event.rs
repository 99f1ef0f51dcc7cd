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
    /// It has proved itself, and has run long enough since.
    Confirmed,
    /// It has proved itself, and may still be rolled back.
    Unconfirmed {
        /// Unexpected ones since it proved itself, of earlier agents too.
        exits: u32,
        has_fallback: bool,
    },
    /// It has not proved itself, and there is a fallback to go back to.
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
    /// There is no config file; `fallback` tells whether there is one to go back to.
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
    /// What it named is outside the config: a file that is missing or may not be opened, a storage that does not open.
    Environment,
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
    /// The config, which may have served: it is not tried again.
    Config,
    /// The config, which never was ready: it is tried again with another environment.
    Start,
    /// It may have been the old collector beside it, or the new one could not be tried: it is tried again by restart.
    HandOver,
    /// Something outside it: it never served. It is tried again later, while it is offered.
    Environment,
}

/// Which config a roll back restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollBackTarget {
    /// The newest confirmed one; if none is, the newest proved one other than the active.
    Fallback,
    /// The one that was active before the latest install: a collector serves with it, and goes on.
    Predecessor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<C> {
    Launched(SpawnResult),
    Exited {
        child: ChildId,
        problem: Problem,
        cause: ExitCause,
    },
    /// It said that everything is ready, or its health check answered 200 for the first time.
    Ready {
        child: ChildId,
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
    /// Put an earlier config over the active one, and remember the revision that it replaces as rejected, if that is to
    /// blame.
    RollBack { problem: Problem, blame: Blame, target: RollBackTarget },
    /// Ask the collector's health check, if it declares one.
    Probe(ChildId),
    /// The active config has passed its probation: keep it as proved. It is unconfirmed, unless `Confirm` follows at
    /// once.
    Promote,
    /// The active config has run long enough since it proved itself: it is never rolled back from here on.
    Confirm,
    /// The active config is unconfirmed, and its collector has exited unexpectedly so many times.
    RecordExit { exits: u32 },
    /// How the latest install or start ended.
    Conclude(Verdict),
    /// No child lives and none will follow.
    Finish,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new config has proved itself.
    Promoted,
    /// One that had done so before, started again, proved itself again: no news of any install.
    Proved,
    RolledBack(Problem),
    /// It failed its probation and there is nothing better to go back to: it is tried again.
    Failing(Problem),
    NotInstalled(Problem),
}
