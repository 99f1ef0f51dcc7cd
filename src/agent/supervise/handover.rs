//! A hand-over's facts and steps, as the kernel has them: whether it is possible, who gets the new connections, what a
//! collector that died beside another one died of.
//!
//! When each step is due, and what a failure says about the config, is the core's business; how the kernel does it is
//! `collector::handover`'s.

use std::net::SocketAddr;
use std::time::Duration;

use super::collectors::{Collectors, LiveCollector};
use super::{Supervise, drain};
use crate::collector::config_facts::ConfigFacts;
use crate::collector::handover::binds::BindWatch;
use crate::collector::handover::health_target::{self, NoTarget};
use crate::collector::handover::listener::Listener;
use crate::collector::handover::{eligible, memory, steering, supported};
use crate::collector::health;
use crate::collector::process::Binds;
use crate::collector::start_failure::{self, Outside};
use crate::config::inspect::HealthCheck;
use crate::core::Uptime;
use crate::core::event::{ChildId, ExitCause, Health, PortHolder, Problem};
use crate::core::supervisor::Limits;
use crate::os::port_holder::{self, Holder};
use crate::settings::RestartMode;

/// A collector that listens on all that its predecessor does, and has not bound anything for so long, has started, even
/// if its log level keeps it from saying so: a hundred times exec to ready on a fast host (DESIGN.md, "Measurements").
const QUIET_TIME: Duration = Duration::from_secs(2);

/// What Go adds to an address that it could not bind.
const IN_USE: &str = ": bind: address already in use";

/// Whether hand-overs are to be tried, as far as that is known at start.
pub(super) struct Handover {
    mode: RestartMode,
    limits: Limits,
    /// Why this host cannot; tried once.
    supported: Result<(), String>,
}

impl Handover {
    pub(super) fn new(mode: RestartMode, limits: Limits) -> Handover {
        let supported = match mode {
            RestartMode::Restart => Err("restart-mode is restart".to_string()),
            RestartMode::Auto | RestartMode::Handover => supported::supported(),
        };
        if let (Err(reason), RestartMode::Handover) = (&supported, mode) {
            log::warn!(reason = reason.as_str(); "hand-over is not available on this host; using a plain restart");
        }
        Handover { mode, limits, supported }
    }

    /// For what is started from now on.
    pub(super) fn set(&mut self, mode: RestartMode, limits: Limits) {
        match mode == self.mode {
            true => self.limits = limits,
            false => *self = Handover::new(mode, limits),
        }
    }

    pub(super) fn longest_overlap(&self) -> Duration {
        self.limits.longest_overlap()
    }

    /// Whether collectors are to be started so that one can be handed over from.
    pub(super) fn binds(&self) -> Binds {
        self.supported.clone().map_or_else(Binds::Unwatched, |()| Binds::Watched)
    }

    /// Whether the config that was just installed can be handed over to. If so, the collector that runs keeps all new
    /// connections from here on.
    ///
    /// `new` is known of that config, which can be replaced by the former one without a sync if it `is_revocable`.
    ///
    /// # Errors
    /// Why not.
    fn prepare(&self, collectors: &Collectors, new: Option<&ConfigFacts>, is_revocable: bool) -> Result<(), String> {
        self.supported.clone()?;
        let old = collectors.only().ok_or("not exactly one collector is running")?;
        if collectors.has_stale() {
            return Err("a process that an earlier collector has left behind still runs".to_string());
        }
        let binds = old.process.binds()?;
        binds.shareable()?;
        let new = new.ok_or("the config was changed just now")?;
        match eligible::may_overlap(&old.facts.may_share, &new.may_share, memory::memory(old.process.id())) {
            Err(eligible::Obstacle::Unwise(reason)) if self.mode == RestartMode::Handover => {
                log::warn!(reason = reason.as_str(); "handing over anyway: restart-mode is handover");
            }
            judgement => judgement.map_err(|obstacle| obstacle.to_string())?,
        }
        if let Some(check) = &new.health_check
            && let (Some(binding), Some(named)) = (check.binding, health::addresses(&check.address))
        {
            health_target::foresee(binds, binding, &named)?;
        }
        if !is_revocable {
            return Err("the former config could not be kept beside the new one".to_string());
        }
        // The last question, and the first step.
        steering::hold(binds)
    }
}

