//! Ports that two want: where hand-overs are possible, each socket of a collector can be shared, and only the other
//! collector of the hand-over may. A mistake in a config is found all the same.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use serde_json::{Value, json};

use super::{Ports, Scene, named, real_config, sink::Sink};
use crate::support::agent::{Agent, Builder};
use crate::support::wait::holds_for;
use crate::support::{bin, process};

const IN_USE: &str = "address already in use";

/// The receiver and the health check at one port.
fn with_one_port(mut config: Value, ports: Ports) -> Value {
    config["extensions"]["health_check"]["endpoint"] = json!(format!("127.0.0.1:{}", ports.http));
    config
}

/// An agent whose first collector cannot start.
#[track_caller]
fn expect_no_start(config: &Value) {
    let agent = Agent::builder().collector(super::collector()).config(serde_yaml::to_string(config).unwrap()).build();
    agent.spawn();
    let report = |status: &Value| status["last_error_message"].as_str().is_some_and(|report| report.contains(IN_USE));
    agent.wait_status(IN_USE, report);
    agent.wait_status("a delay", |status| status["collector"]["state"] == "backoff");
}

#[test]
fn two_components_at_one_port_do_not_start() {
    let (sink, ports) = (Sink::start(), Ports::free());
    expect_no_start(&with_one_port(named(&real_config(ports, &sink), "first"), ports));
}

/// And the old collector never stops for it.
#[test]
fn a_config_with_two_components_at_one_port_is_rejected() {
    let scene = Scene::new("auto");
    let old = scene.agent.wait_collector();
    scene.bad_change(with_one_port(scene.config("twice"), scene.ports), IN_USE);
    if crate::support::machine::can_hand_over() {
        assert_eq!(scene.agent.wait_collector(), old);
    }
}

/// Of which nothing shows where binds are not watched: it is bound and does not listen.
#[test]
fn a_port_of_a_process_that_does_not_listen_is_no_fault_of_the_config() {
    let scene = Scene::new("restart");
    let taken = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&taken, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = SocketAddr::try_from(rustix::net::getsockname(&taken).unwrap()).unwrap().to_string();
    let mut config = scene.config("second");
    config["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = json!(endpoint);
    scene.api.answer_config(config);
    scene.agent.wait_log("a roll back", |line| line.msg().starts_with("config rolled back"));
    let words = format!("{endpoint} is in use by another process, which does not listen or has ended");
    let status = scene.agent.wait_status("the reason", |status| {
        status["last_error_message"].as_str().is_some_and(|said| said.contains(&words))
    });
    assert_eq!(status["config"]["rejected_revision"], Value::Null);
    // The control: what a config names twice it wanted itself.
    scene.bad_change(with_one_port(scene.config("twice"), scene.ports), IN_USE);
}

/// By restart both configs lose the port in the gap, and by hand-over only the new one wants it; where binds are not
/// watched, the kernel's table tells.
#[test]
fn a_port_that_another_process_takes_is_no_fault_of_the_config() {
    for mode in ["restart", "auto"] {
        let held = Cell::new(PathBuf::new());
        let wrapped = |builder: Builder| {
            let (wrapper, hold) = (builder.dir().join("wrapper"), builder.dir().join("hold"));
            let (real, file) = (super::collector().display().to_string(), hold.display().to_string());
            let wait = format!("[ $1 = validate ] || while [ -e {file} ]; do sleep 0.01; done");
            bin::write_program(&wrapper, &format!("#!/bin/sh\n{wait}\nexec {real} \"$@\"\n"));
            held.set(hold);
            builder.collector(wrapper)
        };
        let scene = Scene::built(mode, wrapped, super::spawn);
        let (agent, hold) = (&scene.agent, held.take());
        let mut second = scene.config("second");
        let can_hand_over = mode == "auto" && crate::support::machine::can_hand_over();
        let port = if can_hand_over { process::free_port() } else { scene.ports.http };
        if can_hand_over {
            second["receivers"]["otlp/2"] = json!({"protocols": {"http": {"endpoint": format!("127.0.0.1:{port}")}}});
            second["service"]["pipelines"]["logs"]["receivers"].as_array_mut().unwrap().push(json!("otlp/2"));
        }
        let first = agent.wait_collector();
        fs::write(&hold, "").unwrap();
        scene.api.answer_config(second);
        let thief = agent.wait_for("the port", || TcpListener::bind(("127.0.0.1", port)).ok());
        fs::remove_file(&hold).unwrap();
        agent.wait_log("a roll back", |line| line.msg() == "what failed is outside the config; it will be tried again");
        let words = format!("127.0.0.1:{port} is in use by ");
        let status = agent.wait_status("who has it", |status| {
            status["last_error_message"].as_str().is_some_and(|said| said.contains(&words) && said.contains("user "))
        });
        assert_eq!(status["config"]["rejected_revision"], Value::Null, "{mode}");
        if can_hand_over {
            assert_eq!(agent.wait_collector(), first, "it was given up");
        } else {
            let said = agent.log().iter().any(|line| line.text.contains(&format!("process {} (", std::process::id())));
            assert!(said, "the process is not named");
        }
        // Not again and again, and nothing is left of it when the port is free.
        holds_for("no other attempt", Duration::from_secs(3), || {
            agent.count_log(|line| line.msg() == "config installed") == 1
        });
        drop(thief);
        agent.wait_until("the second config", || scene.is_good("second") && agent.collectors().len() == 1);
    }
}

#[test]
fn a_port_of_another_agents_collector_is_in_use() {
    let scene = Scene::new("auto");
    expect_no_start(&scene.config("stranger"));
    assert_eq!(scene.status()["collector"]["restarts"], 0);
}
