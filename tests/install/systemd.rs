//! Under a real systemd, in a machine of `tests/system/boot`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::root::{PATIENCE, available};
use super::stage::{OLDER, Stage, VERSION, assert_done, assert_fails, release};
use crate::support::bin::{self, Output};
use crate::support::source;
use crate::support::temp_dir::TempDir;
use crate::support::wait::wait_for;

/// A booted Debian, with releases below /releases.
pub struct Machine {
    path: PathBuf,
    _dir: TempDir,
    _stages: Vec<Stage>,
}

impl Machine {
    pub fn boot() -> Machine {
        let old = release().older();
        let broken = "#!/bin/sh\n[ \"$1\" != start ] || { echo 'it is broken' >&2; exit 70; }\nexec /releases/new/bin/kmagent \"$@\"\n";
        let stages = vec![old, release(), release().write("bin/kmagent", broken.as_bytes(), 0o755)];
        Machine::boot_with(stages, &[])
    }

    /// With these as /releases/old, new and broken, and directories of the host by name.
    pub fn boot_with(stages: Vec<Stage>, directories: &[(&Path, &str)]) -> Machine {
        let dir = TempDir::new();
        let path = dir.join("machine");
        let mut command = Command::new(source::path("tests/system/boot"));
        command.arg("start").arg(&path).arg("--private-network");
        for (stage, name) in stages.iter().zip(["old", "new", "broken"]) {
            command.arg(format!("--bind-ro={}:/releases/{name}", stage.path().display()));
        }
        for (directory, name) in directories {
            command.arg(format!("--bind-ro={}:{name}", directory.display()));
        }
        let output = bin::output_within(PATIENCE, command);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        Machine { path, _dir: dir, _stages: stages }
    }

    pub fn sh(&self, line: &str) -> Output {
        let mut command = Command::new(source::path("tests/system/boot"));
        command.arg("run").arg(&self.path).args(["sh", "-c", line]).stdin(Stdio::null());
        bin::output_within(PATIENCE, command)
    }

    /// A line that succeeds, and what it says.
    #[track_caller]
    pub fn does(&self, line: &str) -> String {
        let output = self.sh(line);
        assert_eq!(output.code, Some(0), "{line}: {output:#?}");
        output.stdout.trim_end().to_string()
    }

    #[track_caller]
    pub fn install(&self, release: &str, words: &str) -> Output {
        let output = self.sh(&format!("{words} /releases/{release}/install.sh"));
        if output.code == Some(0) {
            assert_done(&output);
        }
        output
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.sh("kmagent status --json").stdout).unwrap_or_default()
    }

    /// The agent's process, once it is active with a collector that has proved itself.
    #[track_caller]
    pub fn expect_running(&self, version: &str) -> u64 {
        let running = || Some(self.status()).filter(|status| status["collector"]["state"] == "running");
        let status = wait_for("a collector that runs", PATIENCE, running);
        assert_eq!(
            (status["agent_version"].as_str(), &*self.does("systemctl is-active kmagent")),
            (Some(version), "active")
        );
        status["pid"].as_u64().unwrap()
    }

    #[track_caller]
    pub fn expect_gone(&self, unit: &str) {
        let state = self.does(&format!("systemctl show --value -p LoadState -p ActiveState {unit}"));
        assert_eq!(state, "not-found\ninactive", "{unit}");
    }

    /// How often an agent was started, by its own log.
    pub fn starts(&self) -> usize {
        self.does("journalctl --sync; journalctl -o cat -u kmagent | grep -c '\"agent started\"' || :").parse().unwrap()
    }

    /// What an installation could touch: names, modes, owners, links, digests.
    pub fn tree(&self) -> String {
        self.does(
            "find /etc /usr/local /opt /var/lib /usr/bin/kmagent /lib/systemd/system -xdev \
                 ! -path '/var/lib/systemd*' ! -name .pwd.lock ! -path '/etc/*-' ! -path '/var/lib/kmagent/*' \
                 -printf '%p %M %u %g %l ' \\( -type f -exec sha256sum {} \\; -o -printf '\\n' \\) 2>/dev/null | sort",
        )
    }
}

