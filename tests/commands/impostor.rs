//! Whoever listens in the agent's place: what a client takes from it, in memory, in time and in trust.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{chown, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use rustix::process::Uid;
use serde_json::json;

use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::needs;

const NOBODY: u32 = 65534;

fn host(builder: Builder) -> Agent {
    let agent = builder.config("fake: {}").build();
    for directory in [agent.run_dir(), agent.state_dir()] {
        fs::create_dir(directory).unwrap();
    }
    agent
}

/// Listens as that user, and does this to each that comes.
fn listen_as(user: u32, path: &Path, answer: impl Fn(UnixStream) + Send + Sync + Copy + 'static) {
    let path = path.to_path_buf();
    // Of this thread alone.
    let listener = thread::spawn(move || {
        let listener = UnixListener::bind(&path).unwrap();
        if rustix::process::geteuid().as_raw() != user {
            let user = Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            // Again, which is when the kernel notes who it is.
            listen(&listener, 100).unwrap();
        }
        listener
    });
    let listener = listener.join().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer(stream.unwrap()));
        }
    });
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn a_reply_without_end_is_read_up_to_its_limit() {
    let agent = host(Agent::builder());
    listen_as(own(), &agent.socket(), |mut stream| while stream.write_all(&[b'x'; 65536]).is_ok() {});
    for command in [&["status"][..], &["stop"], &["--check"]] {
        let command: Vec<&str> =
            ["--update-endpoint", "http://127.0.0.1:1"].into_iter().chain(command.to_vec()).collect();
        agent.run(command).fails(75, "its reply is longer than 65536 bytes");
    }
}

/// Its deadline is the whole exchange's: for each byte, and for one who never accepts.
#[test]
fn a_reply_that_comes_byte_by_byte_has_one_deadline() {
    let (dripping, deaf) = (host(Agent::builder()), host(Agent::builder()));
    listen_as(own(), &dripping.socket(), |mut stream| {
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let full = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&full, &SocketAddrUnix::new(deaf.socket()).unwrap()).unwrap();
    listen(&full, 0).unwrap();
    let _first = UnixStream::connect(deaf.socket()).unwrap();
    thread::scope(|scope| {
        for agent in [&dripping, &deaf] {
            scope.spawn(|| agent.run(["status"]).fails(75, "the agent did not answer within 10s"));
        }
    });
}

/// Someone else's words are not taken: not that there is nothing new, and not that the agent has stopped.
#[test]
fn who_is_not_the_agents_user_is_not_believed() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let agent = host(Agent::builder().api(&api).paths_by_environment());
    listen_as(NOBODY, &agent.socket(), |mut stream| {
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        let reply = match line.contains("check") {
            true => json!({"checked": {"exit": 0, "result": "unchanged", "message": "nothing new"}}),
            false => json!("stopped"),
        };
        let _ = writeln!(stream, "{reply}");
    });
    let words = format!(
        "the process that listens on {} is not the agent's: it is user 65534, who owns neither its settings nor its state",
        agent.socket().display()
    );
    for command in ["status", "stop"] {
        agent.run([command]).fails(77, &words);
    }
    api.answer_config(json!({"fake": {}, "name": "new"}));
    let dry = agent.run(["--check", "--dry-run"]);
    assert!(dry.stdout.starts_with("would install config ") && dry.stderr.contains(&words), "{dry:?}");
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.starts_with("installed config "), "{output:?}");
    assert!(output.stderr.contains("checking without the agent") && output.stderr.contains(&words), "{output:?}");
    assert_eq!(agent.config()["name"], "new");

    // The agent itself, behind someone else's socket.
    let lock = File::create(agent.run_dir().join("lock")).unwrap();
    lock.lock().unwrap();
    let refused = agent.run(["--check"]);
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("already uses"), "{refused:?}");
    drop(lock);

    // The negative control: who owns settings or state is the agent's user.
    for path in [agent.settings_file(), agent.state_dir()] {
        chown(&path, Some(NOBODY), None).unwrap();
        assert_eq!(agent.run(["stop"]).says(), "");
        assert_eq!(agent.run(["--check"]).says(), "");
        chown(&path, Some(0), None).unwrap();
        agent.run(["stop"]).fails(77, &words);
    }
}

/// A socket's path that leads elsewhere is not followed, and keeps no check from being made.
#[test]
fn a_planted_link_in_the_sockets_place_keeps_no_check_from_being_made() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let agent = host(Agent::builder().api(&api));
    let elsewhere = agent.dir().join("elsewhere.sock");
    let _listener = UnixListener::bind(&elsewhere).unwrap();
    symlink(&elsewhere, agent.socket()).unwrap();
    for path in [agent.run_dir(), agent.socket()] {
        lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let words = format!("{} is a link that another user may have created: remove it", agent.socket().display());
    for command in ["status", "stop"] {
        agent.run([command]).fails(77, &words);
    }
    let lock = File::create(agent.run_dir().join("lock")).unwrap();
    lock.lock().unwrap();
    api.answer_config(json!({"fake": {}, "name": "new"}));
    assert_eq!(agent.run(["--check"]).code, Some(75));
    drop(lock);
    for (command, outcome) in
        [(&["--check", "--dry-run"][..], "would install config "), (&["--check"], "installed config ")]
    {
        let output = agent.run(command);
        assert!(output.code == Some(0) && output.stdout.starts_with(outcome), "{output:?}");
        assert!(output.stderr.contains("checking without the agent") && output.stderr.contains(&words), "{output:?}");
    }
    assert_eq!(agent.config()["name"], "new");
}
