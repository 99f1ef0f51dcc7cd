//! On a Debian: each service manager that it has but for systemd, what fails on a host that is in use, and the
//! questions.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::root::{PATIENCE, Root, available};
use super::stage::{self, OLDER, Stage, VERSION, assert_done, assert_fails, release};
use super::tree::{assert_same, assert_untouched};
use crate::support::bin::{self, Output};
use crate::support::process;
use crate::support::source;
use crate::support::wait::wait_for;

const AGENT: &str = "/usr/local/bin/kmagent";
const CONFIG: &str = "/var/lib/kmagent/config.yaml";

/// Settings that spare the tests some waiting.
const QUICK: [(&str, &str); 2] = [("KM_MIN_UPTIME", "300ms"), ("KM_HOST_NAME", "host")];

#[track_caller]
fn assert_runs(root: &Root, version: &str) -> u64 {
    let status = root.status().expect("an agent that answers");
    assert_eq!((&status["agent_version"], &status["collector"]["state"]), (&json!(version), &json!("running")));
    status["pid"].as_u64().unwrap()
}

/// Settings and key are root's, config and state the agent's.
#[track_caller]
pub fn assert_layout(root: &Root, agent: u32) {
    assert_ne!(agent, 0);
    let of = |path: &str| {
        let found = fs::symlink_metadata(root.join(path)).unwrap();
        (found.uid(), found.mode() & 0o7777)
    };
    for (path, mode) in [("", 0o750), ("/agent.yaml", 0o640), ("/api-key", 0o640)] {
        let path = format!("/etc/kmagent{path}");
        assert_eq!(of(&path), (0, mode), "{path}");
        let group = fs::metadata(root.join(&path)).unwrap().gid();
        assert_eq!(root.run(&["id", "-g", "kmagent"]).stdout.trim(), group.to_string(), "{path}");
    }
    let link = root.join("/etc/kmagent/config.yaml");
    assert_eq!((fs::read_link(link).unwrap().to_str(), of("/etc/kmagent/config.yaml").0), (Some(CONFIG), 0));
    assert_eq!((of(CONFIG), of("/var/lib/kmagent")), ((agent, 0o600), (agent, 0o700)));
    assert!(root.read("/etc/passwd").contains(":/nonexistent:"), "{}", root.read("/etc/passwd"));
}

/// In a while, its collector being on probation.
#[track_caller]
fn expect_running(root: &Root, version: &str) {
    root.wait_status("it runs", |status| status["collector"]["state"] == "running");
    assert_runs(root, version);
}

/// All that is ours in there is killed at once, including what would start it again.
#[track_caller]
fn die(root: &Root) {
    let mut ours = root.processes();
    ours.sort_by_key(|&pid| !process::command_line(pid)[0].contains("supervise-daemon"));
    for pid in ours {
        let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
    }
    wait_for("its end", PATIENCE, || root.processes().is_empty().then_some(()));
}

