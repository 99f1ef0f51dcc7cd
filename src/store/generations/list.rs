//! The list of generations: pure but for the clock's reading that it is given.

use super::{Generation, Limits, Origin, Standing, StartProblem, Trust, TrustLevel};
use crate::config::value::Revision;
use crate::log::Masked;
use crate::os::files::FileId;

/// Unexpected exits of an unconfirmed config that are too many.
const MAX_EXITS: u32 = 3;
/// Starts of the agent after which an unconfirmed config counts as confirmed, and one on probation as failed.
const MAX_STARTS: u32 = 3;

#[derive(Debug, Default)]
pub(in crate::store) struct List {
    /// By number.
    pub(super) generations: Vec<Generation>,
    /// The newest that there was: a number that the log has named is no other one's later.
    pub(super) last_number: u64,
    /// The generation that the config file is, and the file as it was seen last: `None` of one that was just put there
    /// and could not be looked at.
    active: Option<(Option<FileId>, u64)>,
    /// Numbers whose files are to be removed once the list is written without them.
    pub(super) dropped: Vec<u64>,
    /// It is not what its file has.
    pub(super) is_unwritten: bool,
    /// What its file has could not be read so far, and goes before this.
    pub(super) is_unread: bool,
}

impl List {
    pub(in crate::store) fn all(&self) -> &[Generation] {
        &self.generations
    }

    pub(in crate::store) fn find(&self, number: u64) -> Option<&Generation> {
        self.generations.iter().find(|it| it.number == number)
    }

