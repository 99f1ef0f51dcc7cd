//! The support's own tests: a test that fails should tell about the agent, not about its props.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::api::{Api, Reply};
use crate::support::bin::{self, Output};
use crate::support::otlp::{self, OtlpSink};
use crate::support::process;
use crate::support::temp_dir::TempDir;
use crate::support::wait::{wait_for, wait_until};

/// The stand-in collector, without an agent.
struct Fake {
    dir: TempDir,
}

impl Fake {
    fn new(config: Value) -> Fake {
        let fake = Fake { dir: TempDir::new() };
        fs::write(fake.dir.join("config.yaml"), serde_yaml::to_string(&config).unwrap()).unwrap();
        fake
    }

    /// With this `fake` map.
    fn scripted(script: Value) -> Fake {
        Fake::new(json!({"fake": script}))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin::fake());
        command.args(args).env_clear().env("FAKE_LOG", self.dir.join("fake.log"));
        command
    }

    fn validate(&self) -> Output {
        let mut command = self.command(&["validate"]);
        command.arg("--config").arg(self.dir.join("config.yaml"));
        bin::output(command)
    }

    fn run_command(&self) -> Command {
        let mut command = self.command(&["--config"]);
        command.arg(self.dir.join("config.yaml"));
        command
    }

    /// Runs it to its end.
    fn run(&self) -> Output {
        bin::output(self.run_command())
    }

    /// Runs it with its stderr in a file, until the file has `text`.
    fn start(&self, text: &str) -> Running {
        let stderr = fs::File::create(self.dir.join("stderr")).unwrap();
        let running = Running(self.run_command().stderr(stderr).spawn().unwrap());
        wait_until(text, || self.stderr().contains(text));
        running
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.join("fake.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        for pid in process::marked(&format!("FAKE_LOG={}", self.dir.join("fake.log").display())) {
            process::signal(pid, Signal::KILL);
        }
    }
}

struct Running(Child);

impl Running {
    /// The exit status; a signal's number is negative.
    fn end(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = wait_for("its end", Duration::from_secs(10), || self.0.try_wait().unwrap());
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }

