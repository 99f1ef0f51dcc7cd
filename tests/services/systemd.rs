//! The systemd units, under a real systemd.

use std::time::Duration;

use serde_json::{Value, json};

use super::machine::{AGENT, COLLECTOR, ENVIRONMENT, Machine, Network, expect_environment};
use crate::support::api::Api;
use crate::support::wait::holds_for;
use crate::support::{bin, needs};

const UNIT: &str = "kmagent.service";

/// The exposure, of 100, that `systemd-analyze security` (252) gives the units. What the agent's 21 are for is in its
/// comments: the network and its sockets (10), /proc (3), other users' files, homes and groups (7), its own name (1).
/// The check's further ones are for being root, for giving files their owners, and for running validate with an owner's
/// rights.
const EXPOSURE: [(&str, u32); 2] = [("kmagent.service", 21), ("kmagent-check.service", 27)];

/// A machine with the stand-in collector.
#[track_caller]
fn machine(script: Value) -> Machine {
    let machine = Machine::boot(Network::Own, &bin::fake());
    machine.config(&json!({"fake": script}));
    machine.settings(&json!({"min-uptime": "500ms", "log-level": "debug"}));
    machine
}

#[test]
fn the_units_are_sound_and_closed_as_far_as_they_say() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({}));
    let units = "kmagent.service kmagent-check.service kmagent-check.timer";
    let output = machine.sh(&format!("cd /etc/systemd/system && systemd-analyze verify --man=no {units}"));
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(0), "", ""));
    // The negative control: it does see what systemd does not know.
    machine.write("/tmp/wrong/wrong.service", "[Service]\nExecStart=/bin/true\nNoSuchThing=1");
    assert!(machine.sh("systemd-analyze verify --man=no /tmp/wrong/wrong.service").stderr.contains("NoSuchThing"));
    for (unit, exposure) in EXPOSURE {
        let security = |threshold: u32| {
            let line =
                format!("systemd-analyze security --offline=true --threshold={threshold} /etc/systemd/system/{unit}");
            let output = machine.sh(&line);
            (output.code, output.stdout)
        };
        let (code, listed) = security(exposure);
        assert_eq!(code, Some(0), "{unit} is more open than that:\n{listed}");
        assert_ne!(security(exposure - 1).0, Some(0), "{unit} is closed further than EXPOSURE says");
    }
}

#[test]
fn it_is_active_once_ready_says_how_it_is_and_drains_when_it_stops() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({"drain_ms": 3000}));
    machine.does("mkfifo /run/hold && chmod 666 /run/hold");
    let held = format!("/bin/sh -c 'read line </run/hold; exec {AGENT} start'");
    // Less than the drain takes: the agent says how long its stop may take.
    machine.drop_in(UNIT, &format!("[Service]\nExecStart=\nExecStart={held}\nTimeoutStopSec=1s"));
    // A host that is not online, and never will be.
    let offline = "[Unit]\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=/bin/false";
    machine.write("/etc/systemd/system/offline.service", offline);
    machine.drop_in("network-online.target", "[Unit]\nRequires=offline.service");
    // It would wait for one that comes; that it has asked for it, and where it stands, is all there is to see here.
    for name in ["After", "Wants"] {
        let units = machine.property(UNIT, name);
        assert!(units.split(' ').any(|unit| unit == "network-online.target"), "{name}={units}");
    }
    machine.does("systemctl start --no-block kmagent");
    machine.wait_property(UNIT, "ActiveState", "activating");
    assert_eq!(machine.property("network-online.target", "ActiveState"), "inactive");
    assert_eq!(machine.collectors(), [0; 0]);
    machine.does("echo >/run/hold && systemctl start kmagent");
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    machine.wait_property(UNIT, "StatusText", "collector running");
    assert!(machine.does("systemctl status kmagent").contains("Status: \"collector running\""));
    assert_eq!(machine.property(UNIT, "OOMPolicy"), "continue");
    assert_eq!(machine.property(UNIT, "OOMScoreAdjust"), "-500");
    let rank = |pid: u32| machine.does(&format!("cat /proc/{pid}/oom_score_adj"));
    let (agent, collector) = (machine.processes(AGENT), machine.collectors());
    assert_eq!((agent.len(), collector.len()), (1, 1));
    // A host that is itself a container may have lost the right to lower it.
    let lowered = machine.sh("echo -500 >/proc/self/oom_score_adj").code == Some(0);
    assert_eq!(rank(agent[0]), if lowered { "-500" } else { "0" });
    assert_eq!(rank(collector[0]), "300");
    machine.does("systemctl stop kmagent");
    assert_eq!(machine.property(UNIT, "Result"), "success");
    let journal = machine.journal(UNIT);
    assert!(journal.contains("agent stopped") && !journal.contains("killed"), "{journal}");
    assert_eq!(machine.does("ls /run/kmagent"), "lock", "what the lock is in stays");
    // Who stops it by itself means it.
    machine.does(
        "rm /etc/systemd/system/kmagent.service.d/test.conf && systemctl daemon-reload && systemctl start kmagent",
    );
    machine.does("kmagent stop");
    machine.wait_property(UNIT, "ActiveState", "inactive");
    assert_eq!(machine.property(UNIT, "Result"), "success");
}

