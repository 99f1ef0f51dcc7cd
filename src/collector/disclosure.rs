//! What a collector, its configs and its environment must keep to themselves, and what of its output may be told
//! outside of this host.
//!
//! A mask cannot hold against a config that chooses how a value is quoted: in part, as a number, beside a letter. So
//! whether anything is quoted depends on what the config can read.

use super::Collector;
use crate::config::inspect::{self, Reads};
use crate::config::merge::merge;
use crate::config::value::Value;
use crate::log::Masked;
use crate::log::redact::Secrets;

/// What a text of the collector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// `validate`, which reads no telemetry.
    Validating,
    /// Its last lines, or those of what restarts it.
    Running,
}

impl Collector {
    /// What nobody may see of these configs.
    pub fn secrets<'a>(&self, configs: impl IntoIterator<Item = &'a Value>) -> Secrets {
        let env = |name: &str| self.env(name);
        let found = configs.into_iter().flat_map(|config| inspect::secrets(config, &env));
        Secrets::new(found.filter(|secret| !self.environment.is_public(secret)))
    }

    /// The variables that `former` gave with another value and that these configs refer to.
    pub fn changed_references(&self, former: &Collector, configs: &[Value]) -> Vec<&'static str> {
        let mut changed = self.environment.changed_since(&former.environment);
        let env = |name: &str| self.env(name);
        let found: Vec<_> = configs.iter().flat_map(|config| inspect::expansions(config, &env)).collect();
        changed.retain(|name| {
            found.iter().any(|it| it.is_env() && it.body.split(":-").next().is_some_and(|body| body == *name))
        });
        changed
    }

    /// What may be told to the source and to clients of `output`, from a collector with these configs: all of it,
    /// unless they can read what the source does not know. Then it may quote that, and is only said in the log.
    pub fn told_outside(&self, output: &Masked, said: Said, configs: &[&Value]) -> Masked {
        match self.why_withheld(said, configs) {
            None => output.clone(),
            Some(because) => in_part(output, &because, &merge(configs)),
        }
    }

    /// Why not all that a collector with these configs says may be told.
    pub(super) fn why_withheld(&self, said: Said, configs: &[&Value]) -> Option<String> {
        let Reads { what, place } = self.reads_elsewhere(said, configs)?;
        let place = inspect::literal_place(&place, &merge(configs));
        let at = if place.is_empty() { String::new() } else { format!(" at {place}") };
        Some(format!("because the config {what}{at}"))
    }

    /// The first place where these configs read something that the source does not know.
    fn reads_elsewhere(&self, said: Said, configs: &[&Value]) -> Option<Reads> {
        let env = |name: &str| self.env(name);
        let is_known = |name: &str| self.environment.is_known_to_source(name);
        let expanded = || configs.iter().flat_map(|config| inspect::expansions(config, &env));
        let other = expanded().find(|it| !it.is_env()).or_else(|| {
            // A name with its default, which may be cut.
            expanded().find(|it| !is_known(it.body.split_once(":-").map_or(it.body.as_str(), |(name, _)| name)))
        });
        let other = other.map(|it| {
            let what = it.scheme.map_or_else(|| "an expansion".to_owned(), |scheme| format!("${{{scheme}:…}}"));
            Reads { what: format!("reads {what}"), place: it.place }
        });
        other.or_else(|| configs.iter().find_map(|config| inspect::reads_files(config))).or_else(|| {
            let is_running = said == Said::Running;
            configs.iter().filter(|_| is_running).find_map(|config| inspect::prints_telemetry(config))
        })
    }
}

