use std::ffi::OsString;

use super::*;
use crate::error::Exit;
use crate::settings::{Polling, resolve_cluster};

/// What the chart sets, as it sets it.
const OF_A_CHART: [(&str, &str); 12] = [
    ("KM_API_KEY", "a-key"),
    ("KM_CLUSTER_NAME", "prod-1"),
    ("KM_NAMESPACE", "km-agent"),
    ("CONFIGMAP_DAEMONSET_NAME", "km-agent-configmap-daemonset"),
    ("CONFIGMAP_DEPLOYMENT_NAME", "km-agent-configmap-deployment"),
    ("KM_DAEMONSET_NAME", "km-agent"),
    ("KM_DEPLOYMENT_NAME", "km-agent-cluster"),
    ("KM_K8S_MONITORED_NAMESPACES", "shop, bank,"),
    ("KM_LOGS_ENABLED", "true"),
    ("KM_CONFIG_CHECK_INTERVAL", "30s"),
    ("KM_RELAY_CERTIFICATE", "/tls/relay.pem"),
    ("KM_RELAY_TOKEN_FILE", "/token/token"),
];

/// With these variables in place of a chart's; an empty text is none.
fn settled(changed: &[(&str, &str)]) -> crate::error::Result<(crate::settings::Settings, ClusterSettings)> {
    let env = |name: &str| {
        let text = changed.iter().chain(&OF_A_CHART).find(|(own, _)| *own == name).map(|(_, text)| *text);
        text.map(OsString::from)
    };
    resolve_cluster(&[], &env).map(|(resolved, cluster)| (resolved.settings, cluster))
}

fn problem(changed: &[(&str, &str)]) -> String {
    let error = settled(changed).map(|(_, cluster)| cluster).unwrap_err();
    assert_eq!(error.exit(), Exit::Settings);
    error.to_string()
}

#[test]
fn the_variables_of_the_original_mean_what_they_meant() {
    let (settings, cluster) = settled(&[]).unwrap();
    assert_eq!(settings.config_check_interval, Some(Duration::from_secs(30)));
    assert_eq!(settings.polling, Polling::Endpoint("https://api.kloudmate.com/agents/config-check".into()));
    assert_eq!((&*cluster.cluster_name, cluster.namespace.as_deref()), ("prod-1", Some("km-agent")));
    assert_eq!(cluster.monitored_namespaces, ["shop", "bank"]);
    assert!(cluster.logs_enabled);
    let groups: Vec<_> = cluster.groups.iter().map(|group| (group.workload, &*group.config_map)).collect();
    let expected = [
        (Workload::DaemonSet, "km-agent-configmap-daemonset"),
        (Workload::Deployment, "km-agent-configmap-deployment"),
    ];
    assert_eq!(groups, expected);
    assert_eq!(
        (cluster.mode, cluster.canary_time, &cluster.rollout_steps[..]),
        (ClusterMode::Relay, None, &[25, 100][..])
    );
    let (settings, _) = settled(&[("KM_UPDATE_ENDPOINT", "https://gateway.example/check")]).unwrap();
    assert_eq!(settings.polling, Polling::Endpoint("https://gateway.example/check".into()), "1.x ignored it");
}

#[test]
fn one_group_will_do() {
    let none = [("CONFIGMAP_DEPLOYMENT_NAME", ""), ("KM_DEPLOYMENT_NAME", "")];
    let (_, cluster) = settled(&none).unwrap();
    assert_eq!(cluster.groups.iter().map(|group| group.workload).collect::<Vec<_>>(), [Workload::DaemonSet]);
    assert!(settled(&[("KM_DAEMONSET_NAME", "")]).is_ok(), "the relay does not ask for the workload");
    assert!(
        problem(&[("KM_DAEMONSET_NAME", ""), ("KM_CLUSTER_MODE", "rollout")]).contains("daemonset-name is not set")
    );
    assert!(problem(&[("CONFIGMAP_DAEMONSET_NAME", "")]).contains("configmap-daemonset-name is not set"));
    let both = [none, [("CONFIGMAP_DAEMONSET_NAME", ""), ("KM_DAEMONSET_NAME", "")]].concat();
    assert!(problem(&both).contains("there is nothing to configure"));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (name, text, expected) in [
        ("KM_CLUSTER_NAME", "", "kube-cluster-name is not set"),
        ("KM_RELAY_TOKEN_FILE", "", "relay-token-file is not set"),
        ("KM_RELAY_CERTIFICATE", "", "in cleartext"),
        ("KM_CLUSTER_MODE", "both", "KM_CLUSTER_MODE: \"both\" is not a cluster mode: it takes relay or rollout"),
        ("KM_NAMESPACE", "Shop", "is not the name of a Kubernetes object"),
        ("CONFIGMAP_DAEMONSET_NAME", "a/b", "is not the name of a Kubernetes object"),
        ("KM_K8S_MONITORED_NAMESPACES", "shop,b_k", "is not the name of a Kubernetes object"),
        ("KM_RELAY_LISTEN", "relay:8443", "is not an address to listen at"),
        ("KM_ROLLOUT_STEPS", "50%", "the last is 100%"),
        ("KM_ROLLOUT_STEPS", "50 25 100", "ascending"),
        ("KM_ROLLOUT_STEPS", "0,100", "ascending"),
        ("KM_CANARY_TIME", "2d", "is not a duration"),
    ] {
        let problem = problem(&[(name, text)]);
        assert!(problem.contains(expected), "{name}={text}: {problem}");
    }
}

#[test]
fn cleartext_is_for_loopback_and_asked_for() {
    let local = ("KM_RELAY_LISTEN", "127.0.0.1:0");
    let without = ("KM_RELAY_CERTIFICATE", "");
    assert!(settled(&[local, without, ("KM_ALLOW_HTTP", "true")]).is_ok());
    assert!(problem(&[local, without]).contains("in cleartext"));
    assert!(problem(&[without, ("KM_ALLOW_HTTP", "true")]).contains("in cleartext"));
    // Rollout listens nowhere.
    assert!(settled(&[without, ("KM_RELAY_TOKEN_FILE", ""), ("KM_CLUSTER_MODE", "rollout")]).is_ok());
}

#[test]
fn steps_and_addresses_are_read_in_each_spelling() {
    for text in ["10%,50%,100%", "10 50 100", "10%, 50%, 100%"] {
        assert_eq!(settled(&[("KM_ROLLOUT_STEPS", text)]).unwrap().1.rollout_steps, [10, 50, 100], "{text}");
    }
    for (text, expected) in [(":9443", "0.0.0.0:9443"), ("[::]:8443", "[::]:8443"), ("10.0.0.1:1", "10.0.0.1:1")] {
        assert_eq!(settled(&[("KM_RELAY_LISTEN", text)]).unwrap().1.relay.listen.to_string(), expected);
    }
}
