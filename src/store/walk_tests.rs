//! Random walks: what agents, checks, operators, kills and boots do to the generations, on real files. Whatever they
//! do, and wherever one is cut short:
//!
//! - the newest confirmed config is on disk, and is active or what a roll back goes to;
//! - a config that has crashed three times before it was confirmed is never gone back to, and no agent starts with it
//!   if there is another.
//!
//! What the core adds to that while an agent runs is in `core::supervisor::walk`.

use std::collections::BTreeSet;

use super::*;
use crate::core::Jitter;

const WALKS: u64 = 30;
const STEPS: usize = 60;

struct Walk {
    scene: Scene,
    random: Jitter,
    contents: usize,
    /// The newest one that was ever seen confirmed on disk.
    confirmed: Option<(u64, String)>,
    /// Those that were ever seen with too many exits, unconfirmed.
    crashed: BTreeSet<u64>,
    seen: BTreeSet<&'static str>,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        let random = Jitter::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let scene = Scene::of(Dir::in_memory());
        write(scene.config(), "c: 0\n");
        scene.store.open_generations();
        let (contents, confirmed, crashed, seen) = (0, None, BTreeSet::new(), BTreeSet::new());
        let mut walk = Walk { scene, random, contents, confirmed, crashed, seen };
        walk.start();
        walk
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random.fraction() * bound as f64) as usize
    }

    /// Whatever was done, it is written, or the agent is killed before.
    fn step(&mut self) {
        let is_killed = self.below(6) == 0;
        match self.below(12) {
            0..4 => self.install(),
            4 | 5 => self.prove(),
            6 => self.confirm(),
            7 | 8 => self.exit(),
            9 => self.edit(),
            10 => self.refuse(),
            _ => return self.end(),
        }
        if is_killed {
            self.seen.insert("killed before it was written");
            return self.restart();
        }
        self.save();
        if self.below(8) == 0 {
            self.restart();
        }
    }

    fn active(&self) -> Option<Generation> {
        self.scene.store.trust().generation.and_then(|number| self.scene.store.generation(number))
    }

    fn new_text(&mut self) -> String {
        self.contents += 1;
        format!("c: {}\n", self.contents)
    }

    fn install(&mut self) {
        // Sometimes what was confirmed is offered again.
        let again = self.confirmed.as_ref().map(|(_, text)| text.clone()).filter(|_| self.random.fraction() < 0.2);
        let text = again.unwrap_or_else(|| self.new_text());
        let candidate = self.scene.candidate(&text);
        self.scene.store.install(&candidate).unwrap();
        // It dies on probation.
        if self.below(3) == 0 && self.scene.store.has_fallback() {
            let target = if self.below(2) == 0 { Target::Former } else { Target::Fallback };
            let may_wait = self.below(2) == 0;
            self.scene.store.roll_back(target, &"it failed".into(), may_wait).unwrap();
            self.seen.insert("rolled back on probation");
        }
    }

    fn prove(&mut self) {
        if let Some(active) = self.active().filter(|it| !it.is_proved()) {
            self.scene.store.prove(active.number, false);
            self.seen.insert("proved");
        }
    }

    fn confirm(&mut self) {
        let active = self.active().filter(|it| matches!(it.standing, Standing::Unconfirmed { exits: 0..3, .. }));
        if let Some(active) = active {
            self.scene.store.prove(active.number, true);
            self.seen.insert("confirmed");
        }
    }

    fn exit(&mut self) {
        let Some(active) = self.active() else { return };
        let Standing::Unconfirmed { exits: exits @ 0..3, .. } = active.standing else { return };
        let exits = (exits + 1 + self.below(3) as u32).min(3);
        self.scene.store.record_exits(active.number, exits);
        if exits < 3 {
            return;
        }
        // It is on disk before the roll back, which a kill may prevent.
        self.save_and_look();
        if self.below(2) == 0 && self.scene.store.has_fallback() {
            self.scene.roll_back().unwrap();
            self.seen.insert("rolled back late");
        } else {
            self.restart();
        }
    }

    /// An operator's, who may also remove the config.
    fn edit(&mut self) {
        if self.below(3) > 0 {
            let text = self.new_text();
            write(self.scene.config(), &text);
            return;
        }
        std::fs::remove_file(self.scene.config()).unwrap();
        if self.scene.store.has_fallback() {
            self.scene.roll_back().unwrap();
            self.seen.insert("restored");
        } else {
            let text = self.new_text();
            write(self.scene.config(), &text);
        }
    }

    fn refuse(&mut self) {
        let text = self.new_text();
        self.scene.store.keep_refused(&text, &revision(&text), &"no".into());
    }

    /// The agent ends in good order.
    fn end(&mut self) {
        let has_run = self.active().is_some_and(|it| it.is_proved());
        self.scene.store.end(has_run);
        self.save();
        self.restart();
    }

    /// The next agent starts, maybe after a boot.
    fn restart(&mut self) {
        if self.below(4) == 0 {
            let (list, boot) = (read(self.scene.list()), crate::os::process_id::boot().unwrap());
            write(self.scene.list(), &list.replace(&boot, "11111111-2222-3333-4444-555555555555"));
            self.seen.insert("booted");
        }
        // Sometimes one after the other.
        let starts = if self.below(6) == 0 { 4 } else { 1 };
        for _ in 0..starts {
            self.scene.reopen();
            self.start();
        }
    }

    fn start(&mut self) {
        self.scene.store.begin();
        if let Some(problem) = self.scene.store.start_problem() {
            self.scene.roll_back().unwrap();
            self.seen.insert(match problem {
                StartProblem::Exits(_) => "crashed before this start",
                StartProblem::Booted => "booted on probation",
                StartProblem::Starts(_) => "started too often",
            });
        }
        self.save();
        let active = self.active().expect("there is a config");
        let fallbacks = self.scene.store.generations.list().fallbacks(Some(active.number));
        if self.has_twin(active.number) {
            // It is what was confirmed, and is tried as that.
            self.crashed.remove(&active.number);
        }
        assert!(
            fallbacks.is_empty() || !self.crashed.contains(&active.number),
            "an agent starts with what has crashed: {active:?}"
        );
    }

    /// After a kill the active config is known by its content, which may have been confirmed under another number.
    fn has_twin(&self, number: u64) -> bool {
        let content = |number: u64| std::fs::read(self.scene.store.generation_path(number)).ok();
        let is_twin =
            |it: &Generation| it.is_confirmed() && it.number != number && content(it.number) == content(number);
        self.scene.store.generations().iter().any(is_twin)
    }

    fn save(&mut self) {
        self.save_and_look();
        self.check();
    }

    /// From now on it is on disk.
    fn save_and_look(&mut self) {
        self.scene.store.save().unwrap();
        for generation in self.scene.store.generations() {
            let number = generation.number;
            match generation.standing {
                Standing::Confirmed => {
                    assert!(!self.crashed.contains(&number), "{number} has crashed, and is confirmed");
                    if self.confirmed.as_ref().is_none_or(|(newest, _)| *newest < number) {
                        self.confirmed = Some((number, read(self.scene.store.generation_path(number))));
                    }
                }
                Standing::Unconfirmed { exits: 3.., .. } => _ = self.crashed.insert(number),
                _ => {}
            }
        }
    }

    fn check(&mut self) {
        let active = self.active().map(|it| it.number);
        let fallbacks = self.scene.store.generations.list().fallbacks(active);
        assert!(
            fallbacks.iter().all(|it| !self.crashed.contains(it)),
            "{fallbacks:?}, and crashed: {:?}",
            self.crashed
        );
        let Some((confirmed, text)) = &self.confirmed else { return };
        let kept = self.scene.store.generation(*confirmed).expect("a confirmed config is lost");
        assert!(kept.is_confirmed(), "{kept:?} was confirmed");
        assert_eq!(&read(self.scene.store.generation_path(*confirmed)), text);
        let places = [active, fallbacks.first().copied()];
        // One that was just written by hand has no file of its own yet.
        let has_it =
            |it: &u64| std::fs::read_to_string(self.scene.store.generation_path(*it)).is_ok_and(|it| it == *text);
        assert!(places.iter().flatten().any(has_it), "{confirmed} is neither active nor gone back to: {places:?}");
    }
}

#[test]
fn whatever_happens_the_newest_confirmed_config_is_kept_and_none_that_crashed_comes_back() {
    let mut seen = BTreeSet::new();
    for seed in 0..WALKS {
        let mut walk = Walk::new(seed);
        for _ in 0..STEPS {
            walk.step();
        }
        seen.extend(walk.seen);
    }
    let everything = [
        "booted",
        "booted on probation",
        "confirmed",
        "crashed before this start",
        "killed before it was written",
        "proved",
        "restored",
        "rolled back late",
        "rolled back on probation",
        "started too often",
    ];
    assert_eq!(seen, BTreeSet::from(everything));
}
