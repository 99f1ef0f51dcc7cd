//! Random walks: the machine against a small model of the world, with what must hold after every step.
//!
//! The world plays the shell (it performs orders and answers them, well or badly, in the order in which `supervise`
//! does), the collector, the poller and the operators. A walk is its seed; one that fails is walked again with its
//! story printed.
//!
//! What happens: every event, in every order, also late, twice, about a stranger or a collector that is dead already;
//! several at once, as the shell finds them when it wakes (a stop and an exit, both collectors dead); a candidate, a
//! deadline, a restart request before an order is answered. What never does: an answer that nobody ordered, and a stop
//! before an order is answered (the shell answers before it looks at anything else).
//!
//! What must hold is DESIGN.md, "Invariants": `shell` asserts it of each order, `rules` when the shell goes to sleep.

use std::collections::{BTreeSet, HashSet};
use std::panic::catch_unwind;

use super::*;
use crate::core::event::{
    self, ActivationMode, Blame, ExitCause, Health, PortHolder, RestartReason, RollBackTarget, SpawnResult, Verdict,
};
use crate::core::{Jitter, backoff};
use confirmation::MAX_EXITS;
use delays::Delays;
use generations::Generations;

const WALKS: u64 = 3000;
const STEPS: usize = 250;
/// The longest wait with nothing alive: the backoff's cap with all its jitter.
const LONGEST_WAIT: Duration = Duration::from_secs(72);

mod delays;
mod generations;
mod rules;
mod shell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    number: usize,
    revision: usize,
}

impl event::Candidate for Candidate {
    type Revision = usize;

    fn revision(&self) -> usize {
        self.revision
    }
}

/// What a collector may die of: the first three may be another collector's doing, the others are not.
const CAUSES: [ExitCause; 7] = [
    ExitCause::PortInUse(PortHolder::OtherCollector),
    ExitCause::PortInUse(PortHolder::Unknown),
    ExitCause::LockTimeout,
    ExitCause::PortInUse(PortHolder::Itself),
    ExitCause::PortInUse(PortHolder::OtherProcess),
    ExitCause::Environment,
    ExitCause::Unrelated,
];

#[derive(Debug)]
struct LiveCollector {
    child: ChildId,
    revision: usize,
    since: Uptime,
    /// When it has said that it is ready, if that was in time.
    ready_at: Option<Uptime>,
    /// Since when it is on probation or past it; `None` until a new one beside an old one serves.
    serves_since: Option<Uptime>,
    trust: TrustLevel,
    /// How its start ended is known.
    judged: bool,
    /// It never listens on all that is expected of it.
    never_listens: bool,
    /// An operator or the API asked for a restart, or other files are active than those that it was started with.
    is_outdated: bool,
    /// It has lost a hand-over.
    lost_hand_over: bool,
    terminated_at: Option<Uptime>,
    killed: bool,
}

/// From the order to start a second one until one is alone and it is known which it should be.
#[derive(Debug)]
struct HandOver {
    old: ChildId,
    /// `None` if it could not be started.
    new: Option<ChildId>,
    /// The config that is handed over to.
    revision: usize,
    /// Of the new one: the kernel tells what it listens on.
    is_watched: bool,
    given_back: bool,
    /// Whether the new one has proved itself.
    won: Option<bool>,
}