    fn terminate(&self) {
        process::signal(self.0.id(), Signal::TERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const READY: &str = "Everything is ready. Begin running and processing data.";

#[test]
fn fake_shows_its_version() {
    let fake = Fake::scripted(json!({}));
    let output = bin::output(fake.command(&["--version"]));
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "otelcol-fake version 0.165.0\n"));
}

#[test]
fn fake_validates_as_scripted_and_as_the_real_one_would() {
    let verdict = |config: Value| {
        let output = Fake::new(config).validate();
        assert_eq!(output.code == Some(0), output.stderr.is_empty(), "{output:?}");
        output
    };
    let pipeline = |exporter: &str| {
        let pipelines = json!({"logs": {"receivers": ["otlp"], "exporters": [exporter]}});
        json!({"receivers": {"otlp": null}, "exporters": {"debug": null}, "service": {"pipelines": pipelines}})
    };
    assert_eq!(verdict(json!({"fake": {}})).code, Some(0));
    assert_eq!(verdict(pipeline("debug")).code, Some(0));
    assert!(verdict(pipeline("debgu")).stderr.contains(r#"references exporter "debgu" which is not configured"#));
    assert_eq!(verdict(json!({})).code, Some(1));
    assert_eq!(verdict(json!({"fake": {"validate": "fail"}})).stderr.matches("scripted to refuse").count(), 2);
    assert!(verdict(json!({"fake": {"validate": "missing"}})).stderr.contains("unknown command"));
    assert!(verdict(json!({"fake": {"no-such-key": 1}})).stderr.contains("no-such-key"));
}

#[test]
fn fake_hangs_in_validate() {
    let fake = Fake::scripted(json!({"validate": "hang"}));
    let mut command = fake.command(&["validate"]);
    let mut running = Running(command.arg("--config").arg(fake.dir.join("config.yaml")).spawn().unwrap());
    wait_until("its record", || !fake.records().is_empty());
    assert_eq!(fake.records()[0]["role"], "validate");
    assert!(running.0.try_wait().unwrap().is_none());
}

#[test]
fn fake_ends_with_0_on_sigterm_and_records_its_start() {
    let fake = Fake::scripted(json!({"drain_ms": 100}));
    let mut running = fake.start(READY);
    let record = &fake.records()[0];
    assert_eq!(record["pid"], running.0.id());
    assert_eq!(record["ppid"], std::process::id());
    assert_eq!(record["role"], "run");
    assert!(record["texts"][0].as_str().unwrap().contains("drain_ms"));
    assert_eq!(record["fds"]["2"], json!(fake.dir.join("stderr")));
    assert!(!record["fds"].to_string().contains("fake.log"), "{record}");
    let terminated_at = Instant::now();
    running.terminate();
    assert_eq!(running.end(), 0);
    assert!(terminated_at.elapsed() >= Duration::from_millis(100));
}

#[test]
fn fake_can_ignore_sigterm() {
    let fake = Fake::scripted(json!({"ignore_sigterm": true}));
    let mut running = fake.start(READY);
    running.terminate();
    // Its handler's thread has run once the signal is no longer pending and the thread sleeps again.
    wait_until("delivery", || process::status(running.0.id()).unwrap().field("ShdPnd").trim_matches('0').is_empty());
    assert!(running.0.try_wait().unwrap().is_none());
    process::signal(running.0.id(), Signal::KILL);
    assert_eq!(running.end(), -9);
}

#[test]
fn fake_dies_as_scripted() {
    let output = Fake::scripted(json!({"stderr": "Error: it is the end", "start": {"exit": 3}})).run();
    assert_eq!((output.code, output.stderr.as_str()), (Some(3), "Error: it is the end\n"));

    let output = Fake::scripted(json!({"start": {"exit": 4, "after_ms": 50}})).run();
    assert_eq!(output.code, Some(4));
    assert!(output.stderr.contains(READY));

    for (name, number) in [("KILL", -9), ("TERM", -15), ("SEGV", -11)] {
        let fake = Fake::scripted(json!({"signal": name}));
        assert_eq!(Running(fake.run_command().spawn().unwrap()).end(), number);
    }

    let fake = Fake::scripted(json!({"start": {"exit": 5, "times": 2}}));
    assert_eq!(fake.run().code, Some(5));
    assert_eq!(fake.run().code, Some(5));
    fake.start(READY);
    assert_eq!(fake.records().len(), 3);
}

#[test]
fn fake_serves_otlp_and_drains_it() {
    let port = process::free_port();
    let endpoint = json!({"endpoint": format!("127.0.0.1:{port}")});
    let receivers = json!({"otlp": {"protocols": {"http": endpoint}}});
    let fake = Fake::new(json!({"fake": {"serve_otlp": true}, "receivers": receivers}));
    let mut running = fake.start(READY);
    wait_until("its port", || process::port_answers(port));
    let (client, url) = (client(ureq::Agent::config_builder()), format!("http://127.0.0.1:{port}/v1/logs"));
    assert_eq!(post(&client, &url, json!({})).unwrap(), (200, "{}".to_string()));
    // The client keeps its connection, which must not keep the stand-in.
    running.terminate();
    assert_eq!(running.end(), 0);
    assert!(!process::port_answers(port));
    assert!(fake.stderr().contains("Shutdown complete"));
}

#[test]
fn fake_merges_its_configs() {
    let fake = Fake::scripted(json!({"start": {"exit": 6}, "stderr": "kept"}));
    fs::write(fake.dir.join("overlay.yaml"), "fake: {start: {exit: 7}}").unwrap();
    let mut command = fake.run_command();
    command.arg("--config").arg(fake.dir.join("overlay.yaml"));
    let output = bin::output(command);
    assert_eq!((output.code, output.stderr.as_str()), (Some(7), "kept\n"));
    assert_eq!(fake.records()[0]["configs"].as_array().unwrap().len(), 2);
}

#[test]
fn fake_leaves_a_grandchild() {
    for (kind, same_group) in [(json!(true), true), (json!("session"), false)] {
        let fake = Fake::scripted(json!({"fork": kind}));
        let mut running = fake.start(READY);
        wait_until("the grandchild", || fake.records().len() == 2);
        let records = fake.records();
        let (parent, child) = records.iter().partition::<Vec<_>, _>(|record| record["role"] == "run");
        assert_eq!(child[0]["pgid"] == parent[0]["pgid"], same_group);
        let grandchild = child[0]["pid"].as_u64().unwrap() as u32;
        assert_eq!(process::descendants(running.0.id()), [grandchild]);
        running.terminate();
        assert_eq!(running.end(), 0);
        process::signal(grandchild, Signal::TERM);
        assert!(process::alive(grandchild));
        process::signal(grandchild, Signal::KILL);
        wait_until("the grandchild's end", || !process::alive(grandchild));
    }
}

#[test]
fn fake_floods() {
    let fake = Fake::scripted(json!({"flood_bytes": 300_000, "long_line_bytes": 100_000}));
    let _running = fake.start("xx\n");
    let text = fake.stderr();
    let (flood, long) = text.split_once("fake: flood done\n").unwrap();
    assert!(flood.len() >= 300_000);
    assert_eq!(long.len(), 100_001);
}

#[test]
fn fake_blocks_on_a_pipe_that_nobody_reads() {
    let fake = Fake::scripted(json!({"flood_bytes": 300_000}));
    let mut running = Running(fake.run_command().stderr(Stdio::piped()).spawn().unwrap());
    let pid = running.0.id();
    wait_until("a full pipe", || {
        fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|text| text.contains("pipe"))
    });
    running.terminate();
    let drained = bin_read(running.0.stderr.take().unwrap());
    assert_eq!(running.end(), 0);
    assert!(drained.join().unwrap() > 60_000);
}

fn bin_read(mut stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()).unwrap())
}

