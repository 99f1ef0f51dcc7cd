//! The scripts for hosts without systemd, with the real tools that run them.

use serde_json::json;

use super::machine::{AGENT, ENVIRONMENT, Machine, Network, expect_environment};
use crate::support::api::Api;
use crate::support::{bin, needs, source};

const SETTINGS: &str = "/etc/kmagent/agent.yaml";

/// In this root, with the stand-in collector, which takes its time to drain.
#[track_caller]
fn machine(root: &str, service: &str) -> Machine {
    let machine = Machine::bare(root, &bin::fake());
    machine.does(&format!("cp /services/{service} /etc/init.d/kmagent"));
    machine.config(&json!({"fake": {"drain_ms": 1000}}));
    machine.settings(&json!({"min-uptime": "500ms"}));
    machine.write("/etc/secret", "root's");
    machine
}

/// Where root may set neither, as in a container, the script asks for what everybody may.
#[track_caller]
fn rank_and_descriptors(machine: &Machine) -> (&'static str, &'static str) {
    let asked = |yes: &str, line: &str, ours: &'static str, everybodys: &'static str| {
        machine.does(&format!("grep -q -e {yes} /etc/init.d/kmagent"));
        if machine.sh(line).code == Some(0) {
            return ours;
        }
        machine.does(&format!("sed -i 's/{ours}/{everybodys}/' /etc/init.d/kmagent"));
        everybodys
    };
    let rank = asked("-500", "echo -500 >/proc/self/oom_score_adj", "-500", "200");
    (rank, asked("'-n 65536'", "ulimit -n 65536", "65536", "4000"))
}

/// The agent has, and its collector inherits, what `rank_and_descriptors` says.
#[track_caller]
fn expect_rank_and_descriptors(machine: &Machine, (rank, descriptors): (&str, &str)) {
    let agent = expect_running(machine);
    assert_eq!(machine.does(&format!("cat /proc/{agent}/oom_score_adj")), rank);
    let limits = machine.does(&format!("grep 'open files' /proc/{}/limits", machine.collectors()[0]));
    assert_eq!(limits.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), [descriptors; 2], "{limits}");
}

/// Names of what only root may read, as the user of a host without fs.protected_hardlinks can make them.
#[track_caller]
fn plant(machine: &Machine, directory: &str) {
    machine.does(&format!(
        "ln /etc/secret {directory}/planted && ln -s /etc/secret {directory}/planted-link && ln /etc/secret {directory}/.planted"
    ));
}

