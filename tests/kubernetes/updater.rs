//! `kmagent cluster`, installed by the chart: what becomes of a config that the vendor's API has.

use std::time::Duration;

use kmagent::config::yaml;
use serde_json::{Value, json};

use super::chart::{chart, config, values};
use super::vendor::Vendor;
use super::{Cluster, Load, POD_DEADLINE};
use crate::support::wait::{holds_for, wait_for};

const DAEMONSET_CONFIG: &str = "km-agent-configmap-daemonset";
const DEPLOYMENT_CONFIG: &str = "km-agent-configmap-deployment";

/// A release whose updater asks `vendor`, with everything ready.
fn install(cluster: &Cluster, vendor: &Vendor, more: &[&str]) {
    let (chart, values, url) = (chart(), values(cluster).display().to_string(), vendor.url());
    let url = format!("KM_UPDATE_ENDPOINT={url}");
    let mut args = vec!["install", "km", &chart, "--values", &values, "--set", &url];
    args.extend(["--set-json", r#"updater.extraEnv=[{"name":"KM_ALLOW_HTTP","value":"true"}]"#]);
    args.extend(more.iter().flat_map(|value| ["--set", value]));
    let output = cluster.helm(args);
    assert_eq!(output.code, Some(0), "{output:?}");
}

fn wait_available(cluster: &Cluster) {
    cluster.wait("the workloads", || {
        let daemonset = cluster.get("daemonset", "km-agent");
        let deployments = ["km-agent-cluster", "km-fleet-manager"].map(|name| cluster.get("deployment", name));
        let is_up = |deployment: &Value| deployment["status"]["availableReplicas"] == 1;
        daemonset["status"]["numberAvailable"] == 1 && deployments.iter().all(is_up)
    });
}

fn offer(vendor: &Vendor, daemonset: &Value, deployment: &Value) {
    let configs = json!({"daemonset_config": daemonset, "deployment_config": deployment});
    vendor.answer(json!({"restart_required": true, "config": configs}));
}

fn revision(config: &Value) -> String {
    yaml::parse(config.to_string().as_bytes()).unwrap().revision().to_string()
}

impl Cluster {
    /// The one pod of a part of the release.
    fn pod(&self, component: &str) -> String {
        let label = format!("app.kubernetes.io/component={component}");
        let name = || {
            let output = self.kubectl(["get", "pods", "-l", &label, "-o", "json"]);
            let pods: Value = serde_json::from_str(&output.stdout).ok()?;
            let pods = pods["items"].as_array()?.clone();
            let living: Vec<&Value> =
                pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
            let [pod] = living[..] else { return None };
            pod["metadata"]["name"].as_str().map(str::to_string)
        };
        wait_for(&format!("one pod of {component}"), POD_DEADLINE, name)
    }

    fn revision(&self, pod: &str) -> Option<String> {
        self.status(pod)?["config"]["revision"].as_str().map(str::to_string)
    }

    /// The proved config of a group.
    fn kept(&self, config_map: &str, group: &str) -> Option<String> {
        let map = self.get("configmap", config_map);
        let text = map["data"][format!("agent-{group}.yaml")].as_str()?.to_string();
        Some(yaml::parse(text.as_bytes()).ok()?.revision().to_string())
    }

    fn annotation(&self, config_map: &str, name: &str) -> Option<String> {
        let map = self.get("configmap", config_map);
        map["metadata"]["annotations"][format!("kmagent.kloudmate.com/{name}")].as_str().map(str::to_string)
    }

    #[track_caller]
    fn wait_kept(&self, config: &Value) {
        let expected = Some(revision(config));
        self.wait("a config that all pods have proved", || {
            self.kept(DAEMONSET_CONFIG, "daemonset") == expected
                && self.kept(DEPLOYMENT_CONFIG, "deployment") == expected
        });
    }
}

#[test]
fn with_the_relay_a_config_reaches_the_pods_without_a_lost_request_and_a_bad_one_none() {
    let Some(cluster) = Cluster::namespace("relay") else { return };
    let vendor = Vendor::start();
    install(&cluster, &vendor, &[]);
    wait_available(&cluster);
    let (node, central) = (cluster.pod("daemonset"), cluster.pod("deployment"));
    assert_eq!(cluster.revision(&node), Some(revision(&config("default"))), "the chart's own");
    let request = wait_for("a config check", POD_DEADLINE, || vendor.requests().into_iter().next_back());
    let report = request.json();
    assert_eq!(request.header("authorization"), Some("vendor-key"));
    assert_eq!(report.as_object().unwrap().len(), 10, "{report}");
    assert_eq!((&report["hostname"], &report["platform"]), (&json!("relay"), &json!("k8s")));

    // Under load, at both.
    let loads = [&node, &central].map(|pod| Load::start(&format!("{}:4318", cluster.address(pod))));
    cluster.wait("some load", || loads.iter().all(|load| load.sent() > 100));
    offer(&vendor, &config("good"), &config("good"));
    cluster.wait_kept(&config("good"));
    let sent = loads.each_ref().map(Load::sent);
    cluster.wait("some more load", || loads.iter().zip(sent).all(|(load, sent)| load.sent() > sent + 100));

    // A bad one is refused by the first pod that it is offered to, and told wherever people look.
    let mut bad = config("bad");
    bad["receivers"]["no_such_receiver"] = json!({});
    offer(&vendor, &bad, &config("good"));
    let rejected = || cluster.annotation(DAEMONSET_CONFIG, "rejected").filter(|rejected| *rejected == revision(&bad));
    wait_for("a rejection", POD_DEADLINE, rejected);
    let reason = cluster.annotation(DAEMONSET_CONFIG, "rejected-reason").unwrap();
    assert!(reason.contains("no_such_receiver"), "{reason}");
    cluster.wait("an Event", || cluster.kubectl(["get", "events"]).stdout.contains("ConfigRejected"));
    cluster
        .wait("the vendor's knowledge", || vendor.requests().last().unwrap().json()["collector_status"] == "Stopped");
    let log = cluster.logs(&cluster.pod("updater"));
    assert!(log.contains("no_such_receiver"), "{log}");
    let good = Some(revision(&config("good")));
    assert_eq!([cluster.revision(&node), cluster.revision(&central)], [good.clone(), good.clone()]);
    assert_eq!(cluster.kept(DAEMONSET_CONFIG, "daemonset"), good);
    for load in loads {
        let (failures, sent) = load.end();
        assert!(failures.is_empty(), "{} of {sent}: {failures:?}", failures.len());
    }
    for pod in [&node, &central] {
        assert_eq!(
            cluster.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"],
            0,
            "no pod was restarted"
        );
    }

    // A new pod begins with what has proved itself, also while there is no updater.
    offer(&vendor, &config("good"), &config("good"));
    cluster.kubectl(["scale", "deployment", "km-fleet-manager", "--replicas=0"]).says();
    cluster.kubectl(["delete", "pod", &node, "--now"]).says();
    let new = cluster.pod("daemonset");
    cluster.wait_ready(&new);
    assert_eq!(cluster.revision(&new), good);
}

#[test]
fn an_updater_that_is_killed_amid_a_change_goes_on() {
    let Some(cluster) = Cluster::namespace("killed") else { return };
    let vendor = Vendor::start();
    // Longer on the way, so that there is an amid.
    install(&cluster, &vendor, &["confirmTime=6s"]);
    wait_available(&cluster);
    offer(&vendor, &config("good"), &config("good"));
    for _ in 0..2 {
        wait_for("a candidate", POD_DEADLINE, || cluster.annotation(DAEMONSET_CONFIG, "candidate"));
        let updater = cluster.pod("updater");
        cluster.kubectl(["delete", "pod", &updater, "--force", "--grace-period=0"]);
    }
    cluster.wait_kept(&config("good"));
    assert_eq!(cluster.annotation(DAEMONSET_CONFIG, "candidate"), None);
    let pod = cluster.pod("daemonset");
    assert_eq!(cluster.revision(&pod), Some(revision(&config("good"))));
}

#[test]
fn by_rollout_the_workloads_are_restarted_and_a_bad_config_is_undone() {
    let Some(cluster) = Cluster::namespace("rollout") else { return };
    let vendor = Vendor::start();
    install(&cluster, &vendor, &["mode=rollout"]);
    wait_available(&cluster);
    let before = cluster.pod("daemonset");
    offer(&vendor, &config("good"), &config("good"));
    cluster.wait_kept(&config("good"));
    cluster.wait("another pod", || cluster.pod("daemonset") != before);
    wait_available(&cluster);
    let good = Some(revision(&config("good")));
    assert_eq!(cluster.revision(&cluster.pod("daemonset")), good);
    assert_eq!(cluster.revision(&cluster.pod("deployment")), good);

    // It is valid, and no collector can start with it: there is no such address.
    let mut bad = config("bad");
    bad["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = json!("203.0.113.9:4318");
    offer(&vendor, &bad, &bad);
    let rejected = || cluster.annotation(DAEMONSET_CONFIG, "rejected").filter(|rejected| *rejected == revision(&bad));
    wait_for("a rejection", POD_DEADLINE * 2, rejected);
    cluster.wait("what was there", || cluster.kept(DAEMONSET_CONFIG, "daemonset") == good);
    wait_available(&cluster);
    assert_eq!(cluster.revision(&cluster.pod("daemonset")), good);
}

#[test]
fn rights_that_are_missing_are_named_as_the_rules_to_add() {
    let Some(cluster) = Cluster::namespace("rights") else { return };
    let vendor = Vendor::start();
    install(&cluster, &vendor, &[]);
    wait_available(&cluster);
    cluster.kubectl(["delete", "rolebinding", "km-fleet-manager"]).says();
    offer(&vendor, &config("good"), &config("good"));
    let updater = cluster.pod("updater");
    cluster.kubectl(["delete", "pod", &updater, "--now"]).says();
    let rule = format!(
        "- {{apiGroups: [\\\"\\\"], resources: [configmaps], resourceNames: [{DAEMONSET_CONFIG}], verbs: [get, patch]}}"
    );
    cluster.wait("the missing rule", || cluster.logs(&cluster.pod("updater")).contains(&rule));
    let pod = cluster.pod("daemonset");
    let default = Some(revision(&config("default")));
    holds_for("nothing offered", Duration::from_secs(4), || cluster.revision(&pod) == default);
}
