//! The negative controls: what the clients see of a plain restart, and of servers that treat them badly. If they saw
//! nothing, they would prove nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::Scene;
use super::load::{Load, Mode};
use crate::support::http::{Reply, Server};
use crate::support::wait::wait_until;

#[test]
fn a_plain_restart_refuses_connections() {
    let scene = Scene::new("restart");
    let loads = scene.load();
    for round in 0..3 {
        let change = scene.change(&format!("round {round}"));
        assert!(!change.overlap, "a plain restart reaps the old collector before it starts the new one");
    }
    let reports = scene.finish("3 changes, restart-mode restart", loads);
    let new = reports.iter().find(|report| report.mode == Some(Mode::New)).unwrap();
    assert!(new.refused + new.reset > 0, "the client cannot see a restart: {new:?}");
    assert!(new.acknowledged > new.refused, "the client saw nothing but failures: {new:?}");
    for udp in reports.iter().filter(|report| report.mode == Some(Mode::Udp)) {
        assert!(udp.lost > 0 && udp.lost < udp.sent as usize, "no datagram was lost, or all: {udp:?}");
    }
}

/// HTTP/1.1 cannot rule out a request that crosses with the closing of its idle connection; everything else is a fault.
#[test]
fn only_what_closes_an_idle_connection_without_a_byte_is_stale() {
    let cut = Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut".to_vec());
    // What each connection's last request gets, which one that is, and whether that is stale.
    for (what, evil, last, is_stale) in [
        ("an idle connection closed", Reply::Close, 2, true),
        ("an idle connection reset", Reply::Reset, 2, true),
        ("an answer cut short", cut, 2, false),
        ("a new connection closed", Reply::Close, 1, false),
        ("a new connection reset", Reply::Reset, 1, false),
    ] {
        let counts: Arc<Mutex<HashMap<u64, u32>>> = Arc::default();
        let all = Arc::clone(&counts);
        let server = Server::start(0, None, move |request| {
            let mut counts = all.lock().unwrap();
            let count = counts.entry(request.connection).or_default();
            *count += 1;
            // Where new ones are treated so, every third is: the exporter tries again at once, but only once.
            match *count == last && (last == 2 || request.connection % 3 == 1) {
                true => evil.clone(),
                false if last == 1 => Reply::status(200, &[("Connection", "close")], "{}"),
                false => Reply::json(&json!({})),
            }
        });
        let server = server.unwrap();
        // Two, since each is to tell its own attempts.
        let loads = Load::start_all([(Mode::Http, server.addr.port(), 40, 2)]);
        wait_until("both workers to have met it", || counts.lock().unwrap().len() > 16);
        let report = &super::counted(what, loads)[0];
        let (stale, reset) = if is_stale { (report.stale, report.reset) } else { (report.reset, report.stale) };
        assert!(stale > 2 && reset == 0 && report.refused + report.other == 0, "{what}: {report:?}");
    }
}
