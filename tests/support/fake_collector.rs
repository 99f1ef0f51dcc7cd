//! A stand-in for the OpenTelemetry Collector that does what a real one will not do on request.
//!
//! It speaks the part of the collector's command line that the agent uses. How it behaves is written in the config that
//! it is given, under the top-level key `fake`, so that the config which a test pushes decides (see `Script`). Each
//! start appends a line of JSON to the file named by `FAKE_LOG` (see `record`).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, exit};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{
    DumpableBehavior, Resource, Signal, getpid, getppid, getrlimit, kill_process, set_dumpable_behavior, setsid,
};
use serde::Deserialize;
use serde_json::json;
use serde_yaml::Value;

#[allow(dead_code)]
#[path = "http.rs"]
mod http;

/// The config's `fake` map. Without any of it: valid, ready at once, ends with 0 on SIGTERM.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Script {
    validate: Validate,
    /// Printed on stderr first of all.
    stderr: String,
    /// Printed next.
    print: Option<Print>,
    /// Time from the start to "Everything is ready".
    ready_after_ms: u64,
    /// Its log level keeps it from saying that.
    quiet: bool,
    start: Death,
    /// Short for `start: {signal: …}`.
    signal: Option<String>,
    ignore_sigterm: bool,
    /// Time from SIGTERM to the end.
    drain_ms: u64,
    /// Printed on stderr on SIGTERM.
    goodbye: String,
    /// A grandchild that keeps the output pipes open and outlives SIGTERM.
    fork: Fork,
    /// Bytes of short lines on stderr once ready; `fake: flood done` follows.
    flood_bytes: usize,
    /// One line of this many bytes on stderr once ready.
    long_line_bytes: usize,
    /// Memory that it takes and keeps.
    ballast_bytes: usize,
    /// Listens on this port of 127.0.0.1 on SIGTERM, before it drains, as a receiver that starts again would.
    bind_on_sigterm: Option<u16>,
    health: Option<Health>,
    /// The file of a Unix socket that it listens on once started, and removes on no signal.
    unix: Option<PathBuf>,
    /// What the health check that the config declares answers; 200 without it.
    health_status: Option<u16>,
    /// Answers 200 to whatever is sent to the endpoint of the OTLP receiver's `http`, and on SIGTERM ends that as Go's
    /// servers do.
    serve_otlp: bool,
    /// From a request there to its answer.
    otlp_delay_ms: u64,
    /// Lets go of stdout and stderr once ready.
    close_outputs: bool,
    /// SIGSTOPs itself once ready.
    stop_self: bool,
    /// The start, as `FAKE_LOG` counts them, that once ready fills the memory until it is killed: with a file that it
    /// has not mapped, so that to the kernel, which looks for whom to kill, it is as small as ever.
    fill_memory_at: Option<usize>,
    /// The same at every start, so long after it is ready.
    fill_memory_after_ms: Option<u64>,
    /// Once ready it lets nobody of its own user look into it (PR_SET_DUMPABLE), as a security module would.
    close_itself: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Validate {
    #[default]
    Ok,
    Fail,
    /// It is refused a file that the config names.
    Denied,
    Hang,
    /// There is no such command, as in old collectors.
    Missing,
    /// Killed before it has an answer, as when memory runs out.
    Killed,
}

/// What a YAML string cannot hold.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Print {
    /// Every byte there is, many times over.
    Binary,
    /// Truncated and overlong sequences, surrogates, another encoding.
    Latin,
    /// What drives a terminal, and what looks like a log line of the agent's own.
    Escapes,
}

impl Print {
    fn bytes(self) -> Vec<u8> {
        match self {
            Print::Binary => (0..=255).cycle().take(64 * 1024).chain(*b"\n").collect(),
            Print::Latin => b"caf\xe9 \xff\xfe \xc0\xaf \xed\xa0\x80 \xf0\x9f\n".to_vec(),
            Print::Escapes => b"\x1b]0;title\x07\x1b[2J{\"level\":\"error\",\"msg\":\"forged\"}\rforged\x00\n".to_vec(),
        }
    }
}

/// An end of its own accord, by exit status or by signal (`KILL`, `SEGV` …, as kill(1) knows them).
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Death {
    exit: Option<i32>,
    signal: Option<String>,
    /// Since "Everything is ready"; without it, or with 0, the end comes instead of getting ready.
    after_ms: u64,
    /// How many starts end this way, as `FAKE_LOG` counts them; later ones live.
    times: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(from = "Value")]