impl Supervise {
    /// See `Handover::prepare`.
    pub(super) fn prepare_handover(&mut self) -> Result<(), String> {
        let generation = self.store.trust().generation;
        let new = self.known_facts(generation);
        self.handover.prepare(&self.collectors, new.as_deref(), self.store.is_revocable())
    }
}

/// Whether `child` listens on all that the other one does, and has not bound anything for a while.
pub(super) fn has_started(collectors: &Collectors, child: ChildId, now: Uptime) -> bool {
    let Some((old, new)) = collectors.pair(child) else { return false };
    let is_missing = |old: &LiveCollector| match (old.process.binds(), new.process.binds()) {
        (Ok(old), Ok(new)) => !steering::missing(old, new).is_empty(),
        (Err(_), _) | (_, Err(_)) => true,
    };
    now >= new.bound_at + QUIET_TIME && !is_missing(old)
}

/// Has new connections go to `child`: once it listens on all that it is to, or, `in_part`, wherever it does by now.
///
/// # Errors
/// What is missing.
pub(super) fn take_over(collectors: &Collectors, child: ChildId, in_part: bool, now: Uptime) -> Result<(), Problem> {
    let (old, new) = collectors.pair(child).ok_or("there is no second collector")?;
    let is_ready = new.is_ready || in_part;
    let has_started = is_ready || now >= new.bound_at + QUIET_TIME;
    let (old, new) = (old.process.binds()?, new.process.binds()?);
    let outcome = if has_started {
        steer_to_new(old, new, is_ready)
    } else {
        // min_uptime may be short, or the host slow.
        Err("the new collector is still starting".to_string())
    };
    match &outcome {
        Ok(()) => log::info!("new connections go to the new collector"),
        Err(problem) if !in_part => {
            log::debug!(problem = problem.as_str(); "new collector is not ready for new connections yet");
        }
        Err(_) => {}
    }
    outcome
}

