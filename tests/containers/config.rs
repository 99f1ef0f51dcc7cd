//! `dist/docker/config.yaml` at work, in a container as `dist/docker/compose.yaml` describes it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use super::container::{Run, Volumes};
use super::files::{compose, substitute};
use super::wait_running;
use crate::operation::yaml;
use crate::support::agent::Line;
use crate::support::api::Request;
use crate::support::http::{Reply, Server};
use crate::support::otlp::OtlpSink;
use crate::support::process::free_port;
use crate::support::temp_dir::TempDir;
use crate::support::wait::wait_until;
use crate::support::{needs, source};

const ID: &str = "5d2f0c1a8b7e4936a1c05e9f3b6d7284c0e1f2a3b4c5d6e7f8091a2b3c4d5e6f";

/// What a host with Docker has, in a directory.
struct Host {
    dir: TempDir,
    /// Docker's API, behind a Unix socket.
    _docker: Server,
    sink: OtlpSink,
    otlp: u16,
}

impl Host {
    fn new() -> Host {
        let dir = TempDir::new();
        for name in ["log/app", &format!("containers/{ID}")] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let docker = Server::start(0, None, |request| answer(&request)).unwrap();
        let (socket, port) = (UnixListener::bind(dir.join("docker.sock")).unwrap(), docker.addr.port());
        thread::spawn(move || {
            while let Ok((client, _)) = socket.accept() {
                join(client, TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
        });
        fs::write(dir.join("api-key"), "secret-key\n").unwrap();
        fs::set_permissions(dir.join("api-key"), fs::Permissions::from_mode(0o600)).unwrap();
        // As logs often are: for their program and root only.
        let host = Host { dir, _docker: docker, sink: OtlpSink::start(), otlp: free_port() };
        for log in [host.app_log(), host.container_log()] {
            fs::write(&log, "").unwrap();
            fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&log, Some(1000), Some(1000)).unwrap();
        }
        host
    }

    fn app_log(&self) -> PathBuf {
        self.dir.join("log/app/app.log")
    }

    fn container_log(&self) -> PathBuf {
        self.dir.join(format!("containers/{ID}/{ID}-json.log"))
    }

    /// What stands here for a path of the host.
    fn stand_in(&self, source: &str) -> PathBuf {
        match source {
            "/" => PathBuf::from("/"),
            "/var/log" => self.dir.join("log"),
            "/var/lib/docker/containers" => self.dir.join("containers"),
            "/var/run/docker.sock" => self.dir.join("docker.sock"),
            "./api-key" => self.dir.join("api-key"),
            other => panic!("there is nothing to stand in for {other}"),
        }
    }

    /// The service of compose.yaml, with ports and intervals that suit a test.
    fn run<'a>(&self, volumes: &Volumes) -> Run<'a> {
        let compose = compose();
        let service = &compose["services"]["kmagent"];
        let text =
            |value: &Value| substitute(value.as_str().unwrap(), &[("KM_COLLECTOR_ENDPOINT", &self.sink.endpoint())]);
        let mut run = Run::new(volumes);
        for mount in service["volumes"].as_array().unwrap().iter().filter(|mount| mount["type"] == "bind") {
            let options = if mount["read_only"] == true { "ro" } else { "" };
            run = run.mount(&self.stand_in(&text(&mount["source"])), mount["target"].as_str().unwrap(), options);
        }
        for (name, value) in service["environment"].as_object().unwrap() {
            run = run.env(name, text(value));
        }
        for name in service["secrets"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            let file = self.stand_in(&text(&compose["secrets"][name]["file"]));
            run = run.mount(&file, &format!("/run/secrets/{name}"), "ro");
        }
        for mount in service["tmpfs"].as_array().unwrap() {
            let (target, options) = mount.as_str().unwrap().split_once(':').unwrap();
            run = run.tmpfs(target, options);
        }
        assert_eq!((&service["read_only"], &service["cap_drop"]), (&json!(true), &json!(["ALL"])));
        let added: Vec<_> = service["cap_add"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let bounding = format!("--bounding-set=-all,+{}", added.join(",+").to_lowercase());
        run = run.wrapped(Path::new("/usr/bin/setpriv"), &[&bounding, "--inh-caps=-all", "--no-new-privs"]);
        fs::write(volumes.config().join("local.yaml"), yaml(&self.overlay())).unwrap();
        run.read_only().env("KM_LOCAL_CONFIG", "/etc/kmagent/local.yaml").env("KM_MIN_UPTIME", "3s")
    }

    fn overlay(&self) -> Value {
        let at = |port: u16| json!({"endpoint": format!("127.0.0.1:{port}")});
        let often = json!({"collection_interval": "1s", "initial_delay": "100ms"});
        json!({
            "extensions": {"health_check": at(free_port())},
            "receivers": {
                "otlp": {"protocols": {"grpc": at(free_port()), "http": at(self.otlp)}},
                "hostmetrics": often,
                "docker_stats": often,
            },
            "processors": {"batch": {"timeout": "50ms"}},
            "exporters": {"otlp_http": {"encoding": "json", "compression": "none"}},
        })
    }

    /// A line of the host's own log, and one of a container's in the parts that Docker makes of a long one.
    fn print(&self, line: &str) {
        append(&self.app_log(), line);
        for part in [line, " from a container\n"] {
            let entry = json!({"log": part, "stream": "stderr", "time": "2026-01-02T03:04:05.678Z"});
            append(&self.container_log(), &entry.to_string());
        }
    }
}

fn append(path: &Path, line: &str) {
    writeln!(OpenOptions::new().append(true).open(path).unwrap(), "{line}").unwrap();
}

/// Copies both ways until one side ends.
fn join(client: UnixStream, server: TcpStream) {
    let (mut from_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut to_client, mut to_server) = (client, server);
    thread::spawn(move || io::copy(&mut from_client, &mut to_server));
    thread::spawn(move || io::copy(&mut from_server, &mut to_client));
}

/// As much of Docker's API as docker_stats asks for, with one container.
fn answer(request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap();
    let Some(path) = path.strip_prefix("/v1.44") else { return Reply::status(400, &[], "not this version") };
    let inspected = json!({
        "Id": ID, "Name": "/web", "Created": "2026-01-02T03:04:05Z", "RestartCount": 0,
        "State": {"Status": "running", "Running": true, "StartedAt": "2026-01-02T03:04:05Z"},
        "Config": {"Image": "web:1", "Hostname": "web", "Env": [], "Labels": {}},
        "HostConfig": {},
    });
    let stats = json!({
        "cpu_stats": {"cpu_usage": {"total_usage": 1000}, "system_cpu_usage": 100_000, "online_cpus": 2},
        "precpu_stats": {"cpu_usage": {"total_usage": 500}, "system_cpu_usage": 50_000, "online_cpus": 2},
        "memory_stats": {"usage": 1_048_576, "limit": 10_485_760, "stats": {}},
    });
    match path {
        "/containers/json" => {
            Reply::json(&json!([{"Id": ID, "Image": "web:1", "Names": ["/web"], "State": "running"}]))
        }
        _ if path == format!("/containers/{ID}/json") => Reply::json(&inspected),
        _ if path == format!("/containers/{ID}/stats") => Reply::json(&stats),
        "/events" => Reply::Hang,
        _ => Reply::status(404, &[], "no such thing"),
    }
}

#[test]
fn it_sends_the_host_its_containers_and_what_programs_send() {
    if !needs::root() {
        return;
    }
    let (host, volumes) = (Host::new(), Volumes::new());
    host.print("before the first start");
    let mut container = host.run(&volumes).start();
    wait_running(&container);
    assert!(container.is_healthy());
    container.takes(host.otlp, "from a program");
    host.print("the first line");
    for text in [
        "from a program",
        "system.cpu.time",
        "system.filesystem.usage",
        "system.memory.usage",
        "container.memory.usage.total",
        "the first line from a container",
        r#""the first line""#,
    ] {
        let export = host.sink.wait_for_text(text);
        assert_eq!(export.header("authorization"), Some("secret-key"), "{text}");
        assert!(String::from_utf8_lossy(&export.body).contains(r#""host.name""#), "{text}");
    }
    let export = host.sink.wait_for_text("the first line from a container");
    let log = &export.json()["resourceLogs"];
    let resource = log.as_array().unwrap().iter().find(|log| log.to_string().contains("from a container")).unwrap();
    assert!(resource["resource"].to_string().contains(ID), "{resource}");
    let record = &resource["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["body"]["stringValue"], "the first line from a container", "{record}");
    // 2026-01-02T03:04:05.678Z
    assert_eq!(record["timeUnixNano"], "1767323045678000000", "{record}");
    assert!(record["attributes"].to_string().contains("stderr"), "{record}");
    // A warning may be about this host; none may be about the config.
    let complaint =
        |line: &Line| line.is_collector() && (line.msg().contains("\terror\t") || line.msg().contains("deprecated"));
    let complaints: Vec<_> = container.log().into_iter().filter(complaint).map(|line| line.text).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert_eq!(container.status()["last_error_message"], "");
    assert_eq!(container.stop(), 0);

    host.print("while it was away");
    let mut container = host.run(&volumes).start();
    wait_running(&container);
    host.sink.wait_for_text("while it was away from a container");
    host.sink.wait_for_text(r#""while it was away""#);
    for (text, times) in
        [("the first line from a container", 1), (r#""the first line""#, 1), ("before the first start", 0)]
    {
        assert_eq!(host.sink.count(text), times, "{text}");
    }
    assert_eq!(container.stop(), 0);
}

/// However deep in /var/log, and where a program keeps them elsewhere, by the line that waits for that.
#[test]
fn it_reads_the_logs_of_every_folder_that_is_named() {
    if !needs::root() {
        return;
    }
    let (host, volumes) = (Host::new(), Volumes::new());
    let not_read = ["log/containers/pod.log", "log/pods/of/a/pod/0.log", "log/app/old.log.1"];
    let read =
        ["log/syslog", "log/top.log", "log/app/of/a/site.log", "opt/app/logs/top.log", "opt/app/logs/of/a/site.log"];
    for name in not_read.iter().chain(&read) {
        let path = host.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let shipped = source::read("dist/docker/config.yaml");
    let own = format!("- /hostfs{}/logs/", host.dir.join("opt/app").display());
    let config = shipped.replace("#- /hostfs/opt/app/logs/", &own);
    assert_ne!(config, shipped);
    fs::write(volumes.config_file(), config).unwrap();
    let mut container = host.run(&volumes).start();
    wait_running(&container);
    for name in not_read.iter().chain(&read) {
        append(&host.dir.join(name), &format!("to {name}"));
    }
    for name in read {
        host.sink.wait_for_text(&format!(r#""to {name}""#));
    }
    // It sends what it has read before it ends.
    assert_eq!(container.stop(), 0);
    for (names, times) in [(&read[..], 1), (&not_read[..], 0)] {
        for name in names {
            assert_eq!(host.sink.count(&format!(r#""to {name}""#)), times, "{name}");
        }
    }
}

/// A filesystem of the host is reported by its own path, once.
#[test]
fn it_sees_the_host_and_not_the_container() {
    if !needs::root() {
        return;
    }
    let (host, volumes) = (Host::new(), Volumes::new());
    let container = host.run(&volumes).start();
    wait_until("all file systems", || host.sink.count("system.filesystem.usage") > 0);
    let export = host.sink.wait_for_text("system.filesystem.usage").body;
    let export = String::from_utf8_lossy(&export).into_owned();
    let mount_points: Vec<&str> = export
        .split(r#""mountpoint","value":{"stringValue":""#)
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(mount_points.contains(&"/"), "{mount_points:?}");
    assert!(!mount_points.iter().any(|path| path.contains("hostfs") || path.contains("kmagent")), "{mount_points:?}");
    drop(container);
}
