//! What the agent is doing when a fault strikes, and how all must be in the end.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::disk_model::Files;
use super::strace::{Fault, Point, Thread, Trace};
use crate::operation::{message, yaml};
use crate::support::agent::{Agent, Line};
use crate::support::api::Api;
use crate::support::generations;
use crate::support::process;
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
    /// A good config follows a confirmed one and is confirmed in turn; the oldest generation goes.
    Confirmation,
    /// A config that passes its probation and then dies, three times, follows a confirmed one; the oldest generation
    /// goes.
    LateRollBack,
    /// The agent starts on a config that dies at its start, and has one that works.
    FallBack,
    /// No agent runs: a `--check` installs a config, and init's collector uses it.
    Check,
    /// The same, and `on-change` fails with it.
    CheckRollBack,
}

/// Of the agent under test: its next poll repairs what went wrong. The first pause ends anywhere in it, so some scenes
/// see a poll more than others.
const INTERVAL: &str = "3s";
/// For what is done after the outcome is there.
const REST: Duration = Duration::from_millis(500);
/// Of the one that is started afterwards.
const SHORT_INTERVAL: &str = "1s";

/// An active config that has passed its probation, and what the API sends after it.
pub fn good() -> Value {
    config("good", json!({}))
}

pub fn better() -> Value {
    config("better", json!({}))
}

/// On a busy host it may live for longer than min-uptime before it dies; then it has no health check that answers.
pub fn dying() -> Value {
    let mut config = config("dying", json!({"start": {"exit": 3}}));
    config["extensions"] = json!({"health_check": {"endpoint": "127.0.0.1:1"}});
    config["service"]["extensions"] = json!(["health_check"]);
    config
}

/// It outlives its probation, even on a busy host, and dies each time.
fn dying_late() -> Value {
    config("dying late", json!({"start": {"exit": 3, "after_ms": 500}}))
}

/// A confirmed one that `good` has replaced.
fn oldest() -> Value {
    config("oldest", json!({}))
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
    /// Those that the API saw while it was traced.
    polls: usize,
    /// The first line of the log that is about it.
    seen: usize,
    /// The collector that runs before.
    pub old: Option<u32>,
}

impl Scenario {
    pub const ALL: [Scenario; 10] = [
        Scenario::Bootstrap,
        Scenario::First,
        Scenario::Install,
        Scenario::HandOver,
        Scenario::RollBack,
        Scenario::Confirmation,
        Scenario::LateRollBack,
        Scenario::FallBack,
        Scenario::Check,
        Scenario::CheckRollBack,
    ];