/// Installed, upgraded, stopped, upgraded, killed, upgraded, removed.
fn life(root: &Root, init: &str, args: &[&str], stop: &[&str]) {
    let before = root.tree();
    let (old, new) = (release().older(), release());
    let output = root.install(&old, &QUICK, args);
    assert_done(&output);
    assert!(output.stdout.contains(&format!("service manager: {init}\n")), "{output:#?}");
    root.wait_status("it runs", |status| status["collector"]["state"] == "running");
    let first = assert_runs(root, OLDER);
    let owner = fs::metadata(root.join(&format!("/proc/{first}"))).unwrap().uid();
    assert_layout(root, owner);
    // The installer's own environment would outrank the settings until the next boot.
    let environment = root.read(&format!("/proc/{first}/environ"));
    assert!(!environment.contains("KM_HOST_NAME"), "{environment:?}");
    assert!(root.run(&[AGENT, "--print-settings"]).says().contains("= host "), "it is in the settings");
    let groups = root.run(&["id", "-Gn", "kmagent"]).stdout;
    assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["kmagent", "adm", "systemd-journal"]);

    assert_done(&root.install(&new, &[], &[]));
    let second = assert_runs(root, VERSION);
    assert_done(&root.install(&new, &[], &[]));
    assert_eq!(assert_runs(root, VERSION), second, "nothing was new, so nothing was restarted");
    assert_done(&root.install(&old, &[], &["--no-start"]));
    assert_eq!(assert_runs(root, VERSION), second, "it was set not to");
    let output = root.install(&old, &[], &[]);
    assert_done(&output);
    assert!(output.stdout.contains("restarting"), "the agent that runs is not the one that is installed: {output:#?}");
    assert_runs(root, OLDER);

    assert_eq!(root.run(stop).code, Some(0));
    assert!(root.status().is_none());
    let output = root.install(&new, &[], &[]);
    assert_done(&output);
    assert!(root.status().is_none() && output.stdout.contains("the service is not started"), "it was stopped by hand");

    let mut start: Vec<&str> = stop.to_vec();
    *start.last_mut().unwrap() = "start";
    assert_eq!(root.run(&start).code, Some(0));
    die(root);
    let output = root.install(&old, &[], &[]);
    assert_done(&output);
    assert!(output.stdout.contains("starting the service"), "nobody has stopped it, it has died: {output:#?}");
    expect_running(root, OLDER);

    assert_done(&root.run(&["/usr/local/lib/kmagent/install.sh", "--uninstall"]));
    assert!(root.join("/etc/kmagent/api-key").exists() && root.run(&["id", "kmagent"]).code == Some(0));
    // From what was kept.
    assert_done(&root.install(&new, &[], args));
    root.wait_status("it runs again", |status| status["collector"]["state"] == "running");
    root.write("/etc/default/kmagent", "export KM_API_KEY=k\n", 0o600);
    assert_done(&root.install(&new, &[], &["--purge"]));
    wait_for("its end", PATIENCE, || root.processes().is_empty().then_some(()));
    assert_same(&before, &root.tree(), "before and after");
    assert_ne!(root.run(&["id", "kmagent"]).code, Some(0));
}

#[test]
fn a_life_under_sysv_init() {
    if available() {
        life(&Root::debian(), "sysv", &["--init", "sysv"], &["/etc/init.d/kmagent", "stop"]);
    }
}

#[test]
fn a_life_under_openrc() {
    if !available() {
        return;
    }
    let root = Root::openrc();
    life(&root, "openrc", &[], &["rc-service", "kmagent", "stop"]);
}

/// It lives on when its supervisor is killed.
#[test]
fn an_agent_that_openrc_has_lost_is_stopped() {
    if !available() {
        return;
    }
    let root = Root::openrc();
    assert_done(&root.install(&release(), &QUICK, &[]));
    expect_running(&root, VERSION);
    let lose = || {
        let supervises = |pid: &u32| process::command_line(*pid)[0].contains("supervise-daemon");
        let pid = root.processes().into_iter().find(supervises).expect("a supervise-daemon");
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
        wait_for("its end", PATIENCE, || (!process::alive(pid)).then_some(()));
        assert!(root.status().is_some(), "the agent does not need it");
    };
    lose();
    root.run(&["rc-service", "kmagent", "stop"]);
    assert!(root.status().is_none(), "it was stopped");
    assert_eq!(root.run(&["rc-service", "kmagent", "start"]).code, Some(0));
    expect_running(&root, VERSION);
    lose();
    assert_done(&root.install(&release(), &[], &["--uninstall"]));
    assert_eq!(root.processes(), [0; 0]);
}

