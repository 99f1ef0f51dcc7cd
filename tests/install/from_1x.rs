//! The way from the KloudMate Agent 1.x: its package, a unit of its own, its settings, and where it had its config.
//!
//! The package is made here after what is known of it: names, files, and what its maintainer scripts do.

use super::debian::install_with;
use super::root::{PATIENCE, Root, available};
use super::stage::{Stage, VERSION, assert_done, assert_fails, release};
use super::systemd::{Machine, assert_same};
use super::tree::assert_untouched;
use crate::support::bin::{self, Output};
use crate::support::wait::wait_for;

const API_OF_1_X: &str = "https://api.kloudmate.com/agents/config-check";

/// A shell function: `package VERSION` makes /tmp/VERSION.deb.
const PACKAGE: &str = r#"
package() {
    tree=$(mktemp -d)
    mkdir -p "$tree/DEBIAN" "$tree/usr/bin" "$tree/lib/systemd/system" "$tree/etc/kmagent"
    printf '%s\n' 'Package: kmagent' "Version: $1" 'Architecture: all' 'Section: utils' 'Priority: optional' \
        'Maintainer: KloudMate' 'Description: KloudMate agent' >"$tree/DEBIAN/control"
    cat >"$tree/DEBIAN/preinst" <<'END'
#!/bin/sh
! systemctl is-active --quiet kmagent || systemctl stop kmagent
END
    cat >"$tree/DEBIAN/postinst" <<'END'
#!/bin/sh
[ -n "$KM_API_KEY" ] && [ -n "$KM_COLLECTOR_ENDPOINT" ] || exit 1
mkdir -p /etc/kmagent
printf 'api-key: "%s"\ncollector-endpoint: "%s"\n' "$KM_API_KEY" "$KM_COLLECTOR_ENDPOINT" >/etc/kmagent/agent.yaml
[ -z "$KM_CONFIG_CHECK_INTERVAL" ] || echo "config-check-interval: $KM_CONFIG_CHECK_INTERVAL" >>/etc/kmagent/agent.yaml
chmod 600 /etc/kmagent/agent.yaml
END
    cat >"$tree/DEBIAN/prerm" <<'END'
#!/bin/sh
systemctl stop kmagent
systemctl disable kmagent
:
END
    cat >"$tree/DEBIAN/postrm" <<'END'
#!/bin/sh
systemctl stop kmagent
rm -f /etc/systemd/system/kmagent.service
systemctl daemon-reload
systemctl reset-failed
:
END
    cat >"$tree/usr/bin/kmagent" <<'END'
#!/bin/sh
case $* in
    --version) echo "kmagent version 1.2.0" ;;
    "--agent-config /etc/kmagent/agent.yaml start") exec sleep 1000000 ;;
    *) exit 1 ;;
esac
END
    printf '%s\n' '[Unit]' 'Description=KloudMate agent for OpenTelemetry' 'After=network.target' '[Service]' \
        'ExecStart=/usr/bin/kmagent --agent-config /etc/kmagent/agent.yaml start' 'Restart=on-failure' 'User=root' \
        '[Install]' 'WantedBy=multi-user.target' >"$tree/lib/systemd/system/kmagent.service"
    echo 'name: of-1.x' >"$tree/etc/kmagent/config.yaml"
    chmod 755 "$tree" "$tree/DEBIAN"/p* "$tree/usr/bin/kmagent"
    dpkg-deb --root-owner-group --build "$tree" "/tmp/$1.deb" >/dev/null
}
"#;

/// As its install_linux.sh does it; the collector sends to a gateway, not to the vendor.
const INSTALLED: &str = "
    package 1.2.0
    KM_API_KEY=sk_1 KM_COLLECTOR_ENDPOINT=http://gateway.internal:4318 KM_CONFIG_CHECK_INTERVAL=30 dpkg -i /tmp/1.2.0.deb
";

const STARTED: &str = "systemctl daemon-reload; systemctl enable -q kmagent; systemctl restart kmagent";

/// What the service is, by systemd.
const SERVICE: &str =
    "systemctl is-active kmagent; systemctl is-enabled kmagent; systemctl show --value -p Description kmagent";
const OF_1_X: &str = "active\nenabled\nKloudMate agent for OpenTelemetry\n";
const OF_2_X: &str = "active\nenabled\nkmagent, keeps the OpenTelemetry Collector alive and its config current\n";

/// What the package manager knows of it.
fn entry(machine: &Machine) -> String {
    machine.sh("dpkg-query -W -f '${Status}' kmagent 2>/dev/null").stdout
}

