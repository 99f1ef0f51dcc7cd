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
    /// Since when it is on probation or past it; `None` until a new one beside an old one serves.
    serves_since: Option<Uptime>,
    standing: Standing,
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
    old: Child,
    /// `None` if it could not be started.
    new: Option<Child>,
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
    living: Vec<Living>,
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
            living: Vec::new(),
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
            self.living.iter_mut().for_each(|living| living.outdated = true);
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
            92..96 => self.tell(Event::DeadlinePassed),
            96..98 => self.tell(Event::Exited { child: Child(0), problem: "no child of ours".into() }),
            98 => self.tell(Event::TookOver { child: Child(0), outcome: Ok(()) }),
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
        self.end_hand_over(&living);
        let (starts, roll_backs, obstacles) = (self.starts, self.roll_backs - self.not_started, self.obstacles);
        self.tell(Event::Exited { child, problem: "exit".into() });
        let on_trial = crashed && living.standing == Standing::OnTrial;
        let rolled_back = self.roll_backs - self.not_started > roll_backs;
        assert_eq!(rolled_back, on_trial, "what crashes on trial is rolled back, and nothing else");
        if crashed && lasted && self.obstacles == obstacles && self.living.is_empty() {
            let due = self.supervisor.deadline() == Some(self.now);
            assert!(self.starts > starts || due, "a run of min_uptime is followed by a start at once");
        }
    }

    /// One of the two has ended: that is the end of it, unless the verdict is still to come.
    fn end_hand_over(&mut self, dead: &Living) {
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
                self.awaits_verdict |= matches!(answer, Event::Installed(Ok(_)));
                self.may_hand_over = self.runs_alone() && answer == Event::Installed(Ok(Manner::HandOver));
                let more = self.handle(answer);
                assert_eq!(
                    more.contains(&Action::SpawnBeside),
                    self.may_hand_over,
                    "only what runs is handed over from"
                );
                assert!(owed.is_none_or(|verdict| more.contains(&Action::Conclude(verdict))), "a failure is concluded");
                orders.extend(more);
            }
        }
        self.check(due);
    }

    fn runs_alone(&self) -> bool {
        self.supervisor.phrase() == Phrase::Running && self.hand_over.is_none()
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
            let ends = matches!(order, Action::Discard(_) | Action::Terminate(_) | Action::Kill(_) | Action::Finish);
            assert!(ends, "{order:?} after a stop request");
        }
        match order {
            Action::Spawn => return Some(Event::Launched(self.spawn())),
            Action::SpawnBeside => return Some(Event::Launched(self.spawn_beside())),
            Action::TakeOver(child) => return Some(Event::TookOver { child, outcome: self.take_over(child) }),
            Action::GiveBack(child) => {
                self.living(child);
                let hand_over = self.hand_over.as_mut().expect("there is somebody to give back to");
                assert!(hand_over.new == Some(child) && hand_over.won.is_none(), "given back after the verdict");
                assert!(!std::mem::replace(&mut hand_over.given_back, true), "given back twice");
            }
            Action::Install(candidate) => {
                self.answered(candidate);
                assert!(self.living.iter().all(|living| living.judged), "an install in the middle of a trial");
                assert!(self.hand_over.is_none(), "an install in the middle of a hand-over");
                // The shell's part of the rule: what was rejected is refused.
                let refused = self.rejected.contains(&candidate.revision);
                let outcome = if refused { Err("rejected before".into()) } else { self.fallible() };
                if outcome.is_ok() {
                    self.config = Some(candidate.revision);
                    self.made_up_for();
                }
                self.seen.insert(if outcome.is_ok() { "installed" } else { "not installed" });
                let manner = if self.chance(0.6) { Manner::HandOver } else { Manner::Restart };
                return Some(Event::Installed(outcome.map(|()| manner)));
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
                let (alive, beside) = (!self.living.is_empty(), self.hand_over.is_some());
                self.seen.insert(match (&outcome, alive) {
                    (Err(_), _) if beside => "roll back beside failed",
                    (Ok(()), _) if beside => "rolled back beside",
                    (Err(_), _) => "roll back failed",
                    (Ok(()), true) => "rolled back alive",
                    (Ok(()), false) => "rolled back",
                });
                return Some(Event::RolledBack(outcome));
            }
            Action::Probe(child) => {
                let serves_since = self.living(child).serves_since.expect("probed when it serves");
                assert!(self.now >= serves_since + self.limits.min_uptime, "probed too early");
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
                let given_up = match &self.hand_over {
                    Some(hand_over) if hand_over.old == child => hand_over.won == Some(true),
                    Some(hand_over) => hand_over.won == Some(false) && hand_over.given_back,
                    None => self.living(child).outdated || self.living(child).withdrawn,
                };
                assert!(given_up || stopping, "a running collector is given up");
                let living = self.living(child);
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
            Action::Conclude(verdict) => self.conclude(&verdict),
            Action::Finish => {
                assert!(self.stop_at.is_some(), "finished without a stop request");
                assert!(self.living.is_empty(), "finished with a living child");
                self.finished = true;
            }
        }
        None
    }

    fn conclude(&mut self, verdict: &Verdict) {
        let good = match verdict {
            Verdict::NotInstalled(_) => return,
            Verdict::Promoted | Verdict::Proved => true,
            Verdict::RolledBack(_) | Verdict::Failing(_) => false,
        };
        self.seen.insert(match verdict {
            Verdict::Proved => "proved again",
            Verdict::Failing(_) => "failing",
            Verdict::Promoted | Verdict::RolledBack(_) | Verdict::NotInstalled(_) => "concluded",
        });
        assert!(!good || self.well.is_some(), "proved without a successful probe");
        self.awaits_verdict = false;
        let Some(hand_over) = &mut self.hand_over else {
            self.living.iter_mut().for_each(|living| living.judged = true);
            return;
        };
        assert_eq!(hand_over.won.replace(good), None, "a second verdict");
        let (new, given_back) = (hand_over.new, hand_over.given_back);
        if !self.living.iter().any(|living| Some(living.child) == new) {
            assert!(!good, "one that does not live has proved itself");
            self.hand_over = None;
            self.seen.insert("nothing left to hand over to");
            return;
        }
        assert_ne!(good, given_back, "what has failed keeps the connections, or what has not gives them back");
        assert!(!good || self.well == new, "proved by another one's health");
        for living in &mut self.living {
            let is_new = Some(living.child) == new;
            living.judged |= is_new;
            living.withdrawn = is_new != good;
        }
    }

    fn spawn(&mut self) -> Launch {
        assert!(self.living.is_empty(), "a start while a child lives");
        assert!(self.now >= self.not_before, "a start before its delay is over");
        let launch = self.launch();
        if matches!(launch, Launch::Failed(_)) {
            self.not_before = self.now + SHORTEST_DELAY;
        }
        launch
    }

    fn spawn_beside(&mut self) -> Launch {
        assert!(std::mem::replace(&mut self.may_hand_over, false), "a hand-over that nobody proposed");
        let [old] = self.living.as_mut_slice() else { panic!("a start beside none or two") };
        assert!(old.judged && !old.withdrawn && old.terminated_at.is_none(), "a start beside one that does not serve");
        // From now on it goes for the new one's sake only.
        old.outdated = false;
        self.hand_over = Some(HandOver { old: old.child, new: None, given_back: false, won: None });
        self.meddle();
        let launch = self.launch();
        if let (Launch::Spawned { child, .. }, Some(hand_over)) = (&launch, &mut self.hand_over) {
            hand_over.new = Some(*child);
            let deaf = self.chance(self.trouble);
            let living = self.living(*child);
            (living.serves_since, living.deaf) = (None, deaf);
        } else {
            self.seen.insert("not started beside");
        }
        launch
    }

    /// People change the files at the worst of times.
    fn meddle(&mut self) {
        match self.below(60) {
            0 => self.config = None,
            1 => (self.config, self.last_known_good) = (None, None),
            2 => self.config = self.last_known_good,
            3 => self.last_known_good = None,
            _ => {}
        }
    }

    /// Starts what is in force.
    fn launch(&mut self) -> Launch {
        self.starts += 1;
        let Some(revision) = self.config else {
            let fallback = self.last_known_good.is_some();
            self.not_started += usize::from(fallback);
            self.seen.insert(if fallback { "config lost" } else { "no config" });
            return Launch::NoConfig { fallback };
        };
        assert!(!self.rejected.contains(&revision), "a rejected config is started");
        let standing = match self.last_known_good {
            Some(good) if good == revision => Standing::Proved,
            Some(_) => Standing::OnTrial,
            None => Standing::Alone,
        };
        // Beside another one a failed spawn is rolled back, which takes something else to go back to.
        if (self.hand_over.is_none() || standing == Standing::OnTrial)
            && let Err(problem) = self.fallible()
        {
            self.not_started += usize::from(self.hand_over.is_some());
            self.seen.insert("spawn failed");
            return Launch::Failed(problem);
        }
        let child = Child(self.starts);
        self.living.push(Living {
            child,
            revision,
            since: self.now,
            serves_since: Some(self.now),
            standing,
            judged: false,
            deaf: false,
            outdated: false,
            withdrawn: false,
            terminated_at: None,
            killed: false,
        });
        Launch::Spawned { child, standing }
    }

    fn take_over(&mut self, child: Child) -> Result<(), Problem> {
        let hand_over = self.hand_over.as_ref().expect("there is somebody to take over from");
        let is_due = hand_over.new == Some(child) && hand_over.won.is_none() && !hand_over.given_back;
        assert!(is_due, "the wrong one takes over");
        let (now, min_uptime, outcome) = (self.now, self.limits.min_uptime, self.fallible());
        let living = self.living(child);
        assert!(now >= living.since + min_uptime, "it takes over before it has lived for min_uptime");
        assert_eq!(living.serves_since, None, "it takes over twice");
        let outcome = if living.deaf { Err("deaf".into()) } else { outcome };
        let late = outcome.is_err() && now >= living.since + min_uptime + GATHER_TIMEOUT;
        if outcome.is_ok() || late {
            living.serves_since = Some(now);
            self.seen.insert(if late { "took over in part" } else { "took over" });
        }
        outcome
    }

    fn living(&mut self, child: Child) -> &mut Living {
        self.living.iter_mut().find(|living| living.child == child).expect("an order about a child that lives")
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
        let stopping = self.stop_at.is_some();
        for living in &self.living {
            let leaving = self.supervisor.is_leaving(living.child);
            assert!(living.terminated_at.is_none() || leaving, "{living:?} is to stay after its SIGTERM");
            assert!(!leaving || stopping || living.withdrawn || living.outdated, "{living:?} is to end for no reason");
        }
        assert!(!self.awaits_verdict || !self.runs_alone(), "an install without a verdict");
        let killed = match self.living.as_slice() {
            [] if self.finished => {
                assert!(self.open.is_empty(), "a candidate is held after the end");
                assert_eq!((deadline, self.supervisor.serving()), (None, None), "not idle after the end");
                return;
            }
            [] => {
                assert!(!stopping, "stopped, and not finished");
                assert!(matches!(phrase, Phrase::Stopped | Phrase::Backoff), "{phrase:?} with no child");
                let limit = self.now + LONGEST_WAIT;
                assert!(deadline.is_some_and(|at| at <= limit), "nothing lives and nothing is due: {deadline:?}");
                assert_eq!(self.supervisor.serving(), None);
                return;
            }
            [living] => {
                assert!(self.hand_over.is_none(), "a hand-over with one: {:?}", self.hand_over);
                let leaving = stopping || living.terminated_at.is_some();
                assert!(!leaving || phrase == Phrase::Stopping, "{phrase:?} after a SIGTERM or a stop request");
                assert_eq!(self.supervisor.serving(), Some(living.child));
                self.seen.extend((!self.open.is_empty()).then_some("held"));
                phrase == Phrase::Running || living.killed
            }
            [old, new] => {
                let hand_over = self.hand_over.as_ref().expect("two live in a hand-over only");
                assert_eq!((hand_over.old, hand_over.new), (old.child, Some(new.child)));
                let expected = if hand_over.won.is_none() { Phrase::HandingOver } else { Phrase::Running };
                assert_eq!(phrase, if stopping { Phrase::Stopping } else { expected });
                let leaving = [old, new].map(|living| self.supervisor.is_leaving(living.child));
                assert_eq!(leaving, [old, new].map(|living| stopping || living.withdrawn), "who is to end");
                let new_serves = hand_over.won.unwrap_or(new.serves_since.is_some());
                assert_eq!(self.supervisor.serving(), Some(if new_serves { new } else { old }.child));
                self.seen.extend((!self.open.is_empty()).then_some("held beside"));
                let ending = || [old, new].into_iter().filter(|living| stopping || living.withdrawn);
                ending().count() > 0 && ending().all(|living| living.killed)
            }
            [_, _, _, ..] => panic!("three live"),
        };
        assert_eq!(deadline.is_none(), killed, "{phrase:?} with deadline {deadline:?}");
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
    ];
    assert_eq!(seen, BTreeSet::from(everything));
}