/// A chroot in which an image is made.
#[test]
fn systemd_that_does_not_run_gets_the_service_enabled_only() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let before = root.tree();
    let output = root.install(&release(), &QUICK, &[]);
    assert_done(&output);
    assert!(output.stdout.contains("service manager: systemd\n"), "{output:#?}");
    let wanted = root.join("/etc/systemd/system/multi-user.target.wants/kmagent.service");
    assert_eq!(fs::read_link(&wanted).unwrap().to_str(), Some("/usr/local/lib/systemd/system/kmagent.service"));
    assert!(root.processes().is_empty());
    assert_done(&root.run(&["/usr/local/lib/kmagent/install.sh", "--purge"]));
    assert!(fs::symlink_metadata(wanted).is_err());
    assert_same(&before, &root.tree(), "before and after");
}

/// A host with an older release that runs.
fn in_use() -> Root {
    let root = Root::debian();
    assert_done(&root.install(&release().older(), &QUICK, &["--init", "sysv"]));
    root.wait_status("it runs", |status| status["collector"]["state"] == "running");
    root
}

/// Asserts that an upgrade fails so, and that nobody would know of it.
#[track_caller]
fn assert_left_alone(root: &Root, upgrade: impl FnOnce() -> Output, code: i32, text: &str) {
    let (before, pid) = (root.tree(), assert_runs(root, OLDER));
    assert_fails(&upgrade(), code, text);
    assert_untouched(&before, &root.tree(), text);
    assert_eq!(assert_runs(root, OLDER), pid, "{text}");
}

#[test]
fn an_upgrade_that_cannot_do_leaves_the_agent_that_runs_alone() {
    if !available() {
        return;
    }
    let root = in_use();
    // A setting that the new release does not know: an older one did.
    let settings = root.read("/etc/kmagent/agent.yaml");
    let with = |line: &str| fs::write(root.join("/etc/kmagent/agent.yaml"), format!("{settings}{line}\n")).unwrap();
    with("report-extendex: true");
    assert_left_alone(&root, || root.install(&release(), &[], &[]), 78, ": unknown key \"report-extendex\"");
    with("");

    // A collector that does not take the active config.
    let config = root.read("/var/lib/kmagent/config.yaml");
    fs::write(root.join("/var/lib/kmagent/config.yaml"), format!("{config}\nno-such-thing: 1\n")).unwrap();
    let collector = stage::COLLECTOR.replace("grep -q no-such-thing", "grep -q nothing-at-all");
    fs::write(root.join("/usr/local/lib/kmagent/kmagent-collector"), collector).unwrap();
    assert_left_alone(
        &root,
        || root.install(&release(), &[], &[]),
        65,
        "rejects the active config /etc/kmagent/config.yaml",
    );
    fs::write(root.join("/var/lib/kmagent/config.yaml"), config).unwrap();

    // No room for the new files.
    let fill = "mount -t tmpfs -o size=20m tmpfs /mnt && cp -a /usr/local/. /mnt && dd if=/dev/zero of=/mnt/fill bs=4k 2>/dev/null;
                mount --bind /mnt /usr/local";
    assert_eq!(root.run(&["sh", "-c", fill]).code, Some(0));
    assert_left_alone(&root, || root.install(&release(), &[], &[]), 73, "No space left on device");
    assert_eq!(
        root.run(&[
            "sh",
            "-c",
            "umount /usr/local; mount -o remount,ro --bind /usr/local /usr/local 2>/dev/null ||
                { mount --bind /usr/local /usr/local && mount -o remount,ro,bind /usr/local; }"
        ])
        .code,
        Some(0)
    );
    assert_left_alone(&root, || root.install(&release(), &[], &[]), 73, "Read-only file system");
    assert_eq!(root.run(&["umount", "/usr/local"]).code, Some(0));
    assert_done(&root.install(&release(), &[], &[]));
    assert_runs(&root, VERSION);
}

