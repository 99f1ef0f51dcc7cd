//! The store on a real file system: what each operation leaves behind, and how each fails.
//!
//! Everything here holds for root and for an ordinary user; what takes root says so. `ENOTDIR` stands for "cannot be
//! looked at", since root may look at everything that is a directory.

#[path = "walk_tests.rs"]
mod walk;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::generations::{Standing, StartProblem, TrustLevel};
use super::*;
use crate::os::unix::files::test_dir::{Dir, mode, read, write};

/// What any file here may have.
const MAX_BYTES: u64 = 100;

const LIMITS: Limits = Limits { count: 3, bytes: 1000 };

/// A store whose config and state lie in directories of their own.
struct Scene {
    dir: Dir,
    store: Store,
}

impl Scene {
    /// No files yet.
    fn empty() -> Scene {
        Scene::of(Dir::new())
    }

    fn of(dir: Dir) -> Scene {
        std::fs::create_dir(dir.join("etc")).unwrap();
        std::fs::create_dir(dir.join("state")).unwrap();
        let store = Scene::store(&dir);
        Scene { dir, store }
    }

    fn store(dir: &Dir) -> Store {
        Store::new(&dir.join("etc/config.yaml"), &dir.join("state"), MAX_BYTES, LIMITS)
    }

    /// A config, and a confirmed one if there is such.
    fn with(config: &str, good: Option<&str>) -> Scene {
        let scene = Scene::empty();
        write(scene.config(), config);
        if let Some(good) = good {
            write(scene.dir.join("state/last-known-good.yaml"), good);
        }
        scene.store.open_generations();
        scene
    }

    /// The next process finds what this one has left.
    fn reopen(&mut self) {
        self.store = Scene::store(&self.dir);
        self.store.open_generations();
    }

    /// Installs a candidate.
    fn install(&self, text: &str) -> u64 {
        let candidate = self.candidate(text);
        self.store.install(&candidate).unwrap();
        self.store.save().unwrap();
        candidate.generation().unwrap()
    }

    fn roll_back(&self) -> Result<RolledBack> {
        self.store.roll_back(Target::Fallback, &"it failed".into(), false)
    }

    /// Number, content and standing of each, the oldest first.
    fn kept(&self) -> Vec<(u64, String, Standing)> {
        let content = |number| std::fs::read_to_string(self.store.generation_path(number)).unwrap_or_default();
        self.store.generations().into_iter().map(|it| (it.number, content(it.number), it.standing)).collect()
    }

    fn level(&self) -> TrustLevel {
        self.store.trust().level
    }

    /// Nothing below `name` can be looked at: it is no directory.
    fn close(&self, name: &str) {
        std::fs::remove_dir_all(self.dir.join(name)).unwrap();
        write(self.dir.join(name), "");
    }

    fn config(&self) -> PathBuf {
        self.dir.join("etc/config.yaml")
    }

    fn list(&self) -> PathBuf {
        self.dir.join("state/generations.json")
    }

    fn rejected(&self) -> PathBuf {
        self.dir.join("etc/config.yaml.rejected")
    }

    fn candidate(&self, text: &str) -> Candidate {
        let mut candidate = self.store.write_candidate(text, revision(text)).unwrap();
        self.store.keep_candidate(&mut candidate, text);
        candidate
    }
}

fn revision(text: &str) -> Revision {
    yaml::parse(text.as_bytes()).unwrap().revision()
}

fn failed() -> Standing {
    Standing::RolledBack { problem: "it failed".into() }
}

const UNCONFIRMED: Standing = Standing::Unconfirmed { exits: 0, starts: 0 };

