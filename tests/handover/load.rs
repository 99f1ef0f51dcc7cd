//! `Load`: a client that sends numbered records all the while (load.py), and its count of what became of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::support::wait::slowness;

/// The exporters' import, a first connection, and a machine that is busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// An exporter that tries again does so for 10 s.
const END_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// OpenTelemetry's gRPC exporter, kept connections.
    Grpc,
    /// OpenTelemetry's HTTP exporter, kept connections.
    Http,
    /// HTTP, a new connection for each request, without OpenTelemetry's exporter and its retries.
    New,
    /// OpenTelemetry's gRPC exporter, a channel for each record.
    GrpcEach,
    /// OpenTelemetry's HTTP exporter, a connection for each request.
    HttpEach,
    /// Syslog messages in datagrams, which nobody acknowledges.
    Udp,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Grpc => "grpc",
            Mode::Http => "http",
            Mode::New => "new",
            Mode::GrpcEach => "grpc-each",
            Mode::HttpEach => "http-each",
            Mode::Udp => "udp",
        }
    }

    /// Numbers of different modes do not meet.
    fn first(self) -> u64 {
        self as u64 * 1_000_000_000
    }
}

/// load.py's last word.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    #[serde(skip)]
    pub mode: Option<Mode>,
    /// How many sent at once, each on its connection.
    #[serde(skip)]
    pub workers: u32,
    /// Of what nobody acknowledges, what has not come out.
    #[serde(skip)]
    pub lost: usize,
    pub sent: u64,
    pub acknowledged: u64,
    /// The numbers of those that were sent in vain.
    unacknowledged: Vec<u64>,
    /// Attempts, those that an exporter repeated included.
    pub refused: u64,
    pub reset: u64,
    /// Requests that crossed with the server's closing of their idle connection, and were sent again at once.
    pub stale: u64,
    /// A status that is not 200, a timeout.
    pub other: u64,
    pub errors: BTreeMap<String, u64>,
    pub longest_gap_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Report {
    /// The numbers of the records that the collector has taken responsibility for.
    pub fn acknowledged_numbers(&self) -> impl Iterator<Item = u64> {
        let first = self.mode.unwrap().first();
        (first..first + self.sent).filter(|number| self.unacknowledged.binary_search(number).is_err())
    }

    /// Its line of a table, and its errors.
    pub fn rows(&self) -> String {
        let Report { sent, acknowledged, refused, reset, stale, other, .. } = self;
        let (mode, gap) = (self.mode.unwrap().word(), self.longest_gap_ms);
        let mut rows = format!(
            "  {mode:<9} sent {sent:>6} acknowledged {acknowledged:>6} refused {refused:>4} reset {reset:>3} stale {stale:>2} \
             other {other:>2} longest gap {gap:>7.1} ms p50 {:>5.1} p99 {:>6.1} max {:>7.1} ms\n",
            self.p50_ms, self.p99_ms, self.max_ms
        );
        self.errors.iter().for_each(|(text, count)| rows += &format!("       {count} times {text}\n"));
        rows
    }
}

/// A client at work. Dropping it ends it.
pub struct Load {
    mode: Mode,
    workers: u32,
    child: Child,
    /// The client ends when this does.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
}

impl Load {
    /// Starts each with its mode, port, records a second (fewer on a slow machine) and connections at a time, and waits
    /// for a first acknowledgement of each. All at once, since what they import takes seconds.
    #[track_caller]
    pub fn start_all(wanted: impl IntoIterator<Item = (Mode, u16, u32, u32)>) -> Vec<Load> {
        let launch = |(mode, port, rate, workers)| Load::launch(mode, port, rate, workers);
        let mut loads: Vec<Load> = wanted.into_iter().map(launch).collect();
        loads.iter_mut().for_each(Load::wait_flowing);
        loads
    }

    #[track_caller]
    fn launch(mode: Mode, port: u16, rate: u32, workers: u32) -> Load {
        let mut command = Command::new(python());
        command.arg(own("load.py")).args(["--mode", mode.word()]);
        let rate = (rate / slowness()).max(1);
        command.args(["--port", &port.to_string(), "--rate", &rate.to_string()]);
        command.args(["--workers", &workers.to_string(), "--first", &mode.first().to_string()]);
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let stderr = Arc::new(Mutex::new(String::new()));
        let (complaints, all) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&stderr));
        thread::spawn(move || {
            complaints.lines().map_while(Result::ok).for_each(|line| *all.lock().unwrap() += &(line + "\n"));
        });
        Load { mode, workers, stdin: child.stdin.take(), child, lines, stderr }
    }

    #[track_caller]
    fn wait_flowing(&mut self) {
        assert_eq!(self.line(START_TIMEOUT, "a first acknowledgement"), "flowing");
    }

    #[track_caller]
    fn line(&mut self, timeout: Duration, what: &str) -> String {
        self.lines.recv_timeout(timeout * slowness()).unwrap_or_else(|_| {
            panic!("no {what} from load.py --mode {}: {}", self.mode.word(), self.stderr.lock().unwrap())
        })
    }

    /// Ends it and returns its count.
    #[track_caller]
    pub fn stop(mut self) -> Report {
        self.stdin = None;
        let text = self.line(END_TIMEOUT, "count");
        let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Report { mode: Some(self.mode), workers: self.workers, ..report }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handover").join(name)
}

/// A Python with OpenTelemetry's exporters; where it cannot be had, the test fails with the reason.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output =
            Command::new(own("python")).stdin(Stdio::null()).output().expect("cannot run tests/handover/python");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "no Python with OpenTelemetry's exporters:\n{complaints}");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}
