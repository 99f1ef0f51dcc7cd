//! What the agent is doing when a fault strikes, and how all must be in the end.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::disk_model::Files;
use super::strace::{Fault, Point, Thread, Trace};
use crate::operation::yaml;
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::wait::{DEADLINE, poll_for};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// From the agent's first start on: no config, no state, and the API has one.
    Bootstrap,
    /// A first config reaches an agent that has waited for one.
    First,
    /// A good config follows a good one.
    Install,
    /// The same, and the new collector starts beside the old one.
    HandOver,
    /// A config that dies at its start follows a good one.
    RollBack,
    /// The agent starts on a broken config and has a last known good.
    FallBack,
}

/// A config in force that has proved itself, and what the API sends after it.
fn good() -> Value {
    config("good", json!({}))
}

fn better() -> Value {
    config("better", json!({}))
}

/// On a busy host it may live for longer than min-uptime before it dies; then it has no health check that answers.
fn dying() -> Value {
    let mut config = config("dying", json!({"start": {"exit": 3}}));
    config["extensions"] = json!({"health_check": {"endpoint": "127.0.0.1:1"}});
    config["service"]["extensions"] = json!(["health_check"]);
    config
}

fn config(name: &str, script: Value) -> Value {
    let pipelines = json!({"logs": {"receivers": ["otlp"], "exporters": ["nop"]}});
    json!({"fake": script, "name": name, "receivers": {"otlp": {}}, "exporters": {"nop": {}},
        "service": {"pipelines": pipelines}})
}

/// One agent in one scenario.
pub struct Scene {
    pub agent: Agent,
    api: Api,
    scenario: Scenario,
    trace: Option<Trace>,
    polls_before: usize,
    /// The first supervised start is over: from here on nothing may end the agent.
    pub was_up: bool,
}

impl Scenario {
    pub const ALL: [Scenario; 6] = [
        Scenario::Bootstrap,
        Scenario::First,
        Scenario::Install,
        Scenario::HandOver,
        Scenario::RollBack,
        Scenario::FallBack,
    ];

    /// The threads that have a part in it.
    pub fn threads(self) -> &'static [Thread] {
        match self {
            // From its first system call on: the other thread is not there yet.
            Scenario::Bootstrap | Scenario::FallBack => &[Thread::Supervisor],
            Scenario::First | Scenario::Install | Scenario::HandOver | Scenario::RollBack => {
                &[Thread::Supervisor, Thread::Poller]
            }
        }
    }

    fn sent(self) -> Value {
        match self {
            Scenario::Bootstrap | Scenario::First | Scenario::Install | Scenario::HandOver => better(),
            Scenario::RollBack => dying(),
            Scenario::FallBack => Value::Null,
        }
    }

    /// The config in force and the last known good in the end.
    fn outcome(self) -> Value {
        match self {
            Scenario::Bootstrap | Scenario::First | Scenario::Install | Scenario::HandOver => better(),
            Scenario::RollBack | Scenario::FallBack => good(),
        }
    }
}

impl Scene {
    /// Up to where the scenario begins.
    #[track_caller]
    pub fn new(scenario: Scenario) -> Scene {
        let api = Api::plain();
        let mode = if scenario == Scenario::HandOver { "handover" } else { "restart" };
        let builder = Agent::builder().api(&api).setting("min-uptime", "100ms").setting("restart-mode", mode);
        let builder = builder.setting("config-check-interval", "1h").setting("log-level", "info");
        let agent = match scenario {
            Scenario::Bootstrap | Scenario::First => builder.build(),
            _ => builder.config(yaml(&good())).build(),
        };
        let mut scene = Scene { agent, api, scenario, trace: None, polls_before: 0, was_up: false };
        match scenario {
            Scenario::Bootstrap => scene.api.answer_config(scenario.sent()),
            Scenario::FallBack => {
                scene.agent.spawn();
                scene.wait_settled(&good());
                assert_eq!(scene.agent.stop(), 0);
                fs::write(scene.agent.config_file(), "{broken").unwrap();
            }
            Scenario::First | Scenario::Install | Scenario::HandOver | Scenario::RollBack => {
                scene.agent.spawn();
                if scenario != Scenario::First {
                    scene.wait_settled(&good());
                }
                // So that a late answer to the first poll is not taken for the one that the fault is about.
                scene.agent.wait_until("the first poll", || !scene.api.requests().is_empty());
                scene.polls_before = scene.api.requests().len();
                scene.was_up = true;
            }
        }
        scene
    }

