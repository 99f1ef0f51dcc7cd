//! `--check` as root, of a config that another user owns: what the collector is run for has that user's rights.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::XattrFlags;
use serde_json::{Value, json};

use super::{bad_config, config, host};
use crate::operation::yaml;
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::temp_dir::TempDir;
use crate::support::{bin, needs};

const NOBODY: u32 = 65534;

/// A host whose config is nobody's. Its collector and overlay are root's; only root may read the overlay.
struct Host {
    agent: Agent,
    overlay: PathBuf,
}

impl Host {
    fn new(api: &Api, collector: &Path, active: &Value) -> Host {
        Host::from(host(api), collector, active)
    }

    fn from(builder: Builder, collector: &Path, active: &Value) -> Host {
        let overlay = builder.dir().join("overlay.yaml");
        let builder = builder
            .collector_for_all(collector)
            .settings_apart()
            .setting("local-config", overlay.display().to_string());
        let on_change = format!("id -u >>{}", builder.dir().join("changes").display());
        let agent = builder.setting("on-change", on_change).config(yaml(active)).build();
        fs::write(&overlay, "{}").unwrap();
        fs::set_permissions(&overlay, fs::Permissions::from_mode(0o600)).unwrap();
        let host = Host { agent, overlay };
        host.owned_by(NOBODY);
        host
    }

    fn owned_by(&self, user: u32) {
        for path in [self.agent.dir().join("etc"), self.agent.config_file()] {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    /// What the latest of these commands was run with.
    fn latest(&self, role: &str) -> Value {
        self.agent.records_of(role).pop().unwrap_or_else(|| panic!("no {role}"))
    }
}

#[track_caller]
fn assert_powerless(record: &Value) {
    let rights = &record["rights"];
    let ids = vec![NOBODY.to_string(); 4].join(" ");
    assert_eq!((&rights["Uid"], &rights["Gid"], &rights["Groups"]), (&json!(ids), &json!(ids), &json!("65534")));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(rights[set], "0000000000000000", "{set}");
    }
    assert_eq!(rights["NoNewPrivs"], "1");
    // Else it could type commands at root's terminal.
    assert_eq!(rights["NSsid"], record["pid"].to_string(), "a session of its own");
}

#[test]
fn validate_and_version_have_the_owners_rights_and_on_change_has_roots() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let host = Host::new(&api, &bin::fake(), &config("old"));
    fs::write(&host.overlay, "overlay: laid over it\n").unwrap();
    api.answer_config(config("new"));
    for arguments in [&["--check", "--dry-run"][..], &["--check"]] {
        assert!(host.agent.run(arguments).says().contains("install"));
        for role in ["version", "validate"] {
            let record = host.latest(role);
            assert_powerless(&record);
            assert_ne!(record["env"]["KM_API_KEY"], "test-key", "its user's other processes can read it");
        }
        let texts = host.latest("validate")["texts"].clone();
        assert_eq!(texts.as_array().map(Vec::len), Some(2), "{texts}");
        assert!(texts[0].as_str().unwrap().contains("stderr: new"), "{texts}");
        assert_eq!(texts[1], "overlay: laid over it\n");
    }
    assert_eq!(host.agent.config(), config("new"));
    assert_eq!(fs::read_to_string(host.agent.dir().join("changes")).unwrap(), "0\n");

    // What root owns alone is root's affair; a directory is enough to put something else in place.
    for (owned, user) in [("etc", NOBODY), ("etc/config.yaml", 0)] {
        host.owned_by(0);
        chown(host.agent.dir().join(owned), Some(user), Some(user)).unwrap();
        api.answer_config(config(owned));
        host.agent.run(["--check"]).says();
        let record = host.latest("validate");
        match user {
            0 => assert_eq!(
                (&record["rights"]["Uid"], &record["env"]["KM_API_KEY"]),
                (&json!("0 0 0 0"), &json!("test-key"))
            ),
            _ => assert_powerless(&record),
        }
    }
}

