//! `Container`: the image run as an engine runs it, its entrypoint as process 1 of namespaces of its own.
//!
//! The root file system is an overlay over the image, the environment is the image's and what is given, the network is
//! the host's. It takes root, and it leaves nothing behind: what was mounted vanishes with the namespaces.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::dockerfile::Image;
use super::image::image;
use crate::support::agent::{Line, read_log};
use crate::support::bin::{self, Output, output};
use crate::support::temp_dir::TempDir;
use crate::support::wait::{DEADLINE, wait_for};
use crate::support::{otlp, process};

/// Directories that outlive a container, as an engine's named volumes.
pub struct Volumes(TempDir);

impl Volumes {
    pub fn new() -> Volumes {
        let volumes = Volumes(TempDir::new());
        fs::create_dir(volumes.config()).unwrap();
        fs::create_dir(volumes.state()).unwrap();
        volumes
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("config")
    }

    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub fn config_file(&self) -> PathBuf {
        self.config().join("config.yaml")
    }
}

/// The arguments of `docker run`.
pub struct Run<'a> {
    image: &'a Image,
    env: BTreeMap<String, String>,
    /// Lines of a shell that sets the root file system up.
    script: String,
    /// What stands before the entrypoint.
    wrapper: Vec<String>,
    is_read_only: bool,
    dir: TempDir,
}

impl<'a> Run<'a> {
    pub fn new(volumes: &Volumes) -> Run<'a> {
        Run::of(image(), volumes)
    }

    pub fn of(image: &'a Image, volumes: &Volumes) -> Run<'a> {
        let dir = TempDir::new();
        let mut run =
            Run { image, env: image.env.clone(), script: String::new(), wrapper: Vec::new(), is_read_only: false, dir };
        let root = run.root();
        for name in ["root", "upper", "work"] {
            fs::create_dir(run.dir.join(name)).unwrap();
        }
        let (lower, upper, work) = (&image.root, run.dir.join("upper"), run.dir.join("work"));
        let overlay = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        run.line(&["mount", "-t", "overlay", "-o", &overlay, "overlay", &root]);
        for (kind, target) in [("proc", "proc"), ("tmpfs", "dev")] {
            run.line(&["mkdir", "-p", &format!("{root}/{target}")]);
            run.line(&["mount", "-t", kind, kind, &format!("{root}/{target}")]);
        }
        for device in ["null", "zero", "random", "urandom"] {
            let node = format!("{root}/dev/{device}");
            run.line(&["touch", &node]);
            run.line(&["mount", "--bind", &format!("/dev/{device}"), &node]);
        }
        let named = [("/etc/kmagent", volumes.config()), ("/var/lib/kmagent", volumes.state())];
        let declared: Vec<&str> = named.iter().map(|(target, _)| *target).collect();
        assert_eq!(image.volumes, declared);
        for (target, source) in named {
            // An engine may or may not fill a new volume with it.
            assert!(!image.root.join(target.trim_start_matches('/')).exists(), "the image has files in a volume");
            run = run.mount(&source, target, "");
        }
        if needs_libraries(&bin::kmagent()) { run.with_libraries() } else { run }
    }

    fn root(&self) -> String {
        self.dir.join("root").display().to_string()
    }

    fn line(&mut self, words: &[&str]) {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        writeln!(self.script, "{}", quoted.join(" ")).unwrap();
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Run<'a> {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A file or directory of the host; `options` such as `ro` are mount(8)'s.
    pub fn mount(mut self, source: &Path, target: &str, options: &str) -> Run<'a> {
        let target = format!("{}{target}", self.root());
        let (parent, _) = target.rsplit_once('/').unwrap();
        self.line(&["mkdir", "-p", if source.is_dir() { &target } else { parent }]);
        if !source.is_dir() {
            self.line(&["touch", &target]);
        }
        self.line(&["mount", "--bind", &source.display().to_string(), &target]);
        if !options.is_empty() {
            self.line(&["mount", "-o", &format!("remount,bind,{options}"), &target]);
        }
        self
    }

    /// An empty file system in memory.
    pub fn tmpfs(mut self, target: &str, options: &str) -> Run<'a> {
        let target = format!("{}{target}", self.root());
        self.line(&["mkdir", "-p", &target]);
        self.line(&["mount", "-t", "tmpfs", "-o", options, "tmpfs", &target]);
        self
    }

    /// Nothing but what is mounted can be written.
    pub fn read_only(mut self) -> Run<'a> {
        self.is_read_only = true;
        self
    }

    /// For programs that are not static.
    fn with_libraries(self) -> Run<'a> {
        let directories = ["/lib", "/lib64"].into_iter().filter(|directory| Path::new(directory).is_dir());
        directories.fold(self, |run, directory| run.mount(Path::new(directory), directory, "ro"))
    }

    /// The stand-in collector in place of the real one.
    pub fn fake(self) -> Run<'a> {
        let run = self.mount(&bin::fake(), "/fake", "ro").env("KM_COLLECTOR", "/fake");
        let run = run.env("FAKE_LOG", "/var/lib/kmagent/fake.log");
        if needs_libraries(&bin::kmagent()) { run } else { run.with_libraries() }
    }

    /// A program of the host that replaces itself by the entrypoint.
    pub fn wrapped(self, program: &Path, args: &[&str]) -> Run<'a> {
        let mut run = self.mount(program, "/wrapper", "ro");
        run.wrapper = ["/wrapper"].iter().chain(args).map(|word| word.to_string()).collect();
        if needs_libraries(&bin::kmagent()) { run } else { run.with_libraries() }
    }

    pub fn start(self) -> Container {
        self.start_by(|script| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script]);
            command.stdin(Stdio::null());
            command
        })
    }

    /// `start` with a command of the test's own, made from the shell script that is to be process 1.
    pub fn start_by(mut self, command: impl FnOnce(&str) -> Command) -> Container {
        let root = self.root();
        if self.is_read_only {
            self.line(&["mount", "-o", "remount,ro", &root]);
        }
        let env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut words = vec!["exec", "env", "-i"];
        words.extend(env.iter().map(String::as_str));
        words.extend(["/usr/sbin/chroot", &root]);
        let entrypoint = self.wrapper.iter().chain(&self.image.entrypoint).chain(&self.image.cmd);
        let entrypoint: Vec<String> = entrypoint.cloned().collect();
        words.extend(entrypoint.iter().map(String::as_str));
        self.line(&words);
        let mut child = command(&self.script).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log: Arc<Mutex<Vec<Line>>> = Arc::default();
        let lines = Arc::clone(&log);
        thread::spawn(move || read_log(stderr, &lines));
        let mut container =
            Container { child, init: 0, log, exit: None, image: self.image.clone(), env: self.env, dir: self.dir };
        container.init = container.find_init();
        container
    }
}

