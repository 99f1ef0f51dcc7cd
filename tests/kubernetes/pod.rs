//! `kmagent start` as process 1 of a pod: not root, a read-only root file system, no capability.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::vendor::Vendor;
use super::{Cluster, IMAGE, Load, POD_DEADLINE};
use crate::support::wait::{holds_for, wait_for};

pub fn config(name: &str) -> Value {
    let exporter = format!("nop/{name}");
    json!({
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "0.0.0.0:4318"}}}},
        "exporters": {exporter.clone(): {}},
        "extensions": {"health_check": {"endpoint": "0.0.0.0:13133"}},
        "service": {
            "extensions": ["health_check"],
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": [exporter]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    })
}

/// Two ConfigMaps as the chart makes them, the first without data, and a pod that is given `security` and `env`.
fn manifest(seed: &Value, vendor: &Vendor, security: &str) -> String {
    let seed = serde_json::to_string(&seed.to_string()).unwrap();
    format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: latest}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: default}}
data: {{config.yaml: {seed}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: agent}}
spec:
  terminationGracePeriodSeconds: 40
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001}}
  containers:
  - name: agent
    image: {IMAGE}
    imagePullPolicy: Never
    env:
    - {{name: KM_SEED_CONFIG, value: "/etc/kmagent/latest/config.yaml /etc/kmagent/default/config.yaml"}}
    - {{name: KM_COLLECTOR_CONFIG, value: /var/lib/kmagent/config.yaml}}
    - {{name: KM_INSTANCE_ID, valueFrom: {{fieldRef: {{fieldPath: metadata.uid}}}}}}
    - {{name: KM_HOST_NAME, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
    - {{name: KM_UPDATE_ENDPOINT, value: "{}"}}
    - {{name: KM_ALLOW_HTTP, value: "true"}}
    - {{name: KM_REPORT_EXTENDED, value: "true"}}
    - {{name: KM_CONFIG_CHECK_INTERVAL, value: 1s}}
    - {{name: KM_MIN_UPTIME, value: 2s}}
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, {security}}}
    readinessProbe: {{exec: {{command: [/usr/local/bin/kmagent, status, --ready]}}, periodSeconds: 1, timeoutSeconds: 5}}
    volumeMounts:
    - {{name: state, mountPath: /var/lib/kmagent}}
    - {{name: run, mountPath: /run/kmagent}}
    - {{name: tmp, mountPath: /tmp}}
    - {{name: latest, mountPath: /etc/kmagent/latest}}
    - {{name: default, mountPath: /etc/kmagent/default}}
  volumes:
  - {{name: state, emptyDir: {{}}}}
  - {{name: run, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
  - {{name: tmp, emptyDir: {{}}}}
  - {{name: latest, configMap: {{name: latest, optional: true}}}}
  - {{name: default, configMap: {{name: default}}}}
"#,
        vendor.url()
    )
}

const UNCONFINED: &str = "capabilities: {drop: [ALL]}, seccompProfile: {type: Unconfined}";
const WITH_PTRACE: &str = "capabilities: {drop: [ALL], add: [SYS_PTRACE]}, seccompProfile: {type: RuntimeDefault}";
/// What Pod Security calls restricted.
const RESTRICTED: &str = "capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}";

