//! What hosts have that this one has not: busybox's own adduser (Alpine), procd (OpenWrt), chkconfig, rcN.d directories
//! without a program for them. Each is stood in for by a script that does as the real one, in a root with busybox and
//! nothing else.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::root::{Root, available};
use super::stage::{OLDER, VERSION, assert_done, assert_fails, release};
use super::tree::assert_same;
use crate::support::wait::wait_until;

const QUICK: [(&str, &str); 2] = [("KM_MIN_UPTIME", "300ms"), ("KM_HOST_NAME", "host")];

#[track_caller]
fn expect_running(root: &Root, version: &str) {
    let status = root.wait_status("it runs", |status| status["collector"]["state"] == "running");
    assert_eq!(status["agent_version"], version);
    let owner = fs::metadata(root.join(&format!("/proc/{}", status["pid"]))).unwrap().uid();
    assert_ne!(owner, 0);
    let settings = fs::metadata(root.join("/etc/kmagent")).unwrap();
    assert_eq!((settings.uid(), settings.mode() & 0o7777), (0, 0o750));
    let config = fs::read_link(root.join("/etc/kmagent/config.yaml")).unwrap();
    assert_eq!(fs::metadata(root.join(config.to_str().unwrap())).unwrap().uid(), owner);
}

/// The four applets, as busybox's loginutils/adduser.c, addgroup.c and deluser.c have them.
pub const APPLETS: &str = r#"#!/bin/sh
applet=${0##*/}
die() { echo "$applet: $*" >&2; exit 1; }
[ "$1" != --help ] || { echo "BusyBox v1.36.1 multi-call binary." >&2; exit 1; }
echo "$applet $*" >>/run/applets
[ ! -e /run/refuse-"$applet" ] || die "refused"
number() { grep "^$2:" "/etc/$1" | cut -d : -f 3; }
free() { id=100; while grep -q "^[^:]*:[^:]*:$id:" /etc/passwd /etc/group; do id=$((id + 1)); done; echo $id; }
join() {
    [ -n "$(number passwd "$1")" ] || die "unknown user $1"
    [ -n "$(number group "$2")" ] || die "unknown group $2"
    ! grep "^$2:" /etc/group | grep -q "[:,]$1\(,\|\$\)" || return 0
    sed -i "s/^$2:.*/&,$1/; s/^\($2:[^:]*:[^:]*:\),/\1/" /etc/group
}
leave() { sed -i "/^$2:/{ s/\([:,]\)$1\(,\|\$\)/\1/; s/,\$//; }" /etc/group; }
remove_group() {
    gid=$(number group "$1")
    ! cut -d : -f 4 /etc/passwd | grep -qx "$gid" || die "'$1' is still a primary group!"
    sed -i "/^$1:/d" /etc/group
}
case "$applet $*" in
    "addgroup -S "*)
        [ -z "$(number group "$2")" ] || die "group '$2' in use"
        echo "$2:x:$(free):" >>/etc/group
        ;;
    "addgroup "*) join "$1" "$2" ;;
    "adduser -S -D -H -h "*" -s "*" -G "*)
        [ -z "$(number passwd "${10}")" ] || die "user '${10}' in use"
        gid=$(number group "$9")
        [ -n "$gid" ] || die "unknown group $9"
        echo "${10}:x:$(free):$gid:Linux User,,,:$5:$7" >>/etc/passwd
        echo "${10}:!:20000:0:99999:7:::" >>/etc/shadow
        join "${10}" "$9"
        ;;
    "deluser "*)
        [ -n "$(number passwd "$1")" ] || die "unknown user $1"
        sed -i "/^$1:/d" /etc/passwd /etc/shadow
        for group in $(cut -d : -f 1 /etc/group); do leave "$1" "$group"; done
        [ -z "$(number group "$1")" ] || remove_group "$1"
        ;;
    "delgroup "*" "*) leave "$1" "$2" ;;
    "delgroup "*)
        [ -n "$(number group "$1")" ] || die "unknown group $1"
        remove_group "$1"
        ;;
    *) die "usage" ;;
