//! Settings that another user than root can change: what root does not take from them, what it says, and that the
//! command in the message ends it while the agent's own user goes on as before.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::operation::yaml;
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::bin::{self, Output};
use crate::support::needs;

/// Debian's nobody and nogroup; any that is not root will do.
const NOBODY: u32 = 65534;

/// An agent whose config, state and run directories are nobody's, with a collector and an `on-change` that say that
/// they were run. The program is where nobody can run it.
struct Scene {
    agent: Agent,
}

/// Owner, group, mode.
type Rights = (u32, u32, u32);

const NOBODYS: Rights = (NOBODY, NOBODY, 0o755);
const NOBODYS_FILE: Rights = (NOBODY, NOBODY, 0o600);
const ROOTS: Rights = (0, 0, 0o755);

impl Scene {
    fn new(builder: Builder, directory: Rights, file: Rights) -> Scene {
        let dir = builder.dir().to_path_buf();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.join("bin")).unwrap();
        bin::copy_kmagent(&dir.join("bin/kmagent"));
        let collector_script = dir.join("script");
        let run = dir.join("collector-was-run");
        bin::write_program(
            &collector_script,
            &format!("#!/bin/sh\necho run >>{}\nexec {} \"$@\"\n", run.display(), dir.join("collector").display()),
        );
        let builder = builder
            .collector_for_all(&bin::fake())
            .paths_by_environment()
            .program(dir.join("bin/kmagent"))
            .collector(&collector_script);
        let agent = builder.config(yaml(&json!({"fake": {}, "name": "old"}))).build();
        for mark in ["collector-was-run", "on-change-was-run"] {
            fs::write(dir.join(mark), "").unwrap();
            fs::set_permissions(dir.join(mark), fs::Permissions::from_mode(0o666)).unwrap();
        }
        for name in ["state", "run"] {
            fs::create_dir(dir.join(name)).unwrap();
            give(&dir.join(name), NOBODYS);
        }
        give(&agent.config_file(), NOBODYS_FILE);
        give(&agent.settings_file(), file);
        give(&dir.join("etc"), directory);
        Scene { agent }
    }

    fn on_change(builder: Builder) -> Builder {
        let mark = builder.dir().join("on-change-was-run").display().to_string();
        builder.setting("on-change", format!("echo run >>{mark}"))
    }

    fn was_run(&self) -> (bool, bool) {
        let is_marked = |name: &str| fs::metadata(self.agent.dir().join(name)).unwrap().len() > 0;
        (is_marked("collector-was-run"), is_marked("on-change-was-run"))
    }

    fn name(&self) -> String {
        self.agent.config()["name"].as_str().unwrap().to_string()
    }

    /// `--check` as that user.
    fn check_as_nobody(&self) -> Output {
        let command = self.agent.command_as(NOBODY, &["--check"]);
        bin::output(command)
    }
}

fn give(path: &Path, (owner, group, mode): Rights) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The command that a message ends with.
#[track_caller]
fn command_in(message: &str) -> String {
    let line = message.lines().find(|line| line.contains("run: ")).unwrap_or_else(|| panic!("no command: {message}"));
    line.split_once("run: ").unwrap().1.to_string()
}

/// A collector without them could refuse a good config.
#[test]
fn root_judges_nothing_with_arguments_that_another_user_could_have_named() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let builder = Agent::builder().api(&api).without("collector").setting("collector-args", json!(["--set=a=b"]));
    let scene = Scene::new(builder, NOBODYS, NOBODYS_FILE);
    let file = scene.agent.settings_file();
    let text = fs::read_to_string(&file).unwrap();
    let is_no_collector = |line: &&str| !line.starts_with("collector:");
    fs::write(&file, text.lines().filter(is_no_collector).collect::<Vec<_>>().join("\n")).unwrap();
    fs::rename(scene.agent.dir().join("script"), scene.agent.dir().join("bin/kmagent-collector")).unwrap();
    api.answer_config(json!({"fake": {}, "name": "new"}));
    let output = scene.agent.run(["--check"]);
    output.fails(69, "root ignores collector-args in ");
    assert!(output.stderr.contains("no config is judged without the collector's arguments"), "{output:?}");
    assert_eq!(scene.name(), "old");
    let fixed = Command::new("sh").arg("-c").arg(command_in(&output.stderr)).status().unwrap();
    assert!(fixed.success(), "{output:?}");
    let output = scene.agent.run(["--check"]);
    assert_eq!((output.code, scene.name().as_str()), (Some(0), "new"), "{output:?}");
    assert!(
        scene.agent.records_of("validate").last().unwrap()["argv"].as_array().unwrap().contains(&json!("--set=a=b"))
    );
}