#[test]
fn a_new_agent_that_does_not_come_up_is_replaced_by_the_old_one() {
    if !available() {
        return;
    }
    let root = in_use();
    let real = fs::read(bin::kmagent()).unwrap();
    root.write("/opt/real", "", 0o755);
    stage::write(&root.join("/opt/real"), &real, 0o755);
    let before = root.tree();
    let new = |start: &str| {
        let agent = format!("#!/bin/sh\n[ \"$1\" != start ] || {{ {start}; }}\nexec /opt/real \"$@\"\n");
        release().write("bin/kmagent", agent.as_bytes(), 0o755)
    };
    let broken_collector = stage::COLLECTOR.replace("trap ", "exit 3\ntrap ");
    for (what, stage) in [
        ("an agent that ends", new("exit 70")),
        ("a collector that ends", release().write("lib/kmagent/kmagent-collector", broken_collector.as_bytes(), 0o755)),
    ] {
        assert_fails(&root.install(&stage, &[], &[]), 69, "the agent does not start");
        root.wait_status(what, |status| status["collector"]["state"] == "running");
        assert_runs(&root, OLDER);
        let mut after = root.tree();
        // The collector's version, and when it was started.
        after.retain(|name, _| before.contains_key(name));
        let state = |name: &String| name.starts_with("/var/lib/kmagent/");
        let without = |tree: &super::tree::Tree| {
            tree.clone().into_iter().filter(|(name, _)| !state(name)).collect::<super::tree::Tree>()
        };
        assert_same(&without(&before), &without(&after), what);
    }
}

/// Where there was no collector before, and where there was one that had yet to prove itself.
#[test]
fn a_collector_that_never_comes_up_is_a_failure() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let (before, sysv) = (root.tree(), ["--init", "sysv"]);
    let broken = || {
        let collector = stage::COLLECTOR.replace("trap ", "exit 3\ntrap ");
        release().write("lib/kmagent/kmagent-collector", collector.as_bytes(), 0o755)
    };
    assert_fails(&root.install(&broken(), &QUICK, &sysv), 69, "the collector does not stay up");
    assert_same(&before, &root.tree(), "an installation");
    assert!(root.processes().is_empty());

    assert_done(&root.install(&release().older(), &QUICK, &sysv));
    let longer = "sed -i 's/^min-uptime.*/min-uptime: 1h/' /etc/kmagent/agent.yaml && /etc/init.d/kmagent restart";
    assert_eq!(root.run(&["sh", "-c", longer]).code, Some(0));
    let starting = |status: &serde_json::Value| status["collector"]["state"] == "starting";
    root.wait_status("a collector on probation", starting);
    assert_fails(&root.install(&broken(), &[], &[]), 69, "the collector does not stay up");
    assert_eq!(root.wait_status("the old one", starting)["agent_version"], OLDER);
}

