//! Random walks: the machine against a small model of the world, with what must hold after every step.
//!
//! The world plays the shell (it performs orders and answers them at once, well or badly), the collector, the poller and the
//! people. A walk is its seed; one that fails is walked again with its story printed.

use std::collections::{BTreeSet, HashSet};
use std::panic::catch_unwind;

use super::*;
use crate::core::Jitter;
use crate::core::event::{Launch, Manner, Verdict};

const WALKS: u64 = 3000;
const STEPS: usize = 250;
/// The longest wait with nothing alive: the backoff's cap with all its jitter.
const LONGEST_WAIT: Duration = Duration::from_secs(72);
/// The shortest: its first delay with all its jitter.
const SHORTEST_DELAY: Duration = Duration::from_millis(800);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    number: usize,
    revision: usize,
}

#[derive(Debug)]
struct Living {
    child: Child,
    revision: usize,
    since: Uptime,
    standing: Standing,
    /// How its start ended is known.
    judged: bool,
    /// Somebody asked for a restart, or other files are in force than those that it was started with.
    outdated: bool,
    terminated_at: Option<Uptime>,
    killed: bool,
}

struct World {
    random: Jitter,
    loud: bool,
    /// How often things fail in this world, `0.0..1.0`.
    trouble: f64,
    limits: Limits,
    supervisor: Supervisor<Candidate>,
    now: Uptime,
    /// The collector that lives.
    living: Option<Living>,
    /// Spawns that were ordered; also the number of the latest child.
    starts: u64,
    /// Roll backs that were ordered.
    roll_backs: usize,
    /// Roll backs that failed.
    obstacles: usize,
    /// Probes that were ordered and not answered, of dead children too.
    probes: Vec<Child>,
    // The files; a config is its revision.
    config: Option<usize>,
    last_known_good: Option<usize>,
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
    well: Option<Child>,
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
            living: None,
            starts: 0,
            roll_backs: 0,
            obstacles: 0,
            probes: Vec::new(),
            config,
            last_known_good,
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
        if let Some(living) = &mut self.living {
            living.outdated = true;
        }
    }

    // ---- What happens by itself.

    fn walk(&mut self) {
        for _ in 0..STEPS {
            self.step();
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
        if self.living.as_ref().is_some_and(|living| living.killed) && self.chance(0.5) {
            return self.exit();
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
            82..90 => self.exit(),
            90..92 => self.edit_by_hand(),
            92..96 => self.tell(Event::DeadlinePassed),
            96..99 => self.tell(Event::Exited { child: Child(0), problem: "no child of ours".into() }),
            _ if self.chance(0.2) => self.stop(),
            _ => {}
        }
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

    fn candidate(&mut self) {
        self.candidates += 1;
        let rejected = self.rejected.iter().min().copied().filter(|_| self.candidates.is_multiple_of(5));
        let revision = rejected.unwrap_or_else(|| self.new_revision());
        let candidate = Candidate { number: self.candidates, revision };
        self.open.push(candidate);
        self.tell(Event::CandidateArrived(candidate));
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
        let living = self.living.as_ref().map(|living| living.child);
        self.well = living.filter(|living| *living == child && health.is_ok());
        self.tell(Event::Probed { child, health });
        self.well = None;
    }

    fn exit(&mut self) {
        let Some(living) = self.living.take() else {
            return;
        };
        let crashed = self.supervisor.phrase() != Phrase::Stopping;
        let lasted = self.now >= living.since + self.limits.min_uptime;
        if crashed && !lasted {
            self.not_before = self.now + SHORTEST_DELAY;
        }
        let (starts, roll_backs, obstacles) = (self.starts, self.roll_backs, self.obstacles);
        self.tell(Event::Exited { child: living.child, problem: "exit".into() });
        let on_trial = crashed && living.standing == Standing::OnTrial;
        assert_eq!(self.roll_backs > roll_backs, on_trial, "what crashes on trial is rolled back, and nothing else");
        if crashed && lasted && self.obstacles == obstacles {
            let due = self.supervisor.deadline() == Some(self.now);
            assert!(self.starts > starts || due, "a run of min_uptime is followed by a start at once");
        }
    }

    /// People change the config while nothing runs.
    fn edit_by_hand(&mut self) {
        if self.living.is_none() {
            self.config = if self.chance(0.5) { None } else { Some(self.new_revision()) };
        }
    }

    fn stop(&mut self) {
        self.stop_at.get_or_insert(self.now);
        self.tell(Event::StopRequested);
    }

    // ---- The shell: what is ordered, and whether it may be.

    /// Tells the core and performs what it orders; each order's outcome is fed back before anything else happens.
    fn tell(&mut self, event: Event<Candidate>) {
        let due = event == Event::DeadlinePassed;
        let mut orders = self.handle(event);
        let mut given = 0;
        while given < orders.len() {
            let order = orders[given].clone();
            given += 1;
            assert!(given < 20, "orders without end");
            if let Some(answer) = self.perform(order) {
                let owed = match &answer {
                    Event::Installed(Err(problem)) => Some(Verdict::NotInstalled(problem.clone())),
                    _ => None,
                };
                let more = self.handle(answer);
                assert!(owed.is_none_or(|verdict| more.contains(&Action::Conclude(verdict))), "a failure is concluded");
                orders.extend(more);
            }
        }
        self.check(due);
    }

    fn handle(&mut self, event: Event<Candidate>) -> Vec<Action<Candidate>> {
        let told = self.loud.then(|| format!("{:?} {event:?}", self.now));
        let rolled_back = matches!(event, Event::RolledBack(Ok(())));
        let orders = self.supervisor.handle(self.now, event);
        if let Some(told) = told {
            println!("{told} -> {orders:?}\n    {:?}", self.supervisor.state);
        }
        let concluded = orders.iter().any(|order| matches!(order, Action::Conclude(Verdict::RolledBack(_))));
        assert_eq!(concluded, rolled_back, "a roll back is concluded when it is done, and nothing else is one");
        let promoted = orders.contains(&Action::Conclude(Verdict::Promoted));
        assert_eq!(promoted, orders.contains(&Action::Promote), "a promotion is concluded, and nothing else is one");
        orders
    }

    fn perform(&mut self, order: Action<Candidate>) -> Option<Event<Candidate>> {
        assert!(!self.finished || matches!(order, Action::Discard(_)), "{order:?} after the end");
        if self.stop_at.is_some() {
            use Action::{Install, Probe, Promote, RollBack, Spawn};
            let starts = matches!(order, Spawn | Install(_) | RollBack(_) | Promote | Probe(_));
            assert!(!starts, "{order:?} after a stop request");
        }
        match order {
            Action::Spawn => return Some(Event::Launched(self.spawn())),
            Action::SpawnBeside | Action::TakeOver(_) | Action::GiveBack(_) => unreachable!("no hand-over"),
            Action::Install(candidate) => {
                self.answered(candidate);
                assert!(self.living.as_ref().is_none_or(|living| living.judged), "an install in the middle of a trial");
                // The shell's part of the rule: what was rejected is refused.
                let refused = self.rejected.contains(&candidate.revision);
                let outcome = if refused { Err("rejected before".into()) } else { self.fallible() };
                if outcome.is_ok() {
                    self.config = Some(candidate.revision);
                    self.made_up_for();
                }
                self.seen.insert(if outcome.is_ok() { "installed" } else { "not installed" });
                return Some(Event::Installed(outcome.map(|()| Manner::Restart)));
            }
            Action::Discard(candidate) => self.answered(candidate),
            Action::RollBack(_) => {
                assert!(self.last_known_good.is_some(), "nothing to go back to");
                assert_ne!(self.config, self.last_known_good, "the last known good is rolled back");
                let outcome = self.fallible();
                if outcome.is_ok() {
                    self.rejected.extend(self.config);
                    self.config = self.last_known_good;
                    self.made_up_for();
                } else {
                    self.obstacles += 1;
                }
                self.roll_backs += 1;
                let alive = self.living.is_some();
                self.seen.insert(match (&outcome, alive) {
                    (Err(_), _) => "roll back failed",
                    (Ok(()), true) => "rolled back alive",
                    (Ok(()), false) => "rolled back",
                });
                return Some(Event::RolledBack(outcome));
            }
            Action::Probe(child) => {
                let due_at = self.living(child).since + self.limits.min_uptime;
                assert!(self.now >= due_at, "probed too early");
                self.probes.push(child);
            }
            Action::Promote => {
                let well = self.well.expect("promoted without a successful probe");
                let living = self.living(well);
                living.standing = Standing::Proved;
                let (since, revision) = (living.since, Some(living.revision));
                assert!(self.now >= since + self.limits.min_uptime, "promoted too early");
                assert_eq!(revision, self.config, "what is in force is not what has proved itself");
                assert_ne!(revision, self.last_known_good, "promoted twice");
                self.last_known_good = revision;
                self.seen.insert("promoted");
            }
            Action::Terminate(child) => {
                let (now, stopping) = (self.now, self.stop_at.is_some());
                let living = self.living(child);
                assert!(living.outdated || stopping, "a running collector is given up");
                assert!(now >= living.since + SETTLE_DELAY, "terminated before it had settled");
                assert_eq!(living.terminated_at.replace(now), None, "terminated twice");
                self.seen.insert("terminated");
            }
            Action::Kill(child) => {
                let (now, stop_timeout) = (self.now, self.limits.stop_timeout);
                let living = self.living(child);
                assert!(living.terminated_at.is_some_and(|at| now >= at + stop_timeout), "killed too early");
                assert!(!std::mem::replace(&mut living.killed, true), "killed twice");
                self.seen.insert("killed");
            }
            Action::Conclude(verdict) => {
                if let Some(living) = &mut self.living {
                    living.judged |= !matches!(verdict, Verdict::NotInstalled(_));
                }
                self.seen.insert(match verdict {
                    Verdict::Proved => "proved again",
                    Verdict::Failing(_) => "failing",
                    Verdict::Promoted | Verdict::RolledBack(_) | Verdict::NotInstalled(_) => "concluded",
                });
            }
            Action::Finish => {
                assert!(self.stop_at.is_some(), "finished without a stop request");
                assert!(self.living.is_none(), "finished with a living child");
                self.finished = true;
            }
        }
        None
    }

    fn spawn(&mut self) -> Launch {
        assert!(self.living.is_none(), "a start while a child lives");
        assert!(self.now >= self.not_before, "a start before its delay is over");
        self.starts += 1;
        let Some(revision) = self.config else {
            let fallback = self.last_known_good.is_some();
            self.seen.insert(if fallback { "config lost" } else { "no config" });
            return Launch::NoConfig { fallback };
        };
        assert!(!self.rejected.contains(&revision), "a rejected config is started");
        if let Err(problem) = self.fallible() {
            self.not_before = self.now + SHORTEST_DELAY;
            self.seen.insert("spawn failed");
            return Launch::Failed(problem);
        }
        let child = Child(self.starts);
        let standing = match self.last_known_good {
            Some(good) if good == revision => Standing::Proved,
            Some(_) => Standing::OnTrial,
            None => Standing::Alone,
        };
        self.living = Some(Living {
            child,
            revision,
            since: self.now,
            standing,
            judged: false,
            outdated: false,
            terminated_at: None,
            killed: false,
        });
        Launch::Spawned { child, standing }
    }

    fn living(&mut self, child: Child) -> &mut Living {
        self.living.as_mut().filter(|living| living.child == child).expect("an order about a child that lives")
    }

    fn answered(&mut self, candidate: Candidate) {
        let index = self.open.iter().position(|open| *open == candidate).expect("a candidate that is answered once");
        self.open.swap_remove(index);
    }

    // ---- What holds whenever the shell goes to sleep.

    fn check(&mut self, due: bool) {
        let deadline = self.supervisor.deadline();
        let phrase = self.supervisor.phrase();
        assert!(self.open.len() <= 1, "more than one candidate is held: {:?}", self.open);
        if due {
            assert!(deadline.is_none_or(|at| at > self.now), "the deadline stays in the past: {deadline:?}");
        }
        match &self.living {
            None if self.finished => assert!(deadline.is_none() && self.open.is_empty(), "not idle after the end"),
            None => {
                assert!(self.stop_at.is_none(), "stopped, and not finished");
                assert!(matches!(phrase, Phrase::Stopped | Phrase::Backoff), "{phrase:?} with no child");
                let limit = self.now + LONGEST_WAIT;
                assert!(deadline.is_some_and(|at| at <= limit), "nothing lives and nothing is due: {deadline:?}");
            }
            Some(living) => {
                let stopping = living.terminated_at.is_some();
                assert!(!stopping || phrase == Phrase::Stopping, "{phrase:?} after a SIGTERM");
                assert!(self.stop_at.is_none() || phrase == Phrase::Stopping, "{phrase:?} after a stop request");
                let by_itself = phrase == Phrase::Running || living.killed;
                assert_eq!(deadline.is_none(), by_itself, "{phrase:?} with deadline {deadline:?}");
            }
        }
        if let Some(stop_at) = self.stop_at.filter(|_| !self.finished) {
            let limit = stop_at + SETTLE_DELAY + self.limits.stop_timeout;
            assert!(self.now <= limit, "a stop that takes too long");
        }
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
        "concluded",
        "config lost",
        "failing",
        "installed",
        "killed",
        "no config",
        "not installed",
        "promoted",
        "proved again",
        "roll back failed",
        "rolled back",
        "rolled back alive",
        "spawn failed",
        "terminated",
    ];
    assert_eq!(seen, BTreeSet::from(everything));
}
