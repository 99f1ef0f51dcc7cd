//! The Dockerfile, compose.yaml and config.yaml held against each other, against the settings, and against the
//! collector.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::image::{dockerfile, prepare, tarball};
use super::{TempDir, dockerfile::Image};
use crate::support::source;

/// Compose knows no YAML that JSON does not.
pub fn compose() -> Value {
    serde_yaml::from_str(&source::read("dist/docker/compose.yaml")).unwrap()
}

/// With compose.edge.yaml on top, as Compose merges them: maps by key, lists one after the other.
pub fn compose_edge() -> Value {
    fn merge(under: &mut Value, over: Value) {
        match (under, over) {
            (Value::Object(under), Value::Object(over)) => {
                over.into_iter().for_each(|(key, value)| merge(under.entry(key).or_insert(Value::Null), value))
            }
            (Value::Array(under), Value::Array(over)) => under.extend(over),
            (under, over) => *under = over,
        }
    }
    let mut merged = compose();
    merge(&mut merged, serde_yaml::from_str(&source::read("dist/docker/compose.edge.yaml")).unwrap());
    merged
}

fn config(file: &str) -> Value {
    serde_yaml::from_str(&source::read(&format!("dist/docker/{file}"))).unwrap()
}

/// `${NAME:-default}` as Compose and the collector (which writes `env:` before the name) fill it in.
pub fn substitute(text: &str, known: &[(&str, &str)]) -> String {
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap().to_string();
    for part in parts {
        let (reference, rest) = part.split_once('}').unwrap();
        let reference = reference.strip_prefix("env:").unwrap_or(reference);
        let (name, default) = reference.split_once(":-").map_or((reference, None), |(name, text)| (name, Some(text)));
        let value = known.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).or(default);
        filled += value.unwrap_or_else(|| panic!("{name} has no value in {text}"));
        filled += rest;
    }
    filled
}

/// The image without real programs.
fn image(directory: &TempDir, variant: &str) -> Image {
    let context = directory.join("context");
    prepare(&context);
    let program = directory.join("program");
    std::fs::write(&program, "").unwrap();
    tarball(&context, "x86_64", variant, &program, &program);
    dockerfile("amd64").with("VARIANT", variant).build(&context, &directory.join("stages"))
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).iter().map(|item| item.as_str().unwrap()).collect()
}

/// Each text in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap_or_else(|| panic!("{text} is not in seconds")).parse().unwrap()
}

#[test]
fn the_image_and_the_compose_file_agree() {
    agree("", "config.yaml", &compose());
    agree("-edge", "config-edge.yaml", &compose_edge());
    assert_eq!(compose()["services"].as_object().unwrap().len(), 1, "without Docker's socket it takes no proxy");
}

