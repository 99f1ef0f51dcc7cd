//! The stories of two collectors as scripts: number 1 is the old one, number 2 the new one beside it.

use super::tests::{LIMITS, Script, running, script_with, seconds};
use super::*;
use crate::core::event::TrustLevel::{self, LastKnownGood, NoFallback, OnProbation};
use crate::core::event::{ActivationMode, SpawnResult, TakeOver};

/// How far a hand-over has come.
type Stage = fn() -> Script;

/// The new one was started at 90.4 s, and gets its first connections min_uptime later.
fn gathering_as(standing: TrustLevel) -> Script {
    joining().launched(standing).expect("").phrase(StateName::HandingOver)
}

fn joining() -> Script {
    running().at(90.4).candidate("b").expect("install b").by_hand_over().expect("spawn beside")
}

fn gathering() -> Script {
    gathering_as(OnProbation)
}

/// It has served since 100.4 s.
fn waiting() -> Script {
    gathering().due_at(100.4).expect("take over 2").took_over().expect("").phrase(StateName::HandingOver)
}

/// It was asked for its health at 110.4 s.
fn probing() -> Script {
    waiting().due_at(110.4).expect("probe 2").phrase(StateName::HandingOver)
}

/// It has proved itself at 111 s, and the old one is ending.
fn won() -> Script {
    probing().at(111.0).well().expect("promote, promoted, terminate 1").phrase(StateName::Running)
}

/// It was not healthy at 111 s, and is ending.
fn lost() -> Script {
    let ill = probing().at(111.0).ill().expect("give back 2, roll back (ill)").phrase(StateName::HandingOver);
    ill.rolled_back().expect("rolled back (ill), terminate 2").phrase(StateName::Running)
}

const ON_TRIAL: [Stage; 3] = [gathering, waiting, probing];

impl Script {
    fn by_hand_over(self) -> Script {
        self.tell(Event::Installed(Ok(ActivationMode::HandOver)))
    }

    fn took_over(self) -> Script {
        self.tell(Event::TookOver { child: ChildId(2), outcome: TakeOver::Done })
    }

    fn could_not_take_over(self) -> Script {
        self.tell(Event::TookOver { child: ChildId(2), outcome: TakeOver::Failed("cannot be steered".into()) })
    }

    fn did_not_take_over(self) -> Script {
        self.tell(Event::TookOver { child: ChildId(2), outcome: TakeOver::NotYet })
    }

    fn said_by(self, child: u64, health: Result<(), Problem>) -> Script {
        self.tell(Event::Probed { child: ChildId(child), health })
    }

    fn serving(self, child: u64) -> Script {
        assert_eq!(self.supervisor.serving(), Some(ChildId(child)), "at {:?}", self.now);
        self
    }

    /// One runs alone, proved, and nothing is due: it is started again at once if it crashes.
    fn alone(self, child: u64) {
        let alone = self.phrase(StateName::Running).idle().serving(child);
        alone.exit_of(3 - child).expect("").exit_of(child).expect("spawn");
    }

    /// The same again, from the beginning of the hand-over that child 3 takes part in.
    fn next_hand_over(self) {
        let beside = self.by_hand_over().expect("spawn beside").launched(OnProbation).expect("");
        beside.phrase(StateName::HandingOver).exit_of(3).expect("roll back (boom)").rolled_back();
    }
}

#[test]
fn the_new_one_takes_over_and_the_old_one_ends() {
    gathering().serving(1);
    waiting().serving(2);
    probing().serving(2);
    won().serving(2).at(112.0).exit_of(1).expect("").alone(2);
}

#[test]
fn it_is_asked_to_take_over_until_it_listens_on_everything() {
    let deaf = gathering().due_at(100.4).expect("take over 2").did_not_take_over().expect("").serving(1);
    let deaf = deaf.due_at(100.5).expect("take over 2").did_not_take_over().expect("").serving(1);
    deaf.due_at(100.6).expect("take over 2").took_over().due_at(110.6).expect("probe 2");
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
    // From 100.4 s to 130.4 s, ten times a second.
    for look in 0..300 {
        assert_eq!(script.supervisor.deadline(), Some(seconds(100.4) + Duration::from_millis(100) * look));
        script = script.serving(1).due().expect("take over 2").did_not_take_over().expect("");
    }
    let script = script.serving(1).due_at(130.4).expect("take over 2 in part").took_over().expect("");
    script.serving(2).due_at(140.4).expect("probe 2").well().expect("promote, promoted, terminate 1");
    // A host that is too busy to look in time does not wait for ever either.
    let mut late = gathering();
    late.now = seconds(500.0);
    let late = late.tell(Event::DeadlinePassed).expect("take over 2 in part").took_over();
    late.serving(2).due_at(510.0).expect("probe 2");
}

