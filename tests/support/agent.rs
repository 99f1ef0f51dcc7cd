//! `Agent`: a kmagent in a directory and an environment of its own, which leaves nothing behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value};

use super::api::Api;
use super::bin::{Output, copy_program, fake, kmagent, output};
use super::generations;
use super::machine;
use super::process;
use super::temp_dir::TempDir;
use super::wait::{self, DEADLINE, poll_for};

/// One line that the agent wrote on stderr.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    /// Null when the line is not JSON.
    pub json: Value,
}

impl Line {
    /// A field's text; `""` when the line is not JSON or has no such text.
    pub fn field(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    pub fn level(&self) -> &str {
        self.field("level")
    }

    pub fn msg(&self) -> &str {
        self.field("msg")
    }

    pub fn is_collector(&self) -> bool {
        self.field("target") == "collector"
    }
}

/// What an agent is to be started with.
///
/// Defaults that suit a test: the stand-in collector, a poll a second, `min-uptime` 1 s, `stop-timeout` 5 s, debug log,
/// no API. All of it is written to `etc/agent.yaml`; the environment is empty but for `PATH` and `FAKE_LOG`.
pub struct Builder {
    dir: TempDir,
    program: PathBuf,
    settings: Map<String, Value>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    config: Option<String>,
    /// Below the directory.
    settings_file: &'static str,
}

impl Builder {
    /// Polls this API, with its authority as `ca-file`, and with an API key unless one is set already.
    pub fn api(self, api: &Api) -> Builder {
        let ca_file = api.ca_file().map(|path| path.display().to_string());
        let with_url = self.setting("update-endpoint", api.url());
        let keyed =
            if with_url.settings.contains_key("api-key") { with_url } else { with_url.setting("api-key", "test-key") };
        match ca_file {
            Some(path) => keyed.setting("ca-file", path),
            None => keyed,
        }
    }

    /// The `collector` setting.
    pub fn collector(self, path: impl AsRef<Path>) -> Builder {
        self.setting("collector", path.as_ref().display().to_string())
    }

    /// A copy of this collector, where every user can run it; if it is the stand-in, every user can write its log.
    pub fn collector_for_all(self, program: &Path) -> Builder {
        let (copy, log) = (self.dir.join("collector"), self.dir.join("fake.log"));
        copy_program(program, &copy);
        fs::write(&log, "").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
        self.collector(copy)
    }

    /// The settings in the test's own directory, for a test that gives `etc` to another user: as root the agent takes
    /// no program from a file that another user could replace.
    pub fn settings_apart(mut self) -> Builder {
        self.settings_file = "agent.yaml";
        self
    }

    /// Its own paths by the environment, for a test that gives the settings to another user: as root the agent takes
    /// from that file no path that is not that user's.
    pub fn paths_by_environment(mut self) -> Builder {
        for (key, variable) in
            [("config", "KM_COLLECTOR_CONFIG"), ("state-dir", "KM_STATE_DIR"), ("run-dir", "KM_RUN_DIR")]
        {
            let Some(Value::String(path)) = self.settings.remove(key) else { panic!("no {key}") };
            self = self.env(variable, path);
        }
        self
    }

    /// Another binary than `bin::kmagent()`.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Builder {
        self.program = path.into();
        self
    }

