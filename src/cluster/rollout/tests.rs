//! Rollouts in a cluster of three nodes that is simulated second by second, by an updater that dies before or after any
//! of its calls.

use std::cell::RefCell;

use super::*;
use crate::cluster::kubernetes::{
    self, Container, Event, LabelSelector, Metadata, Pod, PodPage, RESTARTED_AT, Right, Workload, WorkloadKind,
};

const KEY: &str = "agent-daemonset.yaml";
const OLD: &str = "a: good\n";
const NODES: usize = 3;

/// A DaemonSet with `maxUnavailable: 1`, its controller and its kubelets. What a pod does is what its config says.
struct Cluster {
    seconds: u64,
    version: u64,
    generation: u64,
    config_map: ConfigMap,
    template: Option<String>,
    /// By node.
    pods: Vec<SimulatedPod>,
    made: usize,
    /// The most nodes that had no pod that works at a time.
    most_down: usize,
    calls: usize,
    /// The number of the call at which the updater dies, and whether the call is still made.
    dies_at: Option<(usize, bool)>,
    is_dead: bool,
    /// Each call whose number it divides fails for no lasting reason.
    fails_each: usize,
    /// The number of the call that fails once, and of what.
    fails_at: Option<(usize, Cause)>,
    /// Somebody else changes the ConfigMap before each patch of it that is still due.
    rivals: usize,
    min_ready: u64,
    /// When somebody else puts another config into the ConfigMap.
    edited_at: Option<(u64, &'static str)>,
}

#[derive(Clone, Debug)]
struct SimulatedPod {
    number: usize,
    restarted_at: Option<String>,
    config: String,
    started: u64,
}

impl SimulatedPod {
    fn is_ready(&self, seconds: u64) -> bool {
        let age = seconds - self.started;
        match self.config.as_str() {
            "a: crash\n" | "a: silent\n" => false,
            "a: late\n" => (1..6).contains(&age),
            "a: later\n" => (1..10).contains(&age),
            _ => age >= 1,
        }
    }

    fn is_crashing(&self, seconds: u64) -> bool {
        let age = seconds - self.started;
        match self.config.as_str() {
            "a: crash\n" => age >= 4,
            "a: late\n" => age >= 8,
            "a: later\n" => age >= 12,
            _ => false,
        }
    }

    fn is_available(&self, seconds: u64, min_ready: u64) -> bool {
        self.is_ready(seconds) && seconds - self.started > min_ready
    }
}

impl Cluster {
    /// All pods available; the template has an annotation, or none.
    fn new(before: Option<&str>) -> RefCell<Cluster> {
        let mut cluster = Cluster {
            seconds: 1000,
            version: 1,
            generation: 1,
            config_map: ConfigMap::default(),
            template: before.map(str::to_owned),
            pods: Vec::new(),
            made: 0,
            most_down: 0,
            calls: 0,
            dies_at: None,
            is_dead: false,
            fails_each: usize::MAX,
            fails_at: None,
            rivals: 0,
            min_ready: 10,
            edited_at: None,
        };
        cluster.config_map.data.insert(KEY.to_owned(), OLD.to_owned());
        cluster.config_map.data.insert("start.sh".to_owned(), "x".to_owned());
        for _ in 0..NODES {
            let pod = cluster.pod();
            cluster.pods.push(SimulatedPod { started: 0, ..pod });
        }
        RefCell::new(cluster)
    }

    fn pod(&mut self) -> SimulatedPod {
        self.made += 1;
        let config = self.config_map.data.get(KEY).cloned().unwrap_or_default();
        SimulatedPod { number: self.made, restarted_at: self.template.clone(), config, started: self.seconds }
    }

