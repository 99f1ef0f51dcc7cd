//! The configs that have proved themselves, as a store keeps them.

use super::*;

#[derive(Default)]
pub(super) struct Generations {
    /// Oldest first.
    proved: Vec<Generation>,
    /// The newest could not be written yet.
    pub(super) is_unwritten: bool,
}

pub(super) struct Generation {
    pub(super) revision: usize,
    pub(super) is_confirmed: bool,
    pub(super) exits: u32,
    /// Since when its time to be confirmed runs, if it does.
    pub(super) since: Option<Uptime>,
}

impl Generations {
    /// Those of an earlier agent: the config is 1, if there is one.
    pub(super) fn found(random: &mut Jitter) -> Generations {
        let mut found = Generations::default();
        for revision in [2, 1] {
            if random.fraction() < 0.5 {
                found.prove(revision, None);
                let exits = (random.fraction() * 3.0) as u32;
                let newest = found.find(revision).expect("it has just been made");
                (newest.is_confirmed, newest.exits) = (random.fraction() < 0.5, exits);
            }
        }
        found
    }

    pub(super) fn find(&mut self, revision: usize) -> Option<&mut Generation> {
        self.proved.iter_mut().find(|generation| generation.revision == revision)
    }

    pub(super) fn is_confirmed(&self, revision: usize) -> bool {
        self.proved.iter().any(|generation| generation.revision == revision && generation.is_confirmed)
    }

    pub(super) fn prove(&mut self, revision: usize, since: Option<Uptime>) {
        self.forget(Some(revision));
        self.proved.push(Generation { revision, is_confirmed: false, exits: 0, since });
    }

    /// It was rolled back, or taken away by operators.
    pub(super) fn forget(&mut self, revision: Option<usize>) {
        self.proved.retain(|generation| Some(generation.revision) != revision);
    }

    /// Another config is active.
    pub(super) fn stop_clocks(&mut self) {
        self.proved.iter_mut().for_each(|generation| generation.since = None);
    }

    pub(super) fn newest_confirmed(&self) -> Option<usize> {
        self.proved.iter().rev().find(|generation| generation.is_confirmed).map(|generation| generation.revision)
    }

    /// What a roll back of the active config goes to: never what has crashed three times.
    pub(super) fn fallback(&self, active: Option<usize>) -> Option<usize> {
        let is_bad = |generation: &Generation| generation.exits >= MAX_EXITS && !generation.is_confirmed;
        let others = || self.proved.iter().rev().filter(|it| Some(it.revision) != active && !is_bad(it));
        let fallback = others().find(|generation| generation.is_confirmed).or_else(|| others().next());
        fallback.map(|generation| generation.revision)
    }

    pub(super) fn trust(&self, active: usize) -> TrustLevel {
        let has_fallback = self.fallback(Some(active)).is_some();
        match self.proved.iter().find(|generation| generation.revision == active) {
            Some(Generation { is_confirmed: true, .. }) => TrustLevel::Confirmed,
            Some(Generation { exits, .. }) => TrustLevel::Unconfirmed { exits: *exits, has_fallback },
            None if has_fallback => TrustLevel::OnProbation,
            None => TrustLevel::NoFallback,
        }
    }
}
