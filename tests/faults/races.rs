//! Races, with real processes: a candidate, two of them, a stop, a kill, in every state that lasts long enough to be
//! met.
//!
//! The states that do not (a start, a roll back that is ordered and not answered yet) are met by the core's random
//! walk.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::collector::{Mode, better, builder, config as named, good, is_good, is_state};
use super::system_calls::{each_at_a_time, is_long};
use crate::operation::{settled, yaml};
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::process;

const AT_A_TIME: usize = 4;

/// Where the agent is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// No config.
    Stopped,
    /// The only config is on probation.
    StartingAlone,
    /// A new config is on probation, and there is one to go back to.
    Starting,
    Running,
    /// It failed, and there is no other to go back to.
    Backoff,
    /// The old one drains.
    Stopping,
    /// The new one is there and serves nobody yet.
    HandingOver,
    /// The new one serves, on probation.
    Serving,
    /// The new one has proved itself, the old one drains.
    Parting,
    /// The new one has failed, and drains.
    Withdrawing,
    /// It runs, it is not healthy, and there is no other to go back to.
    Unhealthy,
}

impl Moment {
    const ALL: [Moment; 11] = [
        Moment::Stopped,
        Moment::StartingAlone,
        Moment::Starting,
        Moment::Running,
        Moment::Backoff,
        Moment::Stopping,
        Moment::HandingOver,
        Moment::Serving,
        Moment::Parting,
        Moment::Withdrawing,
        Moment::Unhealthy,
    ];

    fn mode(self) -> Mode {
        match self {
            Moment::HandingOver | Moment::Serving | Moment::Parting | Moment::Withdrawing => Mode::HandOver,
            _ => Mode::Restart,
        }
    }

    /// What is active before it.
    fn before(self) -> Value {
        match self {
            Moment::Stopping | Moment::Parting => named("good", json!({"drain_ms": 1500})),
            Moment::Backoff => named("good", json!({"start": {"exit": 3}})),
            Moment::Unhealthy => unhealthy("good", process::free_port()),
            _ => good(),
        }
    }

    /// What the API sends to get there.
    fn sent(self) -> Option<Value> {
        match self {
            Moment::Stopped | Moment::StartingAlone | Moment::Running | Moment::Backoff | Moment::Unhealthy => None,
            Moment::Withdrawing => {
                let mut config = unhealthy("on its way", process::free_port());
                config["fake"]["drain_ms"] = json!(1500);
                Some(config)
            }
            _ => Some(named("on its way", json!({}))),
        }
    }
}

fn unhealthy(name: &str, port: u16) -> Value {
    let mut config = named(name, json!({"health": {"port": port, "status": 500}}));
    config["extensions"] = json!({"health_check": {"endpoint": format!("127.0.0.1:{port}")}});
    config["service"]["extensions"] = json!(["health_check"]);
    config
}

/// An agent that is there, and its API; it is asked for checks, and makes none by itself.
struct Met {
    agent: Agent,
    api: Api,
    /// What may be active.
    configs: Vec<Value>,
    moment: Moment,
}

impl Met {
    #[track_caller]
    fn at(moment: Moment) -> Met {
        let api = Api::plain();
        let before = moment.before();
        let slow = |builder: Builder| builder.setting("config-check-interval", 0).setting("min-uptime", "1500ms");
        let builder = slow(builder(&api, moment.mode()));
        let agent = match moment {
            Moment::Stopped => builder.spawn(),
            Moment::StartingAlone | Moment::Backoff | Moment::Unhealthy => builder.config(yaml(&before)).spawn(),
            _ => settled(builder, &before),
        };
        agent.wait_until("the control socket", || agent.socket().exists());
        let mut met = Met { agent, api, configs: vec![before], moment };
        if let Some(sent) = moment.sent() {
            met.send(&sent);
            met.configs.push(sent);
        }
        met.wait();
        met
    }

