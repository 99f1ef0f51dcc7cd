//! The supervisor thread: wait → events → core → actions. It owns the collectors and nothing else does.
//!
//! ```text
//!   poller     ┐                           ┌ spawn, signal, reap, probe (collectors)
//!   collectors ├─▶ event ─▶ core ─▶ action ┤ who gets new connections   (handover)
//!   clients    │                           │ install, promote, roll back (store)
//!   signals    │                           │
//!   deadlines  ┘                           └ conclude ─▶ poller, clients
//! ```
//! It sleeps in one place, until something is ready or the next deadline; each action's outcome is fed back before it
//! sleeps again. It decides nothing: `core` does. It never does what may block for long: the poller does.

mod actions;
mod active_config;
mod clients;
mod collector_events;
mod collectors;
mod drain;
mod facts;
mod failed_configs;
mod handover;
mod health_watch;
mod pending_writes;
mod poller_link;
mod reload;
mod restart;
mod run_dir;
mod secret_registry;
mod service_status;
mod state_tracker;
mod status_snapshot;

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::agent::check;
use crate::agent::mailbox::{PollerCommand, Snapshot, SupervisorEvent};
use crate::agent::reload::limits;
use crate::collector::Collector;
use crate::collector::log_lines::LogRate;
use crate::collector::orphans::Recorder;
use crate::collector::process::KILL_PATIENCE;
use crate::config::value::Revision;
use crate::control::server::Server;
use crate::core::Uptime;
use crate::core::event::{self, Event};
use crate::core::supervisor::{StateName, Supervisor};
use crate::error::Exit;
use crate::os::descendants::{self, Which};
use crate::os::lock::Lock;
use crate::os::service::Notify;
use crate::os::shutdown;
use crate::os::signals::Signals;
use crate::os::wait::{Waitable, wait};
use crate::os::wake_channel::Receiver;
use crate::settings::Settings;
use crate::store::{Candidate, Store};
use active_config::ActiveConfig;
use clients::Clients;
use collectors::Collectors;
use drain::Drain;
use facts::FactsCache;
use handover::Handover;
use health_watch::HealthWatch;
use pending_writes::PendingWrites;
use poller_link::PollerLink;
use reload::Reloads;
use restart::Restarts;
use run_dir::RunDir;
use service_status::ServiceStatus;
use state_tracker::StateTracker;

pub struct Supervise {
    core: Supervisor<Candidate>,
    clock: Instant,
    signals: Signals,
    collectors: Collectors,
    handover: Handover,
    drain: Drain,
    health_watch: HealthWatch,
    store: Store,
    pending_writes: PendingWrites,
    active_config: ActiveConfig,
    facts: FactsCache,
    run_dir: RunDir,
    lock: Lock,
    /// As far as the poller knows it; empty if it does not.
    collector_version: String,
    /// When the poller makes its next check.
    next_check_at: Option<Uptime>,
    state_tracker: StateTracker,
    poller: PollerLink,
    clients: Clients,
    reloads: Reloads,
    restarts: Restarts,
    longest_check: Duration,
    service_status: ServiceStatus,
    /// Why waiting has failed, if it has.
    wait_error: Option<io::Error>,
    exit: Exit,
    finished: bool,
}

/// What the supervisor is made of; all of it was set up before the first start, when failing is still allowed.
pub struct Parts {
    pub clock: Instant,
    pub signals: Signals,
    pub mail: Receiver<SupervisorEvent>,
    pub poller: crossbeam_channel::Sender<PollerCommand>,
    pub server: Server,
    pub lock: Lock,
    pub notify: Notify,
    pub collector: Collector,
    pub store: Store,
}

/// The core tells configs apart by their revision.
impl event::Candidate for Candidate {
    type Revision = Revision;

    fn revision(&self) -> Revision {
        self.revision.clone()
    }
}

impl Supervise {
    /// With what is wrong with the settings that were given, if these are others.
    pub fn new(parts: Parts, settings: &Settings, settings_problem: Option<String>, seed: u64) -> Supervise {
        let limits = limits(settings);
        let handover = Handover::new(settings.restart_mode, limits);
        Supervise {
            core: Supervisor::new(limits, seed),
            clock: parts.clock,
            signals: parts.signals,
            collectors: Collectors::new(
                parts.collector,
                handover.binds(),
                Recorder::new(&settings.run_dir),
                LogRate::new(settings.collector_log_rate),
            ),
            handover,
            drain: Drain::default(),
            health_watch: HealthWatch::default(),
            state_tracker: StateTracker::new(&parts.store, settings, settings_problem),
            store: parts.store,
            pending_writes: PendingWrites::default(),
            active_config: ActiveConfig::default(),
            facts: FactsCache::default(),
            run_dir: RunDir::new(&settings.run_dir),
            lock: parts.lock,
            collector_version: String::new(),
            next_check_at: None,
            poller: PollerLink::new(parts.mail, parts.poller),
            clients: Clients::new(parts.server),
            reloads: Reloads::new(),
            restarts: Restarts::default(),
            longest_check: check::longest(settings),
            service_status: ServiceStatus::new(parts.notify, settings.stop_timeout),
            wait_error: None,
            exit: Exit::Done,
            finished: false,
        }
    }

