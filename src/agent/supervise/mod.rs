//! The supervisor thread: poll(2) → events → core → actions. It owns the collector and nothing else does.
//!
//! ```text
//!   mailbox ┐                      ┌ spawn, signal, reap     (process)
//!   pidfd   ├─▶ event ─▶ core ─▶ action ┤ install, promote, roll back (store)
//!   output  │                      ├ probe                  (probe)
//!   control ┘                      └ conclude ─▶ poller, control clients
//! ```
//! It sleeps in one place, until a descriptor or the next deadline; each action's outcome is fed back before it sleeps again.
//! It decides nothing: `core` does. It never does what may block for long: the poller does.

mod clients;
mod overlap;
mod pending_writes;
mod perform;
mod secret_registry;
mod state_tracker;
mod status_snapshot;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::agent::mailbox::{PollerCommand, Snapshot, SupervisorEvent};
use crate::collector::Collector;
use crate::collector::health::Probe;
use crate::collector::process::Process;
use crate::control::Reply;
use crate::control::server::{ClientId, Server};
use crate::core::Uptime;
use crate::core::event::{ChildId, Event};
use crate::core::supervisor::{Limits, StateName, Supervisor};
use crate::error::Exit;
use crate::os::files::FileId;
use crate::os::service::Notify;
use crate::os::shutdown;
use crate::os::wait::{Waitable, wait};
use crate::os::wake_channel::Receiver;
use crate::settings::Settings;
use crate::store::{Candidate, Store};
use overlap::Overlap;
use pending_writes::PendingWrites;
use state_tracker::StateTracker;

/// What a stop may take beyond `stop-timeout`: a collector too young for SIGTERM, the reaping, the last words.
const STOP_SLACK: Duration = Duration::from_secs(15);

type Mailbox = crossbeam_channel::Sender<PollerCommand>;

/// A collector that lives.
struct LiveCollector {
    child: ChildId,
    process: Process,
    started_at: Uptime,
    /// The config that it was started with.
    config: FileId,
    /// It has said that everything is started.
    is_ready: bool,
    /// Its latest bind(2).
    bound_at: Uptime,
}

pub struct Supervise {
    core: Supervisor<Candidate>,
    clock: Instant,
    mail: Receiver<SupervisorEvent>,
    poller: Mailbox,
    server: Server,
    notify: Notify,
    collector: Collector,
    store: Store,
    state_tracker: StateTracker,
    overlap: Overlap,
    pending_writes: PendingWrites,
    /// Oldest first; two during a hand-over.
    living: Vec<LiveCollector>,
    probe: Option<(ChildId, Probe)>,
    starts: u64,
    /// The collector program that was started last.
    program: Option<FileId>,
    watchdog_at: Option<Uptime>,
    /// Why poll(2) has failed, if it has.
    blind: Option<io::Error>,
    stop_timeout: Duration,
    stop_clients: Vec<ClientId>,
    /// Clients of `--check` whose check has not ended.
    check_clients: Vec<(ClientId, u64)>,
    /// Clients of `--check` whose candidate has no verdict yet.
    verdict_clients: Vec<ClientId>,
    ticket: u64,
    /// The state that was logged last.
    shown: StateName,
    /// What the poller was told last.
    told: Option<Snapshot>,
    exit: Exit,
    finished: bool,
}

/// What the supervisor is made of; all of it was set up before the first start, when failing is still allowed.
pub struct Parts {
    pub clock: Instant,
    pub mail: Receiver<SupervisorEvent>,
    pub poller: Mailbox,
    pub server: Server,
    pub notify: Notify,
    pub collector: Collector,
    pub store: Store,
}

impl Supervise {
    pub fn new(parts: Parts, settings: &Settings, seed: u64) -> Supervise {
        let limits = Limits { min_uptime: settings.min_uptime, stop_timeout: settings.stop_timeout };
        let watchdog_at = parts.notify.watchdog_interval();
        Supervise {
            core: Supervisor::new(limits, seed),
            clock: parts.clock,
            mail: parts.mail,
            poller: parts.poller,
            server: parts.server,
            notify: parts.notify,
            collector: parts.collector,
            state_tracker: StateTracker::new(&parts.store, settings),
            overlap: Overlap::new(settings.restart_mode, limits),
            pending_writes: PendingWrites::default(),
            store: parts.store,
            living: Vec::new(),
            probe: None,
            starts: 0,
            program: None,
            watchdog_at,
            blind: None,
            stop_timeout: settings.stop_timeout,
            stop_clients: Vec::new(),
            check_clients: Vec::new(),
            verdict_clients: Vec::new(),
            ticket: 0,
            shown: StateName::Stopped,
            told: None,
            exit: Exit::Done,
            finished: false,
        }
    }

