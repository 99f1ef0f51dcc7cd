//! `make demo` does what it shows, and says so when it does not.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::bin::{self, Output};
use crate::support::process;
use crate::support::temp_dir::TempDir;

/// Runs the demo; whatever it does, nothing of it may be left.
fn demo(agent: &Path, collector: &Path) -> Output {
    let dir = TempDir::new();
    let mark = format!("TMPDIR={}", dir.path().display());
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo/run"));
    command.arg(agent).arg(bin::demo_api()).arg(collector);
    command.env("TMPDIR", dir.path()).env("KM_UPDATE_ENDPOINT", "http://127.0.0.1:9/not-this-one");
    let output = bin::output_within(Duration::from_secs(90), command);
    assert_eq!(process::marked(&mark), [0; 0], "processes are left");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "files are left");
    output
}

#[test]
fn demo_goes_as_it_should() {
    // A real one, as `make demo` takes.
    let output = demo(&bin::kmagent(), &bin::collector());
    assert_eq!(output.code, Some(0), "{}\n{}", output.stdout, output.stderr);
    assert!(output.stdout.ends_with("demo: all seven steps went as they should\n"), "{}", output.stdout);
}

#[test]
fn demo_fails_with_an_agent_that_ends() {
    let output = demo(Path::new("/bin/true"), &bin::fake());
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("demo: FAILED: the agent has ended"), "{}", output.stderr);
}

#[test]
fn a_collector_that_is_named_is_taken_without_go() {
    let dir = TempDir::new();
    bin::write_program(&dir.join("go"), "#!/bin/sh\necho 'Go was asked' >&2\nexit 1\n");
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/collector/build"));
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    command.env("KM_COLLECTOR", bin::fake()).env("PATH", path);
    let output = bin::output(command);
    let expected = format!("{}\n", bin::fake().display());
    assert_eq!((output.code, output.stdout, output.stderr.as_str()), (Some(0), expected, ""));
}
