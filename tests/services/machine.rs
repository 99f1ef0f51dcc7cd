//! `Machine`: a host of its own (tests/system/boot) with an agent installed in it by hand. Gone when dropped.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::bin::{self, Output};
use crate::support::source;
use crate::support::temp_dir::TempDir;
use crate::support::wait::{DEADLINE, wait_for};

/// Units are started, stopped and restarted on a host that is busy with other tests.
const TIMEOUT: Duration = Duration::from_secs(60);

pub const AGENT: &str = "/usr/local/bin/kmagent";
pub const COLLECTOR: &str = "/usr/local/lib/kmagent/kmagent-collector";

/// What /etc/default/kmagent may say, for systemd and for a shell alike.
pub const ENVIRONMENT: &str = "# for the proxy\nHTTPS_PROXY=http://127.0.0.1:1\nNOTE='two $words'";

/// The agent has it, since its collector inherits it.
#[track_caller]
pub fn expect_environment(machine: &Machine) {
    machine.wait_running();
    let environment = machine.does(&format!("tr '\\0' '\\n' </proc/{}/environ", machine.collectors()[0]));
    for expected in ["HTTPS_PROXY=http://127.0.0.1:1", "NOTE=two $words"] {
        assert!(environment.lines().any(|line| line == expected), "no {expected} in {environment}");
    }
}

/// Which network it has.
pub enum Network {
    /// A loopback of its own.
    Own,
    /// This host's, to meet the test's own servers there.
    Shared,
}

pub struct Machine {
    _dir: TempDir,
    path: PathBuf,
}

impl Machine {
    /// A Debian that its real systemd has booted, with the agent under test, this collector, the user and the service
    /// files, but nothing enabled or started.
    #[track_caller]
    pub fn boot(network: Network, collector: &Path) -> Machine {
        let options = match network {
            Network::Own => vec!["--private-network".to_string()],
            Network::Shared => vec![],
        };
        let binds = binds(collector).into_iter().map(|bind| format!("--bind-ro={bind}"));
        let machine = Machine::new("start", options.into_iter().chain(binds));
        machine.install();
        machine.does("cp /services/systemd/* /etc/systemd/system/");
        machine
    }

    /// The same without any service manager, in this root (tests/system/root), and with the libraries that the programs
    /// need.
    #[track_caller]
    pub fn bare(root: &str, collector: &Path) -> Machine {
        let libraries = libraries(&bin::kmagent()).into_iter().chain(libraries(collector));
        let libraries = libraries.map(|path| format!("{}:{path}", Path::new(&path).canonicalize().unwrap().display()));
        let libraries = libraries.collect::<BTreeSet<_>>();
        // Debian has its own.
        let libraries = libraries.into_iter().filter(|_| root != "debian");
        let machine = Machine::new("bare", [root.to_string()].into_iter().chain(binds(collector)).chain(libraries));
        machine.install();
        machine
    }

    #[track_caller]
    fn new(verb: &str, options: impl Iterator<Item = String>) -> Machine {
        let dir = TempDir::new();
        let machine = Machine { path: dir.join("machine"), _dir: dir };
        let mut command = script("tests/system/boot", verb, &machine.path);
        command.args(options);
        let output = bin::output_within(TIMEOUT * 2, command);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        machine
    }

    /// As an installer would.
    #[track_caller]
    fn install(&self) {
        self.does(
            "if command -v useradd; then
                 useradd --system --user-group --no-create-home --shell /usr/sbin/nologin kmagent
             else
                 echo kmagent:x:997:997::/nonexistent:/bin/false >>/etc/passwd
                 echo kmagent:x:997: >>/etc/group
             fi
             mkdir -p /etc/init.d /var/lib
             mkdir -m 750 /etc/kmagent
             chgrp kmagent /etc/kmagent
             mkdir -m 700 /var/lib/kmagent
             chown kmagent:kmagent /var/lib/kmagent
             ln -s /var/lib/kmagent/config.yaml /etc/kmagent/config.yaml",
        );
        self.for_the_agent("/etc/kmagent/api-key", "key-of-root");
    }

