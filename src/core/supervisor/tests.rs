//! The stories of a collector's life as scripts: what the machine is given, when, and what it orders.
//!
//! Orders are compared as text, one short phrase each. Every state against every event is in `transition_table_tests`,
//! the stories with two collectors are in `handover_tests`.

use super::*;
use crate::core::event::TrustLevel::{LastKnownGood, NoFallback, OnProbation};
use crate::core::event::{ActivationMode, Blame, ExitCause, Health, RestartReason, SpawnResult, Verdict};

/// In the tests a candidate is called by its revision.
impl Candidate for &'static str {
    type Revision = &'static str;

    fn revision(&self) -> &'static str {
        self
    }
}

pub(super) const LIMITS: Limits = Limits { min_uptime: Duration::from_secs(10), stop_timeout: Duration::from_secs(30) };

pub(super) fn seconds(seconds: f64) -> Uptime {
    Duration::from_secs_f64(seconds)
}

pub(super) fn text(actions: Vec<Action<&str>>) -> String {
    let text = |action| match action {
        Action::Spawn => "spawn".to_string(),
        Action::SpawnSecond => "spawn the second".to_string(),
        Action::TakeOver { child: ChildId(child), in_part } => {
            format!("take over {child}{}", if in_part { " in part" } else { "" })
        }
        Action::GiveBack(ChildId(child)) => format!("give back {child}"),
        Action::Terminate(ChildId(child)) => format!("terminate {child}"),
        Action::Kill(ChildId(child)) => format!("kill {child}"),
        Action::Install { candidate, hand_over: Ok(()) } => format!("install {candidate} to hand over"),
        Action::Install { candidate, hand_over: Err(RestartReason::NothingToHandOverFrom) } => {
            format!("install {candidate}")
        }
        Action::Install { candidate, hand_over: Err(RestartReason::HandOverFailed) } => {
            format!("install {candidate} to restart")
        }
        Action::Discard(candidate) => format!("discard {candidate}"),
        Action::RollBack { problem, blame: Blame::Config } => format!("roll back ({problem})"),
        Action::RollBack { problem, blame: Blame::OtherProcess } => format!("roll back to try later ({problem})"),
        Action::RollBack { problem, blame: Blame::HandOver } => format!("roll back to try again ({problem})"),
        Action::Probe(ChildId(child)) => format!("probe {child}"),
        Action::Promote => "promote".to_string(),
        Action::Conclude(Verdict::Promoted) => "promoted".to_string(),
        Action::Conclude(Verdict::Proved) => "proved".to_string(),
        Action::Conclude(Verdict::RolledBack(problem)) => format!("rolled back ({problem})"),
        Action::Conclude(Verdict::Failing(problem)) => format!("failing ({problem})"),
        Action::Conclude(Verdict::NotInstalled(problem)) => format!("not installed ({problem})"),
        Action::Finish => "finish".to_string(),
    };
    actions.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A supervisor that is given one event after another, and the orders that the last one led to.
pub(super) struct Script {
    pub(super) supervisor: Supervisor<&'static str>,
    pub(super) now: Uptime,
    /// The number of the child that was spawned last.
    child: u64,
    orders: String,
}

/// The agent has just started and ordered its first spawn.
fn script() -> Script {
    script_with(LIMITS)
}

pub(super) fn script_with(limits: Limits) -> Script {
    let supervisor = Supervisor::new(limits, 42);
    Script { supervisor, now: Uptime::ZERO, child: 0, orders: String::new() }.due_at(0.0).expect("spawn")
}

/// ChildId 1 has run a proved config since 0 s and has proved itself at 10 s.
pub(super) fn running() -> Script {
    script()
        .launched(LastKnownGood)
        .due_at(10.0)
        .expect("probe 1")
        .healthy()
        .expect("proved")
        .state_name(StateName::Running)
}

/// ChildId 2 has been on probation since 100 s.
fn on_probation() -> Script {
    let stopping =
        running().at(100.0).candidate("b").expect("install b to hand over").installed().expect("terminate 1");
    stopping.exited().expect("spawn").launched(OnProbation).expect("")
}

/// ChildId 2 is on probation, was asked for its health at 110 s and has not answered.
fn probing() -> Script {
    on_probation().due_at(110.0).expect("probe 2")
}

impl Script {
    pub(super) fn event(mut self, event: Event<&'static str>) -> Script {
        self.orders = text(self.supervisor.handle(self.now, event));
        self
    }

    #[track_caller]
    pub(super) fn expect(self, orders: &str) -> Script {
        assert_eq!(self.orders, orders, "at {:?}", self.now);
        self
    }

    /// Time goes on, to no deadline.
    #[track_caller]
    pub(super) fn at(mut self, now: f64) -> Script {
        let now = seconds(now);
        let deadline = self.supervisor.deadline();
        assert!(self.now <= now && deadline.is_none_or(|at| now < at), "{now:?} after {:?}, {deadline:?}", self.now);
        self.now = now;
        self
    }

    #[track_caller]
    pub(super) fn due_at(self, deadline: f64) -> Script {
        assert_eq!(self.supervisor.deadline(), Some(seconds(deadline)), "at {:?}", self.now);
        self.due()
    }

    pub(super) fn due(mut self) -> Script {
        self.now = self.supervisor.deadline().expect("a deadline");
        self.event(Event::DeadlinePassed)
    }

    /// Nothing will happen by itself.
    #[track_caller]
    pub(super) fn idle(self) -> Script {
        assert_eq!(self.supervisor.deadline(), None, "at {:?}", self.now);
        self
    }

    #[track_caller]
    pub(super) fn state_name(self, state_name: StateName) -> Script {
        assert_eq!(self.supervisor.state_name(), state_name, "at {:?}", self.now);
        self
    }

    /// In backoff for `delay` seconds, ±20 %.
    pub(super) fn delayed(self, delay: f64) -> Script {
        let script = self.state_name(StateName::Backoff);
        let wait = (script.supervisor.deadline().unwrap() - script.now).as_secs_f64();
        assert!((delay * 0.8..=delay * 1.2).contains(&wait), "{wait} for {delay} at {:?}", script.now);
        script
    }

    pub(super) fn launched(self, trust: TrustLevel) -> Script {
        self.launched_as(trust, true)
    }

    pub(super) fn launched_as(mut self, trust: TrustLevel, is_watched: bool) -> Script {
        self.child += 1;
        let child = ChildId(self.child);
        self.event(Event::Launched(SpawnResult::Spawned { child, trust, is_watched }))
    }

    pub(super) fn no_config(self, fallback: bool) -> Script {
        self.event(Event::Launched(SpawnResult::NoConfig { fallback }))
    }

    pub(super) fn exited(self) -> Script {
        let child = self.child;
        self.exit_of(child)
    }

    pub(super) fn exit_of(self, child: u64) -> Script {
        self.exit_because(child, ExitCause::Unrelated)
    }

    pub(super) fn exit_because(self, child: u64, cause: ExitCause) -> Script {
        self.event(Event::Exited { child: ChildId(child), problem: "boom".into(), cause })
    }

    pub(super) fn candidate(self, candidate: &'static str) -> Script {
        self.event(Event::CandidateArrived(candidate))
    }

    pub(super) fn installed(self) -> Script {
        self.event(Event::Installed(Ok(ActivationMode::Restart)))
    }

    pub(super) fn not_installed(self) -> Script {
        self.event(Event::Installed(Err("disk full".into()))).expect("not installed (disk full)")
    }

    pub(super) fn rolled_back(self) -> Script {
        self.event(Event::RolledBack(Ok(())))
    }

    pub(super) fn not_rolled_back(self) -> Script {
        self.event(Event::RolledBack(Err("disk full".into())))
    }

    pub(super) fn healthy(self) -> Script {
        let child = ChildId(self.child);
        self.event(Event::Probed { child, health: Health::Healthy })
    }

    pub(super) fn unhealthy(self) -> Script {
        let child = ChildId(self.child);
        self.event(Event::Probed { child, health: Health::Unhealthy("unhealthy".into()) })
    }

    pub(super) fn restart(self) -> Script {
        self.event(Event::RestartRequested)
    }

    pub(super) fn stop(self) -> Script {
        self.event(Event::StopRequested)
    }

    pub(super) fn finished(self) {
        let finished = self.expect("finish").state_name(StateName::Stopped).idle().restart().expect("");
        finished.candidate("z").expect("discard z").idle();
    }
}

#[test]
fn boot_with_a_proved_config() {
    script()
        .state_name(StateName::Starting)
        .launched(LastKnownGood)
        .state_name(StateName::Starting)
        .due_at(10.0)
        .expect("probe 1")
        .healthy();
    running().idle();
}

#[test]
fn boot_without_config_is_started_again_until_a_candidate_arrives() {
    let stopped = script().no_config(false).expect("").state_name(StateName::Stopped);
    let spawned = stopped.due_at(60.0).expect("spawn").no_config(false).expect("");
    let installed = spawned.at(70.0).candidate("b").expect("install b").installed().expect("spawn");
    let asked = installed.launched(NoFallback).due_at(80.0).expect("probe 1");
    asked.healthy().expect("promote, promoted").state_name(StateName::Running);
}

#[test]
fn a_config_that_went_missing_is_replaced_by_the_last_known_good() {
    let lost = || script().no_config(true).expect("roll back (the config file is missing)");
    lost().rolled_back().expect("rolled back (the config file is missing), spawn").launched(LastKnownGood).expect("");
    let failed = lost().not_rolled_back().expect("failing (the config file is missing; disk full)").delayed(1.0);
    failed.due().expect("spawn").no_config(true).not_rolled_back().delayed(2.0);
}

#[test]
fn a_spawn_that_fails_is_tried_again_and_again() {
    let mut script = script();
    for delay in [1.0, 2.0, 4.0] {
        let failed = script.event(Event::Launched(SpawnResult::Failed("no collector".into())));
        script = failed.expect("failing (no collector)").delayed(delay).due().expect("spawn");
    }
}

#[test]
fn a_crash_after_min_uptime_restarts_at_once() {
    running().at(11.0).exited().expect("spawn").state_name(StateName::Starting);
    // Asked for its health, and gone before it answered.
    script().launched(NoFallback).due_at(10.0).expect("probe 1").at(12.0).exited().expect("failing (boom), spawn");
}

#[test]
fn crashes_before_min_uptime_wait_longer_each_time_up_to_the_cap() {
    for trust in [LastKnownGood, NoFallback] {
        let mut script = script();
        for delay in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let crashed = script.launched(trust).exited().expect("failing (boom)");
            script = crashed.delayed(delay).due().expect("spawn");
        }
    }
}

