//! The control socket, against those who misuse it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::api::{Api, Reply};
use crate::support::process;
use crate::support::wait::{DEADLINE, holds_for};

fn agent() -> Agent {
    let agent = Agent::builder().config("fake: {}").spawn();
    agent.wait_start(1);
    agent
}

/// Of the supervisor's thread, in proc_pid_schedstat's first field.
fn processor_time(agent: &Agent) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", agent.pid())).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn connect(agent: &Agent) -> UnixStream {
    let stream = UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Everything that the agent says before it closes; a reset says as much as a close.
fn answer(mut stream: UnixStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        Ok(_) | Err(_) => String::from_utf8(bytes).unwrap(),
    }
}

fn send(agent: &Agent, bytes: &[u8]) -> String {
    let mut stream = connect(agent);
    // It fails when the agent has had enough.
    let _ = stream.write_all(bytes);
    answer(stream)
}

/// The agent answers, and neither it nor its collector was disturbed.
#[track_caller]
fn unharmed(agent: &Agent) {
    let status: Value = serde_json::from_str(agent.run(["status", "--json"]).says()).unwrap();
    assert_eq!(status["collector"]["restarts"], 0);
    assert_eq!(agent.starts(), 1);
}

#[test]
fn socket_and_directories_are_private() {
    let agent = agent();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(agent.socket()), 0o600);
    assert_eq!(mode(agent.run_dir()), 0o700);
    assert_eq!(mode(agent.state_dir()), 0o700);
}

#[test]
fn requests_that_are_none_get_an_error() {
    let agent = agent();
    for request in [
        "\n",
        "GET / HTTP/1.1\n",
        "{}\n",
        "[]\n",
        "{\"command\":\"reboot\"}\n",
        "{\"command\":null}\n",
        "\"status\"\n",
        "{\"command\":\"\u{fc}\"}\n",
    ] {
        let reply = send(&agent, request.as_bytes());
        assert!(reply.starts_with("{\"error\":\"not a request: ") && reply.ends_with("}\n"), "{request:?}: {reply}");
    }
    assert!(send(&agent, b"\xff\xfe\x00\n").starts_with("{\"error\":"));
    unharmed(&agent);
}

#[test]
fn a_request_may_come_in_pieces() {
    let agent = agent();
    let mut stream = connect(&agent);
    for piece in ["{\"comm", "and\":\"sta", "tus\"}", "\nwhatever follows is of no interest"] {
        stream.write_all(piece.as_bytes()).unwrap();
    }
    assert!(answer(stream).starts_with("{\"status\":{"));
}

/// As `nc -N` does, whatever the answer takes; and while it waits the agent does not wake up for it.
#[test]
fn a_client_that_writes_no_more_gets_its_answer() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).setting("config-check-interval", 0);
    let agent = agent.setting("poll-timeout", "3s").config("fake: {}").spawn();
    agent.wait_status("a config that has proved itself", |status| status["collector"]["state"] == "running");
    let half_closed = |request: &str| {
        let mut stream = connect(&agent);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    };
    assert!(answer(half_closed("{\"command\":\"status\"}\n")).starts_with("{\"status\":{"));
    // The answer is as late as the API lets it be.
    api.reply(Reply::Hang);
    let waiting = half_closed("{\"command\":\"check\"}\n");
    let left = half_closed("{\"command\":\"check\"}\n");
    agent.wait_until("a request to the API", || !api.requests().is_empty());
    drop(left);
    unharmed(&agent);
    let before = processor_time(&agent);
    holds_for("a supervisor at rest", Duration::from_millis(500), || {
        processor_time(&agent) - before < Duration::from_millis(100)
    });
    assert!(answer(waiting).starts_with("{\"checked\":{"));
    assert!(answer(half_closed("{\"command\":\"stop\"}\n")).starts_with("\"stopped\""));
    assert_eq!(agent.wait_exit(), 79);
}

#[test]
fn keys_of_a_later_client_are_ignored() {
    let agent = agent();
    let reply = send(&agent, b"{\"command\":\"status\",\"later\":[1]}\n");
    assert!(reply.starts_with("{\"status\":{"), "{reply}");
}

#[test]
fn oversized_requests_are_cut_off() {
    let agent = agent();
    let reply = send(&agent, &b"x".repeat(1 << 20));
    assert!(reply.is_empty() || reply.contains("the request is too long"), "{reply}");
    let reply = send(&agent, format!("{{\"command\":\"{}\"}}\n", "x".repeat(5000)).as_bytes());
    assert!(reply.is_empty() || reply.contains("the request is too long"), "{reply}");
    unharmed(&agent);
}

#[test]
fn clients_that_leave_early_or_say_nothing_do_no_harm() {
    let agent = agent();
    for text in ["", "{\"command\":", "{\"command\":\"status\"}\n", "{\"command\":\"check\"}\n"] {
        let mut stream = connect(&agent);
        stream.write_all(text.as_bytes()).unwrap();
        drop(stream);
    }
    let silent = connect(&agent);
    let half_closed = connect(&agent);
    half_closed.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(half_closed), "");
    // It has 5 s to say what it wants.
    assert_eq!(answer(silent), "");
    unharmed(&agent);
}

#[test]
fn a_storm_of_silent_connections_does_not_lock_people_out() {
    let agent = agent();
    let storm: Vec<UnixStream> = (0..200).map(|_| connect(&agent)).collect();
    // Where we may look at all.
    let descriptors = || process::descriptors(agent.pid()).unwrap_or_default();
    unharmed(&agent);
    assert!(descriptors() < 100, "{} descriptors", descriptors());
    assert_eq!(agent.run(["stop"]).says(), "");
    assert_eq!(agent.wait_exit(), 79);
    drop(storm);
}

#[test]
fn a_storm_of_requests_is_answered() {
    let agent = agent();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..25).map(|_| send(&agent, b"{\"command\":\"status\"}\n")).collect::<Vec<_>>()))
            .collect();
        unharmed(&agent);
        for reply in clients.into_iter().flat_map(|client| client.join().unwrap()) {
            assert!(reply.starts_with("{\"status\":{"), "{reply}");
        }
    });
}

#[test]
fn a_client_that_floods_costs_nobody_else_the_agent() {
    let agent = agent();
    thread::scope(|scope| {
        let mut stream = connect(&agent);
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // A request that is answered late, and then endless chatter.
        scope.spawn(move || {
            let _ = stream.write_all(b"{\"command\":\"check\"}\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        unharmed(&agent);
        assert_eq!(agent.run(["stop"]).says(), "");
    });
    assert_eq!(agent.wait_exit(), 79);
}

#[test]
fn a_socket_that_a_killed_agent_left_is_replaced() {
    let agent = agent();
    agent.signal(Signal::KILL);
    assert_eq!(agent.wait_exit(), -9);
    assert!(agent.socket().exists());
    for command in ["status", "stop"] {
        agent.run([command]).fails(69, "no agent is running");
    }
    agent.spawn();
    agent.wait_start(2);
    let status = agent.wait_status("the new agent", |status| status["pid"] == agent.pid());
    assert_eq!(status["collector"]["pid"], agent.wait_collector());
    assert!(!process::alive(agent.records_of("run")[0]["pid"].as_u64().unwrap() as u32));
}

#[test]
fn a_second_agent_is_refused_and_the_first_keeps_its_socket() {
    let agent = agent();
    let second = agent.run(["start"]);
    second.fails(75, &format!("another kmagent (pid {}) already uses", agent.pid()));
    assert!(second.stderr.contains("kmagent stop"), "{second:?}");
    unharmed(&agent);
}