    fn pass(&mut self, duration: Duration) {
        for _ in 0..duration.as_secs() {
            self.seconds += 1;
            let (now, min_ready) = (self.seconds, self.min_ready);
            if let Some((_, text)) = self.edited_at.filter(|(at, _)| *at == now) {
                self.config_map.data.insert(KEY.to_owned(), text.to_owned());
                self.version += 1;
            }
            let is_old = |pod: &SimulatedPod, template: &Option<String>| pod.restarted_at != *template;
            let mut unavailable = self.pods.iter().filter(|pod| !pod.is_available(now, min_ready)).count();
            for at in 0..NODES {
                let pod = &self.pods[at];
                let is_free = !pod.is_available(now, min_ready);
                if is_old(pod, &self.template) && (is_free || unavailable == 0) {
                    unavailable += usize::from(!is_free);
                    self.pods[at] = self.pod();
                }
            }
            let down = self.pods.iter().filter(|pod| !pod.is_ready(now)).count();
            self.most_down = self.most_down.max(down);
        }
    }

    fn untouched(&self) -> usize {
        self.pods.iter().filter(|pod| pod.number <= NODES).count()
    }
}

fn failure(cause: Cause) -> ApiFailure {
    ApiFailure::new(cause, "a call".to_owned(), "a reason")
}

struct Simulated<'a>(&'a RefCell<Cluster>);

impl Simulated<'_> {
    /// Makes the call, unless the updater dies before, and forgets its answer if it dies after.
    fn call<T>(&self, call: impl FnOnce(&mut Cluster) -> kubernetes::Result<T>) -> kubernetes::Result<T> {
        let mut cluster = self.0.borrow_mut();
        assert!(!cluster.is_dead, "the dead do not call");
        cluster.calls += 1;
        if cluster.calls.is_multiple_of(cluster.fails_each) {
            return Err(failure(Cause::Server));
        }
        if let Some((_, cause)) = cluster.fails_at.filter(|(at, _)| *at == cluster.calls) {
            return Err(failure(cause));
        }
        let Some((_, is_made)) = cluster.dies_at.filter(|(at, _)| *at == cluster.calls) else {
            return call(&mut cluster);
        };
        cluster.is_dead = true;
        if is_made {
            let _ = call(&mut cluster);
        }
        Err(failure(Cause::Unreachable))
    }
}

