//! Notifications to the service manager (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{quick, scripted, yaml};
use crate::support::wait::DEADLINE;

fn receive(listener: &UnixDatagram) -> String {
    let mut datagram = [0; 4096];
    let length = listener.recv(&mut datagram).expect("a datagram");
    String::from_utf8_lossy(&datagram[..length]).into_owned()
}

/// `quick`'s stop-timeout and what the agent adds to it.
const STOPPING: &str = "STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000";

/// Everything up to the first datagram that is `last`.
fn receive_until(listener: &UnixDatagram, last: &str) -> Vec<String> {
    let mut received = Vec::new();
    let give_up_at = Instant::now() + DEADLINE;
    while received.last().is_none_or(|it| it != last) {
        assert!(Instant::now() < give_up_at, "no {last} in {received:?}");
        received.push(receive(listener));
    }
    received
}

#[test]
fn ready_states_watchdog_and_stopping() {
    let builder = quick();
    let path = builder.dir().join("notify.sock");
    let listener = UnixDatagram::bind(&path).unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    let builder = builder.env("NOTIFY_SOCKET", path.display().to_string()).env("WATCHDOG_USEC", "400000");
    let agent = builder.config(yaml(&scripted("a", json!({"drain_ms": 700})))).spawn();
    let first = receive_until(&listener, "READY=1");
    assert_eq!(first, ["STATUS=collector starting", "READY=1"], "ready means that the first start is under way");
    let until_running = receive_until(&listener, "STATUS=collector running");
    assert!(until_running.iter().filter(|it| *it == "WATCHDOG=1").count() >= 1, "{until_running:?}");
    for _ in 0..3 {
        assert_eq!(receive(&listener), "WATCHDOG=1");
    }
    agent.signal(rustix::process::Signal::TERM);
    receive_until(&listener, STOPPING);
    // The drain is longer than the watchdog's patience.
    assert_eq!(receive_until(&listener, "WATCHDOG=1").len(), 2, "not alive while stopping");
    assert_eq!(agent.wait_exit(), 0);
}

#[test]
fn without_a_watchdog_there_is_no_keep_alive_and_without_a_config_it_is_ready_too() {
    let builder = quick();
    let path = builder.dir().join("notify.sock");
    let listener = UnixDatagram::bind(&path).unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    let agent = builder.env("NOTIFY_SOCKET", path.display().to_string()).spawn();
    assert_eq!(receive(&listener), "READY=1");
    listener.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let error = listener.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(agent.stop(), 0);
    assert_eq!(receive(&listener), STOPPING);
}
