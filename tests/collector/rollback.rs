//! Configs that validate and do not work: telemetry flows again through the confirmed one.

use std::fs;
use std::net::TcpListener;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Site, is_running, message, settled, wait_proved, wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::process;

/// Offers `config` and expects it to be rolled back, reported in these words and not tried again.
fn expect_rolled_back(site: &Site, agent: &Agent, config: &Value, words: &[&str]) {
    site.delivers(agent, "before");
    let proofs = agent.count_log(is_running);
    site.api.answer_config(config.clone());
    let report = site.api.wait_for_request("the roll back", |request| message(request).contains("rolled back"));
    for word in words {
        assert!(message(&report).contains(word), "{word}: {}", message(&report));
    }
    agent.wait_until("a collector as good as before", || agent.count_log(is_running) > proofs);
    site.delivers(agent, "after");
    wait_proved(agent, &site.config(), &site.config());
    assert_eq!(serde_yaml::from_str::<Value>(&agent.rejected()).unwrap(), *config);

    let (pid, seen) = (agent.wait_collector(), site.api.requests().len());
    agent.wait_until("three polls", || site.api.requests().len() >= seen + 3);
    assert_eq!(agent.wait_collector(), pid, "tried again");
    assert_eq!(agent.count_log(|line| line.msg().starts_with("config rolled back")), 1);
    // Worded by the refusal from then on, for the same reason.
    let reason = message(&report).split_once("rolled back: ").unwrap().1.to_string();
    assert!(site.api.requests()[seen..].iter().all(|request| message(request).ends_with(&reason)), "another reason");
    assert_eq!(site.api.requests().last().unwrap().json()["collector_status"], "Running");
}

#[test]
fn an_address_that_this_host_does_not_have() {
    let site = Site::new();
    let agent = settled(site.patient(), &site.config());
    let mut config = site.config();
    // For documentation only (RFC 5737).
    config["receivers"]["otlp"]["protocols"]["grpc"] = json!({"endpoint": "192.0.2.1:4317"});
    expect_rolled_back(
        &site,
        &agent,
        &config,
        &["exited with status 1", "192.0.2.1:4317", "cannot assign requested address"],
    );
}