#[test]
fn fake_serves_its_health() {
    let port = process::free_port();
    let fake = Fake::scripted(json!({"health": {"port": port, "status": 500}}));
    let _running = fake.start(READY);
    assert_eq!(status_of(&format!("http://127.0.0.1:{port}/")), 500);

    let port = process::free_port();
    let extension = json!({"health_check": {"endpoint": format!("127.0.0.1:{port}")}});
    let declared = json!({"extensions": extension, "service": {"extensions": ["health_check"]}});
    let fake = Fake::new(declared);
    let running = fake.start(READY);
    assert_eq!(status_of(&format!("http://127.0.0.1:{port}/")), 200);
    let second = fake.run();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("health_check: listen tcp"));
    drop(running);
    assert!(!process::port_answers(port));
}

#[test]
fn fake_closes_its_outputs_and_stops_itself() {
    let fake = Fake::scripted(json!({"close_outputs": true, "stop_self": true}));
    let mut running = Running(fake.run_command().stderr(Stdio::piped()).spawn().unwrap());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut text).unwrap();
    assert!(text.contains(READY));
    wait_until("a stopped process", || process::status(running.0.id()).unwrap().state() == 'T');
    assert!(process::alive(running.0.id()));
}

fn client(config: ureq::config::ConfigBuilder<ureq::typestate::AgentScope>) -> ureq::Agent {
    config.http_status_as_error(false).timeout_global(Some(Duration::from_secs(10))).build().into()
}

fn status_of(url: &str) -> u16 {
    client(ureq::Agent::config_builder()).get(url).call().unwrap().status().as_u16()
}