fn agree(variant: &str, config: &str, compose: &Value) {
    let directory = TempDir::new();
    let image = image(&directory, variant);
    let default = std::fs::read_to_string(image.root.join("usr/local/share/kmagent/config.yaml")).unwrap();
    assert_eq!(default, source::read(&format!("dist/docker/{config}")));
    assert_eq!(compose["services"]["kmagent"]["build"]["args"]["VARIANT"].as_str().unwrap_or_default(), variant);
    let service = &compose["services"]["kmagent"];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(service["image"], format!("kmagent:{version}{variant}"));
    assert_eq!(image.labels["org.opencontainers.image.version"], version);
    let build =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/docker").join(service["build"]["context"].as_str().unwrap());
    assert!(build.join(service["build"]["dockerfile"].as_str().unwrap()).is_file());

    let healthcheck = &service["healthcheck"];
    assert_eq!(list(&healthcheck["test"])[0], "CMD");
    assert_eq!(list(&healthcheck["test"])[1..], image.healthcheck.test);
    for (option, value) in &image.healthcheck.options {
        let same = healthcheck[option.replace('-', "_")].clone();
        assert_eq!(same.as_str().map_or(same.to_string(), str::to_string), *value, "{option}");
    }
    // status gives up after 10 s by itself, and says why.
    assert!(seconds(&image.healthcheck.options["timeout"]) > 10);
    for program in [&image.entrypoint[0], &image.healthcheck.test[0]] {
        assert!(image.root.join(program.trim_start_matches('/')).is_file(), "{program}");
    }
    assert_eq!(image.entrypoint[1..], ["start"]);
    assert_eq!(image.stop_signal, "SIGTERM");

    let mounts = service["volumes"].as_array().unwrap();
    let is_volume = |mount: &&Value| mount["type"] == "volume";
    let written = mounts.iter().filter(is_volume).filter(|mount| mount["read_only"] != true);
    let written: Vec<&str> = written.map(|it| it["target"].as_str().unwrap()).collect();
    assert_eq!(written, image.volumes, "every volume of the image has a name");
    for service in compose["services"].as_object().unwrap().values() {
        for mount in service["volumes"].as_array().unwrap() {
            match mount["type"] == "volume" {
                true => assert!(
                    compose["volumes"].as_object().unwrap().contains_key(mount["source"].as_str().unwrap()),
                    "{mount}"
                ),
                // Nothing of the host can be written, and no directory is made on it.
                false => {
                    let found = (&mount["read_only"], &mount["bind"]["create_host_path"]);
                    assert_eq!(found, (&json!(true), &json!(false)), "{mount}");
                    assert_eq!(mount["bind"]["propagation"], Value::Null, "what is mounted later is writable: {mount}");
                }
            }
        }
        let rights = (&service["cap_drop"], &service["cap_add"], &service["privileged"], &service["read_only"]);
        assert_eq!(rights, (&json!(["ALL"]), &Value::Null, &Value::Null, &json!(true)), "none that opens the host");
    }
    let secret = list(&service["secrets"])[0];
    assert_eq!(service["environment"]["KM_API_KEY_FILE"], format!("/run/secrets/{secret}"));
    assert!(compose["secrets"][secret]["file"].is_string());
}

/// It is as good as root.
#[test]
fn docker_s_socket_is_the_proxy_s_alone() {
    let directory = TempDir::new();
    let (image, compose) = (image(&directory, "-edge"), compose_edge());
    let mounts = compose["services"]["kmagent"]["volumes"].as_array().unwrap();
    let proxy = &compose["services"]["docker-proxy"];
    let socket = Path::new(image.env["KM_DOCKER_ENDPOINT"].strip_prefix("unix://").unwrap());
    let directory = mounts.iter().find(|mount| mount["target"] == socket.parent().unwrap().to_str().unwrap()).unwrap();
    let behind = proxy["volumes"].as_array().unwrap();
    let shared = behind.iter().find(|mount| mount["source"] == directory["source"]).expect("the proxy's own socket");
    let config = source::read("dist/docker/docker-proxy.cfg");
    let target = Path::new(shared["target"].as_str().unwrap()).join(socket.file_name().unwrap());
    assert!(config.contains(&format!("bind unix@{} ", target.display())), "{config}");
    let of_socket = behind.iter().find(|mount| mount["target"] == "/var/run/docker.sock").expect("Docker's socket");
    assert_eq!(substitute(of_socket["source"].as_str().unwrap(), &[]), "/var/run/docker.sock");
    assert_eq!(substitute(of_socket["source"].as_str().unwrap(), &[("DOCKER_SOCK_PATH", "/x")]), "/x");
    assert!(!texts(&json!(mounts)).iter().any(|text| text.contains("docker.sock")), "{mounts:?}");
    assert_eq!(proxy["network_mode"], "none");
}

#[test]
fn the_settings_that_they_give_exist_and_fit() {
    let directory = TempDir::new();
    let (image, compose) = (image(&directory, ""), compose());
    let service = &compose["services"]["kmagent"];
    let settings = source::settings();
    let default = |name: &str| settings.iter().find(|[it, ..]| it == name).unwrap()[2].clone();
    let given = service["environment"].as_object().unwrap();
    for name in given.keys().chain(image.env.keys()).filter(|name| name.starts_with("KM_")) {
        assert!(settings.iter().any(|[_, variable, _]| variable == name), "{name} is no setting");
    }
    assert_eq!(substitute(given["KM_COLLECTOR_ENDPOINT"].as_str().unwrap(), &[]), default("collector-endpoint"));
    assert!(seconds(service["stop_grace_period"].as_str().unwrap()) > seconds(&default("stop-timeout")));
    let volumes = |name: &str| image.volumes.iter().any(|volume| default(name).starts_with(volume.as_str()));
    assert!(volumes("config") && volumes("state-dir"));
    assert!(list(&service["tmpfs"])[0].starts_with(&format!("{}:", default("run-dir"))), "the root is read-only");
}

