//! The collectors that live, and how one is started, watched, signalled and asked for its health.
//!
//! It reports what it sees; what a start, an exit or an answer means is the core's business.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::collector::Collector;
use crate::collector::config_facts::ConfigFacts;
use crate::collector::handover::binds::{BindWatch, Served};
use crate::collector::handover::privileges;
use crate::collector::health::Probe;
use crate::collector::log_lines::{LogRate, Records};
use crate::collector::orphans::Recorder;
use crate::collector::process::{Binds, Process};
use crate::collector::socket_files::{MAX_FILES, SocketFile};
use crate::config::inspect::HealthCheck;
use crate::core::Uptime;
use crate::core::event::{ChildId, Health};
use crate::error::Result;
use crate::os::files::{self, FileId, SeenFile};
use crate::os::process_id::ProcessId;
use crate::os::wait::Waitable;
use crate::store::Store;

/// What a collector logs, at level info, when the last of its components is started.
const READY: &[u8] = b"Everything is ready.";

pub(super) struct LiveCollector {
    pub(super) child: ChildId,
    pub(super) process: Process,
    pub(super) started_at: Uptime,
    /// The config that it was started with; `None` of one that is none, or could not be read.
    pub(super) generation: Option<u64>,
    pub(super) facts: Arc<ConfigFacts>,
    /// It has said that everything is started.
    pub(super) is_ready: bool,
    /// Its file has rights of its own, for which the kernel forgets that it is to end with the agent.
    is_privileged: bool,
    is_script: bool,
    /// Its latest bind(2).
    pub(super) bound_at: Uptime,
    /// What it prints, for the log.
    records: Records,
    /// That it has bound.
    pub(super) sockets: Vec<SocketFile>,
}

impl LiveCollector {
    /// Whether it does not end with the agent. The kernel ends a script, but not the collector that it waits for.
    pub(super) fn outlives_agent(&self) -> bool {
        self.is_privileged || self.process.outlives_parent() || self.is_script && self.process.has_children()
    }
}

/// A collector that has ended, and how.
pub(super) struct Exited {
    pub(super) collector: LiveCollector,
    pub(super) status: String,
    /// With status 0.
    pub(super) is_success: bool,
    /// What could bind and goes on.
    pub(super) has_left: bool,
}

pub(super) struct Collectors {
    /// The program and its arguments.
    collector: Collector,
    /// Whether they are to be started so that one can be handed over from.
    binds: Binds,
    pub(super) recorder: Recorder,
    log_rate: LogRate,
    /// Oldest first; two during a hand-over.
    live: Vec<LiveCollector>,
    /// What those that have ended have left behind, as long as it could bind.
    stale: Vec<BindWatch>,
    probe: Option<(ChildId, Probe)>,
    starts: u64,
    /// The program that was started last.
    started_program: Option<FileId>,
    /// The overlay that it was started with, if there was to be one.
    started_overlay: Option<SeenFile>,
    /// Where that is.
    pub(super) program_path: Option<PathBuf>,
}

impl Collectors {
    pub(super) fn new(collector: Collector, binds: Binds, recorder: Recorder, log_rate: LogRate) -> Collectors {
        Collectors {
            collector,
            binds,
            recorder,
            log_rate,
            live: Vec::new(),
            stale: Vec::new(),
            probe: None,
            starts: 0,
            started_program: None,
            started_overlay: None,
            program_path: None,
        }
    }

    /// For those that are started from now on.
    pub(super) fn run_with(&mut self, collector: Collector, binds: Binds) {
        self.collector = collector;
        self.binds = binds;
    }

    // ---- Starting.

    /// Starts one on the active config, which is this generation.
    ///
    /// # Errors
    /// The program cannot be run.
    pub(super) fn spawn(
        &mut self,
        store: &Store,
        generation: Option<u64>,
        facts: Arc<ConfigFacts>,
        now: Uptime,
    ) -> Result<&LiveCollector> {
        self.program_path = self.collector.find().ok();
        self.started_program = self.program_path.as_deref().and_then(FileId::of);
        self.started_overlay = self.collector.local_config().map(SeenFile::now);
        let process = self.collector.spawn(store.config(), self.binds.clone())?;
        let child = ChildId(self.starts);
        self.starts += 1;
        log::info!(pid = process.id(); "collector started");
        let index = self.live.len();
        let is_privileged = self.program_path.as_deref().is_some_and(privileges::outlives_parent);
        if is_privileged {
            log::info!("collector outlives a killed agent: its file has capabilities or set-id bits");
        }
        let is_ready = false;
        self.live.push(LiveCollector {
            child,
            process,
            started_at: now,
            generation,
            facts,
            is_ready,
            is_privileged,
            is_script: self.program_path.as_deref().is_some_and(files::is_script),
            bound_at: now,
            records: Records::default(),
            sockets: Vec::new(),
        });
        self.record();
        Ok(&self.live[index])
    }

    fn record(&mut self) {
        let sockets = self.live.iter().flat_map(|live| live.sockets.iter().cloned()).take(MAX_FILES).collect();
        self.recorder.record(self.live.iter().filter_map(|live| live.process.process_id()), sockets);
    }

    /// True if the record of those that live was missing.
    pub(super) fn restore_record(&mut self) -> bool {
        let is_missing = !self.live.is_empty() && !self.recorder.is_recorded();
        if is_missing {
            self.record();
        }
        is_missing
    }

    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    /// All starts but the first.
    pub(super) fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    pub(super) fn started_program(&self) -> Option<FileId> {
        self.started_program
    }

