//! Collectors that are no program: missing, not executable, of another machine, being written, taken away while one
//! runs.

use std::any::Any;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use super::{
    Ground, Mode, better, builder, each_at_a_time, good, is_good, is_long, is_state, row, status, story, wait_reported,
};
use crate::operation::{message, settled, wait_running, yaml};
use crate::support::api::Api;
use crate::support::wait::{DEADLINE, wait_for};
use crate::support::{bin, process};

/// Puts a collector there, all at once. A process of its own writes it: while this one has it open for writing,
/// children that other tests fork at that moment keep it from being executed (ETXTBSY, execve(2)).
pub fn place_program(path: &Path) {
    let partial = path.with_extension("new");
    assert!(Command::new("cp").arg(bin::fake()).arg(&partial).status().unwrap().success());
    fs::rename(partial, path).unwrap();
}

/// The same, with the text of a shell script.
pub fn place_script(path: &Path, text: &str) {
    place_bytes(path, format!("#!/bin/sh\n{text}\n").as_bytes());
}

fn place_bytes(path: &Path, bytes: &[u8]) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat > \"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\""]).arg(path);
    let mut child = shell.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Does it, and returns what has to be dropped to undo it, besides putting a good one there.
type Spoil = fn(&Path) -> Box<dyn Any>;

struct Trouble {
    name: &'static str,
    spoil: Spoil,
    /// Any of these is reported.
    words: &'static [&'static str],
    /// If it can be executed, it answers, in its way, when it is asked about a config, so that this is refused: and not
    /// once a good one is there.
    answers: bool,
}

/// The start of a program for a machine that this is not: `Elf64_Ehdr` of elf(5), and nothing else.
fn of_another_machine(path: &Path) {
    // EM_AARCH64, EM_X86_64.
    let machine: u16 = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    header.extend(machine.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    header.resize(64, 0);
    header[52] = 64;
    place_bytes(path, &header);
}

const TROUBLES: [Trouble; 8] = [
    Trouble {
        name: "deleted",
        spoil: |path| {
            fs::remove_file(path).unwrap();
            Box::new(())
        },
        words: &["does not exist: install one"],
        answers: false,
    },
    Trouble {
        name: "a directory in its place",
        spoil: |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            let path = path.to_path_buf();
            Box::new(OnDrop(Box::new(move || fs::remove_dir(&path).unwrap())))
        },
        words: &["is not a file: install one"],
        answers: false,
    },
    Trouble {
        name: "not executable",
        spoil: |path| {
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
            Box::new(())
        },
        words: &["is not executable (chmod a+x "],
        answers: false,
    },
    // musl says that it is no program. glibc has a shell try (execvp(3)), which does not know what to make of it.
    Trouble {
        name: "of another architecture",
        spoil: |path| {
            of_another_machine(path);
            Box::new(())
        },
        words: &["install the build for this machine", "not found", "yntax error", "exited with status 12"],
        answers: true,
    },
    Trouble {
        name: "a text file",
        spoil: |path| {
            place_bytes(path, b"404: Not Found\n");
            Box::new(())
        },
        words: &["install the build for this machine", "not found"],
        answers: true,
    },
    Trouble {
        name: "its loader is missing",
        spoil: |path| {
            place_bytes(path, b"#!/no/such/loader\n");
            Box::new(())
        },
        words: &["its loader or interpreter is missing"],
        answers: false,
    },
    Trouble {
        name: "being written (ETXTBSY)",
        spoil: |path| {
            let partial = path.with_extension("new");
            assert!(Command::new("cp").arg(bin::fake()).arg(&partial).status().unwrap().success());
            let writing = OpenOptions::new().append(true).open(&partial).unwrap();
            fs::rename(&partial, path).unwrap();
            Box::new(writing)
        },
        words: &["open for writing"],
        answers: false,
    },
    Trouble {
        name: "replaced by one that ends at once",
        spoil: |path| {
            place_script(path, "exit 5");
            Box::new(())
        },
        words: &["exited with status 5"],
        answers: true,
    },
];

