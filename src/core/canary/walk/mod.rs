//! Random walks: a group against a model of its pods, of the record and of an updater that is killed, with what must
//! hold after every answer. A walk is its seed; one that fails is walked again with its story printed.
//!
//! What happens: pods that ask, lose answers, vanish, come back, are ill, held or new; nobody can ask for a while; the
//! record is written late, not at all, or without a word, or changed by others; the updater is killed; configs of every
//! kind, newer ones amid a canary, the same again, withdrawn ones.
//!
//! What must hold, in `rules`:
//! 1. No candidate is offered but as the record that is written says: to its canary, to no more pods than its step has,
//!    or to all.
//! 2. While there is a canary, no two living pods have a candidate by an offer that was not taken back.
//! 3. What the record rejects is not offered.
//! 4. What no pod can prove is never everybody's, and what is everybody's has been proved by a pod.
//! 5. No pod is offered what it has, and none is restarted but once for each request, or for what it is offered.
//! 6. Each order differs from the one before, and one with a verdict follows each rejection and promotion.
//! 7. When nothing goes wrong any more, a good config is everybody's in bounded time, a bad one is rejected, and every
//!    pod has what is everybody's.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::time::Duration;

use super::{Action, Answer, Candidate, ConfigState, Event, Group, PodId, PodReport, Record, Rules, Stage};
use crate::core::{Jitter, Uptime};

mod pods;
mod rules;

use pods::{Kind, SimulatedPod};

const WALKS: u64 = 300;
const STEPS: usize = 600;

type Revision = usize;

