//! Attacks on the agent, class by class, as tests/FAULTS.md lists them: what is thrown at it, and what must hold all
//! the same.
//!
//! `Trial` is one attack by an API against the real binary, resident and as a one-shot; the modules hold the cases as
//! data.

mod answers;
mod bodies;
mod clock;
mod collector;
mod core_dumps;

mod hostile;

mod large_files;
mod network;
mod phases;
mod planted;
mod proxy;
mod races;
mod relay;
mod retry_after;
mod special_files;
mod statuses;
mod storm;
mod strings;
mod system_calls;
mod tls;
mod yaml_bombs;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::support::agent::{Agent, Builder};
use crate::support::bin::{self, Output};
use crate::support::process;
use hostile::{Hostile, Script, answer, ok};

/// The setting `poll-timeout` of every trial.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// What a check may take beyond that on a host with two cores and six tests at a time.
const SLACK: Duration = Duration::from_secs(6);
/// The default of `max-config-size`, which the trials leave as it is.
const MAX_CONFIG_SIZE: u64 = 4 << 20;
/// KiB that one check may add to the agent's peak: the body, whose buffer doubles as it grows, and a little of
/// everything.
const MEMORY: u64 = 2 * MAX_CONFIG_SIZE / 1024 + 4096;

pub const KEY: &str = "km-SECRET-0123456789";

/// One thing that an API does, and what must come of it.
struct Case {
    name: String,
    script: Script,
    /// Exit status of a `--check`.
    exit: i32,
    /// What the error says; nothing is said when `exit` is 0.
    says: &'static str,
    /// KiB of memory for it, where it is not `MEMORY`.
    memory: u64,
    /// What the server shows instead of its good certificate.
    tls: Option<Arc<ServerConfig>>,
}

fn case(name: impl Into<String>, script: Script, exit: i32, says: &'static str) -> Case {
    Case { name: name.into(), script, exit, says, memory: MEMORY, tls: None }
}

/// A case of a whole answer with status 200.
fn body(name: impl Into<String>, body: impl AsRef<[u8]>, exit: i32, says: &'static str) -> Case {
    case(name, answer(ok(body)), exit, says)
}

/// Rows of a table that is printed when it is dropped, past the capture of output.
struct Table(String);

impl Table {
    fn new(title: &str) -> Table {
        Table(format!("\nfaults: {title}, {}\n", bin::kmagent().display()))
    }

    fn row(&mut self, row: &str) {
        self.0 += &format!("  {row}\n");
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let _ = std::io::stderr().write_all(self.0.as_bytes());
    }
}

/// A host with an agent and one without, which ask the same server.
struct Trial {
    server: Hostile,
    resident: Agent,
    alone: Agent,
    /// The collector's process and the config file, as they must stay.
    before: (u32, (u64, i64, i64)),
    /// What comes before a good answer: a proxy's part.
    lead: Script,
    table: Table,
    count: usize,
    slowest: Duration,
    /// KiB: by the worst case, and its name.
    worst: (u64, String),
}

impl Trial {
    fn new(title: &str, server: Hostile) -> Trial {
        Trial::with(title, server, |builder| builder)
    }

    /// `adapt` adds settings, for both hosts.
    fn with(title: &str, server: Hostile, adapt: impl Fn(Builder) -> Builder) -> Trial {
        Trial::behind(Vec::new(), title, server, adapt)
    }

    /// `lead` comes before a good answer.
    fn behind(lead: Script, title: &str, server: Hostile, adapt: impl Fn(Builder) -> Builder) -> Trial {
        let host = || {
            let builder = Agent::builder().setting("update-endpoint", server.url()).setting("api-key", KEY);
            let builder = builder.setting("poll-timeout", format!("{}s", POLL_TIMEOUT.as_secs()));
            let builder = builder.setting("config-check-interval", "168h").setting("min-uptime", "300ms");
            adapt(builder.config("fake: {}\nname: before\n"))
        };
        server.play([lead.clone(), answer(ok("{}"))].concat());
        let resident = settled(host());
        let before = (resident.wait_collector(), identity(&resident));
        let (table, alone) = (Table::new(title), host().setting("log-level", "info").build());
        Trial {
            server,
            resident,
            alone,
            before,
            lead,
            table,
            count: 0,
            slowest: Duration::ZERO,
            worst: (0, String::new()),
        }
    }

