//! Random walks: the machine against a small model of the world, with what must hold after every step.
//!
//! The world plays the shell (it performs orders and answers them, well or badly, in the order in which `supervise` does), the
//! collector, the poller and the people. A walk is its seed; one that fails is walked again with its story printed.
//!
//! What happens: every event, in every order, also late, twice, about a stranger or a collector that is dead already; several at
//! once, as the shell finds them when it wakes (a stop and an exit, both collectors dead); a candidate, a deadline, a restart
//! request before an order is answered. What never does: an answer that nobody ordered, and a stop before an order is answered
//! (the shell answers before it looks at anything else).
//!
//! What must hold is DESIGN.md, "Invariants": `shell` asserts it of each order, `rules` when the shell goes to sleep.

use std::collections::{BTreeSet, HashSet};
use std::panic::catch_unwind;

use super::*;
use crate::core::event::{ActivationMode, SpawnResult, TakeOver, Verdict};
use crate::core::{Jitter, backoff};

const WALKS: u64 = 3000;
const STEPS: usize = 250;
/// The longest wait with nothing alive: the backoff's cap with all its jitter.
const LONGEST_WAIT: Duration = Duration::from_secs(72);
/// The shortest: its first delay with all its jitter.
const SHORTEST_DELAY: Duration = Duration::from_millis(800);

mod rules;
mod shell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    number: usize,
    revision: usize,
}

#[derive(Debug)]
struct LiveCollector {
    child: ChildId,
    revision: usize,
    since: Uptime,
    /// Since when it is on probation or past it; `None` until a new one beside an old one serves.
    serves_since: Option<Uptime>,
    standing: TrustLevel,
    /// How its start ended is known.
    judged: bool,
    /// It never listens on all that is expected of it.
    deaf: bool,
    /// Somebody asked for a restart, or other files are in force than those that it was started with.
    outdated: bool,
    /// It has lost a hand-over.
    withdrawn: bool,
    terminated_at: Option<Uptime>,
    killed: bool,
}

/// From the order to start a second one until one is alone and it is known which it should be.
#[derive(Debug)]
struct HandOver {
    old: ChildId,
    /// `None` if it could not be started.
    new: Option<ChildId>,
    given_back: bool,
    /// Whether the new one has proved itself.
    won: Option<bool>,
}

