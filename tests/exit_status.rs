//! The man page's EXIT STATUS: every status of the table, provoked, with what stderr says about it; and standard
//! streams that are not as they should be.
//!
//! 70 stands for our own bugs, which cannot be provoked honestly; here a foreign program on the control socket gives
//! it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::support::agent::{Agent, Builder, Line};
use crate::support::api::{Api, Reply};
use crate::support::bin::{self, Output};
use crate::support::{machine, needs, process};

fn host(api: &Api) -> Builder {
    Agent::builder().api(api).setting("log-level", "info").config("fake: {}")
}

/// `kmagent` run by a shell as `script` says, with `K` in it for the whole command line but for the last words.
fn shell(agent: &Agent, script: &str) -> Command {
    let kmagent = agent.command([] as [&str; 0]);
    let words = std::iter::once(kmagent.get_program()).chain(kmagent.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script.replace('K', &words.join(" "))]).env_clear().current_dir(agent.dir());
    command.envs(kmagent.get_envs().filter_map(|(key, value)| Some((key, value?)))).stdin(Stdio::null());
    command
}

#[test]
fn of_a_check_by_what_the_api_answers() {
    let api = Api::plain();
    let agent = host(&api).build();
    let ok = |config| Reply::json(&json!({"restart_required": true, "config": config}));
    for (reply, code, text) in [
        (ok(json!({"fake": {"validate": "fail"}})), 65, "the collector rejects the config"),
        (Reply::status(429, &[("Retry-After", "60")], "slow down"), 75, "HTTP status 429; the server says: slow down"),
        (Reply::status(500, &[], ""), 75, "HTTP status 500"),
        (Reply::Close, 75, "closed before the answer was complete"),
        (Reply::Reset, 75, "config check: http://127.0.0.1:"),
        (Reply::status(200, &[], "{\"config\": {}} {}"), 76, "the answer cannot be read"),
        (Reply::status(200, &[], ""), 76, "the answer cannot be read"),
        (Reply::status(200, &[], "[]"), 76, "the answer cannot be read"),
        (Reply::status(200, &[], "{\"config\": \"text\"}"), 76, "the answer cannot be read"),
        (Reply::status(200, &[], "{\"restart_required\": \"yes\"}"), 76, "the answer cannot be read"),
        (Reply::status(404, &[], ""), 76, "check update-endpoint"),
        (
            Reply::status(302, &[("Location", "https://elsewhere.example/x")], ""),
            76,
            "a redirect to https://elsewhere.example/x",
        ),
        (Reply::Raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()), 76, "not HTTP"),
        (Reply::status(401, &[], "who are you?"), 77, "HTTP status 401; check api-key; the server says: who are you?"),
        (Reply::status(403, &[], ""), 77, "check api-key"),
    ] {
        api.reply(reply);
        let output = agent.run(["--check"]);
        output.fails(code, text);
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
        assert!(!output.stderr.contains("test-key"), "{output:?}");
    }
    api.stop();
    agent.run(["--check"]).fails(75, "onnection refused (os error 111); check update-endpoint");
    assert_eq!(agent.config(), json!({"fake": {}}));
}

#[test]
fn of_a_check_over_tls() {
    let api = Api::tls();
    let agent = host(&api).build();
    assert_eq!(agent.run(["--check"]).says(), "");
    let stranger = Api::tls();
    let args = ["--check", "--ca-file", stranger.ca_file().unwrap().to_str().unwrap()];
    agent.run(args).fails(75, "add the one that has");
    agent.run(["--check", "--ca-file", "/nonexistent.pem"]).fails(78, "/nonexistent.pem");
    let plain = api.url().replace("https:", "http:");
    assert!(matches!(agent.run(["--check", "--update-endpoint", &plain]).code, Some(75 | 76)));
}

