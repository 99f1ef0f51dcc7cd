//! The scripts for hosts without systemd, with the real tools that run them.

use serde_json::json;

use super::is_root;
use super::machine::{AGENT, Machine};
use crate::support::bin;

const SETTINGS: &str = "/etc/kmagent/agent.yaml";

/// In this root, with the stand-in collector, which takes its time to drain.
#[track_caller]
fn machine(root: &str, service: &str) -> Machine {
    let machine = Machine::bare(root, &bin::fake());
    machine.does(&format!("cp /services/{service} /etc/init.d/kmagent && chown kmagent /etc/kmagent/api-key"));
    machine.config(&json!({"fake": {"drain_ms": 1000}}));
    machine.settings(&json!({"min-uptime": "500ms"}));
    machine
}

/// One agent, one collector, both the user's, the collector ranked to go first.
#[track_caller]
fn expect_running(machine: &Machine) -> u32 {
    machine.wait_running();
    let (agent, collector) = (machine.processes(AGENT), machine.collectors());
    assert_eq!((agent.len(), collector.len()), (1, 1));
    let owner = |pid: u32| machine.does(&format!("stat -c %U /proc/{pid}"));
    assert_eq!((owner(agent[0]), owner(collector[0])), ("kmagent".into(), "kmagent".into()));
    assert_eq!(machine.does(&format!("cat /proc/{}/oom_score_adj", collector[0])), "300");
    let environment = machine.does(&format!("tr '\\0' '\\n' </proc/{}/environ", collector[0]));
    assert!(environment.contains("\nKM_API_KEY=key-of-root\n"), "{environment}");
    agent[0]
}

#[track_caller]
fn expect_stopped(machine: &Machine) {
    assert_eq!((machine.processes(AGENT), machine.collectors()), (vec![], vec![]));
    assert_eq!(machine.processes("/usr/bin/logger"), [0; 0]);
}

/// A syslog, of which the script's logger(1) is to be a client.
#[track_caller]
fn start_syslog(machine: &Machine) {
    machine.does("mkdir -p /var/log && /bin/busybox syslogd -O /var/log/messages");
    machine.wait_for("a syslog", || (machine.sh("test -S /dev/log").code == Some(0)).then_some(()));
}

#[track_caller]
fn wait_log(machine: &Machine, text: &str) {
    machine.wait_for(text, || {
        let line = format!("grep -F 'daemon.info kmagent: ' /var/log/messages | grep -qF '{text}'");
        (machine.sh(&line).code == Some(0)).then_some(())
    });
}

#[track_caller]
fn expect_sysv_works(root: &str) {
    let machine = machine(root, "sysv/kmagent");
    let script = |verb: &str| machine.sh(&format!("/etc/init.d/kmagent {verb}"));
    assert_eq!(script("status").code, Some(3));
    let stopped = script("stop");
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(0), "kmagent: is not running\n"));
    // Without a syslog the log is lost, and nothing else.
    let started = script("start");
    assert_eq!((started.code, started.stdout.as_str()), (Some(0), "kmagent: started\n"), "{started:?}");
    let agent = expect_running(&machine);
    let again = script("start");
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "kmagent: is running already\n"));
    assert_eq!(expect_running(&machine), agent);
    assert!(script("status").stdout.contains("running"));
    start_syslog(&machine);
    assert_eq!(script("restart").code, Some(0));
    assert_ne!(expect_running(&machine), agent);
    wait_log(&machine, "agent started");
    assert_eq!(script("force-reload").code, Some(0));
    assert_eq!(script("stop").stdout, "kmagent: stopped\n");
    expect_stopped(&machine);
    wait_log(&machine, "agent stopped");
    assert_eq!(machine.sh("grep -c 'did not end within' /var/log/messages").stdout, "0\n");

    // What a dead agent leaves behind is in nobody's way.
    assert_eq!(script("start").code, Some(0));
    machine.does(&format!("kill -KILL {}", expect_running(&machine)));
    machine.wait_for("the collector's end", || machine.collectors().is_empty().then_some(()));
    assert_eq!(script("status").code, Some(1));
    assert_eq!(script("start").code, Some(0));
    // One that hangs is killed, and the kernel tells the collector.
    let hung = expect_running(&machine);
    machine.write("/etc/default/kmagent", "PATIENCE=5");
    machine.does(&format!("kill -STOP {hung}"));
    assert!(script("stop").stderr.contains("so it is killed"));
    machine.wait_for("the collector's end", || machine.collectors().is_empty().then_some(()));
    machine.does("rm /etc/default/kmagent");
    assert_eq!(script("start").code, Some(0));
    expect_running(&machine);

    // What root leaves behind is the agent's at the next start.
    assert_eq!(script("stop").code, Some(0));
    machine.does("chown -R root:root /run/kmagent /var/lib/kmagent");
    assert_eq!(script("start").code, Some(0));
    expect_running(&machine);
    assert_eq!(script("stop").code, Some(0));

    machine.does(&format!("echo min-uptime: soon >{SETTINGS}"));
    let wrong = script("start");
    assert_eq!(wrong.code, Some(6));
    assert!(wrong.stderr.contains("is not a duration"), "{wrong:?}");
    expect_stopped(&machine);
    assert_eq!(script("").code, Some(2));
}

#[test]
fn sysv_with_debians_tools() {
    if is_root() {
        expect_sysv_works("debian");
    }
}

#[test]
fn sysv_with_busybox_and_nothing_else() {
    if is_root() {
        expect_sysv_works("busybox");
    }
}

/// As a host that OpenRC has booted.
#[test]
fn openrc() {
    if !is_root() {
        return;
    }
    let machine = machine("debian", "openrc/kmagent");
    start_syslog(&machine);
    machine.does("mkdir -p /run/openrc && touch /run/openrc/softlevel");
    let service = |verb: &str| machine.sh(&format!("rc-service kmagent {verb}"));
    assert_eq!(service("status").code, Some(3));
    machine.does("rc-update add kmagent default");
    let started = service("start");
    assert_eq!((started.code, started.stderr.as_str()), (Some(0), ""), "{started:?}");
    let agent = expect_running(&machine);
    let status = service("status");
    assert!(status.code == Some(0) && status.stdout.contains("running, pid"), "{status:?}");
    wait_log(&machine, "agent started");

    // However it ends, it comes back.
    machine.does(&format!("kill -KILL {agent}"));
    machine.wait_for("another agent", || match machine.processes(AGENT)[..] {
        [pid] => (pid != agent).then_some(()),
        _ => None,
    });
    let agent = expect_running(&machine);

    assert_eq!(service("restart").code, Some(0));
    assert_ne!(expect_running(&machine), agent);
    let stopped = service("stop");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    expect_stopped(&machine);
    wait_log(&machine, "agent stopped");
    assert_eq!(machine.sh("grep -c 'did not end within' /var/log/messages").stdout, "0\n");

    machine.does(&format!("echo min-uptime: soon >{SETTINGS}"));
    let wrong = service("start");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("is not a duration"), "{wrong:?}");
    expect_stopped(&machine);
}