enum Fork {
    #[default]
    No,
    /// In the collector's process group.
    Group,
    /// In a session of its own: a signal to the group does not reach it.
    Session,
}

impl From<Value> for Fork {
    fn from(value: Value) -> Fork {
        match value {
            Value::Bool(true) => Fork::Group,
            Value::String(word) if word == "session" => Fork::Session,
            _ => Fork::No,
        }
    }
}

/// The health check endpoint. Unless it is given here, one that the config's `health_check` extension declares is
/// served.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Health {
    port: u16,
    #[serde(default = "ok_status")]
    status: u16,
    /// 503 until then, counted from ready.
    #[serde(default)]
    after_ms: u64,
    /// 503 for as long as there is such a file.
    #[serde(default)]
    ill_while: Option<PathBuf>,
    /// From the question to the answer.
    #[serde(default)]
    delay_ms: u64,
    /// Accepts connections and says nothing.
    #[serde(default)]
    is_silent: bool,
    /// An answer that is not HTTP.
    #[serde(default)]
    is_garbled: bool,
}

fn ok_status() -> u16 {
    200
}

/// What SIGTERM is to drain.
static OTLP: Mutex<Option<http::Server>> = Mutex::new(None);
static GOODBYE: OnceLock<String> = OnceLock::new();
static BIND_ON_SIGTERM: OnceLock<u16> = OnceLock::new();
static FDS: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();

fn main() {
    FDS.get_or_init(descriptors);
    let mut args = std::env::args().skip(1).peekable();
    let role = args.next_if(|arg| !arg.starts_with("--")).unwrap_or_else(|| "run".into());
    let mut configs = Vec::new();
    while let Some(arg) = args.next() {
        match arg.split_once('=') {
            _ if arg == "--version" => return version(),
            Some(("--config", file)) => configs.push(file.to_string()),
            None if arg == "--config" => configs.extend(args.next()),
            Some(("--feature-gates" | "--set", _)) => {}
            _ => refuse(&format!("unknown flag: {arg}")),
        }
    }
    match role.as_str() {
        "run" => run(&configs),
        "validate" => validate(&configs),
        "hold" => hold(&configs),
        _ => unknown_command(&role),
    }
}

fn version() {
    record("version", &[]);
    match std::env::var("FAKE_VERSION").as_deref() {
        Ok("hang") => sleep_for_ever(),
        Ok(text) => println!("{text}"),
        Err(_) => println!("otelcol-fake version 0.165.0"),
    }
}

fn validate(configs: &[String]) {
    record("validate", configs);
    let script = match load(configs) {
        Ok((script, _)) => script,
        Err(problem) => refuse(&problem),
    };
    match script.validate {
        Validate::Ok => {}
        Validate::Fail => refuse("fake: scripted to refuse this config"),
        Validate::Denied => refuse("cannot resolve the configuration: open /root/key: permission denied"),
        Validate::Hang => sleep_for_ever(),
        Validate::Missing => unknown_command("validate"),
        Validate::Killed => kill_self("KILL"),
    }
}

