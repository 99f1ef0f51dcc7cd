//! Hosts of an earlier release, where the settings, the key and their directory belong to the agent's user: they are
//! moved over, and what that user has planted leads root nowhere.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::debian::{assert_layout, install_with};
use super::root::{Root, available};
use super::stage::{OLDER, VERSION, assert_done, assert_fails, release};
use super::tree::assert_same;

const SYSV: [&str; 2] = ["--init", "sysv"];
const ENV: [(&str, &str); 2] = [("KM_MIN_UPTIME", "300ms"), ("KM_API_KEY", "sk_1")];

/// What an earlier release left, with its agent running.
const EARLIER: &str = "
    if [ -h /etc/kmagent/config.yaml ]; then mv -f /var/lib/kmagent/config.yaml /etc/kmagent/config.yaml; fi
    chown -R kmagent:kmagent /etc/kmagent
    chmod 755 /etc/kmagent
    chmod 600 /etc/kmagent/agent.yaml /etc/kmagent/api-key
    sed -i 's;:/nonexistent:;:/var/lib/kmagent:;' /etc/passwd
    echo root-only >/etc/secret
    chmod 600 /etc/secret
    mkdir /etc/root-only
";

/// A host like that.
fn host() -> Root {
    let root = Root::debian();
    assert_done(&root.install(&release().older(), &ENV, &SYSV));
    root.wait_status("it runs", |status| status["collector"]["state"] == "running");
    shell(&root, EARLIER);
    // Its probation is written down once the poller no longer waits for a name server, and it is read anew.
    root.wait_status("the config that was moved", |status| {
        status["config"]["revision"].is_string() && status["config"]["standing"] == "unconfirmed"
    });
    root
}

#[track_caller]
fn shell(root: &Root, lines: &str) -> String {
    let output = root.run(&["sh", "-euc", lines]);
    assert_eq!(output.code, Some(0), "{lines}: {output:#?}");
    output.stdout
}

/// The same as the agent's user.
fn as_the_user(root: &Root, lines: &str) -> Option<i32> {
    root.run(&["setpriv", "--reuid=kmagent", "--regid=kmagent", "--init-groups", "sh", "-euc", lines]).code
}

fn pid(root: &Root) -> u64 {
    root.status().expect("an agent that answers")["pid"].as_u64().unwrap()
}

fn agent_of(root: &Root) -> u32 {
    fs::metadata(root.join(&format!("/proc/{}", pid(root)))).unwrap().uid()
}

/// Root's own files are what they were.
#[track_caller]
fn assert_unharmed(root: &Root) {
    assert_eq!(
        shell(root, "cat /etc/secret; stat -c '%U %a %h' /etc/secret; ls -A /etc/root-only"),
        "root-only\nroot 600 1\n"
    );
}

#[test]
fn it_is_moved_over_while_the_agent_runs() {
    if !available() {
        return;
    }
    let root = host();
    // It is read again, since it has been moved, once the poller no longer waits for a name server.
    let before = root.wait_status("its revision", |status| status["config"]["revision"].is_string());
    let first = pid(&root);
    shell(&root, "echo 'on-change: systemctl restart x' >>/etc/kmagent/agent.yaml; echo sk_2 >/etc/kmagent/api-key");
    // With the old agent still there, which needs nothing but what it can read.
    let output = root.install(&release(), &[], &["--no-start"]);
    assert_done(&output);
    assert!(output.stdout.contains("sets on-change, which root runs: check that it is yours: systemctl restart x"));
    assert_layout(&root, agent_of(&root));
    let status = root.wait_status("its revision", |status| status["config"]["revision"].is_string());
    assert_eq!(
        (pid(&root), &status["config"]["revision"], &status["collector"]["pid"]),
        (first, &before["config"]["revision"], &before["collector"]["pid"])
    );
    assert_eq!(root.read("/etc/kmagent/api-key"), "sk_2\n");
    // What --purge believes.
    assert_eq!(shell(&root, "stat -c '%U %a' /etc/kmagent/.installed"), "root 644\n");
    // It still replaces its config, where the link leads.
    let written = "cat /etc/kmagent/config.yaml >/dev/null; umask 077; echo 'name: second' >/var/lib/kmagent/new; \
                   mv /var/lib/kmagent/new /var/lib/kmagent/config.yaml; echo x >/var/lib/kmagent/state";
    assert_eq!(as_the_user(&root, written), Some(0));
    // The rest is not its own any more.
    for change in [
        "mv /etc/kmagent/agent.yaml /etc/kmagent/x",
        "rm -f /etc/kmagent/config.yaml",
        "echo on-change: id >>/etc/kmagent/agent.yaml",
        "ln -s /etc/secret /etc/kmagent/local.yaml",
    ] {
        assert_ne!(as_the_user(&root, change), Some(0), "{change}");
    }
    let output = root.install(&release(), &[], &[]);
    assert_done(&output);
    let status = root.wait_status("the new one runs", |status| status["collector"]["state"] == "running");
    assert_eq!(status["agent_version"], VERSION);
    assert_layout(&root, agent_of(&root));
    let again = root.install(&release(), &[], &[]);
    assert!(!again.stdout.contains("changing") && !again.stdout.contains("moving"), "{again:#?}");
}

