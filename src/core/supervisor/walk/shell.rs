//! The shell's part in a walk: it performs what is ordered, and sees whether it may be.

use std::collections::VecDeque;

use super::*;

impl World {
    pub(super) fn tell(&mut self, event: Event<Candidate>) {
        self.tell_all([event]);
    }

    /// Tells the core what has happened meanwhile, as `Supervise::handle` does: all that one event makes it order is done before
    /// anything else is told, and an order's outcome goes before whatever happened besides.
    pub(super) fn tell_all(&mut self, events: impl IntoIterator<Item = Event<Candidate>>) {
        let mut queue: VecDeque<Event<Candidate>> = events.into_iter().collect();
        let mut due = queue.back() == Some(&Event::DeadlinePassed);
        let (mut told, mut to_start, mut interrupted) = (0, None, false);
        while let Some(event) = queue.pop_front() {
            told += 1;
            assert!(told < 30, "events without end");
            if let Event::Exited { child, .. } = &event
                && let Some(index) = self.untold.iter().position(|dead| dead.child == *child)
            {
                let dead = self.untold.remove(index);
                self.end_hand_over(&dead);
            }
            let owed = match &event {
                Event::Installed(Err(problem)) => Some(Verdict::NotInstalled(problem.clone())),
                _ => None,
            };
            self.awaits_verdict |= matches!(event, Event::Installed(Ok(_)));
            self.may_hand_over = self.runs_alone() && event == Event::Installed(Ok(ActivationMode::HandOver));
            let is_cause =
                matches!(event, Event::Installed(Ok(_)) | Event::RolledBack(Ok(())) | Event::RestartRequested);
            let interrupts = std::mem::take(&mut interrupted);
            let nobody_lives = self.living.is_empty() && self.untold.is_empty();
            if is_cause && !interrupts && nobody_lives && self.stop_at.is_none() {
                to_start = Some(self.starts);
            }
            let orders = self.handle(event);
            assert_eq!(orders.contains(&Action::SpawnBeside), self.may_hand_over, "only what runs is handed over from");
            assert!(owed.is_none_or(|verdict| orders.contains(&Action::Conclude(verdict))), "a failure is concluded");
            let answers: Vec<Event<Candidate>> = orders.into_iter().filter_map(|order| self.perform(order)).collect();
            assert!(answers.len() <= 1, "two orders with an answer at once: {answers:?}");
            let waits = match answers.first() {
                Some(Event::Launched(_)) => true,
                Some(Event::RolledBack(_)) => self.living.is_empty() || self.hand_over.is_some(),
                _ => false,
            };
            let is_interrupted = waits && self.stop_at.is_none() && self.trouble > 0.0 && self.chance(0.05);
            answers.into_iter().for_each(|answer| queue.push_front(answer));
            if is_interrupted {
                // The shell promises that it does not, and it would do no harm, but that something may be due at once.
                (due, interrupted) = (false, true);
                let event = self.interruption();
                queue.push_front(event);
            }
        }
        assert!(self.untold.is_empty(), "an exit that nobody was told of");
        let is_due = self.supervisor.deadline() == Some(self.now);
        assert!(
            to_start.is_none_or(|starts| self.starts > starts || is_due),
            "nobody lives, and there is news: no start"
        );
        self.check(due);
    }

    /// What might happen between an order and its answer.
    fn interruption(&mut self) -> Event<Candidate> {
        self.seen.insert("interrupted");
        match self.below(4) {
            0 => Event::DeadlinePassed,
            1 => {
                self.made_up_for();
                Event::RestartRequested
            }
            2 => Event::Exited { child: ChildId(0), problem: "no child of ours".into() },
            _ => Event::CandidateArrived(self.next_candidate()),
        }
    }