#[test]
fn a_stray_signal_is_no_end_and_a_reload_no_restart() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({}));
    machine.drop_in(UNIT, "[Service]\nRestartSec=100ms");
    machine.does("systemctl start kmagent");
    machine.wait_running();
    let agent = machine.processes(AGENT);
    machine.does("systemctl reload kmagent && systemctl kill --kill-who=main --signal=HUP kmagent");
    machine.settings(&json!({"min-uptime": "soon"}));
    assert_ne!(machine.sh("systemctl reload kmagent").code, Some(0));
    assert!(machine.status()["settings_problem"].as_str().unwrap().contains("is not a duration"));
    machine.settings(&json!({"min-uptime": "500ms", "log-level": "debug"}));
    machine.does("systemctl reload kmagent");
    assert_eq!((machine.processes(AGENT), machine.property(UNIT, "NRestarts")), (agent, "0".to_string()));
    for (restarts, signal) in [("1", "TERM"), ("2", "INT")] {
        machine.does(&format!("systemctl kill --kill-who=main --signal={signal} kmagent"));
        machine.wait_property(UNIT, "NRestarts", restarts);
        machine.wait_property(UNIT, "StatusText", "collector running");
    }
    // Both ways of ending it are known.
    for stop in ["kmagent stop", "systemctl stop kmagent"] {
        machine.does("systemctl start kmagent");
        machine.wait_running();
        assert_eq!(machine.does(stop), "");
        holds_for("it stays stopped", Duration::from_secs(1), || machine.processes(AGENT).is_empty());
        assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    }
}

/// An earlier release's unit, and a site's own, which do not know status 79.
#[test]
fn a_unit_that_does_not_know_the_status_stays_stopped_or_stop_says_why_not() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({}));
    let earlier =
        "[Service]\nRestartSec=100ms\nSuccessExitStatus=\nRestartPreventExitStatus=\nRestartPreventExitStatus=64 78";
    machine.drop_in(UNIT, &format!("{earlier}\nRestart=on-failure"));
    machine.does("systemctl start kmagent");
    machine.wait_running();
    assert_eq!(machine.does("kmagent stop"), "");
    holds_for("it stays stopped", Duration::from_secs(1), || machine.processes(AGENT).is_empty());
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    machine.drop_in(UNIT, &format!("{earlier}\nRestart=always"));
    machine.does("systemctl start kmagent");
    machine.wait_running();
    let advice = machine.does("kmagent stop");
    assert!(advice.contains("systemd starts the agent again: use `systemctl stop kmagent.service`"), "{advice}");
    machine.wait_for("another agent", || (!machine.processes(AGENT).is_empty()).then_some(()));
}