fn main_process(machine: &Machine) -> String {
    machine.does("systemctl show --value -p MainPID kmagent")
}

#[test]
fn its_package_goes_and_takes_nothing_along() {
    if !available() {
        return;
    }
    let machine = Machine::boot();
    // Packed by an ordinary user.
    machine.does(&format!("{PACKAGE} {INSTALLED} chown -R 1001:1001 /etc/kmagent; {STARTED}"));
    let before = machine.tree();
    let settings = machine.does("cat /etc/kmagent/agent.yaml");

    // ---- rolled back, it is all there
    assert_fails(&machine.install("broken", ""), 69, "the agent does not start");
    assert_same(&before, &machine.tree());
    assert_eq!((entry(&machine).as_str(), machine.sh(SERVICE).stdout.as_str()), ("install ok installed", OF_1_X));

    // ---- taken over
    let output = machine.install("new", "");
    assert_done(&output);
    assert!(output.stdout.contains("removing /usr/bin/kmagent of the package kmagent 1.2.0\n"), "{output:#?}");
    machine.expect_running(VERSION);
    assert_eq!((entry(&machine).as_str(), machine.sh(SERVICE).stdout.as_str()), ("", OF_2_X));
    assert_eq!(machine.sh("ls /usr/bin/kmagent /lib/systemd/system/kmagent.service").stdout, "");
    let config = machine.does("cat /etc/kmagent/config.yaml; readlink /etc/kmagent/config.yaml");
    assert_eq!(config, "name: of-1.x\n/var/lib/kmagent/config.yaml");
    assert_eq!(
        machine.does("cat /etc/kmagent/agent.yaml"),
        format!(
            "{settings}\n\n# Added by install.sh: the default of the KloudMate Agent 1.x, whose settings these are.\n\
             update-endpoint: \"{API_OF_1_X}\""
        )
    );
    assert_eq!(machine.status()["polling"]["endpoint"], API_OF_1_X);
    let pid = main_process(&machine);
    machine.does("dpkg --purge kmagent; dpkg --audit");
    assert_eq!((main_process(&machine), machine.sh(SERVICE).stdout.as_str()), (pid, OF_2_X));
    let output = machine.install("new", "");
    assert!(output.stdout.contains("all files are up to date") && !output.stdout.contains("package"), "{output:#?}");

    // ---- the negative control: put over the installation and removed, it stops the service and takes the config along
    machine.does(&format!("{PACKAGE} {INSTALLED} dpkg -r kmagent"));
    assert_eq!(machine.sh("systemctl is-active kmagent; systemctl is-enabled kmagent").stdout, "inactive\ndisabled\n");
    assert_eq!(machine.sh("test -h /etc/kmagent/config.yaml").code, Some(1));
    assert_eq!(entry(&machine), "deinstall ok config-files", "a purge would run its postrm");
    assert_done(&machine.install("new", ""));
    machine.expect_running(VERSION);
    assert_eq!((entry(&machine).as_str(), machine.sh(SERVICE).stdout.as_str()), ("", OF_2_X));
}

