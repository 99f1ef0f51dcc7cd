//! The collector as a process: what it inherits, what it is run with, where it is found.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{message, named, quick, scripted, settled, through_shell, wait_good, wait_polls, wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::machine;
use crate::support::{bin, process};

/// Puts a collector there, all at once. A process of its own writes it: while this one has it open for writing,
/// children that other tests fork at that moment keep it from being executed (ETXTBSY, execve(2)).
fn install_collector(path: &Path) {
    let partial = path.with_extension("new");
    let copied = Command::new("cp").arg(bin::fake()).arg(&partial).status().unwrap();
    assert!(copied.success());
    fs::rename(partial, path).unwrap();
}

/// By name all that it gets, for each of its uses: a variable more is one that a config can send anywhere.
#[test]
fn its_environment_is_the_agents_without_what_is_the_agents_alone() {
    let api = Api::plain();
    let builder = quick().setting("collector-endpoint", "https://otel.example:4318").api(&api);
    let mut builder = builder.setting("docker-endpoint", "unix:///run/docker.sock").setting("host-name", "web-1");
    // Those of the service manager, of a login, and of settings.
    for (name, value) in [
        ("NOTIFY_SOCKET", "@kmagent-test-nobody"),
        ("WATCHDOG_USEC", "60000000"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_FDS", "0"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", ""),
        ("INVOCATION_ID", "5ad1f7c5ee0f4bb4b4cbf1e1a77d2b0e"),
        ("JOURNAL_STREAM", "8:4711"),
        ("CREDENTIALS_DIRECTORY", "/nonexistent"),
        ("SSH_AUTH_SOCK", "/nonexistent"),
        ("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22"),
        ("KM_ON_CHANGE", "true"),
        ("KM_STOP_TIMEOUT", "5s"),
        ("KM_DOCKER_MODE", "false"),
    ] {
        builder = builder.env(name, value);
    }
    let passed = [
        ("SITE", "paris"),
        ("KM_NODE_NAME", "node-1"),
        ("HTTPS_PROXY", "http://user:pass@192.0.2.1:3128"),
        ("https_proxy", "http://user:pass@192.0.2.1:3128"),
        ("NO_PROXY", "127.0.0.1"),
    ];
    for (name, value) in passed {
        builder = builder.env(name, value);
    }
    let agent = settled(builder, &named("a"));
    api.answer_config(named("b"));
    agent.wait_start(2);
    api.wait_for_request("a version", |request| request.json()["collector_version"] == "v0.165.0");
    let run_dir = agent.run_dir();
    let resolved = [
        ("KM_API_KEY", "test-key"),
        ("KM_COLLECTOR_ENDPOINT", "https://otel.example:4318"),
        ("KM_DOCKER_ENDPOINT", "unix:///run/docker.sock"),
        ("KM_HOST_NAME", "web-1"),
        ("KM_AGENT_VERSION", env!("CARGO_PKG_VERSION")),
        ("KM_AGENT_RUN_DIR", run_dir.to_str().unwrap()),
    ];
    for role in ["run", "validate", "version"] {
        let mut env = agent.records_of(role)[0]["env"].as_object().unwrap().clone();
        for (name, value) in passed.into_iter().chain(resolved) {
            assert_eq!(env.remove(name), Some(json!(value)), "{role}: {name}");
        }
        // Added where hand-overs are possible, and those of every test.
        env.remove("GODEBUG");
        if machine::emulator().is_some() {
            // Of the shell that starts an emulated agent.
            env.remove("PWD");
        }
        assert_eq!(env.keys().collect::<Vec<_>>(), ["FAKE_LOG", "KM_AGENT_INSTANCE", "PATH"], "{role}");
    }
    let runs = agent.records_of("run");
    assert!(!runs[0]["argv"].to_string().contains("test-key"));
}

#[test]
fn its_host_name_is_that_of_the_host_unless_it_is_set() {
    let agent = quick().config(yaml(&named("a"))).spawn();
    wait_running(&agent, 0);
    let name = rustix::system::uname().nodename().to_str().unwrap().to_string();
    assert_eq!(agent.records_of("run")[0]["env"]["KM_HOST_NAME"], json!(name));
}