#[test]
fn an_agent_that_is_killed_comes_back_however_often_and_leaves_no_orphan() {
    if !needs::root() {
        return;
    }
    // It does not heed what the kernel sends it when the agent dies.
    let machine = machine(json!({"ignore_sigterm": true}));
    machine.drop_in(UNIT, "[Service]\nRestartSec=100ms");
    machine.does("systemctl start kmagent");
    for restarts in 1..=6 {
        let collectors =
            machine.wait_for("a collector", || Some(machine.collectors()).filter(|found| found.len() == 1));
        machine.does("systemctl kill --kill-who=main --signal=KILL kmagent");
        machine.wait_property(UNIT, "NRestarts", &restarts.to_string());
        machine.wait_for("a new collector, alone", || match machine.collectors()[..] {
            [pid] => (pid != collectors[0]).then_some(()),
            _ => None,
        });
    }
    machine.wait_property(UNIT, "StatusText", "collector running");
    // A collector that dies is the agent's business.
    let agent = machine.processes(AGENT);
    machine.does(&format!("kill -KILL {}", machine.collectors()[0]));
    machine.wait_for("a restart of the collector", || (machine.status()["collector"]["restarts"] == 1).then_some(()));
    assert_eq!(machine.processes(AGENT), agent);
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
}

#[test]
fn an_agent_that_hangs_is_replaced() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({}));
    machine.drop_in(UNIT, "[Service]\nWatchdogSec=2s\nRestartSec=100ms");
    machine.does("systemctl start kmagent");
    holds_for("an agent that is alive is left alone", Duration::from_secs(4), || {
        machine.property(UNIT, "NRestarts") == "0"
    });
    let hung = machine.processes(AGENT);
    machine.does(&format!("kill -STOP {}", hung[0]));
    machine.wait_property(UNIT, "NRestarts", "1");
    machine.wait_property(UNIT, "StatusText", "collector running");
    assert_ne!(machine.processes(AGENT), hung);
    assert!(machine.journal(UNIT).contains("Watchdog timeout"));
    assert_eq!(machine.collectors().len(), 1);
}

#[test]
fn what_no_restart_fixes_is_not_restarted() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({}));
    let ends_for_good_with = |status: &str| {
        assert_ne!(machine.sh("systemctl start kmagent").code, Some(0));
        assert_eq!(machine.property(UNIT, "ExecMainStatus"), status);
        holds_for("it is not tried again", Duration::from_secs(1), || {
            machine.property(UNIT, "NRestarts") == "0" && machine.property(UNIT, "ActiveState") == "failed"
        });
    };
    machine.drop_in(UNIT, &format!("[Service]\nRestartSec=100ms\nExecStart=\nExecStart={AGENT} start --no-such-flag"));
    ends_for_good_with("64");
    machine.drop_in(UNIT, "[Service]\nRestartSec=100ms");
    machine.settings(&json!({"min-uptime": "soon"}));
    ends_for_good_with("78");
    // After a good start it uses what was good then.
    machine.settings(&json!({"min-uptime": "500ms"}));
    machine.does("systemctl start kmagent");
    machine.settings(&json!({"min-uptime": "soon"}));
    machine.does("systemctl restart kmagent");
    machine.wait_property(UNIT, "StatusText", "collector running");
    assert!(machine.status()["settings_problem"].is_string());
    machine.does("systemctl stop kmagent");
    // A lock that another process holds is.
    machine.settings(&json!({"min-uptime": "500ms"}));
    machine.does("setsid runuser -u kmagent -- flock /run/kmagent/lock sleep 600 >/dev/null 2>&1 &");
    machine.sh("systemctl start kmagent");
    machine.wait_for("tries", || machine.property(UNIT, "NRestarts").parse::<u32>().ok().filter(|&tries| tries > 2));
    assert!(machine.journal(UNIT).contains("status=75"));
    machine.does("pkill -x sleep");
    machine.wait_property(UNIT, "StatusText", "collector running");
}