impl Api for Simulated<'_> {
    fn config_map(&self, _: &Name) -> kubernetes::Result<ConfigMap> {
        self.call(|cluster| {
            cluster.config_map.metadata.resource_version = cluster.version.to_string();
            Ok(cluster.config_map.clone())
        })
    }

    fn patch_config_map(&self, name: &Name, patch: &ConfigMapPatch) -> kubernetes::Result<ConfigMap> {
        self.call(|cluster| {
            if cluster.rivals > 0 {
                cluster.rivals -= 1;
                cluster.version += 1;
            }
            if patch.resource_version != cluster.version.to_string() {
                return Err(failure(Cause::Conflict));
            }
            cluster.version += 1;
            let apply = |to: &mut std::collections::BTreeMap<String, String>, key: &String, value: &Option<String>| {
                match value {
                    Some(value) => to.insert(key.clone(), value.clone()),
                    None => to.remove(key),
                };
            };
            patch.data.iter().for_each(|(key, value)| apply(&mut cluster.config_map.data, key, value));
            let annotations = &mut cluster.config_map.metadata.annotations;
            patch.annotations.iter().for_each(|(key, value)| apply(annotations, key, value));
            let _ = name;
            Ok(cluster.config_map.clone())
        })
    }

    fn workload(&self, _: &WorkloadId) -> kubernetes::Result<Workload> {
        self.call(|cluster| {
            let now = cluster.seconds;
            let count = |is: &dyn Fn(&SimulatedPod) -> bool| cluster.pods.iter().filter(|pod| is(pod)).count() as u32;
            let mut workload = Workload::default();
            workload.metadata.generation = cluster.generation;
            workload.metadata.resource_version = "1".to_owned();
            workload.spec.min_ready_seconds = cluster.min_ready as u32;
            let annotations = &mut workload.spec.template.metadata.annotations;
            cluster.template.iter().for_each(|value| _ = annotations.insert(RESTARTED_AT.to_owned(), value.clone()));
            workload.status.observed_generation = cluster.generation;
            workload.status.desired_number_scheduled = NODES as u32;
            workload.status.updated_number_scheduled = count(&|pod| pod.restarted_at == cluster.template);
            workload.status.number_available = count(&|pod| pod.is_available(now, cluster.min_ready));
            Ok(workload)
        })
    }

    fn set_restarted_at(&self, id: &WorkloadId, value: Option<&str>, _: Option<&str>) -> kubernetes::Result<Workload> {
        let _ = id;
        self.call(|cluster| {
            if cluster.template.as_deref() != value {
                cluster.template = value.map(str::to_owned);
                cluster.generation += 1;
            }
            Ok(Workload::default())
        })
    }

    fn pods(&self, _: &LabelSelector, _: Option<&str>) -> kubernetes::Result<PodPage> {
        self.call(|cluster| {
            let now = cluster.seconds;
            let pod = |pod: &SimulatedPod| {
                let mut container = Container { name: "collector".to_owned(), ..Container::default() };
                if pod.is_crashing(now) {
                    container.state.waiting = serde_json::from_str(r#"{"reason":"CrashLoopBackOff"}"#).unwrap();
                }
                let mut found = Pod {
                    metadata: Metadata { name: format!("p{}", pod.number), ..Metadata::default() },
                    ..Pod::default()
                };
                let annotations = &mut found.metadata.annotations;
                pod.restarted_at
                    .iter()
                    .for_each(|value| _ = annotations.insert(RESTARTED_AT.to_owned(), value.clone()));
                found.spec.node_name = "n1".to_owned();
                found.status.container_statuses.push(container);
                found
            };
            Ok(PodPage { items: cluster.pods.iter().map(pod).collect(), ..PodPage::default() })
        })
    }

    fn create_event(&self, _: &Event) -> kubernetes::Result<()> {
        unreachable!("a rollout tells nobody")
    }

    fn may(&self, _: &Right) -> kubernetes::Result<bool> {
        unreachable!("a rollout does not ask for its rights")
    }
}

struct Clock<'a>(&'a RefCell<Cluster>);

impl Pace for Clock<'_> {
    fn now(&self) -> Uptime {
        Duration::from_secs(self.0.borrow().seconds)
    }

    fn pause(&mut self, duration: Duration) -> Result<(), Stopped> {
        if self.0.borrow().is_dead {
            return Err(Stopped);
        }
        self.0.borrow_mut().pass(duration);
        Ok(())
    }
}

fn run(cluster: &RefCell<Cluster>, wanted: Option<&str>) -> Result<Option<Finished>, Halted> {
    let target = Target {
        config_map: Name::parse("configs").unwrap(),
        key: KEY.to_owned(),
        workload: WorkloadId { kind: WorkloadKind::DaemonSet, name: Name::parse("km-agent").unwrap() },
    };
    let rules = Rules { deadline: Duration::from_secs(60), settle: Duration::from_secs(10) };
    let revision = wanted.map(revision);
    let candidate = wanted.zip(revision.as_ref()).map(|(text, revision)| Candidate { revision, text });
    Rollout { api: &Simulated(cluster), target: &target, rules, pace: &mut Clock(cluster) }.run(candidate)
}

fn revision(text: &str) -> Revision {
    crate::config::yaml::parse(text.as_bytes()).unwrap().revision()
}

/// The outcome of a run that nothing halts.
fn outcome(cluster: &RefCell<Cluster>, text: &str) -> Outcome {
    let finished = run(cluster, Some(text)).unwrap().unwrap();
    assert_eq!(finished.revision, revision(text));
    finished.outcome
}

fn rolled_back(problem: &str) -> Outcome {
    Outcome::RolledBack { problem: problem.to_owned(), former: None }
}

