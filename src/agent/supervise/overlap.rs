//! A hand-over as the supervisor does it: whether to, the second collector's start, and who gets the new connections.
//!
//! When each step is due is the core's business; how the kernel does it is `handover`'s.

use std::time::Duration;

use super::{LiveCollector, Supervise};
use crate::collector::handover::binds::BindWatch;
use crate::collector::handover::listener::Listener;
use crate::collector::handover::{eligible, memory, steering, supported};
use crate::collector::process::Binds;
use crate::config::value::{Revision, Value};
use crate::core::event::{ActivationMode, ChildId, Event, Problem, SpawnResult, TakeOver};
use crate::core::supervisor::{Limits, StateName};
use crate::settings::RestartMode;
use crate::store::Candidate;

/// A collector that listens on all that its predecessor does, and has not bound anything for so long, has started, even if its
/// log level keeps it from saying so: a hundred times exec to ready on a fast host (DESIGN.md, "Measurements").
const QUIET_TIME: Duration = Duration::from_secs(2);

/// Whether hand-overs are to be tried, as far as that is known at start.
pub(super) struct Overlap {
    mode: RestartMode,
    limits: Limits,
    /// Why this host cannot; tried once.
    supported: Result<(), String>,
    /// The config whose collector could not start beside the old one: it is tried again, plainly.
    pub(super) forgone: Option<Revision>,
    /// The trial of the new config said nothing about it.
    is_blameless: bool,
    /// The port that the collector which ended last wanted twice.
    pub(super) wanted_twice: Option<u16>,
}

impl Overlap {
    pub(super) fn new(mode: RestartMode, limits: Limits) -> Overlap {
        let supported = match mode {
            RestartMode::Restart => Err("restart-mode is restart".to_string()),
            RestartMode::Auto | RestartMode::Handover => supported::supported(),
        };
        if let (Err(reason), RestartMode::Handover) = (&supported, mode) {
            log::warn!(reason = reason.as_str(); "hand-over is not available on this host; using a plain restart");
        }
        Overlap { mode, limits, supported, forgone: None, is_blameless: false, wanted_twice: None }
    }

    /// Whether collectors are to be started so that one can be handed over from.
    pub(super) fn binds(&self) -> Binds {
        self.supported.clone().map_or_else(Binds::Unwatched, |()| Binds::Watched)
    }
}

impl Supervise {
    /// How the config that was just installed takes effect, and says so.
    pub(super) fn manner(&mut self) -> ActivationMode {
        let judgement = match self.core.phrase() {
            StateName::Running => self.may_hand_over(),
            _ => Err("nothing running to hand over from".to_string()),
        };
        let (manner, words) = match judgement {
            Ok(()) => {
                log::info!(method = "hand-over"; "applying config");
                (ActivationMode::HandOver, "hand-over".to_string())
            }
            Err(reason) => {
                log::info!(method = "restart", reason = reason.as_str(); "applying config");
                (ActivationMode::Restart, format!("restart ({reason})"))
            }
        };
        self.state_tracker.changed_by(words);
        manner
    }

    /// # Errors
    /// Why not.
    fn may_hand_over(&self) -> Result<(), String> {
        self.overlap.supported.clone()?;
        let [old] = self.living.as_slice() else { return Err("not exactly one collector is running".to_string()) };
        let binds = old.process.binds()?;
        binds.shareable()?;
        let overlay = self.overlay();
        let former = self.store.read_last_known_good().map_err(|error| error.to_string())?;
        let present = self.store.read_config().map_err(|error| error.to_string())?;
        let effective = |main| -> Vec<&Value> { [main].into_iter().chain(overlay.as_ref()).collect() };
        if self.overlap.forgone.as_ref() == Some(&present.revision()) {
            return Err("an earlier hand-over to this config failed".to_string());
        }
        let longest_overlap = self.overlap.limits.longest_overlap();
        let facts = eligible::Facts { memory: memory::memory(old.process.id()), longest_overlap };
        match eligible::may_overlap(&effective(&former), &effective(&present), &facts) {
            Err(eligible::Obstacle::Unwise(reason)) if self.overlap.mode == RestartMode::Handover => {
                log::warn!(reason = reason.as_str(); "handing over anyway: restart-mode is handover");
            }
            judgement => judgement.map_err(|obstacle| obstacle.to_string())?,
        }
        // The last question, and the first step: from here on the old one keeps all new connections.
        steering::hold(binds)
    }

    /// Starts the second one; the first keeps all new connections.
    pub(super) fn spawn_beside(&mut self) -> SpawnResult {
        let launch = self.spawn();
        // One whose sockets cannot be looked at never takes over, whatever it is like.
        let is_seen = self.living.last().is_some_and(|new| new.process.binds().is_ok());
        self.overlap.is_blameless = !is_seen || !matches!(launch, SpawnResult::Spawned { .. });
        launch
    }

    /// Whether the config on trial is to be tried again, plainly: it could not be tried beside the old collector, or what the new
    /// one died of may be the old one's doing.
    pub(super) fn deserves_another_try(&self, problem: &str) -> bool {
        self.core.phrase() == StateName::HandingOver && (self.overlap.is_blameless || self.is_in_the_way(problem))
    }