fn run(configs: &[String]) {
    let loaded = load(configs);
    let (script, declared) = match loaded {
        Ok(loaded) => loaded,
        Err(problem) => {
            record("run", configs);
            refuse(&problem)
        }
    };
    GOODBYE.get_or_init(|| script.goodbye);
    if let Some(port) = script.bind_on_sigterm {
        BIND_ON_SIGTERM.get_or_init(|| port);
    }
    let _ballast = vec![1u8; script.ballast_bytes];
    let death = match script.signal {
        Some(_) => Death { signal: script.signal, ..Death::default() },
        None => script.start,
    };
    on_sigterm(script.ignore_sigterm, script.drain_ms);
    // From here on a test may send signals: the handler is there.
    let starts = record("run", configs);
    if !script.stderr.is_empty() {
        say(&format!("{}\n", script.stderr.trim_end()));
    }
    if let Some(print) = script.print {
        say_bytes(&print.bytes());
    }
    let holder = match script.fork {
        Fork::No => None,
        Fork::Group => Some("--config=group"),
        Fork::Session => Some("--config=session"),
    };
    let _outlives_us = holder.map(|kind| {
        let program = std::env::current_exe().expect("own path");
        Command::new(program).args(["hold", kind]).spawn().expect("cannot start the grandchild")
    });
    let dies = (death.exit.is_some() || death.signal.is_some()) && death.times.is_none_or(|times| starts <= times);
    if dies && death.after_ms == 0 {
        die(&death);
    }
    sleep(script.ready_after_ms);
    let status = script.health_status.unwrap_or(ok_status());
    let declared_health =
        Health { port: 0, status, after_ms: 0, ill_while: None, delay_ms: 0, is_silent: false, is_garbled: false };
    let health = match (script.health, declared.health) {
        (Some(health), _) => Some((Endpoint::local(health.port), health)),
        (None, endpoint) => endpoint.map(|endpoint| (endpoint, declared_health)),
    };
    let _server = health.map(|(endpoint, health)| serve_health(endpoint, health));
    let bound = |path: &PathBuf| {
        UnixListener::bind(path).unwrap_or_else(|error| {
            let error = if error.kind() == io::ErrorKind::AddrInUse { "address already in use" } else { "refused" };
            refuse(&format!("cannot start pipelines: listen unix {}: bind: {error}", path.display()))
        })
    };
    let _listener = script.unix.as_ref().map(bound);
    if script.serve_otlp {
        let endpoint = declared.otlp;
        let endpoint =
            endpoint.unwrap_or_else(|| refuse("fake: serve_otlp, but the OTLP receiver has no http endpoint"));
        let delay = script.otlp_delay_ms;
        let answer = move |_| {
            sleep(delay);
            http::Reply::json(&json!({}))
        };
        *OTLP.lock().unwrap() = Some(serve(endpoint, "receiver otlp", answer));
    }
    if !script.quiet {
        say("info\tservice/service.go\tEverything is ready. Begin running and processing data.\n");
    }

    let line = format!("{}\n", "flood ".repeat(16));
    for _ in 0..script.flood_bytes.div_ceil(line.len()) {
        say(&line);
    }
    if script.flood_bytes > 0 {
        say("fake: flood done\n");
    }
    if script.long_line_bytes > 0 {
        say(&format!("{}\n", "x".repeat(script.long_line_bytes)));
    }
    if script.close_outputs {
        let null = OpenOptions::new().write(true).open("/dev/null").expect("/dev/null");
        rustix::stdio::dup2_stdout(&null).expect("dup2");
        rustix::stdio::dup2_stderr(&null).expect("dup2");
    }
    if script.close_itself {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    }
    if script.stop_self {
        let _ = kill_process(getpid(), Signal::STOP);
    }
    if script.fill_memory_at == Some(starts) {
        fill_memory();
    }
    if let Some(ms) = script.fill_memory_after_ms {
        sleep(ms);
        fill_memory();
    }
    if dies {
        sleep(death.after_ms);
        die(&death);
    }
    sleep_for_ever();
}

/// The grandchild of `fork`: it does nothing but hold the descriptors that it inherited.
fn hold(kind: &[String]) {
    if kind == ["session"] {
        setsid().expect("setsid");
    }
    on_sigterm(true, 0);
    record("grandchild", &[]);
    // Long enough for any test; an end, in case nobody kills it.
    sleep(120_000);
}

/// What the config itself declares.
struct Declared {
    health: Option<Endpoint>,
    otlp: Option<Endpoint>,
}

/// What it listens on, as Go has it.
#[derive(Clone, Copy)]
struct Endpoint {
    at: SocketAddr,
    v6_only: bool,
}

impl Endpoint {
    fn local(port: u16) -> Endpoint {
        Endpoint { at: (Ipv4Addr::LOCALHOST, port).into(), v6_only: false }
    }

    fn declared(by: &Value) -> Option<Endpoint> {
        let (host, port) = by["endpoint"].as_str()?.rsplit_once(':')?;
        let transport = by["transport"].as_str();
        let ip: IpAddr = match host.trim_matches(['[', ']']) {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            // Unless `tcp4` is asked for, IPv4 and IPv6 at once.
            "" | "0.0.0.0" if transport != Some("tcp4") => Ipv6Addr::UNSPECIFIED.into(),
            host => host.parse().ok()?,
        };
        Some(Endpoint { at: (ip, port.parse().ok()?).into(), v6_only: transport == Some("tcp6") })
    }