    pub(super) fn started_overlay(&self) -> Option<SeenFile> {
        self.started_overlay.clone()
    }

    /// The program and its arguments.
    pub(super) fn collector(&self) -> &Collector {
        &self.collector
    }

    // ---- Looking at those that live.

    pub(super) fn find(&self, child: ChildId) -> Option<&LiveCollector> {
        self.live.iter().find(|live| live.child == child)
    }

    /// The one that was started last.
    pub(super) fn newest(&self) -> Option<&LiveCollector> {
        self.live.last()
    }

    /// `None` while none or two live.
    pub(super) fn only(&self) -> Option<&LiveCollector> {
        match self.live.as_slice() {
            [only] => Some(only),
            [] | [_, ..] => None,
        }
    }

    /// The other one and `child`, while two live.
    pub(super) fn pair(&self, child: ChildId) -> Option<(&LiveCollector, &LiveCollector)> {
        let other = self.live.iter().find(|live| live.child != child)?;
        Some((other, self.find(child)?))
    }

    /// The process that was started first, of those that live.
    pub(super) fn oldest(&self) -> Option<ProcessId> {
        self.live.first().and_then(|live| live.process.process_id())
    }

    /// Whether something of one that has ended lives.
    pub(super) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LiveCollector> {
        self.live.iter()
    }

    /// The process id of one that is suspended by a signal, if there is such a one.
    pub(super) fn suspended(&self) -> Option<u32> {
        self.live.iter().find(|live| live.process.is_suspended()).map(|live| live.process.id())
    }

    // ---- Waiting and watching.

    pub(super) fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        let processes = self.live.iter().flat_map(|live| live.process.sources());
        let processes = processes.chain(self.stale.iter().map(BindWatch::waitable));
        processes.chain(self.probe.as_ref().map(|(_, probe)| probe.waitable()))
    }

    /// How often to look for exits, where nothing reports them.
    pub(super) fn check_interval(&self) -> Option<Duration> {
        self.live.iter().filter_map(|live| live.process.check_interval()).min()
    }

    /// When something of their output is to be logged.
    pub(super) fn log_deadline(&self) -> Option<Uptime> {
        self.live.iter().filter_map(|live| live.records.deadline()).chain(self.log_rate.deadline()).min()
    }

    /// Serves what they wait for, passes on their output, and takes out those that have ended.
    pub(super) fn watch(&mut self, now: Uptime) -> Vec<Exited> {
        self.stale.retain_mut(|left| left.serve(&[]) != Served::Ended);
        let is_alone = self.live.len() == 1;
        let mut exited = Vec::new();
        let mut index = 0;
        let mut has_new_sockets = false;
        while index < self.live.len() {
            let (before, rest) = self.live.split_at_mut(index);
            let Some((live, after)) = rest.split_first_mut() else { break };
            let partners: Vec<_> = before.iter().chain(&*after).filter_map(|it| it.process.binds().ok()).collect();
            if live.process.serve_binds(&partners) {
                live.bound_at = now;
            }
            let pass = &mut |level: log::Level, record: &[u8]| self.log_rate.pass(level, record, now);
            let emit = &mut |line: &[u8]| {
                live.is_ready = live.is_ready || line.windows(READY.len()).any(|part| part == READY);
                live.records.add(line, now, pass);
            };
            live.process.read_output(emit);
            let sockets = live.process.socket_files();
            has_new_sockets |= !sockets.is_empty();
            live.sockets.extend(sockets);
            let (status, is_success) = match live.process.try_reap(is_alone, emit) {
                Ok(None) => {
                    if live.records.deadline().is_some_and(|deadline| now >= deadline) {
                        live.records.end(pass);
                    }
                    index += 1;
                    continue;
                }
                Ok(Some(status)) => (live.process.describe(status), status.success()),
                Err(error) => (format!("cannot be waited for: {error}"), false),
            };
            live.records.end(pass);
            self.log_rate.collector_ended();
            let mut collector = self.live.remove(index);
            let left = collector.process.take_left();
            let has_left = left.is_some();
            self.stale.extend(left);
            self.probe.take_if(|(probed, _)| *probed == collector.child);
            exited.push(Exited { collector, status, is_success, has_left });
        }
        self.log_rate.end_minute(now);
        if has_new_sockets {
            self.record();
        }
        exited
    }

    /// Does this to a collector's process, if it lives.
    pub(super) fn signal(&mut self, child: ChildId, signal: fn(&mut Process)) {
        if let Some(live) = self.live.iter_mut().find(|live| live.child == child) {
            signal(&mut live.process);
        }
    }

    // ---- Asking for health.

    /// Begins to ask; the answer is here if there is nothing to wait for.
    pub(super) fn begin_probe(&mut self, child: ChildId, check: Option<&HealthCheck>) -> Option<Health> {
        match check.and_then(Probe::begin) {
            None => Some(Health::Healthy),
            Some(Err(problem)) => Some(Health::Unhealthy(problem)),
            Some(Ok(probe)) => {
                self.probe = Some((child, probe));
                None
            }
        }
    }

    /// The answer, once it is there.
    pub(super) fn finish_probe(&mut self) -> Option<(ChildId, Health)> {
        let (child, probe) = self.probe.as_mut()?;
        let health = probe.advance()?.map_or_else(Health::Unhealthy, |()| Health::Healthy);
        let child = *child;
        self.probe = None;
        Some((child, health))
    }
}
