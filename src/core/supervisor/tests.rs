//! The stories of a collector's life as scripts: what the machine is given, when, and what it orders.
//!
//! Orders are compared as text, one short phrase each. Every state against every event is in `transition_table_tests`,
//! the stories with two collectors are in `handover_tests`.

use super::*;
use crate::core::event::TrustLevel::{Confirmed, NoFallback, OnProbation, Unconfirmed};
use crate::core::event::{
    ActivationMode, Blame, ExitCause, Health, PortHolder, RestartReason, RollBackTarget, SpawnResult, Verdict,
};

/// In the tests a candidate is called by its revision.
impl Candidate for &'static str {
    type Revision = &'static str;

    fn revision(&self) -> &'static str {
        self
    }
}

pub(super) const LIMITS: Limits = Limits {
    min_uptime: Duration::from_secs(10),
    start_timeout: Duration::from_secs(60),
    confirm_time: Duration::from_secs(600),
    stop_timeout: Duration::from_secs(30),
};

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
        Action::RollBack { problem, blame, target } => {
            let blame = match blame {
                Blame::Config => "",
                Blame::Start => " as it did not start",
                Blame::Environment => " to try later",
                Blame::HandOver => " to try again",
            };
            let name = if target == RollBackTarget::Fallback { "roll back" } else { "undo" };
            format!("{name}{blame} ({problem})")
        }
        Action::Probe(ChildId(child)) => format!("probe {child}"),
        Action::Promote => "promote".to_string(),
        Action::Confirm => "confirm".to_string(),
        Action::RecordExit { exits } => format!("record exit {exits}"),
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
    pub(super) child: u64,
    pub(super) orders: String,
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
        .launched(Confirmed)
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

    /// It is ready at once.
    pub(super) fn launched(self, trust: TrustLevel) -> Script {
        self.launched_as(trust, true)
    }

    pub(super) fn launched_as(self, trust: TrustLevel, is_watched: bool) -> Script {
        let launched = self.launched_and_not_ready(trust, is_watched).expect("");
        let child = launched.child;
        launched.ready(child)
    }

    pub(super) fn launched_and_not_ready(mut self, trust: TrustLevel, is_watched: bool) -> Script {
        self.child += 1;
        let child = ChildId(self.child);
        self.event(Event::Launched(SpawnResult::Spawned { child, trust, is_watched }))
    }

    pub(super) fn ready(self, child: u64) -> Script {
        self.event(Event::Ready { child: ChildId(child) })
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
        .launched(Confirmed)
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
fn a_config_that_went_missing_is_replaced_by_the_fallback() {
    let lost = || script().no_config(true).expect("roll back (the config file is missing)");
    lost().rolled_back().expect("rolled back (the config file is missing), spawn").launched(Confirmed).expect("");
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

/// The first crash in ten minutes is followed by a start at once.
fn crashed_once() -> Script {
    script().launched(NoFallback).exited().expect("failing (boom), spawn")
}

#[test]
fn each_crash_in_ten_minutes_waits_longer_up_to_the_cap() {
    for trust in [Confirmed, NoFallback] {
        let mut script = script().launched(trust).exited().expect("failing (boom), spawn");
        for delay in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let crashed = script.launched(trust).exited().expect("failing (boom)");
            script = crashed.delayed(delay).due().expect("spawn");
        }
    }
}

/// It dies seven seconds after each probation.
#[test]
fn a_collector_that_has_proved_itself_waits_longer_too() {
    let mut script = script().launched(Confirmed).due().healthy().exited().expect("spawn");
    for delay in [1.0, 2.0, 4.0, 8.0] {
        let mut proved = script.launched(Confirmed).due().healthy().state_name(StateName::Running);
        proved.now += seconds(7.0);
        script = proved.exited().expect("").delayed(delay).due().expect("spawn");
    }
}

#[test]
fn after_ten_quiet_minutes_a_crash_is_a_first_one_again() {
    let quiet = || crashed_once().launched(NoFallback).exited().delayed(1.0).due().launched(Confirmed).due().healthy();
    quiet().at(300.0).exited().delayed(2.0);
    quiet().at(611.0).exited().expect("spawn");
}

#[test]
fn another_config_does_not_inherit_the_delay_of_the_old() {
    let crashing = || crashed_once().launched(NoFallback).exited().delayed(1.0);
    let installed = crashing().candidate("b").expect("install b").installed().expect("spawn");
    installed.launched(NoFallback).exited().expect("failing (boom), spawn");
    let restored = crashing().due().launched(OnProbation).exited().rolled_back().launched(Confirmed);
    restored.exited().expect("failing (boom), spawn");
    // A restart is no other config.
    crashing().restart().expect("spawn").launched(NoFallback).exited().delayed(2.0);
}

#[test]
fn a_probation_begins_when_the_collector_is_ready_or_has_had_time_enough() {
    let started = || script().launched_and_not_ready(OnProbation, true).expect("").state_name(StateName::Starting);
    let ready = || started().at(50.0).ready(1).expect("").state_name(StateName::Starting);
    ready().due_at(60.0).expect("probe 1").healthy().expect("promote, promoted");
    // It says so once; what another one says is none of its business.
    ready().at(55.0).ready(1).expect("").due_at(60.0).expect("probe 1");
    started().at(50.0).ready(7).expect("").due_at(60.0).expect("").due_at(70.0).expect("probe 1");
    // Its log level may keep it from saying so.
    started().due_at(60.0).expect("").due_at(70.0).expect("probe 1").healthy().expect("promote, promoted");
    started().at(50.0).exited().expect("roll back as it did not start (boom)");
    started().at(50.0).candidate("b").expect("").stop().expect("discard b, terminate 1").exited().finished();
}

#[test]
fn what_never_was_ready_for_something_outside_the_config_is_tried_again() {
    let started = || script().launched_and_not_ready(OnProbation, true);
    let taken = ExitCause::PortInUse(PortHolder::OtherProcess);
    started().exit_because(1, ExitCause::Environment).expect("roll back to try later (boom)");
    started().ready(1).exit_because(1, ExitCause::Environment).expect("roll back (boom)");
    started().due().exit_because(1, ExitCause::Environment).expect("roll back (boom)");
    started().exit_because(1, taken).expect("roll back to try later (boom)");
    started().ready(1).exit_because(1, taken).expect("roll back to try later (boom)");
}

/// ChildId 2 has proved itself at 110 s and is unconfirmed.
fn unconfirmed() -> Script {
    probing().healthy().expect("promote, promoted").state_name(StateName::Running)
}

/// It has crashed twice: at 200 s, and at 220 s, when it had proved itself again.
fn crashed_twice() -> Script {
    let once = unconfirmed().at(200.0).exited().expect("record exit 1, spawn");
    let again = once.launched(UNCONFIRMED).due_at(210.0).expect("probe 3").healthy().expect("proved");
    again.at(220.0).exited().expect("record exit 2").delayed(1.0).due().expect("spawn")
}

const UNCONFIRMED: TrustLevel = Unconfirmed { exits: 1, has_fallback: true };

#[test]
fn what_has_proved_itself_is_confirmed_after_confirm_time_and_never_rolled_back_then() {
    let confirmed = || unconfirmed().due_at(710.0).expect("confirm").state_name(StateName::Running).idle();
    let mut script = confirmed().exited().expect("spawn");
    for _ in 0..5 {
        script = script.launched(Confirmed).exited().expect("failing (boom)").due().expect("spawn");
    }
    // Exits in between change nothing, nor does the time without a collector.
    let proved = crashed_twice().launched(UNCONFIRMED).due().healthy().expect("proved");
    proved.due_at(710.0).expect("confirm").idle();
    let mut late = crashed_twice();
    late.now = seconds(800.0);
    late.launched(UNCONFIRMED).due().expect("probe 4").healthy().expect("proved, confirm").idle();
}

#[test]
fn three_unexpected_exits_roll_an_unconfirmed_config_back() {
    let reason = "the collector exited unexpectedly 3 times within confirm-time (after 100.0 s, 20.0 s, 5.0 s); \
                  the last time: boom";
    let mut third = crashed_twice().launched(UNCONFIRMED);
    third.now += seconds(5.0);
    let third = third.exited().expect(&format!("record exit 3, roll back ({reason})"));
    let restored = third.rolled_back().expect(&format!("rolled back ({reason}), spawn")).launched(Confirmed);
    restored.due().healthy().expect("proved").idle();
    // Proved again or not.
    let proved = crashed_twice().launched(UNCONFIRMED).due().healthy().exited();
    assert!(proved.orders.starts_with("record exit 3, roll back ("), "{}", proved.orders);
    // A candidate that waits comes after that, and goes back to the confirmed one too.
    let queued = crashed_twice().launched(UNCONFIRMED).candidate("c").exited().rolled_back();
    assert!(queued.orders.ends_with(", install c"), "{}", queued.orders);
}

#[test]
fn a_roll_back_of_an_unconfirmed_config_that_fails_is_tried_at_every_exit() {
    let mut script = crashed_twice().launched(UNCONFIRMED).exited();
    for delay in [4.0, 8.0, 16.0] {
        assert!(script.orders.contains("roll back ("), "{}", script.orders);
        script = script.not_rolled_back().delayed(delay).due().expect("spawn").launched(UNCONFIRMED).exited();
    }
    script.rolled_back().launched(Confirmed).due().healthy().idle();
}

#[test]
fn exits_that_were_asked_for_do_not_count() {
    let restarted = unconfirmed().restart().expect("terminate 2").exited().expect("spawn").launched(UNCONFIRMED);
    let restarted = restarted.due().healthy().expect("proved").restart().exited().expect("spawn");
    restarted.launched(UNCONFIRMED).exited().expect("record exit 1, failing (boom), spawn");
}

#[test]
fn with_nothing_to_go_back_to_it_is_restarted_for_as_long_as_it_takes() {
    let lonely = Unconfirmed { exits: 0, has_fallback: false };
    let mut script = script().launched(NoFallback).due().healthy().expect("promote, promoted").due_at(610.0);
    script = script.expect("confirm").restart().exited().launched(lonely).due().healthy().expect("proved");
    script = script.exited().expect("record exit 1, spawn").launched(lonely);
    script = script.exited().expect("record exit 2, failing (boom)").due().launched(lonely);
    script = script.exited().expect("record exit 3, failing (boom)").delayed(2.0).due().launched(lonely);
    // That it has crashed three times is written once. The time starts anew with each further start.
    script = script.due().healthy().expect("proved").exited().expect("").delayed(4.0).due().launched(lonely);
    let started_at = script.now.as_secs_f64();
    let proved = script.due().healthy().expect("proved");
    proved.due_at(started_at + 600.0).expect("confirm").idle();
}

#[test]
fn an_agent_that_finds_an_unconfirmed_config_goes_on_counting_and_starts_the_time_anew() {
    let found = |exits| script().launched(Unconfirmed { exits, has_fallback: true });
    found(0).due().healthy().expect("proved").due_at(600.0).expect("confirm").idle();
    found(1).exited().expect("record exit 2, failing (boom), spawn");
    let third = found(2).exited();
    assert!(third.orders.starts_with("record exit 3, roll back ("), "{}", third.orders);
    // Unhealthy it is not rolled back: a host that boots is slow.
    found(2).due().unhealthy().expect("failing (unhealthy)").state_name(StateName::Starting);
}

#[test]
fn without_confirm_time_a_config_is_confirmed_with_its_probation() {
    let script = script_with(Limits { confirm_time: Duration::ZERO, ..LIMITS });
    let proved = script.launched(OnProbation).due().healthy().expect("promote, confirm, promoted");
    proved.idle().exited().expect("spawn");
}

#[test]
fn a_candidate_over_an_unconfirmed_config_starts_from_nothing() {
    let crashed = unconfirmed().at(200.0).exited().expect("record exit 1, spawn").launched(UNCONFIRMED);
    let replaced = crashed.due().healthy().candidate("c").installed().expect("terminate 3").exited();
    let proved = replaced.launched(OnProbation).due().healthy().expect("promote, promoted");
    proved.exited().expect("record exit 1, spawn");
}

#[test]
fn an_install_stops_starts_and_promotes() {
    probing().healthy().expect("promote, promoted").state_name(StateName::Running);
}

#[test]
fn an_install_that_fails_leaves_the_collector_alone() {
    running().candidate("b").expect("install b to hand over").not_installed().state_name(StateName::Running).idle();
    let delayed = crashed_once().launched(NoFallback).exited().delayed(1.0).candidate("b").expect("install b");
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
    // Otherwise the fallback starts at once…
    rolled_back().not_installed().due_at(105.0).expect("spawn");
    // … and what could be neither rolled back nor replaced starts after a delay.
    queued().not_rolled_back().expect("failing (boom; disk full), install c").not_installed().delayed(1.0);
}

#[test]
fn a_queued_candidate_is_installed_when_there_was_nothing_to_go_back_to() {
    let crashed = || script().launched(NoFallback).candidate("b").exited().expect("failing (boom), install b");
    crashed().installed().expect("spawn");
    crashed().not_installed().due_at(0.0).expect("spawn");
    let again = crashed_once().launched(NoFallback).candidate("b").exited().expect("failing (boom), install b");
    again.not_installed().delayed(1.0);
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
    let started = rolled_back.rolled_back().expect("rolled back (boom), spawn").launched(Confirmed);
    started.due_at(115.0).expect("probe 3").healthy().expect("proved").idle();
    // A fallback that crashes too is delayed like any other.
    let crashed = on_probation().exited().rolled_back().launched(Confirmed).exited().expect("failing (boom), spawn");
    crashed.launched(Confirmed).exited().delayed(1.0);
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
    stopping.at(112.0).exited().expect("spawn").launched(Confirmed).expect("");
}

#[test]
fn an_unhealthy_new_config_that_cannot_be_rolled_back_keeps_running() {
    let stuck = probing()
        .unhealthy()
        .not_rolled_back()
        .expect("failing (unhealthy; disk full)")
        .state_name(StateName::Starting);
    let again = stuck.due_at(120.0).expect("probe 2").unhealthy().expect("roll back (unhealthy)").not_rolled_back();
    again.due_at(140.0).expect("probe 2").healthy().expect("promote, promoted");
}

#[test]
fn an_unhealthy_collector_with_nothing_to_go_back_to_is_asked_again_with_growing_pauses() {
    for trust in [Confirmed, NoFallback] {
        let mut script = script().launched(trust).due_at(10.0).expect("probe 1");
        for (answered, pause) in [(10.0, 10.0), (20.0, 20.0), (40.0, 40.0), (80.0, 60.0), (140.0, 60.0)] {
            let ill = script.unhealthy().expect("failing (unhealthy)").state_name(StateName::Starting);
            script = ill.due_at(answered + pause).expect("probe 1");
        }
        script.healthy().state_name(StateName::Running);
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
    crashed_once().launched(NoFallback).exited().delayed(1.0).restart().expect("spawn");
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
    crashed_once().launched(NoFallback).exited().delayed(1.0).stop().finished();
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
