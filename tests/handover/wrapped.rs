//! A collector that a script runs without becoming it: it lives longer than the script, and in what group and session
//! it likes.

use std::net::SocketAddr;
use std::thread;

use serde_json::json;

use super::plain::changed_by;
use super::{Scene, raw};
use crate::support::agent::Builder;
use crate::support::{bin, machine, process};

/// With a probation that is over while the requests that it meets are being answered.
fn wrapped(builder: Builder, script: &str) -> Builder {
    let (wrapper, fake) = (builder.dir().join("wrapper"), bin::fake().display().to_string());
    bin::write_program(&wrapper, &format!("#!/bin/sh\n{}\n", script.replace("COLLECTOR", &fake)));
    builder.collector(wrapper).setting("min-uptime", "500ms").setting("stop-timeout", "30s")
}

/// The shell waits, in the collector's group.
const WITHOUT_EXEC: &str = "COLLECTOR \"$@\"\nexit $?";
/// The collector has a group and a session of its own.
const WITH_SETSID: &str = "setsid COLLECTOR \"$@\"\nexit $?";

#[track_caller]
fn expect_answers(script: &str, mode: &str) {
    let scene = Scene::with_stand_in(mode, |builder| wrapped(builder, script));
    let mut slow = scene.config("slow");
    slow["fake"]["otlp_delay_ms"] = json!(6000);
    scene.api.answer_config(slow);
    scene.agent.wait_until("the slow collector", || scene.is_good("slow"));
    scene.agent.wait_until("the slow collector alone", || scene.agent.collectors().len() == 1);
    let at = SocketAddr::from(([127, 0, 0, 1], scene.ports.http));
    let seen = scene.agent.log().len();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..10).map(|_| scope.spawn(move || raw::ask(at))).collect();
        scene.agent.wait_until("the requests", || process::established(scene.ports.http) >= 10);
        scene.api.answer_config(scene.config("quick"));
        scene.agent.wait_log_after(seen, "the change", |line| line.msg() == "applying config");
        for client in clients {
            assert_eq!(client.join().unwrap(), Ok(()), "{script}, {mode}");
        }
    });
    scene.agent.wait_until("the quick collector", || scene.is_good("quick"));
    scene.agent.wait_until("the quick collector alone", || scene.agent.collectors().len() == 1);
    assert_eq!(raw::ask(at), Ok(()));
    assert_eq!(scene.agent.stop(), 0);
    assert_eq!(scene.agent.processes(), [0; 0]);
}

#[test]
fn what_a_script_without_exec_runs_answers_before_it_ends() {
    for mode in ["handover", "restart"] {
        if mode == "restart" || !machine::skips_hand_over() {
            expect_answers(WITHOUT_EXEC, mode);
        }
    }
}

#[test]
fn what_a_script_runs_by_setsid_answers_before_it_ends() {
    for mode in ["handover", "restart"] {
        if mode == "restart" || !machine::skips_hand_over() {
            expect_answers(WITH_SETSID, mode);
        }
    }
}

/// It is killed when it has had its time.
#[test]
fn what_ignores_sigterm_by_setsid_ends_after_stop_timeout() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = Scene::with_stand_in("handover", |builder| wrapped(builder, WITH_SETSID).setting("stop-timeout", "2s"));
    let mut deaf = scene.config("deaf");
    deaf["fake"]["ignore_sigterm"] = json!(true);
    assert_eq!(changed_by(&scene, "deaf", deaf), "hand-over");
    scene.agent.wait_until("the deaf one alone", || scene.agent.collectors().len() == 1);
    let deaf = scene.agent.wait_start(2);
    assert_eq!(changed_by(&scene, "next", scene.config("next")), "hand-over");
    scene.agent.wait_until("the end of the deaf one", || !process::alive(deaf));
    let killed = "collector did not stop within stop-timeout; sending SIGKILL";
    assert_eq!(scene.agent.count_log(|line| line.msg() == killed), 1, "it had no time");
    scene.agent.wait_until("the next one alone", || scene.agent.collectors().len() == 1);
    assert_eq!(scene.agent.stop(), 0);
    assert_eq!(scene.agent.processes(), [0; 0]);
}

#[test]
fn nothing_is_handed_over_beside_what_is_left_of_another_collector() {
    if machine::skips_hand_over() {
        return;
    }
    // It leaves something behind that has the filter of the collector, and nobody knows whose it is.
    let script = "(setsid sh -c 'trap \"\" TERM; echo $$ >LEFT.new; mv LEFT.new LEFT.$$; exec sleep 600' &)\nexec COLLECTOR \"$@\"";
    let scene = Scene::with_stand_in("handover", |builder| {
        let left = builder.dir().join("left").display().to_string();
        wrapped(builder, &script.replace("LEFT", &left)).setting("stop-timeout", "1s")
    });
    let mut ill = scene.config("ill");
    ill["fake"]["health_status"] = json!(503);
    scene.bad_change(ill, "answered 503");
    scene.agent.wait_until("the old one alone", || scene.agent.collectors().len() == 1);
    scene.change("second");
    let words = "restart (a process that an earlier collector has left behind still runs)";
    assert_eq!(scene.status()["config"]["changed_by"], words);
    // The restart has ended it.
    scene.change("third");
    assert_eq!(scene.status()["config"]["changed_by"], "hand-over");
    assert_eq!(scene.agent.stop(), 0);
    assert_eq!(scene.agent.processes(), [0; 0]);
}

/// It would not end with a killed agent, and then nobody could open it again.
#[test]
fn an_address_of_a_scripts_child_is_not_closed_when_it_widens_and_status_says_so() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = Scene::with_stand_in("handover", |builder| wrapped(builder, WITHOUT_EXEC));
    let mut wider = scene.config("wider");
    wider["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = json!(format!("0.0.0.0:{}", scene.ports.http));
    let words = changed_by(&scene, "wider", wider);
    let at = format!("TCP 127.0.0.1:{}", scene.ports.http);
    let expected = format!(
        "hand-over (the old collector takes new connections until it exits: {at} is not the collector's own but a \
         process's that it has started)"
    );
    assert_eq!(words, expected);
}