struct World {
    random: Jitter,
    verbose: bool,
    /// How often things fail in this world, `0.0..1.0`.
    trouble: f64,
    limits: Limits,
    supervisor: Supervisor<Candidate>,
    now: Uptime,
    /// The collectors that live: one, or the old one and then the new one.
    live: Vec<LiveCollector>,
    /// Those that have died and that the core does not know of: never any while the shell sleeps.
    unreported: Vec<LiveCollector>,
    hand_over: Option<HandOver>,
    /// The config that was ordered to be installed last.
    installed: Option<usize>,
    /// If the present event means that a hand-over failed, that does not speak against its config.
    is_excused: bool,
    /// The present event says that a collector died of something outside its config.
    is_environment: bool,
    /// The present event says that a collector died before it was ready.
    is_not_ready: bool,
    /// So many exits of an unconfirmed config with the present one, which is to be written down.
    exits_to_record: Option<u32>,
    /// The latest config that is excused: it is never handed over to again.
    restart_only: Option<usize>,
    /// The same, until it has been started without another collector beside it: it is not rejected.
    owed_a_restart: Option<usize>,
    /// The present event says that the running collector can be handed over from.
    may_hand_over: bool,
    /// An install was reported and its verdict was not.
    awaits_verdict: bool,
    /// Spawns that were ordered; also the number of the latest child.
    starts: u64,
    /// Roll backs that were ordered.
    roll_backs: usize,
    /// Those that have died unexpectedly, before the core hears of it.
    crashed: Vec<ChildId>,
    /// One of them was for the exits of an unconfirmed config.
    crashed_too_often: bool,
    /// Those of a config that is not there or, beside another collector, cannot be started.
    not_started: usize,
    /// Roll backs that failed.
    obstacles: usize,
    /// Probes that were ordered and not answered, of dead children too.
    probes: Vec<ChildId>,
    // The files; a config is its revision.
    config: Option<usize>,
    generations: Generations,
    /// What could not be rolled back.
    stuck: Option<usize>,
    rejected: HashSet<usize>,
    /// The latest that failed for something outside it.
    postponed: Option<usize>,
    revisions: usize,
    candidates: usize,
    /// Candidates that were handed over and have been neither installed nor discarded.
    open: Vec<Candidate>,
    delays: Delays,
    stop_at: Option<Uptime>,
    finished: bool,
    /// The collector that has just said that it is healthy.
    healthy: Option<ChildId>,
    /// What happened, for the check that the walks go everywhere.
    seen: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64, verbose: bool) -> World {
        // Spreads small seeds over all bits: the golden ratio's, as in splitmix64.
        let mut random = Jitter::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut pick = |choices: [u64; 3]| Duration::from_millis(choices[(random.fraction() * 3.0) as usize]);
        let limits = Limits {
            min_uptime: pick([100, 10_000, 90_000]),
            start_timeout: pick([100, 5_000, 60_000]),
            confirm_time: pick([0, 60_000, 600_000]),
            stop_timeout: pick([500, 30_000, 120_000]),
        };
        let trouble = random.fraction() * 0.5;
        let config = (random.fraction() < 0.7).then_some(1);
        let generations = Generations::found(&mut random);
        World {
            random,
            verbose,
            trouble,
            limits,
            supervisor: Supervisor::new(limits, seed),
            now: Uptime::ZERO,
            live: Vec::new(),
            unreported: Vec::new(),
            hand_over: None,
            installed: None,
            is_excused: false,
            is_environment: false,
            is_not_ready: false,
            exits_to_record: None,
            restart_only: None,
            owed_a_restart: None,
            may_hand_over: false,
            awaits_verdict: false,
            starts: 0,
            roll_backs: 0,
            crashed: Vec::new(),
            crashed_too_often: false,
            not_started: 0,
            obstacles: 0,
            probes: Vec::new(),
            config,
            generations,
            stuck: None,
            rejected: HashSet::new(),
            postponed: None,
            revisions: 2,
            candidates: 0,
            open: Vec::new(),
            delays: Delays::default(),
            stop_at: None,
            finished: false,
            healthy: None,
            seen: BTreeSet::new(),
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.random.fraction() < share
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random.fraction() * bound as f64) as usize
    }

    fn fallible(&mut self) -> Result<(), Problem> {
        if self.chance(self.trouble) { Err("trouble".into()) } else { Ok(()) }
    }

    fn cause(&mut self) -> ExitCause {
        CAUSES[self.below(CAUSES.len())]
    }

    fn health(&mut self) -> Health {
        match self.fallible() {
            Ok(()) => Health::Healthy,
            Err(problem) if self.chance(0.3) => Health::Unknown(problem),
            Err(problem) => Health::Unhealthy(problem),
        }
    }

    /// A restart was asked for, or other files are active.
    fn outdate(&mut self) {
        self.delays.not_before = Uptime::ZERO;
        // In a hand-over neither is given up for that.
        if self.hand_over.is_none() {
            self.live.iter_mut().chain(&mut self.unreported).for_each(|live| live.is_outdated = true);
        }
    }

    // ---- What happens by itself.

    fn walk(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        if self.stop_at.is_none() && self.chance(0.5) {
            self.converge();
        }
        if self.stop_at.is_none() {
            self.stop();
        }
        while !self.finished {
            self.step();
        }
        self.event(Event::RestartRequested);
        self.candidate();
    }

    fn step(&mut self) {
        if let Some(index) = self.live.iter().position(|live| live.killed)
            && self.chance(0.5)
        {
            return self.exit(index);
        }
        match self.below(100) {
            0..35 => self.sleep_until_due(),
            35..55 => self.sleep(),
            55..65 => self.candidate(),
            65..70 => {
                self.outdate();
                self.event(Event::RestartRequested);
            }
            70..76 => self.answer_a_probe(),
            76..82 => self.ready(),
            82..90 => {
                let index = self.below(2);
                self.exit(index);
            }
            90..92 => self.edit_by_hand(),
            92..94 => self.event(Event::DeadlinePassed),
            94..97 => {
                let event = self.belated();
                self.event(event);
            }
            97 => self.write_generations(),
            98 => self.all_exit(),
            _ if self.chance(0.2) => self.stop(),
            _ => {}
        }
    }

    /// About a collector that is not there, or not any more.
    fn belated(&mut self) -> Event<Candidate> {
        let mut child = ChildId((self.random.fraction() * (self.starts + 1) as f64) as u64);
        if self.live.iter().any(|live| live.child == child) {
            child = ChildId(0);
        }
        match self.below(3) {
            0 => Event::Exited { child, problem: "no child of ours".into(), cause: self.cause() },
            1 => Event::TookOver { child, outcome: self.fallible() },
            _ => Event::Probed { child, health: self.health() },
        }
    }

    /// All collectors end at once, and often that is a host that shuts down: the stop request comes first, as the
    /// shell does.
    fn all_exit(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let stops = self.chance(0.3);
        if stops {
            self.stop_at.get_or_insert(self.now);
        }
        self.seen.insert(match (stops, self.live.len()) {
            (true, 1) => "stopped and ended at once",
            (true, _) => "stopped and both ended at once",
            (false, 1) => "ended",
            (false, _) => "both ended at once",
        });
        let unexpected =
            self.live.iter().map(|live| live.child).filter(|child| !self.supervisor.is_terminating(*child));
        self.crashed.extend(unexpected);
        self.unreported.append(&mut self.live);
        let dead: Vec<ChildId> = self.unreported.iter().map(|dead| dead.child).collect();
        let mut events: Vec<Event<Candidate>> = stops.then_some(Event::StopRequested).into_iter().collect();
        for child in dead {
            events.push(Event::Exited { child, problem: "exit".into(), cause: self.cause() });
        }
        if self.chance(0.3) {
            events.push(Event::DeadlinePassed);
        }
        self.events(events);
    }

    /// No more trouble, and the API sends a good config as long as another one is active.
    fn converge(&mut self) {
        self.trouble = 0.0;
        self.write_generations();
        // What failed for something that is not its fault becomes active too.
        let revision = self.postponed.filter(|postponed| !self.rejected.contains(postponed));
        self.seen.extend(revision.map(|_| "postponed and accepted"));
        let (revision, began_at) = (revision.unwrap_or_else(|| self.new_revision()), self.now);
        for _ in 0..400 {
            let is_alone = self.live.len() == 1 && self.runs_alone();
            if is_alone && self.live[0].revision == revision && self.generations.is_confirmed(revision) {
                let probation = self.limits.start_timeout + self.limits.min_uptime * 2 + PROBE_TIMEOUT;
                // One that crashed three times with nothing to go back to has its time from its latest crash.
                let limit = began_at + probation * 2 + SETTLE_DELAY + LONGEST_WAIT * 2 + self.limits.confirm_time;
                assert!(self.now <= limit, "{:?} until a good config was trusted", self.now - began_at);
                self.seen.insert("converged");
                return;
            }
            if let Some(index) = self.live.iter().position(|live| live.terminated_at.is_some()) {
                self.exit(index);
            } else if self.config != Some(revision) && self.open.is_empty() {
                let candidate = self.candidate_of(revision);
                self.event(Event::CandidateArrived(candidate));
            } else if self.probes.is_empty() {
                self.sleep_until_due();
            } else {
                self.answer_a_probe();
            }
        }
        panic!("a good config is not trusted, though nothing is wrong");
    }

    fn sleep_until_due(&mut self) {
        if let Some(deadline) = self.supervisor.deadline() {
            self.now = self.now.max(deadline);
            self.event(Event::DeadlinePassed);
        }
    }

    /// Some time; the deadline is met late now and then, as on a busy host, but not while a stop is being timed.
    fn sleep(&mut self) {
        let longest = [0.1, 1.0, 10.0, 100.0][self.below(4)];
        let until = self.now + Duration::from_secs_f64(longest * self.random.fraction());
        match self.supervisor.deadline() {
            Some(deadline) if deadline <= until => {
                self.now = if self.stop_at.is_some() { self.now.max(deadline) } else { until };
                self.event(Event::DeadlinePassed);
            }
            Some(_) | None if self.stop_at.is_some() => {}
            Some(_) | None => self.now = until,
        }
    }

    /// A collector says that everything is ready: in time, late, or again.
    fn ready(&mut self) {
        let awaited = self.supervisor.awaited();
        let Some(live) = self.live.last_mut() else { return };
        if awaited == Some(live.child) {
            live.ready_at = Some(self.now);
            self.seen.insert("ready");
        }
        let child = live.child;
        self.event(Event::Ready { child });
    }

    /// One, or two in a row.
    fn candidate(&mut self) {
        let mut events = vec![Event::CandidateArrived(self.next_candidate())];
        if self.chance(0.2) {
            events.push(Event::CandidateArrived(self.next_candidate()));
        }
        self.events(events);
    }

    fn next_candidate(&mut self) -> Candidate {
        let rejected = self.rejected.iter().min().copied().filter(|_| self.candidates.is_multiple_of(5));
        // The API sends what is neither active nor rejected again.
        let again = self.restart_only.filter(|again| self.config != Some(*again) && !self.rejected.contains(again));
        let again = again.filter(|_| self.chance(0.5));
        let revision = rejected.or(again).unwrap_or_else(|| self.new_revision());
        self.candidate_of(revision)
    }

    fn candidate_of(&mut self, revision: usize) -> Candidate {
        self.candidates += 1;
        let candidate = Candidate { number: self.candidates, revision };
        self.open.push(candidate);
        candidate
    }

    fn new_revision(&mut self) -> usize {
        self.revisions += 1;
        self.revisions
    }

    fn answer_a_probe(&mut self) {
        if self.probes.is_empty() {
            return;
        }
        let index = self.below(self.probes.len());
        let child = self.probes.swap_remove(index);
        let health = self.health();
        let lives = self.live.iter().any(|live| live.child == child);
        self.healthy = (lives && health == Health::Healthy).then_some(child);
        self.event(Event::Probed { child, health });
        self.healthy = None;
    }

    fn exit(&mut self, index: usize) {
        if self.live.is_empty() {
            return;
        }
        let live = self.live.remove(index % self.live.len());
        let child = live.child;
        let crashed = !self.supervisor.is_terminating(child);
        let trust = live.trust;
        self.crashed.extend(crashed.then_some(child));
        self.unreported.push(live);
        let (starts, roll_backs, obstacles) = (self.starts, self.roll_backs - self.not_started, self.obstacles);
        let cause = self.cause();
        self.crashed_too_often = false;
        self.event(Event::Exited { child, problem: "exit".into(), cause });
        let on_probation = crashed && trust == TrustLevel::OnProbation;
        let rolled_back = self.roll_backs - self.not_started > roll_backs;
        let is_failed = self.crashed_too_often;
        assert_eq!(
            rolled_back,
            on_probation || is_failed,
            "what crashes on probation, or too often later, is rolled back, and nothing else"
        );
        if crashed
            && self.stop_at.is_none()
            && self.delays.is_first(self.now)
            && self.obstacles == obstacles
            && self.live.is_empty()
        {
            let due = self.supervisor.deadline() == Some(self.now);
            assert!(self.starts > starts || due, "the first exit in the window is followed by a start at once");
        }
    }

    /// One of the two has ended: that is the end of it, unless the verdict is still to come.
    fn end_hand_over(&mut self, dead: &LiveCollector) {
        let stopping = self.stop_at.is_some();
        let Some(hand_over) = &self.hand_over else {
            return;
        };
        let is_old = dead.child == hand_over.old;
        self.seen.insert(match (hand_over.won, is_old) {
            _ if stopping => "both stopped",
            (None, true) => "the old one died first",
            (None, false) if !hand_over.is_watched => "the new one died unwatched",
            (None, false) if self.probes.contains(&dead.child) => "the new one died while asked",
            (None, false) if dead.serves_since.is_some() => "the new one died on probation",
            (None, false) => "the new one died before it served",
            (Some(true), true) if dead.killed => "handed over, the old one killed",
            (Some(true), true) => "handed over",
            (Some(false), false) => "not handed over",
            (Some(true), false) | (Some(false), true) => "the one that serves died first",
        });
        if hand_over.won.is_none() && !stopping && !is_old {
            return;
        }
        if is_old && hand_over.won.is_none() {
            self.delays.reset();
        }
        self.hand_over = None;
        // An ordinary start from now on.
        let now = self.now;
        self.live.iter_mut().for_each(|left| _ = left.serves_since.get_or_insert(now));
    }

    /// Operators change the config while nothing runs.
    fn edit_by_hand(&mut self) {
        if self.live.is_empty() {
            self.config = if self.chance(0.5) { None } else { Some(self.new_revision()) };
        }
    }

    fn stop(&mut self) {
        self.stop_at.get_or_insert(self.now);
        self.event(Event::StopRequested);
    }
}