    pub(in crate::store) fn find_mut(&mut self, number: u64) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|it| it.number == number)
    }

    /// It has a file of its own; or there is no such generation.
    pub(in crate::store) fn is_kept(&self, number: u64) -> bool {
        self.find(number).is_none_or(|it| !it.is_unkept)
    }

    /// It is not what its file has, or has to be completed.
    pub(in crate::store) fn is_unwritten(&self) -> bool {
        self.is_unwritten || !self.unparsed().is_empty()
    }

    pub(super) fn unparsed(&self) -> Vec<u64> {
        let is_unparsed = |it: &&Generation| it.revision.is_none() && !it.is_parsed && !it.is_unkept;
        self.generations.iter().filter(is_unparsed).map(|it| it.number).collect()
    }

    pub(in crate::store) fn set_revision(&mut self, number: u64, revision: Option<Revision>) {
        if let Some(generation) = self.find_mut(number) {
            generation.is_parsed = true;
            let is_news = revision.is_some() && generation.revision.is_none();
            generation.revision = generation.revision.take().or(revision);
            self.is_unwritten |= is_news;
        }
    }

    /// The number of a new one.
    pub(in crate::store) fn add(&mut self, generation: Generation) -> u64 {
        let number = self.last_number + 1;
        self.last_number = number;
        self.generations.push(Generation { number, ..generation });
        self.is_unwritten = true;
        number
    }

    /// An older failure of the same config says no more than the new one will.
    pub(in crate::store) fn supersede(&mut self, revision: Option<&Revision>) {
        let Some(revision) = revision else { return };
        let active = self.active();
        let is_superseded =
            |it: &Generation| it.is_rejected() && it.revision.as_ref() == Some(revision) && Some(it.number) != active;
        let numbers: Vec<u64> = self.generations.iter().filter(|it| is_superseded(it)).map(|it| it.number).collect();
        numbers.into_iter().for_each(|number| self.remove(number));
    }

    pub(in crate::store) fn remove(&mut self, number: u64) {
        let before = self.generations.len();
        self.generations.retain(|it| it.number != number);
        if self.generations.len() != before {
            self.dropped.push(number);
            self.is_unwritten = true;
        }
        self.active.take_if(|(_, active)| *active == number);
    }

    /// The generation that the config file is, as far as it is known without reading it.
    pub(in crate::store) fn number_of(&self, file: FileId) -> Option<u64> {
        self.active.filter(|(seen, _)| *seen == Some(file)).map(|(_, number)| number)
    }

    pub(in crate::store) fn active(&self) -> Option<u64> {
        self.active.map(|(_, number)| number)
    }

    /// The config file is this generation.
    pub(in crate::store) fn set_active(&mut self, file: Option<FileId>, number: u64) {
        self.active = Some((file, number));
        if let (Some(file), Some(generation)) = (file, self.find_mut(number)) {
            generation.file = Some(file);
        }
    }

    /// One that had no verdict gets none any more.
    pub(in crate::store) fn replaced(&mut self, number: Option<u64>) {
        if let Some(number) = number.filter(|number| self.find(*number).is_some_and(Generation::is_pending)) {
            self.set_standing(number, Standing::Replaced);
        }
    }

    /// True if it is another one.
    pub(in crate::store) fn set_standing(&mut self, number: u64, standing: Standing) -> bool {
        let Some(generation) = self.find_mut(number).filter(|it| it.standing != standing) else { return false };
        generation.standing = standing;
        self.is_unwritten = true;
        true
    }

    /// What a roll back of `from` can go to, the best first: the newest confirmed, then the newest that is proved.
    pub(in crate::store) fn fallbacks(&self, from: Option<u64>) -> Vec<u64> {
        let revision = from.and_then(|from| self.find(from)?.revision.clone());
        let is_other = |it: &&Generation| {
            Some(it.number) != from
                && !it.is_unkept
                && !self.has_failed(it.number)
                && (revision.is_none() || it.revision != revision)
        };
        let proved = || self.generations.iter().rev().filter(is_other);
        let confirmed = proved().filter(|it| it.is_confirmed());
        confirmed.chain(proved().filter(|it| !it.is_confirmed())).map(|it| it.number).collect()
    }

    /// How far the config is to be trusted that is this generation, or none.
    pub(in crate::store) fn trust(&self, generation: Option<u64>) -> Trust {
        let has_fallback = !self.fallbacks(generation).is_empty();
        let level = match generation.and_then(|number| self.find(number)).map(|it| &it.standing) {
            Some(Standing::Confirmed) => TrustLevel::Confirmed,
            Some(Standing::Unconfirmed { exits, .. }) => TrustLevel::Unconfirmed { exits: *exits, has_fallback },
            _ if has_fallback => TrustLevel::OnProbation,
            _ => TrustLevel::NoFallback,
        };
        Trust { generation, level }
    }

    /// It has passed its probation. True if that is news.
    pub(in crate::store) fn prove(&mut self, number: u64, is_confirmed: bool) -> bool {
        let Some(generation) = self.find(number) else { return false };
        match (generation.is_proved(), is_confirmed) {
            (_, true) => self.set_standing(number, Standing::Confirmed),
            (true, false) => false,
            (false, false) => self.set_standing(number, Standing::Unconfirmed { exits: 0, starts: 0 }),
        }
    }

    pub(in crate::store) fn record_exits(&mut self, number: u64, exits: u32) {
        if let Some(Standing::Unconfirmed { starts, .. }) = self.find(number).map(|it| &it.standing) {
            let starts = *starts;
            self.set_standing(number, Standing::Unconfirmed { exits, starts });
        }
    }

    /// An agent starts in this boot of the host: what was never installed goes, and the active config's standing is
    /// that of a start later.
    pub(in crate::store) fn started(&mut self, boot: Option<&str>) {
        self.drop_uninstalled();
        let Some(active) = self.active() else { return };
        let standing = match self.find(active).map(|it| it.standing.clone()) {
            Some(Standing::Pending { boot: Some(boot), starts }) => {
                Standing::Pending { boot: Some(boot), starts: starts + 1 }
            }
            Some(Standing::Confirmed | Standing::Unconfirmed { .. }) | None => return,
            // Or put back by hand, although it failed before.
            Some(_) => Standing::Pending { boot: boot.map(str::to_string), starts: 0 },
        };
        self.set_standing(active, standing);
    }

    /// Without what waits for its install, which nobody knows of any more.
    pub(in crate::store) fn drop_uninstalled(&mut self) {
        let active = self.active();
        let uninstalled = |it: &&Generation| it.is_pending() && Some(it.number) != active;
        let numbers: Vec<u64> = self.generations.iter().filter(uninstalled).map(|it| it.number).collect();
        numbers.into_iter().for_each(|number| self.remove(number));
    }

    /// Why the active config is not to be started again, if there is another.
    pub(in crate::store) fn start_problem(&self, boot: Option<&str>) -> Option<StartProblem> {
        let active = self.find(self.active()?)?;
        if self.fallbacks(Some(active.number)).is_empty() {
            return None;
        }
        match &active.standing {
            Standing::Unconfirmed { exits, .. } if *exits >= MAX_EXITS => Some(StartProblem::Exits(*exits)),
            Standing::Pending { boot: Some(tried), .. } if boot.is_some_and(|boot| boot != tried) => {
                Some(StartProblem::Booted)
            }
            Standing::Pending { starts, .. } if *starts > MAX_STARTS => Some(StartProblem::Starts(*starts)),
            _ => None,
        }
    }

    /// An agent ends in good order: a config that is on probation is not to blame. One that `has_run` under this agent
    /// and never crashed is confirmed after so many of them: some hosts run five minutes a day. An agent that is
    /// killed, with its host maybe, does not count: the config may have done that.
    pub(in crate::store) fn stopped(&mut self, has_run: bool) {
        self.drop_uninstalled();
        let Some(active) = self.active() else { return };
        let standing = match self.find(active).map(|it| it.standing.clone()) {
            Some(Standing::Pending { .. }) => Standing::Pending { boot: None, starts: 0 },
            Some(Standing::Unconfirmed { exits: 0, starts }) if has_run => match starts + 1 {
                MAX_STARTS.. => Standing::Confirmed,
                starts => Standing::Unconfirmed { exits: 0, starts },
            },
            _ => return,
        };
        self.set_standing(active, standing);
    }

    /// A check without an agent finds this config active: confirmed if it has been for `confirm_seconds`.
    pub(in crate::store) fn found_by_check(&mut self, now: u64, confirm_seconds: u64) -> bool {
        self.drop_uninstalled();
        let Some(active) = self.active().and_then(|number| self.find(number)) else { return false };
        let is_due = now.checked_sub(active.installed_at).is_some_and(|since| since >= confirm_seconds);
        let number = active.number;
        is_due && self.set_standing(number, Standing::Confirmed)
    }

    /// Whether this one would be missed: the active one, what waits for its install, what a roll back would go to, and
    /// the newest rejected.
    fn is_needed(&self, generation: &Generation) -> bool {
        let active = self.active();
        let newest = |of: fn(&Generation) -> bool| self.generations.iter().rfind(|it| of(it)).map(|it| it.number);
        let number = Some(generation.number);
        generation.is_pending()
            || number == active
            || number == self.fallbacks(active).first().copied()
            || number == newest(Generation::is_confirmed)
            || number == newest(Generation::is_rejected)
    }

    /// What is not kept within these limits, the oldest first, by the bytes of each; nothing while a verdict is due.
    pub(super) fn excess(&self, limits: Limits, bytes: impl Fn(u64) -> u64) -> Vec<u64> {
        if self.active().and_then(|number| self.find(number)).is_some_and(Generation::is_pending) {
            return Vec::new();
        }
        // Of those that were active, the newest; the confirmed one that is older is kept besides.
        let (mut count, mut total) = (0, 0_u64);
        let mut excess = Vec::new();
        for generation in self.generations.iter().rev() {
            count += usize::from(!matches!(generation.standing, Standing::Refused { .. }));
            total = total.saturating_add(bytes(generation.number));
            let is_within = count <= limits.count && total <= limits.bytes;
            let is_refused = matches!(generation.standing, Standing::Refused { .. });
            if (!is_within || is_refused) && !self.is_needed(generation) {
                excess.insert(0, generation.number);
            }
        }
        excess
    }

    /// The one that goes first where there is no space: the oldest that is not confirmed, then the oldest.
    pub(super) fn least_needed(&self) -> Option<u64> {
        let spare = || self.generations.iter().filter(|it| !self.is_needed(it) && !it.is_unkept);
        spare().find(|it| !it.is_confirmed()).or(spare().next()).map(|it| it.number)
    }

    /// Why the active config may not be replaced: it is the only one that has proved itself, and it is not kept.
    pub(in crate::store) fn is_only_proved_unkept(&self) -> bool {
        let active = self.active().and_then(|number| self.find(number));
        active.is_some_and(|it| it.is_unkept && it.is_proved() && self.fallbacks(Some(it.number)).is_empty())
    }

    /// Whether a roll back speaks against this one: not if it has proved itself, and an operator has put it back in the
    /// place of the one that failed, for instance.
    pub(in crate::store) fn has_failed(&self, number: u64) -> bool {
        match self.find(number).map(|it| &it.standing) {
            Some(Standing::Unconfirmed { exits, .. }) => *exits >= MAX_EXITS,
            Some(Standing::Confirmed) | None => false,
            Some(_) => true,
        }
    }

    /// It has failed, and so has the same config where it was active before and was not confirmed: nothing goes back to
    /// that.
    pub(in crate::store) fn reject(&mut self, number: u64, problem: &Masked) {
        let revision = self.find(number).and_then(|it| it.revision.clone());
        let is_same = |it: &&Generation| {
            it.number == number || it.is_proved() && !it.is_confirmed() && revision.is_some() && it.revision == revision
        };
        let numbers: Vec<u64> = self.generations.iter().filter(is_same).map(|it| it.number).collect();
        for number in numbers {
            self.set_standing(number, Standing::RolledBack { problem: problem.clone() });
        }
    }
}

impl Generation {
    pub(in crate::store) fn new(
        revision: Option<Revision>,
        source: Origin,
        installed_at: u64,
        standing: Standing,
    ) -> Generation {
        Generation {
            number: 0,
            revision,
            source,
            installed_at,
            standing,
            file: None,
            is_unkept: true,
            is_parsed: false,
        }
    }
}