/// Nothing is under way, and each pod runs what the ConfigMap has.
fn assert_at_rest(cluster: &Cluster, config: &str, context: &str) {
    let annotations = cluster.config_map.metadata.annotations.keys().map(String::as_str);
    let unfinished: Vec<&str> =
        annotations.filter(|name| !name.contains("/rejected") && !name.contains("/stable")).collect();
    assert_eq!(unfinished, [] as [&str; 0], "{context}");
    let data: Vec<_> = cluster.config_map.data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(data, [(KEY, config), ("start.sh", "x")], "{context}");
    for pod in &cluster.pods {
        assert!(pod.config == config && pod.restarted_at == cluster.template, "{context}: {pod:?}");
    }
}

const VERDICTS: [(&str, Option<&str>); 4] = [
    ("a: other\n", None),
    ("a: crash\n", Some("pod p4 on node n1: container collector: CrashLoopBackOff, 0 restarts")),
    ("a: late\n", Some("pod p4 on node n1: container collector: CrashLoopBackOff, 0 restarts")),
    (
        "a: silent\n",
        Some(
            "no progress for 60s: 1 of 3 pods are of the newest revision, 2 available; pod p4 on node n1: \
                          not ready; pod p2 on node n1: not ready; pod p3 on node n1: not ready",
        ),
    ),
];

#[test]
fn a_good_config_reaches_all_and_a_bad_one_one_pod() {
    for before in [Some("before"), None] {
        for (text, problem) in VERDICTS {
            let cluster = Cluster::new(before);
            let expected = problem.map_or(Outcome::Installed, rolled_back);
            assert_eq!(outcome(&cluster, text), expected, "{text}");
            let cluster = cluster.borrow();
            assert_at_rest(&cluster, if problem.is_none() { text } else { OLD }, text);
            let stable = cluster.config_map.metadata.annotations.get("kmagent.kloudmate.com/stable");
            assert_eq!(stable, problem.is_none().then(|| revision(text).to_string()).as_ref(), "{text}");
            let untouched = if problem.is_none() { 0 } else { 2 };
            assert_eq!((cluster.untouched(), cluster.most_down), (untouched, 1), "{text}");
            let rejection = problem.map(|problem| Rejection { revision: revision(text), problem: problem.to_owned() });
            assert_eq!(Rejection::of(&cluster.config_map), rejection, "{text}");
            assert_eq!(cluster.template.as_deref() == before, problem.is_some());
        }
    }
}

/// Killed at each of its calls, before the API server has it or after, and started again a while later, perhaps to be
/// killed once more.
#[test]
fn wherever_a_rollout_is_killed_it_is_finished_or_undone() {
    for (text, problem) in VERDICTS {
        for before in [Some("before"), None] {
            for (is_made, rest) in [(false, 0), (true, 0), (false, 30), (true, 30)] {
                let mut killed_at = 1;
                while kill_and_resume(text, problem.is_none(), before, &[(killed_at, is_made)], rest) {
                    killed_at += 1;
                }
                assert!(killed_at > 10, "{killed_at} calls");
            }
        }
        for first in 1..12 {
            for second in 1..12 {
                kill_and_resume(text, problem.is_none(), None, &[(first, true), (second, true)], 3);
            }
        }
    }
}

