//! Each program that the installer calls is made to fail, once for each of its calls: then all is as it was before.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::stage::{Stage, assert_done, assert_fails, write};
use super::tree::{assert_same, tree};
use crate::support::bin::{self, Output};
use crate::support::temp_dir::TempDir;

/// What changes files, and what the decisions are made with.
const PROGRAMS: [&str; 21] = [
    "cp",
    "mv",
    "mkdir",
    "chmod",
    "ln",
    "sync",
    "cat",
    "sed",
    "env",
    "sha256sum",
    "cut",
    "grep",
    "tr",
    "sort",
    "uname",
    "od",
    "cmp",
    "tail",
    "ls",
    "readlink",
    "chown",
];

/// What changes files, in the order of an upgrade; `rm` too, whose failures keep nothing from being done.
const CHANGES: [&str; 6] = ["mkdir", "cp", "sync", "ln", "mv", "rm"];

/// Stands before the real program in PATH. It counts its calls in COUNT, and fails at the one that FAIL names.
const SHIM: &str = r#"#!/bin/sh
name=${0##*/}
number=$(/bin/cat "$COUNT/$name" 2>/dev/null || echo 0)
number=$((number + 1))
echo "$number" >"$COUNT/$name"
if [ "$name $number" = "$FAIL" ]; then
    [ -z "$SIGNAL" ] || { kill "-$SIGNAL" "$PPID"; exit 0; }
    echo "$name: it is made to fail" >&2
    exit 1
fi
PATH=${PATH#*:}
exec "$name" "$@"
"#;

pub struct Shims {
    dir: TempDir,
}

impl Shims {
    pub fn new() -> Shims {
        let shims = Shims { dir: TempDir::new() };
        for dir in ["bin", "count"] {
            fs::create_dir(shims.dir.join(dir)).unwrap();
        }
        for name in PROGRAMS.into_iter().chain(["rm"]) {
            write(&shims.dir.join("bin").join(name), SHIM.as_bytes(), 0o755);
        }
        shims
    }

    /// With a signal, it is that which the installer gets then.
    fn run(&self, installer: Command, program: &str, call: usize, signal: &str) -> Output {
        let _ = fs::remove_file(self.dir.join("count").join(program));
        let bin = self.dir.join("bin").display().to_string();
        // A shell cannot trap what is ignored when it starts, as it is below nohup(1) or a script's `&`.
        let mut command = Command::new("/usr/bin/env");
        command.arg("--default-signal=INT,HUP,TERM").arg(installer.get_program()).args(installer.get_args());
        command.env_clear().envs(installer.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin"));
        command.env("COUNT", self.dir.join("count")).env("FAIL", format!("{program} {call}")).env("SIGNAL", signal);
        bin::output_within(Duration::from_secs(120), command)
    }

    fn calls(&self, program: &str) -> usize {
        let count = fs::read_to_string(self.dir.join("count").join(program)).unwrap_or_default();
        count.trim().parse().unwrap_or(0)
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    assert_eq!(bin::output(command).code, Some(0));
}

/// Runs `stage` with `args` on a copy of `before`, with every call of every program failing in its turn.
fn inject(stage: &Stage, env: &[(&str, &str)], args: &[&str], before: &Path) {
    let (shims, work) = (Shims::new(), TempDir::new());
    let dest = work.join("dest");
    let was = tree(before, &[]);
    copy(before, &dest);
    assert_done(&stage.install(&dest, env, args));
    let becomes = tree(&dest, &[]);
    copy(before, &dest);
    let mut failed = 0;
    for program in PROGRAMS {
        for call in 1.. {
            let output = shims.run(stage.command(&dest, env, args), program, call, "");
            if shims.calls(program) < call {
                assert_done(&output);
                copy(before, &dest);
                break;
            }
            let what = format!("{args:?}, call {call} of {program}: {output:#?}");
            if output.code == Some(0) {
                // It may do without; but then it is as complete as without the failure.
                assert_same(&becomes, &tree(&dest, &[]), &what);
                copy(before, &dest);
            } else {
                failed += 1;
                assert!(output.code.unwrap_or(0) >= 64, "{what}");
                assert_same(&was, &tree(&dest, &[]), &what);
            }
        }
    }
    assert!(failed > 10, "{failed} failures are not what an installation is made of");
}

/// Once is enough: the agent under test plays no part in it.
fn is_due() -> bool {
    std::env::var_os("KMAGENT_BIN").is_none()
}

const ENV: [(&str, &str); 2] = [("KM_API_KEY", "k"), ("KM_HOST_NAME", "h")];

#[test]
fn an_installation_that_fails_leaves_nothing() {
    if !is_due() {
        return;
    }
    let before = TempDir::new();
    inject(&Stage::light(), &ENV, &["--init", "sysv"], before.path());
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_one() {
    if !is_due() {
        return;
    }
    let before = TempDir::new();
    let old = Stage::light().older();
    assert_done(&old.install(before.path(), &ENV, &["--init", "systemd"]));
    inject(&Stage::light(), &[], &[], before.path());
}

#[test]
fn a_removal_that_fails_leaves_it_installed() {
    if !is_due() {
        return;
    }
    let before = TempDir::new();
    let stage = Stage::light();
    assert_done(&stage.install(before.path(), &ENV, &["--init", "openrc"]));
    inject(&stage, &[], &["--uninstall"], before.path());
}

#[test]
fn an_interrupted_upgrade_leaves_the_old_one() {
    if !is_due() {
        return;
    }
    let (before, shims) = (TempDir::new(), Shims::new());
    assert_done(&Stage::light().older().install(before.path(), &ENV, &["--init", "systemd"]));
    let was = tree(before.path(), &[]);
    let stage = Stage::light();
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        for (program, call) in [("cp", 2), ("sync", 1), ("mv", 2)] {
            let output = shims.run(stage.command(before.path(), &[], &[]), program, call, signal);
            assert_eq!(output.code, Some(128 + number), "{signal} at call {call} of {program}: {output:#?}");
            assert_same(&was, &tree(before.path(), &[]), signal);
        }
    }
}

/// A system that nothing was installed in.
fn bare() -> TempDir {
    let root = TempDir::new();
    fs::create_dir(root.join("etc")).unwrap();
    root
}

/// Runs `stage` with `args` on a copy of `before` until it is killed at a call of a program, for each such call in its
/// turn; then the same again to its end. It is as if nothing had happened; and so it is if what was killed is removed.
fn interrupt(stage: &Stage, env: &[(&str, &str)], args: &[&str], before: &Path) {
    let (shims, work) = (Shims::new(), TempDir::new());
    let [dest, removed] = ["dest", "removed"].map(|name| work.join(name));
    copy(before, &dest);
    assert_done(&stage.install(&dest, env, args));
    let becomes = tree(&dest, &[]);
    let (mut killed, mut strays) = (0, 0);
    for program in CHANGES {
        for call in 1.. {
            copy(before, &dest);
            let output = shims.run(stage.command(&dest, env, args), program, call, "KILL");
            if shims.calls(program) < call {
                break;
            }
            let what = format!("{args:?}, killed at call {call} of {program}: {output:#?}");
            assert_eq!(output.code, None, "{what}");
            killed += 1;
            strays += tree(&dest, &[]).keys().filter(|name| name.ends_with("old") || name.ends_with("new")).count();
            copy(&dest, &removed);
            let output = stage.install(&dest, env, args);
            assert_done(&output);
            assert_same(&becomes, &tree(&dest, &[]), &format!("{what}, then {output:#?}"));
            let output = stage.install(&removed, &[], &["--purge"]);
            assert_done(&output);
            assert_same(&tree(bare().path(), &[]), &tree(&removed, &[]), &format!("{what}, then {output:#?}"));
        }
    }
    assert!(killed > 20 && strays > 0, "{killed} times killed, {strays} strays");
}

#[test]
fn a_killed_installation_is_gone_on_with() {
    if is_due() {
        interrupt(&Stage::light(), &ENV, &["--init", "sysv"], bare().path());
    }
}

#[test]
fn a_killed_upgrade_is_gone_on_with() {
    if !is_due() {
        return;
    }
    let before = bare();
    assert_done(&Stage::light().older().install(before.path(), &ENV, &["--init", "systemd"]));
    // One that the release before did not have, in a directory that it did not have.
    interrupt(&Stage::light().write("share/kmagent/NEW", b"new\n", 0o644), &[], &[], before.path());
}

#[test]
fn a_killed_removal_is_gone_on_with() {
    if !is_due() {
        return;
    }
    let (before, stage) = (bare(), Stage::light());
    assert_done(&stage.install(before.path(), &ENV, &["--init", "openrc"]));
    interrupt(&stage, &[], &["--uninstall"], before.path());
}

/// Killed, then refused: what the first one left is still known to the third.
#[test]
fn what_a_killed_upgrade_left_outlives_one_that_fails() {
    if !is_due() {
        return;
    }
    let (before, shims) = (TempDir::new(), Shims::new());
    assert_done(&Stage::light().older().install(before.path(), &ENV, &["--init", "systemd"]));
    let stage = Stage::light().write("share/kmagent/NEW", b"new\n", 0o644);
    // The new file is in its place, and no manifest knows it yet.
    assert_eq!(shims.run(stage.command(before.path(), &[], &[]), "mv", 3, "KILL").code, None);
    assert!(before.join("usr/local/share/kmagent/NEW").exists());
    let settings = before.join("etc/kmagent/agent.yaml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, "colector: /x\n").unwrap();
    assert_fails(&stage.install(before.path(), &[], &[]), 78, "unknown key");
    let key = before.join("etc/.kmagent-install/api-key");
    assert!(!key.exists(), "only what is needed to go on");
    fs::write(&settings, text).unwrap();
    assert_done(&stage.install(before.path(), &[], &["--purge"]));
    assert!(tree(before.path(), &[]).is_empty(), "{:?}", tree(before.path(), &[]).keys());
}