#[test]
fn two_run_side_by_side_for_as_long_as_is_reckoned_with_at_most() {
    let mut script = gathering();
    for _ in 0..300 {
        script = script.due().did_not_take_over();
    }
    let script = script.due_at(130.4).took_over().due_at(140.4).expect("probe 2").due_at(145.4).rolled_back();
    let script = script.expect("rolled back (the health check did not answer within 5 s), terminate 2").serving(1);
    assert_eq!(script.supervisor.deadline(), Some(seconds(90.4) + LIMITS.longest_overlap()));
    script.due().expect("kill 2");
}

/// Its health check would be the old one's.
#[test]
fn a_new_one_that_cannot_take_over_is_not_asked_for_its_health() {
    let failed = gathering().due_at(100.4).expect("take over 2").could_not_take_over();
    let failed = failed.expect("give back 2, roll back (cannot be steered)").serving(1);
    failed
        .rolled_back()
        .expect("rolled back (cannot be steered), terminate 2")
        .serving(1)
        .exit_of(2)
        .expect("")
        .alone(1);
    // Once it serves it is not asked again.
    waiting().could_not_take_over().expect("").serving(2).due_at(110.4).expect("probe 2");
}

#[test]
fn a_new_one_that_dies_is_rolled_back_and_the_old_one_stays() {
    for stage in ON_TRIAL {
        let died = || stage().exit_of(2).expect("roll back (boom)").phrase(StateName::HandingOver).serving(1);
        died().rolled_back().expect("rolled back (boom)").alone(1);
        died().not_rolled_back().expect("failing (boom; disk full)").alone(1);
    }
}

#[test]
fn a_new_one_with_nothing_to_go_back_to_fails_and_the_old_one_stays() {
    for standing in [NoFallback, LastKnownGood] {
        gathering_as(standing).exit_of(2).expect("failing (boom)").alone(1);
        let asked = || gathering_as(standing).due().took_over().due().expect("probe 2").at(111.0);
        asked().exit_of(2).expect("failing (boom)").alone(1);
        let ill = asked().ill().expect("give back 2, failing (ill), terminate 2").serving(1);
        ill.due_at(141.0).expect("kill 2").exit_of(2).expect("").alone(1);
    }
    // It is the last known good already.
    let well = gathering_as(LastKnownGood).due().took_over().due().well();
    well.expect("proved, terminate 1").exit_of(1).expect("").alone(2);
}

#[test]
fn an_unhealthy_new_one_gives_back_and_ends() {
    lost().serving(1).due_at(141.0).expect("kill 2").idle().exit_of(2).expect("").alone(1);
    lost().at(112.0).exit_of(2).expect("").alone(1);
    let hung = probing().due_at(115.4).expect("give back 2, roll back (the health check did not answer within 5 s)");
    let hung = hung.serving(1).rolled_back();
    let hung = hung.expect("rolled back (the health check did not answer within 5 s), terminate 2");
    hung.well().expect("").due_at(145.4).expect("kill 2").exit_of(2).expect("").alone(1);
    let stuck = probing().at(111.0).ill().not_rolled_back().expect("failing (ill; disk full), terminate 2");
    stuck.serving(1).exit_of(2).expect("").alone(1);
}

#[test]
fn a_new_one_that_cannot_be_started_is_rolled_back() {
    let failed = || joining().tell(Event::Launched(SpawnResult::Failed("no memory".into())));
    failed().expect("roll back (no memory)").rolled_back().expect("rolled back (no memory)").alone(1);
    failed().not_rolled_back().expect("failing (no memory; disk full)").alone(1);
    let lost = || joining().no_config(true).expect("roll back (the config file is missing)");
    lost().rolled_back().expect("rolled back (the config file is missing)").alone(1);
    joining().no_config(false).expect("failing (the config file is missing)").alone(1);
}

