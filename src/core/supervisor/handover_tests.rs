//! The stories of two collectors as scripts: number 1 is the old one, number 2 the new one beside it.

use super::tests::{LIMITS, Script, running, script_with, seconds};
use super::*;
use crate::core::event::TrustLevel::{self, Confirmed, NoFallback, OnProbation, Unconfirmed};
use crate::core::event::{ActivationMode, ExitCause, Health, PortHolder, SpawnResult};

/// How far a hand-over has come.
type Stage = fn() -> Script;

/// The new one was started at 90.4 s, and gets its first connections min_uptime later.
fn gathering_as(trust: TrustLevel) -> Script {
    handover_starting().launched(trust).expect("").state_name(StateName::HandingOver)
}

fn handover_starting() -> Script {
    running().at(90.4).candidate("b").expect("install b to hand over").by_hand_over().expect("spawn the second")
}

fn gathering() -> Script {
    gathering_as(OnProbation)
}

/// It has served since 100.4 s.
fn waiting() -> Script {
    gathering().due_at(100.4).expect("take over 2").took_over().expect("").state_name(StateName::HandingOver)
}

/// It was asked for its health at 110.4 s.
fn probing() -> Script {
    waiting().due_at(110.4).expect("probe 2").state_name(StateName::HandingOver)
}

/// It has proved itself at 111 s, and the old one is ending.
fn handed_over() -> Script {
    probing().at(111.0).healthy().expect("promote, promoted, terminate 1").state_name(StateName::Running)
}

/// It was not healthy at 111 s, and is ending.
fn not_handed_over() -> Script {
    let ill =
        probing().at(111.0).unhealthy().expect("give back 2, undo (unhealthy)").state_name(StateName::HandingOver);
    ill.rolled_back().expect("rolled back (unhealthy), terminate 2").state_name(StateName::Running)
}

const ON_PROBATION: [Stage; 3] = [gathering, waiting, probing];

impl Script {
    fn by_hand_over(self) -> Script {
        self.event(Event::Installed(Ok(ActivationMode::HandOver)))
    }

    fn took_over(self) -> Script {
        let child = ChildId(self.child);
        self.event(Event::TookOver { child, outcome: Ok(()) })
    }

    fn did_not_take_over(self) -> Script {
        self.event(Event::TookOver { child: ChildId(2), outcome: Err("no port".into()) })
    }

    fn said_by(self, child: u64, health: Health) -> Script {
        self.event(Event::Probed { child: ChildId(child), health })
    }

    fn serving(self, child: u64) -> Script {
        assert_eq!(self.supervisor.serving(), Some(ChildId(child)), "at {:?}", self.now);
        self
    }

    /// One runs alone, proved, and nothing is due: it is started again at once if it crashes.
    fn alone(self, child: u64) {
        let alone = self.state_name(StateName::Running).serving(child).exit_of(3 - child).expect("");
        let alone = alone.exit_of(child).state_name(StateName::Starting);
        assert!(["spawn", "record exit 1, spawn"].contains(&alone.orders.as_str()), "{}", alone.orders);
    }

    /// The config is not handed over to, though another one would be.
    fn only_by_restart(self, candidate: &'static str) -> Script {
        let other = self.candidate("z").expect("install z to hand over").not_installed();
        other.candidate(candidate).expect(&format!("install {candidate} to restart")).not_installed()
    }

    /// The config is put into effect by restart; child 3 runs it.
    fn restarted(self, candidate: &'static str) -> Script {
        let stopping = self.candidate(candidate).installed().expect("terminate 1").exit_of(1).expect("spawn");
        stopping.launched(OnProbation).expect("")
    }

    /// The same again, from the beginning of the hand-over that child 3 takes part in.
    fn next_hand_over(self) {
        let both = self.by_hand_over().expect("spawn the second").launched(OnProbation).expect("");
        both.state_name(StateName::HandingOver).exit_of(3).expect("undo (boom)").rolled_back();
    }
}

#[test]
fn the_new_one_takes_over_and_the_old_one_ends() {
    gathering().serving(1);
    waiting().serving(2);
    probing().serving(2);
    handed_over().serving(2).at(112.0).exit_of(1).expect("").alone(2);
}