/// In the order of what the check meets: the program, what its user lacks, what the collector says.
#[test]
fn what_the_owner_may_not_do_is_not_judged() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let host = Host::new(&api, &bin::fake(), &config("old"));
    let collector = host.agent.dir().join("collector");
    let mode = |mode| fs::set_permissions(&collector, fs::Permissions::from_mode(mode)).unwrap();
    let not_judged = |command: Command, text: &str| {
        let output = bin::output(command);
        assert_eq!((output.code, output.stdout.as_str()), (Some(75), ""), "{output:?}");
        assert!(output.stderr.contains(text) && output.stderr.contains("user 65534"), "{output:?}");
        assert_eq!(host.agent.config(), config("old"));
        assert!(!host.agent.state_dir().join("rejected.json").exists(), "{output:?}");
    };

    api.answer_config(config("new"));
    mode(0o700);
    not_judged(host.agent.command(["--check"]), "let that user execute it");
    mode(0o755);
    for capability in ["setuid", "setgid", "kill"] {
        let command = host.agent.command(["--check"]);
        let mut without = Command::new("setpriv");
        without
            .arg(format!("--bounding-set=-{capability}"))
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        without.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        not_judged(without, "CAP_SETUID, CAP_SETGID and CAP_KILL");
    }
    api.answer_config(json!({"fake": {"validate": "denied"}}));
    not_judged(host.agent.command(["--check"]), "open /root/key: permission denied");

    // The negative controls: for root it is the config's fault, and so is anything else for nobody.
    host.owned_by(0);
    assert_eq!(host.agent.run(["--check"]).code, Some(65));
    host.owned_by(NOBODY);
    api.answer_config(bad_config());
    assert_eq!(host.agent.run(["--check"]).code, Some(65));
    assert_powerless(&host.latest("validate"));
}

/// By an access list for that user alone (linux/posix_acl_xattr.h: tag, permissions, id).
fn let_nobody_write(directory: &Path) -> bool {
    let entries =
        [(0x01u16, 7u16, u32::MAX), (0x02, 7, NOBODY), (0x04, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, !0)];
    let entry = |(tag, permissions, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let list: Vec<u8> = 2u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(entry)).collect();
    rustix::fs::setxattr(directory, "system.posix_acl_access", &list, XattrFlags::empty()).is_ok()
}

/// Nobody's rights are right for it.
#[test]
fn a_config_that_a_group_may_replace_is_not_judged_until_the_command_is_run() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let host = Host::new(&api, &bin::fake(), &config("old"));
    let (directory, file) = (host.agent.dir().join("etc"), host.agent.config_file());
    host.owned_by(0);
    for (what, path, group, mode) in [
        ("a group's directory", &directory, NOBODY, 0o770),
        ("everybody's directory", &directory, 0, 0o777),
        ("a group's file", &file, NOBODY, 0o660),
        ("a directory with an access list", &directory, 0, 0o750),
    ] {
        chown(path, Some(0), Some(group)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        if what.ends_with("list") && !needs::that(let_nobody_write(path), "access lists on this file system") {
            continue;
        }
        let runs = host.agent.records_of("validate").len();
        api.answer_config(config(what));
        let output = host.agent.run(["--check"]);
        assert_eq!((output.code, host.agent.records_of("validate").len()), (Some(75), runs), "{what}: {output:?}");
        let (before, command) = output.stderr.trim_end().rsplit_once("run: ").unwrap_or_else(|| panic!("{output:?}"));
        assert!(before.contains("no config is judged") && before.contains(&path.display().to_string()), "{output:?}");
        assert!(!host.agent.state_dir().join("rejected.json").exists(), "{what}");
        assert!(Command::new("sh").arg("-c").arg(command).status().unwrap().success());
        assert!(host.agent.run(["--check"]).says().starts_with("installed config"), "{what}");
        assert_eq!((host.agent.config(), &host.latest("validate")["rights"]["Uid"]), (config(what), &json!("0 0 0 0")));
        for (path, mode) in [(&directory, 0o755), (&file, 0o644)] {
            chown(path, Some(0), Some(0)).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Not whose the config was when the check began.
#[test]
fn the_owner_is_looked_at_when_the_collector_is_run() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let host = Host::new(&api, &bin::fake(), &config("old"));
    let (directory, file) = (host.agent.dir().join("etc"), host.agent.config_file());
    host.owned_by(0);
    // The one to be validated is the active one, too: before a restart that the API requests.
    for answer in [json!({"restart_required": true, "config": config("new")}), json!({"restart_required": true})] {
        chown(&file, Some(0), Some(0)).unwrap();
        api.answer(answer.clone());
        let _ = fs::remove_file(host.agent.state_dir().join("restart-requests.json"));
        let replaced = file.clone();
        api.before_answer(move || chown(&replaced, Some(NOBODY), Some(NOBODY)).unwrap());
        let runs = host.agent.records_of("validate").len();
        host.agent.run(["--check"]).says();
        assert_eq!(host.agent.records_of("validate").len(), runs + 1, "{answer}");
        assert_powerless(&host.latest("validate"));
    }

    // As the messages' commands leave it: the file's own owner.
    chown(&directory, Some(0), Some(NOBODY)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1770)).unwrap();
    api.answer_config(config("in a sticky directory"));
    assert!(host.agent.run(["--check"]).says().starts_with("installed config"));
    assert_powerless(&host.latest("validate"));
    // Removed, it could be put back at any moment.
    fs::remove_file(&file).unwrap();
    api.answer_config(config("where none is"));
    let runs = host.agent.records_of("validate").len();
    let output = host.agent.run(["--check"]);
    assert_eq!((output.code, host.agent.records_of("validate").len()), (Some(75), runs), "{output:?}");
    let command = output.stderr.trim_end().rsplit_once("run: ").unwrap_or_else(|| panic!("{output:?}")).1;
    assert!(Command::new("sh").arg("-c").arg(command).status().unwrap().success(), "{command}");
    // It has made an empty one, which is a change by hand.
    let output = host.agent.run(["--check"]);
    assert!(output.stdout.starts_with("installed config") && output.stderr.contains("changed by hand"), "{output:?}");
    assert_eq!(host.latest("validate")["rights"]["Uid"], "0 0 0 0");
}

#[test]
fn the_overlay_counts_as_the_config_does() {
    if !needs::root() {
        return;
    }
    const DAEMON: u32 = 1;
    let api = Api::plain();
    let overlays = TempDir::new();
    let overlay = overlays.path().join("overlay.yaml");
    fs::write(&overlay, "{}").unwrap();
    let builder = host(&api).collector_for_all(&bin::fake()).settings_apart();
    let builder = builder.setting("local-config", overlay.display().to_string()).setting("on-change", "true");
    let agent = builder.config(yaml(&config("old"))).build();
    let latest = || agent.records_of("validate").pop().unwrap();
    for (number, path) in [overlays.path(), &overlay].into_iter().enumerate() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        api.answer_config(config(&format!("overlay {number}")));
        assert!(agent.run(["--check"]).says().starts_with("installed config"));
        assert_powerless(&latest());
        chown(path, Some(0), Some(0)).unwrap();
    }
    // A config of one user and an overlay of another: either could read what is the other's.
    chown(&overlay, Some(NOBODY), Some(NOBODY)).unwrap();
    chown(agent.config_file(), Some(DAEMON), Some(DAEMON)).unwrap();
    api.answer_config(config("of two"));
    let runs = agent.records_of("validate").len();
    let output = agent.run(["--check"]);
    assert_eq!((output.code, agent.records_of("validate").len()), (Some(75), runs), "{output:?}");
    let command = output.stderr.trim_end().rsplit_once("run: ").unwrap_or_else(|| panic!("{output:?}")).1;
    assert!(command.starts_with("chown") && output.stderr.contains("user 65534"), "{output:?}");
    assert!(Command::new("sh").arg("-c").arg(command).status().unwrap().success());
    assert!(agent.run(["--check"]).says().starts_with("installed config"));
    assert_eq!(latest()["rights"]["Uid"], "1 1 1 1");
}

