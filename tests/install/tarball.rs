//! A tarball, packed as a release is, and installed by the commands that README.md gives for it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::root::{PATIENCE, Root, available};
use super::stage::{COLLECTOR, VERSION, assert_done, write};
use crate::support::bin::{self, Output};
use crate::support::source;
use crate::support::temp_dir::TempDir;

/// The commands, without `sudo`, and the name that the tarball has there.
fn commands() -> (String, String) {
    let readme = source::read("README.md");
    let block = readme.split("```").find(|block| block.contains("sha256sum -c")).expect("no commands in README.md");
    let block = block.trim_start_matches("sh\n").replace("sudo ", "");
    let name = block.split_whitespace().find_map(|word| word.strip_suffix(".tar.gz")).unwrap().to_string();
    assert!(name.starts_with(&format!("kmagent-{VERSION}-")), "{name}");
    (block, name)
}

/// The tarball and its sum, with the agent under test and the stand-in collector.
fn packed() -> TempDir {
    let dir = TempDir::new();
    let collector = dir.join("collector");
    write(&collector, COLLECTOR.as_bytes(), 0o755);
    let mut command = Command::new(source::path("dist/pack"));
    command.args([dir.path(), Path::new(&commands().1), &bin::kmagent(), &collector]);
    command.env("SOURCE_DATE_EPOCH", "1000000000").stdin(Stdio::null());
    let output = bin::output_within(PATIENCE, command);
    assert_eq!(output.code, Some(0), "{output:?}");
    fs::remove_file(collector).unwrap();
    dir
}

/// With GNU's tar and sha256sum, into a DESTDIR.
fn installed(dir: &Path, dest: &Path, commands: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-ec", commands]).current_dir(dir).stdin(Stdio::null());
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("DESTDIR", dest);
    bin::output_within(PATIENCE, command)
}

/// The one line of the quick start, without `sudo`.
fn quick_start() -> String {
    let readme = source::read("README.md");
    let line = readme.lines().find(|line| line.starts_with("tar xzf ") && line.contains("install.sh"));
    line.expect("no quick start in README.md").replace("sudo ", "")
}

#[test]
fn as_the_readme_says() {
    for commands in [commands().0, quick_start()] {
        as_said(&commands);
    }
}

#[track_caller]
fn as_said(commands: &str) {
    let (dir, dest) = (packed(), TempDir::new());
    assert_done(&installed(dir.path(), dest.path(), commands));
    let agent = fs::read(dest.join("usr/local/bin/kmagent")).unwrap();
    assert!(agent == fs::read(bin::kmagent()).unwrap(), "it is not what was packed");
    assert_eq!(fs::read_to_string(dest.join("usr/local/lib/kmagent/kmagent-collector")).unwrap(), COLLECTOR);
}

#[test]
fn a_damaged_one_is_not_unpacked() {
    let (dir, dest) = (packed(), TempDir::new());
    let tarball = dir.join(format!("{}.tar.gz", commands().1));
    let mut bytes = fs::read(&tarball).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&tarball, bytes).unwrap();
    let output = installed(dir.path(), dest.path(), &commands().0);
    assert!(output.code != Some(0) && output.stdout.contains("FAILED"), "{output:?}");
    assert!(fs::read_dir(dest.path()).unwrap().next().is_none());
}

#[test]
fn as_the_readme_says_with_nothing_but_busybox() {
    if !available() {
        return;
    }
    let (dir, root) = (packed(), Root::busybox());
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), root.join("/root").join(file.file_name())).unwrap();
    }
    // One that the stand-in can serve.
    root.write("/etc/kmagent/config.yaml", "name: first\n", 0o600);
    let line = format!("cd /root\n{}", commands().0);
    let env = [("KM_API_KEY", "sk_1"), ("KM_UPDATE_ENDPOINT", "http://127.0.0.1:9/x"), ("KM_MIN_UPTIME", "300ms")];
    assert_done(&bin::output_within(PATIENCE, root.command(&env, &["sh", "-ec", &line])));
    root.wait_status("it runs", |status| status["collector"]["state"] == "running");
}