    #[track_caller]
    fn wait(&self) {
        let wait_state = |state| _ = self.agent.wait_log(state, |line| is_state(line, state));
        match self.moment {
            Moment::Stopped => self.agent.wait_until("no collector", || self.agent.collectors().is_empty()),
            Moment::StartingAlone => wait_state("starting"),
            Moment::Running => {}
            Moment::Backoff => wait_state("backoff"),
            Moment::Stopping => wait_state("stopping"),
            Moment::Starting => _ = self.agent.wait_start(2),
            Moment::HandingOver => wait_state("handing-over"),
            Moment::Serving => {
                _ = self.agent.wait_log("it", |line| line.msg() == "new connections go to the new collector")
            }
            Moment::Parting => {
                let is_trusted = || is_good(&self.agent, &self.configs[1]);
                self.agent.wait_until("the new one trusted, the old one there", || {
                    is_trusted() && self.agent.collectors().len() == 2
                });
            }
            Moment::Withdrawing => {
                self.agent.wait_log("the roll back", |line| line.msg().starts_with("config rolled back"));
            }
            Moment::Unhealthy => {
                self.agent.wait_log("its ill health", |line| line.msg() == "collector is running but unhealthy");
            }
        }
    }

    /// The API has this one, and a client asks for a check, with any outcome.
    fn send(&self, config: &Value) {
        self.api.answer_config(config.clone());
        ask(&self.agent, "check");
    }

    /// Nothing is lost, and nobody is left.
    #[track_caller]
    fn assert_whole(&self) {
        let config = self.agent.config();
        let is_known = self.configs.contains(&config) || (config.is_null() && self.moment == Moment::Stopped);
        assert!(is_known, "active is {config}");
        let names = |dir: &str| fs::read_dir(self.agent.dir().join(dir)).unwrap().flatten();
        let strays: Vec<_> = ["etc", "state"]
            .into_iter()
            .flat_map(names)
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with('.'))
            .collect();
        assert!(strays.is_empty(), "stray files: {strays:?}");
        assert_eq!(self.agent.processes(), [0; 0], "processes are left");
    }

    /// This config becomes active and is trusted; the API sends it as long as it has to.
    #[track_caller]
    fn assert_converges(&self, config: &Value) {
        let mut asked_at = Instant::now();
        self.agent.wait_until("the latest config active and promoted, and one collector", || {
            if asked_at.elapsed() > Duration::from_millis(500) {
                asked_at = Instant::now();
                ask(&self.agent, "check");
            }
            is_good(&self.agent, config) && self.agent.collectors().len() == 1 && self.agent.processes().len() == 2
        });
    }
}

/// Sends a command and does not wait for an answer; the connection is kept for as long as the agent runs.
fn ask(agent: &Agent, command: &str) {
    if let Ok(mut stream) = UnixStream::connect(agent.socket()) {
        let _ = stream.write_all(format!("{{\"command\":\"{command}\"}}\n").as_bytes());
    }
}

#[track_caller]
fn in_each(moments: &[Moment], try_one: impl Fn(Moment) + Sync) {
    each_at_a_time(AT_A_TIME, moments, |moment| {
        try_one(*moment);
        true
    });
    eprintln!("races: {} states", moments.len());
}

#[test]
fn a_candidate_in_every_state() {
    in_each(&Moment::ALL, |moment| {
        let met = Met::at(moment);
        met.send(&better());
        met.assert_converges(&better());
        assert_eq!(met.agent.stop(), 0);
    });
}

#[test]
fn two_candidates_in_a_row_in_every_state() {
    in_each(&Moment::ALL, |moment| {
        let mut met = Met::at(moment);
        let first = named("the first of two", json!({}));
        met.send(&first);
        met.send(&better());
        met.assert_converges(&better());
        // The first one is either installed and then replaced, or discarded: nothing of it is left.
        met.configs.extend([first, better()]);
        assert_eq!(met.agent.stop(), 0);
        met.assert_whole();
    });
}