    /// A command line of a shell, as root.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Output {
        let mut command = script("tests/system/boot", "run", &self.path);
        command.args(["sh", "-c", line]).stdin(Stdio::null());
        bin::output_within(TIMEOUT, command)
    }

    /// What a script says on stdout, all of whose commands must succeed.
    #[track_caller]
    pub fn does(&self, lines: &str) -> String {
        let output = self.sh(&format!("set -e\n{lines}"));
        assert_eq!(output.code, Some(0), "{lines}\n{}\n{}", output.stdout, output.stderr);
        output.stdout.trim_end().to_string()
    }

    /// A file of root's that nobody else can read.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        self.does(&format!("umask 077 && mkdir -p $(dirname {path}) && cat >{path} <<'\\EOF'\n{text}\n\\EOF\n"));
    }

    /// A file of root's that the agent can read.
    #[track_caller]
    pub fn for_the_agent(&self, path: &str, text: &str) {
        self.write(path, text);
        self.does(&format!("chgrp kmagent {path} && chmod 640 {path}"));
    }

    /// The collector's config, the agent's own, which the link leads to.
    #[track_caller]
    pub fn config(&self, config: &Value) {
        let target = self.does("readlink /etc/kmagent/config.yaml");
        self.write(&target, &serde_yaml::to_string(config).unwrap());
        self.does(&format!("chown kmagent:kmagent {target}"));
    }

    /// The agent's settings.
    #[track_caller]
    pub fn settings(&self, settings: &Value) {
        self.for_the_agent("/etc/kmagent/agent.yaml", &serde_yaml::to_string(settings).unwrap());
    }

    /// Further lines for a unit.
    #[track_caller]
    pub fn drop_in(&self, unit: &str, lines: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), lines);
        self.does("systemctl daemon-reload");
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.does(&format!("systemctl show --value -p {name} {unit}"))
    }

    #[track_caller]
    pub fn wait_property(&self, unit: &str, name: &str, expected: &str) {
        self.wait_for(&format!("{unit} with {name}={expected}"), || {
            (self.property(unit, name) == expected).then_some(())
        });
    }

    /// Waits until `probe` returns something.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait_for(what, DEADLINE * 2, probe)
    }

    /// What `kmagent status --json` says; null when it fails.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.sh("kmagent status --json").stdout).unwrap_or_default()
    }

    /// Waits until collector passed probation.
    #[track_caller]
    pub fn wait_running(&self) -> Value {
        self.wait_for("a collector that runs", || {
            Some(self.status()).filter(|status| status["collector"]["state"] == "running")
        })
    }

    /// The processes that run this program, as the machine numbers them, oldest first.
    #[track_caller]
    pub fn processes(&self, program: &str) -> Vec<u32> {
        let line = format!(
            "for exe in /proc/[0-9]*/exe; do
                 [ \"$(readlink $exe)\" != {program} ] || echo ${{exe%/exe}}
             done"
        );
        let listed = self.does(&line);
        let mut found: Vec<u32> = listed.lines().filter_map(|path| path.strip_prefix("/proc/")?.parse().ok()).collect();
        found.sort();
        found
    }

    /// The collectors that serve: commands such as `--version` are none.
    #[track_caller]
    pub fn collectors(&self) -> Vec<u32> {
        let mut found = self.processes(COLLECTOR);
        found.retain(|pid| {
            let args = self.sh(&format!("tr '\\0' ' ' </proc/{pid}/cmdline")).stdout;
            args.contains(" --config ") && !args.contains(" validate ")
        });
        found
    }

    /// What a unit has logged.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.does(&format!("journalctl --sync && journalctl --no-pager -o cat -u {unit}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self
                .sh("ps | grep -v ps; ls -lR /etc/kmagent /run /var/lib/kmagent; tail -n 100 /var/log/messages
                 systemctl status --no-pager 'kmagent*'; journalctl --no-pager -n 100");
            eprintln!("--- machine:\n{}{}", log.stdout, log.stderr);
            eprintln!("--- console:\n{}", fs::read_to_string(self.path.join("console")).unwrap_or_default());
        }
        let _ = script("tests/system/boot", "stop", &self.path).status();
    }
}

/// What a machine has of ours, each as HERE:THERE.
fn binds(collector: &Path) -> Vec<String> {
    let ours = [
        (bin::kmagent(), AGENT),
        (collector.to_path_buf(), COLLECTOR),
        (source::path("dist/services"), "/services"),
        (source::path("dist/config.yaml"), "/config.yaml"),
    ];
    ours.map(|(here, there)| format!("{}:{there}", here.canonicalize().unwrap().display())).into()
}

/// None for a static program.
fn libraries(program: &Path) -> Vec<String> {
    let listed = bin::output({
        let mut command = Command::new("ldd");
        command.arg(program);
        command
    });
    let words = listed.stdout.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    words.map(str::to_string).collect()
}

fn script(name: &str, verb: impl AsRef<OsStr>, argument: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(source::path(name));
    command.arg(verb).arg(argument);
    command
}
