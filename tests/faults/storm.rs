//! A storm on the control socket: many at once who ask, say half of it, say garbage, say nothing, leave, or never read
//! the answer.
//!
//! People and cron jobs are answered all the while, the collector notices nothing, and nothing is left of it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::collector::{Ground, Mode, builder, good};
use super::system_calls::is_long;
use crate::operation::settled;
use crate::support::agent::Agent;
use crate::support::api::{Api, Reply};
use crate::support::wait::poll_for;

/// More than the agent has room for (32).
const CLIENTS: usize = 48;

/// One client's whole life, of kind `number`. True if it was answered.
fn live(agent: &Agent, number: usize) -> bool {
    let Ok(mut stream) = UnixStream::connect(agent.socket()) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let _ = stream.set_write_timeout(Some(Duration::from_millis(500)));
    let says: &[u8] = match number % 10 {
        0..=2 => b"{\"command\":\"status\"}\n",
        3 => b"{\"command\":\"check\"}\n",
        4 => b"GET / HTTP/1.1\r\n\r\n",
        5 => b"{\"command\":\"sta",
        6 => &[0xff; 4096],
        7 => b"",
        8 => b"{\"command\":\"check\"}\n{\"command\":\"check\"}\n{\"command\":\"check\"}\n",
        // Leaves before the answer.
        _ => {
            let _ = stream.write_all(b"{\"command\":\"status\"}\n");
            return false;
        }
    };
    let _ = stream.write_all(says);
    if number.is_multiple_of(7) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    !answer.is_empty()
}

/// While `act` runs, `CLIENTS` of them; returns how many have come and how many were answered.
fn storm(agent: &Agent, act: impl FnOnce()) -> (usize, usize) {
    let (over, came, answered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for first in 0..CLIENTS {
            let (over, came, answered) = (&over, &came, &answered);
            scope.spawn(move || {
                let mut number = first;
                while !over.load(Ordering::Relaxed) {
                    came.fetch_add(1, Ordering::Relaxed);
                    answered.fetch_add(live(agent, number).into(), Ordering::Relaxed);
                    number += 1;
                }
            });
        }
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        over.store(true, Ordering::Relaxed);
        acted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    (came.into_inner(), answered.into_inner())
}

/// `kmagent status` and `kmagent --check` as people run them.
#[track_caller]
fn assert_answered(agent: &Agent) -> Duration {
    let asked_at = Instant::now();
    let output = agent.run(["status", "--json"]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    asked_at.elapsed()
}

#[test]
fn people_are_answered_and_nothing_is_left() {
    let seconds = if is_long() { 60 } else { 5 };
    let api = Api::plain();
    let agent = settled(builder(&api, Mode::Restart).setting("config-check-interval", 0), &good());
    let (ground, collector) = (Ground::of(&agent), agent.wait_collector());
    let mut slowest = Duration::ZERO;
    let until = Instant::now() + Duration::from_secs(seconds);
    let (came, answered) = storm(&agent, || {
        while Instant::now() < until {
            slowest = slowest.max(assert_answered(&agent));
            let output = agent.run(["--check"]);
            // 75 when more checks wait than there is room for.
            assert!(matches!(output.code, Some(0 | 75)), "{output:?}");
        }
    });
    assert!(answered > 0);
    eprintln!("storm: {came} clients in {seconds} s, {answered} answered, the slowest status {slowest:.1?}");
    assert_eq!((agent.wait_collector(), agent.starts()), (collector, 1));
    ground.assert_nothing_left(&agent);
    assert_answered(&agent);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_stop_gets_through() {
    let api = Api::plain();
    let agent = settled(builder(&api, Mode::Restart).setting("config-check-interval", 0), &good());
    storm(&agent, || {
        let began_at = Instant::now();
        let output = agent.run(["stop"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(began_at.elapsed() < Duration::from_secs(10), "{:?}", began_at.elapsed());
    });
    assert_eq!(agent.wait_exit(), 79);
    assert_eq!(agent.processes(), [0; 0]);
    assert!(!agent.socket().exists());
}

/// Everybody waits for a check that hangs, since the API does: who asks for something else, or for a stop, is not kept
/// out.
#[test]
fn checks_that_wait_keep_nobody_out() {
    let api = Api::plain();
    let builder = builder(&api, Mode::Restart).setting("config-check-interval", 0).setting("poll-timeout", "1m");
    let agent = settled(builder, &good());
    api.reply(Reply::Hang);
    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        stream.write_all(b"{\"command\":\"check\"}\n").unwrap();
        waiting.push(stream);
    }
    assert!(assert_answered(&agent) < Duration::from_secs(5));
    // Clients beyond the limit get an answer that says so.
    let refused = poll_for(Duration::from_secs(5), || {
        let mut stream = waiting.last().unwrap();
        let mut answer = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        stream.read_to_string(&mut answer).is_ok().then_some(answer)
    });
    let refused = refused.expect("an answer");
    assert!(refused.contains("too many checks are waiting: try again") && refused.contains("75"), "{refused}");
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(75), "{output:?}");
    let began_at = Instant::now();
    let output = agent.run(["stop"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(began_at.elapsed() < Duration::from_secs(10), "{:?}", began_at.elapsed());
    assert_eq!(agent.wait_exit(), 79);
}

/// Nobody hoards what those have left behind who do not wait for their check.
#[test]
fn checks_whose_client_has_left_cost_nothing() {
    let api = Api::plain();
    let builder = builder(&api, Mode::Restart).setting("config-check-interval", 0).setting("poll-timeout", "1m");
    let agent = settled(builder, &good());
    let ground = Ground::of(&agent);
    api.reply(Reply::Hang);
    for _ in 0..2000 {
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        let _ = stream.write_all(b"{\"command\":\"check\"}\n");
    }
    assert_answered(&agent);
    // There is room for one who waits, and it waits.
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.write_all(b"{\"command\":\"check\"}\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(stream.read(&mut [0; 64]).is_err(), "it was not let wait");
    api.answer(serde_json::json!({}));
    api.stop();
    let _ = stream.read_to_end(&mut Vec::new());
    drop(stream);
    api.restart();
    ground.assert_nothing_left(&agent);
    let names = fs::read_dir(agent.run_dir()).unwrap().count();
    assert_eq!(names, 3, "the lock, the socket and the record of the collectors");
    assert_eq!(agent.stop(), 0);
}
