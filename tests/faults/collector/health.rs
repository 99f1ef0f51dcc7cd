//! Collectors whose health check is bad: wrong answers, silence, a port of another process.

use serde_json::{Value, json};

use super::Fate::{RolledBack, Trusted};
use super::{Case, config, try_all};
use crate::support::http::{Reply, Server};
use crate::support::process;

/// Declares a health check at `declared`, and at `served` the stand-in has one, as `health` says besides; 0 means a
/// free port.
fn checked(name: &'static str, declared: u16, served: Option<u16>, health: Value, fate: super::Fate) -> Case {
    let make = move || {
        let port = |given: u16| if given == 0 { process::free_port() } else { given };
        let declared = port(declared);
        let mut health = health.clone();
        health["port"] = json!(served.map_or(declared, port));
        let mut config = config(name, json!({"health": health}));
        config["extensions"] = json!({"health_check": {"endpoint": format!("127.0.0.1:{declared}")}});
        config["service"]["extensions"] = json!(["health_check"]);
        config
    };
    Case::made(name, make, fate)
}

/// At the port that it declares.
fn own(name: &'static str, health: Value, fate: super::Fate) -> Case {
    checked(name, 0, None, health, fate)
}

#[test]
fn answers() {
    try_all(vec![
        own("health_check answers 500", json!({"status": 500}), RolledBack("answered 500")),
        own("health_check answers 503", json!({"status": 503}), RolledBack("answered 503")),
        own("health_check does not speak HTTP", json!({"is_garbled": true}), RolledBack("is not HTTP")),
        own("health_check answers after 2 s", json!({"delay_ms": 2000}), Trusted),
    ]);
}

/// Each waits for 5 s.
#[test]
fn silence() {
    let words = RolledBack("did not answer within 5 s");
    let mut cases = vec![
        own("health_check hangs", json!({"is_silent": true}), words),
        own("health_check answers after 8 s", json!({"delay_ms": 8000}), words),
    ];
    cases.iter_mut().for_each(|case| case.is_slow = true);
    try_all(cases);
}

#[test]
fn ports() {
    // Of another process, which answers 200.
    let stranger = Server::start(0, None, |_| Reply::status(200, &[], "all is well")).unwrap();
    let taken = stranger.addr.port();
    try_all(vec![
        checked("health_check's port is closed", 0, Some(0), json!({}), RolledBack("cannot be reached"))
            .beside(RolledBack("does not listen on its health check")),
        // What real collectors do: they do not start.
        checked("health_check's port is in use", taken, None, json!({}), RolledBack("ddress already in use")),
        // Nobody is asked who answers, but for two collectors of ours.
        checked("the same, and the collector does not mind", taken, Some(0), json!({}), Trusted)
            .beside(RolledBack("does not listen on its health check")),
    ]);
    drop(stranger);
}
