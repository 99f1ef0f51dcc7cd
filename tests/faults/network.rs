//! No connection at all: refused, unreachable, a black hole; IPv6 only; and name servers that fail in every way.
//!
//! The names are asked of a server on a loopback address of its own, which a mount namespace's resolv.conf(5) names:
//! that takes root, and without it those tests say so and end.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use super::hostile::Hostile;
use super::{Most, POLL_TIMEOUT, SLACK, Table};
use crate::support::agent::{Agent, Builder};
use crate::support::bin::{self, Output};
use crate::support::{needs, process};

fn asking(url: &str) -> Builder {
    let builder = Agent::builder().setting("update-endpoint", url).setting("api-key", super::KEY);
    let builder = builder.setting("config-check-interval", "168h").setting("min-uptime", "300ms");
    builder.setting("poll-timeout", format!("{}s", POLL_TIMEOUT.as_secs())).config("fake: {}\nname: before\n")
}

/// A check of an agent that runs fails with these words and changes nothing.
#[track_caller]
fn fails(most: &mut Most, agent: &Agent, pid: u32, says: &str, longest: Duration) -> Duration {
    let (output, took) = most.check(agent);
    output.fails(75, says);
    assert!(took < longest, "{took:?} for {output:?}");
    let status = agent.status().expect("a status");
    assert!(status["polling"]["error"].as_str().is_some_and(|error| error.contains(says)), "{status}");
    assert_eq!((agent.collectors(), agent.starts()), (vec![pid], 1));
    took
}

/// A port that accepts nothing and refuses nothing: its queue is full.
fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 10, "the queue has no end");
    }
    (listener, queued)
}

#[test]
fn a_port_that_answers_nothing() {
    let mut table = Table::new("a black hole");
    let (listener, queued) = black_hole();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let agent = asking(&url).spawn();
    let pid = agent.wait_start(1);
    let mut most = Most::default();
    let took = fails(&mut most, &agent, pid, "no complete answer within 1s", POLL_TIMEOUT + SLACK);
    let alone = asking(&url).build();
    alone.run(["--check"]).fails(75, "no complete answer within 1s");
    table.row(&format!(
        "2 cases; a check took {:.1} s with poll-timeout {POLL_TIMEOUT:?}; most memory {} KiB",
        took.as_secs_f64(),
        most.0
    ));
    // It recovers: a server listens there.
    drop(queued);
    let _server = Hostile::on(listener, None);
    agent.run(["--check"]).says();
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_port_that_refuses() {
    let mut table = Table::new("a port that refuses");
    let port = process::free_port();
    let agent = asking(&format!("http://127.0.0.1:{port}/")).spawn();
    let pid = agent.wait_start(1);
    let mut most = Most::default();
    fails(&mut most, &agent, pid, "Connection refused", SLACK);
    table.row(&format!("2 cases; most memory {} KiB", most.0));
    asking(&format!("http://127.0.0.1:{port}/")).build().run(["--check"]).fails(75, "Connection refused");
    let _server = Hostile::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), None);
    agent.run(["--check"]).says();
}

#[test]
fn a_host_that_has_ipv6_only() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        needs::that(false, "this host has no IPv6");
        return;
    };
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = Hostile::on(listener, None);
    let agent = asking(&url).spawn();
    agent.wait_start(1);
    agent.run(["--check"]).says();
    asking(&url).build().run(["--check"]).says();
    assert!(server.connections() >= 2);
}

#[test]
fn a_host_without_any_network() {
    if !needs::root() {
        return;
    }
    // EADDRNOTAVAIL, which libraries word in their own ways.
    let cannot = "(os error 99)";
    for (url, says) in [
        ("http://192.0.2.1/", "unreachable"),
        ("http://127.0.0.1:1/", "unreachable"),
        ("http://[2001:db8::1]/", cannot),
        ("http://[::1]:1/", cannot),
    ] {
        let agent = asking(url).setting("allow-http", true).build();
        let output = within(&agent, &["unshare", "--net"], &["--check"]);
        output.fails(75, says);
    }
}

