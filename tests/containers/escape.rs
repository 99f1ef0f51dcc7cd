//! What a container could reach of its host: open_by_handle_at(2) opens every file of a file system, given any file of
//! it, with CAP_DAC_READ_SEARCH, which Docker's seccomp profile then allows; connect(2) does not ask whether a socket's
//! mount is read-only; and read-only ends where another file system is mounted.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use super::config::{Host, rights};
use super::container::Volumes;
use super::files::compose;
use crate::support::bin;
use crate::support::needs;
use crate::support::temp_dir::TempDir;

/// The handle of `passwd` in a directory. A container guesses it: it is little more than an inode's number.
const HANDLE: &str = r#"
    my ($name_to, $host) = @ARGV;
    my ($handle, $id) = (pack("IIx128", 128, 0), pack("I", 0));
    syscall($name_to + 0, -100, "$host/passwd", $handle, $id, 0) == 0 or die "no handle: $!";
    print unpack("H*", $handle);
"#;

/// Opens it by way of another directory of that file system, and appends a line.
const OPEN: &str = r#"
    my ($open_by, $volume, $hex) = @ARGV;
    my $handle = pack("H*", $hex);
    opendir(my $dir, $volume) or die "volume: $!";
    my $fd = syscall($open_by + 0, fileno($dir), $handle, 2 | 1024);
    $fd >= 0 or do { print "refused: ", $! + 0; exit };
    open(my $file, ">>&=", $fd) or die "stream: $!";
    print $file "planted\n";
    print "written";
"#;

/// The numbers of name_to_handle_at(2) and open_by_handle_at(2).
const CALLS: [&str; 2] = if cfg!(target_arch = "x86_64") {
    ["303", "304"]
} else if cfg!(target_arch = "x86") {
    ["341", "342"]
} else {
    ["264", "265"]
};

#[track_caller]
fn perl(before: &[String], script: &str, args: &[&str]) -> String {
    let mut words = before.iter().map(String::as_str).chain(["perl", "-e", script]).chain(args.iter().copied());
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::null());
    let output = bin::output(command);
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout
}

#[test]
fn no_file_of_the_host_is_opened_by_its_handle() {
    if !needs::root() || !needs::that(Path::new("/usr/bin/perl").exists(), "no perl") {
        return;
    }
    // Memory, as a temporary directory may be on an overlay, which has no handles.
    let (dir, shm) = (TempDir::new(), Path::new("/dev/shm"));
    let host = shm.join(dir.path().file_name().unwrap());
    fs::create_dir(&host).unwrap();
    fs::create_dir(host.join("volume")).unwrap();
    fs::write(host.join("passwd"), "root:x:0:0\n").unwrap();
    let place = host.display().to_string();
    let handle = perl(&[], HANDLE, &[CALLS[0], &place]);
    let mut service = compose()["services"]["kmagent"].clone();
    let attempt = |service: &serde_json::Value| {
        let setpriv = std::iter::once("setpriv".to_string()).chain(rights(service, &[])).collect::<Vec<_>>();
        perl(&setpriv, OPEN, &[CALLS[1], &format!("{place}/volume"), &handle])
    };
    // EPERM
    assert_eq!(attempt(&service), "refused: 1");
    assert_eq!(fs::read_to_string(host.join("passwd")).unwrap(), "root:x:0:0\n");
    // The negative control: as the container was before.
    service["cap_add"] = serde_json::json!(["DAC_READ_SEARCH"]);
    assert_eq!(attempt(&service), "written");
    assert_eq!(fs::read_to_string(host.join("passwd")).unwrap(), "root:x:0:0\nplanted\n");
    fs::remove_dir_all(host).unwrap();
}

#[test]
fn no_socket_of_the_host_is_reached_and_nothing_mounted_is_writable() {
    if !needs::root() {
        return;
    }
    let (host, volumes, dir) = (Host::new(), Volumes::new(), TempDir::new());
    let run = Path::new("/run").join(dir.path().file_name().unwrap());
    fs::create_dir(&run).unwrap();
    let sockets = [run.join("docker.sock"), dir.join("containerd.sock")];
    let _listeners = sockets.each_ref().map(|socket| UnixListener::bind(socket).unwrap());
    let container = host.run(&volumes).start();
    let root = Path::new("/proc").join(container.init.to_string()).join("root");
    let seen = sockets.each_ref().map(|socket| root.join("hostfs").join(socket.strip_prefix("/").unwrap()).exists());
    fs::remove_dir_all(&run).unwrap();
    assert_eq!(seen, [false, false]);
    assert!(root.join("hostfs/proc/1/mountinfo").exists(), "what host_metrics reads");

    let service = &compose()["services"]["kmagent"];
    let binds = service["volumes"].as_array().unwrap().iter().filter(|mount| mount["type"] == "bind");
    let mut expected: Vec<String> = binds.map(|mount| mount["target"].as_str().unwrap().to_string()).collect();
    expected.sort();
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", container.init)).unwrap();
    let mut found = Vec::new();
    for words in table.lines().map(|line| line.split(' ').collect::<Vec<_>>()) {
        if ["/hostfs", "/var/log", "/var/lib/docker"].iter().any(|of_host| Path::new(words[4]).starts_with(of_host)) {
            assert!(words[5].split(',').any(|option| option == "ro"), "{words:?}");
            found.push(words[4].to_string());
        }
    }
    found.sort();
    assert_eq!(found, expected, "nothing is mounted below them");
}