/// What may be told of an output that is withheld for this reason; `keys` are those of the merged configs.
pub(super) fn in_part(output: &Masked, because: &str, keys: &Value) -> Masked {
    let complaint = inspect::complaint(output, keys);
    Masked::from(match complaint.is_empty() {
        true => format!("only in the agent's log, {because}"),
        false => format!("{complaint}; {because}, the whole error is only in the agent's log"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;
    use crate::settings;

    /// What is told of an error that quotes all that the config reads.
    #[test]
    fn nothing_is_quoted_of_what_the_source_does_not_know() {
        let env = |name: &str| (name == "KM_API_KEY").then(|| "key-of-the-source".into());
        let collector = Collector::new(&settings::resolve(&[], &env).unwrap().settings);
        let output = Masked::from("Error: invalid configuration: s3cret".to_owned());
        let told = |said, config: &str, overlay: &str| {
            let [config, overlay] = [config, overlay].map(|text| yaml::parse(text.as_bytes()).unwrap());
            collector.told_outside(&output, said, &[&config, &overlay]).to_string()
        };
        let withheld = |why: &str| {
            format!("invalid configuration; because the config {why}, the whole error is only in the agent's log")
        };
        for (config, why) in [
            ("a: '${file:/x}'", "reads ${file:…} at a"),
            ("a: {b: ['x${env:HOME}y']}", "reads ${env:…} at a::b::0"),
            ("a: '${HOME}'", "reads ${env:…} at a"),
            ("a: '${env:KM_HOST_NAME}${env:NOT_SET:-x}'", "reads ${env:…} at a"),
            ("a: '${env:${env:KM_API_KEY}}'", "reads ${env:…} at a"),
            // What a variable has of keys is its own.
            (r#"a: '${env:NOT_SET:-"s3cret": "\x24\x7bfile:/x\x7d"}'"#, "reads ${file:…} at a"),
            (
                "receivers: {prometheus: {config: {scrape_config_files: [/etc/shadow]}}}",
                "reads other files at receivers::prometheus::config::scrape_config_files",
            ),
            (
                "receivers::prometheus/a::config: {global: {ca_file: x}}",
                "reads other files at receivers::prometheus/a::config::global::ca_file",
            ),
            (
                "exporters: {kafka: {auth: {kerberos: {config_file: /etc/shadow}}}}",
                "reads other files at exporters::kafka::auth::kerberos::config_file",
            ),
            ("x: {File_SD_configs: [{files: [x]}]}", "reads other files at x::File_SD_configs"),
        ] {
            for said in [Said::Validating, Said::Running] {
                assert_eq!(told(said, config, "{}"), withheld(why), "{config}");
                assert_eq!(told(said, "{}", config), withheld(why), "in the overlay: {config}");
            }
        }
        for (config, why) in [
            ("exporters: {debug: }", "prints telemetry at exporters::debug"),
            ("exporters: {debug/a: {use_internal_logger: false}}", "prints telemetry at exporters::debug/a"),
            ("exporters::file/out: {path: /dev/stdout}", "prints telemetry at exporters::file/out"),
            ("receivers: {filelog: {include: [/etc/shadow]}}", "prints telemetry at receivers::filelog"),
            ("service: {telemetry: {logs: {level: DEBUG}}}", "prints telemetry at service::telemetry::logs::level"),
        ] {
            assert_eq!(told(Said::Validating, config, "{}"), *output, "{config}");
            assert_eq!(told(Said::Running, config, "{}"), withheld(why), "{config}");
        }
        // What was killed has no error to tell.
        let silent = Masked::from("a line, and another".to_owned());
        let debug = yaml::parse(b"exporters: {debug: }").unwrap();
        let told = collector.told_outside(&silent, Said::Running, &[&debug]);
        assert_eq!(&*told, "only in the agent's log, because the config prints telemetry at exporters::debug");
        let told = |said, config: &str, overlay: &str| {
            let [config, overlay] = [config, overlay].map(|text| yaml::parse(text.as_bytes()).unwrap());
            collector.told_outside(&output, said, &[&config, &overlay]).to_string()
        };
        let known = "{a: '${env:KM_API_KEY} ${KM_HOST_NAME} ${env:KM_AGENT_VERSION} ${env:KM_COLLECTOR_ENDPOINT}',
            exporters: {otlp: {tls: {ca_file: x, cert_file: x, key_file: x}}},
            service: {telemetry: {logs: {level: info}}}}";
        assert_eq!(told(Said::Running, known, "{}"), *output);
    }
}
