//! `dist/docker/config.yaml` at work, in a container as `dist/docker/compose.yaml` describes it, and config-edge.yaml
//! as compose.edge.yaml does.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use super::container::{Container, Run, Volumes};
use super::dockerfile::Image;
use super::files::{compose, compose_edge, substitute};
use super::{image, wait_running};
use crate::operation::yaml;
use crate::support::agent::Line;
use crate::support::api::Request;
use crate::support::http::{Reply, Server};
use crate::support::otlp::OtlpSink;
use crate::support::process::{self, free_port};
use crate::support::temp_dir::TempDir;
use crate::support::wait::wait_until;
use crate::support::{needs, source};

const HAPROXY: &str = "/usr/sbin/haproxy";
/// The group adm, on every distribution that has it.
const ADM: u32 = 4;
const ID: &str = "5d2f0c1a8b7e4936a1c05e9f3b6d7284c0e1f2a3b4c5d6e7f8091a2b3c4d5e6f";

/// What a host with Docker has, in a directory.
pub struct Host {
    dir: TempDir,
    sink: OtlpSink,
    otlp: u16,
}

impl Host {
    pub fn new() -> Host {
        let dir = TempDir::new();
        for name in ["log/app", "docker", "hostfs/proc", &format!("containers/{ID}")] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("api-key"), "secret-key\n").unwrap();
        fs::set_permissions(dir.join("api-key"), fs::Permissions::from_mode(0o600)).unwrap();
        let host = Host { dir, sink: OtlpSink::start(), otlp: free_port() };
        // As Debian's syslog and Docker have them.
        for (log, user, group) in [(host.app_log(), 1000, ADM), (host.container_log(), 0, 0)] {
            fs::write(&log, "").unwrap();
            fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).unwrap();
            chown(&log, Some(user), Some(group)).unwrap();
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
            "/proc" => PathBuf::from("/proc"),
            "/etc/kmagent-hostfs" => self.dir.join("hostfs"),
            "/opt/app/logs" => self.dir.join("opt/app/logs"),
            "/var/log" => self.dir.join("log"),
            "/var/lib/docker/containers" => self.dir.join("containers"),
            "./api-key" => self.dir.join("api-key"),
            other => panic!("there is nothing to stand in for {other}"),
        }
    }

    /// The service of compose.yaml, with ports and intervals that suit a test.
    pub fn run<'a>(&self, volumes: &Volumes) -> Run<'a> {
        self.run_as(volumes, "0")
    }

    fn run_as<'a>(&self, volumes: &Volumes, uid: &str) -> Run<'a> {
        self.run_service(Run::new(volumes), &compose(), volumes, uid)
    }

    /// The same of compose.edge.yaml.
    fn run_edge<'a>(&self, image: &'a Image, volumes: &Volumes) -> Run<'a> {
        let run = self.run_service(Run::of(image, volumes), &compose_edge(), volumes, "0");
        let mut overlay = self.overlay();
        overlay["receivers"]["docker_stats"] = overlay["receivers"]["host_metrics"].clone();
        fs::write(volumes.config().join("local.yaml"), yaml(&overlay)).unwrap();
        run.mount(&self.dir.join("docker"), "/var/run", "ro")
    }

    fn run_service<'a>(&self, mut run: Run<'a>, compose: &Value, volumes: &Volumes, uid: &str) -> Run<'a> {
        let service = &compose["services"]["kmagent"];
        let known = [("KM_COLLECTOR_ENDPOINT", &*self.sink.endpoint()), ("KMAGENT_UID", uid)];
        let text = |value: &Value| substitute(value.as_str().unwrap(), &known);
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
            let mount = text(mount);
            let (target, options) = mount.split_once(':').unwrap();
            run = run.tmpfs(target, options);
        }
        assert_eq!(service["read_only"], true);
        let rights = rights(service, &known);
        run = run.wrapped(Path::new("/usr/bin/setpriv"), &rights.iter().map(String::as_str).collect::<Vec<_>>());
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
                "host_metrics": often,
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