/// Put there by hand, in a place that goes before ours; and what an operator has masked.
#[test]
fn what_goes_before_the_unit_is_found_before_anything_is_touched() {
    if !available() {
        return;
    }
    let machine = Machine::boot();
    machine.does(&format!(
        "{PACKAGE} package 1.2.0; dpkg-deb -x /tmp/1.2.0.deb /tmp/1.x && cp -a /tmp/1.x/etc/kmagent /etc/
         cp -a /tmp/1.x/usr/bin/kmagent /usr/bin/; cp -a /tmp/1.x/lib/systemd/system/kmagent.service /etc/systemd/system/
         printf 'api-key: k\\nmin-uptime: 500ms\\n' >/etc/kmagent/agent.yaml; {STARTED}"
    ));
    let pid = main_process(&machine);
    let refused = |text: &str| -> Output {
        let before = machine.tree();
        let output = machine.install("new", "");
        assert_fails(&output, 71, text);
        assert_same(&before, &machine.tree());
        assert_eq!(main_process(&machine), pid, "{text}");
        output
    };
    let type_what_it_says = |output: &Output| {
        let line = output.stderr.split('`').nth(1).expect("a command to type");
        machine.does(line);
    };
    let program = "starts another program than /usr/local/bin/kmagent";
    type_what_it_says(&refused(&format!("/etc/systemd/system/kmagent.service {program}")));
    let drop_in = "cd /etc/systemd/system && mkdir -p kmagent.service.d \
                   && printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/kmagent start\\n' >kmagent.service.d/x.conf";
    machine.does(drop_in);
    type_what_it_says(&refused(&format!("/etc/systemd/system/kmagent.service.d/x.conf {program}")));
    for mask in [
        "systemctl mask kmagent",
        "systemctl mask --runtime kmagent",
        ": >/etc/systemd/system/kmagent.service && systemctl daemon-reload",
    ] {
        machine.does(mask);
        type_what_it_says(&refused("kmagent.service is masked"));
    }
    // systemd takes a link to where a mask was along with that.
    machine.does("systemctl enable -q kmagent");
    // A roll back finds it where the command has put it.
    assert_fails(&machine.install("broken", ""), 69, "the agent does not start");
    assert_eq!(machine.sh(SERVICE).stdout, OF_1_X);
    assert_done(&machine.install("new", ""));
    machine.expect_running(VERSION);
    assert_eq!(machine.sh(SERVICE).stdout, OF_2_X);
    assert_eq!(machine.does(&format!("stat -c %U /proc/{}", main_process(&machine))), "kmagent");
    // Where the service is to stay stopped, a mask is no obstacle.
    machine.does("systemctl stop kmagent && systemctl mask -q kmagent");
    assert_done(&machine.install("old", ""));
}

/// The unit lets the agent write to its own directories alone.
#[test]
fn a_config_elsewhere_is_made_replaceable_first() {
    if !available() {
        return;
    }
    let machine = Machine::boot();
    let settings = "api-key: k\ncollector-endpoint: https://otel.kloudmate.com:4318\nmin-uptime: 500ms";
    machine.does(&format!(
        "mkdir -p /etc/kmagent /opt/otel && echo 'name: mine' >/opt/otel/config.yaml
         printf '%s\\n' '{settings}' 'config: /opt/otel/config.yaml' >/etc/kmagent/agent.yaml"
    ));
    let before = machine.tree();
    let output = machine.install("new", "");
    let text = "the agent could not replace its config /opt/otel/config.yaml: the unit allows it to write to";
    assert_fails(&output, 78, text);
    assert_same(&before, &machine.tree());

    // What is to be typed stands apart: first how the config is moved, then how it may stay.
    let lines: Vec<&str> = output.stderr.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    machine.does(&format!("cp -a /etc/kmagent /opt/otel /root/; {}", lines[0]));
    assert_eq!(machine.does("cat /etc/kmagent/config.yaml /etc/kmagent/agent.yaml"), format!("name: mine\n{settings}"));
    machine.does("rm -r /etc/kmagent /opt/otel && mv /root/kmagent /etc/ && mv /root/otel /opt/");
    machine.does(&lines[1..].join("\n"));
    assert_done(&machine.install("new", ""));
    machine.expect_running(VERSION);
    assert_eq!(machine.status()["config"]["path"], "/opt/otel/config.yaml");
    let replace = |dir: &str| {
        machine.sh(&format!(
            "nsenter --target {} --mount setpriv --reuid=kmagent --regid=kmagent --clear-groups --inh-caps=-all \
                 sh -c 'echo name: new >{dir}/new && mv {dir}/new /opt/otel/config.yaml'",
            main_process(&machine)
        ))
    };
    assert_eq!(replace("/opt/otel").code, Some(0));
    assert_ne!(replace("/opt").code, Some(0), "nothing else became writable");
}

/// Answers as rpm(8) does for the package, and writes down what it is asked to do.
const RPM: &str = r#"#!/bin/sh
files='/usr/bin/kmagent /usr/lib/systemd/system/kmagent.service /usr/libexec/kmagent/postinst /etc/kmagent/config.yaml'
case "$*" in
    "-qf /usr/bin/kmagent --qf "*) [ -e /var/lib/has-1.x ] && echo 'kmagent installed 1.2.0' ;;
    "-q kmagent --qf "*) echo "package kmagent is not installed" && exit 1 ;;
    "-ql kmagent") printf '%s\n' $files ;;
    "-e --justdb --noscripts kmagent") rm /var/lib/has-1.x && echo "$*" >>/var/lib/asked ;;
    *) echo "unexpected: $*" >>/var/lib/asked && exit 1 ;;
esac
"#;

