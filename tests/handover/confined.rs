//! The same where the agent may do less: as an ordinary user, without capabilities, in namespaces as a container has
//! them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::load::{Load, Mode};
use super::{Ports, Scene, assert_seamless, plain};
use crate::support::agent::{Agent, Builder};
use crate::support::{bin, machine, needs};

/// Debian's nobody and nogroup.
const NOBODY: u32 = 65534;

pub(super) const ORDINARY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
/// What a systemd unit does with NoNewPrivileges= and an empty CapabilityBoundingSet=.
const HARDENED: [&str; 3] = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"];

/// Two changes under load.
#[track_caller]
fn expect_seamless(title: &str, scene: Scene) {
    let ports = scene.ports;
    let loads = Load::start_all([(Mode::Grpc, ports.grpc, 50, 1), (Mode::New, ports.http, 200, 4)]);
    for name in ["second", "third"] {
        assert!(scene.change(name).overlap, "{title}: the collector was restarted, not handed over");
    }
    assert_seamless(&scene.finish(&format!("2 changes, {title}"), loads), 2);
}

/// Starts the agent by way of setpriv(1), which replaces itself by it.
#[track_caller]
fn spawn_with(agent: &Agent, options: &[&str]) {
    let inner = agent.command(["start"]);
    let mut command = Command::new("setpriv");
    command.args(options).arg("--").arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.stdin(Stdio::null()).current_dir(agent.dir());
    agent.spawn_command(command);
}

/// Programs that nobody can reach.
pub(super) fn for_nobody(builder: Builder, collector: &Path) -> Builder {
    let collector = reachable(&builder, collector);
    let program = reachable(&builder, &bin::kmagent());
    builder.collector(collector).program(program)
}