/// What the user holds open of the old file is not what root reads.
#[test]
fn the_settings_are_another_file_afterwards() {
    if !available() {
        return;
    }
    let root = host();
    let old = fs::metadata(root.join("/etc/kmagent/agent.yaml")).unwrap().ino();
    assert_eq!(as_the_user(&root, "ln /etc/kmagent/agent.yaml /var/lib/kmagent/second"), Some(0));
    assert_fails(&root.install(&release(), &[], &[]), 78, "/etc/kmagent/agent.yaml is a link, has a second name");
    shell(&root, "rm /var/lib/kmagent/second");
    assert_done(&root.install(&release(), &[], &[]));
    assert_ne!(fs::metadata(root.join("/etc/kmagent/agent.yaml")).unwrap().ino(), old);
}

/// A link to what only root reads, a second name of it, a FIFO that root would wait for, a directory to move things
/// into.
#[test]
fn what_is_planted_is_refused_and_everything_stays() {
    if !available() {
        return;
    }
    let root = host();
    let first = pid(&root);
    // As on a host without fs.protected_hardlinks, where the user itself could make that name.
    for file in ["agent.yaml", "api-key", "policy.yaml", ".installed"] {
        for (plant, what) in [
            (format!("ln -s /etc/secret {file}"), "a link"),
            (format!("ln -s /etc/root-only {file}"), "a link to a directory"),
            (format!("mkfifo {file}"), "a FIFO"),
            (format!("mkdir {file}"), "a directory"),
            (format!("ln /etc/secret {file}"), "a second name"),
        ] {
            let name = format!("/etc/kmagent/{file}");
            shell(
                &root,
                &format!(
                    "cd /etc/kmagent; if [ -e {file} ]; then mv {file} ../save; fi; {plant}; chown -h kmagent:kmagent {file} || :"
                ),
            );
            if what == "a second name" {
                shell(&root, "chown root:root /etc/secret");
            }
            let before = root.tree();
            let output = root.install(&release(), &ENV, &[]);
            assert_fails(&output, 78, &format!("{name} is a link, has a second name or is no file"));
            assert_same(&before, &root.tree(), &format!("{what} in the place of {name}"));
            assert_eq!((pid(&root), root.status().unwrap()["agent_version"].as_str()), (first, Some(OLDER)), "{what}");
            shell(&root, &format!("cd /etc/kmagent; rm -r {file}; if [ -e ../save ]; then mv ../save {file}; fi"));
            assert_unharmed(&root);
        }
    }
    assert_done(&root.install(&release(), &[], &[]));
}

/// The config is the user's to change, so it holds up nothing: the newest confirmed one takes the place of a link.
#[test]
fn a_planted_config_leads_nowhere() {
    if !available() {
        return;
    }
    for plant in [
        "ln -s /etc/secret config.yaml",
        "ln -s /etc/root-only config.yaml",
        "mkfifo config.yaml",
        // Another user's secret, by a second name.
        "ln /etc/secret config.yaml",
    ] {
        let root = host();
        let lines = format!(
            "cd /etc/kmagent; rm config.yaml; {plant}; ln -s /etc/root-only .config.yaml.kmagent-old; chown -h kmagent:kmagent .config.yaml.kmagent-old; chown -h kmagent:kmagent config.yaml; chown root:root /etc/secret"
        );
        shell(&root, &lines);
        let in_the_state =
            "cd /var/lib/kmagent; ln -s /etc/root-only config.yaml; ln -s /etc/secret .config.yaml.kmagent-new
                            ln -s /etc/secret .config.yaml.kmagent-old";
        assert_eq!(as_the_user(&root, in_the_state), Some(0));
        let output = root.install(&release(), &[], &[]);
        assert_done(&output);
        assert!(output.stdout.contains("removing /etc/kmagent/config.yaml"), "{output:#?}");
        shell(&root, "[ -h /etc/kmagent/config.yaml ]");
        root.wait_status("its confirmed config", |status| status["agent_version"] == VERSION);
        shell(&root, "rm -f /var/lib/kmagent/.config.yaml.kmagent-*");
        assert_unharmed(&root);
    }
}

