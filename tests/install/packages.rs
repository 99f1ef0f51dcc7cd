//! The packages of `dist/packages/build`: a Debian's under its real systemd, an rpm in a root of its own, and the
//! scripts of the others on busybox. What they hold, and lintian, is for `tests/release/packages`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::elsewhere::APPLETS;
use super::root::{Root, available};
use super::stage::{OLDER, Stage, VERSION, assert_done, assert_fails, release};
use super::systemd::{Machine, assert_same};
use crate::support::bin::{self, Output};
use crate::support::needs;
use crate::support::source;
use crate::support::temp_dir::TempDir;

/// nfpm may have to be built first.
const PACKING: Duration = Duration::from_secs(300);

/// Both packages of that tree, in a directory of their own.
fn pack(stage: &Stage, version: &str, format: &str) -> TempDir {
    pack_these(&["kmagent", "kmagent-collector"], stage, version, format)
}

fn pack_these(names: &[&str], stage: &Stage, version: &str, format: &str) -> TempDir {
    let dir = TempDir::new();
    for name in names {
        let mut command = Command::new(source::path("dist/packages/build"));
        command.arg(name).arg(stage.path()).arg(dir.path()).args([std::env::consts::ARCH, version, format]);
        command.env("SOURCE_DATE_EPOCH", "1700000000").stdin(Stdio::null());
        let output = bin::output_within(PACKING, command);
        assert_eq!(output.code, Some(0), "{output:#?}");
    }
    dir
}

fn packages(dir: &Path, format: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == format));
    found.sort();
    found
}

/// Whom the packages name: a placeholder will do until there is a release.
#[test]
fn a_release_names_a_maintainer_who_reads_mail() {
    let dir = TempDir::new();
    fs::create_dir_all(dir.join("dist/packages")).unwrap();
    for file in ["Cargo.toml", "dist/packages/maintainer"] {
        fs::copy(source::path(file), dir.join(file)).unwrap();
    }
    let git = "git init -q && git -c user.name=x -c user.email=x@x commit -q --allow-empty -m x";
    let run = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", line]).current_dir(dir.path()).env_remove("MAINTAINER").stdin(Stdio::null());
        bin::output(command)
    };
    assert_eq!(run(git).code, Some(0));
    let maintainer = |maintainer: &str| run(&format!("{maintainer} dist/packages/maintainer"));
    assert_eq!(maintainer("").stdout, "kmagent <noreply@kloudmate.com>\n");
    assert_eq!(run(&format!("git tag v{VERSION}")).code, Some(0));
    for placeholder in ["", "MAINTAINER='A <a@localhost.localdomain>'", "MAINTAINER='A <a@example.com>'"] {
        assert_fails(&maintainer(placeholder), 64, &format!("this commit is the release v{VERSION}, and nobody reads"));
    }
    assert_fails(&maintainer("MAINTAINER=someone@kloudmate.com"), 64, "MAINTAINER has to be NAME <ADDRESS>");
    let output = maintainer("MAINTAINER='A B <a.b@kloudmate.com>'");
    assert_eq!((output.code, &*output.stdout), (Some(0), "A B <a.b@kloudmate.com>\n"), "{output:#?}");
    // Where it is asked.
    let release = fs::read_to_string(source::path("dist/release")).unwrap();
    assert!(
        release.find("\ndist/packages/maintainer ") < release.find("\nsay \"building the agent"),
        "before it builds"
    );
}

/// A Debian with packages of an older and of this release, and one whose program refuses the settings.
struct Debian {
    machine: Machine,
    _packages: Vec<TempDir>,
}

impl Debian {
    fn boot() -> Debian {
        let stages = vec![release().older(), release(), release()];
        let refusing = "#!/bin/sh\n[ \"$1\" != --print-settings ] || { echo 'kmagent: it is refused' >&2; exit 78; }\nexec /releases/new/bin/kmagent \"$@\"\n";
        let refusing = release().write("bin/kmagent", refusing.as_bytes(), 0o755);
        let rejecting = super::stage::COLLECTOR.replace("no-such-thing", "first");
        let rejecting = release().write("lib/kmagent/kmagent-collector", rejecting.as_bytes(), 0o755);
        // One of them has what the other one lacks.
        let lacking =
            "Error: decoding failed:\n\n'processors' unknown type: \\\"no-such-thing\\\" for id: \\\"no-such-thing\\\"";
        let lacking = super::stage::COLLECTOR.replace("Error: refused", lacking);
        assert_ne!(lacking, super::stage::COLLECTOR);
        let stages: Vec<Stage> =
            stages.into_iter().map(|it| it.write("lib/kmagent/kmagent-collector", lacking.as_bytes(), 0o755)).collect();
        let more = super::stage::COLLECTOR.replace("no-such-thing", "nothing-at-all");
        let more = release().write("lib/kmagent/kmagent-collector", more.as_bytes(), 0o755);
        let packed = vec![
            pack_these(&["kmagent-collector-edge", "kmagent-collector-full"], &more, VERSION, "deb"),
            pack(&stages[0], OLDER, "deb"),
            pack(&stages[1], VERSION, "deb"),
            pack(&refusing, "2.9.0", "deb"),
            pack(&rejecting, "2.9.0", "deb"),
        ];
        let names = ["/debs/more", "/debs/old", "/debs/new", "/debs/refusing", "/debs/rejecting"];
        let directories: Vec<(&Path, &str)> = packed.iter().map(TempDir::path).zip(names).collect();
        Debian { machine: Machine::boot_with(stages, &directories), _packages: packed }
    }