#[test]
fn a_run_of_min_uptime_resets_the_delay() {
    let crashed_twice =
        || script().launched(NoFallback).exited().due().launched(NoFallback).exited().delayed(2.0).due();
    let asked = || crashed_twice().launched(NoFallback).due().expect("probe 3");
    asked().healthy().exited().expect("spawn").launched(NoFallback).exited().delayed(1.0);
    asked().unhealthy().exited().expect("failing (boom), spawn").launched(NoFallback).exited().delayed(1.0);
    // Unhealthy, but it did run: the restart that an operator asks for starts from the first delay too.
    asked().unhealthy().restart().exited().expect("spawn").launched(NoFallback).exited().delayed(1.0);
    // It went just as its probation was over, and the agent hears of that first.
    let mut late = crashed_twice().launched(NoFallback);
    late.now += LIMITS.min_uptime;
    late.exited().expect("failing (boom), spawn").launched(NoFallback).exited().delayed(1.0);
    // A new config that ran for long and cannot be rolled back.
    let crashed = crashed_twice().launched(OnProbation).due().exited().expect("roll back (boom)");
    crashed.not_rolled_back().delayed(1.0);
}

#[test]
fn a_new_config_does_not_inherit_the_delay_of_the_old() {
    let crashing = script().launched(NoFallback).exited().due().launched(NoFallback).exited().delayed(2.0);
    let installed = crashing.candidate("b").expect("install b").installed().expect("spawn");
    installed.launched(NoFallback).exited().delayed(1.0);
}

