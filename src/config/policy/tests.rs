use super::*;
use crate::config::yaml;

fn parsed(text: &str) -> Value {
    yaml::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn policy(file: &str) -> Policy {
    Policy::parse(&parsed(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Rule and place of each violation.
fn violations(policy: &Policy, config: &str) -> Vec<String> {
    named(&policy.judge(&parsed(config), None, None))
}

fn named(violations: &Violations) -> Vec<String> {
    violations.shown.iter().map(|it| format!("{} {}", it.rule, it.place)).collect()
}

/// Each config violates this rule at this place, or none.
#[track_caller]
fn table(file: &str, rule: &str, cases: &[(&str, &str)]) {
    let policy = policy(file);
    for (config, place) in cases {
        let expected: Vec<String> = if place.is_empty() { Vec::new() } else { vec![format!("{rule} {place}")] };
        assert_eq!(violations(&policy, config), expected, "{file}: {config}");
    }
}

/// What people run.
const ORDINARY: &str = r#"
receivers:
  otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317"}, http: }}
  hostmetrics: {collection_interval: 60s, root_path: /hostfs, scrapers: {cpu: , filesystem: {exclude_mount_points: {mount_points: [/dev/*], match_type: strict}}}}
  filelog: {include: [/var/log/*.log], include_file_path: true, storage: file_storage, operators: [{type: regex_parser, regex: '^(?P<t>\S+) (?P<b>.*)$', timestamp: {parse_from: attributes.t}}]}
  journald: {units: [ssh], directory: /var/log/journal}
  docker_stats: {endpoint: "${env:KM_DOCKER_ENDPOINT}"}
  prometheus: {config: {scrape_configs: [{job_name: a, metrics_path: /metrics, static_configs: [{targets: ["localhost:9100"]}], relabel_configs: [{replacement: "$${1}:9100"}]}]}}
processors: {batch: , resource: {attributes: [{key: host.name, value: "${HOSTNAME}", action: upsert}]}}
exporters:
  otlphttp: {endpoint: "${env:KM_COLLECTOR_ENDPOINT}", headers: {Authorization: "${env:KM_API_KEY}", x-path: "${env:P:-/a}"}, tls: {ca_file: /etc/ssl/ca.pem}}
  debug: {verbosity: detailed}
extensions: {health_check: {endpoint: "${env:IP:-127.0.0.1}:13133"}, file_storage: {directory: /var/lib/kmagent/storage}, pprof: {save_to_file: ""}}
service:
  extensions: [health_check, file_storage]
  pipelines: {logs: {receivers: [otlp, filelog], exporters: [otlphttp]}}
  telemetry: {logs: {level: info, output_paths: [stdout], error_output_paths: [stderr]}, metrics: {address: "0.0.0.0:8888"}}
"#;

#[test]
fn the_default_policy_lets_ordinary_configs_through() {
    assert_eq!(violations(&Policy::default(), ORDINARY), [""; 0]);
    for config in ["{}", "null", "[]", "receivers: [a]", "service: {telemetry: {logs: {output_paths: }}}"] {
        assert_eq!(violations(&Policy::default(), config), [""; 0], "{config}");
    }
}

#[test]
fn no_program_is_run_by_the_default_policy() {
    table(
        "{}",
        "programs",
        &[
            ("receivers: {journald: {journalctl_path: /tmp/x}}", "receivers::journald::journalctl_path"),
            ("receivers: {journald: {journalctl_path: '${env:X}'}}", "receivers::journald::journalctl_path"),
            ("receivers: {journald: {journalctl_path: }}", ""),
            ("receivers: {journald: {units: [ssh]}}", ""),
            ("receivers: {jmx: {jar_path: /tmp/x.jar}}", "receivers::jmx::jar_path"),
            ("receivers: {jmx/a: {additional_jars: [/tmp/x.jar]}}", "receivers::jmx/a::additional_jars"),
            ("receivers: {prometheus_exec/a: {exec: sh -c x}}", "receivers::prometheus_exec/a"),
            (
                "receivers: {prometheus: {config: {scrape_configs: [{kubernetes_sd_configs: [{kubeconfig_file: /tmp/k}]}]}}}",
                "receivers::prometheus::config::scrape_configs::0::kubernetes_sd_configs::0::kubeconfig_file",
            ),
            (
                "receivers: {prometheus: {config: {scrape_config_files: [/home/a/b.yaml]}}}",
                "receivers::prometheus::config::scrape_config_files",
            ),
            ("receivers: {prometheus: {config: {scrape_config_files: []}}}", ""),
            (
                "receivers: {prometheus/a: {target_allocator: {endpoint: 'http://x'}}}",
                "receivers::prometheus/a::target_allocator",
            ),
            ("receivers: {prometheus: {target_allocator: '${env:X}'}}", "receivers::prometheus::target_allocator"),
            (
                "receivers: {prometheus: {'target_allocator::endpoint': 'http://x'}}",
                "receivers::prometheus::target_allocator",
            ),
            ("receivers: {prometheus: {target_allocator: }}", ""),
            ("receivers: {prometheus: {config: {scrape_configs: [{http_sd_configs: [{url: 'http://x'}]}]}}}", ""),
            ("receivers: {receiver_creator: {discovery: {enabled: true}}}", "receivers::receiver_creator::discovery"),
            ("receivers: {receiver_creator: {discovery: {enabled: false}}}", ""),
            (
                "receivers: {receiver_creator: {receivers: {journald: {config: {journalctl_path: '`\"/tmp/x\"`'}}}}}",
                "receivers::receiver_creator::receivers::journald::config::journalctl_path",
            ),
            // Several keys in one are what the collector makes of them.
            ("{'receivers::journald::journalctl_path': /tmp/x}", "receivers::journald::journalctl_path"),
            ("receivers: {'journald::journalctl_path': /tmp/x}", "receivers::journald::journalctl_path"),
            ("receivers: {'prometheus_exec::exec': sh -c x}", "receivers::prometheus_exec"),
        ],
    );
}

#[test]
fn no_file_is_written_by_the_default_policy_but_a_storage() {
    let operator = "receivers::filelog::operators::1";
    table(
        "{}",
        "files",
        &[
            (
                "service: {telemetry: {logs: {output_paths: [stderr, /tmp/x]}}}",
                "service::telemetry::logs::output_paths",
            ),
            ("service: {telemetry: {logs: {output_paths: 'stdout,/tmp/x'}}}", "service::telemetry::logs::output_paths"),
            ("service: {telemetry: {logs: {output_paths: 'stdout,stderr'}}}", ""),
            ("service: {telemetry: {logs: {output_paths: ['${env:X}']}}}", "service::telemetry::logs::output_paths"),
            ("service: {telemetry: {logs: {output_paths: ['file:///x']}}}", "service::telemetry::logs::output_paths"),
            ("service: {telemetry: {logs: {output_paths: {a: b}}}}", "service::telemetry::logs::output_paths"),
            ("service: {telemetry: {logs: {output_paths: [1]}}}", "service::telemetry::logs::output_paths"),
            (
                "service: {'telemetry::logs': {error_output_paths: [/tmp/x]}}",
                "service::telemetry::logs::error_output_paths",
            ),
            ("extensions: {pprof: {save_to_file: /tmp/x}}", "extensions::pprof::save_to_file"),
            ("extensions: {ecs_observer: {result_file: /tmp/x}}", "extensions::ecs_observer::result_file"),
            ("exporters: {file/a: {path: /tmp/x}}", "exporters::file/a::path"),
            ("exporters: {' file ': {path: /tmp/x}}", "exporters:: file ::path"),
            ("receivers: {filelog: {operators: [{type: add}, {type: file_output, path: /tmp/x}]}}", operator),
            ("receivers: {filelog: {operators: [{type: add}, {type: '${env:X:-file_output}'}]}}", operator),
            ("receivers: {filelog: {operators: [{type: add}, {type: '`x`'}]}}", operator),
            ("extensions: {file_storage: {directory: /tmp/x, create_directory: true}}", ""),
        ],
    );
}

#[test]
fn only_the_environment_is_asked_by_the_default_policy() {
    table(
        "{}",
        "providers",
        &[
            ("service: {telemetry: {logs: {level: 'x${file:/etc/shadow}'}}}", "service::telemetry::logs::level"),
            ("receivers: '${http://169.254.169.254/}'", "receivers"),
            ("processors: {a: [b, '${yaml:x}']}", "processors::a::1"),
            ("processors: {'${file:x}': 1}", "processors::${file:x}"),
            ("{'processors::a::b': '${file:x}'}", "processors::a::b"),
            ("processors: {a: '${${env:S}:x}'}", "processors::a"),
            ("processors: {a: '${env:X}'}", ""),
            ("processors: {a: '$${file:x}'}", ""),
        ],
    );
    // A config that is one reference as a whole has no place.
    assert_eq!(violations(&Policy::default(), "'${file:/etc/passwd}'"), ["providers "]);
    table(
        "providers: [env, file]",
        "providers",
        &[("a: '${file:/run/secrets/x}'", ""), ("a: '${http://x}'", "a"), ("a: '${env:X}'", "")],
    );
    table("providers: []", "providers", &[("a: '${X}'", "a")]);
}

#[test]
fn components_are_denied_and_allowed_by_kind_and_type() {
    table(
        "deny-components: [receivers::file_log, '*::jmx', 'extensions::*storage']",
        "deny-components",
        &[
            ("receivers: {filelog/a: {}}", "receivers::filelog/a"),
            ("receivers: {file_log: }", "receivers::file_log"),
            ("receivers: {' filelog /a': }", "receivers:: filelog /a"),
            ("{'receivers::filelog': {}}", "receivers::filelog"),
            ("exporters: {filelog: {}}", ""),
            ("receivers: {jmx: {}}", "receivers::jmx"),
            ("extensions: {redis_storage: {}}", "extensions::redis_storage"),
            (
                "receivers: {receiver_creator: {receivers: {filelog: {}}}}",
                "receivers::receiver_creator::receivers::filelog",
            ),
            ("receivers: '${env:RECEIVERS}'", "receivers"),
            ("receivers: {otlp: {filelog: {}}}", ""),
            ("receivers: {'filelog::include': [/x]}", "receivers::filelog"),
            ("{'receivers::filelog/a::include': [/x]}", "receivers::filelog/a"),
            ("receivers: {'otlp::filelog': {}}", ""),
        ],
    );
    table(
        "allow-components: [receivers::otlp, 'exporters::otlp*', 'processors::*']",
        "allow-components",
        &[
            ("{receivers: {otlp/a: {}}, exporters: {otlp_http: {}}, processors: {any: {}}, service: {x: {}}}", ""),
            ("receivers: {otlpjsonfile: {}}", "receivers::otlpjsonfile"),
            ("extensions: {zpages: {}}", "extensions::zpages"),
            ("extensions: {'zpages::endpoint': x}", "extensions::zpages"),
            ("receivers: {'otlp::protocols::grpc': {}}", ""),
            ("exporters: '${env:EXPORTERS}'", "exporters"),
        ],
    );
    // The collector lists both names.
    for (one, other) in [("otlp", "otlp_grpc"), ("otlp_grpc", "otlp"), ("otlphttp", "otlp_http")] {
        let (denied, allowed) = (format!("deny-components: ['*::{one}']"), format!("allow-components: ['*::{one}']"));
        let config = format!("exporters: {{{other}/a: }}");
        table(&denied, "deny-components", &[(&config, &format!("exporters::{other}/a"))]);
        table(&allowed, "allow-components", &[(&config, ""), ("exporters: {nop: }", "exporters::nop")]);
    }
    table("deny-components: ['*::otlp_grpc']", "deny-components", &[("receivers: {otlp: }", "")]);
    table("allow-components: []", "allow-components", &[("receivers: {otlp: }", "receivers::otlp")]);
}

#[test]
fn exporters_send_to_these_hosts_alone() {
    let at = "exporters::otlp::endpoint";
    table(
        "exporter-endpoints: ['*.Example.com', 10.0.0.1]",
        "exporter-endpoints",
        &[
            ("exporters: {otlp: {endpoint: 'otel.example.com:4317'}}", ""),
            ("exporters: {otlp: {endpoint: 'https://OTEL.Example.COM.:4317/'}}", ""),
            ("exporters: {otlp: {endpoint: '10.0.0.1:4317'}}", ""),
            ("exporters: {otlp: {endpoint: 'evil.net:4317'}}", at),
            ("exporters: {otlp: {endpoint: 'https://otel.example.com@evil.net'}}", at),
            ("exporters: {otlp: {endpoint: 'dns://evil.net/otel.example.com:4317'}}", at),
            ("exporters: {otlp: {endpoint: '${env:KM_COLLECTOR_ENDPOINT}'}}", at),
            ("exporters: {otlp: {endpoint: ':4317'}}", at),
            ("exporters: {otlp: }", "exporters::otlp"),
            ("exporters: {otlp: '${env:X}'}", "exporters::otlp"),
            ("exporters: {'otlp::tls': {insecure: true}}", "exporters::otlp"),
            ("exporters: {'otlp::endpoint': 'otel.example.com:4317'}", ""),
            ("exporters: {'datadog::api': {key: x}}", "exporters::datadog"),
            (
                "exporters: {otlphttp: {endpoint: 'https://a.example.com', logs_endpoint: 'https://evil.net'}}",
                "exporters::otlphttp::logs_endpoint",
            ),
            (
                "exporters: {otlphttp: {endpoint: 'https://a.example.com', proxy_url: 'http://evil.net'}}",
                "exporters::otlphttp::proxy_url",
            ),
            (
                "exporters: {otlphttp: {endpoint: 'https://a.example.com', max_conns_per_host: 5, headers: {host: x}}}",
                "",
            ),
            ("exporters: {kafka: {brokers: ['a.example.com:9092', 'evil.net:9092']}}", "exporters::kafka::brokers"),
            ("exporters: {datadog: {api: {key: x}}}", "exporters::datadog"),
            ("exporters: {debug: , nop: , prometheus: {endpoint: ':1'}}", ""),
            ("receivers: {mysql: {endpoint: 'db:3306'}}", ""),
            (
                "service: {telemetry: {metrics: {readers: [{periodic: {exporter: {otlp: {endpoint: 'http://evil.net'}}}}]}}}",
                "service::telemetry::metrics::readers::0::periodic::exporter::otlp::endpoint",
            ),
        ],
    );
}

#[test]
fn the_collectors_endpoint_is_judged_by_its_value() {
    let hosts = || policy("exporter-endpoints: [otel.example.com]");
    for (endpoint, text, is_allowed) in [
        ("https://otel.example.com:4318", "${env:KM_COLLECTOR_ENDPOINT}", true),
        ("https://otel.example.com:4318", "${KM_COLLECTOR_ENDPOINT}/v1/logs", true),
        ("https://otel.example.com", "${env:KM_COLLECTOR_ENDPOINT}.evil.net", false),
        ("https://otel.example.com", "$${env:KM_COLLECTOR_ENDPOINT}", false),
        ("https://otel.example.com", "https://evil.net/${env:KM_COLLECTOR_ENDPOINT}", false),
        ("https://otel.example.com", "${env:KM_COLLECTOR_ENDPOINT:-https://evil.net}", false),
        ("https://otel.example.com", "${env:KM_HOST_NAME}", false),
        ("https://evil.net", "${env:KM_COLLECTOR_ENDPOINT}", false),
        ("${env:OTHER}", "${env:KM_COLLECTOR_ENDPOINT}", false),
    ] {
        let config = format!("exporters: {{otlphttp: {{endpoint: '{text}'}}}}");
        let found = violations(&hosts().with_endpoint(endpoint), &config);
        assert_eq!(found.is_empty(), is_allowed, "{endpoint} {text}: {found:?}");
    }
    // A config that one endpoint's policy refuses is judged again with another.
    let identity = |policy: Policy, endpoint| policy.with_endpoint(endpoint).identity().to_string();
    assert_ne!(identity(hosts(), "https://a"), identity(hosts(), "https://b"));
    assert_eq!(identity(Policy::default(), "https://a"), Policy::default().identity());
}

#[test]
fn nothing_listens_beyond_loopback() {
    table(
        "listen: loopback",
        "listen",
        &[
            ("receivers: {otlp: {protocols: {grpc: {endpoint: 'localhost:1'}, http: {endpoint: '[::1]:1'}}}}", ""),
            (
                "receivers: {otlp: {protocols: {grpc: {endpoint: '0.0.0.0:1'}}}}",
                "receivers::otlp::protocols::grpc::endpoint",
            ),
            ("receivers: {otlp: {protocols: {grpc: {endpoint: 'localhost:1'}, http: }}}", "receivers::otlp"),
            ("receivers: {otlp: {protocols: '${env:X}'}}", "receivers::otlp"),
            ("receivers: {'otlp::protocols': {grpc: }}", "receivers::otlp"),
            ("{'receivers::otlp::protocols::grpc': }", "receivers::otlp"),
            (
                "receivers: {otlp: {'protocols::grpc': {endpoint: 'localhost:1'}, 'protocols::http': }}",
                "receivers::otlp",
            ),
            ("receivers: {otlp: {protocols: {'grpc::endpoint': 'localhost:1', http: }}}", "receivers::otlp"),
            ("receivers: {otlp: {'protocols::grpc::endpoint': 'localhost:1'}}", ""),
            ("{'receivers::otlp::protocols': {'grpc::endpoint': 'localhost:1'}}", ""),
            // The collector may take either piece alone.
            ("receivers: {otlp: , 'otlp::protocols::grpc::endpoint': 'localhost:1'}", "receivers::otlp"),
            (
                "receivers: {otlp: {protocols: {grpc: {endpoint: '${env:IP}:1'}}}}",
                "receivers::otlp::protocols::grpc::endpoint",
            ),
            ("receivers: {syslog: {tcp: {listen_address: '0.0.0.0:514'}}}", "receivers::syslog::tcp::listen_address"),
            ("receivers: {syslog: {tcp: {listen_address: '127.0.0.1:514'}}}", ""),
            ("receivers: {netflow: {hostname: 0.0.0.0, port: 2055}}", "receivers::netflow::hostname"),
            ("receivers: {fluentforward: {endpoint: 'unix:///run/f.sock'}}", ""),
            ("receivers: {mysql: {endpoint: 'db:3306'}, filelog: , hostmetrics: , prometheus: {config: {}}}", ""),
            (
                "receivers: {prometheus: {api_server: {server_config: {endpoint: '0.0.0.0:9090'}}}}",
                "receivers::prometheus::api_server::server_config::endpoint",
            ),
            ("receivers: {newone: {}}", "receivers::newone"),
            ("extensions: {health_check: }", "extensions::health_check"),
            ("extensions: {zpages: {endpoint: ':55679'}}", "extensions::zpages::endpoint"),
            ("extensions: {basicauth: , file_storage: , memory_limiter: , docker_observer: }", ""),
            ("exporters: {prometheus: {endpoint: '0.0.0.0:1'}}", "exporters::prometheus::endpoint"),
            ("exporters: {otlp: {endpoint: 'otel.example.com:4317'}}", ""),
            ("service: {telemetry: {metrics: {address: ':8888'}}}", "service::telemetry::metrics::address"),
            (
                "service: {telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 0.0.0.0, port: 1}}}}]}}}",
                "service::telemetry::metrics::readers::0::pull::exporter::prometheus::host",
            ),
            ("service: {telemetry: {resource: {host: web-1}}}", ""),
        ],
    );
    table("listen: any", "", &[("extensions: {health_check: {endpoint: '0.0.0.0:1'}}", "")]);
}

#[test]
fn components_read_and_write_in_these_folders_alone() {
    table(
        "paths: [/var/log, /var/lib/kmagent/storage]",
        "paths",
        &[
            ("receivers: {filelog: {include: [/var/log/*.log], exclude: [/x], include_file_path: true}}", ""),
            ("receivers: {filelog: {include: [/var/log/a, /etc/shadow]}}", "receivers::filelog::include"),
            ("receivers: {filelog: {include: '/var/log/a,/etc/shadow'}}", "receivers::filelog::include"),
            ("receivers: {filelog: {include: ['${env:LOGS}']}}", "receivers::filelog::include"),
            ("receivers: {filelog: {include: [/var/log/../../etc/shadow]}}", "receivers::filelog::include"),
            ("receivers: {filelog: '${env:X}'}", "receivers::filelog"),
            ("receivers: {hostmetrics: {root_path: /}}", "receivers::hostmetrics::root_path"),
            ("receivers: {hostmetrics: {scrapers: {disk: {include: {devices: [/dev/sda]}}}}}", ""),
            (
                "receivers: {docker_stats: {endpoint: 'unix:///var/run/docker.sock'}}",
                "receivers::docker_stats::endpoint",
            ),
            ("receivers: {docker_stats: {endpoint: 'unix:run/docker.sock'}}", "receivers::docker_stats::endpoint"),
            ("receivers: {docker_stats: {endpoint: 'unix://run/docker.sock'}}", "receivers::docker_stats::endpoint"),
            ("receivers: {docker_stats: {endpoint: 'unix:///var/log/docker.sock'}}", ""),
            ("receivers: {x: {endpoint: run/docker.sock, transport: unix}}", "receivers::x::endpoint"),
            ("receivers: {nginx: {endpoint: 'localhost:80/status'}}", ""),
            ("receivers: {docker_stats: {endpoint: 'tcp://127.0.0.1:2375'}}", ""),
            ("receivers: {sqlquery: {driver: mysql, datasource: 'user@tcp(x)/'}}", "receivers::sqlquery::datasource"),
            (
                "receivers: {prometheus: {config: {scrape_configs: [{bearer_token_file: /etc/shadow, metrics_path: /x}]}}}",
                "receivers::prometheus::config::scrape_configs::0::bearer_token_file",
            ),
            ("extensions: {file_storage: {directory: /home/x}}", "extensions::file_storage::directory"),
            ("extensions: {file_storage: {directory: /var/lib/kmagent/storage/a}}", ""),
            ("extensions: {health_check: {endpoint: 'localhost:1', path: /health}}", ""),
            ("exporters: {otlp: {tls: {ca_file: /etc/ssl/ca.pem}}}", "exporters::otlp::tls::ca_file"),
            ("processors: {metricstransform: {transforms: [{include: system.cpu}]}}", ""),
        ],
    );
    // Then it says where may be written, too.
    let policy = policy("paths: [/srv]");
    for (config, expected) in [
        ("exporters: {file: {path: /srv/a}}", &[][..]),
        ("exporters: {file: {path: /home/a}}", &["files exporters::file::path", "paths exporters::file::path"]),
        ("service: {telemetry: {logs: {output_paths: [stderr, /srv/a]}}}", &[]),
        ("service: {telemetry: {logs: {output_paths: [/home/a]}}}", &["files service::telemetry::logs::output_paths"]),
        ("receivers: {journald: {journalctl_path: /srv/a}}", &["programs receivers::journald::journalctl_path"]),
    ] {
        assert_eq!(violations(&policy, config), expected, "{config}");
    }
}

#[test]
fn an_exception_is_for_a_place_and_what_is_below_it() {
    let config = "{receivers: {journald: {journalctl_path: /a}, jmx: {jar_path: /b}}, exporters: {file/x: {path: /c}}}";
    for (allow, expected) in [
        ("[receivers::journald]", &["programs receivers::jmx::jar_path", "files exporters::file/x::path"][..]),
        ("['receivers::*::journalctl_path', 'exporters::file*']", &["programs receivers::jmx::jar_path"]),
        ("[receivers, exporters::file/x::path]", &[]),
        ("['*']", &[]),
        (
            "[journald, receivers::journal, receivers::journald::journalctl_path::x, exporters::file]",
            &[
                "programs receivers::journald::journalctl_path",
                "programs receivers::jmx::jar_path",
                "files exporters::file/x::path",
            ],
        ),
    ] {
        assert_eq!(violations(&policy(&format!("allow: {allow}")), config), expected, "{allow}");
    }
}

#[test]
fn the_overlays_places_are_the_sites_own() {
    let offered =
        "{receivers: {journald: {journalctl_path: /a}, filelog: {}}, extensions: {pprof: {save_to_file: /b}}}";
    let all = ["programs receivers::journald::journalctl_path", "files extensions::pprof::save_to_file"];
    let policy = policy("deny-components: [receivers::filelog]");
    for (overlay, expected) in [
        ("{}", vec![all[0], "deny-components receivers::filelog", all[1]]),
        ("receivers: {journald: {journalctl_path: /usr/bin/journalctl}, filelog: {include: [/x]}}", vec![all[1]]),
        ("{receivers: {journald: {units: [a]}, filelog: }, extensions: {pprof: }}", vec![all[0]]),
        ("{receivers: , extensions: }", vec![]),
        ("{receivers: {filelog: {}}, extensions: {zpages: {save_to_file: /c}}}", vec![all[0], all[1]]),
    ] {
        let found = policy.judge(&parsed(offered), Some(&parsed(overlay)), None);
        assert_eq!(named(&found), expected, "{overlay}");
    }
    // Of one place in two spellings the collector takes either.
    let spelled = parsed("{'extensions::pprof::save_to_file': /b}");
    let found = Policy::default().judge(&spelled, Some(&parsed("extensions: {pprof: {save_to_file: }}")), None);
    assert_eq!(named(&found), [all[1]]);
}

#[test]
fn what_the_confirmed_config_has_is_allowed_there_with_that_value() {
    let confirmed = parsed(
        "{receivers: {journald: {journalctl_path: /a}, exec: {x: 1}}, exporters: {e: {files: ['${file:a}', b]}}, \
         'extensions::pprof::save_to_file': /b}",
    );
    let policy = policy("deny-components: ['receivers::exec']");
    for (offered, expected) in [
        ("receivers: {journald: {journalctl_path: /a, units: [b]}}", &[][..]),
        ("receivers: {journald: {journalctl_path: /b}}", &["programs receivers::journald::journalctl_path"]),
        ("receivers: {journald/2: {journalctl_path: /a}}", &["programs receivers::journald/2::journalctl_path"]),
        ("receivers: {exec: {x: 1}}", &[]),
        ("receivers: {exec: {x: 2}}", &["deny-components receivers::exec"]),
        ("exporters: {e: {files: ['${file:a}', c]}}", &[]),
        ("exporters: {e: {files: [b, '${file:a}']}}", &["providers exporters::e::files::1"]),
        ("{'extensions::pprof::save_to_file': /b}", &[]),
    ] {
        assert_eq!(named(&policy.judge(&parsed(offered), None, Some(&confirmed))), expected, "{offered}");
    }
    assert_eq!(policy.judge(&confirmed, None, Some(&confirmed)), Violations::default());
    assert_eq!(named(&policy.judge(&confirmed, None, None)).len(), 4);
}

#[test]
fn without_a_policy_nothing_is_judged() {
    let none = Policy::none();
    assert_eq!(violations(&none, "{receivers: {journald: {journalctl_path: '${file:/a}'}}}"), [""; 0]);
    let identities = [none, Policy::default(), policy("listen: loopback"), policy("listen: any")];
    let mut names: Vec<&str> = identities.iter().map(Policy::identity).collect();
    names.dedup();
    assert_eq!(names.len(), 4);
    assert_eq!(Policy::default().identity(), policy("").identity());
}

#[test]
fn a_bad_policy_file_is_an_error_that_names_the_rule() {
    for (file, expected) in [
        ("[]", "expected \"rule: value\" lines"),
        ("x", "expected \"rule: value\" lines"),
        ("alow: [a]", "unknown rule \"alow\": the rules are deny-components, "),
        ("deny-components: journald", "deny-components: it takes a list, as in deny-components: [a, b]"),
        ("deny-components: ", "deny-components: it takes a list"),
        ("deny-components: [journald]", "deny-components: \"journald\" is not KIND::TYPE"),
        ("deny-components: [receiver::journald]", "is not KIND::TYPE"),
        ("deny-components: ['receivers::']", "is not KIND::TYPE"),
        ("deny-components: [receivers::journald/x]", "is not KIND::TYPE"),
        ("allow-components: [1]", "allow-components: each item is a text: quote it"),
        ("exporter-endpoints: ['https://a.example']", "is not a host"),
        ("exporter-endpoints: ['a.example:4317']", "is not a host"),
        ("exporter-endpoints: ['']", "is not a host"),
        ("listen: localhost", "listen: it takes loopback or any"),
        ("listen: [loopback]", "listen: it takes loopback or any"),
        ("listen: ", "listen: it takes loopback or any"),
        ("paths: [var/log]", "paths: \"var/log\" is not an absolute path"),
        ("paths: [/var/*/x]", "is not an absolute path"),
        ("paths: [/var/../x]", "is not an absolute path"),
        ("providers: ['file:']", "is not a provider's scheme"),
        ("allow: ['a::::b']", "is not a place"),
        ("allow: ['']", "is not a place"),
    ] {
        let error = Policy::parse(&parsed(file)).expect_err(file);
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[test]
fn a_violation_is_described_with_its_rule_its_place_and_the_line_that_allows_it() {
    let found = Policy::default().judge(&parsed("receivers: {journald: {journalctl_path: '${file:/a}'}}"), None, None);
    let place = "receivers::journald::journalctl_path";
    let said = found.explain("FILE");
    let (what, allow) = said.split_once("to allow it, add to the list in FILE, and run `kmagent reload`: ").unwrap();
    let refers = "it refers to a provider that is not allowed (rule providers)";
    assert_eq!(what, format!("{place}: it names a program to run (rule programs); {place}: {refers}; "));
    assert_eq!(allow, format!("allow: [\"{place}\"]"));
    assert_eq!(violations(&policy(allow), "receivers: {journald: {journalctl_path: '${file:/a}'}}"), [""; 0]);

    let many: String = (0..20).map(|nth| format!("  journald/{nth}: {{journalctl_path: /a}}\n")).collect();
    let found = Policy::default().judge(&parsed(&format!("receivers:\n{many}")), None, None);
    assert!(found.explain("").contains("; and 12 more; "), "{}", found.explain(""));
    let long = "x".repeat(1 << 20);
    let long = Value::Object(vec![(long, Value::String("${file:a}".to_string()))]);
    let found = Policy::default().judge(&long, None, None);
    assert!(found.explain("").len() < 1200);
}

/// As deep as an answer can be, with a key whose place is as long as one.
#[test]
fn a_deep_config_is_judged_within_a_small_stack() {
    let keys = Value::Object(vec![("a::".repeat(1 << 20), Value::Null)]);
    let deep = (0..126).fold(Value::Null, |inner, _| Value::Object(vec![("a::b::c".to_string(), inner)]));
    let policy = policy(STRICT);
    let judged = std::thread::Builder::new().stack_size(1024 * 1024).spawn(move || {
        for config in [&keys, &deep] {
            assert!(!policy.judge(config, Some(config), None).is_empty());
            assert!(policy.judge(config, None, Some(config)).is_empty());
        }
    });
    judged.unwrap().join().unwrap();
}

/// Compared each with each it would be four hundred times as much.
#[test]
#[cfg(unix)]
fn twenty_times_the_components_cost_little_more_than_twenty_times_as_much() {
    let policy = policy(STRICT);
    let cost = |count: usize| {
        let wide = (0..count).map(|number| (format!("otlp/{number}"), Value::Null)).collect();
        let config = Value::Object(vec![("receivers".to_string(), Value::Object(wide))]);
        crate::thread_time::least(|| {
            let _ = policy.judge(&config, Some(&config), None);
            assert!(policy.judge(&config, None, Some(&config)).is_empty());
        })
    };
    let (few, many) = (cost(1_000), cost(20_000));
    assert!(many < few * 100, "{many:?} instead of {few:?}");
}

const STRICT: &str = "{listen: loopback, deny-components: ['*::otlp'], paths: [/a], exporter-endpoints: [a]}";
