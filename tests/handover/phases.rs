//! What may happen while two collectors run: a stop, the agent's death, the old one's crash, another config.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::load::{Load, Mode};
use super::{Scene, assert_seamless, counted, plain};
use crate::support::wait::poll_for;
use crate::support::{machine, process};

/// With a probation that leaves time to do something in it.
fn scene() -> Scene {
    Scene::with_stand_in("handover", |builder| builder.setting("min-uptime", "2s"))
}

/// Pushes a config, and returns the old collector and the new one once both run.
#[track_caller]
pub(super) fn two(scene: &Scene, config: Value) -> (u32, u32) {
    let old = scene.agent.wait_collector();
    scene.api.answer_config(config);
    let new = scene.agent.wait_for("two collectors", || {
        let all = scene.agent.collectors();
        if all.len() == 2 { all.into_iter().find(|&pid| pid != old) } else { None }
    });
    (old, new)
}

fn load(scene: &Scene) -> Vec<Load> {
    Load::start_all([(Mode::New, scene.ports.http, 200, 4)])
}

#[test]
fn a_stop_ends_both() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = scene();
    let (old, new) = two(&scene, scene.config("second"));
    assert_eq!(scene.agent.stop(), 0);
    assert!(!process::alive(old) && !process::alive(new), "left behind: {:?}", scene.agent.processes());
}

#[test]
fn the_agents_death_takes_both_along() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = scene();
    two(&scene, scene.config("second"));
    scene.agent.signal(Signal::KILL);
    assert_eq!(scene.agent.wait_exit(), -9);
    scene.agent.wait_until("the end of both", || scene.agent.processes().is_empty());
}

#[test]
fn the_old_ones_crash_leaves_the_new_one_serving() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = scene();
    let loads = load(&scene);
    let (old, new) = two(&scene, scene.config("second"));
    // Until it listens, a crash of the old one is one that clients must see.
    let served = |pid: u32| scene.agent.records_of("run").iter().any(|record| record["pid"] == pid);
    scene.agent.wait_until("the new one's start", || served(new));
    scene.agent.wait_until("its port", || process::listens(new, scene.ports.http));
    process::signal(old, Signal::KILL);
    scene.agent.wait_until("the new config to be promoted", || scene.is_good("second"));
    assert_eq!(scene.agent.wait_collector(), new);
    let reports = counted("the old collector killed beside the new one", loads);
    // What was in the dead one's hands is lost, but there was always someone to connect to.
    assert_eq!(reports[0].refused, 0, "{reports:?}");
    // The kernel closes one descriptor after another: who loses a connection may come once more before the listener's
    // turn.
    assert!(reports[0].reset <= 2 * 4, "more than two a client: {reports:?}");
}

#[test]
fn another_config_while_two_run_is_a_change_like_any_other() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = scene();
    let loads = load(&scene);
    two(&scene, scene.config("second"));
    scene.api.answer_config(scene.config("third"));
    scene.agent.wait_until("the third config to be promoted", || scene.is_good("third"));
    scene.agent.wait_collector();
    assert_seamless(&counted("another config while two collectors run", loads), 2);
}

#[test]
fn a_bad_config_while_two_run_leaves_the_first_of_them_or_the_second() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = scene();
    let loads = load(&scene);
    two(&scene, scene.config("second"));
    let mut bad = scene.config("bad");
    bad["fake"]["validate"] = "fail".into();
    scene.bad_change(bad, "scripted to refuse");
    scene.agent.wait_until("the second config to be promoted", || scene.is_good("second"));
    assert_seamless(&counted("a bad config while two collectors run", loads), 2);
}

/// Some components wait for their server before the receivers listen, for half a minute if need be. A health check
/// would say so.
#[test]
fn one_that_is_slow_to_listen_gets_connections_when_it_does() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = scene();
    let loads = load(&scene);
    let mut slow = scene.config("slow");
    slow["fake"]["ready_after_ms"] = 8000.into();
    slow["service"]["extensions"] = serde_json::json!([]);
    scene.api.answer_config(slow);
    scene.agent.wait_until("the slow config to be promoted", || scene.is_good("slow"));
    let new = scene.agent.wait_collector();
    assert!(process::listens(new, scene.ports.http), "it has been trusted before it listened");
    assert_seamless(&counted("a new collector that listens after 8 s", loads), 1);
}

/// Once the wait for its listeners is over it takes over where it does listen: the answer of its health check is its
/// own.
#[test]
fn one_that_listens_on_less_and_does_not_say_that_it_is_ready_answers_for_its_own_health() {
    if machine::skips_hand_over() {
        return;
    }
    let scenes = [(503, "ill"), (200, "well")].map(|(status, name)| {
        let scene = Scene::with_stand_in("handover", |builder| {
            builder.setting("min-uptime", "500ms").setting("start-timeout", "5s")
        });
        let mut less = scene.config(name);
        less["fake"] = json!({"quiet": true, "health": {"port": scene.ports.health, "status": status}});
        less["receivers"]["otlp"]["protocols"] = json!({"http": {"endpoint": "127.0.0.1:0"}});
        scene.api.answer_config(less);
        scene
    });
    let served =
        |scene: &Scene| scene.agent.log().iter().any(|line| line.msg() == "new connections go to the new collector");
    // The time to start, for the missing listener.
    for scene in &scenes {
        assert!(poll_for(Duration::from_secs(40), || served(scene).then_some(())).is_some(), "{}", scene.status());
    }
    let [ill, well] = &scenes;
    ill.agent.wait_until("a roll back", || ill.status()["config"]["rejected_because"].is_string());
    let status = ill.status();
    assert!(status["config"]["rejected_because"].as_str().unwrap().contains("answered 503"), "{status}");
    assert!(ill.is_good("first"));
    well.agent.wait_until("the config that listens on less to be promoted", || well.is_good("well"));
}

/// Each bind(2) waits for the agent, also of a collector that it has terminated.
#[test]
fn a_collector_that_listens_once_more_at_its_end_is_let_go_on() {
    if machine::skips_hand_over() {
        return;
    }
    let port = process::free_port();
    let scene = Scene::with_stand_in("handover", |builder| builder.setting("stop-timeout", "30s"));
    let mut config = scene.config("second");
    config["fake"]["bind_on_sigterm"] = json!(port);
    assert_eq!(plain::changed_by(&scene, "second", config), "hand-over");
    let first = scene.agent.wait_collector();
    let seen = scene.agent.log().len();
    // At the end of a hand-over, and of the agent.
    scene.change("third");
    scene.agent.wait_until("the old collector's end", || !process::alive(first));
    let mut config = scene.config("fourth");
    config["fake"]["bind_on_sigterm"] = json!(port);
    assert_eq!(plain::changed_by(&scene, "fourth", config), "hand-over");
    assert_eq!(scene.agent.stop(), 0);
    let log = &scene.agent.log()[seen..];
    let bound = log.iter().filter(|line| line.msg() == "fake: bound on SIGTERM: true").count();
    let ended =
        log.iter().filter(|line| line.msg() == "collector stopped" && line.field("status") == "exited with status 0");
    assert_eq!((bound, ended.count()), (2, 3));
}