#[test]
fn it_inherits_three_descriptors_and_leads_a_group_of_its_own() {
    let api = Api::plain();
    let agent = quick().api(&api).config(yaml(&named("a"))).build();
    // The control: the agent itself is started with one more than the usual three.
    agent.spawn_command(through_shell(&agent, "exec 9</dev/null; exec \"$0\" \"$@\""));
    wait_running(&agent, 0);
    let control =
        process::descriptors(agent.pid()).map(|_| fs::read_link(format!("/proc/{}/fd/9", agent.pid())).unwrap());
    assert!(control.is_none_or(|target| target == Path::new("/dev/null")));
    api.answer_config(named("b"));
    agent.wait_start(2);
    for record in agent.records() {
        let fds = record["fds"].as_object().unwrap();
        assert_eq!(fds.keys().collect::<Vec<_>>(), ["0", "1", "2"], "{record}");
        assert_eq!(fds["0"], "/dev/null");
        assert!(fds["1"].as_str().unwrap().starts_with("pipe:") && fds["1"] == fds["2"], "{fds:?}");
        assert_eq!((&record["pgid"], &record["cwd"]), (&record["pid"], &json!(agent.dir())));
    }
    assert!(agent.records_of("run").iter().all(|run| run["ppid"] == agent.pid()));
}

/// The soft limit; the agent's own is the hard one.
#[test]
fn its_limit_on_open_files_is_what_the_agent_was_started_with() {
    let api = Api::plain();
    let agent = quick().api(&api).config(yaml(&named("a"))).build();
    agent.spawn_command(through_shell(&agent, "ulimit -S -n 256; exec \"$0\" \"$@\""));
    wait_running(&agent, 0);
    api.answer_config(named("b"));
    agent.wait_start(2);
    api.wait_for_request("a version", |request| request.json()["collector_version"] == "v0.165.0");
    for role in ["run", "validate", "version"] {
        assert_eq!(agent.records_of(role)[0]["open_files"], 256, "{role}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard, _] = limit.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{limit}") };
    assert_eq!(soft, hard);
}

#[test]
fn a_sites_overlay_is_a_second_config_for_check_and_run() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let overlay = builder.dir().join("site.yaml");
    fs::write(&overlay, "fake: {stderr: from the overlay}").unwrap();
    let agent = settled(builder.setting("local-config", overlay.display().to_string()), &named("a"));
    agent.wait_log("the overlay's word", |line| line.is_collector() && line.msg() == "from the overlay");
    api.answer_config(named("b"));
    wait_good(&agent, &named("b"));
    let runs = agent.records_of("run");
    assert_eq!(runs[1]["configs"], json!([agent.config_file(), overlay]));
    let check = &agent.records_of("validate")[0]["configs"];
    assert_eq!((check.as_array().unwrap().len(), &check[1]), (2, &json!(overlay)));
    assert_ne!(check[0], json!(agent.config_file()), "the active config was checked, not the candidate");
    // Together they are refused, though the config alone would pass.
    fs::write(&overlay, "fake: {validate: fail}").unwrap();
    api.answer_config(named("c"));
    api.wait_for_request("the refusal", |request| message(request).contains("scripted to refuse"));
    assert_eq!(agent.config(), named("b"));
}

#[test]
fn a_missing_collector_is_reported_and_found_when_it_is_installed() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let path = builder.dir().join("collector");
    let agent = builder.collector(&path).config(yaml(&named("a"))).spawn();
    let report = api.wait_for_request("the problem", |request| message(request).contains("install one"));
    assert!(message(&report).contains(&path.display().to_string()), "{}", message(&report));
    assert_eq!(
        (&report.json()["collector_status"], &report.json()["collector_version"]),
        (&json!("Stopped"), &json!(""))
    );
    agent.wait_until("some tries", || {
        agent.count_log(|line| line.msg() == "collector state") > 0 && api.requests().len() > 2
    });
    assert_eq!(
        agent.count_log(|line| line.msg() == "collector not started"),
        1,
        "said once, however often it is tried"
    );
    // A candidate cannot be tried either, and that is not its fault.
    api.answer_config(named("b"));
    wait_polls(&agent, &api, 2);
    assert!(!agent.state_dir().join("rejected.json").exists());

    install_collector(&path);
    wait_good(&agent, &named("b"));
    let known = |request: &crate::support::api::Request| request.json()["collector_version"] == "v0.165.0";
    api.wait_for_request("a version and no problem", |request| known(request) && message(request).is_empty());
}

