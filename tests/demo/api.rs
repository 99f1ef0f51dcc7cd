//! The config API of `make demo`: serves one YAML file to an agent and prints what the agent reports.
//!
//! `demo-api --port N --config FILE` prints its address, then a line per status. The file is read again at each
//! request, so that editing it is all it takes to push a config; as long as it is missing or empty there is none to
//! push. `demo-api --get URL` and `demo-api --free-ports N` spare the demo script a need for curl and the like.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

#[allow(dead_code)]
#[path = "../support/http.rs"]
mod http;

use http::{Reply, Request, Server};

const USAGE: &str = "usage: demo-api --port N --config FILE | --get URL | --free-ports N";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["--port", port, "--config", file] | ["--config", file, "--port", port] => serve(port, file.into()),
        ["--get", url] => get(url),
        ["--free-ports", count] => free_ports(count),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("demo-api: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn serve(port: &str, file: PathBuf) -> Result<(), String> {
    let port = port.parse().map_err(|_| USAGE)?;
    let server = Server::start(port, None, move |request| {
        println!("{}", describe(&request));
        match answer(&file) {
            Ok(answer) => Reply::json(&answer),
            Err(problem) => {
                println!("cannot serve {}: {problem}", file.display());
                Reply::status(500, &[], problem)
            }
        }
    });
    let server = server.map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    println!("http://{}/agents/config-check", server.addr);
    server.join();
    Ok(())
}

/// The wire contract's answer for what the file says now.
fn answer(file: &Path) -> Result<Value, String> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.to_string()),
    };
    let config: Value = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
    Ok(json!({"restart_required": !config.is_null(), "config": config}))
}

/// One readable line for a status report.
fn describe(request: &Request) -> String {
    let status = request.json();
    let word = |key: &str| status[key].as_str().unwrap_or("?").to_string();
    let mut line =
        format!("{}: agent {}, collector {}", word("hostname"), word("agent_status"), word("collector_status"));
    if let Some(version) = status["collector_version"].as_str().filter(|version| !version.is_empty()) {
        line += &format!(" ({version})");
    }
    let problem = word("last_error_message");
    if !problem.is_empty() {
        line += &format!(", problem: {}", problem.replace('\n', " | "));
    }
    line
}

fn get(url: &str) -> Result<(), String> {
    let mut response = ureq::get(url).call().map_err(|error| format!("{url}: {error}"))?;
    println!("{}", response.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))?);
    Ok(())
}

fn free_ports(count: &str) -> Result<(), String> {
    let count: usize = count.parse().map_err(|_| USAGE)?;
    let listeners: Result<Vec<TcpListener>, _> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    for listener in listeners.map_err(|error| error.to_string())? {
        println!("{}", listener.local_addr().map_err(|error| error.to_string())?.port());
    }
    Ok(())
}