/// Whether it was killed at all.
fn kill_and_resume(text: &str, is_good: bool, before: Option<&str>, kills: &[(usize, bool)], rest: u64) -> bool {
    let context = format!("{text} {before:?} {kills:?} {rest}");
    let cluster = Cluster::new(before);
    let mut result = Err(Halted::Stopped);
    for (nth, kill) in kills.iter().enumerate() {
        let calls = cluster.borrow().calls;
        cluster.borrow_mut().dies_at = Some((calls + kill.0, kill.1));
        result = run(&cluster, (nth == 0).then_some(text));
        if !std::mem::take(&mut cluster.borrow_mut().is_dead) {
            break;
        }
        cluster.borrow_mut().pass(Duration::from_secs(rest));
    }
    let was_killed = result.is_err();
    if was_killed {
        cluster.borrow_mut().dies_at = None;
        result = run(&cluster, None);
    }
    let finished = result.expect(&context);
    let mut cluster = cluster.into_inner();
    let config = cluster.config_map.data[KEY].clone();
    if let Some(finished) = finished {
        assert_eq!(finished.outcome == Outcome::Installed, is_good, "{context}: {finished:?}");
        assert_eq!(config, if is_good { text } else { OLD }, "{context}");
    }
    assert!(is_good || config == OLD, "{context}");
    cluster.pass(Duration::from_secs(60));
    assert_at_rest(&cluster, &config, &context);
    assert!(cluster.most_down <= 1, "{context}: {} down", cluster.most_down);
    // What never had it stays.
    assert!(is_good || cluster.untouched() >= 2, "{context}");
    was_killed
}

/// The next updater lacks a right for a moment, or is answered by something else.
#[test]
fn a_rollout_whose_pods_are_restarted_is_observed_even_if_the_next_look_fails() {
    for cause in [Cause::Forbidden, Cause::Unauthorized, Cause::BadAnswer, Cause::NotFound] {
        for (text, problem) in VERDICTS {
            let cluster = killed_at(7, text);
            assert!(cluster.borrow().template.is_some());
            let calls = cluster.borrow().calls;
            cluster.borrow_mut().fails_at = Some((calls + 2, cause));
            let halted = run(&cluster, None).unwrap_err();
            assert!(matches!(halted, Halted::Failed(failure) if failure.cause == cause), "{text}");
            assert_resumed(cluster, text, problem);
        }
    }
}

#[test]
fn a_restart_by_somebody_else_amid_a_rollout_is_observed() {
    for (text, problem) in VERDICTS {
        let cluster = killed_at(5, text);
        {
            let mut cluster = cluster.borrow_mut();
            assert_eq!((cluster.config_map.data[KEY].as_str(), &cluster.template), (text, &None));
            cluster.template = Some("by-hand".to_owned());
            cluster.generation += 1;
            cluster.pass(Duration::from_secs(2));
        }
        assert_resumed(cluster, text, problem);
    }
}

/// The updater of a rollout is killed before this call.
fn killed_at(call: usize, text: &str) -> RefCell<Cluster> {
    let cluster = Cluster::new(None);
    cluster.borrow_mut().dies_at = Some((call, false));
    assert!(run(&cluster, Some(text)).is_err());
    cluster.borrow_mut().is_dead = false;
    cluster
}

fn assert_resumed(cluster: RefCell<Cluster>, text: &str, problem: Option<&str>) {
    let finished = run(&cluster, None).unwrap().expect(text);
    assert_eq!(finished.outcome, problem.map_or(Outcome::Installed, rolled_back), "{text}");
    let mut cluster = cluster.into_inner();
    cluster.pass(Duration::from_secs(60));
    assert_at_rest(&cluster, if problem.is_none() { text } else { OLD }, text);
    assert_eq!((cluster.untouched(), cluster.most_down), (if problem.is_none() { 0 } else { 2 }, 1), "{text}");
}

#[test]
fn calls_that_fail_for_a_while_and_rivals_change_nothing_of_that() {
    for (text, problem) in VERDICTS {
        for fails_each in [2, 3, 5] {
            let cluster = Cluster::new(None);
            cluster.borrow_mut().fails_each = fails_each;
            assert_eq!(outcome(&cluster, text) == Outcome::Installed, problem.is_none(), "{text}");
            assert_at_rest(&cluster.borrow(), if problem.is_none() { text } else { OLD }, text);
        }
        let cluster = Cluster::new(None);
        cluster.borrow_mut().rivals = 4;
        assert_eq!(outcome(&cluster, text) == Outcome::Installed, problem.is_none(), "{text}");
    }
    // For a longer one the run is halted, and goes on when it is over.
    let cluster = Cluster::new(None);
    cluster.borrow_mut().fails_each = 1;
    let halted = run(&cluster, Some("a: other\n")).unwrap_err();
    assert!(matches!(halted, Halted::Failed(failure) if failure.cause == Cause::Server));
    assert!((1000 + 30..1000 + 90).contains(&cluster.borrow().seconds));
}