#[test]
fn of_a_host_that_is_not_ready() {
    let api = Api::plain();
    api.answer_config(json!({"fake": {"stderr": "new"}}));
    let agent = host(&api).build();
    for (args, code, text) in [
        ("strat", 64, "did you mean \"start\"?"),
        ("status", 69, "start it with `kmagent start`"),
        ("stop", 69, "start it with `kmagent start`"),
        ("--check --collector /nonexistent", 69, "install one, or set `collector` to its path"),
        ("--check --run-dir /proc/nonexistent/run", 73, "choose another with the setting `run-dir`"),
        ("start --run-dir /proc/nonexistent/run", 73, "choose another with the setting `run-dir`"),
        ("--check --config /proc/nonexistent/config.yaml", 73, "cannot write the new config (create the directory)"),
        ("--check --log-level loud", 78, "it takes error, warn, info or debug"),
        ("start --update-endpoint http://api.example.com/x", 78, "allow-http"),
        ("--check --run-dir RUN --agent-config /dev/null", 78, "set api-key-file"),
    ] {
        // Never the host's own agent.
        let output = agent.run(args.replace("RUN", agent.run_dir().to_str().unwrap()).split(' '));
        // A directory that cannot be made is in the log besides.
        let ours: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        let output = Output { stderr: ours.join("\n"), ..output };
        output.fails(code, text);
    }
    let long = agent.dir().join("r".repeat(100)).display().to_string();
    let output = agent.run(["start", "--run-dir", &long]);
    assert_eq!(output.code, Some(73), "{output:?}");
    assert!(output.stderr.contains("choose a shorter `run-dir`"), "{output:?}");
    assert_eq!(agent.config(), json!({"fake": {}}));
}

/// Answers every connection with this line, whatever it asks.
fn foreign_program(agent: &Agent, line: &'static str) {
    fs::create_dir_all(agent.run_dir()).unwrap();
    let _ = fs::remove_file(agent.socket());
    let listener = UnixListener::bind(agent.socket()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let _ = stream.read_line(&mut String::new());
            let _ = stream.get_mut().write_all(line.as_bytes());
        }
    });
}

#[test]
fn of_commands_that_meet_a_foreign_program_on_the_control_socket() {
    let api = Api::plain();
    let agent = host(&api).build();
    let all = [vec!["status"], vec!["status", "--json"], vec!["stop"], vec!["--check"], vec!["--check", "--dry-run"]];
    for (line, code, text) in [
        ("{\"checked\":{\"exit\":1,\"result\":\"failed\",\"message\":\"m\"}}\n", 70, ""),
        ("{\"error\":\"not a request\"}\n", 70, "the agent gave an unexpected reply"),
        ("HTTP/1.1 400 Bad Request\r\n", 75, "cannot talk to the agent at"),
        ("{}\n", 75, "cannot talk to the agent at"),
    ] {
        foreign_program(&agent, line);
        for args in &all {
            agent.run(args).fails(code, text);
        }
    }
    // One that says nothing and goes is an agent that has ended just now.
    foreign_program(&agent, "");
    agent.run(["status"]).fails(69, "the agent ended just now");
    agent.run(["--check"]).fails(75, "try again");
    assert_eq!(api.requests().len(), 0);
}

#[test]
fn of_a_start_that_the_system_refuses_what_it_needs() {
    // Nothing that this machine lacks: an emulator has descriptors of its own, so the limit is its problem.
    if machine::emulator().is_some() {
        return;
    }
    let agent = Agent::builder().config("fake: {}").without("log-level").build();
    let mut refused = 0;
    // Descriptors 0 to 2 are there; how many more which step needs is not the test's business.
    for limit in 4..20 {
        let seen = agent.log().len();
        agent.spawn_command(shell(&agent, &format!("ulimit -n {limit}; exec K start")));
        let end = agent.wait_for("an end or a start", || {
            let started = agent.log().iter().skip(seen).any(|line| line.msg() == "agent started");
            match agent.exit_status() {
                Some(status) => Some(status.code()),
                None => started.then_some(None),
            }
        });
        let Some(code) = end else { break };
        let said: Vec<String> = agent.log().into_iter().skip(seen).map(|line| line.text).collect();
        match code {
            71 => {
                // Before it, that the settings could not be read and the last good ones are used.
                let is_reason =
                    |line: &Line| line.text.starts_with("kmagent: ") && line.text.contains("(raise the limit");
                let line = agent.wait_log_after(seen, "the reason", is_reason);
                assert!(line.text.contains("(os error 24)"), "{line:?}");
                refused += 1;
            }
            // It could not even read its settings; or, 127, the dynamic linker had no descriptor for a library.
            code => assert!(matches!(code, 78 | 127), "{code}: {said:?}"),
        }
    }
    assert!(refused > 0, "no limit on descriptors was refused with 71");
    assert_eq!(agent.stop(), 0, "the one that did start");
    assert!(!agent.socket().exists());
}