#[track_caller]
fn fails<T: std::fmt::Debug>(outcome: Result<T>, exit: Exit, words: &[&str]) {
    let error = outcome.unwrap_err();
    assert_eq!(error.exit(), exit, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn it_knows_its_paths() {
    let scene = Scene::empty();
    assert_eq!(scene.store.config(), scene.config());
    assert_eq!(scene.store.state_dir(), scene.dir.join("state"));
}

#[test]
fn a_candidate_is_a_whole_private_file_beside_the_config_and_goes_with_its_owner() {
    let scene = Scene::empty();
    let candidate = scene.candidate("new: 1\n");
    let name = candidate.path().file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!(".config.yaml.candidate-{}-", std::process::id())), "{name}");
    assert_eq!(candidate.path().parent().unwrap(), scene.dir.join("etc"));
    assert_eq!((read(candidate.path()).as_str(), mode(candidate.path())), ("new: 1\n", 0o600));
    assert_eq!(candidate.revision, revision("new: 1\n"));
    let another = scene.candidate("new: 2\n");
    assert_ne!(another.path(), candidate.path());
    drop(candidate);
    assert_eq!(scene.dir.names("etc"), [another.path().file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn an_installed_candidate_is_the_config_and_stays() {
    let scene = Scene::with("old: 1\n", None);
    let candidate = scene.candidate("new: 1\n");
    assert_eq!(read(scene.config()), "old: 1\n");
    scene.store.install(&candidate).unwrap();
    assert_eq!(read(scene.config()), "new: 1\n");
    drop(candidate);
    assert!(scene.store.prove(2, false) && !scene.store.prove(2, false));
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
    // The directory in its way cannot be replaced by a file.
    let scene = Scene::empty();
    std::fs::create_dir(scene.config()).unwrap();
    let candidate = scene.candidate("new: 1\n");
    fails(scene.store.install(&candidate), Exit::CannotWrite, &["cannot install the new config", "config.yaml"]);
}

#[test]
fn a_candidate_takes_over_the_mode_of_the_config() {
    let scene = Scene::with("old: 1\n", None);
    std::fs::set_permissions(scene.config(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(mode(scene.candidate("new: 1\n").path()), 0o640);
}

#[test]
fn a_candidate_that_cannot_be_written_names_path_and_remedy() {
    let scene = Scene::empty();
    std::fs::remove_dir(scene.dir.join("etc")).unwrap();
    let words = ["cannot write the new config (create the directory)", "etc/config.yaml: "];
    fails(scene.store.write_candidate("new: 1\n", revision("new: 1\n")), Exit::CannotWrite, &words);
}

#[test]
fn a_config_that_is_a_link_is_replaced_where_it_points() {
    let scene = Scene::empty();
    let real = scene.dir.join("real.yaml");
    symlink("../real.yaml", scene.config()).unwrap();
    // Before the target exists, and after.
    for text in ["first: 1\n", "second: 1\n"] {
        let candidate = scene.candidate(text);
        assert_eq!(candidate.path().parent().unwrap().canonicalize().unwrap(), scene.dir.path());
        scene.store.install(&candidate).unwrap();
        assert_eq!(
            (read(&real).as_str(), std::fs::read_link(scene.config()).unwrap().to_str()),
            (text, Some("../real.yaml"))
        );
    }
    assert!(scene.store.prove(1, true));
    let RolledBack { from, to, .. } = scene.roll_back().unwrap();
    assert_eq!((read(&real).as_str(), from, to), ("first: 1\n", Some(2), 1));
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
}

#[test]
fn a_link_that_leads_nowhere_is_not_replaced() {
    let scene = Scene::empty();
    symlink("config.yaml", scene.config()).unwrap();
    fails(
        scene.store.write_candidate("new: 1\n", revision("new: 1\n")),
        Exit::CannotWrite,
        &["cannot write the new config"],
    );
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
}

#[test]
fn an_identity_tells_whether_a_file_is_still_the_same() {
    let scene = Scene::with("old: 1\n", None);
    assert_eq!(FileId::of(&scene.dir.join("missing")), None);
    let seen = FileId::of(&scene.config()).unwrap();
    assert_eq!(FileId::of(&scene.config()), Some(seen));
    assert_eq!(scene.store.look().unwrap(), Some(seen));
    scene.install("new: 1\n");
    assert_ne!(FileId::of(&scene.config()), Some(seen));
}

#[test]
fn what_cannot_be_looked_at_is_not_missing() {
    let scene = Scene::empty();
    assert_eq!(scene.store.look().unwrap(), None);
    assert!(!scene.store.has_config() && !scene.store.has_fallback());
    write(scene.config(), "");
    assert!(scene.store.has_config());
    scene.close("etc");
    fails(scene.store.look(), Exit::Unavailable, &["cannot stat the config", "etc/config.yaml"]);
    assert_eq!(FileId::of(&scene.config()), None);
    assert!(scene.store.has_config());
}

#[test]
fn a_config_that_is_a_mount_of_its_own_is_seen() {
    assert!(!Scene::empty().store.is_mounted());
    assert!(!Scene::with("a: 1\n", None).store.is_mounted());
    // No file, but a mount on every Linux.
    assert!(Store::new(Path::new("/proc"), Path::new("/"), MAX_BYTES, LIMITS).is_mounted());
}

#[test]
fn a_seed_is_only_put_where_there_is_nothing() {
    let default = |scene: &Scene| {
        let path = scene.dir.join("default.yaml");
        write(&path, "default: 1\n");
        path
    };
    let scene = Scene::empty();
    assert!(!scene.store.install_seed(&scene.dir.join("default.yaml")).unwrap());
    assert!(scene.store.install_seed(&default(&scene)).unwrap());
    assert_eq!((read(scene.config()).as_str(), mode(scene.config())), ("default: 1\n", 0o600));

    let scene = Scene::with("own: 1\n", None);
    assert!(!scene.store.install_seed(&default(&scene)).unwrap());
    assert_eq!(read(scene.config()), "own: 1\n");

    let scene = Scene::with("active: 1\n", Some("good: 1\n"));
    std::fs::remove_file(scene.config()).unwrap();
    assert!(!scene.store.install_seed(&default(&scene)).unwrap());
    assert!(!scene.config().exists());

    let scene = Scene::empty();
    let unreadable = scene.store.install_seed(&scene.dir.join("state"));
    fails(unreadable, Exit::Unavailable, &["cannot read the default config", "state"]);
    write(scene.dir.join("blank.yaml"), " \n");
    assert!(!scene.store.install_seed(&scene.dir.join("blank.yaml")).unwrap());
    assert!(!scene.config().exists());
}

#[test]
fn configs_are_read_as_trees() {
    let scene = Scene::with("a: 1\n", Some("b: 1\n"));
    write(scene.store.generation_path(1), "{broken");
    assert_eq!(scene.store.read_config().unwrap().get("a"), Some(&Value::Integer(1)));
    fails(scene.store.read_generation(1), Exit::ConfigRefused, &["cannot parse", "generations/1.yaml"]);
    scene.store.save().unwrap();
    assert_eq!((scene.store.read_fallback(), scene.store.generation(1).unwrap().revision), (None, None));
    assert_eq!(scene.store.generation(2).unwrap().revision, Some(revision("a: 1\n")));
    assert!(!scene.store.is_unsaved(), "it is not parsed again");
    write(scene.store.generation_path(1), "b: 2\n");
    assert_eq!(scene.store.read_fallback().unwrap().get("b"), Some(&Value::Integer(2)));
    assert_eq!(scene.store.read_fallback(), scene.store.read_confirmed());
    std::fs::remove_file(scene.config()).unwrap();
    fails(scene.store.read_config(), Exit::Unavailable, &["cannot read", "etc/config.yaml"]);
}

#[test]
fn what_an_earlier_version_kept_is_taken_over_once() {
    let mut scene = Scene::empty();
    write(scene.config(), "active: 1\n");
    write(scene.dir.join("state/last-known-good.yaml"), "good: 1\n");
    write(scene.dir.join("state/previous.yaml"), "previous: 1\n");
    write(scene.rejected(), "bad: 1\n");
    let all = [scene.dir.join("state/last-known-good.yaml"), scene.dir.join("state/previous.yaml"), scene.rejected()];
    let before: Vec<String> = all.iter().map(read).collect();
    for round in 0..3 {
        scene.reopen();
        let early = Standing::RolledBack { problem: "rolled back by an earlier version".into() };
        let kept = scene.kept();
        assert_eq!(
            kept[..3],
            [
                (1, "good: 1\n".into(), Standing::Confirmed),
                (2, "previous: 1\n".into(), Standing::Replaced),
                (3, "bad: 1\n".into(), early),
            ],
            "{round}"
        );
        assert_eq!((kept.len(), kept[3].1.as_str()), (4, "active: 1\n"), "{round}");
        assert!(scene.store.generations().iter().all(|it| it.source == Origin::Before), "{round}");
        assert!(all.iter().all(|path| !path.exists()), "{round}");
        assert_eq!(scene.level(), TrustLevel::OnProbation);
        // A kill before they were removed.
        if round == 0 {
            all.iter().zip(&before).for_each(|(path, text)| write(path, text));
        }
    }
    let numbers = ["1.yaml", "2.yaml", "3.yaml", "4.yaml"];
    assert_eq!(
        (scene.dir.names("state/generations"), mode(scene.dir.join("state/generations"))),
        (numbers.map(String::from).to_vec(), 0o700)
    );
    for number in 1..=4 {
        assert_eq!(mode(scene.store.generation_path(number)), 0o600);
    }
}

/// A roll back would go to it.
#[test]
fn what_an_earlier_version_kept_and_is_no_config_is_not_taken_over() {
    for text in ["", "\t: [bad", "good"] {
        let mut scene = Scene::empty();
        write(scene.config(), "active: 1\n");
        write(scene.dir.join("state/last-known-good.yaml"), text);
        scene.reopen();
        assert_eq!(scene.store.generations().len(), 1, "{text:?}");
        assert_eq!(scene.level(), TrustLevel::NoFallback, "{text:?}");
    }
}

#[test]
fn the_active_config_is_recognised_by_its_content() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    assert_eq!((scene.level(), scene.store.active_generation()), (TrustLevel::Confirmed, Some(1)));
    // Written anew with the same content.
    std::fs::remove_file(scene.config()).unwrap();
    write(scene.config(), "a: 1\n");
    assert_eq!((scene.level(), scene.kept().len()), (TrustLevel::Confirmed, 1));
    // Changed by hand.
    write(scene.config(), "b: 1\n");
    assert_eq!((scene.level(), scene.store.active_generation()), (TrustLevel::OnProbation, Some(2)));
    scene.store.save().unwrap();
    let by_hand = scene.store.generation(2).unwrap();
    assert_eq!((by_hand.source, by_hand.revision), (Origin::Hand, Some(revision("b: 1\n"))));
    assert_eq!(read(scene.store.generation_path(2)), "b: 1\n");
    scene.reopen();
    assert_eq!((scene.level(), scene.kept().len()), (TrustLevel::OnProbation, 2));
    // Put back by hand.
    write(scene.config(), "a: 1\n");
    assert_eq!((scene.level(), scene.kept().len()), (TrustLevel::Confirmed, 2));
    std::fs::remove_file(scene.config()).unwrap();
    assert_eq!((scene.level(), scene.store.has_fallback()), (TrustLevel::OnProbation, true));
    assert_eq!(Scene::with("a: 1\n", None).level(), TrustLevel::NoFallback);
}

/// The next poll's config would overwrite it.
#[test]
fn a_config_that_was_changed_by_hand_is_kept_before_another_is_installed() {
    for is_late in [false, true] {
        let scene = Scene::with("a: 1\n", Some("a: 1\n"));
        if !is_late {
            write(scene.config(), "hand: 1\n");
        }
        let candidate = scene.candidate("b: 1\n");
        // While the candidate waits for a verdict on another one.
        if is_late {
            write(scene.config(), "hand: 1\n");
        }
        scene.store.install(&candidate).unwrap();
        // The poller comes to it later.
        scene.store.save().unwrap();
        let hand = scene.store.generations().into_iter().find(|it| it.source == Origin::Hand).unwrap();
        assert_eq!(
            (read(scene.store.generation_path(hand.number)), hand.standing),
            ("hand: 1\n".into(), Standing::Replaced),
            "{is_late}"
        );
        assert_eq!(read(scene.config()), "b: 1\n");
    }
}

/// It is what it was: no verdict goes elsewhere, and none is lost.
#[test]
fn a_config_that_cannot_be_looked_at_for_a_moment_is_kept_when_it_can() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    let candidate = scene.candidate("b: 1\n");
    write(scene.config(), "hand: 1\n");
    let hand = scene.store.trust().generation;
    assert_eq!(hand, Some(3));
    std::fs::rename(scene.dir.join("etc"), scene.dir.join("away")).unwrap();
    write(scene.dir.join("etc"), "");
    assert_eq!(scene.store.trust().generation, hand);
    assert!(scene.store.prove(3, true));
    fails(scene.store.save(), Exit::CannotWrite, &["etc/config.yaml"]);
    fails(scene.store.keep_active(), Exit::Unavailable, &["cannot save the current config", "etc/config.yaml"]);
    fails(scene.store.install(&candidate), Exit::CannotWrite, &["cannot install the new config"]);
    assert!(scene.store.is_unsaved());

    std::fs::remove_file(scene.dir.join("etc")).unwrap();
    std::fs::rename(scene.dir.join("away"), scene.dir.join("etc")).unwrap();
    scene.store.save().unwrap();
    scene.reopen();
    assert_eq!(scene.kept().last(), Some(&(3, "hand: 1\n".into(), Standing::Confirmed)));
    assert_eq!(scene.level(), TrustLevel::Confirmed);
}

#[test]
fn a_config_is_proved_then_confirmed_and_each_is_written_once() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    let number = scene.install("b: 1\n");
    assert_eq!((number, scene.level()), (2, TrustLevel::OnProbation));
    assert!(scene.store.prove(number, false));
    assert!(!scene.store.prove(number, false), "no news");
    assert!(scene.store.is_unsaved());
    scene.store.save().unwrap();
    let written = FileId::of(&scene.list());
    scene.store.save().unwrap();
    assert_eq!((FileId::of(&scene.list()), scene.store.is_unsaved()), (written, false));
    scene.store.record_exits(number, 2);
    scene.store.save().unwrap();
    scene.reopen();
    assert_eq!(scene.level(), TrustLevel::Unconfirmed { exits: 2, has_fallback: true });
    assert!(scene.store.prove(number, true) && !scene.store.prove(number, true));
    scene.store.save().unwrap();
    scene.reopen();
    assert_eq!(scene.level(), TrustLevel::Confirmed);
    scene.store.record_exits(number, 3);
    assert_eq!(scene.level(), TrustLevel::Confirmed);
}

#[test]
fn a_roll_back_goes_to_the_newest_confirmed_and_else_to_the_newest_proved() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    let second = scene.install("b: 1\n");
    scene.store.prove(second, false);
    scene.install("c: 1\n");
    let RolledBack { from, kept, to } = scene.roll_back().unwrap();
    assert_eq!((from, to, read(scene.config())), (Some(3), 1, "a: 1\n".into()), "not the unconfirmed one");
    assert_eq!(read(kept.unwrap()), "c: 1\n");
    assert_eq!((scene.level(), scene.store.generation(3).unwrap().standing), (TrustLevel::Confirmed, failed()));
    scene.store.save().unwrap();
    scene.reopen();
    assert_eq!((scene.level(), scene.store.generation(3).unwrap().standing), (TrustLevel::Confirmed, failed()));
    // Where none is confirmed.
    let scene = Scene::with("a: 1\n", None);
    assert!(scene.store.prove(1, false));
    scene.install("b: 1\n");
    assert_eq!((scene.level(), scene.roll_back().unwrap().to), (TrustLevel::OnProbation, 1));
    // Put back by hand while another is on probation: that one has failed, this one stays.
    scene.install("bad: 1\n");
    write(scene.config(), "a: 1\n");
    let RolledBack { from, to, .. } = scene.roll_back().unwrap();
    assert_eq!((from, to, scene.store.generation(1).unwrap().standing), (None, 1, UNCONFIRMED));
    // The same config again is no other one to go back to.
    let again = scene.install("a: 1\n");
    assert_eq!((again, scene.level()), (4, TrustLevel::NoFallback));
}

/// A power failure may lose that it was rolled back, and not what it was before.
#[test]
fn nothing_goes_back_to_a_config_that_has_failed_under_another_number() {
    let scene = Scene::with("a: 1\n", None);
    scene.store.prove(1, false);
    assert_eq!(scene.install("b: 1\n"), 2);
    scene.store.prove(2, false);
    assert_eq!(scene.install("a: 2\n"), 3);
    scene.store.prove(3, false);
    assert_eq!(scene.install("b: 1\n"), 4);
    assert_eq!(scene.roll_back().unwrap().to, 3);
    let standings: Vec<Standing> = scene.kept().into_iter().map(|(_, _, standing)| standing).collect();
    assert_eq!(standings, [failed(), UNCONFIRMED, failed()]);
}

#[test]
fn a_roll_back_after_a_hand_over_goes_to_what_was_replaced_without_waiting_for_the_disk() {
    let scene = Scene::with("a: 1\n", Some("a: 1\n"));
    let second = scene.install("b: 1\n");
    scene.store.prove(second, false);
    let inode = || std::fs::metadata(scene.config()).unwrap().ino();
    let before = inode();
    scene.install("c: 1\n");
    let rolled_back = scene.store.roll_back(Target::Former, &"it failed".into(), false).unwrap();
    assert_eq!((rolled_back.to, read(scene.config())), (second, "b: 1\n".into()));
    assert_eq!(inode(), before, "the very file");
    assert_eq!(scene.level(), TrustLevel::Unconfirmed { exits: 0, has_fallback: true });
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
    // Where a file can have no second name there is a copy beside it; and what works stays.
    for (mode, expected) in [(0o1777, second), (0o755, second)] {
        std::fs::set_permissions(scene.dir.join("etc"), std::fs::Permissions::from_mode(mode)).unwrap();
        if mode == 0o1777 {
            scene.install("d: 1\n");
        }
        let rolled_back = scene.store.roll_back(Target::Former, &"it failed".into(), false).unwrap();
        assert_eq!((rolled_back.to, scene.dir.names("etc").len()), (expected, 1), "{mode:o}");
    }
}

/// Of an unconfirmed config over a confirmed one, over which another one fails; and where a file can have one name.
#[test]
fn what_a_roll_back_needs_is_beside_the_config_before_it_is_due() {
    for (mode, is_confirmed) in [(0o755, true), (0o755, false), (0o1777, true), (0o1777, false)] {
        let scene = Scene::with("a: 1\n", Some("a: 1\n"));
        let second = scene.install("b: 1\n");
        scene.store.prove(second, is_confirmed);
        std::fs::set_permissions(scene.dir.join("etc"), std::fs::Permissions::from_mode(mode)).unwrap();
        scene.install("c: 1\n");
        assert!(scene.store.is_revocable());
        // Nothing of the generations is read.
        scene.close("state");
        let RolledBack { to, .. } = scene.roll_back().unwrap();
        let expected = if is_confirmed { (second, "b: 1\n") } else { (1, "a: 1\n") };
        assert_eq!((to, &*read(scene.config())), expected, "{mode:o} {is_confirmed}");
        assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
    }
    // An agent starts with a config that is on probation.
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    scene.install("b: 1\n");
    scene.reopen();
    scene.store.prepare_roll_back();
    scene.store.prepare_roll_back();
    assert_eq!(scene.dir.names("etc").len(), 2);
    scene.close("state");
    assert_eq!((scene.roll_back().unwrap().to, read(scene.config())), (1, "a: 1\n".into()));
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
}

/// What has failed has no file of its own yet: an operator has put it there during the probation.
#[test]
fn what_is_rolled_back_while_a_collector_lives_is_kept_by_the_next_save() {
    let scene = Scene::with("a: 1\n", Some("a: 1\n"));
    scene.install("b: 1\n");
    write(scene.config(), "by: hand\n");
    let RolledBack { from, to, .. } = scene.roll_back().unwrap();
    assert_eq!((from, to, read(scene.config())), (Some(3), 1, "a: 1\n".into()));
    scene.store.save().unwrap();
    assert_eq!(scene.kept().last().unwrap(), &(3, "by: hand\n".into(), failed()));
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
}

#[test]
fn what_was_changed_by_hand_after_the_check_is_not_replaced_unkept() {
    let scene = Scene::with("a: 1\n", Some("a: 1\n"));
    let candidate = scene.candidate("b: 1\n");
    write(scene.config(), "by: hand\n");
    std::fs::set_permissions(scene.dir.join("etc"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    fails(scene.store.install(&candidate), Exit::TryAgain, &["changed by hand"]);
    assert_eq!(read(scene.config()), "by: hand\n");
    // As soon as it is kept.
    scene.store.discard(&candidate);
    scene.install("b: 1\n");
    assert_eq!((scene.kept()[1].0, &*scene.kept()[1].1), (3, "by: hand\n"));
}

#[test]
fn agents_that_end_and_hosts_that_are_booted_count() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    scene.install("b: 1\n");
    // The same boot.
    for _ in 0..3 {
        scene.reopen();
        scene.store.begin();
        assert_eq!(scene.store.start_problem(), None);
        scene.store.save().unwrap();
    }
    scene.reopen();
    scene.store.begin();
    assert_eq!(scene.store.start_problem(), Some(StartProblem::Starts(4)));
    // It ends in good order.
    scene.store.end(false);
    scene.store.save().unwrap();
    scene.reopen();
    scene.store.begin();
    assert_eq!(scene.store.start_problem(), None);
    scene.store.save().unwrap();
    // Another boot.
    let list = read(scene.list());
    let boot = crate::os::process_id::boot().unwrap();
    write(scene.list(), &list.replace(&boot, "11111111-2222-3333-4444-555555555555"));
    scene.reopen();
    scene.store.begin();
    assert_eq!(scene.store.start_problem(), Some(StartProblem::Booted));
    // A proved one: three agents that end in good order confirm it, unless its collector has exited, or none of theirs
    // has passed its probation. One that is killed, with its host maybe, is none of them.
    let unconfirmed = |exits| TrustLevel::Unconfirmed { exits, has_fallback: true };
    for (exits, end, expected) in [
        (0, Some(true), TrustLevel::Confirmed),
        (0, Some(false), unconfirmed(0)),
        (0, None, unconfirmed(0)),
        (1, Some(true), unconfirmed(1)),
    ] {
        let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
        let number = scene.install("b: 1\n");
        scene.store.prove(number, false);
        scene.store.record_exits(number, exits);
        scene.store.save().unwrap();
        for round in 0..3 {
            assert_eq!(scene.level(), unconfirmed(exits), "{round}");
            end.into_iter().for_each(|has_run| scene.store.end(has_run));
            scene.store.save().unwrap();
            scene.reopen();
            scene.store.begin();
        }
        assert_eq!((scene.level(), scene.store.start_problem()), (expected, None));
        scene.store.record_exits(number, 3);
        let expected = (expected != TrustLevel::Confirmed).then_some(StartProblem::Exits(3));
        assert_eq!(scene.store.start_problem(), expected);
    }
    // With nothing to go back to there is no reason to.
    let scene = Scene::with("a: 1\n", None);
    scene.store.prove(1, false);
    scene.store.record_exits(1, 3);
    assert_eq!(scene.store.start_problem(), None);
}

#[test]
fn a_check_without_an_agent_confirms_what_it_finds_after_confirm_time() {
    let mut scene = Scene::with("a: 1\n", None);
    let number = scene.install("b: 1\n");
    scene.store.prove(number, false);
    assert!(!scene.store.found_by_check(600));
    scene.store.save().unwrap();
    let since = scene.store.generation(number).unwrap().installed_at;
    write(scene.list(), &read(scene.list()).replace(&since.to_string(), &(since - 600).to_string()));
    scene.reopen();
    let unread = scene.candidate("c: 1\n");
    assert!(scene.store.found_by_check(600) && !scene.store.found_by_check(600));
    assert_eq!(
        (scene.level(), unread.generation().and_then(|it| scene.store.generation(it))),
        (TrustLevel::Confirmed, None)
    );
    // A clock that was set back is no time that has passed.
    let scene = Scene::with("a: 1\n", None);
    scene.store.generations.list().find_mut(1).unwrap().installed_at += 1000;
    assert!(!scene.store.found_by_check(0));
}

#[test]
fn so_many_are_kept_and_what_a_roll_back_needs_besides() {
    let mut scene = Scene::with("good: 1\n", Some("good: 1\n"));
    for nth in 2..=7 {
        let number = scene.install(&format!("a: {nth}\n"));
        assert_eq!(number, nth);
        if nth == 3 {
            scene.roll_back().unwrap();
        } else {
            scene.store.prove(number, false);
        }
        scene.store.save().unwrap();
    }
    let numbers = |scene: &Scene| scene.store.generations().iter().map(|it| it.number).collect::<Vec<_>>();
    // The confirmed one, the newest rejected, the three newest.
    assert_eq!(numbers(&scene), [1, 3, 5, 6, 7]);
    assert_eq!(scene.dir.names("state/generations"), ["1.yaml", "3.yaml", "5.yaml", "6.yaml", "7.yaml"]);
    scene.store.prove(7, true);
    scene.store.save().unwrap();
    assert_eq!(numbers(&scene), [1, 3, 5, 6, 7], "the next best to go back to");
    // A refused config takes the place of the rejected one, and of none that was active.
    let kept = scene.store.keep_refused("bad: 1\n", &revision("bad: 1\n"), &"no".into()).unwrap();
    assert_eq!((read(&kept), numbers(&scene)), ("bad: 1\n".into(), vec![1, 5, 6, 7, 8]));
    assert_eq!(scene.store.keep_refused(&"x".repeat(101), &revision("x: 1\n"), &"no".into()), None);
    scene.reopen();
    assert_eq!((numbers(&scene), scene.level()), (vec![1, 5, 6, 7, 8], TrustLevel::Confirmed));
    // The same again: the older word on it goes.
    scene.store.keep_refused("bad: 1\n", &revision("bad: 1\n"), &"no".into()).unwrap();
    assert_eq!(scene.kept().iter().filter(|(_, text, _)| text == "bad: 1\n").count(), 1);
    // By bytes: each has eight, and the needed ones stay.
    let store = Store::new(&scene.config(), &scene.dir.join("state"), MAX_BYTES, Limits { count: 100, bytes: 15 });
    store.open_generations();
    store.record_exits(7, 1);
    store.prove(6, false);
    store.generations.list().set_standing(5, Standing::Replaced);
    store.save().unwrap();
    let kept: Vec<u64> = store.generations().iter().map(|it| it.number).collect();
    // No number is another one's later, as the log has named it.
    assert_eq!(kept, [1, 7, 9]);
}

#[test]
fn a_file_that_cannot_be_removed_goes_with_the_next_save() {
    let scene = Scene::with("a: 1\n", None);
    let candidate = scene.candidate("b: 1\n");
    let path = scene.store.generation_path(candidate.generation().unwrap());
    // Nor is a directory unlinked.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    scene.store.discard(&candidate);
    fails(scene.store.save(), Exit::CannotWrite, &["cannot save the generations", &path.display().to_string()]);
    assert!(scene.store.is_unsaved());
    std::fs::remove_dir(&path).unwrap();
    write(&path, "b: 1\n");
    scene.store.save().unwrap();
    assert!(!path.exists() && !scene.store.is_unsaved());
}

/// A start script gives none with a second name to the agent's user; and an editor writes into the file that it opened.
#[test]
fn each_generation_has_a_file_of_its_own() {
    let scene = Scene::with("a: 1\n", Some("a: 1\n"));
    let second = scene.install("b: 1\n");
    scene.store.prove(second, false);
    assert_eq!(scene.install("a: 1\n"), 3);
    for number in 1..=3 {
        assert_eq!(std::fs::metadata(scene.store.generation_path(number)).unwrap().nlink(), 1, "{number}");
    }
}

#[test]
fn what_cannot_be_kept_does_not_keep_an_install() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    // As if the directory could not be written.
    std::fs::rename(scene.dir.join("state/generations"), scene.dir.join("away")).unwrap();
    write(scene.dir.join("state/generations"), "");
    let candidate = scene.candidate("b: 1\n");
    scene.store.install(&candidate).unwrap();
    drop(candidate);
    fails(scene.store.save(), Exit::CannotWrite, &["cannot save the generations", "state/generations"]);
    assert!(scene.store.is_unsaved());
    assert_eq!((read(scene.config()), scene.level()), ("b: 1\n".into(), TrustLevel::OnProbation));
    // But the only one that works is not overwritten before it is kept.
    scene.store.prove(2, false);
    assert_eq!(scene.level(), TrustLevel::Unconfirmed { exits: 0, has_fallback: true });
    scene.store.generations.list().remove(1);
    assert!(scene.store.is_only_proved_unkept());
    std::fs::remove_file(scene.dir.join("state/generations")).unwrap();
    scene.store.save().unwrap();
    assert!(!scene.store.is_only_proved_unkept());
    assert_eq!(scene.install("c: 1\n"), 3);
    scene.reopen();
    assert_eq!((scene.kept()[0].clone(), scene.level()), ((2, "b: 1\n".into(), UNCONFIRMED), TrustLevel::OnProbation));
}

#[test]
fn a_list_that_cannot_be_read_loses_no_config() {
    for text in ["", "{", "[]", r#"{"generations":[{}]}"#] {
        let mut scene = Scene::with("a: 1\n", Some("good: 1\n"));
        write(scene.list(), text);
        scene.reopen();
        let kept = scene.kept();
        assert_eq!(kept[0], (1, "good: 1\n".into(), UNCONFIRMED), "{text}");
        assert_eq!((scene.store.has_fallback(), kept.len()), (true, 2), "{text}");
        scene.store.save().unwrap();
        scene.reopen();
        assert_eq!(scene.kept().len(), 2, "{text}");
    }
}

/// Of a state directory that is another user's for a while, say.
#[test]
fn a_list_that_can_be_read_later_is_not_written_over() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    scene.store.save().unwrap();
    let list = read(scene.list());
    std::fs::remove_file(scene.list()).unwrap();
    std::os::unix::fs::symlink(scene.list(), scene.list()).unwrap();
    scene.reopen();
    assert!(scene.store.save().is_err());
    assert!(scene.list().is_symlink(), "it was made anew");
    std::fs::remove_file(scene.list()).unwrap();
    write(scene.list(), &list);
    scene.store.save().unwrap();
    assert_eq!(scene.kept()[0], (1, "a: 1\n".into(), Standing::Confirmed));
    assert_eq!(scene.install("b: 1\n"), scene.kept().last().unwrap().0);
    scene.reopen();
    let kept = scene.kept();
    assert_eq!((kept[0].clone(), scene.store.has_fallback()), ((1, "a: 1\n".into(), Standing::Confirmed), true));
    assert!(kept.iter().all(|(_, text, _)| !text.is_empty()), "{kept:?}");
}

