//! The programs under test and beside it, and how to run one to its end.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::machine;
use super::wait::{DEADLINE, poll_for};

/// The agent under test: `KMAGENT_BIN`, else the one that cargo has just built. One that is for another machine is run
/// by way of a script.
pub fn kmagent() -> PathBuf {
    static KMAGENT: OnceLock<PathBuf> = OnceLock::new();
    let find = || match machine::emulator() {
        Some(emulator) => {
            let script = emulated(emulator, &real_kmagent());
            let mut hasher = DefaultHasher::new();
            script.hash(&mut hasher);
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulated-{:x}", hasher.finish()));
            fs::create_dir_all(&dir).unwrap();
            // By rename: others may be running it.
            let unfinished = dir.join(std::process::id().to_string());
            write_program(&unfinished, &script);
            fs::rename(unfinished, dir.join("kmagent")).unwrap();
            dir.join("kmagent")
        }
        None => real_kmagent(),
    };
    KMAGENT.get_or_init(find).clone()
}

/// The binary itself.
pub fn real_kmagent() -> PathBuf {
    std::env::var_os("KMAGENT_BIN").map_or_else(|| env!("CARGO_BIN_EXE_kmagent").into(), PathBuf::from)
}

/// Copies the agent under test to a place that everybody can reach.
pub fn copy_kmagent(to: &Path) {
    match machine::emulator() {
        Some(emulator) => {
            let real = to.with_extension("real");
            copy_program(&real_kmagent(), &real);
            write_program(to, &emulated(emulator, &real));
        }
        None => copy_program(&real_kmagent(), to),
    }
}

fn emulated(emulator: &Path, program: &Path) -> String {
    format!("#!/bin/sh\nexec {} {} \"$@\"\n", emulator.display(), program.display())
}

/// Makes a script that can be executed.
///
/// Another process writes it: what another test forks while this one has a program open for writing holds that
/// descriptor, too, until its exec, and a process that executes the program meanwhile gets ETXTBSY (execve(2)).
pub fn write_program(path: &Path, script: &str) {
    let mut install = Command::new("install").args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn();
    let install = install.as_mut().expect("install(1) is missing");
    install.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success(), "{}", path.display());
}

/// Copies a program to where it can be executed, by another process as `write_program` does.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("install").args(["-m", "755"]).args([from, to]).status();
    assert!(copied.expect("install(1) is missing").success(), "{}", to.display());
}

/// The stand-in collector (fake_collector.rs).
pub fn fake() -> PathBuf {
    example("fake-collector")
}

/// The demo's config API (tests/demo/api.rs).
pub fn demo_api() -> PathBuf {
    example("demo-api")
}

/// Cargo puts examples beside `deps`, where this test binary is, whatever the target.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo test --test main` does not build it, `cargo test` does",
        path.display()
    );
    path
}

/// A real collector: `KM_TEST_COLLECTOR`, else what `dist/collector/build` has built or built before.
pub fn collector() -> PathBuf {
    static COLLECTOR: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        if let Some(path) = std::env::var_os("KM_TEST_COLLECTOR") {
            return path.into();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/collector/build");
        let built = Command::new(&script).stderr(Stdio::inherit()).output();
        let built = built.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        let path = PathBuf::from(String::from_utf8_lossy(&built.stdout).trim());
        assert!(built.status.success() && path.is_file(), "{} gave no collector: {built:?}", script.display());
        path
    };
    COLLECTOR.get_or_init(find).clone()
}

/// A command that has ended. `code` is `None` when a signal ended it.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Asserts the contract of a failure: this exit status, nothing on stdout, and on stderr lines of ours, with `text`
    /// among them.
    #[track_caller]
    pub fn fails(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.contains(text), "no {text:?} in {self:?}");
        assert!(self.stderr.lines().all(|line| line.starts_with("kmagent: ")), "{self:?}");
    }

    /// Asserts that all went well, and returns what it said on stdout; nothing on stderr.
    #[track_caller]
    pub fn says(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }
}

/// Runs a command to its end, which must come within twice the usual deadline: commands have deadlines of their own.
#[track_caller]
pub fn output(command: Command) -> Output {
    output_within(DEADLINE * 2, command)
}

/// Runs a command to its end; kills it and panics once `timeout` has passed.
#[track_caller]
pub fn output_within(timeout: Duration, mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cannot start the command");
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let Some(status) = poll_for(timeout, || child.try_wait().unwrap()) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("did not end in time: {command:?}\n{}", stderr.join().unwrap());
    };
    Output { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