#[test]
fn an_install_stops_starts_and_promotes() {
    probing().healthy().expect("promote, promoted").state_name(StateName::Running).idle().exited().expect("spawn");
}

#[test]
fn an_install_that_fails_leaves_the_collector_alone() {
    running().candidate("b").expect("install b to hand over").not_installed().state_name(StateName::Running).idle();
    let delayed = script().launched(NoFallback).exited().delayed(1.0).candidate("b").expect("install b");
    delayed.not_installed().delayed(1.0).due().expect("spawn");
}

#[test]
fn of_two_candidates_in_a_row_the_second_is_started() {
    let stopping = running().candidate("b").installed().expect("terminate 1");
    let both = stopping.at(12.0).candidate("c").expect("install c").installed().expect("");
    both.exited().expect("spawn").launched(OnProbation).expect("");
    on_probation().candidate("c").expect("").candidate("d").expect("discard c").stop().expect("discard d");
}

#[test]
fn a_queued_candidate_is_installed_when_the_probation_ended_well() {
    let queued = on_probation().at(105.0).candidate("c").expect("").due_at(110.0).expect("probe 2");
    let promoted = queued.healthy().expect("promote, promoted, install c to hand over");
    promoted.installed().expect("terminate 2").exited().expect("spawn").launched(OnProbation).expect("");
}

