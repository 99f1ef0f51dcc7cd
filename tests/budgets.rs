//! What the agent may cost (DESIGN.md, "Budgets"), measured on the binary under test and printed as a table.
//!
//! The limits hold for what ships, so on a debug build those on size and memory are printed only, and the table says
//! so. Times are always printed only: a busy host must not fail a build.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::{bin, needs, process, wait};

const KIB: f64 = 1024.0;
/// Enough for whatever the agent keeps from one poll to the next to be there.
const POLLS: usize = 5;

const BINARY: f64 = 2816.0;
const PRIVATE: f64 = 384.0;
/// Where the kernel maps whole folios of the page cache, from Linux 6.18 on, it is nearly all of the binary.
const RESIDENT: f64 = 2816.0;
const THREADS: f64 = 2.0;
const SWITCHES: f64 = 0.0;
const WRITTEN: f64 = 0.0;
const RESTART: f64 = 5.0;

/// The same by the rows of `tests/bench/figures`, which README.md has.
pub const PROMISED: [(&str, f64); 7] = [
    ("size of the static binary", BINARY),
    ("private memory (RssAnon) after 1,000 checks over TLS", PRIVATE),
    ("resident memory (RSS) after 1,000 checks over TLS", RESIDENT),
    ("threads", THREADS),
    ("context switches in 10 s between two checks", SWITCHES),
    ("bytes that an unchanged check writes to a disk", WRITTEN),
    ("collector killed to the next one's `main`", RESTART),
];

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// Holds for any build.
    Always,
    /// Holds for what ships.
    Shipped,
    /// For people to look at.
    Never,
}

/// The rows of one test; printed when it ends, also by a panic, and past the capture of output.
struct Table {
    text: String,
    broken: Vec<String>,
}

impl Table {
    fn new(title: &str) -> Table {
        Table { text: format!("\nbudgets: {title}, {}\n", bin::kmagent().display()), broken: Vec::new() }
    }

    fn row(&mut self, what: &str, measured: f64, unit: &str, limit: f64, rule: Rule) {
        let asserted = match rule {
            Rule::Always => true,
            Rule::Shipped => is_shipped(),
            Rule::Never => false,
        };
        let verdict = match (measured <= limit, asserted) {
            (true, true) => "ok",
            (false, true) => "BROKEN",
            (true, false) => "ok (not asserted)",
            (false, false) if rule == Rule::Shipped => "NOT ASSERTED: this is not the binary that ships",
            (false, false) => "over (not asserted)",
        };
        let limit = if limit.is_finite() { format!("limit {limit:>7.1}  {verdict}") } else { String::new() };
        let line = format!("  {what:<58} {measured:>9.1} {unit:<4} {limit}").trim_end().to_string() + "\n";
        self.text.push_str(&line);
        if verdict == "BROKEN" {
            self.broken.push(line);
        }
    }

    fn check(self) {
        assert!(self.broken.is_empty(), "budgets are broken:\n{}", self.broken.concat());
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let _ = std::io::stderr().write_all(self.text.as_bytes());
    }
}

/// `KMAGENT_BIN` names what ships; without it the binary is cargo's debug build.
fn is_shipped() -> bool {
    std::env::var_os("KMAGENT_BIN").is_some()
}

/// A config of the size that hosts have.
fn config() -> Value {
    let scrapers: Vec<_> = (0..40).map(|number| json!({"name": format!("scraper-{number}"), "interval": 60})).collect();
    json!({"receivers": {"otlp": {"protocols": {"http": {}}}}, "fake": {}, "scrapers": scrapers})
}

/// An agent whose active config this is already, logs what a host's would, and polls at that interval.
fn agent(interval: &str) -> Builder {
    let config = serde_yaml::to_string(&config()).unwrap();
    Agent::builder().config(config).setting("log-level", "info").setting("config-check-interval", interval)
}

fn api() -> Api {
    let api = Api::tls();
    api.answer(json!({"restart_required": false, "config": config()}));
    api
}

/// Waits until no thread of the agent has run for a while, and returns their context switches so far.
fn settle(agent: &Agent) -> u64 {
    agent.wait_for("an idle agent", || {
        let before = process::context_switches(agent.pid());
        let idle = wait::poll_for(Duration::from_millis(200), || {
            (process::context_switches(agent.pid()) != before).then_some(())
        });
        idle.is_none().then_some(before)
    })
}

/// KiB, from smaps_rollup: unlike `/proc/<pid>/status` it counts instead of adding up per-CPU estimates.
fn memory(agent: &Agent, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", agent.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_else(|| panic!("{field}: {text}"))
}

fn memory_rows(table: &mut Table, agent: &Agent, after: &str) {
    settle(agent);
    table.row(&format!("private memory (RssAnon), {after}"), memory(agent, "Anonymous"), "KiB", PRIVATE, Rule::Shipped);
    table.row(&format!("resident memory (RSS), {after}"), memory(agent, "Rss"), "KiB", RESIDENT, Rule::Shipped);
}

#[test]
fn size_of_the_binary() {
    let mut table = Table::new("size");
    let size = fs::metadata(bin::kmagent()).unwrap().len() as f64;
    table.row("the binary", size / KIB, "KiB", BINARY, Rule::Shipped);
    table.check();
}