/// It is no fault of the config: that is not rejected, and tried again when the port is free.
#[test]
fn a_port_that_is_taken() {
    let site = Site::new();
    let agent = settled(site.patient(), &site.config());
    let proofs = agent.count_log(is_running);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = site.config();
    let endpoint = taken.local_addr().unwrap().to_string();
    config["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = json!(endpoint);
    site.api.answer_config(config.clone());
    let report = site.api.wait_for_request("the roll back", |request| message(request).contains("will be tried again"));
    for words in ["exited with status 1", "address already in use", &format!("{endpoint} is in use by ")] {
        assert!(message(&report).contains(words), "{words}: {}", message(&report));
    }
    agent.wait_until("a collector as good as before", || agent.count_log(is_running) > proofs);
    site.delivers(&agent, "after");
    wait_proved(&agent, &site.config(), &site.config());
    assert_eq!(agent.status().unwrap()["config"]["rejected_revision"], Value::Null);

    let seen = site.api.requests().len();
    agent.wait_until("three polls", || site.api.requests().len() >= seen + 3);
    assert_eq!(agent.count_log(|line| line.msg().starts_with("config rolled back")), 1, "tried again at once");
    let seen = agent.log().len();
    drop(taken);
    wait_running(&agent, seen);
    assert_eq!(agent.config(), config);
    site.api.wait_for_request_after(site.api.requests().len(), "no problem", |request| message(request).is_empty());
}

/// The receiver waits for its storage with the health check at 503, longer than the time to start and the probation.
#[test]
fn a_collector_that_lives_and_is_not_healthy() {
    let site = Site::new();
    let builder = site.patient().setting("start-timeout", "2s");
    let dir = builder.dir().join("storage");
    fs::create_dir(&dir).unwrap();
    let input = builder.dir().join("input.log");
    fs::write(&input, "").unwrap();
    let agent = settled(builder, &site.config());
    // bbolt takes this lock; a process that has it keeps the extension from opening its database.
    let lock = fs::File::create(dir.join("receiver_filelog_")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut config = site.checked(site.config());
    config["extensions"]["file_storage"] = json!({"directory": dir, "timeout": "60s"});
    config["receivers"]["filelog"] = json!({"include": [input], "storage": "file_storage"});
    config["service"]["extensions"] = json!(["health_check", "file_storage"]);
    config["service"]["pipelines"]["logs"]["receivers"] = json!(["otlp", "filelog"]);
    expect_rolled_back(&site, &agent, &config, &["health check", "answered 503"]);
}

#[test]
fn an_agent_that_starts_with_a_broken_config_falls_back() {
    let site = Site::new();
    let agent = settled(site.patient(), &site.config());
    assert_eq!(agent.stop(), 0);
    let mut broken = site.config();
    broken["service"]["pipelines"]["logs"]["exporters"] = json!(["no_such_exporter"]);
    fs::write(agent.config_file(), yaml(&broken)).unwrap();
    let seen = agent.log().len();
    agent.spawn();
    agent.wait_log_after(seen, "a roll back", |line| line.msg().starts_with("config rolled back"));
    wait_running(&agent, seen);
    site.delivers(&agent, "from the confirmed one");
    assert_eq!(agent.config(), site.config());
    let report = site.api.wait_for_request("the reason", |request| message(request).contains("no_such_exporter"));
    assert!(message(&report).contains("rolled back"), "{}", message(&report));
}

/// The last lines of a crash are not told either when they may quote a file.
#[test]
fn what_a_config_reads_from_a_file_is_not_told_when_it_crashes() {
    let site = Site::new();
    let builder = site.patient().setting("policy", "none");
    let secret = builder.dir().join("secret");
    fs::write(&secret, "SECRET-of-a-file").unwrap();
    let agent = settled(builder, &site.config());
    let mut config = site.config();
    let path = format!("/nonexistent/${{file:{}}}", secret.display());
    config["exporters"]["otlp_http"]["tls"] = json!({"ca_file": path});
    let words = [
        "exited with status 1",
        "cannot start pipelines at exporters::otlp_http (no such file or directory)",
        "because the config reads ${file:…} at exporters::otlp_http::tls::ca_file",
    ];
    site.api.answer_config(config);
    let report = site.api.wait_for_request("the roll back", |request| message(request).contains("will be tried again"));
    for word in words {
        assert!(message(&report).contains(word), "{word}: {}", message(&report));
    }
    let mut out: Vec<String> = site.api.requests().iter().map(message).collect();
    out.push(agent.status().unwrap().to_string());
    for text in out {
        assert!(!text.contains("SECRET"), "{text}");
    }
    agent.wait_log("the collector's own line", |line| line.text.contains("SECRET-of-a-file"));
}

/// Nor when they hold telemetry.
#[test]
fn what_an_exporter_prints_is_not_told_when_it_crashes() {
    let site = Site::new();
    let builder =
        site.patient().setting("policy", "none").setting("min-uptime", "10s").setting("restart-mode", "restart");
    let file = builder.dir().join("file");
    fs::write(&file, "SECRET-of-a-file\n").unwrap();
    let agent = settled(builder, &site.config());
    let mut config = site.config();
    config["receivers"]["filelog"] = json!({"include": [file], "start_at": "beginning"});
    config["exporters"]["debug"] = json!({"verbosity": "detailed", "use_internal_logger": false});
    config["service"]["pipelines"]["logs/file"] = json!({"receivers": ["filelog"], "exporters": ["debug"]});
    site.api.answer_config(config);
    agent.wait_log("the file's line", |line| line.text.contains("SECRET-of-a-file"));
    process::signal(agent.wait_collector(), Signal::KILL);
    let report = site.api.wait_for_request("the crash", |request| message(request).contains("KILL"));
    let why = "only in the agent's log, because the config prints telemetry at exporters::debug";
    assert!(message(&report).contains(why), "{}", message(&report));
    for text in [message(&report), agent.status().unwrap().to_string()] {
        assert!(!text.contains("SECRET"), "{text}");
    }
}