#[test]
fn what_a_killed_agent_left_is_cleaned_up() {
    let mut scene = Scene::with("a: 1\n", Some("a: 1\n"));
    let candidate = scene.candidate("b: 1\n");
    // Killed before the install, or between a config's file and the list.
    std::mem::forget(candidate);
    for stray in ["7.yaml", "x", ".3.yaml.candidate-1-0"] {
        write(scene.dir.join("state/generations").join(stray), "stray: 1\n");
    }
    scene.store.sweep();
    scene.reopen();
    assert_eq!(scene.dir.names("state/generations"), ["1.yaml", "2.yaml", "x"], "what is not ours stays");
    std::fs::remove_file(scene.dir.join("state/generations/x")).unwrap();
    scene.store.begin();
    scene.store.save().unwrap();
    assert_eq!((scene.dir.names("state/generations"), scene.kept().len()), (vec!["1.yaml".to_string()], 1));
    // A file that was removed by hand.
    scene.install("c: 1\n");
    std::fs::remove_file(scene.store.generation_path(1)).unwrap();
    scene.reopen();
    assert_eq!(scene.kept().iter().map(|it| it.0).collect::<Vec<_>>(), [3]);
}

/// Between the first config's file and the first list: what was never installed is none to go back to.
#[test]
fn a_file_of_a_first_start_that_was_killed_is_no_generation() {
    let mut scene = Scene::empty();
    scene.store.open_generations();
    std::fs::create_dir(scene.dir.join("state/generations")).unwrap();
    write(scene.store.generation_path(1), "never: 1\n");
    scene.reopen();
    assert_eq!((scene.kept(), scene.dir.names("state/generations")), (Vec::new(), Vec::new()));
}