/// A config of root's does not make it root's.
#[test]
fn a_program_of_another_user_has_that_users_rights() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let host = Host::new(&api, &bin::fake(), &config("old"));
    host.owned_by(0);
    let program = host.agent.dir().join("collector");
    chown(&program, Some(NOBODY), Some(NOBODY)).unwrap();
    api.answer_config(config("new"));
    let output = host.agent.run(["--check"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    for role in ["version", "validate"] {
        assert_powerless(&host.latest(role));
    }
    assert!(output.stderr.contains("belongs to another user") && output.stderr.contains("65534"), "{output:?}");
}

/// It is killed, though it is another user's.
#[test]
fn what_hangs_as_the_owner_ends_in_time() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let host = Host::from(host(&api).setting("validate-timeout", "500ms"), &bin::fake(), &config("old"));
    api.answer_config(json!({"fake": {"validate": "hang"}}));
    host.agent.run(["--check"]).fails(75, "did not end within 500ms");
    let pid = host.latest("validate")["pid"].as_u64().unwrap();
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn a_real_collector_judges_as_the_owner() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let active = |exporter: &str| {
        json!({
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}},
            "exporters": {exporter: {}},
            "service": {"pipelines": {"logs": {"receivers": ["otlp"], "exporters": [exporter]}}},
        })
    };
    let host = Host::from(host(&api).setting("policy", "none"), &bin::collector(), &active("debug"));
    api.answer_config(active("debug/new"));
    assert!(host.agent.run(["--check"]).says().starts_with("installed config"));
    // It reads the overlay that its user may not read, and names it.
    fs::write(&host.overlay, "{broken").unwrap();
    api.answer_config(active("debug/other"));
    let output = host.agent.run(["--check"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(!output.stderr.contains("/proc/self/fd"), "{output:?}");
    // What only root may read.
    fs::write(&host.overlay, "{}").unwrap();
    let secret = host.agent.dir().join("secret");
    fs::write(&secret, "SECRET-of-root").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let mut reads = active("debug");
    reads["service"]["telemetry"]["logs"]["level"] = json!(format!("x${{file:{}}}", secret.display()));
    api.answer_config(reads);
    let output = host.agent.run(["--check"]);
    assert_eq!(output.code, Some(75), "{output:?}");
    assert!(!output.stderr.contains("SECRET-of-root"), "{output:?}");
    assert_eq!(host.agent.config(), active("debug/new"));
}