/// Programs that fail, in front of the real ones.
#[test]
fn an_installation_that_the_system_refuses_leaves_nothing() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let before = root.tree();
    let stage = release();
    root.bind(&stage.path(), "kmagent");
    let refused = |name: &str, words: &str, args: &[&str], code: i32, text: &str| {
        let shim = format!(
            "#!/bin/sh\ncase \" $* \" in *\" {words}\"*) echo refused >&2; exit 1 ;; esac\nPATH=${{PATH#*:}}\nexec {name} \"$@\"\n"
        );
        let output = install_with(&root, name, &shim, &QUICK, args);
        assert_fails(&output, code, text);
        assert!(output.stderr.contains("rolling back") && !output.stderr.contains("could not undo"), "{output:#?}");
        assert_same(&before, &root.tree(), &format!("{name} {words}"));
        assert!(root.processes().is_empty());
    };
    let sysv = ["--init", "sysv"];
    refused("groupadd", "", &sysv, 71, "cannot create the group kmagent");
    refused("useradd", "", &sysv, 71, "cannot create the user kmagent");
    refused("usermod", "-a -G adm", &sysv, 71, "cannot add kmagent to the group adm");
    refused("usermod", "-a -G systemd-journal", &sysv, 71, "cannot add kmagent to the group systemd-journal");
    refused("chown", "", &sysv, 73, "cannot change the owner of");
    refused("update-rc.d", "kmagent defaults", &sysv, 71, "cannot enable the service");
    refused("systemctl", "enable", &["--init", "systemd"], 71, "cannot enable the service");
    refused("rc-update", "add", &["--init", "openrc"], 71, "cannot enable the service");
    // The release's own agent.
    let start = "#!/bin/sh\n[ \"$1\" != start ] || exit 70\nexec /opt/real \"$@\"\n";
    root.write("/opt/real", "", 0o755);
    stage::write(&root.join("/opt/real"), &fs::read(bin::kmagent()).unwrap(), 0o755);
    let before = root.tree();
    let broken = release().write("bin/kmagent", start.as_bytes(), 0o755);
    assert_fails(&root.install(&broken, &QUICK, &sysv), 69, "the agent does not start");
    assert_same(&before, &root.tree(), "an agent that does not start");
    assert!(root.processes().is_empty());
    assert_eq!(root.run(&["mkdir", "/run/systemd"]).code, Some(0));
    assert_eq!(root.run(&["mkdir", "/run/systemd/system"]).code, Some(0));
    // systemd does not run, so its own client is refused.
    let output = root.install(&stage, &QUICK, &[]);
    assert_fails(&output, 71, "the service manager does not accept the service");
    assert_same(&before, &root.tree(), "no service manager");
}

/// install.sh with that shell script in the place of a program.
pub fn install_with(root: &Root, program: &str, script: &str, env: &[(&str, &str)], args: &[&str]) -> Output {
    root.write(&format!("/run/shims/{program}"), script, 0o755);
    let path = "PATH=/run/shims:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    let words = ["/usr/bin/env", path, "/tmp/kmagent/install.sh"].iter().chain(args).copied().collect::<Vec<_>>();
    let output = bin::output_within(PATIENCE, root.command(env, &words));
    fs::remove_dir_all(root.join("/run/shims")).unwrap();
    output
}

/// The service is what it would be without the interruption: enabled, and it runs.
#[test]
fn after_an_interruption_the_service_is_enabled_and_started() {
    if !available() {
        return;
    }
    const KILL: &str = "#!/bin/sh\nkill -KILL $PPID\n";
    let (root, old, new) = (Root::debian(), release().older(), release());
    let (before, link) = (root.tree(), "/etc/rc2.d/S01kmagent");
    let sysv = ["--init", "sysv"];
    for (program, removed) in [("update-rc.d", false), ("useradd", true), ("sync", false)] {
        root.bind(&old.path(), "kmagent");
        assert_eq!(install_with(&root, program, KILL, &QUICK, &sysv).code, None, "{program}");
        assert!(!root.join(link).exists() && root.status().is_none());
        if !removed {
            assert_done(&root.install(&old, &QUICK, &sysv));
            assert!(root.join(link).exists(), "{program}");
            expect_running(&root, OLDER);
        }
        assert_done(&root.install(&old, &[], &["--purge"]));
        assert_same(&before, &root.tree(), program);
    }

    // Stopped as it restarts, or as it is removed.
    assert_done(&root.install(&old, &QUICK, &sysv));
    root.bind(&new.path(), "kmagent");
    assert_eq!(install_with(&root, "sync", KILL, &[], &[]).code, None);
    assert_eq!(root.run(&["/etc/init.d/kmagent", "stop"]).code, Some(0));
    assert_done(&root.install(&new, &[], &[]));
    expect_running(&root, VERSION);
    assert_eq!(install_with(&root, "mv", KILL, &[], &["--uninstall"]).code, None);
    assert!(!root.join(link).exists() && root.status().is_none());
    assert_done(&root.install(&new, &[], &[]));
    assert!(root.join(link).exists());
    expect_running(&root, VERSION);
}