#[test]
fn it_is_asked_to_take_over_until_it_listens_on_everything() {
    let never_listens = gathering().due_at(100.4).expect("take over 2").did_not_take_over().expect("").serving(1);
    let never_listens = never_listens.due_at(100.5).expect("take over 2").did_not_take_over().expect("").serving(1);
    never_listens.due_at(100.6).expect("take over 2").took_over().due_at(110.6).expect("probe 2");
    // Its probation begins when it serves; the same answer again changes nothing.
    waiting()
        .at(105.0)
        .took_over()
        .expect("")
        .did_not_take_over()
        .expect("")
        .serving(2)
        .due_at(110.4)
        .expect("probe 2");
}

#[test]
fn what_it_does_not_listen_on_in_time_is_left_to_its_probation() {
    let mut script = gathering();
    // From 100.4 s to 105.4 s, ten times a second.
    for attempt in 0..50 {
        assert_eq!(script.supervisor.deadline(), Some(seconds(100.4) + Duration::from_millis(100) * attempt));
        script = script.serving(1).due().expect("take over 2").did_not_take_over().expect("");
    }
    let script = script.serving(1).due_at(105.4).expect("take over 2 in part").took_over().expect("");
    script.serving(2).due_at(115.4).expect("probe 2").healthy().expect("promote, promoted, terminate 1");
    // A host that is too busy to try in time does not wait for ever either.
    let mut late = gathering();
    late.now = seconds(500.0);
    let late = late.event(Event::DeadlinePassed).expect("take over 2 in part").took_over();
    late.serving(2).due_at(510.0).expect("probe 2");
}

#[test]
fn two_run_side_by_side_for_as_long_as_is_reckoned_with_at_most() {
    let script = handover_starting().launched_and_not_ready(OnProbation, true).due_at(150.4).expect("");
    let script = script
        .due_at(160.4)
        .expect("take over 2 in part")
        .took_over()
        .due_at(170.4)
        .expect("probe 2")
        .due_at(175.4)
        .rolled_back();
    let script = script.expect("rolled back (the health check did not answer within 5 s), terminate 2").serving(1);
    assert_eq!(script.supervisor.deadline(), Some(seconds(90.4) + LIMITS.longest_overlap()));
    script.due().expect("kill 2");
}

/// Its health check would be the old one's.
#[test]
fn a_new_one_that_cannot_take_over_in_time_is_not_asked_for_its_health_and_tried_again_by_restart() {
    let mut late = gathering();
    late.now = seconds(161.0);
    let failed = late.event(Event::DeadlinePassed).expect("take over 2 in part").did_not_take_over();
    let failed = failed.expect("give back 2, undo to try again (no port)").serving(1);
    let ended = failed.rolled_back().expect("rolled back (no port), terminate 2").serving(1).exit_of(2).expect("");
    ended.only_by_restart("b").alone(1);
    // Once it serves it is not asked again.
    waiting().did_not_take_over().expect("").serving(2).due_at(110.4).expect("probe 2");
}

#[test]
fn a_new_one_that_is_not_watched_is_asked_to_take_over_once_and_tried_again_by_restart() {
    let unwatched = || handover_starting().launched_as(OnProbation, false).expect("");
    let failed = unwatched().due_at(100.4).expect("take over 2").did_not_take_over();
    let failed = failed.expect("give back 2, undo to try again (no port)").rolled_back();
    failed.expect("rolled back (no port), terminate 2").exit_of(2).expect("").only_by_restart("b").alone(1);
    // Whatever it dies of.
    let died = unwatched().exit_of(2).expect("undo to try again (boom)").rolled_back();
    died.expect("rolled back (boom)").only_by_restart("b").alone(1);
    // Alone it is like any other.
    unwatched().exit_of(1).expect("").exit_of(2).expect("roll back (boom)");
}

const BLAMELESS: [ExitCause; 3] = [
    ExitCause::PortInUse(PortHolder::OtherCollector),
    ExitCause::PortInUse(PortHolder::Unknown),
    ExitCause::LockTimeout,
];