#[test]
fn when_the_old_one_dies_the_new_one_is_an_ordinary_start() {
    let left = |stage: Stage| stage().exit_of(1).expect("").phrase(StateName::Starting).serving(2);
    // It was not yet the one to serve: its probation begins.
    left(gathering).due_at(100.4).expect("probe 2").well().expect("promote, promoted").alone(2);
    left(|| gathering().at(100.3)).took_over().expect("").due_at(110.3).expect("probe 2");
    left(waiting).due_at(110.4).expect("probe 2").well().expect("promote, promoted").alone(2);
    left(probing).well().expect("promote, promoted").alone(2);
    left(probing).due_at(115.4).expect("roll back (the health check did not answer within 5 s)");
    let ill = left(probing).ill().expect("roll back (ill)").rolled_back().expect("rolled back (ill), terminate 2");
    ill.exit_of(2).expect("spawn");
    // What is left asks with the pauses of any other start.
    left(probing).ill().not_rolled_back().due_at(120.4).expect("probe 2");
    for stage in ON_TRIAL {
        left(stage).exit_of(2).expect("roll back (boom)").rolled_back().expect("rolled back (boom), spawn");
        left(stage).candidate("c").expect("").exit_of(2).rolled_back().expect("rolled back (boom), install c");
        left(stage).restart().expect("");
    }
    left(waiting).stop().expect("terminate 2").due_at(130.4).expect("kill 2").exit_of(2).finished();
    // Before the spawn's answer.
    joining().exit_of(1).expect("").launched(OnProbation).expect("").due_at(100.4).expect("probe 2");
}

#[test]
fn an_old_one_that_dies_before_the_roll_back_is_done_is_replaced_by_what_is_rolled_back_to() {
    let both = || probing().candidate("c").ill().expect("give back 2, roll back (ill)").exit_of(1).expect("");
    let rolled_back = both().rolled_back().expect("rolled back (ill), install c, terminate 2");
    rolled_back.installed().expect("").exit_of(2).expect("spawn");
    both()
        .not_rolled_back()
        .expect("failing (ill; disk full), install c")
        .not_installed()
        .due_at(115.4)
        .expect("probe 2");
    both().exit_of(2).expect("roll back (boom)");
    let none = || waiting().candidate("c").exit_of(2).expect("roll back (boom)").exit_of(1).expect("");
    none().rolled_back().expect("rolled back (boom), install c").not_installed().due_at(100.4).expect("spawn");
}

#[test]
fn when_the_one_that_serves_dies_the_next_starts_after_the_other_has_ended() {
    let won = || won().at(112.0).exit_of(2).expect("").phrase(StateName::Stopping);
    won().at(113.0).exit_of(1).expect("spawn");
    won().due_at(141.0).expect("kill 1").idle().exit_of(1).expect("spawn");
    won().stop().expect("").exit_of(1).finished();
    let lost = || lost().at(112.0).exit_of(1).expect("").phrase(StateName::Stopping);
    lost().due_at(141.0).expect("kill 2").exit_of(2).expect("spawn").launched(LastKnownGood).expect("");
    // Both have gone, so nothing needs to be asked of either: the candidate takes effect with that start.
    let held = super::handover_tests::lost().candidate("c").exit_of(1).expect("install c").by_hand_over().expect("");
    held.exit_of(2).expect("spawn").launched(OnProbation).expect("").phrase(StateName::Starting);
}

#[test]
fn a_stop_ends_both_and_is_done_when_both_are_gone() {
    for (stage, since) in [(waiting as Stage, 100.4), (probing, 110.4)] {
        let stopping = || stage().stop().expect("terminate 1, terminate 2").phrase(StateName::Stopping);
        stopping().exit_of(1).expect("").exit_of(2).finished();
        stopping().exit_of(2).expect("").phrase(StateName::Stopping).exit_of(1).finished();
        let killed = stopping().stop().expect("").restart().expect("").due_at(since + 30.0);
        let killed = killed.expect("kill 2, kill 1").idle().candidate("c").expect("discard c");
        killed.exit_of(2).expect("").idle().exit_of(1).finished();
        stopping().exit_of(2).expect("").due_at(since + 30.0).expect("kill 1").exit_of(1).finished();
    }
    joining().stop().expect("terminate 1").exit_of(1).finished();
    let retreating = || probing().ill().stop().expect("terminate 1, terminate 2");
    retreating().rolled_back().expect("").exit_of(1).expect("").exit_of(2).finished();
    waiting().exit_of(2).stop().expect("terminate 1").exit_of(1).finished();
    // The one that was ending anyway keeps its deadline.
    let parting = || won().at(120.0).stop().expect("terminate 2").phrase(StateName::Stopping).serving(2);
    parting().due_at(141.0).expect("kill 1").due_at(150.0).expect("kill 2").exit_of(2).expect("").exit_of(1).finished();
    let parting = lost().at(120.0).stop().expect("terminate 1").serving(1).due_at(141.0).expect("kill 2");
    parting.exit_of(2).expect("").due_at(150.0).expect("kill 1").exit_of(1).finished();
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
    let short = script_with(Limits { min_uptime: seconds(0.1), ..LIMITS }).launched(LastKnownGood).due_at(0.1).well();
    let both = short.at(0.2).candidate("b").by_hand_over().launched(OnProbation).at(0.25).stop().expect("");
    let both = both.due_at(0.4).expect("terminate 1").due_at(0.6).expect("terminate 2");
    both.due_at(30.4).expect("kill 1").due_at(30.6).expect("kill 2").exit_of(1).expect("").exit_of(2).finished();
}