#[test]
fn nothing_begins_while_a_pod_is_young_and_a_crashing_one_is_cured() {
    let cluster = Cluster::new(None);
    let young = cluster.borrow_mut().pod();
    cluster.borrow_mut().pods[0] = young;
    let outcome_of_young = outcome(&cluster, "a: other\n");
    let reason = "2 of 3 pods are available, 3 of the newest revision; pod p4 on node n1: not ready; pod p2 on node n1: \
                  not ready; pod p3 on node n1: not ready";
    assert_eq!(outcome_of_young, Outcome::NotInstalled { reason: reason.to_owned() });
    assert_at_rest(&cluster.borrow(), OLD, "young");
    for pod in &mut cluster.borrow_mut().pods {
        pod.config = "a: crash\n".to_owned();
    }
    cluster.borrow_mut().pass(Duration::from_secs(20));
    assert_eq!(outcome(&cluster, "a: other\n"), Outcome::Installed);
    // One that crashes after another that does is rolled back to it, whatever it is worth.
    let cluster = Cluster::new(None);
    cluster.borrow_mut().config_map.data.insert(KEY.to_owned(), "a: crash\n".to_owned());
    for pod in &mut cluster.borrow_mut().pods {
        pod.config = "a: crash\n".to_owned();
    }
    let Outcome::RolledBack { former: Some(_), .. } = outcome(&cluster, "a: late\n") else { panic!("no problem") };
    assert_eq!(cluster.borrow().config_map.data[KEY], "a: crash\n");
}

#[test]
fn a_rejection_is_forgotten_with_the_proof_and_a_relays_candidate_with_the_install() {
    let cluster = Cluster::new(None);
    let text = "a: other\n";
    let rejection = Rejection { revision: revision(text), problem: "it failed".to_owned() };
    let annotations = rejection.write(ConfigMapPatch::default()).annotations;
    {
        let config_map = &mut cluster.borrow_mut().config_map;
        config_map.data.insert(format!("{KEY}.candidate"), "b: x\n".to_owned());
        let annotations = annotations.into_iter().filter_map(|(name, value)| Some((name, value?)));
        config_map.metadata.annotations.extend(annotations);
    }
    assert_eq!(outcome(&cluster, text), Outcome::Installed);
    assert_eq!(Rejection::of(&cluster.borrow().config_map), None);
    assert_at_rest(&cluster.borrow(), text, "tried again");
}

#[test]
fn what_has_no_room_is_rejected_untried() {
    let cluster = Cluster::new(None);
    let text = format!("a: {}\n", "x".repeat(1024 * 1024 - 12));
    let Outcome::RolledBack { problem, former: None } = outcome(&cluster, &text) else { panic!("it had room") };
    assert_eq!(
        problem,
        "it has 1048568 bytes; with the config that it replaces and what else is in ConfigMap  that is \
                         1048577 of at most 1048576"
    );
    assert_at_rest(&cluster.borrow(), OLD, "too large");
    assert_eq!(cluster.borrow().untouched(), NODES);
    assert!(state::has_room(&cluster.borrow().config_map, KEY, &text[..text.len() - 1]).is_ok());
}

#[test]
fn a_config_that_somebody_else_puts_in_place_stays() {
    for (killed_at, text) in [(5, "a: other\n"), (12, "a: silent\n")] {
        let cluster = Cluster::new(None);
        cluster.borrow_mut().dies_at = Some((killed_at, true));
        assert!(run(&cluster, Some(text)).is_err());
        let mut by_hand = cluster.borrow_mut();
        by_hand.is_dead = false;
        assert_eq!(by_hand.config_map.data[KEY], text);
        by_hand.config_map.data.insert(KEY.to_owned(), "a: by-hand\n".to_owned());
        drop(by_hand);
        let finished = run(&cluster, None).unwrap().unwrap();
        let reason = "somebody else has changed the config in ConfigMap configs".to_owned();
        assert_eq!(finished.outcome, Outcome::NotInstalled { reason });
        assert_eq!(cluster.borrow().config_map.data[KEY], "a: by-hand\n");
        assert_eq!(State::of(&cluster.borrow().config_map), None);
        assert_eq!(run(&cluster, None).unwrap(), None);
    }
}