#[test]
fn what_dies_of_the_old_one_is_tried_again_by_restart_and_rejected_if_it_dies_again() {
    for (stage, cause) in ON_PROBATION.into_iter().zip(BLAMELESS) {
        let died = stage().exit_because(2, cause).expect("undo to try again (boom)").rolled_back();
        let again = died.expect("rolled back (boom)").only_by_restart("b").restarted("b");
        again.exit_because(3, cause).expect("roll back (boom)").rolled_back().expect("rolled back (boom), spawn");
    }
    // That is no excuse once the old one is gone.
    let left = gathering().exit_of(1).expect("").exit_because(2, BLAMELESS[0]).expect("roll back (boom)");
    left.rolled_back().expect("rolled back (boom), spawn");
}

#[test]
fn what_dies_by_itself_is_rejected_at_once() {
    for cause in [ExitCause::Unrelated, ExitCause::PortInUse(PortHolder::Itself)] {
        let died = gathering().exit_because(2, cause).expect("undo (boom)").rolled_back();
        died.expect("rolled back (boom)").candidate("b").expect("install b to hand over");
    }
}

/// Whether another collector is beside it or not.
#[test]
fn what_dies_of_another_processs_port_is_tried_later() {
    let cause = ExitCause::PortInUse(PortHolder::OtherProcess);
    let died = gathering().exit_because(2, cause).expect("undo to try later (boom)").rolled_back();
    died.expect("rolled back (boom)").candidate("b").expect("install b to hand over");
    let alone = gathering().exit_of(1).expect("").exit_because(2, cause).expect("roll back to try later (boom)");
    alone.rolled_back().expect("rolled back (boom), spawn");
}

#[test]
fn a_new_one_whose_health_is_not_known_is_tried_again_by_restart() {
    let unknown = || probing().said_by(2, Health::Unknown("who answers?".into()));
    let failed = unknown().expect("give back 2, undo to try again (who answers?)").rolled_back();
    let ended = failed.expect("rolled back (who answers?), terminate 2").exit_of(2).expect("");
    ended.only_by_restart("b").restarted("b").due().expect("probe 3").healthy().expect("promote, promoted").alone(3);
    // A queued one is handed over to all the same.
    let queued = probing().candidate("c").said_by(2, Health::Unknown("who answers?".into())).rolled_back();
    queued.exit_of(2).expect("install c to hand over").next_hand_over();
    // One that was queued is applied by restart if it is the same config.
    let queued = probing().candidate("b").said_by(2, Health::Unknown("who answers?".into())).rolled_back();
    queued.exit_of(2).expect("install b to restart");
}

#[test]
fn the_latest_config_that_could_not_be_handed_over_to_is_remembered() {
    let failed = || gathering().exit_because(2, BLAMELESS[0]).rolled_back().expect("rolled back (boom)");
    let other = failed().candidate("c").expect("install c to hand over").by_hand_over().launched(OnProbation);
    let other = other.exit_because(3, ExitCause::LockTimeout).expect("undo to try again (boom)").rolled_back();
    other.only_by_restart("c").candidate("b").expect("install b to hand over");
}

#[test]
fn a_new_one_that_dies_is_rolled_back_and_the_old_one_stays() {
    for stage in ON_PROBATION {
        let died = || stage().exit_of(2).expect("undo (boom)").state_name(StateName::HandingOver).serving(1);
        died().rolled_back().expect("rolled back (boom)").alone(1);
        died().not_rolled_back().expect("failing (boom; disk full)").alone(1);
    }
}

#[test]
fn a_new_one_with_nothing_to_go_back_to_fails_and_the_old_one_stays() {
    for trust in [NoFallback, Confirmed] {
        gathering_as(trust).exit_of(2).expect("failing (boom)").alone(1);
        let asked = || gathering_as(trust).due().took_over().due().expect("probe 2").at(111.0);
        asked().exit_of(2).expect("failing (boom)").alone(1);
        let ill = asked().unhealthy().expect("give back 2, failing (unhealthy), terminate 2").serving(1);
        ill.due_at(141.0).expect("kill 2").exit_of(2).expect("").alone(1);
    }
    // It has proved itself before.
    let healthy = gathering_as(Confirmed).due().took_over().due().healthy();
    healthy.expect("proved, terminate 1").exit_of(1).expect("").alone(2);
}