#[test]
fn random_walks_keep_the_rules() {
    let mut seen = BTreeSet::new();
    for seed in 0..WALKS {
        let walked = catch_unwind(|| {
            let mut world = World::new(seed, false);
            world.walk();
            world.seen
        });
        match walked {
            Ok(walked) => seen.extend(walked),
            Err(_) => {
                World::new(seed, true).walk();
                unreachable!("seed {seed} failed once and not again");
            }
        }
    }
    // A walk that never gets somewhere proves nothing about it.
    let everything = [
        "both ended at once",
        "concluded",
        "config lost",
        "converged",
        "ended",
        "failing",
        "installed",
        "interrupted",
        "killed",
        "no config",
        "not installed",
        "not kept yet",
        "promoted",
        "proved again",
        "roll back failed",
        "rolled back",
        "rolled back alive",
        "spawn failed",
        "stopped and both ended at once",
        "stopped and ended at once",
        "terminated",
        // Ready, and confirmed.
        "confirmed",
        "exit recorded",
        "postponed and accepted",
        "ready",
        "rolled back late",
        // Hand-overs.
        "both stopped",
        "handed over",
        "handed over, the old one killed",
        "queued",
        "queued in a hand-over",
        "not handed over",
        "the second is not started",
        "nothing left to hand over to",
        "roll back failed in a hand-over",
        "the new one died before it served",
        "the new one died on probation",
        "the new one died while asked",
        "the old one died first",
        "the one that serves died first",
        "took over",
        "took over in part",
        "took over later",
        "could not take over",
        "cannot be watched",
        "the new one died unwatched",
        "rolled back to try again",
        "rolled back to try later",
        "rejected after a hand-over",
        "installed to be restarted",
        "rejected after a restart",
    ];
    assert_eq!(seen, BTreeSet::from(everything));
}