/// A link at the place where the config goes, and one at the name that it has until then.
#[test]
fn a_planted_name_in_the_state_directory_leads_nowhere() {
    if !available() {
        return;
    }
    let root = host();
    let link = "ln -s /etc/secret .config.yaml.kmagent-new";
    for (plant, temporary) in [
        ("ln -s /etc/root-only config.yaml", link),
        ("ln -s /etc/secret config.yaml", link),
        ("mkfifo config.yaml", link),
        // What would have to be gone down into.
        (
            "mkdir -p config.yaml/x; cd /etc/kmagent; mkdir -p .agent.yaml.kmagent-old/x .config.yaml.kmagent-new/x",
            "mkdir -p .config.yaml.kmagent-new/x",
        ),
    ] {
        let lines = format!("cd /var/lib/kmagent; {temporary}; {plant}");
        assert_eq!(as_the_user(&root, &lines), Some(0));
        assert_done(&root.install(&release(), &[], &[]));
        assert_layout(&root, agent_of(&root));
        assert_eq!(root.read("/var/lib/kmagent/config.yaml"), "name: first\n");
        assert_unharmed(&root);
        shell(&root, &EARLIER.replace("mkdir /etc/root-only", ":"));
    }
}

/// The user puts a link there between the writing of a file and its undoing.
#[test]
fn the_undoing_goes_through_no_link() {
    if !available() {
        return;
    }
    let root = host();
    shell(&root, ": >/etc/kmagent/api-key");
    let before = root.tree();
    // What it could do in a directory of its own. Then the agent does not start.
    let plant = "for name in agent.yaml api-key config.yaml .installed; do
            ln -sf /etc/secret /etc/kmagent/$name; ln -sf /etc/secret /etc/kmagent/.$name.kmagent-old
        done 2>/dev/null
        ln -sfn /etc/root-only /var/lib/kmagent/config.yaml";
    // The installer looks before, between and after; it is let in once the files are being placed.
    let shim = format!(
        "#!/bin/sh\n! grep -q 'owed start' /etc/.kmagent-install/journal 2>/dev/null ||
         setpriv --reuid=kmagent --regid=kmagent --clear-groups sh -c '{plant}'\nPATH=${{PATH#*:}}\nexec ls \"$@\"\n"
    );
    let broken =
        release().write("bin/kmagent", b"#!/bin/sh\n[ \"$1\" != start ] || exit 70\nexec /opt/real \"$@\"\n", 0o755);
    root.write("/opt/real", "", 0o755);
    super::stage::write(&root.join("/opt/real"), &fs::read(crate::support::bin::kmagent()).unwrap(), 0o755);
    root.bind(&broken.path(), "kmagent");
    let output = install_with(&root, "ls", &shim, &ENV, &[]);
    assert_fails(&output, 69, "the agent does not start");
    assert!(!output.stderr.contains("could not undo"), "{output:#?}");
    assert_unharmed(&root);
    let owners = |tree: &super::tree::Tree| {
        let files = tree.iter().filter(|(name, _)| name.starts_with("/etc/kmagent"));
        files.map(|(name, entry)| (name.clone(), entry.owner, entry.mode, entry.content.clone())).collect::<Vec<_>>()
    };
    assert_eq!(owners(&before), owners(&root.tree()), "as it was");
}

/// The user opens its directories to all before the upgrade, and whoever owns them now, plants a link in each moment
/// that root's next step follows: at the temporary name of the config once that is removed, in the place of the key
/// once it was looked at.
#[test]
fn a_directory_that_all_may_write_is_closed_before_anything_is_written() {
    if !available() {
        return;
    }
    let (root, stage) = (host(), release());
    let plant = |program: &str, after: &str, link: &str| {
        format!(
            "#!/bin/sh\nPATH=${{PATH#*:}}\n{program} \"$@\" || exit\ncase \"$*\" in *{after}*) [ \"$(stat -c %u /etc/kmagent)\" != 0 ] || \
             setpriv --reuid=kmagent --regid=kmagent --clear-groups ln -sf /etc/secret {link} 2>/dev/null || :;; esac\n"
        )
    };
    let new = "/var/lib/kmagent/.config.yaml.kmagent-new";
    for (program, shim) in
        [("rm", plant("rm", new, new)), ("ls", plant("ls", "/etc/kmagent/api-key", "/etc/kmagent/api-key"))]
    {
        for owner in ["kmagent", "root"] {
            shell(
                &root,
                &format!("cd /; chown {owner} etc/kmagent var/lib/kmagent; chmod 1777 etc/kmagent var/lib/kmagent"),
            );
            root.bind(&stage.path(), "kmagent");
            assert_done(&install_with(&root, program, &shim, &[], &[]));
            assert_eq!(root.read("/etc/kmagent/api-key"), "sk_1\n", "{program}, {owner}");
            assert_eq!(root.read("/var/lib/kmagent/config.yaml"), "name: first\n", "{program}, {owner}");
            assert_unharmed(&root);
            assert_layout(&root, agent_of(&root));
            shell(&root, &EARLIER.replace("mkdir /etc/root-only", ":"));
        }
    }
}

/// What runs as the agent's user has no terminal of root's: other processes of that user may trace it, and type there.
#[test]
fn what_runs_as_the_user_has_a_session_of_its_own() {
    if !available() {
        return;
    }
    let root = host();
    let collector = super::stage::COLLECTOR.replace(
        "    validate)\n",
        "    validate)
        read -r pid name state parent group session rest </proc/$$/stat
        [ \"$pid $(readlink /proc/$$/fd/0)\" = \"$session /dev/null\" ] || { echo \"$pid is in $session\" && exit 1; }\n",
    );
    assert_ne!(collector, super::stage::COLLECTOR);
    let stage = release().write("lib/kmagent/kmagent-collector", collector.as_bytes(), 0o755);
    root.bind(&stage.path(), "kmagent");
    // As at a terminal, where standard input is not /dev/null.
    assert_done(&root.run(&["sh", "-c", "/tmp/kmagent/install.sh --no-start </etc/passwd"]));
}

/// Where another service runs the collector, and reads the config as a user of its own.
#[test]
fn a_config_that_others_read_stays_where_they_read_it() {
    if !available() {
        return;
    }
    let root = host();
    assert_eq!(root.run(&["/etc/init.d/kmagent", "stop"]).code, Some(0));
    shell(&root, "chmod 644 /etc/kmagent/config.yaml");
    let output = root.install(&release(), &[], &[]);
    assert_done(&output);
    assert!(
        output.stdout.contains("keeping /etc/kmagent/config.yaml where it is, since others may read it"),
        "{output:#?}"
    );
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", "/etc/kmagent/config.yaml"];
    assert_eq!(root.run(&nobody).stdout, "name: first\n");
    assert_eq!(shell(&root, "stat -c '%U %a' /etc/kmagent /etc/kmagent/agent.yaml"), "root 755\nroot 640\n");
}

/// As README.md has it, a user who is neither root nor the installer's may own it all.
#[test]
fn an_operator_s_own_layout_is_left_alone() {
    if !available() {
        return;
    }
    let root = host();
    shell(&root, "/etc/init.d/kmagent stop; useradd -r other; chown -R other /etc/kmagent /var/lib/kmagent");
    let owners = "stat -c '%n %U %a' /etc/kmagent /etc/kmagent/* /var/lib/kmagent";
    let before = shell(&root, owners);
    assert_done(&root.install(&release(), &[], &[]));
    assert_eq!(before, shell(&root, owners));
}

/// To its end, with what belongs to that user, and what it has planted in there.
#[test]
fn it_is_removed_without_following_anything() {
    if !available() {
        return;
    }
    let root = host();
    let plant = "ln -s /etc/root-only /var/lib/kmagent/dir; ln -s /etc/secret /var/lib/kmagent/file
                 ln -sf /etc/secret /etc/kmagent/.installed; ln -sf /etc/secret /etc/kmagent/api-key
                 ln -sfn /etc/root-only /etc/kmagent/state; ln -s /etc/root-only /var/lib/kmagent/.kmagent.kmagent-old";
    assert_eq!(as_the_user(&root, plant), Some(0));
    shell(&root, "echo x >/etc/root-only/x");
    let output = root.install(&release(), &[], &["--purge"]);
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(shell(&root, "cat /etc/root-only/x; rm /etc/root-only/x"), "x\n");
    assert_unharmed(&root);
    shell(&root, "[ ! -e /var/lib/kmagent ] && [ ! -e /etc/kmagent ]");
}