/// As another user, who may look into the directory. Only root can become one.
#[test]
fn of_commands_of_a_user_who_may_not() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let agent = host(&api).build();
    let program = agent.dir().join("kmagent");
    bin::copy_kmagent(&program);
    agent.spawn();
    agent.wait_until("the control socket", || agent.socket().exists());
    let allowed = |mode| fs::set_permissions(agent.run_dir(), fs::Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(agent.settings_file(), fs::Permissions::from_mode(0o600)).unwrap();
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.env_clear().args(args).stdin(Stdio::null()).uid(65534).gid(65534);
        bin::output(command)
    };
    let run_dir = agent.run_dir().display().to_string();
    for mode in [0o700, 0o755] {
        allowed(mode);
        for args in [vec!["status"], vec!["stop"], vec!["--check", "--update-endpoint", &api.url()]] {
            as_nobody(&[&args[..], &["--run-dir", &run_dir]].concat()).fails(77, "run this as the agent's user");
        }
    }
    let settings_file = agent.settings_file().display().to_string();
    as_nobody(&["start", "--agent-config", &settings_file]).fails(78, "run as a user that may read it");
    let elsewhere = agent.dir().join("elsewhere").display().to_string();
    let output = as_nobody(&["start", "--run-dir", &elsewhere]);
    output.fails(73, "run as root, or choose another with the setting `run-dir`");
    agent.wait_status("no harm", |status| status["pid"] == agent.pid());
    assert_eq!(agent.stop(), 0);
}

#[test]
fn with_nobody_to_read_the_output() {
    let agent = Agent::builder().config("fake: {}").build();
    for args in ["--help", "--version", "--print-settings"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = agent.command([args]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
        let output = output.unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args}");
        let output = bin::output(shell(&agent, &format!("(K {args}; echo $? >&2) | head -n 1")));
        assert_eq!((output.stderr.as_str(), output.stdout.lines().count()), ("0\n", 1), "{output:?}");
        let output = bin::output(shell(&agent, &format!("exec K {args} >&- <&-")));
        assert_eq!(output.says(), "", "{args}");
        let output = bin::output(shell(&agent, &format!("exec K {args} >/dev/full")));
        output.fails(73, "cannot write to standard output");
    }
    for redirection in ["2>&-", "2>/dev/full", "<&- >&- 2>&-"] {
        let output = bin::output(shell(&agent, &format!("exec K status {redirection}")));
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(69), "", ""), "{redirection}");
    }
}

#[test]
fn an_agent_lives_without_standard_streams() {
    let agent = Agent::builder().config("fake: {stderr: a line}").build();
    for (start, redirection) in (1..).step_by(2).zip(["<&- >&- 2>&-", "2>/dev/full", "2>&1 | true"]) {
        // Not `exec`: the last one is a pipeline, whose reader ends at once.
        let mut shell = shell(&agent, &format!("K start {redirection}")).spawn().unwrap();
        let collector = agent.wait_start(start);
        agent.wait_status("running", |status| status["collector"]["state"] == "running");
        process::signal(collector, Signal::KILL);
        agent.wait_status("running again", |status| status["collector"]["restarts"] == 1);
        assert_eq!(agent.run(["stop"]).says(), "", "{redirection}");
        shell.wait().unwrap();
    }
}

#[test]
fn a_start_writes_nothing_on_stdout() {
    let agent = Agent::builder().config("fake: {stderr: a line}").build();
    let mut child = agent.command(["start"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    process::signal(child.id(), Signal::TERM);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
    assert_eq!((child.wait().unwrap().code(), text.as_str()), (Some(0), ""));
}

#[test]
fn of_a_start_is_never_the_collectors() {
    let agent = Agent::builder().config("fake: {start: {exit: 42, times: 1}}").spawn();
    agent.wait_start(2);
    for (signal, start) in [(Signal::TERM, 3), (Signal::INT, 4)] {
        agent.signal(signal);
        assert_eq!(agent.wait_exit(), 0, "{signal:?}");
        agent.spawn();
        agent.wait_start(start);
    }
}