fn post(client: &ureq::Agent, url: &str, body: Value) -> Result<(u16, String), ureq::Error> {
    let mut response = client.post(url).header("Authorization", "key").send(body.to_string())?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

#[test]
fn api_answers_by_its_script_and_records() {
    let api = Api::plain();
    let client = client(ureq::Agent::config_builder());
    let ask = || post(&client, &api.url(), json!({"n": 1}));
    assert_eq!(ask().unwrap(), (200, r#"{"config":null,"restart_required":false}"#.into()));
    api.answer(json!({"a": 1}));
    api.answer_once(json!({"b": 2}));
    api.reply_once(Reply::status(429, &[("Retry-After", "7")], "later"));
    assert_eq!(ask().unwrap().1, r#"{"b":2}"#);
    assert_eq!(ask().unwrap(), (429, "later".into()));
    assert_eq!(ask().unwrap().1, r#"{"a":1}"#);
    assert_eq!(ask().unwrap().1, r#"{"a":1}"#);

    let request = api.wait_for_request("a body", |request| request.json()["n"] == 1);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/agents/config-check"));
    assert_eq!(request.header("authorization"), Some("key"));
    assert_eq!(api.requests().len(), 5);
    assert!(api.requests().iter().all(|request| request.connection == 0), "the connection was not kept");
}

#[test]
fn api_misbehaves() {
    let api = Api::plain();
    let fresh = || client(ureq::Agent::config_builder().max_idle_connections(0));
    for reply in [Reply::Close, Reply::Reset, Reply::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())] {
        api.reply_once(reply);
        post(&fresh(), &api.url(), json!({})).unwrap_err();
    }
    api.reply_once(Reply::Drip { pause: Duration::from_millis(1), status: 200, body: b"{}".to_vec() });
    assert_eq!(post(&fresh(), &api.url(), json!({})).unwrap(), (200, "{}".into()));

    api.reply_once(Reply::Hang);
    let (url, hanging) = (api.url(), fresh());
    let hanging = std::thread::spawn(move || post(&hanging, &url, json!({"hang": true})));
    api.wait_for_request("the hanging one", |request| request.json()["hang"] == true);
    api.stop();
    hanging.join().unwrap().unwrap_err();
    assert!(!process::port_answers(api.port()));
    api.restart();
    assert_eq!(post(&fresh(), &api.url(), json!({})).unwrap().0, 200);
}

#[test]
fn api_speaks_tls_to_those_who_trust_it() {
    let api = Api::tls();
    let trusting = |api: &Api| {
        let pem = fs::read(api.ca_file().unwrap()).unwrap();
        let roots: Vec<_> = vec![ureq::tls::Certificate::from_pem(&pem).unwrap()];
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::Specific(Arc::new(roots)));
        client(ureq::Agent::config_builder().tls_config(tls.build()))
    };
    assert_eq!(post(&trusting(&api), &api.url(), json!({})).unwrap().0, 200);
    post(&trusting(&Api::tls()), &api.url(), json!({})).unwrap_err();
    let elsewhere = Api::tls_for(&["elsewhere.example"]);
    post(&trusting(&elsewhere), &elsewhere.url(), json!({})).unwrap_err();
    assert_eq!(api.requests().len(), 1);
}

#[test]
fn telemetry_reaches_the_sink() {
    let sink = OtlpSink::start();
    let port: u16 = sink.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    otlp::send_log(port, "a marker").unwrap();
    otlp::send_metric(port, "a.metric", 1.5).unwrap();
    assert_eq!(sink.wait_for_text("a marker").path, "/v1/logs");
    assert_eq!(sink.wait_for_text("a.metric").path, "/v1/metrics");
    assert_eq!(sink.count("marker"), 1);
    assert!(otlp::send_log(process::free_port(), "refused").is_err());
}

#[test]
fn demo_api_serves_its_file_and_prints_what_it_hears() {
    let dir = TempDir::new();
    let (file, printed) = (dir.join("config.yaml"), dir.join("out"));
    let mut command = Command::new(bin::demo_api());
    command.args(["--port", "0", "--config"]).arg(&file).stdout(fs::File::create(&printed).unwrap());
    let _running = Running(command.spawn().unwrap());
    let out = || fs::read_to_string(&printed).unwrap();
    wait_until("its address", || out().ends_with('\n'));
    let url = out().trim().to_string();

    let client = client(ureq::Agent::config_builder());
    let ask = |body: Value| post(&client, &url, body).unwrap();
    assert_eq!(ask(json!({})).1, r#"{"config":null,"restart_required":false}"#);
    fs::write(&file, "").unwrap();
    assert_eq!(ask(json!({})).1, r#"{"config":null,"restart_required":false}"#);
    fs::write(&file, "a: {b: 1}").unwrap();
    assert_eq!(ask(json!({})).1, r#"{"config":{"a":{"b":1}},"restart_required":true}"#);
    fs::write(&file, "a: [").unwrap();
    assert_eq!(ask(json!({})).0, 500);
    fs::remove_file(&file).unwrap();
    ask(
        json!({"hostname": "h", "agent_status": "Running", "collector_status": "Stopped", "last_error_message": "1\n2"}),
    );
    assert!(out().ends_with("h: agent Running, collector Stopped, problem: 1 | 2\n"), "{}", out());
}

/// A shell script in the agent's place: it starts a collector in a session of its own and forgets about it.
fn careless_agent(dir: &std::path::Path) -> std::path::PathBuf {
    let script = r#"#!/bin/sh
case $3 in
status) echo '{"pid": 7}' ;;
fail) echo out; echo err >&2; exit 69 ;;
start)
    echo "{\"level\":\"info\",\"msg\":\"started\",\"key\":\"${KM_API_KEY-none}\"}" >&2
    setsid COLLECTOR --config CONFIG &
    trap 'exit 3' TERM
    while :; do sleep 0.01; done ;;
esac
"#;
    let script = script.replace("COLLECTOR", &bin::fake().display().to_string());
    let script = script.replace("CONFIG", &dir.join("etc/config.yaml").display().to_string());
    let path = dir.join("careless");
    bin::write_program(&path, &script);
    path
}

#[test]
fn agent_harness_runs_watches_and_leaves_nothing() {
    let api = Api::tls();
    let builder = Agent::builder().api(&api).env("KM_API_KEY", "from-env").config("fake: {ignore_sigterm: true}");
    let program = careless_agent(builder.dir());
    let agent = builder.program(program).build();
    let settings = fs::read_to_string(agent.settings_file()).unwrap();
    assert!(settings.contains(&api.url()) && settings.contains("ca-file"), "{settings}");

    assert_eq!(agent.spawn(), agent.pid());
    let line = agent.wait_log("a start", |line| line.msg() == "started");
    assert_eq!((line.level(), line.field("key")), ("info", "from-env"));
    let collector = agent.wait_start(1);
    assert_eq!(agent.wait_collector(), collector);
    agent.wait_log("the collector", |line| line.text.ends_with(READY));
    assert_eq!(agent.wait_status("pid", |status| status["pid"] == 7), json!({"pid": 7}));
    let output = agent.run(["fail"]);
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(69), "out\n", "err\n"));

    assert_eq!(agent.stop(), 3);
    assert_eq!(agent.collectors(), [collector], "this agent should have left an orphan");
    agent.spawn();
    agent.wait_start(2);
    let (dir, resident) = (agent.dir().to_path_buf(), agent.pid());
    drop(agent);
    assert!(!process::alive(collector) && !process::alive(resident) && !dir.exists());
}

#[test]
fn processes_can_be_observed() {
    let own = std::process::id();
    assert!(process::alive(own));
    assert!(process::status(own).unwrap().number("RssAnon") > 0);
    assert!(process::context_switches(own) > 0);
    assert!(process::io(own)["wchar"] > 0);
    let mut child = Command::new("/bin/sleep").arg("60").env("MARK", own.to_string()).spawn().unwrap();
    wait_until("its mark", || process::marked(&format!("MARK={own}")) == [child.id()]);
    assert!(process::descendants(own).contains(&child.id()));
    assert_eq!(process::parent(child.id()), Some(own));
    process::signal(child.id(), Signal::KILL);
    wait_until("a zombie", || !process::alive(child.id()));
    assert_eq!(process::status(child.id()).unwrap().state(), 'Z');
    child.wait().unwrap();
    assert!(process::status(child.id()).is_none());
}

/// Cargo takes a test that returns early for one that is done, so the summary of `tests/run` depends on this line.
#[test]
fn a_test_that_lacks_something_says_so() {
    let dir = TempDir::new();
    let file = dir.join("skipped");
    fs::write(&file, "").unwrap();
    let nobody = 65534;
    let mut command = Command::new("/proc/self/fd/0");
    command.stdin(fs::File::open("/proc/self/exe").unwrap()).current_dir("/").env("KM_SKIPPED", &file);
    command.args(["--exact", "exit_status::of_commands_of_a_user_who_may_not"]);
    if rustix::process::geteuid().is_root() {
        for path in [dir.path(), &file] {
            std::os::unix::fs::chown(path, Some(nobody), Some(nobody)).unwrap();
        }
        command.uid(nobody).gid(nobody);
    }
    let output = bin::output(command);
    assert!(output.code == Some(0) && output.stdout.contains("1 passed"), "{output:?}");
    let said = fs::read_to_string(&file).unwrap();
    assert_eq!(said, "skipped: exit_status::of_commands_of_a_user_who_may_not: it takes root\n");
}