#[test]
fn an_unhealthy_new_one_gives_back_and_ends() {
    not_handed_over().serving(1).due_at(141.0).expect("kill 2").idle().exit_of(2).expect("").alone(1);
    not_handed_over().at(112.0).exit_of(2).expect("").alone(1);
    let hung = probing().due_at(115.4).expect("give back 2, undo (the health check did not answer within 5 s)");
    let hung = hung.serving(1).rolled_back();
    let hung = hung.expect("rolled back (the health check did not answer within 5 s), terminate 2");
    hung.healthy().expect("").due_at(145.4).expect("kill 2").exit_of(2).expect("").alone(1);
    let stuck = probing().at(111.0).unhealthy().not_rolled_back().expect("failing (unhealthy; disk full), terminate 2");
    stuck.serving(1).exit_of(2).expect("").alone(1);
}

#[test]
fn a_new_one_that_cannot_be_started_is_rolled_back() {
    let failed = || handover_starting().event(Event::Launched(SpawnResult::Failed("no memory".into())));
    failed().expect("undo to try again (no memory)").rolled_back().expect("rolled back (no memory)").alone(1);
    failed().not_rolled_back().expect("failing (no memory; disk full)").alone(1);
    let missing = || handover_starting().no_config(true).expect("undo to try again (the config file is missing)");
    missing().rolled_back().expect("rolled back (the config file is missing)").alone(1);
    handover_starting().no_config(false).expect("failing (the config file is missing)").alone(1);
}

#[test]
fn when_the_old_one_dies_the_new_one_is_an_ordinary_start() {
    let left = |stage: Stage| stage().exit_of(1).expect("").state_name(StateName::Starting).serving(2);
    // It was not yet the one to serve: its probation begins.
    left(gathering).due_at(100.4).expect("probe 2").healthy().expect("promote, promoted").alone(2);
    left(|| gathering().at(100.3)).took_over().expect("").due_at(110.3).expect("probe 2");
    left(waiting).due_at(110.4).expect("probe 2").healthy().expect("promote, promoted").alone(2);
    left(probing).healthy().expect("promote, promoted").alone(2);
    left(probing).due_at(115.4).expect("roll back (the health check did not answer within 5 s)");
    let ill = left(probing)
        .unhealthy()
        .expect("roll back (unhealthy)")
        .rolled_back()
        .expect("rolled back (unhealthy), terminate 2");
    ill.exit_of(2).expect("spawn");
    // What is left asks with the pauses of any other start.
    left(probing).unhealthy().not_rolled_back().due_at(120.4).expect("probe 2");
    for stage in ON_PROBATION {
        left(stage).exit_of(2).expect("roll back (boom)").rolled_back().expect("rolled back (boom), spawn");
        left(stage).candidate("c").expect("").exit_of(2).rolled_back().expect("rolled back (boom), install c");
        left(stage).restart().expect("");
    }
    left(waiting).stop().expect("terminate 2").due_at(130.4).expect("kill 2").exit_of(2).finished();
    // Before the spawn's answer.
    handover_starting().exit_of(1).expect("").launched(OnProbation).expect("").due_at(100.4).expect("probe 2");
}

#[test]
fn an_old_one_that_dies_before_the_roll_back_is_done_is_replaced_by_what_is_rolled_back_to() {
    let both = || probing().candidate("c").unhealthy().expect("give back 2, undo (unhealthy)").exit_of(1).expect("");
    let rolled_back = both().rolled_back().expect("rolled back (unhealthy), install c, terminate 2");
    rolled_back.installed().expect("").exit_of(2).expect("spawn");
    both()
        .not_rolled_back()
        .expect("failing (unhealthy; disk full), install c")
        .not_installed()
        .due_at(115.4)
        .expect("probe 2");
    both().exit_of(2).expect("roll back (boom)");
    let none = || waiting().candidate("c").exit_of(2).expect("undo (boom)").exit_of(1).expect("");
    none().rolled_back().expect("rolled back (boom), install c").not_installed().due_at(100.4).expect("spawn");
}