    pub(super) fn runs_alone(&self) -> bool {
        self.supervisor.phrase() == StateName::Running && self.hand_over.is_none()
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
            Action::TakeOver { child, in_part } => {
                return Some(Event::TookOver { child, outcome: self.take_over(child, in_part) });
            }
            Action::GiveBack(child) => {
                self.known(child);
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
                self.keep_good();
                let outcome = match (refused, self.pending_writes) {
                    (true, _) => Err("rejected before".into()),
                    (false, Some(_)) => Err("the config in force is not kept yet".into()),
                    (false, None) => self.fallible(),
                };
                if outcome.is_ok() {
                    self.config = Some(candidate.revision);
                    self.made_up_for();
                }
                self.seen.insert(if outcome.is_ok() { "installed" } else { "not installed" });
                let alone = self.living.len() == 1;
                let manner = if alone && self.chance(0.6) { ActivationMode::HandOver } else { ActivationMode::Restart };
                return Some(Event::Installed(outcome.map(|()| manner)));
            }
            Action::Discard(candidate) => self.answered(candidate),
            Action::RollBack(_) => {
                assert!(self.last_known_good.is_some(), "nothing to go back to");
                let is_good = self.config == self.last_known_good;
                assert!(!is_good || self.kept_late, "the last known good is rolled back");
                let outcome = self.fallible();
                if outcome.is_ok() {
                    // What is the last known good by now is not to be rejected; that, too, is the shell's part.
                    self.rejected.extend(self.config.filter(|_| !is_good));
                    // It could not be written, and has failed since.
                    if self.newest_proved == self.config {
                        self.newest_proved = self.last_known_good;
                    }
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
                let serves_since = self.known(child).serves_since.expect("probed when it serves");
                assert!(self.now >= serves_since + self.limits.min_uptime, "probed too early");
                self.probes.push(child);
            }
            Action::Promote => {
                let well = self.well.expect("promoted without a successful probe");
                let living = self.living(well);
                living.standing = TrustLevel::LastKnownGood;
                let (since, revision) = (living.since, Some(living.revision));
                assert!(self.now >= since + self.limits.min_uptime, "promoted too early");
                assert_eq!(revision, self.config, "what is in force is not what has proved itself");
                assert!(revision != self.last_known_good || self.kept_late, "promoted twice");
                self.proved.extend(revision);
                self.newest_proved = revision;
                self.pending_writes = revision;
                self.keep_good();
                self.kept_late = self.pending_writes.is_some();
                self.seen.insert(if self.pending_writes.is_none() { "promoted" } else { "not kept yet" });
            }
            Action::Terminate(child) => {
                let (now, stopping) = (self.now, self.stop_at.is_some());
                let given_up = match &self.hand_over {
                    Some(hand_over) if hand_over.old == child => hand_over.won == Some(true),
                    Some(hand_over) => hand_over.won == Some(false) && hand_over.given_back,
                    None => self.known(child).outdated || self.known(child).withdrawn,
                };
                assert!(given_up || stopping, "a running collector is given up");
                let living = self.known(child);
                assert!(now >= living.since + SETTLE_DELAY, "terminated before it had settled");
                assert_eq!(living.terminated_at.replace(now), None, "terminated twice");
                self.seen.insert("terminated");
            }
            Action::Kill(child) => {
                let (now, stop_timeout) = (self.now, self.limits.stop_timeout);
                let living = self.known(child);
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

    fn spawn(&mut self) -> SpawnResult {
        assert!(self.living.is_empty(), "a start while a child lives");
        assert!(self.untold.is_empty(), "a start before the end of the former one is known");
        assert!(self.now >= self.not_before, "a start before its delay is over");
        let launch = self.launch();
        if matches!(launch, SpawnResult::Failed(_)) {
            self.not_before = self.now + SHORTEST_DELAY;
        }
        launch
    }

    fn spawn_beside(&mut self) -> SpawnResult {
        assert!(std::mem::replace(&mut self.may_hand_over, false), "a hand-over that nobody proposed");
        let [old] = self.living.as_mut_slice() else { panic!("a start beside none or two") };
        assert!(old.judged && !old.withdrawn && old.terminated_at.is_none(), "a start beside one that does not serve");
        // From now on it goes for the new one's sake only.
        old.outdated = false;
        self.hand_over = Some(HandOver { old: old.child, new: None, given_back: false, won: None });
        self.meddle();
        let launch = self.launch();
        if let (SpawnResult::Spawned { child, .. }, Some(hand_over)) = (&launch, &mut self.hand_over) {
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
        if self.trouble == 0.0 {
            return;
        }
        match self.below(60) {
            0 => self.config = None,
            1 => (self.config, self.last_known_good) = (None, None),
            2 => self.config = self.last_known_good,
            3 => self.last_known_good = None,
            _ => {}
        }
        self.by_people();
    }

    /// Files were changed by others: what they took away is not to be kept.
    pub(super) fn by_people(&mut self) {
        if !self.is_kept() {
            self.newest_proved = None;
        }
        self.pending_writes.take_if(|pending_writes| self.config != Some(*pending_writes));
    }

    /// Writes the last known good if that could not be done before, as the shell does whenever it has the chance.
    pub(super) fn keep_good(&mut self) {
        if self.pending_writes.is_some() && self.fallible().is_ok() {
            let pending_writes = self.pending_writes.take();
            // Only what is still in force is kept.
            if self.config == pending_writes {
                self.last_known_good = pending_writes;
                self.kept_late = true;
            }
        }
    }

    /// Starts what is in force.
    fn launch(&mut self) -> SpawnResult {
        self.starts += 1;
        let Some(revision) = self.config else {
            let fallback = self.last_known_good.is_some();
            self.not_started += usize::from(fallback);
            self.seen.insert(if fallback { "config lost" } else { "no config" });
            return SpawnResult::NoConfig { fallback };
        };
        assert!(!self.rejected.contains(&revision), "a rejected config is started");
        let standing = match self.last_known_good {
            Some(good) if good == revision => TrustLevel::LastKnownGood,
            Some(_) => TrustLevel::OnProbation,
            None => TrustLevel::NoFallback,
        };
        // Beside another one a failed spawn is rolled back, which takes something else to go back to.
        if (self.hand_over.is_none() || standing == TrustLevel::OnProbation)
            && let Err(problem) = self.fallible()
        {
            self.not_started += usize::from(self.hand_over.is_some());
            self.seen.insert("spawn failed");
            return SpawnResult::Failed(problem);
        }
        let child = ChildId(self.starts);
        self.living.push(LiveCollector {
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
        SpawnResult::Spawned { child, standing }
    }

    fn take_over(&mut self, child: ChildId, in_part: bool) -> TakeOver {
        let hand_over = self.hand_over.as_ref().expect("there is somebody to take over from");
        let is_due = hand_over.new == Some(child) && hand_over.won.is_none() && !hand_over.given_back;
        assert!(is_due, "the wrong one takes over");
        let (now, min_uptime, outcome) = (self.now, self.limits.min_uptime, self.fallible());
        let living = self.living(child);
        assert!(now >= living.since + min_uptime, "it takes over before it has lived for min_uptime");
        assert_eq!(living.serves_since, None, "it takes over twice");
        assert_eq!(in_part, now >= living.since + min_uptime + GATHER_TIMEOUT, "it is in part when time is up");
        let (outcome, seen) = match (outcome, living.deaf, in_part) {
            (Err(problem), _, true) => (TakeOver::Failed(problem), "could not take over"),
            (Err(_), _, false) | (Ok(()), true, false) => (TakeOver::NotYet, "took over later"),
            (Ok(()), false, _) => (TakeOver::Done, "took over"),
            (Ok(()), true, true) => (TakeOver::Done, "took over in part"),
        };
        if outcome == TakeOver::Done {
            living.serves_since = Some(now);
        }
        self.seen.insert(seen);
        outcome
    }

    /// One that lives, or has died since the core was told something last.
    fn known(&mut self, child: ChildId) -> &mut LiveCollector {
        let known = self.living.iter_mut().chain(&mut self.untold);
        known.into_iter().find(|living| living.child == child).expect("an order about a child that lives")
    }

    fn living(&mut self, child: ChildId) -> &mut LiveCollector {
        self.living.iter_mut().find(|living| living.child == child).expect("an order about a child that lives")
    }

    fn answered(&mut self, candidate: Candidate) {
        let index = self.open.iter().position(|open| *open == candidate).expect("a candidate that is answered once");
        self.open.swap_remove(index);
    }
}