esac
"#;

#[test]
fn accounts_by_the_applets_of_busybox() {
    if !available() {
        return;
    }
    let root = Root::busybox();
    for applet in ["adduser", "addgroup", "deluser", "delgroup"] {
        root.write(&format!("/usr/sbin/{applet}"), APPLETS, 0o755);
    }
    root.write("/etc/group", "root:x:0:\nadm:x:4:root\n", 0o644);
    root.write("/etc/shadow", "root:*:::::::\n", 0o600);
    let (before, stage) = (root.tree(), release());

    for (applet, text) in [("adduser", "cannot create the user"), ("addgroup", "cannot create the group")] {
        root.write(&format!("/run/refuse-{applet}"), "", 0o644);
        assert_fails(&root.install(&stage, &QUICK, &[]), 71, text);
        fs::remove_file(root.join(&format!("/run/refuse-{applet}"))).unwrap();
        assert_same(&before, &root.tree(), applet);
    }
    fs::remove_file(root.join("/run/applets")).unwrap();
    assert_done(&root.install(&stage, &QUICK, &[]));
    expect_running(&root, VERSION);
    assert!(root.read("/etc/passwd").contains(":/nonexistent:/usr/sbin/nologin\n"), "{}", root.read("/etc/passwd"));
    assert!(root.read("/etc/group").contains("adm:x:4:root,kmagent\n"), "{}", root.read("/etc/group"));
    assert_done(&root.install(&stage, &[], &["--purge"]));
    assert_same(&before, &root.tree(), "before and after");
    assert_eq!(
        root.read("/run/applets"),
        "addgroup -S kmagent\n\
         adduser -S -D -H -h /nonexistent -s /usr/sbin/nologin -G kmagent kmagent\n\
         addgroup kmagent adm\n\
         delgroup kmagent adm\n\
         deluser kmagent\n",
        "deluser removes the group, too"
    );
}

/// As chkconfig(8) has it: links by the script's own header, and an error for a service that is not there.
const CHKCONFIG: &str = r#"#!/bin/sh
script=/etc/init.d/$2
[ -x "$script" ] || { echo "error reading information on service $2: No such file or directory" >&2; exit 1; }
case $1 in
    --add) verb='ln -s ../init.d/'$2 ;;
    --del) verb='rm' ;;
    *) exit 2 ;;
esac
levels() { sed -n "s/^# Default-$1: *//p" "$script"; }
for level in $(levels Start); do $verb "/etc/rc$level.d/S50$2" || exit 1; done
for level in $(levels Stop); do $verb "/etc/rc$level.d/K50$2" || exit 1; done
"#;

#[test]
fn links_in_rc_directories() {
    if !available() {
        return;
    }
    let root = Root::busybox();
    for level in 0..=6 {
        fs::create_dir(root.join(&format!("/etc/rc{level}.d"))).unwrap();
    }
    let stage = release();
    let links = || -> Vec<String> {
        let links = root.tree().into_iter().filter(|(path, entry)| path.starts_with("/etc/") && entry.kind == 'l');
        let links = links.filter(|(path, _)| path != "/etc/kmagent/config.yaml");
        links.map(|(path, entry)| format!("{path} {}", entry.content)).collect()
    };
    for (chkconfig, start, stop) in [(false, "S90", "K10"), (true, "S50", "K50")] {
        if chkconfig {
            root.write("/sbin/chkconfig", CHKCONFIG, 0o755);
        }
        let before = root.tree();
        assert_done(&root.install(&stage, &QUICK, &[]));
        expect_running(&root, VERSION);
        let mut expected: Vec<String> =
            [(0, stop), (1, stop), (2, start), (3, start), (4, start), (5, start), (6, stop)]
                .into_iter()
                .map(|(level, name)| format!("/etc/rc{level}.d/{name}kmagent ../init.d/kmagent"))
                .collect();
        if !chkconfig {
            // That directory is busybox's.
            expected.insert(0, "/etc/init.d/S90kmagent ../init.d/kmagent".into());
        }
        assert_eq!(links(), expected);
        assert_done(&root.install(&stage, &[], &["--purge"]));
        assert_same(&before, &root.tree(), "before and after");
    }
}