#[test]
fn a_frozen_store_writes_nothing() {
    let scene = Scene::empty();
    write(scene.config(), "a: 1\n");
    write(scene.dir.join("state/last-known-good.yaml"), "a: 1\n");
    scene.store.freeze();
    scene.store.open_generations();
    let candidate = scene.candidate("b: 1\n");
    assert!(scene.store.keep_refused("bad: 1\n", &revision("bad: 1\n"), &"no".into()).is_some());
    drop(candidate);
    scene.store.save().unwrap();
    assert_eq!(
        (scene.dir.names("etc"), scene.dir.names("state")),
        (vec!["config.yaml".to_string()], vec!["last-known-good.yaml".to_string()])
    );
}

#[test]
fn a_roll_back_keeps_mode_and_place() {
    let scene = Scene::with("bad: 1\n", Some("good: 1\n"));
    std::fs::set_permissions(scene.config(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let RolledBack { from, kept, to } = scene.roll_back().unwrap();
    assert_eq!((from, to, read(scene.config()), mode(scene.config())), (Some(2), 1, "good: 1\n".into(), 0o644));
    assert_eq!((read(kept.as_ref().unwrap()), mode(kept.unwrap())), ("bad: 1\n".into(), 0o600));
    // A config that went missing: nothing to keep.
    std::fs::remove_file(scene.config()).unwrap();
    let RolledBack { from, kept, to } = scene.roll_back().unwrap();
    assert_eq!((from, kept, to, read(scene.config())), (None, None, 1, "good: 1\n".into()));
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
}

#[test]
fn a_roll_back_does_not_need_the_place_for_what_it_replaces() {
    let large = format!("a: {}\n", "x".repeat(100));
    let scene = Scene::with(&large, Some("good: 1\n"));
    std::fs::create_dir(scene.rejected()).unwrap();
    let [config, rejected] = [scene.config(), scene.rejected()].map(|path| Place::new(&path).unwrap());
    let error = atomic::set_aside(&config, &rejected, MAX_BYTES).unwrap_err();
    // Not tried further: a rename would take the config away for a moment.
    assert!(error.to_string().contains("remove"), "{error}");
    assert_eq!(scene.roll_back().unwrap().kept, None);
    assert_eq!(read(scene.config()), "good: 1\n");
    assert_eq!(scene.dir.names("etc"), ["config.yaml", "config.yaml.rejected"]);
}

#[test]
fn a_roll_back_that_fails_leaves_the_config_as_it_is() {
    let scene = Scene::with("bad: 1\n", None);
    fails(scene.roll_back(), Exit::CannotWrite, &["cannot restore the previous config", "state/generations"]);
    assert_eq!(read(scene.config()), "bad: 1\n");
    let number = Target::Generation(7);
    fails(
        scene.store.roll_back(number, &"".into(), true),
        Exit::CannotWrite,
        &["cannot restore", "generations/7.yaml"],
    );
    // One that is missing is passed over, but not one that cannot be read.
    let mut scene = Scene::with("a: 1\n", Some("good: 1\n"));
    scene.store.prove(2, false);
    scene.install("bad: 1\n");
    scene.reopen();
    std::fs::remove_file(scene.store.generation_path(1)).unwrap();
    std::fs::create_dir(scene.store.generation_path(1)).unwrap();
    fails(scene.roll_back(), Exit::CannotWrite, &["cannot restore the previous config", "generations/1.yaml"]);
    std::fs::remove_dir(scene.store.generation_path(1)).unwrap();
    assert_eq!((scene.roll_back().unwrap().to, read(scene.config())), (2, "a: 1\n".into()));
    // No place for the new file.
    let scene = Scene::with("bad: 1\n", Some("good: 1\n"));
    scene.close("etc");
    fails(scene.roll_back(), Exit::CannotWrite, &["cannot restore the previous config"]);
}

#[test]
fn a_directory_in_the_place_of_the_config_is_moved_aside_by_a_roll_back() {
    let scene = Scene::with("a: 1\n", Some("good: 1\n"));
    std::fs::remove_file(scene.config()).unwrap();
    std::fs::create_dir_all(scene.config().join("in-use")).unwrap();
    assert_eq!(scene.roll_back().unwrap().kept, Some(scene.rejected()));
    assert_eq!((read(scene.config()).as_str(), scene.rejected().is_dir()), ("good: 1\n", true));
    // Twice is too much: the place is taken. What was written for it does not stay.
    std::fs::remove_file(scene.config()).unwrap();
    std::fs::create_dir_all(scene.config().join("in-use")).unwrap();
    fails(scene.roll_back(), Exit::CannotWrite, &["cannot restore the previous config"]);
    assert_eq!(scene.dir.names("etc"), ["config.yaml", "config.yaml.rejected"]);
}

#[test]
fn a_check_keeps_what_it_replaces_and_removes_what_replaced_nothing() {
    let scene = Scene::with("a: 1\n", None);
    assert_eq!(scene.store.keep_active().unwrap(), 1);
    scene.install("b: 1\n");
    assert_eq!(scene.store.roll_back(Target::Generation(1), &"it failed".into(), true).unwrap().from, Some(2));
    assert_eq!((read(scene.config()), scene.store.generation(2).unwrap().standing), ("a: 1\n".into(), failed()));
    scene.store.remove_config(&"it failed".into()).unwrap();
    assert!(!scene.config().exists());
    fails(scene.store.remove_config(&"".into()), Exit::CannotWrite, &["cannot remove the config", "etc/config.yaml"]);
    fails(scene.store.keep_active(), Exit::CannotWrite, &["cannot save the current config", "etc/config.yaml"]);
}

#[test]
fn a_sweep_takes_unfinished_files_and_nothing_else() {
    let scene = Scene::with("a: 1\n", Some("a: 1\n"));
    for unfinished in ["etc/.config.yaml.candidate-1-0", "etc/.other.candidate-22-3", "state/.x.json.candidate-1-1"] {
        write(scene.dir.join(unfinished), "");
    }
    let kept =
        [".config.yaml", ".config.yaml.candidat-1", "config.yaml", "config.yaml.candidate-1-0", "x.candidate-1-0"];
    for name in kept {
        write(scene.dir.join("etc").join(name), "");
    }
    scene.store.sweep();
    assert_eq!(scene.dir.names("etc"), kept);
    assert_eq!(scene.dir.names("state"), ["generations", "generations.json"]);
    // A link is swept where it points, since candidates are written there.
    std::fs::remove_file(scene.config()).unwrap();
    write(scene.dir.join("real.yaml"), "");
    symlink("../real.yaml", scene.config()).unwrap();
    write(scene.dir.join(".real.yaml.candidate-1-0"), "");
    scene.store.sweep();
    assert_eq!(scene.dir.names("."), ["etc", "real.yaml", "state"]);
    // Nothing there is nothing to do.
    std::fs::remove_dir_all(scene.dir.join("etc")).unwrap();
    scene.store.sweep();
}

#[test]
fn a_config_that_is_too_large_cannot_be_read_and_does_not_stay() {
    let large = format!("a: {}\n", "x".repeat(100));
    let scene = Scene::with(&large, Some("good: 1\n"));
    let words = ["etc/config.yaml: it is larger than 100 bytes: it has 104"];
    fails(scene.store.read_config(), Exit::Unavailable, &words);
    fails(scene.store.keep_active(), Exit::CannotWrite, &words);
    assert_eq!((scene.level(), scene.store.active_generation()), (TrustLevel::OnProbation, None));
    assert_eq!(scene.roll_back().unwrap().kept, Some(scene.rejected()));
    assert_eq!((read(scene.config()), read(scene.rejected())), ("good: 1\n".into(), large));
}
