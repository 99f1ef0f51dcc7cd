//! Paths in settings that another user than root can change: root uses those that are that user's affair, and no other,
//! whatever they turn into meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

use crate::operation::yaml;
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::{bin, needs};

const NOBODY: u32 = 65534;

/// No key and no PEM: whatever quotes it is found out.
const SECRET: &str = "SECRET-of-root";

/// Checks during which a directory and a link are exchanged.
const ROUNDS: u32 = 40;

/// An agent whose settings are nobody's, with all that they name, and a directory of root's.
struct Scene {
    agent: Agent,
    vault: PathBuf,
}

impl Scene {
    /// With this path in a setting.
    fn new(api: &Api, setting: Option<(&str, &str)>) -> Scene {
        Scene::from(Agent::builder().api(api), setting)
    }

    fn from(builder: Builder, setting: Option<(&str, &str)>) -> Scene {
        let vault = builder.dir().join("vault");
        fs::set_permissions(builder.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        let collector = builder.dir().join("collector").display().to_string();
        let builder = builder.collector_for_all(&bin::fake()).without("collector").env("KM_COLLECTOR", collector);
        let builder = match setting {
            Some((name, path)) => {
                let path = builder.dir().join(path).display().to_string();
                let builder = if name == "api-key-file" { builder.without("api-key") } else { builder };
                builder.setting(name, path)
            }
            None => builder,
        };
        let agent = builder.config(yaml(&json!({"fake": {}, "name": "old"}))).build();
        for name in ["state", "run"] {
            fs::create_dir(agent.dir().join(name)).unwrap();
        }
        let scene = Scene { agent, vault };
        for name in ["etc", "etc/agent.yaml", "etc/config.yaml", "state", "run"] {
            scene.give(name, NOBODY, if name.ends_with("yaml") { 0o600 } else { 0o755 });
        }
        for name in ["vault", "vault/state", "vault/run"] {
            fs::create_dir(scene.file(name)).unwrap();
        }
        for name in ["config.yaml", "secret"] {
            fs::write(scene.vault.join(name), SECRET).unwrap();
            fs::set_permissions(scene.vault.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(scene.vault.join("open"), "{}").unwrap();
        scene
    }

    fn file(&self, name: &str) -> PathBuf {
        self.agent.dir().join(name)
    }

    fn give(&self, name: &str, owner: u32, mode: u32) {
        chown(self.file(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What is in the directory of root's.
    fn found(&self) -> Vec<(PathBuf, u64, String)> {
        let directories = [self.vault.clone(), self.vault.join("state"), self.vault.join("run")];
        let entries = directories.iter().flat_map(|directory| fs::read_dir(directory).unwrap().flatten());
        let known = |path: PathBuf| {
            let inode = fs::symlink_metadata(&path).unwrap().ino();
            let text = fs::read_to_string(&path).unwrap_or_default();
            (path, inode, text)
        };
        let mut found: Vec<_> = entries.map(|entry| known(entry.path())).collect();
        found.sort();
        found
    }

    /// Nothing is done but to say so; the command in it.
    #[track_caller]
    fn refuses(&self, api: &Api, name: &str, path: &str) -> String {
        let (before, asked) = (self.found(), api.requests().len());
        let mut command = String::new();
        for arguments in [&["--check"][..], &["--check", "--dry-run"], &["--print-settings"], &["start"]] {
            let output = self.agent.run(arguments);
            let text = &output.stderr;
            assert_eq!(output.code, Some(78), "{name}, {arguments:?}: {output:?}");
            let words = format!("{name}: root does not use {}, which another user can have named: ", path);
            assert!(text.contains(&words) && !text.contains(SECRET), "{name}: {output:?}");
            text.trim_end().split_once("run: ").unwrap_or_else(|| panic!("{text}")).1.clone_into(&mut command);
        }
        assert_eq!((self.found(), api.requests().len()), (before, asked), "{name}");
        assert_eq!(self.agent.config()["name"], "old");
        command
    }
}

fn run(command: &str) {
    assert!(Command::new("sh").arg("-c").arg(command).status().unwrap().success(), "{command}");
}

#[test]
fn paths_of_that_users_own_are_used_as_before() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(&api, Some(("local-config", "etc/overlay.yaml")));
    fs::write(scene.file("etc/overlay.yaml"), "{}").unwrap();
    scene.give("etc/overlay.yaml", NOBODY, 0o600);
    api.answer_config(json!({"fake": {}, "name": "new"}));
    assert!(scene.agent.run(["--check"]).says().starts_with("installed config"));
    api.answer_config(json!({"fake": {}, "name": "newer"}));
    let output = bin::output(scene.agent.command_as(NOBODY, &["--check"]));
    assert_eq!((output.code, scene.agent.config()["name"].as_str()), (Some(0), Some("newer")), "{output:?}");
}

#[test]
fn a_path_to_what_is_not_that_users_is_a_problem_and_the_command_ends_it() {
    if !needs::root() {
        return;
    }
    for (name, path, variable) in [
        ("config", "vault/config.yaml", "KM_COLLECTOR_CONFIG"),
        ("config", "vault/missing.yaml", "KM_COLLECTOR_CONFIG"),
        ("config", "vault/missing/config.yaml", "KM_COLLECTOR_CONFIG"),
        ("state-dir", "vault/state", "KM_STATE_DIR"),
        ("state-dir", "vault/missing", "KM_STATE_DIR"),
        ("run-dir", "vault/run", "KM_RUN_DIR"),
        ("api-key-file", "vault/secret", "KM_API_KEY_FILE"),
        ("local-config", "vault/secret", "KM_LOCAL_CONFIG"),
        ("policy", "vault/secret", "KM_POLICY"),
        ("ca-file", "vault/secret", "KM_CA_FILE"),
    ] {
        let api = Api::plain();
        let scene = Scene::new(&api, Some((name, path)));
        api.answer_config(json!({"fake": {}, "name": "new"}));
        let named = scene.file(path).display().to_string();
        let command = scene.refuses(&api, name, &named);

        // The negative controls: it is root's to say, by the environment or in settings of root's.
        let words = format!("root does not use {named}");
        let mut by_root = scene.agent.command(["--check"]);
        by_root.env(variable, &named);
        let output = bin::output(by_root);
        assert!(!output.stderr.contains(&words), "{name}: {output:?}");
        run(&command);
        let output = scene.agent.run(["--check"]);
        assert!(!output.stderr.contains(&words), "{name}: {output:?}");
    }
}

#[test]
fn the_command_that_ends_all_of_them_is_said_once() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let builder = Agent::builder().api(&api);
    let secret = builder.dir().join("vault/secret").display().to_string();
    let builder = builder.setting("local-config", secret.as_str()).setting("ca-file", secret.as_str());
    let scene = Scene::from(builder, Some(("config", "vault/config.yaml")));
    let output = scene.agent.run(["--check"]);
    assert_eq!(output.code, Some(78), "{output:?}");
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.contains("root does not use")).count(), 3, "{output:?}");
    let settings = scene.agent.settings_file().display().to_string();
    assert!(lines[3].starts_with(&format!("kmagent: {settings}: another user can change it: ")), "{output:?}");
    assert_eq!(output.stderr.matches("run: ").count(), 1, "{output:?}");
    run(lines[3].split_once("run: ").unwrap().1);
    let output = scene.agent.run(["--check"]);
    assert!(!output.stderr.contains("root does not use"), "{output:?}");
}

/// But not in a directory that not every user may enter, nor one that a link of root's hides.
#[test]
fn what_every_user_can_read_root_reads_too() {
    if !needs::root() {
        return;
    }
    for name in ["local-config", "policy"] {
        let api = Api::plain();
        let scene = Scene::new(&api, Some((name, "vault/open")));
        api.answer_config(json!({"fake": {}, "name": "new"}));
        fs::set_permissions(&scene.vault, fs::Permissions::from_mode(0o750)).unwrap();
        let named = scene.file("vault/open").display().to_string();
        scene.refuses(&api, name, &named);
        fs::set_permissions(&scene.vault, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(scene.agent.run(["--check"]).says().starts_with("installed config"), "{name}");
    }
}

/// Nobody's paths, but root's file in nobody's directory; and settings that are a group's, or everybody's.
#[test]
fn one_of_several_users_and_a_file_of_roots_are_no_affair_of_that_user() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(&api, None);
    let config = scene.agent.config_file().display().to_string();
    scene.give("etc/config.yaml", 0, 0o644);
    scene.refuses(&api, "config", &config);
    scene.give("etc/config.yaml", NOBODY, 0o600);
    for (name, former, mode) in [("etc/agent.yaml", 0o600, 0o660), ("etc", 0o755, 0o775), ("etc", 0o755, 0o777)] {
        scene.give(name, NOBODY, mode);
        scene.refuses(&api, "config", &config);
        scene.give(name, NOBODY, former);
    }
    assert_eq!(scene.agent.run(["--print-settings"]).code, Some(0));
}

/// What is made in that user's directory is that user's.
#[test]
fn a_missing_directory_is_made_for_that_user() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(&api, Some(("state-dir", "etc/made/state")));
    for name in ["new", "newer"] {
        api.answer_config(json!({"fake": {}, "name": name}));
        assert!(scene.agent.run(["--check"]).says().starts_with("installed config"));
    }
    for name in ["etc/made", "etc/made/state"] {
        assert_eq!(fs::metadata(scene.file(name)).unwrap().uid(), NOBODY, "{name}");
    }
    api.answer_config(json!({"fake": {}, "name": "newest"}));
    let output = bin::output(scene.agent.command_as(NOBODY, &["--check"]));
    assert_eq!((output.code, scene.agent.config()["name"].as_str()), (Some(0), Some("newest")), "{output:?}");
}

/// Root's own link lies in nobody's directory, who gives it the name of another one after it was judged.
#[test]
fn what_turns_into_a_link_of_roots_meanwhile_is_refused_at_its_use() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let builder = Agent::builder().api(&api);
    let config = builder.dir().join("etc/sub/config.yaml").display().to_string();
    let state = builder.dir().join("etc/sub/state").display().to_string();
    let scene = Scene::from(builder.setting("config", config).setting("state-dir", state), None);
    let (sub, link) = (scene.file("etc/sub"), scene.file("etc/link"));
    for name in ["etc/sub", "etc/sub/state"] {
        fs::create_dir(scene.file(name)).unwrap();
        scene.give(name, NOBODY, 0o755);
    }
    symlink(&scene.vault, &link).unwrap();
    let before = scene.found();
    let exchange = || rustix::fs::renameat_with(CWD, &sub, CWD, &link, RenameFlags::EXCHANGE).unwrap();
    let is_over = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                exchange();
            }
            if Path::is_symlink(&sub) {
                exchange();
            }
        });
        let check = |number: u32| {
            api.answer_config(json!({"fake": {}, "name": format!("new-{number}")}));
            scene.agent.run(["--check"])
        };
        let outcomes: Vec<_> = (0..ROUNDS).map(check).collect();
        is_over.store(true, Ordering::Relaxed);
        outcomes
    });
    assert_eq!(scene.found(), before);
    assert!(!format!("{outcomes:?}").contains(SECRET), "{outcomes:?}");
    let refused = |code| outcomes.iter().filter(|output| output.code == Some(code)).count();
    assert!(refused(78) > 0, "it was never in the way: {outcomes:?}");
    api.answer_config(json!({"fake": {}, "name": "last"}));
    // What was installed while the state led elsewhere is in no list.
    let output = scene.agent.run(["--check"]);
    assert!(output.code == Some(0) && output.stdout.starts_with("installed config"), "{output:?}");
}
