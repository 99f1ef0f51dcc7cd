//! The collectors that live, and how one is started, watched, signalled and asked for its health.
//!
//! It reports what it sees; what a start, an exit or an answer means is the core's business.

use std::time::Duration;

use crate::collector::Collector;
use crate::collector::health::Probe;
use crate::collector::orphans::Recorder;
use crate::collector::process::{Binds, Process};
use crate::config::inspect;
use crate::config::value::Value;
use crate::core::Uptime;
use crate::core::event::{ChildId, Health};
use crate::error::Result;
use crate::os::files::FileId;
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
    /// It has said that everything is started.
    pub(super) is_ready: bool,
    /// It does not end with the agent.
    pub(super) outlives_agent: bool,
    /// Its latest bind(2).
    pub(super) bound_at: Uptime,
}

/// A collector that has ended, and how.
pub(super) struct Exited {
    pub(super) collector: LiveCollector,
    pub(super) status: String,
}

pub(super) struct Collectors {
    /// The program and its arguments.
    collector: Collector,
    /// Whether they are to be started so that one can be handed over from.
    binds: Binds,
    pub(super) recorder: Recorder,
    /// Oldest first; two during a hand-over.
    live: Vec<LiveCollector>,
    probe: Option<(ChildId, Probe)>,
    starts: u64,
    /// The program that was started last.
    started_program: Option<FileId>,
}

impl Collectors {
    pub(super) fn new(collector: Collector, binds: Binds, recorder: Recorder) -> Collectors {
        Collectors { collector, binds, recorder, live: Vec::new(), probe: None, starts: 0, started_program: None }
    }

    // ---- Starting.

    /// Starts one on the active config, which is this generation.
    ///
    /// # Errors
    /// The program cannot be run.
    pub(super) fn spawn(&mut self, store: &Store, generation: Option<u64>, now: Uptime) -> Result<&LiveCollector> {
        self.started_program = self.collector.file_id();
        let process = self.collector.spawn(store.config(), self.binds.clone())?;
        let child = ChildId(self.starts);
        self.starts += 1;
        log::info!(pid = process.id(); "collector started");
        let index = self.live.len();
        let outlives_agent = self.collector.outlives_agent();
        if outlives_agent {
            log::info!("collector outlives a killed agent: its file has capabilities or set-id bits");
        }
        let is_ready = false;
        self.live.push(LiveCollector {
            child,
            process,
            started_at: now,
            generation,
            is_ready,
            outlives_agent,
            bound_at: now,
        });
        self.recorder.record(self.live.iter().filter_map(|live| live.process.process_id()));
        Ok(&self.live[index])
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

    /// The program and its arguments.
    pub(super) fn collector(&self) -> &Collector {
        &self.collector
    }

    /// The config that is laid over the active one, if there is to be one.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn overlay(&self, store: &Store) -> Result<Option<Value>> {
        self.collector.local_config().map(|path| store.read_overlay(path)).transpose()
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
        processes.chain(self.probe.as_ref().map(|(_, probe)| probe.waitable()))
    }

    /// How often to look for exits, where nothing reports them.
    pub(super) fn check_interval(&self) -> Option<Duration> {
        self.live.iter().filter_map(|live| live.process.check_interval()).min()
    }

    /// Serves what they wait for, passes on their output, and takes out those that have ended.
    pub(super) fn watch(&mut self, now: Uptime) -> Vec<Exited> {
        let mut exited = Vec::new();
        let mut index = 0;
        while index < self.live.len() {
            let (before, rest) = self.live.split_at_mut(index);
            let Some((live, after)) = rest.split_first_mut() else { break };
            let partners: Vec<_> = before.iter().chain(&*after).filter_map(|it| it.process.binds().ok()).collect();
            if live.process.serve_binds(&partners) {
                live.bound_at = now;
            }
            let emit = &mut |line: &[u8]| {
                live.is_ready = live.is_ready || line.windows(READY.len()).any(|part| part == READY);
                crate::log::collector_line(line);
            };
            live.process.read_output(emit);
            let status = match live.process.try_reap(emit) {
                Ok(None) => {
                    index += 1;
                    continue;
                }
                Ok(Some(status)) => live.process.describe(status),
                Err(error) => format!("cannot be waited for: {error}"),
            };
            let collector = self.live.remove(index);
            self.probe.take_if(|(probed, _)| *probed == collector.child);
            exited.push(Exited { collector, status });
        }
        exited
    }

    /// Does this to a collector's process, if it lives.
    pub(super) fn signal(&self, child: ChildId, signal: fn(&Process)) {
        if let Some(live) = self.find(child) {
            signal(&live.process);
        }
    }

    // ---- Asking for health.

    /// The health check that these configs declare.
    pub(super) fn health_check(&self, configs: &[Value]) -> Option<inspect::HealthCheck> {
        let configs: Vec<&Value> = configs.iter().collect();
        inspect::health_check(&configs, &|name| self.collector.env(name))
    }

    /// Begins to ask; the answer is here if there is nothing to wait for.
    pub(super) fn begin_probe(&mut self, child: ChildId, check: Option<&inspect::HealthCheck>) -> Option<Health> {
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
