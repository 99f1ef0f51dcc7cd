//! The pods of a walk: each an agent with its collector, as far as its reports show it.

use super::*;

const PROBATION: Duration = Duration::from_secs(10);
/// Of a container that is killed; less than it takes to prove anything.
const LIFE: Duration = Duration::from_secs(30);

/// What a config does to a pod that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    Invalid,
    FailsOnProbation,
    /// Three crashes before it is confirmed.
    FailsLate,
    /// It cannot be judged.
    Hangs,
    /// Node and pod are gone with it before it is confirmed.
    KillsPods,
    /// Its container is killed and started again, again and again.
    KillsContainers,
}

impl Kind {
    pub(super) const ALL: [Kind; 9] = [
        Kind::Good,
        Kind::Good,
        Kind::Good,
        Kind::Invalid,
        Kind::FailsOnProbation,
        Kind::FailsLate,
        Kind::Hangs,
        Kind::KillsPods,
        Kind::KillsContainers,
    ];
}

pub(super) struct SimulatedPod {
    pub id: PodId,
    pub active: Option<Revision>,
    before: Option<Revision>,
    pub rejected: Option<Revision>,
    problem: Option<String>,
    installed_at: Option<Uptime>,
    is_confirmed: bool,
    /// Offered, and not judged.
    is_validating: bool,
    ill_until: Uptime,
    held_until: Uptime,
    pub unheard_until: Uptime,
    pub asks_at: Uptime,
    now: Uptime,
    /// Its container.
    started_at: Uptime,
    pub heard_at: Option<Uptime>,
    /// What it was offered as a candidate, until an answer means another config.
    pub exposed_to: Option<Revision>,
    pub may_restart: bool,
}

impl SimulatedPod {
    pub(super) fn heal(&mut self) {
        (self.ill_until, self.held_until, self.unheard_until) = (Uptime::ZERO, Uptime::ZERO, Uptime::ZERO);
    }

    pub(super) fn report(&self) -> PodReport<Revision> {
        let is_ill = self.ill_until > self.now;
        let past = self.installed_at.map(|at| self.now - at);
        let state = match () {
            _ if self.held_until > self.now => ConfigState::Held,
            _ if self.is_validating => ConfigState::Validating,
            _ if self.active.is_none() => ConfigState::None,
            _ if self.is_confirmed => ConfigState::Confirmed,
            _ if past.is_some_and(|past| past < PROBATION) => ConfigState::Probation,
            _ => ConfigState::Unconfirmed,
        };
        PodReport {
            active: self.active,
            rejected: self.rejected,
            problem: if is_ill { Some("the disk is full".into()) } else { self.problem.clone() },
            state: Some(state),
            is_running: self.active.is_some() && !is_ill,
            uptime: Some(Duration::from_secs((self.now - self.started_at).as_secs())),
        }
    }

    fn go_back(&mut self, revision: Revision) {
        self.rejected = Some(revision);
        self.problem = Some(format!("config {revision} is bad"));
        (self.active, self.is_confirmed, self.installed_at) = (self.before, self.before.is_some(), None);
        self.asks_at = self.now;
    }

    pub(super) fn proves(&self, revision: Revision, rules: &Rules, confirm_time: Duration) -> bool {
        let lived = self.installed_at.is_some_and(|at| self.now >= at + rules.canary_time.unwrap_or(confirm_time));
        self.active == Some(revision) && (self.is_confirmed || lived)
    }
}

impl World {
    pub(super) fn add_pod(&mut self) {
        let asks_at = self.now + self.random.anywhere(self.rules.interval);
        // Without a config where the seed is lacking.
        let active = if self.chance(self.trouble) { None } else { self.stored.stable.or(Some(0)) };
        self.pods.push(SimulatedPod {
            id: PodId(format!("pod-{}", self.pods_made)),
            active,
            before: None,
            rejected: None,
            problem: None,
            installed_at: None,
            is_confirmed: active.is_some(),
            is_validating: false,
            ill_until: Uptime::ZERO,
            held_until: Uptime::ZERO,
            unheard_until: Uptime::ZERO,
            asks_at,
            now: self.now,
            started_at: self.now,
            heard_at: None,
            exposed_to: None,
            may_restart: false,
        });
        self.pods_made += 1;
    }

    pub(super) fn remove_pod(&mut self) {
        if !self.pods.is_empty() {
            let index = self.below(self.pods.len());
            self.pods.remove(index);
            self.seen.insert("vanished");
        }
    }

    pub(super) fn trouble_a_pod(&mut self) {
        if self.pods.is_empty() {
            return;
        }
        let (index, kind) = (self.below(self.pods.len()), self.below(4));
        let until = self.now + self.rules.interval * self.below(30) as u32;
        let pod = &mut self.pods[index];
        let (until_when, what) = match kind {
            0 => (&mut pod.ill_until, "ill"),
            1 => (&mut pod.held_until, "held"),
            2 => {
                pod.started_at = self.now;
                self.seen.insert("started anew");
                return;
            }
            _ => (&mut pod.unheard_until, "unheard"),
        };
        *until_when = until;
        self.seen.insert(what);
    }

    /// What has become of it by now. It asks at once when there is a verdict; it may be gone.
    pub(super) fn live_on(&mut self, index: usize) {
        let (now, confirm_time) = (self.now, self.confirm_time);
        let pod = &mut self.pods[index];
        pod.now = now;
        let (Some(active), Some(installed_at)) = (pod.active, pod.installed_at) else { return };
        let lived = now - installed_at;
        match self.kinds[active] {
            Kind::FailsOnProbation if lived >= PROBATION => pod.go_back(active),
            Kind::FailsLate if lived >= confirm_time / 2 => pod.go_back(active),
            Kind::KillsContainers if lived >= LIFE => {
                (pod.started_at, pod.installed_at) = (now, Some(now - PROBATION));
            }
            Kind::KillsPods if lived >= PROBATION / 2 => _ = self.pods.remove(index),
            _ if lived >= confirm_time => (pod.is_confirmed, pod.installed_at) = (true, None),
            _ => {}
        }
    }

    pub(super) fn take(&mut self, index: usize, answer: Answer<Revision>) {
        let pod = &mut self.pods[index];
        pod.is_validating = false;
        let Some(revision) = answer.config else { return };
        if pod.held_until > self.now || pod.rejected == Some(revision) {
            return;
        }
        match self.kinds[revision] {
            Kind::Invalid => {
                (pod.rejected, pod.problem) = (Some(revision), Some("validate says no".into()));
                pod.asks_at = self.now;
            }
            Kind::Hangs => (pod.is_validating, pod.problem) = (true, Some("validate hangs".into())),
            _ => {
                if pod.is_confirmed {
                    pod.before = pod.active;
                }
                (pod.active, pod.is_confirmed, pod.installed_at) = (Some(revision), false, Some(self.now));
                pod.problem = None;
                // It reports its verdict.
                pod.asks_at = self.now + PROBATION;
            }
        }
    }
}