/// A command of the agent by way of another one.
fn within(agent: &Agent, by: &[&str], args: &[&str]) -> Output {
    bin::output(wrapped(agent, by, args))
}

fn wrapped(agent: &Agent, by: &[&str], args: &[&str]) -> Command {
    let inner = agent.command(args);
    let mut command = Command::new(by[0]);
    command.args(&by[1..]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.current_dir(agent.dir());
    command
}

/// What a name server does with a question.
#[derive(Clone, Copy, Debug)]
enum Names {
    Silence,
    /// An error code: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED (RFC 1035, section 4.1.1).
    Error(u8),
    /// No error, and no address either.
    Nothing,
    Garbage,
    /// The first bytes of an answer.
    Short,
    /// An answer to another question.
    WrongId,
    /// "Ask again by TCP", where nobody listens.
    Truncated,
    /// A name that is a pointer to itself.
    Loop,
    /// A record that claims to be longer than the answer.
    LongRecord,
    /// An alias for itself.
    Alias,
    /// As many addresses as fit, where nobody answers.
    Many,
    /// 127.0.0.1.
    Four,
    /// ::1 and no other.
    Six,
}

/// Serves until the test's process ends.
fn name_server(address: &str) -> Arc<Mutex<Names>> {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    let behaviour = Arc::new(Mutex::new(Names::Four));
    let shared = Arc::clone(&behaviour);
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let behaviour = *shared.lock().unwrap();
            if let Some(answer) = reply(&question[..length], behaviour) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    behaviour
}

fn reply(question: &[u8], behaviour: Names) -> Option<Vec<u8>> {
    // Header, name, type and class.
    let end = question[12..].iter().position(|byte| *byte == 0)? + 12 + 5;
    let is_six = question.get(end - 3)? == &28;
    let record = |kind: u8, length: u16, data: &[u8]| -> Vec<u8> {
        // The name is a pointer to that of the question; a minute to live.
        [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60][..], &length.to_be_bytes(), data].concat()
    };
    let address = |kind: u8, data: &[u8]| record(kind, data.len() as u16, data);
    let (flags, code, records): (u8, u8, Vec<Vec<u8>>) = match behaviour {
        Names::Silence => return None,
        Names::Garbage => return Some((0..200u32).map(|n| (n * n * 7 + 13) as u8).collect()),
        Names::Error(code) => (0x81, code, vec![]),
        Names::Truncated => (0x83, 0, vec![]),
        Names::Nothing => (0x81, 0, vec![]),
        Names::Short | Names::WrongId => (0x81, 0, vec![address(1, &[127, 0, 0, 1])]),
        Names::Loop => (0x81, 0, vec![record(5, 2, &[0xc0, end as u8 + 12])]),
        Names::LongRecord => (0x81, 0, vec![record(1, 60_000, &[127, 0, 0, 1])]),
        Names::Alias => (0x81, 0, vec![record(5, 2, &[0xc0, 12])]),
        Names::Many if !is_six => (0x81, 0, (1..=25).map(|last| address(1, &[127, 99, 99, last])).collect()),
        Names::Four if !is_six => (0x81, 0, vec![address(1, &[127, 0, 0, 1])]),
        Names::Six if is_six => (0x81, 0, vec![address(28, &Ipv6Addr::LOCALHOST.octets())]),
        Names::Many | Names::Four | Names::Six => (0x81, 0, vec![]),
    };
    let id = if matches!(behaviour, Names::WrongId) { [!question[0], question[1]] } else { [question[0], question[1]] };
    let header = [&id[..], &[flags, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]].concat();
    let mut answer = [&header[..], &question[12..end], &records.concat()].concat();
    if matches!(behaviour, Names::Short) {
        answer.truncate(12);
    }
    Some(answer)
}

/// An address for a name server of our own, the `number`th: all of 127/8 is this host's, and nobody's port 53 is in the
/// way there.
fn own_address(number: u32) -> String {
    let own = std::process::id();
    format!("127.{}.{}.{}", 53 + number, own >> 8 & 0xff, own & 0xff | 1)
}