/// The next run knows what is left.
#[test]
fn a_removal_that_fails_or_is_killed_is_finished_by_the_next() {
    if !available() {
        return;
    }
    let (root, stage) = (Root::debian(), release());
    let before = root.tree();
    for (program, script, args, code) in [
        ("userdel", "#!/bin/sh\nexit 1\n", "--purge", Some(73)),
        ("rmdir", "#!/bin/sh\nkill -KILL $PPID\n", "--uninstall", None),
        ("rmdir", "#!/bin/sh\nkill -KILL $PPID\n", "--purge", None),
    ] {
        assert_done(&root.install(&stage, &QUICK, &["--init", "sysv"]));
        assert_eq!(install_with(&root, program, script, &[], &[args]).code, code, "{program} {args}");
        assert_done(&root.install(&stage, &[], &["--purge"]));
        assert_same(&before, &root.tree(), &format!("{program} {args}"));
    }
}

/// What changes the system: each of its calls comes right after a line that says so.
#[test]
fn every_step_says_what_it_does() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let (old, new) = (release().older(), release());
    let programs = "chown groupadd useradd usermod gpasswd userdel groupdel update-rc.d";
    for program in programs.split(' ') {
        let shim =
            format!("#!/bin/sh\necho \"+ {program} $*\" >>/run/said\nPATH=${{PATH#*:}}\nexec {program} \"$@\"\n");
        root.write(&format!("/opt/shims/{program}"), &shim, 0o755);
    }
    root.write("/etc/kmagent/local.yaml", "extensions: {}\n", 0o600);
    let says = |stage: &Stage, args: &str, expected: &[&str]| {
        root.bind(&stage.path(), "kmagent");
        // As old as Debian's, and one that leaves the group to groupdel(8).
        let line = format!(
            "sed -i 's/^USERGROUPS_ENAB.*/USERGROUPS_ENAB no/' /etc/login.defs; rm -f /run/said
             PATH=/opt/shims:$PATH /tmp/kmagent/install.sh {args} >>/run/said && cat /run/said"
        );
        let output = bin::output_within(PATIENCE, root.command(&QUICK, &["sh", "-c", &line]));
        assert_done(&output);
        let lines: Vec<&str> = output.stdout.lines().collect();
        let silent = lines.windows(2).find(|lines| lines[0].starts_with("+ ") && lines[1].starts_with("+ "));
        assert!(silent.is_none() && !lines[0].starts_with("+ "), "{silent:?} in {lines:#?}");
        let mut rest = lines.iter();
        for expected in expected {
            assert!(rest.any(|line| line == expected), "no {expected:?} in its place in {lines:#?}");
        }
    };
    says(
        &old,
        "--init sysv",
        &[
            "creating the system group kmagent",
            "+ groupadd -r kmagent",
            "creating the system user kmagent",
            "adding kmagent to the group adm",
            "+ usermod -a -G adm kmagent",
            "changing the owner of /etc/kmagent to root, and its group to kmagent",
            "+ chown -h 0:kmagent /etc/kmagent",
            "writing /etc/kmagent/agent.yaml",
            "changing the owner of /var/lib/kmagent/config.yaml to kmagent",
            "+ chown -h kmagent:kmagent /var/lib/kmagent/config.yaml",
            "changing the owner of /var/lib/kmagent to kmagent",
            "+ chown -h kmagent:kmagent /var/lib/kmagent",
            "enabling the service",
            "+ update-rc.d kmagent defaults",
            "starting the service",
        ],
    );
    says(
        &new,
        "",
        &[
            "checking /etc/kmagent/config.yaml with the collector of this release",
            "removing /usr/local/share/doc/kmagent/GONE, which this release does not have",
            "restarting the service",
        ],
    );
    root.write("/etc/default/kmagent", "", 0o644);
    says(
        &new,
        "--purge",
        &[
            "stopping the service",
            "disabling the service",
            "removing settings, config, key and state",
            "removing /etc/default/kmagent",
            "removing kmagent from the group adm",
            "+ gpasswd -d kmagent adm",
            "removing the user kmagent",
            "removing the group kmagent",
            "+ groupdel kmagent",
            "keeping /etc/kmagent: it contains files that are not kmagent's",
        ],
    );
}