#[test]
fn when_the_one_that_serves_dies_the_next_starts_after_the_other_has_ended() {
    let handed_over = || handed_over().at(112.0).exit_of(2).expect("record exit 1").state_name(StateName::Stopping);
    handed_over().at(113.0).exit_of(1).expect("spawn");
    handed_over().due_at(141.0).expect("kill 1").idle().exit_of(1).expect("spawn");
    handed_over().stop().expect("").exit_of(1).finished();
    let not_handed_over = || not_handed_over().at(112.0).exit_of(1).expect("").state_name(StateName::Stopping);
    not_handed_over().due_at(141.0).expect("kill 2").exit_of(2).expect("spawn").launched(Confirmed).expect("");
    // Both have gone, so nothing needs to be asked of either: the candidate takes effect with that start.
    let queued = super::handover_tests::not_handed_over()
        .candidate("c")
        .exit_of(1)
        .expect("install c")
        .by_hand_over()
        .expect("");
    queued.exit_of(2).expect("spawn").launched(OnProbation).expect("").state_name(StateName::Starting);
}

#[test]
fn a_stop_ends_both_and_is_done_when_both_are_gone() {
    for (stage, since) in [(waiting as Stage, 100.4), (probing, 110.4)] {
        let stopping = || stage().stop().expect("terminate 1, terminate 2").state_name(StateName::Stopping);
        stopping().exit_of(1).expect("").exit_of(2).finished();
        stopping().exit_of(2).expect("").state_name(StateName::Stopping).exit_of(1).finished();
        let killed = stopping().stop().expect("").restart().expect("").due_at(since + 30.0);
        let killed = killed.expect("kill 2, kill 1").idle().candidate("c").expect("discard c");
        killed.exit_of(2).expect("").idle().exit_of(1).finished();
        stopping().exit_of(2).expect("").due_at(since + 30.0).expect("kill 1").exit_of(1).finished();
    }
    handover_starting().stop().expect("terminate 1").exit_of(1).finished();
    let rolling_back = || probing().unhealthy().stop().expect("terminate 1, terminate 2");
    rolling_back().rolled_back().expect("").exit_of(1).expect("").exit_of(2).finished();
    waiting().exit_of(2).stop().expect("terminate 1").exit_of(1).finished();
    // The one that was ending anyway keeps its deadline.
    let draining = || handed_over().at(120.0).stop().expect("terminate 2").state_name(StateName::Stopping).serving(2);
    draining()
        .due_at(141.0)
        .expect("kill 1")
        .due_at(150.0)
        .expect("kill 2")
        .exit_of(2)
        .expect("")
        .exit_of(1)
        .finished();
    let draining = not_handed_over().at(120.0).stop().expect("terminate 1").serving(1).due_at(141.0).expect("kill 2");
    draining.exit_of(2).expect("").due_at(150.0).expect("kill 1").exit_of(1).finished();
}

#[test]
fn no_signal_before_either_has_settled() {
    let young = || gathering().at(90.5).stop().expect("terminate 1").serving(1);
    let terminated = || young().due_at(90.8).expect("terminate 2");
    let killed = terminated().due_at(120.5).expect("kill 1").exit_of(1).expect("").due_at(120.8).expect("kill 2");
    killed.exit_of(2).finished();
    terminated().exit_of(1).expect("").due_at(120.8).expect("kill 2").exit_of(2).finished();
    young().exit_of(1).expect("").due_at(90.8).expect("terminate 2").exit_of(2).finished();
    young().exit_of(2).expect("").due_at(120.5).expect("kill 1").exit_of(1).finished();
    // With so short a probation the old one is young too.
    let short = script_with(Limits { min_uptime: seconds(0.1), ..LIMITS }).launched(Confirmed).due_at(0.1).healthy();
    let both = short.at(0.2).candidate("b").by_hand_over().launched(OnProbation).at(0.25).stop().expect("");
    let both = both.due_at(0.4).expect("terminate 1").due_at(0.6).expect("terminate 2");
    both.due_at(30.4).expect("kill 1").due_at(30.6).expect("kill 2").exit_of(1).expect("").exit_of(2).finished();
}

