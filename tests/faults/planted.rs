//! Links that another user has planted where root reads and writes: nothing of root's is published, changed or made a
//! program.
//!
//! Needs root, and another user: the directories are nobody's, as they are the agent's user's where a service runs, or
//! everybody's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

use crate::operation::yaml;
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::{bin, needs, process};

const NOBODY: u32 = 65534;
const SECRET: &str = "fake: {}\nroot-only: SECRET-of-root\n";
const REFUSED: &str = "is a link that another user may have created: remove it";

/// Checks during which directory and link are exchanged, each of which goes some fifty ways.
const ROUNDS: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    Symbolic,
    Hard,
}

const LINKS: [Link; 2] = [Link::Symbolic, Link::Hard];

/// An agent whose config, state and run directories are nobody's, and a file that only root may read.
struct Scene {
    agent: Agent,
    victim: PathBuf,
}

impl Scene {
    fn new(builder: Builder) -> Scene {
        let builder = builder.collector_for_all(&bin::fake()).settings_apart();
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

    /// Makes the directory of the config root's, and everybody's to write in.
    fn open_to_everybody(&self) {
        let directory = self.file("etc");
        chown(&directory, Some(0), Some(0)).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
    }

    /// As nobody would make it; a hard link where protected_hardlinks (proc_sys_fs(5)) is 0.
    fn plant(&self, link: Link, at: &str) {
        let at = self.file(at);
        let _ = fs::remove_file(&at);
        match link {
            Link::Symbolic => {
                symlink(&self.victim, &at).unwrap();
                lchown(&at, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            Link::Hard => fs::hard_link(&self.victim, &at).unwrap(),
        }
    }

    /// In place of what was planted, a link of root's own.
    fn link(&self, at: &str, target: &Path) {
        let at = self.file(at);
        fs::remove_file(&at).unwrap();
        symlink(target, &at).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.agent.dir().join(name)
    }

    #[track_caller]
    fn assert_unharmed(&self) {
        let victim = fs::symlink_metadata(&self.victim).unwrap();
        assert_eq!((victim.uid(), victim.mode() & 0o7777), (0, 0o4700), "the victim's owner or mode");
        assert_eq!(fs::read_to_string(&self.victim).unwrap(), SECRET);
        for directory in ["etc", "state", "state/generations", "run"] {
            for entry in fs::read_dir(self.file(directory)).into_iter().flatten().flatten() {
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

/// What a roll back would go to; also as an earlier version kept it.
#[test]
fn a_planted_generation_is_not_published() {
    if !needs::root() {
        return;
    }
    let places = ["state/last-known-good.yaml", "state/generations/1.yaml"];
    for (link, place) in LINKS.into_iter().flat_map(|link| places.map(|place| (link, place))) {
        let scene = Scene::new(Agent::builder());
        let generations = scene.file("state/generations");
        fs::create_dir(&generations).unwrap();
        let list = json!({"generations": [{"number": 1, "revision": null, "source": "api", "installed_at": 1,
            "standing": "confirmed"}]});
        fs::write(scene.file("state/generations.json"), list.to_string()).unwrap();
        for path in [&generations, &scene.file("state/generations.json")] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        scene.plant(link, place);
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

/// Neither by the agent nor by the collector, which would read it with root's rights: config and overlay, for a check
/// that runs alone and for an agent.
#[test]
fn a_planted_config_is_not_followed() {
    if !needs::root() {
        return;
    }
    let cases = LINKS.into_iter().flat_map(|link| [(link, "nobody's"), (link, "everybody's")]);
    for (link, owner) in cases {
        for (file, exit) in [("etc/config.yaml", 73), ("etc/overlay.yaml", 69)] {
            let api = Api::plain();
            let builder = Agent::builder().api(&api);
            let overlay = builder.dir().join("etc/overlay.yaml");
            let scene = Scene::new(builder.setting("local-config", overlay.display().to_string()));
            fs::write(overlay, "{}").unwrap();
            if owner == "everybody's" {
                scene.open_to_everybody();
            }
            scene.plant(link, file);
            api.answer_config(json!({"fake": {}, "name": "new"}));
            scene.agent.run(["--check"]).fails(exit, REFUSED);
            scene.assert_unharmed();

            api.answer(json!({}));
            scene.agent.spawn();
            let status = scene.agent.wait_status("a refusal", |status| {
                status["last_error_message"].as_str().is_some_and(|text| text.contains(REFUSED))
            });
            assert!(status["last_error_message"].as_str().unwrap().contains(file), "{status}");
            assert_eq!(
                (scene.agent.starts(), &status["collector"]["pid"]),
                (0, &json!(null)),
                "{link:?}, {owner}, {file}"
            );
            scene.assert_unharmed();

            // The negative control, and the remedy: root's own link is followed.
            let target = scene.file("elsewhere.yaml");
            fs::write(&target, yaml(&json!({"fake": {}, "name": "own"}))).unwrap();
            scene.link(file, &target);
            scene.agent.wait_start(1);
            assert_eq!(scene.agent.stop(), 0);
        }
    }
}

/// What it is read for by the agent: a health check that the victim declares, where nobody answers, would fail the
/// probation.
#[test]
fn an_overlay_that_is_planted_once_the_collector_runs_is_not_read() {
    if !needs::root() {
        return;
    }
    let builder = Agent::builder().setting("min-uptime", "2s");
    let overlay = builder.dir().join("etc/overlay.yaml");
    let scene = Scene::new(builder.setting("local-config", overlay.display().to_string()));
    fs::write(overlay, "{}").unwrap();
    let check = json!({"health_check": {"endpoint": format!("127.0.0.1:{}", process::free_port())}});
    let victim = json!({"extensions": check, "service": {"extensions": ["health_check"]}});
    fs::write(&scene.victim, yaml(&victim)).unwrap();
    scene.agent.spawn();
    scene.agent.wait_start(1);
    scene.plant(Link::Symbolic, "etc/overlay.yaml");
    scene.agent.wait_until("a config that has proved itself", || !scene.agent.proved().is_empty());
    assert_eq!((scene.agent.starts(), scene.agent.stop()), (1, 0));
}

/// A directory that only root may look into, with a file of each name that the agent knows.
struct Vault {
    path: PathBuf,
    before: Vec<(String, u64, String)>,
}

impl Vault {
    fn new(path: PathBuf) -> Vault {
        for directory in ["state", "run"] {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["config.yaml", "overlay.yaml", "ca.pem", "state/rejected.json", "run/lock"] {
            fs::write(path.join(name), SECRET).unwrap();
        }
        fs::write(path.join("api-key"), "SECRET-of-root").unwrap();
        let settings = "update-endpoint: http://127.0.0.1:1\nhost-name: SECRET-of-root\n";
        fs::write(path.join("agent.yaml"), settings).unwrap();
        let before = Vault::files(&path);
        Vault { path, before }
    }

    fn files(path: &Path) -> Vec<(String, u64, String)> {
        let mut files = Vec::new();
        for directory in [path.to_path_buf(), path.join("state"), path.join("run")] {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let meta = fs::symlink_metadata(entry.path()).unwrap();
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let owner = meta.uid();
                files.push((format!("{} {owner} {:o}", entry.path().display(), meta.mode()), meta.ino(), text));
            }
        }
        files.sort();
        files
    }

    #[track_caller]
    fn assert_unharmed(&self, what: &str) {
        assert_eq!(Vault::files(&self.path), self.before, "{what}");
    }
}

/// In the middle of each path that a setting names: the directory above is nobody's, what it leads to is root's alone.
#[test]
fn a_planted_link_in_the_middle_of_a_path_is_not_followed() {
    if !needs::root() {
        return;
    }
    for (setting, path, exit) in [
        ("config", "etc/sub/config.yaml", 73),
        ("state-dir", "etc/sub/state", 73),
        ("run-dir", "etc/sub/run", 73),
        ("local-config", "etc/sub/overlay.yaml", 69),
        ("api-key-file", "etc/sub/api-key", 78),
        ("ca-file", "etc/sub/ca.pem", 78),
        ("agent-config", "etc/sub/agent.yaml", 78),
    ] {
        let api = Api::plain();
        let builder = Agent::builder().api(&api).without("api-key");
        let named = builder.dir().join(path).display().to_string();
        let builder = match setting {
            "agent-config" => builder.env("KM_AGENT_CONFIG", named),
            _ => builder.setting(setting, named),
        };
        let scene = Scene::new(builder);
        let vault = Vault::new(scene.file("vault"));
        api.answer_config(json!({"fake": {}, "name": "new"}));
        symlink(&vault.path, scene.file("etc/sub")).unwrap();
        lchown(scene.file("etc/sub"), Some(NOBODY), Some(NOBODY)).unwrap();
        for command in [["--check"].as_slice(), &["--check", "--dry-run"], &["--print-settings"]] {
            let output = scene.agent.run(command);
            vault.assert_unharmed(setting);
            assert!(!format!("{output:?}").contains("SECRET-of-root"), "{setting}: {output:?}");
            if command == ["--check"] {
                // Of settings and key files the path is said already.
                let words = if exit == 78 && setting != "ca-file" { REFUSED } else { &format!("etc/sub {REFUSED}") };
                assert_eq!(output.code, Some(exit), "{setting}: {output:?}");
                assert!(output.stderr.contains(words), "{setting}: {output:?}");
            }
        }
        let sent = api.requests().iter().any(|request| format!("{request:?}").contains("SECRET-of-root"));
        assert!(!sent && (exit != 78 || api.requests().is_empty()), "{setting}");

        // The negative control: a link of root's own leads there.
        lchown(scene.file("etc/sub"), Some(0), Some(0)).unwrap();
        let output = scene.agent.run(["--check"]);
        assert!(!output.stderr.contains(REFUSED), "{setting}: {output:?}");
    }
}

/// Beside the settings, where it is looked for: the API would get what root alone may read.
#[test]
fn a_planted_key_is_not_sent() {
    if !needs::root() {
        return;
    }
    for link in LINKS {
        let api = Api::plain();
        let scene = Scene::new(Agent::builder().api(&api).without("api-key"));
        let settings = scene.file("etc/agent.yaml");
        fs::rename(scene.file("agent.yaml"), &settings).unwrap();
        fs::write(&scene.victim, "SECRET-of-root").unwrap();
        scene.plant(link, "etc/api-key");
        for command in ["--check", "--print-settings", "start"] {
            let mut command = scene.agent.command([command]);
            command.env("KM_AGENT_CONFIG", &settings);
            let output = bin::output(command);
            output.fails(78, &format!("etc/api-key: it {REFUSED}"));
            assert!(!output.stderr.contains("SECRET-of-root"), "{output:?}");
        }
        assert_eq!(api.requests().len(), 0, "{link:?}");
        fs::remove_file(scene.file("etc/api-key")).unwrap();
        fs::write(scene.file("etc/api-key"), "own-key").unwrap();
        let mut command = scene.agent.command(["--check"]);
        command.env("KM_AGENT_CONFIG", &settings);
        bin::output(command);
        assert_eq!(api.requests()[0].header("authorization"), Some("own-key"), "{link:?}");
    }
}

/// While root works there, nobody exchanges directories for links as fast as the kernel does it.
#[test]
fn a_directory_that_turns_into_a_link_meanwhile_leads_nowhere() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let builder = Agent::builder().api(&api);
    let path = |name: &str| builder.dir().join(name).display().to_string();
    let (config, state, run) = (path("etc/sub/config.yaml"), path("etc/sub/state"), path("etc/sub/run"));
    let builder = builder.setting("config", config).setting("state-dir", state).setting("run-dir", run);
    let scene = Scene::new(builder);
    let vault = Vault::new(scene.file("vault"));
    let (sub, link, target) = (scene.file("etc/sub"), scene.file("etc/link"), scene.file("etc/sub/config.yaml"));
    for directory in ["etc/sub", "etc/sub/state", "etc/sub/run"] {
        fs::create_dir(scene.file(directory)).unwrap();
        chown(scene.file(directory), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::write(&target, yaml(&json!({"fake": {}, "name": "old"}))).unwrap();
    symlink(&vault.path, &link).unwrap();
    lchown(&link, Some(NOBODY), Some(NOBODY)).unwrap();
    let is_over = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &sub, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
            if sub.is_symlink() {
                rustix::fs::renameat_with(CWD, &sub, CWD, &link, RenameFlags::EXCHANGE).unwrap();
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
    vault.assert_unharmed("exchanged");
    assert!(outcomes.iter().any(|output| output.stderr.contains(REFUSED)), "it was never in the way: {outcomes:?}");
    assert!(!format!("{outcomes:?}").contains("SECRET-of-root"), "{outcomes:?}");
    api.answer_config(json!({"fake": {}, "name": "last"}));
    assert_eq!(scene.agent.run(["--check"]).code, Some(0));
    assert!(fs::read_to_string(&target).unwrap().contains("name: last"));
}

#[test]
fn roots_own_link_is_followed_and_stays() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(Agent::builder().api(&api));
    api.answer_config(json!({"fake": {}, "name": "new"}));
    let target = scene.file("elsewhere.yaml");
    fs::write(&target, yaml(&json!({"fake": {}, "name": "old"}))).unwrap();
    scene.link("etc/config.yaml", &target);
    assert_eq!(scene.agent.run(["--check"]).code, Some(0));
    assert!(fs::symlink_metadata(scene.agent.config_file()).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("name: new"));
}

#[test]
fn a_config_from_the_api_takes_the_place_of_a_hard_link() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(Agent::builder().api(&api));
    scene.plant(Link::Hard, "etc/config.yaml");
    api.answer_config(json!({"fake": {}, "name": "new"}));
    scene.agent.spawn();
    scene.agent.wait_start(1);
    assert_eq!(scene.agent.config()["name"], "new");
    scene.assert_unharmed();
    assert_eq!(scene.agent.stop(), 0);
}

#[test]
fn a_planted_copy_of_the_former_config_gives_nothing_away() {
    if !needs::root() {
        return;
    }
    for link in LINKS {
        let api = Api::plain();
        let scene = Scene::new(Agent::builder().api(&api).setting("on-change", "false"));
        api.answer_config(json!({"fake": {}, "name": "new"}));
        scene.plant(link, "state/previous.yaml");
        scene.plant(link, "state/rejected.json");
        assert_eq!(scene.agent.run(["--check"]).code, Some(65), "on-change fails, so it is rolled back");
        assert_eq!(scene.agent.config()["name"], "old");
        scene.assert_unharmed();
    }
}

#[test]
fn a_planted_lock_or_socket_leads_nowhere() {
    if !needs::root() {
        return;
    }
    for link in LINKS {
        let scene = Scene::new(Agent::builder());
        scene.plant(link, "run/lock");
        if link == Link::Symbolic {
            scene.agent.run(["start"]).fails(73, "cannot use the run directory");
            scene.assert_unharmed();
            fs::remove_file(scene.file("run/lock")).unwrap();
        }
        scene.plant(link, "run/control.new");
        scene.plant(link, "run/control.sock");
        scene.agent.spawn();
        scene.agent.wait_status("an agent", |_| true);
        assert_eq!(fs::metadata(scene.agent.socket()).unwrap().mode() & 0o777, 0o600);
        scene.assert_unharmed();
        assert_eq!(scene.agent.stop(), 0);
        scene.assert_unharmed();
    }
}

#[test]
fn other_users_are_refused_at_the_control_socket() {
    if !needs::root() {
        return;
    }
    let agent = Agent::builder().spawn();
    agent.wait_status("an agent", |_| true);
    // The directory could be opened by mistake; the socket is still its owner's.
    for path in [agent.dir().to_path_buf(), agent.run_dir()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let program = agent.dir().join("kmagent");
    bin::copy_program(&bin::kmagent(), &program);
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
fn root_takes_no_collector_from_path_that_others_could_have_put_there() {
    let builder = Agent::builder().without("collector").config(yaml(&json!({"fake": {}})));
    let (folder, elsewhere) = (builder.dir().join("folder"), builder.dir().join("elsewhere"));
    let (program, real) = (folder.join("otelcol"), elsewhere.join("collector"));
    for (directory, file) in [(&folder, &program), (&elsewhere, &real)] {
        fs::create_dir(directory).unwrap();
        bin::copy_program(&bin::fake(), file);
    }
    let agent = builder.env("PATH", folder.display().to_string()).build();
    let own = rustix::process::getuid().as_raw();
    let put = |path: &Path, owner: u32, mode: u32| {
        chown(path, Some(owner), None).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let check = |what: &str, is_taken: bool| {
        agent.spawn();
        let status = agent.wait_status("a first start", |status| {
            status["collector"]["pid"].is_u64() || !status["last_error_message"].as_str().unwrap().is_empty()
        });
        assert_eq!(status["collector"]["pid"].is_u64(), is_taken, "{what}: {status}");
        if !is_taken {
            let report = status["last_error_message"].as_str().unwrap();
            assert!(report.contains("in a program and directory that only root owns and may write"), "{report}");
        }
        assert_eq!(agent.stop(), 0);
    };
    // Folder and program; then those that a link leads to.
    for (kind, folder, file) in [("plain", &folder, &program), ("link", &elsewhere, &real)] {
        if kind == "link" {
            fs::remove_file(&program).unwrap();
            symlink(&real, &program).unwrap();
        }
        let cases = [
            ("fine", (own, 0o755), (own, 0o755)),
            ("everybody's folder", (own, 0o777), (own, 0o755)),
            ("a group's folder", (own, 0o775), (own, 0o755)),
            ("another's folder", (NOBODY, 0o755), (own, 0o755)),
            ("everybody's program", (own, 0o755), (own, 0o757)),
            ("a group's program", (own, 0o755), (own, 0o775)),
            ("another's program", (own, 0o755), (NOBODY, 0o755)),
        ];
        for (what, (owner, mode), (program_owner, program_mode)) in cases {
            if own != 0 && [owner, program_owner].contains(&NOBODY) {
                continue;
            }
            put(folder, owner, mode);
            put(file, program_owner, program_mode);
            check(&format!("{kind}: {what}"), what == "fine" || own != 0);
        }
        put(folder, own, 0o755);
        put(file, own, 0o755);
    }
    put(&folder, own, 0o777);
    check("a link to a fine program, in everybody's folder", own != 0);
}
