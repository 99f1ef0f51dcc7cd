//! Ports that two want: where hand-overs are possible, each socket of a collector can be shared, and only the other
//! collector of the hand-over may. A mistake in a config is found all the same.

use serde_json::{Value, json};

use super::{Ports, Scene, named, real_config, sink::Sink};
use crate::support::agent::Agent;
use crate::support::bin;

const IN_USE: &str = "address already in use";

/// The receiver and the health check at one port.
fn with_one_port(mut config: Value, ports: Ports) -> Value {
    config["extensions"]["health_check"]["endpoint"] = json!(format!("127.0.0.1:{}", ports.http));
    config
}

/// An agent whose first collector cannot start.
#[track_caller]
fn expect_no_start(config: &Value) {
    let agent = Agent::builder().collector(bin::collector()).config(serde_yaml::to_string(config).unwrap()).build();
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

#[test]
fn a_port_of_another_agents_collector_is_in_use() {
    let scene = Scene::new("auto");
    expect_no_start(&scene.config("stranger"));
    assert_eq!(scene.status()["collector"]["restarts"], 0);
}