    /// Lets it happen, with or without a fault, until it is over or the agent has ended.
    #[track_caller]
    pub fn run(&mut self, thread: Thread, fault: Option<(&Point, Fault)>) {
        let fails = matches!(fault, Some((_, Fault::Error(_))));
        match self.scenario {
            Scenario::Bootstrap | Scenario::FallBack => {
                let (trace, command) = Trace::command(&self.agent, &["start"], fault);
                self.trace = Some(trace);
                self.agent.spawn_command(command);
            }
            Scenario::First | Scenario::Install | Scenario::HandOver | Scenario::RollBack => {
                self.trace = Some(Trace::attach(&self.agent, thread, fault));
                self.api.answer_config(self.scenario.sent());
                self.ask();
            }
        }
        let is_ended = || self.agent.exit_status().is_some() || (fails && self.has_struck()) || self.seems_over();
        poll_for(DEADLINE, || is_ended().then_some(()));
        if let Some(trace) = &mut self.trace {
            trace.detach(&self.agent);
        }
    }

    /// Lets it happen without a fault, and returns what strace saw of everybody's files.
    #[track_caller]
    pub fn record(&mut self) -> PathBuf {
        let mut trace = match self.scenario {
            Scenario::Bootstrap | Scenario::FallBack => {
                let (trace, command) = Trace::command_of_all(&self.agent, &["start"]);
                self.agent.spawn_command(command);
                trace
            }
            Scenario::First | Scenario::Install | Scenario::HandOver | Scenario::RollBack => {
                let trace = Trace::attach_to_all(&self.agent);
                self.api.answer_config(self.scenario.sent());
                self.ask();
                trace
            }
        };
        self.agent.wait_until("the outcome", || self.seems_over());
        trace.detach(&self.agent);
        trace.file().to_path_buf()
    }

