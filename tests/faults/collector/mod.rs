//! A collector from hell: what the agent does about it, what it reports, and how long until it is right again.
//!
//! Each case is a good config that has proved itself, then the trouble, then its end: a good config, a collector
//! restored. The agent must say what is wrong, in its status and to the API, and once all is well it has no descriptor,
//! thread, process, file or memory more than before; and a stop in the midst of it works at once. Every case prints a
//! row of a table: `case | mode | the agent does | it reports | right again after`.
//!
//! `KM_LONG=1` tries each case in both restart modes; the quick form takes turns, but for what only takes time.

mod health;
mod judgement;
mod lasting;
mod output;
mod program;
mod sudden;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::system_calls::{each_at_a_time, is_long};
use crate::operation::{message, seconds_between, wait_running, yaml};
use crate::support::agent::{Agent, Builder, Line};
use crate::support::api::Api;
use crate::support::process;
use crate::support::wait::{DEADLINE, wait_for};

/// They mostly wait for time to pass.
const AT_A_TIME: usize = 4;
/// What a debug build on a busy host may add to anything.
const SLACK: Duration = Duration::from_secs(6);
/// How much private memory the agent may have more after it all, and how much more at its peak, in KiB: buffers of
/// lines that are 64 KiB long, in every shape that a logger needs, in a debug build.
const GROWTH_LIMIT: u64 = 1024;
const PEAK_LIMIT: u64 = 4 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Restart,
    HandOver,
}