/// Whether it has an interpreter (PT_INTERP).
pub fn needs_libraries(program: &Path) -> bool {
    let bytes = fs::read(program).unwrap();
    bytes[..bytes.len().min(4096)].windows(8).any(|part| part == b"/ld-linu")
}

pub struct Container {
    child: Child,
    /// Process 1, by its number here.
    pub init: u32,
    log: Arc<Mutex<Vec<Line>>>,
    exit: Option<ExitStatus>,
    image: Image,
    env: BTreeMap<String, String>,
    dir: TempDir,
}

impl Container {
    /// The process that is number 1 in its namespace, once the shell has become the agent.
    fn find_init(&mut self) -> u32 {
        let child = self.child.id();
        let is_init = |pid: &u32| process::status(*pid).is_some_and(|it| it.field("NSpid").ends_with("\t1"));
        let is_agent =
            |pid: &u32| process::command_line(*pid).first().is_some_and(|word| *word == self.image.entrypoint[0]);
        // One that ends at once may never be seen.
        wait_for("process 1", DEADLINE, || {
            let found = process::descendants(child).into_iter().find(|pid| is_init(pid) && is_agent(pid));
            found.or_else(|| self.child.try_wait().unwrap().map(|_| 0))
        })
    }

    /// The agent: what process 1 has started, and is no orphan.
    pub fn agent(&self) -> u32 {
        wait_for("the agent", DEADLINE, || {
            self.children().into_iter().find(|pid| process::command_line(*pid) == process::command_line(self.init))
        })
    }

    /// Children of process 1, dead ones too.
    pub fn children(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(|pid| process::parent(*pid) == Some(self.init)).collect()
    }

    /// Every process of it that lives, but process 1.
    pub fn processes(&self) -> Vec<u32> {
        process::descendants(self.init)
    }

    /// The collector that the agent runs.
    pub fn collector(&self) -> u32 {
        wait_for("a collector", DEADLINE, || {
            let runs = |pid: &u32| {
                let words = process::command_line(*pid);
                words.get(1).is_some_and(|word| word == "--config")
            };
            process::descendants(self.agent()).into_iter().find(runs)
        })
    }

    /// `docker exec`.
    pub fn exec(&self, words: &[&str]) -> Output {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--root", "--wd", "--"]).args(words);
        command.env_clear().envs(&self.env);
        output(command)
    }

    /// What the engine asks at intervals.
    pub fn is_healthy(&self) -> bool {
        let words: Vec<&str> = self.image.healthcheck.test.iter().map(String::as_str).collect();
        self.exec(&words).code == Some(0)
    }

    pub fn status(&self) -> Value {
        let output = self.exec(&["/usr/local/bin/kmagent", "status", "--json"]);
        serde_json::from_str(&output.stdout).unwrap_or_default()
    }

    pub fn wait_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, DEADLINE, || Some(self.status()).filter(&condition))
    }

    pub fn log(&self) -> Vec<Line> {
        self.log.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn wait_log(&self, what: &str, condition: impl Fn(&Line) -> bool) -> Line {
        wait_for(what, DEADLINE, || self.log.lock().unwrap().iter().find(|line| condition(line)).cloned())
    }

    /// Sends a log record to the collector, once that listens.
    #[track_caller]
    pub fn takes(&self, port: u16, text: &str) {
        wait_for("a collector that takes telemetry", DEADLINE, || otlp::send_log(port, text).ok());
    }

    pub fn signal(&self, signal: Signal) {
        assert!(process::signal(self.init, signal), "process 1 is gone");
    }

    /// Its exit status; a signal's number is negative.
    #[track_caller]
    pub fn wait_exit(&mut self) -> i32 {
        let child = &mut self.child;
        let status = wait_for("the container's end", DEADLINE * 2, || child.try_wait().unwrap());
        self.exit = Some(status);
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    /// `docker stop`.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        assert_eq!(self.image.stop_signal, "SIGTERM");
        self.signal(Signal::TERM);
        self.wait_exit()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.exit.is_none() {
            process::signal(self.init, Signal::KILL);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- container in {}:", self.dir.path().display());
            for line in self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().take(200) {
                eprintln!("{:.2000}", line.text);
            }
        }
    }
}
