//! What the agent and its clients read of each other's: the records in the state directory, and the reply of whoever
//! listens on the control socket. Any bytes are taken or refused, and what is shown of them moves no terminal's cursor.
#![no_main]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use kmagent::cmd::status;
use kmagent::control::client::{self, Answer};
use kmagent::control::{self, Reply, Request};
use kmagent::settings::AgentPaths;
use kmagent::store::record::{Record, Rejected, Unfinished, Version};
use libfuzzer_sys::fuzz_target;

struct Listening {
    paths: AgentPaths,
    reply: Arc<Mutex<Vec<u8>>>,
}

static LISTENING: LazyLock<Listening> = LazyLock::new(|| {
    let directory: PathBuf = std::env::temp_dir().join(format!("km-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let listener = UnixListener::bind(control::socket_path(&directory)).unwrap();
    let reply = Arc::new(Mutex::new(Vec::<u8>::new()));
    let current = reply.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, reply) = (stream.unwrap(), current.lock().unwrap().clone());
            let _ = stream.read(&mut [0u8; 256]);
            // The client hangs up when it has read enough.
            let _ = stream.write_all(&reply);
        }
    });
    let settings_file = directory.join("agent.yaml");
    let stop_timeout = Duration::from_secs(30);
    let paths = AgentPaths { run_dir: directory.clone(), state_dir: directory, settings_file, stop_timeout };
    Listening { paths, reply }
});

fuzz_target!(|bytes: &[u8]| {
    let Listening { paths, reply } = &*LISTENING;
    *reply.lock().unwrap() = bytes.to_vec();
    // Another request would be asked again after an answer that breaks off.
    if let Ok(Answer::Reply(Reply::Status(status))) = client::ask(paths, Request::Stop { progress: true }, Duration::from_secs(5)) {
        let shown = status::render(&status);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "a control character: {shown:?}");
    }

    std::fs::write(paths.state_dir.join("record.json"), bytes).unwrap();
    let open = |name| Record::<Rejected>::open(&paths.state_dir, name);
    if let Some(rejected) = open("record.json").get() {
        let again: Rejected = serde_json::from_str(&serde_json::to_string(rejected).unwrap()).unwrap();
        assert_eq!(&again, rejected);
    }
    let _ = Record::<Version>::open(&paths.state_dir, "record.json");
    let _ = Record::<Unfinished>::open(&paths.state_dir, "record.json");
});