#[test]
fn it_begins_with_a_seed_and_is_ready_when_its_collector_is() {
    let Some(cluster) = Cluster::namespace("pod-seed") else { return };
    let vendor = Vendor::start();
    // A pod with nothing to begin from lives, waits, and is not ready.
    cluster.apply(&manifest(&json!(""), &vendor, RESTRICTED).replace(r#"config.yaml: "\"\"""#, r#"other: """#));
    let asked = || vendor.requests().into_iter().next_back().map(|request| request.json());
    let first = wait_for("a report", POD_DEADLINE, asked);
    assert_eq!((&first["config_state"], &first["collector_status"]), (&json!("none"), &json!("Stopped")));
    assert_eq!(first["hostname"], "n1");
    let pod = cluster.get("pod", "agent");
    assert_eq!(first["instance_id"], pod["metadata"]["uid"]);
    holds_for("not ready", Duration::from_secs(3), || !cluster.is_ready("agent"));
    vendor.answer(json!({"restart_required": true, "config": config("first")}));
    cluster.wait_ready("agent");
    cluster.kubectl(["delete", "pod", "agent", "--now"]).says();

    // A new pod begins with what the ConfigMap has by now, and needs no API for it.
    vendor.answer(json!({}));
    cluster.apply(&manifest(&config("default"), &vendor, RESTRICTED));
    cluster.wait_ready("agent");
    let expected = kmagent::config::yaml::parse(config("default").to_string().as_bytes()).unwrap().revision();
    let status = cluster.status("agent").unwrap();
    assert_eq!(status["config"]["revision"], expected.to_string());
    assert!(cluster.logs("agent").contains("/etc/kmagent/default/config.yaml"));

    // It ends well within its time: SIGTERM reaches the agent, which stops its collector.
    let pid_one = cluster.get("pod", "agent")["status"]["containerStatuses"][0]["restartCount"].clone();
    assert_eq!(pid_one, 0);
    let mut log = cluster.command("kubectl", ["logs", "--follow", "agent"]);
    let log = log.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    cluster.kubectl(["delete", "pod", "agent"]).says();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?} of the 40 s until SIGKILL");
    let log = String::from_utf8(log.wait_with_output().unwrap().stdout).unwrap();
    assert!(log.lines().last().unwrap().contains("agent stopped"), "{log}");
}

/// The new collector takes over beside the old one, and no request is lost.
fn hands_over(namespace: &str, security: &str) {
    let Some(cluster) = Cluster::namespace(namespace) else { return };
    let vendor = Vendor::start();
    cluster.apply(&manifest(&config("default"), &vendor, security));
    cluster.wait_ready("agent");
    let load = Load::start(&format!("{}:4318", cluster.address("agent")));
    cluster.wait("some load", || load.sent() > 100);
    vendor.answer(json!({"restart_required": true, "config": config("changed")}));
    wait_changed(&cluster, "hand-over");
    let sent = load.sent();
    cluster.wait("some more load", || load.sent() > sent + 100);
    let (failures, sent) = load.end();
    assert!(failures.is_empty(), "{} of {sent}: {failures:?}", failures.len());
    assert_eq!(cluster.get("pod", "agent")["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[track_caller]
fn wait_changed(cluster: &Cluster, by: &str) -> Value {
    wait_for(&format!("a change by {by}"), POD_DEADLINE, || {
        let status = cluster.status("agent")?;
        let changed_by = status["config"]["changed_by"].as_str()?;
        let is_done = changed_by.starts_with(by) && status["config"]["standing"] == "unconfirmed";
        (is_done && status["collector"]["state"] == "running").then_some(status)
    })
}

#[test]
fn it_hands_over_without_a_capability_where_seccomp_allows_it() {
    hands_over("pod-unconfined", UNCONFINED);
}

#[test]
fn it_hands_over_with_one_capability_where_seccomp_does_not() {
    hands_over("pod-ptrace", WITH_PTRACE);
}

#[test]
fn restricted_it_restarts_the_collector_and_says_why() {
    let Some(cluster) = Cluster::namespace("pod-restricted") else { return };
    let vendor = Vendor::start();
    cluster.apply(&manifest(&config("default"), &vendor, RESTRICTED));
    cluster.wait_ready("agent");
    vendor.answer(json!({"restart_required": true, "config": config("changed")}));
    let status = wait_changed(&cluster, "restart");
    let changed_by = status["config"]["changed_by"].as_str().unwrap();
    assert!(changed_by.contains("SYS_PTRACE"), "it says what it takes: {changed_by}");
    cluster.wait_ready("agent");
    // What cannot run is not tried, and the pod stays ready.
    let mut bad = config("bad");
    bad["receivers"]["no_such_receiver"] = json!({});
    vendor.answer(json!({"restart_required": true, "config": bad}));
    let is_refused = |request: &Value| request["rejected_revision"].is_string();
    let rejected = wait_for("a refusal", POD_DEADLINE, || {
        vendor.requests().into_iter().map(|request| request.json()).find(is_refused)
    });
    assert_eq!(rejected["config_revision"], status["config"]["revision"], "{rejected}");
    assert!(cluster.is_ready("agent"));
}