    /// The threads that have a part in it.
    pub fn threads(self) -> &'static [Thread] {
        match self {
            Scenario::Check | Scenario::CheckRollBack => &[Thread::Supervisor],
            _ => &[Thread::Supervisor, Thread::Poller],
        }
    }

    pub fn is_check(self) -> bool {
        matches!(self, Scenario::Check | Scenario::CheckRollBack)
    }

    /// Whether it begins with the agent's own start.
    fn is_start(self) -> bool {
        matches!(self, Scenario::Bootstrap | Scenario::FallBack)
    }

    fn sent(self) -> Value {
        match self {
            Scenario::RollBack | Scenario::CheckRollBack => dying(),
            Scenario::LateRollBack => dying_late(),
            Scenario::FallBack => Value::Null,
            _ => better(),
        }
    }

    /// Whether the config that runs before is confirmed.
    fn has_confirmed(self) -> bool {
        matches!(self, Scenario::Confirmation | Scenario::LateRollBack)
    }

    /// The active config in the end, and what is kept of it, or what init's collector uses.
    fn outcome(self) -> Value {
        match self {
            Scenario::RollBack | Scenario::LateRollBack | Scenario::FallBack | Scenario::CheckRollBack => good(),
            _ => better(),
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
        let builder = builder.setting("config-check-interval", INTERVAL).setting("log-level", "info");
        // What init's collector does: it uses the config, or fails with it.
        let dir = builder.dir().display();
        let on_change = format!("cp {dir}/etc/config.yaml {dir}/used; ! grep -q dying {dir}/used");
        let builder = builder.setting("on-change", on_change);
        let builder = match scenario {
            // Three exits are 0, 1 and 2 s apart.
            Scenario::LateRollBack => builder.setting("confirm-time", "1m").setting("generations", "2"),
            Scenario::Confirmation => builder.setting("confirm-time", "300ms").setting("generations", "2"),
            _ => builder,
        };
        let agent = match scenario {
            Scenario::Bootstrap | Scenario::First => builder.build(),
            _ => builder.config(yaml(&good())).build(),
        };
        fs::set_permissions(agent.settings_file(), Permissions::from_mode(0o600)).unwrap();
        if scenario.has_confirmed() {
            generations::make(&agent.state_dir(), &[yaml(&oldest()), yaml(&good())]);
        }
        let mut scene = Scene { agent, api, scenario, trace: None, polls_before: 0, polls: 0, seen: 0, old: None };
        match scenario {
            Scenario::Check | Scenario::CheckRollBack => scene.boot(),
            Scenario::Bootstrap => scene.api.answer_config(scenario.sent()),
            Scenario::FallBack => {
                scene.agent.spawn();
                scene.wait_settled(&good());
                assert_eq!(scene.agent.stop(), 0);
                fs::write(scene.agent.config_file(), yaml(&dying())).unwrap();
            }
            _ => {
                scene.agent.spawn();
                if scenario != Scenario::First {
                    scene.wait_settled(&good());
                    scene.old = Some(scene.agent.wait_collector());
                }
                // So that a late answer to the first poll is not taken for the one that the fault is about.
                scene.agent.wait_until("the first poll", || !scene.api.requests().is_empty());
                scene.agent.wait_log("the first start", |line| line.msg().starts_with("collector "));
            }
        }
        scene.polls_before = scene.api.requests().len();
        scene.seen = scene.agent.log().len();
        scene
    }

    /// Lets it happen, with or without a fault, until it is over, the fault has struck or the agent has ended.
    #[track_caller]
    pub fn run(&mut self, thread: Thread, fault: Option<(&Point, Fault)>) {
        let fails = matches!(fault, Some((_, Fault::Error(_))));
        if self.scenario.is_check() {
            self.api.answer_config(self.scenario.sent());
            let (trace, command) = Trace::command(&self.agent, &["--check"], fault);
            self.trace = Some(trace);
            self.agent.spawn_command(command);
        } else if self.scenario.is_start() && thread == Thread::Supervisor {
            let (trace, command) = Trace::command(&self.agent, &["start"], fault);
            self.trace = Some(trace);
            self.agent.spawn_command(command);
        } else if self.scenario.is_start() {
            self.trace = Some(Trace::start_at_poller(&self.agent, fault));
        } else {
            self.trace = Some(Trace::attach(&self.agent, thread, fault));
            self.api.answer_config(self.scenario.sent());
            self.ask();
        }
        let is_met = || {
            let has_struck = fails && !self.scenario.is_check() && self.has_struck();
            self.agent.exit_status().is_some() || has_struck
        };
        poll_for(DEADLINE, || (is_met() || self.seems_over()).then_some(()));
        // What is left to do then is part of it: the answer to the last question, for instance.
        poll_for(REST, || (fault.is_some() && is_met()).then_some(()));
        if let Some(trace) = &mut self.trace {
            trace.detach(&self.agent);
        }
        self.polls = self.api.requests().len() - self.polls_before;
    }

    /// Whether one thread does it all.
    pub fn is_check(&self) -> bool {
        self.scenario.is_check()
    }

    /// How often the agent asked in `run`.
    pub fn polls(&self) -> usize {
        self.polls
    }

    /// Lets it happen without a fault, and returns what strace saw of everybody's files. The agent is suspended then.
    #[track_caller]
    pub fn record(&mut self) -> PathBuf {
        let mut trace = if self.scenario.is_check() || self.scenario.is_start() {
            if self.scenario.is_check() {
                self.api.answer_config(self.scenario.sent());
            }
            let word = if self.scenario.is_check() { "--check" } else { "start" };
            let (trace, command) = Trace::command_of_all(&self.agent, &[word]);
            self.agent.spawn_command(command);
            trace
        } else {
            let trace = Trace::attach_to_all(&self.agent);
            self.api.answer_config(self.scenario.sent());
            self.ask();
            trace
        };
        self.agent.wait_until("the outcome", || match self.scenario.is_check() {
            true => self.agent.exit_status().is_some(),
            false => self.seems_over(),
        });
        // The check that reports it writes what it has found out.
        poll_for(REST, || self.agent.exit_status().is_some().then_some(()));
        if !self.scenario.is_check() {
            // On a busy host it may write still, which nobody would see.
            self.agent.signal(Signal::STOP);
            // A tracer that leaves before has it forgotten.
            let is_stopped = |(_, task): &(u32, process::Status)| ['T', 't'].contains(&task.state());
            let mut looks = 0;
            self.agent.wait_until("a suspended agent", || {
                looks = if process::tasks(self.agent.pid()).iter().all(is_stopped) { looks + 1 } else { 0 };
                looks >= 3
            });
        }
        trace.detach(&self.agent);
        trace.file().to_path_buf()
    }

    /// The power fails, and these files are what is left.
    pub fn lose_power(&mut self, files: &Files, directories: &[&str]) {
        if !self.scenario.is_check() && !self.scenario.is_start() {
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
        if self.scenario.is_check() {
            self.boot();
        }
    }

    /// Init starts its collector with the config that is there.
    fn boot(&self) {
        fs::copy(self.agent.config_file(), self.agent.dir().join("used")).unwrap();
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
        self.is_done() && (self.scenario.is_check() || self.is_settled(&self.scenario.outcome()))
    }

    /// The same by the log alone, since a question would add to the system calls that are counted.
    fn seems_over(&self) -> bool {
        if self.scenario.is_check() {
            return false;
        }
        let log = self.agent.log();
        let state = log.iter().rev().find(|line| line.msg() == "collector state");
        self.is_done()
            && self.is_reported()
            && self.is_active(&self.scenario.outcome())
            && state.is_some_and(|line| line.field("to") == "running")
            && self.agent.collectors().len() == 1
    }

    /// Whether the last trace of it is there.
    fn is_done(&self) -> bool {
        let state = self.agent.state_dir();
        let is_rejected = state.join("rejected.json").exists();
        match self.scenario {
            Scenario::RollBack | Scenario::LateRollBack => is_rejected,
            Scenario::Confirmation => {
                self.confirmed().contains(&better()) && !state.join("generations/1.yaml").exists()
            }
            Scenario::Check => self.is_used(),
            Scenario::CheckRollBack => self.is_used() && is_rejected,
            _ => true,
        }
    }

    /// Whether init's collector uses the active config, and nothing is left to be finished.
    fn is_used(&self) -> bool {
        let used = read(&self.agent.dir().join("used"));
        let is_finished = !self.agent.state_dir().join("unfinished-install.json").exists();
        used == Some(self.scenario.outcome()) && self.read_config() == used && is_finished
    }

    /// Whether the API has been asked for a config and then got the outcome.
    fn is_reported(&self) -> bool {
        let polls = if self.scenario == Scenario::FallBack { 1 } else { 2 };
        self.api.requests().len() >= self.polls_before + polls
    }

    fn is_active(&self, config: &Value) -> bool {
        self.read_config().as_ref() == Some(config) && self.read_good().as_ref() == Some(config)
    }

    fn is_settled(&self, config: &Value) -> bool {
        self.is_active(config)
            && self.agent.status().is_some_and(|status| status["collector"]["state"] == "running")
            && self.agent.collectors().len() == 1
    }

    #[track_caller]
    fn wait_settled(&self, config: &Value) {
        self.agent.wait_until(&format!("{} active and promoted", config["name"]), || self.is_settled(config));
    }

    fn read_config(&self) -> Option<Value> {
        read(&self.agent.config_file())
    }

    fn read_good(&self) -> Option<Value> {
        Some(self.agent.proved_config()).filter(|config| *config != Value::Null)
    }

    /// Asserts that each file is a whole one, at any moment.
    #[track_caller]
    pub fn assert_whole(&self) {
        let (before, sent) = (good(), self.scenario.sent());
        let config = self.read_config();
        let allowed = match self.scenario {
            Scenario::Bootstrap | Scenario::First => vec![None, Some(sent.clone())],
            Scenario::FallBack => vec![Some(dying()), Some(before.clone())],
            _ => vec![Some(before.clone()), Some(sent.clone())],
        };
        assert!(allowed.contains(&config), "the config is {config:?}");
        let kept = self.read_good();
        let allowed = match self.scenario {
            Scenario::Bootstrap | Scenario::First => vec![None, Some(sent)],
            Scenario::FallBack | Scenario::RollBack => vec![Some(before)],
            Scenario::Install | Scenario::HandOver | Scenario::Confirmation | Scenario::LateRollBack => {
                vec![Some(before), Some(sent)]
            }
            Scenario::Check => vec![None, Some(sent)],
            Scenario::CheckRollBack => vec![None],
        };
        assert!(allowed.contains(&kept), "what is kept is {kept:?}");
        let state = self.agent.state_dir();
        assert!(generations::is_whole(&state), "the list is not whole");
        for entry in generations::list(&state) {
            let content = read(&state.join(format!("generations/{}.yaml", entry["number"])));
            let whole = [None, Some(good()), Some(self.scenario.sent()), Some(dying()), Some(oldest())];
            assert!(whole.contains(&content), "generation {entry} is {content:?}");
        }
        if self.scenario.has_confirmed() {
            assert!(
                self.confirmed().contains(&good()),
                "the confirmed config is lost: {:?}",
                generations::list(&state)
            );
        }
    }

    /// What the list says is confirmed, as far as it is there.
    fn confirmed(&self) -> Vec<Value> {
        let state = self.agent.state_dir();
        let list = generations::list(&state);
        let confirmed = list.iter().filter(|entry| generations::standing(entry) == "confirmed");
        confirmed.filter_map(|entry| read(&state.join(format!("generations/{}.yaml", entry["number"])))).collect()
    }

    /// Starts the agent again, or makes the next `--check`, first with an API that has nothing new and then with one
    /// that sends the same as before, and asserts that it comes up and converges with no hand on it, and leaves nothing
    /// behind.
    #[track_caller]
    pub fn assert_recovers(&mut self) {
        self.trace = None;
        let sent = self.scenario.sent();
        self.api.answer(json!({}));
        // A check that was asked for is made without the agent once that has gone; and until a child of it has executed
        // something, it holds the lock too.
        self.agent.wait_until("nothing left running", || self.agent.processes().is_empty());
        if self.scenario.is_check() {
            self.check();
            assert_eq!(read(&self.agent.dir().join("used")), self.read_config(), "the collector uses another config");
        } else {
            let settings = fs::read_to_string(self.agent.settings_file()).unwrap();
            fs::write(self.agent.settings_file(), settings.replace(INTERVAL, SHORT_INTERVAL)).unwrap();
            self.agent.spawn();
            let has_config = self.read_config().is_some();
            self.agent.wait_status("a collector that runs what is there", |status| {
                let state = if has_config { "running" } else { "stopped" };
                status["collector"]["state"] == state
            });
        }
        self.assert_whole();
        if sent != Value::Null {
            self.api.answer_config(sent);
        }
        self.assert_converges();
    }

    #[track_caller]
    pub fn assert_converges(&self) {
        self.await_outcome();
        self.assert_clean();
    }

    /// The next one of cron's. One without an outcome would say so in its status.
    #[track_caller]
    fn check(&self) {
        let output = self.agent.run(["--check"]);
        assert!(matches!(output.code, Some(0 | 65)), "{output:?}");
    }

    /// Waits until all is as it must be in the end, by the agent's own polls, or by two more checks of cron's: one
    /// finishes what was begun.
    #[track_caller]
    pub fn await_outcome(&self) {
        if self.scenario.is_check() {
            for _ in 0..2 {
                if !self.is_over() {
                    self.check();
                }
            }
            assert!(self.is_over(), "two checks have not brought the outcome");
        } else {
            self.agent.wait_until("the outcome", || self.is_over());
        }
    }

    /// Ends it all, and asserts that nothing is left behind.
    #[track_caller]
    pub fn assert_clean(&self) {
        if !self.scenario.is_check() {
            assert_eq!(self.agent.stop(), 0);
        }
        self.agent.wait_until("nothing left running", || self.agent.processes().is_empty());
        self.assert_no_strays();
    }

    /// Asserts that no unfinished file is left.
    #[track_caller]
    pub fn assert_no_strays(&self) {
        let entries = |dir: &str| fs::read_dir(self.agent.dir().join(dir)).into_iter().flatten().flatten();
        let names = |dir: &str| entries(dir).map(|entry| entry.file_name());
        let strays: Vec<_> =
            names("etc").chain(names("state")).filter(|name| name.to_string_lossy().starts_with('.')).collect();
        assert!(strays.is_empty(), "stray files: {strays:?}");
    }

    /// Asserts that the collector that ran before still does, unless the scenario has come to where it has to go.
    #[track_caller]
    pub fn assert_undisturbed(&self) {
        let Some(old) = self.old else { return };
        self.agent.wait_until("the collector that ran before, or an install", || {
            process::alive(old)
                || self.read_config() != Some(good())
                || self.lines().iter().any(|line| line.msg() == "config installed")
        });
    }

    /// What the agent has said since the scenario began.
    pub fn lines(&self) -> Vec<Line> {
        self.agent.log().split_off(self.seen)
    }

    /// Waits until a report fulfils a condition, since then.
    #[track_caller]
    pub fn wait_reported(&self, what: &str, condition: impl Fn(&str) -> bool) {
        self.api.wait_for_request_after(self.polls_before, what, |request| condition(&message(request)));
    }
}

/// `None` when there is no file; what is no YAML map comes as its text.
pub fn read(path: &std::path::Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_yaml::from_str(&text).unwrap_or(Value::String(text)))
}
