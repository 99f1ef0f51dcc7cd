//! The stories of a rollout as scripts: who asks when, and what follows. The invariants are in `walk`.

use super::*;
use crate::core::Uptime;

fn seconds(seconds: u64) -> Uptime {
    Duration::from_secs(seconds)
}

fn rules() -> Rules {
    Rules { canary_time: None, steps: vec![25, 100], interval: seconds(60), pod_deadline: seconds(1200) }
}

/// A group whose orders are carried out when the script says so.
struct Script {
    group: Group<&'static str>,
    now: Uptime,
    /// What was ordered since the script looked, as text.
    said: Vec<String>,
    order: Option<u64>,
}

const A: Option<&str> = Some("A");
const B: Option<&str> = Some("B");

fn report(active: Option<&'static str>, state: ConfigState) -> PodReport<&'static str> {
    PodReport { active, rejected: None, problem: None, state: Some(state), is_running: true, uptime: None }
}

fn confirmed(active: Option<&'static str>) -> PodReport<&'static str> {
    report(active, ConfigState::Confirmed)
}

fn rejecting(rejected: &'static str) -> PodReport<&'static str> {
    PodReport { rejected: Some(rejected), problem: Some("no such exporter".into()), ..confirmed(A) }
}

impl Script {
    fn of(rules: Rules, record: Record<&'static str>) -> Script {
        Script { group: Group::new(rules, record), now: Uptime::ZERO, said: Vec::new(), order: None }
    }

    /// Everybody has A.
    fn stable() -> Script {
        Script::of(rules(), Record { stable: A, ..Record::default() })
    }

    /// So many pods have asked for as long as it takes to know all.
    fn with_pods(count: usize) -> Script {
        let mut script = Script::stable();
        for _ in 0..6 {
            script.all_ask(0..count, &confirmed(A));
            script.now += seconds(50);
        }
        script
    }

    fn hear(&mut self, actions: Vec<Action<&'static str>>) {
        for action in actions {
            self.said.push(match action {
                Action::Persist { order, record } => {
                    self.order = Some(order);
                    match record.candidate {
                        Some(candidate) => format!("write {} {}", candidate.revision, candidate.stage),
                        None => format!("write {}", record.stable.unwrap_or("nothing")),
                    }
                }
                Action::Rejected(Rejection { revision, reason }) => format!("rejected {revision}: {reason}"),
                Action::Promoted(revision) => format!("promoted {revision}"),
            });
        }
    }

    fn event(&mut self, event: Event<&'static str>) -> Vec<String> {
        let actions = self.group.handle(self.now, event);
        self.hear(actions);
        std::mem::take(&mut self.said)
    }

    fn offer(&mut self, revision: &'static str) -> Vec<String> {
        self.event(Event::Offered(revision))
    }

    /// The latest order is carried out.
    fn written(&mut self) -> Vec<String> {
        let order = self.order.take().expect("an order");
        self.event(Event::Persisted(order))
    }

    /// What it is offered: the revision, "restart" or "".
    fn asks(&mut self, pod: usize, report: &PodReport<&'static str>) -> &'static str {
        let (answer, actions) = self.group.reported(self.now, &PodId(format!("p{pod}")), report);
        self.hear(actions);
        match answer {
            Answer { config: Some(revision), .. } => revision,
            Answer { restart: true, .. } => "restart",
            Answer { .. } => "",
        }
    }

    fn all_ask(&mut self, pods: std::ops::Range<usize>, report: &PodReport<&'static str>) -> Vec<&'static str> {
        pods.map(|pod| self.asks(pod, report)).collect()
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
}

#[test]
fn a_good_config_goes_to_one_then_to_a_step_then_to_all() {
    let mut script = Script::with_pods(8);
    script.asks(0, &confirmed(A));
    assert_eq!(script.offer("B"), ["write B canary p7"], "of those that asked at the same time the last");
    assert_eq!(script.asks(7, &confirmed(A)), "", "not before it is written");
    assert_eq!(script.offer("B"), [""; 0], "it is on its way");
    script.written();
    assert_eq!(script.all_ask(0..8, &confirmed(A)), ["", "", "", "", "", "", "", "B"]);
    for state in [ConfigState::Probation, ConfigState::Unconfirmed] {
        assert_eq!(script.asks(7, &report(B, state)), "");
        assert_eq!(script.said(), [""; 0], "{state:?}");
    }
    script.asks(7, &confirmed(B));
    assert_eq!(script.said(), ["write B step 25% of 2 pods"]);
    assert_eq!(script.all_ask(0..7, &confirmed(A)), [""; 7], "not written");
    script.written();
    assert_eq!(script.all_ask(0..7, &confirmed(A)), ["B", "", "", "", "", "", ""]);
    assert_eq!(script.asks(0, &confirmed(A)), "B", "the answer may have been lost");
    assert_eq!(script.said(), [""; 0]);
    script.asks(0, &confirmed(B));
    assert_eq!(script.said(), ["write B all"]);
    script.written();
    assert_eq!(script.all_ask(1..7, &confirmed(A)), ["B"; 6]);
    script.all_ask(1..6, &confirmed(B));
    assert_eq!(script.said(), [""; 0]);
    // Who comes now is not waited for.
    script.now += seconds(1);
    assert_eq!(script.asks(8, &confirmed(A)), "B");
    script.asks(6, &confirmed(B));
    assert_eq!(script.said(), ["write B", "promoted B"]);
    assert_eq!(script.asks(8, &confirmed(A)), "B");
    assert_eq!(script.written(), [""; 0]);
    assert_eq!(script.offer("B"), [""; 0]);
}

#[test]
fn a_rejection_halts_it_and_sends_back_whoever_took_it() {
    let mut script = Script::with_pods(2);
    script.offer("B");
    script.written();
    assert_eq!(script.asks(1, &confirmed(A)), "B");
    assert_eq!(script.asks(1, &rejecting("B")), "");
    assert_eq!(script.said(), ["write A", "rejected B: pod p1 rejected it: no such exporter"]);
    assert_eq!(script.offer("B"), [""; 0], "again");
    script.written();
    // In the last step.
    script.offer("C");
    script.written();
    script.asks(0, &confirmed(A));
    script.asks(1, &confirmed(Some("C")));
    script.asks(0, &confirmed(Some("C")));
    assert_eq!(script.said(), ["write C all"]);
    script.written();
    script.asks(1, &rejecting("C"));
    assert_eq!(script.asks(0, &confirmed(Some("C"))), "A");
    assert_eq!(script.said(), ["write A", "rejected C: pod p1 rejected it: no such exporter"]);
}

/// Who is held, or does not take it in time, is offered it all the same.
#[test]
fn nobody_waits_for_a_pod_that_does_not_take_it() {
    let mut script = Script::with_pods(4);
    script.offer("B");
    script.written();
    script.asks(3, &confirmed(A));
    script.asks(3, &confirmed(B));
    // A quarter of four is the canary.
    assert_eq!(script.said(), ["write B all"]);
    script.written();
    let (held, stuck) = (report(A, ConfigState::Held), report(A, ConfigState::Validating));
    script.asks(0, &confirmed(A));
    for minute in 0..=21 {
        let offered = [
            script.asks(0, &confirmed(B)),
            script.asks(1, &held),
            script.asks(2, &stuck),
            script.asks(3, &confirmed(B)),
        ];
        assert_eq!(offered, ["", "B", "B", ""]);
        let expected = if minute == 21 { vec!["write B", "promoted B"] } else { vec![] };
        assert_eq!(script.said(), expected, "{minute}");
        script.now += seconds(60);
    }
}

/// Whatever the pods remember of it is as good as a record.
#[test]
fn what_a_pod_has_rejected_before_is_not_tried() {
    let mut script = Script::with_pods(2);
    script.offer("B");
    script.written();
    assert_eq!(script.asks(0, &rejecting("B")), "", "it is not the canary");
    assert_eq!(script.said(), ["write A", "rejected B: pod p0 rejected it: no such exporter"]);
}

#[test]
fn a_pod_that_goes_back_by_itself_and_is_not_well_rejects_it() {
    let mut script = Script::with_pods(1);
    script.offer("B");
    script.written();
    script.asks(0, &confirmed(A));
    script.asks(0, &report(B, ConfigState::Unconfirmed));
    // By hand.
    assert_eq!(script.asks(0, &confirmed(A)), "B");
    assert_eq!(script.said(), [""; 0]);
    script.asks(0, &report(B, ConfigState::Unconfirmed));
    script.asks(0, &PodReport { problem: Some("exit status 1".into()), ..confirmed(A) });
    assert_eq!(script.said(), ["write A", "rejected B: pod p0 went back from it: exit status 1"]);
}

#[test]
fn a_canary_that_is_not_well_with_it_in_time_rejects_it() {
    let mut script = Script::with_pods(1);
    script.offer("B");
    script.written();
    script.asks(0, &confirmed(A));
    let ill = PodReport { problem: Some("out of memory".into()), ..report(B, ConfigState::Unconfirmed) };
    for minute in 0..22 {
        script.now += seconds(60);
        script.asks(0, &ill);
        let expected = ["write A", "rejected B: pod p0 is not well with it: out of memory"];
        let expected = if minute == 20 { expected.map(String::from).to_vec() } else { Vec::new() };
        assert_eq!(script.said(), expected, "{minute}");
    }
}

/// One that does not take it says nothing of it; nor does one that was ill before.
#[test]
fn a_canary_that_does_not_take_it_is_replaced_and_each_round_waits_longer() {
    for ill in [
        PodReport { problem: Some("validate hangs".into()), ..report(A, ConfigState::Validating) },
        report(A, ConfigState::Held),
    ] {
        let mut script = Script::with_pods(2);
        script.offer("B");
        script.written();
        let mut named = Vec::new();
        for _ in 0..180 {
            script.all_ask(0..2, &ill);
            script.now += seconds(60);
            for line in script.said() {
                named.push((script.now.as_secs() / 60, line));
                script.written();
            }
        }
        let lines: Vec<&str> = named.iter().map(|(_, line)| line.as_str()).collect();
        match ill.state {
            Some(ConfigState::Held) => assert_eq!(lines, ["write B canary"], "who is held is no canary"),
            _ => {
                // A round, a quarter of an hour, a round, half an hour.
                let round = ["write B canary p0", "write B canary", "write B canary p1"];
                assert_eq!(lines[..3], round, "{named:?}");
                assert!((15..=17).contains(&(named[2].0 - named[1].0)), "{named:?}");
                assert_eq!(lines[3..5], ["write B canary p0", "write B canary"], "{named:?}");
                assert!((30..=32).contains(&(named[5].0 - named[4].0)), "{named:?}");
                let obstacle = script.group.status().obstacle.expect("one");
                assert!(obstacle.contains("did not take it: validate hangs"), "{obstacle}");
            }
        }
    }
}

#[test]
fn a_canary_that_vanishes_is_replaced_and_the_third_in_a_row_rejects_it() {
    let mut script = Script::with_pods(5);
    script.offer("B");
    script.written();
    let mut said = Vec::new();
    // The canary is not heard of any more once it was offered the config.
    let mut gone = [false; 5];
    for _ in 0..40 {
        for (pod, is_gone) in gone.iter_mut().enumerate() {
            *is_gone = *is_gone || script.asks(pod, &confirmed(A)) == "B";
            let lines = script.said();
            if !lines.is_empty() {
                script.written();
            }
            said.extend(lines);
        }
        script.now += seconds(30);
    }
    assert!(said[0].ends_with("after 1 vanished") && said[1].ends_with("after 2 vanished"), "{said:?}");
    assert_eq!(said[2..], ["write A", "rejected B: 3 pods in a row vanished after it was offered to them"]);
}

/// Who was never offered it has vanished for another reason; and when nobody is heard of, nobody has vanished.
#[test]
fn no_more_than_what_is_known_counts_as_vanished() {
    let mut script = Script::with_pods(2);
    script.offer("B");
    script.written();
    for _ in 0..10 {
        script.now += seconds(30);
        script.asks(0, &confirmed(A));
    }
    assert_eq!(script.said(), ["write B canary p0"]);
    script.written();
    assert_eq!(script.asks(0, &confirmed(A)), "B");
    script.now += seconds(3600);
    script.asks(2, &confirmed(A));
    assert_eq!(script.said(), [""; 0], "the relay was not heard of");
    script.now += seconds(60);
    script.asks(0, &confirmed(B));
    assert_eq!((script.said(), script.group.status().proved), (vec![], 1));
}

#[test]
fn a_newer_config_begins_anew_and_a_withdrawn_one_ends() {
    let mut script = Script::with_pods(2);
    script.offer("B");
    script.written();
    script.asks(1, &confirmed(A));
    script.asks(0, &confirmed(A));
    assert_eq!(script.offer("C"), ["write C canary p1"]);
    assert_eq!(script.asks(1, &report(B, ConfigState::Unconfirmed)), "A", "not written");
    script.written();
    assert_eq!(script.asks(1, &report(B, ConfigState::Unconfirmed)), "C");
    assert_eq!(script.offer("A"), ["write A"]);
    assert_eq!(script.asks(1, &report(Some("C"), ConfigState::Probation)), "A");
    // One that is rejected ends it as well: the API does not want the other.
    script.offer("D");
    script.asks(1, &rejecting("D"));
    script.said();
    script.offer("E");
    assert_eq!(script.offer("D"), ["write A"]);
}

#[test]
fn what_was_proved_of_one_config_says_nothing_of_the_next() {
    let mut script = Script::with_pods(1);
    script.offer("B");
    script.written();
    script.asks(0, &confirmed(A));
    script.asks(0, &confirmed(B));
    assert_eq!(script.said(), ["write B all"]);
    script.offer("C");
    assert_eq!(script.written(), [""; 0]);
    assert_eq!((script.asks(0, &confirmed(B)), script.said()), ("C", vec![]));
}

/// An order that was overtaken may have been carried out or not.
#[test]
fn a_write_that_was_overtaken_allows_nothing() {
    let mut script = Script::with_pods(1);
    script.offer("B");
    let first = script.order.take().unwrap();
    script.offer("A");
    script.offer("B");
    script.event(Event::Persisted(first));
    assert_eq!(script.asks(0, &confirmed(A)), "");
    script.written();
    assert_eq!(script.asks(0, &confirmed(A)), "B");
    // Neither does what was written before them.
    script.offer("A");
    script.offer("B");
    assert_eq!(script.asks(0, &confirmed(A)), "");
}

/// An order that was on its way may be carried out after what was found, which is then written over it.
#[test]
fn what_is_found_is_ordered_anew() {
    let found = Record { stable: A, candidate: None, rejected: None };
    let mut script = Script::with_pods(1);
    script.offer("B");
    let overtaken = script.order.take().unwrap();
    assert_eq!(script.event(Event::Found(found)), ["write A"]);
    assert_eq!(script.event(Event::Persisted(overtaken)), [""; 0]);
    // With a candidate: nobody is offered it before it is known to be what is written.
    let stage = Stage::Canary { pod: Some(PodId("p0".into())), vanished: 0 };
    let found = Record { stable: A, candidate: Some(Candidate { revision: "C", stage }), rejected: None };
    assert_eq!(script.event(Event::Found(found)), ["write C canary p0"]);
    assert_eq!(script.asks(0, &confirmed(A)), "");
    script.written();
    assert_eq!(script.asks(0, &confirmed(A)), "C");
}

#[test]
fn an_updater_that_starts_goes_on_and_reaches_no_further() {
    let record = |stage: Stage| Record {
        stable: A,
        candidate: Some(Candidate { revision: "B", stage }),
        rejected: Some(Rejection { revision: "X", reason: "bad".into() }),
    };
    // The canary goes on, nobody else is offered anything.
    let mut script = Script::of(rules(), record(Stage::Canary { pod: Some(PodId("p1".into())), vanished: 0 }));
    assert_eq!(script.all_ask(0..3, &confirmed(A)), ["", "B", ""]);
    assert_eq!(script.offer("X"), ["write A"], "it is not forgotten");

    // It may have been offered the config before it vanished.
    let last = Stage::Canary { pod: Some(PodId("p1".into())), vanished: 2 };
    let mut script = Script::of(rules(), record(last));
    for _ in 0..5 {
        script.asks(0, &confirmed(A));
        script.now += seconds(60);
    }
    assert_eq!(script.said()[1], "rejected B: 3 pods in a row vanished after it was offered to them");

    // A step: who has it keeps it, others wait until all have asked.
    let mut script = Script::of(rules(), record(Stage::Step { percent: 25, pods: 2 }));
    assert_eq!([script.asks(0, &confirmed(A)), script.asks(1, &confirmed(B))], ["", ""]);
    script.now += seconds(120);
    script.all_ask(0..1, &confirmed(A));
    script.now += seconds(120);
    assert_eq!([script.asks(1, &confirmed(B)), script.asks(0, &confirmed(A))], ["", "B"]);
    assert_eq!(script.asks(2, &confirmed(A)), "", "it is full");

    // All.
    let mut script = Script::of(rules(), record(Stage::All));
    assert_eq!([script.asks(0, &confirmed(A)), script.asks(1, &confirmed(B))], ["B", ""]);
    assert_eq!(script.said(), [""; 0]);
    for _ in 0..4 {
        script.now += seconds(60);
        script.all_ask(0..2, &confirmed(B));
    }
    assert_eq!(script.said(), ["write B", "promoted B"]);

    // Changed by others: nothing is known of the pods' trials.
    script.event(Event::Found(record(Stage::Canary { pod: None, vanished: 0 })));
    assert_eq!(script.written(), ["write B canary p1"], "of both that have it");
    assert_eq!(script.asks(0, &confirmed(B)), "A");
}

#[test]
fn the_time_of_a_canary_runs_by_the_pods_reports() {
    let rules = Rules { canary_time: Some(seconds(120)), ..rules() };
    let mut script = Script::of(rules, Record { stable: A, ..Record::default() });
    let mut asked = Vec::new();
    script.asks(0, &confirmed(A));
    script.offer("B");
    script.written();
    script.asks(0, &confirmed(A));
    let reports = [(true, ConfigState::Probation), (true, ConfigState::Unconfirmed), (false, ConfigState::Unconfirmed)];
    for (is_running, state) in reports.into_iter().chain([(true, ConfigState::Unconfirmed); 3]) {
        script.now += seconds(60);
        script.asks(0, &PodReport { is_running, ..report(B, state) });
        asked.push(script.group.status().proved);
    }
    assert_eq!(asked, [0, 0, 0, 0, 0, 1]);
}

/// As the kernel kills a container for its memory: the pod and its files stay, and each report is of a new life.
#[test]
fn a_pod_that_is_started_again_and_again_with_it_rejects_it() {
    let alive = |uptime| PodReport { uptime: Some(seconds(uptime)), ..report(B, ConfigState::Unconfirmed) };
    for canary_time in [None, Some(seconds(60))] {
        let mut script = Script::of(Rules { canary_time, ..rules() }, Record { stable: A, ..Record::default() });
        script.asks(0, &confirmed(A));
        script.offer("B");
        script.written();
        script.asks(0, &confirmed(A));
        for minute in 1..=3 {
            assert_eq!((script.said(), script.group.status().proved), (vec![], 0), "{minute}");
            script.now += seconds(60);
            script.asks(0, &alive(5));
        }
        let rejected = "rejected B: pod p0 was started again and again with it: no problem is reported";
        assert_eq!(script.said(), ["write A", rejected]);
    }
    // What it did before it took it, and a report that is late, are not held against it. A start begins the run anew.
    let rules = Rules { canary_time: Some(seconds(120)), ..rules() };
    let mut script = Script::of(rules, Record { stable: A, ..Record::default() });
    script.asks(0, &confirmed(A));
    script.offer("B");
    script.written();
    for _ in 0..5 {
        script.asks(0, &PodReport { active: A, ..alive(0) });
        script.now += seconds(60);
    }
    let lives = [(50, 0), (110, 0), (30, 0), (85, 0), (150, 1)];
    for (uptime, proved) in lives {
        script.asks(0, &alive(uptime));
        assert_eq!(script.group.status().proved, proved, "{uptime}");
        assert!(!script.said().iter().any(|said| said.starts_with("rejected")), "{uptime}");
        script.now += seconds(60);
    }
}

#[test]
fn each_pod_is_restarted_once_for_a_request() {
    let mut script = Script::with_pods(3);
    script.event(Event::RestartAsked);
    assert_eq!(script.all_ask(0..2, &confirmed(A)), ["restart"; 2]);
    assert_eq!(script.asks(2, &confirmed(None)), "A", "that is a restart");
    assert_eq!(script.all_ask(0..3, &confirmed(A)), [""; 3]);
}

/// Pods that are ill are the canary when all are, and get what has proved itself when they come up without any.
#[test]
fn an_ill_pod_is_the_canary_if_there_is_no_other() {
    let down = PodReport { is_running: false, problem: Some("no config".into()), ..report(None, ConfigState::None) };
    let mut script = Script::of(rules(), Record::default());
    script.offer("B");
    script.written();
    for minute in 0..5 {
        assert_eq!(script.asks(0, &down), "", "{minute}");
        script.now += seconds(60);
    }
    assert_eq!(script.said(), ["write B canary p0"]);
    script.written();
    assert_eq!(script.asks(0, &down), "B");
    let mut script = Script::with_pods(1);
    assert_eq!(script.asks(1, &down), "A");
}

#[test]
fn a_pod_that_does_not_say_how_far_it_is_is_offered_nothing() {
    let mut script = Script::with_pods(1);
    let old = PodReport { state: None, ..confirmed(None) };
    assert_eq!(script.asks(0, &old), "");
    assert_eq!(script.group.status().silent, 1);
    script.offer("B");
    assert_eq!(script.group.record().candidate.as_ref().unwrap().stage, Stage::Canary { pod: None, vanished: 0 });
}

/// Whoever has the token can name as many pods as it likes.
#[test]
fn no_more_pods_are_remembered_than_a_cluster_has() {
    let mut script = Script::stable();
    for pod in 0..10_001 {
        assert_eq!(script.asks(pod, &confirmed(None)), "A");
    }
    assert_eq!((script.group.status().pods, script.asks(10_000, &confirmed(A))), (10_000, ""));
}