/// Line by line, since the whole is long.
#[track_caller]
pub fn assert_same(before: &str, after: &str) {
    let only = |these: &str, those: &str| -> Vec<String> {
        let those: Vec<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(str::to_string).collect()
    };
    assert_eq!((only(before, after), only(after, before)), (vec![], vec![]));
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- journal:\n{}", self.sh("journalctl --no-pager -n 60").stdout);
        }
        let _ = Command::new(source::path("tests/system/boot")).arg("stop").arg(&self.path).status();
    }
}

const QUICK: &str = "KM_API_KEY=sk_123456 KM_UPDATE_ENDPOINT=http://127.0.0.1:9/x KM_MIN_UPTIME=500ms";

#[test]
fn a_life() {
    if !available() {
        return;
    }
    let machine = Machine::boot();
    let before = machine.tree();
    // ---- first one that does not start, which systemd would try again and again
    assert_fails(&machine.install("broken", QUICK), 69, "the agent does not start");
    machine.expect_gone("kmagent.service");
    assert_same(&before, &machine.tree());

    let output = machine.install("old", QUICK);
    assert_done(&output);
    assert!(output.stdout.contains("service manager: systemd\n"), "{output:#?}");
    let to_timer =
        output.stdout.lines().find_map(|line| line.strip_prefix("for checks by a timer, without an agent: ")).unwrap();
    let first = machine.expect_running(OLDER);
    assert_eq!(machine.does(&format!("stat -c %U /proc/{first}")), "kmagent");
    assert_eq!(machine.does("systemctl is-enabled kmagent"), "enabled");
    assert_eq!(
        machine.does("stat -Lc '%U:%G %a' /etc/kmagent /etc/kmagent/api-key /etc/kmagent/config.yaml /var/lib/kmagent"),
        "root:kmagent 750\nroot:kmagent 640\nkmagent:kmagent 600\nkmagent:kmagent 700"
    );
    let collector = machine.status()["collector"]["pid"].to_string();
    let variable = format!("tr '\\0' '\\n' </proc/{collector}/environ | grep -x KM_API_KEY=sk_123456");
    machine.does(&variable);
    // As root, without the agent's credential: the same key.
    let rows = machine.does("kmagent --print-settings");
    assert!(rows.contains("(file /etc/kmagent/api-key)"), "{rows}");
    machine.does("mkdir -p /etc/systemd/system/kmagent.service.d && printf '[Service]\\nEnvironment=SITE=1\\n' >/etc/systemd/system/kmagent.service.d/site.conf");

    // ---- upgraded, with one restart and no more
    assert_done(&machine.install("new", ""));
    let second = machine.expect_running(VERSION);
    assert_eq!(machine.starts(), 2);
    let journal = machine.does("journalctl -o short-unix -u kmagent | grep -E '\"agent (stopped|started)\"'");
    let at: Vec<f64> = journal.lines().skip(1).map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    eprintln!("from the end of the old agent to the start of the new one: {:.3} s", at[1] - at[0]);
    assert!(at[1] - at[0] < 5.0, "{journal}");
    assert_done(&machine.install("new", ""));
    assert_eq!(machine.expect_running(VERSION), second);
    machine.does(&format!("tr '\\0' '\\n' </proc/{second}/environ | grep -x SITE=1"));

    // ---- one that does not start, and one that does not take the settings
    let now = machine.tree();
    let output = machine.install("broken", "");
    assert_fails(&output, 69, "the agent does not start");
    assert!(output.stderr.contains("it is broken"), "the journal's last lines: {output:#?}");
    let third = machine.expect_running(VERSION);
    assert_same(&now, &machine.tree());
    machine
        .does("cp -p /etc/kmagent/agent.yaml /etc/kmagent/agent.save && echo colector: /x >>/etc/kmagent/agent.yaml");
    assert_fails(&machine.install("old", ""), 78, "did you mean \"collector\"?");
    machine.does("mv /etc/kmagent/agent.save /etc/kmagent/agent.yaml");
    assert_eq!(machine.expect_running(VERSION), third);
    assert_same(&now, &machine.tree());

    // ---- stopped by an operator
    machine.does("systemctl stop kmagent");
    assert_done(&machine.install("old", ""));
    assert_eq!(machine.sh("systemctl is-active kmagent").stdout, "inactive\n");
    machine.does("systemctl disable -q kmagent && systemctl start kmagent");
    assert_done(&machine.install("new", ""));
    machine.expect_running(VERSION);
    assert_eq!(machine.sh("systemctl is-enabled kmagent").stdout, "disabled\n", "that is not an upgrade's to change");

    // ---- with the timer in the agent's place
    machine.does(to_timer);
    let output = machine.install("old", "");
    assert_done(&output);
    let line = output.stdout.lines().find(|line| line.contains("kmagent-check.timer does the checks")).unwrap();
    let back = line.split_once("back to the agent: ").unwrap().1;
    assert_eq!(machine.sh("systemctl is-active kmagent kmagent-check.timer").stdout, "inactive\nactive\n");
    assert_eq!(machine.sh("systemctl is-enabled kmagent kmagent-check.timer").stdout, "disabled\nenabled\n");

    // Whichever is started stops the other.
    machine.does("systemctl start kmagent");
    assert_eq!(machine.sh("systemctl is-active kmagent kmagent-check.timer").stdout, "active\ninactive\n");
    machine.does("systemctl start kmagent-check.timer");
    wait_for("the timer alone", PATIENCE, || {
        (machine.sh("systemctl is-active kmagent kmagent-check.timer").stdout == "inactive\nactive\n").then_some(())
    });
    machine.does(back);
    machine.expect_running(OLDER);
    assert_eq!(machine.sh("systemctl is-enabled kmagent kmagent-check.timer").stdout, "enabled\ndisabled\n");

    // ---- removed
    machine.does("rm -r /etc/systemd/system/kmagent.service.d");
    assert_ne!(machine.sh("systemctl start kmagent-check").code, Some(0), "the API cannot be reached");
    assert_eq!(machine.sh("systemctl is-failed kmagent-check").stdout, "failed\n");
    assert_done(&machine.sh("/usr/local/lib/kmagent/install.sh --uninstall"));
    for unit in ["kmagent.service", "kmagent-check.timer", "kmagent-check.service"] {
        machine.expect_gone(unit);
    }
    assert_eq!(machine.does("cat /etc/kmagent/api-key"), "sk_123456");
    assert_done(&machine.sh("/releases/new/install.sh --purge"));
    assert_same(&before, &machine.tree());
    assert_ne!(machine.sh("id kmagent").code, Some(0));
}

/// systemd does not look for units below any prefix.
#[test]
fn another_prefix() {
    if !available() {
        return;
    }
    let machine = Machine::boot();
    let before = machine.tree();
    assert_done(&machine.install("old", &format!("PREFIX=/opt/kmagent {QUICK}")));
    assert_fails(&machine.install("new", "PREFIX=/usr/local"), 64, "kmagent is installed in /opt/kmagent");
    assert_done(&machine.install("new", ""));
    let status = machine.does("/opt/kmagent/bin/kmagent status --json");
    assert!(status.contains(&format!("\"agent_version\": \"{VERSION}\"")), "{status}");
    assert_eq!(machine.sh("test -e /usr/local/bin/kmagent").code, Some(1));
    let path = machine.does("systemctl show --value -p FragmentPath -p ExecStart kmagent");
    assert!(
        path.contains("/etc/systemd/system/kmagent.service") && path.contains("/opt/kmagent/bin/kmagent"),
        "{path}"
    );
    assert_eq!(machine.does("systemctl is-active kmagent"), "active");
    assert_done(&machine.sh("/opt/kmagent/lib/kmagent/install.sh --uninstall --purge"));
    assert_same(&before, &machine.tree());
}
