//! A host with a kernel, busybox and the tarball, and nothing else: installed, run, changed, upgraded, restarted,
//! removed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use serde_json::{Value, json};

use super::debian::assert_layout;
use super::root::{Root, available};
use super::stage::{OLDER, Stage, VERSION, assert_done};
use super::tree::assert_same;
use crate::support::api::Api;
use crate::support::bin;
use crate::support::wait::wait_until;

fn running(status: &Value) -> bool {
    status["collector"]["state"] == "running"
}

#[test]
fn a_whole_life_with_the_real_collector() {
    if !available() {
        return;
    }
    let mut root = Root::busybox();
    // Without useradd and adduser these files are edited.
    root.write("/etc/group", "root:x:0:\nadm:x:4:root\nsystemd-journal:x:50:\n", 0o644);
    root.write("/etc/shadow", "root:*:::::::\n", 0o600);
    let before = root.tree();
    let old = Stage::with_collector(&bin::collector()).older();
    let new = Stage::with_collector(&bin::collector());
    let api = root.in_its_network(Api::plain);
    let url = api.url();

    // ---- installed
    let env = [("KM_API_KEY", "sk_123456"), ("KM_UPDATE_ENDPOINT", &*url), ("KM_MIN_UPTIME", "1s")];
    let env = [&env[..], &[("KM_CONFIG_CHECK_INTERVAL", "1s")]].concat();
    let output = root.install(&old, &env, &[]);
    assert_done(&output);
    assert!(output.stdout.contains("service manager: sysv"), "{output:#?}");
    let first = root.wait_status("the default config runs", running);
    assert_eq!(first["agent_version"], OLDER);
    let account = fs::metadata(root.join("/var/lib/kmagent")).unwrap().uid();
    let user = |status: &Value| fs::metadata(root.join(&format!("/proc/{}", status["pid"]))).unwrap().uid();
    assert!((100..1000).contains(&account), "{account}");
    assert_eq!(user(&first), account, "it runs as its own user");
    assert_eq!(api.requests()[0].header("authorization"), Some("sk_123456"));

    let group = fs::metadata(root.join("/etc/kmagent")).unwrap().gid();
    let groups = root.read("/etc/group");
    for line in ["adm:x:4:root,kmagent", "systemd-journal:x:50:kmagent", &format!("kmagent:x:{group}:")] {
        assert!(groups.lines().any(|group| group == line), "{groups}");
    }
    assert!(root.read("/etc/shadow").ends_with("\nkmagent:!:::::::\n"));

    // ---- a config from the API
    let endpoint = json!({"endpoint": "127.0.0.1:9998"});
    api.answer_config(json!({
        "receivers": {"otlp": {"protocols": {"http": endpoint}}},
        "exporters": {"debug": {}},
        // It has no /etc/hosts, which the address of the collector's own metrics would take.
        "service": {
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["debug"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }));
    let second = root.wait_status("the API's config runs", |status| {
        running(status) && status["config"]["revision"] != first["config"]["revision"]
    });
    assert_layout(&root, account);
    let config = fs::metadata(root.join("/var/lib/kmagent/config.yaml")).unwrap();
    assert_eq!((config.uid(), config.mode() & 0o777), (account, 0o600));
    assert!(root.read("/var/lib/kmagent/config.yaml").contains("9998"));

    // ---- upgraded
    let settings = root.read("/etc/kmagent/agent.yaml");
    let output = root.install(&new, &[], &[]);
    assert_done(&output);
    assert!(output.stdout.contains(&format!("upgrading kmagent {OLDER} to {VERSION}")), "{output:#?}");
    let third = root.status().unwrap();
    assert_eq!((&third["agent_version"], running(&third)), (&json!(VERSION), true));
    assert_eq!(third["config"]["revision"], second["config"]["revision"]);
    assert_eq!(root.read("/etc/kmagent/agent.yaml"), settings);
    let output = root.install(&new, &[], &[]);
    assert!(output.stdout.contains("all files are up to date"), "{output:#?}");
    assert_eq!(root.status().unwrap()["pid"], third["pid"], "there was nothing to restart it for");

    // ---- the power fails
    root.reboot();
    let fourth = root.wait_status("it runs after a boot", running);
    assert_eq!(fourth["config"]["revision"], second["config"]["revision"]);

    // ---- removed
    let output = root.run(&["/usr/local/lib/kmagent/install.sh", "--uninstall"]);
    assert_done(&output);
    wait_until("nothing runs any more", || root.processes().is_empty());
    assert!(root.join("/var/lib/kmagent/config.yaml").exists() && root.join("/etc/kmagent/api-key").exists());
    assert!(!root.join("/usr/local").exists() && !root.join("/etc/init.d/S90kmagent").exists());
    let output = root.install(&new, &[], &["--purge"]);
    assert_done(&output);
    assert_same(&before, &root.tree(), "before and after");
}

/// Nobody starts it, nobody restarts it; but removing it stops it, or its collector would be started again and again in
/// vain.
#[test]
fn an_agent_that_is_run_by_hand() {
    if !available() {
        return;
    }
    let root = Root::busybox();
    let (old, new) = (Stage::new().older(), Stage::new());
    let output = root.install(&old, &[], &["--init", "none"]);
    assert_done(&output);
    assert!(output.stdout.contains("run /usr/local/bin/kmagent start"), "{output:#?}");
    let mut agent = root.command(&[], &["/usr/local/bin/kmagent", "start"]).stderr(Stdio::null()).spawn().unwrap();
    let first = root.wait_status("it answers", |status| status["agent_version"] == OLDER);
    let output = root.install(&new, &[], &[]);
    assert_done(&output);
    assert!(output.stdout.contains("the previous agent is still running"), "{output:#?}");
    assert_eq!(root.status().unwrap()["pid"], first["pid"]);
    let output = root.install(&new, &[], &["--uninstall"]);
    assert_done(&output);
    assert!(output.stdout.contains("stopping the running agent"), "{output:#?}");
    assert_eq!(agent.wait().unwrap().code(), Some(79));
}
