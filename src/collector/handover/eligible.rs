//! Whether two collectors may run side by side, as far as their configs and the host's memory tell. Pure.
//!
//! Each config is judged by itself, by who reads it, so that nobody has to go through both when a hand-over is due.
//!
//! What is known of each component is in `components`. One of which nothing is known may overlap: most do, and one that
//! cannot share refuses to start, which `blames_overlap` tells from a bad config.

use std::fmt;
use std::time::Duration;

use super::components::{Component, Exclusive};
use super::memory::Memory;
use crate::config::merge::merge;
use crate::config::value::Value;

/// Why two collectors do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It would work, but data would be doubled or memory short.
    Unwise(String),
    /// The new one could not start while the old one runs.
    Impossible(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Obstacle::Unwise(reason) | Obstacle::Impossible(reason)) = self;
        f.write_str(reason)
    }
}

/// Whether a collector with these configs, which are given in the order of the `--config` arguments, may run beside
/// another one. Two run for `longest_overlap` at most.
///
/// # Errors
/// What stands in the way, the impossible first.
pub fn may_share(configs: &[&Value], longest_overlap: Duration) -> Result<(), Obstacle> {
    let mut obstacles = Vec::new();
    judge(&merge(configs), longest_overlap, &mut obstacles);
    first(obstacles)
}

/// Whether two collectors may overlap: what `may_share` says of the old one and of the new one, and the memory that
/// there is; `None` when the kernel does not say.
///
/// # Errors
/// What stands in the way, the impossible first.
pub fn may_overlap(
    old: &Result<(), Obstacle>,
    new: &Result<(), Obstacle>,
    memory: Option<Memory>,
) -> Result<(), Obstacle> {
    let of_configs = [old, new].into_iter().filter_map(|judged| judged.clone().err());
    first(of_configs.chain(short_of_memory(memory)).collect())
}

fn first(mut obstacles: Vec<Obstacle>) -> Result<(), Obstacle> {
    let impossible = obstacles.iter().position(|obstacle| matches!(obstacle, Obstacle::Impossible(_)));
    match impossible.or(if obstacles.is_empty() { None } else { Some(0) }) {
        Some(at) => Err(obstacles.swap_remove(at)),
        None => Ok(()),
    }
}

/// Whether the last words of a new collector that died beside the old one may be about the old one: then its config
/// deserves another try, alone, before it is called bad.
///
/// The second is what a locked `file_storage` says (bbolt's ErrTimeout), as seen with 0.149.
pub fn blames_overlap(tail: &str) -> bool {
    ["address already in use", "exporter: timeout", "receiver: timeout", "processor: timeout", "connector: timeout"]
        .iter()
        .any(|words| tail.contains(words))
}

fn judge(config: &Value, longest_overlap: Duration, obstacles: &mut Vec<Obstacle>) {
    let service = config.get("service");
    let pipelines = service.and_then(|service| service.get("pipelines"));
    let (Some(service), Some(Value::Object(pipelines))) = (service, pipelines) else {
        return obstacles.push(unknown("service.pipelines"));
    };
    for (section, listed_in) in [
        ("receivers", &["receivers"][..]),
        ("processors", &["processors"]),
        ("exporters", &["exporters"]),
        ("connectors", &["receivers", "exporters"]),
    ] {
        let mut ids = Vec::new();
        for (name, pipeline) in pipelines {
            for list in listed_in.iter().filter_map(|list| pipeline.get(list)) {
                match list.as_array() {
                    Some(list) => ids.extend(used(list)),
                    None if *list == Value::Null => {}
                    None => obstacles.push(unknown(&format!("service.pipelines.{name}"))),
                }
            }
        }
        judge_each(config, section, ids, longest_overlap, obstacles);
    }
    match service.get("extensions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            judge_each(config, "extensions", used(list).collect(), longest_overlap, obstacles);
        }
        Some(_) => obstacles.push(unknown("service.extensions")),
    }
}

/// The ids in a list of components.
fn used(list: &[Value]) -> impl Iterator<Item = String> {
    list.iter().filter_map(Value::as_str).map(|id| id.trim().to_owned())
}

