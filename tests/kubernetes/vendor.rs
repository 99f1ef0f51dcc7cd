//! The vendor's API as pods reach it: on the node's address, with what it was asked and what it answers.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::http::{Reply, Request, Server};

/// Of the one node's, which every pod reaches.
const NODE: &str = "10.77.0.1";

pub struct Vendor {
    server: Server,
    script: Arc<Mutex<(Value, Vec<Request>)>>,
}

impl Vendor {
    pub fn start() -> Vendor {
        let script = Arc::new(Mutex::new((json!({"restart_required": false, "config": null}), Vec::new())));
        let shared = Arc::clone(&script);
        let server = Server::of(TcpListener::bind((NODE, 0)).unwrap(), None, move |request| {
            let (answer, requests) = &mut *shared.lock().unwrap();
            requests.push(request);
            Reply::json(answer)
        });
        Vendor { server: server.unwrap(), script }
    }

    /// For `update-endpoint`, with `allow-http`.
    pub fn url(&self) -> String {
        format!("http://{}/agents/config-check", self.server.addr)
    }

    pub fn answer(&self, answer: Value) {
        self.script.lock().unwrap().0 = answer;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().1.clone()
    }
}