    /// Supervises until somebody asks for a stop. The status says why it ended.
    pub fn run(mut self) -> Exit {
        // The first start, before anybody is told anything.
        self.handle(VecDeque::from([Event::DeadlinePassed]));
        self.tell_poller();
        self.notify.ready();
        while !self.finished {
            self.sleep();
            let events = self.take_in();
            self.handle(events);
            self.tell_poller();
        }
        let _ = self.poller.send(PollerCommand::Stop);
        shutdown::declare();
        for client in std::mem::take(&mut self.stop_clients) {
            self.server.dismiss(client, &Reply::Stopped);
        }
        self.store.sweep();
        self.exit
    }

    fn now(&self) -> Uptime {
        self.clock.elapsed()
    }

    /// Sleeps until something is ready or a deadline has come.
    fn sleep(&mut self) {
        let slow_check = self.living.iter().filter_map(|living| living.process.check_interval()).min();
        let slow_check = slow_check.map(|interval| self.now() + interval);
        let deadlines =
            [self.core.deadline(), self.server.deadline(), self.watchdog_at, self.pending_writes.retry_at, slow_check];
        // One that is too far away for the clock is as good as none.
        let until = deadlines.into_iter().flatten().min().and_then(|until| self.clock.checked_add(until));
        let sources: Vec<Waitable<'_>> = self
            .living
            .iter()
            .flat_map(|living| living.process.sources())
            .chain(self.probe.as_ref().map(|(_, probe)| probe.waitable()))
            .chain(self.server.sources())
            .chain([self.mail.waitable()])
            .collect();
        let error = wait(&sources, until).err();
        if let (Some(error), None) = (&error, &self.blind) {
            log::error!(error:% = error; "poll(2) failed; falling back to checking every 100 ms: free some memory");
        }
        self.blind = error;
    }

    /// Everything that has happened meanwhile. Nothing of it blocks, so each is simply tried.
    fn take_in(&mut self) -> VecDeque<Event<Candidate>> {
        let mut events = VecDeque::new();
        self.watch_collectors(&mut events);
        self.watch_probe(&mut events);
        let (notices, closed) = self.mail.drain();
        for notice in notices {
            self.take_notice(notice, &mut events);
        }
        if closed {
            events.push_back(Event::StopRequested);
        }
        for (client, request) in self.server.serve(self.now()) {
            self.take_request(client, request, &mut events);
        }
        let now = self.now();
        if self.watchdog_at.is_some_and(|at| now >= at) {
            self.notify.watchdog();
            self.watchdog_at = self.notify.watchdog_interval().map(|interval| now + interval);
        }
        if self.pending_writes.retry_at.is_some_and(|at| now >= at) {
            self.retry_state();
        }
        if self.core.deadline().is_some_and(|deadline| now >= deadline) {
            events.push_back(Event::DeadlinePassed);
        }
        events
    }

    fn take_notice(&mut self, notice: SupervisorEvent, events: &mut VecDeque<Event<Candidate>>) {
        match notice {
            SupervisorEvent::Signalled => self.stop("signal", events),
            SupervisorEvent::Checked(checked) => self.take_check(checked, events),
            SupervisorEvent::PollerEnded => {
                log::error!("poller thread ended, stopping the agent: this is a bug in kmagent, please report it");
                self.exit = Exit::Bug;
                self.stop("bug", events);
            }
        }
    }

    fn stop(&mut self, asked_by: &str, events: &mut VecDeque<Event<Candidate>>) {
        log::info!(asked_by = asked_by; "stopping");
        self.notify.stopping(self.stop_timeout + STOP_SLACK);
        // Before an exit that came with it: a host that shuts down ends both, and that is no crash.
        events.push_front(Event::StopRequested);
    }

    /// Tells the core each event and does what it orders; an outcome goes first, before anything else that happened.
    fn handle(&mut self, mut events: VecDeque<Event<Candidate>>) {
        while let Some(event) = events.pop_front() {
            let actions = self.core.handle(self.now(), event);
            let outcomes: Vec<Event<Candidate>> =
                actions.into_iter().filter_map(|action| self.perform(action)).collect();
            let settled = outcomes.is_empty();
            for outcome in outcomes.into_iter().rev() {
                events.push_front(outcome);
            }
            if settled {
                self.show_state();
            }
        }
    }

    /// The one place that logs a change of state.
    fn show_state(&mut self) {
        let (from, to) = (self.shown, self.core.phrase());
        if from != to {
            log::info!(from = from.as_str(), to = to.as_str(); "collector state");
            self.notify.status(&format!("collector {}", to.as_str()));
            self.shown = to;
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.state_tracker.snapshot(self.core.phrase(), self.starts.saturating_sub(1))
    }

    fn tell_poller(&mut self) {
        let snapshot = self.snapshot();
        if self.told.as_ref() != Some(&snapshot) {
            self.told = Some(snapshot.clone());
            let _ = self.poller.send(PollerCommand::Changed(snapshot));
        }
        if self.state_tracker.take_concluded() {
            let _ = self.poller.send(PollerCommand::Concluded);
        }
    }
}