struct World {
    random: Jitter,
    verbose: bool,
    /// How often things fail in this world, `0.0..1.0`.
    trouble: f64,
    rules: Rules,
    /// Of the pods' agents.
    confirm_time: Duration,
    now: Uptime,
    group: Group<Revision>,
    pods: Vec<SimulatedPod>,
    pods_made: usize,
    /// By revision. What is not good can be proved by no pod.
    kinds: Vec<Kind>,
    /// What the API asks for, and asked for before.
    offered: Revision,
    offered_before: Revision,
    /// The ConfigMap.
    stored: Record<Revision>,
    /// The updater's order, not carried out.
    order: Option<(u64, Record<Revision>)>,
    latest_order: Option<Record<Revision>>,
    /// On its way to the group.
    persisted: Vec<u64>,
    /// Nobody can ask until then.
    outage_until: Uptime,
    promoted: BTreeSet<Revision>,
    seen: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64, verbose: bool) -> World {
        // Spreads small seeds over all bits: the golden ratio's, as in splitmix64.
        let mut random = Jitter::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut pick = |bound: usize| (random.fraction() * bound as f64) as usize;
        let seconds = Duration::from_secs;
        let confirm_time = seconds([60, 600][pick(2)]);
        let rules = Rules {
            canary_time: [None, None, Some(confirm_time)][pick(3)],
            steps: [vec![], vec![25], vec![10, 50, 100], vec![100]][pick(4)].clone(),
            interval: seconds([10, 60][pick(2)]),
            pod_deadline: confirm_time + seconds(600),
        };
        let stored = Record { stable: [None, Some(0)][pick(2)], candidate: None, rejected: None };
        let (trouble, count) = ([0.0, 0.05, 0.3][pick(3)], [1, 2, 3, 10, 25][pick(5)]);
        let mut world = World {
            random,
            verbose,
            trouble,
            group: Group::new(rules.clone(), stored.clone()),
            rules,
            confirm_time,
            now: Uptime::ZERO,
            pods: Vec::new(),
            pods_made: 0,
            kinds: vec![Kind::Good],
            offered: 0,
            offered_before: 0,
            stored,
            order: None,
            latest_order: None,
            persisted: Vec::new(),
            outage_until: Uptime::ZERO,
            promoted: BTreeSet::from([0]),
            seen: BTreeSet::new(),
        };
        (0..count).for_each(|_| world.add_pod());
        world
    }

    fn chance(&mut self, share: f64) -> bool {
        self.random.fraction() < share
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random.fraction() * bound as f64) as usize
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>8.1} {}", self.now.as_secs_f64(), what());
        }
    }

    fn walk(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.converge();
    }

    fn step(&mut self) {
        match self.below(1000) {
            0..700 => self.next_pod_asks(),
            700..850 => self.write(),
            850..930 => self.hear_of_writes(),
            930..936 => self.offer_another(),
            936..950 => self.event(Event::Offered(self.offered)),
            950..955 => self.ask_for_restarts(),
            955..963 if self.chance(self.trouble) => self.kill_updater(),
            963..966 if self.chance(self.trouble) => self.change_record(),
            966..975 if self.chance(self.trouble * 2.0) => self.remove_pod(),
            975..985 if self.pods.len() < 30 => self.add_pod(),
            985..995 if self.chance(self.trouble) => self.trouble_a_pod(),
            995..998 if self.chance(self.trouble) => {
                self.outage_until = self.now + self.rules.interval * self.below(20) as u32;
            }
            _ => {}
        }
    }

    // ---- The updater and the record.

    fn event(&mut self, event: Event<Revision>) {
        self.tell(|| format!("{event:?}"));
        let actions = self.group.handle(self.now, event);
        self.perform(actions);
    }

    fn offer_another(&mut self) {
        let offered_before = self.offered;
        self.offered = match self.below(5) {
            0 => self.below(self.kinds.len()),
            4 => self.offered_before,
            1 => self.stored.stable.unwrap_or(0),
            _ => {
                let kind = Kind::ALL[self.below(Kind::ALL.len())];
                self.kinds.push(kind);
                self.tell(|| format!("config {} is {kind:?}", self.kinds.len() - 1));
                self.kinds.len() - 1
            }
        };
        self.offered_before = offered_before;
        self.event(Event::Offered(self.offered));
    }

    fn ask_for_restarts(&mut self) {
        self.pods.iter_mut().for_each(|pod| pod.may_restart = true);
        self.event(Event::RestartAsked);
    }

    /// The write succeeds and is told of, or not.
    fn write(&mut self) {
        let Some((order, record)) = self.order.clone() else { return };
        if self.chance(self.trouble) {
            return;
        }
        self.tell(|| format!("written: {record:?}"));
        self.stored = record;
        if self.chance(self.trouble) {
            self.seen.insert("written without a word");
            return;
        }
        self.order = None;
        self.persisted.push(order);
    }

    fn hear_of_writes(&mut self) {
        if !self.persisted.is_empty() {
            let order = self.persisted.remove(0);
            self.event(Event::Persisted(order));
        }
    }

    fn kill_updater(&mut self) {
        self.tell(|| format!("killed; there is {:?}", self.stored));
        self.seen.insert(if self.order.is_some() { "killed before a write" } else { "killed" });
        (self.order, self.latest_order) = (None, None);
        self.persisted.clear();
        self.group = Group::new(self.rules.clone(), self.stored.clone());
        self.pods.iter_mut().for_each(|pod| pod.may_restart = false);
    }

    /// An operator has a rejected config tried again, or ends a rollout.
    fn change_record(&mut self) {
        self.seen.insert("changed by others");
        if self.chance(0.5) {
            self.stored.rejected = None;
        } else {
            self.stored.candidate = None;
        }
        // One that is on its way may be carried out all the same.
        let overtaken = self.order.take().filter(|_| self.chance(0.5));
        self.latest_order = None;
        self.event(Event::Found(self.stored.clone()));
        if let Some((order, record)) = overtaken {
            self.tell(|| format!("written in its place: {record:?}"));
            self.seen.insert("written after a change");
            self.stored = record;
            self.persisted.push(order);
        }
    }

    // ---- The pods.

    fn next_pod_asks(&mut self) {
        let Some(index) = (0..self.pods.len()).min_by_key(|&index| self.pods[index].asks_at) else {
            self.now += self.rules.interval;
            return;
        };
        self.now = self.now.max(self.pods[index].asks_at);
        self.live_on(index);
        if self.pods.get(index).is_none_or(|pod| pod.asks_at > self.now) {
            return;
        }
        let asks_at = self.now + self.random.spread(self.rules.interval, 10);
        let is_unheard = self.now < self.outage_until || self.pods[index].unheard_until > self.now;
        self.pods[index].asks_at = asks_at;
        if is_unheard {
            return;
        }
        let (id, report) = (self.pods[index].id.clone(), self.pods[index].report());
        let (answer, actions) = self.group.reported(self.now, &id, &report);
        self.tell(|| format!("{id} {report:?} → {answer:?}"));
        self.perform(actions);
        self.check_answer(index, &report, &answer);
        if self.chance(self.trouble * 0.3) {
            self.seen.insert("answer lost");
            return;
        }
        self.take(index, answer);
    }

    /// No more trouble: the record is written at once, and each pod is well and asks.
    fn converge(&mut self) {
        (self.trouble, self.outage_until) = (0.0, self.now);
        self.pods.iter_mut().for_each(SimulatedPod::heal);
        if self.pods.is_empty() {
            self.add_pod();
        }
        let kind = Kind::ALL[self.below(Kind::ALL.len())];
        self.kinds.push(kind);
        self.offered = self.kinds.len() - 1;
        let (offered, began_at, pods) = (self.offered, self.now, self.pods.len());
        self.tell(|| format!("no more trouble; config {offered} is {kind:?}"));
        self.event(Event::Offered(offered));
        // A stage takes a report, the proof, and a report; a canary that cannot take it its deadline; a hard one kills
        // three. Each begins when all have asked.
        let stage = self.confirm_time * 2 + self.rules.pod_deadline + self.rules.interval * 4;
        let limit = self.rules.forget_after() * 5 + stage * 6;
        while self.now < began_at + limit {
            self.write();
            self.hear_of_writes();
            self.next_pod_asks();
            if self.pods.len() < pods.min(5) {
                // A node that died is replaced.
                self.add_pod();
            }
            let is_over = self.stored.candidate.is_none() && self.order.is_none() && self.persisted.is_empty();
            let everybodys = self.stored.stable;
            let all_have_it = everybodys.is_none()
                || self.pods.iter().all(|pod| pod.active == everybodys || pod.rejected == everybodys);
            if is_over && all_have_it {
                let is_rejected = self.stored.rejected.as_ref().is_some_and(|it| it.revision == offered);
                match kind {
                    Kind::Good => assert_eq!(everybodys, Some(offered), "a good config is not everybody's"),
                    _ => assert!(is_rejected && everybodys != Some(offered), "a {kind:?} config is not rejected"),
                }
                self.seen.insert("converged");
                return;
            }
        }
        // One pod after the other has its turn.
        let left_out = self.group.pods.values().filter(|pod| pod.is_left_out).count();
        let had_turns = self.group.rounds > 0 || left_out > 1;
        let hangs = kind == Kind::Hangs && self.stored.stable != Some(offered) && had_turns;
        assert!(hangs, "a {kind:?} config has no verdict after {limit:?}: {:?}", self.group);
        self.seen.insert("never taken");
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let mut seen = BTreeSet::new();
    for seed in 0..WALKS {
        let walked = catch_unwind(|| {
            let mut world = World::new(seed, false);
            world.walk();
            world.seen
        });
        match walked {
            Ok(world) => seen.extend(world),
            Err(_) => {
                eprintln!("the story of walk {seed}:");
                World::new(seed, true).walk();
                unreachable!("it fails each time");
            }
        }
    }
    let everything = [
        "answer lost",
        "changed by others",
        "converged",
        "held",
        "ill",
        "killed",
        "killed before a write",
        "never taken",
        "offered to a canary",
        "offered to all",
        "offered to one of a step",
        "promoted",
        "rejected: rejected it",
        "rejected: started again and again",
        "rejected: vanished",
        "restarted",
        "sent back",
        "started anew",
        "unheard",
        "vanished",
        "written after a change",
        "written without a word",
    ];
    assert_eq!(seen, BTreeSet::from(everything));
}