struct World {
    random: Jitter,
    loud: bool,
    /// How often things fail in this world, `0.0..1.0`.
    trouble: f64,
    limits: Limits,
    supervisor: Supervisor<Candidate>,
    now: Uptime,
    /// The collectors that live: one, or the old one and then the new one.
    living: Vec<LiveCollector>,
    /// Those that have died and that the core has not been told of: never any while the shell sleeps.
    untold: Vec<LiveCollector>,
    hand_over: Option<HandOver>,
    /// The core was just told that the collector that runs can be handed over from.
    may_hand_over: bool,
    /// An install was reported and its verdict was not.
    awaits_verdict: bool,
    /// Spawns that were ordered; also the number of the latest child.
    starts: u64,
    /// Roll backs that were ordered.
    roll_backs: usize,
    /// Those of a config that is not there or, beside another collector, cannot be started.
    not_started: usize,
    /// Roll backs that failed.
    obstacles: usize,
    /// Probes that were ordered and not answered, of dead children too.
    probes: Vec<ChildId>,
    // The files; a config is its revision.
    config: Option<usize>,
    last_known_good: Option<usize>,
    /// It has proved itself and could not be written as last known good yet.
    pending_writes: Option<usize>,
    /// What is the last known good became so after a collector had been started with it anew.
    kept_late: bool,
    /// All that have proved themselves, and the one that did so last.
    proved: HashSet<usize>,
    newest_proved: Option<usize>,
    rejected: HashSet<usize>,
    revisions: usize,
    candidates: usize,
    /// Candidates that were handed over and have been neither installed nor discarded.
    open: Vec<Candidate>,
    /// No start before this: the delay of a failure that nothing has made up for since.
    not_before: Uptime,
    stop_at: Option<Uptime>,
    finished: bool,
    /// The collector that has just said that it is well.
    well: Option<ChildId>,
    /// What happened, for the check that the walks go everywhere.
    seen: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64, loud: bool) -> World {
        // Spreads small seeds over all bits: the golden ratio's, as in splitmix64.
        let mut random = Jitter::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut pick = |choices: [u64; 3]| Duration::from_millis(choices[(random.fraction() * 3.0) as usize]);
        let limits = Limits { min_uptime: pick([100, 10_000, 90_000]), stop_timeout: pick([500, 30_000, 120_000]) };
        let trouble = random.fraction() * 0.5;
        let config = (random.fraction() < 0.7).then_some(1);
        let last_known_good = (random.fraction() < 0.5).then_some(if random.fraction() < 0.5 { 1 } else { 2 });
        World {
            random,
            loud,
            trouble,
            limits,
            supervisor: Supervisor::new(limits, seed),
            now: Uptime::ZERO,
            living: Vec::new(),
            untold: Vec::new(),
            hand_over: None,
            may_hand_over: false,
            awaits_verdict: false,
            starts: 0,
            roll_backs: 0,
            not_started: 0,
            obstacles: 0,
            probes: Vec::new(),
            config,
            last_known_good,
            pending_writes: None,
            kept_late: false,
            proved: last_known_good.into_iter().collect(),
            newest_proved: last_known_good,
            rejected: HashSet::new(),
            revisions: 2,
            candidates: 0,
            open: Vec::new(),
            not_before: Uptime::ZERO,
            stop_at: None,
            finished: false,
            well: None,
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

    /// A restart was asked for, or other files are in force: the next start owes no delay to the failure before.
    fn made_up_for(&mut self) {
        self.not_before = Uptime::ZERO;
        // In a hand-over neither is given up for that.
        if self.hand_over.is_none() {
            self.living.iter_mut().chain(&mut self.untold).for_each(|living| living.outdated = true);
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
        self.tell(Event::RestartRequested);
        self.candidate();
    }

    fn step(&mut self) {
        if let Some(index) = self.living.iter().position(|living| living.killed)
            && self.chance(0.5)
        {
            return self.exit(index);
        }
        match self.below(100) {
            0..35 => self.sleep_until_due(),
            35..55 => self.sleep(),
            55..65 => self.candidate(),
            65..70 => {
                self.made_up_for();
                self.tell(Event::RestartRequested);
            }
            70..82 => self.answer_a_probe(),
            82..90 => {
                let index = self.below(2);
                self.exit(index);
            }
            90..92 => self.edit_by_hand(),
            92..94 => self.tell(Event::DeadlinePassed),
            94..97 => {
                let event = self.belated();
                self.tell(event);
            }
            97 => self.keep_good(),
            98 => self.all_exit(),
            _ if self.chance(0.2) => self.stop(),
            _ => {}
        }
    }

    /// About somebody who is not there, or not there any more.
    fn belated(&mut self) -> Event<Candidate> {
        let mut child = ChildId((self.random.fraction() * (self.starts + 1) as f64) as u64);
        if self.living.iter().any(|living| living.child == child) {
            child = ChildId(0);
        }
        match self.below(3) {
            0 => Event::Exited { child, problem: "no child of ours".into() },
            1 => {
                let outcome = self.fallible().map_or_else(TakeOver::Failed, |()| TakeOver::Done);
                Event::TookOver { child, outcome }
            }
            _ => Event::Probed { child, health: self.fallible() },
        }
    }

    /// Everybody ends at once, and often that is a host that shuts down: the stop request is told first, as the shell does.
    fn all_exit(&mut self) {
        if self.living.is_empty() {
            return;
        }
        let stops = self.chance(0.3);
        if stops {
            self.stop_at.get_or_insert(self.now);
        }
        self.seen.insert(match (stops, self.living.len()) {
            (true, 1) => "stopped and ended at once",
            (true, _) => "stopped and both ended at once",
            (false, 1) => "ended",
            (false, _) => "both ended at once",
        });
        let crashed = self.living.iter().any(|living| !self.supervisor.is_leaving(living.child));
        if crashed && self.living.iter().any(|living| self.now < living.since + self.limits.min_uptime) {
            self.not_before = self.now;
        }
        self.untold.append(&mut self.living);
        let dead: Vec<ChildId> = self.untold.iter().map(|dead| dead.child).collect();
        let exits = dead.into_iter().map(|child| Event::Exited { child, problem: "exit".into() });
        let mut events: Vec<Event<Candidate>> =
            stops.then_some(Event::StopRequested).into_iter().chain(exits).collect();
        if self.chance(0.3) {
            events.push(Event::DeadlinePassed);
        }
        self.tell_all(events);
    }

    /// No more trouble, and the API sends a good config as long as another one is in force.
    fn converge(&mut self) {
        self.trouble = 0.0;
        self.keep_good();
        let (revision, began_at) = (self.new_revision(), self.now);
        for _ in 0..400 {
            let is_alone = self.living.len() == 1 && self.runs_alone();
            if is_alone && self.living[0].revision == revision && self.last_known_good == Some(revision) {
                let trial = self.limits.min_uptime * 2 + GATHER_TIMEOUT + PROBE_TIMEOUT;
                let limit = began_at + trial * 2 + SETTLE_DELAY + LONGEST_WAIT;
                assert!(self.now <= limit, "{:?} until a good config was trusted", self.now - began_at);
                self.seen.insert("converged");
                return;
            }
            if let Some(index) = self.living.iter().position(|living| living.terminated_at.is_some()) {
                self.exit(index);
            } else if self.config != Some(revision) && self.open.is_empty() {
                let candidate = self.candidate_of(revision);
                self.tell(Event::CandidateArrived(candidate));
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
            self.tell(Event::DeadlinePassed);
        }
    }

    /// Some time; the deadline is met late now and then, as on a busy host, but not while a stop is being timed.
    fn sleep(&mut self) {
        let longest = [0.1, 1.0, 10.0, 100.0][self.below(4)];
        let until = self.now + Duration::from_secs_f64(longest * self.random.fraction());
        match self.supervisor.deadline() {
            Some(deadline) if deadline <= until => {
                self.now = if self.stop_at.is_some() { self.now.max(deadline) } else { until };
                self.tell(Event::DeadlinePassed);
            }
            Some(_) | None if self.stop_at.is_some() => {}
            Some(_) | None => self.now = until,
        }
    }

    /// One, or two in a row.
    fn candidate(&mut self) {
        let mut events = vec![Event::CandidateArrived(self.next_candidate())];
        if self.chance(0.2) {
            events.push(Event::CandidateArrived(self.next_candidate()));
        }
        self.tell_all(events);
    }

    fn next_candidate(&mut self) -> Candidate {
        let rejected = self.rejected.iter().min().copied().filter(|_| self.candidates.is_multiple_of(5));
        let revision = rejected.unwrap_or_else(|| self.new_revision());
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
        let health = self.fallible();
        let lives = self.living.iter().any(|living| living.child == child);
        self.well = (lives && health.is_ok()).then_some(child);
        self.tell(Event::Probed { child, health });
        self.well = None;
    }

    fn exit(&mut self, index: usize) {
        if self.living.is_empty() {
            return;
        }
        let living = self.living.remove(index % self.living.len());
        let child = living.child;
        let crashed = !self.supervisor.is_leaving(child);
        let lasted = self.now >= living.since + self.limits.min_uptime;
        if crashed && !lasted && self.living.is_empty() {
            self.not_before = self.now + SHORTEST_DELAY;
        }
        let standing = living.standing;
        self.untold.push(living);
        let (starts, roll_backs, obstacles) = (self.starts, self.roll_backs - self.not_started, self.obstacles);
        self.tell(Event::Exited { child, problem: "exit".into() });
        let on_trial = crashed && standing == TrustLevel::OnProbation;
        let rolled_back = self.roll_backs - self.not_started > roll_backs;
        assert_eq!(rolled_back, on_trial, "what crashes on trial is rolled back, and nothing else");
        if crashed && lasted && self.obstacles == obstacles && self.living.is_empty() {
            let due = self.supervisor.deadline() == Some(self.now);
            assert!(self.starts > starts || due, "a run of min_uptime is followed by a start at once");
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
        self.hand_over = None;
        // An ordinary start from now on.
        let now = self.now;
        self.living.iter_mut().for_each(|left| _ = left.serves_since.get_or_insert(now));
    }

    /// People change the config while nothing runs.
    fn edit_by_hand(&mut self) {
        if self.living.is_empty() {
            self.config = if self.chance(0.5) { None } else { Some(self.new_revision()) };
            self.by_people();
        }
    }

    fn stop(&mut self) {
        self.stop_at.get_or_insert(self.now);
        self.tell(Event::StopRequested);
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
        // Hand-overs.
        "both stopped",
        "handed over",
        "handed over, the old one killed",
        "held",
        "held beside",
        "not handed over",
        "not started beside",
        "nothing left to hand over to",
        "roll back beside failed",
        "rolled back beside",
        "the new one died before it served",
        "the new one died on probation",
        "the new one died while asked",
        "the old one died first",
        "the one that serves died first",
        "took over",
        "took over in part",
        "took over later",
        "could not take over",
    ];
    assert_eq!(seen, BTreeSet::from(everything));
}