    /// As a script does it, where nobody answers a question.
    fn dpkg(&self, files: &str) -> Output {
        self.machine.sh(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i {files}"))
    }

    /// Where another package has to go for it.
    fn apt(&self, files: &str) -> Output {
        self.machine.sh(&format!("DEBIAN_FRONTEND=noninteractive apt-get install -y -q {files}"))
    }

    #[track_caller]
    fn install(&self, files: &str) -> Output {
        let output = self.dpkg(files);
        assert_eq!(output.code, Some(0), "{files}: {output:#?}");
        let state = "dpkg-query -W -f '${db:Status-Abbrev} ${Conffiles}\\n' kmagent kmagent-collector";
        assert_eq!(self.machine.does(state), "ii  \nii", "{output:#?}");
        output
    }

    /// What an operator and the agent have written, with owners and modes.
    fn written(&self) -> String {
        self.machine.does(
            "cd /etc/kmagent && cat agent.yaml api-key config.yaml && \
             stat -c '%n %U:%G %a %N' . agent.yaml api-key config.yaml /var/lib/kmagent /var/lib/kmagent/config.yaml",
        )
    }
}

const QUICK: &str = "update-endpoint: http://127.0.0.1:9/x\\nmin-uptime: 500ms\\n";

#[test]
fn a_life_of_the_debian_packages() {
    if !available() {
        return;
    }
    let debian = Debian::boot();
    let machine = &debian.machine;
    let before = machine.tree();
    // ---- installed: it runs, with the templates, and says what is missing
    let output = debian.install("/debs/old/*.deb");
    assert_eq!(output.stderr.matches("kmagent: ").count(), 1, "{output:#?}");
    assert!(output.stderr.contains("kmagent: there is no API key yet"), "{output:#?}");
    machine.expect_running(OLDER);
    machine.does("cmp /etc/kmagent/agent.yaml /usr/share/kmagent/agent.yaml");
    machine.does("cmp /etc/kmagent/config.yaml /usr/share/kmagent/config.yaml");
    assert_eq!(machine.does("systemctl is-enabled kmagent"), "enabled");
    assert_eq!(machine.does("id -Gn kmagent"), "kmagent adm systemd-journal");
    assert!(machine.does("grep ^kmagent: /etc/passwd").contains(":/nonexistent:"));
    machine.does(&format!("printf sk_123456 >/etc/kmagent/api-key && printf '{QUICK}' >>/etc/kmagent/agent.yaml"));
    machine.does("systemctl restart kmagent");
    machine.expect_running(OLDER);
    // As the agent does it.
    let config = "cd /var/lib/kmagent && umask 077 && echo 'name: second' >new && mv new config.yaml";
    machine.does(&format!("setpriv --reuid=kmagent --regid=kmagent --clear-groups sh -euc \"{config}\""));
    let written = debian.written();
    for line in [
        "name: second\n. root:kmagent 750",
        "agent.yaml root:kmagent 640",
        "api-key root:kmagent 640",
        "config.yaml root:root 777 'config.yaml' -> '/var/lib/kmagent/config.yaml'",
        "/var/lib/kmagent kmagent:kmagent 700",
        "/var/lib/kmagent/config.yaml kmagent:kmagent 600",
    ] {
        assert!(written.contains(line), "no {line} in {written}");
    }

    // ---- upgraded, with one restart
    let starts = machine.starts();
    machine.does("mkdir /etc/sysconfig && echo SITE=1 >/etc/sysconfig/kmagent");
    debian.install("/debs/new/*.deb");
    let pid = machine.expect_running(VERSION);
    machine.does(&format!("tr '\\0' '\\n' </proc/{pid}/environ | grep -x SITE=1 && rm -r /etc/sysconfig"));
    assert_eq!((machine.starts(), debian.written()), (starts + 1, written.clone()));
    // The collector alone: the agent replaces it.
    let first = machine.status()["collector"]["pid"].clone();
    debian.install("/debs/old/kmagent-collector_*.deb");
    assert_eq!(machine.expect_running(VERSION), pid);
    let second = machine.status()["collector"]["pid"].clone();
    assert_ne!(first, second);
    // One that rejects the active config replaces none.
    machine.does("sed -i 's/second/first/' /var/lib/kmagent/config.yaml && kmagent restart");
    let second = machine.status()["collector"]["pid"].clone();
    let output = debian.install("/debs/rejecting/kmagent-collector_*.deb");
    assert!(output.stderr.contains("the collector that runs is still the previous one"), "{output:#?}");
    assert_eq!(machine.status()["collector"]["pid"], second);
    debian.install("/debs/new/kmagent-collector_*.deb");
    machine.does("sed -i 's/first/second/' /var/lib/kmagent/config.yaml");
    // One whose agent refuses the settings leaves the old agent running.
    let output = debian.install("/debs/refusing/kmagent_*.deb");
    assert!(output.stderr.contains("it is refused\nkmagent: the agent was not restarted"), "{output:#?}");
    assert_eq!(machine.status()["pid"], pid);

    // ---- stopped, and checked by the timer: as an operator has left it
    machine.does("systemctl stop kmagent");
    debian.install("/debs/new/*.deb");
    assert_eq!(machine.sh("systemctl is-active kmagent").stdout, "inactive\n");
    for (plant, said) in [
        ("cp /usr/lib/systemd/system/kmagent.service /etc/systemd/system/", "check that it starts /usr/bin/kmagent"),
        ("systemctl mask -q kmagent", "systemctl unmask kmagent && systemctl enable --now kmagent"),
    ] {
        machine.does(plant);
        let output = debian.install("/debs/new/kmagent_*.deb");
        assert!(output.stderr.contains(said), "{output:#?}");
        machine.does("rm /etc/systemd/system/kmagent.service && systemctl daemon-reload");
    }
    machine.does("systemctl disable -q --now kmagent && systemctl enable -q --now kmagent-check.timer");
    debian.install("/debs/old/*.deb");
    assert_eq!(machine.sh("systemctl is-active kmagent kmagent-check.timer").stdout, "inactive\nactive\n");
    assert_eq!(machine.sh("systemctl is-enabled kmagent kmagent-check.timer").stdout, "disabled\nenabled\n");
    machine.does("systemctl disable -q --now kmagent-check.timer && systemctl enable -q --now kmagent");
    machine.expect_running(OLDER);

    // ---- removed and installed again: all that was written is still there
    machine.does("dpkg -r kmagent kmagent-collector");
    machine.expect_gone("kmagent.service");
    assert_eq!(debian.written(), written);
    debian.install("/debs/new/*.deb");
    machine.expect_running(VERSION);
    assert_eq!(debian.written(), written);

    // ---- purged: settings, key and state are gone; an account stays, as Debian has it
    machine.does("echo KM_API_KEY=k >/etc/default/kmagent && dpkg -P kmagent kmagent-collector");
    machine.expect_gone("kmagent.service");
    machine.expect_gone("kmagent-check.timer");
    let without_accounts = |tree: &str| {
        let ours = |line: &&str| {
            !["/etc/passwd ", "/etc/group ", "/etc/shadow ", "/etc/gshadow ", "/etc ", "/var/lib "]
                .iter()
                .any(|name| line.starts_with(name))
                && !line.starts_with("/var/lib/dpkg")
        };
        tree.lines().filter(ours).map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_same(&without_accounts(&before), &without_accounts(&machine.tree()));
    machine.does("[ ! -e /run/kmagent ] && [ ! -e /usr/lib/kmagent ] && [ ! -e /usr/share/kmagent ]");
}

/// Each refuses to be installed over the other, before anything is changed; the way between them keeps everything.
#[test]
fn from_a_tarball_to_the_debian_packages() {
    if !available() {
        return;
    }
    let debian = Debian::boot();
    let machine = &debian.machine;
    let quick = "KM_API_KEY=sk_123456 KM_UPDATE_ENDPOINT=http://127.0.0.1:9/x KM_MIN_UPTIME=500ms";
    assert_done(&machine.sh(&format!("{quick} /releases/old/install.sh")));
    let pid = machine.expect_running(OLDER);
    let (before, written) = (machine.tree(), debian.written());
    let output = debian.dpkg("/debs/new/kmagent_*.deb");
    assert!(output.code != Some(0) && output.stderr.contains("kmagent is installed from a tarball"), "{output:#?}");
    let recipe = output.stderr.lines().find_map(|line| line.strip_prefix("kmagent:     ")).unwrap();
    assert_eq!(recipe, "/usr/local/lib/kmagent/install.sh --uninstall");
    assert_eq!(machine.expect_running(OLDER), pid);
    let without_dpkg =
        |tree: String| tree.lines().filter(|line| !line.starts_with("/var/lib/dpkg")).collect::<Vec<_>>().join("\n");
    assert_same(&without_dpkg(before), &without_dpkg(machine.tree()));
    machine.does(recipe);
    debian.install("/debs/new/*.deb");
    machine.expect_running(VERSION);
    assert_eq!(debian.written(), written);
    // And back.
    let pid = machine.expect_running(VERSION);
    for words in ["", "--purge"] {
        let output = machine.sh(&format!("/releases/old/install.sh {words}"));
        assert!(
            output.code == Some(64) && output.stderr.contains("installed by the package kmagent"),
            "{words}: {output:#?}"
        );
    }
    assert_eq!((machine.expect_running(VERSION), debian.written()), (pid, written.clone()));
    machine.does("dpkg -r kmagent kmagent-collector");
    assert_done(&machine.sh("/releases/old/install.sh"));
    let pid = machine.expect_running(OLDER);
    assert_eq!(debian.written(), written);
    // What a removed package may still be asked for is not the tarball's loss.
    let said = machine.sh("dpkg -P kmagent kmagent-collector");
    assert!(said.code == Some(0) && said.stderr.contains("nothing was purged"), "{said:#?}");
    assert_eq!((machine.expect_running(OLDER), debian.written()), (pid, written));
    assert_eq!(machine.does("systemctl is-enabled kmagent"), "enabled");

    // ---- a tarball whose collector is the same file as the package's: each is refused over the other
    machine.does("/usr/local/lib/kmagent/install.sh --uninstall");
    assert_done(&machine.sh("PREFIX=/usr /releases/old/install.sh"));
    let pid = machine.expect_running(OLDER);
    let output = debian.dpkg("/debs/new/kmagent-collector_*.deb");
    assert!(output.code != Some(0) && output.stderr.contains("installed from a tarball, in /usr"), "{output:#?}");
    let recipe = output.stderr.lines().find_map(|line| line.strip_prefix("kmagent:     ")).unwrap();
    assert_eq!((machine.does("dpkg --audit"), machine.expect_running(OLDER)), (String::new(), pid));
    machine.does("cmp /usr/lib/kmagent/kmagent-collector /releases/old/lib/kmagent/kmagent-collector");
    machine.does(recipe);
    assert_eq!(debian.dpkg("/debs/new/kmagent-collector_*.deb").code, Some(0));
    let output = machine.sh("PREFIX=/usr /releases/old/install.sh");
    assert_fails(
        &output,
        64,
        "/usr/lib/kmagent/kmagent-collector is of a package: remove that, or use the tarball -agent-only",
    );
    // Elsewhere they do not meet.
    assert_done(&machine.sh("PREFIX=/usr/local /releases/old/install.sh"));
    machine.expect_running(OLDER);
    assert_eq!(debian.apt("/debs/more/kmagent-collector-edge_*.deb").code, Some(0));
    machine.does("dpkg -P kmagent-collector-edge");
    machine.expect_running(OLDER);
}

/// The package of 1.x, with what its maintainer scripts do; `DIR` is where it is made.
const OF_1_X: &str = r#"
mkdir -p DIR/DEBIAN DIR/usr/bin DIR/lib/systemd/system DIR/etc/kmagent
cp /releases/old/bin/kmagent DIR/usr/bin/kmagent
printf '%s\n' '[Unit]' 'Description=1.x' '[Service]' 'ExecStart=/usr/bin/kmagent --agent-config /etc/kmagent/agent.yaml start' \
    'Restart=on-failure' 'User=root' '[Install]' 'WantedBy=multi-user.target' >DIR/lib/systemd/system/kmagent.service
echo 'name: packaged' >DIR/etc/kmagent/config.yaml
printf '%s\n' 'Package: kmagent' 'Version: 1.2.0' 'Architecture: ARCH' 'Maintainer: KloudMate' 'Section: utils' 'Description: 1.x' \
    >DIR/DEBIAN/control
printf '%s\n' '#!/bin/sh' 'systemctl stop kmagent 2>/dev/null || true' >DIR/DEBIAN/preinst
printf '%s\n' '#!/bin/sh' '[ -n "$KM_API_KEY" ] && [ -n "$KM_COLLECTOR_ENDPOINT" ] || exit 1' 'mkdir -p /etc/kmagent' \
    'echo "api-key: \"$KM_API_KEY\"" >/etc/kmagent/agent.yaml' \
    'echo "collector-endpoint: \"$KM_COLLECTOR_ENDPOINT\"" >>/etc/kmagent/agent.yaml' 'chmod 600 /etc/kmagent/agent.yaml' >DIR/DEBIAN/postinst
printf '%s\n' '#!/bin/sh' 'systemctl stop kmagent || true' 'systemctl disable kmagent || true' >DIR/DEBIAN/prerm
printf '%s\n' '#!/bin/sh' 'systemctl stop kmagent || true' 'rm -f /etc/systemd/system/kmagent.service' 'systemctl daemon-reload' \
    'systemctl reset-failed || true' >DIR/DEBIAN/postrm
chmod 755 DIR/DEBIAN/p*
dpkg-deb --build DIR /tmp/1.x.deb >/dev/null
"#;

#[test]
fn from_the_debian_package_of_1_x() {
    if !available() {
        return;
    }
    let debian = Debian::boot();
    let machine = &debian.machine;
    machine.does("systemctl --version >/dev/null; mkdir -p /tmp/1.x");
    machine.does(&format!(
        "arch=$(dpkg --print-architecture); {}",
        OF_1_X.replace("DIR", "/tmp/1.x").replace("'Architecture: ARCH'", "\"Architecture: $arch\"")
    ));
    // What goes to the vendor's default stays in the machine, which has no network.
    machine.does(
        "KM_API_KEY=sk_of_1_x KM_COLLECTOR_ENDPOINT=http://gateway.invalid:4318 dpkg -i /tmp/1.x.deb && \
         systemctl enable -q --now kmagent && echo 'name: of-the-api' >/etc/kmagent/config.yaml && \
         echo extra >/etc/kmagent/ca.pem",
    );
    let old = machine.status()["pid"].clone();
    let kept = machine.does("cat /etc/kmagent/agent.yaml /etc/kmagent/config.yaml /etc/kmagent/ca.pem");
    let settings = machine.does("cat /etc/kmagent/agent.yaml");

    // However an upgrade ends, 1.x runs, and dpkg has nothing left to do: its own script would ask for a key, and write
    // that in the place of the settings.
    let assert_whole = |words: &str| {
        assert_eq!(machine.does("systemctl show --value -p Description kmagent"), "1.x", "{words}");
        assert_eq!(
            machine.does("systemctl is-active kmagent; systemctl is-enabled kmagent"),
            "active\nenabled",
            "{words}"
        );
        let state = "dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev}${Version}' kmagent; dpkg --configure -a";
        assert_eq!(machine.does(state), "ii 1.2.0", "{words}");
        assert_eq!(machine.does("cat /etc/kmagent/agent.yaml"), settings, "{words}");
        machine.does("[ ! -e /etc/.kmagent-1.x ]");
    };

    // ---- refused, though a script of 1.x has stopped and disabled the service before: it runs
    machine.does("mkdir -p /opt/lib/kmagent; echo /opt >/etc/kmagent.prefix; : >/opt/lib/kmagent/manifest");
    let output = debian.dpkg("/debs/new/kmagent_*.deb");
    assert!(output.stderr.contains("/opt/lib/kmagent/install.sh --uninstall"), "{output:#?}");
    assert_whole("over a tarball");
    machine.does("rm -r /opt/lib /etc/kmagent.prefix");

    // ---- a package that is broken in the middle: 1.x is there, and runs
    machine.does("size=$(stat -c %s /debs/new/kmagent_*.deb) && head -c $((size - 300000)) /debs/new/kmagent_*.deb >/tmp/broken.deb");
    let output = debian.dpkg("/tmp/broken.deb");
    assert_ne!(output.code, Some(0), "{output:#?}");
    assert_whole("a broken package");
    assert_ne!(machine.status()["pid"], old, "its own script has stopped it");
    assert_eq!(machine.does("cat /etc/kmagent/agent.yaml /etc/kmagent/config.yaml /etc/kmagent/ca.pem"), kept);

    // ---- a config of 1.x that nobody has checked, or that our collector rejects: 1.x runs on
    let refuse = |words: &str| {
        let output = debian.dpkg("/debs/new/kmagent_*.deb");
        assert!(output.code != Some(0) && output.stderr.contains(words), "{output:#?}");
        assert_whole(words);
    };
    refuse("install the package kmagent-collector first");
    assert_eq!(debian.dpkg("/debs/rejecting/kmagent-collector_*.deb").code, Some(0));
    machine.does("echo 'name: first' >/etc/kmagent/config.yaml");
    refuse("the collector rejects /etc/kmagent/config.yaml");
    machine.does("dpkg -P kmagent-collector");
    assert_eq!(debian.dpkg("/debs/new/kmagent-collector_*.deb").code, Some(0));
    // As the default config of 1.x, which the small collector lacks components for. The other one takes its place.
    machine.does("echo 'name: no-such-thing' >/etc/kmagent/config.yaml");
    refuse("names components that this collector does not have. Install kmagent-collector-edge in its place");
    let of_the_collectors = "dpkg-query -W -f '${db:Status-Abbrev}${Package}\\n' 'kmagent-collector*' | grep ^ii";
    for variant in ["edge", "full"] {
        assert_eq!(debian.apt(&format!("/debs/more/kmagent-collector-{variant}_*.deb")).code, Some(0));
        assert_eq!(machine.does(of_the_collectors), format!("ii kmagent-collector-{variant}"));
    }

    // ---- upgraded, also where the package gave its directory to whoever had built it
    machine.does("chown -R 1001:1001 /etc/kmagent");
    machine.does("dpkg -r kmagent-collector-full");
    assert_eq!(debian.dpkg("/debs/more/kmagent-collector-edge_*.deb").code, Some(0));
    // It was killed when it had unpacked the package: the agent waits for it, but not after the next start of the host.
    machine.does("dpkg --unpack /debs/new/kmagent_*.deb");
    assert_eq!(machine.sh("systemctl is-active kmagent; systemctl is-enabled kmagent").stdout, "inactive\nenabled\n");
    machine.does("systemctl daemon-reload; systemctl start kmagent-upgrade && [ ! -h /etc/kmagent/config.yaml ]");
    machine.does("rm /run/.kmagent-upgrading; systemctl start kmagent");
    machine.expect_running(VERSION);
    let log = machine.does("journalctl --sync; journalctl -o cat -u kmagent-upgrade");
    for said in ["writing the default of 1.x", "an upgrade from 1.x was interrupted: run dpkg --configure -a"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    machine.does("systemctl stop kmagent");
    let output = debian.dpkg("/debs/new/kmagent_*.deb");
    assert_eq!(output.code, Some(0), "{output:#?}");
    let pid = machine.expect_running(VERSION);
    assert_eq!(machine.does("systemctl is-enabled kmagent"), "enabled");
    assert_eq!(machine.does("cat /etc/kmagent/config.yaml /etc/kmagent/ca.pem"), "name: no-such-thing\nextra");
    let settings = machine.does("kmagent --print-settings");
    for line in [
        "update-endpoint = https://api.kloudmate.com/agents/config-check",
        "collector-endpoint = http://gateway.invalid:4318",
    ] {
        let words: Vec<&str> = line.split(" = ").collect();
        assert!(settings.lines().any(|row| row.starts_with(words[0]) && row.contains(words[1])), "{line}: {settings}");
    }
    machine.does("grep -x 'api-key: \"sk_of_1_x\"' /etc/kmagent/agent.yaml");
    let written = debian.written();
    for line in [
        "agent.yaml root:kmagent 640",
        "'config.yaml' -> '/var/lib/kmagent/config.yaml'",
        "/var/lib/kmagent/config.yaml kmagent:kmagent 600",
    ] {
        assert!(written.contains(line), "no {line} in {written}");
    }
    machine.does("[ ! -e /etc/.kmagent-1.x ]");
    // Another collector in its place: the agent replaces the one that runs.
    let first = machine.status()["collector"]["pid"].clone();
    let output = debian.apt("/debs/more/kmagent-collector-full_*.deb");
    assert_eq!((output.code, machine.does(of_the_collectors)), (Some(0), "ii kmagent-collector-full".to_string()));
    assert_eq!(machine.expect_running(VERSION), pid);
    assert_ne!(machine.status()["collector"]["pid"], first);
    machine.does("dpkg -P kmagent kmagent-collector-full && [ ! -e /var/lib/kmagent ] && [ -e /etc/kmagent/ca.pem ]");

    // ---- masked, or with a unit of the operator's, which a script of 1.x removes: it is there again, and is said
    let output = debian.dpkg("/debs/new/kmagent-collector_*.deb");
    assert_eq!(output.code, Some(0), "{output:#?}");
    let unit = "/etc/systemd/system/kmagent.service";
    for (plant, said, state) in [
        (
            "systemctl mask -q kmagent".to_string(),
            "masked, so it does not start: systemctl unmask kmagent && systemctl enable --now kmagent\n",
            "inactive\n",
        ),
        (
            "systemctl mask -q --runtime kmagent".to_string(),
            "masked, so it does not start: systemctl unmask --runtime kmagent && systemctl enable --now kmagent\n",
            "inactive\n",
        ),
        (
            format!("printf '[Service]\\nExecStart=/bin/sleep 1h\\n[Install]\\nWantedBy=multi-user.target\\n' >{unit}"),
            "kmagent.service goes before the unit of this package: check that it starts /usr/bin/kmagent\n",
            "active\n",
        ),
    ] {
        machine.does(
            "KM_API_KEY=sk_of_1_x KM_COLLECTOR_ENDPOINT=http://gateway.invalid:4318 dpkg -i /tmp/1.x.deb && \
             systemctl stop kmagent",
        );
        let place = if plant.contains("--runtime") { unit.replace("/etc/", "/run/") } else { unit.to_string() };
        let planted = machine.does(&format!("{plant}; systemctl daemon-reload; readlink {place} || cat {place}"));
        let is_there = || {
            assert_eq!(machine.does(&format!("readlink {place} || cat {place}")), planted);
            machine.does("ls -A /etc | { ! grep -F .kmagent; }");
        };
        debian.dpkg("/tmp/broken.deb");
        is_there();
        let output = debian.install("/debs/new/kmagent_*.deb");
        assert!(output.stderr.contains(said), "{output:#?}");
        is_there();
        assert_eq!(machine.sh("systemctl is-active kmagent").stdout, state, "{plant}");
        machine.does("dpkg -P kmagent");
        is_there();
        machine.does(&format!("systemctl stop kmagent; rm {place}; systemctl daemon-reload"));
    }
}

/// rpm reads and writes a root of its own; its systemd does not run, so nothing is started there.
struct Rpms {
    root: Root,
    old: TempDir,
    new: TempDir,
}

impl Rpms {
    fn make() -> Option<Rpms> {
        if !available() || !needs::that(Path::new("/usr/bin/rpm").exists(), "no rpm: on Debian, apt-get install rpm") {
            return None;
        }
        let (old, new) = (pack(&release().older(), OLDER, "rpm"), pack(&release(), VERSION, "rpm"));
        Some(Rpms { root: Root::debian(), old, new })
    }

    fn rpm(&self, words: &[&str], files: &[PathBuf]) -> Output {
        let mut command = self.root.outside("rpm");
        command.arg("--root").arg(self.root.place());
        command.args(["--dbpath", "/var/lib/rpm", "--nodeps"]).args(words).args(files);
        bin::output_within(Duration::from_secs(120), command)
    }

    #[track_caller]
    fn does(&self, words: &[&str], files: &[PathBuf]) -> Output {
        let output = self.rpm(words, files);
        assert_eq!(output.code, Some(0), "{words:?}: {output:#?}");
        output
    }

    #[track_caller]
    fn sh(&self, line: &str) -> String {
        let output = self.root.run(&["sh", "-euc", line]);
        assert_eq!(output.code, Some(0), "{line}: {output:#?}");
        output.stdout.trim_end().to_string()
    }

    /// 1.x with settings, a config of the API's and a file of an operator's.
    fn install_1_x(&self) {
        self.does(&["-U"], &packages(package_of_1_x().path(), "rpm"));
        self.sh("printf 'api-key: \"sk_of_1_x\"\\n' >/etc/kmagent/agent.yaml; chmod 600 /etc/kmagent/agent.yaml
            echo 'name: of-the-api' >/etc/kmagent/config.yaml; echo extra >/etc/kmagent/ca.pem; systemctl enable -q kmagent");
    }
}

#[test]
fn a_life_of_the_rpms() {
    let Some(rpms) = Rpms::make() else { return };
    let Rpms { root, old, new } = &rpms;
    let rpm = |words: &[&str], files: &[PathBuf]| rpms.rpm(words, files);
    let does = |words: &[&str], files: &[PathBuf]| rpms.does(words, files);
    let sh = |line: &str| rpms.sh(line);
    // As Red Hat's distributions have it.
    root.write("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n", 0o644);
    let written = || {
        sh("cd /etc/kmagent && cat agent.yaml api-key config.yaml && \
            stat -c '%n %U:%G %a %N' . agent.yaml api-key config.yaml /var/lib/kmagent /var/lib/kmagent/config.yaml")
    };

    // ---- 1.x, whose scripts delete all of /etc/kmagent when it is replaced
    rpms.install_1_x();
    let (agents, collectors): (Vec<PathBuf>, Vec<PathBuf>) = packages(old.path(), "rpm")
        .into_iter()
        .partition(|path| !path.file_name().unwrap().to_string_lossy().starts_with("kmagent-collector"));
    let output = rpm(&["-U"], &agents);
    assert!(output.code != Some(0) && output.stderr.contains("kmagent-collector first"), "{output:#?}");
    does(&["-U"], &collectors);
    let output = does(&["-U"], &agents);
    assert!(output.stderr.contains("writing the default of 1.x"), "{output:#?}");
    assert_eq!(sh("cat /etc/kmagent/config.yaml"), "name: of-the-api");
    sh("grep -x 'api-key: \"sk_of_1_x\"' /etc/kmagent/agent.yaml && [ ! -e /etc/.kmagent-1.x ]");
    assert_eq!(sh("systemctl is-enabled kmagent"), "enabled");
    let first = written();
    for line in
        [". root:kmagent 750", "agent.yaml root:kmagent 640", "/var/lib/kmagent/config.yaml kmagent:kmagent 600"]
    {
        assert!(first.contains(line), "no {line} in {first}");
    }

    // ---- upgraded, with nothing lost
    does(&["-U"], &packages(new.path(), "rpm"));
    assert_eq!(written(), first);
    assert_eq!(sh("kmagent --version; systemctl is-enabled kmagent"), format!("kmagent {VERSION}\nenabled"));
    // All is as it was packed.
    let verified = rpm(&["-V", "kmagent", "kmagent-collector"], &[]);
    assert_eq!((verified.code, verified.stdout.as_str()), (Some(0), ""), "{verified:#?}");

    // ---- removed, which keeps what was written; the preset says whether it is enabled
    does(&["-e", "kmagent", "kmagent-collector"], &[]);
    assert_eq!(written(), first);
    sh("[ ! -e /usr/bin/kmagent ] && [ ! -e /etc/systemd/system/multi-user.target.wants/kmagent.service ]");
    does(&["-i"], &packages(new.path(), "rpm"));
    assert_eq!(written(), first);
    sh("[ ! -e /etc/systemd/system/multi-user.target.wants/kmagent.service ]");
    does(&["-e", "kmagent", "kmagent-collector"], &[]);

    // ---- over a tarball
    assert_done(&root.install(&release().older(), &[], &["--init", "systemd"]));
    let before = root.tree();
    let output = rpm(&["-i"], &packages(new.path(), "rpm"));
    assert!(output.code != Some(0) && output.stderr.contains("kmagent is installed from a tarball"), "{output:#?}");
    let without_database = |tree: super::tree::Tree| -> super::tree::Tree {
        tree.into_iter().filter(|(name, _)| !name.starts_with("/var/lib/rpm")).collect()
    };
    super::tree::assert_same(&without_database(before), &without_database(root.tree()), "over a tarball");
}

/// A killed rpm, or a power failure, while 1.x is replaced: at one step of its scripts, with both versions in the
/// database then. The next run ends it, and nothing that was written is lost, or comes back that was deleted since.
#[test]
fn an_upgrade_of_the_rpm_of_1_x_that_is_killed() {
    let Some(rpms) = Rpms::make() else { return };
    let sh = |line: &str| rpms.sh(line);
    let both = packages(rpms.new.path(), "rpm");
    let (new, collector) = both.split_at(1);
    let kill = |step: &str| {
        sh(&format!(": >/tmp/kill-at-{step}"));
        let output = rpms.rpm(&["-U"], new);
        assert_ne!(output.code, Some(0), "{step}: {output:#?}");
        assert_eq!(sh("ls /tmp/kill-at-* 2>/dev/null || :"), "", "{step}: it was not killed there");
    };
    let state = "cat /etc/kmagent/config.yaml; grep -x 'api-key: \"sk_of_1_x\"' /etc/kmagent/agent.yaml; \
                 cat /etc/kmagent/ca.pem 2>/dev/null || :; ls -A /etc | grep -F .kmagent-1.x || :";
    let whole = "name: of-the-api\napi-key: \"sk_of_1_x\"\nextra";
    let start_again = || {
        rpms.rpm(&["-e", "--allmatches", "--noscripts", "kmagent"], &[]);
        sh("rm -rf /etc/kmagent /etc/.kmagent-1.x* /var/lib/kmagent /usr/lib/kmagent/packaged");
        rpms.install_1_x();
    };
    // A script of ours is ended by what it calls last: mv(1).
    sh("mv /bin/mv /bin/mv.real; printf '%s\\n' '#!/bin/sh' 'mv.real \"$@\" || exit' \
        'case \"$2\" in /etc/.kmagent-1.x*) ;; *) exit 0 ;; esac; rm /tmp/kill-at-pre 2>/dev/null || exit 0' \
        'read -r pid name state parent rest </proc/$PPID/stat; kill -KILL \"$parent\"; kill -KILL $PPID' >/bin/mv
        chmod 755 /bin/mv");
    rpms.install_1_x();
    rpms.does(&["-U"], collector);

    // ---- before anything is unpacked: it is as if there had been none, also when 1.x goes for another reason
    kill("pre");
    sh("rm /etc/kmagent/ca.pem; echo 'name: newer' >/etc/kmagent/config.yaml");
    rpms.does(&["-U"], new);
    assert_eq!(sh(state), "name: newer\napi-key: \"sk_of_1_x\"");
    start_again();
    kill("pre");
    rpms.does(&["-e", "kmagent"], &[]);
    sh("[ ! -e /etc/kmagent ]");
    rpms.does(&["-i"], new);
    sh("cmp /etc/kmagent/agent.yaml /usr/share/kmagent/agent.yaml && [ ! -e /etc/kmagent/ca.pem ]");

    // ---- once 2.x is unpacked; what is changed until the next run, which has 1.x delete the directory, counts
    start_again();
    kill("preun");
    sh("echo 'name: newer' >/etc/kmagent/config.yaml");
    rpms.does(&["-U", "--replacepkgs"], new);
    assert_eq!(sh(state), whole.replace("of-the-api", "newer"));
    assert_ne!(rpms.rpm(&["-e", "kmagent-1.2.0"], &[]).code, Some(0), "its entry is gone");

    // ---- after that: by the same package again, by one that is newer, by removing the old entry, or both
    for step in ["preun", "postun"] {
        for ends in
            [&["-U --replacepkgs"][..], &["-e kmagent-1.2.0", "-U --replacepkgs"], &["-e kmagent-1.2.0", "-e kmagent"]]
        {
            start_again();
            kill(step);
            for end in ends {
                let words: Vec<&str> = end.split(' ').collect();
                rpms.does(&words, if words[0] == "-U" { new } else { &[] });
            }
            assert_eq!(sh(state), whole, "{step}, {ends:?}");
        }
        // The host goes down instead, and comes up: what the service runs, before 1.x deletes all once more and after.
        start_again();
        kill(step);
        for end in ["true", "-e kmagent-1.2.0"] {
            if end != "true" {
                rpms.does(&end.split(' ').collect::<Vec<_>>(), &[]);
            }
            sh("rm -f /run/.kmagent-upgrading; /usr/lib/kmagent/finish-upgrade");
            assert_eq!(sh(state), format!("{whole}\n.kmagent-1.x"), "{step}, {end}");
            sh("[ \"$(stat -c %U:%G /etc/kmagent/agent.yaml)\" = root:kmagent ]");
        }
    }
}

/// With the scripts of its spec, and two steps at which it ends rpm if it is told to.
fn package_of_1_x() -> TempDir {
    let dir = TempDir::new();
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        super::stage::write(&path, text.as_bytes(), 0o755);
        path.display().to_string()
    };
    let agent = write("kmagent", "#!/bin/sh\n");
    let unit = write("unit", "[Service]\nExecStart=/usr/bin/kmagent start\n[Install]\nWantedBy=multi-user.target\n");
    let config = write("config.yaml", "name: packaged\n");
    let kill =
        |step: &str| format!("if [ -e /tmp/kill-at-{step} ]; then rm /tmp/kill-at-{step}; kill -KILL $PPID; fi\n");
    let preun = write(
        "preun",
        &(kill("preun") + "[ \"$1\" != 0 ] || { systemctl stop kmagent; systemctl disable kmagent; }\n"),
    );
    let postun = format!("rm -rf /etc/kmagent\n{}systemctl daemon-reload || true\n", kill("postun"));
    let postun = write("postun", &postun);
    let list = format!(
        "name: kmagent\narch: {}\nversion: 1.2.0\nmaintainer: KloudMate\ndescription: 1.x\nscripts:\n  preremove: {preun}\n  postremove: {postun}\n\
         contents:\n  - {{src: {agent}, dst: /usr/bin/kmagent}}\n  - {{src: {unit}, dst: /usr/lib/systemd/system/kmagent.service}}\n  \
         - {{src: {config}, dst: /etc/kmagent/config.yaml, type: config|noreplace}}\n",
        std::env::consts::ARCH
    );
    let list = write("nfpm.yaml", &list);
    let nfpm = bin::output_within(PACKING, Command::new(source::path("dist/packages/nfpm")));
    let mut command = Command::new(nfpm.stdout.trim());
    command.args(["package", "--packager", "rpm", "--config", &list, "--target"]).arg(dir.path());
    let output = bin::output(command);
    assert_eq!(output.code, Some(0), "{output:#?}");
    dir
}

/// What OpenWrt has for its packages' scripts, as far as ours need it: who makes a user, and rc.common's commands.
const OF_OPENWRT: &str = r#"
mkdir -p /lib /etc/init.d
echo 'add_group_and_user() { echo kmagent:x:900: >>/etc/group; echo kmagent:x:900:900::/var/run/kmagent:/bin/false >>/etc/passwd; }' >/lib/functions.sh
cat >/etc/rc.common <<'END'
#!/bin/sh
echo "$2" >>/tmp/rc.log
[ "$2" != start ] || { . "$1"; start_service; }
END
chmod 755 /etc/rc.common
"#;

/// Debian has the programs of neither: the files are unpacked, and the scripts run as they would be.
#[test]
fn the_scripts_for_busybox() {
    if !available() {
        return;
    }
    for format in ["apk", "ipk"] {
        let root = Root::busybox();
        let packed = pack(&release(), VERSION, format);
        let unpacked = TempDir::new();
        let sh = |line: &str| {
            let output = root.run(&["sh", "-euc", line]);
            assert_eq!(output.code, Some(0), "{format}: {line}: {output:#?}");
            format!("{}{}", output.stdout, output.stderr)
        };
        for package in packages(packed.path(), format) {
            // An apk's files lie beside its scripts, an ipk's in an archive of their own.
            let unpack = match format {
                "apk" => "tar -xzif \"$1\" -C \"$2\" 2>/dev/null",
                _ => {
                    "tar -xzf \"$1\" -C \"$2\"; tar -xzf \"$2/data.tar.gz\" -C \"$2\"; mkdir -p \"$2/scripts\"
                      tar -xzf \"$2/control.tar.gz\" -C \"$2/scripts\"; rm \"$2\"/*.gz \"$2/debian-binary\""
                }
            };
            let mut command = Command::new("sh");
            command.args(["-euc", unpack, "unpack"]).arg(&package).arg(unpacked.path()).stdin(Stdio::null());
            assert_eq!(bin::output(command).code, Some(0), "{package:?}");
        }
        root.bind(unpacked.path(), "package");
        let (scripts, post, pre_removal, agents) = match format {
            "apk" => ("/tmp/package", ".post-install", ".pre-deinstall", "/var/lib/kmagent"),
            _ => ("/tmp/package/scripts", "postinst", "prerm", "/etc/kmagent/state"),
        };
        if format == "ipk" {
            sh(OF_OPENWRT);
        } else {
            for applet in ["adduser", "addgroup"] {
                root.write(&format!("/usr/sbin/{applet}"), APPLETS, 0o755);
            }
            root.write("/etc/group", "root:x:0:\nadm:x:4:root\n", 0o644);
        }
        sh("mkdir -p /etc/init.d; cp -a /tmp/package/usr /tmp/package/etc /");
        let said = sh(&format!("{scripts}/{post} configure"));
        assert!(said.contains("there is no API key yet"), "{said}");
        let owners = sh(
            "ls -ld /etc/kmagent /etc/kmagent/agent.yaml /etc/kmagent/api-key | sed 's/  */ /g' | cut -d ' ' -f 1,3,4",
        );
        assert_eq!(owners, "drwxr-x--- root kmagent\n-rw-r----- root kmagent\n-rw-r----- root kmagent\n");
        assert_eq!(sh("readlink /etc/kmagent/config.yaml"), format!("{agents}/config.yaml\n"));
        assert_eq!(sh(&format!("ls -l {agents}/config.yaml | cut -d ' ' -f 1")), "-rw-------\n");
        assert_eq!(sh("cat /etc/kmagent/config.yaml /etc/kmagent/api-key"), "name: first\n");
        // Again, after what the agent and an operator have written; and a tool has replaced the link.
        sh(
            "echo sk_1 >/etc/kmagent/api-key; rm /etc/kmagent/config.yaml; echo 'name: second' >/etc/kmagent/config.yaml",
        );
        let upgrade = match format {
            "apk" => format!("{scripts}/.post-upgrade 2.0.0 1.9.9"),
            _ => format!("{scripts}/prerm upgrade; {scripts}/postinst configure"),
        };
        // Names that the agent's user has taken: directories, which root neither stumbles over nor goes down into.
        sh(&format!(
            "cd {agents}; rm config.yaml; for name in config.yaml config.yaml.new; do mkdir $name; echo x >$name/x; done; chown -R kmagent:kmagent ."
        ));
        // Another service may read it, while no agent runs; and then none may.
        let said = sh(&upgrade);
        assert!(said.contains("keeping /etc/kmagent/config.yaml where it is, since others may read it"), "{said}");
        sh("chmod 600 /etc/kmagent/config.yaml; echo 'collector-endpoint: http://gw:4318' >>/etc/kmagent/agent.yaml");
        let said = sh(&upgrade);
        assert!(said.contains("kmagent: the agent asks no API for its config: set update-endpoint"), "{said}");
        assert_eq!(
            sh(&format!("cat /etc/kmagent/api-key {agents}/config.yaml /etc/kmagent/config.yaml")),
            "sk_1\nname: second\nname: second\n"
        );
        assert_eq!(sh(&format!("cat {agents}/replaced.*/config.yaml*/x")), "x\nx\n");
        sh(&format!("{scripts}/{pre_removal}"));
        sh("[ -e /etc/kmagent/api-key ]");
        if format == "ipk" {
            assert_eq!(sh("cat /tmp/rc.log"), "enable\nstop\nstart\n".repeat(3) + "stop\ndisable\n");
        }
        // A tarball's installation is refused by what runs before.
        sh("mkdir -p /opt/lib/kmagent; echo /opt >/etc/kmagent.prefix; : >/opt/lib/kmagent/manifest");
        let before = if format == "apk" { ".pre-install" } else { "preinst" };
        let output = root.run(&[&format!("{scripts}/{before}")]);
        assert!(
            output.code == Some(1) && output.stderr.contains("/opt/lib/kmagent/install.sh --uninstall"),
            "{output:#?}"
        );
    }
}
