//! The store on a real file system: what each operation leaves behind, and how each fails.
//!
//! Everything here holds for root and for an ordinary user; what takes root says so. `ENOTDIR` stands for "cannot be
//! looked at", since root may look at everything that is a directory.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::os::unix::files::test_dir::{Dir, mode, read, write};

/// What any file here may have.
const MAX_BYTES: u64 = 100;

/// A store whose config and state lie in directories of their own.
struct Scene {
    dir: Dir,
    store: Store,
}

impl Scene {
    /// No files yet.
    fn empty() -> Scene {
        let dir = Dir::new();
        std::fs::create_dir(dir.join("etc")).unwrap();
        std::fs::create_dir(dir.join("state")).unwrap();
        let store = Store::new(&dir.join("etc/config.yaml"), &dir.join("state"), MAX_BYTES);
        Scene { dir, store }
    }

    /// A config, and a last known good if there is one.
    fn with(config: &str, good: Option<&str>) -> Scene {
        let scene = Scene::empty();
        write(scene.config(), config);
        if let Some(good) = good {
            write(scene.good(), good);
        }
        scene
    }

    /// Nothing below `name` can be looked at: it is no directory.
    fn close(&self, name: &str) {
        std::fs::remove_dir_all(self.dir.join(name)).unwrap();
        write(self.dir.join(name), "");
    }

    fn config(&self) -> PathBuf {
        self.dir.join("etc/config.yaml")
    }

    fn good(&self) -> PathBuf {
        self.dir.join("state/last-known-good.yaml")
    }

    fn rejected(&self) -> PathBuf {
        self.dir.join("etc/config.yaml.rejected")
    }

    fn candidate(&self, text: &str) -> Candidate {
        self.store.write_candidate(text, revision()).unwrap()
    }
}

fn revision() -> Revision {
    Value::Null.revision()
}

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
    assert_eq!(scene.store.rejected_path(), scene.rejected());
}

#[test]
fn a_candidate_is_a_whole_private_file_beside_the_config_and_goes_with_its_owner() {
    let scene = Scene::empty();
    let candidate = scene.candidate("new: 1\n");
    let name = candidate.path().file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!(".config.yaml.candidate-{}-", std::process::id())), "{name}");
    assert_eq!(candidate.path().parent().unwrap(), scene.dir.join("etc"));
    assert_eq!((read(candidate.path()).as_str(), mode(candidate.path())), ("new: 1\n", 0o600));
    assert_eq!(candidate.revision, revision());
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
    fails(scene.store.write_candidate("new: 1\n", revision()), Exit::CannotWrite, &words);
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
    assert_eq!(scene.store.rejected_path(), scene.dir.join("real.yaml.rejected"));
    write(scene.good(), "good: 1\n");
    scene.store.roll_back().unwrap();
    assert_eq!((read(&real), read(scene.dir.join("real.yaml.rejected"))), ("good: 1\n".into(), "second: 1\n".into()));
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
}

#[test]
fn a_link_that_leads_nowhere_is_not_replaced() {
    let scene = Scene::empty();
    symlink("config.yaml", scene.config()).unwrap();
    fails(scene.store.write_candidate("new: 1\n", revision()), Exit::CannotWrite, &["cannot write the new config"]);
    assert_eq!(scene.store.rejected_path(), scene.rejected());
    assert_eq!(scene.dir.names("etc"), ["config.yaml"]);
}

#[test]
fn an_identity_tells_whether_a_file_is_still_the_same() {
    let scene = Scene::with("old: 1\n", None);
    assert_eq!(FileId::of(&scene.dir.join("missing")), None);
    let seen = FileId::of(&scene.config()).unwrap();
    assert_eq!(FileId::of(&scene.config()), Some(seen));
    assert_eq!(scene.store.look().unwrap(), Some(seen));
    scene.store.install(&scene.candidate("new: 1\n")).unwrap();
    assert_ne!(FileId::of(&scene.config()), Some(seen));
}

#[test]
fn what_cannot_be_looked_at_is_not_missing() {
    let scene = Scene::empty();
    assert_eq!(scene.store.look().unwrap(), None);
    assert!(!scene.store.has_config() && !scene.store.has_fallback());
    write(scene.config(), "");
    write(scene.good(), "");
    assert!(scene.store.has_config() && scene.store.has_fallback());
    scene.close("etc");
    scene.close("state");
    fails(scene.store.look(), Exit::Unavailable, &["cannot stat the config", "etc/config.yaml"]);
    assert_eq!(FileId::of(&scene.config()), None);
    assert!(scene.store.has_config() && scene.store.has_fallback());
}

#[test]
fn a_config_that_is_a_mount_of_its_own_is_seen() {
    assert!(!Scene::empty().store.is_mounted());
    assert!(!Scene::with("a: 1\n", None).store.is_mounted());
    // No file, but a mount on every Linux.
    assert!(Store::new(Path::new("/proc"), Path::new("/"), MAX_BYTES).is_mounted());
}