/// By the command, by a signal, and by both at once.
#[test]
fn a_stop_in_every_state() {
    in_each(&Moment::ALL, |moment| {
        let ways: &[usize] = if is_long() { &[0, 1, 2] } else { &[moment as usize % 3] };
        for way in ways {
            let met = Met::at(moment);
            let began_at = Instant::now();
            if *way != 1 {
                met.agent.signal(Signal::TERM);
            }
            if *way != 0 {
                let output = met.agent.run(["stop"]);
                // 69: it was gone already.
                assert!(matches!(output.code, Some(0 | 69)), "{output:?}");
            }
            let exit = met.agent.wait_exit();
            assert!(if *way == 0 { exit == 0 } else { exit == 79 || exit == 0 && *way == 2 }, "{moment:?}: {exit}");
            let took = began_at.elapsed();
            // Who drains takes 1.5 s for it.
            assert!(took < Duration::from_secs(8), "{moment:?}: {took:?}");
            met.assert_whole();
        }
    });
}

/// A candidate on its way, and a stop right behind it.
#[test]
fn a_candidate_and_a_stop_in_every_state() {
    in_each(&Moment::ALL, |moment| {
        let mut met = Met::at(moment);
        met.send(&better());
        met.agent.signal(Signal::TERM);
        assert_eq!(met.agent.wait_exit(), 0);
        met.configs.push(better());
        met.assert_whole();
        // And the next agent has it, if the API sends it still.
        met.agent.spawn();
        met.agent.wait_until("the control socket", || met.agent.socket().exists());
        met.assert_converges(&better());
        assert_eq!(met.agent.stop(), 0);
    });
}

/// Every collector is killed in the middle of it, or the agent is; both find their way.
#[test]
fn a_kill_in_every_state() {
    in_each(&Moment::ALL, |moment| {
        for kills_agent in [false, true] {
            let met = Met::at(moment);
            if kills_agent {
                met.agent.signal(Signal::KILL);
                met.agent.wait_exit();
                met.agent.wait_until("the collectors gone", || met.agent.processes().is_empty());
                met.agent.spawn();
                met.agent.wait_until("the control socket", || met.agent.socket().exists());
            } else {
                met.agent.collectors().into_iter().for_each(|pid| _ = process::signal(pid, Signal::KILL));
            }
            met.send(&better());
            met.assert_converges(&better());
            assert_eq!(met.agent.stop(), 0);
        }
    });
}

/// `--check` every second beside the running agent, as a crontab would have it, while the API changes its mind every
/// other second.
#[test]
fn a_check_every_second_beside_the_agent() {
    let seconds = if is_long() { 60 } else { 10 };
    let api = Api::plain();
    let builder = builder(&api, Mode::Restart).setting("min-uptime", "300ms");
    let agent = settled(builder, &good());
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let before = descriptors();
    let began_at = Instant::now();
    let mut checks: Vec<Child> = Vec::new();
    let mut changes = 0;
    for second in 0..seconds {
        if second % 2 == 0 {
            // Every third one is bad.
            changes += 1;
            let config = if changes % 3 == 0 {
                named(&format!("bad {changes}"), json!({"validate": "fail"}))
            } else {
                named(&format!("change {changes}"), json!({}))
            };
            api.answer_config(config);
        }
        let mut check = agent.command(["--check"]);
        checks.push(check.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let due = began_at + Duration::from_secs(second + 1);
        agent.wait_until("the next second", || Instant::now() >= due);
    }
    let mut exits = std::collections::BTreeMap::new();
    for mut check in checks {
        let status = agent.wait_for("each check's end", || check.try_wait().unwrap());
        *exits.entry(status.code()).or_insert(0) += 1;
    }
    // Done, or refused; none was locked out, none failed.
    assert!(exits.keys().all(|code| matches!(code, Some(0 | 65))), "{exits:?}");
    let last = named("the last one", json!({}));
    api.answer_config(last.clone());
    agent.wait_until("the last one", || is_good(&agent, &last) && agent.collectors().len() == 1);
    agent.wait_until("no more descriptors than before", || descriptors() <= before);
    assert_eq!(agent.processes().len(), 2);
    let installs = agent.count_log(|line| line.msg() == "config installed");
    assert_eq!(agent.starts(), installs + 1, "each install is one start");
    eprintln!("races: {seconds} checks, {changes} changes, {installs} installs, exits {exits:?}");
    assert_eq!(agent.stop(), 0);
}
