//! Each component of the collectors that we build, in two collectors at once: what is seen, and what kmagent decides by
//! itself, against the table components.yaml.
//!
//! With the small collector; `KM_FULL=PATH` takes the one of dist/collector/edge.yaml or full.yaml, and
//! `KM_COMPONENT=redis` only what has this in its name. It prints what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::collector;
use crate::support::agent::{Agent, Line};
use crate::support::api::Api;
use crate::support::bin;
use crate::support::http::{Reply, Server};
use crate::support::machine;
use crate::support::otlp::{self, OtlpSink};
use crate::support::process::free_port;
use crate::support::temp_dir::TempDir;
use crate::support::wait::poll_for;
use crate::support::wait::wait_until;

/// A start, also where two cores run eight of these; and what waits for its server.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// What they do is wait, for the most part.
const AT_ONCE: usize = 8;
/// What is sent.
const TEXT: &str = "sent while two ran";
/// Of a collector's config; a component's module has their singular for its ending.
const SECTIONS: [&str; 5] = ["receivers", "processors", "exporters", "connectors", "extensions"];
/// How many spans the old collector is given to count.
const SPANS: u64 = 3;
/// The source of the flow that is sent where there is no text.
const FLOW_FROM: [u8; 4] = [10, 99, 88, 77];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(default = "logs")]
    signal: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    also: Value,
    send: Option<Value>,
    verdict: Verdict,
    judged: Option<String>,
    untried: Option<String>,
}

fn logs() -> String {
    "logs".to_string()
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Overlaps,
    Twice,
    Alone,
}

/// What came of one change of the config.
struct Seen {
    /// What `status` says of how the config took effect.
    changed_by: String,
    verdict: Verdict,
    /// In words.
    evidence: String,
}

fn table() -> BTreeMap<String, Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handover/components.yaml");
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Its components, `receivers/otlp` and so on, without underscores; it lists one with two names by its new one.
fn components() -> BTreeSet<String> {
    let mut command = Command::new(collector());
    command.arg("components");
    let output = bin::output(command);
    let listed: Value = serde_yaml::from_str(&output.stdout).unwrap();
    let of = |section: &'static str| {
        let components = listed[section].as_array().cloned().unwrap_or_default();
        components
            .into_iter()
            .map(move |component| without_case(&format!("{section}/{}", component["name"].as_str().unwrap())))
    };
    SECTIONS.into_iter().flat_map(of).collect()
}

/// What a manifest of dist/collector names, likewise: a type is called as its module is, without the ending, but for
/// two.
fn named_in(manifest: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/collector").join(manifest);
    let manifest: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let of = |section: &'static str| {
        let modules = manifest[section].as_array().cloned().unwrap_or_default();
        modules.into_iter().map(move |entry| {
            let module = entry["gomod"].as_str().unwrap().split(' ').next().unwrap().to_string();
            let word = module.rsplit('/').next().unwrap();
            let kind = match (section, word.strip_suffix(&section[..section.len() - 1]).unwrap_or(word)) {
                ("exporters", "otlp") => "otlpgrpc",
                (_, "awscontainerinsight") => word,
                (_, kind) => kind,
            };
            format!("{section}/{kind}")
        })
    };
    SECTIONS.into_iter().flat_map(of).collect()
}

/// The component of a row, under any of its names: contrib renames filelog to file_log and so on.
fn without_case(key: &str) -> String {
    key.split('/').take(2).collect::<Vec<_>>().join("/").replace('_', "")
}

/// Without a collector, so that it is seen where none with all of them is built.
#[test]
fn every_component_of_a_manifest_has_its_row() {
    let rows: BTreeSet<String> = table().keys().map(|key| without_case(key)).collect();
    let named = &(&named_in("small.yaml") | &named_in("edge.yaml")) | &named_in("full.yaml");
    let missing: Vec<_> = named.difference(&rows).collect();
    assert!(named.len() > 50 && missing.is_empty(), "not in components.yaml: {missing:?}");
    let strange: Vec<_> = rows.difference(&named).filter(|key| *key != "service/telemetry").collect();
    assert!(strange.is_empty(), "in components.yaml, and in no manifest: {strange:?}");
}

#[test]
fn every_component_has_its_verdict() {
    let table: BTreeSet<String> = table().keys().map(|key| without_case(key)).collect();
    let missing: Vec<_> = components().into_iter().filter(|component| !table.contains(component)).collect();
    assert!(missing.is_empty(), "not in components.yaml: {missing:?}");
}

