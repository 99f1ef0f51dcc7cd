//! A stop delivers what the collector still holds, as far as its endpoint accepts it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Site, settled, yaml};
use crate::support::http::{Reply, Server};
use crate::support::process;

#[test]
fn a_stop_delivers_what_the_collector_still_holds() {
    let site = Site::new();
    // Longer than the test: what comes out comes out because of the stop.
    let config = site.config_with("batch", json!({"timeout": "10m"}));
    let agent = settled(site.builder().setting("stop-timeout", "20s"), &config);
    site.takes(&agent, "at the last moment");
    assert_eq!(site.sink.count("at the last moment"), 0);
    assert_eq!(agent.stop(), 0);
    assert_eq!(site.sink.count("at the last moment"), 1);
}

#[test]
fn an_endpoint_that_hangs_does_not_keep_a_stop_from_ending() {
    let site = Site::new();
    let hanging = Server::start(0, None, |_| Reply::Hang).unwrap();
    let mut config = site.config();
    config["exporters"]["otlp_http"]["endpoint"] = json!(format!("http://{}", hanging.addr));
    let agent = settled(site.builder().setting("stop-timeout", "1s"), &config);
    let pid = agent.wait_collector();
    site.takes(&agent, "to nobody");
    let asked_at = Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(asked_at.elapsed() >= Duration::from_secs(1), "not given the time to drain");
    assert_eq!(agent.count_log(|line| line.msg().contains("sending SIGKILL")), 1);
    assert!(!process::alive(pid) && agent.processes().is_empty());
}

/// A collector that has just started does not listen to signals yet: it dies of one, or is about to drain.
#[test]
fn an_agent_that_is_stopped_while_its_collector_starts_ends_with_it() {
    let site = Site::new();
    let agent = site.builder().config(yaml(&site.config())).build();
    for round in 0..6 {
        let seen = agent.log().len();
        agent.spawn();
        agent.wait_log_after(seen, "a start", |line| line.msg() == "collector started");
        if round % 2 == 1 {
            agent.wait_log_after(seen, "its first words", |line| line.text.contains("Everything is ready"));
        }
        assert_eq!(agent.stop(), 0);
        // The agent may have been asking for the version, which dies with it and not before.
        agent.wait_until("the end of everything", || agent.processes().is_empty());
        assert!(!process::port_answers(site.otlp));
    }
}