/// It is root's yet; what else is in these directories is the agent's.
#[track_caller]
fn expect_nothing_given_away(machine: &Machine, directories: &str) {
    assert_eq!(machine.does("stat -c '%U %a' /etc/secret"), "root 600");
    let others = format!("find {directories} ! -user kmagent ! -name '*planted*'");
    assert_eq!(machine.does(&others), "");
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

/// The settings have gone bad since the agent's latest good start.
#[track_caller]
fn expect_last_good(machine: &Machine) {
    let status = machine.status();
    assert!(status["settings_problem"].as_str().unwrap().contains("is not a duration"), "{status}");
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
    let agent = expect_running(&machine);
    for verb in ["reload", "force-reload"] {
        let reloaded = script(verb);
        assert_eq!((reloaded.code, reloaded.stdout.as_str()), (Some(0), "settings reloaded\n"), "{reloaded:?}");
    }
    assert_eq!(expect_running(&machine), agent, "a reload restarts nothing");
    assert_eq!(script("stop").stdout, "kmagent: stopped\n");
    expect_stopped(&machine);
    wait_log(&machine, "agent stopped");
    assert_eq!(machine.sh("grep -c 'did not end within' /var/log/messages").stdout, "0\n");

    // Of two starts at once one agent finds the lock taken; the number that is kept is the other's.
    let first = "mkdir -p /usr/local/sbin && printf '#!/bin/sh\nrm $0 && /etc/init.d/kmagent start >/dev/null && exec \
                 start-stop-daemon \"$@\"\n' >/usr/local/sbin/start-stop-daemon && chmod 755 /usr/local/sbin/start-stop-daemon";
    machine.does(first);
    assert_eq!(script("start").code, Some(0));
    assert_eq!(machine.does("cat /run/kmagent.pid"), expect_running(&machine).to_string());
    assert_eq!(script("stop").code, Some(0));

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
    assert!(script("stop").stderr.contains("sending SIGKILL"));
    machine.wait_for("the collector's end", || machine.collectors().is_empty().then_some(()));
    machine.does("rm /etc/default/kmagent");
    assert_eq!(script("start").code, Some(0));
    expect_running(&machine);

    // What root leaves behind is the agent's at the next start; what the agent may have planted is not, in any user's
    // directory.
    let directories = "/run/kmagent /var/lib/kmagent";
    plant(&machine, "/var/lib/kmagent");
    assert_eq!(script("restart").code, Some(0));
    expect_running(&machine);
    expect_nothing_given_away(&machine, directories);
    assert_eq!(script("stop").code, Some(0));
    machine.does(&format!("chown -R root:root {directories}"));
    assert_eq!(script("start").code, Some(0));
    expect_running(&machine);
    expect_nothing_given_away(&machine, directories);
    assert_eq!(script("stop").code, Some(0));

    let asked = rank_and_descriptors(&machine);
    machine.write("/etc/default/kmagent", ENVIRONMENT);
    assert_eq!(script("start").code, Some(0));
    expect_rank_and_descriptors(&machine, asked);
    expect_environment(&machine);
    assert_eq!(script("stop").code, Some(0));

    machine.does(&format!("echo min-uptime: soon >{SETTINGS}"));
    let started = script("start");
    assert!(started.code == Some(0) && started.stderr.contains("is not a duration"), "{started:?}");
    expect_running(&machine);
    expect_last_good(&machine);
    assert_eq!(script("stop").code, Some(0));
    machine.does("rm /var/lib/kmagent/settings.yaml");
    let wrong = script("start");
    assert_eq!(wrong.code, Some(6));
    assert!(wrong.stderr.contains("is not a duration"), "{wrong:?}");
    expect_stopped(&machine);
    assert_eq!(script("").code, Some(2));
}

#[test]
fn sysv_with_debians_tools() {
    if needs::root() {
        expect_sysv_works("debian");
    }
}

#[test]
fn sysv_with_busybox_and_nothing_else() {
    if needs::root() {
        expect_sysv_works("busybox");
    }
}

/// On a host that OpenRC brings up.
#[test]
fn openrc() {
    if !needs::root() {
        return;
    }
    let machine = machine("debian", "openrc/kmagent");
    start_syslog(&machine);
    let service = |verb: &str| machine.sh(&format!("rc-service kmagent {verb}"));
    machine.does("rc-update add kmagent default");
    // What else Debian has for these levels is of no use in here.
    machine.sh("openrc sysinit; openrc boot");
    assert_eq!(service("status").code, Some(3));
    let up = machine.sh("openrc default");
    assert!(up.stdout.contains("Starting kmagent"), "{up:?}");
    let agent = expect_running(&machine);
    let status = service("status");
    assert!(status.code == Some(0) && status.stdout.contains("collector  running since"), "{status:?}");
    wait_log(&machine, "agent started");

    // However it ends, it comes back.
    machine.does(&format!("kill -KILL {agent}"));
    machine.wait_for("another agent", || match machine.processes(AGENT)[..] {
        [pid] => (pid != agent).then_some(()),
        _ => None,
    });
    let agent = expect_running(&machine);

    assert!(service("reload").stdout.contains("settings reloaded"));
    assert_eq!(expect_running(&machine), agent, "a reload restarts nothing");
    // Whoever stops it by hand learns that it comes back, and what to do instead.
    let stopped = machine.sh("kmagent stop");
    assert_eq!(stopped.stdout, "OpenRC starts the agent again: use `rc-service kmagent stop`\n", "{stopped:?}");
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

    // A check by hand was here before, and the agent's user before that.
    let directories = "/run/kmagent /var/lib/kmagent";
    plant(&machine, "/var/lib/kmagent");
    machine.does(&format!("chown -R root:root {directories}"));
    let asked = rank_and_descriptors(&machine);
    assert_eq!(service("start").code, Some(0));
    expect_rank_and_descriptors(&machine, asked);
    expect_nothing_given_away(&machine, directories);
    assert_eq!(service("restart").code, Some(0));
    expect_running(&machine);
    expect_nothing_given_away(&machine, directories);
    assert_eq!(service("stop").code, Some(0));

    machine.does(&format!("echo min-uptime: soon >{SETTINGS}"));
    assert_eq!(service("start").code, Some(0));
    expect_running(&machine);
    expect_last_good(&machine);
    assert_eq!(service("stop").code, Some(0));
    machine.does("rm /var/lib/kmagent/settings.yaml");
    let wrong = service("start");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("is not a duration"), "{wrong:?}");
    expect_stopped(&machine);
}