#[test]
fn root_runs_nothing_that_another_user_could_have_named_and_the_command_ends_it() {
    if !needs::root() {
        return;
    }
    for (what, directory, file) in [
        ("nobody's directory and file", NOBODYS, NOBODYS_FILE),
        ("nobody's directory, root's file", NOBODYS, (0, NOBODY, 0o640)),
        ("nobody's file", ROOTS, NOBODYS_FILE),
        ("a group's directory", (0, NOBODY, 0o770), (0, NOBODY, 0o640)),
        ("everybody's directory", (0, NOBODY, 0o777), (0, NOBODY, 0o640)),
        ("a group's file", ROOTS, (0, NOBODY, 0o660)),
        ("everybody's file", ROOTS, (0, 0, 0o666)),
    ] {
        let api = Api::plain();
        let scene = Scene::new(Scene::on_change(Agent::builder().api(&api)), directory, file);
        api.answer_config(json!({"fake": {}, "name": "new"}));
        let output = scene.agent.run(["--check"]);
        output.fails(69, "root ignores collector and on-change in ");
        assert!(output.stderr.contains("so no config is judged"), "{what}: {output:?}");
        assert_eq!((scene.was_run(), scene.name().as_str()), ((false, false), "old"), "{what}");
        assert_eq!(api.requests().len(), 1, "{what}: the rest of the settings holds");
        let printed = scene.agent.run(["--print-settings"]);
        assert_eq!((printed.code, command_in(&printed.stderr)), (Some(0), command_in(&output.stderr)), "{what}");

        let fixed = Command::new("sh").arg("-c").arg(command_in(&output.stderr)).status().unwrap();
        assert!(fixed.success(), "{what}: {output:?}");
        assert_eq!(scene.agent.run(["--check"]).code, Some(0), "{what}");
        assert_eq!((scene.was_run(), scene.name().as_str()), ((true, true), "new"), "{what}");
        // The agent's user still can.
        if directory != ROOTS {
            api.answer_config(json!({"fake": {}, "name": "newer"}));
            let output = scene.check_as_nobody();
            assert_eq!((output.code, scene.name().as_str()), (Some(0), "newer"), "{what}: {output:?}");
        }
    }
}

/// An agent's user is nobody's concern: its own settings command it.
#[test]
fn another_user_obeys_its_own_settings() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(Scene::on_change(Agent::builder().api(&api)), NOBODYS, NOBODYS_FILE);
    api.answer_config(json!({"fake": {}, "name": "new"}));
    let output = scene.check_as_nobody();
    assert_eq!((output.code, scene.was_run(), scene.name().as_str()), (Some(0), (true, true), "new"), "{output:?}");
}

/// The one beside the agent, where root owns program and directory.
#[test]
fn the_default_collector_judges_and_nothing_is_installed_without_on_change() {
    if !needs::root() {
        return;
    }
    let default = |scene: &Scene| -> PathBuf {
        let path = scene.agent.dir().join("bin/kmagent-collector");
        bin::copy_program(&bin::fake(), &path);
        path
    };
    let api = Api::plain();
    let scene = Scene::new(Scene::on_change(Agent::builder().api(&api)), NOBODYS, NOBODYS_FILE);
    let path = default(&scene);
    api.answer(json!({"restart_required": true}));
    scene.agent.run(["--check"]).fails(78, "the collector is not restarted, as the API requested");
    assert_eq!(scene.was_run(), (false, false));
    api.answer_config(json!({"fake": {}, "name": "new"}));
    scene.agent.run(["--check"]).fails(78, "is valid and not installed, since on-change cannot be run");
    assert_eq!((scene.was_run(), scene.name().as_str()), ((false, false), "old"));
    chown(&path, Some(NOBODY), None).unwrap();
    api.answer_config(json!({"fake": {}, "name": "new"}));
    scene.agent.run(["--check"]).fails(69, "no collector that root may run");

    // What is not the file's holds, and so does the rest of the file.
    let api = Api::plain();
    let scene = Scene::new(Agent::builder().api(&api), NOBODYS, NOBODYS_FILE);
    default(&scene);
    api.answer_config(json!({"fake": {}, "name": "new"}));
    assert_eq!(scene.agent.run(["--check"]).code, Some(0));
    assert_eq!((scene.was_run(), scene.name().as_str()), ((false, false), "new"));

    let api = Api::plain();
    let builder = Scene::on_change(Agent::builder().api(&api));
    let collector = builder.dir().join("script").display().to_string();
    let mark = builder.dir().join("on-change-was-run").display().to_string();
    let builder = builder.env("KM_COLLECTOR", collector).env("KM_ON_CHANGE", format!("echo run >>{mark}"));
    let scene = Scene::new(builder, NOBODYS, NOBODYS_FILE);
    api.answer_config(json!({"fake": {}, "name": "new"}));
    assert!(scene.agent.run(["--check"]).says().starts_with("installed config "));
    assert_eq!((scene.was_run(), scene.name().as_str()), ((true, true), "new"));
}

/// As in a container whose volume is a user's of the host: it is there for its operator, and says the command.
#[test]
fn a_resident_agent_of_root_says_what_it_ignores() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(Agent::builder().api(&api), NOBODYS, NOBODYS_FILE);
    scene.agent.spawn();
    let status = scene.agent.wait_status("a refusal", |status| {
        status["last_error_message"].as_str().is_some_and(|text| text.contains("root ignores collector in "))
    });
    let command = command_in(status["last_error_message"].as_str().unwrap());
    assert!(scene.agent.log().iter().any(|line| line.field("problem").contains(&command)), "{:?}", scene.agent.log());
    assert_eq!((scene.was_run(), scene.agent.stop()), ((false, false), 0));
    assert!(Command::new("sh").arg("-c").arg(command).status().unwrap().success());
    scene.agent.spawn();
    scene.agent.wait_start(1);
    assert_eq!(scene.agent.stop(), 0);
}