/// Docker's API behind its socket on a host, and before it what compose.edge.yaml puts there, if that is installed.
struct Docker {
    _server: Server,
    proxy: Option<Child>,
}

impl Docker {
    fn start(host: &Host) -> Docker {
        let server = Server::start(0, None, |request| answer(&request)).unwrap();
        let has_proxy = Path::new(HAPROXY).exists();
        let socket = host.dir.join(if has_proxy { "docker.sock" } else { "docker/docker.sock" });
        let (socket, port) = (UnixListener::bind(socket).unwrap(), server.addr.port());
        thread::spawn(move || {
            while let Ok((client, _)) = socket.accept() {
                join(client, TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
        });
        Docker { _server: server, proxy: has_proxy.then(|| start_proxy(host.dir.path())) }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(proxy) = &mut self.proxy {
            let _ = proxy.kill();
            let _ = proxy.wait();
        }
    }
}

/// docker-proxy.cfg at work, with the places of a host in `dir`.
fn start_proxy(dir: &Path) -> Child {
    let config = source::read("dist/docker/docker-proxy.cfg");
    let here = |path: &str| dir.join(path).display().to_string();
    let ours = config.replace("/run/docker-proxy/docker.sock", &here("docker/docker.sock"));
    let ours = ours.replace("unix@/var/run/docker.sock", &format!("unix@{}", here("docker.sock")));
    assert!(ours != config && !ours.contains("@/run/") && !ours.contains("@/var/"), "{ours}");
    fs::write(dir.join("docker-proxy.cfg"), ours).unwrap();
    let rights = rights(&compose_edge()["services"]["docker-proxy"], &[]);
    let mut command = Command::new("setpriv");
    command
        .args(rights)
        .arg(HAPROXY)
        .arg("-db")
        .arg("-f")
        .arg(dir.join("docker-proxy.cfg"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let proxy = command.spawn().unwrap();
    wait_until("the proxy's socket", || dir.join("docker/docker.sock").exists());
    proxy
}

/// What a service of compose.yaml may do, as arguments of setpriv(1).
pub fn rights(service: &Value, known: &[(&str, &str)]) -> Vec<String> {
    assert_eq!(service["cap_drop"], json!(["ALL"]));
    assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
    let names = |key: &str| -> Vec<String> {
        service[key].as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_lowercase()).collect()
    };
    let capabilities: String = names("cap_add").iter().map(|name| format!(",+{name}")).collect();
    let groups = names("group_add");
    let groups = if groups.is_empty() { "--clear-groups".into() } else { format!("--groups={}", groups.join(",")) };
    let bounding = format!("--bounding-set=-all{capabilities}");
    let user = substitute(service["user"].as_str().unwrap(), known);
    let (uid, gid) = user.split_once(':').expect("a group, or it is root's");
    assert_ne!(gid, "0");
    let user = [format!("--reuid={uid}"), format!("--regid={gid}"), groups];
    user.into_iter().chain([bounding, "--inh-caps=-all".into(), "--no-new-privs".into()]).collect()
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
    no_complaints(&container);
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

/// A warning may be about this host; none may be about the config.
fn no_complaints(container: &Container) {
    let complaint =
        |line: &Line| line.is_collector() && (line.msg().contains("\terror\t") || line.msg().contains("deprecated"));
    let complaints: Vec<_> = container.log().into_iter().filter(complaint).map(|line| line.text).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert_eq!(container.status()["last_error_message"], "");
}

#[test]
fn with_docker_stats_it_sends_the_statistics_of_containers() {
    let Some(collector) = std::env::var_os("KM_FULL") else {
        needs::that(false, "it takes a collector with docker_stats (KM_FULL)");
        return;
    };
    if !needs::root() {
        return;
    }
    let (dir, host, volumes) = (TempDir::new(), Host::new(), Volumes::new());
    let image = image::build(dir.path(), "-edge", Path::new(&collector));
    let _docker = Docker::start(&host);
    let mut container = host.run_edge(&image, &volumes).start();
    wait_running(&container);
    for text in ["system.cpu.time", "container.memory.usage.total"] {
        let export = host.sink.wait_for_text(text);
        assert!(String::from_utf8_lossy(&export.body).contains(r#""host.name""#), "{text}");
    }
    no_complaints(&container);
    assert_eq!(container.stop(), 0);
}

/// As compose.yaml says: the volumes and the key given to that user, once.
#[test]
fn it_runs_as_another_user_once_the_volumes_are_that_user_s() {
    if !needs::root() {
        return;
    }
    let (host, volumes) = (Host::new(), Volumes::new());
    let mut container = host.run(&volumes).start();
    wait_running(&container);
    assert_eq!(container.stop(), 0);
    let mut chown = Command::new("chown");
    chown.args(["-R", "10001"]).args([volumes.config(), volumes.state(), host.dir.join("api-key")]);
    assert!(chown.status().unwrap().success());
    let mut container = host.run_as(&volumes, "10001").start();
    wait_running(&container);
    let uid = process::status(container.agent()).unwrap().field("Uid").split_whitespace().next().unwrap().to_string();
    assert_eq!(uid, "10001");
    host.print("as another user");
    host.sink.wait_for_text(r#""as another user""#);
    assert_eq!(container.stop(), 0);
}

/// Who can send anything else to Docker's socket can become root on the host.
#[test]
fn the_proxy_passes_what_docker_stats_asks_and_nothing_else() {
    if !needs::that(Path::new(HAPROXY).exists(), "no haproxy: on Debian, apt-get install haproxy") {
        return;
    }
    let host = Host::new();
    let _docker = Docker::start(&host);
    let ask_with = |method: &str, path: &str, headers: &str| {
        let mut socket = UnixStream::connect(host.dir.join("docker/docker.sock")).unwrap();
        // It may have refused before all of it is written.
        let _ = write!(socket, "{method} {path} HTTP/1.1\r\nHost: docker\r\n{headers}\r\n");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        answer.split(' ').nth(1).unwrap_or_default().to_string()
    };
    let ask = |method: &str, path: &str| ask_with(method, path, "Content-Length: 0\r\nConnection: close\r\n");
    for path in
        ["/containers/json?all=1", &format!("/containers/{ID}/json"), &format!("/containers/{ID}/stats?stream=false")]
    {
        assert_eq!(ask("GET", &format!("/v1.44{path}")), "200", "{path}");
    }
    for (method, path) in [
        ("POST", "/v1.44/containers/create"),
        ("POST", "/v1.44/containers/json"),
        ("DELETE", "/v1.44/containers/json"),
        ("PUT", "/v1.44/containers/json"),
        ("GET", "/v1.44/containers/web/archive?path=/"),
        ("GET", &format!("/v1.44/containers/{ID}/archive?path=/etc")),
        ("GET", &format!("/v1.44/containers/{ID}/json/../export")),
        ("GET", "/v1.44/containers/json/%2e%2e/secrets"),
        ("GET", "//containers/json"),
        ("GET", "/v1.44/secrets"),
        ("GET", "/v1.44/images/web/get"),
    ] {
        assert_eq!(ask(method, path), "403", "{method} {path}");
    }
    // After an Upgrade there would be a tunnel; a body is what only another method has.
    assert_eq!(ask("HEAD", "/v1.44/containers/json"), "403");
    for headers in [
        "Connection: Upgrade, close\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade, close\r\nUpgrade: tcp\r\n",
        "Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
    ] {
        assert_eq!(ask_with("GET", "/v1.44/containers/json", headers), "403", "{headers}");
    }
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
    let config = shipped.replace("#- /hostlogs/", "- /hostlogs/");
    assert_ne!(config, shipped);
    fs::write(volumes.config_file(), config).unwrap();
    let run = host.run(&volumes).mount(&host.stand_in("/opt/app/logs"), "/hostlogs/app", "ro");
    let mut container = run.start();
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