/// After /etc/rc.common and procd.sh of OpenWrt, with a shell in the place of procd. As there, stop does not wait for
/// the end.
const RC_COMMON: &str = r#"#!/bin/sh
initscript=$1 name=${1##*/} running=/tmp/procd-$name
procd_open_instance() { :; }
procd_set_param() {
    case $1 in
        command) shift && command=$1 && shift && arguments=$* ;;
        user) user=$2 ;;
        group) group=$2 ;;
    esac
}
procd_close_instance() {
    [ ! -e "$running" ] || return 0
    (
        trap 'kill $child; wait $child; exit' TERM
        while :; do
            start-stop-daemon -S -c "$user:$group" -x "$command" -- $arguments &
            child=$!
            wait $child
            sleep 1
        done
    ) </dev/null >/dev/null 2>&1 &
    echo $! >"$running"
}
start() { start_service; }
stop() { if [ -e "$running" ]; then kill "$(cat "$running")" && rm "$running"; fi; }
restart() { stop; start; }
status() { if [ -e "$running" ]; then echo running; else echo inactive && return 3; fi; }
enable() { ln -sf "../init.d/$name" "/etc/rc.d/S$START$name" && ln -sf "../init.d/$name" "/etc/rc.d/K$STOP$name"; }
disable() { rm -f "/etc/rc.d"/S??"$name" "/etc/rc.d"/K??"$name"; }
. "$initscript"
case $2 in start | stop | restart | status | enable | disable) "$2" ;; *) exit 1 ;; esac
"#;

#[test]
fn a_life_under_procd() {
    if !available() {
        return;
    }
    let root = Root::busybox();
    root.write("/sbin/procd", "#!/bin/sh\n", 0o755);
    root.write("/etc/rc.common", RC_COMMON, 0o755);
    fs::create_dir(root.join("/etc/rc.d")).unwrap();
    let (before, link) = (root.tree(), "/etc/rc.d/S95kmagent");
    let (old, new) = (release().older(), release());

    let output = root.install(&old, &QUICK, &[]);
    assert_done(&output);
    assert!(output.stdout.contains("service manager: procd\n"), "{output:#?}");
    expect_running(&root, OLDER);
    assert!(root.join("/etc/rc.d/K10kmagent").is_symlink() && root.join(link).exists());
    assert_done(&root.install(&new, &[], &[]));
    expect_running(&root, VERSION);
    let broken = release().write(
        "bin/kmagent",
        b"#!/bin/sh\n[ \"$1\" != start ] || exit 70\nexec /tmp/new/bin/kmagent \"$@\"\n",
        0o755,
    );
    root.bind(&new.path(), "new");
    assert_fails(&root.install(&broken, &[], &[]), 69, "the agent does not start");
    expect_running(&root, VERSION);

    assert_eq!(root.run(&["/etc/init.d/kmagent", "stop"]).code, Some(0));
    wait_until("its end", || root.processes().is_empty());
    assert_done(&root.install(&old, &[], &[]));
    assert!(root.processes().is_empty() && root.join(link).exists(), "it was stopped by hand");
    assert_eq!(root.run(&["/etc/init.d/kmagent", "start"]).code, Some(0));
    expect_running(&root, OLDER);
    assert_done(&root.install(&new, &[], &["--purge"]));
    assert_eq!(root.processes(), [0; 0], "what is removed does not run any more");
    assert_same(&before, &root.tree(), "before and after");
}
