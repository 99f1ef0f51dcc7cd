//! Certificates that are no good: the API is not believed, the collector stays, and the reason says what to do.

use rustix::process::Signal;

use super::{Site, settled};
use crate::support::agent::Agent;
use crate::support::api::Api;

/// An agent that cannot trust its API keeps its collector, whatever the API would have it do.
fn expect_distrust(site: &Site, agent: &Agent, reason: &str) {
    let pid = agent.wait_collector();
    let failed = agent.wait_log("a failed check", |line| line.msg().starts_with("config check failed"));
    assert!(failed.field("error").contains(reason), "{}", failed.text);
    let check = agent.run(["--check"]);
    assert!(check.code == Some(75) && check.stderr.contains(reason), "{check:?}");
    assert_eq!(agent.status().unwrap()["polling"]["succeeded_at"], serde_json::Value::Null);
    assert!(site.api.requests().is_empty(), "the key was sent to a server that nobody vouches for");
    assert_eq!((agent.wait_collector(), agent.config()), (pid, site.config()));
    assert_eq!(agent.count_log(|line| line.msg().starts_with("config check failed")), 1, "said more than once");
    site.delivers(agent, "still here");
}

#[test]
fn a_server_of_another_authority_is_refused_until_the_right_one_is_named() {
    let (site, other) = (Site::with(Api::tls()), Api::tls());
    site.api.answer_config(site.config_with("batch", serde_json::json!(null)));
    let named = site.builder().setting("ca-file", other.ca_file().unwrap().display().to_string());
    let agent = settled(named, &site.config());
    let remedy = format!("no authority in ca-file {} has signed", other.ca_file().unwrap().display());
    expect_distrust(&site, &agent, &remedy);

    // The control: nothing but the authority was wrong.
    let settings = std::fs::read_to_string(agent.settings_file()).unwrap();
    let (wrong, right) = (other.ca_file().unwrap().display(), site.api.ca_file().unwrap().display());
    std::fs::write(agent.settings_file(), settings.replace(&wrong.to_string(), &right.to_string())).unwrap();
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(), 0);
    agent.spawn();
    site.api.wait_for_request("a poll", |_| true);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let site = Site::with(Api::tls_for(&["elsewhere.example"]));
    site.api.answer_config(site.config_with("batch", serde_json::json!(null)));
    let agent = site.settled();
    expect_distrust(&site, &agent, "certificate is for elsewhere.example, not for 127.0.0.1");
}

#[test]
fn a_certificate_that_has_expired_is_refused() {
    let site = Site::with(Api::tls_expired());
    site.api.answer_config(site.config_with("batch", serde_json::json!(null)));
    let agent = site.settled();
    expect_distrust(&site, &agent, "certificate expired on 2020-02-01; this host's clock says");
}