/// procd is OpenWrt's own: its shell library is stood in for by one that writes down what it is asked for.
const RC_COMMON: &str = r#"#!/bin/sh
# What OpenWrt's /etc/rc.common and procd.sh offer to a script of theirs.
. "$1"
procd_open_instance() { echo "open $*"; }
procd_set_param() {
    echo "set $*"
    case $1 in command) shift && asked="$*" ;; esac
}
procd_close_instance() { echo "close $asked"; }
[ "$USE_PROCD" = 1 ] && [ "$START" -gt 0 ] && [ "$STOP" -gt 0 ] || exit 3
case $2 in start) start_service ;; reload) reload_service ;; esac
"#;

#[test]
fn procd_is_asked_for_what_the_agent_needs() {
    if !needs::root() {
        return;
    }
    let machine = machine("busybox", "procd/kmagent");
    machine.does("ln -sfn /etc/kmagent/state/config.yaml /etc/kmagent/config.yaml && mkdir /etc/kmagent/state");
    machine.does("mv /var/lib/kmagent/config.yaml /etc/kmagent/state && rmdir /var/lib/kmagent");
    machine.write("/etc/rc.common", RC_COMMON);
    // OpenWrt has no /run of its own.
    machine.does("chmod +x /etc/rc.common && busybox ash -n /etc/init.d/kmagent && umount /run && rm -r /run && mkdir -p /var/run");
    // As the kernel runs a script whose first line has an argument.
    let first = machine.does("head -n 1 /etc/init.d/kmagent");
    assert_eq!(first, "#!/bin/sh /etc/rc.common");
    let asked = machine.does("/etc/init.d/kmagent start");
    let asked: Vec<&str> = asked.lines().collect();
    assert_eq!(asked.first(), Some(&"open "));
    assert_eq!(asked.last(), Some(&format!("close {AGENT} start").as_str()));
    for expected in [
        format!("set command {AGENT} start").as_str(),
        "set user kmagent",
        "set group kmagent",
        "set respawn 3600 5 0",
        "set term_timeout 90",
        "set stdout 1",
        "set stderr 1",
        "set limits core=0 nofile=65536 65536",
        "set no_new_privs 1",
        "set env KM_STATE_DIR=/etc/kmagent/state",
    ] {
        assert!(asked.contains(&expected), "no {expected:?} in {asked:?}");
    }
    assert_eq!(machine.does("stat -c '%U %a' /run/kmagent"), "kmagent 700");
    assert_eq!(machine.does("readlink -f /run"), "/var/run");
    // It is a command that works for that user, and what is remembered is not in /var, which is memory.
    let run = format!("KM_STATE_DIR=/etc/kmagent/state start-stop-daemon -S -b -c kmagent:kmagent -x {AGENT} -- start");
    machine.does(&run);
    expect_running(&machine);
    assert_eq!(machine.does("stat -c '%U %a' /etc/kmagent/state"), "kmagent 700");
    assert_eq!(machine.does("/etc/init.d/kmagent reload"), "settings reloaded");
    machine.does("test -s /etc/kmagent/state/generations/1.yaml && kmagent stop && rmdir /var/lib/kmagent");
    plant(&machine, "/run/kmagent");
    plant(&machine, "/etc/kmagent/state");
    machine.does("/etc/init.d/kmagent start");
    expect_nothing_given_away(&machine, "/run/kmagent/ /etc/kmagent/state");
    machine.does("chown -R root:root /run/kmagent/ /etc/kmagent/state && /etc/init.d/kmagent start");
    expect_nothing_given_away(&machine, "/run/kmagent/ /etc/kmagent/state");
    // In a directory of the agent's, as earlier releases left it, a link of the agent's leads root nowhere.
    machine
        .does("mkdir -m 755 /etc/others && mv /etc/kmagent/state /etc/former && ln -s /etc/others /etc/kmagent/state");
    machine.does("chown -h kmagent /etc/kmagent /etc/kmagent/state && /etc/init.d/kmagent start");
    assert_eq!(machine.does("stat -c '%U %a' /etc/others"), "root 755");
    machine.does("mkdir -p /srv/kmagent && chown kmagent:kmagent /srv/kmagent");
    machine.settings(&json!({"state-dir": "/srv/kmagent"}));
    assert!(!machine.does("/etc/init.d/kmagent start").contains("KM_STATE_DIR"), "a host may have its own");
    machine.does("rm /etc/kmagent/state && mv /etc/former /etc/kmagent/state");
    machine.does(&format!("echo min-uptime: soon >{SETTINGS}"));
    assert!(machine.does("/etc/init.d/kmagent start").contains("set env KM_STATE_DIR=/etc/kmagent/state"));
    machine.does("rm /etc/kmagent/state/settings.yaml");
    let wrong = machine.sh("/etc/init.d/kmagent start");
    assert!(wrong.code == Some(1) && wrong.stdout.is_empty(), "{wrong:?}");
}