#[test]
fn a_queued_candidate_is_installed_when_the_probation_ended_in_a_crash() {
    let queued = || on_probation().at(105.0).candidate("c").expect("").exited().expect("roll back (boom)");
    let rolled_back = || queued().rolled_back().expect("rolled back (boom), install c");
    rolled_back().installed().expect("spawn").launched(OnProbation).expect("");
    // Otherwise the last known good starts at once…
    rolled_back().not_installed().due_at(105.0).expect("spawn");
    // … and what could be neither rolled back nor replaced starts after a delay.
    queued().not_rolled_back().expect("failing (boom; disk full), install c").not_installed().delayed(1.0);
}

#[test]
fn a_queued_candidate_is_installed_when_there_was_nothing_to_go_back_to() {
    let crashed = || script().launched(NoFallback).candidate("b").exited().expect("failing (boom), install b");
    crashed().installed().expect("spawn");
    crashed().not_installed().delayed(1.0);
    // It had been up long enough to be started at once.
    let late = script().launched(NoFallback).due_at(10.0).candidate("b").exited().expect("failing (boom), install b");
    late.not_installed().due_at(10.0).expect("spawn");
}

#[test]
fn a_queued_candidate_is_installed_when_the_probation_ended_unhealthy() {
    let unhealthy = || probing().candidate("c").expect("").unhealthy().expect("roll back (unhealthy)");
    let rolled_back = unhealthy().rolled_back().expect("rolled back (unhealthy), install c, terminate 2");
    rolled_back.installed().expect("").exited().expect("spawn");
    let stuck = unhealthy().not_rolled_back().expect("failing (unhealthy; disk full), install c");
    stuck.installed().expect("terminate 2").exited().expect("spawn");
}

#[test]
fn a_new_config_that_crashes_is_rolled_back_at_once() {
    let rolled_back = on_probation().at(105.0).exited().expect("roll back (boom)").state_name(StateName::Backoff);
    let started = rolled_back.rolled_back().expect("rolled back (boom), spawn").launched(LastKnownGood);
    started.due_at(115.0).expect("probe 3").healthy().expect("proved").idle();
    // A last known good that crashes too is delayed like any other.
    let crashed = on_probation().exited().rolled_back().launched(LastKnownGood).exited().expect("failing (boom)");
    crashed.delayed(1.0);
}

#[test]
fn a_roll_back_that_fails_is_tried_at_every_crash() {
    let mut script = on_probation();
    for delay in [1.0, 2.0, 4.0] {
        let crashed = script.exited().expect("roll back (boom)").not_rolled_back().expect("failing (boom; disk full)");
        script = crashed.delayed(delay).due().expect("spawn").launched(OnProbation);
    }
    script.exited().rolled_back().expect("rolled back (boom), spawn");
}

#[test]
fn an_unhealthy_new_config_is_rolled_back_then_stopped_then_replaced() {
    let late = probing().due_at(115.0).expect("roll back (the health check did not answer within 5 s)");
    late.rolled_back().expect("rolled back (the health check did not answer within 5 s), terminate 2");
    let stopping = probing().at(111.0).unhealthy().expect("roll back (unhealthy)").rolled_back();
    let stopping = stopping.expect("rolled back (unhealthy), terminate 2").state_name(StateName::Stopping);
    stopping.at(112.0).exited().expect("spawn").launched(LastKnownGood).expect("");
}