struct OnDrop(Box<dyn Fn()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn is_reported(words: &[&str], text: &str) -> bool {
    words.iter().any(|words| text.contains(words))
}

/// While a good one runs: it goes on, whatever is asked for; and once it has died, there is none until a good one is
/// back.
#[test]
fn while_one_runs() {
    // The quick form takes turns.
    let modes = if is_long() { 2 } else { 1 };
    let numbers: Vec<usize> = (0..TROUBLES.len() * modes).collect();
    each_at_a_time(super::AT_A_TIME, &numbers, |number| {
        let (turn, index) = (number / TROUBLES.len(), number % TROUBLES.len());
        let mode = if (turn + index).is_multiple_of(2) { Mode::Restart } else { Mode::HandOver };
        spoilt(&TROUBLES[index], mode);
        true
    });
}

fn spoilt(trouble: &Trouble, mode: Mode) {
    let api = Api::plain();
    let builder = builder(&api, mode);
    let path = builder.dir().join("collector");
    place_program(&path);
    let agent = settled(builder.collector(&path), &good());
    let ground = Ground::of(&agent);
    let (old, seen) = (agent.wait_collector(), agent.log().len());
    let guard = (trouble.spoil)(&path);

    // A restart is asked for: there would be nobody to start.
    api.answer(json!({"restart_required": true}));
    let refused = api.wait_for_request("word that it is not restarted", |request| {
        message(request).contains("restart requested by the API was skipped")
    });
    assert!(is_reported(trouble.words, &message(&refused)), "{}", message(&refused));
    assert_eq!(refused.json()["collector_status"], "Running");

    // A good config: it cannot be tried.
    let asked = api.requests().len();
    api.answer_config(better());
    let postponed = api.wait_for_request_after(asked, "the trouble", |request| {
        is_reported(trouble.words, &message(request)) && !message(request).contains("was skipped")
    });
    let answers = trouble.answers && !message(&postponed).contains("cannot run the collector");
    assert_eq!(agent.state_dir().join("rejected.json").exists(), answers, "not the config's fault");
    assert_eq!((agent.wait_collector(), agent.config()), (old, good()), "a running collector was given up");

    // It dies, and there is no other.
    let asked = api.requests().len();
    process::signal(old, Signal::KILL);
    agent.wait_log_after(seen, "a pause", |line| is_state(line, "backoff"));
    let report = api.wait_for_request_after(asked, "that there is none", |request| {
        is_reported(trouble.words, &message(request)) && request.json()["collector_status"] == "Stopped"
    });
    assert_eq!(agent.config(), good());
    assert!(agent.count_log(|line| line.msg() == "collector not started") <= 1, "said each time");

    let (from, asked) = (Instant::now(), api.requests().len());
    drop(guard);
    place_program(&path);
    agent.wait_until("the config that was sent meanwhile", || is_good(&agent, &better()));
    api.wait_for_request_after(asked, "no problem", |request| message(request).is_empty());
    let took = from.elapsed();
    ground.assert_nothing_left(&agent);
    row(&format!("collector {}", trouble.name), mode, &story(&agent.log()[seen..]), &message(&report), took);

    // A stop in its midst.
    let _guard = (trouble.spoil)(&path);
    let seen = agent.log().len();
    process::signal(agent.wait_collector(), Signal::KILL);
    agent.wait_log_after(seen, "a pause", |line| is_state(line, "backoff"));
    let began_at = Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(began_at.elapsed() < super::SLACK, "{:?}", began_at.elapsed());
    assert_eq!(agent.processes(), [0; 0]);
}

#[test]
fn missing_from_the_start() {
    let api = Api::plain();
    let builder = builder(&api, Mode::Restart);
    let path = builder.dir().join("collector");
    let agent = builder.collector(&path).config(yaml(&good())).spawn();
    let report = wait_reported(&api, 0, "does not exist: install one");
    assert_eq!(status(&agent)["collector"]["state"], "backoff");
    let from = Instant::now();
    place_program(&path);
    agent.wait_until("the config trusted", || is_good(&agent, &good()));
    api.wait_for_request_after(api.requests().len(), "no problem", |request| message(request).is_empty());
    row("collector missing from the start", Mode::Restart, &story(&agent.log()), &report, from.elapsed());
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.processes(), [0; 0]);
}

/// By a newer one, as package managers do it: the one that runs goes on, and the next start takes the new one.
#[test]
fn replaced_while_one_runs() {
    let api = Api::plain();
    let builder = builder(&api, Mode::Restart);
    let path = builder.dir().join("collector");
    place_program(&path);
    let agent = settled(builder.collector(&path), &good());
    let ground = Ground::of(&agent);
    let (old, seen) = (agent.wait_collector(), agent.log().len());
    let fake = bin::fake();
    let script = format!("[ \"$1\" = --version ] && echo fake version 9.9.9 || exec {} \"$@\"", fake.display());
    place_script(&path, &script);
    api.wait_for_request("the new version", |request| request.json()["collector_version"] == "v9.9.9");
    assert_eq!((agent.wait_collector(), agent.starts()), (old, 1));
    let from = Instant::now();
    api.answer(json!({"restart_required": true}));
    agent.wait_start(2);
    wait_running(&agent, seen);
    let took = from.elapsed();
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    wait_for("the new program", DEADLINE, || {
        (program(agent.wait_collector()) == fake.canonicalize().unwrap()).then_some(())
    });
    ground.assert_nothing_left(&agent);
    row("collector replaced by a newer one", Mode::Restart, "lets the old one run, starts the new one next", "", took);
    assert_eq!(agent.stop(), 0);
}
