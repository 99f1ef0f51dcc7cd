//! Into a DESTDIR, as any user: what is put where, what is kept, what is refused, and that it goes again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::stage::{self, OLDER, Stage, VERSION, assert_done, assert_fails};
use super::tree::{Tree, assert_same, assert_untouched, tree};
use crate::settings::rows;
use crate::support::bin;
use crate::support::source;
use crate::support::temp_dir::TempDir;

struct Dest {
    dir: TempDir,
}

impl Dest {
    fn new() -> Dest {
        Dest { dir: TempDir::new() }
    }

    /// With a blank, as a user may have it.
    fn path(&self) -> PathBuf {
        self.dir.join("dest dir")
    }

    fn join(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn tree(&self) -> Tree {
        tree(&self.path(), &[])
    }

    fn settings(&self) -> BTreeMap<String, serde_yaml::Value> {
        serde_yaml::from_str::<Option<_>>(&self.read("/etc/kmagent/agent.yaml")).unwrap().unwrap_or_default()
    }
}

#[test]
fn everything_is_put_in_its_place() {
    let (stage, dest) = (Stage::new(), Dest::new());
    let output = stage.install(&dest.path(), &[("KM_API_KEY", "sk_1")], &["--init", "systemd"]);
    assert_done(&output);
    let files: Vec<String> = dest
        .tree()
        .into_iter()
        .filter(|(_, entry)| entry.kind != 'd')
        .map(|(path, entry)| format!("{} {path}", entry.short()))
        .collect();
    let expected = "\
        f 644 /etc/kmagent.prefix\n\
        f 644 /etc/kmagent/.installed\n\
        f 640 /etc/kmagent/agent.yaml\n\
        f 640 /etc/kmagent/api-key\n\
        l 777 /etc/kmagent/config.yaml\n\
        f 755 /usr/local/bin/kmagent\n\
        f 755 /usr/local/lib/kmagent/install.sh\n\
        f 755 /usr/local/lib/kmagent/kmagent-collector\n\
        f 644 /usr/local/lib/kmagent/manifest\n\
        f 644 /usr/local/lib/systemd/system/kmagent-check.service\n\
        f 644 /usr/local/lib/systemd/system/kmagent-check.timer\n\
        f 644 /usr/local/lib/systemd/system/kmagent.service\n\
        f 644 /usr/local/share/bash-completion/completions/kmagent\n\
        f 644 /usr/local/share/doc/kmagent/CHANGELOG.md\n\
        f 644 /usr/local/share/doc/kmagent/LICENSE\n\
        f 644 /usr/local/share/doc/kmagent/README.md\n\
        f 644 /usr/local/share/doc/kmagent/services/cron/kmagent\n\
        f 755 /usr/local/share/doc/kmagent/services/openrc/kmagent\n\
        f 755 /usr/local/share/doc/kmagent/services/procd/kmagent\n\
        f 644 /usr/local/share/doc/kmagent/services/systemd/kmagent-check.service\n\
        f 644 /usr/local/share/doc/kmagent/services/systemd/kmagent-check.timer\n\
        f 644 /usr/local/share/doc/kmagent/services/systemd/kmagent.service\n\
        f 755 /usr/local/share/doc/kmagent/services/sysv/kmagent\n\
        f 644 /usr/local/share/fish/vendor_completions.d/kmagent.fish\n\
        MAN\
        f 644 /usr/local/share/zsh/site-functions/_kmagent\n\
        f 600 /var/lib/kmagent/config.yaml";
    let man: String = manual_pages().iter().map(|page| format!("f 644 /usr/local/share/man/{page}\n")).collect();
    assert_eq!(files.join("\n"), expected.replace("MAN", &man));
    assert_eq!(dest.read("/etc/kmagent/api-key"), "sk_1\n");
    assert_eq!(dest.read("/etc/kmagent/agent.yaml"), source::read("dist/agent.yaml"));
    let link = fs::read_link(dest.join("/etc/kmagent/config.yaml")).unwrap();
    assert_eq!(link, Path::new("/var/lib/kmagent/config.yaml"), "where the agent may replace it");
    assert_eq!(dest.read("/var/lib/kmagent/config.yaml"), source::read("dist/config.yaml"));
    let settings = fs::metadata(dest.join("/etc/kmagent")).unwrap();
    assert_eq!(settings.mode() & 0o7777, 0o750);
    let state = fs::metadata(dest.join("/var/lib/kmagent")).unwrap();
    assert!(state.is_dir() && state.mode() & 0o7777 == 0o700);
    for step in ["verifying", "installing kmagent", "writing /etc/kmagent/api-key", "new files", "remaining steps"] {
        assert!(output.stdout.contains(step), "{output:#?}");
    }
    assert!(!output.stdout.contains("no service was installed"), "{output:#?}");
    let output = stage.install(Dest::new().path().as_path(), &[], &[]);
    assert!(output.stdout.contains("no service was installed: choose a service manager with --init"), "{output:#?}");
}

/// Section and name of each, in the order of a tree.
fn manual_pages() -> Vec<String> {
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man")).unwrap();
    let pages = pages.map(|page| page.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> = pages.map(|name| format!("man{}/{name}", name.rsplit('.').next().unwrap())).collect();
    pages.sort();
    pages
}

#[test]
fn a_second_time_touches_nothing() {
    let (stage, dest) = (Stage::new(), Dest::new());
    assert_done(&stage.install(&dest.path(), &[("KM_LOG_LEVEL", "warn")], &["--init", "openrc"]));
    let before = dest.tree();
    let output = stage.install(&dest.path(), &[("KM_LOG_LEVEL", "error"), ("KM_API_KEY", "")], &[]);
    assert_done(&output);
    assert!(output.stdout.contains("all files are up to date"), "{output:#?}");
    assert_untouched(&before, &dest.tree(), "a second installation");
}

/// Texts that come back as they were given: quotes of every kind, what YAML would take for something else, all of
/// Unicode.
#[test]
fn settings_come_back_exactly() {
    let stage = Stage::light();
    for text in [
        "plain",
        "it's \"quoted\"",
        r"back\slash \n \u0041 \\",
        "a # no comment",
        "a: b",
        " blanks at both ends  ",
        "héllo wörld ☃ 🦀",
        "null",
        "1e3",
        "- item",
        "{a: b}",
        "%TAG !",
        "$HOME `id` $(id) *",
        "--help",
        "~",
        "'",
        "\"",
        r"\",
        "EOF",
        "&amp; s/a/b/ \\1 &",
        // A paragraph separator, a byte order mark, and a character that is none.
        "a\u{2028}b\u{2029}c\u{feff}d",
        "\u{feff}a",
    ] {
        let dest = Dest::new();
        let env = [("KM_HOST_NAME", text), ("KM_COLLECTOR_ENDPOINT", text), ("KM_DOCKER_MODE", "yes")];
        assert_done(&stage.install(&dest.path(), &env, &[]));
        let settings = dest.settings();
        assert_eq!(settings["host-name"].as_str(), Some(text));
        assert_eq!(settings["collector-endpoint"].as_str(), Some(text.trim_matches(' ')), "{text:?}");
        let mut print = Command::new(bin::kmagent());
        print.env_clear().arg("--agent-config").arg(dest.join("/etc/kmagent/agent.yaml")).arg("--print-settings");
        let shown = rows(&bin::output(print));
        // Nothing invisible is shown as it is.
        let escaped =
            |c: char| if "\u{2028}\u{2029}\u{feff}".contains(c) { c.escape_unicode().to_string() } else { c.into() };
        assert_eq!(shown["host-name"].0, text.trim().chars().map(escaped).collect::<String>(), "{text:?}");
        assert_eq!(shown["docker-mode"].0, "yes");
    }
}

#[test]
fn a_key_comes_back_exactly_whichever_way_it_is_given() {
    let (stage, dir) = (Stage::light(), TempDir::new());
    let file = dir.join("key file");
    for key in ["sk_1", "it's \"q\" \\ # : $x `y` %s *", "-n", "EOF", "\\c"] {
        fs::write(&file, format!("{key}\n")).unwrap();
        let name = file.to_str().unwrap();
        for (env, args) in [
            (vec![("KM_API_KEY", key)], vec![]),
            (vec![], vec!["--api-key-file", name]),
            (vec![("KM_API_KEY_FILE", name)], vec![]),
            (vec![("KM_API_KEY", "another")], vec!["--api-key-file", name]),
        ] {
            let dest = Dest::new();
            assert_done(&stage.install(&dest.path(), &env, &args));
            assert_eq!(dest.read("/etc/kmagent/api-key"), format!("{key}\n"), "{env:?} {args:?}");
            assert_eq!(fs::metadata(dest.join("/etc/kmagent/api-key")).unwrap().mode() & 0o7777, 0o640);
        }
    }
    let dest = Dest::new();
    let mut command = stage.command(&dest.path(), &[], &["--api-key-file=-"]);
    fs::write(&file, "from-stdin\n").unwrap();
    command.stdin(fs::File::open(&file).unwrap());
    assert_done(&bin::output(command));
    assert_eq!(dest.read("/etc/kmagent/api-key"), "from-stdin\n");
    let dest = Dest::new();
    assert_done(&stage.install(&dest.path(), &[], &[]));
    assert_eq!(dest.read("/etc/kmagent/api-key"), "", "a file without a key, for systemd to find");
    // sudo writes its command line to the journal, variables included.
    let output = stage.install(&Dest::new().path(), &[("KM_API_KEY", "k"), ("SUDO_COMMAND", "./install.sh")], &[]);
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.starts_with("install.sh: a variable on sudo's command line is logged"), "{output:#?}");
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_written() {
    let stage = Stage::light();
    for (env, args, code, text) in [
        (("KM_API_KEY", "two\nlines"), vec![], 64, "KM_API_KEY must be a single line"),
        (("KM_HOST_NAME", "two\nlines"), vec![], 64, "KM_HOST_NAME must be a single line"),
        (("KM_HOST_NAME", "bell\u{7}"), vec![], 78, "agent.yaml:"),
        (("KM_HOST_NAME", "a\rb"), vec![], 78, "control character"),
        (("KM_HOST_NAME", "a\u{85}b"), vec![], 78, "control character"),
        (("KM_API_KEY", " blanks "), vec![], 78, "KM_API_KEY: its content begins or ends with a blank"),
        (
            ("KM_COLLECTOR_ENDPOINT", "htp://otel:4318"),
            vec![],
            64,
            "KM_COLLECTOR_ENDPOINT: it has to begin with http://",
        ),
        (("KM_API_KEY", "schl\u{fc}ssel"), vec![], 78, "outside ASCII"),
        (("KM_MIN_UPTIME", "soon"), vec![], 78, "/etc/kmagent/agent.yaml:"),
        (("KM_STATE_DIR", "/srv"), vec![], 64, "KM_STATE_DIR cannot be set here"),
        (("KM_COLLECTOR_CONFIG", "/srv"), vec![], 64, "KM_COLLECTOR_CONFIG cannot be set here"),
        (("PREFIX", "relative"), vec![], 64, "PREFIX"),
        (("PREFIX", "/with blank"), vec![], 64, "PREFIX"),
        (("DESTDIR", "/it's"), vec![], 64, "DESTDIR"),
        (("A", "b"), vec!["--api-key-file", "/nonexistent"], 64, "cannot read the API key from /nonexistent"),
        (("A", "b"), vec!["--api-key-file"], 64, "needs a value"),
        (("A", "b"), vec!["--init", "upstart"], 64, "no such service manager: upstart"),
        (("A", "b"), vec!["--force"], 64, "unknown argument --force"),
    ] {
        let dest = Dest::new();
        let output = stage.install(&dest.path(), &[env], &args);
        assert_fails(&output, code, text);
        assert!(!output.stderr.contains("kmagent-install"), "the copy's name is of no use: {output:#?}");
        assert!(dest.tree().is_empty(), "{env:?} {args:?}: {:?}", dest.tree().keys());
    }
}

#[test]
fn a_variable_that_is_nearly_a_settings_is_pointed_out() {
    let (stage, dest) = (Stage::light(), Dest::new());
    let env = [("KM_API_KY", "sk_secret"), ("KM_NODE_NAME", "n"), ("KM_HOST_NAME", "web-1"), ("KM_LOG_LEVL", "x y\nz")];
    let output = stage.install(&dest.path(), &env, &["--init", "none"]);
    let mut warned: Vec<&str> = output.stderr.lines().collect();
    warned.sort_unstable();
    let text = |name: &str, meant: &str| {
        format!("install.sh: {name} is no setting and the config does not refer to it: did you mean {meant}?")
    };
    assert_eq!((output.code, warned.len()), (Some(0), 2), "{output:#?}");
    assert_eq!(warned, [text("KM_API_KY", "KM_API_KEY"), text("KM_LOG_LEVL", "KM_LOG_LEVEL")]);
}

#[test]
fn a_damaged_tarball_is_refused() {
    let spoil = |name: &str, spoil: &dyn Fn(&Path)| {
        let (stage, dest) = (Stage::new(), Dest::new());
        spoil(&stage.path().join(name));
        let output = stage.install(&dest.path(), &[], &[]);
        assert_fails(&output, 65, "unpack");
        assert!(dest.tree().is_empty(), "{name}: {output:#?}");
    };
    let append = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes.push(b'\n');
        stage::write(path, &bytes, 0o755);
    };
    for name in ["bin/kmagent", "lib/kmagent/kmagent-collector", "etc/kmagent/config.yaml", "services/sysv/kmagent"] {
        spoil(name, &append);
        spoil(name, &|path| fs::remove_file(path).unwrap());
    }
    spoil("SHA256SUMS", &|path| fs::remove_file(path).unwrap());
    spoil("SHA256SUMS", &|path| fs::write(path, "").unwrap());
}

#[test]
fn a_program_for_another_machine_is_refused() {
    let (stage, dest) = (Stage::new(), Dest::new());
    let mut agent = fs::read(stage.path().join("bin/kmagent")).unwrap();
    // e_machine: none that runs here.
    agent[18..20].copy_from_slice(&[0x34, 0x12]);
    let stage = stage.write("bin/kmagent", &agent, 0o755);
    assert_fails(&stage.install(&dest.path(), &[], &[]), 69, "is not built for this machine");
    let stage = stage.write("bin/kmagent", b"#!/nonexistent/sh\n", 0o755);
    assert_fails(&stage.install(&dest.path(), &[], &[]), 69, "does not run on this machine");
    assert!(dest.tree().is_empty(), "{:?}", dest.tree().keys());
}

#[test]
fn an_upgrade_replaces_the_programs_and_keeps_what_is_the_host_s() {
    let (old, new, dest) = (Stage::new().older(), Stage::new(), Dest::new());
    assert_done(&old.install(&dest.path(), &[("KM_API_KEY", "k")], &["--init", "sysv"]));
    assert!(dest.read("/usr/local/lib/kmagent/manifest").contains(&format!("version {OLDER}\n")));
    assert!(dest.join("/usr/local/share/doc/kmagent/GONE").exists());
    for (path, text) in [
        ("/etc/kmagent/agent.yaml", "host-name: mine\n"),
        ("/var/lib/kmagent/config.yaml", "receivers: {}\n"),
        ("/etc/kmagent/local.yaml", "extensions: {}\n"),
        ("/var/lib/kmagent/last-known-good.yaml", "receivers: {}\n"),
    ] {
        fs::write(dest.join(path), text).unwrap();
    }
    let mine = [tree(&dest.join("/etc/kmagent"), &[]), tree(&dest.join("/var/lib"), &[])];
    let output = new.install(&dest.path(), &[("KM_API_KEY", "other"), ("KM_LOG_LEVEL", "debug")], &[]);
    assert_done(&output);
    assert!(output.stdout.contains(&format!("upgrading kmagent {OLDER} to {VERSION}")), "{output:#?}");
    assert!(output.stdout.contains("keeping the key in /etc/kmagent/api-key; the given one is ignored"));
    assert!(output.stdout.contains("keeping /etc/kmagent/agent.yaml"));
    let still = [tree(&dest.join("/etc/kmagent"), &[]), tree(&dest.join("/var/lib"), &[])];
    for (mine, still) in mine.iter().zip(&still) {
        assert_untouched(mine, still, "what is the host's");
    }
    let fresh = Dest::new();
    assert_done(&new.install(&fresh.path(), &[], &["--init", "sysv"]));
    assert_same(&tree(&fresh.join("/usr"), &[]), &tree(&dest.join("/usr"), &[]), "a new installation, and an upgrade");

    // What was removed by hand, since the API will send one, does not come again.
    fs::remove_file(dest.join("/var/lib/kmagent/config.yaml")).unwrap();
    fs::remove_file(dest.join("/etc/kmagent/config.yaml")).unwrap();
    assert_done(&old.install(&dest.path(), &[], &[]));
    assert!(!dest.join("/var/lib/kmagent/config.yaml").exists());
    assert!(dest.join("/etc/kmagent/config.yaml").is_symlink(), "the agent could not make one in there");
}

/// A file, as an earlier release left it or configuration management puts it there.
#[test]
fn a_config_that_is_a_file_is_moved_to_where_the_agent_may_replace_it() {
    let (stage, dest) = (Stage::light(), Dest::new());
    assert_done(&stage.install(&dest.path(), &[], &["--init", "procd"]));
    let link = fs::read_link(dest.join("/etc/kmagent/config.yaml")).unwrap();
    assert_eq!(link, Path::new("/etc/kmagent/state/config.yaml"), "OpenWrt has /var in memory");
    fs::remove_file(dest.join("/etc/kmagent/config.yaml")).unwrap();
    stage::write(&dest.join("/etc/kmagent/config.yaml"), b"name: mine\n", 0o640);
    let output = stage.install(&dest.path(), &[], &[]);
    assert_done(&output);
    assert!(output.stdout.contains("moving /etc/kmagent/config.yaml to /etc/kmagent/state/config.yaml"), "{output:#?}");
    assert!(dest.join("/etc/kmagent/config.yaml").is_symlink());
    assert_eq!(dest.read("/etc/kmagent/state/config.yaml"), "name: mine\n");
    assert_eq!(fs::metadata(dest.join("/etc/kmagent/state/config.yaml")).unwrap().mode() & 0o7777, 0o640);
}

/// A prefix where the units let nothing be executed: they need leave for it.
#[test]
fn programs_where_the_agent_s_user_can_write_get_leave_to_be_executed() {
    let (stage, dest) = (Stage::light(), Dest::new());
    let env = [("PREFIX", "/home/km"), ("KM_COLLECTOR", "/home/a b/50%/otelcol")];
    assert_done(&stage.install(&dest.path(), &env, &["--init", "systemd"]));
    let drop_ins =
        ["kmagent", "kmagent-check"].map(|unit| format!("/etc/systemd/system/{unit}.service.d/exec-paths.conf"));
    let expected = [
        "[Service]",
        r#"ExecPaths="-/home/a b/50%%""#,
        r#"ExecPaths="-/home/km/bin""#,
        r#"ExecPaths="-/home/km/lib/kmagent""#,
        r#"ReadOnlyPaths="-/home/a b/50%%""#,
        r#"ReadOnlyPaths="-/home/km/bin""#,
        r#"ReadOnlyPaths="-/home/km/lib/kmagent""#,
    ];
    for drop_in in &drop_ins {
        assert_eq!(dest.read(drop_in).lines().skip(1).collect::<Vec<_>>(), expected);
    }
    assert_done(&stage.install(&dest.path(), &[], &["--purge"]));
    let dest = Dest::new();
    fs::create_dir_all(dest.join("/etc/default")).unwrap();
    fs::write(dest.join("/etc/default/kmagent"), "A=b\nKM_COLLECTOR='/var/lib/kmagent/bin/otelcol'\n").unwrap();
    assert_done(&stage.install(&dest.path(), &[], &["--init", "systemd"]));
    assert!(dest.read(&drop_ins[0]).ends_with("ExecPaths=\"-/var/lib/kmagent/bin\"\n"));
    // It goes with its reason, and there is none elsewhere.
    fs::remove_file(dest.join("/etc/default/kmagent")).unwrap();
    assert_done(&stage.install(&dest.path(), &[], &[]));
    assert!(!drop_ins.iter().any(|drop_in| dest.join(drop_in).exists()));
}

#[test]
fn a_tarball_without_a_collector_takes_none_away() {
    let (with, without, dest) = (Stage::new(), Stage::without_collector().older(), Dest::new());
    assert_done(&with.install(&dest.path(), &[], &[]));
    assert_done(&without.install(&dest.path(), &[], &[]));
    assert_eq!(dest.read("/usr/local/lib/kmagent/kmagent-collector"), stage::COLLECTOR);
    assert_done(&without.install(&dest.path(), &[], &["--uninstall"]));
    assert!(!dest.join("/usr").exists(), "it is removed with the rest");
}

#[test]
fn what_an_operator_has_added_is_named_when_its_program_goes() {
    let (stage, dest) = (Stage::light(), Dest::new());
    assert_done(&stage.install(&dest.path(), &[], &["--init", "systemd"]));
    let mine = ["/etc/cron.d/kmagent", "/etc/systemd/system/kmagent.service.d/mine.conf"];
    for path in mine {
        fs::create_dir_all(dest.join(path).parent().unwrap()).unwrap();
        fs::write(dest.join(path), "").unwrap();
    }
    let output = stage.install(&dest.path(), &[], &["--uninstall"]);
    assert_done(&output);
    for place in ["/etc/cron.d/kmagent", "/etc/systemd/system/kmagent.service.d"] {
        let line = format!("keeping {place}, which install.sh did not create: remove it yourself\n");
        assert!(output.stdout.contains(&line), "{output:#?}");
    }
    assert!(mine.iter().all(|path| dest.join(path).exists()));
}

#[test]
fn a_service_script_that_was_changed_stays() {
    let (old, dest) = (Stage::new().older(), Dest::new());
    let script = "/etc/init.d/kmagent";
    assert_done(&old.install(&dest.path(), &[], &["--init", "sysv"]));
    let text = dest.read(script).replace("OWNER=kmagent", "OWNER=telemetry");
    fs::write(dest.join(script), &text).unwrap();
    let new = Stage::new().write("services/sysv/kmagent", b"#!/bin/sh\n# new\n", 0o755);
    for _ in 0..2 {
        let output = new.install(&dest.path(), &[], &[]);
        assert!(output.stdout.contains("keeping /etc/init.d/kmagent, since it was changed"), "{output:#?}");
        assert_eq!(dest.read(script), text);
    }
    assert_done(&new.install(&dest.path(), &[], &["--uninstall"]));
    assert!(!dest.join(script).exists());

    // One that nobody changed is replaced.
    assert_done(&old.install(&dest.path(), &[], &["--init", "sysv"]));
    assert_done(&new.install(&dest.path(), &[], &[]));
    assert_eq!(dest.read(script), "#!/bin/sh\n# new\n");
}

#[test]
fn uninstalling_leaves_what_is_the_host_s_and_purging_nothing() {
    let (stage, dest) = (Stage::new(), Dest::new());
    fs::create_dir_all(dest.join("/usr/local/share/man/man8")).unwrap();
    fs::write(dest.join("/usr/local/share/man/man8/other.8"), "").unwrap();
    let before = dest.tree();
    assert_done(&stage.install(&dest.path(), &[("KM_API_KEY", "k")], &["--init", "openrc"]));
    let installed = [tree(&dest.join("/etc/kmagent"), &[]), tree(&dest.join("/var"), &[])];
    assert_done(&stage.install(&dest.path(), &[], &["--uninstall"]));
    assert_same(&installed[0], &tree(&dest.join("/etc/kmagent"), &[]), "settings, config and key");
    assert_same(&installed[1], &tree(&dest.join("/var"), &[]), "state");
    assert_same(&tree(&dest.join("/usr"), &[]), &tree(&dest.join("/usr"), &[]), "");
    assert_eq!(tree(&dest.join("/usr"), &[]).len() + 1, before.len(), "programs");
    let output = stage.install(&dest.path(), &[], &["--uninstall"]);
    assert!(output.code == Some(0) && output.stdout.contains("is not installed"), "{output:#?}");
    assert_done(&stage.install(&dest.path(), &[], &["--purge"]));
    assert_same(&before, &dest.tree(), "before the installation, and after it was purged");

    // In one go, with the copy that was installed, and with a file that is not ours.
    assert_done(&stage.install(&dest.path(), &[("PREFIX", "/opt/km")], &["--init", "systemd"]));
    fs::write(dest.join("/etc/kmagent/local.yaml"), "").unwrap();
    let mut command = Command::new(dest.join("/opt/km/lib/kmagent/install.sh"));
    command.env("DESTDIR", dest.path()).args(["--uninstall", "--purge"]).stdin(Stdio::null());
    let output = bin::output(command);
    assert!(output.stdout.contains("keeping /etc/kmagent: it contains files"), "{output:#?}");
    fs::remove_dir_all(dest.join("/etc")).unwrap();
    assert_same(&before, &dest.tree(), "before the installation, and after it was purged");
}

#[test]
fn another_service_manager_takes_a_removal_first() {
    let (stage, dest) = (Stage::light(), Dest::new());
    assert_done(&stage.install(&dest.path(), &[], &["--init", "sysv"]));
    let before = dest.tree();
    let output = stage.install(&dest.path(), &[], &["--init", "openrc"]);
    assert_fails(&output, 64, "kmagent is installed for sysv: run this with --uninstall first");
    assert_untouched(&before, &dest.tree(), "refused");
    assert_done(&stage.install(&dest.path(), &[], &["--uninstall"]));
    assert_done(&stage.install(&dest.path(), &[], &["--init", "openrc"]));
}

#[test]
fn a_prefix_stands_in_the_service_files() {
    for (prefix, init, file) in [
        ("/opt/km", "systemd", "/etc/systemd/system/kmagent.service"),
        ("/usr/", "systemd", "/usr/lib/systemd/system/kmagent-check.service"),
        ("/opt/km", "openrc", "/etc/init.d/kmagent"),
        ("/opt/km", "procd", "/etc/init.d/kmagent"),
        ("/opt/km", "sysv", "/etc/init.d/kmagent"),
    ] {
        let (stage, dest) = (Stage::new(), Dest::new());
        assert_done(&stage.install(&dest.path(), &[("PREFIX", prefix)], &["--init", init]));
        let prefix = prefix.trim_end_matches('/');
        let text = dest.read(file);
        assert!(text.contains(&format!("{prefix}/bin/kmagent")), "{text}");
        assert!(!text.contains("/usr/local/bin/kmagent"), "{text}");
        assert!(dest.join(&format!("{prefix}/bin/kmagent")).exists());
        assert!(dest.join(&format!("{prefix}/share/doc/kmagent/services/cron/kmagent")).exists());
        // The search path of a script is not about us.
        assert_eq!(text.contains("PATH=/usr/local/sbin"), init == "sysv");
    }
}

#[test]
fn another_one_that_runs_is_waited_for_by_failing() {
    let (stage, dest) = (Stage::new(), Dest::new());
    let lock = dest.join("/etc/.kmagent-install");
    fs::create_dir_all(&lock).unwrap();
    let mut other =
        Command::new("sh").args(["-c", "read line", "/tmp/install.sh"]).stdin(Stdio::piped()).spawn().unwrap();
    fs::write(lock.join("journal"), format!("process {}\n", other.id())).unwrap();
    assert_fails(&stage.install(&dest.path(), &[], &[]), 75, "another install.sh is running");
    assert!(lock.exists());
    drop(other.stdin.take());
    other.wait().unwrap();
    // Its process is gone; or, after a boot, its number is another program's.
    for pid in [other.id(), std::process::id()] {
        fs::create_dir_all(&lock).unwrap();
        fs::write(lock.join("journal"), format!("process {pid}\n")).unwrap();
        let output = stage.install(&dest.path(), &[], &[]);
        assert!(output.stdout.contains("continuing an interrupted install.sh"), "{output:#?}");
        assert_done(&output);
        assert!(!lock.exists());
    }
}

#[test]
fn a_prefix_is_remembered() {
    let (old, new) = (Stage::light().older(), Stage::light());
    for (prefix, init) in [("/opt/km", "systemd"), ("/opt/km", "sysv"), ("/usr/local", "openrc"), ("/", "procd")] {
        let dest = Dest::new();
        let other = [("PREFIX", if prefix == "/usr/local" { "/usr" } else { "/usr/local" })];
        assert_done(&old.install(&dest.path(), &[("PREFIX", prefix)], &["--init", init]));
        let before = dest.tree();
        for args in [&[][..], &["--uninstall"], &["--purge"]] {
            assert_fails(
                &new.install(&dest.path(), &other, args),
                64,
                &format!("kmagent is installed in {prefix}: unset PREFIX"),
            );
            assert_untouched(&before, &dest.tree(), "refused");
        }
        let output = new.install(&dest.path(), &[], &[]);
        assert_done(&output);
        assert!(output.stdout.contains(&format!("upgrading kmagent {OLDER} to {VERSION}")), "{output:#?}");
        let agents: Vec<String> = dest.tree().into_keys().filter(|path| path.ends_with("/bin/kmagent")).collect();
        assert_eq!(agents, [format!("{}/bin/kmagent", prefix.trim_end_matches('/'))]);
        assert_done(&new.install(&dest.path(), &[("PREFIX", prefix)], &[]));

        // The programs were removed by hand: they come again, or others take their place.
        fs::remove_dir_all(dest.join(prefix).join("lib/kmagent")).unwrap();
        assert_done(&new.install(&dest.path(), &[], &["--init", init]));
        assert!(dest.join(prefix).join("lib/kmagent/manifest").exists());
        assert_done(&new.install(&dest.path(), &[], &["--uninstall"]));
        // That is done with.
        assert_done(&new.install(&dest.path(), &other, &["--init", init]));
        assert_done(&new.install(&dest.path(), &[], &["--purge"]));
        // Whose directories were made is in no manifest any more.
        let files: Vec<_> = dest.tree().into_iter().filter(|(_, entry)| entry.kind != 'd').collect();
        assert!(files.is_empty(), "{files:?}");
    }
}

/// An administrator's own unit outranks what comes with a program, so the agent that runs could be another one.
#[test]
fn a_unit_that_outranks_ours_is_pointed_out() {
    let (stage, dest) = (Stage::light(), Dest::new());
    fs::create_dir_all(dest.join("/etc/systemd/system")).unwrap();
    fs::write(dest.join("/etc/systemd/system/kmagent.service"), "[Service]\n").unwrap();
    let output = stage.install(&dest.path(), &[], &["--init", "systemd"]);
    assert!(output.code == Some(0) && output.stderr.contains("overrides the unit of this release"), "{output:#?}");
}

#[test]
fn the_help_names_what_there_is() {
    let stage = Stage::new();
    let output = stage.install(Path::new("/nonexistent"), &[], &["--help"]);
    assert_done(&output);
    assert!(output.stdout.lines().all(|line| line.len() <= 80), "{}", output.stdout);
    let script = source::read("dist/install.sh");
    let dies = script.split("die ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    for code in dies {
        let listed = output.stdout.lines().any(|line| line.split_whitespace().any(|word| word == code.to_string()));
        assert!(listed, "--help does not tell of exit status {code}");
    }
    for option in script.lines().filter_map(|line| line.trim().strip_prefix("--")?.split_once(')')) {
        for name in option.0.split(" | ").filter(|name| !name.contains('=') && name.len() > 2) {
            assert!(output.stdout.contains(&format!("--{}", name.trim_start_matches("--"))), "--help lacks --{name}");
        }
    }
}

/// Every user sees the arguments of every process (ps(1)).
#[test]
fn no_secret_is_on_a_command_line() {
    let (stage, dest) = (Stage::new(), Dest::new());
    let log = dest.dir.join("strace");
    let inner =
        stage.command(&dest.path(), &[("KM_API_KEY", "SECRET"), ("KM_DOCKER_ENDPOINT", "tcp://u:SECRET@h")], &[]);
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=execve", "-s", "65536", "-v", "-e", "abbrev=none", "-o"]).arg(&log);
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = bin::output_within(std::time::Duration::from_secs(120), command);
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert!(!output.stdout.contains("SECRET") && !output.stderr.contains("SECRET"), "{output:#?}");
    let log = fs::read_to_string(log).unwrap();
    // execve("path", ["argument", …], ["VARIABLE=value", …])
    let arguments: Vec<_> = log.lines().filter_map(|line| line.split_once("], [").map(|(line, _)| line)).collect();
    assert!(arguments.len() > 50, "{log}");
    assert!(log.contains("SECRET"), "it is in the environment of the installer itself");
    assert!(arguments.iter().all(|line| !line.contains("SECRET")), "{arguments:#?}");
}