    fn run(mut self, cases: Vec<Case>) {
        for case in cases {
            self.attack(&case);
        }
        self.recover();
        let (memory, name) = &self.worst;
        let count = self.count;
        let row = format!(
            "{count} cases, each resident and alone; slowest check {:.1} s of {:.1} s; most memory {memory} KiB: {name}",
            self.slowest.as_secs_f64(),
            (POLL_TIMEOUT + SLACK).as_secs_f64(),
        );
        self.table.row(&row);
    }

    /// One case: the resident agent is asked to check, then the one-shot checks by itself.
    fn attack(&mut self, case: &Case) {
        let name = &case.name;
        self.count += 1;
        self.play(case);
        let (output, took, memory) = measured(&self.resident);
        judge(case, "resident", &output, took);
        if case.exit != 0 {
            let status = self.resident.status().unwrap_or_else(|| panic!("{name}: no status"));
            let (endpoint, error) = (&status["polling"]["endpoint"], &status["polling"]["error"]);
            let error = format!("config check: {}: {error}", endpoint.as_str().unwrap_or_default());
            let error = error + &status["last_error_message"].to_string();
            assert!(error.contains(&serde_text(case.says)), "{name}: {status}");
        }
        self.unharmed(name);
        // The poller lives: it takes a good answer at once, and says so.
        self.good("{}");
        let good = self.resident.run(["--check"]);
        assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""), "after {name}");
        assert_eq!(self.resident.status().unwrap()["polling"]["error"], Value::Null, "after {name}");

        self.play(case);
        let began_at = Instant::now();
        let output = limited(&self.alone, case.memory);
        let took_alone = began_at.elapsed();
        judge(case, "alone", &output, took_alone);

        self.slowest = self.slowest.max(took).max(took_alone);
        if let Some(memory) = memory {
            assert!(memory <= case.memory, "{name}: {memory} KiB more than at rest, {} are allowed", case.memory);
            if memory >= self.worst.0 {
                self.worst = (memory, name.clone());
            }
        }
    }

    fn good(&self, body: &str) {
        self.server.play([self.lead.clone(), answer(ok(body))].concat());
    }

    fn play(&self, case: &Case) {
        match &case.tls {
            Some(tls) => self.server.play_as(Some(Arc::clone(tls)), case.script.clone()),
            None => self.server.play(case.script.clone()),
        }
    }

    /// Nothing on the resident host has changed.
    fn unharmed(&self, name: &str) {
        let now = (self.resident.wait_collector(), identity(&self.resident));
        assert_eq!(now, self.before, "{name}: collector or config changed");
    }

    /// What is good is still taken, and nobody has seen the key.
    fn recover(&mut self) {
        let config = json!({"fake": {}, "name": "after"});
        self.good(&json!({"restart_required": true, "config": config}).to_string());
        for agent in [&self.resident, &self.alone] {
            let output = agent.run(["--check"]);
            assert!(output.code == Some(0) && output.stdout.contains("installed config"), "{output:?}");
            assert_eq!(agent.config(), config);
        }
        let lines = self.resident.log();
        assert!(lines.iter().all(|line| !line.text.contains("SECRET")), "a secret in the log");
        assert!(!self.resident.status().unwrap().to_string().contains("SECRET"), "a secret in the status");
        assert_eq!(self.resident.stop(), 0);
    }
}

/// An agent whose collector has proved itself and whose first poll has been answered: what is played from now on is its
/// server's next answer.
#[track_caller]
fn settled(builder: Builder) -> Agent {
    let agent = builder.spawn();
    agent.wait_status("a collector that has proved itself", |status| status["collector"]["state"] == "running");
    reported(&agent, 0);
    agent
}