#[test]
fn a_candidate_waits_for_the_verdict() {
    for stage in ON_PROBATION {
        let queued = || stage().candidate("c").expect("").candidate("d").expect("discard c");
        queued().exit_of(2).rolled_back().expect("rolled back (boom), install d to hand over").next_hand_over();
        queued()
            .exit_of(2)
            .not_rolled_back()
            .expect("failing (boom; disk full), install d to hand over")
            .next_hand_over();
    }
    gathering().candidate("c").stop().expect("discard c, terminate 1").state_name(StateName::Stopping);
    probing().candidate("c").stop().expect("discard c, terminate 1, terminate 2").state_name(StateName::Stopping);
}

#[test]
fn a_candidate_waits_until_one_is_alone() {
    let queued = || probing().at(111.0).candidate("c").expect("").healthy().expect("promote, promoted, terminate 1");
    queued().exit_of(1).expect("install c to hand over").next_hand_over();
    queued()
        .candidate("d")
        .expect("discard c")
        .due_at(141.0)
        .expect("kill 1")
        .exit_of(1)
        .expect("install d to hand over");
    queued().exit_of(1).expect("install c to hand over").not_installed().alone(2);
    queued().exit_of(1).expect("install c to hand over").installed().expect("terminate 2").exit_of(2).expect("spawn");
    let queued =
        || probing().at(111.0).candidate("c").unhealthy().rolled_back().expect("rolled back (unhealthy), terminate 2");
    queued().exit_of(2).expect("install c to hand over").next_hand_over();
    queued().stop().expect("discard c, terminate 1").state_name(StateName::Stopping);
    let rolling_back = probing().at(111.0).unhealthy().candidate("c").expect("").candidate("d").expect("discard c");
    rolling_back.rolled_back().exit_of(2).expect("install d to hand over").next_hand_over();
    not_handed_over().candidate("c").expect("").exit_of(2).expect("install c to hand over").next_hand_over();
    handed_over().candidate("c").expect("").exit_of(1).expect("install c to hand over").next_hand_over();
    handover_starting().candidate("c").expect("discard c");
}

#[test]
fn a_restart_request_is_what_it_is_having() {
    gathering().restart().expect("").due_at(100.4).expect("take over 2").took_over();
    waiting().restart().expect("").due_at(110.4).expect("probe 2");
    probing().restart().expect("").healthy().expect("promote, promoted, terminate 1");
    probing().unhealthy().restart().expect("").rolled_back().expect("rolled back (unhealthy), terminate 2");
    handed_over().restart().expect("").exit_of(1).expect("").alone(2);
    not_handed_over().restart().expect("").exit_of(2).expect("").alone(1);
    handover_starting().restart().expect("").launched(OnProbation).expect("");
    // Over, so it is an ordinary one.
    handed_over().exit_of(1).restart().expect("terminate 2").exit_of(2).expect("spawn");
}

#[test]
fn answers_about_the_other_one_change_nothing() {
    for stage in ON_PROBATION {
        stage()
            .said_by(1, Health::Healthy)
            .expect("")
            .said_by(1, Health::Unhealthy("unhealthy".into()))
            .expect("")
            .state_name(StateName::HandingOver);
        stage().said_by(7, Health::Healthy).expect("").said_by(7, Health::Unhealthy("unhealthy".into())).expect("");
        stage().exit_of(7).expect("").state_name(StateName::HandingOver);
    }
    let asked = gathering().event(Event::TookOver { child: ChildId(1), outcome: Ok(()) }).expect("").serving(1);
    asked.due_at(100.4).expect("take over 2");
    // Not asked yet.
    gathering().healthy().expect("").unhealthy().expect("").due_at(100.4).expect("take over 2");
    waiting().healthy().expect("").unhealthy().expect("").due_at(110.4).expect("probe 2");
    handed_over().unhealthy().expect("").serving(2).state_name(StateName::Running);
    not_handed_over().healthy().expect("").took_over().expect("").serving(1).state_name(StateName::Running);
}

