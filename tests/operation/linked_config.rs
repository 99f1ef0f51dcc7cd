//! The layout that the installer makes: settings, key and a link to the config are root's, and the agent's user may
//! read them; the config that the link leads to is in that user's own directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{message, named, scripted, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::bin;
use crate::support::needs;

/// Debian's nobody and nogroup.
const NOBODY: u32 = 65534;

struct Scene {
    agent: Agent,
}

impl Scene {
    /// No config yet; the link leads nowhere.
    fn new(api: &Api) -> Scene {
        let builder = Agent::builder().api(api).without("api-key").setting("config-check-interval", "168h");
        let dir = builder.dir().to_path_buf();
        let program = dir.join("kmagent");
        bin::copy_kmagent(&program);
        bin::copy_program(&bin::fake(), &dir.join("collector"));
        fs::write(dir.join("fake.log"), "").unwrap();
        chown(dir.join("fake.log"), Some(NOBODY), None).unwrap();
        let agent = builder.collector(dir.join("collector")).program(program).build();
        for name in ["state", "run"] {
            fs::create_dir(dir.join(name)).unwrap();
            chown(dir.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::write(dir.join("etc/api-key"), "the-key\n").unwrap();
        symlink(dir.join("state/config.yaml"), agent.config_file()).unwrap();
        for (name, mode) in [("etc/api-key", 0o640), ("etc/agent.yaml", 0o640), ("etc", 0o750), ("", 0o755)] {
            chown(dir.join(name), Some(0), Some(NOBODY)).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        Scene { agent }
    }

    fn target(&self) -> PathBuf {
        self.agent.state_dir().join("config.yaml")
    }

    /// What the installer has put there, and nothing else.
    #[track_caller]
    fn assert_kept(&self) {
        assert_eq!(names(&self.agent.dir().join("etc")), ["agent.yaml", "api-key", "config.yaml"]);
        assert_eq!(fs::read_link(self.agent.config_file()).unwrap(), self.target());
        // A record that is being written has such a name for a moment; one that is left keeps it.
        let is_left = |name: &String| name.contains("candidate");
        self.agent.wait_until("no candidate", || !names(&self.agent.state_dir()).iter().any(is_left));
    }

    fn spawn(&self) {
        self.agent.spawn_command(self.agent.command_as(NOBODY, &["start"]));
    }

    /// The rest of the settings is as it was.
    fn without_on_change(&self, text: &str) {
        let settings = fs::read_to_string(self.agent.settings_file()).unwrap();
        let kept = settings.lines().filter(|line| !line.starts_with("on-change"));
        let text = kept.map(|line| format!("{line}\n")).collect::<String>() + text;
        fs::write(self.agent.settings_file(), text).unwrap();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

#[test]
fn a_user_who_may_not_write_beside_the_link_replaces_what_it_leads_to() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let scene = Scene::new(&api);
    let agent = &scene.agent;
    // The first start, with nothing where the link leads.
    api.answer_config(named("first"));
    scene.spawn();
    agent.wait_start(1);
    assert_eq!((agent.config(), owner(&scene.target())), (named("first"), NOBODY));
    let request = api.wait_for_request("a check", |_| true);
    assert_eq!(request.header("authorization"), Some("the-key"), "the agent reads it by itself");
    agent.wait_log("a promotion", |line| line.msg().starts_with("config promoted"));

    api.answer_config(scripted("dying", json!({"start": {"exit": 3}})));
    assert_eq!(agent.run(["--check"]).code, Some(65), "root asks the agent");
    assert_eq!(agent.config(), named("first"));
    assert!(agent.rejected().contains("dying"));
    scene.assert_kept();
    assert_eq!(agent.stop(), 0);

    // A check as root, without an agent; and one as the user.
    api.answer_config(named("second"));
    assert_eq!(agent.run(["--check"]).code, Some(0));
    assert_eq!((agent.config(), owner(&scene.target())), (named("second"), NOBODY));
    api.answer_config(named("third"));
    let output = bin::output(agent.command_as(NOBODY, &["--check"]));
    assert_eq!((output.code, agent.config()), (Some(0), named("third")), "{output:?}");
    scene.assert_kept();

    // There was none before, and on-change fails: it goes, and the link stays.
    fs::remove_file(scene.target()).unwrap();
    scene.without_on_change("on-change: 'false'\n");
    api.answer_config(named("fourth"));
    assert_eq!(agent.run(["--check"]).code, Some(65));
    assert!(!scene.target().exists());
    scene.assert_kept();
}

#[test]
fn a_file_in_the_place_of_the_link_is_named_with_the_command_that_puts_it_back() {
    if !needs::root() {
        return;
    }
    for config in [Some("managed"), None] {
        let api = Api::plain();
        let scene = Scene::new(&api);
        let agent = &scene.agent;
        fs::remove_file(agent.config_file()).unwrap();
        if let Some(name) = config {
            fs::write(agent.config_file(), yaml(&named(name))).unwrap();
            fs::set_permissions(agent.config_file(), fs::Permissions::from_mode(0o644)).unwrap();
        }
        api.answer_config(named("new"));
        scene.spawn();
        let warning = agent.wait_log("a warning", |line| line.msg().starts_with("config cannot be replaced"));
        let command = warning.field("command").to_string();
        assert_eq!(command.starts_with("mv "), config.is_some(), "{command}");
        agent.wait_status("a problem", |status| status["last_error_message"].as_str().unwrap().contains(&command));
        agent.wait_log("a problem", |line| line.text.contains("as root, run") && line.text.contains(&command));
        agent.run(["--check"]).fails(73, &command);
        api.wait_for_request("the problem", |request| message(request).contains(&command));

        assert!(Command::new("sh").arg("-c").arg(&command).status().unwrap().success(), "{command}");
        assert_eq!(agent.run(["--check"]).code, Some(0));
        assert_eq!((agent.config(), owner(&scene.target())), (named("new"), NOBODY));
        scene.assert_kept();
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn the_default_config_is_put_where_the_link_leads() {
    if !needs::root() {
        return;
    }
    let scene = Scene::new(&Api::plain());
    let (bin, share) = (scene.agent.dir().join("bin"), scene.agent.dir().join("share/kmagent"));
    fs::create_dir_all(&share).unwrap();
    fs::create_dir(&bin).unwrap();
    fs::write(share.join("config.yaml"), yaml(&named("default"))).unwrap();
    bin::copy_kmagent(&bin.join("kmagent"));
    let inner = scene.agent.command_as(NOBODY, &["start"]);
    let mut command = Command::new(inner.get_program());
    let program = scene.agent.dir().join("kmagent");
    command.args(inner.get_args().map(|arg| if arg == program { bin.join("kmagent").into() } else { arg.to_owned() }));
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    scene.agent.spawn_command(command);
    scene.agent.wait_start(1);
    assert_eq!((scene.agent.config(), owner(&scene.target())), (named("default"), NOBODY));
    scene.assert_kept();
    assert_eq!(scene.agent.stop(), 0);
}