#[test]
fn a_default_is_only_put_where_there_is_nothing() {
    let default = |scene: &Scene| {
        let path = scene.dir.join("default.yaml");
        write(&path, "default: 1\n");
        path
    };
    let scene = Scene::empty();
    assert!(!scene.store.install_default(&scene.dir.join("default.yaml")).unwrap());
    assert!(scene.store.install_default(&default(&scene)).unwrap());
    assert_eq!((read(scene.config()).as_str(), mode(scene.config())), ("default: 1\n", 0o600));

    let scene = Scene::with("own: 1\n", None);
    assert!(!scene.store.install_default(&default(&scene)).unwrap());
    assert_eq!(read(scene.config()), "own: 1\n");

    let scene = Scene::empty();
    write(scene.good(), "good: 1\n");
    assert!(!scene.store.install_default(&default(&scene)).unwrap());
    assert!(!scene.config().exists());

    let scene = Scene::empty();
    let unreadable = scene.store.install_default(&scene.dir.join("state"));
    fails(unreadable, Exit::CannotWrite, &["cannot install the default config"]);
}

#[test]
fn configs_are_read_as_trees() {
    let scene = Scene::with("a: 1\n", Some("{broken"));
    assert_eq!(scene.store.read_config().unwrap().get("a"), Some(&Value::Integer(1)));
    fails(scene.store.read_last_known_good(), Exit::ConfigRefused, &["cannot parse", "last-known-good.yaml"]);
    write(scene.good(), "b: 2\n");
    assert_eq!(scene.store.read_last_known_good().unwrap().get("b"), Some(&Value::Integer(2)));
    std::fs::remove_file(scene.config()).unwrap();
    fails(scene.store.read_config(), Exit::Unavailable, &["cannot read", "etc/config.yaml"]);
}

#[test]
fn the_config_is_compared_with_the_last_known_good() {
    assert_eq!(Scene::with("a: 1\n", Some("a: 1\n")).store.compare(), Comparison::Same);
    assert_eq!(Scene::with("a: 1\n", Some("b: 1\n")).store.compare(), Comparison::Different);
    assert_eq!(Scene::with("a: 1\n", None).store.compare(), Comparison::NoFallback);
    // One that cannot be read is no reason to give up what it may be needed for.
    let unreadable = Scene::with("a: 1\n", None);
    std::fs::create_dir(unreadable.store.state_dir().join(LAST_KNOWN_GOOD)).unwrap();
    assert_eq!(unreadable.store.compare(), Comparison::Different);
    let scene = Scene::with("a: 1\n", Some("a: 1\n"));
    std::fs::remove_file(scene.config()).unwrap();
    assert_eq!(scene.store.compare(), Comparison::Different);
}

#[test]
fn only_what_was_seen_to_work_is_promoted_and_only_once() {
    for good in [None, Some("old: 1\n")] {
        let scene = Scene::with("a: 1\n", good);
        let seen = FileId::of(&scene.config()).unwrap();
        assert!(scene.store.promote(seen).unwrap());
        assert_eq!((read(scene.good()).as_str(), mode(scene.good())), ("a: 1\n", mode(scene.good())));
        let kept = FileId::of(&scene.good());
        assert!(!scene.store.promote(seen).unwrap(), "it is kept already");
        assert_eq!(FileId::of(&scene.good()), kept, "and not written again");
        // Replaced by hand since it was started.
        scene.store.install(&scene.candidate("b: 1\n")).unwrap();
        assert!(!scene.store.promote(seen).unwrap());
        assert_eq!(read(scene.good()), "a: 1\n");
        assert!(scene.store.promote(FileId::of(&scene.config()).unwrap()).unwrap());
        assert_eq!(read(scene.good()), "b: 1\n");
    }
}

#[test]
fn a_promotion_that_fails_says_so() {
    let scene = Scene::with("a: 1\n", None);
    let seen = FileId::of(&scene.config()).unwrap();
    scene.close("state");
    fails(scene.store.promote(seen), Exit::CannotWrite, &["cannot save the last known good", "last-known-good.yaml"]);
    std::fs::remove_file(scene.config()).unwrap();
    fails(scene.store.promote(seen), Exit::CannotWrite, &["cannot read the config"]);
}

#[test]
fn a_state_directory_that_is_missing_is_made_private() {
    let scene = Scene::with("a: 1\n", None);
    std::fs::remove_dir(scene.dir.join("state")).unwrap();
    assert!(scene.store.promote(FileId::of(&scene.config()).unwrap()).unwrap());
    assert_eq!((mode(scene.dir.join("state")), mode(scene.good())), (0o700, 0o600));
}

