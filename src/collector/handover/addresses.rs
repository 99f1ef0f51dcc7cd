//! The addresses that a config has its collector listen on, as far as it spells them out. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::merge::merge;
use crate::config::value::Value;

/// Exporters that listen; the others name addresses to connect to.
const LISTENING_EXPORTER: &str = "prometheus";

/// An address that a config names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    port: u16,
    is_udp: bool,
    ip: IpAddr,
}

/// The addresses that components in use listen on and whose port is named more than once; each twice at most. One that
/// an expansion or a default hides is not seen. The configs are given in the order of the `--config` arguments.
pub fn named_twice(configs: &[&Value]) -> Vec<Named> {
    let merged = merge(configs);
    let mut found = Vec::new();
    let Some(service) = merged.get("service") else { return found };
    if let Some(telemetry) = service.get("telemetry") {
        collect(telemetry, false, &mut found);
    }
    for section in ["receivers", "extensions", "exporters"] {
        let used = used(service, section);
        let components = merged.get(section).and_then(Value::as_object).unwrap_or_default().iter();
        for (id, component) in components.filter(|(id, _)| used.binary_search(&id.trim()).is_ok()) {
            let kind = id.split('/').next().unwrap_or(id).trim();
            if section != "exporters" || kind == LISTENING_EXPORTER {
                collect(component, kind.contains("udp"), &mut found);
            }
        }
    }
    found.sort_unstable();
    let ports = found.chunk_by(|one, next| (one.port, one.is_udp) == (next.port, next.is_udp));
    let repeated = ports.filter(|named| named.len() > 1).flat_map(|named| named.chunk_by(Named::eq));
    repeated.flat_map(|same| same.iter().take(2).copied()).collect()
}

/// Whether two of these, or one twice, are this address.
pub fn is_named_twice(named: &[Named], at: SocketAddr, is_stream: bool) -> bool {
    named.iter().filter(|named| named.is_udp != is_stream && named.overlaps(at)).count() > 1
}

/// The ids of a section that the service lists, sorted.
fn used<'a>(service: &'a Value, section: &str) -> Vec<&'a str> {
    let pipelines = service.get("pipelines").and_then(Value::as_object).unwrap_or_default().iter();
    let lists = pipelines.filter_map(|(_, pipeline)| pipeline.get(section)).chain(service.get(section));
    let mut used: Vec<&str> =
        lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str).map(str::trim).collect();
    used.sort_unstable();
    used
}

/// Each address: as `host:port`, or as a `host` with a `port` beside it. What is in a list is a target. `is_udp` is
/// what the names above say.
fn collect(value: &Value, is_udp: bool, found: &mut Vec<Named>) {
    let Value::Object(entries) = value else {
        return value.as_array().unwrap_or_default().iter().for_each(|item| collect(item, is_udp, found));
    };
    let transport = value.get("transport").and_then(Value::as_str);
    let is_udp = transport.map_or(is_udp, |transport| transport.starts_with("udp"));
    for (key, value) in entries {
        let named = match value {
            Value::String(text) => text.rsplit_once(':').and_then(|(host, port)| address(host, port.parse().ok()?)),
            Value::Integer(port) if key == "port" => {
                let host = entries.iter().find(|(key, _)| key == "host").map_or(Some(""), |(_, host)| host.as_str());
                host.and_then(|host| address(host, (*port).try_into().ok()?))
            }
            _ => {
                collect(value, is_udp || key.contains("udp"), found);
                None
            }
        };
        found.extend(named.map(|named| Named { port: named.port(), is_udp, ip: named.ip().to_canonical() }));
    }
}

fn address(host: &str, port: u16) -> Option<SocketAddr> {
    let ip = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse::<IpAddr>().ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

impl Named {
    fn overlaps(&self, at: SocketAddr) -> bool {
        let its = at.ip().to_canonical();
        self.port == at.port() && (self.ip == its || self.ip.is_unspecified() || its.is_unspecified())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_a_config_names_twice_is_seen() {
        let service = "{extensions: [health_check], pipelines: {logs: {receivers: [otlp, syslog], exporters: [otlp]}}, \
                       telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]}}}";
        // What the receivers, extensions and exporters name beside 127.0.0.1:4317; the answer.
        for (more, expected) in [
            ("", false),
            ("receivers: {syslog: {tcp: {listen_address: '0.0.0.0:4317'}}}", true),
            ("receivers: {syslog: {tcp: {listen_address: '127.0.0.2:4317'}}}", false),
            ("receivers: {syslog: {udp: {listen_address: '0.0.0.0:4317'}}}", false),
            ("receivers: {syslog: {endpoint: ':4317', transport: udp}}", false),
            ("receivers: {syslog: {host: '[::]', port: 4317}}", true),
            ("receivers: {syslog: {static_configs: [{targets: ['127.0.0.1:4317']}]}}", false),
            ("receivers: {syslog/unused: {endpoint: '127.0.0.1:4317'}}", false),
            ("extensions: {health_check: {endpoint: 'localhost:4317'}}", true),
            ("exporters: {otlp: {endpoint: '127.0.0.1:4317'}}", false),
            ("receivers: {syslog: {endpoint: '${env:X}:4317'}}", false),
        ] {
            let config: Value = serde_yaml::from_str(&format!(
                "{{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:4317'}}}}}}}}, service: {service}}}"
            ))
            .unwrap();
            let more: Value = serde_yaml::from_str(&format!("{{{more}}}")).unwrap();
            let named = named_twice(&[&config, &more]);
            assert_eq!(is_named_twice(&named, "127.0.0.1:4317".parse().unwrap(), true), expected, "{more:?}");
            assert!(!is_named_twice(&named, "127.0.0.1:8888".parse().unwrap(), true));
        }
    }
}