#[test]
fn an_unhealthy_new_config_that_cannot_be_rolled_back_keeps_running() {
    let stuck = probing()
        .unhealthy()
        .not_rolled_back()
        .expect("failing (unhealthy; disk full)")
        .state_name(StateName::Starting);
    let again = stuck.due_at(120.0).expect("probe 2").unhealthy().expect("roll back (unhealthy)").not_rolled_back();
    again.due_at(140.0).expect("probe 2").healthy().expect("promote, promoted").idle();
}

#[test]
fn an_unhealthy_collector_with_nothing_to_go_back_to_is_asked_again_with_growing_pauses() {
    for trust in [LastKnownGood, NoFallback] {
        let mut script = script().launched(trust).due_at(10.0).expect("probe 1");
        for (answered, pause) in [(10.0, 10.0), (20.0, 20.0), (40.0, 40.0), (80.0, 60.0), (140.0, 60.0)] {
            let ill = script.unhealthy().expect("failing (unhealthy)").state_name(StateName::Starting);
            script = ill.due_at(answered + pause).expect("probe 1");
        }
        script.healthy().state_name(StateName::Running).idle();
    }
}

#[test]
fn pauses_stay_between_the_probe_timeout_and_the_cap() {
    for (min_uptime, pause) in [(0.0, 5.0), (300.0, 60.0)] {
        let script = script_with(Limits { min_uptime: seconds(min_uptime), ..LIMITS });
        let ill = script.launched(NoFallback).due_at(min_uptime).expect("probe 1").unhealthy();
        ill.due_at(min_uptime + pause).expect("probe 1");
    }
}

#[test]
fn answers_about_other_children_and_given_up_probes_change_nothing() {
    let stale = probing().event(Event::Probed { child: ChildId(1), health: Health::Healthy }).expect("");
    let stale =
        stale.event(Event::Probed { child: ChildId(1), health: Health::Unhealthy("unhealthy".into()) }).expect("");
    stale
        .event(Event::Exited { child: ChildId(1), problem: "boom".into(), cause: ExitCause::Unrelated })
        .expect("")
        .state_name(StateName::Starting);
    on_probation().healthy().expect("").state_name(StateName::Starting);
    script()
        .launched(NoFallback)
        .due()
        .due()
        .expect("failing (the health check did not answer within 5 s)")
        .healthy()
        .expect("");
}

#[test]
fn a_restart_reaps_the_old_collector_before_it_starts_the_new() {
    let stopping = running().restart().expect("terminate 1").state_name(StateName::Stopping).restart().expect("");
    stopping.at(39.0).exited().expect("spawn");
    running().restart().due_at(40.0).expect("kill 1").idle().restart().expect("").exited().expect("spawn");
    // Where nothing lives it is a start; where one has just been started it is nothing.
    script().no_config(false).restart().expect("spawn");
    script().launched(NoFallback).exited().delayed(1.0).restart().expect("spawn");
    on_probation().restart().expect("").due_at(110.0).expect("probe 2").restart().expect("");
    script().launched(NoFallback).due().unhealthy().restart().expect("terminate 1");
}

#[test]
fn a_stop_ends_it_from_wherever_it_is() {
    running().stop().expect("terminate 1").due_at(40.0).expect("kill 1").idle().stop().expect("").exited().finished();
    running().stop().at(11.0).exited().finished();
    on_probation().at(105.0).candidate("c").stop().expect("discard c, terminate 2").exited().finished();
    probing().candidate("c").stop().expect("discard c, terminate 2").exited().finished();
    probing().unhealthy().not_rolled_back().stop().expect("terminate 2").exited().finished();
    script().no_config(false).stop().finished();
    script().launched(NoFallback).exited().delayed(1.0).stop().finished();
}

#[test]
fn a_stop_during_a_restart_keeps_its_deadline_and_starts_nothing() {
    let stopping = running().restart().expect("terminate 1").at(20.0).stop().expect("");
    let killed = stopping.candidate("b").expect("discard b").due_at(40.0).expect("kill 1");
    killed.exited().finished();
}

#[test]
fn no_signal_before_the_collector_has_settled() {
    let young = || script().launched(NoFallback).at(0.1).stop().expect("").state_name(StateName::Stopping);
    young().due_at(0.4).expect("terminate 1").due_at(30.4).expect("kill 1").exited().finished();
    young().at(0.2).exited().finished();
    script().launched(NoFallback).at(0.4).stop().expect("terminate 1").due_at(30.4).expect("kill 1");
}