/// Waits until the server has the report, by the log from line `seen` on: after each verdict there is one more check.
#[track_caller]
fn reported(agent: &Agent, seen: usize) {
    let words = ["config is up to date", "the API still sends the rejected config"];
    agent.wait_log_after(seen, "the report", |line| words.iter().any(|words| line.text.contains(words)));
}

/// What holds for the output of every check.
fn judge(case: &Case, manner: &str, output: &Output, took: Duration) {
    let what = format!("{} ({manner}): {output:?}", case.name);
    assert_eq!(output.code, Some(case.exit), "{what}");
    assert!(took < POLL_TIMEOUT + SLACK, "{took:?} for {what}");
    let said = output.stdout.clone() + &output.stderr;
    assert!(!said.contains("SECRET"), "a secret: {what}");
    assert!(!said.replace('\n', "").contains(is_dangerous), "for a terminal: {what}");
    if case.exit == 0 {
        assert_eq!(output.stderr, "", "{what}");
    } else {
        assert_eq!(output.stdout, "", "{what}");
        assert!(output.stderr.contains(case.says), "no {:?}: {what}", case.says);
        assert!(output.stderr.len() < 2000 && output.stderr.starts_with("kmagent: "), "{what}");
        assert_eq!(output.stderr.lines().count(), 1, "{what}");
    }
}

/// What a terminal or a reader's eye obeys.
fn is_dangerous(c: char) -> bool {
    let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || reorders
}

/// As it stands in JSON.
fn serde_text(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted.trim_matches('"').to_string()
}

/// A `--check` that cannot have more memory than the agent takes at rest and `memory` KiB: it would be killed by its
/// own abort.
fn limited(agent: &Agent, memory: u64) -> Output {
    let inner = agent.command(["--check"]);
    let mut shell = Command::new("/bin/sh");
    // Room for the program itself, its libraries and its stack: a debug build has 50 MB of code. A validation gets as
    // much.
    shell.arg("-c").arg(format!("ulimit -v {}; exec \"$0\" \"$@\"", memory + 128 * 1024));
    shell.arg(inner.get_program()).args(inner.get_args());
    shell.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.stdin(Stdio::null()).current_dir(agent.dir());
    bin::output(shell)
}

/// A `--check` of an agent that runs: what it says, how long it takes, and how many KiB it adds to the agent's peak.
fn measured(agent: &Agent) -> (Output, Duration, Option<u64>) {
    let at_rest = forget_peak(agent);
    let began_at = Instant::now();
    let output = agent.run(["--check"]);
    let took = began_at.elapsed();
    let memory = at_rest.and_then(|at_rest| Some(peak(agent)?.saturating_sub(at_rest)));
    (output, took, memory)
}

/// The most memory that one of many checks has added, in KiB.
#[derive(Default)]
struct Most(u64);

impl Most {
    /// A `--check` of an agent that runs.
    #[track_caller]
    fn check(&mut self, agent: &Agent) -> (Output, Duration) {
        let (output, took, memory) = measured(agent);
        let memory = memory.unwrap_or_default();
        assert!(memory <= MEMORY, "{memory} KiB more than at rest, {MEMORY} are allowed: {output:?}");
        self.0 = self.0.max(memory);
        (output, took)
    }
}

/// Starts the agent's peak anew and returns what it is now, in KiB; `None` for an ordinary user, who may not.
fn forget_peak(agent: &Agent) -> Option<u64> {
    fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").ok()?;
    peak(agent)
}

/// The most memory that the agent has had resident, in KiB.
fn peak(agent: &Agent) -> Option<u64> {
    process::status(agent.pid()).map(|status| status.number("VmHWM"))
}

/// Changes when the config file is replaced, and when it is written to.
fn identity(agent: &Agent) -> (u64, i64, i64) {
    let metadata = fs::metadata(agent.config_file()).unwrap();
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}