#[test]
fn a_collector_is_found_on_the_path() {
    let builder = quick().without("collector");
    let dir = builder.dir().join("bin");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("otelcol");
    std::os::unix::fs::symlink(bin::fake(), &path).unwrap();
    let agent = settled(builder.env("PATH", dir.display().to_string()), &named("a"));
    assert_eq!(agent.records_of("run")[0]["argv"][0], json!(path));
}

#[test]
fn a_file_that_cannot_be_executed_is_a_problem_and_no_end() {
    let builder = quick();
    let path = builder.dir().join("collector");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    let agent = builder.collector(&path).config(yaml(&named("a"))).spawn();
    agent.wait_status("backoff", |status| status["collector"]["state"] == "backoff");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let words = "cannot run the collector";
    let report = |status: &Value| status["last_error_message"].as_str().unwrap().contains(words);
    agent.wait_status("an exec that fails", report);
    install_collector(&path);
    wait_running(&agent, 0);
}

/// How often the collector was asked for its version.
fn asked(agent: &Agent) -> usize {
    agent.records_of("version").len()
}

#[test]
fn a_version_is_asked_once_and_again_of_a_replaced_collector() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let path = builder.dir().join("collector");
    install_collector(&path);
    let agent = settled(builder.collector(&path), &named("a"));
    wait_polls(&agent, &api, 2);
    assert_eq!(asked(&agent), 1);
    assert_eq!(agent.stop(), 0);
    agent.spawn();
    wait_polls(&agent, &api, 2);
    assert_eq!(asked(&agent), 1, "not remembered");
    install_collector(&path);
    agent.wait_until("the question", || asked(&agent) == 2);
    wait_polls(&agent, &api, 2);
    assert_eq!(asked(&agent), 2);
}

#[test]
fn a_collector_that_hangs_when_asked_for_its_version_is_left_alone() {
    let api = Api::plain();
    let agent = quick().api(&api).env("FAKE_VERSION", "hang").config(yaml(&scripted("a", json!({})))).spawn();
    agent.wait_until("the question", || asked(&agent) == 1);
    wait_running(&agent, 0);
    let report = api.wait_for_request("a report without it", |_| true);
    assert_eq!(report.json()["collector_version"], "");
    wait_polls(&agent, &api, 1);
    assert_eq!((asked(&agent), agent.processes().len()), (1, 2));
}

/// And what only asks for its version gets none of them.
#[test]
fn its_arguments_are_given_to_run_and_validate() {
    let api = Api::plain();
    let args = ["--feature-gates=+a,-b", "--set=c.d=e f"];
    let agent = settled(quick().api(&api).setting("collector-args", json!(args)), &named("a"));
    api.answer_config(named("b"));
    wait_good(&agent, &named("b"));
    for (role, expected) in [("run", &args[..]), ("validate", &args), ("version", &[])] {
        let argv = agent.records_of(role)[0]["argv"].as_array().unwrap().clone();
        let given: Vec<&Value> = argv.iter().filter(|arg| args.iter().any(|one| *arg == one)).collect();
        assert_eq!(given, expected.iter().collect::<Vec<_>>(), "{role}: {argv:?}");
        assert!(role == "version" || argv.ends_with(&args.map(Value::from)), "{role}: {argv:?}");
    }
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_collector_that_cannot_be_run_says_what_to_do() {
    let builder = quick();
    let dir = builder.dir().to_path_buf();
    fs::write(dir.join("data"), "").unwrap();
    let fake = bin::fake().display().to_string();
    for (collector, expected) in [
        (format!("{fake} --set=a=b"), format!("set `collector` to {fake}, and `collector-args` to --set=a=b")),
        ("/nonexistent/otelcol".to_string(), "/nonexistent/otelcol does not exist: install one".to_string()),
        ("/nonexistent/otelcol --x".to_string(), "otelcol --x does not exist: install one".to_string()),
        (dir.join("data").display().to_string(), "data is not executable (chmod a+x ".to_string()),
        (dir.display().to_string(), "is not a file".to_string()),
    ] {
        let agent = quick().config(yaml(&named("a"))).setting("collector", collector).spawn();
        let status = agent.wait_status("a problem", |status| status["last_error_message"] != "");
        let problem = status["last_error_message"].as_str().unwrap();
        assert!(problem.contains(&expected), "{problem}");
        assert_eq!(agent.stop(), 0);
    }
}