#[test]
fn one_that_is_put_there_amid_a_rollout_stays_too() {
    let cluster = Cluster::new(None);
    cluster.borrow_mut().edited_at = Some((1030, "a: by-hand\n"));
    assert!(matches!(outcome(&cluster, "a: silent\n"), Outcome::RolledBack { .. }));
    let config_map = &cluster.borrow().config_map;
    assert_eq!(config_map.data[KEY], "a: by-hand\n");
    assert_eq!((State::of(config_map), config_map.data.len()), (None, 2));
}

/// The controller counts them at once, and then goes on.
#[test]
fn pods_that_are_available_at_once_have_to_stay_so() {
    let cluster = Cluster::new(None);
    cluster.borrow_mut().min_ready = 0;
    assert!(matches!(outcome(&cluster, "a: later\n"), Outcome::RolledBack { .. }));
    cluster.borrow_mut().pass(Duration::from_secs(60));
    assert_at_rest(&cluster.borrow(), OLD, "later");
}

#[test]
fn a_missing_right_halts_before_anything_is_changed() {
    struct Refused<'a>(Simulated<'a>, &'a str);
    impl Api for Refused<'_> {
        fn config_map(&self, name: &Name) -> kubernetes::Result<ConfigMap> {
            self.0.config_map(name)
        }
        fn patch_config_map(&self, name: &Name, patch: &ConfigMapPatch) -> kubernetes::Result<ConfigMap> {
            self.0.patch_config_map(name, patch)
        }
        fn workload(&self, workload: &WorkloadId) -> kubernetes::Result<Workload> {
            self.0.workload(workload)
        }
        fn set_restarted_at(
            &self,
            workload: &WorkloadId,
            value: Option<&str>,
            version: Option<&str>,
        ) -> kubernetes::Result<Workload> {
            match self.1 {
                "patch" => Err(failure(Cause::Forbidden)),
                _ => self.0.set_restarted_at(workload, value, version),
            }
        }
        fn pods(&self, selector: &LabelSelector, after: Option<&str>) -> kubernetes::Result<PodPage> {
            match self.1 {
                "list" => Err(failure(Cause::Forbidden)),
                _ => self.0.pods(selector, after),
            }
        }
        fn create_event(&self, event: &Event) -> kubernetes::Result<()> {
            self.0.create_event(event)
        }
        fn may(&self, right: &Right) -> kubernetes::Result<bool> {
            self.0.may(right)
        }
    }
    for refused in ["list", "patch"] {
        let cluster = Cluster::new(None);
        let target = Target {
            config_map: Name::parse("configs").unwrap(),
            key: KEY.to_owned(),
            workload: WorkloadId { kind: WorkloadKind::DaemonSet, name: Name::parse("km-agent").unwrap() },
        };
        let rules = Rules { deadline: Duration::from_secs(60), settle: Duration::ZERO };
        let revision = revision("a: other\n");
        let candidate = Candidate { revision: &revision, text: "a: other\n" };
        let api = Refused(Simulated(&cluster), refused);
        let halted = Rollout { api: &api, target: &target, rules, pace: &mut Clock(&cluster) }.run(Some(candidate));
        assert!(matches!(halted, Err(Halted::Failed(failure)) if failure.cause == Cause::Forbidden));
        assert_at_rest(&cluster.borrow(), OLD, refused);
        assert_eq!(cluster.borrow().untouched(), NODES);
    }
}