#[test]
fn only_a_collector_that_runs_is_handed_over_from() {
    let stopping = running().restart().candidate("b").expect("install b").by_hand_over().expect("");
    stopping.exited().expect("spawn");
    let failing = script_with(LIMITS).launched(NoFallback).due().unhealthy().candidate("b").expect("install b");
    failing.by_hand_over().expect("terminate 1").exited().expect("spawn");
    let waiting = script_with(LIMITS).launched(NoFallback).exited().launched(NoFallback).exited().delayed(1.0);
    let waiting = waiting.candidate("b").by_hand_over();
    waiting.expect("spawn").launched(NoFallback).expect("").state_name(StateName::Starting);
    script_with(LIMITS).no_config(false).candidate("b").by_hand_over().expect("spawn");
}

#[test]
fn the_new_one_takes_over_min_uptime_after_it_is_ready_or_has_had_time_to_be() {
    let started = || handover_starting().launched_and_not_ready(OnProbation, true).expect("").serving(1);
    let ready = started().at(120.0).ready(2).expect("").serving(1).due_at(130.0).expect("take over 2");
    ready.took_over().serving(2).due_at(140.0).expect("probe 2");
    // Once; and nobody else is asked.
    started().at(120.0).ready(2).at(125.0).ready(2).expect("").due_at(130.0).expect("take over 2");
    started().at(120.0).ready(1).expect("").due_at(150.4).expect("").due_at(160.4).expect("take over 2 in part");
    // The old one dies first.
    let left = started().at(120.0).exit_of(1).expect("").state_name(StateName::Starting).serving(2);
    left.ready(2).expect("").due_at(130.0).expect("probe 2").healthy().expect("promote, promoted");
    started().at(120.0).exit_of(1).due_at(150.4).expect("").due_at(160.4).expect("probe 2");
    started().exit_of(2).expect("undo as it did not start (boom)").rolled_back().expect("rolled back (boom)").alone(1);
    started().stop().expect("terminate 1").serving(1);
}

/// The old one has proved itself at 110 s, and crashed once at 150 s.
fn unconfirmed() -> Script {
    let promoted = script_with(LIMITS).launched(OnProbation).at(5.0).due().healthy().expect("promote, promoted");
    let again = promoted.at(50.0).exited().expect("record exit 1, spawn");
    again.launched(UNCONFIRMED).due_at(60.0).expect("probe 2").healthy().expect("proved")
}

const UNCONFIRMED: TrustLevel = Unconfirmed { exits: 1, has_fallback: true };

#[test]
fn an_unconfirmed_config_goes_on_where_it_was_if_its_successor_fails() {
    let both = || unconfirmed().at(100.0).candidate("c").by_hand_over().launched(OnProbation).expect("");
    let undone = || both().at(105.0).exit_of(3).expect("undo (boom)").rolled_back().expect("rolled back (boom)");
    undone().due_at(610.0).expect("confirm").idle();
    undone().exit_of(2).expect("record exit 2").delayed(1.0);
    // It was due while the other one was on probation.
    let mut late = both();
    late.now = seconds(700.0);
    late.exit_of(3).rolled_back().expect("rolled back (boom), confirm").idle();
    // Its file could not be restored, so its collector's exits are none of the active config's.
    let stuck = both().exit_of(3).not_rolled_back().expect("failing (boom; disk full)").idle();
    stuck.exit_of(2).expect("").delayed(1.0);
    // Once the successor has proved itself, that is what is confirmed.
    let proved = both().due().took_over().due().healthy().expect("promote, promoted, terminate 2").exit_of(2);
    proved.due_at(720.0).expect("confirm").idle();
}

#[test]
fn a_third_exit_while_another_one_ends_is_rolled_back_before_the_next_start() {
    let twice = unconfirmed().exited().expect("record exit 2").due().launched(UNCONFIRMED).due().healthy();
    let both = twice.candidate("c").by_hand_over().launched(OnProbation).due().took_over().due().unhealthy();
    let draining = both.rolled_back().expect("rolled back (unhealthy), terminate 4");
    let dead = draining.exit_of(3).expect("record exit 3").state_name(StateName::Stopping).exit_of(4);
    assert!(dead.orders.starts_with("roll back (the collector exited unexpectedly 3 times"), "{}", dead.orders);
    dead.rolled_back().launched(Confirmed).expect("");
}