#[test]
fn each_component_beside_itself_does_what_is_known_of_it() {
    if machine::skips_hand_over() {
        return;
    }
    let present = components();
    let mut rows: Vec<(String, Row)> = table().into_iter().collect();
    rows.retain(|(key, _)| present.contains(&without_case(key)) || key.starts_with("service/"));
    if let Some(only) = std::env::var_os("KM_COMPONENT") {
        rows.retain(|(key, _)| key.contains(only.to_str().unwrap()));
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((key, row)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = catch_unwind(AssertUnwindSafe(|| examine(key, row)));
                    let result = result.unwrap_or_else(|_| Err("the trial failed, see above".to_string()));
                    results.lock().unwrap().push((key, row.verdict, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(key, ..)| *key);
    let mut report = String::new();
    for (key, verdict, result) in &results {
        let words = match result {
            Ok(evidence) => evidence.clone(),
            Err(problem) => format!("WRONG: {problem}"),
        };
        report += &format!("  {key:38} {:9} {words}\n", format!("{verdict:?}").to_lowercase());
    }
    let _ = std::io::stderr().write_all(format!("\nhandover: components\n{report}").as_bytes());
    let wrong: Vec<_> = results.iter().filter(|(.., result)| result.is_err()).collect();
    assert!(!results.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

/// What was seen of one row.
///
/// # Errors
/// It is not what the table says, or kmagent decides otherwise.
fn examine(key: &str, row: &Row) -> Result<String, String> {
    if let Some(reason) = &row.untried {
        return Ok(format!("not tried: {reason}"));
    }
    let by_itself = Site::new(key, row).change("auto");
    let hands_over = by_itself.changed_by == "hand-over";
    if hands_over != (row.verdict == Verdict::Overlaps) {
        return Err(format!("kmagent decides: {}", by_itself.changed_by));
    }
    let seen = if hands_over { by_itself } else { Site::new(key, row).change("handover") };
    let seen = if seen.changed_by.starts_with("restart") { Site::new(key, row).beside() } else { seen };
    match &row.judged {
        Some(reason) => Ok(format!("judged: {reason} (seen: {})", seen.evidence)),
        None if seen.verdict == row.verdict => Ok(seen.evidence),
        None => Err(format!("seen: {:?}: {}", seen.verdict, seen.evidence)),
    }
}

/// What one row needs around it.
struct Site<'a> {
    key: &'a str,
    row: &'a Row,
    sink: OtlpSink,
    mock: Server,
    ports: [u16; 3],
}

impl Site<'_> {
    fn new<'a>(key: &'a str, row: &'a Row) -> Site<'a> {
        // Docker, Prometheus' target and whatever else is asked: there is nothing here.
        let mock = Server::start(0, None, |request| match request.path.as_str() {
            "/metrics" => Reply::status(200, &[("Content-Type", "text/plain")], "up_and_well 1\n"),
            _ => Reply::status(200, &[("Content-Type", "application/json"), ("Api-Version", "1.44")], "[]"),
        });
        let ports = [free_port(), free_port(), free_port()];
        Site { key, row, sink: OtlpSink::start(), mock: mock.unwrap(), ports }
    }

    fn filled(&self, value: &Value, dir: &Path, [otlp, port, other]: [u16; 3]) -> Value {
        let mut text = value.to_string();
        let numbers = [("OTLP", otlp), ("PORT", port), ("OTHER", other), ("MOCK", self.mock.addr.port())];
        for (name, number) in numbers {
            text = text
                .replace(&format!("\"{name}\""), &number.to_string())
                .replace(&format!(":{name}"), &format!(":{number}"));
        }
        serde_json::from_str(&text.replace("DIR", &dir.display().to_string())).unwrap()
    }

    /// A whole config that uses the component.
    fn config(&self, round: &str, dir: &Path, ports: [u16; 3]) -> Value {
        let mut parts = self.key.splitn(3, '/');
        let (section, kind, signal) = (parts.next().unwrap(), parts.next().unwrap(), self.row.signal.as_str());
        let mut config = json!({
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": format!("127.0.0.1:{}", ports[0])}}}},
            "exporters": {"otlp_http": self.sink.exporter()},
            "service": {
                "telemetry": {"resource": {"round": round}, "metrics": {"level": "none"}},
                "pipelines": {signal: {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
            },
        });
        merge(&mut config, json!({section: {kind: self.row.config}}));
        match section {
            "extensions" => config["service"]["extensions"] = json!([kind]),
            "connectors" => {
                config["service"]["pipelines"] = json!({
                    "traces": {"receivers": ["otlp"], "exporters": [kind]},
                    "metrics": {"receivers": [kind], "exporters": ["otlp_http"]},
                });
            }
            "service" => {}
            _ => config["service"]["pipelines"][signal][section] = json!([kind]),
        }
        merge(&mut config, self.row.also.clone());
        self.filled(&config, dir, ports)
    }

    /// One change of the config in this mode, and what is sent while two run.
    fn change(&self, mode: &str) -> Seen {
        let api = Api::plain();
        let builder = Agent::builder().api(&api).collector(collector()).setting("restart-mode", mode);
        // A journalctl of the test's own is a program that the config names.
        let builder = builder.setting("policy", "none");
        let builder = builder.setting("min-uptime", "2s").setting("log-level", "info");
        let builder = builder.env("ECS_CONTAINER_METADATA_URI_V4", format!("http://{}", self.mock.addr));
        self.furnish(builder.dir());
        let config = |round: &str, dir: &Path| self.config(round, dir, self.ports);
        let first = config("first", builder.dir());
        let agent = builder.config(serde_yaml::to_string(&first).unwrap()).spawn();
        within(&agent, "a collector that has proved itself", |line| line.field("to") == "running");
        let old = agent.wait_collector();
        if self.key.starts_with("connectors/") {
            agent.wait_until("spans before the change", || {
                (0..SPANS).all(|_| otlp::send_span(self.ports[0], TEXT).is_ok())
            });
            agent.wait_until("their count", || self.row.judged.is_some() || !self.sink.requests().is_empty());
        }
        api.answer_config(config("second", agent.dir()));
        let by = within(&agent, "how the config takes effect", |line| line.msg() == "applying config");
        let changed_by = by.field("method").to_string();
        if changed_by == "hand-over" {
            let died = |line: &Line| line.msg() == "collector exited unexpectedly";
            let served = |line: &Line| line.msg() == "new connections go to the new collector";
            let line = within(&agent, "a new collector that serves, or its death", |line| died(line) || served(line));
            if died(&line) {
                let problem = agent.status().unwrap_or_default()["last_error_message"].clone();
                return Seen { changed_by, verdict: Verdict::Alone, evidence: problem.to_string() };
            }
            let new = agent.collectors().into_iter().find(|pid| *pid != old);
            let holds: Vec<String> = [Some(old), new].into_iter().flatten().map(holds).collect();
            if holds.iter().any(|words| !words.is_empty()) {
                let evidence = format!("they hold {}", holds.join(" and "));
                return Seen { changed_by, verdict: Verdict::Alone, evidence };
            }
            if let Some(send) = &self.row.send {
                let problem = || agent.log().last().map(|line| line.text.clone());
                self.send(&self.filled(send, agent.dir(), self.ports))
                    .unwrap_or_else(|error| panic!("{error}: {:?}", problem()));
            }
        }
        let revision = |config: &Value| config["service"]["telemetry"]["resource"]["round"].clone();
        let proved = poll_for(START_TIMEOUT, || (revision(&agent.proved_config()) == "second").then_some(()));
        if proved.is_none() {
            let evidence = agent.status().unwrap_or_default().to_string();
            return Seen { changed_by, verdict: Verdict::Alone, evidence };
        }
        agent.wait_collector();
        // It drains: afterwards everything has come.
        assert_eq!(agent.stop(), 0);
        if self.row.send.is_none() || changed_by != "hand-over" {
            return Seen { changed_by, verdict: Verdict::Overlaps, evidence: "both run".to_string() };
        }
        if self.key.starts_with("connectors/") {
            let (delta, cumulative) = (self.calls(1), self.calls(2));
            // Down once is a new start.
            let falls = cumulative.windows(2).filter(|pair| pair[1] < pair[0]).count();
            let right = falls < 2 && (delta.is_empty() || delta.iter().sum::<u64>() == SPANS + 1);
            let verdict = if right { Verdict::Overlaps } else { Verdict::Twice };
            let evidence = format!("its counter says {:?} of {} spans", [delta, cumulative].concat(), SPANS + 1);
            return Seen { changed_by, verdict, evidence };
        }
        let source = FLOW_FROM.map(|byte| byte.to_string()).join(".");
        let count = self.sink.count(TEXT) + self.sink.count(&source);
        let (verdict, words) = match count {
            0 => (Verdict::Alone, "what was sent has come out nowhere".to_string()),
            1 => (Verdict::Overlaps, "what was sent came out once".to_string()),
            _ => (Verdict::Twice, format!("what was sent came out {count} times")),
        };
        Seen { changed_by, verdict, evidence: words }
    }

    /// Two collectors that share no port and know nothing of each other: whether the second one starts.
    fn beside(&self) -> Seen {
        let site = Agent::builder().build();
        let dir = site.dir();
        self.furnish(dir);
        let mut living = Vec::new();
        let mut outcome = None;
        for (nth, ports) in [self.ports, [free_port(), free_port(), free_port()]].into_iter().enumerate() {
            let (config, output) = (dir.join(format!("{nth}.yaml")), dir.join(format!("{nth}.log")));
            fs::write(&config, serde_yaml::to_string(&self.config("first", dir, ports)).unwrap()).unwrap();
            let mut command = Command::new(collector());
            command.arg("--config").arg(config).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(fs::File::create(&output).unwrap());
            living.push(command.spawn().unwrap());
            outcome = poll_for(START_TIMEOUT, || {
                let text = fs::read_to_string(&output).unwrap();
                let died = living[nth].try_wait().unwrap().is_some();
                let words = text.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default().to_string();
                (died || text.contains("Everything is ready")).then_some((died, words))
            });
            assert!(nth == 1 || matches!(outcome, Some((false, _))), "the first one does not start: {outcome:?}");
        }
        for mut child in living {
            let _ = child.kill();
            let _ = child.wait();
        }
        let changed_by = "two without kmagent".to_string();
        match outcome {
            Some((false, _)) => Seen { changed_by, verdict: Verdict::Overlaps, evidence: "both run".to_string() },
            Some((true, words)) => Seen { changed_by, verdict: Verdict::Alone, evidence: words },
            None => Seen { changed_by, verdict: Verdict::Alone, evidence: "the second one hangs".to_string() },
        }
    }

    /// What a connector that counts spans has said in delta (1) or cumulative (2) counters, in the order of its
    /// arrival.
    fn calls(&self, temporality: u64) -> Vec<u64> {
        let each = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let exports = self.sink.requests().into_iter().map(|request| request.json());
        let scopes = exports.flat_map(|it| each(&it, "resourceMetrics")).flat_map(|it| each(&it, "scopeMetrics"));
        let metrics = scopes.flat_map(|it| each(&it, "metrics"));
        let sums = metrics.map(|it| it["sum"].clone()).filter(|it| it["aggregationTemporality"] == temporality);
        let values = sums.flat_map(|it| each(&it, "dataPoints")).filter_map(|it| it["asInt"].as_str()?.parse().ok());
        values.collect()
    }

    /// Files that configs refer to.
    fn furnish(&self, dir: &Path) {
        fs::write(dir.join("read.log"), "").unwrap();
        fs::write(dir.join("journal"), "").unwrap();
        let journalctl = dir.join("journalctl");
        let script = format!("#!/bin/sh\nexec tail -n 0 -F {}\n", dir.join("journal").display());
        bin::write_program(&journalctl, &script);
    }

    fn send(&self, what: &Value) -> Result<(), String> {
        let (how, place) = what.as_object().unwrap().iter().next().unwrap();
        let port = place.as_u64().unwrap_or_default() as u16;
        let io = |result: std::io::Result<()>| result.map_err(|error| format!("{how}: {error}"));
        let line = format!("<14>1 2026-01-02T03:04:05Z host app - - - {TEXT}\n");
        match how.as_str() {
            "otlp" => match (self.key.split('/').next(), self.row.signal.as_str()) {
                (Some("connectors"), _) | (_, "traces") => otlp::send_span(port, TEXT),
                (_, "metrics") => otlp::send_metric(port, TEXT, 1.0),
                _ => otlp::send_log(port, TEXT),
            },
            "file" => io(append(place, &format!("{TEXT}\n"))),
            "journal" => {
                let at = "1767322800000000";
                let entry = json!({"MESSAGE": TEXT, "__CURSOR": "s=1", "__REALTIME_TIMESTAMP": at, "__MONOTONIC_TIMESTAMP": "1"});
                io(append(place, &format!("{entry}\n")))
            }
            "syslog_tcp" => {
                io(TcpStream::connect(("127.0.0.1", port)).and_then(|mut it| it.write_all(line.as_bytes())))
            }
            "syslog_udp" => io(datagram(port, line.as_bytes())),
            "netflow" => io(datagram(port, &flow())),
            "fluent" => io(TcpStream::connect(("127.0.0.1", port)).and_then(|mut it| it.write_all(&fluent()))),
            _ => panic!("cannot send by {how}"),
        }
    }
}

/// A log line of the agent's, sooner or later.
fn within(agent: &Agent, what: &str, condition: impl Fn(&Line) -> bool) -> Line {
    let find = || agent.log().into_iter().find(|line| condition(line));
    poll_for(START_TIMEOUT, find).unwrap_or_else(|| panic!("no {what}"))
}

fn append(path: &Value, text: &str) -> std::io::Result<()> {
    OpenOptions::new().append(true).open(path.as_str().unwrap())?.write_all(text.as_bytes())
}

fn datagram(port: u16, bytes: &[u8]) -> std::io::Result<()> {
    UdpSocket::bind("127.0.0.1:0")?.send_to(bytes, ("127.0.0.1", port)).map(|_| ())
}

/// NetFlow version 5: a header of 24 bytes, and one record of 48 that begins with its source.
fn flow() -> Vec<u8> {
    let mut packet = vec![0; 24 + 48];
    packet[..4].copy_from_slice(&[0, 5, 0, 1]);
    packet[24..28].copy_from_slice(&FLOW_FROM);
    packet
}

/// Fluent's forward protocol: `["tag", time, {"log": TEXT}]` in MessagePack.
fn fluent() -> Vec<u8> {
    let mut message = vec![0x93, 0xa3];
    message.extend_from_slice(b"tag");
    message.extend_from_slice(&[0xce, 0x69, 0x57, 0x36, 0x70, 0x81, 0xa3]);
    message.extend_from_slice(b"log");
    message.extend_from_slice(&[0xd9, TEXT.len() as u8]);
    message.extend_from_slice(TEXT.as_bytes());
    message
}

/// Maps merge, anything else replaces.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// The control of `holds`; in a process of its own, since other tests of this one hold things too.
#[test]
fn what_a_process_holds_is_seen() {
    const SCRIPT: &str = "import fcntl, socket, sys\n\
        if sys.argv[2] == 'much':\n\
        \x20   listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1] + '/socket'); listener.listen()\n\
        \x20   lock = open(sys.argv[1] + '/lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX)\n\
        print('ready', flush=True); sys.stdin.read()";
    let dir = TempDir::new();
    for (what, expected) in [("nothing", ""), ("much", "a lock, a unix socket")] {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]).arg(dir.path()).arg(what).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut ready = [0; 5];
        holder.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        // The kernel's list of locks is read in pieces, and may miss one while others come and go.
        wait_until(expected, || holds(holder.id()) == expected);
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
    }
}

/// What a process holds besides ordinary sockets and files, in both of two looks: Unix sockets that listen, raw, packet
/// and netlink sockets, perf events, BPF objects, locks.
fn holds(pid: u32) -> String {
    let look = || -> BTreeSet<String> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
        let targets: BTreeSet<String> = targets.collect();
        let mut found: BTreeSet<String> =
            targets.iter().filter(|it| it.contains("perf_event") || it.contains("bpf")).cloned().collect();
        for (table, column) in [("packet", 8), ("raw", 9), ("raw6", 9), ("netlink", 9), ("unix", 6)] {
            let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            for fields in text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()) {
                let is_its = fields.get(column).is_some_and(|inode| targets.contains(&format!("socket:[{inode}]")));
                // __SO_ACCEPTCON
                if is_its && (table != "unix" || fields[3] == "00010000") {
                    found.insert(format!("a {table} socket"));
                }
            }
        }
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let is_its = |line: &&str| line.split_whitespace().nth(4) == Some(&pid.to_string());
        found.extend(locks.lines().filter(is_its).map(|_| "a lock".to_string()));
        found
    };
    let first = look();
    poll_for(Duration::from_millis(200), || None::<()>);
    let both: Vec<String> = first.intersection(&look()).cloned().collect();
    both.join(", ")
}