/// Debian's cron runs each line of the template, once it is made one, at the next boot instead of every few minutes.
#[test]
fn cron() {
    if !needs::root() {
        return;
    }
    let lines = source::read("dist/services/cron/kmagent");
    let is_inactive = |line: &str| line.is_empty() || line.starts_with('#') || line.contains("=/");
    assert!(lines.lines().all(is_inactive), "as shipped it does nothing");
    let api = Api::plain();
    api.answer_config(json!({"fake": {}, "name": "new"}));
    let machine = Machine::boot(Network::Shared, &bin::fake());
    machine.does("cp /services/sysv/kmagent /etc/init.d/kmagent");
    machine.settings(&json!({"min-uptime": "500ms", "update-endpoint": api.url()}));
    // As a crontab's own line is taken as it is, the time excepted.
    let activate = |number: usize| {
        let line = lines.lines().filter(|line| line.starts_with("#*/")).nth(number).expect("a template line");
        let command = line.splitn(6, ' ').nth(5).unwrap().replace("--splay 5m", "--splay 0");
        let text = lines.replace(line, &format!("@reboot {command}"));
        machine.write("/etc/cron.d/kmagent", &text);
        machine.does("rm -f /run/crond.reboot && systemctl restart cron");
    };
    activate(0);
    machine.wait_for("a config by way of cron's check", || {
        machine.sh("cat /etc/kmagent/config.yaml").stdout.contains("name: new").then_some(())
    });
    assert_eq!(machine.collectors(), [0; 0]);
    activate(1);
    expect_running(&machine);
}
