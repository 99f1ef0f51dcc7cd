//! The chart, by Helm: what it renders is valid, installs, and takes nothing away at an upgrade.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Cluster, IMAGE};
use crate::support::bin::Output;
use crate::support::source;

const CHART: &str = "dist/kubernetes/chart";

pub fn chart() -> String {
    source::path(CHART).display().to_string()
}

impl Cluster {
    pub fn helm<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        self.run("helm", args)
    }

    /// What the chart renders with these values.
    fn template(&self, values: &[&str]) -> String {
        let chart = chart();
        let args = ["template", "km", &chart, "--kube-version", "1.34.0"];
        let values = values.iter().flat_map(|value| ["--set", value]);
        let output = self.helm(args.into_iter().chain(values));
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout
    }
}

/// What is set in the chart 1.x, with no key of ours.
const FORMER: &[&str] = &[
    "API_KEY=1234567",
    "KM_CFG_UPDATER_RPC_ADDR=5501",
    "installCRDs=true",
    "featuresEnabled.logs=true",
    "featuresEnabled.apm=true",
    "monitoredNamespaces={a,b}",
    "KM_XLOG_PATHS={/var/log/pods/noisy_*/*/*.log}",
    "polylangDetectorName=x",
    "podLabels.a=b",
];

#[test]
fn whatever_it_renders_is_valid_to_the_api_server() {
    // A name that YAML takes for a boolean.
    let Some(cluster) = Cluster::namespace("y") else { return };
    let chart = chart();
    let lint = cluster.helm(["lint", "--strict", &chart]);
    assert_eq!(lint.code, Some(0), "{lint:?}");
    for values in [
        &[][..],
        FORMER,
        &["mode=rollout"],
        &["mode=rollout", "featuresEnabled.metrics=false", "featuresEnabled.traces=false"],
        &["handOver=false", "daemonset.hostPorts=true", "deployment.replicas=3", "canaryTime=0"],
        &["tolerations=null", "daemonset.tolerations=null", "daemonset.maxUnavailable=10%"],
        &[
            "apiKey.existingSecret=a",
            "relay.existingTlsSecret=b",
            "relay.existingTokenSecret=c",
            "monitoredNamespaces=x",
        ],
    ] {
        let rendered = cluster.template(values);
        let mut command = cluster.command("kubectl", ["apply", "--dry-run=server", "--validate=strict", "-f", "-"]);
        let output = super::piped(&mut command, &rendered);
        assert!(output.status.success(), "{values:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!rendered.contains("docker.sock") && !rendered.contains("privileged"), "{values:?}");
    }
    let refused = cluster.helm(["template", "km", &chart, "--kube-version", "1.34.0", "--set", "mode=x"]);
    assert!(refused.stderr.contains("it takes relay or rollout"), "{refused:?}");
}

/// A number of a values file is a float64 to a template, whose text is another one.
#[test]
fn values_keep_their_text_or_are_refused() {
    let Some(cluster) = Cluster::namespace("texts") else { return };
    let chart = chart();
    for name in ["API_KEY", "clusterName", "image.tag"] {
        let value = format!("{name}=12345678");
        let refused = cluster.helm(["template", "km", &chart, "--kube-version", "1.34.0", "--set-json", &value]);
        assert!(refused.stderr.contains("quote it"), "{refused:?}");
    }
    let rendered = cluster.template(&["monitoredNamespaces= a\\, b  c"]);
    assert_eq!(rendered.matches(r#"KM_K8S_MONITORED_NAMESPACES, value: "a,b,c"}"#).count(), 2, "{rendered}");
    assert!(rendered.contains(r#"namespaces: ["a","b","c"]"#), "{rendered}");
}

/// What they read at their start alone.
#[test]
fn another_key_and_another_config_replace_the_pods() {
    let Some(cluster) = Cluster::namespace("checksums") else { return };
    let checksums = |values: &[&str]| -> Vec<String> {
        let rendered = cluster.template(values);
        rendered.lines().filter(|line| line.contains("checksum/")).map(str::to_string).collect()
    };
    let before = checksums(&["API_KEY=a"]);
    assert_eq!(before.len(), 4, "{before:?}");
    for (values, expected) in [
        (&["API_KEY=a", "updater.logLevel=debug"][..], 0),
        (&["API_KEY=b"][..], 2),
        (&["API_KEY=a", "featuresEnabled.events=false"][..], 1),
    ] {
        let after = checksums(values);
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!((after.len(), changed), (4, expected), "{values:?}: {after:?}");
    }
}

#[test]
fn the_manifests_are_the_charts() {
    let Some(cluster) = Cluster::namespace("manifests") else { return };
    for mode in ["relay", "rollout"] {
        let path = format!("dist/kubernetes/manifests/{mode}.yaml");
        let (shipped, chart) = (source::read(&path), chart());
        let values = source::path("dist/kubernetes/manifests.values.yaml").display().to_string();
        let mode = format!("mode={mode}");
        let output = cluster.run_bare(
            "helm",
            [
                "template",
                "km-agent",
                &chart,
                "--namespace",
                "km-agent",
                "--kube-version",
                "1.34.0",
                "--values",
                &values,
                "--set",
                &mode,
            ],
        );
        let shipped = shipped.split_once('\n').unwrap().1;
        assert_eq!(output.says(), shipped, "{path}: run dist/kubernetes/render");
    }
}

/// In a namespace that admits nothing else.
#[test]
fn the_updater_and_the_clusters_collector_are_restricted() {
    let Some(cluster) = Cluster::namespace("restricted") else { return };
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(["label", "namespace", "restricted", label]).says();
    let pods = |component: &str, values: &[&str]| {
        let rendered = cluster.template(values);
        let found = rendered.split("\n---\n").find(|document| {
            document.contains("\nkind: D") && document.contains(&format!("app.kubernetes.io/component: {component}"))
        });
        let object: Value = serde_yaml::from_str(found.unwrap()).unwrap();
        let mut template = object["spec"]["template"].clone();
        template["apiVersion"] = json!("v1");
        template["kind"] = json!("Pod");
        template["metadata"]["name"] = json!("pod");
        template["spec"]["serviceAccountName"] = json!("default");
        template
    };
    let admits = |pod: &Value| {
        let mut command = cluster.command("kubectl", ["apply", "--dry-run=server", "-f", "-"]);
        let output = super::piped(&mut command, &pod.to_string());
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for mode in ["mode=relay", "mode=rollout"] {
        let (admitted, why) = admits(&pods("updater", &[mode]));
        assert!(admitted, "{mode}: {why}");
    }
    let (admitted, why) = admits(&pods("deployment", &["handOver=false"]));
    assert!(admitted, "{why}");
    // The negative control, and what NOTES say of it.
    let (admitted, why) = admits(&pods("daemonset", &[]));
    assert!(!admitted && why.contains("hostPath"), "{why}");
}

/// With the features in each way: the collector of dist/collector/kubernetes.yaml, which takes minutes to build.
#[test]
fn its_own_configs_are_valid_to_their_collector() {
    let Some(cluster) = Cluster::namespace("configs") else { return };
    let collector = std::env::var_os("KM_KUBERNETES_COLLECTOR").expect("the collector's path");
    for features in 0..16 {
        let names = ["logs", "metrics", "traces", "events"].into_iter().enumerate();
        let feature = |(at, name): (usize, &str)| format!("featuresEnabled.{name}={}", features >> at & 1 == 1);
        let values: Vec<String> = names.map(feature).chain(["monitoredNamespaces={a,b}".into()]).collect();
        let rendered = cluster.template(&values.iter().map(String::as_str).collect::<Vec<_>>());
        let documents = rendered.split("\n---\n").map(|text| serde_yaml::from_str::<Value>(text).unwrap());
        let maps = documents.filter(|it| it["kind"] == "ConfigMap" && it["data"].is_object());
        let configs: Vec<String> = maps
            .flat_map(|map| map["data"].as_object().unwrap().values().cloned().collect::<Vec<_>>())
            .map(|text| text.as_str().unwrap().to_string())
            .collect();
        assert_eq!(configs.len(), 2);
        for config in configs {
            let path = cluster.dir.join("config.yaml");
            // Where a pod has the node's files, and its account's.
            let here = config.replace("root_path: /hostfs", "root_path: /");
            std::fs::write(&path, here.replace("auth_type: serviceAccount", "auth_type: none")).unwrap();
            let mut command = std::process::Command::new(&collector);
            command.arg("validate").arg("--config").arg(&path);
            for name in ["KM_COLLECTOR_ENDPOINT", "KM_API_KEY", "KM_CLUSTER_NAME", "KM_NODE_NAME", "KM_NODE_HOST_IP"] {
                command.env(name, "https://127.0.0.1");
            }
            let output = crate::support::bin::output(command);
            assert_eq!(output.code, Some(0), "{values:?}: {output:?}\n{config}");
        }
    }
}

/// Small configs that the small collector has the components for.
pub fn config(name: &str) -> Value {
    super::pod::config(name)
}

/// Values for an installation on one node that takes seconds.
pub fn values(cluster: &Cluster) -> PathBuf {
    let (repository, tag) = IMAGE.split_once(':').unwrap();
    let own = config("default").to_string();
    let values = json!({
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "API_KEY": "vendor-key",
        "clusterName": cluster.namespace,
        "clusterRoleName": cluster.namespace,
        "clusterRoleBindingName": cluster.namespace,
        "KM_CONFIG_CHECK_INTERVAL": "2s",
        "minUptimeSeconds": 2,
        "confirmTime": "2s",
        "rolloutDeadline": "30s",
        "daemonset": {"config": own},
        "deployment": {"config": own},
    });
    let path = cluster.dir.join(format!("{}.values.json", cluster.namespace));
    std::fs::write(&path, values.to_string()).unwrap();
    path
}

/// Neither a config that came from afar, nor certificate and token, which running pods know.
#[test]
fn an_upgrade_takes_nothing_away() {
    let Some(cluster) = Cluster::namespace("upgrade") else { return };
    let (chart, values) = (chart(), values(&cluster).display().to_string());
    let installed = cluster.helm(["install", "km", &chart, "--values", &values]);
    assert!(installed.stdout.contains("Look at"), "{installed:?}");
    let secrets =
        || ["tls", "token"].map(|name| cluster.get("secret", &format!("km-fleet-manager-{name}"))["data"].clone());
    let made = secrets();
    let patch = json!({"data": {"agent-daemonset.yaml": "from: afar"}}).to_string();
    cluster.kubectl(["patch", "configmap", "km-agent-configmap-daemonset", "--type=merge", "-p", &patch]).says();
    // As those upgrade who come from the chart 1.x.
    let former: Vec<&str> = FORMER.iter().flat_map(|value| ["--set", value]).collect();
    let upgraded =
        cluster.helm(["upgrade", "km", &chart, "--values", &values].into_iter().chain(former.iter().copied()));
    assert_eq!(upgraded.code, Some(0), "{upgraded:?}");
    for words in
        ["KM_CFG_UPDATER_RPC_ADDR is not", "installCRDs is not", "polylangDetectorName is not", "apm has no effect"]
    {
        assert!(upgraded.stdout.contains(words), "{words}: {}", upgraded.stdout);
    }
    assert_eq!(secrets(), made);
    let kept = cluster.get("configmap", "km-agent-configmap-daemonset")["data"].clone();
    assert_eq!(kept, json!({"agent-daemonset.yaml": "from: afar"}));
    assert_eq!(cluster.helm(["uninstall", "km"]).code, Some(0));
}
