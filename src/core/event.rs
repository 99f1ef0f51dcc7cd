//! The supervisor's vocabulary: facts that it is told (`Event`) and orders that it gives (`Action`).
//!
//! Facts are in the past tense, orders in the imperative, and they are never mixed. `C` is a validated candidate, which the
//! core passes on unseen. Problems are sentences for people, made by whoever saw them happen.

/// One collector process: a number that is never used again, so that an exit always finds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChildId(pub u64);

/// A sentence for people: what went wrong, and what to do about it.
pub type Problem = String;

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
        standing: TrustLevel,
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

/// Whether new connections go to the new collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    Done,
    /// It has yet to listen somewhere; never the answer to one in part.
    NotYet,
    Failed(Problem),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<C> {
    Launched(SpawnResult),
    Exited {
        child: ChildId,
        problem: Problem,
    },
    CandidateArrived(C),
    Installed(Result<ActivationMode, Problem>),
    RolledBack(Result<(), Problem>),
    /// `Ok` means that the health check answered 200, or that none is declared.
    Probed {
        child: ChildId,
        health: Result<(), Problem>,
    },
    /// What came of an ordered `TakeOver`.
    TookOver {
        child: ChildId,
        outcome: TakeOver,
    },
    RestartRequested,
    StopRequested,
    DeadlinePassed,
}

/// `Spawn`, `SpawnBeside`, `Install`, `RollBack` and `TakeOver` are answered by an event before the core is told anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<C> {
    /// Start a collector on the config file.
    Spawn,
    /// Start one beside the collector that runs, which keeps all new connections.
    SpawnBeside,
    /// Have new connections go to this one: once it listens on all that is expected of it, or, `in_part`, wherever it listens.
    TakeOver { child: ChildId, in_part: bool },
    /// Have them go to the other one again.
    GiveBack(ChildId),
    /// SIGTERM to its process group.
    Terminate(ChildId),
    /// SIGKILL to its process group.
    Kill(ChildId),
    /// Rename the candidate over the config.
    Install(C),
    /// The candidate will not be used.
    Discard(C),
    /// Put the last known good over the config, and remember the revision that it replaces as rejected.
    RollBack(Problem),
    /// Ask the collector's health check, if it declares one.
    Probe(ChildId),
    /// The config in force has proved itself: keep it as last known good.
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