    /// While two live, whether the health check at `address` is answered by `child` and nobody else.
    ///
    /// # Errors
    /// It does not listen there, or both do on different addresses, so that it cannot be steered who answers.
    pub(super) fn answers_alone(&mut self, child: ChildId, address: &str) -> Result<(), Problem> {
        let Some((old, new)) = self.pair(child) else { return Ok(()) };
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let at_port = |living: &LiveCollector| -> Result<Vec<Listener>, Problem> {
            let mut listeners = living.process.binds()?.listeners()?;
            listeners.retain(|listener| listener.port() == port);
            Ok(listeners)
        };
        let (old, new) = match (at_port(old), at_port(new)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(problem), _) | (_, Err(problem)) => {
                self.overlap.is_blameless = true;
                return Err(problem);
            }
        };
        if new.is_empty() {
            return Err(format!("the new collector does not listen on its health check address {address}"));
        }
        if old.iter().any(|listener| !new.contains(listener)) {
            self.overlap.is_blameless = true;
            return Err(format!("both collectors serve the health check {address}, on different addresses"));
        }
        // It may listen there only since it took over.
        let (old, new) = self.pair(child).ok_or("there is no second collector")?;
        let steered = steering::to_new(old.process.binds()?, new.process.binds()?);
        self.overlap.is_blameless |= steered.is_err();
        steered
    }

    /// Has new connections go to `child`: once it listens on all that it is to, or wherever it does by now.
    pub(super) fn take_over(&mut self, child: ChildId, in_part: bool) -> Event<Candidate> {
        let outcome = match self.steer(child, in_part) {
            Ok(()) => {
                log::info!("new connections go to the new collector");
                TakeOver::Done
            }
            Err(problem) if in_part || self.overlap.is_blameless => {
                // Whether it is any good cannot be tried beside the old one.
                self.overlap.is_blameless = true;
                TakeOver::Failed(problem)
            }
            Err(problem) => {
                log::debug!(problem = problem.as_str(); "new collector is not ready for new connections yet");
                TakeOver::NotYet
            }
        };
        Event::TookOver { child, outcome }
    }

    fn steer(&self, child: ChildId, in_part: bool) -> Result<(), Problem> {
        let (old, new) = self.pair(child).ok_or("there is no second collector")?;
        let is_ready = new.is_ready || in_part;
        let is_quiet = self.now() >= new.bound_at + QUIET_TIME;
        let (old, new) = (old.process.binds()?, new.process.binds()?);
        if !is_ready && !is_quiet {
            // min_uptime may be short, or the host slow.
            return Err("the new collector is still starting".to_string());
        }
        let missing = steering::missing(old, new);
        // A component may wait for its server for half a minute (contrib's mongodb does), before the receivers listen.
        if let (false, Some(listener)) = (is_ready, missing.first()) {
            return Err(format!("the new collector does not listen on {listener} yet"));
        }
        steering::to_new(old, new)?;
        for listener in missing {
            log::info!(listener:% = listener; "new config does not listen here; the old collector does until it exits");
        }
        Ok(())
    }

    /// Whether what the new collector died of may be the old one's doing. A port that somebody else holds is not, nor is one that it
    /// would have twice.
    fn is_in_the_way(&self, problem: &str) -> bool {
        let is_named = |port: u16| problem.contains(&format!(":{port}: "));
        // Where we may not look, it is as likely the old one as anybody else.
        let holds = |binds: &BindWatch| {
            binds.listeners().map_or(true, |listeners| listeners.iter().filter_map(Listener::port).any(is_named))
        };
        let in_use = problem.contains("address already in use");
        let mut binds = self.living.iter().filter_map(|living| living.process.binds().ok());
        eligible::blames_overlap(problem)
            && (!in_use || !self.overlap.wanted_twice.is_some_and(is_named) && binds.any(holds))
    }

    /// Has them go to the other one again.
    pub(super) fn give_back(&self, child: ChildId) {
        let steered = self.pair(child).map(|(old, new)| steering::to_old(old.process.binds()?, new.process.binds()?));
        if let Some(Err(problem)) = steered {
            log::warn!(problem = problem.as_str(); "cannot steer connections back; the failed collector may still get some");
        }
    }

    /// After one has ended: the one that is left needs no steering, and a program left behind would mislead the next.
    pub(super) fn release(&self) {
        // A copy of a listener that is just being closed would keep it open for a moment, and nobody would accept from it.
        if let [left] = self.living.as_slice()
            && !self.core.is_leaving(left.child)
            && let Ok(binds) = left.process.binds()
        {
            steering::release(binds);
        }
    }

    /// The other one and `child`.
    fn pair(&self, child: ChildId) -> Option<(&LiveCollector, &LiveCollector)> {
        let new = self.living.iter().find(|living| living.child == child)?;
        let old = self.living.iter().find(|living| living.child != child)?;
        Some((old, new))
    }
}