#[test]
fn a_candidate_waits_for_the_verdict() {
    for stage in ON_TRIAL {
        let held = || stage().candidate("c").expect("").candidate("d").expect("discard c");
        held().exit_of(2).rolled_back().expect("rolled back (boom), install d").next_hand_over();
        held().exit_of(2).not_rolled_back().expect("failing (boom; disk full), install d").next_hand_over();
    }
    gathering().candidate("c").stop().expect("discard c, terminate 1").phrase(StateName::Stopping);
    probing().candidate("c").stop().expect("discard c, terminate 1, terminate 2").phrase(StateName::Stopping);
}

#[test]
fn a_candidate_waits_until_one_is_alone() {
    let held = || probing().at(111.0).candidate("c").expect("").well().expect("promote, promoted, terminate 1");
    held().exit_of(1).expect("install c").next_hand_over();
    held().candidate("d").expect("discard c").due_at(141.0).expect("kill 1").exit_of(1).expect("install d");
    held().exit_of(1).expect("install c").not_installed().alone(2);
    held().exit_of(1).expect("install c").installed().expect("terminate 2").exit_of(2).expect("spawn");
    let held = || probing().at(111.0).candidate("c").ill().rolled_back().expect("rolled back (ill), terminate 2");
    held().exit_of(2).expect("install c").next_hand_over();
    held().stop().expect("discard c, terminate 1").phrase(StateName::Stopping);
    let retreating = probing().at(111.0).ill().candidate("c").expect("").candidate("d").expect("discard c");
    retreating.rolled_back().exit_of(2).expect("install d").next_hand_over();
    lost().candidate("c").expect("").exit_of(2).expect("install c").next_hand_over();
    won().candidate("c").expect("").exit_of(1).expect("install c").next_hand_over();
    joining().candidate("c").expect("discard c");
}

#[test]
fn a_restart_request_is_what_it_is_having() {
    gathering().restart().expect("").due_at(100.4).expect("take over 2").took_over();
    waiting().restart().expect("").due_at(110.4).expect("probe 2");
    probing().restart().expect("").well().expect("promote, promoted, terminate 1");
    probing().ill().restart().expect("").rolled_back().expect("rolled back (ill), terminate 2");
    won().restart().expect("").exit_of(1).expect("").alone(2);
    lost().restart().expect("").exit_of(2).expect("").alone(1);
    joining().restart().expect("").launched(OnProbation).expect("");
    // Over, so it is an ordinary one.
    won().exit_of(1).restart().expect("terminate 2").exit_of(2).expect("spawn");
}

#[test]
fn answers_about_the_other_one_change_nothing() {
    for stage in ON_TRIAL {
        stage().said_by(1, Ok(())).expect("").said_by(1, Err("ill".into())).expect("").phrase(StateName::HandingOver);
        stage().said_by(7, Ok(())).expect("").said_by(7, Err("ill".into())).expect("");
        stage().exit_of(7).expect("").phrase(StateName::HandingOver);
    }
    let asked = gathering().tell(Event::TookOver { child: ChildId(1), outcome: TakeOver::Done }).expect("").serving(1);
    asked.due_at(100.4).expect("take over 2");
    // Not asked yet.
    gathering().well().expect("").ill().expect("").due_at(100.4).expect("take over 2");
    waiting().well().expect("").ill().expect("").due_at(110.4).expect("probe 2");
    won().ill().expect("").serving(2).phrase(StateName::Running);
    lost().well().expect("").took_over().expect("").serving(1).phrase(StateName::Running);
}

#[test]
fn only_a_collector_that_runs_is_handed_over_from() {
    let stopping = running().restart().candidate("b").expect("install b").by_hand_over().expect("");
    stopping.exited().expect("spawn");
    let failing = script_with(LIMITS).launched(NoFallback).due().ill().candidate("b").expect("install b");
    failing.by_hand_over().expect("terminate 1").exited().expect("spawn");
    let waiting = script_with(LIMITS).launched(NoFallback).exited().delayed(1.0).candidate("b").by_hand_over();
    waiting.expect("spawn").launched(NoFallback).expect("").phrase(StateName::Starting);
    script_with(LIMITS).no_config(false).candidate("b").by_hand_over().expect("spawn");
}