#[test]
fn memory_threads_and_writes_of_an_agent_that_polls() {
    if !needs::root() {
        return;
    }
    let mut table = Table::new("an agent that polls over TLS");
    let api = api();
    let agent = agent("1s").api(&api).spawn();
    agent.wait_collector();
    // The probation and what it writes is over.
    agent.wait_log("the promotion", |line| line.msg() == "config promoted");
    api.wait_for_next();
    settle(&agent);

    let (files, io, seen) = (stamps(agent.dir()), process::io(agent.pid()), api.requests().len());
    wait::wait_until("unchanged polls", || api.requests().len() >= seen + POLLS);
    settle(&agent);
    let polls = (api.requests().len() - seen) as u64;
    let now = process::io(agent.pid());
    // Sockets are sent to with send(2), which is not counted; waking the supervisor takes 8 bytes to an eventfd(2).
    let written = (now["wchar"] - io["wchar"]).saturating_sub(8 * polls);
    table.row("bytes written by unchanged polls, sockets apart", written as f64, "B", WRITTEN, Rule::Always);
    let stored = now["write_bytes"] - io["write_bytes"];
    table.row("bytes that unchanged polls sent to a disk", stored as f64, "B", WRITTEN, Rule::Always);
    assert_eq!(stamps(agent.dir()), files, "unchanged polls touched files");

    memory_rows(&mut table, &agent, &format!("{} polls", api.requests().len()));
    table.row("threads", process::tasks(agent.pid()).len() as f64, "", THREADS, Rule::Always);

    // The negative control: what is counted does count.
    let (io, text) = (process::io(agent.pid()), "a new one");
    api.answer_config(json!({"fake": {}, "receivers": text}));
    agent.wait_until("the new config", || agent.config()["receivers"] == text);
    assert!(
        process::io(agent.pid())["wchar"] > io["wchar"] + text.len() as u64,
        "writes are not counted on this kernel"
    );
    table.check();
}

/// The built-in roots: the handshake fails, since no public authority vouches for the test's server, but it takes as
/// much.
#[test]
fn memory_with_the_built_in_roots() {
    if !needs::root() {
        return;
    }
    let mut table = Table::new("an agent whose polls end in a refused TLS handshake");
    let api = api();
    let agent = agent("1s").api(&api).without("ca-file").spawn();
    agent.wait_collector();
    for _ in 0..POLLS {
        assert_eq!(agent.run(["--check"]).code, Some(75));
    }
    memory_rows(&mut table, &agent, "built-in roots");
    table.check();
}

#[test]
fn an_idle_agent_does_not_wake_up() {
    if !needs::root() {
        return;
    }
    let mut table = Table::new("an agent between two polls");
    let api = api();
    let agent = agent("168h").api(&api).spawn();
    agent.wait_log("the promotion", |line| line.msg() == "config promoted");
    for _ in 0..POLLS {
        assert_eq!(agent.run(["--check"]).code, Some(0));
    }
    let before = settle(&agent);
    let seen = api.requests().len();
    let span = Duration::from_secs(5);
    // In the test's own time: watching the agent does not wake it.
    wait::holds_for("no poll", span, || api.requests().len() == seen);
    let woken = process::context_switches(agent.pid()) - before;
    table.row("context switches of all threads within 5 s", woken as f64, "", SWITCHES, Rule::Always);
    memory_rows(&mut table, &agent, &format!("{seen} polls"));

    // The negative control: what is counted does count.
    assert_eq!(agent.run(["--check"]).code, Some(0));
    assert!(settle(&agent) > before, "a poll without a context switch: they are not counted on this kernel");
    table.check();
}

#[test]
fn times() {
    let mut table = Table::new("times, medians");
    let api = api();
    let one_shot = agent("168h").api(&api).build();
    let mut checks: Vec<f64> = (0..11)
        .map(|_| {
            let began_at = Instant::now();
            assert_eq!(one_shot.command(["--check"]).status().unwrap().code(), Some(0));
            began_at.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    // No limit of its own: it is compared with curl's by the benchmarks.
    table.row("--check with nothing new, over TLS", median(&mut checks), "ms", f64::INFINITY, Rule::Never);

    // Only the first exit in ten minutes is followed by a start without a delay: an agent for each.
    let mut restarts: Vec<f64> = (0..5).map(|_| restart(&agent("168h").api(&api).spawn())).collect();
    table.row("collector killed -> new one executed", median(&mut restarts), "ms", RESTART, Rule::Never);
    table.check();
}

/// Kills a collector that has been up for `min-uptime`; returns the time until another program runs in its place.
fn restart(agent: &Agent) -> f64 {
    let old = agent.wait_collector();
    let min_uptime = Duration::from_millis(1100);
    wait::holds_for("the collector lives", min_uptime, || process::alive(old));
    let program = fs::read_link(format!("/proc/{old}/exe")).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", agent.pid());
    let killed_at = Instant::now();
    process::signal(old, rustix::process::Signal::KILL);
    // Without a pause: that of the usual waiting is as long as what is measured.
    while killed_at.elapsed() < wait::DEADLINE {
        let text = fs::read_to_string(&children).unwrap_or_default();
        let mut pids = text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()).filter(|&pid| pid != old);
        if pids.any(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)) {
            return killed_at.elapsed().as_secs_f64() * 1e3;
        }
    }
    panic!("no new collector");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Path, inode, size and time of the last change of everything below `dir`.
fn stamps(dir: &Path) -> Vec<(String, u64, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        found.push((entry.path().display().to_string(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()));
        if meta.is_dir() {
            found.extend(stamps(&entry.path()));
        }
    }
    found.sort();
    found
}