fn judge_each(
    config: &Value,
    section: &str,
    mut ids: Vec<String>,
    longest_overlap: Duration,
    obstacles: &mut Vec<Obstacle>,
) {
    let Some(components) = config.get(section) else { return };
    if is_reference(components) {
        return obstacles.push(unknown(section));
    }
    ids.sort_unstable();
    for (id, component) in components.as_object().unwrap_or_default() {
        if ids.binary_search_by(|used| used.as_str().cmp(id.trim())).is_ok() {
            judge_component(section, id, component, longest_overlap, obstacles);
        }
    }
}

fn judge_component(
    section: &str,
    id: &str,
    component: &Value,
    longest_overlap: Duration,
    obstacles: &mut Vec<Obstacle>,
) {
    let known = Component::new(section, id, component);
    let singular = section.trim_end_matches('s');
    if is_reference(component) {
        obstacles.push(unknown(&format!("{section}.{id}")));
    }
    if known.is_read_once() {
        obstacles.push(Obstacle::Unwise(format!("two collectors would both read {id} and send duplicates")));
    }
    if known.is_storage() {
        obstacles.push(Obstacle::Unwise(format!("only one collector can use the extension {id}")));
    }
    if known.writes_a_file() {
        obstacles.push(Obstacle::Unwise(format!("two collectors would both write the file of the {singular} {id}")));
    }
    if known.reports_totals_within(longest_overlap) {
        obstacles.push(Obstacle::Unwise(format!("two collectors would both report connector {id}'s counters")));
    }
    if known.is_opamp() {
        obstacles.push(Obstacle::Unwise(format!("two collectors would both report as extension {id}'s instance")));
    }
    for (id, template) in known.receiver_templates() {
        judge_component("receivers", id, template, longest_overlap, obstacles);
    }
    for exclusive in known.exclusives() {
        obstacles.push(Obstacle::Impossible(match exclusive {
            Exclusive::Storage => format!("the {singular} {id} uses a storage that only one collector can open"),
            Exclusive::WriteAheadLog => {
                format!("the {singular} {id} has a write-ahead log that only one collector can open")
            }
            Exclusive::UnixSocket => format!("the {singular} {id} listens on a Unix socket"),
        }));
    }
}

fn short_of_memory(memory: Option<Memory>) -> Option<Obstacle> {
    let Some(Memory { available, of_old }) = memory else {
        return Some(Obstacle::Unwise("available memory is unknown".to_string()));
    };
    // What it has now, and half as much again for what it will take when it starts to work.
    let needed = of_old.saturating_add(of_old / 2);
    let mib = |bytes: u64| bytes >> 20;
    (available < needed).then(|| {
        let (needed, available) = (mib(needed), mib(available));
        Obstacle::Unwise(format!("a second collector may need {needed} MiB, but only {available} MiB are available"))
    })
}

/// Something whose content we do not know: `${file:…}` where a map or a list belongs, or nothing at all.
fn unknown(what: &str) -> Obstacle {
    Obstacle::Unwise(format!("the content of {what} is unknown"))
}

fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Facts {
        memory: Option<Memory>,
        longest_overlap: Duration,
    }

    fn may_overlap(old: &[&Value], new: &[&Value], facts: &Facts) -> Result<(), Obstacle> {
        let [old, new] = [old, new].map(|configs| may_share(configs, facts.longest_overlap));
        super::may_overlap(&old, &new, facts.memory)
    }

    const PLENTY: Facts = Facts {
        memory: Some(Memory { available: 300 << 20, of_old: 200 << 20 }),
        longest_overlap: Duration::from_secs(85),
    };
    const PLAIN: &str = "{receivers: {otlp: {}}, exporters: {nop: {}}, \
        service: {pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}}";

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// A config with this component in use.
    fn with(section: &str, id: &str, component: &str) -> Value {
        let service = match section {
            "extensions" => format!("{{extensions: ['{id}'], pipelines: {{logs: {{receivers: [otlp]}}}}}}"),
            "connectors" => format!("{{pipelines: {{logs: {{receivers: [otlp], exporters: ['{id}']}}}}}}"),
            _ => format!("{{pipelines: {{logs: {{receivers: [otlp], {section}: ['{id}']}}}}}}")
                .replace("receivers: [otlp], receivers", "receivers"),
        };
        yaml(&format!("{{{section}: {{'{id}': {component}, other/{id}: {{}}}}, service: {service}}}"))
    }

    #[test]
    fn what_may_overlap_does() {
        for (section, id, component) in [
            ("receivers", "otlp", "{protocols: {grpc: {endpoint: '0.0.0.0:4317'}}}"),
            ("receivers", "hostmetrics", "{scrapers: {cpu: {}}}"),
            ("receivers", "prometheus/2", "{config: {}}"),
            ("receivers", "docker_stats", "{endpoint: 'unix:///var/run/docker.sock'}"),
            ("receivers", "mysql", "{transport: unix, endpoint: /run/mysqld.sock}"),
            ("receivers", "sqlquery", "{queries: [{sql: select 1, metrics: [{metric_name: logs}]}]}"),
            ("receivers", "syslog", "{udp: {listen_address: '127.0.0.1:514'}, storage: null}"),
            ("processors", "batch", "{}"),
            ("exporters", "debug", "{}"),
            ("exporters", "otlp_grpc", "{endpoint: 'unix:///run/next.sock', sending_queue: {queue_size: 5}}"),
            ("extensions", "health_check", "{}"),
            ("extensions", "pprof", "{save_to_file: ''}"),
            ("extensions", "zpages", "{endpoint: '${env:ZPAGES}'}"),
            ("connectors", "spanmetrics", "{metrics_flush_interval: 90s}"),
            ("connectors", "spanmetrics", "{metrics_flush_interval: 1m25.1s}"),
            ("connectors", "count", "{}"),
            (
                "connectors",
                "spanmetrics/often",
                "{metrics_flush_interval: 15s, aggregation_temporality: AGGREGATION_TEMPORALITY_DELTA}",
            ),
        ] {
            let config = with(section, id, component);
            assert_eq!(may_overlap(&[&yaml(PLAIN)], &[&config], &PLENTY), Ok(()), "{id}");
        }
    }

    #[test]
    fn what_must_not_run_twice_is_found_in_either_config() {
        let unwise = [
            ("receivers", "filelog", "{}"),
            ("receivers", "file_log/x", "{}"),
            ("receivers", "journald", "null"),
            ("receivers", "windowseventlog", "{}"),
            ("receivers", "receiver_creator", "{receivers: {filelog: {config: {}}}}"),
            (
                "receivers",
                "sqlquery",
                "{queries: [{sql: select 1, metrics: []}, {sql: select a, logs: [{body_column: a}]}]}",
            ),
            ("exporters", "file/a", "{path: /tmp/a}"),
            ("connectors", "spanmetrics", "null"),
            ("connectors", "servicegraph", "{store: {ttl: 2s}}"),
            ("connectors", "spanmetrics", "{metrics_flush_interval: 85s}"),
            ("connectors", "spanmetrics", "{metrics_flush_interval: '${env:FLUSH_INTERVAL}'}"),
            ("connectors", "spanmetrics", "{metrics_flush_interval: 1m, aggregation_temporality: CUMULATIVE}"),
            ("extensions", "file_storage", "{}"),
            ("extensions", "redis_storage/1", "{}"),
            ("extensions", "pprof", "{save_to_file: /tmp/profile}"),
            ("processors", "batch", "'${file:/etc/batch.yaml}'"),
        ];
        let impossible = [
            ("receivers", "filelog", "{storage: file_storage}"),
            ("receivers", "otlp", "{protocols: {grpc: {transport: unix, endpoint: /run/a.sock}}}"),
            ("receivers", "fluentforward", "{endpoint: 'unix:///run/a.sock'}"),
            ("receivers", "fluentforward", "{endpoint: /run/a.sock}"),
            ("exporters", "otlp_http", "{sending_queue: {storage: file_storage}}"),
            ("exporters", "prometheusremotewrite", "{wal: {directory: /var/wal}}"),
            ("extensions", "health_check", "{transport: unix, endpoint: /run/h.sock}"),
        ];
        let plain = yaml(PLAIN);
        for ((section, id, component), is_impossible) in
            unwise.map(|case| (case, false)).into_iter().chain(impossible.map(|case| (case, true)))
        {
            let config = with(section, id, component);
            for pair in [[&plain, &config], [&config, &plain]] {
                let obstacle = may_overlap(&[pair[0]], &[pair[1]], &PLENTY).expect_err(id);
                assert_eq!(matches!(obstacle, Obstacle::Impossible(_)), is_impossible, "{id}: {obstacle}");
            }
        }
    }

    #[test]
    fn what_is_not_in_use_does_not_matter() {
        let config = yaml(
            "{receivers: {otlp: {}, filelog: {}}, exporters: {nop: {}, file: {}}, extensions: {file_storage: {}}, \
             service: {extensions: [], pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}}",
        );
        assert_eq!(may_overlap(&[&config], &[&config], &PLENTY), Ok(()));
    }

    #[test]
    fn the_config_active_is_judged_with_its_overlay() {
        let plain = yaml(PLAIN);
        let adds = yaml("{receivers: {filelog: {}}, service: {pipelines: {logs: {receivers: [filelog]}}}}");
        let queue = yaml("{exporters: {nop: {sending_queue: {storage: file_storage}}}}");
        let undone = yaml("{exporters: {nop: {sending_queue: {storage: null}}}}");
        for (overlays, allowed) in
            [(vec![&adds], false), (vec![&adds, &plain], true), (vec![&queue], false), (vec![&queue, &undone], true)]
        {
            let configs = [vec![&plain], overlays].concat();
            assert_eq!(may_overlap(&configs, &[&plain], &PLENTY).is_ok(), allowed, "{configs:?}");
        }
    }

    /// With each component compared with each it was four hundred times as much.
    #[test]
    #[cfg(unix)]
    fn twenty_times_the_components_cost_little_more_than_twenty_times_as_much() {
        let config = |count: usize| {
            let ids: Vec<String> = (0..count).map(|number| format!("nop/{number}")).collect();
            let components: Vec<String> = ids.iter().map(|id| format!("{id}: {{}}")).collect();
            let (ids, components) = (ids.join(", "), components.join(", "));
            yaml(&format!("{{exporters: {{{components}}}, service: {{pipelines: {{logs: {{exporters: [{ids}]}}}}}}}}"))
        };
        let time = |config: &Value| {
            crate::thread_time::least(|| assert_eq!(may_overlap(&[config], &[config], &PLENTY), Ok(())))
        };
        let (few, many) = (time(&config(150)), time(&config(3000)));
        assert!(many < few * 100, "{many:?} instead of {few:?}");
    }

    #[test]
    fn what_is_unknown_is_no_yes() {
        for text in [
            "{}",
            "{service: '${file:/etc/service.yaml}'}",
            "{service: {pipelines: '${file:/etc/pipelines.yaml}'}}",
            "{service: {pipelines: {logs: {receivers: '${env:RECEIVERS}'}}}}",
            "{receivers: '${file:/etc/receivers.yaml}', service: {pipelines: {logs: {receivers: [a]}}}}",
            "{service: {extensions: '${env:EXTENSIONS}', pipelines: {}}}",
        ] {
            let result = may_overlap(&[&yaml(text)], &[&yaml(PLAIN)], &PLENTY);
            assert!(matches!(&result, Err(Obstacle::Unwise(reason)) if reason.contains("is unknown")), "{text}");
        }
    }

    #[test]
    fn a_total_that_is_reported_after_the_longest_overlap_is_reported_by_one() {
        let config = with("connectors", "spanmetrics", "{}");
        for (seconds, allowed) in [(59, true), (60, false)] {
            let facts = Facts { longest_overlap: Duration::from_secs(seconds), ..PLENTY };
            assert_eq!(may_overlap(&[&config], &[&config], &facts).is_ok(), allowed, "{seconds}");
        }
    }

    #[test]
    fn there_must_be_memory_for_two() {
        let plain = yaml(PLAIN);
        let tight = Some(Memory { available: (300 << 20) - 1, of_old: 200 << 20 });
        for memory in [tight, None] {
            let result = may_overlap(&[&plain], &[&plain], &Facts { memory, ..PLENTY });
            assert!(matches!(result, Err(Obstacle::Unwise(_))), "{memory:?}: {result:?}");
        }
    }

    #[test]
    fn a_death_that_the_old_one_may_have_caused_is_reported_from_a_bad_config() {
        for (tail, blamed) in [
            ("Error: cannot start pipelines: listen tcp 127.0.0.1:1: bind: address already in use", true),
            ("Error: cannot start pipelines: failed to start \"otlp_http\" exporter: timeout", true),
            ("Error: invalid configuration: service: no pipelines", false),
            ("", false),
        ] {
            assert_eq!(blames_overlap(tail), blamed, "{tail}");
        }
    }
}