    /// Supervises until a stop is requested. The status says why it ended.
    pub fn run(mut self) -> Exit {
        self.roll_back_at_start();
        self.save_state();
        // The first start, before anything is reported.
        self.handle(VecDeque::from([Event::DeadlinePassed]));
        self.report_to_poller();
        self.service_status.ready();
        while !self.finished {
            self.sleep();
            let events = self.collect_events();
            self.handle(events);
            self.order_restart();
            self.report_to_poller();
        }
        self.poller.send(PollerCommand::Stop);
        shutdown::begin();
        self.save_at_end();
        descendants::end(Which::All, KILL_PATIENCE);
        self.collectors.recorder.forget();
        self.clients.dismiss_stopped();
        self.store.sweep();
        self.exit
    }

    fn now(&self) -> Uptime {
        self.clock.elapsed()
    }

    /// Sleeps until something is ready or a deadline has come.
    fn sleep(&mut self) {
        let deadlines = [
            self.core.deadline(),
            self.clients.deadline(),
            self.service_status.deadline(),
            self.pending_writes.retry_at(),
            self.drain.deadline(),
            self.collectors.log_deadline(),
            self.ready_look_at(),
            self.run_dir.deadline(),
            self.collectors.check_interval().map(|interval| self.now() + interval),
        ];
        // One that is too far away for the clock is as good as none.
        let until = deadlines.into_iter().flatten().min().and_then(|until| self.clock.checked_add(until));
        let sources: Vec<Waitable<'_>> = self
            .collectors
            .sources()
            .chain(self.clients.sources())
            .chain(self.run_dir.source())
            .chain([self.signals.waitable(), self.poller.source()])
            .collect();
        let error = wait(&sources, until).err();
        if let (Some(error), None) = (&error, &self.wait_error) {
            log::error!(error:% = error; "cannot wait for events; checking every 100 ms instead: free some memory");
        }
        self.wait_error = error;
    }

    /// Everything that has happened meanwhile. Nothing of it blocks, so each is simply tried.
    fn collect_events(&mut self) -> VecDeque<Event<Candidate>> {
        let mut events = VecDeque::new();
        self.watch_collectors(&mut events);
        let signals = self.signals.take();
        if signals.stop {
            self.stop("signal", &mut events);
        }
        if signals.reload {
            self.ask_for_reload(None);
        }
        self.watch_run_dir();
        self.look_for_ready(&mut events);
        let (arrived, closed) = self.poller.drain();
        for event in arrived {
            self.take_supervisor_event(event, &mut events);
        }
        if closed {
            events.push_back(Event::StopRequested);
        }
        for (client, request) in self.clients.serve(self.now()) {
            self.take_request(client, request, &mut events);
        }
        let now = self.now();
        self.reply_late_status(now);
        self.service_status.feed_watchdog(now);
        if self.pending_writes.retry_at().is_some_and(|at| now >= at) {
            self.save_state();
        }
        if self.core.deadline().is_some_and(|deadline| now >= deadline) {
            events.push_back(Event::DeadlinePassed);
        }
        events
    }

    fn take_supervisor_event(&mut self, event: SupervisorEvent, events: &mut VecDeque<Event<Candidate>>) {
        match event {
            SupervisorEvent::Checked(checked) => self.take_check(checked, events),
            SupervisorEvent::Saved(saved) => self.saved(&saved),
            SupervisorEvent::Reloaded(outcome) => self.take_reloaded(outcome),
            SupervisorEvent::KeyChanged(reloaded) => self.adopt(*reloaded),
            SupervisorEvent::MayRestart(outcome) => self.take_may_restart(outcome),
            SupervisorEvent::Found(findings) => self.take_findings(findings),
            SupervisorEvent::PollerEnded => {
                log::error!("poller thread ended, stopping the agent: this is a bug in kmagent, please report it");
                self.exit = Exit::Bug;
                self.stop("bug", events);
            }
        }
    }

    fn stop(&mut self, asked_by: &str, events: &mut VecDeque<Event<Candidate>>) {
        self.service_status.stopping(asked_by);
        // Before an exit that came with it: a host that shuts down ends both, and that is no crash.
        events.push_front(Event::StopRequested);
    }

    /// Gives the core each event and does what it orders; an outcome goes first, before anything else that happened.
    fn handle(&mut self, mut events: VecDeque<Event<Candidate>>) {
        while let Some(event) = events.pop_front() {
            let actions = self.core.handle(self.now(), event);
            let outcomes: Vec<Event<Candidate>> =
                actions.into_iter().filter_map(|action| self.perform(action)).collect();
            if outcomes.is_empty() {
                self.service_status.state(self.core.state_name(), self.next_start());
            }
            for outcome in outcomes.into_iter().rev() {
                events.push_front(outcome);
            }
        }
    }

    /// In how long the backoff's delay ends; `None` in any other state.
    fn next_start(&self) -> Option<Duration> {
        let deadline = self.core.deadline().filter(|_| self.core.state_name() == StateName::Backoff);
        deadline.map(|at| at.saturating_sub(self.now()))
    }

    fn snapshot(&self) -> Snapshot {
        self.state_tracker.snapshot(self.core.state_name(), self.collectors.restarts())
    }

    fn report_to_poller(&mut self) {
        let now = self.now();
        self.state_tracker.forget_exits(now);
        self.poller.report(self.snapshot());
        if self.state_tracker.take_concluded() {
            self.poller.send(PollerCommand::Concluded);
        }
    }
}