#[test]
fn a_roll_back_restores_the_last_known_good_and_keeps_what_it_replaces() {
    let scene = Scene::with("bad: 1\n", Some("good: 1\n"));
    std::fs::set_permissions(scene.config(), std::fs::Permissions::from_mode(0o644)).unwrap();
    scene.store.roll_back().unwrap();
    assert_eq!((read(scene.config()), read(scene.rejected())), ("good: 1\n".into(), "bad: 1\n".into()));
    assert_eq!((mode(scene.config()), read(scene.good()).as_str()), (0o644, "good: 1\n"));
    // The next one takes the place of what was kept before.
    scene.store.install(&scene.candidate("worse: 1\n")).unwrap();
    scene.store.roll_back().unwrap();
    assert_eq!((read(scene.config()), read(scene.rejected())), ("good: 1\n".into(), "worse: 1\n".into()));
    // A config that went missing: nothing to keep, and what was kept before stays.
    std::fs::remove_file(scene.config()).unwrap();
    scene.store.roll_back().unwrap();
    assert_eq!((read(scene.config()), read(scene.rejected())), ("good: 1\n".into(), "worse: 1\n".into()));
    assert_eq!(scene.dir.names("etc"), ["config.yaml", "config.yaml.rejected"]);
}

#[test]
fn a_roll_back_does_not_need_the_place_for_what_it_replaces() {
    let scene = Scene::with("bad: 1\n", Some("good: 1\n"));
    std::fs::create_dir(scene.rejected()).unwrap();
    let [config, rejected] = [scene.config(), scene.rejected()].map(|path| Place::new(&path).unwrap());
    let error = atomic::set_aside(&config, &rejected, MAX_BYTES).unwrap_err();
    // Not tried further: a rename would take the config away for a moment.
    assert!(error.to_string().contains("remove"), "{error}");
    scene.store.roll_back().unwrap();
    assert_eq!(read(scene.config()), "good: 1\n");
    assert_eq!(scene.dir.names("etc"), ["config.yaml", "config.yaml.rejected"]);
}

#[test]
fn a_roll_back_that_fails_leaves_the_config_as_it_is() {
    let scene = Scene::with("bad: 1\n", None);
    fails(scene.store.roll_back(), Exit::CannotWrite, &["cannot restore the previous config", "last-known-good.yaml"]);
    assert_eq!(read(scene.config()), "bad: 1\n");
    // No place for the new file.
    let scene = Scene::with("bad: 1\n", Some("good: 1\n"));
    scene.close("etc");
    fails(scene.store.roll_back(), Exit::CannotWrite, &["cannot restore the previous config"]);
}

#[test]
fn a_directory_in_the_place_of_the_config_is_moved_aside_by_a_roll_back() {
    let scene = Scene::empty();
    write(scene.good(), "good: 1\n");
    std::fs::create_dir_all(scene.config().join("in-use")).unwrap();
    scene.store.roll_back().unwrap();
    assert_eq!((read(scene.config()).as_str(), scene.rejected().is_dir()), ("good: 1\n", true));
    // Twice is too much: the place is taken. What was written for it does not stay.
    std::fs::remove_file(scene.config()).unwrap();
    std::fs::create_dir_all(scene.config().join("in-use")).unwrap();
    fails(scene.store.roll_back(), Exit::CannotWrite, &["cannot restore the previous config"]);
    assert_eq!(scene.dir.names("etc"), ["config.yaml", "config.yaml.rejected"]);
}

#[test]
fn the_previous_config_is_kept_and_restored() {
    let scene = Scene::with("a: 1\n", None);
    scene.store.keep_previous().unwrap();
    scene.store.install(&scene.candidate("b: 1\n")).unwrap();
    assert_eq!(read(scene.dir.join("state/previous.yaml")), "a: 1\n");
    scene.store.restore_previous().unwrap();
    assert_eq!((read(scene.config()), read(scene.rejected())), ("a: 1\n".into(), "b: 1\n".into()));
    scene.store.remove_config().unwrap();
    assert!(!scene.config().exists());
    fails(scene.store.remove_config(), Exit::CannotWrite, &["cannot remove the config", "etc/config.yaml"]);
    fails(scene.store.keep_previous(), Exit::CannotWrite, &["cannot save the current config"]);
    std::fs::remove_file(scene.dir.join("state/previous.yaml")).unwrap();
    fails(scene.store.restore_previous(), Exit::CannotWrite, &["cannot restore the previous config"]);
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
    assert_eq!(scene.dir.names("state"), ["last-known-good.yaml"]);
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
    fails(scene.store.promote(FileId::of(&scene.config()).unwrap()), Exit::CannotWrite, &words);
    fails(scene.store.keep_previous(), Exit::CannotWrite, &words);
    assert_eq!(scene.store.compare(), Comparison::Different);
    scene.store.roll_back().unwrap();
    assert_eq!((read(scene.config()), read(scene.rejected())), ("good: 1\n".into(), large));
}