    fn listen(self) -> io::Result<TcpListener> {
        let family = if self.at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if self.at.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, self.v6_only)?;
        }
        rustix::net::bind(&socket, &self.at)?;
        rustix::net::listen(&socket, 4096)?;
        Ok(socket.into())
    }
}

/// Reads the configs as the collector does: a later one wins, map by map.
fn load(configs: &[String]) -> Result<(Script, Declared), String> {
    if configs.is_empty() {
        return Err("at least one config flag must be provided".into());
    }
    let mut merged = Value::Mapping(Default::default());
    for path in configs {
        let path = path.strip_prefix("file:").unwrap_or(path);
        let text = fs::read_to_string(path).map_err(|error| format!("unable to read the file {path}: {error}"))?;
        merge(&mut merged, serde_yaml::from_str(&text).map_err(|error| format!("cannot decode {path}: {error}"))?);
    }
    if merged.as_mapping().is_none_or(|map| map.is_empty()) {
        return Err("invalid configuration: empty configuration".into());
    }
    check_references(&merged)?;
    let declared = merged["service"]["extensions"].as_sequence();
    let declared =
        declared.into_iter().flatten().filter_map(Value::as_str).find(|name| name.starts_with("health_check"));
    let health = declared.and_then(|name| Endpoint::declared(&merged["extensions"][name]));
    let declared = Declared { health, otlp: Endpoint::declared(&merged["receivers"]["otlp"]["protocols"]["http"]) };
    let script = merged.get("fake").cloned().map_or(Ok(Script::default()), serde_yaml::from_value);
    Ok((script.map_err(|error| format!("invalid configuration: fake: {error}"))?, declared))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// The mistake that the collector's own `validate` sees most often.
fn check_references(config: &Value) -> Result<(), String> {
    for (pipeline, parts) in config["service"]["pipelines"].as_mapping().into_iter().flatten() {
        for kind in ["receivers", "processors", "exporters"] {
            for name in parts[kind].as_sequence().into_iter().flatten().filter_map(Value::as_str) {
                if config[kind].get(name).is_none() {
                    let (pipeline, kind) = (pipeline.as_str().unwrap_or_default(), kind.trim_end_matches('s'));
                    return Err(format!(
                        "invalid configuration: service::pipelines::{pipeline}: references {kind} {name:?} which is not configured"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// 0 if it is another pid namespace's, for which getpgrp(2) of the library has no value.
fn process_group() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(2).and_then(|group| group.parse().ok()).unwrap_or_default()
}

/// Tells the tests about this start, on one line: `role` (`run`, `validate`, `version`, `grandchild`), process ids,
/// configs with their text, arguments, directory, environment, open descriptors and the limit on them. Returns how many
/// `run` lines there are.
fn record(role: &str, configs: &[String]) -> usize {
    let Ok(path) = std::env::var("FAKE_LOG") else { return 0 };
    let pid = |pid: rustix::process::Pid| pid.as_raw_nonzero().get();
    let texts: Vec<String> = configs.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    let line = json!({
        "role": role,
        "pid": pid(getpid()),
        "ppid": getppid().map_or(0, pid),
        "pgid": process_group(),
        "configs": configs,
        "texts": texts,
        "argv": std::env::args().collect::<Vec<_>>(),
        "cwd": std::env::current_dir().unwrap_or_default(),
        "env": std::env::vars().collect::<BTreeMap<_, _>>(),
        "fds": FDS.get(),
        "open_files": getrlimit(Resource::Nofile).current,
        "rights": rights(),
    });
    // One write with O_APPEND: lines of several processes do not mix.
    let mut log = OpenOptions::new().append(true).create(true).open(&path).expect("FAKE_LOG");
    log.write_all(format!("{line}\n").as_bytes()).expect("FAKE_LOG");
    let starts = fs::read_to_string(&path).unwrap_or_default();
    starts.lines().filter(|line| line.contains(r#""role":"run""#)).count()
}

/// Users, groups and capabilities, as proc_pid_status(5) words them.
fn rights() -> BTreeMap<String, String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pairs = status.lines().filter_map(|line| line.split_once(':'));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let named = pairs.map(|(name, text)| (name.to_string(), words(text)));
    named
        .filter(|(name, _)| {
            name.starts_with("Cap") || ["Uid", "Gid", "Groups", "NoNewPrivs", "NSsid"].contains(&&**name)
        })
        .collect()
}

/// What each open descriptor refers to, by its number; called before this program has opened any.
fn descriptors() -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let named =
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, fs::read_link(entry.path()).ok()?)));
    // The one that reads the list is no part of it.
    named.filter(|(_, target)| !target.ends_with("fd")).collect()
}

fn serve_health(endpoint: Endpoint, health: Health) -> http::Server {
    let ready_at = std::time::Instant::now() + Duration::from_millis(health.after_ms);
    serve(endpoint, "extension health_check", move |_| {
        sleep(health.delay_ms);
        if health.is_silent {
            return http::Reply::Hang;
        }
        if health.is_garbled {
            return http::Reply::Raw(b"SSH-2.0-fake\r\n".to_vec());
        }
        let is_ill =
            std::time::Instant::now() < ready_at || health.ill_while.as_ref().is_some_and(|file| file.exists());
        let status = if is_ill { 503 } else { health.status };
        http::Reply::status(status, &[], format!("status {status}"))
    })
}

fn serve(
    endpoint: Endpoint,
    what: &str,
    answer: impl Fn(http::Request) -> http::Reply + Send + Sync + 'static,
) -> http::Server {
    let server = endpoint.listen().and_then(|listener| http::Server::of(listener, None, answer));
    server.unwrap_or_else(|error| refuse(&format!("cannot start {what}: listen tcp {}: {error}", endpoint.at)))
}

fn on_sigterm(ignore: bool, drain_ms: u64) {
    let handler = move || {
        if !ignore {
            if let Some(server) = OTLP.lock().unwrap().take() {
                server.drain();
            }
            if let Some(port) = BIND_ON_SIGTERM.get() {
                let bound = TcpListener::bind(("127.0.0.1", *port));
                say(&format!("fake: bound on SIGTERM: {}\n", bound.is_ok()));
            }
            sleep(drain_ms);
            if let Some(text) = GOODBYE.get().filter(|text| !text.is_empty()) {
                say(&format!("{text}\n"));
            }
            // Needs the output, as the real one does: it hangs while nobody reads a full pipe.
            say("info\tservice/service.go\tShutdown complete.\n");
            exit(0);
        }
    };
    ctrlc::set_handler(handler).expect("signal handler");
}

/// Of a host without a limit it takes no more than this.
fn fill_memory() {
    let file = memfd_create("memory", MemfdFlags::CLOEXEC).expect("memfd_create");
    let mut file = fs::File::from(file);
    for _ in 0..256 {
        file.write_all(&[0; 1 << 20]).expect("memory");
    }
    refuse("fake: 256 MiB are not all the memory there is");
}

fn die(death: &Death) -> ! {
    match &death.signal {
        Some(name) => kill_self(name),
        None => exit(death.exit.unwrap_or(1)),
    }
}

/// By way of a shell in this process's place: an exec takes away the handlers that Rust and we have set, and `exec`
/// gives SIGPIPE its meaning back.
fn kill_self(name: &str) -> ! {
    let script = format!("ulimit -c 0; kill -s {name} $$");
    let error = Command::new("/bin/sh").args(["-c", &script]).exec();
    refuse(&format!("fake: cannot die by {name}: {error}"))
}

/// The collector prints an error twice: once by its logger or cobra, once by its main.
fn refuse(problem: &str) -> ! {
    say(&format!("Error: {problem}\n2026/01/01 00:00:00 collector server run finished with error: {problem}\n"));
    exit(1)
}

fn unknown_command(name: &str) -> ! {
    say(&format!("Error: unknown command {name:?} for \"otelcol-fake\"\nRun 'otelcol-fake --help' for usage.\n"));
    exit(1)
}

/// Writes to stderr; without a reader it ends, where the real one dies of SIGPIPE.
fn say(text: &str) {
    say_bytes(text.as_bytes());
}

fn say_bytes(bytes: &[u8]) {
    if io::stderr().write_all(bytes).is_err() {
        exit(141);
    }
}

fn sleep(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

fn sleep_for_ever() -> ! {
    loop {
        thread::park();
    }
}
