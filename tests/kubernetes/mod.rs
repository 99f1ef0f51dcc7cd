//! A real cluster, which `tests/kubernetes/run` starts: what is tested runs in its pods, the tests in its network.

mod chart;
mod pod;
mod updater;
mod vendor;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::support::bin::{self, Output};
use crate::support::needs;
use crate::support::source;
use crate::support::wait::wait_for;

/// For what takes a pod, whose image may have to be unpacked first, on a busy machine.
const POD_DEADLINE: Duration = Duration::from_secs(90);
/// As a test's image is called on the nodes.
const IMAGE: &str = "localhost/kmagent:1";

/// A namespace of its own in the cluster, which ends with the value.
struct Cluster {
    dir: PathBuf,
    namespace: String,
}

impl Cluster {
    /// `None` when there is no cluster, which is said.
    #[track_caller]
    fn namespace(name: &str) -> Option<Cluster> {
        let dir = std::env::var_os("KM_KUBERNETES");
        if !needs::that(dir.is_some(), "it takes a Kubernetes cluster: tests/kubernetes/run") {
            return None;
        }
        let cluster = Cluster { dir: dir.unwrap().into(), namespace: name.to_string() };
        cluster.kubectl(["create", "namespace", name]).says();
        // The admission of pods waits for it.
        cluster.wait("the default account", || cluster.kubectl(["get", "serviceaccount", "default"]).code == Some(0));
        Some(cluster)
    }

    fn run<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Output {
        bin::output_within(POD_DEADLINE, self.command(program, args))
    }

    /// In no namespace of ours.
    fn run_bare<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Output {
        let mut command = Command::new(source::path("tests/kubernetes/cluster"));
        command.arg(program).arg(&self.dir).args(args).stdin(Stdio::null());
        bin::output_within(POD_DEADLINE, command)
    }

    fn command<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(source::path("tests/kubernetes/cluster"));
        command.arg(program).arg(&self.dir).args(["--namespace", &self.namespace]).args(args);
        command.stdin(Stdio::null());
        command
    }

    fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        self.run("kubectl", args)
    }

    /// What the API server has of an object.
    fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(self.kubectl(["get", kind, name, "-o", "json"]).says()).unwrap()
    }

    fn apply(&self, manifest: &str) {
        let output = piped(&mut self.command("kubectl", ["apply", "-f", "-"]), manifest);
        assert!(output.status.success(), "{}\n{manifest}", String::from_utf8_lossy(&output.stderr));
    }

    #[track_caller]
    fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        wait_for(what, POD_DEADLINE, || condition().then_some(()));
    }

    fn is_ready(&self, pod: &str) -> bool {
        let conditions = self.get("pod", pod)["status"]["conditions"].clone();
        let conditions = conditions.as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    #[track_caller]
    fn wait_ready(&self, pod: &str) {
        self.wait(&format!("{pod} ready"), || self.is_ready(pod));
    }

    fn address(&self, pod: &str) -> String {
        self.get("pod", pod)["status"]["podIP"].as_str().unwrap().to_string()
    }

    /// As the agent of a pod answers it.
    fn status(&self, pod: &str) -> Option<Value> {
        let output = self.kubectl(["exec", pod, "--", "/usr/local/bin/kmagent", "status", "--json"]);
        serde_json::from_str(&output.stdout).ok()
    }

    fn logs(&self, pod: &str) -> String {
        self.kubectl(["logs", pod]).stdout
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            for args in [&["get", "pods", "-o", "wide"][..], &["get", "events"], &["describe", "pods"]] {
                eprintln!("{}", self.kubectl(args.iter().copied()).stdout);
            }
            let pods = self.kubectl(["get", "pods", "-o", "name"]).stdout;
            for pod in pods.lines() {
                eprintln!("--- {pod}:\n{}", self.kubectl(["logs", "--tail", "40", pod]).stdout);
            }
        }
        self.kubectl(["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// Runs it to its end with this standard input.
fn piped(command: &mut Command, input: &str) -> std::process::Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Sends OTLP log records to a collector all the while, each by a connection of its own.
struct Load {
    ended: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Vec<String>>>,
    sent: Arc<AtomicUsize>,
}

const SENDERS: usize = 4;

impl Load {
    fn start(address: &str) -> Load {
        let address: SocketAddr = address.parse().unwrap();
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let sender = |_| {
            let (ended, sent) = (Arc::clone(&ended), Arc::clone(&sent));
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    failures.extend(send(address).err());
                    sent.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
                failures
            })
        };
        Load { senders: (0..SENDERS).map(sender).collect(), ended, sent }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// What failed, of how many.
    fn end(self) -> (Vec<String>, usize) {
        self.ended.store(true, Ordering::Relaxed);
        let failures = self.senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        (failures, self.sent.load(Ordering::Relaxed))
    }
}

fn send(address: SocketAddr) -> Result<(), String> {
    const BODY: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"load"}}]}]}]}"#;
    let attempt = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let head =
            "POST /v1/logs HTTP/1.1\r\nhost: collector\r\nconnection: close\r\ncontent-type: application/json\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{BODY}", BODY.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match attempt() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
        Ok(answer) => Err(format!("answered {:?}", answer.lines().next())),
        Err(error) => Err(error.to_string()),
    }
}