fn steer_to_new(old: &BindWatch, new: &BindWatch, is_ready: bool) -> Result<(), Problem> {
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

/// Has new connections go to the other one again.
pub(super) fn give_back(collectors: &Collectors, child: ChildId) {
    if let Some((old, _)) = collectors.pair(child) {
        drain::reopen(old);
    }
    let steered = collectors.pair(child).map(|(old, new)| steering::to_old(old.process.binds()?, new.process.binds()?));
    if let Some(Err(problem)) = steered {
        log::warn!(
            problem = problem.as_str();
            "cannot steer connections back; the failed collector may still get some"
        );
    }
}

/// The one that is left needs no steering, and a program left behind would mislead the next.
pub(super) fn release(left: &LiveCollector) {
    if let Ok(binds) = left.process.binds() {
        steering::release(binds);
    }
    drain::reopen(left);
}

/// While two live, `check` as to be asked so that `child` answers and nothing else.
///
/// # Errors
/// What is known of its health without asking: it does not listen there, or the other one may answer in its place.
pub(super) fn own_health_check(
    collectors: &Collectors,
    child: ChildId,
    check: HealthCheck,
) -> Result<HealthCheck, Health> {
    // A name is not asked at all.
    let (Some((old, new)), Some(named)) = (collectors.pair(child), health::addresses(&check.address)) else {
        return Ok(check);
    };
    let pair = || -> Result<_, Problem> { Ok((old.process.binds()?, new.process.binds()?)) };
    let (old, new) = pair().map_err(Health::Unknown)?;
    let address = match health_target::of_new(old, new, &named).map_err(Health::Unknown)? {
        Ok(address) => address.to_string(),
        Err(NoTarget::NotListening) => {
            let problem = format!("the new collector does not listen on its health check address {}", check.address);
            return Err(Health::Unhealthy(problem));
        }
        Err(NoTarget::Ambiguous) => {
            return Err(Health::Unknown(health_target::ambiguous(named[0])));
        }
    };
    // It may listen there only since it took over.
    steering::to_new(old, new).map_err(Health::Unknown)?;
    Ok(HealthCheck { address, ..check })
}

/// What a collector died of, by its last words.
pub(super) fn exit_cause(collectors: &Collectors, dead: &LiveCollector, tail: &str) -> ExitCause {
    if !eligible::blames_overlap(tail) {
        return if start_failure::is_outside(tail) { ExitCause::Environment } else { ExitCause::Unrelated };
    }
    if !tail.contains(IN_USE) {
        // Alone, a storage that is locked is another process's.
        let is_alone = collectors.iter().next().is_none();
        return if is_alone && start_failure::is_locked(tail) {
            ExitCause::Environment
        } else {
            ExitCause::LockTimeout
        };
    }
    let is_named = |port: u16| tail.contains(&format!(":{port}: "));
    if dead.process.wanted_twice().is_some_and(is_named) {
        return ExitCause::PortInUse(PortHolder::Itself);
    }
    let holds = |binds: &BindWatch| match binds.listeners() {
        Ok(listeners) if listeners.iter().filter_map(Listener::port).any(is_named) => PortHolder::OtherCollector,
        Ok(_) => PortHolder::OtherProcess,
        Err(_) => PortHolder::Unknown,
    };
    let alone = || {
        // Where its binds are hidden it is another's unless the config says otherwise: one that is bound and does not
        // listen cannot be seen, and may have ended since.
        let wanted_twice =
            |(at, is_stream)| port_holder::find(at, is_stream).is_none() && dead.facts.names_twice(at, is_stream);
        let is_own = !dead.process.saw_all_binds() && busy_address(tail).is_some_and(wanted_twice);
        if is_own { PortHolder::Itself } else { PortHolder::OtherProcess }
    };
    let other = collectors.iter().find_map(|live| live.process.binds().ok());
    ExitCause::PortInUse(other.map_or_else(alone, holds))
}

/// What it died of, as far as that is outside of its config and can be looked at again.
pub(super) fn outside(cause: ExitCause, tail: &str) -> Option<Outside> {
    match cause {
        ExitCause::PortInUse(PortHolder::OtherProcess) => {
            let (at, is_stream) = busy_address(tail)?;
            port_holder::find(at, is_stream).map(|holder| Outside::Port { at, is_stream, holder })
        }
        ExitCause::Environment => start_failure::named_file(tail).map(Outside::File),
        ExitCause::PortInUse(_) | ExitCause::LockTimeout | ExitCause::Unrelated => None,
    }
}

/// Who has the port, and what to do. Which process it is takes a look at all of them, and is left out while a collector
/// lives, which may be waiting.
pub(super) fn port_taken(collectors: &Collectors, tail: &str) -> Option<String> {
    let (at, is_stream) = busy_address(tail)?;
    let holder = port_holder::find(at, is_stream);
    let process = holder.as_ref().filter(|_| collectors.iter().next().is_none()).and_then(Holder::process);
    let who = match (holder, process) {
        (Some(holder), Some((pid, name))) => format!("process {pid} ({name}) of {}", holder.user),
        (Some(holder), None) => format!("a process of {}", holder.user),
        (None, _) => "another process, which does not listen or has ended".to_string(),
    };
    Some(format!("{at} is in use by {who}: end that process, or change the address"))
}

/// As Go writes it: `listen tcp 127.0.0.1:4317: bind: address already in use`; without an address it is any.
fn busy_address(tail: &str) -> Option<(SocketAddr, bool)> {
    let (before, _) = tail.rsplit_once(IN_USE)?;
    let mut words = before.split_whitespace().rev();
    let (address, network) = (words.next()?, words.next()?);
    let address = if address.starts_with(':') { format!("[::]{address}") } else { address.to_string() };
    Some((address.parse().ok()?, !network.starts_with("udp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_last_words() {
        let tail = |at: &str| format!("Error: cannot start pipelines: listen {at}: bind: address already in use\nx");
        for (at, expected) in [
            ("tcp 127.0.0.1:4317", Some(("127.0.0.1:4317", true))),
            ("tcp [::1]:4317", Some(("[::1]:4317", true))),
            ("tcp :4317", Some(("[::]:4317", true))),
            ("udp 0.0.0.0:514", Some(("0.0.0.0:514", false))),
            ("unix /run/x", None),
        ] {
            let expected = expected.map(|(at, is_stream)| (at.parse().unwrap(), is_stream));
            assert_eq!(busy_address(&tail(at)), expected, "{at}");
        }
        assert_eq!(busy_address("no such words"), None);
    }
}
