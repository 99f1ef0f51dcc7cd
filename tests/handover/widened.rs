//! Addresses that widen: the old collector has the more specific one, and gets what arrives there until it ends.

use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::plain::changed_by;
use super::raw::{self, Raw};
use super::{Scene, rounds};
use crate::support::{machine, needs, process};

const CLOSED: &str = "the old collector takes no new connections any more";

/// The config of that name with another endpoint for OTLP by HTTP.
fn config(scene: &Scene, name: &str, host: &str) -> Value {
    let mut config = scene.config(name);
    config["receivers"]["otlp"]["protocols"]["http"] = json!({"endpoint": format!("{host}:{}", scene.ports.http)});
    config
}

/// With the real collector; back again what is narrow gets everything as soon as it listens.
#[test]
fn it_costs_no_connection() {
    if machine::skips_hand_over() {
        return;
    }
    let has_ipv6 = needs::that(TcpListener::bind("[::1]:0").is_ok(), "this host has no IPv6");
    for (narrow, wide) in [("127.0.0.1", "0.0.0.0"), ("[::1]", "[::]")] {
        if narrow == "[::1]" && !has_ipv6 {
            continue;
        }
        let scene = Scene::new("handover");
        let at: SocketAddr = format!("{narrow}:{}", scene.ports.http).parse().unwrap();
        let narrow_at_first = config(&scene, "narrow", narrow);
        if narrow == "[::1]" {
            assert_eq!(changed_by(&scene, "narrow", narrow_at_first), "hand-over");
            scene.agent.wait_until("one collector", || scene.agent.collectors().len() == 1);
        }
        let clients = Raw::start(at, 16);
        for round in 0..rounds(3, 25) {
            for host in [wide, narrow] {
                let name = format!("{round} {host}");
                assert_eq!(changed_by(&scene, &name, config(&scene, &name, host)), "hand-over");
                scene.agent.wait_until("one collector", || scene.agent.collectors().len() == 1);
            }
        }
        let count = clients.stop(&format!("from {narrow} to {wide} and back"));
        assert!(count.failures.is_empty(), "{count:?}");
        assert!(scene.agent.count_log(|line| line.msg() == CLOSED) >= 3);
    }
}

/// With a connection that the old collector does not accept, since it is suspended: so there is time, 0.7 s.
fn closing() -> (Scene, u32, u32, TcpStream) {
    let scene = Scene::with_stand_in("handover", |builder| builder.setting("min-uptime", "500ms"));
    let old = scene.agent.wait_collector();
    process::signal(old, Signal::STOP);
    let is_suspended = || process::tasks(old).iter().all(|(_, task)| task.state() == 'T');
    scene.agent.wait_until("the old one's suspension", is_suspended);
    let waiting = TcpStream::connect(("127.0.0.1", scene.ports.http)).unwrap();
    scene.api.answer_config(config(&scene, "wider", "0.0.0.0"));
    let new = scene.agent.wait_start(2);
    scene.agent.wait_log("the end of new connections", |line| line.msg() == CLOSED);
    (scene, old, new, waiting)
}

#[test]
fn if_the_new_one_dies_at_last_the_old_one_serves_again() {
    if machine::skips_hand_over() {
        return;
    }
    // On a machine that is busy with other tests the moment may be over: then once more.
    let in_time = (0..10).find_map(|_| {
        let (scene, old, new, waiting) = closing();
        process::signal(new, Signal::KILL);
        scene.agent.wait_log("its end", |line| line.msg() == "collector exited unexpectedly");
        let promoted = scene.agent.count_log(|line| line.msg() == "config promoted");
        (promoted == 1).then_some((scene, old, waiting))
    });
    let (scene, old, waiting) = in_time.expect("it was never killed in time");
    scene.agent.wait_log("a roll back", |line| line.msg() == "config rolled back");
    process::signal(old, Signal::CONT);
    drop(waiting);
    scene.agent.wait_until("the old one alone", || scene.agent.collectors() == [old]);
    let at = SocketAddr::from(([127, 0, 0, 1], scene.ports.http));
    for _ in 0..20 {
        assert_eq!(raw::ask(at), Ok(()));
    }
    assert!(scene.is_good("first"));
}

/// What takes no connections ends with the agent.
#[test]
fn if_the_agent_dies_then_nobody_is_left_who_takes_none() {
    if machine::skips_hand_over() {
        return;
    }
    let (scene, old, _, _waiting) = closing();
    scene.agent.signal(Signal::KILL);
    assert_eq!(scene.agent.wait_exit(), -9);
    process::signal(old, Signal::CONT);
    scene.agent.wait_until("the end of both", || scene.agent.processes().is_empty());
    scene.agent.spawn();
    let at = SocketAddr::from(([127, 0, 0, 1], scene.ports.http));
    scene.agent.wait_until("an answer", || raw::ask(at).is_ok());
}

/// It is not waited for beyond the moment when its clients try again, and status says that it may have cost something.
#[test]
fn an_old_collector_that_accepts_nothing_is_not_waited_for() {
    if machine::skips_hand_over() {
        return;
    }
    let (scene, old, new, _waiting) = closing();
    scene.agent.wait_until("the new config to be promoted", || scene.is_good("wider"));
    process::signal(old, Signal::CONT);
    scene.agent.wait_until("the new one alone", || scene.agent.collectors() == [new]);
    let status = scene.status();
    let words =
        format!("hand-over (the old collector did not accept all connections at TCP 127.0.0.1:{})", scene.ports.http);
    assert_eq!(status["config"]["changed_by"], words, "{status}");
    let at = SocketAddr::from(([127, 0, 0, 1], scene.ports.http));
    assert_eq!(raw::ask(at), Ok(()));
}