#[test]
fn the_key_is_roots_and_the_agent_has_it() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let machine = Machine::boot(Network::Shared, &bin::fake());
    machine.config(&json!({"fake": {}}));
    machine.settings(&json!({"min-uptime": "500ms", "update-endpoint": api.url(), "config-check-interval": "1s"}));
    assert_eq!(machine.does("stat -c '%U:%G %a' /etc/kmagent/api-key"), "root:kmagent 640");
    machine.write("/etc/default/kmagent", ENVIRONMENT);
    machine.does("systemctl start kmagent");
    let request = api.wait_for_next();
    assert_eq!(request.header("authorization"), Some("key-of-root"));
    assert_eq!(machine.sh("ls -A /run/credentials/kmagent.service").stdout, "", "no copy that outlives a change");
    let collector = machine.wait_for("a collector", || machine.collectors().first().copied());
    let environment = machine.does(&format!("tr '\\0' '\\n' </proc/{collector}/environ"));
    assert!(environment.contains("\nKM_API_KEY=key-of-root\n"), "{environment}");
    assert_eq!(machine.does(&format!("stat -c %U /proc/{collector}")), "kmagent");
    expect_environment(&machine);
    // A host may lose the file: the agent goes on without a key.
    let seen = api.requests().len();
    machine.does("rm /etc/kmagent/api-key && systemctl restart kmagent");
    let request = api
        .wait_for_request_after(seen, "a request without a key", |request| request.header("authorization").is_none());
    assert_eq!(request.method, "POST");
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    // A site's own credential, which only systemd and root can read.
    let seen = api.requests().len();
    machine.write("/etc/site.key", "key-of-the-site");
    machine.drop_in(UNIT, "[Service]\nLoadCredential=api-key:/etc/site.key");
    machine.does("systemctl restart kmagent");
    api.wait_for_request_after(seen, "the site's key", |request| {
        request.header("authorization") == Some("key-of-the-site")
    });
}

/// The directory is root's before and after, which `ConfigurationDirectory=` would leave so too, and the config is
/// replaced where the link leads.
#[test]
fn a_config_is_replaced_where_the_link_leads() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let machine = Machine::boot(Network::Shared, &bin::fake());
    machine.config(&json!({"fake": {}}));
    machine.settings(&json!({"min-uptime": "500ms", "update-endpoint": api.url(), "config-check-interval": "1s"}));
    machine.does("systemctl start kmagent");
    machine.wait_running();
    api.answer_config(json!({"fake": {}, "name": "new"}));
    machine.wait_for("the API's config", || {
        machine.sh("cat /var/lib/kmagent/config.yaml").stdout.contains("name: new").then_some(())
    });
    machine.wait_running();
    let owners = machine.does("stat -c '%n %U:%G %a' /etc/kmagent /etc/kmagent/* /var/lib/kmagent/config.yaml");
    let expected = "/etc/kmagent root:kmagent 750\n/etc/kmagent/agent.yaml root:kmagent 640\n\
                    /etc/kmagent/api-key root:kmagent 640\n/etc/kmagent/config.yaml root:root 777\n\
                    /var/lib/kmagent/config.yaml kmagent:kmagent 600";
    assert_eq!(owners, expected);
    // An earlier layout goes on under this unit.
    machine.does(
        "rm /etc/kmagent/config.yaml && mv /var/lib/kmagent/config.yaml /etc/kmagent && chown -R kmagent:kmagent /etc/kmagent
         systemctl restart kmagent",
    );
    machine.wait_running();
    api.answer_config(json!({"fake": {}, "name": "newer"}));
    machine.wait_for("the API's config", || {
        machine.sh("cat /etc/kmagent/config.yaml").stdout.contains("name: newer").then_some(())
    });
}

