//! A control group that has no memory for a second collector: the change is a plain restart, and nothing is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Scene, plain};
use crate::support::agent::{Agent, Builder};
use crate::support::{machine, needs};

/// What the collector has.
const BALLAST: u64 = 64 << 20;

/// A control group for memory, of either version; gone when dropped, after what is in it.
struct Group {
    path: PathBuf,
    used: &'static str,
    limit: &'static str,
}

impl Group {
    /// `None`, and said so, where none can be made: without root, or without such groups.
    fn new() -> Option<Group> {
        let versions =
            [("memory", "memory.usage_in_bytes", "memory.limit_in_bytes"), ("", "memory.current", "memory.max")];
        for (hierarchy, used, limit) in versions {
            let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(format!("km-hand-over-{}", std::process::id()));
            if fs::create_dir(&path).is_ok() {
                let group = Group { path, used, limit };
                if fs::exists(group.file(limit)).unwrap() {
                    return Some(group);
                }
            }
        }
        needs::that(false, "no control group for memory can be made here");
        None
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leaves this much to the processes in it, beyond what they have.
    fn leave(&self, bytes: u64) {
        let used: u64 = fs::read_to_string(self.file(self.used)).unwrap().trim().parse().unwrap();
        fs::write(self.file(self.limit), (used + bytes).to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

#[test]
fn no_room_for_two_in_its_group_is_a_plain_restart() {
    if machine::skips_hand_over() {
        return;
    }
    let Some(group) = Group::new() else { return };
    let config = |scene: &Scene, name: &str| {
        let mut config = scene.config(name);
        config["fake"]["ballast_bytes"] = json!(BALLAST);
        config
    };
    let enter = |agent: &Agent| {
        let inner = agent.command(["start"]);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(group.file("cgroup.procs"));
        command.arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        agent.spawn_command(command);
    };
    let scene = Scene::with_stand_in_started("auto", |builder: Builder| builder, enter);
    assert_eq!(plain::changed_by(&scene, "large", config(&scene, "large")), "hand-over");
    group.leave(BALLAST * 3 / 4);
    let words = plain::changed_by(&scene, "second", config(&scene, "second"));
    assert!(words.starts_with("restart (a second collector may need ") && words.ends_with(" available)"), "{words}");
    // The control: with more of it the same change is handed over.
    group.leave(BALLAST * 3);
    assert_eq!(plain::changed_by(&scene, "third", config(&scene, "third")), "hand-over");
    assert_eq!(scene.status()["collector"]["restarts"], 3);
}
