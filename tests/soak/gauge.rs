//! What an agent holds while nothing happens: read again and again, it must stay what it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::process;
use crate::support::wait::{DEADLINE, poll_for};

/// No thread of the agent has run for this long. Polls are a second apart.
const QUIET: Duration = Duration::from_millis(200);
/// What the allocator may take more than at first, in KiB, for the order in which things come and go: measured, up to
/// 76 in an hour or ten thousand crashes, nearly all of it in the first hundred.
const SLACK: u64 = 128;
/// The same between the first half of many looks and the second: a leak of 60 bytes in each of a thousand changes is
/// above it.
const LATER_SLACK: u64 = 32;
/// The newest five, the newest confirmed one, and the newest rejected one.
const GENERATIONS: usize = 7;
/// Fewer looks have no halves to compare.
const MANY: usize = 8;

/// All looks at one agent.
#[derive(Default)]
pub struct Gauge(Vec<Reading>);

impl Gauge {
    /// Waits for a moment when nothing happens, prints what there is, and asserts that it is no more than at the first
    /// look.
    #[track_caller]
    pub fn look(&mut self, agent: &Agent, title: &str) {
        self.look_quietly(agent);
        super::say(&format!("{title}: {}", self.0.last().unwrap()));
    }

    #[track_caller]
    pub fn look_quietly(&mut self, agent: &Agent) {
        let reading = Reading::of(agent, self.0.first());
        if let Some(first) = self.0.first() {
            assert!(reading.anonymous <= first.anonymous + SLACK, "memory grew: {reading}, at first {first}");
            assert_eq!(reading.but_memory(), first.but_memory());
        }
        self.0.push(reading);
    }

    /// Asserts that memory did not go on growing.
    #[track_caller]
    pub fn assert_level(&self) {
        if self.0.len() < MANY {
            return;
        }
        let highest = |readings: &[Reading]| readings.iter().map(|reading| reading.anonymous).max().unwrap();
        let (earlier, later) = self.0.split_at(self.0.len() / 2);
        let (earlier, later) = (highest(earlier), highest(later));
        assert!(later <= earlier + LATER_SLACK, "memory goes on growing: at most {earlier} KiB, then {later} KiB");
    }
}

/// One look at an agent and its directory.
#[derive(Clone, Debug, PartialEq)]
struct Reading {
    /// What each descriptor refers to, without numbers, and how many there are of it.
    descriptors: BTreeMap<String, usize>,
    threads: usize,
    /// Live children, by their programs' names, and dead ones that nobody has waited for.
    children: Vec<String>,
    zombies: usize,
    /// Private memory, in KiB.
    anonymous: u64,
    /// Each file and directory but for the generations, whose names go on.
    files: Vec<String>,
}

impl Reading {
    /// Waits for a moment when nothing happens and there is no more than `usual`; what is more for as long as that
    /// lasts is growth. On a busy host a poll takes its time, and so does the end of a collector: its first thread is a
    /// zombie until its last one has ended, which the agent learns only then.
    #[track_caller]
    fn of(agent: &Agent, usual: Option<&Reading>) -> Reading {
        let pid = agent.pid();
        let mut latest: Option<Reading> = None;
        let steady = poll_for(DEADLINE, || {
            let before = process::context_switches(pid);
            let reading = Reading::now(agent);
            let has_run = poll_for(QUIET, || (process::context_switches(pid) != before).then_some(()));
            let former = latest.replace(reading.clone());
            // At first what is usual is what is seen twice.
            let usual = usual.or(former.as_ref().filter(|former| former.zombies == 0));
            let is_usual = usual.is_some_and(|usual| reading.but_memory() == usual.but_memory());
            (has_run.is_none() && is_usual).then_some(reading)
        });
        steady.or(latest).unwrap()
    }

    fn but_memory(&self) -> Reading {
        Reading { anonymous: 0, ..self.clone() }
    }

    fn now(agent: &Agent) -> Reading {
        let pid = agent.pid();
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
            *descriptors.entry(target.replace(|char: char| char.is_ascii_digit(), "")).or_default() += 1;
        }
        let threads = process::tasks(pid);
        let (mut children, mut zombies) = (Vec::new(), 0);
        for (thread, _) in &threads {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
            for status in text.split_whitespace().filter_map(|child| process::status(child.parse().ok()?)) {
                if status.state() == 'Z' { zombies += 1 } else { children.push(status.field("Name").to_string()) }
            }
        }
        let (kept, mut files): (Vec<String>, Vec<String>) =
            names(agent.dir(), "").into_iter().partition(|name| name.starts_with("state/generations/"));
        assert!(kept.len() <= GENERATIONS, "{kept:?}");
        files.sort();
        Reading { descriptors, threads: threads.len(), children, zombies, anonymous: anonymous(pid), files }
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let descriptors: usize = self.descriptors.values().sum();
        let Reading { threads, zombies, anonymous, .. } = self;
        let (children, files) = (self.children.len(), self.files.len());
        write!(
            f,
            "descriptors {descriptors:>2} threads {threads} children {children} zombies {zombies} files {files:>2} RssAnon {anonymous:>4} KiB"
        )
    }
}

/// From smaps_rollup: unlike `/proc/<pid>/status` it counts instead of adding up per-CPU estimates.
pub fn anonymous(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}

/// All that is below `dir`, by paths relative to it.
fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(names(&entry.path(), &format!("{name}/")));
        }
        found.push(name);
    }
    found
}