/// A host without `localhost` in /etc/hosts, and a name server that knows one: the key, which may go to loopback in
/// cleartext, is not for whatever address that gives.
#[test]
fn localhost_is_never_asked_of_a_name_server() {
    if !needs::root() {
        return;
    }
    let address = own_address(1);
    *name_server(&address).lock().unwrap() = Names::Many;
    let server = Hostile::start(None);
    let port = server.url().rsplit(':').next().unwrap().trim_end_matches('/').to_string();
    for host in ["localhost", "LOCALHOST.", "api.localhost"] {
        let agent = asking(&format!("http://{host}:{port}/")).build();
        let (resolv, hosts) = (agent.dir().join("resolv"), agent.dir().join("hosts"));
        std::fs::write(&resolv, format!("nameserver {address}\noptions timeout:1 attempts:2\n")).unwrap();
        std::fs::write(&hosts, "").unwrap();
        let bind = |file: &Path, place: &str| format!("mount --bind {} {place}", file.display());
        let script =
            format!("{} && {} && exec \"$0\" \"$@\"", bind(&resolv, "/etc/resolv.conf"), bind(&hosts, "/etc/hosts"));
        let output = within(&agent, &["unshare", "--mount", "sh", "-c", &script], &["--check"]);
        assert_eq!(output.code, Some(0), "{host}: {output:?}");
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn name_servers() {
    if !needs::root() {
        return;
    }
    let mut table = Table::new("name servers");
    let address = own_address(0);
    let behaviour = name_server(&address);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok().map(|listener| Hostile::on(listener, None));
    let _server = Hostile::on(listener, None);

    let url = format!("http://api.test:{port}/");
    let build = || asking(&url).setting("allow-http", true).build();
    let (agent, alone) = (build(), build());
    let wrapper = |resolv: &Path| {
        std::fs::write(resolv, format!("nameserver {address}\noptions timeout:1 attempts:2\n")).unwrap();
        format!("mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"", resolv.display())
    };
    let (script, script_alone) = (wrapper(&agent.dir().join("resolv")), wrapper(&alone.dir().join("resolv")));
    agent.spawn_command(wrapped(&agent, &["unshare", "--mount", "sh", "-c", &script], &["start"]));
    let pid = agent.wait_start(1);

    let cannot = "cannot resolve api.test: ";
    let (mut slowest, mut most) = ((Duration::ZERO, Names::Silence), Most::default());
    let cases = [
        (Names::Silence, cannot),
        (Names::Error(2), cannot),
        (Names::Error(3), cannot),
        (Names::Error(5), cannot),
        (Names::Error(15), cannot),
        (Names::Nothing, cannot),
        (Names::Garbage, cannot),
        (Names::Short, cannot),
        (Names::WrongId, cannot),
        (Names::Truncated, cannot),
        (Names::Loop, cannot),
        (Names::LongRecord, cannot),
        (Names::Alias, cannot),
        (Names::Many, "Connection refused"),
        (Names::Four, ""),
        (Names::Six, ""),
    ];
    for (behave, says) in cases {
        if matches!(behave, Names::Six) && six.is_none() {
            needs::that(false, "this host has no IPv6");
            continue;
        }
        *behaviour.lock().unwrap() = behave;
        if says.is_empty() {
            assert_eq!(agent.run(["--check"]).code, Some(0), "{behave:?}");
            continue;
        }
        // Two tries of a second, perhaps for either family, and once more by TCP: the resolver's time is resolv.conf's
        // affair.
        let took = fails(&mut most, &agent, pid, says, Duration::from_secs(15));
        if took > slowest.0 {
            slowest = (took, behave);
        }
        let output = within(&alone, &["unshare", "--mount", "sh", "-c", &script_alone], &["--check"]);
        output.fails(75, says);
        *behaviour.lock().unwrap() = Names::Four;
        assert_eq!(agent.run(["--check"]).code, Some(0), "after {behave:?}");
    }
    table.row(&format!(
        "{} cases, each resident and alone; with two tries of 1 s the slowest took {:.1} s: {:?}; most memory {} KiB",
        cases.len(),
        slowest.0.as_secs_f64(),
        slowest.1,
        most.0
    ));
    assert_eq!(agent.stop(), 0);
}
