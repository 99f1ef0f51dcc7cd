//! Rollouts with real controllers and kubelets, where `test_server` has a cluster with the workloads of
//! `tests/kubernetes/api.yaml`. They take a minute or two.

use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::cluster::kubernetes::{Client, WorkloadKind, test_server};

const GOOD: &str = "\
receivers: {otlp: {protocols: {http: {endpoint: 0.0.0.0:4318}}}}
exporters: {debug: {}}
extensions: {health_check: {endpoint: 0.0.0.0:13133}}
service: {extensions: [health_check], pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
";

struct Clock(Instant);

impl Pace for Clock {
    fn now(&self) -> Uptime {
        self.0.elapsed()
    }

    fn pause(&mut self, duration: Duration) -> Result<(), Stopped> {
        std::thread::sleep(duration);
        Ok(())
    }
}

struct Real {
    client: Client,
    target: Target,
    rules: Rules,
}

impl Real {
    fn new(client: Client, kind: WorkloadKind, deadline: u64) -> Real {
        let config_map = Name::parse(&format!("configs-{}", kind.name().to_lowercase())).unwrap();
        let workload = WorkloadId { kind, name: Name::parse("rolled").unwrap() };
        let target = Target { config_map, key: "agent.yaml".to_owned(), workload };
        let rules = Rules { deadline: Duration::from_secs(deadline), settle: Duration::from_secs(3) };
        let real = Real { client, target, rules };
        // What an earlier run has left; then all are available.
        real.run(None);
        real.roll_out(GOOD);
        real
    }

    fn run(&self, candidate: Option<Candidate>) -> Option<Finished> {
        let pace = &mut Clock(Instant::now());
        Rollout { api: &self.client, target: &self.target, rules: self.rules, pace }.run(candidate).unwrap()
    }

    /// Until it has begun: pods may be young.
    fn roll_out(&self, text: &str) -> Outcome {
        let revision = crate::config::yaml::parse(text.as_bytes()).unwrap().revision();
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let outcome = self.run(Some(Candidate { revision: &revision, text })).unwrap().outcome;
            let Outcome::NotInstalled { reason } = &outcome else { return outcome };
            assert!(Instant::now() < until, "{reason}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn data(&self) -> String {
        self.client.config_map(&self.target.config_map).unwrap().data.remove("agent.yaml").unwrap_or_default()
    }

    fn pods(&self) -> BTreeSet<String> {
        let selector = self.client.workload(&self.target.workload).unwrap().spec.selector;
        let pods = self.client.pods(&selector, None).unwrap().items;
        pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| pod.metadata.name).collect()
    }

    /// A bad config changes one pod at most, and is undone.
    fn assert_rolled_back(&self, text: &str, expected: &str) {
        let (before, data) = (self.pods(), self.data());
        let Outcome::RolledBack { problem, former } = self.roll_out(text) else { panic!("{text} was installed") };
        assert!(problem.contains(expected), "{problem}");
        assert_eq!((self.data(), former), (data, None));
        let config_map = self.client.config_map(&self.target.config_map).unwrap();
        assert_eq!((State::of(&config_map), config_map.data.len()), (None, 1));
        assert_eq!(Rejection::of(&config_map).unwrap().problem, problem);
        assert!(before.intersection(&self.pods()).count() + 1 >= before.len(), "{before:?} {:?}", self.pods());
    }
}

fn without_health_check() -> String {
    GOOD.replace("0.0.0.0:13133", "0.0.0.0:13199")
}

fn of_a_foreign_address() -> String {
    GOOD.replace("0.0.0.0:4318", "203.0.113.9:4318")
}

fn other() -> String {
    GOOD.replace("debug: {}", "debug: {verbosity: basic}")
}

#[test]
fn a_real_daemon_set_is_rolled_out_and_back() {
    let Some(client) = test_server::client() else { return };
    let daemon_set = Real::new(client, WorkloadKind::DaemonSet, 20);
    daemon_set.assert_rolled_back(&of_a_foreign_address(), "container collector: CrashLoopBackOff");
    daemon_set.assert_rolled_back(&without_health_check(), "no progress for 20s");
    let before = daemon_set.pods();
    assert_eq!(daemon_set.roll_out(&other()), Outcome::Installed);
    assert!(daemon_set.data() == other() && before.is_disjoint(&daemon_set.pods()));
}

#[test]
fn a_real_deployment_is_rolled_out_and_back() {
    let Some(client) = test_server::client() else { return };
    let deployment = Real::new(client, WorkloadKind::Deployment, 60);
    let before = deployment.pods();
    deployment.assert_rolled_back(&without_health_check(), "ProgressDeadlineExceeded");
    deployment.assert_rolled_back(&of_a_foreign_address(), "container collector: CrashLoopBackOff");
    assert_eq!(deployment.pods(), before);
    assert_eq!(deployment.roll_out(&other()), Outcome::Installed);
    assert!(deployment.data() == other() && before.is_disjoint(&deployment.pods()));
}