#[test]
fn an_rpm_is_asked_for_and_removed_without_its_scripts() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let stage = release();
    root.bind(&stage.path(), "kmagent");
    let files = ["/usr/bin/kmagent", "/usr/lib/systemd/system/kmagent.service", "/usr/libexec/kmagent/postinst"];
    for file in files.into_iter().chain(["/var/lib/has-1.x"]) {
        root.write(file, "#!/bin/sh\nexit 1\n", 0o755);
    }
    root.write("/etc/kmagent/config.yaml", "name: of-1.x\n", 0o644);
    root.write("/etc/kmagent/agent.yaml", "api-key: \"k\"\ncollector-endpoint: \"http://gw:4318\"\n", 0o600);
    assert_done(&install_with(&root, "rpm", RPM, &[], &["--init", "systemd"]));
    assert_eq!(root.read("/var/lib/asked"), "-e --justdb --noscripts kmagent\n");
    for gone in files.into_iter().chain(["/usr/libexec/kmagent"]) {
        assert!(!root.join(gone).exists(), "{gone}");
    }
    assert_eq!(root.read("/var/lib/kmagent/config.yaml"), "name: of-1.x\n");
    assert!(root.read("/etc/kmagent/agent.yaml").contains(API_OF_1_X));
}

/// The default config of 1.x has components that the small collector lacks; that is known by asking this one.
#[test]
fn a_config_with_components_that_the_collector_lacks_is_left_to_1_x() {
    if !available() {
        return;
    }
    let root = Root::debian();
    root.write("/etc/kmagent/agent.yaml", "api-key: \"k\"\ncollector-endpoint: \"http://gw:4318\"\n", 0o600);
    let config = "receivers: {hostmetrics: {scrapers: {cpu: }}}\nprocessors: {resourcedetection: {detectors: [system]}}\n\
                  exporters: {debug: }\nservice:\n  pipelines:\n    \
                  metrics: {receivers: [hostmetrics], processors: [resourcedetection], exporters: [debug]}\n";
    root.write("/etc/kmagent/config.yaml", config, 0o644);
    let before = root.tree();
    let output = root.install(&Stage::with_collector(&bin::collector()), &[], &["--init", "sysv"]);
    let said = "/etc/kmagent/config.yaml names components that the collector of this tarball does not have; nothing was \
                changed: use the tarball -edge, which has those of 1.x's default config, or -full";
    assert_fails(&output, 65, said);
    assert!(output.stderr.contains("unknown type: \"resourcedetection\""), "{output:#?}");
    assert_untouched(&before, &root.tree(), "an installation that was refused");
}

/// One of this program: two of them would share settings and service.
#[test]
fn a_package_of_2_x_is_left_to_the_package_manager() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let make = format!("{PACKAGE} package 2.0.0; KM_API_KEY=k KM_COLLECTOR_ENDPOINT=e dpkg -i /tmp/2.0.0.deb");
    let made = root.run(&["sh", "-c", &make]);
    assert_eq!(made.code, Some(0), "{made:#?}");
    let before = root.tree();
    let output = root.install(&release(), &[], &[]);
    assert_fails(&output, 64, "kmagent is installed by the package kmagent 2.0.0: upgrade that, or remove it first");
    assert_untouched(&before, &root.tree(), "an installation that was refused");
}

/// Of settings that are not of 1.x nothing is added; that nobody is asked is said.
#[test]
fn an_installation_without_config_checks_says_so() {
    if !available() {
        return;
    }
    let root = Root::debian();
    let settings = "api-key: \"k\"\ncollector-endpoint: \"http://gw:4318\"\nmin-uptime: 300ms\n";
    root.write("/etc/kmagent/agent.yaml", settings, 0o600);
    let stage = release();
    let output = root.install(&stage, &[], &["--init", "sysv"]);
    let loud = "install.sh: there are NO CONFIG CHECKS: no update-endpoint can be derived from collector-endpoint, \
                which is at gw, not in the domain kloudmate.com: set update-endpoint in /etc/kmagent/agent.yaml, \
                and run kmagent reload\n";
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), loud), "{output:#?}");
    assert_eq!(root.read("/etc/kmagent/agent.yaml"), settings);
    wait_for("an agent", PATIENCE, || root.status());
    // Silent where the agent knows better, from its own environment.
    root.write("/etc/default/kmagent", "KM_UPDATE_ENDPOINT=http://127.0.0.1:9/x\n", 0o600);
    assert_eq!(root.run(&["/etc/init.d/kmagent", "restart"]).code, Some(0));
    assert_done(&root.install(&stage, &[], &[]));
}