/// Starts the agent as nobody, with files that are nobody's.
#[track_caller]
pub(super) fn spawn_as_nobody(agent: &Agent, options: &[&str]) {
    for path in [".", "etc", "etc/agent.yaml", "etc/config.yaml"] {
        chown(agent.dir().join(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    spawn_with(agent, options);
}

/// The program itself, or a copy if it is below a directory that is closed to others.
fn reachable(builder: &Builder, program: &Path) -> PathBuf {
    let mut command = Command::new("setpriv");
    command.args(ORDINARY).args(["--", "test", "-x"]).arg(program);
    if command.status().expect("setpriv is missing").success() {
        return program.to_path_buf();
    }
    let copy = builder.dir().join(program.file_name().unwrap());
    bin::copy_program(program, &copy);
    copy
}

#[track_caller]
fn expect_seamless_as_nobody(title: &str, options: &[&str]) {
    // Without root, every test runs as an ordinary user.
    if !needs::root() {
        return;
    }
    let settings = |builder| for_nobody(builder, &super::collector());
    expect_seamless(title, Scene::built("handover", settings, |agent| spawn_as_nobody(agent, options)));
}

#[test]
fn as_an_ordinary_user() {
    if machine::skips_hand_over() {
        return;
    }
    expect_seamless_as_nobody("as an ordinary user", &ORDINARY);
}

#[test]
fn as_an_ordinary_user_in_a_hardened_unit() {
    if machine::skips_hand_over() {
        return;
    }
    expect_seamless_as_nobody("as an ordinary user, hardened", &[&ORDINARY[..], &HARDENED].concat());
}

/// Root by number only: what root may do by way of capabilities fails.
#[test]
fn as_root_without_capabilities() {
    if machine::skips_hand_over() {
        return;
    }
    if needs::root() {
        let start = |agent: &Agent| spawn_with(agent, &HARDENED[1..]);
        expect_seamless("as root without capabilities", Scene::built("handover", |builder| builder, start));
    }
}

/// Security modules may take away, at any time, the right to look at a collector's sockets (Yama's ptrace_scope is a
/// sysctl). That is not the config's fault.
#[test]
fn a_collector_that_closes_itself_gets_a_plain_restart_and_no_config_is_rejected() {
    if machine::skips_hand_over() {
        return;
    }
    if !needs::root() {
        return;
    }
    let settings = |builder| for_nobody(builder, &bin::fake());
    let scene = Scene::with_stand_in_started("handover", settings, |agent| spawn_as_nobody(agent, &ORDINARY));
    let changed_by = |name: &str| {
        let mut config = scene.config(name);
        config["fake"]["close_itself"] = json!(true);
        plain::changed_by(&scene, name, config)
    };
    // In the middle of its hand-over.
    assert_eq!(changed_by("closes"), "restart (an earlier hand-over to this config failed)");
    let words = changed_by("closed");
    let reason = ": Operation not permitted (os error 1): CAP_SYS_PTRACE would allow it";
    assert!(words.starts_with("restart (cannot copy a socket of process ") && words.contains(reason), "{words}");
}

/// What gives a collector rights by its file is lost by an ordinary user's filter, and only by that.
#[test]
fn a_collector_with_privileges_of_its_own_keeps_them() {
    if machine::skips_hand_over() {
        return;
    }
    if !needs::root() {
        return;
    }
    let privileged = |builder: &Builder| copy_of_fake(builder, "privileged", 0o2755);
    let hardened = [&ORDINARY[..], &HARDENED].concat();
    for (options, by) in [(&ORDINARY[..], "restart ("), (&hardened, "hand-over")] {
        let settings = |builder: Builder| {
            let program = privileged(&builder);
            for_nobody(builder, &program)
        };
        let scene = Scene::with_stand_in_started("handover", settings, |agent| spawn_as_nobody(agent, options));
        let words = plain::changed_by(&scene, "second", scene.config("second"));
        assert!(words.starts_with(by), "{options:?}: {words}");
        assert_eq!(words.ends_with("/privileged would lose its set-id bits or capabilities)"), by != "hand-over");
    }
    let as_root = |builder: Builder| {
        let program = privileged(&builder);
        builder.collector(program)
    };
    let scene = Scene::with_stand_in("handover", as_root);
    assert_eq!(plain::changed_by(&scene, "second", scene.config("second")), "hand-over");
}

/// An update may bring one. It runs unwatched, so that it could never take over, and nobody waits for it to.
#[test]
fn a_collector_that_gets_privileges_meanwhile_gets_a_plain_restart() {
    if machine::skips_hand_over() {
        return;
    }
    if !needs::root() {
        return;
    }
    let settings = |builder: Builder| {
        let program = copy_of_fake(&builder, "updated", 0o755);
        for_nobody(builder, &program).setting("log-level", "debug")
    };
    let scene = Scene::with_stand_in_started("handover", settings, |agent| spawn_as_nobody(agent, &ORDINARY));
    fs::set_permissions(scene.agent.dir().join("updated"), fs::Permissions::from_mode(0o2755)).unwrap();
    // On ports of its own: it cannot share any, and would end by itself.
    let (mut config, ports) = (scene.config("second"), Ports::free());
    config["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = json!(format!("127.0.0.1:{}", ports.http));
    config["extensions"]["health_check"]["endpoint"] = json!(format!("127.0.0.1:{}", ports.health));
    let words = plain::changed_by(&scene, "second", config);
    assert_eq!(words, "restart (an earlier hand-over to this config failed)");
    scene.agent.wait_log("the reason", |line| line.text.contains("/updated would lose its set-id bits"));
    assert_eq!(
        scene.agent.count_log(|line| line.msg() == "new collector is not ready for new connections yet"),
        0,
        "it was waited for"
    );
}

/// The stand-in under another name.
fn copy_of_fake(builder: &Builder, name: &str, mode: u32) -> PathBuf {
    let program = builder.dir().join(name);
    // Not by us, who would have it open for writing: a child that another test forks then would keep it from being
    // executed.
    assert!(Command::new("cp").arg(bin::fake()).arg(&program).status().unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    program
}

/// What `in_namespaces` runs inside.
#[test]
fn as_the_user_of_this_run() {
    if machine::skips_hand_over() {
        return;
    }
    let title = if std::process::id() < 10 { "inside namespaces" } else { "as the user of this run" };
    expect_seamless(title, Scene::new("handover"));
}

/// Runs that test in namespaces of its own, the clients and the API included.
#[track_caller]
fn in_namespaces(options: &[&str]) {
    let mut command = Command::new("unshare");
    command.args(options).args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
    // Not exec: as process 1 the shell reaps what is orphaned.
    command.arg(r#"ip link set lo up && "$0" "$@" && exit 0"#).arg(std::env::current_exe().unwrap());
    command.args(["handover::confined::as_the_user_of_this_run", "--exact", "--include-ignored", "--nocapture"]);
    // Outside a hand-over is possible, so nothing may be skipped inside.
    command.env_remove("KM_SKIPPED");
    let output = bin::output_within(Duration::from_secs(120), command);
    let is_tried = output.stdout.contains("1 passed") && !output.stderr.contains("skipped: ");
    assert!(output.code == Some(0) && is_tried, "{}\n{}", output.stdout, output.stderr);
    let counts = output.stderr.lines().skip_while(|line| !line.starts_with("handover:"));
    eprintln!("{}", counts.collect::<Vec<_>>().join("\n"));
}

#[test]
fn in_a_container_as_root() {
    if machine::skips_hand_over() {
        return;
    }
    if needs::root() {
        in_namespaces(&[]);
    }
}

/// Where user namespaces are closed to ordinary users, there are no such containers.
#[test]
fn in_a_container_without_root() {
    if machine::skips_hand_over() {
        return;
    }
    let options = ["--user", "--map-root-user"];
    let possible = Command::new("unshare").args(options).arg(OsStr::new("true")).stderr(Stdio::null()).status();
    let possible = possible.expect("unshare is missing").success();
    if needs::that(possible, "user namespaces are closed to ordinary users") {
        in_namespaces(&options);
    }
}