/// A program that a config has the collector write is not executed, be it `journalctl_path` or whatever comes next.
#[test]
fn what_the_agent_s_user_can_write_is_not_executed() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({}));
    machine.does("mkdir -m 777 /home/any && cp /bin/true /home/any/true");
    let writable = "/var/lib/kmagent /run/kmagent /tmp /var/tmp /dev/shm";
    // In the agent's own place, with its rights: it copies a program to each directory, and runs it there.
    let tries = format!(
        "for dir in {writable}; do
             cp /bin/true $dir/true && chmod 755 $dir/true
             $dir/true
             echo \"$dir $?\"
             rm -f $dir/true
         done
         /home/any/true
         echo \"/home $?\""
    );
    machine.write("/usr/local/lib/probe", &tries);
    machine.does("chmod 755 /usr/local/lib/probe /home/any/true");
    let probe = "[Service]\nExecStartPost=/bin/sh /usr/local/lib/probe";
    machine.drop_in(UNIT, probe);
    machine.does("systemctl start kmagent");
    machine.wait_running();
    let journal = machine.journal(UNIT);
    for dir in writable.split(' ').chain(["/home"]) {
        assert!(journal.lines().any(|line| line == format!("{dir} 126")), "{dir}: {journal}");
    }
    // The negative control: without it each is.
    machine.drop_in(UNIT, &format!("{probe}\nNoExecPaths="));
    machine.does("systemctl restart kmagent");
    let journal = machine.journal(UNIT);
    for dir in writable.split(' ').chain(["/home"]) {
        assert!(journal.lines().any(|line| line == format!("{dir} 0")), "{dir}: {journal}");
    }
    // A collector in there runs with the line that install.sh writes, and after it was replaced too.
    machine.does(&format!("cp {COLLECTOR} /home/any/otelcol"));
    let elsewhere = "\nEnvironment=KM_COLLECTOR=/home/any/otelcol";
    machine.drop_in(UNIT, &format!("[Service]{elsewhere}\nExecPaths=\"-/home/any\"\nReadOnlyPaths=\"-/home/any\""));
    machine.does("systemctl restart kmagent");
    let collector = || machine.processes("/home/any/otelcol");
    let first = machine.wait_for("that collector", || collector().first().copied());
    machine
        .does(&format!("cp {COLLECTOR} /home/any/next && mv /home/any/next /home/any/otelcol && kill -KILL {first}"));
    machine.wait_for("the new one", || collector().into_iter().find(|&pid| pid != first));
}

/// systemd would take `<0>` for a level, and show the line to everybody who is logged in. The agent escapes it too.
#[test]
fn a_line_of_the_unit_is_no_emergency() {
    if !needs::root() {
        return;
    }
    let machine = machine(json!({}));
    for (lines, message, priority) in [("", "<0>wall", "6"), ("\nSyslogLevelPrefix=yes", "wall", "0")] {
        machine.drop_in(UNIT, &format!("[Service]\nExecStartPost=/bin/echo <0>wall{lines}"));
        machine.does("systemctl restart kmagent");
        let journal = machine.does("journalctl --sync && journalctl --no-pager -o json -u kmagent");
        let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found = lines.filter(|line| line["MESSAGE"] == message && line["PRIORITY"] == priority).count();
        assert_eq!(found, 1, "{message}: {journal}");
    }
    assert_eq!(machine.property("kmagent-check.service", "SyslogLevelPrefix"), "no");
}