#[test]
fn the_config_takes_what_the_container_is_given() {
    takes_what_it_is_given("config.yaml", &compose());
    takes_what_it_is_given("config-edge.yaml", &compose_edge());
    // Nothing else differs.
    let mut edge = config("config-edge.yaml");
    let docker_stats = edge["receivers"].as_object_mut().unwrap().remove("docker_stats").unwrap();
    assert_eq!(docker_stats["endpoint"], "${env:KM_DOCKER_ENDPOINT}");
    edge["service"]["pipelines"]["metrics"]["receivers"].as_array_mut().unwrap().retain(|it| it != "docker_stats");
    assert_eq!(edge, config("config.yaml"));
}

fn takes_what_it_is_given(file: &str, compose: &Value) {
    let directory = TempDir::new();
    let (image, config) = (image(&directory, ""), config(file));
    let service = &compose["services"]["kmagent"];
    let mounts: Vec<&str> =
        service["volumes"].as_array().unwrap().iter().map(|mount| mount["target"].as_str().unwrap()).collect();
    let receivers = &config["receivers"];
    let mut paths = vec![receivers["host_metrics"]["root_path"].as_str().unwrap()];
    paths.push(config["extensions"]["file_storage"]["directory"].as_str().unwrap());
    for (name, receiver) in receivers.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("file_log/")) {
        let include = list(&receiver["include"]);
        // One glob each: a comma would be part of it.
        assert!(include.iter().all(|path| !path.contains([',', '$', ' '])), "{name}: {include:?}");
        assert_eq!(receiver["storage"], "file_storage", "{name}");
        paths.extend(include);
    }
    assert!(paths.len() > 5, "{paths:?}");
    for path in paths {
        assert!(mounts.iter().any(|mount| Path::new(path).starts_with(mount)), "{path} is not mounted");
    }
    let first = &receivers["file_log/containers"]["operators"][0];
    assert_eq!((&first["type"], &first["format"]), (&json!("container"), &json!("docker")));

    // Every component is used, OTLP for everything that it can carry.
    let pipelines = config["service"]["pipelines"].as_object().unwrap();
    for kind in ["receivers", "processors", "exporters"] {
        for name in config[kind].as_object().unwrap().keys() {
            assert!(
                pipelines.values().any(|pipeline| list(&pipeline[kind]).contains(&name.as_str())),
                "{name} is not used"
            );
        }
    }
    let takes_otlp = |pipeline: &&str| list(&pipelines[*pipeline]["receivers"]).contains(&"otlp");
    assert!(["metrics", "logs", "traces"].iter().all(takes_otlp));

    // OTLP is closed to other hosts until an operator opens it, on the ports that the image declares.
    let protocols = receivers["otlp"]["protocols"].as_object().unwrap();
    let endpoints: BTreeMap<&str, &str> =
        protocols.iter().map(|(name, protocol)| (name.as_str(), protocol["endpoint"].as_str().unwrap())).collect();
    for (protocol, port) in ["grpc", "http"].iter().zip(&image.ports) {
        assert_eq!(substitute(endpoints[protocol], &[]), format!("127.0.0.1:{port}"));
        assert_eq!(substitute(endpoints[protocol], &[("OTLP_ADDRESS", "0.0.0.0")]), format!("0.0.0.0:{port}"));
    }

    // Its header names every variable, and no other.
    let text = source::read(&format!("dist/docker/{file}"));
    let named: Vec<&str> = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("#   ")?.split_whitespace().next())
        .filter(|name| *name != "SSL_CERT_FILE")
        .collect();
    for value in texts(&config) {
        let used = value.split("${env:").skip(1).map(|part| part.split([':', '}']).next().unwrap());
        used.for_each(|name| assert!(named.contains(&name), "{name} is not named in the header"));
    }
    assert!(named.iter().all(|name| text.contains(&format!("${{env:{name}"))), "{named:?}");
}