    /// A key of `agent.yaml`; it replaces a default.
    pub fn setting(mut self, key: &str, value: impl Into<Value>) -> Builder {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// Takes a key out of `agent.yaml`, a default for instance.
    pub fn without(mut self, key: &str) -> Builder {
        self.settings.remove(key);
        self
    }

    pub fn env(mut self, key: &str, value: impl Into<String>) -> Builder {
        self.env.push((key.into(), value.into()));
        self
    }

    /// An option for every command line, before the command.
    pub fn arg(mut self, arg: impl Into<String>) -> Builder {
        self.args.push(arg.into());
        self
    }

    /// The collector's config file at the start, as YAML text; without it there is none.
    pub fn config(mut self, text: impl Into<String>) -> Builder {
        self.config = Some(text.into());
        self
    }

    /// The test's directory, for settings that point into it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn build(self) -> Agent {
        fs::create_dir(self.dir.join("etc")).unwrap();
        let settings = serde_yaml::to_string(&self.settings).unwrap();
        fs::write(self.dir.join(self.settings_file), settings).unwrap();
        if let Some(text) = &self.config {
            fs::write(self.dir.join("etc/config.yaml"), text).unwrap();
        }
        let Builder { dir, program, env, args, settings_file, .. } = self;
        Agent {
            settings_file: dir.join(settings_file),
            dir,
            program,
            env,
            args,
            child: Mutex::default(),
            exit: Mutex::default(),
            log: Arc::default(),
            reader: Mutex::default(),
        }
    }

    /// Builds it and starts it resident.
    pub fn spawn(self) -> Agent {
        let agent = self.build();
        agent.spawn();
        agent
    }
}

/// A kmagent. Dropping it kills the agent and everything that was started below it, and, in a test that failed, prints
/// what there is to know.
pub struct Agent {
    dir: TempDir,
    settings_file: PathBuf,
    program: PathBuf,
    env: Vec<(String, String)>,
    args: Vec<String>,
    child: Mutex<Option<Child>>,
    exit: Mutex<Option<ExitStatus>>,
    log: Arc<Mutex<Vec<Line>>>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Agent {
    pub fn builder() -> Builder {
        let builder = Builder {
            dir: TempDir::new(),
            program: kmagent(),
            settings: Map::new(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            args: Vec::new(),
            config: None,
            settings_file: "etc/agent.yaml",
        };
        let path = |name| builder.dir.join(name).display().to_string();
        let (config, state, run, log) = (path("etc/config.yaml"), path("state"), path("run"), path("fake.log"));
        let builder = builder.env("FAKE_LOG", log).setting("config", config);
        let builder = builder.setting("state-dir", state).setting("run-dir", run).collector(fake());
        let builder = builder.setting("config-check-interval", "1s").setting("min-uptime", "1s");
        builder.setting("stop-timeout", "5s").setting("log-level", "debug")
    }

    /// The root of everything that belongs to this agent.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The collector's config file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("etc/config.yaml")
    }

    pub fn settings_file(&self) -> PathBuf {
        self.settings_file.clone()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/control.sock")
    }

    /// `etc/config.yaml` as a value; null when there is none.
    pub fn config(&self) -> Value {
        fs::read_to_string(self.config_file()).map_or(Value::Null, |text| serde_yaml::from_str(&text).unwrap())
    }

    /// The newest config that has proved itself, as it is kept; empty when there is none.
    pub fn proved(&self) -> String {
        generations::proved(&self.state_dir())
    }

    /// The same as a value; null when there is none.
    pub fn proved_config(&self) -> Value {
        serde_yaml::from_str(&self.proved()).unwrap()
    }

    /// The newest config that was refused or rolled back, as it is kept; empty when there is none.
    pub fn rejected(&self) -> String {
        generations::rejected(&self.state_dir())
    }

    /// A command with this agent's environment and settings file, for what `run` and `spawn` do not cover.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.env.iter().map(|(key, value)| (key, value)));
        command.arg("--agent-config").arg(self.settings_file()).args(&self.args).args(args);
        command.stdin(Stdio::null()).current_dir(self.dir());
        command
    }

    /// `command` as another user, who must be able to run the program. Needs root.
    pub fn command_as(&self, user: u32, args: &[&str]) -> Command {
        let inner = self.command(args);
        let user = user.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        output(self.command(args))
    }

    /// Starts the resident agent; again, once it has ended. The log goes on.
    #[track_caller]
    pub fn spawn(&self) -> u32 {
        self.spawn_command(self.command(["start"]))
    }

