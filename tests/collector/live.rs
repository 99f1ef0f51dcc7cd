//! A change goes live: telemetry takes the new way, and only that one.

use serde_json::json;

use super::{Site, settled, wait_proved, wait_running, yaml};
use crate::support::api::Api;
use crate::support::otlp::OtlpSink;

/// `config` with an attribute that its pipeline adds to each record.
fn tagged(site: &Site, value: &str) -> serde_json::Value {
    site.config_with("attributes", json!({"actions": [{"key": "way", "value": value, "action": "upsert"}]}))
}

#[test]
fn telemetry_takes_the_new_way_and_not_the_old_one() {
    for api in [Api::plain(), Api::tls()] {
        let site = Site::with(api);
        let agent = site.settled();
        let before = site.delivers(&agent, "the old way");
        assert_eq!(before["attributes"], json!(null), "{before}");

        let (old, seen, moved) = (agent.wait_collector(), agent.log().len(), OtlpSink::start());
        let mut config = tagged(&site, "new");
        config["exporters"]["otlp_http"] = moved.exporter();
        site.api.answer_config(config.clone());
        wait_running(&agent, seen);
        let after = site.delivers_to(&agent, &moved, "the new way");
        assert_eq!(after["attributes"], json!([{"key": "way", "value": {"stringValue": "new"}}]));
        assert_eq!((site.sink.count("the new way"), moved.count("the old way")), (0, 0));
        assert_ne!(agent.wait_collector(), old);
        wait_proved(&agent, &config, &config);
        assert_eq!(agent.status().unwrap()["last_error_message"], "");
    }
}

#[test]
fn an_overlay_of_the_site_wins_over_what_the_api_sends() {
    let site = Site::new();
    let overlay =
        json!({"processors": {"attributes": {"actions": [{"key": "way", "value": "ours", "action": "upsert"}]}}});
    let builder = site.builder();
    let path = builder.dir().join("overlay.yaml");
    std::fs::write(&path, yaml(&overlay)).unwrap();
    let agent = settled(builder.setting("local-config", path.display().to_string()), &tagged(&site, "sent"));
    let way = |text: &str| site.delivers(&agent, text)["attributes"][0]["value"]["stringValue"].clone();
    assert_eq!(way("before"), "ours");
    // What the API sends next is merged with it too.
    let seen = agent.log().len();
    let mut config = tagged(&site, "sent again");
    config["exporters"]["otlp_http"]["headers"] = json!({"x-generation": "2"});
    site.api.answer_config(config.clone());
    wait_running(&agent, seen);
    assert_eq!(way("after"), "ours");
    assert_eq!(site.sink.wait_for_text("after").header("x-generation"), Some("2"));
    assert_eq!(agent.config(), config, "the overlay belongs in no file of ours");
}

#[test]
fn a_restart_request_restarts_and_the_same_config_does_not() {
    let site = Site::new();
    let agent = site.settled();
    let pid = agent.wait_collector();
    let seen = site.api.requests().len();
    site.api.answer(json!({"restart_required": false, "config": site.config()}));
    agent.wait_until("three polls", || site.api.requests().len() >= seen + 3);
    assert_eq!(agent.wait_collector(), pid);
    let seen = agent.log().len();
    site.api.answer(json!({"restart_required": true}));
    wait_running(&agent, seen);
    assert_ne!(agent.wait_collector(), pid);
    site.delivers(&agent, "after the restart");
}
