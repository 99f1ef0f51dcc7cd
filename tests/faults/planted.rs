//! Links that another user has planted where root reads and writes: nothing of root's is published, changed or made a program.
//!
//! Takes root, and somebody who is not: the directories are nobody's, as they are the agent's user's where a service runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::operation::yaml;
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::{bin, process};

const NOBODY: u32 = 65534;
const SECRET: &str = "fake: {}\nroot-only: SECRET-of-root\n";

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// An agent whose config, state and run directories are nobody's, and a file that only root may read.
struct Scene {
    agent: Agent,
    victim: PathBuf,
}

impl Scene {
    fn new(builder: Builder) -> Scene {
        let agent = builder.config(yaml(&json!({"fake": {}, "name": "old"}))).build();
        for directory in ["etc", "state", "run"] {
            let path = agent.dir().join(directory);
            fs::create_dir_all(&path).unwrap();
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        chown(agent.config_file(), Some(NOBODY), Some(NOBODY)).unwrap();
        let victim = agent.dir().join("victim");
        fs::write(&victim, SECRET).unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o4700)).unwrap();
        Scene { agent, victim }
    }

    /// As nobody would make it.
    fn plant(&self, at: &Path) {
        let _ = fs::remove_file(at);
        symlink(&self.victim, at).unwrap();
        lchown(at, Some(NOBODY), Some(NOBODY)).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.agent.dir().join(name)
    }

    #[track_caller]
    fn assert_unharmed(&self) {
        let victim = fs::symlink_metadata(&self.victim).unwrap();
        assert_eq!((victim.uid(), victim.mode() & 0o7777), (0, 0o4700), "the victim's owner or mode");
        assert_eq!(fs::read_to_string(&self.victim).unwrap(), SECRET);
        for directory in ["etc", "state", "run"] {
            for entry in fs::read_dir(self.file(directory)).unwrap().flatten() {
                let meta = fs::symlink_metadata(entry.path()).unwrap();
                if meta.is_file() && meta.ino() != victim.ino() {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    assert!(!text.contains("SECRET-of-root"), "{} has it", entry.path().display());
                    assert_eq!(meta.mode() & 0o7000, 0, "{} is set-id", entry.path().display());
                }
            }
        }
    }
}

#[test]
fn a_planted_last_known_good_is_not_published() {
    if !is_root() {
        return;
    }
    for plant in ["symbolic", "hard"] {
        let scene = Scene::new(Agent::builder());
        let good = scene.file("state/last-known-good.yaml");
        match plant {
            "symbolic" => scene.plant(&good),
            _ => fs::hard_link(&scene.victim, &good).unwrap(),
        }
        // What would be rolled back, and what would be put in place of a missing config.
        for config in [Some("{broken"), None] {
            match config {
                Some(text) => fs::write(scene.agent.config_file(), text).unwrap(),
                None => fs::remove_file(scene.agent.config_file()).unwrap(),
            }
            scene.agent.spawn();
            scene.agent.wait_status("a collector that cannot be helped", |status| {
                !status["last_error_message"].as_str().unwrap().is_empty()
            });
            scene.assert_unharmed();
            assert_eq!(scene.agent.stop(), 0);
        }
        scene.assert_unharmed();
    }
}

#[test]
fn a_planted_config_is_not_followed() {
    if !is_root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(Agent::builder().api(&api));
    api.answer_config(json!({"fake": {}, "name": "new"}));
    scene.plant(&scene.agent.config_file());
    let output = scene.agent.run(["--check"]);
    output.fails(73, "is a link that another user may have made: remove it");
    scene.assert_unharmed();

    // The negative control: root's own link is followed, and stays.
    let target = scene.file("elsewhere.yaml");
    fs::write(&target, yaml(&json!({"fake": {}, "name": "old"}))).unwrap();
    fs::remove_file(scene.agent.config_file()).unwrap();
    symlink(&target, scene.agent.config_file()).unwrap();
    assert_eq!(scene.agent.run(["--check"]).code, Some(0));
    assert!(fs::symlink_metadata(scene.agent.config_file()).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("name: new"));
    scene.assert_unharmed();
}

#[test]
fn a_planted_copy_of_the_former_config_gives_nothing_away() {
    if !is_root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(Agent::builder().api(&api).setting("on-change", "false"));
    api.answer_config(json!({"fake": {}, "name": "new"}));
    scene.plant(&scene.file("state/previous.yaml"));
    scene.plant(&scene.file("state/rejected.json"));
    assert_eq!(scene.agent.run(["--check"]).code, Some(65), "on-change fails, so it is rolled back");
    assert_eq!(scene.agent.config()["name"], "old");
    scene.assert_unharmed();
}

#[test]
fn a_planted_lock_or_socket_leads_nowhere() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(Agent::builder());
    scene.plant(&scene.file("run/lock"));
    scene.agent.run(["start"]).fails(73, "cannot use the run directory");
    scene.assert_unharmed();
    fs::remove_file(scene.file("run/lock")).unwrap();
    scene.plant(&scene.file("run/control.new"));
    scene.plant(&scene.file("run/control.sock"));
    scene.agent.spawn();
    scene.agent.wait_status("an agent", |_| true);
    assert_eq!(fs::metadata(scene.agent.socket()).unwrap().mode() & 0o777, 0o600);
    scene.assert_unharmed();
    assert_eq!(scene.agent.stop(), 0);
}

#[test]
fn other_users_are_refused_at_the_control_socket() {
    if !is_root() {
        return;
    }
    let agent = Agent::builder().spawn();
    agent.wait_status("an agent", |_| true);
    // The directory could be opened by mistake; the socket is still its owner's.
    for path in [agent.dir().to_path_buf(), agent.run_dir()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let program = agent.dir().join("kmagent");
    fs::copy(bin::kmagent(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for word in ["status", "stop"] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&program);
        command.arg("--run-dir").arg(agent.run_dir()).args(["--agent-config", "/dev/null", word]);
        command.env_clear().stdin(Stdio::null());
        bin::output(command).fails(77, "run this as the agent's user");
    }
    assert!(process::alive(agent.pid()) && agent.status().is_some());
}

/// As an ordinary user it is found, since that user's PATH is that user's affair.
#[test]
fn root_takes_no_collector_from_a_folder_that_others_may_write() {
    let builder = Agent::builder().without("collector").config(yaml(&json!({"fake": {}})));
    let folder = builder.dir().join("open");
    fs::create_dir(&folder).unwrap();
    fs::copy(bin::fake(), folder.join("otelcol")).unwrap();
    let agent = builder.env("PATH", folder.display().to_string()).build();
    for (mode, is_taken) in [(0o777, !is_root()), (0o775, !is_root()), (0o755, true)] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        agent.spawn();
        let status = agent.wait_status("a first start", |status| {
            status["collector"]["pid"].is_u64() || !status["last_error_message"].as_str().unwrap().is_empty()
        });
        assert_eq!(status["collector"]["pid"].is_u64(), is_taken, "mode {mode:o}: {status}");
        if !is_taken {
            let told = status["last_error_message"].as_str().unwrap();
            assert!(told.contains("root looks only in folders that nobody else may write"), "{told}");
        }
        assert_eq!(agent.stop(), 0);
    }
}