    /// `spawn` with a command line of the test's own, made from `command`.
    #[track_caller]
    pub fn spawn_command(&self, mut command: Command) -> u32 {
        let started_before = self.child.lock().unwrap().is_some();
        assert!(!started_before || self.exit_status().is_some(), "this agent is running already");
        let mut started = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("cannot start kmagent");
        let stderr = started.stderr.take().unwrap();
        let log = Arc::clone(&self.log);
        *self.reader.lock().unwrap() = Some(thread::spawn(move || read_log(stderr, &log)));
        let pid = started.id();
        *self.exit.lock().unwrap() = None;
        *self.child.lock().unwrap() = Some(started);
        pid
    }

    /// The resident agent's process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().as_ref().expect("the agent was never started").id()
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// The resident agent's end, if it has come: exit status, or `ExitStatusExt::signal`.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.lock().unwrap();
        if exit.is_none() {
            *exit = self.child.lock().unwrap().as_mut().and_then(|child| child.try_wait().unwrap());
        }
        *exit
    }

    /// Waits for the resident agent's end and returns its exit status; a signal's number is negative.
    #[track_caller]
    pub fn wait_exit(&self) -> i32 {
        let status = self.wait_for("the agent's end", || self.exit_status());
        // Its last words are still on their way; not for longer, since what it left behind may hold the other end.
        let is_read = || self.reader.lock().unwrap().as_ref().is_none_or(JoinHandle::is_finished).then_some(());
        poll_for(Duration::from_secs(1), is_read);
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    /// SIGTERM, then `wait_exit`.
    #[track_caller]
    pub fn stop(&self) -> i32 {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Everything that the resident agent has written on stderr.
    pub fn log(&self) -> Vec<Line> {
        self.lines().clone()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.log.lock().unwrap()
    }

    /// How many log lines fulfil a condition.
    pub fn count_log(&self, condition: impl Fn(&Line) -> bool) -> usize {
        self.lines().iter().filter(|line| condition(line)).count()
    }

    /// The first log line, past or future, for which `condition` holds.
    #[track_caller]
    pub fn wait_log(&self, what: &str, condition: impl Fn(&Line) -> bool) -> Line {
        self.wait_log_after(0, what, condition)
    }

    /// `wait_log` among the lines from number `seen` on; `log().len()` is the number of the next one.
    #[track_caller]
    pub fn wait_log_after(&self, seen: usize, what: &str, condition: impl Fn(&Line) -> bool) -> Line {
        self.wait_for(what, || self.lines().iter().skip(seen).find(|line| condition(line)).cloned())
    }

    /// `wait_log_after` for those who go through the log line by line: `seen` is moved behind the line that was found.
    #[track_caller]
    pub fn next_log(&self, seen: &mut usize, what: &str, condition: impl Fn(&Line) -> bool) -> Line {
        self.wait_for(what, || {
            let lines = self.lines();
            let found = (*seen..lines.len()).find(|&number| condition(&lines[number]));
            *seen = found.map_or(lines.len(), |number| number + 1);
            found.map(|number| lines[number].clone())
        })
    }

    /// What `kmagent status --json` says; `None` when it fails.
    pub fn status(&self) -> Option<Value> {
        let output = self.run(["status", "--json"]);
        if output.code == Some(0) { serde_json::from_str(&output.stdout).ok() } else { None }
    }

    /// Waits until `kmagent status --json` fulfils a condition.
    #[track_caller]
    pub fn wait_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(what, || self.status().filter(|status| condition(status)))
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        self.wait_for(what, || condition().then_some(()));
    }

    /// Waits until `probe` returns something.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        wait::wait_for(what, DEADLINE, probe)
    }

    /// What the stand-in collector recorded (`record` in fake_collector.rs), commands such as `validate` included.
    pub fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.join("fake.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The records of one role: `run`, `validate`, `version`, `grandchild`.
    pub fn records_of(&self, role: &str) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["role"] == role).collect()
    }

    /// How often the stand-in collector was started.
    pub fn starts(&self) -> usize {
        self.records_of("run").len()
    }

    /// Waits for the stand-in collector's start number `count` (from 1) and returns its process id.
    #[track_caller]
    pub fn wait_start(&self, count: usize) -> u32 {
        let record = self
            .wait_for(&format!("start {count} of the collector"), || self.records_of("run").into_iter().nth(count - 1));
        record["pid"].as_u64().unwrap() as u32
    }

    /// The collectors that live now, real or not, oldest first; commands such as `validate` are none.
    pub fn collectors(&self) -> Vec<u32> {
        let command = |word: &String| matches!(word.as_str(), "validate" | "--version" | "hold");
        let agent = self.program.canonicalize().unwrap();
        let mut found = self.processes();
        found.retain(|&pid| {
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let args = process::command_line(pid);
            program != agent
                && Some(program.as_path()) != machine::emulator()
                && args.iter().any(|arg| arg == "--config" || arg.starts_with("--config="))
                && !args.iter().any(command)
        });
        // Go's runtime clones its process for a moment to see whether it may (pidfd_send_signal(2)), command line and
        // all.
        let all = found.clone();
        found.retain(|&pid| process::parent(pid).is_some_and(|parent| !all.contains(&parent)));
        found
    }

    /// Waits until exactly one collector lives and returns its process id.
    #[track_caller]
    pub fn wait_collector(&self) -> u32 {
        self.wait_for("a single collector", || match self.collectors()[..] {
            [pid] => Some(pid),
            _ => None,
        })
    }

    /// Every live process that this agent or a command of it has started, themselves included: orphans cannot hide,
    /// since they are known by the environment that they inherited. A command's own environment only root can read, as
    /// the agent's.
    pub fn processes(&self) -> Vec<u32> {
        let mark = self.env.iter().find(|(key, _)| key == "FAKE_LOG").map(|(key, value)| format!("{key}={value}"));
        let mut found = process::marked(&mark.unwrap());
        let own = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_ref().map(Child::id);
        if let Some(own) = own.filter(|own| !found.contains(own) && process::alive(*own)) {
            found.insert(found.partition_point(|pid| *pid < own), own);
        }
        found
    }

    fn kill_everything(&self) {
        if let Some(child) = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Until none is left: one may have been between fork and exec.
        poll_for(Duration::from_secs(5), || {
            let left = self.processes();
            for pid in &left {
                process::signal(*pid, Signal::KILL);
            }
            left.is_empty().then_some(())
        });
    }

    fn report(&self) {
        eprintln!("--- agent: {:?}", self.command(["start"]));
        eprintln!("--- settings:\n{}", fs::read_to_string(self.settings_file()).unwrap_or_default());
        eprintln!("--- exit: {:?}, processes: {:?}", self.exit_status(), self.processes());
        let log = self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let skipped = log.len().saturating_sub(200);
        eprintln!("--- log, {skipped} earlier lines left out:");
        for line in log.iter().skip(skipped) {
            eprintln!("{:.2000}", line.text);
        }
        eprintln!("--- files:");
        tree(self.dir());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            self.report();
        }
        self.kill_everything();
    }
}

/// Until the end of what an agent writes.
pub fn read_log(stderr: impl Read, log: &Mutex<Vec<Line>>) {
    let mut stderr = BufReader::new(stderr);
    let mut bytes = Vec::new();
    while stderr.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_string();
        let json = serde_json::from_str(&text).unwrap_or_default();
        log.lock().unwrap().push(Line { text, json });
        bytes.clear();
    }
}

/// Prints each file with its mode, owner and size, and the start of its text.
fn tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        let (mode, owner, size) = (metadata.permissions().mode() & 0o7777, metadata.uid(), metadata.len());
        eprintln!("{mode:04o} {owner} {size:>8} {}", entry.path().display());
        if metadata.is_dir() {
            tree(&entry.path());
        } else if metadata.is_file() && entry.file_name() != "fake.log" {
            for line in fs::read_to_string(entry.path()).unwrap_or_default().lines().take(40) {
                eprintln!("    | {line:.200}");
            }
        }
    }
}