/// As README.md has it for packages and images.
#[test]
fn an_image_that_is_made_with_destdir() {
    if !available() {
        return;
    }
    let root = Root::debian();
    assert_done(&release().install(&root.path(), &QUICK, &["--init", "sysv"]));
    assert!(root.run(&["id", "kmagent"]).code != Some(0) && root.status().is_none());
    let readme = source::read("README.md");
    let commands = readme.split("```sh\n").find(|block| block.trim_start().starts_with("useradd")).unwrap();
    let commands =
        commands.split("```").next().unwrap().replace("systemctl enable kmagent", "update-rc.d kmagent defaults");
    let output = root.run(&["sh", "-ec", &commands]);
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert!(root.join("/etc/rc2.d/S01kmagent").exists());
    // As at a boot.
    assert_eq!(root.run(&["/etc/init.d/kmagent", "start"]).code, Some(0));
    let status = root.wait_status("it runs", |status| status["collector"]["state"] == "running");
    let owner = fs::metadata(root.join(&format!("/proc/{}", status["pid"]))).unwrap().uid();
    assert_layout(&root, owner);
}

/// At a terminal that shows all that it is sent.
#[test]
fn the_key_and_the_endpoint_are_asked_for_at_a_terminal() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let stage = release();
    root.bind(&stage.path(), "kmagent");
    let ask = |answers: &[(&str, &str)]| {
        let inner = root.command(&QUICK, &["/tmp/kmagent/install.sh", "--init", "none"]);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let line: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut command = Command::new("script");
        command.args(["-qec", &line.join(" "), "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().expect("script is missing");
        let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut seen = String::new();
        let mut until = |text: &str, seen: &mut String| {
            let mut buffer = [0; 4096];
            while !seen.contains(text) {
                let count = screen.read(&mut buffer).unwrap();
                assert!(count > 0, "it ended without {text:?}: {seen}");
                seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        for (question, answer) in answers {
            until(question, &mut seen);
            keyboard.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
        until("done;", &mut seen);
        drop(keyboard);
        assert!(script.wait().unwrap().success(), "{seen}");
        seen
    };
    let questions =
        ["Collector endpoint, or Enter for https://otel.kloudmate.com:4318: ", "API key, or Enter for none yet"];
    let seen = ask(&[(questions[0], ""), (questions[1], "")]);
    assert!(seen.contains("there is no API key yet"), "{seen}");
    assert_eq!(root.read("/etc/kmagent/api-key"), "");
    // Only what is not known.
    let seen = ask(&[(questions[1], r"SEC\RET 'x")]);
    assert!(!seen.contains("RET") && !seen.contains("endpoint"), "{seen}");
    assert_eq!(root.read("/etc/kmagent/api-key"), "SEC\\RET 'x\n");
    assert_done(&root.install(&stage, &[], &["--purge"]));
    // A typing error is no end.
    ask(&[
        (questions[0], "htp://otel.example.com"),
        ("it has to begin with http://", " https://otel.example.com/\"# "),
        (questions[1], " k"),
        ("what was typed: its content begins or ends with a blank", ""),
    ]);
    assert!(root.read("/etc/kmagent/agent.yaml").contains(r##"collector-endpoint: "https://otel.example.com/\"#""##));
    let program = root.run(&[AGENT, "--print-settings"]);
    assert!(program.says().contains("https://otel.example.com/\"#"), "{program:?}");
}

#[test]
fn only_root_installs_into_the_system() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let stage = release();
    root.bind(&stage.path(), "kmagent");
    let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/tmp/kmagent/install.sh"];
    assert_fails(&root.run(&words), 77, "run this as root");
}