/// What becomes of a config; the words are those that are reported.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It fails its probation, and the former one runs again.
    RolledBack(&'static str),
    /// It is not installed, and not tried again.
    Refused(&'static str),
    /// It is not installed, and tried again.
    Postponed(&'static str),
    /// It passes its probation, and is active until another one comes.
    Trusted,
    /// The same, and then there is trouble.
    TrustedUntil(&'static str),
}

/// A config that the API sends.
pub struct Case {
    name: String,
    /// Made for each try, so that each has ports of its own.
    config: Box<dyn Fn() -> Value + Sync>,
    min_uptime: &'static str,
    stop_timeout: &'static str,
    validate_timeout: &'static str,
    /// Its fate with a restart, and with a hand-over.
    fates: [Fate; 2],
    /// How long the collector takes to end, or is given to.
    drain: Duration,
    /// Whether it is tried in both modes in the quick form too.
    is_slow: bool,
}

impl Case {
    /// With a script (fake_collector.rs).
    pub fn new(name: &str, script: Value, fate: Fate) -> Case {
        let config = config(name, script);
        Case::made(name, move || config.clone(), fate)
    }

    pub fn made(name: &str, config: impl Fn() -> Value + Sync + 'static, fate: Fate) -> Case {
        Case {
            name: name.to_string(),
            config: Box::new(config),
            min_uptime: "500ms",
            stop_timeout: "5s",
            validate_timeout: "30s",
            fates: [fate; 2],
            drain: Duration::ZERO,
            is_slow: false,
        }
    }

    /// Another fate when it starts beside the old one.
    pub fn beside(mut self, fate: Fate) -> Case {
        self.fates[1] = fate;
        self
    }

    /// In real time, with the agent's own default.
    pub fn for_real(mut self) -> Case {
        (self.min_uptime, self.is_slow) = ("10s", true);
        self
    }

    fn builder(&self, api: &Api, mode: Mode) -> Builder {
        let builder = builder(api, mode).setting("min-uptime", self.min_uptime);
        builder.setting("stop-timeout", self.stop_timeout).setting("validate-timeout", self.validate_timeout)
    }

    fn fate(&self, mode: Mode) -> Fate {
        self.fates[usize::from(mode == Mode::HandOver)]
    }
}

pub fn builder(api: &Api, mode: Mode) -> Builder {
    let words = if mode == Mode::HandOver { "handover" } else { "restart" };
    let builder = Agent::builder().api(api).setting("restart-mode", words).setting("log-level", "info");
    builder.setting("min-uptime", "500ms")
}

/// One that could start beside another.
pub fn config(name: &str, script: Value) -> Value {
    let pipelines = json!({"logs": {"receivers": ["otlp"], "exporters": ["nop"]}});
    json!({"fake": script, "name": name, "receivers": {"otlp": {}}, "exporters": {"nop": {}},
        "service": {"pipelines": pipelines}})
}

pub fn good() -> Value {
    config("good", json!({}))
}

pub fn better() -> Value {
    config("better", json!({}))
}

/// What a job does with its case.
#[derive(Clone, Copy, Debug)]
enum Part {
    Whole(Mode),
    StopAmid(Mode),
}

/// Tries each case, to its end and with a stop in its midst.
#[track_caller]
pub fn try_all(cases: Vec<Case>) {
    let parts = [
        Part::Whole(Mode::Restart),
        Part::StopAmid(Mode::HandOver),
        Part::Whole(Mode::HandOver),
        Part::StopAmid(Mode::Restart),
    ];
    let jobs: Vec<(&Case, Part)> = cases
        .iter()
        .enumerate()
        .flat_map(|(index, case)| {
            let all = is_long() || case.is_slow;
            // One whole and one stop, in turn.
            let taken = parts.into_iter().enumerate().filter(move |(part, _)| all || (index + part) % 4 < 2);
            taken.map(move |(_, part)| (case, part))
        })
        .collect();
    let names: Vec<String> = jobs.iter().map(|(case, part)| format!("{} {part:?}", case.name)).collect();
    let numbers: Vec<(usize, &String)> = names.iter().enumerate().collect();
    let width = if cases.iter().any(|case| case.is_slow) { jobs.len() } else { AT_A_TIME };
    each_at_a_time(width, &numbers, |(number, _)| {
        match jobs[*number] {
            (case, Part::Whole(mode)) => whole(case, mode),
            (case, Part::StopAmid(mode)) => stop_amid(case, mode),
        }
        true
    });
}

/// Runs `good`, which has proved itself; with a min-uptime of 10 s, and a disk that is busy, that takes its time.
#[track_caller]
fn trusted(builder: Builder) -> Agent {
    let agent = builder.config(yaml(&good())).spawn();
    wait_good(&agent, &good());
    wait_running(&agent, 0);
    agent
}

fn whole(case: &Case, mode: Mode) {
    let (api, config) = (Api::plain(), (case.config)());
    let agent = trusted(case.builder(&api, mode));
    let ground = Ground::of(&agent);
    let old = agent.wait_collector();
    let (seen, asked) = (agent.log().len(), api.requests().len());
    api.answer_config(config.clone());
    let mut former = String::new();
    let report = match case.fate(mode) {
        Fate::RolledBack(words) => {
            let report = wait_reported(&api, asked, words);
            let back = agent.wait_log_after(seen, "the roll back", |line| line.msg().starts_with("config rolled back"));
            let at = agent.log().iter().position(|line| line.text == back.text).unwrap();
            agent.wait_log_after(at, "the former config to run", |line| is_state(line, "running"));
            former = match mode {
                Mode::HandOver => "; the old one has served all the while".to_string(),
                Mode::Restart => {
                    let started = agent.wait_log_after(at, "it started", |line| line.msg() == "collector started");
                    format!("; the former one starts {:.1} s later", seconds_between(&back, &started))
                }
            };
            assert_eq!(agent.config(), good());
            assert!(agent.state_dir().join("rejected.json").exists(), "not rejected");
            if mode == Mode::HandOver {
                assert!(process::alive(old), "a running collector was given up");
            }
            report
        }
        Fate::Refused(words) | Fate::Postponed(words) => {
            let report = wait_reported(&api, asked, words);
            let is_refused = matches!(case.fate(mode), Fate::Refused(_));
            assert_eq!(agent.state_dir().join("rejected.json").exists(), is_refused, "{report}");
            assert_eq!((agent.wait_collector(), agent.config()), (old, good()));
            report
        }
        Fate::Trusted => {
            wait_good(&agent, &config);
            let newest = api.requests().last().map(message).unwrap_or_default();
            assert_eq!(newest, "", "nothing is wrong");
            String::new()
        }
        Fate::TrustedUntil(words) => {
            wait_good(&agent, &config);
            wait_reported(&api, asked, words)
        }
    };
    let healed_in = heal(&agent, &api, case.drain);
    ground.assert_nothing_left(&agent);
    row(&case.name, mode, &(story(&agent.log()[seen..]) + &former), &report, healed_in);
    assert_eq!(agent.stop(), 0);
    assert_gone(&agent);
}

/// Sends a good config and measures until it is active, has passed its probation, and the API has a report without a
/// problem.
#[track_caller]
pub fn heal(agent: &Agent, api: &Api, drain: Duration) -> Duration {
    let (from, asked) = (Instant::now(), api.requests().len());
    api.answer_config(better());
    // With a min-uptime of 10 s a hand-over alone takes 20 s.
    let patience = DEADLINE * 2 + drain;
    wait_for("the good config", patience, || is_good(agent, &better()).then_some(()));
    api.wait_within(patience, asked, "no problem", |request| {
        message(request).is_empty() && request.json()["collector_status"] == "Running"
    });
    let took = from.elapsed();
    wait_for("a single collector", patience, || (agent.collectors().len() == 1).then_some(()));
    let status = status(agent);
    assert_eq!((&status["collector"]["state"], &status["last_error_message"]), (&json!("running"), &json!("")));
    took
}

/// The trouble has begun, and the agent is to end.
fn stop_amid(case: &Case, mode: Mode) {
    let (api, config) = (Api::plain(), (case.config)());
    let agent = trusted(case.builder(&api, mode));
    let asked = api.requests().len();
    api.answer_config(config.clone());
    match case.fate(mode) {
        Fate::Refused(words) | Fate::Postponed(words) => _ = wait_reported(&api, asked, words),
        Fate::RolledBack(_) => _ = agent.wait_start(2),
        Fate::Trusted | Fate::TrustedUntil(_) => wait_good(&agent, &config),
    }
    let began_at = Instant::now();
    agent.signal(Signal::TERM);
    let status = wait_for("the agent's end", case.drain + SLACK, || agent.exit_status());
    let took = began_at.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!([good(), config].contains(&agent.config()), "the config is not whole");
    assert_gone(&agent);
    eprintln!("hell:     {}, {mode:?}: stopped in {:.1} s", case.name, took.as_secs_f64());
}

/// The agent has ended and left nothing.
#[track_caller]
fn assert_gone(agent: &Agent) {
    assert_eq!(agent.processes(), [0; 0], "processes are left");
}

/// What the agent has when all is well.
pub struct Ground {
    descriptors: usize,
    threads: usize,
    private: u64,
    peak: u64,
}

impl Ground {
    pub fn of(agent: &Agent) -> Ground {
        let memory = |name| process::status(agent.pid()).unwrap().number(name);
        Ground {
            descriptors: descriptors(agent),
            threads: process::tasks(agent.pid()).len(),
            private: memory("RssAnon"),
            peak: memory("VmHWM"),
        }
    }

    /// Asserts that it has no more than that, but for `strangers` that left their session.
    #[track_caller]
    pub fn assert_nothing_left(&self, agent: &Agent) {
        agent.wait_until("no more descriptors than before", || descriptors(agent) <= self.descriptors);
        assert_eq!(process::tasks(agent.pid()).len(), self.threads, "threads");
        agent.wait_until("no more processes than before", || agent.processes().len() <= 2);
        let now = Ground::of(agent);
        let (growth, peak) = (now.private.saturating_sub(self.private), now.peak.saturating_sub(self.peak));
        assert!(growth <= GROWTH_LIMIT, "{growth} KiB more private memory than {}", self.private);
        assert!(peak <= PEAK_LIMIT, "{peak} KiB more at the peak than {}", self.peak);
        let names = |dir: &str| fs::read_dir(agent.dir().join(dir)).unwrap().flatten().map(|entry| entry.file_name());
        let strays: Vec<_> =
            names("etc").chain(names("state")).filter(|name| name.to_string_lossy().starts_with('.')).collect();
        assert!(strays.is_empty(), "stray files: {strays:?}");
    }
}

fn descriptors(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count()
}

/// Waits until a problem is reported to the API; returns its words.
#[track_caller]
pub fn wait_reported(api: &Api, asked: usize, words: &str) -> String {
    message(&api.wait_within(DEADLINE * 2, asked, words, |request| message(request).contains(words)))
}

/// Waits until a config is active and promoted.
#[track_caller]
pub fn wait_good(agent: &Agent, config: &Value) {
    wait_for("a config that is trusted", DEADLINE * 3, || is_good(agent, config).then_some(()));
}

pub fn is_good(agent: &Agent, config: &Value) -> bool {
    agent.config() == *config && agent.proved_config() == *config
}

pub fn is_state(line: &Line, state: &str) -> bool {
    line.msg() == "collector state" && line.field("to") == state
}

/// What `status --json` shows, without a process for each question.
#[track_caller]
pub fn status(agent: &Agent) -> Value {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"{\"command\":\"status\"}\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str::<Value>(&answer).unwrap()["status"].clone()
}

/// What the agent does, by its log, each step once.
fn story(log: &[Line]) -> String {
    let mut steps: Vec<String> = Vec::new();
    for line in log {
        let step = match line.msg() {
            text if text.starts_with("new config rejected") => "refuses it".to_string(),
            text if text.starts_with("new config not applied") => "postpones it".to_string(),
            text if text.starts_with("collector not restarted") => "does not restart it".to_string(),
            "config installed" => "installs it".to_string(),
            "collector exited unexpectedly" => "sees it end".to_string(),
            text if text.starts_with("config rolled back") => "rolls back".to_string(),
            text if text.contains("config promoted") => "trusts it".to_string(),
            text if text.contains("sending SIGKILL") => "kills it after stop-timeout".to_string(),
            "collector not started" => "cannot start it".to_string(),
            "collector state" if line.field("to") == "backoff" => "waits".to_string(),
            "collector suspended" => "says so".to_string(),
            _ => continue,
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps.join(", ")
}

pub fn row(name: &str, mode: Mode, does: &str, reports: &str, right_again_after: Duration) {
    // Without its time.
    let reports = reports.split_once("Z: ").map_or(reports, |(_, text)| text);
    let reports = reports.replace(|c: char| c.is_control(), " ");
    eprintln!("hell: {name} | {mode:?} | {does} | {reports:.120} | {:.1} s", right_again_after.as_secs_f64());
}