    /// The power fails, and these files are what is left.
    pub fn lose_power(&mut self, files: &Files, directories: &[&str]) {
        if self.was_up {
            self.agent.signal(Signal::KILL);
            self.agent.wait_exit();
            self.agent.wait_until("the collectors gone", || self.agent.processes().is_empty());
        }
        let root = self.agent.dir();
        let settings = fs::read(self.agent.settings_file()).unwrap();
        for name in directories {
            let _ = fs::remove_dir_all(root.join(name));
        }
        fs::create_dir(root.join("etc")).unwrap();
        for (path, content) in files {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        fs::write(self.agent.settings_file(), settings).unwrap();
    }

    /// What strace saw.
    pub fn trace(&self) -> &Trace {
        self.trace.as_ref().expect("nothing was run")
    }

    fn has_struck(&self) -> bool {
        self.trace.as_ref().is_some_and(Trace::has_struck)
    }

    /// Has the agent check now; whether that works is not the question.
    fn ask(&self) {
        let mut check = self.agent.command(["--check"]);
        let child = check.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Its end is of no interest, but it must not stay as a zombie.
        std::thread::spawn(move || {
            let mut child = child;
            let _ = child.wait();
        });
    }

    /// Whether all is as it must be in the end.
    pub fn is_over(&self) -> bool {
        self.is_done() && self.is_settled(&self.scenario.outcome())
    }

    /// The same by the log alone, since a question would add to the system calls that are counted.
    fn seems_over(&self) -> bool {
        let log = self.agent.log();
        let state = log.iter().rev().find(|line| line.msg() == "collector state");
        self.is_done()
            && self.is_told()
            && self.is_in_force(&self.scenario.outcome())
            && state.is_some_and(|line| line.field("to") == "running")
            && self.agent.collectors().len() == 1
    }

    /// Whether the last trace of it is there.
    fn is_done(&self) -> bool {
        self.scenario != Scenario::RollBack || self.agent.state_dir().join("rejected.json").exists()
    }

    /// Whether the API has been asked for a config and then told what came of it.
    fn is_told(&self) -> bool {
        let polls = if self.scenario == Scenario::FallBack { 1 } else { 2 };
        self.api.requests().len() >= self.polls_before + polls
    }

    fn is_in_force(&self, config: &Value) -> bool {
        self.read_config().as_ref() == Some(config) && self.read_good().as_ref() == Some(config)
    }

    fn is_settled(&self, config: &Value) -> bool {
        self.is_in_force(config)
            && self.agent.status().is_some_and(|status| status["collector"]["state"] == "running")
            && self.agent.collectors().len() == 1
    }

    #[track_caller]
    fn wait_settled(&self, config: &Value) {
        self.agent.wait_until(&format!("{} in force and proved", config["name"]), || self.is_settled(config));
    }

    fn read_config(&self) -> Option<Value> {
        read(&self.agent.config_file())
    }

    fn read_good(&self) -> Option<Value> {
        read(&self.agent.state_dir().join("last-known-good.yaml"))
    }

    /// Asserts that each file is a whole one, at any moment.
    #[track_caller]
    pub fn assert_whole(&self) {
        let (before, sent) = (good(), self.scenario.sent());
        let broken = Value::String("{broken".to_string());
        let config = self.read_config();
        let allowed = match self.scenario {
            Scenario::Bootstrap | Scenario::First => vec![None, Some(sent.clone())],
            Scenario::FallBack => vec![Some(broken), Some(before.clone())],
            Scenario::Install | Scenario::HandOver | Scenario::RollBack => {
                vec![Some(before.clone()), Some(sent.clone())]
            }
        };
        assert!(allowed.contains(&config), "the config is {config:?}");
        let kept = self.read_good();
        let allowed = match self.scenario {
            Scenario::Bootstrap | Scenario::First => vec![None, Some(sent)],
            Scenario::FallBack | Scenario::RollBack => vec![Some(before)],
            Scenario::Install | Scenario::HandOver => vec![Some(before), Some(sent)],
        };
        assert!(allowed.contains(&kept), "the last known good is {kept:?}");
    }

    /// Starts the agent again, first with an API that has nothing new and then with one that sends the same as before, and
    /// asserts that it comes up and converges with no hand on it, and leaves nothing behind.
    #[track_caller]
    pub fn assert_recovers(&mut self) {
        self.trace = None;
        let sent = self.scenario.sent();
        self.api.answer(json!({}));
        self.agent.spawn();
        let has_config = self.read_config().is_some();
        self.agent.wait_status("a collector that runs what is there", |status| {
            let state = if has_config { "running" } else { "stopped" };
            status["collector"]["state"] == state
        });
        self.assert_whole();
        if sent != Value::Null {
            self.api.answer_config(sent);
            self.ask();
        }
        self.assert_converges();
    }

    /// Asserts that all is as it must be in the end, soon and without help.
    #[track_caller]
    pub fn assert_converges(&self) {
        // As its own polls would, in time.
        let mut asked_at = Instant::now();
        self.agent.wait_until("the outcome", || {
            if asked_at.elapsed() > Duration::from_millis(500) {
                asked_at = Instant::now();
                self.ask();
            }
            self.is_over()
        });
        assert_eq!(self.agent.stop(), 0);
        // A check that was asked for may be about to end.
        self.agent.wait_until("nothing left running", || self.agent.processes().is_empty());
        let names =
            |dir: &str| fs::read_dir(self.agent.dir().join(dir)).unwrap().flatten().map(|entry| entry.file_name());
        let strays: Vec<_> =
            names("etc").chain(names("state")).filter(|name| name.to_string_lossy().starts_with('.')).collect();
        assert!(strays.is_empty(), "stray files: {strays:?}");
    }
}

/// `None` when there is no file; what is no YAML map comes as its text.
fn read(path: &std::path::Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_yaml::from_str(&text).unwrap_or(Value::String(text)))
}