#[test]
fn the_timer_checks_and_on_change_restarts_what_runs_the_collector() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    api.answer_config(json!({"name": "new"}));
    let machine = Machine::boot(Network::Shared, &bin::fake());
    machine.config(&json!({"name": "old"}));
    let on_change = "systemctl restart otelcol";
    machine.settings(&json!({"update-endpoint": api.url(), "on-change": on_change, "log-level": "debug"}));
    let runs = format!("[Service]\nUser=kmagent\nExecStart={COLLECTOR} --config /etc/kmagent/config.yaml");
    machine.write("/etc/systemd/system/otelcol.service", &runs);
    machine.does("systemctl start otelcol");
    let before = machine.property("otelcol", "InvocationID");
    machine.drop_in("kmagent-check.timer", "[Timer]\nOnActiveSec=0\nRandomizedDelaySec=0\nAccuracySec=1ms");
    machine.does("systemctl enable --now kmagent-check.timer");
    assert_eq!(api.wait_for_next().header("authorization"), Some("key-of-root"));
    machine.wait_for("a restart of the collector", || {
        (machine.property("otelcol", "InvocationID") != before).then_some(())
    });
    machine.wait_property("kmagent-check.service", "ActiveState", "inactive");
    assert_eq!(machine.property("kmagent-check.service", "Result"), "success");
    assert!(machine.journal("kmagent-check.service").contains("installed config"));
    assert_eq!(machine.does("stat -Lc '%U %a' /etc/kmagent/config.yaml"), "kmagent 600");
    assert!(machine.does("cat /etc/kmagent/config.yaml").contains("name: new"));
    assert_eq!(machine.property("otelcol", "ActiveState"), "active");
}

/// Its sandbox lets it give root's rights away, and end what runs with others.
#[test]
fn the_check_validates_with_the_owners_rights() {
    if !needs::root() {
        return;
    }
    const CHECK: &str = "kmagent-check.service";
    let api = Api::plain();
    let machine = Machine::boot(Network::Shared, &bin::fake());
    machine.config(&json!({"name": "old"}));
    machine.settings(&json!({"update-endpoint": api.url(), "validate-timeout": "500ms"}));
    machine.drop_in(CHECK, "[Service]\nEnvironment=FAKE_LOG=/var/lib/kmagent/fake.log");
    machine.does("install -d -o kmagent -g kmagent /var/lib/kmagent");
    api.answer_config(json!({"name": "new"}));
    machine.does("systemctl start kmagent-check");
    assert!(machine.journal(CHECK).contains("installed config"));
    let user = machine.does("echo $(id -u kmagent) $(id -g kmagent)");
    let (uid, gid) = user.split_once(' ').unwrap();
    let log = machine.does("cat /var/lib/kmagent/fake.log");
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.iter().map(|record| &record["role"]).collect::<Vec<_>>(), ["version", "validate"]);
    for rights in records.iter().map(|record| &record["rights"]) {
        assert_eq!((&rights["Uid"], &rights["Gid"]), (&json!([uid; 4].join(" ")), &json!([gid; 4].join(" "))));
        assert_eq!((&rights["CapPrm"], &rights["Groups"]), (&json!("0000000000000000"), &json!(gid)));
    }
    api.answer_config(json!({"fake": {"validate": "hang"}}));
    assert_ne!(machine.sh("systemctl start kmagent-check").code, Some(0));
    assert_eq!(machine.property(CHECK, "ExecMainStatus"), "75");
    assert!(machine.journal(CHECK).contains("did not end within 500ms"));
    assert_eq!(machine.collectors(), [0; 0]);
}

#[test]
fn what_root_does_by_hand_does_not_lock_the_agent_out() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    api.answer_config(json!({"fake": {"validate": "fail"}}));
    let machine = Machine::boot(Network::Shared, &bin::fake());
    machine.settings(&json!({"min-uptime": "500ms", "update-endpoint": api.url()}));
    // An agent was here: the directories are its user's, and empty.
    machine.does("install -d -m 700 -o kmagent -g kmagent /var/lib/kmagent /run/kmagent");
    assert_eq!(machine.sh("kmagent --check").code, Some(65), "a refused config is remembered");
    api.answer_config(json!({"fake": {}}));
    assert!(machine.does("kmagent --check").starts_with("installed config"));
    let made = machine.does("ls -A /run/kmagent /var/lib/kmagent");
    assert!(made.contains("lock") && made.contains("rejected.json"), "{made}");
    let not_the_agents = "find /run/kmagent /var/lib/kmagent ! -user kmagent";
    assert_eq!(machine.does(not_the_agents), "");
    machine.does("systemctl start kmagent");
    machine.wait_running();
}
