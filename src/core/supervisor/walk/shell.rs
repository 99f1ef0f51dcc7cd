//! The shell's part in a walk: it performs what is ordered, and sees whether it may be.

use std::collections::VecDeque;

use super::*;

impl World {
    pub(super) fn event(&mut self, event: Event<Candidate>) {
        self.events([event]);
    }

    /// Gives the core what has happened meanwhile, as `Supervise::handle` does: all that one event makes it order is
    /// done before the next event, and an order's outcome goes before whatever happened besides.
    pub(super) fn events(&mut self, events: impl IntoIterator<Item = Event<Candidate>>) {
        let mut queue: VecDeque<Event<Candidate>> = events.into_iter().collect();
        let mut due = queue.back() == Some(&Event::DeadlinePassed);
        let (mut handled, mut to_start, mut interrupted) = (0, None, false);
        while let Some(event) = queue.pop_front() {
            handled += 1;
            assert!(handled < 30, "events without end");
            self.is_excused = self.excuses(&event);
            self.is_environment = self.blames_environment(&event);
            self.is_not_ready =
                matches!(&event, Event::Exited { child, .. } if self.supervisor.awaited() == Some(*child));
            self.exits_to_record = self.exits_after(&event);
            if let Event::Exited { child, .. } = &event
                && let Some(index) = self.unreported.iter().position(|dead| dead.child == *child)
            {
                let dead = self.unreported.remove(index);
                self.end_hand_over(&dead);
            }
            if let Event::Exited { child, .. } = &event
                && let Some(index) = self.crashed.iter().position(|crashed| crashed == child)
            {
                self.crashed.swap_remove(index);
                if self.live.is_empty() && self.unreported.is_empty() {
                    self.delays.exited(self.now);
                }
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
            let none_lives = self.live.is_empty() && self.unreported.is_empty();
            if is_cause && !interrupts && none_lives && self.stop_at.is_none() {
                to_start = Some(self.starts);
            }
            let orders = self.handle(event);
            assert_eq!(orders.contains(&Action::SpawnSecond), self.may_hand_over, "only what runs is handed over from");
            let recorded = orders.iter().any(|order| matches!(order, Action::RecordExit { .. }));
            assert_eq!(recorded, self.exits_to_record.is_some(), "each exit of an unconfirmed config is written down");
            assert!(owed.is_none_or(|verdict| orders.contains(&Action::Conclude(verdict))), "a failure is concluded");
            let answers: Vec<Event<Candidate>> = orders.into_iter().filter_map(|order| self.perform(order)).collect();
            assert!(answers.len() <= 1, "two orders with an answer at once: {answers:?}");
            let waits = match answers.first() {
                Some(Event::Launched(_)) => true,
                Some(Event::RolledBack(_)) => self.live.is_empty() || self.hand_over.is_some(),
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
        assert!(self.unreported.is_empty(), "an exit that was not reported");
        let is_due = self.supervisor.deadline() == Some(self.now);
        assert!(
            to_start.is_none_or(|starts| self.starts > starts || is_due),
            "no collector lives, and there is news: no start"
        );
        self.check(due);
    }

    /// What might happen between an order and its answer.
    fn interruption(&mut self) -> Event<Candidate> {
        self.seen.insert("interrupted");
        match self.below(4) {
            0 => Event::DeadlinePassed,
            1 => {
                self.outdate();
                Event::RestartRequested
            }
            2 => Event::Exited { child: ChildId(0), problem: "no child of ours".into(), cause: self.cause() },
            _ => Event::CandidateArrived(self.next_candidate()),
        }
    }

    /// Whether a hand-over that fails by this does not speak against its config.
    fn excuses(&self, event: &Event<Candidate>) -> bool {
        let Some(HandOver { new, is_watched, won: None, .. }) = &self.hand_over else { return false };
        let Some(new) = new else { return true };
        match event {
            _ if !is_watched => true,
            Event::Exited { child, cause, .. } => child == new && CAUSES[..3].contains(cause),
            Event::Probed { child, health } => child == new && matches!(health, Health::Unknown(_)),
            Event::TookOver { child, outcome } => child == new && outcome.is_err(),
            _ => false,
        }
    }

    /// Whether what fails by this failed for something outside its config.
    fn blames_environment(&self, event: &Event<Candidate>) -> bool {
        let Event::Exited { child, cause, .. } = event else { return false };
        match cause {
            ExitCause::PortInUse(PortHolder::OtherProcess) => true,
            ExitCause::Environment => self.supervisor.awaited() == Some(*child),
            _ => false,
        }
    }

    /// How often the active config has crashed with this event, if it is unconfirmed and that is to be written down.
    fn exits_after(&mut self, event: &Event<Candidate>) -> Option<u32> {
        let Event::Exited { child, .. } = event else { return None };
        let dead = self.unreported.iter().find(|dead| dead.child == *child)?;
        let is_verdict_due = self.hand_over.as_ref().is_some_and(|hand_over| hand_over.won.is_none());
        if self.supervisor.is_terminating(*child) || is_verdict_due || self.config != Some(dead.revision) {
            return None;
        }
        let generation = self.generations.find(dead.revision)?;
        (!generation.is_confirmed && generation.exits < MAX_EXITS).then_some(generation.exits + 1)
    }

    /// The hand-over has failed.
    fn hand_over_failed(&mut self, revision: usize) {
        if self.is_excused {
            (self.restart_only, self.owed_a_restart) = (Some(revision), Some(revision));
        }
    }

    pub(super) fn runs_alone(&self) -> bool {
        self.supervisor.state_name() == StateName::Running && self.hand_over.is_none()
    }

    fn handle(&mut self, event: Event<Candidate>) -> Vec<Action<Candidate>> {
        let line = self.verbose.then(|| format!("{:?} {event:?}", self.now));
        let rolled_back = matches!(event, Event::RolledBack(Ok(())));
        let orders = self.supervisor.handle(self.now, event);
        if let Some(line) = line {
            println!("{line} -> {orders:?}\n    {:?}", self.supervisor.state);
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
            Action::SpawnSecond => return Some(Event::Launched(self.spawn_second())),
            Action::TakeOver { child, in_part } => {
                return Some(Event::TookOver { child, outcome: self.take_over(child, in_part) });
            }
            Action::GiveBack(child) => {
                self.known(child);
                let hand_over = self.hand_over.as_mut().expect("there is a collector to give back to");
                assert!(hand_over.new == Some(child) && hand_over.won.is_none(), "given back after the verdict");
                assert!(!std::mem::replace(&mut hand_over.given_back, true), "given back twice");
            }
            Action::Install { candidate, hand_over } => {
                self.answered(candidate);
                let expected = match self.runs_alone() {
                    false => Err(RestartReason::NothingToHandOverFrom),
                    true if self.restart_only == Some(candidate.revision) => Err(RestartReason::HandOverFailed),
                    true => Ok(()),
                };
                assert_eq!(hand_over, expected, "whether {candidate:?} may be handed over to");
                self.installed = Some(candidate.revision);
                assert!(self.live.iter().all(|live| live.judged), "an install in the middle of a probation");
                assert!(self.hand_over.is_none(), "an install in the middle of a hand-over");
                // The shell's part of the rule: what was rejected is refused.
                let refused = self.rejected.contains(&candidate.revision);
                self.write_generations();
                let outcome = match (refused, self.generations.is_unwritten) {
                    (true, _) => Err("rejected before".into()),
                    (false, true) => Err("the active config is not kept yet".into()),
                    (false, false) => self.fallible(),
                };
                if outcome.is_ok() {
                    self.postponed.take_if(|postponed| *postponed == candidate.revision);
                    self.config = Some(candidate.revision);
                    self.outdate();
                }
                self.seen.insert(match (&outcome, hand_over) {
                    (Ok(()), Err(RestartReason::HandOverFailed)) => "installed to be restarted",
                    (Ok(()), _) => "installed",
                    (Err(_), _) => "not installed",
                });
                let is_eligible = hand_over.is_ok() && self.live.len() == 1 && self.chance(0.6);
                let mode = if is_eligible { ActivationMode::HandOver } else { ActivationMode::Restart };
                if outcome.is_ok() && !is_eligible {
                    self.delays.reset();
                    self.generations.stop_clocks();
                }
                return Some(Event::Installed(outcome.map(|()| mode)));
            }
            Action::Discard(candidate) => self.answered(candidate),
            Action::RollBack { blame, target, .. } => {
                let fallback = self.generations.fallback(self.config).expect("there is something to go back to");
                let generation = self.config.and_then(|config| self.generations.find(config));
                let is_failed = generation.is_some();
                if let Some(generation) = generation {
                    assert!(!generation.is_confirmed, "a confirmed config is rolled back");
                    assert_eq!(generation.exits, MAX_EXITS, "rolled back before it has crashed three times");
                    (self.crashed_too_often, _) = (true, self.seen.insert("rolled back late"));
                }
                let expected = match (is_failed, self.is_excused, self.is_environment) {
                    // It has served before, and could not be started again.
                    (true, _, true) => Blame::Environment,
                    (true, ..) => Blame::Config,
                    (false, true, _) => Blame::HandOver,
                    (false, false, true) => Blame::Environment,
                    (false, false, false) if self.is_not_ready => Blame::Start,
                    (false, false, false) => Blame::Config,
                };
                assert_eq!(blame, expected, "what is to blame");
                let predecessor = self.hand_over.as_ref().map(|hand_over| hand_over.old);
                let restored = match (target, predecessor) {
                    (RollBackTarget::Predecessor, Some(old)) => self.known(old).revision,
                    (RollBackTarget::Fallback, None) => fallback,
                    (target, old) => panic!("{target:?} beside {old:?}"),
                };
                if let Some(hand_over) = &self.hand_over {
                    self.hand_over_failed(hand_over.revision);
                }
                self.delays.take_back(self.now);
                let outcome = self.fallible();
                self.stuck = self.config.filter(|_| outcome.is_err());
                if outcome.is_ok() {
                    let rejected = self.config.filter(|_| matches!(blame, Blame::Config | Blame::Start));
                    let is_owed = rejected.is_some() && self.owed_a_restart == rejected;
                    assert!(!is_owed, "{rejected:?} is rejected, and was not tried without the old collector");
                    if rejected.is_some() && self.restart_only == rejected {
                        self.seen.insert("rejected after a restart");
                    }
                    self.rejected.extend(rejected);
                    if blame == Blame::Environment {
                        self.postponed = self.config;
                    }
                    self.generations.forget(self.config);
                    self.config = Some(restored);
                    if target == RollBackTarget::Fallback {
                        self.generations.stop_clocks();
                        self.delays.reset();
                    }
                    self.outdate();
                } else {
                    self.obstacles += 1;
                    if self.live.is_empty() {
                        self.delays.failed(self.now);
                    }
                }
                self.roll_backs += 1;
                let (alive, is_handover) = (!self.live.is_empty(), self.hand_over.is_some());
                self.seen.insert(match (&outcome, alive) {
                    (Err(_), _) if is_handover => "roll back failed in a hand-over",
                    (Ok(()), _) if blame == Blame::Environment => "rolled back to try later",
                    (Ok(()), _) if is_handover && blame == Blame::HandOver => "rolled back to try again",
                    (Ok(()), _) if is_handover => "rejected after a hand-over",
                    (Err(_), _) => "roll back failed",
                    (Ok(()), true) => "rolled back alive",
                    (Ok(()), false) => "rolled back",
                });
                return Some(Event::RolledBack(outcome));
            }
            Action::Probe(child) => {
                let serves_since = self.known(child).serves_since.expect("probed when it serves");
                assert!(self.now >= serves_since + self.limits.min_uptime, "probed too early");
                let ready_since = self.ready_since(child);
                assert!(self.now >= ready_since + self.limits.min_uptime, "probed before it was ready for long enough");
                self.probes.push(child);
            }
            Action::Promote => {
                let healthy = self.healthy.expect("promoted without a successful probe");
                let ready_since = self.ready_since(healthy);
                let live = self.live(healthy);
                live.trust = TrustLevel::Unconfirmed { exits: 0, has_fallback: false };
                let revision = live.revision;
                assert!(self.now >= ready_since + self.limits.min_uptime, "promoted too early");
                assert_eq!(Some(revision), self.config, "what is active is not what has proved itself");
                assert!(self.generations.find(revision).is_none(), "promoted twice");
                self.generations.prove(revision, Some(self.now));
                self.generations.is_unwritten = true;
                self.write_generations();
                self.seen.insert(if self.generations.is_unwritten { "not kept yet" } else { "promoted" });
            }
            Action::Confirm => {
                let config = self.config.expect("a config that is confirmed");
                let serving = self.supervisor_serves(config);
                assert!(serving, "confirmed without a collector that runs it");
                let (now, confirm_time) = (self.now, self.limits.confirm_time);
                let generation = self.generations.find(config).expect("confirmed before it has proved itself");
                assert!(!std::mem::replace(&mut generation.is_confirmed, true), "confirmed twice");
                assert!(generation.since.is_some_and(|since| now >= since + confirm_time), "confirmed too early");
                let is_failed = generation.exits >= MAX_EXITS && self.generations.fallback(Some(config)).is_some();
                assert!(!is_failed || self.stuck == Some(config), "confirmed after it has crashed three times");
                self.generations.is_unwritten = true;
                self.write_generations();
                self.seen.insert("confirmed");
            }
            Action::RecordExit { exits } => {
                assert_eq!(Some(exits), self.exits_to_record, "how many times it has exited");
                let (now, config) = (self.now, self.config.expect("a config that has crashed"));
                let generation = self.generations.find(config).expect("an unconfirmed config");
                generation.exits = exits;
                if exits == MAX_EXITS {
                    generation.since = Some(now);
                }
                self.seen.insert("exit recorded");
            }
            Action::Terminate(child) => {
                let (now, stopping) = (self.now, self.stop_at.is_some());
                let given_up = match &self.hand_over {
                    Some(hand_over) if hand_over.old == child => hand_over.won == Some(true),
                    Some(hand_over) => hand_over.won == Some(false) && hand_over.given_back,
                    None => self.known(child).is_outdated || self.known(child).lost_hand_over,
                };
                assert!(given_up || stopping, "a running collector is given up");
                let live = self.known(child);
                assert!(now >= live.since + SETTLE_DELAY, "terminated before it had settled");
                assert_eq!(live.terminated_at.replace(now), None, "terminated twice");
                self.seen.insert("terminated");
            }
            Action::Kill(child) => {
                let (now, stop_timeout) = (self.now, self.limits.stop_timeout);
                let live = self.known(child);
                assert!(live.terminated_at.is_some_and(|at| now >= at + stop_timeout), "killed too early");
                assert!(!std::mem::replace(&mut live.killed, true), "killed twice");
                self.seen.insert("killed");
            }
            Action::Conclude(verdict) => self.conclude(&verdict),
            Action::Finish => {
                assert!(self.stop_at.is_some(), "finished without a stop request");
                assert!(self.live.is_empty(), "finished with a live child");
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
        assert!(!good || self.healthy.is_some(), "proved without a successful probe");
        self.awaits_verdict = false;
        let Some(hand_over) = &mut self.hand_over else {
            self.live.iter_mut().for_each(|live| live.judged = true);
            return;
        };
        assert_eq!(hand_over.won.replace(good), None, "a second verdict");
        if good {
            self.delays.reset();
        }
        let (new, given_back, revision) = (hand_over.new, hand_over.given_back, hand_over.revision);
        if matches!(verdict, Verdict::Failing(_)) && self.is_excused {
            self.hand_over_failed(revision);
        }
        if !self.live.iter().any(|live| Some(live.child) == new) {
            assert!(!good, "one that does not live has proved itself");
            self.hand_over = None;
            self.seen.insert("nothing left to hand over to");
            return;
        }
        assert_ne!(good, given_back, "what has failed keeps the connections, or what has not gives them back");
        assert!(!good || self.healthy == new, "proved by another one's health");
        for live in &mut self.live {
            let is_new = Some(live.child) == new;
            live.judged |= is_new;
            live.lost_hand_over = is_new != good;
        }
    }

    fn spawn(&mut self) -> SpawnResult {
        assert!(self.live.is_empty(), "a start while a child lives");
        assert!(self.unreported.is_empty(), "a start before the end of the former one is known");
        assert!(self.now >= self.delays.not_before, "a start before its delay is over");
        self.owed_a_restart.take_if(|owed| self.config == Some(*owed));
        let launch = self.launch();
        if matches!(launch, SpawnResult::Failed(_)) {
            self.delays.failed(self.now);
        }
        launch
    }

    fn spawn_second(&mut self) -> SpawnResult {
        assert!(std::mem::replace(&mut self.may_hand_over, false), "a hand-over that was not proposed");
        let [old] = self.live.as_mut_slice() else { panic!("a start beside none or two") };
        assert!(
            old.judged && !old.lost_hand_over && old.terminated_at.is_none(),
            "a start beside one that does not serve"
        );
        // From now on it goes for the new one's sake only.
        old.is_outdated = false;
        let old_revision = old.revision;
        let (old, revision) = (old.child, self.installed.expect("a config that was installed"));
        assert!(self.restart_only != Some(revision), "a config is handed over to again");
        let is_watched = !self.chance(self.trouble);
        self.hand_over = Some(HandOver { old, new: None, revision, is_watched, given_back: false, won: None });
        self.change_files(old_revision);
        let launch = self.launch();
        if let (SpawnResult::Spawned { child, .. }, Some(hand_over)) = (&launch, &mut self.hand_over) {
            hand_over.new = Some(*child);
            let never_listens = self.chance(self.trouble);
            let live = self.live(*child);
            (live.serves_since, live.never_listens) = (None, never_listens);
        } else {
            self.seen.insert("the second is not started");
        }
        launch
    }

    /// Operators change the files at the worst of times.
    fn change_files(&mut self, old_revision: usize) {
        if self.trouble == 0.0 {
            return;
        }
        match self.below(60) {
            0 => self.config = None,
            // The old one's own would be no other config.
            1 => self.config = self.generations.newest_confirmed().filter(|it| *it != old_revision).or(self.config),
            _ => {}
        }
    }

    /// Writes what could not be written before, as the shell does whenever it has the chance.
    pub(super) fn write_generations(&mut self) {
        if self.generations.is_unwritten && self.fallible().is_ok() {
            self.generations.is_unwritten = false;
        }
    }

    /// Since when a collector counts as ready, at the earliest.
    fn ready_since(&mut self, child: ChildId) -> Uptime {
        let start_timeout = self.limits.start_timeout;
        let live = self.known(child);
        live.ready_at.unwrap_or(live.since + start_timeout)
    }

    fn supervisor_serves(&self, revision: usize) -> bool {
        let serving = self.supervisor.serving();
        self.live.iter().any(|live| Some(live.child) == serving && live.revision == revision)
    }

    /// Starts what is active.
    fn launch(&mut self) -> SpawnResult {
        self.starts += 1;
        let Some(revision) = self.config else {
            let fallback = self.generations.fallback(None).is_some();
            self.not_started += usize::from(fallback);
            self.seen.insert(if fallback { "config lost" } else { "no config" });
            return SpawnResult::NoConfig { fallback };
        };
        assert!(!self.rejected.contains(&revision), "a rejected config is started");
        let trust = self.generations.trust(revision);
        // Beside another one a failed spawn is rolled back, which takes something else to go back to.
        if (self.hand_over.is_none() || trust == TrustLevel::OnProbation)
            && let Err(problem) = self.fallible()
        {
            self.not_started += usize::from(self.hand_over.is_some());
            self.seen.insert("spawn failed");
            return SpawnResult::Failed(problem);
        }
        let now = self.now;
        self.generations.find(revision).into_iter().for_each(|known| _ = known.since.get_or_insert(now));
        let child = ChildId(self.starts);
        self.live.push(LiveCollector {
            child,
            revision,
            since: self.now,
            ready_at: None,
            serves_since: Some(self.now),
            trust,
            judged: false,
            never_listens: false,
            is_outdated: false,
            lost_hand_over: false,
            terminated_at: None,
            killed: false,
        });
        let is_watched = self.hand_over.as_ref().is_none_or(|hand_over| hand_over.is_watched);
        SpawnResult::Spawned { child, trust, is_watched }
    }

    fn take_over(&mut self, child: ChildId, in_part: bool) -> Result<(), Problem> {
        let hand_over = self.hand_over.as_ref().expect("there is a collector to take over from");
        let is_due = hand_over.new == Some(child) && hand_over.won.is_none() && !hand_over.given_back;
        assert!(is_due, "the wrong one takes over");
        let is_watched = hand_over.is_watched;
        let (now, limits, outcome) = (self.now, self.limits, self.fallible());
        let ready_since = self.ready_since(child);
        let live = self.live(child);
        assert!(now >= ready_since + limits.min_uptime, "it takes over before it was ready for min_uptime");
        assert_eq!(live.serves_since, None, "it takes over twice");
        let is_late = live.ready_at.is_none_or(|at| {
            let until = at.max((live.since + limits.start_timeout).min(at + TAKE_OVER_TIMEOUT));
            now >= until + limits.min_uptime
        });
        assert_eq!(in_part, is_late, "it is in part when time is up");
        let later = Err("not yet".to_string());
        let (outcome, seen) = match (outcome, live.never_listens, in_part) {
            _ if !is_watched => (later, "cannot be watched"),
            (Err(problem), _, true) => (Err(problem), "could not take over"),
            (Err(_), _, false) | (Ok(()), true, false) => (later, "took over later"),
            (Ok(()), false, _) => (Ok(()), "took over"),
            (Ok(()), true, true) => (Ok(()), "took over in part"),
        };
        if outcome.is_ok() {
            live.serves_since = Some(now);
        }
        self.seen.insert(seen);
        outcome
    }

    /// One that lives, or has died since the core's latest event.
    fn known(&mut self, child: ChildId) -> &mut LiveCollector {
        let known = self.live.iter_mut().chain(&mut self.unreported);
        known.into_iter().find(|live| live.child == child).expect("an order about a child that lives")
    }

    fn live(&mut self, child: ChildId) -> &mut LiveCollector {
        self.live.iter_mut().find(|live| live.child == child).expect("an order about a child that lives")
    }

    fn answered(&mut self, candidate: Candidate) {
        let index = self.open.iter().position(|open| *open == candidate).expect("a candidate that is answered once");
        self.open.swap_remove(index);
    }
}
